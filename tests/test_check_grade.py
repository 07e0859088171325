"""Grades of s1 and s3: a file runs in a container, and only what is read from outside counts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from checking import either, grade, identity, place, python_of, run, users
from support import (
    IMPORTABLE,
    IS_ROOT,
    eventually,
    new_marker,
    processes_with,
    processor_time,
)

from nsdemo import check

pytestmark = pytest.mark.usefixtures("ordinary_users_may", "rootfs")

HANDED = "the solution ran to its end and handed something over"

ROOT = """
import ctypes, json, os, signal, socket, subprocess, sys, time
import nsdemo
from pathlib import Path
root = nsdemo.Rootfs.busybox("/tmp/root")
path, sleep = root.path, ["sleep", "600"]
plan = nsdemo.Plan().unshare("mount", "uts", "ipc", "pid").fork()
"""
PRIVATE = ROOT + 'plan = plan.make_private("/").bind(root, root)\n'
WITH_PROC = PRIVATE + 'plan = plan.mount("proc", f"{path}/proc", "proc")\n'
HONEST = WITH_PROC + "box = plan.pivot_root(root).exec(sleep).start()\n"


# -- who solved it ---------------------------------------------------------------------------


@users
@pytest.mark.parametrize("challenge", ["s1", "s3"])
def test_a_solution_passes(challenge: str, ordinary: bool, tmp_path: Path) -> None:
    found = grade(challenge, HONEST, tmp_path, ordinary)
    assert found.passed, found.seen
    assert len(found.facts) == 6
    assert found.code == 0
    assert found.seconds < 2


@pytest.mark.parametrize("challenge", ["s1", "s3"])
def test_a_solution_for_an_ordinary_user_passes_as_well(challenge: str, tmp_path: Path) -> None:
    source = HONEST.replace("nsdemo.Plan()", 'nsdemo.Plan().unshare("user").map_root()')
    found = grade(challenge, source, tmp_path)
    assert found.passed, found.seen


def test_a_pid_may_be_handed_over(tmp_path: Path) -> None:
    assert grade("s1", HONEST + "keep, box = box, box.pid\n", tmp_path).passed


def test_a_solution_runs_as_a_program(tmp_path: Path) -> None:
    """Its name, arguments, directory and imports are what a program's are."""
    source = HONEST + (
        "from nsdemo import check\n"
        'assert __name__ == "__main__" and sys.argv == [__file__] and os.getcwd() == "/tmp"\n'
        "assert sys.flags.isolated and os.getuid() == 0\n"
        "assert check.s1(box), check.s1(box)\n"
    )
    found = grade("s1", source, tmp_path)
    assert found.passed, found.seen


# -- who only says so ------------------------------------------------------------------------

LANDS = "whoever joins its mount namespace lands in its root"
NOWHERE = "a file that was just written outside is nowhere inside"
ESCAPE = 'the way out of a chroot (a second chroot, then "..") leads nowhere'
SHARED = "nothing in its mountinfo is shared"
OWN = "its mount namespace is its own"
MINE = "your own mounts are unchanged"

PATCHES = """
same = os.stat("/")
nsdemo.namespaces = lambda target=None: {"mount": (4, id(target))}
os.stat = os.lstat = os.fstat = lambda *args, **options: same
os.readlink = lambda *args, **options: "mnt:[1]"
nsdemo.Container.poll = lambda self: None
class Good:
    passed, facts = True, ()
from nsdemo import check
check.s1 = check.grade = lambda *args: Good()
check.Result.passed = check.Fact.passed = True
"""
RECORDED = {
    "challenge": "s1",
    "title": "pivot_root instead of chroot",
    "passed": True,
    "facts": [{"asked": "all", "passed": True, "seen": "all", "question": ""}],
}
FORGED = """
sockets = [int(fd) for fd in os.listdir("/proc/self/fd") if int(fd) > 2]
for fd in sockets:
    try:
        if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
            for line in ({"passed": True}, {"result": RECORDED}, {"box": 1}):
                os.write(fd, json.dumps(line).encode() + b"\\n")
    except OSError:
        pass
time.sleep(1)
"""

CHEATS = {
    "prints that it passed": (
        'print("s1: passed (6 of 6 facts)")',
        {HANDED},
    ),
    "prints a recorded answer and leaves": (
        f"import os\nprint('''{json.dumps(RECORDED)}''', flush=True)\nos._exit(0)",
        {HANDED},
    ),
    "talks to the grader itself": (
        ROOT + f"RECORDED = {RECORDED!r}" + FORGED,
        {HANDED},
    ),
    "changes os, nsdemo and check": (
        PRIVATE + "box = plan.chroot(root).exec(sleep).start()\n" + PATCHES,
        {LANDS, ESCAPE},
    ),
    "hands over its own process": (
        "import os\nbox = os.getpid()",
        {OWN, NOWHERE, ESCAPE, SHARED},
    ),
    "hands over the init": ("box = 1", {OWN, NOWHERE, ESCAPE, SHARED}),
    "hands over who moved to another mount namespace": (
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None)\n"
        "assert libc.unshare(0x20000) == 0\n"
        "assert libc.mount(None, b'/', None, 1 << 18 | 1 << 14, None) == 0\n"
        "box = os.getpid()",
        {NOWHERE, ESCAPE},
    ),
    "chroot": (PRIVATE + "box = plan.chroot(root).exec(sleep).start()", {LANDS, ESCAPE}),
    "shares its mounts": (
        PRIVATE + 'box = plan.pivot_root(root).propagation("shared").exec(sleep).start()',
        {SHARED},
    ),
    "keeps its old root in a corner": (
        PRIVATE + 'plan = plan.bind("/", f"{path}/run")\n'
        "box = plan.pivot_root(root).exec(sleep).start()",
        {NOWHERE, ESCAPE},
    ),
    "has copied all that was there before": (
        PRIVATE + 'plan = plan.bind("/", "/tmp/root/run").make_private("/")\n'
        "box = plan.pivot_root(f'{path}/run').exec(['/usr/bin/sleep', '600']).start()",
        {NOWHERE, ESCAPE},
    ),
    "a number that is nobody's": ("box = 4000", {HANDED}),
    "text": ('box = "4"', {HANDED}),
    "a container that has ended": (
        PRIVATE + 'box = plan.pivot_root(root).exec(["true"]).start()\nbox.wait()',
        {HANDED},
    ),
}


@pytest.mark.parametrize("cheat", CHEATS)
@users
def test_s1_is_not_fooled(cheat: str, ordinary: bool, tmp_path: Path) -> None:
    source, failed = CHEATS[cheat]
    found = grade("s1", source, tmp_path, ordinary)
    assert found.code == 1
    assert set(found.failed) == failed, found.seen
    assert all(fact["question"] for fact in found.facts if not fact["passed"])


CHEATS_S3 = {
    "mounts reach the caller": (
        ROOT + 'plan = plan.mount("tmpfs", f"{path}/mnt", "tmpfs") if 0 else plan\n'
        'plan = plan.mount("proc", f"{path}/proc", "proc").chroot(root)\n'
        "box = plan.exec(sleep).start()",
        {MINE},
    ),
    "the caller has moved away from what was mounted": (
        ROOT + 'plan = plan.mount("proc", f"{path}/proc", "proc").chroot(root)\n'
        "box = plan.exec(sleep).start()\n"
        "assert ctypes.CDLL(None).unshare(0x20000) == 0",
        {MINE},
    ),
    "no /proc": (
        PRIVATE + "box = plan.pivot_root(root).exec(sleep).start()",
        {"its /proc shows the processes of its own pid namespace"},
    ),
    "prints what ps would": (
        'print("PID   USER     COMMAND\\n    1 root     sh")',
        {HANDED},
    ),
}


@pytest.mark.parametrize("cheat", CHEATS_S3)
@either
def test_s3_is_not_fooled(cheat: str, ordinary: bool, tmp_path: Path) -> None:
    source, failed = CHEATS_S3[cheat]
    found = grade("s3", source, tmp_path, ordinary)
    assert set(found.failed) == failed, found.seen


REFUSED = {
    "spawn": "nsdemo.spawn(sleep, root=root)",
    "run": 'nsdemo.run(["true"])',
    "chroot_run": 'nsdemo.chroot_run(root, ["true"])',
    "enter": 'nsdemo.enter(plan.exec(sleep).start(), ["true"])',
    "spawn under its other name": "__import__('nsdemo._api')._api.spawn(sleep, root=root)",
    "a dry run": "__import__('nsdemo._api')._api.spawn(sleep, root=root, dry_run=True).start()",
    "enter of a container": 'plan.exec(sleep).start().enter(["true"])',
}


@pytest.mark.parametrize("challenge", ["s1", "s3"])
@pytest.mark.parametrize("call", REFUSED)
def test_only_plan_steps_are_offered(call: str, challenge: str, tmp_path: Path) -> None:
    found = grade(challenge, ROOT + f"box = {REFUSED[call]}", tmp_path)
    assert found.failed == [HANDED]
    assert "is not offered in this challenge: build it from the steps of nsdemo.Plan" in found.seen


# -- what a hostile solution gets ------------------------------------------------------------

HOSTILE = """
import ctypes, errno, glob, os, socket
libc = ctypes.CDLL(None, use_errno=True)
gained = []
def attempt(what, call, *args):
    try:
        call(*args)
    except (OSError, ValueError):
        return
    gained.append(what)
def mount(*args):
    if libc.mount(*args) < 0:
        raise OSError(ctypes.get_errno(), "")
def umount(path):
    if libc.umount2(path, 2) < 0:
        raise OSError(ctypes.get_errno(), "")
REMOUNT_RW = 32 | 4096
python = os.path.dirname(os.path.realpath(os.sys.executable))
for path in ("/", "/usr", "/nsdemo/nsdemo", "/tokens", "/etc", python):
    attempt(f"write {path}", open, f"{path}/planted", "w")
    attempt(f"remount {path}", mount, b"none", path.encode(), b"none", REMOUNT_RW, None)
for path in ("/usr", "/nsdemo/nsdemo", "/dev/null"):
    attempt(f"umount {path}", umount, path.encode())
attempt("open the interpreter", open, "/proc/self/exe", "r+b")
attempt("shadow", open, "/etc/shadow")
attempt("a device", os.mknod, "/tmp/sda", 0o60600, os.makedev(254, 0))
attempt("/proc/sys", open, "/proc/sys/kernel/hostname2", "w")
attempt("sysctl", open, "/proc/sys/vm/drop_caches", "w")
attempt("cgroups", mount, b"none", b"/tmp", b"cgroup2", 0, None)
attempt("a socket of the network", socket.create_connection, ("127.0.0.1", PORT), 1)
attempt("a higher limit", lambda: __import__("resource").setrlimit(6, (10000, 10000)))
seen = set(filter(str.isdigit, os.listdir("/proc"))) - {str(os.getpid())}
if seen != {"1"}:  # who waits for us, in here
    gained.append(f"processes {seen}")
for fd in os.listdir("/proc/self/fd"):
    try:
        link = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        continue
    if not link.startswith(("socket:", "pipe:", "/dev/null", "/proc/1/fd")):
        gained.append(f"descriptor {link}")
if "SECRET" in os.environ or b"SECRET" in open("/proc/self/environ", "rb").read():
    gained.append("environment")
umount(b"/proc")                      # what is mounted under ours: the outer container's
others = [
    pid for pid in filter(str.isdigit, os.listdir("/proc"))
    if len(open(f"/proc/{pid}/status").read().partition("NSpid:")[2].split("\\n")[0].split()) == 1
]
for pid in others:
    for name in ("root", "cwd", "exe", "ns/mnt"):
        attempt(f"{pid}/{name}", os.stat, f"/proc/{pid}/{name}")
    for name in ("mem", "environ", "maps"):
        attempt(f"{pid}/{name}", open, f"/proc/{pid}/{name}", "rb")
raise SystemExit(f"others: {others} gained: {gained}")
"""


@users
def test_a_hostile_solution_gains_nothing(
    ordinary: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "SECRET")
    with __import__("socket").create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = grade("s1", HOSTILE.replace("PORT", str(port)), tmp_path, ordinary)
    assert found.failed == [HANDED]
    assert found.seen == "line 54: it raised SystemExit: others: ['1'] gained: []"


KEYS = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
SESSION = -3
ADD, KEYCTL = {"x86_64": (248, 250), "aarch64": (217, 219)}[os.uname().machine]
def find():
    found = libc.syscall(KEYCTL, 10, SESSION, b"user", b"nsdemo-secret", 0)
    return found > 0
"""


@users
def test_a_solution_does_not_hold_the_graders_keys(ordinary: bool, tmp_path: Path) -> None:
    """Keys of a session are inherited, whatever the namespaces."""
    (tmp_path / "solution.py").write_text(KEYS + 'raise SystemExit(f"found: {find()}")')
    source = (tmp_path / "solution.py").read_text()
    grader = KEYS + (
        "libc.syscall(KEYCTL, 1, None)\n"
        'added = libc.syscall(ADD, b"user", b"nsdemo-secret", b"x", 1, SESSION)\n'
        f"open(os.environ['TMPDIR'] + '/solution.py', 'w').write({source!r})\n"
        "from nsdemo import check\n"
        "result = check.grade('s1', os.environ['TMPDIR'] + '/solution.py')\n"
        "os.remove(os.environ['TMPDIR'] + '/solution.py')\n"
        "print(added > 0, find(), result.facts[0].seen)\n"
    )
    ran = run(["-c", grader], ordinary)
    added, held, seen = ran.stdout.split(" ", 2)
    if added == "False":
        pytest.skip("this kernel has no keys for us: add_key(2) is refused")
    assert held == "True"
    assert seen.endswith("it raised SystemExit: found: False\n")


@pytest.mark.skipif(not IS_ROOT, reason="only root has files that others may not read")
def test_a_solution_has_no_id_of_the_graders(tmp_path: Path) -> None:
    """For a grader who is root it is somebody who owns nothing, seen from outside."""
    source = "raise SystemExit(open('/proc/self/uid_map').read() + str(os.stat('/usr').st_uid))"
    found = grade("s1", "import os\n" + source, tmp_path)
    inside, outside, count, owner = found.seen.split("SystemExit:")[1].replace("\\n", " ").split()
    assert (inside, count, owner) == ("0", "1", "65534")
    assert 61184 <= int(outside) < 65520 or int(outside) == 0  # seen from the outer namespace


# -- what does not end, or ends too early ------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "while True: pass",
        "import time\nwhile True: time.sleep(1)",
        "import signal\nfor n in range(1, 32):\n    try: signal.signal(n, lambda *a: None)\n"
        "    except OSError: pass\nwhile True: signal.pause()",
        "import sys\nwhile True: sys.stdout.write('x' * 65536)",
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    ],
    ids=["busy", "asleep", "deaf to signals", "a flood of output", "a fork bomb"],
)
@either
def test_what_never_ends_is_ended(source: str, ordinary: bool, tmp_path: Path) -> None:
    found = grade("s1", source, tmp_path, ordinary, timeout=1.5)
    assert found.failed == [HANDED]
    assert "it ran for too long" in found.seen


@pytest.mark.parametrize(
    "source",
    [
        "x = []\nwhile True: x.append(bytearray(1 << 24))",
        "import os\nfor _ in range(20):\n    if not os.fork(): break\n"
        "x = []\nwhile True:\n    try: x.append(bytearray(1 << 22))\n    except MemoryError: pass",
    ],
    ids=["one", "many"],
)
def test_an_eater_of_memory_is_ended(source: str, tmp_path: Path) -> None:
    found = grade("s1", source, tmp_path)
    assert found.failed == [HANDED]
    assert "MemoryError" in found.seen or "1024 MB of memory" in found.seen


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        (
            "n = 0\nwhile True:\n    n += 1\n"
            "    with open(f'/tmp/{n}', 'wb') as file: file.write(bytes(1 << 25))",
            "more than 1024 MB went to shared memory and files in memory",
        ),
        (
            "import os\nkept = []\nwhile True:\n    kept.append(os.memfd_create('x'))\n"
            "    os.write(kept[-1], bytes(1 << 25))",
            "more than 1024 MB went to shared memory and files in memory",
        ),
        (
            "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.shmat.restype = ctypes.c_void_p\n"
            "while True:\n    at = libc.shmat(libc.shmget(0, 1 << 26, 0o1600), None, 0)\n"
            "    ctypes.memset(at, 1, 1 << 26)\n    libc.shmdt(ctypes.c_void_p(at))",
            "more than 1024 MB went to shared memory and files in memory",
        ),
        (
            "import os, socket, time\nfor _ in range(8):\n    if not os.fork(): break\nkept = []\n"
            "while True:\n    try: kept += socket.socketpair()\n"
            "    except OSError: time.sleep(0.1)",
            "sockets can hold more than 1024 MB of memory",
        ),
    ],
    ids=["files", "no names", "System V", "sockets"],
)
def test_memory_of_no_process_is_bounded(source: str, seen: str, tmp_path: Path) -> None:
    found = grade("s1", source, tmp_path)
    assert found.failed == [HANDED]
    assert seen in found.seen


LEAVES = r"""
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
at = libc.shmat(libc.shmget(4711, 1 << 26, 0o1666), None, 0)
ctypes.memset(at, 1, 1 << 26)
number = libc.msgget(4711, 0o1666)
sent = libc.msgsnd(number, ctypes.create_string_buffer(struct.pack("l", 1) + bytes(8000)), 8000, 0)
semaphore = libc.semget(4711, 1, 0o1666)
kept = 0
while True:
    attributes = ctypes.create_string_buffer(struct.pack("llll32x", 0, 10, 8192, 0))
    if libc.mq_open(f"/left-{kept}".encode(), os.O_CREAT | os.O_RDWR, 0o666, attributes) < 0:
        break
    kept += 1
raise SystemExit(f"{at is not None} {sent} {semaphore >= 0} {0 < kept < 100}")
"""


def test_nothing_is_left_of_system_v_and_of_message_queues(tmp_path: Path) -> None:
    """They belong to the ipc namespace, which ends; the kernel bounds the queues of a user."""
    names = ("shm", "msg", "sem")
    before = [Path("/proc/sysvipc", name).read_text() for name in names]
    found = grade("s1", LEAVES, tmp_path)
    assert "it raised SystemExit: True 0 True True" in found.seen
    after = [Path("/proc/sysvipc", name).read_text() for name in names]
    assert [len(text.splitlines()) for text in after] == [len(t.splitlines()) for t in before]


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("1 / 0", "line 1: it raised ZeroDivisionError: division by zero"),
        ("\n\ndef f(:\n", "line 3: it raised SyntaxError"),
        ("\0", "it raised"),
        ("import sys; sys.exit('done')", "it raised SystemExit: done"),
        ("raise KeyboardInterrupt", "it raised KeyboardInterrupt"),
        ("import os; os._exit(3)", "its interpreter ended before it handed anything over"),
        ("print('I passed'); import os, sys; sys.stdout.flush(); os._exit(0)",
         "its last line was: I passed"),
        ("", "it has no name 'box' at its top level"),
        ("def f(): f()\nf()", "line 1: it raised RecursionError"),
        ("import os; os.kill(1, 9); os.abort()", "its interpreter ended"),
        ("box = 10**5000", "it raised ValueError"),
        ("box = 10**4000", "there is no process 1000"),
        ("class box:\n    pid = '\\x1b[31m<b>'", r"neither a Container nor a pid but \x1b[31m<b>"),
        ("box = [[[[]]]]", "neither a Container nor a pid"),
        ("box = object()", "it raised TypeError"),
    ],
)  # fmt: skip
def test_what_fails_is_said(source: str, seen: str, tmp_path: Path) -> None:
    found = grade("s1", source, tmp_path)
    assert found.failed == [HANDED]
    assert seen in found.seen
    assert found.facts[0]["question"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@users
def test_nothing_outlives_the_grader(number: int, ordinary: bool, tmp_path: Path) -> None:
    marker = new_marker()
    source = (
        "import subprocess\n"
        f"subprocess.Popen(['sleep', '{marker}'], start_new_session=True)\n"
        "while True: pass\n"
    )
    file = tmp_path / "solution.py"
    file.write_text(source)
    words = [python_of(ordinary), "-m", "nsdemo", "check", "s1", "/dev/stdin"]
    with place(ordinary) as folder, file.open() as stdin:
        env = {**os.environ, "PYTHONPATH": IMPORTABLE, "TMPDIR": str(folder)}
        grader = subprocess.Popen(
            words, stdin=stdin, cwd="/", env=env, start_new_session=True, **identity(ordinary)
        )
        try:
            assert eventually(lambda: processes_with(marker))
        finally:
            grader.send_signal(number)
            grader.wait()
        assert eventually(lambda: not processes_with(marker))
        if number == signal.SIGKILL:  # nobody is left to remove the empty directories
            (skeleton,) = folder.iterdir()
            shutil.rmtree(skeleton)
        else:
            assert grader.returncode == 128 + number


# -- the file --------------------------------------------------------------------------------


def test_what_is_no_solution_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\0")
    (tmp_path / "large.py").write_bytes(b"#" * (1 << 20) + b"\n")
    os.mkfifo(tmp_path / "fifo.py")
    with pytest.raises(ValueError, match="no challenge 's9'"):
        check.grade("s9", "x.py")
    with pytest.raises(FileNotFoundError):
        check.grade("s1", tmp_path / "missing.py")
    with pytest.raises(ValueError, match="regular"):
        check.grade("s1", tmp_path)
    for name, why in (("binary", "UTF-8"), ("large", "larger than 1 MB"), ("fifo", "regular")):
        with pytest.raises(ValueError, match=why):
            check.grade("s1", tmp_path / f"{name}.py")


def test_a_grade_is_a_result(tmp_path: Path) -> None:
    (tmp_path / "solution.py").write_text(HONEST)
    before = processor_time()
    result = check.grade("s1", tmp_path / "solution.py")
    assert result
    assert result.passed
    assert len(result.facts) == 6
    assert processor_time() - before < 2
