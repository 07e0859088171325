"""A Python process in a given condition that launches on request and answers with the time.

usage: worker.py PLACE CONDITION

It says "ready", then reads names of launches, one a line, and answers each with nanoseconds or
with "error: REASON", until the end of its input. A process of its own for each condition makes
it possible to interleave them.
"""

from __future__ import annotations

import gc
import mmap
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from typing import IO

import by_hand
import launches
from channel import Refused
from place import Place

HEAP_BYTES = 4 << 30
OPEN_FILES = 10_000
IDLE_THREADS = 100
UNIFIED = "/sys/fs/cgroup/unified"


def plain() -> object:
    """A Python process as it starts."""
    return None


def heap() -> object:
    """A large heap, every page touched; small pages, as those of Python's objects are."""
    memory = mmap.mmap(-1, HEAP_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    memory[:: mmap.PAGESIZE] = b"\1" * (HEAP_BYTES // mmap.PAGESIZE)
    return memory


def files() -> object:
    """Many open descriptors, close-on-exec as Python's are."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = OPEN_FILES + 100
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise Refused(f"RLIMIT_NOFILE is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return [os.open(os.devnull, os.O_RDONLY) for _ in range(OPEN_FILES)]


def threads() -> object:
    """Threads that do nothing but exist."""
    never = threading.Event()
    for _ in range(IDLE_THREADS):
        threading.Thread(target=never.wait, daemon=True).start()
    return never


def legacy() -> object:
    """Without the version 2 hierarchy of hybrid cgroups, which some crun refuse."""
    by_hand.hide(UNIFIED)
    return None


CONDITIONS: dict[str, Callable[[], object]] = {
    "plain": plain,
    "heap": heap,
    "files": files,
    "threads": threads,
    "legacy": legacy,
}


def measure(launch: launches.Launch) -> int:
    start = time.perf_counter_ns()
    launch()
    return time.perf_counter_ns() - start


def silence(fd: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, fd)
    os.close(null)


def take_over(fd: int, mode: str) -> IO[str]:
    """Keep the protocol to ourselves: commands inherit /dev/null in its place."""
    mine = os.fdopen(os.dup(fd), mode)
    silence(fd)
    return mine


def main() -> None:
    place = Place.from_line(sys.argv[1])
    requests, answers = take_over(0, "r"), take_over(1, "w")

    def answer(text: str) -> None:
        print(" ".join(text.split()), file=answers, flush=True)

    try:
        kept = CONDITIONS[sys.argv[2]]()
    except (Refused, OSError) as error:
        answer(f"error: {error}")
        return
    table = launches.table(place)
    gc.collect()
    gc.freeze()
    gc.disable()
    silence(2)  # from here on every complaint is an answer
    answer("ready")
    for line in requests:
        try:
            answer(str(measure(table[line.strip()])))
        except Refused as refusal:
            answer(f"error: {refusal}")
        except Exception as error:
            answer(f"error: {type(error).__name__}: {error}")
        gc.collect()
    del kept


if __name__ == "__main__":
    main()
