"""Comparisons that are no two outputs: who is left, and who is where."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from support import QUIET, eventually, new_marker, processes_with, running_script
from targets import tool
from view import BARE, CAPTURED, FIRST, Compare, Ground, judge, outcome, ran

import nsdemo


def _survives(process: subprocess.Popen[str], marker: str) -> bool:
    """Does "sleep MARKER" live on when the process that started it is killed?"""
    assert eventually(lambda: processes_with(marker)), "it was never started"
    process.kill()
    process.wait()
    left = eventually(lambda: not processes_with(marker), 0.3) is False
    for pid in processes_with(marker):
        os.kill(pid, signal.SIGKILL)
    return left


def _python_survives(marker: str, **options: Any) -> bool:
    body = f"""
        box = nsdemo.spawn(["sleep", {marker!r}], **{options!r}, stdin=nsdemo.DEVNULL)
        time.sleep(100)
    """
    with running_script(body) as process:
        return _survives(process, marker)


def dies_with_its_parent(name: str, *words: str) -> Compare:
    """The original is killed, and Python is: does the command end?"""

    def compare(ground: Ground) -> None:
        marker = new_marker()
        first = FIRST if name == "unshare" else ["--bind", "/", "/"]
        command = [tool(name), *first, *words, "sleep", marker]
        with subprocess.Popen(command, **QUIET, text=True) as process:
            theirs = _survives(process, marker)
        ours = _python_survives(new_marker())
        without = _python_survives(new_marker(), die_with_parent=False)
        judge(str(theirs), str(ours), str(without))

    return compare


def joins_for_its_children(ground: Ground) -> None:
    """Without a fork the command stays in its pid namespace, and its children will be born in
    the other."""
    look = ["readlink", "/proc/self/ns/pid", "/proc/self/ns/pid_for_children"]
    words = ["--target", str(ground.box.pid), "--user", "--preserve-credentials", "--pid"]
    given: dict[str, Any] = BARE | {"pid": ground.box, "user": ground.box}
    ours = nsdemo.run(look, **given, fork=False, **CAPTURED)
    forked = nsdemo.run(look, **given, **CAPTURED)
    judge(ran([tool("nsenter"), *words, "--no-fork", *look]), outcome(ours), outcome(forked))


ALLOW_ALL = bytes.fromhex("060000000000ff7f")


def filters_calls(ground: Ground) -> None:
    """The same BPF program, through a descriptor and as bytes."""
    look = ["grep", "^Seccomp:", "/proc/self/status"]
    with tempfile.TemporaryFile() as program:
        program.write(ALLOW_ALL)
        program.seek(0)
        fd = str(program.fileno())
        theirs = ran(
            [tool("bwrap"), "--bind", "/", "/", "--unshare-user", "--seccomp", fd, *look],
            pass_fds=[program.fileno()],
        )
    ours = nsdemo.run(look, user=True, seccomp=ALLOW_ALL, **CAPTURED)
    judge(theirs, outcome(ours), outcome(nsdemo.run(look, user=True, **CAPTURED)))


def joins_by_descriptor(*keywords: str) -> Compare:
    """Namespace files: bwrap takes the number of an open one, we take what has a fileno()."""

    def compare(ground: Ground) -> None:
        look = ["sh", "-c", "readlink /proc/self/ns/user /proc/self/ns/pid"]
        with contextlib.ExitStack() as stack:
            places = {name: Path(f"/proc/{ground.box.pid}/ns/{name}") for name in keywords}
            files = {name: stack.enter_context(path.open("rb")) for name, path in places.items()}
            words = [(f"--{name}ns", str(file.fileno())) for name, file in files.items()]
            command = [tool("bwrap"), "--dev-bind", "/", "/", *itertools.chain(*words), *look]
            theirs = ran(command, pass_fds=[file.fileno() for file in files.values()])
            ours = nsdemo.run(look, **BARE | files, **CAPTURED)
        judge(theirs, outcome(ours), outcome(nsdemo.run(look, **BARE, **CAPTURED)))

    return compare
