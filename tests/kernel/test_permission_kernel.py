"""Allow and deny in real kernels: buttons of a hand-made page, ``input()``, nobody."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from desk import LOAD, ask, pressed_stop, session_of, two_lines
from scripted_model import Reply
from wishes import DRIVER

if TYPE_CHECKING:
    from drivers import Comm, NotebookKernel, Result


def started(kernel: NotebookKernel) -> NotebookKernel:
    kernel.run(DRIVER).ok()
    return kernel


@pytest.fixture
def notebook(shared_desk) -> NotebookKernel:
    return started(shared_desk.notebook())


def buttons(kernel: NotebookKernel, result: Result) -> Comm:
    """Wait until the cell shows buttons; they are what a page gets as widget."""
    view = "application/vnd.jupyter.widget-view+json"

    def shown() -> list[str]:
        return [o["data"][view]["model_id"] for o in result.displays if view in o["data"]]

    kernel.wait_until(lambda: bool(shown()) or result.done, 30, "the buttons")
    return kernel.comms[shown()[0]]


def send(kernel: NotebookKernel, comm: Comm, **content: Any) -> None:
    kernel.send_comm(comm, {"method": "custom", "content": content})


def drawn(kernel: NotebookKernel, result: Result) -> Comm:
    """Play a page that draws the buttons, until it has the question."""
    comm = buttons(kernel, result)
    send(kernel, comm, op="ready", view="v")
    kernel.wait_until(lambda: bool(questions(comm)) or result.done, 30, "the question")
    return comm


def questions(comm: Comm) -> list[dict[str, Any]]:
    found = [data["content"] for data in comm.received if data.get("method") == "custom"]
    return [content for content in found if content.get("op") == "question"]


def clicked(kernel: NotebookKernel, source: str, answer: str) -> Result:
    """Run a cell and click in it."""
    result = kernel.start(source)
    comm = drawn(kernel, result)
    send(kernel, comm, op="answer", answer=answer)
    kernel.finish(result).ok()
    assert comm.closed
    return result


def test_a_click_while_the_cell_runs_and_what_a_restart_takes_back(desk):
    kernel = desk.notebook()
    session = session_of(ask(kernel, "Begin"))
    kernel.save()
    started(kernel)
    result = kernel.start("await wish('run_python', 'print(1)')")
    comm = drawn(kernel, result)
    [question] = questions(comm)
    assert question["detail"] == "print(1)"
    assert question["title"] == "Copilot asks to run this code in the kernel (run_python)"
    send(kernel, comm, op="answer", answer="session")
    kernel.finish(result).ok()
    assert result.text == "run_python SESSION\n"
    assert [o["data"] for o in result.displays] == [
        {"text/plain": "run_python: print(1) → allowed for this session"}
    ]
    assert comm.closed
    clicked(kernel, "await wish('insert_cell', 'x = 1')", "session")
    again = kernel.run("await wish('run_python', '2'); await wish('insert_cell', 'y')").ok()
    assert again.outputs == [
        {"output_type": "stream", "name": "stdout", "text": again.text},
    ]
    assert again.text == "run_python SESSION\ninsert_cell SESSION\n"
    # In one file of ours for this user alone, and in nothing that travels.
    file = desk.home / "copilot-jupyter" / "grants.json"
    assert file.stat().st_mode & 0o777 == 0o600
    [grant] = json.loads(file.read_text())["grants"]
    assert (grant["session"], grant["tool"], grant["allowed"]) == (session, "insert_cell", True)
    text = kernel.save().read_text()
    assert "widget" not in text.replace("permission_widget", "")
    for path in (desk.home / "session-state" / session).rglob("*"):
        assert path.is_dir() or b"insert_cell" not in path.read_bytes(), path
    kernel.restart()
    kernel.run(LOAD).ok()
    started(kernel)
    assert kernel.run("await wish('insert_cell', 'z')").ok().text == "insert_cell SESSION\n"
    anew = kernel.start("await wish('run_python', '3')")
    assert buttons(kernel, anew) is not None
    pressed_stop(kernel, anew)
    # A branch has no permission of its parent.
    kernel.run("%copilot_fork").ok()
    forked = kernel.start("await wish('insert_cell', 'z')")
    assert buttons(kernel, forked) is not None
    pressed_stop(kernel, forked)


@pytest.mark.campaign
def test_what_was_allowed_and_what_it_showed_is_shown_again(desk):
    kernel = desk.notebook()
    code = json.dumps({"code": "print('ran')"})
    desk.model.will(Reply(tool="run_python", arguments=code), "Done.")
    result = clicked(kernel, "%%copilot\nDo", "once")
    before = [(o.get("text"), o.get("data")) for o in result.cell.outputs]
    assert "run_python: print('ran') → allowed once" in result.shown
    again = kernel.run_cell(result.cell).ok()
    assert [(o.get("text"), o.get("data")) for o in again.cell.outputs] == before
    assert len(desk.model.requests) == 2


@pytest.mark.campaign
@pytest.mark.parametrize("answer", ["once", "deny"])
def test_each_button(notebook, answer):
    result = clicked(notebook, "await wish('shell', 'ls\\nrm x')", answer)
    said = {"once": "allowed once", "deny": "denied"}[answer]
    assert result.shown == f"shell: ls … (2 lines) → {said}"
    again = notebook.start("await wish('shell', 'ls')")
    assert buttons(notebook, again) is not None  # asked again
    pressed_stop(notebook, again)


@pytest.mark.campaign
def test_a_ready_that_was_lost_is_sent_again(notebook):
    result = notebook.start("await wish('shell', 'ls')")
    comm = buttons(notebook, result)
    send(notebook, comm, op="answer", answer="once")  # to what was never shown
    send(notebook, comm, op="ready", view="v")
    send(notebook, comm, op="ready", view="v")
    notebook.wait_until(lambda: bool(questions(comm)), 30, "the question")
    send(notebook, comm, op="answer", answer="deny")
    notebook.finish(result).ok()
    assert result.text == "shell DENIED\n"


@pytest.mark.campaign
def test_the_stop_button_ends_the_question_and_the_next_cell_works(notebook):
    result = notebook.start("await wish('shell', 'ls')")
    comm = drawn(notebook, result)
    assert pressed_stop(notebook, result) < 2
    assert result.failed().shown == "shell: ls → stopped"
    notebook.wait_until(lambda: comm.closed, 10, "the widget to be closed")
    assert notebook.run("print('on')").ok().text == "on\n"


@pytest.mark.campaign
def test_code_that_was_allowed_once_cannot_allow_itself_more(desk):
    kernel = desk.notebook()
    code = "ask = get_ipython().run_line_magic\nask('copilot_allow', 'shell')"
    desk.model.will(Reply(tool="run_python", arguments=json.dumps({"code": code})), "Tried.")
    result = kernel.start("%%copilot\nTry it")
    send(kernel, drawn(kernel, result), op="answer", answer="once")
    kernel.finish(result).ok()
    assert "cannot change what it may do" in result.everything
    listed = " ".join(kernel.run("%copilot_allow").ok().shown.split())
    assert "shell asks first" in listed
    assert not (desk.home / "copilot-jupyter" / "grants.json").exists()


# -- no buttons -------------------------------------------------------------------------------


@pytest.mark.campaign
def test_a_page_that_draws_nothing_is_asked_by_input(notebook):
    result = notebook.start("await wish('run_python', 'print(1)\\nprint(2)')")
    prompt = notebook.wait_for_prompt()
    assert prompt.text == "Allow run_python? [y] once, [s] for this session, [N] no: "
    assert "    print(1)\n    print(2)\n" in result.shown  # what is asked stands above it
    assert "widget" not in str(result.displays)
    notebook.answer("hm")
    notebook.wait_until(lambda: len(result.prompts) == 2, 30, "the question again")
    notebook.answer("y")
    notebook.finish(result).ok()
    assert result.shown == "run_python: print(1) … (2 lines) → allowed once"
    assert result.text == "run_python ONCE\n"


@pytest.mark.campaign
@pytest.mark.parametrize("way", ["await wish", "wish_sync"])
def test_the_stop_button_ends_the_typed_question(notebook, way):
    result = notebook.start(f"{way}('shell', 'ls')")
    notebook.wait_for_prompt()
    assert pressed_stop(notebook, result) < 2
    assert result.failed().shown == "shell: ls → stopped"
    assert notebook.run("print('on')").ok().text == "on\n"


@pytest.mark.campaign
def test_nobody_answers_buttons_or_input(notebook):
    notebook.run("%config Copilot.ask_timeout = 0.5").ok()
    result = notebook.start("await wish('shell', 'ls')")
    drawn(notebook, result)
    notebook.finish(result).ok()
    assert result.text == "shell UNANSWERED\n"
    assert "denied: nobody answered in 0.5 s. To allow it beforehand: %copilot_allow shell" in (
        result.shown
    )
    typed = notebook.run("await wish('shell', 'ls')", timeout=30).ok()
    assert typed.text == "shell UNANSWERED\n"
    assert len(typed.prompts) == 1
    assert notebook.run("print('on')").ok().text == "on\n"


@pytest.mark.campaign
def test_a_synchronous_cell_ends_in_a_way_to_answer(notebook):
    """Its comms wait on the shell that it blocks, in a front end without subshells."""
    result = notebook.start("wish_sync('shell', 'ls')")
    comm = buttons(notebook, result)
    send(notebook, comm, op="ready", view="v")
    notebook.wait_for_prompt()
    notebook.answer("s")
    notebook.finish(result).ok()
    assert result.text == "shell SESSION\n"


@pytest.mark.campaign
def test_where_nobody_can_answer_it_is_denied_at_once_and_a_policy_allows(shared_desk):
    kernel = started(shared_desk.headless())
    result = kernel.run("for n in range(20): await wish('insert_cell', f'x = {n}')").ok()
    assert result.text == "insert_cell NOBODY\n" * 20
    assert result.shown == (
        "insert_cell: x = 0 → denied: nobody is here to answer. To allow it beforehand: "
        "%copilot_allow insert_cell, or Copilot.allow = ['insert_cell']."
    )
    assert result.elapsed < 5
    assert not [comm for comm in kernel.comms.values() if comm.target == "jupyter.widget"]
    kernel.run("%config Copilot.allow = ['insert_cell']").ok()
    assert kernel.run("await wish('insert_cell', 'x')").ok().text == "insert_cell SESSION\n"
    kernel.run("%copilot_deny insert_cell").ok()
    assert kernel.run("await wish('insert_cell', 'x')").ok().text == "insert_cell DENIED\n"
    kernel.run("%copilot_allow shell").ok()
    assert kernel.run("await wish('shell', 'ls')").ok().text == "shell SESSION\n"


@pytest.mark.campaign
def test_a_policy_in_the_environment(shared_desk):
    kernel = started(shared_desk.headless(env={"COPILOT_JUPYTER_ALLOW": "run_python, shell"}))
    ran = kernel.run("for t in ('run_python', 'shell', 'url'): await wish(t, 'x')").ok()
    assert ran.text == "run_python SESSION\nshell SESSION\nurl NOBODY\n"


# -- the magics -------------------------------------------------------------------------------


def test_the_magics_allow_deny_forget_and_list(desk):
    kernel = desk.notebook()
    early = kernel.run("%copilot_allow run_python").ok().shown
    assert early == (
        "run_python is allowed in the conversation this notebook will have, "
        "until the kernel restarts."
    )
    session = session_of(ask(kernel, "Begin"))
    started(kernel)
    assert kernel.run("await wish('run_python', 'x')").ok().text == "run_python SESSION\n"
    said = kernel.run("%copilot_allow shell run_python shell").ok().shown
    assert said == (
        f"shell is allowed in {session}.\n"
        f"run_python is allowed in {session}, until the kernel restarts."
    )
    assert kernel.run("%copilot_deny url").ok().shown == f"url is denied in {session}."
    kernel.run("%config Copilot.allow = ['read']").ok()
    rows = [" ".join(line.split()) for line in kernel.run("%copilot_allow").ok().shown.split("\n")]
    assert rows[0] == f"What tools may do in {session}:"
    assert rows[2:] == [
        "run_python allowed until the kernel restarts",
        "insert_cell asks first",
        "shell allowed",
        "write asks first",
        "read allowed by Copilot.allow",
        "url denied",
    ]
    kernel.run("%copilot_allow --forget shell").ok()
    assert "shell asks first" in " ".join(kernel.run("%copilot_allow").ok().shown.split())
    kernel.run("%copilot_allow --forget").ok()
    shown = " ".join(kernel.run("%copilot_allow").ok().shown.split())
    assert shown.count("asks first") == 5
    kernel.run("%config Copilot.allow = []").ok()
    shown = " ".join(kernel.run("%copilot_allow").ok().shown.split())
    assert "read allowed in the notebook's folder and Copilot.folders" in shown
    assert kernel.complete("%copilot_allow ru") == ["run_python"]
    assert kernel.complete("%copilot_deny run_python i") == ["insert_cell"]
    assert kernel.complete("%copilot_allow --") == ["--forget"]
    for wrong, words in {
        "%copilot_allow run_pyhton": "'run_pyhton'",
        "%copilot_allow shell; ls": "'shell;'",
        "%copilot_deny": "names no tool",
    }.items():
        error = two_lines(kernel.run(wrong), "BadInputError")
        assert words in error
        assert "run_python, insert_cell, shell, write, read, url" in error


@pytest.mark.campaign
def test_nobody_is_asked_about_nothing(desk):
    kernel = desk.notebook()
    nothing = [("run_python", {"code": ""}), ("insert_cell", {"source": ""})]
    calls = [Reply(tool=tool, arguments=json.dumps(arguments)) for tool, arguments in nothing]
    desk.model.will(*calls, "Well.")
    result = kernel.run("%%copilot\nDo nothing").ok()
    assert [list(o["data"]) for o in result.displays] == [["text/plain", "text/html"]]
    told = [m["content"] for m in desk.model.requests[-1].messages if m["role"] == "tool"]
    assert ["needs the argument" in text for text in told] == [True, True]
