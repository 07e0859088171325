"""What the tests of nsdemo.check share: programs that make something, and its verdict in JSON.

Each is a real program in an interpreter of its own, as the user that runs the tests or, if that is
root, as one without any power.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import HERE, IMPORTABLE, IS_ROOT, ORDINARY, processor_time

PRELUDE = """\
import os, sys, time
from pathlib import Path
import nsdemo
from nsdemo import check
from support import no_power, report, leftovers, snapshot
"""

# An ordinary user is one already.
POWERS = {"same user": False, "ordinary user": True} if IS_ROOT else {"same user": False}
users = pytest.mark.parametrize("ordinary", POWERS.values(), ids=POWERS)
# What is refused for the same reason, whoever tries it: here with all the power that there is; CI
# runs the tests as an ordinary user, too.
either = pytest.mark.parametrize("ordinary", [False], ids=["same user"])


@functools.cache
def python_of(ordinary: bool) -> str:
    """An interpreter that this user may execute."""
    if not (ordinary and IS_ROOT):
        return sys.executable
    for python in (sys.executable, "/usr/bin/python3"):
        code = "import sys, encodings.ascii; sys.exit(sys.version_info < (3, 11))"
        with_it = [python, "-c", code]
        try:
            ran = subprocess.run(with_it, cwd="/", capture_output=True, **identity(True))
        except OSError:
            continue
        if ran.returncode == 0:
            return python
    pytest.skip("only an ordinary user has a Python here: root's is closed to everybody else")


def identity(ordinary: bool) -> dict[str, Any]:
    """Options of subprocess that turn root into an ordinary user."""
    if not (ordinary and IS_ROOT):
        return {}
    return {"user": ORDINARY, "group": ORDINARY, "extra_groups": []}


@contextlib.contextmanager
def place(ordinary: bool) -> Iterator[Path]:
    """A directory of the user's, in which nothing may be left. Not pytest's: that is root's."""
    folder = Path(tempfile.mkdtemp(prefix="checking-"))
    if ordinary and IS_ROOT:
        os.chown(folder, ORDINARY, ORDINARY)
    try:
        yield folder
        assert not (left := os.listdir(folder)), f"left behind: {left}"
    finally:
        shutil.rmtree(folder)


class Verdict(NamedTuple):
    """A result in JSON, how the program ended, and how much of a processor it took."""

    passed: bool
    facts: list[dict[str, Any]]
    code: int
    seconds: float

    @property
    def failed(self) -> list[str]:
        """What was asked and not so."""
        return [fact["asked"] for fact in self.facts if not fact["passed"]]

    @property
    def seen(self) -> str:
        """What was seen where it failed."""
        return "; ".join(fact["seen"] for fact in self.facts if not fact["passed"])


def live(body: str, ordinary: bool = False, under: Sequence[str] = ()) -> Verdict:
    """Run a program whose last line is report(**RESULT.as_dict()); ``under`` is a prefix."""
    words = ["-W", "error", "-c", PRELUDE + textwrap.dedent(body)]
    return _verdict(run(words, ordinary, under=under))


def grade(
    challenge: str, source: str, folder: Path, ordinary: bool = False, timeout: float = 20
) -> Verdict:
    """``nsdemo check CHALLENGE FILE --json`` of a solution; the file is read by an open one."""
    file = folder / f"solution-{time.monotonic_ns()}.py"
    file.write_text(textwrap.dedent(source))
    words = ["-m", "nsdemo", "check", challenge, "/dev/stdin", "--json", "--timeout", str(timeout)]
    with file.open() as stdin:
        return _verdict(run(words, ordinary, stdin=stdin))


class Ran(NamedTuple):
    """A finished command, and the seconds of a processor that it and its children took.

    By the clock everything takes as long as the machine is busy.
    """

    code: int
    stdout: str
    stderr: str
    seconds: float


def run(
    words: list[str],
    ordinary: bool = False,
    stdin: Any = subprocess.DEVNULL,
    under: Sequence[str] = (),
) -> Ran:
    """Run Python with these words; nothing may be left where temporary files are."""
    with place(ordinary) as folder:
        paths = f"{IMPORTABLE}:{HERE}"
        env = {**os.environ, "PYTHONPATH": paths, "TMPDIR": str(folder), "LC_ALL": "C.UTF-8"}
        before = processor_time()
        ran = subprocess.run(
            [*under, python_of(ordinary), *words],
            **identity(ordinary),
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            cwd="/",
            env=env,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr, processor_time() - before)


def _verdict(ran: Ran) -> Verdict:
    assert ran.code in (0, 1), f"status {ran.code}\n{ran.stdout}\n{ran.stderr}"
    assert not ran.stderr, ran.stderr
    found = json.loads(ran.stdout if ran.stdout.startswith("{\n") else ran.stdout.splitlines()[-1])
    return Verdict(found["passed"], found["facts"], ran.code, ran.seconds)
