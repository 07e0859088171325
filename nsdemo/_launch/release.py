"""Letting go of what ``persist=`` pinned. Loaded only by a call that releases."""

from __future__ import annotations

import errno
import os
from typing import Any

from .. import _core
from .._errors import explained
from .._facts.targets import must_be_answered
from .._request.values import StrPath, absolute_path, encode_path


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
            from .visit import release_in

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
