"""Every option of bwrap(1), and the keyword that does the same."""

from __future__ import annotations

import os

from ends import dies_with_its_parent, filters_calls, joins_by_descriptor
from view import MAPS, MOUNTS, POWER, Row, alike, at, bwrap

import nsdemo

TRY = "no: `Path(source).exists()` in Python says whether to ask for it"
WRITE = "no: Python writes a file, and `Bind` shows it"
SELINUX = "no: SELinux only"
ENV = "echo $HOME ${LEFT-none}"


def mounts(*made: nsdemo.mounts.Mount) -> dict[str, object]:
    return {"mounts": list(made)}


SOMEBODY = bwrap(
    "--unshare-user", "--uid", "7", "--gid", "8", probe=MAPS, base={"uts": False, "ipc": False},
    uid_map=[(7, os.geteuid(), 1)], gid_map=[(8, os.getegid(), 1)],
)  # fmt: skip

BWRAP = [
    Row("--unshare-all", "`user=True, ipc=True, pid=True, net=True, uts=True, cgroup=True`",
        bwrap("--unshare-all", user=True, ipc=True, net=True, uts=True, cgroup=True),
        "namespaces"),
    Row("--share-net", "`net=False`, the default",
        bwrap("--unshare-all", "--share-net", ipc=True, uts=True, cgroup=True), "namespaces"),
    Row("--unshare-user", "`user=True`", bwrap("--unshare-user", vain=True), "namespaces"),
    Row("--unshare-user-try", "no: `nsdemo.doctor()` says what is possible"),
    Row("--unshare-ipc", "`ipc=True`", bwrap("--unshare-ipc", ipc=True), "namespaces"),
    Row("--unshare-pid", "`pid=True`", bwrap("--unshare-pid", vain=True), "namespaces"),
    Row("--unshare-net", "`net=True`", bwrap("--unshare-net", net=True), "namespaces"),
    Row("--unshare-uts", "`uts=True`", bwrap("--unshare-uts", uts=True), "namespaces"),
    Row("--unshare-cgroup", "`cgroup=True`", bwrap("--unshare-cgroup", cgroup=True),
        "namespaces"),
    Row("--unshare-cgroup-try", "no: `nsdemo.doctor()` says what is possible"),
    Row("--userns", "`user=` with an open namespace file",
        joins_by_descriptor("user"), "namespaces"),
    Row("--userns2", "no: a second user namespace is a second container, made inside the first"),
    Row("--disable-userns", "no: the container's root writes 0 to "
        "/proc/sys/user/max_user_namespaces; or `seccomp=`"),
    Row("--assert-userns-disabled", "no: as above"),
    Row("--pidns", "`pid=` with an open namespace file", joins_by_descriptor("user", "pid"),
        "namespaces"),
    Row("--uid", "`uid_map=[(uid, os.geteuid(), 1)]`", SOMEBODY, "id maps"),
    Row("--gid", "`gid_map=[(gid, os.getegid(), 1)]`", SOMEBODY, "id maps"),
    Row("--hostname", "`hostname=`", bwrap("--unshare-uts", "--hostname", "boxy",
        probe="hostname", uts=True, hostname="boxy"), "host name"),
    Row("--chdir", "`cwd=`", bwrap("--chdir", "/tmp", probe="pwd", cwd="/tmp"),
        "working directory"),
    Row("--clearenv", "`env={}`", bwrap("--clearenv", "--setenv", "HOME", "/x", probe=ENV,
        env={"HOME": "/x"}), "environment"),
    Row("--setenv", "`env=`; without it the environment is small and clean",
        bwrap("--setenv", "LEFT", "here", "--setenv", "HOME", "/x", probe=ENV,
              env={"LEFT": "here", "HOME": "/x"}), "environment"),
    Row("--unsetenv", "`env=`: a dict without it",
        bwrap("--setenv", "HOME", "/x", "--setenv", "LEFT", "here", "--unsetenv", "LEFT",
              probe=ENV, env={"HOME": "/x"}), "environment"),
    Row("--lock-file", "no: `fcntl.flock` in Python, for as long as the Container lives"),
    Row("--sync-fd", "no: the Container, its `pidfd` and `wait()` tell when it has ended"),
    Row("--bind", "`Bind(source, target, nosuid=True, nodev=True)`",
        bwrap("--bind", "FOLDER", "/mnt", probe=MOUNTS, view=at("/mnt"), mounts=lambda g: [
            nsdemo.Bind(g.folder, "/mnt", nosuid=True, nodev=True)]), "mountinfo"),
    Row("--bind-try", TRY),
    Row("--dev-bind", "`Bind(source, target, nosuid=True)`",
        bwrap("--dev-bind", "/dev/null", "/null", probe=MOUNTS, view=at("/null"),
              **mounts(nsdemo.Bind("/dev/null", "/null", nosuid=True))), "mountinfo"),
    Row("--dev-bind-try", TRY),
    Row("--ro-bind", "`Bind(source, target, readonly=True, nosuid=True, nodev=True)`",
        bwrap("--ro-bind", "FOLDER", "/mnt", probe=MOUNTS, view=at("/mnt"), mounts=lambda g: [
            nsdemo.Bind(g.folder, "/mnt", readonly=True, nosuid=True, nodev=True)]),
        "mountinfo"),
    Row("--ro-bind-try", TRY),
    Row("--bind-fd", "no: `Bind` opens a path, and mounts what it has opened"),
    Row("--ro-bind-fd", "no: as above"),
    Row("--remount-ro", "`readonly_root=True`; `readonly=True` of a mount",
        bwrap("--remount-ro", "/", probe="mkdir /tmp/x 2>&1 && rmdir /tmp/x",
              readonly_root=True), "a write"),
    Row("--exec-label", SELINUX),
    Row("--file-label", SELINUX),
    Row("--proc", "`mount_proc=True`, the default; `Proc(target)`",
        bwrap("--proc", "/mnt", probe=MOUNTS, view=at("/mnt"), **mounts(nsdemo.Proc("/mnt"))),
        "mountinfo"),
    Row("--dev", "`Dev(target)`",
        bwrap("--dev", "/dev", probe="cd /dev; stat -c '%n %F %t:%T %a' null zero full "
              "random urandom tty stdin ptmx 2>&1", **mounts(nsdemo.Dev())), "devices"),
    Row("--tmpfs", "`Tmpfs(target)`",
        bwrap("--tmpfs", "/mnt", probe=MOUNTS, view=at("/mnt"), **mounts(nsdemo.Tmpfs("/mnt"))),
        "mountinfo"),
    Row("--mqueue", "no: `Dev` has one at /dev/mqueue"),
    Row("--dir", "no: a target of `mounts=` is made where it is missing; Python makes the rest"),
    Row("--file", WRITE),
    Row("--bind-data", WRITE),
    Row("--ro-bind-data", WRITE),
    Row("--symlink", "no: Python makes it, in the root or in what is bound"),
    Row("--perms", "`Tmpfs(target, mode=...)`",
        bwrap("--perms", "1711", "--tmpfs", "/mnt", probe="stat -c %a /mnt",
              **mounts(nsdemo.Tmpfs("/mnt", mode=0o1711))), "mode"),
    Row("--size", "`Tmpfs(target, size=...)`",
        bwrap("--size", "1048576", "--tmpfs", "/mnt", probe="stat -fc %b /mnt",
              **mounts(nsdemo.Tmpfs("/mnt", size="1m"))), "size"),
    Row("--chmod", "no: Python does it"),
    Row("--seccomp", "`seccomp=`: the bytes of the program", filters_calls, "/proc/PID/status"),
    Row("--add-seccomp-fd", "no: one program; pyseccomp joins rules into one"),
    Row("--block-fd", "no: a Plan is started when the caller starts it"),
    Row("--userns-block-fd", "no: as above; the id maps are part of the plan"),
    Row("--info-fd", "no: the Container knows its `pid`, `pidfd` and `namespaces`"),
    Row("--json-status-fd", "no: `returncode` and `trace`"),
    Row("--new-session", "`start_new_session=True`, the default unless stdin is our terminal; "
        "`tty=True` gives one with a terminal",
        bwrap("--new-session", probe="cut -d' ' -f6 /proc/self/stat", view=alike,
              base={"user": True, "uts": False, "ipc": False, "start_new_session": False},
              start_new_session=True), "session"),
    Row("--die-with-parent", "`die_with_parent=True`, the default",
        dies_with_its_parent("bwrap", "--die-with-parent"), "processes left"),
    Row("--as-pid-1", "`init=False`, the default; `init=True` is what bwrap does without",
        bwrap(probe="echo $$", init=True), "pid"),
    Row("--cap-add", '`capabilities=["kill"]`; with `ambient=["kill"]` they last over execve',
        bwrap("--cap-drop", "ALL", "--cap-add", "CAP_KILL", probe=POWER + " | grep -v New",
              capabilities=["kill"], ambient=["kill"]), "capabilities", root=True),
    Row("--cap-drop", "`capabilities=[]`",
        bwrap("--cap-drop", "ALL", probe=POWER + " | grep -v New", capabilities=[]),
        "capabilities"),
    Row("--args", "no: `args` and `**options` are Python's own lists and dicts"),
    Row("--help", "`nsdemo spawn --help`, `help(nsdemo.spawn)`"),
    Row("--version", "`nsdemo --version`, `nsdemo.__version__`"),
    Row("--level-prefix", "no: a failure is an exception", newer=True),
    Row("--argv0", "no: `args[0]` is looked up, and is what the command is told", newer=True),
    Row("--overlay-src", "`Overlay(target, lower=[source])`", what="contents",
        where="test_overlay.py::test_layers", newer=True),
    Row("--overlay", "`Overlay(target, lower, upper, work)`", what="contents",
        where="test_overlay.py::test_an_upper_directory_keeps_the_changes", newer=True),
    Row("--tmp-overlay", "`Overlay(target, lower)`; `overlay=True` for the root",
        what="contents", where="test_overlay.py::test_the_root_stays_as_it_is", newer=True),
    Row("--ro-overlay", "`Overlay(target, lower, readonly=True)`", newer=True),
]  # fmt: skip
