"""The flags of the command line: words in, one of the three calls out.

The command line and the notebook's magics both read them here. A flag that is not given is not
passed on, so the defaults are those of the Python calls.

    >>> call = nsdemo.flags.read("spawn", ["--hostname", "boxy", "hostname"])
    >>> call.plan(call.command).run(capture_output=True).stdout
    b'boxy\\n'
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ._api import chroot_run, enter, spawn
from ._flag_words import FlagError, Parser, number, seconds, target
from ._launch.container import Container
from ._plan.plan import Plan
from ._request.option import CHROOT, ENTER, SPAWN
from ._request.options import NAMESPACES, OPTIONS

__all__ = [
    "Call",
    "FlagError",
    "Parser",
    "chroot_parser",
    "containers",
    "enter_parser",
    "number",
    "read",
    "seconds",
    "spawn_parser",
]


def _parser(call: str, name: str, words: str, description: str) -> Parser:
    """A parser with the flags that the table of options has for a call."""
    parser = Parser(name, words, description)
    for option in OPTIONS:
        for flag in option.flags:
            if call in (flag.calls or option.calls):
                parser.add_flag(flag, flag.keyword or option.name)
    return parser


def chroot_parser() -> Parser:
    """The flags of ``nsdemo chroot``, which are those of chroot(1) and more.

    Example:
        >>> print(flags.chroot_parser().format_usage())
        usage: nsdemo chroot [OPTION...] ...
    """
    return _parser(
        CHROOT,
        "chroot",
        "[OPTION...] ROOT [CMD [ARG...]]",
        "Run a command (default: sh) with ROOT as its /. No jail: for that, spawn --root.",
    )


def spawn_parser() -> Parser:
    """The flags of ``nsdemo spawn``, which are those of unshare(1) and more.

    Example:
        >>> print(flags.spawn_parser().format_usage())
        usage: nsdemo spawn [OPTION...] ...
    """
    return _parser(
        SPAWN,
        "spawn",
        "[OPTION...] [CMD [ARG...]]",
        "Run a command (default: a shell) in new namespaces, with a fresh /proc and,\n"
        "with --root, under a root of its own. New by default: mount, uts, ipc, pid;\n"
        "user, too, for an ordinary user. TARGET, a pid or a namespace file, is joined.",
    )


def enter_parser() -> Parser:
    """The flags of ``nsdemo enter``, which are those of nsenter(1) and more.

    Example:
        >>> print(flags.enter_parser().format_usage())
        usage: nsdemo enter [OPTION...] ...
    """
    return _parser(
        ENTER,
        "enter",
        "[OPTION...] PID [CMD [ARG...]]",
        "Run a command (default: sh) inside the container of process PID: in all its\n"
        "namespaces that are not ours already, and under its root.",
    )


PARSERS = {"chroot": chroot_parser, "spawn": spawn_parser, "enter": enter_parser}


# -- the three calls -----------------------------------------------------------------------


class Call:
    """One of the three calls, as a command line asks for it.

    Attributes:
        name: "chroot", "spawn" or "enter".
        keywords: the arguments for the Python call, but for the command and its environment.
        command: the words of the command, if any.
        more: the options that are the caller's own, see ``read``.
        dry_run, trace, timeout: what to do with the plan; timeout in seconds or None.

    Example:
        >>> call = flags.read("chroot", ["--uid", "65534", "/srv/root", "ls", "/"])
        >>> call.name, call.keywords["uid"], call.command
        ('chroot', 65534, ['ls', '/'])
    """

    def __init__(
        self, name: str, keywords: dict[str, Any], command: list[str], more: dict[str, Any]
    ) -> None:
        self.name = name
        self.command = command
        self.more = more
        self.dry_run: bool = keywords.pop("dry_run", False)
        self.trace: bool = keywords.pop("trace", False)
        self.timeout: float | None = keywords.pop("timeout", None)
        self._added: dict[str, str] = keywords.pop("env", {})
        self._clear: bool = keywords.pop("clear_env", False)
        self.keywords = keywords

    @property
    def inside(self) -> bool:
        """Is the command looked up under another root than ours?"""
        return self.name != "spawn" or bool(self.keywords.keys() & {"root", "join"})

    def plan(self, args: Sequence[str], **stdio: Any) -> Plan:
        """The plan that runs ``args``; stdio arguments are those of subprocess.Popen."""
        if self._clear:
            stdio["env"] = self._added
        elif self._added:
            # What the command would have got: the plan knows, so the rule stays in one place.
            default = self._recipe(args)._core.command()[1]
            stdio["env"] = dict(entry.split("=", 1) for entry in default) | self._added
        return self._recipe(args, **stdio)

    def _recipe(self, args: Sequence[str], **more: Any) -> Plan:
        given = {**self.keywords, **more}
        plan: Plan
        match self.name:
            case "chroot":
                plan = chroot_run(given.pop("root"), args, dry_run=True, **given)
            case "enter":
                plan = enter(given.pop("target"), args, dry_run=True, **given)
            case _:
                plan = spawn(args, dry_run=True, **given)
        return plan


def read(
    name: str,
    words: Sequence[str],
    variables: Mapping[str, Any] | None = None,
    extend: Callable[[Parser], None] | None = None,
) -> Call:
    """Understand the words of a command line.

    Args:
        name: "chroot", "spawn" or "enter".
        words: what follows the name.
        variables: where a directory or a target may be named by a variable, as in a notebook; a
            directory that is called like one is written ./NAME.
        extend: adds options of the caller's own to the parser; they come back as ``more``.

    Returns:
        Call.

    Raises:
        FlagError: an unknown flag, a missing word, a target that is none.
        SystemExit: after --help, which is printed.

    Example:
        >>> flags.read("enter", ["box", "hostname"], {"box": box}).keywords["target"] is box
        True
    """
    parser = PARSERS[name]()
    theirs = {action.dest for action in parser._actions}
    if extend is not None:
        extend(parser)
    first = {"chroot": "root", "enter": "target"}.get(name)
    keywords, command = _arguments(parser, words, first)
    for key in ("root", "join", "target", *NAMESPACES):
        if isinstance(word := keywords.get(key), str) and word in (variables or {}):
            assert variables is not None
            keywords[key] = _from_variable(parser, key, word, variables[word])
    if name == "chroot":
        uid, gid = keywords.pop("userspec", (None, None))
        keywords = {"uid": uid, "gid": gid, **keywords}
    if isinstance(keywords.get("target"), str):
        parser.error(_no_target(keywords["target"], variables))
    more = {key: keywords.pop(key) for key in keywords.keys() - theirs - {"root", "target", "gid"}}
    return Call(name, keywords, command, more)


def _from_variable(parser: Parser, key: str, name: str, value: Any) -> Any:
    """What a variable stands for: a directory, or a container, a pid, what has one."""
    if key == "root":
        return value if isinstance(value, (str, os.PathLike)) else name
    if isinstance(value, Container) or hasattr(value, "fileno"):
        return value
    pid = getattr(value, "pid", value)
    if isinstance(pid, bool) or not isinstance(pid, int):
        parser.error(f"{name} is a {type(value).__name__}, not a container or a pid")
    return pid


def _no_target(text: str, variables: Mapping[str, Any] | None) -> str:
    if variables is None:
        return f"the target is a pid, not {text!r}"
    running = ", ".join(containers(variables)) or "none"
    return f"{text!r} is neither a variable nor a pid (running containers here: {running})"


def containers(variables: Mapping[str, Any]) -> list[str]:
    """The names of running containers among variables.

    Example:
        >>> flags.containers({"box": box, "number": 3})
        ['box']
    """
    return [
        name
        for name, value in variables.items()
        if isinstance(value, Container) and not value._has_ended() and name[:1] != "_"
    ]


def _arguments(
    parser: Parser, words: Sequence[str], first: str | None = None
) -> tuple[dict[str, Any], list[str]]:
    """(options given, command); with ``first``, a word before the command and its key."""
    options, rest = parser.split(words)
    found: dict[str, Any] = {}
    asked_for_help = "--help" in options or "-h" in options
    if first is not None and not any(w.partition("=")[0] in ("-t", "--target") for w in options):
        if rest:
            word, *rest = rest
            found[first] = target(word) if first == "target" else word
            more, rest = parser.split(rest)
            options += more
        elif not asked_for_help:
            parser.error(f"{first.upper()} is missing")
    found.update(vars(parser.parse_args(options)))
    return found, rest
