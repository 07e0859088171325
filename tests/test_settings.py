"""Clocks, the domain name, the target's cgroups."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import IS_ROOT, QUIET, SLOW, eventually, new_marker, running_script

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("ordinary_users_may")
CAPTURE: dict[str, Any] = {"capture_output": True, "text": True, **QUIET}
READ = ["cat", "/proc/self/timens_offsets"]
has_time = pytest.mark.skipif(
    not os.path.exists("/proc/self/ns/time"), reason="this kernel has no time namespaces"
)


def offsets(**options: Any) -> dict[str, tuple[int, int]]:
    done = nsdemo.run(READ, time=True, **options, **CAPTURE)
    rows = [line.split() for line in done.stdout.splitlines()]
    return {clock: (int(seconds), int(rest)) for clock, seconds, rest in rows}


# -- clocks ------------------------------------------------------------------------------------


@has_time
@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, (0, 0)),
        (3600, (3600, 0)),
        (-3, (-3, 0)),
        (1.25, (1, 250000000)),
        (-1.25, (-2, 750000000)),
        (0.9999999999, (1, 0)),
        (-1e-9, (-1, 999999999)),
        (10**9, (10**9, 0)),
    ],
)
def test_an_offset_is_exact(seconds: float, expected: tuple[int, int]) -> None:
    assert offsets(monotonic=seconds) == {"monotonic": expected, "boottime": (0, 0)}
    assert offsets(boottime=seconds) == {"monotonic": (0, 0), "boottime": expected}


@has_time
@pytest.mark.parametrize("how", [{}, {"init": True}, {"fork": False}, {"user": True}], ids=str)
def test_the_clocks_inside(how: dict[str, Any]) -> None:
    found = offsets(monotonic=100000, boottime=-2, **how)
    assert found == {"monotonic": (100000, 0), "boottime": (-2, 0)}
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    with nsdemo.spawn(["sleep", "600"], time=True, boottime=500, **how, **QUIET) as box:
        seen = box.enter(["cat", "/proc/uptime"], **CAPTURE).stdout.split()[0]
    after = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before + 499.9 <= float(seen) <= after + 500.1


@has_time
@pytest.mark.parametrize("also", [{}, {"pid": False, "die_with_parent": False}], ids=str)
def test_without_a_fork_the_command_is_in_it(also: dict[str, Any]) -> None:
    """Before Linux 6.2 execve alone does not enter it, and says nothing."""
    both = ["readlink", "/proc/self/ns/time", "/proc/self/ns/time_for_children"]
    done = nsdemo.run(both, time=True, fork=False, mount_proc=False, **also, **CAPTURE)
    inside, for_children = done.stdout.split()
    assert inside == for_children != os.readlink("/proc/self/ns/time")
    assert [step.operation for step in done.trace].count("enter_time") == 1


@has_time
def test_without_a_fork_in_a_joined_container(rootfs: nsdemo.Rootfs) -> None:
    """Whose /proc is not asked: there is none."""
    with (
        nsdemo.spawn(["sleep", "600"], root=rootfs, mount_proc=False, **QUIET) as box,
        nsdemo.spawn(["sleep", "600"], join=box, time=True, fork=False, **QUIET) as beside,
    ):
        ours, theirs = nsdemo.namespaces(), nsdemo.namespaces(beside)
        assert theirs["mount"] == nsdemo.namespaces(box)["mount"] != ours["mount"]
        assert theirs["time"] != ours["time"]


@has_time
def test_a_plan_by_hand_forks_before_linux_6_2(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["time"] if IS_ROOT else ["user", "time"]
    plan = nsdemo.Plan().unshare(*names)
    old, new = (os.uname_result(("Linux", "x", release, "", "")) for release in ("6.1.0-5", "6.2"))
    monkeypatch.setattr(os, "uname", lambda: old)
    with pytest.raises(ValueError, match=r"before Linux 6.2, \.fork\(\) comes before \.exec"):
        plan.exec(["true"])
    assert plan.fork().exec(["true"])
    monkeypatch.setattr(os, "uname", lambda: new)
    assert plan.exec(["true"])


@has_time
def test_unshare_sets_the_same() -> None:
    options = ["--time", "--monotonic", "3600", "--boottime", "-7", "--fork"]
    if not IS_ROOT:
        options.append("--map-root-user")
    theirs = subprocess.run(["unshare", *options, *READ], capture_output=True, text=True)
    assert theirs.returncode == 0, theirs.stderr
    ours = nsdemo.run(READ, time=True, monotonic=3600, boottime=-7, **CAPTURE)
    assert ours.stdout == theirs.stdout
    plan = nsdemo.run(READ, time=True, monotonic=3600, boottime=-7, dry_run=True)
    assert "--monotonic=3600 --boottime=-7" in str(plan)


@has_time
@pytest.mark.parametrize("given", [{"monotonic": -(10**8)}, {"boottime": 5 * 10**9}], ids=str)
def test_a_clock_stays_between_0_and_146_years(given: dict[str, Any]) -> None:
    with pytest.raises(nsdemo.NamespaceError) as caught:
        nsdemo.run(["true"], time=True, **given, **QUIET)
    assert caught.value.errno == errno.ERANGE
    assert "before 0 or beyond 146 years" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"monotonic": 1}, ValueError, "need time=True"),
        ({"boottime": 0}, ValueError, "need time=True"),
        ({"monotonic": 1, "time": os.getpid()}, ValueError, "need time=True"),
        ({"monotonic": 1, "time": True, "join": os.getpid()}, ValueError, "after joining"),
        ({"monotonic": 1, "time": True, "mount": os.getpid()}, ValueError, "after joining"),
        ({"monotonic": True, "time": True}, TypeError, "number of seconds"),
        ({"monotonic": "1", "time": True}, TypeError, "number of seconds"),
        ({"boottime": float("nan"), "time": True}, ValueError, "at most"),
        ({"boottime": float("-inf"), "time": True}, ValueError, "at most"),
        ({"boottime": 10**10, "time": True}, ValueError, "at most"),
        ({"domainname": "x", "uts": False}, ValueError, "uts=True"),
        ({"domainname": ""}, ValueError, "1 to 64 bytes"),
        ({"domainname": "x" * 65}, ValueError, "1 to 64 bytes"),
        ({"domainname": "a\0b"}, ValueError, "NUL"),
        ({"domainname": 5}, TypeError, "domainname must be a str"),
    ],
)
def test_what_cannot_be(given: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        nsdemo.spawn(["true"], dry_run=True, **given)


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"init": True}, {"user": True}], ids=str)
def test_a_domain_of_its_own(how: dict[str, Any]) -> None:
    file = Path("/proc/sys/kernel/domainname")
    before = file.read_text()
    done = nsdemo.run(["cat", file], domainname="example", hostname="boxy", **how, **CAPTURE)
    assert done.stdout == "example\n"
    assert file.read_text() == before
    assert {"sethostname", "setdomainname"} <= {step.operation for step in done.trace}


# -- cgroups -----------------------------------------------------------------------------------


def hierarchies() -> list[Path]:
    """Where a cgroup can be made: one of version 1 and the one of version 2, if there are."""
    rows = [line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    found = [
        Path(left.split()[4])
        for left, right in rows
        if right.split()[0] == "cgroup2"
        or (right.split()[0] == "cgroup" and "pids" in right.split()[2].split(","))
    ]
    return [folder for folder in found if os.access(folder / "cgroup.procs", os.W_OK)]


@pytest.fixture
def cgroups() -> Iterator[list[Path]]:
    made = []
    for folder in hierarchies():
        path = folder / f"nsdemo-{new_marker()}"
        with suppress(OSError):
            path.mkdir()
            made.append(path)
    if not made:
        pytest.skip("only root of the whole machine makes a cgroup")
    yield made
    for path in made:
        assert eventually(partial(removed, path)), f"somebody is still in {path}"


def removed(path: Path) -> bool:
    with suppress(OSError):
        path.rmdir()
    return not path.exists()


def names(text: str) -> set[str]:
    return {line.rpartition("/")[2] for line in text.splitlines() if "nsdemo-" in line}


@pytest.mark.parametrize("own", [False, True])
def test_an_entered_command_is_in_the_targets_cgroups(own: bool, cgroups: list[Path]) -> None:
    show = ["cat", "/proc/self/cgroup"]
    ours = Path("/proc/self/cgroup").read_text()
    with nsdemo.spawn(["sleep", "600"], cgroup=own, **QUIET) as box:
        for path in cgroups:
            (path / "cgroup.procs").write_text(str(box.pid))
        wanted = {path.name for path in cgroups}
        assert names(Path(f"/proc/{box.pid}/cgroup").read_text()) == wanted
        assert names(nsdemo.enter(box, show, **CAPTURE).stdout) == set()
        done = box.enter(show, join_cgroup=True, **CAPTURE)
        assert names(done.stdout) == wanted
        joins = [step for step in done.trace if step.operation.startswith("join")]
        assert [s.operation for s in joins] == ["join_cgroup"] * len(cgroups) + ["join"]
        assert {s.args[0] for s in joins[:-1]} == {f"{path}/cgroup.procs" for path in cgroups}
        assert done.returncode == 0
    assert Path("/proc/self/cgroup").read_text() == ours
    assert nsdemo.enter(os.getpid(), ["true"], join_cgroup=True, **QUIET).returncode == 0


def test_a_cgroup_that_may_not_be_joined_is_named(cgroups: list[Path]) -> None:
    body = """\
        box = nsdemo.spawn(["sleep", "600"], stdin=nsdemo.DEVNULL)
        print(box.pid, flush=True)
        sys.stdin.readline()
        found = outcome(lambda: box.enter(["true"], join_cgroup=True, stdin=nsdemo.DEVNULL))
        box.stop()
        report(**found)
    """
    with running_script(body, ordinary=True) as process:
        assert process.stdout is not None
        pid = process.stdout.readline().strip()
        (cgroups[0] / "cgroup.procs").write_text(pid)
        out, err = process.communicate("\n", timeout=20 * SLOW)
        assert process.returncode == 0, err
    found = json.loads(out.splitlines()[-1])
    assert found["error"]["operation"] == "join_cgroup"
    assert found["error"]["errno"] == errno.EACCES
    assert f"{cgroups[0]}/cgroup.procs" in found["error"]["text"]
    assert "leave join_cgroup out" in found["error"]["notes"][0]
    assert found["at_once"] == []


def test_join_cgroup_without_a_difference_makes_no_step() -> None:
    with nsdemo.spawn(["sleep", "600"], **QUIET) as box:
        done = box.enter(["true"], join_cgroup=True, **QUIET)
    assert "join_cgroup" not in [step.operation for step in done.trace]
