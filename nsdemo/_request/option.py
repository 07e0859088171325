"""What a row of the table of options says; the rows are in ``_request/options.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

CHROOT, SPAWN, RUN, ENTER = "chroot_run", "spawn", "run", "enter"
ALL = (CHROOT, SPAWN, RUN, ENTER)
NEW = (SPAWN, RUN)  # those that make namespaces
USERS = (CHROOT, SPAWN, RUN)  # those that make a user namespace
WAIT = (CHROOT, RUN, ENTER)  # those that wait


class Flag(NamedTuple):
    """A flag of the command line.

    names     with blanks between them
    help      what --help says
    reads     a function or an action of ``_flag_words``; "switch", which has --no-NAME as well;
              "store_true"; None: the word as it is
    metavar   what --help shows for its words
    calls     None: those of the option
    keyword   None: the option's name
    many      each time it is given one more is taken
    """

    names: str
    help: str
    reads: str | None = None
    metavar: str | tuple[str, ...] | None = None
    choices: tuple[str, ...] | None = None
    nargs: int | str | None = None
    calls: tuple[str, ...] | None = None
    keyword: str | None = None
    many: bool = False


class With(NamedTuple):
    """Instead of words: the option whose words are about this one as well."""

    option: str


class Other(NamedTuple):
    """What an option is in one call; what is empty is as in the others."""

    signature: str = ""
    doc: str | With = ""


class Option(NamedTuple):
    """A keyword, as it is in a call.

    type      as ``_types`` and the standard library name it
    default   as source text; None: it must be given
    doc       what it means
    flags     without any the command line cannot have it, or has it as a word
    calls     that have it
    kept      by the plan, for its start() and run()
    other     where it differs
    """

    name: str
    type: str
    default: str | None
    doc: str | With
    flags: tuple[Flag, ...]
    calls: tuple[str, ...]
    kept: bool
    other: Mapping[str, Other]

    def within(self, call: str) -> Option:
        """The option as this call has it."""
        if call not in self.other:
            return self
        signature, doc = self.other[call]
        _, kind, default = _parts(signature) if signature else self[:3]
        return self._replace(type=kind, default=default, doc=doc or self.doc)


def _parts(signature: str) -> tuple[str, str, str | None]:
    name, _, rest = signature.partition(": ")
    kind, equals, default = rest.partition(" = ")
    return name, kind, default if equals else None


def option(
    signature: str,
    doc: str | With,
    *flags: Flag,
    calls: tuple[str, ...] = ALL,
    kept: bool = False,
    other: Mapping[str, Other] | None = None,
) -> Option:
    """A row of the table."""
    return Option(*_parts(signature), doc, flags, calls, kept, other or {})
