"""Pictures taken apart: their HTML read as XML, so that what is not well-formed fails."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsdemo.notebook import Picture

SVG = "{http://www.w3.org/2000/svg}"
_ALLOWED = {
    *("div", "style", "p", "strong", "pre", "details", "summary", "table", "caption"),
    *("thead", "tbody", "tr", "th", "td"),
    *(SVG + name for name in ("svg", "title", "desc", "text", "rect", "circle", "polyline")),
    *(SVG + name for name in ("polygon", "path")),
}
_ATTRIBUTES = {
    *(
        "class",
        "style",
        "role",
        "id",
        "aria-labelledby",
        "aria-describedby",
        "scope",
        "width",
        "height",
        "viewBox",
    ),
    *("x", "y", "rx", "r", "cx", "cy", "d", "points", "fill", "fill-opacity", "stroke"),
    *("stroke-width", "stroke-dasharray", "opacity", "font-size", "font-weight", "text-anchor"),
}


class Taken:
    """A picture taken apart, and checked for what every picture must be."""

    def __init__(self, html: str) -> None:
        self.html = html
        self.root = ElementTree.fromstring(html)
        for element in self.root.iter():
            assert element.tag in _ALLOWED, element.tag
            assert set(element.attrib) <= _ATTRIBUTES, element.attrib
        self.drawings = list(self.root.iter(f"{SVG}svg"))
        for drawing in self.drawings:
            _check_drawing(drawing)
        for table in self.root.iter("table"):
            _check_table(table)
        for text in self.root.itertext():
            assert re.fullmatch(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e]*", text)

    def kind(self, name: str) -> list[ElementTree.Element]:
        """The elements of a class."""
        return [each for each in self.root.iter() if each.get("class") == name]

    def words(self, name: str) -> list[str]:
        """The text of the elements of a class."""
        return ["".join(each.itertext()) for each in self.kind(name)]

    @property
    def rows(self) -> list[list[str]]:
        """The cells of the only table, without its headings."""
        (body,) = self.root.iter("tbody")
        return [["".join(cell.itertext()) for cell in row] for row in body]

    @property
    def said(self) -> str:
        """What a screen reader says of the only drawing."""
        (drawing,) = self.drawings
        return "".join(drawing[0].itertext()) + ": " + "".join(drawing[1].itertext())

    @property
    def all(self) -> str:
        return " ".join(self.root.itertext())


def _check_drawing(drawing: ElementTree.Element) -> None:
    assert drawing.get("role") == "img"
    title, description = drawing[0], drawing[1]
    assert (title.tag, description.tag) == (f"{SVG}title", f"{SVG}desc")
    assert title.text
    assert description.text
    assert drawing.get("aria-labelledby") == title.get("id")
    assert drawing.get("aria-describedby") == description.get("id")
    assert drawing.get("fill") == "currentColor"
    width, height = float(drawing.get("width", "")), float(drawing.get("height", ""))
    for text in drawing.iter(f"{SVG}text"):
        assert text.get("fill") is None, "text has the colour of its surroundings"
        left, right = _span(text)
        assert left >= -2, text.text
        assert right <= width, text.text
        assert 0 < float(text.get("y", "")) < height


def _span(text: ElementTree.Element) -> tuple[float, float]:
    """Where a text begins and ends, in a font of 13 pixels whose characters are 7.83 wide."""
    x, size = float(text.get("x", "")), 7.83 * len(text.text or "")
    start = {"start": x, "middle": x - size / 2, "end": x - size}[text.get("text-anchor", "start")]
    return start, start + size


def _check_table(table: ElementTree.Element) -> None:
    caption, head, body = table
    assert (caption.tag, head.tag, body.tag) == ("caption", "thead", "tbody")
    assert caption.text
    (heads,) = head
    assert all(cell.tag == "th" and cell.get("scope") == "col" for cell in heads)
    for row in body:
        assert len(row) == len(heads)
        assert row[0].tag == "th"
        assert row[0].get("scope") == "row"
        assert all(cell.tag == "td" for cell in row[1:])


def taken(picture: Picture) -> Taken:
    """A picture taken apart; its text is one that a terminal can show."""
    lines = picture.text.split("\n")
    assert all(line.isprintable() for line in lines), picture.text
    assert str(picture) == repr(picture)
    found = Taken(picture._repr_html_())
    if picture.svg is not None:
        assert ElementTree.fromstring(picture.svg).tag == f"{SVG}svg"
        assert picture.svg in picture.html
    return found


def words_of(text: str) -> Iterator[list[str]]:
    """The lines of a picture's text, in words."""
    for line in text.splitlines():
        yield line.split()
