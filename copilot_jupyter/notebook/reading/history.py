"""A conversation as a readable transcript: one page of it, or where a text stands in it.

What is shown of a page depends on its turns alone, so that a saved notebook says the same
when it is run again.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING

from copilot_jupyter.conversation import transcript
from copilot_jupyter.conversation.pages import PAGE
from copilot_jupyter.conversation.stored.question import paired
from copilot_jupyter.conversation.words import counted
from copilot_jupyter.notebook.display import mathtext, render

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from copilot_jupyter.conversation.pages import Hit, Pages
    from copilot_jupyter.events import Turn
    from copilot_jupyter.notebook.display.listing import Table

    Transcript = Callable[[str, Sequence[Turn]], str]

_QUIET = "opacity:.6;font-size:85%;margin-bottom:0"


def page(
    session: str, turns: Sequence[Turn], count: int, *, transcribed: Transcript | None = None
) -> render.Bundle:
    """Return a page of a conversation, and how to get to those beside it.

    Parameters
    ----------
    session : str
    turns : sequence of Turn
        Those of the page.
    count : int
        How many the conversation has.
    transcribed : callable, optional
        Makes the plain text of a title and turns; Markdown by default.
    """
    if not count:
        return render.plain_bundle(f"The session {session} has no turns yet.")
    title = f"{session}: {place(turns, count)}"
    beside = " · ".join(_beside(session, turns, count))
    text = (transcribed or _markdown)(title, turns).rstrip("\n")
    plain = f"{text}\n\n{beside}" if beside else text
    html = "".join(_turn(turn) for turn in turns)
    foot = f'<p style="{_QUIET}">{mathtext.plain(beside)}</p>' if beside else ""
    box = f'<div class="copilot-history"><p>{mathtext.plain(title)}</p>{html}{foot}</div>'
    return {"text/plain": paired(plain), "text/html": paired(box)}


def place(turns: Sequence[Turn], count: int) -> str:
    """Return which turns of how many these are, in words."""
    if not turns:
        return f"none of its {counted(count, 'turn')}"
    first, last = turns[0].number, turns[-1].number
    if first == 1 and last == count:
        return counted(count, "turn")
    which = f"turn {first:,}" if first == last else f"turns {first:,} to {last:,}"
    return f"{which} of {count:,}"


def found(
    session: str,
    pages: Pages,
    text: str,
    limit: int = PAGE,
    table: Table = render.table,
) -> render.Bundle:
    """Return where a text stands in a conversation, the last places of many.

    Parameters
    ----------
    session : str
    pages : Pages
    text : str
    limit : int
        How many places to show.
    table : callable, optional
        What makes the table: `render.table`, or `terminal.table`.
    """
    number = itertools.count()
    shown: deque[Hit] = deque(maxlen=limit)
    shown.extend(hit for hit, _ in zip(pages.search(text), number, strict=False))
    total = next(number)
    if not shown:
        return render.plain_bundle(f"No turn of {session} holds {text!r}.")
    places = counted(total, "place")
    last = f", the last {len(shown)}; --last N shows more" if total > len(shown) else ""
    title = f"{session}: {text!r} in {places}{last}. %copilot_history --turn N shows one."
    return table(("turn", "who", "text"), [[f"{h.number:,}", h.who, str(h)] for h in shown], title)


def _beside(session: str, turns: Sequence[Turn], count: int) -> list[str]:
    """Return the lines to type for the pages before and behind."""
    if not turns:
        return []
    first, last = turns[0].number, turns[-1].number
    lines = []
    if first > 1:
        lines.append(f"earlier: %copilot_history {session} --turn {max(1, first - PAGE)}")
    if last < count:
        lines.append(f"later: %copilot_history {session} --turn {last + 1}")
    if lines:
        lines.append("--search TEXT finds a turn, --browse opens a reader")
    return lines


def _markdown(title: str, turns: Sequence[Turn]) -> str:
    session = title.partition(":")[0]
    return transcript.as_markdown(session, title, turns)


def _turn(turn: Turn) -> str:
    when = f" · {turn.at:%Y-%m-%d %H:%M} UTC" if turn.at else ""
    model = f" · {mathtext.plain(turn.model)}" if turn.model else ""
    used = f" · used {mathtext.plain(', '.join(turn.tools))}" if turn.tools else ""
    unanswered = "" if turn.complete else "<p><em>not answered</em></p>"
    return (
        f'<p style="{_QUIET}">{turn.number} · you{when}</p>'
        f'<p style="white-space:pre-wrap">{mathtext.plain(turn.prompt)}</p>'
        f'<p style="{_QUIET}">{turn.number} · copilot{model}{used}</p>'
        f"{render.markdown(turn.answer)}{unanswered}"
    )
