"""Which turn answers a cell: every rule, on transcripts without a runtime."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from copilot_jupyter.conversation.stored.question import Question
from copilot_jupyter.conversation.stored.records import FILE, Record
from copilot_jupyter.conversation.stored.replay import Place, Replay
from copilot_jupyter.state.journal import journal_bytes
from copilot_jupyter.state.store import Store
from unit.transcripts import event, exchange, put

ID = "a-session"


class Notebook:
    """A session, and kernels one after the other that ask in it; answers are numbered."""

    def __init__(self, store: Store) -> None:
        self.store = store
        put(store, ID, [event("session.info", message="made")])
        self.count = 0
        self.restart()

    def restart(self) -> None:
        self.replay = Replay(self.store, ID)

    def place(self, cell: str = "", nth: int = 0, **more) -> Place:
        return Place(cell, nth=nth, whole=True, **more)

    def ask(self, prompt: str | Question, cell: str = "", nth: int = 0, **more) -> str:
        """Ask the model; return its answer."""
        question = prompt if isinstance(prompt, Question) else Question(prompt)
        place, since = self.place(cell, nth, **more), self.store.size(ID)
        turn, answer = self._write(question)
        record = Record(
            turn, question.key, cell, nth, whole=True, asked=place.asked,
            values=dict(question.values),
        )  # fmt: skip
        assert self.replay.added(record, since, place) is not None
        return answer

    def terminal(self, prompt: str, model: str = "gpt-5") -> str:
        """Somebody asks at a terminal."""
        return self._write(Question(prompt), model)[1]

    def _write(self, question: Question, model: str = "gpt-5") -> tuple[str, str]:
        self.count += 1
        answer = f"Answer {self.count}"
        events = exchange(question.prompt, answer)
        events[2]["data"]["model"] = model
        if question.sent:
            events[0]["data"]["transformedContent"] = question.sent
        with self.store.journal_path(ID).open("ab") as file:
            file.write(journal_bytes(events))
        return events[0]["id"], answer

    def find(self, prompt: str | Question, cell: str = "", nth: int = 0, **more) -> str | None:
        """Return the stored answer, None where the model has to be asked."""
        question = prompt if isinstance(prompt, Question) else Question(prompt)
        found = self.replay.find(question, self.place(cell, nth, **more))
        return None if found is None else found.turn.answer


@pytest.fixture
def notebook(home: Path) -> Notebook:
    return Notebook(Store())


# -- found at all -----------------------------------------------------------------------------


def test_nothing_answers_in_a_session_that_is_not_there(home):
    replay = Replay(Store(), "missing")
    assert replay.find(Question("Why?"), Place("a")) is None
    assert replay.earlier(Place("a", whole=True)) is None
    assert replay.count() == 0


def test_what_was_asked_is_answered_and_what_was_not_is_not(notebook):
    answer = notebook.ask("Why?", "a")
    notebook.restart()
    assert notebook.find("Why not?", "a") is None
    assert notebook.find("Why?", "a") == answer


def test_a_prompt_is_known_by_what_an_editor_leaves_alone(notebook):
    answer = notebook.ask("Why?\nHow?", "a")
    notebook.restart()
    assert notebook.find("\nWhy?\r\nHow?\n", "a") == answer


def test_the_found_turn_says_which_it_is(notebook):
    notebook.ask("first", "a")
    notebook.ask("second", "b")
    notebook.restart()
    found = notebook.replay.find(Question("second"), Place("b"))
    assert found is not None
    assert (found.turn.number, found.turn.prompt) == (2, "second")
    assert found.parent == notebook.replay.index.entries[0].event
    assert notebook.replay.count() == 2


# -- with cell ids ----------------------------------------------------------------------------


def test_two_cells_keep_their_own_answers_in_any_order(notebook):
    first, second = notebook.ask("continue", "a"), notebook.ask("continue", "b")
    for order in ("ab", "ba", "bab", "aa"):
        notebook.restart()
        expected = {"a": first, "b": second}
        assert [notebook.find("continue", c) for c in order] == [expected[c] for c in order]


def test_a_cell_is_answered_again_in_the_same_kernel(notebook):
    answer = notebook.ask("Why?", "a")
    assert [notebook.find("Why?", "a") for _ in range(3)] == [answer] * 3


def test_a_cell_has_its_own_newest(notebook):
    notebook.ask("Why?", "a")
    newest = notebook.ask("Why?", "a", asked="again")
    assert notebook.find("Why?", "a") == newest
    notebook.restart()
    assert notebook.find("Why?", "a") == newest


def test_what_a_cell_asked_anew_answers_no_other_cell(notebook):
    notebook.ask("Why?", "a")
    notebook.ask("Why?", "a", asked="again")
    notebook.restart()
    newest = notebook.find("Why?", "a")
    assert newest == "Answer 2"
    assert notebook.find("Why?", "b") is None


def test_of_a_deleted_cell_the_newest_turn_answers(notebook):
    notebook.ask("Why?", "a")
    newest = notebook.ask("Why?", "a", asked="again")
    notebook.restart()
    assert notebook.find("Why?", "b") == newest
    assert notebook.find("Why?", "c") is None


def test_a_duplicate_asks_anew_while_the_cell_is_there(notebook):
    answer = notebook.ask("Why?", "a")
    for _ in range(2):
        assert notebook.find("Why?", "copy", others={"a", "copy"}) is None
        notebook.restart()
    own = notebook.ask("Why?", "copy", others={"a", "copy"})
    notebook.restart()
    assert notebook.find("Why?", "copy", others={"a", "copy"}) == own
    assert notebook.find("Why?", "a", others={"a", "copy"}) == answer


def test_a_duplicate_is_answered_once_the_cell_is_gone(notebook):
    answer = notebook.ask("Why?", "a")
    notebook.restart()
    assert notebook.find("Why?", "copy", others={"copy", "c"}) == answer
    assert notebook.find("Why?", "copy", others={"copy", "c"}) == answer
    assert notebook.find("Why?", "c", others={"copy", "c"}) is None


def test_a_turn_taken_over_from_a_deleted_cell_stays_with_the_new_one(notebook):
    notebook.ask("Why?", "a")
    second = notebook.ask("Why?", "b")
    notebook.restart()
    assert notebook.find("Why?", "c", others={"b", "c"}) == "Answer 1"
    assert notebook.find("Why?", "b", others={"b", "c"}) == second
    assert notebook.find("Why?", "c", others={"b", "c"}) == "Answer 1"


def test_a_deleted_cell_that_comes_back_does_not_share_its_turn(notebook):
    notebook.ask("Why?", "a")
    notebook.restart()
    assert notebook.find("Why?", "b", others={"b"}) == "Answer 1"
    assert notebook.find("Why?", "a", others={"a", "b"}) is None


def test_the_address_of_a_cell_tells_it_apart_in_this_kernel(notebook):
    """VS Code's ids are new at every opening: none is stored, and the order tells."""
    first = notebook.ask("continue", handle="vscode:1")
    second = notebook.ask("continue", handle="vscode:2")
    assert notebook.find("continue", handle="vscode:2") == second
    assert notebook.find("continue", handle="vscode:1") == first
    notebook.restart()
    assert notebook.find("continue", handle="vscode:8") == first
    assert notebook.find("continue", handle="vscode:9") == second
    assert notebook.find("continue", handle="vscode:8") == first


# -- loops ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["a", ""], ids=["with ids", "without"])
def test_a_loop_gets_its_answers_back_in_order(notebook, cell):
    answers = [notebook.ask("roll", cell, n) for n in range(50)]
    notebook.restart()
    assert [notebook.find("roll", cell, n) for n in range(50)] == answers
    assert notebook.find("roll", cell, 50) is None
    assert len(set(answers)) == 50


def test_a_longer_loop_asks_only_what_is_new(notebook):
    answers = [notebook.ask("roll", "a", n) for n in range(3)]
    notebook.restart()
    assert [notebook.find("roll", "a", n) for n in range(4)] == [*answers, None]
    answers.append(notebook.ask("roll", "a", 3))
    notebook.restart()
    assert [notebook.find("roll", "a", n) for n in range(4)] == answers


def test_loops_of_two_cells_do_not_mix(notebook):
    first = [notebook.ask("roll", "a", n) for n in range(3)]
    second = [notebook.ask("roll", "b", n) for n in range(3)]
    notebook.restart()
    assert [notebook.find("roll", "b", n) for n in range(3)] == second
    assert [notebook.find("roll", "a", n) for n in range(3)] == first
    assert [notebook.find("roll", "b", n) for n in range(3)] == second


def test_a_loop_in_another_cell_does_not_take_from_one_that_is_there(notebook):
    [notebook.ask("roll", "a", n) for n in range(3)]
    notebook.restart()
    assert [notebook.find("roll", "b", n, others={"a", "b"}) for n in range(3)] == [None] * 3


# -- without cell ids -------------------------------------------------------------------------


def test_without_ids_the_order_tells(notebook):
    answers = [notebook.ask("continue") for _ in range(3)]
    notebook.restart()
    assert [notebook.find("continue") for _ in range(4)] == [*answers, None]


def test_the_next_one_after_the_last_that_was_replayed(notebook):
    for prompt in ("continue", "mark", "continue", "continue"):
        notebook.ask(prompt)
    notebook.restart()
    assert notebook.find("mark") == "Answer 2"
    assert notebook.find("continue") == "Answer 3"
    assert notebook.find("continue") == "Answer 4"
    assert notebook.find("continue") == "Answer 1"  # the first that is left
    assert notebook.find("continue") is None


def test_a_live_turn_is_claimed_and_counts_as_the_last(notebook):
    notebook.ask("continue")
    notebook.ask("continue")
    notebook.restart()
    notebook.ask("new")
    assert [notebook.find("continue") for _ in range(3)] == ["Answer 1", "Answer 2", None]
    assert notebook.find("new") is None  # its own turn has answered already


def test_a_notebook_written_with_ids_replays_without(notebook):
    answers = [notebook.ask("continue", cell) for cell in "abc"]
    notebook.restart()
    assert [notebook.find("continue") for _ in range(4)] == [*answers, None]


@pytest.mark.parametrize("handles", [("", ""), ("vscode:1", "vscode:2")], ids=["none", "VS Code"])
def test_where_ids_are_not_told_the_cells_of_the_file_keep_nothing_back(notebook, handles):
    """Papermill that knows the path, or VS Code: the file has ids, the kernel hears none."""
    answers = [notebook.ask("continue", cell) for cell in "ab"]
    notebook.restart()
    assert [notebook.find("continue", handle=h, others={"a", "b"}) for h in handles] == answers


def test_a_notebook_written_without_ids_replays_with(notebook):
    answers = [notebook.ask("continue") for _ in range(3)]
    notebook.restart()
    others = set("abc")
    assert [notebook.find("continue", cell, others=others) for cell in "abc"] == answers
    assert notebook.find("continue", "a", others=others) == answers[0]
    assert notebook.find("continue", "d", others=others) is None


# -- terminals --------------------------------------------------------------------------------


def test_a_turn_from_a_terminal_answers_one_cell(notebook):
    notebook.ask("first", "a")
    answer = notebook.terminal("Why?")
    assert notebook.find("Why?", "b", others={"a", "b"}) == answer
    assert notebook.find("Why?", "b", others={"a", "b"}) == answer
    assert notebook.find("Why?", "c", others={"a", "b", "c"}) is None


def test_a_cells_own_turn_goes_before_one_from_a_terminal(notebook):
    own = notebook.ask("Why?", "a")
    theirs = notebook.terminal("Why?")
    notebook.restart()
    assert notebook.find("Why?", "a") == own
    assert notebook.find("Why?", "b", others={"a", "b"}) == theirs


def test_a_session_without_our_file_is_one_of_a_terminal(notebook):
    answers = [notebook.ask("continue", cell) for cell in "ab"]
    (notebook.store.folder(ID) / "files" / FILE).unlink()
    notebook.restart()
    assert [notebook.find("continue", cell) for cell in "ab"] == answers


# -- the model --------------------------------------------------------------------------------


def test_a_cell_that_names_a_model_is_answered_by_a_turn_asked_so(notebook):
    plain = notebook.ask("Why?", "a")
    named = notebook.ask(Question("Why?", model="big"), "a")
    notebook.restart()
    assert notebook.find(Question("Why?", model="other"), "a") is None
    assert notebook.find("Why?", "a") == plain
    assert notebook.find(Question("Why?", model="big"), "a") == named


def test_a_recorded_turn_without_the_flag_does_not_answer_one_with_it(notebook):
    notebook.ask("Why?", "a")  # the model that answered is gpt-5
    notebook.restart()
    assert notebook.find(Question("Why?", model="gpt-5"), "a") is None


def test_an_unrecorded_turn_answers_a_cell_that_names_its_model(notebook):
    notebook.terminal("Why?", model="small")
    big = notebook.terminal("Why?", model="big")
    assert notebook.find(Question("Why?", model="huge"), "a") is None
    assert notebook.find(Question("Why?", model="big"), "a") == big
    assert notebook.find("Why?", "b") == "Answer 1"


# -- values -----------------------------------------------------------------------------------


def showing(digest: str) -> Question:
    return Question("Show {df}", sent=f"Show a table of {digest}", values=(("df", digest),))


def test_values_that_changed_are_a_new_question(notebook):
    monday = notebook.ask(showing("monday"), "a")
    notebook.restart()
    assert notebook.find(showing("tuesday"), "a") is None
    tuesday = notebook.ask(showing("tuesday"), "a")
    notebook.restart()
    assert notebook.find(showing("monday"), "a") == monday
    assert notebook.find(showing("tuesday"), "a") == tuesday
    earlier = notebook.replay.earlier(notebook.place("a"))
    assert earlier is not None
    assert earlier.record is not None
    assert earlier.record.values == {"df": "tuesday"}


def test_values_of_a_turn_without_record_are_known_by_the_text_that_was_sent(notebook):
    answer = notebook.ask(showing("monday"), "a")
    (notebook.store.folder(ID) / "files" / FILE).unlink()
    notebook.restart()
    assert notebook.find(showing("tuesday"), "a") is None
    assert notebook.find("Show {df}", "a") is None
    assert notebook.find(showing("monday"), "a") == answer


# -- one-shot flags ---------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["again", "rewind"])
@pytest.mark.parametrize("cell", ["a", ""], ids=["with ids", "without"])
def test_a_flag_that_stays_in_the_source_is_answered_by_the_turn_it_asked(notebook, flag, cell):
    plain = notebook.ask("Why?", cell)
    notebook.restart()
    assert notebook.find("Why?", cell, asked=flag) is None
    flagged = notebook.ask("Why?", cell, asked=flag)
    notebook.restart()
    if not cell:
        assert notebook.find("Why?") == plain
    assert notebook.find("Why?", cell, asked=flag) == flagged


def test_without_ids_a_cell_and_one_that_asks_again_keep_their_answers(notebook):
    plain = notebook.ask("Why?")
    again = notebook.ask("Why?", asked="again")
    for _ in range(2):
        notebook.restart()
        assert notebook.find("Why?") == plain
        assert notebook.find("Why?", asked="again") == again


# -- the earlier turn of a cell ---------------------------------------------------------------


def test_the_earlier_turn_of_an_edited_cell(notebook):
    notebook.ask("first wording", "a")
    notebook.ask("between", "b")
    notebook.ask("second wording", "a")
    notebook.ask("after", "b")
    notebook.restart()
    earlier = notebook.replay.earlier(notebook.place("a"))
    assert earlier is not None
    assert earlier.number == 3
    assert notebook.replay.earlier(notebook.place("c")) is None
    assert notebook.replay.earlier(notebook.place("")) is None
    assert notebook.replay.earlier(Place("a", whole=False)) is None


# -- any notebook -----------------------------------------------------------------------------

#: Cells in the order they are run, each with its prompts; some are asked in two kernels.
notebooks = st.lists(
    st.lists(st.sampled_from(["continue", "go on", "why?"]), min_size=1, max_size=4),
    min_size=1,
    max_size=6,
)


def asks_of(cells, order, *, ids: bool):
    """Yield every ask of a run: prompt, cell and which of its kind it is."""
    for number in order:
        counts: Counter[str] = Counter()
        for prompt in cells[number]:
            yield prompt, f"cell-{number}" if ids else "", counts[prompt]
            counts[prompt] += 1


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(notebooks, st.booleans(), st.booleans(), st.randoms(use_true_random=False))
def test_the_same_run_gets_the_same_turns_in_order(cells, asked_with_ids, run_with_ids, random):
    order = list(range(len(cells)))
    random.shuffle(order)
    with tempfile.TemporaryDirectory() as folder:
        notebook = Notebook(Store(Path(folder)))
        answers = []
        for one in asks_of(cells, order, ids=asked_with_ids):
            if random.random() < 0.2:
                notebook.restart()
            answers.append(notebook.ask(*one))
        notebook.restart()
        others = {f"cell-{number}" for number in order}
        again = list(asks_of(cells, order, ids=run_with_ids))
        assert [notebook.find(*one, others=others) for one in again] == answers
        if run_with_ids:  # and a second time in the same kernel
            assert [notebook.find(*one, others=others) for one in again] == answers


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(notebooks, st.randoms(use_true_random=False))
def test_with_ids_every_cell_has_its_own_in_any_order(cells, random):
    order = list(range(len(cells)))
    with tempfile.TemporaryDirectory() as folder:
        notebook = Notebook(Store(Path(folder)))
        answers = {one: notebook.ask(*one) for one in asks_of(cells, order, ids=True)}
        notebook.restart()
        random.shuffle(order)
        for one in asks_of(cells, order, ids=True):
            assert notebook.find(*one) == answers[one]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(notebooks, st.lists(st.sampled_from(["continue", "go on", "why?"]), max_size=6))
def test_no_turn_answers_two_claims(cells, more):
    with tempfile.TemporaryDirectory() as folder:
        notebook = Notebook(Store(Path(folder)))
        answers = [notebook.ask(*one) for one in asks_of(cells, range(len(cells)), ids=True)]
        notebook.restart()
        found = [notebook.find(prompt, f"new-{n}") for n, prompt in enumerate([*more, *more])]
        given_out = [answer for answer in found if answer is not None]
        assert len(set(given_out)) == len(given_out)
        assert set(given_out) <= set(answers)
