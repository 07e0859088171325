"""Newer system calls, each refused alone: there is another way, or an error that names it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from support import IS_ROOT, eventually, new_marker, processes_with, refusing, script

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

refused = pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])

BODY = """
    root = sys.argv[1]
    quiet = dict(stdin=nsdemo.DEVNULL, capture_output=True)
    tell = ["sh", "-c", "echo $$ $(hostname) $(ls /proc/self/fd); exit 7"]

    def within(**options):
        with nsdemo.spawn(["sleep", "1000"], root=root, hostname="in", stdin=nsdemo.DEVNULL,
                          **options) as box:
            return box.enter(tell, capture_output=True, stdin=nsdemo.DEVNULL)

    bind = [nsdemo.Bind("/etc", "/mnt", readonly=True), nsdemo.Dev()]
    calls = {
        "chroot_run": lambda: nsdemo.chroot_run(root, ["sh", "-c", "exit 7"], **quiet),
        "spawn": lambda: nsdemo.run(tell, root=root, hostname="in", **quiet),
        "no guard": lambda: nsdemo.run(tell, root=root, die_with_parent=False, **quiet),
        "init": lambda: nsdemo.run(tell, root=root, init=True, **quiet),
        "mounts": lambda: nsdemo.run(tell, root=root, mounts=bind, readonly_root=True, **quiet),
        "enter": within,
    }
    report(**{name: outcome(call) for name, call in calls.items()})
"""


def found_without(call: str, error: str, rootfs: Path) -> dict[str, Any]:
    done = script(BODY, str(rootfs), under=refusing(call, error))
    found: dict[str, Any] = done.report
    assert [each["left"] for each in found.values()] == [[]] * len(found)
    return found


@refused
@pytest.mark.parametrize(
    "call", ["clone3", "close_range", "openat2", "mount_setattr", "memfd_create", "open_tree"]
)
def test_there_is_another_way(call: str, error: str, rootfs: Path) -> None:
    found = found_without(call, error, rootfs)
    for name, each in found.items():
        assert (each["error"], each["returncode"]) == (None, 7), name
    assert found["spawn"]["output"] == "1 in 0 1 2 3\n"
    assert found["init"]["output"].startswith("2 ")
    assert found["enter"]["output"].split()[1:] == ["in", "0", "1", "2", "3"]


@refused
def test_no_pidfd_no_command(error: str, rootfs: Path) -> None:
    """A number may be somebody else's by the time it is signalled: nothing runs without."""
    for name, each in found_without("pidfd_open", error, rootfs).items():
        assert each["error"] is not None, name
        assert "NamespaceError" in each["error"]["type"], name
        assert each["error"]["errno"] == getattr(errno, error), name
        assert each["at_once"] == [], name
        assert each["error"]["operation"] in ("start", "watch", "open_process"), name
        assert "pidfd_open is refused to this process" in each["error"]["notes"][0], name
        assert "allow pidfd_open and pidfd_send_signal" in each["error"]["notes"][0], name


KILLED = """
    error = getattr(errno, sys.argv[1])
    found = {}
    for name, how in (("plain", {}), ("init", {"init": True}), ("no pid", {"pid": False})):
        box = nsdemo.spawn(["sleep", "600"], **how, stdin=nsdemo.DEVNULL)
        box.send_signal(0)
        box.kill()
        ended = found[name] = [box.wait(5)]
        box.kill()  # nobody
        dropped = nsdemo.spawn(["sleep", "600"], **how, stdin=nsdemo.DEVNULL)
        pid = dropped.pid
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del dropped
        ended.append(os.path.exists(f"/proc/{pid}"))
        with nsdemo.spawn(["sleep", "600"], **how, stdin=nsdemo.DEVNULL) as box:
            try:
                nsdemo.Container.adopt(box.pid).kill()
            except OSError as refused:
                ended.append([refused.errno == error, str(refused)])
            child = os.fork()
            if not child:
                try:
                    box.kill()
                except PermissionError:
                    os._exit(7)
                os._exit(0)
            ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    left = nsdemo.spawn(["sleep", "600"], init=True, stdin=nsdemo.DEVNULL)  # the end does not hang
    report(found=found, pid=left.pid)
    warnings.simplefilter("ignore")
"""


@refused
def test_without_signals_by_pidfd_a_child_is_signalled_by_its_number(error: str) -> None:
    """Who is not our child, or no more, may be anybody by then: that is an error."""
    done = script(KILLED, error, under=refusing("pidfd_send_signal", error), timeout=30)
    found = done.report
    for name, (status, dropped, (same, text), fork) in found["found"].items():
        assert (status, dropped, same, fork) == (-9, False, True, 7), name
        assert "may not be signalled: a seccomp filter refuses pidfd_send_signal" in text
    assert eventually(lambda: not Path(f"/proc/{found['pid']}").exists())


@refused
def test_without_signals_by_pidfd_commands_end_with_python(error: str) -> None:
    marker = new_marker()
    body = """\
        boxes = [nsdemo.spawn(["sleep", sys.argv[1]], **how, stdin=nsdemo.DEVNULL)
                 for how in ({}, {"init": True}, {"pid": False})]
        print("started", flush=True)
        os.kill(os.getpid(), 9)
    """
    assert script(body, marker, under=refusing("pidfd_send_signal", error)).stdout == "started\n"
    assert eventually(lambda: not processes_with(marker))


def test_who_may_not_ask_what_it_may_do_is_told() -> None:
    """Not taken for somebody without power, who needs a user namespace."""
    body = """
        calls = {
            "run": lambda: nsdemo.run(["true"]),
            "plan": lambda: nsdemo.spawn(["true"], dry_run=True),
            "chroot_run": lambda: nsdemo.chroot_run("/", ["true"], dry_run=True),
        }
        report(**{name: outcome(call) for name, call in calls.items()})
    """
    for found in script(body, under=refusing("capget", "EPERM")).report.values():
        assert "capget(2) is refused" in found["error"]["text"]
        assert found["error"]["type"][0] == "PermissionError"
        assert found["left"] == []


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files to others")
@pytest.mark.parametrize(
    ("call", "tolerated", "step"),
    [("fchownat", ["EPERM", "EINVAL"], "overlay_at"), ("fchown", ["EPERM"], "terminal")],
)
def test_what_cannot_be_given_away_is_kept(
    call: str, tolerated: list[str], step: str, rootfs: Path
) -> None:
    """Where the kernel says that the id is not known; any other error is one."""
    body = """
        root, call = sys.argv[1:]
        def run():
            if call == "fchownat":
                return nsdemo.run(["true"], root=root, overlay=True)
            return nsdemo.run(["true"], root=root, uid=1234, tty=True, capture_output=True)
        report(found=outcome(run))
    """
    for error in (*tolerated, "EIO", "ENOSYS"):
        found = script(body, str(rootfs), call, under=refusing(call, error)).report["found"]
        assert found["left"] == []
        if error in tolerated:
            assert (found["error"], found["returncode"]) == (None, 0)
        else:
            assert found["error"]["operation"] == step, found
            assert found["error"]["errno"] == getattr(errno, error)
