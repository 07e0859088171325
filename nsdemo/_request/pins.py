"""Pins: namespaces that stay when their last process has ended, because a file is one.

Loaded only by a call that pins.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .. import _core
from .values import CLONE_FLAGS, KEYWORDS, StrPath, absolute_path, encode_path, names_to_flags


def checked_pins(
    persist: Any, wanted: Mapping[str, Any], unshare: int, in_target: bool, fork: bool, init: bool
) -> tuple[tuple[int, bytes], ...]:
    """(CLONE_NEW* flag, absolute path) of each pin, in the order of the keywords."""
    if not isinstance(persist, Mapping):
        raise TypeError(f'persist is a mapping such as {{"net": "/run/blue"}}, not {persist!r}')
    for name in persist:
        if name not in CLONE_FLAGS:
            known = ", ".join(KEYWORDS)
            raise ValueError(f"persist: there is no namespace {name!r}: the eight are {known}")
    pins = []
    for name in (keyword for keyword in KEYWORDS if keyword in persist):
        if not unshare & CLONE_FLAGS[name]:
            here = "ours" if not wanted[name] else "joined: name what is to be joined one by one"
            raise ValueError(f"persist: {name}=True makes a new one to pin; here it is {here}")
        if name in ("pid", "time") and not fork:
            raise ValueError(f"persist: without fork=True nobody is in the new {name} namespace")
        if in_target and (name in ("pid", "user") or init or not fork):
            raise ValueError(
                "persist: in a joined mount namespace neither pid nor user can be pinned, "
                "nor anything with init=True or fork=False"
            )
        path = encode_path("persist", persist[name])
        pins.append((CLONE_FLAGS[name], absolute_path(path)))
    if len({path for _, path in pins}) < len(pins):
        raise ValueError("persist: each namespace needs a path of its own")
    return tuple(pins)


def pin_texts(name: str, path: StrPath) -> tuple[int, str, str]:
    """(CLONE_NEW* flag, file in /proc/PID/ns, absolute path) of a step."""
    names_to_flags([name])
    files = {keyword: file for keyword, file, _ in _core.NAMESPACES}
    # The command is in its new time namespace from execve on.
    file = "time_for_children" if name == "time" else files[name]
    where = absolute_path(os.fsdecode(encode_path("path", path)))
    return CLONE_FLAGS[name], file, os.path.normpath(where)
