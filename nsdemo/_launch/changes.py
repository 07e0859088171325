"""What a container changed in a root that overlay=True covers.

The launcher hands over two directories: the upper one of the overlay, in memory, that has all
changes, and the root below it; and two of each layer over what is mounted below the root. Our
descriptors keep them when the container has ended.

The container chose every name in the upper directory and may change it while we look. So no
link is followed, no file is opened, and each name is looked up in the directory that it was
read from.
"""

from __future__ import annotations

import errno
import os
import stat
from array import array
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from .._plan.layers import SKELETON

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core import Plan as CorePlan
    from .._core import Process

_SOCKET_SLOT = 65  # NSD_SOCKET_SLOT
_PATH_MAX = 4096
_STRIDE = 32
_ROOM = 1 << 20
_MANY = 10_000_000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Change(NamedTuple):
    """One difference between a root and what a container made of it.

    Attributes:
        path: as seen inside. The container chose it: escape it before you show it.
        kind: "added", "modified" or "deleted".

    Example:
        >>> with nsdemo.spawn(["touch", "/new"], root=rootfs, overlay=True) as box:
        ...     box.wait()
        0
        >>> box.changes()[0].path, box.changes()[0].kind
        ('/new', 'added')
    """

    path: str
    kind: Literal["added", "modified", "deleted"]


Change.__module__ = "nsdemo"


class Layer(NamedTuple):
    """What lies over one directory of the root: an overlay, or a directory made anew.

    Attributes:
        path: of the directory, as seen inside; b"" is the root.
        names: those that the set-up made in a directory made anew; None: it is an overlay.
    """

    path: bytes
    names: frozenset[bytes] | None


class Layers:
    """The directories of all layers, two of each, open as long as this object lives."""

    def __init__(self, attribute: str) -> None:
        self._parts: list[tuple[Layer, int, int]] = []
        self._attribute = attribute  # where the overlay notes that a directory hides another

    def add(self, layer: Layer, upper: int, lower: int) -> None:
        self._parts.append((layer, upper, lower))

    def __del__(self) -> None:
        for _, *fds in self._parts:
            for fd in fds:
                with suppress(OSError):
                    os.close(fd)

    def changes(self) -> tuple[Change, ...]:
        """All of them, sorted by path."""
        found: list[Change] = []
        # In memory, which they share, each name takes an inode: more are never there at once.
        self._left = os.statvfs(self._parts[0][1]).f_files or _MANY
        for layer, upper, lower in self._parts:
            # Its owner may be one that a user namespace does not know, and then is ours.
            if os.stat(".", dir_fd=upper).st_mode != os.fstat(lower).st_mode:
                found.append(Change(os.fsdecode(layer.path) or "/", "modified"))
            try:
                way = _Way(upper, lower, layer.path)
            except PermissionError:
                if layer.path:  # below the root: who made the container changed nothing either
                    continue
                raise
            try:
                if layer.names is None:
                    self._compare(way, layer.path, False, found)
                else:
                    self._compare_names(way, layer, found)
                while way.folders:
                    here = way.folders[-1]
                    if not here.below:
                        way.leave()
                    elif way.enter(*here.below.pop()):
                        self._compare(way, way.folders[-1].path, here.hides, found)
            finally:
                way.close()
        return tuple(sorted(found))

    def _compare_names(self, way: _Way, layer: Layer, found: list[Change]) -> None:
        """A directory made anew holds what was put there, which is covered, and what is new."""
        here = way.folders[-1]
        assert here.upper is not None
        assert layer.names is not None
        mine = self._names(here.upper)
        for name in mine - layer.names:
            new = _status(here.upper, name)
            if new is not None:
                found.append(Change(_path(layer.path, name), "added"))
                if stat.S_ISDIR(new.st_mode):
                    here.below.append((name, False))
        found += [Change(_path(layer.path, name), "deleted") for name in layer.names - mine]

    def _compare(self, way: _Way, path: bytes, hides: bool, found: list[Change]) -> None:
        """Note what changed in the directory where we are, and which in it are to be looked at."""
        here = way.folders[-1]
        assert here.upper is not None
        here.hides = hides = hides or self._is_opaque(here.upper)
        mine = self._names(here.upper)
        for name in mine:
            new, old = _status(here.upper, name), _status(here.lower, name)
            if new is None:
                continue
            where = _path(path, name)
            if stat.S_ISCHR(new.st_mode) and new.st_rdev == 0:
                found.append(Change(where, "deleted"))
                continue
            both = old is not None and stat.S_ISDIR(new.st_mode) and stat.S_ISDIR(old.st_mode)
            if old is None:
                found.append(Change(where, "added"))
            elif not both or _owner_and_mode(new) != _owner_and_mode(old):
                found.append(Change(where, "modified"))
            if stat.S_ISDIR(new.st_mode):
                here.below.append((name, both))
        if hides and here.lower is not None:
            gone = set(map(os.fsencode, os.listdir(here.lower))) - mine
            found += [Change(_path(path, name), "deleted") for name in gone]

    def _names(self, folder: int) -> set[bytes]:
        """What is in a directory; who adds to it while we look does not keep us for ever."""
        names = set()
        with os.scandir(folder) as entries:
            for entry in entries:
                names.add(os.fsencode(entry.name))
                self._left -= 1
                if self._left < 0:
                    raise OSError(
                        errno.EBUSY,
                        "the container makes files faster than they are read: stop it first",
                    )
        return names

    def _is_opaque(self, folder: int) -> bool:
        try:
            return os.getxattr(folder, self._attribute) == b"y"
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return False
            raise


def _owner_and_mode(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid


def _path(folder: bytes, name: bytes) -> str:
    path = folder + b"/" + name
    if len(path) >= _PATH_MAX:
        raise OSError(
            errno.ENAMETOOLONG,
            "the container made directories deeper than a path can be long",
            os.fsdecode(path[:80] + b"..."),
        )
    return os.fsdecode(path)


def _status(folder: int | None, name: bytes) -> os.stat_result | None:
    if folder is None:
        return None
    with suppress(FileNotFoundError):
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    return None


class _Folder:
    """A directory on the way from the top to where we are.

    Attributes:
        upper, lower: its descriptors; None while it is closed, or where there is none.
        below: directories in it that are still to be looked at, and whether both layers have them.
    """

    __slots__ = ("below", "has_lower", "hides", "lower", "name", "path", "upper")

    def __init__(self, path: bytes, name: bytes, upper: int, lower: int | None) -> None:
        self.path = path
        self.name = name
        self.upper: int | None = upper
        self.lower = lower
        self.has_lower = lower is not None
        self.hides = False
        self.below: list[tuple[bytes, bool]] = []

    def close(self) -> None:
        for fd in (self.upper, self.lower):
            if fd is not None:
                os.close(fd)
        self.upper = self.lower = None


class _Way:
    """The directories from the top to where we are; of the far ones every 32nd is open.

    So a depth that the container chooses takes few descriptors, and the way back does not begin
    at the top each time.
    """

    def __init__(self, upper: int, lower: int, path: bytes) -> None:
        top = _Folder(path, b"", os.open(".", _DIRECTORY, dir_fd=upper), None)
        self.folders = [top]
        try:
            top.lower = os.open(".", _DIRECTORY, dir_fd=lower)
        except BaseException:
            self.close()
            raise
        top.has_lower = True

    def enter(self, name: bytes, both: bool) -> bool:
        """Go down; False if the directory is gone, or ours is."""
        if not self._reopen():
            self.folders[-1].below.clear()
            return False
        here = self.folders[-1]
        path = here.path + b"/" + name
        assert here.upper is not None
        upper = _open(here.upper, name, path)
        if upper is None:
            return False
        below = _Folder(path, name, upper, None)
        self.folders.append(below)  # from now on close() finds it
        if both and here.lower is not None:
            below.lower = _open(here.lower, name, path)
            below.has_lower = below.lower is not None
        depth = len(self.folders)
        if depth % _STRIDE == 1:
            for folder in self.folders[depth - _STRIDE : depth - 1]:
                folder.close()
        return True

    def leave(self) -> None:
        self.folders.pop().close()

    def _reopen(self) -> bool:
        """Open where we are once more, from the nearest on the way that is open."""
        at = len(self.folders) - 1
        while self.folders[at].upper is None:
            at -= 1
        for folder in self.folders[at + 1 :]:
            above = self.folders[at]
            assert above.upper is not None
            folder.upper = _open(above.upper, folder.name, folder.path)
            if folder.upper is None:
                return False
            if folder.has_lower and above.lower is not None:
                folder.lower = _open(above.lower, folder.name, folder.path)
            at += 1
        return True

    def close(self) -> None:
        for folder in self.folders:
            folder.close()


def _open(folder: int, name: bytes, path: bytes) -> int | None:
    """A directory in another; None if there is none any more."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        error.filename = os.fsdecode(path)
        raise


def _handed_over(core: CorePlan) -> tuple[str, list[Layer]]:
    """(where an overlay keeps its notes, the layer of each message that will come)."""
    steps = core.steps()
    made: dict[bytes, set[bytes]] = {}
    for operation, _, _, texts in steps:
        if operation in ("layer_at", "link_at"):
            name = f"/{texts[2]}" if operation == "link_at" else ""
            place = os.fsencode(f"{texts[1]}{name}").replace(b"//", b"/")
            folder, _, last = place.rpartition(b"/")
            made.setdefault(folder, set()).add(last)
    layers, kind = [], "trusted"
    for before, step in pairwise(steps):
        if step[0] != "hand_over":
            continue
        operation, _, numbers, texts = before
        path = os.fsencode(texts[1] or "").rstrip(b"/")
        anew = operation == "layer_at" and numbers[0] == SKELETON
        layers.append(Layer(path, frozenset(made.get(path, ())) - {b""} if anew else None))
        if texts[2] == ",userxattr":
            kind = "user"
    return f"{kind}.overlay.opaque", layers


class Handover:
    """The way of the descriptors from the launcher to this process, for one launch.

    Attributes:
        core: the plan, with its end of the socket.
    """

    def __init__(self, core: CorePlan) -> None:
        import socket

        self._ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # The messages wait there until the command runs.
        self._ends[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)
        self.core = core.with_slot(_SOCKET_SLOT, self._ends[1].fileno(), self._ends)
        self._attribute, self._layers = _handed_over(core)

    def receive(self) -> Layers:
        """After the launch: the messages are there."""
        import socket

        received = Layers(self._attribute)
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        for layer in self._layers:
            _, control, *_ = self._ends[0].recvmsg(1, socket.CMSG_LEN(2 * 4), flags)
            fds = array("i", b"".join(data for *_, data in control))
            if len(fds) == 2:
                received.add(layer, *fds)
            elif fds or not layer.path:  # none: what is there has no layer
                for fd in fds:
                    os.close(fd)
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return received

    def close(self) -> None:
        """Close both ends: the launcher has had its own."""
        for end in self._ends:
            end.close()


def launch_with_layers(
    core: CorePlan, launch: Callable[[CorePlan], Process]
) -> tuple[Process, Layers | None]:
    """Launch a plan, and take what its launcher hands over."""
    handover = Handover(core)
    try:
        process = launch(handover.core)
        return process, None if process.abandoned else handover.receive()
    finally:
        handover.close()
