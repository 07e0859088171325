"""Who joins a container that holds CAP_SYS_PTRACE: nothing is to be had from him.

The seizer stops each joiner before its command is executed, as often as it can. It is to find no
power but what the command keeps, no descriptor, and no memory that somebody else reads.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import IS_ROOT, SLOW, eventually
from targets import hostile_root

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

only_root = pytest.mark.skipif(not IS_ROOT, reason="only root shares a user namespace with it")
NULL: dict[str, Any] = {"stdin": nsdemo.DEVNULL, "stdout": nsdemo.DEVNULL}
KILL, SYS_PTRACE = 1 << 5, 1 << 19
Box = nsdemo.Container[str]


@pytest.fixture(scope="module")
def prison() -> Iterator[Path]:
    with hostile_root("seizer") as root:
        yield root


@contextlib.contextmanager
def seizer(prison: Path, kept: int = 0, **options: Any) -> Iterator[tuple[Box, list[str]]]:
    """A container whose PID 1 seizes; what it has found is in the list afterwards."""
    found: list[str] = []
    options = {"capabilities": ["sys_ptrace"], "stdout": nsdemo.PIPE, "text": True, **options}
    with nsdemo.spawn(["seizer", f"{kept:x}"], root=prison, stdin=nsdemo.DEVNULL, **options) as box:
        assert box.stdout is not None
        assert box.stdout.readline() == "waiting\n"
        yield box, found
        box.terminate()
        found += box.communicate(timeout=20)[0].splitlines()


def summary(found: list[str]) -> dict[str, int]:
    words = found[-1].split()
    return {words[i]: int(words[i + 1]) for i in range(0, len(words), 2)}


def lie_in_wait(
    prison: Path, join: Callable[[Box], object], early: int, seconds: float, **options: Any
) -> list[str]:
    """What is found while many join, until so many were stopped before their command ran."""
    lines: list[str] = []
    caught, end = 0, time.monotonic() + seconds * SLOW
    while caught < early and time.monotonic() < end:
        with seizer(prison, **options) as (box, found):
            for _ in range(100):
                join(box)
        lines += found[:-1]
        caught += summary(found)["early"]
    assert caught > 0, "the seizer slept"
    return lines


JOINS: dict[str, tuple[int, Callable[[Box], object]]] = {
    "enter": (0, lambda box: box.enter(["true"], capabilities=[], **NULL)),
    "kept": (KILL, lambda box: box.enter(["true"], capabilities=["kill"], **NULL)),
    "uid": (0, lambda box: box.enter(["true"], uid=1000, rlimits={"nofile": 32}, **NULL)),
    "run": (0, lambda box: nsdemo.run(["true"], join=box, capabilities=[], **NULL)),
    "net": (0, lambda box: nsdemo.run(["true"], join=box, net=True, capabilities=[], **NULL)),
    "pid": (0, lambda box: nsdemo.run(["true"], pid=box, mount=False, capabilities=[], **NULL)),
    "tied": (0, lambda box: nsdemo.spawn(["true"], join=box, capabilities=[], **NULL).wait()),
    "bits": (
        0,
        lambda box: box.enter(["true"], capabilities=[], securebits=["noroot"], umask=0o77, **NULL),
    ),
}


@only_root
@pytest.mark.parametrize("how", JOINS)
def test_rule_04_a_joiner_has_nothing_to_seize(how: str, prison: Path) -> None:
    kept, join = JOINS[how]
    assert lie_in_wait(prison, join, early=15, seconds=4, kept=kept) == []


@pytest.mark.long
@only_root
@pytest.mark.parametrize("how", JOINS)
def test_rule_04_thousands_of_joiners_have_nothing_to_seize(how: str, prison: Path) -> None:
    kept, join = JOINS[how]
    for _ in range(20):
        assert lie_in_wait(prison, join, early=10**6, seconds=0.1, kept=kept) == []


@only_root
def test_the_seizer_does_find_what_is_kept(prison: Path) -> None:
    found = lie_in_wait(
        prison, lambda box: box.enter(["true"], capabilities=["kill"], **NULL), early=5, seconds=20
    )
    assert "found power" in str(found)
    assert "found memory" not in str(found)


def test_who_joins_a_user_namespace_is_not_seized_before_his_command_runs(prison: Path) -> None:
    """His memory belongs to the user namespace around, where the seizer has no power."""
    seen = 0
    end = time.monotonic() + 20 * SLOW
    while seen < 20 and time.monotonic() < end:
        with seizer(prison, user=True) as (box, found):
            for _ in range(30):
                box.enter(["true"], capabilities=[], **NULL)
                nsdemo.run(["true"], join=box, uid=0, capabilities=[], **NULL)
        assert summary(found)["early"] == 0
        seen += summary(found)["seen"]
    assert seen > 0


@pytest.mark.parametrize("user", [True, pytest.param(False, marks=only_root)])
def test_an_init_has_no_more_power_than_its_command(user: bool, prison: Path) -> None:
    kept = KILL | SYS_PTRACE
    command = ["seizer", f"{kept:x}", "1"]
    options: dict[str, Any] = {"user": user, "capabilities": ["sys_ptrace"], "init": True}
    done = nsdemo.run(
        command, root=prison, stdin=nsdemo.DEVNULL, capture_output=True, text=True, **options
    )
    found = summary(done.stdout.splitlines())
    assert found["seized"] == (0 if user else 1), "root's command may look, and finds nothing"
    assert [line for line in done.stdout.splitlines() if "power" in line] == []


@pytest.mark.parametrize("user", [True, pytest.param(False, marks=only_root)])
def test_an_init_passes_signals_on_with_the_power_for_that_alone(user: bool) -> None:
    text = "trap 'echo heard; exit 7' TERM; echo ready; while :; do sleep 0.01; done"
    with nsdemo.spawn(
        ["sh", "-c", text],
        init=True,
        user=user,
        stdin=nsdemo.DEVNULL,
        stdout=nsdemo.PIPE,
        text=True,
    ) as box:
        assert box.stdout is not None
        assert box.stdout.readline() == "ready\n"
        status = Path(f"/proc/{box.pid}/status").read_text()
        for name in ("CapPrm", "CapEff"):
            assert f"{name}:\t{KILL:016x}\n" in status
        box.terminate()
        assert box.communicate(timeout=10)[0] == "heard\n"
        assert box.returncode == 7


@only_root
def test_who_watches_keeps_the_power_to_end_whom_it_watches(prison: Path) -> None:
    """The thread gives power up, and not the process that stays."""
    with (
        nsdemo.spawn(["sleep", "1000"], root=prison, **NULL) as box,
        nsdemo.spawn(["sleep", "1000"], join=box, uid=1000, capabilities=[], **NULL) as inside,
    ):
        trace = {step.operation: step.pid for step in inside.trace}
        path = Path(f"/proc/{trace['setuid']}/status")
        assert eventually(lambda: "Name:\tnsdemo-watch\n" in path.read_text())
        status = path.read_text()
        assert "Uid:\t0\t0\t0\t0\n" in status
        assert "CapEff:\t0000000000000000\n" not in status
        names = sorted(p.name for p in Path(f"/proc/{trace['setuid']}/fd").iterdir())
        assert names == ["0", "1"]


@only_root
def test_who_mounts_a_proc_in_a_joined_pid_namespace_has_power_until_then(prison: Path) -> None:
    """docs/SECURITY.md says so. Without a new /proc there is none: "pid" above."""
    options: dict[str, Any] = {"mounts": [nsdemo.Proc("/proc")], "capabilities": [], **NULL}
    found = lie_in_wait(
        prison, lambda box: nsdemo.run(["true"], pid=box, **options), early=15, seconds=20
    )
    assert "found power" in str(found)
    assert "found memory" not in str(found)
