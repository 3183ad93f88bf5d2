"""What a view of a large frame costs, beside what pandas takes to show the same frame."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy
import pandas

from copilot_jupyter.conversation.interpolate import interpolate

from .table import Row, within

if TYPE_CHECKING:
    from collections.abc import Callable

    from .bench import Bench

TITLE = "Talking about data"
ROUNDS = 9
#: One gigabyte of numbers.
ROWS, COLUMNS = 12_500_000, 10


def rows(bench: Bench) -> list[Row]:
    """Time the view of a frame of 1 GB, and of one with columns of every kind."""
    del bench
    frame = pandas.DataFrame(numpy.zeros((ROWS, COLUMNS)), columns=list("abcdefghij"))
    mixed = pandas.DataFrame(
        {
            "text": ["some text"] * 1_000_000,
            "day": pandas.Timestamp("2026-01-01"),
            "kind": pandas.Categorical(["a", "b"] * 500_000),
            **{f"number {n}": numpy.arange(1_000_000) / 7 for n in range(9)},
        }
    )
    return [against_head("1 GB of numbers", frame), against_head("12 columns, mixed", mixed)]


def against_head(name: str, frame: pandas.DataFrame) -> Row:
    """Return the line that compares a view with what ``df.head()`` takes to be shown."""
    bare = timed(lambda: frame.head().to_string())
    ours = timed(lambda: interpolate("What is in {df}?", {"df": frame}))
    return within(f"view of a frame: {name}", ours, bare, "head()", 0.05)


def timed(work: Callable[[], object]) -> list[float]:
    """Return the seconds of each round; the first, which imports and caches, is left out."""
    found = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return found[1:]
