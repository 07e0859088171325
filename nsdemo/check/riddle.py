"""c3: the ENOMEM riddle. A process whose children would be born where PID 1 is gone."""

from __future__ import annotations

from typing import Any

from .reports import Report, look, presence, until_passed
from .result import Fact, Result

PARTS = ("birth",)


def check_c3(box: Any) -> Result:
    """Look at what the learner handed over."""
    return until_passed(lambda: judge_c3(look(box, *PARTS)))


def judge_c3(report: Report) -> Result:
    """The verdict on a look with these PARTS."""
    facts = [presence(report)]
    if facts[0].passed:
        found = report["birth"]
        facts.append(elsewhere(report, found))
        if facts[-1].passed:
            facts += [was_born(found), no_birth(found)]
    return Result("c3", facts)


def elsewhere(report: Report, found: Report) -> Fact:
    """Will its children live in another pid namespace than itself?"""
    asked = "its children are for another pid namespace than its own"
    question = "unshare(CLONE_NEWPID) moves whom? Compare ns/pid with ns/pid_for_children."
    if "unborn" in found:
        return Fact(asked, True, "for one in which nobody was born yet")
    if "error" in found:
        return Fact(asked, False, f"it cannot be looked at: {found['error']}", question)
    own, theirs = report["namespaces"]["pid"], found["namespace"]
    seen = f"its own is pid:[{own[1]}], that of its children pid:[{theirs[1]}]"
    return Fact(asked, own != theirs, seen, question)


def was_born(found: Report) -> Fact:
    """Was there a PID 1?"""
    born = "unborn" not in found
    seen = "the namespace has had its PID 1" if born else "nobody: the namespace waits for PID 1"
    question = "Who becomes PID 1 of a new pid namespace, and at which moment?"
    return Fact("somebody was born in that namespace", born, seen, question)


def no_birth(found: Report) -> Fact:
    """Does the check's own fork fail there, and only there?"""
    asked = "a process that the check starts there fails with ENOMEM, and elsewhere does not"
    question = "Who is the first child of this process, and what ends a pid namespace for good?"
    if "unborn" in found:
        return Fact(asked, False, "the next one would become PID 1", question)
    there, here = found["there"], found["here"]
    seen = f"there: {there or 'it was started'}; elsewhere: {here or 'it was started'}"
    return Fact(asked, there == "ENOMEM" and here is None, seen, question)
