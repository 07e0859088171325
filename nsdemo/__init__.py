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

from . import _doors
from ._api import chroot_run, enter, run, spawn
from ._errors import NamespaceError
from ._facts.targets import namespaces
from ._launch.container import Container
from ._launch.run import CalledProcessError, CompletedProcess, TimeoutExpired
from ._plan.plan import Plan
from ._plan.step import Step
from ._request.stdio import DEVNULL, PIPE, STDOUT

if TYPE_CHECKING:
    from ._doctor import Findings, doctor
    from ._launch.changes import Change
    from ._launch.release import release
    from ._request.landlock import Landlock
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


# What a script that only runs commands does not need is loaded when it is asked for.
_LATER = {
    "Change": "_launch.changes",
    "Findings": "_doctor",
    "Landlock": "_request.landlock",
    "Rootfs": "rootfs",
    "doctor": "_doctor",
    "release": "_launch.release",
    **dict.fromkeys(("Bind", "Dev", "Overlay", "Proc", "Sysfs", "Tmpfs"), "mounts"),
}

_doors.enter = enter
_doors.on_terminal = lambda plan, options: __import__(
    "nsdemo._launch.on_terminal"
)._launch.on_terminal.run_on_terminal(plan, options)
_doors.html = lambda picture, thing: getattr(__import__("nsdemo.notebook").notebook, picture)(
    thing
)._repr_html_()


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(__import__(f"nsdemo.{_LATER[name]}", fromlist=[name]), name)
    raise AttributeError(f"module 'nsdemo' has no attribute {name!r}")


def load_ipython_extension(ipython: Any) -> None:
    """``%load_ext nsdemo``: the magics %%chroot, %%spawn, %%enter and %ns."""
    from .notebook.magics import Magics

    Magics(ipython).register()


def unload_ipython_extension(ipython: Any) -> None:
    """``%unload_ext nsdemo``: take the magics away."""
    from .notebook.magics import Magics

    Magics(ipython).unregister()
