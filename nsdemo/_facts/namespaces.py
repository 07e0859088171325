"""Namespaces as files: who owns one, which is its parent, what keeps one alive.

Public in ``nsdemo.kernel``. The questions are ioctl_nsfs(2)'s; the kernel answers none about what
lies outside of our own user or pid namespace.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from typing import Any, NamedTuple

from .processes import (
    FILES,
    NS_GET_PARENT,
    Identity,
    Process,
    mounts_at,
    patience,
    pid_of,
    pids,
    places,
    read_process,
)
from .targets import namespaces, unreadable

NS_GET_USERNS = 0xB701
NS_GET_OWNER_UID = 0xB704

# Namespaces that a process is not in itself: its children will be.
_FOR_CHILDREN = {"pid": "pid_for_children", "time": "time_for_children"}


class UserNamespace(NamedTuple):
    """A user namespace: who it is, the uid (as we see it) that made it, and its parent.

    parent is None if that lies outside of ours: the kernel does not tell.
    """

    identity: Identity
    uid: int
    parent: Identity | None


class Keepers(NamedTuple):
    """What keeps a namespace alive, as far as we may look.

    identity      the namespace
    processes     its members: with all threads in it, or with one
    for_children  processes that are not in it, but whose children will be (pid and time)
    descriptors   (pid, descriptor) for every open file that is the namespace
    mounts        (pid of a process that sees it, mount point) for every bind mount of it
    namespaces    (keyword, identity) of its children, and of what a user namespace owns, as far
                  as a process is in them
    unreadable    how many processes are not ours to look at
    """

    identity: Identity
    processes: tuple[Process, ...]
    for_children: tuple[Process, ...]
    descriptors: tuple[tuple[int, int], ...]
    mounts: tuple[tuple[int, str], ...]
    namespaces: tuple[tuple[str, Identity], ...]
    unreadable: int


@contextmanager
def _closing(*descriptors: int) -> Iterator[list[int]]:
    opened = list(descriptors)
    try:
        yield opened
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _open(pid: int, file: str) -> int:
    try:
        return os.open(f"/proc/{pid}/ns/{file}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if os.path.exists(f"/proc/{pid}"):
            raise  # this kernel has no such namespace
        gone = ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        raise unreadable(pid, gone) from None


def _identity(fd: int) -> Identity:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _related(fd: int, question: int) -> Identity | None:
    """The parent or the owner of an open namespace, None if we are not told."""
    try:
        with _closing(ioctl(fd, question)) as (other,):
            return _identity(other)
    except OSError:
        return None


def _user_namespace(fd: int) -> UserNamespace:
    uid = array("I", [0])
    ioctl(fd, NS_GET_OWNER_UID, uid)
    return UserNamespace(_identity(fd), uid[0], _related(fd, NS_GET_PARENT))


def owner_of_file(pid: int, file: str) -> UserNamespace | None:
    """The owner of a namespace by its name in /proc/PID/ns; None if we are not told."""
    try:
        with _closing(_open(pid, file)) as opened:
            if file != "user":
                opened.append(ioctl(opened[0], NS_GET_USERNS))
            return _user_namespace(opened[-1])
    except OSError:
        return None


def _file_of(namespace: str) -> str:
    if namespace not in FILES:
        known = ", ".join(FILES)
        raise ValueError(f"there is no namespace {namespace!r}: the eight are {known}")
    return FILES[namespace]


def owner(target: Any = None, namespace: str = "user") -> UserNamespace | None:
    """The user namespace that owns a process's namespace; for "user", that user namespace itself.

    None if the kernel does not tell: it lies outside of our own user namespace, or the process is
    not ours to look at.

    Raises ProcessLookupError if the target has ended, ValueError for a name that is none.

        >>> kernel.owner(box, "net").identity == kernel.owner(box).identity
        True

    Source: ioctl_nsfs(2).
    """
    return owner_of_file(pid_of(target), _file_of(namespace))


def parent(target: Any = None, namespace: str = "user") -> Identity | None:
    """The parent of a process's pid or user namespace; None if it lies outside of ours.

    Raises ProcessLookupError if the target has ended, ValueError for a kind without parents.

    Example:
        >>> kernel.parent(box, "pid") == nsdemo.namespaces()["pid"]
        True

    Source: ioctl_nsfs(2).
    """
    if namespace not in ("pid", "user"):
        raise ValueError(f"only pid and user namespaces have parents, not {namespace!r}")
    try:
        with _closing(_open(pid_of(target), namespace)) as (fd,):
            return _related(fd, NS_GET_PARENT)
    except PermissionError:
        return None


def user_namespaces(target: Any = None) -> tuple[UserNamespace, ...]:
    """A process's user namespace, its parent, and so on up to ours, as far as we are told.

    Raises ProcessLookupError if the target has ended.

    Example:
        >>> kernel.user_namespaces(box)[0] == kernel.owner(box)
        True

    Source: ioctl_nsfs(2), user_namespaces(7).
    """
    found: list[UserNamespace] = []
    with suppress(PermissionError), _closing(_open(pid_of(target), "user")) as opened:
        # A kernel nests 33 user namespaces at most.
        while True:
            found.append(_user_namespace(opened[-1]))
            try:
                opened.append(ioctl(opened[-1], NS_GET_PARENT))
            except OSError:
                break
    return tuple(found)


# -- what keeps one alive ----------------------------------------------------------------------


def keepers(target: Any, namespace: str) -> Keepers:
    """What keeps a namespace alive: all of it that /proc shows.

    target is a process, or a namespace file without one (such as a bind mount). What holds one
    without being seen is not in it: a descriptor on its way through a socket, a mounted mqueue or
    procfs, a child namespace that no process is in.

    Raises ProcessLookupError if the target has ended, PermissionError if it is not ours,
    ValueError for a name that is none, or is not the kind of the file.

        >>> [each.pid for each in kernel.keepers(box, "uts").processes] == [box.pid]
        True

    Source: namespaces(7), "Namespace lifetime".
    """
    file = _file_of(namespace)
    known = namespaces(target)
    if namespace not in known:
        kinds = ", ".join(known)
        raise ValueError(f"{target!r} has no {namespace} namespace; it is one of kind {kinds}")
    return _Search(namespace, file, known[namespace]).run()


def _at(place: str, file: str) -> Identity | None:
    """A thread's namespace; None if it has ended, or this kernel has no such namespace."""
    try:
        found = os.stat(f"{place}/ns/{file}")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return found.st_dev, found.st_ino


class _Search:
    """One walk through /proc."""

    def __init__(self, namespace: str, file: str, wanted: Identity) -> None:
        self.namespace, self.file, self.wanted = namespace, file, wanted
        self.members: list[Process] = []
        self.for_children: list[Process] = []
        self.descriptors: dict[tuple[int, int], None] = {}
        self.mounts: dict[tuple[Identity, str], int] = {}
        self.related: dict[tuple[str, Identity], None] = {}
        self.seen: set[Identity] = {wanted}
        self.unreadable = 0
        self.patience = patience()

    def run(self) -> Keepers:
        for pid in pids():
            try:
                self._look_at(pid)
            except PermissionError:
                self.unreadable += 1
            except OSError:  # it has ended meanwhile
                continue
        return Keepers(
            self.wanted,
            tuple(self.members),
            tuple(self.for_children),
            tuple(self.descriptors),
            tuple((pid, point) for (_, point), pid in self.mounts.items()),
            tuple(self.related),
            self.unreadable,
        )

    def _look_at(self, pid: int) -> None:
        is_member = has_for_children = False
        file = _FOR_CHILDREN.get(self.namespace)
        for place in places(pid):
            try:
                self._descriptors(pid, place)
                where = {name: _at(place, file) for name, file in FILES.items()}
                is_member |= where[self.namespace] == self.wanted
                has_for_children |= file is not None and _at(place, file) == self.wanted
                self._others(pid, place, where)
            except (FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
                continue
        if is_member or has_for_children:
            found = read_process(pid, self.patience)
            if found is not None:
                (self.members if is_member else self.for_children).append(found)

    def _others(self, pid: int, place: str, where: dict[str, Identity | None]) -> None:
        """What is seen in namespaces that nobody was found in before."""
        for name, identity in where.items():
            if identity is not None and identity not in self.seen:
                self.seen.add(identity)
                self._ask(place, name, FILES[name], identity)
                if name == "mount":
                    self._bind_mounts(pid, place, identity)

    def _descriptors(self, pid: int, place: str) -> None:
        text = f"{self.file}:[{self.wanted[1]}]"
        for number in os.listdir(f"{place}/fd"):
            with suppress(OSError):
                # Reading the link asks no file system that could keep us waiting.
                if os.readlink(f"{place}/fd/{number}") == text:
                    self.descriptors[pid, int(number)] = None

    def _bind_mounts(self, pid: int, place: str, where: Identity) -> None:
        root = f"{self.file}:[{self.wanted[1]}]"
        for mount in mounts_at(place):
            if mount.kind == "nsfs" and mount.root == root:
                self.mounts.setdefault((where, mount.point), pid)

    def _ask(self, place: str, name: str, file: str, identity: Identity) -> None:
        """Whether this namespace is a child of the wanted one, or owned by it."""
        if name == self.namespace and name in ("pid", "user"):
            question = NS_GET_PARENT
        elif name != "user" and self.namespace == "user":
            question = NS_GET_USERNS
        else:
            return
        with _closing(os.open(f"{place}/ns/{file}", os.O_RDONLY | os.O_CLOEXEC)) as (fd,):
            if _related(fd, question) == self.wanted:
                self.related[name, identity] = None
