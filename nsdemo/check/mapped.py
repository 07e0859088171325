"""c1: the smallest root that runs bash. Every mapped file is in it, and no other."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from .reports import Report, look, presence, until_passed
from .result import Fact, Result

PARTS = ("mapped",)


def check_c1(box: Any) -> Result:
    """Look at what the learner handed over."""
    return until_passed(lambda: judge_c1(look(box, *PARTS)))


def judge_c1(report: Report) -> Result:
    """The verdict on a look with these PARTS."""
    facts = [presence(report)]
    if facts[0].passed:
        found = report["mapped"]
        facts.append(own_root(report))
        if "error" in found:
            question = "Who owns the process, and under which root does it run?"
            facts.append(Fact("what it has mapped can be read", False, found["error"], question))
        else:
            facts += [runs_bash(found), all_inside(found), nothing_else(found)]
    return Result("c1", facts)


def own_root(report: Report) -> Fact:
    """Is its root not the caller's?"""
    same = report["root"] == report["caller"]["root"]
    seen = f"its root is inode {report['root'][1]}, yours {report['caller']['root'][1]}"
    return Fact("its root is another directory than yours", not same, seen, "What is its /?")


def runs_bash(found: Report) -> Fact:
    """Is what it executes a copy of this machine's bash?"""
    asked = "it runs a copy of this machine's bash"
    question = "Which file did the kernel execute, whatever the process calls itself?"
    bash = shutil.which("bash")
    if bash is None:
        return Fact(asked, False, "this machine has no bash", "Where could one be copied from?")
    same = hashlib.sha256(Path(bash).read_bytes()).hexdigest() == found["sha256"]
    seen = f"the file that it runs is {'the same as' if same else 'not'} {bash}, byte by byte"
    return Fact(asked, same, seen, question)


def all_inside(found: Report) -> Fact:
    """Is every mapped file under its root?"""
    inside, outside = found["inside"], found["outside"]
    seen = f"{len(inside)} files: {', '.join(sorted(inside))}"
    if outside:
        seen = f"not under its root: {', '.join(sorted(outside))}"
    return Fact(
        "every file that it has mapped lies under its root",
        bool(inside) and not outside,
        seen,
        "How did a file from elsewhere get into this process, and what will a fresh one find?",
    )


def nothing_else(found: Report) -> Fact:
    """Is there no regular file that it does not use?"""
    others = found["others"]
    seen = "every regular file there is mapped"
    if others:
        shown = ", ".join(others[:5]) + (", and more" if len(others) > 5 else "")
        seen = f"not mapped: {shown}"
    elif not found["complete"]:
        seen = "more files and directories than the check will count"
    return Fact(
        "there is no other regular file in that root",
        not others and found["complete"],
        seen,
        "What happens to bash when you remove one of these files?",
    )
