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
    assert "--- In [2]\n+++ proposed" in result.shown
    assert "-    return 1 / n\n+    return 1 / max(n, 1)" in result.shown
    assert '">+    return 1 / max(n, 1)</span>' in result.html
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


def failed(desk, notebook, source):
    """Let a cell fail, and return what the model is then told."""
    notebook.run(source).failed()
    notebook.run("%copilot_fix").ok()
    return desk.model.requests[-1].prompts[-1]


def test_a_cell_that_is_no_python_is_told_with_the_line_and_not_with_ipythons_frames(
    desk, notebook
):
    prompt = failed(desk, notebook, "x = 1\nfor i in range(3)\n    print(i)")
    assert prompt.startswith("Fix this cell: SyntaxError: expected ':'\n\n")
    assert "The cell, line 2\n    for i in range(3)\n                     ^\n" in prompt
    assert "interactiveshell" not in prompt
    assert "ipykernel_" not in prompt


@pytest.mark.campaign
def test_errors_in_modules_of_ones_own_and_in_others(desk, notebook):
    (desk.folder / "own.py").write_text(
        "def pick(row):\n    wanted = 'mass'\n    return row[wanted]\n"
    )
    (desk.folder / "broken.py").write_text("x = 1\ndef f(:\n    pass\n")
    prompt = failed(desk, notebook, "import own\nown.pick({'island': 'Dream'})")
    assert "Variables there:\nrow: dict, 1 item\n{'island': 'Dream'}\nwanted: str\nmass" in prompt
    prompt = failed(desk, notebook, "import broken")
    assert 'broken.py", line 2\n    def f(:\n          ^\n' in prompt
    prompt = failed(desk, notebook, "import json\ntext = '{'\njson.loads(text)")
    assert "Variables of the notebook, as they are now:" in prompt
    assert "text: str\n{" in prompt
    assert "get_ipython: method" not in failed(desk, notebook, "%nosuchmagic")


@pytest.mark.campaign
def test_the_headline_of_an_earlier_error_is_the_same(desk, notebook):
    group = (
        "error = ValueError('one')\nerror.add_note('a note')\nraise ExceptionGroup('many', [error])"
    )
    first = notebook.run(group).failed()
    noted = notebook.run("raise error").failed("ValueError")
    notebook.run("1/0").failed()
    for cell, said in (first, "ExceptionGroup: many (1 sub-exception)"), (noted, "ValueError: one"):
        notebook.run(f"%copilot_fix {cell.cell.execution_count}").ok()
        assert desk.model.requests[-1].prompts[-1].startswith(f"Fix this cell: {said}\n\n")


@pytest.mark.campaign
def test_the_proposed_cell_is_the_last_block_of_python(desk, notebook):
    notebook.run("import pandsa").failed()
    desk.model.will(
        "```python\nimport pandas\n```\nIf it is missing:\n```sh\npip install pandas\n```"
    )
    assert notebook.run("%copilot_fix").ok().next_input == "import pandas"
    notebook.run("%%bash\nexit 3").failed()
    desk.model.will("```bash\nexit 0\n```")
    assert notebook.run("%copilot_fix").ok().next_input == "%%bash\nexit 0"
    notebook.run("1/0").failed()
    desk.model.will("It prints:\n```text\nZeroDivisionError\n```")
    result = notebook.run("%copilot_fix").ok()
    assert result.next_input is None
    assert "+++" not in result.shown
