"""The session picker over 100, 1,000 and 10,000 sessions: the kernel's part of it.

The kernel is real and draws into a page that is played: it says that it is ready, notes when
rows come, and leaves. What a browser adds is about the same for any number of sessions; the
tests of the picker watch that.
"""

from __future__ import annotations

import shutil
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivers import NotebookKernel

from copilot_jupyter.state.catalog import Catalog
from copilot_jupyter.state.store import Store

from .bench import Line, run_script
from .made import many_sessions
from .table import Row, within

if TYPE_CHECKING:
    from drivers import Comm

    from .bench import Bench

TITLE = "Many sessions"
SESSIONS = (100, 1_000, 10_000)
ROUNDS = 5

Times = dict[int, list[float]]


class Page:
    """What a browser is to the picker: a view that notes when something comes."""

    def __init__(self, kernel: NotebookKernel) -> None:
        self._kernel = kernel
        kernel.comm_targets["jupyter.widget"] = self._hear
        self.first = self.all = 0.0

    def _hear(self, comm: Comm, data: dict[str, Any]) -> list[dict[str, Any]]:
        del comm
        content = data.get("content") or {}
        if "_esm" in data.get("state", {}):
            return [_custom(op="ready", view="the page")]
        if content.get("op") == "rows" and not self.first:
            self.first = time.monotonic()
        if content.get("op") == "progress" and content.get("all"):
            self.all = time.monotonic()
            return [_custom(op="cancel")]
        return []

    def open(self) -> tuple[float, float]:
        """Run the picker; return the seconds to its first page, and until all can be searched."""
        self.first = self.all = 0.0
        began = time.monotonic()
        self._kernel.run("%copilot_resume")
        if not self.first or not self.all:
            raise RuntimeError("the picker showed no sessions")
        return self.first - began, self.all - began


def _custom(**content: str) -> dict[str, Any]:
    return {"method": "custom", "content": content}


def rows(bench: Bench) -> list[Row]:
    """Time the picker, with and without what it remembers, against the SDK's own list."""
    first: Times = {}
    known: Times = {}
    unknown: Times = {}
    bare: Times = {}
    for count in SESSIONS:
        first[count], known[count], unknown[count], bare[count] = _of(bench, count)
    for label, found, is_ours in (
        ("first page", first, True),
        ("all can be searched", known, True),
        ("the same, the first time ever", unknown, True),
        ("list_sessions(), bare SDK", bare, False),
    ):
        points = [(float(n), statistics.median(times)) for n, times in found.items()]
        bench.lines.append(Line(label, points, is_ours))
    against = "bare SDK, list_sessions()"
    return [
        within(f"{what}, {count:,} sessions", found[count], bare[count], against, limit)
        for what, found, limit in (
            ("first page of the picker", first, 0.5),
            ("all can be searched", known, 1.5),
            ("the same, the first time ever", unknown, 5),
        )
        for count in SESSIONS
    ]


def _of(bench: Bench, count: int) -> tuple[list[float], ...]:
    """Return the seconds for a state folder with so many sessions."""
    store = Store(bench.folder / f"home-{count}")
    many_sessions(store, count)
    environment = {**bench.environment, "COPILOT_HOME": str(store.home)}
    catalog = Catalog(store).path
    first, known, unknown = [], [], []
    path = bench.folder / f"sessions-{count}.ipynb"
    with NotebookKernel(path, answers=[], env=environment) as kernel:
        kernel.run("%load_ext copilot_jupyter").ok()
        page = Page(kernel)
        page.open()  # imports what it needs, and fills the disk's cache
        for _ in range(ROUNDS):
            catalog.unlink()
            unknown.append(page.open()[1])
            one, everything = page.open()
            first.append(one)
            known.append(everything)
    bare = []
    for _ in range(ROUNDS):
        said = run_script("bare_sdk.py", "list", env=environment)
        if said["found"] != count:
            raise RuntimeError(f"the SDK lists {said['found']} sessions of {count}")
        bare.append(said["seconds"])
    shutil.rmtree(Path(store.home))
    return first, known, unknown, bare
