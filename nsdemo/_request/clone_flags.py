"""The CLONE_NEW* flags by their names, and by the options of unshare(1) and nsenter(1)."""

from __future__ import annotations

from .values import CLONE_FLAGS

OPTIONS = {flag: f"--{keyword}" for keyword, flag in CLONE_FLAGS.items()}
CLONE_NAMES = {flag: f"CLONE_NEW{keyword.upper()}" for keyword, flag in CLONE_FLAGS.items()}
CLONE_NAMES[CLONE_FLAGS["mount"]] = "CLONE_NEWNS"  # it was the first


def flag_names(flags: int, names: dict[int, str], separator: str = "|") -> str:
    """A flag word in the kernel's own names."""
    known = [name for bit, name in names.items() if flags & bit]
    rest = flags & ~sum(names)
    return separator.join([*known, *([hex(rest)] if rest else [])]) or "0"
