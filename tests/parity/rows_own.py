"""The flags of nsdemo that none of the tools has by that name, and what is like them."""

from __future__ import annotations

from collections.abc import Iterable

from nsdemo._request.option import Option

OWN = {
    "--join": "nsenter's `--target`, with `--all` and `--root`",
    "--root-method": "unshare's `--root` is `chroot`, bwrap always pivots",
    "--domainname": "none; `domainname NAME` inside",
    "--init": "bwrap has one, but with `--as-pid-1`",
    "--masked-proc": "`docker run` masks such paths",
    "--sysfs": "none; `mount -t sysfs sysfs DIR` inside",
    "--masked-sysfs": "`docker run` masks such paths",
    "--overlay-size": "bwrap's `--size`",
    "--readonly-root": "bwrap's `--remount-ro /`; here with all mounts below it",
    "--persist": "unshare's `--net=FILE` and its like",
    "--umask": "none; `umask MODE` in a shell",
    "--capabilities": "`setpriv --bounding-set --inh-caps`; bwrap's `--cap-drop`",
    "--ambient": "`setpriv --ambient-caps`; unshare's `--keep-caps` is all of them",
    "--rlimit": "`prlimit`",
    "--no-new-privs": "`setpriv --no-new-privs`; bwrap always does",
    "--securebits": "`setpriv --securebits`",
    "--landlock-read": "`setpriv --landlock-access` and `--landlock-rule` *newer*",
    "--landlock-write": "`setpriv --landlock-access` and `--landlock-rule` *newer*",
    "--tty": "`docker run --tty`",
    "--pass-fd": "none; they leave open what they were started with",
    "--start-new-session": "bwrap's `--new-session`; `setsid`",
    "--timeout": "`timeout SECONDS`",
    "--dry-run": "none",
    "--trace": "`strace`",
}


def without_a_row(options: Iterable[Option], rows: Iterable[str]) -> dict[str, str]:
    """Flags that neither a tool has nor OWN, with what is to be done."""
    known = {*rows, *OWN}
    return {
        flag.names: f"{flag.names}: say in tests/parity/rows_own.py what is like it"
        for option in options
        for flag in option.flags
        if not known.intersection(flag.names.split())
    }
