"""Why ids could not be mapped: hints for the steps of ``_request/id_maps.py``."""

from __future__ import annotations

import errno
import os
import stat

from .._facts import machine
from .._facts.tables import parse_id_map
from .._request.id_maps import how_to_get_a_range, ranges_of, user_name
from .case import Case, Hints, filtered


def _range(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first} to {first + count - 1}"


def explain_map(case: Case) -> Hints:
    """map_ids"""
    file, content, *program = case.step.args
    if case.errno == errno.ECHILD:
        yield "the helper that writes the maps was killed"
    elif program:
        yield from _explain_program(case, program[0], file[:3], content)
    elif case.errno == errno.ENOENT:
        yield "there is no procfs mounted on /proc: mount -t proc proc /proc"
    elif case.errno in (errno.EPERM, errno.EACCES, errno.EROFS):
        yield from _explain_write(case, file, content)


def _explain_write(case: Case, file: str, content: str) -> Hints:
    if case.errno == errno.EROFS:
        yield "/proc is mounted read-only here"
    elif file == "setgroups":
        if machine.read("/proc/self/setgroups").strip() == "deny":
            yield (
                "the user namespace we are in denies setgroups, and so do all in it, for ever: "
                "leave setgroups= out"
            )
    else:
        kind = file[:3]
        ours = machine.id_map(kind)
        for _, outside, count in parse_id_map(content):
            if not _covered(outside, count, [(first, size) for first, _, size in ours]):
                shown = ", ".join(" ".join(map(str, row)) for row in ours)
                yield (
                    f"{kind} {_range(outside, count)} is not in the map of the user namespace we "
                    f"are in ({shown}), where the first number is an id"
                )
                return
        if any(row[1] == 0 for row in parse_id_map(content)) and not machine.passes_on(
            machine.CAP_SETFCAP
        ):
            yield "mapping uid 0 needs CAP_SETFCAP, which was taken from this root"
        else:
            yield from filtered()


def _covered(first: int, count: int, ranges: list[tuple[int, int]]) -> bool:
    """Are all ids of a range in one of the others, or in several that follow each other?"""
    end = first + count
    for start, size in sorted(ranges):
        if start <= first < start + size:
            first = start + size
    return first >= end


def _explain_program(case: Case, program: str, kind: str, content: str) -> Hints:
    name = os.path.basename(program)
    if case.errno == errno.ENOENT:
        yield (
            f"{name} is not installed, which maps more than your own {kind} for you: on Debian "
            f"and Ubuntu, apt-get install uidmap; {kind}_map='current' does without"
        )
    elif case.errno == errno.EACCES:
        yield f"you may not execute {program}: ask whoever runs this machine"
    elif case.errno == errno.EINTR:
        yield f"{name} was ended by a signal before it had written the map"
    elif case.errno == errno.EPERM:
        lost = list(_without_power(program))
        yield from lost or _not_yours(kind, content) or filtered()


def _without_power(program: str) -> Hints:
    """The program is there, and cannot do what it is for."""
    try:
        mode = os.stat(program)
        files = os.listxattr(program)
    except OSError:
        return
    setuid = mode.st_mode & stat.S_ISUID and mode.st_uid == 0
    if not setuid and "security.capability" not in files:
        yield f"{program} has lost its setuid bit: as root, chmod u+s {program}"
    elif machine.status("NoNewPrivs") == "1":
        yield (
            f"this process has given new privileges up (no_new_privs), so that {program} has no "
            "more power than you"
        )
    elif os.statvfs(program).f_flag & os.ST_NOSUID:
        yield f"{program} lies on a file system that is mounted nosuid, so that it has no power"


def _not_yours(kind: str, content: str) -> list[str]:
    """Those ids of a map that /etc/subuid or /etc/subgid does not give to the caller."""
    uid, path = os.geteuid(), f"/etc/sub{kind}"
    own = uid if kind == "uid" else os.getegid()
    ranges = ranges_of(path, uid)
    for _, outside, count in parse_id_map(content):
        if (outside, count) == (own, 1) or _covered(outside, count, ranges):
            continue
        who = f"{user_name(uid)} (uid {uid})"
        if not ranges:
            return [f"{path} has no range for {who}: {how_to_get_a_range(kind, uid)}"]
        yours = ", ".join(_range(*each) for each in ranges)
        return [f"{kind} {_range(outside, count)} is not yours: {path} gives {yours} to {who}"]
    return []


def explain_owner(case: Case) -> Hints:
    """owner"""
    if case.errno != errno.EINVAL:
        return
    for kind, number in zip(("uid", "gid"), case.step.args, strict=True):
        ours = machine.id_map(kind)
        if not machine.has_id(ours, number):
            shown = ", ".join(" ".join(map(str, row)) for row in ours)
            yield f"{kind} {number} is not in the map of the user namespace we are in ({shown})"
            return
