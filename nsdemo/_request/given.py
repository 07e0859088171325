"""What a call was given, an attribute for each of its options.

Written by docs/signatures.py from nsdemo/_request/options.py; do not edit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .values import is_given

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Literal

    from .._types import Command, Environment, File, Filter, IdMap, Input, Limit, Process, Target
    from ..mounts import Mount
    from .landlock import Landlock
    from .values import StrPath


class RunOptions:
    """What start() and run() of a plan take."""

    __slots__ = (
        "capture_output",
        "check",
        "encoding",
        "errors",
        "input",
        "pass_fds",
        "stderr",
        "stdin",
        "stdout",
        "text",
        "timeout",
    )

    def __init__(
        self,
        stdin: File = None,
        stdout: File = None,
        stderr: File = None,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        pass_fds: Sequence[int] = (),
        input: Input | None = None,
        capture_output: bool = False,
        timeout: float | None = None,
        check: bool = False,
    ) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.text = text
        self.encoding = encoding
        self.errors = errors
        self.pass_fds = pass_fds
        self.input = input
        self.capture_output = capture_output
        self.timeout = timeout
        self.check = check

    def over(self, kept: RunOptions) -> RunOptions:
        """These, and where they say nothing, those that were kept."""
        return RunOptions(
            self.stdin if is_given(self.stdin) else kept.stdin,
            self.stdout if is_given(self.stdout) else kept.stdout,
            self.stderr if is_given(self.stderr) else kept.stderr,
            self.text if is_given(self.text) else kept.text,
            self.encoding if is_given(self.encoding) else kept.encoding,
            self.errors if is_given(self.errors) else kept.errors,
            self.pass_fds if is_given(self.pass_fds) else kept.pass_fds,
            self.input if is_given(self.input) else kept.input,
            self.capture_output if is_given(self.capture_output) else kept.capture_output,
            self.timeout if is_given(self.timeout) else kept.timeout,
            self.check if is_given(self.check) else kept.check,
        )


class Request:
    """What all calls have."""

    __slots__ = (
        "ambient",
        "args",
        "capabilities",
        "capture_output",
        "check",
        "cwd",
        "encoding",
        "env",
        "errors",
        "gid",
        "groups",
        "input",
        "landlock",
        "no_new_privs",
        "pass_fds",
        "process_group",
        "rlimits",
        "seccomp",
        "securebits",
        "start_new_session",
        "stderr",
        "stdin",
        "stdout",
        "text",
        "timeout",
        "tty",
        "uid",
        "umask",
    )
    args: Command
    cwd: StrPath | None
    env: Environment | None
    uid: int | None
    gid: int | None
    groups: Sequence[int] | None
    umask: int | None
    no_new_privs: bool
    capabilities: Iterable[str] | None
    ambient: Iterable[str]
    rlimits: Mapping[str, Limit] | None
    seccomp: Filter | None
    securebits: Iterable[str] | None
    landlock: Landlock | None
    stdin: File
    stdout: File
    stderr: File
    tty: bool | os.terminal_size
    text: bool | None
    encoding: str | None
    errors: str | None
    pass_fds: Sequence[int]
    start_new_session: bool | None
    process_group: int | None
    input: Input | None
    capture_output: bool
    timeout: float | None
    check: bool

    def run_options(self) -> RunOptions:
        """What the plan keeps for its start() and run()."""
        return RunOptions(
            self.stdin,
            self.stdout,
            self.stderr,
            self.text,
            self.encoding,
            self.errors,
            self.pass_fds,
            self.input,
            self.capture_output,
            self.timeout,
            self.check,
        )


class ChrootRequest(Request):
    """And what chroot_run has beside."""

    __slots__ = (
        "gid_map",
        "owner",
        "root",
        "setgroups",
        "uid_map",
    )
    root: StrPath
    uid_map: IdMap | None
    gid_map: IdMap | None
    setgroups: Literal["allow", "deny"] | None
    owner: tuple[int, int] | None


class SpawnRequest(Request):
    """And what spawn and run has beside."""

    __slots__ = (
        "boottime",
        "cgroup",
        "die_with_parent",
        "domainname",
        "fork",
        "gid_map",
        "hostname",
        "init",
        "ipc",
        "join",
        "monotonic",
        "mount",
        "mount_proc",
        "mounts",
        "net",
        "overlay",
        "overlay_size",
        "owner",
        "persist",
        "pid",
        "propagation",
        "readonly_root",
        "root",
        "root_method",
        "setgroups",
        "time",
        "uid_map",
        "user",
        "uts",
    )
    mount: bool | Target
    uts: bool | Target
    ipc: bool | Target
    pid: bool | Target
    net: bool | Target
    user: bool | Target | None
    cgroup: bool | Target
    time: bool | Target
    uid_map: IdMap | None
    gid_map: IdMap | None
    setgroups: Literal["allow", "deny"] | None
    owner: tuple[int, int] | None
    join: Target | None
    fork: bool
    mount_proc: bool | StrPath | None
    root: StrPath | None
    root_method: Literal["pivot_root", "chroot"]
    propagation: Literal["private", "slave", "shared", "unbindable", "unchanged"]
    hostname: str | None
    domainname: str | None
    monotonic: float | None
    boottime: float | None
    init: bool
    mounts: Sequence[Mount]
    overlay: bool
    overlay_size: int | str | None
    readonly_root: bool
    die_with_parent: bool
    persist: Mapping[str, StrPath] | None

    def namespaces(self) -> dict[str, bool | Target | None]:
        """What its eight keywords say."""
        return {
            "mount": self.mount,
            "uts": self.uts,
            "ipc": self.ipc,
            "pid": self.pid,
            "net": self.net,
            "user": self.user,
            "cgroup": self.cgroup,
            "time": self.time,
        }


class EnterRequest(Request):
    """And what enter has beside."""

    __slots__ = (
        "cgroup",
        "ipc",
        "join_cgroup",
        "mount",
        "net",
        "pid",
        "root",
        "target",
        "time",
        "user",
        "uts",
    )
    target: Process
    mount: bool
    uts: bool
    ipc: bool
    pid: bool
    net: bool
    user: bool
    cgroup: bool
    time: bool
    root: bool
    join_cgroup: bool

    def namespaces(self) -> dict[str, bool]:
        """What its eight keywords say."""
        return {
            "mount": self.mount,
            "uts": self.uts,
            "ipc": self.ipc,
            "pid": self.pid,
            "net": self.net,
            "user": self.user,
            "cgroup": self.cgroup,
            "time": self.time,
        }


# What the eight keywords of spawn are to those who say nothing.
UNSAID = {
    "mount": True,
    "uts": True,
    "ipc": True,
    "pid": True,
    "net": False,
    "user": None,
    "cgroup": False,
    "time": False,
}
