"""What callers pass, checked and brought into the form that the core takes."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, AnyStr, Literal, Protocol

from .. import _core

CLONE_FLAGS = {keyword: flag for keyword, _, flag in _core.NAMESPACES}
KEYWORDS = tuple(CLONE_FLAGS)

MS_BIND = 0x1000
MS_REC = 0x4000
MS_PROPAGATION = {
    "private": 1 << 18,
    "slave": 1 << 19,
    "shared": 1 << 20,
    "unbindable": 1 << 17,
}

# The search path under another root: the one the Docker images have agreed on.
CLEAN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_PATH = b"PATH=" + CLEAN_PATH.encode()
_CLEAN_FOLDERS = tuple(folder + b"/" for folder in CLEAN_PATH.encode().split(b":"))

# The kernel's bounds (execve(2)): one string, and all of them together.
MAX_STRING = 128 * 1024
MAX_COMMAND = 6 * 1024 * 1024
MAX_HOSTNAME = 64

FOREVER = 2**63 - 1

StrPath = str | os.PathLike[str]
StrOrBytesPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
OneLimit = int | Literal["unlimited"] | None


class HasFileno(Protocol):
    """What has an open file: a pidfd, a namespace file, a stream."""

    def fileno(self) -> int:
        """Its descriptor."""


def deadline_of(timeout: float | None) -> int:
    """A timeout in seconds as a point on CLOCK_MONOTONIC, in ns."""
    if timeout is None:
        return FOREVER
    if timeout != timeout:
        raise ValueError("timeout is not a number")
    # A century is as good as for ever, and fits.
    return time.monotonic_ns() + int(min(max(timeout, 0), 3e9) * 1e9)


def names_to_flags(names: Iterable[str]) -> int:
    """CLONE_NEW* flags for namespace keywords; ValueError for any other name."""
    flags = 0
    for name in names:
        if name not in CLONE_FLAGS:
            known = ", ".join(KEYWORDS)
            raise ValueError(f"there is no namespace {name!r}: the eight are {known}")
        flags |= CLONE_FLAGS[name]
    if not flags:
        raise ValueError(f"name one namespace at least: {', '.join(KEYWORDS)}")
    return flags


def check_id(name: str, value: Any) -> int:
    """A uid or gid: an int, not a bool, 0..2**32-2 (2**32-1 means "leave it" to the kernel)."""
    if isinstance(value, str):
        raise TypeError(
            f"{name} must be a number, not {value!r}: names are looked up in files that "
            "may be the container's; use pwd.getpwnam() or grp.getgrnam() for the host's"
        )
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not 0 <= value <= 2**32 - 2:
        raise ValueError(f"{name} must be between 0 and {2**32 - 2}, not {value}")
    return value


def text_value(path: StrPath) -> str:
    """A path as str; TypeError for anything else, ValueError for NUL bytes."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"a path must be str or os.PathLike, not {type(path).__name__}")
    if "\0" in text:
        raise ValueError(f"a NUL byte cannot be part of a path: {text!r}")
    return text


def encode_path(name: str, path: StrPath) -> bytes:
    """A path as the kernel takes it."""
    text = text_value(path)
    if not text:
        raise ValueError(f"{name} is empty")
    encoded = os.fsencode(text)
    if len(encoded) >= 4096:
        raise OSError(errno.ENAMETOOLONG, f"{name} is longer than 4095 bytes")
    return encoded


def working_directory() -> str:
    """Where we are; "" if that has no path."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def absolute_path(path: AnyStr) -> AnyStr:
    """A path that may begin where we are, which may have been deleted and is asked only then."""
    if path.startswith(os.sep if isinstance(path, str) else os.sep.encode()):
        return path
    try:
        return os.path.join(os.getcwd() if isinstance(path, str) else os.getcwdb(), path)
    except FileNotFoundError:
        what = "the working directory was deleted, and this path begins there"
        raise FileNotFoundError(errno.ENOENT, what, path) from None


def encode_name(keyword: str, name: str) -> bytes:
    """A host or domain name as sethostname(2) takes it: at most 64 bytes."""
    if not isinstance(name, str):
        raise TypeError(f"{keyword} must be a str, not {type(name).__name__}")
    encoded = name.encode()
    if not encoded or len(encoded) > MAX_HOSTNAME or b"\0" in encoded:
        raise ValueError(
            f"{keyword} must have 1 to {MAX_HOSTNAME} bytes and no NUL, not {len(encoded)} bytes"
        )
    return encoded


class CleanEnvironment:
    """The environment under another root: nothing of the host's but TERM.

    Attributes:
        envp: its entries as the kernel takes them.
    """

    __slots__ = ("envp",)

    def __init__(self, *, uid_zero: bool) -> None:
        term = _core.environment_term()
        home = b"HOME=/root" if uid_zero else b"HOME=/"
        self.envp = [_PATH, home, b"LANG=C.UTF-8"]
        if term:
            self.envp.append(b"TERM=" + term)


Environment = Mapping[Any, Any] | CleanEnvironment


def _encode(what: str, value: Any) -> bytes:
    try:
        text = os.fsencode(value)
    except TypeError:
        kind = type(value).__name__
        raise TypeError(f"{what} must be str, bytes or os.PathLike, not {kind}") from None
    if b"\0" in text:
        raise ValueError(f"a NUL byte cannot be part of {what}: {text[:60]!r}")
    if len(text) >= MAX_STRING:
        raise OSError(
            errno.E2BIG,
            f"one of the {what} has {len(text):,} bytes; the kernel takes less than "
            f"{MAX_STRING:,}: write it to the command's stdin or to a file instead",
        )
    return text


def _encode_environment(env: Environment) -> tuple[list[bytes], tuple[bytes, ...]]:
    """envp, and the folders of PATH, each with a slash."""
    if isinstance(env, CleanEnvironment):  # made here, so there is nothing to check
        return env.envp, _CLEAN_FOLDERS
    if not isinstance(env, Mapping) and not hasattr(env, "items"):
        raise TypeError(
            f"env is a mapping such as {{'PATH': '/usr/bin'}}, not {type(env).__name__}"
        )
    search = os.fsencode(os.defpath)
    envp = []
    for name, content in (os.environb if env is os.environ else env).items():
        key = _encode("environment variables", name)
        value = _encode("environment variables", content)
        if not key or b"=" in key:
            raise ValueError(f"this cannot be the name of an environment variable: {key!r}")
        if key == b"PATH":
            search = value
        envp.append(key + b"=" + value)
    return envp, tuple((folder or b".") + b"/" for folder in search.split(b":"))


def command_vectors(
    args: Sequence[Any], env: Environment | None
) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """argv, envp, and the paths to try for args[0], which is looked up in env's PATH."""
    if isinstance(args, (str, bytes)):
        raise TypeError(
            f"args must be a list such as ['ls', '-l'], not a string: {args!r}; for a shell "
            "command, pass ['sh', '-c', ...]"
        )
    argv = [_encode("arguments", arg) for arg in args]
    if not argv or not argv[0]:
        raise ValueError("args is empty: name the command to run")
    envp, folders = _encode_environment(os.environ if env is None else env)
    total = sum(map(len, argv)) + sum(map(len, envp))
    if total > MAX_COMMAND:
        raise OSError(
            errno.E2BIG,
            f"arguments and environment together have {total:,} bytes; the kernel takes "
            f"{MAX_COMMAND:,} at most: write them to the command's stdin or to a file instead",
        )
    program = argv[0]
    if b"/" in program:
        return argv, envp, [program]
    return argv, envp, [folder + program for folder in folders]


def is_given(value: Any) -> bool:
    """Is this argument more than a default that says nothing?"""
    return not (value is None or value is False or value == ())
