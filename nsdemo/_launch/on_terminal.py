"""A run of a command that has a terminal of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .._errors import name_unended
from .._request.stdio import PIPE
from .._request.values import deadline_of
from .container import Container
from .interact import must_be_terminal
from .run import CompletedProcess, TimeoutExpired

if TYPE_CHECKING:
    from .._plan.plan import Plan
    from .._request.given import RunOptions


def run_on_terminal(plan: Plan, options: RunOptions) -> CompletedProcess[Any]:
    """Run a plan whose command has a terminal: collect what it writes, or be its terminal."""
    if options.input is not None:
        raise ValueError("input= cannot be given to a command on a terminal")
    collects = options.capture_output or PIPE in (options.stdin, options.stdout, options.stderr)
    if not collects:
        must_be_terminal("run", "capture_output=True collects what the command writes")
    timeout = options.timeout
    deadline = deadline_of(timeout)
    box = Container._start(plan, options)
    left = None if timeout is None else max(0, deadline - time.monotonic_ns()) / 1e9
    out = err = None
    try:
        if collects:
            out, err = box.communicate(timeout=left)
        else:
            box.interact(left)
    except BaseException as error:
        if isinstance(error, TimeoutExpired) and timeout is not None:
            error.timeout = timeout
        name_unended(error, box._process.end())
        box._process.close()
        raise
    finally:
        box._close_files()
    completed: CompletedProcess[Any] = CompletedProcess(box.args, box.wait(), out, err)
    completed._record = (plan._core.steps_only(), box._process)
    completed.cut = box.cut
    box._process.close()
    if options.check:
        completed.check_returncode()
    return completed
