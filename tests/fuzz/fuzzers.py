"""The fuzzers: what each is made of, how it is built and run.

A corpus is a text: an input of the fuzzer's on each line, in Base64.
"""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent.parent / "csrc"
STEPS = sorted((CSRC / "steps").glob("*.c"))
FLAGS = (
    "-std=c11 -O1 -g -D_GNU_SOURCE -fno-omit-frame-pointer -Wall -Wextra -Werror "
    "-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all"
).split()

# What reads what others have made, each compiled with a kernel of its own.
TARGETS = ("mounts", "stat", "steps", "trace")
SANITIZERS = {
    "ASAN_OPTIONS": "quarantine_size_mb=8:detect_leaks=0",  # we look for leaks where they matter
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def corpus_of(target: str) -> Path:
    return HERE / "corpus" / f"{target}.txt"


def unpack(target: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for line in corpus_of(target).read_text().split():
        content = base64.b64decode(line)
        (folder / hashlib.sha1(content).hexdigest()).write_bytes(content)


def pack(target: str, folder: Path) -> None:
    inputs = sorted((path.read_bytes() for path in folder.iterdir()), key=lambda b: (len(b), b))
    lines = [base64.b64encode(content).decode() + "\n" for content in inputs]
    corpus_of(target).write_text("".join(lines))


def compile_objects(folder: Path) -> list[Path]:
    """The steps and the kernel, which all targets share; two compilers at a time."""
    sources = [*STEPS, HERE / "kernel.c"]
    command = ["clang", *FLAGS, f"-I{CSRC}", f"-I{HERE}", "-include", str(HERE / "kernel.h"), "-c"]
    halves = [
        subprocess.Popen([*command, *map(str, sources[half::2])], cwd=folder) for half in (0, 1)
    ]
    if any(process.wait() for process in halves):
        raise RuntimeError("clang refuses the sources of the fuzzers")
    return [folder / f"{source.stem}.o" for source in sources]


def link(target: str, objects: list[Path], folder: Path) -> Path:
    program = folder / target
    flags = [flag.replace("fuzzer-no-link", "fuzzer") for flag in FLAGS]
    source = HERE / f"fuzz_{target}.c"
    subprocess.run(
        [
            *("clang", *flags, f"-I{CSRC}", f"-I{HERE}", "-include", HERE / "kernel.h", source),
            *(*objects, "-o", program),
        ],
        check=True,
    )
    return program


def run(program: Path, *options: str | Path, seconds: float) -> subprocess.CompletedProcess[str]:
    """libFuzzer's options and folders; 5 seconds for one input are a hang."""
    command = [program, "-timeout=5", "-max_len=4096", "-print_final_stats=1", *options]
    return subprocess.run(
        command,
        cwd=program.parent,
        env=os.environ | SANITIZERS,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        timeout=seconds,
    )
