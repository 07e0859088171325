"""The lessons: each executed in a real kernel, with solutions and without; their form and words."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jupytext
import nbformat
import pytest
from engines import docker_engine, need_command, podman_engine
from support import ORDINARY, user_namespaces

import nsdemo
from nsdemo import check, lessons

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from engines import Engine

__all__ = ["docker_engine", "podman_engine"]

HERE = Path(__file__).resolve().parent
FOLDER = Path(lessons.__file__).parent
LESSONS = sorted(FOLDER.glob("[0-9][0-9]-*.md"))
IS_ROOT = os.geteuid() == 0
LEAST = {"01-chroot": 3, "02-container-by-hand": 6, "03-join": 4, "04-users": 3, "07-names": 5}
"""How many pictures each lesson has at least."""

each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)


@dataclasses.dataclass
class Executed:
    """A lesson after it has run."""

    notebook: Any
    seconds: float
    left: list[str]
    files: list[str]

    def outputs(self) -> Iterator[tuple[Any, Any]]:
        """Each code cell with each of its outputs."""
        for cell in self.notebook.cells:
            for output in cell.get("outputs", ()):
                yield cell, output

    def errors(self) -> list[str]:
        """Tracebacks, and what was written to standard error."""
        found = []
        for cell, output in self.outputs():
            if output.output_type == "error":
                found.append("\n".join([cell.source, *output.traceback]))
            elif output.get("name") == "stderr":
                found.append(f"{cell.source}\n{output.text}")
        return found

    def text(self) -> str:
        """All that was printed."""
        return "".join(output.get("text", "") for _, output in self.outputs())

    def verdicts(self) -> dict[str, str]:
        """What each check of a challenge said, by the name of the challenge."""
        found = {}
        for cell, output in self.outputs():
            called = re.match(r"check\.(\w+)\(", cell.source)
            if called:
                found[called[1]] = output.data["text/plain"]
        return found


PROGRAMS = ["bash", "sh", "cat", "ls", "sleep", "ldd", "grep", "mount", "umount", "unshare"]
PROGRAMS += ["nsenter", "setpriv", "chown", "date", "stat", "rm"]
"""What the lessons run, and no engine among it: a Podman that has run for an ordinary user once
keeps a process."""


def execute(
    lesson: Path,
    *,
    learner: bool = False,
    ordinary: bool = False,
    cells: int | None = None,
    under: tuple[str, ...] = (),
    shims: Mapping[str, str] = {},
    **environment: str,
) -> Executed:
    """Run a lesson in a kernel of its own, with a home and a temporary directory of its own.

    ``shims`` are programs to add to its PATH: name and text.
    """
    with tempfile.TemporaryDirectory(prefix="lesson-") as made:
        home = Path(made)
        home.chmod(0o755)
        (home / "tmp").mkdir()
        (home / "bin").mkdir()
        for name in PROGRAMS:
            (home / "bin" / name).symlink_to(need_command(name))
        for name, text in shims.items():
            (home / "bin" / name).write_text(text)
            (home / "bin" / name).chmod(0o755)
        options: dict[str, Any] = {}
        if ordinary and IS_ROOT:
            for directory in (home, home / "tmp"):
                os.chown(directory, ORDINARY, ORDINARY)
            options = {"user": ORDINARY, "group": ORDINARY, "extra_groups": []}
        words = [str(HERE / "execute_notebook.py"), str(lesson)]
        words += [] if cells is None else [str(cells)]
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "IPYTHON"))}
        done = subprocess.run(
            [*under, sys.executable, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=home,
            timeout=300,
            check=False,
            env={
                **ours,
                "HOME": str(home),
                "TMPDIR": str(home / "tmp"),
                "PATH": str(home / "bin"),
                "LEARNER": str(int(learner)),
                **environment,
            },
            **options,
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        files = sorted(path.name for path in (home / "tmp").iterdir())
    notebook = nbformat.reads(report["notebook"], as_version=4)
    return Executed(notebook, report["seconds"], report["left"], files)


def may_be_ordinary() -> None:
    """Skip where an ordinary user cannot do what the test is about."""
    if not user_namespaces():
        pytest.skip("this machine gives ordinary users no user namespace")
    path = Path(sys.executable).resolve()
    closed = [p for p in (path, *path.parents) if not p.stat().st_mode & stat.S_IXOTH]
    if IS_ROOT and closed:
        pytest.skip("only an ordinary user who has a Python of his own: root's is closed to others")


@pytest.fixture(params=["root", "ordinary"])
def who(request: pytest.FixtureRequest) -> str:
    """As whom the lesson is executed."""
    if request.param == "root" and not IS_ROOT:
        pytest.skip("only root runs it as root")
    if request.param == "ordinary":
        may_be_ordinary()
    chosen: str = request.param
    return chosen


# Executed -----------------------------------------------------------------------------------------


@each_lesson
def test_it_runs_as_it_stands(lesson: Path, who: str) -> None:
    """No error, no warning, every solution passes its check, and nothing is left."""
    done = execute(lesson, ordinary=who == "ordinary")

    print(f"{lesson.stem} as {who}: {done.seconds:.1f} s")
    assert done.errors() == []
    assert done.left == []
    assert done.files == []
    assert set(done.verdicts()) == challenges_of(lesson)
    for challenge, verdict in done.verdicts().items():
        assert f"{challenge}: {check.CHALLENGES[challenge]}: passed" in verdict, verdict
    pictures = [output for _, output in done.outputs() if "text/html" in output.get("data", {})]
    assert len(pictures) >= LEAST[lesson.stem] + len(done.verdicts())


@each_lesson
def test_the_learners_copy_runs_and_fails_the_challenges(lesson: Path) -> None:
    """Without the solutions each check says what is missing. It does not raise."""
    if not IS_ROOT:
        may_be_ordinary()

    done = execute(lesson, learner=True)

    assert done.errors() == []
    assert done.left == []
    assert done.files == []
    assert set(done.verdicts()) == challenges_of(lesson)
    for challenge, verdict in done.verdicts().items():
        assert f"{challenge}: {check.CHALLENGES[challenge]}: not yet" in verdict, verdict


@each_lesson
def test_every_cell_can_be_run_twice(lesson: Path) -> None:
    """Learners do. What the first run has made is cleaned up by the second, or by the end."""
    if not IS_ROOT:
        may_be_ordinary()

    done = execute(lesson, TWICE="1")

    assert done.errors() == []
    assert done.left == []
    assert done.files == []


@each_lesson
def test_a_kernel_that_is_killed_leaves_no_process(lesson: Path) -> None:
    """In the middle of the lesson's last part, before anything is cleaned up."""
    if not IS_ROOT:
        may_be_ordinary()
    code = [cell for cell in read(lesson).cells if cell.cell_type == "code"]

    done = execute(lesson, cells=len(code) - 1)

    assert done.left == []


def shim(engine: Engine) -> str:
    """A script that is called like the engine's client, and leads to the engine of the tests.

    The engine is a real one. The learner's needs no options; this one has all its files elsewhere,
    and runs on machines that give it fewer rights than an engine is used to.
    """
    client = shlex.join(engine.client)
    run = shlex.join(engine.run_options).replace("--network none", "")  # the lesson says so itself
    return f"""#!/bin/sh
PATH={os.environ["PATH"]}:/usr/sbin:/sbin
command=$1
shift
[ "$command" = run ] && set -- {run} "$@"
exec {client} "$command" "$@"
"""


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_lesson_3_enters_a_container_of_an_engine(
    name: str, request: pytest.FixtureRequest
) -> None:
    """Where an engine runs, its container is entered, and nothing of it is left."""
    engine: Engine = request.getfixturevalue(f"{name}_engine")
    before = engine("ps", "--all", "--quiet"), engine("images", "--quiet")

    done = execute(lesson_called("join"), shims={name: shim(engine)})

    assert done.errors() == []
    assert f"$ {name} run -d --rm --network none" in done.text()
    assert f"{name}'s own process:" in done.text()
    assert "There is no container of an engine" not in done.text()
    assert (engine("ps", "--all", "--quiet"), engine("images", "--quiet")) == before


def test_lesson_3_says_why_there_is_no_engine() -> None:
    """No docker, and a podman that fails: doctor's words and podman's, and the lesson goes on."""
    if not IS_ROOT:
        may_be_ordinary()
    broken = "#!/bin/sh\necho starting >&2; echo no storage today >&2; exit 125\n"

    done = execute(lesson_called("join"), shims={"podman": broken})

    assert done.errors() == []
    assert "docker is not installed" in done.text()
    assert "podman cannot, here: no storage today" in done.text()
    assert "There is no container of an engine" in done.text()
    assert "s2: a probe for each namespace: passed" in done.verdicts()["s2"]


@each_lesson
def test_a_machine_that_refuses_stops_it_with_doctors_reason(lesson: Path) -> None:
    """One line for each thing refused, and no traceback; the first cells have run."""
    if not IS_ROOT:
        may_be_ordinary()
    # A user namespace in which there may be no other one, no chroot and no new mounts.
    refuse = 'for f in user mnt; do echo 0 > /proc/sys/user/max_${f}_namespaces; done; exec "$@"'
    drop = ("setpriv", "--bounding-set=-sys_chroot,-sys_admin", "--inh-caps=-all", "--")
    under = ("unshare", "--map-root-user", "sh", "-c", refuse, "sh", *drop)

    done = execute(lesson, under=under)

    first = next(output for _, output in done.outputs() if output.output_type == "error")
    assert first.ename == "Refused"
    text = "\n".join(first.traceback)
    assert text == str(first.evalue)
    assert "This lesson stops here" in text
    assert "user.max_user_namespaces is 0" in text
    assert "Traceback" not in text


def test_needs_passes_where_all_works(capsys: pytest.CaptureFixture[str]) -> None:
    lessons.needs("pidfd")

    assert capsys.readouterr().out == "This machine allows it: pidfd.\n"


def test_needs_names_who_forbids_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are doctor's own; here they are made up, for this machine may refuse nothing."""
    row = nsdemo.doctor()["chroot"]._replace(
        works=False, detail="EPERM", forbidden_by="seccomp", advice="ask for it"
    )
    monkeypatch.setattr(nsdemo, "doctor", lambda: nsdemo.Findings([row]))

    with pytest.raises(lessons.Refused) as caught:
        lessons.needs("chroot")

    assert "chroot: EPERM (forbidden by seccomp)" in str(caught.value)
    assert "what to do: ask for it" in str(caught.value)


# The form -----------------------------------------------------------------------------------------


def read(lesson: Path) -> Any:
    return jupytext.read(lesson)


def lesson_called(name: str) -> Path:
    (found,) = [path for path in LESSONS if path.stem.endswith(name)]
    return found


def challenges_of(lesson: Path) -> set[str]:
    return set(re.findall(r"^## Challenge (\w+):", lesson.read_text(), re.MULTILINE))


def test_every_challenge_is_in_one_lesson() -> None:
    assert [path.stem for path in LESSONS] == list(LEAST)
    found = [name for lesson in LESSONS for name in challenges_of(lesson)]
    assert sorted(found) == sorted(check.CHALLENGES)


@each_lesson
def test_the_form_of_a_lesson(lesson: Path) -> None:
    """A question first, a prediction before the first picture, a misconception, a challenge."""
    notebook = read(lesson)
    text = lesson.read_text()
    first = notebook.cells[0].source
    assert re.match(r"# \d+\. ", first)
    assert "**The question.**" in first
    assert first.count("?") >= 2
    assert re.search(r"\*Time: \d+ minutes, and \d+ for", first)
    sources = [cell.source for cell in notebook.cells]
    prediction = next(i for i, s in enumerate(sources) if s.startswith('prediction = """'))
    picture = next(i for i, s in enumerate(sources) if "notebook." in s and "import" not in s)
    assert prediction < picture
    assert sources.index("print(prediction)") > picture
    assert re.search(r"^##+ Misconception: ", text, re.MULTILINE)
    assert re.search(r"^##+ .*[Pp]icture", text, re.MULTILINE)
    assert challenges_of(lesson)
    assert "needs(" in text
    assert notebook.metadata["kernelspec"]["name"] == "python3"


@each_lesson
def test_a_challenge_has_a_start_a_solution_and_a_check(lesson: Path) -> None:
    """In this order; and what the learner begins with defines all that the check looks at."""
    code = [cell for cell in read(lesson).cells if cell.cell_type == "code"]
    solutions = [i for i, c in enumerate(code) if "solution" in c.metadata.get("tags", ())]
    assert len(solutions) == len(challenges_of(lesson))
    for index in solutions:
        called = re.fullmatch(r"check\.(\w+)\((\w+)(?:, \w+)*\)", code[index + 1].source)
        assert called is not None
        assert called[1] in challenges_of(lesson)
        start = code[index - 1].source
        assert re.search(rf"^{called[2]} = ", start, re.MULTILINE), start
        assert "solution" not in code[index - 1].metadata.get("tags", ())


def test_three_cells_to_the_first_picture_of_a_container() -> None:
    """From an installed package: import, prediction, container and card, of lesson 2."""
    code = [c.source for c in read(lesson_called("by-hand")).cells if c.cell_type == "code"]
    first = next(i for i, source in enumerate(code) if "notebook.card(" in source)
    assert first == 2
    assert "nsdemo.spawn(" in code[first]


PAGES = [*LESSONS, FOLDER / "TEACHING.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_links_are_manual_pages_or_lessons(page: Path) -> None:
    """And each is called as the page is: [chroot(2)](.../man2/chroot.2.html)."""
    links = re.findall(r"\[([^\]]+)\]\(([^)]+)\)", page.read_text())
    assert links
    for words, target in links:
        manual = re.fullmatch(
            r"https://man7\.org/linux/man-pages/man(\d)/([\w.-]+)\.\1\.html", target
        )
        if manual:
            wanted = f"{manual[2]}({manual[1]})"
            assert words == wanted
        else:
            assert (FOLDER / target).is_file() or target.startswith("https://"), target


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_every_system_call_is_linked_once_at_least(lesson: Path) -> None:
    """A call named as name(2) is a link the first time it stands in a lesson."""
    text = "\n".join(cell.source for cell in read(lesson).cells if cell.cell_type == "markdown")
    linked: set[str] = set()
    for match in re.finditer(r"(\[)?\b([a-z_.]+2?)\((\d)\)(\]\()?", text):
        if match[1] and match[4]:
            linked.add(match[2])
        else:
            assert match[2] in linked, f"{match[0]} stands here before its link"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_words(page: Path) -> None:
    """No path of a machine, no unfinished corner, lines of a readable length."""
    text = page.read_text()
    assert not re.search(r"/(?:home|root|Users)/", text)
    assert not re.search(r"TODO|FIXME|XXX|placeholder|\bfor now\b", text, re.IGNORECASE)
    assert max(map(len, text.splitlines())) <= 100


def test_the_lessons_are_small() -> None:
    """They add less than 500 KB to the wheel, unpacked even."""
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.suffix != ".pyc")
    assert size < 500_000


def test_root_with_python_leaves_nothing_when_it_fails(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        lessons.root_with_python(["no-such-program-at-all"])


def test_root_with_python_has_a_python_that_runs() -> None:
    if not IS_ROOT and not user_namespaces():
        pytest.skip("this machine gives ordinary users no user namespace")
    with lessons.root_with_python(["bash"]) as root:
        Path(root, "show.py").write_text("import os, sys; print(os.listdir('/'), sys.version)")
        command = ["python3", "-IS", "/show.py"]
        done = nsdemo.chroot_run(root, command, capture_output=True, text=True)

    assert done.stderr == ""
    assert "'bin'" in done.stdout
    assert done.stdout.strip().endswith(sys.version.splitlines()[-1])
