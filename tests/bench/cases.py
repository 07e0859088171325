"""What is measured, and in which process: one for each condition a caller can be in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import imports
import launches
import machine
import stage
from channel import Refused
from place import Place
from rounds import Case, Key

BASELINES = ("plain", "chroot", "spawn", "enter")
DOCKER = ("docker run", "docker exec")
HEAP_NEEDS_GB = 6
UNIFIED_CONTROLLERS = Path("/sys/fs/cgroup/unified/cgroup.controllers")


@contextlib.contextmanager
def ready(scene: stage.Stage, heap: bool) -> Iterator[tuple[list[Case], dict[Key, str]]]:
    """Start the processes; yields the cases, and why others are missing."""
    cases = [
        Case("plain", f"baseline {kind}", partial(scene.baseline.ask, kind)) for kind in BASELINES
    ]
    missing = dict.fromkeys((("plain", name) for name in DOCKER), scene.engine_reason)
    with contextlib.ExitStack() as cleanup:
        for condition, names in _plan(scene.place, heap, missing).items():
            try:
                worker = cleanup.enter_context(stage.worker(scene.place, condition))
            except Refused as refusal:
                missing.update(dict.fromkeys(((condition, name) for name in names), str(refusal)))
                continue
            shown = "plain" if condition == "legacy" else condition
            cases += [Case(shown, name, partial(worker.ask, name)) for name in names]
        cases += [
            Case("plain", f"import {module}", imports.sampler(module))
            for module in ("subprocess", "nsdemo")
        ]
        yield cases, {key: why for key, why in missing.items() if key not in map(_key, cases)}


def _plan(place: Place, heap: bool, missing: dict[Key, str]) -> dict[str, list[str]]:
    """The launches to make in each condition."""
    ours = list(launches.NSDEMO)
    everything = [*ours, "nsdemo sandbox", "os.fork", *launches.commands(place)]
    plan = {
        "plain": [name for name in everything if name not in DOCKER or place.image],
        "files": ours,
        "threads": ours,
    }
    if not heap:
        missing["heap", "everything"] = "not asked for (--no-heap)"
    elif machine.available_memory() < HEAP_NEEDS_GB << 30:
        gigabytes = machine.available_memory() / 2**30
        missing["heap", "everything"] = (
            f"{gigabytes:.1f} GB of memory are available, {HEAP_NEEDS_GB} needed"
        )
    else:
        plan["heap"] = list(plan["plain"])
    if not place.user and _has_hybrid_cgroups():
        for names in plan.values():
            if "crun" in names:
                names.remove("crun")
        plan["legacy"] = ["crun"]
    return plan


def _has_hybrid_cgroups() -> bool:
    """Whether crun would say "cgroups in hybrid mode not supported"."""
    try:
        return bool(UNIFIED_CONTROLLERS.read_text().strip())
    except OSError:
        return False


def _key(case: Case) -> Key:
    return case.key
