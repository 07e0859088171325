"""Why a namespace was not pinned: hints for the steps of ``_request/pins.py``."""

from __future__ import annotations

import errno
import os

from .._facts import machine
from .case import NEWNS, Case, Hints


def _is_shared(path: str) -> bool:
    """Does the mount that a path lies in tell others of what is mounted in it?"""
    folder = os.path.realpath(os.path.dirname(path)) + "/"
    holding = [m for m in machine.mounts() if folder.startswith(m.point.rstrip("/") + "/")]
    # The longest is the innermost, and of two on one point the later covers the earlier.
    innermost = max(enumerate(holding), key=lambda pair: (len(pair[1].point), pair[0]))[1]
    return innermost.propagation.startswith("shared:")


def explain_pin(case: Case) -> Hints:
    """A file on which a namespace may not be mounted."""
    file, path = case.step.args
    folder = os.path.dirname(path)
    if case.errno == errno.EEXIST:
        yield f"a namespace is pinned there already: nsdemo.release({path!r}) lets go of it"
    elif case.errno == errno.ENOENT and not machine.exists("/proc/self/ns"):
        yield (
            "there is no procfs on /proc, by which a namespace is pinned: mount -t proc proc /proc"
        )
    elif case.errno == errno.ENOENT and not os.path.isdir(folder or "."):
        yield f"there is no directory {folder}: the file is made, its directory is not"
    elif case.errno == errno.ELOOP:
        yield "it is a link, and none is followed there: name the file itself"
    elif case.errno == errno.EISDIR:
        yield "it is a directory; a namespace is a file, and is mounted on one"
    elif case.errno == errno.EINVAL and file == "mnt":
        if _is_shared(path):
            yield (
                f"{folder} lies in a shared mount, which would show the new mount namespace to "
                "itself: leave propagation at private, or pin it below a private mount (mount "
                "--bind DIR DIR; mount --make-private DIR)"
            )
        else:
            yield (
                "a mount namespace can be pinned only in one that the kernel counts as older, "
                "and Linux 6.18 counts on each CPU: the one that this Python is in was made on "
                "another CPU than the new one now. Try again on another CPU (taskset, "
                "os.sched_setaffinity), or pin it from the machine's first mount namespace"
            )
    elif case.errno not in (errno.EPERM, errno.EACCES) or case.joined(NEWNS):
        return
    elif not machine.passes_on(machine.CAP_SYS_ADMIN):
        yield (
            f"a pin is a mount, and uid {os.geteuid()} may not mount here. It may in a "
            "container of its own, which then holds the pin: holder = "
            'nsdemo.spawn(["sleep", "infinity"]), and here mount=holder, user=holder'
        )
