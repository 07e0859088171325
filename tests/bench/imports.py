"""What `import nsdemo` costs, beside `import subprocess`.

Each sample is a fresh interpreter with -I -S: no site, so that no installed .pth file has
imported half of it before the clock starts.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from channel import Refused

PROGRAM = """\
import sys, time
sys.path.append({folder!r})
start = time.perf_counter_ns()
import {module}
print(time.perf_counter_ns() - start)
"""


def sampler(module: str) -> Callable[[], int]:
    """A function that imports ``module`` in a fresh interpreter and returns nanoseconds."""
    program = PROGRAM.format(module=module, folder=_folder_of("nsdemo"))
    args = [sys.executable, "-I", "-S", "-c", program]

    def sample() -> int:
        done = subprocess.run(args, capture_output=True, text=True)
        if done.returncode:
            raise Refused(done.stderr.strip().splitlines()[-1])
        return int(done.stdout)

    return sample


def _folder_of(package: str) -> str:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return ""
    return str(Path(found.origin).parents[1])
