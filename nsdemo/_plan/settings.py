"""What few calls ask for, checked: pins, clocks, the domain name, the target's cgroups.

Loaded only by a call that uses one of its keywords.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._errors import printable
from .._request.pins import checked_pins
from .._request.values import CLONE_FLAGS, encode_name

if TYPE_CHECKING:
    from .._core import Wishes
    from .._request.given import SpawnRequest
    from .step import Step

_MOST_SECONDS = (2**63 - 1) // 10**9  # KTIME_SEC_MAX


def spawn_settings(request: SpawnRequest, wanted: Mapping[str, Any], unshare: int) -> Wishes:
    """Those of spawn and run."""
    in_target = not isinstance(wanted["mount"], bool)
    persist, name = request.persist, request.domainname
    wishes: Wishes = {}
    if persist is not None:
        fork, init = bool(request.fork), bool(request.init)
        wishes["pins"] = checked_pins(persist, wanted, unshare, in_target, fork, init)
    if name is not None and wanted["uts"] is not True:
        raise ValueError("domainname= needs uts=True: it would rename the host's domain")
    clocks = {"monotonic": request.monotonic, "boottime": request.boottime}
    offsets = [_offset(clock, by) for clock, by in clocks.items() if by is not None]
    if offsets and wanted["time"] is not True:
        raise ValueError("monotonic= and boottime= need time=True: they are of a new namespace")
    if offsets and (in_target or not isinstance(wanted["user"], bool | None)):
        raise ValueError(
            "monotonic= and boottime= cannot be set after joining a mount or user namespace: "
            "what is mounted on /proc there may be anything"
        )
    if offsets:
        wishes["time_offsets"] = "".join(offsets).encode()
    if name is not None:
        wishes["domainname"] = encode_name("domainname", name)
    return wishes


def _offset(clock: str, seconds: Any) -> str:
    """A line of timens_offsets: whole seconds, and nanoseconds that are never negative."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{clock} is a number of seconds, not {seconds!r}")
    if not math.isfinite(seconds) or not abs(seconds) <= _MOST_SECONDS:
        raise ValueError(f"{clock} is at most {_MOST_SECONDS} seconds, not {seconds}")
    whole = math.floor(seconds)
    nanoseconds = round((seconds - whole) * 10**9)
    if nanoseconds == 10**9:
        whole, nanoseconds = whole + 1, 0
    return f"{clock} {whole} {nanoseconds}\n"


def must_enter_time(steps: Sequence[Step]) -> None:
    """ValueError for a command that would stay outside the time namespace made for it."""
    outside = False
    for step in steps:
        if step.operation == "unshare":
            outside |= bool(step.args[0] & CLONE_FLAGS["time"])
        elif step.operation in ("fork", "init", "enter_time"):
            outside = False
    if outside and [*map(int, re.findall(r"\d+", os.uname().release))] < [6, 2]:
        raise ValueError(
            "a new time namespace takes in only children: before Linux 6.2, .fork() comes "
            "before .exec()"
        )


# -- cgroups -----------------------------------------------------------------------------------


def cgroup_settings(pid: int) -> Wishes:
    """That of enter(join_cgroup=True): the cgroup.procs of each cgroup that is not ours."""
    from .._facts.processes import mounts

    ours, theirs = _cgroups("self"), _cgroups(pid)
    points = {}
    for mount in mounts():
        if mount.kind == "cgroup2":
            points[""] = mount
        elif mount.kind == "cgroup":
            for controller in mount.super_options.split(","):
                points[controller] = mount
    found: dict[str, None] = {}
    for controllers, path in theirs.items():
        mount_ = points.get(controllers.split(",")[0])
        if path == ours.get(controllers) or mount_ is None:
            continue
        below = os.path.relpath(path, mount_.root)
        if path.startswith("/..") or below.startswith(".."):
            raise ValueError(
                f"join_cgroup: {printable(path)} of the hierarchy {controllers or 'cgroup2'} lies "
                f"outside of what is mounted on {printable(mount_.point)}"
            )
        found[os.path.normpath(os.path.join(mount_.point, below, "cgroup.procs"))] = None
    return {"cgroups": tuple(map(os.fsencode, found))}


def _cgroups(pid: int | str) -> dict[str, str]:
    """Controllers ("" is version 2) to path, from /proc/PID/cgroup; see cgroups(7)."""
    with open(f"/proc/{pid}/cgroup", errors="surrogateescape") as file:
        rows = [line.rstrip("\n").split(":", 2) for line in file]
    return {controllers: path for _, controllers, path in rows}
