"""A visit: nsdemo's launcher joins a mount namespace, does one thing there, and executes nothing.

What lies there belongs to the container; nothing of it runs with our power.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from .. import _core
from .._facts.targets import Resolved, unreadable
from .._plan.request import Namespaces
from .._request.stdio import DEVNULL, Stdio
from .._request.values import CLONE_FLAGS, FOREVER
from .run import launch

if TYPE_CHECKING:
    from typing import Unpack

_SOCKET_SLOT = 65  # NSD_SOCKET_SLOT


def release_in(target: Any, path: bytes) -> None:
    """Take away a pin in the target's mount namespace."""
    pins = ((0, os.path.join(os.getcwdb(), path)),)
    _visit("release", Resolved(target), pins=pins)


def open_root(target: Any) -> int:
    """A descriptor (O_PATH) of the root of the target's mount namespace; the caller closes it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with closing(ours):
        with closing(theirs):
            _visit("root", Resolved(target), theirs)
        _, received, *_ = socket.recv_fds(ours, 1, 1, socket.MSG_DONTWAIT)
    if not received:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    os.set_inheritable(received[0], False)
    return received[0]


def _visit(
    recipe: str,
    target: Resolved,
    answer: socket.socket | None = None,
    **wishes: Unpack[_core.Wishes],
) -> None:
    with closing(target), closing(_mount_namespace(target)) as mount:
        namespaces = _way_to(mount)
        wishes["joins"] = namespaces.joins()
        core = _core.recipe(recipe, [], [], [], namespaces.keep(None), **wishes)
        try:
            if answer is not None:
                core = core.with_slot(_SOCKET_SLOT, answer.fileno(), answer)
            nowhere = Stdio(DEVNULL, DEVNULL, DEVNULL)
            launch(core, nowhere, (), (-1, -1, -1), None, FOREVER).close()
        finally:
            for resolved, _ in namespaces.targets:
                resolved.close()


def _mount_namespace(target: Resolved) -> Resolved:
    """That of a process as a file: it knows who owns it."""
    if target.kind not in (None, "mount"):
        raise ValueError(f"mount= was given a namespace file of the kind {target.kind}")
    if target.kind is not None:
        return target
    try:
        file: Resolved = target.read(lambda pid, _: Resolved(f"/proc/{pid}/ns/mnt"), 0)
        if target.pidfd < 0 and _core.process_birth(target.pid) != target.birth:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    except FileNotFoundError:
        gone = ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        raise unreadable(target.pid, gone) from None
    except (PermissionError, ProcessLookupError) as error:
        raise unreadable(target.pid, error) from None
    return file


def _way_to(mount: Resolved) -> Namespaces:
    """The mount namespace, also where it is our own: our root may be another; and its owner, so
    that an ordinary user has the power to join it, and root has no more than its own in there."""
    namespaces = Namespaces({})
    with suppress(PermissionError):  # the owner lies around our user namespace
        owner = mount.owner_namespace()
        namespaces.targets.append((owner, owner.differing(CLONE_FLAGS["user"])))
    namespaces.targets.append((mount, CLONE_FLAGS["mount"]))
    return namespaces
