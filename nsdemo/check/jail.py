"""c2: jailbreak, then not. One attack, two jails, and a token outside of each."""

from __future__ import annotations

import os
import secrets
import select
import time
from collections.abc import Sequence
from typing import Any

from .result import Fact, Result
from .sandbox import JAIL, PYTHON, Sandbox

TIME = 10.0  # seconds for each jail
LONGEST = 64_000  # characters of an attack
_TAIL = 4096


def check_c2(attack: str | Sequence[str], seconds: float | None = None) -> Result:
    """Run the attack in both jails; seconds: for each of them, TIME at most."""
    command = _command(attack)
    seconds = TIME if seconds is None else min(TIME, seconds)
    escaped, said = _attack(command, "chroot", seconds)
    caught, _ = _attack(command, "pivot_root", seconds)
    return Result("c2", [_gets_out(escaped, said), _stays_in(not caught)])


def _gets_out(escaped: bool, said: str) -> Fact:
    return Fact(
        "the token outside of the chroot jail was read",
        escaped,
        "the attack wrote it" if escaped else said,
        "chroot(2) says what it does not change. Which of these things can lie outside by then?",
    )


def _stays_in(caught: bool) -> Fact:
    return Fact(
        "the token outside of the pivot_root jail was not",
        caught,
        "the same attack did not find it" if caught else "the attack wrote that, too",
        "Is there anything of the old root left to go to?",
    )


def _command(attack: Any) -> list[str]:
    if isinstance(attack, str):
        if not attack.strip():
            raise ValueError("the attack is empty")
        words = [PYTHON, "-I", "-c", attack]
    elif isinstance(attack, Sequence) and not isinstance(attack, (bytes, bytearray)):
        words = list(attack)
        if not words or not all(isinstance(word, str) for word in words):
            raise TypeError("an attack that is a list is a command: one or more words of text")
    else:
        raise TypeError(
            f"an attack is a Python program as text or a list of words, not a "
            f"{type(attack).__name__}"
        )
    if "\0" in "".join(words):
        raise ValueError("a NUL byte cannot be part of an attack")
    if sum(map(len, words)) > LONGEST:
        raise ValueError(f"an attack has at most {LONGEST} characters")
    return words


def _attack(command: list[str], method: str, seconds: float) -> tuple[bool, str]:
    """Did it write the token? And the end of what it said."""
    token = (f"token-{secrets.token_hex(8)}", secrets.token_hex(16))
    task = {"jail": JAIL, "method": method, "attack": [*command, f"/tokens/{token[0]}"]}
    with Sandbox(task, tokens=[token]) as sandbox:
        return _listen(sandbox, token[1].encode(), seconds)


def _listen(sandbox: Sandbox, token: bytes, seconds: float) -> tuple[bool, str]:
    out, err = sandbox.stdout, sandbox.stderr
    tails = {out: b"", err: b""}
    reading = {out, err}
    end = time.monotonic() + seconds
    late = ""
    while reading:
        late = late or sandbox.over_bounds()
        if time.monotonic() > end:
            late = late or f"it was ended after {seconds:.3g} seconds"
        if late:
            break
        for fd in select.select(reading, [], [], 0.05)[0]:
            data = os.read(fd, 1 << 16)
            if not data:
                reading.discard(fd)
            tail = tails[fd] + data
            if fd == out and token in tail:
                return True, ""
            tails[fd] = tail[-_TAIL:]
    lines = (tails[err] or tails[out]).decode("utf-8", "replace").strip().splitlines()
    return False, late or (f"it said: {lines[-1]}" if lines else "it said nothing")
