"""Why no namespace was made, or one could not be joined: unshare and setns -> hints."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import ExitStack

from .._facts import machine
from .._facts.namespaces import NS_GET_USERNS, owner_of_file
from .._request.clone_flags import CLONE_NAMES, OPTIONS, flag_names
from .case import NEWNS, NEWPID, NEWUSER, Case, Hints, apparmor, filtered, no_power
from .mounted import too_many_mounts

_FILES = {0x00020000: "mnt"}  # in /proc/PID/ns and user.max_*_namespaces; the others as the option


def _limit_name(flag: int) -> str:
    return f"user.max_{_FILES.get(flag, OPTIONS[flag][2:])}_namespaces"


def _no_space(flags: int) -> Hints:
    names = [_limit_name(flag) for flag in OPTIONS if flags & flag]
    wanted = {name: value for name in names if (value := machine.sysctl(name)) is not None}
    none = [name for name, value in wanted.items() if value == 0]
    if none:
        yield (
            f"this is not disk space: the sysctl {none[0]} is 0, so that nobody here can make such "
            f"a namespace; sudo sysctl -w {none[0]}=1000 allows them"
        )
        return
    limits = ", ".join(f"{name} is {value}" for name, value in wanted.items())
    deep = (
        ", or namespaces lie more than 32 deep in each other" if flags & (NEWUSER | NEWPID) else ""
    )
    yield (
        f"this is not disk space: a limit on the number of namespaces ({limits}) is reached here "
        f"or in an outer user namespace{deep}; end containers, or raise the limit"
    )


def explain_unshare(case: Case) -> Hints:
    flags = case.step.args[0]
    if case.errno in (errno.ENOSPC, errno.EUSERS):
        too_many = [*too_many_mounts(case)] if flags & NEWNS else []
        yield from too_many or _no_space(flags)
    elif case.errno == errno.EINVAL:
        for flag, name in CLONE_NAMES.items():
            file = _FILES.get(flag, OPTIONS[flag][2:])
            if flags & flag and not machine.exists(f"/proc/self/ns/{file}"):
                yield f"this kernel was built without {name}: leave {OPTIONS[flag][2:]} out"
    elif case.errno in (errno.EPERM, errno.EACCES):
        if flags & NEWUSER and not case.did("chroot"):
            yield from _no_user_namespace(case)
        elif flags & NEWUSER:
            yield "a process that has been chrooted may make no user namespace: make it first"
        else:
            yield from no_power(case, f"unshare({flag_names(flags, CLONE_NAMES)})")


def _no_user_namespace(case: Case) -> Hints:
    """unshare(CLONE_NEWUSER) is refused although the kernel has it."""
    said = False
    if machine.is_gvisor():
        yield (
            "this is gVisor, not Linux; whoever runs it decided that user namespaces are not "
            "to be had"
        )
        return
    if machine.is_chrooted():
        said = True
        yield (
            "this process is chrooted, and the kernel gives a chrooted process no user "
            "namespace: start from outside of the chroot"
        )
    for kind, number in (("uid", os.geteuid()), ("gid", os.getegid())):
        ids = machine.id_map(kind)
        if machine.status("Uid") and not machine.has_id(ids, number):
            said = True
            shown = case.map(kind) or "empty"
            yield (
                f"our own {kind} {number} is not in the map of the user namespace we are in "
                f"({shown}), so it cannot be mapped again"
            )
    if machine.sysctl("kernel.unprivileged_userns_clone") == 0 and not machine.passes_on(
        machine.CAP_SYS_ADMIN
    ):
        said = True
        yield (
            "the sysctl kernel.unprivileged_userns_clone is 0: only root may make user "
            "namespaces; sudo sysctl -w kernel.unprivileged_userns_clone=1 allows everybody"
        )
    if machine.apparmor_restricts():
        said = True
        yield from apparmor()
    if not said:
        yield from filtered()


def explain_join(case: Case) -> Hints:
    flags = case.step.args[0]
    pid = case.target(case.raw[2][0]) if case.raw else 0
    if case.errno == errno.ESRCH:
        yield "the target has ended; a target must be running"
    elif case.errno == errno.EINVAL and flags & NEWUSER and pid:
        same = _inode(f"/proc/{pid}/ns/user") == _inode("/proc/self/ns/user")
        if same:
            yield "the target's user namespace is ours already: leave user out"
    elif case.errno == errno.EPERM and (hint := _beside(case)):
        yield hint
    elif case.errno == errno.EPERM and pid:
        yield from _join_refused(case, flags, pid)
    elif case.errno == errno.EPERM and not case.joined(NEWUSER):
        if not machine.in_first_user_namespace():
            yield f"the target belongs to a user namespace that {machine.BESIDE}"
        elif os.geteuid() == 0:
            yield from no_power(case, "setns()")
        else:
            yield (
                "joining needs CAP_SYS_ADMIN over the namespace, which "
                f"uid {os.geteuid()} has not: join the user namespace that owns it, too, or be root"
            )


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def _owner_line(case: Case, slot: int, flag: int) -> tuple[tuple[int, int], ...]:
    """The user namespace that a target's namespace belongs to, or is, and those around it."""
    from .._facts.nests import lineage

    pid = case.target(slot)
    with ExitStack() as opened:
        file = _FILES.get(flag, OPTIONS[flag][2:])
        fd = os.open(f"/proc/{pid}/ns/{file}", os.O_RDONLY) if pid else os.dup(case.core.slot(slot))
        opened.callback(os.close, fd)
        if flag != NEWUSER:
            fd = fcntl.ioctl(fd, NS_GET_USERNS)
            opened.callback(os.close, fd)
        return lineage(fd)


def _beside(case: Case) -> str:
    """Is what is joined another's than the user namespace that was entered before?"""
    joins = [numbers for name, _, numbers, _ in case.before if name == "join"]
    entered = [numbers[0] for numbers in joins if numbers[1] & NEWUSER]
    if not entered or case.raw is None:
        return ""
    slot, flags, _ = case.raw[2]
    try:
        here = _owner_line(case, entered[-1], NEWUSER)
        for flag in (flag for flag in OPTIONS if flags & flag):
            owners = _owner_line(case, slot, flag)
            if owners and here and here[0] not in owners and owners[0] not in here:
                return (
                    f"the {OPTIONS[flag][2:]} namespace belongs to the user namespace "
                    f"{owners[0][1]}, and this call has entered {here[0][1]}, which lies beside "
                    "it: who is in one has no power over the other, and no way leads back. Join "
                    "each container in a call of its own; or start one with user= the other, so "
                    "that both belong to one user namespace; or be root outside of both"
                )
    except OSError:
        pass
    return ""


def _join_refused(case: Case, flags: int, pid: int) -> Hints:
    joins_user = bool(flags & NEWUSER) or case.joined(NEWUSER)
    ours = _inode("/proc/self/ns/user")
    for flag, option in OPTIONS.items():
        if not flags & flag:
            continue
        owner = owner_of_file(pid, _FILES.get(flag, option[2:]))
        name = option[2:]
        if owner is None and not machine.in_first_user_namespace():
            yield (
                f"the {name} namespace of process {pid} belongs to a user namespace that "
                f"{machine.BESIDE}"
            )
        elif owner is None:
            yield (
                f"the {name} namespace of process {pid} belongs to a user namespace that "
                f"uid {os.geteuid()} cannot look into: only its owner, or root, may join it"
            )
        elif owner.identity[1] == ours and not machine.passes_on(machine.CAP_SYS_ADMIN):
            yield (
                f"joining the {name} namespace of process {pid} needs CAP_SYS_ADMIN, which "
                f"uid {os.geteuid()} has not: be root"
            )
        elif owner.identity[1] != ours and not joins_user:
            yield (
                f"the {name} namespace of process {pid} belongs to a user namespace whose "
                f"owner uid is {owner.uid}; join user too"
            )
        elif owner.identity[1] != ours and owner.uid != os.geteuid():
            yield (
                f"the {name} namespace of process {pid} belongs to a user namespace whose "
                f"owner uid is {owner.uid}; you are uid {os.geteuid()}"
            )
        else:
            continue
        return
    yield from filtered()
