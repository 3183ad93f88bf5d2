"""Sessions written from a notebook's embedded turns: the real runtime goes on with them."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from copilot_jupyter.conversation.binding import METADATA_KEY
from copilot_jupyter.conversation.portable.embedded import EmbeddedTurn, entry
from copilot_jupyter.conversation.portable.lineage import chains, compare
from copilot_jupyter.conversation.portable.notebook_turns import read
from copilot_jupyter.conversation.portable.transcribe import events_of, turn_events
from copilot_jupyter.conversation.sessions import Sessions
from copilot_jupyter.conversation.terms import Terms
from copilot_jupyter.settings import Copilot

if TYPE_CHECKING:
    from pathlib import Path

    from scripted_model import ScriptedModel

    from copilot_jupyter.conversation.answer import Answer
    from copilot_jupyter.events import Turn

ID = "carried"
PROMPTS = ["What is a list?", "And a tuple?\r\n\u2028 Größe", "Which is faster?"]
ANSWERS = ["A list is *mutable*.", "```python\n(1, 2)\n```\n", "Neither, 𝄞."]
SOON = 60.0


def turns(count: int = 3, *, after: str = "", first: int = 1, **more: Any) -> list[EmbeddedTurn]:
    """Return turns that follow one another, as another machine embedded them."""
    found = []
    for n in range(count):
        at = datetime(2026, 11, 22, 12, tzinfo=UTC) + timedelta(minutes=first + n)
        told = {
            "session": ID,
            "event": str(uuid.uuid4()),
            "parent": after,
            "turn": first + n,
            "key": "0" * 32,
            "prompt": PROMPTS[n],
            "sent": "",
            "answer": ANSWERS[n],
            "model": "scripted",
            "at": at.isoformat(),
            **more,
        }
        found.append(EmbeddedTurn(**told))
        after = found[-1].event
    return found


def asked(sessions: Sessions, prompt: str, **terms: Any) -> Answer:
    conversation = sessions.conversation(ID, Terms(**{"folder": "/tmp", **terms}))
    return sessions.loop.call(conversation.ask(prompt), timeout=SOON)


@pytest.fixture
def later(model: ScriptedModel, home: Path) -> Any:
    """The sessions of a later process."""
    opened = Sessions(Copilot())
    yield opened
    opened.close()


def test_a_session_made_of_embedded_turns_is_gone_on_with(
    model: ScriptedModel, sessions: Sessions, later: Sessions, tmp_path: Path
) -> None:
    known = turns()
    sessions.store.make(ID, events_of(ID, known, str(tmp_path)), folder=str(tmp_path))
    assert sessions.turns(ID)[-1].complete

    model.will("Measure it.")
    answer = asked(sessions, "How do I know?", folder=str(tmp_path))
    assert (answer.turn, answer.text) == (4, "Measure it.")
    (request,) = model.requests
    assert [m["role"] for m in request.messages] == ["system", *["user", "assistant"] * 3, "user"]
    assert request.prompts == [*PROMPTS, "How do I know?"]
    assert request.answers == [text.strip("\n") for text in ANSWERS]

    # They read back as they were, and so they do for a process that comes later.
    found = sessions.turns(ID)
    assert [turn.event_id for turn in found[:3]] == [turn.event for turn in known]
    assert [turn.prompt for turn in found] == [*PROMPTS, "How do I know?"]
    assert [turn.answer for turn in found] == [*ANSWERS, "Measure it."]
    assert [turn.at.isoformat() for turn in found[:3]] == [turn.at for turn in known]
    assert compare([turn.event_id for turn in found], (), known).added == ()
    sessions.close()
    asked(later, "Go on.")
    assert model.requests[-1].prompts == [*PROMPTS, "How do I know?", "Go on."]
    (info,) = later.listed(notebook=None, folder="")
    assert (info.id, info.folder, info.ours) == (ID, str(tmp_path), True)


def test_what_was_sent_is_sent_and_what_was_written_is_shown(
    model: ScriptedModel, sessions: Sessions
) -> None:
    known = turns(1, prompt="Why?", sent="The cell above:\n\n1/0\n\nWhy?")
    sessions.store.make(ID, events_of(ID, known, "/tmp"), folder="/tmp")
    asked(sessions, "And now?")
    assert model.requests[-1].prompts == ["The cell above:\n\n1/0\n\nWhy?", "And now?"]
    assert [turn.prompt for turn in sessions.turns(ID)] == ["Why?", "And now?"]
    assert sessions.turns(ID)[0].sent == "The cell above:\n\n1/0\n\nWhy?"


@pytest.mark.parametrize("closed", ["released", "ended"])
def test_turns_are_appended_to_a_session_that_a_runtime_made(
    model: ScriptedModel, sessions: Sessions, later: Sessions, closed: str
) -> None:
    first = asked(sessions, "Here, first", create=True)
    if closed == "released":
        sessions.loop.call(sessions.release(), timeout=SOON)
        later = sessions
    else:
        sessions.close()
    known = turns(2, after=first.event_id, first=2)
    news = compare([turn.event_id for turn in later.turns(ID)], (), known)
    assert news.added == tuple(known)
    for turn in news.added:
        end = later.store.journal(ID).events[-1]["id"]
        later.store.append(ID, turn_events(turn, end))

    asked(later, "Here, again")
    assert model.requests[-1].prompts == ["Here, first", *PROMPTS[:2], "Here, again"]
    assert model.requests[-1].answers == [first.text, *(text.strip("\n") for text in ANSWERS[:2])]
    events = [turn.event_id for turn in later.turns(ID)]
    assert len(events) == 4
    assert events[:3] == [first.event_id, *(turn.event for turn in known)]


def test_a_conversation_comes_back_out_of_its_notebook(
    model: ScriptedModel, sessions: Sessions, later: Sessions, tmp_path: Path
) -> None:
    for n, prompt in enumerate(PROMPTS):
        asked(sessions, prompt, create=not n)
    before = sessions.turns(ID)
    notebook = tmp_path / "a.ipynb"
    parents = ["", *(turn.event_id for turn in before)]
    cells = [embedding(turn, above) for turn, above in zip(before, parents, strict=False)]
    notebook.write_text(json.dumps({"cells": cells}))
    sessions.loop.call(sessions.delete(ID), timeout=SOON)
    sessions.close()

    (chain,) = chains(read(notebook))
    later.store.make(ID, events_of(ID, chain, "/tmp"), folder="/tmp")
    assert later.turns(ID) == before
    asked(later, "Go on.")
    assert model.requests[-1].prompts == [*PROMPTS, "Go on."]
    assert model.requests[-1].answers == [turn.answer for turn in before]


def embedding(turn: Turn, parent: str) -> dict[str, Any]:
    """Return the cell that a turn was asked in."""
    metadata = {"v": 1, "session": ID, **entry(turn, session=ID, parent=parent, key="0" * 32)}
    answer = {
        "output_type": "display_data",
        "data": {"text/plain": turn.answer},
        "metadata": {METADATA_KEY: metadata},
    }
    return {"cell_type": "code", "source": "", "outputs": [answer]}
