"""The turns of one session by key and by cell: an index over its transcript and its records."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from copilot_jupyter.conversation import transcript
from copilot_jupyter.errors import CopilotError
from copilot_jupyter.events import Usage
from copilot_jupyter.garbage import uncollected
from copilot_jupyter.state.files import write_whole
from copilot_jupyter.state.journal import USER_MESSAGE, parse_journal

from . import outputs, records
from .question import content_of, key_of
from .spans import is_prompt_line, prompt_lines, scan, with_spans

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from copilot_jupyter.events import Turn
    from copilot_jupyter.state.store import Store

    from .outputs import Output
    from .question import Question
    from .records import Record

logger = logging.getLogger(__name__)


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
            self._record = records.to_record(self.value)
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
    outputs : tuple of dict
        What its cell has shown beside the answer, as nbformat has it.
    """

    turn: Turn
    key: str
    parent: str = ""
    values: dict[str, str] = field(default_factory=dict)
    outputs: tuple[Output, ...] = ()


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
        values = record.values if record is not None else {}
        shown = outputs.read(self._store, self._id, entry.event) if turn.uses else ()
        return Stored(turn, entry.key, before, values, shown)

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
        return records.file_of(self._store, self._id)

    def _stamp(self) -> tuple[Any, ...]:
        return (_stat(self._path), _stat(self._file))

    # -- loading ---------------------------------------------------------------------------

    def _load(self) -> None:
        values = list(records.read_values(self._file))
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
        starts = list(prompt_lines(data))
        if data.count(USER_MESSAGE) != len(starts):  # written in some other way
            starts = [start for start, _ in scan(data, 0)]
        at = {value["span"][0] + self._base: value for value in values if "span" in value}
        by_event = {value["event"]: value for value in values}
        found: list[tuple[int, dict[str, Any] | None]] = []
        for start, end in zip(starts, [*starts[1:], len(data)], strict=False):
            value = at.get(start)
            if value is not None and data.find(value["event"].encode(), start, end) < 0:
                value = None
            if value is not None or is_prompt_line(data, start):
                found.append((start, value))
        self._sound = True
        entries: list[Entry] = []
        ends = [start for start, _ in found[1:]] + [len(data)]
        for (start, value), end in zip(found, ends, strict=False):
            if value is not None:
                entries.append(Entry(value["event"], start, value))
                continue
            for at_byte, turn in scan(data[start:end], start):
                entry = _without_record(at_byte, turn)
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
        starts = [at for at, turn in new if turn.event_id == record.event and turn.complete]
        if not starts:
            return None
        record = replace(record, span=(starts[-1] - base, since + len(data) - base))
        self._append(record)
        if alone and len(new) == 1:
            self._base = base
            entry = Entry(record.event, starts[-1], record.value())
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
                known = [*records.read_records(self._file), record]
                placed = with_spans(self._path.read_bytes(), known)
                write_whole(self._file, records.lines(placed))
                self._seen, self._sound = (), True
            else:
                records.append(self._file, record)
        except (OSError, CopilotError) as error:  # the turn is whole without it
            logger.debug("the record of a turn of %s: %s", self._id, error)


def _without_record(start: int, turn: Turn) -> Entry:
    """Return the entry of a turn of which the transcript alone tells."""
    return Entry(
        turn.event_id,
        start,
        complete=turn.complete,
        prompt_key=key_of(turn.prompt),
        content=content_of(turn.sent),
        model=turn.model,
    )


def _stat(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_size, stat.st_mtime_ns, stat.st_ino)
