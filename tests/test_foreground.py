"""The caller's terminal after a command had it: foreground process group and modes as before.

Under an interactive shell with job control, as at anybody's prompt: who is left in the background
is stopped as soon as it touches the terminal.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import processes_with
from test_terminal import Terminal, wait_for

pytestmark = [
    pytest.mark.usefixtures("ordinary_users_may"),
    pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash"),
]


@pytest.fixture
def shell() -> Iterator[Terminal]:
    terminal = Terminal(["bash", "--norc", "--noprofile", "-i"])
    terminal.expect("OUT> ")
    yield terminal
    terminal.close()


# bash -i takes the foreground for a group of its own; without stdin it opens /dev/tty.
SHELL = "bash --norc --noprofile -i -c"
SCRIPT = """
import contextlib, nsdemo, os, subprocess, sys, termios, threading, time
shell = {shell!r}.split()
def command(text):
    return [*shell, text]
def state():
    fd = os.open("/dev/tty", os.O_RDWR)
    try:
        return os.tcgetpgrp(fd), termios.tcgetattr(fd)
    finally:
        os.close(fd)
CHANGE = command("stty -echo -icanon; echo hi")
KEPT = command("stty raw; exec sleep 600")
before = state()
{body}
after = state()
print("END", "SAME" if before == after else f"CHANGED {{before}} {{after}}", flush=True)
"""

CALLS = {
    "run": "nsdemo.run(CHANGE)",
    "without a group": "nsdemo.run(['stty', 'raw', '-echo'])",
    "init": "nsdemo.run(CHANGE, init=True)",
    "user": "nsdemo.run(CHANGE, user=True)",
    "same pid namespace": "nsdemo.run(CHANGE, pid=False)",
    "chroot_run": "nsdemo.chroot_run('/', CHANGE)",
    "enter": "nsdemo.enter(nsdemo.spawn(['sleep', '60'], stdin=nsdemo.DEVNULL), CHANGE)",
    "plan": "nsdemo.run(CHANGE, dry_run=True).run()",
    "wait": "nsdemo.spawn(CHANGE).wait()",
    "wait late": "box = nsdemo.spawn(CHANGE); time.sleep(.5); box.wait()",
    "communicate": "nsdemo.spawn(CHANGE, stdout=nsdemo.PIPE).communicate()",
    "poll": "box = nsdemo.spawn(CHANGE)\nwhile box.poll() is None: time.sleep(.01)",
    "thread": "t = threading.Thread(target=nsdemo.run, args=(CHANGE,)); t.start(); t.join()",
    "time-out": "with contextlib.suppress(nsdemo.TimeoutExpired): nsdemo.run(KEPT, timeout=1)",
    "time-out of enter": "with contextlib.suppress(nsdemo.TimeoutExpired): nsdemo.enter("
    "nsdemo.spawn(['sleep', '60'], stdin=nsdemo.DEVNULL), KEPT, timeout=1)",
    "time-out of chroot_run": "with contextlib.suppress(nsdemo.TimeoutExpired):"
    " nsdemo.chroot_run('/', KEPT, timeout=1)",
    "context": "with nsdemo.spawn(KEPT): time.sleep(.5)",
    "dropped": "box = nsdemo.spawn(KEPT); time.sleep(.5); del box",
    "other streams": "nsdemo.run(CHANGE, stdin=nsdemo.DEVNULL, capture_output=True,"
    " start_new_session=False)",
}


@pytest.mark.parametrize("call", CALLS)
def test_the_terminal_is_as_before(shell: Terminal, tmp_path: Path, call: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(body=CALLS[call], shell=SHELL))
    shell.type(f"{shlex.quote(sys.executable)} -W ignore {script}; echo status=$?\n")
    assert shell.expect(r"END (SAME|CHANGED)|Stopped")[0] == "END SAME"
    assert shell.expect(r"status=(\d+)\r")[1] == "0"


def test_the_prompt_is_back(shell: Terminal) -> None:
    """Python's own prompt, whose line editor changes the modes, and does not find its own."""
    shell.type(f"{shlex.quote(sys.executable)} -q\n")
    shell.expect(">>> ")
    shell.type("import nsdemo\n")
    shell.expect(">>> ")
    for number, options in enumerate(["", ", init=True", ", pid=False"]):
        shell.type(f"nsdemo.run(['bash', '--norc', '-i']{options}).returncode\n")
        shell.expect("OUT> ")
        shell.type(f"exit {number + 4}\n")
        assert shell.expect(rf"\r\n{number + 4}\r\n>>> |Stopped")[0] != "Stopped"
    shell.type("exit()\n")
    shell.expect("OUT> ")


@pytest.mark.parametrize("where", ["job", "thread"])
def test_what_is_anothers_is_not_taken(shell: Terminal, tmp_path: Path, where: str) -> None:
    """The shell that has put us into the background; a program that has the terminal now."""
    script = tmp_path / "script.py"
    marker = f"{os.getpid()}.5"
    bodies = {
        "job": f"nsdemo.run(['sleep', '{marker}'])",
        # Meanwhile the main thread is a program of its own making, in raw mode.
        "thread": f"box = nsdemo.spawn(['sleep', '{marker}']); import tty; tty.setraw(0)\n"
        "t = threading.Thread(target=box.wait); t.start(); print('begun', flush=True); t.join()\n"
        "print('RAW' if not termios.tcgetattr(0)[3] & termios.ICANON else 'COOKED', flush=True)\n"
        "termios.tcsetattr(0, termios.TCSANOW, before[1])",
    }
    script.write_text(SCRIPT.format(body=bodies[where], shell=SHELL))
    shell.type(f"{shlex.quote(sys.executable)} -W ignore {script}; echo status=$?\n")
    wait_for(shell, "sleep")
    if where == "job":
        shell.type("\x1a")
        shell.expect("Stopped")
        shell.type("bg; stty -echo; echo typed\n")
        shell.expect(r"typed\r")
    else:
        shell.expect("begun")
    (pid,) = processes_with(marker)
    os.kill(pid, signal.SIGKILL)
    if where == "thread":
        assert shell.expect("RAW|COOKED")[0] == "RAW"
        shell.expect("END SAME")
        return
    shell.expect("END CHANGED")  # it has not got back what it had not
    shell.type("stty -a; echo alive\n")
    assert "-echo " in shell.expect(r"(?s)(.*)\nalive\r")[1]
