"""The trace: the same as strace sees, in the same order, with times that can be believed."""

from __future__ import annotations

import errno
import itertools
import json
import os
import pickle
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from support import IS_ROOT, QUIET, command_of
from targets import tool

import nsdemo

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

# The call that a step is about; what else it needs (open, close, fchdir...) is in ALLOWED.
CALLS = {
    "clone": "clone",
    "open_process": "pidfd_open",
    "open_root": "openat",
    "watch": "pidfd_open",
    "join": "setns",
    "unshare": "unshare",
    "write": "write",
    "hide": "prctl",
    "fork": "clone",
    "become_root": "setresuid",
    "loopback_up": "ioctl",
    "sethostname": "sethostname",
    "propagation": "mount",
    "bind": "mount",
    "mount": "mount",
    "pivot_root": "pivot_root",
    "chroot": "chroot",
    "init": "clone",
    "chdir": "chdir",
    "setsid": "setsid",
    "setpgid": "setpgid",
    "umask": "umask",
    "drop_inheritable": "capget",
    "rlimit": "prlimit64",
    "drop_bounding": "prctl",
    "keep_capabilities": "prctl",
    "capset": "capset",
    "no_new_privs": "prctl",
    "seccomp": "seccomp",
    "setgroups": "setgroups",
    "setgid": "setresgid",
    "setuid": "setresuid",
    "die_with_parent": "prctl",
    "exec": "execve",
}
# Between the launcher's execution and the command's: these, and no other.
ALLOWED = {
    *CALLS.values(),
    *(
        "openat",
        "openat2",
        "close",
        "fstat",
        "fstatfs",
        "read",
        "fchdir",
        "umount2",
        "getcwd",
        "socket",
    ),
    # before it, the child of Python arranges its descriptors, and makes the launcher's
    *("rt_sigaction", "dup3", "newfstatat", "memfd_create", "lseek", "getpid", "geteuid"),
    *("execveat", "execve"),
    *("mmap", "munmap", "set_robust_list", "fcntl", "futex", "rt_sigprocmask", "capset"),
    *("getppid", "pidfd_send_signal", "setresgid"),
    # of who stays: the watchdog and init
    *(
        "dup3",
        "ppoll",
        "close_range",
        "wait4",
        "rt_sigtimedwait",
        "rt_sigpending",
        "kill",
        "exit_group",
    ),
    # of who goes apart from its parent
    *("mremap", "madvise"),
}
LINE = re.compile(r"^(\d+) +(\d+\.\d+) (\w+)\((.*)")


def straced(body: str, output: Path, *options: str) -> Any:
    """What a script reports that runs under strace."""
    command = [tool("strace"), "-f", "-qq", "-o", str(output), *options, *command_of(body)]
    done = subprocess.run(command, **QUIET, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


BODY = """
root = nsdemo.Rootfs.busybox()
offset = time.time() - time.monotonic()
before = time.monotonic_ns()
with nsdemo.spawn(["sleep", "100"], root=root, {target}) as box:
    done = {call}
after = time.monotonic_ns()
root.remove()
report(trace=[[s.operation, s.pid, s.start_ns / 1e9 + offset, s.duration_ns / 1e9]
              for s in done.trace], before=before, after=after, caller=os.getpid())
"""
CASES = {
    "run": 'nsdemo.run(["true"], root=root, net=True, hostname="x", umask=0o22, cwd="/tmp")',
    "launched": 'nsdemo.run(["true"], root=root, hostname="x", uid=0, cwd="/tmp")',
    "direct": 'nsdemo.run(["true"], no_new_privs=True)',
    "power": 'nsdemo.run(["true"], uid=0, rlimits={"core": 0}, capabilities=["kill", "sys_admin"],'
    ' no_new_privs=True, ambient=["kill"], seccomp=bytes([6, 0, 0, 0, 0, 0, 255, 127]))',
    "init": 'nsdemo.run(["true"], init=True, time=True, cgroup=True, root=root, uid=0)',
    "enter": 'box.enter(["true"], cwd="/tmp")',
    "join": 'nsdemo.run(["true"], join=box, process_group=0)',
    "chroot_run": 'nsdemo.chroot_run(root, ["true"], umask=0o22, cwd="/bin")',
    "nofork": 'nsdemo.run(["/bin/true"], fork=False, mount_proc=False)',
}


@pytest.mark.parametrize("case", CASES)
def test_the_steps_are_those_that_strace_sees(case: str, tmp_path: Path) -> None:
    output = tmp_path / "strace"
    found = straced(BODY.format(target="uts=True", call=CASES[case]), output, "-ttt")
    pids = {pid for _, pid, *_ in found["trace"]}
    lines = map(LINE.match, output.read_text().splitlines())
    calls = [(int(x[1]), float(x[2]), x[3], x[4]) for x in lines if x]
    if case == "init":  # the third process has its number inside in the trace
        third = [pid for pid, _, name, rest in calls if name == "execve"][-1]
        inner = next(step[1] for step in found["trace"][::-1])
        found["trace"] = [[a, third if b == inner else b, *c] for a, b, *c in found["trace"]]
        pids = pids - {inner} | {third}
    # Where the first step is a clone, Python's child has steps before it is the launcher.
    cloned = found["trace"][0][0] == "clone" or case == "nofork"
    begun = pids - {found["caller"]} if cloned else set()
    launcher: list[tuple[int, float, str]] = []
    for pid, when, name, rest in calls:
        if name == "execveat" and pid == found["trace"][0][1]:
            begun = set(pids)
        elif cloned and pid == found["caller"] and name == "clone":
            launcher.append((pid, when, name))
        elif pid in begun:
            launcher.append((pid, when, name))
            if name == "execve" and "= -1" not in rest:
                begun.discard(pid)
    assert launcher[-1][2] in ("execve", "exit_group", "ppoll", "close_range", "rt_sigtimedwait")
    assert {name for *_, name in launcher} <= ALLOWED
    # Each step finds its call behind that of the step before, in the same process, in its time.
    at = 0
    for operation, pid, start, duration in found["trace"]:
        wanted = CALLS[operation]
        while at < len(launcher) and (
            launcher[at][2] != wanted or launcher[at][0] != pid or launcher[at][1] < start - 0.05
        ):
            at += 1
        assert at < len(launcher), f"strace has not seen the {wanted} of {operation}"
        when = launcher[at][1]
        assert start - 0.05 < when < start + duration + 0.05
        at += 1


def test_durations_are_those_of_the_calls(tmp_path: Path) -> None:
    """strace delays one call by a tenth of a second, and that step takes so long, no other."""
    body = """
    done = nsdemo.run(["true"], hostname="x", cwd="/tmp")
    report(trace=[[s.operation, s.duration_ns / 1e9] for s in done.trace])
    """
    for operation, call in (("sethostname", "sethostname"), ("chdir", "getcwd")):
        delay = ["-e", f"trace={call}", "-e", f"inject={call}:delay_enter=100000:when=1"]
        times = dict(straced(body, tmp_path / "strace", *delay)["trace"])
        assert times.pop(operation) > 0.095
        assert max(times.values()) < 0.095


@pytest.mark.parametrize(
    "options", [{}, {"uid": 0}, {"root": True}, {"init": True}, {"chroot": True}]
)
def test_execve_takes_no_longer_than_itself(options: dict[str, Any], rootfs: Path) -> None:
    """The command runs for a second after it."""
    command = ["sleep", "1"]
    if "chroot" in options:
        done = nsdemo.chroot_run(rootfs, command, **QUIET)
    else:
        done = nsdemo.run(
            command, **{**options, **({"root": rootfs} if "root" in options else {})}, **QUIET
        )
    assert done.trace[-1].operation == "exec"
    assert 0 < done.trace[-1].duration_ns < 0.95e9


# -- what a trace says


def launched(**options: Any) -> tuple[nsdemo.Step, ...]:
    trace: tuple[nsdemo.Step, ...] = nsdemo.run(["true"], stdin=nsdemo.DEVNULL, **options).trace
    return trace


@pytest.mark.parametrize("options", [{}, {"init": True}, {"net": True, "time": True}])
def test_every_step_is_there_with_its_result(options: dict[str, Any], rootfs: Path) -> None:
    plan = nsdemo.run(["true"], root=rootfs, dry_run=True, stdin=nsdemo.DEVNULL, **options)
    before = time.monotonic_ns()
    trace = plan.run().trace
    after = time.monotonic_ns()
    assert [(s.operation, s.args) for s in trace] == [(s.operation, s.args) for s in plan.steps]
    for step in trace:
        assert step.errno == 0
        assert isinstance(step.result, int)
        assert step.duration_ns > 0
        assert step.pid > 0
    for step in plan.steps:
        assert (step.result, step.errno, step.start_ns, step.pid) == (None, 0, 0, 0)
    starts = [step.start_ns for step in trace]
    assert starts == sorted(starts)
    assert before <= starts[0]
    assert trace[-1].start_ns + trace[-1].duration_ns <= after
    for one, two in itertools.pairwise(trace):
        if one.operation not in ("fork", "init"):
            assert one.start_ns + one.duration_ns <= two.start_ns + 1000
    assert sum(step.duration_ns for step in trace) < 2 * (after - before)


def test_a_new_time_namespace_does_not_shift_the_times() -> None:
    """Its clocks can be years away; the times of the steps are those of our clock."""
    plan = nsdemo.Plan() if IS_ROOT else nsdemo.Plan().unshare("user").map_root()
    raw = plan.unshare("time")._core.append(
        "write", 0, (0, 0, 0), ("/proc/self/timens_offsets", "monotonic 100000 0", None, None)
    )
    plan = nsdemo.Plan._from_core(raw).fork().exec(["cat", "/proc/self/timens_offsets"])
    before = time.monotonic_ns()
    done = plan.run(capture_output=True, text=True)
    after = time.monotonic_ns()
    assert done.stdout.split()[:2] == ["monotonic", "100000"]
    for step in done.trace:
        assert before <= step.start_ns <= step.start_ns + step.duration_ns <= after


def test_the_pids_tell_who_did_it() -> None:
    with nsdemo.spawn(["sleep", "100"], **QUIET) as box:
        clone, *others = box.trace
        assert (clone.operation, clone.pid, clone.result) == ("clone", os.getpid(), box.pid)
        assert {step.pid for step in others} == {box.pid}
    with nsdemo.spawn(["sleep", "100"], time=True, **QUIET) as box:
        fork = next(i for i, step in enumerate(box.trace) if step.operation == "fork")
        first = {step.pid for step in box.trace[: fork + 1]}
        second = {step.pid for step in box.trace[fork + 1 :]}
        assert second == {box.pid}
        assert len(first) == 1
        assert first != second
        assert box.trace[fork].result == box.pid
    with nsdemo.spawn(["sleep", "100"], init=True, **QUIET) as box:
        steps = {step.operation: step for step in box.trace}
        assert steps["init"].pid == box.pid
        with open(f"/proc/{box.pid}/task/{box.pid}/children") as file:
            child = int(file.read())
        with open(f"/proc/{child}/status") as file:
            inner = next(line for line in file if line.startswith("NSpid")).split()[-1]
        assert steps["exec"].pid in (child, int(inner))
        assert steps["init"].result == int(inner)
    plan = nsdemo.Plan().setsid().exec(["true"])
    with plan.start(stdin=nsdemo.DEVNULL) as box:
        assert {step.pid for step in box.trace} == {box.pid}


@pytest.mark.parametrize("init", [False, True])
def test_a_failed_trace_ends_with_the_failed_step(init: bool, rootfs: Path) -> None:
    options: dict[str, Any] = {"root": rootfs, "init": init, "stdin": nsdemo.DEVNULL}
    planned = [s.operation for s in nsdemo.run(["true"], cwd="/no", dry_run=True, **options)]
    with pytest.raises(nsdemo.NamespaceError) as caught:
        nsdemo.run(["true"], cwd="/no", **options)
    trace = caught.value.trace
    assert trace[-1] == caught.value.step
    assert (trace[-1].operation, trace[-1].errno, trace[-1].result) == ("chdir", errno.ENOENT, None)
    assert [s.operation for s in trace] == planned[: planned.index("chdir") + 1]
    assert all(step.errno == 0 for step in trace[:-1])
    with pytest.raises(FileNotFoundError) as missing:
        nsdemo.run(["absent"], **options)
    last = missing.value.trace[-1]  # type: ignore[attr-defined]
    assert (last.operation, last.errno) == ("exec", errno.ENOENT)


def test_a_tolerated_refusal_is_in_the_trace_and_not_its_end() -> None:
    refused = [s for s in launched(user=True, uid=0) if s.errno]
    assert [(s.operation, s.errno, s.result) for s in refused] == [("setgroups", errno.EPERM, None)]
    assert "EPERM" in str(refused[0])


def test_a_step_is_a_value() -> None:
    step = launched()[0]
    for name in ("operation", "args", "result", "errno", "start_ns", "duration_ns", "pid", "new"):
        with pytest.raises(AttributeError):
            setattr(step, name, 1)
    with pytest.raises(AttributeError):
        del step.errno
    again = pickle.loads(pickle.dumps(step))
    assert again == step
    assert hash(again) == hash(step)
    assert step != nsdemo.Step("unshare", (1,))
    assert step != "step"
    assert len({step, again}) == 1
    planned = nsdemo.Step("sethostname", ("boxy",))
    assert str(planned) == 'sethostname("boxy", 4)'
    failed = nsdemo.Step("sethostname", ("boxy",), None, errno.EPERM, 5, 7000, 42)
    text = '[pid 42] sethostname("boxy", 4) = -1 EPERM (Operation not permitted) <7 µs>'
    assert str(failed) == text
    assert repr(planned) == '<Step sethostname("boxy", 4)>'
