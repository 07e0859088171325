"""persist= and release: namespaces that outlive their processes, and what holds them."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import IS_ROOT, QUIET, leftovers, refusing, running_script, script, snapshot

import nsdemo
from nsdemo import kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("ordinary_users_may")
only_root = pytest.mark.skipif(not IS_ROOT, reason="only root pins in the host's mount namespace")
CAPTURE: dict[str, Any] = {"capture_output": True, "text": True, **QUIET}
CAPTURE_PIPE: dict[str, Any] = {"stdout": nsdemo.PIPE, "text": True, **QUIET}
READ_NET = ["readlink", "/proc/thread-self/ns/net"]


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    """A private mount of our own, in which no pin outlives a test."""
    if not IS_ROOT:
        yield tmp_path
        return
    subprocess.run(["mount", "-t", "tmpfs", "--make-private", "pins", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


@only_root
def test_a_pin_is_a_step_of_a_plan_by_hand(pins: Path) -> None:
    plan = nsdemo.Plan().unshare("uts").sethostname("boxy").pin("uts", pins / "boxy")
    plan.exec(["true"]).run(**QUIET)
    assert nsdemo.run(["hostname"], uts=pins / "boxy", **CAPTURE).stdout == "boxy\n"
    nsdemo.release(pins / "boxy")


def a_holder(pid: bool = False) -> nsdemo.Container[bytes]:
    """A container whose mount namespace is ours to pin in."""
    box: nsdemo.Container[bytes] = nsdemo.spawn(["sleep", "600"], pid=pid, **QUIET)
    return box


def held(holder: nsdemo.Container[bytes]) -> dict[str, Any]:
    """Keywords for a container that is made in the holder's mount namespace."""
    user = False if IS_ROOT else holder
    return {"mount": holder, "user": user, "pid": False, "ipc": False, "uts": False}


def inode(path: Path) -> int:
    return path.stat().st_ino


@only_root
@pytest.mark.parametrize("where", ["here", "holder"])
def test_a_file_that_was_made_for_nothing(pins: Path, where: str) -> None:
    """It is made, and then the kernel does not say what file system it is in."""
    body = """
        from test_persist import a_holder, held
        with a_holder() as holder:
            where = {} if sys.argv[2] == "here" else held(holder)
            where["uts"] = True
            try:
                nsdemo.run(["true"], **where, persist={"uts": sys.argv[1]}, **QUIET)
            except OSError as error:
                there = sys.argv[1] if sys.argv[2] == "here" else (
                    f"/proc/{holder.pid}/root{sys.argv[1]}"
                )
                report(step=error.step.operation, errno=error.errno, left=os.path.lexists(there))
    """
    done = script(body, str(pins / "boxy"), where, under=refusing("fstatfs", "EIO"))
    assert done.report == {"step": "pin", "errno": errno.EIO, "left": False}


@only_root
@pytest.mark.parametrize("how", [{}, {"init": True}, {"die_with_parent": False}, {"fork": False}])
def test_a_network_namespace_outlives_its_command(pins: Path, how: dict[str, Any]) -> None:
    place = pins / "blue"
    done = nsdemo.run(READ_NET, net=True, persist={"net": place}, **how, **CAPTURE)
    assert done.stdout == f"net:[{inode(place)}]\n"
    (step,) = (step for step in done.trace if step.operation == "pin")
    assert step.args == ("net", str(place))
    assert (step.errno, step.pid) == (0, os.getpid())
    again = nsdemo.run(READ_NET, net=place, **CAPTURE)
    assert again.stdout == done.stdout
    keepers = kernel.keepers(place, "net")
    assert keepers.processes == ()
    assert str(place) in [point for _, point in keepers.mounts]
    nsdemo.release(place)
    assert not place.exists()


@only_root
def test_every_kind_is_pinned_at_once(pins: Path) -> None:
    kinds = ("mount", "uts", "ipc", "pid", "net", "user", "cgroup", "time")
    new: dict[str, Any] = dict.fromkeys(kinds, True)
    persist = {kind: pins / kind for kind in kinds}
    with nsdemo.spawn(["sleep", "600"], persist=persist, **new, **QUIET) as box:
        for kind, place in persist.items():
            assert inode(place) == box.namespaces[kind][1], kind
            assert str(place) in [point for _, point in kernel.keepers(box, kind).mounts], kind
        box.release()
        box.release()
        assert not any(place.exists() for place in persist.values())


@only_root
def test_unshare_pins_the_same(pins: Path) -> None:
    """What unshare --net=FILE makes, nsenter --net=FILE finds; and so with ours."""
    ours, theirs = pins / "ours", pins / "theirs"
    theirs.touch()
    nsdemo.run(["true"], net=True, persist={"net": ours}, **QUIET)
    subprocess.run(["unshare", f"--net={theirs}", "true"], check=True)
    for place in (ours, theirs):
        command = ["nsenter", f"--net={place}", *READ_NET]
        seen = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert seen == nsdemo.run(READ_NET, net=place, **CAPTURE).stdout
        assert seen == f"net:[{inode(place)}]\n"
        nsdemo.release(place)
    assert not ours.exists()
    assert theirs.exists(), "a file that was there before is not ours to remove"


@only_root
@pytest.mark.parametrize(
    ("args", "more", "operation"),
    [
        (["true"], {"persist": {"uts": "a", "net": "no/such/b"}}, "pin"),
        (["true"], {"persist": {"uts": "a", "net": "taken"}}, "pin"),
        (["true"], {"persist": {"uts": "a", "net": "link"}}, "pin"),
        (["true"], {"persist": {"uts": "a", "net": "folder"}}, "pin"),
        (["true"], {"persist": {"uts": "a", "net": "b"}, "cwd": "/no/such"}, "chdir"),
        (["no-such-command"], {"persist": {"uts": "a", "net": "b"}}, None),
        (["no-such-command"], {"persist": {"uts": "a", "net": "b"}, "init": True}, None),
    ],
)
def test_no_half_is_left(
    pins: Path, args: list[str], more: dict[str, Any], operation: str | None
) -> None:
    (pins / "link").symlink_to(pins / "elsewhere")
    (pins / "folder").mkdir()
    nsdemo.run(["true"], net=True, persist={"net": pins / "taken"}, **QUIET)
    kept = {entry.name for entry in pins.iterdir()}
    before = snapshot()
    persist = {kind: pins / name for kind, name in more["persist"].items()}
    with pytest.raises(OSError) as caught:
        nsdemo.run(args, net=True, **{**more, "persist": persist}, **QUIET)
    assert not leftovers(before)
    assert {entry.name for entry in pins.iterdir()} == kept
    if operation is None:
        assert not isinstance(caught.value, nsdemo.NamespaceError)
    else:
        assert isinstance(caught.value, nsdemo.NamespaceError)
        assert caught.value.step.operation == operation
        assert caught.value.__notes__
    nsdemo.release(pins / "taken")


@only_root
def test_a_mount_namespace_that_shares_is_not_pinned_in_a_shared_mount(pins: Path) -> None:
    subprocess.run(["mount", "--make-shared", pins], check=True)
    with pytest.raises(nsdemo.NamespaceError) as caught:
        nsdemo.run(["true"], propagation="shared", persist={"mount": pins / "mount"}, **QUIET)
    assert caught.value.errno == errno.EINVAL
    assert "shared mount" in caught.value.__notes__[0]
    assert list(pins.iterdir()) == []
    nsdemo.run(["true"], persist={"mount": pins / "mount"}, **QUIET)
    nsdemo.release(pins / "mount")


@only_root
def test_a_dead_pid_namespace_takes_in_nobody(pins: Path) -> None:
    nsdemo.run(["true"], persist={"pid": pins / "pid"}, **QUIET)
    with pytest.raises(nsdemo.NamespaceError) as caught:
        nsdemo.run(["true"], pid=pins / "pid", mount=False, **QUIET)
    assert caught.value.errno == errno.ENOMEM
    nsdemo.release(pins / "pid")


@only_root
def test_a_relative_path_and_a_plan_that_starts_later(pins: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(pins)
    plan = nsdemo.spawn(["sleep", "600"], net=True, persist={"net": "blue"}, dry_run=True, **QUIET)
    assert f"--net={pins}/blue" in str(plan)
    monkeypatch.chdir("/")
    assert list(pins.iterdir()) == []
    with plan.start() as box:
        assert inode(pins / "blue") == box.namespaces["net"][1]
        with pytest.raises(nsdemo.NamespaceError, match="File exists"):
            plan.run()
    box.release()
    assert list(pins.iterdir()) == []


@only_root
def test_python_is_killed_while_a_pin_is_asked_for(pins: Path) -> None:
    """The command's process waits for nobody who is dead. strace holds the mount up."""
    body = f"""\
        print("ready", flush=True)
        sys.stdin.readline()
        nsdemo.run(["sleep", "600"], mount=False, pid=False, net=True,
                   persist={{"net": "{pins}/blue"}})
    """
    with running_script(body) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        inject = "--inject=mount:delay_enter=400000"
        command = ["strace", "-f", "-qq", "-o", "/dev/null", inject, "-p", str(process.pid)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tracer:
            with suppress(subprocess.TimeoutExpired):
                tracer.wait(0.3)
            process.stdin.write("\n")
            process.stdin.flush()
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
            process.kill()
            process.wait(5)
            tracer.wait(5)
    assert not [
        line
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if "nsfs" in line and str(pins) in line
    ]


@only_root
def test_a_path_that_is_swapped_after_the_look_releases_nothing_else(pins: Path) -> None:
    """strace holds the call up that takes the mount away, and the directory becomes another."""
    for name in ("mine", "other"):
        (pins / name).mkdir()
        nsdemo.run(["true"], net=True, persist={"net": pins / name / "blue"}, **QUIET)
    kept = inode(pins / "other/blue")
    body = f"""\
        print("ready", flush=True)
        sys.stdin.readline()
        nsdemo.release("{pins}/mine/blue")
    """
    with running_script(body) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        inject = "--inject=umount2:delay_enter=500000"
        command = ["strace", "-qq", "-o", "/dev/null", inject, "-p", str(process.pid)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tracer:
            with suppress(subprocess.TimeoutExpired):
                tracer.wait(0.3)
            process.stdin.write("\n")
            process.stdin.flush()
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.25)
            (pins / "mine").rename(pins / "moved")
            (pins / "other").rename(pins / "mine")
            assert process.wait(5) == 0
            tracer.wait(5)
    assert inode(pins / "mine/blue") == kept
    assert list((pins / "moved").iterdir()) == []
    nsdemo.release(pins / "mine/blue")


@only_root
def test_without_a_proc_nothing_is_released(pins: Path) -> None:
    nsdemo.run(["true"], net=True, persist={"net": pins / "blue"}, **QUIET)
    body = f"""\
        import nsdemo._request.pins, nsdemo._request.stdio, ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(0x20000) == 0
        assert libc.mount(b"none", b"/", None, 1 << 18 | 1 << 14, None) == 0
        assert libc.mount(b"none", b"/proc", b"tmpfs", 0, None) == 0
        try:
            nsdemo.release("{pins}/blue")
        except OSError as error:
            report(**facts_of(error))
    """
    found = script(body).report
    assert found["errno"] == errno.ESRCH
    assert "on /proc" in found["notes"][0]
    nsdemo.release(pins / "blue")


# -- an ordinary user's ------------------------------------------------------------------------


def test_a_holder_keeps_what_may_not_be_pinned_here(tmp_path: Path) -> None:
    place = tmp_path / "blue"
    with a_holder() as holder:
        made = nsdemo.spawn(
            READ_NET, net=True, persist={"net": place}, **held(holder), **CAPTURE_PIPE
        )
        first = made.communicate()[0]
        seen = Path(f"/proc/{holder.pid}/root{place}")
        assert first == f"net:[{inode(seen)}]\n"
        assert inode(place) != inode(seen), "here it is an empty file"
        assert nsdemo.run(READ_NET, net=seen, **held(holder), **CAPTURE).stdout == first
        assert (holder.pid, str(place)) in kernel.keepers(seen, "net").mounts
        made.release()
        assert not place.exists()
        made.release()


def test_a_holder_may_have_processes_of_its_own(tmp_path: Path) -> None:
    """The /proc that is mounted there knows nobody from elsewhere, and umount reads it."""
    place = tmp_path / "blue"
    with a_holder(pid=True) as holder:
        nsdemo.run(["true"], **held(holder) | {"uts": True}, persist={"uts": place}, **QUIET)
        assert kernel.keepers(Path(f"/proc/{holder.pid}/root{place}"), "uts").mounts
        nsdemo.release(place, holder)
        assert not place.exists()


@pytest.mark.parametrize("more", [{"cwd": "/no/such"}, {"taken": True}, {"command": "no-such"}])
def test_no_half_is_left_in_a_holder(tmp_path: Path, more: dict[str, Any]) -> None:
    taken = tmp_path / "taken"
    persist = {"uts": tmp_path / "a", "net": taken if more.pop("taken", None) else tmp_path / "b"}
    command = more.pop("command", "true")
    with a_holder() as holder:
        options = held(holder) | {"uts": True, "net": True}
        nsdemo.run(["true"], persist={"net": taken}, **options, **QUIET)
        with pytest.raises(OSError, match=r"No such file|File exists|Permission denied"):
            nsdemo.run([command], persist=persist, **options, **more, **QUIET)
        assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]
        nsdemo.release(taken, holder)
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(OSError, match="taken"):
            nsdemo.release(taken, holder)


SPY = """#!/bin/busybox sh
busybox echo "$0" >> /seen
exec busybox "${0##*/}" "$@"
"""


@pytest.mark.parametrize("user", [True, pytest.param(False, marks=only_root)])
def test_a_release_executes_nothing_in_the_holder(tmp_path: Path, user: bool) -> None:
    """Whoever wrote its programs would get the power that a release takes."""
    with nsdemo.Rootfs.busybox(tmp_path / "root") as root:
        folder = Path(root) / "bin"
        for name in ("sh", "umount", "stat", "rm", "mount"):
            (folder / name).unlink(missing_ok=True)
            (folder / name).write_text(SPY)
            (folder / name).chmod(0o755)
        options: dict[str, Any] = {"capabilities": [], "no_new_privs": True, **QUIET}
        with nsdemo.spawn(["sleep", "1000"], root=root, user=user, **options) as holder:
            where = {"mount": holder, "user": holder if user else False}
            where |= {"pid": False, "ipc": False, "uts": False}
            nsdemo.run(["true"], net=True, persist={"net": "/pin"}, **where, **QUIET)
            assert (folder.parent / "pin").exists()
            nsdemo.release("/pin", holder)
            assert not (folder.parent / "pin").exists()
            with pytest.raises(FileNotFoundError, match="/pin"):
                nsdemo.release("/pin", holder)
            (folder.parent / "pin").touch()
            with pytest.raises(OSError, match="no namespace is pinned here") as caught:
                nsdemo.release("/pin", holder)
            assert caught.value.errno == errno.EINVAL
        assert not (folder.parent / "seen").exists()


def test_a_mount_namespace_is_a_holder_by_its_file_too(tmp_path: Path) -> None:
    with a_holder() as holder:
        nsdemo.run(
            ["true"], **held(holder) | {"uts": True}, persist={"uts": tmp_path / "a"}, **QUIET
        )
        nsdemo.release(tmp_path / "a", f"/proc/{holder.pid}/ns/mnt")
        assert not (tmp_path / "a").exists()
        with pytest.raises(ValueError, match="of the kind uts"):
            nsdemo.release(tmp_path / "a", f"/proc/{holder.pid}/ns/uts")
    with pytest.raises(ProcessLookupError):
        nsdemo.release(tmp_path / "a", holder)


def test_the_message_for_an_ordinary_user_names_the_holder(tmp_path: Path) -> None:
    body = f"""\
        report(**outcome(lambda: nsdemo.run(["true"], net=True, persist={{"net": "{tmp_path}/a"}})))
    """
    found = script(body, ordinary=True).report
    assert found["error"]["operation"] == "pin"
    assert "PermissionError" in found["error"]["type"]
    assert "mount=holder, user=holder" in found["error"]["notes"][0]
    assert not found["left"]
    assert list(tmp_path.iterdir()) == []


# -- arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"persist": ["net"]}, TypeError, "mapping"),
        ({"persist": {"network": "/x"}}, ValueError, "the eight are"),
        ({"persist": {"net": "/x"}}, ValueError, "net=True makes a new one"),
        ({"persist": {"uts": "/x"}, "uts": os.getpid()}, ValueError, "joined"),
        ({"persist": {"uts": ""}}, ValueError, "empty"),
        ({"persist": {"uts": b"/x"}}, TypeError, "str or os.PathLike"),
        ({"persist": {"uts": "/x\0"}}, ValueError, "NUL"),
        ({"persist": {"uts": "/x", "ipc": "/x"}}, ValueError, "a path of its own"),
        ({"persist": {"pid": "/x"}, "fork": False}, ValueError, "fork=True"),
        ({"persist": {"pid": "/x"}, "mount": os.getpid()}, ValueError, "neither pid nor user"),
        ({"persist": {"uts": "/x"}, "mount": os.getpid(), "init": True}, ValueError, "init"),
    ],
)
def test_what_cannot_be(given: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        nsdemo.spawn(["true"], dry_run=True, **given)


def test_only_pins_are_released(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch(0)
    with pytest.raises(OSError, match="no namespace is pinned here") as caught:
        nsdemo.release(file)
    assert caught.value.errno == errno.EINVAL
    assert file.exists()
    with pytest.raises(FileNotFoundError):
        nsdemo.release(tmp_path / "missing")
    (tmp_path / "link").symlink_to("/proc/self/ns/net")
    with pytest.raises(OSError, match="no namespace is pinned here"):
        nsdemo.release(tmp_path / "link")
