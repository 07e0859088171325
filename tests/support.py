"""What several test files share: a look at the whole process, and scripts in fresh interpreters.

Nothing here imports pytest, so that a script under test can import this module too.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HERE = Path(__file__).resolve().parent
IMPORTABLE = str(Path(nsdemo.__file__).resolve().parents[1])
IS_ROOT = os.geteuid() == 0
SLOW = float(os.environ.get("NSDEMO_SLOW", "1"))  # how many times slower this machine is
ORDINARY = 64321  # a user that owns no process here: root's scripts become him
# The prefix of a command: a machine whose mounts are shared, cut off from the real one first.
SHARED_MACHINE = (
    *("unshare", *(() if IS_ROOT else ("--map-root-user",)), "--mount", "--propagation", "private"),
    *("sh", "-c", 'mount --make-rshared / && exec "$@"', "sh"),
)
QUIET: dict[str, Any] = {"stdin": nsdemo.DEVNULL}
CAP_SYS_ADMIN = 21
CLONE_NEWNS = 0x20000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE, MS_SHARED = 1 << 1, 1 << 2, 1 << 14, 1 << 18, 1 << 20
OWN_MEMORY = "nsdemo-tests"  # the source of the tmpfs that covers /dev/shm
PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 3, 4, 36

_libc = ctypes.CDLL(None, use_errno=True)
# What we put into /dev/shm has our name: beside us are other tests, users and programs.
tempfile.template = f"tmp-{os.getpid()}-"
_KEPT_FIELDS = ("Umask", "Uid", "Gid", "Groups", "Sig", "Cap", "NoNewPrivs", "Seccomp:")


def prctl(option: int, value: int = 0) -> int:
    result: int = _libc.prctl(option, value, 0, 0, 0)
    return result


# -- the process as it is, to be compared with the process as it was ------------------------


def children() -> set[int]:
    """Our children, zombies included."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/children") as file:
            found.update(map(int, file.read().split()))
    return found


def all_descriptors() -> dict[int, str]:
    """Our open descriptors, and what each is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one of the listing itself has gone
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


# The files that a process keeps from its first launch on: core/launch/image.c and slate.c there.
KEPT = ("/memfd:nsdemo (deleted)", "/memfd:nsdemo-plan (deleted)")


def descriptors() -> dict[int, str]:
    """The same without one of each kind that is kept; a second would be a leak."""
    found = all_descriptors()
    for kind in KEPT:
        number = next((fd for fd, link in found.items() if link == kind), None)
        if number is not None:
            del found[number]
    return found


def _standing() -> dict[str, str]:
    """Ids, capabilities, umask, signal mask and dispositions, as the kernel has them."""
    lines = Path("/proc/thread-self/status").read_text().splitlines()
    kept = [line.split(":\t", 1) for line in lines if line.startswith(_KEPT_FIELDS)]
    found = {name: value for name, value in kept if name not in ("SigQ", "SigPnd")}
    # The C library catches 32 and 33 from the first thread on.
    found["SigCgt"] = hex(int(found["SigCgt"], 16) & ~(3 << 31))
    return found


def _mounts() -> set[str]:
    """Mounts of our mount namespace, but for those of container engines: numbers and points.

    Without power over it there is nothing to look for: what is mounted there is others' doing.
    """
    if not _may_mount():
        return set()
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    found = {f"{words[4]} ({words[0]})" for words in lines}
    return {each for each in found if "docker" not in each and "podman" not in each}


def _may_mount() -> bool:
    status = Path("/proc/thread-self/status").read_text()
    return bool(int(status.split("CapEff:\t")[1][:16], 16) >> CAP_SYS_ADMIN & 1)


def _shared_memory() -> set[str]:
    """All of it where the machine's is covered by one of our own; else what has our name."""
    with contextlib.suppress(OSError):
        ours = OWN_MEMORY in Path("/proc/self/mountinfo").read_text().split()
        names = {entry.name for entry in os.scandir("/dev/shm")}
        return {name for name in names if ours or name.startswith(tempfile.template)}
    return set()


def devices() -> dict[str, str]:
    """Type, permissions and number of the devices that everybody on this machine uses."""
    found = {}
    for name in ("null", "zero", "full", "random", "urandom", "tty", "ptmx"):
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(f"/dev/{name}", follow_symlinks=name == "ptmx")
            number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
            found[f"/dev/{name}"] = f"{stat.filemode(status.st_mode)} {number}"
    return found


def own_machine() -> bool:
    """Give this process a mount namespace and a /dev/shm of its own, if it may have them.

    What is mounted there from now on is its own, whatever other tests, users and engines do
    beside it. An ordinary user stays where he is.
    """
    if not _may_mount() or _libc.unshare(CLONE_NEWNS) != 0:
        return False
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    shared = any(words[4] == "/" and words[6].startswith("shared:") for words in lines)
    for source, target, kind, flags, data in (
        (None, b"/", None, MS_REC | MS_PRIVATE, None),
        (OWN_MEMORY.encode(), b"/dev/shm", b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=1777"),
        # As they were, but among themselves.
        (None, b"/", None, MS_REC | (MS_SHARED if shared else MS_PRIVATE), None),
    ):
        if _libc.mount(source, target, kind, flags, data) != 0:
            raise OSError(ctypes.get_errno(), f"mount on {target.decode()}")
    return True


def snapshot() -> dict[str, Any]:
    """All that a launch must leave as it found it; about a millisecond."""
    found: dict[str, Any] = {
        "children": children(),
        "descriptors": descriptors(),
        "mounts": _mounts(),
        "namespaces": {n: os.readlink(f"/proc/self/ns/{n}") for n in os.listdir("/proc/self/ns")},
        "standing": _standing(),
        "shared memory": _shared_memory(),
        "devices": devices(),
        "directories": (os.getcwd(), os.readlink("/proc/self/root")),
        "dumpable": prctl(PR_GET_DUMPABLE),
    }
    return found


def _difference(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    found = []
    for name, value in before.items():
        if after[name] == value:
            continue
        if isinstance(value, set):
            # What has gone is not our doing: the machine has other users.
            change: Any = sorted(after[name] - value)
            if not change and name != "children":
                continue
        elif isinstance(value, dict):
            keys = {key for key in (*value, *after[name]) if value.get(key) != after[name].get(key)}
            change = {key: (value.get(key), after[name].get(key)) for key in sorted(keys)}
        else:
            change = (value, after[name])
        found.append(f"{name}: {change}")
    return found


def leftovers(before: dict[str, Any], patience: float = 2) -> list[str]:
    """What differs from the snapshot, after the garbage is collected; [] if nothing does."""
    end = time.monotonic() + patience * SLOW
    while found := _difference(before, snapshot()):
        gc.collect()
        if time.monotonic() > end:
            break
        time.sleep(0.02)
    return found


def leftovers_now(before: dict[str, Any]) -> list[str]:
    """The same at once, while an exception is still held: what an error itself left behind."""
    return _difference(before, snapshot())


# -- processes ---------------------------------------------------------------------------------


def processes_with(marker: str) -> list[int]:
    """Living processes that "sleep MARKER", here or in any container."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                arguments = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
                if arguments[:2] == [b"sleep", marker.encode()]:
                    found.append(int(name))
    return found


def eventually(check: Callable[[], Any], seconds: float = 5) -> Any:
    """The first true value of check(), or its last value when the time is over."""
    end = time.monotonic() + seconds * SLOW
    while not (value := check()) and time.monotonic() < end:
        time.sleep(0.005)
    return value


def processor_time() -> float:
    """Seconds that our children have used, once they have ended, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


_counter = 0


def new_marker() -> str:
    """An argument that no other process has: a length of sleep in seconds."""
    global _counter
    _counter += 1
    return f"{100000 + os.getpid() % 900000}.{time.monotonic_ns() % 10**9}{_counter}"


# -- the caller's power ------------------------------------------------------------------------


def become_ordinary() -> None:
    """Turn root into a user without any power; an ordinary user stays what he is."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(ORDINARY)
        os.setuid(ORDINARY)
        prctl(PR_SET_DUMPABLE, 1)  # /proc/self would stay root's


def user_namespaces() -> bool:
    """May an ordinary user make a user namespace here?"""
    tool = shutil.which("unshare")
    command = [tool or "unshare", "--map-root-user", "true"]
    # Root of a user namespace with one id is an ordinary user already.
    one_id = Path("/proc/self/uid_map").read_text().split()[2] == "1"
    as_user = become_ordinary if IS_ROOT and not one_id else None
    try:
        done = subprocess.run(command, preexec_fn=as_user, capture_output=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def let_in(folder: Path) -> None:
    """Everybody may enter this directory of pytest's, which closes its directories to others."""
    folder.chmod(0o755)
    for path in folder.parents:
        if not path.name.startswith(("pytest-", "popen-")):
            break
        path.chmod(0o755)


NO_ATTRIBUTES = "this kernel has no user.* attributes on tmpfs (Linux 6.6)"


def memory_keeps_attributes(ordinary: bool) -> bool:
    """May an overlay in memory note that a directory hides another? Root's notes in trusted.*."""
    if IS_ROOT and not ordinary:
        return True
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        try:
            os.setxattr(file.name, "user.x", b"y")
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            return False
    return True


def no_power() -> nsdemo.Plan:
    """An empty plan; an ordinary user's begins with becoming root in a user namespace."""
    return nsdemo.Plan() if IS_ROOT else nsdemo.Plan().unshare("user").map_root()


# -- scripts in an interpreter of their own ----------------------------------------------------

_PREAMBLE = """\
import asyncio, concurrent.futures.thread, contextlib, errno, gc, json, locale, os, pickle, resource
import signal, subprocess, sys, tempfile, threading, time, traceback, warnings
# An ordinary user may not read root's Python.
import ast, ctypes, dataclasses, encodings.ascii, encodings.unicode_escape, fcntl, inspect, pty
import mmap, secrets, shutil, socket, stat, struct, termios, textwrap, tty
sys.path[:0] = {paths!r}
import nsdemo, nsdemo._plan.explain, nsdemo._why.diagnosis, nsdemo._api, nsdemo._facts.targets
import nsdemo.rootfs
import nsdemo.kernel, nsdemo.notebook, nsdemo.mounts, nsdemo._plan.equals
from support import *
"""

_warm = None
if os.environ.pop("NSDEMO_WARM", "") == "1":  # the scripts themselves shall not see it
    import warm

    _warm = warm.Warm(_PREAMBLE.format(paths=[IMPORTABLE, str(HERE)]))


class Script(subprocess.CompletedProcess[str]):
    """A finished script, and what it reported as JSON on its last line."""

    @property
    def report(self) -> Any:
        assert self.returncode == 0, f"status {self.returncode}\n{self.stdout}\n{self.stderr}"
        return json.loads(self.stdout.splitlines()[-1])


def command_of(body: str, *, ordinary: bool = False) -> list[str]:
    """The command that runs a script with nsdemo and this module imported."""
    preamble = _PREAMBLE.format(paths=[IMPORTABLE, str(HERE)])
    if ordinary:
        preamble += "become_ordinary()\n"
    return [sys.executable, "-W", "error", "-c", preamble + textwrap.dedent(body)]


def script(
    body: str,
    *args: str,
    ordinary: bool = False,
    under: Sequence[str] = (),
    timeout: float = 60,
    **options: Any,
) -> Script:
    """Run a script to its end; ``ordinary`` drops root's power, ``under`` is a prefix."""
    if _warm and options.keys() <= {"cwd"} and (not under or "refuse" in str(under[1])):
        done = _warm.run(
            timeout * SLOW,
            text=("become_ordinary()\n" if ordinary else "") + textwrap.dedent(body),
            args=args,
            env=dict(os.environ),
            cwd=str(options.get("cwd") or os.getcwd()),
            refused=under[2:],
        )
    else:
        command = [*under, *command_of(body, ordinary=ordinary), *args]
        done = subprocess.run(
            command, **QUIET, capture_output=True, text=True, timeout=timeout * SLOW, **options
        )
    return Script(done.args, done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def running_script(
    body: str, *args: str, ordinary: bool = False, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A script that goes on while the test does; it is killed in the end."""
    command = [*command_of(body, ordinary=ordinary), *args]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **options
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def refusing(call: str, error: str) -> list[str]:
    """A prefix for ``under``: the command runs on a kernel without this system call."""
    return [sys.executable, str(HERE / "refuse.py"), call, error]


def report(**values: Any) -> None:
    """What a script has to say: its last line."""
    print(json.dumps(values), flush=True)


def facts_of(error: BaseException) -> dict[str, Any]:
    """An exception in JSON."""
    step = getattr(error, "step", None)
    return {
        "type": [each.__name__ for each in type(error).__mro__],
        "errno": getattr(error, "errno", None),
        "operation": getattr(step, "operation", None),
        "step_errno": getattr(step, "errno", None),
        "args": list(map(str, getattr(step, "args", ()))),
        "text": str(error),
        "notes": list(getattr(error, "__notes__", ())),
    }


def outcome(call: Callable[[], Any]) -> dict[str, Any]:
    """How a call ended and what it left behind, in JSON."""
    before = snapshot()
    found: dict[str, Any] = {"error": None, "returncode": None, "output": None}
    try:
        done = call()
    except Exception as error:
        found["error"] = facts_of(error)
        found["at_once"] = leftovers_now(before)
    else:
        found["returncode"] = done.returncode
        found["output"] = done.stdout.decode() if isinstance(done.stdout, bytes) else done.stdout
        del done
    found["left"] = leftovers(before)
    return found
