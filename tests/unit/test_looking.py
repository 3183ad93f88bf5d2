"""What the model's tools say of the kernel's variables and of the notebook's cells."""

from __future__ import annotations

import types
from typing import Any

import pytest

from copilot_jupyter.errors import BadInputError
from copilot_jupyter.notebook.tools import looking

SECRET = "Qz7" + "aB3xY9kLm2" * 12


def shell(**names: Any) -> Any:
    return types.SimpleNamespace(user_ns=names, user_ns_hidden={})


def test_variables_are_listed_with_what_they_are():
    listed = looking.variables(shell(n=7, text="a b", items=[1, 2], huge=7**100_000, _own=1))
    assert listed.splitlines() == [
        "huge: int = <an integer of 280,736 bits>",
        "items: list of 2",
        "n: int = 7",
        "text: str = 'a b'",
    ]


def test_a_class_that_lies_spoils_no_list():
    class Meta(type):
        def __getattribute__(cls, name):
            raise RuntimeError

    class Strange(metaclass=Meta):
        pass

    listed = looking.variables(shell(a=1, strange=Strange(), kind=Strange))
    assert listed.startswith("a: int = 1\nkind: ")
    assert "strange: " in listed


@pytest.mark.parametrize("value", [SECRET, SECRET.encode(), "x" * 40 + SECRET])
def test_a_list_shows_no_half_of_a_secret(value, monkeypatch):
    monkeypatch.setenv("MY_API_TOKEN", SECRET)
    assert SECRET[:12] not in looking.variables(shell(value=value))


@pytest.mark.parametrize("cells", ["2-1", "0", "3", "x", "1-"])
def test_cells_that_are_not_there_are_named(cells):
    with pytest.raises(BadInputError, match="There are 1 to 2"):
        looking.notebook(shell(In=["", "a = 1", "b = 2"]), None, cells)


def test_cells_by_number():
    ran = shell(In=["", "a = 1", "b = 2"])
    assert looking.notebook(ran, None, "2") == "[2] code, as it was run\nb = 2"
    assert looking.notebook(ran, None, "1-99") == looking.notebook(ran, None)
    with pytest.raises(BadInputError, match="empty"):
        looking.notebook(shell(In=[""]), None, "1")
