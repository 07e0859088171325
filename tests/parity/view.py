"""Two launches of the same command, an original's and ours, and what the kernel says of each.

A comparison is made of words for the original, keywords for nsdemo and a shell script that both
execute inside. It fails when their output differs, and also when ours would be the same without
the keywords: then it would show nothing.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import IS_ROOT
from targets import tool

import nsdemo

NAMESPACES = "for n in mnt uts ipc net pid user cgroup time; do readlink /proc/self/ns/$n; done"
MAPS = "cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups"
IDS = "grep -E '^(Uid|Gid|Groups):' /proc/self/status"
POWER = "grep -E '^(CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status"
MOUNTS = "cat /proc/self/mountinfo"
ROOT = "stat -c %d:%i /"

# unshare(1) makes nothing that is not asked for.
BARE: dict[str, Any] = {"mount": False, "uts": False, "ipc": False, "pid": False}
# What an ordinary user needs beside; root needs nothing.
FIRST = [] if IS_ROOT else ["--map-root-user"]
POWERED: dict[str, Any] = {} if IS_ROOT else {"user": True}

Answer = str | tuple[object, ...]
Compare = Callable[["Ground"], None]


@dataclasses.dataclass
class Ground:
    """What the comparisons stand on."""

    root: Path
    folder: Path  # an empty directory
    box: nsdemo.Container[bytes]  # sleeps in namespaces of its own, all eight


@dataclasses.dataclass(frozen=True)
class Row:
    """An option of an original and the keyword that does the same, or why there is none."""

    option: str
    answer: str
    compare: Compare | None = None
    what: str = ""  # is compared
    where: str = ""  # if not here: file::test
    newer: bool = False  # than the original that is installed on Debian 12
    root: bool = False  # only root can compare it


def ran(command: list[str], **options: Any) -> Answer:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options
    )
    assert done.stderr == "", (command, done.stderr)
    return done.stdout, done.returncode


def outcome(done: nsdemo.CompletedProcess[str]) -> Answer:
    assert done.stderr == "", (done.args, done.stderr)
    return done.stdout, done.returncode


CAPTURED: dict[str, Any] = {"stdin": nsdemo.DEVNULL, "capture_output": True, "text": True}


def relative(answer: Answer) -> Answer:
    """Namespaces as "ours" or "new": two launches never share a new one."""
    ours = {os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}
    words = re.sub(
        r"\S+:\[\d+\]", lambda m: "ours" if m[0] in ours else m[0].split(":")[0], str(answer[0])
    )
    return words, *answer[1:]


def mounted(answer: Answer) -> Answer:
    """Mounts without what the kernel counts: ids, devices, peer groups; and without atime."""
    lines = []
    for line in str(answer[0]).splitlines():
        _, _, _, root, point, options, *rest = line.split()
        tags = sorted(tag.split(":")[0] for tag in rest[: rest.index("-")])
        kind = rest[rest.index("-") + 1]
        kept = [word for word in options.split(",") if not word.startswith("rel")]
        lines.append((point, root, kind, ",".join(kept), *tags))
    return (tuple(lines), *answer[1:])


def at(*points: str) -> Callable[[Answer], Answer]:
    """The same, of some mount points only."""

    def only(answer: Answer) -> Answer:
        found = mounted(answer)
        assert isinstance(found[0], tuple)
        return (tuple(line for line in found[0] if line[0] in points), *found[1:])

    return only


def alike(answer: Answer) -> Answer:
    return answer


def judge(theirs: Answer, ours: Answer, without: Answer | None) -> None:
    assert ours == theirs
    assert ours != without, "it is the same without the keyword"


def _filled(words: list[str], ground: Ground) -> list[str]:
    places = {"ROOT": ground.root, "FOLDER": ground.folder, "PID": ground.box.pid}
    return [re.sub(r"ROOT|FOLDER|PID", lambda m: str(places[m[0]]), word) for word in words]


def _keywords(options: dict[str, Any], ground: Ground) -> dict[str, Any]:
    return {name: value(ground) if callable(value) else value for name, value in options.items()}


def unshare(
    *words: str,
    probe: str = NAMESPACES,
    view: Callable[[Answer], Answer] = relative,
    base: dict[str, Any] = BARE,
    vain: bool = False,
    **options: Any,
) -> Compare:
    """unshare(1) with these words against run() with these keywords; vain: they are defaults."""

    def compare(ground: Ground) -> None:
        first = [] if {"--user", "--map-root-user"} & set(words) else FIRST
        command = [tool("unshare"), *first, *_filled(list(words), ground), "sh", "-c", probe]
        args = ["sh", "-c", probe]
        given = base | POWERED | _keywords(options, ground)
        left = None if vain else view(outcome(nsdemo.run(args, **base | POWERED, **CAPTURED)))
        judge(view(ran(command)), view(outcome(nsdemo.run(args, **given, **CAPTURED))), left)

    return compare


NOWHERE: dict[str, Any] = dict.fromkeys(
    ("mount", "uts", "ipc", "pid", "net", "cgroup", "time"), False
)


def nsenter(*words: str, probe: str = NAMESPACES, vain: bool = False, **options: Any) -> Compare:
    """nsenter(1) into the box, and into its user namespace first, against enter()."""

    def compare(ground: Ground) -> None:
        command = [tool("nsenter"), "--target", str(ground.box.pid), "--user"]
        command += ["--preserve-credentials", *_filled(list(words), ground), "sh", "-c", probe]
        args = ["sh", "-c", probe]
        bare = NOWHERE | {"root": False, "cwd": "/"}
        ours = nsdemo.enter(ground.box, args, **bare | options, **CAPTURED)
        without = None if vain else outcome(nsdemo.enter(ground.box, args, **bare, **CAPTURED))
        judge(ran(command), outcome(ours), without)

    return compare


def chroot(*words: str, probe: str, **options: Any) -> Compare:
    """chroot(1) against chroot_run()."""

    def compare(ground: Ground) -> None:
        args = ["sh", "-c", probe]
        command = [tool("chroot"), *words, str(ground.root), *args]
        ours = nsdemo.chroot_run(ground.root, args, **options, **CAPTURED)
        without = nsdemo.chroot_run(ground.root, args, **CAPTURED)
        env = {"PATH": "/bin:/sbin:/usr/bin:/usr/sbin"}
        judge(ran(command, env=env), outcome(ours), outcome(without))

    return compare


# bwrap(1) makes a mount namespace; here also a pid and a user namespace, with a root in it.
SANDBOX: dict[str, Any] = {"user": True, "uts": False, "ipc": False}


def bwrap(
    *words: str,
    probe: str = NAMESPACES,
    view: Callable[[Answer], Answer] = relative,
    base: dict[str, Any] = SANDBOX,
    vain: bool = False,
    init: bool = False,
    **options: Any,
) -> Compare:
    """bwrap(1) on the same root against run()."""

    def compare(ground: Ground) -> None:
        user = ["--unshare-user", "--uid", "0", "--gid", "0"] if base is SANDBOX else []
        command = [tool("bwrap"), "--bind", str(ground.root), "/", "--proc", "/proc", *user]
        command += ["--unshare-pid", *([] if init else ["--as-pid-1"])]
        command += [*_filled(list(words), ground), "sh", "-c", probe]
        args = ["sh", "-c", probe]
        own = base | {"root": ground.root}
        given = own | {"init": init} | _keywords(options, ground)
        env = {"PATH": "/bin:/sbin:/usr/bin:/usr/sbin"}
        left = None if vain else view(outcome(nsdemo.run(args, **own, **CAPTURED)))
        judge(
            view(ran(command, env=env)), view(outcome(nsdemo.run(args, **given, **CAPTURED))), left
        )

    return compare
