"""Turns out of a transcript's events: what was asked, what was answered, what was cut off."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from copilot_jupyter.events import ToolUse, Turn, Usage
from copilot_jupyter.state.journal import is_prompt

from .stored.question import paired

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: The runtime puts this line before every prompt it sends.
_DATE_LINE = re.compile(r"\A<current_datetime>[^<]*</current_datetime>\n{0,2}")


@dataclass
class _Draft:
    event: dict[str, Any]
    texts: list[str] = field(default_factory=list)
    uses: list[ToolUse] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    model: str = ""
    answered: bool = False
    usage: Usage = field(default_factory=Usage)

    def add(self, event: dict[str, Any]) -> None:
        kind, data = event["type"], event["data"]
        if kind == "assistant.message":
            if text := str(data.get("content") or ""):
                self.texts.append(text)
            self.model = str(data.get("model") or self.model)
            self.answered = not data.get("toolRequests") and bool(self.texts or self.uses)
        elif kind == "tool.execution_start":
            self.uses.append(ToolUse(str(data.get("toolName") or ""), data.get("arguments")))
            self.calls.append(str(data.get("toolCallId")))
        elif kind == "tool.execution_complete":
            self._complete(data)
        # An abort or an error that follows the answer takes nothing back: the stop button
        # pressed before the next prompt was sent writes one too.

    def _complete(self, data: dict[str, Any]) -> None:
        call = str(data.get("toolCallId"))
        for at in reversed(range(len(self.uses))):  # some models use an id twice
            if self.calls[at] == call and not self.uses[at].status:
                result, error = data.get("result") or {}, data.get("error") or {}
                status = "success" if data.get("success") else str(error.get("code") or "failure")
                text = str(result.get("content") or error.get("message") or "")
                self.uses[at] = replace(self.uses[at], result=text, status=status)
                return

    def turn(self, number: int) -> Turn:
        data = self.event["data"]
        prompt = str(data.get("content") or "")
        sent = _DATE_LINE.sub("", str(data.get("transformedContent") or prompt))
        return Turn(
            number=number,
            event_id=str(self.event.get("id") or ""),
            prompt=prompt,
            sent=sent,
            answer=paired("\n\n".join(self.texts)),
            model=self.model,
            at=_time(self.event.get("timestamp")),
            complete=self.answered,
            uses=tuple(self.uses),
            usage=self.usage,
        )


def turns(events: Iterable[dict[str, Any]]) -> list[Turn]:
    """Return the turns of a transcript, in order, complete or not.

    Parameters
    ----------
    events : iterable of dict
        The events of an ``events.jsonl``.
    """
    drafts: list[_Draft] = []
    for event in events:
        if is_prompt(event):
            drafts.append(_Draft(event))
        elif drafts and not event.get("agentId"):  # a sub-agent's exchange is part of the turn
            drafts[-1].add(event)
    return [draft.turn(number) for number, draft in enumerate(drafts, start=1)]


def dangling(events: Sequence[dict[str, Any]]) -> Turn | None:
    """Return the last turn if it was never answered, else None."""
    last = turns(events)[-1:]
    return last[0] if last and not last[0].complete else None


def as_markdown(session_id: str, title: str, shown: Iterable[Turn]) -> str:
    """Return a conversation as a Markdown document.

    Parameters
    ----------
    session_id, title : str
    shown : iterable of Turn
    """
    parts = [f"# {title or session_id}", f"Session `{session_id}`"]
    for turn in shown:
        when = f", {turn.at:%Y-%m-%d %H:%M} UTC" if turn.at else ""
        parts.append(f"## {turn.number}. You{when}")
        parts.append(turn.prompt)
        model = f" ({turn.model})" if turn.model else ""
        parts.append(f"## {turn.number}. Copilot{model}")
        parts.append(turn.answer if turn.complete else turn.answer + "\n\n*(not answered)*")
    return "\n\n".join(part.strip() for part in parts) + "\n"


def as_jsonl(events: Sequence[dict[str, Any]], shown: Sequence[Turn]) -> str:
    """Return the events of a conversation from the first of some turns on, one a line.

    Parameters
    ----------
    events : sequence of dict
        The whole transcript.
    shown : sequence of Turn
        The turns wanted, the last ones of the conversation.
    """
    first = shown[0].event_id if shown else ""
    start = next((n for n, event in enumerate(events) if event.get("id") == first), 0)
    if shown and shown[0].number == 1:
        start = 0  # with the events before the first prompt
    return "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events[start:])


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        return None
