"""What is in a container, read by the methods of the class that it derives from.

Only for classes whose repr is the usual one, as `pprint` has it: who writes a repr may want
to hide something.
"""

from __future__ import annotations

import array
import collections
import heapq
import itertools
import operator
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .parts import class_name, is_a, mro, static, type_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: A larger set is not put in order, and without an order its view would change by itself.
_SORTED, _SMALLEST = 200_000, 300
_ATTRIBUTES = 1_000

_DICTS = (dict, collections.OrderedDict, collections.defaultdict, collections.Counter)
_SETS = (set, frozenset)
_LISTS: tuple[tuple[Any, str, str], ...] = (
    (list, "[", "]"),
    (tuple, "(", ")"),
    (collections.deque, "[", "]"),
    (array.array, "[", "]"),
    (type({}.keys()), "[", "]"),
    (type({}.values()), "[", "]"),
    (type({}.items()), "[", "]"),
)


class Pair:
    """A key with its value; in a `bare` one the key is the name of a field."""

    __slots__ = ("bare", "key", "value")

    def __init__(self, key: Any, value: Any, *, bare: bool = False) -> None:
        self.key, self.value, self.bare = key, value, bare


@dataclass(frozen=True)
class Items:
    """The items of a container.

    Parameters
    ----------
    begin, end : str
        What is written around them.
    count : int
    content : iterator
        Over them, once. That of a set too large to be put in order is empty.
    unordered : bool
        They have an order only as they are written.
    """

    begin: str
    end: str
    count: int
    content: Iterator[Any]
    unordered: bool = False


def items_of(value: Any) -> Items | None:
    """Return what is in a value; None for what is no container."""
    if (fields := _fields(value)) is not None:
        pairs = [Pair(name, item, bare=True) for name, item in fields]
        return Items(_short(value) + "(", ")", len(pairs), iter(pairs))
    written = static(type(value), "__repr__")
    for base, begin, end in _LISTS:
        if written is base.__repr__:
            around = _around(value, begin, end, base is list or base is tuple)
            if base is tuple and tuple.__len__(value) == 1:
                around = around[0], "," + around[1]
            return Items(*around, base.__len__(value), base.__iter__(value))
    if any(written is base.__repr__ for base in _DICTS):
        around = _around(value, "{", "}", plain=True)
        held: Iterable[tuple[Any, Any]] = dict.items(value)
        if written is collections.Counter.__repr__:  # the most common first, as it has them
            held = heapq.nlargest(_SMALLEST, held, key=operator.itemgetter(1))
        return Items(*around, dict.__len__(value), (Pair(key, item) for key, item in held))
    for base in _SETS:
        if written is base.__repr__:
            count = base.__len__(value)
            every = list(base.__iter__(value)) if count <= _SORTED else []
            return _of_set(value, every, count)
    return None


def is_iterator(value: object) -> bool:
    """Whether to look into a value would use it up."""
    names = ("__next__", "__anext__", "__await__")
    return any(static(type(value), name) is not None for name in names)


def package_of(value: object) -> str:
    """Return the package of a value's class."""
    name = class_name(type(value))
    return name.partition(".")[0] if "." in name else ""


def _short(value: object) -> str:
    return type_name(value).rpartition(".")[2]


def _around(value: object, begin: str, end: str, plain: bool) -> tuple[str, str]:  # noqa: FBT001
    """Return what stands around the items; around those of a subclass its name too."""
    if plain and type(value) in (list, tuple, dict, set):
        return begin, end
    return f"{_short(value)}({begin}", f"{end})"


def _of_set(value: Any, every: list[Any], count: int) -> Items:
    """Return the items of a set in an order that every process finds again.

    Strings are hashed anew by each process, so that a set's own order says nothing.
    """
    around = _around(value, "{", "}", plain=True) if count else (f"{_short(value)}(", ")")
    types_ = {type(item) for item in every}
    if len(types_) == 1 and types_ <= {str, int, float, bytes}:
        return Items(*around, count, iter(heapq.nsmallest(_SMALLEST, every)))
    if count > _SMALLEST:
        every = []
    return Items(*around, count, iter(every), unordered=True)


def _fields(value: Any) -> list[tuple[str, Any]] | None:
    """Return the fields that a dataclass, a pydantic model or a named tuple shows."""
    cls = type(value)
    if is_a(value, type):
        return None
    written = static(cls, "__repr__")
    if written is types.SimpleNamespace.__repr__:
        return list(_attributes(value))
    code = getattr(getattr(written, "__wrapped__", written), "__code__", None)
    if type(fields := static(cls, "__dataclass_fields__")) is dict:
        # What dataclasses write has no file.
        if getattr(code, "co_filename", "") != "<string>":
            return None
        shown = [name for name, field in fields.items() if field.repr]
        # A property in the place of a field is code of others: the repr runs it, in time.
        return None if any(_computed(cls, name) for name in shown) else _stored(value, shown)
    if type(names := static(cls, "_fields")) is tuple and is_a(value, tuple):
        if getattr(code, "co_filename", "") != collections.namedtuple.__code__.co_filename:
            return None
        return list(zip(map(str, names), tuple.__iter__(value), strict=False))
    if any(class_name(base) == "pydantic.main.BaseModel" for base in mro(cls)):
        if getattr(written, "__module__", "") != "pydantic.main" or (
            getattr(static(cls, "__repr_args__"), "__module__", "") != "pydantic.main"
        ):
            return None
        described = static(cls, "__pydantic_fields__") or {}
        hidden = {name for name, field in described.items() if not field.repr}
        return [pair for pair in _attributes(value) if pair[0] not in hidden]
    if written is object.__repr__ and not is_iterator(value):
        # Its repr would say no more than its type.
        public = [(k, v) for k, v in _attributes(value) if not k.startswith("_")]
        return public or None
    return None


def _computed(cls: type, name: str) -> bool:
    """Whether to read this attribute runs code; to read a slot does not."""
    kept = type(static(cls, name))
    return kept is not types.MemberDescriptorType and static(kept, "__set__") is not None


def _stored(value: object, names: list[str]) -> list[tuple[str, Any]]:
    found = []
    for name in names:
        try:
            found.append((name, object.__getattribute__(value, name)))
        except AttributeError:  # deleted, or a slot never filled
            continue
    return found


def _attributes(value: object) -> list[tuple[str, Any]]:
    kept = static(type(value), "__dict__")
    # Nothing, or a property of that name, which is code of others.
    if not is_a(kept, types.GetSetDescriptorType, types.MemberDescriptorType):
        return []
    held = kept.__get__(value)
    if type(held) is not dict:
        return []
    # Nobody looks at more of them, and they are looked through several times.
    return [(str(name), item) for name, item in itertools.islice(held.items(), _ATTRIBUTES)]
