"""From the keywords of a call to a request that the core's recipes put in order."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from .. import _core
from .._facts.targets import Resolved
from .._request.given import ChrootRequest, Request, SpawnRequest
from .._request.remembered import Remembered
from .._request.values import (
    CLONE_FLAGS,
    CleanEnvironment,
    Environment,
    check_id,
    command_vectors,
    encode_name,
    encode_path,
)
from .plan import Plan

CAP_SETGID = 6
CAP_SETUID = 7
CAP_SYS_CHROOT = 18
CAP_SYS_ADMIN = 21


def _session(start_new_session: bool | None, process_group: int | None, stdin: Any) -> _core.Wishes:
    """A session of its own, or another process group."""
    if process_group is not None:
        if isinstance(process_group, bool) or not isinstance(process_group, int):
            raise TypeError("process_group must be an int")
        if not 0 <= process_group < 2**31:
            raise ValueError("process_group is 0 for one of its own, or a process group's id")
        if start_new_session:
            raise ValueError("a session leader cannot change its process group: choose one")
        return {"process_group": process_group}
    if start_new_session is None:
        return {"new_session": not _is_our_terminal(stdin)}
    return {"new_session": bool(start_new_session)}


def _is_our_terminal(stdin: Any) -> bool:
    """Job control needs the caller's session; everything else is safer with its own."""
    fd = 0 if stdin is None else stdin
    if not isinstance(fd, int):
        if not hasattr(fd, "fileno"):
            return False
        fd = fd.fileno()
    try:
        return 0 <= fd < 2**31 and os.isatty(fd) and os.tcgetpgrp(fd) >= 0
    except OSError:
        return False


def _environment(
    env: Mapping[Any, Any] | None, clean: bool, uid: int | None, root_inside: bool
) -> Environment:
    if env is not None:
        return env
    if not clean:
        return os.environ
    zero = uid == 0 if uid is not None else root_inside
    return CleanEnvironment(uid_zero=zero)


def _ids(uid: Any, gid: Any, groups: Any, umask: Any) -> _core.Wishes:
    """Whom the command belongs to; with a uid or gid the groups go, too."""
    wishes: _core.Wishes = {}
    if groups is not None:
        if isinstance(groups, (str, bytes)):
            raise TypeError("groups is a list of numbers, not a string")
        wishes["groups"] = tuple(check_id("groups", group) for group in groups)
        if len(wishes["groups"]) > 65536:
            raise ValueError("the kernel takes at most 65536 groups")
    elif uid is not None or gid is not None:
        wishes.update({"groups": (), "groups_implied": True})
    if umask is not None:
        if isinstance(umask, bool) or not isinstance(umask, int):
            raise TypeError("umask must be an int such as 0o022")
        if not 0 <= umask <= 0o777:
            raise ValueError("umask must be between 0 and 0o777")
        wishes["umask"] = umask
    if uid is not None:
        wishes["uid"] = check_id("uid", uid)
    if gid is not None:
        wishes["gid"] = check_id("gid", gid)
    return wishes


def _power(request: Request) -> _core.Wishes:
    """What the command is denied; the checks are loaded only if anything is."""
    if (
        request.no_new_privs is False
        and request.capabilities is None
        and request.rlimits is None
        and request.seccomp is None
        and request.securebits is None
        and request.landlock is None
        and request.ambient == ()
    ):
        return {}
    from .._request.power import checked_power

    return checked_power(request)


def _users(request: ChrootRequest | SpawnRequest) -> tuple[_core.Wishes, int]:
    """Who is who in the new user namespace, and who the caller is there."""
    from .._request.id_maps import checked_users

    return checked_users(
        request.uid_map,
        request.gid_map,
        request.setgroups,
        request.owner,
        sets_uids=_core.has_capability(CAP_SETUID),
        sets_gids=_core.has_capability(CAP_SETGID),
    )


class Namespaces:
    """What the eight keywords ask for: flags to unshare, and targets to join."""

    def __init__(self, wanted: Mapping[str, Any], request: Request | None = None) -> None:
        self.unshare = 0
        self.targets: list[tuple[Resolved, int]] = []
        known: dict[int, tuple[Resolved, int]] = {}
        for keyword, value in wanted.items():
            flag = CLONE_FLAGS[keyword]
            if value is True:
                self.unshare |= flag
            elif value is False or value is None:
                continue
            elif keyword == "user" and isinstance(value, str) and "/" not in value:
                raise TypeError(
                    "user= is a user namespace, not a user's name: to become a user, pass "
                    f"uid=pwd.getpwnam({value!r}).pw_uid"
                )
            else:
                resolved, flags = known.get(id(value), (None, 0))
                if resolved is None:
                    resolved = value if isinstance(value, Resolved) else Resolved(value, request)
                if resolved.kind not in (None, keyword):
                    resolved.close()
                    raise ValueError(
                        f"{keyword}= was given a namespace file of the kind {resolved.kind}"
                    )
                known[id(value)] = resolved, flags | flag
        # What is ours already is not joined: for the user namespace the kernel says EINVAL.
        for resolved, flags in known.values():
            self.targets.append((resolved, resolved.differing(flags)))

    @classmethod
    def of(cls, target: Resolved, keywords: Sequence[str]) -> Namespaces:
        """Those of one target, as far as they are not ours already."""
        self = cls({})
        flags = 0
        for keyword in keywords:
            flags |= CLONE_FLAGS[keyword]
        self.targets.append((target, target.differing(flags)))
        return self

    @property
    def joined(self) -> int:
        flags = 0
        for _, each in self.targets:
            flags |= each
        return flags

    def outside_in(self, *, add: bool) -> None:
        """An ordinary user may join a namespace only from the user namespace that owns it, or
        from one around that; ``add``: also where nothing was said about user namespaces."""
        joins = [(resolved, flags) for resolved, flags in self.targets if flags]
        if len(joins) == 1 and joins[0][0].kind is None:  # one process, one setns
            resolved, flags = joins[0]
            more = resolved.differing(CLONE_FLAGS["user"]) if add else 0
            self.targets[self.targets.index(joins[0])] = resolved, flags | more
        elif joins:
            from .._facts.nests import ordered

            self.targets = ordered(self.targets, add=add)

    def joins(self) -> tuple[tuple[int, int, int, int, int], ...]:
        return tuple((r.pid, r.birth, r.pidfd, r.fd, flags) for r, flags in self.targets if flags)

    def keep(self, root_of: Resolved | None) -> tuple[Resolved, ...] | None:
        """Those whose descriptors the plan needs as long as it lives."""
        targets = [resolved for resolved, _ in self.targets]
        if root_of is not None:
            targets.append(root_of)
        return tuple(each for each in targets if each.fd >= 0 or each.pidfd >= 0) or None


def make_plan(
    kind: str,
    request: Request,
    *,
    namespaces: Namespaces,
    root_of: Resolved | None = None,
    root: bytes | None = None,
    root_method: str = "pivot_root",
    propagation: int = -1,
    fork: bool = True,
    mount_proc: bool = False,
    init: bool = False,
    watch: bool | None = None,
    hostname: str | None = None,
    files: tuple[Any, ...] = (),
    users_of: ChrootRequest | SpawnRequest | None = None,
    settings: _core.Wishes | None = None,
    clean: bool,
) -> Plan:
    """Check what all four calls have in common, and let the recipe order the steps.

    ``watch``: does a watchdog end the command when this process dies? None: the kernel does, when
    the calling thread ends, which is free, and right for who keeps its thread until the end.
    """
    ids = _ids(request.uid, request.gid, request.groups, request.umask)
    power = _power(request)
    users: _core.Wishes = {}
    uid_inside = 0
    if users_of is not None:
        users, uid_inside = _users(users_of)
    session = _session(request.start_new_session, request.process_group, request.stdin)
    terminal = None
    if request.tty is not False:
        from .._request.terminal import checked_terminal

        terminal = checked_terminal(request)
        session = {"new_session": True, "terminal": terminal[1]}
    unshares_user = bool(namespaces.unshare & CLONE_FLAGS["user"])
    root_inside = uid_inside == 0 if unshares_user else os.geteuid() == 0
    env = _environment(request.env, clean, request.uid, root_inside)
    argv, envp, paths = command_vectors(request.args, env)
    wishes: _core.Wishes = {
        "unshare": namespaces.unshare,
        "fork": fork,
        "mount_proc": mount_proc,
        "propagation": propagation,
        **session,
        **ids,
        **power,
        **users,
        **(settings or {}),
    }
    if joins := namespaces.joins():
        wishes["joins"] = joins
    if root_of is not None:
        wishes["root_of"] = root_of.pid, root_of.birth, root_of.pidfd
    if root is not None:
        wishes.update({"root": root, "by_chroot": root_method == "chroot"})
    if hostname is not None:
        wishes["hostname"] = encode_name("hostname", hostname)
    if request.cwd is not None:
        wishes["cwd"] = encode_path("cwd", request.cwd)
    if init:
        wishes["init"] = True
    if files:
        wishes["files"] = files
    keep = namespaces.keep(root_of)

    def recipe(watch: bool, with_thread: bool = False) -> _core.Plan:
        ending: _core.Wishes = {**wishes, "watch": watch, "die_with_parent": with_thread}
        return _core.recipe("spawn" if watch else kind, argv, envp, paths, keep, **ending)

    remembered = Remembered()
    remembered.args = request.args
    remembered.options = request.run_options()
    if terminal is not None:
        remembered.size, remembered.terminal = terminal
    if root is not None:
        remembered.root = os.fsdecode(root)
    if watch is not None:
        return Plan._from_core(recipe(watch), remembered)
    return Plan._from_core(recipe(False, with_thread=True), remembered, recipe)
