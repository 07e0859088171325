"""What the chapters share: a root to run in, an empty plan, and the containers of real engines.

Run the chapters alone with ``pytest tests/demos -v``. As an ordinary user or as root: nsdemo makes
a user namespace by itself where one is needed, and the tutorial's commands, which each chapter
compares it with, are then given ``unshare --map-root-user``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nsdemo

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engines import (
    docker_container,
    docker_engine,
    need_namespaces,
    podman_container,
    podman_engine,
    privileged,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["docker_container", "docker_engine", "podman_container", "podman_engine"]


@pytest.fixture(autouse=True)
def namespaces_are_allowed() -> None:
    """A machine that gives us no namespaces has nothing to show: skip, with its reason."""
    need_namespaces()


@pytest.fixture
def busybox() -> Iterator[Path]:
    """``docker export $(docker create busybox) | tar -C rootfs -xf -``, but without Docker."""
    try:
        rootfs = nsdemo.Rootfs.busybox()
    except FileNotFoundError as error:
        pytest.skip(f"{error} (on Debian: apt-get install busybox-static)")
    with rootfs:
        yield Path(rootfs)


@pytest.fixture
def plan() -> nsdemo.Plan:
    """A plan without steps; an ordinary user's starts with becoming root in a user namespace."""
    return nsdemo.Plan() if privileged() else nsdemo.Plan().unshare("user").map_root()
