"""A kernel without one system call: executes a command under a seccomp filter that refuses it.

    python tests/refuse.py close_range ENOSYS COMMAND...

ENOSYS is what a kernel says that does not have the call; EPERM is what container engines said
for calls that were newer than their filters. Everything else is as before, and what the command
starts inherits the filter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable

NEW = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}  # since 2019 the same on all machines
OLD = {
    "x86_64": {"fchown": 93, "capget": 125, "fstatfs": 138, "fchownat": 260, "memfd_create": 319},
    "aarch64": {"fstatfs": 44, "fchownat": 54, "fchown": 55, "capget": 90, "memfd_create": 279},
}
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
ALLOW, ERRNO = 0x7FFF0000, 0x00050000  # SECCOMP_RET_*
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06


def number_of(call: str) -> int:
    return NEW.get(call) or OLD[platform.machine()][call]


def program(calls: Iterable[int], error: int) -> bytes:
    """A filter, as seccomp(2) takes it: these numbers are refused, the rest is allowed."""
    lines = [(LOAD, 0, 0, 0)]  # the number of the call
    for number in calls:
        lines += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, ERRNO | error)]
    return b"".join(struct.pack("HBBI", *line) for line in (*lines, (RETURN, 0, 0, ALLOW)))


def refuse(call: str, error: int) -> None:
    """From now on this process does not have the call."""
    bpf = program([number_of(call)], error)
    libc = ctypes.CDLL(None, use_errno=True)
    lines = ctypes.create_string_buffer(bpf, len(bpf))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(lines)))
    if libc.prctl(PR_SET_SECCOMP, 2, filter_, 0, 0) < 0:  # root's does without the next
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if libc.prctl(PR_SET_SECCOMP, 2, filter_, 0, 0) < 0:
            raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


if __name__ == "__main__":
    refuse(sys.argv[1], getattr(errno, sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])
