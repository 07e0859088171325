"""``nsdemo lsns``: every namespace that some process is in, read from /proc.

What an ordinary user may not read (the namespaces of other users' processes) is left out, and
counted. Processes end while one reads; that is no error.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .._errors import printable
from .._facts.processes import FILES, pids, places, process
from .._facts.targets import unreadable as not_readable

# The kernel's names, which are those of lsns(8) and /proc/PID/ns, and our keywords for them.
TYPES = {kernel: keyword for keyword, kernel in FILES.items()}
_HEADINGS = ("NS", "TYPE", "NPROCS", "PID", "INNER-PID", "USER", "COMMAND")


class Member(NamedTuple):
    """A process: its pid as we see it, and in the pid namespace that it lives in."""

    pid: int
    inner_pid: int
    user: str
    command: str


class Namespace(NamedTuple):
    """A namespace and the processes in it, the lowest pid first."""

    inode: int
    type: str
    members: tuple[Member, ...]


def list_namespaces(types: Iterable[str] = tuple(TYPES), of: int | None = None) -> list[Namespace]:
    """All namespaces with members that this user may see, by type and inode.

    types: the kernel's names ("mnt", "pid", ...). of: only the namespaces of this process.
    Raises ProcessLookupError if ``of`` has ended, PermissionError if it is not ours to look at.
    """
    wanted = tuple(types)
    own = None if of is None else _read_own(of, wanted)
    found: dict[tuple[str, int], list[int]] = {}
    for pid in pids():
        for row in _read_all(pid, wanted):
            if own is None or row in own:
                found.setdefault(row, []).append(pid)
    known: dict[int, Member | None] = {}
    rows = []
    for (kind, inode), numbers in found.items():
        members = []
        for pid in numbers:
            if pid not in known:
                known[pid] = _member(pid)
            member = known[pid]
            if member is not None:
                members.append(member)
        if members:
            rows.append(Namespace(inode, kind, tuple(members)))
    order = tuple(TYPES)
    return sorted(rows, key=lambda row: (order.index(row.type), row.inode))


def _read(place: str, types: Sequence[str]) -> dict[tuple[str, int], None]:
    """Types and inodes of the namespaces of a process, or of a thread."""
    found: dict[tuple[str, int], None] = {}
    for kind in types:
        # A kernel without this type, or it has ended.
        with suppress(FileNotFoundError, ProcessLookupError):
            found[kind, os.stat(f"{place}/ns/{kind}").st_ino] = None
    return found


def _read_all(pid: int, types: Sequence[str]) -> dict[tuple[str, int], None]:
    """Those of all threads; what has ended or is not ours to look at is in none."""
    found: dict[tuple[str, int], None] = {}
    with suppress(OSError):
        for place in places(pid):
            found |= _read(place, types)
    return found


def _read_own(pid: int, types: Sequence[str]) -> dict[tuple[str, int], None]:
    """Those of one process, which must be there and ours to look at."""
    try:
        os.stat(f"/proc/{pid}/ns")
        return _read(f"/proc/{pid}", types)
    except OSError as error:
        raise not_readable(pid, error) from None


def _member(pid: int) -> Member | None:
    found = process(pid)
    if found is None:  # it has ended meanwhile
        return None
    user = str(found.uid)
    with suppress(KeyError):
        user = pwd.getpwuid(found.uid).pw_name
    words = printable(" ".join(found.args).rstrip(" "))
    return Member(pid, found.inner, user, words or f"[{printable(found.name)}]")


def unreadable() -> int:
    """How many processes' namespaces this user may not read."""
    count = 0
    for pid in pids():
        try:
            Path(f"/proc/{pid}/ns/mnt").stat()
        except PermissionError:
            count += 1
        except OSError:
            continue
    return count


def as_json(rows: Iterable[Namespace]) -> str:
    """The rows as JSON, in the form of ``lsns --json`` with the members added."""
    listing = [
        {
            "ns": row.inode,
            "type": row.type,
            "nprocs": len(row.members),
            "pid": row.members[0].pid,
            "inner_pid": row.members[0].inner_pid,
            "user": row.members[0].user,
            "command": row.members[0].command,
            "members": [{"pid": m.pid, "inner_pid": m.inner_pid} for m in row.members],
        }
        for row in rows
    ]
    return json.dumps({"namespaces": listing}, indent=3, ensure_ascii=True)


def as_table(rows: Iterable[Namespace], width: int | None = None, every: bool = False) -> str:
    """The rows as a table, cut to ``width`` columns; every: a line for each member."""
    lines: list[tuple[str, ...]] = [_HEADINGS]
    for row in rows:
        for number, member in enumerate(row.members if every else row.members[:1]):
            first = (str(row.inode), row.type, str(len(row.members))) if not number else ("",) * 3
            lines.append(
                (*first, str(member.pid), str(member.inner_pid), member.user, member.command)
            )
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS) - 1)]
    right = {0, 2, 3, 4}
    text = []
    for line in lines:
        cells = [
            cell.rjust(size) if column in right else cell.ljust(size)
            for column, (cell, size) in enumerate(zip(line[:-1], widths, strict=True))
        ]
        text.append(" ".join([*cells, line[-1]])[:width].rstrip())
    return "\n".join(text)


def main(words: Sequence[str]) -> int:
    """``nsdemo lsns``: print the list and return the exit status."""
    from ..flags import Parser, number

    kinds = {**{kernel: kernel for kernel in TYPES}, **{word: key for key, word in TYPES.items()}}
    parser = Parser(
        "lsns",
        "[OPTION...] [PID]",
        "List the namespaces that this user may see: how many processes are in each,\n"
        "and the lowest of their pids, here and in its own pid namespace (INNER-PID).",
        "",
    )
    parser.add_argument(
        *("-t", "--type"),
        action="append",
        choices=tuple(kinds),
        metavar="TYPE",
        help=f"only {', '.join(TYPES)}; repeatable",
    )
    parser.add_argument("-J", "--json", action="store_true", help="print JSON")
    parser.add_argument("-m", "--members", action="store_true", help="a line for every process")
    parser.add_argument(
        "pid", nargs="?", type=number, default=None, help="only the namespaces of this process"
    )
    given = vars(parser.parse_args(words))
    types = tuple(kinds[name] for name in given.get("type", TYPES))
    rows = list_namespaces(types, given["pid"])
    if "json" in given:
        print(as_json(rows))
        return 0
    width = os.get_terminal_size(1).columns if os.isatty(1) else None
    print(as_table(rows, width, "members" in given))
    left_out = unreadable()
    if left_out:
        print(
            f"nsdemo: left out, not yours to look at: {left_out} of the processes", file=sys.stderr
        )
    return 0
