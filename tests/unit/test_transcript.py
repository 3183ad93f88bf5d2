"""Turns out of events: what was asked, what was answered, what was cut off."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from copilot_jupyter.conversation.portable.transcribe import start_event
from copilot_jupyter.conversation.transcript import as_jsonl, as_markdown, dangling, turns
from copilot_jupyter.events import Turn
from copilot_jupyter.state.journal import journal_bytes, parse_journal
from unit.transcripts import asks, event, exchange, says, start

# -- turns ------------------------------------------------------------------------------------


def test_a_turn_is_a_prompt_and_its_answer():
    events = [start("s"), *exchange("Let's discuss generics", "Gladly.")]
    assert turns(events) == [
        Turn(
            number=1,
            event_id=events[1]["id"],
            prompt="Let's discuss generics",
            sent="Let's discuss generics",
            answer="Gladly.",
            model="gpt-5",
            at=datetime(2026, 11, 22, 10, tzinfo=UTC),
            complete=True,
        )
    ]


def test_turns_are_numbered_in_order():
    found = turns([start("s"), *exchange("one", "1"), *exchange("two", "2"), *exchange("3", "3")])
    assert [(turn.number, turn.prompt, turn.answer) for turn in found] == [
        (1, "one", "1"),
        (2, "two", "2"),
        (3, "3", "3"),
    ]


def test_no_events_no_turns():
    assert turns([]) == []
    assert turns([start("s")]) == []
    assert dangling([]) is None


def test_what_comes_before_the_first_prompt_belongs_to_no_turn():
    assert turns([start("s"), says("stray"), event("abort"), *exchange("a", "b")])[0].answer == "b"


def test_the_texts_around_a_tool_make_one_answer():
    asked = asks("count")
    call = [{"name": "run_python", "toolCallId": "c1"}]
    found = turns(
        [
            asked,
            event("assistant.message", content="I'll look.", toolRequests=call),
            event("tool.execution_start", toolName="run_python", toolCallId="c1"),
            event("tool.execution_complete", toolCallId="c1"),
            event("assistant.message", content="", toolRequests=call),
            event("tool.execution_start", toolName="view", toolCallId="c2"),
            says("There are 3."),
        ]
    )
    assert len(found) == 1
    assert found[0].answer == "I'll look.\n\nThere are 3."
    assert found[0].tools == ("run_python", "view")
    assert found[0].complete


def test_the_text_as_sent_is_kept_beside_the_prompt_as_written():
    sent = "<current_datetime>2026-11-22T10:00:00Z</current_datetime>\n\nHow long is [1, 2]?"
    turn = turns([asks("How long is {x}?", transformedContent=sent), says("2")])[0]
    assert turn.prompt == "How long is {x}?"
    assert turn.sent == "How long is [1, 2]?"


def test_the_prompts_own_indentation_is_kept():
    sent = "<current_datetime>now</current_datetime>\n\n    indented\n"
    assert turns([asks("x", transformedContent=sent), says("y")])[0].sent == "    indented\n"


def test_only_the_runtimes_own_date_line_is_taken_off():
    text = "What is <current_datetime>now</current_datetime>?"
    assert turns([asks(text, transformedContent=text), says("x")])[0].sent == text


def test_the_last_model_named_is_the_turns():
    found = turns([asks("a"), says("b", model="small"), says("c", model="large"), says("d")])
    assert found[0].model == "large"


@pytest.mark.parametrize("stamp", [None, "", "yesterday", 5, [], {}])
def test_a_time_that_is_none_is_left_out(stamp):
    events = exchange("a", "b")
    events[0]["timestamp"] = stamp
    assert turns(events)[0].at is None


def test_a_sub_agents_own_exchange_is_not_a_turn_nor_an_answer():
    found = turns(
        [
            asks("look around"),
            event("user.message", agent="explore", content="list the files"),
            event("tool.execution_start", agent="explore", toolName="ls"),
            event("assistant.message", agent="explore", content="a.py", toolRequests=[]),
            event("abort", agent="explore"),
        ]
    )
    assert [(turn.prompt, turn.answer, turn.tools, turn.complete) for turn in found] == [
        ("look around", "", (), False)
    ]


def test_a_sub_agents_failure_does_not_undo_the_answer():
    events = [*exchange("a", "b"), event("abort", agent="explore")]
    assert dangling(events) is None


def test_what_the_system_says_in_the_persons_name_is_no_turn():
    events = [
        asks("use the skill"),
        asks("<skill>...</skill>", source="system"),
        says("Done."),
        asks("autopilot", source="skill-x"),
    ]
    found = turns(events)
    assert [(turn.prompt, turn.answer) for turn in found] == [("use the skill", "Done.")]
    assert dangling(events) is None


def test_a_prompt_marked_as_the_persons_is_a_turn():
    assert len(turns([asks("a", source="user"), says("b")])) == 1


@pytest.mark.parametrize("kind", [5, None, [], {}, True])
def test_an_event_of_an_impossible_type_breaks_nothing(kind):
    """A damaged line that is still JSON: read from a file, as `turns` always is."""
    odd = {"type": kind, "data": {}}
    journal = parse_journal(journal_bytes([*exchange("a", "b"), odd, *exchange("c", "d")]))
    assert [turn.prompt for turn in turns(journal.events)] == ["a", "c"]


def test_data_of_the_wrong_types_breaks_nothing():
    found = turns(
        [
            asks(None),
            event("assistant.message", content=None, toolRequests=None, model=None),
            event("tool.execution_start", toolName=None),
            {"type": "user.message", "data": {}},
            {"type": "assistant.message", "data": {"content": 5}},
        ]
    )
    assert [(turn.prompt, turn.answer) for turn in found] == [("", ""), ("", "5")]


# -- dangling ---------------------------------------------------------------------------------

KILLED = {
    "killed after the prompt": [],
    "killed after the turn began": [event("assistant.turn_start", turnId="0")],
    "a provider's error": [
        event("assistant.turn_start", turnId="0"),
        event("session.error", errorType="query", message="500"),
    ],
    "the stop button": [event("assistant.turn_start", turnId="0"), event("abort", reason="user")],
    "killed while a tool was asked for": [
        event("assistant.message", content="I'll look.", toolRequests=[{"name": "view"}])
    ],
    "killed while a tool ran": [
        event("assistant.message", content="", toolRequests=[{"name": "view"}]),
        event("tool.execution_start", toolName="view"),
    ],
    "an empty message": [says("")],
    "killed after a tool": [
        event("assistant.message", content="", toolRequests=[{"name": "view"}]),
        event("tool.execution_start", toolName="view"),
        event("tool.execution_complete", toolName="view"),
        event("assistant.turn_end", turnId="0"),
    ],
    "only a sub-agent answered": [
        event("assistant.message", agent="explore", content="a.py", toolRequests=[])
    ],
    "the runtime shut down": [event("session.shutdown")],
}


@pytest.mark.parametrize("after", KILLED.values(), ids=KILLED)
def test_a_prompt_without_an_answer_dangles(after):
    asked = asks("and then?")
    events = [start("s"), *exchange("a", "b"), asked, *after]
    cut_off = dangling(events)
    assert cut_off is not None
    assert (cut_off.number, cut_off.event_id, cut_off.prompt) == (2, asked["id"], "and then?")
    assert not cut_off.complete
    assert turns(events)[0].complete


def test_an_answered_prompt_does_not_dangle():
    assert dangling([start("s"), *exchange("a", "b")]) is None
    assert dangling([start("s"), *exchange("a", "b"), event("session.shutdown")]) is None


def test_only_the_last_turn_can_dangle():
    assert dangling([asks("never answered"), *exchange("a", "b")]) is None


def test_an_error_that_was_overcome_does_not_dangle():
    assert dangling([asks("a"), event("session.error", message="503"), says("b")]) is None


@pytest.mark.parametrize("kind", ["session.error", "abort"])
def test_what_goes_wrong_behind_a_whole_answer_does_not_take_it_back(kind):
    """The person has seen that answer as whole: `runtime.session` counts it so."""
    assert dangling([*exchange("a", "b"), event(kind)]) is None


def test_a_cut_off_turn_says_which_tools_ran():
    cut_off = dangling([asks("a"), event("tool.execution_start", toolName="run_python")])
    assert cut_off is not None
    assert cut_off.tools == ("run_python",)


# -- exports ----------------------------------------------------------------------------------


def test_a_conversation_as_markdown():
    shown = turns([*exchange("What is `x`?", "It is *5*."), asks("And y?")])
    assert as_markdown("my-id", "Numbers", shown) == (
        "# Numbers\n\n"
        "Session `my-id`\n\n"
        "## 1. You, 2026-11-22 10:00 UTC\n\n"
        "What is `x`?\n\n"
        "## 1. Copilot (gpt-5)\n\n"
        "It is *5*.\n\n"
        "## 2. You, 2026-11-22 10:00 UTC\n\n"
        "And y?\n\n"
        "## 2. Copilot\n\n"
        "*(not answered)*\n"
    )


def test_markdown_without_title_or_times():
    shown = [Turn(1, "e", "a", "a", "b")]
    assert as_markdown("my-id", "", shown) == (
        "# my-id\n\nSession `my-id`\n\n## 1. You\n\na\n\n## 1. Copilot\n\nb\n"
    )


def lines(text: str) -> list[dict]:
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.split("\n") if line]


def test_the_whole_conversation_as_jsonl_has_every_event():
    events = [start("s"), event("session.info"), *exchange("a", "b"), *exchange("c", "d")]
    assert lines(as_jsonl(events, turns(events))) == events


def test_the_last_turns_as_jsonl_begin_at_their_prompt():
    events = [start("s"), *exchange("a", "b"), *exchange("c", "d"), *exchange("e", "f")]
    found = turns(events)
    assert lines(as_jsonl(events, found[-1:])) == events[9:]
    assert lines(as_jsonl(events, found[-2:])) == events[5:]
    assert lines(as_jsonl(events, found[-3:])) == events


def test_an_event_is_one_line_whatever_it_holds():
    events = exchange("a\nb\u2028c\x85d", "é日🙂")
    text = as_jsonl(events, turns(events))
    assert text.count("\n") == len(events)
    assert "é日🙂" in text
    assert lines(text) == events


def test_a_missing_first_event_can_be_written_anew():
    made = start_event("my-id", "2026-11-22T10:00:00Z", "/work")
    journal = parse_journal(journal_bytes([made, *exchange("a", "b")]))
    assert journal.has_start
    assert made["data"]["sessionId"] == "my-id"
    assert made["data"]["startTime"] == made["timestamp"] == "2026-11-22T10:00:00Z"
    assert made["data"]["context"] == {"cwd": "/work"}
    assert made["parentId"] is None
    assert len(turns(journal.events)) == 1
