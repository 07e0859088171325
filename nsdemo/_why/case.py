"""A failed step with what its plan had done before it, and who forbids things here.

What ``diagnosis.py``, ``mounted.py`` and ``executable.py`` share.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .._facts import machine
from .._facts.tables import parse_id_map
from .._facts.targets import pid_of_pidfd

if TYPE_CHECKING:
    from .._core import Plan as CorePlan
    from .._plan.step import Step

NEWNS = 0x00020000
NEWUTS = 0x04000000
NEWPID = 0x20000000
NEWNET = 0x40000000
NEWUSER = 0x10000000

UNKNOWN = "/proc/0/root"  # the root of a target that the plan holds by a descriptor alone

Hints = Iterator[str]


class Case:
    """A failed step, and what its plan had done before it.

    Attributes:
        step: the Step that failed.
        raw: it as the core has it, (operation, flags, numbers, texts); None before the plan.
        before: the raw steps that precede it.
        after: the raw steps that would have followed.
        core: the whole plan.
    """

    def __init__(self, step: Step, core: CorePlan, trace: Sequence[Step]) -> None:
        steps = core.steps()
        index = len(trace) - 1
        self.step = step
        self.errno = step.errno
        self.core = core
        known = 0 <= index < len(steps) and steps[index][0] == step.operation
        if not known:
            names = [operation for operation, *_ in steps]
            index = names.index(step.operation) if step.operation in names else 0
            known = step.operation in names
        self.raw = steps[index] if known else None
        self.before = steps[:index]
        self.after = steps[index + 1 :] if known else steps

    def unshared(self, flag: int) -> bool:
        """Has the plan made a new namespace of this kind?"""
        makers = ("unshare", "clone")
        return any(name in makers and numbers[0] & flag for name, _, numbers, _ in self.before)

    def joined(self, flag: int) -> bool:
        """Has the plan joined one of this kind?"""
        return any(name == "join" and numbers[1] & flag for name, _, numbers, _ in self.before)

    def did(self, operation: str) -> bool:
        return any(name == operation for name, *_ in self.before)

    def target(self, slot: int) -> int:
        """The pid behind a slot; 0 for a namespace file."""
        for name, _, numbers, texts in self.before:
            if name == "open_process" and numbers[2] == slot:
                return numbers[0]
            if name == "open_root" and numbers[1] == slot and texts[0]:
                return int(texts[0].split("/")[2])  # /proc/PID/root
        held = self.core.slot(slot)
        try:
            return max(0, pid_of_pidfd(held) or 0) if held >= 0 else 0
        except OSError:  # no /proc here
            return 0

    def user_target(self) -> int:
        """The pid whose user namespace has been joined, or 0."""
        for name, _, numbers, _ in self.before:
            if name == "join" and numbers[1] & NEWUSER:
                return self.target(numbers[0])
        return 0

    def written(self, file: str) -> str:
        """What the plan has written to a file of /proc/self, or ""."""
        for name, _, _, texts in self.before:
            own = name == "write" and texts[0] == f"/proc/self/{file}"
            if own or (name == "map_ids" and texts[0] == file):
                return (texts[1] or "").replace("\n", ", ")
        return ""

    def map(self, kind: str) -> str:
        """The id map that holds at the step, in one line."""
        if self.unshared(NEWUSER):
            return self.written(f"{kind}_map")
        if self.joined(NEWUSER):
            pid = self.user_target()
            rows = machine.id_map(kind, pid) if pid else ()
        else:
            rows = machine.id_map(kind)
        return ", ".join(" ".join(map(str, row)) for row in rows)

    def outside_id(self, kind: str) -> int:
        """The "uid" or "gid" that the command would have run with, as seen from here."""
        number = os.geteuid() if kind == "uid" else os.getegid()
        for name, _, numbers, _ in self.before:
            if name == f"set{kind}":
                inner = self.unshared(NEWUSER) or self.joined(NEWUSER)
                rows = parse_id_map(self.map(kind).replace(", ", "\n")) if inner else ()
                outside = [o + numbers[0] - i for i, o, n in rows if i <= numbers[0] < i + n]
                number = outside[0] if len(outside) == 1 else numbers[0]
        return number

    @property
    def root(self) -> str | None:
        """The path of the root in force at the step as we see it; None for ours, or UNKNOWN."""
        for name, _, numbers, texts in reversed(self.before):
            if name in ("pivot_root", "chroot"):
                if texts[0] is not None:
                    return texts[0]
                for earlier, _, slots, paths in self.before:
                    if earlier == "open_root" and slots[0] == numbers[0]:
                        return paths[0]
            if name == "join" and numbers[1] & NEWNS:
                pid = self.target(numbers[0])
                return f"/proc/{pid}/root" if pid else UNKNOWN
        return None


def capabilities() -> str:
    """What decides, as /proc/self/status has it."""
    fields = ["Seccomp", "CapEff"]
    if machine.status("CapBnd") != machine.status("CapEff"):
        fields.append("CapBnd")
    return ", ".join(f"{field}: {machine.status(field)}" for field in fields)


def docker_flags() -> str:
    """How a container is started in which nothing is in our way; "" outside of one."""
    if not machine.engine():
        return ""
    return (
        f": start the container with {machine.engine().lower()} run --cap-add SYS_ADMIN "
        "--security-opt seccomp=unconfined --security-opt apparmor=unconfined"
    )


def filtered(otherwise: str = "") -> list[str]:
    """A seccomp filter is in force, and nothing else is known that refuses."""
    if not machine.is_filtered():
        return []
    either = f"{otherwise}, or " if otherwise else ""
    return [
        f"{either}a seccomp filter is in force and most likely refuses it ({capabilities()})"
        f"{docker_flags()}"
    ]


def pidfd_refused(case: Case) -> Hints:
    """pidfd_open(2) asks for no power, so a refusal is a filter's, or the kernel is too old."""
    if case.errno not in (errno.EPERM, errno.ENOSYS):
        return
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        if error.errno != case.errno:
            return
        old = "the kernel is older than Linux 5.3, or " if case.errno == errno.ENOSYS else ""
        yield (
            f"pidfd_open is refused to this process: {old}a seccomp filter does it. Without a "
            "pidfd a number might name another process by the time it is signalled, so nothing "
            f"is started: allow pidfd_open and pidfd_send_signal in the filter{docker_flags()}"
        )


def apparmor() -> Hints:
    yield (
        "Ubuntu's AppArmor takes the power out of user namespaces: the sysctl "
        "kernel.apparmor_restrict_unprivileged_userns is 1; "
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 allows them until the "
        "next boot, a profile with the rule 'userns,' allows one program"
    )


def no_power(case: Case, what: str) -> Hints:
    """EPERM of something that needs CAP_SYS_ADMIN."""
    if case.unshared(NEWUSER):  # then we had all capabilities, unless somebody took them
        if machine.apparmor_restricts():
            yield from apparmor()
        else:
            yield from filtered()
    elif case.joined(NEWUSER) or machine.passes_on(machine.CAP_SYS_ADMIN):
        yield from filtered()
    elif os.geteuid() != 0:
        yield (
            f"{what} needs CAP_SYS_ADMIN, which uid {os.geteuid()} has not: add user=True "
            '(in a Plan, .unshare("user").map_root() comes first)'
        )
    elif machine.engine():
        yield (
            f"this is root inside {machine.engine()}, without CAP_SYS_ADMIN "
            f"({capabilities()}){docker_flags()}"
        )
    else:
        yield f"this root has no CAP_SYS_ADMIN ({capabilities()}): try user=True"
