"""Into the namespaces and under the root of a process that may be hostile.

Part of the program look.py. Whatever is needed of /proc is opened before; see there.
Sources: setns(2), ioctl_nsfs(2), chroot(2).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat

from .target import Target, identity, libc, mounts_of, read_at

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
NS_GET_USERNS = 0xB701


def setns(fd: int, kind: int) -> None:
    """setns(2): os has it from Python 3.12 on."""
    if libc.setns(fd, kind) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Self:
    """This very process in the /proc of the caller, to be asked also after entering."""

    def __init__(self) -> None:
        self.process = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def mount_of(self, fd: int) -> int:
        """The mount that a descriptor lies on."""
        for line in read_at(self.process, f"fdinfo/{fd}").split("\n"):
            if line.startswith("mnt_id:"):
                return int(line.split()[1])
        return -1

    def mounts(self) -> list[list[str]]:
        """The mounts that we see, wherever we are now."""
        return mounts_of(read_at(self.process, "mountinfo"))

    def place(self, fd: int) -> list[int]:
        """(device, inode, mount) of a directory."""
        return [*identity(fd), self.mount_of(fd)]

    def read(self, path: str, most: int) -> bytes | None:
        """The content of a regular file inside, None for anything else."""
        try:
            fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (OSError, ValueError):
            return None
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            # The very same file, not what the name may stand for by now.
            again = os.open(f"fd/{fd}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.process)
        except OSError:
            return None
        finally:
            os.close(fd)
        with open(again, "rb") as file:
            return file.read(most)


def join_owner(fd: int) -> None:
    """Enter the user namespace that owns a namespace, which gives the power to enter that."""
    owner = fcntl.ioctl(fd, NS_GET_USERNS)
    join_user(owner)


def join_user(fd: int) -> None:
    """Enter a user namespace, if it is not ours: for that the kernel says EINVAL."""
    mine = os.stat("/proc/self/ns/user")
    if identity(fd) != [mine.st_dev, mine.st_ino]:
        setns(fd, CLONE_NEWUSER)


def join_mounts(target: Target) -> None:
    """As a fresh joiner: into the mount namespace, and not to the process's root."""
    ours = os.stat("/proc/self/ns/mnt")
    if target.namespaces["mount"] == [ours.st_dev, ours.st_ino]:
        join_user(target.open_namespace("user"))  # only there an ordinary user may chroot
        os.chdir("/")
        return
    fd = target.open_namespace("mnt")
    join_owner(fd)
    setns(fd, CLONE_NEWNS)


def follow_root(target: Target) -> None:
    """Have the process's root as ours."""
    os.fchdir(target.root)
    os.chroot(".")
