"""Chapter 1: chroot, a command under another ``/``.

A root directory is a directory like any other. This chapter fills one by hand with a file and two
programs, runs the programs with that directory as their ``/``, and finds the file there. At the end
it asks how far one can trust such a ``/``, and takes the tutorial's further challenge: pivot_root.

Each demo does the same twice, by nsdemo and by the tutorial's command, and compares.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from engines import (
    SLEEP,
    identity,
    made_by_unshare,
    mounts_in,
    need_command,
    original,
    original_chroot,
    original_nsenter,
    original_unshare,
)

import nsdemo

if TYPE_CHECKING:
    import subprocess


def outcome(done: subprocess.CompletedProcess[str]) -> tuple[str, str, int]:
    """What a learner sees of a command: what it printed, its complaints and its exit status."""
    return done.stdout, done.stderr, done.returncode


# The root directory -------------------------------------------------------------------------------


def copy_program(name: str, rootfs: Path) -> None:
    """Copy a program as the chapter does, with the libraries that ldd names.

    ::

        cp /bin/cat $ROOTFS/bin
        ldd /bin/cat | grep -o '/lib.*\\.[0-9]' | xargs -I{} cp {} $ROOTFS/{}
    """
    program = need_command(name)
    (rootfs / "bin").mkdir(exist_ok=True)
    shutil.copy(program, rootfs / "bin" / name)
    for library in libraries_of(program):
        place = rootfs / library.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, place)


def libraries_of(program: str) -> list[str]:
    """The libraries of a program and its ELF loader, as ldd lists them; none if it is static."""
    return re.findall(r"(/\S+) \(0x", original("ldd", program).stdout)


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """``ROOTFS=$(mktemp -d); echo Hello > $ROOTFS/test.txt``, then bash and cat with libraries."""
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir()
    (rootfs / "test.txt").write_text("Hello\n")
    copy_program("bash", rootfs)
    copy_program("cat", rootfs)
    return rootfs


# chroot -------------------------------------------------------------------------------------------


def test_cat_finds_the_file_in_the_new_root(rootfs: Path) -> None:
    """``chroot $ROOTFS cat /test.txt``: the file that we put into the directory is in ``/``."""
    done = nsdemo.chroot_run(rootfs, ["cat", "/test.txt"], capture_output=True, text=True)

    assert outcome(done) == ("Hello\n", "", 0)
    assert outcome(done) == outcome(original_chroot(rootfs, "cat", "/test.txt"))


def test_the_dialogue_of_the_chapter(rootfs: Path) -> None:
    """``chroot $ROOTFS bash``, then type: cat /test.txt, exit."""
    typed = "cat /test.txt\nexit\n"

    done = nsdemo.chroot_run(rootfs, ["bash"], input=typed, capture_output=True, text=True)

    assert outcome(done) == ("Hello\n", "", 0)
    assert outcome(done) == outcome(original_chroot(rootfs, "bash", input=typed))


def test_the_new_slash_is_our_directory_itself(rootfs: Path) -> None:
    """Not a copy and not a view: ``/`` inside has the inode of the directory outside.

    There is nothing else in it, either: what we did not put there, the command cannot name.
    """
    copy_program("stat", rootfs)
    which_file = ["stat", "-c", "%d:%i", "/"]
    list_it = ["bash", "-c", "cd /; echo *"]

    inside = nsdemo.chroot_run(rootfs, which_file, capture_output=True, text=True)
    listed = nsdemo.chroot_run(rootfs, list_it, capture_output=True, text=True)

    assert inside.stdout.strip() == identity(rootfs) != identity("/")
    assert listed.stdout.split() == sorted(path.name for path in rootfs.iterdir())
    assert outcome(inside) == outcome(original_chroot(rootfs, *which_file))
    assert outcome(listed) == outcome(original_chroot(rootfs, *list_it))


def test_two_dots_lead_nowhere_from_slash(rootfs: Path) -> None:
    """The command starts in its new ``/``, and above ``/`` there is only ``/``."""
    climb = ["bash", "-c", "pwd; cd ../../..; pwd; cat test.txt"]

    done = nsdemo.chroot_run(rootfs, climb, capture_output=True, text=True)

    assert done.stdout == "/\n/\nHello\n"
    assert outcome(done) == outcome(original_chroot(rootfs, *climb))


def test_the_caller_keeps_its_own_root(rootfs: Path) -> None:
    """chroot(2) changes the process that calls it. nsdemo lets another process call it."""
    before = identity("/"), identity("."), Path("/proc/self/root").readlink(), Path.cwd()

    nsdemo.chroot_run(rootfs, ["bash", "-c", "cd /bin"], check=True)

    after = identity("/"), identity("."), Path("/proc/self/root").readlink(), Path.cwd()
    assert after == before


@pytest.mark.parametrize(
    ("command", "status"),
    [("exit 7", 7), ("kill -KILL $$", -9), ("exit 127", 127)],
)
def test_the_commands_own_status_comes_back(rootfs: Path, command: str, status: int) -> None:
    """An exit status belongs to the command, 127 included; a signal is a negative number."""
    done = nsdemo.chroot_run(rootfs, ["bash", "-c", command])

    assert done.returncode == status == original_chroot(rootfs, "bash", "-c", command).returncode


def test_a_command_that_is_not_there(rootfs: Path) -> None:
    """ls was not copied. chroot(1) can say so only in words and with 127; Python has an exception.

    So nobody has to guess whether 127 came from chroot or from the command.
    """
    by_command = original_chroot(rootfs, "ls")

    with pytest.raises(FileNotFoundError) as caught:
        nsdemo.chroot_run(rootfs, ["ls"])

    assert caught.value.filename == "ls"
    assert by_command.returncode == 127
    assert caught.value.strerror is not None
    assert caught.value.strerror in by_command.stderr


def test_copying_the_program_is_not_enough(tmp_path: Path) -> None:
    """Copy cat alone: "No such file or directory", of a file that is there. Its ELF loader is not.

    That is why the chapter copies what ldd prints. The kernel has one errno for both; nsdemo reads
    the file and names what it asks for.
    """
    program = need_command("cat")
    loaders = [path for path in libraries_of(program) if "/ld" in path]
    if not loaders:
        pytest.skip("cat is statically linked here: it needs no loader")
    (tmp_path / "bin").mkdir()
    shutil.copy(program, tmp_path / "bin/cat")
    by_command = original_chroot(tmp_path, "cat")

    with pytest.raises(FileNotFoundError) as caught:
        nsdemo.chroot_run(tmp_path, ["cat"])

    assert (tmp_path / "bin/cat").exists()
    assert by_command.returncode == 127
    assert "No such file or directory" in by_command.stderr
    assert loaders[0] not in by_command.stderr
    assert loaders[0] in "\n".join(getattr(caught.value, "__notes__", []))


def test_rootfs_does_the_copying(rootfs: Path) -> None:
    """``nsdemo.Rootfs.from_host`` is the chapter's cp and ldd, on every architecture."""
    copied = [p for p in rootfs.rglob("*") if p.is_file() and p.name != "test.txt"]

    with nsdemo.Rootfs.from_host(["bash", "cat"]) as made:
        for ours in copied:
            theirs = Path(made, ours.relative_to(rootfs))
            assert theirs.read_bytes() == ours.read_bytes(), f"{theirs} differs from {ours}"
        Path(made, "test.txt").write_text("Hello\n")
        done = nsdemo.chroot_run(made, ["cat", "/test.txt"], capture_output=True, text=True)
        assert outcome(done) == outcome(original_chroot(Path(made), "cat", "/test.txt"))

    assert len(copied) >= 4  # two programs, their libc and its loader
    assert done.stdout == "Hello\n"
    assert not Path(made).exists()


# Is it a jail? ------------------------------------------------------------------------------------

ESCAPE = r"""
# A process has one root. Whoever changes it to a directory further down, and stays outside of that,
# has nothing to stop him on the way up.
mkdir "/door" or die "mkdir: $!\n";
chroot "/door" or die "chroot: $!\n";      # chroot(2) leaves the working directory where it is
chdir ".." for 1 .. 64;                    # which is above the root now: up to the real one
chroot "." or die "chroot: $!\n";
open my $file, "<", $ARGV[0] or die "$ARGV[0]: $!\n";
print <$file>;
"""


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside the root, with words that stand nowhere inside."""
    secret = tmp_path / "secret.txt"
    secret.write_text(f"nobody inside knows {os.urandom(8).hex()}\n")
    return secret


@pytest.fixture
def escape(rootfs: Path) -> list[str]:
    """The command that breaks out; perl, because it has chroot and chdir as they are in C."""
    copy_program("perl", rootfs)
    (rootfs / "escape.pl").write_text(ESCAPE)
    return ["/bin/perl", "/escape.pl"]


PLAIN = {"LC_ALL": "C"}
"""The environment of the escape: there are no locales in the root for perl to complain about."""


def remove_door(rootfs: Path) -> None:
    (rootfs / "door").rmdir()


def test_chroot_is_no_jail(rootfs: Path, escape: list[str], secret: Path) -> None:
    """Six lines lead out of chroot, whoever did the chroot. The door is the lesson's open end."""
    inside = original_chroot(rootfs, "cat", str(secret))
    by_command = original_chroot(rootfs, *escape, str(secret))
    remove_door(rootfs)
    done = nsdemo.chroot_run(
        rootfs, [*escape, str(secret)], env=PLAIN, capture_output=True, text=True
    )
    remove_door(rootfs)
    spawned = nsdemo.run(
        [*escape, str(secret)],
        root=rootfs,
        root_method="chroot",
        mount_proc=False,
        env=PLAIN,
        capture_output=True,
        text=True,
    )

    assert inside.returncode == 1  # by its name, the file cannot be reached
    assert by_command.stdout == secret.read_text()
    assert done.stdout == secret.read_text()
    assert spawned.stdout == secret.read_text()


# Further challenge: try pivot_root ----------------------------------------------------------------

PIVOT_BY_HAND = """
mount --bind "$1" "$1"      # the new root has to be a mount point
cd "$1"
mkdir old
pivot_root . old            # the mount at / and this one change places
exec bash -c "busybox umount -l /old; exec $2"
"""
"""pivot_root(8) typed by hand; busybox, because util-linux' umount wants a /proc."""


def pivoted_by_hand(rootfs: Path, command: str) -> tuple[str, ...]:
    """The arguments of unshare(1) for a command under pivot_root."""
    copy_program("busybox", rootfs)
    shutil.rmtree(rootfs / "old", ignore_errors=True)
    return ("--mount", "sh", "-ec", PIVOT_BY_HAND, "sh", str(rootfs), command)


def pivoted(plan: nsdemo.Plan, rootfs: Path) -> nsdemo.Plan:
    """The same as steps: a mount namespace of our own, the bind mount, the exchange."""
    return plan.unshare("mount").make_private("/").bind(rootfs, rootfs).pivot_root(rootfs)


def test_pivot_root_finds_the_same_file(rootfs: Path, plan: nsdemo.Plan) -> None:
    """To the command, nothing is different: /test.txt is there."""
    done = pivoted(plan, rootfs).exec(["cat", "/test.txt"]).run(capture_output=True, text=True)
    by_hand = original_unshare(*pivoted_by_hand(rootfs, "cat /test.txt"))

    assert outcome(done) == ("Hello\n", "", 0)
    assert outcome(done) == outcome(by_hand)


def test_after_pivot_root_nothing_else_is_mounted(rootfs: Path, plan: nsdemo.Plan) -> None:
    """chroot hides the other mounts of the namespace; after pivot_root they are gone.

    /proc/PID/mountinfo lists the mounts below the root of a process: here one, our directory, and
    no mount of it is shared with the host. And who joins the mount namespace without a word about
    the root (``nsenter --mount``) is in our directory, because it is the root of the namespace.
    """
    copy_program("sleep", rootfs)
    copy_program("stat", rootfs)
    host_mounts = Path("/proc/self/mountinfo").read_text()
    which_root = ("--mount", "stat", "-c", "%d:%i", "/")

    with pivoted(plan, rootfs).exec(list(SLEEP)).start() as box:
        mountinfo = Path(f"/proc/{box.pid}/mountinfo").read_text()
        newcomer = original_nsenter(box.pid, *which_root)
    arguments = pivoted_by_hand(rootfs, " ".join(SLEEP))
    with made_by_unshare(arguments[0], command=arguments[1:]) as pid:
        by_hand = Path(f"/proc/{pid}/mountinfo").read_text()
        newcomer_by_hand = original_nsenter(pid, *which_root)

    assert [mount.point for mount in mounts_in(mountinfo)] == ["/"]
    assert mounts_in(mountinfo) == mounts_in(by_hand)
    assert "shared:" not in mountinfo
    assert newcomer.stdout.strip() == newcomer_by_hand.stdout.strip() == identity(rootfs)
    assert Path("/proc/self/mountinfo").read_text() == host_mounts


def test_after_chroot_a_newcomer_is_in_the_hosts_root(rootfs: Path) -> None:
    """The contrast: chroot moves a process, not the namespace. A newcomer lands outside."""
    copy_program("sleep", rootfs)
    which_root = ("--mount", "stat", "-c", "%d:%i", "/")

    with nsdemo.spawn(
        SLEEP, root=rootfs, root_method="chroot", uts=False, ipc=False, pid=False
    ) as box:
        own_root = identity(f"/proc/{box.pid}/root/")
        newcomer = original_nsenter(box.pid, *which_root)
    with made_by_unshare("--mount", f"--root={rootfs}") as pid:
        by_command = original_nsenter(pid, *which_root)

    assert own_root == identity(rootfs)
    assert newcomer.stdout.strip() == by_command.stdout.strip() == identity("/")


def test_pivot_root_shuts_the_door(
    rootfs: Path, plan: nsdemo.Plan, escape: list[str], secret: Path
) -> None:
    """The same six lines, and the way up ends where the mounts end: in our directory."""
    climb = pivoted(plan, rootfs).exec([*escape, str(secret)], env=PLAIN)
    done = climb.run(capture_output=True, text=True)
    remove_door(rootfs)
    by_hand = original_unshare(*pivoted_by_hand(rootfs, " ".join([*escape, str(secret)])))
    remove_door(rootfs)
    spawned = nsdemo.run(
        [*escape, str(secret)],
        root=rootfs,
        mount_proc=False,
        env=PLAIN,
        capture_output=True,
        text=True,
    )

    nothing = ("", f"{secret}: No such file or directory\n", 2)
    assert outcome(done) == nothing
    assert outcome(by_hand) == nothing
    assert outcome(spawned) == nothing


def test_a_root_needs_no_root(rootfs: Path) -> None:
    """chroot is for CAP_SYS_CHROOT. Without it nsdemo first makes a user namespace, which gives it.

    Inside, we are user 0, and that is only our own id under another name.
    """
    copy_program("id", rootfs)
    copy_program("stat", rootfs)
    ask = ["bash", "-c", "id -u; stat -c %u /test.txt"]

    done = nsdemo.chroot_run(rootfs, ask, capture_output=True, text=True)

    assert outcome(done) == outcome(original_chroot(rootfs, *ask))
    assert done.stdout == "0\n0\n"
    assert (rootfs / "test.txt").stat().st_uid == os.geteuid()
