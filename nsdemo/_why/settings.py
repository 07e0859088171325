"""Why a clock was not set, or a cgroup not joined: hints for the steps of ``_plan/settings.py``."""

from __future__ import annotations

import errno
import os
import time

from .._facts import machine
from .case import NEWUSER, Case, Hints, filtered

CAP_SYS_TIME = 25


def explain_offsets(case: Case) -> Hints:
    """Offsets that the kernel does not take."""
    if case.errno == errno.ERANGE:
        now = {"monotonic": time.CLOCK_MONOTONIC, "boottime": time.CLOCK_BOOTTIME}
        shown = ", ".join(f"{name} is at {time.clock_gettime(n):.0f}" for name, n in now.items())
        yield (
            f"no clock may be set before 0 or beyond 146 years ({shown} seconds here): an offset "
            "is added to that"
        )
    elif case.errno in (errno.EPERM, errno.EACCES):
        if not case.unshared(NEWUSER) and not machine.passes_on(CAP_SYS_TIME):
            yield (
                f"clocks are set with CAP_SYS_TIME, which uid {os.geteuid()} has not: add user=True"
            )
        else:
            yield from filtered()
    elif case.errno == errno.ENOENT:
        yield "this kernel has no time namespaces (Linux 5.6, CONFIG_TIME_NS)"


def explain_cgroup(case: Case) -> Hints:
    """A cgroup that takes nobody in."""
    path = case.step.args[0]
    if case.errno in (errno.EACCES, errno.EPERM):
        yield (
            f"uid {os.geteuid()} may not move processes to the target's cgroup: leave join_cgroup "
            f"out, or be who may write to {path}"
        )
    elif case.errno == errno.ENOENT:
        yield "the target's cgroup has gone: the target has ended, or was moved"
    elif case.errno == errno.EBUSY:
        yield "that cgroup passes controllers on to others, and holds no process itself"
    elif case.errno == errno.ENOSPC:
        yield f"its cpuset has no CPU or memory node: write cpuset.cpus and .mems beside {path}"
