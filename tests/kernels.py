"""A real Jupyter kernel for the tests: cells in, messages out, one by one and as they come."""

from __future__ import annotations

import contextlib
import os
import queue
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.manager import KernelManager
from jupyter_core.utils import ensure_event_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT = 30.0

# The one event loop that all clients share lives as long as this process: before any test.
ensure_event_loop()


class Cell:
    """A cell that was sent to the kernel, and what has come back so far."""

    def __init__(self, kernel: Kernel, id: str) -> None:
        self._kernel = kernel
        self.id = id
        self.stdout = self.stderr = ""
        self.data: list[dict[str, Any]] = []  # what was displayed: MIME type -> content
        self.error = ""  # the name of the exception
        self.traceback = ""
        self.done = False

    def until(self, check: Callable[[Cell], Any], timeout: float = TIMEOUT) -> Cell:
        """Take messages until check(cell) is true."""
        end = time.monotonic() + timeout
        while not check(self):
            self._kernel.take(max(0.01, end - time.monotonic()))
            assert time.monotonic() < end, f"never came: {vars(self)}"
        return self

    def finish(self, timeout: float = TIMEOUT) -> Cell:
        """Take messages until the cell has ended."""
        return self.until(lambda cell: cell.done, timeout)

    def take(self, kind: str, content: dict[str, Any]) -> None:
        if kind == "stream":
            name = content["name"]
            setattr(self, name, getattr(self, name) + content["text"])
        elif kind in ("display_data", "execute_result"):
            self.data.append(content["data"])
        elif kind == "error":
            self.error = content["ename"]
            self.traceback = "\n".join(content["traceback"])
        elif kind == "status":
            self.done = content["execution_state"] == "idle"


class Kernel:
    """A running kernel."""

    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        self._cells: dict[str, Cell] = {}
        self._connect()

    def _connect(self) -> None:
        self.client = self.manager.blocking_client()
        self.client.start_channels(hb=False, stdin=False, control=False)
        self.client.wait_for_ready(timeout=60)

    @property
    def pid(self) -> int:
        pid = self.manager.provisioner.process.pid  # type: ignore[union-attr]
        assert isinstance(pid, int)
        return pid

    def start(self, code: str) -> Cell:
        """Send a cell, and do not wait for its end."""
        cell = Cell(self, self.client.execute(code))
        self._cells[cell.id] = cell
        return cell

    def run(self, code: str, timeout: float = TIMEOUT) -> Cell:
        """Run a cell to its end."""
        return self.start(code).finish(timeout)

    def fine(self, code: str) -> Cell:
        """Run a cell that is to succeed."""
        cell = self.run(code)
        assert not cell.error, cell.traceback
        return cell

    def take(self, timeout: float) -> None:
        """Take one message, if there is one in time."""
        with contextlib.suppress(queue.Empty):
            message = self.client.get_iopub_msg(timeout=timeout)
            cell = self._cells.get(message["parent_header"].get("msg_id", ""))
            if cell is not None:
                cell.take(message["msg_type"], message["content"])

    def complete(self, code: str) -> list[str]:
        """What Tab would offer at the end of this code's first line."""
        position = len(code.partition("\n")[0])
        answer = self.client.complete(code, position, reply=True, timeout=TIMEOUT)
        return list(answer["content"]["matches"])

    def restart(self) -> None:
        """Restart it as the button "Restart" would if it hung: by SIGKILL."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=True)
        self._connect()


@contextlib.contextmanager
def running_kernel(folder: Path) -> Iterator[Kernel]:
    """A kernel of this environment, whose working directory and files are in a folder."""
    places = ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR")
    ours = {name: str(folder / name.lower()) for name in places}
    manager = KernelManager(kernel_name="python3", transport="ipc")
    manager.connection_file = str(folder / "connection.json")
    manager.start_kernel(cwd=str(folder), env={**os.environ, **ours})
    kernel = None
    try:
        kernel = Kernel(manager)
        yield kernel
    finally:
        if kernel is not None:
            kernel.client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
        manager.context.destroy(linger=0)
