"""A program: look at one process from outside and from inside, and report in JSON.

It runs in a fresh ``python -I -S`` (see COMMAND), so that nothing which a learner changed in his
own interpreter can reach it. What it enters may be hostile. Therefore:

- it cannot be read through /proc (PR_SET_DUMPABLE 0), and joins no pid namespace;
- it imports nothing once it may be inside;
- whatever it needs of /proc it opens before it enters; nothing inside is executed;
- files inside are opened only after O_PATH has shown a regular one, and read up to a limit;
- each part that goes in runs in a child of its own, for a process cannot leave what it has joined.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from .births import birth, proc
from .going_in import Self
from .mappings import mapped
from .names import hostname, pinned
from .owners import users
from .places import MOST_MOUNTS, escape, joined, tokens
from .target import Report, Target, identity, libc, mounts_of, namespaces_of, read_at, status_of

PR_SET_DUMPABLE = 4

_PACKAGES = str(Path(__file__).resolve().parents[2])
_CODE = f"import sys; sys.path.append({_PACKAGES!r}); from nsdemo.check.look import main; main()"
COMMAND = ("-I", "-S", "-c", _CODE)
"""The arguments of Python that run this program; the request is the last one."""

PARTS = {
    "joined": joined,
    "tokens": tokens,
    "escape": escape,
    "mapped": mapped,
    "users": users,
    "hostname": hostname,
    "pinned": pinned,
}
FROM_OUTSIDE = {"proc": proc, "birth": birth}


def find(pid: int) -> Target | Report:
    """The target, or why it cannot be looked at."""
    try:
        status = status_of(os.open(f"/proc/{pid}", os.O_PATH | os.O_CLOEXEC))
    except (FileNotFoundError, ProcessLookupError):
        return {"gone": f"there is no process {pid}: it has ended, or never was"}
    if status["State"][0] in "ZX":
        return {"gone": f"process {pid} has ended"}
    try:
        return Target(pid)
    except (FileNotFoundError, ProcessLookupError):
        return {"gone": f"process {pid} has ended"}
    except PermissionError:
        pass
    # nsdemo's init hides from everybody, its owner included; the command under it does not.
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
            return Target(int(children.read().split()[0]))
    except (OSError, IndexError):
        uid = status["Uid"].split()[1]
        mine = os.geteuid()
        return {"refused": f"process {pid} belongs to uid {uid}; you are uid {mine}"}


def answer_of(part: Callable[[Target, Report], Report], target: Target, request: Report) -> Report:
    """What a part finds, or what went wrong."""
    try:
        return part(target, request)
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "error")
        return {"error": f"{os.strerror(error.errno or 0)} ({name})"}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def in_child(part: str, target: Target, request: Report) -> Report:
    """One part of the look, in a process that goes in and does not come back."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        # Soon a path of Python's library is a path of theirs: no module is loaded from now on,
        # not even to print a traceback.
        sys.meta_path.clear()
        answer = answer_of(PARTS[part], target, request)
        with open(write_end, "wb") as file:
            file.write(json.dumps(answer).encode())
        os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as file:
        text = file.read()
    os.waitpid(child, 0)
    answer = json.loads(text) if text else {"error": "the look was ended from inside"}
    return dict(answer)


def look(request: Report) -> Report:
    """The whole report: about the caller, the process, and the parts asked for."""
    me = Self()
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    report: Report = {
        "caller": {
            "namespaces": namespaces_of(me.process),
            "root": identity(root),
            "pids": status_of(me.process)["NSpid"].split(),
            "mounts": me.mounts(),
        }
    }
    target = find(request["pid"])
    if not isinstance(target, Target):
        return report | target
    report |= {
        "pid": target.pid,
        "namespaces": target.namespaces,
        "pids": target.status["NSpid"].split(),
        "name": target.status["Name"],
        "root": identity(target.root),
    }
    report["mounts"] = mounts_of(read_at(target.process, "mountinfo"))
    if len(report["mounts"]) > MOST_MOUNTS:
        return report | {"refused": f"process {target.pid} has too many mounts to be looked at"}
    for part in request["parts"]:
        outside = FROM_OUTSIDE.get(part)
        report[part] = (
            answer_of(outside, target, request) if outside else in_child(part, target, request)
        )
    target.status = status_of(target.process)  # it may have ended while we looked
    return report | ({"gone": f"process {target.pid} has ended"} if target.ended else {})


def main() -> None:
    """Read the request, print the report."""
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    try:
        report = look(json.loads(sys.argv[1]))
    except (FileNotFoundError, ProcessLookupError):
        report = {"gone": "the process ended while it was looked at"}
    print(json.dumps(report))
