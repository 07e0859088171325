"""The namespace card, and the matrix of several containers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import nsdemo
from nsdemo import kernel

from ._picture import (
    GREEN,
    GREY,
    Cell,
    Picture,
    clean,
    columns_of,
    drawing,
    table,
    told,
)
from ._svg import Drawing, width_of

# What each kind is about, in a beginner's words.
ABOUT = {
    "mount": "what is mounted where",
    "uts": "the host name",
    "ipc": "System V IPC, message queues",
    "pid": "process numbers",
    "net": "network devices, ports",
    "user": "user and group ids, power",
    "cgroup": "the root of /proc/PID/cgroup",
    "time": "boot time, monotonic clock",
}
_ROW = 30
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class _Side(NamedTuple):
    """A process or namespace file of a picture."""

    label: str
    namespaces: Mapping[str, tuple[int, int]]


def label_of(target: Any) -> str:
    """What a target is called: "sh (pid 17, inside 1)"."""
    if target is None:
        return f"you (pid {os.getpid()})"
    try:
        found = kernel.process(kernel.pid_of(target))
    except ValueError:
        return clean(target, 30)
    if found is None:
        return clean(target, 30)
    inside = f", inside {found.inner}" if len(found.pids) > 1 else ""
    return f"{clean(found.name, 16)} (pid {found.pid}{inside})"


def _side(target: Any) -> _Side:
    namespaces = nsdemo.namespaces(target)
    return _Side(label_of(target), namespaces)


@told
def card(*targets: Any) -> Picture:
    """A namespace card: which of the eight namespaces are shared, and which are isolated.

    One target is compared with the caller, two with each other; without a target it shows the
    caller's own. A shared namespace is one grey box across both columns, an isolated one is a
    green box of its own.

    Raises TypeError for more than two targets: that is ``matrix``.

        >>> print(notebook.card(box))
        namespace  you (pid ...)  sleep (pid ..., inside 1)            is about
        mount ... isolated  what is mounted where
        ...

    Source: namespaces(7).
    """
    if len(targets) > 2:
        raise TypeError(f"a card shows one or two targets, not {len(targets)}; see matrix()")
    if not targets:
        return _own(_side(None))
    sides = [_side(target) for target in targets]
    if len(sides) == 1:
        sides.insert(0, _side(None))
    return _compare(*sides)


def _own(side: _Side) -> Picture:
    heads = ("namespace", "inode", "is about")
    rows = [(name, str(inode), ABOUT[name]) for name, (_, inode) in side.namespaces.items()]
    title = f"Namespaces of {side.label}"
    return Picture(f"{title}\n{columns_of([heads, *rows])}", table(title, heads, rows))


def _compare(left: _Side, right: _Side) -> Picture:
    names = [name for name in left.namespaces if name in right.namespaces]
    rows = [
        (name, left.namespaces[name], right.namespaces[name]) for name in ABOUT if name in names
    ]
    shared = [name for name, mine, its in rows if mine == its]
    isolated = [name for name, mine, its in rows if mine != its]
    title = f"Namespaces: {left.label} and {right.label}"
    said = f"Shared: {', '.join(shared) or 'none'}. Isolated: {', '.join(isolated) or 'none'}."
    heads = ("namespace", left.label, right.label, "", "is about")
    text = columns_of(
        [
            heads,
            *(
                (
                    name,
                    str(mine[1]),
                    str(its[1]),
                    "shared" if mine == its else "isolated",
                    ABOUT[name],
                )
                for name, mine, its in rows
            ),
        ]
    )
    return drawing(text, _draw(left.label, right.label, rows).finish(title, said))


def _draw(
    left: str, right: str, rows: list[tuple[str, tuple[int, int], tuple[int, int]]]
) -> Drawing:
    sheet = Drawing()
    size = max(width_of(left), width_of(right), width_of("4026531840 isolated")) + 20
    gap = 16
    start = width_of("namespace") + 10
    second = start + size + gap
    about = second + size + 16
    sheet.text(0, 18, "namespace", bold=True)
    sheet.text(start + size / 2, 18, left, anchor="middle", bold=True)
    sheet.text(second + size / 2, 18, right, anchor="middle", bold=True)
    sheet.text(about, 18, "is about", bold=True)
    for number, (name, mine, its) in enumerate(rows):
        top = 30 + number * _ROW
        base = top + 17
        sheet.text(0, base, name)
        if mine == its:
            sheet.box(start, top, 2 * size + gap, _ROW - 6, kind="nsd-shared")
            middle = start + size + gap / 2
            sheet.text(middle, base, f"{mine[1]} shared", anchor="middle")
        else:
            sheet.box(start, top, size, _ROW - 6, filled=False, colour=GREY, kind="nsd-left")
            sheet.text(start + size / 2, base, str(mine[1]), anchor="middle")
            sheet.box(second, top, size, _ROW - 6, colour=GREEN, thick=True, kind="nsd-isolated")
            sheet.text(second + size / 2, base, f"{its[1]} isolated", anchor="middle")
        sheet.text(about, base, ABOUT[name], faint=True)
    return sheet


@told
def matrix(*targets: Any, **named: Any) -> Picture:
    """The namespaces of several containers as a table: the same letter is the same namespace.

    The first column is the caller's. Containers are given one by one, by keyword to name them, or
    as one mapping from name to target.

        >>> with nsdemo.spawn(["sleep", "60"], net=box) as web:
        ...     print(notebook.matrix(pause=box, web=web))
        Namespaces: in a row, the same letter is the same namespace
        namespace  you  pause  web
        mount      A ...  B ...  C ...
        ...

    Source: namespaces(7).
    """
    sides = [_Side("you", nsdemo.namespaces())]
    given: list[tuple[str | None, Any]] = []
    for target in targets:
        if isinstance(target, Mapping):
            given += [(clean(name, 24), each) for name, each in target.items()]
        else:
            given.append((None, target))
    given += [(clean(name, 24), each) for name, each in named.items()]
    if not given:
        raise TypeError("matrix() needs a container, or a mapping from names to containers")
    sides += [_Side(name or label_of(each), nsdemo.namespaces(each)) for name, each in given]
    heads = ("namespace", *(side.label for side in sides))
    rows = [(name, *_letters([side.namespaces.get(name) for side in sides])) for name in ABOUT]
    title = "Namespaces: in a row, the same letter is the same namespace"
    shown: list[Sequence[Cell]] = [
        (name, *((cell, _KINDS.get(cell[:2], "nsd-good")) for cell in cells))
        for name, *cells in rows
    ]
    return Picture(f"{title}\n{columns_of([heads, *rows])}", table(title, heads, shown))


_KINDS = {"A ": "nsd-same", "-": ""}


def _letters(identities: list[tuple[int, int] | None]) -> list[str]:
    """A letter and the inode for each namespace of a row; "-" where the kernel lacks it."""
    known: dict[tuple[int, int], str] = {}
    cells = []
    for identity in identities:
        if identity is None:
            cells.append("-")
            continue
        number = len(known)
        letter = _LETTERS[number] if number < len(_LETTERS) else str(number + 1)
        cells.append(f"{known.setdefault(identity, letter)} {identity[1]}")
    return cells
