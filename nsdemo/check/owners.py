"""Who is who in a user namespace, and whose a file is that its root makes.

Part of the program look.py. Sources: user_namespaces(7), memfd_create(2), unix(7).
"""

from __future__ import annotations

import os
import socket
import sys

from .going_in import join_user
from .target import Report, Target, read_at

MFD_CLOEXEC, MFD_NOEXEC_SEAL = 1, 8
_RIGHTS = (socket.SOL_SOCKET, socket.SCM_RIGHTS)


def users(target: Target, request: Report) -> Report:
    """The id maps as we see them, its ids out here, and the owner of what its root makes."""
    ours = _rows(Target(os.getpid()), "uid")
    return {
        "uid": _rows(target, "uid"),
        "gid": _rows(target, "gid"),
        "ids": [int(target.status[name].split()[1]) for name in ("Uid", "Gid")],
        "setgroups": read_at(target.process, "setgroups").strip(),
        # Root of a namespace with one id has no other to give.
        "choice": sum(count for *_, count in ours) > 1,
        "made": _made(target, request["name"].encode()),
    }


def _rows(target: Target, kind: str) -> list[list[int]]:
    """(inside, outside, count) of each line of a map, as we count."""
    lines = read_at(target.process, f"{kind}_map").split("\n")
    return [[int(number) for number in line.split()] for line in lines[:-1]]


def _made(target: Target, text: bytes) -> Report:
    """Have a file made in there by 0:0, and see whose it is out here."""
    here, there = socket.socketpair()
    child = os.fork()
    if not child:
        here.close()
        _make(target, text, there)
        os._exit(0)
    there.close()
    with here:
        said, rights, *_ = here.recvmsg(64, socket.CMSG_SPACE(4))
    os.waitpid(child, 0)
    if not rights:
        return {"error": said.decode() or "the process that the check started in it was ended"}
    fd = int.from_bytes(rights[0][2], sys.byteorder)
    found = os.fstat(fd)
    with open(fd, "rb") as file:
        file.seek(0)
        return {"uid": found.st_uid, "gid": found.st_gid, "text": file.read(64).decode("ascii")}


def _make(target: Target, text: bytes, answer: socket.socket) -> None:
    """In the child: become root in there, make a file without a name, and hand it out."""
    try:
        join_user(target.open_namespace("user"))
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        fd = _nameless()
        os.write(fd, text)
        answer.sendmsg([b"made"], [(*_RIGHTS, fd.to_bytes(4, sys.byteorder))])
    except OSError as error:
        answer.send(os.strerror(error.errno or 0).encode())


def _nameless() -> int:
    try:
        return os.memfd_create("nsdemo-check", MFD_CLOEXEC | MFD_NOEXEC_SEAL)
    except OSError:  # a kernel before 6.3 does not know the second
        return os.memfd_create("nsdemo-check", MFD_CLOEXEC)
