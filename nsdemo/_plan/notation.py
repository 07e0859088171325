"""How the texts and numbers of a step are shown: what the rows of ``operations.py`` are made of.

A text: ``{name:q}`` is in quotes, as strace has it, ``{name:w}`` a word of a shell. A number:
``{flags:clone}`` and its like are names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .._request.clone_flags import CLONE_NAMES, OPTIONS, flag_names

if TYPE_CHECKING:
    from .equals import Line

MS_REC, MS_SLAVE = 0x4000, 0x80000
MOUNT_NAMES = {
    0x1: "MS_RDONLY",
    0x2: "MS_NOSUID",
    0x4: "MS_NODEV",
    0x8: "MS_NOEXEC",
    0x20: "MS_REMOUNT",
    0x1000: "MS_BIND",
    0x4000: "MS_REC",
    0x20000: "MS_UNBINDABLE",
    0x40000: "MS_PRIVATE",
    0x80000: "MS_SLAVE",
    0x100000: "MS_SHARED",
}
ATTRIBUTE_NAMES = {
    0x1: "MOUNT_ATTR_RDONLY",
    0x2: "MOUNT_ATTR_NOSUID",
    0x4: "MOUNT_ATTR_NODEV",
    0x8: "MOUNT_ATTR_NOEXEC",
}


def quoted(text: str) -> str:
    return '"' + text.encode("unicode_escape").decode().replace('"', '\\"') + '"'


def shell_word(word: str) -> str:
    """A word as a shell takes it, on one line."""
    import shlex

    if word.isprintable():
        return shlex.quote(word)
    shown = []
    for char in word:
        if char in "\\'":
            shown.append("\\" + char)
        elif char.isprintable():
            shown.append(char)
        else:
            shown += [f"\\x{byte:02x}" for byte in os.fsencode(char)]
    return f"$'{''.join(shown)}'"


def _of_power(name: str, number: int, otherwise: str) -> str:
    """Where our own files are out of reach by now, a number has to do."""
    try:
        from .._request import power
    except (ImportError, OSError):
        return otherwise
    named: str = getattr(power, name)(number)
    return named


_OF_TEXTS: dict[str, Callable[[str], str]] = {
    "q": quoted,
    "w": shell_word,
    "keyword": lambda file: {"mnt": "mount", "time_for_children": "time"}.get(file, file),
    "name": os.path.basename,
    "line": lambda text: repr(text.replace("\n", ", ")),
    "length": lambda text: str(len(text.encode())),
}
_OF_NUMBERS: dict[str, Callable[[int], str]] = {
    "clone": lambda flags: flag_names(flags, CLONE_NAMES),
    "options": lambda flags: flag_names(flags, OPTIONS, " "),
    "mount": lambda flags: flag_names(flags, MOUNT_NAMES),
    "attributes": lambda flags: flag_names(flags, ATTRIBUTE_NAMES),
    "capabilities": lambda mask: _of_power("shown_capabilities", mask, f"{int(mask):#x}"),
    "securebits": lambda mask: _of_power("securebit_names", mask, f"{int(mask):#x}"),
    "limit": lambda number: _of_power("limit_name", number, str(number)),
    "RLIMIT": lambda number: f"RLIMIT_{_of_power('limit_name', number, str(number)).upper()}",
    "octal": lambda mask: f"{int(mask):#o}",
    "infinity": lambda value: "RLIM_INFINITY" if value == -1 else str(value),
}


class _Text(str):
    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return _OF_TEXTS[spec](self) if spec in _OF_TEXTS else super().__format__(spec)


class _Number(int):
    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return _OF_NUMBERS[spec](self) if spec in _OF_NUMBERS else super().__format__(spec)


def shown(value: Any) -> Any:
    """A value that knows these formats."""
    if isinstance(value, str):
        return _Text(value)
    return _Number(value) if isinstance(value, int) else value


class Fields(dict[str, Any]):
    """What a step has, by the names that csrc/operations.def gives to it."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


Said = str | Callable[[Fields], str]
Share = str | Callable[["Line", Fields], list[str]]


class Row:
    """What is said about an operation: each a format of its fields, or a function of them.

    Attributes:
        call: the system call, in strace's notation.
        words: what is tried, as the beginning of an error message.
        why: what it is for, to a beginner; None where the words say it.
        beyond: what it does that the command line of a tool cannot; of ``tools``, "" is all.
        unshare, nsenter: its share of that command line; ids, of both, comes last.
        args: what a Step shows, of numbers, texts and flags, if it is not what the table says.
        names: of what is in those args; one with a star is all the rest.
    """

    def __init__(
        self,
        call: Said,
        words: Said,
        why: Said | None = None,
        *,
        beyond: str = "",
        tools: str = "",
        unshare: Share = "",
        nsenter: Share = "",
        ids: str = "",
        args: Callable[[Sequence[int], Sequence[Any], int], tuple[Any, ...]] | None = None,
        names: tuple[str, ...] = (),
    ) -> None:
        self.call, self.words, self.why = call, words, why
        self.beyond, self.tools = beyond, tools
        self.unshare, self.nsenter, self.ids = unshare, nsenter, ids
        self.args, self.names = args, names
