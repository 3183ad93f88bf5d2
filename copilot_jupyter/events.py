"""The values that cross every boundary: what a turn says while it runs, and what is stored.

All are frozen dataclasses. Nothing here knows the SDK, IPython or a widget.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class TextDelta:
    """A piece of the answer, as it arrives."""

    text: str


@dataclass(frozen=True)
class TurnRetry:
    """The provider failed and the runtime tries again.

    Parameters
    ----------
    reason : str
        What the runtime said, in one line.
    """

    reason: str


@dataclass(frozen=True)
class ToolStarted:
    """The model called a tool."""

    name: str
    arguments: str = ""


@dataclass(frozen=True)
class Notice:
    """One line a person should see beside the answer."""

    text: str


@dataclass(frozen=True)
class Progress:
    """What is being waited for, shown until the next thing happens and then forgotten."""

    text: str


#: What a turn may say while it runs.
TurnEvent = TextDelta | TurnRetry | ToolStarted | Notice | Progress


@dataclass(frozen=True)
class Usage:
    """What one turn used, in tokens."""

    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True)
class Turn:
    """One stored exchange of a session: a prompt and what was answered.

    Parameters
    ----------
    number : int
        Position in the session, from 1.
    event_id : str
        The runtime's id of the user message; a session is cut and branched at these.
    prompt : str
        The prompt as written.
    sent : str
        The prompt as sent to the model, without the runtime's date line.
    answer : str
        The answer, Markdown; of several messages the texts joined by a blank line.
    model : str
        The model that answered, "" where the transcript does not say.
    at : datetime or None
        When the prompt was sent (UTC).
    complete : bool
        False for a prompt that was never answered: an interrupt, an error, a kill.
    tools : tuple of str
        Names of the tools that ran, in order.
    usage : Usage
        Tokens, where the transcript records them.
    """

    number: int
    event_id: str
    prompt: str
    sent: str
    answer: str
    model: str = ""
    at: datetime | None = None
    complete: bool = True
    tools: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class SessionInfo:
    """One session, as a list shows it.

    Parameters
    ----------
    id : str
        The session's id.
    name : str
        Its title: given by a person, else the first prompt.
    modified, created : datetime or None
        UTC.
    folder : str
        The working directory it was made in.
    size : int
        Bytes of its transcript.
    notebook : str
        Path of the notebook bound to it, "" if none.
    ours : bool
        Whether copilot_jupyter made it (a terminal's session is never cleaned up).
    in_use_by : str
        Who writes it now ("pid 123 (copilot)"), "" if nobody.
    kept_from : str
        The session of which this is a kept copy, "" if it is none.
    """

    id: str
    name: str = ""
    modified: datetime | None = None
    created: datetime | None = None
    folder: str = ""
    size: int = 0
    notebook: str = ""
    ours: bool = False
    in_use_by: str = ""
    kept_from: str = ""


@dataclass(frozen=True)
class Provider:
    """Where prompts go.

    Parameters
    ----------
    kind : str
        "github", "byok" (a provider of one's own) or "local" (the embedded model).
    model : str
        The model's name; "" lets GitHub choose.
    config : dict
        The provider configuration handed to the SDK; empty for GitHub. May hold
        secrets: never shown, never stored.
    system_message : str
        What the model is told before the conversation; "" for our own text.
    """

    kind: str
    model: str = ""
    config: dict[str, Any] = field(default_factory=dict, repr=False)
    system_message: str = ""
