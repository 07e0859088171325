"""A lesson: a Markdown file in ``nsdemo/lessons``, read by jupytext, and its folder."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from pathlib import Path
from typing import Any

SOLUTION = "solution"  # the tag
LESSONS = Path(__file__).parents[1] / "lessons"


class Lesson:
    """One lesson.

    Attributes:
        name: of the file, without its suffix.
        title: the first heading.
        text: the Markdown.
        version: identifies this text.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.text = path.read_text(encoding="utf-8")
        heading = re.search(r"^# (.*)$", self.text, re.MULTILINE)
        self.title = heading[1].replace("`", "") if heading else self.name
        self.version = hashlib.sha256(self.text.encode()).hexdigest()[:16]

    def notebook(self, suffix: str, solutions: bool = False) -> Any:
        """The lesson as a notebook (nbformat); links to other lessons lead to ``suffix`` files."""
        jupytext = needs("jupytext")
        notebook = jupytext.reads(self.text, fmt="md:myst")
        if not solutions:
            notebook.cells = [
                cell for cell in notebook.cells if SOLUTION not in cell.metadata.get("tags", ())
            ]
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = re.sub(r"\]\((\d\d-[\w-]+)\.md\b", rf"](\1{suffix}", cell.source)
        notebook.metadata.pop("jupytext", None)  # else it is taken for one half of a pair
        notebook.metadata["nsdemo"] = {"lesson": self.name, "version": self.version}
        return notebook


def needs(name: str) -> Any:
    """Import a module that the extra "lab" brings, or say how to get it."""
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = ValueError(f"nsdemo learn needs {error.name}, which is not installed")
        missing.add_note("pip install 'nsdemo[lab]'")
        raise missing from None


def lessons(folder: Path = LESSONS) -> list[Lesson]:
    """All lessons, in order."""
    found = [Lesson(path) for path in sorted(folder.glob("[0-9][0-9]-*.md"))]
    if not found:
        raise ValueError(f"there are no lessons in {folder}: install nsdemo again")
    return found


def make_folder(folder: Path) -> None:
    """Make the folder, if it is not there, and see that one may write there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(
            errno.ENOTDIR, "this is a file, not a folder", str(folder)
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "you may not write in this folder", str(folder))
