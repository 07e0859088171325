"""Why the kernel would not take power away, or leave it: hints for its steps."""

from __future__ import annotations

import errno
import os
import resource

from .._facts import machine
from .._request.power import LIMITS, capability_names
from .case import NEWUSER, Case, Hints, filtered
from .executable import explain_path

CAP_SETPCAP = 8


def _own(case: Case) -> bool:
    """Does our own power decide, and not that over another user namespace?"""
    return not case.unshared(NEWUSER) and not case.joined(NEWUSER)


def _word(value: int) -> str:
    return "unlimited" if value == -1 else str(value)


def explain_terminal(case: Case) -> Hints:
    """A session leader without a terminal may have one that exists."""
    if case.errno == errno.EPERM:
        yield (
            "a terminal is given to the leader of a session that has none: the step comes after "
            "setsid, in the same process (no fork in between)"
        )
    elif case.errno == errno.ENOTTY:
        yield (
            "there is no devpts at /dev/pts, neither in the container nor outside of it, so no "
            "terminal can be made: mounts=[nsdemo.Dev()] gives the container one"
        )


def explain_limit(case: Case) -> Hints:
    """A limit that is not to be raised."""
    number, _, hard = case.step.args
    if case.errno != errno.EPERM or not 0 <= number < len(LIMITS):
        return
    name, most = LIMITS[number], resource.getrlimit(number)[1]
    ceiling = machine.sysctl("fs.nr_open") if name == "nofile" else None
    if ceiling is not None and (hard == -1 or hard > ceiling):
        yield (
            f"no process may have a limit {name} above {ceiling} (sysctl fs.nr_open): "
            f"{_word(hard)} is more"
        )
    elif most != resource.RLIM_INFINITY and (hard == -1 or hard > most):
        yield (
            f"the hard limit of {name} is {most} here, and {_word(hard)} is more: raising it "
            "needs CAP_SYS_RESOURCE outside of every container; ask for less"
        )


def explain_bounding(case: Case) -> Hints:
    """A bounding set that may not shrink."""
    if case.errno != errno.EPERM:
        return
    if _own(case) and not machine.passes_on(CAP_SETPCAP):
        yield (
            f"dropping from the bounding set needs CAP_SETPCAP, which uid {os.geteuid()} has "
            'not: add user=True (in a Plan, .unshare("user").map_root() comes first)'
        )
    elif case.did("setuid"):
        yield "setuid gave that power up: drop_bounding comes before it"
    else:
        yield from filtered()


def explain_capset(case: Case) -> Hints:
    """Capabilities that are not there to be kept."""
    kept, ambient = case.step.args
    if case.errno != errno.EPERM:
        return
    wanted = ambient if kept == -1 else kept | ambient
    if case.did("setuid") and not case.did("keep_capabilities"):
        yield "setuid gave all capabilities up: keep_capabilities comes before it"
        return
    field = "CapPrm" if _own(case) else "CapBnd"
    have = machine.status(field)
    missing = wanted & ~int(have, 16) if have else 0
    if missing:
        names = ", ".join(capability_names(missing))
        yield f"{names} cannot be kept: this process has not got it ({field}: {have})"


def explain_securebits(case: Case) -> Hints:
    """Bits that may not be set, or not be cleared."""
    if case.errno != errno.EPERM:
        return
    if _own(case) and not machine.passes_on(CAP_SETPCAP):
        yield (
            f"securebits need CAP_SETPCAP, which uid {os.geteuid()} has not: add user=True (in a "
            'Plan, .unshare("user").map_root() comes first)'
        )
    elif case.did("setuid") and not case.did("capset"):
        yield "setuid gave that power up: capset, after keep_capabilities, brings it back"
    elif case.did("securebits"):
        yield "a bit that is locked already would change"


def explain_landlock(case: Case) -> Hints:
    """A kernel that has no Landlock, or not enough of it."""
    release = os.uname().release
    modules = machine.read("/sys/kernel/security/lsm").strip()
    if case.errno == errno.EPERM and not case.did("no_new_privs"):
        yield "Landlock needs no_new_privs, or CAP_SYS_ADMIN: .no_new_privs() comes first"
    elif case.errno == errno.EOPNOTSUPP and modules and "landlock" not in modules.split(","):
        yield f"Landlock is not switched on here (lsm={modules}): add landlock to lsm= at boot"
    elif case.errno == errno.EOPNOTSUPP:
        yield (
            "landlock= needs the Landlock of Linux 6.2, which can forbid truncate(2), switched on "
            f"at boot; this is Linux {release}, and a weaker promise is none"
        )
    elif case.errno == errno.ENOSYS:
        yield from filtered("Landlock is not there") or (
            f"this kernel ({release}) was built without Landlock, or is older than it (Linux 5.13)",
        )


def explain_rule(case: Case) -> Hints:
    """A path that Landlock is to allow, and that cannot be opened."""
    yield from explain_path(case.root, case.step.args[0], "the path")


def explain_seccomp(case: Case) -> Hints:
    """A filter that is not taken."""
    if case.errno == errno.EACCES and not case.did("no_new_privs"):
        yield (
            "a filter needs no_new_privs=True, so that no setuid program runs under it, or "
            "CAP_SYS_ADMIN at the end of all other steps"
        )
    elif case.errno == errno.EINVAL:
        yield (
            "the kernel refuses this BPF program: each jump must lead forward and stay inside, "
            "loads must be 32-bit words of struct seccomp_data, and the last instruction returns"
        )
