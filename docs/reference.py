"""Writes the reference of all public names, from the package itself; docs/build runs this."""

from __future__ import annotations

import argparse
import ast
import functools
import http.server
import importlib
import importlib.util
import sys
import warnings
import webbrowser
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent

MODULES = tuple(
    f"nsdemo{name}"
    for name in (
        *("", ".mounts", ".rootfs", ".kernel", ".flags"),
        *(".notebook", ".check", ".lessons"),
    )
)


def missing() -> str | None:
    """What has to be installed first, in one line."""
    for name in ("nsdemo", "pdoc"):
        if importlib.util.find_spec(name) is None:
            return (
                f"docs/build: {sys.executable} has no {name}; "
                f"install it with: {sys.executable} -m pip install -e '{HERE.parent}[docs]'"
            )
    return None


def load_all() -> None:
    """What nsdemo loads when it is asked for, pdoc does not ask for."""
    for name in MODULES:
        module = importlib.import_module(name)
        vars(module).update({each: getattr(module, each) for each in module.__all__})
    others = ", ".join(f"`{name}`" for name in MODULES[1:])
    sys.modules[
        "nsdemo"
    ].__doc__ = f"{sys.modules['nsdemo'].__doc__}\nMore public names: {others}.\n"
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "nsdemo" and (module.__file__ or "").endswith(".py"):
            import_types(module)


def import_types(module: ModuleType) -> None:
    """What is imported for type checkers only; pdoc looks the annotations' names up."""
    assert module.__file__ is not None
    for node in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                try:
                    exec(ast.unparse(statement), vars(module))
                except ImportError:  # _typeshed is nowhere but in a checker
                    continue


def write(folder: Path) -> Path:
    """Write the pages; returns the first."""
    import pdoc

    load_all()
    pdoc.render.configure(
        docformat="google", footer_text=f"nsdemo {sys.modules['nsdemo'].__version__}"
    )
    with warnings.catch_warnings():
        # An annotation that cannot be evaluated is shown as it is written.
        warnings.filterwarnings("ignore", "(Error|Failed).*type annotation|.*TYPE_CHECKING")
        warnings.filterwarnings("ignore", "Cannot determine where")
        pdoc.pdoc(*MODULES, output_directory=folder)
    return folder / "nsdemo.html"


def serve(folder: Path, port: int) -> None:
    """Hand the pages out to browsers of this machine until Ctrl-C."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/nsdemo.html (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def main() -> int:
    """Build; then show or serve, if that is asked for."""
    parser = argparse.ArgumentParser(prog="docs/build", description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=HERE / "html", help="where to (docs/html)"
    )
    parser.add_argument("--open", action="store_true", help="show it in a browser")
    parser.add_argument("--serve", type=int, metavar="PORT", help="to a browser elsewhere; 0: any")
    options = parser.parse_args()
    if text := missing():
        print(text, file=sys.stderr)
        return 1
    first = write(options.folder).resolve()
    print(first)
    if options.open and not webbrowser.open(first.as_uri()):
        print("docs/build: there is no browser here; open that file in one", file=sys.stderr)
        return 1
    if options.serve is not None:
        serve(first.parent, options.serve)
    return 0


if __name__ == "__main__":
    sys.exit(main())
