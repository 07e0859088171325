"""All methods of all objects, called from many threads at once: nothing crashes, nothing hangs.

A script does it, in an interpreter of its own: a crash is its end by a signal, a hang an alarm.
Every public name is called; a new one fails here until somebody has said how.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from support import new_marker, processes_with, script

import nsdemo
from nsdemo import _core

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

# How each name is called, on `it`. What it raises may be any of those that say something.
CONTAINER = {
    "adopt": "nsdemo.Container.adopt(it.pid).poll()",
    "args": "it.args",
    "changes": "it.changes()",
    "communicate": "it.communicate(timeout=0.01)",
    "cut": "it.cut",
    "detach": "it.detach()",
    "enter": 'it.enter(["true"], stdin=nsdemo.DEVNULL)',
    "interact": "it.interact(0.01)",
    "kill": "it.kill()",
    "namespaces": "it.namespaces",
    "pid": "it.pid",
    "pidfd": "it.pidfd",
    "poll": "it.poll()",
    "release": "it.release()",
    "resize": "it.resize(80, 24)",
    "returncode": "it.returncode",
    "root": "it.root",
    "send_signal": "it.send_signal(0)",
    "stderr": "it.stderr.read1(10)",
    "stdin": "it.stdin.write(b'x')",
    "stdout": "it.stdout.read1(10)",
    "stop": "it.stop(0.01)",
    "terminate": "it.terminate()",
    "trace": "it.trace",
    "wait": "it.wait(0.01)",
    "__repr__": "repr(it)",
    "__exit__": "it.__exit__(None, None, None)",
    "_repr_html_": "it._repr_html_()",
}
PROCESS = {
    "close": "it.close()",
    "communicate": "it.communicate(pipes(), b'x' * 100000, now() + 10**7)",
    "detach": "it.detach()",
    "end": "it.end()",
    "grace": "it.grace()",
    "kill": "it.kill()",
    "output": "it.output()",
    "results": "it.results()",
    "send_signal": "it.send_signal(0)",
    "stopping": "it.stopping()",
    "wait": "it.wait(now() + 10**6)",
}
PLAN = {
    "run": "it.run(timeout=5, stdin=nsdemo.DEVNULL)",
    "start": "it.start(stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE).stop(0)",
    "steps": "it.steps",
    "__eq__": "it == it",
    "__str__": "str(it)",
    "__len__": "len(it)",
    "_repr_html_": "it._repr_html_()",
}
# Those that make another plan of it.
BUILDS = {
    "become_root": "it.become_root()",
    "bind": "it.bind('/', '/')",
    "capabilities": "it.capabilities(['kill'])",
    "chdir": "it.chdir('/')",
    "chroot": "it.chroot('/')",
    "drop_bounding": "it.drop_bounding([])",
    "exec": "it.exec(['true'])",
    "fork": "it.fork()",
    "init": "it.init()",
    "join": "it.join(os.getpid(), 'uts')",
    "keep_capabilities": "it.keep_capabilities()",
    "landlock": "it.landlock(nsdemo.Landlock(read=['/']))",
    "loopback_up": "it.loopback_up()",
    "make_private": "it.make_private()",
    "make_readonly": "it.make_readonly()",
    "map_root": "it.map_root()",
    "mount": "it.mount('proc', '/proc', 'proc')",
    "mounts": "it.mounts([nsdemo.Tmpfs('/tmp')])",
    "no_new_privs": "it.no_new_privs()",
    "pin": "it.pin('uts', '/tmp/x')",
    "pivot_root": "it.pivot_root('/')",
    "propagation": "it.propagation('private')",
    "rlimits": "it.rlimits({'nofile': 10})",
    "seccomp": "it.seccomp(bytes(8))",
    "securebits": "it.securebits(['noroot'])",
    "setdomainname": "it.setdomainname('x')",
    "setgid": "it.setgid(0)",
    "setgroups": "it.setgroups([0])",
    "sethostname": "it.sethostname('x')",
    "setsid": "it.setsid()",
    "setuid": "it.setuid(0)",
    "terminal": "it.terminal()",
    "unshare": "it.unshare('uts')",
    "unshare_user": "it.unshare_user()",
}
CORE_PLAN = {
    "append": "it.append('setsid', 0, (0, 0, 0), (None,) * 4)",
    "command": "it.command()",
    "exec": "it.exec([b'x'], [], [b'x'])",
    "files": "it.files((), None, False, False, 0)",
    "launcher_at": "it.launcher_at()",
    "map_root": "it.map_root()",
    "seccomp": "it.seccomp(bytes(8))",
    "setgroups": "it.setgroups((1, 2))",
    "slot": "it.slot(0)",
    "steps": "it.steps()",
    "steps_only": "it.steps_only()",
    "users": "it.users(uid_map=b'0 0 1', gid_map=b'0 0 1', first=(0, 0))",
    "with_slot": "it.with_slot(1, 0, object())",
    "without": "it.without('setsid')",
}
ROOTFS = {
    "busybox": "nsdemo.Rootfs.busybox().remove()",
    "files": "it.files",
    "from_host": "nsdemo.Rootfs.from_host(['true']).remove()",
    "path": "it.path",
    "remove": "it.remove()",
    "__repr__": "repr(it)",
    "_repr_html_": "it._repr_html_()",
}
COMPLETED = {
    "cut": "it.cut",
    "check_returncode": "it.check_returncode()",
    "trace": "it.trace",
    "__reduce__": "pickle.loads(pickle.dumps(it))",
    "_repr_html_": "it._repr_html_()",
}

RUNS = 'nsdemo.spawn(["sleep", marker], stdin=nsdemo.DEVNULL, **how)'
TALKS = (
    'nsdemo.spawn(["sh", "-c", "head -c 300000 /dev/zero; exec cat"], stdin=nsdemo.PIPE, '
    "stdout=nsdemo.PIPE, stderr=nsdemo.PIPE)"
)
# What is made anew for each round, and how its names are called.
OBJECTS: dict[str, tuple[type, str, dict[str, str]]] = {
    "container": (nsdemo.Container, RUNS, CONTAINER),
    "container with an init": (nsdemo.Container, RUNS.replace("**how", "init=True"), CONTAINER),
    "container that talks": (nsdemo.Container, TALKS, CONTAINER),
    "adopted": (nsdemo.Container, f"nsdemo.Container.adopt(keep({RUNS}).pid)", CONTAINER),
    "plan": (nsdemo.Plan, 'nsdemo.spawn(["true"], dry_run=True)', PLAN | BUILDS),
    "rootfs": (nsdemo.Rootfs, 'nsdemo.Rootfs.from_host(["true"])', ROOTFS),
    "completed": (nsdemo.CompletedProcess, 'nsdemo.run(["true"], stdin=nsdemo.DEVNULL)', COMPLETED),
    "core process": (_core.Process, f"keep({TALKS})._process", PROCESS),
    "core plan": (_core.Plan, 'nsdemo.spawn(["true"], dry_run=True)._core', CORE_PLAN),
}

BODY = """
    import faulthandler, random, re
    import nsdemo.rootfs

    faulthandler.enable()
    faulthandler.dump_traceback_later(45, exit=True)
    warnings.simplefilter("ignore")
    made, calls, marker, rounds = json.loads(sys.argv[1])
    how, kept, now, odd = {}, [], time.monotonic_ns, set()
    made = compile(made, "made", "eval")
    calls = [compile(call, call, "eval") for call in calls]

    def keep(it):
        kept.append(it)
        return it

    def pipes():
        with open("/dev/null", "r+b", buffering=0) as null:
            return tuple(os.dup(null.fileno()) for _ in range(3))

    def call_all(it, begun, seed):
        order = random.Random(seed).sample(calls, len(calls))
        begun.wait()
        for call in order:
            try:
                eval(call, globals() | {"it": it})
            except (OSError, ValueError, RuntimeError, AttributeError,
                    subprocess.SubprocessError) as error:
                # None has no read(); a file that is being read or is closed says so.
                if isinstance(error, AttributeError) and "NoneType" not in str(error):
                    odd.add(repr(error))
            except BaseException as error:
                odd.add(f"{call.co_filename}: {error!r}")

    for number in range(rounds):
        it = eval(made)
        begun = threading.Barrier(6)
        threads = [threading.Thread(target=call_all, args=(it, begun, number * 10 + seed))
                   for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for each in (it, *kept):
            if isinstance(each, nsdemo.Container):
                with contextlib.suppress(ChildProcessError):
                    each.stop(0)
                each._close_files()
        kept.clear()
    report(odd=sorted(odd))
"""


def names_of(kind: type) -> set[str]:
    """Its methods, and what is computed when it is asked for; those of C that are not plain."""
    names = {*dir(kind), *getattr(kind, "__annotations__", {})}
    public = {name for name in names if not name.startswith("_")}
    if kind is _core.Process:
        return {name for name in public if callable(getattr(kind, name))}
    return public


@pytest.mark.parametrize("what", OBJECTS)
def test_every_public_name_is_called(what: str) -> None:
    kind, _, calls = OBJECTS[what]
    assert names_of(kind) <= set(calls)


def called_at_once(what: str, rounds: int) -> None:
    kind, made, calls = OBJECTS[what]
    if kind is _core.Process:
        plain = {name for name in dir(kind) if not name.startswith("_")} - set(calls)
        calls = calls | {name: f"it.{name}" for name in plain}
    marker = new_marker()
    try:
        done = script(BODY, json.dumps([made, list(calls.values()), marker, rounds]))
        assert done.returncode == 0, done.stderr[-6000:]
        assert done.report == {"odd": []}
    finally:
        for pid in processes_with(marker):  # detach() was called
            os.kill(pid, 9)


@pytest.mark.parametrize("what", OBJECTS)
def test_many_threads_call_everything_at_once(what: str) -> None:
    called_at_once(what, 1 if what == "rootfs" else 6)


@pytest.mark.long
@pytest.mark.parametrize("what", OBJECTS)
def test_many_threads_call_everything_at_once_many_times(what: str) -> None:
    called_at_once(what, 60)


def test_one_thread_at_a_time_communicates() -> None:
    body = """\
        found = []
        for _ in range(20):
            box = nsdemo.spawn(["head", "-c", "400000", "/dev/zero"], stdin=nsdemo.DEVNULL,
                               stdout=nsdemo.PIPE, stderr=nsdemo.PIPE)
            begun = threading.Barrier(2)

            def talk():
                begun.wait()
                try:
                    found.append(len(box.communicate()[0]))
                except RuntimeError as error:
                    found.append(str(error))

            threads = [threading.Thread(target=talk) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        report(found=found)
    """
    found: list[Any] = script(body).report["found"]
    assert found.count(400000) >= 20
    refused = [each for each in found if each != 400000]
    assert all("another thread is in communicate()" in str(each) for each in refused)
