"""Why the kernel refused: a failed step and this machine -> hints for a beginner.

``diagnose`` looks up the operation in a table and asks its function. Each function proves a
cause before it names it, by reading /proc, the root and the plan; where no cause is proven,
nothing is said. Namespaces are in ``joined.py``, mounts and roots in ``mounted.py``, commands
in ``executable.py``.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .._facts import machine
from .._facts.tables import parse_id_map
from .case import (
    NEWNET,
    NEWNS,
    NEWPID,
    NEWUSER,
    NEWUTS,
    Case,
    Hints,
    apparmor,
    capabilities,
    filtered,
    no_power,
    pidfd_refused,
)
from .executable import explain_exec, explain_path
from .granted import (
    explain_bounding,
    explain_capset,
    explain_landlock,
    explain_limit,
    explain_rule,
    explain_seccomp,
    explain_securebits,
    explain_terminal,
)
from .joined import explain_join, explain_unshare
from .mapped import explain_map, explain_owner
from .mounted import (
    explain_bind,
    explain_chdir,
    explain_chroot,
    explain_mount,
    explain_pivot_root,
    explain_propagation,
    shows_outside,
    too_many_mounts,
)
from .pinned import explain_pin
from .placed import (
    explain_bind_at,
    explain_link_at,
    explain_mask_at,
    explain_mount_at,
    explain_overlay_at,
    explain_readonly,
    explain_source,
)
from .settings import explain_cgroup, explain_offsets

if TYPE_CHECKING:
    from .._core import Plan as CorePlan
    from .._plan.step import Step


def diagnose(step: Step, core: CorePlan, trace: Sequence[Step]) -> Hints:
    """Say why a step failed here and what to do about it; nothing where no cause is proven."""
    case = Case(step, core, trace)
    said = False
    explain = _OPERATIONS.get(step.operation)
    first = tuple(shows_outside(case))
    for hint in first or (explain(case) if explain else ()):
        said = True
        yield hint
    if not said:
        yield from _by_errno(case)


def _by_errno(case: Case) -> Hints:
    """What an errno means wherever it comes from."""
    if case.errno == errno.EMFILE:
        most = machine.limit(resource.RLIMIT_NOFILE)
        yield (
            f"this process may have only {most} open descriptors (RLIMIT_NOFILE), and more are "
            "needed: close some, or raise the limit (ulimit -n)"
        )
    elif case.errno == errno.ENFILE:
        yield (
            f"the whole machine may have {machine.sysctl('fs.file-max')} open files "
            "(sysctl fs.file-max) and has that many"
        )
    elif case.errno == errno.ENOSYS:
        yield from filtered("this kernel does not know the system call") or (
            "this kernel does not know the system call",
        )
    elif case.errno == errno.EAGAIN:
        yield from _too_many_processes(case)
    elif case.errno == errno.ENOSPC:
        yield from too_many_mounts(case)
    elif case.errno == errno.EFBIG:
        yield from _too_small_files()


# -- before the launcher runs -----------------------------------------------------------------


def _start(case: Case) -> Hints:
    stage = case.step.args[0] if case.step.args else ""
    if stage in ("guard", "pidfd_open") and (hints := [*pidfd_refused(case)]):
        yield from hints
    elif stage == "guard" and case.errno == errno.ESRCH:
        yield from _parent(case)
    elif case.errno == errno.ENOMEM:
        yield from _dead_pid_namespace()
    elif case.errno == errno.EINVAL and stage == "clone":
        yield from _other_clocks()
    elif case.errno in (errno.EACCES, errno.EPERM) and stage == "clone":
        yield from filtered()
    elif case.errno in (errno.EACCES, errno.EPERM, errno.ENOENT, errno.EOPNOTSUPP, errno.EROFS):
        level = machine.sysctl("vm.memfd_noexec")
        if level == 2:
            yield (
                "programs in memory are refused here (sysctl vm.memfd_noexec is 2), and so are "
                "all places for a file instead (/dev/shm, /tmp, /var/tmp, /run): "
                "sudo sysctl -w vm.memfd_noexec=1 allows nsdemo's"
            )
        else:
            yield from filtered()


def _too_small_files() -> Hints:
    most = machine.limit(resource.RLIMIT_FSIZE)
    if most is not None:
        yield (
            f"this process may write files of {most:,} bytes at most (RLIMIT_FSIZE, ulimit -f), "
            "and the launcher and its plan are files in memory, of some 40,000 bytes and the "
            "size of the arguments: raise the limit here, and give the command a small one by "
            'rlimits={"fsize": ...}'
        )


def _other_clocks() -> Hints:
    if machine.children_have_other_clocks():
        yield (
            "the children of this process are born in another time namespace (unshare -T), and "
            "before Linux 6.2 the kernel lets nobody share memory with such a child, as a launch "
            "does for a moment: start Python anew in there (unshare --time --fork python3 ...), "
            "or let nsdemo make the time namespace (time=True)"
        )


def _dead_pid_namespace() -> Hints:
    if machine.children_go_elsewhere():
        yield (
            "this process was moved to another pid namespace (unshare or setns), and PID 1 of "
            "it is gone; the kernel starts nobody after it: restart Python, and let "
            "nsdemo.spawn() make the namespace"
        )
    elif (most := machine.limit(resource.RLIMIT_AS)) is not None:
        yield f"this process may use {most:,} bytes of memory addresses (RLIMIT_AS, ulimit -v)"


def _too_many_processes(case: Case) -> Hints:
    most = machine.limit(resource.RLIMIT_NPROC)
    full = None
    for name, _, numbers, texts in case.before:
        if name == "join_cgroup" and texts[0]:
            folder = os.path.dirname(texts[0])
            top = max((m.point for m in machine.mounts() if _is_below(folder, m.point)), key=len)
            full = full or machine.full_cgroup(folder, top, 2)
        if name == "rlimit" and numbers[0] == resource.RLIMIT_NPROC:
            most = None if numbers[1] < 0 else numbers[1]
    uid = case.outside_id("uid")
    if full is not None:
        yield (
            f"the target's cgroup may have {full[1]} processes (pids.max) and has {full[0]}; this "
            "call needs room for two and more: end some, or leave join_cgroup out"
        )
    elif (full := machine.cgroup_pids()) is not None:
        yield f"this cgroup may have {full[1]} processes (pids.max) and has {full[0]}: end some"
    elif most is not None:
        count = machine.processes_of(uid)
        if count >= most:
            yield (
                f"uid {uid} may have {most} processes and threads (RLIMIT_NPROC, ulimit -u) "
                f"and has {count}: end some, or raise the limit"
            )


def _is_below(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _fork(case: Case) -> Hints:
    if case.errno == errno.ENOMEM:
        if case.joined(NEWPID):
            yield (
                "PID 1 of this namespace is gone; the kernel starts nobody after it: start a "
                "new container"
            )
        else:
            yield from _dead_pid_namespace()


def _clone(case: Case) -> Hints:
    """Fork and unshare in one."""
    if case.errno == errno.EINVAL and machine.children_go_elsewhere():
        yield from _parent(case)
    elif case.errno == errno.EINVAL and machine.children_have_other_clocks():
        yield from _other_clocks()
    elif case.errno == errno.ENOMEM:
        yield from _fork(case)
    else:
        yield from explain_unshare(case)


# -- processes and roots ----------------------------------------------------------------------


def _open_process(case: Case) -> Hints:
    pid = case.step.args[0]
    if case.errno == errno.ESRCH:
        if machine.exists(f"/proc/{pid}"):
            yield (
                f"process {pid} is another one by now: the target has ended and its number "
                "was given away"
            )
        else:
            yield f"process {pid} has ended; a target must be running"
    yield from pidfd_refused(case)


def _parent(case: Case) -> Hints:
    yield from pidfd_refused(case)
    if case.errno == errno.ESRCH and machine.children_go_elsewhere():
        yield (
            "this process was moved to another pid namespace (unshare or setns), from where its "
            "children cannot see it: restart Python, and let nsdemo.spawn() make the namespace"
        )


def _open_root(case: Case) -> Hints:
    path = case.step.args[0]
    if case.errno == errno.ESRCH:
        yield "the target has ended; a target must be running"
    else:
        yield from explain_path(None, path, "the root", directory=True)


# -- namespaces -------------------------------------------------------------------------------


def _write(case: Case) -> Hints:
    path, content = case.step.args
    file = os.path.basename(path)
    if file == "timens_offsets":
        yield from explain_offsets(case)
        return
    if case.errno in (errno.ENOENT, errno.ENOTDIR):
        if case.joined(NEWNS):
            yield "the mount namespace that was joined has another /proc, or none: do not join it"
        elif not any(mount.point == "/proc" and mount.kind == "proc" for mount in machine.mounts()):
            yield "there is no procfs mounted on /proc: mount -t proc proc /proc"
        return
    if case.errno == errno.EROFS:
        docker = machine.engine() == "Docker"
        advice = ": docker run --security-opt systempaths=unconfined" if docker else ""
        yield f"/proc is mounted read-only here{advice}"
    if case.errno not in (errno.EPERM, errno.EACCES):
        return
    if not case.unshared(NEWUSER):
        yield (
            f'{file} belongs to a new user namespace, and this plan makes none: .unshare("user") '
            "comes first"
        )
    elif case.written(file):
        yield f"{file} can be written once, and this plan writes it twice"
    elif file == "gid_map" and case.written("setgroups") != "deny" and os.geteuid() != 0:
        yield (
            'setgroups must be denied before an ordinary user may write gid_map: write "deny" to '
            "/proc/self/setgroups first, as map_root() does"
        )
    elif file == "setgroups" and case.written("gid_map"):
        yield "setgroups can be denied only before gid_map is written: swap the two"
    elif file in ("uid_map", "gid_map"):
        yield from _map_refused(file, content)


def _map_refused(file: str, content: str) -> Hints:
    number = os.geteuid() if file == "uid_map" else os.getegid()
    rows = parse_id_map(content)
    single = len(rows) == 1 and rows[0][2] == 1
    if machine.apparmor_restricts():
        yield from apparmor()
    elif single and rows[0][1] != number:
        yield (
            f"the map {content!r} is for {file[:3]} {rows[0][1]}, and you are {file[:3]} "
            f"{number}: make the plan as the user who starts it"
        )
    elif not single and os.geteuid() != 0:
        yield f"an ordinary user may map only itself, as in '0 {number} 1'"
    elif os.geteuid() == 0 and not machine.passes_on(machine.CAP_SETFCAP):
        yield f"mapping root needs CAP_SETFCAP, which was taken from this root ({capabilities()})"
    else:
        yield from filtered()


def _no_net_admin(what: str) -> Hints:
    engine = machine.engine()
    flags = f"; or start the container with {engine.lower()} run --cap-add NET_ADMIN"
    who = "this root" if os.geteuid() == 0 else f"uid {os.geteuid()}"
    yield (
        f"to {what} needs CAP_NET_ADMIN, which {who} has not ({capabilities()}): add user=True "
        '(in a Plan, .unshare("user").map_root() comes first), whose root may do it'
        f"{flags if engine else ''}"
    )


def _in_new(flag: int, name: str, what: str) -> Callable[[Case], Hints]:
    """For operations that the owner of a namespace may do, and nobody else."""

    def explain(case: Case) -> Hints:
        if case.errno != errno.EPERM:
            return
        ours = not case.unshared(NEWUSER) and not case.joined(NEWUSER)
        if name == "net" and ours and not machine.passes_on(machine.CAP_NET_ADMIN):
            yield from _no_net_admin(what)
        elif not case.unshared(flag) and case.unshared(NEWUSER):
            yield (
                f"the {name} namespace is still the host's: {name}=True makes a new one, in "
                f"which you may {what}"
            )
        else:
            yield from no_power(case, f"to {what}")

    return explain


# -- the process ------------------------------------------------------------------------------


def _set_id(kind: str) -> Callable[[Case], Hints]:
    capability = {"uid": machine.CAP_SETUID, "gid": machine.CAP_SETGID}[kind]

    def explain(case: Case) -> Hints:
        number = case.step.args[0]
        shown = case.map(kind)
        rows = parse_id_map(shown.replace(", ", "\n"))
        if case.errno == errno.EINVAL and rows and not machine.has_id(rows, number):
            yield (
                f"{kind} {number} is not in the map {shown}: the first number is the first "
                f"{kind} inside, the last how many there are"
            )
        elif case.errno == errno.EPERM and not case.unshared(NEWUSER):
            if not case.joined(NEWUSER) and not machine.passes_on(capability):
                own = os.geteuid() if kind == "uid" else os.getegid()
                yield (
                    f"becoming {kind} {number} needs CAP_SET{kind.upper()}, which "
                    f"{kind} {own} has not: be root"
                )
        elif case.errno == errno.EAGAIN:
            yield from _too_many_processes(case)

    return explain


def _setgroups(case: Case) -> Hints:
    if case.errno == errno.EPERM:
        if case.joined(NEWUSER):
            pid: int | str = case.user_target()
        else:
            pid = "thread-self"
        denied = machine.read(f"/proc/{pid}/setgroups").strip() if pid else ""
        if case.unshared(NEWUSER):
            denied = case.written("setgroups")
        if denied == "deny":
            yield (
                "the user namespace denies setgroups, as it must where an ordinary user made "
                "it: leave groups out"
            )
        elif not (
            case.unshared(NEWUSER) or case.joined(NEWUSER) or machine.passes_on(machine.CAP_SETGID)
        ):
            yield f"setgroups needs CAP_SETGID, which uid {os.geteuid()} has not: be root"
    elif case.errno == errno.EINVAL and (shown := case.map("gid")):
        yield f"one of the groups is not in the map {shown}"


def _setpgid(case: Case) -> Hints:
    group = case.step.args[0]
    if case.errno in (errno.EPERM, errno.ESRCH):
        yield f"there is no process group {group} in the session of the command"


_OPERATIONS: dict[str, Callable[[Case], Hints]] = {
    "start": _start,
    "clone": _clone,
    "open_process": _open_process,
    "open_root": _open_root,
    "watch": _parent,
    "owner": explain_owner,
    "map_ids": explain_map,
    "join": explain_join,
    "unshare": explain_unshare,
    "write": _write,
    "fork": _fork,
    "thread": _fork,
    "pin": explain_pin,
    "join_cgroup": explain_cgroup,
    "init": _fork,
    "loopback_up": _in_new(NEWNET, "net", "bring up interfaces"),
    "sethostname": _in_new(NEWUTS, "uts", "set the host name"),
    "setdomainname": _in_new(NEWUTS, "uts", "set the domain name"),
    "propagation": explain_propagation,
    "bind": explain_bind,
    "mount": explain_mount,
    "open_source": explain_source,
    "bind_at": explain_bind_at,
    "mount_at": explain_mount_at,
    "link_at": explain_link_at,
    "mask_at": explain_mask_at,
    "overlay_at": explain_overlay_at,
    "layer_at": explain_overlay_at,
    "readonly": explain_readonly,
    "pivot_root": explain_pivot_root,
    "chroot": explain_chroot,
    "chdir": explain_chdir,
    "setpgid": _setpgid,
    "terminal": explain_terminal,
    "rlimit": explain_limit,
    "drop_bounding": explain_bounding,
    "setgroups": _setgroups,
    "setgid": _set_id("gid"),
    "setuid": _set_id("uid"),
    "capset": explain_capset,
    "die_with_parent": _parent,
    "securebits": explain_securebits,
    "landlock": explain_landlock,
    "landlock_allow": explain_rule,
    "landlock_restrict": explain_landlock,
    "seccomp": explain_seccomp,
    "exec": explain_exec,
}
