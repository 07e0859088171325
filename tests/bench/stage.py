"""Everything a run needs, made in one temporary directory and gone with it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import bundle
import engine
from channel import Coprocess, Refused
from place import Place, is_privileged

HERE = Path(__file__).resolve().parent


@dataclasses.dataclass
class Stage:
    """The baseline, ready for requests, and the place where all launches happen."""

    baseline: Coprocess
    place: Place
    engine_reason: str


@contextlib.contextmanager
def build(docker: bool) -> Iterator[Stage]:
    """Build the stage; raises Refused when there is no compiler, busybox or container here."""
    user = not is_privileged()
    engine_reason = "not asked for (--docker)"
    with contextlib.ExitStack() as cleanup:
        directory = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="nsdemo-bench-")))
        root = make_root(directory / "root", cleanup)
        bundle.write(directory / "bundle", root, user)
        (directory / "state").mkdir()
        program = compile_baseline(directory)
        baseline = cleanup.enter_context(Coprocess([program, *(["--user"] if user else []), root]))
        image = container = ""
        if docker:
            try:
                image, container = cleanup.enter_context(engine.container(root))
            except Refused as refusal:
                engine_reason = str(refusal)
        place = Place(
            root=root,
            target=baseline.ask("target"),
            bundle=str(directory / "bundle"),
            state=str(directory / "state"),
            user=user,
            image=image,
            container=container,
        )
        yield Stage(baseline, place, engine_reason)


def make_root(directory: Path, cleanup: contextlib.ExitStack) -> str:
    """The root file system of all launches."""
    try:
        from nsdemo import Rootfs

        return cleanup.enter_context(Rootfs.busybox(directory)).path
    except (ImportError, FileNotFoundError) as error:
        raise Refused(str(error)) from None


def compile_baseline(directory: Path) -> str:
    program = str(directory / "baseline")
    compiler = os.environ.get("CC", "cc")
    try:
        subprocess.run(
            [compiler, "-std=c11", "-O2", "-Wall", "-Wextra", "-o", program, HERE / "baseline.c"],
            check=True,
        )
    except FileNotFoundError:
        raise Refused(f"there is no C compiler ({compiler})") from None
    except subprocess.CalledProcessError:
        raise Refused("the baseline does not compile") from None
    return program


@contextlib.contextmanager
def worker(place: Place, condition: str) -> Iterator[Coprocess]:
    """A Python process in ``condition`` that launches on request."""
    args = [sys.executable, str(HERE / "worker.py"), place.to_line(), condition]
    with Coprocess(args) as process:
        process.hear()
        yield process
