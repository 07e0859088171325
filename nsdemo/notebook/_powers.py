"""What processes may do, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nsdemo import kernel

from ._card import label_of
from ._picture import Cell, Picture, columns_of, table, told

_SETS = ("effective", "permitted", "bounding", "inheritable", "ambient")


@told
def power(*targets: Any) -> Picture:
    """The power of processes as a grid: a row for each capability, a column for each process.

    The first column is the caller's. "yes" is effective; with "ambient" any program keeps it, root
    or not. "permitted" can be made effective, "inheritable" is kept by a program that wants it.
    "no, may gain" is in the bounding set: a setuid program could still give it. The last column
    says in which rows the processes differ; the last rows are seccomp's mode and no_new_privs.

        >>> print(notebook.power(box))
        Power of you (pid ...) and sleep (pid ..., inside 1)
        ...
        no_new_privs no no same

    Source: capabilities(7), seccomp(2), prctl(2).
    """
    sides: list[Any] = [None, *targets]
    labels = [label_of(target) for target in sides]
    powers = [kernel.power(target) for target in sides]
    compared = len(sides) > 1
    heads = ("", *labels, *(("",) if compared else ()))
    rows = [(name, [_cell(name, each) for each in powers]) for name in _names(powers)]
    rows.append(("seccomp", [each.seccomp or "not known" for each in powers]))
    rows.append(("no_new_privs", ["yes" if each.no_new_privs else "no" for each in powers]))
    texts: list[Sequence[str]] = [heads]
    shown: list[Sequence[Cell]] = []
    for name, cells in rows:
        differ = len(set(cells)) > 1
        word = ("differs" if differ else "same",) if compared else ()
        kind = "nsd-good" if differ else "nsd-same"
        texts.append((name, *cells, *word))
        shown.append((name, *((cell, kind if compared else "") for cell in cells), *word))
    title = f"Power of {' and '.join(labels)}"
    return Picture(f"{title}\n{columns_of(texts)}", table(title, heads, shown))


def _names(powers: Sequence[kernel.Power]) -> list[str]:
    """Every capability that anybody has in any set, in the kernel's order."""
    found = {name for each in powers for kind in _SETS for name in getattr(each, kind)}
    return sorted(found, key=_order)


def _order(name: str) -> tuple[int, str]:
    known = kernel.CAPABILITIES
    return (known.index(name) if name in known else len(known), name)


def _cell(name: str, power: kernel.Power) -> str:
    if name in power.ambient:
        return "yes, ambient"
    if name in power.effective:
        return "yes"
    if name in power.permitted:
        return "permitted"
    if name in power.inheritable:
        return "inheritable"
    if name in power.bounding:
        return "no, may gain" if not power.no_new_privs else "no"
    return "no"
