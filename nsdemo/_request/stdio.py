"""The command's standard input and output: descriptors, and text in place of bytes."""

from __future__ import annotations

import codecs
import errno
import io
import os
import subprocess
from collections.abc import Sequence
from typing import Any

PIPE = subprocess.PIPE
DEVNULL = subprocess.DEVNULL
STDOUT = subprocess.STDOUT

_NAMES = ("standard input", "standard output", "standard error")


class Stdio:
    """The three standard descriptors of a command, and our ends of its pipes."""

    __slots__ = ("child", "close", "parent", "terminal")

    def __init__(self, stdin: Any, stdout: Any, stderr: Any) -> None:
        self.child = [-1, -1, -1]
        self.parent = [-1, -1, -1]
        self.close: list[int] = []  # the command's ends: ours only until it has them
        self.terminal = 0  # where the launcher sends our end of a terminal; 0: nowhere
        if stdin is None and stdout is None and stderr is None:
            return
        try:
            for number, value in enumerate((stdin, stdout, stderr)):
                self.child[number] = self._take(number, value)
        except BaseException:
            self.close_all()
            raise

    def close_all(self) -> None:
        """Close what is open; a second time finds nothing, whose number may be another's."""
        fds = (*self.close, *self.parent)
        self.close, self.parent = [], [-1, -1, -1]
        for fd in fds:
            if fd >= 0:
                os.close(fd)

    def settle(self) -> None:
        """The command runs."""

    def _take(self, number: int, value: Any) -> int:
        if value is None:
            return -1  # the core finds out if it is closed
        if value == PIPE:
            ends = os.pipe()
            ours, theirs = ends if number else ends[::-1]
            self.parent[number] = ours
            self.close.append(theirs)
            return theirs
        if value == DEVNULL:
            fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            self.close.append(fd)
            return fd
        if value == STDOUT:
            if number != 2:
                raise ValueError("STDOUT can only be given for stderr")
            return self.child[1] if self.child[1] >= 0 else 1
        fd = value if isinstance(value, int) else value.fileno()
        if not _is_open(fd, _NAMES[number]):
            raise OSError(errno.EBADF, f"{_NAMES[number]}: descriptor {fd} is not open")
        return int(fd)

    def raise_if_closed(self) -> None:
        """The core could not arrange the descriptors: is one of ours closed?"""
        for number, fd in enumerate(self.child):
            inherited = number if fd < 0 else fd
            if inherited in (0, 1, 2) and not _is_open(inherited):
                keyword = ("stdin", "stdout", "stderr")[inherited]
                raise OSError(
                    errno.EBADF,
                    f"{_NAMES[inherited]} is closed in this process, so the command cannot "
                    f"inherit it: pass {keyword}=nsdemo.DEVNULL",
                )


def _is_open(fd: int, what: str = "") -> bool:
    if not -(2**31) <= fd < 2**31:
        raise ValueError(f"{what}: {fd} is no descriptor")
    try:
        os.get_inheritable(fd)
    except OSError:
        return False
    return True


def check_pass_fds(pass_fds: Sequence[int]) -> tuple[int, ...]:
    if not pass_fds:
        return ()
    fds = sorted(set(pass_fds))
    for fd in fds:
        if isinstance(fd, bool) or not isinstance(fd, int):
            raise TypeError(f"pass_fds holds descriptors, not {type(fd).__name__}")
        if not _is_open(fd, "pass_fds"):
            raise OSError(errno.EBADF, f"pass_fds: descriptor {fd} is not open")
    return tuple(fd for fd in fds if fd > 2)


def text_settings(
    text: bool | None, encoding: str | None, errors: str | None
) -> tuple[str, str] | None:
    """(encoding, errors) of a text mode, or None for bytes; LookupError if there are none such."""
    if not (text or encoding or errors):
        return None
    settings = encoding or io.text_encoding(None), errors or "strict"
    if not codecs.lookup(_codec(settings[0]))._is_text_encoding:
        raise LookupError(f"{encoding!r} is not a text encoding")
    codecs.lookup_error(settings[1])
    return settings


def encode(data: Any, settings: tuple[str, str] | None) -> bytes | None:
    if data is None:
        return None
    if settings is None:
        if isinstance(data, str):
            raise TypeError("input is a str; pass bytes, or text=True")
        return bytes(data)
    if not isinstance(data, str):
        raise TypeError(f"input must be str in text mode, not {type(data).__name__}")
    return data.replace("\n", os.linesep).encode(_codec(settings[0]), settings[1])


def _codec(encoding: str) -> str:
    if encoding != "locale":
        return encoding
    import locale

    return locale.getencoding()


def decode(data: bytes | None, settings: tuple[str, str] | None, *, cut: bool = False) -> Any:
    """``cut``: it may end within a character, which is left out then."""
    if settings is None or data is None:
        return data
    encoding = _codec(settings[0])
    if cut:
        import codecs

        text = codecs.getincrementaldecoder(encoding)(settings[1]).decode(data)
    else:
        text = data.decode(encoding, settings[1])
    return text.replace("\r\n", "\n").replace("\r", "\n")


def as_file(
    fd: int, number: int, settings: tuple[str, str] | None, raw: type[io.FileIO] = io.FileIO
) -> Any:
    if fd < 0:
        return None
    file: Any = io.BufferedReader(raw(fd, "rb")) if number else os.fdopen(fd, "wb")
    if settings is None:
        return file
    return io.TextIOWrapper(
        file, encoding=settings[0], errors=settings[1], write_through=number == 0
    )
