"""PID 1 of the guest: runs the tests as root and as an ordinary user, at once, and switches off.

Started by the script in initramfs.py, with the arguments of pytest; python is the one that runs
the suite on the host. What the tests say goes to files of the host, and how they ended.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path("/run/results")
CHECKOUT = Path(__file__).resolve().parents[2]
USER, UID = "guest", 4321
POWER_OFF = 0x4321FEDC


def let_others_read(path: Path) -> None:
    """Opens the way to a path for the ordinary user; the change stays in the guest's memory."""
    for folder in (path, *path.parents):
        mode = folder.stat().st_mode
        if folder.is_dir() and mode & 0o005 != 0o005:
            folder.chmod(mode | 0o055)


def make_user() -> None:
    for name, line in (
        ("passwd", f"{USER}:x:{UID}:{UID}::/run/{USER}:/bin/sh"),
        ("group", f"{USER}:x:{UID}:"),
        ("subuid", f"{USER}:1000000:65536"),
        ("subgid", f"{USER}:1000000:65536"),
    ):
        with open(f"/etc/{name}", "a") as file:
            print(line, file=file)
    for folder, mode in ((f"/run/{USER}", 0o700), (f"/run/{USER}-tmp", 0o700), ("/run/tmp", 0o755)):
        os.mkdir(folder, mode)
    for name in (f"{USER}-tmp", "tmp"):  # like /tmp, where set-user-id programs work
        subprocess.run(["mount", "-t", "tmpfs", "tmp", f"/run/{name}"], check=True)
    for folder in (f"/run/{USER}", f"/run/{USER}-tmp"):
        os.chown(folder, UID, UID)


def start(who: str, arguments: list[str], **user: object) -> subprocess.Popen[bytes]:
    """The tests as somebody; their output and results in files with that name."""
    home = f"/run/{USER}" if user else "/root"
    temporary = f"/run/{USER}-tmp" if user else "/run/tmp"
    environment = {
        "PATH": os.path.dirname(sys.executable) + ":/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": home,
        "LANG": "C.UTF-8",
        "TMPDIR": temporary,
        "NSDEMO_SLOW": "5",
        "NSDEMO_MUST_WORK": "1",
        "NSDEMO_WARM": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "--durations=25"]
    command += [f"--junitxml={temporary}/results.xml", *arguments]
    if not user:  # whose mounts the other suite would take for its own, left behind
        command = ["unshare", "--mount", *command]
    with open(RESULTS / f"{who}.txt", "wb") as output:
        return subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, start_new_session=True, **user,
        )  # fmt: skip


def main() -> None:
    ready = time.clock_gettime(time.CLOCK_BOOTTIME)
    (RESULTS / "boot").write_text(f"{ready:.1f}\n{os.uname().release}\n")
    let_others_read(Path(sys.executable))
    for folder in (sys.prefix, sys.base_prefix, CHECKOUT):
        let_others_read(Path(folder))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    make_user()
    user = {"user": UID, "group": UID, "extra_groups": []}
    runs = {
        start("root", sys.argv[1:]).pid: ("root", "/run/tmp"),
        start(USER, sys.argv[1:], **user).pid: (USER, f"/run/{USER}-tmp"),
    }
    while runs:
        pid, status = os.wait()  # everybody else's orphans too: we are PID 1
        if pid in runs:
            who, temporary = runs.pop(pid)
            results = Path(temporary, "results.xml")
            if results.exists():
                (RESULTS / f"{who}.xml").write_bytes(results.read_bytes())
            (RESULTS / f"{who}.status").write_text(str(os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    try:
        main()
    finally:
        os.sync()
        ctypes.CDLL(None).reboot(POWER_OFF)
