"""spawn, run, enter, chroot_run: what they have in common. The command's environment, ids,
session, descriptors and streams, the plan instead of a run, and the signatures themselves.
"""

from __future__ import annotations

import inspect
import os
import pickle
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support import IS_ROOT, QUIET, script
from targets import CAPTURED, only_root

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

SLEEP = ["sleep", "100"]


def say(args: list[str], **options: Any) -> str:
    done = nsdemo.run(args, **CAPTURED, **options)
    assert done.returncode == 0, done.stderr
    text: str = done.stdout.strip()
    return text


# -- signatures


POPEN = """cwd env uid gid groups umask no_new_privs capabilities ambient rlimits seccomp
securebits landlock stdin stdout stderr tty text encoding errors pass_fds
start_new_session process_group dry_run""".split()
FALSE = ("no_new_privs", "tty", "dry_run", "capture_output", "check")
RUN = ["input", "capture_output", "timeout", "check"]
USERS = ["uid_map", "gid_map", "setgroups", "owner"]
OWN = {
    nsdemo.chroot_run: ["root", "args"],
    nsdemo.spawn: """args mount uts ipc pid net user cgroup time
        uid_map gid_map setgroups owner join fork mount_proc root
        root_method propagation hostname domainname monotonic boottime init mounts overlay
        overlay_size readonly_root die_with_parent persist""".split(),
    nsdemo.enter: "target args mount uts ipc pid net user cgroup time root join_cgroup".split(),
}
OWN[nsdemo.run] = OWN[nsdemo.spawn]


@pytest.mark.parametrize("call", OWN)
def test_the_four_calls_are_alike(call: Callable[..., Any]) -> None:
    parameters = inspect.signature(call).parameters
    expected = OWN[call] + POPEN + ([] if call is nsdemo.spawn else RUN)
    if call is nsdemo.chroot_run:
        expected[3:3] = USERS  # behind cwd
    assert list(parameters) == expected
    kinds = [parameter.kind for parameter in parameters.values()]
    positional = expected.index("args") + 1
    assert set(kinds[:positional]) == {inspect.Parameter.POSITIONAL_OR_KEYWORD}
    assert set(kinds[positional:]) == {inspect.Parameter.KEYWORD_ONLY}
    model = inspect.signature(nsdemo.run).parameters
    for name in POPEN + RUN:
        if name in parameters and (call, name) != (nsdemo.chroot_run, "cwd"):
            assert parameters[name] == model[name]
            falsy = {"pass_fds": (), "ambient": (), **dict.fromkeys(FALSE, False)}
            assert parameters[name].default == falsy.get(name)
    if call is nsdemo.chroot_run:
        assert parameters["cwd"].default == "/"
    assert call.__doc__
    assert call.__doc__.count("Raises:") == 1


def test_the_names_are_those_of_subprocess() -> None:
    import subprocess

    theirs = inspect.signature(subprocess.Popen).parameters
    renamed = {"uid": "user", "gid": "group", "groups": "extra_groups", "dry_run": "args"}
    own = {"no_new_privs", "capabilities", "ambient", "rlimits", "seccomp"}  # power
    own |= {"securebits", "landlock", "tty"}
    for name in sorted({*POPEN} - own):
        assert renamed.get(name, name) in theirs
    for name in ("PIPE", "DEVNULL", "STDOUT", "TimeoutExpired", "CalledProcessError"):
        assert getattr(nsdemo, name) is getattr(subprocess, name)
    assert issubclass(nsdemo.CompletedProcess, subprocess.CompletedProcess)


# -- environment, PATH, working directory


def test_the_environment_is_ours_until_the_root_is_another(
    rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSDEMO_TEST", "kept")
    monkeypatch.setenv("TERM", "vt52")
    monkeypatch.setenv("HOME", "/elsewhere")
    assert say(["sh", "-c", "echo $NSDEMO_TEST $HOME"]) == "kept /elsewhere"
    show = ["sh", "-c", "echo $NSDEMO_TEST:$HOME:$LANG:$TERM:$PATH"]
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert say(show, root=rootfs) == f":/root:C.UTF-8:vt52:{path}"
    assert say(show, root=rootfs, env={"NSDEMO_TEST": "given", "PATH": "/bin"}) == "given::::/bin"
    monkeypatch.delenv("TERM")
    assert "TERM" not in say(["env"], root=rootfs)
    assert say(["env"], root=rootfs, env={}) in ("", "PWD=/")
    if IS_ROOT:
        assert say(["sh", "-c", "echo $HOME"], root=rootfs, uid=7) == "/"


def test_the_command_is_looked_up_after_the_change_of_root(rootfs: Path, tmp_path: Path) -> None:
    here = tmp_path / "only-here"
    here.write_text("#!/bin/sh\necho outside\n")
    here.chmod(0o755)
    path = {"PATH": f"{tmp_path}:/bin"}
    assert say(["only-here"], env=path) == "outside"
    with pytest.raises(FileNotFoundError) as caught:
        nsdemo.run(["only-here"], env=path, root=rootfs)
    assert caught.value.filename == "only-here"
    assert not isinstance(caught.value, nsdemo.NamespaceError)
    inside = rootfs / "opt"
    inside.mkdir()
    (inside / "only-there").write_text("#!/bin/sh\necho inside\n")
    (inside / "only-there").chmod(0o755)
    assert say(["only-there"], env={"PATH": "/no:/opt"}, root=rootfs) == "inside"
    assert say(["./only-there"], cwd="/opt", root=rootfs) == "inside"
    assert say(["only-there"], env={"PATH": "/bin:"}, cwd="/opt", root=rootfs) == "inside"
    (inside / "only-there").unlink()
    inside.rmdir()


def test_the_working_directory(rootfs: Path, tmp_path: Path) -> None:
    assert say(["pwd"]) == os.getcwd()
    assert say(["pwd"], root=rootfs) == "/"
    assert say(["pwd"], root=rootfs, cwd="/tmp") == "/tmp"
    assert say(["pwd"], cwd=tmp_path) == str(tmp_path)
    with pytest.raises(nsdemo.NamespaceError) as caught:
        nsdemo.run(["pwd"], root=rootfs, cwd="/absent")
    assert caught.value.step.operation == "chdir"
    assert isinstance(caught.value, FileNotFoundError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.step, again.trace) == (caught.value.step, caught.value.trace)


# -- ids, umask


@only_root
def test_ids_are_what_was_asked_for(rootfs: Path) -> None:
    show = ["sh", "-c", "grep -E '^(Uid|Gid|Groups):' /proc/self/status | tr -s '\\t ' ' '"]
    asked: dict[str, Any] = {"uid": 7, "gid": 8, "groups": [9, 10]}
    expected = "Uid: 7 7 7 7\nGid: 8 8 8 8\nGroups: 9 10"
    assert say(show, **asked) == expected
    assert say(show, **asked, root=rootfs, init=True) == expected
    with nsdemo.spawn(SLEEP, root=rootfs, **QUIET) as box:
        assert box.enter(show, **asked, **CAPTURED).stdout.strip() == expected
        assert say(show, join=box, uid=7) == "Uid: 7 7 7 7\nGid: 0 0 0 0\nGroups:"
    powerless = say(["grep", "Cap[EPIA]", "/proc/self/status"], **asked)
    assert set(powerless.split()[1::2]) == {"0" * 16}


def test_the_umask_is_the_commands_own(rootfs: Path) -> None:
    ours = os.umask(0o027)
    try:
        assert say(["sh", "-c", "umask"]) == "0027"
        assert say(["sh", "-c", "umask"], umask=0o077, root=rootfs) == "0077"
        assert say(["sh", "-c", "umask"], umask=0) == "0000"
    finally:
        assert os.umask(ours) == 0o027


# -- sessions, descriptors, streams


@pytest.mark.parametrize("init", [False, True])
def test_a_session_of_its_own_unless_the_terminal_is_ours(init: bool) -> None:
    def started(**options: Any) -> tuple[bool, bool]:
        with nsdemo.spawn(["sh", "-c", "echo; read x"], init=init, stdin=nsdemo.PIPE,
                          stdout=nsdemo.PIPE, **options) as box:  # fmt: skip
            assert box.stdout is not None
            box.stdout.readline()
            pid = box.pid
            if init:
                with open(f"/proc/{pid}/task/{pid}/children") as file:
                    pid = int(file.read())
            return os.getpgid(pid) == pid, os.getsid(pid) == pid

    assert started() == (True, True)
    assert started(start_new_session=True) == (True, True)
    assert started(start_new_session=False) == (False, False)
    assert started(process_group=0) == (True, False)
    with pytest.raises(ValueError, match="session"):
        started(process_group=0, start_new_session=True)
    with pytest.raises(TypeError):
        started(process_group=True)


def test_job_control_keeps_the_callers_session() -> None:
    body = """
    import pty
    pid, fd = pty.fork()
    if pid == 0:
        def ours(**options):
            with nsdemo.spawn(["sleep", "100"], pid=False, **options) as box:
                return os.getsid(box.pid) == os.getsid(0)
        print("same", ours(), ours(stdin=nsdemo.DEVNULL), ours(start_new_session=True), flush=True)
        os._exit(0)
    text = b""
    with contextlib.suppress(OSError):
        while data := os.read(fd, 1000):
            text += data
    os.waitpid(pid, 0)
    report(text=text.decode())
    """
    assert "same True False False" in script(body).report["text"]


@pytest.mark.parametrize("init", [False, True])
def test_exactly_the_passed_descriptors_are_inside(init: bool, rootfs: Path) -> None:
    with open(os.devnull) as one, open(os.devnull) as two, open(os.devnull) as three:
        high = os.dup2(three.fileno(), 200, inheritable=True)
        passed = sorted([two.fileno(), high])
        show = ["sh", "-c", "ls /proc/$$/fd; exit $?"]
        listing = say(show, pass_fds=passed, root=rootfs, init=init)
        os.close(high)
        assert listing.split() == sorted(map(str, [0, 1, 2, *passed]))
        assert not os.get_inheritable(two.fileno())
        assert one.fileno() not in passed
    with pytest.raises(OSError, match="200"):
        nsdemo.run(["true"], pass_fds=[200])
    with pytest.raises(TypeError):
        nsdemo.run(["true"], pass_fds=[True])


def test_the_forms_of_stdio(tmp_path: Path) -> None:
    both = ["sh", "-c", "read x; echo out $x; echo err >&2"]
    with open(tmp_path / "file", "w+b") as file:
        done = nsdemo.run(both, input=b"in\n", stdout=file.fileno(), stderr=nsdemo.STDOUT)
        assert (done.stdout, done.stderr) == (None, None)
        file.seek(0)
        assert file.read() == b"out in\nerr\n"
    done = nsdemo.run(both, input="é\n", stdout=nsdemo.PIPE, stderr=nsdemo.STDOUT, text=True)
    assert done.stdout == "out é\nerr\n"
    done = nsdemo.run(both, input=b"x\n", stdout=nsdemo.DEVNULL, stderr=nsdemo.PIPE)
    assert (done.stdout, done.stderr) == (None, b"err\n")
    done = nsdemo.run(both, stdin=nsdemo.DEVNULL, capture_output=True)
    assert done.returncode == 0
    assert done.stdout == b"out\n"
    with open(tmp_path / "input", "w+") as source:
        source.write("file\n")
        source.seek(0)
        assert nsdemo.run(both, stdin=source, capture_output=True).stdout == b"out file\n"
    swapped = "nsdemo.run(['sh', '-c', 'echo out; echo err >&2'], stdout=2, stderr=1)"
    done = script(swapped)
    assert (done.stdout, done.stderr) == ("err\n", "out\n")
    latin = nsdemo.run(["printf", r"\351"], stdout=nsdemo.PIPE, encoding="latin-1")
    assert latin.stdout == "é"
    bad = nsdemo.run(["printf", r"\351"], stdout=nsdemo.PIPE, encoding="utf-8", errors="replace")
    assert bad.stdout == "\ufffd"
    for wrong in ({"input": b"", "stdin": nsdemo.PIPE}, {"stdout": nsdemo.STDOUT},
                  {"stdout": nsdemo.PIPE, "capture_output": True}):  # fmt: skip
        with pytest.raises(ValueError, match="std"):
            nsdemo.run(["true"], **wrong)


# -- the plan instead, and the audit event


def test_dry_run_returns_a_plan_that_remembers_its_streams(rootfs: Path) -> None:
    plan = nsdemo.spawn(["cat"], root=rootfs, stdin=nsdemo.PIPE, stdout=nsdemo.PIPE, text=True,
                        dry_run=True)  # fmt: skip
    assert isinstance(plan, nsdemo.Plan)
    for _ in range(3):
        with plan.start() as box:
            assert box.communicate("hello\n", timeout=10) == ("hello\n", None)
            assert box.root == str(rootfs)
            assert box.args == ["cat"]
    other = nsdemo.run(["cat"], input="kept", capture_output=True, text=True, dry_run=True)
    assert other.run().stdout == "kept"
    assert other.run(input="new").stdout == "new"
    assert nsdemo.run(["false"], check=True, dry_run=True) is not None
    with pytest.raises(nsdemo.CalledProcessError):
        nsdemo.run(["false"], check=True, dry_run=True).run()
    ours = nsdemo.enter(os.getpid(), ["echo", "x"], capture_output=True, dry_run=True)
    assert ours.run().stdout == b"x\n"
    chrooted = nsdemo.chroot_run(rootfs, ["pwd"], capture_output=True, dry_run=True)
    assert chrooted.run().stdout == b"/\n"


def test_one_audit_event_for_each_launch(rootfs: Path) -> None:
    body = """
    events = []
    sys.addaudithook(lambda name, args: events.append((name, args))
                     if name.startswith("nsdemo") else None)
    root = sys.argv[1]
    counts = []
    def counted(call):
        events.clear()
        result = call()
        assert all(n == "nsdemo.launch" and isinstance(a[0], nsdemo.Plan) for n, a in events)
        counts.append(len(events))
        return result
    counted(lambda: nsdemo.run(["true"]))
    counted(lambda: nsdemo.chroot_run(root, ["true"]))
    box = counted(lambda: nsdemo.spawn(["sleep", "100"], root=root))
    counted(lambda: box.enter(["true"]))
    plan = counted(lambda: nsdemo.run(["true"], dry_run=True))
    counted(plan.run)
    counted(box.stop)
    def refuse(name, args):
        if name == "nsdemo.launch":
            raise RuntimeError("no")
    sys.addaudithook(refuse)
    try:
        nsdemo.run(["true"])
    except RuntimeError as error:
        counts.append(str(error))
    report(counts=counts)
    """
    assert script(body, str(rootfs)).report["counts"] == [1, 1, 1, 1, 0, 1, 0, "no"]


def test_run_is_spawn_and_communicate() -> None:
    with pytest.raises(nsdemo.TimeoutExpired) as caught:
        nsdemo.run(["sh", "-c", "echo early; exec sleep 100"], timeout=0.3, stdout=nsdemo.PIPE)
    assert caught.value.output == b"early\n"
    done = nsdemo.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], init=True)
    assert done.returncode == -9
    with pytest.raises(nsdemo.CalledProcessError) as failed:
        nsdemo.run(["sh", "-c", "echo why >&2; exit 3"], check=True, capture_output=True)
    assert (failed.value.returncode, failed.value.stderr) == (3, b"why\n")
    again = pickle.loads(pickle.dumps(nsdemo.run(["true"])))
    assert again.returncode == 0
    assert again.trace[-1].operation == "exec"


@pytest.mark.parametrize("call", ["run(['true'])", "run(['true'], init=True)"])
def test_a_thread_with_the_smallest_stack(call: str) -> None:
    body = f"""
        threading.stack_size(32 * 1024)
        done = []
        thread = threading.Thread(target=lambda: done.append(nsdemo.{call}.returncode))
        thread.start()
        thread.join()
        report(done=done)
    """
    assert script(body).report["done"] == [0]
