"""Restart and Run All: no request, no new turn, the same answers, and the conversation goes on."""

from __future__ import annotations

import pytest
from desk import ask, reloaded
from drivers import descendants

PROMPTS = ("continue", "What is a generic?", "continue", "Show {braces} and\ttabs?", "continue")


def answered(notebook, *prompts):
    """Ask in a cell each; return what the cells showed."""
    return [ask(notebook, prompt).ok() for prompt in prompts]


def shown(results):
    """Data of the answers of some cells, whatever else they show."""
    return [[o["data"] for o in r.displays if "turn" in str(o["metadata"])] for r in results]


def session_prompts(request):
    return [prompt.rpartition("</current_datetime>")[2].strip() for prompt in request.prompts]


@pytest.mark.campaign
def test_ten_times_run_all_asks_nothing_and_changes_nothing(desk):
    notebook = desk.notebook()
    notebook.run("%copilot_resume many --create").ok()
    before = shown(answered(notebook, *PROMPTS))
    notebook.save()
    journal = desk.store.journal_path("many").read_bytes()
    for _ in range(10):
        reloaded(notebook, notebook.restart)
        requests = len(desk.model.requests)
        results = [r.ok() for r in notebook.run_all()]
        assert len(desk.model.requests) == requests
        assert shown(r for r in results if r.cell.source.startswith("%%copilot")) == before
        assert descendants(notebook.pid) == []
        assert not list((desk.store.ours / "locks").glob("*.json"))
        assert desk.store.journal_path("many").read_bytes()[: len(journal)] == journal
    assert len(desk.turns("many")) == len(PROMPTS)


def test_after_run_all_a_new_prompt_gets_all_turns_in_order(desk):
    notebook = desk.notebook()
    notebook.run("%copilot_resume many --create").ok()
    answered(notebook, *PROMPTS)
    notebook.save()
    reloaded(notebook, notebook.restart)
    notebook.run_all()
    ask(notebook, "And now?").ok()
    assert session_prompts(desk.model.requests[-1]) == [*PROMPTS, "And now?"]
    notebook.run("%copilot_release").ok()
    [side] = (desk.store.folder("many") / "files").glob("*.jsonl")
    side.unlink()
    other = desk.headless()
    other.run("%copilot_resume many").ok()
    requests = len(desk.model.requests)
    for prompt in (*PROMPTS, "And now?"):
        ask(other, prompt).ok()
    assert len(desk.model.requests) == requests
    ask(other, "One more").ok()
    assert session_prompts(desk.model.requests[-1]) == [*PROMPTS, "And now?", "One more"]
    assert len(desk.turns("many")) == len(PROMPTS) + 2
