"""nsdemo.kernel: what it reads is what the kernel says, asked in another way."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import IS_ROOT, QUIET, SLOW, eventually, leftovers, script, snapshot
from targets import POWERS

import nsdemo
from nsdemo import kernel, notebook
from nsdemo._cli import lsns
from nsdemo._facts import processes

if TYPE_CHECKING:
    from collections.abc import Iterator

TREE = (
    "mount -t tmpfs x /dev && : >/dev/null; sleep 1000 & sleep 1000 & echo ready; exec sleep 1000"
)
PINS = """
mount -t tmpfs x /tmp && : >/tmp/mine && : >/tmp/left
mount --bind /proc/self/ns/uts /tmp/mine
unshare -u sh -c 'hostname token; mount --bind /proc/self/ns/uts /tmp/left'
echo ready; exec sleep 1000
"""


@contextlib.contextmanager
def shell(rootfs: Path, text: str, **options: Any) -> Iterator[nsdemo.Container[str]]:
    """A container whose shell has said "ready"."""
    box = nsdemo.spawn(
        ["sh", "-c", text], root=rootfs, **QUIET, stdout=nsdemo.PIPE, text=True, **options
    )
    with box:
        assert box.stdout is not None
        assert box.stdout.readline() == "ready\n"
        yield box


@pytest.fixture(scope="module", params=POWERS)
def box(request: pytest.FixtureRequest, rootfs: Path) -> Iterator[nsdemo.Container[str]]:
    with shell(rootfs, TREE, user=request.param) as container:
        yield container


def identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


# Processes


def test_a_process_is_what_its_files_say() -> None:
    own = kernel.process(os.getpid())
    assert own is not None
    assert (own.pid, own.parent, own.uid) == (os.getpid(), os.getppid(), os.geteuid())
    assert own.args == tuple(os.fsdecode(Path("/proc/self/cmdline").read_bytes()).split("\0")[:-1])
    assert own.name == Path("/proc/self/comm").read_text().rstrip("\n")
    assert own.threads == len(os.listdir("/proc/self/task"))


def test_a_command_that_has_just_begun_has_its_arguments() -> None:
    for _ in range(100):
        with nsdemo.spawn(["sleep", "1000"], **QUIET) as box:
            found = kernel.process(box.pid)
            assert found is not None
            assert found.args == ("sleep", "1000")


def test_a_launcher_is_waited_for_until_it_has_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    patience = processes.patience
    monkeypatch.setattr(processes, "patience", lambda seconds: patience(10))
    with subprocess.Popen(
        ["nsdemo-start", "-c", "read line; exec sleep 1000"],
        executable=shutil.which("bash"),
        stdin=subprocess.PIPE,
    ) as starting:
        assert starting.stdin is not None
        go = threading.Timer(0.05, starting.stdin.close)
        go.start()
        found = kernel.process(starting.pid)
        go.join()
        starting.kill()
    assert found is not None
    assert (found.name, found.args) == ("sleep", ("sleep", "1000"))


def test_who_ends_while_he_is_read_is_not_there(
    box: nsdemo.Container[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_with_args", lambda found, patience: None)
    with pytest.raises(ProcessLookupError):
        kernel.processes(box)
    assert "No such process" in notebook.processes(box).text


def test_an_empty_command_line_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_is_executing", lambda pid: True)
    thread = next(each for each in kernel.processes() if not each.args)
    assert thread.name


def test_what_has_ended_is_none() -> None:
    done = nsdemo.spawn(["true"], **QUIET)
    pid = done.pid
    done.wait()
    assert kernel.process(pid) is None


def test_the_processes_are_those_that_the_container_sees(box: nsdemo.Container[str]) -> None:
    listed = box.enter(
        ["sh", "-c", "cd /proc; echo $$ [0-9]*"], **QUIET, capture_output=True, text=True
    )
    itself, *inside = map(int, listed.stdout.split())
    found = kernel.processes(box)
    assert {each.inner for each in found} == set(inside) - {itself}
    assert len(found) == 3
    for each in found:
        text = Path(f"/proc/{each.pid}/status").read_text()
        assert f"NSpid:\t{chr(9).join(map(str, each.pids))}\n" in text
        assert f"PPid:\t{each.parent}\n" in text
    first = min(found, key=lambda each: each.inner)
    assert first.pid == box.pid
    assert {each.parent for each in found if each is not first} == {box.pid}


def test_a_nested_namespace_is_in_it(rootfs: Path) -> None:
    text = "unshare -pf sh -c 'echo ready; exec sleep 1000'; true"
    with shell(rootfs, text) as box:
        found = kernel.processes(box)
        deepest = max(found, key=lambda each: len(each.pids))
        assert len(deepest.pids) == len(found[0].pids) + 1
        assert deepest.pids[-1] == 1
        assert deepest.inner == deepest.pids[-2] != 1
        assert [each.pid for each in kernel.processes(deepest.pid)] == [deepest.pid]
        assert kernel.parent(deepest.pid, "pid") == box.namespaces["pid"]


def test_neighbours_are_not_in_it(box: nsdemo.Container[str], rootfs: Path) -> None:
    with shell(rootfs, TREE) as other:
        mine, its = kernel.processes(box), kernel.processes(other)
        assert not {each.pid for each in mine} & {each.pid for each in its}


def test_an_init_that_hides_is_found(rootfs: Path, ordinary_users_may: None) -> None:
    body = """
    from nsdemo import kernel
    box = nsdemo.spawn(["sleep", "1000"], root=sys.argv[1], init=True, **QUIET)
    try:
        os.stat(f"/proc/{box.pid}/ns/pid")
    except PermissionError:
        hides = True
    else:
        hides = False
    found = [each.inner for each in kernel.processes(box)]
    box.stop()
    report(found=found, hides=hides)
    """
    done = script(body, str(rootfs), ordinary=True)
    assert done.report == {"found": [1, 2], "hides": True}


def test_ours_are_all_that_proc_shows() -> None:
    found = {each.pid for each in kernel.processes()}
    assert {os.getpid(), os.getppid()} <= found
    assert 1 in found


# Mounts and ids


def test_the_mounts_are_those_that_the_container_sees(box: nsdemo.Container[str]) -> None:
    inside = box.enter(["cat", "/proc/1/mountinfo"], **QUIET, capture_output=True, text=True)
    seen = [line.split() for line in inside.stdout.splitlines()]
    found = kernel.mounts(box)
    assert [(str(m.number), m.device, m.point, m.options) for m in found] == [
        (line[0], line[2], line[4], line[5]) for line in seen
    ]
    kinds = {mount.point: mount.kind for mount in found}
    assert kinds["/proc"] == "proc"
    assert kinds["/dev"] == "tmpfs"


def test_odd_mount_points_are_read_as_they_are(rootfs: Path) -> None:
    text = r"""
    mount -t tmpfs x /tmp; cd /tmp
    name="$(printf 'a b\tc\\\nd\r1 1 0:0 / /fake\013e\342\200\250f')"
    mkdir -p "$name"
    mount -t tmpfs '<b>&' "$name"; echo ready; exec sleep 1000
    """
    with shell(rootfs, text) as box:
        place = "/tmp/a b\tc\\\nd\r1 1 0:0 / /fake\x0be\u2028f"
        assert (place, "<b>&") in {(m.point, m.source) for m in kernel.mounts(box)}
        assert "/fake" not in {mount.point for mount in kernel.mounts(box)}


def test_a_name_cannot_add_a_field(rootfs: Path) -> None:
    text = r"printf 'a\rPPid:\t1\r\\n' >/proc/$$/comm; echo ready; read line"
    box = nsdemo.spawn(
        ["sh", "-c", text], root=rootfs, stdin=nsdemo.PIPE, stdout=nsdemo.PIPE, text=True
    )
    with box:
        assert box.stdout is not None
        assert box.stdout.readline() == "ready\n"
        found = kernel.process(box.pid)
        assert found is not None
        assert found.name == "a\rPPid:\t1\r\\n"
        assert found.parent == os.getpid()


def test_the_id_maps_are_the_kernels() -> None:
    with nsdemo.spawn(["sleep", "1000"], user=True, **QUIET) as box:
        maps = kernel.id_maps(box)
        assert maps == (((0, os.geteuid(), 1),), ((0, os.getegid(), 1),), "deny")
    own = kernel.id_maps()
    lines = Path("/proc/self/uid_map").read_text().splitlines()
    assert own.uid == tuple(tuple(map(int, line.split())) for line in lines)


# Roots


def test_pivot_root_moves_both_roots(box: nsdemo.Container[str], rootfs: Path) -> None:
    found = kernel.root(box)
    assert found.same
    assert found.path == "/"
    assert found.identity == found.namespace == identity(str(rootfs))


@pytest.mark.parametrize("user", POWERS)
def test_chroot_moves_one(rootfs: Path, user: bool) -> None:
    text = "echo ready; exec sleep 1000"
    with shell(rootfs, text, root_method="chroot", user=user) as jail:
        found = kernel.root(jail)
        assert not found.same
        assert found.path == str(rootfs)
        assert found.identity == identity(str(rootfs))
        assert found.namespace == identity("/")


def test_the_same_directory_on_another_mount_is_not_the_same_root(tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    plan = nsdemo.Plan() if IS_ROOT else nsdemo.Plan().unshare("user").map_root()
    plan = plan.unshare("mount").make_private().bind("/", again).chroot(again)
    with plan.exec(["sleep", "1000"]).start(**QUIET) as jail:
        found = kernel.root(jail)
        assert found.identity == found.namespace == identity("/")
        assert not found.same


def test_where_we_may_not_join_the_path_tells(rootfs: Path, ordinary_users_may: None) -> None:
    body = """
    from nsdemo import kernel
    plan = nsdemo.chroot_run(sys.argv[1], ["sleep", "1000"], dry_run=True)
    with plan.start(**QUIET) as jail:
        mine, its = kernel.root(), kernel.root(jail)
    report(mine=[mine.namespace, mine.same], its=[its.namespace, its.same, its.path])
    """
    done = script(body, str(rootfs), ordinary=True)
    assert done.report == {"mine": [None, True], "its": [None, False, str(rootfs)]}


def test_the_root_of_a_namespace_can_be_looked_into(box: nsdemo.Container[str]) -> None:
    fd = kernel.open_namespace_root(box)
    try:
        assert not os.get_inheritable(fd)
        assert os.readlink("bin/sh", dir_fd=fd) == "busybox"
    finally:
        os.close(fd)


# Owners


def test_who_owns_what() -> None:
    ours = identity("/proc/self/ns/user")
    with nsdemo.spawn(["sleep", "1000"], user=True, **QUIET) as box:
        inner = identity(f"/proc/{box.pid}/ns/user")
        owner = kernel.owner(box, "uts")
        assert owner == kernel.owner(box) == (inner, os.geteuid(), ours)
        chain = kernel.user_namespaces(box)
        assert [each.identity for each in chain[:2]] == [inner, ours]
        assert chain[-1].parent is None
        assert kernel.parent(box) == ours
        assert kernel.parent(box, "pid") == identity("/proc/self/ns/pid")
        # Ours own what it has not made anew; who is in a user namespace is not told of those above.
        net = kernel.owner(box, "net")
        assert net is None or net.identity != inner


def test_our_own_user_namespace_has_no_parent_that_we_are_told() -> None:
    (own,) = kernel.user_namespaces()
    assert own.identity == identity("/proc/self/ns/user")
    assert own.parent is None


# What keeps one alive


def test_processes_and_descriptors_keep_it() -> None:
    with nsdemo.spawn(["sleep", "1000"], die_with_parent=False, **QUIET) as box:
        before = kernel.keepers(box, "uts")
        assert [each.pid for each in before.processes] == [box.pid]
        assert before.identity == box.namespaces["uts"]
        assert not before.descriptors + before.mounts + before.namespaces
        fd = os.open(f"/proc/{box.pid}/ns/uts", os.O_RDONLY)
        try:
            assert kernel.keepers(box, "uts").descriptors == ((os.getpid(), fd),)
            assert kernel.keepers(box, "ipc").descriptors == ()
        finally:
            os.close(fd)


THREAD = """
import ctypes, os, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)

def live():
    fds = [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]
    libc.unshare(0x200)  # CLONE_FS, or it may not join a mount namespace
    for fd in fds:
        if libc.setns(fd, 0):
            print(os.strerror(ctypes.get_errno()), flush=True)
        os.close(fd)
    print("lives there", flush=True)
    time.sleep(600)

thread = threading.Thread(target=live, daemon=True)
thread.start()
time.sleep(600)
"""


def thread_in(box: nsdemo.Container[Any], *names: str) -> nsdemo.Container[str]:
    """A process with one thread that lives in the container's namespaces; all others do not."""
    files = [f"/proc/{box.pid}/ns/{name}" for name in names]
    thread = nsdemo.spawn(
        [sys.executable, "-I", "-S", "-c", THREAD, *files],
        **dict.fromkeys(("mount", "uts", "ipc", "pid"), False),
        user=box,
        **QUIET,
        stdout=nsdemo.PIPE,
        text=True,
    )
    assert thread.stdout is not None
    assert thread.stdout.readline() == "lives there\n"
    return thread


def test_a_single_thread_keeps_it() -> None:
    with (
        nsdemo.spawn(["sleep", "1000"], user=True, die_with_parent=False, **QUIET) as box,
        thread_in(box, "uts", "ipc", "mnt") as other,
    ):
        for name in ("uts", "ipc", "mount"):
            assert other.namespaces[name] != box.namespaces[name]
            found = {each.pid for each in kernel.keepers(box, name).processes}
            assert found == {box.pid, other.pid}
        rows = lsns.list_namespaces(of=box.pid)
        members = {row.type: {each.pid for each in row.members} for row in rows}
        assert members["uts"] == members["mnt"] == {box.pid, other.pid}
        assert members["pid"] == {box.pid}
        uts = box.namespaces["uts"]
        box.stop()
        assert other.pid in {
            each.pid
            for row in lsns.list_namespaces(("uts",))
            if row.inode == uts[1]
            for each in row.members
        }


def test_a_thread_with_descriptors_of_its_own_keeps_it() -> None:
    body = """\
        import ctypes

        libc = ctypes.CDLL(None)
        with nsdemo.spawn(["sleep", "600"], stdin=nsdemo.DEVNULL) as box:
            ready, over = threading.Event(), threading.Event()

            def hold():
                libc.unshare(0x400)  # CLONE_FILES
                fd = os.open(f"/proc/{box.pid}/ns/uts", os.O_RDONLY)
                ready.set()
                over.wait()

            thread = threading.Thread(target=hold)
            thread.start()
            ready.wait()
            report(found=[pid for pid, _ in nsdemo.kernel.keepers(box, "uts").descriptors],
                   pid=os.getpid())
            over.set()
            thread.join()
    """
    found = script(body).report
    assert found["found"] == [found["pid"]]


def test_bind_mounts_keep_it_without_a_process(rootfs: Path) -> None:
    with shell(rootfs, PINS) as box:
        found = kernel.keepers(box, "uts")
        assert [point for _, point in found.mounts] == ["/tmp/mine"]
        pinned = f"/proc/{box.pid}/root/tmp/left"
        alone = kernel.keepers(pinned, "uts")
        assert alone.identity == identity(pinned)
        assert alone.processes == ()
        assert [point for _, point in alone.mounts] == ["/tmp/left"]
        with pytest.raises(ValueError, match="has no net namespace; it is one of kind uts"):
            kernel.keepers(pinned, "net")
        with pytest.raises(ValueError, match="this needs a process"):
            kernel.processes(pinned)


def test_a_parent_keeps_the_namespace_of_its_children(rootfs: Path) -> None:
    # Without fork the shell stays outside; its first child is PID 1, the one that must live.
    text = "(echo ready; exec sleep 1000)"
    with shell(rootfs, text + "; true", fork=False, mount_proc=False) as parent:
        found = kernel.keepers(child_of(parent.pid), "pid")
        assert [each.pid for each in found.for_children] == [parent.pid]
        assert child_of(parent.pid) in {each.pid for each in found.processes}


def test_children_and_what_it_owns_keep_a_user_namespace() -> None:
    with nsdemo.spawn(["sleep", "1000"], user=True, **QUIET) as box:
        found = kernel.keepers(box, "user")
        made = {name: box.namespaces[name] for name in ("mount", "uts", "ipc", "pid")}
        assert dict(found.namespaces) == made
        own = dict(kernel.keepers(None, "user").namespaces)
        assert box.namespaces["user"] in [i for n, i in _pairs(None) if n == "user"]
        assert not set(made.values()) & set(own.values())


def _pairs(target: Any) -> tuple[tuple[str, tuple[int, int]], ...]:
    return kernel.keepers(target, "user").namespaces


# Bad input

QUESTIONS = [
    *(kernel.pid_of, kernel.processes, kernel.mounts, kernel.id_maps, kernel.root),
    *(kernel.open_namespace_root, kernel.owner, kernel.parent, kernel.user_namespaces),
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_has_ended_is_a_lookup_error(question: Any) -> None:
    box = nsdemo.spawn(["true"], **QUIET)
    pid = box.pid
    box.wait()
    for target in (box, pid):
        with pytest.raises(ProcessLookupError):
            question(target)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("target", [True, "no/such/file", 1.5, b"1", [1], 0, -1, 2**40])
def test_what_is_no_target_is_refused(question: Any, target: Any) -> None:
    with pytest.raises((TypeError, ValueError, FileNotFoundError)):
        question(target)


@pytest.mark.parametrize("name", ["mnt", "", "PID", "network"])
def test_what_is_no_namespace_is_refused(name: str) -> None:
    for question in (kernel.keepers, kernel.owner):
        with pytest.raises(ValueError, match="mount, uts, ipc, pid, net, user, cgroup, time"):
            question(None, name)


def test_only_two_kinds_have_parents() -> None:
    with pytest.raises(ValueError, match="only pid and user namespaces have parents"):
        kernel.parent(None, "net")


def test_what_is_not_ours_says_whose_it_is(ordinary_users_may: None) -> None:
    body = """
    from nsdemo import kernel
    found = []
    for question in (kernel.processes, kernel.root, kernel.open_namespace_root):
        try:
            question(int(sys.argv[1]))
        except PermissionError as error:
            found.append(str(error))
    report(found=found, owner=kernel.owner(int(sys.argv[1])), keepers=len(
        kernel.keepers(None, "uts").processes), unreadable=kernel.keepers(None, "uts").unreadable)
    """
    if not IS_ROOT:
        pytest.skip("only root has a process that an ordinary user may not look at")
    said = script(body, str(os.getpid()), ordinary=True).report
    assert len(said["found"]) == 3
    for text in said["found"]:
        assert f"process {os.getpid()} belongs to uid 0; you are uid 64321" in text
    assert said["owner"] is None
    assert said["keepers"] >= 1
    assert said["unreadable"] >= 1


def test_a_process_that_vanishes_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    vanished = nsdemo.spawn(["true"], **QUIET)
    number = vanished.pid
    vanished.wait()
    real = processes.pids
    monkeypatch.setattr(processes, "pids", lambda: [*real(), number])
    assert number not in {each.pid for each in kernel.processes()}


def test_a_joiner_leaves_nothing_whether_it_is_refused_or_not(
    box: nsdemo.Container[str], ordinary_users_may: None
) -> None:
    body = """
    from nsdemo import kernel
    def look():
        try:
            os.close(kernel.open_namespace_root())
        except PermissionError as error:
            report(errno=error.errno, text=str(error), left=leftovers(before))
    before = snapshot()
    look()
    """
    refused = script(body, ordinary=True).report
    assert (refused["errno"], refused["left"]) == (errno.EPERM, [])
    assert "is not ours to join" in refused["text"]
    before = snapshot()
    os.close(kernel.open_namespace_root(box))
    kernel.root(box)
    assert leftovers(before) == []


def test_the_tree_is_read_while_it_changes(rootfs: Path) -> None:
    # They live long enough to be listed and then read, on a machine as slow as this.
    loop = f"while :; do sleep {0.1 * SLOW**2} & (true); sleep {0.01 * SLOW}; done"
    text = f"{TREE.split(';')[0]}; echo ready; {loop}"
    with shell(rootfs, text) as box:
        seen: set[int] = set()

        def look() -> bool:
            found = {each.pid for each in kernel.processes(box)}
            assert box.pid in found
            seen.update(found)
            return len(seen) > len(found) + 10  # nobody lives longer than a few looks

        assert eventually(look, 30)
