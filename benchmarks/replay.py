"""What a stored answer costs: in a cell, in a Run All, in a long session, in the file."""

from __future__ import annotations

import json
import statistics
import time
import uuid
from typing import TYPE_CHECKING

from drivers import NotebookKernel

from copilot_jupyter.conversation import transcript
from copilot_jupyter.conversation.portable import carry, embedded, notebook_turns
from copilot_jupyter.conversation.stored.question import Question
from copilot_jupyter.conversation.stored.replay import Place, Replay
from copilot_jupyter.state.store import Store

from .made import long_session
from .table import Row, added, within

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .bench import Bench

TITLE = "An answer that is there already"
CELLS = 100
MANY = 200
TURNS = 10_000
CARRIED = 1_000
ROUNDS = 5


def rows(bench: Bench) -> list[Row]:
    """Return what it costs to show, to find and to rebuild stored answers."""
    return [*cells(bench), *finding(bench.folder), *rebuilding(bench.folder)]


def cells(bench: Bench) -> list[Row]:
    """Time replayed cells against empty ones, and a Run All of answered cells."""
    path = bench.folder / "replay.ipynb"
    with NotebookKernel(path=path, answers=[], env=bench.environment) as kernel:
        begin(kernel, "bench-replay")
        for number in range(MANY):
            kernel.run(f"%%copilot\nQuestion {number}").ok()
        kernel.save()
        size = embedding(path)
        kernel.restart()
        kernel.run("%load_ext copilot_jupyter").ok()
        began = time.perf_counter()
        for result in kernel.run_all():
            result.ok()
        all_at_once = time.perf_counter() - began
        kernel.restart()
        begin(kernel, "bench-replay")
        kernel.run("%%copilot\nThe runtime is up now").ok()
        asked = kernel.cells[2 : 2 + CELLS]
        empty = [kernel.run("None").ok().elapsed for _ in range(CELLS)]
        ours = [kernel.run_cell(cell).ok().elapsed for cell in asked]
    empties = statistics.median(empty) * MANY
    return [
        added("a replayed cell", ours, empty, "empty cell", 0.015),
        within(f"Run All of {MANY} answered cells", [all_at_once], [empties], "empty cells", 5),
        Row(
            "a turn in the file, beside its prompt and text",
            f"{size} B",
            "0 B",
            "nothing carried",
            f"+{size} B",
            "+1000 B",
            size <= 1000,
        ),
    ]


def begin(kernel: NotebookKernel, session: str) -> None:
    kernel.run(f"%load_ext copilot_jupyter\n%copilot_resume {session} --create").ok()


def embedding(path: Path) -> int:
    """Return the most bytes that a turn adds to the file beyond its prompt and text."""
    outputs = [o for c in json.loads(path.read_text())["cells"] for o in c.get("outputs", ())]
    entries = [o["metadata"]["copilot_jupyter"] for o in outputs if o.get("metadata")]
    return max(
        len(json.dumps(e))
        - len(json.dumps(e.get("prompt", "")))
        - len(json.dumps(e.get("sent", "")))
        for e in entries
    )


def finding(folder: Path) -> list[Row]:
    """Time the search for a turn in a long session against reading its transcript."""
    store = Store(folder / "long")
    long_session(store, "long", TURNS)
    first, later, bare = [], [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        transcript.turns(store.journal("long").events)
        bare.append(time.perf_counter() - began)
        replay = Replay(store, "long")
        for seconds, number in ((first, 9_000), (later, 17)):
            began = time.perf_counter()
            if replay.find(Question(f"Question {number}"), Place("a-new-cell")) is None:
                raise RuntimeError("the turn was not found")
            seconds.append(time.perf_counter() - began)
    against = "all events parsed"
    return [
        within(f"find a turn of {TURNS:,}, the first time", first, bare, against, 0.1),
        within(f"find a turn of {TURNS:,}, from then on", later, bare, against, 0.005),
    ]


def rebuilding(folder: Path) -> list[Row]:
    """Time the rebuilding of a session from a notebook against reading the notebook."""
    path = folder / "carried.ipynb"
    path.write_text(json.dumps({"cells": list(carried()), "metadata": {}, "nbformat": 4}))
    ours, bare = [], []
    for number in range(ROUNDS):
        began = time.perf_counter()
        json.loads(path.read_bytes())
        bare.append(time.perf_counter() - began)
        store = Store(folder / f"rebuilt-{number}")
        began = time.perf_counter()
        carry.rebuild(store, "carried", notebook_turns.read(path), str(folder))
        ours.append(time.perf_counter() - began)
    return [within(f"rebuild {CARRIED:,} carried turns", ours, bare, "json.loads of the file", 2)]


def carried() -> Iterator[dict[str, object]]:
    """Yield the cells of a notebook that carries many turns."""
    parent = ""
    for number in range(1, CARRIED + 1):
        event, answer = str(uuid.uuid4()), "word " * 300
        turn = transcript.Turn(number, event, f"Question {number}", f"Question {number}", answer)
        entry = embedded.entry(turn, session="carried", parent=parent, key=uuid.uuid4().hex)
        binding = {"v": 1, "session": "carried", "path": "carried.ipynb", "notebook_id": "n"}
        output = {
            "output_type": "display_data",
            "data": {"text/plain": answer, "text/html": answer},
            "metadata": {"copilot_jupyter": binding | entry},
        }
        yield {
            "cell_type": "code",
            "id": f"cell-{number}",
            "metadata": {},
            "source": f"%%copilot\nQuestion {number}",
            "execution_count": number,
            "outputs": [output],
        }
        parent = event
