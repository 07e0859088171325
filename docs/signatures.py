"""What says again what the table of options says: python docs/signatures.py --write | --check.

The table is ``nsdemo/_request/options.py``, the types are in ``nsdemo/_types.py``, what a call says
beside its options is in ``calls.py`` here. WRITTEN is the list of the files that are made of them.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from calls import CALLS, Call

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = PROJECT / "nsdemo"
COMMAND = "python docs/signatures.py --write"
HEAD = "Written by docs/signatures.py from nsdemo/_request/options.py; do not edit."
WIDTH = 100

# The package as a name alone: its __init__ needs the module that is built of C.
sys.modules["table"] = table = types.ModuleType("table")
table.__path__ = [str(PACKAGE)]
OPTIONS = importlib.import_module("table._request.options").OPTIONS
NAMESPACES = importlib.import_module("table._request.options").NAMESPACES
With = importlib.import_module("table._request.option").With
READERS = {"switch", "store_true"} | {
    node.name
    for node in ast.parse((PACKAGE / "_flag_words.py").read_text()).body
    if isinstance(node, (ast.ClassDef, ast.FunctionDef))
}


def of(call: Call) -> list[Any]:
    """The options of a call as it has them, in its order."""
    order = (*call.words, *call.early)
    rows = [option.within(call.name) for option in OPTIONS if call.name in option.calls]
    first = sorted(
        (row for row in rows if row.name in order), key=lambda row: order.index(row.name)
    )
    return first + [row for row in rows if row.name not in order]


def parameters(call: Call, shown: Callable[[Any], tuple[str, str | None]]) -> Iterator[str]:
    """The lines between the parentheses; ``shown`` gives type and default."""
    for number, option in enumerate(of(call)):
        if number == len(call.words):
            yield "    *,"
        kind, default = shown(option)
        line = f"    {option.name}: {kind}" + ("," if default is None else f" = {default},")
        if len(line) > WIDTH:
            first, inside, last = re.fullmatch(r"(.*?\[)(.*)(\].*)", line).groups()  # type: ignore
            line = f"{first}\n        {inside}\n    {last}"
        yield line


# -- types -------------------------------------------------------------------------------------


def _aliases() -> dict[str, ast.expr]:
    """The names of ``_types`` that stand for others, and Mount, which stands for its kinds."""
    tree = ast.parse((PACKAGE / "_types.py").read_text())
    found = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    kinds = ("Bind", "Tmpfs", "Proc", "Dev", "Sysfs", "Overlay")
    found["StrPath"] = ast.parse("str | os.PathLike[str]", mode="eval").body
    found["Mount"] = ast.parse(" | ".join(f"nsdemo.{k}" for k in kinds), mode="eval").body
    found["Landlock"] = ast.parse("nsdemo.Landlock", mode="eval").body
    return found


ALIASES = _aliases()


class _Expanded(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self.visit(ALIASES[node.id]) if node.id in ALIASES else node


def _members(node: ast.expr) -> list[str]:
    if isinstance(node, ast.BinOp):
        return _members(node.left) + _members(node.right)
    return [ast.unparse(node)]


def expanded(kind: str) -> str:
    """A type without the names that only ``_types`` knows, each member once and None last."""
    members = dict.fromkeys(_members(_Expanded().visit(ast.parse(kind, mode="eval").body)))
    ordered = [m for m in members if m != "None"] + [m for m in members if m == "None"]
    return re.sub(r"'(\w+)'", r'"\1"', " | ".join(ordered))


def imports(text: str, within: str, inside: bool = False) -> list[str]:
    """The lines that import what a text uses of these names; ``inside``: in a file of _request."""
    modules = {
        "collections.abc": "Iterable Mapping Sequence",
        "typing": "IO TYPE_CHECKING Any Literal overload",
        "._request.landlock": "Landlock",
        "._types": "Command Environment File Filter IdMap Input Limit Process Target",
        "_typeshed": "HasFileno ReadableBuffer",
        "._request.values": "HasFileno OneLimit StrOrBytesPath StrPath",
        ".mounts": "Mount",
    }
    used = set(re.findall(r"\w+", text))
    lines = []
    for module in within.split():
        if names := [name for name in modules[module].split() if name in used]:
            if inside:
                module = f".{module}".replace(".._request", "") if module[0] == "." else module
            line = f"from {module} import {', '.join(names)}"
            if len(line) > WIDTH - 4:
                rows = "".join(f"    {name},\n" for name in names)
                line = f"from {module} import (\n{rows})"
            lines.append(line)
    return lines


# -- docstrings --------------------------------------------------------------------------------


def wrapped(text: str, indent: int, first: str = "") -> list[str]:
    """A paragraph; what stands between double back quotes stays on one line."""
    glued = re.sub(r"``[^`]+``", lambda found: found[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(
        first + glued,
        WIDTH - indent,
        subsequent_indent="    " if first else "",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [" " * indent + line.replace("\0", " ") for line in lines]


def told(call: Call) -> Iterator[tuple[list[str], str]]:
    """(names, what is said of them) in the order of their first."""
    rows = of(call)
    docs = {row.name: row.doc for row in rows}
    model = {row.name: row for row in OPTIONS}
    words: dict[str, list[str]] = {}
    same: list[str] = []
    for row in rows:
        teller = row.doc.option if isinstance(row.doc, With) else row.name
        doc = docs[teller]
        if call.briefly and call.like in row.calls:
            continue
        if call.like in row.calls and doc == model[teller].doc and len(doc) > WIDTH - 30:
            same.append(row.name)
        else:
            words.setdefault(teller, []).append(row.name)
    for teller, names in words.items():
        yield names, docs[teller]
    if same:
        yield same, f"as in ``{call.like}``."


def docstring(call: Call) -> list[str]:
    """What ``help`` shows."""
    lines = [*call.head.strip().splitlines(), "", "Args:"]
    for names, doc in told(call):
        lines += [line[4:] for line in wrapped(doc, 8, ", ".join(names) + ": ")]
    lines += ["", *call.tail.strip().splitlines()]
    lines = [f"    {line}".rstrip() for line in lines]
    quotes = 'r"""' if "\\" in call.tail else '"""'
    return [f"    {quotes}{lines[0].strip()}", *lines[1:], '    """']


# -- the files ---------------------------------------------------------------------------------


def joined(*parts: str) -> str:
    """A file."""
    return "\n".join(parts).rstrip() + "\n"


def api() -> str:
    """The calls themselves."""
    functions = []
    for call in CALLS:
        given = {option.name for option in of(call)}
        launch = "Container._start" if call.returns == "Container" else "run_plan"
        lines = [
            f"def {call.name}(",
            *parameters(call, lambda option: (expanded(option.type), option.default)),
            ") -> Any:",
            *docstring(call),
            f"    request = {call.request}()",
        ]
        for option in asked(call.request):
            value = option.name if option.name in given else option.default
            lines.append(f"    request.{option.name} = {value}")
        lines.append(f"    plan = {call.plan}(request)")
        lines.append(f"    return plan if dry_run else {launch}(plan)")
        functions.append("\n".join(lines))
    text = "\n\n\n".join(functions)
    return joined(
        f'"""The calls: what they are given, the plan that it means, its launch.\n\n{HEAD}\n"""\n',
        "from __future__ import annotations\n",
        "import os",
        *imports(text, "collections.abc"),
        *imports(f"TYPE_CHECKING {text}", "typing"),
        "\nimport nsdemo\n",
        "from ._launch.container import Container",
        "from ._launch.run import run_plan",
        f"from ._plan.planned import {', '.join(sorted({call.plan for call in CALLS}))}",
        f"from ._request.given import {', '.join(sorted({call.request for call in CALLS}))}",
        *imports(text, "._request.values"),
        "\nif TYPE_CHECKING:",
        "    from ._types import ExportsBpf, ExportsBpfMem, ReadableBuffer",
        "else:  # to be found by typing.get_type_hints; no call needs them",
        "    ExportsBpf = ExportsBpfMem = ReadableBuffer = Any\n\n",
        text,
    )


def overloads(call: Call) -> Iterator[tuple[str, dict[str, tuple[str, str | None]]]]:
    """(what is returned, the options that say so)."""
    no = {"dry_run": ("Literal[False]", "False")}
    yield "Plan", {"dry_run": ("Literal[True]", None)}
    for name, kind in (("text", "Literal[True]"), ("encoding", "str"), ("errors", "str")):
        yield f"{call.returns}[str]", {name: (kind, None), "input": ("str | None", "None")} | no
    plain = {
        "text": ("Literal[False] | None", "None"),
        "encoding": ("None", "None"),
        "errors": ("None", "None"),
        "input": ("ReadableBuffer | None", "None"),
    }
    yield f"{call.returns}[bytes]", plain | no
    yield "Any", {}


def stub() -> str:
    """The calls as a type checker sees them."""
    lines = []
    for call in CALLS:
        for returned, known in overloads(call):

            def shown(
                option: Any, known: dict[str, tuple[str, str | None]] = known
            ) -> tuple[str, str | None]:
                return known.get(option.name, (option.type, option.default))

            lines += ["@overload", f"def {call.name}(", *parameters(call, shown)]
            lines.append(f") -> {returned}: ...")
    text = "\n".join(lines)
    return joined(
        '"""The calls as a type checker sees them: text, encoding or errors make str of bytes.',
        "\nThe last overload of each is for arguments that are only known when the program runs.",
        f'\n{HEAD}\n"""\n',
        "import os",
        *imports(text, "collections.abc typing"),
        "",
        *imports(text.replace("HasFileno", ""), "_typeshed"),
        "\nfrom ._launch.container import Container",
        "from ._launch.run import CompletedProcess",
        "from ._plan.plan import Plan",
        *imports(text, "._request.landlock ._request.values ._types .mounts"),
        "",
        text,
    )


def asked(request: str) -> list[Any]:
    """The options of the calls that have this class of request, each once, as they have them."""
    rows: dict[str, Any] = {}
    for call in CALLS:
        if call.request == request:
            rows |= {row.name: row for row in of(call) if row.name != "dry_run"}
    return list(rows.values())


def slots(names: list[str]) -> list[str]:
    """__slots__, as the formatter has it."""
    return ["    __slots__ = (", *(f'        "{name}",' for name in sorted(names)), "    )"]


def given() -> str:
    """The classes of the requests, and what a plan keeps of one."""
    requests = {request: asked(request) for request in dict.fromkeys(c.request for c in CALLS)}
    alike: dict[str, set[str]] = {}
    for rows in requests.values():
        for row in rows:
            alike.setdefault(row.name, set()).add(row.type)
    everywhere = [{row.name for row in rows} for rows in requests.values()]
    common = {name for name, kinds in alike.items() if len(kinds) == 1}
    common = common.intersection(*everywhere)
    kept = [option for option in OPTIONS if option.kept]
    lines = [
        "class RunOptions:",
        '    """What start() and run() of a plan take."""\n',
        *slots([option.name for option in kept]),
        "\n    def __init__(",
        "        self,",
        *(f"        {option.name}: {option.type} = {option.default}," for option in kept),
        "    ) -> None:",
        *(f"        self.{option.name} = {option.name}" for option in kept),
        "\n    def over(self, kept: RunOptions) -> RunOptions:",
        '        """These, and where they say nothing, those that were kept."""',
        "        return RunOptions(",
        *(
            f"            self.{o.name} if is_given(self.{o.name}) else kept.{o.name},"
            for o in kept
        ),
        "        )\n\n",
        "class Request:",
        '    """What all calls have."""\n',
    ]
    rows = [row for row in OPTIONS if row.name in common]
    lines += slots([row.name for row in rows])
    lines += [f"    {row.name}: {row.type}" for row in rows]
    lines += [
        "\n    def run_options(self) -> RunOptions:",
        '        """What the plan keeps for its start() and run()."""',
        "        return RunOptions(",
        *(f"            self.{option.name}," for option in kept),
        "        )",
    ]
    for request, rows in requests.items():
        rows = [row for row in rows if row.name not in common]
        name = " and ".join(call.name for call in CALLS if call.request == request)
        lines += [f"\n\nclass {request}(Request):", f'    """And what {name} has beside."""\n']
        lines += slots([row.name for row in rows])
        lines += [f"    {row.name}: {row.type}" for row in rows]
        keywords = [row for row in rows if row.name in NAMESPACES]
        if keywords:
            kind = " | ".join(dict.fromkeys(m for row in keywords for m in row.type.split(" | ")))
            lines += [
                f"\n    def namespaces(self) -> dict[str, {kind}]:",
                '        """What its eight keywords say."""',
                "        return {",
                *(f'            "{row.name}": self.{row.name},' for row in keywords),
                "        }",
            ]
    lines += [
        "\n\n# What the eight keywords of spawn are to those who say nothing.",
        "UNSAID = {",
        *(f'    "{o.name}": {o.default},' for o in OPTIONS if o.name in NAMESPACES),
        "}",
    ]
    text = "\n".join(lines)
    return joined(
        f'"""What a call was given, an attribute for each of its options.\n\n{HEAD}\n"""\n',
        "from __future__ import annotations\n",
        "from typing import TYPE_CHECKING\n",
        "from .values import is_given\n",
        "if TYPE_CHECKING:",
        "    import os",
        *(f"    {line}" for line in imports(text, "collections.abc typing")),
        "",
        *(
            textwrap.indent(line, "    ")
            for line in imports(
                text, "._types .mounts ._request.landlock ._request.values", inside=True
            )
        ),
        "\n",
        text,
    )


def cell(text: str) -> str:
    """In a table of Markdown."""
    return text.replace("|", "\\|")


def reference() -> str:
    """Every option, for readers."""
    lines = [
        "# The options of the calls\n",
        f"<!-- {HEAD} -->\n",
        "What `chroot_run`, `spawn`, `run` and `enter` take, by name, and the flags of it that the",
        "command line (`nsdemo chroot`, `spawn`, `enter`) and the notebook's magics have.",
        "[PARITY.md](PARITY.md) says which option of unshare(1), nsenter(1), chroot(1) or",
        "bwrap(1) each is.\n",
        "| option | calls | type | default | flags |",
        "|---|---|---|---|---|",
    ]
    for option in OPTIONS:
        for calls, row in variants(option, "type", "default"):
            flags = " ".join(
                f"`{name}`"
                for flag in option.flags
                if set(flag.calls or option.calls) & set(calls)
                for name in [*flag.names.split(), *opposite(flag)]
            )
            default = "" if row.default is None else f"`{row.default}`"
            kind = cell(expanded(row.type))
            where = "all" if len(calls) == len(CALLS) else ", ".join(calls)
            lines.append(f"| `{row.name}` | {where} | `{kind}` | {default} | {flags} |")
    lines.append("\n## What they mean\n")
    for option in OPTIONS:
        if isinstance(option.doc, With):
            continue
        names = [option.name, *(o.name for o in OPTIONS if o.doc == With(option.name))]
        lines += wrapped(option.doc, 0, "- " + ", ".join(f"**{n}**" for n in names) + ": ")
        lines += [
            line
            for calls, row in variants(option, "doc")
            if row.doc != option.doc and not isinstance(row.doc, With)
            for line in wrapped(row.doc, 2, f"- {', '.join(calls)}: ")
        ]
    return joined(*lines).replace("``", "`")


def opposite(flag: Any) -> list[str]:
    """The other half of a switch."""
    return [flag.names.replace("--", "--no-", 1)] if flag.reads == "switch" else []


def variants(option: Any, *columns: str) -> list[tuple[list[str], Any]]:
    """(the calls in which these columns are the same, the row there)."""
    found: list[tuple[list[str], Any]] = []
    for call in CALLS:
        if call.name in option.calls:
            row = option.within(call.name)
            for calls, known in found:
                if all(getattr(known, column) == getattr(row, column) for column in columns):
                    calls.append(call.name)
                    break
            else:
                found.append(([call.name], row))
    return found


WRITTEN: dict[str, Callable[[], str]] = {
    "nsdemo/_api.py": api,
    "nsdemo/_api.pyi": stub,
    "nsdemo/_request/given.py": given,
    "docs/OPTIONS.md": reference,
}


def missing() -> Iterator[str]:
    """What the table does not say."""
    names = {option.name for option in OPTIONS}
    for option in OPTIONS:
        for where, row in [("", option), *((f" in {c}", option.within(c)) for c in option.other)]:
            if isinstance(row.doc, With) and row.doc.option not in names:
                yield f"{row.name}{where}: there is no option {row.doc.option!r} that tells it"
            elif not row.doc:
                yield f"{row.name}{where}: no words say what it means"
        for flag in option.flags:
            if not flag.help:
                yield f"{option.name}: no words for --help say what {flag.names} means"
            if flag.reads is not None and flag.reads not in READERS:
                what = f"{flag.reads} to read {flag.names}"
                yield f"{option.name}: nsdemo/_flag_words.py has no {what}"


def main(words: list[str]) -> int:
    """The exit status."""
    if words not in (["--write"], ["--check"]):
        print(__doc__)
        return 2
    for line in (lacks := list(missing())):
        print(f"nsdemo/_request/options.py: {line}")
    if lacks:
        return 1
    status = 0
    for name, make in WRITTEN.items():
        path, text = PROJECT / name, make()
        if not path.exists() or path.read_text() != text:
            if words == ["--write"]:
                path.write_text(text)
                print(f"{name}: written")
            else:
                print(f"{name} is not what nsdemo/_request/options.py says; to write it: {COMMAND}")
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
