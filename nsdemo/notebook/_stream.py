"""What a script prints, shown in the notebook while it runs.

A notebook keeps all that it is shown, and the browser draws it. So of a flood the beginning is
shown as it comes and the last lines at the end; what lies between is read, counted and dropped.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import select
import sys
import time
from typing import IO, Any

import nsdemo

__all__ = ["Pipes"]

# Of a script's output, both streams together, the beginning; and of each stream the end.
SHOWN, SHOWN_LINES = 256 * 1024, 2000
LAST, LAST_LINES = 8 * 1024, 20
_CHUNK = 64 * 1024


class Pipes:
    """Two pipes for a command's stdout and stderr.

    Hand ``stdout`` and ``stderr`` to the launch, then ``follow`` the container to its end. A
    context manager that closes whatever is open.
    """

    def __init__(self) -> None:
        self._open: set[int] = set()
        # The streams of now: a thread that outlives the cell writes to the cell that began it.
        self._out = _Shown(sys.stdout)
        self._err = _Shown(sys.stderr)
        self._room, self._lines = SHOWN, SHOWN_LINES
        self._streams: dict[int, _Shown] = {}
        ends = []
        try:
            for shown in (self._out, self._err):
                ours, theirs = os.pipe()
                self._open |= {ours, theirs}
                os.set_blocking(ours, False)
                self._streams[ours] = shown
                ends.append(theirs)
        except BaseException:
            self.__exit__()
            raise
        self.stdout, self.stderr = ends

    def __enter__(self) -> Pipes:
        return self

    def __exit__(self, *exc_info: object) -> None:
        while self._open:
            os.close(self._open.pop())

    def follow(self, box: nsdemo.Container[Any], timeout: float | None = None) -> bool:
        """Show what comes until the command has ended; False if the time was over first."""
        end = None if timeout is None else time.monotonic() + timeout
        for theirs in {self.stdout, self.stderr} & self._open:
            self._open.remove(theirs)
            os.close(theirs)
        poll = select.poll()
        for fd in (box.pidfd, *self._streams):
            poll.register(fd, select.POLLIN)
        while True:
            wait = None if end is None else max(0, end - time.monotonic()) * 1000
            ready = poll.poll(wait)
            for fd, _ in ready:
                if fd in self._streams and not self._read(fd):
                    poll.unregister(fd)
            if any(fd == box.pidfd for fd, _ in ready):
                return True
            if not ready:
                return False

    def finish(self) -> None:
        """Show what is left in the pipes, and the end of what was dropped."""
        for fd in list(self._streams):
            while self._read(fd):
                pass
        for shown in (self._out, self._err):
            shown.finish()

    def _read(self, fd: int) -> bool:
        """Show one chunk; False if there is none, now or for ever."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        shown = self._streams[fd]
        fits = self._fitting(data)
        shown.show(data[:fits])
        shown.drop(data[fits:])
        return bool(data)

    def _fitting(self, data: bytes) -> int:
        """How many of these bytes are still shown."""
        fits = min(self._room, len(data))
        ends = [match.end() for match in re.finditer(b"\n", data[:fits])]
        if len(ends) >= self._lines:
            fits = ends[self._lines - 1] if self._lines else 0
            self._room = fits  # what follows is too much, whatever it is
        self._lines -= min(self._lines, len(ends))
        self._room -= fits
        return fits


class _Shown:
    """One stream: what is shown of it, and what is not."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._dropped = 0
        self._last = b""

    def show(self, data: bytes) -> None:
        if data:
            self._write(self._decoder.decode(data))

    def drop(self, data: bytes) -> None:
        self._dropped += len(data)
        self._last = (self._last + data[-LAST:])[-LAST:]

    def finish(self) -> None:
        last = self._last
        if self._dropped > len(last):  # from the beginning of a line, if there is one
            last = last.partition(b"\n")[2] or last
        last = b"".join(last.splitlines(keepends=True)[-LAST_LINES:])
        if left_out := self._dropped - len(last):
            self._write(self._decoder.decode(b"", True))
            self._write(f"\n[{left_out:,} bytes are not shown; these are the last lines:]\n")
            self._decoder.reset()
        self._write(self._decoder.decode(last, True))

    def _write(self, text: str) -> None:
        if text:
            # A closed notebook is no reason to stop the script.
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(text)
                self._stream.flush()
