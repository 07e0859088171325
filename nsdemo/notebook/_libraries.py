"""What each program in a root needs to start: its loader and its libraries, as a tree."""

from __future__ import annotations

import os
from typing import NamedTuple

from ._elf import NOTHING, Needs, needs_of
from ._picture import GREEN, GREY, RED, Picture, clean, drawing, notice, told
from ._svg import LINE, Drawing, width_of

_MOST_FILES = 5000
_MOST_PROGRAMS = 30
_MOST_LINES = 250
_PROGRAMS = ("bin", "sbin")  # the directories that programs lie in
_STEP = 22


class _Line(NamedTuple):
    """A line of the tree: kind is "program", "loader", "library", "again" or "missing"."""

    depth: int
    kind: str
    name: str
    path: str


class _Tree(NamedTuple):
    """The files of a root: what each needs, the links to it, and where a name is found."""

    needs: dict[str, Needs]
    links: dict[str, list[str]]
    named: dict[str, str]


@told
def libraries(rootfs: str | os.PathLike[str]) -> Picture:
    """What each program in a root directory needs to start, as a tree.

    Read from the files themselves: the loader that a program names, the libraries that it names,
    those that these name, and so on. What is not in the root is marked as missing: then the
    command ends with "not found" before it begins.

        >>> with nsdemo.Rootfs.from_host(["bash", "cat"]) as root:
        ...     print(notebook.libraries(root))
        Programs of ..., and what they need to start
        bash ...

    Source: ld.so(8), elf(5).
    """
    root = os.fspath(rootfs)
    tree = _read(root)
    lines, missing, left_out = _lines(tree)
    if not lines:
        return notice(f"There is no program in {root}: nothing in a bin or sbin directory.")
    programs = sum(line.kind == "program" for line in lines)
    title = f"Programs of {clean(root, 60)}, and what they need to start"
    said = f"{programs} program{'s' if programs != 1 else ''}"
    said += f"; missing: {', '.join(sorted(missing))}." if missing else "; nothing is missing."
    if left_out:
        said += f" {left_out} more lines are not shown."
    shown = [_text(line) for line in lines]
    text = "\n".join([title, *_with_branches(lines, shown), said])
    spoken = clean(" ".join([said, *(f"{words}." for words in shown[:60])]), 6000)
    return drawing(text, _draw(lines, shown, said).finish(title, spoken))


def _read(root: str) -> _Tree:
    tree = _Tree({}, {}, {})
    budget = _MOST_FILES
    for folder, folders, names, fd in os.fwalk(root, follow_symlinks=False):
        inside = "/" + os.path.relpath(folder, root).removeprefix(".")
        inside = inside.rstrip("/")
        if inside in ("/proc", "/sys", "/dev"):
            folders.clear()
            continue
        folders.sort()
        for name in sorted(names):
            budget -= 1
            if budget < 0:
                return tree
            path = f"{inside}/{name}"
            try:
                target = os.readlink(name, dir_fd=fd)
            except OSError:
                needs = needs_of(fd, name)
                if needs != NOTHING:
                    tree.needs[path] = needs
                    tree.named.setdefault(name, path)
                continue
            tree.links.setdefault(os.path.normpath(os.path.join(inside, target)), []).append(path)
    _follow(tree)
    return tree


def _follow(tree: _Tree) -> None:
    """Let the names of links lead to the files behind them."""
    for target, links in tree.links.items():
        path = target if target in tree.needs else tree.named.get(os.path.basename(target), "")
        for link in links if path else ():
            tree.named.setdefault(os.path.basename(link), path)


def _lines(tree: _Tree) -> tuple[list[_Line], set[str], int]:
    programs = [
        path for path in sorted(tree.needs) if os.path.basename(os.path.dirname(path)) in _PROGRAMS
    ]
    lines: list[_Line] = []
    missing: set[str] = set()
    for program in programs[:_MOST_PROGRAMS]:
        needs = tree.needs[program]
        names = _other_names(tree, program)
        lines.append(_Line(0, "program", os.path.basename(program), program + names))
        _below(tree, needs, 1, lines, missing, set())
    left_out = max(0, len(lines) - _MOST_LINES) + max(0, len(programs) - _MOST_PROGRAMS)
    return lines[:_MOST_LINES], missing, left_out


def _other_names(tree: _Tree, program: str) -> str:
    others = [
        os.path.basename(link)
        for target, links in tree.links.items()
        if target == program
        for link in links
    ]
    others = sorted({name for name in others if name != os.path.basename(program)})
    if not others:
        return ""
    listed = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    return f", also called {listed}"


def _below(
    tree: _Tree, needs: Needs, depth: int, lines: list[_Line], missing: set[str], seen: set[str]
) -> None:
    """What is needed, below the line of who needs it; each once for a program."""
    wanted = [("loader", needs.interpreter)] if needs.interpreter and depth == 1 else []
    if needs.kind == "script":
        wanted = [("interpreter", needs.interpreter)]
    wanted += [("library", name) for name in needs.libraries]
    for kind, name in wanted:
        if len(lines) > 4 * _MOST_LINES:
            return
        path = tree.named.get(os.path.basename(name), "")
        short = clean(name, 60)
        if not path:
            missing.add(short)
            lines.append(_Line(depth, "missing", short, kind))
        elif path in seen:
            lines.append(_Line(depth, "again", short, path))
        else:
            seen.add(path)
            lines.append(_Line(depth, kind, short, path))
            if depth < 20:
                deeper = tree.needs[path]
                if kind == "interpreter":
                    _below(tree, deeper, 1, lines, missing, seen)
                else:
                    _below(tree, deeper, depth + 1, lines, missing, seen)


def _text(line: _Line) -> str:
    path = clean(line.path, 90)
    if line.kind == "missing":
        return f"{line.name}: MISSING ({path})"
    if line.kind == "again":
        return f"{line.name} (see above)"
    if line.kind == "program":
        return f"{clean(line.name, 60)}  {path}"
    return f"{line.name}  {line.kind} {path if path != line.name else ''}".rstrip()


def _with_branches(lines: list[_Line], shown: list[str]) -> list[str]:
    return [
        "   " * line.depth + ("└─ " if line.depth else "") + text
        for line, text in zip(lines, shown, strict=True)
    ]


def _draw(lines: list[_Line], shown: list[str], said: str) -> Drawing:
    sheet = Drawing()
    colours = {"program": GREEN, "missing": RED}
    bottoms: dict[int, float] = {}
    for number, (line, text) in enumerate(zip(lines, shown, strict=True)):
        y = number * (LINE + 4)
        x = line.depth * _STEP
        middle = y + LINE / 2
        if line.depth:
            corner = x - _STEP + 8
            start = bottoms.get(line.depth - 1, y)
            sheet.line([(corner, start), (corner, middle), (x, middle)], kind="nsd-branch")
        sheet.box(
            x,
            y,
            width_of(text) + 14,
            LINE,
            colour=colours.get(line.kind, GREY),
            dashed=line.kind in ("again", "missing"),
            thick=line.kind in ("program", "missing"),
            filled=line.kind != "again",
            kind=f"nsd-{line.kind}",
        )
        bold = line.kind in ("program", "missing")
        sheet.text(x + 7, y + 16, text, bold=bold, faint=line.kind == "again", kind="nsd-name")
        bottoms[line.depth] = y + LINE
    sheet.text(0, len(lines) * (LINE + 4) + 16, said, faint=True)
    return sheet
