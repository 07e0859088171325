"""Pins: namespaces that stay when their last process has ended, because a file is one.

Loaded only by a call that pins or releases.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

from . import _core
from ._errors import explained
from ._targets import must_be_answered
from ._values import CLONE_FLAGS, KEYWORDS, StrPath, absolute_path, encode_path, names_to_flags


def checked_pins(
    persist: Any, wanted: Mapping[str, Any], unshare: int, in_target: bool, fork: bool, init: bool
) -> tuple[tuple[int, bytes], ...]:
    """(CLONE_NEW* flag, absolute path) of each pin, in the order of the keywords."""
    if not isinstance(persist, Mapping):
        raise TypeError(f'persist is a mapping such as {{"net": "/run/blue"}}, not {persist!r}')
    for name in persist:
        if name not in CLONE_FLAGS:
            known = ", ".join(KEYWORDS)
            raise ValueError(f"persist: there is no namespace {name!r}: the eight are {known}")
    pins = []
    for name in (keyword for keyword in KEYWORDS if keyword in persist):
        if not unshare & CLONE_FLAGS[name]:
            here = "ours" if not wanted[name] else "joined: name what is to be joined one by one"
            raise ValueError(f"persist: {name}=True makes a new one to pin; here it is {here}")
        if name in ("pid", "time") and not fork:
            raise ValueError(f"persist: without fork=True nobody is in the new {name} namespace")
        if in_target and (name in ("pid", "user") or init or not fork):
            raise ValueError(
                "persist: in a joined mount namespace neither pid nor user can be pinned, "
                "nor anything with init=True or fork=False"
            )
        path = encode_path("persist", persist[name])
        pins.append((CLONE_FLAGS[name], absolute_path(path)))
    if len({path for _, path in pins}) < len(pins):
        raise ValueError("persist: each namespace needs a path of its own")
    return tuple(pins)


def pin_texts(name: str, path: StrPath) -> tuple[int, str, str]:
    """(CLONE_NEW* flag, file in /proc/PID/ns, absolute path) of a step."""
    names_to_flags([name])
    files = {keyword: file for keyword, file, _ in _core.NAMESPACES}
    # The command is in its new time namespace from execve on.
    file = "time_for_children" if name == "time" else files[name]
    where = absolute_path(os.fsdecode(encode_path("path", path)))
    return CLONE_FLAGS[name], file, os.path.normpath(where)


def release(path: StrPath, mount: Any = None) -> None:
    """Let go of a namespace that ``persist=`` pinned: it ends with its last process.

    Takes the mount away and, if it is the empty file that ``persist=`` made for it, the file. Who
    has the namespace open, or is in it, keeps it. ``ip netns add`` makes such files, too.

    Args:
        path: the file. Its last part is not followed if it is a link.
        mount: whose mount namespace it was pinned in, if not in ours: the target that was given
            to ``persist`` as ``mount``. nsdemo's launcher goes there, and executes nothing.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file is no namespace, so that there is nothing to release (EINVAL).
        PermissionError: a pin is a mount, and these are not yours to take away.

    Example:
        >>> blue = os.path.abspath("blue")
        >>> nsdemo.run(["hostname", "blue"], uts=True, persist={"uts": blue}).returncode
        0
        >>> nsdemo.run(["hostname"], uts=blue, capture_output=True).stdout     # by its path
        b'blue\\n'
        >>> nsdemo.release(blue)

    Source: umount(2), namespaces(7), "Namespace lifetime".
    """
    encoded = encode_path("path", path)
    try:
        if mount is None:
            must_be_answered(os.path.dirname(os.fsdecode(encoded)) or ".", None)
            _core.unpin(encoded)
        else:
            from ._visit import release_in

            release_in(mount, absolute_path(encoded))  # as persist= does
    except OSError as error:
        step = getattr(error, "step", None)
        if mount is not None and (step is None or step.operation != "unpin"):
            raise
        raise _not_released(error.errno or errno.EIO, os.fsdecode(encoded)) from None


def _not_released(number: int, path: str) -> OSError:
    hints = []
    text = os.strerror(number)
    if number == errno.EINVAL:
        text = "no namespace is pinned here"
    elif number == errno.ESRCH:
        hints.append(
            "a pin is taken away by its descriptor, so that nobody can slip in another: mount "
            "the proc of this pid namespace on /proc"
        )
    elif number in (errno.EPERM, errno.EACCES):
        hints.append(
            "a pin is a mount: only root of the mount namespace in which it was made takes it away"
        )
    return explained(OSError(number, text, path), *hints)


def release_all(core: _core.Plan, mount: Any) -> None:
    """What a plan pinned, as far as it still is; what was released already is no error."""
    for operation, _, _, texts in core.steps():
        if operation == "pin" and texts[1] is not None:
            try:
                release(texts[1], mount)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOENT):
                    raise


release.__module__ = "nsdemo"
