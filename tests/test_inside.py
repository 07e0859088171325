"""Opening and describing files inside a root whose owner is not our friend."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsdemo._facts.inside import (
    MAX_LINKS,
    Program,
    host_machine,
    open_file,
    open_path,
    read_program,
)


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with one file, and beside it a secret that must not be reached."""
    (tmp_path / "secret").write_text("outside")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/motd").write_text("inside")
    return root


def read(root: Path | int, path: str) -> str:
    with open(open_file(root, path)) as file:
        return file.read()


# Finding


@pytest.mark.parametrize("path", ["etc/motd", "/etc/motd", "//etc/./motd", "../../etc/../etc/motd"])
def test_a_file_is_found_from_the_root(root: Path, path: str) -> None:
    assert read(root, path) == "inside"


def test_the_root_may_be_a_descriptor_and_stays_open(root: Path) -> None:
    descriptor = os.open(root, os.O_PATH)
    try:
        assert read(descriptor, "etc/motd") == "inside"
        assert stat.S_ISDIR(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    "target",
    [
        "etc/motd",
        "/etc/motd",
        "../../../../etc/motd",
        "/../etc/../../etc/motd",
        "/etc/../../../etc/motd",
    ],
)
def test_a_link_is_resolved_as_if_the_root_were_slash(root: Path, target: str) -> None:
    (root / "link").symlink_to(target)
    assert read(root, "link") == "inside"


@pytest.mark.parametrize("target", ["../secret", "/../secret", "etc/../../secret"])
def test_nothing_outside_is_reached(root: Path, target: str) -> None:
    (root / "link").symlink_to(target)
    assert (root / "link").exists() or target.startswith("/")  # the kernel would go there
    for path in ("link", target):
        with pytest.raises(FileNotFoundError) as caught:
            open_file(root, path)
        assert caught.value.filename == path
    (root / "up").symlink_to("..")
    assert os.path.samestat(status_of(root, "up"), root.stat())


def status_of(root: Path | str, path: str) -> os.stat_result:
    descriptor = open_path(root, path)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def test_parent_of_a_linked_directory_is_that_of_its_target(root: Path) -> None:
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/here").write_text("usr")
    (root / "lib").symlink_to("usr/lib")
    assert read(root, "lib/../here") == "usr"


def test_forty_links_and_no_more(root: Path) -> None:
    (root / "link0").symlink_to("/etc/motd")
    for number in range(1, MAX_LINKS + 1):
        (root / f"link{number}").symlink_to(f"link{number - 1}")
    assert read(root, f"link{MAX_LINKS - 1}") == "inside"
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        open_path(root, f"link{MAX_LINKS}")


def test_a_loop_of_links(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("/a")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        open_path(root, "a")


def test_a_bomb_of_links_is_bounded(root: Path) -> None:
    (root / "up").symlink_to("etc/../" * 500 + "up")
    started = time.process_time()
    with pytest.raises(OSError, match=os.strerror(errno.ENAMETOOLONG)):
        open_path(root, "up")
    assert time.process_time() - started < 5


def test_a_deep_path_is_bounded(root: Path) -> None:
    here = os.open(root, os.O_PATH)
    for _ in range(200):
        os.mkdir("d", dir_fd=here)
        here, old = os.open("d", os.O_PATH, dir_fd=here), here
        os.close(old)
    os.close(here)
    with pytest.raises(OSError, match=os.strerror(errno.ENAMETOOLONG)):
        open_path(root, "d/" * 200)


@pytest.mark.parametrize(
    "path", ["etc/motd/", "etc/motd/.", "etc/motd/..", "etc/motd/x", "tofile/"]
)
def test_a_file_is_not_a_directory(root: Path, path: str) -> None:
    (root / "tofile").symlink_to("etc/motd")
    with pytest.raises(NotADirectoryError):
        open_path(root, path)


def test_wrong_paths_and_roots(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_path(root, "")
    with pytest.raises(ValueError, match="null"):
        open_path(root, "etc/\0")
    with pytest.raises(NotADirectoryError):
        open_path(root / "etc/motd", "x")
    with pytest.raises(FileNotFoundError) as caught:
        open_path(root / "nowhere", "x")
    assert caught.value.filename == str(root / "nowhere")


def test_a_magic_link_is_only_a_text(tmp_path: Path) -> None:
    with open(tmp_path / "gone", "w") as file:
        os.unlink(file.name)
        magic = f"/proc/self/fd/{file.fileno()}"
        os.close(os.open(magic, os.O_RDONLY))  # the kernel opens it, though it has no name
        with pytest.raises(FileNotFoundError):
            open_file("/", magic)


def test_a_directory_swapped_for_a_link_never_leads_out(root: Path) -> None:
    (root / "etc/secret").write_text("inside")
    (root / "bait").symlink_to("..")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(root / "etc", root / "real")
            os.rename(root / "bait", root / "etc")
            os.rename(root / "etc", root / "bait")
            os.rename(root / "real", root / "etc")

    attacker = threading.Thread(target=swap)
    attacker.start()
    outcomes = set()
    try:
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            try:
                outcomes.add(read(root, "etc/secret"))
            except FileNotFoundError:
                outcomes.add("not found")
    finally:
        stop.set()
        attacker.join()
    assert "inside" in outcomes
    assert outcomes <= {"inside", "not found"}


# Only regular files


def test_a_fifo_a_socket_and_a_directory_are_not_opened(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "socket"))
        for name in ("fifo", "socket"):
            with pytest.raises(OSError, match=f"not a regular file: '{name}'"):
                open_file(root, name)
        with pytest.raises(IsADirectoryError, match="'etc'"):
            open_file(root, "etc")
        assert read_program(root, "fifo").kind == "special"
        assert read_program(root, "socket").kind == "special"
        assert read_program(root, "etc").kind == "directory"


def test_a_device_is_not_opened() -> None:
    with pytest.raises(OSError, match="not a regular file"):
        open_file("/", "/dev/zero")
    assert read_program("/", "/dev/zero").kind == "special"


def test_a_lease_does_not_make_us_wait(root: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, os, signal, sys\n"
            "signal.signal(signal.SIGIO, signal.SIG_IGN)\n"
            f"fd = os.open(sys.argv[1], os.O_WRONLY)\n"
            f"fcntl.fcntl(fd, {fcntl.F_SETLEASE}, {fcntl.F_WRLCK})\n"
            "print('held', flush=True)\n"
            "sys.stdin.read()",
            root / "etc/motd",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        started = time.monotonic()
        with pytest.raises(BlockingIOError):
            read_program(root, "etc/motd")
        assert time.monotonic() - started < 30, "the kernel waits 45 s for the holder of a lease"
        holder.send_signal(signal.SIGKILL)


# Scripts, as the kernel takes them


@pytest.mark.parametrize(
    "line",
    [
        b"#!/bin/echo\n",
        b"#!  \t/bin/echo  \t\n",
        b"#!/bin/echo one\n",
        b"#!/bin/echo\tone  two three \t \n",
        b"#!/bin/echo \t -e\n",
        b"#!/bin/echo",
        b"#!/bin/echo one\0two\n",
        b"#!/bin/echo\0one\n",
        b"#!/bin/echo " + b"x" * 300 + b"\n",
        b"#!/bin/echo one\r\n",
        b"#!/bin/echo \r\n",
    ],
)
def test_a_script_is_read_as_the_kernel_reads_it(root: Path, line: bytes) -> None:
    (root / "script").write_bytes(line)
    (root / "script").chmod(0o755)
    program = read_program(root, "script")
    assert (program.kind, program.mode, program.interpreter) == ("script", 0o755, "/bin/echo")
    assert program.carriage_return is line.endswith(b"\r\n")
    said = subprocess.run([root / "script"], capture_output=True, check=True).stdout.decode()
    words = [program.argument, str(root / "script")] if program.argument else [str(root / "script")]
    expected = ["/bin/echo", *words]
    assert said == subprocess.run(expected, capture_output=True, check=True).stdout.decode()


@pytest.mark.parametrize(
    "line",
    [b"#!\n", b"#!", b"#! \t \n/bin/sh\n", b"#!/" + b"x" * 300, b"#!" + b" " * 300 + b"/bin/sh\n"],
)
def test_a_script_the_kernel_refuses_has_no_interpreter(root: Path, line: bytes) -> None:
    (root / "script").write_bytes(line)
    (root / "script").chmod(0o755)
    assert read_program(root, "script")._replace(noexec=False) == Program("script", 0o755, False)
    # "#!" alone makes the kernel execute the empty path
    refusal = errno.EACCES if line == b"#!" else errno.ENOEXEC
    with pytest.raises(OSError, match=os.strerror(refusal)):
        subprocess.run([root / "script"], check=False)


def test_a_carriage_return_is_part_of_the_interpreter(root: Path) -> None:
    (root / "script").write_bytes(b"#!/bin/sh\r\n")
    program = read_program(root, "script")
    assert (program.interpreter, program.carriage_return) == ("/bin/sh\r", True)


# ELF


def elf(
    wide: bool = True,
    order: str = "<",
    machine: int = 62,
    kind: int = 3,
    interpreter: bytes | None = b"/lib/ld.so\0",
    claims: dict[str, int] | None = None,
) -> bytes:
    """A header, one or two program headers, the interpreter; claims replace what they say."""
    claims = claims or {}
    size, header_size = (56, 64) if wide else (32, 52)
    count = 1 if interpreter is None else 2
    offset = claims.get("offset", header_size + size * count)
    length = claims.get("length", len(interpreter or b""))
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    word = "Q" if wide else "I"
    file = ident + struct.pack(
        f"{order}HHI3{word}I6H",
        *(kind, machine, 1, 0, claims.get("start", header_size), 0, 0),
        *(header_size, claims.get("size", size), claims.get("count", count), 0, 0, 0),
    )
    for kind_of_segment in (1, 3)[:count]:
        if wide:
            file += struct.pack(f"{order}IIQQQQQQ", kind_of_segment, 4, offset, 0, 0, length, 0, 1)
        else:
            file += struct.pack(f"{order}IIIIIIII", kind_of_segment, offset, 0, 0, length, 0, 4, 1)
    return file + (interpreter or b"")


def described(root: Path, content: bytes) -> Program:
    (root / "program").write_bytes(content)
    return read_program(root, "program")


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
def test_elf_of_every_class_and_byte_order(root: Path, wide: bool, order: str) -> None:
    program = described(root, elf(wide, order, machine=183))
    assert (program.kind, program.machine, program.interpreter) == ("elf", "AArch64", "/lib/ld.so")
    assert program.bits == (64 if wide else 32)
    assert program.byte_order == ("little" if order == "<" else "big")
    assert described(root, elf(wide, order, interpreter=None)).interpreter is None
    assert described(root, elf(wide, order, machine=9999)).machine == "machine 9999"
    assert described(root, elf(wide, order, kind=1)).kind == "other"


@pytest.mark.parametrize("wide", [True, False])
def test_elf_cut_off_anywhere_is_damaged(root: Path, wide: bool) -> None:
    whole = elf(wide)
    assert described(root, whole).kind == "elf"
    for length in range(4, len(whole)):
        assert described(root, whole[:length]).kind == "damaged", length


@pytest.mark.parametrize(
    "claims",
    [
        {"start": 2**64 - 1},
        {"start": 2**63},
        {"start": 10**6},
        {"count": 65535},
        {"count": 0},
        {"size": 0},
        {"size": 65535},
        {"size": 55},
        {"offset": 2**64 - 1},
        {"length": 2**64 - 1},
        {"length": 2**40},
        {"length": 0},
        {"length": 5},  # not terminated
        {"length": 4097},
    ],
)
def test_elf_with_impossible_claims_is_damaged(root: Path, claims: dict[str, int]) -> None:
    assert described(root, elf(claims=claims)).kind == "damaged"


def test_a_sparse_giant_is_read_in_bounds(root: Path) -> None:
    (root / "program").write_bytes(elf(claims={"start": 2**40}))
    os.truncate(root / "program", 2**41)
    program = read_program(root, "program")
    assert (program.kind, program.interpreter) == ("elf", None)  # the headers there are all zero
    (root / "program").write_bytes(elf(claims={"length": 2**40}))
    os.truncate(root / "program", 2**41)
    assert read_program(root, "program").kind == "damaged"


def test_programs_of_this_machine() -> None:
    program = read_program("/", os.path.realpath(sys.executable))
    assert (program.kind, program.machine) == ("elf", host_machine())
    assert program.byte_order == sys.byteorder
    assert program.mode & 0o111
    assert host_machine() in ("x86-64", "AArch64", "i386", "ARM", "RISC-V", "PowerPC64", "S390")
    if os.uname().machine == "x86_64" and sys.maxsize > 2**32:
        assert (host_machine(), program.bits) == ("x86-64", 64)


def test_other_kinds(root: Path) -> None:
    assert described(root, b"").kind == "empty"
    assert described(root, b"echo hello\n").kind == "other"
    assert read_program("/", "/proc/self/status").kind == "empty"
    with pytest.raises(FileNotFoundError):
        read_program(root, "nothing")


def test_noexec_is_told() -> None:
    assert read_program("/", "/proc/self/status").noexec is bool(
        os.statvfs("/proc").f_flag & os.ST_NOEXEC
    )


def test_unreadable_is_told_to_who_may_not_read(root: Path) -> None:
    (root / "program").write_bytes(elf())
    (root / "program").chmod(0o111)
    root.chmod(0o755)
    descriptor = os.open(root, os.O_PATH)
    child = os.fork()
    if child == 0:  # whoever we are, this is somebody without rights
        status = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            program = read_program(descriptor, "program")
            status = 0 if (program.kind, program.mode) == ("unreadable", 0o111) else 2
        finally:
            os._exit(status)
    os.close(descriptor)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
