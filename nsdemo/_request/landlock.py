"""Landlock: what a command may open, by path."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .values import encode_path, text_value

_MOST = 128  # NSD_MAX_RULES


class _Paths(NamedTuple):
    read: tuple[str, ...]
    write: tuple[str, ...]


class Landlock(_Paths):
    """What a command may open: these files and what is below these directories, nothing else.

    Paths are those inside the container, and must exist there. Links in them are followed, once.
    What is open already, such as stdin, stays open. Mounts cannot be changed any more, for no
    power; and no setuid program gives any (``no_new_privs`` comes with it).

    Args:
        read: may be read, listed and executed: the command itself, its loader and its libraries.
        write: may be changed, made, removed and renamed, too.

    Example:
        >>> only = nsdemo.Landlock(read=["/usr", "/lib", "/lib64", "/bin"], write=["/tmp"])
        >>> nsdemo.run(["cat", "/etc/passwd"], landlock=only).returncode
        1

    Source: landlock(7); Linux 6.2, which was the first that can forbid truncate(2).
    """

    __slots__ = ()

    def __new__(
        cls,
        read: Sequence[str | os.PathLike[str]] = (),
        write: Sequence[str | os.PathLike[str]] = (),
    ) -> Landlock:
        return super().__new__(cls, _checked("read", read), _checked("write", write))


Landlock.__module__ = "nsdemo"


def _checked(name: str, paths: Iterable[str | os.PathLike[str]]) -> tuple[str, ...]:
    if isinstance(paths, (str, bytes, os.PathLike)):
        raise TypeError(f"Landlock: {name} is a list of paths, not {paths!r}")
    found = tuple(map(text_value, paths))
    for path in found:
        encode_path(name, path)
        if not path.startswith("/"):
            raise ValueError(f"Landlock: {name} has paths inside, which begin with /: {path!r}")
    return found


def checked_rules(value: object) -> tuple[tuple[bool, bytes], ...]:
    """(may it be changed?, path) of each, as the core takes them."""
    if not isinstance(value, Landlock):
        raise TypeError(f"landlock takes a nsdemo.Landlock(read=[...], write=[...]), not {value!r}")
    rules = [(False, os.fsencode(path)) for path in value.read]
    rules += [(True, os.fsencode(path)) for path in value.write]
    if len(rules) > _MOST:
        raise ValueError(f"landlock has room for {_MOST} paths, not {len(rules)}")
    return tuple(rules)
