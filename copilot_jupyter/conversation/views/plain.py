"""Views of scalars, text, containers, and of everything that no other family knows."""

from __future__ import annotations

import enum
import types
from typing import Any

from copilot_jupyter.conversation.words import counted

from .items import is_iterator, items_of
from .parts import Body, Wanted, is_a, one_line, printable, static, type_name, whole_lines
from .printer import SAFE, Printer, safe, stamp

#: Characters of a text that stands in the sentence, and of what an iterator tells of itself.
_INLINE = 200
_SELF = 500


def formats(value: object) -> tuple[str, ...]:
    """Return the formats that a value of this family takes."""
    if is_a(value, str) or items_of(value) is not None:
        return ("head=N",)
    return ()


def view(value: Any, wanted: Wanted) -> Body:
    """Return the view of any value."""
    if (short := _inline(value)) is not None and wanted.head is None:
        return Body("", short, inline=True)
    if is_a(value, str):
        return _text(str.__str__(value), wanted)
    if is_iterator(value):
        # A file or a task tells something of itself, without being read or awaited.
        own = static(type(value), "__repr__") is not object.__repr__ and not _code(value)
        text = wanted.ends(wanted.clock.text(repr, value), _SELF) if own else ""
        return Body(_iterator(value), printable(text))
    items = items_of(value)
    facts = counted(items.count, "item") if items and not items.begin[:1].isalpha() else ""
    if is_a(value, bytes, bytearray):
        facts = counted(len(memoryview(value)), "byte")
    text = Printer(wanted).show(value, wanted.limit - 200)
    return Body(facts, printable(text), "python" if items else "text")


def written(value: Any, wanted: Wanted) -> Body:
    """Return the view of ``{name!r}``: its repr."""
    if items_of(value) is None and not is_a(value, str, bytes, bytearray):
        text = wanted.clock.text(repr, value)
        text = wanted.ends(text, wanted.limit - 200)
    elif is_a(value, str) and len(value) <= wanted.long_limit:
        text = str.__repr__(value)
    else:
        text = Printer(wanted).show(value, wanted.limit - 200)
    text = printable(text)
    return Body("", text, inline=len(text) <= _INLINE and text.isprintable())


def _inline(value: Any) -> str | None:
    """Return what stands in the sentence in place of a name; None for what is too long."""
    if is_a(value, str) and not is_a(value, enum.Enum):
        text: str = str.__str__(value)
        return text if len(text) <= _INLINE and text.isprintable() else None
    if is_a(value, enum.Enum):
        name = object.__getattribute__(value, "_name_") or value._value_
        return one_line(f"{type_name(value).rpartition('.')[2]}.{name}")[:_INLINE]
    short = stamp(value)
    if short is None and (type(value) is int or type(value) in SAFE):
        short = Printer(Wanted()).show(value, 10_000) if type(value) is int else safe(value, str)
    if short is None:
        return None
    return short if 0 < len(short) <= _INLINE and short.isprintable() else None


def _text(text: str, wanted: Wanted) -> Body:
    lines = text.count("\n") + 1
    facts = counted(len(text), "character") + (f", {lines:,} lines" if lines > 1 else "")
    if wanted.head is not None:
        # A view is far shorter than this; a text may have gigabytes.
        shown = "\n".join(text[:1_000_000].split("\n", wanted.head)[: wanted.head])
        if len(shown) < len(text):
            facts += f", the first {min(wanted.head, lines):,}"
        text = whole_lines(wanted.cut(shown, wanted.limit), wanted.limit)
    return Body(facts, printable(wanted.ends(text, wanted.long_limit - 200)))


def _iterator(value: Any) -> str:
    code = _code(value)
    what = one_line(code.co_qualname) if code else "an iterator"
    return f"{what}, left unconsumed"


def _code(value: Any) -> Any:
    """Return the code of a generator or a coroutine; None for another iterator."""
    if is_a(value, types.GeneratorType):
        return value.gi_code
    if is_a(value, types.CoroutineType):
        return value.cr_code
    return value.ag_code if is_a(value, types.AsyncGeneratorType) else None
