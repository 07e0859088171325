"""What every picture is made of: text that is safe to show, and HTML that suits any theme.

Names, command lines and paths come from inside containers and are hostile: ``clean`` takes from
them what moves a cursor or turns the direction of writing, and bounds their length; ``escape``
makes HTML of them.
"""

from __future__ import annotations

import html
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, ParamSpec

_P = ParamSpec("_P")

# For a terminal whose encoding lacks them.
_ASCII = str.maketrans(
    {
        "├": "|",
        "└": "`",
        "│": "|",
        "─": "-",
        "→": ">",
        "…": "~",
        "µ": "u",
    }
)

# currentColor, so that light, dark and print are right by themselves; the colours below have a
# contrast of 3:1 on white and on black alike, and a word or a shape says the same.
GREEN, RED, BLUE, GREY = "#1f9d55", "#dc4a3d", "#3b82c4", "#808080"

# The class is named twice to weigh more than JupyterLab's rules for tables.
_STYLE = """<style>
.nsdemo{color:var(--jp-content-font-color1,inherit);font-size:13px;line-height:1.4;
overflow:auto;max-height:60em;margin:.3em 0}
.nsdemo.nsdemo table{border-collapse:collapse;table-layout:auto;margin:.2em 0;font-size:13px;
color:inherit}
.nsdemo.nsdemo table caption{text-align:left;font-weight:bold;padding:.2em 0;color:inherit;
caption-side:top;white-space:nowrap}
.nsdemo.nsdemo table tbody tr{background:none}
.nsdemo.nsdemo table th,.nsdemo.nsdemo table td{text-align:left;vertical-align:top;color:inherit;
border:0;border-bottom:1px solid rgba(128,128,128,.35);padding:.15em .7em .15em .4em;
max-width:60em;overflow-wrap:break-word;white-space:pre-wrap;unicode-bidi:isolate}
.nsdemo.nsdemo table th{white-space:nowrap}
.nsdemo.nsdemo table td,.nsdemo pre{font-family:var(--jp-code-font-family,ui-monospace,Menlo,
Consolas,"DejaVu Sans Mono",monospace);color:inherit}
.nsdemo pre{margin:.2em 0;background:none;white-space:pre-wrap;overflow-wrap:anywhere}
.nsdemo.nsdemo table th.nsd-good{border-left:4px solid #1f9d55}
.nsdemo.nsdemo table th.nsd-bad{border-left:4px double #dc4a3d}
.nsdemo.nsdemo table th.nsd-same{border-left:4px dotted #808080}
.nsdemo.nsdemo table td.nsd-good{background:rgba(31,157,85,.16)}
.nsdemo.nsdemo table td.nsd-same{background:rgba(128,128,128,.16)}
.nsdemo .nsd-notice{border-left:4px solid #808080;padding:.2em .7em}
.nsdemo p{margin:.3em 0}
.nsdemo svg{display:block;max-width:none;margin:.5em 0}
@media print{.nsdemo{max-height:none;overflow:visible}}
</style>"""


# A shell's $ is no formula: what MathJax 2 and 3 leave alone, in a notebook and in a page of one.
_NO_MATH = "tex2jax_ignore mathjax_ignore"


class Picture:
    """Something to look at: text on a terminal, HTML in a notebook.

    ``print()`` gives the text, in ASCII where the terminal's encoding has nothing better; a
    notebook shows ``_repr_html_()``.

    Attributes:
        text: the text before it is fitted to a terminal.
        html: the picture as HTML, without the style sheet that ``_repr_html_()`` adds.
        svg: the drawing, to be saved in a file; None if the picture is a table.

    Example:
        >>> picture = notebook.card(box)
        >>> picture.text.split()[0], picture.svg.startswith("<svg ")
        ('namespace', True)
    """

    __slots__ = ("html", "svg", "text")

    def __init__(self, text: str, html: str, svg: str | None = None) -> None:
        self.text = text
        self.html = html
        self.svg = svg

    def __str__(self) -> str:
        return fit(self.text, getattr(sys.stdout, "encoding", None) or "ascii")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f'<div class="nsdemo {_NO_MATH}">{_STYLE}{self.html}</div>'


def drawing(text: str, svg: str, below: str = "") -> Picture:
    """A picture that is an SVG; below: HTML that follows it."""
    return Picture(text, svg + below, svg)


def notice(text: str) -> Picture:
    """A picture that only says something: why there is nothing to see."""
    text = clean(text, 2000)
    return Picture(text, f'<p class="nsd-notice" role="note">{escape(text)}</p>')


def told(function: Callable[_P, Picture]) -> Callable[_P, Picture]:
    """What cannot be looked at is no error of the learner's: it becomes a picture that says so."""

    @wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> Picture:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            return notice(because(error))

    return wrapper


def because(error: OSError) -> str:
    """An error as a sentence, its notes included."""
    text = error.strerror or str(error)
    if error.filename is not None:
        text = f"{error.filename}: {text}"
    notes = [str(note) for note in getattr(error, "__notes__", ())]
    return ". ".join([text, *notes]).rstrip(".") + "."


# -- text ------------------------------------------------------------------------------------


def clean(text: object, limit: int = 200) -> str:
    """Text that is one line, moves no cursor and keeps its direction; cut to ``limit`` columns."""
    found: list[str] = []
    width = marks = 0
    for char in str(text)[: 4 * limit]:
        mark = unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me")
        marks = marks + 1 if mark else 0
        shown = char
        # A format character (a bidi override) is not printable; two accents may pile up, not 50.
        if not char.isprintable() or marks > 2:
            shown = char.encode("unicode_escape", "surrogatepass").decode()
        found.append(shown)
        width += columns(shown)
        if width > limit:
            break
    whole = len(str(text)) <= 4 * limit and width <= limit
    if whole:
        return "".join(found)
    while found and columns("".join(found)) > limit - 1:
        found.pop()
    return "".join(found) + "…"


def columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Text filled up to a number of columns."""
    blanks = " " * (width - columns(text))
    return blanks + text if right else text + blanks


def fit(text: str, encoding: str) -> str:
    """Text that an encoding has; lines of a drawing become ASCII, the rest escapes."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    except LookupError:
        return fit(text, "ascii")
    return text


def command(args: Sequence[Any], name: str, limit: int = 80) -> str:
    """A command line, or the name in brackets where there is none, as ps(1) has it."""
    words = " ".join(map(str, args)).rstrip() if args else ""
    return clean(words, limit) if words else clean(f"[{name}]", limit)


def columns_of(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Rows as a table of text, the first row its headings."""
    right = set(right)
    widths = [max(columns(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(pad(cell, widths[i], right=i in right) for i, cell in enumerate(row)).rstrip()
        for row in rows
    )


# -- HTML ------------------------------------------------------------------------------------


def escape(text: object) -> str:
    """HTML of a text that is clean already."""
    return html.escape(str(text))


Cell = str | tuple[str, str]  # text, or text and its class


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """An HTML table; the first cell of a row is the row's heading."""
    parts = [f"<table><caption>{escape(caption)}</caption><thead><tr>"]
    parts += [f'<th scope="col">{escape(head)}</th>' for head in heads]
    parts.append("</tr></thead><tbody>")
    for first, *rest in rows:
        parts.append(_cell('<tr><th scope="row"', first, "</th>"))
        parts += [_cell("<td", cell, "</td>") for cell in rest]
        parts.append("</tr>")
    parts.append("</tbody></table>")
    return "".join(parts)


def _cell(start: str, cell: Cell, end: str) -> str:
    text, kind = (cell, "") if isinstance(cell, str) else cell
    return f'{start} class="{kind}">{escape(text)}{end}' if kind else f"{start}>{escape(text)}{end}"
