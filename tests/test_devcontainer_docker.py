"""The options of .devcontainer against a real Docker Engine: enough, and none too many.

The image of the course itself needs a network to be built. Here the engine's busybox stands for it,
as the same ordinary user, and does what a lesson does: new user, mount and pid namespaces and a
/proc for them. busybox's unshare makes the system calls that nsdemo makes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from engines import IMAGE, Engine, docker_engine

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
