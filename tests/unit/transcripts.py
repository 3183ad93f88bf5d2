"""Events as the runtime writes them, and sessions made of them, without a runtime."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from copilot_jupyter.state.journal import journal_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from copilot_jupyter.state.store import Store

_ids = itertools.count(1)

Event = dict[str, Any]


def event(kind: str, *, agent: str = "", **data: Any) -> Event:
    """Return one event; `agent` makes it a sub-agent's."""
    made = {
        "type": kind,
        "data": data,
        "id": f"event-{next(_ids)}",
        "timestamp": "2026-11-22T10:00:00.000Z",
        "parentId": None,
    }
    return made | ({"agentId": agent} if agent else {})


def start(session: str) -> Event:
    return event("session.start", sessionId=session, version=1)


def asks(prompt: str, **more: Any) -> Event:
    return event("user.message", content=prompt, **more)


def says(text: str, **more: Any) -> Event:
    return event("assistant.message", content=text, toolRequests=[], **more)


def exchange(prompt: str, answer: str) -> list[Event]:
    """Return the events of one whole turn."""
    return [
        asks(prompt),
        event("assistant.turn_start", turnId="0"),
        says(answer, model="gpt-5"),
        event("assistant.turn_end", turnId="0"),
    ]


def put(
    store: Store, session: str, events: list[Event] | None = None, metadata: dict | None = None
) -> Path:
    """Write a session into a state folder and return its folder."""
    folder = store.sessions / session
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_bytes(
        journal_bytes([start(session), *(events or exchange("Hello", "Hi"))])
    )
    (folder / "workspace.yaml").write_text(f"id: {session}\nname: About {session}\ncwd: /work\n")
    if metadata is not None:
        content = json.dumps({"version": 1, "metadata": metadata})
        (folder / "client-metadata.json").write_text(content)
    return folder
