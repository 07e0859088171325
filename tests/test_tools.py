"""The lists that tools read: tasks, what an editor compiles with, what looks at a commit."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from test_structure import CSRC, PROJECT, in_checkout

pytestmark = in_checkout

DEV = ("mypy", "pip", "pre_commit", "pytest", "ruff", "venv")
SYSTEM = ("clang-format", "git", "python3")


def tasks() -> dict[str, str]:
    """Each task of the Makefile, and what it says of itself."""
    text = (PROJECT / "Makefile").read_text()
    return dict(re.findall(r"^([a-z-]+):[^#\n]*## (.+)$", text, re.MULTILINE))


def make(*arguments: str) -> str:
    if shutil.which("make") is None:
        pytest.skip("there is no make (on Debian: apt-get install make)")
    command = ["make", "--no-print-directory", *arguments]
    ran = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_make_alone_lists_the_tasks() -> None:
    assert [line.split()[0] for line in make().splitlines()] == list(tasks())
    phony = re.search(r"^\.PHONY: (.+)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == set(tasks())


def test_a_task_calls_what_there_is() -> None:
    for task in tasks():
        for line in make("--dry-run", task).splitlines():
            words = line.split()
            while "=" in words[0]:
                words.pop(0)
            if words[0] in (".venv/bin/python", "python3"):
                assert words[1:2] != ["-m"] or words[2].split(".")[0] in DEV, line
                assert words[1] == "-m" or (PROJECT / words[1]).exists(), line
            elif words[0] not in ("sed", "make", *SYSTEM):
                assert (PROJECT / words[0]).exists(), line


def test_the_hooks_are_tools_that_dev_brings() -> None:
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    dev = {re.split(r"[<>=]", name)[0] for name in extras["optional-dependencies"]["dev"]}
    text = (PROJECT / ".pre-commit-config.yaml").read_text()
    entries = re.findall(r"^ +entry: (\S+)", text, re.MULTILINE)
    assert len(entries) == 4
    assert {entry.removeprefix(".venv/bin/") for entry in entries} <= {*dev, *SYSTEM}


def test_an_editor_compiles_as_setup_does() -> None:
    setup = (PROJECT / "setup.py").read_text()
    for flag in (PROJECT / "compile_flags.txt").read_text().split():
        assert re.sub(r"^-[DI]", "", flag) in setup, flag
    text = (PROJECT / ".clangd").read_text()
    for flag in re.findall(r"-(?:W|f|D)[\w=-]+", text):
        assert flag.removeprefix("-D").partition("=")[0] in setup, flag
    for folder in re.findall(r"PathMatch: ([^\s.]+)", text):
        for name in re.sub(r".*\((.+)\).*", r"\1", folder).split("|"):
            assert (CSRC / Path(name).name).is_dir() or (PROJECT / name).is_dir(), name
