"""The flags for who is who in a new user namespace: those of unshare(1), as keywords."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from ._flag_words import number

if TYPE_CHECKING:
    from .flags import Parser

_WHOLE = ("auto", "subids", "all")
_OWN = {"uid_map": os.geteuid, "gid_map": os.getegid}


def _entry(text: str) -> tuple[int, int, int]:
    """INSIDE:OUTSIDE:COUNT, or OUTSIDE,INSIDE,COUNT as util-linux 2.38 has it."""
    colons = text.count(":") == 2
    words = text.split(":" if colons else ",")
    if len(words) != 3:
        raise ValueError
    first, second, count = map(number, words)
    return (first, second, count) if colons else (second, first, count)


class _Map(argparse.Action):
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


def _pair(text: str) -> tuple[int, int]:
    uid, _, gid = text.partition(":")
    return number(uid), number(gid)


_pair.__name__ = "UID:GID in numbers"


def add_user_options(parser: Parser) -> None:
    """--map-users and its like, for the calls that make a user namespace."""
    for kind, keyword in (("user", "uid_map"), ("group", "gid_map")):
        parser.option(
            f"--map-{kind}s",
            f"--{keyword.replace('_', '-')}",
            action=_Map,
            dest=keyword,
            metavar="INSIDE:OUTSIDE:COUNT",
            help=f"{kind}s inside, many times; auto or subids: yours of /etc/sub{keyword[:3]}; all",
        )
        parser.option(
            f"--map-{kind}",
            action=_Map,
            dest=keyword,
            metavar=keyword[:3].upper(),
            help=f"your own {keyword[:3]} is this one inside",
        )
    for name, what in (
        ("auto", "you are root inside, and your range of /etc/subuid follows"),
        ("subids", "you are root inside, and your range of /etc/subuid keeps its numbers"),
        ("root-user", "you are root inside, and alone"),
        ("current-user", "you are yourself inside, and alone"),
    ):
        parser.option(f"--map-{name}", action=_Map, dest="uid_map", nargs=0, help=what)
    parser.option(
        "--setgroups", choices=("allow", "deny"), help="the system call in the user namespace"
    )
    parser.option(
        "--owner", type=_pair, metavar="UID:GID", help="whose the user namespace is; for root"
    )
