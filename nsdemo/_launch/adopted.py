"""A process that somebody else started, looked at before it becomes a Container."""

from __future__ import annotations

import errno
import os
import signal
from contextlib import suppress
from typing import Any, NamedTuple

from .. import _core
from .._facts.processes import patience, read_process
from .._facts.targets import pid_of_pidfd

_INIT = "nsdemo-init"
_EXECUTES = 0.5  # seconds for what takes microseconds on a machine at rest


class Found(NamedTuple):
    """Its command line, its root if that is not ours, and whether it is an init of ours."""

    args: list[str]
    root: str | None
    is_init: bool


def taken_in(target: Any) -> tuple[_core.Process, list[str], str | None]:
    """(the process, its command line, its root if that is not ours) of Container.adopt."""
    pid, pidfd = _open(target)
    try:
        if pid == os.getpid():
            raise ValueError("this is our own process: it cannot be taken in")
        found = _read(pid)
        _must_be_there(pidfd)  # so it was the one that we read of
        return _core.adopt(pid, pidfd, found.is_init), found.args, found.root
    except BaseException:
        os.close(pidfd)
        raise


def _must_be_there(pidfd: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except OSError as error:
        # Somebody else's, and alive; or a filter refuses the call.
        if error.errno not in (errno.EPERM, errno.ENOSYS):
            raise


def _open(target: Any) -> tuple[int, int]:
    if isinstance(target, bool) or not (isinstance(target, int) or hasattr(target, "fileno")):
        raise TypeError(
            "adopt takes a pid, or an object whose fileno() is a pidfd, not "
            f"{type(target).__name__}"
        )
    if isinstance(target, int):
        return target, _open_pid(target)
    pidfd = os.dup(target.fileno())
    try:
        pid = pid_of_pidfd(pidfd)
        if pid is None:
            raise ValueError("the object's fileno() is no pidfd")
        if pid <= 0:
            raise ProcessLookupError(errno.ESRCH, "the process of this pidfd has ended")
    except BaseException:
        os.close(pidfd)
        raise
    return pid, pidfd


def _open_pid(pid: int) -> int:
    if not 1 <= pid < 2**22 + 1:
        raise ValueError(f"a pid is a number from 1 to {2**22}, not {pid}")
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        # EINVAL before Linux 6.15, ENOENT since: the number is a thread's.
        if error.errno in (errno.EINVAL, errno.ENOENT):
            raise ValueError(f"{pid} is a thread; its process has another number") from None
        if error.errno != errno.ESRCH:
            raise
    raise ProcessLookupError(errno.ESRCH, f"there is no process {pid}: it has ended, or never was")


def _words(pid: int) -> tuple[str, ...]:
    """Its command line, which is its parent's or empty while the kernel executes it."""
    found = read_process(pid, patience(_EXECUTES))
    return found.args if found else ()


def _read(pid: int) -> Found:
    name = ""
    root = None
    args = list(_words(pid))
    with suppress(OSError):  # read later than those, for it changes earlier
        with open(f"/proc/{pid}/comm", errors="surrogateescape") as comm:
            name = comm.read().rstrip("\n")
        if name == _INIT:
            args = args[:1]  # it has wiped the others
    with suppress(OSError):  # not ours to look at
        inside = f"/proc/{pid}/root"
        if not os.path.samestat(os.stat(inside), os.stat("/")):
            root = inside
    return Found(args or [name] * bool(name), root, name == _INIT)
