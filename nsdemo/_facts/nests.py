"""In which order an ordinary user joins: from the outside in.

Whoever is in a user namespace has no power over those around it. So what belongs to an outer one
is joined from there, before the way leads into an inner one.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence

from .._request.values import CLONE_FLAGS
from .targets import Resolved

_NS_GET_PARENT = 0xB702  # ioctl_ns(2)
_USER = CLONE_FLAGS["user"]

Identity = tuple[int, int]
Joins = list[tuple[Resolved, int]]


def lineage(fd: int) -> tuple[Identity, ...]:
    """A user namespace and those around it, as far out as ours, which is left out."""
    ours = os.stat("/proc/thread-self/ns/user")
    found: list[Identity] = []
    here = os.dup(fd)
    try:
        while True:
            status = os.fstat(here)
            if os.path.samestat(status, ours):
                break
            found.append((status.st_dev, status.st_ino))
            try:
                outer = fcntl.ioctl(here, _NS_GET_PARENT)
            except OSError:  # around ours, or not ours to see
                break
            os.close(here)
            here = outer
    finally:
        os.close(here)
    return tuple(found)


def _own_lineage(resolved: Resolved) -> tuple[Identity, ...]:
    """That of the user namespace that a target is, or that a process is in."""
    if resolved.kind is not None:
        return lineage(resolved.fd)
    fd = os.open(f"/proc/{resolved.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return lineage(fd)
    finally:
        os.close(fd)


def ordered(targets: Sequence[tuple[Resolved, int]], *, add: bool) -> Joins:
    """The joins of an ordinary user in the order that works.

    Args:
        targets: (target, CLONE_NEW* flags), flags of 0 included.
        add: nothing was said about user namespaces: the owner of the outermost is joined.
    """
    wanted = [(resolved, flags) for resolved, flags in targets if flags]
    rest = [(resolved, flags) for resolved, flags in targets if not flags]
    ends = [each for each in wanted if each[1] & _USER]
    files = [each for each in wanted if each[0].kind is not None and not each[1] & _USER]
    processes = [each for each in wanted if each[0].kind is None and not each[1] & _USER]
    if add and processes and not ends:
        resolved, flags = processes.pop(0)
        ends.append((resolved, flags | resolved.differing(_USER)))
    end = _own_lineage(ends[0][0]) if ends else ()
    owned = []
    for resolved, flags in files:
        owner = resolved.owner_namespace()
        owned.append((lineage(owner.fd), owner, (resolved, flags)))
    owned.sort(key=lambda each: len(each[0]))
    before: Joins = []
    after: Joins = []
    entered: set[Identity] = set()
    for line, owner, join in owned:
        if end and end[0] in line:
            after.append(join)
            continue
        if line and (add or ends) and not entered & {*line}:
            before.append((owner, _USER))
            entered.add(line[0])
        before.append(join)
    return [*before, *ends, *after, *processes, *rest]
