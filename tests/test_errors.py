"""An error comes whole, wherever it happens: what it says, its trace, its hints, and no more."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import IMPORTABLE, IS_ROOT, QUIET

import nsdemo
from nsdemo import _errors, flags

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can prepare this failure")


# -- trace and hint --------------------------------------------------------------------------------


def raised(call: Callable[[], Any]) -> Any:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


FAILURES: dict[str, Callable[[], Any]] = {
    "step": lambda: nsdemo.run(["true"], root="/nsdemo/none", **QUIET),
    "exec": lambda: nsdemo.run(["no-such-command"], **QUIET),
    "check": lambda: nsdemo.run(["false"], check=True, **QUIET),
    "timeout": lambda: nsdemo.run(["sleep", "9"], timeout=0.05, stdout=nsdemo.PIPE, **QUIET),
    "chroot_run": lambda: nsdemo.chroot_run("/", ["false"], check=True, **QUIET),
    "plan": lambda: nsdemo.Plan().exec(["false"]).run(check=True, **QUIET),
    "tty": lambda: nsdemo.run(["false"], tty=True, capture_output=True, check=True),
    "tty timeout": lambda: nsdemo.run(["sleep", "9"], tty=True, capture_output=True, timeout=0.05),
}


@pytest.mark.parametrize("name", FAILURES)
def test_every_error_has_its_trace_and_the_whole_text(name: str) -> None:
    error = raised(FAILURES[name])
    assert error.trace[-1].operation in ("exec", "open_root")
    assert isinstance(error.trace, tuple)
    assert error.hint == "\n".join([str(error), *getattr(error, "__notes__", [])])
    again = pickle.loads(pickle.dumps(error))
    assert (again.trace, again.hint) == (error.trace, error.hint)


def test_a_container_that_takes_too_long() -> None:
    with nsdemo.spawn(["sleep", "1000"], stdout=nsdemo.PIPE, **QUIET) as box:
        for call in (box.wait, lambda timeout: box.communicate(timeout=timeout)):
            error = raised(lambda call=call: call(timeout=0.05))
            assert isinstance(error, subprocess.TimeoutExpired)
            assert error.trace == box.trace
            assert error.hint == str(error)
        box.kill()


def test_the_hints_reach_a_log(caplog: pytest.LogCaptureFixture) -> None:
    error = raised(FAILURES["step"])
    logging.getLogger("test").error("%s", error.hint)
    (note,) = error.__notes__
    assert note in caplog.text
    assert str(error) in caplog.text


def test_errors_without_a_plan() -> None:
    for call in (
        lambda: nsdemo.Rootfs.from_host(["no-such-program"]),
        lambda: nsdemo.release("/proc/self/status"),
    ):
        error = raised(call)
        assert error.hint.startswith(str(error))
        assert all(note in error.hint for note in getattr(error, "__notes__", ()))


# -- where our own files are out of reach ----------------------------------------------------------

CALLS = """
    calls = {
        "step": lambda: nsdemo.run(["true"], root="/nsdemo/none"),
        "exec": lambda: nsdemo.run(["no-such-command"]),
        "chroot": lambda: nsdemo.chroot_run("/nsdemo/none", ["true"]),
        "power": lambda: plan.run(),
        "target": lambda: nsdemo.enter(1, ["true"]),
    }
    plan = nsdemo.Plan().drop_bounding([]).capabilities([]).chdir("/nsdemo/none").exec(["true"])
    def failed():
        found = {}
        for name, call in calls.items():
            try:
                call()
            except OSError as error:
                whole = getattr(error, "hint", str(error))
                found[name] = [errno.errorcode[error.errno], str(error), len(whole)]
            except BaseException as error:
                found[name] = [repr(error), "", 0]
        return found
"""


def fresh(body: str, *args: str, package: str = IMPORTABLE) -> Any:
    """A script that has imported nsdemo, and nothing of it that is loaded later."""
    import json
    import textwrap

    begin = (
        f"import errno, json, os, resource, sys\nsys.path.insert(0, {package!r})\nimport nsdemo\n"
    )
    code = begin + textwrap.dedent(CALLS) + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_without_descriptors() -> None:
    """What is wrong is that there are none; or what was wrong before: never an import."""
    body = """
        hoard = []
        def fill(free):
            resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(7)[1]))
            try:
                while True:
                    hoard.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                pass
            for _ in range(free):
                os.close(hoard.pop())
        found = []
        for free in range(8):
            fill(free)
            found.append(failed())
        while hoard:
            os.close(hoard.pop())
        print(json.dumps([found, failed()]))
    """
    full, after = fresh(body)
    for found in full:
        for code, text, length in found.values():
            assert code in ("EMFILE", "ENOENT", "EPERM", "EACCES"), (code, text)
            assert "nsdemo/_" not in text, "the file of a module, not the error"
            assert length >= len(text)
    assert after["step"][0] == after["exec"][0] == after["chroot"][0] == "ENOENT"
    assert after["exec"][2] > len(after["exec"][1]), "hints are there again"


@needs_root
def test_after_chroot(tmp_path: Path) -> None:
    body = """
        os.mkdir(sys.argv[1] + "/proc")
        os.chroot(sys.argv[1])
        os.chdir("/")
        print(json.dumps(failed()))
    """
    found = fresh(body, str(tmp_path))
    assert found["exec"][0] in ("EINVAL", "ENOENT", "EPERM")
    for code, text, _ in found.values():
        assert code.startswith("E"), (code, text)
        assert "module" not in text


def test_after_the_package_has_gone(tmp_path: Path) -> None:
    package = Path(shutil.copytree(Path(nsdemo.__file__).parent, tmp_path / "at" / "nsdemo"))
    body = """
        import shutil
        shutil.rmtree(sys.argv[1])
        print(json.dumps(failed()))
    """
    found = fresh(body, str(package), package=str(package.parent))
    assert found["step"][0] == found["exec"][0] == found["chroot"][0] == "ENOENT"
    assert found["step"][1].startswith("[Errno 2] open the root /nsdemo/none")
    for code, text, _ in found.values():
        assert code.startswith("E"), (code, text)


# -- what a container chose ------------------------------------------------------------------------

ESCAPE = "\x1b]0;mine\x07\x1b[2J\n\u202e\x9b1m"


def is_clean(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def test_printable() -> None:
    assert _errors.printable("plain \u00e4 text") == "plain \u00e4 text"
    shown = _errors.printable(ESCAPE + "\udcff")
    assert shown.isprintable()
    assert "\\x1b[2J\\n\\u202e\\x9b1m\\udcff" in shown


@pytest.mark.parametrize("kind", ["script", "link", "path", "cwd", "bind", "loader"])
def test_no_escape_reaches_a_terminal(kind: str, rootfs: Any, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(rootfs, root, symlinks=True)
    bad = "bad" + ESCAPE.replace("/", "")
    options: list[str] = []
    command = "/bin/it"
    if kind == "script":
        (root / "bin/it").write_bytes(b"#!/no" + ESCAPE.replace("\n", "").encode() + b"\n")
        (root / "bin/it").chmod(0o755)
    elif kind == "link":
        (root / "bin/it").symlink_to("/" + bad)
    elif kind == "path":
        command = f"/bin/{bad}"
    elif kind == "cwd":
        options = [f"--cwd=/{bad}"]
    elif kind == "bind":
        options = ["--bind", f"{tmp_path}/{bad}", "/mnt"]
    else:
        elf = bytearray(Path(os.path.realpath(sys.executable)).read_bytes())
        at = elf.find(b"/lib64/ld-linux-x86-64.so.2\0")
        if at < 0:
            pytest.skip("another loader")
        elf[at : at + 27] = b"/x\x1b[2J\x1b[1;31m" + b"a" * 13
        (root / "bin/it").write_bytes(elf)
        (root / "bin/it").chmod(0o755)
    words = [sys.executable, "-m", "nsdemo", "spawn", "--root", str(root), *options, command]
    user = [] if IS_ROOT else ["--user"]
    words[4:4] = user
    done = subprocess.run(
        [*words[:4], "--trace", *words[4:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": IMPORTABLE, "PYTHONIOENCODING": "utf-8:surrogateescape"},
    )
    said = done.stderr.decode(errors="surrogateescape")
    assert done.returncode in (125, 126, 127), said
    assert is_clean(said), repr(said)
    call = flags.read("spawn", words[4:])
    plan = call.plan(call.command)
    assert is_clean(str(plan)), repr(str(plan))
    error = raised(lambda: plan.run(**QUIET))
    assert is_clean(str(error)), repr(str(error))
    for text in (error.hint, *getattr(error, "__notes__", ()), *map(str, error.trace)):
        assert is_clean(text), repr(text)


def test_the_equivalent_command_is_one_line_and_the_same_words() -> None:
    words = ["a'b\\c", ESCAPE, "\udcff", "plain"]
    line = str(nsdemo.Plan().exec(["printf", "%s|", *words])).splitlines()[-1]
    assert is_clean(line)
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    told = subprocess.run([bash, "-c", line.removeprefix("# equals: ")], capture_output=True)
    assert told.stdout == b"".join(os.fsencode(word) + b"|" for word in words)


def test_a_program_that_writes_maps_speaks_plainly() -> None:
    step = nsdemo.Step("map_ids", ("uid_map", "0 0 1", "/usr/bin/newuidmap"), None, errno.EPERM)
    said = b"newuidmap: \x1b[31mno\nno\xff"
    error = _errors.setup_failed(step, (step,), "write\x1b", ("a\x07",), said)
    assert str(error).isprintable()
    assert error.__notes__ == ["a\\x07"]
    assert "newuidmap: \\x1b[31mno; no\\xff" in str(error)
