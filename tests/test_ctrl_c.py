"""Ctrl-C at the caller's terminal: the command gets it once, and has a moment to clean up."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import running_script
from test_terminal import Terminal

pytestmark = pytest.mark.usefixtures("ordinary_users_may")


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


CALLS = {
    "run": "nsdemo.run(command)",
    "init": "nsdemo.run(command, init=True)",
    "without a pid namespace": "nsdemo.run(command, pid=False)",
    "captured": "nsdemo.run(command, stderr=nsdemo.PIPE)",
    "long way": "nsdemo.run(command, rlimits={'core': 0})",
    "enter": "nsdemo.enter(nsdemo.spawn(['sleep', '60'], stdin=nsdemo.DEVNULL), command)",
    "chroot_run": "nsdemo.chroot_run('/', command)",
    "plan": "nsdemo.run(command, dry_run=True).run()",
    "wait": "nsdemo.spawn(command).wait()",
    "communicate": "nsdemo.spawn(command).communicate()",
    "context": "with nsdemo.spawn(command): time.sleep(60)",
}
CLEANING = "trap 'sleep 0.03; echo clean >$1; exit' INT; echo ready; while :; do sleep 0.02; done"
CALLER = """
import nsdemo, sys, time
command = ["sh", "-c", sys.argv[2], "sh", sys.argv[1]]
try:
    {call}
except KeyboardInterrupt:
    print("END", flush=True)
"""


@pytest.mark.parametrize("call", CALLS)
def test_the_command_may_clean_up(terminals: list[Terminal], tmp_path: Path, call: str) -> None:
    """As with subprocess, which gives it a quarter of a second; a busy machine needs a few."""
    mark = tmp_path / "mark"
    code = CALLER.format(call=CALLS[call])
    for _ in range(5):
        terminal = Terminal([sys.executable, "-W", "ignore", "-c", code, str(mark), CLEANING])
        terminals.append(terminal)
        terminal.expect("ready")
        time.sleep(0.2)  # init tells of the launch a moment later
        terminal.type("\x03")
        terminal.expect("END")
        if mark.exists():
            return
    raise AssertionError("it is killed at once")


@pytest.mark.parametrize("call", ["box.interact()", "nsdemo.run(command, tty=True)"])
def test_who_interrupts_interact(terminals: list[Terminal], tmp_path: Path, call: str) -> None:
    """There Ctrl-C is typed inside; but somebody may send us the signal, and the command, too."""
    mark = tmp_path / "mark"
    before = "box = nsdemo.spawn(command, tty=True); " if "box" in call else ""
    code = CALLER.format(call=before + call)
    for _ in range(5):
        terminal = Terminal([sys.executable, "-W", "ignore", "-c", code, str(mark), CLEANING])
        terminals.append(terminal)
        terminal.expect("ready")
        children = Path(f"/proc/{terminal.process.pid}/task/{terminal.process.pid}/children")
        for pid in (*map(int, children.read_text().split()), terminal.process.pid):
            os.kill(pid, signal.SIGINT)
        terminal.expect("END")
        if mark.exists():
            return
    raise AssertionError("it is killed at once")


def test_a_second_one_ends_the_patience() -> None:
    """And the first is not lost; stop() has no more patience, either."""
    body = """
        command = ["sh", "-c", "trap 'echo heard' TERM INT; while :; do sleep 0.01; done"]
        box = nsdemo.spawn(command, **QUIET)
        def interrupt(number, frame):
            raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.2, 0.05)
        begun, raised = time.monotonic(), 0
        try:
            box.wait()
        except KeyboardInterrupt:
            raised += 1
        try:
            box.stop(timeout=50)
        except KeyboardInterrupt:
            raised += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        report(raised=raised, status=box.wait(5), seconds=time.monotonic() - begun)
    """
    with running_script(body) as process:
        assert process.stdin is not None
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert f'"raised": 2, "status": {-signal.SIGKILL}' in output


LISTENER = """
import signal
heard = 0
both = {signal.SIGINT, signal.SIGRTMIN}  # of the second kind each is kept, also while one waits
signal.pthread_sigmask(signal.SIG_BLOCK, both)
print("ready", flush=True)
while True:
    signal.sigwait(both)
    heard += 1
    print("heard", heard, flush=True)
"""
SENDER = """
import nsdemo, os, signal, sys, time
signal.signal(signal.SIGINT, lambda *_: None)
signal.signal(signal.SIGRTMIN, lambda *_: None)
box = nsdemo.spawn([sys.executable, "-c", sys.argv[1]], init=True)
while True:
    words = os.read(0, 100)
    if words == b"group\\n":
        os.killpg(0, signal.SIGRTMIN)
    elif words == b"end\\n":
        print("END", flush=True)
    elif words == b"one\\n":
        box.send_signal(signal.SIGRTMIN)
"""


def test_a_signal_arrives_once_under_init(terminals: list[Terminal]) -> None:
    """From the terminal, to the process group, or to the container: init is sent it, too."""
    terminal = Terminal([sys.executable, "-c", SENDER, LISTENER])
    terminals.append(terminal)
    terminal.expect("ready")
    for number, keys in enumerate(["\x03", "group\n", "\x03", "one\n", "group\n"], 1):
        terminal.type(keys)
        terminal.expect(f"heard {number}\r")
        time.sleep(0.2)
    terminal.type("end\n")
    assert "heard" not in terminal.expect(r"(?s)(.*)END")[1]
