"""What a person gets back: the text, its code blocks, its JSON."""

from __future__ import annotations

import pytest

from copilot_jupyter.conversation.answer import Answer
from copilot_jupyter.errors import BadInputError


def answer(text: str) -> Answer:
    return Answer(text=text, session="my-id", turn=2)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no code", []),
        ("", []),
        ("```python\nx = 1\n```", ["x = 1"]),
        ("```\nx = 1\n```", ["x = 1"]),
        ("a\n\n```py\nx\n\ny\n```\nb\n```sql\nselect 1\n```\nc", ["x\n\ny", "select 1"]),
        ("~~~\nx\n~~~", ["x"]),
        ("```py\n```", [""]),
        ("```py\n  indented\n\n```", ["  indented"]),
        ("````md\n```py\nx\n```\n````", ["```py\nx\n```"]),
        ("~~~\n```\nx\n```\n~~~", ["```\nx\n```"]),
        ("```py\nx\n`````", ["x"]),
        ("```py title='a b'\nx\n```   \nrest", ["x"]),
        ("inline ```x``` code", []),
    ],
)
def test_the_code_blocks_in_order(text, code):
    assert answer(text).code == code


def test_a_block_inside_a_list_counts_without_its_indentation():
    text = "1. First:\n\n   ```python\n   if x:\n       y\n   ```\n2. Then."
    assert answer(text).code == ["if x:\n    y"]


def test_a_block_that_was_cut_off_counts():
    assert answer("Here:\n\n```python\nx = 1").code == ["x = 1"]


def test_code_in_a_line_that_begins_with_three_backticks_opens_no_block():
    assert answer("```x``` is code.\n\n```py\ny\n```").code == ["y"]


def test_windows_line_ends_are_no_part_of_the_code():
    assert answer("```py\r\nx\r\ny\r\n```\r\n").code[0].splitlines() == ["x", "y"]
    assert not answer("```py\r\nx\r\n```\r\n").code[0].endswith("\r")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2]}', {"a": [1, 2]}),
        (" [1]\n", [1]),
        ("null", None),
        ('Here it is:\n```json\n{"a": 1}\n```\nDone.', {"a": 1}),
        ('```python\nx = 1\n```\n```\n{"a": 1}\n```', {"a": 1}),
    ],
)
def test_json_is_the_answer_or_its_first_block_that_is(text, value):
    assert answer(text).json() == value


@pytest.mark.parametrize("text", ["", "no JSON", "```py\nx = 1\n```"])
def test_an_answer_without_json_says_so(text):
    with pytest.raises(BadInputError, match="Turn 2 of my-id holds no JSON"):
        answer(text).json()


def test_an_answer_reads_as_its_text():
    assert str(answer("Hi *there*")) == "Hi *there*"


def test_an_answer_cannot_be_changed():
    with pytest.raises(AttributeError):
        answer("x").text = "y"
