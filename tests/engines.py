"""Containers that nsdemo did not make, and the tutorial's own commands, for the demos to compare.

Three engines: unshare(1), a real Docker Engine and Podman. Each engine is started in a temporary
directory of its own, talks through a unix socket or through nothing, gives its containers no
network, and is ended by its process id; its mounts, control groups and files then go too, also
when a test has failed. The image is this machine's static busybox, so nothing is downloaded.

This module does not import nsdemo: what is started here is what nsdemo is measured against.

The fixtures, for a conftest to import: ``docker_engine`` and ``podman_engine`` (one per test run),
``docker_container`` and ``podman_container`` (one container of each, only to be looked at).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import os
import select
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where the tutorial's commands are, sbin included: an ordinary user's PATH often lacks it."""

DEADLINE = 30.0
"""Seconds to wait for something that takes milliseconds on an idle machine."""

FILE_OF = {
    "mount": "mnt",
    "uts": "uts",
    "ipc": "ipc",
    "pid": "pid",
    "net": "net",
    "user": "user",
    "cgroup": "cgroup",
    "time": "time",
}
"""Each namespace as unshare(1) and nsdemo call it, and the name of its file in /proc/PID/ns."""

SLEEP = ("sleep", "100000")
"""What a container runs that is only there to be joined."""


# Who we are ---------------------------------------------------------------------------------------

_CAP_SYS_CHROOT = 18
_CAP_SYS_ADMIN = 21


def _has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    raise AssertionError("no CapEff in /proc/self/status")


@functools.cache
def privileged() -> bool:
    """Whether we may make namespaces as we are; if not, a new user namespace has to come first."""
    return _has_capability(_CAP_SYS_ADMIN)


@functools.cache
def _user_namespaces_refused() -> str:
    """Why this machine gives an ordinary user no namespaces, or "" if it does."""
    attempt = original("unshare", "--map-root-user", "--mount", "true")
    return attempt.stderr.strip() if attempt.returncode else ""


def need_namespaces() -> None:
    """Skip the test where the machine lets us make no namespaces at all."""
    need_command("unshare")
    if not privileged() and (reason := _user_namespaces_refused()):
        pytest.skip(f"this machine gives ordinary users no user namespace: {reason}")


def need_command(name: str) -> str:
    """Return the path of a command; skip the test where it is not installed."""
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


# The tutorial's commands --------------------------------------------------------------------------


def original(*command: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of the tutorial as a learner would type it."""
    return subprocess.run(
        command,
        input="" if input is None else input,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env=_environment(),
    )


def original_chroot(
    root: Path, *command: str, input: str | None = None
) -> subprocess.CompletedProcess[str]:
    """``chroot ROOT COMMAND``; an ordinary user is first made root of a new user namespace."""
    before = () if _has_capability(_CAP_SYS_CHROOT) else ("unshare", "--map-root-user")
    return original(*before, "chroot", str(root), *command, input=input)


def original_unshare(*arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
    """``unshare FLAGS COMMAND``; with ``--map-root-user`` in front for an ordinary user."""
    return original(*_unshare(*arguments), input=input)


def original_nsenter(
    target: int, *arguments: str, input: str | None = None
) -> subprocess.CompletedProcess[str]:
    """``nsenter --target PID FLAGS COMMAND``; an ordinary user joins the user namespace as well."""
    user = () if privileged() else ("--user", "--preserve-credentials")
    return original("nsenter", "--target", str(target), *user, *arguments, input=input)


def _unshare(*arguments: str) -> list[str]:
    return ["unshare", *(() if privileged() else ("--map-root-user",)), *arguments]


def _environment() -> dict[str, str]:
    """Ours, with the plain texts of the commands, and without a word about other engines."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "CONTAINER"))}
    return {**ours, "PATH": PATH, "LC_ALL": "C"}


# What the kernel says -----------------------------------------------------------------------------

SHOW_NAMESPACES = (
    "for name in mnt uts ipc pid net user cgroup time;"
    ' do echo "$name $(readlink /proc/self/ns/$name)"; done'
)
"""For a shell inside: print the eight namespaces it is in. ``namespaces_in`` reads the answer."""


def namespaces_in(text: str) -> dict[str, str]:
    """Read what SHOW_NAMESPACES printed: {"mount": "mnt:[4026531832]", ...}."""
    found = dict(line.split(" ", 1) for line in text.splitlines())
    return {name: found[file] for name, file in FILE_OF.items()}


def namespaces_of(pid: int | str = "self") -> dict[str, str]:
    """The namespaces of a process, in the same words, read from outside."""
    return {name: str(Path(f"/proc/{pid}/ns/{file}").readlink()) for name, file in FILE_OF.items()}


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> set[str]:
    """The names of the namespaces that two processes do not share."""
    return {name for name in FILE_OF if one[name] != other[name]}


class Mount(NamedTuple):
    """A line of mountinfo: which part of a filesystem (its root) is mounted where."""

    root: str
    point: str
    type: str


def mounts_in(text: str) -> list[Mount]:
    """Read a mountinfo, in the order in which the kernel lists it."""
    mounts = []
    for line in text.splitlines():
        before, after = line.split(" - ", 1)
        fields = before.split()
        mounts.append(Mount(fields[3], fields[4], after.split()[0]))
    return mounts


def processes_in(text: str) -> list[tuple[int, str]]:
    """Read what ``ps`` printed, busybox's or procps': [(pid, command), ...]."""
    header, *lines = text.splitlines()
    columns = header.split()
    pid = columns.index("PID")
    rows = [line.split(None, len(columns) - 1) for line in lines]
    return [(int(row[pid]), row[-1]) for row in rows]


def identity(path: str | os.PathLike[str]) -> str:
    """Which file this is, as ``stat -c %d:%i`` prints it: equal only for the same file."""
    status = Path(path).stat()
    return f"{status.st_dev}:{status.st_ino}"


def command_of(pid: int) -> tuple[str, ...]:
    """The command line of a process, () if it is gone."""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ()
    return tuple(text.split("\0")[:-1])


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return as soon as the condition holds; fail the test if it does not within DEADLINE."""
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {DEADLINE:g} s for this: {what}")
        time.sleep(0.005)


# A container by unshare(1) ------------------------------------------------------------------------


@contextlib.contextmanager
def made_by_unshare(*flags: str, command: tuple[str, ...] = SLEEP) -> Iterator[int]:
    """Start ``unshare FLAGS sleep`` and give the pid of sleep, as the host counts; end it after.

    With ``--fork`` that is a child of unshare(1), without it the very process that was unshare(1).
    It is sleep already, so whatever unshare(1) prepares is finished; and so is what the command
    does, if it is another one that executes SLEEP at its end.
    """
    forks = "--fork" in flags
    process = subprocess.Popen(
        _unshare(*(("--kill-child",) if forks else ()), *flags, *command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    )

    def candidates() -> list[int]:
        if not forks:
            return [process.pid]
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return []
        return [int(child) for child in children.split()]

    def running() -> list[int]:
        if process.poll() is not None:
            pytest.fail(f"unshare ended: {process.stderr.read() if process.stderr else ''}")
        return [pid for pid in candidates() if command_of(pid) == SLEEP]

    try:
        wait_until(lambda: bool(running()), f"unshare to execute {' '.join(SLEEP)}")
        (pid,) = running()
        pidfd = os.pidfd_open(pid)
        try:
            yield pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
            process.wait(DEADLINE)  # unshare(1) reaps its child and ends
    finally:
        process.kill()
        process.communicate()


# Engines ------------------------------------------------------------------------------------------

IMAGE = "nsdemo-busybox"


@dataclasses.dataclass(frozen=True)
class Engine:
    """A running container engine: call it as its own client, ``engine("inspect", ...)``."""

    name: str
    client: tuple[str, ...]
    """The client and the options that lead it to this engine and to no other."""
    run_options: tuple[str, ...]
    """What `run` needs to work without a network and without CAP_SYS_RESOURCE."""
    directory: Path
    """All that the engine writes is below it."""

    def __call__(self, *arguments: str) -> str:
        """Run a client command and return what it printed; fail the test if it fails."""
        done = self.attempt(*arguments)
        if done.returncode:
            pytest.fail(f"{self.name} {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def attempt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return original(*self.client, *arguments)

    @contextlib.contextmanager
    def container(self, *command: str, name: str = "sample-container") -> Iterator[EngineContainer]:
        """``run -d --rm --name NAME``, as in chapter 3; the container is removed at the end."""
        self("run", "-d", "--rm", "--name", name, *self.run_options, IMAGE, *command)
        try:
            pid = int(self("inspect", "--format", "{{.State.Pid}}", name))
            wait_until(lambda: command_of(pid) == command, f"{self.name} to start {command}")
            yield EngineContainer(self, name, pid)
        finally:
            self.attempt("rm", "--force", name)


@dataclasses.dataclass(frozen=True)
class EngineContainer:
    """A container that an engine runs, and the pid of its process 1 as the host counts."""

    engine: Engine
    name: str
    pid: int

    def exec(self, *command: str) -> str:
        """``docker exec``: what the engine itself shows to a command that joins."""
        return self.engine("exec", self.name, *command)


@contextlib.contextmanager
def docker() -> Iterator[Engine]:
    """Start a Docker Engine (dockerd, with its own containerd) and end it."""
    _need_root("Docker Engine")
    server = need_command("dockerd")
    client = shutil.which("docker", path=f"/usr/bin:{PATH}")
    if client is None:
        pytest.skip("dockerd is installed, its client docker is not")
    # Short: the path of a unix socket has at most 107 characters.
    with _engine_directory("docker", "/run/docker/plugins", "/run/containerd/s") as directory:
        socket = f"unix://{directory}/docker.sock"
        engine = Engine(
            "docker",
            (client, "--config", f"{directory}/config", "--host", socket),
            ("--network", "none"),
            directory,
        )
        settings = directory / "daemon.json"  # instead of those in /etc/docker
        settings.write_text("{}")
        log = directory / "dockerd.log"
        with log.open("w") as output:
            server_process = subprocess.Popen(
                [
                    server,
                    *("--host", socket),
                    *("--data-root", f"{directory}/data"),
                    *("--exec-root", f"{directory}/exec"),
                    *("--pidfile", f"{directory}/dockerd.pid"),
                    *("--config-file", str(settings)),
                    *("--iptables=false", "--ip6tables=false", "--bridge=none"),
                    *("--exec-opt", "native.cgroupdriver=cgroupfs"),
                    *("--cgroup-parent", f"/{directory.name}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for pytest, which then ends the engine
                env=_environment(),
            )
        try:
            wait_until(
                lambda: (
                    server_process.poll() is not None or engine.attempt("version").returncode == 0
                ),
                "dockerd to answer",
            )
            if server_process.poll() is not None:
                pytest.skip(f"dockerd does not run on this machine: {_last_line(log)}")
            _import_image(engine)
            yield engine
        finally:
            if server_process.poll() is None:
                _remove_containers(engine)
            server_process.terminate()
            try:
                server_process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                server_process.kill()
                server_process.wait()


@contextlib.contextmanager
def podman() -> Iterator[Engine]:
    """Prepare a Podman with storage of its own (it has no server) and remove all it made."""
    _need_root("this Podman set-up")
    client = need_command("podman")
    runtime = shutil.which("runc", path=PATH)
    left_behind = ("/run/runc", "/run/containers/networks", "/var/lib/containers/cache")
    with _engine_directory("podman", *left_behind) as directory:
        engine = Engine(
            "podman",
            (
                client,
                *("--root", f"{directory}/root"),
                *("--runroot", f"{directory}/runroot"),
                *("--tmpdir", f"{directory}/tmp"),
                *("--network-config-dir", f"{directory}/network"),
                *("--cgroup-manager", "cgroupfs"),
                *("--events-backend", "file"),
                # crun wants more privileges than every machine gives.
                *(("--runtime", runtime) if runtime else ()),
            ),
            (
                *("--network", "none"),
                *("--cgroup-parent", f"/{directory.name}"),
                *("--cgroups", "no-conmon"),  # its monitor stays with us, and keeps no group busy
                # Podman raises these limits by default, which takes CAP_SYS_RESOURCE.
                *("--ulimit", "nofile=1000:1000"),
                *("--ulimit", "nproc=1000:1000"),
                *("--stop-timeout", "0"),  # sleep as process 1 does not notice SIGTERM
            ),
            directory,
        )
        answer = engine.attempt("info")
        if answer.returncode:
            pytest.skip(f"podman does not run on this machine: {answer.stderr.strip()}")
        try:
            _import_image(engine)
            yield engine
        finally:
            _remove_containers(engine)


def _need_root(what: str) -> None:
    if os.geteuid() != 0 or not privileged():
        pytest.skip(f"only root starts {what}")


def _import_image(engine: Engine) -> None:
    """``docker import``: an image from an archive of a root directory."""
    archive = engine.directory / "busybox.tar"
    _write_busybox(archive)
    engine("import", str(archive), IMAGE)


def _write_busybox(archive: Path) -> None:
    """Pack the static busybox of this machine, with a link for every applet, as a root."""
    program = need_command("busybox")
    if "/" in original("ldd", program).stdout:  # it names a loader and libraries
        pytest.skip("busybox is not static here (on Debian: apt-get install busybox-static)")
    applets = original(program, "--list").stdout.split()
    with tarfile.open(archive, "w") as tar:
        for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(directory)
        tar.add(os.path.realpath(program), "bin/busybox")
        for applet in applets:
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        passwd = b"root:x:0:0:root:/root:/bin/sh\n"
        file = tarfile.TarInfo("etc/passwd")
        file.size, file.mode = len(passwd), 0o644
        tar.addfile(file, io.BytesIO(passwd))


def _remove_containers(engine: Engine) -> None:
    names = engine.attempt("ps", "--all", "--quiet").stdout.split()
    if names:
        engine.attempt("rm", "--force", *names)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1] if lines else "it wrote no log"


@contextlib.contextmanager
def _engine_directory(name: str, *left_behind: str) -> Iterator[Path]:
    """A directory for an engine; afterwards nothing of the engine is left, here or elsewhere.

    ``left_behind`` are directories that the engine makes outside, whatever its options: those that
    were not there before are removed if nobody else has put anything into them.
    """
    absent = [
        directory
        for place in left_behind
        for directory in (Path(place), *Path(place).parents)
        if not directory.exists()
    ]
    directory = Path(tempfile.mkdtemp(prefix=f"nsdemo-{name}-", dir="/tmp"))
    try:
        yield directory
    finally:
        _kill_what_is_left(directory)
        _unmount_below(directory)
        _remove_control_groups(directory.name)
        shutil.rmtree(directory)
        for made in absent:
            with contextlib.suppress(OSError):
                (made / "blob-info-cache-v1.boltdb").unlink(missing_ok=True)
                made.rmdir()


def _kill_what_is_left(directory: Path) -> None:
    """Kill, by pidfd, processes of an engine that it should have ended, but could not.

    If dockerd was killed, its helpers and its containers go on. The helpers have our directory in
    their command line; the containers are in the control group that is called like it.
    """

    def is_ours(pid: int) -> bool:
        if any(f"{directory}/" in word for word in command_of(pid)):
            return True
        try:
            groups = Path(f"/proc/{pid}/cgroup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return f"/{directory.name}/" in groups

    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        if not is_ours(pid):
            continue
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            try:
                if is_ours(pid):  # and not another process that was given its number
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    select.select([pidfd], [], [], DEADLINE)  # readable when it has ended
            finally:
                os.close(pidfd)


def _unmount_below(directory: Path) -> None:
    """Unmount what is mounted below a directory, the latest mount first."""
    below = f"{directory}/"
    points = [mount.point for mount in mounts_in(Path("/proc/self/mountinfo").read_text())]
    for point in reversed([point for point in points if point.startswith(below)]):
        original("umount", "--lazy", point)


def _remove_control_groups(name: str) -> None:
    """Remove the control groups of an engine, in cgroup v2 or in each hierarchy of v1."""
    hierarchies = Path("/sys/fs/cgroup")
    end = time.monotonic() + 5
    while tops := [*hierarchies.glob(name), *hierarchies.glob(f"*/{name}")]:
        for top in tops:
            for parent, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):  # busy while its last process is a zombie
                    Path(parent).rmdir()
        if time.monotonic() > end:
            return
        time.sleep(0.02)


# Fixtures -----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """A Docker Engine of our own, for the whole test run."""
    with docker() as engine:
        yield engine


@pytest.fixture(scope="session")
def podman_engine() -> Iterator[Engine]:
    """A Podman of our own, for the whole test run."""
    with podman() as engine:
        yield engine


@pytest.fixture(scope="session")
def docker_container(docker_engine: Engine) -> Iterator[EngineContainer]:
    """``docker run -d --rm --name sample-container IMAGE sleep``: look at it, leave it as it is."""
    with docker_engine.container(*SLEEP) as container:
        yield container


@pytest.fixture(scope="session")
def podman_container(podman_engine: Engine) -> Iterator[EngineContainer]:
    """The same by Podman."""
    with podman_engine.container(*SLEEP) as container:
        yield container
