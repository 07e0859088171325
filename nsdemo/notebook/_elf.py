"""Which libraries a program names, read from the file itself.

The files lie in a root that a container has had for itself: nothing in them is believed without
a check of its bounds, nothing is executed, and no symbolic link is followed on the host.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import NamedTuple

_MOST_BYTES = 1 << 20  # of the tables that we look at
_MOST_NAMES = 200
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB = 1, 5


class Needs(NamedTuple):
    """What a file needs to start: kind is "elf", "script" or "" for neither."""

    kind: str
    interpreter: str
    libraries: tuple[str, ...]


NOTHING = Needs("", "", ())


def needs_of(directory: int, name: str) -> Needs:
    """What a file in an open directory needs; NOTHING for what is no program and no library."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(name, flags, dir_fd=directory)
    except OSError:
        return NOTHING
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return NOTHING
        head = os.pread(fd, 4096, 0)
        if head[:2] == b"#!":
            words = os.fsdecode(head[2:].split(b"\n", 1)[0]).split()
            return Needs("script", words[0] if words else "", ())
        if head[:6] == b"\x7fELF\x02\x01":  # 64 bits, little-endian: all that nsdemo runs on
            return _elf(fd, head)
    except (OSError, struct.error, ValueError, OverflowError):  # cut off, or made to confuse
        pass
    finally:
        os.close(fd)
    return NOTHING


def _elf(fd: int, head: bytes) -> Needs:
    (offset,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    table = os.pread(fd, min(size * count, _MOST_BYTES), offset)
    interpreter, dynamic = "", b""
    loads = []
    for number in range(count):
        kind, _, start, address, _, length, *_ = struct.unpack_from(
            "<IIQQQQQQ", table, size * number
        )
        if kind == _PT_LOAD:
            loads.append((address, start, length))
        elif kind == _PT_INTERP:
            interpreter = os.fsdecode(os.pread(fd, min(length, 4096), start).split(b"\0", 1)[0])
        elif kind == _PT_DYNAMIC:
            dynamic = os.pread(fd, min(length, _MOST_BYTES), start)
    entries = list(struct.iter_unpack("<QQ", dynamic[: len(dynamic) // 16 * 16]))
    strings = next((value for tag, value in entries if tag == _DT_STRTAB), 0)
    at = next((start + strings - a for a, start, length in loads if a <= strings < a + length), 0)
    names: list[str] = []
    for tag, value in entries:
        if tag == 0:
            break
        if tag == _DT_NEEDED and at and len(names) < _MOST_NAMES:
            names.append(os.fsdecode(os.pread(fd, 256, at + value).split(b"\0", 1)[0]))
    return Needs("elf", interpreter, tuple(names))
