"""Doors: what a lower layer has an upper one do.

A plan starts itself, a container is entered, an error shows itself; none of them imports what
does it, so that no two modules need each other. They are filled at import: by who does it, or by
the package for what is loaded when it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._launch.container import Container
    from ._launch.run import CompletedProcess
    from ._plan.plan import Plan
    from ._request.given import RunOptions

start: Callable[[Plan, RunOptions], Container[Any]]
run: Callable[[Plan, RunOptions], CompletedProcess[Any]]
on_terminal: Callable[[Plan, RunOptions], CompletedProcess[Any]]
enter: Callable[..., CompletedProcess[Any]]
html: Callable[[str, Any], str]  # one of the pictures of nsdemo.notebook, and of what
