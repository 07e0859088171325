"""The processes of a container as a tree, each with its pid outside and inside."""

from __future__ import annotations

from typing import Any, NamedTuple

import nsdemo
from nsdemo import kernel

from ._picture import (
    GREEN,
    GREY,
    Picture,
    clean,
    columns_of,
    command,
    drawing,
    told,
)
from ._svg import LINE, Drawing, width_of

MOST = 300  # rows: more is nothing to look at
_TOP = 26
_STEP = 18  # from one level of the tree to the next, in pixels
_DEEPEST = 24  # levels that are drawn as such


class _Row(NamedTuple):
    """A line of the tree; ``above``: for each level, whether its line goes on below."""

    process: kernel.Process
    inside: str
    above: tuple[bool, ...]

    @property
    def is_outside(self) -> bool:
        return not self.inside


@told
def processes(target: Any = None) -> Picture:
    """The processes of a container as a tree, each with its pid outside and its pid inside.

    A grey first line is the process outside that has started them. A target without a pid
    namespace of its own is shown with its descendants: its pids are the same on both sides.

        >>> print(notebook.processes(box))
        Processes of sleep (pid ...). 1 process.
        outside  inside  command
        ...

    Source: pid_namespaces(7), proc_pid_status(5).
    """
    pid = kernel.pid_of(target)
    found = {each.pid: each for each in kernel.processes(target)}
    own = found[pid]
    isolated = nsdemo.namespaces(pid)["pid"] != nsdemo.namespaces()["pid"]
    if not isolated:
        found = _descendants(found, pid)
    rows = _rows(found, len(own.pids))
    inside = sum(not row.is_outside for row in rows)
    said = [f"{inside} process{'es' if inside != 1 else ''}."]
    if not isolated:
        said.append("Its pid namespace is ours: outside and inside its pids are the same.")
    if len(rows) > MOST:
        said.append(f"{len(rows) - MOST} more lines are not shown.")
    rows = rows[:MOST]
    title = f"Processes of {clean(own.name, 24)} (pid {pid})"
    notes = " ".join(said)
    svg = _draw(rows, isolated).finish(title, f"{notes} {_spoken(rows)}")
    below = f"<p>{notes}</p>" if len(said) > 1 else ""
    return drawing(f"{title}. {notes}\n{_as_text(rows)}", svg, below)


def _descendants(found: dict[int, kernel.Process], pid: int) -> dict[int, kernel.Process]:
    """A process and all that comes from it."""
    children: dict[int, list[int]] = {}
    for each in found.values():
        children.setdefault(each.parent, []).append(each.pid)
    kept: dict[int, kernel.Process] = {}
    waiting = [pid]
    while waiting:
        number = waiting.pop()
        if number in found and number not in kept:
            kept[number] = found[number]
            waiting += children.get(number, [])
    return kept


def _rows(found: dict[int, kernel.Process], depth: int) -> list[_Row]:
    """The forest in order, under the processes outside that its trees come from."""
    children: dict[int, list[kernel.Process]] = {}
    for each in sorted(found.values()):
        children.setdefault(each.parent, []).append(each)
    rows: list[_Row] = []
    for outside in sorted(set(children) - set(found)):
        starter = kernel.process(outside) if outside else None
        if starter is not None:
            rows.append(_Row(starter, "", ()))
        top = children[outside]
        waiting: list[tuple[kernel.Process, tuple[bool, ...]]] = [
            (each, (number < len(top) - 1,)) for number, each in reversed(list(enumerate(top)))
        ]
        while waiting:
            each, above = waiting.pop()
            inside = " > ".join(map(str, each.pids[depth - 1 :]))
            rows.append(_Row(each, inside, above if starter is not None else above[1:]))
            below = children.get(each.pid, ())
            waiting += [
                (child, (*above, number < len(below) - 1))
                for number, child in reversed(list(enumerate(below)))
            ]
    return rows


def _state(process: kernel.Process) -> str:
    """A word for what is odd about a process."""
    words = {"Z": "zombie", "T": "stopped", "t": "traced", "D": "waiting for a device"}
    return words.get(process.state, "")


def _called(row: _Row, limit: int = 70) -> str:
    state = _state(row.process)
    text = command(row.process.args, row.process.name, limit)
    where = " (outside)" if row.is_outside else ""
    return f"{text}{where}{f' [{state}]' if state else ''}"


def _as_text(rows: list[_Row]) -> str:
    lines = [("outside", "inside", "command")]
    for row in rows:
        above = row.above[-_DEEPEST:]
        stem = "".join("│  " if more else "   " for more in above[:-1])
        branch = ("├─ " if above[-1] else "└─ ") if above else ""
        lines.append((str(row.process.pid), row.inside or "-", f"{stem}{branch}{_called(row)}"))
    return columns_of(lines, right=(0, 1))


def _spoken(rows: list[_Row], most: int = 30) -> str:
    """The tree in sentences, for a screen reader; what is more than a few is counted."""
    said = [
        f"Outside, pid {row.process.pid}: {_called(row, 40)}."
        if row.is_outside
        else f"Pid {row.process.pid}, inside {row.inside}, child of {row.process.parent}: "
        f"{_called(row, 40)}."
        for row in rows[:most]
    ]
    if len(rows) > most:
        said.append(f"And {len(rows) - most} more.")
    return " ".join(said)


def _draw(rows: list[_Row], isolated: bool) -> Drawing:
    sheet = Drawing()
    outer = max([width_of("pid outside"), *(width_of(str(row.process.pid)) for row in rows)])
    inner = outer + 24 + max([width_of("pid inside"), *(width_of(row.inside) for row in rows)])
    tree = inner + 26
    sheet.text(outer, 16, "pid outside", anchor="end", bold=True)
    sheet.text(inner, 16, "pid inside", anchor="end", bold=True)
    sheet.text(tree, 16, "command", bold=True)
    _frame(sheet, rows, isolated, outer + 12, tree)
    bottoms: dict[int, float] = {}  # where the line below the last process of a level begins
    for number, row in enumerate(rows):
        base = _TOP + number * LINE + 16
        middle = base - 4.5
        level = min(len(row.above), _DEEPEST)
        x = tree + level * _STEP
        sheet.text(outer, base, str(row.process.pid), anchor="end", faint=row.is_outside)
        if row.inside:
            first = isolated and row.process.inner == 1
            sheet.text(inner, base, row.inside, anchor="end", bold=first, kind="nsd-inner")
        if level:
            corner = x - _STEP + 5
            start = bottoms.get(level - 1, middle)
            sheet.line([(corner, start), (corner, middle), (x - 3, middle)], kind="nsd-branch")
        bottoms[level] = base + 4
        kind = "nsd-odd" if _state(row.process) else "nsd-process"
        sheet.text(x, base, _called(row), faint=row.is_outside, kind=kind)
    return sheet


def _frame(sheet: Drawing, rows: list[_Row], isolated: bool, left: float, tree: float) -> None:
    """A box around each run of lines that are inside."""
    ends = (min(len(r.above), _DEEPEST) * _STEP + width_of(_called(r)) for r in rows if r.inside)
    width = tree + max(ends, default=0) + 10 - left
    start = None
    for number in range(len(rows) + 1):
        is_inside = number < len(rows) and not rows[number].is_outside
        if is_inside and start is None:
            start = number
        if not is_inside and start is not None:
            sheet.box(
                left,
                _TOP + start * LINE,
                width,
                (number - start) * LINE,
                colour=GREEN if isolated else GREY,
                dashed=not isolated,
                thick=isolated,
                filled=False,
                kind="nsd-isolated" if isolated else "nsd-shared",
            )
            start = None
