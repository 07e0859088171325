"""How the module is built, and what of libc may run where Python's memory is borrowed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from test_structure import CSRC, constant, in_checkout

from nsdemo import _core


def read_elf(option: str, *files: str | Path) -> str:
    if shutil.which("readelf") is None:
        pytest.skip("there is no readelf (on Debian: apt-get install binutils)")
    command = ["readelf", "--wide", option, *files]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


# The module


def test_all_of_libc_is_found_at_import() -> None:
    assert "BIND_NOW" in read_elf("--dynamic", _core.__file__)


def test_what_was_found_cannot_be_written_over() -> None:
    headers = read_elf("--program-headers", _core.__file__)
    assert " GNU_RELRO " in headers
    (stack,) = (line for line in headers.splitlines() if " GNU_STACK " in line)
    assert stack.split()[6] == "RW", "an executable stack"
    sections = read_elf("--section-headers", _core.__file__)
    assert " .got.plt " not in sections, "a table of functions that stays writable"


@in_checkout
def test_stacks_and_buffers_are_watched() -> None:
    symbols = read_elf("--dyn-syms", _core.__file__)
    assert "__stack_chk_fail" in symbols
    libc = Path(shutil.which("ldd") or "/nowhere")
    if not libc.is_file() or b"musl" not in libc.read_bytes():  # which has no checked functions
        assert re.search(r"__\w+_chk@", symbols)


# The vfork zone: child_* functions and all that they call

ZONE = re.compile(r"child_\w+|nsd_child_main")

# What else the child may need, and why that takes no lock, no errno and no memory.
MAY_BE_CALLED = {
    "memcpy": "a compiler writes it for an assignment",
    "memset": "a compiler writes it for an initializer",
    "strlen": "a compiler sees it in a loop",
    "__stack_chk_fail": "ends the process, whose stack is lost",
    "nsd_image": "the bytes of the launcher: setup.py writes them",
    "nsd_image_size": "their number",
    "_GLOBAL_OFFSET_TABLE_": "where the addresses are",
}


class Objects:
    """Which section of the core's object files needs which symbols."""

    def __init__(self, compiler: str, folder: Path) -> None:
        self.needs: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.places: dict[tuple[str, str], tuple[str, str]] = {}
        flags = [*constant("HARDENED"), "-std=c11", "-Os", "-fPIC", "-D_GNU_SOURCE", f"-I{CSRC}"]
        flags += ["-ffunction-sections", "-fdata-sections", "-c"]
        running = []
        for part in ("core", "steps"):
            (folder / part).mkdir()
            command = [compiler, *flags, *sorted((CSRC / part).rglob("*.c"))]
            running.append(subprocess.Popen(command, cwd=folder / part))
        assert [each.wait() for each in running] == [0, 0]
        for path in sorted(folder.rglob("*.o")):
            self._read(path)

    def _read(self, path: Path) -> None:
        name, section, numbers = f"{path.parent.name}/{path.name}", "", {}
        for line in read_elf("--section-headers", path).splitlines():
            if found := re.match(r"\s*\[\s*(\d+)\] (\S+)", line):
                numbers[found[1]] = found[2]
        for line in read_elf("--relocs", path).splitlines():
            if found := re.match(r"Relocation section '\.rela?(\.\S+)'", line):
                section = found[1]
            elif found := re.match(r"[0-9a-f]+ +[0-9a-f]+ +R_\S+ +[0-9a-f]+ +(\S+)", line):
                self.needs[name, section].add(found[1])
        for line in read_elf("--syms", path).splitlines():
            fields = line.split()
            if len(fields) == 8 and fields[6] in numbers:
                owner = "" if fields[4] == "GLOBAL" else name
                self.places[owner, fields[7]] = (name, numbers[fields[6]])

    def outside(self, roots: re.Pattern[str]) -> dict[str, str]:
        """Each symbol that no file has and that these functions reach, and who needs it."""
        waiting = [where for (_, name), where in self.places.items() if roots.fullmatch(name)]
        assert len(waiting) >= 5, "the zone is empty"
        seen, missing = set(waiting), {}
        while waiting:
            here = waiting.pop()
            for symbol in self.needs[here]:
                place = self.places.get((here[0], symbol)) or self.places.get(("", symbol))
                if place is None:
                    missing[symbol] = f"{here[0]} {here[1]}"
                elif place not in seen:
                    seen.add(place)
                    waiting.append(place)
        assert any(file.startswith("steps/") for file, _ in seen), "no step is reached"
        return missing


@in_checkout
def test_the_borrowed_child_calls_no_libc(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler (on Debian: apt-get install gcc)")
    missing = Objects(compiler, tmp_path).outside(ZONE)
    assert not {symbol: who for symbol, who in missing.items() if symbol not in MAY_BE_CALLED}
