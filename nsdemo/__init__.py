"""nsdemo: make a container from Python, step by step, and see what the kernel did.

A ten-line tour:

    >>> import nsdemo
    >>> rootfs = nsdemo.Rootfs.from_host(["cat", "ls", "sleep"])   # a root to run in
    >>> nsdemo.chroot_run(rootfs, ["ls", "/bin"], capture_output=True).stdout   # 1: another "/"
    b'cat\\nls\\nsleep\\n'
    >>> box = nsdemo.spawn(["sleep", "60"], root=rootfs)            # 2: a container
    >>> box.namespaces["pid"] == nsdemo.namespaces()["pid"]
    False
    >>> nsdemo.enter(box, ["cat", "/proc/1/comm"], capture_output=True).stdout  # 3: join it
    b'sleep\\n'
    >>> print(box.trace[-1])                                       # what the kernel did
    [pid ...] execve("sleep", ["sleep", "60"], envp) = 0 <... µs>
    >>> box.stop(); rootfs.remove()
    -9

Chapter 0 is ``nsdemo.doctor()``: what this machine allows, and who forbids the rest.
"""

from __future__ import annotations

import sys

if sys.platform != "linux":
    raise ImportError("nsdemo needs Linux: namespaces are a feature of that kernel")

from typing import TYPE_CHECKING, Any

from ._api import chroot_run, enter, run, spawn
from ._container import Container
from ._errors import NamespaceError
from ._plan import Plan
from ._run import CalledProcessError, CompletedProcess, TimeoutExpired
from ._stdio import DEVNULL, PIPE, STDOUT
from ._step import Step
from ._targets import namespaces

if TYPE_CHECKING:
    from ._changes import Change
    from ._landlock import Landlock
    from ._pins import release
    from .doctor import Findings, doctor
    from .mounts import Bind, Dev, Overlay, Proc, Sysfs, Tmpfs
    from .rootfs import Rootfs

__version__ = "0.1.0"

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "Bind",
    "CalledProcessError",
    "Change",
    "CompletedProcess",
    "Container",
    "Dev",
    "Findings",
    "Landlock",
    "NamespaceError",
    "Overlay",
    "Plan",
    "Proc",
    "Rootfs",
    "Step",
    "Sysfs",
    "TimeoutExpired",
    "Tmpfs",
    "chroot_run",
    "doctor",
    "enter",
    "namespaces",
    "release",
    "run",
    "spawn",
]


def __getattr__(name: str) -> Any:
    """Load what a script that only runs commands does not need when it is asked for."""
    if name == "Rootfs":
        from .rootfs import Rootfs

        return Rootfs
    if name == "Change":
        from ._changes import Change

        return Change
    if name == "Landlock":
        from ._landlock import Landlock

        return Landlock
    if name == "release":
        from ._pins import release

        return release
    if name in ("Bind", "Dev", "Overlay", "Proc", "Sysfs", "Tmpfs"):
        from . import mounts

        return getattr(mounts, name)
    if name in ("doctor", "Findings"):
        import importlib

        module = importlib.import_module("nsdemo.doctor")
        # Importing it put the module where its function belongs.
        globals().update(doctor=module.doctor, Findings=module.Findings)
        return globals()[name]
    raise AttributeError(f"module 'nsdemo' has no attribute {name!r}")


def load_ipython_extension(ipython: Any) -> None:
    """``%load_ext nsdemo``: the magics %%chroot, %%spawn, %%enter and %ns."""
    from .notebook.magics import Magics

    Magics(ipython).register()


def unload_ipython_extension(ipython: Any) -> None:
    """``%unload_ext nsdemo``: take the magics away."""
    from .notebook.magics import Magics

    Magics(ipython).unregister()
