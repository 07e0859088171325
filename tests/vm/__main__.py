"""The tests that ask the kernel most, on another kernel: Debian's 6.1, in qemu without KVM.

    apt-get download linux-image-6.1.0-56-amd64
    python tests/vm linux-image-6.1.0-56-amd64_*.deb

The package is unpacked into a temporary directory, not installed. The guest sees the files of
this machine read-only and writes into its memory; it has no network. Needs qemu-system-x86_64,
busybox-static and dpkg-deb; root, where an ordinary user may not read all of /usr and of the
Python that runs this. More arguments are files of tests, in place of the list below; options
stand before the package. An interpreter takes seconds to start there: see tests/warm.py.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import initramfs

FILES = (
    *("chroot", "refused", "enter", "overlay", "dev", "readonly_root", "settings", "power"),
    *("changes", "spawn"),
)
# What --all runs besides, whole.
MORE = (
    *("mounts", "users", "security", "mask", "persist", "landlock", "tty", "interact", "detach"),
    *("nests", "securebits", "distrust", "streams", "kernel", "life", "inside", "swapped"),
    *("secrets", "boundary", "ending"),
)
# Most of their time, and little that another kernel does in another way.
LEFT_OUT = (
    *("loopback", "propagation", "gets_no_new_proc", "five_flag", "picture_says", "another_user"),
    *("unshare_has_made", "is_skipped", "user_none", "decides_whose", "upper_directory"),
)
ENDS = ["passed", "failure", "error", "skipped"]
CONSOLE = (
    "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off audit=0 nokaslr init_on_alloc=0 "
    "tsc=reliable clocksource=tsc rcupdate.rcu_expedited=1"
)
CHECKOUT = Path(__file__).resolve().parents[2]
GUEST = str(Path(__file__).resolve().parent / "guest.py")


def unpack(package: Path, folder: Path) -> Path:
    """The folder that holds the kernel: the given one, or what the package was unpacked to."""
    if package.is_dir():
        return package
    subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)
    return folder


def compile_files(arguments: list[str]) -> None:
    """Have the tests collected here: what that compiles, the guest need not.

    Raises CalledProcessError for arguments that pytest does not take.
    """
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"]
    environment = {n: v for n, v in os.environ.items() if n != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(
        [*command, *arguments],
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=120,
    )


def command(kernel: Path, initial: Path, results: Path) -> list[str]:
    tool = shutil.which("qemu-system-x86_64")
    if tool is None:
        raise FileNotFoundError(
            "there is no qemu-system-x86_64 (on Debian: apt-get install qemu-system-x86)"
        )
    (image,) = (kernel / "boot").glob("vmlinuz-*")
    shares = [
        *("-virtfs", f"local,path=/,mount_tag={initramfs.HOST},security_model=none,readonly=on,"
          "multidevs=remap"),
        *("-virtfs", f"local,path={results},mount_tag={initramfs.RESULTS},security_model=none"),
    ]  # fmt: skip
    return [
        *(tool, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", "pc", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "Westmere,-vmx"),
        *("-smp", str(min(4, os.cpu_count() or 1)), "-m", "3G", "-serial", "stdio"),
        *("-kernel", str(image), "-initrd", str(initial), "-append", CONSOLE, *shares),
    ]


def run(machine: list[str], results: Path, boot_limit: float, limit: float) -> str:
    """Let the machine run until it switches itself off; the reason, if it did not in time."""
    before = time.monotonic()
    with (
        open(results / "console", "wb") as console,
        subprocess.Popen(machine, stdin=subprocess.DEVNULL, stdout=console) as process,
    ):
        try:
            while process.poll() is None:
                passed = time.monotonic() - before
                if passed > boot_limit and not (results / "boot").exists():
                    return f"it has not started within {boot_limit:.0f} s"
                if passed > limit:
                    return f"it has not ended within {limit:.0f} s"
                time.sleep(0.2)
        finally:
            process.kill()
    return f"qemu ended with status {process.returncode}" if process.returncode else ""


def print_files(who: str, suite: ElementTree.Element) -> None:
    """Print a line for each file, and one for each reason to skip."""
    files: dict[str, Counter[str]] = {}
    seconds: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for case in suite.iter("testcase"):
        name = (case.get("classname") or case.get("name") or "").removeprefix("tests.")
        ends = [each.tag for each in case if each.tag in ("failure", "error", "skipped")]
        files.setdefault(name, Counter())[ends[-1] if ends else "passed"] += 1
        seconds[name] += float(case.get("time", "0"))
        reasons.update(skip.get("message", "") for skip in case.iter("skipped"))
    for name, ended in files.items():
        ends = [f"{ended[end]} {end}" for end in sorted(ended, key=ENDS.index)]
        print(f"{who}: {name}: {', '.join(ends)}, {seconds[name]:.0f} s")
    for reason, number in reasons.items():
        print(f"{who}: skipped {number}: {reason}")


def judge(results: Path, who: str) -> bool:
    """Print what failed, test by test; has it all passed?"""
    status, cases = results / f"{who}.status", results / f"{who}.xml"
    if not status.exists() or not cases.exists():
        output = results / f"{who}.txt"
        lines = output.read_text(errors="replace").splitlines() if output.exists() else []
        ends = [line.split()[1] for line in lines if line.endswith("%]")]
        count = {end: ends.count(end) for end in sorted({*ends})}
        print(f"{who}: the tests have not come to their end: {count}")
        print("\n".join(lines[-30:]))
        return False
    suite = ElementTree.parse(cases).getroot().find("testsuite")
    assert suite is not None
    for case in suite.iter("testcase"):
        for bad in (*case.iter("failure"), *case.iter("error")):
            print(f"\n{who}: FAILED {case.get('classname')}::{case.get('name')}\n{bad.text}")
    print_files(who, suite)
    count = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    seconds = float(suite.get("time", "0"))
    print(f"{who}: {', '.join(f'{n} {name}' for name, n in count.items())}, {seconds:.0f} s")
    passed = count["tests"] - count["failures"] - count["errors"] - count["skipped"]
    return status.read_text() == "0" and passed > 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/vm", description=__doc__.splitlines()[0])
    parser.add_argument("kernel", type=Path, help="a linux-image package, or where it is unpacked")
    parser.add_argument("--boot-limit", type=float, default=90, help="seconds (90)")
    parser.add_argument("--limit", type=float, default=400, help="seconds, all together (400)")
    parser.add_argument("--all", action="store_true", help="run more files, which takes minutes")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest")
    given = parser.parse_args()
    arguments = given.pytest or [f"tests/test_{name}.py" for name in FILES]
    if given.all:
        arguments += [f"tests/test_{name}.py" for name in MORE]
    elif not given.pytest:
        arguments += ["-k", f"not ({' or '.join(LEFT_OUT)})"]
    with tempfile.TemporaryDirectory(prefix="nsdemo-vm-") as folder:
        results, initial = Path(folder, "results"), Path(folder, "initramfs")
        results.mkdir()
        compile_files(arguments)
        kernel = unpack(given.kernel, Path(folder, "kernel"))
        initial.write_bytes(initramfs.make(kernel, sys.executable, GUEST, arguments))
        reason = run(command(kernel, initial, results), results, given.boot_limit, given.limit)
        if (results / "boot").exists():
            seconds, release = (results / "boot").read_text().split()
            print(f"Linux {release}, up in {seconds} s")
        passed = [judge(results, who) for who in ("root", "guest")]
        if reason or not all(passed):
            print(f"{reason}\nthe last lines of its console:")
            print((results / "console").read_text(errors="replace")[-3000:])
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
