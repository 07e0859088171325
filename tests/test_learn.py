"""``nsdemo learn``: notebooks that are never overwritten, a server that answers, pages."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from lab import descendants, private_places, running_lab, without_engines
from support import IMPORTABLE, eventually, let_in

from nsdemo._cli import learn as learning

LESSONS = learning.lessons()
NAMES = [f"{lesson.name}.ipynb" for lesson in LESSONS]


def learn(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": IMPORTABLE, **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "nsdemo", "learn", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        **options,
    )


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["cells"]
    return found


def source(path: Path) -> str:
    return "\n".join("".join(cell["source"]) for cell in cells(path))


# -- the folder ------------------------------------------------------------------------------


def test_list() -> None:
    lines = learn("--list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [lesson.name for lesson in LESSONS]
    assert lines[0].split(maxsplit=1)[1] == "1. chroot: another /"


def test_the_notebooks_are_the_lessons_without_solutions(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    done = learn("--no-lab", folder)
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(folder)) == NAMES
    for lesson in LESSONS:
        path = folder / f"{lesson.name}.ipynb"
        assert "solution" in lesson.text
        assert not [cell for cell in cells(path) if "solution" in cell["metadata"].get("tags", [])]
        assert not [cell for cell in cells(path) if cell.get("outputs")]
        whole = lesson.notebook(".ipynb", solutions=True)
        assert len(whole.cells) > len(cells(path))
        for cell in whole.cells:
            is_solution = "solution" in cell.metadata.get("tags", ())
            assert (cell.source in source(path)) != is_solution, cell.source
        assert json.loads(path.read_text())["metadata"]["kernelspec"]["name"] == "python3"


def test_links_lead_to_the_other_notebooks(tmp_path: Path) -> None:
    learn("--no-lab", tmp_path)
    links = re.findall(r"\]\(([^):]*)\)", source(tmp_path / NAMES[0]))
    assert NAMES[1] in links
    for path in tmp_path.glob("*.ipynb"):
        for link in re.findall(r"\]\(([^):]*)\)", source(path)):
            assert (tmp_path / link).exists(), f"{path.name}: {link}"


def test_with_solutions(tmp_path: Path) -> None:
    learn("--no-lab", "--solutions", tmp_path)
    assert any(
        "solution" in cell["metadata"].get("tags", []) for cell in cells(tmp_path / NAMES[0])
    )


def test_the_default_folder(tmp_path: Path) -> None:
    assert learn("--no-lab", cwd=tmp_path).returncode == 0
    assert sorted(os.listdir(tmp_path / "nsdemo-lessons")) == NAMES


def test_what_a_learner_has_done_is_kept(tmp_path: Path) -> None:
    learn("--no-lab", tmp_path)
    path = tmp_path / NAMES[0]
    work = json.loads(path.read_text())
    work["cells"][1]["source"] = ["my own words"]
    path.write_text(json.dumps(work))
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    done = learn("--no-lab", tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == f"{NAMES[0]}: is there already: kept as it is"
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no JSON",
        b"\xff\xfe",
        b"[]",
        b'{"metadata": []}',
        b'{"metadata": {"nsdemo": {"version": 5}}}',
        b'{"metadata": {"nsdemo": {"version": "an older one"}}, "cells": []}',
    ],
)
def test_a_lesson_that_has_changed_is_put_beside(tmp_path: Path, content: bytes) -> None:
    mine, beside = tmp_path / NAMES[0], tmp_path / f"{LESSONS[0].name}-2.ipynb"
    mine.write_bytes(content)
    done = f"written: the lesson has changed since {NAMES[0]}, which is kept as it is"
    assert learning.put(LESSONS[0], tmp_path) == (beside, done)
    assert mine.read_bytes() == content
    assert LESSONS[0].title[3:9] in source(beside)
    # Once is enough.
    assert learning.put(LESSONS[0], tmp_path) == (beside, "is there already: kept as it is")
    assert len(os.listdir(tmp_path)) == 2


def test_a_dangling_link_and_a_folder_are_in_the_way(tmp_path: Path) -> None:
    (tmp_path / NAMES[0]).symlink_to("/nonexistent/elsewhere")
    (tmp_path / NAMES[1]).mkdir()
    assert learn("--no-lab", tmp_path).returncode == 0
    assert os.readlink(tmp_path / NAMES[0]) == "/nonexistent/elsewhere"
    for name in NAMES[:2]:
        assert (tmp_path / name.replace(".ipynb", "-2.ipynb")).is_file()


def test_a_full_disk_leaves_no_half_notebook(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the write fails in the middle."""
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    done = learn("--no-lab", tmp_path, preexec_fn=limit)
    assert done.returncode == 125
    assert "File too large" in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_lesson_without_a_solution_or_a_heading(tmp_path: Path) -> None:
    path = tmp_path / "01-plain.md"
    path.write_text("Words.\n\n```{code-cell} ipython3\n1 + 1\n```\n\nMore.\n")
    (lesson,) = learning.lessons(tmp_path)
    assert lesson.title == "01-plain"
    kinds = [cell.cell_type for cell in lesson.notebook(".ipynb").cells]
    assert kinds == ["markdown", "code", "markdown"]


# -- mistakes --------------------------------------------------------------------------------


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    done = learn("--no-lab", file)
    assert done.returncode == 125
    assert done.stderr == f"nsdemo: {file}: this is a file, not a folder\n"


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    let_in(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import support; "
        "from pathlib import Path; from nsdemo._cli import learn; support.become_ordinary(); "
        "learn.make_folder(Path(sys.argv[1]))"
    )
    for place in (folder, folder / "below"):
        done = subprocess.run(
            [sys.executable, "-c", code, place],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": IMPORTABLE},
        )
        assert "PermissionError" in done.stderr.splitlines()[-1]
        assert str(place) in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "0"], "a port is a number from 1 to 65535, not 0"),
        (["--port", "65536"], "a port is a number from 1 to 65535, not 65536"),
        (["--port", "x"], "argument --port: invalid number value: 'x'"),
        (["--html"], "DIR is missing: where are the pages to be written?"),
        (["--nope"], "unrecognized arguments: --nope"),
        (["one", "two"], "unrecognized arguments: two"),
    ],
)
def test_a_mistake_in_the_words(tmp_path: Path, words: list[str], message: str) -> None:
    done = learn(*words, cwd=tmp_path)
    assert done.returncode == 125
    assert done.stderr.splitlines()[0] == f"nsdemo: {message}"
    assert os.listdir(tmp_path) == []


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = learn("--port", str(port), tmp_path)
    assert done.returncode == 125
    assert done.stderr == (
        f"nsdemo: port {port} is taken by another program\n"
        "nsdemo: hint: without --port, Jupyter takes the first free one from 8888 on\n"
    )
    assert os.listdir(tmp_path) == []


def test_without_the_extra(tmp_path: Path) -> None:
    """Jupyter's packages are hidden from the interpreter, as where they are not installed."""
    hide = "import sys; sys.modules.update(dict.fromkeys(['jupytext', 'jupyterlab'])); "
    run = "from nsdemo._cli.main import main; sys.exit(main(sys.argv[1:]))"
    for words in (["learn", str(tmp_path)], ["learn", "--html", str(tmp_path)]):
        done = subprocess.run(
            [sys.executable, "-c", hide + run, *words],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": IMPORTABLE},
        )
        assert done.returncode == 125
        assert done.stderr == (
            "nsdemo: nsdemo learn needs jupytext, which is not installed\n"
            "nsdemo: hint: pip install 'nsdemo[lab]'\n"
        )
        assert os.listdir(tmp_path) == []


# -- JupyterLab ------------------------------------------------------------------------------


def get(url: str, data: bytes | None = None) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, data, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def listening(pid: int) -> set[str]:
    """The addresses on which a process accepts connections over TCP."""
    inodes = set()
    for fd in os.scandir(f"/proc/{pid}/fd"):
        try:
            inodes.add(os.readlink(fd.path))
        except OSError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.add(fields[1].partition(":")[0])
    return found


def kernels_below(pid: int) -> list[str]:
    """The programs of the Jupyter kernels below a process."""
    lines = [Path(f"/proc/{child}/cmdline").read_text() for child in descendants(pid)]
    return [line.partition("\0")[0] for line in lines if "ipykernel_launcher" in line]


def test_the_server_answers_on_loopback_to_who_has_the_token(tmp_path: Path) -> None:
    # A kernel of the user's own that is called python3, too, and cannot work.
    decoy = tmp_path / "jupyter_data_dir" / "kernels" / "python3" / "kernel.json"
    decoy.parent.mkdir(parents=True)
    decoy.write_text('{"argv": ["false"], "display_name": "Decoy", "language": "python"}')
    with running_lab(tmp_path) as lab:
        base, _, token = lab.url.partition("/lab")
        token = token.partition("token=")[2]
        names = [
            entry["name"]
            for entry in json.loads(get(f"{base}/api/contents?token={token}")[1])["content"]
        ]
        assert sorted(names) == NAMES
        assert get(f"{base}/api/contents")[0] == 403
        assert get(f"{base}/api/contents?token=wrong")[0] == 403
        assert f"/lab/tree/{NAMES[0]}?" in lab.url
        assert listening(lab.process.pid) <= {"0100007F", "00000000000000000000000001000000"}
        assert listening(lab.process.pid)
        # The kernel that it starts is this Python's.
        assert get(f"{base}/api/kernels?token={token}", b'{"name": "python3"}')[0] == 201
        assert eventually(lambda: kernels_below(lab.process.pid)) == [sys.executable]
    assert lab.process.returncode is not None


def test_words_for_jupyter(tmp_path: Path) -> None:
    with running_lab(tmp_path, "--", "--ServerApp.base_url=/course") as lab:
        assert "/course/lab/tree/" in lab.url


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    import signal

    with running_lab(tmp_path) as lab:
        lab.look()
        for _ in range(2):  # twice: without being asked
            lab.process.send_signal(signal.SIGINT)
        assert eventually(lambda: lab.process.poll() is not None, 20)
        assert eventually(lambda: not lab.left())


# -- pages -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("ordinary_users_may")
def test_pages(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    with tempfile.TemporaryDirectory() as programs:
        os.chmod(programs, 0o755)  # lesson 4's root of a container is somebody else than root
        places = {**private_places(tmp_path), "PATH": without_engines(Path(programs))}
        done = learn("--html", folder, env=places)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert sorted(os.listdir(folder)) == [
        "01-chroot.html",
        *sorted(f"{lesson.name}.html" for lesson in LESSONS[1:]),
        "index.html",
    ]
    index = (folder / "index.html").read_text()
    for lesson in LESSONS:
        page = (folder / f"{lesson.name}.html").read_text()
        assert f'href="{lesson.name}.html"' in index
        assert page.count('<div class="nsdemo ') >= 3
        assert "Traceback" not in page
        # Nothing is loaded from elsewhere; links to manual pages are only links.
        loads = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"(?!data:)[^\"]+", page)
        assert loads == []
        assert "cdnjs" not in page
        for link in re.findall(r'href="(\d\d-[^"]+)"', page):
            assert (folder / link).exists(), link
    # The challenges are there, the solutions are not, and what was seen is real.
    first = (folder / "01-chroot.html").read_text()
    assert "not yet" in first
    assert "Hello" in first


def test_pages_of_others_are_kept(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<html>mine</html>")
    done = learn("--html", tmp_path)
    assert done.returncode == 125
    assert done.stderr == (
        f"nsdemo: {tmp_path}/index.html is not a page of nsdemo's: choose another folder\n"
    )
    assert os.listdir(tmp_path) == ["index.html"]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("raise LookupError('no further')", "LookupError: no further"),
        ("import os; os.abort()", "the kernel died"),
    ],
)
def test_a_lesson_that_stops_early_is_written_as_far_as_it_came(
    cell: str, reason: str, tmp_path: Path
) -> None:
    lesson = tmp_path / "01-stops.md"
    cells = ("print('so far')", cell, "print('never')")
    lesson.write_text(
        "# 1. A lesson\n\n" + "".join(f"```{{code-cell}} ipython3\n{c}\n```\n\n" for c in cells)
    )
    pages = tmp_path / "pages"
    code = (
        "import sys; from pathlib import Path; from nsdemo._cli import learn, pages; "
        "course = learn.lessons(Path(sys.argv[1])); "
        "sys.exit(pages.write_pages(course, Path(sys.argv[2])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path, pages],
        capture_output=True,
        text=True,
        env={**private_places(tmp_path), "PYTHONPATH": IMPORTABLE},
    )
    assert done.returncode == 1
    assert f"01-stops.html: stopped early: {reason}" in done.stdout
    page = (pages / "01-stops.html").read_text()
    assert "so far" in page
    assert page.count("never") == 1  # the code, and no output
