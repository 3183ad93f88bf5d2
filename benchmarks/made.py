"""Sessions as the runtime writes them, long ones and many, made without asking anybody."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

from copilot_jupyter.conversation.portable.transcribe import start_event
from copilot_jupyter.conversation.stored.question import key_of
from copilot_jupyter.conversation.stored.records import FILE, Record
from copilot_jupyter.conversation.stored.spans import scan, with_spans
from copilot_jupyter.state.journal import journal_bytes
from copilot_jupyter.state.metadata import NOTEBOOK_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copilot_jupyter.state.store import Store

_AT = "2026-11-22T10:00:00.000Z"


def long_session(store: Store, session: str, turns: int, words: int = 300) -> None:
    """Write a session of many turns with what is stored about each.

    Parameters
    ----------
    store : Store
    session : str
    turns : int
    words : int, optional
        Of each answer.
    """
    events = [start_event(session, _AT, "/")]
    for number in range(turns):
        events += exchange(number, words, str(events[-1]["id"]))
    data = journal_bytes(events)
    records = [
        Record(turn.event_id, key_of(turn.prompt), str(uuid.uuid4()), whole=True, usage=(50, 20))
        for _, turn in scan(data, 0)
    ]
    lines = b"".join(record.line() for record in with_spans(data, records))
    store.make(session, events, folder="/", files={FILE: lines})


def exchange(number: int, words: int, parent: str) -> Iterator[dict[str, object]]:
    """Yield the events of one turn; `parent` is the id of the event before them."""
    prompt = f"Question {number}"
    answer = {"content": "word " * words, "toolRequests": [], "model": "scripted"}
    answer["messageId"] = str(uuid.uuid4())
    bodies = (
        ("user.message", {"content": prompt, "transformedContent": prompt}),
        ("assistant.turn_start", {"turnId": "0"}),
        ("assistant.message", answer),
        ("assistant.turn_end", {"turnId": "0"}),
    )
    for kind, data in bodies:
        made = str(uuid.uuid4())
        yield {"type": kind, "data": data, "id": made, "timestamp": _AT, "parentId": parent}
        parent = made


def many_sessions(store: Store, count: int) -> None:
    """Write sessions of one turn each; plain files, since `Store.make` syncs each to the disk."""
    for number in range(count):
        session = f"session-{number:05}"
        folder = store.sessions / session
        folder.mkdir(parents=True)
        start = start_event(session, _AT, "/work")
        events = [start, *exchange(number, 60, str(start["id"]))]
        (folder / "events.jsonl").write_bytes(journal_bytes(events))
        (folder / "workspace.yaml").write_text(
            f"id: {session}\ncwd: /work\nname: About {number}\nuser_named: false\n"
            f"summary_count: 0\nfork_count: 0\ncreated_at: {_AT}\nupdated_at: {_AT}\n"
        )
        bag = {"version": 1, "metadata": {NOTEBOOK_PATH: f"/notebooks/{number}.ipynb"}}
        (folder / "client-metadata.json").write_text(json.dumps(bag))
