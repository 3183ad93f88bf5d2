"""The conversation is there after the kernel's restart: the promise of the package."""

from __future__ import annotations

import pytest
from desk import ask, binding, reloaded, session_of, two_lines

FIRST = "Let's discuss TypeScript generics"
ANSWER = f"Answer 1 to: {FIRST}"
SECOND = "What were we discussing?"


def killed(kernel):
    kernel.kill9()
    kernel.start_again()


@pytest.mark.parametrize(
    ("saved", "cell_ids"),
    [
        pytest.param(True, True, id="saved, with cell ids"),
        pytest.param(False, False, id="never saved, without cell ids", marks=pytest.mark.campaign),
    ],
)
def test_the_model_hears_the_first_exchange_after_every_kind_of_restart(desk, saved, cell_ids):
    notebook = desk.notebook(cell_ids=cell_ids)
    session = session_of(ask(notebook, FIRST))
    ways = [notebook.restart, lambda: notebook.restart(now=True), lambda: killed(notebook)]
    for count, restart in enumerate(ways, start=2):
        if saved:
            notebook.save()
        reloaded(notebook, restart)
        prompt = f"{SECOND} ({count})"
        asked = ask(notebook, prompt)
        assert session_of(asked) == session
        assert asked.shown == f"Answer {count} to: {prompt}"  # the answer, and no line beside it
        assert desk.model.requests[-1].prompts[0] == FIRST
        assert desk.model.requests[-1].prompts[-1] == prompt
        assert desk.model.requests[-1].answers[0] == ANSWER
        assert binding(asked)["turn"] == count
    assert desk.prompts(session) == [FIRST, *(f"{SECOND} ({n})" for n in (2, 3, 4))]
    assert desk.store.ids() == [session]


def test_a_new_kernel_finds_the_session_in_the_saved_file(desk):
    notebook = desk.notebook()
    session = session_of(ask(notebook, FIRST))
    notebook.save()
    notebook.shutdown()
    again = desk.notebook()
    assert [cell.source for cell in again.cells][1] == f"%%copilot\n{FIRST}"
    assert session_of(ask(again, SECOND)) == session
    assert desk.model.requests[-1].prompts == [FIRST, SECOND]
    assert desk.model.requests[-1].answers == [ANSWER]


def test_a_notebook_never_saved_is_known_by_its_path_and_a_prompt(desk):
    notebook = desk.notebook()
    session = session_of(ask(notebook, FIRST))
    notebook.shutdown()  # another kernel id from here on, and no file
    again = desk.notebook()
    assert session_of(ask(again, FIRST)) == session
    assert desk.only_session() == session


@pytest.mark.campaign
def test_a_new_notebook_at_the_path_of_a_deleted_one_begins_anew(desk):
    notebook = desk.notebook()
    old = session_of(ask(notebook, FIRST))
    path = notebook.save()
    notebook.shutdown()
    path.unlink()

    new = desk.notebook()
    for source in (f"%%copilot\n{FIRST}?!", "%copilot Another"):
        new.add(source)
    new.save()
    asked = ask(new, SECOND)
    assert session_of(asked) != old
    assert desk.model.requests[-1].prompts == [SECOND]
    said = asked.shown.splitlines()[0]
    assert f"%copilot_resume {old}" in said
    assert desk.prompts(old) == [FIRST]  # nothing of it is gone
    reloaded(new, new.restart)  # and from here on the new one is found
    assert session_of(ask(new, "And now?")) == session_of(asked)

    new.shutdown()
    new.path.unlink(missing_ok=True)
    third = ask(desk.notebook(), "A third notebook at this path")
    assert session_of(third) not in (old, session_of(asked))
    assert desk.model.requests[-1].prompts == ["A third notebook at this path"]


@pytest.mark.campaign
def test_an_id_of_ones_own_is_in_the_notebook_and_resumes(desk):
    notebook = desk.notebook()
    line = notebook.run("%copilot_new user-123-conversation").ok().cell
    assert line.source == "%copilot_resume user-123-conversation"
    reloaded(notebook, notebook.restart)  # no prompt so far, and it is there
    again = notebook.run("%copilot_new user-123-conversation").ok()
    assert again.shown == "Bound to user-123-conversation."
    ask(notebook, FIRST).ok()
    reloaded(notebook, notebook.restart)
    bound = notebook.run_cell(line).ok()
    assert bound.shown == "Bound to user-123-conversation."
    assert bound.next_input is None
    assert session_of(ask(notebook, SECOND)) == "user-123-conversation"
    assert desk.model.requests[-1].prompts == [FIRST, SECOND]


def test_one_line_serves_the_first_run_and_every_later_one(desk):
    notebook = desk.notebook()
    line = notebook.run("%copilot_resume demo --create").ok()
    assert (line.shown, line.next_input) == ("Bound to demo.", None)
    ask(notebook, FIRST).ok()
    reloaded(notebook, notebook.restart)
    again = notebook.run_cell(line.cell).ok()
    assert again.shown == "Bound to demo."
    assert again.cell.source == "%copilot_resume demo --create"
    ask(notebook, SECOND).ok()
    assert desk.model.requests[-1].answers == [ANSWER]


def test_headless_runs_are_found_by_the_visible_line(desk):
    for count, prompt in enumerate([FIRST, SECOND], start=1):
        run = desk.headless()
        run.run("%copilot_resume demo --create").ok()
        assert session_of(ask(run, prompt)) == "demo"
        assert len(desk.turns("demo")) == count
        run.shutdown()
    assert desk.model.requests[-1].prompts == [FIRST, SECOND]
    assert desk.only_session() == "demo"


def test_a_line_without_create_names_the_missing_session(desk):
    run = desk.headless()
    said = two_lines(run.run("%copilot_resume demo"), "SessionNotFoundError")
    assert said.splitlines()[0] == "There is no session named demo."
    assert "%copilot_resume demo --create" in said


def test_headless_without_any_identity_says_that_it_will_not_be_found(desk):
    run = desk.headless()
    asked = ask(run, FIRST)
    session = session_of(asked)
    said, answer = (output["data"]["text/plain"] for output in asked.displays)
    assert "\n" not in said
    assert "will not be found again" in said
    assert f"%copilot_resume {session} --create" in said
    assert answer == ANSWER
    assert ask(run, SECOND).ok().shown == f"Answer 2 to: {SECOND}"  # it is said once
    assert desk.model.requests[-1].prompts == [FIRST, SECOND]


@pytest.mark.campaign
def test_a_console_kernel_without_a_notebook_survives_its_restart(desk):
    console = desk.notebook(None, cell_ids=False)
    session = session_of(ask(console, FIRST))
    reloaded(console, console.restart)
    assert session_of(ask(console, SECOND)) == session
    assert desk.model.requests[-1].prompts == [FIRST, SECOND]
