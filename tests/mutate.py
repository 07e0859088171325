"""The rules of CONTRIBUTING.md, each broken on purpose: does a test of the rule see it?

    python tests/mutate.py            # all; some minutes, as root, with gcc
    python tests/mutate.py 3 8 19     # these rules
    python tests/mutate.py --check    # are all lines still there? builds nothing

A copy of what is committed here is built and its tests are run, unchanged at first. Then one line
after the other is changed as ``tests/mutants.py`` says, and the tests that the table names for
that rule are run: one of them must fail. Prints a row for each, and ends with the number of
those that nobody saw.

A rule is broken as root, and what it keeps shut is the machine: the tests run in namespaces of
their own, with a /dev in memory, and whatever they write to /etc, /usr and the like is forgotten.
The machine is looked at after each of them.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mutants import MUTANTS, Mutant
from test_rules import functions, rows

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent

# A machine of our own for the command that follows: an init, as the shell is one, mounts, pids.
PROTECTED = (
    *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"),
    *("--mount-proc", "--uts", "--ipc", "sh", "-ec"),
    """
    memory=$(mktemp -d)
    mount -t tmpfs -o mode=755 nsdemo-mutate "$memory"
    mkdir "$memory/dev" "$memory/dev/pts" "$memory/dev/shm" "$memory/dev/net"
    for name in null zero full random urandom tty fuse loop-control net/tun; do
        [ ! -c /dev/$name ] || cp -a /dev/$name "$memory/dev/$name"
    done
    for name in fd stdin stdout stderr; do
        ln -s "$(readlink /dev/$name)" "$memory/dev/$name"
    done
    ln -s pts/ptmx "$memory/dev/ptmx"
    mount -t devpts -o newinstance,mode=620,ptmxmode=666 devpts "$memory/dev/pts"
    mount -t tmpfs -o mode=1777 shm "$memory/dev/shm"
    for name in etc usr var root home opt srv boot; do
        [ -d /$name ] && [ ! -L /$name ] || continue
        mkdir -p "$memory/$name/upper" "$memory/$name/work"
        mount -t overlay -o "lowerdir=/$name,upperdir=$memory/$name/upper" \\
            -o "workdir=$memory/$name/work" overlay "$memory/$name"
        mount --move "$memory/$name" /$name
    done
    mount --rbind "$memory/dev" /dev
    "$@" && exit
    exit $?
    """,
    "sh",
)

FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


def tests_of(rule: int) -> list[str]:
    """The tests of a rule as pytest takes them."""
    found = []
    for name in rows()[rule]:
        file, _, test = name.partition("::")
        found += [f"tests/{file}::{f}" for f in functions(file) if f"{f}_".startswith(f"{test}_")]
    return found


def machine() -> dict[str, object]:
    """What a test of a broken rule could have changed."""
    found: dict[str, object] = {
        name: Path("/proc/sys/kernel", name).read_text()
        for name in ("core_pattern", "hostname", "modprobe", "hotplug")
        if Path("/proc/sys/kernel", name).exists()
    }
    for folder in ("/", "/dev", "/etc", "/usr/bin"):
        for entry in os.scandir(folder):
            status = entry.stat(follow_symlinks=False)
            found[entry.path] = (status.st_mode, status.st_uid, status.st_rdev)
    found["mounts"] = Path("/proc/self/mountinfo").read_text()
    return found


class Copy:
    """A tree of our own, built in place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.left: set[str] = set()  # tests that fail without a change, too
        archive = subprocess.run(
            ["git", "archive", "HEAD"], cwd=PROJECT, check=True, stdout=subprocess.PIPE
        ).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        self.build()

    def build(self) -> bool:
        command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        return subprocess.run(command, cwd=self.folder, capture_output=True).returncode == 0

    def failing(self, tests: list[str], *more: str) -> list[str] | None:
        """The tests that fail; None: none was run."""
        options = ["-q", "-p", "no:cacheprovider", "--tb=no", *more]
        try:
            ran = subprocess.run(
                [*PROTECTED, sys.executable, "-m", "pytest", *options, *tests],
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=600,
            )
        except subprocess.TimeoutExpired:
            return ["(they do not end)"]
        if ran.returncode == 1:
            return FAILED.findall(ran.stdout) or ["(pytest itself)"]
        return [] if ran.returncode == 0 else None

    def seen(self, mutant: Mutant) -> str:
        path = self.folder / mutant.file
        text = path.read_text()
        path.write_text(text.replace(mutant.old, mutant.new, 1))
        try:
            if mutant.file.startswith("csrc") and not self.build():
                return "NOT BUILT"
            failed = self.failing([t for t in tests_of(mutant.rule) if t not in self.left], "-x")
            if failed is None:
                return "NOT RUN"
            return failed[0].removeprefix("tests/") if failed else "NOT SEEN"
        finally:
            path.write_text(text)


def is_there(mutant: Mutant) -> bool:
    """The line is in the file, once."""
    return (PROJECT / mutant.file).read_text().count(mutant.old) == 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rules", nargs="*", type=int)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    chosen = [each for each in MUTANTS if not given.rules or each.rule in given.rules]
    if gone := [f"{each.rule}: {each.what}" for each in chosen if not is_there(each)]:
        print("not there, or not once:", *gone, sep="\n  ")
        return 1
    if given.check:
        return 0
    unseen = 0
    with tempfile.TemporaryDirectory(prefix="nsdemo-mutate-") as name:
        copy = Copy(Path(name))
        Path(name).chmod(0o755)
        whole = sorted({test for each in chosen for test in tests_of(each.rule)})
        if failed := copy.failing(whole):
            print("these fail without a change, and are left out:", *failed)
            copy.left = {test.partition("[")[0] for test in failed}
        print("| rule | broken | in | seen by |\n|---|---|---|---|")
        built = ""  # the last file of the core that was changed, and is to be built again
        for mutant in chosen:
            started = time.monotonic()
            if built and not mutant.file.startswith("csrc"):
                copy.build()
                built = ""
            before = machine()
            seen = copy.seen(mutant)
            if changed := [name for name, value in machine().items() if before.get(name) != value]:
                sys.exit(f"rule {mutant.rule}, {mutant.what}: the machine is another: {changed}")
            built = mutant.file if mutant.file.startswith("csrc") else built
            unseen += seen.startswith("NOT")
            row = f"| {mutant.rule} | {mutant.what} | `{mutant.file}` | `{seen}` |"
            print(row, f"<!-- {time.monotonic() - started:.0f} s -->", flush=True)
    return unseen


if __name__ == "__main__":
    sys.exit(main())
