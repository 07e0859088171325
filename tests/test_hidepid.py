"""Where /proc hides others (hidepid): what runs has not ended, and one's own box is entered."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from checking import python_of
from support import IS_ROOT, QUIET, script

import nsdemo

pytestmark = [
    pytest.mark.usefixtures("ordinary_users_may"),
    pytest.mark.skipif(not IS_ROOT, reason="only root mounts a /proc that hides"),
]

HIDES = ["2", "1", "4"]  # invisible, noaccess, ptraceable: the numbers are known to every kernel


def under(hidepid: str) -> list[str]:
    """A new procfs, seen by the script alone; that of the machine stays as it is."""
    mount = f'mount -t proc -o hidepid={hidepid} proc /proc && exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh"]


def found_under(hidepid: str, body: str, *args: str) -> Any:
    return script(body, *args, ordinary=True, under=under(hidepid)).report


OWN = """
    quiet = {"stdin": nsdemo.DEVNULL}
    found = {}
    for name, how in (("init", {"init": True}), ("plain", {}), ("no pid", {"pid": False})):
        box = nsdemo.spawn(["sleep", "600"], hostname="boxy", **how, **quiet)
        each = found[name] = {}
        each["host"] = box.enter(["hostname"], capture_output=True, text=True, **quiet).stdout
        each["new"] = sorted(name for name in box.namespaces
                             if box.namespaces[name] != nsdemo.namespaces()[name])
        each["names"] = [process.name for process in nsdemo.kernel.processes(box)]
        each["map"] = nsdemo.kernel.id_maps(box).uid[0][0]
        each["pid"] = box.trace[-1].pid == nsdemo.kernel.pid_of(box)
        each["host by join"] = nsdemo.run(["hostname"], uts=box, user=box, mount=False, pid=False,
                                          ipc=False, capture_output=True, text=True).stdout
        each["state"] = box.poll()
        each["said"] = "init" if how.get("init") else repr(box)[:17]
        each["stop"] = box.stop()
    report(**found)
"""


@pytest.mark.parametrize("hidepid", HIDES)
def test_ones_own_are_entered_looked_at_and_stopped(hidepid: str) -> None:
    found = found_under(hidepid, OWN)
    for name, each in found.items():
        assert each["host"] == each["host by join"] == "boxy\n", name
        assert {"mount", "uts", "ipc", "user"} <= set(each["new"]), name
        assert "sleep" in each["names"], name
        assert (each["map"], each["pid"], each["state"]) == (0, True, None), name
    assert found["init"]["stop"] == -signal.SIGTERM
    assert found["plain"]["stop"] == -signal.SIGKILL, "PID 1 has no handler: at once"
    assert found["no pid"]["stop"] == -signal.SIGTERM


OTHERS = """
    found = {}
    pid = int(sys.argv[1])
    box = nsdemo.spawn(["sleep", "600"], init=True, stdin=nsdemo.DEVNULL)
    taken = nsdemo.Container.adopt(box.pid)
    asked = {
        "enter": lambda: nsdemo.enter(pid, ["true"]),
        "namespaces": lambda: nsdemo.namespaces(pid),
        "processes": lambda: nsdemo.kernel.processes(pid),
        "mounts": lambda: nsdemo.kernel.mounts(pid),
        "id_maps": lambda: nsdemo.kernel.id_maps(pid),
        "power": lambda: nsdemo.kernel.power(pid),
        "root": lambda: nsdemo.kernel.root(pid),
        "keepers": lambda: nsdemo.kernel.keepers(pid, "uts"),
        "spawn": lambda: nsdemo.spawn(["true"], join=pid),
        "adopted": lambda: taken.enter(["true"]),
        "own init": lambda: nsdemo.namespaces(box.pid),
    }
    for name, ask in asked.items():
        try:
            found[name] = [str(ask())]
        except OSError as error:
            notes = getattr(error, "__notes__", [""])
            found[name] = [type(error).__name__, str(error), *notes]
    found["states"] = [box.poll(), taken.poll()]
    box.stop()
    gone = box.pid
    try:
        nsdemo.namespaces(gone)
    except OSError as error:
        found["gone"] = [type(error).__name__, str(error)]
    report(**found)
"""


@pytest.mark.parametrize("hidepid", ["2", "4"])
def test_who_is_hidden_has_not_ended(hidepid: str) -> None:
    with nsdemo.spawn(["sleep", "600"], pid=False, **QUIET) as box:
        found = found_under(hidepid, OTHERS, str(box.pid))
    assert found.pop("states") == [None, None]
    kind, text = found.pop("gone")
    assert (kind, "it has ended, or never was" in text) == ("ProcessLookupError", True)
    for name, said in found.items():
        assert said[0] == "PermissionError", (name, said)
        assert "runs, but /proc does not show it" in said[1], (name, said)
        assert "hidepid=" in said[2], (name, said)


def test_a_challenge_looks_at_a_box_that_is_hidden() -> None:
    body = f"""\
        from nsdemo.check import reports

        sys.executable = {python_of(True)!r}
        reports._PATIENCE = 50  # on a busy machine Python's start alone may take seconds
        with nsdemo.spawn(["sleep", "600"], init=True, stdin=nsdemo.DEVNULL) as box:
            found = reports.look(box)
            own = box.namespaces
        assert "namespaces" in found, found
        report(same=[found["namespaces"][name] == list(own[name]) for name in ("uts", "pid")])
    """
    assert found_under("2", body) == {"same": [True, True]}


def test_a_command_with_a_handler_is_asked_first() -> None:
    body = """\
        command = ["sh", "-c", "trap 'exit 5' TERM; echo; while :; do sleep 0.02; done"]
        box = nsdemo.spawn(command, stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE)
        box.stdout.readline()
        report(status=box.stop())
    """
    assert found_under("2", body) == {"status": 5}
