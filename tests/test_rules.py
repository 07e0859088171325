"""The table of rules in CONTRIBUTING.md: all of them, and each with tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
CONTRIBUTING = TESTS.parent / "CONTRIBUTING.md"


def rows() -> dict[int, list[str]]:
    """The tests of each rule, as they are named there."""
    found = {}
    for line in CONTRIBUTING.read_text().splitlines():
        if match := re.fullmatch(r"\| (\d+) \| .+ \| (`.+`) \|", line):
            found[int(match[1])] = re.findall(r"`([^`]+)`", match[2])
    return found


def functions(file: str) -> list[str]:
    tree = ast.parse((TESTS / file).read_text())
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_each_rule_has_a_test() -> None:
    """A name stands for all that begin with it, up to a word's end."""
    assert sorted(rows()) == list(range(1, 24))
    for rule, named in rows().items():
        for name in named:
            file, _, test = name.partition("::")
            tests = [each for each in functions(file) if f"{each}_".startswith(f"{test}_")]
            assert tests, f"rule {rule}: there is no {name}"


def test_each_test_of_a_rule_is_named() -> None:
    for file in sorted(TESTS.glob("test_*.py")):
        for test in functions(file.name):
            if number := re.match(r"test_rule_(\d+)", test):
                names = [name.split("::")[-1] for name in rows()[int(number[1])]]
                assert any(f"{test}_".startswith(f"{name}_") for name in names), test
