"""Every option of unshare(1), nsenter(1), chroot(1) and bwrap(1) has its row in PARITY.md.

The rows are in rows_util_linux.py and rows_bwrap.py; PARITY.md is made of them:

    .venv/bin/python tests/parity/document.py --write

A row with a keyword is compared with the original in the eyes of the kernel.
"""

from __future__ import annotations

import gc
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from document import PAGE, TABLES, page
from rows_own import OWN, without_a_row
from support import IS_ROOT
from targets import tool
from view import Ground, Row

import nsdemo
from nsdemo._request.option import Flag, option
from nsdemo._request.options import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.usefixtures("ordinary_users_may")
COMPARED = [
    pytest.param(row, id=f"{name}{row.option}")
    for name, rows in TABLES.items()
    for row in rows
    if row.compare is not None
]


@pytest.fixture(scope="module")
def ground(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A root with the places that are mounted on, an empty directory, a container to enter."""
    folder = tmp_path_factory.mktemp("parity")
    with nsdemo.Rootfs.busybox() as made:
        root = Path(made)
        for name in ("mnt", "tmp"):
            (root / name).mkdir(exist_ok=True)
        (root / "null").touch()
        everything = {"user": True, "net": True, "cgroup": True, "time": True}
        box = nsdemo.spawn(["sleep", "1000"], root=rootfs, hostname="parity", **everything)
        ground = Ground(root, folder, box)
        with box:
            yield ground
        del box, ground.box  # its pidfd is closed now, not in the middle of another test
        gc.collect()


def options_of(name: str) -> set[str]:
    """The long options that a tool's --help lists."""
    done = subprocess.run(
        [tool(name), "--help"], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    return {
        found[1]
        for line in done.stdout.splitlines()
        if (found := re.match(r"\s+(?:-\w[,.] )?\s*(--[a-z][a-z0-9-]*)", line))
    }


@pytest.mark.parametrize("name", TABLES)
def test_no_option_is_left_out(name: str) -> None:
    rows = {row.option: row for row in TABLES[name]}
    assert len(rows) == len(TABLES[name])
    installed = options_of(name)
    assert len(installed) >= 5
    assert installed <= rows.keys()
    gone = {row.option for row in rows.values() if not row.newer} - installed
    assert gone == set(), "rows of options that the installed tool does not have"


def test_a_row_is_compared_or_says_why_not() -> None:
    for name, rows in TABLES.items():
        for row in rows:
            compared = row.compare is not None or row.where != ""
            assert bool(row.what) == compared, row
            if row.where:
                file, _, test = row.where.partition("::")
                assert f"\ndef {test}(" in (TESTS / file).read_text(), row
            elif not compared and not row.newer:
                assert row.answer.startswith(("no: ", "`nsdemo ")), (name, row)


@pytest.mark.parametrize("row", COMPARED)
def test_the_kernel_sees_the_same(row: Row, ground: Ground) -> None:
    if row.root and not IS_ROOT:
        pytest.skip("only root has the power to compare it")
    assert row.compare is not None
    row.compare(ground)


ROWS = {row.option for rows in TABLES.values() for row in rows}


def test_every_flag_of_the_table_of_options_is_in_the_page() -> None:
    assert without_a_row(OPTIONS, ROWS) == {}
    names = {name for option in OPTIONS for flag in option.flags for name in flag.names.split()}
    assert OWN.keys() <= names
    assert not OWN.keys() & ROWS


def test_a_flag_without_a_row_is_named() -> None:
    row = option("colour: str | None = None", "of the walls.", Flag("--colour", "the walls'"))
    says = "--colour: say in tests/parity/rows_own.py what is like it"
    assert without_a_row([*OPTIONS, row], ROWS) == {"--colour": says}


def test_the_page_is_made_of_the_rows() -> None:
    assert PAGE.read_text() == page(), "python tests/parity/document.py --write"
