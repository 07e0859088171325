"""Container.changes(): what a container made of a root that overlay=True covers."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import shutil
import time
import types
from pathlib import Path
from typing import Any

import pytest
from support import (
    IS_ROOT,
    NO_ATTRIBUTES,
    ORDINARY,
    QUIET,
    leftovers_now,
    let_in,
    memory_keeps_attributes,
    script,
    snapshot,
)

import nsdemo
from nsdemo._launch.changes import Layers

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

both = pytest.mark.parametrize("ordinary", [False, True], ids=["caller", "ordinary"])


@pytest.fixture
def root(rootfs: Path, tmp_path: Path) -> Path:
    let_in(tmp_path)
    made = tmp_path / "root"
    shutil.copytree(rootfs, made, symlinks=True)
    for name in ("old/a", "old/b/c", "kind/d"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text("old")
    (made / "file").write_text("old")
    return made


def changes(root: Path, text: str, ordinary: bool, options: str = "") -> list[list[str]]:
    """What a shell changed, twice: while the container lives, and when it has ended."""
    if ordinary and IS_ROOT:  # root of a user namespace may not change other people's files
        for path in [root, *root.rglob("*")]:
            os.chown(path, ORDINARY, ORDINARY, follow_symlinks=False)
    body = f"""
        before = snapshot()
        command = ["sh", "-c", {text!r} + "; echo; read x"]
        box = nsdemo.spawn(command, root={str(root)!r}, overlay=True, stdin=nsdemo.PIPE,
            stdout=nsdemo.PIPE, stderr=nsdemo.PIPE, {options})
        box.stdout.readline()
        alive = box.changes()
        _, errors = box.communicate()
        found = box.changes()
        del box
        report(alive=alive, found=found, errors=errors.decode(), left=leftovers(before))
    """
    found = script(body, ordinary=ordinary).report
    assert found["errors"] == ""
    assert found["left"] == []
    assert found["alive"] == found["found"]
    result: list[list[str]] = found["found"]
    return result


EVERYTHING = (
    "echo x >/new; mkdir -p /new.d/e; ln -s /etc/passwd /link; mkfifo /pipe; "  # added
    "echo x >>/file; chmod 700 /tmp; rm /old/a; rm -r /old/b; mkdir /old/b; echo x >/old/b/n; "
    "rm -r /kind; echo x >/kind; rm /bin/ls; mv /new.d/e /new.d/f; chmod 711 /"
)


@both
@pytest.mark.parametrize("options", ["", "init=True"])
def test_what_was_added_modified_and_deleted(root: Path, ordinary: bool, options: str) -> None:
    if not memory_keeps_attributes(ordinary):
        pytest.skip(NO_ATTRIBUTES)
    assert changes(root, EVERYTHING, ordinary, options) == [
        ["/", "modified"],
        ["/bin/ls", "deleted"],
        ["/file", "modified"],
        ["/kind", "modified"],
        ["/link", "added"],
        ["/new", "added"],
        ["/new.d", "added"],
        ["/new.d/f", "added"],
        ["/old/a", "deleted"],
        ["/old/b/c", "deleted"],
        ["/old/b/n", "added"],
        ["/pipe", "added"],
        ["/tmp", "modified"],
    ]


@both
def test_nothing_changed(root: Path, ordinary: bool) -> None:
    assert changes(root, "test -s /file; rm -f /none", ordinary) == []


@both
def test_what_is_mounted_inside_is_no_change(root: Path, ordinary: bool) -> None:
    """Of a mount only the directory that was made for it."""
    options = "mounts=[nsdemo.Tmpfs('/mem')]"
    assert changes(root, "echo x >/mem/x", ordinary, options) == [["/mem", "added"]]


@both
def test_names_are_hostile(root: Path, ordinary: bool) -> None:
    """Bytes that are no text, and links to the host's files, which nobody follows."""
    if not memory_keeps_attributes(ordinary):
        pytest.skip(NO_ATTRIBUTES)
    text = r"""echo x >"$(printf '/\377\033[31m\nx')"; rm -r /old; ln -s /etc /old; ln -s / /up"""
    found = changes(root, text, ordinary)
    assert found == [
        ["/old", "modified"],
        ["/up", "added"],
        ["/" + os.fsdecode(b"\xff\x1b[31m\nx"), "added"],
    ]


def test_a_directory_swapped_for_a_link_is_not_followed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It becomes a link to the host's between being listed and being opened."""
    command = ["sh", "-c", "mkdir /d; echo; read x; rmdir /d; ln -s /etc /d; echo; read x"]
    options: dict[str, Any] = {"stdin": nsdemo.PIPE, "stdout": nsdemo.PIPE}
    with nsdemo.spawn(command, root=root, overlay=True, **options) as box:
        assert box.stdin is not None
        assert box.stdout is not None
        box.stdout.readline()
        look, listed = Layers._names, []

        def swap(self: Layers, folder: int) -> set[bytes]:
            names = look(self, folder)
            if not listed:
                listed.extend(names)
                assert box.stdin is not None
                assert box.stdout is not None
                box.stdin.write(b"\n")
                box.stdin.flush()
                box.stdout.readline()
            return names

        monkeypatch.setattr(Layers, "_names", swap)
        found = box.changes()
        monkeypatch.undo()
        assert listed == [b"d"]
        assert found == (nsdemo.Change("/d", "added"),)
        assert box.changes() == found


@both
def test_deeper_than_a_path_can_be_long(root: Path, ordinary: bool) -> None:
    name = "d" * 250
    deep = f"i=0; while [ $i -lt 17 ]; do mkdir {name}; cd {name}; i=$((i+1)); done"
    body = f"""
        box = nsdemo.spawn(["sh", "-c", {deep!r}], root={str(root)!r}, overlay=True,
            stdin=nsdemo.DEVNULL, stderr=nsdemo.DEVNULL)
        box.wait()
        try:
            box.changes()
        except OSError as error:
            report(**facts_of(error))
    """
    if ordinary and IS_ROOT:
        root.chmod(0o777)
    found = script(body, ordinary=ordinary).report
    assert found["errno"] == errno.ENAMETOOLONG
    assert "deeper than a path can be long" in found["text"]


def test_a_deep_tree_takes_few_descriptors_and_no_time_for_its_depth(root: Path) -> None:
    """As many directories side by side in another tree; depth makes no more than a few times."""
    (root / "old/d/d").mkdir(parents=True)

    def changed(text: str) -> tuple[int, float]:
        command = ["sh", "-c", f"cd /old; {text}"]
        with nsdemo.spawn(command, root=root, overlay=True, **QUIET) as box:
            assert box.wait() == 0
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 300, hard))
        try:
            best = float("inf")
            for _ in range(2):
                began = time.process_time()
                found = len(box.changes())
                best = min(best, time.process_time() - began)
            return found, best
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    chain = "i=0; while [ $i -lt 1900 ]; do mkdir -p d e; cd d; i=$((i+1)); done"
    wide = "i=0; while [ $i -lt 1900 ]; do mkdir -p f$i/e; i=$((i+1)); done"
    deep, slow = changed(chain)
    flat, fast = changed(wide)
    assert (deep, flat) == (2 * 1900 - 2, 2 * 1900)
    assert slow < 5 * fast


def test_who_makes_files_while_we_look_does_not_keep_us(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More names than the file system has inodes: they were not there at the same time."""
    with nsdemo.spawn(["mkdir", "/a", "/b", "/c"], root=root, overlay=True, **QUIET) as box:
        box.wait()
    assert len(box.changes()) == 3
    few = types.SimpleNamespace(f_files=2)
    monkeypatch.setattr(os, "statvfs", lambda fd: few)
    with pytest.raises(OSError, match="stop it first") as caught:
        box.changes()
    assert caught.value.errno == errno.EBUSY


def test_who_may_not_look_is_told(root: Path) -> None:
    body = f"""
        box = nsdemo.spawn(["sh", "-c", "mkdir -m 0 /shut"], root={str(root)!r}, overlay=True,
            stdin=nsdemo.DEVNULL)
        box.wait()
        try:
            box.changes()
        except PermissionError as error:
            report(name=os.fsdecode(error.filename), **facts_of(error))
    """
    if IS_ROOT:
        root.chmod(0o777)
    found = script(body, ordinary=True).report
    assert found["errno"] == errno.EACCES
    assert found["name"] == "/shut"


def test_what_can_be_asked_when(root: Path) -> None:
    with (
        nsdemo.spawn(["true"], root=root, **QUIET) as box,
        pytest.raises(ValueError, match="overlay=True"),
    ):
        box.changes()
    change = nsdemo.Change("/x", "added")
    assert pickle.loads(pickle.dumps(change)) == change == ("/x", "added")
    plan = nsdemo.spawn(["touch", "/x"], root=root, overlay=True, dry_run=True, **QUIET)
    assert "SCM_RIGHTS" in str(plan)
    for _ in range(2):  # a plan may be started again: each container has its own
        with plan.start() as box:
            box.wait()
        assert box.changes() == (change,)


@pytest.mark.parametrize("init", [False, True])
def test_nobody_inside_has_the_descriptors(root: Path, init: bool) -> None:
    text = "ls /proc/self/fd; echo; read x"
    options: dict[str, Any] = {"stdin": nsdemo.PIPE, "stdout": nsdemo.PIPE, "text": True}
    with nsdemo.spawn(["sh", "-c", text], root=root, overlay=True, init=init, **options) as box:
        assert box.stdout is not None
        seen = list(iter(box.stdout.readline, "\n"))
        assert [line.strip() for line in seen] == ["0", "1", "2", "3"]  # 3 is ls's own
        if IS_ROOT:  # an init is not dumpable
            open_there = os.listdir(f"/proc/{box.pid}/fd")
            links = [os.readlink(f"/proc/{box.pid}/fd/{fd}") for fd in open_there]
            assert not [link for link in links if "socket" in link or "upper" in link]
        box.communicate()


def test_run_keeps_no_memory(root: Path) -> None:
    before = snapshot()
    done = nsdemo.run(["touch", "/x"], root=root, overlay=True, **QUIET)
    assert "hand_over" not in [step.operation for step in done.trace]
    assert [step.errno for step in done.trace if step.errno] == []
    with pytest.raises(FileNotFoundError):
        nsdemo.spawn(["/no/such"], root=root, overlay=True, **QUIET)
    assert leftovers_now(before) == []
