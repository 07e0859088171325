"""The command line: the three calls with flags, doctor, tour, learn and lsns.

The flags are in ``flags``. Exit statuses are those of chroot(1), env(1) and timeout(1): 125, which
no command of one's own is likely to use, says that nsdemo itself failed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from .. import __version__
from .._errors import NamespaceError, printable
from ..flags import Parser, read

if TYPE_CHECKING:
    from .._plan.plan import Plan
    from .._plan.step import Step

TIMED_OUT = 124
SETUP_FAILED = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127
KILLED = 128

USAGE = """\
usage: nsdemo COMMAND ...

  nsdemo tour                                  a container, made step by step before your eyes
  nsdemo learn  [OPTION...] [DIR]              the lessons, as notebooks in JupyterLab
  nsdemo doctor                                what this machine allows, and who forbids the rest
  nsdemo chroot [OPTION...] ROOT [CMD...]      run a command under another / (as chroot)
  nsdemo spawn  [OPTION...] [CMD...]           run a command in new namespaces (as unshare)
  nsdemo enter  [OPTION...] PID [CMD...]       run a command inside a container (as nsenter)
  nsdemo lsns   [OPTION...] [PID]              list namespaces and who is in them
  nsdemo check  ID (FILE | --pid PID)          check a challenge of the course

nsdemo COMMAND --help tells more; nsdemo --version."""


# -- the three calls -----------------------------------------------------------------------


def _call(name: str, words: Sequence[str]) -> int:
    """Make the plan, then print it or run it."""
    from .foreground import streams

    call = read(name, words)
    stdio = streams(call)
    shells = [["sh"], ["bash"]] if call.inside else [[os.environ.get("SHELL") or "sh"], ["sh"]]
    commands = [call.command] if call.command else shells
    for number, args in enumerate(commands, 1):
        plan = call.plan(args, **stdio)
        if call.dry_run:
            print(plan)
            return 0
        try:
            return _run(plan, call.timeout, call.trace)
        except FileNotFoundError as error:
            if isinstance(error, NamespaceError) or number == len(commands):
                raise
    raise AssertionError("there is a command to try, or an error")


def _run(plan: Plan, timeout: float | None, with_trace: bool) -> int:
    from .foreground import run

    box, code, late = run(plan, timeout)
    if with_trace:
        _print_trace(box.trace)
    if late:
        _complain(f"the command was ended after {timeout:g} seconds")
        return TIMED_OUT
    return KILLED - code if code < 0 else code


# -- words ---------------------------------------------------------------------------------


def _complain(message: str) -> None:
    with contextlib.suppress(OSError):
        print("nsdemo:", printable(message.replace("\n", " ")), file=sys.stderr)


def _print_trace(trace: Sequence[Step]) -> None:
    with contextlib.suppress(OSError):
        print(*trace, sep="\n", file=sys.stderr)


def _report(error: Exception) -> int:
    """One line that says what went wrong, hints, and the exit status for it."""
    executed = hasattr(error, "trace") and not isinstance(error, NamespaceError)
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    _complain(text)
    for note in getattr(error, "__notes__", ()):
        _complain(f"hint: {note}")
    if not executed:
        return SETUP_FAILED
    return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE


def _doctor(words: Sequence[str]) -> int:
    usage = "what this machine allows, and who forbids the rest"
    Parser("doctor", "", usage.capitalize() + ".", "").parse_args(words)
    from .._doctor import doctor

    print(doctor())
    return 0


def tour(words: Sequence[str]) -> int:
    Parser("tour", "", "Make a container step by step, and see it.", "").parse_args(words)
    from . import tour

    return tour.main()


def learn(words: Sequence[str]) -> int:
    from . import learn

    return learn.main(words)


def lsns(words: Sequence[str]) -> int:
    from . import lsns

    return lsns.main(words)


def _check(words: Sequence[str]) -> int:
    from ..check import command

    return command.main(words, Parser)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "chroot": partial(_call, "chroot"),
    "spawn": partial(_call, "spawn"),
    "enter": partial(_call, "enter"),
    "doctor": _doctor,
    "tour": tour,
    "learn": learn,
    "lsns": lsns,
    "check": _check,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (default: this process's) and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = words[0] if words else "--help"
    try:
        if name in COMMANDS:
            status = COMMANDS[name](words[1:])
        elif name in ("-h", "--help", "help"):
            print(USAGE)
            status = 0 if words else SETUP_FAILED
        elif name == "--version":
            print("nsdemo", __version__)
            status = 0
        else:
            _complain(f"there is no command {name!r}: the commands are {', '.join(COMMANDS)}")
            status = SETUP_FAILED
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # "| head" has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return KILLED + signal.SIGPIPE
    except KeyboardInterrupt:
        return KILLED + signal.SIGINT
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, NamespaceError) and "--trace" in words:
            _print_trace(error.trace)
        return _report(error)
