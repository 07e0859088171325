"""docs/SECURITY.md: every line names its tests, and those exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_rules import functions

import nsdemo

PAGE = Path(__file__).resolve().parent.parent / "docs" / "SECURITY.md"
NAME = re.compile(r"`(test_\w+\.py)::(\w+)`")

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="this is not a checkout")


def claims() -> list[str]:
    """The rows of the tables, without their heads, and the points of the lists."""
    text = PAGE.read_text().partition("## How to report")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    heads = [line for line in rows if line.endswith("| tests |")]
    points = re.findall(r"^- .+?(?=^- |^$)", text, re.MULTILINE | re.DOTALL)
    return [row for row in rows if row not in heads] + points


def test_each_claim_has_a_test() -> None:
    assert len(claims()) > 20
    for claim in claims():
        assert NAME.search(claim), claim


def test_each_test_exists() -> None:
    for file, name in NAME.findall(PAGE.read_text()):
        found = [each for each in functions(file) if f"{each}_".startswith(f"{name}_")]
        assert found, f"there is no {file}::{name}"


def test_what_a_report_says_can_be_asked() -> None:
    assert nsdemo.__version__ in (PAGE.parent.parent / "pyproject.toml").read_text()
    assert callable(nsdemo.doctor)


def test_the_readme_leads_there() -> None:
    assert "docs/SECURITY.md" in (PAGE.parent.parent / "README.md").read_text()
