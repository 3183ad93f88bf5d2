"""What is stored beside a transcript about each of its turns, and the index over both.

The runtime's transcript holds prompts and answers. What it has no place for, which cell
asked and under which key, is one appended line a turn in the session's ``files`` folder: a
fork copies it, a delete removes it, and without it the turns are found by their prompts.
Lines are never changed. Where a turn was taken back its line stays, and the lines of
later turns that begin at the same place in the transcript say so.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import CopilotError
from copilot_jupyter.events import Turn, Usage
from copilot_jupyter.garbage import uncollected
from copilot_jupyter.runtime.files import write_whole
from copilot_jupyter.runtime.journal import (
    PROMPT_LINE,
    USER_MESSAGE,
    is_prompt,
    journal_bytes,
    parse_journal,
)

from . import transcript
from .question import Question, content_of, key_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from copilot_jupyter.runtime.store import Store

logger = logging.getLogger(__name__)

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


@dataclass(slots=True)
class Entry:
    """One turn in the index.

    Parameters
    ----------
    event : str
    start : int
        Where its events begin in the transcript, in bytes.
    value : dict or None
        The JSON value of its record; None for a turn that was asked elsewhere, such as in a
        terminal.
    complete : bool
    prompt_key, content, model : str
        Of a turn without a record: the key of its prompt, a digest of the text as sent, and
        the model that answered.
    number : int
        Position in the session, from 1.
    """

    event: str
    start: int
    value: dict[str, Any] | None = None
    complete: bool = True
    prompt_key: str = ""
    content: str = ""
    model: str = ""
    number: int = 0
    _record: Record | None = None

    @property
    def record(self) -> Record | None:
        """What is stored about the turn, None if nothing is."""
        if self._record is None and self.value is not None:
            self._record = to_record(self.value)
        return self._record

    @property
    def key(self) -> str:
        """The key under which the turn is found; without a record that of its prompt."""
        return str(self.value["key"]) if self.value is not None else self.prompt_key

    def answers(self, question: Question) -> bool:
        """Whether the turn is one of this question."""
        if self.value is not None:
            return self.key == question.key
        return (
            self.complete
            and self.prompt_key == question.prompt_key
            and self.content == question.content
            and question.model in ("", self.model)
        )


@dataclass(frozen=True)
class Stored:
    """A turn read back out of the transcript, with what is stored about it.

    Parameters
    ----------
    turn : Turn
    key : str
    parent : str
        Event id of the turn before, "" for the first.
    values : dict
        Digests of the values that were sent, by name.
    """

    turn: Turn
    key: str
    parent: str = ""
    values: dict[str, str] = field(default_factory=dict)


class TurnIndex:
    """The turns of one session by key and by cell, without reading the whole transcript.

    Parameters
    ----------
    store : Store
    session_id : str
    """

    def __init__(self, store: Store, session_id: str) -> None:
        self._store = store
        self._id = session_id
        self._seen: tuple[Any, ...] = ()
        self._base = 0
        self._sound = True
        self.entries: list[Entry] = []
        self.known: set[str] = set()
        self._by_key: dict[str, list[Entry]] = {}
        self._by_event: dict[str, Entry] = {}
        self._by_cell: dict[str, Entry] = {}

    # -- reading ---------------------------------------------------------------------------

    def refresh(self) -> None:
        """Read what has changed on disk since the last time."""
        seen = self._stamp()
        if seen != self._seen:
            with uncollected():
                self._load()
            self._seen = seen

    def matching(self, question: Question) -> list[Entry]:
        """Return the turns of a question, oldest first."""
        found = [
            *self._by_key.get(question.key, ()),
            *(e for e in self._by_key.get(question.prompt_key, ()) if e.value is None),
        ]
        unique = {e.event: e for e in found if e.complete and e.answers(question)}
        return sorted(unique.values(), key=lambda entry: entry.number)

    def of_cell(self, cell: str) -> Entry | None:
        """Return the newest turn that a ``%%copilot`` cell asked, None if it never did."""
        return self._by_cell.get(cell)

    def first_of_cell(self, cell: str) -> Entry | None:
        """Return the oldest turn that a ``%%copilot`` cell asked, None if it never did."""
        asked = (e for e in self.entries if e.value is not None and e.value.get("whole"))
        return next((e for e in asked if e.value and e.value.get("cell") == cell), None)

    def entry(self, event_id: str) -> Entry | None:
        """Return the turn with this event id, None if the session has none."""
        return self._by_event.get(event_id)

    def stored(self, entry: Entry) -> Stored | None:
        """Read one turn back; None where the transcript has changed under the index."""
        turn = self.turn(entry)
        if turn is None or not turn.complete:
            return None
        record = entry.record
        usage = Usage(*record.usage, record.cost) if record is not None else turn.usage
        before = self.entries[entry.number - 2].event if entry.number > 1 else ""
        turn = replace(turn, number=entry.number, usage=usage)
        return Stored(turn, entry.key, before, record.values if record is not None else {})

    def turn(self, entry: Entry) -> Turn | None:
        """Read one turn back, answered or not."""
        turns = transcript.turns(self._events(entry))[:1]
        return turns[0] if turns and turns[0].event_id == entry.event else None

    def _events(self, entry: Entry) -> Sequence[dict[str, Any]]:
        following = self.entries[entry.number : entry.number + 1]
        try:
            with self._path.open("rb") as file:
                file.seek(entry.start)
                data = file.read(following[0].start - entry.start if following else -1)
        except OSError:
            return ()
        return parse_journal(data).events

    @property
    def _path(self) -> Path:
        return self._store.journal_path(self._id)

    @property
    def _file(self) -> Path:
        return file_of(self._store, self._id)

    def _stamp(self) -> tuple[Any, ...]:
        return (_stat(self._path), _stat(self._file))

    # -- loading ---------------------------------------------------------------------------

    def _load(self) -> None:
        values = list(read_values(self._file))
        self.known = {value["event"] for value in values}
        try:
            data = self._path.read_bytes()
        except OSError:
            data = b""
        self._base = data.find(b"\n") + 1
        self._take(self._find(data, values))

    def _take(self, entries: list[Entry]) -> None:
        self.entries = entries
        self._by_key, self._by_event, self._by_cell = {}, {}, {}
        for number, entry in enumerate(entries, start=1):
            entry.number = number
            self._add(entry)

    def _add(self, entry: Entry) -> None:
        self._by_key.setdefault(entry.key, []).append(entry)
        self._by_event[entry.event] = entry
        if entry.value is not None and entry.value.get("whole"):
            self._by_cell[str(entry.value.get("cell"))] = entry

    def _find(self, data: bytes, values: list[dict[str, Any]]) -> list[Entry]:
        """Match prompts with records by their places; only what does not match is parsed."""
        starts = list(_prompt_lines(data))
        if data.count(USER_MESSAGE) != len(starts):  # written in some other way
            starts = [entry.start for entry in scan(data, 0)]
        at = {value["span"][0] + self._base: value for value in values if "span" in value}
        by_event = {value["event"]: value for value in values}
        found: list[tuple[int, dict[str, Any] | None]] = []
        for start, end in zip(starts, [*starts[1:], len(data)], strict=False):
            value = at.get(start)
            if value is not None and data.find(value["event"].encode(), start, end) < 0:
                value = None
            if value is not None or _is_prompt_line(data, start):
                found.append((start, value))
        self._sound = True
        entries: list[Entry] = []
        ends = [start for start, _ in found[1:]] + [len(data)]
        for (start, value), end in zip(found, ends, strict=False):
            if value is not None:
                entries.append(Entry(value["event"], start, value))
                continue
            for entry in scan(data[start:end], start):
                if entry.complete and (value := by_event.get(entry.event)) is not None:
                    entry.value, self._sound = value, False
                entries.append(entry)
        return entries

    # -- writing ---------------------------------------------------------------------------

    def add(self, record: Record, since: int) -> Stored | None:
        """Store what is known of a turn that was just answered, and read the turn back.

        Parameters
        ----------
        record : Record
            Its span is found out here.
        since : int
            Size of the transcript before the turn, in bytes.

        Returns
        -------
        Stored or None
            None where the turn is not whole on disk yet.
        """
        alone = self._is_as_seen(since)
        try:
            with self._path.open("rb") as file:
                base = len(file.readline())
                file.seek(since)
                data = file.read()
        except OSError:
            return None
        new = list(scan(data, since))
        found = [entry for entry in new if entry.event == record.event and entry.complete]
        if not found:
            return None
        record = replace(record, span=(found[-1].start - base, since + len(data) - base))
        self._append(record)
        if alone and len(new) == 1:
            self._base = base
            entry = Entry(record.event, found[-1].start, record.value())
            self.entries.append(entry)
            entry.number = len(self.entries)
            self._add(entry)
            self.known.add(record.event)
            self._seen = self._stamp()
        else:
            self.refresh()
        added = self.entry(record.event)
        return self.stored(added) if added is not None else None

    def _is_as_seen(self, since: int) -> bool:
        """Whether nobody else has written since the last look, up to here in the transcript."""
        if not self._seen or not self._sound or self._seen[1] != _stat(self._file):
            return False
        read = self._seen[0][0]
        if not 0 < read <= since:
            return False
        try:
            with self._path.open("rb") as file:
                file.seek(read)
                if USER_MESSAGE in file.read(since - read):
                    return False
                if not self.entries:
                    return True
                file.seek(self.entries[-1].start)
                events = parse_journal(file.readline()).events
        except OSError:
            return False
        return bool(events) and events[0].get("id") == self.entries[-1].event

    def _append(self, record: Record) -> None:
        """Append one line; where the old lines no longer fit the transcript, write all anew."""
        try:
            self._file.parent.mkdir(mode=0o700, exist_ok=True)
            if not self._sound:
                records = with_spans(self._path.read_bytes(), [*read_records(self._file), record])
                write_whole(self._file, lines(records))
                self._seen, self._sound = (), True
                return
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            with os.fdopen(os.open(self._file, flags, 0o600), "ab") as file:
                # On a line of its own, even after one that a crash cut off.
                file.write((b"\n" if _is_torn(self._file) else b"") + record.line())
        except (OSError, CopilotError) as error:  # the turn is whole without it
            logger.debug("the record of a turn of %s: %s", self._id, error)


def file_of(store: Store, session_id: str) -> Path:
    """Return the file that holds the records of a session."""
    return store.folder(session_id) / "files" / FILE


def lines(records: Iterable[Record]) -> bytes:
    """Return records as their file holds them."""
    return b"".join(record.line() for record in records)


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


def with_spans(data: bytes, records: Iterable[Record]) -> list[Record]:
    """Return records with their places in a transcript, in its order; the others come first.

    Parameters
    ----------
    data : bytes
        The transcript.
    records : iterable of Record
    """
    base = len(data.partition(b"\n")[0]) + 1
    by_event = {record.event: record for record in records}
    placed: list[Record] = []
    entries = list(scan(data, 0))
    for entry, following in zip(entries, [*entries[1:], None], strict=True):
        record = by_event.pop(entry.event, None)
        if record is not None and entry.complete:
            end = following.start if following is not None else len(data)
            placed.append(replace(record, span=(entry.start - base, end - base)))
    return [*(replace(record, span=(0, 0)) for record in by_event.values()), *placed]


def scan(data: bytes, at: int) -> Iterator[Entry]:
    """Yield the turns in a piece of a transcript.

    Parameters
    ----------
    data : bytes
        Whole lines.
    at : int
        Where the piece begins in the file.
    """
    start = -1
    events: list[dict[str, Any]] = []
    position = at
    for line in _lines(data):
        for event in parse_journal(line).events:
            if is_prompt(event):
                yield from _entries(start, events)
                start, events = position, []
            if start >= 0:
                events.append(event)
        position += len(line)
    yield from _entries(start, events)


def _lines(data: bytes) -> Iterator[bytes]:
    """Yield lines as they end in a transcript: at line feeds only."""
    *whole, last = data.split(b"\n")
    for line in whole:
        yield line + b"\n"
    if last:
        yield last


def _entries(start: int, events: list[dict[str, Any]]) -> Iterator[Entry]:
    for turn in transcript.turns(events):
        yield Entry(
            turn.event_id,
            start,
            complete=turn.complete,
            prompt_key=key_of(turn.prompt),
            content=content_of(turn.sent),
            model=turn.model,
        )


def _prompt_lines(data: bytes) -> Iterator[int]:
    """Yield where the lines of user messages begin, as the runtime writes them."""
    found = data.find(PROMPT_LINE)
    while found >= 0:
        if not found or data[found - 1] == 0x0A:
            yield found
        found = data.find(PROMPT_LINE, found + 1)


def _is_prompt_line(data: bytes, start: int) -> bool:
    end = data.find(b"\n", start)
    events = parse_journal(data[start : end if end >= 0 else len(data)]).events
    return bool(events) and is_prompt(events[0])


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read(1) not in (b"\n", b"")


def _stat(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_size, stat.st_mtime_ns, stat.st_ino)
