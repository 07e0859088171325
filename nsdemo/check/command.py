"""``nsdemo check``: the checks for a teacher's command line and for a grader."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..flags import number, seconds
from . import CHALLENGES, c1, c3, c5, grade, s1, s3
from .result import Result

LIVE: dict[str, Callable[[Any], Result]] = {"s1": s1, "s3": s3, "c1": c1, "c3": c3, "c5": c5}

_LIST = "\n".join(f"  {name}  {title}" for name, title in CHALLENGES.items())
DESCRIPTION = f"""\
Check a challenge of the course against the kernel: a solution file, which runs
in a container, or with --pid a process that is running.

{_LIST}"""
EPILOG = """\
exit status: 0 if every fact passed, 1 if not, 125 if no check could be made"""


def main(words: Sequence[str], parser: Callable[..., argparse.ArgumentParser]) -> int:
    """Run the subcommand; ``parser`` makes one that reports mistakes as the other commands do."""
    usage = "ID (FILE | --pid PID) [--json] [--timeout SECONDS]"
    options = parser("check", usage, DESCRIPTION, EPILOG)
    options.add_argument("challenge", metavar="ID", help="one of the above")
    options.add_argument("file", nargs="?", default=None, metavar="FILE", help="a solution")
    options.add_argument("--pid", type=number, metavar="PID", help="look at this process instead")
    options.add_argument("--json", action="store_true", help="print the facts as JSON")
    options.add_argument(
        "--timeout", type=seconds, metavar="SECONDS", help="for a solution; default: 20"
    )
    given = vars(options.parse_args(list(words)))
    challenge, file = given["challenge"], given["file"]
    if challenge not in CHALLENGES:
        options.error(f"there is no challenge {challenge!r}: there are {', '.join(CHALLENGES)}")
    if (file is None) == ("pid" not in given):
        options.error("give a solution file, or a process with --pid, and not both")
    if "timeout" in given and not 0 < given["timeout"] <= 3600:
        options.error("--timeout is a number of seconds, at most 3600")
    if file is None:
        if challenge not in LIVE:
            options.error(f"{challenge} is not about one process: give the file of a solution")
        result = LIVE[challenge](given["pid"])
    else:
        with _tidy_end():
            result = grade(challenge, file, given.get("timeout", 20))
    if "json" in given:
        print(json.dumps(result.as_dict(), indent=2))
    else:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without UTF-8
        print(result)
    return 0 if result.passed else 1


@contextlib.contextmanager
def _tidy_end() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end us by way of every clean-up."""
    before = {}
    for ending in (signal.SIGTERM, signal.SIGHUP):
        before[ending] = signal.signal(ending, lambda got, _: sys.exit(128 + got))
    try:
        yield
    finally:
        for ending, handler in before.items():
            signal.signal(ending, handler)
