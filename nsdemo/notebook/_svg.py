"""A small pen for SVG: text, boxes and lines that suit a light theme, a dark one and paper.

Only attributes, no style sheet and no script, so that a drawing stays whole in a file of its own
and wherever style sheets are taken away. Text is currentColor. Everything is XML, and every drawing
has a title and a description: with role="img" they are what a screen reader says.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1

from ._picture import GREY, columns, escape

SIZE = 13  # of the text, in pixels
COLUMN = 8.0  # the width of a character of a monospaced font of that size, with some room
LINE = 22  # from one line of text to the next

_FONT = "var(--jp-code-font-family,ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace)"


_TWO_SPACES = "\N{NO-BREAK SPACE}" * 2


def width_of(text: str) -> float:
    """How wide a text is, in pixels."""
    return columns(text) * COLUMN


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


class Drawing:
    """A sheet that grows with what is drawn on it."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.width = 0.0
        self.height = 0.0

    def _reach(self, x: float, y: float) -> None:
        self.width = max(self.width, x)
        self.height = max(self.height, y)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        anchor: str = "start",
        bold: bool = False,
        faint: bool = False,
        kind: str = "",
    ) -> None:
        """Words (clean already) on the line that ends at y; anchor: start, middle or end."""
        size = width_of(words)
        self._reach({"start": x + size, "middle": x + size / 2, "end": x}[anchor], y + 6)
        self._parts.append(
            f'<text x="{_number(x)}" y="{_number(y)}"'
            + (f' class="{kind}"' if kind else "")
            + (f' text-anchor="{anchor}"' if anchor != "start" else "")
            + (' font-weight="bold"' if bold else "")
            + (' opacity=".75"' if faint else "")
            # Two spaces would become one.
            + f">{escape(words.replace('  ', _TWO_SPACES))}</text>"
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        colour: str = GREY,
        dashed: bool = False,
        thick: bool = False,
        filled: bool = True,
        kind: str = "",
    ) -> None:
        """A rectangle with round corners."""
        self._reach(x + width + 1, y + height + 1)
        self._parts.append(
            f'<rect x="{_number(x)}" y="{_number(y)}" width="{_number(width)}" '
            f'height="{_number(height)}" rx="4" stroke="{colour}" '
            + (f'class="{kind}" ' if kind else "")
            + ('stroke-dasharray="5 3" ' if dashed else "")
            + ('stroke-width="2" ' if thick else "")
            + (f'fill="{colour}" fill-opacity=".16"/>' if filled else 'fill="none"/>')
        )

    def line(
        self,
        points: Sequence[tuple[float, float]],
        *,
        colour: str = GREY,
        dashed: bool = False,
        thick: bool = False,
        arrow: bool = False,
        kind: str = "",
    ) -> None:
        """A line through points; arrow: a head at its end."""
        for x, y in points:
            self._reach(x + 1, y + 1)
        path = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}"'
            + (f' class="{kind}"' if kind else "")
            + (' stroke-dasharray="4 3"' if dashed else "")
            + (' stroke-width="2"' if thick else "")
            + "/>"
        )
        if arrow:
            (fromx, fromy), (x, y) = points[-2:]
            length = max(1.0, ((x - fromx) ** 2 + (y - fromy) ** 2) ** 0.5)
            dx, dy = (x - fromx) / length * 9, (y - fromy) / length * 9
            head = (
                (x, y),
                (x - dx - dy * 0.45, y - dy + dx * 0.45),
                (x - dx + dy * 0.45, y - dy - dx * 0.45),
            )
            self._polygon(head, colour, "nsd-head")

    def bar(self, x: float, y: float, width: float, *, colour: str, kind: str) -> None:
        """A bar of a chart, ten pixels high."""
        self._reach(x + width, y + 10)
        self._parts.append(
            f'<rect x="{_number(x)}" y="{_number(y)}" width="{_number(width)}" height="10" '
            f'fill="{colour}" fill-opacity=".7" class="{kind}"/>'
        )

    def dot(self, x: float, y: float, radius: float = 4.5, *, colour: str, kind: str = "") -> None:
        """A filled circle."""
        self._reach(x + radius, y + radius)
        name = f' class="{kind}"' if kind else ""
        self._parts.append(
            f'<circle cx="{_number(x)}" cy="{_number(y)}" r="{radius}" fill="{colour}"{name}/>'
        )

    def cross(self, x: float, y: float, radius: float = 5.5, *, colour: str, kind: str) -> None:
        """A mark for what has failed."""
        self._reach(x + radius, y + radius)
        low_x, low_y, high_x, high_y = map(
            _number, (x - radius, y - radius, x + radius, y + radius)
        )
        self._parts.append(
            f'<path d="M{low_x} {low_y}L{high_x} {high_y}M{low_x} {high_y}L{high_x} {low_y}" '
            f'stroke="{colour}" stroke-width="3" class="{kind}"/>'
        )

    def _polygon(self, points: Sequence[tuple[float, float]], colour: str, kind: str) -> None:
        path = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        self._parts.append(f'<polygon points="{path}" fill="{colour}" class="{kind}"/>')

    def finish(self, title: str, description: str) -> str:
        """The SVG. title and description are clean; they say what the drawing shows."""
        body = "".join(self._parts)
        # Unique on a page, and the same for the same drawing.
        name = (
            "nsd-"
            + sha1((title + description + body).encode(), usedforsecurity=False).hexdigest()[:10]
        )
        width, height = _number(self.width + 3), _number(self.height + 3)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width}" '
            f'height="{height}" viewBox="-2 -2 {width} {height}" '
            f'aria-labelledby="{name}-t" aria-describedby="{name}-d" '
            f'font-size="{SIZE}" fill="currentColor" '
            f'style="font-family:{_FONT}">'
            f'<title id="{name}-t">{escape(title)}</title>'
            f'<desc id="{name}-d">{escape(description)}</desc>{body}</svg>'
        )
