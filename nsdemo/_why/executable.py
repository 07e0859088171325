"""Why a path leads nowhere, and why a command cannot be executed.

The root is looked at from outside and without trust, through ``_facts/inside.py``. A plan may have
mounted something over it that cannot be seen from here: then the file that was found is not the
one that failed, no cause is proven, and nothing is said.
"""

from __future__ import annotations

import errno
import os
import resource
import stat

from .._facts import machine
from .._facts.inside import Program, host_machine, open_path, read_program
from .._request.values import working_directory
from .case import UNKNOWN, Case, Hints

# Where commands lie in a root, besides the PATH that was searched.
_FOLDERS = (
    "/bin", "/usr/bin", "/sbin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/opt/bin",
    "/usr/games", "/busybox",
)  # fmt: skip
_MOST_NAMES = 5000  # of a folder that are compared with the name that was not found


def _find(root: str | None, path: str) -> OSError | None:
    """The error of looking a path up in a root, None if it is there."""
    try:
        os.close(open_path(root or "/", path))
    except OSError as error:
        return error
    return None


def _status(root: str | None, path: str) -> os.stat_result | None:
    try:
        descriptor = open_path(root or "/", path)
    except OSError:
        return None
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _link(root: str | None, path: str) -> str | None:
    """The target of a symbolic link in a root, None if it is none."""
    folder, name = os.path.split(path.rstrip("/"))
    try:
        descriptor = open_path(root or "/", folder or "/")
    except OSError:
        return None
    try:
        return os.readlink(name, dir_fd=descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _place(root: str | None) -> str:
    return f" in the root {root}" if root else ""


def explain_path(root: str | None, path: str, what: str, directory: bool = False) -> Hints:
    """Say which component of a path is missing, no directory, or closed to us."""
    if root == UNKNOWN:
        return
    parts = [part for part in path.split("/") if part]
    so_far = "" if path.startswith("/") else working_directory() if root is None else ""
    if not (so_far or root or path.startswith("/")):
        yield _begins_nowhere(what, path)
        return
    for number, part in enumerate(parts):
        so_far = f"{so_far}/{part}" if so_far != "/" else f"/{part}"
        error = _find(root, so_far)
        if error is None:
            found = _status(root, so_far)
            last = number == len(parts) - 1
            if found is None or stat.S_ISDIR(found.st_mode) or (last and not directory):
                if found is not None and (directory or not last) and not _may_enter(found):
                    yield (
                        f"uid {os.geteuid()} may not look into {so_far}{_place(root)} "
                        f"{_shown(found)}"
                    )
                    return
                continue
            above = "" if so_far == path else f"{what} is {path}, and "
            yield f"{above}{so_far}{_place(root)} is not a directory"
            return
        if error.errno == errno.ENOENT:
            target = _link(root, so_far)
            if target is not None:
                yield f"{so_far}{_place(root)} is a symbolic link to {target}, which does not exist"
            elif number == len(parts) - 1:
                yield f"there is no {so_far}{_place(root)}" + (
                    f": mkdir {os.path.join(root or '/', so_far.lstrip('/'))}" if directory else ""
                )
            else:
                yield f"{what} is {path}, and already {so_far}{_place(root)} does not exist"
        elif error.errno == errno.EACCES:
            yield f"uid {os.geteuid()} may not look into the directory above {so_far}{_place(root)}"
        elif error.errno == errno.ELOOP:
            yield f"{so_far}{_place(root)} is a symbolic link that leads back to itself"
        return


def _shown(found: os.stat_result) -> str:
    return f"(mode {stat.S_IMODE(found.st_mode):03o}, owner uid {found.st_uid})"


def _may_enter(found: os.stat_result, uid: int | None = None, gid: int | None = None) -> bool:
    """May a user look into this directory, or execute this file, by its mode?"""
    uid = os.geteuid() if uid is None else uid
    gid = os.getegid() if gid is None else gid
    if uid == 0:
        return bool(stat.S_ISDIR(found.st_mode) or found.st_mode & 0o111)
    if uid == found.st_uid:
        return bool(found.st_mode & 0o100)
    if found.st_gid == gid or (gid == os.getegid() and found.st_gid in os.getgroups()):
        return bool(found.st_mode & 0o010)
    return bool(found.st_mode & 0o001)


MOST_SCRIPTS = 5  # BINPRM_MAX_RECURSION and the command itself

# -- commands -------------------------------------------------------------------------------


class _Command:
    """What was to be executed, and where it was looked for."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.root = case.root
        argv, self.envp, paths = case.core.command()
        self.argv = argv
        self.name = argv[0] if argv else ""
        went = (texts[0] for name, _, _, texts in reversed(case.before) if name == "chdir")
        start = "/" if self.root else working_directory()
        self.folder = os.path.join(start, next(went, None) or "")
        self.paths = [os.path.join(self.folder, path) for path in paths]
        self.tried = os.path.join(self.folder, str(case.step.args[0]))
        self.searched = "/" not in self.name

    @property
    def place(self) -> str:
        return f"the root {self.root}" if self.root else "this machine's root"

    def program(self, path: str) -> Program | None:
        try:
            return read_program(self.root or "/", path)
        except (OSError, ValueError):
            return None


def _begins_nowhere(what: str, path: str) -> str:
    return f"{what} is {path}, and the working directory, where that begins, was deleted"


def explain_exec(case: Case) -> Hints:
    """Say why execve(2) refused the command."""
    command = _Command(case)
    if not command.tried.startswith("/"):
        yield _begins_nowhere("the command", command.tried)
        return
    explain = {
        errno.ENOENT: _absent,
        errno.ENOTDIR: _absent,
        errno.ELOOP: _in_circles,
        errno.EACCES: _denied,
        errno.ENOEXEC: _no_program,
        errno.E2BIG: _too_big,
        errno.ETXTBSY: _busy,
    }.get(case.errno)
    said = False
    if explain and (command.root != UNKNOWN or explain is _too_big):
        for hint in explain(command):
            said = True
            yield hint
    if not said and case.errno == errno.EACCES and case.did("landlock_restrict"):
        yield (
            "Landlock lets only what is below the paths of read= and write= be executed: the "
            "program, its loader (/lib64) and its libraries have to be there"
        )


def _in_circles(command: _Command) -> Hints:
    """ELOOP, see execve(2)."""
    if hints := list(explain_path(command.root, command.tried, "the command")):
        yield from hints
        return
    path, scripts = command.tried, 0
    while scripts <= MOST_SCRIPTS:
        program = command.program(path)
        if program is None or program.kind != "script" or not program.interpreter:
            return
        path = os.path.join(command.folder, program.interpreter)
        scripts += 1
    yield (
        f"{command.tried} is a script whose interpreter is a script, and so on: the kernel "
        f"follows {MOST_SCRIPTS} of them; name a program in the first line (#!/bin/sh)"
    )


def _absent(command: _Command) -> Hints:
    for path in command.paths:
        program = command.program(path)
        if program is not None:
            yield from _lacks(command, path, program)
            return
    for path in command.paths:
        if (target := _link(command.root, path)) is not None:
            yield f"{path} is a symbolic link to {target}, which does not exist in {command.place}"
            return
    yield from _not_found(command)


def _lacks(command: _Command, path: str, program: Program, depth: int = 0) -> Hints:
    """The file is there, but not what it needs to start."""
    needed = program.interpreter
    if program.kind == "script" and program.carriage_return and needed:
        yield (
            f"the first line of {path} ends in CR LF, as on Windows, so that the kernel looks "
            "for a program with a CR at the end of its name: convert the file "
            "(sed -i 's/\\r$//' FILE)"
        )
        return
    if needed is None:
        return
    where = os.path.join(command.folder, needed)
    inner = command.program(where)
    if inner is not None:
        if depth < 4:
            yield from _lacks(command, where, inner, depth + 1)
    elif program.kind == "script":
        yield (
            f"{path} exists, but its first line names the interpreter {needed}, which is absent "
            f"in {command.place}"
        )
    else:
        yield (
            f"{path} exists, but needs the loader {needed}, absent in {command.place}: "
            "nsdemo.Rootfs.from_host() copies a program with all it needs; a static one needs "
            "nothing"
        )


def _not_found(command: _Command) -> Hints:
    name = command.name
    if not command.searched:
        if command.root and os.path.exists(command.tried):
            yield f"{name} exists outside only; a command is looked up in {command.place}"
        else:
            yield from explain_path(command.root, command.tried, "the command")
        return
    folders = [os.path.dirname(path) for path in command.paths]
    yield f"there is no {name} in the PATH {':'.join(folders)} of {command.place}"
    for folder in _FOLDERS:
        path = f"{folder}/{name}"
        program = None if folder in folders else command.program(path)
        if program is not None and program.kind != "directory":
            yield f"the root has it as {path}: give that path, or put {folder} in the PATH of env"
            return
    if command.program(name) is not None:
        yield f"{name} lies in the directory {command.folder}, which is not searched: give ./{name}"
        return
    if similar := _similar(command, folders):
        yield f"did you mean {similar}?"
    elif command.root:
        from shutil import which

        if (ours := which(name)) is not None:
            yield (
                f"outside it is {ours}, but a command is looked up inside: "
                f"nsdemo.Rootfs.from_host([{name!r}]) makes a root that has it"
            )


def _similar(command: _Command, folders: list[str]) -> str:
    from difflib import get_close_matches

    names: list[str] = []
    for folder in folders:
        try:
            descriptor = open_path(command.root or "/", folder)
        except OSError:
            continue
        try:
            listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
            try:
                names += os.listdir(listing)[:_MOST_NAMES]
            finally:
                os.close(listing)
        except OSError:
            continue
        finally:
            os.close(descriptor)
    near = (name for name in names if abs(len(name) - len(command.name)) < 2)
    return " or ".join(get_close_matches(command.name, set(near), 2, 0.75))


def _denied(command: _Command) -> Hints:
    path = command.tried
    program = command.program(path)
    for _ in range(5):  # a script's interpreter may be what is refused, or its interpreter's
        if program is None:
            break
        if program.kind == "directory":
            yield f"{path} is a directory, not a program"
            return
        if program.kind == "special":
            yield f"{path} is a device, socket or pipe, not a program"
            return
        if not program.mode & 0o111:
            real = os.path.join(command.root or "/", path.lstrip("/"))
            yield (
                f"{path} has no permission to be executed (mode {program.mode:03o}): "
                f"chmod +x {real}"
            )
            return
        if program.noexec:
            yield (
                f"{path} lies on a file system that is mounted noexec: copy it elsewhere, or "
                "mount -o remount,exec"
            )
            return
        if program.interpreter is None or program.kind != "script":
            break
        inner = os.path.join(command.folder, program.interpreter)
        following = command.program(inner)
        if following is None:
            break
        path, program = inner, following
    yield from _closed(command, command.tried)


def _closed(command: _Command, path: str) -> Hints:
    uid, gid = map(command.case.outside_id, ("uid", "gid"))
    so_far = ""
    top = _status(command.root, "/")
    if top is not None and not _may_enter(top, uid, gid):
        yield f"uid {uid} may not look into {command.place} {_shown(top)}"
        return
    parts = [part for part in path.split("/") if part]
    for part in parts:
        so_far += f"/{part}"
        found = _status(command.root, so_far)
        if found is None:
            return
        if not _may_enter(found, uid, gid):
            verb = "look into" if stat.S_ISDIR(found.st_mode) else "execute"
            yield f"uid {uid} may not {verb} {so_far}{_place(command.root)} {_shown(found)}"
            return


def _no_program(command: _Command) -> Hints:
    path = command.tried
    program = command.program(path)
    for _ in range(5):
        if program is None or program.kind != "script" or program.interpreter is None:
            break
        path = os.path.join(command.folder, program.interpreter)
        program = command.program(path)
    if program is None:
        return
    ours = host_machine()
    if program.kind == "elf" and program.machine != ours:
        yield f"{path} is a program for {program.machine}, and this machine is {ours}"
    elif program.kind == "empty":
        yield f"{path} is empty"
    elif program.kind == "damaged":
        yield f"{path} begins like a program (ELF) but is damaged or cut off: copy it again"
    elif program.kind == "script":
        yield f"the first line of {path} names no interpreter after #!"
    elif program.kind == "other":
        yield (
            f"{path} is neither a program (ELF) nor a script: a script begins with a line such "
            f"as #!/bin/sh, or is given to its interpreter: ['sh', {path!r}]"
        )


def _too_big(command: _Command) -> Hints:
    strings = [*command.argv, *command.envp]
    size = sum(len(os.fsencode(text)) + 1 + 8 for text in strings)
    stack = machine.limit(resource.RLIMIT_STACK)
    most = 6 * 1024 * 1024 if stack is None else min(6 * 1024 * 1024, max(stack // 4, 128 * 1024))
    yield (
        f"arguments and environment have {size:,} bytes together, and the kernel takes "
        f"{most:,} here (a quarter of ulimit -s): write them to the command's stdin or to a file"
    )


def _busy(command: _Command) -> Hints:
    yield f"somebody has {command.tried} open for writing: close it first"
