"""Interleaved sampling, and what is kept of it.

In one round every case is asked for one sample, so whatever the machine does meanwhile falls on
all of them alike. The order changes from round to round, with a fixed seed: the kernel frees
namespaces in the background, and nobody shall always come after the one who left the most.

Of two launches in a row the second counts. The first finds the caches full of the other cases,
so it would tell how many they are; only for slow launches that does not matter.
"""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections.abc import Callable, Iterable

from channel import Refused

WARM_UPS = 3
SLOW_NS = 12_000_000
VERY_SLOW_NS = 60_000_000

Key = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to measure: the condition of the caller, the name of the launch, how to ask."""

    condition: str
    name: str
    sample: Callable[[], int]

    @property
    def key(self) -> Key:
        return self.condition, self.name


@dataclasses.dataclass
class Figures:
    """Samples in nanoseconds by (condition, name), and why some are missing."""

    samples: dict[Key, list[int]] = dataclasses.field(default_factory=dict)
    reasons: dict[Key, str] = dataclasses.field(default_factory=dict)

    def median(self, condition: str, name: str) -> float | None:
        samples = self.samples.get((condition, name))
        return statistics.median(samples) if samples else None

    def spread(self, condition: str, name: str) -> tuple[float, float] | None:
        """The 10th and the 90th percentile."""
        samples = sorted(self.samples.get((condition, name), ()))
        if not samples:
            return None
        last = len(samples) - 1
        return samples[math.floor(last * 0.1)], samples[math.ceil(last * 0.9)]

    def ratio(self, above: Key, below: Key) -> float | None:
        """How many times longer ``above`` takes than ``below``."""
        numerator, denominator = self.median(*above), self.median(*below)
        return numerator / denominator if numerator and denominator else None


def interleave(
    cases: Iterable[Case], rounds: int, progress: Callable[[int], None] = lambda done: None
) -> Figures:
    """Sample every case in each round; the slow ones in every third or tenth."""
    figures = Figures()
    shuffled = random.Random(0)
    strides = {case: _warm_up(case, figures) for case in cases}
    waiting = [case for case, stride in strides.items() if stride]
    for number in range(rounds):
        progress(number)
        shuffled.shuffle(waiting)
        for case in waiting:
            if number % strides[case] == 0 and case.key not in figures.reasons:
                _sample(case, figures, again=strides[case] == 1)
    return figures


def _warm_up(case: Case, figures: Figures) -> int:
    """How many rounds go by between two samples of ``case``; 0 when it cannot run."""
    try:
        fastest = min(case.sample() for _ in range(WARM_UPS))
    except Refused as refusal:
        figures.reasons[case.key] = str(refusal)
        return 0
    if fastest > VERY_SLOW_NS:
        return 10
    return 3 if fastest > SLOW_NS else 1


def _sample(case: Case, figures: Figures, again: bool) -> None:
    try:
        if again:
            case.sample()
        figures.samples.setdefault(case.key, []).append(case.sample())
    except Refused as refusal:
        figures.reasons[case.key] = str(refusal)
