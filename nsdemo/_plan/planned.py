"""What each call means: from its request to the plan that it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .. import _core
from .._facts.targets import Resolved, must_be_answered, unreadable
from .._request.given import UNSAID, ChrootRequest, EnterRequest, SpawnRequest
from .._request.values import (
    CLONE_FLAGS,
    MS_PROPAGATION,
    MS_REC,
    absolute_path,
    encode_path,
)
from .plan import Plan
from .request import CAP_SYS_ADMIN, CAP_SYS_CHROOT, Namespaces, make_plan


def chroot_plan(request: ChrootRequest) -> Plan:
    """That of chroot_run."""
    maps_users = asks_for_users(request)
    new_users = maps_users or not _core.has_capability(CAP_SYS_CHROOT)
    return make_plan(
        "chroot_run",
        request,
        namespaces=Namespaces({"user": new_users}),
        root=absolute(request.root),
        root_method="chroot",
        users_of=request if maps_users else None,
        clean=True,
    )


def spawn_plan(request: SpawnRequest) -> Plan:
    """That of spawn and run."""
    maps_users = asks_for_users(request)
    if maps_users:
        from .._request.id_maps import must_be_new

        must_be_new(request)
        request.user = True
    wanted: dict[str, Any] = request.namespaces()
    joined = None if request.join is None else Resolved(request.join, request)
    if joined is not None:
        if joined.kind is not None:
            joined.close()
            raise ValueError(
                f"join= takes a process, not a namespace file; pass {joined.kind}= for that"
            )
        for keyword, unsaid in UNSAID.items():
            if wanted[keyword] is unsaid:
                wanted[keyword] = joined
    namespaces = Namespaces(wanted, request)
    if not _core.has_capability(CAP_SYS_ADMIN):
        silent = request.user is None and joined is None
        if namespaces.joined:
            namespaces.outside_in(add=silent)
        elif silent and (namespaces.unshare or request.root is not None):
            namespaces.unshare |= CLONE_FLAGS["user"]
    new_mount = wanted["mount"] is True
    files: tuple[Any, ...] = ()
    covers_proc = False
    if request.mounts != ():
        from ..mounts import covers, entries

        if not new_mount:
            raise ValueError("mounts= needs mount=True: it would change the host's mounts")
        files = entries(request.mounts)
        covers_proc = covers(request.mounts, "/proc")
    mount_proc = request.mount_proc
    if mount_proc not in (None, True, False) and isinstance(mount_proc, (str, os.PathLike)):
        from ..mounts import Proc, entries

        if not new_mount:
            raise ValueError("mount_proc= needs mount=True: it would change the host's mounts")
        files = (*entries([Proc(mount_proc)]), *files)
        mount_proc = False
    if mount_proc is None:
        forked = bool(request.fork)
        mount_proc = new_mount and wanted["pid"] is True and forked and not covers_proc
    _check_spawn(request, wanted, mount_proc)
    propagation = request.propagation
    root = None if request.root is None else absolute(request.root)
    if request.overlay:
        if root is None or not new_mount:
            raise ValueError("overlay=True needs root= and mount=True: it covers that directory")
        files = (*_over_root(request, root, files, mount_proc, namespaces), *files)
    elif request.overlay_size is not None:
        raise ValueError("overlay_size= needs overlay=True: it is the room for its changes")
    if request.readonly_root:
        if not new_mount:
            raise ValueError("readonly_root=True needs mount=True: it would close the host's files")
        if root is not None and request.root_method == "chroot":
            raise ValueError("readonly_root=True needs root_method='pivot_root': a mount is closed")
        from ..mounts import readonly_root

        files = (*files, readonly_root())
    if root is not None and _is_slash(root):
        root = (
            b"/" if request.overlay else None
        )  # it is that already, and nothing can be pivoted to itself
        cwd = b"" if request.cwd is None else encode_path("cwd", request.cwd)
        request.cwd = os.path.join("/", os.fsdecode(cwd))  # as under any root
    plan = make_plan(
        "spawn",
        request,
        namespaces=namespaces,
        root_of=foreign_root(joined, namespaces) if request.root is None else None,
        root=root,
        root_method=request.root_method,
        propagation=-1 if propagation == "unchanged" else MS_PROPAGATION[propagation] | MS_REC,
        fork=bool(request.fork),
        mount_proc=bool(mount_proc),
        init=bool(request.init),
        watch=bool(request.die_with_parent),
        hostname=request.hostname,
        files=files,
        users_of=request if maps_users else None,
        settings=_settings(request, wanted, namespaces.unshare),
        clean=request.root is not None or joined is not None,
    )
    plan._remembered.overlay = bool(request.overlay)
    if request.persist is not None and not isinstance(wanted["mount"], bool):
        plan._remembered.pinned_in = request.join if request.mount is True else request.mount
    return plan


def _over_root(
    request: SpawnRequest,
    root: bytes,
    files: tuple[Any, ...],
    mount_proc: bool,
    namespaces: Namespaces,
) -> list[Any]:
    """The overlay over the root, and what lies over the mounts below it."""
    from .._facts.machine import in_first_user_namespace
    from ..mounts import over_root
    from .layers import layers

    must_be_answered(os.fsdecode(root), request)
    taken = {os.fsdecode(target) for _, _, _, target, _ in files}
    if mount_proc:
        taken.add("/proc")
    unshares_user = bool(namespaces.unshare & CLONE_FLAGS["user"])
    anew, below = layers(root, taken, unshares_user or not in_first_user_namespace())
    return [over_root(root, request.overlay_size, anew), *below]


def _settings(
    request: SpawnRequest, wanted: Mapping[str, Any], unshare: int
) -> _core.Wishes | None:
    """What few launches ask for; the checks are loaded only then."""
    asked = (request.persist, request.monotonic, request.boottime, request.domainname)
    if asked == (None, None, None, None):
        return None
    from .settings import spawn_settings

    return spawn_settings(request, wanted, unshare)


def _check_spawn(request: SpawnRequest, wanted: Mapping[str, Any], mount_proc: bool) -> None:
    """What would touch the host, or cannot be."""
    new_mount = wanted["mount"] is True
    if request.root_method not in ("pivot_root", "chroot"):
        raise ValueError(f"root_method is 'pivot_root' or 'chroot', not {request.root_method!r}")
    if request.propagation not in (*MS_PROPAGATION, "unchanged"):
        kinds = ", ".join((*MS_PROPAGATION, "unchanged"))
        raise ValueError(f"propagation is one of {kinds}, not {request.propagation!r}")
    if mount_proc and not new_mount:
        raise ValueError("mount_proc=True needs mount=True: it would cover the host's /proc")
    if request.root is not None and request.root_method == "pivot_root" and not new_mount:
        raise ValueError(
            "root= pivots, which needs mount=True; with root_method='chroot' it does not"
        )
    if request.hostname is not None and wanted["uts"] is not True:
        raise ValueError("hostname= needs uts=True: it would rename the host")
    if request.propagation != "private" and not new_mount:
        raise ValueError("propagation= needs mount=True: it would change the host's mounts")
    if request.init and not (wanted["pid"] is True and request.fork):
        raise ValueError("init=True needs pid=True and fork=True: init is PID 1 of a namespace")


def enter_plan(request: EnterRequest) -> Plan:
    """That of enter."""
    resolved = Resolved(request.target, request)
    if resolved.kind is not None:
        resolved.close()
        raise ValueError(
            f"enter needs a process; a {resolved.kind} namespace file alone is joined by "
            f"spawn(args, {resolved.kind}=path)"
        )
    wanted = request.namespaces()
    namespaces = Namespaces.of(resolved, [keyword for keyword in wanted if wanted[keyword]])
    lends_power = not request.user and request.uid is None and (request.mount or request.root)
    if lends_power and resolved.differing(CLONE_FLAGS["user"]):
        raise ValueError(
            "user=False would run the container's program with the host's power: the target "
            "has a user namespace of its own; give uid= as well if that is what you mean"
        )
    return make_plan(
        "spawn",
        request,
        namespaces=namespaces,
        root_of=foreign_root(resolved, namespaces) if request.root else None,
        settings=_cgroups_of(resolved) if request.join_cgroup else None,
        clean=True,
    )


def _cgroups_of(target: Resolved) -> _core.Wishes:
    from .settings import cgroup_settings

    try:
        return cgroup_settings(target.pid)
    except OSError as error:
        raise unreadable(target.pid, error) from None


def asks_for_users(request: ChrootRequest | SpawnRequest) -> bool:
    """Is there a keyword that only a new user namespace can give a meaning?"""
    maps = request.uid_map is request.gid_map is None
    return not maps or request.setgroups is not None or request.owner is not None


def foreign_root(target: Resolved | None, namespaces: Namespaces) -> Resolved | None:
    """The target, if its root directory is not ours already."""
    if target is None or namespaces.joined & CLONE_FLAGS["mount"]:
        return target
    try:
        theirs, ours = os.stat(f"/proc/{target.pid}/root"), os.stat("/")
    except OSError:
        return target  # the launcher will say why
    return None if os.path.samestat(theirs, ours) else target


def absolute(root: Any) -> bytes:
    """The launcher changes its working directory, so a relative root would get lost."""
    return absolute_path(encode_path("root", root))


def _is_slash(root: bytes) -> bool:
    return (b".." in root or not root.strip(b"/.")) and os.path.normpath(root) == b"/"
