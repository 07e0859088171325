"""A throw-away container for what a learner wrote: bounded, and closed to what it must not reach.

    grader (here)
      '- stage.py      PID 1 of the outer container: trusted; it ends when the grader does
           '- ...      PID 1 of the inner container: the solution or the attack, root of its own
                       user namespace and of nothing else

Both have the same root, put together from read-only binds of what Python and the programs in
/usr need. The outer one makes them read-only in a mount namespace that the inner one cannot
change, since the flags of mounts inherited from a more privileged namespace are locked
(mount_namespaces(7)). A grader who is root hands over to a uid that owns nothing first.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nsdemo
from nsdemo import kernel

from .reports import Token, write_token

_PACKAGE = Path(__file__).parent.parent
PYTHON = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
_HERE = "/nsdemo/nsdemo/check"
_TOKENS = "/tokens"
JAIL = "/jail"
MOST_MEMORY = 1 << 30  # bytes, of all processes
LEAST_LEFT = 0.05  # of the machine's memory

BOUNDS = {
    "as": 1 << 30,  # bytes of address space of each process
    "nproc": 100,
    "fsize": 1 << 26,
    "nofile": 512,
    "core": 0,
    "msgqueue": 1 << 19,  # bytes in POSIX message queues
}
"""Limits that hold for all that is started in it; no user namespace lifts them."""

_DEVICES = ("null", "zero", "full", "random", "urandom")
_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix", "gnu")
# Ids that systemd gives to services without a user of their own: nobody's files are theirs.
_DYNAMIC_USERS = range(61184, 65520)


class Skeleton:
    """The directory that becomes a root: mount points, links, and a few small files."""

    def __init__(self, top: str, below: str = "") -> None:
        self.path = path = top + below
        self.below = below
        self.binds: list[nsdemo.Bind] = []
        for name in ("proc", "dev", "tmp", "etc", "nsdemo", "root", _TOKENS.strip("/")):
            self.directory(name)
        for name in _TOP:
            self._like_the_machine(f"/{name}")
        self.bind("/usr")
        for prefix in {sys.base_prefix, sys.base_exec_prefix}:
            if not prefix.startswith("/usr/") and prefix != "/usr":
                self.bind(prefix)
        self.bind(str(_PACKAGE), "/nsdemo/nsdemo")
        for name in _DEVICES:
            if os.path.exists(f"/dev/{name}"):
                self.binds.append(nsdemo.Bind(f"/dev/{name}", f"{below}/dev/{name}"))
        Path(path, "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        Path(path, "etc/group").write_text("root:x:0:\n")
        for name in ("ld.so.cache", "ld.so.conf"):
            with contextlib.suppress(OSError):
                shutil.copyfile(f"/etc/{name}", f"{path}/etc/{name}")
        if os.path.isdir("/etc/alternatives"):
            self.bind("/etc/alternatives")

    def directory(self, inside: str) -> None:
        """Make a directory, and those above it, for everybody to enter."""
        here = self.path
        for part in inside.strip("/").split("/"):
            here = f"{here}/{part}"
            with contextlib.suppress(FileExistsError):
                os.mkdir(here)
                os.chmod(here, 0o755)

    def bind(self, source: str, inside: str | None = None) -> None:
        """Show a directory of the machine."""
        self.directory(inside or source)
        target = self.below + (inside or source)
        self.binds.append(nsdemo.Bind(source, target, nosuid=True, nodev=True))

    def _like_the_machine(self, name: str) -> None:
        if os.path.islink(name):
            os.symlink(os.readlink(name), self.path + name)
        elif os.path.isdir(name):
            self.bind(name)


def _machine_memory() -> tuple[float, int]:
    """(the part of the machine's memory that could still be used, from 0 to 1; bytes that belong
    to no process: files in a tmpfs, mounted or not, and shared memory of both kinds)."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return sizes["MemAvailable"] / sizes["MemTotal"], sizes["Shmem"] << 10


def _most_sockets() -> int:
    """So many can hold the memory that all processes may use: what is sent and not yet read."""
    size = 2 * int(Path("/proc/sys/net/core/wmem_max").read_text())
    return MOST_MEMORY // max(size, 1 << 16)


def _bounds() -> dict[str, int]:
    """BOUNDS, where we may not have as much ourselves: that."""
    hard = {
        name: resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1] for name in BOUNDS
    }
    return {
        name: most if hard[name] == resource.RLIM_INFINITY else min(most, hard[name])
        for name, most in BOUNDS.items()
    }


def _powerless_id() -> int | None:
    """A uid that owns nothing, for a grader who is root; None if there is none to be had."""
    if os.geteuid():
        return None
    start = secrets.choice(_DYNAMIC_USERS)
    for kind in ("uid", "gid"):
        lines = Path(f"/proc/self/{kind}_map").read_text().splitlines()
        maps = [[int(number) for number in line.split()] for line in lines]
        if not any(first <= start < first + count for first, _, count in maps):
            return None
    return start


class Sandbox:
    """The container, running stage.py with a task; leaving it ends and removes everything.

    Attributes:
        box: the outer container.
        stdout, stderr: descriptors of what is said inside.
    """

    def __init__(
        self,
        task: dict[str, Any],
        descriptors: Sequence[int] = (),
        tokens: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._task = task
        self._descriptors = tuple(descriptors)
        self._tokens = tokens  # names and texts of what lies in /tokens from the beginning
        self._folder = ""

    def __enter__(self) -> Sandbox:
        with contextlib.ExitStack() as undo:
            self._folder = tempfile.mkdtemp(prefix="nsdemo-check-")  # closed to everybody else
            undo.callback(shutil.rmtree, self._folder, ignore_errors=True)
            plan = self._plan()
            _, self._shared = _machine_memory()
            pipe = nsdemo.PIPE
            self.box = plan.start(stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=self._descriptors)
            self.stdout, self.stderr = (
                stream.fileno() for stream in (self.box.stdout, self.box.stderr) if stream
            )
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._undo:
            self.box.kill()
            self.box.wait()
            for stream in (self.box.stdin, self.box.stdout, self.box.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()

    def _plan(self) -> nsdemo.Plan:
        top = f"{self._folder}/root"
        os.mkdir(top)
        os.chmod(top, 0o755)
        skeletons = [Skeleton(top)]
        for name, text in self._tokens:
            Path(top + _TOKENS, name).write_text(text)
        if "attack" in self._task:
            os.mkdir(top + JAIL)
            os.chmod(top + JAIL, 0o755)
            skeletons.append(Skeleton(top, JAIL))
        plan = nsdemo.Plan()
        if os.geteuid():
            plan = plan.unshare("user").map_root()
        plan = plan.unshare("mount", "uts", "ipc", "pid", "net").fork().make_private("/")
        binds = [bind for skeleton in skeletons for bind in skeleton.binds]
        plan = plan.bind(top, top).mounts(binds, root=top).make_readonly(top)
        plan = plan.mount("proc", f"{top}/proc", "proc").pivot_root(top)
        user = _powerless_id()
        if user is not None:
            plan = plan.setgroups(()).setgid(user).setuid(user)
        task = json.dumps(self._task | {"python": PYTHON, "descriptors": self._descriptors})
        return plan.rlimits(_bounds()).exec([PYTHON, "-I", "-S", f"{_HERE}/stage.py", task])

    def new_token(self) -> Token:
        """A file that appears in the root of both containers, which they cannot change."""
        return write_token(f"{self._folder}/root{_TOKENS}", _TOKENS)

    def outer_pid(self, inner: int) -> int | None:
        """The pid, as we see it, of a process that the inner container calls ``inner``."""
        depth = None
        for pid, pids in self.processes():
            if pid == self.box.pid:
                depth = len(pids)
            elif depth is not None and len(pids) > depth and pids[depth] == inner:
                return pid
        return None

    def processes(self) -> Iterator[tuple[int, list[int]]]:
        """Every process in it: its pid, and all its pids from ours inwards."""
        pending = [self.box.pid]
        while pending:
            pid = pending.pop()
            found = kernel.process(pid)
            if found is not None:
                yield pid, list(found.pids)
            try:
                for task in os.listdir(f"/proc/{pid}/task"):
                    children = Path(f"/proc/{pid}/task/{task}/children").read_text()
                    pending += map(int, children.split())
            except OSError:  # it has ended meanwhile
                continue

    def over_bounds(self) -> str:
        """Which bound it has broken, in words; "" if none. To be asked now and then."""
        memory, sockets = self._used()
        available, shared = _machine_memory()
        most = f"more than {MOST_MEMORY >> 20} MB"
        if memory > MOST_MEMORY:
            return f"it was ended: it used {most} of memory"
        if shared - self._shared > MOST_MEMORY:
            return f"it was ended: meanwhile {most} went to shared memory and files in memory"
        if sockets > _most_sockets():
            return f"it was ended: its {sockets} sockets can hold {most} of memory"
        if available < LEAST_LEFT:
            return "it was ended: this machine is running out of memory"
        return ""

    def _used(self) -> tuple[int, int]:
        """(bytes that are its processes' own, sockets that they have open)."""
        total, sockets = 0, set()
        for pid, _ in self.processes():
            with contextlib.suppress(OSError, IndexError):
                fields = Path(f"/proc/{pid}/statm").read_text().split()
                total += (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
            with contextlib.suppress(OSError):
                for number in os.listdir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(OSError):
                        if (name := os.readlink(f"/proc/{pid}/fd/{number}")).startswith("socket:"):
                            sockets.add(name)
        return total, len(sockets)
