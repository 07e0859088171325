"""A program: look at one process from outside and from inside, and report in JSON.

It runs as ``python -I -S look.py REQUEST`` in an interpreter of its own, so that nothing which a
learner changed in his can reach it, and imports nothing but the standard library. What it enters
may be hostile. Therefore:

- it cannot be read through /proc (PR_SET_DUMPABLE 0), and joins a pid namespace only with a child
  that does nothing but sleep;
- whatever it needs of /proc it opens before it enters; nothing inside is executed or imported;
- files inside are opened only after O_PATH has shown a regular one, and read up to a limit;
- each part runs in a child of its own, for a process cannot leave what it has joined.

Sources: setns(2), ioctl_nsfs(2), proc(5), chroot(2).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import itertools
import json
import mmap
import os
import signal
import stat
import sys
from collections.abc import Iterator
from typing import Any

NAMESPACES = {
    "mount": "mnt",
    "uts": "uts",
    "ipc": "ipc",
    "pid": "pid",
    "net": "net",
    "user": "user",
    "cgroup": "cgroup",
    "time": "time",
}
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
NS_GET_USERNS = 0xB701
PR_SET_DUMPABLE, PR_SET_NAME = 4, 15
MOST_MOUNTS, MOST_TRIES, MOST_FILES, MOST_MAPPED = 2000, 20000, 2000, 500
READ_AT_MOST = 1 << 24

_libc = ctypes.CDLL(None, use_errno=True)

Report = dict[str, Any]


def setns(fd: int, kind: int) -> None:
    """setns(2): os has it from Python 3.12 on."""
    if _libc.setns(fd, kind) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


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
    for keyword, name in NAMESPACES.items():
        try:
            known = os.stat(f"ns/{name}", dir_fd=process)
        except FileNotFoundError:  # a kernel without this kind
            continue
        found[keyword] = [known.st_dev, known.st_ino]
    return found


def mounts_of(text: str) -> list[list[str]]:
    """[device, root, mount point, propagation, type] of each line of a mountinfo."""
    found = []
    for line in text.split("\n")[:-1]:
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        paths = (unescape(fields[3]), unescape(fields[4]))
        propagation = fields[6] if len(fields) > 6 else ""
        found.append([fields[2], *paths, propagation, right.split(" ")[0]])
    if len(found) > MOST_MOUNTS:
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
    return found


def unescape(text: str) -> str:
    """A path of mountinfo as it is."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


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


def find(pid: int) -> Target | Report:
    """The target, or why it cannot be looked at."""
    try:
        status = status_of(os.open(f"/proc/{pid}", os.O_PATH | os.O_CLOEXEC))
    except (FileNotFoundError, ProcessLookupError):
        return {"gone": f"there is no process {pid}: it has ended, or never was"}
    if status["State"][0] in "ZX":
        return {"gone": f"process {pid} has ended"}
    try:
        return Target(pid)
    except (FileNotFoundError, ProcessLookupError):
        return {"gone": f"process {pid} has ended"}
    except PermissionError:
        pass
    # nsdemo's init hides from everybody, its owner included; the command under it does not.
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
            return Target(int(children.read().split()[0]))
    except (OSError, IndexError):
        uid = status["Uid"].split()[1]
        mine = os.geteuid()
        return {"refused": f"process {pid} belongs to uid {uid}; you are uid {mine}"}


# -- going in --------------------------------------------------------------------------------


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


def joined(target: Target, request: Report) -> Report:
    """Where does a fresh joiner of the mount namespace land, and what is mounted there?"""
    me = Self()
    of_process = me.place(target.root)
    join_mounts(target)
    landing = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return {"root": me.place(landing), "process_root": of_process, "mounts": me.mounts()}


def endings(path: str) -> Iterator[str]:
    """/a/b/c, /b/c, /c: a directory of the host may be mounted as anything."""
    parts = path.strip("/").split("/")
    for start in range(len(parts)):
        yield "/" + "/".join(parts[start:])


def find_token(me: Self, request: Report) -> str | None:
    """The path at which one of the tokens can be read from here."""
    points = dict.fromkeys(["/", *(mount[2] for mount in me.mounts())])
    tries = 0
    for path, text in request["tokens"]:
        for point in points:
            for ending in endings(path):
                tries += 1
                if tries > MOST_TRIES:
                    raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
                here = point.rstrip("/") + ending
                if me.read(here, len(text)) == text.encode():
                    return here
    return None


def tokens(target: Target, request: Report) -> Report:
    """Can a token of the host be read with the process's root as ours?"""
    me = Self()
    join_mounts(target)
    follow_root(target)
    return {"found": find_token(me, request)}


def escape(target: Target, request: Report) -> Report:
    """The way out that chroot(2) describes: a second chroot leaves the directory outside."""
    me = Self()
    join_mounts(target)
    follow_root(target)
    made = None
    with os.scandir("/") as listing:
        first = itertools.islice(listing, MOST_FILES)
        below = [entry.name for entry in first if entry.is_dir(follow_symlinks=False)]
    if not below:
        below, made = [f"nsdemo-check-{os.getpid()}"] * 2, f"nsdemo-check-{os.getpid()}"
        try:
            os.mkdir(made)
        except OSError:
            return {"error": "there is no directory in the root, and none can be made"}
    try:
        for name in below:
            try:
                os.chroot(name)
                break
            except OSError:
                continue
        else:
            return {"error": "no directory in the root can be entered"}
        if made is not None:
            os.rmdir(made)
            made = None
    finally:
        if made is not None:
            os.rmdir(made)
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return {"reached": identity(here), "found": find_token(me, request)}


# -- processes -------------------------------------------------------------------------------


def sleep_named(name: bytes, ready: int) -> None:
    """The life of a child that is only looked at."""
    _libc.prctl(PR_SET_NAME, name, 0, 0, 0)
    os.write(ready, b"1")
    while True:
        signal.pause()


def proc(target: Target, request: Report) -> Report:
    """Does the /proc inside show a process that we start in the pid namespace?"""
    name = request["name"][:15]
    fd = target.open_namespace("pid")
    join_owner(fd)
    setns(fd, CLONE_NEWPID)
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        sleep_named(name.encode(), write_end)
    os.close(write_end)
    try:
        if os.read(read_end, 1) != b"1":
            return {"error": "the process that the check started in it was ended"}
        directory = os.open(f"/proc/{child}", os.O_PATH | os.O_CLOEXEC)
        inner = status_of(directory)["NSpid"].split()[-1]
        return {"pid": int(inner), "comm": _comm_inside(target, inner)}
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _comm_inside(target: Target, inner: str) -> str:
    """What PID/comm says in the /proc of the target's root, walked without following links."""
    here = target.root
    try:
        for part in ("proc", inner):
            here = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=here)
        fd = os.open("comm", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
    except OSError as error:
        return f"({os.strerror(error.errno or 0)})"
    with open(fd, "rb") as file:
        return file.read(64).decode("utf-8", "replace").rstrip("\n")


def birth(target: Target, request: Report) -> Report:
    """Can a process be started in the pid namespace that the target's children get?"""
    try:
        fd = target.open_namespace("pid_for_children")
    except FileNotFoundError:
        return {"unborn": True}  # made, but nobody was born in it yet
    found: Report = {"namespace": identity(fd), "here": _fork_errno()}
    join_owner(fd)
    setns(fd, CLONE_NEWPID)
    found["there"] = _fork_errno()
    return found


def _fork_errno() -> str | None:
    try:
        child = os.fork()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return None


# -- files -----------------------------------------------------------------------------------


def mapped(target: Target, request: Report) -> Report:
    """Every file that the process has mapped, and whether it lies under its root."""
    me = Self()
    exe = os.open("exe", os.O_RDONLY | os.O_CLOEXEC, dir_fd=target.process)
    with open(exe, "rb") as file:
        digest = hashlib.sha256(file.read(READ_AT_MOST)).hexdigest()
    # Opened out here, where we may; read in there, where paths begin at its root.
    maps = os.open("maps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=target.process)
    join_mounts(target)
    follow_root(target)
    with open(maps, "rb") as file:
        lines = file.read(READ_AT_MOST).decode("utf-8", "surrogateescape").split("\n")
    files: dict[tuple[str, str, str], bool] = {}
    for line in lines:
        fields = line.split(None, 5)
        if len(fields) == 6 and fields[4] != "0" and len(files) < MOST_MAPPED:
            key = (fields[3], fields[4], fields[5].replace("\\012", "\n"))
            if key not in files:
                files[key] = _lies_inside(me, *key)
    inside = {path for (_, _, path), good in files.items() if good}
    others, complete = _other_files(inside)
    outside = [path for (_, _, path), good in files.items() if not good]
    return {
        "sha256": digest,
        "inside": sorted(inside),
        "outside": outside,
        "others": others,
        "complete": complete,
    }


def _lies_inside(me: Self, device: str, inode: str, path: str) -> bool:
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError):
        return False
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_ino != int(inode):
            return False
        major, minor = (int(part, 16) for part in device.split(":"))
        if found.st_dev == os.makedev(major, minor):
            return True
        # btrfs and overlayfs name one device in stat and another in maps: map it ourselves.
        again = os.open(f"fd/{fd}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=me.process)
        try:
            with mmap.mmap(again, 1, prot=mmap.PROT_READ):
                return f" {device} {inode} " in read_at(me.process, "maps")
        finally:
            os.close(again)
    except (OSError, ValueError):
        return False
    finally:
        os.close(fd)


def _other_files(known: set[str]) -> tuple[list[str], bool]:
    """Regular files under / that are not among these, on the same filesystem; and whether that
    is all of them."""
    identities = {(found.st_dev, found.st_ino) for found in map(os.stat, known)}
    device = os.stat("/").st_dev
    others: list[str] = []
    pending, seen = ["/"], 0
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as listing:
                entries = list(itertools.islice(listing, MOST_FILES + 1))
        except OSError:
            continue
        for entry in entries:
            seen += 1
            if seen > MOST_FILES:
                return others[:20], False
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode) and found.st_dev == device:
                pending.append(entry.path)
            elif stat.S_ISREG(found.st_mode) and (found.st_dev, found.st_ino) not in identities:
                others.append(entry.path)
    return others[:20], True


# -- the program -----------------------------------------------------------------------------

PARTS = {
    "joined": joined,
    "tokens": tokens,
    "escape": escape,
    "proc": proc,
    "birth": birth,
    "mapped": mapped,
}


def in_child(part: str, target: Target, request: Report) -> Report:
    """One part of the look, in a process that goes in and does not come back."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer = PARTS[part](target, request)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "error")
            answer = {"error": f"{os.strerror(error.errno or 0)} ({name})"}
        with open(write_end, "wb") as file:
            file.write(json.dumps(answer).encode())
        os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as file:
        text = file.read()
    os.waitpid(child, 0)
    answer = json.loads(text) if text else {"error": "the look was ended from inside"}
    return dict(answer)


def look(request: Report) -> Report:
    """The whole report: about the caller, the process, and the parts asked for."""
    me = Self()
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    report: Report = {
        "caller": {
            "namespaces": namespaces_of(me.process),
            "root": identity(root),
            "pids": status_of(me.process)["NSpid"].split(),
            "mounts": me.mounts(),
        }
    }
    target = find(request["pid"])
    if not isinstance(target, Target):
        return report | target
    report |= {
        "pid": target.pid,
        "namespaces": target.namespaces,
        "pids": target.status["NSpid"].split(),
        "name": target.status["Name"],
        "root": identity(target.root),
    }
    try:
        report["mounts"] = mounts_of(read_at(target.process, "mountinfo"))
    except OSError:
        return report | {"refused": f"process {target.pid} has too many mounts to be looked at"}
    for part in request["parts"]:
        report[part] = in_child(part, target, request)
    target.status = status_of(target.process)  # it may have ended while we looked
    return report | ({"gone": f"process {target.pid} has ended"} if target.ended else {})


def main() -> None:
    """Read the request, print the report."""
    _libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    try:
        report = look(json.loads(sys.argv[1]))
    except (FileNotFoundError, ProcessLookupError):
        report = {"gone": "the process ended while it was looked at"}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
