"""What a plan keeps of the call that it comes from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .given import RunOptions


class Remembered:
    """What start(), run() and the Container of a plan need to know beside its steps.

    Attributes:
        args: the command as it was given; None: made by hand.
        options: for start() and run().
        overlay: are its changes kept?
        pinned_in: the target in whose mount namespace it pins.
        root: the directory that becomes ``/``; None: ours.
        size, terminal: of the terminal (None: the caller's); a bit for each of 0, 1, 2 that is it.
    """

    args: Sequence[Any] | None = None
    options = RunOptions()
    overlay = False
    pinned_in: Any = None
    root: str | None = None
    size: os.terminal_size | None = None
    terminal = 0

    def on_terminal(self, size: os.terminal_size | None) -> Remembered:
        """The same, and all three streams are a terminal."""
        new = Remembered()
        vars(new).update(vars(self))
        new.size, new.terminal = size, 7
        return new


BY_HAND = Remembered()
