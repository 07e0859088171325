"""What is raised when a set-up step fails, and what every error of ours has."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from . import _doors

if TYPE_CHECKING:
    from ._plan.step import Step

Explained = TypeVar("Explained", bound=BaseException)


def printable(text: str) -> str:
    """Text that is one line and moves no cursor: a container may have chosen what is in it.

    Example:
        >>> print(nsdemo.kernel.printable("sleep\\r\\x1b[2J"))
        sleep\\r\\x1b[2J
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def whole_text(error: BaseException) -> str:
    """What an error says, and below it each hint on a line of its own."""
    return "\n".join([str(error), *getattr(error, "__notes__", ())])


def explained(error: Explained, *hints: str, trace: tuple[Step, ...] | None = None) -> Explained:
    """An error of ours that is no NamespaceError: with its hints, and with ``hint``."""
    for hint in hints:
        error.add_note(printable(hint))
    if trace is not None:
        error.trace = trace  # type: ignore[attr-defined]
    if not isinstance(error, NamespaceError):
        error.hint = whole_text(error)  # type: ignore[attr-defined]
    return error


def name_unended(error: BaseException, pids: Iterable[int]) -> None:
    """Processes that were killed and still are: nothing else is left of what was given up."""
    hints = [
        f"process {pid} was killed, but has not ended yet: the kernel waits for something, such as "
        "a file system whose server does not answer. It is reaped after that by whatever nsdemo "
        "is asked next"
        for pid in pids
    ]
    if hints or hasattr(error, "hint"):
        explained(error, *hints)


class NamespaceError(OSError):
    """The container could not be set up; the command never ran.

    It is also the built-in class of its errno: ``except PermissionError`` catches one that
    stands for EPERM. What can be done about it is a note (``__notes__``), which a traceback
    shows and ``str()`` does not.

    Attributes:
        errno: the kernel's error number.
        step: the Step that failed.
        trace: every Step that was performed, in order; the last one is ``step``.
        hint: the whole text, for a log: what ``str()`` says, and each note on a line below.

    Example:
        >>> try:
        ...     nsdemo.run(["true"], root="/nowhere")
        ... except nsdemo.NamespaceError as error:
        ...     print(error.step.operation, error.errno)
        ...     print(error.hint)
        open_root 2
        [Errno 2] open the root /nowhere: No such file or directory
        there is no /nowhere: mkdir /nowhere
    """

    step: Step
    trace: tuple[Step, ...]

    @property
    def hint(self) -> str:
        return whole_text(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: step, cause and hint."""
        return _doors.html("failure", self)

    def __reduce__(self) -> tuple[object, ...]:
        notes = tuple(getattr(self, "__notes__", ()))
        return _rebuild, (self.errno, self.strerror, self.step, self.trace, notes)


_classes: dict[type[OSError], type[NamespaceError]] = {}


def _class_of(number: int) -> type[NamespaceError]:
    """NamespaceError that is a PermissionError, too, for EPERM; and so on."""
    builtin = type(OSError(number, ""))
    if builtin is OSError:
        return NamespaceError
    if builtin not in _classes:
        body = {"__module__": "nsdemo", "__doc__": NamespaceError.__doc__}
        _classes[builtin] = type("NamespaceError", (NamespaceError, builtin), body)
    return _classes[builtin]


def _rebuild(
    number: int, text: str, step: Step, trace: tuple[Step, ...], notes: tuple[str, ...]
) -> NamespaceError:
    error = _class_of(number)(number, text)
    error.step = step
    error.trace = trace
    for note in notes:
        error.add_note(note)
    return error


def setup_failed(
    step: Step, trace: tuple[Step, ...], what: str, hints: tuple[str, ...], said: bytes = b""
) -> NamespaceError:
    """The error for a failed step: what was tried, in words, and what a program said to it."""
    text = f"{what}: {os.strerror(step.errno)}"
    if said:
        lines = said.decode("ascii", "backslashreplace").strip().splitlines()
        text = f"{text} ({'; '.join(lines)})"
    return _rebuild(step.errno, printable(text), step, trace, tuple(map(printable, hints)))


NamespaceError.__module__ = "nsdemo"
