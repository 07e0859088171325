"""overlay=True over a root with other mounts below it: each gets a layer of its own.

An overlay shows one file system, and nothing of what is mounted below. So that is covered by
itself, mount for mount. A user namespace may not even lay an overlay over a directory with a
mount below, or it would show what that hides: there such a directory is made anew, and what is in
it is covered, name for name; a file is there, and read-only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from .._facts import machine

_LAYER, _LINK = 10, 11  # enum nsd_file_kind
LAYER, SKELETON, PLACE, FILE = range(4)  # enum nsd_layer
_MOST = 300  # directories
_MOST_STEPS = 900

# File systems that are the kernel's, and no place for files: as the launcher has them by number.
_OF_THE_KERNEL = frozenset(
    "proc sysfs cgroup cgroup2 devpts debugfs tracefs securityfs bpf pstore efivarfs selinuxfs "
    "smackfs hugetlbfs nsfs binfmt_misc resctrl autofs mqueue fusectl configfs".split()
)

_Entry = tuple[int, int, bytes | None, bytes, bytes | None]


def layers(root: bytes, taken: Iterable[str], in_user_namespace: bool) -> tuple[bool, list[_Entry]]:
    """(is the root itself to be made anew?, the entries below it).

    taken: targets at which something else is mounted anyway; nothing of the root is below them.
    """
    try:
        top = os.path.realpath(os.fsencode(root))
    except OSError:  # somebody exchanges its name: the launcher will see what it is
        top = os.fsencode(root)
    covered = {os.fsencode(path) for path in taken}
    below = _mounts_below(top, covered)
    if not below:
        return False, []
    paths = _without_inner(below)
    if in_user_namespace:
        entries = list(_skeleton(top, b"/", paths, covered))
    else:
        entries = [_entry(LAYER, path) for path in sorted(paths)]
    folders = sum(kind == _LAYER and what in (LAYER, SKELETON) for kind, what, *_ in entries)
    if folders > _MOST or folders + len(entries) > _MOST_STEPS:
        crowd = max(paths, key=lambda path: _names_around(path, entries))
        raise ValueError(
            f"overlay=True has no room for so many layers: {os.fsdecode(top.rstrip(b'/') + crowd)} "
            "is a mount, and in a user namespace whatever lies beside it, and beside the "
            "directories on its way, has to be covered name for name: unmount it, or as root"
        )
    return in_user_namespace, entries


def _mounts_below(top: bytes, covered: set[bytes]) -> dict[bytes, str]:
    """Where, and of which type; of several at one place, the last."""
    prefix = top.rstrip(b"/") + b"/"
    found = {}
    for mount in machine.mounts():
        point = os.fsencode(mount.point)
        path = b"/" + point[len(prefix) :]
        if point.startswith(prefix) and path != b"/" and not _is_in(path, covered):
            found[path] = mount.kind
    return found


def _names_around(path: bytes, entries: list[_Entry]) -> int:
    """How many entries lie beside a mount, or beside the directories on its way."""
    way = {path[:i] for i, letter in enumerate(path) if letter == ord("/") and i}
    return sum(target.rpartition(b"/")[0] in way for _, _, _, target, _ in entries)


def _is_in(path: bytes, folders: Iterable[bytes]) -> bool:
    return any(path == each or path.startswith(each + b"/") for each in folders)


def _without_inner(below: dict[bytes, str]) -> dict[bytes, str]:
    """Not those below a file system of the kernel's, which is bound with all that is in it."""
    whole = [path + b"/" for path, kind in below.items() if kind in _OF_THE_KERNEL]
    return {path: kind for path, kind in below.items() if not path.startswith(tuple(whole))}


def _skeleton(
    top: bytes, folder: bytes, below: dict[bytes, str], covered: set[bytes]
) -> Iterator[_Entry]:
    """The directory, and what becomes of each name in it."""
    here = folder.rstrip(b"/") + b"/"
    try:
        with os.scandir(top.rstrip(b"/") + folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError:  # not ours to read: as a whole, read-only
        yield _entry(LAYER, folder)
        return
    yield _entry(SKELETON, folder)
    for entry in found:
        path = here + entry.name
        inner = sorted(each for each in below if each.startswith(path + b"/"))
        if path in covered:
            yield _entry(PLACE, path)
        elif entry.is_symlink():
            yield _LINK, 0, os.readlink(entry.path), folder, entry.name
        elif inner and below.get(path) != "devtmpfs" and path != b"/dev":
            yield from _skeleton(top, path, below, covered)
        elif not entry.is_dir(follow_symlinks=False):
            yield _entry(FILE, path)
        else:  # of a /dev, too many names would have to be made anew
            yield _entry(LAYER, path)
            yield from (_entry(LAYER, each) for each in inner)


def _entry(what: int, path: bytes) -> _Entry:
    return _LAYER, what, None, path, None
