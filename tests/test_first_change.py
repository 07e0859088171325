"""docs/FIRST-CHANGE.md: each list of files is true, of something that is there already."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "FIRST-CHANGE.md"

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the sources are not here")

# What is followed through the sources, and in which sections.
FOLLOWED = {
    r"(?i)\b(?:nsd_|_)?umask\b": ("A system call", "A keyword"),
    r"\bSysfs\b": ("A kind of mount",),
    r"\bownership\b": ("A picture",),
    r"\bdef _setgroups\(case": ("A hint",),
}

# Files of csrc and nsdemo that are written by hand, at most.
MOST = {
    "A system call": 3,
    "A keyword": 7,
    "A kind of mount": 4,
    "A picture": 2,
    "A hint": 1,
}


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(section: str) -> list[tuple[str, str]]:
    """Each file of a list, and what is to be found there."""
    return re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| .+ \|$", sections()[section], re.MULTILINE)


def is_source(path: str) -> bool:
    return path.startswith(("csrc/", "nsdemo/"))


def sources() -> dict[str, str]:
    """What is written by hand in csrc and nsdemo."""
    written = re.findall(
        r"^(\S+) linguist-generated", (PROJECT / ".gitattributes").read_text(), re.MULTILINE
    )
    found = [
        path
        for folder, ending in (("csrc", r"\.(c|h|def)$"), ("nsdemo", r"\.pyi?$"))
        for path in (PROJECT / folder).rglob("*")
        if re.search(ending, path.name)
    ]
    names = {str(path.relative_to(PROJECT)): path for path in found}
    return {name: path.read_text() for name, path in names.items() if name not in written}


def test_there_are_five() -> None:
    assert [*sections()] == [*MOST]


@pytest.mark.parametrize("section", MOST)
def test_what_is_to_be_looked_at_is_there(section: str) -> None:
    assert len(rows(section)) >= 2
    assert any(path.startswith("tests/") for path, _ in rows(section))
    for path, token in rows(section):
        assert (PROJECT / path).is_file(), path
        assert token in (PROJECT / path).read_text(), f"{path}: there is no {token}"


@pytest.mark.parametrize("section", MOST)
def test_it_takes_no_more_files(section: str) -> None:
    assert len({path for path, _ in rows(section) if is_source(path)}) <= MOST[section]


@pytest.mark.parametrize("pattern", FOLLOWED)
def test_no_file_is_forgotten(pattern: str) -> None:
    """A file that has it is in a list, or is said to be no part of it."""
    named = {
        path
        for section in FOLLOWED[pattern]
        for path in re.findall(r"`([a-z]+/[\w./]+)`", sections()[section])
        if is_source(path)
    }
    having = {path for path, text in sources().items() if re.search(pattern, text)}
    listed = {path for section in FOLLOWED[pattern] for path, _ in rows(section) if is_source(path)}
    assert listed <= having
    assert having <= named, "the page does not say so"


# The first two sections, as they are told: behind what, and what is added.
WALK = {
    "csrc/operations.def": (
        'ROW(UMASK, "umask", nsd_umask, SHORT, NUMBER(mask), )\n',
        'ROW(NICE, "nice", nsd_nice, SHORT, NUMBER(value), )\n',
    ),
    "csrc/steps/process.c": (
        "    return sys1(__NR_umask, step->number[0]);\n}\n",
        "\nlong nsd_nice(struct nsd_launch *launch, const struct nsd_step *step)\n"
        "{\n    (void)launch;\n"
        "    return sys3(__NR_setpriority, 0, 0, step->number[0]);\n}\n",
    ),
    "nsdemo/_plan/operations.py": (
        '    "umask": Row("umask({mask:octal})", "set the umask", beyond="set the umask"),\n',
        '    "nice": Row("setpriority(PRIO_PROCESS, 0, {value})", "be nice"),\n',
    ),
    "nsdemo/_request/options.py": (
        '        Flag("--umask", "file mode mask, octal", "octal", "MODE"),\n    ),\n',
        '    option("nice: int = 0", "how nice.", Flag("--nice", "so", "number", "N")),\n',
    ),
    "nsdemo/_plan/request.py": (
        "    ids = _ids(request.uid, request.gid, request.groups, request.umask)\n",
        '    if request.nice:\n        ids["nice"] = request.nice\n',
    ),
    "nsdemo/_core.pyi": ("    umask: int\n", "    nice: int\n"),
    "csrc/python/request.c": (
        '    NSD_INT("umask", REQUEST, umask),\n',
        '    NSD_INT("nice", REQUEST, nice),\n',
    ),
    "csrc/core/request.h": (
        "    int umask;           /* -1: keep */\n",
        "    int nice;            /* 0: keep */\n",
    ),
    "csrc/core/process.c": (
        "        nsd_add(builder, NSD_UMASK)->number[0] = request->umask;\n",
        "    if (request->nice != 0)\n"
        "        nsd_add(builder, NSD_NICE)->number[0] = request->nice;\n",
    ),
}

TRY = """
import nsdemo
done = nsdemo.run(["nice"], nice=7, capture_output=True, text=True)
print(done.stdout.strip(), [str(step) for step in done.trace if step.operation == "nice"])
"""


def test_the_walk_goes_through_all_of_the_list() -> None:
    walked = {path for name in ("A system call", "A keyword") for path, _ in rows(name)}
    assert {*WALK} == {path for path in walked if is_source(path)} - {"csrc/core/recipes.c"}
    for path, (behind, _) in WALK.items():
        assert (PROJECT / path).read_text().count(behind) == 1, path


@pytest.mark.long
def test_the_walk_ends_with_a_keyword(tmp_path: Path) -> None:
    for name in ("csrc", "docs", "nsdemo", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, tmp_path / name)
        else:
            shutil.copy(PROJECT / name, tmp_path)
    for path, (behind, added) in WALK.items():
        text = (tmp_path / path).read_text()
        (tmp_path / path).write_text(text.replace(behind, behind + added))
    build = ["setup.py", "-q", "build_ext", "--inplace", "--force"]
    for command in (["docs/signatures.py", "--write"], build, ["-c", TRY]):
        ran = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=os.environ | {"NSDEMO_WERROR": "1", "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
    assert re.match(r"7 \['\[pid \d+\] setpriority\(PRIO_PROCESS, 0, 7\) = 0 ", ran.stdout)
