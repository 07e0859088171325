"""Who is who in a new user namespace: the kernel's view, beside unshare(1)."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import (
    IS_ROOT,
    QUIET,
    eventually,
    leftovers_now,
    new_marker,
    processes_with,
    script,
    snapshot,
)

import nsdemo
from nsdemo._request import id_maps, power

pytestmark = pytest.mark.usefixtures("ordinary_users_may")
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can become somebody else")
ordinary_alone = pytest.mark.skipif(IS_ROOT, reason="only an ordinary user needs newuidmap")

CAPTURED: dict[str, Any] = {**QUIET, "capture_output": True, "text": True}
OWN = os.geteuid(), os.getegid()
FILES = "cat /proc/self/uid_map; echo; cat /proc/self/setgroups; echo; cat /proc/self/gid_map"
IDS = "echo; grep -E '^(Uid|Gid|Groups):' /proc/self/status"
SHOW = ["sh", "-c", f"{FILES}; {IDS}"]
NOTHING_NEW: dict[str, Any] = dict.fromkeys(("mount", "uts", "ipc", "pid"), False)


def view(text: str) -> tuple[list[list[int]], str, list[list[int]], list[str]]:
    """uid_map, setgroups, gid_map and ids as a process inside sees them."""
    uids, setgroups, gids, ids = text.split("\n\n")
    maps = [[list(map(int, line.split())) for line in each.splitlines()] for each in (uids, gids)]
    return maps[0], setgroups.strip(), maps[1], ids.split()


def inside(**options: Any) -> tuple[list[list[int]], str, list[list[int]], list[str]]:
    done = nsdemo.run(SHOW, **CAPTURED, **options)
    assert done.returncode == 0, done.stderr
    return view(done.stdout)


def unshare(*words: str) -> tuple[list[list[int]], str, list[list[int]], list[str]]:
    """The same from unshare(1)."""
    done = subprocess.run(["unshare", "--user", *words, *SHOW], **CAPTURED, timeout=30)
    assert done.returncode == 0, done.stderr
    return view(done.stdout)


def subordinate(kind: str) -> tuple[int, int]:
    """Some ids that the caller may map: for root any, for a user those of /etc/subuid."""
    if IS_ROOT:
        return (100000, 65536)
    ranges = id_maps.ranges_of(f"/etc/sub{kind}", os.geteuid())
    if not ranges or shutil.which("newuidmap") is None:
        pytest.skip("no range in /etc/subuid, or no newuidmap (on Debian: apt-get install uidmap)")
    return ranges[0]


@pytest.fixture
def ranges() -> tuple[int, int]:
    """Where the caller's subordinate ids begin: (uids, gids), 1000 of each at least."""
    return subordinate("uid")[0], subordinate("gid")[0]


@pytest.fixture
def with_range(tmp_path: Path) -> list[str]:
    """A prefix under which the caller has a range. Root gets one in a mount namespace: unshare
    2.38 hands even root's maps to newuidmap, which asks /etc/subuid."""
    subordinate("uid")
    if not IS_ROOT:
        return []
    file = tmp_path / "subid"
    file.write_text("root:700000:65536\n")
    mounts = " && ".join(f"mount --bind {file} /etc/{name}" for name in ("subuid", "subgid"))
    return ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh"]


BESIDE = """
    import test_users
    found = []
    for options, words in {pairs!r}:
        ours, theirs = test_users.inside(**options), test_users.unshare(*words)
        found.append([ours, theirs])
    report(found=found)
"""


def beside(under: list[str], *pairs: tuple[dict[str, Any], tuple[str, ...]]) -> Any:
    """What nsdemo and unshare(1) do, each from the same caller."""
    return script(BESIDE.format(pairs=pairs), under=under).report["found"]


# -- maps ----------------------------------------------------------------------------------------


def test_current_is_what_unshare_does() -> None:
    expected = unshare("--map-current-user")
    assert expected[:3] == ([[OWN[0], OWN[0], 1]], "deny", [[OWN[1], OWN[1], 1]])
    assert inside(uid_map="current", **NOTHING_NEW) == expected
    assert inside(uid_map="current") == inside(gid_map="current") == expected
    assert inside(uid_map="current", init=True) == expected


def test_any_id_for_oneself() -> None:
    found = inside(uid_map=[(7, OWN[0], 1)], gid_map=[(8, OWN[1], 1)])
    assert found == unshare("--map-user=7", "--map-group=8")
    assert found[3][1:5] == ["7"] * 4


def test_a_map_beside_none_is_root_alone() -> None:
    uids, setgroups, gids, _ = inside(uid_map=[(7, OWN[0], 1)])
    assert (uids, setgroups, gids) == ([[7, OWN[0], 1]], "deny", [[0, OWN[1], 1]])


def test_auto_is_what_unshare_does(with_range: list[str]) -> None:
    words = ("--map-auto", "--map-root-user")
    keywords: tuple[dict[str, Any], ...] = (
        {"uid_map": "auto"},
        {"gid_map": "auto"},
        {"uid_map": "auto", "gid_map": "auto", "init": True},
        {"uid_map": "auto", "die_with_parent": False, **NOTHING_NEW},
    )
    for ours, theirs in beside(with_range, *((each, words) for each in keywords)):
        assert ours == theirs
        (root, (one, first, count)), setgroups, _, ids = ours
        assert (root, one, setgroups) == ([0, OWN[0], 1], 1, "allow")
        assert (first, count) == ((700000, 65535) if IS_ROOT else (first, count))
        assert ids[:10] == ["Uid:", *"0000", "Gid:", *"0000"]


def test_subids_keep_their_numbers(with_range: list[str]) -> None:
    """As --map-subids --map-root-user of util-linux 2.40, which few machines have yet."""
    first, count = (700000, 65536) if IS_ROOT else subordinate("uid")
    ((found, _),) = beside(with_range, ({"uid_map": "subids"}, ("--map-root-user",)))
    assert found[:2] == [[[0, OWN[0], 1], [first, first, count]], "allow"]
    assert found[3][:10] == ["Uid:", *"0000", "Gid:", *"0000"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("100:9", [(0, 7, 1), (100, 100, 9)]),
        ("5:5", [(0, 7, 1), (5, 5, 2), (8, 8, 2)]),
        ("0:8", [(0, 7, 1), (1, 1, 6)]),
        ("7:1", [(0, 7, 1)]),
        ("6:2", [(0, 7, 1), (6, 6, 1)]),
    ],
)
def test_subids_around_the_caller(
    monkeypatch: pytest.MonkeyPatch, line: str, expected: list[Any]
) -> None:
    """Each id once, inside and outside."""
    first, count = map(int, line.split(":"))
    monkeypatch.setattr(id_maps, "ranges_of", lambda path, uid: [(first, count)])
    assert [*id_maps._subids("uid", 7)] == expected
    assert [*id_maps.checked_entries("uid_map", expected)] == expected


def test_all_is_every_id_as_itself(ranges: tuple[int, int]) -> None:
    ids = Path("/proc/self/uid_map").read_text().split()
    if IS_ROOT:
        found = inside(uid_map="all")
        assert found[:3] == ([[0, 0, int(ids[2])]], "allow", [[0, 0, int(ids[2])]])
        assert found[3][:10] == ["Uid:", *"0000", "Gid:", *"0000"]
    else:
        with pytest.raises(PermissionError) as refused:
            nsdemo.run(["true"], uid_map="all", **QUIET)
        assert f"uid 0 to {int(ids[2]) - 1} is not yours" in refused.value.__notes__[0]
    code = """
        import test_users
        report(found=test_users.inside(uid_map="all"))
    """
    found = script(code, under=["unshare", "-Ur"]).report["found"]
    assert found[:3] == [[[0, 0, 1]], "deny", [[0, 0, 1]]]


def test_ranges_are_what_unshare_does(with_range: list[str]) -> None:
    uid = gid = 700000
    if not IS_ROOT:
        uid, gid = subordinate("uid")[0], subordinate("gid")[0]
    options: dict[str, Any] = {"uid_map": [(0, uid, 1000)], "gid_map": [(0, gid, 1000)]}
    words = (f"--map-users={uid},0,1000", f"--map-groups={gid},0,1000", "--setuid=0", "--setgid=0")
    (ours, theirs), (three, _) = beside(
        with_range,
        (options, words),
        (
            {"uid_map": [(0, uid, 5), (1000, OWN[0], 1), (2000, uid + 5, 9)], "gid_map": "auto"},
            words,
        ),
    )
    assert ours == theirs
    assert ours[0] == [[0, uid, 1000]]
    assert three[0] == [[0, uid, 5], [1000, OWN[0], 1], [2000, uid + 5, 9]]
    assert three[3][1] == "1000"  # who is mapped stays who he is


def test_every_way_to_start(ranges: tuple[int, int], rootfs: Path) -> None:
    uid, gid = ranges
    options: dict[str, Any] = {"uid_map": [(0, OWN[0], 1), (1, uid, 9)], "gid_map": [(0, gid, 9)]}
    if not IS_ROOT:
        options["gid_map"] = [(0, OWN[1], 1), (1, gid, 9)]
    expected = inside(**options)
    assert inside(**options, fork=False, mount_proc=False, pid=False) == expected
    assert inside(**options, root=rootfs, mounts=[nsdemo.Tmpfs("/tmp")]) == expected
    done = nsdemo.chroot_run("/", SHOW, **options, **CAPTURED)
    assert view(done.stdout) == expected
    with nsdemo.spawn(["sleep", "60"], **options, **QUIET) as box:
        assert view(box.enter(SHOW, **CAPTURED).stdout)[:3] == expected[:3]
        plan = nsdemo.spawn(SHOW, **options, stdin=nsdemo.DEVNULL, dry_run=True)
        for _ in range(2):
            assert view(plan.run(capture_output=True, text=True).stdout) == expected
        done = plan.run(capture_output=True, text=True)
        names = [step.operation for step in done.trace]
        assert [name for name in names if "map" in name] == ["map_helper", "map_ids", "map_ids"]
        assert all(step.errno == 0 and step.duration_ns > 0 for step in done.trace)


def test_becoming_each_mapped_id(ranges: tuple[int, int]) -> None:
    uid, gid = ranges
    options: dict[str, Any] = {
        "uid_map": [(0, OWN[0], 1), (1, uid, 900)],
        "gid_map": [(0, OWN[1], 1), (1, gid, 900)],
    }
    if IS_ROOT:
        options["setgroups"] = "allow"
    ids = inside(**options, uid=900, gid=5, groups=[6, 900])[3]
    assert ids == ["Uid:", *["900"] * 4, "Gid:", *"5555", "Groups:", "6", "900"]
    before = snapshot()
    with pytest.raises(nsdemo.NamespaceError) as caught:
        nsdemo.run(["true"], **options, uid=901, **QUIET)
    assert leftovers_now(before) == []
    assert (caught.value.step.operation, caught.value.errno) == ("setuid", errno.EINVAL)
    assert "uid 901 is not in the map" in caught.value.__notes__[0]


def test_files_belong_to_both_sides(ranges: tuple[int, int]) -> None:
    uid, gid = ranges
    maps: dict[str, Any] = {
        "uid_map": [(0, OWN[0], 1), (1, uid, 9)],
        "gid_map": [(0, OWN[1], 1), (1, gid, 9)],
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "file")
        file.touch()
        words = ["sh", "-c", f"chown 3:4 {file} && stat -c %u:%g {file}"]
        assert nsdemo.run(words, **maps, **CAPTURED).stdout == "3:4\n"
        status = file.stat()
        assert (status.st_uid, status.st_gid) == (uid + 2, gid + 3)
        back = ["chown", "0:0", str(file)]
        nsdemo.run(back, **maps, **QUIET, check=True)
        assert (file.stat().st_uid, file.stat().st_gid) == OWN


def test_who_is_not_mapped_becomes_root(ranges: tuple[int, int]) -> None:
    """As root inside, not as nobody: what is made inside has an owner."""
    uid, gid = ranges
    maps: dict[str, Any] = {"uid_map": [(0, uid, 9)], "gid_map": [(0, gid, 9)]}
    words = ["sh", "-c", "touch /tmp/x && stat -c %u:%g /tmp/x && grep CapEff /proc/self/status"]
    done = nsdemo.run(words, **maps, cwd="/", mounts=[nsdemo.Tmpfs("/tmp")], **CAPTURED)
    owner, _, power = done.stdout.split()
    assert (owner, int(power, 16) & 0xFF) == ("0:0", 0xFF)
    elsewhere: dict[str, Any] = {"uid_map": [(5, uid, 9)], "gid_map": [(5, gid, 9)]}
    assert inside(**elsewhere)[3][1] == "65534"
    assert inside(**elsewhere, uid=6, gid=7)[3][:10] == ["Uid:", *"6666", "Gid:", *"7777"]


def test_the_map_of_root_keeps_the_home() -> None:
    home = ["sh", "-c", "echo $HOME"]
    for uid, expected in ((0, "/root\n"), (7, "/\n")):
        options: dict[str, Any] = {"uid_map": [(uid, OWN[0], 1)], **CAPTURED}
        assert nsdemo.chroot_run("/", home, **options).stdout == expected


# -- setgroups and owner -------------------------------------------------------------------------


def test_setgroups_is_denied_where_one_asks() -> None:
    for word in ("deny", "allow") if IS_ROOT else ("deny",):
        words = ["unshare", "--user", f"--setgroups={word}", "cat", "/proc/self/setgroups"]
        expected = subprocess.run(words, **CAPTURED, timeout=30).stdout
        assert inside(setgroups=word)[1] == expected.strip() == word
    if IS_ROOT:
        maps: dict[str, Any] = {"uid_map": [(0, 0, 10)], "gid_map": [(0, 0, 10)]}
        assert inside(**maps)[1] == "allow"
        assert inside(**maps, setgroups="deny")[1] == "deny"


def test_setgroups_with_ranges_is_as_one_wants(ranges: tuple[int, int]) -> None:
    _, gid = ranges
    maps: dict[str, Any] = {"gid_map": [(0, OWN[1], 1), (1, gid, 9)]}
    assert inside(**maps)[1] == inside(**maps, setgroups="allow")[1] == "allow"
    assert inside(**maps, setgroups="deny")[1] == "deny"
    with pytest.raises(nsdemo.NamespaceError) as caught:
        nsdemo.run(["true"], **maps, setgroups="deny", groups=[1], **QUIET)
    assert caught.value.step.operation == "setgroups"
    assert "denies setgroups" in caught.value.__notes__[0]


def test_nobody_drops_a_group_that_keeps_him_out() -> None:
    """CVE-2014-8989: an ordinary user's own map denies setgroups, asked or not."""
    body = """
        found = []
        for options in ({}, {"uid_map": "current"}, {"gid_map": [(5, os.getegid(), 1)]}):
            plan = nsdemo.spawn(["cat", "/proc/self/setgroups"], dry_run=True, **options)
            found.append(plan.run(stdin=nsdemo.DEVNULL, capture_output=True).stdout.decode())
        try:
            nsdemo.spawn(["true"], setgroups="allow", dry_run=True)
        except ValueError as error:
            found.append(str(error))
        report(found=found)
    """
    found = script(body, ordinary=True).report["found"]
    assert found[:3] == ["deny\n"] * 3
    assert "CVE-2014-8989" in found[3]


def test_a_denial_is_for_ever() -> None:
    """In a user namespace that denies it, root inside cannot allow it again."""
    body = """
        try:
            nsdemo.run(["true"], setgroups="allow", stdin=nsdemo.DEVNULL)
        except OSError as error:
            report(**facts_of(error))
    """
    with _inside_of(uid_map=[(0, OWN[0], 1)]) as under:
        found = script(body, under=under).report
    assert (found["operation"], found["errno"]) == ("map_ids", errno.EPERM)
    assert "denies setgroups, and so do all in it" in found["notes"][0]


@contextlib.contextmanager
def _inside_of(**options: Any) -> Iterator[list[str]]:
    """A prefix that runs a script inside of a container, by the command line."""
    import sys

    words = []
    for keyword, value in options.items():
        for entry in value:
            words.append(f"--{keyword.replace('_', '-')}={':'.join(map(str, entry))}")
    folder = str(Path(nsdemo.__file__).resolve().parents[1])
    yield ["env", f"PYTHONPATH={folder}", sys.executable, "-m", "nsdemo", "spawn", *words]


@needs_root
def test_the_owner_of_a_user_namespace() -> None:
    from nsdemo import kernel

    def owner(**options: Any) -> int:
        with nsdemo.spawn(["sleep", "60"], user=True, **options, **QUIET) as box:
            return kernel.user_namespaces(box)[0].uid

    assert owner() == 0
    assert owner(owner=(1234, 1235)) == 1234
    assert owner(owner=(1234, 1235), uid_map=[(0, 1234, 1)], gid_map=[(0, 1235, 1)]) == 1234
    ids = inside(owner=(1234, 1235), uid_map=[(5, 0, 1)], gid_map=[(6, 0, 1)])[3]
    assert ids[:10] == ["Uid:", *"5555", "Gid:", *"6666"]
    again = inside(owner=(1234, 1235), uid_map=[(0, 1234, 1)], gid_map=[(0, 1235, 1)])
    assert again[3][:10] == ["Uid:", *"0000", "Gid:", *"0000"]


def test_an_owner_takes_root() -> None:
    body = """
        try:
            nsdemo.spawn(["true"], owner=(0, 0), dry_run=True)
        except ValueError as error:
            report(text=str(error))
    """
    assert "takes root's power" in script(body, ordinary=True).report["text"]


# -- capabilities --------------------------------------------------------------------------------


def test_another_user_keeps_capabilities_that_are_ambient() -> None:
    """What unshare --keep-caps does, by name."""
    show = ["grep", "-E", "^Cap(Prm|Eff|Amb):", "/proc/self/status"]
    maps: dict[str, Any] = {"uid_map": [(7, OWN[0], 1)]}
    plain = nsdemo.run(show, **maps, **CAPTURED).stdout.split()
    assert {int(each, 16) for each in plain[1::2]} == {0}
    kept = nsdemo.run(show, **maps, ambient=["net_raw", "chown"], **CAPTURED).stdout.split()
    assert {int(each, 16) for each in kept[1::2]} == {1 << 13 | 1}
    every = power.CAPABILITIES[: power.last_capability() + 1]
    words = ["unshare", "--map-user=7", "--map-group=0", "--keep-caps", *show]
    expected = subprocess.run(words, **CAPTURED, timeout=30).stdout
    assert nsdemo.run(show, **maps, ambient=every, **NOTHING_NEW, **CAPTURED).stdout == expected
    made = nsdemo.run(["mount", "-t", "tmpfs", "none", "/tmp"], uid_map="current",
                      ambient=["sys_admin"], **CAPTURED)  # fmt: skip
    assert (made.returncode, made.stderr) == (0, "")


# -- nests ---------------------------------------------------------------------------------------


def test_containers_in_a_container(ranges: tuple[int, int]) -> None:
    """nsdemo used from inside: its ids there are what can be mapped again."""
    uid, gid = ranges
    body = """
        show = ["sh", "-c", "cat /proc/self/uid_map; id -u"]
        def shown(**options):
            done = nsdemo.run(show, stdin=nsdemo.DEVNULL, capture_output=True, text=True, **options)
            return done.stdout.split()
        found = [shown(uid_map=[(0, 3, 4)], gid_map=[(0, 3, 4)]), shown(uid_map="current")]
        for options in ({"uid_map": [(0, 500, 1)]}, {"owner": (500, 0)}, {"owner": (0, 500)}):
            try:
                shown(**options)
            except OSError as error:
                found.append(facts_of(error))
        report(found=found)
    """
    maps = {
        "uid_map": [(0, OWN[0], 1), (1, uid, 50)],
        "gid_map": [(0, OWN[1], 1), (1, gid, 50)],
    }
    with _inside_of(**maps) as under:
        found = script(body, under=under).report["found"]
    assert found[:2] == [["0", "3", "4", "0"], ["0", "0", "1", "0"]]
    answers = [(each["operation"], each["errno"]) for each in found[2:]]
    assert answers == [("map_ids", errno.EPERM), *[("owner", errno.EINVAL)] * 2]
    for each, kind in zip(found[2:], ("uid", "uid", "gid"), strict=True):
        assert f"{kind} 500 is not in the map of the user namespace we are in" in each["notes"][0]


# -- what cannot be ------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"uid_map": []}, ValueError, "nobody would exist"),
    ({"uid_map": "root"}, ValueError, "'auto', 'current'"),
    ({"uid_map": 5}, TypeError, "list of"),
    ({"uid_map": [5]}, TypeError, "an entry is"),
    ({"uid_map": ["abc"]}, TypeError, "an entry is"),
    ({"uid_map": [(0, 1)]}, TypeError, "an entry is"),
    ({"uid_map": [(True, 0, 1)]}, TypeError, "inside is an int"),
    ({"uid_map": [(0, 1.0, 1)]}, TypeError, "outside is an int"),
    ({"gid_map": [(0, 0, "1")]}, TypeError, "count is an int"),
    ({"gid_map": [(-1, 0, 1)]}, ValueError, "an id inside is 0 to 4294967294"),
    ({"uid_map": [(0, 2**32 - 1, 1)]}, ValueError, "an id outside"),
    ({"uid_map": [(0, 0, 0)]}, ValueError, "count is"),
    ({"uid_map": [(0, 0, 2**32)]}, ValueError, "count is"),
    ({"uid_map": [(1, 0, 2**32 - 1)]}, ValueError, "beyond the last id"),
    ({"uid_map": [(0, 0, 5), (4, 9, 1)]}, ValueError, "0 to 4 inside and 4 to 4 overlap"),
    ({"uid_map": [(0, 9, 1), (4, 5, 5)]}, ValueError, "5 to 9 outside and 9 to 9 overlap"),
    ({"uid_map": [(2 * n, 2 * n, 1) for n in range(341)]}, ValueError, "at most 340"),
    ({"uid_map": [(10**9 + n, n, 1) for n in range(340)]}, ValueError, "less than"),
    ({"setgroups": "no"}, ValueError, "'allow' or 'deny'"),
    ({"setgroups": True}, ValueError, "'allow' or 'deny'"),
    ({"owner": 5}, TypeError, "owner is"),
    ({"owner": "me"}, TypeError, "owner is"),
    ({"owner": (0,)}, TypeError, "owner is"),
    ({"owner": (0, True)}, TypeError, "int"),
    ({"owner": (0, 2**32 - 1)}, ValueError, "between"),
    ({"uid_map": "current", "user": False}, ValueError, "user=True, or leave user out"),
    ({"uid_map": "current", "user": 1}, ValueError, "user=True, or leave user out"),
    ({"setgroups": "deny", "join": 1}, ValueError, "join= takes the target's"),
]


@pytest.mark.parametrize(("options", "kind", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_what_cannot_be(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    for call in (nsdemo.spawn, nsdemo.chroot_run):
        if call is nsdemo.chroot_run and options.keys() & {"user", "join"}:
            continue
        args: tuple[Any, ...] = (["true"],) if call is nsdemo.spawn else ("/", ["true"])
        with pytest.raises(kind, match=words.replace("'", ".")):
            call(*args, **options, dry_run=True)


def test_a_map_of_340_entries() -> None:
    """As many as the kernel takes, and in one write."""
    rows = [(n, n, 1) for n in range(0, 680, 2)]
    with contextlib.ExitStack() as stack:
        if not IS_ROOT:
            before = snapshot()
            refused = stack.enter_context(pytest.raises(nsdemo.NamespaceError))
        found = inside(uid_map=rows, gid_map=rows)
        assert found[0] == [list(row) for row in rows]
    if not IS_ROOT:
        assert leftovers_now(before) == []
        assert "is not yours: /etc/subuid" in refused.value.__notes__[0]
        assert "(newuidmap: uid range" in str(refused.value)
        assert isinstance(refused.value, PermissionError)


# -- newuidmap -----------------------------------------------------------------------------------

# A plan of an ordinary user whose map takes newuidmap, with another program in its place.
OTHER_PROGRAM = """
    import nsdemo._request.id_maps
    path = sys.argv[1]
    nsdemo._request.id_maps._program = lambda name: path.encode()
    one = outcome(lambda: nsdemo.run(["true"], uid_map=[(0, 7, 1)], stdin=nsdemo.DEVNULL))
    report(**one)
"""


@pytest.mark.parametrize(
    ("content", "mode", "number", "said", "hint"),
    [
        (None, 0, errno.ENOENT, "", "newuidmap is not installed"),
        ("#!/bin/sh\nexit 0\n", 0o644, errno.EACCES, "", "may not execute"),
        ("#!/bin/sh\nkill -9 $$\n", 0o755, errno.EINTR, "", "ended by a signal"),
        ("#!/bin/sh\necho no luck >&2; exit 1\n", 0o755, errno.EPERM, "no luck", "setuid bit"),
        ("#!/bin/sh\nprintf 'a\\033[31m\\nb'; exit 3\n", 0o755, errno.EPERM,
         r"a\x1b[31m; b", "setuid bit"),
        ("#!/bin/sh\nyes | head -c 99999; exit 1\n", 0o755, errno.EPERM, "y; y", "setuid bit"),
    ],
    ids=["absent", "closed", "killed", "refused", "coloured", "long"],
)  # fmt: skip
def test_what_newuidmap_says(
    content: str | None, mode: int, number: int, said: str, hint: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = Path(folder, "newuidmap")
        if content is not None:
            program.write_text(content)
            program.chmod(mode)
        found = script(OTHER_PROGRAM, str(program), ordinary=True).report
    error = found["error"]
    assert (error["operation"], error["step_errno"]) == ("map_ids", number)
    assert said in error["text"]
    assert len(error["text"]) < 2000
    assert hint in " ".join(error["notes"])
    assert found["at_once"] == found["left"] == []


def test_newuidmap_gets_nothing_of_ours() -> None:
    """No environment, no descriptor, no argument but the map."""
    body = """
        import nsdemo._request.id_maps
        nsdemo._request.id_maps._program = lambda name: sys.argv[1].encode()
        os.environ["SECRET"] = "x"
        kept = os.dup2(os.open("/", os.O_RDONLY), 50)
        try:
            nsdemo.run(["true"], uid_map=[(0, 7, 2), (9, 9, 9)], pass_fds=[kept])
        except OSError as error:
            report(text=str(error))
    """
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = Path(folder, "map")
        program.write_text(
            "#!/bin/sh\nshift\necho $*\nls /proc/self/fd\nreadlink /proc/$$/fd/0\n"
            "tr '\\0' ' ' </proc/$$/environ\nexit 1\n"
        )
        program.chmod(0o755)
        text = script(body, str(program), ordinary=True).report["text"]
    words, *names, stdin, environment = text[text.index("(") + 1 : -1].split("; ")
    assert words == "0 7 2 9 9 9"
    assert names == ["0", "1", "2", "3"]  # 3: the directory that ls reads
    assert stdin == "/dev/null"
    assert environment.split() == ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"]


def test_a_newuidmap_that_hangs_can_be_interrupted() -> None:
    body = """
        import nsdemo._request.id_maps
        nsdemo._request.id_maps._program = lambda name: sys.argv[1].encode()
        def interrupt(*_):
            raise RuntimeError("enough")
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        one = outcome(lambda: nsdemo.run(["true"], uid_map=[(0, 7, 1)], stdin=nsdemo.DEVNULL))
        report(**one)
    """
    marker = new_marker()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = Path(folder, "map")
        program.write_text(f"#!/bin/sh\nexec sleep {marker}\n")
        program.chmod(0o755)
        found = script(body, str(program), ordinary=True).report
    assert found["error"]["text"] == "enough"
    assert found["left"] == []
    assert eventually(lambda: not processes_with(marker))


@ordinary_alone
def test_no_new_privs_takes_newuidmaps_power(ranges: tuple[int, int]) -> None:
    body = """
        prctl(38, 1)
        report(**outcome(lambda: nsdemo.run(["true"], uid_map="auto", stdin=nsdemo.DEVNULL)))
    """
    error = script(body).report["error"]
    assert error["errno"] == errno.EPERM
    assert "no_new_privs" in error["notes"][0]


@needs_root
def test_a_user_without_a_range() -> None:
    body = """
        found = []
        for options in ({"uid_map": "auto"}, {"uid_map": [(0, 7, 9)]}):
            try:
                nsdemo.run(["true"], stdin=nsdemo.DEVNULL, **options)
            except (ValueError, OSError) as error:
                found.append(facts_of(error))
        report(found=found)
    """
    if shutil.which("newuidmap") is None:
        pytest.skip("newuidmap is not installed (on Debian: apt-get install uidmap)")
    auto, named = script(body, ordinary=True).report["found"]
    assert "/etc/subuid has no range for 64321 (uid 64321): as root, usermod" in auto["text"]
    assert (named["operation"], named["errno"]) == ("map_ids", errno.EPERM)
    assert "newuidmap" in named["text"]


def test_ranges_are_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text(
        "# a comment\nroot:100:5\n0:200:6\nother:300:7\nroot:x:5\nroot:-1:5\n"
        "root:5\n\nroot:400:0\nroot:4294967290:9\nroot:500:1:2\n"
    )
    assert id_maps.ranges_of(str(file), 0) == [(100, 5), (200, 6)]
    assert id_maps.ranges_of(str(tmp_path / "none"), 0) == []


def test_no_answer_of_the_kernel_surprises() -> None:
    from nsdemo._why.diagnosis import diagnose

    owner: dict[str, Any] = {"owner": (7, 7), "setgroups": "deny"} if IS_ROOT else {}
    plan = nsdemo.spawn(["true"], uid_map=[(0, 7, 9)], **owner, dry_run=True)
    steps = [step for step in plan if step.operation in ("map_helper", "map_ids", "owner")]
    assert len(steps) == (5 if IS_ROOT else 4)
    for number in errno.errorcode:
        for step in steps:
            failed = nsdemo.Step(step.operation, step.args, None, number)
            assert "None" not in "".join(diagnose(failed, plan._core, (failed,)))


# -- plans ---------------------------------------------------------------------------------------


def test_a_plan_shows_the_maps_and_the_command() -> None:
    plan = str(nsdemo.spawn(["true"], uid_map=[(0, 100000, 9), (20, OWN[0], 1)], dry_run=True))
    assert "clone(SIGCHLD)  /* and stay outside, to write the id maps */" in plan
    if IS_ROOT:
        assert r'write("/proc/PID/uid_map", "0 100000 9\n20 0 1")' in plan
    else:
        assert f'["newuidmap", PID, "0", "100000", "9", "20", "{OWN[0]}", "1"]' in plan
    assert "unshare --user --map-user=20 --map-users=100000,0,9 --map-group=0 " in plan
    current = str(nsdemo.spawn(["true"], uid_map="current", dry_run=True))
    word = "root" if IS_ROOT else "current"
    assert f"--map-{word}-user " in current
    assert "map_helper" not in str(nsdemo.spawn(["true"], user=True, dry_run=True).steps)


def test_maps_in_a_plan_by_hand(ranges: tuple[int, int]) -> None:
    uid, gid = ranges
    maps: dict[str, Any] = {
        "uid_map": [(0, OWN[0], 1), (1, uid, 9)],
        "gid_map": [(0, OWN[1], 1), (1, gid, 9)],
    }
    plan = nsdemo.Plan().unshare_user(**maps).setgid(3).setuid(3).exec(SHOW)
    assert [step.operation for step in plan][:4] == ["map_helper", "unshare", "map_ids", "map_ids"]
    found = view(plan.run(**CAPTURED).stdout)
    assert found[:3] == inside(**maps)[:3]
    assert found[3][1:5] == ["3"] * 4
    alone = nsdemo.Plan().unshare_user()
    assert alone.steps == nsdemo.Plan().unshare("user").map_root().steps
    current = nsdemo.Plan().unshare_user("current").exec(["true"])
    assert (current == alone.exec(["true"])) == IS_ROOT
    with pytest.raises(ValueError, match="nobody would exist"):
        nsdemo.Plan().unshare_user([])
    with pytest.raises(ValueError, match="ends with exec"):
        plan.unshare_user()


# -- the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "uid_map", "gid_map"),
    [
        (["--map-users=0:100:5"], [(0, 100, 5)], None),
        (["--map-users", "100,0,5"], [(0, 100, 5)], None),
        (["--uid-map=0:1:2", "--map-users=7:8:9"], [(0, 1, 2), (7, 8, 9)], None),
        (["--gid-map=0:1:2"], None, [(0, 1, 2)]),
        (["--map-groups=1,0,2"], None, [(0, 1, 2)]),
        (["--map-user=5", "--map-group=6"], [(5, OWN[0], 1)], [(6, OWN[1], 1)]),
        (["--map-user=5", "--map-users=9:9:9"], [(5, OWN[0], 1), (9, 9, 9)], None),
        (["--map-root-user"], [(0, OWN[0], 1)], [(0, OWN[1], 1)]),
        (["--map-current-user"], [(OWN[0], OWN[0], 1)], [(OWN[1], OWN[1], 1)]),
        (["--map-auto"], "auto", "auto"),
        (["--map-auto", "--map-root-user"], "auto", "auto"),
        (["--map-root-user", "--map-auto"], "auto", "auto"),
        (["--map-users=auto", "--map-groups=auto"], "auto", "auto"),
        (["--map-subids"], "subids", "subids"),
        (["--map-root-user", "--map-subids", "--map-root-user"], "subids", "subids"),
        (["--map-users=subids", "--map-groups=all"], "subids", "all"),
        (["--map-users=all"], "all", None),
    ],
    ids=str,
)
def test_flags(words: list[str], uid_map: Any, gid_map: Any) -> None:
    from nsdemo import flags

    for name, more in (("spawn", []), ("chroot", ["/"])):
        call = flags.read(name, [*words, *more, "true"])
        assert call.keywords.get("uid_map") == uid_map
        assert call.keywords.get("gid_map") == gid_map
        assert call.command == ["true"]


def test_flags_of_setgroups_and_owner() -> None:
    from nsdemo import flags

    call = flags.read("spawn", ["--setgroups=deny", "--owner", "5:6", "true"])
    assert (call.keywords["setgroups"], call.keywords["owner"]) == ("deny", (5, 6))
    for words in (
        ["--map-users=5"], ["--map-users=a:b:c"], ["--map-users=1:2"], ["--map-user=root"],
        ["--map-auto", "--map-users=1:2:3"], ["--map-user=5", "--map-auto"],
        ["--map-auto", "--map-subids"], ["--map-users=all", "--map-root-user"],
        ["--map-root-user", "--map-users=all"], ["--map-user=5", "--map-subids"],
        ["--setgroups=no"], ["--owner=5"], ["--owner=a:b"],
    ):  # fmt: skip
        with pytest.raises(flags.FlagError):
            flags.read("spawn", [*words, "true"])


def test_several_ranges_are_drawn(ranges: tuple[int, int]) -> None:
    from nsdemo import notebook

    uid, gid = ranges
    maps: dict[str, Any] = {
        "uid_map": [(0, OWN[0], 1), (1, uid, 9), (1000, uid + 9, 5)],
        "gid_map": [(0, OWN[1], 1), (1, gid, 9)],
    }
    with nsdemo.spawn(["sleep", "60"], **maps, **QUIET) as box:
        picture = notebook.id_maps(box)
        text, svg = str(picture), picture._repr_html_()
    for line in (
        f"uid 1 to 9 inside → {uid} to {uid + 8} outside",
        f"uid 1000 to 1004 inside → {uid + 9} to {uid + 13} outside",
        f"gid 1 to 9 inside → {gid} to {gid + 8} outside",
    ):
        assert line in text
    assert svg.count('class="nsd-maps') == 5
    assert "setgroups: allow" in text
