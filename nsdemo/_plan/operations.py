"""The operations of a plan, one row for each: all that is ever said about it.

A row of csrc/operations.def has its own here, under the same word. They are objects and no classes,
whose making would take longer than that of all the rest; and words are needed where no file can be
read any more. How they are put together: ``explain.py``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .. import _core
from .._request.values import working_directory
from .notation import MS_REC, Fields, Row, quoted, shown

if TYPE_CHECKING:
    from .equals import Line

_LAYER_FILE = 3  # NSD_LAYER_FILE


# -- calls and words that depend on what is there --------------------------------------------------


def _clone(step: Fields) -> str:
    return (
        f"clone({step.flags:clone}|CLONE_VM|SIGCHLD)" if step.flags else "clone(CLONE_VM|SIGCHLD)"
    )


def _map_ids(step: Fields) -> str:
    if step.program is None:
        return f'write("/proc/PID/{step.file}", {step.content:q})'
    words = ", ".join(map(quoted, step.content.split()))
    name = quoted(os.path.basename(step.program))
    return f"execve({step.program:q}, [{name}, PID, {words}], envp)"


def _map_ids_words(step: Fields) -> str:
    by = f" by {step.program:name}" if step.program else ""
    return f"write {step.content:line} to {step.file}{by}"


def _bind_at(step: Fields) -> str:
    recursive = "|AT_RECURSIVE" if step.flags & MS_REC else ""
    attributes = shown(step.flags & 0xF)
    calls = [f"open_tree({step.source:q}, OPEN_TREE_CLONE{recursive})"]
    if attributes:
        calls.append(f"mount_setattr({attributes:attributes}{recursive})")
    return "; ".join([*calls, f"move_mount({step.place:q})"])


def _new_mount(kind: str, options: str, step: Fields) -> str:
    options = f"; fsconfig({quoted(options)})" if options else ""
    names = f"{shown(step.get('flags', 0)):attributes}"
    return f"fsopen({quoted(kind)}){options}; fsmount({names}); move_mount({step.place:q})"


def _overlay_at(step: Fields) -> str:
    upper = "" if "upperdir=" in step.directories else ",upperdir=upper,workdir=work"
    return _new_mount("overlay", step.directories + upper + step.more, step)


def _layer_at(step: Fields) -> str:
    if step.what == _LAYER_FILE:
        return f"open_tree({step.place:q}, ...); mount_setattr(MOUNT_ATTR_RDONLY); move_mount(...)"
    if step.what:
        return f"mkdir({step.place:q})"
    return _new_mount("overlay", f"lowerdir={step.place},upperdir=upper,...", step)


def _layer_at_words(step: Fields) -> str:
    if step.what == _LAYER_FILE:
        return f"show {step.place} as it is, read-only"
    if step.what:
        return f"make {step.place} anew"
    return f"lay an overlay over what is mounted on {step.place}"


def _mask_at(step: Fields) -> str:
    def over(names: str) -> str:
        return quoted(f"{step.place}/{{{names.replace(':', ',')}}}")

    closed = f"; mount({over(step.closed)}, MS_BIND|MS_RDONLY)" if step.closed else ""
    return f"mount(empty, {over(step.hidden)}, MS_BIND|MS_RDONLY){closed}"


def _readonly(step: Fields) -> str:
    below = "|AT_RECURSIVE" if step.which else ""
    but = "; mount_setattr(~MOUNT_ATTR_RDONLY)" if step.which == 1 else ""
    return f"mount_setattr({shown(step.root or '/'):q}, MOUNT_ATTR_RDONLY{below}){but}"


def _readonly_words(step: Fields) -> str:
    return f"make {'the mounts below ' if step.which == 1 else ''}{step.root or '/'} read-only"


def _chroot(step: Fields) -> str:
    root = "root of the target" if step.root is None else f"{step.root:q}"
    return f'chroot({root}); chdir("/")'


def _chroot_words(step: Fields) -> str:
    return "chroot to the target's root" if step.root is None else f"chroot to {step.root}"


def _terminal(step: Fields) -> str:
    copies = "; ".join(f"dup2(pty, {fd})" for fd in step.fds)
    return f'pty = open("/dev/pts/ptmx"); {copies}; ioctl({step.fds[0]}, TIOCSCTTY, 0)'


def _capset(step: Fields) -> str:
    call = f"capset({{permitted={step.kept:capabilities}}})"
    raised = f"; prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {step.ambient:capabilities})"
    return call + raised if step.ambient else call


def _exec(step: Fields) -> str:
    return f"execve({step.file:q}, [{', '.join(map(quoted, step.argv))}], envp)"


def _chdir_words(step: Fields) -> str:
    return f"change to the working directory {step.path or working_directory() or 'by its path'}"


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


# -- shares of a command line ----------------------------------------------------------------------


def _made(line: Line, step: Fields) -> list[str]:
    made = f"{step.flags:options}".split() if step.flags else []
    return sorted(made, key="--user".__ne__)  # the first, as the kernel has it


def _written(line: Line, step: Fields) -> list[str]:
    if step.path.endswith("/timens_offsets"):
        rows = [row.split() for row in step.content.splitlines()]
        return [f"--{clock}={seconds}" for clock, seconds, _ in rows]
    return line.mapping if step.path.endswith("/uid_map") else []


def _mapped(line: Line, step: Fields) -> list[str]:
    return line.mapping if step.file == "uid_map" else []


def _propagation(line: Line, step: Fields) -> list[str]:
    kinds = {1 << 18: "", 1 << 19: "slave", 1 << 20: "shared", 1 << 17: "unbindable"}
    kind = next((kind for bit, kind in kinds.items() if step.flags & bit), "")
    return [f"--propagation {kind}"] * bool(kind)


_ENDS = "end with its parent whatever kills that"
_LAYERS = "lay directories over each other"
_DROPS = "drop capabilities (setpriv)"
_LANDLOCK = "restrict by Landlock"

OPERATIONS = {
    "clone": Row(
        _clone,
        "make new namespaces ({flags:options})",
        "a child, in new namespaces",
        beyond=_ENDS,
        tools="unshare nsenter",
        unshare=lambda line, step: [*(made := _made(line, step)), *["--fork"] * ("--pid" in made)],
    ),
    "open_process": Row(
        "pidfd_open({pid}, 0)",
        "find process {pid}",
        "hold on to the process, not to its number",
        nsenter=lambda line, step: line.target(str(step.pid)),
    ),
    "open_root": Row(
        "open({path:q}, O_PATH|O_DIRECTORY)",
        lambda step: "open /proc" if step.path == "/proc" else f"open the root {step.path}",
        "hold on to the directory, not to its name",
        nsenter=lambda line, step: line.target(step.path.partition("/proc/")[2].split("/")[0]),
    ),
    "watch": Row(
        "pidfd_open(getppid(), 0)  /* to end with it */",
        "watch the Python process",
        "",
        beyond=_ENDS,
        tools="unshare nsenter",
    ),
    "map_helper": Row(
        "clone(SIGCHLD)  /* and stay outside, to write the id maps */",
        "leave a helper outside that writes the id maps",
    ),
    "owner": Row(
        "setresgid(-1, {gid}, -1); setresuid(-1, {uid}, -1)",
        "make uid {uid} and gid {gid} the owner of the new user namespace",
        unshare="--owner {uid}:{gid}",
    ),
    "map_ids": Row(_map_ids, _map_ids_words, unshare=_mapped),
    "join_cgroup": Row(
        'write({path:q}, "0")',
        "move to the cgroup of {path}",
        beyond="move to the target's cgroups",
    ),
    "join": Row(
        "setns(target, {flags:clone})",
        "join the target's namespaces ({flags:options})",
        "enter the target's namespaces",
        nsenter="{flags:options}",
    ),
    "unshare": Row(
        "unshare({flags:clone})",
        "make new namespaces ({flags:options})",
        "new namespaces",
        unshare=_made,
    ),
    "write": Row(
        "write({path:q}, {content:q})",
        "write {content!r} to {path}",
        lambda step: (
            "the kernel wants this before gid_map"
            if step.path.endswith("/setgroups")
            else "who is who: ids inside, ids outside"
        ),
        unshare=_written,
    ),
    "enter_time": Row(
        'setns(open("/proc/self/ns/time_for_children"), CLONE_NEWTIME)',
        "enter the new time namespace",
    ),
    "hide": Row(
        "prctl(PR_SET_DUMPABLE, 0)",
        "hide the launcher from the container",
        "the container must not read this helper",
        beyond="hide the joiner from the container",
        tools="nsenter",
    ),
    "guard": Row(
        "clone(SIGCHLD)  /* and stay as the guard */",
        "leave a guard that ends the command with this process",
    ),
    "thread": Row(
        "clone(CLONE_THREAD|CLONE_VM)  /* to give power up; who stays keeps it */",
        "start the thread that gives power up",
    ),
    "fork": Row(
        "clone(CLONE_PARENT|SIGCHLD)",
        "fork the command's process",
        "a child, inside the namespaces",
        unshare=lambda line, step: ["--fork"] * ("unshare" in line.seen),
    ),
    "pin": Row(
        'mount("/proc/PID/ns/{file}", {path:q}, NULL, MS_BIND, NULL)',
        "pin the {file:keyword} namespace on {path}",
        unshare=lambda line, step: line.pin(f"--{step.file:keyword}", f"{step.path:w}"),
    ),
    "unpin": Row("umount2({path:q}, MNT_DETACH); unlink({path:q})", "release {path}"),
    "become_root": Row(
        "setgroups(0, NULL); setresgid(0, 0, 0); setresuid(0, 0, 0)",
        "become root in the joined user namespace",
        "root of the user namespace",
        unshare="--setgid 0 --setuid 0",
        nsenter=lambda line, step: ["--preserve-credentials"] * (os.geteuid() != 0),
    ),
    "loopback_up": Row(
        'ioctl(socket, SIOCSIFFLAGS, {{"lo", IFF_UP|IFF_RUNNING}})',
        "bring up the loopback interface",
        "127.0.0.1",
        beyond="bring up the loopback interface",
    ),
    "sethostname": Row(
        "sethostname({name:q}, {name:length})",
        "set the host name {name!r}",
        "seen only inside",
        beyond="set the host name",
    ),
    "setdomainname": Row(
        "setdomainname({name:q}, {name:length})",
        "set the domain name {name!r}",
        beyond="set the domain name",
    ),
    "propagation": Row(
        "mount(NULL, {path:q}, NULL, {flags:mount}, NULL)",
        "make the mounts under {path} {flags:mount}",
        "later mounts stay inside",
        unshare=_propagation,
    ),
    "bind": Row(
        "mount({source:q}, {target:q}, NULL, {flags:mount}, NULL)",
        "bind {source} on {target}",
        "pivot_root needs a mount",
    ),
    "mount": Row(
        "mount({source:q}, {place:q}, {type:q}, {flags:mount}, NULL)",
        "mount {type} on {place}",
        "a /proc that shows the new processes",
        unshare=lambda line, step: ["--mount-proc"] * (step.type == "proc"),
    ),
    "open_source": Row("open({path:q}, O_PATH)", "open {path} to bind it", "what is to be bound"),
    "bind_at": Row(
        _bind_at,
        "bind {source} on {place}",
        "a directory or file of the host's",
        beyond="bind directories and files",
    ),
    "mount_at": Row(
        lambda step: _new_mount(step.type, step.options, step),
        "mount {type} on {place}",
        "a file system of the container's own",
        beyond="mount more file systems",
    ),
    "mask_at": Row(
        _mask_at, "hide what {place} tells about the machine", beyond="hide parts of /proc and /sys"
    ),
    "link_at": Row(
        lambda step: f"symlink({step.content:q}, {quoted(os.path.join(step.place, step.name))})",
        lambda step: f"make the link {os.path.join(step.place, step.name)}",
        "a name that programs expect",
    ),
    "overlay_at": Row(
        _overlay_at, "mount an overlay on {place}", "changes go to the upper layer", beyond=_LAYERS
    ),
    "layer_at": Row(
        _layer_at, _layer_at_words, "what is mounted here stays as it is", beyond=_LAYERS
    ),
    "hand_over": Row(
        "sendmsg(python, {{SCM_RIGHTS, [upper, root]}})  /* for changes() */",
        "hand a directory over to Python",
    ),
    "readonly": Row(
        _readonly, _readonly_words, "nothing can be written here", beyond="make the root read-only"
    ),
    "pivot_root": Row(
        'chdir({root:q}); pivot_root(".", "."); umount2(".", MNT_DETACH)',
        "pivot_root to {root}",
        "ROOT is / now; the old / is let go",
        beyond="let go of the old root (pivot_root)",
        unshare="--root {root:w}",
    ),
    "chroot": Row(
        _chroot,
        _chroot_words,
        "from now on, this is /",
        unshare=lambda line, step: [f"--root {step.root:w}"] if step.root else [],
        nsenter=lambda line, step: ["--root"] * (step.root is None),
    ),
    "init": Row(
        "clone(CLONE_VFORK|SIGCHLD)  /* and stay as init */",
        "fork the command under init",
        beyond="a PID 1 that reaps and forwards signals",
    ),
    "chdir": Row(
        lambda step: f"chdir({step.path:q})" if step.path else "chdir(getcwd())",
        _chdir_words,
        "start here",
        beyond="start in another directory than /",
        tools="chroot",
        unshare=lambda line, step: ["--wd", f"{step.path:w}" if step.path else '"$(pwd -P)"'],
        nsenter=lambda line, step: [f"--wdns={step.path:w}"] if step.path else [],
    ),
    "setsid": Row("setsid()", "start a session", "a session of its own"),
    "terminal": Row(
        _terminal,
        "give the command a terminal",
        args=lambda numbers, texts, flags: tuple(fd for fd in range(3) if numbers[0] >> fd & 1),
        names=("*fds",),
        beyond="a terminal of its own (script)",
    ),
    "setpgid": Row("setpgid(0, {group})", "join the process group {group}"),
    "umask": Row("umask({mask:octal})", "set the umask", beyond="set the umask"),
    "drop_inheritable": Row(
        "capset({{inheritable=0}}); prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)",
        "clear the inheritable capabilities",
        "no powers by inheritance",
    ),
    "rlimit": Row(
        "prlimit(0, {resource:RLIMIT}, {{{soft:infinity}, {hard:infinity}}}, NULL)",
        "set the limit {resource:limit}",
        beyond="set limits (prlimit)",
    ),
    "drop_bounding": Row(
        "prctl(PR_CAPBSET_DROP, ...)  /* kept: {kept:capabilities} */",
        "keep no capability in the bounding set but {kept:capabilities}",
        beyond=_DROPS,
    ),
    "setgroups": Row(
        "setgroups({count}, [...])",
        "set {count} supplementary groups",
        args=lambda numbers, texts, flags: (numbers[0], "tolerated" if flags else ""),
        names=("count", "refusal"),
    ),
    "setgid": Row("setresgid({gid}, {gid}, {gid})", "become group {gid}", ids="--setgid {gid}"),
    "keep_capabilities": Row(
        "prctl(PR_SET_KEEPCAPS, 1)", "keep capabilities over the change of user"
    ),
    "setuid": Row("setresuid({uid}, {uid}, {uid})", "become user {uid}", ids="--setuid {uid}"),
    "capset": Row(_capset, "keep no capability but {kept:capabilities}", beyond=_DROPS),
    "securebits": Row(
        "prctl(PR_SET_SECUREBITS, {bits:securebits})",
        "set the securebits {bits:securebits}",
        beyond="set securebits (setpriv --securebits)",
    ),
    "no_new_privs": Row(
        "prctl(PR_SET_NO_NEW_PRIVS, 1)",
        "forbid new privileges",
        beyond="forbid new privileges (setpriv --no-new-privs)",
    ),
    "die_with_parent": Row(
        "prctl(PR_SET_PDEATHSIG, SIGKILL)", "arrange to end with the parent", "end with us"
    ),
    "landlock": Row(
        "landlock_create_ruleset(NULL, 0, VERSION); "
        "landlock_create_ruleset({{handled_access_fs=all}}, 8, 0)",
        "make a Landlock ruleset",
        beyond=_LANDLOCK,
    ),
    "landlock_allow": Row(
        "landlock_add_rule(PATH_BENEATH, {{{access}, {path:q}}})",
        lambda step: (
            f"let {step.path} be {'changed' if step.access == 'write' else 'read'} under Landlock"
        ),
        args=lambda numbers, texts, flags: (texts[0], "write" if numbers[0] else "read"),
        names=("path", "access"),
    ),
    "landlock_restrict": Row(
        "landlock_restrict_self(ruleset, 0)", "restrict the command by Landlock"
    ),
    "seccomp": Row(
        "seccomp(SECCOMP_SET_MODE_FILTER, 0, {{len={count}}})",
        "set a seccomp filter of {count} instructions",
        beyond="filter system calls",
    ),
    "exec": Row(_exec, "execute {file}", "become the command", names=("file", "*argv")),
    "end": Row("exit_group(0)", "end"),
}
for _word in OPERATIONS.keys() ^ {word for word, _, _ in _core.OPERATIONS}:
    raise ImportError(
        f"{'csrc/operations.def' if _word in OPERATIONS else 'nsdemo/_plan/operations.py'}"
        f" has no row for the operation {_word}"
    )

# A launch that came to no step; of no plan.
OPERATIONS["start"] = Row(
    "start the launcher ({stage})",
    lambda step: _START.get(step.stage, "start the launcher"),
    names=("stage",),
)
