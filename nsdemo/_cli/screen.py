"""How the tour looks on a terminal: headings, sentences, code, and traces with a word on each call.

Colour is never the only sign, and only for a terminal; what the output's encoding lacks is
written in ASCII.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .._plan.equals import command_line
from .._plan.explain import purpose, system_call

if TYPE_CHECKING:
    from .._plan.plan import Plan
    from .._plan.step import Step

_ASCII = str.maketrans({"µ": "u", "─": "-"})
BOLD, DIM, GREEN, YELLOW, CYAN = "1", "2", "32", "33", "36"


class Page:
    """The screen: headings, sentences, code as one would type it, and what came of it."""

    def __init__(self) -> None:
        self.width = max(40, min(shutil.get_terminal_size((80, 24)).columns, 100))
        is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.colour = is_terminal and not os.environ.get("NO_COLOR")
        self.root = ""  # shown as ROOT: its name is long and tells nothing

    def paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour and text else text

    def line(self, text: str = "") -> None:
        encoding = sys.stdout.encoding or "ascii"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
        print(text)

    def heading(self, text: str) -> None:
        self.line()
        self.line(self.paint(f"{text} {'─' * (self.width - len(text) - 1)}", BOLD))

    def say(self, text: str) -> None:
        self.line()
        for line in textwrap.wrap(text, self.width, break_on_hyphens=False):
            self.line(line)

    def code(self, *lines: str) -> None:
        """Python; a line that begins with a bar continues the one before."""
        self.line()
        for line in lines:
            prompt = "..." if line.startswith("|") else ">>>"
            self.line(self.paint(f"    {prompt} {line.removeprefix('|')}", CYAN))

    def output(self, text: str) -> None:
        for line in text.rstrip("\n").splitlines():
            self.line(f"    {line.expandtabs()}".rstrip())

    def notice(self, text: str) -> None:
        self.line()
        lines = textwrap.wrap(f"Notice: {text}", self.width, break_on_hyphens=False)
        for number, line in enumerate(lines):
            self.line(line if number else line.replace("Notice", self.paint("Notice", YELLOW)))

    def trace(self, steps: Iterable[Step], who: dict[int, str]) -> None:
        """What the kernel did, with the time it took, process by process."""
        previous = 0
        steps = tuple(steps)
        watchers = {step.pid for step in steps if step.operation == "watch"}
        for step in steps:
            if step.pid != previous:
                self.line()
                helper = "the helper, which ends after this"
                if step.pid in watchers:
                    helper = "the helper, which stays to end the container if we die"
                if step.operation == "clone":
                    helper = "which is this program"
                role = who.get(step.pid, helper)
                self.line(f"    Process {step.pid}, {role}:")
                previous = step.pid
            self._call(f"{step.duration_ns / 1000:6.0f} µs  ", step)

    def plan(self, plan: Plan) -> None:
        """What would be asked of the kernel, and the command line that does the same."""
        for number, step in enumerate(plan, 1):
            self._call(f"{number:2}  ", step)
        self.equals(plan)

    def equals(self, plan: Plan) -> None:
        text = self._short(command_line(plan.steps)[0])
        for line in textwrap.wrap(
            text, self.width - 4, subsequent_indent="#     ", break_on_hyphens=False
        ):
            self.line(f"    {line}")

    def _call(self, before: str, step: Step) -> None:
        call = self._short(system_call(step.operation, step.args))
        why = purpose(step)
        comment = f"# {self._short(why)}" if why else ""
        room = self.width - 4 - len(before)
        lines = _wrap_call(call, room)
        if len(lines[-1]) + 2 + len(comment) <= room:
            lines[-1] += "  " * bool(comment) + self.paint(comment, DIM)
        else:
            lines.append("  " + self.paint(comment, DIM))
        for number, line in enumerate(lines):
            self.line(f"    {' ' * len(before) if number else before}{line}")

    def _short(self, text: str) -> str:
        if not self.root:
            return text
        return re.sub(rf'"{re.escape(self.root)}"', "ROOT", text).replace(self.root, "ROOT")


def _wrap_call(call: str, room: int) -> list[str]:
    """Break a long call after a comma, a semicolon or a bar."""
    lines, rest = [], call
    while len(rest) > room:
        cut = max(rest.rfind(mark, 0, room) for mark in (", ", "; ", "|"))
        if cut <= 4:
            break
        lines.append(rest[: cut + 1])
        rest = "  " + rest[cut + 1 :].lstrip()
    return [*lines, rest]
