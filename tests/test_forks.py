"""A Container where it is not one's own child: in a fork of the process that started it, adopted.

Every public name of Container is asked in both; a new one fails here until somebody has thought
of what it is to do there.
"""

from __future__ import annotations

import copy
import errno
import json
import os
import pickle
import signal
from typing import TYPE_CHECKING, Any

import pytest
from support import IS_ROOT, QUIET, SLOW, eventually, new_marker, processes_with, script

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = Callable[[nsdemo.Container[Any]], Any]

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

WAYS: list[dict[str, Any]] = [{}, {"init": True}, {"pid": False}]
KERNEL_TELLS = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15)
SHORT = 0.02  # seconds


def said_by(ask: Ask, box: nsdemo.Container[Any]) -> list[Any]:
    """What a call returned, or its exception, in JSON."""
    try:
        return ["value", ask(box)]
    except Exception as error:
        return ["error", type(error).__name__, str(error)]


def in_fork(ask: Ask, box: nsdemo.Container[Any]) -> list[Any]:
    """The same in a fork of this process."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            os.write(write_end, json.dumps(said_by(ask, box)).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as file:
        said = file.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    found: list[Any] = json.loads(said)
    return found


# Of each name: how to ask, and what is to be said in a fork and of an adopted one; a value, or
# the type and a part of the words of an exception. Where an answer depends, it is in the tests.
VALUE, ERROR = "value", "error"
NO_TERMINAL = (ERROR, "ValueError", "it has no terminal")
NOT_OVER = (ERROR, "TimeoutExpired", "timed out after")
RUNS = (VALUE, None)
SAME = object()  # what it says at home

ASKED: dict[str, tuple[Ask, Any, Any]] = {
    "adopt": (lambda box: type(box).adopt(box.pid).poll(), RUNS, RUNS),
    "args": (lambda box: box.args, SAME, SAME),
    "changes": (lambda box: box.changes(), *[(ERROR, "ValueError", "overlay=True")] * 2),
    "communicate": (lambda box: box.communicate(timeout=SHORT), NOT_OVER, NOT_OVER),
    "cut": (lambda box: box.cut, (VALUE, False), (VALUE, False)),
    "detach": (lambda box: box.detach(), (ERROR, "ChildProcessError", "a child of process"), SAME),
    "enter": (lambda box: box.enter(["true"], **QUIET).returncode, (VALUE, 0), (VALUE, 0)),
    "interact": (lambda box: box.interact(SHORT), *[(ERROR, "OSError", "interact() connects")] * 2),
    "kill": (lambda box: box.kill(), (VALUE, None), (VALUE, None)),
    "namespaces": (lambda box: {k: list(v) for k, v in box.namespaces.items()}, SAME, SAME),
    "pid": (lambda box: box.pid, SAME, SAME),
    "pidfd": (lambda box: os.fstat(box.pidfd).st_size >= 0, (VALUE, True), (VALUE, True)),
    "poll": (lambda box: box.poll(), RUNS, RUNS),
    "release": (lambda box: box.release(), (VALUE, None), (VALUE, None)),
    "resize": (lambda box: box.resize(80, 24), NO_TERMINAL, NO_TERMINAL),
    "returncode": (lambda box: box.returncode, RUNS, RUNS),
    "root": (lambda box: box.root, SAME, SAME),
    "send_signal": (lambda box: box.send_signal(0), (VALUE, None), (VALUE, None)),
    "stderr": (lambda box: box.stderr, RUNS, RUNS),
    "stdin": (lambda box: box.stdin, RUNS, RUNS),
    "stdout": (lambda box: box.stdout, RUNS, RUNS),
    "stop": (lambda box: stopped(box), (VALUE, True), (VALUE, True)),
    "terminate": (lambda box: box.terminate(), (VALUE, None), (VALUE, None)),
    "trace": (lambda box: len(box.trace), SAME, (VALUE, 0)),
    "wait": (lambda box: box.wait(SHORT), NOT_OVER, NOT_OVER),
    # What Python itself calls.
    "__enter__": (lambda box: box.__enter__() is box, (VALUE, True), (VALUE, True)),
    "__exit__": (lambda box: box.__exit__(), (VALUE, None), (VALUE, None)),
    "__del__": (lambda box: box.__del__(), (VALUE, None), (VALUE, None)),
    "__repr__": (repr, (VALUE, "running, a child of process"), (VALUE, "running: ")),
    "_repr_html_": (lambda box: "<" in box._repr_html_(), (VALUE, True), (VALUE, True)),
    "__reduce__": (pickle.dumps, *[(ERROR, "TypeError", "adopt(box.pid)")] * 2),
    "__copy__": (copy.copy, *[(ERROR, "TypeError", "adopt(box.pid)")] * 2),
}
ENDS = {"kill", "stop", "terminate"}


def stopped(box: nsdemo.Container[Any]) -> bool:
    """Ended by stop(), whose status is its parent's to know until that has reaped it."""
    try:
        return box.stop() in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM)
    except ChildProcessError as error:
        return "alone" in str(error)


def agrees(found: list[Any], wanted: Any) -> bool:
    kind, *said = wanted
    if kind == VALUE and isinstance(said[0], str):
        return found[0] == VALUE and said[0] in found[1]
    if kind == VALUE:
        return found == [VALUE, said[0]]
    return found[:2] == [ERROR, said[0]] and said[1] in found[2]


def test_every_public_name_is_asked() -> None:
    names = {*dir(nsdemo.Container), *nsdemo.Container.__annotations__}
    assert {name for name in names if not name.startswith("_")} <= set(ASKED)


@pytest.mark.parametrize("how", WAYS, ids=str)
@pytest.mark.parametrize("name", ASKED)
def test_a_fork_may_do_all_but_what_is_the_parents(name: str, how: dict[str, Any]) -> None:
    ask, wanted, _ = ASKED[name]
    with nsdemo.spawn(["sleep", "600"], **how, **QUIET) as box:
        if wanted is SAME:
            wanted = said_by(ask, box)
        found = in_fork(ask, box)
        assert agrees(found, wanted), found
        if found[0] == ERROR and found[1] == "ChildProcessError":
            assert f"process {os.getpid()}" in found[2]
        if name not in ENDS:
            assert box.poll() is None
        elif name != "terminate" or how:
            assert box.wait(5 * SLOW) < 0


@pytest.mark.parametrize("how", WAYS, ids=str)
@pytest.mark.parametrize("name", ASKED)
def test_an_adopted_one_is_like_any_other(name: str, how: dict[str, Any]) -> None:
    ask, _, wanted = ASKED[name]
    with nsdemo.spawn(["sleep", "600"], **how, **QUIET) as box:
        taken = nsdemo.Container.adopt(box.pid)
        assert [each for each in nsdemo.Container.__annotations__ if not hasattr(taken, each)] == []
        if wanted is SAME and name == "args" and how.get("init"):
            wanted = (VALUE, ["nsdemo-init"])
        elif wanted is SAME:
            wanted = said_by(ask, box)
        found = said_by(ask, taken)
        if name in ("args", "namespaces"):
            found = json.loads(json.dumps(found))
        assert agrees(found, wanted), found
        if name not in ENDS:
            assert taken.poll() is None
            box.stop()  # to ask at home, "detach" was called
        elif name != "terminate" or how:
            assert eventually(lambda: box._process.wait(0))


def test_a_fork_knows_how_it_ended_as_far_as_anybody_tells() -> None:
    for how, status in (({}, 7), ({"init": True}, 7), ({"pid": False}, 7)):
        box = nsdemo.spawn(["sh", "-c", f"exit {status}"], **how, **QUIET)
        assert eventually(lambda box=box: in_fork(lambda box: box._process.wait(0), box)[1])
        # A zombie, which says its status to who may look at it; an init notes it in the trace.
        assert in_fork(lambda box: box.poll(), box) == [VALUE, 7]
        assert in_fork(lambda box: box.wait(), box) == [VALUE, 7]
        assert "ended with 7" in in_fork(repr, box)[1]
        assert box.wait() == 7
        assert in_fork(lambda box: box.poll(), box) == [VALUE, 7]


REAPED = """
    box = nsdemo.spawn(["sh", "-c", "exit 7"], stdin=nsdemo.DEVNULL)
    ready, go = os.pipe()
    found, tell = os.pipe()
    if not os.fork():
        os.read(ready, 1)
        said = []
        for ask in (box.poll, box.wait, box.stop, lambda: repr(box), lambda: box.enter(["true"])):
            try:
                said.append(ask())
            except OSError as error:
                said.append([type(error).__name__, str(error)])
        os.write(tell, json.dumps(said).encode())
        os._exit(0)
    box.wait()
    os.write(go, b"x")
    report(said=json.loads(os.read(found, 4096)), pid=os.getpid())
"""


def test_one_that_the_parent_has_reaped() -> None:
    found = script(REAPED).report
    *asked, shown, entered = found["said"]
    if KERNEL_TELLS:
        assert asked == [7, 7, 7]
        assert "ended with 7, a child of" in shown
    else:
        words = f"process {found['pid']}, whose child it was, alone was told how"
        assert all(kind == "ChildProcessError" and words in text for kind, text in asked)
        assert "nobody here was told how" in shown
    assert entered[0] == "ProcessLookupError"
    assert "the container has ended" in entered[1]


STRANGER = """
    last_pid = "/proc/sys/kernel/ns_last_pid"

    def born_as(pid):
        # Nobody else starts processes here: it is a pid namespace of our own.
        with open(last_pid, "w") as file:
            file.write(str(pid - 1))

    box = nsdemo.spawn(["true"], mount=False, uts=False, ipc=False, pid=False, user=False,
                       start_new_session=True, stdin=nsdemo.DEVNULL)
    ready, go = os.pipe()
    child = os.fork()
    if not child:
        os.read(ready, 1)
        box.kill()
        box._process.stopping()
        box.send_signal(9)
        with contextlib.suppress(ChildProcessError):
            box.stop()
        os._exit(0)
    box.wait()
    born_as(box.pid)
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    os.write(go, b"x")
    os.waitpid(child, 0)
    time.sleep(0.05)
    report(same=stranger.pid == box.pid, status=stranger.poll())
"""

GRANDCHILD = """
    last_pid = "/proc/sys/kernel/ns_last_pid"
    signal.alarm(30)
    parent_end, tell = os.pipe()
    owner = os.fork()
    if not owner:
        box = nsdemo.spawn(["sleep", "600"], mount=False, uts=False, ipc=False, pid=False,
                           user=False, die_with_parent=False, stdin=nsdemo.DEVNULL,
                           stdout=nsdemo.DEVNULL, stderr=nsdemo.DEVNULL)
        ready, go = os.pipe()
        middle = os.fork()
        if middle:
            os.write(go, b"x")
            os._exit(0)
        me = box._process.owner
        while os.path.exists(f"/proc/{me}"):
            time.sleep(0.001)
        with open(last_pid, "w") as file:
            file.write(str(me - 1))
        if os.fork():
            os._exit(0)
        os.write(tell, json.dumps({"same": os.getpid() == me, "poll": box.poll(),
                                   "inherited": box._process.inherited}).encode())
        box.__del__()
        del box
        os._exit(0)
    os.waitpid(owner, 0)
    found = json.loads(os.read(parent_end, 4096))
    report(**found)
"""


def in_a_pid_namespace(body: str) -> Any:
    """A script whose processes have the pids of a namespace to themselves."""
    from support import command_of

    done = nsdemo.run(
        command_of(body), user=None if IS_ROOT else True, init=True, **QUIET, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_fork_signals_nobody_who_has_the_number_by_now() -> None:
    assert in_a_pid_namespace(STRANGER) == {"same": True, "status": None}


def test_a_fork_of_a_fork_with_the_owners_number_owns_nothing() -> None:
    found = in_a_pid_namespace(GRANDCHILD)
    assert found == {"same": True, "poll": None, "inherited": True}


def test_the_group_of_one_without_a_pid_namespace_ends_by_a_fork() -> None:
    marker = new_marker()
    tree = ["sh", "-c", f"sleep {marker} & exec sleep {marker}"]
    for ask in ("kill", "stop"):
        with nsdemo.spawn(tree, pid=False, start_new_session=True, **QUIET) as box:
            assert eventually(lambda: len(processes_with(marker)) == 2)
            in_fork(lambda box, ask=ask: getattr(box, ask)() and None, box)
            if has_group_signals():
                assert eventually(lambda: not processes_with(marker))


def has_group_signals() -> bool:
    """PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9: without, only the parent is sure of the number."""
    return tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 9)


def test_output_is_read_in_a_fork() -> None:
    with nsdemo.spawn(["sh", "-c", "echo out; echo err >&2"], **QUIET, stdout=-1, stderr=-1) as box:
        found = in_fork(lambda box: [part.decode() for part in box.communicate()], box)
        assert found == [VALUE, ["out\n", "err\n"]]


def test_a_terminal_and_layers_are_used_in_a_fork(rootfs: Any) -> None:
    with nsdemo.spawn(["sh", "-c", "read x; stty size"], tty=os.terminal_size((80, 24))) as box:

        def resize(box: nsdemo.Container[Any]) -> Any:
            box.resize(100, 30)
            return os.get_terminal_size(box.stdout.fileno())  # type: ignore[union-attr]

        assert in_fork(resize, box) == [VALUE, [100, 30]]
    with nsdemo.spawn(["touch", "/new"], root=rootfs, overlay=True, **QUIET) as box:
        box.wait()
        assert in_fork(lambda box: box.changes(), box) == [VALUE, [["/new", "added"]]]


def test_a_pool_of_forks_enters() -> None:
    body = """\
        import multiprocessing

        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads

        def work(number):
            state = box.poll(), repr(box), box.namespaces == nsdemo.namespaces(box.pid)
            done = nsdemo.enter(box, ["echo", str(number)], capture_output=True)
            return done.stdout.decode(), state

        with nsdemo.spawn(["sleep", "600"], stdin=nsdemo.DEVNULL) as box:
            with multiprocessing.get_context("fork").Pool(2) as pool:
                found = pool.map(work, range(4))
        report(found=found, pid=os.getpid(), returncode=box.returncode)
    """
    found = script(body).report
    assert [said for said, _ in found["found"]] == [f"{n}\n" for n in range(4)]
    for _, (state, shown, same) in found["found"]:
        assert (state, same) == (None, True)
        assert f"running, a child of process {found['pid']}" in shown
    assert found["returncode"] == -signal.SIGKILL


def test_leaving_in_a_fork_ends_nothing() -> None:
    """sys.exit() in a forked child leaves the with block of its parent, too."""
    body = """\
        with nsdemo.spawn(["sleep", "600"], stdin=nsdemo.DEVNULL) as box:
            child = os.fork()
            if not child:
                sys.exit(3)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            report(status=status, state=box.poll())
    """
    assert script(body).report == {"status": 3, "state": None}


BUSY = """
    # CPython's lock of a module that is being imported stays.
    import nsdemo._launch.others, nsdemo._request.stdio
    warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads
    signal.alarm(50)
    box = nsdemo.spawn(["sleep", "600"], stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE)
    over = threading.Event()

    def watch():
        while not over.is_set():
            box.poll(), box.returncode, box.send_signal(0)

    threads = [threading.Thread(target=watch) for _ in range(3)]
    threads.append(threading.Thread(target=box.communicate))
    for thread in threads:
        thread.start()
    found = []

    def fork():
        for _ in range(40):
            child = os.fork()
            if not child:
                signal.alarm(10)
                said = 1
                try:
                    box.communicate(timeout=0.01)
                except RuntimeError as error:
                    said = 0 if f"process {os.getppid()}" in str(error) else 2
                box.send_signal(0)
                os._exit(said if box.poll() is None else 3)
            found.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    forker = threading.Thread(target=fork)
    forker.start()
    forker.join()
    over.set()
    box.kill()
    for thread in threads:
        thread.join()
    report(found=found)
"""


def test_forks_in_a_thread_while_others_use_it() -> None:
    """No lock that a thread of the parent held is waited for."""
    assert script(BUSY).report["found"] == [0] * 40


def test_dropped_in_a_fork_it_lives_on() -> None:
    body = """\
        box = nsdemo.spawn(["sleep", "600"], stdin=nsdemo.DEVNULL)
        child = os.fork()
        if not child:
            box = None
            gc.collect()
            sys.exit()  # and so is everything else
        os.waitpid(child, 0)
        state = box.poll()
        box.stop()
        report(state=state)
    """
    assert script(body).report == {"state": None}


def test_a_descriptor_less_is_no_end() -> None:
    """A daemoniser closed the pidfd, and no other can be opened for now."""
    body = """\
        box = nsdemo.spawn(["sleep", "600"], stdin=nsdemo.DEVNULL)
        taken = nsdemo.Container.adopt(box.pid)
        for each in (box, taken):
            os.close(each.pidfd)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        states = [box.poll(), taken.poll()]
        try:
            box.kill()
        except OSError as error:
            states.append(error.errno)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        states += [box.poll(), taken.poll()]
        report(states=states, status=box.stop())
    """
    found = script(body).report
    assert found == {"states": [None, None, errno.EMFILE, None, None], "status": -signal.SIGKILL}
