"""The tour says what the kernel says: to root, to an ordinary user, and where it is refused."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import processor_time

import nsdemo
from nsdemo._cli import screen

SOURCE = str(Path(nsdemo.__file__).resolve().parents[1])
SYSTEM_PYTHON = "/usr/bin/python3"  # one that an ordinary user may execute
SECONDS = 10.0  # what the tour promises, here of a processor; it takes a fifth of one


def python_for_others() -> str | None:
    """A Python that can import this package as an ordinary user."""
    for python in (sys.executable, SYSTEM_PYTHON):
        probe = [python, "-c", "import nsdemo"]
        found = shutil.which("setpriv")
        if found is None:
            return None
        answer = subprocess.run(
            [found, "--reuid=65534", "--regid=65534", "--clear-groups", *probe],
            env={"PYTHONPATH": SOURCE, "PATH": os.environ["PATH"]},
            cwd="/",
            capture_output=True,
        )
        if answer.returncode == 0:
            return python
    return None


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
CALLERS = [
    pytest.param("self", id="self"),
    pytest.param("ordinary", id="ordinary user", marks=needs_root),
    pytest.param("unshare", id="unshare -r"),
    pytest.param("refused", id="refused", marks=needs_root),
]


def too_long(lines: list[str]) -> list[str]:
    """Lines over 80 characters, but for the last: to be pasted, with a path that is the user's."""
    return [line for line in lines[:-1] if len(line) > 80]


def command(caller: str, temporary: Path) -> list[str]:
    tour = ["-m", "nsdemo", "tour"]
    if caller == "self":
        return [sys.executable, *tour]
    if caller == "unshare":
        return ["unshare", "--map-root-user", sys.executable, *tour]
    python = python_for_others()
    if python is None:
        pytest.skip("no Python here that an ordinary user can import this package with")
    temporary.chmod(0o777)
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if caller == "ordinary":
        return [*become, python, *tour]
    # The kernel makes no user namespace for a process whose root is not its namespace's.
    inside = " ".join([*become, python, *tour])
    script = f'mount --rbind / /mnt && cd / && exec chroot /mnt sh -c "{inside}"'
    return ["unshare", "--mount", "sh", "-c", script]


def run(words: list[str], temporary: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        cwd="/",
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": SOURCE,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUTF8": "1",
            "TMPDIR": str(temporary),
            **env,
        },
    )


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A directory that every user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="nsdemo-tour-", dir="/tmp") as name:
        Path(name).chmod(0o777)
        yield Path(name)


def table(text: str, heading: str) -> dict[str, list[str]]:
    """The rows of the table below a line, by their first word."""
    after = text[text.index(heading) :].split("\n\n")[0].splitlines()[1:]
    return {line.split()[0]: line.split()[1:] for line in after if len(line.split()) > 2}


@pytest.mark.parametrize("caller", CALLERS)
def test_everybody_sees_a_whole_tour(caller: str, temporary: Path) -> None:
    before = processor_time()
    answer = run(command(caller, temporary), temporary)
    assert processor_time() - before < SECONDS
    assert answer.stderr == ""
    assert answer.returncode == 0
    text = answer.stdout
    lines = text.splitlines()
    assert too_long(lines) == []
    assert not [line for line in lines if line != line.rstrip()]
    assert "\x1b" not in text
    assert "Traceback" not in text
    for number, word in enumerate(("chroot", "unshare", "setns"), 1):
        if caller != "refused" or number < 3:
            assert re.search(rf"^{number}  .*\({word}.* ─+$", text, re.MULTILINE)
    assert re.search(r"ROOT: +removed$", text, re.MULTILINE)
    assert "nsdemo-rootfs-" not in Path("/proc/self/mountinfo").read_text()
    assert list(temporary.iterdir()) == []
    last = lines[-1].strip()
    assert last.endswith("nsdemo lsns" if caller == "refused" else "nsdemo spawn --hostname boxy")


@pytest.mark.parametrize("caller", CALLERS[:3])
def test_what_it_says_is_so(caller: str, temporary: Path) -> None:
    text = run(command(caller, temporary), temporary).stdout
    ours = nsdemo.namespaces()

    spaces = table(text, "              inside      outside")
    assert list(spaces) == list(ours)
    for name, (inside, outside, word) in spaces.items():
        if name != "user" or caller != "unshare":
            assert int(outside) == ours[name][1]
        assert word == ("shared" if inside == outside else "isolated")
    isolated = {name for name, row in spaces.items() if row[2] == "isolated"}
    new_user = caller == "ordinary" or (caller == "self" and os.geteuid() != 0)
    assert isolated == {"mount", "uts", "ipc", "pid"} | ({"user"} if new_user else set())

    facts: dict[str, str] = dict(
        re.findall(r"^    ([a-z][a-z /]+?)  +(\S+) +\S+$", text, re.MULTILINE)
    )
    assert facts["process id"] == "1"
    assert facts["host name"] == "boxy"
    assert facts["processes in /proc"] == "1"
    assert facts["user id"] == "0"
    seen: dict[str, str] = dict(
        re.findall(r"^    ([a-z][a-z /]+?)  +\S+ +(\S+)$", text, re.MULTILINE)
    )
    assert seen["host name"] == os.uname().nodename
    pid = seen["process id"]
    assert seen["user id"] == {"ordinary": "65534", "unshare": "0"}.get(caller, str(os.geteuid()))
    assert f"Process {pid}, which becomes" in text
    assert "which is this program" in text
    assert f"nsenter --target {pid} --mount --uts --ipc --pid" in text
    assert "\n    Hello\n" in text
    assert re.search(r"Cannot (allocate memory|fork)", text)
    assert re.search(r"mount_proc=True\)\n    1\n", text)
    assert int(re.search(r"mount_proc=False\)\n    (\d+)\n", text)[1]) > 2  # type: ignore[index]
    assert re.search(r"processes in its namespaces: +0$", text, re.MULTILINE)
    assert not Path(f"/proc/{pid}").exists()
    for call in ("chroot(ROOT)", "clone(CLONE_NEWNS|", "pivot_root(", "setns(", "execve("):
        assert call in text
    assert re.search(r"mounts in ROOT: +0$", text, re.MULTILINE)


@needs_root
def test_where_it_is_refused_it_says_so(temporary: Path) -> None:
    text = run(command("refused", temporary), temporary).stdout
    refusal = r"This machine refuses: make new namespaces\s+\([^)]*--user\):\s+Operation\s+not"
    assert len(re.findall(refusal, text)) == 2
    assert "a plan that is not run" not in text
    assert text.count("only the plan can be shown") == 2
    assert "clone(CLONE_NEWUSER|" in text
    assert re.search(r"Not possible:[^.]*\buts\b", text)
    assert "Forbidden by:" in text
    assert str(nsdemo.namespaces()["uts"][1]) in text


def test_the_helper_does_what_is_said_of_it() -> None:
    """It stays if it watches. New clocks take a helper."""
    with nsdemo.spawn(["sleep", "60"], time=True) as box:
        watches = [step.pid for step in box.trace if step.operation == "watch"]
        others = {step.pid for step in box.trace} - {box.pid} - set(watches)
        assert watches
        assert all(Path(f"/proc/{pid}").exists() for pid in watches)
        assert not any(Path(f"/proc/{pid}").exists() for pid in others)


def test_the_next_command_works(temporary: Path) -> None:
    answer = run(command("self", temporary), temporary)
    line = answer.stdout.splitlines()[-1]
    shell = run(["sh", "-c", f"printf 'echo $$; hostname; exit 3' | {line}"], temporary)
    assert shell.returncode == 3
    assert shell.stdout.split() == ["1", "boxy"]


def test_ascii_where_the_output_cannot_do_better(temporary: Path) -> None:
    words = command("self", temporary)
    text = run(words, temporary, PYTHONUTF8="0", PYTHONIOENCODING="ascii").stdout
    assert text.isascii()
    assert " us  " in text
    assert "\\" not in text.replace("\\n", "")


def on_a_terminal(words: list[str], **env: str) -> str:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        words,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "PYTHONPATH": SOURCE, "TERM": "xterm", "COLUMNS": "80", **env},
    )
    os.close(slave)
    text = b""
    while select.select([master], [], [], 30)[0]:
        try:
            text += os.read(master, 65536)
        except OSError:  # the other end is closed
            break
    process.wait()
    os.close(master)
    return text.decode()


def test_colour_only_on_a_terminal_that_wants_it(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.delenv("NO_COLOR", raising=False)
    words = command("self", temporary)
    coloured = on_a_terminal(words)
    assert "\x1b[32misolated\x1b[0m" in coloured
    plain = re.sub(r"\x1b\[\d+m", "", coloured)
    assert "\x1b" not in plain
    assert too_long(plain.splitlines()) == []
    assert "\x1b" not in on_a_terminal(words, NO_COLOR="1")
    assert "\x1b" not in on_a_terminal(words, TERM="dumb")


@pytest.mark.parametrize("room", [30, 40, 60, 72])
def test_long_calls_are_broken_at_commas(room: int) -> None:
    call = (
        'mount("proc", "ROOT/proc", "proc", MS_NOSUID|MS_NODEV|MS_NOEXEC, NULL); '
        "setns(target, CLONE_NEWNS|CLONE_NEWUTS|CLONE_NEWIPC|CLONE_NEWPID|CLONE_NEWUSER)"
    )
    lines = screen._wrap_call(call, room)
    assert all(len(line) <= room for line in lines)
    assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", call)
