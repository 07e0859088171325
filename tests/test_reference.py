"""docs/build writes a page for each public module, and no public name is missing."""

from __future__ import annotations

import html
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import nsdemo

DOCS = Path(__file__).resolve().parent.parent / "docs"
MODULES = ("", *("check", "flags", "kernel", "lessons", "mounts", "notebook", "rootfs"))

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the sources are not here")


def module(name: str) -> ModuleType:
    return importlib.import_module(f"nsdemo.{name}" if name else "nsdemo")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The text of each page."""
    if importlib.util.find_spec("pdoc") is None:
        pytest.skip("there is no pdoc (pip install pdoc)")
    folder = tmp_path_factory.mktemp("html")
    command = [sys.executable, DOCS / "reference.py", folder]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"{folder / 'nsdemo.html'}\n"
    assert ran.stderr == ""
    return {
        name: (folder / f"nsdemo{'/' * bool(name)}{name}.html").read_text(encoding="utf-8")
        for name in MODULES
    }


def test_every_module_with_public_names_is_written() -> None:
    """A module without an underscore, in the package itself, that says what is public."""
    package = Path(nsdemo.__file__).parent
    found = {path.stem for path in package.glob("[a-z]*.py")}
    found |= {path.parent.name for path in package.glob("[a-z]*/__init__.py")}
    assert {name for name in found if hasattr(module(name), "__all__")} == {*MODULES} - {""}


def signature(page: str, name: str) -> str:
    """What the page shows as the head of a function."""
    head = re.search(rf'<section id="{name}">.*?"headerlink"', page, re.DOTALL)
    assert head is not None, name
    return html.unescape(re.sub(r"<[^>]+>", "", head[0]))


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_its_place(name: str, pages: dict[str, str]) -> None:
    page = pages[name]
    for public in module(name).__all__:
        value = getattr(module(name), public)
        assert re.search(rf'id="{public}"', page), public
        if inspect.isfunction(value):
            shown = signature(page, public)
            for parameter in inspect.signature(value).parameters.values():
                assert f"{parameter.name}:" in shown, f"{public}: {parameter.name} has no type"
            assert ") ->" in shown, public
        elif inspect.isclass(value):
            own = {each for each in vars(value) if not each.startswith("_")}
            for member in own:
                assert f'id="{public}.{member}"' in page, f"{public}.{member}"


def test_without_pdoc_it_says_what_to_install() -> None:
    command = [sys.executable, "-I", "-S", DOCS / "reference.py"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert f"install it with: {sys.executable} -m pip install -e " in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
