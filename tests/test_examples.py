"""Every example of a public docstring is executed, by the real kernel.

In all of them `nsdemo` and `os` are imported, and what the page of their module says is; `rootfs`
is a root made from programs of this machine, and `box` a container in it that sleeps.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import io
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support import IS_ROOT, eventually

import nsdemo
from nsdemo import check, flags, kernel, notebook

MODULES = ("", *("check", "flags", "kernel", "lessons", "mounts", "notebook", "rootfs"))
PROGRAMS = ("bash", "cat", "hostname", "ls", "sh", "sleep", "touch")

# Public functions and classes without an example, and why.
WITHOUT = {
    "CalledProcessError": "subprocess's own",
    "TimeoutExpired": "subprocess's own",
    "check.Handle": "a protocol: the example of check.s2 is given one",
    "flags.seconds": "as flags.number, for argparse",
    "kernel.IdMaps": "what kernel.id_maps returns",
    "kernel.Keepers": "what kernel.keepers returns",
    "kernel.Mount": "what kernel.mounts returns",
    "kernel.Power": "what kernel.power returns",
    "kernel.Process": "what kernel.process returns",
    "kernel.Root": "what kernel.root returns",
    "kernel.UserNamespace": "what kernel.owner returns",
    "lessons.engine_container": "needs Docker or Podman, and prints what it asks of them",
    "mounts.Mount": "what the kinds of mounts.Bind have in common",
    "notebook.show_errors": "needs the shell of IPython",
}

# What an ordinary user is refused, and by whom.
ROOT_ALONE = {
    "release": "only root mounts in the mount namespace of everybody",
    "check.c6": "only root mounts in the mount namespace of everybody",
}

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def own(value: Any) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class."""
    for name, member in vars(value).items():
        member = getattr(member, "__func__", member)
        if not name.startswith("_") and (isinstance(member, property) or callable(member)):
            yield name, member


def documented() -> dict[str, tuple[ModuleType, Any]]:
    """All that is public and may have an example: modules, functions, classes, their members."""
    found: dict[str, tuple[ModuleType, Any]] = {}
    seen: set[int] = set()
    for short in MODULES:
        module = importlib.import_module(f"nsdemo.{short}".rstrip("."))
        found[short or "nsdemo"] = (module, module)
        for public in module.__all__:
            value = getattr(module, public)
            if id(value) in seen or not (inspect.isclass(value) or inspect.isroutine(value)):
                continue
            seen.add(id(value))
            name = f"{short}.{public}".lstrip(".")
            found[name] = (module, value)
            if inspect.isclass(value):
                found |= {f"{name}.{each}": (module, member) for each, member in own(value)}
    return found


DOCUMENTED = documented()


def is_member(name: str) -> bool:
    """Of a class: Container.wait, kernel.Process.args."""
    return name.rpartition(".")[0] in DOCUMENTED.keys() - {"nsdemo", *MODULES}


def examples(name: str) -> list[doctest.Example]:
    text = inspect.getdoc(DOCUMENTED[name][1]) or ""
    return doctest.DocTestParser().get_examples(text, name)


@pytest.fixture(scope="module")
def root() -> Iterator[nsdemo.Rootfs]:
    with nsdemo.Rootfs.from_host(PROGRAMS) as made:
        yield made


@pytest.mark.parametrize("name", [name for name in DOCUMENTED if examples(name)])
def test_example(
    name: str, root: nsdemo.Rootfs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in ROOT_ALONE and not IS_ROOT:
        pytest.skip(ROOT_ALONE[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctest._SpoofOut, "encoding", "utf-8", raising=False)  # type: ignore[attr-defined]
    module = DOCUMENTED[name][0]
    names = {
        **{"nsdemo": nsdemo, "os": os, "rootfs": root},
        **{"check": check, "flags": flags, "kernel": kernel, "notebook": notebook},
        **{each: getattr(module, each) for each in module.__all__ if module is not nsdemo},
    }
    said = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    with nsdemo.spawn(["sleep", "60"], root=root, hostname="boxy", net=True) as box:
        # Its name is there a moment after its execution is noticed.
        assert eventually(lambda: b"sleep" in Path(f"/proc/{box.pid}/cmdline").read_bytes())
        test = doctest.DocTest(examples(name), {**names, "box": box}, name, None, 0, None)
        result = runner.run(test, out=said.write)
        box.kill()
    assert result.failed == 0, said.getvalue()
    assert result.attempted == len(examples(name))


def test_every_function_and_class_has_an_example() -> None:
    """Of a class, one; its methods may have their own."""
    modules = {"nsdemo", *MODULES}
    public = [name for name in DOCUMENTED if name not in modules and not is_member(name)]
    assert {name for name in public if not examples(name)} == {*WITHOUT}


def test_no_example_is_skipped() -> None:
    for name in DOCUMENTED:
        for example in examples(name):
            assert doctest.SKIP not in example.options, name
    assert {*ROOT_ALONE} <= {name for name in DOCUMENTED if examples(name)}
