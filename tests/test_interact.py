"""Being the terminal of a command: Container.interact() and the command line.

And nobody in a container types into the caller's terminal (CVE-2016-2779, CVE-2017-5226).
"""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import IMPORTABLE, IS_ROOT, eventually
from targets import hostile_root
from test_terminal import Terminal, nsdemo_command, wait_for

import nsdemo

pytestmark = pytest.mark.usefixtures("ordinary_users_may")


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with hostile_root("typist") as made:
        yield made


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


def test_interact_needs_a_terminal(root: Path) -> None:
    code = """
import nsdemo, sys
for call in (lambda: nsdemo.run(["true"], tty=True),
             lambda: nsdemo.spawn(["sleep", "9"], tty=True).interact()):
    try:
        call()
    except OSError as error:
        print(error.errno, error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": IMPORTABLE},
    )
    first, second = done.stdout.splitlines()
    assert first.startswith("25 [Errno 25] run connects the caller's terminal")
    assert second.startswith("25 [Errno 25] interact() connects the caller's terminal")


# -- interact(), on a terminal that stands for the user's ----------------------------------------


def interacting(body: str) -> list[str]:
    """A script in a terminal; at its end it says whether that is as it was."""
    return [
        sys.executable,
        "-c",
        "import nsdemo, os, signal, sys, termios, time\n"
        "before = termios.tcgetattr(0)\n"
        f"{body}\n"
        "after = termios.tcgetattr(0)\n"
        "print('END', 'SAME' if before == after else 'CHANGED', flush=True)\n",
    ]


def test_interact_returns_what_the_command_did(terminals: list[Terminal], root: Path) -> None:
    terminal = Terminal(
        interacting(
            f"box = nsdemo.spawn(['sh', '-c', 'read a; stty size; exit 4'],"
            f" root={str(root)!r}, tty=True)\n"
            "print('STATUS', box.interact())"
        )
    )
    terminals.append(terminal)
    _set_size(terminal, 33, 99)
    time.sleep(0.5)
    terminal.type("x\r")
    terminal.expect(r"33 99\r\n")
    terminal.expect("STATUS 4\r\nEND SAME")


def test_a_terminal_of_no_session_will_do(root: Path) -> None:
    master, slave = os.openpty()
    body = f"box = nsdemo.spawn(['cat'], root={str(root)!r}, tty=True)\nbox.interact()"
    environment = {**os.environ, "PYTHONPATH": IMPORTABLE}
    with subprocess.Popen(
        interacting(body), stdin=slave, stdout=slave, start_new_session=True, env=environment
    ) as process:
        assert eventually(lambda: not termios.tcgetattr(slave)[3] & termios.ICANON)
        os.write(master, b"keys\r\x04")
        assert process.wait(9) == 0
    assert os.read(master, 1000).endswith(b"keys\r\nkeys\r\nEND SAME\r\n")
    os.close(master)
    os.close(slave)


def _set_size(terminal: Terminal, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


def test_the_size_follows(terminals: list[Terminal], root: Path) -> None:
    script = "trap 'stty size' WINCH; echo ready; while :; do read a && exit 0; done"
    terminal = Terminal(nsdemo_command("spawn", "--root", str(root), "sh", "-c", script))
    terminals.append(terminal)
    terminal.expect("ready")
    _set_size(terminal, 41, 121)
    terminal.expect("41 121")


@pytest.mark.parametrize(
    "ending",
    [
        "try: box.interact(0.5)\nexcept nsdemo.TimeoutExpired: print('LATE', box.poll())",
        "signal.signal(signal.SIGALRM, lambda *_: 1 / 0); signal.setitimer(signal.ITIMER_REAL, 0.5)"
        "\ntry: box.interact()\nexcept ZeroDivisionError: print('LATE', box.poll())",
    ],
    ids=["time-out", "exception"],
)
def test_the_terminal_is_given_back(terminals: list[Terminal], root: Path, ending: str) -> None:
    terminal = Terminal(
        interacting(
            f"box = nsdemo.spawn(['sleep', '100'], root={str(root)!r}, tty=True)\n"
            f"{ending}\nbox.stop()"
        )
    )
    terminals.append(terminal)
    terminal.expect("LATE None\r\nEND SAME")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_a_signal_gives_the_terminal_back(
    terminals: list[Terminal], root: Path, number: signal.Signals
) -> None:
    code = f"import nsdemo; nsdemo.run(['sleep', '100'], root={str(root)!r}, tty=True)"
    caller = (
        "import os, subprocess, sys, termios\n"
        "before = termios.tcgetattr(0)\n"
        "child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stderr=subprocess.DEVNULL)\n"
        "print('CHILD', child.pid, flush=True)\n"
        "status = child.wait()\n"
        "print('END', status, before == termios.tcgetattr(0), flush=True)\n"
    )
    terminal = Terminal([sys.executable, "-c", caller, code])
    terminals.append(terminal)
    pid = int(terminal.expect(r"CHILD (\d+)")[1])
    wait_for(terminal, "sleep")
    assert eventually(lambda: not termios.tcgetattr(terminal.slave)[3] & termios.ICANON)
    os.kill(pid, number)
    terminal.expect(f"END -{int(number)} True")


def test_interact_ends_with_the_command(terminals: list[Terminal], root: Path) -> None:
    """Whoever keeps its terminal open, and whatever he writes there."""
    script = "trap '' HUP; (trap '' HUP; sleep 6; exec yes) & echo END; exit 6"
    terminal = Terminal(
        nsdemo_command(
            "spawn", "--no-pid", "--dev", "/dev", "--root", str(root), "sh", "-c", script
        )
    )
    terminals.append(terminal)
    terminal.expect("END")
    begun = time.monotonic()
    assert terminal.process.wait(9) == 6
    assert time.monotonic() - begun < 5


def test_interact_outlives_a_closed_terminal(terminals: list[Terminal], root: Path) -> None:
    script = "exec 0<&- 1>&- 2>&-; sleep 0.4; exec 1>/dev/tty; echo again; sleep 0.3; exit 5"
    terminal = Terminal(
        nsdemo_command("spawn", "--root", str(root), "--dev", "/dev", "sh", "-c", script)
    )
    terminals.append(terminal)
    terminal.expect("again")
    assert terminal.process.wait(9) == 5


def test_a_shell_entered_has_job_control(terminals: list[Terminal]) -> None:
    with (
        nsdemo.Rootfs.from_host(["bash", "sleep"]) as made,
        nsdemo.spawn(
            ["sleep", "100"], root=made, mounts=[nsdemo.Dev()], stdin=nsdemo.DEVNULL
        ) as box,
    ):
        terminal = Terminal(
            nsdemo_command("enter", "--env", "PS1=IN> ", str(box.pid), "bash", "--norc", "-i")
        )
        terminals.append(terminal)
        terminal.expect("IN> ")
        terminal.type("sleep 99\n")
        time.sleep(0.3)
        terminal.type("\x1a")
        terminal.expect("Stopped")
        terminal.type("fg\n")
        time.sleep(0.2)
        terminal.type("\x03")
        terminal.expect("IN> ")
        terminal.type("exit 8\n")
        assert terminal.process.wait(9) == 8


def test_in_a_pipe_the_rest_is_no_terminal(terminals: list[Terminal], root: Path) -> None:
    look = "for n in 0 1 2; do test -t $n && echo $n >&2; done; cat"
    us = shlex.join(nsdemo_command("spawn", "--root", str(root), "sh", "-c", look))
    terminal = Terminal(["sh", "-c", f"echo in | {us} | cat; echo END"])
    terminals.append(terminal)
    assert sorted(terminal.expect(r"(?s)(.*)END")[1].split()) == ["2", "in"]


def test_a_pager_keeps_the_keyboard(terminals: list[Terminal], root: Path) -> None:
    us = shlex.join(nsdemo_command("spawn", "--root", str(root), "sh", "-c", "cat; sleep 0.3"))
    pager = "head -c 4 /dev/tty"  # reads keys, not what comes through the pipe
    terminal = Terminal(["sh", "-c", f"{us} | {pager}; echo END"])
    terminals.append(terminal)
    wait_for(terminal, "head")
    terminal.type("key\n")
    terminal.expect("key\r\nkey\r\nEND")


def test_back_to_the_foreground(terminals: list[Terminal], root: Path) -> None:
    """A job in the background leaves the keyboard alone; fg gives it to the command."""
    terminal = Terminal(["bash", "--norc", "--noprofile", "-i"])
    terminals.append(terminal)
    terminal.expect("OUT> ")
    terminal.type(shlex.join(nsdemo_command("spawn", "--root", str(root), "cat")) + " &\n")
    wait_for(terminal, "cat")
    terminal.type("echo mine\n")
    terminal.expect("mine\r\nmine")
    terminal.type("fg\n")
    terminal.expect("cat\r\n")
    assert eventually(lambda: not termios.tcgetattr(terminal.slave)[3] & termios.ICANON)
    terminal.type("inside\r")
    terminal.expect("inside\r\ninside")
    terminal.type("\x04")
    terminal.expect("OUT> ")


def test_without_a_terminal_there_is_none_to_connect() -> None:
    done = subprocess.run(
        nsdemo_command("spawn", "--tty", "true"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": IMPORTABLE},
    )
    assert (done.returncode, done.stdout) == (125, "")
    assert "there is none" in done.stderr


# -- nobody types into the caller's terminal -----------------------------------------------------

# What waits to be read there when the command has ended.
WAITING = """\
import fcntl, struct, subprocess, sys, termios
status = subprocess.call(["sh", "-c", sys.argv[1]])
waiting = struct.unpack("i", fcntl.ioctl(0, termios.FIONREAD, bytes(4)))[0]
print("STATUS", status, "WAITING", waiting, flush=True)
"""
KEYS = len("echo typed by the container\n")


def _may_type() -> bool:
    """Real root may, since Linux 6.2 nobody else where the sysctl is 0."""
    switch = Path("/proc/sys/dev/tty/legacy_tiocsti")
    real = Path("/proc/self/uid_map").read_text().split()[2] == str(2**32 - 1)
    return (IS_ROOT and real) or not switch.exists() or switch.read_text().strip() == "1"


@pytest.mark.parametrize(
    "streams", ["", "</dev/null", "2>/dev/null", "| cat", "</dev/null 2>&1 | cat"]
)
@pytest.mark.parametrize("flags", [(), ("--dev", "/dev")], ids=["ours", "own"])
def test_nothing_is_typed_into_the_callers_terminal(
    terminals: list[Terminal], root: Path, flags: tuple[str, ...], streams: str
) -> None:
    us = shlex.join(nsdemo_command("spawn", *flags, "--root", str(root), "typist"))
    terminal = Terminal([sys.executable, "-c", WAITING, f"{us} {streams}"])
    terminals.append(terminal)
    terminal.expect(r"TYPED \d")
    assert terminal.expect(r"STATUS (\d+) WAITING (\d+)").groups() == ("0", "0")


def test_nor_by_chroot_and_enter(terminals: list[Terminal], root: Path) -> None:
    with nsdemo.spawn(["sleep", "100"], root=root, stdin=nsdemo.DEVNULL) as box:
        for words in (["chroot", str(root)], ["enter", str(box.pid)]):
            us = shlex.join(nsdemo_command(*words, "typist"))
            terminal = Terminal([sys.executable, "-c", WAITING, us])
            terminals.append(terminal)
            terminal.expect(r"TYPED \d")
            assert terminal.expect(r"STATUS (\d+) WAITING (\d+)").groups() == ("0", "0")
        with pytest.raises(ValueError, match="tty=True"):
            box.resize(80, 24)


def test_the_typist_can_type(terminals: list[Terminal], root: Path) -> None:
    """With the caller's terminal he does: the test above could fail."""
    if not _may_type():
        pytest.skip("ordinary users: this kernel lets nobody type into terminals")
    us = shlex.join(nsdemo_command("spawn", "--no-tty", "--root", str(root), "typist"))
    terminal = Terminal([sys.executable, "-c", WAITING, us])
    terminals.append(terminal)
    waiting = int(terminal.expect(r"STATUS 0 WAITING (\d+)")[1])
    assert waiting >= KEYS


def test_python_callers_are_safe_with_tty(terminals: list[Terminal], root: Path) -> None:
    body = (
        f"box = nsdemo.spawn(['typist'], root={str(root)!r}, tty=True)\n"
        "print(box.communicate()[0].split()[-2:])\n"
        "import fcntl; print('WAITING', fcntl.ioctl(0, termios.FIONREAD, bytes(4)))"
    )
    terminal = Terminal(interacting(body))
    terminals.append(terminal)
    terminal.expect(r"TYPED")
    terminal.expect(r"WAITING b'(\\x00){4}'")
    terminal.expect("END SAME")


def test_an_answer_of_the_terminal_reaches_nobody_else(
    terminals: list[Terminal], root: Path
) -> None:
    """A command asks, and ends; what the terminal answers is no command for the caller's shell."""
    script = "printf '\\033[6n'; exit 3"
    us = shlex.join(nsdemo_command("spawn", "--root", str(root), "sh", "-c", script))
    terminal = Terminal([sys.executable, "-c", WAITING, us])
    terminals.append(terminal)
    terminal.expect("\x1b\\[6n")
    assert terminal.expect(r"STATUS (\d+) WAITING (\d+)").groups() == ("3", "0")
