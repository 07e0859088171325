"""Plans: made by hand or by a recipe, printed, and the command line that does the same."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import IS_ROOT, QUIET, no_power
from targets import CAPTURED, only_root, tool

import nsdemo
from nsdemo import _core
from nsdemo._plan import explain

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

FILES = ["mnt", "uts", "ipc", "pid", "net", "user", "cgroup", "time"]
POWER: dict[str, Any] = {} if IS_ROOT else {"user": True}
# What a command sees of its namespaces, its root, its directory and itself.
LOOK = "; ".join(
    [
        "for x in mnt uts ipc pid net user cgroup; do readlink /proc/self/ns/$x",
        "done",
        "cut -d' ' -f5 /proc/self/mountinfo | sort | head -3",
        "readlink /bin/sh",
        "pwd",
        "id -u",
        "id -g",
        "echo pid $$",
    ]
)
EQUALS = re.compile(r"^# equals: (.*)$", re.MULTILINE)


def by_hand(root: Path) -> nsdemo.Plan:
    plan = no_power().unshare("mount", "uts", "ipc", "pid").fork().make_private("/")
    plan = plan.bind(root, root).mount("proc", f"{root}/proc", "proc")
    return plan.pivot_root(root)


def seen(text: str) -> tuple[set[str], list[str]]:
    """(kinds of namespaces that are not ours, the rest) of what LOOK has printed."""
    lines = text.splitlines()
    ours = {os.readlink(f"/proc/self/ns/{kind}") for kind in FILES}
    new = {line.split(":")[0] for line in lines if re.match(r"\w+:\[\d+\]", line)} - {
        link.split(":")[0] for link in ours if link in lines
    }
    return new, [line for line in lines if not re.match(r"\w+:\[\d+\]", line)]


# -- by hand


def test_a_plan_by_hand_is_the_recipes_container(rootfs: Path) -> None:
    command = ["sh", "-c", LOOK]
    mine = by_hand(rootfs).exec(command).run(**CAPTURED)
    recipe = nsdemo.run(command, root=rootfs, **CAPTURED)
    assert (mine.stderr, mine.returncode) == (recipe.stderr, recipe.returncode) == ("", 0)
    assert seen(mine.stdout) == seen(recipe.stdout)
    assert seen(mine.stdout)[0] == {"mnt", "uts", "ipc", "pid"} | (set() if IS_ROOT else {"user"})
    assert "pid 1" in mine.stdout


def test_a_joining_plan_by_hand_is_enter(rootfs: Path) -> None:
    with nsdemo.spawn(["sleep", "100"], root=rootfs, user=True, **QUIET) as box:
        plan = nsdemo.Plan().join(box, "user", "mount", "uts", "ipc", "pid").become_root().fork()
        with open(os.pidfd_open(box.pid)) as pidfd:
            other = nsdemo.Plan().join(pidfd, "user", "mount", "pid", "uts", "ipc")
        command = ["sh", "-c", LOOK.replace("pid $$", "")]
        found = [
            plan.exec(command).run(**CAPTURED).stdout,
            other.become_root().fork().exec(command).run(**CAPTURED).stdout,
            box.enter(command, **CAPTURED).stdout,
        ]
        del other, plan
    assert found[0] == found[1] == found[2] != ""


def test_steps_one_by_one(rootfs: Path) -> None:
    plan = no_power().unshare("uts", "net").sethostname("boxy").loopback_up().chroot(rootfs)
    plan = plan.chdir("/tmp").setsid()
    done = plan.exec(["sh", "-c", "hostname; pwd; readlink /bin/sh"]).run(**CAPTURED)
    assert done.stdout.split() == ["boxy", "/tmp", "busybox"]
    init = no_power().unshare("pid").fork().init().exec(["sh", "-c", "echo $$"])
    assert init.run(**CAPTURED).stdout == "2\n"
    if IS_ROOT:
        ids = nsdemo.Plan().setgroups([9]).setgid(8).setuid(7).exec(["sh", "-c", "id -u; id -G"])
        assert ids.run(**CAPTURED).stdout.split() == ["7", "8", "9"]
    env = nsdemo.Plan().exec(["env"], env={"A": "1"}).run(**CAPTURED).stdout
    assert env == "A=1\n"


def test_a_plan_never_changes() -> None:
    empty = nsdemo.Plan()
    one = empty.unshare("uts")
    two = one.sethostname("a")
    other = one.sethostname("b")
    assert [len(plan) for plan in (empty, one, two, other)] == [0, 1, 2, 2]
    assert two != other
    assert one.sethostname("a") == two
    assert two != "plan"
    assert list(two) == list(two.steps)
    assert empty == nsdemo.Plan()
    finished = two.exec(["true"])
    assert len(two) == 2
    assert len(finished) == 3
    with pytest.raises(TypeError):
        hash(two)
    with pytest.raises((AttributeError, TypeError)):
        two.steps = ()  # type: ignore[misc]
    with pytest.raises(AttributeError):
        two.extra = 1  # type: ignore[attr-defined]
    assert repr(two) == "<nsdemo.Plan of 2 steps>"


def test_what_is_no_plan_is_refused() -> None:
    plan = nsdemo.Plan()
    done = plan.exec(["true"])
    for wrong in (
        lambda: plan.fork().fork(),
        lambda: plan.init(),
        lambda: plan.fork().init().init(),
        lambda: plan.unshare(),
        lambda: plan.unshare("mnt"),
        lambda: plan.propagation("sideways"),
        lambda: plan.exec([]),
        lambda: plan.setuid(-1),
        lambda: plan.run(),
        lambda: plan.fork().start(),
        lambda: done.exec(["true"]),
        lambda: done.setsid(),
        lambda: done.fork(),
        lambda: done.map_root(),
        lambda: done.setgroups([]),
        lambda: done.join(os.getpid(), "uts"),
        lambda: plan.bind("a\0b", "c"),
    ):
        with pytest.raises(ValueError, match=r"\w"):
            wrong()
    for wrong in (
        lambda: plan.exec("true"),
        lambda: plan.setuid("root"),
        lambda: plan.setgid(True),
        lambda: plan.bind(1, 2),  # type: ignore[arg-type]
        lambda: plan.join(True, "uts"),
    ):
        with pytest.raises(TypeError):
            wrong()


# -- started, run, again


def test_a_plan_is_started_again_and_again(rootfs: Path) -> None:
    plan = nsdemo.run(["sh", "-c", "echo $$; exit 3"], root=rootfs, stdin=nsdemo.DEVNULL,
                      stdout=nsdemo.PIPE, text=True, dry_run=True)  # fmt: skip
    done = [plan.run() for _ in range(30)]
    assert {(each.returncode, each.stdout) for each in done} == {(3, "1\n")}
    assert len({each.trace[-1].pid for each in done}) > 20
    both = [plan.start(), plan.start()]
    assert [box.communicate(timeout=10)[0] for box in both] == ["1\n", "1\n"]
    del both


def test_run_takes_the_options_of_run() -> None:
    plan = nsdemo.Plan().exec(["sh", "-c", "cat; echo err >&2; exit 4"])
    done = plan.run(input="in", capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("in", "err\n", 4)
    assert done.args == ["sh", "-c", "cat; echo err >&2; exit 4"]
    with pytest.raises(nsdemo.CalledProcessError):
        plan.run(check=True, capture_output=True, **QUIET)
    with pytest.raises(nsdemo.TimeoutExpired):
        nsdemo.Plan().exec(["sleep", "100"]).run(timeout=0.1)
    fd = os.open(os.devnull, os.O_RDONLY)
    test = nsdemo.Plan().exec(["sh", "-c", f"test -e /proc/self/fd/{fd}"])
    assert test.run(pass_fds=[fd]).returncode == 0
    assert test.run().returncode == 1
    os.close(fd)
    with plan.start(stdin=nsdemo.PIPE, stdout=nsdemo.PIPE, stderr=nsdemo.STDOUT) as box:
        assert box.communicate(b"x", timeout=10) == (b"xerr\n", None)


# -- printed


def equal_line(plan: nsdemo.Plan) -> str:
    found = EQUALS.findall(str(plan))
    assert len(found) == 1
    return str(found[0])


# unshare(1) would leave a /proc here, with --root and --propagation=unchanged, were mounts shared.
APART = ["unshare", "--mount", "--propagation", "private"] if IS_ROOT else []


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*APART, "sh", "-c", line], **CAPTURED, timeout=20)


def test_a_printed_plan_is_numbered_calls_and_a_command_line(rootfs: Path) -> None:
    plan = nsdemo.spawn(["echo", "it's"], root=rootfs, hostname="x", dry_run=True)
    lines = str(plan).splitlines()
    numbered = list(itertools.takewhile(bool, lines))
    assert [line.split()[0] for line in numbered] == [str(n) for n in range(1, len(plan) + 1)]
    assert all(str(step) in line for step, line in zip(plan, numbered, strict=True))
    assert numbered[-1].split(maxsplit=1)[1] == 'execve("echo", ["echo", "it\'s"], envp)'
    assert "set the host name" in str(plan)
    assert equal_line(plan).startswith("unshare --mount" if IS_ROOT else "unshare --user")


def test_a_printed_plan_says_where_the_launcher_begins(rootfs: Path) -> None:
    """That is where strace shows the execveat of a file without a name, and nowhere else."""
    begins = re.compile(r"^# from step (\d+) on it is nsdemo's launcher", re.MULTILINE)

    def of(plan: nsdemo.Plan) -> list[str]:
        return begins.findall(str(plan))

    first = "2" if IS_ROOT else "5"  # behind the maps of ids
    assert of(nsdemo.spawn(["sh"], root=rootfs, dry_run=True)) == [first]
    assert of(nsdemo.spawn(["sh"], root=rootfs, init=True, dry_run=True)) == ["1"]
    assert of(nsdemo.run(["sh"], root=rootfs, user=True, dry_run=True)) == ["5"]
    assert of(nsdemo.spawn(["sh"], dry_run=True)) == []


COMMAND = ["sh", "-c", LOOK]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"net": True, "cgroup": True},
        {"pid": False},
        {"mount_proc": False},
        {"user": True},
        {"propagation": "slave"},
        {"propagation": "unchanged"},
        {"cwd": "/tmp"},
        {"root": None},
        {"root": None, "cwd": "/tmp"},
        {"ipc": False, "uts": False},
    ],
    ids=lambda options: "-".join(options) or "default",
)
def test_the_unshare_line_does_the_same(options: dict[str, Any], rootfs: Path) -> None:
    plan = nsdemo.run(COMMAND, **{"root": rootfs} | POWER | options, dry_run=True)
    line = equal_line(plan)
    assert line.startswith("unshare ")
    theirs, ours = shell(line), plan.run(**CAPTURED)
    assert (ours.returncode, theirs.returncode) == (0, 0), (ours.stderr, theirs.stderr)
    found, expected = seen(ours.stdout), seen(theirs.stdout)
    if options.get("pid") is False:  # a number of the host's
        assert found[1].pop().startswith("pid ")
        assert expected[1].pop().startswith("pid ")
    # A bind mount that unshare(1) has no need for is a mount point more.
    rest = [
        [x for x in each if x in ("/tmp", "/proc") or x[0] != "/"] for _, each in (found, expected)
    ]
    assert found[0] == expected[0]
    assert rest[0] == rest[1] != []


@only_root
def test_the_unshare_line_with_ids_does_the_same(rootfs: Path) -> None:
    command = ["sh", "-c", "id -u; id -g; grep Groups /proc/self/status; pwd"]
    plan = nsdemo.run(command, root=rootfs, uid=7, gid=8, dry_run=True)
    assert shell(equal_line(plan)).stdout == plan.run(**CAPTURED).stdout != ""


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("options", [{}, {"net": False, "uts": False}, {"cwd": "/tmp"}])
def test_the_nsenter_line_does_the_same(options: dict[str, Any], root: bool, rootfs: Path) -> None:
    command = ["sh", "-c", LOOK.replace("pid $$", "")]
    with nsdemo.spawn(["sleep", "100"], net=True, user=True, root=rootfs if root else None,
                      **QUIET) as box:  # fmt: skip
        plan = nsdemo.enter(box.pid, command, **options, dry_run=True)
        line = equal_line(plan)
        assert line.startswith(f"nsenter --target {box.pid} ")
        ours, theirs = plan.run(**CAPTURED), shell(line)
        assert ours.stdout == theirs.stdout != ""


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"uid": 7, "gid": 8}, marks=only_root),
        pytest.param({"uid": 7}, marks=only_root),
    ],
)
def test_the_chroot_line_does_the_same(options: dict[str, Any], rootfs: Path) -> None:
    tool("chroot")
    command = ["sh", "-c", "pwd; id -u; id -g; id -G; readlink /bin/sh"]
    plan = nsdemo.chroot_run(rootfs, command, dry_run=True, **options)
    line = equal_line(plan)
    assert f" {rootfs} " in line
    assert line.startswith("chroot " if IS_ROOT else "unshare --user --map-root-user ")
    assert shell(line).stdout == plan.run(**CAPTURED).stdout != ""


def test_an_unfinished_and_an_empty_plan_are_printed(rootfs: Path) -> None:
    assert "empty" in str(nsdemo.Plan())
    text = str(nsdemo.Plan().unshare("uts"))
    assert text.splitlines()[0] == "1  unshare(CLONE_NEWUTS)"
    assert "unshare --uts COMMAND" in text
    hand = by_hand(rootfs).exec(["sh", "-c", LOOK])
    theirs, ours = shell(equal_line(hand)), hand.run(**CAPTURED)
    assert seen(theirs.stdout)[0] == seen(ours.stdout)[0] != set()


def test_the_nsenter_line_is_the_same_for_a_container_and_its_pid() -> None:
    with nsdemo.spawn(["sleep", "100"], **QUIET) as box:
        lines = {equal_line(nsdemo.enter(t, ["true"], dry_run=True)) for t in (box, box.pid)}
    assert len(lines) == 1
    assert lines.pop().count("--target") == 1


def test_a_line_break_in_an_argument_does_not_break_the_line() -> None:
    plan = nsdemo.Plan().exec(["printf", "%s", "a\nb"])
    assert all(line[0] in "1#" for line in str(plan).splitlines() if line)


@pytest.mark.parametrize(
    ("what", "call", "words"),
    [
        (0, 'fsopen("overlay"); ', "lay an overlay over what is mounted on /r/data"),
        (1, 'mkdir("/r/data")', "make /r/data anew"),
        (2, 'mkdir("/r/data")', "make /r/data anew"),
        (3, 'open_tree("/r/data", ', "show /r/data as it is, read-only"),
    ],
)
@pytest.mark.parametrize("flags", [0, 4], ids=["", "stays inside"])
def test_a_layer_is_shown_as_what_is_done(what: int, call: str, words: str, flags: int) -> None:
    texts = (None, "/data", "", "/r")
    core = _core.Plan().append("layer_at", flags, (what, 1, 1), texts)
    step = nsdemo.Plan._from_core(core).steps[0]
    assert str(step).startswith(call)
    assert explain.describe(step) == words


def test_the_root_has_a_name() -> None:
    core = _core.Plan().append("mount_at", 0, (0, -1, 0), ("", "/", "tmpfs", "/"))
    step = nsdemo.Plan._from_core(core).steps[0]
    assert str(step).endswith('move_mount("/")')
    assert explain.describe(step) == "mount tmpfs on /"


def test_a_pin_is_an_option_with_a_path() -> None:
    plan = no_power().unshare("net", "uts").pin("net", "/run/a pin").exec(["true"])
    assert " --uts --net='/run/a pin' " in str(plan)
