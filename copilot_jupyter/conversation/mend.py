"""Repairs of a session's files that the runtime refuses; what was damaged is kept beside them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from copilot_jupyter.errors import SessionError, SessionInUseError

from .portable.transcribe import start_event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copilot_jupyter.state.store import Store


def workspace(store: Store, session_id: str) -> bool:
    """Set a ``workspace.yaml`` that the runtime refuses aside; it writes a new one.

    Returns
    -------
    bool
        Whether there was one to set aside.
    """
    if not store.has_unreadable_workspace(session_id):
        return False
    store.set_aside(session_id, "workspace.yaml")
    return True


def before_opening(store: Store, session_id: str) -> str:
    """Repair what one runtime refuses in a transcript and another drops. Only with its lock held.

    Returns
    -------
    str
        One line for the person, "" where nothing was wrong.
    """
    found = store.journal(session_id)
    if not found.has_start:  # the runtime refuses it, and the doctor mends it
        return ""
    if found.bad_lines:
        store.write_journal(session_id, found.events)
        return said(session_id, found.bad_lines)
    if found.events[0]["data"].get("sessionId") != session_id:
        store.write_journal(session_id, found.events)
        return f"The transcript of {session_id} named another session; it was put right."
    return ""


def journal(store: Store, session_id: str) -> list[str]:
    """Repair a transcript that the runtime refuses; the damaged file is kept beside it.

    Parameters
    ----------
    store : Store
    session_id : str

    Returns
    -------
    list of str
        What was done, a line each; empty where nothing was wrong.

    Raises
    ------
    SessionInUseError
        If another process has the session open: a transcript in use is never touched.
    SessionError
        If there is nothing left to repair.
    """
    found = store.journal(session_id)
    events = list(found.events)
    done = []
    if found.bad_lines:
        done.append(f"{len(found.bad_lines)} damaged lines were left out")
    if not found.has_start:
        if not events:
            raise SessionError(
                f"The transcript of {session_id} holds nothing that can be read.",
                f"Delete it with %copilot_delete {session_id}.",
            )
        folder = str(store.workspace(session_id).get("cwd") or "")
        at = str(events[0].get("timestamp") or datetime.now(UTC).isoformat())
        events.insert(0, start_event(session_id, at, folder))
        done.append("the missing first event was written anew")
    elif events[0]["data"].get("sessionId") != session_id:
        done.append("its id was put right")
    if done:
        if holders := store.holders(session_id):
            raise SessionInUseError(
                f"The session {session_id} is open in {holders[0]}.",
                "Close it there before it is repaired.",
            )
        store.write_journal(session_id, events)
    if workspace(store, session_id):
        done.append("an unreadable workspace.yaml was set aside")
    return done


def said(session_id: str, lines: Sequence[int]) -> str:
    """Return the line that tells of damaged lines which were left out."""
    return (
        f"The transcript of {session_id} was damaged (line {', '.join(map(str, lines))}); the rest "
        "is whole and the damaged file is kept beside it."
    )
