"""A step in words, with a hint: what ``operations.py`` says of its kind, ``_why`` of this one.

``system_call`` shows a step as strace would, ``describe`` says it as a sentence's subject, and
``hints_for`` finds out why the kernel refused. Nothing here changes anything; probing by doing is
doctor's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import _core
from .notation import MS_SLAVE, Fields, Said, shown
from .operations import OPERATIONS

if TYPE_CHECKING:
    from .step import Step

# Steps that mount on a target. With MS_SLAVE, they first make the mount that it lies in a slave.
MOUNTS = ("bind", "mount", "bind_at", "mount_at", "overlay_at")
_STAYS_INSIDE = 4  # NSD_STAYS_INSIDE, shown as the call that is made for it
_TABLE = {word: (numbers, texts) for word, numbers, texts in _core.OPERATIONS}


def args_of(
    operation: str, flags: int, numbers: Sequence[int], texts: Sequence[str | None]
) -> tuple[Any, ...]:
    """The args of a Step, from a step as the core has it: the texts that are there, and numbers."""
    if args := OPERATIONS[operation].args:
        return args(numbers, texts, flags)
    of_numbers, of_texts = (names.split() for names in _TABLE[operation])
    named = zip(of_texts, texts, strict=False)
    there = [text for name, text in named if name != "." and text is not None]
    last = [numbers[n] for n, name in enumerate(of_numbers) if name[0] != "."]
    if operation in MOUNTS and flags & _STAYS_INSIDE:
        last[-1] |= MS_SLAVE
    return (*there, *last)


def _names_of(operation: str, count: int) -> tuple[str, ...]:
    """The names of so many args: if they are too few, no text is there that may be absent."""
    if names := OPERATIONS[operation].names:
        return names
    numbers, texts = _TABLE[operation]
    names = tuple(name for name in f"{texts}{numbers}".split() if name[0] != ".")
    if len(names) > count:
        names = tuple(name for name in names if not name.endswith("?"))
    return tuple(name.removesuffix("?") for name in names)


def fields_of(operation: str, args: Sequence[Any]) -> Fields:
    """The args of a Step by their names; and ``place``, a target in its root."""
    if operation not in OPERATIONS:
        raise ValueError(f"there is no operation {operation}")
    names = _names_of(operation, len(args))
    found = Fields({"root": None, "path": None, "program": None, "flags": shown(0)})
    if names and names[-1][0] == "*":
        found[names[-1][1:]] = args[len(names) - 1 :]
        names = names[:-1]
        args = args[: len(names)]
    found.update(zip(names, map(shown, args), strict=True))
    if operation in MOUNTS:
        found["slave"] = found.flags & MS_SLAVE
        found["flags"] = shown(found.flags & ~MS_SLAVE)
    if "target" in found:
        place = os.path.join(found.root or "", found.target.strip("/")).rstrip("/")
        found["place"] = shown(place or "/") if found.root else found.target
    return found


def _say(said: Said, fields: Fields) -> str:
    return said.format_map(fields) if isinstance(said, str) else said(fields)


def system_call(operation: str, args: Sequence[Any]) -> str:
    """The step as the call it makes, in strace's notation."""
    fields = fields_of(operation, args)
    call = _say(OPERATIONS[operation].call, fields)
    if fields.get("slave"):
        return f"mount(NULL, mount_of({fields.place:q}), NULL, MS_SLAVE, NULL); {call}"
    return call


def describe(step: Step) -> str:
    """What was tried, as the beginning of an error message."""
    fields = fields_of(step.operation, step.args)
    return _say(OPERATIONS[step.operation].words, fields)


def purpose(step: Step) -> str:
    """What it is for, to a beginner."""
    why = OPERATIONS[step.operation].why
    return describe(step) if why is None else _say(why, fields_of(step.operation, step.args))


# A hint is a bonus: what goes wrong with it must not take the place of the error. Our own files,
# or /proc, may be out of reach here; the step of a forged plan may be like no other.
_PASSED_OVER: tuple[type[Exception], ...] = (Exception,)


def hints_for(step: Step, core: _core.Plan, trace: Sequence[Step] = ()) -> tuple[str, ...]:
    """What a beginner can do about it; empty when nothing better than the error is known."""
    try:
        from .._why.diagnosis import diagnose

        return tuple(diagnose(step, core, trace))
    except _PASSED_OVER:
        return ()
