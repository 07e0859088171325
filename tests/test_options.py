"""The table of options, and what is written from it."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nsdemo
from nsdemo._request import given, option, options

PROJECT = Path(__file__).resolve().parent.parent
WRITER = PROJECT / "docs" / "signatures.py"
CALLS = {
    call.__name__: call for call in (nsdemo.chroot_run, nsdemo.spawn, nsdemo.run, nsdemo.enter)
}

in_checkout = pytest.mark.skipif(not WRITER.is_file(), reason="the C sources are not here")
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def check(project: Path) -> tuple[int, str]:
    """What the writer says of a checkout: exit status and words."""
    command = [sys.executable, project / "docs" / "signatures.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What the writer reads and writes, and nothing that is built."""
    shutil.copytree(PROJECT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("__*"))
    python = shutil.ignore_patterns("*.so", "__pycache__", "lessons", "notebook", "check")
    shutil.copytree(PROJECT / "nsdemo", tmp_path / "nsdemo", ignore=python)
    return tmp_path


@in_checkout
def test_what_is_written_is_what_the_table_says() -> None:
    assert check(PROJECT) == (0, "")


@in_checkout
@pytest.mark.parametrize(
    "name", ["nsdemo/_api.py", "nsdemo/_api.pyi", "nsdemo/_request/given.py", "docs/OPTIONS.md"]
)
def test_a_written_file_that_was_edited_is_named(copy: Path, name: str) -> None:
    text = (copy / name).read_text()
    assert "Written by docs/signatures.py from nsdemo/_request/options.py; do not edit." in text
    assert f"\n{name} linguist-generated\n" in (PROJECT / ".gitattributes").read_text()
    (copy / name).write_text(text + "\n")
    command = "python docs/signatures.py --write"
    line = f"{name} is not what nsdemo/_request/options.py says; to write it: {command}\n"
    assert check(copy) == (1, line)


@in_checkout
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            '"file mode mask, such as 0o022."',
            '""',
            "umask: no words say what it means",
        ),
        (
            'With("monotonic")',
            'With("clock")',
            "boottime: there is no option 'clock' that tells it",
        ),
        (
            '"follow its root directory (default)"',
            '""',
            "root: no words for --help say what --root means",
        ),
        (
            '"octal", "MODE"',
            '"octad", "MODE"',
            "umask: nsdemo/_flag_words.py has no octad to read --umask",
        ),
    ],
)
def test_what_a_row_lacks_is_said(copy: Path, old: str, new: str, says: str) -> None:
    table = copy / "nsdemo" / "_request/options.py"
    text = table.read_text()
    assert text.count(old) == 1
    table.write_text(text.replace(old, new))
    assert check(copy) == (1, f"nsdemo/_request/options.py: {says}\n")


def test_every_option_is_a_keyword_of_its_calls() -> None:
    for name, call in CALLS.items():
        rows = {row.name: row.within(name) for row in options.OPTIONS if name in row.calls}
        parameters = inspect.signature(call).parameters
        assert rows.keys() == parameters.keys()
        for parameter in parameters.values():
            default = rows[parameter.name].default
            if default is None:
                assert parameter.default is inspect.Parameter.empty
            else:
                assert parameter.default == eval(default)


@each_call
def test_help_shows_types(call: Callable[..., Any]) -> None:
    hints = typing.get_type_hints(call)
    for name, parameter in inspect.signature(call).parameters.items():
        assert parameter.annotation not in ("Any", inspect.Parameter.empty), name
        assert name in hints


@each_call
def test_help_is_indented_once(call: Callable[..., Any]) -> None:
    lines = (inspect.getdoc(call) or "").splitlines()
    heads = [line for line in lines if line and not line.startswith(" ")]
    assert heads[0].endswith(".")
    assert {"Args:", "Returns:", "Raises:", "Example:"} <= set(heads)
    assert any(line.startswith("    >>> ") for line in lines)


def test_a_request_has_the_options_of_its_call_and_no_others() -> None:
    request: Any = given.SpawnRequest()
    for name in inspect.signature(nsdemo.run).parameters:
        if name != "dry_run":
            setattr(request, name, None)
    with pytest.raises(AttributeError):
        request.rooot = "/"


def test_options_given_to_a_plan_come_before_those_it_was_made_with() -> None:
    kept = given.RunOptions(stdin=3, text=True, pass_fds=(5,), timeout=7)
    over = given.RunOptions(stdin=4, text=False, check=True).over(kept)
    assert (over.stdin, over.text, over.pass_fds, over.timeout) == (4, True, (5,), 7)
    assert over.check is True
    assert over.stdout is over.input is None


def test_an_option_is_another_in_another_call() -> None:
    row = {option.name: option for option in options.OPTIONS}["root"]
    assert row.default == "None"
    assert row.within("chroot_run").default is None
    assert row.within("enter")[:3] == ("root", "bool", "True")
    assert row.within("run") == row
    told = option.Option("x", "int", "0", "words", (), option.ALL, False, {})
    assert told.within("spawn") is told
