"""What a process keeps between launches: the launcher's image, and a file for trace and plan."""

import json
import os
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import (
    IS_ROOT,
    KEPT,
    QUIET,
    all_descriptors,
    command_of,
    descriptors,
    eventually,
    script,
)

import nsdemo


@pytest.fixture
def pid(rootfs: Path) -> Iterator[int]:
    """Of a container's command."""
    box = nsdemo.spawn(["sleep", "600"], root=rootfs, **QUIET)
    yield box.pid
    box.stop(timeout=0)
    del box


def kept() -> dict[str, int]:
    """The descriptors that are kept, by their kind."""
    return {link: fd for fd, link in all_descriptors().items() if link in KEPT}


def test_one_of_each_and_no_more(pid: int) -> None:
    nsdemo.enter(pid, ["true"])
    first = kept()
    assert sorted(first) == sorted(KEPT)
    others = descriptors()
    for _ in range(20):
        nsdemo.enter(pid, ["true"])
    assert kept() == first
    assert descriptors() == others
    assert not any(os.get_inheritable(fd) for fd in first.values())


def test_a_command_gets_neither(pid: int) -> None:
    look = ["sh", "-c", "readlink /proc/self/fd/* | grep -c memfd"]
    assert nsdemo.enter(pid, look, capture_output=True).stdout == b"0\n"


def test_the_image_cannot_be_changed(pid: int) -> None:
    nsdemo.enter(pid, ["true"])
    image = kept()[KEPT[0]]
    with pytest.raises(PermissionError):
        os.write(image, b"x")
    with pytest.raises(PermissionError):
        os.ftruncate(image, 0)
    with pytest.raises(OSError):  # EPERM by the seal (Linux 6.3), ETXTBSY or EACCES before
        os.close(os.open(f"/proc/self/fd/{image}", os.O_WRONLY | os.O_TRUNC))
    assert nsdemo.enter(pid, ["sh", "-c", "exit 7"]).returncode == 7


@pytest.mark.parametrize("way", ["runs", "fails", "is killed"])
def test_nothing_of_a_plan_stays_behind(pid: int, way: str) -> None:
    """The next container must not find the secrets of this one."""
    secret = "6e1f-secret-of-a-launch"
    env = {"PATH": "/bin", "TOKEN": secret}
    if way == "runs":
        assert nsdemo.enter(pid, ["true"], env=env).returncode == 0
    elif way == "fails":
        with pytest.raises(FileNotFoundError):
            nsdemo.enter(pid, ["/nowhere"], env=env)
    else:
        with pytest.raises(nsdemo.TimeoutExpired):
            nsdemo.enter(pid, ["sleep", "60"], env=env, timeout=0.1)
    slate = kept()[KEPT[1]]
    content = os.pread(slate, 1 << 20, 0)
    assert len(content) >= 4096
    assert not content.strip(b"\0")


def test_threads_do_not_read_each_others_plan(pid: int) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(40):
            word = f"{number}-{turn}"
            done = nsdemo.enter(pid, ["echo", word], capture_output=True, text=True)
            if done.stdout != f"{word}\n" or done.trace[-1].args[1] != "echo":
                wrong.append(done)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_fork_does_not_write_on_its_parents() -> None:
    """Both launch at once, and each gets its own command's output and trace."""
    found = script(
        """
        box = nsdemo.spawn(["sleep", "60"])
        echo = lambda word: nsdemo.enter(box.pid, ["echo", word], capture_output=True).stdout
        assert echo("before") == b"before\\n"
        children = []
        for number in range(3):
            pid = os.fork()
            if pid == 0:
                words = [f"{number}-{turn}" for turn in range(60)]
                right = [echo(word) for word in words] == [f"{word}\\n".encode() for word in words]
                os._exit(0 if right else 1)
            children.append(pid)
        words = [f"parent-{turn}" for turn in range(100)]
        right = [echo(word) for word in words] == [f"{word}\\n".encode() for word in words]
        statuses = [os.waitpid(pid, 0)[1] for pid in children]
        box.kill(); box.wait()
        report(right=right, statuses=statuses)
        """
    ).report
    assert found == {"right": True, "statuses": [0, 0, 0]}


def test_a_launch_that_is_abandoned_leaves_a_new_one(pid: int) -> None:
    """Somebody kills the launcher's first process as soon as there is one."""
    end = threading.Event()

    def kill() -> None:
        me = os.getpid()
        while not end.is_set():
            for name in Path(f"/proc/{me}/task").iterdir():
                try:
                    children = (name / "children").read_text().split()
                except OSError:
                    continue
                for pid in children:
                    try:
                        if b"nsdemo-start" in Path(f"/proc/{pid}/cmdline").read_bytes():
                            os.kill(int(pid), 9)
                    except OSError:
                        continue

    thread = threading.Thread(target=kill)
    thread.start()
    outcomes = set()
    try:
        for turn in range(150):
            try:
                done = nsdemo.enter(pid, ["echo", str(turn)], capture_output=True, text=True)
                outcomes.add(done.stdout == f"{turn}\n" or done.returncode)
            except nsdemo.NamespaceError as error:
                outcomes.add(error.step.operation)
    finally:
        end.set()
        thread.join()
    assert outcomes <= {True, -9, "start", "fork"}, outcomes
    assert outcomes != {True}, "nobody was killed"
    done = nsdemo.enter(pid, ["echo", "after"], capture_output=True, text=True)
    assert done.stdout == "after\n"
    assert eventually(lambda: len(kept()) == len(KEPT))


def test_a_high_number_is_not_kept() -> None:
    """Handing it down would mean to copy the table of descriptors up to it."""
    found = script(
        """
        import resource
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1000), hard))
        files = [os.open("/dev/null", os.O_RDONLY) for _ in range(200)]
        box = nsdemo.spawn(["sleep", "60"])
        entered = [nsdemo.enter(box.pid, ["sh", "-c", "exit 7"]).returncode for _ in range(3)]
        names = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        links = [os.readlink(name) for name in names if os.path.lexists(name)]
        box.kill(); box.wait()
        report(entered=entered, kept=[link for link in links if "memfd" in link])
        """
    ).report
    assert found == {"entered": [7, 7, 7], "kept": []}


@pytest.mark.skipif(not IS_ROOT, reason="only root makes a pid namespace without a user namespace")
def test_a_fork_with_the_pid_of_its_parent() -> None:
    """Python is PID 1 here, and so is its child in another pid namespace."""
    body = """
        libc = ctypes.CDLL(None, use_errno=True)
        box = nsdemo.spawn(["sleep", "60"])
        words = [nsdemo.enter(box, ["echo", "parent"], capture_output=True).stdout]
        assert libc.unshare(0x20000000) == 0  # CLONE_NEWPID, for our children
        child = os.fork()
        if child == 0:
            assert os.getpid() == 1
            done = nsdemo.run(["echo", "child"], capture_output=True, init=True)
            inner = nsdemo.spawn(["sleep", "60"])
            again = nsdemo.enter(inner, ["sh", "-c", "exit 7"])
            os._exit(again.returncode if done.stdout == b"child\\n" else 1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        report(pid=os.getpid(), words=[word.decode() for word in words], status=status)
    """
    command = command_of("import ctypes\n" + textwrap.dedent(body))
    done = nsdemo.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"pid": 1, "words": ["parent\n"], "status": 7}
