"""What is taken out of a conversation is kept: as a whole copy of it as it was.

A kept copy is a session of its own, folded under its parent in lists; it goes with its
parent when that is deleted or cleaned up. `%copilot_undo` puts it back.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from copilot_jupyter.state.metadata import KEPT_AT, KEPT_FROM, KEPT_WHY

from . import transcript
from .stored.records import file_of

if TYPE_CHECKING:
    from copilot_jupyter.state.store import Store

#: How many copies of replaced turns a session keeps beside it.
MANY = 10

#: Why a copy is kept: a turn is being replaced right now; a cell's prompt was edited; the
#: conversation was taken back; that was undone.
PENDING, REPLACED, REWOUND, UNDONE = "pending", "replaced", "rewound", "undone"


@dataclass(frozen=True)
class Kept:
    """A copy of a conversation from before something was taken out of it.

    Parameters
    ----------
    id : str
    why : str
        One of the reasons above.
    at : str
        ISO time.
    """

    id: str
    why: str
    at: str


def keep(store: Store, session_id: str, why: str) -> str:
    """Copy a session as it is now, and return the copy's id.

    Of the copies that replaced turns left, all but the newest few go to the trash.

    Raises
    ------
    SessionNotFoundError, StateFolderError
    """
    kept = store.free_id(f"{session_id}-kept")
    store.fork(session_id, kept, metadata=_metadata(session_id, why))
    replaced = [copy.id for copy in kept_copies(store, session_id) if copy.why == REPLACED]
    if len(replaced) > MANY:
        store.trash.put(replaced[:-MANY], undoable=False)
    return kept


def adopt(store: Store, session_id: str) -> None:
    """Make a kept copy a session like any other: somebody goes on with it."""
    metadata = store.client_metadata(session_id)
    if metadata.get(KEPT_FROM):
        ours = (KEPT_FROM, KEPT_AT, KEPT_WHY)
        store.write_metadata(session_id, {k: v for k, v in metadata.items() if k not in ours})


def explain(store: Store, kept: str, why: str) -> None:
    """Change the reason for which a copy is kept."""
    metadata = store.client_metadata(kept)
    store.write_metadata(kept, {**metadata, KEPT_WHY: why})


def kept_copies(store: Store, session_id: str) -> list[Kept]:
    """Return the kept copies of a session, oldest first."""
    found = []
    for candidate in store.ids_beginning(f"{session_id}-kept"):
        metadata = store.client_metadata(candidate)
        if metadata.get(KEPT_FROM) == session_id:
            why, at = metadata.get(KEPT_WHY, ""), metadata.get(KEPT_AT, "")
            found.append(Kept(candidate, why, at))
    return sorted(found, key=lambda kept: (kept.at, kept.id))


def settle(store: Store, session_id: str) -> str:
    """Finish what a kill cut off while a turn was being replaced. Only with no runtime on it.

    Returns
    -------
    str
        One line for the person; "" where there was nothing to do.
    """
    said = ""
    for kept in kept_copies(store, session_id):
        if kept.why != PENDING:
            continue
        before = {turn.event_id for turn in transcript.turns(store.journal(kept.id).events)}
        now = transcript.turns(store.journal(session_id).events)
        if any(turn.complete and turn.event_id not in before for turn in now):
            explain(store, kept.id, REPLACED)
        else:
            put_back(store, session_id, kept.id, keep_current=False)
            said = f"A turn of {session_id} was being replaced when the kernel ended; it is back."
    return said


def put_back(store: Store, session_id: str, copy: str, *, keep_current: bool) -> str:
    """Make a session what it was when a copy was kept. Only where no runtime has it open.

    Parameters
    ----------
    store : Store
    session_id : str
    copy : str
        The copy's id; it is gone afterwards.
    keep_current : bool
        Keep the conversation as it is now too.

    Returns
    -------
    str
        The id under which the conversation as it was until now is kept, "" if it is not.
    """
    current = keep(store, session_id, UNDONE) if keep_current else ""
    store.replace_journal(session_id, copy)
    with store.disk_errors():
        stored, target = file_of(store, copy), file_of(store, session_id)
        if stored.exists():
            target.parent.mkdir(mode=0o700, exist_ok=True)
            shutil.copy2(stored, target)
    store.discard(copy)
    return current


def _metadata(session_id: str, why: str) -> dict[str, str]:
    return {KEPT_FROM: session_id, KEPT_AT: datetime.now(UTC).isoformat(), KEPT_WHY: why}
