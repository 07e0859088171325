"""What a check found: facts, each with what was asked and what was seen."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nsdemo import kernel

CHALLENGES = {
    "s1": "pivot_root instead of chroot",
    "s2": "a probe for each namespace",
    "s3": "without --fork, --mount-proc and --root",
    "c1": "the smallest root that runs bash",
    "c2": "jailbreak, then not",
    "c3": "the ENOMEM riddle",
    "c5": "rootless",
    "c6": "a namespace without processes",
    "c9": "a pod",
}
"""The challenges that can be checked: id and title."""

_SEEN_AT_MOST = 400
_STYLE = "text-align:left;vertical-align:top;padding:.3em .8em;border-bottom:1px solid currentColor"


def _shown(text: str) -> str:
    """Text as it may be shown: names inside a container are its own choice."""
    shown = kernel.printable(text)
    return shown if len(shown) <= _SEEN_AT_MOST else shown[: _SEEN_AT_MOST - 1] + "…"


@dataclass(frozen=True)
class Fact:
    """One thing that the kernel was asked.

    Attributes:
        asked: what must be so.
        passed: is it so?
        seen: what the kernel answered.
        question: for a failure, a question that leads on; never the solution. Else "".

    Example:
        >>> print(Fact("it runs", False, "it has ended", "What keeps a command running?"))
        fail  it runs
              seen: it has ended
              think: What keeps a command running?
    """

    asked: str
    passed: bool
    seen: str
    question: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seen", _shown(self.seen))
        object.__setattr__(self, "question", "" if self.passed else _shown(self.question))

    def __str__(self) -> str:
        lines = [f"{_word(self.passed)}  {self.asked}", f"      seen: {self.seen}"]
        if self.question:
            lines.append(f"      think: {self.question}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The fact as a dict for JSON."""
        return {
            "asked": self.asked,
            "passed": self.passed,
            "seen": self.seen,
            "question": self.question,
        }


def _word(passed: bool) -> str:
    return "pass" if passed else "fail"


class Result:
    """What a check found. It is true if every fact passed, and shows as a table in a notebook.

    Attributes:
        challenge: its id, one of CHALLENGES.
        title: what the challenge asks for.
        facts: a tuple of Fact, in the order in which they were asked. When a fact makes the
            next ones meaningless (a container that has ended), it is the last.

    Example:
        >>> result = Result("s1", [Fact("it runs", True, "pid 7")])
        >>> result.passed, bool(result), len(result.facts)
        (True, True, 1)
    """

    def __init__(self, challenge: str, facts: Iterable[Fact]) -> None:
        self.challenge = challenge
        self.title = CHALLENGES[challenge]
        self.facts = tuple(facts)

    @property
    def passed(self) -> bool:
        """Did every fact pass? Without any fact, no."""
        return bool(self.facts) and all(fact.passed for fact in self.facts)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return "\n".join([self._heading(), *map(str, self.facts)])

    __repr__ = __str__

    def as_dict(self) -> dict[str, Any]:
        """The result as a dict for JSON: challenge, title, passed and facts."""
        return {
            "challenge": self.challenge,
            "title": self.title,
            "passed": self.passed,
            "facts": [fact.as_dict() for fact in self.facts],
        }

    def _heading(self) -> str:
        good = sum(fact.passed for fact in self.facts)
        verdict = "passed" if self.passed else "not yet"
        return f"{self.challenge}: {self.title}: {verdict} ({good} of {len(self.facts)} facts)"

    def _repr_html_(self) -> str:
        rows = "".join(_row(fact) for fact in self.facts)
        head = "".join(
            f'<th scope="col" style="{_STYLE}">{name}</th>'
            for name in ("result", "what must be so", "what was seen")
        )
        caption = html.escape(self._heading())
        # No colour of its own: the theme's serves, and the word tells pass from fail.
        return (
            '<table style="border-collapse:collapse;color:inherit;background:transparent">'
            '<caption style="text-align:left;color:inherit;font-weight:bold;padding:.3em .8em">'
            f"{caption}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )


def _row(fact: Fact) -> str:
    mark = "✓ pass" if fact.passed else "✗ fail"
    seen = html.escape(fact.seen)
    if fact.question:
        seen += f"<br><em>{html.escape(fact.question)}</em>"
    first = f'<td style="{_STYLE};white-space:nowrap">{mark}</td>'
    cells = "".join(f'<td style="{_STYLE}">{cell}</td>' for cell in (html.escape(fact.asked), seen))
    return f"<tr>{first}{cells}</tr>"
