"""Root directories for containers: made from this machine's own programs, and removed again.

``Rootfs.from_host`` does what chapter 1 of the course does with cp and ldd; ``Rootfs.busybox``
gives a small complete system in one file. Removal is in ``_facts/inside.py``: a container has had
the directory for itself, and the caller removes it with the rights of the host.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import weakref
from typing import TYPE_CHECKING

from . import _doors
from ._errors import explained, printable
from ._facts.inside import MAX_LINKS, Program, open_file, read_program, remove_tree
from ._request.values import absolute_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from io import FileIO
    from types import TracebackType
    from typing import Self

__all__ = ["Rootfs"]

_DIRECTORIES = ("dev", "etc", "proc", "root", "run", "sys", "tmp", "var")

# What a loader prints with --list: "libc.so.6 => /lib/libc.so.6 (0x7f...)",
# "/lib64/ld-linux-x86-64.so.2 (0x7f...)"; the vdso has no path.
_LIBRARY = re.compile(r"^\s*(?:(?P<name>.+) => )?(?P<path>.*/.*) \(0x[0-9a-f]+\)$", re.MULTILINE)
_NOT_FOUND = re.compile(r"shared librar(?:y|ies):? (?P<name>[^:\n]+):.*No such file or directory")

_PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
_GROUP = "root:x:0:\nnobody:x:65534:\n"


class Rootfs(os.PathLike[str]):
    """A directory to be the ``/`` of a container; a context manager that removes what it made.

    Rootfs(dest) is an empty one, to be filled by hand; from_host() and busybox() fill one. dest is
    a directory that is empty, or does not exist while its parent does; None, the default, makes one
    in the temporary directory, mode 0755, so that every user can reach what is inside. As in any
    directory that others can enter, a container that runs as the host's root can leave a setuid
    program there: give it a user namespace, or a dest that is private.

    A temporary root is removed when it is garbage, or when the interpreter ends, with a
    ResourceWarning; in a forked child it is left alone.

    Raises FileExistsError if dest is not empty.

        >>> with nsdemo.Rootfs.from_host(["bash", "cat"]) as root:
        ...     sorted(os.listdir(os.path.join(root, "tmp")))
        []

    Source: hier(7).
    """

    def __init__(self, dest: str | os.PathLike[str] | None = None) -> None:
        self._made: dict[str, bool] = {}  # path inside, "" for dest itself: is it a directory?
        self._removed = False
        self._pid = os.getpid()
        self._finalizer: weakref.finalize[..., Rootfs] | None = None
        if dest is None:
            import tempfile

            self._path = tempfile.mkdtemp(prefix="nsdemo-rootfs-")
            try:
                self._identity = _identity(self._path)
                os.chmod(self._path, 0o755)
                self._finalizer = weakref.finalize(
                    self, _remove_forgotten, self._path, self._identity, self._pid
                )
            except BaseException:
                os.rmdir(self._path)
                raise
        else:
            self._path = os.path.normpath(absolute_path(os.fspath(dest)))
            try:
                os.mkdir(self._path)
            except FileExistsError:
                if os.listdir(self._path):
                    raise FileExistsError(
                        errno.EEXIST, "the directory is not empty", self._path
                    ) from None
            else:
                self._made[""] = True
            try:
                if self._made:
                    os.chmod(self._path, 0o755)
                self._identity = _identity(self._path)
            except BaseException:
                if self._made:
                    os.rmdir(self._path)
                raise

    @classmethod
    def from_host(
        cls,
        programs: Iterable[str | os.PathLike[str]],
        dest: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Make a root from programs of this machine, with their libraries and ELF loaders.

        programs are names, looked up in PATH, or paths with a slash. Each is copied to the path it
        has here, with the symbolic links that lead to it, and can be run as /bin/NAME. A script
        brings its interpreter, and X if that is "/usr/bin/env X". The files belong to the caller
        and are neither setuid nor setgid. dest is that of Rootfs; dev, etc, proc, root, run, sys,
        tmp (mode 1777) and var are there and, as far as no program lives in them, empty.

        The list of libraries comes from the program's own loader, which is run: like ldd(1), this
        is only for programs that you would run here. What a program opens by name later (plugins,
        locales, the modules of Python) is in no list.

        Raises FileNotFoundError for a program, interpreter or library that is not there,
        PermissionError for a file that is not executable or not readable, OSError (ENOEXEC) for one
        that is no program, TypeError for a str instead of a list, ValueError for an empty list or
        name, a NUL byte, or two programs of one name. Then nothing is left behind.

            >>> with nsdemo.Rootfs.from_host(["cat"]) as root:
            ...     os.access(os.path.join(root, "bin/cat"), os.X_OK)
            True

        Source: ld.so(8), ldd(1), execve(2).
        """
        found = [(os.path.basename(name), _find(name)) for name in _names(programs)]
        rootfs = cls(dest)
        with contextlib.ExitStack() as on_failure:
            on_failure.push(rootfs)
            copy = _HostCopy(rootfs)
            for name, path in found:
                copy.add(path, name)
            copy.finish()
            on_failure.pop_all()
        return rootfs

    @classmethod
    def busybox(cls, dest: str | os.PathLike[str] | None = None) -> Self:
        """Make a root from this machine's static busybox, with a symbolic link for each applet.

        dest is that of Rootfs. The directories of from_host() are added, and /etc/passwd and
        /etc/group with root and nobody, so that ps and ls show names.

        Raises FileNotFoundError if there is no statically linked busybox.

            >>> with nsdemo.Rootfs.busybox() as root:
            ...     os.readlink(os.path.join(root, "bin/sh"))
            'busybox'

        Source: busybox(1).
        """
        import subprocess

        program = _find_busybox()
        listing = subprocess.run(
            [program, "--list-full"], stdin=subprocess.DEVNULL, capture_output=True, check=True
        )
        rootfs = cls(dest)
        with contextlib.ExitStack() as on_failure:
            on_failure.push(rootfs)
            rootfs._copy(program, "/bin/busybox")
            for applet in os.fsdecode(listing.stdout).split():
                # Those of a busybox without an installer have no directory.
                inside = f"/{applet}" if "/" in applet else f"/bin/{applet}"
                rootfs._link("/bin/busybox", inside)
            rootfs._write(_PASSWD, "/etc/passwd")
            rootfs._write(_GROUP, "/etc/group")
            rootfs._standard_directories()
            on_failure.pop_all()
        return rootfs

    @property
    def path(self) -> str:
        """The absolute path of the directory."""
        return self._path

    @property
    def files(self) -> tuple[str, ...]:
        """The files and symbolic links that were made, as sorted paths inside."""
        return tuple(sorted(path for path, directory in self._made.items() if not directory))

    def remove(self) -> None:
        """Remove what was made: a temporary root whole, with all that a container has added to it.

        In a directory given as dest only the files and links made here are removed, the directories
        if they are then empty, and dest itself if it was made here. Removing twice, removing what
        is gone or has been replaced, and removing in a forked child do nothing.

        Raises OSError (EBUSY), with the mount point as its filename, if something is mounted on it
        or inside: then nothing is removed. PermissionError for files that belong to the id range of
        a user namespace.

            >>> root = nsdemo.Rootfs()
            >>> root.remove()
            >>> os.path.exists(root)
            False

        Source: unlink(2), proc_pid_mountinfo(5).
        """
        if self._removed or os.getpid() != self._pid:
            return
        remove_tree(self._path, self._identity, None if self._finalizer else self._made)
        self._removed = True
        if self._finalizer:
            self._finalizer.detach()

    def __fspath__(self) -> str:
        return self._path

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path!r}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the programs inside, and what each needs to start."""
        return _doors.html("libraries", self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()

    # Making things: paths inside are absolute, and no directory in them is a symbolic link.

    def _directory(self, inside: str) -> None:
        if inside and inside not in self._made:
            self._directory(os.path.dirname(inside).rstrip("/"))
            os.mkdir(self._path + inside)
            self._made[inside] = True
            os.chmod(self._path + inside, 0o755)  # whatever the umask

    def _standard_directories(self) -> None:
        for name in _DIRECTORIES:
            self._directory(f"/{name}")
        os.chmod(f"{self._path}/tmp", 0o1777)

    def _link(self, target: str, inside: str) -> None:
        """Make a symbolic link to a path inside that has no links in it."""
        self._symlink(os.path.relpath(target, os.path.dirname(inside)), inside)

    def _symlink(self, text: str, inside: str) -> None:
        if inside not in self._made:
            self._directory(os.path.dirname(inside).rstrip("/"))
            os.symlink(text, self._path + inside)
            self._made[inside] = False

    def _copy(self, host: str, inside: str) -> None:
        """Copy the bytes: a hard link would let the container change the host's file."""
        if inside in self._made:
            return
        import shutil

        with open(open_file("/", host), "rb", buffering=0) as source, self._create(inside) as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
            # The copy belongs to the caller: setuid, it would give everybody the caller's rights,
            # in here and through the directory on the host.
            os.fchmod(copy.fileno(), os.fstat(source.fileno()).st_mode & 0o777)

    def _write(self, text: str, inside: str) -> None:
        with self._create(inside) as file:
            file.write(text.encode())
            os.fchmod(file.fileno(), 0o644)

    def _create(self, inside: str) -> FileIO:
        self._directory(os.path.dirname(inside).rstrip("/"))
        file = open(self._path + inside, "xb", buffering=0)  # noqa: SIM115
        self._made[inside] = False
        return file


class _HostCopy:
    """Copies programs of this machine, and what they need to start, to the same paths inside."""

    def __init__(self, rootfs: Rootfs) -> None:
        self._rootfs = rootfs
        self._seen: set[str] = set()
        self._programs: list[tuple[str, str]] = []  # name, path
        self._libraries: list[tuple[str, str, str]] = []  # name, path, the directory of libc

    def add(self, path: str, name: str | None = None) -> None:
        """Copy a program with its libraries or its interpreter; given a name, also as /bin/NAME."""
        if name is not None:
            self._programs.append((name, path))
        if path in self._seen:
            return
        self._seen.add(path)
        program = read_program("/", path)
        if program.kind == "unreadable":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        if program.kind == "script" and program.interpreter is not None:
            self._mirror(path)
            self._add_interpreter(path, program.interpreter, program)
        elif program.kind == "elf":
            physical = self._mirror(path)  # the path that $ORIGIN will be taken from
            if program.interpreter is not None:
                self._add_libraries(physical, program.interpreter)
        else:
            raise OSError(errno.ENOEXEC, os.strerror(errno.ENOEXEC), path)

    def finish(self) -> None:
        """Give libraries and programs a second name, for what is configured only on the host."""
        # A loader has no ld.so.cache inside, and cannot tell $ORIGIN where /proc is not mounted.
        # But it always searches the directory of its libc.
        for name, path, directory in self._libraries:
            self._rootfs._link(path, f"{self._mirror(directory)}/{name}")
        if os.path.lexists("/bin"):
            binaries = self._mirror("/bin")
        else:
            self._rootfs._directory(binaries := "/bin")
        for name, path in self._programs:
            self._rootfs._link(self._mirror(path), f"{binaries}/{name}")
            root = self._rootfs.path
            if not os.path.samefile(f"{root}{binaries}/{name}", f"{root}{path}"):
                path = printable(path)
                raise ValueError(
                    f"{path}: another program in this root is called {printable(name)}"
                )
        self._rootfs._standard_directories()

    def _mirror(self, path: str) -> str:
        """Bring a path of this machine into the root, each link and directory on the way included.

        Whoever looks path up inside then goes the way he would go here, whether /bin, /lib and
        /lib64 are links (as on every merged-/usr system) or directories. Returns the path that has
        no links.
        """
        pending = path.split("/")[::-1]
        here = ""
        links = 0
        while pending:
            name = pending.pop()
            if name in ("", "."):
                continue
            if name == "..":
                here = os.path.dirname(here).rstrip("/")
                continue
            found = f"{here}/{name}"
            mode = os.lstat(found).st_mode
            if stat.S_ISLNK(mode):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink(found)
                self._rootfs._symlink(_inside_text(target, here), found)
                pending += target.split("/")[::-1]
                here = "" if target.startswith("/") else here
            else:
                if stat.S_ISDIR(mode):
                    self._rootfs._directory(found)
                else:
                    self._rootfs._copy(found, found)
                here = found
        return here

    def _add_interpreter(self, script: str, interpreter: str, program: Program) -> None:
        try:
            self.add(os.path.join("/", interpreter))
            if os.path.basename(interpreter) == "env" and program.argument is not None:
                words = re.split("[ \t]+", program.argument.removeprefix("-S"))  # env keeps a CR
                command = next((w for w in words if w and w[0] != "-" and "=" not in w), None)
                if command is not None:
                    self.add(_find(command), os.path.basename(command))
        except FileNotFoundError as error:
            explained(error, f"it is named in the first line of {script}")
            if program.carriage_return:
                explained(error, "that line ends in CR LF, and the CR is taken as part of the name")
            raise

    def _add_libraries(self, program: str, loader: str) -> None:
        try:
            self._mirror(loader)
        except FileNotFoundError as error:
            explained(error, f"it is the ELF loader that {program} names")
            raise
        libraries = _list_libraries(program, loader)
        libc = next((path for name, path in libraries if name.startswith("libc.so")), loader)
        for name, path in libraries:
            physical = self._mirror(path)
            if name and "/" not in name and path != loader:
                self._libraries.append((name, physical, os.path.dirname(libc)))


def _inside_text(target: str, directory: str) -> str:
    """Make a link's text relative, and never climb out, so that it also holds on the host."""
    depth = directory.count("/")
    if target.startswith("/"):
        return "../" * depth + target.lstrip("/") or "."
    parts = target.split("/")
    climb = next((i for i, part in enumerate(parts) if part != ".."), len(parts))
    return "/".join(parts[max(0, climb - depth) :]) or "."


def _list_libraries(program: str, loader: str) -> list[tuple[str, str]]:
    """Ask a loader what it would map: pairs of the name asked for, or "", and the path found."""
    import subprocess

    # No LD_LIBRARY_PATH: the command will not have it inside.
    answer = subprocess.run(
        [loader, "--list", program],
        cwd="/",
        env={"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    said = os.fsdecode(answer.stderr).strip()
    if answer.returncode == 0:
        listing = os.fsdecode(answer.stdout)
        return [(m["name"] or "", os.path.join("/", m["path"])) for m in _LIBRARY.finditer(listing)]
    missing = _NOT_FOUND.search(said)
    if missing is not None:
        error: OSError = FileNotFoundError(
            errno.ENOENT, "shared library not found", missing["name"]
        )
        if "LD_LIBRARY_PATH" in os.environ:
            explained(error, "LD_LIBRARY_PATH is not used: the command will not have it inside")
    else:
        error = OSError(errno.ELIBBAD, "the ELF loader cannot load it", program)
    words = said or f"exit status {answer.returncode}"
    raise explained(error, f"{loader} --list {program}: {words}")


def _names(programs: Iterable[str | os.PathLike[str]]) -> list[str]:
    if isinstance(programs, (str, bytes, os.PathLike)):
        raise TypeError(f"programs is a list of names, such as [{programs!r}]")
    names = [os.fspath(program) for program in programs]
    if not names:
        raise ValueError("programs is empty")
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"the name of a program is a str, not {name!r}")
        if not name or "\0" in name:
            raise ValueError(f"the name of a program is not empty and has no NUL byte: {name!r}")
    return names


def _find(program: str) -> str:
    """Return the absolute path of a program, as execvp(3) would find it."""
    import shutil

    found = shutil.which(program)
    if found is not None:
        return absolute_path(found)
    if "/" in program and os.path.exists(program):
        raise PermissionError(errno.EACCES, "not an executable file", program)
    error = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
    if "/" not in program:
        explained(error, f"it is in no directory of PATH: {os.environ.get('PATH', os.defpath)}")
    raise error


def _find_busybox() -> str:
    import shutil

    for name in ("busybox", "/bin/busybox", "/usr/bin/busybox", "busybox.static"):
        path = shutil.which(name)
        if path is not None:
            program = read_program("/", os.path.abspath(path))
            if program.kind == "elf" and program.interpreter is None:
                return os.path.abspath(path)
    error = FileNotFoundError(errno.ENOENT, "no statically linked busybox", "busybox")
    raise explained(error, "on Debian and Ubuntu: apt-get install busybox-static")


def _remove_forgotten(path: str, identity: tuple[int, int], pid: int) -> None:
    if os.getpid() == pid:
        import warnings

        remove_tree(path, identity)
        warnings.warn(f"Rootfs {path!r} was never removed", ResourceWarning, stacklevel=2)


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
