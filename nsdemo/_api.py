"""The calls: what they are given, the plan that it means, its launch.

Written by docs/signatures.py from nsdemo/_request/options.py; do not edit.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal

import nsdemo

from ._launch.container import Container
from ._launch.run import run_plan
from ._plan.planned import chroot_plan, enter_plan, spawn_plan
from ._request.given import ChrootRequest, EnterRequest, SpawnRequest
from ._request.values import HasFileno, OneLimit, StrOrBytesPath

if TYPE_CHECKING:
    from ._types import ExportsBpf, ExportsBpfMem, ReadableBuffer
else:  # to be found by typing.get_type_hints; no call needs them
    ExportsBpf = ExportsBpfMem = ReadableBuffer = Any


def chroot_run(
    root: str | os.PathLike[str],
    args: Sequence[StrOrBytesPath],
    *,
    cwd: str | os.PathLike[str] | None = "/",
    uid_map: Iterable[Sequence[int]] | Literal["auto", "current", "subids", "all"] | None = None,
    gid_map: Iterable[Sequence[int]] | Literal["auto", "current", "subids", "all"] | None = None,
    setgroups: Literal["allow", "deny"] | None = None,
    owner: tuple[int, int] | None = None,
    env: Mapping[str, StrOrBytesPath] | Mapping[bytes, StrOrBytesPath] | None = None,
    uid: int | None = None,
    gid: int | None = None,
    groups: Sequence[int] | None = None,
    umask: int | None = None,
    no_new_privs: bool = False,
    capabilities: Iterable[str] | None = None,
    ambient: Iterable[str] = (),
    rlimits: Mapping[str, OneLimit | tuple[OneLimit, OneLimit] | list[OneLimit]] | None = None,
    seccomp: ReadableBuffer | ExportsBpfMem | ExportsBpf | None = None,
    securebits: Iterable[str] | None = None,
    landlock: nsdemo.Landlock | None = None,
    stdin: int | IO[Any] | HasFileno | None = None,
    stdout: int | IO[Any] | HasFileno | None = None,
    stderr: int | IO[Any] | HasFileno | None = None,
    tty: bool | os.terminal_size = False,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    pass_fds: Sequence[int] = (),
    start_new_session: bool | None = None,
    process_group: int | None = None,
    dry_run: bool = False,
    input: str | ReadableBuffer | None = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
) -> Any:
    r"""Run a command with another directory as its ``/``, and wait for it.

    What ``chroot ROOT CMD`` does. An ordinary user gets a user namespace of its own for it,
    in which it is root. This is no jail: a process with root's power walks out (lesson 1);
    ``spawn(root=...)`` shuts that door.

    Args:
        root: the directory. Nothing is mounted in it, not even /proc.
        args: the command, a list; args[0] is looked up inside, in the PATH of ``env``.
        cwd: working directory inside.
        uid_map, gid_map, setgroups, owner: as in ``spawn``; any of them makes a user namespace.
        env: the environment; None is a small clean one (PATH, HOME, LANG, TERM).
        uid, gid, groups: ids to become, as numbers; if uid or gid is given, groups is ().
        umask: file mode mask, such as 0o022.
        no_new_privs: no program gives the command more power, setuid or not.
        stdin, stdout, stderr, text, encoding, errors, pass_fds, process_group: as in
            subprocess.Popen; no other descriptor is open inside.
        start_new_session: None gives a session of its own unless stdin is our terminal.
        dry_run: return the Plan and run nothing.
        input, capture_output, timeout, check: as in subprocess.run; timeout in seconds.
        capabilities, ambient, rlimits, seccomp, securebits, landlock, tty: as in ``spawn``.

    Returns:
        CompletedProcess with a ``trace``; the Plan if ``dry_run``.

    Raises:
        NamespaceError: a step failed; it names the step and has a hint as a note.
        FileNotFoundError, PermissionError, OSError: the command cannot be executed.
        TimeoutExpired, CalledProcessError: as subprocess.run. Like the others they have the
            ``trace``, and ``hint``: the whole text with its hints, for a log.
        TypeError, ValueError: arguments that cannot be.

    Example:
        >>> with nsdemo.Rootfs.from_host(["echo"]) as root:
        ...     nsdemo.chroot_run(root, ["echo", "Hello"], capture_output=True).stdout
        b'Hello\n'

    Source: chroot(2), path_resolution(7).
    """
    request = ChrootRequest()
    request.root = root
    request.args = args
    request.cwd = cwd
    request.uid_map = uid_map
    request.gid_map = gid_map
    request.setgroups = setgroups
    request.owner = owner
    request.env = env
    request.uid = uid
    request.gid = gid
    request.groups = groups
    request.umask = umask
    request.no_new_privs = no_new_privs
    request.capabilities = capabilities
    request.ambient = ambient
    request.rlimits = rlimits
    request.seccomp = seccomp
    request.securebits = securebits
    request.landlock = landlock
    request.stdin = stdin
    request.stdout = stdout
    request.stderr = stderr
    request.tty = tty
    request.text = text
    request.encoding = encoding
    request.errors = errors
    request.pass_fds = pass_fds
    request.start_new_session = start_new_session
    request.process_group = process_group
    request.input = input
    request.capture_output = capture_output
    request.timeout = timeout
    request.check = check
    plan = chroot_plan(request)
    return plan if dry_run else run_plan(plan)


def spawn(
    args: Sequence[StrOrBytesPath],
    *,
    mount: bool | Container[Any] | int | HasFileno | str | os.PathLike[str] = True,
    uts: bool | Container[Any] | int | HasFileno | str | os.PathLike[str] = True,
    ipc: bool | Container[Any] | int | HasFileno | str | os.PathLike[str] = True,
    pid: bool | Container[Any] | int | HasFileno | str | os.PathLike[str] = True,
    net: bool | Container[Any] | int | HasFileno | str | os.PathLike[str] = False,
    user: bool | Container[Any] | int | HasFileno | str | os.PathLike[str] | None = None,
    cgroup: bool | Container[Any] | int | HasFileno | str | os.PathLike[str] = False,
    time: bool | Container[Any] | int | HasFileno | str | os.PathLike[str] = False,
    uid_map: Iterable[Sequence[int]] | Literal["auto", "current", "subids", "all"] | None = None,
    gid_map: Iterable[Sequence[int]] | Literal["auto", "current", "subids", "all"] | None = None,
    setgroups: Literal["allow", "deny"] | None = None,
    owner: tuple[int, int] | None = None,
    join: Container[Any] | int | HasFileno | str | os.PathLike[str] | None = None,
    fork: bool = True,
    mount_proc: bool | str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    root_method: Literal["pivot_root", "chroot"] = "pivot_root",
    propagation: Literal["private", "slave", "shared", "unbindable", "unchanged"] = "private",
    hostname: str | None = None,
    domainname: str | None = None,
    monotonic: float | None = None,
    boottime: float | None = None,
    init: bool = False,
    mounts: Sequence[
        nsdemo.Bind | nsdemo.Tmpfs | nsdemo.Proc | nsdemo.Dev | nsdemo.Sysfs | nsdemo.Overlay
    ] = (),
    overlay: bool = False,
    overlay_size: int | str | None = None,
    readonly_root: bool = False,
    die_with_parent: bool = True,
    persist: Mapping[str, str | os.PathLike[str]] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, StrOrBytesPath] | Mapping[bytes, StrOrBytesPath] | None = None,
    uid: int | None = None,
    gid: int | None = None,
    groups: Sequence[int] | None = None,
    umask: int | None = None,
    no_new_privs: bool = False,
    capabilities: Iterable[str] | None = None,
    ambient: Iterable[str] = (),
    rlimits: Mapping[str, OneLimit | tuple[OneLimit, OneLimit] | list[OneLimit]] | None = None,
    seccomp: ReadableBuffer | ExportsBpfMem | ExportsBpf | None = None,
    securebits: Iterable[str] | None = None,
    landlock: nsdemo.Landlock | None = None,
    stdin: int | IO[Any] | HasFileno | None = None,
    stdout: int | IO[Any] | HasFileno | None = None,
    stderr: int | IO[Any] | HasFileno | None = None,
    tty: bool | os.terminal_size = False,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    pass_fds: Sequence[int] = (),
    start_new_session: bool | None = None,
    process_group: int | None = None,
    dry_run: bool = False,
) -> Any:
    r"""Start a command in new namespaces, with a fresh /proc, under a root of its own.

    What ``unshare --mount --uts --ipc --pid --fork --mount-proc --root ROOT CMD`` does, with
    the loopback interface up, the old root let go, and an end when the caller ends.

    Args:
        args: the command, a list; args[0] is looked up after the change of root.
        mount, uts, ipc, pid, net, user, cgroup, time: True is a new namespace, False is ours, a
            target is that one's: a Container, a pid, an object with fileno() (a pidfd or a
            namespace file), or a path to a namespace file. ``user=None`` is a new one only for a
            caller without CAP_SYS_ADMIN, who becomes root inside.
        uid_map, gid_map: who is who in the new user namespace, which they imply: a list of (inside,
            outside, count); "current": the caller keeps his ids, but not root's power (see
            ``ambient``); "auto": the caller is 0, and the ids from 1 on are his first range in
            /etc/subuid (/etc/subgid), as many ids in all as that has; "subids": the caller is 0,
            and that range keeps its numbers; "all": every id that there is keeps its number, which
            takes root. None: the caller is 0, alone; beside a word, the same word. What is more
            than the caller's own id is written by newuidmap and newgidmap, or by root. A caller
            whose own ids are not mapped becomes 0:0, if that is.
        setgroups: "allow" or "deny" setgroups(2) inside, for ever. None denies it where the
            caller's own gid is mapped alone, and else leaves it as it is outside: "allow", as a
            rule.
        owner: (uid, gid) that the new user namespace belongs to; root only. None: the caller.
        join: a target that is the default of every namespace keyword and of root; nothing is
            mounted then. A keyword that has its default value, given or not, means the target; to
            leave a namespace out, use ``enter(target, args, net=False)``.
        fork: False executes the command without a fork after unsharing: it stays in the old pid
            namespace, where its second child fails with "Cannot allocate memory". A new time
            namespace it enters, also before Linux 6.2, where unshare(1) leaves it outside.
        mount_proc: mount a /proc that shows the new pid namespace; None: exactly when mount and pid
            are both new, and the command is forked into it. A path mounts it there, and not on
            /proc.
        root: the directory that becomes ``/``; None keeps ours.
        root_method: "pivot_root", or "chroot", which is no jail.
        propagation: of all mounts: "private", "slave", "shared", "unchanged". Whatever it is, what
            is mounted for the container stays inside: the mount below it, such as the old /proc, is
            made a slave.
        hostname, domainname: of the new uts namespace, at most 64 bytes. The domain is NIS's, as
            domainname(1) shows it.
        monotonic, boottime: by how many seconds these clocks of a new time namespace differ from
            ours; whole or not, negative too. No clock goes back before 0.
        init: stay as PID 1 that reaps orphans and forwards every signal but SIGCHLD, also SIGTSTP
            and SIGCONT; the command is its child, with no signal blocked or ignored.
        mounts: what else is mounted, in this order: Bind, Tmpfs, Proc, Dev, Sysfs, Overlay. Targets
            are paths below the new root (without ``root``, of ours), and are made where they are
            missing: such a directory or empty file stays. No link on the way to a target is
            followed. A Proc on /proc takes the place of ``mount_proc``'s.
        overlay: what is changed below ``root`` goes to memory, and ends with the container; the
            directory itself stays as it is, and so does what is mounted below it: a file system of
            files gets a layer of its own, a file that is mounted and a file system of the kernel's
            (/sys and the like) is there, read-only. ``root="/"`` is our own file tree. A user
            namespace may not cover a directory that such a mount lies in: that is made anew, and
            what is in it covered name for name, files read-only. Who may change what is the same as
            without. ``Container.changes()`` tells what it was. Before Linux 6.6 memory has no place
            for an ordinary user's note that a directory hides another: to remove a directory of the
            root that was not empty, or to make it anew, is an "Input/output error" inside; as root
            it works, or below an ``Overlay`` with ``upper`` and ``work`` on a disk.
        overlay_size: at most so much of changes in memory, in bytes or as in "64m"; None is half of
            it. A million files and directories at most.
        readonly_root: nothing can be written to but what ``mounts`` and ``mount_proc`` mount:
            neither the root, nor what is mounted below it already.
        die_with_parent: everything ends when this Python process ends, however it does. Without a
            pid namespace that is the command and its process group.
        persist: files that keep new namespaces alive when all processes in them have ended, such as
            {"net": "/run/blue"}: each is mounted on its file, which is made if it is missing, in
            our own mount namespace; they live as long as that does, or until ``release``. All are
            made, or none, and then nothing is started; a Python that is killed meanwhile leaves
            those that it has made, to ``release``. The pid namespace takes in nobody any more when
            its PID 1 has ended. A mount namespace that shares its mounts with ours is pinned only
            below a private one. With ``mount=target`` they are pinned in that one's mount
            namespace: who may not mount here makes a container of his own that holds them,
            ``mount=holder, user=holder``.
        cwd: working directory inside; None: ``/`` under another root, else ours: the same path,
            with what is mounted there inside. (If ours was deleted: ``/``, where ``mounts`` might
            lie over it.)
        env: the environment. None is a small clean one (PATH, HOME, LANG, TERM) under another root
            or in a target's mounts; else it is ours, with the secrets that are in it.
        uid, gid, groups: ids to become, as numbers; if uid or gid is given, groups is ().
        umask: file mode mask, such as 0o022.
        no_new_privs: no program gives the command more power, setuid or not.
        capabilities: names of those to keep, such as ["CAP_KILL", "net_raw"]; all others are
            dropped, from the bounding set too. None changes nothing.
        ambient: names of those that a user who is not root keeps, over execve too; all of them are
            what ``unshare --keep-caps`` keeps.
        rlimits: limits by their names in getrlimit(2), such as {"nofile": 64, "as": (soft, hard)};
            one number is both, None or "unlimited" is none.
        seccomp: a BPF program, as bytes, that judges each system call from execve on; or a filter
            of pyseccomp or of libseccomp's own binding.
        securebits: names of those that shall hold, and no others, such as ["noroot",
            "noroot_locked"]: what root gains by being root; see capabilities(7).
        landlock: Landlock(read=[...], write=[...]): the command opens nothing else, whatever power
            it has; sets ``no_new_privs``. An error where the kernel cannot (Linux 6.2).
        stdin, stdout, stderr, text, encoding, errors, pass_fds, process_group: as in
            subprocess.Popen; no other descriptor is open inside.
        tty: those of stdin, stdout and stderr that are not given are a terminal: True, or its size
            as os.terminal_size; of the container's devpts, else of ours. ``stdin`` and ``stdout``
            of the Container are our end; ``run`` collects it, or is it: interact().
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
    request = SpawnRequest()
    request.args = args
    request.mount = mount
    request.uts = uts
    request.ipc = ipc
    request.pid = pid
    request.net = net
    request.user = user
    request.cgroup = cgroup
    request.time = time
    request.uid_map = uid_map
    request.gid_map = gid_map
    request.setgroups = setgroups
    request.owner = owner
    request.join = join
    request.fork = fork
    request.mount_proc = mount_proc
    request.root = root
    request.root_method = root_method
    request.propagation = propagation
    request.hostname = hostname
    request.domainname = domainname
    request.monotonic = monotonic
    request.boottime = boottime
    request.init = init
    request.mounts = mounts
    request.overlay = overlay
    request.overlay_size = overlay_size
    request.readonly_root = readonly_root
    request.die_with_parent = die_with_parent
    request.persist = persist
    request.cwd = cwd
    request.env = env
    request.uid = uid
    request.gid = gid
    request.groups = groups
    request.umask = umask
    request.no_new_privs = no_new_privs
    request.capabilities = capabilities
    request.ambient = ambient
    request.rlimits = rlimits
    request.seccomp = seccomp
    request.securebits = securebits
    request.landlock = landlock
    request.stdin = stdin
    request.stdout = stdout
    request.stderr = stderr
    request.tty = tty
    request.text = text
    request.encoding = encoding
    request.errors = errors
    request.pass_fds = pass_fds
    request.start_new_session = start_new_session
    request.process_group = process_group
    request.input = None
    request.capture_output = False
    request.timeout = None
    request.check = False
    plan = spawn_plan(request)
    return plan if dry_run else Container._start(plan)


def run(
    args: Sequence[StrOrBytesPath],
    *,
    mount: bool | Container[Any] | int | HasFileno | str | os.PathLike[str] = True,
    uts: bool | Container[Any] | int | HasFileno | str | os.PathLike[str] = True,
    ipc: bool | Container[Any] | int | HasFileno | str | os.PathLike[str] = True,
    pid: bool | Container[Any] | int | HasFileno | str | os.PathLike[str] = True,
    net: bool | Container[Any] | int | HasFileno | str | os.PathLike[str] = False,
    user: bool | Container[Any] | int | HasFileno | str | os.PathLike[str] | None = None,
    cgroup: bool | Container[Any] | int | HasFileno | str | os.PathLike[str] = False,
    time: bool | Container[Any] | int | HasFileno | str | os.PathLike[str] = False,
    uid_map: Iterable[Sequence[int]] | Literal["auto", "current", "subids", "all"] | None = None,
    gid_map: Iterable[Sequence[int]] | Literal["auto", "current", "subids", "all"] | None = None,
    setgroups: Literal["allow", "deny"] | None = None,
    owner: tuple[int, int] | None = None,
    join: Container[Any] | int | HasFileno | str | os.PathLike[str] | None = None,
    fork: bool = True,
    mount_proc: bool | str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    root_method: Literal["pivot_root", "chroot"] = "pivot_root",
    propagation: Literal["private", "slave", "shared", "unbindable", "unchanged"] = "private",
    hostname: str | None = None,
    domainname: str | None = None,
    monotonic: float | None = None,
    boottime: float | None = None,
    init: bool = False,
    mounts: Sequence[
        nsdemo.Bind | nsdemo.Tmpfs | nsdemo.Proc | nsdemo.Dev | nsdemo.Sysfs | nsdemo.Overlay
    ] = (),
    overlay: bool = False,
    overlay_size: int | str | None = None,
    readonly_root: bool = False,
    die_with_parent: bool = True,
    persist: Mapping[str, str | os.PathLike[str]] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, StrOrBytesPath] | Mapping[bytes, StrOrBytesPath] | None = None,
    uid: int | None = None,
    gid: int | None = None,
    groups: Sequence[int] | None = None,
    umask: int | None = None,
    no_new_privs: bool = False,
    capabilities: Iterable[str] | None = None,
    ambient: Iterable[str] = (),
    rlimits: Mapping[str, OneLimit | tuple[OneLimit, OneLimit] | list[OneLimit]] | None = None,
    seccomp: ReadableBuffer | ExportsBpfMem | ExportsBpf | None = None,
    securebits: Iterable[str] | None = None,
    landlock: nsdemo.Landlock | None = None,
    stdin: int | IO[Any] | HasFileno | None = None,
    stdout: int | IO[Any] | HasFileno | None = None,
    stderr: int | IO[Any] | HasFileno | None = None,
    tty: bool | os.terminal_size = False,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    pass_fds: Sequence[int] = (),
    start_new_session: bool | None = None,
    process_group: int | None = None,
    dry_run: bool = False,
    input: str | ReadableBuffer | None = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
) -> Any:
    r"""Run a command in new namespaces and wait for it: ``spawn``, then communicate.

    The arguments are those of ``spawn``, and four more. After a timeout, or Ctrl-C, everything
    inside ends; Ctrl-C leaves the command a quarter of a second to end by itself. At a terminal
    that has run the command, the foreground and the modes are as before.

    Args:
        input, capture_output, timeout, check: as in subprocess.run; timeout in seconds.

    Returns:
        CompletedProcess with a ``trace``, and with ``cut``: True if what outlived the command
        still held its output after a second (in a new pid namespace nothing outlives it). The
        Plan if ``dry_run``.

    Raises:
        TimeoutExpired, CalledProcessError: as subprocess.run, with ``trace`` and ``hint``; and
            what ``spawn`` raises.

    Example:
        >>> nsdemo.run(["hostname"], hostname="boxy", capture_output=True).stdout
        b'boxy\n'

    Source: namespaces(7), unshare(2), clone(2), pivot_root(2), user_namespaces(7).
    """
    request = SpawnRequest()
    request.args = args
    request.mount = mount
    request.uts = uts
    request.ipc = ipc
    request.pid = pid
    request.net = net
    request.user = user
    request.cgroup = cgroup
    request.time = time
    request.uid_map = uid_map
    request.gid_map = gid_map
    request.setgroups = setgroups
    request.owner = owner
    request.join = join
    request.fork = fork
    request.mount_proc = mount_proc
    request.root = root
    request.root_method = root_method
    request.propagation = propagation
    request.hostname = hostname
    request.domainname = domainname
    request.monotonic = monotonic
    request.boottime = boottime
    request.init = init
    request.mounts = mounts
    request.overlay = overlay
    request.overlay_size = overlay_size
    request.readonly_root = readonly_root
    request.die_with_parent = die_with_parent
    request.persist = persist
    request.cwd = cwd
    request.env = env
    request.uid = uid
    request.gid = gid
    request.groups = groups
    request.umask = umask
    request.no_new_privs = no_new_privs
    request.capabilities = capabilities
    request.ambient = ambient
    request.rlimits = rlimits
    request.seccomp = seccomp
    request.securebits = securebits
    request.landlock = landlock
    request.stdin = stdin
    request.stdout = stdout
    request.stderr = stderr
    request.tty = tty
    request.text = text
    request.encoding = encoding
    request.errors = errors
    request.pass_fds = pass_fds
    request.start_new_session = start_new_session
    request.process_group = process_group
    request.input = input
    request.capture_output = capture_output
    request.timeout = timeout
    request.check = check
    plan = spawn_plan(request)
    return plan if dry_run else run_plan(plan)


def enter(
    target: Container[Any] | int | HasFileno,
    args: Sequence[StrOrBytesPath],
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
    join_cgroup: bool = False,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, StrOrBytesPath] | Mapping[bytes, StrOrBytesPath] | None = None,
    uid: int | None = None,
    gid: int | None = None,
    groups: Sequence[int] | None = None,
    umask: int | None = None,
    no_new_privs: bool = False,
    capabilities: Iterable[str] | None = None,
    ambient: Iterable[str] = (),
    rlimits: Mapping[str, OneLimit | tuple[OneLimit, OneLimit] | list[OneLimit]] | None = None,
    seccomp: ReadableBuffer | ExportsBpfMem | ExportsBpf | None = None,
    securebits: Iterable[str] | None = None,
    landlock: nsdemo.Landlock | None = None,
    stdin: int | IO[Any] | HasFileno | None = None,
    stdout: int | IO[Any] | HasFileno | None = None,
    stderr: int | IO[Any] | HasFileno | None = None,
    tty: bool | os.terminal_size = False,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    pass_fds: Sequence[int] = (),
    start_new_session: bool | None = None,
    process_group: int | None = None,
    dry_run: bool = False,
    input: str | ReadableBuffer | None = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
) -> Any:
    r"""Run a command inside a running container, and wait for it.

    What ``nsenter --target PID --uts --mount --ipc --net --pid CMD`` and ``docker exec`` do.
    Every namespace of the target that is not ours already is joined, in the order that
    works, and its root directory is followed (nsenter does not, and lands in the host's
    files when the target used chroot). The command is the container's own program: with
    real root's power it can do what real root can; ``no_new_privs=True`` with ``uid=``, or
    ``capabilities=``, gives it less.

    Args:
        target: a Container, a pid, or an object with fileno() (a pidfd).
        args: the command, a list; args[0] is looked up inside, in the PATH of ``env``.
        mount, uts, ipc, pid, net, user, cgroup, time: False leaves a namespace out.
        root: False keeps the root that the mount namespace has.
        join_cgroup: move to the target's cgroup before, in each hierarchy that is mounted here and
            in which it is another than ours: its limits hold for the command, too.
        cwd: working directory inside; None is ``/``.
        env: the environment; None is a small clean one (PATH, HOME, LANG, TERM).
        uid, gid, groups: ids to become; the default after joining a user namespace is its root, if
            it maps one.
        umask: file mode mask, such as 0o022.
        no_new_privs: no program gives the command more power, setuid or not.
        stdin, stdout, stderr, text, encoding, errors, pass_fds, process_group: as in
            subprocess.Popen; no other descriptor is open inside.
        start_new_session: None gives a session of its own unless stdin is our terminal.
        dry_run: return the Plan and run nothing.
        input, capture_output, timeout, check: as in subprocess.run; timeout in seconds.
        capabilities, ambient, rlimits, seccomp, securebits, landlock, tty: as in ``spawn``.

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
    request = EnterRequest()
    request.target = target
    request.args = args
    request.mount = mount
    request.uts = uts
    request.ipc = ipc
    request.pid = pid
    request.net = net
    request.user = user
    request.cgroup = cgroup
    request.time = time
    request.root = root
    request.join_cgroup = join_cgroup
    request.cwd = cwd
    request.env = env
    request.uid = uid
    request.gid = gid
    request.groups = groups
    request.umask = umask
    request.no_new_privs = no_new_privs
    request.capabilities = capabilities
    request.ambient = ambient
    request.rlimits = rlimits
    request.seccomp = seccomp
    request.securebits = securebits
    request.landlock = landlock
    request.stdin = stdin
    request.stdout = stdout
    request.stderr = stderr
    request.tty = tty
    request.text = text
    request.encoding = encoding
    request.errors = errors
    request.pass_fds = pass_fds
    request.start_new_session = start_new_session
    request.process_group = process_group
    request.input = input
    request.capture_output = capture_output
    request.timeout = timeout
    request.check = check
    plan = enter_plan(request)
    return plan if dry_run else run_plan(plan)
