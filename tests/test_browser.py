"""The course in a real JupyterLab, in a real Chromium: ``pytest --browser``.

What a learner does: run the lessons from top to bottom, look at the pictures, fail a challenge,
mend it, pass; interrupt a cell, restart the kernel, close everything.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

import pytest
from lab import Lab, Notebook, find_chromium, running_browser, running_lab
from support import eventually, new_marker, processes_with

from nsdemo import lessons

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("ordinary_users_may")]

LESSON_1, LESSON_2 = "01-chroot.ipynb", "02-container-by-hand.ipynb"
LESSON_3 = "03-join.ipynb"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("there is no Chromium (on Debian: apt-get install chromium)")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("there is no playwright (pip install 'nsdemo[browser]')")
    with running_browser(executable) as browser:
        yield browser


@pytest.fixture(scope="module")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One server for all tests; it and all that ever ran below it must be gone in the end."""
    with running_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab
        lab.look()
    assert len(lab.seen) > 5, "nothing was ever seen below the server: the test proves nothing"
    assert eventually(lambda: not lab.left()), lab.left()


@pytest.fixture
def page(browser: Browser, lab: Lab) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    page.set_default_timeout(20_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        yield page
        assert not errors
    finally:
        page.close()


def solution(lesson: str, challenge: str) -> str:
    """The code of the solution cell before ``check.CHALLENGE(...)``, from the lesson's text."""
    path = os.path.join(os.path.dirname(lessons.__file__), lesson.replace(".ipynb", ".md"))
    with open(path, encoding="utf-8") as file:
        before = file.read().partition(f"\ncheck.{challenge}(")[0]
    cell = before.rpartition(":tags: [solution]\n")[2]
    return cell.partition("```")[0].strip() + "\n"


def see_pictures(notebook: Notebook, least: int) -> None:
    pictures = notebook.pictures()
    assert len(pictures) >= least
    for picture in pictures:
        assert picture["width"] > 100, picture
        assert picture["height"] > 30, picture
        assert picture["title"], picture


def fail_then_pass(notebook: Notebook, lesson: str, challenge: str, starter: str) -> None:
    """The learner's first try is told what is missing; the solution passes."""
    verdict = notebook.cell(f"check.{challenge}(")
    text = notebook.outputs(verdict)
    assert "not yet" in text
    assert "✗ fail" in text
    attempt = notebook.cell(starter)
    notebook.run(attempt)  # the lesson's last cell has cleaned up
    notebook.write(attempt, solution(lesson, challenge))
    notebook.run(attempt)
    notebook.run(verdict)
    text = notebook.outputs(verdict)
    assert "✗ fail" not in text
    assert "passed" in text


def test_lesson_1_from_top_to_bottom(page: Page, lab: Lab) -> None:
    notebook = Notebook(page, lab, LESSON_1)
    assert notebook.panel.get_by_text('from_host(["bash"])').count() == 0  # the solution
    notebook.run_all()
    assert notebook.errors() == []
    see_pictures(notebook, 3)
    assert "result" in notebook.outputs(notebook.cell("check.c2("))
    fail_then_pass(notebook, LESSON_1, "c1", "my_root = nsdemo.Rootfs.from_host")


def test_lesson_2_from_top_to_bottom(page: Page, lab: Lab) -> None:
    notebook = Notebook(page, lab, LESSON_2)
    notebook.run_all()
    assert notebook.errors() == []
    see_pictures(notebook, 6)
    fail_then_pass(notebook, LESSON_2, "c3", "riddle = bash(")


def test_lesson_3_from_top_to_bottom(page: Page, lab: Lab) -> None:
    notebook = Notebook(page, lab, LESSON_3)
    notebook.run_all()
    assert notebook.errors() == []
    see_pictures(notebook, 4)
    assert "There is no container of an engine" in notebook.panel.inner_text()
    fail_then_pass(notebook, LESSON_3, "s2", "probes = {")


def test_a_link_leads_to_the_next_lesson(page: Page, lab: Lab) -> None:
    notebook = Notebook(page, lab, LESSON_1)
    notebook.panel.get_by_role("link", name="lesson 2, a container by hand").click()
    page.locator(".lm-TabBar-tab.lm-mod-current", has_text=LESSON_2).wait_for()


def test_interrupt_and_restart(page: Page, lab: Lab) -> None:
    """The buttons: a running cell is interrupted, its container ends and the other one does not;
    then the kernel is restarted, and nothing is left."""
    marker, other = new_marker(), new_marker()
    notebook = Notebook(page, lab, LESSON_3)
    notebook.run(notebook.add("%load_ext nsdemo\nkept = 42"))
    notebook.run(notebook.add(f"%%spawn --bg --save other\nsleep {other}"))
    cell = notebook.add(f"%%spawn --hostname boxy\necho here on $(hostname)\nsleep {marker}")
    notebook.run(cell, wait=False)
    cell.get_by_text("here on boxy").wait_for()  # live: the script is still running
    assert processes_with(marker)
    lab.look()
    page.locator("[data-command='notebook:interrupt-kernel']").first.click()
    notebook.wait()
    assert "KeyboardInterrupt: the script was interrupted" in notebook.outputs(cell)
    assert not processes_with(marker)
    still = notebook.add("print(kept, other.poll())")
    notebook.run(still)
    assert notebook.outputs(still).strip() == "42 None"
    assert processes_with(other)
    page.locator("[data-command='notebook:restart-kernel']").first.click()
    page.locator(".jp-Dialog .jp-mod-accept").click()
    assert eventually(lambda: not processes_with(other))
    notebook.wait()
    gone = notebook.add("print(kept)")
    notebook.run(gone)
    assert "NameError" in notebook.outputs(gone)


def test_a_flood_leaves_the_page_alive(page: Page, lab: Lab) -> None:
    notebook = Notebook(page, lab, LESSON_3)
    notebook.run(notebook.add("%load_ext nsdemo"))
    flood = notebook.add("%%spawn\nyes | head -c 100000000; echo; echo the end")
    notebook.run(flood)
    text = notebook.outputs(flood)
    assert text.endswith("the end\n")
    assert "bytes are not shown" in text
    after = notebook.add("print(6 * 7)")
    notebook.run(after)
    assert notebook.outputs(after).strip() == "42"
