"""What init=True and die_with_parent promise: signals, and an end with Python for whoever."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import tempfile
import textwrap
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import (
    IS_ROOT,
    ORDINARY,
    QUIET,
    command_of,
    eventually,
    new_marker,
    processes_with,
    running_script,
    script,
)

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

PYTHON = [sys.executable, "-I", "-S", "-c"]
# SIGCHLD is init's own news; nobody can catch SIGKILL and SIGSTOP; 32 and 33 are the C library's.
FORWARDED = sorted(set(range(1, 65)) - {signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP, 32, 33})

LISTEN = """
import signal, sys
signals = set(map(int, sys.argv[1].split(",")))
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print("ready", flush=True)
for _ in signals:
    print(int(signal.sigwait(signals)), flush=True)
"""


def test_every_signal_reaches_the_command() -> None:
    """SIGTSTP, SIGCONT and the real-time signals as well; tini withholds SIGTTIN and SIGTTOU."""
    command = [*PYTHON, LISTEN, ",".join(map(str, FORWARDED))]
    with nsdemo.spawn(command, init=True, stdout=nsdemo.PIPE, text=True, **QUIET) as box:
        assert box.stdout is not None
        assert box.stdout.readline() == "ready\n"
        for number in FORWARDED:
            box.send_signal(number)
            assert box.stdout.readline() == f"{number}\n"
        assert box.wait(5) == 0


def test_a_command_is_stopped_and_goes_on_under_init() -> None:
    """SIGTSTP and SIGCONT do to the command what they do without an init."""
    script = "trap 'echo continued' CONT; trap 'kill -STOP $$' TSTP; echo ready; " + (
        "while :; do sleep 0.01; done"
    )
    with nsdemo.spawn(["sh", "-c", script], init=True, stdout=nsdemo.PIPE, **QUIET) as box:
        assert box.stdout is not None
        assert box.stdout.readline() == b"ready\n"
        (inner,) = map(int, Path(f"/proc/{box.pid}/task/{box.pid}/children").read_text().split())

        def state() -> str:
            return Path(f"/proc/{inner}/stat").read_text().rpartition(")")[2].split()[0]

        box.send_signal(signal.SIGTSTP)
        assert eventually(lambda: state() == "T")
        box.send_signal(signal.SIGCONT)
        assert box.stdout.readline() == b"continued\n"
        assert state() != "T"


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("how", [{}, {"init": True}, {"uid": 0, "gid": 0}], ids=str)
def test_nobody_beside_the_command_keeps_its_streams(how: dict[str, Any], ends: bool) -> None:
    """Neither init nor a watchdog: when the command closes its output, that has ended."""
    command = ["sh", "-c", "read line; exec <&- >&- 2>&-; exec sleep 600"]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), nsdemo.PIPE)
    with nsdemo.spawn(command, die_with_parent=ends, **how, **pipes) as box:
        os.write(box.stdin.fileno(), b"\n")
        for file in (box.stdout, box.stderr):
            assert select.select([file], [], [], 10)[0], "somebody else has it open"
            assert file.read() == b""
        poll = select.poll()
        poll.register(box.stdin, 0)  # POLLERR: nobody reads
        assert poll.poll(10_000)
        assert box.poll() is None


@pytest.mark.parametrize("how", [{}, {"init": True}, {"uid": 0, "gid": 0}], ids=str)
def test_the_command_begins_with_no_signal_blocked_or_ignored(how: dict[str, Any]) -> None:
    """Whatever Python blocks and ignores, as CPython does SIGPIPE; and init blocks them all."""
    body = """\
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGRTMIN, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR2, 64})
        how = json.loads(sys.argv[1])
        done = nsdemo.run(["cat", "/proc/self/status"], stdin=nsdemo.DEVNULL, text=True,
                          capture_output=True, **how)
        report(text=done.stdout, mine=open("/proc/thread-self/status").read())
    """
    found = script(body, json.dumps(how)).report

    def masks(text: str) -> dict[str, int]:
        rows = dict(line.split(":\t") for line in text.splitlines() if line.startswith("Sig"))
        return {name: int(rows[name], 16) for name in ("SigBlk", "SigIgn", "SigPnd")}

    assert masks(found["text"]) == {"SigBlk": 0, "SigIgn": 0, "SigPnd": 0}
    blocked = 1 << signal.SIGTERM - 1 | 1 << signal.SIGUSR2 - 1 | 1 << 63
    assert masks(found["mine"])["SigBlk"] == blocked, "ours are as they were"


def test_little_code_is_left_of_who_stays() -> None:
    """A page of the program's, and what the kernel maps into every process."""

    def code(pid: str) -> int:
        rows = Path(f"/proc/{pid}/status").read_text().splitlines()
        (found,) = (row.split() for row in rows if row.startswith("VmExe:"))
        return int(found[1])

    def staying() -> list[str]:
        children = Path("/proc/thread-self/children").read_text().split()
        names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in children}
        return [pid for pid in children if names[pid] in ("nsdemo-init", "nsdemo-watch")]

    with nsdemo.spawn(["sleep", "600"], init=True, **QUIET):
        assert eventually(lambda: len(staying()) >= 2)
        assert eventually(lambda: all(0 < code(pid) <= 16 for pid in staying())), staying()


def test_die_with_parent_costs_no_thread() -> None:
    before = os.listdir("/proc/self/task")
    with (
        nsdemo.spawn(["sleep", "600"], **QUIET),
        nsdemo.spawn(["sleep", "600"], init=True, **QUIET),
    ):
        assert os.listdir("/proc/self/task") == before


KILLED = """
    program, marker, ordinary, call = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    command = [program, marker]
    ids = {"uid": ordinary, "gid": ordinary}
    box = nsdemo.spawn(["sleep", "600"], stdin=nsdemo.DEVNULL)
    def target():
        match call:
            case "spawn": nsdemo.spawn(command, **ids, stdin=nsdemo.DEVNULL).wait()
            case "init": nsdemo.spawn(command, **ids, init=True, stdin=nsdemo.DEVNULL).wait()
            case "no pid": nsdemo.run(command, pid=False, **ids, stdin=nsdemo.DEVNULL)
            case "enter": nsdemo.enter(box, command, **ids, stdin=nsdemo.DEVNULL)
            case "enter no pid":
                nsdemo.enter(box, command, pid=False, **ids, stdin=nsdemo.DEVNULL)
            case "chroot_run": nsdemo.chroot_run("/", command, **ids, stdin=nsdemo.DEVNULL)
    print("started", flush=True)
    target()
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """pytest closes its own folders to other users whenever it starts."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(not IS_ROOT, reason="only root makes a setuid program of root's")
@pytest.mark.parametrize("call", ["spawn", "init", "no pid", "enter", "enter no pid", "chroot_run"])
def test_a_setuid_command_ends_with_python(call: str, open_folder: Path) -> None:
    """It has more power than the user it runs as, and the kernel's own signal is lost."""
    program = open_folder / "sleep"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    program.chmod(0o4755)
    marker = new_marker()
    arguments = (str(program), marker, str(ORDINARY), call)
    with running_script(KILLED, *arguments) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        running = partial(with_marker, marker)
        assert eventually(running)
        (pid,) = running()
        ids = Path(f"/proc/{pid}/status").read_text().partition("\nUid:")[2].split()[:2]
        assert ids == [str(ORDINARY), "0"], "the setuid bit was not honoured"
        process.kill()
        process.wait()
        ended = eventually(lambda: not running())
        for pid in running():
            os.kill(pid, signal.SIGKILL)
        assert ended, "it lived on"


def with_marker(marker: str) -> list[int]:
    """As processes_with, whatever the program's name."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[1:2] == [marker.encode()] and words[0].endswith(b"sleep"):
                found.append(int(entry.name))
    return found


def test_a_plan_with_ids_started_does_not_end_with_python_unasked() -> None:
    plan = nsdemo.chroot_run("/", ["sleep", "600"], uid=0, gid=0, dry_run=True, **QUIET)
    assert "watch" not in [step.operation for step in plan]
    with plan.start() as box:
        assert "watch" not in [step.operation for step in box.trace]
    with plan.start(die_with_parent=True) as box:  # the guard is told by the clone
        assert box.trace[0].operation == "clone"


# -- where Python takes orphans in ---------------------------------------------------------------

# What a wait for any child meets; it is over, or the alarm ends the script.
WAITED = """
    signal.alarm(20)
    if sys.argv[1] == "subreaper":
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    names = []
    for _ in range(3):
        nsdemo.run(["true"], stdin=nsdemo.DEVNULL)
        names.append(sorted(Path(f"/proc/{pid}/comm").read_text().strip() for pid in children()))
    with contextlib.suppress(ChildProcessError):
        while True:
            names.append(os.wait()[1])
    again = nsdemo.run(["true"], stdin=nsdemo.DEVNULL).returncode
    report(names=names, again=again, pid=os.getpid())
"""


def test_pid_1_has_no_child_that_is_not_its_own() -> None:
    """It needs no guard: the kernel ends everybody in its pid namespace with it."""
    done = nsdemo.run(
        [*command_of(WAITED), "pid 1"], user=None if IS_ROOT else True, **QUIET, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"names": [[], [], []], "again": 0, "pid": 1}


def test_commands_end_with_a_python_that_is_pid_1() -> None:
    marker = new_marker()
    body = """\
        boxes = [nsdemo.spawn(["sleep", sys.argv[1]], **how, stdin=nsdemo.DEVNULL)
                 for how in ({}, {"pid": False}, {"init": True})]
        os.kill(os.getpid(), 9)  # PID 1 cannot be killed from inside
        print(os.getpid(), flush=True)
        time.sleep(600)
    """
    command = [*command_of(body), marker]
    user = None if IS_ROOT else True
    with nsdemo.spawn(command, user=user, stdout=nsdemo.PIPE, **QUIET) as box:
        assert box.stdout is not None
        assert box.stdout.readline() == b"1\n"
        assert eventually(lambda: len(processes_with(marker)) == 3)
        os.kill(box.pid, signal.SIGKILL)
        assert box.wait() == -signal.SIGKILL
        assert eventually(lambda: not processes_with(marker))


def test_a_subreaper_waits_for_nobody_for_ever() -> None:
    found = script(WAITED, "subreaper").report
    *names, status = found["names"]
    assert names == [["nsdemo-watch"]] * 3, "one guard for all, as long as they follow each other"
    assert (status, found["again"]) == (0, 0)


def test_the_guard_of_a_subreaper_guards() -> None:
    """Also the second one; and a guard that has gone leaves one zombie at most."""
    marker = new_marker()
    body = """\
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        counts = []
        for _ in range(2):
            nsdemo.run(["true"], stdin=nsdemo.DEVNULL)
            (guard,) = children()
            while not is_zombie(guard):
                time.sleep(0.01)
        box = nsdemo.spawn(["sleep", sys.argv[1]], stdin=nsdemo.DEVNULL)
        time.sleep(1.5)
        report(children=len(children()), zombies=sum(map(is_zombie, children())))
        os.kill(os.getpid(), 9)
    """
    zombie = """\
        def is_zombie(pid):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

    """
    with running_script(textwrap.dedent(zombie) + textwrap.dedent(body), marker) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"children": 2, "zombies": 0}
        process.wait()
        assert eventually(lambda: not processes_with(marker))
