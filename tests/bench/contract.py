"""The first page: the figures the design promises to hold, as measured here."""

from __future__ import annotations

import dataclasses

from rounds import Figures
from table import Table

CALLS = {"spawn": "nsdemo.spawn", "enter": "nsdemo.enter", "chroot_run": "nsdemo.chroot_run"}
BURDENS = {
    "heap": "each with a 4 GB heap",
    "files": "each with 10,000 open files",
    "threads": "each with 100 idle threads",
}


@dataclasses.dataclass(frozen=True)
class Bound:
    """One measured figure and what it must be, and would best be: at most, or at least."""

    measured: float | None
    words: str  # with {} for the figure
    must: float | None
    goal: float | None = None
    at_least: bool = False
    unit: str = "x"

    @property
    def met(self) -> str:
        if self.measured is None:
            return "-"
        if self.goal is not None and self._holds(self.goal):
            return "goal"
        if self.must is not None:
            return "must" if self._holds(self.must) else "no"
        return "no"

    def cells(self) -> tuple[str, str, str, str]:
        if self.measured is None:
            measured = "not measured"
        else:
            measured = self.words.format(f"{self.measured:.2f}{self.unit}")
        limits = self._limit(self.must), self._limit(self.goal)
        return (measured, *limits, self.met)

    def _holds(self, limit: float) -> bool:
        assert self.measured is not None
        return self.measured >= limit if self.at_least else self.measured <= limit

    def _limit(self, limit: float | None) -> str:
        sign = ">=" if self.at_least else "<="
        return "" if limit is None else f"{sign} {limit:g}{self.unit}"


@dataclasses.dataclass(frozen=True)
class Row:
    what: str
    bounds: tuple[Bound, ...]


def rows(
    figures: Figures, memory: dict[str, float | str], crowd: dict[str, float | str]
) -> list[Row]:
    """The rows in the order of the design's table, and those of the later promises."""

    def ratio(above: str, below: str) -> float | None:
        return figures.ratio(("plain", above), ("plain", below))

    def burdened(condition: str) -> tuple[Bound, ...]:
        return tuple(
            Bound(
                figures.ratio((condition, name), ("plain", name)),
                f"{call} {{}} of itself without",
                1.15,
            )
            for call, name in CALLS.items()
        )

    def weight(kind: str) -> Bound:
        value = memory[kind]
        return Bound(None if isinstance(value, str) else value, "{} PSS", 32, 16, unit=" KB")

    def seconds(kind: str, words: str, must: float) -> Bound:
        value = crowd[kind]
        return Bound(None if isinstance(value, str) else value, words, must, unit=" s")

    spawn, enter, chroot = CALLS.values()
    bare = ratio(chroot, "bare")
    return [
        Row(
            "spawn, five flags, default options, wait",
            (
                Bound(ratio(spawn, "baseline spawn"), "{} baseline", 1.45, 1.2),
                Bound(ratio("unshare", spawn), "{} faster than unshare", 2.1, 3, at_least=True),
            ),
        ),
        Row(
            "enter, five namespaces",
            (
                Bound(ratio(enter, "baseline enter"), "{} baseline", 1.5, 1.2),
                Bound(ratio("nsenter", enter), "{} faster than nsenter", 2.4, 3, at_least=True),
            ),
        ),
        Row(
            "chroot_run",
            (
                Bound(ratio(chroot, "baseline chroot"), "{} baseline", 1.5),
                Bound(ratio("chroot", chroot), "{} faster than chroot", 2.2, at_least=True),
                Bound(bare, "{} subprocess.run, bare command", None, 1),
            ),
        ),
        *(Row(what, burdened(condition)) for condition, what in BURDENS.items()),
        Row(
            "import nsdemo",
            (Bound(ratio("import nsdemo", "import subprocess"), "{} import subprocess", 1.6, 1.3),),
        ),
        Row("a waiting init", (weight("init"),)),
        Row("a waiting watchdog", (weight("watchdog"),)),
        Row(
            "user namespace, layers, /dev, a pty, no capabilities",
            (
                Bound(
                    ratio("bwrap sandbox", "nsdemo sandbox"),
                    "{} faster than bwrap",
                    1.6,
                    at_least=True,
                ),
            ),
        ),
        Row(
            "1,000 containers from one process",
            (seconds("start", "{} to start", 0.8), seconds("stop", "{} to stop", 0.35)),
        ),
    ]


def table(contract: list[Row]) -> Table:
    page = Table("The numbers to hold", ("what", "measured", "must", "goal", "met"))
    for row in contract:
        for number, bound in enumerate(row.bounds):
            page.rows.append((row.what if number == 0 else "", *bound.cells()))
    return page
