"""Where the turns of a transcript lie in its bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from copilot_jupyter.conversation import transcript
from copilot_jupyter.state.journal import PROMPT_LINE, is_prompt, parse_journal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from copilot_jupyter.events import Turn

    from .records import Record


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
    found = [(start, turn.event_id, turn.complete) for start, turn in scan(data, 0)]
    ends = [*(start for start, _, _ in found[1:]), len(data)]
    for (start, event, complete), end in zip(found, ends, strict=False):
        record = by_event.pop(event, None)
        if record is not None and complete:
            placed.append(replace(record, span=(start - base, end - base)))
    return [*(replace(record, span=(0, 0)) for record in by_event.values()), *placed]


def scan(data: bytes, at: int) -> Iterator[tuple[int, Turn]]:
    """Yield the turns in a piece of a transcript, each with where it begins in the file.

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
                yield from ((start, turn) for turn in transcript.turns(events))
                start, events = position, []
            if start >= 0:
                events.append(event)
        position += len(line)
    yield from ((start, turn) for turn in transcript.turns(events))


def _lines(data: bytes) -> Iterator[bytes]:
    """Yield lines as they end in a transcript: at line feeds only."""
    *whole, last = data.split(b"\n")
    for line in whole:
        yield line + b"\n"
    if last:
        yield last


def prompt_lines(data: bytes) -> Iterator[int]:
    """Yield where the lines of user messages begin, as the runtime writes them."""
    found = data.find(PROMPT_LINE)
    while found >= 0:
        if not found or data[found - 1] == 0x0A:
            yield found
        found = data.find(PROMPT_LINE, found + 1)


def is_prompt_line(data: bytes, start: int) -> bool:
    """Whether the line that begins here is a prompt of the person."""
    end = data.find(b"\n", start)
    events = parse_journal(data[start : end if end >= 0 else len(data)]).events
    return bool(events) and is_prompt(events[0])
