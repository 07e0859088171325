"""Each system call of a launch refused once: nothing left, nothing hangs, nothing said wrongly.

    python tests/inject --cases 500 --seed 7        # random ones
    python tests/inject --case root warm launch mount 3 EPERM

A case is a launch in a fork of this process, in which one call of one number fails, whoever of
the launch's processes makes it: Python, its vfork child, the launcher, a watchdog. Then

- no process, descriptor, mount, file is more than before, signals and ids are as they were;
- it took less than two seconds;
- either the command saw what it sees otherwise, or the error has the errno that was given, and
  says which step it was.

What was wrong is printed, a line of JSON each, and the status is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import mmap
import os
import random
import re
import select
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import notify
from judge import judge, normal
from recipes import ERRORS, QUIET, Launch, Stage
from support import (
    PR_SET_CHILD_SUBREAPER,
    SLOW,
    children,
    facts_of,
    leftovers,
    leftovers_now,
    prctl,
    snapshot,
)

import nsdemo

STARTING, READY, TAKEN, OPEN, OVER = range(5)
HEADER = struct.Struct("=Bxxxii")

# Those that have no way to fail as we call them; nor is a close that is refused one: the kernel
# closes always. A filter of the caller's own that refuses one does so from the start.
NEVER_FAIL = {
    *("exit", "exit_group", "rt_sigreturn", "close", "munmap", "getpid", "gettid", "getuid"),
    *("geteuid", "getgid", "getegid", "getppid", "brk", "sched_yield", "restart_syscall"),
    *("fstat", "umask", "rt_sigprocmask", "rt_sigaction", "wait4", "waitid", "recvmsg"),
}
NEVER_FAIL_IN_PYTHON = {"capget", "prctl", "newfstatat"}
NEVER_FAIL_ELSEWHERE = {"futex", "dup3"}


Asked = tuple[str, str]  # side and call


class Shared:
    """A page of the child's and ours."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 1 << 20)

    def __getitem__(self, index: int) -> int:
        found: int = HEADER.unpack_from(self.memory)[index]
        return found

    def put(self, state: int, listener: int = 0, size: int = 0) -> None:
        HEADER.pack_into(self.memory, 0, self[0], listener, size)
        self.set_state(state)

    def set_state(self, state: int) -> None:
        self.memory[0] = state

    def report(self, found: dict[str, Any]) -> None:
        data = json.dumps(found).encode()
        self.memory[64 : 64 + len(data)] = data
        self.put(OVER, 0, len(data))

    def reported(self) -> dict[str, Any] | None:
        size = self[2]
        return json.loads(self.memory[64 : 64 + size]) if size else None


@dataclass
class Case:
    recipe: str
    warm: bool  # not the first launch of its process
    side: str = ""  # who makes the call: "caller", or "launch" for all others
    call: str | None = None  # None: none of them fails, all are counted
    occurrence: int = 0
    error: int = 0

    def __str__(self) -> str:
        start, code = "warm" if self.warm else "cold", errno.errorcode[self.error]
        return f"{self.recipe} {start} {self.side} {self.call} {self.occurrence} {code}"


def frames_of(error: BaseException) -> traceback.StackSummary:
    return traceback.StackSummary.extract(
        traceback.walk_tb(error.__traceback__), lookup_lines=False
    )


class Injector:
    def __init__(self, stage: Stage, wrong: bool, patience: float) -> None:
        self.patience = patience * SLOW
        self.stage = stage
        self.launches = stage.wrong() if wrong else stage.recipes()
        self.numbers = notify.numbers()
        self.names = {number: name for name, number in self.numbers.items()}
        self.shared = Shared()
        self.expected: dict[tuple[str, bool], list[str]] = {}
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.known = children()
        self.mounts = self._mounts()

    # -- in the child ------------------------------------------------------------------------

    def _launch(self, launch: Launch, case: Case) -> dict[str, Any]:
        number = None if case.call is None else self.numbers[case.call]
        if case.warm:
            launch()
            self.stage.clean()
        listener = notify.install(number, self.numbers["seccomp"])
        self.shared.put(READY, listener)
        while self.shared[0] == READY:
            os.sched_yield()
        os.close(listener)
        before = snapshot()
        found: dict[str, Any] = {"error": None}
        error: BaseException | None = None
        self.shared.set_state(OPEN)
        try:
            done = launch()
        except BaseException as caught:
            self.shared.set_state(OVER)
            error = caught
        else:
            self.shared.set_state(OVER)
            self.stage.clean()
            found["returncode"] = done.returncode
            out = done.stdout if isinstance(done.stdout, bytes) else (done.stdout or "").encode()
            found["output"] = out.decode(errors="backslashreplace")
        if error is not None:
            found["error"] = facts_of(error)
            found["where"] = [f"{each.filename}:{each.lineno}" for each in frames_of(error)][-4:]
            # What a frame of a test still has is let go with the error.
            found["left"] = leftovers_now(before) if case.recipe != "streams" else []
            del error
        found["left_later"] = leftovers(before, self.patience)
        return found

    def _child(self, case: Case) -> None:
        try:
            found = self._launch(self.launches[case.recipe], case)
        except BaseException:
            found = {"broken": traceback.format_exc()}
        self.shared.report(found)
        os._exit(0)

    # -- in the parent -----------------------------------------------------------------------

    def _answer(self, listener: int, pid: int, case: Case, seen: Counter[Asked]) -> None:
        call = notify.receive(listener)
        if call is None:
            return
        error = 0
        if self.shared[0] == OPEN:
            side = "caller" if call.pid == pid else "launch"
            asked = (side, self.names[call.number])
            seen[asked] += 1
            if case.error and asked == (case.side, case.call) and seen[asked] == case.occurrence:
                error = case.error
        notify.answer(listener, call, error)

    def _serve(self, pid: int, case: Case, found: dict[str, Any]) -> Counter[Asked]:
        """Answers until nobody is left who could ask."""
        seen: Counter[Asked] = Counter()
        while self.shared[0] == STARTING:
            time.sleep(0.0001)
        if self.shared[0] == OVER:  # it went wrong before
            return seen
        listener = notify.fetch(pid, self.shared[1], self.numbers["pidfd_getfd"])
        process = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(process, select.POLLIN)
        started, ended, over = time.monotonic(), 0.0, 0.0
        self.shared.set_state(TAKEN)
        try:
            while True:
                events = dict(poll.poll(1 if ended else 50))
                now = time.monotonic()
                if events.get(listener, 0) & select.POLLIN:
                    self._answer(listener, pid, case, seen)
                elif listener in events:  # nobody is left who could ask
                    poll.unregister(listener)
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, 0)
                    return seen
                if process in events:
                    poll.unregister(process)
                    ended = now
                if ended:
                    self._reap()
                if not over and self.shared[0] == OVER:
                    over = now
                if not over and now - started > self.patience:
                    found["hang"] = "the call does not return"
                    return seen
                if ended and now - ended > self.patience:
                    found["left"] = [*found.get("left", ()), f"processes: {self._names()}"]
                    return seen
        finally:
            os.close(process)
            os.close(listener)

    def _names(self) -> list[str]:
        found = []
        for pid in sorted(children() - self.known):
            try:
                found.append(Path(f"/proc/{pid}/comm").read_text().strip())
            except OSError:
                found.append("?")
        return found

    def _reap(self) -> None:
        for pid in children() - self.known:
            os.waitpid(pid, os.WNOHANG)

    def _end_all(self) -> None:
        end = time.monotonic() + 10
        while (left := children() - self.known) and time.monotonic() < end:
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.001)

    @staticmethod
    def _mounts() -> Counter[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return Counter(line.split(maxsplit=5)[4] for line in lines)

    def run(self, case: Case) -> tuple[dict[str, Any], Counter[Asked]]:
        """What came of a case, and the calls that were asked about."""
        self.shared.put(STARTING)
        pid = os.fork()
        if pid == 0:
            self._child(case)
        outside: dict[str, Any] = {}
        seen = self._serve(pid, case, outside)
        self._end_all()
        found = self.shared.reported() or {}
        found["left"] = [*found.get("left", ()), *found.pop("left_later", ())]
        found["left"] += outside.pop("left", ())
        found |= outside
        if more := self._mounts() - self.mounts:
            found["left"].append(f"mounts: {dict(more)}")
        if files := [path.name for path in self.stage.work.iterdir()]:
            found["left"].append(f"files: {files}")
        self.stage.clean()
        return found, seen

    def survey(self) -> dict[tuple[str, bool], Counter[Asked]]:
        """How often each launch makes each call; what its command sees."""
        calls = {}
        for options in ({"root": "/proc"}, {}):  # an error's words are imported, too
            with contextlib.suppress(OSError):
                nsdemo.run(["no-such-command"], **options, **QUIET, **self.stage.user)
        for recipe, launch in self.launches.items():
            launch()  # everything is imported from here on
            self.stage.clean()
            for warm in (False, True):
                for _ in range(3):
                    found, calls[recipe, warm] = self.run(Case(recipe, warm))
                    if "hang" not in found:  # a busy machine is slow
                        break
                if problem := judge(None, found, None):
                    raise SystemExit(f"{recipe} fails without a fault: {problem}\n{found}")
                self.expected[recipe, warm] = normal(found["output"])
        return calls

    def try_case(self, case: Case) -> tuple[str, dict[str, Any]]:
        """What is wrong with it; "" if nothing is, "not reached" if the call was not made."""
        expected = self.expected[case.recipe, case.warm]
        for attempt in range(3):
            found, seen = self.run(case)
            if seen[case.side, case.call or ""] < case.occurrence and "hang" not in found:
                return "not reached", found
            problem = judge(case, found, expected)
            # A busy machine is slow; what is wrong is wrong again.
            if "hang" not in found or attempt == 2:
                return problem, found
        raise AssertionError


def is_possible(side: str, call: str) -> bool:
    never = NEVER_FAIL_IN_PYTHON if side == "caller" else NEVER_FAIL_ELSEWHERE
    return call not in NEVER_FAIL and call not in never


def chosen(
    calls: dict[tuple[str, bool], Counter[Asked]], count: int, seed: int, only: str
) -> list[Case]:
    """Random cases; each pair of a launch and a call before any comes again."""
    dice = random.Random(seed)
    pairs = [
        (recipe, warm, side, name)
        for (recipe, warm), counted in calls.items()
        for side, name in counted
        if is_possible(side, name)
        and re.search(only, f"{recipe} {'warm' if warm else 'cold'} {side} {name}")
    ]
    found: list[Case] = []
    while pairs and len(found) < (count or len(pairs)):
        dice.shuffle(pairs)
        for recipe, warm, side, name in pairs:
            occurrence = dice.randint(1, calls[recipe, warm][side, name])
            found.append(Case(recipe, warm, side, name, occurrence, dice.choice(ERRORS)))
    return found[: count or None]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--seconds", type=float, default=10**9, help="not longer than that")
    parser.add_argument("--only", default="", help="a pattern for 'RECIPE cold|warm SIDE CALL'")
    parser.add_argument("--each", action="store_true", help="each pair of launch and call once")
    parser.add_argument("--case", nargs=6, metavar="WORD")
    parser.add_argument("--patience", type=float, default=2, help="more seconds are a hang")
    parser.add_argument("--wrong", action="store_true", help="launches that must be found wrong")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nsdemo-inject-") as folder:
        os.chmod(folder, 0o755)
        stage = Stage(Path(folder))
        with stage.with_a_container():
            injector = Injector(stage, given.wrong, given.patience)
            calls = injector.survey()
            if given.case:
                recipe, start, side, name, number, code = given.case
                error = getattr(errno, code)
                case = Case(recipe, start == "warm", side, name, int(number), error)
                problem, found = injector.try_case(case)
                print(problem, json.dumps(found, indent=1), sep="\n")
                return bool(problem)
            count = 0 if given.each else given.cases
            return report(injector, chosen(calls, count, given.seed, given.only), given)


def report(injector: Injector, cases: list[Case], given: argparse.Namespace) -> int:
    started = time.monotonic()
    done: Counter[str] = Counter()
    for case in cases:
        if time.monotonic() - started > given.seconds:
            break
        problem, found = injector.try_case(case)
        done[problem if problem in ("", "not reached") else "wrong"] += 1
        done["went through"] += not found.get("error") and not problem
        if problem not in ("", "not reached"):
            print(json.dumps({"case": str(case), "problem": problem, **found}), flush=True)
    seconds = time.monotonic() - started
    print(
        f"seed {given.seed}: {sum(done[k] for k in ('', 'wrong', 'not reached'))} cases in "
        f"{seconds:.1f} s, {done['wrong']} wrong, {done['not reached']} not reached, "
        f"{done['went through']} went through all the same"
    )
    return 1 if done["wrong"] else 0


sys.exit(main())
