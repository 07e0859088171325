"""Standard streams and communicate: large data, text, leaked ends, and parity with subprocess."""

from __future__ import annotations

import os
import pickle
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from support import QUIET, SLOW, descriptors, eventually, new_marker, processes_with, script

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

SIZE = 50 * 1024 * 1024
BOTH = ["sh", "-c", "cat; echo out; echo err >&2; exit 3"]


@pytest.mark.parametrize("way", ["run", "communicate"])
def test_large_data_both_ways(way: str) -> None:
    data = os.urandom(1 << 20) * (SIZE >> 20)
    if way == "run":
        out = nsdemo.run(["cat"], input=data, stdout=nsdemo.PIPE).stdout
    else:
        with nsdemo.spawn(["cat"], stdin=nsdemo.PIPE, stdout=nsdemo.PIPE) as box:
            out, err = box.communicate(data)
            assert err is None
    # Comparing would have pytest describe 50 MB.
    assert (len(out), hash(out)) == (len(data), hash(data))


def test_the_last_words_are_heard() -> None:
    """What is written just before the end: the end must not be seen first."""
    data = b"x" * 300_000
    lengths = [
        len(nsdemo.run(["cat"], input=data, stdout=nsdemo.PIPE, pid=False).stdout)
        for _ in range(60)
    ]
    assert set(lengths) == {len(data)}


def test_large_output_on_two_streams() -> None:
    command = ["sh", "-c", "head -c 20000000 /dev/zero & head -c 10000000 /dev/zero >&2; wait"]
    done = nsdemo.run(command, capture_output=True, **QUIET)
    assert (len(done.stdout), len(done.stderr)) == (20_000_000, 10_000_000)


def test_a_command_that_does_not_listen() -> None:
    """BrokenPipe is no error of ours, and no signal to us; as in subprocess."""
    done = nsdemo.run(["sh", "-c", "exec <&-; echo bye"], input=b"x" * 5_000_000, stdout=-1)
    assert (done.returncode, done.stdout) == (0, b"bye\n")
    with nsdemo.spawn(["true"], stdin=nsdemo.PIPE) as box:
        box.wait()
        assert box.communicate(b"x" * 100_000) == (None, None)
    with nsdemo.spawn(["true"], stdin=nsdemo.PIPE) as box:
        box.wait()
        with pytest.raises(BrokenPipeError):
            os.write(box.stdin.fileno(), b"x")


@pytest.mark.parametrize("way", ["run", "communicate"])
def test_a_leaked_grandchild_holds_stdout(way: str) -> None:
    """Without a pid namespace it lives on with our pipe; nobody waits for it."""
    marker = new_marker()
    command = ["sh", "-c", f"echo out; sleep {marker} & exit 4"]
    began = time.monotonic()
    if way == "run":
        done = nsdemo.run(command, pid=False, stdout=nsdemo.PIPE, **QUIET)
        found = done.returncode, done.stdout
    else:
        box = nsdemo.spawn(command, pid=False, stdout=nsdemo.PIPE, **QUIET)
        found = box.wait(), box.communicate()[0]
    assert time.monotonic() - began < 60
    assert found[1] == b"out\n"
    assert found[0] == 4
    assert (done if way == "run" else box).cut is True
    for pid in eventually(lambda: processes_with(marker)):
        os.kill(pid, 9)


def test_a_leaked_grandchild_that_never_stops_writing() -> None:
    """What lies in the pipe when the command ends is read, and not a pipe without an end."""
    body = """
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        command = ["sh", "-c", "yes & yes & sleep 0.1"]
        done = nsdemo.run(command, pid=False, stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE, timeout=5)
        report(size=len(done.stdout), cut=done.cut)
    """
    found = script(body, timeout=30).report
    assert found["size"] > 1000
    assert found["cut"] is True


LATE = ["sh", "-c", "(sleep 0.3; cat; echo late; echo err >&2) & echo first"]


@pytest.mark.parametrize(
    "call", ["run", "text", "set up on the long way", "communicate", "enter", "chroot_run", "plan"]
)
def test_who_outlives_the_command_is_heard(call: str) -> None:
    """As subprocess does: "cmd > >(filter)" and "a & b" say what they have to say."""
    options: dict[str, Any] = {"capture_output": True, **QUIET}
    with nsdemo.spawn(["sleep", "60"], **QUIET) as box:
        match call:
            case "run":
                done: Any = nsdemo.run(LATE, pid=False, **options)
            case "text":
                done = nsdemo.run(LATE, pid=False, text=True, **options)
                done.stdout, done.stderr = done.stdout.encode(), done.stderr.encode()
            case "set up on the long way":
                done = nsdemo.run(LATE, pid=False, rlimits={"core": 0}, **options)
            case "communicate":
                done = nsdemo.spawn(LATE, pid=False, stdout=-1, stderr=-1, **QUIET)
                done.wait()
                output = done.communicate()
            case "enter":
                done = nsdemo.enter(box, LATE, **options)
            case "chroot_run":
                done = nsdemo.chroot_run("/", LATE, **options)
            case _:
                done = nsdemo.Plan().exec(LATE).run(**options)
    if call != "communicate":
        output = done.stdout, done.stderr
    assert output == (b"first\nlate\n", b"err\n")
    assert (done.returncode, done.cut) == (0, False)


def test_in_a_pid_namespace_nothing_is_cut() -> None:
    """All end with PID 1, and what they had written is there, however much: nobody waits."""
    command = ["sh", "-c", "sleep 1000 & head -c 60000 /dev/zero; exec head -c 5000 /dev/zero"]
    for init in (False, True):
        seconds = []
        for _ in range(3):
            began = time.monotonic()
            done = nsdemo.run(command, init=init, capture_output=True, **QUIET)
            seconds.append(time.monotonic() - began)
            assert (len(done.stdout), done.cut) == (65000, False)
        assert min(seconds) < 1, "it waits a second for who is not there"


def test_what_is_cut_ends_between_characters() -> None:
    """A half-written one is no reason for a UnicodeDecodeError; and a time-out comes first."""
    marker = new_marker()
    command = ["sh", "-c", rf"printf '\303\244\303'; sleep {marker} &"]
    done = nsdemo.run(
        command, pid=False, stdout=nsdemo.PIPE, encoding="utf-8", timeout=0.5 * SLOW, **QUIET
    )
    assert (done.stdout, done.cut) == ("\u00e4", True)
    assert pickle.loads(pickle.dumps(done)).cut is True
    for pid in processes_with(marker):
        os.kill(pid, 9)


def test_input_goes_to_who_outlives_the_command() -> None:
    command = ["bash", "-c", "exec 3<&0; (sleep 0.2; wc -c) <&3 &"]
    done = nsdemo.run(command, pid=False, input=b"x" * 300_000, stdout=nsdemo.PIPE)
    assert (done.stdout, done.cut) == (b"300000\n", False)


def test_results_hold_no_descriptor() -> None:
    before = descriptors()
    own = {"uts": "/proc/self/ns/uts", "user": True, **QUIET}
    held = [nsdemo.run(["true"], **own) for _ in range(3)]
    held += [nsdemo.run(["true"], capture_output=True, **QUIET) for _ in range(3)]
    assert descriptors() == before
    assert {each.returncode for each in held} == {0}


# -- parity --------------------------------------------------------------------------------------

FORMS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "nothing": lambda file: {},
    "pipes": lambda file: {"stdout": -1, "stderr": -1},
    "capture": lambda file: {"capture_output": True},
    "devnull": lambda file: {"stdout": -3, "stderr": -3},
    "merged": lambda file: {"stdout": -1, "stderr": subprocess.STDOUT},
    "merged into a file": lambda file: {"stdout": file, "stderr": subprocess.STDOUT},
    "file": lambda file: {"stdout": file},
    "descriptor": lambda file: {"stdout": file.fileno(), "stderr": -1},
    "crossed": lambda file: {"stdout": 2, "stderr": 1},
    "one to two": lambda file: {"stdout": 2},
    "merged only": lambda file: {"stderr": subprocess.STDOUT},
    "both the same": lambda file: {"stdout": file, "stderr": file.fileno()},
}
TEXTS: dict[str, dict[str, Any]] = {
    "bytes": {"input": b"in\r\n\xc3\xa4\n"},
    "text": {"input": "in\n\u00e4\n", "text": True, "encoding": "utf-8"},
    "latin": {"input": "in\n\u00e4\n", "encoding": "latin-1"},
    "errors": {"input": "in\n", "encoding": "ascii", "errors": "replace"},
    "empty": {"input": b""},
    "none": {"stdin": subprocess.DEVNULL},
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("form", FORMS)
def test_parity(form: str, text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The same result, and the same bytes in files and on our own streams."""
    found = []
    for run in (subprocess.run, nsdemo.run):
        with open(tmp_path / "file", "w+b") as file:
            options = {**TEXTS[text], **FORMS[form](file)}
            done: Any = run(BOTH, **options)  # type: ignore[operator]
            file.seek(0)
            found.append(
                (done.returncode, done.stdout, done.stderr, file.read(), capfd.readouterr())
            )
    assert found[0] == found[1]


def test_popen_parity() -> None:
    """Streams that are read and written by hand."""
    found = []
    for start in (subprocess.Popen, nsdemo.spawn):
        for options in ({}, {"text": True}, {"encoding": "utf-8"}):
            box: Any = start(["cat"], stdin=-1, stdout=-1, **options)
            with box:
                line: Any = "a\n" if options else b"a\n"
                box.stdin.write(line)
                box.stdin.flush()
                first = box.stdout.readline()
                box.stdin.write(line)
                box.stdin.close()
                rest = box.stdout.read()
                status = box.wait()
            found.append((first, rest, status, box.stdin.closed, box.stdout.closed, box.stderr))
    assert found[:3] == found[3:]


def test_pass_fds() -> None:
    """Those and no others, under their own numbers, whatever their order."""
    ends = [os.pipe() for _ in range(3)]
    wanted = sorted({ends[0][1], ends[2][1]})
    spare = os.dup(ends[1][1])
    os.set_inheritable(spare, True)
    command = f"echo hello > /proc/self/fd/{wanted[0]}; echo again > /proc/self/fd/{wanted[1]}"
    command = ["sh", "-c", command + "; ls /proc/self/fd"]  # the shell's >&16 would be a file
    done = nsdemo.run(command, pass_fds=wanted[::-1], stdout=nsdemo.PIPE, **QUIET)
    inside = {int(fd) for fd in done.stdout.split()}
    assert {0, 1, 2, *wanted} <= inside
    assert len(inside) == len(wanted) + 4  # and the directory that ls reads
    assert os.read(ends[0][0], 10) == b"hello\n"
    assert os.read(ends[2][0], 10) == b"again\n"
    for fd in (spare, *(fd for pair in ends for fd in pair)):
        os.close(fd)


def test_communicate_in_one_thread_and_kill_in_another() -> None:
    with nsdemo.spawn(["sh", "-c", "echo out; sleep 1000"], stdout=-1, **QUIET) as box:
        timer = threading.Timer(0.2, box.kill)
        timer.start()
        assert box.communicate()[0] == b"out\n"
        timer.join()
    assert box.returncode == -9
