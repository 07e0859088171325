"""The pid namespaces of a process: what its /proc shows, and who can be born in them.

Part of the program look.py. Nothing of the check's own goes in: nsdemo's launcher does, for a child
that executes nothing.
"""

from __future__ import annotations

import errno
import os

import nsdemo

from .target import Report, Target, identity

_NOWHERE = "/nsdemo-check/no-such-program"


def proc(target: Target, request: Report) -> Report:
    """The pid namespace that the /proc inside has the process in, by the number it has there."""
    inner = target.status["NSpid"].split()[-1]
    here, places = target.root, []
    try:
        for part in ("proc", inner, "ns"):
            here = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=here)
            places.append(os.fstat(here).st_dev)
        shown = os.readlink("pid", dir_fd=here)
    except OSError as error:
        shown = f"({os.strerror(error.errno or 0)})"
    else:
        if len({*places}) > 1:
            shown = "(something else is mounted there)"
    return {"pid": int(inner), "shown": shown}


def birth(target: Target, request: Report) -> Report:
    """Can a process be started in the pid namespace that the target's children get?"""
    try:
        fd = target.open_namespace("pid_for_children")
    except FileNotFoundError:
        return {"unborn": True}  # made, but nobody was born in it yet
    there = f"/proc/self/fd/{fd}"
    return {"namespace": identity(fd), "here": _errno_of(False), "there": _errno_of(there)}


def _errno_of(pid: str | bool) -> str | None:
    """Why a child is not started in a pid namespace; None if it would be."""
    try:
        nsdemo.run([_NOWHERE], pid=pid, mount=False, uts=False, ipc=False)
    except FileNotFoundError:  # there was somebody to execute it
        return None
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    raise AssertionError(_NOWHERE)
