"""What the C core offers; nsdemo's own functions are the ones to use."""

from typing import final

# (keyword, file under /proc/PID/ns, CLONE_NEW* flag) of the eight, in the keywords' order
NAMESPACES: tuple[tuple[str, str, int], ...]

_Numbers = tuple[int, int, int]
_Texts = tuple[str | None, str | None, str | None, str | None]
_RawStep = tuple[str, int, _Numbers, _Texts]  # operation, flags, numbers, texts
_Join = tuple[int, ...]  # pid, birth, pidfd, file, flags
_File = tuple[int, int, bytes | None, bytes, bytes | None]  # kind, flags, source, target, options
_Descriptors = tuple[int, ...]
# no_new_privs, (kept, ambient), (resource, soft, hard) of each limit, a BPF program, securebits
# or -1, (writable, path) of each rule
_Power = tuple[
    bool,
    tuple[int, int] | None,
    tuple[tuple[int, int, int], ...],
    bytes | None,
    int,
    tuple[tuple[bool, bytes], ...] | None,
]
# uid_map, setgroups, gid_map, outside, newuidmap, newgidmap, uid and gid of the owner, uid and
# gid to become
_Users = tuple[bytes, bytes | None, bytes, bool, bytes | None, bytes | None, int, int, int, int]
# (CLONE_NEW* flag, path) of each pin, time offsets, domain name, cgroup.procs files
_Settings = tuple[tuple[tuple[int, bytes], ...], bytes | None, bytes | None, tuple[bytes, ...]]

@final
class Plan:
    def __new__(cls) -> Plan: ...
    def steps(self, /) -> list[_RawStep]: ...
    def command(self, /) -> tuple[list[str], list[str], list[str]]: ...
    def append(
        self, operation: str, flags: int, numbers: _Numbers, texts: tuple[str | None, ...], /
    ) -> Plan: ...
    def setgroups(self, ids: tuple[int, ...], /) -> Plan: ...
    def seccomp(self, filter: bytes, /) -> Plan: ...
    def exec(self, argv: list[bytes], envp: list[bytes], paths: list[bytes], /) -> Plan: ...
    def files(
        self,
        files: tuple[_File, ...],
        root: bytes | None,
        has_user: bool,
        has_ipc: bool,
        first_slot: int,
        /,
    ) -> Plan: ...
    def map_root(self, /) -> Plan: ...
    def users(self, users: _Users, /) -> Plan: ...
    def steps_only(self, /) -> Plan: ...
    def without(self, operation: str, /) -> Plan: ...
    def with_slot(self, slot: int, fd: int, owner: object, /) -> Plan: ...

@final
class Process:
    @property
    def pid(self) -> int: ...
    @property
    def owner(self) -> int: ...
    @property
    def first_pid(self) -> int: ...
    @property
    def pidfd(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def has_init(self) -> bool: ...
    @property
    def adopted(self) -> bool: ...
    @property
    def detached(self) -> bool: ...
    @property
    def ended(self) -> bool: ...
    @property
    def status_lost(self) -> bool: ...
    @property
    def said(self) -> bytes | None: ...
    @property
    def returncode(self) -> int | None: ...
    def wait(self, deadline: int, /) -> bool: ...
    def communicate(
        self, streams: _Descriptors | None, input: bytes | None, deadline: int, /
    ) -> bool: ...
    def output(self, /) -> tuple[bytes, bytes]: ...
    def send_signal(self, signal: int, /) -> None: ...
    def kill(self, /) -> None: ...
    def stopping(self, /) -> None: ...
    def detach(self, /) -> None: ...
    def close(self, /) -> None: ...
    def results(self, /) -> list[tuple[int, int, int, int, int, int]]: ...

def recipe(
    kind: str,
    argv: list[bytes],
    envp: list[bytes],
    paths: list[bytes],
    unshare: int,
    joins: tuple[_Join, ...],
    root_of: tuple[int, int, int] | None,
    keep: object,
    fork: bool,
    mount_proc: bool,
    init: bool,
    watch: int,
    root: bytes | None,
    by_chroot: bool,
    propagation: int,
    hostname: bytes | None,
    cwd: bytes | None,
    new_session: bool,
    process_group: int,
    uid: int,
    gid: int,
    groups: tuple[int, ...] | None,
    groups_implied: bool,
    umask: int,
    files: tuple[_File, ...],
    power: _Power | None,
    users: _Users | None,
    terminal: int,
    settings: _Settings | None,
    /,
) -> Plan: ...
def launch(
    plan: Plan,
    stdio: _Descriptors,
    pass_fds: _Descriptors,
    close_fds: _Descriptors,
    image_path: bytes | None,
    streams: _Descriptors | None,
    input: bytes | None,
    deadline: int,
    terminal: int = 0,
    begun: Process | None = None,
    /,
) -> Process | tuple[int, str]: ...
def begin(
    stdio: _Descriptors,
    pass_fds: _Descriptors,
    kept: _Descriptors,
    image_path: bytes | None,
    /,
) -> Process | tuple[int, str]: ...
def identity(pid: int, kind: int, /) -> tuple[int, int]: ...
def adopt(pid: int, pidfd: int, is_init: bool, /) -> Process: ...
def unpin(path: bytes, /) -> None: ...
def kind_of_file(fd: int, /) -> int: ...
def process_birth(pid: int, /) -> int: ...
def foreign_namespaces(pid: int, flags: int, /) -> int: ...
def has_capability(number: int, /) -> bool: ...
def environment_term() -> bytes | None: ...
