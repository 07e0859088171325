"""The rules that keep it shut, one test each: what a process inside may see of the host.

A marker stands for the caller's secrets: in his environment, his memory, his descriptors. The
hostile programs look for it, and find it where the obvious way was taken.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import IS_ROOT, script
from targets import CAPTURED, POWERS, fields, hostile_root, made_by_unshare, tool

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

HALVES = ("the-secret-of-", f"process-{os.getpid()}")
SECRET = "".join(HALVES)
PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
def prison() -> Iterator[Path]:
    with hostile_root() as root:
        yield root


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NSDEMO_TEST_SECRET", SECRET)
    return SECRET


# -- rule 4: whoever joins is readable before he is inside --------------------------------------


@contextlib.contextmanager
def snooper(prison: Path) -> Iterator[tuple[nsdemo.Container[str], list[str]]]:
    """A container whose PID 1 lies in wait; what it has found is in the list afterwards."""
    found: list[str] = []
    with nsdemo.spawn(
        ["snooper", *HALVES], root=prison, user=True, stdout=nsdemo.PIPE, text=True
    ) as box:
        assert box.stdout is not None
        assert box.stdout.readline() == "waiting\n"
        yield box, found
        box.terminate()
        found += box.communicate(timeout=20)[0].splitlines()


def summary(found: list[str]) -> dict[str, int]:
    words = found[-1].split()
    return {words[i]: int(words[i + 1]) for i in range(0, len(words), 2)}


def lie_in_wait(
    prison: Path,
    join: Callable[[nsdemo.Container[str]], object],
    enough: Callable[[list[str]], bool],
) -> list[str]:
    """The lines of snoopers while many join, until they have seen enough of them.

    On a busy machine a snooper sleeps through many joins, so the bound is a time, not a count.
    """
    lines: list[str] = []
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        with snooper(prison) as (box, found):
            for _ in range(60):
                join(box)
        lines += found
        if enough(lines):
            return lines
    pytest.fail(f"the snooper slept: it saw too few of those who joined: {lines}")


@pytest.mark.parametrize("how", ["enter", "uid", "power", "net", "join"])
def test_rule_04_a_joiner_shows_nothing(how: str, prison: Path, secret: str) -> None:
    """The snooper must have been refused often: by joiners that it saw before their execve."""
    null: dict[str, Any] = {"stdin": nsdemo.DEVNULL, "stdout": nsdemo.DEVNULL}
    power: dict[str, Any] = {"capabilities": ["kill"], "rlimits": {"nofile": 64}}
    joins: dict[str, Callable[[nsdemo.Container[str]], object]] = {
        "enter": lambda box: box.enter(["true"], **null),
        "uid": lambda box: box.enter(["true"], uid=0, gid=0, **null),
        "power": lambda box: box.enter(["true"], no_new_privs=True, **power, **null),
        "net": lambda box: nsdemo.run(["true"], join=box, net=True, **null),
        "join": lambda box: nsdemo.run(["true"], join=box, **null),
    }
    lines = lie_in_wait(prison, joins[how], lambda all: sum(refusals(line) for line in all) >= 20)
    assert [line for line in lines if line.startswith("found")] == []


@pytest.mark.long
def test_rule_04_two_thousand_joiners_show_nothing(prison: Path, secret: str) -> None:
    null: dict[str, Any] = {"stdin": nsdemo.DEVNULL, "stdout": nsdemo.DEVNULL}
    with snooper(prison) as (box, found):
        for number in range(2000):
            if number % 2:
                box.enter(["true"], **null)
            else:
                nsdemo.run(["true"], join=box, **null)
    assert [line for line in found if line.startswith("found")] == []
    assert summary(found)["refused"] > 0


def refusals(line: str) -> int:
    return summary([line])["refused"] if line.startswith("seen") else 0


def test_rule_04_the_snooper_does_find_what_nsenter_shows(prison: Path, secret: str) -> None:
    words = ["--user", "--mount", "--pid", "--root", "--preserve-credentials", "true"]
    command = [tool("nsenter"), "--target"]
    lie_in_wait(
        prison,
        lambda box: subprocess.run(
            [*command, str(box.pid), *words], stdin=subprocess.DEVNULL, check=True
        ),
        lambda lines: "found environ" in str(lines) and "/nsenter" in str(lines),
    )


@pytest.mark.skipif(not IS_ROOT, reason="only root enters somebody else's container")
def test_rule_04_root_shows_nothing_to_an_ordinary_users_container(
    prison: Path, secret: str, tmp_path: Path
) -> None:
    notes = prison / "tmp" / "notes"
    notes.touch()
    notes.chmod(0o666)
    options = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--root", prison]
    with made_by_unshare(*map(str, options), ordinary=True) as pid:
        command = f"exec snooper {' '.join(HALVES)} > /tmp/notes"
        plan = nsdemo.spawn(["sh", "-c", command], join=pid, dry_run=True, stdin=nsdemo.DEVNULL)
        with plan.start() as watcher:
            end = time.monotonic() + 10
            while not notes.read_text() and time.monotonic() < end:
                time.sleep(0.01)
            for _ in range(150):
                nsdemo.enter(pid, ["true"], stdin=nsdemo.DEVNULL)
            watcher.terminate()
            watcher.wait(10)
    found = notes.read_text().splitlines()
    notes.unlink()
    assert found[1:-1] == []
    assert summary(found)["refused"] > 0


# -- rule 11: descriptors that other threads have open ------------------------------------------

THREADS = """
count, root = int(sys.argv[1]), sys.argv[2]
stop = False
def open_and_close():
    while not stop:
        fds = [os.open("/", os.O_RDONLY) for _ in range(8)]
        for fd in fds:
            os.set_inheritable(fd, True)     # as a C library would open them
        for fd in fds:
            os.close(fd)
threads = [threading.Thread(target=open_and_close) for _ in range(8)]
for thread in threads:
    thread.start()
options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
try:
    seen = set()
    for number in range(count):
        user = number % 2 == 0
        seen.add(nsdemo.run(["descriptors"], root=root, user=user or None, **options).stdout)
        seen.add(nsdemo.chroot_run(root, ["descriptors"], **options).stdout)
    naive = {
        subprocess.run([root + "/bin/descriptors"], close_fds=False, **options).stdout
        for _ in range(20)
    }
finally:
    stop = True
report(seen=sorted(seen), naive=sorted(naive))
"""


@pytest.mark.parametrize("count", [60, pytest.param(5000, marks=pytest.mark.long)])
def test_rule_11_no_descriptor_of_another_thread_gets_in(count: int, prison: Path) -> None:
    found = script(THREADS, str(count), str(prison), timeout=600).report
    assert found["seen"] == ["0 1 2 \n"]
    assert any(line != "0 1 2 \n" for line in found["naive"])


@pytest.mark.parametrize("user", POWERS)
@pytest.mark.parametrize("init", [False, True])
def test_rule_11_what_was_opened_on_the_way_is_closed(
    init: bool, user: bool, prison: Path, tmp_path: Path
) -> None:
    """Sources of mounts, layers, roots, pidfds, a namespace file, the socket for changes()."""
    mounts = [
        nsdemo.Bind(tmp_path, "/mnt"),
        nsdemo.Dev(),
        nsdemo.Overlay("/both", lower=[tmp_path]),
        nsdemo.Tmpfs("/tmp"),
    ]
    command: dict[str, Any] = {"args": ["descriptors"], "stdin": nsdemo.DEVNULL}
    given: dict[str, Any] = {"root": prison, "user": user, "stdout": nsdemo.PIPE, "text": True}
    with nsdemo.spawn(["sleep", "100"], net=True, user=user) as pod:
        file = f"/proc/{pod.pid}/ns/net"
        shared = {"net": file, "user": pod} if user else {"net": pod, "uts": file[:-3] + "uts"}
        for options in (
            {"mounts": mounts, "overlay": True, "init": init},
            {"mounts": mounts, "readonly_root": True, "init": init, "capabilities": []},
            shared | {"init": init},
        ):
            with nsdemo.spawn(**command, **given | options) as box:
                assert box.communicate()[0] == "0 1 2 \n"


# -- rules 12, 16: the caller's environment and memory ------------------------------------------


def scan(lines: str) -> tuple[list[str], dict[str, int]]:
    *found, last = lines.splitlines()
    words = last.split()
    return found, {words[i]: int(words[i + 1]) for i in range(0, len(words), 2)}


@pytest.mark.parametrize("user", POWERS)
@pytest.mark.parametrize("init", [False, True])
def test_rule_12_and_16_the_caller_is_nowhere_inside(
    init: bool, user: bool, prison: Path, secret: str
) -> None:
    """Real root may read init and finds nothing; a user namespace's root may not even read it."""
    heap = [SECRET + str(number) for number in range(1000)]
    command = ["sh", "-c", 'scanner "$@"; exit $?', "sh", *HALVES]
    options: dict[str, Any] = {"root": prison, "init": init, "user": user}
    found, counted = scan(nsdemo.run(command, timeout=20, **options, **CAPTURED).stdout)
    assert found == []
    assert counted["processes"] == (2 if init else 1)
    assert counted["bytes"] > 1000  # it has read memory
    assert counted["refused"] == (1 if init and user else 0)
    with nsdemo.spawn(["sleep", "100"], root=prison, user=user) as box:
        found, counted = scan(box.enter(["scanner", *HALVES], **CAPTURED).stdout)
    assert found == []
    assert counted["bytes"] > 1000
    assert len(heap) == 1000


def test_rule_16_the_scanner_does_find_what_a_forked_python_shows(prison: Path) -> None:
    prefix = [tool("unshare"), "--pid", "--fork", "--mount", "--mount-proc"]
    code = """if 1:
        import subprocess, sys
        heap = ["".join(sys.argv[2:]) + str(number) for number in range(1000)]
        subprocess.run([sys.argv[1] + "/bin/scanner", *sys.argv[2:]])
    """
    naive = subprocess.run(
        [*prefix, "--map-root-user", sys.executable, "-c", code, str(prison), *HALVES],
        **CAPTURED,
    )
    assert "found in memory of 1" in scan(naive.stdout)[0]


def test_rule_12_the_environment_is_small_and_clean(prison: Path, secret: str) -> None:
    assert SECRET in nsdemo.run(["env"], **CAPTURED).stdout  # without another root it is ours
    names = {"PATH", "HOME", "LANG", "TERM"}
    with nsdemo.spawn(["sleep", "100"], root=prison) as box:
        for done in (
            nsdemo.run(["env"], root=prison, **CAPTURED),
            nsdemo.run(["env"], root=prison, init=True, **CAPTURED),
            nsdemo.chroot_run(prison, ["env"], **CAPTURED),
            nsdemo.run(["env"], join=box, **CAPTURED),
            box.enter(["env"], **CAPTURED),
        ):
            inside = {line.split("=")[0] for line in done.stdout.splitlines()}
            assert inside - {"PWD", "SHLVL", "OLDPWD"} <= names, done.stdout
            assert {"PATH", "HOME", "LANG"} <= inside


# -- rule 17: signals between vfork and exec ----------------------------------------------------

STORM = """
count, root = int(sys.argv[1]), sys.argv[2]
me, calls, strangers = os.getpid(), 0, 0
def handler(number, frame):
    global calls, strangers
    calls += 1
    strangers += os.getpid() != me
signal.signal(signal.SIGALRM, handler)
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
grep = ["grep", "Sig", "/proc/self/status"]
codes, states, boxes = set(), set(), 0
for number in range(count):
    done = nsdemo.run(grep, root=root, init=number % 2 == 0, **options)
    codes.add(done.returncode)
    states.add("".join(x for x in done.stdout.splitlines(True) if x[3:6] in ("Blk", "Ign", "Cgt")))
    codes.add(nsdemo.chroot_run(root, ["true"], stdin=subprocess.DEVNULL).returncode)
signal.setitimer(signal.ITIMER_REAL, 0)
naive = subprocess.run(grep, restore_signals=False, **options).stdout
report(codes=sorted(codes), states=sorted(states), calls=calls, strangers=strangers, naive=naive)
"""


@pytest.mark.parametrize("count", [100, pytest.param(5000, marks=pytest.mark.long)])
def test_rule_17_a_storm_of_signals_reaches_nobody_but_us(count: int, prison: Path) -> None:
    found = script(STORM, str(count), str(prison), timeout=600).report
    none = "0" * 16
    assert found["codes"] == [0]
    assert found["states"] == [f"SigBlk:\t{none}\nSigIgn:\t{none}\nSigCgt:\t{none}\n"]
    assert found["calls"] > count / 2
    assert found["strangers"] == 0
    naive = fields(found["naive"])
    assert naive["SigBlk"] != none != naive["SigIgn"]  # what a child gets without a hand
