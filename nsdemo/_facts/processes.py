"""Processes, mounts and id maps, read from /proc at this moment. Public in ``nsdemo.kernel``."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fcntl import ioctl
from typing import Any, NamedTuple

from .tables import IdMap, Mount, parse_id_map, parse_mountinfo
from .targets import Resolved, namespaces, unreadable

NS_GET_PARENT = 0xB702  # ioctl_nsfs(2)

# The keywords, and the kernel's names: those of lsns(8) and /proc/PID/ns.
FILES = {
    "mount": "mnt",
    "uts": "uts",
    "ipc": "ipc",
    "pid": "pid",
    "net": "net",
    "user": "user",
    "cgroup": "cgroup",
    "time": "time",
}
_MOST_MOUNTS = 1 << 26  # bytes: the kernel's 100,000 mounts with long names
_STARTING = b"nsdemo-start\0"  # so begin the arguments of a launcher; who stays has another name
_MOST_ARGUMENTS = 4096  # bytes: more of a command line is nothing to look at

Identity = tuple[int, int]  # (device, inode), as nsdemo.namespaces() has them


class Process(NamedTuple):
    """A process, as proc_pid_status(5) tells it.

    pid      its number as we see it
    pids     its numbers from our pid namespace down to its own (NSpid); the last is the innermost
    inner    its number in the pid namespace that was asked about; pids[-1] if none was
    parent   its parent as we see it, 0 if that lies outside of our pid namespace
    state    one letter: R, S, D, T, t, Z, I, ...
    uid      its effective user, as we see it
    threads  how many threads it has
    name     its short name (comm)
    args     the first 4096 bytes of its command line; () for a zombie and a kernel thread
    """

    pid: int
    pids: tuple[int, ...]
    inner: int
    parent: int
    state: str
    uid: int
    threads: int
    name: str
    args: tuple[str, ...]


class IdMaps(NamedTuple):
    """The id maps of a process's user namespace, and "allow" or "deny" for setgroups(2)."""

    uid: IdMap
    gid: IdMap
    setgroups: str


def pid_of(target: Any = None) -> int:
    """The pid of a target; ours for None, the command's for a Container with an init.

    Raises ProcessLookupError if it has ended, ValueError for a namespace file, which is no
    process.

    Example:
        >>> kernel.pid_of(box) == box.pid
        True
    """
    if target is None:
        return os.getpid()
    resolved = Resolved(target)
    if resolved.kind is not None:
        resolved.close()
        raise ValueError(f"this needs a process; {target!r} is a namespace without one")
    return resolved.pid


# -- processes -------------------------------------------------------------------------------


def pids() -> list[int]:
    """Every process in /proc, the lowest first."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def places(pid: int) -> Iterator[str]:
    """A process and its other threads, as directories of /proc: each may live elsewhere.

    A thread may be alone in any kind of namespace but pid and user, and have descriptors of its
    own (setns(2), unshare(2)).
    """
    yield f"/proc/{pid}"
    tasks = f"/proc/{pid}/task"
    if os.stat(tasks).st_nlink > 3:  # ".", ".." and the first thread
        with os.scandir(tasks) as entries:
            yield from [entry.path for entry in entries if entry.name != str(pid)]


def process(pid: int) -> Process | None:
    """One process, or None if /proc shows none (any more).

    Example:
        >>> kernel.process(box.pid).args
        ('sleep', '60')
    """
    return read_process(pid, patience(0.5))


def patience(seconds: float = 0.05) -> Iterator[float]:
    """The waits for processes to get their command lines: not for each of a thousand."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield until


def read_process(pid: int, patience: Iterator[float]) -> Process | None:
    """One process of many."""
    found = _status(pid)
    return None if found is None else _with_args(found, patience)


def _status(pid: int) -> Process | None:
    """A process without its command line."""
    try:
        text = _bytes(f"/proc/{pid}/status")
        # Only a newline ends a line: a name may have a carriage return in it.
        status = dict(line.split(b":\t", 1) for line in text.split(b"\n") if b":\t" in line)
        numbers = tuple(map(int, status.get(b"NSpid", b"%d" % pid).split()))
        return Process(
            pid,
            numbers,
            numbers[-1],
            int(status[b"PPid"]),
            status[b"State"][:1].decode(),
            int(status[b"Uid"].split()[1]),
            int(status.get(b"Threads", b"1")),
            _unescaped_name(os.fsdecode(status[b"Name"])),
            (),
        )
    except (OSError, KeyError, ValueError, IndexError):  # it has ended meanwhile
        return None


def _with_args(found: Process, patience: Iterator[float]) -> Process | None:
    try:
        words = _arguments(found.pid)
        borrowed = _borrowed(found)
        was_early = bool(borrowed) or words.startswith(_STARTING)
        while words in (b"", borrowed) or words.startswith(_STARTING):
            executing = words != b"" or _is_executing(found.pid)
            words = _arguments(found.pid)  # asked afterwards: it may be over by now
            if not executing or next(patience, None) is None:
                break
            time.sleep(0.0005)
    except (OSError, IndexError):
        return None
    args = tuple(os.fsdecode(words).removesuffix("\0").split("\0")) if words else ()
    if was_early:  # and so may have been the name that was read before
        found = _status(found.pid) or found
    return found._replace(args=args)


def _arguments(pid: int) -> bytes:
    return _bytes(f"/proc/{pid}/cmdline", _MOST_ARGUMENTS)


def _borrowed(found: Process) -> bytes | None:
    """The arguments that a child of ours has as long as it has our memory, if it may have that."""
    if found.parent == os.getpid() and found.state in "RD":  # it neither sleeps nor has ended
        with suppress(OSError):
            return _arguments(found.parent) or None
    return None


def _is_executing(pid: int) -> bool:
    """Whether a process has the memory of its new program, but not yet its arguments.

    spawn() returns as early as that, or a moment before: when the kernel is about to take from it
    the memory, and so the arguments, of who started it.

    Source: exec_mmap() in fs/exec.c, create_elf_tables() in fs/binfmt_elf.c, proc_pid_stat(5).
    """
    fields = _bytes(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    size, end_of_arguments = fields[20], fields[46]
    return size != b"0" and end_of_arguments == b"0"


def _bytes(path: str, most: int = 1 << 22) -> bytes:
    """The contents of a file of /proc; open() would take twice as long."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(fd, 4096)]
        while parts[-1] and len(parts) * 4096 < most:
            parts.append(os.read(fd, 4096))
        return b"".join(parts)
    finally:
        os.close(fd)


def _unescaped_name(text: str) -> str:
    """The kernel writes a newline and a backslash of a name as two characters."""
    return re.sub(r"\\([n\\])", lambda code: "\n" if code[1] == "n" else "\\", text)


def processes(target: Any = None) -> tuple[Process, ...]:
    """Every process in the target's pid namespace, those of nested namespaces included.

    In the order of their pids; what ends while we read is left out. Their ``inner`` is the
    number that they have in that namespace.

    Raises ProcessLookupError if the target has ended, PermissionError if it is not ours.

        >>> [each.inner for each in kernel.processes(box)]
        [1]

    Source: pid_namespaces(7).
    """
    pid = pid_of(target)
    wanted = namespaces(None if target is None else pid)["pid"]
    listed = [found for found in map(_status, pids()) if found is not None]
    own = next((each for each in listed if each.pid == pid), None)
    if own is None:
        raise unreadable(pid, ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)))
    depth = len(own.pids)
    members = _members(listed, depth, wanted) | {pid}
    waits = patience()
    whole = [_with_args(each, waits) for each in listed if each.pid in members]
    found = [each for each in whole if each is not None]
    if all(each.pid != pid for each in found):  # it has ended meanwhile
        raise unreadable(pid, ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)))
    return tuple(each._replace(inner=each.pids[depth - 1]) for each in found)


def _members(listed: Iterable[Process], depth: int, wanted: Identity) -> set[int]:
    """Those of the processes that a pid namespace at this depth has."""
    deep = {each.pid: each for each in listed if len(each.pids) >= depth}
    if depth == 1:  # the one that /proc shows: everybody
        return set(deep)
    inside: dict[Identity, bool] = {wanted: True}
    members, hidden = set(), []
    for each in deep.values():
        try:
            found = os.stat(f"/proc/{each.pid}/ns/pid")
        except OSError:  # an init that hides, or a process that ends just now
            hidden.append(each)
            continue
        identity = (found.st_dev, found.st_ino)
        if identity not in inside:
            inside[identity] = len(each.pids) > depth and _lies_in(each.pid, wanted)
        if inside[identity]:
            members.add(each.pid)
    # A child is as deep as its parent or deeper; who is as deep is in the same namespace.
    for each in reversed(hidden):
        children = (deep[pid] for pid in members)
        if len(each.pids) == depth and any(child.parent == each.pid for child in children):
            members.add(each.pid)
    members |= {each.pid for each in hidden if each.parent in members}
    return members


def _lies_in(pid: int, wanted: Identity) -> bool:
    """Whether a process's pid namespace is a descendant of another one."""
    try:
        fd = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        while True:
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) == wanted:
                return True
            above = ioctl(fd, NS_GET_PARENT)
            os.close(fd)
            fd = above
    except OSError:  # above ours we see nothing
        return False
    finally:
        os.close(fd)


# -- mounts and ids --------------------------------------------------------------------------


def _read(pid: int, name: str) -> str:
    """The text of a file of a process; why not, as a sentence, if we may not."""
    try:
        return os.fsdecode(_bytes(f"/proc/{pid}/{name}", _MOST_MOUNTS))
    except FileNotFoundError:
        error = ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        raise unreadable(pid, error) from None
    except OSError as error:
        # A zombie has no mounts any more: the kernel says EINVAL.
        if error.errno == errno.EINVAL:
            error = ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        raise unreadable(pid, error) from None


def mounts(target: Any = None) -> tuple[Mount, ...]:
    """The mounts that a process sees below its root, in the order in which they were made.

    Raises ProcessLookupError if the target has ended, PermissionError if it is not ours.

    Example:
        >>> [each.point for each in kernel.mounts(box)]
        ['/', '/proc']

    Source: proc_pid_mountinfo(5).
    """
    return parse_mountinfo(_read(pid_of(target), "mountinfo"))


def mounts_at(place: str) -> tuple[Mount, ...]:
    """The same for a directory of /proc, see places()."""
    return parse_mountinfo(os.fsdecode(_bytes(f"{place}/mountinfo", _MOST_MOUNTS)))


def id_maps(target: Any = None) -> IdMaps:
    """The id maps of a process's user namespace.

    The ids outside are those of our user namespace; of our own, those of its parent.

    Raises ProcessLookupError if the target has ended.

    Example:
        >>> kernel.id_maps(box).uid      # (inside, outside, how many)
        ((0, ..., ...),)

    Source: user_namespaces(7), "User and group ID mappings".
    """
    pid = pid_of(target)
    uid, gid = (parse_id_map(_read(pid, f"{kind}_map")) for kind in ("uid", "gid"))
    return IdMaps(uid, gid, _read(pid, "setgroups").strip())
