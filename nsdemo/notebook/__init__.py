"""Pictures of containers, for a notebook and for a terminal.

Each function reads the kernel at this moment and returns a Picture: text when it is printed, HTML
with an inline SVG when a notebook shows it. A target is a Container, a pid, or whatever else
``nsdemo.namespaces`` takes; None is the caller. What cannot be looked at (a container that has
ended, somebody else's process) gives a Picture that says so; a wrong argument is an exception.

    >>> from nsdemo import notebook
    >>> print(notebook.card(box))
    namespace  you (pid ...)  sleep (pid ..., inside 1)            is about
    mount ... isolated  what is mounted where
    ...

Containers, results, plans, the doctor's findings and NamespaceErrors show themselves: it is enough
to name one on the last line of a cell.
"""

from __future__ import annotations

from ._card import card, matrix
from ._keepers import keepers
from ._libraries import libraries
from ._mounts import mounts
from ._outcomes import completed, container, failure, findings, show_errors
from ._picture import Picture
from ._powers import power
from ._processes import processes
from ._roots import roots
from ._timeline import plan, timeline
from ._users import id_maps, ownership

__all__ = [
    "Picture",
    "card",
    "completed",
    "container",
    "failure",
    "findings",
    "id_maps",
    "keepers",
    "libraries",
    "matrix",
    "mounts",
    "ownership",
    "plan",
    "power",
    "processes",
    "roots",
    "show_errors",
    "timeline",
]
