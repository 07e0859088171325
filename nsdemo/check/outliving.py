"""c6: a namespace without processes. A mount keeps it, and what was left in it is still there."""

from __future__ import annotations

import os
import secrets
from typing import Any

from .reports import Report, look, presence
from .result import Fact, Result

PARTS = ("pinned",)


def check_c6(pin: Any, holder: Any) -> Result:
    """Look at the path that the learner handed over."""
    path, name = path_of(pin), new_name()
    box = os.getpid() if holder is None else holder
    return judge_c6(look(box, *PARTS, path=path, name=name), name)


def path_of(pin: Any) -> str:
    """The path as text."""
    if not isinstance(pin, (str, os.PathLike)):
        raise TypeError(f"a pin is the path of a file, not a {type(pin).__name__}")
    path = os.fspath(pin)
    if not isinstance(path, str) or not os.path.isabs(path) or "\0" in path:
        raise ValueError(f"a pin is an absolute path, not {path!r}")
    return path


def new_name() -> str:
    """A host name that nobody could know."""
    return f"left-{secrets.token_hex(8)}"


def judge_c6(report: Report, name: str) -> Result:
    """The verdict on a look with these PARTS and this name."""
    facts = [presence(report)]
    if facts[0].passed:
        found = report["pinned"]
        facts.append(a_mount(found))
        if facts[-1].passed:
            facts += [a_uts_namespace(report, found), nobody_in_it(found)]
            facts.append(still_there(found, name))
    return Result("c6", facts)


def a_mount(found: Report) -> Fact:
    """Is there a namespace at that path, without a link to a process?"""
    asked = "at that path, a mount keeps a namespace"
    question = "A link leads to a namespace as long as what lives? What makes a file be one?"
    if "error" in found:
        return Fact(asked, False, found["error"].removeprefix("ValueError: "), question)
    seen = f"{found['kind']}:[{found['identity'][1]}], mounted on that file"
    return Fact(asked, True, seen)


def a_uts_namespace(report: Report, found: Report) -> Fact:
    """Is it a uts namespace, and a new one?"""
    ours = report["caller"]["namespaces"]["uts"]
    new = found["kind"] == "uts" and found["identity"] != ours
    seen = f"{found['kind']}:[{found['identity'][1]}]; yours is uts:[{ours[1]}]"
    question = "Which kind of namespace has a host name, and what makes a new one?"
    return Fact("it is a uts namespace, and not yours", new, seen, question)


def nobody_in_it(found: Report) -> Fact:
    """Has it no members?"""
    members, hidden = found["members"], found["hidden"]
    seen = f"in it: {', '.join(f'pid {pid}' for pid in members[:4])}"
    if not members:
        seen = "nobody is in it"
        seen += f" ({hidden} of all processes could not be looked at)" if hidden else ""
    question = "What would be left of it if these processes ended now?"
    return Fact("no process is in it", not members, seen, question)


def still_there(found: Report, name: str) -> Fact:
    """Does a process that goes in later read what an earlier one has left?"""
    asked = "a host name that one process leaves in it is read by the next"
    question = "Between the two nobody is in it. Where is the name kept meanwhile?"
    if "name" not in found:
        return Fact(asked, False, "not tried: it is no uts namespace without processes", question)
    seen = f"left: {name}; read by the next: {found['name']}"
    return Fact(asked, found["name"] == name, seen, question)
