"""Writes what was measured into ``docs/performance.md``, between its marks."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from . import plots
from .bench import ROOT
from .table import as_markdown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .bench import Line
    from .table import Cells

PAGE = ROOT / "docs" / "performance.md"


def write(name: str, table: Cells, lines: Sequence[Line], took: float) -> None:
    """Put a group's table, and its plot if there is one, into the page.

    Parameters
    ----------
    name : str
        Of the group.
    table : list of list of str
    lines : sequence of Line
        Of the plot.
    took : float
        Seconds that the measuring took.
    """
    day = f"{datetime.now(UTC):%d %B %Y}".lstrip("0")
    text = f"{as_markdown(table)}\n\nMeasured on {day}, in {_minutes(took)}."
    filled = fill(fill(PAGE.read_text(), name, text), "machine", machine())
    PAGE.write_text(filled)
    if lines:
        plots.draw(name, lines)


def fill(text: str, name: str, content: str) -> str:
    """Return a page with what stands between two marks replaced.

    Raises
    ------
    ValueError
        If the page has no such marks.
    """
    mark = re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not mark.search(text):
        raise ValueError(f"{PAGE.name} has no place for {name}")
    return mark.sub(lambda found: f"{found[1]}\n{content}\n\n{found[2]}", text)


def machine() -> str:
    """Return what was measured on, in a sentence."""
    parts = [f"{name} {version(name)}" for name in ("ipykernel", "ipython", "github-copilot-sdk")]
    cores = os.cpu_count()
    system = f"{platform.system()} on {platform.machine()}"
    return f"{cores} cores, {system}, Python {platform.python_version()}, {', '.join(parts)}."


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.1f} minutes"
