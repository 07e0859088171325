"""One process, by descriptors that name it and nobody else, and what /proc says of it.

Part of the program look.py. Text from /proc has hostile names in it: it is split at newlines only,
and what is no UTF-8 stays as surrogates.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

from nsdemo import kernel

Report = dict[str, Any]

READ_AT_MOST = 1 << 24

libc = ctypes.CDLL(None, use_errno=True)


def read_at(directory: int, name: str) -> str:
    """A file of /proc as text. It has hostile names in it: split it at newlines only."""
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    with open(fd, "rb") as file:
        return file.read(READ_AT_MOST).decode("utf-8", "surrogateescape")


def identity(fd: int) -> list[int]:
    """(device, inode) of what a descriptor names."""
    found = os.fstat(fd)
    return [found.st_dev, found.st_ino]


def status_of(process: int) -> dict[str, str]:
    """The lines of /proc/PID/status."""
    lines = read_at(process, "status").split("\n")
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def namespaces_of(process: int) -> dict[str, list[int]]:
    """The identities of a process's namespaces, by keyword."""
    found = {}
    for keyword, name in kernel.FILES.items():
        try:
            known = os.stat(f"ns/{name}", dir_fd=process)
        except FileNotFoundError:  # a kernel without this kind
            continue
        found[keyword] = [known.st_dev, known.st_ino]
    return found


def mounts_of(text: str) -> list[list[str]]:
    """[device, root, mount point, propagation, type] of each line of a mountinfo."""
    return [
        [mount.device, mount.root, mount.point, mount.propagation.split(" ")[0], mount.kind]
        for mount in kernel.parse_mountinfo(text)
    ]


class Target:
    """A process, by descriptors that name it and nobody else, all opened before we enter."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        self.process = os.open(f"/proc/{pid}", flags)  # of no other process, however numbers turn
        self.status = status_of(self.process)
        self.namespaces = namespaces_of(self.process)
        self.root = os.open("root", flags, dir_fd=self.process)

    @property
    def ended(self) -> bool:
        """Has it ended? A zombie has."""
        return self.status["State"][0] in "ZX"

    def open_namespace(self, name: str) -> int:
        """A descriptor of one of its namespaces."""
        return os.open(f"ns/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.process)
