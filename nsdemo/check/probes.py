"""s2: a probe for each namespace, tried on containers with one namespace secretly shared."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .result import Fact, Result
from .runner import Handle, ask

REQUIRED = ("mount", "uts", "ipc", "pid")
OPTIONAL = ("net", "cgroup", "time")
_MAKER = str(Path(__file__).with_name("maker.py"))
_ANSWER_WITHIN = 10.0  # seconds

Answers = Mapping[str, Any]


def check_names(names: Iterable[Any]) -> list[str]:
    """The names of the probes, or an error that says what is wrong with them."""
    found = list(names)
    for name in found:
        if name not in REQUIRED + OPTIONAL:
            raise ValueError(
                f"there is no probe to be written for {name!r}: the names are "
                f"{', '.join(REQUIRED)} and, if you like, {', '.join(OPTIONAL)}"
            )
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        raise ValueError(f"a probe is missing for: {', '.join(missing)}")
    return found


def check_s2(probes: Mapping[str, Callable[[Any], bool]]) -> Result:
    """Try the probes here, in the learner's own interpreter."""
    if not isinstance(probes, Mapping):
        raise TypeError(f"probes is a dict of name and function, not a {type(probes).__name__}")
    names = check_names(probes)
    for name, probe in probes.items():
        if not callable(probe):
            raise TypeError(f"the {name} probe is a {type(probe).__name__}, and not a function")
    with _maker() as make:

        def answers(shared: str | None) -> Answers:
            handle = Handle(make(request(names, shared)))
            return {name: ask(probe, handle) for name, probe in probes.items()}

        return judge_s2(names, [(shared, answers(shared)) for shared in rounds(names)])


def rounds(names: list[str]) -> list[str | None]:
    """Which namespace is shared in each round: nobody shall count on order or number."""
    chance = random.SystemRandom()
    order: list[str | None] = [None, *names]
    order += chance.choices(order, k=chance.randint(1, 3))
    chance.shuffle(order)
    return order


def request(names: list[str], shared: str | None) -> dict[str, list[str]]:
    """What the maker is to make."""
    return {
        "new": [name for name in names if name != shared],
        "shared": [name for name in names if name == shared],
    }


def judge_s2(names: list[str], asked: Sequence[tuple[str | None, Answers]]) -> Result:
    """The verdict on the answers of all rounds."""
    facts = [_fact(name, [(shared, found.get(name)) for shared, found in asked]) for name in names]
    return Result("s2", facts)


def _fact(name: str, answers: list[tuple[str | None, Any]]) -> Fact:
    asked = f"the {name} probe accuses exactly the shared {name} namespace"
    question = "What can be seen or changed from both sides only if that namespace is one?"
    wrong = [(shared, answer) for shared, answer in answers if answer is not (shared != name)]
    if not wrong:
        return Fact(asked, True, f"right about all {len(answers)} containers")
    shared, answer = wrong[0]
    if shared not in (None, name) and answer is False:
        question = f"Does what it looks at depend on the {name} namespace, and on it alone?"
    what = "every namespace was new" if shared is None else f"{shared} was shared"
    said = answer
    if isinstance(answer, bool):
        said = "isolated" if answer else "shared"
    seen = f"wrong about {len(wrong)} of {len(answers)}, such as: {what}, and it said: {said}"
    return Fact(asked, False, seen, question)


@contextlib.contextmanager
def _maker() -> Iterator[Callable[[dict[str, list[str]]], int]]:
    """A function that makes a container of our own and returns its pid."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = [sys.executable, "-I", "-S", _MAKER, str(theirs.fileno())]
        process = subprocess.Popen(
            words, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
        )
        theirs.close()
        try:
            yield lambda wanted: ask_maker(ours, wanted)
        finally:
            ours.close()  # at the end of the stream it ends, and its container before it
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ask_maker(channel: socket.socket, wanted: dict[str, list[str]]) -> int:
    """One request; the pid as the maker sees it."""
    channel.settimeout(_ANSWER_WITHIN)
    channel.sendall(json.dumps(wanted).encode() + b"\n")
    text = b""
    while not text.endswith(b"\n"):
        more = channel.recv(4096)
        if not more or len(text) > 1 << 16:
            raise OSError("the containers for the probes cannot be made: their maker has ended")
        text += more
    try:
        answer = json.loads(text)
        pid, error = answer.get("pid"), answer.get("error")
    except (ValueError, AttributeError, RecursionError):
        pid, error = None, None
    if isinstance(pid, bool) or not isinstance(pid, int):
        why = error or "no pid came back"
        raise OSError(f"the containers for the probes cannot be made: {why}")
    return pid
