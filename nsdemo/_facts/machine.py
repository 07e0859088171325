"""Facts about this machine that decide what the kernel allows.

Everything is read at the moment it is asked for, and what cannot be read counts as absent:
nothing here raises for an odd machine, and nothing changes one. ``read`` and ``exists`` are the
only doors to files, so that a test can put another machine behind them.

This module reports facts; the words for people are in ``_plan`` and ``_why``.
"""

from __future__ import annotations

import errno
import os
import re
import resource
from contextlib import suppress

from .tables import IdMap, Mount, parse_id_map, parse_mountinfo

# capabilities(7)
CAP_SETGID = 6
CAP_SETUID = 7
CAP_NET_ADMIN = 12
CAP_SYS_CHROOT = 18
CAP_SYS_ADMIN = 21
CAP_SETFCAP = 31


def read(path: str) -> str:
    """Return the text of a file, "" if it cannot be read."""
    try:
        # Universal newlines would end a line at a carriage return in a name.
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return file.read()
    except (OSError, ValueError):
        return ""


def exists(path: str) -> bool:
    """Return whether something is at a path."""
    return os.path.lexists(path)


def sysctl(name: str) -> int | None:
    """Return a number of sysctl(8), None if this kernel has no such one.

    >>> sysctl("kernel.pid_max") is not None
    True
    """
    words = read("/proc/sys/" + name.replace(".", "/")).split()
    return int(words[0]) if words and words[0].isdigit() else None


def status(field: str) -> str:
    """Return a field of our thread's /proc status file, such as "CapEff"."""
    found = re.search(rf"^{field}:\s*(.*)$", read("/proc/thread-self/status"), re.MULTILINE)
    return found[1] if found else ""


def passes_on(number: int) -> bool:
    """Return whether a program that we execute, as the launcher is, gets a capability.

    Root's programs get what the bounding set allows; anybody else's what is ambient.

    Source: capabilities(7), "Transformation of capabilities during execve()".
    """
    fields = ("CapBnd", "CapInh") if os.geteuid() == 0 else ("CapAmb",)
    return any(int(status(field) or "0", 16) >> number & 1 for field in fields)


def is_filtered() -> bool:
    """Return whether a seccomp filter judges our system calls."""
    return status("Seccomp") == "2"


def engine() -> str:
    """Return "Docker" or "Podman" inside one of their containers, else ""."""
    if exists("/.dockerenv"):
        return "Docker"
    return "Podman" if exists("/run/.containerenv") else ""


def is_gvisor() -> bool:
    """Return whether the kernel is gVisor, which answers with one fixed version line."""
    version = read("/proc/version")
    return "gVisor" in version or "Sun Jan 10 15:06:54 PST 2016" in version


def apparmor_restricts() -> bool:
    """Return whether AppArmor takes the power out of an ordinary user's user namespace."""
    restricted = sysctl("kernel.apparmor_restrict_unprivileged_userns") == 1
    return restricted and not passes_on(CAP_SYS_ADMIN)


def apparmor_profile() -> str:
    """Return the AppArmor profile that confines us, or ""."""
    profile = read("/proc/thread-self/attr/apparmor/current").strip("\0\n")
    return "" if profile.startswith("unconfined") else profile


def id_map(kind: str, pid: int | str = "thread-self") -> IdMap:
    """Return the id map ("uid" or "gid") of a process's user namespace; ours by default."""
    return parse_id_map(read(f"/proc/{pid}/{kind}_map"))


def has_id(ids: IdMap, number: int) -> bool:
    """Return whether an id exists inside a user namespace with this map."""
    return any(first <= number < first + count for first, _, count in ids)


# Of a user namespace that the kernel does not tell us about, though we are root of ours.
BESIDE = (
    "lies beside ours or around it: this Python is itself in a user namespace, whose root has "
    "power over it and those inside it alone. Call from outside, where both were made; or make "
    "the target here"
)


def in_first_user_namespace() -> bool:
    """Return whether no user namespace has been made around us."""
    return id_map("uid") == ((0, 0, 2**32 - 1),)


def mounts() -> tuple[Mount, ...]:
    """Return the mounts that we see, in the order in which they were made."""
    return parse_mountinfo(read("/proc/thread-self/mountinfo"))


def covered_proc() -> list[str]:
    """Return the paths under /proc that another mount hides.

    A user namespace gets a new procfs only while it sees an old one whole. Mounts on
    directories that are always empty, such as binfmt_misc, do not count.

    Source: mount_too_revealing() in fs/namespace.c.
    """
    always_empty = ("/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd", "/proc/openprom")
    points = [mount.point for mount in mounts() if mount.point.startswith("/proc/")]
    return sorted({point for point in points if point not in always_empty})


def is_chrooted() -> bool:
    """Return whether our root is known not to be the root of our mount namespace."""
    listed = mounts()
    if listed and all(mount.point != "/" for mount in listed):
        return True
    with suppress(OSError):
        same = os.readlink("/proc/1/ns/mnt") == os.readlink("/proc/thread-self/ns/mnt")
        return same and not os.path.samestat(os.stat("/proc/1/root"), os.stat("/"))
    return False


def root_is_mount_point() -> bool:
    """Return whether something is mounted on "/" as we see it, or we cannot tell."""
    listed = mounts()
    return not listed or any(mount.point == "/" for mount in listed)


def shares_mounts() -> bool:
    """Return whether mounts that are made in a copy of ours show here, too."""
    return any(mount.propagation.startswith("shared:") for mount in mounts() if mount.point == "/")


def is_initramfs() -> bool:
    """Return whether "/" is the kernel's first file system, which cannot be pivoted away."""
    return any(mount.point == "/" and mount.kind == "rootfs" for mount in mounts())


def children_go_elsewhere() -> bool:
    """Return whether our children are born in another pid namespace than ours."""
    try:
        ours = os.readlink("/proc/thread-self/ns/pid")
    except OSError:
        return False
    try:
        return os.readlink("/proc/thread-self/ns/pid_for_children") != ours
    except OSError as error:
        return error.errno == errno.ENOENT  # nobody has been born there yet


def processes_of(uid: int) -> int:
    """Return how many processes and threads a user has, as RLIMIT_NPROC counts them."""
    count = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        text = read(f"/proc/{pid}/status")
        real = re.search(r"^Uid:\s*(\d+)", text, re.MULTILINE)
        threads = re.search(r"^Threads:\s*(\d+)", text, re.MULTILINE)
        if real and threads and int(real[1]) == uid:
            count += int(threads[1])
    return count


def limit(number: int) -> int | None:
    """Return a soft resource limit of ours, None if there is none."""
    soft, _ = resource.getrlimit(number)
    return None if soft == resource.RLIM_INFINITY else soft


def children_have_other_clocks() -> bool:
    """Return whether our children are born in another time namespace than ours."""
    try:
        ours, theirs = (
            os.readlink(f"/proc/thread-self/ns/{name}") for name in ("time", "time_for_children")
        )
    except OSError:
        return False
    return ours != theirs


def full_cgroup(folder: str, top: str, needed: int = 1) -> tuple[int, int] | None:
    """Return (processes, most allowed) of the first cgroup from a folder up to the top that has
    no room for so many and one.

    Source: pids.max in Documentation/admin-guide/cgroup-v2.rst.
    """
    while folder == top or folder.startswith(top + "/"):
        most, now = read(f"{folder}/pids.max").strip(), read(f"{folder}/pids.current").strip()
        if most.isdigit() and now.isdigit() and int(now) >= int(most) - needed:
            return int(now), int(most)
        folder = os.path.dirname(folder)
    return None


def cgroup_pids() -> tuple[int, int] | None:
    """Return what ``full_cgroup`` does, for the cgroup that we are in."""
    found = re.search(r"^0::(/.*)$", read("/proc/self/cgroup"), re.MULTILINE)
    old = re.search(r"^\d+:pids:(/.*)$", read("/proc/self/cgroup"), re.MULTILINE)
    for match, base in ((old, "/sys/fs/cgroup/pids"), (found, "/sys/fs/cgroup")):
        full = full_cgroup((base + match[1]).rstrip("/"), base) if match else None
        if full is not None:
            return full
    return None


def is_full(path: str) -> bool:
    """Return whether the file system of a path has no room left for a new name."""
    try:
        found = os.statvfs(path)
    except OSError:
        return False
    return found.f_bavail == 0 or (found.f_files > 0 and found.f_favail == 0)
