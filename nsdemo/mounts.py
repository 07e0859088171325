"""What can be mounted in a container: small values for ``mounts=`` of spawn, run and a Plan.

    >>> scripts = nsdemo.Bind("/etc", "/data", readonly=True)
    >>> nsdemo.run(["ls", "-d", "/data/passwd"], root=rootfs, mounts=[scripts]).returncode
    0

Each says what, and where below the new root. A missing target is made, a directory or an empty
file, and stays. See mount(2), mount_setattr(2), path_resolution(7).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from ._request.values import MS_REC, absolute_path, encode_path, text_value

__all__ = ["Bind", "Dev", "Mount", "Overlay", "Proc", "Sysfs", "Tmpfs"]

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
# enum nsd_file_kind
_BIND, _FILESYSTEM, _DEV, _LOWER, _UPPER, _WORK, _OVERLAY, _ROOT_OVERLAY = range(8)
_READONLY_ROOT, _MASK = 8, 9
_SIZE = re.compile(r"([1-9][0-9]{0,17})([kKmMgG]?)")
_MOST_INODES = 1 << 20
_MOST_SOURCES = 54  # the slots of a plan that are left for them

_MOST_MOUNTS = 120  # that a launch can keep hold of, NSD_HELD, without those of root= and /proc
_MOUNTS = {_DEV: 10, _LOWER: 0, _UPPER: 0, _WORK: 0, _MASK: 0}

_SOURCES = {_BIND: 1, _DEV: 6, _LOWER: 1, _UPPER: 1, _WORK: 1}

_Entry = tuple[int, int, bytes | None, bytes, bytes | None]


def _target(path: str | os.PathLike[str]) -> str:
    text = text_value(path)
    encode_path("target", text)
    if not text.startswith("/"):
        raise ValueError(f"target must begin with /, the new root, not {text!r}")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError(f"target {text!r} has '..' in it: name the place itself")
    if not parts:
        raise ValueError("target is the root itself: root= says what that is")
    if max(len(os.fsencode(part)) for part in parts) > 255:
        raise ValueError("a name in target is longer than 255 bytes")
    return "/" + "/".join(parts)


def _source(name: str, path: str | os.PathLike[str]) -> str:
    text = text_value(path)
    encode_path(name, text)
    return absolute_path(text)


def checked_size(name: str, size: int | str | None) -> int | str | None:
    """The size of a file system in memory, as it was given."""
    wrong = f"{name} is a number of bytes, or text such as '64m', not {size!r:.60}"
    if isinstance(size, bool) or not isinstance(size, (int, str, type(None))):
        raise TypeError(wrong)
    if size is not None and not _SIZE.fullmatch(str(size)):
        raise ValueError(wrong)
    return size


def _tmpfs(mode: int, size: int | str | None) -> bytes:
    """Its options. Without a bound, names alone fill the memory: an inode takes a kilobyte."""
    if size is None:
        return b"mode=%o,size=50%%,nr_inodes=%d" % (mode, _MOST_INODES)
    match = _SIZE.fullmatch(str(size))
    assert match is not None
    kilobytes = int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2].lower()] >> 10
    inodes = max(1024, min(kilobytes, _MOST_INODES))
    return b"mode=%o,size=%s,nr_inodes=%d" % (mode, str(size).encode(), inodes)


class Mount:
    """What the values have in common: a target, flags, and that they do not change.

    Attributes:
        target: where, below the new root.
        readonly, nosuid, nodev, noexec: the flags of the mount.
    """

    __slots__ = ("nodev", "noexec", "nosuid", "readonly", "target")

    target: str
    readonly: bool
    nosuid: bool
    nodev: bool
    noexec: bool

    def _set(self, **values: Any) -> None:
        for name in ("readonly", "nosuid", "nodev", "noexec", "recursive", "masked"):
            if name in values and not isinstance(values[name], bool):
                raise TypeError(f"{name} must be True or False, not {values[name]!r}")
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a {type(self).__name__} does not change")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a {type(self).__name__} does not change")

    def _names(self) -> tuple[str, ...]:
        return tuple(n for kind in type(self).__mro__ for n in getattr(kind, "__slots__", ()))

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._names())
        return f"nsdemo.{type(self).__name__}({inner})"

    def __eq__(self, other: object) -> bool:
        return repr(self) == repr(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(repr(self))

    def __reduce__(self) -> tuple[object, ...]:
        values = {name: getattr(self, name) for name in self._names()}
        return _again, (type(self), values)

    def _flags(self) -> int:
        given = (self.readonly, self.nosuid, self.nodev, self.noexec)
        bits = (MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC)
        return sum(bit for bit, value in zip(bits, given, strict=True) if value)

    def _entries(self) -> list[_Entry]:
        return [self._entry()]

    def _entry(self) -> _Entry:
        raise NotImplementedError


def _again(kind: type[Mount], values: dict[str, Any]) -> Mount:
    made = kind.__new__(kind)
    made._set(**values)
    return made


class Bind(Mount):
    """A directory or file of ours at a second place. See mount(2), "Creating a bind mount".

    Args:
        source: the directory or file; opened before anything is mounted.
        target: where; made where it is missing, of the kind that the source is.
        readonly, nosuid, nodev, noexec: set on the mount and, if recursive, on those below.
            Flags that are set already stay: in a user namespace nobody may take them away.
        recursive: with what is mounted below the source, too.

    Example:
        >>> nsdemo.Bind("/usr", "/usr", readonly=True).target
        '/usr'
    """

    __slots__ = ("recursive", "source")

    source: str
    recursive: bool

    def __init__(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        readonly: bool = False,
        recursive: bool = True,
        *,
        nosuid: bool = False,
        nodev: bool = False,
        noexec: bool = False,
    ) -> None:
        self._set(
            source=_source("source", source),
            recursive=recursive,
            target=_target(target),
            readonly=readonly,
            nosuid=nosuid,
            nodev=nodev,
            noexec=noexec,
        )

    def _entry(self) -> _Entry:
        flags = self._flags() | (MS_REC if self.recursive else 0)
        return _BIND, flags, os.fsencode(self.source), os.fsencode(self.target), None


class Tmpfs(Mount):
    """An empty file system in memory, gone with the container. See tmpfs(5).

    Args:
        target: the directory; made where it is missing.
        size: at most so much, in bytes or as in "64m" (k, m, g); None is half of the memory.
        mode: permissions of its root directory.
        readonly, nosuid, nodev, noexec: the flags of the mount.

    Example:
        >>> memory = nsdemo.Tmpfs("/mnt", size="1m")
        >>> nsdemo.run(["stat", "-fc", "%T", "/mnt"], mounts=[memory], capture_output=True).stdout
        b'tmpfs\\n'
    """

    __slots__ = ("mode", "size")

    size: int | str | None
    mode: int

    def __init__(
        self,
        target: str | os.PathLike[str],
        size: int | str | None = None,
        mode: int = 0o755,
        *,
        readonly: bool = False,
        nosuid: bool = True,
        nodev: bool = True,
        noexec: bool = False,
    ) -> None:
        checked_size("size", size)
        if isinstance(mode, bool) or not isinstance(mode, int):
            raise TypeError("mode must be an int such as 0o755")
        if not 0 <= mode <= 0o7777:
            raise ValueError("mode must be between 0 and 0o7777")
        self._set(
            size=size,
            mode=mode,
            target=_target(target),
            readonly=readonly,
            nosuid=nosuid,
            nodev=nodev,
            noexec=noexec,
        )

    def _entry(self) -> _Entry:
        target = os.fsencode(self.target)
        return _FILESYSTEM, self._flags(), b"tmpfs", target, _tmpfs(self.mode, self.size)


class Proc(Mount):
    """A /proc that shows the pid namespace. See proc(5).

    Args:
        target: the directory; made where it is missing.
        masked: hide what tells about the machine (kcore, keys, timer_list, acpi and the like),
            and let nobody write to what changes it (sys, sysrq-trigger, bus, fs, irq): the
            paths of the OCI runtimes' default. Who keeps CAP_SYS_ADMIN inside can uncover
            them, and a user namespace inside gets no new /proc, as the kernel shows there
            only what is wholly visible already.
        readonly, nosuid, nodev, noexec: the flags of the mount.

    Example:
        >>> proc = nsdemo.Proc("/mnt")
        >>> nsdemo.run(["cat", "/mnt/1/comm"], mounts=[proc], capture_output=True).stdout
        b'cat\\n'
    """

    __slots__ = ("masked",)
    _type = b"proc"
    _hidden = b"acpi:asound:kcore:keys:latency_stats:timer_list:timer_stats:sched_debug:scsi"
    _closed = b"bus:fs:irq:sys:sysrq-trigger"

    masked: bool

    def __init__(
        self,
        target: str | os.PathLike[str] = "/proc",
        *,
        masked: bool = False,
        readonly: bool = False,
        nosuid: bool = True,
        nodev: bool = True,
        noexec: bool = True,
    ) -> None:
        self._set(
            masked=masked,
            target=_target(target),
            readonly=readonly,
            nosuid=nosuid,
            nodev=nodev,
            noexec=noexec,
        )

    def _entries(self) -> list[_Entry]:
        flags, target = self._flags(), os.fsencode(self.target)
        found: list[_Entry] = [(_FILESYSTEM, flags, self._type, target, None)]
        if self.masked:
            found.append((_MASK, flags, self._hidden, target, self._closed))
        return found


class Sysfs(Proc):
    """A /sys that shows the network namespace: a user namespace needs ``net=True`` for it.

    Args:
        target: the directory; made where it is missing.
        masked: hide firmware and the power meter, see Proc; and read-only, as root inside may
            else change what the machine does.
        readonly, nosuid, nodev, noexec: the flags of the mount.

    Example:
        >>> sys = nsdemo.Sysfs("/sys")
        >>> nsdemo.run(
        ...     ["ls", "/sys/class/net"], net=True, mounts=[sys], capture_output=True
        ... ).stdout
        b'lo\\n'
    """

    __slots__ = ()
    _type = b"sysfs"
    _hidden = b"firmware:devices/virtual/powercap"
    _closed = b""

    def __init__(
        self,
        target: str | os.PathLike[str] = "/sys",
        *,
        masked: bool = False,
        readonly: bool = False,
        nosuid: bool = True,
        nodev: bool = True,
        noexec: bool = True,
    ) -> None:
        super().__init__(
            target, masked=masked, readonly=readonly, nosuid=nosuid, nodev=nodev, noexec=noexec
        )
        if masked:
            self._set(readonly=True)


class Dev(Mount):
    """A /dev for a container: a tmpfs with what programs expect, and no hardware.

    null, zero, full, random, urandom and tty of the host, if they really are these devices;
    the links fd, stdin, stdout and stderr; terminals of its own (pts, ptmx); shm; and mqueue
    where the ipc namespace is new. See null(4), pts(4), shm_overview(7).

    Args:
        target: the directory; made where it is missing.
        size: at most so much in its files, in bytes or as in "64m"; None is half of the memory.
        shm_size: the same for shm, in which programs share memory.

    Example:
        >>> nsdemo.run(["ls", "/dev/null"], root=rootfs, mounts=[nsdemo.Dev()]).returncode
        0
    """

    __slots__ = ("shm_size", "size")

    size: int | str | None
    shm_size: int | str | None

    def __init__(
        self,
        target: str | os.PathLike[str] = "/dev",
        *,
        size: int | str | None = "1m",
        shm_size: int | str | None = "64m",
    ) -> None:
        self._set(
            size=checked_size("size", size),
            shm_size=checked_size("shm_size", shm_size),
            target=_target(target),
            readonly=False,
            nosuid=True,
            nodev=True,
            noexec=False,
        )

    def _entry(self) -> _Entry:
        shm, target = _tmpfs(0o1777, self.shm_size), os.fsencode(self.target)
        return _DEV, self._flags(), shm, target, _tmpfs(0o755, self.size)


class Overlay(Mount):
    """Directories laid over each other; changes go to the upmost one. See the kernel's
    Documentation/filesystems/overlayfs.rst.

    Args:
        target: the directory; made where it is missing.
        lower: directories that stay as they are, the upmost first. What is mounted below them is
            not seen.
        upper: the directory that takes the changes; None is one in memory, gone with the
            container. There, before Linux 6.6, an ordinary user's container can neither
            remove a full directory of lower nor make it anew (EIO).
        work: an empty directory on the same file system as upper; given exactly when that is.
        size: at most so much of changes in memory, in bytes or as in "64m"; None is half of it.
        readonly, nosuid, nodev, noexec: the flags of the mount.

    Example:
        >>> os.makedirs("patches"), os.makedirs("data/old")
        (None, None)
        >>> layers = [os.path.abspath("patches"), os.path.abspath("data")]
        >>> both = nsdemo.Overlay("/both", lower=layers)
        >>> nsdemo.run(["ls", "/both"], root=rootfs, mounts=[both], capture_output=True).stdout
        b'old\\n'
    """

    __slots__ = ("lower", "size", "upper", "work")

    lower: tuple[str, ...]
    size: int | str | None
    upper: str | None
    work: str | None

    def __init__(
        self,
        target: str | os.PathLike[str],
        lower: Sequence[str | os.PathLike[str]],
        upper: str | os.PathLike[str] | None = None,
        work: str | os.PathLike[str] | None = None,
        *,
        size: int | str | None = None,
        readonly: bool = False,
        nosuid: bool = False,
        nodev: bool = False,
        noexec: bool = False,
    ) -> None:
        checked_size("size", size)
        if size is not None and upper is not None:
            raise ValueError("size= is for changes in memory, and upper= puts them elsewhere")
        if isinstance(lower, (str, bytes, os.PathLike)):
            raise TypeError("lower is a list of directories, the upmost first")
        paths = tuple(_source("lower", path) for path in lower)
        if not paths:
            raise ValueError("lower is empty: name one directory at least")
        if (upper is None) != (work is None):
            raise ValueError("upper= and work= go together: work is an empty directory beside it")
        self._set(
            lower=paths,
            size=size,
            upper=None if upper is None else _source("upper", upper),
            work=None if work is None else _source("work", work),
            target=_target(target),
            readonly=readonly,
            nosuid=nosuid,
            nodev=nodev,
            noexec=noexec,
        )

    def _entries(self) -> list[_Entry]:
        sources = [(_LOWER, path) for path in self.lower]
        words = f"lowerdir={':'.join(self.lower)}"
        if self.upper is not None and self.work is not None:
            sources += [(_UPPER, self.upper), (_WORK, self.work)]
            words += f",upperdir={self.upper},workdir={self.work}"
        target = os.fsencode(self.target)
        found: list[_Entry] = [(kind, 0, os.fsencode(path), target, None) for kind, path in sources]
        memory = None if self.upper is not None else _tmpfs(0o755, self.size)
        return [*found, (_OVERLAY, self._flags(), os.fsencode(words), target, memory)]


for _kind in (Mount, Bind, Dev, Overlay, Tmpfs, Proc, Sysfs):
    _kind.__module__ = "nsdemo.mounts" if _kind is Mount else "nsdemo"


def entries(values: Sequence[Mount]) -> tuple[_Entry, ...]:
    """The values as the core takes them."""
    if isinstance(values, (Mount, str, bytes)):
        raise TypeError("mounts is a list, such as [nsdemo.Tmpfs('/tmp')]")
    found: list[_Entry] = []
    for value in values:
        if not isinstance(value, Mount):
            raise TypeError(
                "mounts takes Bind, Tmpfs, Proc, Dev, Sysfs and Overlay of nsdemo, "
                f"not {type(value).__name__}: {value!r}"
            )
        found += value._entries()
    if sum(_SOURCES.get(kind, 0) for kind, *_ in found) > _MOST_SOURCES:
        raise ValueError(
            f"a container has room for {_MOST_SOURCES} binds and directories of overlays; a "
            "Dev is six"
        )
    if sum(_MOUNTS.get(kind, 1) for kind, *_ in found) > _MOST_MOUNTS:
        raise ValueError(f"a container has room for {_MOST_MOUNTS} mounts; a Dev is ten")
    return tuple(found)


def covers(values: Sequence[Mount], target: str) -> bool:
    """Is one of them a Proc on this very target?"""
    return any(type(value) is Proc and value.target == target for value in values)


def over_root(root: bytes, size: int | str | None, anew: bool) -> _Entry:
    """For overlay=True: changes of the root go to memory; ``anew``: its layers say how."""
    checked_size("overlay_size", size)
    return _ROOT_OVERLAY, int(anew), b"lowerdir=" + root, b"/", _tmpfs(0o755, size)


def readonly_root() -> _Entry:
    """For readonly_root=True."""
    return _READONLY_ROOT, 0, None, b"/", None
