"""Two tables of /proc as text: mountinfo and the id maps. Whoever reads one knows whose it is."""

from __future__ import annotations

import re
from typing import NamedTuple

IdMap = tuple[tuple[int, int, int], ...]  # (first id inside, first id outside, how many)


class Mount(NamedTuple):
    """One line of /proc/PID/mountinfo, as proc_pid_mountinfo(5) names its fields.

    number, parent  the mount, and the mount that it is on
    device          "major:minor" of the file system
    root            the directory of the file system that is seen at ``point``
    options         of this mount; ``super_options`` are those of the file system
    propagation     "shared:N", "master:N", ..., "" if private
    """

    number: int
    parent: int
    device: str
    root: str
    point: str
    options: str
    propagation: str
    kind: str
    source: str
    super_options: str


def _is_number(word: str) -> bool:
    """As the kernel writes them: no sign, and other digits than ours are none."""
    return word.isascii() and word.isdecimal() and len(word) < 20


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text)


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """Read a mountinfo file; lines that are none are left out.

    Only a newline ends a line: what else Python takes for the end of one, the kernel leaves in
    the name of a mount point as it is.

    Example:
        >>> with open("/proc/self/mountinfo") as file:
        ...     kernel.parse_mountinfo(file.read()) == kernel.mounts()
        True

    Source: proc_pid_mountinfo(5).
    """
    found = []
    for line in text.split("\n"):
        left, _, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if len(fields) >= 6 and len(tail) >= 2 and all(map(_is_number, fields[:2])):
            number, parent = int(fields[0]), int(fields[1])
            paths = (_unescaped(fields[3]), _unescaped(fields[4]))
            propagation = " ".join(fields[6:])
            kind, source = tail[0], _unescaped(tail[1])
            extra = _unescaped(" ".join(tail[2:]))
            found.append(
                Mount(
                    number, parent, fields[2], *paths, fields[5], propagation, kind, source, extra
                )
            )
    return tuple(found)


def parse_id_map(text: str) -> IdMap:
    """Read an id map as /proc/PID/uid_map shows it; lines that are none are left out."""
    rows = [line.split() for line in text.splitlines()]
    return tuple(
        (int(row[0]), int(row[1]), int(row[2]))
        for row in rows
        if len(row) == 3 and all(map(_is_number, row))
    )
