"""``nsdemo check`` on the command line, and how a result shows itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from checking import run
from support import IMPORTABLE

import nsdemo
from nsdemo import check
from nsdemo.check import Fact, Result

# -- the command ---------------------------------------------------------------------------

CHECK = ["-m", "nsdemo", "check"]


@pytest.mark.usefixtures("ordinary_users_may")
def test_a_process_is_checked_by_its_pid(rootfs: Path) -> None:
    with nsdemo.spawn(["sleep", "600"], root=rootfs) as box:
        ran = run([*CHECK, "s1", "--pid", str(box.pid)])
    assert (ran.code, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert lines[0] == "s1: pivot_root instead of chroot: passed (6 of 6 facts)"
    assert [line for line in lines if line.startswith(("pass  ", "fail  "))] == lines[1::2]
    assert ran.seconds < 2


@pytest.mark.usefixtures("ordinary_users_may")
@pytest.mark.parametrize("challenge", ["s1", "s3", "c1", "c3"])
def test_a_process_that_solves_nothing_is_status_1(challenge: str) -> None:
    with nsdemo.spawn(["sleep", "600"], mount=False, uts=False, ipc=False, pid=False) as box:
        ran = run([*CHECK, challenge, "--pid", str(box.pid), "--json"])
    assert (ran.code, ran.stderr) == (1, "")
    found = json.loads(ran.stdout)
    assert found["challenge"] == challenge
    assert found["title"] == check.CHALLENGES[challenge]
    assert found["passed"] is False
    for fact in found["facts"]:
        assert list(fact) == ["asked", "passed", "seen", "question"]
        assert bool(fact["question"]) is not fact["passed"]


def test_json_for_a_process_that_is_gone() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    ran = run([*CHECK, "s1", "--pid", str(child.pid), "--json"])
    (fact,) = json.loads(ran.stdout)["facts"]
    assert ran.code == 1
    assert "has ended" in fact["seen"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: ID"),
        (["s9", "x.py"], "there is no challenge 's9': there are s1, s2, s3, c1, c2, c3"),
        (["s1"], "give a solution file, or a process with --pid, and not both"),
        (["s1", "x.py", "--pid", "1"], "and not both"),
        (["s2", "--pid", "1"], "s2 is not about one process: give the file of a solution"),
        (["c9", "--pid", "1"], "c9 is not about one process: give the file of a solution"),
        (["s1", "--pid", "x"], "invalid number value: 'x'"),
        (["s1", "--pid", "0"], "a pid is a number from 1"),
        (["s1", "no-such-file.py"], "no-such-file.py: No such file or directory"),
        (["s1", "/dev/null"], "/dev/null is no regular file"),
        (["s1", "x.py", "--timeout", "0"], "--timeout is a number of seconds"),
        (["s1", "x.py", "--timeout", "nan"], "invalid number of seconds value: 'nan'"),
    ],
)
def test_bad_words_are_status_125_and_one_sentence(words: list[str], said: str) -> None:
    ran = run([*CHECK, *words])
    assert ran.code == 125
    assert ran.stdout == ""
    assert ran.stderr.startswith("nsdemo: ")
    assert said in ran.stderr


def test_help_names_every_challenge() -> None:
    ran = run([*CHECK, "--help"])
    assert ran.code == 0
    for name, title in check.CHALLENGES.items():
        assert f"  {name}  {title}\n" in ran.stdout
    assert "  nsdemo check " in run(["-m", "nsdemo"]).stdout


def test_a_terminal_without_utf_8() -> None:
    env = {**os.environ, "PYTHONPATH": IMPORTABLE, "PYTHONIOENCODING": "ascii"}
    code = (
        "import sys; from nsdemo import check; from nsdemo._cli import main\n"
        "from nsdemo.check import command, Fact, Result\n"
        "command.LIVE['s1'] = lambda pid: Result('s1', [Fact('asked', False, '\\u00e9' * 999)])\n"
        "sys.exit(main.main(['check', 's1', '--pid', '1']))"
    )
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "\\xe9" in ran.stdout


def test_what_the_check_costs_to_import() -> None:
    """Not a name of it is loaded by ``import nsdemo``, and no notebook by ``nsdemo.check``."""
    code = "import nsdemo, sys; print(*sys.modules, '|'); import nsdemo.check; print(*sys.modules)"
    ran = run(["-c", code])
    before, after = ran.stdout.split("|")
    assert not any(name.startswith("nsdemo.check") for name in before.split())
    assert not any("notebook" in name or "IPython" in name for name in after.split())


# -- a result --------------------------------------------------------------------------------

GOOD = Fact("it runs", True, "pid 7", "never shown")
BAD = Fact("<b>its</b> root", False, "\x1b[31m/tmp/<script>\u202e&\ud800\n" + "x" * 999, "Which?")


def test_a_result_is_true_when_every_fact_is() -> None:
    assert Result("s1", [GOOD])
    assert not Result("s1", [GOOD, BAD])
    assert not Result("s1", [])
    assert Result("s1", [GOOD, BAD]).facts == (GOOD, BAD)
    assert Result("s1", [GOOD]).passed is True


def test_a_fact_shows_no_control_character_and_ends() -> None:
    assert GOOD.question == ""
    assert BAD.seen.startswith("\\x1b[31m/tmp/<script>\\u202e&\\ud800\\nxxx")
    assert len(BAD.seen) == 400
    assert BAD.seen.endswith("…")
    assert str(BAD).count("\n") == 2


def test_a_result_in_text() -> None:
    result = Result("s1", [GOOD, Fact("that", False, "this", "Why?")])
    assert (
        str(result)
        == repr(result)
        == (
            "s1: pivot_root instead of chroot: not yet (1 of 2 facts)\n"
            "pass  it runs\n      seen: pid 7\n"
            "fail  that\n      seen: this\n      think: Why?"
        )
    )


def test_a_result_in_json() -> None:
    result = Result("s1", [GOOD, BAD])
    assert json.loads(json.dumps(result.as_dict())) == {
        "challenge": "s1",
        "title": check.CHALLENGES["s1"],
        "passed": False,
        "facts": [GOOD.as_dict(), BAD.as_dict()],
    }


class Table(HTMLParser):
    """Rows of cells, and every style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.styles: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.styles += [value or "" for name, value in attributes if name == "style"]
        if tag != "br":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["caption"]:
            self.rows[-1][-1] += data


def test_a_result_is_a_table() -> None:
    table = Table(Result("s1", [GOOD, BAD])._repr_html_())
    assert table.rows[0] == ["result", "what must be so", "what was seen"]
    assert table.rows[1] == ["✓ pass", "it runs", "pid 7"]
    assert table.rows[2] == ["✗ fail", "<b>its</b> root", BAD.seen + "Which?"]
    assert set(table.tags) <= {"table", "caption", "thead", "tbody", "tr", "th", "td", "br", "em"}


def test_a_table_takes_its_colours_from_the_page() -> None:
    """Dark or light: the words tell pass from fail, and no colour is set that may clash."""
    for style in Table(Result("s1", [GOOD, BAD])._repr_html_()).styles:
        colours = [part for part in style.split(";") if "color" in part or "background" in part]
        for part in colours:
            assert part.rpartition(":")[2] in ("inherit", "transparent", "1px solid currentColor")


def test_every_public_function_says_what_it_asks() -> None:
    for name in ("s1", "s2", "s3", "c1", "c2", "c3", "grade"):
        text = getattr(check, name).__doc__
        for part in ("Args:", "Returns:", "Raises:", "Example:"):
            assert part in text, (name, part)
