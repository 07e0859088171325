"""The process at the instant of execve, where it looks the command up, for every kind of launch.

What is open then can be found in /proc by a link in the root, and what it executes until then is
what "#!/proc/self/exe" would run again. The call is held by a seccomp filter (tests/inject)
until the process has been looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import HERE, IS_ROOT, SLOW, become_ordinary
from targets import only_root

import nsdemo

sys.path.append(str(HERE / "inject"))
import notify
from recipes import QUIET, Stage

pytestmark = [only_root, pytest.mark.usefixtures("ordinary_users_may")]

IMAGE = "/memfd:nsdemo (deleted)"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="nsdemo-instant-") as name:
        os.chmod(name, 0o755)
        made = Stage(Path(name))
        made.work.chmod(0o777)
        with made.with_a_container():
            yield made


def text_at(pid: int, address: int) -> str:
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(address)
        return os.fsdecode(memory.read(256).split(b"\0", 1)[0])


def seen(call: notify.Call) -> dict[str, Any]:
    """What somebody could find of this process in /proc."""
    place = Path(f"/proc/{call.pid}")
    lines = (place / "status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    found: dict[str, Any] = {
        "path": text_at(call.pid, call.first),
        "exe": os.readlink(place / "exe"),
        "open": {int(fd): os.readlink(place / "fd" / fd) for fd in os.listdir(place / "fd")},
        "root": os.stat(place / "root/.")[1:3],
        "cwd": os.stat(place / "cwd/.")[1:3],
        "signals": (int(status["SigBlk"], 16), int(status["SigIgn"], 16)),
        "memory": (place / "maps").read_text(),
    }
    with contextlib.suppress(OSError):
        found["working directory"] = os.stat(place / "root/mnt")[1:3]
    return found


def looks(launch: Callable[[], Any], ordinary: bool = False) -> list[dict[str, Any]]:
    """The process of each execve of a launch in a fork, as it was then."""
    numbers = notify.numbers()
    ours, theirs = os.pipe()
    goes_on, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            listener = notify.install(numbers["execve"], numbers["seccomp"])
            os.write(theirs, f"{listener}\n".encode())
            os.read(goes_on, 1)
            os.close(listener)
            if ordinary:
                become_ordinary()
            done = launch()
            os.write(theirs, json.dumps(done.returncode).encode())
        os._exit(0)
    os.close(theirs)
    listener = notify.fetch(pid, int(os.read(ours, 100)), numbers["pidfd_getfd"])
    os.write(go, b"x")
    found = []
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while events := poll.poll(20_000 * SLOW):
        if events[0][1] & select.POLLHUP:
            break
        call = notify.receive(listener)
        if call is not None:
            found.append(seen(call))
            notify.answer(listener, call)
    status = os.read(ours, 100)
    for fd in (listener, ours, go, goes_on):
        os.close(fd)
    os.waitpid(pid, 0)
    assert status == b"7", "the witness did not run"
    return found


def check(look: dict[str, Any], passed: tuple[int, ...] = ()) -> None:
    assert set(look["open"]) <= {0, 1, 2, *passed}, look
    assert look["signals"] == (0, 0), look


def check_foreign(look: dict[str, Any], passed: tuple[int, ...] = ()) -> None:
    """Of a root that is not ours, or of namespaces that were joined."""
    check(look, passed)
    assert look["exe"] == IMAGE, look
    assert "python" not in look["memory"], look


# -- every recipe -------------------------------------------------------------------------------

NAMES = [
    *("run", "root", "net", "chroot_method", "init", "mounts", "overlay", "tty", "power", "time"),
    *("streams", "chroot_run", "enter", "user", "uid", "maps", "persist"),
]
OURS = {"run", "persist"}  # in our own tree
BY_ROOT = {"user", "uid", "maps", "persist", "enter", "net", "chroot_method", "chroot_run"}


def test_there_is_no_other_recipe(stage: Stage) -> None:
    assert IS_ROOT
    assert set(NAMES) == set(stage.recipes())


@pytest.mark.parametrize("name", NAMES)
def test_of_root(name: str, stage: Stage) -> None:
    found = [look for look in looks(stage.recipes()[name]) if look["path"].endswith("witness")]
    stage.clean()
    assert len(found) == 1
    if name in OURS:
        check(found[0])
    else:
        check_foreign(found[0])
    root = os.stat(stage.root)[1:3]
    if name not in (*OURS, "overlay", "enter"):
        assert found[0]["root"] == root
    if name == "root":
        assert found[0]["cwd"] == found[0]["working directory"]
    elif name not in OURS:
        assert found[0]["cwd"] == found[0]["root"]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BY_ROOT])
def test_of_an_ordinary_user(name: str, stage: Stage) -> None:
    stage.user = {"user": True}
    try:
        launch = stage.recipes()[name]
    finally:
        stage.user = {}
    found = [look for look in looks(launch, ordinary=True) if look["path"].endswith("witness")]
    assert len(found) == 1
    if name in OURS:
        check(found[0])
    else:
        check_foreign(found[0])


# -- and what is special ------------------------------------------------------------------------


@pytest.mark.parametrize("ordinary", [False, True], ids=["root", "user"])
def test_each_place_that_is_searched(ordinary: bool, stage: Stage) -> None:
    """A command without a slash: one execve for each folder of PATH that may have it."""
    env = {"PATH": "/mnt:/tmp:/bin"}
    (stage.root / "mnt" / "witness").write_text("not executable")
    try:
        found = looks(
            lambda: nsdemo.run(
                ["witness", "here"], root=stage.root, env=env, user=ordinary, **QUIET
            ),
            ordinary,
        )
    finally:
        (stage.root / "mnt" / "witness").unlink()
    assert found[-1]["path"] == "/bin/witness"
    for look in found:
        check_foreign(look)


def test_what_is_passed_is_open_and_nothing_else(stage: Stage) -> None:
    with open("/dev/null") as file, open("/dev/zero") as _:
        fd = file.fileno()
        found = looks(
            lambda: nsdemo.run(["/bin/witness", "here"], root=stage.root, pass_fds=[fd], **QUIET)
        )
        ours = looks(lambda: nsdemo.run([str(stage.program)], pass_fds=[fd], **QUIET))
    check_foreign(found[-1], (fd,))
    check(ours[-1], (fd,))
    for look in (found[-1], ours[-1]):
        assert look["open"][fd] == "/dev/null"


def by_hand(stage: Stage) -> dict[str, nsdemo.Plan]:
    root, command = str(stage.root), ["/bin/witness", "here"]
    mounts = nsdemo.Plan().unshare("mount").make_private("/")
    return {
        "pivot": mounts.bind(root, root).pivot_root(root).exec(command),
        "chroot": nsdemo.Plan().chroot(root).exec(command),
        "fork": nsdemo.Plan().unshare("mount", "pid").fork().chroot(root).exec(command),
        "join": nsdemo.Plan().join(stage.box, "uts", "mount").exec(command),
    }


@pytest.mark.parametrize("name", ["pivot", "chroot", "fork", "join"])
def test_plans_by_hand(name: str, stage: Stage) -> None:
    plan = by_hand(stage)[name]
    check_foreign(looks(lambda: plan.run(**QUIET))[-1])


CLOSE = {"x86_64": 3, "aarch64": 57}[os.uname().machine]
NO_CLOSE = b"".join(
    (
        bytes.fromhex("2000000000000000"),  # load the number of the system call
        bytes.fromhex("15000001") + CLOSE.to_bytes(4, "little"),  # another one: skip
        bytes.fromhex("0600000001000500"),  # EPERM
        bytes.fromhex("060000000000ff7f"),  # allow
    )
)


@pytest.mark.parametrize("fork", [False, True])
def test_a_filter_that_refuses_close(fork: bool, stage: Stage) -> None:
    """Whatever the command may not do, it is done before."""
    found = looks(
        lambda: nsdemo.run(
            ["/bin/witness", "here"],
            root=stage.root,
            mounts=[nsdemo.Tmpfs("/tmp")],
            seccomp=NO_CLOSE,
            fork=fork,
            pid=fork,
            die_with_parent=fork,
            **QUIET,
        )
    )
    check_foreign(found[-1])
