"""Tables and transcripts for terminal IPython: as wide as it is, and nothing in them is obeyed."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from copilot_jupyter.events import Turn
    from copilot_jupyter.notebook.display.render import Bundle

#: What a terminal obeys instead of showing it: controls, overrides of the writing direction.
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
#: A fenced block of code, as models write them.
_BLOCK = re.compile(
    r"^(?P<fence>`{3,})(?P<language>[\w+-]*)[^\n`]*\n(?P<code>.*?)^(?P=fence)`*[ \t]*$",
    re.M | re.S,
)
#: No column is made narrower than this.
_NARROWEST = 8
_GAP = "  "


def columns() -> int:
    """Return how wide the terminal is."""
    return max(40, shutil.get_terminal_size().columns)


def harmless(text: str) -> str:
    """Return a text in which a terminal finds nothing to obey."""
    return _OBEYED.sub("\ufffd", text)


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str = "",
    width: int | None = None,
) -> Bundle:
    """Return a table that fits, with long cells on several lines.

    Parameters
    ----------
    headers : sequence of str
    rows : sequence of sequences of str
    title : str, optional
    width : int, optional
        In columns; by default the terminal's.
    """
    width = columns() if width is None else width
    cells = [[" ".join(harmless(cell).split()) for cell in row] for row in [headers, *rows]]
    filled = [n for n in range(len(headers)) if any(row[n] for row in cells[1:])]
    cells = [[row[n] for n in filled] for row in cells]
    widths = [max(_width(row[n]) for row in cells) for n in range(len(filled))]
    room = width - len(_GAP) * (len(filled) - 1)
    while sum(widths) > room and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    lines = list(textwrap.wrap(harmless(title), width))
    for row in cells:
        wrapped = [list(_wrapped(cell, w)) for cell, w in zip(row, widths, strict=True)]
        for n in range(max(map(len, wrapped), default=0)):
            parts = [part[n] if n < len(part) else "" for part in wrapped]
            padded = (p + " " * (w - _width(p)) for p, w in zip(parts, widths, strict=True))
            lines.append(_GAP.join(padded).rstrip())
    return {"text/plain": "\n".join(lines)}


def transcribed(title: str, turns: Sequence[Turn]) -> str:
    """Return turns as they are read at a terminal, with colours where it shows them."""
    coloured = has_colours()
    strong, plain = ("\x1b[1m", "\x1b[0m") if coloured else ("", "")
    parts = [f"{strong}{harmless(title)}{plain}"]
    for turn in turns:
        when = f" · {turn.at:%Y-%m-%d %H:%M} UTC" if turn.at else ""
        model = f" · {turn.model}" if turn.model else ""
        used = f" · used {', '.join(turn.tools)}" if turn.tools else ""
        head = harmless(f"{turn.number} · you{when}{model}{used}")
        answer = harmless(turn.answer).strip()
        parts.append(f"{strong}{head}{plain}")
        parts.append("\n".join(f"> {line}" for line in harmless(turn.prompt).strip().split("\n")))
        parts.append(_coloured(answer) if coloured else answer)
        if not turn.complete:
            parts.append("(not answered)")
    return "\n\n".join(part for part in parts if part)


def has_colours() -> bool:
    """Whether standard output is a terminal that shows colours, and they are wanted."""
    return (
        sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "") not in ("", "dumb")
    )


def _coloured(text: str) -> str:
    """Return Markdown with its blocks of code in colours."""
    from pygments import highlight
    from pygments.formatters import TerminalFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    def block(match: re.Match[str]) -> str:
        try:
            lexer = get_lexer_by_name(match["language"] or "text", stripnl=False)
        except ClassNotFound:
            return match[0]
        code = highlight(match["code"], lexer, TerminalFormatter())
        return f"{match['fence']}{match['language']}\n{code}{match['fence']}"

    return _BLOCK.sub(block, text)


def _width(text: str) -> int:
    """Return how many columns a text takes: two for each wide character, none for an accent."""
    if text.isascii():
        return len(text)
    return sum(map(_columns_of, text))


def _columns_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _wrapped(text: str, width: int) -> Iterator[str]:
    """Yield a text in lines of this many columns, broken at spaces where there are any."""
    while _width(text) > width:
        used = end = 0
        for end, character in enumerate(text):  # noqa: B007 -- where it stops being short
            used += _columns_of(character)
            if used > width:
                break
        space = text.rfind(" ", 1, end + 1)
        cut = space if space > 0 else max(1, end)
        yield text[:cut].rstrip()
        text = text[cut:].lstrip()
    yield text
