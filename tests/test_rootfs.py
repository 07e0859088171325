"""Roots made from this machine's programs: run in them, look into them, take them away."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nsdemo
from nsdemo import rootfs as rootfs_module
from nsdemo.rootfs import Rootfs

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
AS_ROOT = ["unshare", "--map-root-user"] if os.geteuid() else []
IMPORTABLE = str(Path(nsdemo.__file__).resolve().parents[1])

needs_namespaces = pytest.mark.skipif(
    bool(AS_ROOT) and subprocess.run([*AS_ROOT, "true"], capture_output=True).returncode != 0,
    reason="this user may neither chroot nor make a user namespace",
)
needs_busybox = pytest.mark.skipif(
    shutil.which("busybox", path=PATH) is None, reason="busybox is not installed"
)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of temporary roots; every test must leave it empty."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    assert os.listdir(directory) == []


def chroot(root: Rootfs, *command: str) -> str:
    """Run a command in a root and return its output."""
    where = shutil.which("chroot", path=PATH)
    assert where is not None
    done = subprocess.run(
        [*AS_ROOT, where, root, *command],
        env={"PATH": PATH},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(script: str, *args: str, unshare: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter, in its own mount namespace if asked for."""
    prefix = [*(AS_ROOT or ["unshare"]), "--mount", "--propagation=private"] if unshare else []
    environment = {"PATH": PATH, "PYTHONPATH": os.pathsep.join([IMPORTABLE, *sys.path])}
    environment["TMPDIR"] = tempfile.gettempdir()
    return subprocess.run(
        [*prefix, sys.executable, "-W", "default", "-c", textwrap.dedent(script), *args],
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Path]:
    """A compiler: compiled("gcc", "name", source, *options)."""

    def compile(compiler: str, name: str, source: str, *options: str) -> Path:
        if shutil.which(compiler) is None:
            pytest.skip(f"{compiler} is not installed")
        output = tmp_path / "built" / name
        output.parent.mkdir(exist_ok=True)
        subprocess.run(
            [compiler, "-x", "c", "-", "-x", "none", "-o", output, *options],
            input=source.encode(),
            check=True,
        )
        return output

    return compile


# What is inside


@needs_namespaces
def test_chapter_one() -> None:
    with Rootfs.from_host(["bash", "cat"]) as root:
        (Path(root) / "test.txt").write_text("Hello\n")
        assert chroot(root, "bash", "-c", "cat /test.txt") == "Hello\n"
        assert chroot(root, "/bin/bash", "-c", "/bin/cat test.txt") == "Hello\n"
        assert os.listdir(f"{root.path}/proc") == os.listdir(f"{root.path}/tmp") == []
        assert {"/usr/bin/cat", "/bin/cat"} & set(root.files)
    assert not os.path.exists(root)


@needs_namespaces
def test_everyday_programs() -> None:
    with Rootfs.from_host(["sh", "ls", "awk", "env"]) as root:
        assert chroot(root, "sh", "-c", "echo $0") == "sh\n"
        assert "tmp" in chroot(root, "ls", "/").split()
        assert chroot(root, "/bin/awk", "BEGIN { print 6 * 7 }") == "42\n"
        assert chroot(root, "env", "-i", "A=b", "env") == "A=b\n"


@needs_namespaces
def test_nothing_is_mapped_from_outside() -> None:
    with Rootfs.from_host(["cat"]) as root:
        os.mkfifo(f"{root.path}/tmp/wait")
        where = shutil.which("chroot", path=PATH)
        assert where is not None
        with (
            subprocess.Popen([*AS_ROOT, where, root, "cat", "/tmp/wait"]) as process,
            open(f"{root.path}/tmp/wait", "wb"),  # returns when cat has opened its end
        ):
            maps = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
        files = {line.split(maxsplit=5)[5] for line in maps if "/" in line}
        assert len(files) >= 3  # cat, libc, the loader
        assert all(file.startswith(f"{root.path}/") for file in files)


def every_link(root: Rootfs) -> list[str]:
    return [
        os.path.join(directory, name)
        for directory, directories, files in os.walk(root)
        for name in directories + files
        if os.path.islink(os.path.join(directory, name))
    ]


def test_every_link_is_sound_inside_and_on_the_host() -> None:
    with Rootfs.from_host(["sh", "awk", "python3"]) as root:
        links = every_link(root)
        assert links
        for link in links:
            assert os.path.exists(link), link
            assert os.path.realpath(link).startswith(f"{root.path}/"), link


@pytest.mark.parametrize(
    ("target", "directory", "text"),
    [
        ("/etc/alternatives/awk", "/usr/bin", "../../etc/alternatives/awk"),
        ("/", "", "."),
        ("/", "/usr", "../"),
        ("usr/bin", "", "usr/bin"),
        ("../../../bin/x", "/usr", "../bin/x"),
        ("../..", "", "."),
        ("../lib/../x", "/usr/bin", "../lib/../x"),
    ],
)
def test_the_text_of_links(target: str, directory: str, text: str) -> None:
    assert rootfs_module._inside_text(target, directory) == text


def test_modes_do_not_depend_on_the_umask() -> None:
    old = os.umask(0o077)
    try:
        with Rootfs.from_host(["cat"]) as root:
            modes = {
                name: stat.S_IMODE(os.stat(f"{root.path}/{name}").st_mode)
                for name in ("", "tmp", "etc")
            }
            assert modes == {"": 0o755, "tmp": 0o1777, "etc": 0o755}
            here, there = os.stat("/bin/cat"), os.stat(f"{root.path}/bin/cat")
            assert stat.S_IMODE(there.st_mode) == stat.S_IMODE(here.st_mode)
            assert not os.path.samestat(here, there)  # not a hard link
    finally:
        os.umask(old)


def test_a_copy_is_not_setuid(tmp_path: Path) -> None:
    shutil.copy("/bin/cat", tmp_path / "mine")
    (tmp_path / "mine").chmod(0o6755)
    with Rootfs.from_host([tmp_path / "mine"]) as root:
        assert stat.S_IMODE(os.stat(f"{root.path}/bin/mine").st_mode) == 0o755


@needs_namespaces
def test_a_program_outside_of_path_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    shutil.copy("/bin/cat", tmp_path / "mine")
    with Rootfs.from_host([tmp_path / "mine"]) as root:
        (Path(root) / "test.txt").write_text("Hello\n")
        assert chroot(root, "mine", "test.txt") == "Hello\n"
        assert chroot(root, str(tmp_path / "mine"), "test.txt") == "Hello\n"


@needs_namespaces
@pytest.mark.parametrize(
    "line", ["#!/bin/sh -e", "#! /usr/bin/env sh", "#!/usr/bin/env -S A=b sh -e"]
)
def test_a_script_brings_its_interpreter(tmp_path: Path, line: str) -> None:
    (tmp_path / "script").write_text(f"{line}\necho it runs\n")
    (tmp_path / "script").chmod(0o755)
    (tmp_path / "second").write_text(f"#!{tmp_path}/script\n")
    (tmp_path / "second").chmod(0o755)
    with Rootfs.from_host([tmp_path / "script"]) as root:
        assert chroot(root, "script") == "it runs\n"
    with Rootfs.from_host([tmp_path / "second"]) as root:
        assert chroot(root, "second") == "it runs\n"


@needs_namespaces
@pytest.mark.parametrize("compiler", ["gcc", "musl-gcc"])
def test_libraries_beside_the_program(compiled: Callable[..., Path], compiler: str) -> None:
    library = compiled(compiler, "libanswer.so.1", "int answer(void) { return 42; }",
                       "-shared", "-fPIC", "-Wl,-soname,libanswer.so.1")  # fmt: skip
    source = """
        #include <stdio.h>
        int answer(void);
        int main(int argc, char **argv) { printf("%s %d", argv[0], answer()); }
    """
    program = compiled(compiler, "ask", source, str(library), "-Wl,-rpath,$ORIGIN/../built")
    with Rootfs.from_host([program]) as root:
        assert chroot(root, "ask") == "ask 42"  # there is no /proc, so no $ORIGIN
        if compiler == "musl-gcc":
            assert not any("libc.so.6" in file for file in root.files)


@needs_namespaces
def test_a_static_program(compiled: Callable[..., Path]) -> None:
    program = compiled("gcc", "static", "int main(void) { return 0; }", "-static")
    with Rootfs.from_host([program]) as root:
        assert chroot(root, "static") == ""
        assert not any(".so" in file for file in root.files)


# What is wrong


def test_a_missing_program_is_named() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Rootfs.from_host(["cat", "no-such-program"])
    assert caught.value.filename == "no-such-program"
    assert any("PATH" in note for note in caught.value.__notes__)


def test_a_missing_interpreter_is_named(tmp_path: Path) -> None:
    script = tmp_path / "script"
    for line, name, notes in (
        ("#!/no/such/sh\n", "/no/such/sh", 1),
        ("#!/bin/sh\r\n", "/bin/sh\r", 2),
        ("#!/usr/bin/env sh\r\n", "sh\r", 3),
    ):
        script.write_bytes(line.encode())
        script.chmod(0o755)
        with pytest.raises(FileNotFoundError) as caught:
            Rootfs.from_host([script])
        assert caught.value.filename in (name, f"/usr{name}")
        assert len(caught.value.__notes__) == notes
        assert str(script) in "".join(caught.value.__notes__)


@pytest.mark.parametrize("compiler", ["gcc", "musl-gcc"])
def test_a_missing_library_is_named_and_nothing_stays(
    compiled: Callable[..., Path], compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = compiled(compiler, "libgone.so.1", "int f(void) { return 0; }",
                       "-shared", "-fPIC", "-Wl,-soname,libgone.so.1")  # fmt: skip
    program = compiled(
        compiler, "lost", "int f(void); int main(void) { return f(); }", str(library)
    )
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))  # would find it, but only outside
    with pytest.raises(FileNotFoundError) as caught:
        Rootfs.from_host(["cat", program], tmp_path / "dest")
    assert caught.value.filename == "libgone.so.1"
    assert any(str(program) in note for note in caught.value.__notes__)
    assert any("LD_LIBRARY_PATH" in note for note in caught.value.__notes__)
    assert not (tmp_path / "dest").exists()
    with pytest.raises(FileNotFoundError):
        Rootfs.from_host(["cat", program])  # the fixture sees that nothing is left


def test_what_is_no_program(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("echo hello\n")
    with pytest.raises(PermissionError):
        Rootfs.from_host([file])
    file.chmod(0o755)
    with pytest.raises(OSError, match="Exec format error"):
        Rootfs.from_host([file])


@pytest.mark.parametrize("programs", ["bash", b"bash", Path("bash"), [b"bash"], [1], None, 5])
def test_not_a_list_of_names(programs: Any) -> None:
    with pytest.raises(TypeError):
        Rootfs.from_host(programs)


@pytest.mark.parametrize("programs", [[], [""], ["ca\0t"], ()])
def test_not_names(programs: Any) -> None:
    with pytest.raises(ValueError, match="empty"):
        Rootfs.from_host(programs)


def test_two_programs_of_one_name(tmp_path: Path) -> None:
    shutil.copy("/bin/cat", tmp_path / "ls")
    with pytest.raises(ValueError, match="called ls"):
        Rootfs.from_host([tmp_path / "ls", "ls"])


# busybox


@needs_busybox
@needs_namespaces
def test_busybox() -> None:
    with Rootfs.busybox() as root:
        assert chroot(root, "sh", "-c", "echo Hello | tr a-z A-Z") == "HELLO\n"
        assert chroot(root, "whoami") == "root\n"
        assert chroot(root, "stat", "-c", "%U %G %a", "/tmp") == "root root 1777\n"
        assert len(root.files) > 50
        for link in every_link(root):
            assert os.path.samefile(link, f"{root.path}/bin/busybox")
        assert "nobody" in Path(f"{root.path}/etc/passwd").read_text()


def test_only_a_static_busybox_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/cat")
    with pytest.raises(FileNotFoundError) as caught:
        Rootfs.busybox()
    assert "busybox-static" in caught.value.__notes__[0]


# dest


def test_dest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Rootfs.from_host(["cat"], "new") as root:
        assert (root.path, os.fspath(root)) == (str(tmp_path / "new"), str(tmp_path / "new"))
        assert root.path in repr(root)
        os.chdir("/")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with Rootfs.from_host(["cat"], tmp_path / "old") as root:
        (tmp_path / "old/etc/mine").write_text("mine")
        (tmp_path / "old/mine").write_text("mine")
        with pytest.raises(FileExistsError, match="not empty"):
            Rootfs.from_host(["cat"], tmp_path / "old")
    left = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "old").rglob("*"))
    assert left == ["old/etc", "old/etc/mine", "old/mine"]
    with pytest.raises(FileNotFoundError):
        Rootfs(tmp_path / "no/parent")
    with pytest.raises(NotADirectoryError):
        Rootfs("/etc/passwd")


def test_removing_twice_spares_the_next(tmp_path: Path) -> None:
    first = Rootfs.from_host(["cat"], tmp_path / "root")
    first.remove()
    with Rootfs.from_host(["cat"], tmp_path / "root") as second:
        first.remove()
        assert os.path.exists(f"{second.path}/bin/cat")


# Removal


def test_what_a_container_left_is_removed_but_nothing_outside(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/marker").write_text("keep")
    with Rootfs.from_host(["cat"]) as root:
        inside = Path(root)
        (inside / "tmp/link").symlink_to(tmp_path / "outside")
        (inside / "var/marker").symlink_to(tmp_path / "outside/marker")
        os.link(tmp_path / "outside/marker", inside / "hard")
        os.mkfifo(inside / "run/fifo")
        (inside / "closed/below").mkdir(parents=True)
        (inside / "closed/below/file").touch()
        (inside / "closed/below").chmod(0o500)
        (inside / "closed").chmod(0)
        inside.chmod(0o500)
    assert not inside.exists()
    assert (tmp_path / "outside/marker").read_text() == "keep"


def test_a_bottomless_directory_is_removed() -> None:
    root = Rootfs()
    here = os.open(root, os.O_PATH)
    for _ in range(2500):
        os.mkdir("d", dir_fd=here)
        here, old = os.open("d", os.O_PATH, dir_fd=here), here
        os.close(old)
    os.close(here)
    try:
        root.remove()
        assert not os.path.exists(root)
    finally:  # or pytest fails to remove it
        subprocess.run(["rm", "-rf", root], check=True)


@needs_namespaces
@pytest.mark.parametrize("where", ["/var", "", "/etc/file", "/a b"])
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_a_mount_inside_is_refused(tmp_path: Path, where: str, kind: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/marker").write_text("keep")
    done = python(
        """
        import errno, os, subprocess, sys
        from nsdemo.rootfs import Rootfs
        outside, where, kind = sys.argv[1:]
        root = Rootfs.from_host(["cat"])
        point = root.path + where
        if where == "/etc/file":
            open(point, "w").close()
            source, kind = outside + "/marker", "bind"
        else:
            os.makedirs(point, exist_ok=True)
            source = root.path if where == "" else outside
        mount = ["-t", "tmpfs", "tmpfs"] if kind == "tmpfs" else ["--bind", source]
        subprocess.run(["mount", *mount, point], check=True)
        try:
            root.remove()
        except OSError as error:
            assert (error.errno, error.filename) == (errno.EBUSY, point), error
        else:
            sys.exit("not refused")
        subprocess.run(["umount", point], check=True)
        assert os.path.exists(root.path + "/bin/cat")
        root.remove()
        assert not os.path.exists(root)
        """,
        *(str(tmp_path / "outside"), where, kind),
        unshare=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "outside/marker").read_text() == "keep"


@needs_namespaces
def test_a_mount_that_nobody_saw_coming_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "marker").write_text("keep")
    done = python(
        """
        import errno, os, subprocess, sys
        from nsdemo._facts import inside
        from nsdemo.rootfs import Rootfs
        root = Rootfs()
        os.mkdir(root.path + "/a")
        subprocess.run(["mount", "--bind", sys.argv[1], root.path + "/a"], check=True)
        inside._refuse_mounts = lambda *args, **kwargs: None
        try:
            root.remove()
        except OSError as error:
            assert (error.errno, error.filename) == (errno.EBUSY, root.path + "/a"), error
        else:
            sys.exit("not refused")
        subprocess.run(["umount", root.path + "/a"], check=True)
        root.remove()
        """,
        str(tmp_path),
        unshare=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "marker").read_text() == "keep"


def test_a_replaced_root_is_left_alone() -> None:
    root = Rootfs()
    os.rename(root, f"{root.path}.moved")
    os.mkdir(root)
    Path(f"{root.path}/mine").touch()
    root.remove()
    assert os.listdir(root) == ["mine"]
    shutil.rmtree(root)
    os.rmdir(f"{root.path}.moved")


def test_a_forgotten_root_is_removed_with_a_warning() -> None:
    root = Rootfs.from_host(["cat"])
    path = root.path
    with pytest.warns(ResourceWarning, match="never removed"):
        del root
    assert not os.path.exists(path)


def test_the_end_of_the_interpreter_removes_and_a_forked_child_does_not() -> None:
    done = python(
        """
        import os, sys
        from nsdemo.rootfs import Rootfs
        root = Rootfs.from_host(["cat"])
        child = os.fork()
        if child == 0:
            root.remove()
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert os.path.exists(root.path + "/bin/cat")
        print(root.path)
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("ResourceWarning") == 1
    assert not os.path.exists(done.stdout.strip())
