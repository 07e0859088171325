"""The command line: the three calls with flags, doctor, tour and lsns.

A flag that is not given is not passed on, so the defaults are those of the Python calls. Exit
statuses are those of chroot(1), env(1) and timeout(1): see EPILOG.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import nsdemo

TIMED_OUT = 124
SETUP_FAILED = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127
KILLED = 128

EPILOG = """\
exit status: the command's; 128+N if signal N ended it; 124 after --timeout;
125 if the container could not be set up; 126 if the command is not executable;
127 if it is not found"""

USAGE = """\
usage: nsdemo COMMAND ...

  nsdemo tour                                  a container, made step by step before your eyes
  nsdemo doctor                                what this machine allows, and who forbids the rest
  nsdemo chroot [OPTION...] ROOT [CMD...]      run a command under another / (as chroot)
  nsdemo spawn  [OPTION...] [CMD...]           run a command in new namespaces (as unshare)
  nsdemo enter  [OPTION...] PID [CMD...]       run a command inside a container (as nsenter)
  nsdemo lsns   [OPTION...] [PID]              list namespaces and who is in them
  nsdemo check  ID (FILE | --pid PID)          check a challenge of the course

nsdemo COMMAND --help tells more; nsdemo --version."""

NAMESPACES = ("mount", "uts", "ipc", "pid", "net", "user", "cgroup", "time")


# -- flags ---------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes end with 125, which no command of one's own is likely to use."""

    def __init__(self, name: str, usage: str, description: str, epilog: str = EPILOG) -> None:
        super().__init__(
            prog=f"nsdemo {name}",
            usage=f"nsdemo {name} {usage}",
            description=description,
            epilog=epilog,
            formatter_class=_Help,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )
        self.valued: set[str] = set()  # options that take the next word

    def option(self, *names: str, **settings: Any) -> None:
        action = self.add_argument(*names, **settings)
        if action.nargs is None:
            self.valued.update(names)

    def switch(self, name: str, help: str) -> None:
        """--NAME and --no-NAME."""
        self.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=help)

    def error(self, message: str) -> NoReturn:
        _complain(message)
        _complain(f"hint: {self.prog} --help lists the options")
        raise SystemExit(SETUP_FAILED)

    def split(self, words: Sequence[str]) -> tuple[list[str], list[str]]:
        """Our options at the front, and what follows them: that is not ours to understand."""
        here = 0
        while here < len(words) and words[here].startswith("-") and words[here] != "-":
            if words[here] == "--":
                return list(words[:here]), list(words[here + 1 :])
            here += 2 if words[here] in self.valued else 1
        return list(words[:here]), list(words[here:])


class _Help(argparse.RawDescriptionHelpFormatter):
    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, _NamespaceSwitch):
            return f"{action.option_strings[0]}[=TARGET], {action.option_strings[1]}"
        return super()._format_action_invocation(action)


class _NamespaceSwitch(argparse.Action):
    """--net: a new one; --net=PID or --net=FILE: that one; --no-net: ours."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        negative = option_string is not None and option_string.startswith("--no-")
        if values is not None and (negative or values == ""):
            what = "takes no value" if negative else "needs a pid or a file after ="
            parser.error(f"{option_string} {what}")
        setattr(namespace, self.dest, not negative if values is None else target(values))


class _Environment(argparse.Action):
    """--env NAME=VALUE, any number of times."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        name, equals, value = values.partition("=")
        if not name or not equals:
            parser.error(f"{option_string} takes NAME=VALUE, not {values!r}")
        setattr(namespace, self.dest, {**getattr(namespace, self.dest, {}), name: value})


def target(text: str) -> int | str:
    """A pid, or the path of a namespace file."""
    return int(text) if text.isascii() and text.isdecimal() else text


def _octal(text: str) -> int:
    return int(text, 8)


_octal.__name__ = "octal number"


def _groups(text: str) -> tuple[int, ...]:
    return tuple(int(group) for group in text.split(",") if group)


_groups.__name__ = "list of group numbers"


def _userspec(text: str) -> tuple[int | None, int | None]:
    uid, _, gid = text.partition(":")
    return int(uid) if uid else None, int(gid) if gid else None


_userspec.__name__ = "UID:GID in numbers"


def _common(parser: Parser) -> None:
    """What all three calls take."""
    parser.option("--wd", "--cwd", dest="cwd", metavar="DIR", help="working directory inside")
    parser.option("--env", action=_Environment, metavar="NAME=VALUE", help="add to the environment")
    parser.option("--clear-env", action="store_true", help="begin with an empty environment")
    parser.option("--setuid", "--uid", dest="uid", type=int, metavar="UID", help="become this user")
    parser.option(
        "--setgid", "--gid", dest="gid", type=int, metavar="GID", help="become this group"
    )
    parser.option(
        "--groups", type=_groups, metavar="G,...", help="supplementary groups ('' for none)"
    )
    parser.option("--umask", type=_octal, metavar="MODE", help="file mode mask, octal")
    parser.option(
        "--pass-fd", dest="pass_fds", action="append", type=int, metavar="FD", help="keep FD open"
    )
    parser.switch(
        "start-new-session", "a session of its own (default: unless stdin is the terminal)"
    )
    parser.option("--timeout", type=float, metavar="SECONDS", help="end it after so long")
    parser.option("--dry-run", action="store_true", help="print the system calls; run nothing")
    parser.option("--trace", action="store_true", help="print what the kernel did, at the end")


def chroot_parser() -> Parser:
    parser = Parser(
        "chroot",
        "[OPTION...] ROOT [CMD [ARG...]]",
        "Run a command (default: sh) with ROOT as its /. No jail: for that, spawn --root.",
    )
    parser.option("--userspec", type=_userspec, metavar="UID:GID", help="ids to become")
    _common(parser)
    return parser


def spawn_parser() -> Parser:
    parser = Parser(
        "spawn",
        "[OPTION...] [CMD [ARG...]]",
        "Run a command (default: a shell) in new namespaces, with a fresh /proc and,\n"
        "with --root, under a root of its own. New by default: mount, uts, ipc, pid;\n"
        "user, too, for an ordinary user. TARGET, a pid or a namespace file, is joined.",
    )
    for name in NAMESPACES:
        parser.option(
            f"--{name}",
            f"--no-{name}",
            dest=name,
            action=_NamespaceSwitch,
            nargs="?",
            metavar="TARGET",
            help=f"{name} namespace: a new one, the target's, or ours",
        )
    parser.option("--join", type=target, metavar="PID", help="join all namespaces and the root")
    parser.switch("fork", "fork after unsharing (default); without it, see what breaks")
    parser.switch("mount-proc", "mount a new /proc (default: with new mount and pid namespaces)")
    parser.option("--root", metavar="DIR", help="the directory that becomes /")
    parser.option("--root-method", choices=("pivot_root", "chroot"), help="default: pivot_root")
    parser.option(
        "--propagation",
        choices=("private", "slave", "shared", "unchanged"),
        help="of all mounts; default: private",
    )
    parser.option("--hostname", metavar="NAME", help="host name inside")
    parser.switch("init", "stay as a PID 1 that reaps; the command is its child")
    parser.switch("die-with-parent", "end everything when nsdemo ends, even by SIGKILL (default)")
    _common(parser)
    return parser


def enter_parser() -> Parser:
    parser = Parser(
        "enter",
        "[OPTION...] PID [CMD [ARG...]]",
        "Run a command (default: sh) inside the container of process PID: in all its\n"
        "namespaces that are not ours already, and under its root.",
    )
    parser.option("-t", "--target", type=target, metavar="PID", help="the process, if not a word")
    for name in NAMESPACES:
        parser.switch(name, f"join its {name} namespace (default)")
    parser.switch("root", "follow its root directory (default)")
    _common(parser)
    return parser


# -- the three calls -----------------------------------------------------------------------


def _arguments(
    parser: Parser, words: Sequence[str], first: str | None = None
) -> tuple[dict[str, Any], list[str]]:
    """(options given, command); with ``first``, a word before the command and its key."""
    options, rest = parser.split(words)
    found: dict[str, Any] = {}
    asked_for_help = "--help" in options or "-h" in options
    if first is not None and not any(w.partition("=")[0] in ("-t", "--target") for w in options):
        if rest:
            found[first], *rest = rest
            more, rest = parser.split(rest)
            options += more
        elif not asked_for_help:
            parser.error(f"{first.upper()} is missing")
    found.update(vars(parser.parse_args(options)))
    return found, rest


def _chroot(words: Sequence[str]) -> int:
    parser = chroot_parser()
    keywords, command = _arguments(parser, words, "root")
    root = keywords.pop("root")
    uid, gid = keywords.pop("userspec", (None, None))
    keywords = {"uid": uid, "gid": gid, **keywords}

    def plan(args: Sequence[str], **more: Any) -> nsdemo.Plan:
        return nsdemo.chroot_run(root, args, dry_run=True, **more)  # type: ignore[no-any-return]

    return _start(plan, command, keywords, inside=True)


def _spawn(words: Sequence[str]) -> int:
    keywords, command = _arguments(spawn_parser(), words)

    def plan(args: Sequence[str], **more: Any) -> nsdemo.Plan:
        return nsdemo.spawn(args, dry_run=True, **more)  # type: ignore[no-any-return]

    return _start(plan, command, keywords, inside=bool(keywords.keys() & {"root", "join"}))


def _enter(words: Sequence[str]) -> int:
    parser = enter_parser()
    keywords, command = _arguments(parser, words, "target")
    pid = keywords.pop("target")
    if isinstance(pid, str):
        if not (pid.isascii() and pid.isdecimal()):
            parser.error(f"the target is a pid, not {pid!r}")
        pid = int(pid)

    def plan(args: Sequence[str], **more: Any) -> nsdemo.Plan:
        return nsdemo.enter(pid, args, dry_run=True, **more)  # type: ignore[no-any-return]

    return _start(plan, command, keywords, inside=True)


def _start(
    recipe: Callable[..., nsdemo.Plan], command: list[str], keywords: dict[str, Any], inside: bool
) -> int:
    """Make the plan, then print it or run it; ``inside``: the root is not ours."""
    only_print = keywords.pop("dry_run", False)
    with_trace = keywords.pop("trace", False)
    timeout = keywords.pop("timeout", None)
    added = keywords.pop("env", {})
    clear = keywords.pop("clear_env", False)
    shells = [["sh"], ["bash"]] if inside else [[os.environ.get("SHELL") or "sh"], ["sh"]]
    commands = [command] if command else shells
    for number, args in enumerate(commands, 1):
        if clear:
            keywords["env"] = added
        elif added:
            keywords["env"] = _default_environment(recipe, args, keywords) | added
        plan = recipe(args, **keywords)
        if only_print:
            print(plan)
            return 0
        try:
            return _run(plan, timeout, with_trace)
        except FileNotFoundError as error:
            if isinstance(error, nsdemo.NamespaceError) or number == len(commands):
                raise
    raise AssertionError("there is a command to try, or an error")


def _default_environment(
    recipe: Callable[..., nsdemo.Plan], args: Sequence[str], keywords: dict[str, Any]
) -> dict[str, str]:
    """What the command would have got: the plan knows, so the rule stays in one place."""
    without = {key: value for key, value in keywords.items() if key != "env"}
    plan = recipe(args, **without)
    return dict(entry.split("=", 1) for entry in plan._core.command()[1])


def _run(plan: nsdemo.Plan, timeout: float | None, with_trace: bool) -> int:
    from ._foreground import run

    box, code, late = run(plan, timeout)
    if with_trace:
        _print_trace(box.trace)
    if late:
        _complain(f"the command was ended after {timeout:g} seconds")
        return TIMED_OUT
    return KILLED - code if code < 0 else code


# -- words ---------------------------------------------------------------------------------


def _complain(message: str) -> None:
    with contextlib.suppress(OSError):
        print("nsdemo:", message.replace("\n", " "), file=sys.stderr)


def _print_trace(trace: Sequence[nsdemo.Step]) -> None:
    with contextlib.suppress(OSError):
        print(*trace, sep="\n", file=sys.stderr)


def _report(error: Exception) -> int:
    """One line that says what went wrong, hints, and the exit status for it."""
    executed = hasattr(error, "trace") and not isinstance(error, nsdemo.NamespaceError)
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    _complain(text)
    for note in getattr(error, "__notes__", ()):
        _complain(f"hint: {note}")
    if not executed:
        return SETUP_FAILED
    return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE


def _doctor(words: Sequence[str]) -> int:
    usage = "what this machine allows, and who forbids the rest"
    Parser("doctor", "", usage.capitalize() + ".", "").parse_args(words)
    from .doctor import doctor

    print(doctor())
    return 0


def _tour(words: Sequence[str]) -> int:
    Parser("tour", "", "Make a container step by step, and see it.", "").parse_args(words)
    from . import _tour

    return _tour.main()


def _lsns(words: Sequence[str]) -> int:
    from . import _lsns

    return _lsns.main(words)


def _check(words: Sequence[str]) -> int:
    from .check import command

    return command.main(words, Parser)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "chroot": _chroot,
    "spawn": _spawn,
    "enter": _enter,
    "doctor": _doctor,
    "tour": _tour,
    "lsns": _lsns,
    "check": _check,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (default: this process's) and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = words[0] if words else "--help"
    try:
        if name in COMMANDS:
            status = COMMANDS[name](words[1:])
        elif name in ("-h", "--help", "help"):
            print(USAGE)
            status = 0 if words else SETUP_FAILED
        elif name == "--version":
            print("nsdemo", nsdemo.__version__)
            status = 0
        else:
            _complain(f"there is no command {name!r}: the commands are {', '.join(COMMANDS)}")
            status = SETUP_FAILED
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # "| head" has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return KILLED + signal.SIGPIPE
    except KeyboardInterrupt:
        return KILLED + signal.SIGINT
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, nsdemo.NamespaceError) and "--trace" in words:
            _print_trace(error.trace)
        return _report(error)
