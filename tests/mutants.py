# ruff: noqa: E501 - they are lines of other files, as they stand there
"""A line of each rule of CONTRIBUTING.md, and how it is broken: for mutate.py."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    rule: int
    what: str
    file: str
    old: str  # once in the file
    new: str


ROOT, FILES = "csrc/steps/root.c", "csrc/steps/files.c"
PROCESS, NAMESPACES = "csrc/steps/process.c", "csrc/steps/namespaces.c"
PERFORM, POWER, TERMINAL = "csrc/steps/perform.c", "csrc/steps/power.c", "csrc/steps/terminal.c"
PRIMITIVES, USERS, VFORK = "csrc/core/recipes.c", "csrc/core/users.c", "csrc/core/launch/vfork.c"
BORROWED, KEPT = "csrc/core/launch/borrowed.c", "csrc/core/launch/kept.c"
VALUES, REQUEST = "nsdemo/_request/values.py", "nsdemo/_plan/request.py"

MUTANTS = [
    Mutant(
        1,
        "no chdir after pivot_root",
        ROOT,
        '        ret = sys2(__NR_umount2, ".", MNT_DETACH);\n'
        "    if (ret == 0)\n"
        '        ret = sys1(__NR_chdir, "/");\n',
        '        ret = sys2(__NR_umount2, ".", MNT_DETACH);\n',
    ),
    Mutant(
        1,
        "the old root stays mounted",
        ROOT,
        '        ret = sys2(__NR_umount2, ".", MNT_DETACH);\n',
        "        ret = 0;\n",
    ),
    Mutant(
        1,
        "chroot is the default",
        REQUEST,
        '"by_chroot": root_method == "chroot"}',
        '"by_chroot": True}',
    ),
    Mutant(
        2,
        "a command of another root is executed by a child in Python's memory",
        "csrc/core/launch/direct.c",
        "        case NSD_CHROOT:\n",
        "        case NSD_CHROOT:\n            break;\n",
    ),
    Mutant(
        3,
        "a working directory may lie outside",
        ROOT,
        "return ret < 0 ? ret : sys1(__NR_chdir, where);",
        "return ret == -EXDEV ? 0 : ret;",
    ),
    Mutant(
        4,
        "nobody is hidden",
        PROCESS,
        "    launch->hides = true;\n    return sys5(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);",
        "    launch->hides = true;\n    return 0;",
    ),
    Mutant(
        4,
        "who joins keeps power until his command runs",
        PRIMITIVES,
        "            (gives_power_up(request) && !nsd_joins(request, CLONE_NEWUSER)));\n}\n",
        "            false);\n}\n",
    ),
    Mutant(
        5,
        "no session of its own",
        REQUEST,
        'return {"new_session": not _is_our_terminal(stdin)}',
        'return {"new_session": False}',
    ),
    Mutant(
        6,
        "/proc is mounted through a link",
        ROOT,
        "O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);\n    if (base >= 0)",
        "O_PATH | O_DIRECTORY | O_CLOEXEC, 0);\n    if (base >= 0)",
    ),
    Mutant(
        6,
        "whatever lies in /proc is written to",
        NAMESPACES,
        "if (ret == 0 && filesystem.f_type != type && filesystem.f_type != or_type)",
        "if (0)",
    ),
    Mutant(
        7,
        "any device will do",
        FILES,
        "(int64_t)file.st_rdev != step->number[1]))",
        "0))",
    ),
    Mutant(
        8,
        "a link on the way to a target is followed",
        FILES,
        "    long fd = sys4(__NR_openat, folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);\n\n    if (fd == -ENOENT",
        "    long fd = sys4(__NR_openat, folder, name, O_PATH | O_CLOEXEC, 0);\n\n    if (fd == -ENOENT",
    ),
    Mutant(
        9,
        "setgroups is not denied",
        USERS,
        'add_writes(builder, uid_map, "deny", gid_map);',
        'add_writes(builder, uid_map, "allow", gid_map);',
    ),
    Mutant(
        10,
        "groups stay",
        "csrc/core/process.c",
        "if (request->group_count >= 0)",
        "if (request->group_count > 0)",
    ),
    Mutant(
        11,
        "what lies between the kept descriptors stays open",
        VFORK,
        "return first > last ? 0 : sys3(__NR_close_range, first, last, 0);",
        "return first > last ? 0 : 0;",
    ),
    Mutant(
        12,
        "the caller's environment is inside",
        VALUES,
        'self.envp = [_PATH, home, b"LANG=C.UTF-8"]',
        'self.envp = [_PATH, home, *(k + b"=" + v for k, v in os.environb.items() if k != b"PATH")]',
    ),
    Mutant(
        13,
        "a user is looked up inside",
        PROCESS,
        "long nsd_setuid(struct nsd_launch *launch, const struct nsd_step *step)\n{\n",
        "long nsd_setuid(struct nsd_launch *launch, const struct nsd_step *step)\n{\n"
        '    sys4(__NR_openat, -100, "/etc/passwd", 0x80000, 0);\n',
    ),
    Mutant(
        14,
        "inheritable capabilities stay",
        POWER,
        "data[0].inheritable = data[1].inheritable = 0;",
        "(void)0;",
    ),
    Mutant(
        15,
        "whatever int() takes is a number",
        VALUES,
        "    if isinstance(value, bool) or not isinstance(value, int):\n"
        '        raise TypeError(f"{name} must be an int, not {type(value).__name__}")\n',
        "    value = int(value)\n",
    ),
    Mutant(15, "ids have no end", VALUES, "if not 0 <= value <= 2**32 - 2:", "if not 0 <= value:"),
    Mutant(
        16,
        "the launcher, and so init, has the caller's environment",
        "csrc/core/launch/image.c",
        "    char *envp[] = {NULL};",
        "    extern char **environ;\n    char **envp = environ;",
    ),
    Mutant(
        17,
        "signals are not blocked around vfork",
        BORROWED,
        "syscall(SYS_rt_sigprocmask, SIG_BLOCK, &every_signal, &mask, sizeof(mask));",
        "syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, sizeof(mask));",
    ),
    Mutant(
        18,
        "mounts are not private",
        PRIMITIVES,
        "    if ((request->unshare & CLONE_NEWNS) != 0 && request->propagation >= 0)\n",
        "    if ((request->unshare & CLONE_NEWNS) != 0 && request->propagation < -1)\n",
    ),
    Mutant(
        19,
        "nobody looks when a process was born",
        PROCESS,
        "if (ret == 0 && birth != step->number[1])",
        "if (0)",
    ),
    Mutant(
        20,
        "a FIFO is waited for",
        NAMESPACES,
        "O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY",
        "O_WRONLY | O_NOFOLLOW | O_NOCTTY",
    ),
    Mutant(
        21,
        "no_new_privs is not set",
        POWER,
        "return sys5(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);",
        "return 0;",
    ),
    Mutant(22, "strings have no end", VALUES, "if len(text) >= MAX_STRING:", "if False:"),
    Mutant(
        23,
        "a kept descriptor is believed",
        KEPT,
        "return file->fd >= 0 && sys2(__NR_fstat, file->fd, &found) == 0 &&",
        "return file->fd >= 0 || sys2(__NR_fstat, file->fd, &found) == 0 ||",
    ),
]
