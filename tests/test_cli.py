"""The command line: flags are keywords, statuses are the shell's, lsns agrees with lsns(8)."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nsdemo
from nsdemo import flags
from nsdemo._cli import lsns, main

SOURCE = str(Path(nsdemo.__file__).resolve().parents[1])
DEADLINE = 10.0

# What a program can pass and a command line has another way for, or no use.
NOT_FLAGS = {
    "args": "the words after the options",
    "target": "a word",
    "root": "a word of chroot; an option elsewhere",
    "stdin": "redirection",
    "stdout": "redirection",
    "stderr": "redirection",
    "text": "no stream is read here",
    "encoding": "no stream is read here",
    "errors": "no stream is read here",
    "input": "redirection",
    "capture_output": "redirection",
    "check": "the exit status",
    "process_group": "the shell's business",
}


def cli(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": SOURCE, **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "nsdemo", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment,
        **options,
    )


# -- flags ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parser", "call"),
    [
        (flags.chroot_parser(), nsdemo.chroot_run),
        (flags.spawn_parser(), nsdemo.spawn),
        (flags.enter_parser(), nsdemo.enter),
    ],
)
def test_every_keyword_has_a_flag(parser: flags.Parser, call: Callable[..., Any]) -> None:
    flags = {action.dest for action in parser._actions if action.option_strings}
    keywords = set(inspect.signature(call).parameters)
    ours = {"help", "trace", "timeout", "clear_env", "userspec", "target"}
    assert keywords - flags <= NOT_FLAGS.keys()
    assert flags - keywords <= ours
    if call is nsdemo.spawn:
        assert "root" in flags


@pytest.mark.parametrize("name", flags.NAMESPACES)
def test_namespace_switches(name: str) -> None:
    parser = flags.spawn_parser()

    def value(*words: str) -> Any:
        return getattr(parser.parse_args(words), name, "not given")

    assert value() == "not given"
    assert value(f"--{name}") is True
    assert value(f"--no-{name}") is False
    assert value(f"--{name}=17") == 17
    assert value(f"--{name}=/proc/1/ns/x") == "/proc/1/ns/x"
    for wrong in (f"--{name}=", f"--no-{name}=17"):
        with pytest.raises(flags.FlagError):
            value(wrong)


@pytest.mark.parametrize(
    ("words", "options", "command"),
    [
        ([], [], []),
        (["sh", "-c", "--root"], [], ["sh", "-c", "--root"]),
        (["--root", "DIR", "sh"], ["--root", "DIR"], ["sh"]),
        (["--root=DIR", "sh", "--"], ["--root=DIR"], ["sh", "--"]),
        (["--net", "sh"], ["--net"], ["sh"]),
        (["--net", "--", "--odd", "--"], ["--net"], ["--odd", "--"]),
        (["--env", "A=-", "-"], ["--env", "A=-"], ["-"]),
    ],
)
def test_what_follows_the_options_is_the_commands(
    words: list[str], options: list[str], command: list[str]
) -> None:
    assert flags.spawn_parser().split(words) == (options, command)


def test_flags_reach_the_call(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(bytes(8))
    answer = cli(
        *("spawn", "--dry-run", "--root", "/tmp", "--hostname", "boxy", "--propagation", "slave"),
        *("--no-ipc", "--net", "--umask", "027", "--uid", "5", "--gid", "6", "--groups", "7,8"),
        *("--capabilities", "kill,net_raw", "--ambient", "kill", "--no-new-privs"),
        *("--rlimit", "nofile=64", "--rlimit", "as=5:unlimited", "--seccomp", str(program)),
        *("--persist", "net=/run/blue", "--persist", "uts=/run/name", "--domainname", "example"),
        *("--time", "--monotonic", "3600", "--boottime=-1.5"),
        *("--wd", "/x", "--env", "A=1", "--init", "--map-current-user", "--setgroups", "deny"),
        *("true", "--net"),
    )
    expected = nsdemo.spawn(
        ["true", "--net"],
        root="/tmp",
        hostname="boxy",
        propagation="slave",
        ipc=False,
        net=True,
        umask=0o27,
        uid=5,
        gid=6,
        groups=(7, 8),
        capabilities=["kill", "net_raw"],
        ambient=["kill"],
        no_new_privs=True,
        rlimits={"nofile": 64, "as": (5, None)},
        seccomp=bytes(8),
        domainname="example",
        time=True,
        monotonic=3600,
        boottime=-1.5,
        persist={"net": "/run/blue", "uts": "/run/name"},
        cwd="/x",
        init=True,
        uid_map="current",
        setgroups="deny",
        dry_run=True,
    )
    assert answer.stderr == ""
    # The pid of the process to end with is the caller's own.
    ours = [line for line in str(expected).splitlines() if "to end with it" not in line]
    theirs = [line for line in answer.stdout.splitlines() if "to end with it" not in line]
    assert theirs == ours


@pytest.mark.parametrize("word", ["1_0", "\uff11", "\u0661", " 1", "+1", "0x1", "1e1", "--1"])
def test_numbers_are_digits(word: str) -> None:
    """As a shell has them, not as Python has."""
    for flag in ("uid", "gid", "pass-fd", "umask", "groups", "rlimit", "map-user", "owner"):
        value = f"nofile={word}" if flag == "rlimit" else f"{word}:0" if flag == "owner" else word
        with pytest.raises(flags.FlagError):
            flags.read("spawn", [f"--{flag}={value}", "true"])
    if word not in ("+1", "1e1"):
        with pytest.raises(flags.FlagError):
            flags.read("spawn", [f"--timeout={word}", "true"])


def test_numbers_of_seconds() -> None:
    for word, seconds in {"5": 5.0, "0.25": 0.25, ".5": 0.5, "1e-3": 0.001, "2.": 2.0}.items():
        assert flags.read("spawn", ["--timeout", word, "true"]).timeout == seconds


def test_environment() -> None:
    show = ("sh", "-c", 'echo "$A,$B,$C"')
    assert cli("spawn", "--env", "A=1", "--env", "B=x=y", *show, env={"C": "3"}).stdout == (
        "1,x=y,3\n"
    )
    cleared = cli("spawn", "--clear-env", "--env", "A=1", "/bin/sh", *show[1:], env={"C": "3"})
    assert cleared.stdout == "1,,\n"


def test_chroot_and_userspec() -> None:
    with nsdemo.Rootfs.from_host(["sh", "cat", "id"]) as root:
        assert cli("chroot", root.path, "sh", "-c", "echo /*").stdout.startswith("/bin ")
        assert cli("chroot", root.path).returncode == 0  # a shell that reads the end of its input
        if os.geteuid() == 0:
            answer = cli("chroot", "--userspec=12:34", root.path, "id")
            assert answer.stdout.split()[:2] == ["uid=12", "gid=34"]


def test_enter_a_running_container() -> None:
    with nsdemo.spawn(["sleep", "60"], hostname="boxy") as box:
        script = "cat /proc/sys/kernel/hostname; echo $$"
        for words in ([str(box.pid)], [str(box.pid), "--wd=/"], ["--target", str(box.pid)]):
            name, pid = cli("enter", *words, "sh", "-c", script).stdout.split()
            assert name == "boxy"
            assert int(pid) > 1
        assert cli("spawn", f"--uts={box.pid}", "--no-pid", "sh", "-c", script).stdout.startswith(
            "boxy"
        )
        assert cli("spawn", f"--join={box.pid}", "sh", "-c", script).stdout.startswith("boxy")


# -- exit statuses -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["spawn", "true"], 0),
        (["spawn", "sh", "-c", "exit 7"], 7),
        (["spawn", "--no-pid", "sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
        (["spawn", "--init", "sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
        (["spawn", "--timeout", "0.2", "sleep", "60"], 124),
        (["spawn", "--root", "/nonexistent", "true"], 125),
        (["spawn", "--hostname", "x", "--no-uts", "true"], 125),
        (["spawn", "--no-such-flag"], 125),
        (["spawn", "--env", "novalue", "true"], 125),
        (["spawn", "--net=/nonexistent", "true"], 125),
        (["spawn", "--setuid", "root", "true"], 125),
        (["chroot"], 125),
        (["enter"], 125),
        (["enter", "x", "true"], 125),
        (["enter", str(2**22), "true"], 125),
        (["lsns", str(2**22)], 125),
        (["no-such-command"], 125),
        (["spawn", "/etc/passwd"], 126),
        (["spawn", "/"], 126),
        (["spawn", "no-such-program"], 127),
    ],
)
def test_exit_status(words: list[str], status: int) -> None:
    answer = cli(*words)
    assert answer.returncode == status, answer.stderr
    assert "Traceback" not in answer.stderr
    lines = answer.stderr.splitlines()
    assert all(line.startswith("nsdemo: ") for line in lines)
    assert all(line.startswith("nsdemo: hint: ") for line in lines[1:])
    assert bool(lines) == (124 <= status <= 127)


def test_trace_also_of_a_failure() -> None:
    answer = cli("spawn", "--trace", "sh", "-c", "echo said >&2")
    first, *steps = answer.stderr.splitlines()
    assert first == "said"
    assert "clone(CLONE_NEWNS|" in answer.stderr
    assert "execve(" in steps[-1]
    answer = cli("spawn", "--trace", "--root", "/nonexistent", "true")
    assert "= -1 ENOENT" in answer.stderr


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help(word: str) -> None:
    answer = cli(word)
    assert answer.returncode == 0
    assert answer.stdout.startswith(("usage: nsdemo", "nsdemo "))


@pytest.mark.parametrize("command", list(main.COMMANDS))
def test_help_of_each_command(command: str) -> None:
    answer = cli(command, "--help", env={"COLUMNS": "80"})
    assert answer.returncode == 0
    assert all(len(line) <= 80 for line in answer.stdout.splitlines())


def test_closed_pipe_is_no_error() -> None:
    script = f"{sys.executable} -m nsdemo lsns --members | head -n 1"
    answer = subprocess.run(
        ["sh", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": SOURCE},
    )
    assert "BrokenPipe" not in answer.stderr
    assert "Traceback" not in answer.stderr


# -- signals -------------------------------------------------------------------------------


@contextlib.contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "nsdemo", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": SOURCE},
    )
    assert process.stdout is not None
    with process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            if process.returncode is None:
                process.kill()


def wait_for_child(pid: int, name: str) -> None:
    """Wait until a descendant of this name runs."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        family = [pid]
        for each in family:
            with contextlib.suppress(OSError):
                children = Path(f"/proc/{each}/task/{each}/children").read_text().split()
                family += map(int, children)
                if Path(f"/proc/{each}/comm").read_text() == f"{name}\n":
                    return
        time.sleep(0.01)
    raise AssertionError(f"there is no {name}")


TRAP = 'trap "echo caught; exit 9" {}; echo ready; while :; do sleep 0.05; done'
DEAF = "echo ready; exec sleep 60"


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "QUIT"])
def test_a_signal_is_passed_on(name: str) -> None:
    with started("spawn", "bash", "-c", TRAP.format(name)) as process:
        process.send_signal(getattr(signal, f"SIG{name}"))
        assert process.communicate(timeout=DEADLINE)[0] == "caught\n"
    assert process.returncode == 9


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "QUIT"])
def test_a_pid_1_without_a_handler_is_killed(name: str) -> None:
    with started("spawn", "bash", "-c", DEAF) as process:
        wait_for_child(process.pid, "sleep")
        began = time.monotonic()
        process.send_signal(getattr(signal, f"SIG{name}"))
        process.communicate(timeout=DEADLINE)
        assert time.monotonic() - began < 30
    assert process.returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "QUIT"])
@pytest.mark.parametrize("flag", ["--no-pid", "--init"])
def test_any_other_command_ends_by_the_signal_itself(name: str, flag: str) -> None:
    number = getattr(signal, f"SIG{name}")
    with started("spawn", flag, "bash", "-c", DEAF) as process:
        wait_for_child(process.pid, "sleep")
        process.send_signal(number)
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 128 + number


# -- lsns ----------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("lsns") is None, reason="util-linux's lsns is not installed")
def all_rows(rows: list[Any]) -> Iterator[Any]:
    """lsns lists a namespace below the one that it descends from, where it sees that."""
    for row in rows:
        yield row
        yield from all_rows(row.get("children", []))


def test_the_same_as_lsns_of_util_linux() -> None:
    with nsdemo.spawn(["sh", "-c", "sleep 60 & wait"], net=True) as box:
        mine = set(box.namespaces.values()) - set(nsdemo.namespaces().values())
        until = time.monotonic() + DEADLINE
        while True:
            rows = [row for row in lsns.list_namespaces() if (4, row.inode) in mine]
            counts = [len(row.members) for row in rows if row.type == "pid"]
            if counts == [2] or time.monotonic() > until:
                break
        listing = subprocess.run(
            ["lsns", "--json", "--output", "NS,TYPE,NPROCS,PID,USER,COMMAND"],
            capture_output=True,
            text=True,
            check=True,
        )
        theirs = {row["ns"]: row for row in all_rows(json.loads(listing.stdout)["namespaces"])}
        assert {row.inode for row in rows} == {inode for _, inode in mine}
        for row in rows:
            other = theirs[row.inode]
            first = row.members[0]
            assert (row.type, len(row.members)) == (other["type"], other["nprocs"])
            assert (first.pid, first.user) == (other["pid"], other["user"])
            assert first.command == other["command"].rstrip()
            inner = {member.pid: member.inner_pid for member in row.members}
            assert inner[box.pid] == 1


def test_lsns_command() -> None:
    with nsdemo.spawn(["sleep", "60"]) as box:
        answer = json.loads(cli("lsns", "--json", str(box.pid)).stdout)["namespaces"]
        inodes = {row["type"]: row["ns"] for row in answer}
        assert inodes == {kernel: box.namespaces[word][1] for kernel, word in lsns.TYPES.items()}
        (row,) = json.loads(cli("lsns", "-J", "-t", "pid", str(box.pid)).stdout)["namespaces"]
        assert row["members"] == [{"pid": box.pid, "inner_pid": 1}]
        lines = cli("lsns", "--type", "pid", "--members", str(box.pid)).stdout.splitlines()
        assert lines[0].split() == "NS TYPE NPROCS PID INNER-PID USER COMMAND".split()
        assert lines[1].split()[1:5] == ["pid", "1", str(box.pid), "1"]
        assert lines[1].endswith("sleep 60")


def test_lsns_moves_no_cursor() -> None:
    """A process chooses its name; it must not be able to fake a line of the list."""
    name = "evil\n\x1b[2J\u202e name"
    with nsdemo.spawn(["bash", "-c", 'exec -a "$0" sleep 60', name]) as box:
        until = time.monotonic() + DEADLINE
        while "evil" not in (text := cli("lsns", "-t", "pid", str(box.pid)).stdout):
            assert time.monotonic() < until
        assert len(text.splitlines()) == 2
        assert "evil\\n\\x1b[2J\\u202e name" in text
        assert "\x1b" not in text
