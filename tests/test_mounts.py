"""mounts=: what is mounted in a container, compared with bubblewrap and mount(8)."""

from __future__ import annotations

import copy
import errno
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import (
    IS_ROOT,
    QUIET,
    command_of,
    leftovers_now,
    let_in,
    no_power,
    refusing,
    script,
    snapshot,
)

import nsdemo
from nsdemo import flags

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

BWRAP = shutil.which("bwrap")
bubblewrap = pytest.mark.skipif(BWRAP is None, reason="no bwrap (on Debian: bubblewrap)")
both = pytest.mark.parametrize("ordinary", [False, True], ids=["caller", "ordinary"])


@pytest.fixture
def root(rootfs: Path, tmp_path: Path) -> Path:
    """A root of this test alone, that anybody may change."""
    made = tmp_path / "root"
    shutil.copytree(rootfs, made, symlinks=True)
    let_in(tmp_path)
    for folder in (made, *(p for p in made.rglob("*"))):
        if folder.is_dir() and not folder.is_symlink() and os.access(folder, os.W_OK):
            folder.chmod(0o777)
    return made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    (made / "file").write_text("content\n")
    return made


def mountinfo(text: str) -> dict[str, tuple[str, str, str]]:
    """Mount point -> (root, flags without the time ones, type)."""
    found = {}
    for line in text.splitlines():
        left, right = (part.split() for part in line.split(" - "))
        kept = [f for f in left[5].split(",") if not f.endswith("atime")]
        found[left[4]] = (left[3], ",".join(kept), right[0])
    return found


def inside(
    root: Path | None, mounts: str, command: list[str], ordinary: bool, more: str = ""
) -> str:
    """What a command prints in a container with these mounts, as source text."""
    body = f"""
        done = nsdemo.run(
            {command!r}, root={str(root) if root else None!r}, mounts={mounts}, {more}
            stdin=nsdemo.DEVNULL, capture_output=True, text=True,
        )
        report(output=done.stdout, error=done.stderr)
    """
    found = script(body, ordinary=ordinary).report
    assert found["error"] == ""
    output: str = found["output"]
    return output


LOOK = ["cat", "/proc/self/mountinfo"]


@bubblewrap
@both
def test_the_kernel_sees_what_bubblewrap_makes(root: Path, data: Path, ordinary: bool) -> None:
    ours = mountinfo(
        inside(
            root,
            f"[nsdemo.Bind({str(data)!r}, '/ro', readonly=True, nosuid=True, nodev=True), "
            f"nsdemo.Bind({str(data)!r}, '/rw', nosuid=True, nodev=True), "
            f"nsdemo.Bind({str(data / 'file')!r}, '/etc/one', readonly=True, nosuid=True, "
            "nodev=True), nsdemo.Tmpfs('/mem')]",
            LOOK,
            ordinary,
        )
    )
    assert BWRAP is not None
    command = [
        *(BWRAP, "--unshare-all", "--bind", str(root), "/", "--proc", "/proc"),
        *("--ro-bind", str(data), "/ro", "--bind", str(data), "/rw"),
        *("--ro-bind", str(data / "file"), "/etc/one", "--tmpfs", "/mem", *LOOK),
    ]
    body = f"""
        done = subprocess.run({command!r}, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        report(output=done.stdout, error=done.stderr)
    """
    found = script(body, ordinary=ordinary).report
    assert found["error"] == ""
    theirs = mountinfo(found["output"])
    for point in ("/ro", "/rw", "/etc/one", "/mem", "/proc"):
        if point == "/mem":
            assert (ours[point][1:], theirs[point][2]) == (("rw,nosuid,nodev", "tmpfs"), "tmpfs")
        else:
            assert ours[point] == theirs[point], point


@both
def test_the_kernel_sees_what_mount_makes(root: Path, data: Path, ordinary: bool) -> None:
    """Flags that bubblewrap has no option for, by mount(8) under unshare(1)."""
    ours = mountinfo(
        inside(
            None,
            f"[nsdemo.Bind({str(data)!r}, {str(root / 'mnt')!r}, readonly=True, noexec=True), "
            f"nsdemo.Tmpfs({str(root / 'tmp')!r}, size='1m', mode=0o700, noexec=True)]",
            LOOK,
            ordinary,
        )
    )
    text = (
        f"mkdir -p {root}/mnt && mount --bind {data} {root}/mnt && "
        f"mount -o remount,bind,ro,noexec {root}/mnt && "
        f"mount -t tmpfs -o nosuid,nodev,noexec tmpfs {root}/tmp && cat /proc/self/mountinfo"
    )
    command = ["unshare", "--mount", *(["-r"] if ordinary or not IS_ROOT else []), "sh", "-c", text]
    body = f"""
        done = subprocess.run({command!r}, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        report(output=done.stdout, error=done.stderr)
    """
    found = script(body, ordinary=ordinary).report
    theirs = mountinfo(found["output"])
    for point in (f"{root}/mnt", f"{root}/tmp"):
        assert ours[point] == theirs[point], found["error"]


@both
def test_contents_and_modes(root: Path, data: Path, ordinary: bool) -> None:
    text = (
        "cat /a/b/c/file; (echo x >/a/b/c/new) 2>/dev/null || echo read-only; "
        "stat -c %a /mem; df -k /mem | tail -1 | awk '{print $2}'; cat /one; "
        "test -e /here/self && echo proc"
    )
    output = inside(
        root,
        f"[nsdemo.Bind({str(data)!r}, '/a/b/c', True), nsdemo.Tmpfs('/mem', 2 << 20, 0o1777), "
        f"nsdemo.Bind({str(data / 'file')!r}, '/one'), nsdemo.Proc('/here')]",
        ["sh", "-c", text],
        ordinary,
    )
    assert output.split() == ["content", "read-only", "1777", "2048", "content", "proc"]
    # What was made for them stays, empty.
    assert (root / "a/b/c").is_dir()
    assert (root / "one").read_bytes() == b""


def test_a_sysfs_shows_the_containers_network(root: Path) -> None:
    for ordinary in (False, True):
        listing = inside(
            root, "[nsdemo.Sysfs('/sys')]", ["ls", "/sys/class/net"], ordinary, "net=True,"
        )
        assert listing.split() == ["lo"]


def test_recursive_takes_along_what_is_mounted_below(root: Path, data: Path) -> None:
    (data / "below").mkdir()
    (data / "below").chmod(0o777)
    plan = nsdemo.Plan() if IS_ROOT else nsdemo.Plan().unshare("user").map_root()
    plan = plan.unshare("mount").make_private().mounts([nsdemo.Tmpfs(data / "below")])
    targets = [nsdemo.Bind(data, "/with", readonly=True)]
    if IS_ROOT:  # in a user namespace the other one is refused, see below
        targets.append(nsdemo.Bind(data, "/without", readonly=True, recursive=False))
    plan = plan.bind(root, root).mount("proc", f"{root}/proc", "proc")
    if not IS_ROOT:
        plan = nsdemo.Plan().unshare("user").map_root().unshare("mount", "pid").fork()
        plan = plan.make_private().mounts([nsdemo.Tmpfs(data / "below")]).bind(root, root)
        plan = plan.mount("proc", f"{root}/proc", "proc")
    done = plan.mounts(targets, root=root).pivot_root(root).exec(LOOK)
    seen = mountinfo(done.run(**QUIET, capture_output=True, text=True).stdout)
    assert seen["/with"][1].startswith("ro")
    assert seen["/with/below"][1:] == ("ro,nosuid,nodev", "tmpfs")
    assert "/without/below" not in seen


def test_a_new_proc_takes_the_place_of_the_usual_one(root: Path) -> None:
    plan = nsdemo.spawn(["true"], root=root, mounts=[nsdemo.Proc("/proc")], dry_run=True)
    assert [step.operation for step in plan].count("mount") == 0
    plan = nsdemo.spawn(["true"], root=root, mounts=[nsdemo.Proc("/else")], dry_run=True)
    assert [step.operation for step in plan].count("mount") == 1


# -- rules 6 and 8: nothing elsewhere -----------------------------------------------------------


@both
@pytest.mark.parametrize("target", ["/out/x", "/out", "/in/x"])
def test_no_link_is_followed(root: Path, tmp_path: Path, ordinary: bool, target: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o777)
    (outside / "marker").write_text("untouched")
    (root / "out").symlink_to(outside)
    (root / "in").symlink_to("/tmp")
    before = Path("/proc/self/mountinfo").read_text()
    for mount in (f"nsdemo.Tmpfs({target!r})", f"nsdemo.Bind('/etc', {target!r})"):
        body = f"""
            call = lambda: nsdemo.run(["true"], root={str(root)!r}, mounts=[{mount}])
            report(**outcome(call))
        """
        found = script(body, ordinary=ordinary).report
        assert found["error"]["errno"] == errno.ELOOP
        assert "is a symbolic link to" in found["error"]["notes"][0]
        assert found["left"] == []
    assert [path.name for path in outside.iterdir()] == ["marker"]
    assert not (root / "tmp" / "x").exists()
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.parametrize("target", ["/../x", "/a/../../x", "..", "/a/.."])
def test_dots_are_refused(target: str) -> None:
    with pytest.raises(ValueError, match=r"'\.\.'|must begin with /"):
        nsdemo.Tmpfs(target)


# -- what cannot be -----------------------------------------------------------------------------


def test_failures_are_clear_and_leave_nothing(root: Path, data: Path) -> None:
    gone = data / "gone"
    gone.mkdir()
    vanishing = nsdemo.Bind(gone, "/x")
    gone.rmdir()
    cases: list[tuple[Any, type[OSError], str]] = [
        (vanishing, FileNotFoundError, "there is no"),
        (nsdemo.Bind(data / "file", "/etc"), IsADirectoryError, "is a directory, and only"),
        (nsdemo.Bind(data, "/bin/busybox"), NotADirectoryError, "is a file, and only"),
        (nsdemo.Tmpfs("/bin/busybox/x"), NotADirectoryError, "is not a directory"),
    ]
    before = snapshot()
    host = Path("/proc/self/mountinfo").read_text()
    for mount, kind, words in cases:
        with pytest.raises(kind) as caught:
            nsdemo.run(["true"], root=root, mounts=[mount], **QUIET)
        assert isinstance(caught.value, nsdemo.NamespaceError)
        assert any(words in note for note in caught.value.__notes__), caught.value.__notes__
        assert leftovers_now(before) == []
    assert Path("/proc/self/mountinfo").read_text() == host


@both
@pytest.mark.parametrize("place", ["/proc/no-such", "/sys/no-such"])
def test_what_cannot_be_made_is_said(place: str, ordinary: bool) -> None:
    for mount in (f"nsdemo.Tmpfs({place!r})", f"nsdemo.Bind('/etc', {place!r})"):
        body = f"""report(**outcome(lambda: nsdemo.run(["true"], mounts=[{mount}])))"""
        found = script(body, ordinary=ordinary).report
        assert "does not exist, and could not be made" in found["error"]["notes"][0]
        assert found["left"] == []


def test_arguments_that_cannot_be() -> None:
    for size in ("much", "0", 0, -1, "1 m", "10%,mode=7777", ""):
        with pytest.raises(ValueError, match="size is a number of bytes"):
            nsdemo.Tmpfs("/tmp", size=size)
    for wrong in (True, 1.5):
        with pytest.raises(TypeError, match="size is a number of bytes"):
            nsdemo.Tmpfs("/tmp", size=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode must be between"):
        nsdemo.Tmpfs("/tmp", mode=0o10000)
    with pytest.raises(TypeError, match="readonly must be True or False"):
        nsdemo.Bind("/a", "/b", readonly=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the root itself"):
        nsdemo.Tmpfs("/")
    with pytest.raises(ValueError, match="NUL"):
        nsdemo.Bind("/a\0b", "/b")
    with pytest.raises(ValueError, match="source is empty"):
        nsdemo.Bind("", "/b")
    with pytest.raises(ValueError, match="255 bytes"):
        nsdemo.Tmpfs("/" + "x" * 256)
    with pytest.raises(ValueError, match="mounts= needs mount=True"):
        nsdemo.spawn(["true"], mount=False, mounts=[nsdemo.Tmpfs("/tmp")])
    with pytest.raises(TypeError, match="mounts is a list"):
        nsdemo.spawn(["true"], mounts=nsdemo.Tmpfs("/tmp"))  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="mounts takes Bind"):
        nsdemo.spawn(["true"], mounts=["/tmp"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="room for 54 binds"):
        nsdemo.spawn(["true"], mounts=[nsdemo.Bind("/etc", "/etc")] * 55)


def test_a_plan_by_hand_keeps_targets_and_sources_apart() -> None:
    plan = nsdemo.Plan()
    for _ in range(11):
        plan = plan.join(os.getpid(), "uts")
    with pytest.raises(ValueError, match="room for 10 targets"):
        plan.mounts([nsdemo.Tmpfs("/tmp")])
    many = [nsdemo.Bind("/etc", "/etc")] * 54
    with pytest.raises(OSError) as caught:
        nsdemo.Plan().mounts(many).mounts(many)
    assert caught.value.errno == errno.E2BIG


def test_values_are_values() -> None:
    one = nsdemo.Bind("/usr", "/usr/./lib//x", readonly=True)
    assert one.target == "/usr/lib/x"
    assert one == nsdemo.Bind("/usr", "/usr/lib/x", True) == pickle.loads(pickle.dumps(one))
    assert hash(copy.copy(one)) == hash(one)
    assert one != nsdemo.Bind("/usr", "/usr/lib/x")
    assert nsdemo.Proc("/proc") != nsdemo.Sysfs("/proc")
    assert "readonly=True" in repr(one)
    with pytest.raises(AttributeError, match="a Bind does not change"):
        one.target = "/"
    with pytest.raises(AttributeError, match="a Bind does not change"):
        del one.target


def test_fifty_four_binds(root: Path, data: Path) -> None:
    binds = [nsdemo.Bind(data, f"/many/{i}") for i in range(54)]
    done = nsdemo.run(["ls", "/many/52"], root=root, mounts=binds, **QUIET, capture_output=True)
    assert done.stdout == b"file\n"


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize("call", ["open_tree", "move_mount", "mount_setattr"])
def test_the_old_mount_interface(root: Path, data: Path, call: str, error: str) -> None:
    """Without the new one: the kernel of 2018, or a seccomp filter of that time."""
    mounts = (
        f"[nsdemo.Bind({str(data)!r}, '/x', readonly=True, noexec=True, recursive=False), "
        f"nsdemo.Bind({str(data)!r}, '/y'), nsdemo.Bind({str(data / 'file')!r}, '/z', True, False)]"
    )
    body = f"""
        done = nsdemo.run({LOOK!r}, root={str(root)!r}, mounts={mounts}, capture_output=True,
            stdin=nsdemo.DEVNULL, text=True)
        report(output=done.stdout)
    """
    seen = mountinfo(script(body, under=refusing(call, error)).report["output"])
    plain = mountinfo(script(body).report["output"])
    assert {seen[p] for p in ("/x", "/y", "/z")} == {plain[p] for p in ("/x", "/y", "/z")}
    assert seen["/x"][1].startswith("ro")
    assert "noexec" in seen["/x"][1]
    assert seen["/y"][1].startswith("rw")


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
@pytest.mark.parametrize(
    "flags", ["ro,nosuid,nodev,noexec,noatime", "nosuid,nodev,nodiratime", "strictatime"]
)
def test_locked_flags_stay(tmp_path: Path, flags: str, old: bool) -> None:
    """In a user namespace nobody may take away what the mount has, so a remount repeats it."""
    if old and shutil.which("strace") is None:
        pytest.skip("there is no strace (on Debian: apt-get install strace)")
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    body = f"""
        shown = []
        for options in ({{}}, {{"readonly": True}}, {{"noexec": True}}):
            bind = nsdemo.Bind({str(source)!r}, {str(target)!r}, recursive=False, **options)
            done = nsdemo.run({LOOK!r}, user=True, mounts=[bind], stdin=nsdemo.DEVNULL,
                capture_output=True, text=True)
            shown.append(done.stdout)
        report(shown=shown)
    """
    under = ["strace", "-f", "-qq", "-o", "/dev/null"] if old else []
    if old:
        under += ["-e", "inject=open_tree,mount_setattr:error=ENOSYS"]
    mount = f'mount -t tmpfs -o {flags} x {source} && exec "$@"'
    outer = no_power().unshare("mount").make_private()
    outer = outer.exec(["sh", "-c", mount, "sh", *under, *command_of(body)])
    done = outer.run(**QUIET, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    def flags_of(text: str, point: Path) -> set[str]:
        line = next(line for line in text.splitlines() if line.split()[4] == str(point))
        return set(line.split()[5].split(","))

    plain, readonly, noexec = json.loads(done.stdout)["shown"]
    locked = flags_of(plain, source)
    assert flags_of(plain, target) == locked
    assert flags_of(readonly, target) == locked - {"rw"} | {"ro"}
    assert flags_of(noexec, target) == locked | {"noexec"}


TREE = """
    from pathlib import Path
    root, data = Path({root!r}), Path({data!r})
    names = ["a", "a/b", "two words", "covered"]
    mounts = [nsdemo.Tmpfs(data / name, noexec=name == "a/b") for name in names]
    mounts += [nsdemo.Tmpfs(data / "covered/deep"), nsdemo.Tmpfs(data / "covered")]
    inner = "import sys; sys.path[:0] = " + repr(sys.path[:2]) + "; import nsdemo; print("
    inner += "nsdemo.run({look!r}, root=" + repr(str(root)) + ", {what} "
    inner += "stdin=nsdemo.DEVNULL, capture_output=True, text=True).stdout, end='')"
    done = nsdemo.run([sys.executable, "-c", inner], mounts=mounts, stdin=nsdemo.DEVNULL,
        capture_output=True, text=True)
    report(output=done.stdout, error=done.stderr)
"""


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize("ordinary", [False, True], ids=["caller", "own user namespace"])
def test_flags_for_a_whole_tree(root: Path, data: Path, ordinary: bool, error: str) -> None:
    """mount_setattr or not: the same flags on the same mounts, and none that was there is lost."""
    what = f"user={ordinary or None}, mounts=[nsdemo.Bind({str(data)!r}, '/x', True, nodev=True)],"
    body = TREE.format(root=str(root), data=str(data), look=LOOK, what=what)
    plain = script(body).report
    refused = script(body, under=refusing("mount_setattr", error)).report
    assert (plain["error"], refused["error"]) == ("", "")
    seen = {point: what for point, what in mountinfo(refused["output"]).items() if "/x" in point}
    other = {p: what for p, what in mountinfo(plain["output"]).items() if "/x" in p}
    assert {**seen, "/x/covered/deep": ()} == {**other, "/x/covered/deep": ()}
    assert len(seen) >= 6
    # "covered" twice and "deep" between: nobody can reach those, and only mount_setattr does.
    del seen["/x/covered/deep"]
    assert all(flags.startswith("ro") and "nodev" in flags for _, flags, _ in seen.values())
    assert "noexec" in seen["/x/a/b"][1]


def test_the_command_line(root: Path, data: Path) -> None:
    words = ["--root", str(root), "--ro-bind", str(data), "/r", "--tmpfs", "/t", "--proc", "/proc"]
    call = flags.read("spawn", [*words, "--bind", str(data), "/w", "ls", "/r", "/w"])
    assert call.command == ["ls", "/r", "/w"]
    assert call.keywords["mounts"] == [
        *(nsdemo.Bind(data, "/r", readonly=True), nsdemo.Tmpfs("/t"), nsdemo.Proc("/proc")),
        nsdemo.Bind(data, "/w"),
    ]
    done = call.plan(call.command).run(**QUIET, capture_output=True)
    assert done.stdout == b"/r:\nfile\n\n/w:\nfile\n"
    with pytest.raises(flags.FlagError, match=r"--tmpfs: target .* has '\.\.' in it"):
        flags.read("spawn", ["--tmpfs", "/../x", "true"])
    with pytest.raises(flags.FlagError, match="expected 2 arguments"):
        flags.read("spawn", ["--bind", "/x"])


def test_a_launch_without_mounts_goes_as_before(root: Path) -> None:
    plain = nsdemo.spawn(["true"], root=root, dry_run=True)
    empty = nsdemo.spawn(["true"], root=root, mounts=[], dry_run=True)
    assert plain == empty
    assert not {"open_source", "bind_at", "mount_at"} & {step.operation for step in plain}
