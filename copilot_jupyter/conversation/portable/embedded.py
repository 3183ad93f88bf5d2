"""One turn in a notebook: an answer's output carries it in its metadata.

A session that is missing on this machine is rebuilt from such turns, and one that is there
learns what was asked on another. The answer is the output's ``text/plain``; what else the
turn was, with a digest over all of it, lies in the metadata beside the binding. Nothing
is guessed: what was changed since it was written is refused, with the cell's number.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from copilot_jupyter.conversation.binding import our_metadata
from copilot_jupyter.conversation.used import carried, carried_text
from copilot_jupyter.errors import BadInputError
from copilot_jupyter.events import ToolUse, Usage
from copilot_jupyter.state.ids import check_id

from . import notebook_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from copilot_jupyter.conversation.stored.outputs import Output
    from copilot_jupyter.events import Turn

#: Version of the embedding.
VERSION = 1

#: The fields that every embedded turn has, by their kinds.
_NEEDED: dict[str, type] = {
    "session": str,
    "event": str,
    "parent": str,
    "turn": int,
    "key": str,
    "prompt": str,
    "model": str,
    "at": str,
    "digest": str,
}
_NO_VALUES: Mapping[str, str] = MappingProxyType({})
#: When a turn of unknown time was asked.
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class EmbeddedTurn:
    """One turn as a notebook carries it.

    Parameters
    ----------
    session : str
        Id of the session it belongs to.
    event : str
        The runtime's id of the user message.
    parent : str
        That of the turn before, "" for the first.
    turn : int
        Its number in the session, from 1.
    key : str
        Of the question.
    prompt : str
        The prompt as written.
    sent : str
        The prompt as sent, "" where that is the prompt itself.
    answer : str
        The answer, Markdown.
    model : str
        The model that answered, "" if unknown.
    at : str
        ISO time of the prompt, "" if unknown.
    uses : tuple of ToolUse
        The tool calls, cut to what a notebook carries.
    usage : Usage
        Tokens.
    values : dict
        Digests of the values that were sent, by name.
    cell : int
        Position of its cell in the notebook, from 0.
    source : str
        The notebook's name, for messages.
    cell_id : str
        The cell's id, "" in a file without ids.
    whole : bool
        Whether the cell is one ``%%copilot``.
    outputs : tuple of dict
        What the cell shows beside the answer, as far as that can run nothing in a page.
    """

    session: str
    event: str
    parent: str
    turn: int
    key: str
    prompt: str
    sent: str
    answer: str
    model: str = ""
    at: str = ""
    uses: tuple[ToolUse, ...] = ()
    usage: Usage = field(default_factory=Usage)
    values: dict[str, str] = field(default_factory=dict)
    cell: int = 0
    source: str = ""
    cell_id: str = ""
    whole: bool = False
    outputs: tuple[Output, ...] = ()

    @property
    def moment(self) -> datetime:
        """When it was asked; long ago if that is unknown."""
        try:
            at = datetime.fromisoformat(self.at)
            return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            return LONG_AGO


# -- writing -----------------------------------------------------------------------------------


def entry(
    turn: Turn, *, session: str, parent: str, key: str, values: Mapping[str, str] = _NO_VALUES
) -> dict[str, Any]:
    """Return what is embedded of a turn, to be merged with the output's binding.

    The output's ``text/plain`` must be the answer, byte for byte: it is not embedded again.

    Parameters
    ----------
    turn : Turn
    session : str
    parent : str
        Event id of the turn before, "" for the first.
    key : str
        Of the question.
    values : mapping, optional
        Digests of the values that were sent, by name.
    """
    made: dict[str, Any] = {
        "turn": turn.number,
        "event": turn.event_id,
        "parent": parent,
        "key": key,
        "prompt": turn.prompt,
    }
    if turn.sent not in ("", turn.prompt):
        made["sent"] = carried_text(turn.sent)
    made |= {"model": turn.model, "at": turn.at.isoformat() if turn.at else ""}
    if uses := carried(turn.uses):
        made["uses"] = [[use.name, use.arguments, use.result, use.status] for use in uses]
    if values:
        made["values"] = dict(values)
    if turn.usage != Usage():
        made["usage"] = [turn.usage.input_tokens, turn.usage.output_tokens]
    made["ev"] = VERSION
    made["digest"] = _digest({**made, "session": session}, turn.answer)
    return made


def _digest(fields: Mapping[str, Any], answer: str) -> str:
    """Return the digest over the answer and every field of the turn.

    The key is among them since it decides which cell the answer serves.
    """
    content = [
        *(fields[name] for name in ("session", "event", "parent", "turn", "key", "prompt")),
        fields.get("sent", ""),
        answer,
        fields["model"],
        fields["at"],
        fields.get("uses", []),
        fields.get("usage", [0, 0]),
        *([fields["values"]] if fields.get("values") else []),
    ]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


# -- reading -----------------------------------------------------------------------------------


def turn_of(output: Any, cell: int, name: str) -> EmbeddedTurn | None:
    """Return the turn that an output carries, None if it carries none.

    Parameters
    ----------
    output : Any
        As it stands in the file.
    cell : int
        Position of its cell, from 0.
    name : str
        Of the notebook, for messages.

    Raises
    ------
    BadInputError
        If the turn was changed since it was written.
    """
    if not isinstance(output, dict) or output.get("output_type") not in (
        "display_data",
        "execute_result",
    ):
        return None
    found = our_metadata(output)
    if found is None or "ev" not in found:
        return None
    return _turn(found, output.get("data"), cell, name)


def _turn(found: dict[str, Any], data: Any, cell: int, name: str) -> EmbeddedTurn:
    """Return one embedded turn, or raise what is wrong with it."""
    number = found.get("turn")
    which = f"turn {number}" if type(number) is int else "a turn"
    where = f"{which} in cell {cell + 1} of {name}"
    version = found["ev"]
    if type(version) is int and version > VERSION:
        raise BadInputError(
            f"{where[0].upper()}{where[1:]} was written by a newer copilot-jupyter "
            f"(embedding {version}; this one reads {VERSION}).",
            "Update it: pip install -U copilot-jupyter.",
        )
    if bad := _wrong(found):
        raise damaged(
            f"The answer of {where} is damaged: its {bad!r} is missing or of the wrong kind."
        )
    answer = notebook_file.text(data.get("text/plain")) if isinstance(data, dict) else None
    if answer is None:
        raise damaged(f"The answer of {where} is damaged: its text is missing.")
    try:
        check_id(found["session"])
    except BadInputError as error:
        raise damaged(f"The answer of {where} names no session that can be. {error.what}") from None
    if found["digest"] != _digest(found, answer):
        raise damaged(f"The answer of {where} was changed since it was written.")
    return EmbeddedTurn(
        session=found["session"],
        event=found["event"],
        parent=found["parent"],
        turn=found["turn"],
        key=found["key"],
        prompt=found["prompt"],
        sent=found.get("sent", ""),
        answer=answer,
        model=found["model"],
        at=found["at"],
        uses=tuple(ToolUse(*use) for use in found.get("uses", ())),
        usage=Usage(*found.get("usage", ())),
        values=dict(found.get("values", {})),
        cell=cell,
        source=name,
    )


def damaged(what: str) -> BadInputError:
    """Return the error about turns that are not as they were written."""
    return BadInputError(
        what,
        "Restore the notebook from git or a backup, "
        "or clear that cell's output: the conversation then goes without this turn.",
    )


def _wrong(found: dict[str, Any]) -> str:
    """Return the first field that is missing or of a wrong kind, "" if all are right."""
    # By `type`, since JSON's true is an int to isinstance.
    if type(found["ev"]) is not int or found["ev"] != VERSION:
        return "ev"
    for name, kind in _NEEDED.items():
        if type(found.get(name)) is not kind:
            return name
    if not found["event"]:
        return "event"
    if found["turn"] < 1:
        return "turn"
    if not isinstance(found.get("sent", ""), str):
        return "sent"
    uses = found.get("uses", [])
    if not isinstance(uses, list) or not all(map(_is_use, uses)):
        return "uses"
    values = found.get("values", {})
    if not isinstance(values, dict) or not _list_of(str, list(values.values())):
        return "values"
    usage = found.get("usage", [0, 0])
    if not _list_of(int, usage) or len(usage) != 2 or min(usage) < 0:
        return "usage"
    return ""


def _is_use(value: Any) -> bool:
    kinds = [type(part) for part in value] if isinstance(value, list) else []
    return kinds == [str, dict, str, str]


def _list_of(kind: type, value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)
