"""Taking turns out, branching, and bringing all of it back: nothing is lost, all of it is said."""

from __future__ import annotations

import json
import re

import pytest
from desk import ask, binding, pressed_stop, reloaded, session_of, two_lines
from scripted_model import Reply

ID = "rewound"
BIND = f"%copilot_resume {ID} --create"
PROMPTS = ["first", "second", "third"]


@pytest.fixture
def notebook(desk):
    """A notebook of three turns, each asked in a cell of its own."""
    kernel = desk.notebook()
    kernel.run(BIND).ok()
    kernel.asked = [ask(kernel, prompt).ok().cell for prompt in PROMPTS]
    desk.model.forget()
    return kernel


def kept(desk, session=ID):
    return [found for found in desk.store.ids() if found.startswith(f"{session}-kept")]


def everything(desk):
    """All turns of all sessions."""
    return {session: desk.turns(session) for session in desk.store.ids()}


def asked(desk):
    """The prompts of the newest request to the model."""
    return desk.model.requests[-1].prompts


def named(text, desk):
    """The kept copies that a line names."""
    return [found for found in kept(desk) if re.search(rf"{found}\b(?!-)", text)]


# -- %%copilot --rewind -----------------------------------------------------------------------


def test_rewind_takes_the_turn_and_what_followed_out_and_asks(desk, notebook):
    whole = desk.turns(ID)
    cell = notebook.asked[1]
    result = notebook.run("%%copilot --rewind\nsecond", cell).ok()
    assert result.next_input == "%%copilot\nsecond"
    assert asked(desk) == ["first", "second"]
    assert desk.prompts(ID) == ["first", "second"]
    assert binding(result)["turn"] == 2
    [copy] = kept(desk)
    assert named(result.shown, desk) == [copy]
    assert "%copilot_undo" in result.shown
    assert desk.turns(copy) == whole
    [answer] = [o["data"] for o in result.displays if o["metadata"]]
    assert [o["data"] for o in notebook.run_cell(cell).ok().displays] == [answer]
    assert len(desk.model.requests) == 1
    notebook.run("%copilot_undo").ok()
    assert desk.turns(ID) == whole


def test_rewind_with_an_edited_prompt_drops_the_cells_own_turn(desk, notebook):
    notebook.run("%%copilot --rewind\nsecond, reworded", notebook.asked[1]).ok()
    assert desk.prompts(ID) == ["first", "second, reworded"]
    assert asked(desk) == ["first", "second, reworded"]


def test_rewind_in_a_cell_that_never_asked_just_asks(desk, notebook):
    result = notebook.run("%%copilot --rewind\nfourth").ok()
    assert desk.prompts(ID) == [*PROMPTS, "fourth"]
    assert kept(desk) == []
    assert result.next_input == "%%copilot\nfourth"


def test_a_rewind_that_fails_drops_nothing(desk, notebook):
    whole = desk.turns(ID)
    desk.model.will(Reply(status=400))
    failed = notebook.run("%%copilot --rewind\nsecond", notebook.asked[1])
    two_lines(failed)
    assert failed.next_input is None
    assert everything(desk) == {ID: whole}
    ask(notebook, "fourth").ok()
    assert asked(desk) == [*PROMPTS, "fourth"]


# -- %%copilot --branch -----------------------------------------------------------------------


def test_branch_asks_in_a_branch_from_before_the_turn(desk, notebook):
    whole = desk.turns(ID)
    cell = notebook.asked[1]
    result = notebook.run("%%copilot --branch\nsecond, reworded", cell).ok()
    branch = session_of(result)
    assert branch != ID
    assert branch.startswith(ID)
    assert asked(desk) == ["first", "second, reworded"]
    assert desk.prompts(branch) == ["first", "second, reworded"]
    assert desk.turns(ID) == whole
    assert kept(desk) == []
    assert result.next_input.splitlines()[1] == "second, reworded"

    # The notebook goes on in the branch, after a restart too, and nothing is asked again.
    on = ask(notebook, "third").ok()
    notebook.cells.remove(notebook.asked[2])
    assert session_of(on) == branch
    notebook.save()
    reloaded(notebook, notebook.restart)
    desk.model.forget()
    notebook.cells.pop(1)  # the line that names the conversation that was left
    results = [r.ok() for r in notebook.run_all() if r.cell.source.startswith("%%copilot")]
    assert [session_of(r) for r in results] == [branch] * 3
    assert [r.next_input for r in results] == [None] * 3
    assert desk.model.requests == []
    ask(notebook, "fourth").ok()
    assert asked(desk) == ["first", "second, reworded", "third", "fourth"]
    assert desk.turns(ID) == whole


def test_after_a_branch_run_all_with_the_line_of_the_conversation_asks_nothing(desk, notebook):
    """The line above still names the conversation; the cell that branched comes behind it."""
    cell = notebook.asked[2]
    branch = session_of(notebook.run("%%copilot --branch\nthird, reworded", cell))
    notebook.save()
    for _ in range(2):
        reloaded(notebook, notebook.restart)
        desk.model.forget()
        results = [r.ok() for r in notebook.run_all() if r.cell.source.startswith("%%copilot")]
        assert session_of(results[-1]) == branch
        assert desk.model.requests == []
        notebook.save()
    assert sorted(desk.store.ids()) == sorted([ID, branch])
    assert session_of(ask(notebook, "fourth")) == branch
    assert asked(desk) == ["first", "second", "third, reworded", "fourth"]
    assert desk.prompts(ID) == PROMPTS


@pytest.mark.parametrize("written", ["--branch idea", "--branch=idea"])
def test_branch_with_an_id_of_ones_own(desk, notebook, written):
    cell = notebook.asked[1]
    result = notebook.run(f"%%copilot {written}\nsecond", cell).ok()
    assert session_of(result) == "idea"
    assert desk.prompts("idea") == ["first", "second"]
    assert desk.prompts(ID) == PROMPTS
    assert session_of(notebook.run_cell(cell)) == "idea"
    assert len(desk.model.requests) <= 1
    assert sorted(desk.store.ids()) == ["idea", ID]


def test_a_line_branches_too(desk, notebook):
    result = notebook.run("x = %copilot --branch=idea fourth").ok()
    assert notebook.run("x.session, x.turn").ok().shown == "('idea', 4)"
    assert result.next_input in (None, "x = %copilot --branch=idea fourth")
    assert desk.prompts("idea") == [*PROMPTS, "fourth"]
    assert desk.prompts(ID) == PROMPTS


def test_a_branch_that_fails_leaves_the_notebook_where_it_was(desk, notebook):
    whole = desk.turns(ID)
    desk.model.will(Reply(status=400))
    two_lines(notebook.run("%%copilot --branch\nsecond, reworded", notebook.asked[1]))
    assert desk.turns(ID) == whole
    assert session_of(ask(notebook, "fourth")) == ID
    assert desk.store.ids() == [ID]


@pytest.mark.campaign
def test_branch_with_nobody_there_makes_one_branch(desk):
    for _ in range(3):
        run = desk.headless()
        run.run(BIND).ok()
        ask(run, "first").ok()
        branch = session_of(run.run("%%copilot --branch\nfirst"))
        assert branch == f"{ID}-branch"
        assert session_of(ask(run, "and on")) == branch
        run.shutdown()
    assert len(desk.model.requests) in (2, 3)
    assert desk.prompts(branch) == ["first", "and on"]
    assert desk.prompts(ID) == ["first"]


@pytest.mark.parametrize("flags", ["--branch", "--branch idea", "--rewind", "--again"])
def test_a_flag_in_the_first_cell_of_a_notebook(desk, flags):
    kernel = desk.notebook()
    result = kernel.run(f"%%copilot {flags}\nfirst")
    if result.status == "error":  # a refusal says what to do, and leaves nothing
        two_lines(result)
        assert "There is no session" not in result.traceback
        assert desk.store.ids() == []
    else:
        assert len(desk.turns(session_of(result))) == 1
    ask(kernel, "second").ok()


# -- %copilot_rewind and %copilot_undo --------------------------------------------------------


@pytest.mark.parametrize(
    "turn",
    [1, pytest.param(2, marks=pytest.mark.campaign), pytest.param(3, marks=pytest.mark.campaign)],
)
def test_rewind_goes_back_to_before_a_turn(desk, notebook, turn):
    whole = desk.turns(ID)
    said = notebook.run(f"%copilot_rewind {turn}").ok().shown
    assert len(said.splitlines()) == 1
    assert desk.turns(ID) == whole[: turn - 1]
    assert named(said, desk) == kept(desk)
    assert len(kept(desk)) == 1
    ask(notebook, "on").ok()
    assert asked(desk) == [*PROMPTS[: turn - 1], "on"]
    assert desk.prompts(ID) == [*PROMPTS[: turn - 1], "on"]


@pytest.mark.campaign
def test_rewind_counts_a_turn_that_was_stopped(desk):
    notebook = desk.notebook(env={"COPILOT_JUPYTER_ALLOW": "run_python"})
    notebook.run(BIND).ok()
    ask(notebook, "first").ok()
    code = json.dumps({"code": "print('begun')\nimport time\ntime.sleep(60)"})
    desk.model.will(Reply(tool="run_python", arguments=code))
    result = notebook.start("%%copilot\nsecond")
    notebook.wait_for_text("begun", result)
    pressed_stop(notebook, result)
    assert notebook.run("%copilot_rewind 2").ok().shown.startswith(f"Took turn 2 out of {ID}.")
    notebook.run("%copilot_undo").ok()
    assert notebook.run("%copilot_rewind 1").ok().shown.startswith("Took turns 1 to 2 out of")


def test_cells_whose_turns_were_taken_out_ask_again(desk, notebook):
    notebook.run("%copilot_rewind 2").ok()
    for cell in notebook.asked:
        notebook.run_cell(cell).ok()
    assert [request.prompts[-1] for request in desk.model.requests] == ["second", "third"]
    assert desk.prompts(ID) == PROMPTS


def test_undo_brings_back_step_by_step(desk, notebook):
    whole = desk.turns(ID)
    notebook.run("%copilot_rewind 3").ok()
    notebook.run("%copilot_rewind 2").ok()
    assert desk.turns(ID) == whole[:1]
    assert len(kept(desk)) == 2
    notebook.run("%copilot_undo").ok()
    assert desk.turns(ID) == whole[:2]
    notebook.run("%copilot_undo").ok()
    assert desk.turns(ID) == whole
    assert kept(desk) == []
    last = notebook.run("%copilot_undo").ok().shown
    assert last == "There is nothing to undo."
    assert desk.turns(ID) == whole
    for cell in notebook.asked:
        notebook.run_cell(cell).ok()
    assert desk.model.requests == []
    ask(notebook, "fourth").ok()
    assert asked(desk) == [*PROMPTS, "fourth"]


def test_undo_after_a_restart(desk, notebook):
    whole = desk.turns(ID)
    notebook.run("%copilot_rewind 2").ok()
    notebook.save()
    reloaded(notebook, notebook.restart)
    assert desk.prompts(ID) == ["first"]  # what the saved outputs carry does not come back
    notebook.run(BIND).ok()
    assert desk.prompts(ID) == ["first"]
    notebook.run("%copilot_undo").ok()
    assert desk.turns(ID) == whole


def test_undo_keeps_what_was_asked_since_and_names_it(desk, notebook):
    whole = desk.turns(ID)
    notebook.run("%copilot_rewind 2").ok()
    ask(notebook, "another way").ok()
    since = desk.turns(ID)
    said = notebook.run("%copilot_undo").ok().shown
    assert desk.turns(ID) == whole
    [current] = kept(desk)
    assert named(said, desk) == [current]
    assert desk.turns(current) == since
    notebook.run("%copilot_undo").ok()  # no further step: what was undone is not redone
    assert desk.turns(ID) == whole
    assert desk.turns(current) == since
    ask(notebook, "fourth").ok()
    assert asked(desk) == [*PROMPTS, "fourth"]


def test_undo_takes_back_replaced_turns_and_rewinds_in_turn(desk, notebook):
    whole = desk.turns(ID)
    notebook.run("%%copilot\nthird, reworded", notebook.asked[2]).ok()
    replaced = desk.turns(ID)
    notebook.run("%copilot_rewind 1").ok()
    assert desk.turns(ID) == []
    notebook.run("%copilot_undo").ok()
    assert desk.turns(ID) == replaced
    notebook.run("%copilot_undo").ok()
    assert desk.turns(ID) == whole


@pytest.mark.campaign
def test_undo_and_rewind_while_the_session_is_held_elsewhere(desk, notebook):
    notebook.run("%copilot_rewind 3").ok()
    before = everything(desk)
    other = desk.notebook("Other.ipynb")
    other.run(f"%copilot_resume {ID}").ok()
    ask(other, "mine now").ok()
    held = everything(desk)
    assert held != before
    for line in ("%copilot_rewind 1", "%copilot_undo"):
        said = two_lines(notebook.run(line), "SessionInUseError")
        assert "Other.ipynb" in said
    assert everything(desk) == held


# -- %copilot_fork ----------------------------------------------------------------------------


def test_fork_binds_to_a_copy_and_the_line_says_so(desk, notebook):
    whole = desk.turns(ID)
    result = notebook.run("%copilot_fork").ok()
    branch = binding(result)["session"]
    assert branch != ID
    assert result.cell.source == f"%copilot_resume {branch}"
    assert desk.turns(branch) == whole
    assert session_of(ask(notebook, "fourth")) == branch
    assert asked(desk) == [*PROMPTS, "fourth"]
    assert desk.turns(ID) == whole
    assert notebook.run_cell(notebook.asked[0]).ok().status == "ok"  # its copied turn answers
    assert len(desk.model.requests) == 1


@pytest.mark.parametrize("line", ["idea --at 1", "--at 2 idea", "idea --at=3"])
def test_fork_at_a_turn_has_the_turns_up_to_it(desk, notebook, line):
    at = int(line.replace("idea", "").strip()[-1])
    result = notebook.run(f"%copilot_fork {line}").ok()
    assert result.cell.source == "%copilot_resume idea"
    assert desk.prompts("idea") == PROMPTS[:at]
    ask(notebook, "on").ok()
    assert asked(desk) == [*PROMPTS[:at], "on"]
    assert desk.prompts(ID) == PROMPTS


@pytest.mark.campaign
def test_fork_with_nobody_there_needs_an_id_and_makes_one_branch(desk, notebook):
    notebook.run("%copilot_release").ok()
    for number in range(3):
        run = desk.headless()
        run.run(BIND).ok()
        before = everything(desk)
        said = two_lines(run.run("%copilot_fork"), "BadInputError")
        assert f"Write %copilot_fork ID, such as {ID}-branch." in said
        assert everything(desk) == before
        for _ in range(2):
            result = run.run("%copilot_fork idea --at 2").ok()
            assert binding(result)["session"] == "idea"
            run.run(BIND).ok()
        run.run("%copilot_fork idea --at 2").ok()
        assert session_of(ask(run, "on")) == "idea"
        assert desk.prompts("idea") == ["first", "second", "on"]
        assert len(desk.model.requests) == 1, number
        run.shutdown()
    assert sorted(desk.store.ids()) == ["idea", ID]


# -- bad input --------------------------------------------------------------------------------

REFUSED = [
    "%copilot_rewind",
    "%copilot_rewind 0",
    "%copilot_rewind 4",
    "%copilot_rewind -1",
    "%copilot_rewind 1.5",
    "%copilot_rewind two",
    "%copilot_rewind 1 2",
    "%copilot_rewind 99999999999999999999",
    "%copilot_rewind --at 1",
    "%copilot_undo now",
    "%copilot_undo --all",
    "%copilot_fork a b",
    "%copilot_fork a/b",
    "%copilot_fork ''",
    "%copilot_fork taken",
    "%copilot_fork --at",
    "%copilot_fork --at 0",
    "%copilot_fork --at 4",
    "%copilot_fork --at 1.5",
    "%copilot_fork --at two",
    "%copilot_fork idea --at inf",
    "%copilot_fork --turn 1",
    "%%copilot --rewind --branch\nsecond",
    "%%copilot --again --rewind\nsecond",
    "%%copilot --rewind 2\nsecond",
    "%%copilot --rewind=2\nsecond",
    "%%copilot --rewind\n ",
    "%%copilot --branch\n ",
    "%%copilot --branch a b\nsecond",
    "%%copilot --branch a/b\nsecond",
    "%%copilot --branch=\nsecond",
    "%%copilot --branch taken\nsecond",
    "%copilot --branch=a/b second",
    "%copilot --rewind",
]


def test_bad_input_is_refused_in_two_lines_and_changes_nothing(desk, notebook):
    desk.store.fork(ID, "taken")  # by a session that is no branch of this notebook's
    before = everything(desk)
    wrong = []
    for source in REFUSED:
        result = notebook.run(source)
        if result.status != "error":
            wrong.append(f"{source!r} was taken: {result.shown}")
            continue
        two_lines(result)
        if result.next_input is not None or everything(desk) != before:
            wrong.append(f"{source!r} changed something")
        if ID not in notebook.run("%copilot_status").ok().shown:
            wrong.append(f"{source!r} left the notebook elsewhere")
            notebook.run(BIND).ok()
    assert wrong == []
    assert desk.model.requests == []
    assert session_of(ask(notebook, "fourth")) == ID


def test_a_notebook_without_a_conversation_has_nothing_to_take_back(desk):
    kernel = desk.notebook()
    for line in ("%copilot_rewind 1", "%copilot_fork", "%copilot_fork idea"):
        assert "no conversation yet" in two_lines(kernel.run(line), "BadInputError")
    assert kernel.run("%copilot_undo").ok().shown == "There is nothing to undo."
    assert desk.store.ids() == []


# -- kept copies ------------------------------------------------------------------------------


def test_kept_copies_are_listed_with_all_only(desk, notebook):
    notebook.run("%copilot_rewind 2").ok()
    [copy] = kept(desk)
    for line in ("%copilot_sessions", f"%copilot_sessions {ID}"):
        shown = notebook.run(line).ok().shown
        assert ID in shown
        assert copy not in shown
    assert copy in notebook.run("%copilot_sessions --all").ok().shown
    assert "third" in notebook.run(f"%copilot_history {copy}").ok().shown


def test_kept_copies_go_when_their_conversation_is_deleted(desk, notebook):
    notebook.run("%copilot_rewind 3").ok()
    ask(notebook, "another way").ok()
    notebook.run("%copilot_undo").ok()
    notebook.run("%copilot_rewind 1").ok()
    assert len(kept(desk)) == 2
    notebook.run(f"%copilot_delete {ID} --yes").ok()
    assert desk.store.ids() == []


def test_kept_copies_go_with_cleanup_and_come_back_with_undo(desk, notebook):
    whole = desk.turns(ID)
    notebook.run("%copilot_rewind 2").ok()
    [copy] = kept(desk)
    notebook.shutdown()
    other = desk.notebook("Other.ipynb")
    shown = other.run("%copilot_cleanup --older-than 0m --bound --yes").ok().shown
    assert ID in shown
    assert copy not in shown.splitlines()[-1]
    assert desk.store.ids() == []
    other.run("%copilot_undo").ok()
    assert sorted(desk.store.ids()) == [ID, copy]
    other.run(f"%copilot_resume {ID}").ok()
    other.run("%copilot_undo").ok()
    assert desk.turns(ID) == whole


def test_cleanup_leaves_the_kept_copies_of_a_conversation_that_stays(desk, notebook):
    """Otherwise the notebook that exists, and its undo, lose what cleanup promised to leave."""
    whole = desk.turns(ID)
    notebook.save()
    notebook.run("%copilot_rewind 2").ok()
    other = desk.notebook("Other.ipynb")
    for run in (other, notebook):
        run.run("%copilot_cleanup --older-than 0m --yes").ok()
        assert len(kept(desk)) == 1
    notebook.run("%copilot_undo").ok()
    assert desk.turns(ID) == whole
