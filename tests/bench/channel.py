"""A child process that answers one line for one line."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType

PATIENCE_SECONDS = 120


class Refused(Exception):
    """The thing asked for cannot be had here; the text says why."""


class Coprocess:
    """Start ``args`` and speak with it over its standard input and output.

    It has a process group of its own, so that Ctrl-C reaches the benchmark alone, which then
    ends its children in order: they leave at the end of their input. One that does not is killed.
    """

    def __init__(self, args: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            args,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            process_group=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests = self._process.stdin
        self._answers = self._process.stdout

    def hear(self) -> str:
        """The next line of the child. Raises Refused for an error line, silence, or its end."""
        if not select.select([self._answers], [], [], PATIENCE_SECONDS)[0]:
            raise Refused(f"no answer within {PATIENCE_SECONDS} s")
        line = self._answers.readline().decode(errors="replace")
        if not line.endswith("\n"):
            raise Refused("the measuring process ended")
        answer = line.strip()
        if answer.startswith("error: "):
            raise Refused(answer.removeprefix("error: "))
        return answer

    def ask(self, request: str) -> int:
        """Send one request and return the number in its answer."""
        try:
            self._requests.write(f"{request}\n".encode())
        except BrokenPipeError:
            raise Refused("the measuring process ended") from None
        return int(self.hear())

    def close(self) -> None:
        self._requests.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._answers.close()

    def __enter__(self) -> Coprocess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
