"""operation + errno + this machine -> words and hint: the one place where words for a step live.

``system_call`` shows a step as strace would, ``describe`` says it as a sentence's subject, and
``hints_for`` finds out why the kernel refused. Nothing here changes anything; probing by doing is
doctor's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ._clone_flags import CLONE_NAMES, OPTIONS, flag_names
from ._values import working_directory

if TYPE_CHECKING:
    from ._core import Plan as CorePlan
    from ._step import Step

MOUNT_NAMES = {
    0x1: "MS_RDONLY",
    0x2: "MS_NOSUID",
    0x4: "MS_NODEV",
    0x8: "MS_NOEXEC",
    0x20: "MS_REMOUNT",
    0x1000: "MS_BIND",
    0x4000: "MS_REC",
    0x20000: "MS_UNBINDABLE",
    0x40000: "MS_PRIVATE",
    0x80000: "MS_SLAVE",
    0x100000: "MS_SHARED",
}
MS_SLAVE = 0x80000
# Steps that mount on a target. With MS_SLAVE, they first make the mount that it lies in a slave.
MOUNTS = ("bind", "mount", "bind_at", "mount_at", "overlay_at")
ATTRIBUTE_NAMES = {
    0x1: "MOUNT_ATTR_RDONLY",
    0x2: "MOUNT_ATTR_NOSUID",
    0x4: "MOUNT_ATTR_NODEV",
    0x8: "MOUNT_ATTR_NOEXEC",
}


def below(root: Sequence[str], target: str) -> str:
    """A target in the root, which is a list of one or none."""
    return os.path.join(*root, target.strip("/")).rstrip("/") if root else target


def _quoted(text: str) -> str:
    return '"' + text.encode("unicode_escape").decode().replace('"', '\\"') + '"'


def _argument_list(args: Iterable[str]) -> str:
    return "[" + ", ".join(_quoted(arg) for arg in args) + "]"


def system_call(operation: str, args: Sequence[Any]) -> str:
    """The step as the call it makes, in strace's notation."""
    first: Any = args[0] if args else ""
    if operation in MOUNTS and args[-1] & MS_SLAVE:
        where = _quoted(_place(operation, args))
        rest = system_call(operation, (*args[:-1], args[-1] & ~MS_SLAVE))
        return f"mount(NULL, mount_of({where}), NULL, MS_SLAVE, NULL); {rest}"
    match operation:
        case "clone":
            flags = flag_names(first, CLONE_NAMES) + "|" if first else ""
            return f"clone({flags}CLONE_VM|SIGCHLD)"
        case "open_process":
            return f"pidfd_open({first}, 0)"
        case "open_root":
            return f"open({_quoted(first)}, O_PATH|O_DIRECTORY)"
        case "watch":
            return "pidfd_open(getppid(), 0)  /* to end with it */"
        case "map_helper":
            return "clone(SIGCHLD)  /* and stay outside, to write the id maps */"
        case "owner":
            return f"setresgid(-1, {args[1]}, -1); setresuid(-1, {first}, -1)"
        case "map_ids":
            return _map_ids(*args)
        case "join":
            return f"setns(target, {flag_names(first, CLONE_NAMES)})"
        case "unshare":
            return f"unshare({flag_names(first, CLONE_NAMES)})"
        case "write":
            return f"write({_quoted(first)}, {_quoted(args[1])})"
        case "enter_time":
            return 'setns(open("/proc/self/ns/time_for_children"), CLONE_NEWTIME)'
        case "hide":
            return "prctl(PR_SET_DUMPABLE, 0)"
        case "guard":
            return "clone(SIGCHLD)  /* and stay as the guard */"
        case "thread":
            return "clone(CLONE_THREAD|CLONE_VM)  /* to give power up; who stays keeps it */"
        case "fork":
            return "clone(CLONE_PARENT|SIGCHLD)"
        case "pin":
            source = _quoted(f"/proc/PID/ns/{first}")
            return f"mount({source}, {_quoted(args[1])}, NULL, MS_BIND, NULL)"
        case "unpin":
            return f"umount2({_quoted(first)}, MNT_DETACH); unlink({_quoted(first)})"
        case "become_root":
            return "setgroups(0, NULL); setresgid(0, 0, 0); setresuid(0, 0, 0)"
        case "loopback_up":
            return 'ioctl(socket, SIOCSIFFLAGS, {"lo", IFF_UP|IFF_RUNNING})'
        case "sethostname":
            return f"sethostname({_quoted(first)}, {len(first.encode())})"
        case "setdomainname":
            return f"setdomainname({_quoted(first)}, {len(first.encode())})"
        case "join_cgroup":
            return f'write({_quoted(first)}, "0")'
        case "propagation":
            return f"mount(NULL, {_quoted(first)}, NULL, {flag_names(args[1], MOUNT_NAMES)}, NULL)"
        case "bind":
            flags = flag_names(args[2], MOUNT_NAMES)
            return f"mount({_quoted(first)}, {_quoted(args[1])}, NULL, {flags}, NULL)"
        case "mount":
            source, target, kind, *root, flags = args
            where = os.path.join(*root, target) if root else target
            names = flag_names(flags, MOUNT_NAMES)
            return f"mount({_quoted(source)}, {_quoted(where)}, {_quoted(kind)}, {names}, NULL)"
        case "open_source":
            return f"open({_quoted(first)}, O_PATH)"
        case "bind_at":
            source, target, *root, flags = args
            recursive = "|AT_RECURSIVE" if flags & 0x4000 else ""
            calls = [f"open_tree({_quoted(source)}, OPEN_TREE_CLONE{recursive})"]
            if flags & 0xF:
                names = flag_names(flags & 0xF, ATTRIBUTE_NAMES)
                calls.append(f"mount_setattr({names}{recursive})")
            return "; ".join([*calls, f"move_mount({_quoted(below(root, target))})"])
        case "mount_at":
            options, target, kind, *root, flags = args
            return _new_mount(kind, options, flags, below(root, target))
        case "overlay_at":
            directories, target, more, *root, flags = args
            upper = "" if "upperdir=" in directories else ",upperdir=upper,workdir=work"
            return _new_mount("overlay", directories + upper + more, flags, below(root, target))
        case "layer_at":
            target, _, *root, what = args
            where = below(root, target)
            if what:
                return f"mkdir({_quoted(where)})"
            return _new_mount("overlay", f"lowerdir={where},upperdir=upper,...", 0, where)
        case "hand_over":
            return "sendmsg(python, {SCM_RIGHTS, [upper, root]})  /* for changes() */"
        case "readonly":
            *root, which = args
            below_it = "|AT_RECURSIVE" if which else ""
            but = "; mount_setattr(~MOUNT_ATTR_RDONLY)" if which == 1 else ""
            return f"mount_setattr({_quoted((root or ['/'])[0])}, MOUNT_ATTR_RDONLY{below_it}){but}"
        case "mask_at":
            return _masks(*_mask(args))
        case "link_at":
            content, target, name, *root = args
            where = os.path.join(below(root, target), name)
            return f"symlink({_quoted(content)}, {_quoted(where)})"
        case "pivot_root":
            return f'chdir({_quoted(first)}); pivot_root(".", "."); umount2(".", MNT_DETACH)'
        case "chroot":
            return f'chroot({_quoted(first) if args else "root of the target"}); chdir("/")'
        case "init":
            return "clone(CLONE_VFORK|SIGCHLD)  /* and stay as init */"
        case "chdir":
            return f"chdir({_quoted(first) if args else 'getcwd()'})"
        case "setsid":
            return "setsid()"
        case "terminal":
            copies = "; ".join(f"dup2(pty, {fd})" for fd in args)
            return f'pty = open("/dev/pts/ptmx"); {copies}; ioctl({first}, TIOCSCTTY, 0)'
        case "setpgid":
            return f"setpgid(0, {first})"
        case "umask":
            return f"umask({first:#o})"
        case "drop_inheritable":
            return "capset({inheritable=0}); prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)"
        case "rlimit":
            return _prlimit(*args)
        case "drop_bounding":
            return f"prctl(PR_CAPBSET_DROP, ...)  /* kept: {_capabilities(first)} */"
        case "keep_capabilities":
            return "prctl(PR_SET_KEEPCAPS, 1)"
        case "capset":
            call = f"capset({{permitted={_capabilities(first)}}})"
            raised = f"; prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {_capabilities(args[1])})"
            return call + raised if args[1] else call
        case "no_new_privs":
            return "prctl(PR_SET_NO_NEW_PRIVS, 1)"
        case "securebits":
            return f"prctl(PR_SET_SECUREBITS, {_securebits(first)})"
        case "landlock":
            create = "landlock_create_ruleset"
            return f"{create}(NULL, 0, VERSION); {create}({{handled_access_fs=all}}, 8, 0)"
        case "landlock_allow":
            return f"landlock_add_rule(PATH_BENEATH, {{{args[1]}, {_quoted(first)}}})"
        case "landlock_restrict":
            return "landlock_restrict_self(ruleset, 0)"
        case "seccomp":
            return f"seccomp(SECCOMP_SET_MODE_FILTER, 0, {{len={first}}})"
        case "setgroups":
            return f"setgroups({first}, [...])"
        case "setgid":
            return f"setresgid({first}, {first}, {first})"
        case "setuid":
            return f"setresuid({first}, {first}, {first})"
        case "die_with_parent":
            return "prctl(PR_SET_PDEATHSIG, SIGKILL)"
        case "exec":
            return f"execve({_quoted(first)}, {_argument_list(args[1:])}, envp)"
        case "end":
            return "exit_group(0)"
        case "start":
            return f"start the launcher ({first})"
    raise ValueError(f"there is no operation {operation}")


def _new_mount(kind: str, options: str, flags: int, where: str) -> str:
    options = f"; fsconfig({_quoted(options)})" if options else ""
    names = flag_names(flags, ATTRIBUTE_NAMES)
    return f"fsopen({_quoted(kind)}){options}; fsmount({names}); move_mount({_quoted(where)})"


def target(step: Step) -> str:
    """What a step mounts on."""
    return _place(step.operation, step.args)


def _place(operation: str, args: Sequence[Any]) -> str:
    _, target, *rest = args[:-1]
    root = rest[{"mount": 1, "mount_at": 1, "overlay_at": 1}.get(operation, 0) :]
    return below(root, target)


def _map_ids(file: str, content: str, *program: str) -> str:
    if not program:
        return f'write("/proc/PID/{file}", {_quoted(content)})'
    words = ", ".join(map(_quoted, content.split()))
    name = _quoted(os.path.basename(program[0]))
    return f"execve({_quoted(program[0])}, [{name}, PID, {words}], envp)"


def _mask(args: Sequence[Any]) -> tuple[str, list[str], list[str]]:
    """(mount point, names that are hidden, names that are closed)."""
    hidden, target, *rest, _ = args
    closed = rest.pop(0) if rest and not rest[0].startswith("/") else ""
    return below(rest, target), hidden.split(":"), closed.split(":") if closed else []


def _masks(where: str, hidden: list[str], closed: list[str]) -> str:
    call = f"mount(empty, {_quoted(where + '/{' + ','.join(hidden) + '}')}, MS_BIND|MS_RDONLY)"
    names = _quoted(where + "/{" + ",".join(closed) + "}")
    return call + (f"; mount({names}, MS_BIND|MS_RDONLY)" if closed else "")


def keyword_of(file: str) -> str:
    """The keyword of a file in /proc/PID/ns."""
    return {"mnt": "mount", "time_for_children": "time"}.get(file, file)


# Where our own files are out of reach by now, a number has to do.


def _capabilities(mask: int) -> str:
    try:
        from ._power import shown_capabilities
    except (ImportError, OSError):
        return f"{mask:#x}"
    return shown_capabilities(mask)


def _securebits(mask: int) -> str:
    try:
        from ._power import securebit_names
    except (ImportError, OSError):
        return f"{mask:#x}"
    return securebit_names(mask)


def _limit_name(number: int) -> str:
    try:
        from ._power import LIMITS
    except (ImportError, OSError):
        return str(number)
    return LIMITS[number] if 0 <= number < len(LIMITS) else str(number)


def _prlimit(number: int, *values: int) -> str:
    soft, hard = ("RLIM_INFINITY" if value == -1 else str(value) for value in values)
    name = f"RLIMIT_{_limit_name(number).upper()}"
    return f"prlimit(0, {name}, {{{soft}, {hard}}}, NULL)"


_START = {
    "clone": "start a process for the launcher",
    "descriptors": "arrange the command's descriptors",
    "image": "keep the launcher in memory",
    "plan": "hand the plan to the launcher",
    "execute": "execute the launcher",
    "pidfd_open": "open a pidfd of the command",
    "guard": "start the guard that ends the command with this process",
    "take": "map the plan in the launcher's memory, and hide that",
    "killed": "set the container up (the launcher was killed)",
}


def describe(step: Step) -> str:
    """What was tried, as the beginning of an error message."""
    args = step.args
    first: Any = args[0] if args else ""
    match step.operation:
        case "start":
            return _START.get(first, "start the launcher")
        case "clone":
            return f"make new namespaces ({flag_names(first, OPTIONS, ' ')})"
        case "open_process":
            return f"find process {first}"
        case "open_root":
            return "open /proc" if first == "/proc" else f"open the root {first}"
        case "watch":
            return "watch the Python process"
        case "map_helper":
            return "leave a helper outside that writes the id maps"
        case "owner":
            return f"make uid {first} and gid {args[1]} the owner of the new user namespace"
        case "map_ids":
            by = f" by {os.path.basename(args[2])}" if len(args) > 2 else ""
            return f"write {args[1].replace(chr(10), ', ')!r} to {first}{by}"
        case "join":
            return f"join the target's namespaces ({flag_names(first, OPTIONS, ' ')})"
        case "unshare":
            return f"make new namespaces ({flag_names(first, OPTIONS, ' ')})"
        case "write":
            return f"write {args[1]!r} to {first}"
        case "enter_time":
            return "enter the new time namespace"
        case "hide":
            return "hide the launcher from the container"
        case "guard":
            return "leave a guard that ends the command with this process"
        case "thread":
            return "start the thread that gives power up"
        case "fork":
            return "fork the command's process"
        case "pin":
            return f"pin the {keyword_of(first)} namespace on {args[1]}"
        case "unpin":
            return f"release {first}"
        case "become_root":
            return "become root in the joined user namespace"
        case "loopback_up":
            return "bring up the loopback interface"
        case "sethostname":
            return f"set the host name {first!r}"
        case "setdomainname":
            return f"set the domain name {first!r}"
        case "join_cgroup":
            return f"move to the cgroup of {first}"
        case "propagation":
            return f"make the mounts under {first} {flag_names(args[1], MOUNT_NAMES)}"
        case "bind":
            return f"bind {first} on {args[1]}"
        case "mount":
            _, target, kind, *root, _ = args
            return f"mount {kind} on {os.path.join(*root, target) if root else target}"
        case "open_source":
            return f"open {first} to bind it"
        case "bind_at":
            source, target, *root, _ = args
            return f"bind {source} on {below(root, target)}"
        case "mount_at":
            _, target, kind, *root, _ = args
            return f"mount {kind} on {below(root, target)}"
        case "overlay_at":
            _, target, _, *root, _ = args
            return f"mount an overlay on {below(root, target)}"
        case "layer_at":
            target, _, *root, what = args
            done = "make {} anew" if what else "lay an overlay over what is mounted on {}"
            return done.format(below(root, target))
        case "hand_over":
            return "hand a directory over to Python"
        case "readonly":
            *root, which = args
            what = "the mounts below " if which == 1 else ""
            return f"make {what}{(root or ['/'])[0]} read-only"
        case "mask_at":
            where, *_ = _mask(args)
            return f"hide what {where} tells about the machine"
        case "link_at":
            _, target, name, *root = args
            return f"make the link {os.path.join(below(root, target), name)}"
        case "pivot_root":
            return f"pivot_root to {first}"
        case "chroot":
            return f"chroot to {first}" if args else "chroot to the target's root"
        case "init":
            return "fork the command under init"
        case "chdir":
            return (
                f"change to the working directory {first or working_directory() or 'by its path'}"
            )
        case "setsid":
            return "start a session"
        case "terminal":
            return "give the command a terminal"
        case "setpgid":
            return f"join the process group {first}"
        case "umask":
            return "set the umask"
        case "drop_inheritable":
            return "clear the inheritable capabilities"
        case "rlimit":
            return f"set the limit {_limit_name(first)}"
        case "drop_bounding":
            return f"keep no capability in the bounding set but {_capabilities(first)}"
        case "keep_capabilities":
            return "keep capabilities over the change of user"
        case "capset":
            return f"keep no capability but {_capabilities(first)}"
        case "no_new_privs":
            return "forbid new privileges"
        case "securebits":
            return f"set the securebits {_securebits(first)}"
        case "landlock":
            return "make a Landlock ruleset"
        case "landlock_allow":
            return f"let {first} be {'changed' if args[1] == 'write' else 'read'} under Landlock"
        case "landlock_restrict":
            return "restrict the command by Landlock"
        case "seccomp":
            return f"set a seccomp filter of {first} instructions"
        case "setgroups":
            return f"set {first} supplementary groups"
        case "setgid":
            return f"become group {first}"
        case "setuid":
            return f"become user {first}"
        case "die_with_parent":
            return "arrange to end with the parent"
        case "exec":
            return f"execute {first}"
        case "end":
            return "end"
    raise ValueError(f"there is no operation {step.operation}")


# A hint is a bonus: what goes wrong with it must not take the place of the error. Our own files,
# or /proc, may be out of reach here; the step of a forged plan may be like no other.
_PASSED_OVER: tuple[type[Exception], ...] = (Exception,)


def hints_for(step: Step, core: CorePlan, trace: Sequence[Step] = ()) -> tuple[str, ...]:
    """What a beginner can do about it; empty when nothing better than the error is known."""
    try:
        from ._diagnosis import diagnose

        return tuple(diagnose(step, core, trace))
    except _PASSED_OVER:
        return ()
