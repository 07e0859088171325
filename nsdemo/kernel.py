"""What the kernel says about a running process at this moment.

Everything is read from /proc and asked with ioctl_nsfs(2) when it is wanted; nothing is kept, and
nothing is changed. A target is what ``nsdemo.namespaces`` takes: a Container, a pid, an object
whose fileno() is a pidfd; None is the calling process. What has ended is a ProcessLookupError,
what is not ours to look at a PermissionError.

Text from inside a container (names, command lines, paths, the options of mounts) is returned as it
was found, undecodable bytes as surrogates: it is hostile, so ``printable()`` it before you show it.

    >>> from nsdemo import kernel
    >>> [each.pids for each in kernel.processes(box)]    # outside, inside
    [(..., 1)]
    >>> kernel.root(box).same                            # pivot_root, not chroot
    True
"""

from __future__ import annotations

from ._errors import printable
from ._facts.namespaces import Keepers, UserNamespace, keepers, owner, parent, user_namespaces
from ._facts.powers import Power, power
from ._facts.processes import (
    FILES,
    Identity,
    IdMaps,
    Process,
    id_maps,
    mounts,
    pid_of,
    process,
    processes,
)
from ._facts.tables import IdMap, Mount, parse_mountinfo
from ._launch.roots import Root, open_namespace_root, root
from ._request.power import CAPABILITIES

__all__ = [
    "CAPABILITIES",
    "FILES",
    "IdMap",
    "IdMaps",
    "Identity",
    "Keepers",
    "Mount",
    "Power",
    "Process",
    "Root",
    "UserNamespace",
    "id_maps",
    "keepers",
    "mounts",
    "open_namespace_root",
    "owner",
    "parent",
    "parse_mountinfo",
    "pid_of",
    "power",
    "printable",
    "process",
    "processes",
    "root",
    "user_namespaces",
]
