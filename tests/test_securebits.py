"""securebits=: beside setpriv(1), and what they do to root."""

from __future__ import annotations

from typing import Any

import pytest
from support import IS_ROOT, QUIET, script

import nsdemo
from nsdemo import flags

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

CAPTURED: dict[str, Any] = {**QUIET, "capture_output": True, "text": True}
STATUS = ["grep", "-E", "^Cap", "/proc/self/status"]
LOCKED = ["noroot", "noroot_locked", "SECBIT_NO_CAP_AMBIENT_RAISE"]
NOBODY: dict[str, Any] = {"uid": 1234, "gid": 1234}


def bits(**options: Any) -> str:
    done = nsdemo.run(["setpriv", "--dump"], **CAPTURED, **options)
    assert done.returncode == 0, done.stderr
    return next(line for line in done.stdout.splitlines() if line.startswith("Securebits"))


def capabilities(**options: Any) -> dict[str, int]:
    done = nsdemo.run(STATUS, **CAPTURED, **options)
    assert done.returncode == 0, done.stderr
    pairs = (line.split(":\t") for line in done.stdout.splitlines())
    return {name: int(value, 16) for name, value in pairs}


ids: list[dict[str, Any]] = [{}, {"uid": 0}, {"init": True}, {"capabilities": ["kill"]}]
if IS_ROOT:
    ids.append(NOBODY)


@pytest.mark.parametrize("options", ids, ids=str)
def test_they_hold_inside(options: dict[str, Any]) -> None:
    assert bits(securebits=LOCKED, **options) == "Securebits: noroot,noroot_locked,0x40"
    assert bits(securebits=["no_setuid_fixup"], **options) == "Securebits: no_setuid_fixup"
    assert bits(securebits=[], **options) == "Securebits: [none]"


def test_root_gains_nothing_by_being_root() -> None:
    usual = capabilities()
    assert usual["CapEff"] != 0
    found = capabilities(securebits=LOCKED)
    assert (found["CapPrm"], found["CapEff"], found["CapInh"]) == (0, 0, 0)
    assert found["CapBnd"] == usual["CapBnd"]
    kept = capabilities(securebits=LOCKED, capabilities=["kill", "net_raw"], ambient=["kill"])
    assert kept == {
        "CapInh": 1 << 5, "CapPrm": 1 << 5, "CapEff": 1 << 5,
        "CapBnd": 1 << 5 | 1 << 13, "CapAmb": 1 << 5,
    }  # fmt: skip


def test_another_user_has_no_more_than_without() -> None:
    if not IS_ROOT:
        pytest.skip("only root can become somebody else")
    for more in ({}, {"ambient": ["kill"]}, {"capabilities": ["kill"]}):
        options: dict[str, Any] = {**NOBODY, **more}
        with_fixup = capabilities(securebits=["no_setuid_fixup"], **options)
        assert with_fixup == capabilities(**options)


def test_in_all_calls() -> None:
    dump = ["setpriv", "--dump"]
    wanted = "Securebits: noroot"
    done = nsdemo.chroot_run("/", dump, securebits=["noroot"], **CAPTURED)
    assert wanted in done.stdout.splitlines()
    with nsdemo.spawn(["sleep", "100"], **QUIET) as box:
        done = box.enter(dump, securebits=["noroot"], **CAPTURED)
        assert wanted in done.stdout.splitlines()
    plan = nsdemo.Plan().unshare("user").map_root().securebits(["noroot"]).exec(dump)
    assert wanted in plan.run(**CAPTURED).stdout.splitlines()
    assert "prctl(PR_SET_SECUREBITS, SECBIT_NOROOT)" in str(plan)
    call = flags.read("spawn", ["--securebits", "noroot,noroot_locked", "true"])
    assert call.keywords["securebits"] == ("noroot", "noroot_locked")


def test_a_lock_holds() -> None:
    body = """
        locked = ["noroot", "noroot_locked"]
        plan = nsdemo.Plan().unshare("user").map_root().securebits(locked).securebits([])
        plan = plan.exec(["true"])
        found = [outcome(plan.run)]
        plan = nsdemo.Plan().securebits(["noroot"]).exec(["true"])
        found.append(outcome(plan.run))
        report(found=found)
    """
    locked, powerless = script(body, ordinary=True).report["found"]
    for found, words in ((locked, "is locked already"), (powerless, "add user=True")):
        assert found["error"]["operation"] == "securebits"
        assert words in found["error"]["notes"][0]
        assert found["left"] == []


def test_bad_input() -> None:
    for wrong, kind, words in (
        ("noroot", TypeError, "a list of names"),
        (5, TypeError, "a list of names"),
        ([5], TypeError, "a name is a str"),
        (["norot"], ValueError, "did you mean noroot"),
    ):
        value: Any = wrong
        with pytest.raises(kind, match=words):
            nsdemo.run(["true"], securebits=value, **QUIET)
