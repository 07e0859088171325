"""An errno that has several causes: each is made to happen, and the hint names that one."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import IS_ROOT, ORDINARY, QUIET, no_power, script

import nsdemo
from nsdemo import Step
from nsdemo._facts import machine
from nsdemo._why.diagnosis import diagnose

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can prepare this failure")


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def failed(call: str, *args: str, **options: Any) -> dict[str, Any]:
    """What a call raises, which leaves nothing behind."""
    found: dict[str, Any] = script(f"report(**outcome(lambda: {call}))", *args, **options).report
    assert found["error"] is not None, found
    assert (found["left"], found["at_once"]) == ([], [])
    error: dict[str, Any] = found["error"]
    error["hints"] = "\n".join(error["notes"])
    return error


# -- EAGAIN ----------------------------------------------------------------------------------------


@needs_root
def test_too_many_processes_of_the_user_at_execve() -> None:
    """The kernel minds RLIMIT_NPROC late: after setuid, at execve, before it looks a path up."""
    others = [
        subprocess.Popen(["/bin/sleep", "60"], user=ORDINARY, stdin=subprocess.DEVNULL)
        for _ in range(8)
    ]
    try:
        error = failed(
            "nsdemo.run(['true'], uid=int(sys.argv[1]), gid=int(sys.argv[1]), "
            "rlimits={'nproc': 5}, env={'PATH': '/nowhere:/usr/bin:/bin'}, stdin=-3)",
            str(ORDINARY),
        )
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert error["errno"] == errno.EAGAIN
    assert f"uid {ORDINARY} may have 5 processes and threads (RLIMIT_NPROC" in error["hints"]
    assert error["text"].endswith(": 'true'")  # not the first folder of PATH


@pytest.fixture
def full_cgroup() -> Iterator[Path]:
    """A cgroup that takes one process more, and none after it."""
    for base in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):
        folder = base / f"nsdemo-test-{os.getpid()}"
        try:
            folder.mkdir()
            (folder / "pids.max").write_text("2")
        except OSError:
            with suppress(OSError):
                folder.rmdir()
            continue
        yield folder
        until = time.monotonic() + 5
        while True:  # who was in it may be dying
            try:
                folder.rmdir()
                return
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)
    pytest.skip("no cgroup with pids.max can be made here")


@needs_root
def test_too_many_processes_of_the_targets_cgroup(full_cgroup: Path) -> None:
    with nsdemo.spawn(["sleep", "1000"], **QUIET) as box:
        (full_cgroup / "cgroup.procs").write_text(str(box.pid))
        error = failed(f"nsdemo.enter({box.pid}, ['true'], join_cgroup=True, stdin=-3)")
        box.kill()
    assert error["errno"] == errno.EAGAIN
    assert "the target's cgroup may have 2 processes (pids.max) and has 1" in error["hints"]


# -- EINVAL ----------------------------------------------------------------------------------------


def test_children_with_other_clocks() -> None:
    """The kernel says EINVAL to the clone before Linux 6.2 alone: asked as if it had."""
    body = """
        import ctypes
        from nsdemo._why.diagnosis import diagnose
        if sys.argv[1:] and ctypes.CDLL(None).unshare(0x80 if IS_ROOT else 0x10000080):
            sys.exit(1)
        plan = nsdemo.Plan().exec(["true"])._core
        failed = nsdemo.Step("start", ("clone",), None, errno.EINVAL)
        report(hints=list(diagnose(failed, plan, (failed,))))
    """
    moved = script(body, "moved")
    if moved.returncode == 1:
        pytest.skip("this kernel has no time namespaces")
    (hint,) = moved.report["hints"]
    assert "born in another time namespace (unshare -T), and before Linux 6.2" in hint
    assert script(body).report["hints"] == []


@needs_root
def test_a_mount_namespace_that_counts_as_younger(tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one CPU counts for itself")
    body = """
        import ctypes
        libc = ctypes.CDLL(None)
        cpus = sorted(os.sched_getaffinity(0))[:2]
        found = []
        for here, there in (cpus, cpus[::-1]):  # one of the two counts behind the other
            os.sched_setaffinity(0, {here})
            libc.unshare(0x20000)
            libc.mount(None, b"/", None, 0x44000, None)
            os.sched_setaffinity(0, {there})
            pin = f"{sys.argv[1]}/{here}"
            try:
                nsdemo.run(["true"], persist={"mount": pin}, stdin=nsdemo.DEVNULL)
                nsdemo.release(pin)
            except OSError as error:
                found.append(facts_of(error))
        report(found=found)
    """
    found = script(body, str(tmp_path)).report["found"]
    if not found:
        pytest.skip("this kernel has no count of mount namespaces for each CPU")
    for error in found:
        assert (error["operation"], error["errno"]) == ("pin", errno.EINVAL)
        assert "only in one that the kernel counts as older" in error["notes"][0]


# -- EPERM -----------------------------------------------------------------------------------------


@needs_root
def test_lo_without_cap_net_admin() -> None:
    """As in docker run --cap-add SYS_ADMIN: the namespace is made, and lo stays down."""
    under = [tool("setpriv"), "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    error = failed("nsdemo.run(['true'], net=True, stdin=-3)", under=under)
    assert (error["operation"], error["errno"]) == ("loopback_up", errno.EPERM)
    assert "needs CAP_NET_ADMIN, which this root has not" in error["hints"]
    assert "add user=True" in error["hints"]
    advised = "report(**outcome(lambda: nsdemo.run(['true'], net=True, user=True, stdin=-3)))"
    assert script(advised, under=under).report["returncode"] == 0


# -- ENOSPC, EFBIG ---------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["bind", "mount", "unshare"])
def test_too_many_mounts(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is the machine's, so it is the sysctl that is faked here."""
    here = len(machine.mounts())
    real = machine.sysctl
    small = {"fs.mount-max": here + 1}
    monkeypatch.setattr(machine, "sysctl", lambda name: small.get(name) or real(name))
    plan = no_power().unshare("mount").make_private().bind("/tmp", "/tmp")
    plan = plan.mount("tmpfs", "/mnt", "tmpfs").exec(["true"])
    trace = [step for step in plan if step.operation != "write"]
    names = [step.operation for step in trace]
    at = len(names) - 1 - names[::-1].index(operation)
    step = Step(operation, trace[at].args, None, errno.ENOSPC)
    (hint,) = diagnose(step, plan._core, ())
    assert f"fs.mount-max says, {here + 1}, and {here} are there" in hint
    monkeypatch.undo()
    assert "fs.mount-max" not in "".join(diagnose(step, plan._core, ()))


@needs_root
def test_a_full_root_takes_no_mount_point(tmp_path: Path) -> None:
    body = """
        import ctypes
        libc = ctypes.CDLL(None)
        libc.unshare(0x20000)
        libc.mount(None, b"/", None, 0x44000, None)
        root = sys.argv[1]
        assert libc.mount(b"tmpfs", root.encode(), b"tmpfs", 0, b"nr_inodes=4") == 0
        os.mkdir(root + "/proc")
        with contextlib.suppress(OSError):
            for number in range(9):
                os.mkdir(f"{root}/{number}")
        bind = [nsdemo.Bind("/usr", "/usr")]
        report(**outcome(lambda: nsdemo.run(["true"], root=root, mounts=bind, stdin=-3)))
    """
    error = script(body, str(tmp_path)).report["error"]
    assert (error["operation"], error["errno"]) == ("bind_at", errno.ENOSPC)
    assert f"the file system of {tmp_path} is full" in error["notes"][0]


def test_files_that_may_not_be_large_enough() -> None:
    body = """
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        report(**outcome(lambda: nsdemo.run(["true"], user=True, uid=0, stdin=-3)))
    """
    error = script(body).report["error"]
    assert (error["operation"], error["errno"]) == ("start", errno.EFBIG)
    assert "files of 1,000 bytes at most (RLIMIT_FSIZE" in error["notes"][0]


# -- what is not as it is usually ------------------------------------------------------------------


@needs_root
def test_a_pin_without_proc(tmp_path: Path) -> None:
    body = """
        import ctypes
        libc = ctypes.CDLL(None)
        libc.unshare(0x20000)
        libc.mount(None, b"/", None, 0x44000, None)
        plan = nsdemo.Plan().unshare("uts").pin("uts", sys.argv[1] + "/pin").exec(["true"])
        assert libc.mount(b"tmpfs", b"/proc", b"tmpfs", 0, None) == 0
        try:
            plan.run(stdin=nsdemo.DEVNULL)
        except OSError as error:
            facts = facts_of(error)
        report(error=facts)
    """
    error = script(body, str(tmp_path)).report["error"]
    assert (error["operation"], error["errno"]) == ("pin", errno.ENOENT)
    assert "there is no procfs on /proc" in error["notes"][0]
    assert list(tmp_path.iterdir()) == []
