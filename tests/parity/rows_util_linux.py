"""Every option of unshare(1), nsenter(1) and chroot(1), and the keyword that does the same."""

from __future__ import annotations

import os

from ends import dies_with_its_parent, joins_for_its_children
from support import IS_ROOT
from view import (
    IDS,
    MAPS,
    MOUNTS,
    POWER,
    ROOT,
    Row,
    alike,
    chroot,
    mounted,
    nsenter,
    unshare,
)

from nsdemo.kernel import power

OFFSETS = "cat /proc/self/timens_offsets"
HELP = "`nsdemo {} --help`, `help(nsdemo.{})`"
ALL = {"mount": True, "uts": True, "ipc": True, "pid": True, "net": True, "cgroup": True}

UNSHARE = [
    Row("--mount", "`mount=True`", unshare("--mount", mount=True), "namespaces"),
    Row("--uts", "`uts=True`", unshare("--uts", uts=True), "namespaces"),
    Row("--ipc", "`ipc=True`", unshare("--ipc", ipc=True), "namespaces"),
    Row("--net", '`net=True`, with the loopback interface up; its file, as of every namespace: '
        '`persist={"net": path}`', unshare("--net", net=True),
        "namespaces"),
    Row("--pid", "`pid=True`", unshare("--pid", "--fork", "--mount-proc", pid=True, mount=True),
        "namespaces"),
    Row("--user", "`user=True`, with its root mapped",
        unshare("--user", user=True, vain=not IS_ROOT), "namespaces"),
    Row("--cgroup", "`cgroup=True`", unshare("--cgroup", cgroup=True), "namespaces"),
    Row("--time", "`time=True`", unshare("--time", time=True), "namespaces"),
    Row("--fork", "`fork=True`, the default",
        unshare("--pid", "--fork", probe="test $$ = 1 && exit 7", pid=True), "exit status"),
    Row("--map-root-user", "`user=True`",
        unshare("--map-root-user", probe=MAPS, user=True, vain=not IS_ROOT), "id maps"),
    Row("--kill-child", "`die_with_parent=True`, the default; the signal is SIGKILL",
        dies_with_its_parent("unshare", "--fork", "--kill-child"), "processes left"),
    Row("--mount-proc", "`mount_proc=True`, the default of new pid and mount namespaces; "
        "or a path",
        unshare("--pid", "--fork", "--mount-proc", probe=MOUNTS, view=mounted,
                pid=True, mount=True, mount_proc=True), "mountinfo"),
    Row("--propagation", "`propagation=`",
        unshare("--mount", "--propagation", "shared", probe=MOUNTS, view=mounted,
                mount=True, propagation="shared"), "mountinfo"),
    Row("--root", '`root=` pivots; `root_method="chroot"` does what unshare does',
        unshare("--root=ROOT", probe=ROOT, view=alike, root=lambda g: g.root,
                root_method="chroot"), "the root's inode"),
    Row("--wd", "`cwd=`", unshare("--wd=FOLDER", probe="pwd", cwd=lambda g: g.folder),
        "working directory"),
    Row("--setuid", "`uid=`",
        unshare("--setuid=5", "--setgid=5", probe=IDS, uid=5, gid=5), "ids", root=True),
    Row("--setgid", "`gid=`; the groups are cleared, too",
        unshare("--setgid=5", probe=IDS, gid=5), "ids", root=True),
    Row("--map-user", "`uid_map=[(uid, os.geteuid(), 1)]`",
        unshare("--map-user=7", "--map-group=8", probe=MAPS, uid_map=[(7, os.geteuid(), 1)],
                gid_map=[(8, os.getegid(), 1)]), "id maps"),
    Row("--map-group", "`gid_map=[(gid, os.getegid(), 1)]`",
        unshare("--map-user=0", "--map-group=8", probe=MAPS, gid_map=[(8, os.getegid(), 1)]),
        "id maps"),
    Row("--map-current-user", '`uid_map="current"`',
        unshare("--map-current-user", probe=MAPS, uid_map="current"), "id maps"),
    Row("--map-auto", '`uid_map="auto"`', what="id maps",
        where="test_users.py::test_auto_is_what_unshare_does"),
    Row("--map-users", "`uid_map=[(inside, outside, count), ...]`", what="id maps",
        where="test_users.py::test_ranges_are_what_unshare_does"),
    Row("--map-groups", "`gid_map=[(inside, outside, count), ...]`", what="id maps",
        where="test_users.py::test_ranges_are_what_unshare_does"),
    Row("--setgroups", "`setgroups=`",
        unshare("--user", "--setgroups=deny", probe="cat /proc/self/setgroups",
                setgroups="deny", vain=not IS_ROOT), "setgroups"),
    Row("--keep-caps", "`ambient=`: the names of those to keep",
        unshare("--map-current-user", "--keep-caps", probe=POWER, uid_map="current",
                ambient=lambda g: sorted(power(g.box).bounding)), "capabilities"),
    Row("--monotonic", "`monotonic=`",
        unshare("--time", "--monotonic", "1000", probe=OFFSETS, view=alike, time=True,
                monotonic=1000), "clock offsets"),
    Row("--boottime", "`boottime=`",
        unshare("--time", "--boottime", "1000", probe=OFFSETS, view=alike, time=True,
                boottime=1000), "clock offsets"),
    Row("--map-users=all", '`uid_map="all"`', what="id maps",
        where="test_users.py::test_all_is_every_id_as_itself", newer=True),
    Row("--map-subids", '`uid_map="subids"`, where the caller is root, too', what="id maps",
        where="test_users.py::test_subids_keep_their_numbers", newer=True),
    Row("--owner", "`owner=(uid, gid)`", what="the namespace's owner",
        where="test_users.py::test_the_owner_of_a_user_namespace", newer=True),
    Row("--help", HELP.format("spawn", "spawn")),
    Row("--version", "`nsdemo --version`, `nsdemo.__version__`"),
    Row("--clear-env", "`env={}`", newer=True),
    Row("--whitelist-env", "`env={name: os.environ[name] for name in names}`", newer=True),
    Row("--forward-signals", "`init=True` forwards all signals; `Container.send_signal`",
        newer=True),
    Row("--mount-binfmt", "no: a plan by hand mounts a binfmt_misc, "
        '`Plan().mount("binfmt_misc", path, "binfmt_misc")`', newer=True),
    Row("--load-interp", "no: the format is a line that the command itself can write to "
        "binfmt_misc's `register`", newer=True),
]  # fmt: skip

NSENTER = [
    Row("--all", "`enter(target, args)`, the default",
        nsenter("--all", **ALL, time=True, root=True), "namespaces"),
    Row("--target", "the first argument: a pid, a pidfd or a Container",
        nsenter("--uts", probe="hostname", uts=True), "host name"),
    Row("--mount", "`mount=True`; a namespace file: `spawn(args, mount=path)`",
        nsenter("--mount", "--pid", mount=True, pid=True), "namespaces"),
    Row("--uts", "`uts=True`; a file as above", nsenter("--uts", uts=True), "namespaces"),
    Row("--ipc", "`ipc=True`; a file as above", nsenter("--ipc", ipc=True), "namespaces"),
    Row("--net", "`net=True`; a file as above", nsenter("--net", net=True), "namespaces"),
    Row("--pid", "`pid=True`; a file as above", nsenter("--pid", pid=True), "namespaces"),
    Row("--cgroup", "`cgroup=True`; a file as above", nsenter("--cgroup", cgroup=True),
        "namespaces"),
    Row("--user", "`user=True`; a file as above", nsenter(vain=True), "namespaces"),
    Row("--time", "`time=True`; a file as above", nsenter("--time", time=True), "namespaces"),
    Row("--setuid", "`uid=`",
        nsenter("--setuid=0", probe=IDS + " | grep Uid", uid=0, vain=True), "ids"),
    Row("--setgid", "`gid=`",
        nsenter("--setgid=0", probe=IDS + " | grep Gid", gid=0, vain=True), "ids"),
    Row("--preserve-credentials", "no: after a join the ids are those that the user namespace "
        "maps to 0, or `uid=`, `gid=`; an unmapped user could own nothing inside"),
    Row("--root", "`root=True`; with a directory, no: that is `chroot_run` inside",
        nsenter("--root", probe=ROOT, root=True), "the root's inode"),
    Row("--wd", "no: a directory from outside would be a way out of the root; `cwd=` is inside"),
    Row("--wdns", "`cwd=`", nsenter("--mount", "--wdns=/tmp", probe="pwd", mount=True,
        cwd="/tmp"), "working directory"),
    Row("--no-fork", "`spawn(args, join=target, fork=False)`", joins_for_its_children,
        "namespaces"),
    Row("--follow-context", "no: SELinux only"),
    Row("--help", HELP.format("enter", "enter")),
    Row("--version", "`nsdemo --version`, `nsdemo.__version__`"),
    Row("--net-socket", "no: pass `net=` a file; the socket's own namespace is the ioctl "
        "SIOCGSKNS", newer=True),
    Row("--user-parent", "no: `nsdemo.kernel` shows the parent; join it with `user=`",
        newer=True),
    Row("--keep-caps", "no: as unshare's", newer=True),
    Row("--join-cgroup", "`join_cgroup=True`", newer=True),
    Row("--env", "`env=`: `/proc/PID/environ` is readable for who may enter", newer=True),
]  # fmt: skip

CHROOT = [
    Row("--groups", "`groups=`",
        chroot("--groups=7,8", probe="id -G", gid=0, groups=[0, 7, 8]), "ids", root=True),
    Row("--userspec", "`uid=`, `gid=`, as numbers: no name is looked up in whose files it may be",
        chroot("--userspec=5:6", probe="id -u; id -g", uid=5, gid=6), "ids", root=True),
    Row("--skip-chdir", "no: a working directory outside is how one leaves a chroot"),
    Row("--help", HELP.format("chroot", "chroot_run")),
    Row("--version", "`nsdemo --version`, `nsdemo.__version__`"),
]  # fmt: skip
