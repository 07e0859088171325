"""Why something of ``mounts=`` could not be mounted in the root of a container."""

from __future__ import annotations

import errno
import os

from .._facts import machine
from .case import NEWUSER, Case, Hints, no_power
from .executable import explain_path
from .mounted import mount_refused

# Why a target that is missing could not be made.
_NOT_MADE = {
    errno.EROFS: "it lies on a read-only file system",
    errno.EACCES: "this user may not write there",
    errno.ENOENT: "its file system takes no new names, as /proc",
    errno.EPERM: "its file system takes no new names, as /sys",
}


def _place(case: Case) -> tuple[str, str]:
    """(root, target) of a step that mounts below a root."""
    texts = case.raw[3] if case.raw else (None, case.step.args[1], None, None)
    return texts[3] or case.root or "/", texts[1] or ""


def _explain_target(case: Case) -> Hints:
    """What lies on the way, seen as the step sees it: component by component, no link followed."""
    root, target = _place(case)
    so_far = root
    names = [name for name in target.split("/") if name]
    for number, name in enumerate(names):
        so_far = os.path.join(so_far, name)
        if os.path.islink(so_far):
            yield (
                f"{so_far} is a symbolic link to {os.readlink(so_far)}: refused, because the mount "
                "could land elsewhere; name the place that it leads to"
            )
            return
        if number < len(names) - 1 and os.path.exists(so_far) and not os.path.isdir(so_far):
            yield f"the target is {target}, and {so_far} is not a directory"
            return
    if case.errno == errno.ENOTDIR and not os.path.isdir(so_far):
        yield f"{so_far} is a file, and only a file can be mounted on it"
    elif case.errno == errno.EISDIR:
        yield (
            f"{so_far} is a directory, and only a directory can be mounted on it: name the file, "
            f"{os.path.join(target, 'NAME')}"
        )


def _explain_place(case: Case) -> Hints:
    root, target = _place(case)
    if case.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR):
        yield from _explain_target(case)
    elif case.errno == errno.EXDEV:
        yield f"{target} leads out of the root: '..' is refused in a target"
    elif case.errno == errno.ESTALE:
        yield f"{root} was replaced by another directory while the container was being set up"
    elif case.errno == errno.ENOSPC and machine.is_full(root):
        yield f"the file system of {root} is full: no mount point can be made there"
    elif case.errno in _NOT_MADE:
        missing = os.path.join(root, target.lstrip("/"))
        if not os.path.lexists(missing):
            yield f"{missing} does not exist, and could not be made: {_NOT_MADE[case.errno]}"


def explain_source(case: Case) -> Hints:
    """open_source"""
    path = case.step.args[0]
    if case.errno == errno.ENODEV:
        yield f"{path} is not the device of that name: something else was put in its place"
    else:
        yield from explain_path(case.root, path, "the source")


def explain_bind_at(case: Case) -> Hints:
    """bind_at"""
    flags = case.step.args[-1]
    root, target = _place(case)
    if case.errno == errno.EPERM and os.path.lexists(os.path.join(root, target.lstrip("/"))):
        yield from no_power(case, "a bind")
    elif case.errno == errno.EINVAL and case.unshared(NEWUSER) and not flags & 0x4000:
        yield (
            "in a user namespace what is mounted below the source may not be uncovered: "
            "recursive=True takes it along"
        )
    else:
        yield from _explain_place(case)


def explain_mount_at(case: Case) -> Hints:
    """mount_at"""
    options, _, kind = case.step.args[:3]
    root, target = _place(case)
    shown = os.path.join(root, target.lstrip("/"))
    if case.errno == errno.EINVAL and options:
        yield f"{kind} does not take one of the options {options}"
    elif case.errno in (errno.EACCES, errno.EPERM) and not os.path.lexists(shown):
        yield from _explain_place(case)
    elif case.errno in (errno.EPERM, errno.EACCES):
        yield from mount_refused(case, kind)
    elif case.errno == errno.ENODEV:
        yield f"this kernel does not know the file system {kind!r}"
    else:
        yield from _explain_place(case)


def explain_link_at(case: Case) -> Hints:
    """link_at"""
    name = case.step.args[2]
    if case.errno == errno.EEXIST:
        yield f"there is a {name} already"
    else:
        yield from _explain_place(case)


def explain_mask_at(case: Case) -> Hints:
    """mask_at"""
    if case.errno == errno.EPERM:
        yield from no_power(case, "hiding parts of /proc")
    else:
        yield from _explain_place(case)


def explain_overlay_at(case: Case) -> Hints:
    """overlay_at"""
    words = case.step.args[0]
    root, target = _place(case)
    if case.errno in (errno.ELOOP, errno.ENOTDIR) and (hints := list(_explain_target(case))):
        yield from hints
    elif case.errno == errno.ENODEV:
        yield "this kernel has no overlay file system: modprobe overlay, as root"
    elif case.errno in (errno.EPERM, errno.EACCES) and os.path.lexists(
        os.path.join(root, target.lstrip("/"))
    ):
        if case.unshared(NEWUSER):
            yield (
                "an overlay in a user namespace needs Linux 5.11, and an upper directory that is "
                "yours"
            )
        yield from no_power(case, "mounting an overlay")
    elif case.errno in (errno.EINVAL, errno.EXDEV, errno.ENOTDIR) and "upperdir=" in words:
        yield (
            "upper and work must be two directories on one file system, which is no overlay, and "
            "takes extended attributes; neither in the other, and work empty"
        )
    elif case.errno in (errno.EINVAL, errno.ELOOP, errno.ENOTDIR):
        yield (
            "a lower directory cannot be laid under others: it is none, or something is mounted "
            "below it that a user namespace may not uncover, or overlays are nested too deep"
        )
    else:
        yield from _explain_place(case)


def explain_readonly(case: Case) -> Hints:
    """readonly"""
    *root, _ = case.step.args
    path = (root or ["/"])[0]
    if case.errno == errno.EINVAL:
        yield f"{path} is not a mount point: bind it on itself first, .bind(root, root)"
    elif case.errno == errno.EPERM:
        yield from no_power(case, "making mounts read-only")
    else:
        yield from explain_path(case.root, path, "the root", directory=True)
