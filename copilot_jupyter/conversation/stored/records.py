"""What is stored about each turn of a session, beside the runtime's transcript.

The transcript holds prompts and answers. What it has no place for, which cell asked and
under which key, is one appended line a turn in the session's ``files`` folder: a fork
copies it, a delete removes it, and without it the turns are found by their prompts.
Lines are never changed. Where a turn was taken back its line stays, and the lines of
later turns that begin at the same place in the transcript say so.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from copilot_jupyter.state.journal import journal_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from copilot_jupyter.runtime.session import Outcome
    from copilot_jupyter.state.store import Store

    from .question import Question
    from .replay import Place

#: Name of the file in a session's ``files`` folder.
FILE = "copilot-jupyter-turns.jsonl"


@dataclass(frozen=True)
class Record:
    """What is stored about one turn.

    Parameters
    ----------
    event : str
        The event id of its user message.
    key : str
        Of the question.
    cell : str
        Id of the cell that asked, "" where the front end tells none.
    nth : int
        Which ask of this key it was in that execution of the cell, from 0.
    whole : bool
        Whether the cell is one ``%%copilot``: an edited prompt may then replace the turn.
    asked : str
        The flag it was asked with: "again", "rewind", "branch" or "".
    values : dict
        Digests of the interpolated values by name.
    usage : tuple of int
        Tokens in and out.
    cost : float
        In the provider's unit.
    span : tuple of int
        Where its events begin and end in the transcript, in bytes behind the first line;
        (0, 0) where that is not known.
    """

    event: str
    key: str
    cell: str = ""
    nth: int = 0
    whole: bool = False
    asked: str = ""
    values: dict[str, str] = field(default_factory=dict)
    usage: tuple[int, int] = (0, 0)
    cost: float = 0.0
    span: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, question: Question, place: Place, outcome: Outcome) -> Record:
        """Return the record of a turn that was just answered."""
        return cls(
            event=outcome.event_id,
            key=question.key,
            cell=place.cell,
            nth=place.nth,
            whole=place.whole,
            asked=place.asked,
            values=dict(question.values),
            usage=(outcome.usage.input_tokens, outcome.usage.output_tokens),
            cost=outcome.usage.cost,
        )

    def value(self) -> dict[str, Any]:
        """Return the record as a JSON value."""
        value = {"v": 1, **{name: value for name, value in asdict(self).items() if value}}
        value |= {"usage": list(self.usage), "span": list(self.span)}
        for name in ("usage", "span"):
            if not any(value[name]):
                del value[name]
        return value

    def line(self) -> bytes:
        """Return the record as it is appended to the file."""
        return journal_bytes([self.value()])


def file_of(store: Store, session_id: str) -> Path:
    """Return the file that holds the records of a session."""
    return store.folder(session_id) / "files" / FILE


def lines(records: Iterable[Record]) -> bytes:
    """Return records as their file holds them."""
    return b"".join(record.line() for record in records)


def append(path: Path, record: Record) -> None:
    """Append a record to its file; on a line of its own, even after one that a crash cut off."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    with os.fdopen(os.open(path, flags, 0o600), "ab") as file:
        file.write((b"\n" if _is_torn(path) else b"") + record.line())


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of a file; lines that are none are passed over."""
    for value in read_values(path):
        if (record := to_record(value)) is not None:
            yield record


def read_values(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON values of a file's records; lines that are none are passed over."""
    try:
        found = [line for line in path.read_bytes().split(b"\n") if line]
    except OSError:
        return
    try:  # all at once: a tenth of a second less for ten thousand
        values = json.loads(b"[" + b",".join(found) + b"]")
    except (ValueError, RecursionError):
        values = list(map(_json, found))
    for value in values:
        if _is_value(value):
            yield value


def _json(line: bytes) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(line)
    return None


def _is_value(value: Any) -> bool:
    if not (isinstance(value, dict) and isinstance(value.get("event"), str)):
        return False
    span = value.get("span")
    right = span is None or (
        isinstance(span, list)
        and len(span) == 2
        and type(span[0]) is type(span[1]) is int
        and 0 <= span[0] < span[1]
    )
    return right and isinstance(value.get("key"), str)


def to_record(value: Any) -> Record | None:
    """Return the record that a JSON value holds, None if it is none."""
    if not _is_value(value):
        return None
    try:
        span, usage, values = value.get("span"), value.get("usage"), value.get("values")
        return Record(
            event=value["event"],
            key=value["key"],
            cell=str(value.get("cell") or ""),
            nth=int(value.get("nth") or 0),
            whole=value.get("whole") is True,
            asked=str(value.get("asked") or ""),
            values={str(k): str(v) for k, v in values.items()} if values else {},
            usage=(int(usage[0]), int(usage[1])) if usage else (0, 0),
            cost=float(value.get("cost") or 0.0),
            span=(int(span[0]), int(span[1])) if span else (0, 0),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
        return None


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read(1) not in (b"\n", b"")
