"""What may depend on what; and what the launcher must never become."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib.util
import re
import shlex
import shutil
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nsdemo
from nsdemo import _core
from nsdemo._plan import equals, explain, operations

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
CSRC = PROJECT / "csrc"
PACKAGE = Path(nsdemo.__file__).parent
BESIDE = PACKAGE / "_launcher"  # of a build in place
TABLE = CSRC / "operations.def"
SHARED = ("plan.h", "operations.def", "counter.h")

in_checkout = pytest.mark.skipif(not CSRC.is_dir(), reason="the C sources are not here")

# Headers of the kernel's own interface, and those of the compiler.
KERNEL_HEADER = re.compile(r"(?:linux|asm|asm-generic)/[a-z0-9_]+\.h|std(?:int|def|bool)\.h")


def includes(path: Path) -> set[str]:
    found = re.findall(r'^\s*#\s*include\s+([<"][^>"]+[>"])', path.read_text(), re.MULTILINE)
    return set(found)


def project_includes(path: Path) -> set[str]:
    """The project's headers that a file includes, as paths under csrc."""
    names = {name.strip('"') for name in includes(path) if name.startswith('"')}
    return {str((path.parent / name).resolve().relative_to(CSRC)) for name in names}


def c_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (CSRC / folder).glob("*.[ch]"))


def constant(name: str) -> list[str]:
    """A list of flags in setup.py."""
    for node in ast.parse((PROJECT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            assert isinstance(node.value, ast.Call), name
            assert isinstance(node.value.func, ast.Attribute), name
            text: str = ast.literal_eval(node.value.func.value)
            return text.split()
    raise AssertionError(f"setup.py has no {name}")


def functions_of_operations() -> dict[str, str]:
    """NAME -> the function that does it, from the table."""
    rows = re.findall(r'^ROW\((\w+), "\w+", (\w+)', TABLE.read_text(), re.MULTILINE)
    assert len(rows) == len(_core.OPERATIONS)
    return dict(rows)


# Dependencies point one way


@in_checkout
def test_the_launcher_and_the_steps_include_the_kernel_and_the_plan_only() -> None:
    for path in c_files("launcher", "steps"):
        for name in includes(path):
            if name.startswith("<"):
                assert KERNEL_HEADER.fullmatch(name.strip("<>")), f"{path.name}: {name}"
        own = ("steps/", "launcher/") if path.parent.name == "launcher" else ("steps/",)
        for header in project_includes(path):
            assert header in SHARED or header.startswith(own), path


@in_checkout
def test_the_core_knows_neither_python_nor_the_launcher() -> None:
    for path in c_files("core"):
        assert "<Python.h>" not in includes(path), path
        for header in project_includes(path):
            assert header in SHARED or header.startswith(("core/", "steps/")), path


@in_checkout
def test_only_the_binding_includes_python() -> None:
    for path in CSRC.rglob("*.[ch]"):
        if "<Python.h>" in includes(path):
            assert path == CSRC / "python" / "binding.h"
    for path in c_files("python"):
        for header in project_includes(path) - {"operations.def"}:
            assert header.startswith(("core/", "python/")), path


@in_checkout
def test_the_plan_is_data() -> None:
    assert includes(CSRC / "plan.h") == {"<stdint.h>", '"operations.def"'}


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports; nsdemo's own as "nsdemo.x"."""
    found: set[str] = set()
    folder = ".".join(("nsdemo", *path.relative_to(PACKAGE).parts[:-1]))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = folder.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


MODULES = {"nsdemo._core": PACKAGE / "_core.pyi"} | {
    ".".join(("nsdemo", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# From the lowest to the highest; a package is all that is in it.
LAYERS = tuple(
    map(
        str.split,
        (
            "_core _doors _errors _request mounts",
            "_facts rootfs",
            "_why",
            "_plan",
            "_launch",
            "_api _doctor _types kernel",
            "_flag_words flags",
            "check lessons notebook",
            "nsdemo",
            "_cli __main__",
        ),
    )
)


def layer_of(module: str) -> int:
    name = module.split(".")[1] if "." in module else module
    (layer,) = (number for number, names in enumerate(LAYERS) if name in names)
    return layer


@functools.cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def base_of(node: ast.ImportFrom, module: str) -> str:
    """What an import in a module begins with, as an absolute name."""
    if not node.level:
        return node.module or ""
    up = node.level - (MODULES[module].name == "__init__.py")
    return ".".join(filter(None, (module.rsplit(".", up)[0] if up else module, node.module)))


def maker_of(name: str, module: str) -> str:
    """The module that a name comes from, also where a face only hands it on."""
    if f"{module}.{name}" in MODULES:
        return f"{module}.{name}"
    if module in MODULES and MODULES[module].name == "__init__.py":
        for node in ast.walk(tree_of(module)):
            if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
                return maker_of(name, base_of(node, module))
    return module


def nodes_that_run(node: ast.AST) -> Iterator[ast.AST]:
    """All but annotations, and what else is there for a type checker only."""
    notes = [getattr(node, name, None) for name in ("annotation", "returns")]
    for child in ast.iter_child_nodes(node):
        typing = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not typing and child not in notes:
            yield child
            yield from nodes_that_run(child)


def needs_of(module: str) -> set[str]:
    """The modules of ours that one imports, wherever in it."""
    found: set[str] = set()
    for node in nodes_that_run(tree_of(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name != "nsdemo"}
        elif isinstance(node, ast.ImportFrom):
            found |= {maker_of(alias.name, base_of(node, module)) for alias in node.names}
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "nsdemo":
            found.add(maker_of(node.attr, "nsdemo"))
    return found & MODULES.keys() - {module}


NEEDS = {module: needs_of(module) for module in MODULES}


def test_no_two_modules_need_each_other() -> None:
    graphlib.TopologicalSorter(NEEDS).prepare()  # else a CycleError, which names them


def test_no_module_needs_one_of_a_higher_layer() -> None:
    for module, needs in NEEDS.items():
        for needed in needs:
            assert layer_of(needed) <= layer_of(module), f"{module} imports {needed}"
    names = [name for names in LAYERS for name in names]
    assert sorted(names) == sorted({*names}), "twice"
    assert {*names} == {module.split(".")[min(1, module.count("."))] for module in MODULES}


def test_nothing_is_imported_by_a_name_that_only_a_string_has() -> None:
    """But what the package itself hands on, and what others have made."""
    for path in PACKAGE.rglob("*.py"):
        if path not in (PACKAGE / "__init__.py", PACKAGE / "_cli/lesson.py"):
            assert not re.search(r"__import__|import_module", path.read_text()), path


def test_every_door_is_filled() -> None:
    from nsdemo import _doors, notebook

    for name in _doors.__annotations__:
        assert callable(getattr(_doors, name)), name
    above = ("notebook", "check")  # they draw without a door
    texts = [
        path.read_text()
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in above
    ]
    shown = {name for text in texts for name in re.findall(r'_doors\.html\("(\w+)", self\)', text)}
    assert len(shown) == sum(text.count("def _repr_html_") for text in texts)
    assert shown <= {*notebook.__all__}


MAY_IMPORT_THE_CORE = {
    "_doctor",
    *(
        f"{folder}.{name}"
        for folder, names in (
            ("_facts", "targets"),
            ("_launch", "adopted container release run visit"),
            ("_plan", "explain operations plan planned request step"),
            ("_request", "pins values"),
        )
        for name in names.split()
    ),
}


def test_the_core_is_imported_where_it_may() -> None:
    found = {module for module, needs in NEEDS.items() if "nsdemo._core" in needs}
    assert found == {f"nsdemo.{name}" for name in MAY_IMPORT_THE_CORE}


def test_what_teaches_uses_public_names() -> None:
    for folder in ("notebook", "check", "lessons"):
        for path in (PACKAGE / folder).rglob("*.py"):
            for name in imports_of(path):
                if name.startswith("nsdemo._"):
                    raise AssertionError(f"{path.relative_to(PACKAGE)} imports {name}")


# What a plain import costs


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter without site-packages loads."""
    code = (
        f"import sys\nsys.path.insert(0, {str(PACKAGE.parent)!r})\n{statement}\nprint(*sys.modules)"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_a_plain_import_loads_little() -> None:
    extra = loaded_by("import nsdemo") - loaded_by("import subprocess")
    own = {name for name in extra if name.split(".")[0] == "nsdemo"}
    folders = {"nsdemo._facts", "nsdemo._launch", "nsdemo._plan", "nsdemo._request"}
    assert own <= {"nsdemo"} | folders | {
        f"nsdemo.{name}"
        for name in (
            *(
                "_api",
                "_request.clone_flags",
                "_launch.container",
                "_core",
                "_doors",
                "_errors",
                "_plan.explain",
                "_plan.notation",
                "_plan.operations",
            ),
            *(
                "_request.given",
                "_plan.plan",
                "_plan.planned",
                "_request.remembered",
                "_plan.request",
                "_launch.run",
                "_facts.shown",
                "_request.stdio",
                "_plan.step",
                "_facts.targets",
                "_request.values",
            ),
        )
    }
    heavy = {"IPython", "asyncio", "dataclasses", "inspect", "json", "ctypes", "typing_extensions"}
    assert not {name.split(".")[0] for name in extra} & heavy


# The launcher as a program


@in_checkout
def test_the_launchers_objects_need_each_other_only(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or shutil.which("nm") is None:
        pytest.skip("there is no C compiler with nm (on Debian: apt-get install gcc)")
    whole = tmp_path / "launcher.o"
    sources = [path for path in c_files("launcher", "steps") if path.suffix == ".c"]
    flags = [flag for flag in constant("LAUNCHER_FLAGS") if flag.startswith(("-f", "-O", "-std"))]
    subprocess.run([compiler, *flags, "-nostdlib", "-r", "-o", whole, *sources], check=True)
    undefined = subprocess.run(
        ["nm", "--undefined-only", whole], capture_output=True, text=True, check=True
    ).stdout
    assert undefined.strip() == ""


def program_headers(data: bytes) -> list[tuple[int, int]]:
    """(type, flags) of each program header of an ELF64 file."""
    assert data[:4] == b"\x7fELF"
    offset, size, count = (
        struct.unpack_from("<Q", data, 32)[0],
        *struct.unpack_from("<HH", data, 54),
    )
    return [struct.unpack_from("<II", data, offset + size * i) for i in range(count)]


def section_types(data: bytes) -> set[int]:
    offset, size, count = (
        struct.unpack_from("<Q", data, 40)[0],
        *struct.unpack_from("<HH", data, 58),
    )
    return {struct.unpack_from("<I", data, offset + size * i + 4)[0] for i in range(count)}


PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_GNU_STACK = 1, 2, 3, 0x6474E551
SHT_RELA, SHT_DYNAMIC, SHT_REL = 4, 6, 9
ET_EXEC = 2


def check_image(data: bytes) -> None:
    assert len(data) < 40 * 1024
    assert struct.unpack_from("<H", data, 16)[0] == ET_EXEC, "it is linked to a fixed address"
    headers = program_headers(data)
    kinds = {kind for kind, _ in headers}
    assert not kinds & {PT_DYNAMIC, PT_INTERP}
    assert dict(headers)[PT_GNU_STACK] & 1 == 0, "an executable stack"
    assert not any(kind == PT_LOAD and flags & 3 == 3 for kind, flags in headers), "writable code"
    assert not section_types(data) & {SHT_RELA, SHT_REL, SHT_DYNAMIC}


def carried_image() -> bytes:
    """The launcher that the extension carries; the section headers are the end of a program."""
    module = Path(_core.__file__).read_bytes()
    image = module[module.index(b"\x7fELF", 4) :]
    start = struct.unpack_from("<Q", image, 40)[0]
    size, count = struct.unpack_from("<HH", image, 58)
    return image[: start + size * count]


@pytest.fixture
def launcher(tmp_path: Path) -> Path:
    path = tmp_path / "launcher"
    path.write_bytes(carried_image())
    path.chmod(0o755)
    return path


def test_the_image_is_small_and_needs_nothing() -> None:
    check_image(carried_image())


def test_what_lies_beside_the_module_is_what_it_carries() -> None:
    """Where it was built in place; test_package looks that a wheel has it once."""
    assert not BESIDE.exists() or BESIDE.read_bytes() == carried_image()


@pytest.mark.parametrize("arguments", [[], ["0", "4096"], ["99", "4096"], ["0", "0"], ["a", "b"]])
def test_without_a_plan_it_ends_at_once(launcher: Path, arguments: list[str]) -> None:
    ran = subprocess.run([launcher, *arguments], stdin=subprocess.DEVNULL, timeout=10)
    assert ran.returncode == 125


def test_it_does_not_mistake_another_file_for_a_plan(launcher: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.write_bytes(bytes(8192))
    with noise.open("r+b") as file:
        ran = subprocess.run([launcher, "0", "8192"], stdin=file, timeout=10)
    assert ran.returncode == 125


@in_checkout
def test_it_is_built_for_the_other_machine(tmp_path: Path) -> None:
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    if compiler is None:
        pytest.skip("no aarch64 compiler (on Debian: apt-get install gcc-aarch64-linux-gnu)")
    flags = [flag for flag in constant("LAUNCHER_FLAGS") if flag != "-fcf-protection=none"]
    image = tmp_path / "launcher"
    sources = [path for path in c_files("launcher", "steps") if path.suffix == ".c"]
    command = [compiler, *constant("WARNINGS"), "-Werror", *flags, "-s", "-o", image, *sources]
    subprocess.run(command, check=True)
    check_image(image.read_bytes())
    emulator = shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.skip("built, but not run (on Debian: apt-get install qemu-user-static)")
    for arguments in ([], ["0", "4096"]):
        ran = subprocess.run([emulator, image, *arguments], stdin=subprocess.DEVNULL, timeout=30)
        assert ran.returncode == 125


@in_checkout
def test_the_core_is_built_for_the_other_machine(tmp_path: Path) -> None:
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    if compiler is None:
        pytest.skip("no aarch64 compiler (on Debian: apt-get install gcc-aarch64-linux-gnu)")
    for source in sorted((CSRC / "core").rglob("*.c")):
        subprocess.run(
            [
                *(compiler, "-std=c11", "-O2", "-D_GNU_SOURCE", *constant("WARNINGS"), "-Werror"),
                *("-fPIC", f"-I{CSRC}", "-c", source, "-o", tmp_path / "object.o"),
            ],
            check=True,
        )


# Nothing forgotten


@in_checkout
def test_what_is_no_function_of_the_steps_is_elsewhere() -> None:
    start = (CSRC / "launcher" / "start.c").read_text() + (
        CSRC / "core" / "launch" / "vfork.c"
    ).read_text()
    elsewhere = [
        name for name, function in functions_of_operations().items() if function == "nsd_elsewhere"
    ]
    assert elsewhere
    for name in elsewhere:
        assert f"== NSD_{name}" in start, name


ONE_MORE = 'ROW(JUGGLE, "juggle", nsd_juggle, LONG, , )\nROW(END,'


@in_checkout
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("ROW(END,", ONE_MORE, "nsd_juggle"),
        ('ROW(UMASK, "umask", nsd_umask, SHORT, NUMBER(mask), )\n', "", "nsd_umask"),
    ],
    ids=["a row without its function", "a function without its row"],
)
def test_a_row_and_its_function_need_each_other(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler with nm (on Debian: apt-get install gcc)")
    copy = tmp_path / "csrc"
    shutil.copytree(CSRC, copy)
    table = (copy / TABLE.name).read_text()
    assert old in table
    (copy / TABLE.name).write_text(table.replace(old, new))
    sources = [copy / path.relative_to(CSRC) for path in c_files("launcher", "steps")]
    built = subprocess.run(
        [
            *(compiler, *constant("WARNINGS"), "-Werror", *constant("LAUNCHER_FLAGS")),
            *("-o", tmp_path / "launcher"),
            *(path for path in sources if path.suffix == ".c"),
        ],
        capture_output=True,
        text=True,
    )
    assert built.returncode != 0
    assert said in built.stderr


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            (*_core.OPERATIONS, ("juggle", "", "")),
            "nsdemo/_plan/operations.py has no row for .*juggle",
        ),
        (_core.OPERATIONS[:-1], "csrc/operations.def has no row for .*end"),
    ],
    ids=["no row in Python", "no row in C"],
)
def test_an_operation_has_a_row_in_both_languages(
    table: tuple[tuple[str, str, str], ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert operations.__file__ is not None
    again = importlib.util.spec_from_file_location("nsdemo._plan._again", operations.__file__)
    assert again is not None
    assert again.loader is not None
    monkeypatch.setattr(_core, "OPERATIONS", table)
    with pytest.raises(ImportError, match=said):
        again.loader.exec_module(importlib.util.module_from_spec(again))


@pytest.mark.parametrize("row", _core.OPERATIONS, ids=lambda row: str(row[0]))
def test_everything_is_said_of_every_operation(row: tuple[str, str, str]) -> None:
    """Whatever a row says is made of names that the operation has, whether all is there or not."""
    word, numbers, texts = row
    whole = ["/proc/1/x"] * len(texts.split())
    least = [None if name.endswith("?") else "/x" for name in texts.split()]
    for given in (whole, least):
        args: tuple[Any, ...] = ("/bin/true", "true")
        if word != "exec":
            args = explain.args_of(word, 0, [1] * len(numbers.split()), given)
        step = nsdemo.Step(word, args)
        line = equals.Line("unshare", [])
        line.add("unshare", step)
        line.add("nsenter", step)
        said = (str(step), explain.describe(step))
        assert all(said)
        for text in (*said, explain.purpose(step), *line.words, *line.ids):
            assert isinstance(text, str)


@in_checkout
def test_every_operation_is_in_the_c_tests() -> None:
    text = (HERE / "c" / "test_steps.c").read_text()
    for name in functions_of_operations():
        assert re.search(rf"\bSTEP\({name},", text), name


@in_checkout
def test_no_static_python_object() -> None:
    forbidden = re.compile(r"^\s*static\s+(?:PyTypeObject\s+\w+|Py\w*Object\s*\*\s*\w+)\s*(?:=|;)")
    for path in c_files("python"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not forbidden.match(line), f"{path.name}:{number}: {line}"


@in_checkout
def test_the_stub_names_what_the_core_has() -> None:
    from nsdemo import _core

    stub = ast.parse((PACKAGE / "_core.pyi").read_text())
    named = {
        node.name
        for node in stub.body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef))
        and "type_check_only" not in map(ast.unparse, node.decorator_list)
    } | {node.target.id for node in stub.body if isinstance(node, ast.AnnAssign)}  # type: ignore[union-attr]
    public = {name for name in dir(_core) if not name.startswith("_")}
    assert public == {name for name in named if not name.startswith("_")}


def as_annotation(kind: str, columns: tuple[tuple[str, str, Any], ...]) -> str:
    """The type of a field of _core.FIELDS, as the stub writes it."""
    types = [as_annotation(*column) for _, *column in columns]
    row = types[0] if len(types) == 1 else f"tuple[{', '.join(types)}]"
    return {"row": row, "rows": f"tuple[{row}, ...]"}.get(kind, kind)


@in_checkout
def test_the_stub_wishes_what_the_core_takes() -> None:
    """Name by name in the same order: the table in C, and the TypedDict that mypy reads."""
    from nsdemo import _core

    stub = ast.parse((PACKAGE / "_core.pyi").read_text())
    aliases, wishes = {}, {}
    for node in stub.body:
        if isinstance(node, ast.Assign):
            aliases[ast.unparse(node.targets[0])] = ast.unparse(node.value)
        elif isinstance(node, ast.ClassDef) and node.name == "Wishes":
            for row in node.body:
                assert isinstance(row, ast.AnnAssign)
                wishes[ast.unparse(row.target)] = ast.unparse(row.annotation)
    for alias, meaning in aliases.items():
        wishes = {name: text.replace(alias, meaning) for name, text in wishes.items()}
    found = {name: as_annotation(kind, columns) for name, kind, columns in _core.FIELDS}
    assert list(found.items()) == list(wishes.items())


@in_checkout
@pytest.mark.parametrize(
    ("row", "fits"),
    [
        ('NSD_INT("umask", struct nsd_request, umask)', True),
        ('NSD_INT("root", struct nsd_request, root)', False),
        ('NSD_FLAG("umask", struct nsd_request, umask)', False),
        ('NSD_LONG("umask", struct nsd_request, umask)', False),
        ('NSD_TEXT("uid", struct nsd_request, uid)', False),
    ],
)
def test_a_row_that_does_not_fit_its_member_does_not_compile(row: str, fits: bool) -> None:
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    options = ["-std=c11", "-D_GNU_SOURCE", "-DPy_LIMITED_API=0x030B0000", "-fsyntax-only"]
    where = ["-I", str(CSRC / "python"), "-I", sysconfig.get_path("include")]
    text = f'#include "fields.h"\nconst struct nsd_field field = {row};\n'
    ran = subprocess.run(
        [*compiler, *options, *where, "-x", "c", "-"], input=text, text=True, capture_output=True
    )
    assert (ran.returncode == 0) is fits, ran.stderr
    assert fits or "_Generic" in ran.stderr or "association" in ran.stderr


@in_checkout
def test_what_has_many_parts_goes_by_name() -> None:
    for path in c_files("python"):
        for text in re.findall(r'PyArg_\w+\([^"]*"([^"]*)"', path.read_text()):
            assert sum(map(str.isalpha, text.split(":")[0])) < 14, f"{path.name}: {text}"
