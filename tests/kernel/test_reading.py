"""`%copilot_history`, its exports, and `%copilot_insert` in real kernels."""

from __future__ import annotations

import json
import os
import time

import nbformat
import pytest
from desk import ask, session_of, two_lines
from nbclient import NotebookClient
from scripted_model import Reply
from test_terminal_ipython import Terminal

from copilot_jupyter.conversation.portable import notebook_turns

BLOCKS = (
    "First:\n\n```python\na = 20\n```\n\nthen\n\n```python\nb = a + 2\nprint('b is', b)\n```\nDone."
)
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>"
STATIC = {"text/plain", "text/html"}


def execute(path, desk, **env):
    """Run a notebook as CI does, in its own folder; return it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    settings = {**os.environ, **desk.env, **env, "IPYTHONDIR": str(desk.folder / "ipython")}
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=60,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute(env={name: value for name, value in settings.items() if value is not None})
    return notebook


def answers(notebook):
    return [
        output.data
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.source.startswith("%%copilot")
        for output in cell.outputs
    ]


def test_an_exported_notebook_runs_again_and_nobody_is_asked(desk):
    notebook = desk.notebook()
    for prompt in ("Let's discuss generics", "continue", "What is `{x}`?\n\n  Really?", "continue"):
        ask(notebook, prompt).ok()
    session = session_of(notebook.run("%%copilot --model scripted-2\nAnd with another model?"))
    said = notebook.run("%copilot_history --export talk.ipynb").ok().shown
    assert "5 turns" in said
    notebook.run("%copilot_release").ok()
    path = desk.folder / "talk.ipynb"
    exported = nbformat.read(path, as_version=4)
    nbformat.validate(exported)
    requests, journal = len(desk.model.requests), desk.store.journal_path(session).read_bytes()

    here = execute(path, desk)
    assert len(desk.model.requests) == requests
    assert answers(here) == answers(exported)
    assert len(answers(here)) == 5
    assert desk.store.journal_path(session).read_bytes() == journal

    # On a machine that never saw the session, it is rebuilt from the notebook alone.
    away = execute(path, desk, COPILOT_HOME=str(desk.folder / "another-home"))
    assert len(desk.model.requests) == requests
    assert answers(away) == answers(exported)
    assert [t.session for t in notebook_turns.read(path)] == [session] * 5


def test_history_pages_searches_and_exports_headlessly(desk):
    first = desk.notebook()
    desk.model.will(Reply(f"Answer with {HOSTILE}"))
    session = session_of(ask(first, f"Prompt with {HOSTILE}"))
    first.run("%copilot_release").ok()
    events = desk.store.journal_path(session).read_bytes()
    turns = events[events.index(b'{"type":"user.message"') :]
    desk.store.journal_path(session).write_bytes(events + turns * 29)
    reader = desk.headless()
    page = reader.run(f"%copilot_history {session}").ok()
    assert page.shown.splitlines()[0] == f"# {session}: turns 11 to 30 of 30"
    assert f"earlier: %copilot_history {session} --turn 1" in page.shown
    assert set(page.displays[0]["data"]) == STATIC
    for markup in ("<script", "<img"):
        assert markup not in page.html
    other = reader.run(f"%copilot_history {session} --turn 1 --browse").ok()  # nobody browses
    assert set(other.displays[0]["data"]) == STATIC
    assert "turns 1 to 20 of 30" in other.shown
    assert reader.comms == {}
    hits = reader.run(f"%copilot_history {session} --search 'ANSWER with' --last 2").ok()
    assert "30 places, the last 2" in hits.shown
    assert "<script" not in hits.html
    assert [line.split()[0] for line in hits.shown.splitlines()[2:]] == ["29", "30"]
    file = desk.folder / "talk.html"
    reader.run(f"%copilot_history {session} --export {file}").ok()
    assert "<script" not in file.read_text(encoding="utf-8")


WRONG = {
    "%copilot_history --turn 9": ["no turn 9", "it has 1"],
    "%copilot_history --turn 1.5": ["--turn", "whole number"],
    "%copilot_history --turn 1 --last 2": ["exclude each other"],
    "%copilot_history --search a --export a.md": ["exclude each other"],
    "%copilot_insert 3": ["2 blocks", "no block 3", "1 to 2"],
    "%copilot_insert 0": ["no block 0"],
    "%copilot_insert two": ["'two'", "%copilot_insert 2"],
    "%copilot_insert 1 --turn 7": ["no answered turn 7"],
}


def test_a_block_of_an_answer_takes_the_lines_place(desk):
    notebook = desk.notebook()
    assert "no conversation" in two_lines(notebook.run("%copilot_insert"), "BadInputError")
    desk.model.will(Reply(BLOCKS))
    ask(notebook, "Code, please").ok()
    for line, parts in WRONG.items():
        said = two_lines(notebook.run(line), "BadInputError")
        assert all(part in said for part in parts), said
    last = notebook.run("%copilot_insert").ok()
    assert last.cell.source == "b = a + 2\nprint('b is', b)"
    assert "Block 2 of 2 of turn 1" in last.shown
    first = notebook.run("# the setting\n%copilot_insert 1\nc = 1").ok()
    assert first.cell.source == "# the setting\na = 20\nc = 1"
    notebook.run(first.cell.source, first.cell).ok()
    assert notebook.run(last.cell.source, last.cell).ok().stdout == "b is 22\n"
    ask(notebook, "And without code?").ok()
    assert "holds no block" in two_lines(notebook.run("%copilot_insert"), "BadInputError")
    earlier = notebook.run("%copilot_insert 1 --turn 1").ok()
    assert earlier.cell.source == "a = 20"


@pytest.mark.campaign
def test_a_block_of_an_answer_is_shown_where_no_cell_can_change(desk):
    headless = desk.headless()
    headless.run("%copilot_resume talk --create").ok()
    desk.model.will(Reply(BLOCKS))
    ask(headless, "Code, please").ok()
    shown = headless.run("%copilot_insert 1").ok()
    assert (shown.shown, shown.payloads) == ("a = 20", [])


def test_the_reader_leaves_the_page_it_showed_when_the_next_cell_runs(desk):
    notebook = desk.notebook()
    ask(notebook, "One").ok()
    ask(notebook, "Two").ok()
    opened = notebook.run("%copilot_history --browse").ok()
    [output] = opened.outputs
    assert set(output["data"]) == {*STATIC, "application/vnd.jupyter.widget-view+json"}
    comm = notebook.comms[output["data"]["application/vnd.jupyter.widget-view+json"]["model_id"]]
    assert "Answer" not in json.dumps(comm.opened)  # turns are no state: the file may hold that
    content = {"op": "page", "first": 2}
    notebook.send_comm(comm, {"method": "custom", "content": content})
    until = time.monotonic() + 20
    while not comm.received and time.monotonic() < until:
        time.sleep(0.05)
    assert [t["number"] for t in comm.received[-1]["content"]["turns"]] == [2]
    notebook.run("1 + 1").ok()
    assert set(output["data"]) == STATIC
    assert "turn 2 of 2" in output["data"]["text/plain"]
    assert comm.closed
    assert len(opened.outputs) == 1
    notebook.run("2 + 2").ok()  # once is enough


@pytest.mark.campaign
def test_the_reader_is_left_by_escape(desk):
    notebook = desk.notebook()
    ask(notebook, "One").ok()
    opened = notebook.run("%copilot_history --browse").ok()
    [comm] = [c for c in notebook.comms.values() if "session" in c.opened.get("state", {})]
    notebook.send_comm(comm, {"method": "custom", "content": {"op": "close"}})
    until = time.monotonic() + 20
    while not comm.closed and time.monotonic() < until:
        time.sleep(0.05)
    assert comm.closed
    assert set(opened.outputs[0]["data"]) == STATIC


@pytest.mark.campaign
def test_history_and_insert_at_a_terminal(desk):
    terminal = Terminal(desk)
    try:
        terminal.child.setwinsize(50, 70)
        terminal.run("%load_ext copilot_jupyter")
        desk.model.will(Reply(BLOCKS + "\x1b]0;a title\x07"))
        terminal.run("%copilot Code, please")
        shown = terminal.run("%copilot_history")
        assert "> Code, please" in shown
        assert "b = a + 2" in shown
        assert "\ufffd]0;a title\ufffd" in shown
        table = terminal.run("%copilot_sessions").splitlines()
        assert table[0] == "1 session"
        assert max(map(len, table)) <= 70
        assert "1 place" in terminal.run("%copilot_history --search 'b is'")
        assert terminal.run("%copilot_insert 1") == "a = 20"  # a simple prompt can't be filled in
    finally:
        terminal.close()
