"""Newer system calls, each refused alone: there is another way, or an error that names it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest
from support import refusing, script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

refused = pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])

BODY = """
    root = sys.argv[1]
    quiet = dict(stdin=nsdemo.DEVNULL, capture_output=True)
    tell = ["sh", "-c", "echo $$ $(hostname) $(ls /proc/self/fd); exit 7"]

    def within(**options):
        with nsdemo.spawn(["sleep", "1000"], root=root, hostname="in", stdin=nsdemo.DEVNULL,
                          **options) as box:
            return box.enter(tell, capture_output=True, stdin=nsdemo.DEVNULL)

    bind = [nsdemo.Bind("/etc", "/mnt", readonly=True), nsdemo.Dev()]
    calls = {
        "chroot_run": lambda: nsdemo.chroot_run(root, ["sh", "-c", "exit 7"], **quiet),
        "spawn": lambda: nsdemo.run(tell, root=root, hostname="in", **quiet),
        "no guard": lambda: nsdemo.run(tell, root=root, die_with_parent=False, **quiet),
        "init": lambda: nsdemo.run(tell, root=root, init=True, **quiet),
        "mounts": lambda: nsdemo.run(tell, root=root, mounts=bind, readonly_root=True, **quiet),
        "enter": within,
    }
    report(**{name: outcome(call) for name, call in calls.items()})
"""


def found_without(call: str, error: str, rootfs: Path) -> dict[str, Any]:
    done = script(BODY, str(rootfs), under=refusing(call, error))
    found: dict[str, Any] = done.report
    assert [each["left"] for each in found.values()] == [[]] * len(found)
    return found


@refused
@pytest.mark.parametrize(
    "call", ["clone3", "close_range", "openat2", "mount_setattr", "memfd_create", "open_tree"]
)
def test_there_is_another_way(call: str, error: str, rootfs: Path) -> None:
    found = found_without(call, error, rootfs)
    for name, each in found.items():
        assert (each["error"], each["returncode"]) == (None, 7), name
    assert found["spawn"]["output"] == "1 in 0 1 2 3\n"
    assert found["init"]["output"].startswith("2 ")
    assert found["enter"]["output"].split()[1:] == ["in", "0", "1", "2", "3"]


@refused
def test_no_pidfd_no_command(error: str, rootfs: Path) -> None:
    """A number may be somebody else's by the time it is signalled: nothing runs without."""
    for name, each in found_without("pidfd_open", error, rootfs).items():
        assert each["error"] is not None, name
        assert "NamespaceError" in each["error"]["type"], name
        assert each["error"]["errno"] == getattr(errno, error), name
        assert each["at_once"] == [], name
        assert each["error"]["operation"] in ("start", "watch", "open_process"), name
        assert "pidfd_open is refused to this process" in each["error"]["notes"][0], name
        assert "allow pidfd_open and pidfd_send_signal" in each["error"]["notes"][0], name
