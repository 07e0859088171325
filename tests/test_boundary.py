"""What is a boundary and what is not: the table of docs/SECURITY.md, each line tried from inside.

What is said to be open must be open here, or the page frightens for nothing; and what is said
to close it must close it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import new_marker, script
from targets import CAPTURED, POWERS, hostile_root, only_root

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("ordinary_users_may")


@pytest.fixture(scope="module")
def prison() -> Iterator[Path]:
    with hostile_root("keyring") as root:
        yield root


def said(root: Path, command: str, **options: Any) -> str:
    """Its output, "no" if it failed."""
    done = nsdemo.run(
        ["sh", "-c", f"({command}) 2>&1 || echo no"], root=root, **options, **CAPTURED
    )
    return str(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("user", POWERS)
def test_read_only_holds_for_whoever_has_no_power(user: bool, prison: Path, tmp_path: Path) -> None:
    data = nsdemo.Bind(tmp_path, "/mnt", readonly=True)
    options: dict[str, Any] = {"mounts": [data], "readonly_root": True, "user": user}
    for place in ("/mnt", "/"):
        again = (
            f"mount -o remount,bind,rw {place} && mkdir {place}/x && rmdir {place}/x && echo yes"
        )
        assert said(prison, f"mkdir {place}/x", **options) == "no"
        assert said(prison, again, **options) == "yes"
        assert said(prison, again, capabilities=[], **options) == "no"


@only_root
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "yes"),
        ({"capabilities": []}, "yes"),
        ({"user": True}, "yes"),
        ({"user": True, "capabilities": [], "no_new_privs": True}, "yes"),
        ({"uid": 5}, "no"),
        ({"uid_map": [(0, 100000, 9)], "gid_map": [(0, 100000, 9)]}, "no"),
    ],
)
def test_real_root_owns_what_is_roots(options: dict[str, Any], expected: str, prison: Path) -> None:
    """Whatever power it has lost: the uid is 0, in a user namespace that root makes, too. With
    /proc/sys/kernel/core_pattern it has programs run outside."""
    command = ": >> /proc/sys/kernel/core_pattern && echo yes"
    assert said(prison, command, **options) == expected


def test_an_ordinary_users_root_is_root_over_itself(prison: Path) -> None:
    body = """
        def said(command, **options):
            done = nsdemo.run(["sh", "-c", f"({command}) 2>&1 || echo no"], root=sys.argv[1],
                              user=True, stdin=nsdemo.DEVNULL, capture_output=True, text=True)
            return done.stdout.splitlines()[-1]
        report(over_itself=said("hostname other && mount -t tmpfs none /mnt && echo yes"),
               over_the_machine=said(": >> /proc/sys/kernel/core_pattern && echo yes"))
    """
    found = script(body, str(prison), ordinary=True).report
    assert found == {"over_itself": "yes", "over_the_machine": "no"}


@pytest.mark.parametrize("user", POWERS)
def test_memory_that_is_mounted_has_a_size(user: bool, prison: Path) -> None:
    fill = "dd if=/dev/zero of=/tmp/file bs=64k count=4 2>/dev/null && echo yes"
    for size, expected in (("64k", "no"), ("1m", "yes")):
        mounts = [nsdemo.Dev(), nsdemo.Tmpfs("/tmp", size=size)]
        assert said(prison, fill, mounts=mounts, user=user) == expected


@pytest.mark.parametrize("user", POWERS)
def test_processes_are_seen_and_ended_where_the_pid_namespace_is_ours(
    user: bool, prison: Path
) -> None:
    with subprocess.Popen(["sleep", new_marker()], stdin=subprocess.DEVNULL) as other:
        try:
            command = f"kill -0 {other.pid} && echo yes"
            assert said(prison, command, pid=False, mount_proc=False, user=user) == "yes"
            assert said(prison, command, user=user) == "no"
        finally:
            other.kill()


@pytest.mark.parametrize("user", POWERS)
def test_the_network_is_ours_until_it_is_new(user: bool, prison: Path) -> None:
    name = f"nsdemo-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as ours:
        ours.bind(f"\0{name}")
        command = f"grep -q @{name} /proc/net/unix && echo yes"
        assert said(prison, command, user=user) == "yes"
        assert said(prison, command, user=user, net=True) == "no"


# -- the session keyring ------------------------------------------------------------------------

ADD_KEY, KEYCTL, REVOKE = {"x86_64": (248, 250, 3), "aarch64": (217, 219, 3)}[platform.machine()]
NO_KEYCTL = b"".join(
    (
        bytes.fromhex("2000000000000000"),  # load the number of the system call
        bytes.fromhex("15000001") + KEYCTL.to_bytes(4, "little"),  # another one: skip
        bytes.fromhex("0600000001000500"),  # EPERM
        bytes.fromhex("060000000000ff7f"),  # allow
    )
)


@contextlib.contextmanager
def key(name: str, content: bytes) -> Iterator[None]:
    """A key in our session keyring."""
    libc = ctypes.CDLL(None, use_errno=True)
    session = ctypes.c_int(-3)
    number = libc.syscall(ADD_KEY, b"user", name.encode(), content, len(content), session)
    if number < 0:
        pytest.skip(f"this kernel has no keyring for us: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        libc.syscall(KEYCTL, REVOKE, ctypes.c_int(number))


@pytest.mark.parametrize("user", POWERS)
def test_the_session_keyring_is_inherited(user: bool, prison: Path) -> None:
    name = f"nsdemo-test-{os.getpid()}"
    with key(name, b"ours"), nsdemo.spawn(["sleep", "100"], root=prison, user=user) as box:
        assert said(prison, f"keyring {name}", user=user) == "read ours"
        assert box.enter(["keyring", name], **CAPTURED).stdout == "read ours\n"
        assert said(prison, f"keyring {name}", user=user, seccomp=NO_KEYCTL) == "refused 1"


@pytest.mark.parametrize("user", POWERS)
def test_the_environment_is_inside_without_a_root(
    user: bool, prison: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSDEMO_TEST_SECRET", "ours")
    look = ["sh", "-c", "echo ${NSDEMO_TEST_SECRET-no} ${PATH:+path}"]
    path = {"PATH": "/usr/bin:/bin"}
    assert nsdemo.run(look, user=user, **CAPTURED).stdout == "ours path\n"
    assert nsdemo.run(look, user=user, env=path, **CAPTURED).stdout == "no path\n"
    assert nsdemo.run(look, user=user, root="/", **CAPTURED).stdout == "no path\n"
    with nsdemo.spawn(["sleep", "100"], root=prison, user=user) as box:
        with open(f"/proc/{box.pid}/environ", "rb") as environ:
            assert b"NSDEMO_TEST_SECRET" not in environ.read()
        box.kill()
    with nsdemo.spawn(["sleep", "100"], user=user) as box:
        assert nsdemo.enter(box, look, **CAPTURED).stdout == "no path\n"
        box.kill()
