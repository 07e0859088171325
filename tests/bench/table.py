"""Tables as aligned text and as Markdown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass
class Table:
    """Rows of cells under a header; ``right`` names the columns that hold figures."""

    title: str
    header: Sequence[str]
    right: frozenset[str] = frozenset()
    rows: list[Sequence[str]] = dataclasses.field(default_factory=list)

    def text(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [self._line(row, widths, "  ").rstrip() for row in (self.header, *self.rows)]
        rule = "  ".join("-" * width for width in widths)
        return "\n".join((self.title, "", lines[0], rule, *lines[1:]))

    def markdown(self) -> str:
        rules = ["---:" if name in self.right else "---" for name in self.header]
        rows = (self.header, rules, *self.rows)
        lines = [f"| {' | '.join(cell.strip() for cell in row)} |" for row in rows]
        return "\n".join((f"### {self.title}", "", *lines))

    def _line(self, row: Sequence[str], widths: Sequence[int], gap: str) -> str:
        return gap.join(
            cell.rjust(width) if name in self.right else cell.ljust(width)
            for name, cell, width in zip(self.header, row, widths, strict=True)
        )
