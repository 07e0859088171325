"""The working directory of a container that mounts something: the same path, as seen inside.

A process that was in a directory before something was mounted over it stays below the mount,
with its relative paths; so the command goes to the path of that directory again.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import IS_ROOT, QUIET, script

import nsdemo
from nsdemo import Bind, Overlay, Plan, Proc, Tmpfs

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

# Is where we are the directory that its path leads to? And can anything be left here?
LOOK = '[ . -ef "$(pwd -P)" ] && pwd -P; echo changed >file; touch left; true'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that we are in, with a file."""
    folder = tmp_path / "above" / "here"
    folder.mkdir(parents=True)
    (folder / "file").write_text("ours\n")
    monkeypatch.chdir(folder)
    return folder


def untouched(folder: Path) -> bool:
    return (folder / "file").read_text() == "ours\n" and os.listdir(folder) == ["file"]


def sh(text: str, **options: Any) -> Any:
    return nsdemo.run(["/bin/sh", "-c", text], **QUIET, capture_output=True, text=True, **options)


COVERED: dict[str, Callable[[Path], dict[str, Any]]] = {
    "read-only": lambda here: {"mounts": [Bind(here, here, readonly=True)]},
    "read-only above": lambda here: {"mounts": [Bind(here.parent, here.parent, readonly=True)]},
    "memory": lambda here: {"mounts": [Tmpfs(here)]},
    "memory above": lambda here: {"mounts": [Tmpfs(here.parent), Tmpfs(here)]},
    "layers": lambda here: {"mounts": [Overlay(here, lower=[here])]},
    "layers above": lambda here: {"mounts": [Overlay(here.parent, lower=[here.parent])]},
    "another": lambda here: {"mounts": [Bind("/usr", here, readonly=True)]},
    "read-only root": lambda here: {"readonly_root": True},
}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "init": {"init": True},
    "no pid namespace": {"pid": False},
    "no fork": {"fork": False, "pid": False},
    "relative cwd": {"cwd": "."},
    "relative cwd, init": {"cwd": "../here", "init": True},
    "a link of /proc": {"cwd": "/proc/self/cwd"},
    "a link of /proc, init": {"cwd": "/proc/self/cwd/.", "init": True},
    "user namespace": {"user": True},
    "no capabilities": {"capabilities": [], "user": True},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("covered", COVERED)
def test_the_command_is_not_below_a_mount(here: Path, covered: str, way: str) -> None:
    options = COVERED[covered](here) | WAYS[way]
    done = sh(LOOK, **options)
    assert done.stdout == f"{here}\n", done.stderr
    assert untouched(here)
    if options.keys() <= {"mounts", "readonly_root"}:
        plan = nsdemo.run(["/bin/sh", "-c", LOOK], **options, dry_run=True)
        assert "chdir(getcwd())" in str(plan)
        assert plan.run(**QUIET, stderr=nsdemo.DEVNULL).returncode == 0
        assert untouched(here)


def test_a_relative_command_is_that_of_the_mount(here: Path) -> None:
    shutil.copy("/bin/echo", here / "tool")
    mounts = [Bind("/bin", here / "bin"), Bind("/usr/bin", here)]
    done = nsdemo.run(["./dirname", "a/b"], **QUIET, mounts=mounts, capture_output=True)
    assert done.stdout == b"a\n"
    with pytest.raises(FileNotFoundError):
        nsdemo.run(["./tool"], **QUIET, mounts=mounts)


def test_a_plan_by_hand(here: Path) -> None:
    plan = Plan().unshare("mount") if IS_ROOT else Plan().unshare("user").map_root()
    plan = plan if IS_ROOT else plan.unshare("mount")
    plan = plan.make_private().mounts([Bind(here, here, readonly=True)])
    done = plan.exec(["/bin/sh", "-c", LOOK]).run(**QUIET, capture_output=True)
    assert done.stdout == f"{here}\n".encode()
    assert untouched(here)


def test_a_plan_by_hand_is_warned_of(here: Path) -> None:
    """Its steps are system calls: after mount(2) a process is where it was."""
    plan = Plan().unshare("mount").make_private()
    for over in (here, here.parent):
        mounted = plan.mount("tmpfs", over, "tmpfs")
        (warning,) = (line for line in str(mounted).splitlines() if "# warning" in line)
        assert warning.startswith(
            f"# warning: step 3 mounts over {over}, and the working directory"
        )
        assert f".chdir({str(here)!r})" in warning
        for left in (mounted.chdir("/usr"), mounted.chroot("/usr"), mounted.chdir(here)):
            assert "# warning" not in str(left)
        assert "# warning" in str(mounted.chdir("below"))
    for other in (here / "below", here.parent / "another"):
        assert "# warning" not in str(plan.bind("/usr", other))
    assert "# warning" not in str(plan.mounts([Tmpfs(here)]))


def test_the_command_line(here: Path) -> None:
    words = ["nsdemo", "spawn", "--ro-bind", str(here), str(here), "--", "sh", "-c", LOOK]
    body = f"import nsdemo._cli.main\nsys.exit(nsdemo._cli.main.main({words[1:]!r}))"
    done = script(body, cwd=here)
    assert done.stdout == f"{here}\n", done.stderr
    assert untouched(here)


@pytest.mark.parametrize("cwd", [None, "/"])
def test_an_init_is_not_below_either(here: Path, cwd: str | None) -> None:
    if not IS_ROOT:
        pytest.skip("only root looks at an init")
    find = "stat -Lc %i /proc/1/cwd"
    inode = int(sh(find, mounts=[Tmpfs(here)], init=True, cwd=cwd).stdout)
    assert inode != here.stat().st_ino


def test_below_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc")
    for options in ({}, {"init": True}, {"mounts": [Proc()]}, {"user": True}):
        assert sh("readlink self; cat self/stat", **options).stdout[0] in "123"
        assert sh("readlink self", **options).stdout.split()[0] in ("2", "3")
    assert "getcwd" in str(nsdemo.run(["true"], dry_run=True))
    assert "getcwd" not in str(nsdemo.run(["true"], dry_run=True, mount_proc=False))
    monkeypatch.chdir(f"/proc/{os.getpid()}")
    with pytest.raises(FileNotFoundError) as caught:
        sh("true")
    assert str(caught.value).endswith(f"/proc/{os.getpid()}: No such file or directory")
    assert "/proc is covered" in caught.value.__notes__[0]
    assert sh("pwd", cwd="/proc").stdout == "/proc\n"


def test_a_plan_of_another_directory_is_not_run_below_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = nsdemo.run(["true"], dry_run=True, **QUIET)
    monkeypatch.chdir("/proc/self")
    for call in (plan.run, plan.start):
        with pytest.raises(ValueError, match="make it anew"):
            call()
    assert nsdemo.run(["true"], dry_run=True, **QUIET, cwd="/").run().returncode == 0


def test_the_root_that_is_there_already(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr")
    (name,) = here.parent.parts[1:2]
    for root in ("/", "/.", "/usr/.."):
        assert sh("pwd", root=root).stdout == "/\n"
        assert sh("pwd", root=root, cwd="usr/bin").stdout == "/usr/bin\n"
        assert sh("pwd", root=root, cwd=name, mounts=[Tmpfs(f"/{name}")]).stdout == f"/{name}\n"
        assert sh("pwd", root=root, root_method="chroot", cwd="usr").stdout == "/usr\n"


# -- a directory that cannot be gone to ---------------------------------------------------------


def test_a_path_that_is_not_there_any_more(here: Path) -> None:
    for options in ({}, {"init": True}, {"cwd": "."}):
        with pytest.raises(FileNotFoundError) as caught:
            sh("true", mounts=[Tmpfs(here.parent)], **options)
        assert f"change to the working directory {here}: " in str(caught.value)
        assert f"{here.parent} is covered" in caught.value.__notes__[0]
        assert "pass cwd=" in caught.value.__notes__[0]
    done = sh("pwd", mounts=[Tmpfs(here.parent)], cwd="/")
    assert done.stdout == "/\n"
    with pytest.raises(NotADirectoryError):
        sh("true", mounts=[Tmpfs(here.parent), Bind("/etc/passwd", here)])


def test_a_directory_that_was_deleted(here: Path) -> None:
    shutil.rmtree(here)
    mounts = [Bind("/etc", "/mnt"), Overlay("/mnt", lower=["/etc"]), Tmpfs("/mnt")]
    for mount in mounts:
        assert sh("pwd; ls ..", mounts=[mount]).stdout == sh("pwd; ls ..", cwd="/").stdout
    for options in ({"cwd": ".."}, {"cwd": "x"}):
        with pytest.raises(FileNotFoundError) as caught:
            sh("true", mounts=mounts, **options)
        assert "was deleted" in caught.value.__notes__[0]
    for call in (lambda: sh("true", cwd="x"), lambda: nsdemo.run(["./x"], **QUIET)):
        with pytest.raises(FileNotFoundError) as caught:
            call()
        (note,) = caught.value.__notes__
        assert note.endswith("x, and the working directory, where that begins, was deleted")
    with pytest.raises(FileNotFoundError) as caught:
        nsdemo.run(["../usr/bin/true"], **QUIET, mounts=mounts)
    assert caught.value.step.operation == "chdir"
    done = nsdemo.run(["../usr/bin/true"], **QUIET, mounts=mounts, cwd="/mnt")
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["Bind", "Overlay", "Rootfs", "root", "persist", "pin"])
def test_a_deleted_directory_is_asked_for_relative_paths_alone(here: Path, name: str) -> None:
    made: dict[str, Callable[[str], object]] = {
        "Bind": lambda path: Bind(path, "/mnt"),
        "Overlay": lambda path: Overlay("/mnt", lower=[path]),
        "Rootfs": lambda path: nsdemo.Rootfs(path).remove(),
        "root": lambda path: nsdemo.run(["true"], root=path, dry_run=True),
        "persist": lambda path: nsdemo.run(["true"], uts=True, persist={"uts": path}, dry_run=True),
        "pin": lambda path: Plan().unshare("uts").pin("uts", path),
    }
    shutil.rmtree(here)
    made[name](str(here.parent / "absolute"))
    with pytest.raises(FileNotFoundError, match="was deleted, and this path begins there") as error:
        made[name]("relative")
    assert os.fsdecode(error.value.filename) == "relative"


def test_a_root_from_the_host_where_the_directory_was_deleted(here: Path) -> None:
    shutil.rmtree(here)
    with nsdemo.Rootfs.from_host(["/bin/true"]) as root:
        assert nsdemo.run(["/bin/true"], **QUIET, root=root).returncode == 0


def test_a_directory_without_a_path(here: Path) -> None:
    """What was mounted there is gone, and we are still in it."""
    if not IS_ROOT:
        pytest.skip("only root mounts in our own namespace")
    body = """
    import subprocess
    os.chdir("/")
    subprocess.run(["mount", "-t", "tmpfs", "none", sys.argv[1]], check=True)
    os.chdir(sys.argv[1])
    subprocess.run(["umount", "-l", sys.argv[1]], check=True)
    errors = []
    for options in ({"mounts": [nsdemo.Tmpfs("/mnt")]}, {"readonly_root": True}):
        try:
            nsdemo.run(["true"], stdin=nsdemo.DEVNULL, **options)
        except OSError as error:
            errors.append(facts_of(error))
    os.chdir("/")
    report(errors=errors)
    """
    errors = script(body, str(here)).report["errors"]
    assert len(errors) == 2
    for error in errors:
        assert (error["operation"], error["errno"]) == ("chdir", errno.EXDEV)
        assert "has no path" in error["notes"][0]


def test_a_directory_that_we_may_not_look_into() -> None:
    """A mount must not leave a process in its target because the way back is closed."""
    body = """
    os.chdir(sys.argv[1])
    become_ordinary()
    done = nsdemo.run(["readlink", "/proc/self/cwd"], stdin=nsdemo.DEVNULL, capture_output=True)
    try:
        nsdemo.run(["true"], mounts=[nsdemo.Tmpfs("/mnt")], stdin=nsdemo.DEVNULL)
    except OSError as error:
        found = facts_of(error)
    os.chdir("/")
    report(cwd=done.stdout.decode(), error=found)
    """
    if not IS_ROOT:
        pytest.skip("only root makes a directory that is closed to the caller")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        found = script(body, folder).report
    assert found["cwd"] == f"{folder}\n"
    assert (found["error"]["operation"], found["error"]["errno"]) == ("chdir", errno.EACCES)
    assert f"may not look into {folder}" in found["error"]["notes"][0]
