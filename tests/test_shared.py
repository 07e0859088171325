"""A machine whose mounts are shared, as systemd has them: nothing that is mounted inside shows.

A mount namespace that is made recursively shared stands for the machine; what shares its mounts
with the real one is cut off first.
"""

from __future__ import annotations

import pytest
from support import SHARED_MACHINE, script

import nsdemo
from nsdemo import Plan

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

PREPARE = """
import subprocess
from pathlib import Path

def machine():
    lines = sorted(Path("/proc/self/mountinfo").read_text().splitlines())
    return lines, os.path.exists("/proc/self/stat")

made = nsdemo.Rootfs.busybox()
bare = nsdemo.Rootfs.busybox()
root = Path(made)
(root / "data").mkdir()
place = root / "data"
mount = ["mount", "-t", "tmpfs", "none"]
subprocess.run([*mount, place], check=True)
(place / "source" / "below").mkdir(parents=True)
(place / "target").touch()
subprocess.run(["mount", "--bind", "/etc/passwd", place / "target"], check=True)
subprocess.run([*mount, place / "source"], check=True)
(place / "source" / "below").mkdir()
Tmpfs, Bind, Overlay = nsdemo.Tmpfs, nsdemo.Bind, nsdemo.Overlay
several = [
    Tmpfs("/mnt"), Bind(place, "/mnt/a"), Tmpfs("/mnt/a/source/below"), Tmpfs("/mnt/a/source"),
    Bind("/etc/group", "/mnt/a/target"), Bind("/etc/group", "/mnt/file"), nsdemo.Dev("/mnt/dev"),
    nsdemo.Proc("/mnt/proc", masked=True), Overlay("/mnt/o", lower=["/etc"]),
    Overlay("/mnt/a", lower=["/etc"]),
]
inside = [Tmpfs("/data/source/below"), Tmpfs("/data"), Bind(place, "/data/a"), nsdemo.Dev(),
          Tmpfs("/data/a/source/below"), Tmpfs("/tmp")]
before = machine()
assert any(" shared:" in line for line in before[0])
"""
CALLS = """
{"plain": {}, "mounts": {"mounts": several}, "init": {"init": True}, "ids": {"umask": 0, "uid": 0},
 "root": {"root": root}, "root, mounts": {"root": root, "mounts": inside},
 "chroot": {"root": root, "root_method": "chroot", "mounts": inside},
 "overlay": {"root": bare, "overlay": True, "mounts": [Tmpfs("/mnt")]},
 "read-only": {"readonly_root": True}, "read-only root": {"root": root, "readonly_root": True}}
"""
FAILURES = """
{"no such command": {"args": ["/no/such"]}, "no such cwd": {"cwd": "/no/such"},
 "no such source": {"mounts": [*several, Bind("/no/such", "/x")]},
 "no such id": {"root": root, "user": True, "uid": 5, "mounts": inside},
 "no such cwd in the root": {"root": root, "cwd": "/no/such", "mounts": inside},
 "no directory": {"root": root, "mounts": [*inside, Tmpfs("/bin/sh")]}}
"""


@pytest.mark.parametrize("propagation", ["shared", "unchanged", "slave", "private"])
def test_nothing_shows_on_the_machine(propagation: str) -> None:
    body = """
    found = {}
    for name, options in calls.items():
        options["propagation"] = sys.argv[1]
        for user in (False, True):
            box = nsdemo.spawn(["sh", "-c", "echo; read x"], stdin=nsdemo.PIPE, stdout=nsdemo.PIPE,
                               user=user, **options)
            box.stdout.read(1)
            during = machine() == before
            box.communicate(b"\\n")
            found[f"{name}, {user}"] = during, machine() == before
    for name, options in failures.items():
        options = {"args": ["true"], "stdin": nsdemo.DEVNULL, "propagation": sys.argv[1], **options}
        try:
            nsdemo.run(**options)
        except OSError:
            found[name] = machine() == before, True
        else:
            found[name] = "no error"
    subprocess.run(["umount", "-R", place], check=True)
    made.remove()
    bare.remove()
    report(found=found)
    """
    calls = f"calls = {CALLS.strip()}\nfailures = {FAILURES.strip()}\n"
    body = PREPARE + calls + _dedented(body)
    found = script(body, propagation, under=SHARED_MACHINE).report["found"]
    assert len(found) == 26
    assert {name: ends for name, ends in found.items() if ends != [True, True]} == {}


def test_the_mounts_around_are_as_asked_for() -> None:
    """pivot_root takes no shared mount, unshare(1) makes the old /proc private."""
    body = """
    found = {}
    for kind in ("shared", "unchanged", "slave", "private"):
        for under in (None, root):
            done = nsdemo.run(["cat", "/proc/self/mountinfo"], root=under, propagation=kind,
                              stdin=nsdemo.DEVNULL, capture_output=True, text=True)
            lines = [line.split(" - ")[0].split() for line in done.stdout.splitlines()]
            found[f"{kind} {under is not None}"] = {
                line[4]: [word.split(":")[0] for word in line[6:]] for line in lines}
    subprocess.run(["umount", "-R", place], check=True)
    made.remove()
    bare.remove()
    report(found=found, place=str(place))
    """
    done = script(PREPARE + _dedented(body), under=SHARED_MACHINE).report
    found, place = done["found"], done["place"]
    for kind in ("shared", "unchanged"):
        ours, under = found[f"{kind} False"], found[f"{kind} True"]
        assert ours["/"] == ours[place] == under["/data"] == ["shared"]
        assert ours["/proc"] == [], "the new one, on an old one that is a slave"
        assert "shared" in under["/"] if kind == "shared" else under["/"] == ["master"]
    for kind, words in (("slave", ["master"]), ("private", [])):
        assert found[f"{kind} False"]["/"] == found[f"{kind} True"]["/data"] == words


def _dedented(body: str) -> str:
    return "\n".join(line.removeprefix("    ") for line in body.splitlines()) + "\n"


# -- a plan by hand, in which nothing is private by itself -----------------------------------------


def warnings(plan: Plan) -> list[str]:
    return [line for line in str(plan).splitlines() if line.startswith("# warning")]


def test_a_plan_that_mounts_where_others_see_it_is_warned_of() -> None:
    new = Plan().unshare("mount", "pid").fork()
    proc = ("proc", "/proc", "proc")
    for plan in (
        new.mount(*proc),
        new.bind("/a", "/b"),
        new.mounts([nsdemo.Tmpfs("/tmp")]),
        new.make_private("/tmp").mount(*proc),
        new.propagation("shared").mount(*proc),
        Plan().unshare("mount").unshare("user").map_root().mount(*proc),
    ):
        (warning,) = warnings(plan.exec(["true"]))
        assert ".make_private() comes before it" in warning
        number = next(
            i for i, s in enumerate(plan.steps, 1) if s.operation in ("mount", "bind", "mount_at")
        )
        assert f"what step {number} mounts" in warning
    for plan in (
        Plan().mount(*proc),
        Plan().make_private().unshare("mount"),
        Plan().unshare("uts").make_readonly(),
        Plan().pivot_root("/a"),
    ):
        (warning,) = warnings(plan.exec(["true"]))
        assert '.unshare("mount").make_private() come before it' in warning


def test_other_plans_are_not() -> None:
    new = Plan().unshare("mount", "pid").fork()
    proc = ("proc", "/proc", "proc")
    for plan in (
        new.make_private().mount(*proc),
        new.propagation("slave").mount(*proc).propagation("shared").bind("/a", "/b"),
        Plan().unshare("user", "mount").map_root().mount(*proc),
        Plan().unshare("user").map_root().unshare("mount").mount(*proc),
        new.chroot("/tmp"),
        Plan(),
    ):
        assert warnings(plan) == []
    for kind in ("private", "slave", "shared", "unchanged"):
        for options in ({}, {"mounts": [nsdemo.Dev()]}, {"root": "/tmp", "overlay": True}):
            plan = nsdemo.run(["true"], propagation=kind, dry_run=True, **options)
            assert warnings(plan) == []
            assert ("MS_SLAVE, NULL); " in str(plan)) == (kind in ("shared", "unchanged"))


def test_doctor_says_where_mounts_are_shared() -> None:
    body = "report(said=nsdemo.doctor()['mount'].detail)"
    assert ".make_private()" in script(body, under=SHARED_MACHINE).report["said"]
    private = SHARED_MACHINE[: SHARED_MACHINE.index("sh")]
    assert "shared" not in script(body, under=private).report["said"]
