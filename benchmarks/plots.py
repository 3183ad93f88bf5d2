"""Plots of cost against size, readable on a light page and on a dark one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .bench import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .bench import Line

IMAGES = ROOT / "docs" / "images"
#: What the axes say, by group: of size, of cost.
AXES = {
    "long": ("turns", "seconds"),
    "sessions": ("sessions", "seconds"),
    "memory": ("kernels", "MB of runtimes"),
}
#: Seen on white and on black.
GREY = "#808891"
OURS = ("#2f81f7", "#3fb950", "#a371f7")
OTHERS = ("#d9822b", "#c2693f")
MARKS = "os^D"


def draw(name: str, lines: Sequence[Line]) -> None:
    """Draw the plot of a group into the pictures of the docs.

    Parameters
    ----------
    name : str
        Of the group.
    lines : sequence of Line
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Text stays text, in the font of whoever reads; equal figures make equal files.
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.family": "sans-serif",
        "font.size": 11,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), GREY),
        **dict.fromkeys(("xtick.color", "ytick.color"), GREY),
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        axes = figure.add_subplot()
        colours = {True: iter(OURS), False: iter(OTHERS)}
        for mark, line in zip(MARKS, lines, strict=False):
            sizes, costs = zip(*line.points, strict=True)
            dash = "-" if line.is_ours else "--"
            colour = next(colours[line.is_ours])
            axes.plot(sizes, costs, f"{mark}{dash}", color=colour, label=line.label)
        of_size, of_cost = AXES[name]
        axes.set(xlabel=of_size, ylabel=of_cost)
        _scale(axes, name, lines)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=GREY, alpha=0.25)
        figure.legend(loc="outside right upper", frameon=False)
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(IMAGES / f"performance-{name}.svg", transparent=True, metadata=metadata)


def _scale(axes, name: str, lines: Sequence[Line]) -> None:
    """Scale sizes and times over orders of magnitude by their logarithms; the rest from zero."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    sizes = sorted({size for line in lines for size, _ in line.points})
    plain = FuncFormatter(lambda value, _: f"{value:,.10g}")
    if name != "memory":
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(plain)
    else:
        axes.set_ylim(bottom=0)
    axes.set_xticks(sizes)
    axes.xaxis.set_major_formatter(plain)
    axes.xaxis.set_minor_formatter(NullFormatter())
