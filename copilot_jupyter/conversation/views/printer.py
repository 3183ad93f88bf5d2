"""Values written as Python writes them, within a budget: `pprint` for values of any size."""

from __future__ import annotations

import datetime
import decimal
import fractions
import itertools
import pathlib
import types
import uuid
from typing import TYPE_CHECKING, Any

from .guard import FailedError, TooSlowError
from .items import Items, Pair, is_iterator, items_of, package_of
from .parts import REACH, class_name, is_a, kinds, one_line, size, static, type_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from .parts import Wanted

#: Items shown at each depth, and characters of a string; the first that fits is taken.
_CAPS = (
    ((60, 20, 10, 5, 0), 400),
    ((60, 10, 4, 3, 0), 120),
    ((60, 5, 3, 1, 0), 60),
    ((60, 2, 1, 0), 40),
    ((30, 0), 30),
)
_WIDTH = 100
#: Written by their own `str`, which is short and quick, and raises nothing.
_STAMPS = (
    *("pandas.Timestamp", "pandas.Timedelta", "pandas.Period", "pandas.Interval"),
    *("pandas.NaTType", "pandas.NAType"),
)
#: Bits of an integer that is written out; Python itself refuses 4,300 digits.
_BITS = 2_000

#: Their reprs are short and quick, and fail only where Python writes no number of that length.
SAFE = frozenset(
    (
        *(bool, float, complex, type(None), type(...), type(NotImplemented), range),
        *(datetime.date, datetime.timedelta, decimal.Decimal, fractions.Fraction, uuid.UUID),
        *(pathlib.PurePosixPath, pathlib.PureWindowsPath, type(pathlib.Path())),
    )
)


class Printer:
    """Writes values.

    Parameters
    ----------
    wanted : Wanted
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._caps: tuple[int, ...] = _CAPS[0][0]
        self._string = _CAPS[0][1]
        self._left = 0
        self._within: list[int] = []
        # Attempts with smaller caps ask no value for its repr again.
        self._reprs: dict[int, str] = {}

    def show(self, value: object, limit: int) -> str:
        """Return a value in at most `limit` bytes, over several lines where one is too short."""
        text = ""
        for caps, string in _CAPS:
            first = caps[0] if self._wanted.head is None else self._wanted.head
            self._caps, self._string = (first, *caps[1:]), string
            self._left = limit
            text = self._show(value, 0)
            if size(text) <= limit:
                return text
        return self._wanted.ends(text, limit)

    def line(self, value: object, width: int) -> str:
        """Return a value in one line of at most `width` characters."""
        # Within something: a table or an array is its shape here.
        self._caps, self._string, self._left = (0, 5, 2, 0), width, width
        return self._wanted.cut(" ".join(self._show(value, 1).split()), width)

    def cell(self, value: object, width: int) -> str:
        """Return a value as it stands in a table: in one line, a text without its quotes."""
        if type(value) is str:
            return one_line(self._wanted.cut(value, width))
        if type(value) is float:
            return f"{value:.6g}"
        if is_a(value, tuple):  # the label of a row that has several
            label: Any = value
            parts = itertools.islice(tuple.__iter__(label), 20)
            return self._wanted.cut(", ".join(self.cell(part, width) for part in parts), width)
        text = safe(value, str) if type(value) in SAFE else stamp(value)
        return self._wanted.cut(one_line(self.line(value, width) if text is None else text), width)

    def _show(self, value: Any, depth: int) -> str:
        cls = type(value)
        written = static(cls, "__repr__")
        if written is str.__repr__:
            text = self._text(str.__str__(value))
        elif written is int.__repr__:
            bits = int.bit_length(value)
            text = int.__repr__(value) if bits <= _BITS else f"<an integer of {bits:,} bits>"
        elif cls in SAFE:
            text = safe(value, repr)
        elif written in (bytes.__repr__, bytearray.__repr__):
            text = self._bytes(memoryview(value))
        elif (items := items_of(value)) is not None:
            return self._held(value, items, depth)
        else:
            text = self._foreign(value, depth)
        self._left -= len(text)
        return text

    def _text(self, text: str) -> str:
        if len(text) <= self._string:
            return repr(text)
        return f"{self._wanted.cut(text, self._string)!r} ({len(text):,} characters)"

    def _bytes(self, held: memoryview) -> str:
        text, rest = repr(bytes(held[: self._string])), len(held) - self._string
        if rest <= 0:
            return text
        longer = repr(bytes(held[: self._string + REACH]))
        if (clean := self._wanted.scrub(longer)) != longer:
            text = clean[: len(text)]
        return f"{text} (and {rest:,} more bytes)"

    def _held(self, value: object, items: Items, depth: int) -> str:
        if id(value) in self._within:
            return f"<this {type_name(value)} again>"
        self._within.append(id(value))
        try:
            return self._container(items, depth)
        finally:
            self._within.pop()

    def _container(self, items: Items, depth: int) -> str:
        begin, end, count = items.begin, items.end, items.count
        cap = self._caps[min(depth, len(self._caps) - 1)]
        self._left -= len(begin) + len(end)
        parts: list[str] = []
        if items.unordered:
            parts = sorted(self._item(item, depth + 1) for item in items.content)[:cap]
        elif cap and self._left > 0:
            for item in itertools.islice(items.content, cap):
                parts.append(self._item(item, depth + 1))
                if self._left <= 0:
                    break
        if rest := count - len(parts):
            parts.append(f"… {rest:,} more" if parts else f"… {count:,} items")
        line = begin + ", ".join(parts) + end
        if len(line) <= _WIDTH - 2 * depth and "\n" not in line:
            return line
        inner = "\n" + "  " * (depth + 1)
        return f"{begin}{inner}{f',{inner}'.join(parts)}\n{'  ' * depth}{end}"

    def _item(self, item: Any, depth: int) -> str:
        if type(item) is not Pair:
            return self._show(item, depth)
        if item.bare:
            self._left -= len(item.key)
            return f"{one_line(item.key)}={self._show(item.value, depth)}"
        return f"{self._show(item.key, depth)}: {self._show(item.value, depth)}"

    def _foreign(self, value: Any, depth: int) -> str:
        name = type_name(value)
        if is_iterator(value):
            return f"<{name}, not consumed>"
        if is_a(value, type):
            return f"<class {class_name(value)}>"
        if is_a(value, types.FunctionType):
            return f"<function {one_line(value.__qualname__)}>"
        if is_a(value, types.ModuleType):
            return f"<module {one_line(str(vars(value).get('__name__', '')))}>"
        if depth and (shape := self._shape(value)):
            return f"<{name}, {shape}>"
        if id(value) not in self._reprs and self._wanted.clock.over:
            return f"<{name}>"
        if id(value) not in self._reprs:
            text = self._wanted.clock.text(repr, value)
            self._reprs[id(value)] = f"<{name}: {text[1:]}" if text.startswith("<its ") else text
        text = self._reprs[id(value)]
        if ": its repr " in text[:200]:
            return text
        return self._wanted.cut(" ".join(text.split()), self._string) if depth else text

    def _shape(self, value: Any) -> str:
        """Return the shape of a table or an array; "" for what is neither, or is a scalar."""
        if not package_of(value) or is_numpy_scalar(value):
            return ""
        try:
            shape = self._wanted.clock.call(lambda: value.shape)
        except (FailedError, TooSlowError):
            return ""
        if not is_a(shape, tuple) or not all(type(n) is int for n in tuple.__iter__(shape)):
            return ""
        return " x ".join(f"{n:,}" for n in tuple.__iter__(shape))


def safe(value: Any, write: Callable[[Any], str]) -> str:
    """Return a value of a `SAFE` type as text."""
    try:
        return write(value)
    except ValueError:
        return f"<{type_name(value)}: its numbers are too long>"


def stamp(value: Any) -> str | None:
    """Return a date, a time or a number of numpy's or pandas's as text; None for anything else."""
    cls = type(value)
    if cls in (datetime.datetime, datetime.time, datetime.date):
        if cls is not datetime.date and type(value.tzinfo) not in (type(None), datetime.timezone):
            return None
        return str(value).removesuffix(" 00:00:00")
    if package_of(value) not in ("numpy", "pandas"):
        return None
    found = kinds(cls)
    if any(kind in _STAMPS for kind in found):
        return str(value).removesuffix(" 00:00:00")
    # A structured one holds anything.
    return str(value) if "numpy.generic" in found and "numpy.void" not in found else None


def is_numpy_scalar(value: object) -> bool:
    """Whether this is one number of numpy's, such as ``np.float64(3.5)``."""
    return "numpy.generic" in kinds(type(value))
