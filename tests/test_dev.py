"""Dev: a /dev for a container, compared with bubblewrap's."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
from support import let_in, script

import nsdemo

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

BWRAP = shutil.which("bwrap")
both = pytest.mark.parametrize("ordinary", [False, True], ids=["caller", "ordinary"])

# Name, kind and mode or content of all in /dev, then its mounts.
LOOK = """
for name in /dev/*; do
    if [ -L $name ]; then echo "$name -> $(readlink $name)"; else stat -c '%n %F %a %t:%T' $name; fi
done
awk '$5 ~ "^/dev" { print $5, $6, $(NF-2) }' /proc/self/mountinfo | sed 's/,relatime//'
"""


def look(body: str, ordinary: bool) -> list[str]:
    found = script(body, ordinary=ordinary).report
    assert found["error"] == ""
    lines: list[str] = found["output"].splitlines()
    return sorted(lines)


def in_dev(root: Path, command: str, ordinary: bool, more: str = "") -> list[str]:
    return look(
        f"""
        done = nsdemo.run(
            ["sh", "-c", {command!r}], root={str(root)!r}, mounts=[nsdemo.Dev()], {more}
            stdin=nsdemo.DEVNULL, capture_output=True, text=True,
        )
        report(output=done.stdout, error=done.stderr)
        """,
        ordinary,
    )


@both
def test_it_is_what_bubblewrap_makes_and_mqueue(rootfs: Path, ordinary: bool) -> None:
    if BWRAP is None:
        pytest.skip("there is no bwrap (on Debian: apt-get install bubblewrap)")
    command = [BWRAP, "--unshare-all", "--bind", str(rootfs), "/", "--proc", "/proc"]
    theirs = look(
        f"""
        done = subprocess.run(
            {[*command, "--dev", "/dev", "sh", "-c", LOOK]!r},
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )
        report(output=done.stdout, error=done.stderr)
        """,
        ordinary,
    )
    ours = in_dev(rootfs, LOOK, ordinary)
    names = {line.split()[0] for line in ours if not line.endswith(("devtmpfs", "tmpfs", "devpts"))}
    assert names == {
        f"/dev/{name}"
        for name in (
            *("null", "zero", "full", "random", "urandom", "tty", "fd", "stdin", "stdout"),
            *("stderr", "ptmx", "pts", "shm", "mqueue"),
        )
    }
    kinds = [line for line in ours if "special" in line or "->" in line]
    assert len(kinds) == 11
    theirs = [line for line in theirs if "/dev/core" not in line and "console" not in line]
    assert kinds == [line for line in theirs if "special" in line or "->" in line]
    assert "/dev/shm directory 1777 0:0" in ours
    assert "/dev rw,nosuid,nodev tmpfs" in ours
    assert "/dev rw,nosuid,nodev tmpfs" in theirs
    assert "/dev/pts rw,nosuid,noexec devpts" in ours
    assert "/dev/pts rw,nosuid,noexec devpts" in theirs
    assert "/dev/shm rw,nosuid,nodev tmpfs" in ours
    assert "/dev/mqueue rw,nosuid,nodev,noexec mqueue" in ours
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        assert any(line.startswith(f"/dev/{name} rw,nosuid,noexec") for line in ours), name


@both
def test_it_works(rootfs: Path, ordinary: bool) -> None:
    text = (
        "echo gone >/dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; "
        "(echo x >/dev/full) 2>/dev/null || echo full; echo here | cat /dev/stdin; "
        "exec 5<>/dev/ptmx; ls /dev/pts; echo x >/dev/shm/x; cat /dev/shm/x; umask"
    )
    found = in_dev(rootfs, text, ordinary, "umask=0o27,")
    assert found == sorted(["3", "3", "full", "here", "0", "ptmx", "x", "0027"])


@both
def test_without_a_new_ipc_namespace_there_is_no_mqueue(rootfs: Path, ordinary: bool) -> None:
    found = in_dev(rootfs, "ls /dev", ordinary, "ipc=False,")
    assert "mqueue" not in found
    assert "shm" in found


def test_it_covers_ours_where_there_is_no_root() -> None:
    done = nsdemo.run(
        ["ls", "/dev"], mounts=[nsdemo.Dev()], stdin=nsdemo.DEVNULL, capture_output=True, text=True
    )
    assert len(done.stdout.split()) == 14


# -- rules 7 and 8 ------------------------------------------------------------------------------


@both
def test_a_device_that_was_swapped_is_refused(rootfs: Path, ordinary: bool) -> None:
    """A file, or another device, where /dev/null should be: nothing is bound."""
    for other in ("/dev/zero", "/etc/passwd"):
        body = f"""
            plan = nsdemo.Plan().unshare("user").map_root().unshare("mount").make_private()
            plan = plan.mounts([nsdemo.Bind({other!r}, "/dev/null")])
            plan = plan.mounts([nsdemo.Dev()], root={str(rootfs)!r})
            report(**outcome(lambda: plan.exec(["true"]).run()))
        """
        found = script(body, ordinary=ordinary).report
        assert (found["error"]["operation"], found["error"]["errno"]) == (
            "open_source",
            errno.ENODEV,
        )
        assert "not the device of that name" in found["error"]["notes"][0]


@both
def test_a_root_whose_dev_leads_elsewhere(rootfs: Path, tmp_path: Path, ordinary: bool) -> None:
    let_in(tmp_path)
    root, outside = tmp_path / "root", tmp_path / "outside"
    shutil.copytree(rootfs, root, symlinks=True)
    outside.mkdir(mode=0o777)
    (outside / "marker").write_text("untouched")
    shutil.rmtree(root / "dev")  # others may have left something there
    (root / "dev").symlink_to(outside)
    body = f"""
        call = lambda: nsdemo.run(["true"], root={str(root)!r}, mounts=[nsdemo.Dev()])
        report(**outcome(call))
    """
    found = script(body, ordinary=ordinary).report
    assert found["error"]["errno"] == errno.ELOOP
    assert found["left"] == []
    assert [path.name for path in outside.iterdir()] == ["marker"]


def test_the_roots_own_devices_are_not_looked_at(rootfs: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(rootfs, root, symlinks=True)
    (root / "dev" / "null").write_text("a trap")
    command = ["sh", "-c", "echo x >/dev/null; test -c /dev/null && echo device"]
    done = nsdemo.run(
        command, root=root, mounts=[nsdemo.Dev()], stdin=nsdemo.DEVNULL, capture_output=True
    )
    assert done.stdout == b"device\n"
    assert (root / "dev" / "null").read_text() == "a trap"
