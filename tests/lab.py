"""A real JupyterLab, started by ``nsdemo learn``, and a real Chromium that looks at it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import IMPORTABLE, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Locator, Page

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")

# What would make the browser ask questions, and cells that exist only while they are in sight.
SETTINGS = {
    "apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "notebook-extension/tracker": {"windowingMode": "none"},
}


MEASURE = """drawings => drawings.map(drawing => {
    const {width, height} = drawing.getBoundingClientRect();
    const title = drawing.querySelector("title");
    return {width, height, title: title ? title.textContent : ""};
})"""


def find_chromium() -> str | None:
    """The machine's Chromium."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


def private_places(folder: Path) -> dict[str, str]:
    """An environment in which Jupyter finds nothing of the user's, and leaves nothing."""
    names = ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR")
    names += ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR", "HOME")
    places = {name: folder / name.lower() for name in names}
    for place in places.values():
        place.mkdir(exist_ok=True)
    found = {**os.environ, **{name: str(place) for name, place in places.items()}}
    return {**found, "PATH": without_engines(folder / "bin")}


def without_engines(folder: Path) -> str:
    """A PATH with all that is in ours, but for the container engines.

    Lesson 3 uses one that it finds, and Podman leaves a process of its own behind, by design.
    """
    folder.mkdir(exist_ok=True)
    for directory in os.get_exec_path():
        for name in os.listdir(directory) if os.path.isdir(directory) else ():
            if name not in ("docker", "podman") and not os.path.lexists(folder / name):
                (folder / name).symlink_to(os.path.join(directory, name))
    return str(folder)


def descendants(pid: int) -> dict[int, str]:
    """The processes below one, each with the moment it began."""
    found: dict[int, str] = {}
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            text = Path(f"/proc/{pid}/task/{thread}/children").read_text()
            for child in map(int, text.split()):
                found[child] = began(child)
                found |= descendants(child)
    return found


def began(pid: int) -> str:
    """When a process began, which tells it from a later one with its number; "" if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


class Lab:
    """A running server.

    Attributes:
        folder: where the notebooks are.
        seen: all processes that were ever noticed below it.
    """

    def __init__(self, process: subprocess.Popen[str], folder: Path, log: Path) -> None:
        self.process = process
        self.folder = folder
        self._log = log
        self.seen: dict[int, str] = {}
        self.url = ""
        assert eventually(self._find_url, 60), log.read_text()

    def _find_url(self) -> bool:
        found = re.search(r"http://127\.0\.0\.1:(\d+)/\S*\?token=\w+", self._log.read_text())
        if found is None:
            return False
        self.url = found[0]
        with socket.socket() as probe:  # the address is printed a little before it is true
            return probe.connect_ex(("127.0.0.1", int(found[1]))) == 0

    def look(self) -> None:
        """Note who is there now."""
        self.seen |= descendants(self.process.pid)

    def left(self) -> list[int]:
        """Those of the noticed processes that still live."""
        return [pid for pid, moment in self.seen.items() if began(pid) == moment != ""]


@contextlib.contextmanager
def running_lab(folder: Path, *words: str) -> Iterator[Lab]:
    """``nsdemo learn`` with a folder of its own; in the end it is told to end, as by Ctrl-C."""
    environment = private_places(folder)
    for name, content in SETTINGS.items():
        place = folder / "jupyterlab_settings_dir" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(content))
    notebooks, log = folder / "notebooks", folder / "log"
    command = [sys.executable, "-m", "nsdemo", "learn", str(notebooks), "--no-browser"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--port", str(free_port()), *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env={**environment, "PYTHONPATH": IMPORTABLE},
            start_new_session=True,
        )
    try:
        yield Lab(process, notebooks, log)
    finally:
        try:
            # Jupyter may miss a signal that comes while it begins.
            for _ in range(3):
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(15)
            assert process.returncode is not None, "the server was told to end, and did not"
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def running_browser(executable: str) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    # Chromium's own sandbox is made of namespaces, too, and refuses to be root's.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=options)
        try:
            yield browser
        finally:
            browser.close()


class Notebook:
    """A notebook that is open in the browser."""

    def __init__(self, page: Page, lab: Lab, name: str) -> None:
        self.page = page
        self.lab = lab
        # "reset": without the tabs of the test before.
        page.goto(re.sub(r"/lab\S*\?", f"/lab/tree/{name}?reset&", lab.url))
        self.panel = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
        self.code.first.wait_for(timeout=60_000)
        self._idle.wait_for(timeout=60_000)

    @property
    def _idle(self) -> Locator:
        """The status bar, if it says that there is a kernel with nothing to do."""
        return self.page.locator("#jp-main-statusbar").get_by_text("| Idle")

    @property
    def code(self) -> Locator:
        """Its code cells."""
        return self.panel.locator(".jp-CodeCell")

    def cell(self, text: str) -> Locator:
        """The first code cell with this in its code."""
        return self.code.filter(has=self.page.locator(".jp-InputArea", has_text=text)).first

    def menu(self, name: str, entry: str) -> None:
        self.page.locator(".lm-MenuBar-itemLabel", has_text=re.compile(f"^{name}$")).click()
        self.page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{entry}$")).click()

    def run_all(self) -> None:
        """By the menu; returns when every cell has run."""
        before = self._prompts()
        self.menu("Run", "Run All Cells")
        self._until(lambda: all(map(_has_run, before, self._prompts())), 120)

    def run(self, cell: Locator, wait: bool = True) -> None:
        """With Shift+Enter; returns when it has run."""
        prompt = cell.locator(".jp-InputPrompt")
        before = prompt.inner_text()
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")
        if wait:
            self._until(lambda: _has_run(before, prompt.inner_text()), 60)

    def _prompts(self) -> list[str]:
        return self.code.locator(".jp-InputPrompt").all_inner_texts()

    def write(self, cell: Locator, code: str) -> None:
        """Replace a cell's code."""
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(code)

    def add(self, code: str) -> Locator:
        """A new cell at the end."""
        number = self.code.count()
        self.panel.locator(".jp-Notebook-footer").click()
        cell = self.code.nth(number)
        cell.wait_for()
        self.write(cell, code)
        return cell

    def wait(self) -> None:
        """Until the kernel has nothing to do."""
        self._until(lambda: "[*]:" not in self._prompts() and self._idle.count(), 60)

    def _until(self, check: Callable[[], Any], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < end, f"the cells do not come to an end: {self._prompts()}"
            self.lab.look()
            self.page.wait_for_timeout(50)

    def outputs(self, cell: Locator) -> str:
        """The text below a cell."""
        return cell.locator(".jp-OutputArea").first.inner_text()

    def errors(self) -> list[str]:
        """Tracebacks, as they are shown."""
        kind = "application/vnd.jupyter.error"
        return self.panel.locator(f'[data-mime-type="{kind}"]').all_inner_texts()

    def pictures(self) -> list[dict[str, Any]]:
        """The size on the screen of every drawing, and its title for a screen reader."""
        drawings = self.panel.locator(".jp-OutputArea svg[role=img]")
        found: list[dict[str, Any]] = drawings.evaluate_all(MEASURE)
        return found


def _has_run(before: str, now: str) -> bool:
    """Does a prompt, "[ ]:", "[*]:" or "[7]:", say that the cell has run since?"""
    return now != before and now[1:-2].isdecimal()
