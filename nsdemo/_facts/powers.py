"""What a process may do, read from /proc at this moment. Public in ``nsdemo.kernel``."""

from __future__ import annotations

import errno
import os
from typing import Any, NamedTuple

from .._request.power import capability_names
from .processes import _read, pid_of
from .targets import unreadable

_MODES = {"0": "none", "1": "strict", "2": "filter"}


class Power(NamedTuple):
    """The power of a process, as capabilities(7) and proc_pid_status(5) have it.

    effective    names of the capabilities that the kernel looks at now
    permitted    those that it may make effective
    bounding     those that a program can still give it
    inheritable  those that a program that wants them keeps
    ambient      those that any program keeps, root or not
    seccomp      "none", "strict" or "filter"; None if this kernel does not say
    no_new_privs whether no program can give it more
    """

    effective: frozenset[str]
    permitted: frozenset[str]
    bounding: frozenset[str]
    inheritable: frozenset[str]
    ambient: frozenset[str]
    seccomp: str | None
    no_new_privs: bool


def power(target: Any = None) -> Power:
    """The capabilities of a process by name, its seccomp mode, and whether it may gain more.

    Capabilities hold in its own user namespace and over what that owns. Of ourselves it is the
    calling thread.

    Raises ProcessLookupError if the target has ended.

    Source: capabilities(7), proc_pid_status(5).

        >>> with nsdemo.spawn(["sleep", "60"], capabilities=["CAP_KILL"]) as weak:
        ...     sorted(kernel.power(weak).effective)
        ['CAP_KILL']
    """
    pid = pid_of(target)
    text = _read(pid, "status" if target is not None else f"task/{_thread()}/status")
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    if "CapEff" not in fields:
        raise unreadable(pid, ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)))
    effective, permitted, bounding, inheritable, ambient = (
        frozenset(capability_names(int(fields.get(f"Cap{name}", "0"), 16)))
        for name in ("Eff", "Prm", "Bnd", "Inh", "Amb")
    )
    seccomp = _MODES.get(fields.get("Seccomp", ""))
    forbidden = fields.get("NoNewPrivs") == "1"
    return Power(effective, permitted, bounding, inheritable, ambient, seccomp, forbidden)


def _thread() -> int:
    import threading

    return threading.get_native_id()
