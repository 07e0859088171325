"""What is mounted in a root, while its owner exchanges the names of the places.

A step that works on what an earlier one mounted works on that, wherever it is called by then. The
witness is inside: what the container can read and write, from within a directory whose name
changes. "here" and "there" are two directories of the root's owner, exchanged without a pause.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import refusing, script
from targets import give, hostile_root, only_root, swapping

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.usefixtures("ordinary_users_may"), only_root]
counts = pytest.mark.parametrize("count", [60, pytest.param(10000, marks=pytest.mark.long)])
both_ways = pytest.mark.parametrize("old", [False, True], ids=["new", "old"])


@pytest.fixture(scope="module")
def swapper() -> Iterator[Path]:
    with hostile_root("swapper") as root:
        yield root / "bin" / "swapper"


@pytest.fixture
def root(rootfs: Path) -> Iterator[Path]:
    """In memory, the ordinary user's, with empty directories called here and there."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        Path(folder).chmod(0o755)
        root = Path(folder, "root")
        shutil.copytree(rootfs, root, symlinks=True)
        for name in ("here", "there"):
            (root / name).mkdir()
        give(Path(folder))
        yield root


def seen(count: int, root: Path, mounts: str, text: str, old: bool, options: str = "") -> str:
    """All that the containers have said, each line once, with the errors of those not made."""
    body = f"""
        from collections import Counter
        said = Counter()
        for number in range({count} * 50):
            if number >= {count} and len([x for x in said if x.startswith("found")]) == 2:
                break
            try:
                done = nsdemo.run(["sh", "-c", {text!r}], root={str(root)!r}, mounts={mounts},
                    capabilities=[], no_new_privs=True, net=True, stdin=nsdemo.DEVNULL,
                    capture_output=True, text=True{options})
                said.update((done.stdout + done.stderr).splitlines())
            except nsdemo.NamespaceError as error:
                said["refused " + str(error.errno)] += 1
        report(said=said)
    """
    under = refusing("move_mount", "ENOSYS") if old else ()
    said: Counter[str] = script(body, under=under, timeout=20 + count).report["said"]
    assert {"found here", "found there"} <= said.keys(), "the attack never met a launch"
    for line in ("found here", "found there"):
        said.pop(line)
    return "\n".join(line for line in said if not line.startswith("refused"))


def empty(root: Path) -> bool:
    """Nothing was made in a directory of the owner's."""
    return not any([*(root / "here").iterdir(), *(root / "there").iterdir()])


@counts
@both_ways
def test_a_masked_proc_is_masked(count: int, old: bool, root: Path, swapper: Path) -> None:
    """Before: 2 to 8 of 100 containers could write core_pattern."""
    other = root.parent / "other"
    (other / "fs").mkdir(parents=True)
    give(other)
    text = """
        for d in /here /there; do
            cd $d && [ -e self/status ] || continue
            echo found ${d#/}
            (: >>sys/kernel/core_pattern) 2>&- && echo core_pattern is open
            [ -s kcore ] && echo kcore is there
        done
    """
    mounts = f"[nsdemo.Bind({str(other)!r}, '/there'), nsdemo.Proc('/here', masked=True)]"
    with swapping(swapper, (root, "here", "there")):
        assert seen(count, root, mounts, text, old, ", mount_proc=False") == ""


@counts
@both_ways
def test_a_masked_sysfs_is_masked(count: int, old: bool, root: Path, swapper: Path) -> None:
    other = root.parent / "other"
    (other / "fs").mkdir(parents=True)
    give(other)
    text = """
        for d in /here /there; do
            cd $d && [ -e class/net ] || continue
            echo found ${d#/}
            ls firmware
            (: >>kernel/mm/transparent_hugepage/enabled) 2>&- && echo it is open
        done
    """
    mounts = f"[nsdemo.Bind({str(other)!r}, '/there'), nsdemo.Sysfs('/here', masked=True)]"
    with swapping(swapper, (root, "here", "there")):
        assert seen(count, root, mounts, text, old) == ""


@counts
@both_ways
def test_a_dev_is_whole(count: int, old: bool, root: Path, swapper: Path) -> None:
    """And its devices and links are made nowhere else."""
    text = """
        for d in /here /there; do
            cd $d; [ -e fd ] || [ -e null ] || [ -e pts ] || continue
            echo found ${d#/}
            for name in null zero full random urandom tty ptmx; do
                [ -c $name ] || echo $name is not there
            done
            for name in fd stdin stdout stderr; do
                [ -L $name ] || echo $name is not there
            done
            echo x >shm/x
        done
    """
    with swapping(swapper, (root, "here", "there")):
        assert seen(count, root, "[nsdemo.Dev('/here')]", text, old) == ""
    assert empty(root)


@counts
@both_ways
def test_what_covers_a_part_of_a_bind_covers_it(
    count: int, old: bool, root: Path, swapper: Path
) -> None:
    data = root.parent / "data"
    (data / "secret").mkdir(parents=True)
    (data / "secret" / "file").write_text("the secret\n")
    (data / "closed").mkdir()
    text = """
        for d in /here /there; do
            cd $d && [ -e closed ] || continue
            echo found ${d#/}
            cat secret/file 2>&-
            (echo x >closed/x) 2>&- && echo closed is open
        done
    """
    mounts = f"""[nsdemo.Bind({str(data)!r}, '/here'), nsdemo.Tmpfs('/here/secret'),
        nsdemo.Bind({str(data / "closed")!r}, '/here/closed', readonly=True)]"""
    with swapping(swapper, (root, "here", "there")):
        assert seen(count, root, mounts, text, old) == ""
    assert empty(root)
    assert not any((data / "closed").iterdir())


@counts
@both_ways
def test_an_overlay_lies_over_its_own_memory(
    count: int, old: bool, root: Path, swapper: Path
) -> None:
    lower = root.parent / "lower"
    lower.mkdir()
    (lower / "file").write_text("below\n")
    text = """
        for d in /here /there; do
            cd $d && [ -e file ] || continue
            echo found ${d#/}
            echo x >new; rm file; ls upper work 2>&-
        done
    """
    mounts = f"[nsdemo.Overlay('/here', [{str(lower)!r}])]"
    with swapping(swapper, (root, "here", "there")):
        assert seen(count, root, mounts, text, old) == ""
    assert empty(root)
    assert [path.name for path in lower.iterdir()] == ["file"]


@counts
@both_ways
def test_the_root_is_the_one_that_was_opened(
    count: int, old: bool, root: Path, swapper: Path
) -> None:
    """overlay=True, and a directory in the root's place: nothing is made in that, and nothing of
    it is seen."""
    outside = root.parent / "outside"
    shutil.copytree(root, outside, symlinks=True)
    (outside / "file").write_text("ours\n")
    (root / "mark").touch()
    give(root.parent)
    text = "[ -e /mark ] && [ ! -e /file ] && echo found here; echo x 2>&- >/new; ls /work"
    text += " /upper 2>&-; [ ! -e /mark ] && [ -e /file ] && echo found there; exit 0"
    with swapping(swapper, (root.parent, "root", "outside")):
        assert seen(count, root, "()", text, old, ", overlay=True") == ""
    for folder in (root, outside):
        assert not {"new", "upper", "work"} & {path.name for path in folder.iterdir()}
