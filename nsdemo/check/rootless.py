"""c5: rootless. Root in there, and nobody of importance out here."""

from __future__ import annotations

import secrets
from typing import Any

from .reports import Report, look, presence
from .result import Fact, Result

PARTS = ("users",)


def check_c5(box: Any) -> Result:
    """Look at what the learner handed over."""
    name = new_name()
    return judge_c5(look(box, *PARTS, name=name), name)


def new_name() -> str:
    """What is written into the file that is made inside."""
    return secrets.token_hex(16)


def judge_c5(report: Report, name: str) -> Result:
    """The verdict on a look with these PARTS and this name."""
    facts = [presence(report)]
    if facts[0].passed:
        facts.append(own_users(report))
    if facts[-1].passed:
        found = report["users"]
        if "error" in found:
            question = "Who owns the process, and who may look into its user namespace?"
            facts.append(Fact("its id maps can be read", False, found["error"], question))
        else:
            facts += [root_inside(found), nobody_outside(found)]
            facts += [groups_denied(found), made_outside(found, name)]
    return Result("c5", facts)


def own_users(report: Report) -> Fact:
    """Is its user namespace not the caller's?"""
    theirs, ours = report["namespaces"]["user"], report["caller"]["namespaces"]["user"]
    return Fact(
        "its user namespace is its own",
        theirs != ours,
        f"user:[{theirs[1]}]; yours is user:[{ours[1]}]",
        "Which namespace says who is who, and which step would give it another?",
    )


def outside_of(rows: list[list[int]], number: int) -> int | None:
    """The id out here of one in there; None if there is none."""
    for inside, outside, count in rows:
        if inside <= number < inside + count:
            return outside + number - inside
    return None


def root_inside(found: Report) -> Fact:
    """Is it 0:0 inside?"""
    wanted = [outside_of(found["uid"], 0), outside_of(found["gid"], 0)]
    if None in wanted:
        kind = "uid" if wanted[0] is None else "gid"
        seen = f"no line of its {kind}_map is about {kind} 0"
    else:
        seen = f"0:0 inside is {_pair(wanted)} outside; it runs as {_pair(found['ids'])}"
    return Fact(
        "inside, it is user 0 and group 0",
        wanted == found["ids"],
        seen,
        "Who is a process whose id stands in no line of the map? Which line would make it root?",
    )


def _pair(ids: list[Any]) -> str:
    return f"{ids[0]}:{ids[1]}"


def nobody_outside(found: Report) -> Fact:
    """Is the machine's id 0 in neither map?"""
    given = [
        (kind, row)
        for kind in ("uid", "gid")
        for row in found[kind]
        if row[1] == 0 and found["choice"]
    ]
    seen = "; ".join(f"{kind}_map: {_lines(found[kind])}" for kind in ("uid", "gid"))
    return Fact(
        "none of its ids is the machine's 0",
        not given and bool(found["uid"]) and bool(found["gid"]),
        seen,
        "Which id out here does a line of the map give to somebody in there, and whose is it?",
    )


def _lines(rows: list[list[int]]) -> str:
    shown = [" ".join(map(str, row)) for row in rows[:4]]
    return ", ".join(shown) + (", and more" if len(rows) > 4 else "") if rows else "empty"


def groups_denied(found: Report) -> Fact:
    """Is setgroups(2) denied in there?"""
    return Fact(
        "setgroups is denied in there",
        found["setgroups"] == "deny",
        f"/proc/PID/setgroups says {found['setgroups']}",
        "A group can be there to keep its members out. What could one gain by dropping it?",
    )


def made_outside(found: Report, name: str) -> Fact:
    """Does a file that its root has just made belong to that id out here?"""
    asked = "a file that its root has just made belongs, outside, to the id in the map"
    question = "In whose numbers does the kernel keep the owner of a file?"
    made = found["made"]
    if "error" in made:
        return Fact(asked, False, f"making one in there failed: {made['error']}", question)
    wanted = [outside_of(found["uid"], 0), outside_of(found["gid"], 0)]
    owner = [made["uid"], made["gid"]]
    seen = f"made by 0:0 inside, it belongs to {_pair(owner)} outside"
    return Fact(asked, owner == wanted and made["text"] == name, seen, question)
