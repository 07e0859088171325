"""Plans as data: what would be asked of the kernel, and what it answered.

A Plan is an immutable list of steps. ``spawn(..., dry_run=True)`` makes one by recipe; the
methods of Plan make one by hand. ``print(plan)`` shows the system calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import _core, _doors
from .._facts.targets import Resolved, slots_used
from .._request.given import RunOptions
from .._request.remembered import BY_HAND, Remembered
from .._request.values import (
    CLONE_FLAGS,
    MS_BIND,
    MS_PROPAGATION,
    MS_REC,
    CleanEnvironment,
    check_id,
    command_vectors,
    encode_path,
    names_to_flags,
    text_value,
    working_directory,
)
from .step import Step, steps_of

if TYPE_CHECKING:
    from .._launch.container import Container
    from .._launch.run import CompletedProcess
    from .._request.landlock import Landlock
    from ..mounts import Mount

Target = Any
_FIRST_SOURCE = 10  # NSD_FIRST_SOURCE
_FIRST_SLOT_OF_OURS = 64  # NSD_UPPER_SLOT
_NOTHING = (None, None, None, None)


class Plan:
    """A container as a list of system calls, before or instead of running it.

    A Plan never changes: every method returns a new one with one step more. It ends with
    ``exec``. Steps before ``fork`` are performed by the launcher's first process, steps
    after it by the one that becomes the command.

    Example:
        >>> import nsdemo
        >>> plan = nsdemo.Plan().unshare("uts").sethostname("boxy").exec(["hostname"])
        >>> print(plan)
        1  unshare(CLONE_NEWUTS)
        2  sethostname("boxy", 4)
        3  execve("hostname", ["hostname"], envp)
        ...

    See also: namespaces(7), unshare(2), mount(2), pivot_root(2).
    """

    __slots__ = ("_core", "_ending", "_remembered")

    def __init__(self) -> None:
        self._core = _core.Plan()
        self._remembered = BY_HAND
        self._ending: Callable[[bool], _core.Plan] | None = None

    @classmethod
    def _from_core(
        cls,
        core: _core.Plan,
        remembered: Remembered = BY_HAND,
        ending: Callable[[bool], _core.Plan] | None = None,
    ) -> Plan:
        """``ending``: this one ends with the thread that waits for it; for where nobody waits it
        makes another, with a watchdog or without."""
        plan = cls.__new__(cls)
        plan._core = core
        plan._remembered = remembered
        plan._ending = ending
        return plan

    def _then(
        self,
        operation: str,
        numbers: tuple[int, int, int] = (0, 0, 0),
        texts: tuple[str | None, ...] = (),
    ) -> Plan:
        self._must_be_open()
        for text in texts:
            if text is not None and "\0" in text:
                raise ValueError(f"{operation}: a NUL byte cannot be part of {text!r}")
        padded = (*texts, *_NOTHING)[:4]
        return self._from_core(self._core.append(operation, 0, numbers, padded), self._remembered)

    @property
    def _args(self) -> Sequence[Any]:
        """The command, as it was given."""
        return self._remembered.args or self._core.command()[0]

    def _operations(self) -> set[str]:
        return {name for name, *_ in self._core.steps()}

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps in order, none of them performed."""
        return tuple(steps_of(self._core))

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self._core.steps())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        mine, theirs = self._core, other._core
        return mine.steps() == theirs.steps() and mine.command() == theirs.command()

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        """Numbered system calls, then the command line that does the same."""
        from .equals import command_line

        width = len(str(len(self)))
        lines = [f"{number:>{width}}  {step}" for number, step in enumerate(self, 1)]
        lines += ["", *command_line(self.steps)]
        if len(self) and (at := self._core.launcher_at()) >= 0:
            # strace shows it as one more execveat; no step, the command sees nothing of it
            lines.append(
                f"# from step {at + 1} on it is nsdemo's launcher that does so, a program of its "
                "own: /proc/self/exe leads to nothing of the host"
            )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<nsdemo.Plan of {len(self)} steps>"

    def _repr_html_(self) -> str:
        return _doors.html("plan", self)

    # -- namespaces --------------------------------------------------------------------

    def unshare(self, *names: str) -> Plan:
        """Leave namespaces for new ones: ``unshare("mount", "uts")``. See unshare(2).

        A new pid or time namespace takes in only the children born after it: ``fork``
        comes next.
        """
        return self._then("unshare", (names_to_flags(names), 0, 0))

    def map_root(self) -> Plan:
        """After ``unshare("user")``: be root inside. Three writes, see user_namespaces(7)."""
        self._must_be_open()
        return self._from_core(self._core.map_root(), self._remembered)

    def unshare_user(
        self,
        uid_map: Any = None,
        gid_map: Any = None,
        *,
        setgroups: str | None = None,
        owner: tuple[int, int] | None = None,
    ) -> Plan:
        """``unshare("user")`` and more than ``map_root``: the arguments are those of ``spawn``."""
        from .._request.id_maps import checked_users

        self._must_be_open()
        sets_gids, sets_uids = map(_core.has_capability, (6, 7))  # CAP_SETGID, CAP_SETUID
        users, _ = checked_users(
            uid_map, gid_map, setgroups, owner, sets_uids=sets_uids, sets_gids=sets_gids
        )
        return self._from_core(self._core.users(**users), self._remembered)

    def join(self, target: Target, *names: str) -> Plan:
        """Enter namespaces of a running process or namespace file. See setns(2)."""
        flags = names_to_flags(names)
        raw = self._core.steps()
        slot = slots_used(raw)
        opened = any(name == "open_source" for name, *_ in raw)
        room = _FIRST_SOURCE if opened else _FIRST_SLOT_OF_OURS
        if slot >= room:
            raise ValueError(f"a plan{' with mounts' * opened} has room for {room} targets to join")
        resolved = Resolved(target)
        fd = max(resolved.fd, resolved.pidfd)
        if fd >= 0:
            core = self._core.with_slot(slot, fd, resolved)
            plan = self._from_core(core, self._remembered)
        else:
            plan = self._then("open_process", (resolved.pid, resolved.birth, slot))
        return plan._then("join", (slot, flags, 0))

    def become_root(self) -> Plan:
        """After joining a user namespace: be its uid and gid 0."""
        return self._then("become_root")

    def fork(self) -> Plan:
        """Go on in a new process, a child of the caller. See clone(2), CLONE_PARENT."""
        if any(step.operation == "fork" for step in self):
            raise ValueError("a plan forks once")
        return self._then("fork")

    def init(self) -> Plan:
        """Stay as PID 1 that reaps and forwards signals; a child of it goes on."""
        operations = [step.operation for step in self]
        if "fork" not in operations:
            raise ValueError("init needs a fork step before it: PID 1 is a new process")
        if "init" in operations:
            raise ValueError("a plan has one init")
        return self._then("init")

    def pin(self, name: str, path: str | os.PathLike[str]) -> Plan:
        """Keep this new namespace alive on a file, of the caller: ``pin("net", "/run/blue")``."""
        from .._request.pins import pin_texts

        flag, *texts = pin_texts(name, path)
        return self._then("pin", (flag, -1, 0), tuple(texts))

    def sethostname(self, name: str) -> Plan:
        """Name the host; needs a new uts namespace, or it is this machine's name."""
        return self._then("sethostname", texts=(name,))

    def setdomainname(self, name: str) -> Plan:
        """Name the NIS domain; needs a new uts namespace, or it is this machine's."""
        return self._then("setdomainname", texts=(name,))

    def loopback_up(self) -> Plan:
        """Bring up ``lo``, which is down in a new network namespace."""
        return self._then("loopback_up")

    # -- mounts and root ---------------------------------------------------------------

    def make_private(self, path: str | os.PathLike[str] = "/") -> Plan:
        """Let no mount event out or in from here on down. See mount_namespaces(7).

        A new mount namespace is a copy, whose mounts have the originals for peers: where those are
        shared, as systemd has them, what is mounted in the copy is mounted on the machine, too, and
        stays there. So this comes before anything is mounted; ``print(plan)`` warns.
        """
        return self.propagation("private", path)

    def propagation(self, kind: str, path: str | os.PathLike[str] = "/") -> Plan:
        """Set how mount events travel: "private", "slave", "shared" or "unbindable"."""
        if kind not in MS_PROPAGATION:
            raise ValueError(f"propagation is one of {', '.join(MS_PROPAGATION)}, not {kind!r}")
        flags = MS_PROPAGATION[kind] | MS_REC
        return self._then("propagation", (flags, 0, 0), (text_value(path),))

    def bind(self, source: str | os.PathLike[str], target: str | os.PathLike[str]) -> Plan:
        """Make a directory visible at a second place, with all that is mounted in it."""
        texts = (text_value(source), text_value(target))
        return self._then("bind", (MS_BIND | MS_REC, 0, 0), texts)

    def mount(self, source: str, target: str | os.PathLike[str], type: str, flags: int = 0) -> Plan:
        """Mount a filesystem; the target must be a directory and no symlink. See mount(2)."""
        texts = (source, text_value(target), type, None)
        return self._then("mount", (flags, -1, 0), texts)

    def mounts(self, values: Sequence[Mount], root: str | os.PathLike[str] | None = None) -> Plan:
        """Mount Bind, Tmpfs, Proc, Dev, Sysfs and Overlay values, in this order, below ``root``.

        All sources are opened first. Needs a mount namespace of its own, made private. Without a
        root the last step goes to the working directory again, by its path: it may lie below one
        of the mounts now.
        """
        from ..mounts import entries

        self._must_be_open()
        raw = self._core.steps()
        sources = sum(name == "open_source" for name, *_ in raw)
        if slots_used(raw) > _FIRST_SOURCE:
            raise ValueError(f"a plan with mounts has room for {_FIRST_SOURCE} targets to join")
        new = [numbers[0] for name, _, numbers, _ in raw if name in ("clone", "unshare")]
        has_user, has_ipc = (any(f & CLONE_FLAGS[k] for f in new) for k in ("user", "ipc"))
        encoded = None if root is None else encode_path("root", root)
        first = _FIRST_SOURCE + sources
        core = self._core.files(entries(values), encoded, has_user, has_ipc, first)
        return self._from_core(core, self._remembered)

    def make_readonly(self, root: str | os.PathLike[str] | None = None) -> Plan:
        """Let nobody write to a mount and to all below it; None is ``/``."""
        return self._then(
            "readonly", (2, -1, 0), (None, None, None, None if root is None else text_value(root))
        )

    def pivot_root(self, root: str | os.PathLike[str]) -> Plan:
        """Swap the root mount for this mount point and let go of the old one."""
        return self._then("pivot_root", (-1, 0, 0), (text_value(root),))

    def chroot(self, root: str | os.PathLike[str]) -> Plan:
        """Look up "/" there from now on. Not a jail: root gets out. See chroot(2)."""
        return self._then("chroot", (-1, 0, 0), (text_value(root),))

    # -- the process -------------------------------------------------------------------

    def chdir(self, path: str | os.PathLike[str]) -> Plan:
        """Change the working directory; it must lie inside the root."""
        return self._then("chdir", texts=(text_value(path),))

    def setsid(self) -> Plan:
        """Start a session of its own, without a controlling terminal."""
        return self._then("setsid")

    def terminal(self, size: os.terminal_size | None = None) -> Plan:
        """Give the command a terminal as 0, 1 and 2; None is the size of the caller's.

        After ``setsid``, and after ``chroot`` or ``pivot_root``: if /dev/pts is a devpts then, it
        is from there. See pty(7), ioctl_tty(2).
        """
        from .._request.terminal import checked_size

        operations = [step.operation for step in self]
        if "setsid" not in operations:
            raise ValueError("terminal needs a setsid step before it: it belongs to a session")
        if "terminal" in operations:
            raise ValueError("a plan has one terminal")
        plan = self._then("terminal", (7, -1, 0))
        chosen = None if size is None else checked_size(*size)
        return self._from_core(plan._core, self._remembered.on_terminal(chosen))

    def setgroups(self, groups: Iterable[int]) -> Plan:
        """Set the supplementary groups."""
        self._must_be_open()
        ids = tuple(check_id("groups", group) for group in groups)
        return self._from_core(self._core.setgroups(ids), self._remembered)

    def setgid(self, gid: int) -> Plan:
        """Become this group: real, effective and saved."""
        return self._then("setgid", (check_id("gid", gid), 0, 0))

    def setuid(self, uid: int) -> Plan:
        """Become this user: real, effective and saved. Gives up root's power."""
        return self._then("setuid", (check_id("uid", uid), 0, 0))

    def rlimits(self, limits: Mapping[str, Any]) -> Plan:
        """Set limits by their names in getrlimit(2): ``rlimits({"nofile": 64})``."""
        from .._request.power import checked_limits

        plan = self
        for numbers in checked_limits(limits):
            plan = plan._then("rlimit", numbers)
        return plan

    def drop_bounding(self, kept: Iterable[str]) -> Plan:
        """Let no program gain a capability but these. Before ``setuid``; see capabilities(7)."""
        from .._request.power import capability_mask

        return self._then("drop_bounding", (capability_mask("capabilities", kept), 0, 0))

    def keep_capabilities(self) -> Plan:
        """Keep what is permitted over a ``setuid`` that follows; see PR_SET_KEEPCAPS."""
        return self._then("keep_capabilities")

    def capabilities(self, kept: Iterable[str], ambient: Iterable[str] = ()) -> Plan:
        """Have these capabilities and no other; those that are ambient outlive ``exec``."""
        from .._request.power import checked_capabilities

        masks = checked_capabilities(kept, ambient) or (0, 0)
        return self._then("capset", (*masks, 0))

    def no_new_privs(self) -> Plan:
        """Let no program give more power than there is, setuid or not. For ever; see prctl(2)."""
        return self._then("no_new_privs")

    def securebits(self, names: Iterable[str]) -> Plan:
        """Let these bits hold, and no others, while there is CAP_SETPCAP; see capabilities(7)."""
        from .._request.power import checked_securebits

        return self._then("securebits", (checked_securebits(names), 0, 0))

    def landlock(self, rules: Landlock) -> Plan:
        """Open nothing from here on but what the rules allow. After ``no_new_privs``."""
        from .._request.landlock import checked_rules

        plan = self._then("landlock")
        for writable, path in checked_rules(rules):
            plan = plan._then("landlock_allow", (writable, 0, 0), (os.fsdecode(path),))
        return plan._then("landlock_restrict")

    def seccomp(self, program: Any) -> Plan:
        """Let a BPF program judge each system call: of the command, so it comes last before it.

        Raises:
            ValueError: from the next step but ``seccomp`` and ``exec``, which it would judge, too.
        """
        from .._request.power import checked_filter

        self._must_be_open(judged=True)
        return self._from_core(self._core.seccomp(checked_filter(program)), self._remembered)

    def exec(
        self, args: Sequence[str | os.PathLike[str]], env: Mapping[str, str] | None = None
    ) -> Plan:
        """Execute the command: the last step.

        ``env=None`` is the caller's environment, or a small clean one if this plan changes
        the root or joins a target.
        """
        self._must_be_open(judged=True)
        operations = self._operations()
        if "unshare" in operations:
            from .settings import must_enter_time

            must_enter_time(self.steps)
        clean = env is None and operations & {"pivot_root", "chroot", "join"}
        argv, envp, paths = command_vectors(args, CleanEnvironment(uid_zero=True) if clean else env)
        return self._from_core(self._core.exec(argv, envp, paths), self._remembered)

    # -- running -----------------------------------------------------------------------

    def start(
        self,
        *,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        pass_fds: Sequence[int] = (),
        die_with_parent: bool = False,
    ) -> Container[Any]:
        """Perform the steps and return the running Container.

        stdio arguments are those of subprocess.Popen; left out, they are those that the
        plan was made with. Raises as ``spawn`` does. A plan of chroot_run or enter, started
        instead of run, does not end with this process by itself: ``stop()`` it, or ask with
        ``die_with_parent`` for a watchdog, as ``spawn`` has one. For a plan made by hand, and
        one of spawn(die_with_parent=False), that is a ValueError.
        """
        given = RunOptions(stdin, stdout, stderr, text, encoding, errors, pass_fds)
        plan = self._runnable()
        if plan._ending is not None:
            plan = self._from_core(plan._ending(die_with_parent), plan._remembered)
        elif die_with_parent and not any(
            name == "watch" or (name == "clone" and numbers[1])
            for name, _, numbers, _ in plan._core.steps()
        ):
            raise ValueError("die_with_parent=True is for a plan of chroot_run, spawn or enter")
        return _doors.start(plan, given.over(self._remembered.options))

    def run(
        self,
        *,
        input: Any = None,
        capture_output: bool = False,
        timeout: float | None = None,
        check: bool = False,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        pass_fds: Sequence[int] = (),
    ) -> CompletedProcess[Any]:
        """Perform the steps, wait for the command and return what came of it.

        Arguments are those of subprocess.run; left out, they are those that the plan was
        made with. Raises as ``run`` does.
        """
        given = RunOptions(stdin, stdout, stderr, text, encoding, errors, pass_fds)
        given.input, given.capture_output = input, capture_output
        given.timeout, given.check = timeout, check
        return _doors.run(self._runnable(), given.over(self._remembered.options))

    def _must_be_open(self, judged: bool = False) -> None:
        """``judged``: the next step may be one that a filter judges."""
        if self._core.command()[0]:
            raise ValueError("this plan ends with exec; nothing can follow it")
        if not judged and "seccomp" in self._operations():
            raise ValueError(
                "nothing but the command comes after seccomp(), whose filter would judge it, too: "
                "move seccomp() to the end, before exec()"
            )

    def _runnable(self) -> Plan:
        if not self._core.command()[0]:
            raise ValueError("this plan has no exec step: it would run nothing")
        if self._remembered.args is not None and f"{working_directory()}/".startswith("/proc/"):
            self._must_leave_proc()
        return self

    def _must_leave_proc(self) -> None:
        """A recipe says so where it is asked for below /proc; this one was, elsewhere."""
        raw = [(name, texts) for name, _, _, texts in self._core.steps()]
        covers = ("mount", ("proc", "/proc", "proc", None)) in raw
        goes = ("chroot", "pivot_root", "chdir")
        if covers and not any(n in goes and (t[0] or "/").startswith("/") for n, t in raw):
            raise ValueError(
                "this plan was made in another directory: from below /proc the command would "
                "start in the /proc that it covers; make it anew here, or with cwd="
            )


Plan.__module__ = "nsdemo"
