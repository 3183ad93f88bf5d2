"""One line of the table of figures."""

from __future__ import annotations

import statistics
from typing import NamedTuple


class Row(NamedTuple):
    """What was timed, ours, the baseline in the same run, the figure, its target."""

    name: str
    ours: str
    baseline: str
    figure: str
    target: str
    met: bool


def row(
    name: str,
    ours: list[float],
    baseline: list[float],
    figure: str,
    target: str,
    met: bool,  # noqa: FBT001 -- a column
) -> Row:
    """Return a line with the medians of two lists of seconds."""
    return Row(
        name, ms(statistics.median(ours)), ms(statistics.median(baseline)), figure, target, met
    )


def ms(seconds: float) -> str:
    """Return seconds as milliseconds."""
    return f"{seconds * 1000:.1f} ms"
