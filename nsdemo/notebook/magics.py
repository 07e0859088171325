"""``%load_ext nsdemo``: the three calls as cell magics, and ``%ns``.

    %%spawn --root DIR --hostname boxy
    echo "I am $$ on $(hostname)"

The body of the cell is a shell script, which runs inside. The flags are those of the command line,
read by the same parser. Imported by ``load_ipython_extension`` only: it needs IPython.
"""

from __future__ import annotations

import contextlib
import contextvars
import errno
import keyword
import os
import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from IPython.core.error import TryNext, UsageError
from IPython.display import display as _display

import nsdemo
from nsdemo import flags, notebook

from ._stream import Pipes

__all__ = ["Magics"]

display: Callable[[object], object] = _display

SHELLS = ("sh", "bash")
_CLONE_NEWPID = 0x20000000
_LONGEST = 128 * 1024  # what the kernel takes as one argument: MAX_ARG_STRLEN
_PATIENCE = 5  # seconds that an interrupted container has to end by itself

_E = TypeVar("_E", bound=BaseException)

_ABOUT = {
    "chroot": (
        "DIR",
        "Run the cell, a shell script, with DIR as its /. No jail: for that, %%%%spawn --root.",
    ),
    "spawn": (
        "",
        "Run the cell, a shell script, in new namespaces (mount, uts, ipc, pid; user, too, for an\n"
        "ordinary user), with a fresh /proc and, with --root, under a root of its own.",
    ),
    "enter": (
        "TARGET",
        "Run the cell, a shell script, inside a running container: in all its namespaces that are\n"
        "not ours already, and under its root. TARGET is a variable or a pid.",
    ),
}
_EPILOG = """\
A directory or a target may be given by the name of a variable. stdin is empty. The container ends
with the cell (--bg: when its script does), and always with the kernel. Of a flood of output the
first 2,000 lines and the last 20 are shown."""


def _extend(parser: flags.Parser) -> None:
    """What a notebook needs and a command line does not."""
    name = parser.prog.split()[-1]
    word, about = _ABOUT[name]
    parser.prog = f"%%{name}"
    parser.usage = f"%%%%{name} {word + ' ' if word else ''}[OPTION...]"
    parser.description = about
    parser.epilog = _EPILOG
    parser.option("--save", metavar="NAME", help="keep the Container in this variable")
    parser.option(
        "--bg", action="store_true", help="do not wait: the container runs on (with --save)"
    )
    parser.option("--shell", metavar="SHELL", help="default: the first of sh and bash inside")
    parser.switch("raise-error", "a status other than 0 is a CalledProcessError (default)")


class Magics:
    """The magics of one IPython shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._cells = {"chroot": self.chroot, "spawn": self.spawn, "enter": self.enter}

    def register(self) -> None:
        """Make the magics and their completions known to the shell."""
        for name, function in self._cells.items():
            self._shell.register_magic_function(_documented(name, function), "cell", name)
            self._shell.set_hook("complete_command", self._complete, str_key=f"%%{name}")
        self._shell.register_magic_function(self.ns, "line", "ns")
        self._shell.set_hook("complete_command", self._complete, str_key="%ns")
        notebook.show_errors(self._shell)

    def unregister(self) -> None:
        """Take the magics away again."""
        magics = self._shell.magics_manager.magics
        for name in self._cells:
            magics["cell"].pop(name, None)
        magics["line"].pop("ns", None)

    def chroot(self, line: str, cell: str) -> None:
        """%%chroot DIR: a shell script under another /."""
        self._run("chroot", line, cell)

    def spawn(self, line: str, cell: str) -> None:
        """%%spawn: a shell script in new namespaces."""
        self._run("spawn", line, cell)

    def enter(self, line: str, cell: str) -> None:
        """%%enter TARGET: a shell script inside a running container."""
        self._run("enter", line, cell)

    def ns(self, line: str) -> notebook.Picture:
        """Show a namespace card: %ns, %ns box, %ns box pod, %ns 4711.

        A target is a variable or a pid; one is compared with this kernel, two with each other.
        """
        targets = []
        for word in _split(line):
            with _as_usage():
                # The same rules, and the same words for what is no target.
                targets.append(
                    flags.read("enter", ["--", word], self._shell.user_ns, _named_ns).keywords[
                        "target"
                    ]
                )
        return notebook.card(*targets or [os.getpid()])

    # -- a cell ----------------------------------------------------------------------------

    def _run(self, name: str, line: str, cell: str) -> None:
        with _as_usage():
            try:
                call = flags.read(name, _split(line), self._shell.user_ns, _extend)
            except SystemExit:  # --help
                return
            _check(call, cell)
        with _briefly():
            if call.dry_run:
                shell = call.more.get("shell", SHELLS[0])
                display(notebook.plan(call.plan([shell, "-c", cell])))
                return
            self._launch(call, cell)

    def _launch(self, call: flags.Call, cell: str) -> None:
        saved = call.more.get("save")
        if saved is not None and isinstance(
            old := self._shell.user_ns.get(saved), nsdemo.Container
        ):
            _stop(old)  # the cell is run again
        pipes = Pipes()
        with contextlib.ExitStack() as on_failure:
            on_failure.enter_context(pipes)
            box, goes_on = _start(call, cell, pipes)
            on_failure.callback(_stop, box)
            if saved is not None:
                self._shell.user_ns[saved] = box
            if call.more.get("bg"):
                # In this cell's context: ipykernel finds there where output belongs.
                context = contextvars.copy_context()
                work = threading.Thread(
                    target=context.run, args=(_in_background, box, pipes, goes_on), daemon=True
                )
                work.start()
                on_failure.pop_all()
                return
            _in_foreground(box, pipes, call, cell, goes_on)

    # -- completion ------------------------------------------------------------------------

    def _complete(self, shell: Any, event: Any) -> list[str]:
        """Names of containers and roots, or options, for the word at the cursor."""
        magic = event.line.split(None, 1)[0]
        name = magic.lstrip("%")
        if event.symbol.startswith("-") and magic.startswith("%%"):
            parser = flags.PARSERS[name]()
            _extend(parser)
            return [option for action in parser._actions for option in action.option_strings]
        variables = self._shell.user_ns
        before = event.line[: len(event.line) - len(event.symbol)].split()
        if name == "chroot" or before[-1] == "--root":
            found = [key for key, value in variables.items() if isinstance(value, nsdemo.Rootfs)]
        else:
            found = flags.containers(variables)
        if not found:
            raise TryNext
        return found


def _documented(name: str, function: Callable[[str, str], None]) -> Callable[[str, str], None]:
    """A magic whose docstring, which ``%%spawn?`` shows, is the parser's help."""
    parser = flags.PARSERS[name]()
    _extend(parser)

    def magic(line: str, cell: str) -> None:
        function(line, cell)

    magic.__name__ = name
    magic.__doc__ = parser.format_help()
    return magic


def _named_ns(parser: flags.Parser) -> None:
    parser.prog = "%ns"


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:  # a quotation that does not end
        raise UsageError(f"{line!r}: {str(error).lower()}") from None


def _check(call: flags.Call, cell: str) -> None:
    """What is wrong before anything is started."""
    saved = call.more.get("save")
    if call.command:
        word = shlex.join(call.command)
        raise flags.FlagError(f"the script is the cell: {word!r} after the options has no meaning")
    if saved is not None and (not saved.isidentifier() or keyword.iskeyword(saved)):
        raise flags.FlagError(f"--save takes the name of a variable, not {saved!r}")
    if call.more.get("bg") and saved is None:
        raise flags.FlagError("--bg needs --save NAME: without a name nobody could stop it")
    if call.more.get("bg") and call.timeout is not None:
        raise flags.FlagError("--timeout is for a cell that waits: leave out --bg")
    if call.keywords.get("tty"):
        raise flags.FlagError(
            "a notebook has no terminal for --tty: a cell's output is shown as it comes, and "
            "spawn(..., tty=True) in Python gives a terminal to read and write"
        )
    if len(cell.encode("utf-8", "surrogateescape")) >= _LONGEST:
        raise flags.FlagError(
            "the script is longer than 128 KiB, more than the kernel takes as one argument: put "
            "it into a file in the container's root"
        )


def _start(call: flags.Call, cell: str, pipes: Pipes) -> tuple[nsdemo.Container[Any], bool]:
    """Start the first shell that there is; and may what it leaves behind go on?"""
    shells = [call.more["shell"]] if "shell" in call.more else SHELLS
    stdio: dict[str, Any] = {"stdout": pipes.stdout, "stderr": pipes.stderr}
    notes: list[str] = []
    for shell in shells:
        try:
            plan = call.plan([shell, "-c", cell], stdin=nsdemo.DEVNULL, **stdio)
            box = plan.start(die_with_parent=call.keywords.get("die_with_parent", True))
            return box, _goes_on(plan, call)
        except FileNotFoundError as error:
            if isinstance(error, nsdemo.NamespaceError) or len(shells) == 1:
                raise
            notes += [note for note in getattr(error, "__notes__", ()) if note not in notes]
        except ProcessLookupError as error:
            error.add_note(
                "a container ends with its first process; %%spawn --bg --save NAME starts one that "
                "runs on, as long as its script"
            )
            raise
    missing = FileNotFoundError(errno.ENOENT, "there is no shell inside", " or ".join(shells))
    for note in notes:
        missing.add_note(note)
    missing.add_note(
        "--shell names another one; Rootfs.from_host(['bash', ...]) makes a root with one"
    )
    raise missing


def _in_foreground(
    box: nsdemo.Container[Any], pipes: Pipes, call: flags.Call, cell: str, goes_on: bool
) -> None:
    """Show the output until the script has ended; its status and its end are the cell's."""
    in_time = False
    try:
        in_time = pipes.follow(box, call.timeout)
    finally:
        # Also after an interrupt: the container ends, and what it still said is shown.
        status = box.wait() if in_time and goes_on else _stop(box)
        pipes.finish()
        if call.trace:
            display(notebook.timeline(box.trace))
    if not in_time:
        assert call.timeout is not None
        late = nsdemo.TimeoutExpired(cell, call.timeout)
        late.trace, late.hint = box.trace, str(late)  # type: ignore[attr-defined]
        raise _brief(late, f"the script was ended after {call.timeout:g} seconds")
    if status and call.more.get("raise_error", True):
        failed = nsdemo.CalledProcessError(status, cell)
        failed.trace, failed.hint = box.trace, str(failed)  # type: ignore[attr-defined]
        raise _brief(failed, _ended(status))


def _in_background(box: nsdemo.Container[Any], pipes: Pipes, goes_on: bool) -> None:
    with pipes:
        pipes.follow(box)
        box.wait() if goes_on else _stop(box)
        pipes.finish()


def _goes_on(plan: nsdemo.Plan, call: flags.Call) -> bool:
    """May what the script left in the background go on? In a container that was there before."""
    joined = [step.args[0] for step in plan if step.operation == "join"]
    return call.name == "enter" and any(kinds & _CLONE_NEWPID for kinds in joined)


def _ended(status: int) -> str:
    if status < 0:
        how = f"was ended by signal {-status} ({signal.strsignal(-status)})"
    else:
        how = f"ended with status {status}"
    return f"the script {how}; --no-raise-error lets that pass"


def _stop(box: nsdemo.Container[Any]) -> int:
    """End the container, and without a pid namespace the script's process group."""
    try:
        return box.stop(_PATIENCE)
    except KeyboardInterrupt:  # asked for a second time: no more patience
        box.kill()
        box.wait()
        raise


# -- errors ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _as_usage() -> Iterator[None]:
    """A mistake in the first line is a UsageError, which IPython shows as one line."""
    try:
        yield
    except flags.FlagError as error:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        raise UsageError(f"{error}{notes}") from None


@contextlib.contextmanager
def _briefly() -> Iterator[None]:
    """What nsdemo raises is shown without the way through this module, which explains nothing."""
    try:
        yield
    except (OSError, ValueError, TypeError) as error:
        notes = getattr(error, "__notes__", ())
        raise _brief(error, "\n".join([str(error), *notes])) from None
    except KeyboardInterrupt as error:
        raise _brief(error, "the script was interrupted, and its container ended") from None


def _brief(error: _E, text: str) -> _E:
    """The same error, which IPython shows as this text."""
    shown = f"{type(error).__name__}: {text}".splitlines()
    error.__dict__.setdefault("_render_traceback_", lambda: shown)
    return error
