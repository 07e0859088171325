"""spawn and run: what the namespace keywords mean, pods and joins, mounts and roots.

What the command's process is like (environment, ids, descriptors) is in test_spawn_process.py.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import IS_ROOT, QUIET, descriptors, leftovers, script, snapshot
from targets import CAPTURED, POWERS, made_by_unshare, only_root, tool

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

KEYWORDS = ["mount", "uts", "ipc", "pid", "net", "user", "cgroup", "time"]
FILES = {keyword: "mnt" if keyword == "mount" else keyword for keyword in KEYWORDS}
NONE: dict[str, Any] = dict.fromkeys(KEYWORDS, False)
SLEEP = ["sleep", "100"]
# An ordinary user's new namespaces belong to a new user namespace.
POWER: dict[str, Any] = {} if IS_ROOT else {"user": True}


def inside(**options: Any) -> dict[str, int]:
    """The namespaces that a command finds itself in, as its own /proc shows them."""
    each = f"for file in {' '.join(FILES.values())}; do readlink /proc/self/ns/$file; done"
    done = nsdemo.run(["sh", "-c", each], **options, **CAPTURED)
    numbers = [int(line.split("[")[1].rstrip("]")) for line in done.stdout.splitlines()]
    return dict(zip(KEYWORDS, numbers, strict=True))


def inodes(target: Any = None) -> dict[str, int]:
    return {keyword: inode for keyword, (_, inode) in nsdemo.namespaces(target).items()}


def changed(found: dict[str, int]) -> set[str]:
    ours = inodes()
    return {keyword for keyword in KEYWORDS if found[keyword] != ours[keyword]}


def say(args: list[str], **options: Any) -> str:
    done = nsdemo.run(args, **CAPTURED, **options)
    assert done.returncode == 0, done.stderr
    text: str = done.stdout.strip()
    return text


@contextlib.contextmanager
def paused() -> Iterator[nsdemo.Container[Any]]:
    """What holds a pod together. (No fixture: pytest would keep it, and its pidfd, too long.)"""
    with nsdemo.spawn(SLEEP, net=True, hostname="pause", **QUIET) as box:
        yield box


# -- True, False, a target ----------------------------------------------------------------------


def test_the_default_is_the_five_flag_container() -> None:
    found = changed(inside())
    assert found == {"mount", "uts", "ipc", "pid"} | (set() if IS_ROOT else {"user"})
    assert say(["sh", "-c", "echo $$"]) == "1"


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_true_is_a_new_namespace_and_false_is_ours(keyword: str) -> None:
    assert changed(inside(**NONE)) == set()
    assert changed(inside(**NONE | POWER | {keyword: True})) == {keyword, *POWER}


def test_all_eight_at_once(rootfs: Path) -> None:
    eight = dict.fromkeys(KEYWORDS, True)
    assert changed(inside(**eight)) == set(KEYWORDS)
    assert changed(inside(**eight, root=rootfs, init=True)) == set(KEYWORDS)


def test_user_none_chooses_by_the_callers_power(rootfs: Path) -> None:
    body = """
    root = sys.argv[1]
    uts = {k: False for k in ("mount", "ipc", "pid")}
    ours = nsdemo.namespaces()["user"]
    def new(**options):
        with nsdemo.spawn(["sleep", "100"], **options) as box:
            return nsdemo.namespaces(box)["user"] != ours
    report(default=new(), uts=new(**uts), none=new(**uts, uts=False), root=new(root=root),
           false_is_refused=outcome(lambda: nsdemo.run(["true"], user=False))["error"] is not None,
           uid=nsdemo.run(["id", "-u"], capture_output=True, text=True).stdout.strip())
    """
    powerless = script(body, str(rootfs), ordinary=True).report
    expected = {"default": True, "uts": True, "none": False, "root": True, "uid": "0"}
    assert powerless == expected | {"false_is_refused": True}
    if IS_ROOT:
        expected = {"default": False, "uts": False, "none": False, "root": False, "uid": "0"}
        assert script(body, str(rootfs)).report == expected | {"false_is_refused": False}


@pytest.mark.parametrize("form", ["container", "pid", "pidfd", "file", "path", "pathlib"])
def test_a_target_is_joined_in_each_of_its_forms(form: str) -> None:
    with paused() as pause, contextlib.ExitStack() as files:
        path = f"/proc/{pause.pid}/ns/net"
        fd = os.open(path, os.O_RDONLY) if form == "file" else os.pidfd_open(pause.pid)
        opened = files.enter_context(open(fd))
        target = {
            "container": pause,
            "pid": pause.pid,
            "pidfd": opened,
            "file": opened,
            "path": path,
            "pathlib": Path(path),
        }[form]
        # An ordinary user may join the net namespace of his pause only as its root.
        user = {"user": pause} if form in ("file", "path", "pathlib") and not IS_ROOT else {}
        found = inside(net=target, mount=False, uts=False, ipc=False, pid=False, **user)
        theirs = inodes(pause)
    assert found["net"] == theirs["net"] != inodes()["net"]
    assert changed(found) == {"net"} | (set() if IS_ROOT else {"user"})


def test_what_is_no_target_is_refused(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    wrong: list[tuple[Any, type[Exception]]] = [
        (plain, ValueError),
        (fifo, ValueError),
        (1.5, TypeError),
        (object(), TypeError),
        (0, ValueError),
        (-1, ValueError),
        (tmp_path / "absent", FileNotFoundError),
        (2**22, ProcessLookupError),
        ("/proc/self/ns/uts", ValueError),  # a namespace, but of another kind
    ]
    for target, expected in wrong:
        with pytest.raises(expected):
            nsdemo.run(["true"], net=target)
    with pytest.raises(ValueError, match="process"):
        nsdemo.run(["true"], join="/proc/self/ns/net")
    with pytest.raises(TypeError):
        nsdemo.run(["true"], join=True)


def test_an_int_is_a_pid_and_a_bool_is_none() -> None:
    """0 and 1 are not False and True."""
    with pytest.raises(ValueError, match="pid"):
        nsdemo.run(["true"], net=0)
    plan = nsdemo.run(["true"], uts=os.getpid(), dry_run=True)
    assert "NEWUTS" in str(nsdemo.run(["true"], uts=True, dry_run=True))
    assert "NEWUTS" not in str(plan)  # neither new nor joined: it is ours


# -- pods and joins -----------------------------------------------------------------------------


def test_a_pod_shares_what_it_names(rootfs: Path) -> None:
    with paused() as pause:
        theirs = inodes(pause)
        pod: dict[str, Any] = {"root": rootfs, "net": pause, "ipc": pause, "uts": pause}
        found = inside(**pod)
        shared = {keyword for keyword in KEYWORDS if found[keyword] == theirs[keyword]}
        assert {"net", "ipc", "uts"} <= shared
        assert not {"mount", "pid"} & shared
        assert say(["hostname"], **pod) == "pause"
        assert say(["sh", "-c", "echo $$"], **pod) == "1"
        assert say(["id", "-u"], **pod) == "0"


def test_two_of_a_pod_talk_over_its_loopback(rootfs: Path) -> None:
    again = "for i in 1 2 3 4 5 6 7 8 9; do echo hello | nc 127.0.0.1 7007 && break; sleep .1; done"
    with paused() as pause:
        pod: dict[str, Any] = {"root": rootfs, "net": pause, "ipc": pause, "uts": pause}
        listener = ["nc", "-l", "-p", "7007"]
        # A listener whose own input has ended says so, and its caller may hang up before speaking.
        pipes: dict[str, Any] = {"stdin": nsdemo.PIPE, "stdout": nsdemo.PIPE}
        with nsdemo.spawn(listener, **pipes, **pod) as one:
            nsdemo.run(["sh", "-c", again], timeout=10, stderr=nsdemo.DEVNULL, **QUIET, **pod)
            assert one.communicate(timeout=10)[0] == b"hello\n"


def test_join_is_the_default_of_every_keyword_and_of_the_root(rootfs: Path) -> None:
    with nsdemo.spawn(SLEEP, root=rootfs, net=True, hostname="boxy", **QUIET) as box:
        theirs = inodes(box)
        assert inside(join=box) == theirs
        found = inside(join=box, ipc=False, cgroup=True)
        assert found["ipc"] == inodes()["ipc"] != theirs["ipc"]
        assert found["cgroup"] not in (inodes()["cgroup"], theirs["cgroup"])
        assert found["pid"] == theirs["pid"]
        assert say(["readlink", "/bin/sh"], join=box) == "busybox"
        assert say(["cat", "/proc/1/cmdline"], join=box).split("\0") == [*SLEEP, ""]
        with nsdemo.spawn(["sh", "-c", "echo $$; read x"], join=box, stdin=nsdemo.PIPE,
                          stdout=nsdemo.PIPE, text=True) as guest:  # fmt: skip
            assert guest.stdout is not None
            assert int(guest.stdout.readline()) > 1
            mounts = {op.operation for op in guest.trace} & {"mount", "bind", "propagation"}
            assert mounts == set()
        assert box.poll() is None  # the end of a guest is not the end of the container


def test_a_joined_namespace_that_is_ours_is_left_out() -> None:
    plan = nsdemo.run(["true"], join=os.getpid(), dry_run=True)
    assert "join" not in [step.operation for step in plan]
    assert inside(join=os.getpid()) == inodes()


# -- fork, /proc --------------------------------------------------------------------------------


def test_without_fork_the_second_child_gets_enomem() -> None:
    command = [tool("busybox"), "sh", "-c", "ls -d /; ls -d /; ls -d /"]
    done = nsdemo.run(command, fork=False, **CAPTURED)
    assert done.stdout == "/\n"
    assert "Cannot allocate memory" in done.stderr
    prefix = [tool("unshare"), "--mount", "--pid", *([] if IS_ROOT else ["--map-root-user"])]
    theirs = subprocess.run([*prefix, *command], **CAPTURED)
    assert "Cannot allocate memory" in theirs.stderr  # what unshare(1) does without --fork


def test_without_fork_the_command_stays_in_our_pid_namespace() -> None:
    with nsdemo.spawn(["sh", "-c", "echo $$; read x"], fork=False, mount_proc=False,
                      stdin=nsdemo.PIPE, stdout=nsdemo.PIPE, text=True) as box:  # fmt: skip
        assert box.stdout is not None
        assert int(box.stdout.readline()) == box.pid
        assert inodes(box)["pid"] == inodes()["pid"]


def test_mount_proc_decides_whose_processes_are_seen(rootfs: Path) -> None:
    count = ["sh", "-c", "ls -d /proc/[0-9]* | wc -l"]
    assert int(say(count)) <= 4  # None: mount and pid are new
    assert int(say(count, mount_proc=True)) <= 4
    assert int(say(count, mount_proc=False)) > 4
    assert int(say(count, pid=False)) > 4  # None: nothing new to show
    assert "mount" not in [s.operation for s in nsdemo.spawn(["true"], pid=False, dry_run=True)]
    assert say(["ls", "/proc"], root=rootfs, mount_proc=False) == ""
    assert "self" in say(["ls", "/proc"], root=rootfs)


def alone(box: nsdemo.Container[Any]) -> dict[str, Any]:
    """Join nothing but what is named."""
    user = box if inodes(box)["user"] != inodes()["user"] else False
    return {"uts": False, "ipc": False, "pid": False, "user": user}


# -- roots and mounts ---------------------------------------------------------------------------


@pytest.mark.parametrize("user", POWERS)
def test_pivot_root_lets_go_of_the_old_root_and_chroot_does_not(user: bool, rootfs: Path) -> None:
    mounts = ["cat", "/proc/self/mountinfo"]
    pivoted = say(mounts, root=rootfs, user=user).splitlines()
    assert [line.split()[4] for line in pivoted] == ["/", "/proc"]
    options: dict[str, Any] = {"root": rootfs, "root_method": "chroot", "user": user}
    assert say(["readlink", "/bin/sh"], **options) == "busybox"
    assert "self" in say(["ls", "/proc"], **options)
    with nsdemo.spawn(SLEEP, **options, **QUIET) as box:
        behind = say(["cat", "/proc/self/mountinfo"], mount=box, **alone(box))
        assert len(behind.splitlines()) > 3  # the mounts of the host are all there
    with nsdemo.spawn(SLEEP, root=rootfs, user=user, **QUIET) as box:
        behind = say(["cat", "/proc/1/mountinfo"], mount=box, **alone(box))
        assert len(behind.splitlines()) == 2  # here they are gone, whichever root one has


def test_the_root_may_be_relative_a_link_or_rootfs_itself(
    rootfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(rootfs)
    monkeypatch.chdir(rootfs.parent)
    for root in (rootfs.name, f"./{rootfs.name}/", tmp_path / "link", f"{rootfs}/."):
        assert say(["readlink", "/bin/sh"], root=root) == "busybox"
        assert say(["pwd"], root=root, root_method="chroot") == "/"


@pytest.mark.parametrize("init", [False, True])
def test_propagation_is_that_of_every_mount(init: bool) -> None:
    tagged = {"private": set(), "slave": {"master"}, "shared": {"shared"}}
    shared = [tool("unshare"), "--mount", "--propagation", "shared"]
    body = """
    kinds = {}
    for kind in ("private", "slave", "shared", "unbindable", "unchanged"):
        done = nsdemo.run(["grep", " / / ", "/proc/self/mountinfo"], propagation=kind,
                          mount_proc=False, init=bool(int(sys.argv[1])),
                          capture_output=True, text=True)
        kinds[kind] = sorted({word.split(":")[0] for word in done.stdout.split()[6:]
                              if word.split(":")[0] in ("shared", "master", "unbindable")})
    report(**kinds)
    """
    prefix = shared if IS_ROOT else [*shared, "--map-root-user"]
    found = script(body, str(int(init)), under=prefix).report
    for kind, expected in tagged.items():
        assert set(found[kind]) == expected
    assert found["unbindable"] == ["unbindable"]
    assert "shared" in found["unchanged"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"mount": False, "mount_proc": True}, "mount_proc"),
        ({"mount": False, "root": "/"}, "mount=True"),
        ({"uts": False, "hostname": "x"}, "hostname"),
        ({"mount": False, "propagation": "slave"}, "propagation"),
        ({"propagation": "sideways"}, "propagation"),
        ({"root": "/", "root_method": "magic"}, "root_method"),
        ({"pid": False, "init": True}, "init"),
        ({"fork": False, "init": True}, "init"),
    ],
)
def test_what_would_touch_the_host_is_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        nsdemo.spawn(["true"], **options)


def test_a_host_name_is_only_inside() -> None:
    before = os.uname().nodename
    assert say(["hostname"], hostname="boxy") == "boxy"
    assert say(["hostname"], hostname="é" * 32) == "é" * 32
    assert say(["hostname"]) == before == os.uname().nodename
    with pytest.raises(ValueError, match="hostname"):
        nsdemo.run(["true"], hostname="é" * 33)


# -- the network --------------------------------------------------------------------------------

TALK = """if 1:
    import socket
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname(), timeout=5)
    server.accept()[0].sendall(b"hello")
    print(client.recv(9).decode())
"""


@pytest.mark.parametrize("user", POWERS)
@pytest.mark.parametrize("init", [False, True])
def test_loopback_is_up_in_a_new_net_namespace(init: bool, user: bool) -> None:
    python = [sys.executable, "-I", "-c", TALK]
    options: dict[str, Any] = {"net": True, "user": user, "init": init, "timeout": 20}
    assert say(python, **options) == "hello"
    naive = [tool("unshare"), "--map-root-user", "--net", *python]
    assert "unreachable" in subprocess.run(naive, **CAPTURED).stderr


# -- the caller ---------------------------------------------------------------------------------


def test_nothing_of_the_caller_changes(rootfs: Path) -> None:
    """While the containers run, too; the fixture looks only afterwards."""
    before = snapshot()
    open_before = descriptors()
    eight = dict.fromkeys(KEYWORDS, True)
    with nsdemo.spawn(SLEEP, root=rootfs, umask=0o77, hostname="x", **eight, **QUIET) as box:
        now = snapshot()
        for name in ("mounts", "namespaces", "standing", "directories", "dumpable"):
            assert now[name] == before[name]
        assert len(now["children"] - before["children"]) <= 2  # the command and its watchdog
        new = [what for fd, what in now["descriptors"].items() if fd not in open_before]
        assert new == ["anon_inode:[pidfd]"]
        box.stop()
    del box
    assert leftovers(before) == []


@only_root
def test_a_container_of_another_user_is_joined_by_root_but_not_by_others() -> None:
    options = ["--map-root-user", "--mount", "--uts", "--pid", "--fork", "--mount-proc"]
    with made_by_unshare(*options, ordinary=True) as pid:
        found = inside(join=pid)
        assert found == inodes(pid)
        assert say(["id", "-u"], join=pid) == "0"
    found = script(
        """
        report(**outcome(lambda: nsdemo.run(["true"], join=int(sys.argv[1]))))
        """,
        str(os.getpid()),
        ordinary=True,
    ).report
    assert "PermissionError" in found["error"]["type"]
