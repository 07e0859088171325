"""A program: PID 1 of the inner container, and its child, which runs a learner's file.

It runs as ``python -I -S runner.py CHANNEL [MAKER]``, where the numbers are sockets to the grader.
Until it executes the file it is what it was written to be; from then on nothing that it says
counts, but for a pid or an answer that the grader will hold against the kernel.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from typing import Any, NoReturn

REFUSED = ("spawn", "run", "chroot_run", "enter")
BY_HAND = {"s1", "s3"}  # challenges that are solved from Plan steps
# What a Plan's own methods append. A recipe of spawn and the like has others besides.
STEPS = {
    *("unshare", "write", "open_process", "join", "become_root", "fork", "init", "sethostname"),
    *("loopback_up", "propagation", "bind", "mount", "pivot_root", "chroot", "chdir", "setsid"),
    *(
        "open_source",
        "bind_at",
        "mount_at",
        "link_at",
        "overlay_at",
        "readonly",
        "setgroups",
        "setgid",
        "setuid",
        "exec",
    ),
}
LONGEST = 1000  # characters of a message
SOLUTION = "/tmp/solution.py"


class Refused(RuntimeError):
    """A call that this challenge does without."""


def refuse(what: str) -> NoReturn:
    """Say which call is not offered, and what is."""
    raise Refused(
        f"{what} is not offered in this challenge: build it from the steps of nsdemo.Plan, "
        "and start it with .start()"
    )


def refuse_recipes() -> None:
    """Leave nothing of nsdemo's calls but Plan."""
    import nsdemo

    def stand_in(name: str) -> Any:
        return lambda *args, **options: refuse(f"nsdemo.{name}")

    for name in REFUSED:
        setattr(nsdemo, name, stand_in(name))

    def at_launch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "nsdemo.launch":
            foreign = {step.operation for step in arguments[0].steps} - STEPS
            if foreign:
                refuse(
                    f"a plan with the steps of spawn() or enter() ({', '.join(sorted(foreign))})"
                )

    # The same call under another name ends here; a hook cannot be taken away again.
    sys.addaudithook(at_launch)


def execute(source: str) -> dict[str, Any]:
    """Run the learner's file and return its names."""
    with open(SOLUTION, "w", encoding="utf-8") as file:
        file.write(source)  # for tracebacks
    sys.argv[:] = [SOLUTION]
    names: dict[str, Any] = {"__name__": "__main__", "__file__": SOLUTION}
    exec(compile(source, SOLUTION, "exec"), names)
    return names


def hand_over(challenge: str, names: dict[str, Any]) -> dict[str, Any]:
    """What the grader is told: pids, a path, an attack, or the names of probes."""
    wanted = {"s2": "probes", "c2": "attack", "c6": "pin", "c9": "pod"}.get(challenge, "box")
    if wanted not in names:
        return {"missing": wanted}
    value = names[wanted]
    if wanted == "box":
        return {"box": getattr(value, "pid", value)}
    if wanted == "pin":
        holder = names.get("holder")
        return {"pin": os.fspath(value), "holder": getattr(holder, "pid", holder)}
    if wanted == "pod":
        return {"pod": [getattr(each, "pid", each) for each in value]}
    if wanted == "attack":
        return {"attack": value if isinstance(value, str) else list(value)}
    return {"probes": list(value), "callable": all(callable(probe) for probe in value.values())}


def line_of(error: BaseException) -> int | None:
    """The line of the learner's file that an exception came from."""
    if isinstance(error, SyntaxError) and error.filename == SOLUTION:
        return error.lineno
    line, here = None, error.__traceback__
    while here is not None:
        if here.tb_frame.f_code.co_filename == SOLUTION:
            line = here.tb_lineno
        here = here.tb_next
    return line


class Handle:
    """A container as a probe of s2 gets it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def enter(self, args: Any, **options: Any) -> Any:
        """Run a command inside: nsdemo.enter, with five seconds for it unless told otherwise."""
        import nsdemo

        return nsdemo.enter(self.pid, args, **{"timeout": 5, **options})


def ask(probe: Any, handle: Handle) -> Any:
    """A probe's answer: True, False, or words about anything else."""
    try:
        answer = probe(handle)
    except Exception as error:
        return f"it raised {type(error).__name__}: {error}"[:300]
    return answer if isinstance(answer, bool) else f"it returned {answer!r}"[:300]


def converse(channel: Any, say: Any) -> None:
    """From the grader's request to the end of its questions."""
    request = json.loads(channel.readline())
    say({"ready": os.getpid()})
    channel.readline()  # the grader has noted what we are
    if request["challenge"] in BY_HAND:
        refuse_recipes()
    try:
        names = execute(request["source"])
        say(hand_over(request["challenge"], names))
    except BaseException as error:
        text = f"{type(error).__name__}: {error}"
        say({"raised": text[:LONGEST], "line": line_of(error)})
        names = {}
    for line in channel:
        handle = Handle(json.loads(line)["probe"])
        probes = names.get("probes", {})
        say({"answers": {name: ask(probe, handle) for name, probe in probes.items()}})


def leave_pid_1() -> None:
    """Go on in a child, under a pid that no small container has; PID 1 reaps until that ends.

    As PID 1 a learner's program would not die of its signals, and every container has a PID 1
    in which it might mistake itself.
    """
    with contextlib.suppress(OSError), open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write("20000")
    child = os.fork()
    while child:
        ended, status = os.wait()
        if ended == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def main() -> None:
    """Start the maker of containers while nobody can touch it; then serve the grader."""
    leave_pid_1()
    sys.path.insert(0, "/nsdemo")
    numbers = [int(word) for word in sys.argv[1:]]
    if len(numbers) > 1:
        maker = os.path.join(os.path.dirname(__file__), "maker.py")
        words = [sys.executable, "-I", "-S", maker, str(numbers[1])]
        subprocess.Popen(words, pass_fds=numbers[1:2], stdin=subprocess.DEVNULL)
        os.close(numbers[1])
    channel = socket.socket(fileno=numbers[0]).makefile("rw", encoding="utf-8")

    def say(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    converse(channel, say)


if __name__ == "__main__":
    main()
