"""c9: a pod. Containers with one network, one ipc and one host name, and nothing else in common."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from .reports import Report, look, pid_of, presence
from .result import Fact, Result

SHARED = ("net", "ipc", "uts")
OWN = ("mount", "pid", "cgroup", "time")
MOST = 10
PARTS = ("hostname",)
See = Callable[[Any, str], Report]


def check_c9(pod: Any) -> Result:
    """Look at what the learner handed over."""
    boxes = members_of(pod)
    for box in boxes:
        pid_of(box)
    return judge_c9(boxes, lambda box, name: look(box, *PARTS, name=name))


def members_of(pod: Any) -> list[Any]:
    """The containers, or an error that says what is wrong."""
    if isinstance(pod, (str, bytes)) or not isinstance(pod, Sequence):
        raise TypeError(f"a pod is a list of Containers or pids, not a {type(pod).__name__}")
    if not 2 <= len(pod) <= MOST:
        raise ValueError(f"a pod has 2 to {MOST} containers here, not {len(pod)}")
    return list(pod)


def judge_c9(boxes: Sequence[Any], see: See) -> Result:
    """The verdict; see takes a look with these PARTS, and a host name to be set or ""."""
    name = f"pod-{secrets.token_hex(8)}"
    reports = [see(boxes[0], name)]
    found = reports[0].get("hostname", {})
    try:
        reports += [see(box, "") for box in boxes[1:]]
    finally:
        if "before" in found:
            see(boxes[0], found["before"])
    facts = [_all_present(reports)]
    if facts[0].passed:
        facts += [several(reports), in_common(reports), not_ours(reports), apart(reports)]
        facts.append(heard(reports, name))
    return Result("c9", facts)


def _all_present(reports: Sequence[Report]) -> Fact:
    found = [presence(report) for report in reports]
    missing = [fact for fact in found if not fact.passed]
    asked = "every process is alive, and yours to look at"
    if missing:
        return Fact(asked, False, missing[0].seen, missing[0].question)
    return Fact(asked, True, "; ".join(fact.seen for fact in found))


def several(reports: Sequence[Report]) -> Fact:
    """Are they different processes?"""
    pids = [report["pid"] for report in reports]
    return Fact(
        "they are different processes",
        len(set(pids)) == len(pids),
        f"pids {', '.join(map(str, pids))}",
        "Two names for one container: how many processes are that?",
    )


def _inodes(reports: Sequence[Report], name: str) -> str:
    """One row of the matrix."""
    return f"{name}: {' '.join(str(report['namespaces'][name][1]) for report in reports)}"


def in_common(reports: Sequence[Report]) -> Fact:
    """Is each of SHARED one for all?"""
    first = reports[0]["namespaces"]
    wrong = [
        name
        for name in SHARED
        if any(report["namespaces"][name] != first[name] for report in reports)
    ]
    seen = "; ".join(_inodes(reports, name) for name in wrong or SHARED)
    question = "Which keyword takes a namespace from another container, and which makes a new one?"
    return Fact("net, ipc and uts namespace are one for all of them", not wrong, seen, question)


def not_ours(reports: Sequence[Report]) -> Fact:
    """Are these not the caller's?"""
    ours = reports[0]["caller"]["namespaces"]
    wrong = [
        name
        for name in SHARED
        if any(report["namespaces"][name] == ours[name] for report in reports)
    ]
    seen = f"yours: {', '.join(wrong)}" if wrong else "none of the three is yours"
    question = "Who is the first container of the pod, and what was new when it was made?"
    return Fact("and they are not yours", not wrong, seen, question)


def apart(reports: Sequence[Report]) -> Fact:
    """Has each of them its own of OWN?"""
    ours = reports[0]["caller"]["namespaces"]
    wrong = []
    for name in OWN:
        if name in ours:  # a kernel may lack one
            seen_by = [tuple(report["namespaces"][name]) for report in reports]
            if len({*seen_by, tuple(ours[name])}) <= len(reports):
                wrong.append(name)
    seen = "; ".join(f"{_inodes(reports, name)}, yours {ours[name][1]}" for name in wrong)
    return Fact(
        f"{', '.join(OWN[:-1])} and {OWN[-1]} namespace are each one's own",
        not wrong,
        seen or "all of them differ, from each other and from yours",
        "What of the machine, or of its neighbour, does each container still see as its own?",
    )


def heard(reports: Sequence[Report], name: str) -> Fact:
    """Is the host name that was set in the first read in all others?"""
    asked = "a host name that is set in one of them is read in the others"
    question = "Which of the shared namespaces has the host name?"
    found = [report["hostname"] for report in reports]
    if "error" in found[0]:
        return Fact(asked, False, f"it could not be set: {found[0]['error']}", question)
    if "before" not in found[0]:
        return Fact(asked, False, "not tried: it would be the machine's", question)
    read = [answer.get("name") or answer["error"] for answer in found[1:]]
    seen = f"set: {name}; read: {', '.join(read)}"
    return Fact(asked, all(each == name for each in read), seen, question)
