"""A process's "/" against the "/" of its mount namespace: chroot against pivot_root."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import nsdemo
from nsdemo import kernel

from ._card import label_of
from ._picture import GREEN, GREY, RED, Picture, clean, drawing, told
from ._svg import LINE, Drawing, width_of

_MOST = 8  # targets


class _View(NamedTuple):
    """What is drawn of a target."""

    label: str
    mount: int  # the inode of its mount namespace
    is_ours: bool
    root: kernel.Root

    @property
    def where(self) -> str:
        return "our mount namespace" if self.is_ours else f"mount namespace {self.mount}"

    @property
    def said(self) -> str:
        if self.root.same:
            return "Both are one directory: whoever joins sees the same files."
        return "Two directories: who joins, or breaks out, arrives above the process's own /."


@told
def roots(*targets: Any) -> Picture:
    """The root directory of each process against the root of its mount namespace.

    pivot_root(2) moves both, so that they are one; chroot(2) moves the process's only, and the
    other one stays within reach: of whoever joins the namespace, and of a root that breaks out.
    A single target is drawn beside the caller: before and after. Takes about 30 ms a target.

    Raises TypeError without a target, or for more than eight.

        >>> print(notebook.roots(box))
        The process's / against the / of its mount namespace
        you (pid ...)
        ...

    Source: chroot(2), pivot_root(2), setns(2).
    """
    if not 1 <= len(targets) <= _MOST:
        raise TypeError(f"roots() takes 1 to {_MOST} targets, not {len(targets)}")
    shown = targets if len(targets) > 1 else (None, *targets)
    views = [_view(target) for target in shown]
    title = "The process's / against the / of its mount namespace"
    text = f"{title}\n" + "\n\n".join("\n".join(_as_lines(view)) for view in views)
    spoken = " ".join(_spoken(view) for view in views)
    return drawing(text, _draw(views).finish(title, spoken))


def _view(target: Any) -> _View:
    mount = nsdemo.namespaces(target)["mount"]
    ours = mount == nsdemo.namespaces()["mount"]
    return _View(label_of(target), mount[1], ours, kernel.root(target))


def _inode(view: _View) -> str:
    found = view.root.namespace or (view.root.identity if view.root.same else None)
    return f"inode {found[1]}" if found else "not ours to look at"


def _as_lines(view: _View) -> list[str]:
    lines = [view.label, f"  {view.where}"]
    if view.root.same:
        lines.append(f"  └─ /   {_inode(view)}: who joins arrives here, and it is the process's /")
    else:
        lines += [
            f"  └─ /   {_inode(view)}: who joins arrives here",
            f"     └─ {clean(view.root.path, 60)}   inode {view.root.identity[1]}: the process's /",
        ]
    return [*lines, f"  {view.said}"]


def _spoken(view: _View) -> str:
    path = "/" if view.root.same else clean(view.root.path, 60)
    return f"{view.label}, in {view.where}: its root is {path}. {view.said}"


def _draw(views: Sequence[_View]) -> Drawing:
    sheet = Drawing()
    x = 0.0
    for view in views:
        x += _draw_one(sheet, view, x) + 24
    return sheet


def _draw_one(sheet: Drawing, view: _View, x: float) -> float:
    """One target, at x; returns how wide it is."""
    path = clean(view.root.path, 40)
    own = f"inode {view.root.identity[1]}"
    verdict = "one directory" if view.root.same else "two directories"
    words = [view.label, view.where, "and it is the process's /", f"{path}  {own}"]
    size = max(width_of(word) for word in words) + 48
    colour = GREY if view.is_ours else GREEN
    height = 30 + 2 * 64 + LINE
    sheet.text(x, 16, view.label, bold=True)
    sheet.box(
        x, 26, size, height, colour=colour, dashed=view.is_ours, filled=False, kind="nsd-mntns"
    )
    sheet.text(x + 10, 45, view.where, faint=True)
    top = 56.0
    wide = size - 20
    if view.root.same:
        sheet.box(x + 10, top, wide, 116, colour=GREEN, thick=True, kind="nsd-one")
        sheet.text(x + 20, top + 39, f"/  {_inode(view)}")
        sheet.text(x + 20, top + 63, "who joins arrives here,", faint=True)
        sheet.text(x + 20, top + 83, "and it is the process's /", faint=True)
    else:
        sheet.box(x + 10, top, wide, 48, thick=True, kind="nsd-two")
        sheet.text(x + 20, top + 19, f"/  {_inode(view)}")
        sheet.text(x + 20, top + 39, "who joins arrives here", faint=True)
        sheet.line([(x + 30, top + 48), (x + 30, top + 68)], colour=RED, thick=True, arrow=True)
        sheet.text(x + 42, top + 63, "chroot", faint=True)
        kind = "nsd-process-root"
        sheet.box(x + 10, top + 68, wide, 48, colour=RED, dashed=True, thick=True, kind=kind)
        sheet.text(x + 20, top + 87, f"{path}  {own}")
        sheet.text(x + 20, top + 107, "the process's /", faint=True)
    sheet.text(x + 10, top + 138, verdict, bold=True)
    return size
