"""s3: the demo's container without --fork, --mount-proc and --root."""

from __future__ import annotations

from typing import Any

from .reports import Report, fresh_token, look, presence
from .result import Fact, Result
from .root import token_out_of_reach

PARTS = ("joined", "proc", "tokens")
NEW = ("mount", "uts", "ipc", "pid")


def check_s3(box: Any) -> Result:
    """Look at what the learner handed over."""
    with fresh_token() as token:
        return judge_s3(look(box, *PARTS, tokens=[token]))


def judge_s3(report: Report) -> Result:
    """The verdict on a look with these PARTS."""
    facts = [presence(report)]
    if facts[0].passed:
        facts += [new_namespaces(report), two_pids(report), own_proc(report)]
        facts += [token_out_of_reach(report), mounts_unchanged(report, facts[-1].passed)]
    return Result("s3", facts)


def new_namespaces(report: Report) -> Fact:
    """Are the demo's four namespaces new?"""
    theirs, ours = report["namespaces"], report["caller"]["namespaces"]
    shared = [name for name in NEW if theirs[name] == ours[name]]
    seen = f"still yours: {', '.join(shared)}" if shared else "all four differ from yours"
    question = "Which flags of unshare(1) does the demo give, and which of them are missing here?"
    return Fact("mount, uts, ipc and pid namespace are new", not shared, seen, question)


def two_pids(report: Report) -> Fact:
    """Has it one number with us, and the number 1 inside?"""
    pids = report["pids"][len(report["caller"]["pids"]) - 1 :]
    return Fact(
        "it has two pids, and the inner one is 1",
        len(pids) == 2 and pids[1] == "1",
        f"its pids, from yours inwards: {' '.join(pids)}",
        "unshare gives the pid namespace to whom: the caller, or somebody who is not born yet?",
    )


def own_proc(report: Report) -> Fact:
    """Does its /proc show the processes of its own pid namespace?"""
    asked = "its /proc shows the processes of its own pid namespace"
    question = "Which pid namespace does a procfs show, and who decides that, and when?"
    found = report["proc"]
    own = f"pid:[{report['namespaces']['pid'][1]}]"
    last = [kind for *_, point, _, kind in report["mounts"] if point == "/proc"][-1:]
    seen = f"/proc/{found['pid']}/ns/pid is {found['shown']}, and should be {own}"
    if not last:
        seen += "; nothing is mounted on /proc"
    elif last != ["proc"]:
        seen += f"; mounted on /proc is {last[0]}"
    return Fact(asked, last == ["proc"] and found["shown"] == own, seen, question)


def mounts_unchanged(report: Report, has_proc: bool) -> Fact:
    """Has nothing of its mounts reached the caller? has_proc: it has a /proc of its own."""
    asked = "your own mounts are unchanged"
    question = "A new mount namespace is a copy. What still connects the copy to the original?"
    caller = report["caller"]
    now = caller["mounts"]
    if "mounts_before" in caller:
        added = [mount for mount in now if mount not in caller["mounts_before"]]
        if not added and len(now) != len(caller["mounts_before"]):
            return Fact(asked, False, "some of your mounts are gone", question)
    else:
        theirs = _telling(report, has_proc)
        added = [mount for mount in now if (mount[0], mount[1]) in theirs]
    if added:
        seen = ", ".join(f"{kind} on {point}" for _, _, point, _, kind in added[:3])
        return Fact(asked, False, f"among your mounts now: {seen}", question)
    groups = {group for *_, group, _ in now if group.startswith("shared:")}
    all_of_it = report["joined"].get("mounts", report["mounts"])
    connected = [point for _, _, point, group, _ in all_of_it if group in groups]
    if connected:
        seen = f"what is mounted under {connected[0]} inside appears among your mounts, too"
        return Fact(asked, False, seen, question)
    return Fact(asked, True, "none of its mounts is among yours")


def _telling(report: Report, has_proc: bool) -> set[tuple[str, str]]:
    """(device, root) of mounts that can only be the container's: its root, and its /proc."""
    seen = {point: (device, root) for device, root, point, _, _ in report["mounts"]}  # topmost
    found = {seen["/proc"]} if has_proc else set()
    # A file system that is somebody's root whole is mounted elsewhere with good reason.
    if report["root"] != report["caller"]["root"] and seen.get("/", ("", "/"))[1] != "/":
        found.add(seen["/"])
    return found
