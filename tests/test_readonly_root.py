"""readonly_root=True: only what was asked for can be written to; compared with bubblewrap."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support import let_in, refusing, script

import nsdemo
import nsdemo.flags

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

both = pytest.mark.parametrize("ordinary", [False, True], ids=["caller", "ordinary"])
LOOK = ["awk", "{ print $5, substr($6, 1, 2) }", "/proc/self/mountinfo"]


@pytest.fixture
def root(rootfs: Path, tmp_path: Path) -> Path:
    """A root of this test alone, that anybody may change."""
    made = tmp_path / "root"
    shutil.copytree(rootfs, made, symlinks=True)
    let_in(tmp_path)
    for folder in (made, *made.rglob("*")):
        if folder.is_dir() and not folder.is_symlink() and os.access(folder, os.W_OK):
            folder.chmod(0o777)
    return made


def output_of(body: str, ordinary: bool) -> str:
    found = script(body, ordinary=ordinary).report
    assert found["error"] == ""
    text: str = found["output"]
    return text


def inside(root: Path | None, command: list[str], ordinary: bool, more: str) -> str:
    return output_of(
        f"""
        done = nsdemo.run(
            {command!r}, root={str(root) if root else None!r}, readonly_root=True, {more}
            stdin=nsdemo.DEVNULL, capture_output=True, text=True,
        )
        report(output=done.stdout, error=done.stderr)
        """,
        ordinary,
    )


@both
def test_the_kernel_sees_what_bubblewrap_makes(root: Path, ordinary: bool) -> None:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        pytest.skip("there is no bwrap (on Debian: apt-get install bubblewrap)")
    command = [bwrap, "--unshare-all", "--bind", str(root), "/", "--proc", "/proc"]
    command += ["--tmpfs", "/tmp", "--ro-bind", "/etc", "/etc", "--remount-ro", "/", *LOOK]
    theirs = output_of(
        f"""
        done = subprocess.run(
            {command!r}, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        report(output=done.stdout, error=done.stderr)
        """,
        ordinary,
    )
    mounts = "mounts=[nsdemo.Tmpfs('/tmp'), nsdemo.Bind('/etc', '/etc', readonly=True)],"
    ours = inside(root, LOOK, ordinary, mounts)
    found = [line.split() for line in ours.splitlines()]
    assert dict(found)["/"] == "ro"
    assert dict(found)["/tmp"] == "rw"
    for one in (ours, theirs):
        assert {tuple(line.split()) for line in one.splitlines()} >= {
            *(("/", "ro"), ("/tmp", "rw"), ("/etc", "ro"), ("/proc", "rw")),
        }


@both
def test_nothing_else_can_be_written_to(root: Path, ordinary: bool) -> None:
    text = (
        "for f in /x /etc/x /new/x /made/x; do (echo >$f) 2>/dev/null && echo wrote $f; done; "
        "ls -d /new; mount -o remount,bind,rw / 2>/dev/null; echo end"
    )
    mounts = (
        "mounts=[nsdemo.Tmpfs('/new'), nsdemo.Bind('/etc', '/made', readonly=True), nsdemo.Dev()],"
    )
    assert inside(root, ["sh", "-c", text], ordinary, mounts).split() == [
        *("wrote", "/new/x", "/new", "end"),
    ]
    assert not (root / "x").exists()


def test_what_was_mounted_below_the_root_is_closed_too(root: Path) -> None:
    """Seen in a user namespace, in which those mounts are somebody else's."""
    body = f"""
        command = {LOOK!r}
        root = {str(root)!r}
        inner = ("import sys, os; sys.path[:0] = " + repr(sys.path[:2]) + "; import nsdemo; "
            "from nsdemo import mounts; from nsdemo._why import placed; "
            "print(nsdemo.run(" + repr(command) + ", root=" + repr(root) + ", user=True, "
            "readonly_root=True, mounts=[nsdemo.Tmpfs('/var/new')], stdin=nsdemo.DEVNULL, "
            "capture_output=True, text=True).stdout)")
        below = [nsdemo.Tmpfs(root + "/var"), nsdemo.Tmpfs(root + "/run")]
        done = nsdemo.run([sys.executable, "-c", inner], mounts=below, stdin=nsdemo.DEVNULL,
            capture_output=True, text=True)
        report(output=done.stdout, error=done.stderr)
    """
    found = script(body).report
    # A directory for the new mount would have to be made where nothing can be written any more.
    assert "Read-only file system" in found["error"]
    body = body.replace("/var/new", "/tmp")
    found = dict(line.split() for line in output_of(body, False).split("\n") if line)
    assert (found["/"], found["/var"], found["/run"], found["/tmp"]) == ("ro", "ro", "ro", "rw")


@both
def test_without_a_root_ours_is_closed(ordinary: bool) -> None:
    host = Path("/proc/self/mountinfo").read_text()
    text = "(echo >/tmp/nsdemo-x) 2>/dev/null || echo closed; echo >/dev/shm/x; rm /dev/shm/x"
    mounts = "mounts=[nsdemo.Tmpfs('/dev/shm')],"
    assert inside(None, ["sh", "-c", text], ordinary, mounts) == "closed\n"
    assert Path("/proc/self/mountinfo").read_text() == host


def test_with_an_overlay(root: Path) -> None:
    mounts = "overlay=True, mounts=[nsdemo.Tmpfs('/brand/new')],"
    found = dict(line.split() for line in inside(root, LOOK, False, mounts).splitlines())
    assert (found["/"], found["/brand/new"]) == ("ro", "rw")
    assert not (root / "brand").exists()


def test_arguments_that_cannot_be(root: Path) -> None:
    with pytest.raises(ValueError, match="readonly_root=True needs mount=True"):
        nsdemo.spawn(["true"], mount=False, readonly_root=True)
    with pytest.raises(ValueError, match="needs root_method='pivot_root'"):
        nsdemo.spawn(["true"], root=root, root_method="chroot", readonly_root=True)


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_without_the_system_call(root: Path, error: str) -> None:
    """The old remount, for each mount below: the kernel sees no difference."""
    body = f"""
        options = dict(readonly_root=True, stdin=nsdemo.DEVNULL, capture_output=True, text=True)
        mounts = [nsdemo.Bind("/dev", "/host/dev"), nsdemo.Tmpfs("/tmp"), nsdemo.Dev()]
        own = nsdemo.run({LOOK!r}, **options)
        done = nsdemo.run({LOOK!r}, root={str(root)!r}, mounts=mounts, **options)
        report(output=[own.stdout.split(chr(10)), done.stdout.split(chr(10))])
    """
    plain, refused = (
        script(body).report,
        script(body, under=refusing("mount_setattr", error)).report,
    )
    # Of mounts that cover each other only the last can be reached, and is looked at.
    seen, expected = (
        [dict(line.split() for line in lines if line) for lines in found["output"]]
        for found in (refused, plain)
    )
    assert seen == expected
    assert (seen[0]["/"], seen[1]["/"], seen[1]["/tmp"]) == ("ro", "ro", "rw")


def test_the_command_line_and_a_plan(root: Path) -> None:
    call = nsdemo.flags.read("spawn", ["--root", str(root), "--readonly-root", "touch", "/x"])
    done = call.plan(call.command).run(stdin=nsdemo.DEVNULL, capture_output=True)
    assert b"Read-only file system" in done.stderr
    plan = nsdemo.Plan().unshare("user").map_root().unshare("mount").make_private()
    plan = plan.bind(root, root).make_readonly(root).exec(["touch", f"{root}/x"])
    done = plan.run(stdin=nsdemo.DEVNULL, capture_output=True)
    assert b"Read-only file system" in done.stderr
    assert "AT_RECURSIVE" in str(plan)
