"""Events as the runtime writes them, made of turns: it resumes such a transcript."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from .embedded import LONG_AGO

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from copilot_jupyter.events import ToolUse

    from .embedded import EmbeddedTurn

#: The same turn gives the same ids of events.
_NAMESPACE = uuid.UUID("6d1c7f0e-3c8c-5c0b-9d5e-6f2f1b8a4a11")


def events_of(session_id: str, turns: Sequence[EmbeddedTurn], folder: str) -> list[dict[str, Any]]:
    """Return a transcript of turns that the runtime resumes.

    Parameters
    ----------
    session_id : str
    turns : sequence of EmbeddedTurn
        One conversation, in order.
    folder : str
        The session's working directory.
    """
    at = _stamp(turns[0].moment if turns else LONG_AGO)
    events = [start_event(session_id, at, folder)]
    for turn in turns:
        events += turn_events(turn, events[-1]["id"])
    return events


def start_event(session_id: str, at: str, folder: str) -> dict[str, Any]:
    """Return a ``session.start``, the first event of every transcript.

    Parameters
    ----------
    session_id, folder : str
    at : str
        ISO time, that of the oldest event.
    """
    return {
        "type": "session.start",
        "data": {
            "sessionId": session_id,
            "version": 1,
            "producer": "copilot-agent",
            "copilotVersion": "1.0.0",
            "startTime": at,
            "context": {"cwd": folder},
        },
        "id": "00000000-0000-4000-8000-000000000000",
        "timestamp": at,
        "parentId": None,
    }


def turn_events(turn: EmbeddedTurn, parent_id: str) -> list[dict[str, Any]]:
    """Return the events of one turn; the same turn gives the same events.

    Parameters
    ----------
    turn : EmbeddedTurn
    parent_id : str
        Id of the event that comes before them in the transcript.
    """
    sent = {"content": turn.prompt, "transformedContent": turn.sent or turn.prompt}
    said = _message(turn, "message", turn.answer)
    kinds = [
        ("user.message", turn.event, sent),
        ("assistant.turn_start", _id(turn, "turn_start"), {"turnId": "0"}),
        *(event for number, use in enumerate(turn.uses) for event in _call(turn, number, use)),
        ("assistant.message", _id(turn, "answer"), said),
        ("assistant.turn_end", _id(turn, "turn_end"), {"turnId": "0"}),
    ]
    at = _stamp(turn.moment)
    events = []
    for kind, event_id, data in kinds:
        events.append(
            {"type": kind, "data": data, "id": event_id, "timestamp": at, "parentId": parent_id}
        )
        parent_id = event_id
    return events


def _message(turn: EmbeddedTurn, role: str, text: str, *requests: dict[str, Any]) -> dict[str, Any]:
    return {
        "messageId": _id(turn, role),
        "content": text,
        "toolRequests": list(requests),
        "model": turn.model,
    }


def _call(
    turn: EmbeddedTurn, number: int, use: ToolUse
) -> tuple[tuple[str, str, dict[str, Any]], ...]:
    """Return the events of one tool call: asked, begun, done."""
    call = {"toolCallId": f"call_{number}"}
    request = {**call, "name": use.name, "arguments": use.arguments, "type": "function"}
    done: dict[str, Any] = {**call, "turnId": "0", "success": use.status == "success"}
    if done["success"]:
        done["result"] = {"content": use.result}
    else:
        code = use.status or "failure"
        done["error"] = {"message": use.result or "It was interrupted.", "code": code}
    names = [_id(turn, f"{role}/{number}") for role in ("asks", "starts", "ends")]
    began = {**call, "toolName": use.name, "arguments": use.arguments, "turnId": "0"}
    return (
        ("assistant.message", names[0], _message(turn, f"call/{number}", "", request)),
        ("tool.execution_start", names[1], began),
        ("tool.execution_complete", names[2], done),
    )


def _id(turn: EmbeddedTurn, role: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{turn.event}/{role}"))


def _stamp(at: datetime) -> str:
    """Return a time as the runtime writes it."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
