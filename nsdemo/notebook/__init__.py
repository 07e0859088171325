"""Pictures of containers for a notebook, and for a terminal.

Each function reads the kernel at this moment and returns a Picture: text when it is printed, HTML
with an inline SVG when a notebook shows it. A target is a Container, a pid, or whatever else
``nsdemo.namespaces`` takes. What cannot be looked at (a container that has ended, somebody else's
process) is a Picture that says so.

    >>> from nsdemo import notebook
    >>> print(notebook.card(box))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nsdemo

__all__ = [
    "Picture",
    "card",
    "id_maps",
    "keepers",
    "libraries",
    "matrix",
    "mounts",
    "ownership",
    "plan",
    "processes",
    "roots",
    "show_errors",
    "timeline",
]


class Picture:
    """Something to look at: ``str()`` for a terminal, ``_repr_html_()`` for a notebook.

    Attributes:
        text: what ``str()`` gives, before it is fitted to the encoding of the terminal.
        svg: the drawing, or None if it is a table.
    """

    text: str
    svg: str | None

    def __init__(self, text: str, html: str, svg: str | None = None) -> None:
        self.text = text
        self._html = html
        self.svg = svg

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._html


def card(*targets: Any) -> Picture:
    """A namespace card: which of the eight namespaces are shared, which are isolated.

    One target is compared with the caller, two with each other.
    """
    raise NotImplementedError


def processes(target: Any = None) -> Picture:
    """The processes of a container as a tree, each with its pid outside and its pid inside."""
    raise NotImplementedError


def timeline(source: Any) -> Picture:
    """What the kernel was asked for, in time: a lane for each process, failures marked.

    source is a trace (a tuple of Step), or whatever has one: a Container, a CompletedProcess, an
    exception.
    """
    raise NotImplementedError


def plan(plan: nsdemo.Plan) -> Picture:
    """A Plan as a numbered list of system calls, process by process."""
    raise NotImplementedError


def mounts(target: Any, against: Any = None) -> Picture:
    """What a process sees mounted that another one (the caller) does not, and the reverse."""
    raise NotImplementedError


def id_maps(target: Any = None) -> Picture:
    """The id maps of a process: arrows from ids inside to ids outside."""
    raise NotImplementedError


def roots(*targets: Any) -> Picture:
    """Each process's "/" against the "/" of its mount namespace: chroot against pivot_root."""
    raise NotImplementedError


def ownership(*targets: Any) -> Picture:
    """The tree of user namespaces, and which of the targets' namespaces each owns."""
    raise NotImplementedError


def keepers(target: Any, namespace: str) -> Picture:
    """What keeps this namespace alive: processes, descriptors, bind mounts, other namespaces."""
    raise NotImplementedError


def matrix(*targets: Any, **named: Any) -> Picture:
    """The namespaces of several containers as a table: equal letters are one namespace.

    Containers are given one by one, by keyword to name them, or as one mapping from name to target.
    """
    raise NotImplementedError


def libraries(rootfs: Any) -> Picture:
    """What each program in a Rootfs needs to start: its loader and its libraries, as a tree."""
    raise NotImplementedError


def show_errors(shell: Any) -> None:
    """Let an IPython shell show step, cause and hint below the traceback of a NamespaceError."""
    raise NotImplementedError


Named = Mapping[str, Any]
