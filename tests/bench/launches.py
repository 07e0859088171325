"""What can be launched: nsdemo's three calls, and the ways there were before.

A launch is a function without arguments that starts /bin/true and waits for its end. It raises
Refused when that did not work.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable

import by_hand
from channel import Refused
from place import Place

Launch = Callable[[], None]

NSDEMO = ("nsdemo.spawn", "nsdemo.enter", "nsdemo.chroot_run")


def table(place: Place) -> dict[str, Launch]:
    """Every launch by name."""
    launches: dict[str, Launch] = {
        name: functools.partial(run_command, args) for name, args in commands(place).items()
    }
    launches["os.fork"] = functools.partial(run_by_hand, place)
    launches.update(nsdemo_calls(place))
    launches["nsdemo sandbox"] = functools.partial(run_sandbox, place)
    return launches


def nsdemo_calls(place: Place) -> dict[str, Launch]:
    """The three calls with their default options."""
    import nsdemo  # not before `place` has said where it may be

    root, target = place.root, place.target
    return {
        "nsdemo.spawn": lambda: check(nsdemo.spawn(["true"], root=root).wait()),
        "nsdemo.enter": lambda: check(nsdemo.enter(target, ["true"]).returncode),
        "nsdemo.chroot_run": lambda: check(nsdemo.chroot_run(root, ["true"]).returncode),
    }


def commands(place: Place) -> dict[str, list[str]]:
    """The command lines, by the name of the row they fill."""
    root = place.root
    unique = f"bench-{os.getpid()}"
    unshare = ["unshare", "--map-root-user"] if place.user else ["unshare"]
    nsenter = ["nsenter", "--target", str(place.target)]
    if place.user:
        nsenter += ["--user", "--preserve-credentials"]
    chroot = [*unshare, "--root"] if place.user else ["chroot"]
    crun = ["crun", "--root", place.state, "--cgroup-manager=disabled"]
    runc = ["runc", "--root", place.state]
    return {
        "bare": [f"{root}/bin/true"],
        "unshare": [
            *(*unshare, "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc"),
            *("--root", root, "true"),
        ],
        "nsenter": [*nsenter, "--uts", "--mount", "--ipc", "--net", "--pid", "true"],
        "chroot": [*chroot, root, "true"],
        "bwrap": [
            *("bwrap", "--unshare-uts", "--unshare-ipc", "--unshare-pid"),
            *("--bind", root, "/", "--proc", "/proc", "true"),
        ],
        "bwrap sandbox": [
            *("bwrap", "--unshare-user", "--unshare-uts", "--unshare-ipc", "--unshare-pid"),
            *("--bind", root, "/", "--proc", "/proc", "--dev", "/dev"),
            *("--cap-drop", "ALL", "--new-session", "true"),
        ],
        "crun": [*crun, "run", "--bundle", place.bundle, unique],
        "runc": [*runc, "run", "--bundle", place.bundle, unique],
        "docker run": ["docker", "run", "--rm", "--network", "none", place.image, "true"],
        "docker exec": ["docker", "exec", place.container, "true"],
    }


def run_command(args: list[str]) -> None:
    try:
        status = subprocess.run(args).returncode
    except FileNotFoundError:
        raise Refused(f"{args[0]} is not installed") from None
    if status:
        raise Refused(reason_of(args))


def reason_of(args: list[str]) -> str:
    """Run what failed once more and return the last line of its complaint."""
    again = subprocess.run(args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    lines = again.stderr.strip().splitlines()
    return lines[-1] if lines else f"{args[0]} ended with status {again.returncode}"


def run_by_hand(place: Place) -> None:
    check(by_hand.launch(place.root, place.user))


def run_sandbox(place: Place) -> None:
    """What bwrap's sandbox has, and the layers and the terminal that it has not."""
    import nsdemo
    from nsdemo.mounts import Dev

    done = nsdemo.run(
        ["true"],
        root=place.root,
        user=True,
        overlay=True,
        mounts=[Dev("/dev")],
        capabilities=(),
        tty=True,
        capture_output=True,
    )
    check(done.returncode)


def check(returncode: int | None) -> None:
    if returncode != 0:
        raise Refused(f"the command ended with status {returncode}")
