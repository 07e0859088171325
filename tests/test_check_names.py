"""c6 and c9: names that outlive processes, and pods. Live and for a grade, with their cheats."""

from __future__ import annotations

from pathlib import Path

import pytest
from checking import grade, live, users
from support import IS_ROOT

from nsdemo import check

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

ALIVE = "the process is alive, and yours to look at"
HANDED = "the solution ran to its end and handed something over"

# -- c6 ------------------------------------------------------------------------------------

# unshare(1) makes the pins, to be independent of the calls that the check is for.
HOLDER = """
import shutil, subprocess, tempfile
folder = tempfile.mkdtemp()
pin = folder + "/pin"
sleep = ["sleep", "600"]
holder = nsdemo.spawn(sleep, uts=False)

def inside(*words, **options):
    return nsdemo.run(words, join=holder, check=True, **options)

def pinned(flag="--uts", command=("true",)):
    Path(pin).touch()
    inside("unshare", f"{flag}={pin}", *command)

def report_on(path=pin, holder=holder, checked=check.c6):
    try:
        report(**checked(path, holder).as_dict())
    finally:
        globals()["holder"].kill()
        globals()["holder"].wait()
        shutil.rmtree(folder)
"""
MOUNT = "at that path, a mount keeps a namespace"
UTS = "it is a uts namespace, and not yours"
NOBODY = "no process is in it"
READ = "a host name that one process leaves in it is read by the next"


@users
def test_c6_passes_a_pin_without_processes(ordinary: bool) -> None:
    found = live(HOLDER + "pinned()\nreport_on()", ordinary)
    assert found.passed, found.seen
    assert len(found.facts) == 5
    assert not any(fact["question"] for fact in found.facts)
    assert found.seconds < 2


@pytest.mark.skipif(not IS_ROOT, reason="only root mounts in the mount namespace of everybody")
def test_c6_passes_a_pin_of_ours(tmp_path: Path) -> None:
    body = """
    import subprocess, tempfile
    with tempfile.TemporaryDirectory() as folder:
        pin = Path(folder, "pin")
        pin.touch()
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "--make-private", folder], check=True)
        subprocess.run(["unshare", f"--uts={pin}", "hostname", "as-it-was"], check=True)
        try:
            result = check.c6(pin)
            again = nsdemo.run(["uname", "-n"], uts=str(pin), stdout=nsdemo.PIPE, text=True)
            assert again.stdout == "as-it-was\\n", again.stdout
        finally:
            subprocess.run(["umount", pin], check=True)
            subprocess.run(["umount", folder], check=True)
    report(**result.as_dict())
    """
    found = live(body)
    assert found.passed, found.seen


CHEATS = {
    "a link to the namespace of a process": (
        "os.symlink('/proc/1/ns/uts', pin)\nreport_on()",
        {MOUNT},
    ),
    "a file that says so": (
        "Path(pin).write_text('uts:[4026532267]')\nreport_on()",
        {MOUNT},
    ),
    "nothing there": ("report_on()", {MOUNT}),
    "a pipe": ("os.mkfifo(pin)\nreport_on()", {MOUNT}),
    "another kind": ("pinned('--ipc')\nreport_on()", {UTS, READ}),
    "somebody is in it": (
        "pinned()\n"
        "words = ['nsenter', f'--uts={pin}', *sleep]\n"
        "member = nsdemo.spawn(words, join=holder)\n"
        "while member.namespaces['uts'] == holder.namespaces['uts']: time.sleep(0.01)\n"
        "result = check.c6(pin, holder)\n"
        "member.kill(), member.wait()\n"
        "report_on(checked=lambda *args: result)",
        {NOBODY, READ},
    ),
    "a thread is in it": (
        "pinned()\n"
        "code = '''\n"
        "import ctypes, os, sys, threading, time\n"
        "def live():\n"
        "    fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "    print(ctypes.CDLL(None).setns(fd, 0x04000000), flush=True)\n"
        "    os.close(fd)\n"
        "    time.sleep(600)\n"
        "threading.Thread(target=live, daemon=True).start()\n"
        "time.sleep(600)'''\n"
        "kept = dict.fromkeys(('mount', 'uts', 'ipc', 'pid'), False)\n"
        "words = [sys.executable, '-I', '-S', '-c', code, f'/proc/{holder.pid}/root{pin}']\n"
        "member = nsdemo.spawn(words, user=holder, **kept, stdout=nsdemo.PIPE)\n"
        "assert member.stdout.readline() == b'0\\n'\n"
        "result = check.c6(pin, holder)\n"
        "member.kill(), member.wait(), member.stdout.close()\n"
        "report_on(checked=lambda *args: result)",
        {NOBODY, READ},
    ),
    "ours": (
        "Path(pin).touch()\ninside('mount', '--bind', '/proc/self/ns/uts', pin)\nreport_on()",
        {UTS, NOBODY, READ},
    ),
    "the check is told otherwise": (
        "Path(pin).touch()\n"
        "os.path.ismount = lambda path: True\n"
        "os.listdir = lambda *args: []\n"
        "nsdemo.namespaces = lambda target=None: {'uts': (4, id(target))}\n"
        "result = check.c6(pin, holder)\n"
        "import importlib; importlib.reload(os)\n"
        "report_on(checked=lambda *args: result)",
        {MOUNT},
    ),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_c6_fails_what_only_looks_right(cheat: str) -> None:
    lines, failed = CHEATS[cheat]
    found = live(HOLDER + lines)
    assert set(found.failed) == failed, found.seen
    assert all(fact["question"] for fact in found.facts if not fact["passed"])


def test_c6_leaves_the_machines_host_name_alone() -> None:
    body = HOLDER + "before = os.uname().nodename\npinned()\n"
    body += "def checked(*args):\n    result = check.c6(*args)\n"
    body += "    assert os.uname().nodename == before\n    return result\n"
    assert live(body + "report_on(checked=checked)").passed


@pytest.mark.parametrize(
    ("pin", "error"), [(7, TypeError), (None, TypeError), ("pin", ValueError), ("/\0", ValueError)]
)
def test_c6_what_is_no_path_is_an_error(pin: object, error: type) -> None:
    with pytest.raises(error, match=r"absolute|path of a file"):
        check.c6(pin)  # type: ignore[arg-type]


def test_c6_a_dead_holder_is_a_failed_fact() -> None:
    result = check.c6("/pin", 2**22)
    assert [fact.asked for fact in result.facts] == [ALIVE]
    assert not result


IN_THE_SANDBOX = """
import os, subprocess
import nsdemo
pin = "/tmp/pin"
open(pin, "w").close()
"""
PINNED = IN_THE_SANDBOX + (
    "subprocess.run(['mount', '--bind', '/tmp', '/tmp'], check=True)\n"
    "subprocess.run(['mount', '--make-private', '/tmp'], check=True)\n"
    "open(pin, 'w').close()\n"
    "subprocess.run(['unshare', f'--uts={pin}', 'true'], check=True)\n"
)


@users
def test_c6_grades_a_solution(ordinary: bool, tmp_path: Path) -> None:
    found = grade("c6", PINNED, tmp_path, ordinary)
    assert found.passed, found.seen
    assert found.seconds < 2


def test_c6_grades_a_pin_that_a_holder_has(tmp_path: Path) -> None:
    source = IN_THE_SANDBOX + (
        "holder = nsdemo.spawn(['sleep', '600'], uts=False)\n"
        "nsdemo.run(['unshare', f'--uts={pin}', 'true'], join=holder, check=True)\n"
    )
    found = grade("c6", source, tmp_path)
    assert found.passed, found.seen


GRADED = {
    "a link": (IN_THE_SANDBOX + "pin = '/proc/self/ns/uts'", {MOUNT}),
    "still in it": (
        PINNED + "os.system('nsenter --uts=/tmp/pin sleep 600 &')\nimport time\ntime.sleep(0.2)",
        {NOBODY, READ},
    ),
    "a recorded answer": ("print('c6: passed (5 of 5 facts)')", {HANDED}),
    "no path": ("pin = 7", {HANDED}),
    "a path from here": ("pin = 'pin'", {HANDED}),
    "nobody's": ("pin = '/tmp/pin'\nholder = 4000", {HANDED}),
}


@pytest.mark.parametrize("cheat", GRADED)
def test_c6_grades_no_cheat(cheat: str, tmp_path: Path) -> None:
    source, failed = GRADED[cheat]
    found = grade("c6", source, tmp_path)
    assert set(found.failed) == failed, found.seen


# -- c9 ------------------------------------------------------------------------------------

EVERY = "every process is alive, and yours to look at"
SEVERAL = "they are different processes"
COMMON = "net, ipc and uts namespace are one for all of them"
THEIRS = "and they are not yours"
APART = "mount, pid, cgroup and time namespace are each one's own"
HEARD = "a host name that is set in one of them is read in the others"

POD = """
sleep = ["sleep", "600"]
own = {"cgroup": True, "time": True}

def first(**options):
    return nsdemo.spawn(sleep, **{"net": True, **own, **options})

def member(of, **options):
    return nsdemo.spawn(sleep, **{"net": of, "ipc": of, "uts": of, **own, **options})

def report_on(*pod, checked=check.c9):
    try:
        report(**checked(pod).as_dict())
    finally:
        for box in reversed(pod):  # a PID 1 does not end before its joiners are reaped
            box.kill()
            box.wait()
"""


@users
def test_c9_passes_a_pod(ordinary: bool) -> None:
    body = POD + "pause = first()\nreport_on(pause, member(pause), member(pause))"
    found = live(body, ordinary)
    assert found.passed, found.seen
    assert len(found.facts) == 6
    assert found.seconds < 2


POD_CHEATS = {
    "one container, twice": ("one = first()\nreport_on(one, one)", {SEVERAL, APART}),
    "two that have nothing to do with each other": (
        "report_on(first(), first())",
        {COMMON, HEARD},
    ),
    "the machine's network": (
        "one = first(net=False)\nreport_on(one, member(one, net=False))",
        {THEIRS},
    ),
    "the machine's host name": (
        "one = first(uts=False)\nreport_on(one, member(one, uts=False))",
        {THEIRS, HEARD},
    ),
    "each its own host name": (
        "one = first()\nreport_on(one, member(one, uts=True))",
        {COMMON, HEARD},
    ),
    "a newcomer in the same container": (
        "one = first()\nreport_on(one, nsdemo.spawn(sleep, join=one))",
        {APART},
    ),
    "the processes of its neighbour": (
        "one = first()\nreport_on(one, member(one, pid=one, mount_proc=False))",
        {APART},
    ),
    "the machine's clock": (
        "one = first(time=False)\nreport_on(one, member(one, time=False))",
        {APART},
    ),
    "a list of inodes that somebody changed": (
        "nsdemo.namespaces = lambda target=None: dict.fromkeys(('net', 'ipc', 'uts'), (4, 1))\n"
        "report_on(first(), first())",
        {COMMON, HEARD},
    ),
}


@pytest.mark.parametrize("cheat", POD_CHEATS)
def test_c9_fails_what_only_looks_right(cheat: str) -> None:
    lines, failed = POD_CHEATS[cheat]
    found = live(POD + lines)
    assert set(found.failed) == failed, found.seen
    assert all(fact["question"] for fact in found.facts if not fact["passed"])


def test_c9_sets_the_host_name_back() -> None:
    body = POD + (
        "def checked(pod):\n"
        "    before = os.uname().nodename\n"
        "    result = check.c9(pod)\n"
        "    assert os.uname().nodename == before\n"
        "    for box in pod:\n"
        "        said = box.enter(['uname', '-n'], stdout=nsdemo.PIPE, text=True).stdout\n"
        "        assert said == 'podder\\n', said\n"
        "    return result\n"
        "one = first(hostname='podder')\n"
        "report_on(one, member(one), checked=checked)"
    )
    assert live(body).passed


def test_c9_a_dead_container_is_a_failed_fact() -> None:
    body = POD + "one = first()\ngone = member(one)\ngone.kill()\ngone.wait()\nreport_on(one, gone)"
    found = live(body)
    assert found.failed == [EVERY]
    assert "ended" in found.seen


@pytest.mark.parametrize(
    ("pod", "error", "why"),
    [
        (7, TypeError, "a list"),
        ("ab", TypeError, "a list"),
        ([1], ValueError, "2 to 10"),
        ([1] * 11, ValueError, "2 to 10"),
        ([1, "x"], TypeError, "pid"),
        ([1, True], TypeError, "pid"),
    ],
)
def test_c9_what_is_no_pod_is_an_error(pod: object, error: type, why: str) -> None:
    with pytest.raises(error, match=why):
        check.c9(pod)  # type: ignore[arg-type]


GRADED_POD = "import nsdemo\n" + POD.partition("def report_on")[0] + "one = first()\n"


@users
def test_c9_grades_a_solution(ordinary: bool, tmp_path: Path) -> None:
    found = grade("c9", GRADED_POD + "pod = [one, member(one).pid]; keep = one", tmp_path, ordinary)
    assert found.passed or "there is no process" in found.seen, found.seen
    found = grade("c9", GRADED_POD + "pod = [one, member(one)]", tmp_path, ordinary)
    assert found.passed, found.seen
    assert found.seconds < 2


GRADED_CHEATS = {
    "itself and its parent": ("import os\npod = [os.getpid(), 1]", {THEIRS, APART}),
    "a recorded answer": ("print('c9: a pod: passed (6 of 6 facts)')", {HANDED}),
    "everything changed": (
        GRADED_POD + "from nsdemo import check\n"
        "check.Fact.passed = check.Result.passed = True\npod = [one, first()]",
        {COMMON, HEARD},
    ),
    "no list": (GRADED_POD + "pod = one", {HANDED}),
    "one alone": (GRADED_POD + "pod = [one]", {HANDED}),
    "names": ("pod = ['web', 'log']", {HANDED}),
}


@pytest.mark.parametrize("cheat", GRADED_CHEATS)
def test_c9_grades_no_cheat(cheat: str, tmp_path: Path) -> None:
    source, failed = GRADED_CHEATS[cheat]
    found = grade("c9", source, tmp_path)
    assert set(found.failed) == failed, found.seen
