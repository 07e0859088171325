"""What objects show by themselves: a container, a command that is over, a failure, the doctor."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import nsdemo

from ._card import card
from ._picture import Cell, Picture, because, clean, columns_of, escape, notice, table
from ._processes import processes
from ._timeline import timeline

_MOST_OUTPUT = 4000  # characters of a stream


def container(container: nsdemo.Container[Any]) -> Picture:
    """A running container: its namespaces and its processes. One that has ended says so.

    Example:
        >>> print(notebook.container(box))
        Container, pid ...: sleep 60
        ...
    """
    shown = _words(container.args)
    if container._has_ended():
        status = container.returncode
        said = "nobody here was told how" if status is None else status_words(status)
        return notice(f"This container has ended ({said}): {shown}")
    parts = [card(container), processes(container)]
    head = f"Container, pid {container.pid}: {shown}"
    text = "\n\n".join([head, *(part.text for part in parts)])
    html = "".join(f"<p></p>{part.html}" for part in parts)
    return Picture(text, f"<p><strong>{escape(head)}</strong></p>{html}")


def _words(args: Any) -> str:
    """A command as one types it."""
    return clean(shlex.join(map(os.fsdecode, args)), 120)


def status_words(status: int) -> str:
    """ "status 1", or which signal ended it."""
    if status >= 0:
        return f"status {status}"
    import signal

    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"ended by {name}, status {status}"


def completed(process: nsdemo.CompletedProcess[Any]) -> Picture:
    """A command that is over: status, what it printed, and how its container was made.

    Example:
        >>> print(notebook.completed(nsdemo.run(["true"])))
        Status 0: true
        ...
    """
    head = f"{status_words(process.returncode)}: {_words(process.args)}"
    head = head[0].upper() + head[1:]
    texts, parts = [head], [f"<p><strong>{escape(head)}</strong></p>"]
    for name, stream in (("stdout", process.stdout), ("stderr", process.stderr)):
        if stream:
            shown = _lines_of(stream)
            texts += [f"{name}:", shown]
            parts.append(f"<p>{name}:</p><pre>{escape(shown)}</pre>")
    made = timeline(process) if process.trace else None
    if made is not None:
        texts.append(made.text)
        parts.append(made.html)
    return Picture("\n".join(texts), "".join(parts))


def _lines_of(stream: str | bytes) -> str:
    text = stream.decode(errors="backslashreplace") if isinstance(stream, bytes) else stream
    lines = [clean(line.expandtabs(), 400) for line in text[:_MOST_OUTPUT].splitlines()]
    if len(text) > _MOST_OUTPUT:
        lines.append(f"… and {len(text) - _MOST_OUTPUT:,} characters more")
    return "\n".join(lines)


def failure(error: nsdemo.NamespaceError) -> Picture:
    """A NamespaceError: the step that failed, the cause, and what can be done about it.

    Example:
        >>> try:
        ...     nsdemo.run(["true"], root="/nowhere")
        ... except nsdemo.NamespaceError as error:
        ...     print(notebook.failure(error))
        The container could not be set up; the command never ran
        ...
    """
    trace = getattr(error, "trace", ())
    step = getattr(error, "step", None)
    notes = [clean(note, 1000) for note in getattr(error, "__notes__", ())]
    rows = [("cause", clean(because(OSError(error.errno, error.strerror)), 1000))]
    if step is not None:
        call = clean(nsdemo.Step(step.operation, step.args), 200)
        place = f"step {len(trace)}: {call}" if trace else call
        rows.insert(0, ("step", place))
    rows += [("hint", note) for note in notes] or [("hint", "none is known for this one")]
    title = "The container could not be set up; the command never ran"
    heads = ("", "what happened")
    shown = [((name, _KINDS[name]), text) for name, text in rows]
    html = table(title, heads, shown)
    text = "\n".join([title, *(f"{name}: {value}" for name, value in rows)])
    if len(trace) > 1:
        made = timeline(trace)
        html += f"<details><summary>All {len(trace)} steps</summary>{made.html}</details>"
    return Picture(text, html)


_KINDS = {"step": "nsd-bad", "cause": "nsd-bad", "hint": "nsd-good"}


def findings(found: nsdemo.Findings) -> Picture:
    """The doctor's table.

    Example:
        >>> print(notebook.findings(nsdemo.doctor()))
        What this machine allows: ...
    """
    rows = [
        (
            row.name,
            "yes" if row.works else "no",
            clean(row.detail, 300),
            clean(row.forbidden_by, 100),
            clean(row.advice, 600),
        )
        for row in found
    ]
    heads = ("what", "works", "how, or why not", "forbidden by", "what to do")
    title = f"What this machine allows: {sum(row.works for row in found)} of {len(found)}"
    shown: list[Sequence[Cell]] = [
        ((name, "nsd-good" if works == "yes" else "nsd-bad"), works, *rest)
        for name, works, *rest in rows
    ]
    return Picture(f"{title}\n{columns_of([heads, *rows])}", table(title, heads, shown))


def show_errors(shell: Any) -> None:
    """Let an IPython shell show step, cause and hint below the traceback of a NamespaceError.

    The traceback ends where nsdemo was called; what lies below is in the step. shell is what
    ``load_ipython_extension`` is handed. IPython has one handler of this kind: one that was set
    before is replaced, and ``shell.set_custom_exc((), None)`` takes this one away.
    """

    def handler(
        shell: Any,
        kind: type[BaseException],
        error: BaseException,
        trace: TracebackType | None,
        tb_offset: Any = None,
    ) -> None:
        shell.showtraceback((kind, error, _callers(trace)), tb_offset=tb_offset)
        if isinstance(error, nsdemo.NamespaceError):
            from IPython.display import display

            display(failure(error))  # type: ignore[no-untyped-call]

    shell.set_custom_exc((nsdemo.NamespaceError,), handler)


def _callers(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of nsdemo itself at its end."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
    kept: list[TracebackType] = []
    here = trace
    while here is not None and not here.tb_frame.f_code.co_filename.startswith(package):
        kept.append(here)
        here = here.tb_next
    shown = None
    for each in reversed(kept):
        shown = TracebackType(shown, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return shown or trace
