"""tty=True: a terminal of the container's own, or of ours; and nobody types into the caller's."""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import (
    IS_ROOT,
    eventually,
    leftovers,
    leftovers_now,
    new_marker,
    processes_with,
    snapshot,
)
from targets import hostile_root

import nsdemo
from nsdemo._request.terminal import Terminal

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

SH = ["sh", "-c"]
COLLECTED: dict[str, Any] = {"tty": True, "capture_output": True, "text": True}


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with hostile_root("typist") as made:
        yield made


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


@pytest.mark.parametrize("target", ["/dev/pts", "/dev/pts/ptmx"])
def test_nothing_else_is_opened(root: Path, tmp_path: Path, target: str) -> None:
    """Opening alone may do something: here it would hang up on somebody who reads."""
    os.mkfifo(tmp_path / "ptmx")
    tmp_path.chmod(0o755)
    source = tmp_path if target == "/dev/pts" else tmp_path / "ptmx"
    mounts = [nsdemo.Dev(), nsdemo.Bind(source, target)]
    reader = os.open(tmp_path / "ptmx", os.O_RDONLY | os.O_NONBLOCK)
    opened = select.poll()
    opened.register(reader)
    try:
        done = nsdemo.run([*SH, "test -t 0 && stty size"], root=root, mounts=mounts, **COLLECTED)
        assert (done.stdout, source_of(done)) == ("24 80\n", 0)
        assert opened.poll(0) == []
    finally:
        os.close(reader)


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


def test_what_was_opened_is_closed_once() -> None:
    """A second time would close what another thread has opened meanwhile, and hide the reason."""
    with pytest.raises(OSError, match="standard output: descriptor 999 is not open"):
        nsdemo.spawn(["true"], tty=True, stdin=nsdemo.PIPE, stdout=999)


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


def test_all_terminals_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a fake: opening them all would be felt by everybody on this machine."""

    def without_room(path: Any, *args: Any, **kwargs: Any) -> int:
        raise OSError(errno.ENOSPC, "full", path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", without_room)
        with pytest.raises(OSError, match="/dev/ptmx") as caught:
            nsdemo.run(["true"], **COLLECTED)
    assert "kernel.pty.max" in caught.value.__notes__[0]


def test_no_descriptor_is_left_for_our_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes as the last one, when others may have taken all there are."""
    settle = Terminal.settle

    def with_none_left(self: Terminal) -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            settle(self)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    monkeypatch.setattr(Terminal, "settle", with_none_left)
    before = snapshot()
    with pytest.raises(OSError, match="for the command's terminal") as caught:
        nsdemo.run(["sleep", "100"], root=root, mounts=[nsdemo.Dev()], **COLLECTED)
    assert caught.value.errno == errno.EMFILE
    del caught
    assert leftovers(before) == []
