"""Proc(masked=True), Sysfs(masked=True), and mount_proc at any path."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import QUIET, script

import nsdemo
from nsdemo import flags

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

both = pytest.mark.parametrize("ordinary", [False, True], ids=["caller", "ordinary"])
MASKED = "[nsdemo.Proc(masked=True), nsdemo.Sysfs(masked=True)]"
HIDDEN = """/proc/acpi /proc/asound /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list
    /proc/timer_stats /proc/sched_debug /sys/firmware /proc/scsi""".split()
CLOSED = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()


def inside(command: list[str], ordinary: bool, options: str) -> str:
    body = f"""
        done = nsdemo.run({command!r}, {options}, stdin=nsdemo.DEVNULL, capture_output=True,
            text=True)
        report(output=done.stdout, error=done.stderr)
    """
    found = script(body, ordinary=ordinary).report
    assert found["error"] == ""
    output: str = found["output"]
    return output


@both
@pytest.mark.parametrize("own_root", [False, True], ids=["ours", "root"])
def test_hidden_and_closed(rootfs: Path, ordinary: bool, own_root: bool) -> None:
    """Not one byte of what is hidden, not one write to what is closed; all else is there."""
    text = (
        "for p in " + " ".join(HIDDEN) + "; do if [ -d $p ]; then ls -A $p; "
        "elif [ -e $p ]; then wc -c <$p; [ -f $p ] || echo no file; fi; done | sort -u; "
        "(echo x >/proc/sys/kernel/domainname) 2>&- || echo closed; "
        "(echo x >/proc/self/comm) && echo open; cat /proc/keys; "
        "test -r /proc/meminfo && echo there"
    )
    root = str(rootfs) if own_root else None
    options = f"root={root!r}, net=True, mounts={MASKED}, umask=0o077"
    output = inside(["sh", "-c", text], ordinary, options)
    assert output.split() == ["0", "closed", "open", "there"]


@both
def test_the_kernel_says_the_same(rootfs: Path, ordinary: bool) -> None:
    options = f"root={str(rootfs)!r}, net=True, mounts={MASKED}"
    output = inside(["cat", "/proc/self/mountinfo"], ordinary, options)
    seen = {}
    for line in output.splitlines():
        fields = line.split()
        seen[fields[4]] = fields[5].split(","), fields[fields.index("-") + 1], fields[3]
    for path in HIDDEN:
        if Path(path).exists():
            kind = "/folder" if Path(path).is_dir() else "/file"
            assert seen[path][1:] == ("tmpfs", kind), path
            assert {"ro", "nosuid", "nodev", "noexec"} <= set(seen[path][0]), path
    for path in CLOSED:
        if Path(path).exists():
            assert seen[path][1] == "proc"
            assert {"ro", "nosuid", "nodev", "noexec"} <= set(seen[path][0]), path
    assert seen["/proc"][0][0] == "rw"
    assert seen["/sys"][0][0] == "ro", "as runc, crun and Docker: root inside may not write to it"
    assert not {path for path in seen if path.startswith(("/proc/", "/sys/"))} - {
        *(HIDDEN + CLOSED),
        "/sys/devices/virtual/powercap",
    }


def test_the_paths_are_those_of_the_runtimes(tmp_path: Path) -> None:
    entries = [
        entry
        for value in (nsdemo.Proc(masked=True), nsdemo.Sysfs(masked=True))
        for entry in value._entries()
    ]
    hidden: set[str] = set()
    closed: set[str] = set()
    for _, _, names, target, more in (entry for entry in entries if entry[0] == 9):
        assert names is not None
        hidden |= {f"{target.decode()}/{name}" for name in names.decode().split(":")}
        closed |= {f"{target.decode()}/{name}" for name in (more or b"").decode().split(":")}
    closed.discard("/sys/")
    assert hidden - {"/sys/devices/virtual/powercap"} == set(HIDDEN)
    assert closed == set(CLOSED)
    for runtime in filter(None, map(shutil.which, ("runc", "crun"))):
        (tmp_path / "config.json").unlink(missing_ok=True)
        subprocess.run([runtime, "spec"], cwd=tmp_path, check=True)
        linux = json.loads((tmp_path / "config.json").read_text())["linux"]
        assert set(linux["maskedPaths"]) <= set(HIDDEN), runtime
        assert set(linux["readonlyPaths"]) == set(CLOSED), runtime


def test_a_user_namespace_inside_gets_no_new_proc() -> None:
    """The kernel shows nobody more than he saw before; the hint names what is covered."""
    nested = """
        call = lambda: nsdemo.run(["true"], user=True, stdin=nsdemo.DEVNULL)
        report(**outcome(call))
    """
    body = f"""
        done = nsdemo.run(command_of({nested!r}), mounts=[nsdemo.Proc(masked=True)],
            stdin=nsdemo.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        print(done.stdout.strip())
    """
    error = script(body).report["error"]
    assert error["operation"] == "mount"
    assert "only where the old one is wholly visible" in error["notes"][0]
    assert "/proc/sys" in error["notes"][0]


@both
def test_a_proc_at_any_path(rootfs: Path, ordinary: bool) -> None:
    text = "ls -d /some/where/1 /some/where/self; ls -A /proc"
    options = f"root={str(rootfs)!r}, overlay=True, mount_proc='/some/where'"
    assert inside(["sh", "-c", text], ordinary, options).split() == [
        *("/some/where/1", "/some/where/self")
    ]


def test_a_proc_at_a_path_is_a_mount() -> None:
    plan = nsdemo.spawn(["true"], mount_proc=Path("/mnt"), dry_run=True)
    assert plan == nsdemo.spawn(
        ["true"], mount_proc=False, mounts=[nsdemo.Proc("/mnt")], dry_run=True
    )
    with pytest.raises(ValueError, match="mount_proc= needs mount=True"):
        nsdemo.spawn(["true"], mount=False, mount_proc="/mnt", dry_run=True)
    with pytest.raises(ValueError, match="must begin with /"):
        nsdemo.spawn(["true"], mount_proc="mnt", dry_run=True)


def test_a_masked_proc_is_a_value() -> None:
    one = nsdemo.Proc(masked=True)
    assert one == pickle.loads(pickle.dumps(one)) == copy.copy(one) != nsdemo.Proc()
    assert "masked=True" in repr(one)
    assert "masked=True" in repr(nsdemo.Sysfs(masked=True))
    assert nsdemo.Sysfs(masked=True).readonly
    assert not nsdemo.Sysfs().readonly
    assert not one.readonly
    wrong: Any = "yes"
    with pytest.raises(TypeError, match="masked must be True or False"):
        nsdemo.Proc(masked=wrong)


def test_the_command_line() -> None:
    words = ["--masked-proc", "/proc", "--masked-sysfs", "/s", "--mount-proc=/p", "true"]
    keywords = flags.read("spawn", words).keywords
    assert keywords["mounts"] == [nsdemo.Proc(masked=True), nsdemo.Sysfs("/s", masked=True)]
    assert keywords["mount_proc"] == "/p"
    assert flags.read("spawn", ["--mount-proc", "true"]).keywords["mount_proc"] is True
    assert flags.read("spawn", ["--no-mount-proc", "true"]).keywords["mount_proc"] is False
    with pytest.raises(flags.FlagError, match="takes no value"):
        flags.read("spawn", ["--no-mount-proc=/p", "true"])
    with pytest.raises(flags.FlagError, match="needs a directory"):
        flags.read("spawn", ["--mount-proc=", "true"])
    call = flags.read("spawn", ["--masked-proc", "/proc", "cat", "/proc/keys"])
    done = call.plan(call.command).run(**QUIET, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"")
