"""A terminal of its own for a command: both ends of it, and its size."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import socket
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from .._errors import explained
from .stdio import STDOUT, Stdio

if TYPE_CHECKING:
    from .._launch.container import Container
    from .given import Request

TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441
IUTF8 = 0o40000
_NO_DEVPTS = (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO, errno.EACCES, errno.EPERM)
_USUAL = os.terminal_size((80, 24))
_NAMES = ("stdin", "stdout", "stderr")


def checked_terminal(request: Request) -> tuple[os.terminal_size | None, int]:
    """(size or None for the caller's, which of 0, 1, 2 are the terminal: a bit for each)."""
    tty = request.tty
    if tty is not True and not isinstance(tty, os.terminal_size):
        raise TypeError(
            f"tty is True, or a size as os.terminal_size((columns, lines)), not {tty!r}"
        )
    if request.start_new_session is False or request.process_group is not None:
        raise ValueError("tty=True needs a session of its own: a session has one terminal")
    if request.input is not None:
        raise ValueError(
            "tty=True and input= may not both be used: a terminal has no end of input; "
            "write to the stdin of spawn(..., tty=True)"
        )
    which = 0
    for number, stream in enumerate((request.stdin, request.stdout, request.stderr)):
        if stream is None or (number == 2 and _follows_stdout(stream, which)):
            which |= 1 << number
    if not which:
        raise ValueError("tty=True is for those of stdin, stdout and stderr that are not given")
    return None if tty is True else checked_size(*tty), which


def _follows_stdout(stderr: Any, which: int) -> bool:
    return bool(stderr == STDOUT and which & 2)


def checked_size(columns: Any, lines: Any) -> os.terminal_size:
    for number in (columns, lines):
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"a terminal's size is two whole numbers, not {number!r}")
        if not 0 < number < 65536:
            raise ValueError(f"a terminal has 1 to 65535 columns and lines, not {number}")
    return os.terminal_size((columns, lines))


def callers_size() -> os.terminal_size:
    """The size of the terminal that we are on; 80 columns and 24 lines without one."""
    for fd in range(3):
        with suppress(OSError):
            size = os.get_terminal_size(fd)
            if size.columns and size.lines:
                return size
    return _USUAL


@contextmanager
def _as_os_error() -> Iterator[None]:
    """termios.error has an errno, and is no OSError."""
    try:
        yield
    except termios.error as error:
        raise OSError(*error.args) from None


@_as_os_error()
def set_size(fd: int, size: os.terminal_size) -> None:
    termios.tcsetwinsize(fd, (size.lines, size.columns))


@_as_os_error()
def _know_utf8(fd: int) -> None:
    """Backspace takes a character, not a byte."""
    settings = termios.tcgetattr(fd)
    settings[0] |= IUTF8
    termios.tcsetattr(fd, termios.TCSANOW, settings)


class Terminal(Stdio):
    """The standard descriptors of a command that gets a terminal.

    It is one of ours until the launcher has found that the container has a devpts of its own;
    then our end of that one has come through the socket when the command runs.
    """

    __slots__ = ("_ours", "_received", "_size", "_theirs", "_which")

    def __init__(
        self,
        size: os.terminal_size | None,
        which: int,
        stdin: Any,
        stdout: Any,
        stderr: Any,
    ) -> None:
        given = [stdin, stdout, stderr]
        for number, value in enumerate(given):
            follows = number == 2 and _follows_stdout(value, which)
            if which >> number & 1 and value is not None and not follows:
                raise ValueError(f"this plan makes {_NAMES[number]} a terminal; leave it out")
        self._ours = -1
        self._received: socket.socket | None = None
        self._which = which
        self._size = size or callers_size()
        self._theirs = -1
        super().__init__(None, None, None)
        try:
            self._open()
            for number, value in enumerate(given):
                mine = which >> number & 1
                self.child[number] = self._theirs if mine else self._take(number, value)
            self.close.append(self._theirs)
            self._theirs = -1
            self._received, sent = socket.socketpair()
            with sent:
                self.terminal = fcntl.fcntl(sent, fcntl.F_DUPFD_CLOEXEC, 3)
            self.close.append(self.terminal)
        except BaseException:
            self.close_all()
            raise

    def _open(self) -> None:
        """Open both ends of a terminal of the devpts that we see."""
        flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
        try:
            self._ours = os.open("/dev/ptmx", flags)
            fcntl.ioctl(self._ours, TIOCSPTLCK, bytes(4))
            self._theirs = fcntl.ioctl(self._ours, TIOCGPTPEER, flags)
        except OSError as error:
            self._forget()
            if error.errno == errno.ENOSPC:
                explained(error, "as many terminals as the sysctl kernel.pty.max allows are open")
            if error.errno not in _NO_DEVPTS:
                raise
            # There may be one inside. If not, the launcher will say that this is none.
            self._theirs = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            return
        _know_utf8(self._theirs)
        set_size(self._theirs, self._size)

    def _forget(self) -> None:
        for fd in (self._ours, self._theirs):
            if fd >= 0:
                os.close(fd)
        self._ours = self._theirs = -1

    def close_all(self) -> None:
        super().close_all()
        self._forget()
        if self._received is not None:
            self._received.close()

    def settle(self) -> None:
        """The command runs: find out which terminal it has."""
        assert self._received is not None
        with self._received as received:
            flags = socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
            try:
                byte, messages, _, _ = received.recvmsg(1, socket.CMSG_LEN(4), flags)
            except BlockingIOError:
                byte, messages = b"", []
        if byte and not messages:
            raise OSError(errno.EMFILE, "no descriptor is left for the command's terminal")
        for _, _, data in messages:
            self._forget()
            self._ours = int.from_bytes(data, sys.byteorder)
            set_size(self._ours, self._size)
        first, *more = [n for n in (0, 1, 2) if self._which >> n & 1][:2]
        self.parent[first], self._ours = self._ours, -1
        if first == 0 and more:
            self.parent[more[0]] = os.dup(self.parent[0])


def our_end(box: Container[Any]) -> int:
    """The descriptor of a container's terminal that is ours."""
    if not box._on_terminal:
        raise ValueError("it has no terminal: spawn(..., tty=True) gives it one")
    files: tuple[Any, ...] = (box.stdin, box.stdout, box.stderr)
    which = box._plan._remembered.terminal
    for number, file in enumerate(files):
        if which >> number & 1 and file is not None and not file.closed:
            return int(file.fileno())
    raise ValueError("our end of its terminal is closed")


class OurEnd(io.FileIO):
    """Our end of a terminal for reading. Nobody at the other end is no error, but the end."""

    def readinto(self, buffer: Any) -> int | None:
        try:
            return super().readinto(buffer)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return 0

    def readall(self) -> bytes:
        data = bytearray()
        piece = bytearray(io.DEFAULT_BUFFER_SIZE)
        while size := self.readinto(piece):
            data += piece[:size]
        return bytes(data)
