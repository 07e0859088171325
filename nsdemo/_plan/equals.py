"""The command line that does the same as a plan, and what no command line can do.

Loaded when a plan is shown, and not before.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._request.values import working_directory
from .explain import MOUNTS, fields_of
from .notation import MS_SLAVE, shell_word
from .operations import OPERATIONS

if TYPE_CHECKING:
    from .step import Step

_NEWNS, _NEWUSER = 0x20000, 0x10000000
_REC, _SHARED = 0x4000, 0x100000
_CHANGES = (*MOUNTS, "mask_at", "pivot_root", "propagation", "readonly")


def command_line(steps: Sequence[Step]) -> list[str]:
    """ "# equals: ..." and what no command line can do, as lines of a printed plan."""
    if not steps:
        return ["# an empty plan"]
    operations = [step.operation for step in steps]
    if "join" in operations:
        line, beyond = _by("nsenter", steps)
    elif operations[0] == "chroot" or not _makes_namespaces(steps):
        line, beyond = _chroot(steps)
    else:
        line, beyond = _by("unshare", steps)
    lines = [f"# equals: {line}"]
    if beyond:
        lines.append("# what that command cannot do: " + "; ".join(beyond))
    return [*lines, *_warning(steps), *_stays_below(steps)]


def _warning(steps: Sequence[Step]) -> list[str]:
    """Does the plan change mounts of others, or show them its own?"""
    new = private = False
    for number, step in enumerate(steps, 1):
        flags = step.args[-1] if step.args else 0
        if step.operation in ("clone", "unshare"):
            # In a mount namespace of a new user namespace all mounts are slaves.
            private = private or (bool(flags & _NEWUSER) and not new)
            new = new or bool(flags & _NEWNS)
        elif step.operation == "join" and flags & _NEWNS:
            break  # the target's mounts
        elif step.operation in _CHANGES and not new:
            return [
                f"# warning: step {number} changes the mounts of this process, and of all who are "
                'in its mount namespace: .unshare("mount").make_private() come before it'
            ]
        elif step.operation == "propagation" and step.args[0] == "/" and flags & _REC:
            private = private or not flags & _SHARED
        elif step.operation in MOUNTS and not (private or flags & MS_SLAVE):
            return [
                f"# warning: what step {number} mounts is mounted on this machine, too, and stays, "
                "if its mounts are shared (systemd's default): .make_private() comes before it"
            ]
    return []


def _stays_below(steps: Sequence[Step]) -> list[str]:
    """Does a step mount over the directory that we are in, and none goes there again?"""
    here = working_directory()
    found: list[str] = []
    for number, step in enumerate(steps, 1):
        args = step.args
        goes = step.operation in ("chroot", "pivot_root", "join")
        if goes or (step.operation == "chdir" and (not args or args[0].startswith("/"))):
            found = []
        elif step.operation in MOUNTS:
            place = fields_of(step.operation, args).place
            if f"{here}/".startswith(f"{place.rstrip('/')}/"):
                found = [
                    f"# warning: step {number} mounts over {place}, and the working directory "
                    f"stays below that: .chdir({here!r}) comes after it"
                ]
    return found


def _makes_namespaces(steps: Sequence[Step]) -> bool:
    return any(step.operation in ("unshare", "clone") and step.args[-1] for step in steps)


def _command(steps: Sequence[Step]) -> str:
    last = steps[-1]
    if last.operation != "exec":
        return "COMMAND"
    return " ".join(shell_word(word) for word in last.args[1:])


def _beyond(steps: Sequence[Step], tool: str) -> list[str]:
    rows = [OPERATIONS[step.operation] for step in steps]
    found = [row.beyond for row in rows if row.beyond and (not row.tools or tool in row.tools)]
    return list(dict.fromkeys(found))


class Line:
    """The command line of a tool, while it is put together; see ``Row`` of ``notation.py``.

    Attributes:
        words: those that there are.
        ids: of whom the command is, at the end.
        mapping: the options for the id maps of the plan.
        seen: the operations that came before.
    """

    def __init__(self, tool: str, mapping: list[str]) -> None:
        self.words = [tool]
        self.ids: list[str] = []
        self.mapping: list[str] = mapping
        self.seen: set[str] = set()

    def target(self, pid: str) -> list[str]:
        """The process that is joined: the first that is opened."""
        return ["--target", pid] if pid and "--target" not in self.words else []

    def pin(self, option: str, path: str) -> list[str]:
        self.words = [f"{option}={path}" if word == option else word for word in self.words]
        return []

    def add(self, tool: str, step: Step) -> None:
        row = OPERATIONS[step.operation]
        share, fields = getattr(row, tool), fields_of(step.operation, step.args)
        words = share(self, fields) if callable(share) else [share.format_map(fields)]
        self.words += words
        self.ids.append(row.ids.format_map(fields))
        self.seen.add(step.operation)


def _mapping(steps: Sequence[Step]) -> tuple[list[str], list[str]]:
    """The options of unshare(1) for the id maps of a plan, and what it cannot do."""
    files = {
        os.path.basename(step.args[0]): step.args[1]
        for step in steps
        if step.operation in ("write", "map_ids")
    }
    if not files:
        return [], []
    from .._request.id_maps import unshare_options

    return unshare_options(files, (os.geteuid(), os.getegid()))


def _by(tool: str, steps: Sequence[Step]) -> tuple[str, list[str]]:
    """By unshare(1) or nsenter(1)."""
    mapping, not_mapped = _mapping(steps) if tool == "unshare" else ([], [])
    line = Line(tool, mapping)
    for step in steps:
        line.add(tool, step)
    words = list(filter(None, [*line.words, *line.ids]))
    beyond = [*_beyond(steps, tool), *not_mapped]
    if tool == "unshare":
        if "--mount" in words and "propagation" not in line.seen:
            words.append("--propagation unchanged")
        stays = any(s.operation in MOUNTS and s.args[-1] & MS_SLAVE for s in steps)
        if stays and any(word.startswith("--root") for word in words):
            beyond.append("keep its /proc off a machine that shares its mounts")
    return " ".join([*words, _command(steps)]), beyond


def _chroot(steps: Sequence[Step]) -> tuple[str, list[str]]:
    user = [word for step in steps if step.operation == "setuid" for word in [str(step.args[0])]]
    group = [word for step in steps if step.operation == "setgid" for word in [str(step.args[0])]]
    root = next((step.args[0] for step in steps if step.operation == "chroot"), None)
    prefix = f"unshare {' '.join(mapping)} " if (mapping := _mapping(steps)[0]) else ""
    if root is None:
        return prefix + _command(steps), []
    if user and not group:
        group = [str(os.getegid())]
    spec = f"--userspec={'+'.join(['', *user])}:{'+'.join(['', *group])} " if group else ""
    if any(step.operation == "setgroups" and step.args[0] == 0 for step in steps):
        spec += "--groups= "
    line = f"{prefix}chroot {spec}{shell_word(root)} {_command(steps)}"
    return line, _beyond(steps, "chroot")
