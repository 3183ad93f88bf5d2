"""The errors a person can meet: one tree, two lines each."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import re

import pytest

from copilot_jupyter import errors
from copilot_jupyter.errors import (
    BadInputError,
    CopilotError,
    ProviderError,
    TurnCancelled,
    TurnInterrupted,
)

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass)]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CopilotError, "full_tracebacks", False)


def drawn() -> dict[str, str]:
    """Return the tree of the module's docstring: every class with its parent."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in errors.__doc__.splitlines():
        if match := re.match(r"    ([│├└─ ]*)(\w+)\s", f"{line} "):
            depth = len(match[1]) // 4
            path = [*path[:depth], match[2]]
            parents[match[2]] = path[-2] if depth else ""
    return parents


def test_the_drawn_tree_is_the_real_one():
    real = {cls.__name__: cls.__base__.__name__ for cls in CLASSES}
    roots = {"CopilotError": "", "TurnInterrupted": "", "TurnCancelled": ""}
    assert drawn() == real | roots
    assert CopilotError.__base__ is Exception
    assert TurnInterrupted.__base__ is KeyboardInterrupt
    assert TurnCancelled.__base__ is asyncio.CancelledError


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_says_in_a_sentence_what_it_is(cls):
    assert re.match(r"[A-Z].*\.$", inspect.getdoc(cls).split("\n")[0])


def test_an_error_says_what_happened_and_what_to_do():
    error = BadInputError("The id is empty.", "Write one.")
    assert (error.what, error.do) == ("The id is empty.", "Write one.")
    assert str(error) == "The id is empty. Write one."
    assert error._render_traceback_() == ["The id is empty.", "Write one."]


def test_where_nothing_can_be_done_there_is_one_line():
    error = CopilotError("It is over.")
    assert str(error) == "It is over."
    assert error._render_traceback_() == ["It is over."]


def test_full_tracebacks_come_above_the_two_lines(monkeypatch):
    monkeypatch.setattr(CopilotError, "full_tracebacks", True)

    def fails() -> None:
        raise BadInputError("The id is empty.", "Write one.")

    with pytest.raises(BadInputError) as caught:
        fails()
    lines = caught.value._render_traceback_()
    assert lines[-2:] == ["The id is empty.", "Write one."]
    assert "in fails" in "".join(lines[:-2])


def test_every_error_is_caught_as_ours_but_not_the_stop_button():
    stopped = (KeyboardInterrupt, asyncio.CancelledError)
    for cls in CLASSES:
        assert issubclass(cls, CopilotError) != issubclass(cls, stopped)


def test_the_stop_button_says_one_line():
    assert TurnInterrupted()._render_traceback_() == [
        "Copilot turn interrupted; nothing of it was kept in the session."
    ]
    assert TurnInterrupted("Nothing was done.")._render_traceback_() == ["Nothing was done."]
    assert TurnCancelled("Nothing was done.")._render_traceback_() == ["Nothing was done."]


def test_a_providers_error_keeps_its_status():
    assert ProviderError("x", status=429).status == 429
    assert ProviderError("x").status is None


@pytest.mark.parametrize("error", [BadInputError("a", "b"), ProviderError("a", "b", status=500)])
def test_an_error_survives_a_process_boundary(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
