"""A notebook executed by nbclient, as papermill, nbconvert and CI do: nobody watches or answers."""

from __future__ import annotations

import os

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from scripted_model import Reply

from copilot_jupyter.conversation import transcript
from copilot_jupyter.state.store import Store

FIRST = "Let's discuss TypeScript generics"
SECOND = "What were we discussing?"
DEMO = (
    "%load_ext copilot_jupyter",
    "%copilot_resume demo --create",
    f"%%copilot\n{FIRST}",
    f"%%copilot\n{SECOND}",
)


@pytest.fixture
def execute(home, model, tmp_path):
    """Execute a notebook of some cells; return it with its outputs."""

    def run(*sources, fails=False, **env):
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        notebook = nbformat.v4.new_notebook(cells=cells)
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=60,
            resources={"metadata": {"path": str(tmp_path)}},
        )
        settings = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython"), **env}
        if fails:
            with pytest.raises(CellExecutionError) as failure:
                client.execute(env=settings)
            notebook.metadata["failure"] = str(failure.value)
        else:
            client.execute(env=settings)
        nbformat.validate(notebook)
        return notebook

    return run


def prompts(home):
    return [turn.prompt for turn in transcript.turns(Store(home).journal("demo").events)]


def test_a_notebook_runs_and_every_answer_is_one_display(execute, model, home):
    model.will(Reply("An answer that comes in pieces", chunk=3, pause=0.02))
    notebook = execute(*DEMO)
    load, bound, first, second = (cell.outputs for cell in notebook.cells)
    assert load == []
    for outputs in (bound, first, second):
        [output] = outputs
        assert output.output_type == "display_data"
        assert set(output.data) <= {"text/plain", "text/html"}  # no widget, nothing that runs
        assert output.metadata["copilot_jupyter"]["session"] == "demo"
    assert first[0].data["text/plain"] == "An answer that comes in pieces"
    assert second[0].data["text/plain"] == f"Answer 2 to: {SECOND}"
    assert [o[0].metadata["copilot_jupyter"]["turn"] for o in (first, second)] == [1, 2]
    assert "widgets" not in notebook.metadata
    assert [cell.source for cell in notebook.cells] == list(DEMO)
    assert model.requests[-1].prompts == [FIRST, SECOND]
    assert prompts(home) == [FIRST, SECOND]

    later = execute(*DEMO[:2], "%%copilot\nAnd what else?")  # another notebook, the same line
    assert model.requests[-1].prompts == [FIRST, SECOND, "And what else?"]
    assert later.cells[-1].outputs[0].metadata["copilot_jupyter"]["turn"] == 3


def test_an_error_stops_the_execution_in_two_lines(execute, model, home):
    model.will(Reply(status=400))
    notebook = execute(*DEMO, "reached = True", fails=True)
    [error] = notebook.cells[2].outputs
    assert (error.output_type, error.ename) == ("error", "ProviderError")
    assert len("\n".join(error.traceback).strip().splitlines()) <= 2
    assert [cell.outputs for cell in notebook.cells[3:]] == [[], []]
    assert notebook.cells[4].execution_count is None
    assert "400" in notebook.metadata["failure"]
    assert prompts(home) == []  # the next run asks as if nothing had been


def test_a_missing_session_fails_the_run(execute, model):
    notebook = execute(DEMO[0], "%copilot_resume demo", *DEMO[2:], fails=True)
    assert "no session named demo" in notebook.metadata["failure"]
    assert model.requests == []


def test_the_settings_come_from_the_environment(execute, model):
    execute(*DEMO[:3], COPILOT_JUPYTER_MODEL="scripted-2")
    assert model.requests[-1].body["model"] == "scripted-2"
