"""Id maps as arrows, and who owns what."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Sequence
from typing import Any, NamedTuple

import nsdemo
from nsdemo import kernel

from ._card import label_of
from ._picture import (
    BLUE,
    GREEN,
    GREY,
    Picture,
    clean,
    drawing,
    told,
)
from ._svg import LINE, Drawing, width_of

_MOST = 40  # lines of a map; the kernel takes 340
_EVERYBODY = 2**32 - 1


@told
def id_maps(target: Any = None) -> Picture:
    """The id maps of a process's user namespace: arrows from ids inside to ids outside.

    "Outside" is the caller's user namespace; where that is the target's own, its parent. An id
    without an arrow does not exist inside; its files show as those of 65534, nobody.

        >>> print(notebook.id_maps(box))
        Id maps of sleep (pid ..., inside 1)
        uid 0 ...

    Source: user_namespaces(7).
    """
    maps = kernel.id_maps(target)
    title = f"Id maps of {label_of(target)}"
    groups = [("uid", maps.uid), ("gid", maps.gid)]
    said = [_setgroups(maps.setgroups)]
    lines = []
    for kind, rows in groups:
        if not rows:
            lines.append(f"{kind}: no map yet: every {kind} shows as 65534")
        for first, outside, count in rows[:_MOST]:
            inner, outer = _range(first, count), _named(kind, outside, count)
            lines.append(f"{kind} {inner} inside is {outer} outside")
        if len(rows) > _MOST:
            lines.append(f"{kind}: {len(rows) - _MOST} more lines are not shown")
    text = "\n".join([title, *(line.replace(" inside is ", " inside → ") for line in lines), *said])
    return drawing(text, _draw_maps(groups, said).finish(title, ". ".join([*lines, *said])))


def _setgroups(word: str) -> str:
    if word == "deny":
        return "setgroups: deny (nobody inside may drop or add groups)"
    return f"setgroups: {clean(word, 10) or 'not known'}"


def _range(first: int, count: int) -> str:
    if count == 1:
        return str(first)
    if (first, count) == (0, _EVERYBODY):
        return "0 to 4294967294 (every id)"
    return f"{first} to {first + count - 1}"


def _named(kind: str, first: int, count: int) -> str:
    """A range outside; one id with its name on this machine."""
    text = _range(first, count)
    if count > 1:
        return text
    try:
        name = pwd.getpwuid(first).pw_name if kind == "uid" else grp.getgrgid(first).gr_name
    except (KeyError, OverflowError):
        return text
    return f"{text} ({clean(name, 32)})"


def _draw_maps(groups: Sequence[tuple[str, kernel.IdMap]], said: Sequence[str]) -> Drawing:
    sheet = Drawing()
    texts = [
        (kind, _range(first, count), _named(kind, outside, count))
        for kind, rows in groups
        for first, outside, count in rows[:_MOST]
    ]
    wide = max([width_of("inside"), *(width_of(text[1]) for text in texts)]) + 20
    far = max([width_of("outside"), *(width_of(text[2]) for text in texts)]) + 20
    left, right = 40.0, 40 + wide + 110
    sheet.text(left + wide / 2, 16, "inside", anchor="middle", bold=True)
    sheet.text(right + far / 2, 16, "outside", anchor="middle", bold=True)
    y = 28.0
    for kind, rows in groups:
        sheet.text(0, y + 17, kind, bold=True)
        for first, outside, count in rows[:_MOST]:
            sheet.box(left, y, wide, 24, colour=GREEN, thick=True, kind="nsd-inside")
            inner = _range(first, count)
            sheet.text(left + wide / 2, y + 17, inner, anchor="middle", kind="nsd-inner")
            points = [(left + wide + 4, y + 12), (right - 4, y + 12)]
            sheet.line(points, colour=BLUE, thick=True, arrow=True, kind="nsd-maps")
            sheet.box(right, y, far, 24, kind="nsd-outside")
            outer = _named(kind, outside, count)
            sheet.text(right + far / 2, y + 17, outer, anchor="middle", kind="nsd-outer")
            y += 30
        if not rows:
            sheet.text(left, y + 17, "no map yet: every id shows as 65534", faint=True)
            y += 30
        if len(rows) > _MOST:
            sheet.text(left, y + 17, f"{len(rows) - _MOST} more lines are not shown", faint=True)
            y += 30
        y += 8
    for line in said:
        sheet.text(0, y + 12, line, faint=True)
        y += LINE
    return sheet


# -- ownership -------------------------------------------------------------------------------


class _Node(NamedTuple):
    """A user namespace of the tree, and what it owns: lines of text."""

    namespace: kernel.UserNamespace
    depth: int
    members: tuple[str, ...]
    owns: tuple[str, ...]


@told
def ownership(*targets: Any) -> Picture:
    """The tree of user namespaces, and which of the targets' namespaces each owns.

    The caller is always in it. Whoever has a capability in a user namespace has it over everything
    that this one owns, and over all below.

        >>> print(notebook.ownership(box))
        User namespaces, and what each owns
        user ..., made by uid ...

    Source: user_namespaces(7), ioctl_nsfs(2).
    """
    known: dict[tuple[int, int], kernel.UserNamespace] = {}
    members: dict[tuple[int, int], list[str]] = {}
    owns: dict[tuple[int, int], dict[tuple[str, tuple[int, int]], list[str]]] = {}
    hidden: list[str] = []
    for target in (None, *targets):
        label = label_of(target)
        short = "you" if target is None else f"pid {kernel.pid_of(target)}"
        namespaces = nsdemo.namespaces(target)
        known |= {each.identity: each for each in kernel.user_namespaces(target)}
        members.setdefault(namespaces["user"], []).append(label)
        for name, identity in namespaces.items():
            if name == "user":
                continue
            owner = kernel.owner(target, name)
            if owner is None:
                hidden.append(f"the owner of {name} {identity[1]} ({short}) is not ours to see")
                continue
            known.setdefault(owner.identity, owner)
            owns.setdefault(owner.identity, {}).setdefault((name, identity), []).append(short)
    nodes = _tree(known, members, owns)
    title = "User namespaces, and what each owns"
    lines = [line for node in nodes for line in _as_lines(node)]
    hidden = _summary(hidden)
    spoken = ". ".join(line.strip() for line in [*lines, *hidden])
    svg = _draw_tree(nodes, hidden).finish(title, clean(spoken, 6000))
    return drawing("\n".join([title, *lines, *hidden]), svg)


def _summary(hidden: list[str]) -> list[str]:
    if len(hidden) <= 3:
        return hidden
    return [*hidden[:3], f"and {len(hidden) - 3} more of that kind"]


def _tree(
    known: dict[tuple[int, int], kernel.UserNamespace],
    members: dict[tuple[int, int], list[str]],
    owns: dict[tuple[int, int], dict[tuple[str, tuple[int, int]], list[str]]],
) -> list[_Node]:
    """The user namespaces from the outermost down, each parent before its children."""
    nodes: list[_Node] = []
    tops = [each for each in known.values() if each.parent not in known]
    waiting = [(each, 0) for each in reversed(tops)]
    while waiting:
        each, depth = waiting.pop()
        owned = owns.get(each.identity, {})
        width = max((len(name) for name, _ in owned), default=0)
        lines = tuple(
            f"{name:<{width}} {inode}  ({', '.join(labels)})"
            for (name, (_, inode)), labels in owned.items()
        )
        nodes.append(_Node(each, depth, tuple(members.get(each.identity, ())), lines))
        below = [other for other in known.values() if other.parent == each.identity]
        waiting += [(other, depth + 1) for other in reversed(below)]
    return nodes


def _head(node: _Node) -> str:
    uid = node.namespace.uid
    return f"user {node.namespace.identity[1]}, made by uid {_named('uid', uid, 1)}"


def _as_lines(node: _Node) -> list[str]:
    indent = "    " * node.depth
    branch = indent[:-4] + "└── " if node.depth else ""
    lines = [branch + _head(node)]
    lines += [f"{indent}    member: {label}" for label in node.members]
    lines += [f"{indent}    owns {line}" for line in node.owns]
    return lines


def _draw_tree(nodes: Sequence[_Node], hidden: Sequence[str]) -> Drawing:
    sheet = Drawing()
    y = 4.0
    bottoms: dict[int, float] = {}
    ours = nsdemo.namespaces()["user"]
    for node in nodes:
        x = node.depth * 36.0
        lines = [
            *(f"member: {label}" for label in node.members),
            *(f"owns {line}" for line in node.owns),
        ]
        size = max(map(width_of, [_head(node), *lines])) + 28
        height = (len(lines) + 1) * LINE + 10
        if node.depth:
            corner = x - 18
            points = [(corner, bottoms[node.depth - 1]), (corner, y + 16), (x, y + 16)]
            sheet.line(points, thick=True, kind="nsd-child")
        own = node.namespace.identity == ours
        colour = GREY if own else GREEN
        sheet.box(x, y, size, height, colour=colour, thick=not own, kind="nsd-userns")
        sheet.text(x + 10, y + 19, _head(node), bold=True)
        for number, line in enumerate(lines, 1):
            sheet.text(
                x + 18, y + 19 + number * LINE, line, kind=f"nsd-{line.split()[0].rstrip(':')}"
            )
        bottoms[node.depth] = y + height
        y += height + 12
    for line in hidden:
        sheet.text(0, y + 14, line, faint=True)
        y += LINE
    return sheet
