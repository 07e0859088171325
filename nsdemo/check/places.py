"""What a joiner finds, whether a token of the host is inside, and whether there is a way out.

Part of the program look.py.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator

from .going_in import Self, follow_root, join_mounts
from .target import Report, Target, identity

MOST_MOUNTS, MOST_TRIES, MOST_NAMES = 2000, 20000, 2000


def mounts_here(me: Self) -> list[list[str]]:
    """All mounts; too many to look at are a refusal, for something may be hidden among them."""
    found = me.mounts()
    if len(found) > MOST_MOUNTS:
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
    return found


def joined(target: Target, request: Report) -> Report:
    """Where does a fresh joiner of the mount namespace land, and what is mounted there?"""
    me = Self()
    of_process = me.place(target.root)
    join_mounts(target)
    landing = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return {"root": me.place(landing), "process_root": of_process, "mounts": mounts_here(me)}


def endings(path: str) -> Iterator[str]:
    """/a/b/c, /b/c, /c: a directory of the host may be mounted as anything."""
    parts = path.strip("/").split("/")
    for start in range(len(parts)):
        yield "/" + "/".join(parts[start:])


def find_token(me: Self, request: Report) -> str | None:
    """The path at which one of the tokens can be read from here."""
    points = dict.fromkeys(["/", *(mount[2] for mount in mounts_here(me))])
    tries = 0
    for path, text in request["tokens"]:
        for point in points:
            for ending in endings(path):
                tries += 1
                if tries > MOST_TRIES:
                    raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
                here = point.rstrip("/") + ending
                if me.read(here, len(text)) == text.encode():
                    return here
    return None


def tokens(target: Target, request: Report) -> Report:
    """Can a token of the host be read with the process's root as ours?"""
    me = Self()
    join_mounts(target)
    follow_root(target)
    return {"found": find_token(me, request)}


def escape(target: Target, request: Report) -> Report:
    """The way out that chroot(2) describes: a second chroot leaves the directory outside."""
    me = Self()
    join_mounts(target)
    follow_root(target)
    made = None
    with os.scandir("/") as listing:
        first = itertools.islice(listing, MOST_NAMES)
        below = [entry.name for entry in first if entry.is_dir(follow_symlinks=False)]
    if not below:
        below, made = [f"nsdemo-check-{os.getpid()}"] * 2, f"nsdemo-check-{os.getpid()}"
        try:
            os.mkdir(made)
        except OSError:
            return {"error": "there is no directory in the root, and none can be made"}
    try:
        for name in below:
            try:
                os.chroot(name)
                break
            except OSError:
                continue
        else:
            return {"error": "no directory in the root can be entered"}
        if made is not None:
            os.rmdir(made)
            made = None
    finally:
        if made is not None:
            os.rmdir(made)
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return {"reached": identity(here), "found": find_token(me, request)}
