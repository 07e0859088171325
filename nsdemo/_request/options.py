"""The options of the calls, each once: its type, its default, its words, its flags.

``docs/signatures.py`` writes from this table what says the same again: the signatures and their
docstrings (``_api.py``), what a type checker sees (``_api.pyi``), the objects in which a call's
arguments travel (``given.py``) and the reference (``docs/OPTIONS.md``). The command line reads its
flags here. A row's columns are in ``option.py``; neither imports more of the package, because they
are read where it is not built, too.
"""

from __future__ import annotations

from .option import ALL, CHROOT, ENTER, NEW, USERS, WAIT, Flag, Option, Other, With, option


def namespace(name: str, default: str, doc: str = "") -> Option:
    """One of the eight: what ``mount`` says of itself is said of all of them."""
    either = f"{name} namespace: a new one, the target's, or ours"
    only = "False leaves a namespace out." if doc else With("mount")
    return option(
        f"{name}: bool | Target{' | None' * (default == 'None')} = {default}",
        doc or With("mount"),
        Flag(f"--{name} --no-{name}", either, "NamespaceSwitch", "TARGET", nargs="?", calls=NEW),
        Flag(f"--{name}", f"join its {name} namespace (default)", "switch", calls=(ENTER,)),
        calls=(*NEW, ENTER),
        other={ENTER: Other(f"{name}: bool = True", only)},
    )


def mount(names: str, help: str, *metavar: str) -> Flag:
    """A flag that mounts something."""
    words = metavar if len(metavar) > 1 else metavar[0]
    return Flag(names, help, "MountOption", words, nargs=len(metavar))


INSIDE = "the command, a list; args[0] is looked up inside, in the PATH of ``env``."
CLEAN = "the environment; None is a small clean one (PATH, HOME, LANG, TERM)."

OPTIONS = (
    option(
        "target: Process",
        "a Container, a pid, or an object with fileno() (a pidfd).",
        Flag("-t --target", "the process, if not a word", "target", "PID"),
        calls=(ENTER,),
    ),
    option(
        "args: Command",
        "the command, a list; args[0] is looked up after the change of root.",
        other={CHROOT: Other(doc=INSIDE), ENTER: Other(doc=INSIDE)},
    ),
    namespace(
        "mount",
        "True",
        "True is a new namespace, False is ours, a target is that one's: a Container, a pid, an "
        "object with fileno() (a pidfd or a namespace file), or a path to a namespace file. "
        "``user=None`` is a new one only for a caller without CAP_SYS_ADMIN, who becomes root "
        "inside.",
    ),
    namespace("uts", "True"),
    namespace("ipc", "True"),
    namespace("pid", "True"),
    namespace("net", "False"),
    namespace("user", "None"),
    namespace("cgroup", "False"),
    namespace("time", "False"),
    option(
        "uid_map: IdMap | None = None",
        "who is who in the new user namespace, which they imply: a list of (inside, outside, "
        'count); "current": the caller keeps his ids, but not root\'s power (see ``ambient``); '
        '"auto": the caller is 0, and the ids from 1 on are his first range in /etc/subuid '
        '(/etc/subgid), as many ids in all as that has; "subids": the caller is 0, and that range '
        'keeps its numbers; "all": every id that there is keeps its number, which takes root. '
        "None: the caller is 0, alone; beside a word, the same word. What is more than the "
        "caller's own id is written by newuidmap and newgidmap, or by root. A caller whose own "
        "ids are not mapped becomes 0:0, if that is.",
        Flag(
            "--map-users --uid-map",
            "users inside, many times; auto or subids: yours of /etc/subuid; all",
            "MapOption",
            "INSIDE:OUTSIDE:COUNT",
        ),
        Flag("--map-user", "your own uid is this one inside", "MapOption", "UID"),
        Flag(
            "--map-auto",
            "you are root inside, and your range of /etc/subuid follows",
            "MapOption",
            nargs=0,
        ),
        Flag(
            "--map-subids",
            "you are root inside, and your range of /etc/subuid keeps its numbers",
            "MapOption",
            nargs=0,
        ),
        Flag("--map-root-user", "you are root inside, and alone", "MapOption", nargs=0),
        Flag("--map-current-user", "you are yourself inside, and alone", "MapOption", nargs=0),
        calls=USERS,
        other={CHROOT: Other(doc="as in ``spawn``; any of them makes a user namespace.")},
    ),
    option(
        "gid_map: IdMap | None = None",
        With("uid_map"),
        Flag(
            "--map-groups --gid-map",
            "groups inside, many times; auto or subids: yours of /etc/subgid; all",
            "MapOption",
            "INSIDE:OUTSIDE:COUNT",
        ),
        Flag("--map-group", "your own gid is this one inside", "MapOption", "GID"),
        calls=USERS,
    ),
    option(
        'setgroups: Literal["allow", "deny"] | None = None',
        '"allow" or "deny" setgroups(2) inside, for ever. None denies it where the caller\'s own '
        'gid is mapped alone, and else leaves it as it is outside: "allow", as a rule.',
        Flag("--setgroups", "the system call in the user namespace", choices=("allow", "deny")),
        calls=USERS,
        other={CHROOT: Other(doc=With("uid_map"))},
    ),
    option(
        "owner: tuple[int, int] | None = None",
        "(uid, gid) that the new user namespace belongs to; root only. None: the caller.",
        Flag("--owner", "whose the user namespace is; for root", "uid_and_gid", "UID:GID"),
        calls=USERS,
        other={CHROOT: Other(doc=With("uid_map"))},
    ),
    option(
        "join: Target | None = None",
        "a target that is the default of every namespace keyword and of root; nothing is mounted "
        "then. A keyword that has its default value, given or not, means the target; to leave a "
        "namespace out, use ``enter(target, args, net=False)``.",
        Flag("--join", "join all namespaces and the root", "target", "PID"),
        calls=NEW,
    ),
    option(
        "fork: bool = True",
        "False executes the command without a fork after unsharing: it stays in the old pid "
        'namespace, where its second child fails with "Cannot allocate memory". A new time '
        "namespace it enters, also before Linux 6.2, where unshare(1) leaves it outside.",
        Flag("--fork", "fork after unsharing (default); without it, see what breaks", "switch"),
        calls=NEW,
    ),
    option(
        "mount_proc: bool | StrPath | None = None",
        "mount a /proc that shows the new pid namespace; None: exactly when mount and pid are "
        "both new, and the command is forked into it. A path mounts it there, and not on /proc.",
        Flag(
            "--mount-proc --no-mount-proc",
            "mount a new /proc (default: with new mount and pid namespaces), or one at DIR",
            "PlaceSwitch",
            "DIR",
            nargs="?",
        ),
        calls=NEW,
    ),
    option(
        "root: StrPath | None = None",
        "the directory that becomes ``/``; None keeps ours.",
        Flag("--root", "the directory that becomes /", metavar="DIR", calls=NEW),
        Flag("--root", "follow its root directory (default)", "switch", calls=(ENTER,)),
        other={
            CHROOT: Other(
                "root: StrPath", "the directory. Nothing is mounted in it, not even /proc."
            ),
            ENTER: Other("root: bool = True", "False keeps the root that the mount namespace has."),
        },
    ),
    option(
        'root_method: Literal["pivot_root", "chroot"] = "pivot_root"',
        '"pivot_root", or "chroot", which is no jail.',
        Flag("--root-method", "default: pivot_root", choices=("pivot_root", "chroot")),
        calls=NEW,
    ),
    option(
        'propagation: Literal["private", "slave", "shared", "unbindable", "unchanged"] = "private"',
        'of all mounts: "private", "slave", "shared", "unchanged". Whatever it is, what is '
        "mounted for the container stays inside: the mount below it, such as the old /proc, is "
        "made a slave.",
        Flag(
            "--propagation",
            "of all mounts; default: private",
            choices=("private", "slave", "shared", "unchanged"),
        ),
        calls=NEW,
    ),
    option(
        "hostname: str | None = None",
        "of the new uts namespace, at most 64 bytes. The domain is NIS's, as domainname(1) shows "
        "it.",
        Flag("--hostname", "host name inside", metavar="NAME"),
        calls=NEW,
    ),
    option(
        "domainname: str | None = None",
        With("hostname"),
        Flag("--domainname", "NIS domain name inside", metavar="NAME"),
        calls=NEW,
    ),
    option(
        "monotonic: float | None = None",
        "by how many seconds these clocks of a new time namespace differ from ours; whole or not, "
        "negative too. No clock goes back before 0.",
        Flag("--monotonic", "offset of the monotonic clock inside", "seconds", "SECONDS"),
        calls=NEW,
    ),
    option(
        "boottime: float | None = None",
        With("monotonic"),
        Flag("--boottime", "offset of the boottime clock inside", "seconds", "SECONDS"),
        calls=NEW,
    ),
    option(
        "init: bool = False",
        "stay as PID 1 that reaps orphans and forwards every signal but SIGCHLD, also SIGTSTP and "
        "SIGCONT; the command is its child, with no signal blocked or ignored.",
        Flag("--init", "stay as a PID 1 that reaps; the command is its child", "switch"),
        calls=NEW,
    ),
    option(
        "mounts: Sequence[Mount] = ()",
        "what else is mounted, in this order: Bind, Tmpfs, Proc, Dev, Sysfs, Overlay. Targets are "
        "paths below the new root (without ``root``, of ours), and are made where they are "
        "missing: such a directory or empty file stays. No link on the way to a target is "
        "followed. A Proc on /proc takes the place of ``mount_proc``'s.",
        mount("--bind", "SOURCE is seen at TARGET, with all below it", "SOURCE", "TARGET"),
        mount("--ro-bind", "the same, read-only", "SOURCE", "TARGET"),
        mount("--tmpfs", "an empty file system in memory", "TARGET"),
        mount("--proc", "a /proc at TARGET", "TARGET"),
        mount("--masked-proc", "the same, without what tells about the machine", "TARGET"),
        mount("--dev", "a /dev with null, zero, random, tty, pts, shm and the like", "TARGET"),
        mount("--sysfs", "a /sys at TARGET", "TARGET"),
        mount("--masked-sysfs", "the same, without firmware and the power meter", "TARGET"),
        calls=NEW,
    ),
    option(
        "overlay: bool = False",
        "what is changed below ``root`` goes to memory, and ends with the container; the "
        "directory itself stays as it is, and so does what is mounted below it: a file system of "
        "files gets a layer of its own, a file that is mounted and a file system of the kernel's "
        '(/sys and the like) is there, read-only. ``root="/"`` is our own file tree. A user '
        "namespace may not cover a directory that such a mount lies in: that is made anew, and "
        "what is in it covered name for name, files read-only. Who may change what is the same as "
        "without. ``Container.changes()`` tells what it was. Before Linux 6.6 memory has no place "
        "for an ordinary user's note that a directory hides another: to remove a directory of the "
        'root that was not empty, or to make it anew, is an "Input/output error" inside; as root '
        "it works, or below an ``Overlay`` with ``upper`` and ``work`` on a disk.",
        Flag(
            "--overlay", "changes below --root go to memory; the directory stays as it is", "switch"
        ),
        calls=NEW,
    ),
    option(
        "overlay_size: int | str | None = None",
        'at most so much of changes in memory, in bytes or as in "64m"; None is half of it. A '
        "million files and directories at most.",
        Flag("--overlay-size", "at most so much of them, such as 64m", metavar="SIZE"),
        calls=NEW,
    ),
    option(
        "readonly_root: bool = False",
        "nothing can be written to but what ``mounts`` and ``mount_proc`` mount: neither the "
        "root, nor what is mounted below it already.",
        Flag(
            "--readonly-root", "only what is mounted by these options can be written to", "switch"
        ),
        calls=NEW,
    ),
    option(
        "die_with_parent: bool = True",
        "everything ends when this Python process ends, however it does. Without a pid namespace "
        "that is the command and its process group.",
        Flag(
            "--die-with-parent",
            "end everything when nsdemo ends, even by SIGKILL (default)",
            "switch",
        ),
        calls=NEW,
    ),
    option(
        "persist: Mapping[str, StrPath] | None = None",
        "files that keep new namespaces alive when all processes in them have ended, such as "
        '{"net": "/run/blue"}: each is mounted on its file, which is made if it is missing, in '
        "our own mount namespace; they live as long as that does, or until ``release``. All are "
        "made, or none, and then nothing is started; a Python that is killed meanwhile leaves "
        "those that it has made, to ``release``. The pid namespace takes in nobody any more when "
        "its PID 1 has ended. A mount namespace that shares its mounts with ours is pinned only "
        "below a private one. With ``mount=target`` they are pinned in that one's mount "
        "namespace: who may not mount here makes a container of his own that holds them, "
        "``mount=holder, user=holder``.",
        Flag(
            "--persist", "keep a new namespace alive on FILE; repeatable", "Pair", "NAMESPACE=FILE"
        ),
        calls=NEW,
    ),
    option(
        "join_cgroup: bool = False",
        "move to the target's cgroup before, in each hierarchy that is mounted here and in which "
        "it is another than ours: its limits hold for the command, too.",
        Flag("--join-cgroup", "move to its cgroups first", "switch"),
        calls=(ENTER,),
    ),
    option(
        "cwd: StrPath | None = None",
        "working directory inside; None: ``/`` under another root, else ours: the same path, with "
        "what is mounted there inside. (If ours was deleted: ``/``, where ``mounts`` might lie "
        "over it.)",
        Flag("--wd --cwd", "working directory inside", metavar="DIR"),
        other={
            CHROOT: Other('cwd: StrPath | None = "/"', "working directory inside."),
            ENTER: Other(doc="working directory inside; None is ``/``."),
        },
    ),
    option(
        "env: Environment | None = None",
        "the environment. None is a small clean one (PATH, HOME, LANG, TERM) under another root "
        "or in a target's mounts; else it is ours, with the secrets that are in it.",
        Flag("--env", "add to the environment", "Pair", "NAME=VALUE"),
        Flag("--clear-env", "begin with an empty environment", "store_true", keyword="clear_env"),
        other={CHROOT: Other(doc=CLEAN), ENTER: Other(doc=CLEAN)},
    ),
    option(
        "uid: int | None = None",
        "ids to become, as numbers; if uid or gid is given, groups is ().",
        Flag(
            "--userspec",
            "ids to become",
            "userspec",
            "UID:GID",
            calls=(CHROOT,),
            keyword="userspec",
        ),
        Flag("--setuid --uid", "become this user", "number", "UID"),
        other={
            ENTER: Other(
                doc="ids to become; the default after joining a user namespace is its root, if it "
                "maps one."
            )
        },
    ),
    option(
        "gid: int | None = None",
        With("uid"),
        Flag("--setgid --gid", "become this group", "number", "GID"),
    ),
    option(
        "groups: Sequence[int] | None = None",
        With("uid"),
        Flag("--groups", "supplementary groups ('' for none)", "groups", "G,..."),
    ),
    option(
        "umask: int | None = None",
        "file mode mask, such as 0o022.",
        Flag("--umask", "file mode mask, octal", "octal", "MODE"),
    ),
    option(
        "no_new_privs: bool = False",
        "no program gives the command more power, setuid or not.",
        Flag("--no-new-privs", "let no program give it more power, setuid or not", "store_true"),
    ),
    option(
        "capabilities: Iterable[str] | None = None",
        'names of those to keep, such as ["CAP_KILL", "net_raw"]; all others are dropped, from '
        "the bounding set too. None changes nothing.",
        Flag("--capabilities", "keep these alone ('' for none)", "names", "CAP,..."),
    ),
    option(
        "ambient: Iterable[str] = ()",
        "names of those that a user who is not root keeps, over execve too; all of them are what "
        "``unshare --keep-caps`` keeps.",
        Flag("--ambient", "keep these when it is not root, too", "names", "CAP,..."),
    ),
    option(
        "rlimits: Mapping[str, Limit] | None = None",
        'limits by their names in getrlimit(2), such as {"nofile": 64, "as": (soft, hard)}; one '
        'number is both, None or "unlimited" is none.',
        Flag("--rlimit", "set a limit of getrlimit(2)", "LimitOption", "NAME=SOFT[:HARD]"),
    ),
    option(
        "seccomp: Filter | None = None",
        "a BPF program, as bytes, that judges each system call from execve on; or a filter of "
        "pyseccomp or of libseccomp's own binding.",
        Flag("--seccomp", "a BPF program that judges system calls", "file_content", "FILE"),
    ),
    option(
        "securebits: Iterable[str] | None = None",
        'names of those that shall hold, and no others, such as ["noroot", "noroot_locked"]: what '
        "root gains by being root; see capabilities(7).",
        Flag("--securebits", "what root gains by being root", "names", "NAME,..."),
    ),
    option(
        "landlock: Landlock | None = None",
        "Landlock(read=[...], write=[...]): the command opens nothing else, whatever power it "
        "has; sets ``no_new_privs``. An error where the kernel cannot (Linux 6.2).",
        Flag(
            "--landlock-read",
            "nothing may be opened but this and its like; this may be read and executed",
            "LandlockOption",
            "PATH",
        ),
        Flag(
            "--landlock-write",
            "nothing may be opened but this and its like; this may be changed, too",
            "LandlockOption",
            "PATH",
        ),
    ),
    option(
        "stdin: File = None",
        "as in subprocess.Popen; no other descriptor is open inside.",
        kept=True,
    ),
    option("stdout: File = None", With("stdin"), kept=True),
    option("stderr: File = None", With("stdin"), kept=True),
    option(
        "tty: bool | os.terminal_size = False",
        "those of stdin, stdout and stderr that are not given are a terminal: True, or its size "
        "as os.terminal_size; of the container's devpts, else of ours. ``stdin`` and ``stdout`` "
        "of the Container are our end; ``run`` collects it, or is it: interact().",
        Flag("--tty", "a terminal of its own (default: where there is one)", "switch"),
    ),
    option("text: bool | None = None", With("stdin"), kept=True),
    option("encoding: str | None = None", With("stdin"), kept=True),
    option("errors: str | None = None", With("stdin"), kept=True),
    option(
        "pass_fds: Sequence[int] = ()",
        With("stdin"),
        Flag("--pass-fd", "keep FD open", "number", "FD", many=True),
        kept=True,
    ),
    option(
        "start_new_session: bool | None = None",
        "None gives a session of its own unless stdin is our terminal.",
        Flag(
            "--start-new-session",
            "a session of its own (default: unless stdin is the terminal)",
            "switch",
        ),
    ),
    option("process_group: int | None = None", With("stdin")),
    option(
        "dry_run: bool = False",
        "return the Plan and run nothing.",
        Flag("--dry-run", "print the system calls; run nothing", "store_true"),
        Flag("--trace", "print what the kernel did, at the end", "store_true", keyword="trace"),
    ),
    option(
        "input: Input | None = None",
        "as in subprocess.run; timeout in seconds.",
        calls=WAIT,
        kept=True,
    ),
    option("capture_output: bool = False", With("input"), calls=WAIT, kept=True),
    option(
        "timeout: float | None = None",
        With("input"),
        Flag("--timeout", "end it after so long", "seconds", "SECONDS", calls=ALL),
        calls=WAIT,
        kept=True,
    ),
    option("check: bool = False", With("input"), calls=WAIT, kept=True),
)

NAMESPACES = tuple(each.name for each in OPTIONS if each.type.startswith("bool | Target"))
