"""overlay=True over a root with other mounts below it, and over our own root."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from checking import python_of
from support import IS_ROOT, NO_ATTRIBUTES, ORDINARY, let_in, memory_keeps_attributes, script
from targets import tool

import nsdemo
from nsdemo._facts import machine, tables
from nsdemo._plan import layers

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

both = pytest.mark.parametrize("ordinary", [False, True], ids=["caller", "ordinary"])

# Something is mounted below the root; then, inside of that, the container.
INSIDE = """
    mounts = [nsdemo.Bind({data!r}, {root!r} + "/data"),
        nsdemo.Bind({data!r} + "/deep", {root!r} + "/data/in"),
        nsdemo.Bind({data!r} + "/file", {root!r} + "/etc/one")]
    inner = "import sys, json; sys.path[:0] = " + repr(sys.path[:2]) + "; import nsdemo\\n"
    inner += {inner!r}
    done = nsdemo.run([{python!r}, "-c", inner], mounts=mounts, stdin=nsdemo.DEVNULL,
        capture_output=True, text=True)
    report(output=done.stdout, error=done.stderr)
"""
CONTAINER = """
pipe = dict(stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE, stderr=nsdemo.STDOUT, text=True)
with nsdemo.spawn(["sh", "-c", {text!r}], {options}, **pipe) as box:
    output, _ = box.communicate()
changes = [(change.path, change.kind) for change in box.changes()]
print(json.dumps([output.splitlines(), changes]))
"""


@pytest.fixture
def root(rootfs: Path, tmp_path: Path) -> Path:
    made = tmp_path / "root"
    shutil.copytree(rootfs, made, symlinks=True)
    (made / "data" / "in").mkdir(parents=True)
    (made / "etc" / "one").touch()
    give(tmp_path)
    return made


@pytest.fixture
def data(root: Path, tmp_path: Path) -> Path:
    data = tmp_path / "data"
    for folder in (data, data / "in", data / "deep"):
        folder.mkdir()
        (folder / "file").write_text(f"{folder.name}\n")
    give(data)
    return data


def give(folder: Path) -> None:
    """To whom an ordinary user's container can be root for."""
    let_in(folder.parent)
    if IS_ROOT:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, ORDINARY, ORDINARY, follow_symlinks=False)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
        if not path.is_symlink()
    }


def inside(root: Path, data: Path, text: str, ordinary: bool, options: str = "") -> Any:
    inner = CONTAINER.format(text=text, options=f"root={str(root)!r}, overlay=True{options}")
    body = INSIDE.format(root=str(root), data=str(data), inner=inner, python=python_of(ordinary))
    found = script(body, ordinary=ordinary).report
    assert found["error"] == ""
    return json.loads(found["output"])


@both
def test_what_is_mounted_below_the_root_is_layered(root: Path, data: Path, ordinary: bool) -> None:
    """Before, it was silently empty."""
    if not memory_keeps_attributes(ordinary):
        pytest.skip(NO_ATTRIBUTES)
    before = content(root), content(data)
    text = (
        "cat /data/file /data/in/file /etc/one; echo x >/data/in/new; echo x >/data/in/file; "
        "mkdir /new /data/new; (echo x >/etc/one) 2>&- || echo closed; echo x >/bin/new; "
        "rm -r /data/deep/file; cat /data/in/file; rm /data/file 2>&- || echo busy"
    )
    output, changes = inside(root, data, text, ordinary)
    # Not every directory can be covered in a user namespace: files in such a one are closed.
    anew = ordinary or not IS_ROOT
    assert output == ["data", "deep", "data", "closed", "x", *(["busy"] if anew else [])]
    expected = [
        ("/bin/new", "added"),
        ("/data/deep/file", "deleted"),
        ("/data/file", "deleted"),
        ("/data/in/file", "modified"),
        ("/data/in/new", "added"),
        ("/data/new", "added"),
        ("/new", "added"),
    ]
    if anew:
        expected.remove(("/data/file", "deleted"))
    assert [tuple(change) for change in changes] == expected
    assert (content(root), content(data)) == before


@both
def test_what_is_mounted_over_is_not_below(root: Path, data: Path, ordinary: bool) -> None:
    """Nobody inside finds the old mount when he takes away the new one."""
    text = "ls /data; umount /data 2>/dev/null; ls /data; grep -c ' /data/in ' /proc/self/mountinfo"
    output, _ = inside(root, data, text, ordinary, ", mounts=[nsdemo.Tmpfs('/data', size='1m')]")
    assert [word for word in output if word not in ("in", "0")] == []


def with_an_empty_tmp() -> str:
    """What sh does before it runs its arguments: a directory for temporary files may be full of
    them, and something be mounted there. What we run ourselves stays, if it lies there."""
    ours = {sys.prefix, str(Path(nsdemo.__file__).parents[1]), str(Path(__file__).parents[1])}
    below = sorted(path for path in ours if Path("/tmp") in Path(path).parents)
    return "\n".join(
        [
            *(f"exec {fd}<{shlex.quote(path)}" for fd, path in enumerate(below, 3)),
            "mount -t tmpfs none /tmp",
            *(f"mkdir -p {shlex.quote(path)}" for path in below),
            *(
                f"mount -c --rbind /proc/self/fd/{fd} {shlex.quote(path)}; exec {fd}<&-"
                for fd, path in enumerate(below, 3)
            ),
            'exec "$@"',
        ]
    )


@both
def test_our_own_root(ordinary: bool) -> None:
    """The machine is as it was, and everything in it is there."""
    if not memory_keeps_attributes(ordinary):
        pytest.skip(NO_ATTRIBUTES)
    name = f"/etc/nsdemo-test-{os.getpid()}"
    text = f"""
        cd /; echo x >{name} && cat {name}; rm /etc/passwd; echo x >/dev/null && echo null
        [ -r /proc/self/stat ] && [ "$(echo /proc/[0-9]*)" != /proc/1 ] || echo alone
        ls -d /usr/bin /sys/class/net; (: >>/sys/kernel/uevent_helper) 2>/dev/null || echo closed
        mkdir {name}.d; touch {name}.d/in; touch /nsdemo-test-{os.getpid()}
    """
    body = f"""
        done = nsdemo.run(["sh", "-c", {text!r}], root="/", overlay=True, stdin=nsdemo.DEVNULL,
            capture_output=True, text=True)
        with nsdemo.spawn(["sh", "-c", {text!r}], root="/./", overlay=True, overlay_size="1m",
                stdin=nsdemo.DEVNULL, stdout=nsdemo.DEVNULL, stderr=nsdemo.DEVNULL) as box:
            box.wait()
        changes = [(change.path, change.kind) for change in box.changes()]
        report(output=done.stdout, error=done.stderr, changes=changes)
    """
    under = [tool("unshare"), "-m" if IS_ROOT else "-Urm", "sh", "-euc", with_an_empty_tmp(), "sh"]
    found = script(body, ordinary=ordinary and IS_ROOT, under=under).report
    assert found["error"] == ""
    assert found["output"].split() == ["x", "null", "/sys/class/net", "/usr/bin", "closed"]
    changes = {tuple(change) for change in found["changes"]}
    assert changes == {
        ("/etc/passwd", "deleted"),
        (name, "added"),
        (f"{name}.d", "added"),
        (f"{name}.d/in", "added"),
        (f"/nsdemo-test-{os.getpid()}", "added"),
    }
    assert os.path.exists("/etc/passwd")
    assert not os.path.exists(name)
    assert not os.path.exists(f"/nsdemo-test-{os.getpid()}")


def test_a_size(root: Path) -> None:
    text = "dd if=/dev/zero of=/x bs=1k count=2000; (i=0; while : >/f$i; do i=$((i+1)); done) 2>&-"
    text += "; ls / | grep -c '^f[0-9]'"
    done = nsdemo.run(
        ["sh", "-c", text],
        root=root,
        overlay=True,
        overlay_size="1m",
        mounts=[nsdemo.Dev()],
        stdin=nsdemo.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert "No space left" in done.stderr
    assert 0 < int(done.stdout) < 1024, "the names have a bound, too"
    with pytest.raises(ValueError, match="overlay_size= needs overlay=True"):
        nsdemo.spawn(["true"], root=root, overlay_size="1m")
    with pytest.raises(ValueError, match="overlay_size is a number of bytes"):
        nsdemo.spawn(["true"], root=root, overlay=True, overlay_size="much")


def test_more_layers_than_there_is_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the mount that makes them necessary."""
    points = (tmp_path / "the" / "place", tmp_path / "few" / "other")
    mounts = tuple(tables.Mount(1, 1, "0:1", "/", str(x), "", "", "ext4", "", "") for x in points)
    monkeypatch.setattr(machine, "mounts", lambda: mounts)
    for point in points:
        point.mkdir(parents=True)
    top = bytes(tmp_path)
    anew, few = layers.layers(top, (), True)
    assert anew
    assert [target for *_, target, _ in few] == [
        *(b"/", b"/few", b"/few/other", b"/the", b"/the/place")
    ]
    for number in range(300):
        (tmp_path / "the" / str(number)).mkdir()
    with pytest.raises(ValueError, match=r"no room for so many layers: .*/the/place is a mount"):
        layers.layers(top, (), True)
    one = [(10, layers.LAYER, None, path, None) for path in (b"/few/other", b"/the/place")]
    assert layers.layers(top, (), False) == (False, one)
    assert layers.layers(top, ("/the/place",), False) == (False, one[:1])
    assert layers.layers(top, ("/the", "/few"), True) == (False, [])


@pytest.mark.skipif(not IS_ROOT, reason="only root has set-user-ID programs of its own, and mounts")
def test_covering_mounts_inherit_limits() -> None:
    """A set-user-ID program on a nosuid mount gives no power, whatever is laid over it."""
    found = script(
        """
        import shutil, tempfile
        must = lambda ret: ret == 0 or exit(f"mount: {ctypes.get_errno()}")
        libc = ctypes.CDLL(None, use_errno=True)
        must(libc.unshare(0x20000))
        must(libc.mount(None, b"/", None, 0x44000, None))
        NOSUID, NODEV, NOEXEC, BIND, REMOUNT = 2, 4, 8, 0x1000, 0x20
        place = tempfile.mkdtemp(prefix="limits-")
        must(libc.mount(b"none", place.encode(), b"tmpfs", 0, b"mode=755"))
        with nsdemo.Rootfs.from_host(["id"]) as root:
            shutil.copytree(root.path, f"{place}/root", symlinks=True)
        root, programs = f"{place}/root", f"{place}/root/usr/bin"
        os.chmod(f"{programs}/id", 0o4755)
        os.mkdir(f"{root}/other")

        def says(**options):
            try:
                done = nsdemo.run(["/usr/bin/id", "-u"], root=root, uid=12345, gid=12345,
                                  capture_output=True, text=True, **options)
            except PermissionError:
                return "refused"
            return done.stdout.strip()

        cases = {
            "as it is": {},
            "overlay": {"overlay": True},
            "Overlay": {"mounts": [nsdemo.Overlay("/usr/bin", [programs])]},
            "Bind": {"mounts": [nsdemo.Bind(programs, "/usr/bin")]},
        }
        found = {}
        for name, path, flags in (
            ("open", None, 0),
            ("nosuid", root, NOSUID),
            ("nosuid below", programs, NOSUID),
            ("noexec", root, NOEXEC | NODEV),
            ("noexec below", programs, NOEXEC | NODEV),
        ):
            if path is not None:
                must(libc.mount(path.encode(), path.encode(), None, BIND, None))
                must(libc.mount(None, path.encode(), None, BIND | REMOUNT | flags, None))
            found[name] = {case: says(**options) for case, options in cases.items()}
            if path is not None:
                must(libc.umount2(path.encode(), 2))
        must(libc.umount2(place.encode(), 2))
        os.rmdir(place)
        report(**found)
        """
    ).report
    ways = ["as it is", "overlay", "Overlay", "Bind"]
    assert found["open"] == dict.fromkeys(ways, "0")  # the program is one
    assert found["nosuid"] == dict.fromkeys(ways, "12345")
    assert found["nosuid below"] == dict.fromkeys(ways, "12345")
    assert found["noexec"] == dict.fromkeys(ways, "refused")
    assert found["noexec below"] == dict.fromkeys(ways, "refused")
