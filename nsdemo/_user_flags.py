"""The flags for who is who in a new user namespace: those of unshare(1), as keywords."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .flags import Parser

_OWN = {"uid_map": os.geteuid, "gid_map": os.getegid}


def _entry(text: str) -> tuple[int, int, int]:
    """INSIDE:OUTSIDE:COUNT, or OUTSIDE,INSIDE,COUNT as util-linux 2.38 has it."""
    colons = text.count(":") == 2
    words = text.split(":" if colons else ",")
    if len(words) != 3 or not all(word.isascii() and word.isdecimal() for word in words):
        raise ValueError
    first, second, count = map(int, words)
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
        both = name in ("map-auto", "map-root-user", "map-current-user")
        for keyword in ("uid_map", "gid_map") if both else (self.dest,):
            own = _OWN[keyword]()
            new: Any
            try:
                if name == "map-auto" or values == "auto":
                    new = "auto"
                elif name in ("map-user", "map-group"):
                    new = (int(values), own, 1)
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
    """A map with one entry more. "auto" has the caller as root in it already."""
    if "auto" not in (before, new):
        return [*before, new]
    if any(
        each not in ("auto", root) for each in [*([before] if before == "auto" else before), new]
    ):
        parser.error("--map-auto is a whole map: the caller is root, and his range follows")
    return "auto"


def _pair(text: str) -> tuple[int, int]:
    uid, _, gid = text.partition(":")
    return int(uid), int(gid)


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
            help=f"{kind}s inside, many times; or auto: yours of /etc/sub{keyword[:3]}",
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
