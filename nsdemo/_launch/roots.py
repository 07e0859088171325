"""A process's root against the root of its mount namespace. Public in ``nsdemo.kernel``.

chroot(2) moves the first and leaves the second, which is where whoever joins the namespace
arrives; pivot_root(2) moves both. Only a joiner sees the second, so one is sent: nsdemo's launcher
joins, opens "/", hands us the descriptor and ends.
"""

from __future__ import annotations

import errno
import os
from typing import Any, NamedTuple

from .._errors import NamespaceError
from .._facts import machine
from .._facts.processes import Identity, pid_of
from .._facts.targets import namespaces, unreadable
from .visit import open_root


class Root(NamedTuple):
    """A process's root directory against the root of its mount namespace.

    path       the root directory as /proc/PID/root names it: seen from our root if it lies below
               it, else from the mount namespace's root
    identity   (device, inode) of the root directory
    namespace  (device, inode) of the "/" of a process that joins the mount namespace; None if we
               may not join
    same       whether both are one directory of one mount; where we may not join, whether the
               path says so
    """

    path: str
    identity: Identity
    namespace: Identity | None
    same: bool


def root(target: Any = None) -> Root:
    """A process's root directory, and whether it is the root of its mount namespace.

    A process is sent to join.

    Raises ProcessLookupError if the target has ended, PermissionError if it is not ours.

        >>> kernel.root(box).same    # spawn() pivots
        True

    Source: chroot(2), pivot_root(2), setns(2).
    """
    pid = pid_of(target)
    try:
        path = os.readlink(f"/proc/{pid}/root")
        own = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        gone = ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        raise unreadable(pid, gone) from None
    except OSError as error:
        raise unreadable(pid, error) from None
    try:
        identity, mount = _directory(own)
        try:
            joined = open_namespace_root(pid)
        except PermissionError:
            foreign = namespaces(pid)["mount"] != namespaces()["mount"]
            same = path == "/" and (foreign or not machine.is_chrooted())
            return Root(path, identity, None, same)
        try:
            reached, reached_mount = _directory(joined)
        finally:
            os.close(joined)
    finally:
        os.close(own)
    return Root(path, identity, reached, (identity, mount) == (reached, reached_mount))


def _directory(fd: int) -> tuple[Identity, int]:
    """(device, inode) and the number of the mount of an open directory."""
    found = os.fstat(fd)
    with open(f"/proc/self/fdinfo/{fd}", "rb") as info:
        fields = dict(line.split(b":\t", 1) for line in info)
    return (found.st_dev, found.st_ino), int(fields[b"mnt_id"])


def open_namespace_root(target: Any = None) -> int:
    """A descriptor (O_PATH) of the "/" that a process gets when it joins the mount namespace.

    The caller closes it. What is opened below it is looked up in the container's file systems:
    use openat2(2) with RESOLVE_IN_ROOT, or O_NOFOLLOW, for names that are not yours.

    Raises ProcessLookupError if the target has ended, PermissionError if we may not join.

    Example:
        >>> fd = kernel.open_namespace_root(box)
        >>> os.path.samestat(os.fstat(fd), os.stat(rootfs))
        True
        >>> os.close(fd)

    Source: setns(2).
    """
    pid = pid_of(target)
    try:
        return open_root(pid)
    except NamespaceError as error:
        if error.step.operation != "join":
            raise
        raise PermissionError(
            error.errno, f"the mount namespace of process {pid} is not ours to join"
        ) from None
