"""On what and with what the figures were made."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

TOOLS = ("unshare", "bwrap", "crun", "runc", "docker")


def facts() -> dict[str, str]:
    """What a reader needs to compare these figures with others."""
    found = {
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{_meminfo('MemTotal') / 2**30:.0f} GB",
        "Python": platform.python_version(),
        "nsdemo": _nsdemo(),
    }
    for tool in TOOLS:
        if version := _version(tool):
            found[tool] = version
    return found


def available_memory() -> int:
    """Bytes that can be taken without swapping."""
    return _meminfo("MemAvailable")


def _meminfo(name: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _nsdemo() -> str:
    try:
        return metadata.version("nsdemo")
    except metadata.PackageNotFoundError:
        return "from the source tree"


def _version(tool: str) -> str | None:
    """The last word of the first line that `TOOL --version` prints, but for commas."""
    try:
        printed = subprocess.run(
            [tool, "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    for word in printed.replace(",", " ").split():
        if word[0].isdigit():
            return word
    return None
