"""A row of the table of figures, and how tables are written."""

from __future__ import annotations

import re
import statistics
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Cells = list[list[str]]

MISSED = "missed"

#: Where a number would be parted from its unit, or from its sign.
_BREAKS = re.compile(r"(?<=\d) (?=(?:m?s|k?B|MB)\b)|(?<=\bx) (?=\d)")
_PIPE = r"\|"


class Row(NamedTuple):
    """One figure.

    Parameters
    ----------
    name : str
        What was measured.
    ours : str
    baseline : str
        The same of something else, in the same run.
    against : str
        What that is: the bare SDK, bare IPython, a peer.
    figure : str
        Ours over the baseline: a ratio, or a difference.
    target : str, optional
        What the figure, or ours, has to stay within; "" where nothing was promised.
    met : bool, optional
    """

    name: str
    ours: str
    baseline: str
    against: str
    figure: str
    target: str = ""
    met: bool = True


def added(name: str, ours: list[float], baseline: list[float], against: str, limit: float) -> Row:
    """Return a row of seconds whose difference has a limit."""
    one, other = statistics.median(ours), statistics.median(baseline)
    return Row(
        name,
        seconds(one),
        seconds(other),
        against,
        difference(one - other),
        f"+{seconds(limit)}",
        one - other <= limit,
    )


def ratio(
    name: str, ours: list[float], baseline: list[float], against: str, limit: float | None = None
) -> Row:
    """Return a row of seconds whose ratio has a limit, if there is one."""
    one, other = statistics.median(ours), statistics.median(baseline)
    target = "" if limit is None else times(limit)
    met = limit is None or one <= limit * other
    return Row(name, seconds(one), seconds(other), against, times(one / other), target, met)


def within(name: str, ours: list[float], baseline: list[float], against: str, limit: float) -> Row:
    """Return a row of seconds of which ours have a limit of their own."""
    one, other = statistics.median(ours), statistics.median(baseline)
    return Row(
        name,
        seconds(one),
        seconds(other),
        against,
        times(one / max(other, 1e-4)),
        seconds(limit),
        one <= limit,
    )


# -- numbers ------------------------------------------------------------------------------------


def seconds(value: float) -> str:
    """Return a time with three digits or so.

    >>> seconds(0.01234), seconds(0.543), seconds(2.6), seconds(31.42)
    ('12.3 ms', '543 ms', '2.60 s', '31.4 s')
    """
    if abs(value) >= 1:
        return f"{value:.2f} s" if abs(value) < 10 else f"{value:.1f} s"
    return f"{value * 1000:.1f} ms" if abs(value) < 0.09995 else f"{value * 1000:.0f} ms"


def difference(value: float) -> str:
    """Return a difference of times with its sign."""
    return f"{'-' if value < 0 else '+'}{seconds(abs(value))}"


def times(value: float) -> str:
    """Return a ratio.

    >>> times(1.264), times(0.0123), times(132.4)
    ('x 1.26', 'x 0.012', 'x 132')
    """
    if value < 0.1:
        return f"x {value:.2g}"
    return f"x {value:.2f}" if value < 10 else f"x {value:.0f}"


def mb(size: float) -> str:
    """Return a number of bytes in megabytes."""
    return f"{size / 1e6:.1f} MB" if abs(size) < 10e6 else f"{size / 1e6:.0f} MB"


# -- tables -------------------------------------------------------------------------------------


def listed(rows: Sequence[Row]) -> Cells:
    """Return a table with a line for each row, its headings first."""
    lines = [["what", "ours", "baseline", "against", "figure", "target"]]
    for row in rows:
        target = row.target if row.met else f"{row.target}, {MISSED}"
        lines.append([row.name, row.ours, row.baseline, row.against, row.figure, target])
    return lines


def side_by_side(rows: Sequence[Row]) -> Cells:
    """Return a table with a column for each of those that were compared, its headings first."""
    others = list(dict.fromkeys(row.against for row in rows))
    found = {(row.name, row.against): row for row in rows}
    lines = [["what", "ours", *others]]
    for name in dict.fromkeys(row.name for row in rows):
        beside = [found.get((name, other)) for other in others]
        first = next(row for row in beside if row is not None)
        missed = "" if first.met else f" ({first.target}: {MISSED})"
        theirs = ["" if row is None else _with_figure(row) for row in beside]
        lines.append([name, first.ours + missed, *theirs])
    return lines


def _with_figure(row: Row) -> str:
    return f"{row.baseline} ({row.figure})" if row.figure else row.baseline


def as_text(cells: Cells) -> str:
    """Return a table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


def as_markdown(cells: Cells) -> str:
    """Return a table for a page; numbers stay with their units."""
    lines = []
    for name, *numbers in cells:
        line = [name, *(_BREAKS.sub("\N{NO-BREAK SPACE}", number) for number in numbers)]
        lines.append(f"| {' | '.join(cell.replace('|', _PIPE) for cell in line)} |")
    return "\n".join([lines[0], "|---" * len(cells[0]) + "|", *lines[1:]])
