"""What the docstrings of the four calls say beside their options; signatures.py joins the two."""

from __future__ import annotations

from typing import NamedTuple


class Call(NamedTuple):
    """A call.

    words     the options that need no keyword
    request   the class of ``_request/given.py`` for its arguments
    plan      the function of ``_plan/request.py`` that knows what they mean
    early     those that come first among the others
    like      its options are the same as in that call, where their words are more than a line
    briefly   it tells only those that ``like`` has not
    returns   what comes back, of which each type of str or bytes it is
    """

    name: str
    words: tuple[str, ...]
    head: str
    tail: str
    request: str
    plan: str
    returns: str = "CompletedProcess"
    early: tuple[str, ...] = ()
    like: str = "spawn"
    briefly: bool = False


CALLS = (
    Call(
        "chroot_run",
        ("root", "args"),
        """
Run a command with another directory as its ``/``, and wait for it.

What ``chroot ROOT CMD`` does. An ordinary user gets a user namespace of its own for it,
in which it is root. This is no jail: a process with root's power walks out (lesson 1);
``spawn(root=...)`` shuts that door.
""",
        r"""
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
""",
        "ChrootRequest",
        "chroot_plan",
        early=("cwd",),
    ),
    Call(
        "spawn",
        ("args",),
        """
Start a command in new namespaces, with a fresh /proc, under a root of its own.

What ``unshare --mount --uts --ipc --pid --fork --mount-proc --root ROOT CMD`` does, with
the loopback interface up, the old root let go, and an end when the caller ends.
""",
        r"""
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
""",
        "SpawnRequest",
        "spawn_plan",
        returns="Container",
        like="",
    ),
    Call(
        "run",
        ("args",),
        """
Run a command in new namespaces and wait for it: ``spawn``, then communicate.

The arguments are those of ``spawn``, and four more. After a timeout, or Ctrl-C, everything
inside ends; Ctrl-C leaves the command a quarter of a second to end by itself. At a terminal
that has run the command, the foreground and the modes are as before.
""",
        r"""
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
""",
        "SpawnRequest",
        "spawn_plan",
        briefly=True,
    ),
    Call(
        "enter",
        ("target", "args"),
        """
Run a command inside a running container, and wait for it.

What ``nsenter --target PID --uts --mount --ipc --net --pid CMD`` and ``docker exec`` do.
Every namespace of the target that is not ours already is joined, in the order that
works, and its root directory is followed (nsenter does not, and lands in the host's
files when the target used chroot). The command is the container's own program: with
real root's power it can do what real root can; ``no_new_privs=True`` with ``uid=``, or
``capabilities=``, gives it less.
""",
        r"""
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
""",
        "EnterRequest",
        "enter_plan",
    ),
)
