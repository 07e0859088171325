"""Every refusal that the kernel can be made to give, and the hint for it.

A failure is provoked for real, in a child process that reports what was raised. What cannot be
had on an ordinary machine (AppArmor's sysctl, gVisor, an initramfs) is faked behind
``_facts/machine.py``, and the test says so.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import nsdemo
from nsdemo import Plan, Step
from nsdemo._facts import machine as machine_facts
from nsdemo._facts.inside import host_machine
from nsdemo._why.diagnosis import diagnose

USER = 54321  # nobody's: limits on its processes concern nobody else
ROOT = os.geteuid() == 0
ME = USER if ROOT else os.geteuid()
TRUE = shutil.which("true") or "/bin/true"

needs_root = pytest.mark.skipif(not ROOT, reason="only root can prepare this failure")

PREAMBLE = """
import array, ctypes, difflib, fcntl, json, os, resource, shutil, sys
import nsdemo, nsdemo._why.diagnosis
from nsdemo import Plan
libc = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWUTS, NEWPID, NEWUSER = 0x20000, 0x4000000, 0x20000000, 0x10000000
MS_PRIVATE, MS_SHARED, MS_REC, MS_BIND, MS_NOEXEC = 1 << 18, 1 << 20, 0x4000, 0x1000, 8

def call(name, *args):
    if getattr(libc, name)(*args) != 0:
        raise AssertionError(name + ": " + os.strerror(ctypes.get_errno()))

def mount(source, target, kind, flags):
    coded = [None if text is None else text.encode() for text in (source, target, kind)]
    call("mount", *coded, ctypes.c_ulong(flags), None)

def write(path, text):
    with open(path, "w") as file:
        file.write(text)

def become_root_in_a_user_namespace():
    uid, gid = os.geteuid(), os.getegid()
    call("unshare", NEWUSER)
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"0 {uid} 1")
    write("/proc/self/gid_map", f"0 {gid} 1")

def private_mounts():
    call("unshare", NEWNS)
    mount(None, "/", None, MS_REC | MS_PRIVATE)

def go_on_in_a_child():
    pid = os.fork()
    if pid:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

def become(uid):
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: or /proc/self is still root's
"""


class Outcome(SimpleNamespace):
    """What a call in another process raised."""

    names: list[str]
    errno: int
    operation: str
    filename: str | None
    notes: str


def outcome(call: str, before: str = "", user: bool = False) -> Outcome:
    """Run a call in a process of its own, prepared by ``before``; as an ordinary user or as us."""
    lines = [
        PREAMBLE,
        before,
        f"if {user}: become({USER})",
        "try:",
        *("    " + line for line in call.strip().splitlines()),
        "except OSError as error:",
        "    step = getattr(error, 'step', None) or error.trace[-1]",
        "    print(json.dumps(dict(names=[c.__name__ for c in type(error).__mro__],",
        "        errno=error.errno, operation=step.operation, filename=error.filename,",
        "        notes=chr(10).join(getattr(error, '__notes__', ())))))",
        "else:",
        "    print('null')",
        "os._exit(0)",
    ]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(Path(nsdemo.__file__).parent.parent)},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found is not None, "nothing was raised"
    return Outcome(**found)


def check(found: Outcome, operation: str, number: int, *words: str) -> None:
    """A failed set-up: NamespaceError, and the built-in class of its errno."""
    assert (found.operation, errno.errorcode[found.errno]) == (operation, errno.errorcode[number])
    builtin = type(OSError(number, "")).__name__
    assert {"NamespaceError", builtin} <= set(found.names)
    for word in words:
        assert word in found.notes, found.notes


def check_command(found: Outcome, number: int, *words: str) -> None:
    """A command that cannot be executed: the plain built-in class."""
    assert (found.operation, found.errno) == ("exec", number), found
    assert found.names[0] == type(OSError(number, "")).__name__
    assert found.filename
    for word in words:
        assert word in found.notes, found.notes


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can look into, unlike pytest's."""
    path = Path(tempfile.mkdtemp(prefix="nsdemo-hints-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def rootfs(place: Path) -> Path:
    """An almost empty root."""
    root = place / "root"
    (root / "bin").mkdir(parents=True)
    (root / "proc").mkdir()
    return root


def program(path: Path, content: bytes | str, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def chrooted(root: Path, *args: str, more: str = "", **options: Any) -> Outcome:
    return outcome(f"nsdemo.chroot_run({str(root)!r}, {list(args)!r}{more})", **options)


# -- power ----------------------------------------------------------------------------------


def test_an_ordinary_user_needs_a_user_namespace() -> None:
    found = outcome(f"nsdemo.run([{TRUE!r}], user=False)", user=True)
    check(found, "clone", errno.EPERM, f"uid {ME} has not: add user=True")


def test_a_seccomp_filter_is_named_with_what_the_status_says() -> None:
    # Classic BPF: the system call's number, is it unshare?, EPERM if so.
    number = {"x86-64": 272, "AArch64": 97}[host_machine()]
    refuse = struct.pack("HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, number, 6, 0, 0, 0x00050001,
                         6, 0, 0, 0x7FFF0000)  # fmt: skip
    before = f"""
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
code = Filter(4, {refuse!r})
libc.prctl(38, 1, 0, 0, 0)
call("prctl", 22, 2, ctypes.byref(code), 0, 0)
"""
    found = outcome(f"nsdemo.run([{TRUE!r}], user=True, init=True)", before=before, user=False)
    check(found, "unshare", errno.EPERM, "seccomp filter is in force", "Seccomp: 2, CapEff: ")


@needs_root
def test_power_that_a_program_does_not_get() -> None:
    # Kept over setuid() and in effect, but not ambient: execve() takes it away.
    before = f"""
libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
become({USER})
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
data = (ctypes.c_uint32 * 6)(1 << 21, 1 << 21, 0, 0, 0, 0)  # CAP_SYS_ADMIN
call("capset", header, data)
"""
    found = outcome(f"Plan().unshare('uts').exec([{TRUE!r}]).run()", before=before)
    check(found, "unshare", errno.EPERM, "needs CAP_SYS_ADMIN", "add user=True")
    # The calls hand it on to the launcher, and take it from the command.
    looks = """run(["cat", "/proc/self/status"], user=False, capture_output=True, {})"""
    for more in ("init=True", f"uid={USER}", "uts=False"):
        call = f"assert b'CapPrm:\\t0000000000000000' in nsdemo.{looks.format(more)}.stdout"
        found = outcome(f"{call}; Plan().unshare('uts').exec([{TRUE!r}]).run()", before=before)
        check(found, "unshare", errno.EPERM)


@needs_root
def test_a_root_without_power() -> None:
    before = "call('prctl', 24, 21, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_SYS_ADMIN"
    found = outcome(f"nsdemo.run([{TRUE!r}], user=False, init=True)", before=before)
    check(
        found,
        "unshare",
        errno.EPERM,
        "without CAP_SYS_ADMIN" if machine_facts.engine() else "has no",
    )


@needs_root
def test_a_root_that_may_not_map_root() -> None:
    before = "call('prctl', 24, 31, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_SETFCAP"
    found = outcome(f"nsdemo.run([{TRUE!r}], user=True, init=True)", before=before)
    check(found, "write", errno.EPERM, "mapping root needs CAP_SETFCAP")


def test_a_limit_on_namespaces_is_not_disk_space() -> None:
    # The sysctl of a user namespace of our own: nobody else is concerned.
    before = f"""
become({USER})
become_root_in_a_user_namespace()
write("/proc/sys/user/max_uts_namespaces", "0")
"""
    found = outcome(f"nsdemo.run([{TRUE!r}])", before=before)
    words = "this is not disk space", "the sysctl user.max_uts_namespaces is 0"
    check(found, "clone", errno.ENOSPC, *words)


def test_a_limit_that_is_reached_is_printed() -> None:
    before = f"""
become({USER})
become_root_in_a_user_namespace()
write("/proc/sys/user/max_uts_namespaces", "1")
call("unshare", NEWUTS)
"""
    plan = f"Plan().unshare('uts').exec([{TRUE!r}]).run()"
    words = "this is not disk space", "(user.max_uts_namespaces is 1)"
    check(outcome(plan, before=before), "unshare", errno.ENOSPC, *words)


def test_nesting_too_deep_is_no_disk_space_either() -> None:
    before = f"""
become({USER})
while True:
    try:
        become_root_in_a_user_namespace()
    except AssertionError:
        break
"""
    found = outcome(f"nsdemo.run([{TRUE!r}], user=True)", before=before)
    check(found, "clone", errno.ENOSPC, "not disk space", "more than 32 deep")


@needs_root
def test_a_chrooted_caller_gets_no_user_namespace(rootfs: Path) -> None:
    before = f"""
private_mounts()
mount("/proc", "{rootfs}/proc", None, MS_BIND | MS_REC)
os.chroot("{rootfs}")
os.chdir("/")
"""
    found = outcome("nsdemo.run(['/true'], user=True)", before=before, user=True)
    check(found, "clone", errno.EPERM, "this process is chrooted")


@needs_root
def test_a_chrooted_caller_cannot_keep_mounts_inside(rootfs: Path) -> None:
    before = f"""
import nsdemo._why.diagnosis, nsdemo.mounts
private_mounts()
mount("/proc", "{rootfs}/proc", None, MS_BIND | MS_REC)
os.chroot("{rootfs}")
os.chdir("/")
"""
    call = "nsdemo.run(['/bin/true'], propagation='unchanged', mounts=[nsdemo.Tmpfs('/mnt')])"
    found = outcome(call, before=before)
    check(found, "mount_at", errno.EINVAL, "this process is chrooted", "start from outside")


def test_a_caller_whose_uid_is_not_mapped_gets_no_user_namespace() -> None:
    before = f"become({USER})\ncall('unshare', NEWUSER)"
    found = outcome(f"nsdemo.run([{TRUE!r}], user=True)", before=before)
    check(found, "clone", errno.EPERM, "our own uid", "is not in the map", "(empty)")


def test_gid_map_needs_setgroups_denied_first() -> None:
    call = f"""
def write(plan, *texts):
    return plan._then("write", texts=texts)
plan = write(Plan().unshare("user"), "/proc/self/uid_map", f"0 {{os.geteuid()}} 1")
write(plan, "/proc/self/gid_map", f"0 {{os.getegid()}} 1").exec([{TRUE!r}]).run()
"""
    check(outcome(call, user=True), "write", errno.EPERM, "setgroups must be denied before")


def test_a_map_needs_a_new_user_namespace() -> None:
    call = f"Plan().map_root().exec([{TRUE!r}]).run()"
    found = outcome(call, user=True)
    check(found, "write", errno.EPERM, '.unshare("user") comes first')


def test_a_map_made_for_somebody_else() -> None:
    call = f"""
plan = Plan().unshare("user")._then("write", texts=("/proc/self/uid_map", "0 4711 1"))
plan.exec([{TRUE!r}]).run()
"""
    check(outcome(call, user=True), "write", errno.EPERM, "is for uid 4711", f"you are uid {ME}")


# -- ids ------------------------------------------------------------------------------------


def test_an_id_outside_of_the_map() -> None:
    found = outcome(f"nsdemo.run([{TRUE!r}], user=True, uid=5)", user=True)
    check(found, "setuid", errno.EINVAL, f"uid 5 is not in the map 0 {ME} 1")
    found = outcome(f"nsdemo.run([{TRUE!r}], user=True, gid=6)", user=True)
    check(found, "setgid", errno.EINVAL, "gid 6 is not in the map 0 ")


def test_groups_that_the_namespace_denies() -> None:
    found = outcome(f"nsdemo.run([{TRUE!r}], user=True, groups=[0])", user=True)
    check(found, "setgroups", errno.EPERM, "the user namespace denies setgroups")


def test_an_ordinary_user_stays_who_he_is() -> None:
    call = f"Plan().setuid(0).exec([{TRUE!r}]).run()"
    check(outcome(call, user=True), "setuid", errno.EPERM, "needs CAP_SETUID", "be root")
    call = f"Plan().setgroups([5]).exec([{TRUE!r}]).run()"
    check(outcome(call, user=True), "setgroups", errno.EPERM, "needs CAP_SETGID")


# -- pid namespaces, processes, limits ------------------------------------------------------


@needs_root
def test_a_pid_namespace_without_pid_1_starts_nobody() -> None:
    call = f"""
box = nsdemo.spawn(["sleep", "60"])
with open(f"/proc/{{box.pid}}/ns/pid") as file:
    box.kill()
    box.wait()
    nsdemo.run([{TRUE!r}], mount=False, uts=False, ipc=False, pid=file)
"""
    check(outcome(call), "fork", errno.ENOMEM, "PID 1 of this namespace is gone")


@needs_root
def test_a_caller_who_was_moved_to_a_dead_pid_namespace() -> None:
    before = """
call("unshare", NEWPID)
if os.fork() == 0:
    os._exit(0)
os.wait()
"""
    found = outcome(f"nsdemo.run([{TRUE!r}])", before=before)
    check(found, "start", errno.ENOMEM, "PID 1 of it is gone", "restart Python")


def test_too_many_processes() -> None:
    before = f"become({USER})\nresource.setrlimit(resource.RLIMIT_NPROC, (1, 1))"
    found = outcome(f"nsdemo.run([{TRUE!r}])", before=before)
    words = f"uid {ME} may have 1 processes and threads (RLIMIT_NPROC", "and has "
    check(found, "start", errno.EAGAIN, *words)


def test_too_many_descriptors() -> None:
    before = "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))"
    found = outcome(f"nsdemo.run([{TRUE!r}])", before=before)
    check(found, "start", errno.EMFILE, "may have only 3 open descriptors (RLIMIT_NOFILE)")


@needs_root
def test_no_place_for_the_launcher() -> None:
    before = """
call("unshare", NEWPID)
go_on_in_a_child()
write("/proc/sys/vm/memfd_noexec", "2")  # of this pid namespace
private_mounts()
for place in ("/dev/shm", "/tmp", "/var/tmp", "/run"):
    if os.path.isdir(place):
        mount("none", place, "tmpfs", MS_NOEXEC)
"""
    found = outcome("nsdemo.run(['/bin/true'], init=True)", before=before)
    check(found, "start", errno.EACCES, "vm.memfd_noexec is 2")


@pytest.mark.parametrize(("target", "step"), [("box.pid", "open_process"), ("box", "open_root")])
def test_a_target_that_has_ended(target: str, step: str) -> None:
    call = f"""
box = nsdemo.spawn(["sleep", "60"])
plan = nsdemo.enter({target}, [{TRUE!r}], dry_run=True)
box.kill()
box.wait()
plan.run()
"""
    check(outcome(call, user=True), step, errno.ESRCH, "has ended; a target must be running")


@needs_root
@pytest.mark.parametrize("call", ["run([TRUE])", "chroot_run('/', [TRUE])"])
def test_a_caller_whose_children_are_born_elsewhere(call: str) -> None:
    before = f"""
TRUE = {TRUE!r}
call("unshare", NEWPID)
child = os.fork()
if child == 0:
    import signal
    signal.pause()
"""
    found = outcome(f"try:\n    nsdemo.{call}\nfinally:\n    os.kill(child, 9)", before=before)
    check(found, "start", errno.ESRCH, "its children cannot see it", "restart Python")


@pytest.mark.parametrize("target", ["box.pid", "box"])
def test_joining_without_the_user_namespace_that_owns_it(target: str) -> None:
    call = f"""
box = nsdemo.spawn(["sleep", "60"])
try:
    Plan().join({target}, "uts").exec([{TRUE!r}]).run()
finally:
    box.kill()
    box.wait()
"""
    words = f"whose owner uid is {ME}; join user too"
    check(outcome(call, user=True), "join", errno.EPERM, words)


@pytest.mark.parametrize("more", ["", ", root=False"])
def test_a_missing_command_in_a_container(more: str) -> None:
    call = f"""
with nsdemo.spawn(["sleep", "60"]) as box:
    try:
        nsdemo.enter(box, ["/nsdemo/none"]{more})
    finally:
        box.kill()
"""
    words = "already /nsdemo in the root /proc/" if not more else ""
    check_command(outcome(call, user=True), errno.ENOENT, words)


def test_groups_that_a_joined_namespace_denies() -> None:
    call = """
with nsdemo.spawn(["sleep", "60"]) as box:
    try:
        nsdemo.enter(box, ["/nsdemo/none"], groups=[0])
    finally:
        box.kill()
"""
    found = outcome(call, user=True)
    check(found, "setgroups", errno.EPERM, "the user namespace denies setgroups")


# -- mounts ---------------------------------------------------------------------------------


@needs_root
def test_a_covered_proc() -> None:
    before = """
private_mounts()
mount("/dev/null", "/proc/uptime", None, MS_BIND)
"""
    found = outcome(f"nsdemo.run([{TRUE!r}])", before=before, user=True)
    check(found, "mount", errno.EPERM, "wholly visible", "these are covered: /proc/uptime")
    assert "pid=True" not in found.notes


def test_proc_without_a_new_pid_namespace() -> None:
    found = outcome(f"nsdemo.run([{TRUE!r}], pid=False, mount_proc=True)", user=True)
    check(found, "mount", errno.EPERM, "needs pid=True")


def test_proc_after_the_old_one_is_out_of_sight(rootfs: Path) -> None:
    call = f"""
plan = Plan().unshare("user").map_root().unshare("mount", "pid").fork().make_private()
plan = plan.bind("{rootfs}", "{rootfs}").pivot_root("{rootfs}")
plan.mount("proc", "/proc", "proc").exec(["/true"]).run()
"""
    found = outcome(call, user=True)
    check(found, "mount", errno.EPERM, "after pivot_root the old /proc is out of sight")


def test_sys_without_a_new_net_namespace() -> None:
    call = f"""
plan = Plan().unshare("user").map_root().unshare("mount").make_private()
plan.mount("sysfs", "/sys", "sysfs").exec([{TRUE!r}]).run()
"""
    check(outcome(call, user=True), "mount", errno.EPERM, "needs net=True")


def test_a_file_system_that_is_not_known() -> None:
    call = f"""
plan = Plan().unshare("user").map_root().unshare("mount").make_private()
plan.mount("none", "/tmp", "nosuchfs").exec([{TRUE!r}]).run()
"""
    check(outcome(call, user=True), "mount", errno.ENODEV, "does not know the file system")


def test_a_root_without_proc(rootfs: Path) -> None:
    (rootfs / "proc").rmdir()
    found = outcome(f"nsdemo.run(['/true'], root='{rootfs}')", user=True)
    check(found, "mount", errno.ENOENT, f"there is no {rootfs}/proc: mkdir {rootfs}/proc")


def test_a_root_whose_proc_leads_elsewhere(rootfs: Path) -> None:
    (rootfs / "proc").rmdir()
    (rootfs / "proc").symlink_to("/etc")
    found = outcome(f"nsdemo.run(['/true'], root='{rootfs}')", user=True)
    check(found, "mount", errno.ENOTDIR, "is a symbolic link to /etc: refused")


def test_a_root_whose_proc_is_a_file(rootfs: Path) -> None:
    (rootfs / "proc").rmdir()
    (rootfs / "proc").write_text("")
    found = outcome(f"nsdemo.run(['/true'], root='{rootfs}')", user=True)
    check(found, "mount", errno.ENOTDIR, f"{rootfs}/proc is not a directory")


NEW_MOUNTS = "Plan().unshare('user').map_root().unshare('mount')"


def test_binding_what_is_not_there(place: Path) -> None:
    call = f"{NEW_MOUNTS}.make_private().bind('{place}/a', '{place}').exec(['x']).run()"
    check(outcome(call, user=True), "bind", errno.ENOENT, f"there is no {place}/a")


def test_mounting_in_the_hosts_mount_namespace(place: Path) -> None:
    call = f"Plan().unshare('user').map_root().bind('{place}', '{place}').exec(['x']).run()"
    check(outcome(call, user=True), "bind", errno.EPERM, "mount=True makes a new one")


def test_renaming_the_host() -> None:
    call = "Plan().unshare('user').map_root().sethostname('x').exec(['x']).run()"
    check(outcome(call, user=True), "sethostname", errno.EPERM, "uts=True makes a new one")


def test_propagation_of_what_is_no_mount_point(place: Path) -> None:
    call = f"{NEW_MOUNTS}.make_private('{place}').exec(['x']).run()"
    check(outcome(call, user=True), "propagation", errno.EINVAL, "is not a mount point")


def test_pivoting_to_what_is_no_mount_point(place: Path) -> None:
    call = f"{NEW_MOUNTS}.make_private().pivot_root('{place}').exec(['x']).run()"
    check(outcome(call, user=True), "pivot_root", errno.EINVAL, f"{place} is not a mount point")


def test_pivoting_to_where_we_are() -> None:
    call = f"{NEW_MOUNTS}.make_private().pivot_root('/').exec(['x']).run()"
    check(outcome(call, user=True), "pivot_root", errno.EINVAL, "/ is the root already")


@needs_root
def test_pivoting_among_shared_mounts(place: Path) -> None:
    before = """
private_mounts()
mount(None, "/", None, MS_REC | MS_SHARED)
"""
    call = f"Plan().unshare('mount').bind('{place}', '{place}').pivot_root('{place}')"
    found = outcome(f"{call}.exec(['x']).run()", before=before)
    check(found, "pivot_root", errno.EINVAL, "shared with the rest", 'propagation="private"')


# -- roots and directories ------------------------------------------------------------------


def test_a_root_that_is_not_there(place: Path) -> None:
    found = outcome(f"nsdemo.run(['/true'], root='{place}/a/b')", user=True)
    check(found, "open_root", errno.ENOENT, f"already {place}/a does not exist")
    found = chrooted(place / "a", "/true", user=True)
    check(found, "chroot", errno.ENOENT, f"there is no {place}/a: mkdir {place}/a")


def test_a_root_that_is_a_file(place: Path) -> None:
    (place / "file").write_text("")
    found = outcome(f"nsdemo.run(['/true'], root='{place}/file/x')", user=True)
    check(found, "open_root", errno.ENOTDIR, f"{place}/file is not a directory")


def test_a_root_behind_a_closed_door(place: Path) -> None:
    (place / "closed/inner").mkdir(parents=True)
    (place / "closed").chmod(0)
    # With an init the root is opened outside, before the caller is root of his own directories.
    call = f"nsdemo.run(['/true'], root='{place}/closed/inner', init=True)"
    found = outcome(call, user=True)
    (place / "closed").chmod(0o755)
    words = f"uid {ME} may not look into {place}/closed", "(mode 000"
    check(found, "open_root", errno.EACCES, *words)


@needs_root
def test_a_root_that_is_closed_itself(rootfs: Path) -> None:
    rootfs.chmod(0o700)
    found = chrooted(rootfs, "/true", user=True)
    check(found, "chroot", errno.EACCES, f"may not look into {rootfs} (mode 700, owner uid 0)")


def test_an_ordinary_user_does_not_chroot() -> None:
    call = "Plan().chroot('/').exec(['x']).run()"
    check(outcome(call, user=True), "chroot", errno.EPERM, "needs CAP_SYS_CHROOT", "user=True")


def test_a_working_directory_that_is_not_there(rootfs: Path) -> None:
    found = chrooted(rootfs, "/true", more=", cwd='/tmp'", user=True)
    check(found, "chdir", errno.ENOENT, f"no /tmp in the root {rootfs}", "exists outside only")


@needs_root
def test_a_working_directory_outside_of_the_root(rootfs: Path) -> None:
    call = f"""
fd = os.open("/etc", os.O_RDONLY)
nsdemo.run(["/true"], root="{rootfs}", cwd=f"/proc/self/fd/{{fd}}", pass_fds=[fd])
"""
    check(outcome(call), "chdir", errno.EXDEV, "leads to a directory outside of the root")


# -- commands that cannot be executed -------------------------------------------------------


def test_a_program_whose_loader_is_missing(rootfs: Path) -> None:
    shutil.copy(TRUE, rootfs / "bin/true")
    found = chrooted(rootfs, "true", user=True)
    check_command(found, errno.ENOENT, "/bin/true exists, but needs the loader /lib", "absent in")
    assert found.filename == "true"


def test_a_script_whose_interpreter_is_missing(rootfs: Path) -> None:
    program(rootfs / "bin/tool", "#!/usr/bin/perl -w\n")
    words = "names the interpreter /usr/bin/perl, which is absent", str(rootfs)
    check_command(chrooted(rootfs, "tool", user=True), errno.ENOENT, *words)


def test_a_script_whose_interpreter_lacks_its_loader(rootfs: Path) -> None:
    shutil.copy(TRUE, rootfs / "bin/sh")
    program(rootfs / "bin/tool", "#!/bin/sh\n")
    words = "/bin/sh exists, but needs the loader"
    check_command(chrooted(rootfs, "/bin/tool", user=True), errno.ENOENT, words)


def test_a_script_from_windows(rootfs: Path) -> None:
    program(rootfs / "bin/tool", "#!/bin/sh\r\nexit\r\n")
    check_command(chrooted(rootfs, "tool", user=True), errno.ENOENT, "ends in CR LF")


def test_a_missing_command_and_where_it_was_looked_for(rootfs: Path) -> None:
    found = chrooted(rootfs, "ls", user=True)
    words = "there is no ls in the PATH /usr/local/sbin:", f"of the root {rootfs}", "outside it is"
    check_command(found, errno.ENOENT, *words)
    found = outcome("nsdemo.run(['nsdemo-no-such'], env={'PATH': '/usr/bin'})", user=True)
    check_command(found, errno.ENOENT, "no nsdemo-no-such in the PATH /usr/bin of this")


def test_a_command_that_lies_elsewhere(rootfs: Path) -> None:
    program(rootfs / "opt/bin/tool", "#!/bin/sh\n")
    found = chrooted(rootfs, "tool", user=True)
    check_command(found, errno.ENOENT, "the root has it as /opt/bin/tool")
    program(rootfs / "here", "#!/bin/sh\n")
    check_command(chrooted(rootfs, "here", user=True), errno.ENOENT, "give ./here")


def test_a_command_with_a_slip_of_the_pen(rootfs: Path) -> None:
    program(rootfs / "bin/hostname", "#!/bin/sh\n")
    check_command(chrooted(rootfs, "hostnmae", user=True), errno.ENOENT, "did you mean hostname?")


def test_a_path_that_exists_outside_only(rootfs: Path) -> None:
    found = chrooted(rootfs, TRUE + "x", user=True)
    check_command(found, errno.ENOENT, "does not exist" if TRUE.count("/") > 2 else "there is no")
    (rootfs / "bin/tool").symlink_to("../opt/tool")
    words = "/bin/tool is a symbolic link to ../opt/tool, which does not exist"
    check_command(chrooted(rootfs, "tool", user=True), errno.ENOENT, words)
    found = chrooted(rootfs, "/etc/passwd", user=True)
    check_command(found, errno.ENOENT, "/etc/passwd exists outside only")


def test_a_file_without_permission(rootfs: Path) -> None:
    program(rootfs / "bin/tool", "#!/bin/sh\n", 0o644)
    words = "/bin/tool has no permission to be executed (mode 644)", f"chmod +x {rootfs}/bin/tool"
    check_command(chrooted(rootfs, "tool", user=True), errno.EACCES, *words)


def test_an_interpreter_without_permission(rootfs: Path) -> None:
    program(rootfs / "bin/tool", "#!/bin/sh\n")
    program(rootfs / "bin/sh", "x", 0o600)
    words = "/bin/sh has no permission to be executed"
    check_command(chrooted(rootfs, "tool", user=True), errno.EACCES, words)


def test_a_directory_is_no_command(rootfs: Path) -> None:
    found = chrooted(rootfs, "/bin", user=True)
    check_command(found, errno.EACCES, "/bin is a directory")


def test_a_device_is_no_command() -> None:
    found = outcome("nsdemo.run(['/dev/null'])", user=True)
    check_command(found, errno.EACCES, "/dev/null is a device")


@needs_root
def test_a_file_system_without_execution(place: Path) -> None:
    before = f"""
private_mounts()
mount("none", "{place}", "tmpfs", MS_NOEXEC)
shutil.copy("{TRUE}", "{place}/true")
"""
    found = outcome(f"nsdemo.run(['{place}/true'])", before=before)
    check_command(found, errno.EACCES, "is mounted noexec")


@needs_root
def test_a_command_that_is_somebody_elses(rootfs: Path) -> None:
    program(rootfs / "opt/tool", "#!/bin/sh\n", 0o700)
    found = chrooted(rootfs, "/opt/tool", more=", uid=5, gid=5")
    words = f"uid 5 may not execute /opt/tool in the root {rootfs} (mode 700, owner uid 0)"
    check_command(found, errno.EACCES, words)
    (rootfs / "opt").chmod(0o700)
    found = chrooted(rootfs, "/opt/tool", more=", uid=5, gid=5")
    check_command(found, errno.EACCES, "uid 5 may not look into /opt")


def elf(machine: int) -> bytes:
    """A static program of one instruction, for a machine by its number."""
    ident = b"\x7fELF\2\1\1" + bytes(9)
    head = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 128, 128, 4096)
    return (ident + head + segment).ljust(128, b"\0")


def test_a_program_for_another_machine(rootfs: Path) -> None:
    other, name = (183, "AArch64") if host_machine() == "x86-64" else (62, "x86-64")
    program(rootfs / "bin/tool", elf(other))
    words = f"/bin/tool is a program for {name}, and this machine is {host_machine()}"
    check_command(chrooted(rootfs, "tool", user=True), errno.ENOEXEC, words)
    program(rootfs / "bin/script", "#!/bin/tool\n")
    check_command(chrooted(rootfs, "script", user=True), errno.ENOEXEC, words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "/bin/tool is empty"),
        (b"echo hello\n", "begins with a line such as #!/bin/sh"),
        (b"\x7fELF\2\1\1", "damaged or cut off"),
        (b"#!\n", "names no interpreter"),
    ],
)
def test_a_file_that_is_no_program(rootfs: Path, content: bytes, words: str) -> None:
    program(rootfs / "bin/tool", content)
    check_command(chrooted(rootfs, "tool", user=True), errno.ENOEXEC, words)


def test_arguments_that_are_too_long() -> None:
    before = "resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, resource.RLIM_INFINITY))"
    found = outcome(f"nsdemo.run([{TRUE!r}, *['x' * 100_000] * 4])", before=before)
    check_command(found, errno.E2BIG, "the kernel takes 262,144 here")


def test_a_program_that_is_being_written(rootfs: Path) -> None:
    with program(rootfs / "bin/tool", elf(62)).open("ab"):
        found = chrooted(rootfs, "tool", user=True)
    check_command(found, errno.ETXTBSY, "/bin/tool open for writing")


# -- machines that this one is not: fakes behind _facts/machine.py -----------------------------


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Files of another machine, over those of this one; a fake."""
    files: dict[str, str] = {}
    real_read, real_exists = machine_facts.read, machine_facts.exists
    monkeypatch.setattr(
        machine_facts, "read", lambda path: files[path] if path in files else real_read(path)
    )
    monkeypatch.setattr(machine_facts, "exists", lambda path: path in files or real_exists(path))
    return files


STATUS = "/proc/thread-self/status"
NO_POWER = "CapEff:\t0\nCapBnd:\t0\nCapInh:\t0\nCapAmb:\t0\n"
ALL_POWER = NO_POWER.replace("\t0", "\t000001ffffffffff")
ORDINARY = "Uid:\t1000\nSeccomp:\t0\n" + NO_POWER


def hints(plan: Plan, operation: str, number: int) -> str:
    """The hints for the first step of this name, as if the kernel had answered so."""
    names = [step.operation for step in plan]
    trace = plan.steps[: names.index(operation) + 1]
    failed = Step(operation, trace[-1].args, None, number)
    return "\n".join(diagnose(failed, plan._core, (*trace[:-1], failed)))


def test_ubuntus_apparmor_is_faked(machine: dict[str, str]) -> None:
    machine[STATUS] = ORDINARY
    machine["/proc/sys/kernel/apparmor_restrict_unprivileged_userns"] = "1\n"
    plan = Plan().unshare("user").map_root().unshare("mount").exec(["x"])
    for operation in ("unshare", "write"):
        found = hints(plan, operation, errno.EPERM)
        assert "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0" in found
        assert "'userns,'" in found


def test_debians_old_sysctl_is_faked(machine: dict[str, str]) -> None:
    machine[STATUS] = ORDINARY
    machine["/proc/sys/kernel/unprivileged_userns_clone"] = "0\n"
    found = hints(Plan().unshare("user").exec(["x"]), "unshare", errno.EPERM)
    assert "kernel.unprivileged_userns_clone is 0" in found


def test_docker_without_capabilities_is_faked(
    machine: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    machine[STATUS] = "CapEff:\t00000000a80425fb\nSeccomp:\t2\n"
    machine["/.dockerenv"] = ""
    found = hints(Plan().unshare("mount").exec(["x"]), "unshare", errno.EPERM)
    assert "root inside Docker" in found
    assert "Seccomp: 2, CapEff: 00000000a80425fb" in found
    assert "--cap-add SYS_ADMIN --security-opt seccomp=unconfined" in found


def test_docker_without_its_covers_is_faked(machine: dict[str, str]) -> None:
    machine["/.dockerenv"] = ""
    machine["/proc/thread-self/mountinfo"] = (
        "1 0 0:2 / / rw - overlay none rw\n"
        "2 1 0:3 / /proc rw - proc proc rw\n"
        "3 2 0:4 /null /proc/kcore rw - tmpfs tmpfs rw\n"
    )
    plan = Plan().unshare("user").map_root().unshare("mount", "pid").fork()
    plan = plan.mount("proc", "/proc", "proc").exec(["x"])
    found = hints(plan, "mount", errno.EPERM)
    assert "covered: /proc/kcore; docker run --security-opt systempaths=unconfined" in found


def test_gvisor_is_faked(machine: dict[str, str]) -> None:
    machine["/proc/version"] = "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016\n"
    plan = Plan().unshare("user").map_root().unshare("mount", "pid").fork()
    plan = plan.mount("proc", "/proc", "proc").exec(["x"])
    assert "gVisor" in hints(plan, "mount", errno.EPERM)
    assert "gVisor" in hints(plan, "unshare", errno.EPERM)


def test_an_initramfs_is_faked(machine: dict[str, str]) -> None:
    machine["/proc/thread-self/mountinfo"] = "1 1 0:2 / / rw - rootfs rootfs rw\n"
    found = hints(Plan().pivot_root("/tmp").exec(["x"]), "pivot_root", errno.EINVAL)
    assert "initramfs" in found
    assert "root_method='chroot'" in found


def test_dockers_apparmor_profile_is_faked(machine: dict[str, str]) -> None:
    machine["/proc/thread-self/attr/apparmor/current"] = "docker-default (enforce)\n"
    plan = Plan().unshare("mount").mount("proc", "/proc", "proc").exec(["x"])
    assert "AppArmor profile docker-default" in hints(plan, "mount", errno.EACCES)


def test_a_kernel_without_a_namespace_is_faked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_facts, "exists", lambda path: path != "/proc/self/ns/time")
    found = hints(Plan().unshare("time", "uts").exec(["x"]), "unshare", errno.EINVAL)
    assert found == "this kernel was built without CLONE_NEWTIME: leave time out"


def test_a_full_cgroup_is_faked(machine: dict[str, str]) -> None:
    machine["/proc/self/cgroup"] = "0::/box\n"
    machine["/sys/fs/cgroup/box/pids.max"] = "20\n"
    machine["/sys/fs/cgroup/box/pids.current"] = "20\n"
    found = hints(Plan().unshare("pid").fork().exec(["x"]), "fork", errno.EAGAIN)
    assert "(pids.max) and has 20" in found


def test_the_whole_machine_out_of_files_is_faked() -> None:
    found = hints(Plan().chroot("/").exec(["x"]), "chroot", errno.ENFILE)
    assert f"{machine_facts.sysctl('fs.file-max')} open files" in found


# -- what must not happen -------------------------------------------------------------------


def test_nothing_is_said_where_no_cause_is_proven(machine: dict[str, str]) -> None:
    machine[STATUS] = "Seccomp:\t0\nUid:\t0\n" + ALL_POWER
    plan = Plan().unshare("uts").sethostname("x").chdir("/").exec([TRUE])
    for operation in ("unshare", "sethostname", "chdir", "exec"):
        for number in (errno.EPERM, errno.EIO, errno.EACCES):
            assert hints(plan, operation, number) == ""


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_no_answer_of_the_kernel_surprises(number: int, rootfs: Path) -> None:
    plan = nsdemo.spawn(
        ["tool"], root=rootfs, hostname="x", net=True, user=True, init=True, uid=0, gid=0,
        groups=[1], umask=0o22, cwd="/bin", propagation="slave", dry_run=True,
        capabilities=["kill"], rlimits={"core": 0}, seccomp=bytes(8), no_new_privs=True,
        securebits=["noroot"], landlock=nsdemo.Landlock(["/"]), overlay=True,
        mounts=[nsdemo.Proc(masked=True)],
    )  # fmt: skip
    others = Plan().join(os.getpid(), "uts").become_root().setsid().chroot(rootfs).exec(["x"])
    for each in (plan, others, nsdemo.chroot_run(rootfs, ["tool"], dry_run=True)):
        for step in each:
            if step.operation != "start":
                assert isinstance(hints(each, step.operation, number), str)
    for stage in ("clone", "descriptors", "image", "plan", "execute", "pidfd_open", "killed"):
        failed = Step("start", (stage,), None, number)
        assert isinstance("".join(diagnose(failed, plan._core, (failed,))), str)


def test_an_unreadable_proc_means_fewer_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_facts, "read", lambda path: "")
    monkeypatch.setattr(machine_facts, "exists", lambda path: False)
    plan = Plan().unshare("user").map_root().unshare("mount").mount("proc", "/proc", "proc")
    for step in plan.exec(["x"]):
        for number in (errno.EPERM, errno.ENOSPC, errno.EINVAL, errno.EAGAIN):
            assert isinstance(hints(plan.exec(["x"]), step.operation, number), str)


def test_a_hint_survives_pickling() -> None:
    import pickle

    with pytest.raises(nsdemo.NamespaceError) as caught:
        nsdemo.run([TRUE], root="/nsdemo/none")
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.__notes__ == caught.value.__notes__ != []
