"""What keeps a namespace alive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nsdemo import kernel

from ._picture import Picture, clean, columns_of, command, escape, table, told

_MOST = 100  # of each sort
_NOT_SEEN = {
    "pid": "A procfs that is mounted somewhere can hold it, too.",
    "ipc": "An mqueue file system that is mounted somewhere can hold it, too.",
}


@told
def keepers(target: Any, namespace: str) -> Picture:
    """What keeps this namespace alive: processes, descriptors, bind mounts, other namespaces.

    When the last of them has gone, the kernel removes the namespace. target may be a file: a
    namespace that is pinned by a bind mount, and has no process.

    Raises ValueError for a name that is no namespace.

        >>> print(notebook.keepers(box, "uts"))
        What keeps uts namespace ... alive
        what     where
        process  pid ...  sleep 60
        ...

    Source: namespaces(7), "Namespace lifetime".
    """
    found = kernel.keepers(target, namespace)
    rows = _rows(found)
    title = f"What keeps {namespace} namespace {found.identity[1]} alive"
    number = len(found.processes)
    said = [f"{number} process{'es are' if number != 1 else ' is'} in it."]
    if not rows:
        said.append("Nothing that we can see holds it.")
    elif not found.processes:
        said.append("It lives on without a process, until the last of these has gone.")
    if found.unreadable:
        words = "processes are" if found.unreadable != 1 else "process is"
        said.append(f"{found.unreadable} other {words} not ours to look at.")
    if namespace in _NOT_SEEN:
        said.append(_NOT_SEEN[namespace])
    notes = " ".join(said)
    heads = ("what", "where", "")
    text = "\n".join([title, *([columns_of([heads, *rows])] if rows else []), notes])
    html = table(title, heads, rows) if rows else f"<p><strong>{escape(title)}</strong></p>"
    return Picture(text, f"{html}<p>{escape(notes)}</p>")


def _rows(found: kernel.Keepers) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    groups: Sequence[tuple[str, Sequence[tuple[str, str]]]] = (
        ("process", [(f"pid {p.pid}", command(p.args, p.name, 60)) for p in found.processes]),
        (
            "its children will be in it",
            [(f"pid {p.pid}", command(p.args, p.name, 60)) for p in found.for_children],
        ),
        (
            "open descriptor",
            [(f"pid {pid}", f"descriptor {fd}") for pid, fd in found.descriptors],
        ),
        (
            "bind mount",
            [(clean(point, 60), f"seen by pid {pid}") for pid, point in found.mounts],
        ),
        (
            "namespace below it" if found.namespaces else "",
            [(f"{name} {inode}", "") for name, (_, inode) in found.namespaces],
        ),
    )
    for what, each in groups:
        rows += [(what, where, more) for where, more in each[:_MOST]]
        if len(each) > _MOST:
            rows.append((what, f"and {len(each) - _MOST} more", ""))
    return rows
