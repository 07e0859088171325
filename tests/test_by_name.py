"""The door to C: what is asked for by name, and the line that says what is wrong with it."""

from __future__ import annotations

import gc
import inspect
import sys
import tracemalloc
from typing import Any

import pytest

from nsdemo import _core

COMMAND = [b"true"], [], [b"/bin/true"], None  # argv, envp, paths, keep
FILE = 1, 0, b"tmpfs", b"/tmp", None

WRONG = {
    "request: there is no field 'hostnam'": {"hostnam": b"boxy"},
    "request: there is no field 'h\xf6stname'": {"h\xf6stname": b"boxy"},
    "fork must be a bool, not int": {"fork": 1},
    "fork must be a bool, not str": {"fork": "no"},
    "root must be bytes or None, not str": {"root": "/"},
    "uid_map must be bytes, not NoneType": {"uid_map": None},
    "a NUL byte in root": {"root": b"/a\0b"},
    "unshare must be an int, not bool": {"unshare": True},
    "unshare must be an int, not float": {"unshare": 1.0},
    "unshare is too large: at most 2147483647": {"unshare": 2**31},
    "unshare is too small: at least -2147483648": {"unshare": -(2**80)},
    "uid is too large: at most 9223372036854775807": {"uid": 2**63},
    "joins must be a tuple, not list": {"joins": []},
    "joins[0] must be a tuple of 5": {"joins": ((1, 2, 3, 4),)},
    "joins[1] must be a tuple of 5": {"joins": ((1, 2, 3, 4, 5), b"")},
    "joins[0].flags must be an int, not str": {"joins": ((1, 2, 3, 4, "mount"),)},
    "at most 8 of joins": {"joins": ((1, 2, 3, 4, 5),) * 9},
    "at most 16 of limits": {"limits": ((1, 2, 3),) * 17},
    "at most 128 of rules": {"rules": ((True, b"/"),) * 129},
    "a NUL byte in rules[2].path": {"rules": ((True, b"/"),) * 2 + ((False, b"\0"),)},
    "rules[0].writable must be a bool, not int": {"rules": ((0, b"/"),)},
    "files[0].kind is too large: at most 11": {"files": ((12, *FILE[1:]),)},
    "files[0].kind is too small: at least 0": {"files": ((-1, *FILE[1:]),)},
    "files[1].target must be bytes, not NoneType": {"files": (FILE, (*FILE[:3], None, None))},
    "files[0].source must be bytes or None, not str": {"files": ((1, 0, "tmpfs", b"/", None),)},
    "at most 4096 of files": {"files": (FILE,) * 4097},
    "groups[2] is too large: at most 4294967295": {"groups": (1, 2, 2**32)},
    "groups[0] is too small: at least 0": {"groups": (-1,)},
    "groups[0] must be an int, not str": {"groups": ("wheel",)},
    "cgroups[0] must be bytes, not str": {"cgroups": ("/sys",)},
    "a NUL byte in cgroups[0]": {"cgroups": (b"a\0",)},
    "owner must be a tuple of 2": {"owner": 5},
    "owner.gid must be an int, not str": {"owner": (5, "x")},
    "capabilities must be a tuple of 2": {"capabilities": (1,)},
    "pins[0].path must be bytes, not NoneType": {"pins": ((0, None),)},
    "filter must be bytes, not str": {"filter": "x"},
    "filter must be at most 65535 instructions of 8 bytes": {"filter": b"1234567"},
}


def recipe(kind: Any, /, **wishes: Any) -> _core.Plan:
    return _core.recipe(kind, *COMMAND, **wishes)


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_wish(line: str) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)) as info:
        recipe("spawn", **{"unshare": 0, **WRONG[line]})
    assert str(info.value) == line


@pytest.mark.parametrize(
    ("kind", "missing", "wishes"),
    [
        ("spawn", "unshare", {}),
        ("spawn", "unshare", {"root": b"/", "fork": False}),
        ("chroot_run", "root", {"unshare": 0}),
        ("release", "joins", {"pins": ((0, b"/x"),)}),
        ("release", "pins", {"joins": ()}),
        ("root", "joins", {}),
    ],
)
def test_a_missing_wish(kind: str, missing: str, wishes: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"^request: {missing} is missing$"):
        recipe(kind, **wishes)


def test_a_recipe_that_there_is_not() -> None:
    for kind in ("Spawn", "", b"spawn", None, 0):
        with pytest.raises(ValueError, match=f"^there is no recipe {kind!r}$"):
            recipe(kind, unshare=0)
    wrong: Any = _core.recipe
    for positional in ((), ("spawn",), ("spawn", *COMMAND, 0)):
        with pytest.raises(TypeError, match=r"^recipe takes kind, argv, envp, paths and keep"):
            wrong(*positional, unshare=0)


def test_names_in_any_order_and_of_any_making() -> None:
    wishes = {"unshare": 0, "hostname": b"boxy", "uid": 5, "groups": (1, 2), "files": (FILE,)}
    plan = recipe("spawn", **wishes).steps()
    assert ("setuid", 0, (5, 0, 0), (None,) * 4) in plan
    assert recipe("spawn", **dict(reversed(wishes.items()))).steps() == plan
    made = {"".join(list(name)): value for name, value in wishes.items()}  # not interned
    assert recipe("spawn", **made).steps() == plan


def test_nobody_asks_for_what_is_left_out() -> None:
    assert [name for name, *_ in recipe("spawn", unshare=0).steps()] == [
        *("clone", "drop_inheritable", "exec"),
    ]


def test_wishes_of_a_plan_by_hand() -> None:
    plan: Any = _core.Plan()
    for line, call in {
        "users takes the fields of a request by name": lambda: plan.users(b"0 0 1"),
        "request: there is no field 'uidmap'": lambda: plan.users(uidmap=b"0 0 1"),
        "uid_map must be bytes, not str": lambda: plan.users(uid_map="0 0 1"),
        "groups[1] must be an int, not str": lambda: plan.setgroups((1, "x")),
        "groups must be a tuple, not list": lambda: plan.setgroups([1]),
        "filter must be bytes, not str": lambda: plan.seccomp("x"),
        "files[0] must be a tuple of 5": lambda: plan.files(((),), None, False, False, 10),
        "root must be bytes or None, not str": lambda: plan.files((), "/", False, False, 10),
    }.items():
        with pytest.raises((TypeError, ValueError)) as info:
            call()
        assert str(info.value) == line


def test_a_wrong_launch() -> None:
    plan: Any = _core.Plan().exec([b"true"], [], [b"/bin/true"])
    launch: Any = _core.launch
    for line, positional, named in (
        ("launch: deadline is missing", (plan,), {}),
        ("launch: there is no field 'dealine'", (plan,), {"dealine": 0}),
        ("launch takes a Plan, and all else by name", (), {"deadline": 0}),
        ("launch takes a Plan, and all else by name", (plan, 0), {"deadline": 0}),
        ("launch takes a Plan, and all else by name", (None,), {"deadline": 0}),
        ("stdio must be a tuple of 3", (plan,), {"deadline": 0, "stdio": (1, 2)}),
        ("stdio.stderr must be an int, not str", (plan,), {"deadline": 0, "stdio": (1, 2, "3")}),
        ("pass_fds[0] must be an int, not bool", (plan,), {"deadline": 0, "pass_fds": (True,)}),
        ("deadline must be an int, not float", (plan,), {"deadline": 0.5}),
    ):
        with pytest.raises(TypeError) as info:
            launch(*positional, **named)
        assert str(info.value) == line


def test_nothing_is_left_of_wrong_wishes() -> None:
    """Ten thousand of them, each behind wishes for which memory was taken."""
    keep, argv, files, groups = object(), [b"true"], (FILE,) * 200, tuple(range(1000))
    plan = _core.Plan().exec([b"true"], [], [b"/bin/true"])
    good: dict[str, Any] = {"unshare": 0, "files": files, "groups": groups}
    calls = [{**good, **wishes} for wishes in WRONG.values()]
    calls.append(good | {"hostname": b"x" * 2**18})  # too long for a plan

    def go_wrong(times: int) -> int:
        wrong = 0
        for i in range(times):
            try:
                _core.recipe("spawn", argv, [], [], keep, **calls[i % len(calls)])
            except (TypeError, ValueError, OverflowError, OSError):
                wrong += 1
            try:
                _core.launch(plan, pass_fds=groups, deadline="now")
            except TypeError:
                wrong += 1
        return wrong

    def held() -> tuple[int, ...]:
        gc.collect()
        return tuple(map(sys.getrefcount, (keep, argv, files, groups, plan, FILE[3], None)))[:-1]

    assert go_wrong(100) == 200
    tracemalloc.start()
    before, start = held(), tracemalloc.get_traced_memory()[0]
    assert go_wrong(10_000) == 20_000
    after, end = held(), tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after == before
    assert end - start < 100_000  # what is not freed would be 60 MB


def test_everything_at_the_door_says_what_it_is() -> None:
    for owner in (_core, _core.Plan, _core.Process):
        for name, value in vars(owner).items():
            if not name.startswith("_") and name not in ("NAMESPACES", "FIELDS", "OPERATIONS"):
                assert value.__doc__, f"{owner.__name__}.{name}"
    for call in (_core.recipe, _core.launch, _core.Plan.users, _core.Process.wait):
        assert inspect.signature(call)
