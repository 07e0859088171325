"""Being the terminal of a command: keys to it, its output to the screen, in one loop.

What the command writes goes to the screen as it is, as that of any program does. Nothing else
of the caller's terminal reaches it: it has another one.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import termios
import time
import tty
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from .._facts.shown import is_deaf_to
from .._request.terminal import callers_size, our_end, set_size
from .run import timed_out

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from .container import Container

_PIECE = 16 * 1024
_MOST_TYPED = 4096  # what waits to be read inside; more is left in our terminal
_MOST_LEFT = 64 * 1024  # what a terminal may hold when the command has ended
_PATIENCE = 0.1  # seconds: for what no descriptor tells
_NO_KEY = b"\0"
_ENDING = (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)


def must_be_terminal(name: str, instead: str) -> None:
    if not os.isatty(0):
        raise OSError(
            errno.ENOTTY,
            f"{name} connects the caller's terminal, and standard input is none: {instead}",
        )


def interact(box: Container[Any], timeout: float | None) -> int:
    """What Container.interact does."""
    must_be_terminal("interact()", "read stdout and write stdin")
    try:
        return relay(box, timeout)
    except KeyboardInterrupt:
        box._process.grace()
        raise


def relay(box: Container[Any], timeout: float | None) -> int:
    """The same, also where only the screen is a terminal."""
    deadline = None if timeout is None else time.monotonic() + timeout
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    inside = our_end(box)
    try:
        loop = _Relay(box, inside)
        with _Keyboard(loop.inside, bool(loop.which & 1)) as keyboard:
            while box.poll() is None:
                if deadline is not None and time.monotonic() >= deadline:
                    raise timed_out(box.args, timeout or 0, box.trace)
                loop.serve(keyboard, deadline)
            loop.drain()
    finally:
        with suppress(OSError):
            os.set_blocking(inside, True)
    return box.wait()


class _Relay:
    """What is under way between the two terminals."""

    def __init__(self, box: Container[Any], inside: int) -> None:
        os.set_blocking(inside, False)
        self.box = box
        self.inside = inside
        self.which = box._plan._remembered.terminal
        self.screen = next((fd for fd in (1, 2, 0) if os.isatty(fd)), 1)
        self.typed = b""
        self.shown = self._read_ahead()
        self.deaf = False  # nobody has the command's end open

    def _read_ahead(self) -> bytes:
        """What a reader of our end has left in its buffer."""
        file: Any = self.box.stdout if self.which & 2 else self.box.stderr
        if file is None or file.closed:
            return b""
        return getattr(file, "buffer", file).read1(_PIECE) or b""

    def serve(self, keyboard: _Keyboard, deadline: float | None) -> None:
        """Wait until something can be done, and do it."""
        keyboard.follow()
        events: dict[int, int] = {keyboard.wake: select.POLLIN}
        if self.box.pidfd >= 0:
            events[self.box.pidfd] = select.POLLIN
        about = (0 if self.shown else select.POLLIN) | (select.POLLOUT if self.typed else 0)
        if about and not self.deaf:
            events[self.inside] = about
        if self.shown:
            events[self.screen] = select.POLLOUT
        if keyboard.taken and len(self.typed) < _MOST_TYPED:
            events[0] = events.get(0, 0) | select.POLLIN
        wait = _PATIENCE if self.deaf or self.box.pidfd < 0 or keyboard.is_elsewhere else None
        if deadline is not None:
            left = max(deadline - time.monotonic(), 0)
            wait = left if wait is None else min(wait, left)
        poll = select.poll()
        for fd, mask in events.items():
            poll.register(fd, mask)
        ready = dict(poll.poll(None if wait is None else wait * 1000 + 1))
        # With output still to be shown, a hang-up is not looked into, and would come at once again.
        self.deaf = bool(self.shown and ready.get(self.inside, 0) & select.POLLHUP)
        if keyboard.wake in ready:
            os.eventfd_read(keyboard.wake)
            return  # who has the keyboard may have changed
        if ready.get(self.screen, 0) & ~select.POLLIN and self.shown:
            self._show()
        elif ready.get(self.inside, 0) & (select.POLLIN | select.POLLHUP) and not self.shown:
            self._look()
        if ready.get(self.inside, 0) & select.POLLOUT and self.typed:
            self._type()
        if ready.get(0, 0) & ~select.POLLOUT and events.get(0, 0) & select.POLLIN:
            self._hear(keyboard)

    def _look(self) -> bool:
        """Read what the command has written; False: there is nothing more."""
        try:
            self.shown = os.read(self.inside, _PIECE)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self.deaf = True  # it may be opened again
            return False
        return bool(self.shown)

    def _show(self) -> None:
        try:
            self.shown = self.shown[os.write(self.screen, self.shown[:4096]) :]
        except BlockingIOError:  # somebody has made it so
            time.sleep(_PATIENCE)

    def _type(self) -> None:
        try:
            self.typed = self.typed[os.write(self.inside, self.typed) :]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self.typed = b""

    def _hear(self, keyboard: _Keyboard) -> None:
        try:
            keys = os.read(0, 1024)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno == errno.EIO and keyboard.look_again() is False:
                return  # somebody else's now
            raise
        if not keys:
            raise OSError(errno.EIO, "the caller's terminal has gone")
        self.typed += keys
        self._end_if_deaf(keys)

    def _end_if_deaf(self, keys: bytes) -> None:
        """Ctrl-C and Ctrl-\\ end a command; the kernel drops them for a PID 1 without handler."""
        with suppress(OSError, termios.error):
            settings = termios.tcgetattr(self.inside)
            if not settings[3] & termios.ISIG or os.tcgetpgrp(self.inside) != self.box.pid:
                return
            for index, number in ((termios.VINTR, signal.SIGINT), (termios.VQUIT, signal.SIGQUIT)):
                key = settings[6][index]
                if key != _NO_KEY and key in keys and is_deaf_to(self.box.pid, number):
                    self.box.kill()

    def drain(self) -> None:
        """What the command wrote before it ended; no more, somebody may go on writing."""
        left = _MOST_LEFT
        poll = select.poll()
        poll.register(self.inside, select.POLLIN)
        while True:
            while self.shown:
                self._show()
            if left <= 0 or not poll.poll(0) or not self._look():
                return
            left -= len(self.shown)


class _Keyboard:
    """The caller's terminal, whose keys are for the command as long as we are in its foreground.

    Signals that change that are only seen in the main thread; they wake the loop.
    """

    def __init__(self, inside: int, wanted: bool) -> None:
        self.taken = False
        self.wake = -1
        self._wanted = wanted
        self._inside = inside
        self._settings: list[Any] | None = None
        self._before: dict[int, Any] = {}
        self._ended_by = 0
        self._leaving = False

    def __enter__(self) -> _Keyboard:
        try:
            self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            # None: not set by Python. In other threads a ValueError, by the first.
            with suppress(ValueError):
                for number in _ENDING:
                    if signal.getsignal(number) is signal.SIG_DFL:
                        self._before[number] = signal.signal(number, self._end)
                for number in (signal.SIGWINCH, signal.SIGCONT):
                    self._before[number] = signal.signal(number, self._changed)
            self.look_again()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._leaving = True
        try:
            self._give_back()
        finally:
            for number, handler in self._before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            if self.wake >= 0:
                os.close(self.wake)
        if self._ended_by:
            os.kill(os.getpid(), self._ended_by)

    def look_again(self) -> bool:
        """Take the keyboard if we are in the foreground; and the size."""
        set_size_of(self._inside)
        self.taken = self._wanted and _in_foreground()
        if self.taken:
            with suppress(termios.error):
                if self._settings is None:
                    self._settings = termios.tcgetattr(0)
                tty.setraw(0, termios.TCSADRAIN)
        return self.taken

    @property
    def is_elsewhere(self) -> bool:
        """We are in the background: it may come back without a word."""
        return self._wanted and not self.taken

    def follow(self) -> None:
        if self.is_elsewhere and _in_foreground():
            self.look_again()

    def _give_back(self) -> None:
        """As it was. Keys that nobody has read are thrown away: a command may have made the
        terminal answer, and an answer must not reach the caller's shell as a command."""
        if self._settings is None or not _in_foreground():
            return
        with _undisturbed(), suppress(termios.error):
            termios.tcsetattr(0, termios.TCSAFLUSH, self._settings)
        self.taken = False

    def _changed(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGCONT:
            self.look_again()
            os.eventfd_write(self.wake, 1)
        else:
            set_size_of(self._inside)
        before = self._before.get(number)
        if callable(before):
            before(number, frame)

    def _end(self, number: int, frame: FrameType | None) -> None:
        """A signal that ends this process at once would leave the terminal raw."""
        self._ended_by = number
        if not self._leaving:
            raise _Ended


class _Ended(BaseException):
    """Leaves the loop: this process ends by a signal as soon as the terminal is given back."""


def set_size_of(inside: int) -> None:
    with suppress(OSError, termios.error):
        set_size(inside, callers_size())


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:  # a terminal of no session, or of another one, has no foreground for us
        return os.isatty(0)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A background process that touches the terminal is stopped, unless it blocks this."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
