"""What a container changed in a root that overlay=True covers.

The launcher hands over two directories: the upper one of the overlay, in memory, that has all
changes, and the root below it. Our descriptors keep both when the container has ended.

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
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from ._core import Plan as CorePlan

_SOCKET_SLOT = 65  # NSD_SOCKET_SLOT
_PATH_MAX = 4096
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Change(NamedTuple):
    """One difference between a root and what a container made of it.

    Attributes:
        path: as seen inside. The container chose it: escape it before you show it.
        kind: "added", "modified" or "deleted".
    """

    path: str
    kind: Literal["added", "modified", "deleted"]


Change.__module__ = "nsdemo"


class Layers:
    """The two directories, open as long as this object lives."""

    def __init__(self, upper: int, lower: int, attribute: str) -> None:
        self.upper = upper
        self.lower = lower
        self._attribute = attribute  # where the overlay notes that a directory hides another

    def __del__(self) -> None:
        for fd in (self.upper, self.lower):
            with suppress(OSError):
                os.close(fd)

    def changes(self) -> tuple[Change, ...]:
        """All of them, sorted by path."""
        found: list[Change] = []
        # Its owner may be one that a user namespace does not know, and then is ours.
        if os.stat(".", dir_fd=self.upper).st_mode != os.stat(".", dir_fd=self.lower).st_mode:
            found.append(Change("/", "modified"))
        folders: list[tuple[tuple[bytes, ...], bool, bool]] = [((), True, False)]
        while folders:
            names, has_lower, hides = folders.pop()
            upper = _open(self.upper, names)
            if upper is None:
                continue  # gone while we looked
            lower = _open(self.lower, names) if has_lower else None
            try:
                folders += self._compare(names, upper, lower, hides, found)
            finally:
                os.close(upper)
                if lower is not None:
                    os.close(lower)
        return tuple(sorted(found))

    def _compare(
        self,
        names: tuple[bytes, ...],
        upper: int,
        lower: int | None,
        hides: bool,
        found: list[Change],
    ) -> list[tuple[tuple[bytes, ...], bool, bool]]:
        """Note what changed in one directory; the directories in it that are to be looked at."""
        folders = []
        hides = hides or self._is_opaque(upper)
        mine = set(map(os.fsencode, os.listdir(upper)))
        for name in mine:
            new, old = _status(upper, name), _status(lower, name)
            path = _path(names, name)
            if new is None:
                continue
            if stat.S_ISCHR(new.st_mode) and new.st_rdev == 0:
                found.append(Change(path, "deleted"))
                continue
            both = old is not None and stat.S_ISDIR(new.st_mode) and stat.S_ISDIR(old.st_mode)
            if old is None:
                found.append(Change(path, "added"))
            elif not both or _owner_and_mode(new) != _owner_and_mode(old):
                found.append(Change(path, "modified"))
            if stat.S_ISDIR(new.st_mode):
                folders.append(((*names, name), both, hides))
        if hides and lower is not None:
            gone = set(map(os.fsencode, os.listdir(lower))) - mine
            found += [Change(_path(names, name), "deleted") for name in gone]
        return folders

    def _is_opaque(self, folder: int) -> bool:
        try:
            return os.getxattr(folder, self._attribute) == b"y"
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return False
            raise


def _owner_and_mode(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid


def _path(names: tuple[bytes, ...], name: bytes) -> str:
    path = b"/" + b"/".join((*names, name))
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


def _open(top: int, names: tuple[bytes, ...]) -> int | None:
    """A directory, name by name from the top; None if there is none any more."""
    folder = os.open(".", _DIRECTORY, dir_fd=top)
    for name in names:
        try:
            below = os.open(name, _DIRECTORY, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            error.filename = _path(names[: names.index(name)], name)
            raise
        finally:
            os.close(folder)
        folder = below
    return folder


class Handover:
    """The way of the descriptors from the launcher to this process, for one launch.

    Attributes:
        core: the plan, with its end of the socket.
    """

    def __init__(self, core: CorePlan) -> None:
        import socket

        self._ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.core = core.with_slot(_SOCKET_SLOT, self._ends[1].fileno(), self._ends)
        texts = next(step[3] for step in core.steps() if step[0] == "overlay_at")
        kind = "user" if texts[2] == ",userxattr" else "trusted"
        self._attribute = f"{kind}.overlay.opaque"

    def receive(self) -> Layers:
        """After the launch: the message is there."""
        import socket

        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        _, control, *_ = self._ends[0].recvmsg(1, socket.CMSG_LEN(2 * 4), flags)
        fds = array("i", b"".join(data for *_, data in control))
        if len(fds) != 2:
            for fd in fds:
                os.close(fd)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return Layers(fds[0], fds[1], self._attribute)

    def close(self) -> None:
        """Close both ends: the launcher has had its own."""
        for end in self._ends:
            end.close()
