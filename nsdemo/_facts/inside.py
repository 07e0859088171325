"""Open, read and remove files inside another root directory, as if it were ``/``.

The root may belong to somebody hostile (a container's ``/proc/PID/root``) who changes it while we
look. Therefore:

- Every component is opened with O_PATH|O_NOFOLLOW beneath the one before it. Symbolic links are
  read as text and resolved here, so that neither ``..`` nor an absolute target leaves the root, and
  the kernel never follows a magic link of ``/proc``.
- Only a regular file is opened for reading; a FIFO or a device would block or act when opened.
- Every number in a file is checked before it is used, and every read has a limit.
- Removal follows no link and enters no mount.

Not covered: a FUSE server inside the root may delay the look-up itself, for which the kernel has no
time limit.

This module reports facts; the words for people are in ``_plan/explain.py``.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
import sys
from typing import TYPE_CHECKING, Literal, NamedTuple

from .tables import parse_mountinfo

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Program", "host_machine", "open_file", "open_path", "read_program", "remove_tree"]

MAX_LINKS = 40  # the kernel's own limit, MAXSYMLINKS
MAX_DEPTH = 128  # open descriptors; PATH_MAX would allow 2,048
MAX_STEPS = 4096  # components in all, those of link targets included
PATH_MAX = 4096
SCRIPT_LINE = 256  # BINPRM_BUF_SIZE: how much of a script the kernel reads
MAX_PROGRAM_HEADERS = 65536  # bytes; more is ENOEXEC in fs/binfmt_elf.c
MAX_REMOVAL_DEPTH = 32  # directories open at once, two descriptors each

_MACHINES = {  # e_machine in <elf.h>
    2: "SPARC",
    3: "i386",
    8: "MIPS",
    15: "PA-RISC",
    20: "PowerPC",
    21: "PowerPC64",
    22: "S390",
    40: "ARM",
    42: "SuperH",
    43: "SPARC V9",
    50: "IA-64",
    62: "x86-64",
    183: "AArch64",
    243: "RISC-V",
    247: "BPF",
    258: "LoongArch",
}

_BITS: dict[int, Literal[32, 64]] = {1: 32, 2: 64}  # e_ident[EI_CLASS]
_BYTE_ORDERS: dict[int, Literal["little", "big"]] = {1: "little", 2: "big"}  # e_ident[EI_DATA]

_ET_EXEC, _ET_DYN, _PT_INTERP = 2, 3, 3


class Program(NamedTuple):
    """What execve(2) would find at a path; fields that do not apply are None.

    kind             "elf"         an executable or shared object
                     "damaged"     begins as ELF, but its headers make no sense or lie outside the
                     file
                     "script"      begins with "#!"
                     "empty"       a regular file of size 0
                     "other"       any other regular file
                     "unreadable"  a regular file we may not read
                     "directory"
                     "special"     a FIFO, socket or device
    mode             permission bits, setuid, setgid and sticky included noexec           whether it
    lies on a file system mounted noexec machine          of an ELF file: "x86-64", "AArch64", ...,
    or "machine N" bits             of an ELF file: 32 or 64 byte_order       of an ELF file:
    "little" or "big" interpreter      of an ELF file: its loader (PT_INTERP), None if static; of a
    script: the program after "#!", None
                     if the line names none or is too long for the kernel
    argument         of a script: the one optional argument carriage_return  whether the "#!" line
    ends in CR LF; the kernel takes the CR as part of the last word, and so do
                     interpreter and argument here
    """

    kind: Literal[
        "elf", "damaged", "script", "empty", "other", "unreadable", "directory", "special"
    ]
    mode: int
    noexec: bool
    machine: str | None = None
    bits: Literal[32, 64] | None = None
    byte_order: Literal["little", "big"] | None = None
    interpreter: str | None = None
    argument: str | None = None
    carriage_return: bool = False


def open_path(root: str | os.PathLike[str] | int, path: str | os.PathLike[str]) -> int:
    """Find a path inside a root and return an O_PATH descriptor of it, whatever it is.

    root is a directory, or a descriptor of one, which stays open. path is taken from the root, with
    or without a leading slash. The caller closes the descriptor.

    Raises OSError, with path as its filename (or root, if that is what cannot be opened): what
    open(2) would raise inside, ELOOP after 40 links, ENAMETOOLONG for a path of more than 128
    directories or 4,096 steps. ValueError for a NUL byte.

        >>> descriptor = open_path("/", "etc/passwd")
        >>> os.close(descriptor)

    Source: path_resolution(7), and RESOLVE_IN_ROOT in openat2(2), which Python cannot call.
    """
    path = os.fspath(path)
    descriptors = [_open_root(root)]
    try:
        _walk(descriptors, path)
        return descriptors.pop()
    except OSError as error:
        error.filename = path
        raise
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _open_root(root: str | os.PathLike[str] | int) -> int:
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    if isinstance(root, int):
        return os.open(".", flags, dir_fd=root)
    return os.open(root, flags)


def _walk(descriptors: list[int], path: str) -> None:
    """Push the descriptor of each component; ".." pops one, and so never asks the kernel."""
    if not path:
        raise _error(errno.ENOENT)
    pending = path.split("/")[::-1]
    directory = True
    links = steps = 0
    while pending:
        name = pending.pop()
        steps += 1
        if steps > MAX_STEPS or len(descriptors) > MAX_DEPTH:
            raise _error(errno.ENAMETOOLONG)
        if not directory:
            raise _error(errno.ENOTDIR)
        if name == "..":
            if len(descriptors) > 1:
                os.close(descriptors.pop())
        elif name not in ("", "."):
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptors.append(os.open(name, flags, dir_fd=descriptors[-1]))
            mode = os.fstat(descriptors[-1]).st_mode
            directory = stat.S_ISDIR(mode)
            if stat.S_ISLNK(mode):
                links += 1
                if links > MAX_LINKS:
                    raise _error(errno.ELOOP)
                target = os.readlink("", dir_fd=descriptors[-1])
                os.close(descriptors.pop())
                directory = True
                if target.startswith("/"):
                    while len(descriptors) > 1:
                        os.close(descriptors.pop())
                pending += target.split("/")[::-1]


def open_file(root: str | os.PathLike[str] | int, path: str | os.PathLike[str]) -> int:
    """Open a regular file inside a root and return a descriptor to read it from.

    Arguments and errors are those of open_path(); and IsADirectoryError for a directory, OSError
    (EINVAL) for a FIFO, socket or device, which is not opened, PermissionError for a file that we
    may not read.

        >>> with open(open_file("/", "etc/passwd")) as file:
        ...     first = file.readline()

    Source: open(2), O_PATH; proc_pid_fd(5).
    """
    descriptor = open_path(root, path)
    try:
        return _reopen(descriptor)
    except OSError as error:
        error.filename = os.fspath(path)
        raise
    finally:
        os.close(descriptor)


def _reopen(descriptor: int) -> int:
    """Turn an O_PATH descriptor of a regular file into a readable one of the same file."""
    found = os.fstat(descriptor)
    if stat.S_ISDIR(found.st_mode):
        raise _error(errno.EISDIR)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    # O_NONBLOCK: somebody's lease (fcntl F_SETLEASE) could make open wait, and some files of procfs
    # block when read.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    readable = os.open(f"/proc/self/fd/{descriptor}", flags)
    try:
        if not os.path.samestat(os.fstat(readable), found):
            raise OSError(errno.ESTALE, "/proc/self/fd leads to another file")
    except BaseException:
        os.close(readable)
        raise
    return readable


def read_program(root: str | os.PathLike[str] | int, path: str | os.PathLike[str]) -> Program:
    """Describe the program at a path inside a root: what it is, and what it needs to start.

    Arguments and errors are those of open_path(). Whatever the file contains is described, never
    raised; an OSError beyond that comes from reading it (EIO from a disk, EAGAIN from a file of
    procfs or one with a lease on it).

        >>> read_program("/", "bin/sh").kind
        'elf'

    Source: execve(2), elf(5), fs/binfmt_elf.c and fs/binfmt_script.c in the kernel.
    """
    descriptor = open_path(root, path)
    try:
        return _describe(descriptor)
    except OSError as error:
        error.filename = os.fspath(path)
        raise
    finally:
        os.close(descriptor)


def _describe(descriptor: int) -> Program:
    status = os.fstat(descriptor)
    noexec = bool(os.fstatvfs(descriptor).f_flag & os.ST_NOEXEC)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        return Program("directory", mode, noexec)
    if not stat.S_ISREG(status.st_mode):
        return Program("special", mode, noexec)
    if status.st_size == 0:  # and the files of procfs, some of which act when read
        return Program("empty", mode, noexec)
    try:
        readable = _reopen(descriptor)
    except PermissionError:
        return Program("unreadable", mode, noexec)
    try:
        head = os.pread(readable, SCRIPT_LINE, 0)
        if head.startswith(b"\x7fELF"):
            return _read_elf(readable, head, Program("damaged", mode, noexec))
        if head.startswith(b"#!"):
            return _read_script(head, Program("script", mode, noexec))
        return Program("other", mode, noexec)
    finally:
        os.close(readable)


def _read_script(head: bytes, program: Program) -> Program:
    # The kernel's buffer is padded with NUL, which ends a word as a blank does. A name that runs up
    # to the end of the buffer may be cut off, and is refused.
    line, newline, _ = head.ljust(SCRIPT_LINE, b"\0").partition(b"\n")
    if not newline:
        line = line[: SCRIPT_LINE - 1]
    words = re.match(rb"#![ \t]*([^ \t\0]+)(?:[ \t]+([^\0]+))?", line)
    if words is None or (not newline and words.end(1) == SCRIPT_LINE - 1):
        return program
    argument = (words[2] or b"").rstrip(b" \t")
    return program._replace(
        interpreter=os.fsdecode(words[1]),
        argument=os.fsdecode(argument) if argument else None,
        carriage_return=(argument or words[1]).endswith(b"\r"),
    )


def _read_elf(descriptor: int, head: bytes, damaged: Program) -> Program:
    """Read the headers; every offset and size in them is somebody's claim."""
    try:
        bits, order = _BITS[head[4]], _BYTE_ORDERS[head[5]]
        wide = bits == 64
        sign = "<" if order == "little" else ">"
        kind, number = struct.unpack_from(sign + "HH", head, 16)
        damaged = damaged._replace(machine=_machine_name(number), bits=bits, byte_order=order)
        start = struct.unpack_from(sign + ("Q" if wide else "I"), head, 32 if wide else 28)[0]
        size, count = struct.unpack_from(sign + "HH", head, 54 if wide else 42)
    except (KeyError, IndexError, struct.error):
        return damaged
    if kind not in (_ET_EXEC, _ET_DYN):
        return damaged._replace(kind="other")  # an object file or a core dump
    # 64 bits: p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, ...; 32 bits: p_flags is later
    header = struct.Struct(sign + ("IIQQQQQQ" if wide else "IIIIIIII"))
    if size != header.size or not 0 < size * count <= MAX_PROGRAM_HEADERS:
        return damaged
    table = _read_exactly(descriptor, size * count, start)
    if table is None:
        return damaged
    for fields in header.iter_unpack(table):
        if fields[0] == _PT_INTERP:
            offset, length = (fields[2], fields[5]) if wide else (fields[1], fields[4])
            text = _read_exactly(descriptor, length, offset) if 2 <= length <= PATH_MAX else None
            if text is None or not text.endswith(b"\0"):
                return damaged
            return damaged._replace(kind="elf", interpreter=os.fsdecode(text[: text.index(b"\0")]))
    return damaged._replace(kind="elf")


def _read_exactly(descriptor: int, length: int, offset: int) -> bytes | None:
    """Return length bytes at offset, or None if the file does not have them."""
    if offset + length > os.fstat(descriptor).st_size:  # st_size also keeps offset within off_t
        return None
    data = os.pread(descriptor, length, offset)
    return data if len(data) == length else None


def _machine_name(number: int) -> str:
    return _MACHINES.get(number, f"machine {number}")


def host_machine() -> str:
    """Return the machine that this process runs on, in the words of Program.machine.

    Raises OSError if /proc is not mounted.

        >>> host_machine() == read_program("/", "bin/sh").machine
        True

    Source: elf(5), proc_pid_exe(5).
    """
    with open("/proc/self/exe", "rb") as file:
        return _machine_name(int.from_bytes(file.read(20)[18:], sys.byteorder))


def remove_tree(
    path: str, identity: tuple[int, int], made: Mapping[str, bool] | None = None
) -> None:
    """Remove the directory at a path with all it contains, or with made, only what that names.

    identity is the device and inode number the directory must have; if another one, or none, is at
    path, nothing is done. made maps paths inside, with a leading slash, to whether they are
    directories, which are removed if they are then empty; "" is the directory itself.

    Raises OSError (EBUSY), with the mount point as its filename, if something is mounted on it or
    inside: then nothing is removed. Other errors are those of unlink(2) and rmdir(2).

    Source: unlink(2), proc_pid_mountinfo(5), proc_pid_fdinfo(5).
    """
    try:
        handle = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        found = os.fstat(handle)
        ours = (found.st_dev, found.st_ino) == identity
        # What is not removed itself may have been a mount point all along.
        _refuse_mounts(os.readlink(f"/proc/self/fd/{handle}"), itself=made is None or not ours)
        if not ours:
            return
        mount = _mount_of(handle)
        top = _open_to_empty(handle)
    finally:
        os.close(handle)
    try:
        while _empty(top, "", made, mount, top):
            pass
    finally:
        os.close(top)
    if made is None or "" in made:
        _remove_directory(path, None, made)


def _empty(
    directory: int,
    inside: str,
    made: Mapping[str, bool] | None,
    mount: tuple[int, int],
    top: int,
    depth: int = 1,
) -> bool:
    """Empty a directory; return whether something lay too deep and was moved up to top."""
    moved = False
    with os.scandir(directory) as entries:
        for entry in entries:
            path = f"{inside}/{entry.name}"
            is_directory = entry.is_dir(follow_symlinks=False)
            if made is not None and made.get(path) is not is_directory:
                continue
            if not is_directory:
                os.unlink(entry.name, dir_fd=directory)
            elif depth == MAX_REMOVAL_DEPTH and made is None:
                # Somebody may nest directories deeper than we have descriptors or stack.
                name = os.urandom(16).hex()
                os.rename(entry.name, name, src_dir_fd=directory, dst_dir_fd=top)
                moved = True
            else:
                flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                handle = os.open(entry.name, flags, dir_fd=directory)
                try:
                    if _mount_of(handle) != mount:
                        raise _mounted(os.readlink(f"/proc/self/fd/{handle}"))
                    child = _open_to_empty(handle)
                finally:
                    os.close(handle)
                try:
                    moved |= _empty(child, path, made, mount, top, depth + 1)
                finally:
                    os.close(child)
                _remove_directory(entry.name, directory, made)
    return moved


def _open_to_empty(handle: int) -> int:
    """Turn an O_PATH descriptor of a directory into one to list it by, and allow emptying it."""
    mode = stat.S_IMODE(os.fstat(handle).st_mode)
    if mode & 0o700 != 0o700:
        os.chmod(f"/proc/self/fd/{handle}", mode | 0o700)
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle)


def _remove_directory(name: str, parent: int | None, made: Mapping[str, bool] | None) -> None:
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if made is None or error.errno != errno.ENOTEMPTY:
            raise


def _mount_of(handle: int) -> tuple[int, int]:
    """Return device and mount id; a bind mount of the same file system differs only in the id."""
    with open(f"/proc/self/fdinfo/{handle}") as file:
        mount_id = next((line.split()[1] for line in file if line.startswith("mnt_id:")), "-1")
    return os.fstat(handle).st_dev, int(mount_id)


def _refuse_mounts(directory: str, itself: bool) -> None:
    """Look for mounts before anything is removed; _empty() checks again where it enters."""
    with open("/proc/self/mountinfo", "rb") as file:
        points = [mount.point for mount in parse_mountinfo(os.fsdecode(file.read()))]
    for point in points:
        if point.startswith(f"{directory}/") or (itself and point == directory):
            raise _mounted(point)


def _mounted(point: str) -> OSError:
    return OSError(errno.EBUSY, "not removed, because this is mounted there", point)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
