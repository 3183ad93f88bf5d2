"""What a view is made of, and how a foreign value is looked at without trusting it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from copilot_jupyter.conversation.stored.question import paired

from .guard import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes of a view of data that nobody asked to be longer.
SHORT = 2_000
#: Bytes of a view of text and source, and of one whose length was asked for.
LONG = 8_000
ASKED = 24_000

#: How far behind a cut a secret may end that is still found whole: the longest keys have 3.2 kB.
REACH = 4_096
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
#: Their classes are named by the package alone: where inside it they live changes.
_KNOWN = frozenset(
    ("matplotlib", "numpy", "pandas", "PIL", "plotly", "polars", "pyarrow", "torch", "xarray")
)


def _as_is(text: str) -> str:
    return text


@dataclass
class Wanted:
    """How a view is wanted.

    Parameters
    ----------
    head : int or None
        How many rows, lines or items; None for what is usual.
    schema : bool
        Only the columns of a table.
    scrub : callable
        Takes the secrets out of a text. It runs before a text is cut: of half a secret
        nobody could tell what it is.
    clock : Clock
        The time that code of others has.
    """

    head: int | None = None
    schema: bool = False
    scrub: Callable[[str], str] = _as_is
    clock: Clock = field(default_factory=Clock)

    @property
    def limit(self) -> int:
        """Bytes of a view of data."""
        return SHORT if self.head is None and not self.schema else ASKED

    @property
    def long_limit(self) -> int:
        """Bytes of a view of text."""
        return LONG if self.head is None else ASKED

    def cut(self, text: str, width: int) -> str:
        """Return a text of at most `width` characters, the last an ellipsis if it was cut."""
        if len(text) <= width:
            return text
        text = self.scrub(text[: width + REACH])
        return text if len(text) <= width else text[: max(width - 1, 0)] + "…"

    def ends(self, text: str, width: int) -> str:
        """Return a text of about `width` bytes: its begin, its end, how much lies between."""
        if fits(text, width):
            return text
        rest = max(width - 60, 20)
        begin = clip(self.scrub(text[: rest + REACH]), rest * 3 // 4)
        end = clip(self.scrub(text[-rest - REACH :])[::-1], rest // 4)[::-1]
        left = len(text) - len(begin) - len(end)
        return f"{begin}\n[… {left:,} characters left out …]\n{end}" if left > 0 else text


@dataclass(frozen=True)
class Body:
    """What one family of values says about a value.

    Parameters
    ----------
    facts : str
        A few words beside the type, such as ``1,000 rows x 12 columns``.
    text : str
        The rest; may be empty.
    language : str
        Of the text, as a fence names it.
    png : bytes
        A picture of the value; empty if it has none.
    pixels : str
        A digest of the picture's pixels.
    inline : bool
        Whether the text stands in the sentence, in place of the name.
    """

    facts: str
    text: str
    language: str = "text"
    png: bytes = b""
    pixels: str = ""
    inline: bool = False


def size(text: str) -> int:
    """Return the bytes of a text."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def fits(text: str, width: int) -> bool:
    """Whether a text has at most `width` bytes; of a long one they are not counted."""
    return len(text) <= width and size(text) <= width


def clip(text: str, width: int) -> str:
    """Return as much of the begin of a text as fits into `width` bytes."""
    if fits(text, width):
        return text
    return text[:width].encode("utf-8", "replace")[: max(width, 0)].decode("utf-8", "ignore")


def whole_lines(text: str, width: int) -> str:
    """Return the first lines of a text that fit into `width` bytes; of a single one its begin."""
    if fits(text, width):
        return text
    begin = clip(text, width)
    lines, newline, _ = begin.rpartition("\n")
    return lines if newline else begin


def printable(text: str) -> str:
    """Return a text that can be sent: no control characters, no halves of surrogate pairs."""
    text = text.replace("\r\n", "\n")
    text = _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)
    return paired(text)


def one_line(text: str) -> str:
    """Return a text with its line breaks and control characters written as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


# -- a value's class, whatever the value says about it ------------------------------------------


def mro(cls: type) -> tuple[type, ...]:
    """Return the classes of a class, past what its metaclass makes of them."""
    found: tuple[type, ...] = type.__dict__["__mro__"].__get__(cls)
    return found


def static(cls: type, name: str) -> Any:
    """Return what a class has under a name, as it is stored; None if nothing."""
    for base in mro(cls):
        stored = type.__dict__["__dict__"].__get__(base)
        if name in stored:
            return stored[name]
    return None


def is_a(value: object, *classes: type) -> bool:
    """Whether a value is an instance, whatever its ``__class__`` says."""
    return any(cls in classes for cls in mro(type(value)))


def kinds(cls: type) -> list[str]:
    """Return the classes of a class as package and name: ``pandas.DataFrame``.

    No package needs to be imported for it, and where inside its package a class lives
    makes no difference.
    """
    return [f"{_module(base).partition('.')[0]}.{_name(base)}" for base in mro(cls)]


def type_name(value: object) -> str:
    """Return the name of a value's type as a person would write it."""
    return class_name(type(value))


def class_name(cls: type) -> str:
    """Return the name of a class: ``list``, ``pandas.DataFrame``, ``Foo`` of the notebook."""
    module, name = _module(cls), _name(cls)
    package = module.partition(".")[0]
    if package in ("builtins", "__main__", ""):
        return name
    if package in _KNOWN:
        return f"{package}.{name}"
    public = [part for part in module.split(".") if not part.startswith("_")]
    return ".".join([*public, name])


def _module(cls: type) -> str:
    # The name of a class in C is kept elsewhere than that of one in Python.
    module = type.__dict__["__module__"].__get__(cls)
    return one_line(module) if type(module) is str else ""


def _name(cls: type) -> str:
    name: str = type.__dict__["__qualname__"].__get__(cls)
    # A class inside a function is known by its own name.
    return one_line(name).rpartition("<locals>.")[2][:100]
