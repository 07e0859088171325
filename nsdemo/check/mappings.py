"""The files that a process has mapped, and those that lie under its root.

Part of the program look.py. Sources: proc_pid_maps(5), proc_pid_exe(5).
"""

from __future__ import annotations

import hashlib
import itertools
import mmap
import os
import stat

from .going_in import Self, follow_root, join_mounts
from .target import READ_AT_MOST, Report, Target, read_at

MOST_FILES, MOST_MAPPED = 2000, 500


def mapped(target: Target, request: Report) -> Report:
    """Every file that the process has mapped, and whether it lies under its root."""
    me = Self()
    exe = os.open("exe", os.O_RDONLY | os.O_CLOEXEC, dir_fd=target.process)
    with open(exe, "rb") as file:
        digest = hashlib.sha256(file.read(READ_AT_MOST)).hexdigest()
    # Opened out here, where we may; read in there, where paths begin at its root.
    maps = os.open("maps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=target.process)
    join_mounts(target)
    follow_root(target)
    with open(maps, "rb") as file:
        lines = file.read(READ_AT_MOST).decode("utf-8", "surrogateescape").split("\n")
    files: dict[tuple[str, str, str], bool] = {}
    for line in lines:
        fields = line.split(None, 5)
        if len(fields) == 6 and fields[4] != "0" and len(files) < MOST_MAPPED:
            key = (fields[3], fields[4], fields[5].replace("\\012", "\n"))
            if key not in files:
                files[key] = _lies_inside(me, *key)
    inside = {path for (_, _, path), good in files.items() if good}
    others, complete = _other_files(inside)
    outside = [path for (_, _, path), good in files.items() if not good]
    return {
        "sha256": digest,
        "inside": sorted(inside),
        "outside": outside,
        "others": others,
        "complete": complete,
    }


def _lies_inside(me: Self, device: str, inode: str, path: str) -> bool:
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError):
        return False
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_ino != int(inode):
            return False
        major, minor = (int(part, 16) for part in device.split(":"))
        if found.st_dev == os.makedev(major, minor):
            return True
        # btrfs and overlayfs name one device in stat and another in maps: map it ourselves.
        again = os.open(f"fd/{fd}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=me.process)
        try:
            with mmap.mmap(again, 1, prot=mmap.PROT_READ):
                return f" {device} {inode} " in read_at(me.process, "maps")
        finally:
            os.close(again)
    except (OSError, ValueError):
        return False
    finally:
        os.close(fd)


def _other_files(known: set[str]) -> tuple[list[str], bool]:
    """Regular files under / that are not among these, on the same filesystem; and whether that
    is all of them."""
    identities = {(found.st_dev, found.st_ino) for found in map(os.stat, known)}
    device = os.stat("/").st_dev
    others: list[str] = []
    pending, seen = ["/"], 0
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as listing:
                entries = list(itertools.islice(listing, MOST_FILES + 1))
        except OSError:
            continue
        for entry in entries:
            seen += 1
            if seen > MOST_FILES:
                return others[:20], False
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode) and found.st_dev == device:
                pending.append(entry.path)
            elif stat.S_ISREG(found.st_mode) and (found.st_dev, found.st_ino) not in identities:
                others.append(entry.path)
    return others[:20], True
