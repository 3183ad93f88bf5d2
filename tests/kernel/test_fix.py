"""``%copilot_fix``: what the model gets of an error, and what becomes of its answer."""

from __future__ import annotations

import pytest
from desk import ask, reloaded, two_lines

FIXED = "The divisor is zero.\n\n```python\ndef share(n):\n    return 1 / max(n, 1)\nshare(0)\n```"
FAILS = "def share(n):\n    part = 'abc'\n    return 1 / n\nshare(0)"


@pytest.fixture
def notebook(desk):
    return desk.notebook()


def test_the_last_error_is_told_with_its_frame_and_a_cell_is_offered(desk, notebook):
    notebook.run(FAILS).failed("ZeroDivisionError")
    desk.model.will(FIXED)
    result = notebook.run("%copilot_fix").ok()
    [prompt] = desk.model.requests[0].prompts
    assert prompt.startswith("Fix this cell: ZeroDivisionError: division by zero\n\n```python\ndef")
    assert "return 1 / n" in prompt
    assert "n: int" in prompt
    assert "'abc'" in prompt
    assert desk.model.requests[0].tools == []
    assert result.next_input == FIXED.partition("```python\n")[2].removesuffix("\n```")
    assert "-    return 1 / n\n+    return 1 / max(n, 1)" in result.shown
    assert "The divisor is zero." in result.shown


def test_an_earlier_error_by_its_number_and_the_same_again_is_replayed(desk, notebook):
    first = notebook.run(FAILS).failed()
    notebook.run("{}['key']").failed("KeyError")
    number = first.cell.execution_count
    desk.model.will(FIXED, "Use get.")
    cell = notebook.run(f"%copilot_fix {number}").ok().cell
    assert "ZeroDivisionError" in desk.model.requests[0].prompts[-1]
    assert "'abc'" in desk.model.requests[0].prompts[-1]
    notebook.run("%copilot_fix").ok()
    assert "KeyError: 'key'" in desk.model.requests[1].prompts[-1]
    assert "The divisor" in notebook.run_cell(cell).ok().shown
    assert len(desk.model.requests) == 2


def test_without_an_error_it_says_so(desk, notebook):
    assert "No cell of this kernel has failed" in two_lines(notebook.run("%copilot_fix"))
    notebook.run("%%copilot --model\nx").failed()  # ours is no error of the person's code
    assert "No cell" in two_lines(notebook.run("%copilot_fix"))
    notebook.run("1/0").failed()
    assert "In [99]" in two_lines(notebook.run("%copilot_fix 99"))
    assert "takes the number of one cell" in two_lines(notebook.run("%copilot_fix that one"))
    assert desk.model.requests == []


def test_secrets_of_the_frame_stay_here(desk, notebook):
    notebook.run("token = 'ghp_' + 'a1B2' * 9\nraise ValueError(f'bad {token}')").failed()
    notebook.run("%copilot_fix").ok()
    assert "ghp_a1B2" not in desk.model.requests[0].prompts[0]
    assert "ghp_a1B2" not in desk.store.journal_path(desk.only_session()).read_text()


@pytest.mark.campaign
def test_in_another_magic_and_after_a_restart(desk, notebook):
    notebook.run("1/0").failed()
    notebook.run("%%time\n%copilot_fix").ok()
    assert len(desk.model.requests) == 1
    notebook.save()
    reloaded(notebook, notebook.restart)
    assert "No cell" in two_lines(notebook.run("%copilot_fix"))
    ask(notebook, "Go on").ok()
