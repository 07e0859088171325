"""docs/PARITY.md, made of the rows: python tests/parity/document.py [--write]."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rows_bwrap import BWRAP
from rows_own import OWN
from rows_util_linux import CHROOT, NSENTER, UNSHARE
from view import Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "PARITY.md"
TABLES = {"unshare": UNSHARE, "nsenter": NSENTER, "chroot": CHROOT, "bwrap": BWRAP}
SAYS = {
    "unshare": "unshare(1): `nsdemo.spawn` and `nsdemo.run`",
    "nsenter": "nsenter(1): `nsdemo.enter`",
    "chroot": "chroot(1): `nsdemo.chroot_run`",
    "bwrap": "bwrap(1): `nsdemo.spawn` and `nsdemo.run`",
}
HEAD = """\
# Every option of the command-line tools, and what does it here

Made by `python tests/parity/document.py --write` from the rows in `tests/parity`. A test compares
this page with them, the rows with the `--help` of the tools (util-linux 2.38, coreutils 9,
bubblewrap 0.8), and each row that names what is compared with its tool: both execute the same
command, and the kernel must show the same. Where a row says "no:", it says why. *newer* are
options of later versions (util-linux 2.42, bubblewrap 0.11).
"""


def table(rows: list[Row]) -> str:
    lines = ["| option | in nsdemo | compared |", "|---|---|---|"]
    for row in rows:
        option = f"`{row.option}`" + (" *newer*" if row.newer else "")
        where = f" (`tests/{row.where.partition('::')[0]}`)" if row.where else ""
        lines.append(f"| {option} | {row.answer} | {row.what}{where} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    sections = [f"## {SAYS[name]}\n\n{table(rows)}" for name, rows in TABLES.items()]
    own = "\n".join(["| flag | what is like it |", "|---|---|", *own_rows()]) + "\n"
    return "\n".join([HEAD, *sections, f"## Flags that are nsdemo's own\n\n{own}"])


def own_rows() -> list[str]:
    return [f"| `{flag}` | {answer} |" for flag, answer in OWN.items()]


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page())
    else:
        sys.stdout.write(page())
