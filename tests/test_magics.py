"""The cell magics in a real kernel: live output, floods, interrupts, restarts, mistakes."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kernels import Kernel, running_kernel
from support import QUIET, eventually, new_marker, processes_with

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("ordinary_users_may")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory, rootfs: Path) -> Iterator[Kernel]:
    with running_kernel(tmp_path_factory.mktemp("kernel")) as kernel:
        kernel.fine(f"%load_ext nsdemo\nimport nsdemo\nrootfs = {str(rootfs)!r}")
        yield kernel


@pytest.fixture
def own_kernel(tmp_path: Path) -> Iterator[Kernel]:
    """One that may be killed."""
    with running_kernel(tmp_path) as kernel:
        kernel.fine("%load_ext nsdemo")
        yield kernel


@pytest.fixture
def marker() -> Iterator[str]:
    marker = new_marker()
    yield marker
    left = processes_with(marker)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


# -- what a cell does ------------------------------------------------------------------------


def test_spawn_runs_the_body_inside(kernel: Kernel) -> None:
    cell = kernel.fine(
        '%%spawn --root rootfs --hostname boxy\necho "I am $$ on $(hostname)"\necho complaint >&2\n'
        'for word in a "b c"; do\n    echo "$word"\ndone\n'
    )
    assert cell.stdout == "I am 1 on boxy\na\nb c\n"
    assert cell.stderr == "complaint\n"


def test_chroot_runs_the_body_under_another_root(kernel: Kernel, rootfs: Path) -> None:
    inside = sorted(os.listdir(rootfs))
    for name in ("rootfs", str(rootfs), "{rootfs}", f"--umask 027 {rootfs}"):
        cell = kernel.fine(f"%%chroot {name}\nls /\numask\n")
        assert cell.stdout.split()[:-1] == inside
    assert cell.stdout.split()[-1] == "0027"


def test_enter_joins_by_variable_and_by_pid(kernel: Kernel) -> None:
    kernel.fine(
        "box = nsdemo.spawn(['sleep', '600'], root=rootfs, hostname='boxy', stdin=nsdemo.DEVNULL)"
    )
    pid = kernel.fine("print(box.pid)").stdout.strip()
    for target in ("box", pid, "{box.pid}", "--target box --wd /"):
        cell = kernel.fine(f"%%enter {target}\nhostname; readlink /proc/1/exe\n")
        assert cell.stdout == "boxy\n/bin/busybox\n"
    kernel.fine("box.stop()")


def test_a_variable_may_be_anything_with_a_pid(kernel: Kernel) -> None:
    kernel.fine("class Engine: pass\nengine = Engine()")
    with nsdemo.spawn(["sleep", "600"], hostname="theirs", **QUIET) as box:
        kernel.fine(f"engine.pid = {box.pid}")
        assert kernel.fine("%%enter engine\nhostname\n").stdout == "theirs\n"
        assert kernel.fine("%%spawn --uts=engine\nhostname\n").stdout == "theirs\n"
        assert kernel.fine("%%spawn --join engine\nhostname\n").stdout == "theirs\n"


def test_a_variable_that_is_no_directory_does_not_hide_one(kernel: Kernel, rootfs: Path) -> None:
    kernel.fine(f"import os\nother = 5\nos.symlink({str(rootfs)!r}, 'other')")
    assert kernel.fine("%%chroot other\npwd\n").stdout == "/\n"
    assert kernel.fine("rootfs_before, rootfs = rootfs, 'nothing-here'").stdout == ""
    try:
        assert kernel.run("%%chroot rootfs\npwd\n").error == "NamespaceError"
        kernel.fine("os.symlink(rootfs_before, 'rootfs')")
        assert kernel.fine("%%chroot ./rootfs\npwd\n").stdout == "/\n"
    finally:
        kernel.fine("rootfs = rootfs_before")


def test_stdin_is_empty(kernel: Kernel) -> None:
    for head in ("%%spawn", "%%spawn --root rootfs", "%%chroot rootfs"):
        assert kernel.fine(f"{head}\nread line || echo nothing\ncat\n").stdout == "nothing\n"


def test_the_shell_is_the_first_that_is_found(kernel: Kernel) -> None:
    kernel.fine("only_bash = nsdemo.Rootfs.from_host(['bash', 'sleep'])")
    show = "echo ${BASH_VERSION:+bash} $0\n"
    assert kernel.fine(f"%%spawn --root only_bash\n{show}").stdout == "bash bash\n"
    assert kernel.fine(f"%%chroot only_bash\n{show}").stdout == "bash bash\n"
    assert kernel.fine(f"%%spawn --root rootfs\n{show}").stdout == "sh\n"
    assert kernel.fine(f"%%spawn --root rootfs --shell ash\n{show}").stdout == "ash\n"
    kernel.fine("box = nsdemo.spawn(['sleep', '600'], root=only_bash, stdin=nsdemo.DEVNULL)")
    assert kernel.fine(f"%%enter box\n{show}").stdout == "bash bash\n"
    kernel.fine("box.stop(); only_bash.remove()")


def test_a_status_is_an_error_unless_one_says_no(kernel: Kernel) -> None:
    cell = kernel.run("%%spawn\necho before\nexit 3\n")
    assert (cell.error, cell.stdout) == ("CalledProcessError", "before\n")
    assert cell.traceback == (
        "CalledProcessError: the script ended with status 3; --no-raise-error lets that pass"
    )
    killed = kernel.run("%%chroot /\nkill -TERM $$\n")
    assert "was ended by signal 15 (Terminated)" in killed.traceback
    kernel.fine("%%spawn --no-raise-error\nexit 3\n")
    caught = kernel.fine(
        "import subprocess\n"
        "try:\n    get_ipython().run_cell_magic('spawn', '', 'exit 4')\n"
        "except subprocess.CalledProcessError as error:\n    print(error.returncode, error.cmd)"
    )
    assert caught.stdout == "4 exit 4\n"


def test_pictures(kernel: Kernel) -> None:
    with nsdemo.spawn(["sleep", "600"], **QUIET) as box:
        for line in ("%ns", f"%ns {box.pid}", f"%ns {os.getpid()} {box.pid}"):
            (shown,) = kernel.fine(line).data
            assert set(shown) == {"text/plain", "text/html"}
        assert "pid" in shown["text/plain"]
    planned = kernel.fine("%%spawn --dry-run --hostname boxy\necho never\n")
    assert "never" not in planned.stdout
    assert 'sethostname("boxy"' in planned.data[0]["text/plain"]
    traced = kernel.fine("%%spawn --trace\necho hello\n")
    assert traced.stdout == "hello\n"
    assert "clone(" in traced.data[0]["text/plain"]


def test_the_readme_shows_a_container_in_three_cells(own_kernel: Kernel) -> None:
    readme = Path(__file__).resolve().parent.parent / "README.md"
    section = readme.read_text().partition("## In a notebook\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^```\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert len(cells) == 3
    first = [own_kernel.fine(cell) for cell in cells]
    assert "<svg" in first[2].data[0]["text/html"]
    first[1].until(lambda cell: cell.stdout == "I am 1 on boxy\n")


# -- live ------------------------------------------------------------------------------------


def test_output_is_shown_while_the_script_runs(kernel: Kernel, tmp_path: Path) -> None:
    """The script waits for a file that is made only once its first lines have been seen."""
    go = tmp_path / "go"
    wait = f"while [ ! -e {go} ]; do sleep 0.05; done"
    cell = kernel.start(f"%%spawn\necho one; printf 'no end of line' >&2\n{wait}\necho two\n")
    cell.until(lambda cell: "one\n" in cell.stdout and "no end of line" in cell.stderr)
    assert not cell.done
    go.touch()
    assert cell.finish().stdout == "one\ntwo\n"


def test_a_character_that_comes_in_two_halves(kernel: Kernel) -> None:
    script = r"printf '\303'; sleep 0.3; printf '\244 \377'"
    assert kernel.fine(f"%%spawn\n{script}\n").stdout == "ä \ufffd"


def peak_memory(pid: int) -> int:
    """The most memory that a process ever had, in kB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def test_a_flood_neither_hangs_the_kernel_nor_fills_it(own_kernel: Kernel) -> None:
    own_kernel.fine("%%spawn\nfor i in 1 2 3; do echo; done\n")
    before = peak_memory(own_kernel.pid)
    flood = "yes 0123456789 | head -c 100000000; echo; echo this is the end\n"
    cell = own_kernel.run(f"%%spawn\n{flood}", timeout=60)
    assert not cell.error
    assert cell.stdout.startswith("0123456789\n0123456789\n")
    assert cell.stdout.endswith("\nthis is the end\n")
    assert "bytes are not shown; these are the last lines:]\n0123456789\n" in cell.stdout
    left_out = int(cell.stdout.partition("\n[")[2].split()[0].replace(",", ""))
    shown = cell.stdout.encode()
    note = cell.stdout.partition("\n[")[2].partition("]\n")[0]
    assert len(shown) < 30_000
    assert left_out + len(shown) - len(f"\n[{note}]\n") == 100_000_000 + len("\nthis is the end\n")
    assert peak_memory(own_kernel.pid) - before < 30_000


@pytest.mark.parametrize("lines", [1999, 2000, 2010, 2020, 2021, 5000])
def test_many_lines(kernel: Kernel, lines: int) -> None:
    """The first 2000 lines, and the last 20; nothing is said to be missing that is not."""
    shown = kernel.fine(f"%%spawn\nseq {lines}\n").stdout
    everything = "".join(f"{number}\n" for number in range(1, lines + 1))
    if lines <= 2020:
        assert shown == everything
        return
    first, _, rest = shown.partition("\n[")
    note, _, last = rest.partition("]\n")
    assert first == "".join(f"{number}\n" for number in range(1, 2001))
    assert last == "".join(f"{number}\n" for number in range(lines - 19, lines + 1))
    assert int(note.split()[0].replace(",", "")) == len(everything) - len(first) - len(last)


def test_long_lines_without_end(kernel: Kernel) -> None:
    script = "head -c 300000 /dev/zero | tr '\\0' x; printf end"
    shown = kernel.fine(f"%%spawn\n{script}\n").stdout
    first, _, rest = shown.partition("\n[")
    assert set(first) == {"x"}
    assert len(first) == 256 * 1024
    assert rest.endswith("xend")
    assert len(rest) < 9000
    # The cut goes through a character here; nothing is missing, so it is whole again.
    script = "head -c 262143 /dev/zero | tr '\\0' x; printf '\\303\\244'"
    assert kernel.fine(f"%%spawn\n{script}\n").stdout == "x" * 262143 + "ä"


def test_an_endless_flood_can_be_interrupted(kernel: Kernel) -> None:
    cell = kernel.start("%%spawn --root rootfs\nyes\n").until(lambda cell: len(cell.stdout) > 1000)
    kernel.manager.interrupt_kernel()
    assert cell.finish().error == "KeyboardInterrupt"
    assert len(cell.stdout) < 300_000


# -- ending ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["spawn", "spawn --no-pid", "chroot /", "enter other"])
def test_an_interrupt_ends_the_script_and_nothing_else(
    kernel: Kernel, marker: str, how: str
) -> None:
    kernel.fine("other = nsdemo.spawn(['sleep', '600'], stdin=nsdemo.DEVNULL)\nkept = 42")
    kernel.fine("%%spawn --bg --save background\nsleep 600\n")
    script = f"echo started; sleep {marker} & sleep {marker}; echo never\n"
    cell = kernel.start(f"%%{how}\n{script}").until(lambda cell: "started" in cell.stdout)
    assert eventually(lambda: len(processes_with(marker)) == 2, 20)
    kernel.manager.interrupt_kernel()
    cell.finish()
    assert cell.error == "KeyboardInterrupt"
    assert "never" not in cell.stdout
    assert eventually(lambda: not processes_with(marker))
    alive = kernel.fine("print(kept, other.poll(), background.poll())")
    assert alive.stdout == "42 None None\n"
    kernel.fine("other.stop(); background.stop()")


def test_a_script_that_handles_the_end_is_heard(kernel: Kernel) -> None:
    cell = kernel.start("%%spawn\ntrap 'echo bye; exit' TERM\necho ready\nsleep 60 & wait\n")
    cell.until(lambda cell: "ready" in cell.stdout)
    kernel.manager.interrupt_kernel()
    assert cell.finish().stdout == "ready\nbye\n"
    assert cell.error == "KeyboardInterrupt"


def test_a_timeout(kernel: Kernel, marker: str) -> None:
    cell = kernel.run(f"%%spawn --timeout 0.3\necho started; sleep {marker}\n")
    assert cell.error == "TimeoutExpired"
    assert "the script was ended after 0.3 seconds" in cell.traceback
    assert cell.stdout == "started\n"


@pytest.mark.parametrize("how", ["spawn", "spawn --no-pid", "chroot /"])
def test_what_a_script_leaves_behind_ends_with_the_cell(
    kernel: Kernel, marker: str, how: str
) -> None:
    assert kernel.fine(f"%%{how}\nsleep {marker} & echo done\n").stdout == "done\n"
    assert eventually(lambda: not processes_with(marker))


def test_what_a_script_leaves_in_a_container_lives_as_long_as_that(
    kernel: Kernel, marker: str
) -> None:
    kernel.fine("box = nsdemo.spawn(['sleep', '600'], stdin=nsdemo.DEVNULL)")
    kernel.fine(f"%%enter box\nsleep {marker} &\n")
    assert eventually(lambda: processes_with(marker)), "the shell may end before that is executed"
    kernel.fine("box.stop()")
    assert eventually(lambda: not processes_with(marker))


def test_the_container_that_was_entered_ends_first(kernel: Kernel) -> None:
    kernel.fine("box = nsdemo.spawn(['sleep', '600'], stdin=nsdemo.DEVNULL)")
    cell = kernel.start("%%enter box\necho inside; sleep 600\n")
    cell.until(lambda cell: "inside" in cell.stdout)
    pid = next(
        pid
        for pid in processes_with("600")
        if Path(f"/proc/{pid}/stat").read_text().split()[3] == str(kernel.pid)
    )
    os.kill(pid, signal.SIGKILL)
    cell.finish()
    assert cell.error == "CalledProcessError"
    assert "was ended by signal 9 (Killed)" in cell.traceback
    assert kernel.fine("print(box.wait())").stdout == "-9\n"


def test_a_container_in_the_background(kernel: Kernel, marker: str) -> None:
    first = kernel.fine(f"%%spawn --bg --save box --hostname boxy\necho here; sleep {marker}\n")
    first.until(lambda cell: "here" in cell.stdout)
    assert kernel.fine("print(box.poll())").stdout == "None\n"
    assert kernel.fine("%%enter box\nhostname\n").stdout == "boxy\n"
    # The same cell once more: the first container gives way.
    kernel.fine(f"%%spawn --bg --save box --hostname boxy\necho again; sleep {marker}\n")
    assert eventually(lambda: len(processes_with(marker)) == 1)
    kernel.fine("box.stop()")


def test_background_output_belongs_to_its_cell(kernel: Kernel, tmp_path: Path) -> None:
    go = tmp_path / "go"
    wait = f"while [ ! -e {go} ]; do sleep 0.05; done"
    cell = kernel.fine(f"%%spawn --bg --save box\n{wait}\necho late\n")
    other = kernel.fine("1 + 1")
    go.touch()
    cell.until(lambda cell: cell.stdout == "late\n")
    assert kernel.fine("print(box.wait())").stdout == "0\n"
    assert other.stdout == ""


def test_saved_for_its_trace(kernel: Kernel) -> None:
    kernel.run("%%spawn --save done\nexit 5\n")
    cell = kernel.fine("print(type(done).__name__, done.returncode, done.trace[-1].operation)")
    assert cell.stdout == "Container 5 exec\n"


def test_a_restart_leaves_no_process(own_kernel: Kernel, marker: str) -> None:
    """The kernel is killed while a cell runs and three containers are in the background."""
    with nsdemo.spawn(["sleep", "600"], **QUIET) as outer:
        sleeps = f"sleep {marker} & sleep {marker}\n"
        own_kernel.fine(f"%%spawn --bg --save one\n{sleeps}")
        own_kernel.fine(f"%%chroot / --bg --save two\n{sleeps}")
        own_kernel.fine(f"%%enter {outer.pid} --bg --save three\n{sleeps}")
        own_kernel.start(f"%%chroot /\n{sleeps}")
        assert eventually(lambda: len(processes_with(marker)) == 8, 20)
        own_kernel.restart()
        assert eventually(lambda: not processes_with(marker))
        assert outer.poll() is None
        assert own_kernel.run("one").error == "NameError"


# -- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("%%enter", "TARGET is missing"),
        ("%%enter nobody", "'nobody' is neither a variable nor a pid (running containers here: "),
        ("%%enter text", "text is a str, not a container or a pid"),
        ("%%enter yes", "yes is a bool, not a container or a pid"),
        ("%%spawn --net=text", "text is a str, not a container or a pid"),
        ("%%chroot", "ROOT is missing"),
        ("%%spawn --nope", "unrecognized arguments: --nope"),
        ("%%spawn --nope", "%%spawn --help lists the options"),
        ("%%spawn --setuid root", "invalid number value"),
        ("%%spawn echo hello", "the script is the cell: 'echo hello'"),
        ("%%spawn 'a", "no closing quotation"),
        ("%%spawn --save 1x", "--save takes the name of a variable, not '1x'"),
        ("%%spawn --save class", "--save takes the name of a variable, not 'class'"),
        ("%%spawn --bg", "--bg needs --save NAME"),
        ("%%spawn --bg --save x --timeout 1", "--timeout is for a cell that waits"),
        ("%%spawn --tty", "a notebook has no terminal"),
        ("%ns nobody", "'nobody' is neither a variable nor a pid"),
    ],
)
def test_a_mistake_in_the_first_line(kernel: Kernel, head: str, words: str) -> None:
    kernel.fine("ended = nsdemo.spawn(['true']); ended.wait(); text = 'hello'; yes = True")
    cell = kernel.run(head if head.startswith("%ns") else f"{head}\necho never\n")
    assert words in cell.stderr
    assert cell.stderr.startswith("UsageError: ")
    assert (cell.stdout, cell.traceback) == ("", "")


@pytest.mark.parametrize(
    ("head", "error", "words"),
    [
        ("%%enter ended", "ProcessLookupError", "the container has ended (status 0)"),
        ("%%enter ended", "ProcessLookupError", "%%spawn --bg --save NAME"),
        ("%%enter 4194304", "ProcessLookupError", "there is no process 4194304"),
        ("%%spawn --join ended", "ProcessLookupError", "the container has ended"),
        ("%%spawn --root /nowhere/x", "NamespaceError", "open the root /nowhere/x: No such file"),
        ("%%chroot empty", "FileNotFoundError", "there is no shell inside: 'sh or bash'"),
        ("%%chroot empty", "FileNotFoundError", "Rootfs.from_host(['bash'])"),
        ("%%spawn --shell zsch", "FileNotFoundError", "'zsch'"),
        ("%%spawn --hostname x --no-uts", "ValueError", "it would rename the host"),
        ("%%spawn --save saved --wd /nowhere/x", "NamespaceError", "/nowhere/x"),
    ],
)
def test_what_cannot_be_started(kernel: Kernel, head: str, error: str, words: str) -> None:
    kernel.fine("ended = nsdemo.spawn(['true']); ended.wait(); empty = nsdemo.Rootfs()")
    count = "!ls -l /proc/$PPID/fd | grep -c pipe:"
    before = int(kernel.fine(count).stdout)
    cell = kernel.run(f"{head}\necho never\n")
    assert cell.error == error
    assert words in cell.traceback
    assert "magics.py" not in cell.traceback
    assert cell.stdout == ""
    assert kernel.run("saved").error == "NameError"
    assert int(kernel.fine(count).stdout) <= before
    kernel.fine("empty.remove()")


@pytest.mark.leaves("pyzmq starts a thread of its own with the first large message")
def test_a_script_that_is_too_long(kernel: Kernel) -> None:
    cell = kernel.run(f"%%spawn\n: {'x' * 131072}\n")
    assert cell.stderr.startswith("UsageError: the script is longer than 128 KiB")
    assert kernel.fine(f"%%spawn\n: {'x' * 131000}\necho fits\n").stdout == "fits\n"


def test_help(kernel: Kernel) -> None:
    assert kernel.fine("%%enter --help\n:\n").stdout.startswith("usage: %%enter TARGET [OPTION...]")
    assert "--hostname NAME" in kernel.fine("%%spawn --help\n:\n").stdout


# -- completion ------------------------------------------------------------------------------


def test_completion(kernel: Kernel) -> None:
    kernel.fine(
        "boxy = nsdemo.spawn(['sleep', '600'], stdin=nsdemo.DEVNULL)\n"
        "boxes = 3\nbox_root = nsdemo.Rootfs()"
    )
    assert kernel.complete("%%enter bo\necho") == ["boxy"]
    assert kernel.complete("%ns bo") == ["boxy"]
    assert kernel.complete("%%spawn --join bo") == ["boxy"]
    assert kernel.complete("%%spawn --root bo") == ["box_root"]
    assert kernel.complete("%%chroot bo\n") == ["box_root"]
    assert kernel.complete("%%spawn --hostn") == ["--hostname"]
    assert set(kernel.complete("%%enter --no-r")) >= {"--no-root", "--no-raise-error"}
    kernel.fine("boxy.stop(); box_root.remove()")


def test_unload_and_load_again(own_kernel: Kernel) -> None:
    own_kernel.fine("%unload_ext nsdemo")
    assert "not found" in own_kernel.run("%%spawn\necho never\n").stderr
    own_kernel.fine("%load_ext nsdemo")
    assert own_kernel.fine("%%spawn\necho here\n").stdout == "here\n"
