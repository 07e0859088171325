"""The rules that keep it shut, one test each: nothing is believed that can be a lie.

A pid may be another's by now, a /proc may be painted, a size may be huge, a descriptor may have
been closed behind our back.
"""

from __future__ import annotations

import errno
import functools
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import IS_ROOT, script
from targets import only_root, tool

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("ordinary_users_may")


@pytest.fixture
def own() -> Iterator[Path]:
    """A root that a test may spoil."""
    with nsdemo.Rootfs.busybox() as root:
        yield Path(root)


# -- rule 19: a pid that is somebody else's now -------------------------------------------------


def test_rule_19_a_reused_pid_is_not_joined() -> None:
    """In a pid namespace of our own, where the next pid can be chosen."""
    prefix = [tool("unshare"), "--pid", "--fork", "--mount-proc", "--mount"]
    found = script(
        """
        def reborn(pid):
            for _ in range(100):
                with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                    file.write(str(pid - 1))
                other = subprocess.Popen(["sleep", "100"])
                if other.pid == pid:
                    return other
                other.kill(); other.wait()

        def verdict(call):
            try:
                return call().returncode
            except ProcessLookupError:
                return "gone"

        found = {}
        for kind in ("pid", "container", "join"):
            box = nsdemo.spawn(["sleep", "100"], uts=True)
            pid = box.pid
            target = box if kind == "container" else pid
            if kind == "join":
                plan = nsdemo.spawn(["true"], join=target, dry_run=True)
            else:
                plan = nsdemo.enter(target, ["true"], dry_run=True)
            first = verdict(plan.run)
            time.sleep(0.03)  # the start of a process is known to a hundredth of a second
            box.kill(); box.wait()
            dead = verdict(plan.run)
            other = reborn(pid)
            found[kind] = [first, dead, other is not None, verdict(plan.run)]
            other.kill(); other.wait()
        report(**found)
        """,
        under=prefix if IS_ROOT else [*prefix, "--map-root-user"],
    ).report
    assert found == {kind: [0, "gone", True, "gone"] for kind in ("pid", "container", "join")}


# -- rule 20: a fake /proc ----------------------------------------------------------------------


def test_rule_20_nothing_is_read_from_the_containers_proc(own: Path) -> None:
    """Every file that one might read is a FIFO: whoever opens it waits for ever."""
    for folder in ("self", "thread-self", "1", "self/fd", "sys/kernel", "self/ns"):
        (own / "proc" / folder).mkdir(parents=True, exist_ok=True)
    for folder in ("self", "thread-self", "1"):
        for name in ("status", "stat", "uid_map", "gid_map", "setgroups", "mountinfo", "exe"):
            os.mkfifo(own / "proc" / folder / name)
    for name in ("mount", "mnt", "pid", "user", "net"):
        os.mkfifo(own / "proc" / "self" / "ns" / name)
    options: dict[str, Any] = {"root": own, "mount_proc": False, "timeout": 10}
    with pytest.raises(nsdemo.TimeoutExpired):
        nsdemo.run(["cat", "/proc/self/status"], **options | {"timeout": 0.2})
    for user in (True, False) if IS_ROOT else (True,):
        assert nsdemo.run(["true"], user=user, init=True, uid=0, **options).returncode == 0
        with nsdemo.spawn(["sleep", "100"], root=own, mount_proc=False, user=user) as box:
            assert box.enter(["true"], timeout=10, uid=0).returncode == 0
            joined = nsdemo.run(["true"], join=box, timeout=10, hostname=None)
            assert joined.returncode == 0
            assert box.stop(timeout=1) == -9
    assert nsdemo.chroot_run(own, ["true"], timeout=10, uid=0).returncode == 0


@only_root
def test_rule_20_a_fifo_in_proc_keeps_nobody_waiting(own: Path) -> None:
    """A user namespace made after a join: its maps are written in the target's /proc."""
    (own / "proc" / "self").mkdir()
    for name in ("uid_map", "gid_map", "setgroups"):
        os.mkfifo(own / "proc" / "self" / name)
    with nsdemo.spawn(["sleep", "100"], root=own, mount_proc=False) as box:
        for options in ({"init": False}, {"init": True}):
            found = script(
                """
                pid, init = int(sys.argv[1]), sys.argv[2] == "True"
                report(**outcome(lambda: nsdemo.run(["true"], mount=pid, user=True, init=init)))
                """,
                str(box.pid),
                str(options["init"]),
                timeout=20,
            ).report
            assert found["error"]["operation"] == "write"
            assert found["error"]["errno"] == errno.ENOTDIR
            assert "another /proc" in str(found["error"]["notes"])
            assert found["left"] == []


# -- rule 22: sizes from outside ----------------------------------------------------------------

MB = 2**20


@pytest.mark.parametrize(
    ("args", "options", "expected"),
    [
        (["true"], {"hostname": "x" * MB}, ValueError),
        (["true"], {"hostname": "x" * 65}, ValueError),
        (["true"], {"hostname": "a\0b"}, ValueError),
        (["true", "x" * 10 * MB], {}, OSError),
        (["true", *(["x" * 1000] * 10 * 1024)], {}, OSError),
        (["true"], {"env": {"A": "x" * 10 * MB}}, OSError),
        (["true"], {"env": {str(n): "x" * 1000 for n in range(10 * 1024)}}, OSError),
        (["tr\0ue"], {}, ValueError),
        (["true", "\0"], {}, ValueError),
        ([], {}, ValueError),
        ([""], {}, ValueError),
        ("true", {}, TypeError),
        (["true", 1], {}, TypeError),
        (["true"], {"env": {"A\0": "1"}}, ValueError),
        (["true"], {"env": {"A=B": "1"}}, ValueError),
        (["true"], {"env": {"": "1"}}, ValueError),
        (["true"], {"cwd": "x" * MB}, OSError),
        (["true"], {"cwd": "/tmp\0"}, ValueError),
        (["true"], {"root": "x" * MB}, OSError),
        (["true"], {"root": "/\0"}, ValueError),
        (["true"], {"groups": range(65537)}, ValueError),
        (["true"], {"umask": 0o1000}, ValueError),
        (["true"], {"umask": -1}, ValueError),
        (["true"], {"process_group": -1}, ValueError),
        (["true"], {"net": "/proc/self/ns/net\0"}, ValueError),
        (["true"], {"join": 2**70}, ValueError),
        (["true"], {"join": -1}, ValueError),
    ],
)
def test_rule_22_what_is_too_large_or_malformed_is_a_clear_error(
    args: Any, options: dict[str, Any], expected: type[Exception]
) -> None:
    with pytest.raises(expected) as caught:
        nsdemo.run(args, **options)
    if expected is OSError:
        assert caught.value.errno in (errno.E2BIG, errno.ENAMETOOLONG)  # type: ignore[attr-defined]
    assert not isinstance(caught.value, nsdemo.NamespaceError)  # refused before anything began
    assert len(str(caught.value)) < 500


def test_rule_22_what_is_mounted_and_limited_is_bounded_too() -> None:
    long = "x" * MB
    run: Any = functools.partial(nsdemo.run, ["true"])
    calls: list[tuple[Any, type[Exception]]] = [
        (lambda: nsdemo.Tmpfs("/" + "x/" * MB), OSError),
        (lambda: nsdemo.Bind("/" + "x/" * MB, "/mnt"), OSError),
        (lambda: nsdemo.Tmpfs("/mnt", size=long), ValueError),
        (lambda: run(mounts=[nsdemo.Tmpfs("/mnt")] * 2000), ValueError),
        (lambda: run(mounts=[nsdemo.Overlay("/mnt", lower=["/tmp"] * 10000)]), ValueError),
        (lambda: run(capabilities=[long]), ValueError),
        (lambda: run(ambient=[long]), ValueError),
        (lambda: run(rlimits={long: 1}), ValueError),
        (lambda: run(rlimits={"nofile": 2**70}), ValueError),
        (lambda: run(seccomp=bytes(10 * MB)), ValueError),
    ]
    for call, expected in calls:
        with pytest.raises(expected) as caught:
            call()
        assert not isinstance(caught.value, nsdemo.NamespaceError)
        assert len(str(caught.value)) < 500


def test_rule_22_a_plan_by_hand_is_bounded_too() -> None:
    plan = nsdemo.Plan()
    with pytest.raises((ValueError, OSError)):
        plan.sethostname("x" * MB)
    with pytest.raises((ValueError, OSError)):
        plan.bind("x" * MB, "/")
    with pytest.raises(ValueError, match="NUL"):
        plan.mount("a\0b", "/", "tmpfs")
    with pytest.raises((ValueError, OSError)):
        functools.reduce(lambda longer, _: longer.setsid(), range(2000), plan)
    largest = ["true", *["x" * 100_000] * 15]
    assert nsdemo.run(largest).returncode == 0  # what the kernel takes goes through


# -- rule 23: descriptors closed behind its back ------------------------------------------------


def test_rule_23_what_is_kept_is_looked_at_before_each_launch(tmp_path: Path) -> None:
    """Its numbers name somebody's file now: that is neither executed nor written to."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine" * 5000)
    found = script(
        """
        box = nsdemo.spawn(["sleep", "60"])
        results = []
        for turn in range(4):
            echo = nsdemo.enter(box.pid, ["echo", str(turn)], capture_output=True, text=True)
            results.append(echo.stdout)
            os.closerange(3, 4096)
            victims = [os.open(sys.argv[1], os.O_RDWR) for _ in range(30)]
        open_still = [os.path.samestat(os.fstat(fd), os.stat(sys.argv[1])) for fd in victims]
        box.kill()
        box.wait()
        report(results=results, open_still=all(open_still))
        """,
        str(victim),
    ).report
    assert found == {"results": ["0\n", "1\n", "2\n", "3\n"], "open_still": True}
    assert victim.read_bytes() == b"mine" * 5000


def test_rule_23_a_daemonisers_closerange_does_no_harm(rootfs: Path) -> None:
    decoy = shutil.which("false")
    found = script(
        """
        root, decoy = sys.argv[1:]
        results = [nsdemo.run(["true"], root=root).returncode]
        for _ in range(3):
            os.closerange(3, 4096)
            decoys = [os.open(decoy, os.O_RDONLY) for _ in range(30)]
            results.append(nsdemo.run(["true"], root=root).returncode)
            results.append(nsdemo.chroot_run(root, ["sh", "-c", "exit 7"]).returncode)
        os.closerange(0, 4096)
        results.append(nsdemo.run(["true"], stdin=-3, stdout=-3, stderr=-3, root=root).returncode)
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 1), os.dup2(null, 2)
        with open(os.environ["RESULT"], "w") as file:
            json.dump(results, file)
        os._exit(0)
        """,
        str(rootfs),
        str(decoy),
        env=os.environ | {"RESULT": str(rootfs / "tmp" / "result")},
    )
    assert found.returncode == 0, found.stderr
    assert (rootfs / "tmp" / "result").read_text() == "[0, 0, 7, 0, 7, 0, 7, 0]"
    (rootfs / "tmp" / "result").unlink()


def test_rule_23_no_stranger_is_signalled_through_a_reused_number() -> None:
    """Since Linux 6.9 a pidfd's inode names its process."""
    found = script(
        """
        stranger = subprocess.Popen(["sleep", "20"])
        first, second = os.pidfd_open(os.getpid()), os.pidfd_open(stranger.pid)
        if os.fstat(first).st_ino == os.fstat(second).st_ino:
            report(old=True)
            sys.exit()
        ended = {}
        for act in ("kill", "stop", "poll", "wait"):
            box = nsdemo.spawn(["sleep", "0.2" if act == "wait" else "100"])
            os.closerange(3, 4096)
            pidfds = [os.pidfd_open(stranger.pid) for _ in range(30)]
            assert box.pidfd in pidfds
            if act in ("stop", "wait"):
                getattr(box, act)(timeout=10)
            else:
                getattr(box, act)()
            if act == "poll":
                box.kill()
            ended[act] = [box.wait(10), stranger.poll()]
            del box
            gc.collect()
            for fd in pidfds:
                os.close(fd)  # nothing of ours has done so
        stranger.kill(); stranger.wait()
        report(ended=ended)
        """
    ).report
    if found.get("old"):
        pytest.skip("this kernel has no inode of its own for each pidfd (Linux 6.9)")
    killed = [-9, None]
    assert found["ended"] == {"kill": killed, "stop": killed, "poll": killed, "wait": [0, None]}
