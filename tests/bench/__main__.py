"""How long nsdemo takes to start a command, beside the bare system calls and its peers.

    python tests/bench                     the two tables, in about a minute
    python tests/bench --quick             fewer rounds
    python tests/bench --picture bars.svg  the ratios as a chart as well

Everything is measured in one run, interleaved; figures are medians of wall time from the call to
the end of the command, /bin/true of busybox. The baseline is baseline.c, which makes the same
system calls and nothing else. The benchmark prints, it does not judge: its exit status is 0
whatever the figures are, and 1 when it could not measure.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
from pathlib import Path

import cases
import contract
import crowd
import machine
import memory
import peers
import picture
import stage
from channel import Refused
from rounds import Figures, interleave

ROUNDS, QUICK_ROUNDS = 200, 40


@dataclasses.dataclass(frozen=True)
class Result:
    """One finished run."""

    rounds: int
    user: bool
    machine: dict[str, str]
    figures: Figures
    contract: list[contract.Row]

    @property
    def caption(self) -> str:
        who = "an ordinary user, in user namespaces" if self.user else "root"
        facts = self.machine
        return (
            f"as {who}, {self.rounds} rounds; {facts['kernel']}, {facts['cores']} cores of "
            f"{facts['processor']}, Python {facts['Python']}"
        )


def parse() -> argparse.Namespace:
    summary, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python tests/bench",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=int, metavar="N", help=f"samples of each (default {ROUNDS})")
    add("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds")
    add("--no-heap", action="store_true", help="without the 4 GB heap")
    add("--docker", action="store_true", help="also the engine that docker reaches (DOCKER_HOST)")
    add("--markdown", action="store_true", help="print Markdown")
    add("--picture", type=Path, metavar="FILE", help="draw the ratios (.svg, .png, .pdf)")
    add("--json", type=Path, metavar="FILE", help="write every sample")
    options = parser.parse_args()
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    return options


def run(options: argparse.Namespace) -> Result:
    with stage.build(options.docker) as scene:
        with cases.ready(scene, heap=not options.no_heap) as (ready, missing):
            figures = interleave(ready, options.rounds, show_progress)
        figures.reasons.update(missing)
        kept = memory.waiting(scene.place.root)
        for kind, size in kept.items():
            if isinstance(size, str):
                figures.reasons["memory", f"a waiting {kind}"] = size
        times = crowd.gather(scene.place.root)
        for kind, seconds in times.items():
            if isinstance(seconds, str):
                figures.reasons["crowd", f"to {kind} {crowd.CROWD}"] = seconds
        return Result(
            rounds=options.rounds,
            user=scene.place.user,
            machine=machine.facts(),
            figures=figures,
            contract=contract.rows(figures, kept, times),
        )


def show_progress(done: int) -> None:
    if sys.stderr.isatty():
        print(f"\rround {done + 1}\x1b[K", end="", file=sys.stderr, flush=True)


def report(result: Result, markdown: bool) -> str:
    tables = (contract.table(result.contract), peers.table(result.figures))
    parts = [table.markdown() if markdown else table.text() for table in tables]
    parts.insert(0, describe(result))
    parts += missing_notes(result.figures)
    return "\n\n".join(parts)


def describe(result: Result) -> str:
    tools = [f"{name} {result.machine[name]}" for name in machine.TOOLS if name in result.machine]
    return (
        f"Measured {result.caption}; {', '.join(tools)}.\n"
        "Medians of one interleaved run; the baseline is a C loop that makes the same system calls."
    )


def missing_notes(figures: Figures) -> list[str]:
    """Why figures are missing, each reason once."""
    missing: dict[str, dict[str, list[str]]] = {}
    for (condition, name), reason in figures.reasons.items():
        missing.setdefault(reason, {}).setdefault(name, []).append(condition)
    lines = [
        "- "
        + ", ".join(f"{name} ({', '.join(where)})" for name, where in names.items())
        + f": {why}"
        for why, names in missing.items()
    ]
    return ["\n".join(("Not measured:", *lines))] if lines else []


def to_json(result: Result) -> str:
    samples: dict[str, dict[str, list[int]]] = {}
    for (condition, name), values in result.figures.samples.items():
        samples.setdefault(condition, {})[name] = values
    content = {
        "machine": result.machine,
        "rounds": result.rounds,
        "user_namespace": result.user,
        "contract": [dataclasses.asdict(row) for row in result.contract],
        "nanoseconds": samples,
        "missing": [[*key, reason] for key, reason in result.figures.reasons.items()],
    }
    return json.dumps(content, indent=1)


def main() -> int:
    options = parse()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        result = run(options)
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr)
        print(report(result, options.markdown))
        if options.json:
            options.json.write_text(to_json(result) + "\n")
        if options.picture:
            picture.draw(result.figures, options.picture, result.caption)
    except Refused as refusal:
        print(f"bench: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
