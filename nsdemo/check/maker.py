"""A program: makes the containers that probes are tried on, one after the other.

It runs as ``python -I -S maker.py SOCKET`` in an interpreter of its own, so that no one who has
changed nsdemo elsewhere learns from the call which namespace is shared. A request is a line of
JSON, {"new": [...], "shared": [...]} with namespace keywords; the answer is {"pid": N} or
{"error": TEXT}. The container before is ended. At the end of the stream everything ends.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any


def make(request: dict[str, list[str]]) -> Any:
    """A container that sleeps."""
    import nsdemo

    wanted: dict[str, Any] = dict.fromkeys(request["new"], True)
    wanted |= dict.fromkeys(request["shared"], False)
    return nsdemo.spawn(["sleep", "600"], stdin=nsdemo.DEVNULL, **wanted)


def main() -> None:
    """Serve requests."""
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    import nsdemo

    channel = socket.socket(fileno=int(sys.argv[1])).makefile("rw", encoding="utf-8")
    box = None
    for line in channel:
        if box is not None:
            box.kill()
            box.wait()
        try:
            box = make(json.loads(line))
            answer: dict[str, Any] = {"pid": box.pid}
        except (OSError, ValueError) as error:
            notes = getattr(error, "__notes__", [])
            kind = "set-up" if isinstance(error, nsdemo.NamespaceError) else "command"
            answer = {"error": "; ".join([f"{kind}: {error}", *notes])}
        channel.write(json.dumps(answer) + "\n")
        channel.flush()
    if box is not None:
        box.kill()
        box.wait()
    os._exit(0)


if __name__ == "__main__":
    main()
