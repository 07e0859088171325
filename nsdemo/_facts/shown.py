"""What /proc shows of a process, and what it means that it shows nothing.

/proc alone does not tell that a process has ended: mounted with hidepid it shows others, and one
that is not dumpable (an init of ours), to root alone. Whether a process runs, its pidfd tells.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress


def is_running(pid: int) -> bool:
    """Whether a process runs, visible or not."""
    try:
        fd = os.pidfd_open(pid)
    except PermissionError:  # a filter refuses it
        return os.path.exists(f"/proc/{pid}")
    except OSError as error:
        return error.errno not in (errno.ESRCH, errno.EINVAL, errno.ENOENT)
    import select

    try:
        ended = select.poll()
        ended.register(fd, select.POLLIN)
        return not ended.poll(0)
    finally:
        os.close(fd)


def child_of_init(pid: int) -> int:
    """The command under an init, as we see it; 0 if it has ended. Orphans come after it."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
            return int((children.read().split() or ["0"])[0])
    except OSError:
        return _oldest_child(pid) if is_running(pid) else 0


def _oldest_child(parent: int) -> int:
    """The same where /proc hides the init, but not who says that it is its parent."""
    found = []
    for name in os.listdir("/proc"):
        with suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{int(name)}/stat", "rb") as stat:
                fields = stat.read().rpartition(b")")[2].split()
            if int(fields[1]) == parent:
                found.append((int(fields[19]), int(name)))  # when it was born, in 1/100 s
    return min(found)[1] if found else 0


_HEEDED = ("SigCgt", "SigIgn", "SigBlk")


def is_deaf_to(pid: int, number: int) -> bool:
    """A PID 1 that leaves this signal to its default action, which the kernel then skips."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
        # What it blocks it reads by itself, as our init does.
        heeded = (int(status[name], 16) >> (number - 1) & 1 for name in _HEEDED)
        return status["NSpid"].split()[-1] == "1" and not any(heeded)
    except (OSError, KeyError):  # it has ended, or is another user's
        return False


def uid_of(pid: int) -> int:
    """Its effective user; -1 if that is not to be seen. Who is not dumpable has files of root's."""
    with suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/status", "rb") as status:
        return int(status.read().partition(b"\nUid:")[2].split()[1])
    return -1


def why_hidden() -> str:
    """Why /proc does not show a process that runs."""
    import re

    options = ""
    with suppress(OSError), open("/proc/self/mountinfo", "rb") as file:
        from .tables import parse_mountinfo  # after a chroot neither is there

        for mount in parse_mountinfo(os.fsdecode(file.read())):
            if mount.point == "/proc":  # what is on top comes last
                options = mount.super_options if mount.kind == "proc" else ""
    if hides := re.search(r"\bhidepid=(?!0\b|off\b)(\w+)", options):
        return (
            f"/proc is mounted with hidepid={hides[1]}: it shows a process to root, and to its "
            "owner unless it is not dumpable (as an init of nsdemo is, and a program that its "
            "owner may not read)"
        )
    return "the proc of this pid namespace has to be mounted on /proc"
