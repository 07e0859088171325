"""What reads bytes of others, in C, with anything at all: libFuzzer under ASan and UBSan.

tests/fuzz has a fuzzer for each, and the inputs that found the most so far. Of the steps, sys.h
is replaced by a kernel that answers as the fuzzer likes, so that what fails is not the machine.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import HERE, SLOW

sys.path.append(str(HERE / "fuzz"))
import fuzzers as fuzz

pytestmark = pytest.mark.skipif(not fuzz.CSRC.is_dir(), reason="the C sources are not here")


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    if shutil.which("clang") is None:
        pytest.skip("there is no clang (on Debian: apt-get install clang)")
    folder = tmp_path_factory.mktemp("fuzz")
    command = ["clang", "-fsanitize=fuzzer", "-x", "c", "-", "-o", str(folder / "probe")]
    source = b"int LLVMFuzzerTestOneInput(const char *d, long n) { return d == 0 && n > 0; }"
    if subprocess.run(command, input=source, capture_output=True).returncode:
        pytest.skip("clang has no libFuzzer (on Debian: apt-get install libclang-rt-14-dev)")
    return fuzz.compile_objects(folder)


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_any_bytes(target: str, objects: list[Path], tmp_path: Path) -> None:
    """All that is kept, and a few thousand new ones."""
    program = fuzz.link(target, objects, tmp_path)
    fuzz.unpack(target, tmp_path / "corpus")
    ran = fuzz.run(program, "-max_total_time=2", "corpus", seconds=60 * SLOW)
    assert ran.returncode == 0, ran.stdout[-6000:]
    tried = re.search(r"number_of_executed_units: (\d+)", ran.stdout)
    assert tried is not None
    assert int(tried[1]) > len(list((tmp_path / "corpus").iterdir())) / 2


@pytest.mark.long
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_a_million(target: str, objects: list[Path], tmp_path: Path) -> None:
    program = fuzz.link(target, objects, tmp_path)
    fuzz.unpack(target, tmp_path / "corpus")
    ran = fuzz.run(program, "-runs=1000000", "corpus", seconds=3600 * SLOW)
    print(re.findall(r"Seed: \d+", ran.stdout))
    assert ran.returncode == 0, ran.stdout[-6000:]


def test_every_fuzzer_is_run_and_has_a_corpus() -> None:
    assert {path.stem for path in (HERE / "fuzz").glob("fuzz_*.c")} == {
        f"fuzz_{target}" for target in fuzz.TARGETS
    }
    for target in fuzz.TARGETS:
        assert fuzz.corpus_of(target).stat().st_size > 100
