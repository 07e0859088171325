"""What works on this machine, what does not, who forbids it, and what to do.

``doctor()`` finds out by doing: every probe is a tiny plan whose last step executes a program
that does not exist. When that step is reached, everything before it works, whatever programs
this machine has. The probes run in processes of their own and leave nothing behind.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, overload

from . import _core, _doors
from ._api import chroot_run, enter, spawn
from ._errors import NamespaceError
from ._facts import machine
from ._plan.plan import Plan
from ._request.stdio import DEVNULL, PIPE

_NOWHERE = "/nsdemo-doctor/no-such-program"
_OPTIONAL = ("id ranges", "docker", "podman")
_SHARED = "mounts are shared here, so that a Plan needs .make_private() before it mounts"
_SUBIDS = ("/etc/subuid", "/etc/subgid")


class Finding(NamedTuple):
    """One row of what doctor found.

    name          what was tried, such as "pid" or "pivot_root"
    works         whether it did
    detail        what was seen: how it works, or the error
    forbidden_by  who refuses, "" if it works
    advice        what to do about it, "" if nothing is known or needed
    """

    name: str
    works: bool
    detail: str
    forbidden_by: str = ""
    advice: str = ""


class Findings(Sequence[Finding]):
    """What doctor found: an immutable sequence of Finding, and a table when printed.

    A row is had by its number or by its name. True if everything that nsdemo's defaults need
    works; tools that nsdemo does not need itself (docker, podman, newuidmap) do not count.

    Example:
        >>> findings = nsdemo.doctor()
        >>> findings["pid"].works
        True
    """

    __slots__ = ("_rows",)

    def __init__(self, rows: Sequence[Finding]) -> None:
        """Keep the rows in their order."""
        self._rows = tuple(rows)

    @property
    def ok(self) -> bool:
        """Whether all that nsdemo's defaults need works."""
        return all(row.works for row in self._rows if row.name not in _OPTIONAL)

    def __bool__(self) -> bool:
        """Return ``ok``."""
        return self.ok

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    @overload
    def __getitem__(self, key: int | str) -> Finding: ...
    @overload
    def __getitem__(self, key: slice) -> Findings: ...
    def __getitem__(self, key: int | str | slice) -> Finding | Findings:
        """Return a row by number or name; IndexError or KeyError if there is none."""
        if isinstance(key, slice):
            return Findings(self._rows[key])
        if isinstance(key, str):
            for row in self._rows:
                if row.name == key:
                    return row
            raise KeyError(key)
        return self._rows[key]

    def __iter__(self) -> Iterator[Finding]:
        """Go through the rows."""
        return iter(self._rows)

    def __eq__(self, other: object) -> bool:
        """Compare row by row."""
        return self._rows == other._rows if isinstance(other, Findings) else NotImplemented

    def __hash__(self) -> int:
        """Return a hash of all rows."""
        return hash(self._rows)

    def __repr__(self) -> str:
        """Say how much works."""
        working = sum(row.works for row in self._rows)
        return f"<nsdemo.Findings: {working} of {len(self)} work>"

    def __str__(self) -> str:
        """Return the table, and below it what to do about each row that does not work."""
        heads = ("", "what", "how, or why not", "forbidden by")
        table = [heads]
        table += [
            ("yes" if row.works else "no", row.name, row.detail, row.forbidden_by)
            for row in self._rows
        ]
        widths = [max(len(line[column]) for line in table) for column in range(3)]
        lines = ["  ".join([*map(str.ljust, line[:3], widths), line[3]]).rstrip() for line in table]
        advice = [(row.name, row.advice) for row in self._rows if row.advice]
        if advice:
            lines += ["", "what to do:"]
            lines += [f"  {name}: {text}" for name, text in advice]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the table as a notebook shows it."""
        return _doors.html("findings", self)

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings and bools, as for json.dumps()."""
        return {"ok": self.ok, "findings": [row._asdict() for row in self._rows]}


Findings.__module__ = "nsdemo"


def doctor() -> Findings:
    """Try what this machine allows, and say who forbids the rest.

    Each row is probed by doing it (an id map is written, a /proc is mounted) in throw-away
    processes. Takes about a tenth of a second and leaves nothing behind.

    Returns:
        Findings: ``print()`` it for a table; a row is ``doctor()["pid"]``.

    Raises:
        Nothing: a probe that goes wrong is a row that says so.

    Example:
        >>> print(nsdemo.doctor())
             what...how, or why not...
        yes  launcher ...

    Source: namespaces(7), user_namespaces(7), memfd_create(2).
    """
    rows = [_row("launcher", _launcher)]
    if not rows[0].works:  # everything else would fail for the same reason
        return Findings(rows)
    rows += [_namespace(name) for name, _, _ in _core.NAMESPACES]
    if machine.shares_mounts():
        rows = [_told(row) if row.name == "mount" and row.works else row for row in rows]
    probes: list[tuple[str, Callable[[], str]]] = [
        ("id map", _id_map),
        ("mount /proc", _proc),
        ("pivot_root", _pivot_root),
        ("chroot", _chroot),
        ("enter", _enter),
        ("loopback", _loopback),
        ("pidfd", _pidfd),
    ]
    rows += [_row(name, probe) for name, probe in probes]
    rows += [_row("id ranges", _id_ranges), *map(_tool, ("docker", "podman"))]
    return Findings(rows)


# -- probing ---------------------------------------------------------------------------------


class _Absent(Exception):
    """Something is not installed or not set up: (what, what to do)."""


def _row(name: str, probe: Callable[[], str]) -> Finding:
    """Do a probe; its error is the row's reason, whatever it is."""
    try:
        return Finding(name, True, probe())
    except _Absent as absent:
        what, advice = absent.args
        return Finding(name, False, what, "", advice)
    except Exception as error:
        return Finding(name, False, _reason(error), _forbids(error), _advice(error))


def _reaches_its_end(plan: Plan) -> None:
    """Run a plan whose program does not exist; return if that is all that went wrong."""
    try:
        plan.run(stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
    except NamespaceError:
        raise
    except FileNotFoundError:
        return
    raise AssertionError(f"{_NOWHERE} exists")  # somebody made it: then it ran, too


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


def _advice(error: Exception) -> str:
    return " ".join(getattr(error, "__notes__", ()))


def _forbids(error: Exception) -> str:
    """Name who refused, as far as that is known."""
    if not isinstance(error, OSError):
        return ""
    if error.errno in (errno.ENOSPC, errno.EUSERS):
        return "a limit (user.max_*_namespaces)"
    if error.errno in (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return "a limit"
    if error.errno in (errno.ENOSYS, errno.EINVAL, errno.ENODEV):
        return "the kernel"
    if error.errno not in (errno.EPERM, errno.EACCES):
        return ""
    if machine.is_gvisor():
        return "gVisor"
    if machine.apparmor_restricts():
        return "AppArmor"
    step = getattr(error, "step", None)
    if step is not None and step.operation == "mount" and machine.covered_proc():
        return "mounts over /proc"
    if machine.sysctl("kernel.unprivileged_userns_clone") == 0:
        return "kernel.unprivileged_userns_clone"
    if step is not None and step.operation == "start" and machine.sysctl("vm.memfd_noexec") == 2:
        return "vm.memfd_noexec"
    if machine.is_chrooted():
        return "the chroot we are in"
    if machine.is_filtered():
        return f"{machine.engine()} seccomp filter".strip()
    if not machine.passes_on(machine.CAP_SYS_ADMIN):
        return "no CAP_SYS_ADMIN"
    return "the kernel"


# -- the probes --------------------------------------------------------------------------------


def _launcher() -> str:
    _reaches_its_end(Plan().exec([_NOWHERE]))
    try:
        os.close(os.memfd_create("nsdemo", os.MFD_CLOEXEC | 0x10))  # MFD_EXEC
    except OSError as error:
        if error.errno == errno.EINVAL:  # before Linux 6.3
            return "in memory (memfd)"
        level = machine.sysctl("vm.memfd_noexec")
        why = "vm.memfd_noexec is 2" if level == 2 else "memfd is refused"
        return f"fallback: a file without a name ({why})"
    return "in memory (memfd)"


def _told(row: Finding) -> Finding:
    """The row of the mount namespace, where mounts travel."""
    return row._replace(detail=f"{row.detail}; {_SHARED}")


def _namespace(name: str) -> Finding:
    """A new namespace by itself, and as root of a new user namespace."""
    keyword = f"{name}=True"
    alone = _row(name, lambda: _new(Plan(), name))
    if name == "user":
        return alone._replace(detail=keyword) if alone.works else alone
    inside = _row(name, lambda: _new(Plan().unshare("user").map_root(), name))
    if alone.works and inside.works:
        return Finding(name, True, f"{keyword}, with or without user=True")
    if inside.works:
        return Finding(name, True, f"{keyword} with user=True, which is then the default")
    if alone.works:
        reason = f"{keyword} works, with user=True it does not: {inside.detail}"
        return Finding(name, True, reason, inside.forbidden_by, inside.advice)
    return inside


def _new(plan: Plan, name: str) -> str:
    plan = plan.unshare(name)
    if name == "pid":
        plan = plan.fork()
    _reaches_its_end(plan.exec([_NOWHERE]))
    return ""


def _id_map() -> str:
    _reaches_its_end(Plan().unshare("user").map_root().exec([_NOWHERE]))
    return f"uid {os.geteuid()} is root inside"


def _proc() -> str:
    _reaches_its_end(spawn([_NOWHERE], dry_run=True))
    return "the defaults of spawn(): new mount, uts, ipc and pid namespaces"


def _pivot_root() -> str:
    root = tempfile.gettempdir()
    _reaches_its_end(spawn([_NOWHERE], root=root, mount_proc=False, dry_run=True))
    return "spawn(root=...)"


def _chroot() -> str:
    _reaches_its_end(chroot_run(tempfile.gettempdir(), [_NOWHERE], dry_run=True))
    return "chroot_run(root, ...)"


def _loopback() -> str:
    _reaches_its_end(spawn([_NOWHERE], net=True, mount_proc=False, dry_run=True))
    return "lo comes up with net=True, so 127.0.0.1 answers"


def _enter() -> str:
    wait = ["cat"] if shutil.which("cat") else [sys.executable, "-ISc", "input()"]
    with spawn(wait, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, mount_proc=False) as box:
        try:
            enter(box, [_NOWHERE], stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
        except NamespaceError:
            raise
        except FileNotFoundError:
            return "setns: enter(container, ...)"
        finally:
            box.kill()
    raise AssertionError(f"{_NOWHERE} exists")


def _pidfd() -> str:
    descriptor = os.pidfd_open(os.getpid())
    try:
        import signal

        signal.pidfd_send_signal(descriptor, 0)
    finally:
        os.close(descriptor)
    return "pidfd_open, pidfd_send_signal"


def _id_ranges() -> str:
    """More than one id in an ordinary user's namespace needs two setuid helpers and ranges."""
    from pwd import getpwuid

    if machine.in_first_user_namespace() and machine.passes_on(machine.CAP_SETUID):
        return "root writes id maps of any range itself"
    for tool in ("newuidmap", "newgidmap"):
        path = shutil.which(tool)
        if path is None:
            raise _Absent(f"{tool} is not installed", "install the package uidmap (or shadow)")
        if not os.stat(path).st_mode & 0o4000 and not _has_file_capability(path):
            raise _Absent(f"{path} has lost its setuid bit", f"as root: chmod u+s {path}")
    names = {str(os.geteuid())}
    with suppress(KeyError):
        names.add(getpwuid(os.geteuid()).pw_name)
    for file in _SUBIDS:
        rows = [line.split(":") for line in machine.read(file).splitlines()]
        if not names & {row[0] for row in rows}:
            name = max(names, key=str.isalpha)
            ends = [int(r[1]) + int(r[2]) for r in rows if len(r) == 3 and "".join(r[1:]).isdigit()]
            free = max(100000, *ends) if ends else 100000
            option = "--add-subuids" if file == _SUBIDS[0] else "--add-subgids"
            advice = f"as root: usermod {option} {free}-{free + 65535} {name}"
            raise _Absent(f"{file} has no range for {name}", advice)
    return "newuidmap and newgidmap, with ranges (used by rootless docker and podman)"


def _has_file_capability(path: str) -> bool:
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


def _tool(name: str) -> Finding:
    path = shutil.which(name)
    if path is None:
        return Finding(name, False, "is not installed; nsdemo does without")
    return Finding(name, True, path)
