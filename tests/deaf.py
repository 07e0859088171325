"""Peers that never answer: whoever looks up, opens, or executes something of theirs waits.

For scripts in an interpreter of their own. Each peer is a function that returns what ends the
waiting; a script that ends without it leaves nothing either.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import struct
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import (
    IS_ROOT,
    SLOW,
    become_ordinary,
    children,
    descriptors,
    eventually,
    facts_of,
    leftovers,
    snapshot,
)

from nsdemo import _core

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_PRIVATE_ALL = 0x44000
FUSE_INIT = 26

_libc = ctypes.CDLL(None, use_errno=True)


def _must(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mounts_of_our_own() -> None:
    """A mount namespace for this script; an ordinary user is root of a user namespace for it."""
    if IS_ROOT:
        _must(_libc.unshare(CLONE_NEWNS))
    else:
        uid, gid = os.getuid(), os.getgid()
        _must(_libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    _must(_libc.mount(None, b"/", None, MS_PRIVATE_ALL, None))


_leashes: list[int] = []  # other ends that let go of every server


def _serving(serve: Callable[[list[int]], None], *kept: int) -> tuple[Callable[[], None], int]:
    """A child in a process group of its own that serves until a leash is let go of: by the
    function that is returned, or by our end; and its pid."""
    leash, ours = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(ours)
        try:
            serve([leash, *_leashes])
        finally:
            os._exit(0)
    os.setpgid(pid, pid)
    for fd in (leash, *kept):
        os.close(fd)

    def end() -> None:
        os.close(ours)
        os.waitpid(pid, 0)

    return end, pid


def fuse(place: str, *, reads: bool = True) -> Callable[[], None]:
    """A file system of a server that answers nothing. Who waits for it can be killed as long as
    the server has not read what he asked."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    _must(_libc.mount(b"deaf", place.encode(), b"fuse.deaf", 6, options))

    def serve(leashes: list[int]) -> None:
        while select.select([device, *leashes], [], [])[0] == [device]:
            request = os.read(device, 1 << 17)
            _, opcode, unique = struct.unpack_from("IIQ", request)
            if opcode == FUSE_INIT:
                body = struct.pack("IIIIHHII", 7, 31, 0, 0, 12, 9, 1 << 16, 1) + bytes(36)
                os.write(device, struct.pack("IiQ", 16 + len(body), 0, unique) + body)

    def sleep(leashes: list[int]) -> None:
        select.select(leashes, [], [])

    return _serving(serve if reads else sleep, device)[0]


def automount(place: str) -> Callable[[], None]:
    """A directory whose automounter never mounts anything."""
    reading, writing = os.pipe()

    def serve(leashes: list[int]) -> None:
        os.close(writing)
        select.select(leashes, [], [])

    end, pid = _serving(serve)
    options = f"fd={writing},pgrp={pid},minproto=5,maxproto=5,direct".encode()
    _must(_libc.mount(b"deaf", place.encode(), b"autofs", 0, options))
    os.close(writing)
    os.close(reading)
    return end


def lease(file: str) -> Callable[[], None]:
    """A lease on a file, whose holder does not give it back when the kernel asks."""
    told, tells = os.pipe()

    def hold(leashes: list[int]) -> None:
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        fcntl.fcntl(os.open(file, os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)
        os.write(tells, b"x")
        select.select(leashes, [], [])

    end, _ = _serving(hold)
    os.read(told, 1)
    os.close(told)
    os.close(tells)
    return end


class Stop(Exception):
    """Raised by a signal handler."""


def _stop(*_: object) -> None:
    raise Stop


def state_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    return ""


def outcome_of(
    call: Callable[..., Any], end: Callable[[], None], *, by_signal: bool = False
) -> dict[str, Any]:
    """How a call ended that would wait for ever, in JSON; and what it left, before and after the
    peer was ended."""
    before = snapshot()
    del before["shared memory"]  # of other processes of this user
    found: dict[str, Any] = {"error": None}
    if by_signal:
        signal.signal(signal.SIGALRM, _stop)
        signal.setitimer(signal.ITIMER_REAL, 0.6)
    start = time.monotonic()
    try:
        call(**({} if by_signal else {"timeout": 0.6}))
    except BaseException as error:
        found["error"] = facts_of(error)
        found["trace"] = [step.operation for step in getattr(error, "trace", ())]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    found["seconds"] = time.monotonic() - start
    unended = _core.unended()
    found["unended"] = list(unended)
    found["states"] = [state_of(pid) for pid in unended]
    found["children"] = sorted(children() - before["children"])
    end()
    found["reaped"] = eventually(lambda: not _core.unended())
    before["children"] &= children()  # the peer has gone, and what held it
    now = descriptors()
    before["descriptors"] = {fd: of for fd, of in before["descriptors"].items() if fd in now}
    found["left"] = leftovers(before)
    return found


PEERS: dict[str, Callable[[str], Callable[[], None]]] = {
    "deaf": fuse,
    "asleep": lambda place: fuse(place, reads=False),
    "automount": automount,
}


def outcomes(
    cases: dict[str, Callable[[str], Callable[..., Any]]],
    peer: str,
    *,
    ordinary: bool = False,
    by_signal: bool = False,
) -> dict[str, Any]:
    """outcome_of each case, all of them at once: in a fork with a peer of its own, whose place
    the case is told."""

    def of(case: Callable[[str], Callable[..., Any]]) -> dict[str, Any]:
        place = tempfile.mkdtemp(prefix=places, dir="/tmp")
        mounts_of_our_own()
        end = PEERS[peer](place)
        if ordinary:
            become_ordinary()
        return outcome_of(case(place), end, by_signal=by_signal)

    places = f"deaf-{os.getpid()}-"
    leash, ours = os.pipe()
    _leashes[:] = [leash]
    readers = {}
    for name, case in cases.items():
        reading, writing = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(ours)
            try:
                result = json.dumps(of(case))
            except BaseException:
                result = json.dumps(traceback.format_exc())
            os.write(writing, result.encode())
            os._exit(0)
        os.close(writing)
        readers[name] = reading, pid
    found = {}
    over = time.monotonic() + 50 * SLOW
    for name, (reading, pid) in readers.items():
        if select.select([reading], [], [], max(0, over - time.monotonic()))[0]:
            found[name] = json.loads(os.read(reading, 1 << 16))
        else:
            found[name] = "it has not come back"
            os.kill(pid, signal.SIGKILL)
        os.close(reading)
    os.close(ours)
    for _ in readers:
        os.wait()
    os.close(leash)
    _leashes.clear()
    for name in os.listdir("/tmp"):
        if name.startswith(places):  # another's would be unmounted, in its namespace
            with contextlib.suppress(OSError):
                os.rmdir(f"/tmp/{name}")
    return found
