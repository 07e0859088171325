"""The command line that does the same as a plan, and what no command line can do.

Loaded when a plan is shown, and not before.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._clone_flags import OPTIONS
from ._explain import MOUNTS, MS_SLAVE, keyword_of, target
from ._values import working_directory

if TYPE_CHECKING:
    from ._step import Step

_NEWNS, _NEWUSER = 0x20000, 0x10000000
_REC, _SHARED = 0x4000, 0x100000
_CHANGES = (*MOUNTS, "mask_at", "pivot_root", "propagation", "readonly")


def command_line(steps: Sequence[Step]) -> list[str]:
    """ "# equals: ..." and what no command line can do, as lines of a printed plan."""
    if not steps:
        return ["# an empty plan"]
    operations = [step.operation for step in steps]
    if "join" in operations:
        line, beyond = _nsenter(steps)
    elif operations[0] == "chroot" or not _makes_namespaces(steps):
        line, beyond = _chroot(steps)
    else:
        line, beyond = _unshare(steps)
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
        elif step.operation in MOUNTS and f"{here}/".startswith(f"{target(step)}/"):
            found = [
                f"# warning: step {number} mounts over {target(step)}, and the working directory "
                f"stays below that: .chdir({here!r}) comes after it"
            ]
    return found


def _makes_namespaces(steps: Sequence[Step]) -> bool:
    return any(step.operation in ("unshare", "clone") and step.args[-1] for step in steps)


def _command(steps: Sequence[Step]) -> str:
    last = steps[-1]
    if last.operation != "exec":
        return "COMMAND"
    return " ".join(_shell_word(word) for word in last.args[1:])


def _shell_word(word: str) -> str:
    """A word as a shell takes it, on one line."""
    if word.isprintable():
        return shlex.quote(word)
    shown = []
    for char in word:
        if char in "\\'":
            shown.append("\\" + char)
        elif char.isprintable():
            shown.append(char)
        else:
            shown += [f"\\x{byte:02x}" for byte in os.fsencode(char)]
    return f"$'{''.join(shown)}'"


def _beyond(steps: Sequence[Step], names: dict[str, str]) -> list[str]:
    found = []
    for step in steps:
        words = names.get(step.operation)
        if words and words not in found:
            found.append(words)
    return found


_POWER = {
    "rlimit": "set limits (prlimit)",
    "drop_bounding": "drop capabilities (setpriv)",
    "capset": "drop capabilities (setpriv)",
    "no_new_privs": "forbid new privileges (setpriv --no-new-privs)",
    "seccomp": "filter system calls",
    "securebits": "set securebits (setpriv --securebits)",
    "landlock": "restrict by Landlock",
}
_ALWAYS_BEYOND = {
    "terminal": "a terminal of its own (script)",
    "clone": "end with its parent whatever kills that",
    "watch": "end with its parent whatever kills that",
    "init": "a PID 1 that reaps and forwards signals",
    "pivot_root": "let go of the old root (pivot_root)",
    "sethostname": "set the host name",
    "setdomainname": "set the domain name",
    "join_cgroup": "move to the target's cgroups",
    "umask": "set the umask",
    **_POWER,
    "loopback_up": "bring up the loopback interface",
    "bind_at": "bind directories and files",
    "readonly": "make the root read-only",
    "overlay_at": "lay directories over each other",
    "layer_at": "lay directories over each other",
    "mount_at": "mount more file systems",
    "mask_at": "hide parts of /proc and /sys",
}


def _mapping(steps: Sequence[Step]) -> tuple[list[str], list[str]]:
    """The options of unshare(1) for the id maps of a plan, and what it cannot do."""
    files = {
        os.path.basename(step.args[0]): step.args[1]
        for step in steps
        if step.operation in ("write", "map_ids")
    }
    if not files:
        return [], []
    from ._users import unshare_options

    return unshare_options(files, (os.geteuid(), os.getegid()))


def _ids(steps: Sequence[Step], options: tuple[str, str]) -> list[str]:
    found = []
    for step in steps:
        if step.operation == "setgid":
            found.append(f"{options[0]} {step.args[0]}")
        if step.operation == "setuid":
            found.append(f"{options[1]} {step.args[0]}")
    return found


def _unshare(steps: Sequence[Step]) -> tuple[str, list[str]]:
    words = ["unshare"]
    seen = set()
    mapping, not_mapped = _mapping(steps)
    for step in steps:
        args = step.args
        if step.operation in ("unshare", "clone"):
            made = [word for bit, word in OPTIONS.items() if args[0] & bit]
            words += sorted(made, key="--user".__ne__)  # the first, as the kernel has it
            if step.operation == "clone" and "--pid" in words:
                words.append("--fork")
        elif step.operation in ("write", "map_ids") and args[0].endswith("uid_map"):
            words += mapping
        elif step.operation == "owner":
            words.append(f"--owner {args[0]}:{args[1]}")
        elif step.operation == "become_root":
            words.append("--setgid 0 --setuid 0")
        elif step.operation == "pin":
            option = f"--{keyword_of(args[0])}"
            words = [f"{option}={_shell_word(args[1])}" if w == option else w for w in words]
        elif step.operation == "write" and args[0].endswith("timens_offsets"):
            rows = [line.split() for line in args[1].splitlines()]
            words += [f"--{clock}={seconds}" for clock, seconds, _ in rows]
        elif step.operation == "fork" and "unshare" in seen:
            words.append("--fork")
        elif step.operation == "mount" and args[2] == "proc":
            words.append("--mount-proc")
        elif step.operation in ("pivot_root", "chroot"):
            words += ["--root", _shell_word(args[0])]
        elif step.operation == "chdir":
            words += ["--wd", _shell_word(args[0]) if args else '"$(pwd -P)"']
        elif step.operation == "propagation" and not args[1] & 1 << 18:
            kinds = {1 << 19: "slave", 1 << 20: "shared", 1 << 17: "unbindable"}
            words += [f"--propagation {kind}" for bit, kind in kinds.items() if args[1] & bit]
        seen.add(step.operation)
    words += _ids(steps, ("--setgid", "--setuid"))
    if "--mount" in words and "propagation" not in seen:
        words.append("--propagation unchanged")
    beyond = [*_beyond(steps, _ALWAYS_BEYOND), *not_mapped]
    if "--root" in words and any(s.operation in MOUNTS and s.args[-1] & MS_SLAVE for s in steps):
        beyond.append("keep its /proc off a machine that shares its mounts")
    return " ".join([*words, _command(steps)]), beyond


def _nsenter(steps: Sequence[Step]) -> tuple[str, list[str]]:
    words = ["nsenter"]
    for step in steps:
        if step.operation == "open_root" and step.args[0].startswith("/proc/"):
            if "--target" not in words:
                words += ["--target", step.args[0].split("/")[2]]
        elif step.operation == "open_process" and "--target" not in words:
            words += ["--target", str(step.args[0])]
        elif step.operation == "join":
            words += [word for bit, word in OPTIONS.items() if step.args[0] & bit]
        elif step.operation == "chroot" and not step.args:
            words.append("--root")
        elif step.operation == "chdir" and step.args:
            words.append(f"--wdns={_shell_word(step.args[0])}")
        elif step.operation == "become_root" and os.geteuid() != 0:
            words.append("--preserve-credentials")
    words += _ids(steps, ("--setgid", "--setuid"))
    beyond = _beyond(steps, _ALWAYS_BEYOND | {"hide": "hide the joiner from the container"})
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
    line = f"{prefix}chroot {spec}{_shell_word(root)} {_command(steps)}"
    names = {"chdir": "start in another directory than /", "umask": "set the umask", **_POWER}
    return line, _beyond(steps, names)
