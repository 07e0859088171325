"""Overlay, and overlay=True: changes go to memory, or to a directory, never to what is below."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from support import IS_ROOT, NO_ATTRIBUTES, ORDINARY, QUIET, let_in, memory_keeps_attributes, script

import nsdemo
import nsdemo.flags

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

both = pytest.mark.parametrize("ordinary", [False, True], ids=["caller", "ordinary"])


@pytest.fixture
def root(rootfs: Path, tmp_path: Path) -> Path:
    let_in(tmp_path)
    made = tmp_path / "root"
    shutil.copytree(rootfs, made, symlinks=True)
    (made / "o").mkdir()
    made.chmod(0o751)
    return made


def below(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything in a tree: kind and mode, time of change, content."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (status.st_mode, status.st_ctime_ns, content)
    return found


def inside(root: Path, text: str, ordinary: bool, options: str) -> str:
    body = f"""
        done = nsdemo.run(
            ["sh", "-c", {text!r}], root={str(root)!r}, {options},
            stdin=nsdemo.DEVNULL, capture_output=True, text=True,
        )
        report(output=done.stdout, error=done.stderr)
    """
    found = script(body, ordinary=ordinary).report
    assert found["error"] == ""
    output: str = found["output"]
    return output


@both
def test_the_root_stays_as_it_is(root: Path, ordinary: bool) -> None:
    if not memory_keeps_attributes(ordinary):
        pytest.skip(NO_ATTRIBUTES)
    if ordinary and IS_ROOT:  # root of a user namespace may not change other people's files
        for path in [root, *root.rglob("*")]:
            os.chown(path, ORDINARY, ORDINARY, follow_symlinks=False)
    before = below(root)
    host = Path("/proc/self/mountinfo").read_text()
    text = (
        "rm -r /etc; mkdir /etc; echo new >/etc/new; ls /etc; echo x >/bin/x; rm /bin/ls; "
        "stat -c %a /; awk '$5 == \"/\" { print $(NF-2) }' /proc/self/mountinfo; cat /mem/x"
    )
    mounts = "mounts=[nsdemo.Tmpfs('/made'), nsdemo.Bind('/etc/passwd', '/mem/x', readonly=True)]"
    output = inside(root, text, ordinary, f"overlay=True, {mounts}")
    assert output.split("\n", 3)[:3] == ["new", "751", "overlay"]
    assert "root:" in output
    assert below(root) == before, "not even the mount points were made in it"
    assert Path("/proc/self/mountinfo").read_text() == host
    # The next one begins anew.
    assert inside(root, "ls /etc", ordinary, "overlay=True") != "new\n"


@both
def test_full_directories_without_attributes_in_memory(root: Path, ordinary: bool) -> None:
    """Before Linux 6.6 an ordinary user's overlay cannot note that a directory hides another."""
    if ordinary and IS_ROOT:
        for path in [root, *root.rglob("*")]:
            os.chown(path, ORDINARY, ORDINARY, follow_symlinks=False)
    text = (
        "cd /; mkdir new new/x; rm -r new o; echo x >bin/x; mv bin/x y; rm bin/ls; rm y; "
        "rm -r etc 2>&1 | sed 's/.*: //'; ls -d etc"
    )
    output = inside(root, text + " 2>&1 | sed 's/.*: //'", ordinary, "overlay=True").splitlines()
    if memory_keeps_attributes(ordinary):
        assert output == ["No such file or directory"]
    else:
        assert output in ([os.strerror(errno.EIO), "etc"], ["I/O error", "etc"])
    assert (root / "etc" / "passwd").exists()


def test_the_root_method_may_be_chroot(root: Path) -> None:
    output = inside(root, "echo x >/x; ls /x", False, "overlay=True, root_method='chroot'")
    assert output == "/x\n"
    assert not (root / "x").exists()


@both
def test_layers(root: Path, tmp_path: Path, ordinary: bool) -> None:
    """The upmost lower directory wins; a comma and a colon in a name do no harm."""
    up, down = tmp_path / "a,upperdir=b:c", tmp_path / "down"
    for folder, words in ((up, "up"), (down, "down")):
        folder.mkdir()
        (folder / "same").write_text(words + "\n")
        (folder / words).write_text(words)
    before = below(up), below(down)
    output = inside(
        root,
        "ls /o; cat /o/same; rm /o/same; echo new >/o/new; ls /o",
        ordinary,
        f"mounts=[nsdemo.Overlay('/o', lower=[{str(up)!r}, {str(down)!r}])]",
    )
    assert output.split() == ["down", "same", "up", "up", "down", "new", "up"]
    assert (below(up), below(down)) == before


@both
def test_an_upper_directory_keeps_the_changes(root: Path, tmp_path: Path, ordinary: bool) -> None:
    lower, upper, work = (tmp_path / name for name in ("lower", "upper", "work"))
    for folder in (lower, upper, work):
        folder.mkdir()
        folder.chmod(0o777)
        if ordinary and IS_ROOT:
            os.chown(folder, ORDINARY, ORDINARY)
    (lower / "gone").touch()
    option = f"nsdemo.Overlay('/o', [{str(lower)!r}], {str(upper)!r}, {str(work)!r})"
    inside(root, "rm -f /o/gone; echo kept >/o/kept", ordinary, f"mounts=[{option}]")
    assert sorted(path.name for path in upper.iterdir()) == ["gone", "kept"]
    assert (upper / "kept").read_text() == "kept\n"
    assert inside(root, "ls /o", ordinary, f"mounts=[{option}]") == "kept\n"
    assert (lower / "gone").exists()


@both
def test_what_an_overlay_cannot_lie_on(root: Path, tmp_path: Path, ordinary: bool) -> None:
    host = Path("/proc/self/mountinfo").read_text()
    for arguments, number in (
        ("lower=['/etc/passwd']", (errno.EINVAL,)),
        ("lower=['/proc']", (errno.EINVAL,)),
        ("lower=['/etc'], upper='/proc', work='/proc/self'", (errno.EINVAL, errno.EPERM)),
        ("lower=['/no/such']", (errno.ENOENT,)),
    ):
        body = f"""
            mount = nsdemo.Overlay("/o", {arguments})
            report(**outcome(lambda: nsdemo.run(["true"], root={str(root)!r}, mounts=[mount])))
        """
        found = script(body, ordinary=ordinary).report
        assert found["error"]["errno"] in number, arguments
        assert found["error"]["notes"], arguments
        assert found["left"] == []
    assert Path("/proc/self/mountinfo").read_text() == host


@both
def test_a_target_that_is_a_link(root: Path, tmp_path: Path, ordinary: bool) -> None:
    (tmp_path / "outside").mkdir(mode=0o777)
    (root / "out").symlink_to(tmp_path / "outside")
    body = f"""
        mount = nsdemo.Overlay("/out", lower=["/etc"])
        report(**outcome(lambda: nsdemo.run(["true"], root={str(root)!r}, mounts=[mount])))
    """
    found = script(body, ordinary=ordinary).report
    assert found["error"]["errno"] == errno.ELOOP
    assert "is a symbolic link to" in found["error"]["notes"][0]


def test_arguments_that_cannot_be() -> None:
    with pytest.raises(TypeError, match="lower is a list"):
        nsdemo.Overlay("/o", lower="/etc")
    with pytest.raises(ValueError, match="lower is empty"):
        nsdemo.Overlay("/o", lower=[])
    with pytest.raises(ValueError, match="go together"):
        nsdemo.Overlay("/o", lower=["/etc"], upper="/tmp")
    with pytest.raises(ValueError, match="overlay=True needs root="):
        nsdemo.spawn(["true"], overlay=True)
    with pytest.raises(ValueError, match="needs root= and mount=True"):
        nsdemo.spawn(
            ["true"], root="/tmp", root_method="chroot", mount=False, pid=False, overlay=True
        )


def test_the_command_line(root: Path) -> None:
    if not memory_keeps_attributes(False):
        pytest.skip(NO_ATTRIBUTES)
    call = nsdemo.flags.read("spawn", ["--root", str(root), "--overlay", "rm", "-r", "/etc"])
    assert call.plan(call.command).run(**QUIET).returncode == 0
    assert (root / "etc").is_dir()
