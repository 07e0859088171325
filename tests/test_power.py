"""What is taken from a command, as /proc/PID/status has it: beside setpriv and prlimit."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import IS_ROOT, QUIET, leftovers_now, script, snapshot

import nsdemo
from nsdemo import Plan

pytestmark = pytest.mark.usefixtures("ordinary_users_may")
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can become somebody else")

CAPTURED: dict[str, Any] = {**QUIET, "capture_output": True, "text": True}
FIELDS = "^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):"
STATUS = ["grep", "-E", FIELDS, "/proc/self/status"]
KILL, NET_RAW = 1 << 5, 1 << 13

ALLOW, ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
UNAME = {"x86_64": 63, "aarch64": 160}[platform.machine()]


def instruction(code: int, k: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", code, yes, no, k)


ALLOW_ALL = instruction(6, ALLOW)
# if nr == uname: return EPERM
NO_UNAME = (
    instruction(0x20, 0) + instruction(0x15, UNAME, 0, 1) + instruction(6, ERRNO | 1) + ALLOW_ALL
)


def status(**options: Any) -> dict[str, str]:
    done = nsdemo.run(STATUS, **CAPTURED, **options)
    assert done.returncode == 0, done.stderr
    return fields(done.stdout)


def fields(text: str) -> dict[str, str]:
    return dict(line.split(":\t") for line in text.splitlines())


def original(*words: str) -> str:
    """What a command of util-linux prints, with the power that a container's root has."""
    if shutil.which(words[0]) is None:
        pytest.fail(f"{words[0]} is not installed (util-linux)")
    prefix = [] if IS_ROOT else ["unshare", "--map-root-user"]
    done = subprocess.run([*prefix, *words], **CAPTURED, timeout=30)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


# -- no_new_privs


@pytest.fixture
def setuid_id() -> Iterator[str]:
    """A program of root's that anybody runs as root: it prints the uid that it got."""
    folder = tempfile.mkdtemp(prefix="nsdemo-setuid-")
    os.chmod(folder, 0o755)
    path = f"{folder}/id"
    shutil.copyfile(shutil.which("id") or "/usr/bin/id", path)
    os.chmod(path, 0o4755)
    yield path
    shutil.rmtree(folder)


@needs_root
def test_a_setuid_program_gains_nothing(setuid_id: str) -> None:
    options: dict[str, Any] = {**CAPTURED, "uid": 1234, "gid": 1234}
    assert nsdemo.run([setuid_id, "-u"], **options).stdout == "0\n"
    assert nsdemo.run([setuid_id, "-u"], no_new_privs=True, **options).stdout == "1234\n"


def test_no_new_privs_in_all_calls(rootfs: Path) -> None:
    assert status()["NoNewPrivs"] == "0"
    assert status(no_new_privs=True) == fields(original("setpriv", "--no-new-privs", *STATUS))
    words = [
        "sh",
        "-c",
        "while read n v; do [ $n = NoNewPrivs: ] && echo $v; done </proc/self/status",
    ]
    with nsdemo.spawn(["sleep", "100"], root=rootfs, no_new_privs=True, **QUIET) as box:
        assert "NoNewPrivs:\t1" in Path(f"/proc/{box.pid}/status").read_text()
        assert box.enter(words, **CAPTURED).stdout == "0\n"
        assert box.enter(words, no_new_privs=True, **CAPTURED).stdout == "1\n"
    done = nsdemo.chroot_run("/", words, no_new_privs=True, **CAPTURED)
    assert done.stdout == "1\n"
    plan = Plan().no_new_privs().exec(STATUS)
    assert fields(plan.run(**CAPTURED).stdout)["NoNewPrivs"] == "1"


def test_this_process_keeps_its_privileges() -> None:
    before = snapshot()
    status(no_new_privs=True)
    status(no_new_privs=True, capabilities=[], rlimits={"core": 0}, seccomp=ALLOW_ALL)
    assert leftovers_now(before) == []


# -- capabilities


def test_only_what_is_kept_is_left() -> None:
    found = status(capabilities=["CAP_KILL", "net_raw"])
    sets = {name: int(value, 16) for name, value in found.items() if name.startswith("Cap")}
    assert sets == {
        "CapInh": 0, "CapPrm": KILL | NET_RAW, "CapEff": KILL | NET_RAW,
        "CapBnd": KILL | NET_RAW, "CapAmb": 0,
    }  # fmt: skip
    words = ("--inh-caps", "-all", "--bounding-set", "-all,+kill,+net_raw")
    assert found == fields(original("setpriv", *words, *STATUS))
    assert status(capabilities=("Kill", "cap_net_RAW"), init=True) == found


def test_nothing_is_kept() -> None:
    words = ("--inh-caps", "-all", "--bounding-set", "-all")
    assert status(capabilities=()) == fields(original("setpriv", *words, *STATUS))


def test_what_is_ambient_outlives_a_change_of_user() -> None:
    caps = ("--inh-caps", "-all,+kill", "--ambient-caps", "+kill")
    ids = ("--reuid", "1234", "--regid", "1234", "--clear-groups") if IS_ROOT else ()
    options: dict[str, Any] = {"uid": 1234, "gid": 1234} if IS_ROOT else {}
    found = status(ambient=["kill"], **options)
    assert found == fields(original("setpriv", *ids, *caps, *STATUS))
    assert int(found["CapAmb"], 16) == KILL
    if IS_ROOT:
        assert int(found["CapEff"], 16) == KILL
        assert status(capabilities=["kill"], **options)["CapEff"].strip("0") == ""
    bounded = ("--bounding-set", "-all,+kill")
    found = status(capabilities=["kill"], ambient=["kill"], **options)
    assert found == fields(original("setpriv", *ids, *bounded, *caps, *STATUS))


def test_chroot_run_and_enter_drop_too(rootfs: Path) -> None:
    expected = status(capabilities=["kill"])
    done = nsdemo.chroot_run("/", STATUS, capabilities=["kill"], **CAPTURED)
    assert fields(done.stdout) == expected
    with nsdemo.spawn(["sleep", "100"], **QUIET) as box:
        done = box.enter(STATUS, capabilities=["kill"], **CAPTURED)
        assert fields(done.stdout) == expected


def test_a_plan_drops_by_hand() -> None:
    plan = Plan() if IS_ROOT else Plan().unshare("user").map_root()
    plan = plan.drop_bounding(["kill"]).keep_capabilities()
    if IS_ROOT:
        plan = plan.setgroups([]).setgid(1234).setuid(1234)
    plan = plan.capabilities(["kill"], ambient=["kill"]).exec(STATUS)
    found = fields(plan.run(**CAPTURED).stdout)
    assert {int(value, 16) for name, value in found.items() if name.startswith("Cap")} == {KILL}


def test_an_ordinary_user_drops_in_its_namespace() -> None:
    found = script(
        f"""
        done = nsdemo.run({STATUS}, capabilities=["kill"], no_new_privs=True, text=True,
                          capture_output=True, stdin=nsdemo.DEVNULL)
        report(found=dict(line.split(":\\t") for line in done.stdout.splitlines()))
        """,
        ordinary=True,
    ).report["found"]
    assert int(found["CapPrm"], 16) == int(found["CapBnd"], 16) == KILL
    assert found["NoNewPrivs"] == "1"


def test_an_ordinary_user_without_a_namespace_is_told() -> None:
    found = script(
        f"""
        none = dict(mount=False, uts=False, ipc=False, pid=False, user=False)
        def told(**options):
            try:
                nsdemo.run(["true"], **none, **options, stdin=nsdemo.DEVNULL)
            except nsdemo.NamespaceError as error:
                return [error.step.operation, error.strerror, *error.__notes__]
        kill = ["kill"]
        report(found=[told(capabilities=kill), told(ambient=kill), told(seccomp={ALLOW_ALL})])
        """,
        ordinary=True,
    ).report["found"]
    assert found[0][0] == "drop_bounding"
    assert "needs CAP_SETPCAP" in found[0][2]
    assert found[1][0] == "capset"
    assert "CAP_KILL" in found[1][2]
    assert found[2][0] == "seccomp"
    assert "no_new_privs=True" in found[2][2]


def test_the_names_are_those_of_the_kernel() -> None:
    from nsdemo._request.power import CAPABILITIES, capability_names

    listed = subprocess.run(["setpriv", "--list-caps"], **CAPTURED, check=True).stdout.split()
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    known = min(len(listed), len(CAPABILITIES), last + 1)
    assert known >= 38
    assert [f"CAP_{name.upper()}" for name in listed[:known]] == list(CAPABILITIES[:known])
    assert capability_names(1 << 63) == ("CAP_63",)


# -- limits


def test_limits_are_those_of_prlimit() -> None:
    limits = {"nofile": 64, "RLIMIT_AS": (1 << 30, None), "core": (0, "unlimited"), "cpu": [5, 9]}
    hard_core = nsdemo.run(["sh", "-c", "ulimit -Hc"], **CAPTURED).stdout.strip()
    if hard_core != "unlimited":
        limits["core"] = (0, int(hard_core) * 512)
    core = "unlimited" if hard_core == "unlimited" else str(int(hard_core) * 512)
    words = ("--nofile=64", f"--as={1 << 30}:unlimited", f"--core=0:{core}", "--cpu=5:9")
    theirs = original("prlimit", *words, "cat", "/proc/self/limits")
    command = ["cat", "/proc/self/limits"]
    mine = nsdemo.run(command, rlimits=limits, **CAPTURED).stdout
    assert [line for line in mine.splitlines() if "pending" not in line] == [
        line for line in theirs.splitlines() if "pending" not in line
    ]
    assert nsdemo.chroot_run("/", command, rlimits=limits, **CAPTURED).stdout == mine
    plan = Plan().rlimits(limits).exec(command)
    assert plan.run(**CAPTURED).stdout == mine


def test_a_limit_that_may_not_be_raised() -> None:
    found = script("""
    import resource
    resource.setrlimit(resource.RLIMIT_NPROC, (4000, 4000))
    resource.setrlimit(resource.RLIMIT_NOFILE, (4000, 4000))
    def told(**limits):
        try:
            nsdemo.run(["true"], rlimits=limits, stdin=nsdemo.DEVNULL)
        except nsdemo.NamespaceError as error:
            return [error.step.operation, str(error), *error.__notes__]
    report(found=[told(nofile=4001), told(nproc=None), told(nofile=1 << 40)])
    """, ordinary=True).report["found"]  # fmt: skip
    assert [each[0] for each in found] == ["rlimit"] * 3
    assert "set the limit nofile" in found[0][1]
    assert "the hard limit of nofile is 4000 here, and 4001 is more" in found[0][2]
    assert "the hard limit of nproc is 4000 here, and unlimited is more" in found[1][2]
    assert "sysctl fs.nr_open" in found[2][2]


# -- seccomp


class Exporting:
    """What a filter of libseccomp's own binding looks like, from its 2.6 on."""

    def export_bpf_mem(self) -> bytes:
        return NO_UNAME


class ToFile:
    """And before; pyseccomp itself is tested below."""

    def export_bpf(self, file: Any) -> None:
        os.write(file.fileno(), NO_UNAME)


@pytest.mark.parametrize("program", [NO_UNAME, bytearray(NO_UNAME), Exporting(), ToFile()])
def test_a_filter_judges_the_command(program: Any) -> None:
    assert nsdemo.run(["uname"], **CAPTURED).stdout == "Linux\n"
    done = nsdemo.run(["uname"], seccomp=program, no_new_privs=True, **CAPTURED)
    assert done.returncode != 0
    assert "Operation not permitted" in done.stderr
    assert status(seccomp=program, no_new_privs=True)["Seccomp"] == "2"


def test_a_filter_of_pyseccomp() -> None:
    try:
        import pyseccomp
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"there is no pyseccomp, or no libseccomp (nsdemo[seccomp]): {error}")
    program: Any = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    program.add_rule(pyseccomp.ERRNO(errno.ENOTNAM), "uname")
    for options in ({}, {"init": True}, {"user": True}):
        done = nsdemo.run(["uname"], seccomp=program, no_new_privs=True, **CAPTURED, **options)
        assert done.returncode != 0
        assert os.strerror(errno.ENOTNAM) in done.stderr
    assert status(seccomp=program, no_new_privs=True)["Seccomp"] == "2"


def test_a_filter_in_the_other_calls() -> None:
    options: dict[str, Any] = {"seccomp": ALLOW_ALL, "no_new_privs": True}
    done = nsdemo.chroot_run("/", STATUS, **CAPTURED, **options)
    assert fields(done.stdout)["Seccomp"] == "2"
    with nsdemo.spawn(["sleep", "100"], **QUIET, **options) as box:
        assert "Seccomp:\t2" in Path(f"/proc/{box.pid}/status").read_text()
        assert fields(box.enter(STATUS, **CAPTURED, **options).stdout)["Seccomp"] == "2"
    plan = Plan().no_new_privs().seccomp(ALLOW_ALL)
    assert fields(plan.exec(STATUS).run(**CAPTURED).stdout)["Seccomp"] == "2"
    assert plan != Plan().no_new_privs().seccomp(NO_UNAME[:8])


def test_a_filter_that_forbids_the_command_itself() -> None:
    """Also where it forbids the launcher to exit: nothing hangs, nothing stays."""
    before = snapshot()
    with pytest.raises(PermissionError):
        nsdemo.run(["true"], seccomp=instruction(6, ERRNO | 1), no_new_privs=True, **QUIET)
    assert leftovers_now(before) == []
    done = nsdemo.run(["true"], seccomp=instruction(6, KILL_PROCESS), no_new_privs=True, **QUIET)
    assert done.returncode == -signal.SIGSYS
    assert leftovers_now(before) == []


# -- what is refused before anything is tried


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"capabilities": "kill"}, TypeError, "list of names"),
        ({"capabilities": [5]}, TypeError, "name is a str"),
        ({"capabilities": 0}, TypeError, "list of names"),
        ({"capabilities": ["kil"]}, ValueError, "did you mean CAP_KILL"),
        ({"capabilities": ["net_admn"]}, ValueError, "CAP_NET_ADMIN"),
        ({"capabilities": [""]}, ValueError, "no capability"),
        ({"capabilities": ["kill\0"]}, ValueError, "no capability"),
        ({"capabilities": ["kill"], "ambient": ["chown"]}, ValueError, "CAP_CHOWN must be among"),
        ({"ambient": None}, TypeError, "ambient is a list"),
        ({"rlimits": [("nofile", 1)]}, TypeError, "mapping"),
        ({"rlimits": 0}, TypeError, "mapping"),
        ({"rlimits": {"nofiles": 1}}, ValueError, "did you mean nofile"),
        ({"rlimits": {7: 1}}, TypeError, "name is a str"),
        ({"rlimits": {"nofile": 1.5}}, TypeError, "a number"),
        ({"rlimits": {"nofile": True}}, TypeError, "a number"),
        ({"rlimits": {"nofile": -2}}, ValueError, "between 0 and"),
        ({"rlimits": {"nofile": 1 << 63}}, ValueError, "between 0 and"),
        ({"rlimits": {"nofile": (2, 1)}}, ValueError, "above the hard limit 1"),
        ({"rlimits": {"nofile": (None, 1)}}, ValueError, "above the hard limit 1"),
        ({"rlimits": {"nofile": (1, 2, 3)}}, ValueError, "(soft, hard)"),
        ({"rlimits": {"nofile": 1, "RLIMIT_NOFILE": 2}}, ValueError, "twice"),
        ({"seccomp": b""}, ValueError, "1 to 4096 instructions, not 0"),
        ({"seccomp": b"1234567"}, ValueError, "8-byte instructions"),
        ({"seccomp": bytes(8 * 4097)}, ValueError, "1 to 4096 instructions, not 4097"),
        ({"seccomp": "text"}, TypeError, "BPF program as bytes"),
    ],
)
def test_bad_input(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    before = snapshot()
    calls: list[Callable[..., Any]] = [nsdemo.run, nsdemo.spawn]
    for call in calls:
        with pytest.raises(kind) as caught:
            call(["true"], **options, **QUIET)
        assert words in str(caught.value)
    assert leftovers_now(before) == []


# -- a look at it


def test_power_by_name() -> None:
    from nsdemo import kernel

    options: dict[str, Any] = {"capabilities": ["kill", "net_raw"], "ambient": ["kill"]}
    with nsdemo.spawn(
        ["sleep", "100"], no_new_privs=True, seccomp=ALLOW_ALL, **options, **QUIET
    ) as box:
        found = kernel.power(box)
        lines = fields(Path(f"/proc/{box.pid}/status").read_text())
        both = frozenset({"CAP_KILL", "CAP_NET_RAW"})
        assert found.effective == found.permitted == found.bounding == both
        assert int(lines["CapEff"], 16) == KILL | NET_RAW
        assert found.inheritable == found.ambient == {"CAP_KILL"}
        assert (found.seccomp, found.no_new_privs) == ("filter", True)
    with pytest.raises(ProcessLookupError):
        kernel.power(box)
    mine = int(fields(Path("/proc/thread-self/status").read_text())["CapBnd"], 16)
    assert len(kernel.power().bounding) == mine.bit_count()
    assert kernel.power(os.getpid()).no_new_privs is False


def test_the_picture_says_in_words_what_differs() -> None:
    from nsdemo import kernel, notebook

    with nsdemo.spawn(["sleep", "100"], capabilities=["kill"], no_new_privs=True, **QUIET) as box:
        picture = notebook.power(box)
        rows = {line.split()[0]: line for line in picture.text.splitlines()[2:]}
        known = kernel.power().bounding | kernel.power(box).bounding
        assert rows.keys() == known | {"seccomp", "no_new_privs"}
        assert rows["no_new_privs"].split() == ["no_new_privs", "no", "yes", "differs"]
        assert rows["seccomp"].endswith("same")
        assert rows["CAP_SETUID"].endswith("differs")
        assert "nsd-good" in picture.html
        assert picture.html.count("<tr>") == len(rows) + 1
        assert "differs" not in notebook.power().text
    assert "has ended" in notebook.power(box).text
