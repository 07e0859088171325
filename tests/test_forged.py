"""Plans that no method of ours would make: each is refused, or fails as a step; nothing crashes.

``_core`` trusts no number and no text that leads somewhere: it asks while a plan is built, and
whoever performs a step asks again (``tests/c/test_steps.c``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import no_power, script

import nsdemo
from nsdemo import _core

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

NOTHING = (None,) * 4
SLOTS = 72  # NSD_SLOTS


@pytest.mark.parametrize("kind", ["pid", "descriptor", "path"])
def test_no_more_targets_than_there_is_room(kind: str) -> None:
    """The same error for all: not one of them may lie behind the end."""
    with nsdemo.spawn(["sleep", "1000"], stdin=nsdemo.DEVNULL) as box:
        path = f"/proc/{box.pid}/ns/uts"
        with open(path) as file:
            target: Any = {"pid": box.pid, "descriptor": file, "path": path}[kind]
            plan = nsdemo.Plan()
            for _ in range(64):
                plan = plan.join(target, "uts")
            with pytest.raises(ValueError, match="a plan has room for 64 targets to join"):
                plan.join(target, "uts")
        box.kill()


def test_targets_do_not_take_the_place_of_mounts() -> None:
    plan = no_power().unshare("mount").make_private().mounts([nsdemo.Tmpfs("/mnt")])
    plan = plan.mounts([nsdemo.Bind("/tmp", "/mnt")])
    for _ in range(10):
        plan = plan.join("/proc/self/ns/uts", "uts")
    with pytest.raises(ValueError, match="a plan with mounts has room for 10 targets to join"):
        plan.join("/proc/self/ns/uts", "uts")


@pytest.mark.parametrize(
    ("operation", "numbers", "texts"),
    [
        ("join", (SLOTS, 0, 0), NOTHING),
        ("join", (-1, 0, 0), NOTHING),
        ("open_process", (1, 0, SLOTS), NOTHING),
        ("open_root", (0, 2**40, 0), ("/", None, None, None)),
        ("bind_at", (0, -1, -(2**63)), ("/", "/", None, None)),
        ("overlay_at", (0, -1, 69 | 9 << 8), ("", "/", "", None)),
        ("overlay_at", (0, -1, 5 | 0x20000), ("", "/", "", None)),  # of nothing
        ("setgroups", (10**6, 0, 0), ("x", None, None, None)),
        ("setgroups", (-1, 0, 0), NOTHING),
        ("seccomp", (2**40, 0, 0), ("x", None, None, None)),
        ("seccomp", (-1, 0, 0), ("x", None, None, None)),
        ("clone", (0x10F00, 0, 0), NOTHING),  # a thread of ours
        ("pin", (0x20000, -1, 0), NOTHING),
        ("sethostname", (0, 0, 0), NOTHING),
        ("unpin", (SLOTS, 0, 0), ("/x", None, None, None)),
        ("unpin", (0, 0, 0), NOTHING),
        ("init", (0, 0, 0), NOTHING),
        ("guard", (0, 0, 0), NOTHING),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_forged_step(operation: str, numbers: tuple[int, int, int], texts: Any) -> None:
    with pytest.raises(ValueError, match=operation):
        _core.Plan().append(operation, 0, numbers, texts)


def test_flags_that_nobody_knows() -> None:
    with pytest.raises(ValueError, match="setsid"):
        _core.Plan().append("setsid", 8, (0, 0, 0), NOTHING)


def test_steps_out_of_place() -> None:
    plan = _core.Plan()
    for operations in (
        *(["fork", "fork"], ["setsid", "clone"], ["exec", "setsid"], ["exec"] * 2),
        *(["end", "setsid"], ["end", "exec"]),
    ):
        with pytest.raises(ValueError, match=f"step 2 .{operations[-1]}. is out of place"):
            plan.append(operations[0], 0, (0, 0, 0), NOTHING).append(
                operations[1], 0, (0, 0, 0), NOTHING
            )


@pytest.mark.parametrize("operations", [[], ["setsid"], ["fork"], ["setsid", "hide"]])
def test_a_plan_without_an_end_is_not_launched(operations: list[str]) -> None:
    plan = _core.Plan()
    for operation in operations:
        plan = plan.append(operation, 0, (0, 0, 0), NOTHING)
    found = _core.launch(plan, deadline=0)
    assert found == (22, "clone")


def test_numbers_of_capabilities() -> None:
    for number in (-(2**31), -1, 64, 2**31, 2**32, 2**62):
        assert _core.has_capability(number) is False
    with pytest.raises(OverflowError):
        _core.has_capability(2**64)


@pytest.mark.parametrize("number", [-1, 2**31, 2**32])
def test_numbers_of_descriptors_and_processes(number: int) -> None:
    plan = nsdemo.Plan().exec(["true"])._core
    with pytest.raises(OverflowError, match=r"pass_fds\[0\] is too"):
        _core.launch(plan, pass_fds=(number,), deadline=0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        _core.kind_of_file(number)
    with pytest.raises(ProcessLookupError):
        _core.process_birth(number)


@pytest.mark.parametrize("number", [-1, 2**32, 2**33, 2**64])
def test_numbers_of_groups(number: int) -> None:
    """2**32 is not group 0."""
    with pytest.raises((ValueError, OverflowError)):
        _core.Plan().setgroups((number,))


# Whatever is drawn is performed in namespaces of its own, and leads to no file that exists.
RANDOM_STEPS = """
    import random
    from nsdemo import _core
    draw = random.Random(int(sys.argv[1]))
    others = ("start", "guard", "exec", "end", "clone", "thread")
    operations = [w for w in sys.argv[2].split(",") if w not in others]
    numbers = [-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 9, 64, 71, 72, 73, 255, 256, 0x101,
               0x20000, 0x30145, 2**31, 2**32, 2**32 + 1, 2**63 - 1]
    texts = [None, "", "/dev/null/none", "a" * 300, "a:b/c"]
    known = {"ValueError": 0, "OSError": 0, "ran": 0}
    for turn in range(int(sys.argv[3])):
        plan = no_power().unshare("mount", "uts", "ipc", "net").make_private()._core
        try:
            for _ in range(draw.choice([1, 1, 2, 4])):
                name = draw.choice(operations)
                drawn = tuple(draw.choice(numbers) for _ in range(3))
                words = tuple(draw.choice(texts) for _ in range(4))
                said = name, drawn, words
                plan = plan.append(name, draw.choice([0, 0, 0, 1, 3, 4, 8]), drawn, words)
                plan.steps()
        except ValueError as error:
            assert name in str(error), error
            known["ValueError"] += 1
            continue
        try:
            whole = plan.exec([b"true"], [], [b"/usr/bin/true", b"/bin/true"])
            nsdemo.Plan._from_core(whole).run(timeout=20, stdin=-3, stderr=-3)
            known["ran"] += 1
        except OSError as error:
            step = getattr(error, "step", None)
            assert step is None or step.operation != "start", (said, str(error))
            known["OSError"] += 1
    report(**known)
"""


@pytest.mark.parametrize("turns", [600, pytest.param(60_000, marks=pytest.mark.long)], ids=str)
def test_random_steps(turns: int, tmp_path: Path) -> None:
    names = [word for word, *_ in _core.OPERATIONS]
    args = (str(turns), ",".join(names), str(turns))
    found = script(RANDOM_STEPS, *args, cwd=tmp_path, timeout=30 + turns / 50).report
    assert found["ran"] > 5
    assert found["OSError"] > turns / 20
    assert found["ValueError"] > turns / 4
    assert not list(tmp_path.iterdir())
