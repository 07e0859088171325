"""A trace as a timeline: a lane for each process, a line for each system call."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Any

import nsdemo

from ._picture import (
    BLUE,
    GREEN,
    GREY,
    RED,
    Picture,
    clean,
    columns_of,
    drawing,
    escape,
    notice,
    table,
)
from ._svg import LINE, Drawing, width_of

MOST = 200  # steps
_CALL = 76  # columns of a system call
_LANE = 34  # from one lane to the next, in pixels
_BAR = 70  # the longest bar, in pixels
# The operations after which another process goes on.
_BIRTHS = ("clone", "fork", "init")


def timeline(source: Any) -> Picture:
    """What the kernel was asked for, in time: a lane for each process, failures marked.

    source is a trace (Steps in order), or whatever has one: a Container, a CompletedProcess, a
    NamespaceError. A dot is a call that worked, a cross one that failed, an arrow leads to the
    process that goes on; the bars show how long each call took.

    Raises TypeError for anything else.

        >>> print(notebook.timeline(box))
        Timeline of system calls: ... steps by ... processes, ... µs in the kernel; none failed.
        ...
    """
    steps = _steps_of(source)
    steps = [step for step in steps if step.pid or step.errno]
    if not steps:
        return notice("This trace is empty: no step was performed.")
    left_out = max(0, len(steps) - MOST)
    steps = steps[:MOST]
    roles = _roles(steps)
    failed = [step for step in steps if step.errno]
    total = sum(step.duration_ns for step in steps) / 1000
    title = "Timeline of system calls"
    said = f"{len(steps)} steps by {len(roles)} process{'es' if len(roles) != 1 else ''}, "
    said += f"{total:.0f} µs in the kernel"
    said += (
        f"; failed: {', '.join(step.operation for step in failed)}." if failed else "; none failed."
    )
    if left_out:
        said += f" {left_out} more are not shown."
    heads = ("process", "µs", "system call", "")
    root = _root_of(steps)
    calls = [_call(step, root) for step in steps]
    rows = [
        (str(step.pid), _micro(step), call, _outcome(step))
        for step, call in zip(steps, calls, strict=True)
    ]
    legend = [f"{pid}: {role}" for pid, role in roles.items()]
    if root:
        legend.append(f"ROOT is {clean(root, 80)}")
    text = "\n".join([f"{title}: {said}", *legend, columns_of([heads, *rows], right=(0, 1))])
    spoken = [f"{row[0]}: {row[2]} {row[3]}".rstrip() for row in rows[:40]]
    svg = _draw(steps, roles, calls, legend[len(roles) :]).finish(
        title, clean(" | ".join([said, *legend, *spoken]), 6000)
    )
    return drawing(text, svg)


def _steps_of(source: Any) -> list[nsdemo.Step]:
    trace = getattr(source, "trace", source)
    if not isinstance(trace, Sequence) or not all(isinstance(s, nsdemo.Step) for s in trace):
        raise TypeError(
            "a timeline is made from a trace, or from what has one (a Container, a "
            f"CompletedProcess, a NamespaceError), not from {type(source).__name__}"
        )
    return list(trace)


def _root_of(steps: Sequence[nsdemo.Step]) -> str:
    """The container's root, whose long name would hide the rest of a call; "" if there is none."""
    for step in steps:
        if step.operation in ("pivot_root", "chroot", "open_root") and step.args:
            return str(step.args[0]) if len(str(step.args[0])) > len("ROOT") + 4 else ""
    return ""


def _call(step: nsdemo.Step, root: str) -> str:
    """The call as strace has it, without pid and outcome."""
    text = str(nsdemo.Step(step.operation, step.args))
    if root:
        text = text.replace(f'"{root}"', "ROOT").replace(f'"{root}/', '"ROOT/')
    return clean(text, _CALL)


def _micro(step: nsdemo.Step) -> str:
    return f"{step.duration_ns / 1000:.0f}"


def _outcome(step: nsdemo.Step) -> str:
    if not step.errno:
        return ""
    name = errno.errorcode.get(step.errno, str(step.errno))
    return f"FAILED {name} ({os.strerror(step.errno)})"


def _roles(steps: Sequence[nsdemo.Step]) -> dict[int, str]:
    """What each process of a trace is for, in the order in which they appear."""
    roles: dict[int, str] = {}
    born = False
    for step in steps:
        roles.setdefault(step.pid, "was to be the command" if born else "a helper, which ends")
        born = born or step.operation in _BIRTHS
        if step.operation == "watch":
            roles[step.pid] = "a helper, which stays to end the container if we die"
        elif step.operation == "init":
            roles[step.pid] = "the container's init"
        elif step.operation == "exec":
            roles[step.pid] = "the command" if not step.errno else "was to be the command"
        elif step.operation in ("start", "clone"):
            roles[step.pid] = "us"
    return roles


def _draw(
    steps: Sequence[nsdemo.Step],
    roles: dict[int, str],
    calls: Sequence[str],
    notes: Sequence[str],
) -> Drawing:
    sheet = Drawing()
    lanes = {pid: 8 + number * _LANE for number, pid in enumerate(roles)}
    longest = max(step.duration_ns for step in steps) or 1
    # A legend above: a line for each process, with a stem down to its lane.
    for number, (pid, role) in enumerate(roles.items()):
        base = 16.0 + number * LINE
        sheet.text(lanes[pid] + 12, base, f"process {pid}: {role}", kind="nsd-lane")
        sheet.dot(lanes[pid], base - 4.5, 3, colour=GREY)
    top = len(roles) * LINE + 10
    bars = max(lanes.values()) + 26
    numbers = bars + _BAR + 8 + width_of("00000 µs")
    start = numbers + 14
    last = {step.pid: number for number, step in enumerate(steps)}
    for number, pid in enumerate(roles):
        sheet.line(
            [(lanes[pid], 12 + number * LINE), (lanes[pid], top + last[pid] * LINE + 11)],
            colour=GREY,
            kind="nsd-thread",
        )
    for number, step in enumerate(steps):
        middle = top + number * LINE + 11
        base = middle + 4.5
        x = lanes[step.pid]
        if step.operation in _BIRTHS and number + 1 < len(steps) and not step.errno:
            after = next((s.pid for s in steps[number + 1 :] if s.pid != step.pid), step.pid)
            if after != step.pid:
                points = [(x, middle), (lanes[after] - 6, middle + LINE * 0.8)]
                sheet.line(points, colour=BLUE, arrow=True, thick=True, kind="nsd-birth")
        if step.errno:
            sheet.cross(x, middle, colour=RED, kind="nsd-failed")
        else:
            sheet.dot(x, middle, colour=GREEN, kind="nsd-step")
        size = max(1.5, _BAR * step.duration_ns / longest)
        colour = RED if step.errno else GREY
        sheet.bar(bars, middle - 5, size, colour=colour, kind="nsd-time")
        sheet.text(numbers, base, f"{_micro(step)} µs", anchor="end", faint=True)
        words = f"{calls[number]}  {_outcome(step)}".rstrip()
        sheet.text(start, base, words, bold=bool(step.errno), kind="nsd-call")
    for number, note in enumerate(notes, len(steps)):
        sheet.text(start, top + number * LINE + 15.5, note, faint=True)
    return sheet


def plan(plan: nsdemo.Plan) -> Picture:
    """A Plan as a numbered list of system calls, and who would make each.

    Raises TypeError if it is no Plan.

        >>> print(notebook.plan(nsdemo.spawn(["sh"], dry_run=True)))
        A plan of ... steps: nothing has run
        ...
        # equals: unshare ...
    """
    if not isinstance(plan, nsdemo.Plan):
        raise TypeError(f"plan() shows a Plan, not {type(plan).__name__}")
    steps = plan.steps
    who = "Python" if steps and steps[0].operation == "clone" else "first"
    rows = []
    for number, step in enumerate(steps[:MOST], 1):
        rows.append((str(number), who, clean(step, 160)))
        if step.operation in _BIRTHS:
            who = {"clone": "child", "fork": "second", "init": "third"}[step.operation]
    equals = [clean(line, 2000) for line in str(plan).splitlines() if line.startswith("# ")]
    if len(steps) > MOST:
        equals.insert(0, f"# {len(steps) - MOST} more steps are not shown")
    heads = ("step", "process", "system call")
    title = f"A plan of {len(steps)} step{'s' if len(steps) != 1 else ''}: nothing has run"
    text = "\n".join([title, columns_of([heads, *rows], right=(0,)), *equals])
    html = table(title, heads, rows)
    html += f"<pre>{escape(chr(10).join(equals))}</pre>" if equals else ""
    return Picture(text, html)
