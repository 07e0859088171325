"""Why the kernel refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


def diagnose(step: Any, core: Any, trace: Sequence[Any]) -> Iterator[str]:
    """Hints."""
    yield from ()
