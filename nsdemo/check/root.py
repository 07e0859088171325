"""s1: pivot_root instead of chroot. What the joiner and the one who wants out will find."""

from __future__ import annotations

from typing import Any

from .reports import Report, fresh_token, look, presence
from .result import Fact, Result

PARTS = ("joined", "tokens", "escape")


def check_s1(box: Any) -> Result:
    """Look at what the learner handed over."""
    with fresh_token() as token:
        return judge_s1(look(box, *PARTS, tokens=[token]))


def judge_s1(report: Report) -> Result:
    """The verdict on a look with these PARTS."""
    facts = [presence(report)]
    if facts[0].passed:
        facts += [own_mounts(report), joiner(report), nothing_shared(report)]
        facts += [token_out_of_reach(report), escape_fails(report)]
    return Result("s1", facts)


def own_mounts(report: Report) -> Fact:
    """Is its mount namespace not the caller's?"""
    theirs, ours = report["namespaces"]["mount"], report["caller"]["namespaces"]["mount"]
    return Fact(
        "its mount namespace is its own",
        theirs != ours,
        f"mnt:[{theirs[1]}]; yours is mnt:[{ours[1]}]",
        "Whose list of mounts does the process see, and which step would give it another?",
    )


def joiner(report: Report) -> Fact:
    """Does a joiner of the mount namespace have the container's root?"""
    asked = "whoever joins its mount namespace lands in its root"
    question = "chroot moves one process. What else has a root, and which call moves that?"
    found = report["joined"]
    if "error" in found:
        return Fact(asked, False, f"joining it failed: {found['error']}", question)
    there, process = found["root"], found["process_root"]
    same = there == process
    seen = _place(there)
    return Fact(asked, same, seen if same else f"{seen}; its root is {_place(process)}", question)


def _place(place: list[int]) -> str:
    return f"inode {place[1]} on mount {place[2]}"


def nothing_shared(report: Report) -> Fact:
    """Is no mount in it shared?"""
    mounts = report["joined"].get("mounts", report["mounts"])
    shared = [point for _, _, point, propagation, _ in mounts if propagation.startswith("shared:")]
    seen = f"none of {len(mounts)} mounts is shared"
    if shared:
        seen = f"{len(shared)} of {len(mounts)} mounts are shared, such as {shared[0]}"
    return Fact(
        "nothing in its mountinfo is shared",
        not shared,
        seen,
        "What is mounted inside now: who else gets to see it, and what does mountinfo call that?",
    )


def token_out_of_reach(report: Report) -> Fact:
    """Is a fresh file of the caller's nowhere in it?"""
    asked = "a file that was just written outside is nowhere inside"
    question = "Which directory of yours is its root, and what did you leave mounted in there?"
    found = report["tokens"]
    if "error" in found:
        return Fact(asked, False, f"looking for it failed: {found['error']}", question)
    if report["root"] == report["caller"]["root"]:
        return Fact(asked, False, "its root is your root: all your files are there", question)
    if found["found"]:
        return Fact(asked, False, f"it can be read inside as {found['found']}", question)
    return Fact(asked, True, "it was found under none of its mounts")


def escape_fails(report: Report) -> Fact:
    """Does the way out that chroot(2) describes end at the container's own root?"""
    asked = 'the way out of a chroot (a second chroot, then "..") leads nowhere'
    question = 'From a directory outside of its root, where does ".." lead, and what stops it?'
    found = report["escape"]
    if "error" in found:
        return Fact(asked, False, f"the way could not be tried: {found['error']}", question)
    if found["found"]:
        return Fact(asked, False, f"it led to the file outside, {found['found']}", question)
    if found["reached"] != report["root"]:
        return Fact(asked, False, "it led to a directory outside of its root", question)
    return Fact(asked, True, "it ended at the root that it began in")
