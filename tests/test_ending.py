"""How containers end: by themselves, by stop and kill, by time-outs, by Ctrl-C, with Python."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support import (
    IS_ROOT,
    QUIET,
    SLOW,
    command_of,
    eventually,
    new_marker,
    processes_with,
    running_script,
    script,
)

import nsdemo

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

HANDLER = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done"


@pytest.fixture
def marker() -> Any:
    """An argument for sleep; no process that has it may outlive the test."""
    value = new_marker()
    yield value
    assert eventually(lambda: processes_with(value) == []), "a process lives on"


def ready(command: str, **options: Any) -> nsdemo.Container[Any]:
    """A shell that has said "ready"."""
    box = nsdemo.spawn(["sh", "-c", command], **QUIET, stdout=nsdemo.PIPE, **options)
    assert box.stdout.readline() == b"ready\n"
    box.stdout.close()
    return box  # type: ignore[no-any-return]


# -- stop, terminate, kill -----------------------------------------------------------------------


@pytest.mark.parametrize("init", [False, True], ids=["plain", "init"])
def test_stop_is_noticed(init: bool) -> None:
    assert ready(HANDLER, init=init).stop() == 3


def test_stop_of_a_pid_1_that_would_not_notice() -> None:
    """No handler: the kernel drops the signal, so ten seconds of waiting would be for nothing."""
    box = nsdemo.spawn(["sleep", "1000"], **QUIET)
    began = time.monotonic()
    assert box.stop() == -signal.SIGKILL
    assert time.monotonic() - began < 10


def test_stop_of_a_command_that_refuses() -> None:
    box = ready(
        "trap '' TERM; trap 'echo' USR1; echo ready; while :; do sleep 0.01; done", init=True
    )
    began = time.monotonic()
    assert box.stop(timeout=0.2) == -signal.SIGKILL
    assert 0.2 <= time.monotonic() - began < 10


def test_stop_without_a_pid_namespace(marker: str) -> None:
    """SIGTERM works; the process group goes with the command when it is killed."""
    box = nsdemo.spawn(["sleep", marker], pid=False, **QUIET)
    assert box.stop() == -signal.SIGTERM
    stubborn = ready(f"trap '' TERM; sleep {marker} & echo ready; wait; sleep 1000", pid=False)
    assert stubborn.stop(timeout=0.1) == -signal.SIGKILL


def test_init_forwards_terminate() -> None:
    """Under init the command is no PID 1, so SIGTERM ends it without a handler."""
    box = nsdemo.spawn(["sleep", "1000"], init=True, **QUIET)
    box.terminate()
    assert box.wait(timeout=5) == -signal.SIGTERM


def test_terminate_is_dropped_by_a_pid_1() -> None:
    with nsdemo.spawn(["sleep", "1000"], **QUIET) as box:
        box.terminate()
        with pytest.raises(nsdemo.TimeoutExpired):
            box.wait(timeout=0.1)
        box.kill()
        assert box.wait() == -signal.SIGKILL
        box.kill()  # of what has ended: nothing happens
        box.send_signal(signal.SIGTERM)
    assert box.stop() == -signal.SIGKILL


def test_leaving_the_context_ends_a_tree(marker: str) -> None:
    tree = f"sh -c 'sleep {marker} & setsid sleep {marker} & sleep {marker}' & sleep {marker}"
    with nsdemo.spawn(["sh", "-c", tree], **QUIET) as box:
        assert eventually(lambda: len(processes_with(marker)) >= 4)
    assert box.returncode == -signal.SIGKILL


def test_leaving_the_context_by_an_exception(marker: str) -> None:
    with pytest.raises(ZeroDivisionError), nsdemo.spawn(["sleep", marker], **QUIET):
        raise ZeroDivisionError


@pytest.mark.parametrize("options", [{}, {"init": True}, {"pid": False}])
def test_dropped(options: dict[str, Any], marker: str) -> None:
    boxes = [nsdemo.spawn(["sleep", marker], **options, **QUIET)]
    with pytest.warns(ResourceWarning, match=f"{boxes[0].pid} is still running"):
        boxes.clear()
    assert processes_with(marker) == []


def test_dropped_after_its_end_without_a_warning() -> None:
    waited, ended = (nsdemo.spawn(["true"], **QUIET) for _ in range(2))
    assert waited.wait() == 0
    time.sleep(0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del waited, ended
        gc.collect()


@pytest.mark.parametrize("options", [{}, {"init": True}, {"pid": False}])
def test_timeout_ends_a_tree(options: dict[str, Any], marker: str) -> None:
    tree = f"sleep {marker} & (sleep {marker} & echo out; sleep {marker}) & sleep {marker}"
    with pytest.raises(nsdemo.TimeoutExpired) as caught:
        nsdemo.run(["sh", "-c", tree], timeout=0.3 * SLOW, capture_output=True, **options, **QUIET)
    assert caught.value.output == b"out\n"
    assert caught.value.timeout == 0.3 * SLOW
    assert eventually(lambda: processes_with(marker) == [], seconds=1)


def test_timeout_within_a_character() -> None:
    """Half a character is no reason for another exception; as in subprocess the output is bytes."""
    command = ["sh", "-c", r"printf '\303'; sleep 1000"]
    with pytest.raises(nsdemo.TimeoutExpired) as caught:
        nsdemo.run(command, timeout=0.3, stdout=nsdemo.PIPE, text=True, encoding="utf-8", **QUIET)
    assert caught.value.output in (b"\xc3", None)


def test_communicate_again_after_a_timeout() -> None:
    command = ["sh", "-c", "echo one; read line; echo $line; echo err >&2"]
    with nsdemo.spawn(
        command, stdin=nsdemo.PIPE, stdout=nsdemo.PIPE, stderr=nsdemo.PIPE, text=True
    ) as box:
        with pytest.raises(nsdemo.TimeoutExpired):
            box.wait(timeout=0.1)
        assert box.communicate("two\n") == ("one\ntwo\n", "err\n")
    with nsdemo.spawn(["sh", "-c", "echo a; sleep 0.4; echo b"], stdout=-1, **QUIET) as box:
        with pytest.raises(nsdemo.TimeoutExpired):
            box.communicate(timeout=0.1)
        assert box.communicate()[0] == b"a\nb\n"


# -- init ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", [False, True], ids=["plain", "init"])
def test_status(init: bool) -> None:
    for status in (0, 1, 2, 64, 126, 127, 128, 129, 137, 143, 254, 255):
        done = nsdemo.run(["sh", "-c", f"exit {status}"], init=init, **QUIET)
        assert done.returncode == status


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 11, 14, 15, 34, 64])
@pytest.mark.parametrize("options", [{"init": True}, {"pid": False}])
def test_killed_by_a_signal(number: int, options: dict[str, Any]) -> None:
    box = nsdemo.spawn(
        ["sh", "-c", f"ulimit -c 0; kill -{number} $$; sleep 10"], **options, **QUIET
    )
    assert box.wait() == -number


def test_init_forwards_signals() -> None:
    names = ("HUP", "INT", "QUIT", "USR1", "USR2", "TERM")
    traps = "".join(f"trap 'echo {name}' {name}; " for name in names)
    command = traps + "echo ready; while :; do sleep 0.01; done"
    with nsdemo.spawn(["sh", "-c", command], init=True, stdout=nsdemo.PIPE, **QUIET) as box:
        assert box.stdout.readline() == b"ready\n"
        for name in names:
            box.send_signal(signal.Signals[f"SIG{name}"])
            assert box.stdout.readline() == f"{name}\n".encode()
        box.kill()


def test_init_reaps_orphans() -> None:
    """Fifty processes whose parents have gone; none stays a zombie."""
    command = """
        i=0; while [ $i -lt 50 ]; do (sleep 0.05 & ) ; i=$((i+1)); done
        sleep 0.5; cat /proc/[0-9]*/stat | grep -c ' Z '; exit 0
    """
    done = nsdemo.run(["sh", "-c", command], init=True, capture_output=True, **QUIET)
    assert (done.stdout, done.returncode) == (b"0\n", 0)


# -- Ctrl-C --------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["run", "communicate", "wait", "chroot_run"])
def test_interrupt(call: str, marker: str) -> None:
    body = """
        signal.signal(signal.SIGINT, signal.default_int_handler)
        command = ["sh", "-c", f"sleep {sys.argv[2]} & sleep {sys.argv[2]}"]
        before = snapshot()
        try:
            match sys.argv[1]:
                case "run":
                    nsdemo.run(command, capture_output=True)
                case "chroot_run":
                    nsdemo.chroot_run("/", command)
                case name:
                    with nsdemo.spawn(command, stdout=nsdemo.PIPE) as box:
                        getattr(box, name)()
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("nothing was raised")
        sys.exc_info(); box = None
        report(left=leftovers(before))
    """
    with running_script(body, call, marker) as process:
        assert eventually(lambda: len(processes_with(marker)) >= 2), "it did not begin"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=10 * SLOW)
    assert process.returncode == 0, errors
    assert '"left": []' in output


@pytest.mark.parametrize("wait", ["box.wait()", "box.communicate()"])
def test_a_signal_that_wakes_nobody_is_answered(wait: str) -> None:
    """It came just before we slept, or another thread was given it: here it is made the other's."""
    body = f"""
        def handler(number, frame):
            raise InterruptedError("by the handler")
        signal.signal(signal.SIGUSR1, handler)
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        with nsdemo.spawn(["sleep", "60"], stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE) as box:
            subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -USR1 {{os.getpid()}}"])
            begun = time.monotonic()
            try:
                {wait}
                report(raised=False)
            except InterruptedError:
                report(raised=True, seconds=time.monotonic() - begun)
        os.wait()
    """
    found = script(body).report
    assert found["raised"]
    assert found["seconds"] < 30


def test_what_a_handler_raises_is_raised_as_it_is() -> None:
    """An OSError of its own is not taken for one of the launch, wherever it comes in."""
    body = """
        def handler(number, frame):
            raise OSError(errno.EDOM, "by the handler")

        signal.signal(signal.SIGALRM, handler)
        warnings.simplefilter("ignore", ResourceWarning)  # it comes in before box is bound
        found = []
        for delay in range(100):
            try:
                signal.setitimer(signal.ITIMER_REAL, 5e-5 * (delay + 1))
                box = nsdemo.spawn(["true"], init=True, stdin=nsdemo.DEVNULL)
                time.sleep(0.02 * SLOW)
            except OSError as error:
                found.append([*error.args, hasattr(error, "step")])
            box = None
        report(found=found)
    """
    assert script(body).report["found"] == [[errno.EDOM, "by the handler", False]] * 100


def test_a_handler_that_raises_nothing_does_not_end_the_wait() -> None:
    """PEP 475: the handler runs, the wait goes on."""
    seen = []
    old = signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        done = nsdemo.run(["sleep", "0.4"], capture_output=True, **QUIET)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert done.returncode == 0
    assert len(seen) >= 3


# -- with the parent -----------------------------------------------------------------------------

ORPHANAGE = """
    import random
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # all that Python leaves becomes ours
    marker, rounds = sys.argv[1], int(sys.argv[2])
    def forms():
        yield lambda: nsdemo.spawn(["sleep", marker], stdin=-3)
        yield lambda: nsdemo.spawn(["sh", "-c", f"sleep {marker} & sleep {marker}"], init=True)
        yield lambda: nsdemo.spawn(["sh", "-c", f"sleep {marker} & sleep {marker}"], pid=False)
        yield lambda: nsdemo.chroot_run("/", ["sleep", marker])
    survivors, seen = 0, 0
    for number in range(rounds):
        child = os.fork()
        if child == 0:
            boxes = []
            start = list(forms())[number % 4]
            while True:
                boxes.append(start())
        time.sleep(random.random() * 0.025 * SLOW)
        seen += bool(processes_with(marker)) if number % 10 == 0 else 0
        os.kill(child, signal.SIGKILL)
        end = time.monotonic() + 5 * SLOW
        while children():
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if time.monotonic() > end:
                survivors += 1
                for pid in children():
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)
    report(survivors=survivors, seen=seen, living=processes_with(marker))
"""


def die_with_parent(rounds: int, marker: str) -> None:
    found = script(ORPHANAGE, marker, str(rounds), timeout=600).report
    assert found["survivors"] == 0
    assert found["living"] == []
    assert found["seen"] > 0, "no container was ever seen: the test proves nothing"


def test_python_is_killed_at_any_moment() -> None:
    die_with_parent(200, new_marker())


@pytest.mark.long
def test_python_is_killed_at_any_moment_many_times() -> None:
    die_with_parent(5000, new_marker())


def test_the_spawning_thread_ends(marker: str) -> None:
    """PR_SET_PDEATHSIG would kill here: it fires when a mere thread ends."""
    with ThreadPoolExecutor(1) as pool:
        box = pool.submit(nsdemo.spawn, ["sleep", marker], **QUIET).result()
    plan = nsdemo.chroot_run("/", ["sleep", marker], dry_run=True)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(plan.start, **QUIET).result()
    with box, other:
        time.sleep(0.1)
        assert (box.poll(), other.poll()) == (None, None)


@pytest.mark.parametrize("call", ["chroot_run", "enter"])
def test_a_started_plan_ends_with_python_if_it_is_asked_to(call: str) -> None:
    """Python is killed; the watchdog ends the command and what it started."""
    inner, outer = new_marker(), new_marker()
    code = """
        inner, outer, call = sys.argv[1:]
        args = ["sh", "-c", f"sleep {inner} & exec sleep {inner}"]
        box = nsdemo.spawn(["sleep", outer], **QUIET)
        if call == "enter":
            plan = nsdemo.enter(box, args, dry_run=True, **QUIET)
        else:
            plan = nsdemo.chroot_run("/", args, dry_run=True, **QUIET)
        other = plan.start(die_with_parent=True)
        print("started", flush=True)
        time.sleep(60)
    """
    with running_script(code, inner, outer, call) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        assert eventually(lambda: len(processes_with(inner)) == 2)
        process.kill()
        process.wait()
        assert eventually(lambda: not processes_with(inner))
        assert eventually(lambda: not processes_with(outer))


def with_other(root: Any) -> None:
    """Folders of the root that get a sleep of another user's, which anybody runs as him."""
    other, linked, script = (Path(root, name) for name in ("other", "link", "script"))
    for folder in (other, linked, script):
        folder.mkdir()
    program = other / "sleep"
    shutil.copyfile(shutil.which("busybox") or "", program)
    os.chown(program, 1234, 1234)
    program.chmod(0o4755)
    (linked / "sleep").symlink_to("/other/sleep")  # as seen inside
    shell = other / "sh"
    shutil.copyfile(program, shell)
    os.chown(shell, 1234, 1234)
    shell.chmod(0o4755)
    (script / "sleep").write_text('#!/other/sh\nPATH=/bin; exec sleep "$1"\n')
    (script / "sleep").chmod(0o755)


@pytest.mark.parametrize("how", ["other", "link", "script"])
@pytest.mark.parametrize("call", ["chroot_run", "limits", "enter", "enter without root", "no fork"])
@pytest.mark.skipif(not IS_ROOT, reason="only root has programs that are set to another user")
def test_python_is_killed_while_a_setuid_program_runs(call: str, how: str, marker: str) -> None:
    """The kernel's own signal is forgotten by who executes a program that is another user's."""
    code = """
        root, call, name, marker, box = sys.argv[1:]
        args, env = ["sleep", marker], {"PATH": f"/{name}:/bin"}
        sys.stdin.readline()
        if call == "chroot_run":
            nsdemo.chroot_run(root, args, env=env, **QUIET)
        if call == "limits":
            nsdemo.chroot_run(root, args, env=env, rlimits={"core": 0}, uid=0, **QUIET)
        if call == "no fork":
            nsdemo.enter(int(box), args, env=env, pid=False, **QUIET)
        nsdemo.enter(int(box), args, env=env, root=call == "enter", **QUIET)
    """
    with (
        nsdemo.Rootfs.busybox() as root,
        nsdemo.spawn(["sleep", "60"], root=root, **QUIET) as box,
        running_script(code, os.fspath(root), call, how, marker, str(box.pid)) as process,
    ):
        with_other(root)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert eventually(lambda: len(processes_with(marker)) == 1)
        process.kill()
        process.wait()
        assert eventually(lambda: not processes_with(marker))


@pytest.mark.parametrize("call", ["chroot_run", "enter", "enter our own"])
def test_a_watchdog_is_for_setuid_programs_alone(tmp_path: Path, call: str) -> None:
    """Looked for in a pid namespace of our own, where all watchdogs are ours.

    Python is PID 1 there, and needs no guard: the kernel ends all others with it.
    """
    program = tmp_path / "sleep"
    shutil.copyfile(shutil.which("sleep") or "", program)
    code = """
        call, program = sys.argv[1:]
        box = nsdemo.spawn(["sleep", "60"], die_with_parent=False, **QUIET)

        def watchdogs():
            names = []
            for pid in filter(str.isdigit, os.listdir("/proc")):
                with open(f"/proc/{pid}/comm") as file:
                    names.append(file.read().strip())
            return names.count("nsdemo-watch")

        def runs():
            if call == "chroot_run":
                nsdemo.chroot_run("/", [program, "0.5"], **QUIET)
            else:
                pid = box.pid if call == "enter" else os.getpid()
                nsdemo.enter(pid, [program, "0.5"], **QUIET)

        found = []
        for mode in (0o755, 0o4755, 0o2755):
            os.chmod(program, mode)
            thread = threading.Thread(target=runs)
            thread.start()
            time.sleep(0.25)
            found.append(watchdogs())
            thread.join()
        box.kill()
        box.wait()
        report(found=found)
    """
    command = [*command_of(code), call, str(program)]
    done = nsdemo.run(command, capture_output=True, text=True)
    assert done.stderr == ""
    found = [0, 1, 1] if call == "enter" else [0, 0, 0]
    assert json.loads(done.stdout) == {"found": found}


GUARDS = """
    how, marker = sys.argv[1:]

    def guards():
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
                name, _, rest = file.read().partition(" (")[2].rpartition(") ")
                state, parent = rest.split()[:2]
                if name in ("nsdemo-watch", "nsdemo-guard") and state != "Z":
                    if not Path(f"/proc/{parent}/comm").read_text().startswith("python"):
                        found[name] = int(pid)  # no command's watchdog, whose parent that is
        return found

    def two():
        return len(guards()) == 2

    def kill(*names):
        found = eventually(lambda: (now := guards()) and set(names) <= set(now) and now)
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for name in names:
                os.kill(found[name], number)
        return [found[name] for name in names]

    def others(killed):
        return two() and not set(killed) & set(guards().values())

    def live():
        forms = [{}, {"pid": False}, {"hostname": "x"}]
        if how == "both and Python":
            forms.append({"init": True})  # which has a watchdog
        command = ["sh", "-c", f"sleep {marker} & sleep {marker}"]
        boxes = [nsdemo.spawn(command, **form, **QUIET) for form in forms]
        count = 2 * len(forms)
        assert eventually(lambda: len(processes_with(marker)) == count), "they did not begin"
        assert eventually(two), guards()
        both = "nsdemo-watch", "nsdemo-guard"
        if how in both:
            kill(how)
        elif how == "in turn":
            for number in range(6):
                killed = kill(both[number % 2])
                assert eventually(lambda: others(killed)), guards()
        elif how == "both and Python":
            kill(*both)
        elif how == "both":
            killed = kill(*both)
            assert eventually(lambda: not guards()), guards()
            nsdemo.run(["true"], **QUIET)
            assert eventually(lambda: others(killed)), guards()
            boxes[1].stop()  # its place is free again
            boxes += [nsdemo.spawn(["sleep", marker], pid=False, **QUIET) for _ in range(5)]
        else:
            def start():
                while True:
                    kept.append(nsdemo.spawn(["sleep", marker], pid=False, **QUIET))
                    time.sleep(0.005)
            kept = []
            for _ in range(3):
                threading.Thread(target=start, daemon=True).start()
            for _ in range(4):
                time.sleep(0.1)
                killed = kill(*both)
                assert eventually(lambda: others(killed)), guards()
            nsdemo.run(["true"], **QUIET)  # now they have been told of all
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            live()
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    status = os.waitpid(child, 0)[1]
    most = 6 if how == "both and Python" else 0
    gone = eventually(lambda: len(processes_with(marker)) <= most and not guards())
    report(status=status, left=len(processes_with(marker)), guards=guards())
"""


@pytest.mark.parametrize(
    "how", ["nsdemo-watch", "nsdemo-guard", "in turn", "both", "both, while others start"]
)
def test_a_guard_that_is_killed_has_another(how: str, marker: str) -> None:
    """In a pid namespace of our own, where all guards are ours; what they end is looked for."""
    command = [*command_of(GUARDS), how, marker]
    done = nsdemo.run(command, capture_output=True, text=True, init=True, timeout=60, **QUIET)
    assert done.stderr == ""
    assert json.loads(done.stdout) == {"status": signal.SIGKILL, "left": 0, "guards": {}}


def test_who_kills_both_guards_and_python_leaves_commands(marker: str) -> None:
    """docs/SECURITY.md says so; those that have a watchdog end all the same."""
    command = [*command_of(GUARDS), "both and Python", marker]
    done = nsdemo.run(command, capture_output=True, text=True, init=True, timeout=60, **QUIET)
    assert done.stderr == ""
    assert json.loads(done.stdout) == {"status": signal.SIGKILL, "left": 6, "guards": {}}


@pytest.mark.parametrize("joined", [False, True], ids=["new", "joined"])
def test_a_watchdog_that_is_killed_is_missed_by_nobody(joined: bool, marker: str) -> None:
    """Those of launches that fork are children of Python; when they are killed the guard ends
    their commands."""
    code = """
        marker, joined = sys.argv[1], int(sys.argv[2])
        command = ["sh", "-c", f"sleep {marker} & sleep {marker}"]
        forms = [{"init": True}, {"time": True}, {"pid": False, "time": True}]
        if joined:
            box = nsdemo.spawn(["sleep", "60"], uts=True, **QUIET)
            forms = [{"mount": box}, {"pid": box}, {"uts": box, "pid": False}]
            forms += [{"uts": box, "init": True}]
        boxes = [nsdemo.spawn(command, **form, **QUIET) for form in forms]
        assert eventually(lambda: len(processes_with(marker)) == 2 * len(forms))
        watchdogs = []
        for pid in children():
            if Path(f"/proc/{pid}/comm").read_text() == "nsdemo-watch\\n":
                os.kill(pid, signal.SIGKILL)
                watchdogs.append(pid)
        time.sleep(0.1)
        report(watchdogs=len(watchdogs), running=len(processes_with(marker)))
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [*command_of(code), marker, str(int(joined))]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    count = 4 if joined else 3
    assert json.loads(done.stdout) == {"watchdogs": count, "running": 2 * count}
    assert eventually(lambda: not processes_with(marker))


def test_a_plan_by_hand_has_no_watchdog_to_ask_for() -> None:
    by_hand = nsdemo.Plan().setsid().exec(["true"])
    unwatched = nsdemo.spawn(["true"], die_with_parent=False, dry_run=True)
    for plan in (by_hand, unwatched):
        with pytest.raises(ValueError, match="die_with_parent=True is for a plan of"):
            plan.start(die_with_parent=True)
    with nsdemo.spawn(["true"], dry_run=True, **QUIET).start(die_with_parent=True) as box:
        assert box.wait() == 0


def test_a_forked_child_ends_nothing(marker: str) -> None:
    """os.fork: the child drops, leaves and collects the parent's container, which lives on."""
    with nsdemo.spawn(["sleep", marker], **QUIET) as box:
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                with contextlib.suppress(ChildProcessError), box:
                    pass
                box.__del__()
                status = 0
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        time.sleep(0.05)
        assert box.poll() is None
        assert len(processes_with(marker)) == 1


def test_a_plan_made_before_a_fork() -> None:
    """A plan is data: a worker may start what its parent wrote."""
    plans = [
        nsdemo.spawn(["true"], dry_run=True, **QUIET),
        nsdemo.chroot_run("/", ["true"], dry_run=True, **QUIET),
    ]
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            status = sum(plan.run().returncode for plan in plans)
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# -- somebody else reaps -------------------------------------------------------------------------

STOLEN = """
    way = sys.argv[1]
    if way == "ignored":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    else:
        def steal():
            while True:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(-1, 0)
        threading.Thread(target=steal, daemon=True).start()
    right, lost, wrong = 0, 0, []
    for number in range(40):
        for init in (False, True):
            try:
                # It ends when the launch is over: who is quicker may be gone before it has a pidfd.
                command = ["sh", "-c", f"read line; exit {number}"]
                done = nsdemo.run(command, init=init, input=b"now\\n")
            except ChildProcessError:
                lost += 1
            else:
                right += done.returncode == number
                if done.returncode != number:
                    wrong.append((number, done.returncode))
    report(right=right, lost=lost, wrong=wrong, open=len(descriptors()))
    sys.stdout.flush()
    os._exit(0)
"""


@pytest.mark.parametrize("way", ["ignored", "thread"])
def test_the_status_is_taken_by_somebody_else(way: str) -> None:
    """Then the kernel still tells it (Linux 6.15), or it is an error; never a wrong number."""
    found = script(STOLEN, way).report
    assert found["wrong"] == []
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    if release >= (6, 15):
        assert found["lost"] == 0
    assert found["open"] < 12


# -- threads -------------------------------------------------------------------------------------


def test_many_wait_and_one_kills() -> None:
    for _ in range(10):
        box = nsdemo.spawn(["sleep", "1000"], **QUIET)
        begun = threading.Barrier(9)

        def watch(box: Any = box, begun: threading.Barrier = begun) -> int:
            begun.wait()
            return int(box.wait())

        def poll(box: Any = box, begun: threading.Barrier = begun) -> int:
            begun.wait()
            while (status := box.poll()) is None:
                time.sleep(0.0005)
            return int(status)

        with ThreadPoolExecutor(8) as pool:
            found = [pool.submit(watch if i % 2 else poll) for i in range(8)]
            begun.wait()
            box.kill()
            assert {each.result(timeout=5) for each in found} == {-signal.SIGKILL}


def test_waiting_threads_do_not_stop_the_others() -> None:
    with nsdemo.spawn(["sleep", "1000"], **QUIET) as box, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(box.wait)
        ticks = 0
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            time.sleep(0.001)
            ticks += 1
        assert ticks > 10
        assert not waiting.done()
        box.kill()
        assert waiting.result(timeout=5) == -signal.SIGKILL


def test_subprocess_is_undisturbed() -> None:
    with nsdemo.spawn(["sleep", "1000"], **QUIET):
        assert subprocess.run(["sh", "-c", "exit 5"]).returncode == 5
        with pytest.raises(ChildProcessError) as caught:
            os.waitpid(2**22 - 1, os.WNOHANG)
        assert caught.value.errno == errno.ECHILD
