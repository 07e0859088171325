"""Targets: a Container, a pid, an object with fileno(), or a path to a namespace file."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

from .. import _core
from .._errors import explained, name_unended, printable
from .._request.values import CLONE_FLAGS, KEYWORDS, HasFileno, StrPath, deadline_of, text_value
from .shown import child_of_init, is_running, uid_of, why_hidden

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._launch.container import Container
    from .._request.given import Request

# The launcher is handed descriptors below this number; above it, copying the table up to
# there would take longer than opening the process again by its number.
_CHEAP_DESCRIPTORS = 64

_NS_GET_USERNS = 0xB701  # ioctl_ns(2)

# execve(2) closes the pipe that tells us of it, and only then makes the process readable again.
_EXECVE_ENDS_WITHIN = 0.5  # seconds


class Resolved:
    """A target that cannot be mistaken: a process by pid and birth, or an open file.

    Attributes:
        pid, birth: the process, and what no later one with its pid has; pid 0 for a file.
        pidfd: a descriptor of the process that owner keeps open, or -1.
        core: the container's process in the core, or None.
        fd: a descriptor of the namespace file that this object owns, or -1.
        kind: the keyword of the namespace file's kind, or None for a process.
    """

    __slots__ = ("birth", "core", "fd", "kind", "owner", "pid", "pidfd")

    def __init__(self, target: Any, request: Request | None = None) -> None:
        """``request``: of the call that it is for; its args and timeout are asked."""
        self.fd = self.pidfd = -1
        self.pid = self.birth = 0
        self.owner: object = None
        self.core: _core.Process | None = None
        self.kind: str | None = None
        if isinstance(target, bool):
            raise TypeError("a target is a Container, a pid, an object with fileno() or a path")
        if isinstance(target, int):
            self._take_process(target)
        elif hasattr(target, "_process"):
            self._take_container(target)
        elif isinstance(target, (str, os.PathLike)):
            self._take_file(_open_namespace(text_value(target), request), str(target))
        elif hasattr(target, "fileno"):
            self._take_descriptor(target.fileno())
        else:
            raise TypeError(
                "a target is a Container, a pid, an object with fileno() or a path to a "
                f"namespace file, not {type(target).__name__}"
            )

    def close(self) -> None:
        """Give the namespace file back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            self.close()

    def _take_process(self, pid: int) -> None:
        if not 1 <= pid < 2**22 + 1:
            raise ValueError(f"a pid is a number from 1 to {2**22}, not {pid}")
        try:
            self.birth = _core.process_birth(pid)
        except OSError as error:
            raise unreadable(pid, error) from None
        self.pid = pid

    def _take_container(self, container: Any) -> None:
        """Its pidfd tells whether it has ended; until then its number is nobody else's."""
        self.core = container._process
        self._must_run()
        # An init hides from everybody, its owner included; the command under it does not.
        inside = self._command_of_init() if container._process.has_init else 0
        if inside:
            self._take_process(inside)
        elif 0 <= container.pidfd < _CHEAP_DESCRIPTORS:
            self.pid, self.pidfd, self.owner = container.pid, container.pidfd, container
        else:
            self._take_process(container.pid)
        self._must_run()

    def _must_run(self) -> None:
        if self.core is not None and self.core.wait(0):
            status = self.core.returncode
            known = "nobody here was told how" if status is None else f"status {status}"
            raise ProcessLookupError(errno.ESRCH, f"the container has ended ({known})")

    def _command_of_init(self) -> int:
        """0 if it is not to be seen, as long as it executes where /proc hides who may not be
        looked at."""
        assert self.core is not None
        until = time.monotonic() + _EXECVE_ENDS_WITHIN
        while not (inside := child_of_init(self.core.pid)):
            if self.core.wait(0) or time.monotonic() >= until:
                break
            time.sleep(0.001)
        return inside

    def _take_descriptor(self, fd: int) -> None:
        """A pidfd or a namespace file; a copy is kept, so the caller may close the original."""
        try:
            copy = os.dup(fd)
        except OSError as error:
            raise OSError(error.errno, f"descriptor {fd} is not open") from None
        try:
            pid = pid_of_pidfd(copy)
        except BaseException:
            os.close(copy)
            raise
        if pid is None:
            self._take_file(copy, f"descriptor {fd}")
            return
        os.close(copy)
        if pid <= 0:
            raise ProcessLookupError(errno.ESRCH, "the process of this pidfd has ended")
        self._take_process(pid)
        if pid_of_pidfd(fd) != pid:  # ended meanwhile, and its number may be another's
            raise ProcessLookupError(errno.ESRCH, "the process of this pidfd has ended")

    def _take_file(self, fd: int, name: str) -> None:
        if fd < 3:  # where the command's standard streams will be
            low = fd
            try:
                fd = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 3)
            finally:
                os.close(low)
        try:
            self.kind = KEYWORDS[_core.kind_of_file(fd)]
        except OSError:
            os.close(fd)
            raise ValueError(
                f"{printable(name)} is no namespace: pass a pid, a pidfd, or a file such as "
                "/proc/PID/ns/net"
            ) from None
        self.fd = fd

    def owner_namespace(self) -> Resolved:
        """The user namespace that owns a namespace file; for a process, that process."""
        if self.kind is None:
            return self
        owner = Resolved.__new__(Resolved)
        owner.pidfd, owner.pid, owner.birth, owner.owner, owner.core = -1, 0, 0, None, None
        owner.fd, owner.kind = fcntl.ioctl(self.fd, _NS_GET_USERNS), "user"
        return owner

    def differing(self, wanted: int) -> int:
        """Those of the wanted CLONE_NEW* flags whose namespace here is not ours already."""
        if self.kind is not None:
            flag = CLONE_FLAGS[self.kind]
            status = os.fstat(self.fd)
            ours = _core.identity(0, KEYWORDS.index(self.kind))
            return 0 if (status.st_dev, status.st_ino) == ours else wanted & flag
        try:
            found: int = self.read(_core.foreign_namespaces, wanted)
            return found
        except OSError as error:
            raise unreadable(self.pid, error) from None

    def read(self, look: Callable[[int, int], Any], what: int) -> Any:
        """look(pid, what); where the process is a container's, until it may be looked at."""
        until = time.monotonic() + _EXECVE_ENDS_WITHIN if self.core else 0
        while True:
            try:
                found = look(self.pid, what)
            except (PermissionError, ProcessLookupError) as error:
                over = time.monotonic() >= until
                if over or (error.errno == errno.ESRCH and not is_running(self.pid)):
                    raise
            else:
                self._must_run()  # else it may have been another's, with its number
                return found
            time.sleep(0.001)


def _open_namespace(path: str, request: Request | None) -> int:
    if not path.startswith("/proc/"):
        must_be_answered(path, request)
    # O_NONBLOCK: a FIFO under that name must not hang us.
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def must_be_answered(path: str, request: Request | None) -> None:
    """Whoever is to answer for a path may never do so: TimeoutExpired, as for all of a launch."""
    timeout = None if request is None else request.timeout
    try:
        if _core.answers(os.fsencode(path), deadline_of(timeout)):
            return
        assert request
        assert timeout is not None
        over = subprocess.TimeoutExpired(request.args, timeout)
        raise explained(over, f"nobody answers for {path}", trace=())
    except BaseException as error:  # that, or a signal handler's
        name_unended(error, _core.unended())
        raise


def pid_of_pidfd(fd: int) -> int | None:
    """The process of a pidfd, -1 if it has ended, None if the descriptor is no pidfd."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="utf-8", errors="replace") as info:
        for line in info:
            if line.startswith("Pid:"):
                return int(line.split()[1])
    return None


def namespaces(
    target: Container[Any] | int | HasFileno | StrPath | None = None,
) -> Mapping[str, tuple[int, int]]:
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
        >>> nsdemo.namespaces()["uts"] == nsdemo.namespaces(os.getpid())["uts"]
        True

    Source: namespaces(7), "The /proc/pid/ns/ directory".
    """
    resolved = None if target is None else Resolved(target)
    if resolved is not None and resolved.kind is not None:
        status = os.fstat(resolved.fd)
        return {resolved.kind: (status.st_dev, status.st_ino)}
    found = {}
    for number, keyword in enumerate(KEYWORDS):
        try:
            if resolved is None:
                found[keyword] = _core.identity(0, number)
            else:
                found[keyword] = resolved.read(_core.identity, number)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise unreadable(resolved.pid if resolved else 0, error) from None
    return found


def unreadable(pid: int, error: OSError) -> OSError:
    """Why a process's namespaces could not be read, as the exception to raise."""
    if error.errno in (errno.ESRCH, errno.ENOENT):
        return _not_there(pid, error)
    if error.errno not in (errno.EACCES, errno.EPERM):
        return explained(error)
    uid = uid_of(pid)
    if os.geteuid() not in (0, uid):
        owner = f"uid {uid}" if uid >= 0 else "another user"
        return explained(
            PermissionError(
                error.errno, f"process {pid} belongs to {owner}; you are uid {os.geteuid()}"
            ),
            "only its owner, or root, may look at its namespaces and join them",
        )
    refused = PermissionError(error.errno, f"process {pid} may not be looked at from here")
    try:
        from . import machine

        if not machine.in_first_user_namespace():
            return explained(
                refused,
                f"it is in a user namespace that {machine.BESIDE} (a process of ours that is not "
                "dumpable refuses, too)",
            )
    except (ImportError, OSError):  # our own files are out of reach: a hint less
        return explained(refused)
    return explained(
        PermissionError(
            error.errno,
            f"process {pid} does not let anybody look at its namespaces: it is not dumpable, or a "
            "security module protects it",
        )
    )


def _not_there(pid: int, error: OSError) -> OSError:
    """/proc has nothing of it, or no file of this name."""
    if not is_running(pid):
        return explained(
            ProcessLookupError(
                errno.ESRCH, f"there is no process {pid}: it has ended, or never was"
            )
        )
    if os.path.exists(f"/proc/{pid}"):
        return explained(error)
    hidden = PermissionError(errno.EACCES, f"process {pid} runs, but /proc does not show it")
    return explained(hidden, why_hidden())


def slots_used(steps: list[tuple[str, int, tuple[int, int, int], Any]]) -> int:
    """The first free slot of a plan built by hand."""
    return sum(operation == "join" for operation, *_ in steps)
