"""From the keywords of a call to a request that the core's recipes put in order."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from . import _core
from ._plan import Plan
from ._targets import Resolved, must_be_answered
from ._values import (
    CLONE_FLAGS,
    KEYWORDS,
    MS_PROPAGATION,
    MS_REC,
    CleanEnvironment,
    Environment,
    absolute_path,
    check_id,
    command_vectors,
    encode_name,
    encode_path,
)

CAP_SETGID = 6
CAP_SETUID = 7
CAP_SYS_CHROOT = 18
CAP_SYS_ADMIN = 21

# What a plan remembers of its call, to be used by start() and run().
REMEMBERED = (
    "stdin",
    "stdout",
    "stderr",
    "text",
    "encoding",
    "errors",
    "pass_fds",
    "input",
    "capture_output",
    "timeout",
    "check",
)


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


def _power(given: Mapping[str, Any]) -> _core.Wishes:
    """What the command is denied; the checks are loaded only if anything is."""
    if (
        given["no_new_privs"] is False
        and given["capabilities"] is given["rlimits"] is given["seccomp"] is None
        and given["securebits"] is given["landlock"] is None
        and given["ambient"] == ()
    ):
        return {}
    from ._power import checked_power

    return checked_power(given)


def _users(given: Mapping[str, Any]) -> tuple[_core.Wishes, int]:
    """Who is who in the new user namespace, and who the caller is there."""
    from ._users import checked_users

    return checked_users(
        given,
        sets_uids=_core.has_capability(CAP_SETUID),
        sets_gids=_core.has_capability(CAP_SETGID),
    )


def asks_for_users(given: Mapping[str, Any]) -> bool:
    """Is there a keyword that only a new user namespace can give a meaning?"""
    maps = given["uid_map"] is given["gid_map"] is None
    return not maps or given["setgroups"] is not None or given["owner"] is not None


class Namespaces:
    """What the eight keywords ask for: flags to unshare, and targets to join."""

    def __init__(self, wanted: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> None:
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
                    resolved = value if isinstance(value, Resolved) else Resolved(value, given)
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
            from ._nests import ordered

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
    args: Sequence[Any],
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
    maps_users: bool = False,
    settings: _core.Wishes | None = None,
    clean: bool,
    given: dict[str, Any],
) -> Plan:
    """Check what all four calls have in common, and let the recipe order the steps.

    ``watch``: does a watchdog end the command when this process dies? None: the kernel does, when
    the calling thread ends, which is free, and right for who keeps its thread until the end.
    """
    ids = _ids(given["uid"], given["gid"], given["groups"], given["umask"])
    power = _power(given)
    users: _core.Wishes = {}
    uid_inside = 0
    if maps_users:
        users, uid_inside = _users(given)
    session = _session(given["start_new_session"], given["process_group"], given["stdin"])
    terminal = None
    if given["tty"] is not False:
        from ._terminal import checked_terminal

        terminal = checked_terminal(given)
        session = {"new_session": True, "terminal": terminal[1]}
    unshares_user = bool(namespaces.unshare & CLONE_FLAGS["user"])
    root_inside = uid_inside == 0 if unshares_user else os.geteuid() == 0
    env = _environment(given["env"], clean, given["uid"], root_inside)
    argv, envp, paths = command_vectors(args, env)
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
    if given["cwd"] is not None:
        wishes["cwd"] = encode_path("cwd", given["cwd"])
    if init:
        wishes["init"] = True
    if files:
        wishes["files"] = files
    keep = namespaces.keep(root_of)

    def recipe(watch: bool, with_thread: bool = False) -> _core.Plan:
        ending: _core.Wishes = {**wishes, "watch": watch, "die_with_parent": with_thread}
        return _core.recipe("spawn" if watch else kind, argv, envp, paths, keep, **ending)

    options = {
        key: value
        for key in REMEMBERED
        if (value := given.get(key)) is not None and value is not False and value != ()
    }
    options["args"] = args
    if given.get("overlay"):
        options["overlay"] = True
    if terminal is not None:
        options["tty"] = terminal
    if root is not None:
        options["root"] = os.fsdecode(root)
    if watch is not None:
        return Plan._from_core(recipe(watch), options)
    return Plan._from_core(recipe(False, with_thread=True), options, recipe)


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


# The defaults of spawn's namespace keywords. With join=, a keyword left at its default means
# the target.
_DEFAULTS = {
    "mount": True,
    "uts": True,
    "ipc": True,
    "pid": True,
    "net": False,
    "user": None,
    "cgroup": False,
    "time": False,
}


def spawn_plan(given: dict[str, Any]) -> Plan:
    """The plan of spawn and run, from their arguments."""
    maps_users = asks_for_users(given)
    if maps_users:
        from ._users import asked_for, must_be_new

        must_be_new(given, asked_for(given))
        given["user"] = True
    wanted = {keyword: given[keyword] for keyword in KEYWORDS}
    joined = None if given["join"] is None else Resolved(given["join"], given)
    if joined is not None:
        if joined.kind is not None:
            joined.close()
            raise ValueError(
                f"join= takes a process, not a namespace file; pass {joined.kind}= for that"
            )
        for keyword, default in _DEFAULTS.items():
            if wanted[keyword] is default:
                wanted[keyword] = joined
    namespaces = Namespaces(wanted, given)
    if not _core.has_capability(CAP_SYS_ADMIN):
        unsaid = given["user"] is None and joined is None
        if namespaces.joined:
            namespaces.outside_in(add=unsaid)
        elif unsaid and (namespaces.unshare or given["root"] is not None):
            namespaces.unshare |= CLONE_FLAGS["user"]
    new_mount = wanted["mount"] is True
    files: tuple[Any, ...] = ()
    covers_proc = False
    if given["mounts"] != ():
        from .mounts import covers, entries

        if not new_mount:
            raise ValueError("mounts= needs mount=True: it would change the host's mounts")
        files = entries(given["mounts"])
        covers_proc = covers(given["mounts"], "/proc")
    mount_proc = given["mount_proc"]
    if mount_proc not in (None, True, False) and isinstance(mount_proc, (str, os.PathLike)):
        from .mounts import Proc, entries

        if not new_mount:
            raise ValueError("mount_proc= needs mount=True: it would change the host's mounts")
        files = (*entries([Proc(mount_proc)]), *files)
        mount_proc = False
    if mount_proc is None:
        forked = bool(given["fork"])
        mount_proc = new_mount and wanted["pid"] is True and forked and not covers_proc
    _check_spawn(given, wanted, mount_proc)
    propagation = given["propagation"]
    root = None if given["root"] is None else absolute(given["root"])
    if given["overlay"]:
        if root is None or not new_mount:
            raise ValueError("overlay=True needs root= and mount=True: it covers that directory")
        files = (*_over_root(given, root, files, mount_proc, namespaces), *files)
    elif given["overlay_size"] is not None:
        raise ValueError("overlay_size= needs overlay=True: it is the room for its changes")
    if given["readonly_root"]:
        if not new_mount:
            raise ValueError("readonly_root=True needs mount=True: it would close the host's files")
        if root is not None and given["root_method"] == "chroot":
            raise ValueError("readonly_root=True needs root_method='pivot_root': a mount is closed")
        from .mounts import readonly_root

        files = (*files, readonly_root())
    if root is not None and _is_slash(root):
        root = (
            b"/" if given["overlay"] else None
        )  # it is that already, and nothing can be pivoted to itself
        cwd = b"" if given["cwd"] is None else encode_path("cwd", given["cwd"])
        given["cwd"] = os.path.join("/", os.fsdecode(cwd))  # as under any root
    plan = make_plan(
        "spawn",
        given["args"],
        namespaces=namespaces,
        root_of=foreign_root(joined, namespaces) if given["root"] is None else None,
        root=root,
        root_method=given["root_method"],
        propagation=-1 if propagation == "unchanged" else MS_PROPAGATION[propagation] | MS_REC,
        fork=bool(given["fork"]),
        mount_proc=bool(mount_proc),
        init=bool(given["init"]),
        watch=bool(given["die_with_parent"]),
        hostname=given["hostname"],
        files=files,
        maps_users=maps_users,
        settings=_settings(given, wanted, namespaces.unshare),
        clean=given["root"] is not None or joined is not None,
        given=given,
    )
    if given["persist"] is not None and not isinstance(wanted["mount"], bool):
        plan._options["pinned_in"] = given["join"] if given["mount"] is True else given["mount"]
    return plan


def _over_root(
    given: Mapping[str, Any],
    root: bytes,
    files: tuple[Any, ...],
    mount_proc: bool,
    namespaces: Namespaces,
) -> list[Any]:
    """The overlay over the root, and what lies over the mounts below it."""
    from ._layers import layers
    from ._machine import in_first_user_namespace
    from .mounts import over_root

    must_be_answered(os.fsdecode(root), given)
    taken = {os.fsdecode(target) for _, _, _, target, _ in files}
    if mount_proc:
        taken.add("/proc")
    unshares_user = bool(namespaces.unshare & CLONE_FLAGS["user"])
    anew, below = layers(root, taken, unshares_user or not in_first_user_namespace())
    return [over_root(root, given["overlay_size"], anew), *below]


def _settings(
    given: dict[str, Any], wanted: Mapping[str, Any], unshare: int
) -> _core.Wishes | None:
    """What few launches ask for; the checks are loaded only then."""
    asked = (given["persist"], given["monotonic"], given["boottime"], given["domainname"])
    if asked == (None, None, None, None):
        return None
    from ._settings import spawn_settings

    return spawn_settings(given, wanted, unshare)


def _check_spawn(given: dict[str, Any], wanted: Mapping[str, Any], mount_proc: bool) -> None:
    """What would touch the host, or cannot be."""
    new_mount = wanted["mount"] is True
    if given["root_method"] not in ("pivot_root", "chroot"):
        raise ValueError(f"root_method is 'pivot_root' or 'chroot', not {given['root_method']!r}")
    if given["propagation"] not in (*MS_PROPAGATION, "unchanged"):
        kinds = ", ".join((*MS_PROPAGATION, "unchanged"))
        raise ValueError(f"propagation is one of {kinds}, not {given['propagation']!r}")
    if mount_proc and not new_mount:
        raise ValueError("mount_proc=True needs mount=True: it would cover the host's /proc")
    if given["root"] is not None and given["root_method"] == "pivot_root" and not new_mount:
        raise ValueError(
            "root= pivots, which needs mount=True; with root_method='chroot' it does not"
        )
    if given["hostname"] is not None and wanted["uts"] is not True:
        raise ValueError("hostname= needs uts=True: it would rename the host")
    if given["propagation"] != "private" and not new_mount:
        raise ValueError("propagation= needs mount=True: it would change the host's mounts")
    if given["init"] and not (wanted["pid"] is True and given["fork"]):
        raise ValueError("init=True needs pid=True and fork=True: init is PID 1 of a namespace")
