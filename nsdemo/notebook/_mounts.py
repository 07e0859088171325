"""What one process sees mounted that another does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nsdemo import kernel

from ._card import label_of
from ._picture import Cell, Picture, clean, columns_of, escape, table, told

MOST = 600  # lines
_FEW = 60  # so many may be the same and still be shown
_MARKS = {"+": "nsd-good", "-": "nsd-bad", "=": "nsd-same"}

_INDENT = "\N{NO-BREAK SPACE}" * 2  # a path is not parted from it

_Row = tuple[str, kernel.Mount]


@told
def mounts(target: Any, against: Any = None) -> Picture:
    """What a process sees mounted that another one, by default the caller, does not.

    A line with "+" is the target's only, one with "-" the other's only, one with "=" is seen by
    both: the same directory of the same file system at the same place. Paths are those that each
    process sees, from its own root.

        >>> print(notebook.mounts(box))
        Mounts of sleep (pid ..., inside 1) against you (pid ...)
        + 2 only in sleep (pid ..., inside 1); ...

    Source: proc_pid_mountinfo(5), mount_namespaces(7).
    """
    its, ours = kernel.mounts(target), kernel.mounts(against)
    names = label_of(target), label_of(against)
    rows = _difference(its, ours)
    counts = {mark: sum(row[0] == mark for row in rows) for mark in _MARKS}
    said = [
        f"+ {counts['+']} only in {names[0]}",
        f"- {counts['-']} only in {names[1]}",
        f"= {counts['=']} in both",
    ]
    if counts["="] > _FEW:
        rows = [row for row in rows if row[0] != "="]
        said[2] += " (not listed)"
    if len(rows) > MOST:
        said.append(f"{len(rows) - MOST} more lines are not shown")
        rows = rows[:MOST]
    title = f"Mounts of {names[0]} against {names[1]}"
    notes = "; ".join(said)
    heads = ("", "mount point", "type", "source", "directory", "propagation", "options")
    lines = [_line(mark, mount, depth) for mark, mount, depth in _indented(rows)]
    text = f"{title}\n{notes}\n{columns_of([heads, *lines])}"
    words = {"+": f"only {_short(target)}", "-": f"only {_short(against)}", "=": "both"}
    shown: list[Sequence[Cell]] = [
        ((f"{mark} {words[mark]}", _MARKS[mark]), place.replace("  ", _INDENT), *rest)
        for mark, place, *rest in lines
    ]
    html = table(title, ("seen by", *heads[1:]), shown)
    return Picture(text, f"<p>{escape(notes)}</p>{html}")


def _short(target: Any) -> str:
    return "you" if target is None else f"pid {kernel.pid_of(target)}"


def _difference(its: Sequence[kernel.Mount], ours: Sequence[kernel.Mount]) -> list[_Row]:
    """Both lists as one, by path; what was mounted later at a place comes later."""
    mine = {_key(mount) for mount in ours}
    yours = {_key(mount) for mount in its}
    rows = [("+" if _key(mount) not in mine else "=", mount) for mount in its]
    rows += [("-", mount) for mount in ours if _key(mount) not in yours]
    return sorted(rows, key=lambda row: row[1].point.rstrip("/").split("/"))


def _key(mount: kernel.Mount) -> tuple[str, str, str]:
    return mount.point, mount.device, mount.root


def _indented(rows: Sequence[_Row]) -> list[tuple[str, kernel.Mount, int]]:
    """Each line with how many of the lines above it are mounts that it lies in."""
    found = []
    above: list[str] = []
    for mark, mount in rows:
        place = mount.point.rstrip("/") + "/"
        while above and (above[-1] == place or not place.startswith(above[-1])):
            above.pop()
        found.append((mark, mount, min(len(above), 12)))
        above.append(place)
    return found


def _line(mark: str, mount: kernel.Mount, depth: int) -> tuple[str, ...]:
    return (
        mark,
        "  " * depth + clean(mount.point, 60),
        clean(mount.kind, 16),
        clean(mount.source, 30),
        "" if mount.root == "/" else clean(mount.root, 40),
        clean(mount.propagation, 30) or "private",
        clean(mount.options, 40),
    )
