"""The course, as Markdown notebooks beside this file, and the three things that they import.

``needs`` stops a lesson with doctor's reason where the machine refuses what the lesson is about;
``root_with_python`` makes a root with this Python in it; ``engine_container`` starts a container
of Docker or Podman, where one of them runs. TEACHING.md is for whoever gives the course.
"""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import nsdemo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._engine import EngineContainer

__all__ = ["Refused", "engine_container", "needs", "root_with_python"]


class Refused(Exception):
    """This machine refuses what a lesson is about; the text says who, and what to do.

    Example:
        >>> raise Refused([("pid", False, "no pid namespace", "an engine", "run it outside")])
        Traceback (most recent call last):
        nsdemo.lessons.Refused: This lesson stops here: the machine refuses what it is about.
          pid: no pid namespace (forbidden by an engine)
            what to do: run it outside
        nsdemo.doctor() shows all that works here, and all that does not.
    """

    def __init__(self, refused: Sequence[tuple[str, bool, str, str, str]]) -> None:
        super().__init__(refused)
        self.refused = refused

    def __str__(self) -> str:
        names: dict[tuple[str, ...], list[str]] = {}
        for name, _, *reason in self.refused:
            names.setdefault(tuple(map(str, reason)), []).append(name)
        lines = ["This lesson stops here: the machine refuses what it is about."]
        for (detail, forbidden_by, advice), rows in names.items():
            who = f" (forbidden by {forbidden_by})" if forbidden_by else ""
            lines.append(f"  {', '.join(rows)}: {detail}{who}")
            lines += [f"    what to do: {advice}"] if advice else []
        lines.append("nsdemo.doctor() shows all that works here, and all that does not.")
        return "\n".join(lines)

    def _render_traceback_(self) -> list[str]:
        """For IPython: the text alone. Where it was raised explains nothing."""
        return str(self).splitlines()


def needs(*rows: str) -> None:
    """Stop a lesson here, with the reason, where the machine refuses what it needs.

    rows are names of rows of ``nsdemo.doctor()``. Prints one line if all of them work.

    Raises Refused if one does not: in a notebook, "Run All" then ends here, without a traceback.

        >>> needs("chroot")
        This machine allows it: chroot.

    """
    findings = nsdemo.doctor()
    refused = [findings[row] for row in rows if not findings[row].works]
    if refused:
        raise Refused(refused)
    print(f"This machine allows it: {', '.join(rows)}.")


def root_with_python(programs: Sequence[str] = ()) -> nsdemo.Rootfs:
    """Make a root from programs of this machine and from this Python, as /bin/python3.

    Start it with -I and -S, and give it a file or its input: -c needs more modules from 3.13 on. It
    knows those that are part of the interpreter (os, sys, time), and no others, such as json.

        >>> with root_with_python() as root:
        ...     nsdemo.run(
        ...         ["python3", "-IS"], root=root, input=b"print(6 * 7)", capture_output=True
        ...     ).stdout
        b'42\\n'

    """
    python = os.path.realpath(sys.executable)
    library = os.path.dirname(os.__file__)
    root = nsdemo.Rootfs.from_host([python, *programs])
    with ExitStack() as on_failure:
        on_failure.push(root)
        # Python finds itself by two landmarks, and reads one package before it can do anything.
        place = root.path + library
        os.makedirs(f"{place}/lib-dynload", exist_ok=True)
        shutil.copy(f"{library}/os.py", place)
        shutil.copytree(
            f"{library}/encodings",
            f"{place}/encodings",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        if os.path.basename(python) != "python3":
            os.symlink(os.path.basename(python), f"{root.path}/bin/python3")
        on_failure.pop_all()
    return root


def engine_container(root: str | os.PathLike[str]) -> EngineContainer | None:
    """Start a container of Docker or Podman with the files of a root, or print why there is none.

    The root must have a sleep. Each command that is run is printed, too. The container ends with
    ``stop()``, and with this Python.
    """
    from ._engine import start

    return start(root)
