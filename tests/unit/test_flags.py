"""The flags of the magics: where they end, what they take, what is said of a wrong one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_jupyter.errors import BadInputError
from copilot_jupyter.notebook.magics.flags import Flag, parse, parsed_line

FLAGS = (Flag("--model", "NAME"), Flag("--into", "NAME"), Flag("--all"))


def read(line: str, *, anywhere: bool = False):
    parsed = parse("%copilot", line, FLAGS, anywhere=anywhere)
    return parsed.flags, parsed.rest


@pytest.mark.parametrize(
    ("line", "flags", "rest"),
    [
        ("", {}, ""),
        ("   ", {}, ""),
        ("What's a flag?", {}, "What's a flag?"),
        ("--model gpt-5", {"--model": "gpt-5"}, ""),
        ("--model gpt-5 What?", {"--model": "gpt-5"}, "What?"),
        ("--model=gpt-5 What?", {"--model": "gpt-5"}, "What?"),
        ("  --model   gpt-5   What?  ", {"--model": "gpt-5"}, "What?"),
        ("--all", {"--all": ""}, ""),
        ("--all --into x --model y Why?", {"--all": "", "--into": "x", "--model": "y"}, "Why?"),
        ('--model "my model" What?', {"--model": "my model"}, "What?"),
        ("--model 'my model' What?", {"--model": "my model"}, "What?"),
        ('--model="my model" What?', {"--model": "my model"}, "What?"),
        ("--model it's What?", {"--model": "it's"}, "What?"),
        ("--model 'a\" What?", {"--model": "'a\""}, "What?"),
        ("--into x y  z", {"--into": "x"}, "y  z"),
        ("--model a=b What?", {"--model": "a=b"}, "What?"),
        ("--model -1 What?", {"--model": "-1"}, "What?"),
    ],
)
def test_flags_come_first(line, flags, rest):
    assert read(line) == (flags, rest)


@pytest.mark.parametrize(
    "line",
    [
        "What is --model for?",
        "- a list",
        "-- a dash",
        "--- a rule",
        "-m is a short flag",
        "--5 is no flag",
        "--model? is that a flag",
        "--model, --into and --all are flags",
        "'--model' is a flag",
        "—all is an em dash",
    ],
)
def test_flags_end_at_the_first_word_that_is_not_one(line):
    assert read(line) == ({}, line)


def test_flags_behind_the_prompt_belong_to_it():
    assert read("--into x explain --model and --nonsense") == (
        {"--into": "x"},
        "explain --model and --nonsense",
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--modle x", "no flag --modle. Did you mean --model?"),
        ("--modle=x", "no flag --modle. Did you mean --model?"),
        ("--qqqqqq", "no flag --qqqqqq. It takes --model, --into, --all."),
        ("--all --nonsense Why?", "no flag --nonsense"),
        ("--help", "no flag --help. %copilot? shows its manual."),
        ("--model", "--model takes a value. Write --model NAME."),
        ("--model=", "--model takes a value"),
        ("--model --into x", "--model takes a value"),
        ("--all=yes", "--all takes no value. Write just --all."),
    ],
)
def test_a_wrong_flag_is_refused_by_name(line, said):
    with pytest.raises(BadInputError) as error:
        read(line)
    assert said in str(error.value)
    assert "%copilot" in str(error.value)


def test_a_magic_without_flags_says_so():
    with pytest.raises(BadInputError, match="It takes no flags"):
        parse("%copilot_undo", "--all", ())


@pytest.mark.parametrize(
    ("line", "flags", "words"),
    [
        ("my-id --all", {"--all": ""}, ["my-id"]),
        ("--all my-id", {"--all": ""}, ["my-id"]),
        ("a --model x b", {"--model": "x"}, ["a", "b"]),
        ("'two words' --all", {"--all": ""}, ["two words"]),
        ('"--all"', {}, ["--all"]),
        ("it's", {}, ["it's"]),
        ("''", {}, [""]),
        ("--", {}, ["--"]),
    ],
)
def test_where_ids_are_taken_flags_may_stand_anywhere(line, flags, words):
    parsed = parse("%copilot_resume", line, FLAGS, anywhere=True)
    assert (parsed.flags, parsed.words) == (flags, words)


def test_an_unknown_flag_behind_the_words_is_refused_too():
    with pytest.raises(BadInputError, match="Did you mean --all"):
        read("my-id --al", anywhere=True)


def test_a_flag_that_was_not_given_has_its_default():
    parsed = parse("%copilot", "--all", FLAGS)
    assert "--all" in parsed
    assert "--model" not in parsed
    assert parsed.get("--model") == ""
    assert parsed.get("--model", "other") == "other"


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("2.5", 2.5), ("1e3", 1000)])
def test_a_number_is_read(text, number):
    assert parse("%copilot", f"--model {text}", FLAGS).number("--model", least=1) == number


@pytest.mark.parametrize("text", ["0.5", "-1", "nan", "inf", "-inf", "many", "''"])
def test_what_is_no_number_or_too_small_is_refused(text):
    with pytest.raises(BadInputError, match=r"--model is .* Give it a number of at least 1"):
        parse("%copilot", f"--model {text}", FLAGS).number("--model", least=1)


def test_a_number_that_was_not_given_is_none():
    assert parse("%copilot", "", FLAGS).number("--model", least=1) is None


@given(st.text())
def test_a_prompt_comes_back_as_typed(prompt):
    if prompt.lstrip().startswith("--"):
        prompt = "x" + prompt
    assert read(prompt) == ({}, prompt.strip())


@given(st.text())
def test_a_prompt_behind_a_flag_comes_back_as_typed(prompt):
    assert read(f"--model x w{prompt}") == ({"--model": "x"}, f"w{prompt}".strip())


@given(st.text(), st.booleans())
def test_no_line_breaks_the_parser(line, anywhere):
    try:
        read(line, anywhere=anywhere)
    except BadInputError as error:
        assert error.what  # noqa: PT017 -- either outcome is right


def test_a_comment_ends_a_line_whose_words_are_no_prompt():
    parsed = parsed_line("copilot_resume", "my-id --create   # a name of --your own")
    assert (parsed.words, parsed.flags) == (["my-id"], {"--create": ""})
    prompt = parse("%copilot", "--model m why # and how?", [Flag("--model", "NAME")])
    assert prompt.rest == "why # and how?"
