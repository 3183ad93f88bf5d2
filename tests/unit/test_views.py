"""Views of plain values and of code: short, in time, and nothing is consumed for them."""

from __future__ import annotations

import array
import asyncio
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import io
import linecache
import pathlib
import sys
import threading
import time
import tracemalloc
import types
from typing import Any, NamedTuple

import numpy as np
import pydantic
import pytest

from copilot_jupyter.conversation.views import View, view
from copilot_jupyter.conversation.views.guard import Clock, FailedError, TooSlowError


def shown(value: object, form: str = "") -> str:
    found = view(value, "it", form)
    assert len(found.text.encode()) <= 2_000 or form or isinstance(value, str)
    return found.text


def heading(value: object, form: str = "") -> str:
    return view(value, "it", form).heading


# -- scalars ----------------------------------------------------------------------------------


class Color(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "True"),
        (12, "12"),
        (1.5, "1.5"),
        (2 + 1j, "(2+1j)"),
        (None, "None"),
        ("plain", "plain"),
        (np.float64(0.1), "0.1"),
        (np.bool_(1), "True"),
        (np.str_("s"), "s"),
        (decimal.Decimal("1.10"), "1.10"),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        (datetime.datetime(2020, 1, 2, 3, 4), "2020-01-02 03:04:00"),
        (pathlib.PurePosixPath("/tmp/x"), "/tmp/x"),
        (Color.RED, "Color.RED"),
        (fractions.Fraction(1, 3), "1/3"),
        pytest.param(10**5000, "<an integer of 16,610 bits>", id="huge"),
        pytest.param(
            fractions.Fraction(10**5000, 3),
            "<fractions.Fraction: its numbers are too long>",
            id="huge fraction",
        ),
    ],
)
def test_short_values_are_inline(value, text):
    found = view(value, "it", "")
    assert (found.inline, found.text) == (True, text)


@pytest.mark.parametrize("text", ["x" * 201, "two\nlines", "bell\a", "", "\u202egnirts"])
def test_other_texts_are_blocks(text):
    found = view(text, "it", "")
    assert found.inline == (not text)
    assert not found.text or found.inline or "str, " in found.heading


def test_a_text_is_whole_up_to_eight_kilobytes():
    assert shown("line\n" * 1000) == "line\n" * 1000
    cut = shown("begin" + "é" * 20_000 + "end")
    assert len(cut.encode()) <= 8_000
    assert cut.startswith("begin")
    assert cut.endswith("end")
    assert "characters left out" in cut
    assert heading("a\n" * 30) == "it: str, 60 characters, 31 lines"
    assert shown("a\nb\nc\nd", "head=2") == "a\nb"


# -- containers -------------------------------------------------------------------------------


@dataclasses.dataclass
class Point:
    x: int
    y: int = 2
    password: str = dataclasses.field(default="hidden", repr=False)


@dataclasses.dataclass
class OwnRepr:
    key: str

    def __repr__(self):
        return "OwnRepr(***)"


class Model(pydantic.BaseModel):
    name: str
    token: str = pydantic.Field(default="hidden", repr=False)
    secret: pydantic.SecretStr = pydantic.SecretStr("hidden")


class Pair(NamedTuple):
    left: int
    right: str


class Thing:
    def __init__(self):
        self.public, self._private = 1, 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([], "[]"),
        ({}, "{}"),
        (set(), "set()"),
        ((1,), "(1,)"),
        ([1, "a", None, 2.5, b"x"], "[1, 'a', None, 2.5, b'x']"),
        ({"k": [1, {2}]}, "{'k': [1, {2}]}"),
        ({"b", "a", "c"}, "{'a', 'b', 'c'}"),
        ({10, 9, 100}, "{9, 10, 100}"),
        (frozenset([2, 1]), "frozenset({1, 2})"),
        (collections.Counter("baa"), "Counter({'a': 2, 'b': 1})"),
        ([fractions.Fraction(10**5000), 1], "[<fractions.Fraction: its numbers are too long>, 1]"),
        (collections.deque([1, 2]), "deque([1, 2])"),
        (collections.OrderedDict(a=1), "OrderedDict({'a': 1})"),
        ({}.keys(), "dict_keys([])"),
        (types.SimpleNamespace(a=1), "SimpleNamespace(a=1)"),
        (Point(1), "Point(x=1, y=2)"),
        ([OwnRepr("k")], "[OwnRepr(***)]"),
        (Model(name="n"), "Model(name='n', secret=SecretStr('**********'))"),
        (Pair(1, "r"), "Pair(left=1, right='r')"),
        (Thing(), "Thing(public=1)"),
        ([Color.RED], "[<Color.RED: 1>]"),
        ([int, len, sys], "[<class int>, <built-in function len>, <module sys>]"),
    ],
)
def test_containers_are_written_as_python_does(value, text):
    assert shown(value) == text


def test_a_long_text_is_not_encoded_to_be_measured():
    text = "é" * 20_000_000
    tracemalloc.start()
    try:
        view(text, "it", "")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_large_containers_stay_short():
    text = shown(list(range(10_000_000)))
    assert text.startswith("[\n  0,\n  1,")
    assert text.endswith("… 9,999,940 more\n]")
    assert heading(range(5)) == "it: range"
    nested = {f"key{n}": {"list": list(range(1000)), "text": "x" * 10_000} for n in range(1000)}
    assert "'key20'" in shown(nested)
    assert "… " in shown(set(range(1_000_000)))
    assert "and 1,000,0" in shown(b"x" * 1_000_400)
    assert shown([1, 2, 3], "head=1") == "[1, … 2 more]"
    assert len(shown(list(range(500)), "head=500").split("\n")) == 502
    assert shown(array.array("d", [0]) * 10**7).startswith("array([\n  0.0,")

    class Huge:
        def __repr__(self):
            return "0x123456789 " * 10**7

    assert shown(Huge()).startswith("0x… 0x… ")
    assert "119,900,000 more characters" in shown(Huge())


def test_deep_and_cyclic_containers_end():
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep).startswith("[[[[[")
    cyclic: Any = {"a": 1}
    cyclic["self"] = [cyclic]
    assert shown(cyclic) == "{'a': 1, 'self': [<this dict again>]}"
    while deep:  # taken apart from outside: to free it whole would recurse
        deep = deep[0]


def test_strangers_that_lie():
    class Liar(list):
        def __len__(self):
            raise RuntimeError

        def __iter__(self):
            raise RuntimeError

        def __getattr__(self, name):
            raise RuntimeError

        def __getattribute__(self, name):
            raise RuntimeError

        @property
        def __class__(self):
            raise RuntimeError

    class LyingDict(dict):
        def items(self):
            raise RuntimeError

        __len__ = items

    class Text(str):
        __slots__ = ()

        def __len__(self):
            raise RuntimeError

        __str__ = __repr__ = __len__

    assert shown(Liar([1, 2])) == "Liar([1, 2])"
    assert shown(LyingDict(a=1)) == "LyingDict({'a': 1})"
    assert view(Text("word"), "it", "").text == "word"

    class Meta(type):
        def __getattribute__(cls, name):
            raise RuntimeError

        def __instancecheck__(cls, other):
            raise RuntimeError

    class Strange(metaclass=Meta):
        pass

    assert isinstance(view(Strange(), "it", ""), View)
    assert isinstance(view(Strange, "it", ""), View)


# -- reprs that fail --------------------------------------------------------------------------


class Raises:
    def __repr__(self):
        msg = "no\nway"
        raise ValueError(msg)


class Exits:
    def __repr__(self):
        raise SystemExit


class NoText:
    def __repr__(self):
        return 3


class Sleeps:
    def __repr__(self):
        time.sleep(60)
        return ""


class Spins:
    def __repr__(self):
        while True:
            pass


def test_a_repr_that_raises_says_so_in_its_place():
    assert "Raises: its repr raised ValueError: no way>, 2]" in shown([1, Raises(), 2])
    assert "its repr raised SystemExit" in shown(Exits())
    assert "its repr raised TypeError" in shown(NoText())


@pytest.mark.parametrize("slow", [Sleeps, Spins])
def test_a_repr_that_takes_a_minute_is_left_behind(slow):
    began = time.monotonic()
    text = shown([slow() for _ in range(50)] + [1])
    assert time.monotonic() - began < 30
    assert text.count(f"{slow.__name__}: its repr took longer than 1 s>") == 1
    assert f"{slow.__name__}>" in text


@dataclasses.dataclass
class Computed:
    name: str
    size: int = 0


Computed.size = property(lambda self: time.sleep(60), lambda self, size: None)  # type: ignore[assignment]


class NoDict:
    @property
    def __dict__(self):
        time.sleep(60)


class HeldInSlice:
    def __new__(cls):
        return slice(Sleeps(), 1)


@pytest.mark.parametrize("slow", [functools.partial(Computed, "x"), NoDict, HeldInSlice])
def test_a_property_that_takes_a_minute_is_left_behind(slow):
    began = time.monotonic()
    shown([slow()])
    assert time.monotonic() - began < 30


def test_a_thread_left_behind_ends():
    threads: list[threading.Thread] = []

    def spin():
        threads.append(threading.current_thread())
        while True:
            pass

    clock = Clock(0.2)
    with pytest.raises(TooSlowError):
        clock.call(spin)
    threads[0].join(timeout=60)
    assert not threads[0].is_alive()
    with pytest.raises(TooSlowError):
        clock.call(repr, 1)


def test_what_fails_in_a_thread_fails_here_by_name():
    with pytest.raises(FailedError, match="ValueError: no way"):
        Clock().call(repr, Raises())


def test_the_context_of_a_cell_goes_along():
    assert Clock().call(lambda: decimal.getcontext().prec) == decimal.getcontext().prec


# -- iterators --------------------------------------------------------------------------------


def test_iterators_are_left_unconsumed():
    def counting():
        yield from range(3)

    for value in (counting(), iter([0, 1, 2]), map(int, "012"), zip([0, 1, 2], strict=False)):
        found = view(value, "it", "")
        assert "left unconsumed" in found.heading
        assert not found.text
        assert len(list(value)) == 3
    assert heading(counting()).startswith("it: generator, test_iterators")
    generator = counting()
    assert shown([generator]) == "[<generator, not consumed>]"
    assert len(list(generator)) == 3


def test_a_file_tells_its_name_and_is_not_read(tmp_path):
    (tmp_path / "notes.txt").write_text("one")
    with (tmp_path / "notes.txt").open() as file:
        assert heading(file) == "it: TextIOWrapper, an iterator, left unconsumed"
        assert "notes.txt" in shown(file)
        assert file.read() == "one"
    assert not shown(io.StringIO("one"))


def test_a_coroutine_is_left_to_its_owner():
    async def work():
        return 5

    coroutine = work()
    assert "left unconsumed" in heading(coroutine)
    assert asyncio.run(coroutine) == 5


# -- code -------------------------------------------------------------------------------------


def decorate(function):
    @functools.wraps(function)
    def wrapped(*args):
        return function(*args)

    return wrapped


@decorate
def documented(one: int, two: str = "x") -> str:
    """Say what it does."""
    return two * one


def test_functions_and_classes_are_shown_by_their_source():
    found = view(documented, "it", "")
    assert found.language == "python"
    assert found.text.startswith("@decorate\ndef documented(one: int")
    assert shown(Thing).startswith("class Thing:\n    def __init__(self):")
    assert shown(Thing.__init__).startswith("def __init__(self):")
    assert "lambda" in shown(lambda: 5)
    assert shown(functools.lru_cache(documented.__wrapped__)).startswith("@decorate")


def test_code_without_source_is_shown_by_its_signature():
    space: dict[str, Any] = {"__name__": "nowhere"}
    exec(
        "def made(a, b=1):\n    'Its doc.'\n\nclass Made:\n    x = 1\n    def go(self, n): ...",
        space,
    )
    assert "def made(a, b=1):" in shown(space["made"])
    assert "Its doc." in shown(space["made"])
    assert "def go(self, n): ..." in shown(space["Made"])
    assert "def len(obj, /):" in shown(len)
    assert shown(dict).startswith("class dict():")


def test_a_class_of_a_cell_is_found(monkeypatch):
    """A notebook's classes have no file; IPython puts each cell into linecache."""
    source = "import x\n\n@mark\nclass InCell:\n    size: int\n\nclass Other: pass\n"
    lines = source.splitlines(keepends=True)
    monkeypatch.setitem(linecache.cache, "<cell 1>", (len(source), None, lines, "<cell 1>"))
    made = type("InCell", (), {"__module__": "__main__"})
    assert shown(made) == "@mark\nclass InCell:\n    size: int"


def test_long_source_is_cut(monkeypatch):
    source = "def long():\n" + "    x = 1\n" * 5000
    monkeypatch.setitem(
        linecache.cache, "<long>", (1, None, source.splitlines(keepends=True), "<long>")
    )
    space: dict[str, Any] = {}
    exec(compile(source, "<long>", "exec"), space)
    found = view(space["long"], "it", "")
    assert len(found.text.encode()) <= 8_000
    assert "left out" in found.text


def test_modules_are_named_with_what_they_hold():
    assert heading(np).startswith(f"it: module, numpy, version {np.__version__}")
    assert "public names: " in shown(np)
    assert len(shown(np)) < 2_000


# -- exceptions -------------------------------------------------------------------------------


def raised(function: Any) -> BaseException:
    try:
        function()
    except Exception as error:  # noqa: BLE001 -- whatever it is
        return error
    raise AssertionError


def test_an_exception_tells_what_and_where():
    def inner():
        return {}["missing"]

    def outer():
        try:
            inner()
        except KeyError as error:
            msg = "it failed"
            raise ValueError(msg) from error

    error = raised(outer)
    error.add_note("a hint")
    text = shown(error)
    assert text.startswith("ValueError: it failed\na hint\ntraceback, the latest call last:\n")
    assert "unit/test_views.py, line " in text
    assert "raise ValueError(msg) from error" in text
    assert "\ncaused by:\nKeyError: 'missing'\n" in text
    assert 'return {}["missing"]' in text


def test_long_chains_and_tracebacks_are_short():
    def recursing(n):
        return recursing(n - 1) if n else 1 / 0

    error: Any = raised(lambda: recursing(300))
    error.__cause__ = error
    text = shown(error)
    assert "more frames" in text
    assert text.count("ZeroDivisionError") == 1
    group = ExceptionGroup("several", [ValueError(str(n)) for n in range(50)])
    assert "- ValueError: 0\n" in shown(group)
    assert "… 45 more" in shown(group)
    assert shown(ValueError("x" * 100_000)).startswith("ValueError: xxx")


def test_an_exception_whose_message_raises():
    class Bad(Exception):
        def __str__(self):
            raise RuntimeError

    assert "its message raised RuntimeError" in shown(Bad())
    assert "Bad" in shown([Bad("x")])


def test_the_frames_of_ipython_are_left_out(monkeypatch):
    name = "/tmp/ipykernel_123/456.py"
    code = compile("def work():\n    1 / 0\nwork()\n", name, "exec")
    lines = ["def work():\n", "    1 / 0\n", "work()\n"]
    monkeypatch.setitem(linecache.cache, name, (1, None, lines, name))
    text = shown(raised(lambda: exec(code, {})))
    assert "test_views.py" not in text
    assert "ipykernel" not in text
    assert "  a cell, line 2, in work\n    1 / 0" in text


def test_several_flags_at_once_are_named():
    class Access(enum.Flag):
        READ, WRITE = 1, 2

    assert view(Access.READ | Access.WRITE, "it", "").text == "Access.READ|WRITE"
    assert view(Access(0), "it", "").text == "Access.0"
