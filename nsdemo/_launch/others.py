"""A Container that others use, too: threads, a fork of who started it, whoever adopts it."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._core import Process


@contextmanager
def taking_turn(lock: Any, process: Process) -> Iterator[None]:
    """One thread at a time talks to the command, and no other waits for that."""
    if not lock.acquire(blocking=False):
        if process.inherited:
            raise RuntimeError(
                f"a thread of process {process.owner} was in communicate() or interact() when it "
                "was forked: only that process can go on"
            )
        raise RuntimeError(
            "another thread is in communicate() or interact(): one at a time talks to a "
            "container; wait() and poll() may be called from any thread"
        )
    try:
        yield
    finally:
        lock.release()


def unsignalled(process: Process, error: OSError) -> OSError:
    """Why the command could not be signalled, as the exception to raise."""
    if error.errno not in (errno.EPERM, errno.ENOSYS):
        return error
    try:
        os.kill(process.pid, 0)
    except OSError:
        why = "it has other ids, or more power, than this process"
    else:
        why = (
            "a seccomp filter refuses pidfd_send_signal, and only of a child of this process that "
            "nobody else has waited for is the number certain"
        )
    return PermissionError(error.errno, f"process {process.pid} may not be signalled: {why}")


def not_ours(process: Process) -> ChildProcessError:
    return ChildProcessError(
        errno.ECHILD,
        f"the container is a child of process {process.owner}, and this is a fork of that: it "
        "alone can let go of it",
    )
