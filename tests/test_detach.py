"""detach() and Container.adopt(): commands that outlive Python, and processes of others."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import (
    IS_ROOT,
    QUIET,
    SLOW,
    children,
    eventually,
    new_marker,
    processes_with,
    running_script,
    script,
)

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

# The short way; with an init, with other ids: the long way, with a watchdog; no pid namespace.
WAYS: list[dict[str, Any]] = [
    {},
    {"init": True},
    {"uid": 0, "gid": 0},
    {"pid": False},
    {"pid": False, "uid": 0, "gid": 0},
    {"init": True, "die_with_parent": False},
]


def ended(marker: str) -> bool:
    return not processes_with(marker)


def both_run(marker: str) -> bool:
    return len(processes_with(marker)) == 2


def end(marker: str) -> None:
    for pid in processes_with(marker):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: ended(marker))


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_it_outlives_a_python_that_ends_or_is_killed(how: dict[str, Any]) -> None:
    body = """\
        how, marker = json.loads(sys.argv[1]), sys.argv[2]
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), nsdemo.DEVNULL)
        kept = nsdemo.spawn(["sleep", marker], **how, **quiet)
        kept.detach()
        pid = nsdemo.spawn(["sleep", marker], **how, **quiet).detach()
        gone = nsdemo.spawn(["sleep", marker + "1"], **quiet)
        gc.collect()
        report(pids=[kept.pid, pid], state=repr(kept))
        sys.stdin.readline()
        if sys.argv[3] == "exit":
            gone.stop()
            sys.exit()
    """
    for ending in ("exit", "killed"):
        marker = new_marker()
        with running_script(body, json.dumps(how), marker, ending) as process:
            assert process.stdout is not None
            found = json.loads(process.stdout.readline())
            assert "running" in found["state"]
            assert eventually(partial(both_run, marker))
            assert eventually(partial(processes_with, marker + "1"))
            if ending == "killed":
                process.kill()
                process.wait()
            else:
                _, complaint = process.communicate("\n", timeout=20)
                assert (process.returncode, complaint) == (0, "")
        assert eventually(partial(ended, marker + "1")), "what was not let go of ends"
        time.sleep(0.05)
        assert len(processes_with(marker)) == 2
        for pid in found["pids"]:
            assert Path(f"/proc/{pid}").exists()
        end(marker)


def test_nothing_else_stays() -> None:
    """A watchdog that has nothing to do any more goes, and the guard forgets the command."""
    marker = new_marker()
    before = children()
    boxes = [nsdemo.spawn(["sleep", marker], **how, **QUIET) for how in WAYS]
    pids = {box.detach() for box in boxes}
    assert children() - before == pids
    for box in boxes:
        box.detach()
        assert box.poll() is None
        assert box.stop() < 0
    assert children() == before


def test_the_container_still_works_and_leaving_it_does_not_stop_it() -> None:
    with warnings.catch_warnings(), nsdemo.spawn(["sleep", "600"], hostname="boxy", **QUIET) as box:
        pid = box.detach()
    assert (box.pid, box.poll()) == (pid, None)
    seen = box.enter(["hostname"], capture_output=True, text=True, **QUIET)
    assert seen.stdout == "boxy\n"
    assert box.stop() == -signal.SIGKILL
    assert box.detach() == pid


def test_one_that_was_dropped_is_reaped_later() -> None:
    marker = new_marker()
    pid = nsdemo.spawn(["sleep", marker], **QUIET).detach()
    assert eventually(lambda: processes_with(marker) == [pid])
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: "Z" in Path(f"/proc/{pid}/stat").read_text())
    nsdemo.spawn(["true"], **QUIET).wait()
    assert not Path(f"/proc/{pid}").exists()


def test_pipes_end_with_python() -> None:
    body = """\
        until_closed = "while echo x; do sleep 0.01; done"
        command = ["sh", "-c", f"cat; echo end > $0; {until_closed}; echo EPIPE >> $0", sys.argv[1]]
        box = nsdemo.spawn(command, stdin=nsdemo.PIPE, stdout=nsdemo.PIPE,
                           stderr=nsdemo.DEVNULL)
        box.detach()
        print(box.pid)
    """
    with tempfile.NamedTemporaryFile("r") as file:
        done = script(body, file.name)
        assert (done.returncode, done.stderr) == (0, "")
        assert eventually(lambda: not Path(f"/proc/{done.stdout.strip()}").exists())
        assert Path(file.name).read_text() == "end\nEPIPE\n"


def test_a_fork_lets_go_of_nothing() -> None:
    with nsdemo.spawn(["sleep", "600"], **QUIET) as box:
        pid = os.fork()
        if pid == 0:
            try:
                box.detach()
            except ChildProcessError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


# -- adopt -------------------------------------------------------------------------------------


@contextmanager
def somebody_elses(*words: str, **how: Any) -> Iterator[int]:
    """The pid of a container that another Python has started, and reaps when it ends."""
    body = """\
        box = nsdemo.spawn(sys.argv[2:], stdin=nsdemo.DEVNULL, **json.loads(sys.argv[1]))
        print(box.pid, flush=True)
        box.wait()
        sys.stdin.read()
    """
    with running_script(body, json.dumps(how), *words) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


def told_by(ask: Callable[[], int | None]) -> int | None:
    """The status, or None if the kernel tells it to its parent alone."""
    try:
        return ask()
    except ChildProcessError:
        return None


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, -signal.SIGKILL),
        ({"init": True}, 128 + signal.SIGTERM),  # forwarded; its status is as a shell's
        ({"pid": False}, -signal.SIGTERM),
    ],
    ids=str,
)
def test_a_container_of_another_python(how: dict[str, Any], expected: int) -> None:
    with somebody_elses("sleep", "600", hostname="theirs", **how) as pid:
        box = nsdemo.Container.adopt(pid)
        assert (box.pid, box.returncode, box.trace, box.stdout) == (pid, None, (), None)
        assert box.args == (["nsdemo-init"] if how.get("init") else ["sleep", "600"])
        assert "running" in repr(box)
        assert box.poll() is None
        with pytest.raises(nsdemo.TimeoutExpired):
            box.wait(0.01)
        seen = box.enter(["hostname"], capture_output=True, text=True, **QUIET)
        assert seen.stdout == "theirs\n"
        if not how.get("init"):
            assert box.namespaces == nsdemo.namespaces(pid)
        started = time.monotonic()
        # Nobody but root may look at an init that has ended, until the other Python has reaped it.
        certain = kernel_tells() and not how.get("init")
        assert told_by(box.stop) in ((expected,) if certain else (expected, None))
        assert eventually(lambda: not Path(f"/proc/{pid}").exists())
        told = {told_by(box.wait), told_by(box.poll)}
        assert told in ([{expected}] if kernel_tells() else [{expected}, {None}])
        assert told == {box.returncode}
        assert time.monotonic() - started < 60 * SLOW
        box.terminate()
        box.kill()


def test_one_that_is_taken_in_at_once() -> None:
    """An init that does not look like one yet, or a command whose words are not there yet."""
    body = """\
        found = []
        for how in ({"init": True}, {"pid": False}) * 40:
            with nsdemo.spawn(["sleep", "600"], stdin=nsdemo.DEVNULL, **how) as box:
                found.append(nsdemo.Container.adopt(box.pid).args)
        report(found=found)
    """
    assert script(body).report["found"] == [["nsdemo-init"], ["sleep", "600"]] * 40


def test_it_is_neither_killed_nor_warned_of() -> None:
    with somebody_elses("sleep", "600") as pid:
        with nsdemo.Container.adopt(pid):
            pass
        box = nsdemo.Container.adopt(pid)
        del box
        # The kernel names it a moment after it has closed what its start is noticed by.
        assert eventually(lambda: "sleep" in Path(f"/proc/{pid}/comm").read_text())


@pytest.mark.parametrize("command", ["exit 7", "kill -9 $$", "exit 0"])
def test_our_own_child_is_left_to_who_waits_for_it(command: str) -> None:
    """Before it is reaped, the zombie tells; afterwards, the kernel does."""
    expected = {"exit 7": 7, "kill -9 $$": -9, "exit 0": 0}[command]
    with subprocess.Popen(["sh", "-c", f"read x; {command}"], stdin=subprocess.PIPE) as process:
        early, late = (nsdemo.Container.adopt(process.pid) for _ in range(2))
        process.communicate(b"\n")
        # communicate() has reaped it.
        if not kernel_tells():
            with pytest.raises(ChildProcessError):
                late.wait()
        else:
            assert late.wait() == expected
        del early
    with subprocess.Popen(["sh", "-c", command]) as process:
        box = nsdemo.Container.adopt(process.pid)
        assert box.wait() == box.returncode == expected
        assert process.wait() == expected, "its status was left to its parent"


def kernel_tells() -> bool:
    return tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15)


def test_by_a_pidfd_and_its_root(rootfs: Path) -> None:
    with nsdemo.spawn(["sleep", "600"], root=rootfs, **QUIET) as box:
        fd = os.pidfd_open(box.pid)
        with open(fd, "rb", buffering=0, closefd=False) as pidfd:
            taken = nsdemo.Container.adopt(pidfd)
        os.close(fd)
        assert taken.pid == box.pid
        assert taken.root == f"/proc/{box.pid}/root"
        taken.send_signal(signal.SIGKILL)
        assert taken.wait() == -9
        assert box.wait() == -9


@pytest.mark.skipif(not IS_ROOT, reason="only root has processes that are not an ordinary user's")
def test_what_is_not_ours_to_touch() -> None:
    body = """\
        box = nsdemo.Container.adopt(int(sys.argv[1]))
        refused = []
        for call in (box.terminate, lambda: box.enter(["true"])):
            try:
                call()
            except PermissionError:
                refused.append(True)
        report(refused=refused, state=box.poll(), root=box.root)
    """
    with nsdemo.spawn(["sleep", "600"], **QUIET) as box:
        found = script(body, str(box.pid), ordinary=True).report
    assert found == {"refused": [True, True], "state": None, "root": None}


def test_what_cannot_be_adopted() -> None:
    hold = threading.Event()
    thread = threading.Thread(target=hold.wait)
    thread.start()
    assert thread.native_id is not None
    try:
        with pytest.raises(ValueError, match="thread"):
            nsdemo.Container.adopt(thread.native_id)
    finally:
        hold.set()
        thread.join()
    with pytest.raises(ProcessLookupError, match="there is no process"):
        nsdemo.Container.adopt(2**22)
    for bad in (True, "12", None, b"1"):
        with pytest.raises(TypeError, match="pidfd"):
            nsdemo.Container.adopt(bad)
    for number in (0, -1, 2**22 + 1):
        with pytest.raises(ValueError, match="a pid is a number"):
            nsdemo.Container.adopt(number)
    with pytest.raises(ValueError, match="our own process"):
        nsdemo.Container.adopt(os.getpid())
    with open("/dev/null") as file, pytest.raises(ValueError, match="no pidfd"):
        nsdemo.Container.adopt(file)
    done = subprocess.Popen([sys.executable, "-S", "-c", ""])
    fd = os.pidfd_open(done.pid)
    done.wait()
    with (
        open(fd, "rb", buffering=0) as pidfd,
        pytest.raises(ProcessLookupError) as caught,
    ):
        nsdemo.Container.adopt(pidfd)
    assert caught.value.errno == errno.ESRCH
