"""The pages for whoever works on nsdemo name files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PAGES = [PROJECT / "CONTRIBUTING.md", PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]
ARCHITECTURE = PROJECT / "docs" / "ARCHITECTURE.md"

pytestmark = pytest.mark.skipif(not ARCHITECTURE.is_file(), reason="the sources are not here")

PATH = re.compile(r"(?<![\w./~-])(?:csrc|nsdemo|tests|docs|\.ci|\.devcontainer)/[\w./*-]*")

# What a build makes.
MADE = ("nsdemo/_launcher", "docs/html")


def named(page: Path) -> set[str]:
    """Every path below a folder of ours: in the text, in code, in pictures, behind links."""
    return {path.rstrip(".") for path in PATH.findall(page.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_path_is_there(page: Path) -> None:
    for path in named(page):
        assert path in MADE or list(PROJECT.glob(path.rstrip("/"))), f"there is no {path}"


def test_every_source_that_a_source_names_is_there() -> None:
    """Comments and docstrings follow what is moved; here files alone, with their folders."""
    for folder in ("csrc", "nsdemo"):
        for source in (PROJECT / folder).rglob("*"):
            if source.suffix in (".c", ".h", ".def", ".py", ".pyi"):
                for path in re.findall(
                    r"(?<![\w./])(?:csrc|nsdemo)/[\w/]+\.\w+", source.read_text()
                ):
                    assert (PROJECT / path).is_file(), f"{source}: there is no {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


def test_the_picture_has_every_file_of_a_launch() -> None:
    """What the core has, the picture shows; and the launcher, whole."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    picture = text[text.index("```") : text.rindex("```")]
    files = {*PROJECT.glob("csrc/core/**/*.c"), *PROJECT.glob("csrc/launcher/*.c")}
    shown = set(re.findall(r"csrc/\S+\.c", picture))
    missing = {str(path.relative_to(PROJECT)) for path in files} - shown
    assert missing == {"csrc/core/launch/forks.c", "csrc/core/namespaces.c"}


def test_the_glossary_is_in_order_and_its_words_are_used() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    table = text[text.index("|---|", text.index("## Glossary")) :]
    rows = re.findall(r"^\| ([\w, ]+) \| .+ \| (.+) \|$", table, re.MULTILINE)
    assert len(rows) > 20
    assert [word for word, _ in rows] == sorted(word for word, _ in rows)
    for word, files in rows:
        sources = [PROJECT / path for path in re.findall(r"`([^`]+)`", files)]
        written = "\n".join(path.read_text(encoding="utf-8") for path in sources).lower()
        stem = re.split(r"[ ,]", word)[0]
        assert stem in written, f"{files}: nothing about {word}"
