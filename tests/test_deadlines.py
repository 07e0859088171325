"""Every wait of a launch ends: by timeout=, or by a signal handler that raises.

The peers here never answer (deaf.py).
"""

from __future__ import annotations

import os
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pytest
from support import IS_ROOT, SLOW, script
from targets import tool

if TYPE_CHECKING:
    from pathlib import Path

ENDED = 30 * SLOW  # who waits is never answered, but by a lease's holder: after 45 s

# Wherever a path of the set-up can be; k is timeout=, or nothing.
RUNS = """
{
"command": lambda at: lambda **k: nsdemo.run([f"{at}/x"], **k),
"PATH": lambda at: lambda **k: nsdemo.run(["x"], env={"PATH": at}, **k),
"cwd": lambda at: lambda **k: nsdemo.run(["true"], cwd=f"{at}/x", **k),
"cwd, init": lambda at: lambda **k: nsdemo.run(["true"], cwd=f"{at}/x", init=True, **k),
"root": lambda at: lambda **k: nsdemo.run(["true"], root=f"{at}/x", **k),
"root, user": lambda at: lambda **k: nsdemo.run(["true"], root=f"{at}/x", user=True, **k),
"tty": lambda at: lambda **k: nsdemo.run(
    ["true"], root=f"{at}/x", tty=True, capture_output=True, **k),
"chroot_run": lambda at: lambda **k: nsdemo.chroot_run(f"{at}/x", ["true"], **k),
"bind": lambda at: lambda **k: nsdemo.run(
    ["true"], mounts=[nsdemo.Bind(f"{at}/x", "/mnt")], **k),
"overlay": lambda at: lambda **k: nsdemo.run(
    ["true"], mounts=[nsdemo.Overlay("/mnt", [f"{at}/x"])], **k),
"landlock": lambda at: lambda **k: nsdemo.run(
    ["true"], landlock=nsdemo.Landlock(read=[f"{at}/x"]), **k),
"persist": lambda at: lambda **k: nsdemo.run(
    ["true"], uts=True, persist={"uts": f"{at}/x"}, **k),
"the command's own": lambda at: lambda **k: nsdemo.run(["cat", f"{at}/x"], **k),
"namespace": lambda at: lambda **k: nsdemo.run(["true"], uts=f"{at}/x", **k),
"enter": lambda at: partial(nsdemo.spawn(["sleep", "600"]).enter, ["true"], cwd=f"{at}/x"),
}"""
STARTS = """
{
"spawn": lambda at: lambda: nsdemo.spawn(["true"], cwd=f"{at}/x"),
"root": lambda at: lambda: nsdemo.spawn(["true"], root=f"{at}/x"),
"init": lambda at: lambda: nsdemo.spawn(["true"], cwd=f"{at}/x", init=True),
"overlay": lambda at: lambda: nsdemo.spawn(["true"], root=f"{at}/x", overlay=True),
"release": lambda at: lambda: nsdemo.release(f"{at}/x"),
"plan": lambda at: nsdemo.Plan().chdir(f"{at}/x").exec(["true"]).start,
}"""


def ended_well(outcomes: dict[str, Any], kind: str) -> None:
    for name, found in outcomes.items():
        assert isinstance(found, dict), f"{name}: {found}"
        assert found["error"], (name, found)
        assert found["error"]["type"][0] == kind, (name, found)
        assert found["seconds"] < ENDED, (name, found)
        # Nothing but what the kernel keeps, and that is named.
        assert found["children"] == found["unended"], (name, found)
        for pid in found["unended"]:
            note = f"process {pid} was killed, but has not ended yet"
            assert note in "\n".join(found["error"]["notes"]), (name, found)
        assert found["reaped"], (name, found)
        assert found["left"] == [], (name, found)


def needs_fuse() -> None:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("only root opens /dev/fuse here")


def outcomes(
    cases: str, peer: str, *, ordinary: bool, by_signal: bool, first: str = ""
) -> dict[str, Any]:
    if peer in ("deaf", "asleep"):
        needs_fuse()
    if peer == "automount" and not IS_ROOT:
        pytest.skip("only root mounts an automount")
    if ordinary and not IS_ROOT:
        pytest.skip("only root becomes another user")
    body = f"""
        import deaf, shutil
        from functools import partial
        {textwrap.indent(first, " " * 8).strip()}
        cases = {textwrap.indent(cases, " " * 8).strip()}
        if {ordinary}:
            cases.pop("persist", None)  # only root pins
        report(**deaf.outcomes(cases, {peer!r}, ordinary={ordinary}, by_signal={by_signal}))
    """
    found: dict[str, Any] = script(body, timeout=120).report
    return found


USERS = pytest.mark.parametrize("ordinary", [False, True], ids=["caller", "ordinary"])


@USERS
@pytest.mark.parametrize("peer", ["deaf", "asleep", "automount"])
def test_timeout_covers_the_set_up(peer: str, ordinary: bool) -> None:
    found = outcomes(RUNS, peer, ordinary=ordinary, by_signal=False)
    ended_well(found, "TimeoutExpired")


@USERS
@pytest.mark.parametrize("peer", ["deaf", "automount"])
@pytest.mark.parametrize("cases", [RUNS, STARTS], ids=["run", "spawn"])
def test_a_signal_handler_that_raises_ends_the_set_up(
    cases: str, peer: str, ordinary: bool
) -> None:
    found = outcomes(cases, peer, ordinary=ordinary, by_signal=True)
    ended_well(found, "Stop")


FIFO = """
def fifo(place):
    os.mkfifo(f"{place}/x")
    return lambda: None
deaf.PEERS["fifo"] = fifo
"""


def test_a_fifo_keeps_nobody_waiting() -> None:
    found = outcomes(RUNS, "fifo", ordinary=False, by_signal=False, first=FIFO)
    for name, one in found.items():
        if name != "the command's own":
            assert not one["error"] or one["error"]["type"][0] != "TimeoutExpired", (name, one)
            assert one["seconds"] < ENDED
        assert one["left"] == [], (name, one)


LEASES = """
{
"run": lambda at: lambda **k: nsdemo.run(["./x"], cwd=at, **k),
"root": lambda at: lambda **k: nsdemo.run(["/x"], root=at, mount_proc=False, **k),
"limits": lambda at: lambda **k: nsdemo.run(
    ["/x"], root=at, mount_proc=False, rlimits={"nofile": 100}, **k),
"init": lambda at: lambda **k: nsdemo.run(["/x"], root=at, mount_proc=False, init=True, **k),
"chroot_run": lambda at: lambda **k: nsdemo.chroot_run(at, ["/x"], **k),
"enter": lambda at: partial(nsdemo.spawn(["sleep", "600"]).enter, [f"{at}/x"]),
}"""
LEASED = """
def lease(place):
    shutil.copy("/bin/busybox", f"{place}/x")
    os.chmod(f"{place}/x", 0o755)
    os.chmod(place, 0o755)
    return deaf.lease(f"{place}/x")
deaf.PEERS["lease"] = lease
"""


@pytest.mark.parametrize("by_signal", [False, True], ids=["timeout", "signal"])
@USERS
def test_a_lease_in_the_root(ordinary: bool, by_signal: bool) -> None:
    """The kernel asks its holder to give it back, and waits for 45 s."""
    found = outcomes(LEASES, "lease", ordinary=ordinary, by_signal=by_signal, first=LEASED)
    ended_well(found, "Stop" if by_signal else "TimeoutExpired")


def test_a_joiner_that_is_stopped_from_inside(rootfs: Path) -> None:
    """A container of our own uid may stop who comes in, as soon as it can be seen there."""
    found = script(
        """
        loop = "while :; do for p in /proc/[0-9]*; do p=${p#/proc/}; "
        loop += "[ $p = 1 ] || kill -STOP $p; done; done 2>/dev/null"
        box = nsdemo.spawn(["sh", "-c", loop], root=sys.argv[1], mount_proc=True)
        before, ends, longest = snapshot(), set(), 0
        for number in range(8):
            start = time.monotonic()
            try:
                box.enter(["true"], timeout=0.3)
                ends.add("returned")
            except subprocess.TimeoutExpired:
                ends.add("over")
            longest = max(longest, time.monotonic() - start)
        left = leftovers(before)
        box.kill()
        box.wait()
        report(ends=sorted(ends), longest=longest, left=left)
        """,
        str(rootfs),
    ).report
    assert "over" in found["ends"]
    assert found["longest"] < ENDED
    assert found["left"] == []


KILLED = """
    import deaf, shutil
    place = tempfile.mkdtemp(prefix="deaf-", dir="/tmp")
    shutil.copy("/bin/busybox", f"{place}/sleep")
    nsdemo.run(["true"])
    mine, others = os.getpid(), children()
    end = deaf.lease(f"{place}/sleep")
    holder, = children() - others
    late = int(sys.argv[1])

    def ours():
        found = set()
        for thread in os.listdir(f"/proc/{mine}/task"):
            found.update(map(int, Path(f"/proc/{mine}/task/{thread}/children").read_text().split()))
        return found

    def first_that_has_forked():
        new = ours() - others - {holder, os.getpid()}
        for pid in new:
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                if "nsdemo" in status and len(new) == 2:
                    if len(status.split("NSpid:")[1].splitlines()[0].split()) == 1:
                        return pid

    def executed():
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{name}/exe") == f"{place}/sleep":
                    return True

    # Late: Python sleeps meanwhile, and looks when the command has long been executed.
    if (killer := os.fork()) == 0:
        try:
            first = eventually(first_that_has_forked)
            if late:
                os.kill(mine, signal.SIGSTOP)
            os.kill(first, signal.SIGKILL)
            if late:
                os.kill(holder, signal.SIGKILL)
                eventually(executed)
                time.sleep(0.1)
        finally:
            os.kill(mine, signal.SIGCONT)
            os._exit(0)
    before = snapshot()
    try:
        box = nsdemo.spawn([f"{place}/sleep", "600"], %s)
    except OSError as error:
        found = facts_of(error)
    else:
        found = {"type": [], "text": f"a success: {box}"}
        box.kill()
        box.wait()
    end()
    os.waitpid(killer, 0)
    before["children"] &= children()
    now = descriptors()
    before["descriptors"] = {fd: of for fd, of in before["descriptors"].items() if fd in now}
    del before["shared memory"]
    shutil.rmtree(place)
    report(error=found, left=leftovers(before))
"""


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
@pytest.mark.parametrize("options", ["time=True", "init=True", "time=True, die_with_parent=False"])
def test_a_launch_whose_first_process_was_killed_is_no_success(options: str, late: bool) -> None:
    """The watchdog to be, and who tells that the command could not be executed."""
    found = script(KILLED % options, str(int(late))).report
    assert "NamespaceError" in found["error"]["type"], found
    assert "killed" in found["error"]["text"]
    assert found["left"] == []


def test_the_start_of_the_guard_is_covered() -> None:
    """It is started with the first command, and somebody may keep it from that."""
    delay = "inject=setsid:delay_enter=6000000"  # the first thing that it does
    found = script(
        """
        before = snapshot()
        del before["shared memory"]
        error, start = None, time.monotonic()
        try:
            nsdemo.run(["true"], timeout=0.6)
        except subprocess.TimeoutExpired as over:
            error = facts_of(over)
        report(error=error, seconds=time.monotonic() - start, left=leftovers(before))
        """,
        under=[tool("strace"), "-f", "-qq", "-o", "/dev/null", "-e", "trace=setsid", "-e", delay],
    ).report
    assert found["error"], found
    assert 0.6 <= found["seconds"] < 5
    assert found["left"] == []


@pytest.mark.skipif(not IS_ROOT, reason="only root gives a program to root")
@pytest.mark.parametrize("stopped", [False, True], ids=["waits", "is stopped"])
def test_a_program_that_maps_ids_and_hangs_is_ended(stopped: bool) -> None:
    """A set-user-ID program does not end with the helper that has started it; the helper may have
    been stopped."""
    found = script(
        """
        import shutil
        import nsdemo._request.id_maps
        place = tempfile.mkdtemp(prefix="deaf-", dir="/tmp")
        os.chmod(place, 0o755)
        shutil.copy("/bin/busybox", f"{place}/sleep")
        os.chmod(f"{place}/sleep", 0o4755)
        become_ordinary()
        nsdemo._request.id_maps._program = lambda name: f"{place}/sleep".encode()
        before = snapshot()
        del before["shared memory"]

        def running():
            found = []
            for name in filter(str.isdigit, os.listdir("/proc")):
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{name}/cmdline").read_bytes().startswith(place.encode()):
                        found.append(int(name))
            return found

        def stop():
            program = eventually(running)[0]
            parent = int(Path(f"/proc/{program}/stat").read_text().rpartition(") ")[2].split()[1])
            os.kill(parent, signal.SIGSTOP)

        thread = threading.Thread(target=stop)
        if int(sys.argv[1]):
            thread.start()
        error = None
        try:
            nsdemo.run(["true"], uid_map=[(0, 7, 1)], timeout=0.6)
        except subprocess.TimeoutExpired as over:
            error = facts_of(over)
        if int(sys.argv[1]):
            thread.join()
        report(error=error, gone=eventually(lambda: not running()), left=leftovers(before))
        """,
        str(int(stopped)),
    ).report
    assert found["error"], found
    assert "map" in found["error"]["notes"][0]
    assert found["gone"]
    assert found["left"] == []


def test_the_end_of_python_waits_for_nobody() -> None:
    """Of those that were killed and do not end, one is a container that was forgotten."""
    needs_fuse()
    start = time.monotonic()
    done = script(
        """
        import deaf
        place = tempfile.mkdtemp(prefix="deaf-", dir="/tmp")
        deaf.mounts_of_our_own()
        end = deaf.fuse(place)
        warnings.simplefilter("ignore")
        with contextlib.suppress(subprocess.TimeoutExpired):
            nsdemo.run(["true"], cwd=f"{place}/x", timeout=0.2)
        box = nsdemo.spawn(["cat", f"{place}/x"])
        report(unended=len(nsdemo._core.unended()))
        """,
        timeout=20,
    )
    assert done.report == {"unended": 1}
    assert time.monotonic() - start < ENDED
