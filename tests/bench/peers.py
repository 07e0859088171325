"""The second page: nsdemo among the other ways to do the same."""

from __future__ import annotations

import dataclasses

from rounds import Figures
from table import Table

BASELINE = "C, the system calls alone"


@dataclasses.dataclass(frozen=True)
class Group:
    """Ways to the same end, each as (label, name of the launch); the first is the baseline."""

    title: str
    ways: tuple[tuple[str, str], ...]

    @property
    def baseline(self) -> str:
        return self.ways[0][1]


GROUPS = (
    Group(
        "new mount, uts, ipc and pid namespaces, a root, /proc",
        (
            (BASELINE, "baseline spawn"),
            ("nsdemo.spawn", "nsdemo.spawn"),
            ("os.fork and ctypes", "os.fork"),
            ("unshare", "unshare"),
            ("bwrap", "bwrap"),
            ("crun run", "crun"),
            ("runc run", "runc"),
            ("docker run", "docker run"),
        ),
    ),
    Group(
        "a user namespace, a root, /proc, /dev, no capabilities",
        (
            ("nsdemo.run, with an overlay and a pty", "nsdemo sandbox"),
            ("bwrap, which has neither", "bwrap sandbox"),
        ),
    ),
    Group(
        "enter five namespaces of a running container",
        (
            (BASELINE, "baseline enter"),
            ("nsdemo.enter", "nsdemo.enter"),
            ("nsenter", "nsenter"),
            ("docker exec", "docker exec"),
        ),
    ),
    Group(
        "another root",
        (
            (BASELINE, "baseline chroot"),
            ("nsdemo.chroot_run", "nsdemo.chroot_run"),
            ("chroot", "chroot"),
        ),
    ),
    Group(
        "the bare command",
        (
            (BASELINE, "baseline plain"),
            ("subprocess.run", "bare"),
        ),
    ),
)


def table(figures: Figures) -> Table:
    header = ("what", "median ms", "p10-p90 ms", "ratio", "4 GB heap: ms", "ratio there")
    page = Table("Among its peers", header, right=frozenset(header[1:]))
    for group in GROUPS:
        page.rows.append((f"{group.title}:", *[""] * 5))
        for label, name in group.ways:
            small, large = ("plain", name), ("heap", name)
            page.rows.append(
                (
                    f"  {label}",
                    _milliseconds(figures.median(*small)),
                    _spread(figures.spread(*small)),
                    _ratio(figures.ratio(small, ("plain", group.baseline))),
                    _milliseconds(figures.median(*large)),
                    _ratio(figures.ratio(large, ("plain", group.baseline))),
                )
            )
    return page


def _milliseconds(nanoseconds: float | None) -> str:
    return "-" if nanoseconds is None else f"{nanoseconds / 1e6:.2f}"


def _spread(spread: tuple[float, float] | None) -> str:
    return "-" if spread is None else f"{spread[0] / 1e6:.2f}-{spread[1] / 1e6:.2f}"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"
