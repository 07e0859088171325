"""Roots with hostile programs in them, and containers that others have made."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import HERE, IS_ROOT, ORDINARY, QUIET, become_ordinary, eventually

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Iterator

# The two kinds of power that a container may be made with: its value of user=.
POWERS = [
    pytest.param(True, id="user-namespace"),
    pytest.param(
        False,
        id="real-root",
        marks=pytest.mark.skipif(not IS_ROOT, reason="only root makes one without a namespace"),
    ),
]
only_root = pytest.mark.skipif(not IS_ROOT, reason="only root can do this")
CAPTURED: dict[str, Any] = {"stdin": nsdemo.DEVNULL, "capture_output": True, "text": True}


def tool(name: str) -> str:
    """A program of this machine; a skip where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@contextlib.contextmanager
def hostile_root(pattern: str = "*") -> Iterator[Path]:
    """A busybox root with the programs of tests/hostile in /bin, those of these names."""
    compiler = tool("cc")
    with nsdemo.Rootfs.busybox() as made:
        root = Path(made)
        compilations = [
            subprocess.Popen(
                [compiler, "-static", "-O2", "-o", root / "bin" / source.stem, source],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            for source in sorted((HERE / "hostile").glob(f"{pattern}.c"))
        ]
        for process in compilations:
            _, errors = process.communicate()
            assert process.returncode == 0, errors.decode()
        yield root


def lines_of(path: str) -> dict[str, str]:
    """The fields of a /proc/PID/status."""
    text = Path(path).read_text()
    return {k: v.strip() for k, v in (line.split(":", 1) for line in text.splitlines())}


def fields(status: str) -> dict[str, str]:
    """The fields of a status file that a command has printed."""
    return {k: v.strip() for k, v in (x.split(":", 1) for x in status.splitlines() if ":" in x)}


def _child_named(parent: int, name: str) -> int:
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for pid in (*map(int, children), parent):
            if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                return pid
    return 0


@contextlib.contextmanager
def made_by_unshare(*options: str, ordinary: bool = False) -> Iterator[int]:
    """A container made by unshare(1), a sleep; its pid. ``ordinary``: by a user without power."""
    process = subprocess.Popen(
        [tool("unshare"), *options, "--kill-child", "sleep", "1000"],
        preexec_fn=become_ordinary if ordinary and IS_ROOT else None,
        **QUIET,
        stdout=subprocess.DEVNULL,
    )
    try:
        pid = eventually(lambda: _child_named(process.pid, "sleep"))
        assert pid, "unshare(1) made no container"
        yield pid
    finally:
        process.kill()
        process.wait()
        eventually(lambda: not os.path.exists(f"/proc/{pid}"))


def give(folder: Path) -> None:
    """A tree to an ordinary user."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, ORDINARY, ORDINARY, follow_symlinks=False)


@contextlib.contextmanager
def swapping(program: Path, *pairs: tuple[Path, str, str]) -> Iterator[None]:
    """While he exchanges names, by the program of tests/hostile: (folder, name, name)."""
    words = [str(word) for pair in pairs for word in pair]
    command = ["nice", program, str(ORDINARY), *words]
    with subprocess.Popen(command, **QUIET, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "swapping\n"
            yield
        finally:
            process.kill()
