"""The tools of the kernel, called by the model through the real runtime."""

from __future__ import annotations

import base64
import json
import shutil

import pytest
from desk import ask, pressed_stop, reloaded, two_lines
from scripted_model import Reply

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)

SECRET = "ghp_" + "a1B2c3D4e5" * 4


def calls(tool, /, **arguments):
    return Reply(tool=tool, arguments=json.dumps(arguments))


def told(desk, request=-1):
    """What the model was told last by a tool."""
    return [m["content"] for m in desk.model.requests[request].messages if m["role"] == "tool"][-1]


@pytest.fixture
def notebook(desk):
    return desk.notebook(env={"COPILOT_JUPYTER_ALLOW": "run_python insert_cell"})


def test_the_model_looks_at_the_variables(desk, notebook):
    notebook.run("alpha = [1, 2, 3]\nimport math\nclass Point: x = 1\nname = 'Ada'").ok()
    desk.model.will(calls("list_variables"), calls("inspect_variable", name="alpha"), "Seen.")
    assert ask(notebook, "What is there?").ok()
    first = told(desk, 1).splitlines()
    assert "alpha: list of 3" in first
    assert "name: str = 'Ada'" in first
    assert not [line for line in first if line.startswith(("In", "Out", "_", "get_ipython"))]
    assert "[1, 2, 3]" in told(desk, 2)


def test_code_runs_in_the_kernel_and_is_seen(desk, notebook):
    notebook.run("x = 20").ok()
    desk.model.will(calls("run_python", code="y = x + 1\nprint('y is', y)\ny * 2"), "It is 42.")
    result = ask(notebook, "Compute").ok()
    assert told(desk) == "y is 21\n42"
    assert "y is 21" in result.text
    assert notebook.run("y, _").ok().shown == "(21, '')"


def test_an_exception_is_told_with_the_line_and_shown(desk, notebook):
    desk.model.will(calls("run_python", code="a = 1\nprint('here')\na / 0"), "It fails.")
    result = ask(notebook, "Divide").ok()
    seen = told(desk)
    assert seen.startswith("here")
    assert "ZeroDivisionError: division by zero" in seen
    assert "a / 0" in seen
    assert "\x1b" not in seen
    assert "run_python.py" not in seen
    assert "ZeroDivisionError" in result.stderr
    assert result.status == "ok"


@pytest.mark.campaign
def test_code_that_is_no_python_is_told(desk, notebook):
    desk.model.will(calls("run_python", code="a ="), "Oh.")
    ask(notebook, "Do").ok()
    assert "SyntaxError" in told(desk)


@pytest.mark.campaign
def test_code_may_await_and_display_and_use_magics(desk, notebook):
    code = "import asyncio\nawait asyncio.sleep(0)\ndisplay('shown')\n%who_ls int"
    desk.model.will(calls("run_python", code=code), "Done.")
    notebook.run("seven = 7").ok()
    result = ask(notebook, "Do").ok()
    assert told(desk) == "'shown'\n['seven']"
    assert "'shown'" in result.shown


@pytest.mark.campaign
def test_long_output_reaches_the_model_cut(desk, notebook):
    desk.model.will(calls("run_python", code="print('x' * 100_000)"), "Long.")
    ask(notebook, "Do").ok()
    assert len(told(desk)) < 8_200
    assert "92,000 characters cut" in told(desk)


def test_bad_calls_are_answered_and_the_turn_goes_on(desk, notebook):
    desk.model.will(
        calls("inspect_variable", name="nothing"),
        calls("run_python"),
        calls("run_python", code=1),
        calls("insert_cell", source="x", where="top"),
        calls("read_notebook", cells="ninety"),
        calls("no_such_tool"),
        "I give up.",
    )
    ask(notebook, "Do").ok()
    said = [told(desk, n) for n in range(1, 7)]
    assert said[0].startswith("The kernel has no variable 'nothing'.")
    assert "needs the argument 'code'" in said[1]
    assert "has to be a string" in said[2]
    assert "has no argument 'where'" in said[3]
    assert said[4].startswith("There are no cells 'ninety'.")
    assert "no_such_tool" in said[5]


@pytest.mark.campaign
def test_code_of_the_model_cannot_ask_in_its_turn(desk, notebook):
    code = "import copilot_jupyter\ncopilot_jupyter.ask('And you?')"
    desk.model.will(calls("run_python", code=code), "No.")
    ask(notebook, "Do").ok()
    assert "Code that the model runs cannot ask Copilot." in told(desk)
    assert len(desk.model.requests) == 2
    ask(notebook, "And now?").ok()


def test_the_stop_button_ends_code_and_the_turn_is_kept_closed(desk, notebook):
    desk.model.will(
        calls("run_python", code="done = 1\nprint('begun')\nimport time\ntime.sleep(60)"), "Never."
    )
    result = notebook.start("%%copilot\nWait")
    notebook.wait_for_text("begun", result)
    took = pressed_stop(notebook, result)
    assert took < 1
    assert "kept in the session, because run_python was used" in two_lines(result)
    assert notebook.run("done").ok().shown == "1"
    ask(notebook, "What was done?").ok()
    # The model knows what was begun.
    [first, *_] = [m for m in desk.model.requests[-1].messages if m["role"] == "assistant"]
    assert first["tool_calls"][0]["function"]["name"] == "run_python"
    assert desk.model.requests[-1].prompts == ["Wait", "What was done?"]


@pytest.mark.campaign
def test_a_turn_that_only_looked_is_withdrawn(desk, notebook):
    desk.model.will(calls("list_variables"), Reply(hang=True))
    result = notebook.start("%%copilot\nLook")
    desk.model.wait_for(2)
    pressed_stop(notebook, result)
    ask(notebook, "Next").ok()
    assert desk.model.requests[-1].prompts == ["Next"]


def test_nobody_there_denies_once_and_says_how_to_allow(desk):
    kernel = desk.headless()
    desk.model.will(*[calls("run_python", code="x = 1")] * 3, "Well.")
    result = kernel.run("%copilot_resume h --create\n").ok()
    result = kernel.run("%%copilot\nDo").ok()
    assert "nobody" in told(desk, 1)
    assert result.shown.count("Copilot.allow") == 1
    assert kernel.run("'x' in globals()").ok().shown == "False"
    # It is no effect: the same cell's answer is replayed, and nothing is asked.
    assert len(desk.model.requests) == 4


def test_calls_are_lines_of_the_answer_and_survive_a_rebuild(desk, notebook):
    notebook.run("%copilot_resume used --create").ok()
    desk.model.will(calls("run_python", code="print(6 * 7)"), "It is 42.")
    before = ask(notebook, "Compute").ok()
    [shown] = [o for o in before.displays if "turn" in o["metadata"].get("copilot_jupyter", {})]
    html = shown["data"]["text/html"]
    assert '<details class="copilot-tool"><summary>run_python' in html
    assert "ran code, which a replay does not" in html
    notebook.save()
    notebook.shutdown()
    shutil.rmtree(desk.store.sessions / "used")
    desk.opened(notebook)
    after = notebook.run_cell(before.cell).ok()
    assert html in after.html
    desk.model.forget()
    ask(notebook, "And?").ok()
    roles = [m["role"] for m in desk.model.requests[-1].messages]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert desk.model.requests[-1].messages[3]["content"].strip() == "42"


SHOWS = """
import sys
from IPython.display import HTML, display, update_display
print('begun')
print('careful', file=sys.stderr)
display(HTML('<b>bold</b>'))
display({'image/png': PNG, 'text/plain': 'a dot'}, raw=True, display_id='dot')
display('first', display_id='line')
update_display('second', display_id='line')
6 * 7
"""


def test_what_code_has_shown_is_shown_again(desk, notebook):
    notebook.run(f"%copilot_resume shows --create\nPNG = {base64.b64encode(PNG).decode()!r}").ok()
    desk.model.will(calls("run_python", code=SHOWS), "All of it.")
    cell = ask(notebook, "Show").ok().cell
    before = [{**o, "metadata": None} for o in cell.outputs]
    assert [o.get("text") for o in before if o["output_type"] == "stream"] == [
        "begun\n",
        "careful\n",
    ]
    notebook.save()
    reloaded(notebook, notebook.restart)
    after = notebook.run_cell(cell).ok().cell.outputs
    assert [{**o, "metadata": None} for o in after] == before
    assert len(desk.model.requests) == 2
    # Rebuilt from the notebook's file, which may be anybody's, it has no HTML of that.
    notebook.shutdown()
    shutil.rmtree(desk.store.sessions / "shows")
    desk.opened(notebook)
    again = notebook.run_cell(cell).ok()
    assert len(desk.model.requests) == 2
    shown = [sorted(o["data"]) for o in again.displays if "copilot_jupyter" not in o["metadata"]]
    assert ["image/png", "text/plain"] in shown
    assert ["text/html", "text/plain"] not in shown
    assert "<b>bold" not in again.html
    assert {"careful", "'second'", "42"} <= set(again.shown.split() + again.stderr.split())


@pytest.mark.campaign
def test_code_that_clears_the_cell_leaves_the_answer(desk, notebook):
    code = "from IPython.display import clear_output\nprint('one')\nclear_output({})\nprint('two')"
    cells = []
    for wait in ("", "wait=True"):
        desk.model.will(
            Reply("Wait.", tool="run_python", arguments=json.dumps({"code": code.format(wait)})),
            "Counted.",
        )
        cell = ask(notebook, f"Count {wait}").ok().cell
        assert "Counted." in cell.outputs[-1]["data"]["text/plain"]
        assert [o["text"] for o in cell.outputs if o["output_type"] == "stream"] == ["two\n"]
        cells.append(cell)
    notebook.save()
    for cell in cells:
        again = notebook.run_cell(cell).ok()
        assert "Counted." in again.shown
        assert "one" not in again.text


@pytest.mark.campaign
def test_code_of_the_model_leaves_the_kernel_and_its_warnings_as_they_are(desk, notebook):
    """One kernel: `exit()` ends the code only, and the shield's rules swallow no warning."""
    pid = notebook.pid
    desk.model.will(calls("run_python", code="before = 1\nexit()\nafter = 1"), "It ended.")
    ask(notebook, "Leave").ok()
    assert "SystemExit" in told(desk)
    assert notebook.run("before, 'after' in globals()").ok().shown == "(1, False)"
    assert notebook.pid == pid
    warned = notebook.run("import warnings\nwarnings.warn('mind the gap')").ok()
    assert "mind the gap" in warned.stderr
    code = "import copilot_jupyter\ncopilot_jupyter.ask('And you?')"
    desk.model.will(calls("run_python", code=code), "No.")
    result = ask(notebook, "Ask").ok()
    assert result.stderr.splitlines() == [
        "Code that the model runs cannot ask Copilot.",
        "Ask in a cell of your own.",
    ]


@pytest.mark.campaign
def test_tools_are_off_where_the_cell_or_the_setting_says_so(desk, notebook):
    notebook.run("%%copilot --no-tools\nHi").ok()
    assert desk.model.requests[-1].tools == []
    notebook.run("%config Copilot.tools = ['list_variables']").ok()
    ask(notebook, "Hi again").ok()
    assert desk.model.requests[-1].tools == ["list_variables"]
    notebook.run("%config Copilot.tools = None").ok()
    ask(notebook, "Hi once more").ok()
    assert len(desk.model.requests[-1].tools) == 5


def test_the_first_request_with_our_tools_is_small(desk, notebook):
    ask(notebook, "Hi").ok()
    assert desk.model.requests[0].size < 4096
    notebook.run("%copilot_new plain\n%config Copilot.tools = []").ok()
    ask(notebook, "Hi").ok()
    assert desk.model.requests[1].size < 1024


def test_values_are_sent_and_a_changed_one_is_a_new_question(desk, notebook):
    notebook.run("rows = ['a', 'b']").ok()
    cell = ask(notebook, "How many are {rows}?").ok().cell
    sent = desk.model.requests[0].prompts[0]
    assert sent.startswith("How many are `rows`?\n\nrows: list")
    assert "'b'" in sent
    notebook.run_cell(cell).ok()
    assert len(desk.model.requests) == 1
    notebook.run("rows.append('c')").ok()
    again = notebook.run_cell(cell).ok()
    assert "rows has changed since turn 1" in again.shown
    assert len(desk.model.requests) == 2
    assert "sent rows" in again.html


def test_a_prompt_whose_value_is_gone_shows_its_answer(desk, notebook):
    notebook.run("rows = ['a', 'b']").ok()
    cell = ask(notebook, "How many are {rows}?").ok().cell
    notebook.save()
    reloaded(notebook, notebook.restart)
    assert "Answer 1" in notebook.run_cell(cell).ok().shown
    assert len(desk.model.requests) == 1
    # Asked live, the model is told once what is gone, and a dry run shows it.
    assert "gone: rows." in notebook.run("%%copilot --dry-run\nAnd now?").ok().shown
    ask(notebook, "And now?").ok()
    ask(notebook, "And then?").ok()
    prompts = desk.model.requests[-1].prompts
    assert prompts[1].startswith("<kernel_restarted>")
    assert "gone: rows." in prompts[1]
    assert prompts[2] == "And then?"
    # The note is no part of the question.
    notebook.save()
    reloaded(notebook, notebook.restart)
    count = len(desk.model.requests)
    notebook.run_all()
    assert len(desk.model.requests) == count


def test_a_dry_run_shows_what_is_then_sent_byte_for_byte(desk, notebook):
    notebook.run("rows = list(range(50))\nkey = 'ghp_' + 'a1B2' * 9").ok()
    dry = notebook.run("%%copilot --dry-run\nLook at {rows} with {key}, not {nothing}").ok()
    assert desk.model.requests == []
    head, _, text = dry.shown.partition("\n\n")
    assert "rows: list" in head
    assert "secrets withheld" in head
    ask(notebook, "Look at {rows} with {key}, not {nothing}").ok()
    assert desk.model.requests[0].prompts == [text.strip("\n")]
    assert "ghp_" not in text
    assert "{nothing}" in text
    assert desk.store.ids()


@pytest.mark.campaign
def test_context_and_files_go_along(desk, notebook):
    (desk.folder / "notes.txt").write_text("Take care.\n")
    (desk.folder / "dot.png").write_bytes(PNG)
    notebook.run("rows = [1, 2, 3]").ok()
    notebook.run("%%copilot --context rows --attach notes.txt,dot.png\nWhat now?").ok()
    [message] = [m for m in desk.model.requests[0].messages if m["role"] == "user"]
    sent = desk.model.requests[0].prompts[0]
    assert "rows: list" in sent
    assert "notes.txt:\n```\nTake care.\n```" in sent
    assert [part["type"] for part in message["content"]].count("image_url") == 1
    for flags, said in (
        ("--context nothing", "no such variable"),
        ("--attach missing.txt", "cannot be read"),
    ):
        assert said in two_lines(notebook.run(f"%%copilot {flags}\nWhat now?"), "BadInputError")
    assert len(desk.model.requests) == 1


@pytest.mark.campaign
def test_the_status_adds_up_what_was_used_and_sent(desk, notebook):
    notebook.run("rows = ['a', 'b']\nkey = 'ghp_' + 'a1B2' * 9").ok()
    cell = ask(notebook, "How many are {rows} with {key}?").ok().cell
    desk.model.will(calls("list_variables"), calls("list_variables"), "Seen.")
    ask(notebook, "Look").ok()
    notebook.run_cell(cell).ok()
    status = notebook.run("%copilot_status").ok().shown
    lines = {line.split("  ")[0]: line for line in status.splitlines()}
    assert "44 tokens in, 28 out" in lines["used"]
    assert "1 answer in this kernel" in lines["replayed"]
    assert "key, rows" in lines["sent"]
    assert "3 secrets" in lines["withheld"]  # in the view, and in what each list gave back
    assert "list_variables ×2" in lines["tools"]
    assert "run_python" in lines["may use"]
    assert "run_python, insert_cell" in lines["allowed unasked"]
    notebook.run("%copilot_deny insert_cell").ok()
    assert "denied unasked" in notebook.run("%copilot_status").ok().shown


@pytest.mark.campaign
def test_code_that_awaits_where_nothing_can_be_awaited(desk, notebook):
    code = "import asyncio\nawait asyncio.sleep(0.05)\nx = 1"
    desk.model.will(calls("run_python", code=code), "It can't wait here.")
    result = notebook.run("%%time\n%copilot Do").ok()
    assert "Nothing can be awaited here" in told(desk)
    assert "It can't wait here." in result.shown
    desk.model.will(calls("run_python", code=code), "Nor here.")
    notebook.run("import copilot_jupyter\nx = copilot_jupyter.ask('Do it')").ok()
    assert notebook.run("x.text").ok().shown == "'Nor here.'"


@pytest.mark.campaign
def test_secrets_in_source_and_in_questions_from_python_stay_here(desk):
    notebook = desk.notebook(env={"MY_API_TOKEN": "zq83-zq83-zq83-zq83"})
    notebook.run(f"token = '{SECRET}'\n1/0").failed()
    notebook.run("%copilot_fix").ok()
    notebook.run(
        f"import copilot_jupyter as c\nx = c.ask('use {SECRET} or zq83-zq83-zq83-zq83')"
    ).ok()
    for request in desk.model.requests:
        assert SECRET not in json.dumps(request.body)
        assert "zq83" not in json.dumps(request.body)


def test_a_call_of_a_turn_that_is_over_is_not_answered(desk):
    kernel = desk.notebook(env={"COPILOT_JUPYTER_ASK_TIMEOUT": "30"})
    # Drawn as a page draws it, and never answered: the turn's own time is up first.
    kernel.comm_targets["jupyter.widget"] = lambda comm, data: [
        {"method": "custom", "content": {"kind": "ready"}}
    ]
    desk.model.will(calls("run_python", code="ran = True"), "Never.")
    result = kernel.run("%%copilot --timeout 2\nDo", timeout=25)
    result.failed("TurnStalledError")
    assert kernel.run("'ran' in globals()").ok().shown == "False"
    ask(kernel, "Next").ok()
    assert desk.model.requests[-1].prompts == ["Next"]


@pytest.mark.campaign
def test_a_turn_that_did_something_is_not_taken_out_for_an_edit(desk, notebook):
    first = ask(notebook, "First").ok().cell
    code = "print('begun')\nimport time\ntime.sleep(60)"
    desk.model.will(calls("run_python", code=code), "Never.")
    result = notebook.start("%%copilot\nDo")
    notebook.wait_for_text("begun", result)
    pressed_stop(notebook, result)
    first.source = "%%copilot\nFirst, edited"
    notebook.run_cell(first).ok()
    assert desk.model.requests[-1].prompts == ["First", "Do", "First, edited"]


def test_a_rebuilt_session_knows_the_values_of_its_questions(desk, notebook):
    notebook.run("%copilot_resume valued --create\nrows = [1, 2]").ok()
    cell = ask(notebook, "See {rows}").ok().cell
    html = cell.outputs[-1]["data"]["text/html"]
    notebook.save()
    notebook.shutdown()  # a living runtime would write its last words into the deleted folder
    shutil.rmtree(desk.store.sessions / "valued")
    desk.opened(notebook)
    again = notebook.run_cell(cell).ok()
    assert html in again.html
    assert len(desk.model.requests) == 1


@pytest.mark.campaign
def test_files_outside_are_not_read_by_a_newline_in_a_path(desk):
    notebook = desk.notebook(env={"COPILOT_JUPYTER_TOOLS": "files"})
    outside = desk.folder.parent / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("TOPSECRET")
    (desk.folder / "x\n").mkdir()
    (desk.folder / "in.txt").write_text("inside")
    desk.model.will(
        calls("view", path=f"{desk.folder}/x\n/../../outside/secret.txt"),
        calls("view", path=f"{desk.folder}/../outside/secret.txt"),
        calls("view", path=f"{desk.folder}/in.txt"),
        "Read.",
    )
    ask(notebook, "Read").ok()
    assert "TOPSECRET" not in json.dumps(desk.model.requests[-1].body)
    assert "outside the folders" in told(desk, 1)
    assert "inside" in told(desk, 3)


HOSTILE = """
class Meta(type):
    def __eq__(self, other): raise RuntimeError('eq')
    __hash__ = type.__hash__
class A(metaclass=Meta): pass
class B: pass
B.__module__ = None
class Shape:
    @property
    def shape(self): raise RuntimeError('shape')
Shape.__module__ = 'numpy'
a, b, c = A(), B(), Shape()
"""


@pytest.mark.campaign
def test_values_whose_code_raises_are_listed_all_the_same(desk, notebook):
    notebook.run(HOSTILE).ok()
    desk.model.will(
        calls("list_variables"), *[calls("inspect_variable", name=n) for n in "abc"], "Ok."
    )
    ask(notebook, "Look").ok()
    names = {line.split(":")[0] for line in told(desk, 1).splitlines()}
    assert {"A", "B", "Shape", "a", "b", "c"} <= names


@pytest.mark.campaign
def test_a_file_that_is_gone_does_not_ask_again(desk, notebook):
    (desk.folder / "notes.txt").write_text("Take care.\n")
    notebook.run("rows = [1]").ok()
    cell = notebook.run("%%copilot --attach notes.txt --context rows\nWell?\n```python").ok().cell
    assert "rows: list" in desk.model.requests[0].prompts[0]
    assert "sent rows, notes.txt" in cell.outputs[-1]["data"]["text/html"]
    (desk.folder / "notes.txt").unlink()
    notebook.run("del rows").ok()
    notebook.run_cell(cell).ok()
    assert len(desk.model.requests) == 1
    assert "no such variable" in two_lines(notebook.run("%%copilot --context rows\nNew"))


@pytest.mark.campaign
def test_allowed_code_cannot_use_our_magics(desk, notebook):
    ask(notebook, "Hi").ok()
    session = desk.only_session()
    for code in (
        "%copilot_release",
        f"%copilot_delete {session} --yes",
        "%config Copilot.allow = []",
    ):
        desk.model.will(calls("run_python", code=code), "No.")
        ask(notebook, f"Do {code}").ok()
        assert "cannot use the magics" in told(desk)
    assert desk.only_session() == session
