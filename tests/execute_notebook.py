"""Execute a lesson in a real kernel, as a program: ``execute_notebook.py LESSON [CELLS]``.

The result is JSON on standard output: the notebook with its outputs, the seconds it took, and the
command lines of the processes that the kernel left behind. Every orphan becomes a child of this
program (PR_SET_CHILD_SUBREAPER), so none is overlooked, and none of somebody else's is counted.
With CELLS the kernel is killed, by SIGKILL, after so many code cells, as if the machine had done
it; without, it is asked to shut down after the last one, as Jupyter does. LEARNER=1 in the
environment leaves out the solutions, TWICE=1 runs every cell twice.
"""

from __future__ import annotations

import copy
import ctypes
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 5.0  # seconds for orphans to notice that they are to end
CELL_TIMEOUT = 60


def children() -> list[int]:
    """Our children that live; the others are reaped."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in map(int, found) if os.waitpid(pid, os.WNOHANG) == (0, 0)]


def left_behind(mine: set[int]) -> list[str]:
    """Command lines of the orphans that do not end by themselves."""
    end = time.monotonic() + PATIENCE
    while (left := set(children()) - mine) and time.monotonic() < end:
        time.sleep(0.02)
    return [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in sorted(left)]


def without_solutions(notebook: Any) -> None:
    """Make it the learner's copy."""
    cells = notebook.cells
    notebook.cells = [c for c in cells if "solution" not in c.metadata.get("tags", [])]


def execute(notebook: Any, cells: int | None) -> None:
    """Run all cells, or the first code cells and then kill the kernel."""
    client = NotebookClient(notebook, timeout=CELL_TIMEOUT, allow_errors=True)
    with client.setup_kernel(cwd=os.getcwd()):
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                if cells == 0:
                    client.km.provisioner.process.kill()
                    break
                client.execute_cell(cell, index)
                cells = None if cells is None else cells - 1


def main() -> None:
    """Execute and report."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    notebook = jupytext.read(sys.argv[1])
    if os.environ.get("LEARNER") == "1":
        without_solutions(notebook)
    if os.environ.get("TWICE") == "1":
        notebook.cells = [copy.deepcopy(cell) for cell in notebook.cells for _ in range(2)]
    mine = set(children())
    begin = time.monotonic()
    execute(notebook, int(sys.argv[2]) if len(sys.argv) > 2 else None)
    seconds = time.monotonic() - begin
    report = {
        "seconds": seconds,
        "left": left_behind(mine),
        "notebook": nbformat.writes(notebook),
    }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
