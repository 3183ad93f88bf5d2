"""Nothing is asked twice: cells, lines and loops are answered from the conversation."""

from __future__ import annotations

import json
import time

import pytest
from desk import ask, binding, pressed_stop, reloaded, two_lines
from drivers import descendants
from scripted_model import Reply

from copilot_jupyter.conversation.sessions import Sessions
from copilot_jupyter.conversation.terms import Terms
from copilot_jupyter.settings import Copilot

ID = "replayed"
BIND = f"%copilot_resume {ID} --create"


@pytest.fixture
def notebook(desk):
    """A notebook bound to a session of a known name; nothing asked so far."""
    kernel = desk.notebook()
    kernel.run(BIND).ok()
    return kernel


def run_again(notebook):
    """Save, restart, Run All; return what came of the `%%copilot` cells."""
    notebook.save()
    reloaded(notebook, notebook.restart)
    return [r.ok() for r in notebook.run_all() if r.cell.source.startswith("%%copilot")]


def answer_of(result):
    """The answer a cell shows, whatever lines stand beside it."""
    [text] = [
        o["data"]["text/plain"]
        for o in result.ok().displays
        if "turn" in o["metadata"].get("copilot_jupyter", {})
    ]
    return text


def remarks_of(result):
    """The lines that stand beside the answer of a cell."""
    return [o["data"]["text/plain"] for o in result.ok().displays if not o["metadata"]]


def replayed(result):
    return binding(result.ok()).get("replayed", False)


def kept(desk, session=ID):
    return [found for found in desk.store.ids() if found.startswith(f"{session}-kept")]


def journal(desk, session=ID):
    """The lines of a transcript that hold its turns."""
    lines = desk.store.journal_path(session).read_bytes().splitlines(keepends=True)
    begin = next(n for n, line in enumerate(lines) if b'"user.message"' in line)
    last = max(n for n, line in enumerate(lines) if b'"assistant.message"' in line)
    return lines[begin : last + 1]


def in_a_terminal(desk, monkeypatch, *prompts, session=ID):
    """Ask in the session from another process's place, and let it go."""
    for name, value in desk.env.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    sessions = Sessions(Copilot(), desk.store)
    try:
        terminal = sessions.conversation(session, Terms(who="a terminal", folder="/tmp"))
        return [sessions.loop.call(terminal.ask(prompt)).text for prompt in prompts]
    finally:
        sessions.close()


# -- the cells of a notebook ------------------------------------------------------------------


def test_cells_that_were_moved_keep_their_answers(desk, notebook):
    prompts = ["continue", "What is a generic?", "continue"]
    cells = [ask(notebook, prompt).ok().cell for prompt in prompts]
    before = {cell.id: cell.outputs[-1]["data"]["text/plain"] for cell in cells}
    notebook.cells[2:] = reversed(notebook.cells[2:])
    results = run_again(notebook)
    assert len(results) == 3
    assert {r.cell.id: answer_of(r) for r in results} == before
    assert all(map(replayed, results))
    assert len(desk.model.requests) == 3


def test_a_cell_split_in_two_keeps_both_answers(desk, notebook):
    cell = notebook.run("a = %copilot One\nb = %copilot Two").ok().cell
    cell.source = "a = %copilot One"
    second = notebook.add("b = %copilot Two")
    notebook.save()
    reloaded(notebook, notebook.restart)
    for each in (cell, second):
        notebook.run_cell(each).ok()
    shown = notebook.run("a.text, b.text, a.replayed, b.replayed").ok().shown
    assert shown == "('Answer 1 to: One', 'Answer 2 to: Two', True, True)"
    assert len(desk.model.requests) == 2


def test_two_cells_joined_keep_both_answers(desk, notebook):
    first = notebook.run("a = %copilot One").ok().cell
    second = notebook.run("b = %copilot Two").ok().cell
    first.source += f"\n{second.source}"
    notebook.cells.remove(second)
    notebook.save()
    reloaded(notebook, notebook.restart)
    notebook.run_cell(first).ok()
    shown = notebook.run("a.text, b.text").ok().shown
    assert shown == "('Answer 1 to: One', 'Answer 2 to: Two')"
    assert len(desk.model.requests) == 2


def test_a_duplicate_is_a_question_of_its_own_and_keeps_its_answer(desk, notebook):
    original = ask(notebook, "continue").ok().cell
    notebook.save()
    copy = ask(notebook, "continue")
    assert answer_of(copy) == "Answer 2 to: continue"
    assert desk.prompts(ID) == ["continue", "continue"]
    # Before the cell it was copied from, as Jupyter's "duplicate above" has it.
    notebook.cells.remove(copy.cell)
    notebook.cells.insert(notebook.cells.index(original), copy.cell)
    above, below = run_again(notebook)
    assert (above.cell, answer_of(above)) == (copy.cell, "Answer 2 to: continue")
    assert (below.cell, answer_of(below)) == (original, "Answer 1 to: continue")
    assert len(desk.model.requests) == 2


@pytest.mark.campaign
def test_a_duplicate_run_after_the_restart_leaves_the_original_its_answer(desk, notebook):
    original = ask(notebook, "continue").ok().cell
    copy = notebook.add("%%copilot\ncontinue")
    notebook.save()
    reloaded(notebook, notebook.restart)
    assert answer_of(notebook.run_cell(copy)) == "Answer 2 to: continue"
    again = notebook.run_cell(original)
    assert (answer_of(again), replayed(again)) == ("Answer 1 to: continue", True)
    assert len(desk.model.requests) == 2


@pytest.mark.parametrize("way", ["saved without it", "told by the front end"])
def test_a_deleted_cell_leaves_its_answer_to_the_next_that_asks_the_same(desk, notebook, way):
    cell = ask(notebook, "continue").ok().cell
    notebook.save()
    reloaded(notebook, notebook.restart)
    notebook.cells.remove(cell)
    if way == "saved without it":
        notebook.save()
    else:
        send = notebook._post

        def with_deleted(kind, content, metadata=None):
            told = {"deletedCells": [cell.id]} if kind == "execute_request" else {}
            return send(kind, content, {**(metadata or {}), **told})

        notebook._post = with_deleted
    typed = ask(notebook, "continue")
    assert (answer_of(typed), replayed(typed)) == ("Answer 1 to: continue", True)
    assert len(desk.model.requests) == 1
    if way == "told by the front end":
        assert answer_of(ask(notebook, "continue")) == "Answer 2 to: continue"


def test_out_of_order_and_twice_in_one_kernel(desk, notebook):
    cells = [ask(notebook, prompt).ok().cell for prompt in ("continue", "Why?", "continue")]
    notebook.save()
    for _ in range(2):
        for number in (2, 0, 1, 1, 2, 0):
            result = notebook.run_cell(cells[number])
            assert answer_of(result).startswith(f"Answer {number + 1} to")
            assert replayed(result)
        reloaded(notebook, notebook.restart)
    assert len(desk.model.requests) == 3
    assert descendants(notebook.pid) == []


def test_what_is_shown_is_the_same_live_and_replayed(desk, notebook):
    desk.model.will("# Title\n\n```python\nprint(1)\n```\n\n| a |\n|---|\n| 1 |")
    [live] = ask(notebook, "Show").ok().displays
    [shown] = run_again(notebook)
    [again] = shown.displays
    assert again["data"] == live["data"]
    there = {k: v for k, v in again["metadata"]["copilot_jupyter"].items() if k != "replayed"}
    assert there == live["metadata"]["copilot_jupyter"]
    assert "replayed" not in live["metadata"]["copilot_jupyter"]


@pytest.mark.parametrize("answers", [(), None], ids=["VS Code", "papermill"])
def test_a_notebook_of_jupyterlab_where_no_ids_are_told(desk, notebook, answers):
    """The kernel knows the file and the ids in it, and not which of them runs."""
    for prompt in ("continue", "Why?", "continue"):
        ask(notebook, prompt).ok()
    notebook.save()
    notebook.shutdown()
    other = desk.notebook(cell_ids=False, answers=answers)
    if answers == ():
        send = other._post

        def with_address(kind, content, metadata=None):
            at = f"vscode-notebook-cell:{other.path}#{hash(content.get('code'))}{time.monotonic()}"
            told = {"cellId": at} if kind == "execute_request" else {}
            return send(kind, content, {**(metadata or {}), **told})

        other._post = with_address
    results = [r.ok() for r in other.run_all() if r.cell.source.startswith("%%")]
    assert [answer_of(r)[:8] for r in results] == ["Answer 1", "Answer 2", "Answer 3"]
    assert len(desk.model.requests) == 3


def test_a_model_in_the_cell_is_part_of_the_question(desk, notebook):
    plain = ask(notebook, "Why?").ok().cell
    big = notebook.run("%%copilot --model scripted-2\nWhy?").ok().cell
    assert [r.body["model"] for r in desk.model.requests] == ["scripted", "scripted-2"]
    results = run_again(notebook)
    assert [(r.cell, answer_of(r)) for r in results] == [
        (plain, "Answer 1 to: Why?"),
        (big, "Answer 2 to: Why?"),
    ]
    assert len(desk.model.requests) == 2


# -- lines and Python -------------------------------------------------------------------------


def test_lines_and_variables_are_answered_again(desk, notebook):
    notebook.run("x = %copilot Why?").ok()
    notebook.run("%copilot Why?").ok()
    notebook.run("%%copilot --into y\nWhy?").ok()
    notebook.run("for _ in range(2):\n    z = %copilot Why?").ok()
    before = notebook.run("(x.text, y.text, z.text)").ok().shown
    assert before == str(tuple(f"Answer {n} to: Why?" for n in (1, 3, 5)))
    notebook.save()
    reloaded(notebook, notebook.restart)
    for result in notebook.run_all():
        result.ok()
    assert notebook.run("(x.text, y.text, z.text)").ok().shown == before
    shown = notebook.run("x.replayed, y.replayed, z.replayed, type(y).__name__").ok().shown
    assert shown == "(True, True, True, 'Answer')"
    assert notebook.run("x.turn, y.turn, z.turn").ok().shown == "(1, 3, 5)"
    assert len(desk.model.requests) == 5


LOOP = """import copilot_jupyter
rolled = [copilot_jupyter.ask("roll").text for _ in range(50)]"""
ASYNC = """import copilot_jupyter
awaited = [(await copilot_jupyter.ask_async("roll")).text for _ in range(3)]"""


@pytest.mark.campaign
def test_loops_in_python_get_their_answers_back_in_order(desk, notebook):
    notebook.run(LOOP).ok()
    notebook.run(ASYNC).ok()
    before = notebook.run("rolled + awaited").ok().shown
    assert before == str([f"Answer {n} to: roll" for n in range(1, 54)]).replace(", ", ",\n ")
    notebook.save()
    reloaded(notebook, notebook.restart)
    notebook.run(ASYNC, notebook.cells[3]).ok()  # out of order
    notebook.run(LOOP, notebook.cells[2]).ok()
    assert notebook.run("rolled + awaited").ok().shown == before
    longer = LOOP.replace("range(50)", "range(51)")
    notebook.run(longer, notebook.cells[2]).ok()
    assert notebook.run("rolled[:50] + awaited").ok().shown == before
    assert notebook.run("rolled[50]").ok().shown == "'Answer 54 to: roll'"
    assert len(desk.model.requests) == 54


# -- somebody else, somewhere else ------------------------------------------------------------


def test_what_a_terminal_asked_answers_a_cell(desk, notebook, monkeypatch):
    ask(notebook, "first").ok()
    notebook.run("%copilot_release").ok()
    [answer] = in_a_terminal(desk, monkeypatch, "Why?")
    # A terminal writes no line of ours.
    side = next((desk.store.folder(ID) / "files").glob("*turns.jsonl"))
    lines = side.read_bytes().splitlines(keepends=True)
    side.write_bytes(lines[0])
    assert len(lines) == 2
    typed = ask(notebook, "Why?")
    assert (answer_of(typed), replayed(typed)) == (answer, True)
    assert len(desk.model.requests) == 2
    assert answer_of(ask(notebook, "Why?")) == "Answer 3 to: Why?"  # one turn, one cell
    assert desk.model.requests[-1].prompts == ["first", "Why?", "Why?"]
    shown = [answer_of(r) for r in run_again(notebook)]
    assert shown == ["Answer 1 to: first", answer, "Answer 3 to: Why?"]
    assert len(desk.model.requests) == 3


@pytest.mark.campaign
def test_what_is_typed_at_a_console_is_always_live(desk):
    console = desk.notebook(cell_ids=False, answers=[])
    console.run(BIND).ok()
    for number in (1, 2):
        assert answer_of(ask(console, "Why?")) == f"Answer {number} to: Why?"
    reloaded(console, console.restart)
    console.run(BIND).ok()
    typed = console.run("x = %copilot Why?")
    assert typed.ok().next_input is None
    assert console.run("x.text, x.replayed").ok().shown == "('Answer 3 to: Why?', False)"
    assert desk.prompts(ID) == ["Why?"] * 3
    assert kept(desk) == []


# -- Copilot.replay ---------------------------------------------------------------------------


def everything(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_only_asks_nobody_starts_nothing_and_stores_nothing(desk, notebook):
    ask(notebook, "Why?").ok()
    notebook.save()
    reloaded(notebook, notebook.restart)
    notebook.run("%config Copilot.replay = 'only'").ok()
    before = everything(desk.home)
    for result in notebook.run_all():
        result.ok()
    wrong = []
    for source in (
        "%%copilot\nWhy not?",
        "%copilot Why not?",
        "x = %copilot Why not?",
        "%%copilot --again\nWhy not?",
        "%%copilot --rewind\nWhy not?",
        "%%copilot --branch\nWhy not?",
        "%%copilot --branch only-branch\nWhy not?",
        "%%copilot --model scripted-2\nWhy?",
        "import copilot_jupyter; copilot_jupyter.ask('Why not?')",
    ):
        refused = notebook.run(source)
        said = two_lines(refused, "NotAnsweredError")
        assert "Why" in said
        assert refused.next_input is None
        if ID not in said:
            wrong.append(f"{source!r} names another session: {said}")
        if everything(desk.home) != before:
            wrong.append(f"{source!r} stored something")
            before = everything(desk.home)
    assert wrong == []
    assert len(desk.model.requests) == 1
    assert descendants(notebook.pid) == []
    status = notebook.run("%copilot_status").ok().shown
    assert f"{ID}, 1 turn" in status  # still bound to it


@pytest.mark.parametrize("source", ["%%copilot\nWhy?", "x = 1\n%copilot Why?"])
def test_only_names_the_cell_by_its_number(desk, source):
    run = desk.headless(env={"COPILOT_JUPYTER_REPLAY": "only"})
    run.run("1 + 1").ok()
    refused = run.run(source)
    assert f"In [{refused.execution_count}]" in two_lines(refused, "NotAnsweredError")


def test_only_in_a_notebook_without_a_conversation(desk):
    run = desk.headless(env={"COPILOT_JUPYTER_REPLAY": "only"})
    said = two_lines(ask(run, "Why?"), "NotAnsweredError")
    assert "'Why?'" in said
    assert desk.store.ids() == []
    assert desk.model.requests == []
    assert descendants(run.pid) == []


def test_never_asks_every_time_and_drops_nothing(desk, notebook):
    cell = ask(notebook, "Why?").ok().cell
    notebook.run("%config Copilot.replay = 'never'").ok()
    assert answer_of(notebook.run_cell(cell)) == "Answer 2 to: Why?"
    assert desk.prompts(ID) == ["Why?", "Why?"]  # nothing was edited: nothing is replaced
    assert kept(desk) == []


# -- asking anew ------------------------------------------------------------------------------


def test_again_asks_anew_and_leaves_the_source(desk, notebook):
    cell = ask(notebook, "Why?").ok().cell
    asked = notebook.run("%%copilot --into x --again\nWhy?", cell).ok()
    assert asked.next_input == "%%copilot --into x\nWhy?"
    assert (answer_of(asked), replayed(asked)) == ("Answer 2 to: Why?", False)
    assert desk.prompts(ID) == ["Why?", "Why?"]
    assert desk.model.requests[-1].answers == ["Answer 1 to: Why?"]
    assert kept(desk) == []
    second = notebook.run_cell(cell)
    assert (answer_of(second), replayed(second)) == ("Answer 2 to: Why?", True)
    [third] = run_again(notebook)
    assert answer_of(third) == "Answer 2 to: Why?"
    assert len(desk.model.requests) == 2
    line = notebook.run("x = %copilot --again Why?").ok()
    assert line.next_input == "x = %copilot Why?"
    assert len(desk.model.requests) == 3


def test_again_that_fails_stays_in_the_source(desk, notebook):
    cell = ask(notebook, "Why?").ok().cell
    desk.model.will(Reply(status=400))
    failed = notebook.run("%%copilot --again\nWhy?", cell)
    two_lines(failed)
    assert failed.next_input is None
    assert desk.prompts(ID) == ["Why?"]


def test_again_leaves_every_line_of_a_cell(desk, notebook):
    cell = notebook.run("%copilot --again A\nif True:\n    %copilot --again B").ok().cell
    assert cell.source == "%copilot A\nif True:\n    %copilot B"
    assert "Answer 2 to: B" in notebook.run_cell(cell).ok().shown
    assert len(desk.model.requests) == 2


@pytest.mark.campaign
def test_again_has_no_room_for_a_cell_and_the_model_is_told(desk):
    """The page takes one text a reply: where no extension inserts, the flag's end is that."""
    notebook = desk.notebook(env={"COPILOT_JUPYTER_ALLOW": "insert_cell"})
    notebook.run(BIND).ok()
    insert = Reply(tool="insert_cell", arguments=json.dumps({"source": "x = 1"}))
    desk.model.will(insert, "So.")
    asked = notebook.run("%%copilot --again\nWrite").ok()
    assert asked.cell.source == "%%copilot\nWrite"
    [told] = [m["content"] for m in desk.model.requests[-1].messages if m["role"] == "tool"]
    assert "cannot insert" in told
    assert "show it in your answer" in told


@pytest.mark.campaign
def test_a_call_that_failed_leaves_its_place_to_the_next(desk, notebook):
    desk.model.will(Reply(status=400))
    source = (
        "from copilot_jupyter import CopilotError, ask\n"
        "try:\n    answer = ask('Why?')\nexcept CopilotError:\n    answer = ask('Why?')\n"
        "print(answer.text, answer.replayed)"
    )
    cell = notebook.run(source).ok().cell
    assert cell.outputs[-1]["text"] == "Answer 2 to: Why? False\n"
    assert notebook.run_cell(cell).ok().stdout == "Answer 2 to: Why? True\n"
    assert len(desk.model.requests) == 2


@pytest.mark.campaign
def test_again_with_nobody_there_asks_once(desk):
    for number in range(3):
        run = desk.headless()
        run.run(BIND).ok()
        assert answer_of(ask(run, "Why?")) == "Answer 1 to: Why?"
        flagged = run.run("%%copilot --again\nWhy?")
        assert (answer_of(flagged), replayed(flagged)) == ("Answer 2 to: Why?", number > 0)
        run.shutdown()
    assert len(desk.model.requests) == 2


def test_with_nobody_there_no_source_is_rewritten(desk):
    """No payloads, where the notebook is run by a program: design 2.4."""
    run = desk.headless()
    for source in (f"%copilot_new {ID}", "%%copilot\nWhy?", "%%copilot --again\nWhy?",
                   "%%copilot --rewind\nWhy?", "%%copilot --branch\nWhy?"):  # fmt: skip
        assert run.run(source).ok().payloads == [], source


# -- a prompt that is edited ------------------------------------------------------------------


def test_the_last_turn_is_replaced_by_its_edited_prompt(desk, notebook):
    ask(notebook, "first").ok()
    cell = ask(notebook, "Why?").ok().cell
    before = journal(desk)
    edited = notebook.run("%%copilot\nWhy, really?", cell)
    assert answer_of(edited) == "Answer 3 to: Why, really?"
    assert desk.prompts(ID) == ["first", "Why, really?"]
    assert desk.model.requests[-1].prompts == ["first", "Why, really?"]
    assert desk.model.requests[-1].answers == ["Answer 1 to: first"]
    [copy] = kept(desk)
    [said] = remarks_of(edited)
    assert copy in said
    assert "%copilot_undo" in said
    assert desk.prompts(copy) == ["first", "Why?"]
    assert notebook.run("%copilot_undo").ok().status == "ok"
    assert journal(desk) == before
    back = notebook.run("%%copilot\nWhy?", cell)
    assert (answer_of(back), replayed(back)) == ("Answer 2 to: Why?", True)
    assert len(desk.model.requests) == 3
    ask(notebook, "and on").ok()
    assert desk.model.requests[-1].prompts == ["first", "Why?", "and on"]


def test_the_only_turn_is_replaced_after_a_restart(desk, notebook):
    cell = ask(notebook, "Why?").ok().cell
    notebook.save()
    reloaded(notebook, notebook.restart)
    edited = notebook.run("%%copilot\nWhy, really?", cell).ok()
    assert desk.prompts(ID) == ["Why, really?"]
    assert desk.model.requests[-1].prompts == ["Why, really?"]
    assert binding(edited)["turn"] == 1
    [again] = run_again(notebook)
    assert answer_of(again) == "Answer 2 to: Why, really?"


def test_an_edited_line_or_call_replaces_nothing(desk, notebook):
    cell = notebook.run("x = %copilot Why?").ok().cell
    notebook.run("x = %copilot Why, really?", cell).ok()
    assert desk.prompts(ID) == ["Why?", "Why, really?"]
    assert kept(desk) == []


def test_an_earlier_prompt_that_is_edited_is_asked_at_the_end(desk, notebook):
    cell = ask(notebook, "Why?").ok().cell
    for prompt in ("second", "third"):
        ask(notebook, prompt).ok()
    edited = notebook.run("%%copilot\nWhy, really?", cell)
    [said] = remarks_of(edited)
    assert "\n" not in said
    for word in ("turn 4", "turn 1", "turns 2 to 3", "--rewind", "--branch"):
        assert word in said
    assert desk.prompts(ID) == ["Why?", "second", "third", "Why, really?"]
    assert kept(desk) == []
    results = run_again(notebook)
    assert [answer_of(r)[:8] for r in results] == ["Answer 4", "Answer 2", "Answer 3"]
    assert [remarks_of(r) for r in results] == [[], [], []]
    back = notebook.run("%%copilot\nWhy?", cell)  # the old wording has its answer still
    assert (answer_of(back), replayed(back)) == ("Answer 1 to: Why?", True)
    assert len(desk.model.requests) == 4


def test_an_edited_prompt_that_fails_leaves_the_old_turn(desk, notebook):
    ask(notebook, "first").ok()
    cell = ask(notebook, "Why?").ok().cell
    before = journal(desk)
    desk.model.will(Reply(status=400))
    two_lines(notebook.run("%%copilot\nWhy, really?", cell))
    assert journal(desk) == before
    assert kept(desk) == []

    desk.model.will(Reply("slowly " * 400, chunk=8, pause=0.05))
    stopped = notebook.start("%%copilot\nWhy, really?", cell)
    notebook.wait_for_text("slowly", stopped)
    pressed_stop(notebook, stopped)
    two_lines(stopped, "TurnInterrupted")
    notebook.run("%copilot_release").ok()  # whatever the button did not wait for is done
    assert journal(desk) == before
    assert kept(desk) == []

    back = notebook.run("%%copilot\nWhy?", cell)
    assert (answer_of(back), replayed(back)) == ("Answer 2 to: Why?", True)
    ask(notebook, "and on").ok()
    assert desk.model.requests[-1].prompts == ["first", "Why?", "and on"]


def killed_in_the_middle(desk, notebook, cell):
    """Kill the kernel when the old turn is out and the new answer has not come."""
    desk.model.will(Reply(hang=True))
    count = len(desk.model.requests)
    notebook.start("%%copilot\nWhy, really?", cell)
    desk.model.wait_for(count + 1)
    assert "Why?" not in desk.prompts(ID)
    notebook.kill9()
    desk.model.forget()
    reloaded(notebook, notebook.start_again)


@pytest.mark.parametrize("before", [[], ["first"]], ids=["the only turn", "the last turn"])
def test_a_kernel_that_dies_while_a_turn_is_replaced_loses_nothing(desk, notebook, before):
    for prompt in before:
        ask(notebook, prompt).ok()
    cell = ask(notebook, "Why?").ok().cell
    notebook.save()
    turns = journal(desk)
    killed_in_the_middle(desk, notebook, cell)
    on = ask(notebook, "and on")
    assert desk.model.requests[-1].prompts == [*before, "Why?", "and on"]
    assert desk.prompts(ID) == [*before, "Why?", "and on"]
    assert journal(desk)[: len(turns)] == turns
    assert kept(desk) == []
    [said] = [line for line in remarks_of(on) if "replaced" in line]
    assert ID in said


def test_after_such_a_death_the_edited_cell_replaces_its_turn(desk, notebook):
    ask(notebook, "first").ok()
    cell = ask(notebook, "Why?").ok().cell
    notebook.save()
    killed_in_the_middle(desk, notebook, cell)
    notebook.run_cell(cell).ok()
    assert desk.prompts(ID) == ["first", "Why, really?"]
    [copy] = kept(desk)
    assert desk.prompts(copy) == ["first", "Why?"]


def test_after_such_a_death_the_old_prompt_is_not_asked_twice(desk, notebook):
    cell = ask(notebook, "Why?").ok().cell
    notebook.save()
    killed_in_the_middle(desk, notebook, cell)
    back = notebook.run("%%copilot\nWhy?", cell)
    assert answer_of(back) == "Answer 1 to: Why?"
    assert desk.model.requests == []
    assert json.dumps(desk.prompts(ID)) == '["Why?"]'
