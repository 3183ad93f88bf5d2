"""The values that cross every boundary: what a turn says while it runs, and what is stored.

All are dataclasses, frozen but for a call that is being answered. Nothing here knows the
SDK, IPython or a widget.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future
    from datetime import datetime

#: Tools that only look: a turn in which no other ran can be taken back without a trace.
LOOKING = frozenset(
    ("list_variables", "inspect_variable", "read_notebook", "view", "grep", "glob", "report_intent")
)
#: How a call ended that changed nothing: the person said no, or the call was wrong.
REFUSED = frozenset(("denied", "rejected"))


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


@dataclass(frozen=True)
class Tool:
    """A tool of this kernel that the model may call.

    Parameters
    ----------
    name, description : str
    parameters : dict
        JSON schema of its arguments.
    """

    name: str
    description: str
    parameters: dict[str, Any] = field(hash=False)


@dataclass(frozen=True)
class Offer:
    """What the model may use in a turn.

    Parameters
    ----------
    tools : tuple of Tool
        Those that run in this kernel.
    builtin : tuple of str
        Names of the runtime's own.
    """

    tools: tuple[Tool, ...] = ()
    builtin: tuple[str, ...] = ()


NO_TOOLS = Offer()


@dataclass(frozen=True)
class ToolAnswer:
    """What a tool call gave back.

    Parameters
    ----------
    text : str
        What the model is told.
    status : str
        "success", "failure", "denied", or "rejected" where the call itself was wrong.
    """

    text: str
    status: str = "success"


@dataclass
class ToolAsked:
    """The model calls a tool of this kernel, and waits for `answer`.

    Parameters
    ----------
    name : str
    arguments : object
        As the model wrote them; not checked.
    answer : Future of ToolAnswer
        May be set from any thread; cancelled once nobody waits for it.
    began : bool
        Whether what it asks for has begun.
    outputs : list of dict
        What the cell has shown of it by then, as nbformat has it.
    cleared : bool
        Whether it has cleared the cell's output, the answer that was drawn so far included.
    """

    name: str
    arguments: Any
    answer: Future[ToolAnswer] = field(compare=False, repr=False)
    began: bool = False
    outputs: list[dict[str, Any]] = field(default_factory=list, compare=False, repr=False)
    cleared: bool = False

    @property
    def had_effects(self) -> bool:
        """Whether it may have changed something."""
        refused = _is_set(self.answer) and self.answer.result().status in REFUSED
        return self.began and self.name not in LOOKING and not refused


@dataclass(frozen=True)
class LeaveAsked:
    """One of the runtime's own tools asks whether it may do something.

    Parameters
    ----------
    kind : str
        "read", "write", "shell", "url", or another of the runtime's words.
    detail : str
        What a person judges: the command, the address, the path and what is written.
    path : str
        Of the file, for "read" and "write".
    reason : str
        Why, in the model's words.
    answer : Future of str
        "" for yes, else what the model is told.
    outputs : list of dict
        What the cell has shown of it by then, as nbformat has it.
    """

    kind: str
    detail: str
    path: str
    reason: str
    answer: Future[str] = field(compare=False, repr=False)
    outputs: list[dict[str, Any]] = field(default_factory=list, compare=False, repr=False)

    @property
    def had_effects(self) -> bool:
        """Whether it may have changed something."""
        return self.kind != "read" and _is_set(self.answer) and not self.answer.result()


def used(asked: Sequence[ToolAsked | LeaveAsked]) -> str:
    """Return the last tool that may have changed something, "" if none did."""
    done = (each for each in reversed(asked) if each.had_effects)
    return next((e.kind if isinstance(e, LeaveAsked) else e.name for e in done), "")


def _is_set(future: Future[Any]) -> bool:
    return future.done() and not future.cancelled()


#: What a turn may say while it runs.
TurnEvent = TextDelta | TurnRetry | ToolStarted | ToolAsked | LeaveAsked | Notice | Progress


@dataclass(frozen=True)
class Attachment:
    """A file or an image that goes with a prompt.

    Parameters
    ----------
    name : str
    path : str
        Of a file; "" for bytes.
    data : bytes
        Of an image.
    mime : str
    """

    name: str
    path: str = ""
    data: bytes = field(default=b"", repr=False)
    mime: str = ""


@dataclass(frozen=True)
class Usage:
    """What one turn used.

    Parameters
    ----------
    input_tokens, output_tokens : int
    cost : float
        In the provider's own unit, premium requests with GitHub Copilot; 0 where it tells none.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True)
class ToolUse:
    """One tool call of a stored turn.

    Parameters
    ----------
    name : str
    arguments : object
        As the model wrote them.
    result : str
        What the model was told; "" while it has not been.
    status : str
        As of a `ToolAnswer`, or another word of the runtime; "" if it never came back.
    """

    name: str
    arguments: Any = field(default=None, hash=False)
    result: str = ""
    status: str = ""

    @property
    def had_effects(self) -> bool:
        """Whether it may have changed something."""
        return self.name not in LOOKING and self.status not in REFUSED


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
    uses : tuple of ToolUse
        The tool calls, in order.
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
    uses: tuple[ToolUse, ...] = ()
    usage: Usage = field(default_factory=Usage)

    @property
    def tools(self) -> tuple[str, ...]:
        """The names of the tools that were called, in order."""
        return tuple(use.name for use in self.uses)

    @property
    def had_effects(self) -> bool:
        """Whether a tool may have changed something: the turn is then never taken back."""
        return any(use.had_effects for use in self.uses)


@dataclass(frozen=True)
class SessionInfo:
    """One session, as a question about it shows it: whether to delete it, or clean it up.

    Parameters
    ----------
    id : str
        The session's id.
    name : str
        Its title: given by a person, else the first prompt.
    modified : datetime or None
        UTC.
    size : int
        Bytes of its transcript.
    ours : bool
        Whether copilot_jupyter made it (a terminal's session is never cleaned up).
    in_use_by : str
        Who writes it now ("pid 123 (copilot)"), "" if nobody.
    """

    id: str
    name: str = ""
    modified: datetime | None = None
    size: int = 0
    ours: bool = False
    in_use_by: str = ""


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
