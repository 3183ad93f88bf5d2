"""Conversations of 100, 1,000 and 10,000 turns: reading a page, and going on after a restart."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from drivers import NotebookKernel

from copilot_jupyter.state.store import Store

from .bench import Line, run_script
from .made import long_session
from .table import Row, ratio, within
from .turns import resumed_by_us, resumed_in_cell

if TYPE_CHECKING:
    from .bench import Bench

TITLE = "Long conversations"
TURNS = (100, 1_000, 10_000)
#: Of each answer: with the 20 words of a prompt a model of a million tokens is not full yet.
WORDS = 60
ROUNDS = 5

Times = dict[int, list[float]]


def rows(bench: Bench) -> list[Row]:
    """Time a page of the history, and from the start of a kernel to its first answer."""
    store = Store(bench.home)
    for turns in TURNS:
        for name in ("ours", "theirs"):
            long_session(store, f"{name}-{turns}", turns, WORDS)
    pages, events = pages_of(bench)
    ours: Times = {n: [] for n in TURNS}
    cell: Times = {n: [] for n in TURNS}
    for _ in range(ROUNDS):
        for turns in TURNS:
            ours[turns].append(resumed_by_us(bench, f"ours-{turns}"))
            cell[turns].append(resumed_in_cell(bench, f"theirs-{turns}"))
    for label, found, is_ours in (
        ("restart to answer", ours, True),
        ("the same, bare SDK", cell, False),
        ("a page of history", pages, True),
        ("all events, bare SDK", events, False),
    ):
        points = [(float(n), statistics.median(times)) for n, times in found.items()]
        bench.lines.append(Line(label, points, is_ours))
    against = "bare SDK in a cell"
    return [
        *(
            within(
                f"a page of the history, {n:,} turns",
                pages[n],
                events[n],
                "bare SDK, all events",
                0.2,
            )
            for n in TURNS
        ),
        *(
            ratio(f"restart to first answer, {n:,} turns", ours[n], cell[n], against, 1.3)
            for n in TURNS
        ),
    ]


def pages_of(bench: Bench) -> tuple[Times, Times]:
    """Time pages of the history, and the SDK's way to the same: resume, then all events."""
    pages: Times = {}
    with NotebookKernel(bench.folder / "long.ipynb", answers=[], env=bench.environment) as kernel:
        kernel.run("%load_ext copilot_jupyter").ok()
        kernel.run(f"%copilot_history ours-{TURNS[0]}").ok()  # imports what it needs
        for turns in TURNS:
            middle = [turns * part // (ROUNDS + 1) for part in range(1, ROUNDS + 1)]
            lines = [f"%copilot_history ours-{turns} --turn {turn}" for turn in middle]
            pages[turns] = [kernel.run(line).ok().elapsed for line in lines]
    events = {
        turns: [
            run_script("bare_sdk.py", "history", f"theirs-{turns}")["seconds"]
            for _ in range(ROUNDS)
        ]
        for turns in TURNS
    }
    return pages, events
