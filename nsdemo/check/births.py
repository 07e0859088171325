"""Processes that the check itself starts in a pid namespace, or cannot.

Part of the program look.py. The child that goes in does nothing but sleep.
"""

from __future__ import annotations

import errno
import os
import signal

from .going_in import CLONE_NEWPID, join_owner, setns
from .target import Report, Target, identity, libc, status_of

PR_SET_NAME = 15


def sleep_named(name: bytes, ready: int) -> None:
    """The life of a child that is only looked at."""
    libc.prctl(PR_SET_NAME, name, 0, 0, 0)
    os.write(ready, b"1")
    while True:
        signal.pause()


def proc(target: Target, request: Report) -> Report:
    """Does the /proc inside show a process that we start in the pid namespace?"""
    name = request["name"][:15]
    fd = target.open_namespace("pid")
    join_owner(fd)
    setns(fd, CLONE_NEWPID)
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        sleep_named(name.encode(), write_end)
    os.close(write_end)
    try:
        if os.read(read_end, 1) != b"1":
            return {"error": "the process that the check started in it was ended"}
        directory = os.open(f"/proc/{child}", os.O_PATH | os.O_CLOEXEC)
        inner = status_of(directory)["NSpid"].split()[-1]
        return {"pid": int(inner), "comm": _comm_inside(target, inner)}
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _comm_inside(target: Target, inner: str) -> str:
    """What PID/comm says in the /proc of the target's root, walked without following links."""
    here = target.root
    try:
        for part in ("proc", inner):
            here = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=here)
        fd = os.open("comm", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
    except OSError as error:
        return f"({os.strerror(error.errno or 0)})"
    with open(fd, "rb") as file:
        return file.read(64).decode("utf-8", "replace").rstrip("\n")


def birth(target: Target, request: Report) -> Report:
    """Can a process be started in the pid namespace that the target's children get?"""
    try:
        fd = target.open_namespace("pid_for_children")
    except FileNotFoundError:
        return {"unborn": True}  # made, but nobody was born in it yet
    found: Report = {"namespace": identity(fd), "here": _fork_errno()}
    join_owner(fd)
    setns(fd, CLONE_NEWPID)
    found["there"] = _fork_errno()
    return found


def _fork_errno() -> str | None:
    try:
        child = os.fork()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return None
