"""Checks of the course's challenges: the kernel is asked, not what a program printed.

    >>> from nsdemo import check
    >>> check.s1(box).passed               # alone, in a notebook: a table, a row for each fact
    True
    >>> assert check.s1(box)               # in pytest

    $ nsdemo check s1 --pid 4711           # on the command line
    $ nsdemo check s1 solution.py --json   # for a grade: in a container, bounded

s1, s3, c1, c3 and c5 look at something that runs: a Container or a pid; c9 at several of them, and
c6 at a file. s2 and c2 run what the learner wrote against containers that the check makes. Each
returns a Result: ``passed``, ``facts``, true or false by itself.

A check that runs in the learner's own interpreter is a courtesy, since that can be made to
believe anything. What counts for a grade is ``nsdemo check ID solution.py``, which calls
``grade``: there the file runs in a container, and the facts are read from outside it.

A solution file hands over by a name at its top level:

    s1, s3, c1, c3, c5   box = ...       a Container or a pid, running when the file ends
    s2                   probes = {...}  as for check.s2
    c2                   attack = ...    as for check.c2
    c6                   pin = ...       an absolute path, and holder = ... where that is needed
    c9                   pod = [...]     Containers or pids, running when the file ends
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .result import CHALLENGES, Fact, Result

if TYPE_CHECKING:
    import nsdemo

__all__ = [
    "CHALLENGES",
    "Fact",
    "Handle",
    "Probe",
    "Result",
    "c1",
    "c2",
    "c3",
    "c5",
    "c6",
    "c9",
    "grade",
    "s1",
    "s2",
    "s3",
]


class Handle(Protocol):
    """What a probe of s2 is given: a container, and how to get in.

    Attributes:
        pid: its first process, as the probe's own process sees it.
    """

    pid: int

    def enter(self, args: Sequence[str], **options: Any) -> nsdemo.CompletedProcess[Any]:
        """Run a command inside: ``nsdemo.enter``, with a timeout of five seconds by default."""


Probe = Callable[[Handle], bool]
"""Given a container, says whether a namespace of it is isolated from the caller's."""


def s1(box: nsdemo.Container[Any] | int) -> Result:
    """Is this a container by pivot_root, and not by chroot?

    Asked: its mount namespace is its own; whoever joins that namespace lands in the
    container's root; no mount is shared with another namespace; a random token of the host is
    found under no mount of it, and not by the way out that chroot(2) describes.

    Args:
        box: the running container, or the pid of a process in it.

    Returns:
        Result. A container that has ended, or a process that the caller may not look at, is a
        failed fact.

    Raises:
        TypeError, ValueError: box is neither a Container nor a possible pid.

    Example:
        >>> print(check.s1(box))
        s1: pivot_root instead of chroot: passed (6 of 6 facts)
        pass  the process is alive, and yours to look at
        ...

    Source: pivot_root(2), chroot(2), setns(2), proc_pid_mountinfo(5).
    """
    from .root import check_s1

    return check_s1(box)


def s2(probes: Mapping[str, Probe]) -> Result:
    """Do these probes tell an isolated namespace from a shared one?

    Asked of each probe: in a container with every namespace new it says True; when its own
    namespace is secretly the caller's it says False; when another one is, True. The order is
    random, and no round can be told from another but by looking at the container.

    Args:
        probes: for "mount", "uts", "ipc" and "pid", and for "net", "cgroup" and "time" if you
            like, a callable that takes a handle with ``pid`` and ``enter(args, ...)`` and
            returns True if that namespace is isolated from the caller's, else False. The
            container has the machine's own programs.

    Returns:
        Result, with one fact for each probe. A probe that raises is a failed fact.

    Raises:
        TypeError, ValueError: probes is no mapping of names to callables; a name is missing or
            is no namespace that can be probed.
        NamespaceError: this machine allows no containers.

    Example:
        >>> def uts(box):
        ...     inside = box.enter(["hostname"], capture_output=True, text=True).stdout
        ...     return inside.strip() != socket.gethostname()      # does this accuse rightly?
        >>> import socket
        >>> print(check.s2(dict.fromkeys(("mount", "uts", "ipc", "pid"), uts)))
        s2: a probe for each namespace: not yet ...

    Source: namespaces(7).
    """
    from .probes import check_s2

    return check_s2(probes)


def s3(box: nsdemo.Container[Any] | int) -> Result:
    """Is this the demo's container, made without --fork, --mount-proc and --root?

    Asked: mount, uts, ipc and pid namespaces are new; the process has one pid more than the
    caller, and the innermost is 1; /proc inside shows the processes of its pid namespace; its
    root is not the caller's; none of its mounts is among the caller's.

    Args:
        box: the running container, or the pid of its first process.

    Returns:
        Result. A container that has ended, or a process that the caller may not look at, is a
        failed fact.

    Raises:
        TypeError, ValueError: box is neither a Container nor a possible pid.

    Example:
        >>> print(check.s3(box))
        s3: without --fork, --mount-proc and --root: ...

    Source: pid_namespaces(7), proc(5), mount_namespaces(7).
    """
    from .demo import check_s3

    return check_s3(box)


def c1(box: nsdemo.Container[Any] | int) -> Result:
    """Does bash run in a root that has all it needs, and nothing else?

    Asked: the process runs a copy of this machine's bash; its root is not the caller's; every
    file that it has mapped is found, by device and inode, under that root; there is no other
    regular file in it.

    Args:
        box: bash, running under that root (waiting for input, say): a Container or its pid.

    Returns:
        Result. A process that has ended, or that the caller may not look at, is a failed fact.

    Raises:
        TypeError, ValueError: box is neither a Container nor a possible pid.

    Example:
        >>> print(check.c1(box))       # a root with more than it needs
        c1: the smallest root that runs bash: not yet (... of 5 facts)
        ...

    Source: proc_pid_maps(5), ld.so(8).
    """
    from .mapped import check_c1

    return check_c1(box)


def c2(attack: str | Sequence[str]) -> Result:
    """Does this attack get out of a chroot, and not out of a pivot_root?

    The check makes two jails of the same directory, one by chroot and one by pivot_root, in
    namespaces of their own, and runs the attack as root in each. Outside each jail, at an
    absolute path, lies a file with a random token. The attack proves that it got out by
    writing that token to its standard output.

    Asked: the token of the chroot jail was written; that of the pivot_root jail was not.

    Args:
        attack: a Python program as text, or a command as a list. Either is given the path of
            the token as its last argument: ``sys.argv[1]`` in Python, ``$1`` for
            ``["sh", "-c", "...", "sh"]``. The jail has the machine's programs in /usr and a
            writable /tmp, and no network; after 10 seconds the attack is ended.

    Returns:
        Result; in ``seen``, the end of what a failed attack said.

    Raises:
        TypeError, ValueError: attack is neither text nor a list of words, or is empty.
        NamespaceError: this machine allows no containers.

    Example:
        >>> check.c2("import sys; print(open(sys.argv[1]).read())").passed
        False

    Source: chroot(2), pivot_root(2).
    """
    from .jail import check_c2

    return check_c2(attack)


def c3(box: nsdemo.Container[Any] | int) -> Result:
    """Is this a process that can have no more children, for its PID 1 is gone?

    Asked: the process is alive; the pid namespace for its children is not its own; a process
    was born in that namespace and is gone; and an attempt of the check itself to start one
    there fails with ENOMEM, while elsewhere it does not.

    Args:
        box: a process that is alive and whose next fork fails: a Container or a pid.

    Returns:
        Result. A process that has ended, or that the caller may not look at, is a failed fact.

    Raises:
        TypeError, ValueError: box is neither a Container nor a possible pid.

    Example:
        >>> print(check.c3(box))
        c3: the ENOMEM riddle: not yet (1 of 2 facts)
        ...

    Source: pid_namespaces(7), "The namespace init process"; setns(2).
    """
    from .riddle import check_c3

    return check_c3(box)


def c5(box: nsdemo.Container[Any] | int) -> Result:
    """Is this a container whose root is nobody's root outside?

    Asked: its user namespace is its own; it is 0:0 inside; no line of its id maps gives away
    the machine's id 0 (but where the caller has no other: root of a namespace with one id);
    setgroups(2) is denied in there; and a file that the check has 0:0 make in there belongs,
    out here, to the ids in the maps.

    Args:
        box: the running container, or the pid of a process in it.

    Returns:
        Result. A container that has ended, or a process that the caller may not look at, is a
        failed fact.

    Raises:
        TypeError, ValueError: box is neither a Container nor a possible pid.

    Example:
        >>> with nsdemo.spawn(["sleep", "60"], user=True) as rootless:
        ...     print(check.c5(rootless))      # as an ordinary user: passed
        c5: rootless: ...

    Source: user_namespaces(7).
    """
    from .rootless import check_c5

    return check_c5(box)


def c6(pin: str | os.PathLike[str], holder: nsdemo.Container[Any] | int | None = None) -> Result:
    """Is this a uts namespace that lives on without a process?

    Asked: at the path, which is no link, a mount keeps a namespace; it is a uts namespace and
    not the caller's; no process is in it; and a random host name that a process of the check
    leaves in it is read by the next one that goes in.

    Args:
        pin: the absolute path of the file.
        holder: whose mount namespace and root the path is to be found in: a Container or a pid.
            None: the caller's.

    Returns:
        Result. A holder that has ended, or that the caller may not look at, is a failed fact.

    Raises:
        TypeError, ValueError: pin is no absolute path; holder is neither a Container nor a
            possible pid.

    Example:
        >>> blue = os.path.abspath("blue")
        >>> nsdemo.run(["true"], uts=True, persist={"uts": blue}).returncode
        0
        >>> print(check.c6(blue))
        c6: ...: passed (5 of 5 facts)
        ...
        >>> nsdemo.release(blue)

    Source: namespaces(7), "Namespace lifetime"; setns(2).
    """
    from .outliving import check_c6

    return check_c6(pin, holder)


def c9(pod: Sequence[nsdemo.Container[Any] | int]) -> Result:
    """Are these containers a pod: one network, one ipc, one host name, and the rest apart?

    Asked: all are alive, and different processes; net, ipc and uts namespace are one for all
    of them, and not the caller's; mount, pid, cgroup and time namespace are each one's own; and
    a random host name that the check sets in the first is read in the others (it is set back).
    The user namespace is not asked for: who is no root needs one for all.

    Args:
        pod: two to ten running containers, each a Container or the pid of a process in it.

    Returns:
        Result. A container that has ended, or a process that the caller may not look at, is a
        failed fact.

    Raises:
        TypeError, ValueError: pod is no list of two to ten; one of them is neither a Container
            nor a possible pid.

    Example:
        >>> with nsdemo.spawn(["sleep", "60"], root=rootfs, uts=box, ipc=box, net=box) as log:
        ...     print(check.c9([box, log]))
        c9: ...

    Source: namespaces(7), uts_namespaces(7).
    """
    from .pod import check_c9

    return check_c9(pod)


def grade(challenge: str, file: str | os.PathLike[str], timeout: float = 20) -> Result:
    """Check a solution file: it runs in a container, and what is read from outside counts.

    The file runs in a fresh ``python -I`` that is root of a user namespace and has no network,
    a root of its own with the machine's /usr (read only) and an empty /tmp, bounds on memory,
    processes and time. For s1 and s3 ``nsdemo.spawn``, ``run``, ``chroot_run`` and ``enter``
    refuse: these are solved from Plan steps. How it hands over is in the module's own text.

    Args:
        challenge: one of CHALLENGES.
        file: the solution, a Python file of at most 1 MB.
        timeout: seconds that the solution may take; the check's own work is less than two.

    Returns:
        Result; a solution that raises, never ends or hands over nothing has failed a fact.

    Raises:
        ValueError: there is no such challenge, or the file is too large.
        OSError: the file cannot be read.
        NamespaceError: this machine allows no containers.

    Example:
        >>> with open("solution.py", "w") as file:
        ...     print("box = nsdemo.spawn(['sleep', '60'])", file=file)
        >>> check.grade("s1", "solution.py").as_dict()["passed"]
        False
    """
    from .grading import grade_file

    return grade_file(challenge, file, timeout)
