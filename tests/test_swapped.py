"""A root that somebody else owns, and rearranges while root starts a container in it.

Whatever happens to the launch, nothing outside of the root is mounted on, made or given away.
The short forms show that the attack runs, the long ones that it fails: one that succeeded, the
owner of the root getting a file of his choice, needed a thousand launches.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import QUIET
from targets import give, hostile_root, only_root, swapping

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.usefixtures("ordinary_users_may"), only_root]
COUNTS = [60, pytest.param(6000, marks=pytest.mark.long)]


@pytest.fixture(scope="module")
def swapper() -> Iterator[Path]:
    with hostile_root("swapper") as root:
        yield root / "bin" / "swapper"


@pytest.fixture
def stage(rootfs: Path) -> Iterator[Path]:
    """In memory: a folder of the attacker's with a root, and a file of ours beside it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        stage = Path(folder)
        stage.chmod(0o755)
        (stage / "his").mkdir()
        shutil.copytree(rootfs, stage / "his" / "root", symlinks=True)
        (stage / "outside").mkdir()
        (stage / "outside" / "file").write_text("ours\n")
        (stage / "outside" / "file").chmod(0o600)
        yield stage


def launches(count: int, attack: str = "", **options: Any) -> Counter[str]:
    """How they ended: "started", or by the error of a step.

    So many at least, and more until one was started and one met the attack: any error, or that
    one. When the two meet is the scheduler's choice.
    """
    ended: Counter[str] = Counter()
    for number in range(100 * count):
        met = ended[attack] if attack else len(ended) - 1
        if number >= count and ended["started"] and met:
            break
        try:
            nsdemo.run(["true"], **QUIET, **options)
            ended["started"] += 1
        except nsdemo.NamespaceError as error:
            ended[errno.errorcode[error.errno or 0]] += 1
        except OSError:
            ended["started"] += 1  # all was set up; some machines let nothing be executed there
    return ended


def outside(stage: Path) -> list[tuple[str, int, int, bytes]]:
    found = []
    for path in (stage / "outside", *sorted((stage / "outside").rglob("*"))):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found.append((path.name, status.st_uid, status.st_mode, content))
    return found


@pytest.mark.parametrize("count", COUNTS)
def test_rule_08_what_an_overlay_is_made_of_is_given_to_nobody(
    count: int, stage: Path, swapper: Path
) -> None:
    """The root is another directory at the moment when the upper one is made in it, where a
    link takes the upper one's place when its owner is set."""
    evil = stage / "his" / "evil"
    evil.mkdir()
    (evil / "link").symlink_to(stage / "outside" / "file")
    give(stage / "his")
    before = outside(stage)
    with swapping(swapper, (stage / "his", "root", "evil"), (evil, "upper", "link")):
        ended = launches(count, root=stage / "his" / "root", overlay=True)
    assert outside(stage) == before
    assert ended["started"] > 0
    assert len(ended) > 1, "the attack never met a launch"


@pytest.mark.parametrize("count", COUNTS)
def test_rule_08_a_target_that_turns_into_a_link_is_not_followed(
    count: int, stage: Path, swapper: Path
) -> None:
    root = stage / "his" / "root"
    (root / "here").mkdir()
    (root / "link").symlink_to(stage / "outside")
    give(stage / "his")
    before = outside(stage)
    made = [
        nsdemo.Tmpfs("/here/tmpfs"),
        nsdemo.Bind("/etc", "/here/bind", readonly=True),
        nsdemo.Bind("/etc/passwd", "/here/file"),
        nsdemo.Dev("/here/dev"),
    ]
    with swapping(swapper, (root, "here", "link")):
        ended = launches(count, "ELOOP", root=root, mounts=made)
    assert outside(stage) == before
    assert ended["started"] > 0
    assert ended["ELOOP"] > 0


@pytest.mark.parametrize("count", COUNTS)
def test_rule_06_a_proc_that_turns_into_a_link_is_not_followed(
    count: int, stage: Path, swapper: Path
) -> None:
    root = stage / "his" / "root"
    (root / "link").symlink_to(stage / "outside")
    give(stage / "his")
    before = outside(stage)
    with swapping(swapper, (root, "proc", "link")):
        ended = launches(count, root=root)
    assert outside(stage) == before
    assert ended["started"] > 0
    assert len(ended) > 1, "the attack never met a launch"
