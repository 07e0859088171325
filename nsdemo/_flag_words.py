"""How the words of a command line are read: the parser, and what turns words into values."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from ._request.option import Flag

EPILOG = """\
exit status: the command's; 128+N if signal N ended it; 124 after --timeout;
125 if the container could not be set up; 126 if the command is not executable;
127 if it is not found"""

_DIGITS = re.compile(r"[0-9]+")
_DECIMAL = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

_WHOLE = ("auto", "subids", "all")
_OWN = {"uid_map": os.geteuid, "gid_map": os.getegid}


class FlagError(ValueError):
    """A command line that cannot be understood; a note says where to look it up.

    Example:
        >>> try:
        ...     flags.read("spawn", ["--hostnam", "boxy"])
        ... except flags.FlagError as error:
        ...     print(error)
        unrecognized arguments: --hostnam
    """


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are a FlagError, and that stops at the first word of the command.

    Example:
        >>> parser = flags.spawn_parser()
        >>> parser.parse_args(["--net"]).net
        True
    """

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
        self.valued: dict[str, int] = {}  # options that take the next words, and how many

    def option(self, *names: str, **settings: Any) -> None:
        """An option that may take the next words."""
        action = self.add_argument(*names, **settings)
        if action.nargs is None or isinstance(action.nargs, int):
            words = 1 if action.nargs is None else action.nargs
            self.valued.update(dict.fromkeys(names, words))

    def switch(self, name: str, help: str) -> None:
        """--NAME and --no-NAME."""
        self.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=help)

    def add_flag(self, flag: Flag, keyword: str) -> None:
        """A flag of the table of options."""
        names = flag.names.split()
        if flag.reads == "switch":
            self.switch(names[0].removeprefix("--"), flag.help)
            return
        settings: dict[str, Any] = {"dest": keyword, "help": flag.help}
        reader = globals().get(flag.reads) if flag.reads else None
        if isinstance(reader, type):
            settings["action"] = reader
        elif reader is not None:
            settings["type"] = reader
        elif flag.reads:
            settings["action"] = flag.reads
        if flag.many:
            settings["action"] = "append"
        for name in ("metavar", "choices", "nargs"):
            if (value := getattr(flag, name)) is not None:
                settings[name] = value
        self.option(*names, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise FlagError."""
        mistake = FlagError(message)
        mistake.add_note(f"{self.prog} --help lists the options")
        raise mistake

    def split(self, words: Sequence[str]) -> tuple[list[str], list[str]]:
        """Our options at the front, and what follows them: that is not ours to understand."""
        here = 0
        while here < len(words) and words[here].startswith("-") and words[here] != "-":
            if words[here] == "--":
                return list(words[:here]), list(words[here + 1 :])
            here += 1 + self.valued.get(words[here], 0)
        return list(words[:here]), list(words[here:])


class _Help(argparse.RawDescriptionHelpFormatter):
    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, NamespaceSwitch):
            word = action.metavar
            return f"{action.option_strings[0]}[={word}], {action.option_strings[1]}"
        return super()._format_action_invocation(action)


class NamespaceSwitch(argparse.Action):
    """--net: a new one; --net=PID or --net=FILE: that one; --no-net: ours."""

    wanted = "a pid or a file"

    def read(self, text: str) -> Any:
        """The value as the Python call takes it."""
        return target(text)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        negative = option_string is not None and option_string.startswith("--no-")
        if values is not None and (negative or values == ""):
            what = "takes no value" if negative else f"needs {self.wanted} after ="
            parser.error(f"{option_string} {what}")
        setattr(namespace, self.dest, not negative if values is None else self.read(values))


class PlaceSwitch(NamespaceSwitch):
    """--mount-proc: the usual one; --mount-proc=DIR: there; --no-mount-proc: none."""

    wanted = "a directory"

    def read(self, text: str) -> str:
        return text


class Pair(argparse.Action):
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
            parser.error(f"{option_string} takes {self.metavar}, not {values!r}")
        setattr(namespace, self.dest, {**getattr(namespace, self.dest, {}), name: value})


class MountOption(argparse.Action):
    """--bind SOURCE TARGET and its like, any number of times, in their order."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        from .mounts import Bind, Dev, Proc, Sysfs, Tmpfs

        made: Any
        try:
            match option_string:
                case "--bind" | "--ro-bind":
                    made = Bind(values[0], values[1], option_string == "--ro-bind")
                case "--tmpfs":
                    made = Tmpfs(*values)
                case "--proc" | "--masked-proc":
                    made = Proc(*values, masked=option_string == "--masked-proc")
                case "--dev":
                    made = Dev(*values)
                case _:
                    made = Sysfs(*values, masked=option_string == "--masked-sysfs")
        except (ValueError, OSError) as error:
            parser.error(f"{option_string}: {error}")
        namespace.mounts = [*getattr(namespace, "mounts", ()), made]


class LandlockOption(argparse.Action):
    """--landlock-read PATH and --landlock-write PATH, any number of times."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        from ._request.landlock import Landlock

        read, write = getattr(namespace, self.dest, ((), ()))
        try:
            if option_string == "--landlock-read":
                made = Landlock((*read, values), write)
            else:
                made = Landlock(read, (*write, values))
        except ValueError as error:
            parser.error(f"{option_string}: {error}")
        setattr(namespace, self.dest, made)


class LimitOption(argparse.Action):
    """--rlimit NAME=SOFT[:HARD], any number of times."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        name, _, value = values.partition("=")
        numbers = value.split(":")
        if not name or not all(n == "unlimited" or _DIGITS.fullmatch(n) for n in numbers):
            parser.error(f"{option_string} takes NAME=SOFT[:HARD], not {values!r}")
        pair = [n if n == "unlimited" else int(n) for n in numbers]
        found = {name: pair[0] if len(pair) == 1 else tuple(pair)}
        setattr(namespace, self.dest, {**getattr(namespace, self.dest, {}), **found})


def _entry(text: str) -> tuple[int, int, int]:
    """INSIDE:OUTSIDE:COUNT, or OUTSIDE,INSIDE,COUNT as util-linux 2.38 has it."""
    colons = text.count(":") == 2
    words = text.split(":" if colons else ",")
    if len(words) != 3:
        raise ValueError
    first, second, count = map(number, words)
    return (first, second, count) if colons else (second, first, count)


class MapOption(argparse.Action):
    """Adds to uid_map, to gid_map, or to both; of these options each may be given many times."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        name = (option_string or "").removeprefix("--")
        both = name in ("map-auto", "map-subids", "map-root-user", "map-current-user")
        for keyword in ("uid_map", "gid_map") if both else (self.dest,):
            own = _OWN[keyword]()
            new: Any
            try:
                if name in ("map-auto", "map-subids") or values in _WHOLE:
                    new = name[4:] if both else values
                elif name in ("map-user", "map-group"):
                    new = (number(values), own, 1)
                elif both:
                    new = (0 if name == "map-root-user" else own, own, 1)
                else:
                    new = _entry(values)
            except ValueError:
                what = "a number" if name in ("map-user", "map-group") else "INSIDE:OUTSIDE:COUNT"
                parser.error(f"--{name} takes {what}, not {values!r}")
            before = getattr(namespace, keyword, [])
            setattr(namespace, keyword, _joined(parser, before, new, (0, own, 1)))


def _joined(parser: argparse.ArgumentParser, before: Any, new: Any, root: Any) -> Any:
    """A map with one entry more. "auto" and "subids" have the caller as root in them already."""
    given = [*([before] if before in _WHOLE else before), new]
    words = [each for each in given if each in _WHOLE]
    if not words:
        return given
    if any(each not in (words[0], root) for each in given) or (root in given and "all" in words):
        parser.error(f"{words[0]} is a whole map of ids: nothing can be added to it")
    return words[0]


def target(text: str) -> int | str:
    """A pid, or the path of a namespace file."""
    return int(text) if _DIGITS.fullmatch(text) else text


def number(text: str) -> int:
    """Digits as a shell has them: no "1_0", and none of another script.

    Example:
        >>> flags.number("12")
        12
    """
    if not _DIGITS.fullmatch(text.removeprefix("-")):
        raise ValueError
    return int(text)


def seconds(text: str) -> float:
    if not _DECIMAL.fullmatch(text):
        raise ValueError
    return float(text)


seconds.__name__ = "number of seconds"


def octal(text: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise ValueError
    return int(text, 8)


octal.__name__ = "octal number"


def groups(text: str) -> tuple[int, ...]:
    return tuple(number(group) for group in text.split(",") if group)


groups.__name__ = "list of group numbers"


def names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


names.__name__ = "list of names"


def file_content(text: str) -> bytes:
    try:
        with open(text, "rb") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}") from None


def userspec(text: str) -> tuple[int | None, int | None]:
    uid, _, gid = text.partition(":")
    return number(uid) if uid else None, number(gid) if gid else None


userspec.__name__ = "UID:GID in numbers"


def uid_and_gid(text: str) -> tuple[int, int]:
    uid, _, gid = text.partition(":")
    return number(uid), number(gid)


uid_and_gid.__name__ = "UID:GID in numbers"


FlagError.__module__ = Parser.__module__ = "nsdemo.flags"
