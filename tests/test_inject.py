"""System calls of a launch refused one by one: tests/inject says what is right then."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from support import HERE, SLOW

pytestmark = pytest.mark.usefixtures("ordinary_users_may")


def inject(*options: str, seconds: float = 60) -> tuple[int, list[dict[str, str]], str]:
    """The status, what was wrong, and the last line."""
    if shutil.which("cc") is None:
        pytest.skip("there is no cc (on Debian: apt-get install gcc)")
    command = [sys.executable, HERE / "inject", *options]
    ran = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds * SLOW
    )
    assert ran.stdout, ran.stderr
    *wrong, last = ran.stdout.splitlines()
    assert last.startswith("seed "), f"{ran.stdout}\n{ran.stderr}"
    return ran.returncode, [json.loads(line) for line in wrong], last


def test_what_is_wrong_is_found() -> None:
    """Six launches that leak, litter, hang and lie when their host name is refused."""
    status, wrong, last = inject(
        "--wrong", "--only", "warm launch sethostname", "--each", "--patience=0.5"
    )
    found = {each["case"].split()[0]: each["problem"] for each in wrong}
    assert status == 1, last
    for recipe, problem in {
        "leaks": "left behind: descriptors: ",
        "lives_on": "left behind: children: ",
        "litters": "left behind: files: ",
        "hangs": "hang: ",
        "lies": "a success that was none: ",
        "misnames": "errno 18 is raised",
    }.items():
        assert found.pop(recipe, "").startswith(problem), (recipe, wrong)
    assert not found


def test_at_random() -> None:
    """The same ones each time; those of another seed with --long."""
    status, wrong, last = inject("--cases=250", "--seed=1", "--seconds=8")
    assert status == 0, [f"{each['case']}: {each['problem']}" for each in wrong]
    assert int(last.split()[2]) > 20, last


@pytest.mark.long
def test_ten_thousand_at_random() -> None:
    status, wrong, last = inject("--cases=10000", seconds=3600)
    print(last)
    assert status == 0, [f"{each['case']}: {each['problem']}" for each in wrong]
