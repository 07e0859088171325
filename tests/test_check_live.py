"""s1, s3, c1 and c3 on something that runs: who solved it, and who only looks like it."""

from __future__ import annotations

from pathlib import Path

import pytest
from checking import either, live, users

import nsdemo
from nsdemo import check

pytestmark = pytest.mark.usefixtures("ordinary_users_may", "rootfs")

# Each program is given busybox's root as ``root`` and its path as ``path``.
ROOT = """\
with nsdemo.Rootfs.busybox() as root:
    path = root.path
    sleep = ["sleep", "600"]
    plan = no_power().unshare("mount", "uts", "ipc", "pid").fork()
    plan = plan.make_private("/").bind(root, root)
"""


def check_of(challenge: str, lines: str) -> str:
    """A program that makes ``box`` in these lines and reports what the check says of it."""
    body = [f"    {line}" for line in lines.strip().splitlines()]
    end = f"    with box:\n        report(**check.{challenge}(box).as_dict())\n"
    return ROOT + "\n".join(body) + "\n" + end


PIVOTED = """
box = plan.mount("proc", f"{path}/proc", "proc").pivot_root(root).exec(sleep).start()
"""
SPAWNED = "box = nsdemo.spawn(sleep, root=root)"

LANDS = "whoever joins its mount namespace lands in its root"
NOWHERE = "a file that was just written outside is nowhere inside"
ESCAPE = 'the way out of a chroot (a second chroot, then "..") leads nowhere'
SHARED = "nothing in its mountinfo is shared"
OWN = "its mount namespace is its own"


# -- s1 ------------------------------------------------------------------------------------


@users
@pytest.mark.parametrize("lines", [PIVOTED, SPAWNED], ids=["Plan", "spawn"])
def test_s1_passes_what_pivoted(lines: str, ordinary: bool) -> None:
    found = live(check_of("s1", lines), ordinary)
    assert found.passed, found.seen
    assert len(found.facts) == 6
    assert not any(fact["question"] for fact in found.facts)
    assert found.seconds < 2


CHEATS_S1 = {
    "chroot in a mount namespace": (
        "box = plan.chroot(root).exec(sleep).start()",
        {LANDS, ESCAPE},
    ),
    "chroot and nothing else": (
        'box = no_power().chroot(root).exec(["sleep", "600"]).start()',
        {OWN, LANDS, ESCAPE},
    ),
    "the whole host as its root": (
        'box = plan.bind("/", path).pivot_root(path).exec(["sleep", "600"]).start()',
        {NOWHERE, ESCAPE},
    ),
    "the host left in a corner": (
        'box = plan.bind("/", f"{path}/run").pivot_root(root).exec(sleep).start()',
        {NOWHERE, ESCAPE},
    ),
    "the host in a corner with an odd name": (
        'corner = f"{path}/run/\\r\\x85 \\t\\n\\\\040"\n'
        "os.mkdir(corner)\n"
        'box = plan.bind("/", corner).pivot_root(root).exec(sleep).start()',
        {NOWHERE, ESCAPE},
    ),
    "a directory of temporary files in a corner": (
        'box = plan.bind(os.environ["TMPDIR"], f"{path}/run").pivot_root(root).exec(sleep).start()',
        {NOWHERE, ESCAPE},
    ),
    "more mounts than anybody will look through": (
        'for _ in range(12): plan = plan.bind(path, f"{path}/run")\n'
        'box = plan.bind("/", f"{path}/tmp").pivot_root(root).exec(sleep).start()',
        {"the process is alive, and yours to look at"},
    ),
    "the host behind hundreds of mounts": (
        'for _ in range(7): plan = plan.bind(path, f"{path}/run")\n'
        'box = plan.bind("/", f"{path}/tmp").pivot_root(root).exec(sleep).start()',
        {NOWHERE, ESCAPE},
    ),
    "shared again": (
        'box = plan.pivot_root(root).propagation("shared", "/").exec(sleep).start()',
        {SHARED},
    ),
    "only namespaces": ("box = nsdemo.spawn(sleep)", {NOWHERE, ESCAPE}),
}


@pytest.mark.parametrize("cheat", CHEATS_S1)
@users
def test_s1_fails_what_only_looks_right(cheat: str, ordinary: bool) -> None:
    lines, failed = CHEATS_S1[cheat]
    found = live(check_of("s1", lines), ordinary)
    assert not found.passed
    # Who stays in our mount namespace has our mounts, which are shared on many machines.
    allowed = failed | {SHARED} if OWN in failed else failed
    assert failed <= set(found.failed) <= allowed
    assert all(fact["question"] for fact in found.facts if not fact["passed"])


def test_s1_does_not_believe_a_changed_interpreter() -> None:
    """The look is taken by another process: os and nsdemo may say here what they like."""
    lines = """
box = plan.chroot(root).exec(sleep).start()
same, real = os.stat("/"), (os.stat, os.lstat, os.fstat, os.readlink, nsdemo.namespaces)
nsdemo.namespaces = lambda target=None: {"mount": (4, id(target))}
os.stat = os.lstat = os.fstat = lambda *args, **options: same
os.readlink = lambda *args, **options: "mnt:[1]"
result = check.s1(box)
os.stat, os.lstat, os.fstat, os.readlink, nsdemo.namespaces = real
check.s1 = lambda handed: result
"""
    assert set(live(check_of("s1", lines)).failed) == {LANDS, ESCAPE}


def test_s1_leaves_the_container_as_it_was(rootfs: Path) -> None:
    before = sorted(str(path) for path in rootfs.rglob("*"))
    with nsdemo.spawn(["sleep", "600"], root=rootfs) as box:
        assert check.s1(box)
        assert sorted(str(path) for path in rootfs.rglob("*")) == before
        inside = box.enter(["sh", "-c", "cat /proc/mounts; ps"], capture_output=True, text=True)
        assert check.s1(box)
        again = box.enter(["sh", "-c", "cat /proc/mounts; ps"], capture_output=True, text=True)
    strip = str.maketrans("", "", "0123456789")
    assert inside.stdout.translate(strip) == again.stdout.translate(strip)


def test_nothing_is_imported_inside() -> None:
    """A library of Python's, planted in the container, is the container's program."""
    lines = """
from nsdemo.check import going_in, look
library = os.path.dirname(os.__file__)
os.makedirs(path + library)
for name in ("traceback", "linecache", "this", "tokenize"):
    Path(f"{path}{library}/{name}.py").write_text("raise SystemExit('planted')")
box = plan.pivot_root(root).exec(sleep).start()
def imports(target, request):
    going_in.join_mounts(target)
    going_in.follow_root(target)
    assert os.path.exists(library + "/this.py")
    import this
look.PARTS["imports"] = imports
found = look.in_child("imports", look.Target(box.pid), {})
look.PARTS["fails"] = lambda target, request: 1 / 0
failed = look.in_child("fails", look.Target(box.pid), {})
check.s1 = lambda box: check.Result("s1", [check.Fact(str(found), False, str(failed), "?")])
"""
    (fact,) = live(check_of("s1", lines)).facts
    assert fact["asked"] == "{'error': 'ImportWarning: sys.meta_path is empty'}"
    assert fact["seen"] == "{'error': 'ZeroDivisionError: division by zero'}"


# -- s3 ------------------------------------------------------------------------------------

PIDS = "it has two pids, and the inner one is 1"
PROC = "its /proc shows the processes of its own pid namespace"
NEW = "mount, uts, ipc and pid namespace are new"
MINE = "your own mounts are unchanged"

BY_CHROOT = 'box = plan.mount("proc", f"{path}/proc", "proc").chroot(root).exec(sleep).start()'


@users
@pytest.mark.parametrize("lines", [PIVOTED, BY_CHROOT], ids=["pivot_root", "chroot"])
def test_s3_passes_the_demo(lines: str, ordinary: bool) -> None:
    found = live(check_of("s3", lines), ordinary)
    assert found.passed, found.seen
    assert len(found.facts) == 6
    assert found.seconds < 2


FAKE_PROC = """
for name in ("1", "2", "3", "4", "5", "self"):
    os.makedirs(f"{path}/fake/{name}", exist_ok=True)
    Path(f"{path}/fake/{name}/comm").write_text("sleep\\n")
box = plan.bind(f"{path}/fake", f"{path}/proc").pivot_root(root).exec(sleep).start()
"""
CHEATS_S3 = {
    "no /proc at all": ("box = plan.pivot_root(root).exec(sleep).start()", {PROC}),
    "files that look like a /proc": (FAKE_PROC, {PROC}),
    "the host's /proc": (
        'box = plan.bind("/proc", f"{path}/proc").pivot_root(root).exec(sleep).start()',
        {PROC},
    ),
    "no fork": (
        'plan = no_power().unshare("mount", "uts", "ipc", "pid").make_private("/")\n'
        "box = plan.bind(root, root).pivot_root(root).exec(sleep).start()",
        {NEW, PIDS, PROC},
    ),
    "not the first in its namespace": (
        'plan = plan.mount("proc", f"{path}/proc", "proc").pivot_root(root)\n'
        'Path(f"{path}/dev/null").touch()\n'
        'box = plan.exec(["sh", "-c", "sleep 600 & wait"]).start()\n'
        'children = Path(f"/proc/{box.pid}/task/{box.pid}/children")\n'
        "while not children.read_text(): time.sleep(0.01)\n"
        "real = check.s3\n"
        "check.s3 = lambda handed: real(int(children.read_text()))",
        {PIDS},
    ),
    "without uts": (
        'plan = no_power().unshare("mount", "ipc", "pid").fork().make_private("/")\n'
        "plan = plan.bind(root, root)\n" + PIVOTED.strip(),
        {NEW},
    ),
    "under the host's root": ("box = nsdemo.spawn(sleep)", {NOWHERE}),
}


@pytest.mark.parametrize("cheat", CHEATS_S3)
@either
def test_s3_fails_what_only_looks_right(cheat: str, ordinary: bool) -> None:
    lines, failed = CHEATS_S3[cheat]
    found = live(check_of("s3", lines), ordinary)
    assert not found.passed
    assert set(found.failed) == failed


SHARED_MOUNTS = ["unshare", "--map-root-user", "--mount", "--propagation", "shared"]
NO_PRIVATE = """
plan = no_power().unshare("mount", "uts", "ipc", "pid").fork()
box = plan.mount("proc", f"{path}/proc", "proc").chroot(root).exec(sleep).start()
"""
# What has leaked must go, or the root cannot be removed.
TIDY = """
import contextlib, ctypes
@contextlib.contextmanager
def tidy(path):
    yield
    for point in (f"{path}/proc", path, f"{path}/proc", path):
        ctypes.CDLL(None).umount2(point.encode(), 2)
"""


@users
@pytest.mark.parametrize(
    ("lines", "failed"),
    [
        (NO_PRIVATE, {MINE}),
        (NO_PRIVATE.replace("box =", "plan = plan.bind(root, root)\nbox ="), {MINE}),
        (PIVOTED, set()),
    ],
    ids=["shared", "shared, with a bind", "private"],
)
def test_s3_where_mounts_are_shared(lines: str, failed: set[str], ordinary: bool) -> None:
    """As on most machines: what is mounted in a copy of the mount namespace is mounted in both."""
    body = check_of("s3", lines).replace("with box:", "with box, tidy(path):")
    found = live(TIDY + body, ordinary, under=SHARED_MOUNTS)
    assert set(found.failed) == failed
    if failed:
        assert "among your mounts now: " in found.seen


# -- c1 ------------------------------------------------------------------------------------

BASH = """\
with nsdemo.Rootfs.from_host(["bash"]) as root:
    path = root.path
    def start(*args, **options):
        return nsdemo.spawn(["bash", *args], root=root, stdin=nsdemo.PIPE, **options)
"""
INSIDE = "every file that it has mapped lies under its root"
ELSE = "there is no other regular file in that root"
RUNS = "it runs a copy of this machine's bash"
ANOTHER = "its root is another directory than yours"


def check_of_bash(lines: str) -> str:
    return check_of("c1", lines).replace(ROOT, BASH)


@users
@pytest.mark.parametrize("options", ["", 'root_method="chroot", mount_proc=False'])
def test_c1_passes_bash_in_what_it_needs(options: str, ordinary: bool) -> None:
    found = live(check_of_bash(f"box = start({options})"), ordinary)
    assert found.passed, found.seen
    assert len(found.facts) == 5
    assert found.seconds < 2


CHEATS_C1 = {
    "one file too many": (
        'Path(f"{path}/etc/motd").write_text("Hello")\nbox = start()',
        {ELSE},
    ),
    "bash of the host": (
        'box = nsdemo.spawn(["bash"], stdin=nsdemo.PIPE)',
        {ANOTHER, ELSE},
    ),
    "another program called bash": (
        "import shutil\n"
        'with nsdemo.Rootfs.busybox() as other: shutil.copy(f"{other.path}/bin/busybox", path)\n'
        'box = nsdemo.spawn(["/busybox", "sleep", "600"], root=root)\n'
        'os.rename(f"{path}/busybox", f"{path}/bash")',
        {RUNS, ELSE},
    ),
    "a library that is gone by now": (
        "box = start()\ntime.sleep(0.2)\n"
        '(libc,) = {os.path.realpath(each) for each in Path(path).rglob("libc.so*")}\n'
        "os.remove(libc)",
        {INSIDE},
    ),
    "a library replaced by another file of that name": (
        "box = start()\ntime.sleep(0.2)\n"
        "import shutil\n"
        '(libc,) = {os.path.realpath(each) for each in Path(path).rglob("libc.so*")}\n'
        'shutil.copy(libc, f"{path}/new")\nos.rename(f"{path}/new", libc)',
        {INSIDE, ELSE},
    ),
}


@pytest.mark.parametrize("cheat", CHEATS_C1)
@either
def test_c1_fails_what_only_looks_right(cheat: str, ordinary: bool) -> None:
    lines, failed = CHEATS_C1[cheat]
    found = live(check_of_bash(lines), ordinary)
    assert not found.passed
    assert set(found.failed) == failed


# -- c3 ------------------------------------------------------------------------------------

ELSEWHERE = "its children are for another pid namespace than its own"
BORN = "somebody was born in that namespace"
ENOMEM = "a process that the check starts there fails with ENOMEM, and elsewhere does not"


@users
def test_c3_passes_who_can_have_no_children(ordinary: bool) -> None:
    lines = 'box = nsdemo.spawn(["sh", "-c", "/bin/true; read x"], fork=False, stdin=nsdemo.PIPE)'
    found = live(check_of("c3", lines), ordinary)
    assert found.passed, found.seen
    assert len(found.facts) == 4
    assert found.seconds < 2


CHEATS_C3 = {
    "printed": (
        'words = "echo sh: fork: Cannot allocate memory >&2; read x"\n'
        'box = nsdemo.spawn(["sh", "-c", words], stdin=nsdemo.PIPE, stderr=nsdemo.DEVNULL)',
        {ELSEWHERE},
    ),
    "nobody was born yet": (
        'box = nsdemo.spawn(["sleep", "600"], fork=False)',
        {BORN, ENOMEM},
    ),
    "its PID 1 is alive": (
        'box = nsdemo.spawn(["sh", "-c", "sleep 600 & read x"], fork=False, stdin=nsdemo.PIPE)',
        {ENOMEM},
    ),
    "short of memory": (
        'words = "ulimit -v 10000; read x"\n'
        'box = nsdemo.spawn(["sh", "-c", words], stdin=nsdemo.PIPE)',
        {ELSEWHERE},
    ),
}


@pytest.mark.parametrize("cheat", CHEATS_C3)
@either
def test_c3_fails_what_only_looks_right(cheat: str, ordinary: bool) -> None:
    lines, failed = CHEATS_C3[cheat]
    found = live(check_of("c3", lines), ordinary)
    assert not found.passed
    assert set(found.failed) == failed


# -- what cannot be looked at ----------------------------------------------------------------

LIVE = (check.s1, check.s3, check.c1, check.c3)


@pytest.mark.parametrize("asked", LIVE)
def test_a_dead_container_is_a_failed_fact(asked: object) -> None:
    box = nsdemo.spawn(["true"])
    box.wait()
    for handed in (box, box.pid):
        result = asked(handed)  # type: ignore[operator]
        (fact,) = result.facts
        assert not result
        assert "ended" in fact.seen
        assert fact.question


@pytest.mark.parametrize("asked", ["s1", "s3", "c1", "c3"])
def test_the_process_of_another_user_is_a_failed_fact(asked: str) -> None:
    found = live(f"report(**check.{asked}(1).as_dict())", ordinary=True)
    assert found.failed == ["the process is alive, and yours to look at"]
    assert "belongs to uid 0; you are uid" in found.seen


@pytest.mark.parametrize("asked", LIVE)
@pytest.mark.parametrize(
    ("handed", "error"),
    [("7", TypeError), (None, TypeError), (True, TypeError), (0, ValueError), (-1, ValueError)],
)
def test_what_is_no_process_is_an_error(asked: object, handed: object, error: type) -> None:
    with pytest.raises(error, match="pid"):
        asked(handed)  # type: ignore[operator]


def test_a_command_under_an_init_is_found(rootfs: Path) -> None:
    with nsdemo.spawn(["sleep", "600"], root=rootfs, init=True) as box:
        assert check.s1(box)
