"""``nsdemo learn``: the lessons as notebooks in a folder, and JupyterLab open there.

A lesson is a Markdown file in ``nsdemo/lessons``, read by jupytext. The learner's copy lacks the
cells with the tag ``solution``. A notebook remembers which text it was made from, so a lesson that
has changed is put beside the learner's copy and never over it.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from .lesson import Lesson, lessons, make_folder, needs

FOLDER = "nsdemo-lessons"

EPILOG = """\
What you have done in a notebook stays: a notebook that is there is never
written to. Words after -- are options for JupyterLab, such as --ip; it listens
on the loopback interface and asks for a token, as always."""


# -- the folder --------------------------------------------------------------------------------


def put(lesson: Lesson, folder: Path, solutions: bool = False) -> tuple[Path, str]:
    """Write a lesson's notebook, unless it is there; (path, what was done)."""
    first = folder / f"{lesson.name}.ipynb"
    for path in _names(first):
        if os.path.lexists(path):
            if _version(path) == lesson.version:
                return path, "is there already: kept as it is"
            continue
        text = needs("nbformat").writes(lesson.notebook(".ipynb", solutions)) + "\n"
        _write_new(path, text)
        if path == first:
            return path, "written"
        return path, f"written: the lesson has changed since {first.name}, which is kept as it is"
    raise AssertionError("there is always another name")


def _names(first: Path) -> Iterator[Path]:
    """01-chroot.ipynb, 01-chroot-2.ipynb, 01-chroot-3.ipynb, ..."""
    yield first
    number = 2
    while True:
        yield first.with_name(f"{first.stem}-{number}{first.suffix}")
        number += 1


def _version(path: Path) -> str | None:
    """Which text a notebook was made from; None if it does not say so, or is none."""
    try:
        version = json.loads(path.read_bytes())["metadata"]["nsdemo"]["version"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return version if isinstance(version, str) else None


def _write_new(path: Path, text: str) -> None:
    """Write a file that must not be there; a half-written one is removed."""
    with path.open("x", encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
        except BaseException:
            path.unlink()
            raise


# -- JupyterLab --------------------------------------------------------------------------------


def check_port(port: int) -> None:
    """Can Jupyter have this port?"""
    if not 1 <= port <= 65535:
        raise ValueError(f"a port is a number from 1 to 65535, not {port}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                why = f"port {port} is taken by another program"
            else:
                why = f"you may not use port {port} ({error.strerror})"
            refused = OSError(error.errno, why)
            refused.add_note("without --port, Jupyter takes the first free one from 8888 on")
            raise refused from None


def lab_command(
    folder: Path, first: Path, port: int | None, browser: bool, more: Sequence[str]
) -> list[str]:
    """The command line of JupyterLab: this Python's, whatever else is in PATH."""
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}"]
    command.append(f"--LabApp.default_url=/lab/tree/{first.name}")
    if port is not None:
        command += [f"--port={port}", "--ServerApp.port_retries=0"]
    if not browser:
        command.append("--no-browser")
    if os.geteuid() == 0:
        command.append("--allow-root")
    return [*command, *more]


def main(words: Sequence[str]) -> int:
    """``nsdemo learn``: return the exit status, or become JupyterLab."""
    from ..flags import Parser, number

    parser = Parser(
        "learn",
        "[OPTION...] [DIR] [-- JUPYTER OPTION...]",
        f"Put the lessons into a folder (default: {FOLDER}) as notebooks, without\n"
        "the solutions, and open JupyterLab there.",
        EPILOG,
    )
    parser.add_argument("folder", metavar="DIR", nargs="?", type=Path, default=None)
    parser.add_argument("--list", action="store_true", help="only list the lessons")
    parser.add_argument(
        "--html", action="store_true", help="execute the lessons and write them as web pages"
    )
    parser.add_argument("--no-lab", action="store_true", help="put the notebooks there; no more")
    parser.add_argument("--no-browser", action="store_true", help="print the address instead")
    parser.add_argument(
        "--port", type=number, metavar="N", help="default: the first free from 8888"
    )
    parser.add_argument("--solutions", action="store_true", help="with the solutions, to teach")
    own, more = _split(words)
    given = vars(parser.parse_args(own))
    course = lessons()
    if "list" in given:
        for lesson in course:
            print(f"{lesson.name:<24} {lesson.title}")
        return 0
    if given["folder"] is None and "html" in given:
        parser.error("DIR is missing: where are the pages to be written?")
    folder = Path(os.path.abspath(given["folder"] or FOLDER))
    solutions = "solutions" in given
    if "html" in given:
        from .pages import write_pages

        return write_pages(course, folder, solutions)
    for name in ("jupytext", "jupyterlab", "ipykernel"):
        needs(name)
    if "port" in given:
        check_port(given["port"])
    make_folder(folder)
    paths = []
    for lesson in course:
        path, done = put(lesson, folder, solutions)
        paths.append(path)
        print(f"{path.name}: {done}")
    if "no_lab" in given:
        return 0
    command = lab_command(folder, paths[0], given.get("port"), "no_browser" not in given, more)
    sys.stdout.flush()
    # A kernel of the user's that happens to be called python3 need not know nsdemo.
    os.execve(command[0], command, {**os.environ, "JUPYTER_PREFER_ENV_PATH": "1"})


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our words, and after -- those for Jupyter."""
    with suppress(ValueError):
        here = list(words).index("--")
        return list(words[:here]), list(words[here + 1 :])
    return list(words), []
