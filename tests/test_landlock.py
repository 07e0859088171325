"""landlock=: a command opens what it is allowed, and nothing else."""

from __future__ import annotations

import errno
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import QUIET, leftovers_now, let_in, script, snapshot

import nsdemo
from nsdemo import Landlock, NamespaceError, flags

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

both = pytest.mark.parametrize("ordinary", [False, True], ids=["caller", "ordinary"])


@pytest.fixture(autouse=True)
def landlock() -> None:
    try:
        nsdemo.run(["true"], landlock=Landlock(["/"]), **QUIET)
    except NamespaceError as error:
        if error.step.operation != "landlock":
            raise
        pytest.skip(f"this kernel has no Landlock that forbids truncate(2): {error}")


@pytest.fixture
def root(rootfs: Path, tmp_path: Path) -> Path:
    let_in(tmp_path)
    made = tmp_path / "root"
    shutil.copytree(rootfs, made, symlinks=True)
    for name in ("readable", "writable", "closed"):
        (made / name).mkdir()
        (made / name / "file").write_text("old\n")
        (made / name).chmod(0o777)
        (made / name / "file").chmod(0o666)
    return made


TRIES = (
    "cat /readable/file; cat /writable/file; cat /closed/file; ls /closed; ls /; "
    "echo new >/readable/file; truncate -s 0 /readable/file; rm /readable/file; "
    "mv /writable/file /readable/other; mkdir /readable/d; "
    "echo new >>/writable/file; mkdir /writable/d; mv /writable/file /writable/d/f; "
    "cat /writable/d/f; ln -s /closed/file /writable/l; cat /writable/l; "
    "mount -t tmpfs x /writable; umount /proc; chroot /closed /bin/true; "
    "grep NoNewPrivs /proc/self/status"
)


@both
@pytest.mark.parametrize("options", ["", "init=True", "user=True"])
def test_what_is_allowed_and_nothing_else(root: Path, ordinary: bool, options: str) -> None:
    body = f"""
        done = nsdemo.run(["sh", "-c", {TRIES!r}], root={str(root)!r}, {options or ""}
            {"," if options else ""} stdin=nsdemo.DEVNULL, capture_output=True, text=True,
            landlock=nsdemo.Landlock(read=["/bin", "/readable", "/proc"], write=["/writable"]))
        report(output=done.stdout, error=done.stderr)
    """
    found = script(body, ordinary=ordinary).report
    assert found["output"].split() == ["old", "old", "old", "new", "NoNewPrivs:", "1"]
    assert (root / "readable" / "file").read_text() == "old\n"
    assert [path.name for path in (root / "readable").iterdir()] == ["file"]
    refused = found["error"].lower()
    assert refused.count("denied") + refused.count("not permitted") >= 10, refused
    assert (root / "writable" / "l").is_symlink()


def test_what_is_open_already_stays_so(root: Path) -> None:
    with open("/etc/passwd", "rb") as file:
        done = nsdemo.run(
            ["cat"], root=root, landlock=Landlock(["/bin"]), stdin=file, capture_output=True
        )
    assert done.stdout == Path("/etc/passwd").read_bytes()


def test_a_single_file(root: Path) -> None:
    only = Landlock(read=["/bin"], write=["/closed/file"])
    command = ["sh", "-c", "echo new >/closed/file; cat /closed/file; ls /closed"]
    done = nsdemo.run(command, root=root, landlock=only, **QUIET, capture_output=True)
    assert (done.stdout, done.returncode) == (b"new\n", 1)


def test_paths_are_those_inside_at_the_end(root: Path) -> None:
    """After the mounts; and a filter that forbids Landlock comes behind it."""
    only = Landlock(read=["/bin", "/data"])
    mounts = [nsdemo.Bind(root / "closed", "/data")]
    done = nsdemo.run(
        ["cat", "/data/file"], root=root, overlay=True, mounts=mounts, landlock=only,
        **QUIET, capture_output=True,
    )  # fmt: skip
    assert done.stdout == b"old\n"
    operations = [step.operation for step in done.trace]
    assert operations[-5:] == ["landlock", *["landlock_allow"] * 2, "landlock_restrict", "exec"]
    assert operations.index("no_new_privs") < operations.index("landlock")


def test_in_all_calls(root: Path) -> None:
    only = Landlock(["/bin"])
    command = ["cat", "/closed/file"]
    options: dict[str, Any] = {**QUIET, "capture_output": True}
    assert nsdemo.chroot_run(root, command, **options).stdout == b"old\n"
    assert nsdemo.chroot_run(root, command, landlock=only, **options).returncode == 1
    with nsdemo.spawn(["sleep", "100"], root=root, **QUIET) as box:
        assert box.enter(command, **options).stdout == b"old\n"
        assert box.enter(command, landlock=only, **options).returncode == 1
    plan = nsdemo.Plan().no_new_privs().landlock(Landlock(["/usr"])).exec(["true"])
    assert 'landlock_add_rule(PATH_BENEATH, {read, "/usr"})' in str(plan)


def test_what_cannot_be_says_why(root: Path) -> None:
    before = snapshot()
    with pytest.raises(FileNotFoundError) as caught:
        nsdemo.run(["true"], root=root, landlock=Landlock(["/none"]), **QUIET)
    assert isinstance(caught.value, NamespaceError)
    assert "let /none be read under Landlock" in str(caught.value)
    assert "/none" in caught.value.__notes__[0]
    with pytest.raises(PermissionError) as refused:
        nsdemo.run(["/bin/true"], root=root, landlock=Landlock(["/closed"]), **QUIET)
    assert not isinstance(refused.value, NamespaceError)
    assert "Landlock lets only what is below" in refused.value.__notes__[0]
    assert leftovers_now(before) == []


@pytest.mark.parametrize(
    ("answer", "number", "words"),
    [
        ("retval=2", errno.EOPNOTSUPP, "Linux 6.2, which can forbid truncate(2)"),
        ("error=EOPNOTSUPP", errno.EOPNOTSUPP, "switched on at boot"),
        ("error=ENOSYS", errno.ENOSYS, "Landlock"),
    ],
)
def test_a_kernel_without_it_is_an_error(answer: str, number: int, words: str) -> None:
    """Version 2, of Linux 5.19 to 6.1, would let a file be emptied that may only be read."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace (on Debian: apt-get install strace)")
    body = """
        call = lambda: nsdemo.run(["true"], landlock=nsdemo.Landlock(["/"]), stdin=nsdemo.DEVNULL)
        report(**outcome(call))
    """
    inject = f"inject=landlock_create_ruleset:{answer}"
    found = script(body, under=["strace", "-f", "-qq", "-o", "/dev/null", "-e", inject]).report
    assert (found["error"]["operation"], found["error"]["errno"]) == ("landlock", number)
    assert words in found["error"]["notes"][0]
    assert found["left"] == []


def test_a_plan_needs_the_promise_first() -> None:
    body = """
        plan = nsdemo.Plan().landlock(nsdemo.Landlock(["/"])).exec(["true"])
        report(**outcome(plan.run))
    """
    error = script(body, ordinary=True).report["error"]
    assert (error["operation"], error["errno"]) == ("landlock_restrict", errno.EPERM)
    assert "no_new_privs" in error["notes"][0]


def test_it_is_a_value() -> None:
    one = Landlock([Path("/usr")], write=("/tmp",))
    assert one == Landlock(read=["/usr"], write=["/tmp"]) == pickle.loads(pickle.dumps(one))
    assert (one.read, one.write) == (("/usr",), ("/tmp",))
    assert Landlock() == ((), ())


def test_bad_input() -> None:
    for arguments, kind, words in (
        ({"read": "/usr"}, TypeError, "a list of paths"),
        ({"read": ["usr"]}, ValueError, "begin with /"),
        ({"write": ["/a\0b"]}, ValueError, "NUL"),
        ({"write": [""]}, ValueError, "empty"),
        ({"write": [5]}, TypeError, "PathLike"),
    ):
        values: Any = arguments
        with pytest.raises(kind, match=words):
            Landlock(**values)
    wrong: Any = ["/usr"]
    with pytest.raises(TypeError, match=r"takes a nsdemo\.Landlock"):
        nsdemo.run(["true"], landlock=wrong, **QUIET)
    with pytest.raises(ValueError, match="room for 128 paths"):
        nsdemo.run(["true"], landlock=Landlock(["/"] * 129), **QUIET)
    assert nsdemo.run(["true"], landlock=Landlock(["/"] * 128), **QUIET).returncode == 0


def test_the_command_line() -> None:
    words = ["--landlock-read", "/usr", "--landlock-write", "/tmp", "--landlock-read", "/bin"]
    keywords = flags.read("enter", [*words, "1", "true"]).keywords
    assert keywords["landlock"] == Landlock(["/usr", "/bin"], ["/tmp"])
    with pytest.raises(flags.FlagError, match="begin with /"):
        flags.read("spawn", ["--landlock-read", "usr", "true"])
