"""Many containers alive at once from one Python process: how long they take to start and to end."""

from __future__ import annotations

import time

CROWD = 1000


def gather(root: str) -> dict[str, float | str]:
    """Seconds to "start" and to "stop" them, one loop each; or why that could not be measured."""
    import nsdemo

    boxes: list[nsdemo.Container[bytes]] = []
    try:
        begun = time.monotonic()
        for _ in range(CROWD):
            boxes.append(nsdemo.spawn(["sleep", "1000000"], root=root))
        started = time.monotonic()
        alive = sum(box.poll() is None for box in boxes)
        if alive != CROWD:
            return dict.fromkeys(("start", "stop"), f"only {alive} of {CROWD} were alive")
        stopping = time.monotonic()
        for box in boxes:
            box.stop()
        return {"start": started - begun, "stop": time.monotonic() - stopping}
    except OSError as error:
        return dict.fromkeys(("start", "stop"), " ".join(str(error).split()))
    finally:
        for box in boxes:
            box.stop()
