"""System calls of a process and of all that come from it, answered by another: seccomp(2) with
SECCOMP_RET_USER_NOTIF. Nothing is traced, so parents, signals and /proc stay as they are.

    listener = install(number)      in the process, of one system call (None: of all)
    listener = fetch(pid, listener) in who answers
    call = receive(listener); answer(listener, call, error)
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import struct
import subprocess
from typing import NamedTuple

WITNESS = 0x70000000  # and above it: the command's own calls are not ours to answer
PR_SET_NO_NEW_PRIVS = 38
SET_MODE_FILTER, NEW_LISTENER, WAIT_KILLABLE = 1, 8, 32
ALLOW, NOTIFY = 0x7FFF0000, 0x7FC00000  # SECCOMP_RET_*
LOAD, JUMP_IF_EQUAL, JUMP_IF_NOT_LESS, RETURN = 0x20, 0x15, 0x35, 0x06
RECEIVE, SEND = 0xC0502100, 0xC0182101
CONTINUE = 1

_libc = ctypes.CDLL(None, use_errno=True)


def numbers() -> dict[str, int]:
    """The system calls of this machine, as its C headers name them."""
    command = ["cc", "-dM", "-E", "-include", "sys/syscall.h", "-x", "c", "/dev/null"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {
        name: int(value) for name, value in re.findall(r"#define __NR_(\w+) (\d+)$", text, re.M)
    }


class Call(NamedTuple):
    identity: int
    pid: int
    number: int
    first: int  # its first argument


def _raise() -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))


def install(number: int | None, seccomp: int) -> int:
    """From now on these calls wait for an answer; ``seccomp`` is that call's own number."""
    lines = [
        (LOAD, 0, 0, 12),  # where the call is made: the upper half, and the lower one
        (JUMP_IF_EQUAL, 0, 3, 0),
        (LOAD, 0, 0, 8),
        (JUMP_IF_NOT_LESS, 0, 1, WITNESS),
        (RETURN, 0, 0, ALLOW),
        (LOAD, 0, 0, 0),  # the number of the call
        (JUMP_IF_EQUAL, 1, 0, 0xFFFFFFFF if number is None else number),
        (RETURN, 0, 0, NOTIFY if number is None else ALLOW),
        (RETURN, 0, 0, NOTIFY),
    ]
    program = b"".join(struct.pack("HBBI", *line) for line in lines)
    kept = ctypes.create_string_buffer(program, len(program))
    whole = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(lines), ctypes.addressof(kept)))
    if os.geteuid() != 0:
        _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener: int = _libc.syscall(seccomp, SET_MODE_FILTER, NEW_LISTENER | WAIT_KILLABLE, whole)
    if listener < 0:
        _raise()
    return listener


def fetch(pid: int, descriptor: int, pidfd_getfd: int) -> int:
    """Another process's descriptor as one of ours."""
    process = os.pidfd_open(pid)
    found: int = _libc.syscall(pidfd_getfd, process, descriptor, 0)
    os.close(process)
    if found < 0:
        _raise()
    return found


def receive(listener: int) -> Call | None:
    """The next call that waits; None if whoever made it has died."""
    record = bytearray(80)
    try:
        fcntl.ioctl(listener, RECEIVE, record)
    except FileNotFoundError:
        return None
    return Call(*struct.unpack_from("=QI4xi4x8xQ", record))


def answer(listener: int, call: Call, error: int = 0) -> None:
    """The call fails, or (0) the kernel performs it."""
    reply = struct.pack("=QqiI", call.identity, 0, -error, 0 if error else CONTINUE)
    with contextlib.suppress(FileNotFoundError):  # killed meanwhile
        fcntl.ioctl(listener, SEND, reply)
