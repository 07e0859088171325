"""chroot_run: what one expects who knows chroot(1)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import IS_ROOT, script
from targets import CAPTURED, only_root, tool

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("ordinary_users_may")


@pytest.fixture
def own() -> Iterator[Path]:
    with nsdemo.Rootfs.busybox() as root:
        yield Path(root)


def say(root: Any, args: list[str], **options: Any) -> str:
    done = nsdemo.chroot_run(root, args, **CAPTURED, **options)
    assert done.returncode == 0, done.stderr
    text: str = done.stdout.strip()
    return text


def chroot(*words: str) -> subprocess.CompletedProcess[str]:
    prefix = [] if IS_ROOT else [tool("unshare"), "--map-root-user"]
    return subprocess.run([*prefix, tool("chroot"), *words], **CAPTURED)


@pytest.mark.parametrize("status", [0, 1, 2, 125, 126, 127, 128, 255])
def test_the_exit_status_passes_through(status: int, rootfs: Path) -> None:
    """125 to 127, too, which chroot(1) also uses for itself."""
    command = ["sh", "-c", f"exit {status}"]
    assert nsdemo.chroot_run(rootfs, command).returncode == status
    assert chroot(str(rootfs), *command).returncode == status


@pytest.mark.parametrize("number", [1, 2, 6, 9, 15])
def test_a_signal_is_told_from_a_status(number: int, rootfs: Path) -> None:
    done = nsdemo.chroot_run(rootfs, ["sh", "-c", f"kill -{number} $$"])
    assert done.returncode == -number


def test_missing_and_not_executable_are_told_apart(own: Path) -> None:
    (own / "bin" / "plain").write_text("#!/bin/sh\n")
    (own / "bin" / "orphan").write_text("#!/absent/interpreter\n")
    (own / "bin" / "orphan").chmod(0o755)
    (own / "bin" / "empty").touch(0o755)
    (own / "bin" / "empty").chmod(0o755)
    cases: list[tuple[str, type[OSError], str, int]] = [
        ("absent", FileNotFoundError, "absent", 127),
        ("/bin/absent", FileNotFoundError, "/bin/absent", 127),
        ("/bin/orphan", FileNotFoundError, "/bin/orphan", 127),
        ("/bin/plain", PermissionError, "/bin/plain", 126),
        ("plain", PermissionError, "/bin/plain", 126),
        ("/bin", PermissionError, "/bin", 126),
        ("/bin/plain/x", NotADirectoryError, "/bin/plain/x", 126),
        ("/bin/empty", OSError, "/bin/empty", 126),
    ]
    for name, expected, filename, status in cases:
        with pytest.raises(expected) as caught:
            nsdemo.chroot_run(own, [name])
        assert type(caught.value) is expected  # and no failure of the set-up
        assert caught.value.filename == filename
        if name != "/bin/empty":  # execvp(3) gives it to a shell
            assert chroot(str(own), name).returncode == status


def test_a_root_that_cannot_be_is_a_failure_of_the_setup(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root, expected in (
        (tmp_path / "absent", FileNotFoundError),
        (tmp_path / "file", NotADirectoryError),
    ):
        with pytest.raises(expected) as caught:
            nsdemo.chroot_run(root, ["true"])
        assert isinstance(caught.value, nsdemo.NamespaceError)
        assert caught.value.step.operation == "chroot"
        assert caught.value.trace[-1] == caught.value.step
    with pytest.raises(ValueError, match="empty"):
        nsdemo.chroot_run("", ["true"])
    with pytest.raises(TypeError):
        nsdemo.chroot_run(b"/", ["true"])


@pytest.mark.parametrize("root", ["/", "/.", "/../", "link"])
def test_the_working_directory_is_the_root(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the new root is the old one: chroot(1) stays where it was with none but "/"."""
    link = tmp_path / "link"
    link.symlink_to("/")
    monkeypatch.chdir("/usr")
    given = str(link) if root == "link" else root
    assert say(given, ["pwd"], env={"PATH": os.defpath}) == "/"
    assert say(given, ["pwd"], env={"PATH": os.defpath}, cwd="/usr") == "/usr"
    assert os.getcwd() == "/usr"


def test_root_and_cwd_forms(rootfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(rootfs)
    monkeypatch.chdir(rootfs)
    for root in (".", "bin/..", tmp_path / "link", f"{rootfs}//", rootfs):
        assert say(root, ["sh", "-c", "pwd; readlink /bin/sh"]) == "/\nbusybox"
    assert say(rootfs, ["pwd"], cwd="tmp") == "/tmp"  # relative to the new root
    assert say(rootfs, ["pwd"], cwd="/../../tmp/.") == "/tmp"


@only_root
def test_ids_and_groups(rootfs: Path) -> None:
    assert say(rootfs, ["id", "-G"], groups=()) == "0"  # the primary group only
    assert say(rootfs, ["id", "-G"], groups=[5, 6]) == "0 5 6"
    assert say(rootfs, ["id", "-G"], gid=7, groups=()) == "7"
    assert say(rootfs, ["id", "-u"], uid=7) == "7"
    show = ["sh", "-c", "id -u; id -g; id -G"]
    theirs = chroot("--userspec=7:8", "--groups=9", str(rootfs), *show)
    assert say(rootfs, show, uid=7, gid=8, groups=[9]) == theirs.stdout.strip()


def test_an_ordinary_user_is_root_in_a_namespace_of_his_own(rootfs: Path) -> None:
    body = """
    root = sys.argv[1]
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    before = nsdemo.namespaces()["user"][1]
    done = nsdemo.chroot_run(root, ["sh", "-c", "id -u; id -g; pwd; readlink /bin/sh"], **options)
    naive = subprocess.run(["chroot", root, "true"], **options)
    try:
        nsdemo.chroot_run(root, ["true"], groups=())
        groups = "none"
    except PermissionError as error:
        groups = error.step.operation
    nsdemo.chroot_run(root, ["true"])
    report(out=done.stdout.split(), naive=naive.returncode, groups=groups,
           operations=[step.operation for step in done.trace],
           same=before == nsdemo.namespaces()["user"][1])
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    found = script(body, str(rootfs), ordinary=True, env=os.environ | {"PATH": path}).report
    assert found["out"] == ["0", "0", "/", "busybox"]
    assert found["naive"] == 125  # what chroot(1) says to him: Operation not permitted
    assert found["groups"] == "setgroups"
    assert found["operations"][:5] == ["clone", "write", "write", "write", "chroot"]
    assert found["same"]


def test_nothing_is_mounted_and_no_namespace_made_for_root(rootfs: Path) -> None:
    plan = nsdemo.chroot_run(rootfs, ["true"], dry_run=True)
    operations = {step.operation for step in plan}
    assert "mount" not in operations
    assert "fork" not in operations
    assert bool({"clone", "unshare"} & operations) == (not IS_ROOT)
    assert say(rootfs, ["ls", "/proc"]) == ""


def test_a_grandchild_that_holds_stdout_does_not_hang_us(rootfs: Path) -> None:
    done = nsdemo.chroot_run(
        rootfs, ["sh", "-c", "echo out; sleep 2 & exit 3"], timeout=1.5, **CAPTURED
    )
    assert (done.returncode, done.stdout) == (3, "out\n")
