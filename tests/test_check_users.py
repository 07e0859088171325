"""c5 on something that runs, and for a grade: who is rootless, and who only looks like it."""

from __future__ import annotations

from pathlib import Path

import pytest
from checking import grade, live, users
from support import IS_ROOT

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

# A user namespace by hand, to be independent of the calls that the check is for. ``mine`` is an id
# that is ours to give away: an ordinary user's own, for root one that is nobody's.
BY_HAND = """
import ctypes, signal
libc = ctypes.CDLL(None, use_errno=True)
mine = os.geteuid() or 100000
sleep = ["sleep", "600"]

def make(uids=((0, mine, 1),), gids=((0, mine, 1),), setgroups="deny", become=0):
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        libc.prctl(1, signal.SIGKILL)
        assert libc.unshare(0x10000000) == 0
        os.write(ready[1], b"1")
        os.read(go[0], 1)
        if become is not None:
            os.setresgid(become, become, become)
            os.setresuid(become, become, become)
        libc.prctl(4, 1)
        os.write(ready[1], b"2")
        while True: signal.pause()
    os.read(ready[0], 1)
    for name, text in (("setgroups", setgroups), ("gid_map", gids), ("uid_map", uids)):
        if text:
            words = text if isinstance(text, str) else "\\n".join("%d %d %d" % row for row in text)
            Path(f"/proc/{child}/{name}").write_text(words)
    os.write(go[1], b"1")
    os.read(ready[0], 1)
    return child

def report_on(box, checked=check.c5):
    pid = getattr(box, "pid", box)
    try:
        report(**checked(box).as_dict())
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
"""
ALIVE = "the process is alive, and yours to look at"
OWN = "its user namespace is its own"
ZERO = "inside, it is user 0 and group 0"
NOBODY = "none of its ids is the machine's 0"
GROUPS = "setgroups is denied in there"
MADE = "a file that its root has just made belongs, outside, to the id in the map"
HANDED = "the solution ran to its end and handed something over"


@users
def test_c5_passes_who_is_root_inside_only(ordinary: bool) -> None:
    found = live(BY_HAND + "report_on(make())", ordinary)
    assert found.passed, found.seen
    assert len(found.facts) == 6
    assert not any(fact["question"] for fact in found.facts)
    assert found.seconds < 2
    assert "made by 0:0 inside, it belongs to 0:0 outside" not in str(found.facts)


def test_c5_passes_the_default_of_an_ordinary_user() -> None:
    found = live(BY_HAND + "box = nsdemo.spawn(sleep)\nreport_on(box)", ordinary=True)
    assert found.passed, found.seen


CHEATS = {
    "no user namespace": (
        "report_on(nsdemo.spawn(sleep, mount=False, uts=False, ipc=False, pid=False, user=False))",
        {OWN},
    ),
    "no map": ("report_on(make((), (), '', None))", {ZERO, NOBODY, GROUPS, MADE}),
    "no map of groups": ("report_on(make(gids=(), become=None))", {ZERO, NOBODY, MADE}),
    "himself inside as well": (
        "report_on(make(((mine, mine, 1),), ((mine, mine, 1),), become=None))",
        {ZERO, MADE},
    ),
    "it has seen who asks": (
        BY_HAND + "same = os.stat('/')\n"
        "os.stat = os.fstat = lambda *args, **options: same\n"
        "nsdemo.namespaces = lambda target=None: {'user': (4, id(target))}\n"
        "real = check.c5\n"
        "report_on(make((), (), '', None))",
        {ZERO, NOBODY, GROUPS, MADE},
    ),
    "prints what the map should say": (
        "box = nsdemo.spawn(['sh', '-c', 'echo 0 1000 1; exec sleep 600'], stdout=nsdemo.DEVNULL,\n"
        "    mount=False, uts=False, ipc=False, pid=False, user=False)\n"
        "report_on(box)",
        {OWN},
    ),
}
OF_ROOT = {
    "root outside as well": ("report_on(nsdemo.spawn(sleep, user=True))", {NOBODY}),
    "the machine's 0 among others": (
        "report_on(make(((0, mine, 1), (1, 0, 1)), become=0))",
        {NOBODY},
    ),
    "groups that may be dropped": ("report_on(make(setgroups='allow'))", {GROUPS}),
    "somebody else inside": ("report_on(make(((0, mine, 9),), ((0, mine, 9),), become=5))", {ZERO}),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_c5_fails_what_only_looks_right(cheat: str) -> None:
    lines, failed = CHEATS[cheat]
    found = live(BY_HAND + lines)
    assert set(found.failed) == failed
    assert all(fact["question"] for fact in found.facts if not fact["passed"])


@pytest.mark.skipif(not IS_ROOT, reason="only root may map ids that are not his")
@pytest.mark.parametrize("cheat", OF_ROOT)
def test_c5_fails_what_only_root_could_make(cheat: str) -> None:
    lines, failed = OF_ROOT[cheat]
    assert set(live(BY_HAND + lines).failed) == failed


def test_c5_where_root_has_one_id_only() -> None:
    """As in a container: there is no other id to give away."""
    body = BY_HAND + "report_on(nsdemo.spawn(sleep, user=True))"
    found = live(body, under=["unshare", "--map-root-user"])
    assert found.passed, found.seen


def test_c5_a_dead_container_is_a_failed_fact() -> None:
    found = live(BY_HAND + "box = nsdemo.run(['true'])\nreport(**check.c5(2**22).as_dict())")
    assert found.failed == [ALIVE]


# -- for a grade -----------------------------------------------------------------------------

SOLUTION = 'import nsdemo, os, time\nbox = nsdemo.spawn(["sleep", "600"], user=True)\n'


@users
def test_c5_grades_a_solution(ordinary: bool, tmp_path: Path) -> None:
    found = grade("c5", SOLUTION, tmp_path, ordinary)
    assert found.passed, found.seen
    assert found.seconds < 2


GRADED = {
    "hands over itself": ("import os\nbox = os.getpid()", {OWN}),
    "without a map": (
        "import nsdemo\nbox = nsdemo.Plan().unshare('user').exec(['sleep', '600']).start()",
        {ZERO, NOBODY, MADE},  # "deny" is inherited
    ),
    "patches the check": (
        "import nsdemo\nfrom nsdemo import check\n"
        "check.Fact.passed = check.Result.passed = True\n"
        "box = nsdemo.spawn(['sleep', '600'])",
        {OWN},
    ),
    "a recorded answer": ("print('c5: rootless: passed (6 of 6 facts)')", {HANDED}),
}


@pytest.mark.parametrize("cheat", GRADED)
def test_c5_grades_no_cheat(cheat: str, tmp_path: Path) -> None:
    source, failed = GRADED[cheat]
    found = grade("c5", source, tmp_path)
    assert set(found.failed) == failed, found.seen
