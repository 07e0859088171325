"""Whatever is read from somebody else, and whatever is given to a call: described, or refused.

Each reader is given anything at all, which it must not stumble over, and what the kernel writes
of anything at all, which it must read back as it was.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import nsdemo
from nsdemo import flags
from nsdemo._facts import inside, processes, tables
from nsdemo._request import id_maps
from nsdemo.notebook import _elf

settings.register_profile("nsdemo", deadline=None, database=None, print_blob=True, max_examples=150)
settings.load_profile("nsdemo")
settings.register_profile("long", settings.get_profile("nsdemo"), max_examples=20000)

names = st.binary(min_size=1, max_size=80).filter(lambda b: b"\0" not in b)
paths = st.lists(names.filter(lambda b: b"/" not in b), min_size=1, max_size=4).map(
    lambda parts: b"/" + b"/".join(parts)
)
numbers = st.integers(0, 2**31 - 1)


@pytest.fixture(scope="module", autouse=True)
def more_with_long(request: pytest.FixtureRequest) -> Iterator[None]:
    """``--long`` asks a hundred times as often."""
    settings.load_profile("long" if request.config.getoption("--long") else "nsdemo")
    yield
    settings.load_profile("nsdemo")


@contextlib.contextmanager
def file_with(content: bytes) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.write(content)
        file.flush()
        yield Path(file.name)


@contextlib.contextmanager
def mistakes(*kinds: type[Exception]) -> Iterator[None]:
    """An error of one of these kinds, with words, or none."""
    error = None
    try:
        yield
    except kinds as caught:
        error = caught
    assert error is None or str(error)


def escaped(name: bytes) -> bytes:
    """As the kernel's seq_path() writes a name."""
    return re.sub(rb"[ \t\n\\]", lambda found: b"\\%03o" % found[0][0], name)


# -- programs ----------------------------------------------------------------------------------


@st.composite
def elf_files(draw: st.DrawFn) -> tuple[bytes, str]:
    """A program of 64 bits with a loader, and lies in places; what its loader is."""
    loader = draw(paths)
    count = draw(st.integers(1, 6))
    which = draw(st.integers(0, count - 1))
    start = 64 + 56 * count
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    table = b""
    for number in range(count):
        kind = 3 if number == which else draw(st.sampled_from([1, 2, 4, 6, 0x6474E551]))
        place = start if number == which else draw(st.integers(0, 2**64 - 1))
        size = len(loader) + 1 if number == which else draw(st.integers(0, 2**64 - 1))
        table += struct.pack("<IIQQQQQQ", kind, 4, place, 0, 0, size, size, 1)
    return head + table + loader + b"\0", os.fsdecode(loader)


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """An ELF file or a script with some bytes of it changed, or cut off."""
    content = bytearray(draw(st.one_of(elf_files().map(lambda made: made[0]), st.binary())))
    for _ in range(draw(st.integers(0, 8))):
        if content:
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    head = draw(st.sampled_from([b"", b"#!", b"\x7fELF", b"\x7fELF\x02\x01", b"\x7fELF\x01\x02"]))
    whole = head + bytes(content)
    return whole[: draw(st.integers(0, len(whole)))]


@given(spoiled())
def test_any_file_is_described(content: bytes) -> None:
    with file_with(content) as path:
        program = inside.read_program(path.parent, path.name)
        assert program.kind in ("elf", "damaged", "script", "empty", "other")
        folder = os.open(path.parent, os.O_PATH)
        try:
            needs = _elf.needs_of(folder, path.name)
        finally:
            os.close(folder)
        assert needs.kind in ("elf", "script", "")
        assert len(needs.libraries) <= 200


@given(elf_files())
def test_the_loader_of_a_program(made: tuple[bytes, str]) -> None:
    content, loader = made
    with file_with(content) as path:
        program = inside.read_program(path.parent, path.name)
    assert (program.kind, program.interpreter) == ("elf", loader)


@given(names.filter(lambda b: not re.search(rb"[ \t\n]", b)), st.binary(max_size=40))
def test_the_interpreter_of_a_script(interpreter: bytes, rest: bytes) -> None:
    with file_with(b"#! \t" + interpreter + b"\n" + rest) as path:
        program = inside.read_program(path.parent, path.name)
    assert (program.kind, program.interpreter) == ("script", os.fsdecode(interpreter))


# -- /proc -------------------------------------------------------------------------------------

mount_lines = st.builds(
    tables.Mount,
    numbers,
    numbers,
    st.builds("{}:{}".format, numbers, numbers),
    paths.map(os.fsdecode),
    paths.map(os.fsdecode),
    st.sampled_from(["rw", "ro,nosuid,relatime"]),
    st.sampled_from(["", "shared:1", "shared:7 master:2", "unbindable"]),
    st.sampled_from(["tmpfs", "overlay", "fuse.sshfs", "nsfs"]),
    paths.map(os.fsdecode),
    st.sampled_from(["rw", "rw,size=1k"]),
)


def as_the_kernel_writes(mount: tables.Mount) -> str:
    root, point, source = (
        os.fsdecode(escaped(os.fsencode(text))) for text in (mount.root, mount.point, mount.source)
    )
    words = [str(mount.number), str(mount.parent), mount.device, root, point, mount.options]
    words += [mount.propagation] if mount.propagation else []
    return " ".join([*words, "-", mount.kind, source, mount.super_options])


@given(st.lists(mount_lines, max_size=5))
def test_mounts_are_read_back(mounts: list[tables.Mount]) -> None:
    text = "".join(as_the_kernel_writes(mount) + "\n" for mount in mounts)
    assert tables.parse_mountinfo(text) == tuple(mounts)


@given(st.text(st.sampled_from(list("0123456789 -:/\n\\²x")), max_size=200) | st.text())
@example("a b c d e f - g h")
@example("1 2 0:1 / /\\777 rw - x y z")
def test_any_mountinfo(text: str) -> None:
    for mount in tables.parse_mountinfo(text):
        assert isinstance(mount, tables.Mount)


ids = st.integers(0, 2**32 - 1)


@given(st.lists(st.tuples(ids, ids, ids), max_size=5))
def test_id_maps_are_read_back(rows: list[tuple[int, int, int]]) -> None:
    text = "".join(f"{a:10d} {b:10d} {c:10d}\n" for a, b, c in rows)
    assert tables.parse_id_map(text) == tuple(rows)


@given(st.text(st.sampled_from(list("0123456789 \n²٣-")), max_size=60) | st.text())
@example("1 ² 3")
def test_any_id_map(text: str) -> None:
    for row in tables.parse_id_map(text):
        assert len(row) == 3


STATUS = b"Name:\t%s\nUmask:\t0022\nState:\tS (sleeping)\nPPid:\t%d\nUid:\t%d\t%d\t0\t0\n"


def with_status(content: bytes, monkeypatch: pytest.MonkeyPatch) -> processes.Process | None:
    with monkeypatch.context() as patch:
        patch.setattr(processes, "_bytes", lambda path, most=0: content)
        return processes._status(7)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=15).filter(lambda b: b"\0" not in b), numbers, numbers)
def test_names_of_processes(
    monkeypatch: pytest.MonkeyPatch, name: bytes, parent: int, uid: int
) -> None:
    shown = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    found = with_status(STATUS % (shown, parent, 1, uid), monkeypatch)
    assert found is not None
    assert (os.fsencode(found.name), found.parent, found.uid) == (name, parent, uid)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary() | st.binary(max_size=60).map(lambda b: STATUS % (b, 1, 2, 3) + b))
def test_any_status(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    found = with_status(content, monkeypatch)
    assert found is None or found.pid == 7


# -- /etc/subuid -------------------------------------------------------------------------------


@given(st.binary() | st.text(st.sampled_from(list("ab:0123456789²\n#- "))).map(str.encode))
def test_any_subuid(content: bytes) -> None:
    with file_with(content) as path:
        for _, first, count in id_maps.ranges_in(str(path)):
            assert 0 <= first < first + count <= 2**32 - 1


owners = st.text(st.sampled_from("abcd-_.$0123456789"), min_size=1)


@given(st.lists(st.tuples(owners, st.integers(0, 2**31), st.integers(1, 2**30)), max_size=5))
def test_ranges_are_read_back(rows: list[tuple[str, int, int]]) -> None:
    text = "".join(f"{name}:{first}:{count}\n" for name, first, count in rows)
    with file_with(text.encode()) as path:
        assert id_maps.ranges_in(str(path)) == rows


# -- words of the command line -----------------------------------------------------------------

OPTIONS = sorted(
    {
        option
        for parser in (flags.spawn_parser(), flags.enter_parser(), flags.chroot_parser())
        for action in parser._actions
        for option in action.option_strings
        if option not in ("-h", "--help")
    }
)
words = st.one_of(
    st.sampled_from(OPTIONS),
    st.builds("{}={}".format, st.sampled_from(OPTIONS), st.text(max_size=12)),
    st.sampled_from(
        ["--", "-", "", "1", "0:5", "nofile=5", "nofile=1:²", "A=B", "1_0", "\uff11", "8"]
    ),
    st.text(max_size=12),
)


@given(st.sampled_from(["spawn", "enter", "chroot"]), st.lists(words, max_size=8))
def test_any_words(name: str, given_words: list[str]) -> None:
    with mistakes(flags.FlagError):
        assert flags.read(name, given_words).name == name


# -- keywords ----------------------------------------------------------------------------------

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.sampled_from(["private", "auto", "all", "nofile", "kill", "/", "..", "\0", 2**31, -1]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(
            st.text(max_size=4) | st.sampled_from(["nofile", "net"]), inner, max_size=2
        )
    ),
    max_leaves=4,
)
KEYWORDS = [
    *("mount", "uts", "ipc", "pid", "net", "user", "cgroup", "time", "uid_map", "gid_map"),
    *("setgroups", "owner", "join", "fork", "mount_proc", "root", "root_method", "propagation"),
    *("hostname", "domainname", "monotonic", "boottime", "init", "mounts", "overlay"),
    *("readonly_root", "die_with_parent", "persist", "cwd", "uid", "gid", "groups"),
    *("umask", "no_new_privs", "capabilities", "ambient", "rlimits", "seccomp", "securebits"),
    *("landlock", "stdin", "stdout", "stderr", "tty", "text", "encoding", "errors", "pass_fds"),
    *("start_new_session", "process_group", "input", "capture_output", "timeout", "check"),
]


@given(st.dictionaries(st.sampled_from(KEYWORDS), values, max_size=3))
def test_any_keywords(options: dict[str, Any]) -> None:
    """A plan, or an error that says what is wrong with them."""
    with mistakes(TypeError, ValueError, OSError):
        assert str(nsdemo.run(["true"], **options, dry_run=True))


@given(values)
def test_any_command(args: Any) -> None:
    with mistakes(TypeError, ValueError, OSError):
        assert str(nsdemo.spawn(args, dry_run=True))
