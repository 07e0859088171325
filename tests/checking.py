"""What the tests of nsdemo.check share: programs that make something, and its verdict in JSON.

Each is a real program in an interpreter of its own, as the user that runs the tests or, if that is
root, as one without any power.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import HERE, IMPORTABLE, IS_ROOT, ORDINARY, QUIET

PRELUDE = """\
import os, sys, time
import nsdemo
from nsdemo import check
from support import no_power, report, leftovers, snapshot
"""

users = pytest.mark.parametrize("ordinary", [False, True], ids=["same user", "ordinary user"])


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


def environment(folder: Path, ordinary: bool) -> dict[str, str]:
    """Ours, with a directory for temporary files in which nothing may be left."""
    temporary = folder / f"tmp-{ordinary}"
    temporary.mkdir(exist_ok=True)
    if ordinary and IS_ROOT:
        for path in (folder.parent.parent, folder.parent, folder):
            path.chmod(path.stat().st_mode | 0o055)
        os.chown(temporary, ORDINARY, ORDINARY)
    paths = f"{IMPORTABLE}:{HERE}"
    return {**os.environ, "PYTHONPATH": paths, "TMPDIR": str(temporary), "LC_ALL": "C.UTF-8"}


class Verdict(NamedTuple):
    """A result in JSON, how the program ended, and how long it took."""

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


def live(body: str, folder: Path, ordinary: bool = False) -> Verdict:
    """Run a program whose last line is report(**RESULT.as_dict())."""
    command = [python_of(ordinary), "-W", "error", "-c", PRELUDE + textwrap.dedent(body)]
    return _verdict(command, folder, ordinary)


def grade(
    challenge: str, source: str, folder: Path, ordinary: bool = False, timeout: float = 20
) -> Verdict:
    """``nsdemo check CHALLENGE FILE --json`` of a solution."""
    file = folder / f"solution-{time.monotonic_ns()}.py"
    file.write_text(textwrap.dedent(source))
    file.chmod(0o644)
    words = ["check", challenge, str(file), "--json", "--timeout", str(timeout)]
    return _verdict([python_of(ordinary), "-m", "nsdemo", *words], folder, ordinary)


def _verdict(command: list[str], folder: Path, ordinary: bool) -> Verdict:
    env = environment(folder, ordinary)
    start = time.monotonic()
    ran = subprocess.run(
        command,
        **QUIET,
        **identity(ordinary),
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
        env=env,
    )
    seconds = time.monotonic() - start
    assert ran.returncode in (0, 1), f"status {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
    assert not ran.stderr, ran.stderr
    assert not (left := os.listdir(env["TMPDIR"])), f"left behind: {left}"
    found = json.loads(ran.stdout if ran.stdout.startswith("{\n") else ran.stdout.splitlines()[-1])
    return Verdict(found["passed"], found["facts"], ran.returncode, seconds)
