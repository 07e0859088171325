"""A shell in a terminal: job control works, signals go where they should, nothing is changed."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import SLOW

import nsdemo

SOURCE = str(Path(nsdemo.__file__).resolve().parents[1])
DEADLINE = 10.0 * SLOW

# Takes the pty as its controlling terminal, as a login does, and becomes the command.
LOGIN = """\
import os, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))
os.execvp(sys.argv[1], sys.argv[1:])
"""
# A caller that looks at the terminal before and after, and says what the status was.
CALLER = """\
import os, signal, subprocess, sys, termios
signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches us, too, and is not for us
before = termios.tcgetattr(0), os.tcgetpgrp(0)
status = subprocess.call(sys.argv[1:])
after = termios.tcgetattr(0), os.tcgetpgrp(0)
print("STATUS", status, "SAME" if before == after else f"CHANGED {before} {after}", flush=True)
"""


class Terminal:
    """A pty with a command on it, typed at and read as a person would."""

    def __init__(self, command: list[str], **env: str) -> None:
        self.master, slave = os.openpty()
        self.slave = slave
        self.text = ""
        environment = {**os.environ, "PYTHONPATH": SOURCE, "PS1": "OUT> ", "TERM": "dumb", **env}
        environment.pop("NSDEMO_MUST_WORK", None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOGIN, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=environment,
        )

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, pattern: str) -> re.Match[str]:
        """Read until the pattern has come, and forget what was read up to its end."""
        until = time.monotonic() + DEADLINE
        while True:
            found = re.search(pattern, self.text)
            if found:
                self.text = self.text[found.end() :]
                return found
            left = until - time.monotonic()
            assert left > 0, f"{pattern!r} did not come; there is {self.text!r}"
            if select.select([self.master], [], [], min(left, 1))[0]:
                self.text += os.read(self.master, 4096).decode(errors="replace")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.slave)
        os.close(self.master)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


@pytest.fixture(scope="module")
def root() -> Iterator[str]:
    with nsdemo.Rootfs.from_host(["bash", "sleep", "stty", "sh", "cat"]) as rootfs:
        yield rootfs.path


def nsdemo_command(*words: str) -> list[str]:
    return [sys.executable, "-m", "nsdemo", *words]


def called(*words: str) -> list[str]:
    return [sys.executable, "-c", CALLER, *nsdemo_command(*words)]


def wait_for(terminal: Terminal, name: str) -> int:
    """Wait until a command of this name has been started from the terminal; its pid."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        parents, named = {}, []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                before, _, after = path.read_text().rpartition(")")
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(path.parent.name)] = int(after.split()[1])
            if before.endswith(f"({name}"):
                named.append(int(path.parent.name))
        for pid in named:
            above = pid
            while above > 1:
                above = parents.get(above, 0)
                if above == terminal.process.pid:
                    return pid
        time.sleep(0.02)
    raise AssertionError(f"no {name} was started; there is {terminal.text!r}")


@pytest.mark.parametrize("flags", [("--no-tty",), (), ("--dev", "/dev")], ids="".join)
def test_shell_has_job_control_and_gives_the_terminal_back(
    terminals: list[Terminal], root: str, flags: tuple[str, ...]
) -> None:
    terminal = Terminal(
        called("spawn", *flags, "--root", root, "--env", "PS1=IN> ", "bash", "--norc", "-i")
    )
    terminals.append(terminal)
    terminal.expect("IN> ")
    terminal.type("echo pid=$$\n")
    assert terminal.expect(r"pid=(\d+)\r")[1] == "1"
    assert "no job control" not in terminal.text
    terminal.type("sleep 100\n")
    wait_for(terminal, "sleep")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.type("jobs\n")
    terminal.expect(r"\[1\]\+\s+Stopped\s+sleep 100")
    terminal.type("fg\n")
    terminal.expect("fg\r\nsleep 100")
    time.sleep(0.3)
    terminal.type("\x03")
    terminal.expect("IN> ")
    terminal.type("echo status=$?\n")
    assert terminal.expect(r"status=(\d+)\r")[1] == str(128 + signal.SIGINT)
    terminal.type("stty -echo -icanon; exit 5\n")
    assert terminal.expect(r"STATUS (\d+) (\w+)").groups() == ("5", "SAME")


@pytest.mark.parametrize("flag", ["--tty", "--no-tty"])
def test_shell_killed_from_outside_gives_the_terminal_back(
    terminals: list[Terminal], root: str, flag: str
) -> None:
    terminal = Terminal(
        called("spawn", flag, "--root", root, "--env", "PS1=IN> ", "bash", "--norc", "-i")
    )
    terminals.append(terminal)
    terminal.expect("IN> ")
    terminal.type("stty raw; echo ready\n")
    terminal.expect(r"\nready")
    children = Path(f"/proc/{terminal.process.pid}/task/{terminal.process.pid}/children")
    (command,) = children.read_text().split()
    os.kill(int(command), signal.SIGTERM)  # bash -i ignores it; stop() kills it then
    status, same = terminal.expect(r"STATUS (\d+) (\w+)").groups()
    assert int(status) in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
    assert same == "SAME"


@pytest.mark.parametrize("tty", ["--tty", "--no-tty"])
@pytest.mark.parametrize("flags", [(), ("--no-pid",), ("--init",)])
def test_control_c_ends_a_command_that_does_not_handle_it(
    terminals: list[Terminal], flags: tuple[str, ...], tty: str
) -> None:
    """Also a PID 1, for which the kernel drops what has no handler."""
    terminal = Terminal(called("spawn", tty, *flags, "sleep", "100"))
    terminals.append(terminal)
    wait_for(terminal, "sleep")
    terminal.type("\x03")
    status, same = terminal.expect(r"STATUS (\d+) (\w+)").groups()
    assert int(status) == 128 + (signal.SIGINT if flags else signal.SIGKILL)
    assert same == "SAME"


def test_control_c_is_left_to_a_command_that_handles_it(terminals: list[Terminal]) -> None:
    script = 'trap "echo caught; exit 9" INT; echo ready; while :; do sleep 0.1; done'
    terminal = Terminal(called("spawn", "bash", "-c", script))
    terminals.append(terminal)
    terminal.expect("ready")
    terminal.type("\x03")
    terminal.expect("caught")
    assert terminal.expect(r"STATUS (\d+) (\w+)").groups() == ("9", "SAME")


def test_the_callers_own_shell_goes_on(terminals: list[Terminal], root: str) -> None:
    """Under bash with job control: stop us, go on in the background, come back, leave."""
    terminal = Terminal(["bash", "--norc", "--noprofile", "-i"])
    terminals.append(terminal)
    terminal.expect("OUT> ")
    us = " ".join(nsdemo_command("spawn", "--no-tty", "sleep", "100"))
    terminal.type(f"{us}\n")
    wait_for(terminal, "sleep")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.type("fg\n")
    terminal.expect("fg\r\n")
    time.sleep(0.3)
    terminal.type("\x03")
    terminal.expect("OUT> ")
    terminal.type("echo status=$?\n")
    assert terminal.expect(r"status=(\d+)\r")[1] == str(128 + signal.SIGKILL)
    terminal.type(" ".join(nsdemo_command("chroot", root, "bash", "--norc", "-i")) + "\n")
    terminal.expect(r"bash-[\d.]+[#$] ")
    terminal.type("exit 4\n")
    terminal.expect("OUT> ")
    terminal.type("echo status=$?\n")
    assert terminal.expect(r"status=(\d+)\r")[1] == "4"


def test_in_the_background_the_terminal_is_not_touched(terminals: list[Terminal]) -> None:
    terminal = Terminal(["bash", "--norc", "--noprofile", "-i"])
    terminals.append(terminal)
    terminal.expect("OUT> ")
    terminal.type(" ".join(nsdemo_command("spawn", "sleep", "0.5")) + " & wait; echo st=$?\n")
    assert terminal.expect(r"st=(\d+)\r")[1] == "0"
    terminal.type("echo alive\n")
    terminal.expect("alive\r")
