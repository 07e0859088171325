"""A grade: the solution runs in a container, and the kernel is asked from outside it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import stat
import time
from collections.abc import Callable
from typing import Any

from . import demo, mapped, outliving, pod, probes, riddle, root, rootless
from .jail import check_c2
from .reports import Report, look, until_passed
from .result import CHALLENGES, Fact, Result
from .sandbox import Sandbox
from .target import mounts_of

LARGEST = 1 << 20
_LONGEST_LINE = 1 << 18
_ASKED = "the solution ran to its end and handed something over"


class Failed(Exception):
    """The solution handed over nothing that could be looked at. (what was seen, question)"""


def grade_file(challenge: str, file: str | os.PathLike[str], timeout: float) -> Result:
    """See ``nsdemo.check.grade``."""
    if challenge not in CHALLENGES:
        raise ValueError(f"there is no challenge {challenge!r}: there are {', '.join(CHALLENGES)}")
    source = _read(file)
    try:
        deadline = time.monotonic() + timeout
        with Session(challenge, source, deadline) as session:
            handed = session.hand_over()
            if challenge != "c2":
                return JUDGES[challenge](session, handed)
        return _grade_c2(handed, max(deadline - time.monotonic(), 1) / 2)
    except Failed as failure:
        seen, question = failure.args
        return Result(challenge, [Fact(_ASKED, False, seen, question)])


def _read(file: str | os.PathLike[str]) -> str:
    """The text of a solution; a FIFO or a device is none."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError(f"{os.fspath(file)} is no regular file")
        with open(fd, "rb", closefd=False) as stream:
            data = stream.read(LARGEST + 1)
    finally:
        os.close(fd)
    if len(data) > LARGEST:
        raise ValueError(f"{os.fspath(file)} is larger than {LARGEST >> 20} MB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{os.fspath(file)} is no text in UTF-8") from None


class Session:
    """One solution in its sandbox, and the conversation with its runner."""

    def __init__(self, challenge: str, source: str, deadline: float) -> None:
        self.challenge = challenge
        self.source = source
        self.deadline = deadline
        self.said = b""  # the end of what the solution printed: for a message, never for a fact
        self._buffer = b""

    def __enter__(self) -> Session:
        with contextlib.ExitStack() as undo:
            pairs = [socket.socketpair() for _ in range(2 if self.challenge == "s2" else 1)]
            for pair in pairs:
                for end in pair:
                    undo.enter_context(end)
            self.channel, self.maker = pairs[0][0], pairs[-1][0]
            theirs = [pair[1] for pair in pairs]
            task: dict[str, Any] = {}
            self.sandbox = undo.enter_context(Sandbox(task, [end.fileno() for end in theirs]))
            for end in theirs:
                end.close()
            runner = self.runner = self._begin()
            # Keeps the mount namespace of this moment, whatever the runner moves to.
            self._mounts = undo.enter_context(open(f"/proc/{runner}/mountinfo", "rb"))
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._undo.close()

    def _begin(self) -> int:
        """Before a line of the solution runs: note what the runner is, and return its pid."""
        self._say({"challenge": self.challenge, "source": self.source})
        try:
            ready = self._hear()
        except Failed as failure:
            raise OSError(f"no container for the solution: {failure.args[0]}") from None
        runner = self.sandbox.outer_pid(ready["ready"])
        if runner is None:
            raise OSError("no container for the solution: it ended at once")
        self.caller = look(runner)
        return runner

    def hand_over(self) -> dict[str, Any]:
        """Let the solution run; what its runner says of it."""
        self._say({"go": True})
        handed = self._hear()
        if "raised" in handed:
            line = handed.get("line")
            where = f"line {line}: " if isinstance(line, int) else ""
            raise Failed(
                f"{where}it raised {handed['raised']}",
                "Does it run on your own machine, and as which user?",
            )
        if "missing" in handed:
            name = handed["missing"]
            raise Failed(
                f"it has no name {name!r} at its top level",
                f"Under which name does the check expect what you made? ({name} = ...)",
            )
        return handed

    def outer_pid(self, inner: Any) -> int:
        """The process that the solution calls by this number."""
        if isinstance(inner, bool) or not isinstance(inner, int):
            seen = f"box is neither a Container nor a pid but {str(inner)[:80]}"
            raise Failed(seen, "What do Plan.start() and spawn() return?")
        pid = self.sandbox.outer_pid(inner)
        if pid is None:
            question = "A command that ends takes its container along: what would keep it running?"
            raise Failed(f"there is no process {inner} any more, or never was", question)
        return pid

    def look(self, inner: Any, *parts: str, name: str = "", path: str = "") -> Report:
        """The report on a process of the solution's, with the runner as the caller."""
        return self.look_at(self.outer_pid(inner), *parts, name=name, path=path)

    def look_at(self, pid: int, *parts: str, name: str = "", path: str = "") -> Report:
        """The same on a process by the number that we know it by."""
        token = self.sandbox.new_token()
        report = look(pid, *parts, tokens=[token], name=name, path=path)
        self._mounts.seek(0)
        caller = {key: self.caller[key] for key in ("namespaces", "root", "pids")}
        caller["mounts_before"] = self.caller["mounts"]
        caller["mounts"] = mounts_of(self._mounts.read().decode("utf-8", "surrogateescape"))
        return report | {"caller": caller}

    def ask(self, inner: int) -> dict[str, Any]:
        """What the probes say of a container."""
        self._say({"probe": inner})
        answers = self._hear().get("answers")
        return answers if isinstance(answers, dict) else {}

    def _say(self, message: dict[str, Any]) -> None:
        self.channel.settimeout(max(self.deadline - time.monotonic(), 0.1))
        try:
            self.channel.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            raise Failed(*self._ended()) from None

    def _hear(self) -> dict[str, Any]:
        """The next message, while the bounds are watched and the output is thrown away."""
        streams = [self.channel.fileno(), self.sandbox.stdout, self.sandbox.stderr]
        while b"\n" not in self._buffer:
            broken = self.sandbox.over_bounds()
            if not broken and time.monotonic() > self.deadline:
                broken = "it was ended: it ran for too long"
            if broken:
                raise Failed(broken, "Which line of it does not come to an end?")
            for stream in select.select(streams, [], [], 0.05)[0]:
                if stream == self.channel.fileno():
                    data = self._receive()
                    self._buffer += data
                else:
                    data = os.read(stream, 1 << 16)
                    self.said = (self.said + data)[-2000:]
                    if not data:
                        streams.remove(stream)
            if len(self._buffer) > _LONGEST_LINE:
                raise Failed("it handed over too much", "What does the check ask for?")
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise Failed("what it handed over makes no sense", "What does the check ask for?")
        return message

    def _receive(self) -> bytes:
        try:
            data = self.channel.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            raise Failed(*self._ended())
        return data

    def _ended(self) -> tuple[str, str]:
        for stream in select.select([self.sandbox.stdout, self.sandbox.stderr], [], [], 0.1)[0]:
            self.said = (self.said + os.read(stream, 1 << 16))[-2000:]
        lines = self.said.decode("utf-8", "replace").strip().splitlines()
        seen = "its interpreter ended before it handed anything over"
        if lines:
            seen += f"; its last line was: {lines[-1]}"
        return seen, "What ends a Python program before its last line?"


# -- the challenges ------------------------------------------------------------------------------


def _grade_s1(session: Session, handed: dict[str, Any]) -> Result:
    return root.judge_s1(session.look(handed.get("box"), *root.PARTS))


def _grade_s3(session: Session, handed: dict[str, Any]) -> Result:
    return demo.judge_s3(session.look(handed.get("box"), *demo.PARTS))


def _grade_c1(session: Session, handed: dict[str, Any]) -> Result:
    box = handed.get("box")
    return until_passed(lambda: mapped.judge_c1(session.look(box, *mapped.PARTS)))


def _grade_c3(session: Session, handed: dict[str, Any]) -> Result:
    box = handed.get("box")
    return until_passed(lambda: riddle.judge_c3(session.look(box, *riddle.PARTS)))


def _grade_c5(session: Session, handed: dict[str, Any]) -> Result:
    name = rootless.new_name()
    return rootless.judge_c5(session.look(handed.get("box"), *rootless.PARTS, name=name), name)


def _grade_c6(session: Session, handed: dict[str, Any]) -> Result:
    try:
        path = outliving.path_of(handed.get("pin"))
    except (TypeError, ValueError) as error:
        raise Failed(str(error), "What does check.c6 take?") from None
    name = outliving.new_name()
    holder = handed.get("holder")
    pid = session.runner if holder is None else session.outer_pid(holder)
    report = session.look_at(pid, *outliving.PARTS, name=name, path=path)
    return outliving.judge_c6(report, name)


def _grade_c9(session: Session, handed: dict[str, Any]) -> Result:
    try:
        boxes = pod.members_of(handed.get("pod"))
    except (TypeError, ValueError) as error:
        raise Failed(str(error), "What does check.c9 take?") from None
    return pod.judge_c9(boxes, lambda box, name: session.look(box, *pod.PARTS, name=name))


def _grade_c2(handed: dict[str, Any], seconds: float) -> Result:
    try:
        return check_c2(handed.get("attack", ""), seconds)
    except (TypeError, ValueError) as error:
        raise Failed(str(error), "What does check.c2 take?") from None


def _grade_s2(session: Session, handed: dict[str, Any]) -> Result:
    """The containers are the maker's; which namespace is shared is read from the kernel."""
    try:
        if not handed.get("callable"):
            raise ValueError("not every probe is a function")
        names = probes.check_names(handed.get("probes", ()))
    except (TypeError, ValueError) as error:
        raise Failed(str(error), "What does check.s2 take?") from None
    asked = []
    for shared in probes.rounds(names):
        try:
            inner = probes.ask_maker(session.maker, probes.request(names, shared))
        except OSError as error:
            raise Failed(str(error), "What has become of the processes around yours?") from None
        seen = session.look(inner)
        if "gone" in seen or "refused" in seen or _shared(seen, names) != {shared} - {None}:
            raise Failed(
                "a container that the check had made was changed",
                "A probe is to look, and to leave what it finds: what did it touch?",
            )
        answers = session.ask(inner)
        asked.append((shared, answers))
    return probes.judge_s2(names, asked)


def _shared(report: Report, names: list[str]) -> set[str]:
    ours = report["caller"]["namespaces"]
    return {name for name in names if report["namespaces"][name] == ours[name]}


JUDGES: dict[str, Callable[[Session, dict[str, Any]], Result]] = {
    "s1": _grade_s1,
    "s2": _grade_s2,
    "s3": _grade_s3,
    "c1": _grade_c1,
    "c3": _grade_c3,
    "c5": _grade_c5,
    "c6": _grade_c6,
    "c9": _grade_c9,
}
