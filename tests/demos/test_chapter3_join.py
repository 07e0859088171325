"""Chapter 3: join a container that is running already.

To join a container is to join the namespaces of one of its processes. The tutorial's command is

    nsenter --target $PID --uts --mount --ipc --net --pid /bin/sh

and nsdemo's is ``nsdemo.enter(pid, ["/bin/sh"])``. The containers here were not made by nsdemo: one
is by unshare(1), one by a real Docker Engine, one by Podman. For nsenter(1), for ``docker exec``
and for nsdemo they are the same thing: a process, and eight files in its /proc/PID/ns.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from engines import (
    FILE_OF,
    SHOW_NAMESPACES,
    SLEEP,
    EngineContainer,
    differing,
    identity,
    made_by_unshare,
    mounts_in,
    namespaces_in,
    namespaces_of,
    original_nsenter,
    privileged,
    processes_in,
)

import nsdemo

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

JOIN = ("--uts", "--mount", "--ipc", "--net", "--pid")
"""The tutorial's flags for nsenter(1)."""

MADE_WITH = ("--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--mount-proc")
"""Our flags for a container by unshare(1): those of chapter 2, and a network of its own."""

NONE: dict[str, Any] = {"mount": False, "uts": False, "ipc": False, "pid": False}
"""For nsdemo.run: no new namespace; the demos add the one to join."""


@pytest.fixture(params=["unshare", "docker", "podman"])
def pid(request: pytest.FixtureRequest) -> Iterator[int]:
    """``PID=$(docker inspect --format {{.State.Pid}} sample-container)``, of each container."""
    if request.param == "unshare":
        with made_by_unshare(*MADE_WITH) as made:
            yield made
    else:
        container: EngineContainer = request.getfixturevalue(f"{request.param}_container")
        yield container.pid


@pytest.fixture(params=["docker", "podman"])
def container(request: pytest.FixtureRequest) -> EngineContainer:
    """A container of an engine, which has an ``exec`` of its own to compare with."""
    found: EngineContainer = request.getfixturevalue(f"{request.param}_container")
    return found


def outcome(done: subprocess.CompletedProcess[str]) -> tuple[str, str, int]:
    """What a learner sees of a command: what it printed, its complaints and its exit status."""
    return done.stdout, done.stderr, done.returncode


# The chapter --------------------------------------------------------------------------------------


def test_ps_shows_the_process_of_the_container(container: EngineContainer) -> None:
    """Join, type ``ps -ef``: there is the sleep that ``docker run`` started, as pid 1.

    Beside it are only the shell and ps; whoever brought the shell in has stayed outside.
    """
    typed = "ps -ef\n"

    done = nsdemo.enter(container.pid, ["/bin/sh"], input=typed, capture_output=True, text=True)
    by_command = original_nsenter(container.pid, *JOIN, "/bin/sh", input=typed)
    by_engine = container.exec("ps", "-ef")

    sleep = (1, " ".join(SLEEP))
    assert processes_in(done.stdout)[0] == sleep
    assert processes_in(by_engine)[0] == sleep
    assert [command for _, command in processes_in(done.stdout)] == [
        command for _, command in processes_in(by_command.stdout)
    ]
    assert len(processes_in(done.stdout)) == 3
    assert (done.stderr, done.returncode) == ("", 0)


def test_inside_is_what_nsenter_shows(pid: int) -> None:
    """The host name, pid 1, the root directory, the mounts, the network: all of it, compared."""
    script = f"""
        uname -n
        tr '\\0' ' ' < /proc/1/cmdline; echo
        stat -c %d:%i /
        cat /proc/self/mountinfo /proc/net/dev
        {SHOW_NAMESPACES}
    """
    done = nsdemo.enter(pid, ["sh", "-c", script], capture_output=True, text=True)
    by_command = original_nsenter(pid, *JOIN, "sh", "-c", script)

    _, first, root, *_ = done.stdout.splitlines()
    assert first.split() == list(SLEEP)
    assert root == identity(f"/proc/{pid}/root/")
    assert outcome(done) == outcome(by_command)


def test_the_namespaces_are_those_of_the_process(pid: int) -> None:
    """From inside and from outside, by three ways of asking, the eight are the target's."""
    ask = ["sh", "-c", SHOW_NAMESPACES]

    done = nsdemo.enter(pid, ask, capture_output=True, text=True)
    by_command = original_nsenter(pid, *JOIN, *ask)
    asked = nsdemo.namespaces(pid)

    assert namespaces_in(done.stdout) == namespaces_of(pid)
    assert namespaces_in(by_command.stdout) == namespaces_of(pid)
    for name, file in FILE_OF.items():
        status = Path(f"/proc/{pid}/ns/{file}").stat()
        assert asked[name] == (status.st_dev, status.st_ino)
    isolated = {"mount", "uts", "ipc", "net", "pid"} | (set() if privileged() else {"user"})
    assert differing(namespaces_of(pid), namespaces_of()) == isolated


def test_enter_is_like_docker_exec(container: EngineContainer) -> None:
    """The engine's own way in shows the same namespaces, mounts and files."""
    ask = ["sh", "-c", f"uname -n; echo /* /etc/*; cat /proc/self/mountinfo; {SHOW_NAMESPACES}"]

    done = nsdemo.enter(container.pid, ask, capture_output=True, text=True)

    assert done.stdout.strip() == container.exec(*ask)
    assert done.stdout.splitlines()[0] != os.uname().nodename


def test_the_caller_stays_outside(pid: int) -> None:
    """setns(2) moves the process that calls it; nsdemo lets another process call it."""
    before = namespaces_of(), identity("/"), Path.cwd(), os.uname().nodename

    nsdemo.enter(pid, ["sh", "-c", "cd /; exit 0"], check=True)

    assert (namespaces_of(), identity("/"), Path.cwd(), os.uname().nodename) == before


def test_the_commands_own_status_comes_back(pid: int) -> None:
    """An exit status, or a negative number for the signal that ended the command."""
    for script, status in (("exit 7", 7), ("kill -KILL $$", -9)):
        done = nsdemo.enter(pid, ["sh", "-c", script])
        by_command = original_nsenter(pid, *JOIN, "sh", "-c", script)

        assert done.returncode == status
        assert by_command.returncode == status


def test_a_handle_on_a_command_inside(pid: int) -> None:
    """``spawn(join=...)`` is enter without the waiting: a Container to talk to."""
    with nsdemo.spawn(["sh"], join=pid, stdin=nsdemo.PIPE, stdout=nsdemo.PIPE, text=True) as shell:
        seen = namespaces_of(shell.pid)
        printed, _ = shell.communicate("uname -n\n")

    assert seen == namespaces_of(pid)
    assert printed == original_nsenter(pid, *JOIN, "uname", "-n").stdout
    assert shell.returncode == 0


def test_the_same_from_steps(pid: int) -> None:
    """Join, fork, execute. The fork is for the pid namespace, which only takes in children.

    An ordinary user joins the user namespace of the target as well: it is what gives him the right
    to join the others.
    """
    names = ["uts", "mount", "ipc", "net", "pid"] + ([] if privileged() else ["user"])
    ask = ["sh", "-c", f"cat /proc/1/comm; {SHOW_NAMESPACES}"]

    by_steps = nsdemo.Plan().join(pid, *names).fork().exec(ask).run(capture_output=True, text=True)
    by_command = original_nsenter(pid, *JOIN, *ask)

    assert by_steps.stdout.splitlines()[0] == "sleep"
    assert outcome(by_steps) == outcome(by_command)


# Further challenge: make sure that the others are isolated ----------------------------------------


@pytest.mark.parametrize("name", ["mount", "uts", "ipc", "net"])
def test_leave_one_out(pid: int, name: str) -> None:
    """Join all but one: that one is ours still, and the others are the target's."""
    ask = ["sh", "-c", SHOW_NAMESPACES]
    # Without its mounts there is no way to its root directory, either.
    left_out: dict[str, Any] = {name: False, **({"root": False} if name == "mount" else {})}

    done = nsdemo.enter(pid, ask, **left_out, capture_output=True, text=True)
    by_command = original_nsenter(pid, *(flag for flag in JOIN if flag != f"--{name}"), *ask)

    assert differing(namespaces_in(done.stdout), namespaces_of(pid)) == {name}
    assert namespaces_in(done.stdout)[name] == namespaces_of()[name]
    assert namespaces_in(done.stdout) == namespaces_in(by_command.stdout)


def test_leave_the_pid_namespace_out(pid: int) -> None:
    """Join all but the pid namespace, and nobody inside has heard of the newcomer.

    The /proc in sight counts as the container does, and the newcomer has no number there: its
    /proc/self is a link to nowhere. Only from outside one can tell where it is.
    """
    ask = ["sh", "-c", "cat /proc/1/comm; readlink /proc/self; echo $?"]

    done = nsdemo.enter(pid, ask, pid=False, capture_output=True, text=True)
    by_command = original_nsenter(pid, *(flag for flag in JOIN if flag != "--pid"), *ask)
    with nsdemo.spawn(["cat"], join=pid, pid=False, stdin=nsdemo.PIPE) as newcomer:
        seen = namespaces_of(newcomer.pid)

    assert done.stdout == "sleep\n1\n"
    assert outcome(done) == outcome(by_command)
    assert differing(seen, namespaces_of(pid)) == {"pid"}


@pytest.mark.parametrize("form", ["pid", "path", "file"])
@pytest.mark.parametrize("name", ["uts", "ipc", "net"])
def test_join_one_only(pid: int, name: str, form: str) -> None:
    """One namespace of the container, and all else ours: a pid names it, or its file in /proc.

    With the container's network and the host's programs, that is how one looks into a container
    that has no tools of its own.
    """
    ask = ["sh", "-c", SHOW_NAMESPACES]
    joined = {name} if privileged() else {name, "user"}
    options = dict(NONE)
    with contextlib.ExitStack() as opened:
        for joining in joined:
            path = Path(f"/proc/{pid}/ns/{FILE_OF[joining]}")
            if form == "pid":
                options[joining] = pid
            elif form == "path":
                options[joining] = path
            else:
                options[joining] = opened.enter_context(path.open("rb"))
        done = nsdemo.run(ask, **options, capture_output=True, text=True)
    by_command = original_nsenter(pid, f"--{name}", *ask)

    inside = namespaces_in(done.stdout)
    assert differing(inside, namespaces_of()) == joined
    assert inside[name] == namespaces_of(pid)[name]
    assert inside == namespaces_in(by_command.stdout)


# Known traps --------------------------------------------------------------------------------------


def test_trap_nsenter_lands_in_the_hosts_files(busybox: Path) -> None:
    """Chapters 2 and 3 of the tutorial do not fit together, and this is why.

    ``unshare --root`` is a chroot: it changes the root of the process, while the mount namespace
    keeps the root it was copied with, the host's. Who joins the namespaces only is in that one,
    with the container's pid namespace and the host's /proc. ``nsdemo.enter`` follows the root of
    the process too, as nsenter(1) does when asked for ``--root``.
    """
    (busybox / "inside.txt").write_text("inside\n")
    script = ["sh", "-c", "stat -c %d:%i /; cat /proc/1/comm; cat /inside.txt"]

    with made_by_unshare(*MADE_WITH, f"--root={busybox}") as pid:
        trapped = original_nsenter(pid, *JOIN, *script)
        followed = original_nsenter(pid, *JOIN, "--root", "--wd", *script)
        done = nsdemo.enter(pid, script, capture_output=True, text=True)
        unfollowed = nsdemo.enter(pid, script, root=False, capture_output=True, text=True)

    first_of_host = Path("/proc/1/comm").read_text().strip()
    assert trapped.stdout.splitlines() == [identity("/"), first_of_host]
    assert "/inside.txt" in trapped.stderr
    assert unfollowed.stdout == trapped.stdout
    assert done.stdout.splitlines() == [identity(busybox), "sleep", "inside"]
    assert outcome(done) == outcome(followed)


def test_chapters_2_and_3_fit_together_with_pivot_root(busybox: Path) -> None:
    """nsdemo's container has its root directory as the root of its mount namespace.

    So the tutorial's nsenter finds the right files without knowing about a root, and all four ways
    in lead to the same place.
    """
    (busybox / "inside.txt").write_text("inside\n")
    script = ["sh", "-c", "stat -c %d:%i /; cat /proc/1/comm; cat /inside.txt"]
    flags = [flag for flag in JOIN if flag != "--net"]  # chapter 2 left the network shared

    with nsdemo.spawn(SLEEP, root=busybox) as box:
        by_command = original_nsenter(box.pid, *flags, *script)
        by_pid = nsdemo.enter(box.pid, script, capture_output=True, text=True)
        by_box = nsdemo.enter(box, script, capture_output=True, text=True)
        by_method = box.enter(script, capture_output=True, text=True)

    assert by_command.stdout.splitlines() == [identity(busybox), "sleep", "inside"]
    for done in (by_pid, by_box, by_method):
        assert outcome(done) == outcome(by_command)


def test_trap_nsenter_takes_your_environment_along(
    pid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Your variables, with the passwords in them, are no namespace: nsenter(1) carries them in."""
    monkeypatch.setenv("DEMO_PASSWORD", "swordfish")
    ask = ["sh", "-c", 'echo "${DEMO_PASSWORD-unset} ${PATH:+set}"']

    done = nsdemo.enter(pid, ask, capture_output=True, text=True)
    by_command = original_nsenter(pid, *JOIN, *ask)

    assert by_command.stdout == "swordfish set\n"
    assert done.stdout == "unset set\n"


def test_trap_docker_exec_passes_no_environment_either(
    container: EngineContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engines leave it outside as nsdemo does."""
    monkeypatch.setenv("DEMO_PASSWORD", "swordfish")
    ask = ["sh", "-c", 'echo "${DEMO_PASSWORD-unset}"']

    done = nsdemo.enter(container.pid, ask, capture_output=True, text=True)

    assert container.exec(*ask) == done.stdout.strip() == "unset"


def test_trap_the_container_may_have_ended() -> None:
    """A pid is a number that somebody wrote down; its process may be gone by now."""
    with made_by_unshare(*MADE_WITH) as pid:
        nsdemo.enter(pid, ["true"], check=True)

    by_command = original_nsenter(pid, *JOIN, "true")
    with pytest.raises(ProcessLookupError):
        nsdemo.enter(pid, ["true"])

    assert by_command.returncode == 1
    assert "No such file or directory" in by_command.stderr


def test_joining_mounts_nothing(pid: int) -> None:
    """A joined mount namespace is somebody else's: it has the same mounts before and after."""
    before = Path(f"/proc/{pid}/mountinfo").read_text()

    nsdemo.enter(pid, ["sh", "-c", "exit 0"], check=True)
    with nsdemo.spawn(["sh", "-c", "exit 0"], join=pid) as shell:
        shell.wait()

    assert Path(f"/proc/{pid}/mountinfo").read_text() == before
    assert "/proc" in [mount.point for mount in mounts_in(before)]
