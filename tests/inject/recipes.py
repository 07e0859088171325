"""The launches into which failures are put, each of a command that says what it sees."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nsdemo

HERE = Path(__file__).resolve().parent
if str(HERE.parent) not in sys.path:
    sys.path.append(str(HERE.parent))
IS_ROOT = os.geteuid() == 0
QUIET: dict[str, Any] = {"stdin": nsdemo.DEVNULL, "capture_output": True}
ALLOW_ALL = struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)  # return SECCOMP_RET_ALLOW

Done = subprocess.CompletedProcess[Any]
Launch = Callable[[], Done]


class Stage:
    """A root with the witness in it, and a container that is alive."""

    def __init__(self, folder: Path) -> None:
        self.work = folder / "work"  # where launches may leave something, and must not
        self.work.mkdir()
        self.data = folder / "data"
        self.data.mkdir()
        self.program = folder / "witness"
        source = HERE / "witness.c"
        command = ["cc", "-O1", "-static", "-no-pie", "-Wl,-Ttext-segment=0x70000000"]
        subprocess.run([*command, "-o", self.program, source], check=True)
        self.root = folder / "root"
        for name in ("bin", "dev", "etc", "mnt", "proc", "sys", "tmp"):
            (self.root / name).mkdir(parents=True)
        shutil.copy(self.program, self.root / "bin" / "witness")
        self.user: dict[str, Any] = {} if IS_ROOT else {"user": True}
        self.box = 0  # its pid: a fork's Container is another's

    @contextlib.contextmanager
    def with_a_container(self) -> Iterator[None]:
        args = ["/bin/witness", "wait"]
        with nsdemo.spawn(args, root=self.root, stdin=nsdemo.PIPE, **self.user) as box:
            self.box = box.pid
            yield

    def clean(self) -> None:
        """What a launch is to leave behind, if it goes well."""
        for path in self.work.iterdir():
            with contextlib.suppress(OSError):
                nsdemo.release(path)
            path.unlink(missing_ok=True)
        for path in self.root.glob("**/written-by-the-witness"):  # one that was killed
            path.unlink()

    def recipes(self) -> dict[str, Launch]:
        inside = ["/bin/witness", "here"]
        ours = [str(self.program)]
        root, user = {"root": self.root}, self.user
        files = [
            nsdemo.Dev(),
            nsdemo.Tmpfs("/tmp", size="1m"),
            nsdemo.Bind(self.data, "/mnt", readonly=True),
        ]
        power: dict[str, Any] = {
            "capabilities": ["kill", "net_bind_service"],
            "ambient": ["kill"],
            "no_new_privs": True,
            "rlimits": {"nofile": (32, 64)},
            "seccomp": ALLOW_ALL,
            "umask": 0o27,
        }

        def run(args: list[str], **options: Any) -> Launch:
            return lambda: nsdemo.run(args, **QUIET, **user, **options)

        def streams() -> Done:
            with nsdemo.spawn(
                inside, stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE, **user, **root, text=True
            ) as box:
                output, _ = box.communicate(timeout=60)
            return subprocess.CompletedProcess(inside, box.returncode, output)

        found: dict[str, Launch] = {
            "run": run(ours),
            "root": run(inside, **root, hostname="boxy", cwd="/mnt"),
            "net": run(inside, **root, net=True, ipc=False),
            "chroot_method": run(inside, **root, root_method="chroot"),
            "init": run(inside, **root, init=True),
            "mounts": run(inside, **root, mounts=files, readonly_root=True),
            "overlay": run(
                inside,
                **root,
                mounts=[nsdemo.Proc("/proc", masked=True)],
                mount_proc=False,
                overlay=True,
            ),
            "tty": run(inside, **root, tty=True),
            "power": run(inside, **root, **power),
            "time": run(inside, **root, time=True, monotonic=3600),
            "streams": streams,
            "enter": lambda: nsdemo.enter(self.box, inside, **QUIET),
        }
        if IS_ROOT:
            ranges = [(0, 100000, 1000)]
            found["chroot_run"] = lambda: nsdemo.chroot_run(self.root, inside, **QUIET)
            found["user"] = run(inside, **root, user=True)
            found["uid"] = run(inside, **root, uid=5, gid=6, groups=[7])
            found["maps"] = run(inside, **root, uid_map=ranges, gid_map=ranges)
            found["persist"] = run(ours, uts=True, persist={"uts": self.work / "uts"})
        else:
            found["landlock"] = run(inside, **root, landlock=nsdemo.Landlock(["/"]))
        return found

    def wrong(self) -> dict[str, Launch]:
        """Launches that do what none may: the judges must see it."""
        inside = ["/bin/witness", "here"]
        kept: list[int] = []

        def right() -> Done:
            return nsdemo.run(inside, root=self.root, hostname="boxy", **QUIET, **self.user)

        def leaks() -> Done:
            kept.append(os.open("/", os.O_RDONLY))
            done = right()
            os.close(kept.pop())
            return done

        def lives_on() -> Done:
            pid = os.fork()
            if pid == 0:
                time.sleep(1000)
            done = right()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return done

        def litters() -> Done:
            (self.work / "file").touch()
            done = right()
            (self.work / "file").unlink()
            return done

        def hangs() -> Done:
            try:
                return right()
            except OSError:
                time.sleep(1000)
                raise

        def lies() -> Done:
            try:
                return right()
            except OSError:
                return nsdemo.run(inside, root=self.root, **QUIET, **self.user)

        def misnames() -> Done:
            try:
                return right()
            except OSError:
                raise PermissionError(errno.EXDEV, "what?") from None

        launches = (leaks, lives_on, litters, hangs, lies, misnames)
        return {launch.__name__: launch for launch in launches}


# What each is to be refused with; the kernel has these for one call or another.
ERRORS = [
    *(errno.EPERM, errno.EACCES, errno.ENOENT, errno.ENOMEM, errno.EMFILE, errno.EAGAIN),
    *(errno.EINVAL, errno.ENOSYS, errno.EIO, errno.ENOSPC, errno.EINTR, errno.EBUSY),
]
