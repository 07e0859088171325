"""Every wait of a launch ends: by timeout=, or by a signal handler that raises.

The peers here never answer (deaf.py).
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from support import IS_ROOT, SLOW, script

if TYPE_CHECKING:
    from pathlib import Path

# Wherever a path of the set-up can be; k is timeout=, or nothing.
RUNS = """
{
"cwd, init": lambda at: lambda **k: nsdemo.run(["true"], cwd=f"{at}/x", init=True, **k),
"tty": lambda at: lambda **k: nsdemo.run(
    ["true"], root=f"{at}/x", tty=True, capture_output=True, **k),
"bind": lambda at: lambda **k: nsdemo.run(
    ["true"], mounts=[nsdemo.Bind(f"{at}/x", "/mnt")], **k),
"overlay": lambda at: lambda **k: nsdemo.run(
    ["true"], mounts=[nsdemo.Overlay("/mnt", [f"{at}/x"])], **k),
"landlock": lambda at: lambda **k: nsdemo.run(
    ["true"], landlock=nsdemo.Landlock(read=[f"{at}/x"]), **k),
"persist": lambda at: lambda **k: nsdemo.run(
    ["true"], uts=True, persist={"uts": f"{at}/x"}, **k),
}"""
STARTS = """
{
"init": lambda at: lambda: nsdemo.spawn(["true"], cwd=f"{at}/x", init=True),
"overlay": lambda at: lambda: nsdemo.spawn(["true"], root=f"{at}/x", overlay=True),
}"""


def ended_well(outcomes: dict[str, Any], kind: str) -> None:
    for name, found in outcomes.items():
        assert isinstance(found, dict), f"{name}: {found}"
        assert found["error"], (name, found)
        assert found["error"]["type"][0] == kind, (name, found)
        assert found["seconds"] < 6 * SLOW, (name, found)
        # Nothing but what the kernel keeps, and that is named.
        assert found["children"] == found["unended"], (name, found)
        for pid in found["unended"]:
            note = f"process {pid} was killed, but has not ended yet"
            assert note in "\n".join(found["error"]["notes"]), (name, found)
        assert found["reaped"], (name, found)
        assert found["left"] == [], (name, found)


def outcomes(cases: str, peer: str, *, ordinary: bool, by_signal: bool) -> dict[str, Any]:
    if peer == "automount" and not IS_ROOT:
        pytest.skip("only root mounts an automount")
    if ordinary and not IS_ROOT:
        pytest.skip("only root becomes another user")
    body = f"""
        import deaf
        cases = {textwrap.indent(cases, " " * 8).strip()}
        if {ordinary}:
            cases.pop("persist", None)  # only root pins
        report(**deaf.outcomes(cases, {peer!r}, ordinary={ordinary}, by_signal={by_signal}))
    """
    found: dict[str, Any] = script(body).report
    return found


USERS = pytest.mark.parametrize("ordinary", [False, True], ids=["caller", "ordinary"])


@USERS
@pytest.mark.parametrize("peer", ["deaf", "asleep", "automount"])
def test_timeout_covers_the_set_up(peer: str, ordinary: bool) -> None:
    found = outcomes(RUNS, peer, ordinary=ordinary, by_signal=False)
    ended_well(found, "TimeoutExpired")


@USERS
@pytest.mark.parametrize("peer", ["deaf", "automount"])
@pytest.mark.parametrize("cases", [RUNS, STARTS], ids=["run", "spawn"])
def test_a_signal_handler_that_raises_ends_the_set_up(
    cases: str, peer: str, ordinary: bool
) -> None:
    found = outcomes(cases, peer, ordinary=ordinary, by_signal=True)
    ended_well(found, "Stop")


def test_a_joiner_that_is_stopped_from_inside(rootfs: Path) -> None:
    """A container of our own uid may stop who comes in, as soon as it can be seen there."""
    found = script(
        """
        loop = "while :; do for p in /proc/[0-9]*; do p=${p#/proc/}; "
        loop += "[ $p = 1 ] || kill -STOP $p; done; done 2>/dev/null"
        box = nsdemo.spawn(["sh", "-c", loop], root=sys.argv[1], mount_proc=True)
        before, ends, longest = snapshot(), set(), 0
        for number in range(8):
            start = time.monotonic()
            try:
                box.enter(["true"], timeout=0.3)
                ends.add("returned")
            except subprocess.TimeoutExpired:
                ends.add("over")
            longest = max(longest, time.monotonic() - start)
        left = leftovers(before)
        box.kill()
        box.wait()
        report(ends=sorted(ends), longest=longest, left=left)
        """,
        str(rootfs),
    ).report
    assert "over" in found["ends"]
    assert found["longest"] < 6 * SLOW
    assert found["left"] == []
