"""From a Container or a pid to what the kernel says about it, by a program of its own: look.py."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nsdemo
from nsdemo import kernel

from .look import COMMAND
from .result import Fact, Result

_PATIENCE = 5.0  # seconds; a look takes a few hundredths

Report = dict[str, Any]
Token = tuple[str, str]  # its path, as the caller sees it; its text


def pid_of(box: Any) -> int:
    """The pid of what a learner handed over."""
    if isinstance(box, nsdemo.Container):
        return box.pid
    if isinstance(box, bool) or not isinstance(box, int):
        raise TypeError(
            f"the check takes a Container (from spawn() or Plan.start()) or a pid, not a "
            f"{type(box).__name__}"
        )
    if not 1 <= box <= 2**22:
        raise ValueError(f"a pid is a number from 1 to {2**22}, not {box}")
    return box


def look(
    box: Any, *parts: str, tokens: Sequence[Token] = (), name: str = "", path: str = ""
) -> Report:
    """Everything that look.py finds out about a process.

    A Container that has ended is not looked for: its number may be another's by now.
    """
    pid = pid_of(box)
    if isinstance(box, nsdemo.Container) and box._has_ended():
        return {"gone": f"the container has ended (status {box.returncode})"}
    if not os.path.exists(f"/proc/{pid}"):
        # Mounted with hidepid it hides an init of nsdemo's, but not the command under it.
        try:
            pid = kernel.pid_of(box)
            nsdemo.namespaces(pid)
        except PermissionError as error:
            return {"refused": "; ".join([str(error.strerror), *getattr(error, "__notes__", ())])}
        except ProcessLookupError:
            return {"gone": f"there is no process {pid}: it has ended, or never was"}
    request = json.dumps({"pid": pid, "parts": parts, "tokens": tokens, "name": name, "path": path})
    process = subprocess.Popen(
        [sys.executable, *COMMAND, request],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        answer, complaint = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return {"gone": f"process {pid} does not let itself be looked at: no answer in time"}
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its children, too
        process.communicate()
    if process.returncode:
        raise RuntimeError(f"the look at process {pid} failed:\n{complaint}")
    return dict(json.loads(answer))


def until_passed(judge: Callable[[], Result], seconds: float = 0.7) -> Result:
    """The first verdict that is good, or the last one: what was just started needs a moment."""
    end = time.monotonic() + seconds
    while not (result := judge()).passed and result.facts[0].passed and time.monotonic() < end:
        time.sleep(0.05)
    return result


def presence(report: Report) -> Fact:
    """The first fact of each check: there is something to look at."""
    asked = "the process is alive, and yours to look at"
    if "gone" in report:
        question = "A command that ends takes its container along: what would keep it running?"
        return Fact(asked, False, report["gone"], question)
    if "refused" in report:
        question = "Which pid did you hand over, and who started that process?"
        return Fact(asked, False, report["refused"], question)
    inner = report["pids"][-1]
    return Fact(asked, True, f"pid {report['pid']}, {inner} inside, called {report['name']}")


@contextlib.contextmanager
def fresh_token() -> Iterator[Token]:
    """A file of the host with a text that nobody could know."""
    folder = tempfile.mkdtemp(prefix="nsdemo-check-")
    try:
        yield write_token(folder, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_token(folder: str, seen_as: str) -> Token:
    """Write a token into a folder, which the caller sees under another name, perhaps."""
    name = f"token-{secrets.token_hex(8)}"
    text = secrets.token_hex(16)
    Path(folder, name).write_text(text, encoding="ascii")
    return f"{seen_as.rstrip('/')}/{name}", text
