"""The options of .devcontainer against a real Docker Engine: enough, and none too many.

The image of the course itself takes minutes to be built, and a network: with --long it is, and
start.sh runs in it. Else the engine's busybox stands for it, as the same ordinary user, and does
what a lesson does: new user, mount and pid namespaces and a /proc for them. busybox's unshare makes
the system calls that nsdemo makes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from engines import IMAGE, Engine, docker_engine, need_command
from support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["docker_engine"]

FOLDER = Path(__file__).resolve().parent.parent / ".devcontainer"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="this is not a checkout")

LESSON = ("unshare", "-Urmpf", "--mount-proc", "sh", "-c", "echo I am $$ in /proc/[0-9]*")


def settings() -> dict[str, Any]:
    text = (FOLDER / "devcontainer.json").read_text()
    found: dict[str, Any] = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    return found


def options() -> list[tuple[str, str]]:
    """The pairs of runArgs."""
    words = settings()["runArgs"]
    return list(zip(words[::2], words[1::2], strict=True))


def attempt(engine: Engine, given: list[tuple[str, str]]) -> tuple[int, str]:
    words = [word for pair in given for word in pair]
    user = ("--user", "1000:1000", "--rm", *engine.run_options)
    done = engine.attempt("run", *words, *user, IMAGE, *LESSON)
    return done.returncode, done.stdout + done.stderr


def test_with_the_options_an_ordinary_user_makes_containers(docker_engine: Engine) -> None:
    assert attempt(docker_engine, options()) == (0, "I am 1 in /proc/1\n")


@pytest.mark.parametrize("left_out", ["seccomp=unconfined", "systempaths=unconfined"])
def test_none_of_them_is_too_many(docker_engine: Engine, left_out: str) -> None:
    """The third, apparmor=unconfined, makes a difference only where AppArmor is in use."""
    given = [pair for pair in options() if pair[1] != left_out]
    assert len(given) == len(options()) - 1
    status, output = attempt(docker_engine, given)
    assert status != 0
    assert "Operation not permitted" in output


def test_the_same_options_are_written_everywhere() -> None:
    words = {value for _, value in options()}
    for name in ("README.md", "Dockerfile"):
        text = (FOLDER / name).read_text()
        command = text[text.index("docker run") :].partition("nsdemo-course")[0]
        assert set(re.findall(r"--security-opt (\S+)", command)) == words, name


def test_what_is_started_is_there() -> None:
    start = FOLDER / Path(settings()["postStartCommand"]).name
    assert start.stat().st_mode & 0o111
    dockerfile = (FOLDER / "Dockerfile").read_text()
    assert "COPY . /opt/nsdemo" in dockerfile
    assert f"useradd --create-home --shell /bin/bash {settings()['remoteUser']}" in dockerfile
    assert settings()["forwardPorts"] == [8888]


# The image itself ---------------------------------------------------------------------------------

COURSE = "nsdemo-course"
# What leads this machine to its registries: part of the base, as an administrator would have it.
OF_THE_MACHINE = ("/etc/pip.conf", "/usr/local/share/ca-certificates")


def must(*command: str | Path, seconds: float = 600, **environment: str) -> str:
    """Run a command that takes its time; what it printed."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def base_of(dockerfile: str) -> tuple[str, str]:
    """The image that it is built from, and the Debian release in its name."""
    found = re.search(r"^FROM (debian:(\w+)-slim)$", dockerfile, re.MULTILINE)
    assert found
    return found[1], found[2]


@pytest.fixture(scope="module")
def course(docker_engine: Engine) -> Engine:
    """An engine with the image, built from the Dockerfile as it stands.

    The base is made by debootstrap, so that Debian's packages are the one thing to be reached.
    The build has the machine's network; no container has any.
    """
    name, release = base_of((FOLDER / "Dockerfile").read_text())
    tree, archive = docker_engine.directory / "base", docker_engine.directory / "base.tar"
    must(need_command("debootstrap"), "--variant=minbase", release, tree)
    for place in map(Path, OF_THE_MACHINE):
        if place.is_dir():
            shutil.copytree(place, f"{tree}{place}", dirs_exist_ok=True)
        elif place.exists():
            shutil.copy(place, f"{tree}{place}")
    # pip asks these before there is a package with certificates.
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    (tree / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
    shutil.copy(certificates, f"{tree}{certificates}")
    must("tar", "-C", tree, "-cf", archive, ".")
    must(*docker_engine.client, "import", archive, name)
    shutil.rmtree(tree)
    archive.unlink()
    words = ("build", "--network", "host", "-t", COURSE, "-f", FOLDER / "Dockerfile", FOLDER.parent)
    must(*docker_engine.client, *words, DOCKER_BUILDKIT="0")
    return docker_engine


@contextlib.contextmanager
def of_the_course(course: Engine, *command: str) -> Iterator[str]:
    """The name of a container of the image, with the options of devcontainer.json."""
    words = [word for pair in options() for word in pair]
    course("run", "-d", "--rm", "--name", COURSE, *words, *course.run_options, COURSE, *command)
    try:
        yield COURSE
    finally:
        course.attempt("rm", "--force", COURSE)


def visit(course: Engine, name: str) -> dict[str, Any]:
    """What the lessons say on the JupyterLab in a container."""
    program = Path(__file__).with_name("visit_lab.py")
    with program.open() as stdin:
        done = subprocess.run(
            [*course.client, "exec", "-i", name, "python", "-"],
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.long
def test_start_sh_starts_the_course(course: Engine) -> None:
    """In the image, as an editor does: one server, whose kernels run every lesson."""
    start = str(settings()["postStartCommand"])
    with of_the_course(course, "sleep", "infinity") as name:
        for _ in range(2):  # at every start of the container; the second finds a server
            said = must(*course.client, "exec", name, start)
            assert re.search(r"^yes +pivot_root", said, re.MULTILINE)
            assert "http://localhost:8888/?token=" in said.splitlines()[-1]
        assert course("exec", name, "pgrep", "-c", "-f", "jupyterlab") == "1"
        lessons = visit(course, name)
    sources = (FOLDER.parent / "nsdemo/lessons").glob("[0-9]*.md")
    assert sorted(lessons) == sorted(path.with_suffix(".ipynb").name for path in sources)
    for name, found in lessons.items():
        assert found["errors"] == [], name
        assert found["pictures"] >= 3, name


@pytest.mark.long
def test_the_image_starts_the_course_by_itself(course: Engine) -> None:
    """As the README runs it: it prints the address, and answers on all of its interfaces."""
    with of_the_course(course) as name:
        assert eventually(
            lambda: "http://127.0.0.1:8888/" in course.attempt("logs", name).stderr, 30
        )
        listening = course("exec", name, "cat", "/proc/net/tcp").split()
        assert "00000000:22B8" in listening
        assert visit(course, name)["02-container-by-hand.ipynb"]["errors"] == []
