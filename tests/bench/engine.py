"""A container engine that is already running, by its docker command line."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from typing import IO

from channel import Refused


@contextlib.contextmanager
def container(root: str) -> Iterator[tuple[str, str]]:
    """Import ``root`` as an image and start a container of it: yields the names of both.

    The engine is the one docker itself would ask (DOCKER_HOST). Raises Refused when there is
    none; both things are removed at the end.
    """
    image, name = f"nsdemo-bench:{os.getpid()}", f"nsdemo-bench-{os.getpid()}"
    _docker("version")
    with contextlib.ExitStack() as cleanup:
        archive = subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE)
        with archive:
            cleanup.callback(_discard, "image", "rm", "--force", image)
            _docker("import", "-", image, stdin=archive.stdout)
        cleanup.callback(_discard, "rm", "--force", name)
        _docker("run", "--detach", "--network", "none", "--name", name, image, "sleep", "1000000")
        yield image, name


def _docker(*args: str, stdin: IO[bytes] | int | None = subprocess.DEVNULL) -> None:
    try:
        done = subprocess.run(["docker", *args], stdin=stdin, capture_output=True, text=True)
    except FileNotFoundError:
        raise Refused("docker is not installed") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise Refused(lines[-1] if lines else f"docker ended with status {done.returncode}")


def _discard(*args: str) -> None:
    subprocess.run(["docker", *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
