"""The launcher is a sealed file, and who executes a command of another root is nothing but it.

What a hostile root gets hold of, whatever it makes of its programs and however it is timed. Each
trap here has run a program of the host inside at some time. What a process holds at the instant
of execve is in test_instant.py.
"""

from __future__ import annotations

import errno
import platform
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from refuse import program
from support import IS_ROOT, new_marker, refusing, script
from targets import CAPTURED, POWERS, fields, only_root, tool

import nsdemo
from nsdemo import Bind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

CLOSE, CLOSE_RANGE, SIGPROCMASK, SIGACTION = (
    (3, 436, 14, 13) if platform.machine() == "x86_64" else (57, 436, 135, 134)
)


@pytest.fixture
def own() -> Iterator[Path]:
    with nsdemo.Rootfs.busybox() as root:
        (Path(root) / "data").mkdir()
        yield Path(root)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a static program that says who has run it."""
    folder = tmp_path_factory.mktemp("host")
    folder.chmod(0o755)
    (folder / "sub").mkdir()
    source = folder / "prog.c"
    source.write_text('#include <stdio.h>\nint main(void) { return puts("HOST"), 0; }\n')
    subprocess.run([tool("cc"), "-static", "-o", folder / "prog", source], check=True)
    return folder


def all_ways(own: Path, host: Path) -> dict[str, Callable[[list[str]], Any]]:
    mounts = [Bind("/proc", "/proc"), Bind(host / "sub", "/data")]
    refuses = {"seccomp": program([CLOSE, CLOSE_RANGE], errno.EPERM), "no_new_privs": True}
    by_hand = nsdemo.Plan().unshare("user").map_root().unshare("mount").make_private("/")
    by_hand = by_hand.bind(own, own).mounts(mounts, own).pivot_root(own)
    alone = {"pid": False, "die_with_parent": False}

    def run(**options: Any) -> Callable[[list[str]], Any]:
        return lambda args: nsdemo.run(args, root=own, **options, **CAPTURED)

    return {
        "run": run(),
        "user": run(user=True),
        "mounts": run(mounts=mounts, **alone),
        "uid": run(mounts=mounts, uid=0, gid=0, **alone),
        "overlay": run(mounts=mounts, overlay=True, capabilities=[], **alone),
        "init": run(init=True),
        "no fork": run(mounts=mounts, fork=False, **alone),
        "filter": run(mounts=mounts, **refuses, **alone),
        "filter, fork": run(mounts=mounts, init=True, **refuses),
        "chroot": run(root_method="chroot"),
        "by hand": lambda args: by_hand.exec(args).run(**CAPTURED),
    }


WAYS = list(all_ways(Path("/"), Path("/")))


@pytest.mark.parametrize("way", WAYS)
def test_no_descriptor_is_a_door(way: str, own: Path, host: Path) -> None:
    """A link of the root through a descriptor of ours; by a chain of scripts, too."""
    call = all_ways(own, host)[way]
    held = []
    for fd in range(3, 12):
        door = f"/proc/self/fd/{fd}" + "/.." * 12 + f"{host}/prog"
        for name, first in (("door", None), ("script", f"#!{door}\n")):
            trap = own / "bin" / name
            trap.unlink(missing_ok=True)
            if first is None:
                trap.symlink_to(door)
            else:
                trap.write_text(first)
            if first is not None:
                trap.chmod(0o755)
            with pytest.raises(FileNotFoundError):
                call([f"/bin/{name}"])
            held.append(fd)
    assert len(held) == 18


def test_no_chain_of_scripts_is_too_long_to_matter(own: Path, host: Path) -> None:
    door = "/proc/self/fd/3" + "/.." * 12 + f"{host}/prog"
    for i, first in enumerate([*(f"/s{i}" for i in range(1, 5)), door]):
        (own / f"s{i}").write_text(f"#!{first}\n")
        (own / f"s{i}").chmod(0o755)
    with pytest.raises(FileNotFoundError):
        nsdemo.run(["/s0"], root=own, **CAPTURED)
    (own / "s4").write_text("#!/bin/echo it is\n")
    assert nsdemo.run(["/s0"], root=own, **CAPTURED).stdout.startswith("it is /s4")


@pytest.mark.parametrize("user", POWERS)
def test_what_cannot_be_looked_at_is_executed_by_nobody_else(user: bool, own: Path) -> None:
    """A script that may be executed and not be read, and one whose owner holds a lease on it."""
    words = "by itself it does nothing"
    trap = own / "bin" / "trap"
    trap.write_text("#!/proc/self/exe\n")
    trap.chmod(0o711)
    assert words in nsdemo.run(["/bin/trap"], root=own, user=user, **CAPTURED).stderr
    leased = subprocess.Popen(
        [
            *(tool("python3"), "-c"),
            "import fcntl, os, signal, sys, time\n"
            "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
            "signal.signal(signal.SIGIO, lambda *_: None)\n"
            "fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n"
            "print(flush=True)\n"
            "signal.pause(); time.sleep(0.2)\n"
            "fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)",
            str(trap),
        ],
        stdout=subprocess.PIPE,
    )
    with leased:
        assert leased.stdout is not None
        assert leased.stdout.readline() == b"\n"
        assert words in nsdemo.run(["/bin/trap"], root=own, user=user, **CAPTURED).stderr
    assert leased.returncode == 0


STATUS = ["cat", "/proc/self/status"]


@pytest.mark.parametrize("options", [{}, {"init": True}, {"uid": 0}, {"fork": False, "pid": False}])
def test_a_filter_leaves_the_command_its_signals(options: dict[str, Any], own: Path) -> None:
    bpf = program([SIGPROCMASK, SIGACTION, CLOSE_RANGE], errno.EPERM)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        done = nsdemo.run(
            STATUS, root=own, mounts=[Bind("/proc", "/proc")], seccomp=bpf, **options, **CAPTURED
        )
    finally:
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    found = fields(done.stdout)
    assert found["SigBlk"] == found["SigIgn"] == "0" * 16


# -- the file itself


def test_whose_mode_was_changed_is_not_used_again() -> None:
    """As a container's root with our uid could, who finds it as /proc/PID/exe."""
    ran = script(
        """
        import nsdemo
        call = lambda: nsdemo.run(["true"], user=True, init=True).returncode
        call()
        links = {n: os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")[:-1]}
        kept = next(n for n, link in links.items() if link.startswith("/memfd:nsdemo "))
        os.chmod(f"/proc/self/fd/{kept}", 0o111)
        report(status=call(), mode=os.stat(f"/proc/self/fd/{kept}").st_mode & 0o777)
        """,
        ordinary=IS_ROOT,
    )
    assert ran.report == {"status": 0, "mode": 0o111}


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_without_memfds_it_is_a_file_without_a_name(error: str) -> None:
    """Not the one beside the module, which a container root with our uid could write to."""
    ran = script(
        """
        import nsdemo
        with nsdemo.spawn(["sleep", "60"], init=True) as box:
            report(exe=os.readlink(f"/proc/{box.pid}/exe"))
        """,
        under=refusing("memfd_create", error),
        ordinary=False,
    )
    if not IS_ROOT:  # who is hidden shows its program to root alone
        assert ran.returncode != 0 or ran.report
        return
    name = ran.report["exe"]
    assert "_launcher" not in name
    assert name.endswith(" (deleted)")


@only_root
def test_who_has_less_power_than_he_may_have_ends_with_python_all_the_same() -> None:
    """His programs get more than he has, and then the kernel forgets whom to end with whom."""
    ran = script(
        """
        import ctypes, nsdemo, signal, struct, subprocess, sys, time
        libc = ctypes.CDLL(None, use_errno=True)
        head = struct.pack("Ii", 0x20080522, 0)
        lost = 1 << 8  # CAP_SETPCAP: it stays in the bounding set
        data = bytearray(24)
        buffer = (ctypes.c_char * 24).from_buffer(data)
        assert libc.capget(head, buffer) == 0
        words = list(struct.unpack("6I", data))
        words[0] &= ~lost; words[1] &= ~lost
        assert libc.capset(head, struct.pack("6I", *words)) == 0
        pid = os.fork()
        if pid == 0:
            nsdemo.chroot_run("/", ["sleep", sys.argv[1]], stdout=nsdemo.DEVNULL)
            os._exit(1)
        began = bool(eventually(lambda: processes_with(sys.argv[1]), 30))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        report(began=began, ended=bool(eventually(lambda: not processes_with(sys.argv[1]), 30)))
        """,
        new_marker(),
    )
    assert ran.report == {"began": True, "ended": True}, ran


@only_root
def test_a_pin_in_another_mount_namespace_is_undone(own: Path, tmp_path: Path) -> None:
    with nsdemo.spawn(["sleep", "100"]) as box:
        path = tmp_path / "blue"
        with pytest.raises(FileNotFoundError):
            nsdemo.spawn(
                ["/nope"], mount=box, uts=True, pid=False, die_with_parent=False,
                persist={"uts": path},
            )  # fmt: skip
        assert not path.exists()
        assert str(path) not in Path(f"/proc/{box.pid}/mountinfo").read_text()
