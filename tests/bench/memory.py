"""How much memory the processes take that stay with a container: its init and the watchdog."""

from __future__ import annotations

import os
import time
from pathlib import Path

SETTLE_SECONDS = 0.2
COMMAND = "sleep"


def waiting(root: str) -> dict[str, float | str]:
    """PSS in KB of "init" and "watchdog" while the command sleeps, or why there is none."""
    found: dict[str, float | str] = dict.fromkeys(("init", "watchdog"), "there is no such process")
    try:
        for init in (True, False):
            _look(root, init, found)
    except OSError as error:
        for kind, value in found.items():
            if isinstance(value, str):
                found[kind] = " ".join(str(error).split())
    return found


def _look(root: str, init: bool, found: dict[str, float | str]) -> None:
    import nsdemo

    before = _descendants(os.getpid())
    with nsdemo.spawn([COMMAND, "1000000"], root=root, init=init):
        time.sleep(SETTLE_SECONDS)
        for pid in _descendants(os.getpid()) - before:
            if _status(pid, "Name") != COMMAND:
                inside = _status(pid, "NSpid").split()
                kind = "init" if len(inside) > 1 and inside[-1] == "1" else "watchdog"
                found[kind] = _pss(pid)


def _descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found |= {child} | _descendants(child)
    return found


def _status(pid: int, field: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.strip()
    return ""


def _pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return float(line.split()[1])
    raise OSError(f"no Pss in /proc/{pid}/smaps_rollup")
