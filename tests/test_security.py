"""The rules that keep it shut, one test each: roots, mounts and credentials.

Each shows first, where it can, that the obvious way fails the same check. The rules about what
a process inside may see are in test_secrets.py, those about what comes from outside in
test_distrust.py.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import IS_ROOT, SHARED_MACHINE, script
from targets import CAPTURED, POWERS, fields, hostile_root, only_root, tool

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("ordinary_users_may")


@pytest.fixture(scope="module")
def prison() -> Iterator[Path]:
    with hostile_root() as root:
        yield root


@pytest.fixture
def own() -> Iterator[Path]:
    """A root that a test may spoil."""
    with nsdemo.Rootfs.busybox() as root:
        yield Path(root)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    path = tmp_path / "canary"
    path.write_text("free\n")
    return path


def output(args: list[str], **options: Any) -> str:
    result: str = nsdemo.run(args, **CAPTURED, **options).stdout
    return result.strip()


# -- rule 1: chroot is left by an open directory, a working directory, a second chroot ----------


@pytest.mark.parametrize("user", POWERS)
def test_rule_01_a_chroot_is_left_and_a_pivoted_root_is_not(
    user: bool, prison: Path, canary: Path
) -> None:
    escape = ["escape", str(canary)]
    escaped = output(escape, root=prison, root_method="chroot", user=user)
    assert escaped == "escaped by a second chroot"
    assert output(escape, root=prison, user=user) == "caught"
    assert output(escape, root=prison, user=user, init=True) == "caught"


def test_rule_01_chroot_run_is_left_by_a_second_chroot_only(prison: Path, canary: Path) -> None:
    done = nsdemo.chroot_run(prison, ["escape", str(canary)], **CAPTURED)
    assert done.stdout.strip() == "escaped by a second chroot"  # no open directory, no old cwd


def test_rule_01_no_directory_is_left_open(prison: Path, canary: Path) -> None:
    escape = ["escape", str(canary)]
    prefix = [] if IS_ROOT else [tool("unshare"), "--map-root-user"]
    fd = os.open("/", os.O_RDONLY)
    try:
        os.set_inheritable(fd, True)
        command = [*prefix, tool("chroot"), str(prison), *(["/bin/escape", str(canary)])]
        leaked = subprocess.run(command, close_fds=False, stdout=subprocess.PIPE, text=True)
        assert leaked.stdout.strip() == "escaped by an open directory"  # chroot(1) leaks it
        assert output(escape, root=prison) == "caught"
        with nsdemo.spawn(["sleep", "100"], root=prison) as box:
            entered = nsdemo.enter(box, escape, **CAPTURED).stdout.strip()
        assert entered == "caught"
    finally:
        os.close(fd)


@pytest.mark.parametrize("user", POWERS)
def test_rule_01_an_entered_command_does_not_get_out(
    user: bool, prison: Path, canary: Path
) -> None:
    with nsdemo.spawn(["sleep", "100"], root=prison, user=user) as box:
        done = nsdemo.enter(box, ["escape", str(canary)], **CAPTURED)
    assert done.stdout.strip() == "caught"


# -- rule 2: /proc/self/exe leads to whoever executes it ----------------------------------------

TRAPS = {"link": None, "script": "#!/proc/self/exe\n", "argument": "#!/proc/self/exe -c\n"}
ARGUMENTS: list[list[str]] = [[], ["--version"], ["-c", "print('host')"], ["3", "4096", "0"]]


@pytest.fixture(scope="module")
def trapped() -> Iterator[Path]:
    """A root where a host's dynamic program would start, and /bin/x is whoever executes it."""
    with nsdemo.Rootfs.from_host(["sleep", tool("nsenter"), "cat"]) as made:
        root = Path(made)
        for name, text in TRAPS.items():
            trap = root / "bin" / f"x-{name}"
            if text is None:
                trap.symlink_to("/proc/self/exe")
            else:
                trap.write_text(text)
                trap.chmod(0o755)
        yield root


BY_ITSELF = (
    "nsdemo-start: this is the part of nsdemo that starts commands; by itself it does nothing\n"
)


def outcome(call: Callable[[], nsdemo.CompletedProcess[str]]) -> tuple[object, str]:
    try:
        done = call()
    except OSError as error:
        return type(error).__name__, ""
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("user", POWERS)
def test_rule_02_proc_self_exe_is_nothing_of_the_hosts(
    user: bool, trap: str, trapped: Path
) -> None:
    x = f"/bin/x-{trap}"
    with nsdemo.spawn(["sleep", "100"], root=trapped, user=user) as box:
        if trap == "link":
            words = ["--target", str(box.pid), "--mount", "--pid", "--root"]
            words += ["--user", "--preserve-credentials"] if user else []
            naive = subprocess.run([tool("nsenter"), *words, x, "--version"], **CAPTURED)
            assert "util-linux" in naive.stdout  # the host's nsenter has run inside
        for arguments in ARGUMENTS:
            # The launcher itself: it finds no plan, says so and ends.
            entered = outcome(lambda a=arguments: box.enter([x, *a], **CAPTURED))
            assert entered == (125, BY_ITSELF)
            for options in ({}, {"uid": 0}, {"init": True}):
                found = outcome(
                    lambda a=arguments, o=options: nsdemo.run(
                        [x, *a], root=trapped, user=user, **o, **CAPTURED
                    )
                )
                assert found == (125, BY_ITSELF)


# -- rule 3: a directory outside of the root is no working directory ----------------------------


@pytest.mark.parametrize("user", POWERS)
def test_rule_03_a_cwd_outside_of_the_root_is_refused(user: bool, own: Path, canary: Path) -> None:
    fd = os.open(canary.parent, os.O_RDONLY)
    outside = f"/proc/self/fd/{fd}"
    (own / "tmp" / "out").symlink_to(outside)
    try:
        with nsdemo.spawn(["sleep", "100"], root=own, user=user, pass_fds=[fd]) as box:
            # The door is there: the command may use what it was given, but never starts behind it.
            assert "free" in output(
                ["cat", f"{outside}/canary"], root=own, user=user, pass_fds=[fd]
            )
            for cwd in (outside, "/tmp/out", f"{outside}/."):
                with pytest.raises(nsdemo.NamespaceError) as caught:
                    nsdemo.run(["pwd"], root=own, user=user, pass_fds=[fd], cwd=cwd)
                assert (caught.value.step.operation, caught.value.errno) == ("chdir", errno.EXDEV)
                with pytest.raises(nsdemo.NamespaceError) as caught:
                    box.enter(["pwd"], pass_fds=[fd], cwd=cwd)
                assert (caught.value.step.operation, caught.value.errno) == ("chdir", errno.EXDEV)
            with pytest.raises(FileNotFoundError):  # a descriptor that was not passed
                nsdemo.run(["pwd"], root=own, user=user, cwd=outside)
    finally:
        os.close(fd)


# -- rule 6: /proc swapped for a link -----------------------------------------------------------


@pytest.mark.parametrize("user", POWERS)
@pytest.mark.parametrize("target", ["tmp", "/tmp", "../../tmp", "sys"])
def test_rule_06_a_proc_that_leads_elsewhere_is_refused(target: str, user: bool, own: Path) -> None:
    (own / "proc").rmdir()
    (own / "proc").symlink_to(target)
    naive = f"mount -t proc proc {own}/proc && grep ' - proc proc ' /proc/self/mountinfo"
    followed = output(["sh", "-c", naive], user=user)
    assert f" {own}/proc " not in followed  # mount(8) has followed the link
    with pytest.raises(nsdemo.NamespaceError) as caught:
        nsdemo.run(["true"], root=own, user=user)
    assert caught.value.step.operation == "mount"
    assert caught.value.errno in (errno.ENOTDIR, errno.ELOOP)


# -- rules 9, 10: groups ------------------------------------------------------------------------


def test_rule_09_groups_cannot_be_dropped_in_a_user_namespace(prison: Path) -> None:
    if IS_ROOT:
        assert output(["setgroups"], root=prison, user=False) == "0"
    assert output(["setgroups"], root=prison, user=True) == str(errno.EPERM)
    assert output(["cat", "/proc/self/setgroups"], root=prison, user=True) == "deny"
    with nsdemo.spawn(["sleep", "100"], root=prison, user=True) as box:
        assert box.enter(["setgroups"], **CAPTURED).stdout.strip() == str(errno.EPERM)


@only_root
def test_rule_10_groups_are_cleared_when_an_id_is_given(rootfs: Path) -> None:
    found = script(
        """
        os.setgroups([100, 200])
        grep = ["grep", "Groups", "/proc/self/status"]
        options = {"capture_output": True, "text": True}
        root = sys.argv[1]
        report(
            kept=nsdemo.run(grep, **options).stdout,
            given=nsdemo.run(grep, groups=[7], uid=5, **options).stdout,
            uid=nsdemo.run(grep, uid=5, **options).stdout,
            gid=nsdemo.run(grep, gid=5, root=root, **options).stdout,
            chroot=nsdemo.chroot_run(root, ["id", "-G"], uid=5, gid=6, **options).stdout,
            plain=nsdemo.chroot_run(root, ["id", "-G"], **options).stdout,
        )
        """,
        str(rootfs),
    ).report
    assert found["kept"].split() == ["Groups:", "100", "200"]
    assert found["given"].split() == ["Groups:", "7"]
    assert found["uid"].split() == found["gid"].split() == ["Groups:"]
    assert found["chroot"].split() == ["6"]
    assert found["plain"].split() == ["0", "100", "200"]


def test_rule_10_groups_that_cannot_be_cleared_are_told() -> None:
    done = nsdemo.run(["true"], user=True, uid=0)
    refused = [step.errno for step in done.trace if step.operation == "setgroups"]
    assert refused == [errno.EPERM]
    with pytest.raises(PermissionError) as caught:
        nsdemo.run(["true"], user=True, groups=())
    assert isinstance(caught.value, nsdemo.NamespaceError)
    assert caught.value.step.operation == "setgroups"


# -- rule 13: nothing is looked up in the container's files -------------------------------------

IN_OPEN, IN_NONBLOCK = 0x20, 0o4000


class Opened:
    """Tells which of some files have been opened: by anybody, in any namespace."""

    def __init__(self, paths: list[Path]) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self.libc.inotify_init1(IN_NONBLOCK | os.O_CLOEXEC)
        assert self.fd >= 0
        for path in paths:
            assert self.libc.inotify_add_watch(self.fd, os.fsencode(path), IN_OPEN) >= 0

    def any(self) -> bool:
        try:
            return bool(os.read(self.fd, 65536))
        except BlockingIOError:
            return False


def test_rule_13_no_name_is_looked_up_inside(own: Path) -> None:
    planted = [own / "etc" / name for name in ("passwd", "group", "nsswitch.conf", "ld.so.preload")]
    for folder in ("lib", "lib64", "lib/x86_64-linux-gnu", "usr/lib"):
        (own / folder).mkdir(exist_ok=True, parents=True)
        planted += [own / folder / "libnss_files.so.2", own / folder / "libc.so.6"]
    for path in planted:
        path.touch()
    watch = Opened(planted)
    try:
        ids: dict[str, Any] = {"uid": 0, "gid": 0}
        nsdemo.chroot_run(own, ["true"], **ids)
        nsdemo.run(["true"], root=own, **ids)
        with nsdemo.spawn(["sleep", "100"], root=own, init=True, **ids) as box:
            box.enter(["true"], **ids)
        assert not watch.any()
        nsdemo.chroot_run(own, ["id"], stdout=nsdemo.DEVNULL)  # a command that does look
        assert watch.any()
    finally:
        os.close(watch.fd)
    for call in (nsdemo.run, lambda a, **k: nsdemo.chroot_run(own, a, **k)):
        with pytest.raises(TypeError, match="number"):
            call(["true"], uid="nobody")


# -- rule 14: inheritable and ambient capabilities ----------------------------------------------


@only_root
def test_rule_14_no_capability_is_inherited(rootfs: Path) -> None:
    found = script(
        """
        command = ["grep", "Cap", "/proc/self/status"]
        options = {"capture_output": True, "text": True}
        root = sys.argv[1]
        box = nsdemo.spawn(["sleep", "100"], root=root)
        report(
            naive=subprocess.run(command, **options).stdout,
            run=nsdemo.run(command, **options).stdout,
            user=nsdemo.run(command, user=True, init=True, **options).stdout,
            uid=nsdemo.run(command, uid=5, **options).stdout,
            enter=box.enter(command, **options).stdout,
        )
        box.stop()
        """,
        str(rootfs),
        under=[tool("setpriv"), "--inh-caps", "+chown", "--ambient-caps", "+chown"],
    ).report
    none = "0" * 16
    naive = fields(found.pop("naive"))
    assert naive["CapInh"] != none != naive["CapAmb"]
    for name, text in found.items():
        got = fields(text)
        assert (name, got["CapInh"], got["CapAmb"]) == (name, none, none)
    assert fields(found["uid"])["CapEff"] == none


# -- rule 15: ids -------------------------------------------------------------------------------


@pytest.mark.parametrize("keyword", ["uid", "gid", "groups"])
def test_rule_15_ids_are_ints_in_range(keyword: str, rootfs: Path) -> None:
    calls: list[Callable[..., Any]] = [
        nsdemo.spawn,
        nsdemo.run,
        lambda args, **options: nsdemo.chroot_run(rootfs, args, **options),
        lambda args, **options: nsdemo.enter(os.getpid(), args, **options),
    ]
    chance = random.Random(15)
    large = [chance.choice((-1, 1)) * chance.randrange(2**32, 2**80) for _ in range(20)]
    out_of_range = [-1, 2**32 - 1, 2**32, -(2**31), 2**64, *large]
    good = [0, 1, 2**31, 2**32 - 2, *(chance.randrange(2**32 - 1) for _ in range(20))]
    wrap = (lambda value: [value]) if keyword == "groups" else (lambda value: value)
    for call in calls:
        for value in (True, False, "0", "-u", b"0", 1.0, object()):
            with pytest.raises(TypeError):
                call(["true"], dry_run=True, **{keyword: wrap(value)})
        for number in out_of_range:
            with pytest.raises(ValueError, match="between 0 and 4294967294"):
                call(["true"], dry_run=True, **{keyword: wrap(number)})
        for number in good:
            assert call(["true"], dry_run=True, **{keyword: wrap(number)})


# -- rule 18: mounts leak -----------------------------------------------------------------------


def test_rule_18_no_mount_reaches_the_caller(own: Path) -> None:
    found = script(
        """
        from pathlib import Path
        mounts = lambda: set(Path("/proc/self/mountinfo").read_text().splitlines())
        root = sys.argv[1]
        command = ["mount", "-t", "tmpfs", "none", root + "/tmp"]
        before = mounts()
        nsdemo.run(command)
        box = nsdemo.spawn(["sh", "-c", "mount -t tmpfs none /tmp && echo && exec sleep 100"],
                           root=root, stdout=nsdemo.PIPE, init=True)
        box.stdout.readline()
        box.enter(["mount", "-t", "tmpfs", "none", "/run"])
        nsdemo.run(command, propagation="slave")
        during = mounts()
        box.stop()
        box.stdout.close()
        naive = subprocess.run(["unshare", "--mount", "--propagation", "unchanged", *command])
        report(shared=any(" shared:" in line for line in before), during=sorted(during ^ before),
               naive=len(mounts() - before), status=naive.returncode)
        """,
        str(own),
        under=SHARED_MACHINE,
    ).report
    assert found == {"shared": True, "during": [], "naive": 1, "status": 0}
