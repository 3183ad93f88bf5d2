"""A session's transcript as it lies on disk: ``events.jsonl``, one event a line."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

#: How the runtime begins the line of a user message; elsewhere only the quoted name is certain.
PROMPT_LINE = b'{"type":"user.message"'
USER_MESSAGE = b'"user.message"'

#: How much of a transcript's end is read first.
TAIL_BYTES = 256 * 1024


@dataclass(frozen=True)
class Journal:
    """What one transcript file holds.

    Parameters
    ----------
    events : tuple of dict
        The events that could be read, in order.
    bad_lines : tuple of int
        Numbers (from 1) of the lines that are no JSON object.
    """

    events: tuple[dict[str, Any], ...]
    bad_lines: tuple[int, ...] = ()

    @property
    def has_start(self) -> bool:
        """Whether the first event is the ``session.start`` that the runtime needs."""
        return bool(self.events) and self.events[0].get("type") == "session.start"


def parse_journal(data: bytes) -> Journal:
    """Read the events of a transcript, passing over what is no event.

    Parameters
    ----------
    data : bytes
        The content of an ``events.jsonl``.
    """
    events: list[dict[str, Any]] = []
    bad: list[int] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if is_event(event):
            events.append(event)
        else:
            bad.append(number)
    return Journal(tuple(events), tuple(bad))


def is_event(value: Any) -> bool:
    """Whether a JSON value has the shape of an event."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("type"), str)
        and isinstance(value.get("data"), dict)
    )


def is_prompt(event: dict[str, Any]) -> bool:
    """Whether an event is a prompt of the person: no system's message, no sub-agent's."""
    return (
        event["type"] == "user.message"
        and event["data"].get("source") in (None, "user")
        and not event.get("agentId")
    )


def journal_bytes(events: Iterable[dict[str, Any]]) -> bytes:
    """Return events as the runtime writes them: one JSON object a line."""
    lines = (json.dumps(e, ensure_ascii=False, separators=(",", ":")) + "\n" for e in events)
    return "".join(lines).encode("utf-8", "surrogatepass")


def with_id(events: tuple[dict[str, Any], ...], session_id: str) -> tuple[dict[str, Any], ...]:
    """Return a transcript with its first event carrying another session's id."""
    if not events or events[0].get("type") != "session.start":
        return events
    first = {**events[0], "data": {**events[0]["data"], "sessionId": session_id}}
    return (first, *events[1:])


def renamed(data: bytes, session_id: str) -> bytes:
    """Return a transcript's bytes with its first event carrying another session's id.

    All lines behind the first stay as they are, however many there are.
    """
    first, end, rest = data.partition(b"\n")
    journal = parse_journal(first)
    if not journal.has_start:
        return data
    return journal_bytes(with_id(journal.events, session_id)) + (rest if end else b"")


def line_of(data: bytes, event_id: str) -> int:
    """Return where the line of an event begins in a transcript's bytes.

    Raises
    ------
    BadInputError
        If there is no such event.
    """
    needle = json.dumps(event_id).encode()
    found = data.find(needle)
    while found >= 0:
        start = data.rfind(b"\n", 0, found) + 1
        events = parse_journal(data[start : data.find(b"\n", found) + 1 or len(data)]).events
        if events and events[0].get("id") == event_id:
            return start
        found = data.find(needle, found + 1)
    raise BadInputError(
        f"The session has no event {event_id}.", "%copilot_history lists its turns."
    )


def is_leftover(data: bytes) -> bool:
    """Whether a transcript is only what a runtime wrote after its session's folder was gone."""
    journal = parse_journal(data)
    return not (journal.bad_lines or journal.has_start or any(map(is_prompt, journal.events)))


def read_tail(path: Path) -> Journal:
    """Return the end of a transcript, from a person's last prompt on at least.

    Reads backwards, so that a transcript of any length costs the same.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        step = TAIL_BYTES
        while True:
            start = max(0, size - step)
            file.seek(start)
            data = file.read(size - start)
            if start:
                data = data.partition(b"\n")[2]
            journal = parse_journal(data)
            if not start or any(map(is_prompt, journal.events)):
                return journal
            step *= 4


def append_events(path: Path, events: Iterable[dict[str, Any]]) -> None:
    """Add events to a transcript, all of them or none."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        torn = b"" if file.read(1) in (b"\n", b"") else b"\n"
        try:
            file.write(torn + journal_bytes(events))
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


def cut_at_prompt(path: Path, since: int) -> None:
    """Cut a transcript off at the first prompt written after it had `since` bytes."""
    with path.open("r+b") as file:
        position = file.seek(since)
        for line in file:
            if any(map(is_prompt, parse_journal(line).events)):
                file.truncate(position)
                return
            position += len(line)
