"""Where launches happen: what every measuring process must know, as one line of JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

# An installed nsdemo is measured; failing that, the one built in this tree.
if str(REPOSITORY) not in sys.path:
    sys.path.append(str(REPOSITORY))

CAP_SYS_ADMIN = 21


@dataclasses.dataclass(frozen=True)
class Place:
    """One root, one running container, and what peers need besides.

    root: a busybox root file system, with /bin/true and an empty /proc
    target: the pid of a running container with its own mount, uts, ipc, net and pid namespaces
    bundle: an OCI bundle of the same root
    state: an empty directory, for those who keep notes about their containers
    user: whether every launch needs a new user namespace, the caller not being privileged
    image: the same root as an image of a container engine, or "" without one
    container: a running container of that image, or ""
    """

    root: str
    target: int
    bundle: str
    state: str
    user: bool
    image: str = ""
    container: str = ""

    def to_line(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_line(cls, line: str) -> Place:
        return cls(**json.loads(line))


def is_privileged() -> bool:
    """Whether this process may make namespaces without a user namespace around them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> CAP_SYS_ADMIN & 1)
    return False
