"""What a question's key depends on, and what it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_jupyter.conversation.stored.question import Question, content_of, key_of

TEXTS = st.text(alphabet=st.characters(), max_size=30)


def test_the_same_question_has_the_same_key():
    first, second = (Question("Why?", model="m", values=(("df", "1"),)) for _ in range(2))
    assert first.key == second.key
    assert len(first.key) == 32


def test_a_plain_question_has_the_key_of_its_prompt():
    assert Question("Why?").key == Question("Why?").prompt_key == key_of("Why?")


@pytest.mark.parametrize(
    "written",
    ["Why?\nHow?", "Why?\r\nHow?", "\n\nWhy?\nHow?\n", "  Why?\nHow?\t \r\n"],
    ids=["as it is", "Windows ends", "blank lines around", "white space around"],
)
def test_what_an_editor_changes_unasked_is_no_other_question(written):
    assert Question(written).key == Question("Why?\nHow?").key


@pytest.mark.parametrize(
    "other",
    ["Why ?", "why?", "Why?\n\nHow?", "Why?\n How?", "Why?", "Why?\u2028How?", ""],
)
def test_what_a_person_changes_is_another_question(other):
    assert Question(other).key != Question("Why?\nHow?").key


@pytest.mark.parametrize(
    "other",
    [
        Question("Why?", model="gpt-5"),
        Question("Why?", flags=(("no-tools", ""),)),
        Question("Why?", values=(("df", "digest"),)),
    ],
    ids=["the model", "a flag", "a value"],
)
def test_the_model_the_flags_and_the_values_are_part_of_the_key(other):
    assert other.key != Question("Why?").key
    assert other.prompt_key == Question("Why?").key


def test_the_text_as_sent_alone_is_no_part_of_the_key():
    assert Question("Why?", sent="Why? It is 5 o'clock.").key == Question("Why?").key


def test_flags_and_values_come_in_any_order():
    flags, values = (("attach", "a.csv"), ("no-tools", "")), (("a", "1"), ("b", "2"))
    there = Question("Why?", model="m", flags=flags, values=values)
    back = Question("Why?", model="m", flags=flags[::-1], values=values[::-1])
    assert there.key == back.key


def test_a_flag_is_no_value_and_a_name_no_digest():
    questions = [
        Question("p", flags=(("a", "b"),)),
        Question("p", values=(("a", "b"),)),
        Question("p", values=(("b", "a"),)),
        Question("p", values=(("a", ""), ("b", ""))),
        Question("p", values=(("ab", ""),)),
        Question("pab"),
    ]
    assert len({question.key for question in questions}) == len(questions)


def test_the_model_is_what_a_flag_named_model_would_be_and_no_other():
    assert Question("p", model="m").key == Question("p", flags=(("model", "m"),)).key
    assert Question("p", model="m").key != Question("p", model="n").key


def test_the_model_gets_the_prompt_unless_something_else_is_sent():
    assert Question("Show {df}").text == "Show {df}"
    assert Question("Show {df}", sent="Show a table").text == "Show a table"


def test_addresses_say_nothing():
    first = Question("Show {x}", sent="<Thing at 0x7f3a10c0ffee>")
    again = Question("Show {x}", sent="<Thing at 0x7f00deadbeef>")
    other = Question("Show {x}", sent="<Thong at 0x7f3a10c0ffee>")
    assert first.content == again.content != other.content


@pytest.mark.parametrize("text", ["0xff", "0x12345", "x0x1234567890", "Call 0xCAFE now"])
def test_a_small_number_is_no_address(text):
    assert content_of(text) != content_of(text.replace("0x", "0x0"))


def test_a_prompt_keeps_its_addresses_in_the_key():
    assert Question("Free 0x7f3a10c0ffee").key != Question("Free 0x7f00deadbeef").key


@given(TEXTS, TEXTS)
def test_two_prompts_share_a_key_exactly_where_they_are_the_same(one, other):
    same = one.replace("\r\n", "\n").strip() == other.replace("\r\n", "\n").strip()
    assert (key_of(one) == key_of(other)) is same


@given(TEXTS)
def test_no_text_breaks_the_key(text):
    question = Question(text + "\ud800", sent=text, model=text, values=((text, text),))
    assert question.key
    assert question.content


def test_another_process_finds_the_same_key():
    """The key is stored: it must not depend on the hash seed of the process."""
    made = "Question('é {df}', model='m', values=(('df', '1'),), flags=(('b', ''), ('a', ''))).key"
    program = f"from copilot_jupyter.conversation.stored.question import Question\nprint({made})"
    keys = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert keys == {
        Question("é {df}", model="m", values=(("df", "1"),), flags=(("a", ""), ("b", ""))).key
    }
