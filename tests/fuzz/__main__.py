"""The fuzzers by hand.

python tests/fuzz steps --runs 1000000           # what is found is printed, in Base64, too
python tests/fuzz steps --runs 1000000 --keep    # what was learnt becomes the corpus
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from fuzzers import TARGETS, compile_objects, link, pack, run, unpack


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS])
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="nsdemo-fuzz-") as name:
        folder = Path(name)
        objects = compile_objects(folder)
        for target in given.targets or TARGETS:
            program = link(target, objects, folder)
            learnt = folder / f"{target}.corpus"
            unpack(target, learnt)
            ran = run(program, f"-runs={given.runs}", learnt, seconds=36000)
            failed += ran.returncode != 0
            seed = re.findall(r"Seed: \d+", ran.stdout)
            shown = ran.stdout.splitlines()[-6 if ran.returncode == 0 else -60 :]
            print(f"== {target}", *seed, *shown, sep="\n", flush=True)
            if given.keep and ran.returncode == 0:
                least = folder / f"{target}.least"
                least.mkdir()
                run(program, "-merge=1", "-max_len=500", least, learnt, seconds=3600)
                pack(target, least)
    return failed


sys.exit(main())
