"""What the page of the session picker is told about sessions, as JSON.

Titles and prompts are somebody else's text: nothing in them is obeyed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from copilot_jupyter.conversation import transcript
from copilot_jupyter.errors import CopilotError
from copilot_jupyter.state.ids import check_id

if TYPE_CHECKING:
    from copilot_jupyter.conversation.sessions import Sessions
    from copilot_jupyter.events import Turn
    from copilot_jupyter.state.catalog import CatalogRow

#: How much of a conversation the preview shows: turns, and characters of each text.
PREVIEW_TURNS, PREVIEW_LENGTH = 3, 2000

#: What a page could obey instead of showing it: controls, overrides of the writing direction,
#: halves of characters, which no message can carry.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str, length: int = 1000, *, lines: bool = False) -> str:
    """Return somebody else's text as it may be shown: nothing in it is obeyed.

    Parameters
    ----------
    text : str
    length : int
        In characters; what is longer is cut and marked.
    lines : bool
        Whether line ends are kept.
    """
    cut = text if len(text) <= length else text[: length - 1] + "…"
    if cut.isprintable():  # nearly always, and ten times as quick to see
        return cut
    if not lines:
        cut = " ".join(cut.split())
    return _UNSHOWN.sub("\ufffd", cut)


def to_wire(row: CatalogRow) -> list[Any]:
    """Return a row as the page gets it; the order is that of ``picker.js``."""
    name = shown(row.name, 200)
    return [
        row.id,
        "" if name == row.id else name,
        round(row.modified, 3),
        row.size,
        shown(row.folder, 400),
        shown(row.notebook, 400),
        shown(row.prompt, 200),
        -1 if row.turns is None else row.turns,
        row.kept_from,
        row.ours,
    ]


def preview(sessions: Sessions, session: str) -> dict[str, Any]:
    """Return the last turns of a session for the page, read from the transcript's end."""
    try:
        turns = transcript.turns(sessions.store.tail(check_id(session)).events)
    except CopilotError as error:
        return {"turns": [], "problem": shown(str(error))}
    return {"turns": [_turn(turn) for turn in turns[-PREVIEW_TURNS:]], "problem": ""}


def _turn(turn: Turn) -> dict[str, Any]:
    return {
        "prompt": shown(turn.prompt, PREVIEW_LENGTH // 2, lines=True),
        "answer": shown(turn.answer, PREVIEW_LENGTH, lines=True),
        "model": shown(turn.model, 80),
        "at": turn.at.timestamp() if turn.at else 0,
        "complete": turn.complete,
    }
