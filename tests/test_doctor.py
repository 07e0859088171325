"""doctor() probes by doing, says who forbids, and leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from test_hints import PREAMBLE, ROOT, USER, needs_root

import nsdemo
from nsdemo._doctor import Finding, Findings, _Absent, _forbids, _id_ranges, doctor
from nsdemo._facts import machine

NAMESPACES = ("mount", "uts", "ipc", "pid", "net", "user", "cgroup", "time")


def elsewhere(before: str) -> dict[str, Any]:
    """What doctor finds in a process of its own, prepared by ``before``; and str() of it."""
    script = f"""
import pwd, signal, tempfile
from nsdemo._doctor import doctor
{before}
found = doctor()
print(json.dumps(found.as_dict() | {{"text": str(found)}}))
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PREAMBLE + script],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(Path(nsdemo.__file__).parent.parent)},
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    result["rows"] = {row["name"]: row for row in result["findings"]}
    return result


def test_every_namespace_and_every_call_has_a_row() -> None:
    found = doctor()
    names = [row.name for row in found]
    assert names[0] == "launcher"
    assert tuple(names[1:9]) == NAMESPACES
    expected = {"id map", "mount /proc", "pivot_root", "chroot", "enter", "loopback", "pidfd"}
    assert expected <= set(names)
    assert len(set(names)) == len(names)


@pytest.mark.skipif(not ROOT, reason="only root is sure to be allowed everything")
def test_all_is_well_for_root() -> None:
    found = doctor()
    assert found.ok, str(found)
    assert bool(found) is True
    assert "with or without user=True" in found["uts"].detail


@needs_root
def test_an_ordinary_user_is_told_to_use_a_user_namespace() -> None:
    found = elsewhere(f"become({USER})")
    assert found["ok"], found["text"]
    assert found["rows"]["uts"]["detail"] == "uts=True with user=True, which is then the default"


def test_a_forbidden_user_namespace_is_found() -> None:
    # A limit of a user namespace of our own, so that nobody else is concerned.
    found = elsewhere(
        f"""
become({USER})
become_root_in_a_user_namespace()
write("/proc/sys/user/max_user_namespaces", "0")
"""
    )
    row = found["rows"]["user"]
    assert not row["works"]
    assert not found["ok"]
    assert row["forbidden_by"] == "a limit (user.max_*_namespaces)"
    assert "user.max_user_namespaces is 0" in row["advice"]
    assert "what to do:" in found["text"]
    assert found["rows"]["uts"]["works"]


@needs_root
def test_a_covered_proc_is_found() -> None:
    before = 'private_mounts()\nmount("/dev/null", "/proc/uptime", None, MS_BIND)'
    found = elsewhere(f"{before}\nbecome({USER})")
    row = found["rows"]["mount /proc"]
    assert not row["works"]
    assert row["forbidden_by"] == "mounts over /proc"
    assert "/proc/uptime" in row["advice"]
    assert found["rows"]["pivot_root"]["works"]


@needs_root
def test_the_fallback_without_memfd_is_found() -> None:
    before = """
call("unshare", NEWPID)
go_on_in_a_child()
private_mounts()
mount("proc", "/proc", "proc", 0)
write("/proc/sys/vm/memfd_noexec", "2")  # of this pid namespace
"""
    row = elsewhere(before)["rows"]["launcher"]
    assert row["works"]
    assert row["detail"].startswith("fallback: ")
    assert "vm.memfd_noexec is 2" in row["detail"]


def test_a_launcher_that_does_not_start_ends_the_search() -> None:
    found = elsewhere("resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))")
    assert [row["name"] for row in found["findings"]] == ["launcher"]
    assert found["findings"][0]["forbidden_by"] == "a limit"


def test_it_is_quick() -> None:
    doctor()
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        doctor()
        seconds.append(time.monotonic() - start)
        if seconds[-1] < 1.5:
            break
    assert min(seconds) < 1.5


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def state() -> list[Any]:
        files = [os.listdir("/proc/self/fd"), os.listdir(tmp_path)]
        children = Path("/proc/self/task").glob("*/children")
        return [*files, machine.mounts(), [path.read_text() for path in children], os.getcwd()]

    doctor()
    before = state()
    doctor()
    after = state()
    assert after == before


def test_it_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> Any:
        raise OSError(errno.ENOMEM, "refused")

    for name in ("pidfd_open", "memfd_create"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, refuse)
            assert isinstance(doctor(), Findings)
    monkeypatch.setattr("shutil.which", lambda name: None)
    found = doctor()
    assert not found["docker"].works
    assert found["id ranges"].works or found["id ranges"].advice


def test_missing_id_ranges_come_with_a_free_one_is_faked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "passes_on", lambda number: False)
    monkeypatch.setattr(machine, "read", lambda path: "somebody:200000:65536\n")
    monkeypatch.setattr("shutil.which", lambda name: "/bin/sh")
    with pytest.raises(_Absent, match="has lost its setuid bit"):
        _id_ranges()
    monkeypatch.setattr("nsdemo._doctor._has_file_capability", lambda path: True)
    with pytest.raises(_Absent) as caught:
        _id_ranges()
    assert caught.value.args[0].startswith("/etc/subuid has no range for ")
    assert "usermod --add-subuids 265536-331071 " in caught.value.args[1]


# -- Findings -------------------------------------------------------------------------------

GOOD = Finding("a", True, "fine")
BAD = Finding("bb", False, "no", "somebody", "ask")


def test_findings_are_a_sequence() -> None:
    found = Findings([GOOD, BAD])
    assert len(found) == 2
    assert list(found) == [GOOD, BAD]
    assert found[0] is found["a"] is GOOD
    assert found[1:] == Findings([BAD])
    assert hash(found) == hash(Findings((GOOD, BAD)))
    assert BAD in found
    assert found != [GOOD, BAD]
    with pytest.raises(KeyError):
        found["c"]
    with pytest.raises(IndexError):
        found[2]
    with pytest.raises(AttributeError):
        found.extra = 1  # type: ignore[attr-defined]


def test_findings_are_true_if_what_is_needed_works() -> None:
    assert Findings([GOOD])
    assert not Findings([GOOD, BAD])
    assert Findings([GOOD, BAD._replace(name="docker")])


def test_findings_print_as_a_table_with_advice() -> None:
    assert str(Findings([GOOD, BAD])).splitlines() == [
        "     what  how, or why not  forbidden by",
        "yes  a     fine",
        "no   bb    no               somebody",
        "",
        "what to do:",
        "  bb: ask",
    ]
    assert repr(Findings([GOOD, BAD])) == "<nsdemo.Findings: 1 of 2 work>"


def test_findings_go_into_json() -> None:
    found = doctor().as_dict()
    assert json.loads(json.dumps(found)) == found
    assert set(found["findings"][0]) == {"name", "works", "detail", "forbidden_by", "advice"}


# -- who forbids: fakes, for machines that this one is not ----------------------------------


@pytest.mark.parametrize(
    ("number", "files", "who"),
    [
        (errno.ENOSPC, {}, "a limit (user.max_*_namespaces)"),
        (errno.EAGAIN, {}, "a limit"),
        (errno.ENOSYS, {}, "the kernel"),
        (errno.EPERM, {"/proc/version": "gVisor"}, "gVisor"),
        (
            errno.EPERM,
            {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"},
            "AppArmor",
        ),
        (
            errno.EPERM,
            {"/proc/sys/kernel/unprivileged_userns_clone": "0"},
            "kernel.unprivileged_userns_clone",
        ),
        (errno.EPERM, {}, "no CAP_SYS_ADMIN"),
        (errno.ENOENT, {}, ""),
    ],
)
def test_who_forbids_is_faked(
    monkeypatch: pytest.MonkeyPatch, number: int, files: dict[str, str], who: str
) -> None:
    files = {"/proc/thread-self/status": "CapEff:\t0\nSeccomp:\t0\n"} | files
    monkeypatch.setattr(machine, "read", lambda path: files.get(path, ""))
    assert _forbids(OSError(number, "refused")) == who
