"""Builds nsdemo._core: the launcher first, then the extension that carries its bytes.

Everything else about the package stands in pyproject.toml.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

if (
    sys.platform != "linux"
    or platform.machine() not in ("x86_64", "aarch64")
    or sys.maxsize < 2**32  # a 32-bit Python on a 64-bit kernel
):
    sys.exit("nsdemo needs Linux on x86_64 or aarch64: namespaces are a feature of that kernel.")

WARNINGS = (
    "-Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes "
    "-Wmissing-prototypes -Wundef -Wcast-qual -Wvla -Wformat=2 -Wswitch-enum"
).split()
if os.environ.get("NSDEMO_WERROR"):
    WARNINGS.append("-Werror")

# A program without libc: nothing is linked, nothing is relocated, no stack protector, no TLS.
LAUNCHER_FLAGS = (
    "-std=c11 -Os -ffreestanding -fno-stack-protector -fno-pic -fcf-protection=none "
    "-fno-asynchronous-unwind-tables -fno-unwind-tables -fno-ident -static -nostdlib -no-pie "
    "-Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,noseparate-code"
).split()

# The steps are performed by the launcher and, where it is safe, by the core.
LAUNCHER_SOURCES = sorted([*Path("csrc/launcher").glob("*.c"), *Path("csrc/steps").glob("*.c")])

# CPython's own flags carry -O3 and -g, which make the wheel three times as large, and a launch
# no faster: after an execve every line of code has to be fetched again. NSDEMO_DEBUG=1 keeps
# them, for gdb.
DEBUG = bool(os.environ.get("NSDEMO_DEBUG"))
LAUNCHER_FLAGS += ["-g"] if DEBUG else ["-s"]
SMALL = [] if DEBUG else ["-Os"]
STRIP = [] if DEBUG else ["-Wl,--strip-all"]

# The module runs with the power of its caller and reads what strangers chose. All of libc is found
# at import: the child that borrows Python's memory may not wait for the loader's lock. A value
# that CPython or a distribution has set for _FORTIFY_SOURCE would be a warning.
HARDENED = "-fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2".split()
LINK_FLAGS = "-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack".split()

# Free-threaded CPython has no stable ABI; every other build is served by one wheel.
STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")


def compiler() -> list[str]:
    """The C compiler that setuptools would take."""
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


class BuildWithLauncher(build_ext):
    """build_ext that compiles csrc/launcher and hands its bytes to the extension."""

    def build_extension(self, ext: Extension) -> None:
        folder = Path(self.build_temp)
        folder.mkdir(parents=True, exist_ok=True)
        launcher = folder / "launcher"
        flags = [flag for flag in LAUNCHER_FLAGS if self.knows(flag)]
        sources = [str(path) for path in LAUNCHER_SOURCES]
        subprocess.run([*compiler(), *WARNINGS, *flags, "-o", launcher, *sources], check=True)

        image = folder / "image.c"
        image.write_text(as_c_source(launcher.read_bytes()))
        ext.sources = [*ext.sources, str(image)]
        super().build_extension(ext)

    def copy_extensions_to_source(self) -> None:
        """For a build in place, which pip install --editable is, too: there the launcher is beside
        the module, for gdb; a launch never executes it (csrc/core/launch/image.h)."""
        super().copy_extensions_to_source()
        built, beside = Path(self.build_temp, "launcher"), Path("nsdemo", "_launcher")
        self.copy_file(str(built), str(beside))
        beside.chmod(0o755)

    @staticmethod
    def knows(flag: str) -> bool:
        """Does this compiler take the flag? (-fcf-protection is x86's, -no-pie gcc's.)"""
        command = [*compiler(), "-Werror", flag, "-x", "c", "-c", "-o", "/dev/null", "-"]
        linking = flag.startswith(("-Wl", "-static", "-nostdlib", "-s"))
        return linking or subprocess.run(command, input=b"", capture_output=True).returncode == 0


def as_c_source(data: bytes) -> str:
    """A C file with the launcher's bytes."""
    rows = [
        ",".join(str(byte) for byte in data[start : start + 24])
        for start in range(0, len(data), 24)
    ]
    body = ",\n".join(rows)
    return (
        '#include "core/launch/image.h"\n\n'
        f"const size_t nsd_image_size = {len(data)};\n"
        f"const unsigned char nsd_image[] = {{\n{body}}};\n"
    )


setup(
    ext_modules=[
        Extension(
            "nsdemo._core",
            sources=sorted(
                str(path)
                for folder in ("core", "core/launch", "python", "steps")
                for path in Path("csrc", folder).glob("*.c")
            ),
            depends=[str(path) for path in Path("csrc").rglob("*.*")],
            include_dirs=["csrc"],
            define_macros=[
                ("_GNU_SOURCE", None),
                *([("Py_LIMITED_API", "0x030B0000")] if STABLE_ABI else []),
            ],
            extra_compile_args=["-std=c11", "-fvisibility=hidden", *SMALL, *HARDENED, *WARNINGS],
            extra_link_args=[*LINK_FLAGS, *STRIP],
            py_limited_api=STABLE_ABI,
        )
    ],
    cmdclass={"build_ext": BuildWithLauncher},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI else {},
)
