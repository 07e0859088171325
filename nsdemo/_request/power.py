"""What may be taken from a command: the names of capabilities and limits, and their checks.

Loaded only by a call that uses one of its keywords.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._core import Wishes
    from .given import Request

# capabilities(7), in the kernel's order: the number of each is its place.
CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
    LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE
    SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
    SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
    WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE""".split()
)
# getrlimit(2), in the kernel's order.
LIMITS = tuple(
    """cpu fsize data stack core rss nproc nofile memlock as locks sigpending msgqueue nice rtprio
    rttime""".split()
)

MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS
_UNCHANGED = -1
_LIMIT_MOST = 2**63 - 1

# capabilities(7), in the kernel's order: bit 0, 2, ...; the lock of each is the bit above.
SECUREBITS = ("noroot", "no_setuid_fixup", "keep_caps", "no_cap_ambient_raise")


def last_capability() -> int:
    """The highest number that this kernel knows."""
    try:
        with open("/proc/sys/kernel/cap_last_cap") as file:
            return int(file.read())
    except OSError:  # another /proc, or none
        return len(CAPABILITIES) - 1


def capability_names(mask: int) -> tuple[str, ...]:
    """The names of a set of capabilities; a number without a name is CAP_63."""
    return tuple(
        CAPABILITIES[number] if number < len(CAPABILITIES) else f"CAP_{number}"
        for number in range(64)
        if mask >> number & 1
    )


def shown_capabilities(mask: int) -> str:
    """A set of capabilities in a few words: "all", "none", or names."""
    if mask == _UNCHANGED or mask == (1 << last_capability() + 1) - 1:
        return "all"
    return "|".join(capability_names(mask)) or "none"


def _close(word: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches

    found = get_close_matches(word[:60], names, 3, 0.5)
    return f": did you mean {' or '.join(found)}?" if found else ""


def capability_mask(keyword: str, names: Any) -> int:
    """A bit for each name; "CAP_KILL", "cap_kill" and "kill" are the same."""
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise TypeError(f'{keyword} is a list of names such as ["CAP_KILL"], not {names!r}')
    mask = 0
    last = last_capability()
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{keyword}: a capability's name is a str, not {name!r}")
        full = name.upper() if name.upper().startswith("CAP_") else f"CAP_{name.upper()}"
        if full not in CAPABILITIES:
            raise ValueError(
                f"{keyword}: there is no capability {name!r:.60}{_close(full, CAPABILITIES)}"
            )
        number = CAPABILITIES.index(full)
        if number > last:
            raise ValueError(f"{keyword}: this kernel does not know {full}; its last is {last}")
        mask |= 1 << number
    return mask


def checked_capabilities(capabilities: Any, ambient: Any) -> tuple[int, int] | None:
    """(kept or -1, ambient), or None where nothing changes."""
    raised = capability_mask("ambient", ambient)
    if capabilities is None:
        return (_UNCHANGED, raised) if raised else None
    kept = capability_mask("capabilities", capabilities)
    if raised & ~kept:
        missing = ", ".join(capability_names(raised & ~kept))
        raise ValueError(f"ambient: {missing} must be among the capabilities that are kept")
    return kept, raised


def checked_securebits(names: Any) -> int:
    """A bit for each name, of all that shall hold."""
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise TypeError(f'securebits is a list of names such as ["noroot"], not {names!r}')
    known = [f"{name}{end}" for name in SECUREBITS for end in ("", "_locked")]
    mask = 0
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"securebits: a name is a str, not {name!r}")
        short = name.lower().removeprefix("secbit_")
        if short not in known:
            raise ValueError(f"securebits: there is no {name!r}{_close(short, known)}")
        mask |= 1 << known.index(short)
    return mask


def securebit_names(mask: int) -> str:
    """SECBIT_NOROOT|SECBIT_NOROOT_LOCKED, as prctl(2) has them."""
    known = [f"SECBIT_{name.upper()}{end}" for name in SECUREBITS for end in ("", "_LOCKED")]
    return "|".join(name for bit, name in enumerate(known) if mask >> bit & 1) or "0"


def _limit(name: str, value: Any) -> int:
    if value is None or value == "unlimited":
        return -1
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f'rlimits: {name} is a number, a pair of them, or "unlimited", not {value!r}'
        )
    if value == resource.RLIM_INFINITY:
        return -1
    if not 0 <= value <= _LIMIT_MOST:
        raise ValueError(f"rlimits: {name} must be between 0 and 2**63 - 1, not {value}")
    return value


def checked_limits(limits: Any) -> tuple[tuple[int, int, int], ...]:
    """(number, soft, hard) of each, in the order of the kernel's numbers."""
    if not isinstance(limits, Mapping):
        raise TypeError(f'rlimits is a mapping such as {{"nofile": 64}}, not {limits!r}')
    found = {}
    for name, value in limits.items():
        if not isinstance(name, str):
            raise TypeError(f"rlimits: a limit's name is a str, not {name!r}")
        short = name.lower().removeprefix("rlimit_")
        if short not in LIMITS:
            raise ValueError(f"rlimits: there is no limit {name!r:.60}{_close(short, LIMITS)}")
        number = LIMITS.index(short)
        if number in found:
            raise ValueError(f"rlimits: {short} is there twice")
        if isinstance(value, (tuple, list)) and len(value) != 2:
            raise ValueError(f"rlimits: {short} is one number or (soft, hard), not {value!r}")
        pair = value if isinstance(value, (tuple, list)) else (value, value)
        soft, hard = (_limit(short, each) for each in pair)
        if hard != -1 and (soft == -1 or soft > hard):
            raise ValueError(f"rlimits: {short}: the soft limit is above the hard limit {hard}")
        found[number] = (number, soft, hard)
    return tuple(found[number] for number in sorted(found))


def _exported(program: Any) -> Any:
    """What a filter of libseccomp's binding, or of pyseccomp, writes."""
    if hasattr(program, "export_bpf_mem"):
        return program.export_bpf_mem()
    if hasattr(program, "export_bpf"):
        with os.fdopen(os.memfd_create("seccomp"), "w+b", buffering=0) as file:
            program.export_bpf(file)
            file.seek(0)
            return file.read()
    raise TypeError(
        "seccomp is a BPF program as bytes (struct sock_filter[]), or a filter with "
        f"export_bpf() or export_bpf_mem(), not {type(program).__name__}"
    )


def checked_filter(program: Any) -> bytes:
    """The bytes of a seccomp filter; a filter of libseccomp's binding is asked for its own."""
    if not isinstance(program, (bytes, bytearray, memoryview)):
        program = _exported(program)
    code = bytes(program)
    if len(code) % 8:
        raise ValueError(
            f"seccomp: a BPF program is made of 8-byte instructions; {len(code)} bytes are none"
        )
    if not 0 < len(code) // 8 <= MOST_INSTRUCTIONS:
        raise ValueError(
            f"seccomp: a BPF program has 1 to {MOST_INSTRUCTIONS} instructions, not "
            f"{len(code) // 8}"
        )
    return code


def checked_power(request: Request) -> Wishes:
    """From the keywords of a call."""
    wishes: Wishes = {}
    if request.landlock is not None:
        from .landlock import checked_rules

        wishes["rules"] = checked_rules(request.landlock)
    if request.no_new_privs or "rules" in wishes:
        wishes["no_new_privs"] = True
    masks = checked_capabilities(request.capabilities, request.ambient)
    if masks is not None:
        wishes["capabilities"] = masks
    if request.rlimits is not None:
        wishes["limits"] = checked_limits(request.rlimits)
    if request.seccomp is not None:
        wishes["filter"] = checked_filter(request.seccomp)
    if request.securebits is not None:
        wishes["securebits"] = checked_securebits(request.securebits)
    return wishes


def limit_name(number: int) -> str:
    return LIMITS[number] if 0 <= number < len(LIMITS) else str(number)
