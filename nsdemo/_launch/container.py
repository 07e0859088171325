"""A command that runs: Container, which has the surface of subprocess.Popen."""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from _thread import allocate_lock
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, AnyStr, Generic

from .. import _core, _doors
from .._facts.targets import namespaces
from .._plan.plan import Plan
from .._plan.step import Step, trace_of
from .._request.given import RunOptions
from .._request.stdio import (
    Stdio,
    as_file,
    check_pass_fds,
    decode,
    encode,
    text_settings,
)
from .._request.values import deadline_of
from .run import (
    CompletedProcess,
    launch,
    returncode_of,
    time_is_over,
    timed_out,
)

if TYPE_CHECKING:
    from typing import Self

    from .changes import Change, Layers

# Let go of and dropped, and still to be reaped as long as we are their parent.
_detached: list[_core.Process] = []


class Container(Generic[AnyStr]):
    """A running command in namespaces of its own: the surface of subprocess.Popen.

    Made by ``spawn`` and ``Plan.start``. Leaving it as a context manager is ``stop()``. One
    that is dropped while it runs is killed, with a ResourceWarning. Neither holds for one that
    was let go of (``detach``) or taken in (``adopt``), nor in a fork of the process that made it.

    A fork may watch, enter and signal it, but not detach it; how it ended it is told as an adopter.

    Attributes:
        pid: the command's process id as the caller sees it; inside it may be 1.
        pidfd: a descriptor of that process (pidfd_open(2)), open as long as this object.
        args: the command.
        returncode: its exit status, -N if signal N ended it, None while it runs.
        stdin, stdout, stderr: our ends of its pipes, or of its terminal, or None.
        root: the directory that is its ``/``, as given; None if that is the caller's.
        trace: a tuple of Step, how the container was made.
        cut: True if what ``communicate`` returned is not whole; see there.

    Example:
        >>> with nsdemo.spawn(["cat"], stdin=nsdemo.PIPE, stdout=nsdemo.PIPE, text=True) as box:
        ...     box.communicate("hello")
        ('hello', None)
        >>> box.returncode
        0
    """

    args: Any
    stdin: IO[AnyStr] | None
    stdout: IO[AnyStr] | None
    stderr: IO[AnyStr] | None
    root: str | None
    _process: _core.Process
    _plan: Plan
    _settings: tuple[str, str] | None = None
    _talking: bool = False  # communicate() has begun
    _turn: Any  # held by who talks to the command
    _on_terminal: bool = False
    _trace: tuple[Step, ...] | None = None
    _layers: Layers | None = None
    _said: tuple[Any, Any] | None = None  # by a command that has ended, to communicate()

    def __init__(self) -> None:
        raise TypeError("a Container is made by nsdemo.spawn() or Plan.start()")

    @classmethod
    def _made(cls, process: _core.Process, plan: Plan, args: Any, root: str | None) -> Self:
        """Every attribute that is no stream; those are None."""
        self = cls.__new__(cls)
        self._process = process
        self._plan = plan
        self._turn = allocate_lock()
        self.args = args
        self.root = root
        self.stdin = self.stdout = self.stderr = None
        return self

    @classmethod
    def _start(
        cls,
        plan: Plan,
        options: RunOptions | None = None,
    ) -> Container[Any]:
        """``options``: None are those of the plan; their timeout is for the launch alone."""
        remembered = plan._remembered
        options = options or remembered.options
        stdin, stdout, stderr = options.stdin, options.stdout, options.stderr
        deadline = deadline_of(options.timeout)
        settings = text_settings(options.text, options.encoding, options.errors)
        passed = check_pass_fds(options.pass_fds)
        sys.audit("nsdemo.launch", plan)
        if _detached:
            _reap_detached()
        on_terminal = remembered.terminal != 0
        raw = io.FileIO
        if on_terminal:
            from .._request.terminal import OurEnd, Terminal

            which = remembered.terminal
            stdio: Stdio = Terminal(remembered.size, which, stdin, stdout, stderr)
            raw = OurEnd
        else:
            stdio = Stdio(stdin, stdout, stderr)
        layers = None
        try:
            if remembered.overlay:
                from .changes import launch_with_layers

                process, layers = launch_with_layers(
                    plan._core, lambda core: launch(core, stdio, passed, None, None, deadline)
                )
            else:
                process = launch(plan._core, stdio, passed, None, None, deadline)
            if process.abandoned:
                assert options.timeout is not None
                raise time_is_over(plan._args, options.timeout, plan._core, process, (None, None))
            stdio.settle()  # if that fails, the process ends with its last reference
        except BaseException:
            stdio.close_all()
            raise
        self = cls._made(process, plan, plan._args, remembered.root)
        self._settings = settings
        self._on_terminal = on_terminal
        self._layers = layers
        self.stdin = as_file(stdio.parent[0], 0, settings)
        self.stdout = as_file(stdio.parent[1], 1, settings, raw)
        self.stderr = as_file(stdio.parent[2], 2, settings, raw)
        return self

    @classmethod
    def adopt(cls, target: Any) -> Container[bytes]:
        """Take in a running process, whoever started it, as a Container.

        It is not our child, so it is watched by its pidfd: nothing of it is reaped, and it goes
        on when the Container is dropped, or left as a context manager. Signals, ``wait``,
        ``stop`` and ``enter`` work as far as it is ours to touch. ``trace`` is empty, stdin,
        stdout and stderr are None, and ``root`` is /proc/PID/root if it differs from ours.

        ``wait``, ``poll`` and ``stop`` raise ChildProcessError, and ``returncode`` is None, if
        it has ended and nobody says how: its parent was told, and since Linux 6.15 the kernel
        tells others as well.

        Args:
            target: a pid, or an object whose fileno() is a pidfd.

        Raises:
            ProcessLookupError: there is no such process.
            ValueError: the process is this one, or the number is a thread's.

        Example:
            >>> again = nsdemo.Container.adopt(box.pid)
            >>> again.enter(["hostname"], capture_output=True).stdout
            b'boxy\\n'
            >>> again.stop()
            -9

        Source: pidfd_open(2), PIDFD_GET_INFO in linux/pidfd.h.
        """
        from .adopted import taken_in

        process, args, root = taken_in(target)
        box: Container[bytes] = Container._made(process, Plan(), args, root)
        box._trace = ()
        return box

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def pidfd(self) -> int:
        return self._process.pidfd

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    @property
    def trace(self) -> tuple[Step, ...]:
        if self._trace is None:
            self._trace = trace_of(self._plan._core, self._process)
        return self._trace

    @property
    def cut(self) -> bool:
        return self._process.cut

    @property
    def namespaces(self) -> Mapping[str, tuple[int, int]]:
        """Its namespaces' identities; see ``nsdemo.namespaces``."""
        return namespaces(self)

    def __repr__(self) -> str:
        state = "running"
        if self._has_ended():
            state = f"ended with {self.returncode}"
            if self.returncode is None:
                state = "ended, nobody here was told how"
        if self._process.inherited:
            state += f", a child of process {self._process.owner}"
        return f"<nsdemo.Container pid {self.pid}, {state}: {self.args!r}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            "a Container is neither copied nor pickled: it is a running command. Another process "
            "takes it in by its pid, nsdemo.Container.adopt(box.pid)"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: its namespaces and its processes."""
        return _doors.html("container", self)

    def _has_ended(self) -> bool:
        return self._process.wait(0)

    def poll(self) -> int | None:
        """The returncode if the command has ended, else None."""
        return returncode_of(self._process) if self._process.wait(0) else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the command to end and return its returncode.

        Raises TimeoutExpired after ``timeout`` seconds; the command runs on.
        """
        if not self._process.wait(-1 if timeout is None else deadline_of(timeout)):
            assert timeout is not None
            raise timed_out(self.args, timeout, self.trace)
        return returncode_of(self._process)

    def communicate(
        self, input: AnyStr | None = None, timeout: float | None = None
    ) -> tuple[Any, Any]:
        """Write ``input``, read stdout and stderr to their ends, and wait.

        Returns (stdout, stderr), None for what is no pipe. Raises TimeoutExpired after
        ``timeout`` seconds; the command runs on and communicate may be called again. Raises
        RuntimeError while another thread is in communicate or interact.

        What outlives the command, and may write to its pipes, is heard for another second (and
        64 MB) at most: ``cut`` is True if it had not closed them by then.
        """
        from .others import taking_turn

        with taking_turn(self._turn, self._process):
            return self._communicate(input, timeout)

    def _communicate(self, input: AnyStr | None, timeout: float | None) -> tuple[Any, Any]:
        if self._talking:
            if input is not None:
                raise ValueError("input cannot be given again after a time-out")
            if self._said is not None:
                return self._said
            ended = self._process.communicate(None, None, deadline_of(timeout))
        else:
            if input is not None and (self.stdin is None or self._on_terminal):
                raise ValueError("input needs stdin=PIPE")
            data = encode(input, self._settings)
            if self.stdin is not None and not self.stdin.closed:
                with suppress(BrokenPipeError):
                    self.stdin.flush()
            borrowed = self._borrowed()
            self._talking = True
            ended = self._process.communicate(borrowed, data, deadline_of(timeout))
        files = (self.stdout, self.stderr)
        raw = [
            data if file is not None else None
            for file, data in zip(files, self._process.output(), strict=True)
        ]
        if not ended:
            assert timeout is not None
            raise timed_out(self.args, timeout, self.trace, *raw)
        self._close_files()
        out, err = (decode(data, self._settings, cut=self.cut) for data in raw)
        self._said = out, err
        return self._said

    def _borrowed(self) -> tuple[int, int, int]:
        """Copies of our ends for the core, which closes what it has finished with."""
        fds: list[int] = []
        try:
            for file in (self.stdin, self.stdout, self.stderr):
                is_open = file is not None and not file.closed
                fds.append(os.dup(file.fileno()) if file is not None and is_open else -1)
        except BaseException:
            for fd in fds:
                if fd >= 0:
                    os.close(fd)
            raise
        if self.stdin is not None and not self._on_terminal:  # whose end is a hang-up
            with suppress(OSError):
                self.stdin.close()  # else the command never sees the end of its input
        return fds[0], fds[1], fds[2]

    def send_signal(self, sig: int) -> None:
        """Send a signal to the command; nothing happens if it has ended.

        Raises PermissionError if it has more power than we, as a set-user-ID program may have.
        """
        try:
            self._process.send_signal(sig)
        except OSError as error:
            from .others import unsignalled

            raise unsignalled(self._process, error) from None

    def terminate(self) -> None:
        """Send SIGTERM. As PID 1 a command without a handler does not notice: see stop()."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL: in a pid namespace of its own everything ends.

        Without one, the command and its process group. Raises PermissionError as send_signal.
        """
        try:
            self._process.kill()
        except OSError as error:
            from .others import unsignalled

            raise unsignalled(self._process, error) from None

    def stop(self, timeout: float | None = 10) -> int:
        """End the container and return its returncode.

        SIGTERM if the command would notice it (it has a handler, or is not PID 1), then
        ``timeout`` seconds later, or at once, SIGKILL. With a new pid namespace everything
        in it ends; without one, the command and its process group. Where nothing tells whether
        it would notice, it gets its time.
        """
        self._process.stopping()
        if not self._process.wait(0) and self._notices(signal.SIGTERM):
            self.send_signal(signal.SIGTERM)
            try:
                self._process.wait(deadline_of(timeout))
            finally:  # by Ctrl-C, too: no more patience
                if not self._process.ended:
                    self.kill()
        elif not self._process.ended:
            self.kill()
        return self.wait()

    def _notices(self, sig: int) -> bool:
        """Would the command notice this signal? PID 1 ignores what it has no handler for."""
        if self._process.has_init:
            return True
        try:
            with open(f"/proc/{self.pid}/status", "rb", buffering=0) as file:
                status = file.read(8192) or b""
        except OSError:  # /proc does not show it (hidepid), or is not there
            return True

        def field(name: bytes) -> bytes:
            return status.partition(b"\n" + name + b":\t")[2].partition(b"\n")[0] or b"0"

        inner = field(b"NSpid").split()[-1]
        return inner != b"1" or bool(int(field(b"SigCgt"), 16) >> (sig - 1) & 1)

    def enter(self, args: Sequence[Any], **options: Any) -> CompletedProcess[Any]:
        """Run a command inside: ``nsdemo.enter`` with this container as the target."""
        return _doors.enter(self, args, **options)

    def changes(self) -> tuple[Change, ...]:
        """What is different below its root: so far, or in the end when it has ended.

        For a container with overlay=True; its changes stay in memory as long as this object.
        A file counts as modified if it was opened for writing; a directory, if its owner or
        mode changed, not for what is in it. Of a directory that is gone only itself is named.

        Returns a tuple of Change (path, kind), sorted; kind is "added", "modified" or
        "deleted". Paths are the container's choice: escape them before you show them.

        Raises ValueError without overlay=True; PermissionError where the container took away
        the permission to look; OSError for paths longer than 4095 bytes (ENAMETOOLONG), and for
        a container that makes files faster than they are read (EBUSY).

        Example:
            >>> with nsdemo.spawn(["touch", "/new"], root=rootfs, overlay=True) as box:
            ...     box.wait()
            0
            >>> box.changes()
            (Change(path='/new', kind='added'),)

        Source: the kernel's Documentation/filesystems/overlayfs.rst.
        """
        if self._layers is None:
            raise ValueError("changes() is for a container that was made with overlay=True")
        return self._layers.changes()

    def interact(self, timeout: float | None = None) -> int:
        """Be the terminal of a command started with ``tty=True``: keys in, screen out.

        Until the command ends, whose returncode is returned, every key goes to it, Ctrl-C and
        Ctrl-Z, too; the size follows, in the main thread. The caller's terminal is given back
        as it was, in every case but SIGKILL. Raises OSError where standard input is no
        terminal, and TimeoutExpired after ``timeout`` seconds; the command runs on then. Raises
        RuntimeError while another thread is in interact or communicate.
        """
        from .interact import interact
        from .others import taking_turn

        with taking_turn(self._turn, self._process):
            return interact(self, timeout)

    def resize(self, columns: int, lines: int) -> None:
        """Change the size of the command's terminal; it gets SIGWINCH. See ``tty=True``."""
        from .._request.terminal import checked_size, our_end, set_size

        set_size(our_end(self), checked_size(columns, lines))

    def detach(self) -> int:
        """Let the container outlive this Python process, and return its pid.

        From now on it ends with nobody: not with Python, however that ends, nor when the
        Container is dropped or left as a context manager. The Container still works as long as
        Python lives. Pipes stay open until then; afterwards the command reads the end of its
        stdin, and cannot write (EPIPE): give it files, or DEVNULL. In a session of
        its own (start_new_session) it does not end with our terminal.

        Raises ChildProcessError in a fork of the process that started it.
        """
        try:
            self._process.detach()
        except ChildProcessError:
            from .others import not_ours

            raise not_ours(self._process) from None
        return self.pid

    def release(self) -> None:
        """Take away what ``persist=`` pinned: ``nsdemo.release`` for each of its files.

        What was released already is left alone. A container that ends releases nothing by itself.
        """
        from .release import release_all

        release_all(self._plan._core, self._plan._remembered.pinned_in)

    def _close_files(self) -> None:
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                with suppress(BrokenPipeError):
                    file.close()

    def __enter__(self) -> Container[AnyStr]:
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            if not (self._process.detached or self._process.inherited):
                try:
                    if exc_info[0] is KeyboardInterrupt:
                        self._process.grace()
                finally:
                    self.stop()
        finally:
            self._close_files()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        process = getattr(self, "_process", None)
        if process is None or process.inherited:
            return
        if process.detached:
            self._close_files()
            if not process.adopted and not process.wait(0) and _detached is not None:
                _detached.append(process)
            return
        if process.wait(0):
            return
        _warn(f"container {process.pid} is still running; it is killed", ResourceWarning, 2, self)
        with suppress(OSError):  # it has more power than we
            process.kill()


Container.__module__ = "nsdemo"
_doors.start = Container._start


def _reap_detached() -> None:
    for process in filter(lambda each: each.wait(0), tuple(_detached)):
        with suppress(ValueError):  # another thread may be here, too, or add one meanwhile
            _detached.remove(process)
