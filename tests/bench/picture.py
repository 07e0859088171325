"""The ratios to the baseline as a bar chart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from channel import Refused
from peers import GROUPS, Group
from rounds import Figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, THEIRS, BASELINE, EDGE = "#1b4f72", "#c3ccd3", "#7d8a94", "#30363b"
TICKS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
LEFT_END = 0.5
ROW_INCHES, TITLE_INCHES, MARGIN_INCHES = 0.27, 0.42, 1.25
WORTH_WORDS = 1.5  # a heap that makes a launch this many times slower is spelled out


def draw(figures: Figures, path: Path, caption: str) -> None:
    """Write the chart to ``path``, whose suffix is its format (.svg, .png, .pdf)."""
    try:
        import matplotlib
    except ImportError:
        raise Refused("a picture needs matplotlib") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = [(group, ways) for group in GROUPS if (ways := _measured(figures, group))]
    if not groups:
        raise Refused("nothing was measured that could be drawn")
    rows = [len(ways) for _, ways in groups]
    height = ROW_INCHES * sum(rows) + TITLE_INCHES * len(groups) + MARGIN_INCHES
    figure, panels = pyplot.subplots(
        len(groups),
        figsize=(8.8, height),
        height_ratios=rows,
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for (group, ways), axes in zip(groups, panels[:, 0], strict=True):
        _panel(axes, figures, group, ways)
    last = panels[-1, 0]
    last.set_xlim(left=LEFT_END)
    last.set_xticks(TICKS, [f"{tick}x" for tick in TICKS])
    last.minorticks_off()
    last.set_xlim(right=max(axes.dataLim.x1 for axes in panels[:, 0]) * 1.1)
    last.set_xlabel("times the baseline, median, log scale", fontsize=9)
    figure.suptitle("The time to start /bin/true and wait for it", fontweight="bold")
    key = "line: p10 to p90; diamond: called from a process with a 4 GB heap"
    figure.supxlabel(f"{key}\n{caption}", fontsize=7.5)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _measured(figures: Figures, group: Group) -> list[tuple[str, str]]:
    if figures.median("plain", group.baseline) is None:
        return []
    return [way for way in group.ways if figures.median("plain", way[1]) is not None]


def _panel(axes: Axes, figures: Figures, group: Group, ways: list[tuple[str, str]]) -> None:
    axes.set_xscale("log")
    axes.set_ylim(len(ways) - 0.5, -0.5)
    axes.set_yticks(range(len(ways)), [label for label, _ in ways], fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.set_title(group.title, loc="left", fontsize=9.5)
    axes.spines[["top", "right"]].set_visible(False)
    for row, (_, name) in enumerate(ways):
        _bar(axes, figures, row, name, group.baseline)
    axes.axvline(1, color="black", linewidth=0.8, linestyle=":")


def _bar(axes: Axes, figures: Figures, row: int, name: str, baseline: str) -> None:
    base = figures.median("plain", baseline)
    median, spread = figures.median("plain", name), figures.spread("plain", name)
    assert base is not None
    assert median is not None
    assert spread is not None
    low, high = spread[0] / base, spread[1] / base
    ours = name.startswith("nsdemo.")
    color = OURS if ours else BASELINE if name == baseline else THEIRS
    words = f"{median / base:.2f}x   {median / 1e6:.2f} ms"
    end = high
    axes.barh(row, median / base, color=color, height=0.74, edgecolor=EDGE, linewidth=0.6)
    axes.plot([low, high], [row, row], color="white", linewidth=3, solid_capstyle="butt")
    axes.plot([low, high], [row, row], color="black", linewidth=1.2, solid_capstyle="butt")
    heap = figures.median("heap", name)
    if heap is not None:
        axes.plot(heap / base, row, marker="D", markersize=4.5, color="white", mec="black")
        if heap > WORTH_WORDS * median:
            words += f", {heap / 1e6:.0f} ms with a 4 GB heap"
        else:
            end = max(end, heap / base)
    axes.annotate(
        words,
        (end, row),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        fontweight="bold" if ours else "normal",
    )
