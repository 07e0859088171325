"""s2 and c2: probes and attacks that a learner wrote, tried in the notebook and for a grade."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import pytest
from checking import grade, live, users
from support import eventually

import nsdemo
from nsdemo import check

pytestmark = pytest.mark.usefixtures("ordinary_users_may", "rootfs")

HANDED = "the solution ran to its end and handed something over"

# -- s2 ------------------------------------------------------------------------------------

# Each looks at what the namespace isolates, and at no /proc/PID/ns.
PROBES = """
import os, socket
import nsdemo

def inside(box, *words):
    return box.enter(words, capture_output=True, text=True).stdout

def mount(box):
    ours = os.stat("/tmp").st_dev
    box.enter(["mount", "-t", "tmpfs", "none", "/tmp"], check=True)
    try:
        return os.stat("/tmp").st_dev == ours
    finally:
        box.enter(["umount", "/tmp"])

def uts(box):
    ours = os.uname().nodename
    box.enter(["hostname", "probed"], check=True)
    if os.uname().nodename == ours:
        return True
    socket.sethostname(ours)
    return False

def ipc(box):
    queue = os.popen("ipcmk -Q").read().split()[-1]
    (key,) = [line.split()[0] for line in os.popen("ipcs -q") if line.split()[1:2] == [queue]]
    try:
        return key not in inside(box, "ipcs", "-q")
    finally:
        os.system(f"ipcrm -q {queue}")

def pid(box):
    return box.enter(["kill", "-0", str(os.getpid())], stderr=nsdemo.DEVNULL).returncode != 0

def net(box):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = f":{server.getsockname()[1]:04X} "
        return port not in inside(box, "cat", "/proc/net/tcp")

def same(name):
    return lambda box: nsdemo.namespaces(box.pid)[name] != nsdemo.namespaces()[name]
"""
BY_BEHAVIOUR = 'probes = {"mount": mount, "uts": uts, "ipc": ipc, "pid": pid}\n'
BY_IDENTITY = (
    'probes = {n: same(n) for n in ("mount", "uts", "ipc", "pid", "net", "cgroup", "time")}\n'
)
REPORT = "report(**check.s2(probes).as_dict())\n"


@users
def test_s2_passes_probes_that_look(ordinary: bool) -> None:
    found = live(PROBES + BY_IDENTITY + REPORT, ordinary)
    assert found.passed, found.seen
    assert len(found.facts) == 7
    assert found.seconds < 2


@users
@pytest.mark.parametrize("probes", [BY_BEHAVIOUR, BY_IDENTITY], ids=["behaviour", "identity"])
def test_s2_grades_probes_that_look(probes: str, ordinary: bool, tmp_path: Path) -> None:
    found = grade("s2", PROBES + probes, tmp_path, ordinary)
    assert found.passed, found.seen
    assert found.seconds < 4


CHEATS = {
    "always isolated": "probes = {n: lambda box: True for n in NAMES}",
    "always shared": "probes = {n: lambda box: False for n in NAMES}",
    "truthy": "probes = {n: lambda box: 'isolated' for n in NAMES}",
    "nothing": "probes = {n: lambda box: print('s2: passed') for n in NAMES}",
    "by chance": "import random\nprobes = {n: lambda box: random.random() < 0.8 for n in NAMES}",
    "by a recorded order": (
        "rounds = {n: iter([n != s for s in [None, *NAMES] * 3]) for n in NAMES}\n"
        "probes = {n: (lambda n: lambda box: next(rounds[n]))(n) for n in NAMES}"
    ),
    "one asks for another": (
        "probes = {n: same(n) for n in NAMES}\n"
        "probes['uts'], probes['ipc'] = probes['ipc'], probes['uts']"
    ),
    "all accuse together": (
        "probes = {n: lambda box: all(same(o)(box) for o in NAMES) for n in NAMES}"
    ),
    "changes what nsdemo says": (
        "nsdemo.namespaces = lambda target=None: {n: (4, id(target)) for n in NAMES}\n"
        "probes = {n: same(n) for n in NAMES}"
    ),
    "listens to nsdemo.spawn": (
        "made, real = [], nsdemo.spawn\n"
        "def spawn(*args, **options):\n"
        "    made.append(options)\n"
        "    return real(*args, **options)\n"
        "nsdemo.spawn = spawn\n"
        "probes = {n: (lambda n: lambda box: made[-1][n] if made else True)(n) for n in NAMES}"
    ),
    "raises": "probes = {n: lambda box: 1 / 0 for n in NAMES}",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_s2_is_not_fooled(cheat: str, tmp_path: Path) -> None:
    source = PROBES + 'NAMES = ["mount", "uts", "ipc", "pid"]\n' + CHEATS[cheat] + "\n"
    for found in (live(source + REPORT), grade("s2", source, tmp_path)):
        assert not found.passed
        assert len(found.facts) == 4
        assert any(found.failed)
        assert all(fact["question"] for fact in found.facts if not fact["passed"])


def test_s2_says_what_a_probe_did() -> None:
    found = live("probes = dict.fromkeys(['mount','uts','ipc','pid'], lambda box: 1/0)\n" + REPORT)
    assert "it said: it raised ZeroDivisionError: division by zero" in found.seen


def test_s2_ends_a_container_that_a_probe_has_spoilt(tmp_path: Path) -> None:
    """Who kills or changes what the check has made is told so."""
    for spoil in ("os.kill(box.pid, 9)", "__import__('time').sleep(0); os.kill(-1, 9)"):
        source = PROBES + BY_IDENTITY + f"probes['mount'] = lambda box: {spoil}\n"
        found = grade("s2", source, tmp_path)
        assert not found.passed


def test_s2_probes_that_never_end_are_ended(tmp_path: Path) -> None:
    source = PROBES + BY_IDENTITY + "def forever(box):\n    while True: pass\n"
    found = grade("s2", source + "probes['uts'] = forever\n", tmp_path, timeout=2)
    assert found.failed == [HANDED]
    assert "it ran for too long" in found.seen


@pytest.mark.parametrize(
    ("probes", "error", "why"),
    [
        ([], TypeError, "a dict"),
        ({}, ValueError, "missing for: mount, uts, ipc, pid"),
        (dict.fromkeys(["mount", "uts", "ipc"], bool), ValueError, "missing for: pid"),
        (dict.fromkeys(["mount", "uts", "ipc", "pid"], 1), TypeError, "and not a function"),
        (dict.fromkeys(["mount", "uts", "ipc", "pid", "user"], bool), ValueError, "'user'"),
        (dict.fromkeys(["mount", "uts", "ipc", "pid", 7], bool), ValueError, "7"),
    ],
)
def test_s2_what_are_no_probes_is_an_error(probes: Any, error: type, why: str) -> None:
    with pytest.raises(error, match=why):
        check.s2(probes)


@pytest.mark.parametrize("probes", ["[]", "{}", "7", "{'uts': 1}", "{(1,): bool}"])
def test_s2_what_are_no_probes_is_a_failed_fact(probes: str, tmp_path: Path) -> None:
    found = grade("s2", f"probes = {probes}", tmp_path)
    assert found.failed == [HANDED]


def test_s2_interrupted_leaves_nothing() -> None:
    def interrupted(box: Any) -> bool:
        seen.append(box.pid)
        raise KeyboardInterrupt

    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        check.s2(dict.fromkeys(["mount", "uts", "ipc", "pid"], interrupted))
    assert eventually(lambda: not os.path.exists(f"/proc/{seen[0]}"))


# -- c2 ------------------------------------------------------------------------------------

ESCAPE = """
import os, sys
os.mkdir("cellar")
os.chroot("cellar")
for _ in range(64):
    os.chdir("..")
os.chroot(".")
print(open(sys.argv[1]).read())
"""
BY_SETNS = """
import ctypes, os, sys
fd = os.open("/proc/self/ns/mnt", os.O_RDONLY)
assert ctypes.CDLL(None).setns(fd, 0) == 0
print(open(sys.argv[1]).read())
"""
BY_SHELL = ["sh", "-c", 'exec nsenter --mount=/proc/self/ns/mnt cat "$1"', "sh"]
GOT_OUT = "the token outside of the chroot jail was read"


@users
def test_c2_passes_who_gets_out_of_a_chroot(ordinary: bool) -> None:
    body = f"report(**check.c2({ESCAPE!r}).as_dict())"
    found = live(body, ordinary)
    assert found.passed, found.seen
    assert len(found.facts) == 2
    assert found.seconds < 2


@pytest.mark.parametrize("attack", [BY_SETNS, BY_SHELL], ids=["setns", "a shell"])
def test_c2_passes_other_ways_out(attack: Any) -> None:
    result = check.c2(attack)
    assert result, result


@users
def test_c2_grades_an_attack(ordinary: bool, tmp_path: Path) -> None:
    for attack in (ESCAPE, BY_SHELL):
        found = grade("c2", f"attack = {attack!r}", tmp_path, ordinary)
        assert found.passed, found.seen


READS = "import sys; print(open(sys.argv[1]).read())"
FAILING = {
    "no escape": (READS, "FileNotFoundError"),
    "prints that it passed": ("print('c2: passed')", "it said: c2: passed"),
    "a recorded token": ("print('0123456789abcdef' * 2)", "it said: 0123456789abcdef"),
    "the name of the token": ("import sys; print(sys.argv)", "it said: ['-c', '/tokens/token-"),
    "says nothing": ("pass", "it said nothing"),
    "searches all that it sees": (
        "import os\n"
        "for top in ('/tokens', '/proc/1/root/tokens', '/proc/self/cwd', '/tmp'):\n"
        "    for folder, _, files in os.walk(top):\n"
        "        for name in files:\n"
        "            try: print(open(os.path.join(folder, name), errors='replace').read(99))\n"
        "            except OSError: pass\n",
        "it said nothing",
    ),
    "chroot with a chdir": (
        ESCAPE.replace('os.chroot("cellar")', 'os.chroot("cellar")\nos.chdir("/")'),
        "FileNotFoundError",
    ),
    "a command that is not there": (["no-such-command"], "there is no no-such-command in the"),
}


@pytest.mark.parametrize("attack", FAILING)
def test_c2_fails_who_stays_in(attack: str) -> None:
    command, seen = FAILING[attack]
    result = check.c2(command)
    assert [fact.asked for fact in result.facts if not fact.passed] == [GOT_OUT]
    assert seen in result.facts[0].seen
    assert result.facts[0].question


def test_c2_does_not_believe_a_changed_interpreter() -> None:
    """The token is made, kept and looked for here; but a notebook's own os is not asked."""
    body = f"""
    import secrets
    nsdemo.Plan.pivot_root = nsdemo.Plan.chroot
    report(**check.c2({READS!r}).as_dict())
    """
    assert live(textwrap.dedent(body)).failed == [GOT_OUT]


@pytest.mark.parametrize(
    "attack",
    [
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        "import sys\nwhile True: sys.stdout.write('x' * 65536)",
        "while True: pass",
    ],
    ids=["a fork bomb", "a flood", "an endless loop"],
)
def test_c2_ends_what_never_ends(attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from nsdemo.check import jail

    monkeypatch.setattr(jail, "TIME", 1.0)
    result = check.c2(attack)
    assert not result
    assert "it was ended after 1 seconds" in result.facts[0].seen


@pytest.mark.parametrize(
    ("attack", "error", "why"),
    [
        ("", ValueError, "empty"),
        (b"x", TypeError, "not a bytes"),
        (None, TypeError, "not a NoneType"),
        ([], TypeError, "one or more words"),
        ([1], TypeError, "one or more words"),
        ("x" * 70_000, ValueError, "at most 64000"),
        ("\0", ValueError, "NUL"),
    ],
)
def test_c2_what_is_no_attack_is_an_error(attack: Any, error: type, why: str) -> None:
    with pytest.raises(error, match=why):
        check.c2(attack)


@pytest.mark.parametrize("attack", ["7", "None", "''", "[]", "[1]", "'\\0'", "{}"])
def test_c2_what_is_no_attack_is_a_failed_fact(attack: str, tmp_path: Path) -> None:
    assert grade("c2", f"attack = {attack}", tmp_path).failed == [HANDED]


def test_an_attack_that_gets_out_is_in_a_container_still() -> None:
    """Outside of the chroot jail is the check's own container, and not this machine."""
    result = check.c2(
        ESCAPE.replace(
            "print(open(sys.argv[1]).read())",
            "print(sorted(os.listdir('/')), os.path.exists('/home'), open('/etc/passwd').read())",
        )
    )
    (fact, _) = result.facts
    assert fact.seen.startswith("it said: ['bin', 'dev', 'etc', 'jail'")
    assert " False root:x:0:0:root:/root:/bin/sh" in fact.seen


def test_the_maker_says_why_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(OSError, match=r"cannot be made: .*sleep"):
        check.s2(dict.fromkeys(["mount", "uts", "ipc", "pid"], bool))


def test_enter_of_a_handle_is_nsdemos() -> None:
    said: list[str] = []

    def uts(box: Any) -> bool:
        done = box.enter(["hostname"], capture_output=True, text=True)
        assert isinstance(done, nsdemo.CompletedProcess)
        said.append(done.stdout.strip())
        return True

    check.s2(dict.fromkeys(["mount", "uts", "ipc", "pid"], uts))
    assert set(said) == {os.uname().nodename}
