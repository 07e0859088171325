"""The C tests of the core and of the steps, under AddressSanitizer and UBSan."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import nsdemo

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent / "csrc"
WARNINGS = (
    "-Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes "
    "-Wundef -Wvla -Wformat=2 -Wswitch-enum -Werror"
).split()
SANITIZED = (
    "-std=c11 -O1 -g -D_GNU_SOURCE -fno-omit-frame-pointer "
    "-fsanitize=address,undefined -fno-sanitize-recover=all"
).split()

# What each program is linked with.
BUILDER = ["core/builder.c", "steps/check.c"]
_CORE = ("files", "namespaces", "process", "recipes", "users", "where")
CORE = [*BUILDER, *(f"core/{name}.c" for name in _CORE)]
ALL_OF_CORE = sorted(str(path.relative_to(CSRC)) for path in (CSRC / "core").rglob("*.c"))
STEPS = sorted(f"steps/{path.name}" for path in (CSRC / "steps").glob("*.c"))
PROGRAMS = {
    "test_builder": BUILDER,
    "test_flags": [name for name in STEPS if name != "steps/attributes.c"],
    "test_namespaces": ["core/namespaces.c"],
    "test_recipes": CORE,
    "test_launch": [*ALL_OF_CORE, *STEPS],
    "test_steps": STEPS,
    "test_trace": [*ALL_OF_CORE, *STEPS],
}
SKIPPED = 77

pytestmark = pytest.mark.skipif(not CSRC.is_dir(), reason="the C sources are not here")


@pytest.fixture(scope="module", params=["gcc", "clang"])
def compiler(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A compiler that can link the sanitizers."""
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name} (on Debian: apt-get install {name})")
    probe = tmp_path_factory.mktemp(name) / "probe"
    command = [name, "-fsanitize=address,undefined", "-x", "c", "-", "-o", str(probe)]
    if subprocess.run(command, input=b"int main(void){return 0;}", capture_output=True).returncode:
        pytest.skip(f"{name} has no sanitizers (for clang on Debian: libclang-rt-14-dev)")
    return name


class Objects:
    """What a compiler has made of each source, made when first asked for: programs share them."""

    def __init__(self, compiler: str, folder: Path) -> None:
        self.compiler = compiler
        self.folder = folder
        self.flags = SANITIZED
        if place := os.environ.get("NSDEMO_COVERAGE"):  # for gcov: .ci/long
            self.folder = Path(place)
            self.folder.mkdir(exist_ok=True)
            self.flags = [*SANITIZED, "--coverage"]
        self._made: dict[Path, Path] = {}

    def of(self, sources: list[Path]) -> list[Path]:
        new = [source for source in sources if source not in self._made]
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            self._made.update(zip(new, pool.map(self._compile, new), strict=True))
        return [self._made[source] for source in sources]

    def _compile(self, source: Path) -> Path:
        target = self.folder / f"{source.parent.name}-{source.stem}.o"
        includes = [f"-I{CSRC}", f"-I{HERE / 'c'}"]
        command = [self.compiler, *self.flags, *WARNINGS, *includes, "-c", source, "-o", target]
        subprocess.run(command, check=True)
        return target

    def link(self, program: str) -> Path:
        sources = [HERE / "c" / f"{program}.c", *(CSRC / name for name in PROGRAMS[program])]
        extra = []
        if program in ("test_launch", "test_trace"):
            sources.append(self._image())
            extra = ["-pthread"]
        if program == "test_launch":
            extra.append("-Wl,--wrap=clone")
        target = self.folder / program
        command = [self.compiler, *self.flags, *self.of(sources), *extra, "-o", target]
        subprocess.run(command, check=True)
        return target

    def _image(self) -> Path:
        """The launcher that is installed, as the C file that the core links."""
        source = self.folder / "image.c"
        if not source.exists():
            data = Path(nsdemo.__file__).with_name("_launcher").read_bytes()
            source.write_text(
                '#include "core/launch/image.h"\n'
                f"const size_t nsd_image_size = {len(data)};\n"
                f"const unsigned char nsd_image[] = {{{','.join(map(str, data))}}};\n"
            )
        return source


@pytest.fixture(scope="module")
def objects(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    return Objects(compiler, tmp_path_factory.mktemp(f"objects-{compiler}"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(objects: Objects, program: str) -> None:
    environment = os.environ | {
        "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=0:abort_on_error=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    ran = subprocess.run(
        [objects.link(program)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if ran.returncode == SKIPPED:
        pytest.skip(ran.stdout.splitlines()[-1])
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "runtime error" not in ran.stderr
    assert "Sanitizer" not in ran.stderr, ran.stderr


def test_every_test_program_is_built() -> None:
    assert {path.stem for path in (HERE / "c").glob("test_*.c")} == set(PROGRAMS)
