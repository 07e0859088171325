"""What is shipped: the sdist builds with either compiler, the wheel installs without one."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
MACHINE = platform.machine()
VERSIONS = ("3.11", "3.12", "3.13")

pytestmark = pytest.mark.skipif(
    not (PROJECT / "setup.py").is_file(), reason="this is not a checkout"
)


def succeed(*command: str | Path, **options: object) -> str:
    ran = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        **options,  # type: ignore[call-overload]
    )
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    return str(ran.stdout)


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with the setuptools that pyproject.toml asks for."""
    if importlib.util.find_spec("setuptools"):
        import setuptools

        if int(setuptools.__version__.split(".")[0]) >= 77:
            return sys.executable
    folder = tmp_path_factory.mktemp("builder")
    succeed(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    command = [python, "-m", "pip", "--quiet", "install", "setuptools>=77"]
    if subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode:
        pytest.skip("there is no setuptools>=77, and pip cannot fetch it")
    return str(python)


def call_backend(python: str, hook: str, source: Path, out: Path, **env: str) -> Path:
    code = f"from setuptools.build_meta import {hook} as hook; import sys; print(hook(sys.argv[1]))"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NSDEMO_")}
    printed = succeed(python, "-c", code, out, cwd=source, env=clean | env)
    return out / printed.splitlines()[-1]


@pytest.fixture(scope="session")
def sdist(builder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from a copy, so that the checkout keeps its own build."""
    copy = tmp_path_factory.mktemp("source") / "nsdemo"
    ignored = shutil.ignore_patterns(
        *(
            ".git",
            "build",
            "dist",
            "*.so",
            "_launcher",
            "__pycache__",
            "*.egg-info",
            ".*_cache",
            ".hypothesis",
        )
    )
    shutil.copytree(PROJECT, copy, ignore=ignored)
    return call_backend(builder, "build_sdist", copy, tmp_path_factory.mktemp("sdist"))


def unpack(sdist: Path, folder: Path) -> Path:
    succeed("tar", "-xf", sdist, "-C", folder)
    (source,) = folder.iterdir()
    return source


@pytest.fixture
def source(sdist: Path, tmp_path: Path) -> Path:
    return unpack(sdist, tmp_path)


def toolbox(folder: Path, *tools: str) -> str:
    """A PATH with these tools and no others."""
    folder.mkdir()
    for tool in tools:
        found = shutil.which(tool)
        if found is None:
            pytest.skip(f"there is no {tool}")
        (folder / tool).symlink_to(found)
    return str(folder)


def build_wheel(python: str, source: Path, compiler: str) -> Path:
    out = source.parent / "wheel"
    out.mkdir()
    path = toolbox(source.parent / "bin", compiler, "as", "ld")
    return call_backend(python, "build_wheel", source, out, PATH=path, CC=compiler)


@pytest.fixture(scope="session")
def wheel(builder: str, sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return build_wheel(builder, unpack(sdist, folder), "gcc" if shutil.which("gcc") else "clang")


def test_the_sdist_has_all_that_a_build_and_a_test_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = {
        "setup.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        ".ci/run",
        ".ci/long",
    }
    wanted |= {".devcontainer/Dockerfile", ".devcontainer/devcontainer.json", ".dockerignore"}
    wanted |= {
        str(path.relative_to(PROJECT))
        for folder in ("csrc", "docs", "nsdemo", "tests")
        for path in (PROJECT / folder).rglob("*")
        if path.suffix in (".c", ".h", ".py", ".pyi", ".md") and "__pycache__" not in path.parts
    }
    assert wanted <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc", "/_launcher"))]


def size_without_the_course(wheel: Path) -> int:
    """The bytes of the wheel that are not the lessons and their checkers, which may add 500 KB."""
    course = ("nsdemo/lessons/", "nsdemo/check/")
    with zipfile.ZipFile(wheel) as archive:
        parts = [file for file in archive.infolist() if file.filename.startswith(course)]
    return wheel.stat().st_size - sum(file.compress_size for file in parts)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_sdist_builds_with_one_compiler_alone(
    builder: str, source: Path, compiler: str
) -> None:
    wheel = build_wheel(builder, source, compiler)
    assert size_without_the_course(wheel) < 350_000


def test_one_wheel_serves_every_python(wheel: Path) -> None:
    assert wheel.name.endswith(f"-cp311-abi3-linux_{MACHINE}.whl")


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        lessons = [info for info in archive.infolist() if info.filename.endswith(".md")]
    assert {"nsdemo/py.typed", "nsdemo/_core.pyi", "nsdemo/_core.abi3.so"} <= names
    in_the_checkout = {f"nsdemo/lessons/{p.name}" for p in PROJECT.glob("nsdemo/lessons/*.md")}
    assert {info.filename for info in lessons if info.filename.startswith("nsdemo/")} == (
        in_the_checkout
    )
    assert len(in_the_checkout) >= 4
    assert sum(info.compress_size for info in lessons) < 500_000
    assert {name.split("/")[0].split("-")[0] for name in names} == {"nsdemo"}
    assert not [name for name in names if name.endswith((".c", ".h", ".o", "/_launcher"))]


@functools.cache
def interpreter(version: str) -> str | None:
    """A CPython of this version: this one, one in PATH, or one of pyenv's."""
    if sys.version.startswith(f"{version}."):
        return sys.executable
    candidates = [shutil.which(f"python{version}")]
    if shutil.which("pyenv"):
        listed = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True)
        for name in listed.stdout.split():
            if name.startswith(f"{version}."):
                prefix = subprocess.run(["pyenv", "prefix", name], capture_output=True, text=True)
                candidates.append(str(Path(prefix.stdout.strip(), "bin", "python")))
    for candidate in filter(None, candidates):
        ran = subprocess.run([candidate, "--version"], capture_output=True, text=True)
        if ran.stdout.startswith(f"Python {version}."):
            return candidate
    return None


TRY = """
import nsdemo
from pathlib import Path
assert not Path(nsdemo.__file__).with_name("_launcher").exists()
print(nsdemo.spawn(["true"], dry_run=True))
plan = nsdemo.Plan().setsid().exec(["sh", "-c", "echo works"])
print(plan.run(capture_output=True, text=True).stdout)
"""


@pytest.mark.parametrize("version", [each for each in VERSIONS if interpreter(each)])
def test_the_wheel_installs_without_a_compiler(wheel: Path, version: str, tmp_path: Path) -> None:
    python = interpreter(version)
    assert python is not None
    succeed(python, "-m", "venv", "--without-pip", tmp_path / "venv")
    installed = tmp_path / "venv" / "bin" / "python"
    environment = os.environ | {"PATH": toolbox(tmp_path / "bin", "sh"), "CC": "false"}
    environment.pop("PYTHONPATH", None)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    succeed(*pip, "--python", installed, "install", "--no-index", wheel, env=environment)
    assert "works" in succeed(installed, "-I", "-c", TRY, env=environment)


def test_the_wheel_keeps_to_a_manylinux_policy(wheel: Path) -> None:
    if importlib.util.find_spec("auditwheel") is None:
        pytest.skip("there is no auditwheel (pip install auditwheel)")
    shown = succeed(sys.executable, "-m", "auditwheel", "show", wheel)
    assert f"manylinux_2_34_{MACHINE}" in shown or f"manylinux_2_17_{MACHINE}" in shown


# What setup.py imports before it looks around is to be the real machine's.
IMPORTED = (
    "import platform, runpy, sys, sysconfig, setuptools.command.build_ext; "
    "sysconfig.get_config_vars()"
)


@pytest.mark.parametrize(
    "disguise",
    ["platform.machine = lambda: 'riscv64'", "sys.platform = 'darwin'", "sys.maxsize = 2**31 - 1"],
)
def test_elsewhere_the_build_says_so_in_one_sentence(builder: str, disguise: str) -> None:
    code = f"{IMPORTED}; {disguise}; runpy.run_path('setup.py')"
    ran = subprocess.run([builder, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr.startswith("nsdemo needs Linux on x86_64 or aarch64: ")
    assert len(ran.stderr.splitlines()) == 1


def test_elsewhere_the_import_says_so_in_one_sentence() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(PROJECT)!r}); sys.platform = 'darwin'; import nsdemo"
    )
    ran = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    last = ran.stderr.splitlines()[-1]
    assert last == "ImportError: nsdemo needs Linux: namespaces are a feature of that kernel"
