"""What a person gets back from a turn."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import BadInputError
from copilot_jupyter.events import Usage

if TYPE_CHECKING:
    from datetime import datetime

    from .stored.turn_index import Stored


@dataclass(frozen=True)
class Answer:
    """One answer of a conversation.

    Parameters
    ----------
    text : str
        The answer as the model wrote it, Markdown.
    session : str
        Id of the session it belongs to.
    turn : int
        Its number in the session, from 1.
    event_id : str
        The runtime's id of the prompt's event.
    prompt : str
        The prompt as written.
    model : str
        The model that answered, "" where the runtime did not say.
    at : datetime or None
        When the prompt was sent (UTC).
    usage : Usage
        Tokens of this turn.
    replayed : bool
        Whether it was answered before, and no model was asked now.
    stored : Stored or None
        The turn as it is stored, None where that could not be read back.
    """

    text: str
    session: str
    turn: int
    event_id: str = ""
    prompt: str = ""
    model: str = ""
    at: datetime | None = None
    usage: Usage = field(default_factory=Usage)
    replayed: bool = field(default=False, compare=False)
    stored: Stored | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, stored: Stored, session: str, *, replayed: bool = False) -> Answer:
        """Return the answer that a stored turn holds."""
        turn = stored.turn
        return cls(
            text=turn.answer,
            session=session,
            turn=turn.number,
            event_id=turn.event_id,
            prompt=turn.prompt,
            model=turn.model,
            at=turn.at,
            usage=turn.usage,
            replayed=replayed,
            stored=stored,
        )

    @property
    def code(self) -> list[str]:
        """The contents of the answer's fenced code blocks, in order."""
        from markdown_it import MarkdownIt

        blocks = MarkdownIt("commonmark").parse(self.text)
        return [block.content.rstrip("\n") for block in blocks if block.type == "fence"]

    def json(self) -> Any:
        """Return the answer read as JSON: all of it, or its first code block that is.

        Raises
        ------
        BadInputError
            If neither is JSON.
        """
        for candidate in (self.text, *self.code):
            try:
                return json.loads(candidate)
            except ValueError:
                continue
        raise BadInputError(
            f"Turn {self.turn} of {self.session} holds no JSON.", "Read its .text, or ask for JSON."
        )

    def __str__(self) -> str:
        return self.text
