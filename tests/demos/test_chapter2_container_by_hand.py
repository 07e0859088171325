"""Chapter 2: something like a container, made by hand.

Namespaces give a command its own view of a resource: of the processes, the mounts, the host name.
Together with a root directory from chapter 1 they make what is called a container. The tutorial's
command is

    unshare --mount --uts --ipc --pid --fork --mount-proc --root rootfs sh

and nsdemo's is ``nsdemo.spawn(["sh"], root=rootfs)``. The demos show that both give the same, then
take the tutorial's further challenges: each namespace is shown to isolate; the flags that are no
namespaces (fork, mount-proc, root) are done without, step by step; and each is left out, to see
what it was for.
"""

from __future__ import annotations

import os
import re
import select
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from engines import (
    FILE_OF,
    SHOW_NAMESPACES,
    SLEEP,
    differing,
    identity,
    made_by_unshare,
    mounts_in,
    namespaces_in,
    namespaces_of,
    need_command,
    original,
    original_unshare,
    privileged,
    processes_in,
)

import nsdemo

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

FLAGS = ("--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc")
"""The tutorial's flags, but for ``--root rootfs``."""

ISOLATED = {"mount", "uts", "ipc", "pid"}
"""The namespaces among them."""

NONE: dict[str, Any] = {"mount": False, "uts": False, "ipc": False, "pid": False}
"""For nsdemo.run: none of them; the demos add the one that they are about."""


def with_user(names: set[str]) -> set[str]:
    """An ordinary user gets a user namespace in addition, from both commands."""
    return names if privileged() else names | {"user"}


def outcome(done: subprocess.CompletedProcess[str]) -> tuple[str, str, int]:
    """What a learner sees of a command: what it printed, its complaints and its exit status."""
    return done.stdout, done.stderr, done.returncode


@pytest.fixture
def our_name() -> Iterator[str]:
    """The name of the host, given back to it if a demo that fails has changed it."""
    ours = os.uname().nodename
    yield ours
    if os.uname().nodename != ours:
        socket.sethostname(ours)


# The chapter --------------------------------------------------------------------------------------


def test_ps_shows_a_world_of_its_own(busybox: Path) -> None:
    """Start sh in the container and type ``ps -ef``: sh has pid 1, and ps is the only other one."""
    typed = "ps -ef\n"

    done = nsdemo.run(["sh"], root=busybox, input=typed, capture_output=True, text=True)
    by_command = original_unshare(*FLAGS, f"--root={busybox}", "sh", input=typed)

    assert processes_in(done.stdout) == processes_in(by_command.stdout)
    (first, first_command), (second, second_command) = processes_in(done.stdout)
    assert (first, first_command) == (1, "sh")
    assert second > first
    assert "ps" in second_command
    assert (done.stderr, done.returncode) == ("", 0)


def test_the_same_process_has_two_pids(busybox: Path) -> None:
    """Pid 1 inside is an ordinary process outside; the kernel lists both numbers, ours first."""
    with nsdemo.spawn(SLEEP, root=busybox) as box:
        pids = numbers_of(box.pid)
        pid = box.pid
    with made_by_unshare(*FLAGS, f"--root={busybox}") as other:
        by_command = numbers_of(other)

    assert pids == [pid, 1]
    assert by_command == [other, 1]


def numbers_of(pid: int) -> list[int]:
    """NSpid in /proc/PID/status: the pid in our namespace, then in each one further inside."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = re.findall(r"^NSpid:(.*)$", status, re.MULTILINE)
    return [int(number) for number in line.split()]


def test_four_namespaces_are_new(busybox: Path) -> None:
    """Of the eight kinds, the container has four of its own, and shares the others with us."""
    with nsdemo.spawn(SLEEP, root=busybox) as box:
        seen = namespaces_of(box.pid)
        asked = nsdemo.namespaces(box)
        of_proc = {name: identity_pair(box.pid, name) for name in FILE_OF}
    with made_by_unshare(*FLAGS, f"--root={busybox}") as pid:
        by_command = namespaces_of(pid)

    assert differing(seen, namespaces_of()) == with_user(ISOLATED)
    assert differing(by_command, namespaces_of()) == with_user(ISOLATED)
    assert dict(asked) == of_proc
    assert {name for name in FILE_OF if asked[name] != nsdemo.namespaces()[name]} == with_user(
        ISOLATED
    )


def identity_pair(pid: int | str, name: str) -> tuple[int, int]:
    """A namespace has no name; the device and the inode of its file tell it from all others."""
    status = Path(f"/proc/{pid}/ns/{FILE_OF[name]}").stat()
    return status.st_dev, status.st_ino


def test_the_host_keeps_what_it_had(busybox: Path, our_name: str) -> None:
    """Namespaces, mounts, host name and working directory of the caller stay as they were."""

    def ours() -> tuple[object, ...]:
        mounts = Path("/proc/self/mountinfo").read_text()
        return namespaces_of(), mounts, os.uname().nodename, Path.cwd(), identity("/")

    before = ours()
    done = nsdemo.run(["hostname"], root=busybox, hostname="demo", capture_output=True, text=True)

    assert done.stdout == "demo\n" != f"{our_name}\n"
    assert ours() == before


# Further challenge: make sure that the others are isolated ----------------------------------------


@pytest.mark.parametrize("name", FILE_OF)
def test_one_flag_isolates_one_namespace(name: str) -> None:
    """Ask for one namespace, then compare all eight: that one is new, and no other."""
    if not Path(f"/proc/self/ns/{FILE_OF[name]}").exists():
        pytest.skip(f"this kernel has no {name} namespaces")
    ask = ["sh", "-c", SHOW_NAMESPACES]

    done = nsdemo.run(ask, **{**NONE, name: True}, capture_output=True, text=True)
    by_command = original_unshare(f"--{name}", "--fork", *ask)

    inside = namespaces_in(done.stdout)
    assert differing(inside, namespaces_of()) == with_user({name})
    assert differing(namespaces_in(by_command.stdout), namespaces_of()) == with_user({name})


def test_mount_a_mount_inside_is_not_outside(busybox: Path) -> None:
    """A tmpfs over /tmp, with a file in it: inside it is there, outside it never was."""
    script = "mount -t tmpfs none /tmp && touch /tmp/inside && cat /proc/self/mountinfo && ls /tmp"
    ours = Path("/proc/self/mountinfo").read_text()

    done = nsdemo.run(["sh", "-c", script], root=busybox, capture_output=True, text=True)
    by_command = original_unshare(*FLAGS, f"--root={busybox}", "sh", "-c", script)

    for run in (done, by_command):
        *mountinfo, listing = run.stdout.splitlines()
        assert ("/tmp", "tmpfs") in [m[1:] for m in mounts_in("\n".join(mountinfo))]
        assert listing == "inside"
    assert Path("/proc/self/mountinfo").read_text() == ours
    assert list((busybox / "tmp").iterdir()) == []


def test_uts_a_new_host_name_is_only_inside(busybox: Path, our_name: str) -> None:
    """``hostname inside``, and the host is still called what it was."""
    script = "hostname; hostname inside; hostname"

    done = nsdemo.run(["sh", "-c", script], root=busybox, capture_output=True, text=True)
    by_command = original_unshare(*FLAGS, f"--root={busybox}", "sh", "-c", script)

    assert outcome(done) == outcome(by_command) == (f"{our_name}\ninside\n", "", 0)
    assert os.uname().nodename == our_name


@pytest.fixture
def message_queue() -> Iterator[str]:
    """A System V message queue of the host: its id."""
    need_command("ipcmk")
    created = original("ipcmk", "-Q")
    (number,) = re.findall(r"\d+", created.stdout)
    yield number
    original("ipcrm", "-q", number)


def test_ipc_the_hosts_message_queues_are_not_there(message_queue: str) -> None:
    """/proc/sysvipc shows the queues of the ipc namespace that the reader is in."""
    look = ["cat", "/proc/sysvipc/msg"]

    isolated = nsdemo.run(look, **{**NONE, "ipc": True}, capture_output=True, text=True)
    shared = nsdemo.run(look, **{**NONE, "uts": True}, capture_output=True, text=True)

    assert queues_in(isolated.stdout) == []
    assert message_queue in queues_in(shared.stdout)
    assert outcome(isolated) == outcome(original_unshare("--ipc", *look))
    assert outcome(shared) == outcome(original_unshare("--uts", *look))


def queues_in(text: str) -> list[str]:
    """The ids of the message queues in /proc/sysvipc/msg."""
    return [line.split()[1] for line in text.splitlines()[1:]]


def test_pid_the_hosts_processes_cannot_be_named(busybox: Path) -> None:
    """What has no number in a namespace cannot be signalled from it: not even ``kill -0``."""
    with made_by_unshare("--uts") as pid:
        ask = ["sh", "-c", f"kill -0 {pid}"]
        isolated = nsdemo.run(ask, root=busybox, capture_output=True, text=True)
        shared = nsdemo.run(ask, root=busybox, pid=False, capture_output=True, text=True)
        by_command = original_unshare(*FLAGS, f"--root={busybox}", *ask)

    assert (isolated.returncode, shared.returncode) == (1, 0)
    assert "No such process" in isolated.stderr
    assert outcome(isolated) == outcome(by_command)


def test_net_the_hosts_sockets_are_not_there() -> None:
    """A socket listens on the host's 127.0.0.1. Another network namespace has another 127.0.0.1.

    The tutorial's command leaves the network shared; so does nsdemo.spawn unless told ``net=True``.
    """
    look = ["cat", "/proc/net/tcp", "/proc/net/dev"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        listening = f":{server.getsockname()[1]:04X} 00000000:0000 0A"
        isolated = nsdemo.run(look, **{**NONE, "net": True}, capture_output=True, text=True)
        shared = nsdemo.run(look, **{**NONE, "uts": True}, capture_output=True, text=True)
        isolated_by_command = original_unshare("--net", *look)
        shared_by_command = original_unshare("--uts", *look)

    assert listening in shared.stdout
    assert listening in shared_by_command.stdout
    assert listening not in isolated.stdout
    assert listening not in isolated_by_command.stdout
    assert interfaces_in(isolated.stdout) == interfaces_in(isolated_by_command.stdout)
    assert "lo" in interfaces_in(isolated.stdout)


def interfaces_in(text: str) -> set[str]:
    """The network interfaces in /proc/net/dev."""
    return set(re.findall(r"^ *(\S+):\s+\d+\s+\d+\s+\d+\s+\d+\s+\d+", text, re.MULTILINE))


def test_user_root_inside_is_somebody_outside() -> None:
    """In a user namespace, the id 0 is a name for the id of whoever made it."""
    ask = ["sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/gid_map"]

    done = nsdemo.run(ask, **{**NONE, "user": True}, capture_output=True, text=True)
    by_command = original("unshare", "--user", "--map-root-user", *ask)

    inside = [line.split() for line in done.stdout.splitlines()]
    assert inside == [["0"], ["0", str(os.geteuid()), "1"], ["0", str(os.getegid()), "1"]]
    assert outcome(done) == outcome(by_command)


def test_cgroup_the_path_starts_anew() -> None:
    """A cgroup namespace calls the group that its first process was in ``/``."""
    ask = ["cat", "/proc/self/cgroup"]

    done = nsdemo.run(ask, **{**NONE, "cgroup": True}, capture_output=True, text=True)
    by_command = original_unshare("--cgroup", *ask)

    assert {line.split(":", 2)[2] for line in done.stdout.splitlines()} == {"/"}
    assert outcome(done) == outcome(by_command)


# Further challenge: without --fork, --mount-proc and --root ---------------------------------------

LOOK = f"ps -ef; echo; cat /proc/self/mountinfo; echo; {SHOW_NAMESPACES}"

BY_HAND = """
sh -c '                             # a fork: the first child is pid 1 of the new namespace
    mount -t proc proc "$1/proc"    # --mount-proc, from inside that namespace
    exec chroot "$1" sh             # --root
' sh "$1"
exit $?                             # something left to do: else sh would execute, not fork
"""
"""The tutorial's challenge, as one solves it in a shell."""


def test_the_same_container_without_the_three_flags(busybox: Path, plan: nsdemo.Plan) -> None:
    """The flags are a fork, a mount and a change of root: write them as steps, get the same."""
    steps = (
        plan.unshare("mount", "uts", "ipc", "pid")
        .fork()
        .make_private("/")
        .bind(busybox, busybox)
        .mount("proc", f"{busybox}/proc", "proc")
        .pivot_root(busybox)
        .exec(["sh"])
    )
    host_mounts = Path("/proc/self/mountinfo").read_text()

    by_flags = nsdemo.run(["sh"], root=busybox, input=LOOK, capture_output=True, text=True)
    by_steps = steps.run(input=LOOK, capture_output=True, text=True)
    by_hand = original_unshare(
        "--mount", "--uts", "--ipc", "--pid", "sh", "-c", BY_HAND, "sh", str(busybox), input=LOOK
    )
    by_command = original_unshare(*FLAGS, f"--root={busybox}", "sh", input=LOOK)

    for done in (by_flags, by_steps, by_hand, by_command):
        assert (done.stderr, done.returncode) == ("", 0)
        processes, mountinfo, namespaces = done.stdout.split("\n\n")
        # The pid of ps is 2, or 3 where mount(8) was a process before it.
        assert processes_in(processes)[0] == (1, "sh")
        assert [command for _, command in processes_in(processes)] == ["sh", "{ps} sh"]
        assert ("/proc", "proc") in [mount[1:] for mount in mounts_in(mountinfo)]
        assert differing(namespaces_in(namespaces), namespaces_of()) == with_user(ISOLATED)
    # Where they differ: unshare(1) and chroot(1) leave the mounts of the host in the namespace,
    # out of sight; nsdemo's pivot_root leaves the root directory and /proc, and nothing else.
    for done in (by_flags, by_steps):
        points = [mount.point for mount in mounts_in(done.stdout.split("\n\n")[1])]
        assert points == ["/", "/proc"]
    assert Path("/proc/self/mountinfo").read_text() == host_mounts


# And without them, with nothing in their place ----------------------------------------------------


def test_without_fork_memory_cannot_be_allocated(busybox: Path) -> None:
    """unshare(CLONE_NEWPID) is for the children: sh itself stays outside, its first child is pid 1.

    When that child ends, the namespace has lost its pid 1, and the kernel starts nobody after it:
    ENOMEM, "Cannot allocate memory", with plenty of memory.
    """
    script = ["sh", "-c", "(:); (:); echo not reached"]

    done = nsdemo.run(
        script, root=busybox, fork=False, mount_proc=False, capture_output=True, text=True
    )
    by_command = original_unshare(
        "--mount", "--uts", "--ipc", "--pid", f"--root={busybox}", *script
    )
    with_fork = nsdemo.run(script, root=busybox, capture_output=True, text=True)

    assert "Cannot allocate memory" in done.stderr
    assert (done.stdout, done.returncode) == ("", by_command.returncode)
    assert outcome(done) == outcome(by_command)
    assert outcome(with_fork) == ("not reached\n", "", 0)


def test_without_fork_the_command_is_not_in_the_new_pid_namespace() -> None:
    """The same riddle seen in /proc: the command's own pid namespace is still ours."""
    ask = ["readlink", "/proc/self/ns/pid"]
    only_pid: dict[str, Any] = {**NONE, "pid": True}

    without = nsdemo.run(ask, **only_pid, fork=False, capture_output=True, text=True)
    forked = nsdemo.run(ask, **only_pid, capture_output=True, text=True)

    ours = namespaces_of()["pid"]
    assert without.stdout.strip() == original_unshare("--pid", *ask).stdout.strip() == ours
    assert forked.stdout.strip() != ours
    assert original_unshare("--pid", "--fork", *ask).stdout.strip() != ours


def test_without_mount_proc_ps_sees_nobody(busybox: Path) -> None:
    """ps reads /proc, and the root directory has only an empty place for it."""
    script = ["sh", "-c", "echo $$; ls /proc; ps -ef"]

    done = nsdemo.run(script, root=busybox, mount_proc=False, capture_output=True, text=True)
    by_command = original_unshare(*FLAGS[:-1], f"--root={busybox}", *script)

    number, *table = done.stdout.splitlines()
    assert number == "1"
    assert processes_in("\n".join(table)) == []
    assert outcome(done) == outcome(by_command)


def test_without_mount_proc_and_root_proc_is_the_hosts() -> None:
    """A pid namespace alone hides nothing: the /proc in sight still counts as the host does.

    So the shell is number 1 to itself, and somebody else is number 1 in /proc.
    """
    script = ["sh", "-c", "echo $$; cat /proc/1/comm; readlink /proc/self"]

    done = nsdemo.run(script, mount_proc=False, capture_output=True, text=True)
    by_command = original_unshare(*FLAGS[:-1], *script)

    for run in (done, by_command):
        own, first, in_proc = run.stdout.splitlines()
        assert own == "1"
        assert first == Path("/proc/1/comm").read_text().strip()
        assert int(in_proc) > 1


def test_without_root_the_files_are_the_hosts() -> None:
    """A new mount namespace is a copy of the list of mounts, not of any file."""
    which_root = ["stat", "-c", "%d:%i", "/"]

    done = nsdemo.run(which_root, capture_output=True, text=True)
    by_command = original_unshare(*FLAGS, *which_root)

    assert done.stdout.strip() == by_command.stdout.strip() == identity("/")


def test_without_root_ps_still_shows_two_processes() -> None:
    """The host's own ps, the host's files, and yet a world of two processes: /proc is new."""
    need_command("ps")
    script = ["sh", "-c", "ps -ef; :"]

    done = nsdemo.run(script, capture_output=True, text=True)
    by_command = original_unshare(*FLAGS, *script)

    assert processes_in(done.stdout) == processes_in(by_command.stdout)
    assert processes_in(done.stdout) == [(1, "sh -c ps -ef; :"), (2, "ps -ef")]


def test_without_pid_we_are_one_of_many(busybox: Path) -> None:
    """The number that the shell has to itself is the number that we have for it."""
    script = ["sh", "-c", "echo $$"]

    with nsdemo.spawn(script, root=busybox, pid=False, stdout=nsdemo.PIPE, text=True) as box:
        shown, _ = box.communicate()
        outside = box.pid
    by_command = original_unshare("--mount", "--uts", "--ipc", f"--root={busybox}", *script)

    assert int(shown) == outside != 1
    assert int(by_command.stdout) != 1


def test_without_uts_the_name_is_the_hosts(busybox: Path) -> None:
    """And nsdemo does not let a container that shares the host's name change it."""
    done = nsdemo.run(["hostname"], root=busybox, uts=False, capture_output=True, text=True)
    by_command = original_unshare(
        "--mount", "--ipc", "--pid", "--fork", "--mount-proc", f"--root={busybox}", "hostname"
    )

    assert outcome(done) == outcome(by_command) == (f"{os.uname().nodename}\n", "", 0)
    with pytest.raises(ValueError, match="uts"):
        nsdemo.run(["hostname"], root=busybox, uts=False, hostname="demo")


def test_without_mount_only_chroot_is_left(busybox: Path) -> None:
    """pivot_root and mounting /proc would change the host's mounts: nsdemo refuses both.

    What needs no mount is chapter 1: chroot. (unshare(1) has a rule of its own here: its
    ``--mount-proc`` implies ``--mount``.)
    """
    script = ["sh", "-c", "echo $$; ls /proc"]
    host_mounts = Path("/proc/self/mountinfo").read_text()

    done = nsdemo.run(
        script, root=busybox, root_method="chroot", mount=False, capture_output=True, text=True
    )
    by_command = original_unshare("--uts", "--ipc", "--pid", "--fork", f"--root={busybox}", *script)
    with pytest.raises(ValueError, match="mount"):
        nsdemo.run(script, root=busybox, mount=False)
    with pytest.raises(ValueError, match="mount"):
        nsdemo.run(script, mount=False, mount_proc=True)

    assert outcome(done) == outcome(by_command) == ("1\n", "", 0)
    assert Path("/proc/self/mountinfo").read_text() == host_mounts


def test_leaving_the_container_ends_it(busybox: Path) -> None:
    """The end of pid 1 is the end of all: whatever it started is killed with it."""
    script = "sleep 100000 & echo $!; wait"
    (busybox / "dev/null").touch()  # where sh takes the input of a background command from

    with nsdemo.spawn(["sh", "-c", script], root=busybox, stdout=nsdemo.PIPE, text=True) as box:
        assert box.stdout is not None
        inner = int(box.stdout.readline())
        children = Path(f"/proc/{box.pid}/task/{box.pid}/children").read_text().split()
        inside = [child for child in children if numbers_of(int(child))[-1] == inner]
        assert len(inside) == 1
        sleeper = os.pidfd_open(int(inside[0]))
    try:
        ended = select.select([sleeper], [], [], 10)[0]  # a pidfd is readable when its process ends
    finally:
        os.close(sleeper)

    assert ended
    assert box.returncode is not None
