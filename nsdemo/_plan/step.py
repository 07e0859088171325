"""A step of a plan as an object: decoded from the core, with what came of it.

``steps_of`` reads what would be done, ``trace_of`` what was done.
"""

from __future__ import annotations

import os
from typing import Any

from .. import _core
from .._facts.shown import child_of_init
from .explain import args_of, system_call


class Step:
    """One step of a plan: an operation, its arguments and, once performed, its outcome.

    Attributes:
        operation: what kind of step it is, such as ``"unshare"`` or ``"mount"``.
        args: its arguments, a tuple of str and int.
        result: what the kernel returned, or None before it was performed or when it failed.
        errno: 0, or the error number.
        start_ns: when it began, on the clock of ``time.monotonic_ns()``; 0 if it did not.
        duration_ns: how long it took, in nanoseconds.
        pid: the process that did it, as the caller sees it; 0 before it was performed. Under
            init, the command may have ended before it could be asked; then the number inside.

    Example:
        >>> step = nsdemo.run(["true"]).trace[-1]
        >>> step.operation, step.args[0], step.errno
        ('exec', 'true', 0)
        >>> print(step)
        [pid ...] execve("true", ["true"], envp) = 0 <... µs>
    """

    __slots__ = ("args", "duration_ns", "errno", "operation", "pid", "result", "start_ns")

    operation: str
    args: tuple[Any, ...]
    result: int | None
    errno: int
    start_ns: int
    duration_ns: int
    pid: int

    def __init__(
        self,
        operation: str,
        args: tuple[Any, ...] = (),
        result: int | None = None,
        errno: int = 0,
        start_ns: int = 0,
        duration_ns: int = 0,
        pid: int = 0,
    ) -> None:
        values = (operation, args, result, errno, start_ns, duration_ns, pid)
        names = ("operation", "args", "result", "errno", "start_ns", "duration_ns", "pid")
        for name, value in zip(names, values, strict=True):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Step does not change")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Step does not change")

    def _key(self) -> tuple[Any, ...]:
        times = (self.start_ns, self.duration_ns)
        return (self.operation, self.args, self.result, self.errno, *times, self.pid)

    def __reduce__(self) -> tuple[object, ...]:
        return Step, self._key()

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Step) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"<Step {self}>"

    def __str__(self) -> str:
        """The step as strace would show it."""
        call = system_call(self.operation, self.args)
        if self.pid == 0:
            return call
        if self.errno:
            import errno as codes

            name = codes.errorcode.get(self.errno, str(self.errno))
            outcome = f"-1 {name} ({os.strerror(self.errno)})"
        else:
            outcome = str(self.result)
        return f"[pid {self.pid}] {call} = {outcome} <{self.duration_ns / 1000:.0f} µs>"


Step.__module__ = "nsdemo"


def steps_of(core: _core.Plan) -> list[Step]:
    """The steps of a plan, none of them performed."""
    argv, _, paths = core.command()
    steps = []
    for operation, flags, numbers, texts in core.steps():
        if operation == "exec":
            args: tuple[Any, ...] = (paths[0] if len(paths) == 1 else argv[0], *argv)
        else:
            args = args_of(operation, flags, numbers, texts)
        steps.append(Step(operation, args))
    return steps


def trace_of(core: _core.Plan, process: _core.Process) -> tuple[Step, ...]:
    """The steps that were performed, with what came of them."""
    planned = steps_of(core)
    command = process.pid
    pids = {step: value for step, error, value, *_ in process.results() if not error}
    inner = next((pids.get(i, 0) for i, step in enumerate(planned) if step.operation == "init"), 0)
    if inner:
        inner = child_of_init(command) or inner
    first = process.first_pid
    trace = []
    for index, error, value, start, duration, who in process.results():
        step = planned[index]
        pid = {1: first, 2: command, 3: inner, 4: process.owner}[who]
        args = step.args
        if step.operation == "exec" and error:
            paths = core.command()[2]
            # The container may have written it.
            args = (paths[max(0, min(value, len(paths) - 1))], *args[1:])
        trace.append(
            Step(step.operation, args, None if error else value, error, start, duration, pid)
        )
    return tuple(trace)
