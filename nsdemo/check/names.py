"""Host names: in the uts namespace of a process, and in one that a file keeps alive.

Part of the program look.py. Sources: namespaces(7), uts_namespaces(7), ioctl_nsfs(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress

from .going_in import NS_GET_USERNS, Self, follow_root, join_mounts, join_owner, setns
from .target import Report, Target, identity, libc

CLONE_NEWUSER, CLONE_NEWUTS = 0x10000000, 0x04000000
NS_GET_NSTYPE = 0xB703
_NAMES = {
    CLONE_NEWUSER: "user",
    CLONE_NEWUTS: "uts",
    0x00020000: "mount",
    0x02000000: "cgroup",
    0x08000000: "ipc",
    0x20000000: "pid",
    0x40000000: "net",
    0x00000080: "time",
}


def _set(name: str) -> None:
    text = name.encode()
    if libc.sethostname(text, len(text)) < 0:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def hostname(target: Target, request: Report) -> Report:
    """The host name in a process's uts namespace; then it is another, if one is given."""
    fd = target.open_namespace("uts")
    if identity(fd) != identity(os.open("/proc/self/ns/uts", os.O_RDONLY | os.O_CLOEXEC)):
        join_owner(fd)
        setns(fd, CLONE_NEWUTS)
        if request["name"]:
            before = os.uname().nodename
            _set(request["name"])
            return {"name": request["name"], "before": before}
    return {"name": os.uname().nodename}


def pinned(target: Target, request: Report) -> Report:
    """The namespace that a file is: its kind, its members, and what is read in it later."""
    me = Self()
    members, hidden = _members()
    mine = [me.place(os.open("/", os.O_PATH | os.O_CLOEXEC)), _identity_at("/proc/self/ns/mnt")]
    if [me.place(target.root), target.namespaces["mount"]] != mine:
        join_mounts(target)
        follow_root(target)
    fd = _open(me, request["path"])
    found: Report = {"identity": identity(fd), "kind": _NAMES[fcntl.ioctl(fd, NS_GET_NSTYPE)]}
    found["members"] = sorted({pid for pid, known in members if known == found["identity"]})
    found["hidden"] = hidden
    if found["kind"] == "uts" and not found["members"]:
        before = _visit(me, fd, request["name"])
        found["name"] = _visit(me, fd, before)
    return found


def _identity_at(path: str) -> list[int]:
    found = os.stat(path)
    return [found.st_dev, found.st_ino]


def _members() -> tuple[list[tuple[int, list[int]]], int]:
    """Who is in which uts namespace, and how many processes are not ours to look at."""
    found, hidden = [], 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            for thread in os.listdir(f"/proc/{name}/task"):  # one may be there alone
                with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                    found.append((int(name), _identity_at(f"/proc/{name}/task/{thread}/ns/uts")))
        except PermissionError:
            hidden += 1
        except OSError:
            continue
    return found, hidden


def _open(me: Self, path: str) -> int:
    """The namespace at a path; what is no bind mount of one is an error."""
    nsfs = os.stat("ns/uts", dir_fd=me.process).st_dev
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if stat.S_ISLNK(found.st_mode):
            raise ValueError("it is a link, and no mount")
        if found.st_dev != nsfs:
            raise ValueError("what lies there is no namespace")
        return os.open(f"fd/{fd}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=me.process)
    finally:
        os.close(fd)


def _visit(me: Self, fd: int, name: str) -> str:
    """A process of its own goes in, reads the host name, leaves another one, and ends."""
    owner = fcntl.ioctl(fd, NS_GET_USERNS)
    now = os.stat("ns/user", dir_fd=me.process)  # by our own /proc: here it may be another's
    is_ours = identity(owner) == [now.st_dev, now.st_ino]
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        try:
            if not is_ours:
                setns(owner, CLONE_NEWUSER)
            setns(fd, CLONE_NEWUTS)
            before = os.uname().nodename
            _set(name)
            os.write(write_end, b"1" + before.encode())
        except OSError as error:
            os.write(write_end, b"0" + str(error.errno or errno.EIO).encode())
        os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as file:
        said = file.read().decode("utf-8", "replace")
    os.waitpid(child, 0)
    if said[:1] != "1":
        number = int(said[1:] or errno.EIO)
        raise OSError(number, os.strerror(number))
    return said[1:]
