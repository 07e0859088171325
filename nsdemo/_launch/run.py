"""A plan, launched: what went wrong as an exception, and what came of it as CompletedProcess."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, AnyStr

from .. import _core, _doors
from .._errors import explained, name_unended, setup_failed
from .._plan.explain import describe, hints_for
from .._plan.plan import Plan
from .._plan.step import Step, trace_of
from .._request.given import RunOptions
from .._request.stdio import PIPE, Stdio, check_pass_fds, decode, encode, text_settings
from .._request.values import deadline_of

TimeoutExpired = subprocess.TimeoutExpired
CalledProcessError = subprocess.CalledProcessError


class CompletedProcess(subprocess.CompletedProcess[AnyStr]):
    """subprocess.CompletedProcess and the trace of how the container was made.

    Attributes:
        trace: a tuple of Step, every step of the set-up in order.
        cut: True if the output is not whole: what outlived the command was heard for a second,
            and had not closed its end by then. Never with a pid namespace of its own, in which
            nothing outlives it.

    Example:
        >>> done = nsdemo.run(["echo", "hello"], capture_output=True, text=True)
        >>> done.returncode, done.stdout.strip(), done.trace[-1].operation
        (0, 'hello', 'exec')
    """

    cut: bool = False
    _record: tuple[_core.Plan, _core.Process] | None = None
    _trace: tuple[Step, ...] = ()

    @property
    def trace(self) -> tuple[Step, ...]:
        # Most callers never look, and putting it into words takes longer than some steps.
        if self._record is not None:
            self._trace = trace_of(*self._record)
            self._record = None
        return self._trace

    def check_returncode(self) -> None:
        """Raise CalledProcessError if the status is not 0; it has the trace, too."""
        try:
            super().check_returncode()
        except CalledProcessError as error:
            explained(error, trace=self.trace)
            raise

    def _repr_html_(self) -> str:
        """What a notebook shows: status, output, and how the container was made."""
        return _doors.html("completed", self)

    def __reduce__(self) -> tuple[Any, ...]:
        values = (self.args, self.returncode, self.stdout, self.stderr)
        return CompletedProcess, values, {"_trace": self.trace, "cut": self.cut}


CompletedProcess.__module__ = "nsdemo"


def launch(
    core: _core.Plan,
    stdio: Stdio,
    pass_fds: tuple[int, ...],
    streams: tuple[int, ...] | None,
    input: bytes | None,
    deadline: int,
) -> _core.Process:
    """Start a plan; what went wrong becomes the exception that says so."""
    try:
        process = _core.launch(
            core,
            stdio=tuple(stdio.child),
            pass_fds=pass_fds,
            close_fds=tuple(stdio.close),
            streams=streams,
            input=input,
            deadline=deadline,
            terminal=stdio.terminal,
        )
    except BaseException as error:  # a signal handler's
        name_unended(error, _core.unended())
        raise
    finally:
        stdio.close = []
    if isinstance(process, tuple):
        number, stage = process
        if stage == "descriptors" and number == errno.EBADF:
            stdio.raise_if_closed()
        step = Step("start", (stage,), None, number)
        raise setup_failed(step, (step,), _words_for(step), hints_for(step, core))
    if process.failed >= 0:
        _raise_failure(core, trace_of(core, process), process.said)
    return process


def _words_for(step: Step) -> str:
    """A step of a forged plan may have arguments that no words fit."""
    try:
        return describe(step)
    except (TypeError, ValueError):
        return f"step {step.operation}"


def time_is_over(
    args: Any, timeout: float, core: _core.Plan, process: _core.Process, raw: Sequence[Any]
) -> TimeoutExpired:
    """TimeoutExpired; the process has been ended, or its launch given up."""
    trace = trace_of(core, process)
    hints = []
    if process.abandoned:
        where = f"it had come to: {_words_for(trace[-1])}" if trace else "it had just begun"
        hints.append(f"the command was not started, the container was still being made; {where}")
    # Bytes also in text mode, as subprocess has it: a character may be half read.
    error = explained(timed_out(args, timeout, trace, *raw), *hints)
    name_unended(error, _core.unended())
    return error


def _raise_failure(core: _core.Plan, trace: tuple[Step, ...], said: bytes | None) -> None:
    """``said``: by newuidmap, which tells why in its own words."""
    step = trace[-1]
    hints = hints_for(step, core, trace)
    if step.operation != "exec":
        raise setup_failed(step, trace, _words_for(step), hints, said or b"")
    # Not executable is no failure of the set-up: the plain exception, as subprocess has it.
    path, name = step.args[0], step.args[1]
    # EAGAIN is said before any path is looked up.
    filename = name if step.errno in (errno.ENOENT, errno.EAGAIN) else path
    failure = OSError(step.errno, os.strerror(step.errno), filename)
    raise explained(failure, *hints, trace=trace)


def timed_out(
    args: Any, timeout: float, trace: tuple[Step, ...], out: Any = None, err: Any = None
) -> TimeoutExpired:
    """TimeoutExpired as subprocess has it, and how the container was made."""
    return explained(TimeoutExpired(args, timeout, output=out, stderr=err), trace=trace)


def run_plan(plan: Plan, options: RunOptions | None = None) -> CompletedProcess[Any]:
    """Start a plan, talk to the command, wait for its end: one trip into C.

    ``options``: None are those of the plan.
    """
    remembered = plan._remembered
    options = options or remembered.options
    stdin, stdout, stderr = options.stdin, options.stdout, options.stderr
    if options.capture_output and (stdout is not None or stderr is not None):
        raise ValueError("stdout and stderr may not be used with capture_output")
    deadline = deadline_of(options.timeout)
    if remembered.terminal:
        return _doors.on_terminal(plan, options)
    if options.input is not None:
        if stdin is not None:
            raise ValueError("stdin and input may not both be used")
        stdin = PIPE
    if options.capture_output:
        stdout = stderr = PIPE
    settings = text_settings(options.text, options.encoding, options.errors)
    data = encode(options.input, settings)
    passed = check_pass_fds(options.pass_fds)
    sys.audit("nsdemo.launch", plan)
    args = plan._args
    if remembered.overlay:  # nobody will ask for changes()
        plan = Plan._from_core(plan._core.without("hand_over"))
    stdio = Stdio(stdin, stdout, stderr)
    streams = tuple(stdio.parent)
    stdio.parent = [-1, -1, -1]  # the core closes them, whatever happens
    process = launch(plan._core, stdio, passed, streams, data, deadline)
    out, err = process.output()
    raw = out if streams[1] >= 0 else None, err if streams[2] >= 0 else None
    if process.abandoned or not process.ended:
        process.end()
        process.close()
        assert options.timeout is not None
        raise time_is_over(args, options.timeout, plan._core, process, raw)
    process.close()
    cut = process.cut
    texts = raw if settings is None else [decode(data, settings, cut=cut) for data in raw]
    completed: CompletedProcess[Any] = CompletedProcess(args, returncode_of(process), *texts)
    completed.cut = cut
    completed._record = (plan._core.steps_only(), process)
    if options.check:
        completed.check_returncode()
    return completed


_doors.run = run_plan


def returncode_of(process: _core.Process) -> int:
    """The status of a process that has ended, or who took it away."""
    returncode = process.returncode
    if returncode is None and process.inherited:
        raise ChildProcessError(
            errno.ECHILD,
            f"process {process.pid} has ended; process {process.owner}, whose child it was, alone "
            "was told how",
        )
    if returncode is None and process.adopted:
        raise ChildProcessError(
            errno.ECHILD, f"process {process.pid} has ended; its parent alone was told how"
        )
    if returncode is None:
        raise ChildProcessError(
            errno.ECHILD,
            "the command's status was taken by another waitpid() in this process, or thrown "
            "away because SIGCHLD is ignored",
        )
    return returncode
