"""tty=True: a terminal of the container's own, or of ours; and nobody types into the caller's."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import (
    HERE,
    IMPORTABLE,
    IS_ROOT,
    eventually,
    leftovers_now,
    new_marker,
    processes_with,
    snapshot,
)
from targets import hostile_root
from test_terminal import Terminal, nsdemo_command, wait_for

import nsdemo

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

SH = ["sh", "-c"]
COLLECTED: dict[str, Any] = {"tty": True, "capture_output": True, "text": True}


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


def source_of(done: nsdemo.CompletedProcess[Any] | nsdemo.Container[Any]) -> int | None:
    """1: the terminal is of the container's devpts; 0: of ours."""
    (step,) = (step for step in done.trace if step.operation == "terminal")
    return step.result


# -- what the command has --------------------------------------------------------------------

LOOK = """\
tty; stty size; cut -d' ' -f 5-8 /proc/self/stat
for n in 0 1 2; do readlink /proc/$$/fd/$n; done"""


@pytest.mark.parametrize("options", [{}, {"init": True}, {"uid": 0, "gid": 0}], ids=str)
def test_it_is_from_the_containers_own_devpts(root: Path, options: dict[str, Any]) -> None:
    before = snapshot()
    size = os.terminal_size((101, 31))
    done = nsdemo.run(
        [*SH, LOOK], root=root, mounts=[nsdemo.Dev()], **{**COLLECTED, "tty": size}, **options
    )
    name, shown, stat, *fds = done.stdout.splitlines()
    group, session, number, foreground = map(int, stat.split())
    assert (name, shown, fds) == ("/dev/pts/0", "31 101", ["/dev/pts/0"] * 3)
    assert session == (2 if options.get("init") else 1)
    assert os.major(number) == 136
    assert foreground == group == session  # a shell without job control is all of it
    assert (done.stderr, done.returncode, source_of(done)) == (None, 0, 1)
    assert leftovers_now(before) == []


def test_without_a_devpts_it_is_one_of_ours(root: Path) -> None:
    done = nsdemo.run(
        [*SH, "tty; stty size; test -t 0 && test -t 2 && exec 3</dev/null"], root=root, **COLLECTED
    )
    assert done.stdout.splitlines()[:2] == ["not a tty", "24 80"]  # it has no name inside
    assert source_of(done) == 0


@pytest.mark.parametrize(
    "trap",
    [
        "ln -s /proc/self dev/pts",
        "ln -s . dev/pts",
        "mkdir dev/pts; ln -s /proc/self/fd/0 dev/pts/ptmx",
        "mkdir dev/pts; touch dev/pts/ptmx",
        "mkdir dev/pts; mkfifo dev/pts/ptmx",
        "touch dev/pts",
        "mv dev elsewhere; ln -s /elsewhere dev",
    ],
)
def test_what_lies_at_dev_pts_is_not_believed(trap: str, tmp_path: Path) -> None:
    with nsdemo.Rootfs.busybox() as made:
        subprocess.run([*SH, f"cd {os.fspath(made)}; mkdir -p dev; {trap}"], check=True)
        done = nsdemo.run([*SH, "test -t 0 && stty size"], root=made, **COLLECTED)
        assert (done.stdout, source_of(done)) == ("24 80\n", 0)


def test_what_is_mounted_over_ptmx_is_not_believed(root: Path) -> None:
    mounts = [nsdemo.Dev(), nsdemo.Bind("/dev/zero", "/dev/pts/ptmx")]
    done = nsdemo.run([*SH, "test -t 0 && stty size"], root=root, mounts=mounts, **COLLECTED)
    assert (done.stdout, source_of(done)) == ("24 80\n", 0)


@pytest.mark.skipif(not IS_ROOT, reason="only root can become somebody else")
def test_it_belongs_to_the_user_that_the_command_becomes(root: Path) -> None:
    script = "echo again >$(tty); stat -c %u $(tty)"
    done = nsdemo.run([*SH, script], root=root, mounts=[nsdemo.Dev()], uid=1234, **COLLECTED)
    assert done.stdout.splitlines() == ["again", "1234"]


def test_enter_and_chroot_run_give_one_too(root: Path) -> None:
    with nsdemo.spawn(
        [*SH, "echo up; exec sleep 100"], root=root, mounts=[nsdemo.Dev()], tty=True, text=True
    ) as box:
        assert box.stdout is not None
        assert box.stdout.readline() == "up\n"
        done = box.enter([*SH, "tty; ls /dev/pts"], **COLLECTED)
        assert done.stdout.split() == ["/dev/pts/1", "0", "1", "ptmx"]
        assert (source_of(done), source_of(box)) == (1, 1)
    done = nsdemo.chroot_run(root, [*SH, "test -t 1 && echo yes"], **COLLECTED)
    assert (done.stdout, source_of(done)) == ("yes\n", 0)


def test_what_is_given_is_no_terminal(root: Path) -> None:
    look = "for n in 0 1 2; do test -t $n && echo $n; done; exit 0"
    done = nsdemo.run([*SH, look], root=root, tty=True, stdout=nsdemo.PIPE, stderr=nsdemo.STDOUT)
    assert done.stdout == b"0\n"
    done = nsdemo.run([*SH, look], root=root, tty=True, stdin=nsdemo.DEVNULL, stderr=nsdemo.PIPE)
    assert (done.stdout, done.stderr) == (b"1\r\n", b"")
    done = nsdemo.run(
        [*SH, look],
        root=root,
        tty=True,
        stderr=nsdemo.STDOUT,
        capture_output=False,
        stdin=nsdemo.PIPE,
    )
    assert done.stdout == b"1\r\n2\r\n"


# -- our end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mounts", [[], [nsdemo.Dev()]], ids=["ours", "own"])
def test_our_end_is_a_file_to_read_and_write(root: Path, mounts: list[Any]) -> None:
    script = 'echo ready; read line; echo "got $line"; exit 3'
    box = nsdemo.spawn([*SH, script], root=root, mounts=mounts, tty=True, text=True)
    assert box.stdin is not None
    assert box.stdout is not None
    assert box.stderr is None
    assert not os.get_inheritable(box.stdin.fileno())
    assert not os.get_inheritable(box.stdout.fileno())
    with box:
        assert box.stdout.readline() == "ready\n"
        box.stdin.write("schön\n")
        box.stdin.flush()
        assert box.stdout.read() == "schön\ngot schön\n"  # the echo first
        assert box.stdout.read() == ""  # the end stays the end
        assert box.wait() == 3


def test_control_c_is_a_key(root: Path) -> None:
    script = "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.02; done"
    with nsdemo.spawn([*SH, script], root=root, tty=True) as box:
        assert box.stdin is not None
        assert box.stdout is not None
        assert box.stdout.readline() == b"ready\r\n"
        box.stdin.write(b"\x03")
        box.stdin.flush()
        assert b"caught" in box.stdout.read()
        assert box.wait(5) == 7


def test_resize_tells_the_command(root: Path) -> None:
    script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.02; done"
    with nsdemo.spawn([*SH, script], root=root, mounts=[nsdemo.Dev()], tty=True) as box:
        assert box.stdout is not None
        box.stdout.readline()
        box.resize(132, 43)
        assert box.stdout.read() == b"43 132\r\n"
        for bad in ((0, 24), (80, 65536), (-1, 1)):
            with pytest.raises(ValueError, match="65535"):
                box.resize(*bad)
        with pytest.raises(TypeError, match="whole numbers"):
            box.resize("80", 24)  # type: ignore[arg-type]
        box._close_files()
        with pytest.raises(ValueError, match="closed"):
            box.resize(80, 24)
    with (
        nsdemo.spawn(["sleep", "9"], stdin=nsdemo.DEVNULL) as box,
        pytest.raises(ValueError, match="tty=True"),
    ):
        box.resize(80, 24)


def test_all_that_was_written_is_collected(root: Path) -> None:
    done = nsdemo.run([*SH, "seq 20000"], root=root, mounts=[nsdemo.Dev()], **COLLECTED)
    assert done.stdout.split() == [str(n) for n in range(1, 20001)]
    for _ in range(20):
        done = nsdemo.run([*SH, "seq 700; echo END"], root=root, **COLLECTED)
        assert done.stdout.endswith("700\nEND\n")


def test_somebody_who_keeps_it_open_is_not_waited_for(root: Path) -> None:
    """Without a pid namespace, a grandchild outlives the command, and holds its terminal."""
    marker = new_marker().replace(".", "")[:9]  # busybox has no fractions
    script = f"trap '' HUP; (trap '' HUP; exec sleep {marker}) & echo END"
    options = {"root": root, "mounts": [nsdemo.Dev()], "pid": False, "timeout": 10}
    done = nsdemo.run([*SH, script], **options, **COLLECTED)
    assert done.stdout == "END\n"
    (left,) = eventually(lambda: processes_with(marker))
    os.kill(left, signal.SIGKILL)


def test_a_time_out_has_what_was_written(root: Path) -> None:
    before = snapshot()
    with pytest.raises(nsdemo.TimeoutExpired) as caught:
        nsdemo.run([*SH, "echo begun; sleep 100"], root=root, timeout=0.3, **COLLECTED)
    assert caught.value.output == b"begun\r\n"
    assert leftovers_now(before) == []


def test_a_full_terminal_hinders_nobody(root: Path) -> None:
    """It writes what nobody reads, and reads nothing that is typed."""
    before = snapshot()
    with nsdemo.spawn(["yes"], root=root, mounts=[nsdemo.Dev()], tty=True) as box:
        time.sleep(0.1)
        assert box.poll() is None
    assert box.returncode == -signal.SIGKILL
    del box
    assert leftovers_now(before) == []


def test_a_closed_terminal_is_no_end(root: Path) -> None:
    script = "exec 0<&- 1>&- 2>&-; sleep 0.3; exec 1>/dev/tty; echo again"
    done = nsdemo.run([*SH, script], root=root, mounts=[nsdemo.Dev()], timeout=9, **COLLECTED)
    assert done.returncode == 0


def test_many_at_once(root: Path) -> None:
    before = snapshot()
    outputs: list[str] = []

    def several() -> None:
        for _ in range(5):
            done = nsdemo.run(["tty"], root=root, mounts=[nsdemo.Dev()], **COLLECTED)
            outputs.append(done.stdout)

    threads = [threading.Thread(target=several) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == ["/dev/pts/0\n"] * 20
    assert leftovers_now(before) == []


# -- what cannot be ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"tty": 1}, TypeError, "os.terminal_size"),
        ({"tty": (24, 80)}, TypeError, "os.terminal_size"),
        ({"tty": os.terminal_size((0, 24))}, ValueError, "1 to 65535"),
        ({"start_new_session": False}, ValueError, "session of its own"),
        ({"process_group": 0}, ValueError, "session of its own"),
        ({"input": b"x"}, ValueError, "no end of input"),
        ({"stdout": -1, "capture_output": True}, ValueError, "capture_output"),
        ({"stdin": -1, "stdout": -1, "stderr": -1}, ValueError, "not given"),
    ],
)
def test_contradictions(options: dict[str, Any], error: type[Exception], words: str) -> None:
    before = snapshot()
    with pytest.raises(error, match=words):
        nsdemo.run(["true"], **{"tty": True, **options})
    assert leftovers_now(before) == []


def test_a_plan_keeps_its_terminal(root: Path) -> None:
    plan = nsdemo.spawn(["tty"], root=root, mounts=[nsdemo.Dev()], tty=True, dry_run=True)
    assert "ioctl(0, TIOCSCTTY, 0)" in str(plan)
    assert "a terminal of its own (script)" in str(plan)
    for _ in range(2):
        assert plan.run(capture_output=True).stdout == b"/dev/pts/0\r\n"
    with pytest.raises(ValueError, match="makes stdin a terminal"):
        plan.start(stdin=nsdemo.DEVNULL)
    with pytest.raises(ValueError, match="input="):
        plan.run(input=b"x", capture_output=True)
    with plan.start() as box, pytest.raises(ValueError, match="stdin=PIPE"):
        box.communicate(b"x")


def test_a_plan_by_hand() -> None:
    plan = nsdemo.Plan() if IS_ROOT else nsdemo.Plan().unshare("user").map_root()
    with pytest.raises(ValueError, match="setsid"):
        plan.terminal()
    given = plan.setsid().terminal(os.terminal_size((90, 20)))
    with pytest.raises(ValueError, match="one terminal"):
        given.terminal()
    done = given.exec(["stty", "size"]).run(capture_output=True)
    assert done.stdout == b"20 90\r\n"
    before = snapshot()
    with pytest.raises(nsdemo.NamespaceError, match="give the command a terminal") as caught:
        plan.setsid().fork().terminal().exec(["true"]).run(capture_output=True)
    assert caught.value.errno == errno.EPERM
    assert "after setsid" in caught.value.__notes__[0]
    assert leftovers_now(before) == []


def test_where_there_is_no_devpts_at_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's own is taken away by a fake: nothing else could be tested without it."""
    real = os.open

    def without_ptmx(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == "/dev/ptmx":
            raise FileNotFoundError(errno.ENOENT, "gone", path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", without_ptmx)
    before = snapshot()
    with pytest.raises(nsdemo.NamespaceError) as caught:
        nsdemo.run(["true"], root=root, **COLLECTED)
    assert caught.value.errno == errno.ENOTTY
    assert "nsdemo.Dev()" in caught.value.__notes__[0]
    assert leftovers_now(before) == []
    mounts = [nsdemo.Dev()]
    assert nsdemo.run(["stty", "size"], root=root, mounts=mounts, **COLLECTED).stdout == "24 80\n"


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
    script = "trap '' HUP; (trap '' HUP; sleep 1.5; exec yes) & echo END; exit 6"
    terminal = Terminal(
        nsdemo_command(
            "spawn", "--no-pid", "--dev", "/dev", "--root", str(root), "sh", "-c", script
        )
    )
    terminals.append(terminal)
    terminal.expect("END")
    begun = time.monotonic()
    assert terminal.process.wait(9) == 6
    assert time.monotonic() - begun < 1.2


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
    return IS_ROOT or not switch.exists() or switch.read_text().strip() == "1"


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
