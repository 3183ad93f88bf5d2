"""What a stored answer costs: in a cell, in a Run All, in a long session, in the file."""

from __future__ import annotations

import json
import statistics
import time
import uuid
from typing import TYPE_CHECKING

from drivers import NotebookKernel

from copilot_jupyter.conversation import carry, embedded, transcript
from copilot_jupyter.conversation.question import Question
from copilot_jupyter.conversation.records import FILE, Record, scan, with_spans
from copilot_jupyter.conversation.replay import Place, Replay
from copilot_jupyter.runtime.journal import journal_bytes
from copilot_jupyter.runtime.store import Store

from .table import Row, ms, row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CELLS = 100
MANY = 200
TURNS = 10_000
CARRIED = 1_000
ROUNDS = 5


def cells(environment: dict[str, str], folder: Path) -> list[Row]:
    """Time replayed cells against empty ones, and a Run All of answered cells."""
    path = folder / "replay.ipynb"
    with NotebookKernel(path=path, answers=[], env=environment) as kernel:
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
    added = statistics.median(ours) - statistics.median(empty)
    return [
        row(
            "a replayed cell over an empty one",
            ours,
            empty,
            f"+{ms(added)}",
            "+15 ms",
            added < 0.015,
        ),
        Row(
            f"Run All of {MANY} answered cells",
            ms(all_at_once),
            ms(statistics.median(empty) * MANY),
            ms(all_at_once),
            "5 s",
            all_at_once < 5,
        ),
        Row(
            "carried beside prompt and text, a turn",
            f"{size} B",
            "",
            f"{size} B",
            "1 kB",
            size < 1000,
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
    long_session(store, "long")
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
    one, two = statistics.median(first), statistics.median(later)
    return [
        row(f"find a turn of {TURNS:,}, the first time", first, bare, ms(one), "100 ms", one < 0.1),
        row("find a turn, from then on", later, bare, ms(two), "5 ms", two < 0.005),
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
        carry.rebuild(store, "carried", embedded.read(path), str(folder))
        ours.append(time.perf_counter() - began)
    took = statistics.median(ours)
    return [row(f"rebuild {CARRIED:,} carried turns", ours, bare, ms(took), "2 s", took < 2)]


def long_session(store: Store, session: str) -> None:
    """Write a session of many turns with what is stored about each."""
    events = [transcript.start_event(session, "2026-11-22T10:00:00.000Z", "/")]
    for number in range(TURNS):
        events += exchange(number)
    data = journal_bytes(events)
    records = [
        Record(e.event, e.prompt_key, str(uuid.uuid4()), whole=True, usage=(50, 20))
        for e in scan(data, 0)
    ]
    lines = b"".join(record.line() for record in with_spans(data, records))
    store.make(session, events, folder="/", files={FILE: lines})


def exchange(number: int) -> Iterator[dict[str, object]]:
    prompt = f"Question {number}"
    bodies = (
        ("user.message", {"content": prompt, "transformedContent": prompt}),
        ("assistant.turn_start", {"turnId": "0"}),
        ("assistant.message", {"content": "word " * 300, "toolRequests": [], "model": "scripted"}),
        ("assistant.turn_end", {"turnId": "0"}),
    )
    for kind, data in bodies:
        at = "2026-11-22T10:00:00.000Z"
        yield {
            "type": kind,
            "data": data,
            "id": str(uuid.uuid4()),
            "timestamp": at,
            "parentId": None,
        }


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
