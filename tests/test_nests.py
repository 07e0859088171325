"""User namespaces in user namespaces, made by unshare(1): who can be joined, and in which order."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import IS_ROOT, QUIET, leftovers, snapshot

import nsdemo
from nsdemo import kernel
from nsdemo._facts import nests

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

CAPTURED: dict[str, Any] = {**QUIET, "capture_output": True, "text": True}
LOOK = ["sh", "-c", "cd /proc/self/ns; readlink net uts user; id -u"]
OURS: dict[str, Any] = dict.fromkeys(("mount", "uts", "ipc", "pid"), False)

# A process of an inner user namespace; its other namespaces belong to the one around it.
INNER = ["unshare", "-Urnu", "unshare", "-Ur", "sh", "-c", "echo; exec sleep 60"]
# A process of an outer user namespace; its network belongs to an inner one.
OUTER = [
    *("unshare", "-Uru", "sh", "-c"),
    "unshare -Urn sleep 60 & "
    "until [ $(readlink /proc/$!/ns/net) != $(readlink /proc/self/ns/net) ]; do :; done; "
    "exec nsenter --net=/proc/$!/ns/net sh -c 'echo; exec sleep 60'",
]


@contextlib.contextmanager
def nest(command: list[str]) -> Iterator[int]:
    """A process that sleeps where it was put."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        children = ""
        try:
            process.stdout.readline()
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            yield process.pid
        finally:
            for pid in (*map(int, children.split()), process.pid):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def inner() -> Iterator[int]:
    with nest(INNER) as pid:
        yield pid


@pytest.fixture
def outer() -> Iterator[int]:
    with nest(OUTER) as pid:
        yield pid


def namespace(pid: int, name: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{name}")


def looked(done: Any) -> list[str]:
    assert done.returncode == 0, done.stderr
    words: list[str] = done.stdout.split()
    return words


def owner(pid: int, name: str) -> Any:
    found = kernel.owner(pid, name)
    assert found is not None
    return found.identity


def test_the_nests_are_what_they_are_said_to_be(inner: int, outer: int) -> None:
    users = [nsdemo.namespaces(pid)["user"] for pid in (inner, outer)]
    assert owner(inner, "net") == owner(inner, "uts") != users[0]
    assert owner(outer, "uts") == users[1]
    assert owner(outer, "net") not in (users[1], nsdemo.namespaces()["user"])


@pytest.mark.parametrize("kind", [INNER, OUTER], ids=["inner", "outer"])
def test_a_nested_process_is_entered(kind: list[str]) -> None:
    with nest(kind) as pid:
        expected = [namespace(pid, name) for name in ("net", "uts", "user")]
        assert looked(nsdemo.enter(pid, LOOK, **CAPTURED)) == [*expected, "0"]
        assert looked(nsdemo.run(LOOK, join=pid, **CAPTURED)) == [*expected, "0"]
        found = looked(nsdemo.run(LOOK, net=pid, uts=pid, user=pid, **CAPTURED, mount=False,
                                  ipc=False, pid=False))  # fmt: skip
        assert found == [*expected, "0"]


@pytest.mark.parametrize("kind", [INNER, OUTER], ids=["inner", "outer"])
def test_namespace_files_are_joined_from_the_outside_in(kind: list[str]) -> None:
    with nest(kind) as pid:
        files = {name: f"/proc/{pid}/ns/{name}" for name in ("net", "uts", "user")}
        expected = [namespace(pid, name) for name in files]
        assert looked(nsdemo.run(LOOK, **{**OURS, **files}, **CAPTURED)) == [*expected, "0"]
        del files["user"]
        found = looked(nsdemo.run(LOOK, **{**OURS, **files}, **CAPTURED))
        assert found[:2] == expected[:2]
        assert found[3] == "0"
        one = looked(nsdemo.run(LOOK, **{**OURS, "net": files["net"]}, **CAPTURED))
        assert one[0] == expected[0]
        steps = nsdemo.spawn(["true"], **{**OURS, **files}, dry_run=True).steps
        joins = [step.args[0] for step in steps if step.operation == "join"]
        user, net, uts = (1 << 28, 1 << 30, 1 << 26)
        assert joins == ([uts, net] if IS_ROOT else [user, uts, net])


def test_lineage(inner: int, outer: int) -> None:
    for pid, depth in ((inner, 2), (outer, 1), (os.getpid(), 0)):
        fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
        line = nests.lineage(fd)
        os.close(fd)
        assert len(line) == depth
        assert line == tuple(each.identity for each in kernel.user_namespaces(pid))[:depth]


def test_two_that_lie_beside_each_other(inner: int, outer: int) -> None:
    """No way leads from one to the other, but root's."""
    files = {"net": f"/proc/{inner}/ns/net", "uts": f"/proc/{outer}/ns/uts"}
    if IS_ROOT:
        found = looked(nsdemo.run(LOOK, **{**OURS, **files}, **CAPTURED))
        assert found[:2] == [namespace(inner, "net"), namespace(outer, "uts")]
        return
    before = snapshot()
    with pytest.raises(PermissionError) as caught:
        nsdemo.run(LOOK, **{**OURS, **files}, **CAPTURED)
    assert isinstance(caught.value, nsdemo.NamespaceError)
    assert caught.value.step.operation == "join"
    (hint,) = caught.value.__notes__
    a, b = (namespace(pid, "user")[6:-1] for pid in (inner, outer))
    assert re.search(r"belongs to the user namespace \d+, and this call has entered \d+", hint)
    assert "lies beside it" in hint
    named = {*re.findall(r"namespace (\d+),.* entered (\d+),", hint)[0]}
    assert named == {str(owner(inner, "net")[1]), b}, (a, b)
    del caught  # it holds the plan, which holds the namespace files
    assert leftovers(before) == []


@pytest.mark.skipif(IS_ROOT, reason="only an ordinary user is refused")
def test_two_containers_beside_each_other_and_what_the_hint_advises() -> None:
    options: dict[str, Any] = {**QUIET, "net": True}
    with nsdemo.spawn(["sleep", "60"], **options) as one:
        with nsdemo.spawn(["sleep", "60"], **options) as two:
            with pytest.raises(PermissionError) as caught:
                nsdemo.run(LOOK, **{**OURS, "net": one, "uts": two}, **CAPTURED)
            assert "start one with user= the other" in caught.value.__notes__[0]
            del caught
        with nsdemo.spawn(["sleep", "60"], user=one, **options) as two:
            both = {"net": one, "uts": two, "user": one}
            found = looked(nsdemo.run(LOOK, **{**OURS, **both}, **CAPTURED))
            assert found[:2] == [namespace(one.pid, "net"), namespace(two.pid, "uts")]


IN_ANOTHER = """
import sys, os, nsdemo
for how in (lambda: nsdemo.enter(int(sys.argv[1]), ["true"]),
            lambda: nsdemo.run(["true"], net=int(sys.argv[2]) and os.fdopen(int(sys.argv[2])))):
    try:
        how()
    except PermissionError as error:
        print(error, *error.__notes__, sep="|")
"""


def test_from_one_user_namespace_into_another(inner: int) -> None:
    """Root of one, and nobody to the other."""
    network = os.open(f"/proc/{inner}/ns/net", os.O_RDONLY)
    words = ["unshare", "-Ur", sys.executable, "-c", IN_ANOTHER, str(inner), str(network)]
    done = subprocess.run(words, capture_output=True, text=True, pass_fds=[network], check=True)
    os.close(network)
    looking, joining = done.stdout.splitlines()
    assert looking.startswith(f"[Errno 13] process {inner} may not be looked at from here|it is in")
    assert "join" in joining
    for line in (looking, joining):
        assert "a user namespace that lies beside ours or around it: this Python is itself" in line


def test_a_container_in_a_container_is_entered() -> None:
    """Made by nsdemo inside, entered from outside, with all that lies between."""
    code = (
        "import nsdemo\n"
        "with nsdemo.spawn(['sleep', '60'], user=True, hostname='deep', stdin=nsdemo.DEVNULL):\n"
        "    print('ready', flush=True)\n"
        "    import time; time.sleep(60)\n"
    )
    folder = str(Path(nsdemo.__file__).resolve().parents[1])
    words = [sys.executable, "-c", code]
    env = {**os.environ, "PYTHONPATH": folder}
    with nsdemo.spawn(words, user=True, env=env, stdout=nsdemo.PIPE, text=True, **QUIET) as box:
        assert box.stdout is not None
        assert box.stdout.readline() == "ready\n"
        around = nsdemo.namespaces(box)["user"]
        pids = map(int, filter(str.isdigit, os.listdir("/proc")))
        deep = [pid for pid in pids if around in _lineage(pid)[1:]]
        done = nsdemo.enter(deep[0], ["sh", "-c", "hostname; id -u; echo $$"], **CAPTURED)
        name, uid, pid = looked(done)
        assert (name, uid) == ("deep", "0")
        assert int(pid) > 1


def _lineage(pid: int) -> tuple[Any, ...]:
    try:
        fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
    except OSError:
        return ()
    try:
        return nests.lineage(fd)
    finally:
        os.close(fd)
