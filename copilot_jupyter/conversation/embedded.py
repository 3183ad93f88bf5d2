"""Turns that lie in a notebook: each answer's output carries its own in its metadata.

A session that is missing on this machine is rebuilt from them, and one that is there
learns what was asked on another. The answer is the output's ``text/plain``; what else the
turn was, with a digest over all of it, lies in the metadata beside the binding. Nothing
is guessed: what was changed since it was written is refused, with the cell's number.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from copilot_jupyter.errors import BadInputError
from copilot_jupyter.events import ToolUse, Usage
from copilot_jupyter.runtime.store import check_id

from .binding import METADATA_KEY
from .transcript import start_event
from .used import carried

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from copilot_jupyter.events import Turn

#: Version of the embedding.
VERSION = 1

#: Bytes of a text as sent that are embedded, its mark included.
LARGEST_SENT = 8 * 1024

#: A notebook file beyond this many bytes is not read.
_LARGEST = 200 * 1024 * 1024

#: Bytes that a search through a folder reads in all; older notebooks are not searched. It
#: holds up a cell, and a folder may hold hundreds of notebooks full of images.
_SEARCHED = 500 * 1024 * 1024


_CONFLICT = re.compile(rb"^(?:<{7}|\|{7}|={7}|>{7})(?=[ \r\n]|\Z)", re.M)
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_NAMESPACE = uuid.UUID("6d1c7f0e-3c8c-5c0b-9d5e-6f2f1b8a4a11")

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
_CLEAR = "or clear that cell's output: the conversation then goes without this turn."


EMPTY: Mapping[str, str] = MappingProxyType({})


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
        What the caller knows the prompt's cell by.
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


@dataclass(frozen=True)
class News:
    """What a notebook knows of a session that this machine does not.

    Parameters
    ----------
    added : tuple of EmbeddedTurn
        Turns that go on where the local conversation ends.
    branches : tuple of tuples of EmbeddedTurn
        Whole conversations that left it earlier, with the turns they share.
    """

    added: tuple[EmbeddedTurn, ...] = ()
    branches: tuple[tuple[EmbeddedTurn, ...], ...] = ()


# -- writing -----------------------------------------------------------------------------------


def entry(
    turn: Turn, *, session: str, parent: str, key: str, values: Mapping[str, str] = EMPTY
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
        What the caller knows the prompt's cell by.
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
        made["sent"] = cut(turn.sent)
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


def cut(text: str) -> str:
    """Return a text that fits, its end replaced by a mark; one that was cut stays as it is."""
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= LARGEST_SENT:
        return text
    keep = LARGEST_SENT - len(_mark(len(data)).encode())
    while data[keep] & 0xC0 == 0x80:  # inside a character
        keep -= 1
    return data[:keep].decode("utf-8", "surrogatepass") + _mark(len(data) - keep)


def _mark(missing: int) -> str:
    return f"…[cut by copilot-jupyter: {missing} bytes more]"


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


def read(path: Path) -> tuple[EmbeddedTurn, ...]:
    """Return all turns that a notebook file carries, in the order of its cells.

    Parameters
    ----------
    path : Path

    Returns
    -------
    tuple of EmbeddedTurn
        Of any session; outputs without an embedded turn are passed over.

    Raises
    ------
    BadInputError
        If the file cannot be read, or a turn in it was changed since it was written.
    """
    return tuple(_turns(_cells(_data(path), path.name), path.name))


def of_session(turns: Iterable[EmbeddedTurn], session_id: str) -> list[EmbeddedTurn]:
    """Return the turns of one session, those that it shares with the session it left included.

    Parameters
    ----------
    turns : iterable of EmbeddedTurn
        All that a notebook carries: cells that were not run since a branch was made still
        name the session it left.
    session_id : str
    """
    turns = list(turns)
    by_event = {turn.event: turn for turn in turns}
    found = {turn.event: turn for turn in turns if turn.session == session_id}
    for turn in list(found.values()):
        while (before := by_event.get(turn.parent)) is not None and before.event not in found:
            turn = found[before.event] = replace(before, session=session_id)  # noqa: PLW2901
    return [found[turn.event] for turn in turns if turn.event in found]


def find(folder: Path, session_id: str) -> Path | None:
    """Return the notebook in a folder that carries the most turns of a session.

    Parameters
    ----------
    folder : Path
        Searched itself, not what lies in folders below it: its notebooks from the one saved
        last on, up to 500 MB of them in all. What is older is not looked at.
    session_id : str

    Returns
    -------
    Path or None
        Of several with as many turns the one saved last.

    Raises
    ------
    BadInputError
        If none carries it, but one that names it is damaged.
    """
    needle = json.dumps(session_id).encode()
    found: list[tuple[int, Path]] = []
    damaged: list[BadInputError] = []
    left = _SEARCHED
    for path, size in _newest_first(folder):
        if size > _LARGEST:
            continue
        left -= size
        if left < 0:
            break
        try:
            data = _data(path)
        except BadInputError:
            continue
        if needle not in data:
            continue
        try:
            turns = list(_turns(_cells(data, path.name), path.name))
        except BadInputError as error:
            damaged.append(error)
            continue
        if events := {turn.event for turn in turns if turn.session == session_id}:
            found.append((len(events), path))
    if not found and damaged:
        raise damaged[0]
    return max(found, key=lambda item: item[0])[1] if found else None


def _newest_first(folder: Path) -> list[tuple[Path, int]]:
    """Return the notebooks in a folder, each with its size."""
    found = []
    for path in folder.glob("*.ipynb"):
        try:
            if path.is_file():
                status = path.stat()
                found.append((status.st_mtime_ns, path, status.st_size))
        except OSError:  # gone meanwhile
            continue
    return [(path, size) for _, path, size in sorted(found, reverse=True)]


def _data(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise BadInputError(
                f"The notebook {path.name} has {size / 2**20:,.0f} MB and is not read; "
                f"{_LARGEST // 2**20} MB are the most.",
                "Clear its large outputs (not the answers') and save it.",
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise BadInputError(f"There is no notebook {path}.", "Check its name.") from None
    except OSError as error:
        raise BadInputError(
            f"The notebook {path} cannot be read: {error.strerror or error}.",
            "Check that it is a file and that you may read it.",
        ) from None


def _cells(data: bytes, name: str) -> list[Any]:
    try:
        notebook = json.loads(data)
    except (ValueError, RecursionError) as error:
        if marker := _CONFLICT.search(data):
            line = data.count(b"\n", 0, marker.start()) + 1
            raise BadInputError(
                f"{name} holds a merge conflict: the first marker is in line {line}.",
                "Resolve it (git mergetool, or git checkout --ours or --theirs), then try again.",
            ) from None
        at = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise BadInputError(
            f"{name} is cut off or damaged: it is no valid JSON{at}.",
            "Restore it from git, a checkpoint or a backup.",
        ) from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if isinstance(cells, list):
        return cells
    if isinstance(notebook, dict) and cells is None and "worksheets" in notebook:
        return []  # a notebook of format 3, older than this package
    raise BadInputError(
        f"{name} is no notebook: it holds no list of cells.",
        "Restore it from git, a checkpoint or a backup.",
    )


def _turns(cells: list[Any], name: str) -> Iterator[EmbeddedTurn]:
    for position, cell in enumerate(cells):
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        outputs = cell.get("outputs")
        for output in outputs if isinstance(outputs, list) else []:
            found = _entry(output)
            if found is not None:
                turn = _turn(found, output.get("data"), position, name)
                whole = (_plain({"text/plain": cell.get("source")}) or "").lstrip()
                yield replace(
                    turn,
                    cell_id=str(cell.get("id") or ""),
                    whole=whole.startswith("%%copilot"),
                )


def _entry(output: Any) -> dict[str, Any] | None:
    """Return what is embedded in an output, if anything is."""
    if not isinstance(output, dict) or output.get("output_type") not in (
        "display_data",
        "execute_result",
    ):
        return None
    metadata = output.get("metadata")
    found = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) and "ev" in found else None


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
        _refuse(f"The answer of {where} is damaged: its {bad!r} is missing or of the wrong kind.")
    answer = _plain(data)
    if answer is None:
        _refuse(f"The answer of {where} is damaged: its text is missing.")
    try:
        check_id(found["session"])
    except BadInputError as error:
        _refuse(f"The answer of {where} names no session that can be. {error.what}")
    if found["digest"] != _digest(found, answer):
        _refuse(f"The answer of {where} was changed since it was written.")
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


def _refuse(what: str) -> NoReturn:
    raise BadInputError(what, f"Restore the notebook from git or a backup, {_CLEAR}")


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


def _plain(data: Any) -> str | None:
    """Return an output's text, which nbformat writes as a text or as a list of lines."""
    text = data.get("text/plain") if isinstance(data, dict) else None
    if isinstance(text, list) and _list_of(str, text):
        return "".join(text)
    return text if isinstance(text, str) else None


# -- conversations -----------------------------------------------------------------------------


def chains(turns: Iterable[EmbeddedTurn]) -> list[list[EmbeddedTurn]]:
    """Return the conversations that the turns of one session form.

    One, unless they diverged, as after a merge of two people's notebooks: then each from
    the first turn on, through the turns they share. A turn whose parent is not there (its
    cell was deleted) follows the nearest turn that could come before it.

    Parameters
    ----------
    turns : iterable of EmbeddedTurn

    Returns
    -------
    list of lists of EmbeddedTurn
        First the one whose last turn is newest, which is the current course: after a rewind
        the outputs of the cells below still hold the old one, and that may be longer. Of
        several as new the longest.

    Raises
    ------
    BadInputError
        If one turn is there twice, with different content.
    """
    return _chains(turns, ())


def compare(local: Sequence[str], known: Collection[str], turns: Iterable[EmbeddedTurn]) -> News:
    """Return what the turns of one session, out of a notebook, add to what is here.

    Of two conversations that go on where the local one ends, the one whose last turn is
    newest is added (of two as new the longer); the other is a branch.

    Parameters
    ----------
    local : sequence of str
        Event ids of the local session's turns, in order.
    known : collection of str
        Event ids that are known otherwise: of turns that were rewound, or are in a branch.
    turns : iterable of EmbeddedTurn

    Raises
    ------
    BadInputError
        If one turn is there twice, with different content.
    """
    ours = {*local, *known}
    added: tuple[EmbeddedTurn, ...] = ()
    branches: list[tuple[EmbeddedTurn, ...]] = []
    for chain in _chains(turns, local):
        first = next((n for n, turn in enumerate(chain) if turn.event not in ours), None)
        if first is None:
            continue
        tail = chain[first:]
        before = tail[0].parent
        goes_on = before == local[-1] if local else not first and before not in ours
        if goes_on and not added and not any(turn.event in ours for turn in tail):
            added = tuple(tail)
        else:
            branches.append(tuple(chain))
    return News(added, tuple(branches))


def _chains(turns: Iterable[EmbeddedTurn], local: Sequence[str]) -> list[list[EmbeddedTurn]]:
    nodes = _unique(turns)
    above = _above(nodes, local)
    _check_ends(nodes, above)
    inner = set(above.values())
    found = []
    for last in nodes:
        if last not in inner:
            chain, event = [], last
            while event:
                chain.append(nodes[event])
                event = above[event]
            found.append(chain[::-1])
    return sorted(found, key=lambda chain: (_moment(chain[-1]), len(chain)), reverse=True)


def _check_ends(nodes: dict[str, EmbeddedTurn], above: dict[str, str]) -> None:
    """Make sure that every conversation has a first turn: none goes in a circle."""
    below: dict[str, list[str]] = {}
    for event, parent in above.items():
        below.setdefault(parent, []).append(event)
    reached = [""]
    for event in reached:  # grows as it goes
        reached += below.get(event, [])
    if len(reached) <= len(nodes):
        ends = set(reached)
        turn = next(turn for event, turn in nodes.items() if event not in ends)
        _refuse(
            f"Turn {turn.turn} in cell {turn.cell + 1} of {turn.source} and the turns before it "
            "follow each other in a circle."
        )


def _unique(turns: Iterable[EmbeddedTurn]) -> dict[str, EmbeddedTurn]:
    """Return the turns by event, in the order of their numbers."""
    found: dict[str, EmbeddedTurn] = {}
    for turn in sorted(turns, key=lambda turn: (turn.turn, turn.cell)):
        same = found.setdefault(turn.event, turn)
        if _content(same) != _content(turn):
            raise BadInputError(
                f"Turn {turn.turn} of {turn.session} is there twice and differs: in cell "
                f"{same.cell + 1} of {same.source} and in cell {turn.cell + 1} of {turn.source}.",
                "Clear the output of the cell that is wrong.",
            )
    return found


def _content(turn: EmbeddedTurn) -> tuple[Any, ...]:
    """Return what was said; a session rebuilt without a deleted turn numbers the rest anew."""
    return turn.session, turn.prompt, turn.sent, turn.answer


def _above(nodes: dict[str, EmbeddedTurn], local: Sequence[str]) -> dict[str, str]:
    """Return for each turn the one it follows, "" for the first of a conversation.

    What the local session says of its own turns goes before what their numbers suggest.
    """
    upto: dict[str, str] = {}  # per local turn: the last one up to it that is in the notebook
    over: dict[str, str] = {}  # the same without the turn itself
    last = ""
    for event in local:
        over[event] = last
        last = event if event in nodes else last
        upto[event] = last
    above: dict[str, str] = {}
    missing: dict[str, str] = {"": ""}  # turns with one missing parent stay together
    gaps: set[str] = set()
    levels: dict[int, list[EmbeddedTurn]] = {}  # by number, each in the order of the cells
    for turn in nodes.values():
        levels.setdefault(turn.turn, []).append(turn)
    everything = list(levels.values())
    moved: dict[int, list[EmbeddedTurn]] = {}  # the same of the turns in `gaps`
    for event, turn in nodes.items():
        parent = turn.parent
        if event in over:
            above[event] = over[event]
        elif parent in nodes:
            above[event] = parent
        elif parent in upto:
            above[event] = upto[parent]
        else:
            if parent not in missing:
                missing[parent] = _nearest(turn, everything, moved.get(turn.turn - 1))
            above[event] = missing[parent]
        if above[event] != parent or parent in gaps:
            gaps.add(event)
            moved.setdefault(turn.turn, []).append(turn)
    return above


def _nearest(
    turn: EmbeddedTurn,
    levels: Sequence[Sequence[EmbeddedTurn]],
    moved: Sequence[EmbeddedTurn] | None,
) -> str:
    """Return the turn that one without its parent most likely descends from, "" if none can be.

    The missing parent had the number before its own, so that another turn of that number
    was none of its ancestors, unless a rebuilding without deleted turns moved the numbers.

    Parameters
    ----------
    turn : EmbeddedTurn
    levels : sequence of sequences of EmbeddedTurn
        All turns of each number, by number and then by cell.
    moved : sequence of EmbeddedTurn, optional
        Those of the number before that follow a gap, by cell.
    """
    level = moved
    if level is None:
        below = bisect_left(levels, turn.turn - 1, key=lambda level: level[0].turn)
        if not below:
            return ""
        level = levels[below - 1]
    # Of one number the nearest above, or else the nearest below.
    above = bisect_left(level, turn.cell, key=lambda other: other.cell)
    if above:
        above = bisect_left(level, level[above - 1].cell, key=lambda other: other.cell)
    return level[above].event


# -- rebuilding --------------------------------------------------------------------------------


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
    at = _stamp(_moment(turns[0]) if turns else _LONG_AGO)
    events = [start_event(session_id, at, folder)]
    for turn in turns:
        events += turn_events(turn, events[-1]["id"])
    return events


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
    at = _stamp(_moment(turn))
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


def _moment(turn: EmbeddedTurn) -> datetime:
    """Return when a turn was asked; long ago if unknown."""
    try:
        at = datetime.fromisoformat(turn.at)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return _LONG_AGO


def _stamp(at: datetime) -> str:
    """Return a time as the runtime writes it."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
