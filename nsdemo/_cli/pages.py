"""``nsdemo learn --html``: the lessons, executed on this machine, as web pages to read anywhere."""

from __future__ import annotations

import html
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from .lesson import Lesson, make_folder, needs

_CELL_TIMEOUT = 120  # seconds
_MARK = '<meta name="generator" content="nsdemo">'
_HEAD = f'<head>\n<meta charset="utf-8">\n{_MARK}'

_INDEX = """\
<!DOCTYPE html>
<html lang="en">
{head}
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>What a container is</title>
<style>
body {{ max-width: 40em; margin: 3em auto; padding: 0 1em; font-family: sans-serif; }}
</style>
</head>
<body>
<h1>What a container is</h1>
<p>The lessons of nsdemo {version}, executed on Linux {kernel}. To run them yourself, on Linux:
<code>pip install 'nsdemo[lab]' &amp;&amp; nsdemo learn</code></p>
<ul>
{items}
</ul>
</body>
</html>
"""


def write_pages(course: Sequence[Lesson], folder: Path, solutions: bool = False) -> int:
    """Execute lessons and write a page for each, and an index; 1 if a lesson stopped early."""
    for name in ("jupytext", "ipykernel", "nbclient", "nbconvert"):
        needs(name)
    make_folder(folder)
    for name in ("index", *(lesson.name for lesson in course)):
        _check_ours(folder / f"{name}.html")
    status = 0
    for lesson in course:
        notebook = lesson.notebook(".html", solutions)
        print(f"{lesson.name}.html: ", end="", flush=True)
        stopped = execute(notebook)
        _write(folder / f"{lesson.name}.html", page(notebook, lesson.title))
        print(f"stopped early: {stopped}" if stopped else "executed and written")
        status |= bool(stopped)
    items = "\n".join(
        f'<li><a href="{lesson.name}.html">{html.escape(lesson.title)}</a></li>'
        for lesson in course
    )
    index = _INDEX.format(head=_HEAD, version=__version__, kernel=os.uname().release, items=items)
    _write(folder / "index.html", index)
    print(f"begin with {folder / 'index.html'}")
    return status


def execute(notebook: Any) -> str:
    """Run a notebook's cells in a kernel of this Python; what stopped it, or ""."""
    nbclient, config = needs("nbclient"), needs("traitlets.config")
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryFile() as words:
        # Socket files that only we can reach, not ports of the machine.
        manager = {"transport": "ipc", "connection_file": os.path.join(place, "kernel.json")}
        client = nbclient.NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=_CELL_TIMEOUT,
            resources={"metadata": {"path": place}},
            config=config.Config({"KernelManager": manager}),
        )
        try:
            # What the libraries of a kernel say when it ends is no news, unless it dies.
            client.execute(stderr=words)
        except nbclient.exceptions.CellExecutionError as error:
            return f"{error.ename}: {error.evalue}"
        except nbclient.exceptions.CellTimeoutError:
            return f"a cell took longer than {_CELL_TIMEOUT} seconds"
        except nbclient.exceptions.DeadKernelError:
            words.seek(0)
            return f"the kernel died: {words.read().decode(errors='replace').strip() or 'silently'}"
        except RuntimeError as error:  # it did not start
            return str(error)
    return ""


def page(notebook: Any, title: str) -> str:
    """A notebook as one file of HTML that loads nothing from elsewhere."""
    nbconvert = needs("nbconvert")
    elsewhere = ("mathjax", "require_js", "jquery", "mermaid_js", "mermaid_layout_elk_js")
    exporter = nbconvert.HTMLExporter(
        template_name="lab", **{f"{name}_url": "" for name in elsewhere}
    )
    text, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    return str(text).replace("<head>", _HEAD, 1)


def _check_ours(path: Path) -> None:
    """Pages are written anew each time, but only our own."""
    if path.is_file() and _MARK not in path.read_text(encoding="utf-8", errors="replace"):
        raise FileExistsError(f"{path} is not a page of nsdemo's: choose another folder")


def _write(path: Path, text: str) -> None:
    """Replace a page, whole or not at all."""
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=".nsdemo-", suffix=".html")
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    sys.stdout.flush()
