"""What the kernel says about a running process at this moment.

Everything here is read from /proc and from ioctl_nsfs(2) when it is asked for; nothing is kept, and
nothing is changed. A target is what ``nsdemo.namespaces`` takes: a Container, a pid, an object
whose fileno() is a pidfd; None is the calling process. Text from inside a container (command
lines, paths, the options of mounts) is returned as the container wrote it: escape it before you
show it.

    >>> from nsdemo import kernel
    >>> kernel.process(os.getpid()).pids[0] == os.getpid()
    True
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = [
    "IdMap",
    "IdMaps",
    "Identity",
    "Keepers",
    "Mount",
    "Process",
    "Root",
    "UserNamespace",
    "id_maps",
    "keepers",
    "mounts",
    "open_namespace_root",
    "owner",
    "pid_of",
    "process",
    "processes",
    "root",
    "user_namespaces",
]

Identity = tuple[int, int]  # (device, inode), as nsdemo.namespaces() has them
IdMap = tuple[tuple[int, int, int], ...]  # (first id inside, first id outside, how many)


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
    args     its command line; empty for a zombie and for kernel threads
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


class Mount(NamedTuple):
    """One line of /proc/PID/mountinfo, as proc_pid_mountinfo(5) names its fields."""

    number: int
    parent: int
    root: str
    point: str
    options: str
    propagation: str
    kind: str
    source: str


class IdMaps(NamedTuple):
    """The id maps of a process's user namespace, and "allow" or "deny" for setgroups(2)."""

    uid: IdMap
    gid: IdMap
    setgroups: str


class Root(NamedTuple):
    """A process's root directory against the root of its mount namespace.

    path       the root directory, as /proc/PID/root names it: from the mount namespace's root
    identity   (device, inode) of the root directory
    namespace  (device, inode) of the directory that a process gets which joins the mount namespace;
               None if the kernel does not let us join
    same       whether both are one directory on one mount, so that a joiner has the same "/"
    """

    path: str
    identity: Identity
    namespace: Identity | None
    same: bool


class UserNamespace(NamedTuple):
    """A user namespace: who it is, the uid (as we see it) that made it, and its parent.

    parent is None if that lies outside of ours, or we are not told.
    """

    identity: Identity
    uid: int
    parent: Identity | None


class Keepers(NamedTuple):
    """What keeps a namespace alive.

    identity     the namespace
    processes    the members
    for_children processes whose children will be born in it (pid, time)
    descriptors  (pid, descriptor) of every open file that is the namespace
    mounts       (pid of a process that sees it, mount point) of every bind mount of it
    namespaces   (keyword, identity) of child namespaces, and of those that a user namespace owns
    unreadable   how many processes we may not look at
    """

    identity: Identity
    processes: tuple[Process, ...]
    for_children: tuple[Process, ...]
    descriptors: tuple[tuple[int, int], ...]
    mounts: tuple[tuple[int, str], ...]
    namespaces: tuple[tuple[str, Identity], ...]
    unreadable: int


def pid_of(target: Any = None) -> int:
    """The pid of a target, ours for None. Under an init it is that of the command."""
    raise NotImplementedError


def process(pid: int) -> Process | None:
    """One process, None if there is none."""
    raise NotImplementedError


def processes(target: Any = None) -> tuple[Process, ...]:
    """Every process that the target's pid namespace has, those of nested ones included."""
    raise NotImplementedError


def mounts(target: Any = None) -> tuple[Mount, ...]:
    """The mounts that a process sees, in the order in which they were made."""
    raise NotImplementedError


def id_maps(target: Any = None) -> IdMaps:
    """The id maps of a process's user namespace."""
    raise NotImplementedError


def root(target: Any = None) -> Root:
    """A process's root directory against the root of its mount namespace."""
    raise NotImplementedError


def open_namespace_root(target: Any = None) -> int:
    """A descriptor (O_PATH) of the "/" that a process gets which joins the mount namespace.

    The caller closes it. Raises PermissionError if we may not join.
    """
    raise NotImplementedError


def owner(target: Any = None, namespace: str = "user") -> UserNamespace | None:
    """The user namespace that owns a namespace; for "user", that user namespace itself."""
    raise NotImplementedError


def user_namespaces(target: Any = None) -> tuple[UserNamespace, ...]:
    """A process's user namespace, its parent, and so on, as far as the kernel tells us."""
    raise NotImplementedError


def keepers(target: Any, namespace: str) -> Keepers:
    """What keeps a process's namespace alive, as far as we may look."""
    raise NotImplementedError
