"""Why something could not be mounted, or a root or the working directory not be changed."""

from __future__ import annotations

import errno
import os

from .._facts import machine
from .._request.values import working_directory
from .case import (
    NEWNET,
    NEWNS,
    NEWPID,
    NEWUSER,
    Case,
    Hints,
    apparmor,
    docker_flags,
    filtered,
    no_power,
)
from .executable import explain_path

# What the engines cover, and how they are told to leave it.
_MASKED = {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/bus", "/proc/sys"}
_UNMASK = {
    "Docker": "docker run --security-opt systempaths=unconfined",
    "Podman": "podman run --security-opt unmask=ALL",
}


def _target_of_mount(case: Case) -> tuple[str | None, str]:
    """(root, path in it) of the directory that a mount step mounts on."""
    texts = case.raw[3] if case.raw else (None, case.step.args[1], None, None)
    return (texts[3] or case.root), texts[1] or ""


# Operations that mount, for which the kernel says ENOSPC when there are too many mounts.
_MOUNTING = ("bind", "mount", "bind_at", "mount_at", "overlay_at", "mask_at", "pivot_root", "pin")


def too_many_mounts(case: Case) -> Hints:
    """ENOSPC of a mount, or of a new mount namespace, which is a copy of ours."""
    most = machine.sysctl("fs.mount-max")
    here = len(machine.mounts())
    if case.step.operation not in (*_MOUNTING, "unshare", "clone") or most is None:
        return
    if here * 2 >= most - 64:  # a bind takes along what is mounted below
        yield (
            "this is not disk space: a mount namespace may hold no more mounts than the sysctl "
            f"fs.mount-max says, {most}, and {here} are there before this one is made: unmount "
            f"some, or sudo sysctl -w fs.mount-max={max(100000, most * 2)}"
        )


def explain_mount(case: Case) -> Hints:
    kind = case.step.args[2]
    root, target = _target_of_mount(case)
    shown = os.path.join(root, target.lstrip("/")) if root else target
    if case.errno in (errno.ENOTDIR, errno.ELOOP):
        if os.path.islink(shown):
            yield (
                f"{shown} is a symbolic link to {os.readlink(shown)}: refused, because the "
                "mount would land elsewhere; put a directory in its place"
            )
        else:
            yield from explain_path(None, shown, "the mount point", directory=True)
    elif case.errno == errno.ENOENT:
        yield from explain_path(None, shown, "the mount point", directory=True)
    elif case.errno == errno.ESTALE:
        yield f"{root} was replaced by another directory while the container was being set up"
    elif case.errno == errno.ENODEV:
        yield (
            f"this kernel does not know the file system {kind!r}; /proc/filesystems lists those "
            "it knows"
        )
    elif case.errno in (errno.EPERM, errno.EACCES):
        yield from mount_refused(case, kind)


def mount_refused(case: Case, kind: str) -> Hints:
    if machine.is_gvisor():
        yield "this is gVisor, not Linux; whoever runs it decided that this cannot be mounted"
        return
    if case.errno == errno.EACCES and (profile := machine.apparmor_profile()):
        yield f"the AppArmor profile {profile} refuses mounts{docker_flags()}"
        return
    inner = case.unshared(NEWUSER) or not machine.in_first_user_namespace()
    if kind == "proc" and inner:
        said = False
        if case.unshared(NEWUSER) and not case.unshared(NEWPID) and not case.joined(NEWPID):
            said = True
            yield "a /proc shows a pid namespace, and this one is still the host's: needs pid=True"
        if covered := machine.covered_proc():
            said = True
            masked = machine.engine() and not _MASKED.isdisjoint(covered)
            advice = f"; {_UNMASK[machine.engine()]} uncovers them" if masked else ""
            yield (
                "in a user namespace the kernel mounts a new /proc only where the old one is "
                f"wholly visible, and here these are covered: {_listed(covered)}{advice}"
            )
        if case.did("pivot_root") and not said:
            said = True
            yield (
                "after pivot_root the old /proc is out of sight, and a user namespace gets no "
                "new one then: mount it before"
            )
        if said:
            return
    if kind == "sysfs" and inner and not case.unshared(NEWNET):
        yield "a /sys shows a network namespace, and this one is still the host's: needs net=True"
        return
    known = {
        line.split("\t")[-1]: line.startswith("nodev")
        for line in machine.read("/proc/filesystems").splitlines()
    }
    if inner and known.get(kind) is False:
        yield f"{kind} lies on a disk, and only the root of the host may mount that"
        return
    yield from no_power(case, f"mounting {kind}")


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - 8} more" if len(paths) > 8 else ""
    return ", ".join(paths[:8]) + more


def explain_bind(case: Case) -> Hints:
    if case.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP):
        for path, name in zip(case.step.args[:2], ("the source", "the target"), strict=True):
            hints = list(explain_path(case.root, path, name))
            if hints:
                yield from hints
                return
    elif case.errno == errno.EPERM:
        yield from _mounts_are_not_ours(case, "bind")


def explain_propagation(case: Case) -> Hints:
    path = case.step.args[0]
    if case.errno == errno.EINVAL and case.root is None and not _is_mount_point(case, path):
        yield f"{path} is not a mount point, so it has no propagation: bind it on itself first"
    elif case.errno == errno.EPERM:
        yield from _mounts_are_not_ours(case, "change mounts")
    else:
        yield from explain_path(case.root, path, "the mount point")


def _mounts_are_not_ours(case: Case, what: str) -> Hints:
    if case.unshared(NEWUSER) and not case.unshared(NEWNS) and not case.joined(NEWNS):
        yield (
            f"the mount namespace is still the host's: mount=True makes a new one, in which "
            f"you may {what}"
        )
    else:
        yield from no_power(case, f"to {what}")


def _is_mount_point(case: Case, path: str) -> bool:
    path = os.path.realpath(path)
    bound = any(
        name in ("bind", "mount") and texts[1] and os.path.realpath(texts[1]) == path
        for name, _, _, texts in case.before
    )
    return bound or any(mount.point == path for mount in machine.mounts())


def explain_pivot_root(case: Case) -> Hints:
    path = case.step.args[0]
    if case.errno == errno.EPERM:
        yield from _mounts_are_not_ours(case, "pivot")
    elif case.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
        yield from explain_path(case.root, path, "the root", directory=True)
    elif case.errno == errno.ESTALE:
        yield f"{path} was replaced by another directory while the container was being set up"
    elif case.errno in (errno.EINVAL, errno.EBUSY):
        yield from _cannot_pivot(case, path)


def _cannot_pivot(case: Case, path: str) -> Hints:
    private = any(
        name == "propagation" and not numbers[0] & 1 << 20 and texts[0] == "/"
        for name, _, numbers, texts in case.before
    )
    if machine.is_initramfs():
        yield (
            "this machine runs from its initramfs, which cannot be pivoted away: "
            "pass root_method='chroot'"
        )
    elif not machine.root_is_mount_point():
        yield (
            "this process is chrooted into a directory that is no mount point, and pivot_root "
            "cannot swap that: start from outside of the chroot, or pass root_method='chroot'"
        )
    elif os.path.realpath(path) == "/":
        yield f"{path} is the root already: pivot_root needs another directory"
    elif not _is_mount_point(case, path):
        yield (
            f"{path} is not a mount point, and pivot_root takes nothing else: bind it on itself "
            "first, .bind(root, root)"
        )
    elif not private and any("shared:" in mount.propagation for mount in machine.mounts()):
        yield (
            "the mounts are shared with the rest of the machine, and pivot_root refuses that: "
            'leave propagation="private" (in a Plan, .make_private() comes first)'
        )


def explain_chroot(case: Case) -> Hints:
    if case.errno == errno.EPERM:
        if not case.unshared(NEWUSER) and not machine.passes_on(machine.CAP_SYS_CHROOT):
            yield (
                f"chroot needs CAP_SYS_CHROOT, which uid {os.geteuid()} has not: add user=True "
                '(in a Plan, .unshare("user").map_root() comes first)'
            )
        elif machine.apparmor_restricts():
            yield from apparmor()
        else:
            yield from filtered()
    elif case.step.args:
        yield from explain_path(case.root, case.step.args[0], "the root", directory=True)


def shows_outside(case: Case) -> Hints:
    """Can the mount that a target lies in not be made a slave?"""
    stays_inside = case.raw is not None and case.raw[1] & 4  # NSD_STAYS_INSIDE
    if case.errno == errno.EINVAL and stays_inside and not machine.root_is_mount_point():
        yield (
            "this process is chrooted into a directory that is no mount point: what is mounted "
            "here would show outside, too, where mounts are shared; start from outside"
        )


def explain_chdir(case: Case) -> Hints:
    if not case.step.args:
        yield from _where_we_are(case)
        return
    path = case.step.args[0]
    root = case.root
    if case.errno == errno.EXDEV:
        yield f"{path} leads to a directory outside of the root: name one inside"
        return
    yield from explain_path(root, path, "the working directory", directory=True)
    if root is not None and case.errno == errno.ENOENT and os.path.isdir(path):
        yield f"{path} exists outside only; cwd is a directory inside"


def _where_we_are(case: Case) -> Hints:
    path = working_directory()
    if not path:
        gone = case.errno == errno.ENOENT
        yield (
            "the working directory was deleted, and a relative path begins there: pass cwd="
            if gone
            else "the working directory lies outside of the root, so that it has no path: pass cwd="
        )
        return
    above = (path[: end or 1] for end in (i for i, c in enumerate(path + "/") if c == "/"))
    mounts = ("mount", "bind", "mount_at", "bind_at", "overlay_at")
    mounted = [texts[1] for name, _, _, texts in case.before if name in mounts]
    over = next((place for place in above if place in mounted), "")
    if over and case.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
        yield (
            f"{over} is covered by a mount of the container's, and {path} does not exist there, or "
            "may not be looked into: pass cwd=, a directory inside, or bind this one there, too"
        )
    else:
        yield from explain_path(None, path, "the working directory", directory=True)
