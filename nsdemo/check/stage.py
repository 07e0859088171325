"""A program: PID 1 of the outer container. It starts the inner one, and waits.

It runs as ``python -I -S stage.py TASK``. When its standard input ends, because the grader has
finished or is gone, it ends, and the kernel ends everything else in the container.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import sys
from typing import Any

PR_SET_DUMPABLE = 4
KEYCTL_JOIN_SESSION_KEYRING = 1
MS_NOSUID, MS_NODEV = 2, 4


def leave_keyring() -> None:
    """Have a session keyring of our own: the grader's is inherited, and no namespace hides it."""
    number = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)
    if number is not None:  # keyctl(2); where it is refused, nobody inside can use it either
        ctypes.CDLL(None).syscall(number, KEYCTL_JOIN_SESSION_KEYRING, None)


def inner(task: dict[str, Any]) -> Any:
    """The plan of the inner container."""
    import nsdemo

    plan = nsdemo.Plan().unshare("user").map_root()
    plan = plan.unshare("mount", "uts", "ipc", "pid", "net").fork()
    scratch = MS_NOSUID | MS_NODEV
    if "attack" in task:
        jail = task["jail"]
        plan = plan.make_private("/").bind(jail, jail)
        plan = plan.mount("tmpfs", f"{jail}/tmp", "tmpfs", scratch)
        plan = plan.mount("proc", f"{jail}/proc", "proc")
        plan = plan.chroot(jail) if task["method"] == "chroot" else plan.pivot_root(jail)
        return plan.chdir("/tmp").exec(task["attack"])
    plan = plan.mount("tmpfs", "/tmp", "tmpfs", scratch).mount("proc", "/proc", "proc")
    # Shared, as on most machines: who forgets to make mounts private shall see it.
    plan = plan.propagation("shared", "/").chdir("/tmp")
    words = [task["python"], "-I", "-S", "/nsdemo/nsdemo/check/runner.py"]
    return plan.exec([*words, *map(str, task["descriptors"])])


def main() -> int:
    """Start the inner container, and end with it or with the grader."""
    sys.path.insert(0, "/nsdemo")
    task = json.loads(sys.argv[1])
    leave_keyring()
    import nsdemo

    plan = inner(task)
    try:
        box = plan.start(stdin=nsdemo.DEVNULL, pass_fds=task["descriptors"])
    except OSError as error:
        print(error, *getattr(error, "__notes__", ()), sep="; ", file=sys.stderr, flush=True)
        return 125
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    for fd in task["descriptors"]:
        os.close(fd)  # the grader sees the end of the stream when the inner one has ended
    select.select([0, box.pidfd], [], [])
    code = box.poll()
    return 0 if code is None else code if code >= 0 else 128 - code


if __name__ == "__main__":
    os._exit(main())
