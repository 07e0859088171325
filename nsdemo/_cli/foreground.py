"""A command in the foreground: wait as a shell would."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from typing import TYPE_CHECKING, Any

from .._facts.shown import is_deaf_to
from .._launch.run import TimeoutExpired
from .._request.stdio import DEVNULL

if TYPE_CHECKING:
    from types import FrameType

    from .._launch.container import Container
    from .._plan.plan import Plan
    from ..flags import Call


def streams(call: Call) -> dict[str, Any]:
    """The stdio arguments of a command in the foreground.

    Who has the caller's terminal open may type into it (TIOCSTI) where the kernel lets him: real
    root, always. So what of 0, 1 and 2 is a terminal becomes one of the command's own. In front
    of a pipe the keyboard is left to others, such as a pager, unless it is asked for.
    """
    wanted = call.keywords.get("tty")
    if wanted is None and call.keywords.get("start_new_session") is False:
        return {}
    names = ("stdin", "stdout", "stderr")
    others = {name: fd for fd, name in enumerate(names) if not os.isatty(fd)}
    if wanted is False or len(others) == len(names):
        if wanted:
            raise ValueError("--tty connects the terminal that nsdemo is on, and there is none")
        return {}
    if wanted is None and "stdin" not in others and stat.S_ISFIFO(os.fstat(1).st_mode):
        others["stdin"] = DEVNULL
    return {"tty": True, **others}


def run(plan: Plan, timeout: float | None = None) -> tuple[Container[Any], int, bool]:
    """Start a plan on our own standard streams, or be its terminal, and wait for its end.

    Signals that reach this process meanwhile are for the command. Returns the container, its
    returncode, and whether it was ended because ``timeout`` seconds were over. Raises what
    Plan.start raises.
    """
    late = False
    with _Signals(plan) as signals:
        box = plan.start()
        try:
            signals.box = box
            signals.catch_up()
            if "terminal" in signals.steps:
                from .._launch.interact import relay

                relay(box, timeout)
            else:
                box.wait(timeout)
        except TimeoutExpired:
            late = True
            _stop(box)
        except _StopRequested:
            _stop(box)
        finally:
            signals.box = None
            if box.returncode is None:
                box.kill()
        return box, box.wait(), late


def _stop(box: Container[Any]) -> None:
    try:
        box.stop()
    except _StopRequested:  # asked for a second time: no more patience
        box.kill()
        box.wait()


class _StopRequested(BaseException):
    """Leaves the wait: the container is to end."""


class _Signals:
    """While the command runs, signals are for the command.

    What the terminal sends (Ctrl-C, Ctrl-\\) reaches a command in our session by itself; one in
    a session of its own gets it from here. The kernel drops it for a PID 1 that has no handler,
    which Ctrl-C would then not end: that container is killed instead.
    """

    def __init__(self, plan: Plan) -> None:
        self.box: Container[Any] | None = None
        self.steps = {step.operation for step in plan}
        self._early: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a shell's "&"
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def catch_up(self) -> None:
        """Deliver what came before there was a command."""
        while self._early:
            self._handle(self._early.pop(0), None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        box = self.box
        if box is None:
            self._early.append(number)
        elif box.returncode is not None:
            return
        elif number == signal.SIGTERM:
            raise _StopRequested
        elif not self.steps & {"init"} and is_deaf_to(box.pid, number):
            box.kill()
        elif number == signal.SIGHUP or self.steps >= {"init", "setsid"}:
            box.send_signal(number)
        elif "setsid" in self.steps:
            with contextlib.suppress(OSError):
                os.killpg(box.pid, number)
