"""What a person sees of a tool's wish: in the cell, in a console, and in the line that stays.

The model wrote what is asked, and a person judges it: nothing in it may be hidden.
"""

from __future__ import annotations

import os
import re
import unicodedata
from typing import TYPE_CHECKING, Any

from copilot_jupyter.conversation.grants import UNTIL_RESTART
from copilot_jupyter.conversation.words import counted

if TYPE_CHECKING:
    from copilot_jupyter.conversation.grants import Wish

#: Characters that are shown of what is asked: from its beginning, and from its end.
HEAD, TAIL = 9000, 3000
#: Characters of the one line that stays.
_LINE = 120
#: What a tool asks to do, and what it may do unasked once it is allowed for the session.
_WORDS = {
    "run_python": ("run this code in the kernel", "code"),
    "insert_cell": ("insert this cell into the notebook", "cells"),
    "shell": ("run this command", "commands"),
    "write": ("write this file", "files"),
    "url": ("fetch this address", "addresses"),
}
#: Printable, and seen as nothing at all: Hangul fillers and the empty Braille pattern.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800")


def one_line(wish: Wish) -> str:
    """Return a wish as one line that may stay in a notebook: short, its secrets masked."""
    from copilot_jupyter.conversation.shield.secrets import Shield

    lines = wish.detail.strip().splitlines() or [""]
    first = (wish.summary or lines[0])[:2000]
    text = " ".join(on_one_line(Shield.of(os.environ).scrub(first)).split())
    if len(text) > _LINE:
        text = f"{text[: _LINE - 1]}…"
    if not wish.summary and len(lines) > 1:
        text += f" … ({len(lines):,} lines)"
    return f"{on_one_line(wish.tool)}: {text}"


def readable(text: str) -> str:
    """Return text in which nothing is hidden: what shows as nothing is named instead.

    Parameters
    ----------
    text : str
        A model's: code whose meaning a person must see.
    """
    lines = unicodedata.normalize("NFC", text.replace("\r\n", "\n"))
    if lines.isascii() and lines.replace("\n", "").replace("\t", "").isprintable():
        return lines
    return "".join(_named(character) for character in lines)


def _named(character: str) -> str:
    """Return a character, or its number where it draws nothing or turns the text around."""
    # Marks that no letter took in may stand over anything, or be seen as nothing.
    mark = unicodedata.category(character).startswith("M")
    printable = character.isprintable() and character not in _BLANK
    seen = character in "\n\t" or (printable and not mark)
    return character if seen else f"⟨U+{ord(character):04X}⟩"


def on_one_line(text: str) -> str:
    """Return text in which nothing is hidden, without its line ends."""
    return re.sub(r"\s+", " ", readable(text))


def _cut(text: str) -> tuple[str, str]:
    """Return what is shown of a detail, and what is not; "" where that is nothing."""
    if len(text) <= HEAD + TAIL:
        return readable(text), ""
    left_out = f"{len(text) - HEAD - TAIL:,} characters in the middle are not shown"
    return f"{readable(text[:HEAD])}\n\n[… {left_out} …]\n\n{readable(text[-TAIL:])}", left_out


def _pieces(text: str, language: str) -> list[tuple[str, str]]:
    """Return a text in pieces, each behind its kind; "" is plain. Together they are the text."""
    from pygments.lexers import get_lexer_by_name
    from pygments.token import Comment, Generic, Keyword, Number, String

    kinds: dict[Any, str] = {
        Keyword: "keyword",
        String: "string",
        Comment: "comment",
        Number: "number",
        Generic.Inserted: "added",
        Generic.Deleted: "removed",
    }
    lexer = get_lexer_by_name(language or "text", stripnl=False)
    pieces = [
        (next((name for kind, name in kinds.items() if token in kind), ""), piece)
        for token, piece in lexer.get_tokens(f"{text}\n")  # it ends lines, the last one too
    ]
    if "".join(piece for _, piece in pieces) != f"{text}\n":
        return [("", text)]
    kind, last = pieces.pop()
    return [*pieces, (kind, last[:-1])]


def question(wish: Wish) -> dict[str, Any]:
    """Return what the page shows."""
    detail, left_out = _cut(wish.detail)
    lines = counted(wish.detail.count("\n") + 1, "line")
    tool = on_one_line(wish.tool)
    asks_to, things = _WORDS.get(wish.tool, ("use a tool", "uses of it"))
    until = (
        "until the kernel restarts"
        if wish.tool in UNTIL_RESTART
        else f"in this notebook, until %copilot_deny {tool}"
    )
    return {
        "title": f"Copilot asks to {asks_to} ({tool})",
        "summary": on_one_line(wish.summary),
        "detail": detail,
        "pieces": _pieces(detail, wish.language),
        "size": f"{lines}, {len(wish.detail):,} characters",
        "left_out": left_out,
        "hint": f"“For this session” allows all further {things}, {until}.",
    }


def as_text(wish: Wish) -> str:
    """Return the question as text, for a console."""
    asked = question(wish)
    indented = "\n".join(f"    {line}" for line in asked["detail"].split("\n"))
    size = f"{asked['size']}; {asked['left_out']}." if asked["left_out"] else ""
    return "\n".join(
        filter(None, [f"{asked['title']}:", asked["summary"], indented, size, asked["hint"]])
    )
