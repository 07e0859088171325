"""Arguments that cannot be: each gives its own clear error at once, and leaves nothing behind."""

from __future__ import annotations

import errno
import io
import math
import os
import pickle
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import IS_ROOT, QUIET, leftovers_now, no_power, script, snapshot

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

TRUE = ["true"]
CALLS: dict[str, Callable[..., Any]] = {
    "run": nsdemo.run,
    "spawn": nsdemo.spawn,
    "chroot_run": lambda args, **options: nsdemo.chroot_run("/", args, **options),
    "enter": lambda args, **options: nsdemo.enter(os.getpid(), args, **options),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 40


def refused(
    kind: type[BaseException], words: str, call: Callable[..., Any], *args: Any, **options: Any
) -> Any:
    """The exception of a call; nothing may be left behind even while it is held."""
    before = snapshot()
    with pytest.raises(kind, match=words or None) as caught:
        call(*args, **{**QUIET, **options})
    assert leftovers_now(before) == []
    return caught.value


# -- the command ---------------------------------------------------------------------------------


@every_call
@pytest.mark.parametrize(
    ("args", "kind", "words"),
    [
        ("ls -l", TypeError, "list such as"),
        (b"ls -l", TypeError, "list such as"),
        ([], ValueError, "empty"),
        ([""], ValueError, "empty"),
        (None, TypeError, ""),
        (7, TypeError, ""),
        (["true", 7], TypeError, "arguments must be str"),
        (["true", None], TypeError, "arguments must be str"),
        (["true", "a\0b"], ValueError, "NUL"),
        (["tr\0ue"], ValueError, "NUL"),
        (["true", "x" * 10_000_000], OSError, "10,000,000 bytes"),
        (["true", *["x" * 100_000] * 100], OSError, "together"),
    ],
)
def test_args(call: Callable[..., Any], args: Any, kind: type[Exception], words: str) -> None:
    error = refused(kind, words, call, args)
    if kind is OSError:
        assert error.errno == errno.E2BIG


@every_call
@pytest.mark.parametrize(
    ("env", "kind"),
    [
        ({"A\0": "x"}, ValueError),
        ({"A": "x\0"}, ValueError),
        ({"A=B": "x"}, ValueError),
        ({"": "x"}, ValueError),
        ({"A": 1}, TypeError),
        ({1: "x"}, TypeError),
        (["A=x"], (TypeError, AttributeError)),
    ],
)
def test_env(call: Callable[..., Any], env: Any, kind: Any) -> None:
    refused(kind, "", call, TRUE, env=env)


def programs(folder: Path) -> dict[str, tuple[int, str]]:
    """Files that cannot be executed: the errno of each."""
    busybox = shutil.which("true")
    assert busybox is not None
    elf = bytearray(Path(busybox).read_bytes()[:4096])
    elf[18:20] = (243 if os.uname().machine != "riscv64" else 62).to_bytes(2, "little")
    contents: dict[str, tuple[bytes, int, int]] = {
        "not-executable": (b"#!/bin/sh\n", 0o644, errno.EACCES),
        "other-architecture": (bytes(elf), 0o755, errno.ENOEXEC),
        "no-interpreter": (b"#!/no/such/interpreter\n", 0o755, errno.ENOENT),
        "carriage-return": (b"#!/bin/sh\r\nexit\r\n", 0o755, errno.ENOENT),
        "empty": (b"", 0o755, errno.ENOEXEC),
        "text": (b"hello\n", 0o755, errno.ENOEXEC),
    }
    found = {}
    for name, (content, mode, number) in contents.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(mode)
        found[str(folder / name)] = (number, str(folder / name))
    (folder / "fifo").unlink(missing_ok=True)
    os.mkfifo(folder / "fifo", 0o755)
    found[str(folder / "fifo")] = (errno.EACCES, str(folder / "fifo"))
    found[str(folder)] = (errno.EACCES, str(folder))
    found[str(folder / "missing")] = (errno.ENOENT, str(folder / "missing"))
    found[str(folder / "text" / "below-a-file")] = (errno.ENOTDIR, "")
    found["no-such-command"] = (errno.ENOENT, "no-such-command")
    return found


@pytest.mark.parametrize("call", ["run", "spawn", "chroot_run"])
def test_not_executable(call: str, tmp_path: Path) -> None:
    """The plain exceptions, as subprocess has them."""
    for command, (number, filename) in programs(tmp_path).items():
        kind = type(OSError(number, ""))
        error = refused(kind, "", CALLS[call], [command], env={"PATH": "/usr/bin:/bin"})
        assert type(error) is kind, command
        assert error.errno == number
        if filename:
            assert error.filename == filename
        assert not isinstance(error, nsdemo.NamespaceError)
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), again.errno, again.filename) == (kind, number, error.filename)


# -- the root ------------------------------------------------------------------------------------


def test_root(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "fifo").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for root, number in {
        tmp_path / "missing": errno.ENOENT,
        tmp_path / "file": errno.ENOTDIR,
        tmp_path / "fifo": errno.ENOTDIR,
        tmp_path / "loop": errno.ELOOP,
        tmp_path / "file" / "x": errno.ENOTDIR,
    }.items():
        for call in (nsdemo.run, nsdemo.spawn):
            error = refused(nsdemo.NamespaceError, "", call, TRUE, root=root)
            assert error.errno == number
            assert isinstance(error, type(OSError(number, "")))
            assert str(root) in str(error)
        error = refused(nsdemo.NamespaceError, "", nsdemo.chroot_run, root, TRUE)
        assert (error.errno, error.step.operation) == (number, "chroot")


@pytest.mark.parametrize(
    ("root", "kind"),
    [
        ("", ValueError),
        ("/\0", ValueError),
        (b"/", TypeError),
        (7, TypeError),
        ("/" + "x" * 5000, OSError),
    ],
)
def test_root_of_a_wrong_kind(root: Any, kind: type[Exception]) -> None:
    refused(kind, "", nsdemo.run, TRUE, root=root)
    refused(kind, "", nsdemo.chroot_run, root, TRUE)
    if kind is not TypeError:
        refused(kind, "", nsdemo.run, TRUE, cwd=root)


def test_root_without_proc(tmp_path: Path) -> None:
    """Says so; with mount_proc=False it is no matter. A /proc that is a link is refused."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed")
    (tmp_path / "bin").mkdir()
    shutil.copy(busybox, tmp_path / "bin/busybox")
    command = ["/bin/busybox", "true"]
    error = refused(nsdemo.NamespaceError, "proc", nsdemo.run, command, root=tmp_path)
    assert (error.step.operation, error.errno) == ("mount", errno.ENOENT)
    assert nsdemo.run(command, root=tmp_path, mount_proc=False, **QUIET).returncode == 0
    (tmp_path / "proc").symlink_to("/tmp")
    error = refused(nsdemo.NamespaceError, "proc", nsdemo.run, command, root=tmp_path)
    assert error.step.operation == "mount"


def test_cwd(rootfs: Path) -> None:
    for cwd, number in {"/no/such": errno.ENOENT, "/etc/passwd": errno.ENOTDIR}.items():
        error = refused(nsdemo.NamespaceError, "", nsdemo.run, TRUE, root=rootfs, cwd=cwd)
        assert (error.step.operation, error.errno) == ("chdir", number)
    for cwd in ("", "a\0b"):
        refused(ValueError, "", nsdemo.run, TRUE, cwd=cwd)


# -- targets -------------------------------------------------------------------------------------


@pytest.fixture
def ended() -> int:
    """The pid of a process that has ended and been reaped."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize("way", ["enter", "join", "net", "plan"])
def test_a_dead_pid(way: str, ended: int) -> None:
    calls: dict[str, Callable[..., Any]] = {
        "enter": lambda **o: nsdemo.enter(ended, TRUE, **o),
        "join": lambda **o: nsdemo.run(TRUE, join=ended, **o),
        "net": lambda **o: nsdemo.run(TRUE, net=ended, **o),
        "plan": lambda **o: nsdemo.Plan().join(ended, "net"),
    }
    refused(ProcessLookupError, str(ended), calls[way])


@pytest.mark.parametrize("state", ["ended", "zombie"])
def test_a_target_that_ends_after_the_look_up(state: str) -> None:
    with nsdemo.spawn(["sleep", "1000"], **QUIET) as box:
        plans = [
            nsdemo.enter(box, TRUE, dry_run=True, **QUIET),
            nsdemo.spawn(TRUE, net=box.pid, dry_run=True, **QUIET),
        ]
        plans = plans[:1]
        if state == "zombie":
            os.kill(box.pid, 9)
            time.sleep(0.05)
        else:
            box.kill()
            box.wait()
        for plan in plans:
            error = refused(ProcessLookupError, "", lambda plan=plan, **_: plan.run())
            assert isinstance(error, nsdemo.NamespaceError)


def test_a_reused_pid() -> None:
    """The number names somebody else by now: another start time."""
    core = no_power()._core.append("open_process", 0, (os.getpid(), 1, 0), (None,) * 4)
    plan = nsdemo.Plan._from_core(core).exec(TRUE)
    error = refused(ProcessLookupError, "", plan.run)
    assert error.step.operation == "open_process"


@pytest.mark.parametrize("target", [0, -1, -(2**40), 2**31, 2**32, 2**64])
def test_a_pid_that_cannot_be(target: int) -> None:
    refused((ValueError, ProcessLookupError), "pid", nsdemo.enter, target, TRUE)


@pytest.mark.parametrize("target", [True, False, None, 1.5, [], object(), b"/proc/1"])
def test_no_target(target: Any) -> None:
    refused(TypeError, "target", nsdemo.enter, target, TRUE)


def test_no_namespace_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "fifo")
    for name in ("file", "fifo"):
        refused(ValueError, "no namespace", nsdemo.run, TRUE, net=str(tmp_path / name))
    refused(ValueError, "no namespace", nsdemo.run, TRUE, net=tmp_path)
    refused(FileNotFoundError, "", nsdemo.run, TRUE, net=tmp_path / "missing")
    refused(ValueError, "", nsdemo.run, TRUE, net="a\0b")
    refused(ValueError, "kind uts", nsdemo.run, TRUE, net="/proc/self/ns/uts")
    refused(ValueError, "process", nsdemo.enter, "/proc/self/ns/uts", TRUE)
    refused(ValueError, "process", nsdemo.run, TRUE, join="/proc/self/ns/uts")
    with open(os.devnull) as file:
        refused(ValueError, "no namespace", nsdemo.run, TRUE, net=file)


def test_a_closed_descriptor() -> None:
    class Closed:
        def fileno(self) -> int:
            return 987

    refused(OSError, "987", nsdemo.run, TRUE, net=Closed())
    for stream in ("stdin", "stdout", "stderr"):
        error = refused(OSError, "987", nsdemo.run, TRUE, **{stream: 987})
        assert error.errno == errno.EBADF
        refused(OSError, "987", nsdemo.run, TRUE, **{stream: Closed()})
        refused((OSError, ValueError), "", nsdemo.run, TRUE, **{stream: io.StringIO()})
        refused((TypeError, AttributeError), "", nsdemo.run, TRUE, **{stream: "file"})
    assert refused(OSError, "987", nsdemo.run, TRUE, pass_fds=[987]).errno == errno.EBADF
    for fds, kind in (
        ([True], TypeError),
        (["1"], TypeError),
        ([-1], OSError),
        ([2**40], Exception),
    ):
        refused(kind, "", nsdemo.run, TRUE, pass_fds=fds, capture_output=True)


def test_a_pid_of_another_user() -> None:
    if not IS_ROOT:
        error = refused(PermissionError, "belongs to", nsdemo.enter, 1, TRUE)
        assert error.errno in (errno.EACCES, errno.EPERM)
        return
    body = "report(**outcome(lambda: nsdemo.enter(int(sys.argv[1]), ['true'])))"
    found = script(body, str(os.getpid()), ordinary=True).report
    assert "PermissionError" in found["error"]["type"]
    assert "belongs to uid 0" in found["error"]["text"]
    assert found["left"] == []


# -- ids -----------------------------------------------------------------------------------------


@every_call
@pytest.mark.parametrize("name", ["uid", "gid", "groups"])
def test_ids(call: Callable[..., Any], name: str) -> None:
    def wrap(value: Any) -> Any:
        return [value] if name == "groups" else value

    for value in (True, False, 1.0, "0", "root", "", b"0", [0], (), {}, object(), math.nan):
        refused(TypeError, "", call, TRUE, **{name: wrap(value)})
    for value in (-1, -2, 2**32 - 1, 2**32, 2**32 + 1, 2**63, 2**64, -(2**31), -(2**63)):
        refused(ValueError, str(2**32 - 2), call, TRUE, **{name: wrap(value)})
    for value in (0, 1, 65534, 2**31 - 1, 2**31, 2**32 - 2):
        plan = call(TRUE, **{name: wrap(value)}, dry_run=True, **QUIET)
        assert any(step.operation == f"set{name}" for step in plan)


def test_ids_are_told_by_name() -> None:
    refused(TypeError, "pwd.getpwnam", nsdemo.run, TRUE, uid="www-data")
    refused(TypeError, "uid", nsdemo.run, TRUE, user="www-data")
    refused(TypeError, "list of numbers", nsdemo.run, TRUE, groups="audio")
    refused(ValueError, "65536", nsdemo.run, TRUE, groups=range(65537))
    for umask, kind in (
        (True, TypeError),
        ("022", TypeError),
        (-1, ValueError),
        (0o1000, ValueError),
    ):
        refused(kind, "umask", nsdemo.run, TRUE, umask=umask)


def test_ids_at_the_edge_are_really_taken() -> None:
    """The largest id that the kernel knows is not cut off on its way."""
    if not IS_ROOT:
        pytest.skip("only root may become somebody else")
    for value in (1, 2**31 - 1, 2**31, 2**32 - 2):
        done = nsdemo.run(["id", "-u"], uid=value, gid=value, capture_output=True, **QUIET)
        assert int(done.stdout) == value


# -- what would touch the host, or cannot be -----------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"mount": False, "mount_proc": True},
        {"mount": False, "root": "/"},
        {"uts": False, "hostname": "box"},
        {"mount": False, "propagation": "shared"},
        {"mount": False, "propagation": "slave"},
        {"propagation": "public"},
        {"root_method": "magic", "root": "/"},
        {"pid": False, "init": True},
        {"fork": False, "init": True},
        {"hostname": ""},
        {"hostname": "x" * 65},
        {"hostname": "a\0b"},
        {"process_group": -1},
        {"process_group": 2**31},
        {"process_group": 2**64},
        {"stdin": 2**31},
        {"stdout": 2**32 + 1},
        {"stderr": -(2**40)},
        {"pass_fds": [2**64]},
        {"process_group": 0, "start_new_session": True},
        {"stdout": nsdemo.STDOUT},
        {"stdin": nsdemo.STDOUT},
    ],
    ids=lambda options: "-".join(map(str, options)),
)
def test_value_errors(options: dict[str, Any]) -> None:
    refused(ValueError, "", nsdemo.run, TRUE, **options)
    refused(ValueError, "", nsdemo.spawn, TRUE, **options)


def test_run_options() -> None:
    refused(ValueError, "input", nsdemo.run, TRUE, input=b"", stdin=nsdemo.PIPE)
    refused(ValueError, "capture", nsdemo.run, TRUE, capture_output=True, stdout=nsdemo.PIPE)
    for text, data in ((True, b"bytes"), (None, "str"), (True, 7)):
        refused(TypeError, "input", nsdemo.run, TRUE, input=data, text=text, stdin=None)
    refused(LookupError, "", nsdemo.run, TRUE, input="x", stdin=None, encoding="no-such-code")
    refused(UnicodeError, "", nsdemo.run, TRUE, input="\udc80", stdin=None, encoding="utf-8")


# The command makes a file if it ever runs; the arguments are for use after its launch.
@pytest.mark.parametrize(
    "wrong",
    [
        {"encoding": "no-such-code"},
        {"encoding": "hex"},  # no encoding of text
        {"encoding": "utf-8", "errors": "no-such-handler"},
        {"text": True, "errors": "no-such-handler"},
    ],
    ids=lambda wrong: "-".join(map(str, wrong.values())),
)
@pytest.mark.parametrize("tty", [False, True], ids=["pipes", "tty"])
def test_what_is_used_after_the_launch_is_looked_at_before(
    wrong: dict[str, Any], tty: bool, tmp_path: Path
) -> None:
    made = ["touch", str(tmp_path / "ran")]
    for call in (nsdemo.run, nsdemo.spawn):
        options = {"stdin": None, "tty": True} if tty else {"stdout": nsdemo.PIPE}
        if tty and call is nsdemo.run:
            options["capture_output"] = True
        refused(LookupError, "", call, made, **options, **wrong)
    for bad in (math.nan, "5", []):
        options = {"stdin": None, "tty": tty, "capture_output": True, "timeout": bad}
        refused((TypeError, ValueError), "", nsdemo.run, made, **options)
    time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("env", [3, "A=1", ["A=1"], [("A", "1")], object], ids=repr)
def test_an_environment_that_is_no_mapping(env: Any) -> None:
    for call in CALLS.values():
        refused(TypeError, "env is a mapping", call, TRUE, env=env)
    refused(TypeError, "env is a mapping", lambda **_: nsdemo.Plan().exec(TRUE, env=env))


@pytest.mark.parametrize("timeout", ["5", [], math.nan, object()])
def test_timeout(timeout: Any) -> None:
    refused((TypeError, ValueError), "", nsdemo.run, TRUE, timeout=timeout, capture_output=True)


def test_timeout_without_an_end() -> None:
    for timeout in (math.inf, 1e30, 2**62):
        done = nsdemo.run(TRUE, timeout=timeout, capture_output=True, **QUIET)
        assert done.returncode == 0


def test_refused_by_an_audit_hook() -> None:
    body = """
        def refuse(event, args):
            if event == "nsdemo.launch":
                raise PermissionError("not here")
        sys.addaudithook(refuse)
        report(found=[
            outcome(lambda: nsdemo.run(["true"], capture_output=True, input=b"x")),
            outcome(lambda: nsdemo.spawn(["true"], stdin=-1, stdout=-1, stderr=-1)),
        ])
    """
    for found in script(body).report["found"]:
        assert found["error"]["text"] == "not here"
        assert found["at_once"] == found["left"] == []


# -- a caller without power ----------------------------------------------------------------------


def test_user_false_without_power() -> None:
    body = """
        report(**outcome(lambda: nsdemo.run(["true"], user=False)))
    """
    found = script(body, ordinary=True).report
    assert found["error"]["operation"] == "clone"
    assert "PermissionError" in found["error"]["type"]
    assert found["error"]["errno"] == errno.EPERM
    assert found["at_once"] == found["left"] == []


# -- exceptions travel ---------------------------------------------------------------------------


def test_everything_pickles() -> None:
    done = nsdemo.run(["sh", "-c", "echo out"], capture_output=True, **QUIET)
    again = pickle.loads(pickle.dumps(done))
    assert (again.args, again.returncode, again.stdout, again.trace) == (
        done.args,
        done.returncode,
        done.stdout,
        done.trace,
    )
    assert type(again) is nsdemo.CompletedProcess
    step = done.trace[0]
    assert pickle.loads(pickle.dumps(step)) == step
    failures = [
        lambda: nsdemo.run(["false"], check=True, **QUIET),
        lambda: nsdemo.run(["sleep", "9"], timeout=0.05, **QUIET),
        lambda: nsdemo.run(["/no/such"], **QUIET),
        lambda: nsdemo.run(TRUE, root="/no/such", **QUIET),
        lambda: nsdemo.run(["sh", "-c", "kill -9 $$"], init=True, check=True, **QUIET),
    ]
    for failure in failures:
        with pytest.raises(Exception) as caught:
            failure()
        again = pickle.loads(pickle.dumps(caught.value))
        assert type(again) is type(caught.value)
        assert str(again) == str(caught.value)
        assert getattr(again, "__notes__", []) == getattr(caught.value, "__notes__", [])


def test_programs_are_what_they_claim(tmp_path: Path) -> None:
    """The table above is not vacuous: subprocess says the same about each."""
    for command, (number, _) in programs(tmp_path).items():
        with pytest.raises(OSError) as caught:
            subprocess.run([command], env={"PATH": "/usr/bin:/bin"})
        found = caught.value.errno
        assert found == number or {found, number} <= {errno.ENOENT, errno.ENOTDIR}
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)
    assert sys.platform == "linux"
