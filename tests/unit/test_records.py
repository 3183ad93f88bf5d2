"""The index over a transcript and the records beside it: always what a plain reading finds."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from copilot_jupyter.conversation import transcript
from copilot_jupyter.conversation.stored.question import Question, paired
from copilot_jupyter.conversation.stored.records import FILE, Record, read_records, to_record
from copilot_jupyter.conversation.stored.spans import with_spans
from copilot_jupyter.conversation.stored.turn_index import TurnIndex
from copilot_jupyter.events import Usage
from copilot_jupyter.state.journal import journal_bytes
from copilot_jupyter.state.store import Store
from unit.transcripts import asks, event, exchange, put, says

ID = "a-session"


class Session:
    """A session on disk: turns asked here, with records, and elsewhere, without."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.path = store.journal_path(ID)
        self.side = store.folder(ID) / "files" / FILE
        put(store, ID, [event("session.info", message="made")])
        self.index = TurnIndex(store, ID)

    def elsewhere(self, *prompts: str, answer: str = "") -> list[str]:
        """A terminal asks; return the event ids of its turns."""
        made = [exchange(prompt, answer or f"To {prompt}") for prompt in prompts]
        self.write(*(one for events in made for one in events))
        return [events[0]["id"] for events in made]

    def write(self, *events):
        with self.path.open("ab") as file:
            file.write(journal_bytes(events))

    def here(self, prompt: str, index: TurnIndex | None = None, **more) -> str:
        """This notebook asks; return the event id of its turn."""
        since = self.store.size(ID)
        [event_id] = self.elsewhere(prompt)
        record = Record(event_id, Question(prompt).key, **more)
        stored = (index or self.index).add(record, since)
        assert stored is not None
        assert (stored.turn.prompt, stored.turn.answer) == (prompt, paired(f"To {prompt}"))
        return event_id

    def truncate(self, keep: int) -> None:
        """Take back all turns but the first `keep`."""
        turns = self.turns()
        if keep < len(turns):
            data = self.path.read_bytes()
            needle = json.dumps(turns[keep].event_id).encode()
            self.path.write_bytes(data[: data.rfind(b"\n", 0, data.find(needle)) + 1])

    def turns(self):
        return transcript.turns(self.store.journal(ID).events)

    def lengthen_first_line(self, by: int = 300) -> None:
        first, _, rest = self.path.read_bytes().partition(b"\n")
        start = json.loads(first)
        start["data"]["mended"] = "x" * by
        self.path.write_bytes(journal_bytes([start]) + rest)

    # -- what must hold --

    def check(self, index: TurnIndex | None = None, *, records: bool = True) -> None:
        """An index, the one that has seen it all and a new one, says what a full parse says."""
        for each in (index or self.index, TurnIndex(self.store, ID)):
            each.refresh()
            self.agrees(each, records=records)

    def agrees(self, index: TurnIndex, *, records: bool = True) -> None:
        turns = self.turns()
        assert [entry.event for entry in index.entries] == [turn.event_id for turn in turns]
        assert [entry.number for entry in index.entries] == list(range(1, len(turns) + 1))
        assert [entry.complete for entry in index.entries] == [turn.complete for turn in turns]
        recorded = {record.event for record in read_records(self.side)}
        for number, (entry, turn) in enumerate(zip(index.entries, turns, strict=True)):
            assert index.entry(turn.event_id) is entry
            if records and turn.complete and turn.event_id in recorded:
                assert entry.record is not None
            matching = index.matching(Question(turn.prompt))
            stored = index.stored(entry)
            if not turn.complete:
                assert entry not in matching
                assert stored is None
                continue
            assert entry in matching
            assert stored is not None
            assert (stored.turn.prompt, stored.turn.answer) == (turn.prompt, turn.answer)
            assert (stored.turn.event_id, stored.turn.number) == (turn.event_id, number + 1)
            assert stored.key == Question(turn.prompt).key
            assert stored.parent == (turns[number - 1].event_id if number else "")


@pytest.fixture
def session(home: Path) -> Session:
    return Session(Store())


# -- one record -------------------------------------------------------------------------------

FULL = Record(
    "e1", "k1", cell="c1", nth=2, whole=True, asked="again", values={"df": "d"}, usage=(11, 7),
    span=(5, 90),
)  # fmt: skip


def test_a_record_comes_back_as_it_was_written():
    for record in (FULL, Record("e1", "k1"), Record("e\u2028\ud800", "k", cell="é\r\n")):
        assert record.line().count(b"\n") == 1
        assert to_record(json.loads(record.line())) == record


def test_a_record_of_the_future_is_read():
    assert to_record({**FULL.value(), "v": 2, "more": [1]}) == FULL


HOSTILE = {
    "no JSON": b"garbage",
    "NULs": b"\x00" * 40,
    "half a line": FULL.line()[:30],
    "a merge marker": b"<<<<<<< HEAD",
    "a list": b"[1, 2]",
    "null": b"null",
    "no event": b'{"key": "k"}',
    "no key": b'{"event": "e"}',
    "an event that is none": b'{"event": 5, "key": "k"}',
    "a key that is none": b'{"event": "e", "key": null}',
    "a number that is a word": b'{"event": "e", "key": "k", "nth": "x"}',
    "a number that is a list": b'{"event": "e", "key": "k", "nth": [1]}',
    "a number that is endless": b'{"event": "e", "key": "k", "nth": Infinity}',
    "a number that is none": b'{"event": "e", "key": "k", "nth": NaN}',
    "a number too large": b'{"event": "e", "key": "k", "nth": 1e999}',
    "a span too short": b'{"event": "e", "key": "k", "span": [1]}',
    "a span of words": b'{"event": "e", "key": "k", "span": ["a", "b"]}',
    "an endless span": b'{"event": "e", "key": "k", "span": [0, Infinity]}',
    "a span that is a dict": b'{"event": "e", "key": "k", "span": {"a": 1}}',
    "values that are a list": b'{"event": "e", "key": "k", "values": [1]}',
    "usage that is a number": b'{"event": "e", "key": "k", "usage": 5}',
    "endless usage": b'{"event": "e", "key": "k", "usage": [Infinity, 1]}',
    "bad UTF-8": b'{"event": "\xff", "key": "k"}',
    "too deep": b"[" * 100_000,
    "a number too long": b'{"event": "e", "key": "k", "nth": ' + b"1" * 10_000 + b"}",
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_a_line_that_is_no_record_is_passed_over(tmp_path, line):
    path = tmp_path / FILE
    path.write_bytes(FULL.line() + line + b"\n\r\n\n" + Record("e2", "k2").line())
    assert list(read_records(path)) == [FULL, Record("e2", "k2")]


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_a_bad_line_hides_no_turn(session, line):
    session.here("one")
    with session.side.open("ab") as file:
        file.write(line + b"\n")
    session.here("two")
    session.check()


def test_a_missing_file_holds_no_records(tmp_path):
    assert list(read_records(tmp_path / "none")) == []
    assert list(read_records(tmp_path)) == []  # a folder


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        path.write_bytes(data)
        list(read_records(path))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["cell", "nth", "whole", "values", "usage", "span"]),
                       json_values))  # fmt: skip
def test_no_value_breaks_a_record(value):
    record = to_record({"event": "e", "key": "k", **value})
    assert record is None or (record.event, record.key) == ("e", "k")


# -- the index --------------------------------------------------------------------------------


def test_a_session_that_is_not_there_has_no_turns(home):
    index = TurnIndex(Store(), "missing")
    index.refresh()
    assert (index.entries, index.matching(Question("x")), index.entry("e")) == ([], [], None)
    assert index.of_cell("c") is None
    assert index.add(Record("e", "k"), 0) is None


def test_an_empty_session_has_no_turns(session):
    session.check()
    assert session.index.entries == []


def test_turns_asked_here_and_elsewhere_in_every_order(session):
    session.elsewhere("before", "before that")
    session.here("one")
    session.elsewhere("between")
    session.here("two")
    session.here("three")
    session.elsewhere("after", "and after")
    session.check()


def test_what_is_known_of_a_turn_comes_back(session):
    session.elsewhere("elsewhere")
    asked = session.here("one", cell="c1", nth=3, whole=True, asked="again", usage=(11, 7))
    session.check()
    index = TurnIndex(session.store, ID)
    index.refresh()
    entry = index.entry(asked)
    assert entry is not None
    assert entry.record is not None
    kept = (entry.record.cell, entry.record.nth, entry.record.whole, entry.record.asked)
    assert kept == ("c1", 3, True, "again")
    stored = index.stored(entry)
    assert stored is not None
    assert stored.turn.usage == Usage(11, 7)
    assert index.entries[0].record is None
    assert index.entries[0].model == "gpt-5"


def test_the_newest_turn_of_a_cell(session):
    session.here("one", cell="a", whole=True)
    newest = session.here("two", cell="a", whole=True)
    session.here("three", cell="a")  # by a line in it: no %%copilot
    session.here("four", cell="b", whole=True)
    session.elsewhere("five")
    for index in (session.index, TurnIndex(session.store, ID)):
        index.refresh()
        found = index.of_cell("a")
        assert found is not None
        assert found.event == newest
        assert index.of_cell("c") is None


def test_without_the_side_file_turns_are_found_by_their_prompts(session):
    session.here("one")
    session.here("two")
    session.side.unlink()
    session.check()
    assert all(entry.record is None for entry in session.index.entries)
    session.here("three")
    session.check()


def test_a_torn_last_line_is_not_glued_to_the_next(session):
    session.here("one")
    session.here("two")
    session.side.write_bytes(session.side.read_bytes()[:-20])
    session.check()
    session.here("three")
    session.check()
    assert [record.event for record in read_records(session.side)] == [
        session.turns()[0].event_id,
        session.turns()[2].event_id,
    ]


def test_a_side_file_of_garbage_only(session):
    session.here("one")
    session.side.write_bytes(b"\xff\x00 garbage" * 50)
    session.check()
    session.here("two")
    session.check()


@pytest.mark.parametrize(
    "span",
    [(0, 1), (7, 9), (-5, 20), (20, 5), (5, 5), (0, 10**9), (10**9, 10**9 + 5), (10**30, 10**31),
     (1, 2)],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("which", [0, 1, 2], ids=["the first", "the middle", "the last"])
def test_a_wrong_span_hides_no_turn(session, which, span):
    for prompt in ("one", "two", "three"):
        session.here(prompt)
    session.elsewhere("four")
    lines = list(read_records(session.side))
    lines[which] = Record(lines[which].event, lines[which].key, span=span)
    session.side.write_bytes(b"".join(record.line() for record in lines))
    session.check(records=False)  # what a wrong line says of its turn may be lost, no turn is


@pytest.mark.parametrize("which", [0, 1], ids=["the first", "the middle"])
def test_a_span_that_covers_a_neighbour_hides_no_turn(session, which):
    for prompt in ("one", "two", "three"):
        session.here(prompt)
    lines = list(read_records(session.side))
    lines[which], covering = lines[which], (lines[which].span[0], lines[which + 1].span[1])
    lines[which] = Record(lines[which].event, lines[which].key, span=covering)
    del lines[which + 1]
    session.side.write_bytes(b"".join(record.line() for record in lines))
    session.check()


def test_a_record_of_no_turn_is_no_turn(session):
    session.here("one")
    with session.side.open("ab") as file:
        file.write(Record("nowhere", "k").line())
        file.write(Record("nowhere else", "k", span=(10**6, 10**6 + 9)).line())
    session.check()
    session.here("two")
    session.check()
    assert session.index.entry("nowhere") is None


def test_the_same_record_twice_is_one_turn(session):
    session.here("one")
    session.here("two")
    session.side.write_bytes(session.side.read_bytes() * 2)
    session.check()
    session.here("three")
    session.check()


def test_a_transcript_with_a_longer_first_line(session):
    session.elsewhere("elsewhere")
    session.here("one")
    session.lengthen_first_line()
    session.check()
    session.here("two")
    session.check()


def test_a_first_line_that_grows_between_the_look_and_the_turn(session):
    """A transcript that is mended when the session is opened, after the cell looked for a turn."""
    session.here("one")
    session.index.refresh()
    session.lengthen_first_line()
    session.here("two")
    session.agrees(session.index)  # no refresh: that is what the next claim in this cell sees
    session.check()


def test_a_first_line_that_shrinks_between_the_look_and_the_turn(session):
    session.lengthen_first_line(3000)
    session.here("one")
    session.index.refresh()
    session.lengthen_first_line(5)
    session.here("two")
    session.check()


def test_a_line_that_was_taken_out_in_the_middle(session):
    session.here("one")
    with session.path.open("ab") as file:
        file.write(b"garbage that a mend takes out\n")
    session.here("two")
    session.check()
    session.path.write_bytes(
        session.path.read_bytes().replace(b"garbage that a mend takes out\n", b"")
    )
    session.check()
    session.here("three")
    session.check()


def test_turns_that_were_taken_back(session):
    for prompt in ("one", "two", "three"):
        session.here(prompt)
    session.truncate(1)
    session.check()
    assert session.index.matching(Question("two")) == []
    session.here("four")
    session.check()


@pytest.mark.parametrize("length", [1, 60, 300, 700, 5000])
@pytest.mark.parametrize("looked", [True, False], ids=["looked at meanwhile", "not looked at"])
def test_turns_taken_back_and_others_asked_elsewhere_in_their_place(session, length, looked):
    for prompt in ("one", "two", "three"):
        session.here(prompt)
    session.truncate(1)
    if looked:
        session.check()
    session.elsewhere("x" * length)
    if looked:
        session.check()
    session.here("four")  # with --again nobody looks before
    session.agrees(session.index)
    session.check()


def test_taken_back_and_asked_again_with_texts_of_the_same_length(session):
    for prompt in ("one", "two", "six"):
        session.here(prompt)
    session.truncate(0)
    session.elsewhere("eno", "owt")
    session.check()
    session.here("xis")
    session.check()


def test_what_was_taken_back_stays_known(session):
    asked = session.here("one")
    session.truncate(0)
    session.here("two")
    session.check()
    assert asked in session.index.known
    assert len(session.index.known) == 2


def test_turns_that_come_back_are_found_again(session):
    for prompt in ("one", "two", "three"):
        session.here(prompt)
    whole, records = session.path.read_bytes(), session.side.read_bytes()
    session.truncate(1)
    session.here("four")
    session.path.write_bytes(whole)
    session.side.write_bytes(records)
    session.check()
    session.side.write_bytes(b"")
    session.path.write_bytes(whole)
    session.check()


def test_a_prompt_that_was_never_answered(session):
    session.here("one")
    session.write(asks("dangling"))
    session.check()
    assert [entry.complete for entry in session.index.entries] == [True, False]
    session.truncate(1)
    session.here("two")
    session.check()


def test_a_dangling_prompt_between_others(session):
    session.here("one")
    session.write(asks("dangling"), event("abort", reason="user"))
    session.elsewhere("two")
    session.here("three")
    session.check()


def test_a_turn_that_is_not_whole_yet_is_not_recorded(session):
    since = session.store.size(ID)
    prompt = asks("slow")
    session.write(prompt)
    assert session.index.add(Record(prompt["id"], Question("slow").key), since) is None
    assert list(read_records(session.side)) == []
    session.write(says("At last"))
    stored = session.index.add(Record(prompt["id"], Question("slow").key), since)
    assert stored is not None
    assert stored.turn.answer == "At last"
    session.check()


def test_a_sub_agents_prompt_is_part_of_the_turn(session):
    since = session.store.size(ID)
    prompt = asks("find it")
    session.write(
        prompt,
        event("user.message", agent="a1", content="find it, agent"),
        event("assistant.message", agent="a1", content="the agent's", toolRequests=[]),
        event("user.message", content="said the system", source="system"),
        says("Found"),
    )
    assert session.index.add(Record(prompt["id"], Question("find it").key), since)
    session.here("next")
    session.check()
    assert len(session.index.entries) == 2


@pytest.mark.parametrize(
    "text",
    ["user.message", '"user.message"', '{"type":"user.message","data":{"content":"x"}}',
     "a\u2028b\u2029c\x85d", "a\rb\r\nc", "x\x00y", "é日🙂\ud800", "\n\n", '\\" \\n'],
    ids=ascii,
)  # fmt: skip
def test_no_text_is_taken_for_a_line(session, text):
    session.elsewhere(f"elsewhere {text}", answer=f"answers {text}")
    session.here(f"here {text}")
    session.write(event("session.info", message=text))
    session.elsewhere("after")
    session.check()
    session.here(f"again {text}")
    session.check()


def test_windows_line_ends_lose_nothing(session):
    session.here("one")
    session.path.write_bytes(session.path.read_bytes().replace(b"\n", b"\r\n"))
    session.check()
    session.here("two")
    session.check()


def test_a_missing_last_newline_loses_nothing(session):
    session.here("one")
    session.path.write_bytes(session.path.read_bytes().rstrip())
    session.check(records=False)


def test_add_after_the_session_grew_elsewhere(session):
    session.here("one")
    session.elsewhere("two", "three")
    session.here("four")
    session.agrees(session.index)
    session.check()


def test_add_where_others_wrote_around_the_turn(session):
    session.here("one")
    since = session.store.size(ID)
    session.elsewhere("before it")
    [mine] = session.elsewhere("mine")
    session.elsewhere("behind it")
    assert session.index.add(Record(mine, Question("mine").key), since) is not None
    session.check()


def test_two_indexes_that_add_in_turn(session):
    other = TurnIndex(session.store, ID)
    for number in range(3):
        session.here(f"first {number}")
        session.here(f"second {number}", other)
    session.check()
    session.check(other)


def test_an_unrecorded_turn_answers_only_a_question_sent_as_it_was(session):
    [asked] = session.elsewhere("Show {df}")
    index = session.index
    index.refresh()
    assert [e.event for e in index.matching(Question("Show {df}"))] == [asked]
    assert index.matching(Question("Show {df}", sent="Show a table")) == []
    assert [e.event for e in index.matching(Question("Show {df}", model="gpt-5"))] == [asked]
    assert index.matching(Question("Show {df}", model="gpt-4")) == []


def test_a_recorded_turn_answers_its_own_key_only(session):
    since = session.store.size(ID)
    [asked] = session.elsewhere("Why?")
    session.index.add(Record(asked, Question("Why?", model="gpt-4").key), since)
    for index in (session.index, TurnIndex(session.store, ID)):
        index.refresh()
        assert index.matching(Question("Why?")) == []
        assert index.matching(Question("Why?", model="gpt-5")) == []
        assert [e.event for e in index.matching(Question("Why?", model="gpt-4"))] == [asked]


def test_with_spans_puts_records_in_the_order_of_the_transcript(session):
    first, second, third = session.elsewhere("one", "two", "three")
    records = [Record(third, "c", cell="x"), Record("gone", "g", span=(3, 9)), Record(first, "a")]
    data = session.path.read_bytes()
    gone, one, three = with_spans(data, records)
    assert (gone.event, gone.span) == ("gone", (0, 0))
    assert (one.event, three.event, three.cell) == (first, third, "x")
    behind_first_line = data.partition(b"\n")[2]
    for record in (one, three):
        line = behind_first_line[slice(*record.span)].splitlines()[0]
        assert json.loads(line)["id"] == record.event
    assert second not in behind_first_line[slice(*one.span)].decode()


def test_ten_thousand_turns(session):
    """The first are recorded; then one more is asked without reading all of them again."""
    session.elsewhere(*(f"prompt {number}" for number in range(10_000)))
    records = [
        Record(turn.event_id, Question(turn.prompt).key)
        for turn in session.turns()
        if turn.number % 3
    ]
    session.side.parent.mkdir()
    data = session.path.read_bytes()
    session.side.write_bytes(b"".join(record.line() for record in with_spans(data, records)))
    index = session.index
    index.refresh()
    assert len(index.entries) == 10_000
    session.here("one more")
    assert [entry.number for entry in index.matching(Question("prompt 9999"))] == [10_000]
    [found] = index.matching(Question("prompt 5000"))
    stored = index.stored(found)
    assert stored is not None
    assert (stored.turn.number, stored.turn.answer) == (5001, "To prompt 5000")
    again = TurnIndex(session.store, ID)
    again.refresh()
    assert [e.event for e in again.entries] == [turn.event_id for turn in session.turns()]


# -- any history ------------------------------------------------------------------------------

steps = st.lists(
    st.one_of(
        st.tuples(st.just("here"), st.sampled_from(["a", "b", "a longer prompt " * 9])),
        st.tuples(st.just("elsewhere"), st.sampled_from(["a", "c", "another long one " * 20])),
        st.tuples(st.just("truncate"), st.integers(0, 4)),
        st.tuples(st.just("drop"), st.just(None)),
        st.tuples(st.just("look"), st.just(None)),
        st.tuples(st.just("dangle"), st.just(None)),
        st.tuples(st.just("mend"), st.integers(0, 400)),
    ),
    max_size=14,
)


def run(session: Session, history, *, looks_first: bool) -> None:
    for step, value in history:
        dangling = [n for n, turn in enumerate(session.turns()) if not turn.complete]
        if step == "here":
            if dangling:  # taken out before anything is asked here
                session.truncate(dangling[0])
            if looks_first:  # as a cell does that could be answered from the store
                session.index.refresh()
            session.here(value)
        elif step == "elsewhere":
            session.elsewhere(value)
        elif step == "truncate":
            session.truncate(value)
        elif step == "drop":
            session.side.unlink(missing_ok=True)
        elif step == "dangle":
            session.write(asks("dangling"))
        elif step == "mend":
            session.lengthen_first_line(value)
        else:
            session.check()
    session.check()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_whatever_happens_the_index_is_what_a_full_reading_finds(history):
    with tempfile.TemporaryDirectory() as folder:
        run(Session(Store(Path(folder))), history, looks_first=True)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps.map(lambda history: [s for s in history if s[0] not in ("look", "mend", "dangle")]))
@example([("here", "a"), ("truncate", 0), ("elsewhere", "a"), ("here", "a")])
def test_whatever_happens_while_nobody_looks(history):
    """As with --again and at a console: every question is new."""
    with tempfile.TemporaryDirectory() as folder:
        run(Session(Store(Path(folder))), history, looks_first=False)
