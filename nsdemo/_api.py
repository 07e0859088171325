"""The three calls, and run: arguments in, a recipe's plan out, then launched."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from typing import Any

from . import _core
from ._container import CompletedProcess, Container, run_plan
from ._plan import Plan
from ._targets import Resolved
from ._values import (
    CLONE_FLAGS,
    KEYWORDS,
    MS_PROPAGATION,
    MS_REC,
    check_id,
    CleanEnvironment,
    command_vectors,
    encode_hostname,
    encode_path,
)

CAP_SYS_CHROOT = 18
CAP_SYS_ADMIN = 21

# Who ends the command when this process dies: a watchdog; or the kernel, when the calling
# thread ends, which is free, and right for a call that keeps its thread until the end.
WATCHDOG = 1
WITH_THREAD = 2

# What a plan remembers of its call, to be used by start() and run().
_REMEMBERED = (
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


def _session(
    start_new_session: bool | None, process_group: int | None, stdin: Any
) -> tuple[bool, int]:
    """(a session of its own?, process group or -1)."""
    if process_group is not None:
        if isinstance(process_group, bool) or not isinstance(process_group, int):
            raise TypeError("process_group must be an int")
        if process_group < 0:
            raise ValueError("process_group is 0 for one of its own, or a process group's id")
        if start_new_session:
            raise ValueError("a session leader cannot change its process group: choose one")
        return False, process_group
    if start_new_session is None:
        return not _is_our_terminal(stdin), -1
    return bool(start_new_session), -1


def _is_our_terminal(stdin: Any) -> bool:
    """Job control needs the caller's session; everything else is safer with its own."""
    fd = 0 if stdin is None else stdin
    if not isinstance(fd, int):
        if not hasattr(fd, "fileno"):
            return False
        fd = fd.fileno()
    try:
        return fd >= 0 and os.isatty(fd) and os.tcgetpgrp(fd) >= 0
    except OSError:
        return False


def _environment(
    env: Mapping[Any, Any] | None, clean: bool, uid: int | None, unshares_user: bool
) -> Mapping[Any, Any]:
    if env is not None:
        return env
    if not clean:
        return os.environ
    zero = uid == 0 if uid is not None else unshares_user or os.geteuid() == 0
    return CleanEnvironment(uid_zero=zero)


def _ids(uid: Any, gid: Any, groups: Any, umask: Any) -> tuple[int, int, Any, bool, int]:
    """(uid, gid, groups or None, implied?, umask) with -1 for "keep"."""
    if isinstance(groups, (str, bytes)):
        raise TypeError("groups is a list of numbers, not a string")
    implied = groups is None and (uid is not None or gid is not None)
    if implied:
        groups = ()
    if groups is not None:
        groups = tuple(check_id("groups", group) for group in groups)
        if len(groups) > 65536:
            raise ValueError("the kernel takes at most 65536 groups")
    if umask is not None and (isinstance(umask, bool) or not isinstance(umask, int)):
        raise TypeError("umask must be an int such as 0o022")
    if umask is not None and not 0 <= umask <= 0o777:
        raise ValueError("umask must be between 0 and 0o777")
    return (
        -1 if uid is None else check_id("uid", uid),
        -1 if gid is None else check_id("gid", gid),
        groups,
        implied,
        -1 if umask is None else umask,
    )


class _Namespaces:
    """What the eight keywords ask for: flags to unshare, and targets to join."""

    def __init__(self, wanted: Mapping[str, Any]) -> None:
        self.unshare = 0
        self.targets: list[tuple[Resolved, int]] = []
        known: dict[int, tuple[Resolved, int]] = {}
        for keyword, value in wanted.items():
            flag = CLONE_FLAGS[keyword]
            if value is True:
                self.unshare |= flag
            elif value is not False and value is not None:
                resolved, flags = known.get(id(value), (None, 0))
                if resolved is None:
                    resolved = value if isinstance(value, Resolved) else Resolved(value)
                if resolved.kind not in (None, keyword):
                    raise ValueError(
                        f"{keyword}= was given a namespace file of the kind {resolved.kind}"
                    )
                known[id(value)] = resolved, flags | flag
        # What is ours already is not joined: for the user namespace the kernel says EINVAL.
        for resolved, flags in known.values():
            self.targets.append((resolved, resolved.differing(flags)))

    @property
    def joined(self) -> int:
        flags = 0
        for _, each in self.targets:
            flags |= each
        return flags

    def add_owner(self) -> None:
        """An ordinary user may join a namespace only from the user namespace that owns it."""
        user = CLONE_FLAGS["user"]
        for number, (resolved, flags) in enumerate(self.targets):
            if flags and resolved.kind is None:
                self.targets[number] = resolved, flags | resolved.differing(user)
                return

    def joins(self) -> tuple[tuple[int, ...], ...]:
        return tuple(
            (r.pid, r.started, r.pidfd, r.fd, flags) for r, flags in self.targets if flags
        )

    def keep(self) -> tuple[Resolved, ...]:
        return tuple(resolved for resolved, _ in self.targets)


def _plan(
    kind: str,
    args: Sequence[Any],
    *,
    namespaces: _Namespaces,
    root_of: Resolved | None = None,
    root: bytes | None = None,
    root_method: str = "pivot_root",
    propagation: int = -1,
    fork: bool = True,
    mount_proc: bool = False,
    init: bool = False,
    watch: int = WITH_THREAD,
    hostname: str | None = None,
    clean: bool,
    given: dict[str, Any],
) -> Plan:
    """Check what all four calls have in common, and let the recipe order the steps."""
    uid, gid, groups, implied, umask = _ids(
        given["uid"], given["gid"], given["groups"], given["umask"]
    )
    new_session, group = _session(
        given["start_new_session"], given["process_group"], given["stdin"]
    )
    unshares_user = bool(namespaces.unshare & CLONE_FLAGS["user"])
    env = _environment(given["env"], clean, given["uid"], unshares_user)
    argv, envp, paths = command_vectors(args, env)
    cwd = None if given["cwd"] is None else encode_path("cwd", given["cwd"])
    core = _core.recipe(
        kind,
        argv,
        envp,
        paths,
        namespaces.unshare,
        namespaces.joins(),
        None if root_of is None else (root_of.pid, root_of.started, root_of.pidfd),
        (namespaces.keep(), root_of),
        fork,
        mount_proc,
        init,
        watch,
        root,
        root_method == "chroot",
        propagation,
        None if hostname is None else encode_hostname(hostname),
        cwd,
        new_session,
        group,
        uid,
        gid,
        groups,
        implied,
        umask,
    )
    options = {key: given[key] for key in _REMEMBERED if _is_given(given.get(key))}
    options["args"] = args
    if root is not None:
        options["root"] = os.fsdecode(root)
    return Plan._from_core(core, options)


def _is_given(value: Any) -> bool:
    return not (value is None or value is False or value == ())


def _absolute(root: Any) -> bytes:
    """The launcher changes its working directory, so a relative root would get lost."""
    encoded = encode_path("root", root)
    return encoded if encoded.startswith(b"/") else os.path.join(os.getcwdb(), encoded)


def _finish(plan: Plan) -> CompletedProcess[Any]:
    """Run a plan with the stdio and run options that it was made with."""
    options = {key: value for key, value in plan._options.items() if key not in ("args", "root")}
    return run_plan(plan, **options)


def chroot_run(
    root: str | os.PathLike[str],
    args: Sequence[Any],
    *,
    cwd: str | os.PathLike[str] | None = "/",
    env: Mapping[Any, Any] | None = None,
    uid: int | None = None,
    gid: int | None = None,
    groups: Sequence[int] | None = None,
    umask: int | None = None,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    pass_fds: Sequence[int] = (),
    start_new_session: bool | None = None,
    process_group: int | None = None,
    dry_run: bool = False,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
) -> Any:
    """Run a command with another directory as its ``/``, and wait for it.

    What ``chroot ROOT CMD`` does. An ordinary user gets a user namespace of its own for it,
    in which it is root. This is no jail: a process with root's power walks out (lesson 1);
    ``spawn(root=...)`` shuts that door.

    Args:
        root: the directory. Nothing is mounted in it, not even /proc.
        args: the command, a list; args[0] is looked up inside, in the PATH of ``env``.
        cwd: working directory inside.
        env: the environment; None is a small clean one (PATH, HOME, LANG, TERM).
        uid, gid, groups: ids to become, as numbers. If uid or gid is given, groups is ().
        umask: file mode mask, such as 0o022.
        stdin, stdout, stderr, text, encoding, errors, pass_fds, process_group, input,
        capture_output, timeout, check: as in subprocess.run; timeout in seconds.
        start_new_session: None gives a session of its own unless stdin is our terminal.
        dry_run: return the Plan and run nothing.

    Returns:
        CompletedProcess with a ``trace``; the Plan if ``dry_run``.

    Raises:
        NamespaceError: a step failed; it names the step and has a hint as a note.
        FileNotFoundError, PermissionError, OSError: the command cannot be executed.
        TimeoutExpired, CalledProcessError: as subprocess.run.
        TypeError, ValueError: arguments that cannot be.

    Example:
        >>> with nsdemo.Rootfs.from_host(["echo"]) as root:
        ...     nsdemo.chroot_run(root, ["echo", "Hello"], capture_output=True).stdout
        b'Hello\\n'

    Source: chroot(2), path_resolution(7).
    """
    given = locals()  # first of all: the arguments and nothing else
    unprivileged = not _core.has_capability(CAP_SYS_CHROOT)
    plan = _plan(
        "chroot_run",
        args,
        namespaces=_Namespaces({"user": unprivileged}),
        root=_absolute(root),
        root_method="chroot",
        clean=True,
        given=given,
    )
    return plan if dry_run else _finish(plan)


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


def _spawn_plan(given: dict[str, Any]) -> Plan:
    """The plan of spawn and run, from their arguments."""
    wanted = {keyword: given[keyword] for keyword in KEYWORDS}
    joined = None if given["join"] is None else Resolved(given["join"])
    if joined is not None:
        if joined.kind is not None:
            raise ValueError(
                f"join= takes a process, not a namespace file; pass {joined.kind}= for that"
            )
        for keyword, default in _DEFAULTS.items():
            if wanted[keyword] is default:
                wanted[keyword] = joined
    elif wanted["user"] is None:
        wanted["user"] = _user_is_needed(wanted, given["root"])
    namespaces = _Namespaces(wanted)
    if given["user"] is None and joined is None and namespaces.joined:
        namespaces.add_owner()
    new_mount = wanted["mount"] is True
    mount_proc = given["mount_proc"]
    if mount_proc is None:
        mount_proc = new_mount and wanted["pid"] is True
    _check_spawn(given, wanted, mount_proc)
    propagation = given["propagation"]
    return _plan(
        "spawn",
        given["args"],
        namespaces=namespaces,
        root_of=joined if given["root"] is None else None,
        root=None if given["root"] is None else _absolute(given["root"]),
        root_method=given["root_method"],
        propagation=-1 if propagation == "unchanged" else MS_PROPAGATION[propagation] | MS_REC,
        fork=bool(given["fork"]),
        mount_proc=bool(mount_proc),
        init=bool(given["init"]),
        watch=WATCHDOG if given["die_with_parent"] else 0,
        hostname=given["hostname"],
        clean=given["root"] is not None or joined is not None,
        given=given,
    )


def _user_is_needed(wanted: Mapping[str, Any], root: Any) -> bool:
    """user=None: a new user namespace where the caller lacks the power to do without."""
    if _core.has_capability(CAP_SYS_ADMIN):
        return False
    if any(value not in (True, False, None) for value in wanted.values()):
        return False  # the target's owner is joined instead
    return root is not None or any(value is True for value in wanted.values())


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


def spawn(
    args: Sequence[Any],
    *,
    mount: Any = True,
    uts: Any = True,
    ipc: Any = True,
    pid: Any = True,
    net: Any = False,
    user: Any = None,
    cgroup: Any = False,
    time: Any = False,
    join: Any = None,
    fork: bool = True,
    mount_proc: bool | None = None,
    root: str | os.PathLike[str] | None = None,
    root_method: str = "pivot_root",
    propagation: str = "private",
    hostname: str | None = None,
    init: bool = False,
    die_with_parent: bool = True,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[Any, Any] | None = None,
    uid: int | None = None,
    gid: int | None = None,
    groups: Sequence[int] | None = None,
    umask: int | None = None,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    pass_fds: Sequence[int] = (),
    start_new_session: bool | None = None,
    process_group: int | None = None,
    dry_run: bool = False,
) -> Any:
    """Start a command in new namespaces, with a fresh /proc, under a root of its own.

    What ``unshare --mount --uts --ipc --pid --fork --mount-proc --root ROOT CMD`` does, with
    the loopback interface up, the old root let go, and an end when the caller ends.

    Args:
        args: the command, a list; args[0] is looked up after the change of root.
        mount, uts, ipc, pid, net, user, cgroup, time: True is a new namespace, False is
            ours, a target is that one's: a Container, a pid, an object with fileno() (a
            pidfd or a namespace file), or a path to a namespace file. ``user=None`` is a
            new one only for a caller without CAP_SYS_ADMIN, who becomes root inside.
        join: a target that is the default of every namespace keyword and of root; nothing
            is mounted then.
        fork: False executes the command without a fork after unsharing: it stays in the
            old pid namespace, and its second child fails with "Cannot allocate memory".
        mount_proc: mount a /proc that shows the new pid namespace; None: exactly when mount
            and pid are both new.
        root: the directory that becomes ``/``; None keeps ours.
        root_method: "pivot_root", or "chroot", which is no jail.
        propagation: of all mounts: "private", "slave", "shared", "unchanged".
        hostname: of the new uts namespace, at most 64 bytes.
        init: stay as PID 1 that reaps orphans and forwards signals; the command is its
            child.
        die_with_parent: everything ends when this Python process ends, however it does.
            Without a pid namespace that is the command and its process group.
        cwd: working directory inside; None: ``/`` under another root, else ours.
        env: the environment; None: ours, or a small clean one under another root.
        uid, gid, groups: ids to become, as numbers; if uid or gid is given, groups is ().
        umask: file mode mask, such as 0o022.
        stdin, stdout, stderr, text, encoding, errors, pass_fds, process_group: as in
            subprocess.Popen; no other descriptor is open inside.
        start_new_session: None gives a session of its own unless stdin is our terminal.
        dry_run: return the Plan and run nothing.

    Returns:
        Container, running; the Plan if ``dry_run``.

    Raises:
        NamespaceError: a step failed; it names the step and has a hint as a note.
        FileNotFoundError, PermissionError, OSError: the command cannot be executed.
        ProcessLookupError: a target has ended.
        TypeError, ValueError: arguments that cannot be, or would touch the host.

    Example:
        >>> box = nsdemo.spawn(["sh", "-c", "echo $$"], stdout=nsdemo.PIPE)
        >>> box.communicate()[0]
        b'1\n'

    Source: namespaces(7), unshare(2), clone(2), pivot_root(2), user_namespaces(7).
    """
    given = locals()  # first of all: the arguments and nothing else
    plan = _spawn_plan(given)
    if dry_run:
        return plan
    options = {key: plan._options[key] for key in _REMEMBERED[:7] if key in plan._options}
    return Container._start(plan, **options)


def run(
    args: Sequence[Any],
    *,
    mount: Any = True,
    uts: Any = True,
    ipc: Any = True,
    pid: Any = True,
    net: Any = False,
    user: Any = None,
    cgroup: Any = False,
    time: Any = False,
    join: Any = None,
    fork: bool = True,
    mount_proc: bool | None = None,
    root: str | os.PathLike[str] | None = None,
    root_method: str = "pivot_root",
    propagation: str = "private",
    hostname: str | None = None,
    init: bool = False,
    die_with_parent: bool = True,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[Any, Any] | None = None,
    uid: int | None = None,
    gid: int | None = None,
    groups: Sequence[int] | None = None,
    umask: int | None = None,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    pass_fds: Sequence[int] = (),
    start_new_session: bool | None = None,
    process_group: int | None = None,
    dry_run: bool = False,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
) -> Any:
    """Run a command in new namespaces and wait for it: ``spawn``, then communicate.

    The arguments are those of ``spawn``, and input, capture_output, timeout (seconds) and
    check, as in subprocess.run. After a timeout, or Ctrl-C, everything inside ends.

    Returns:
        CompletedProcess with a ``trace``; the Plan if ``dry_run``.

    Raises:
        TimeoutExpired, CalledProcessError: as subprocess.run; and what ``spawn`` raises.

    Example:
        >>> nsdemo.run(["hostname"], hostname="boxy", capture_output=True).stdout
        b'boxy\n'

    Source: namespaces(7), unshare(2), clone(2), pivot_root(2), user_namespaces(7).
    """
    given = locals()  # first of all: the arguments and nothing else
    plan = _spawn_plan(given)
    return plan if dry_run else _finish(plan)


def enter(
    target: Any,
    args: Sequence[Any],
    *,
    mount: bool = True,
    uts: bool = True,
    ipc: bool = True,
    pid: bool = True,
    net: bool = True,
    user: bool = True,
    cgroup: bool = True,
    time: bool = True,
    root: bool = True,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[Any, Any] | None = None,
    uid: int | None = None,
    gid: int | None = None,
    groups: Sequence[int] | None = None,
    umask: int | None = None,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    pass_fds: Sequence[int] = (),
    start_new_session: bool | None = None,
    process_group: int | None = None,
    dry_run: bool = False,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
) -> Any:
    """Run a command inside a running container, and wait for it.

    What ``nsenter --target PID --uts --mount --ipc --net --pid CMD`` and ``docker exec`` do.
    Every namespace of the target that is not ours already is joined, in the order that
    works, and its root directory is followed (nsenter does not, and lands in the host's
    files when the target used chroot). The command is the container's own program: with
    real root's power it can do what real root can.

    Args:
        target: a Container, a pid, or an object with fileno() (a pidfd).
        args: the command, a list; args[0] is looked up inside, in the PATH of ``env``.
        mount, uts, ipc, pid, net, user, cgroup, time: False leaves a namespace out.
        root: False keeps the root that the mount namespace has.
        cwd: working directory inside; None is ``/``.
        env: the environment; None is a small clean one (PATH, HOME, LANG, TERM).
        uid, gid, groups: ids to become; the default after joining a user namespace is its
            root, if it maps one.
        umask, stdin, stdout, stderr, text, encoding, errors, pass_fds, start_new_session,
        process_group, dry_run: as in ``spawn``.
        input, capture_output, timeout, check: as in subprocess.run; timeout in seconds.

    Returns:
        CompletedProcess with a ``trace``; the Plan if ``dry_run``.

    Raises:
        ProcessLookupError: the target has ended, also between look-up and join.
        PermissionError: it is somebody else's.
        NamespaceError, FileNotFoundError, OSError, TimeoutExpired, CalledProcessError: as
            ``run``.
        ValueError: user=False for a target with a user namespace of its own would run the
            container's program as the host's root; uid= given as well says that you mean it.

    Example:
        >>> with nsdemo.spawn(["sleep", "60"], hostname="boxy") as box:
        ...     nsdemo.enter(box, ["hostname"], capture_output=True).stdout
        b'boxy\n'

    Source: setns(2), pidfd_open(2), namespaces(7).
    """
    given = locals()  # first of all: the arguments and nothing else
    resolved = Resolved(target)
    if resolved.kind is not None:
        raise ValueError(
            f"enter needs a process; a {resolved.kind} namespace file alone is joined by "
            f"spawn(args, {resolved.kind}=path)"
        )
    wanted = {keyword: resolved if given[keyword] else False for keyword in KEYWORDS}
    namespaces = _Namespaces(wanted)
    if not user and uid is None and (mount or root) and resolved.differing(CLONE_FLAGS["user"]):
        raise ValueError(
            "user=False would run the container's program with the host's power: the target "
            "has a user namespace of its own; give uid= as well if that is what you mean"
        )
    plan = _plan(
        "spawn",
        args,
        namespaces=namespaces,
        root_of=resolved if root else None,
        clean=True,
        given=given,
    )
    return plan if dry_run else _finish(plan)


def namespaces(target: Any = None) -> Mapping[str, tuple[int, int]]:
    """The identities of a process's namespaces.

    Args:
        target: a Container, a pid, a pidfd object; None is the calling thread.

    Returns:
        A mapping from the keyword ("mount", "uts", "ipc", "pid", "net", "user", "cgroup",
        "time") to (device, inode). Two processes share a namespace exactly when these are
        equal. A kind that this kernel lacks is left out.

    Raises:
        ProcessLookupError: no such process.
        PermissionError: somebody else's process.

    Example:
        >>> nsdemo.namespaces()["uts"] == nsdemo.namespaces(1)["uts"]
        True

    Source: namespaces(7), "The /proc/pid/ns/ directory".
    """
    pid = 0
    if target is not None:
        resolved = Resolved(target)
        if resolved.kind is not None:
            status = os.fstat(resolved.fd)
            return {resolved.kind: (status.st_dev, status.st_ino)}
        pid = resolved.pid
    found = {}
    for number, keyword in enumerate(KEYWORDS):
        try:
            found[keyword] = _core.identity(pid, number)
        except OSError as error:
            if error.errno != errno.ENOENT:
                from ._targets import unreadable

                raise unreadable(pid, error) from None
    return found
