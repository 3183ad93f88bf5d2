"""A conversation as a file: what each kind holds, what is left out, what is never done."""

from __future__ import annotations

import json
import re

import nbformat
import pytest

from copilot_jupyter.conversation.portable import notebook_turns
from copilot_jupyter.conversation.sessions import Sessions
from copilot_jupyter.conversation.stored.question import Question
from copilot_jupyter.conversation.stored.records import FILE, Record, lines
from copilot_jupyter.conversation.stored.spans import with_spans
from copilot_jupyter.errors import BadInputError, SessionNotFoundError
from copilot_jupyter.notebook.reading import export
from copilot_jupyter.settings import Copilot
from copilot_jupyter.state.store import Store
from unit.transcripts import asks, event, exchange, put

TOKEN = "ghp_" + "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY1zA2"
HOSTILE = (
    "</div><script>alert(1)</script> <img src=x onerror=alert(1)> ![i](https://a.invalid/i.png)"
)


@pytest.fixture
def sessions(home, tmp_path):
    return Sessions(Copilot(), Store(home))


def made(sessions, *exchanges, records=(), **told):
    """A session of some prompts and answers; `records` are keys for the first of them."""
    events = [e for prompt, answer in exchanges for e in exchange(prompt, answer)]
    folder = put(sessions.store, "talk", events)
    prompts = [e["id"] for e in events if e["type"] == "user.message"]
    if records:
        (folder / "files").mkdir()
        stored = [Record(e, key, **told) for e, key in zip(prompts, records, strict=False)]
        data = (folder / "events.jsonl").read_bytes()
        (folder / "files" / FILE).write_bytes(lines(with_spans(data, stored)))
    return prompts


def written(sessions, path, last=None):
    said = export.write(sessions, "talk", str(path), last)
    return said, path.read_text(encoding="utf-8")


# -- all kinds ---


@pytest.mark.parametrize("ending", [".md", ".html", ".ipynb", ".jsonl"])
def test_each_kind_has_the_last_turns_and_no_secret(sessions, tmp_path, ending):
    made(sessions, ("one", "first"), ("two", f"It is {TOKEN}."), ("three", "third ✓ é 日"))
    said, text = written(sessions, tmp_path / f"talk{ending}", 2)
    assert said.startswith("Wrote 2 turns of talk to ")
    assert "1 secret was left out." in said
    assert TOKEN not in text
    assert "‹secret:" in text
    assert "third ✓ é 日" in text
    assert "first" not in text
    again = tmp_path / f"again{ending}"
    assert written(sessions, again, 2)[1] == text  # the same session, the same bytes


@pytest.mark.parametrize("ending", [".md", ".html", ".ipynb", ".jsonl"])
def test_no_file_is_written_over(sessions, tmp_path, ending):
    made(sessions, ("one", "1"))
    path = tmp_path / f"there{ending}"
    path.write_text("mine")
    with pytest.raises(BadInputError, match="exists already, a file"):
        export.write(sessions, "talk", str(path))
    assert path.read_text() == "mine"


def test_what_cannot_be_written_is_said(sessions, tmp_path):
    made(sessions, ("one", "1"))
    with pytest.raises(BadInputError, match=r"\.md, \.html, \.ipynb, \.jsonl"):
        export.write(sessions, "talk", "talk.docx")
    with pytest.raises(BadInputError, match="No such file"):
        export.write(sessions, "talk", str(tmp_path / "no" / "talk.html"))
    with pytest.raises(SessionNotFoundError):
        export.write(sessions, "none", str(tmp_path / "none.ipynb"))
    assert not (tmp_path / "none.ipynb").exists()


@pytest.mark.parametrize("ending", [".md", ".html", ".ipynb"])
def test_a_session_without_turns_becomes_an_empty_document(sessions, tmp_path, ending):
    put(sessions.store, "talk", [asks("never answered")])
    said, text = written(sessions, tmp_path / f"talk{ending}")
    assert "1 turn" in said
    assert text.strip()


# -- a web page ---


def test_the_web_page_runs_nothing_and_fetches_nothing(sessions, tmp_path):
    made(sessions, (HOSTILE, HOSTILE), ("Code?", "```python\nfor x in y: pass\n```"))
    _, html = written(sessions, tmp_path / "talk.html")
    tags = set(re.findall(r"<(\w+)", html.partition("<body>")[2]))
    assert tags <= {*("header", "h1", "main", "section", "p", "a", "div", "pre", "code", "span")}
    assert "<script>" not in html
    assert not re.search(r"<[^>]*(?:\bsrc=|onerror|javascript:)", html)
    assert not re.search(r"url\(|@import|<link", html)
    assert "default-src 'none'" in html
    assert '<span class="k">for</span>' in html
    assert ".highlight .k {" in html
    assert "@media (prefers-color-scheme: dark)" in html
    assert 'id="turn-2"' in html
    assert html.startswith("<!DOCTYPE html>")


def test_a_hostile_title_is_text(sessions, tmp_path):
    made(sessions, ("one", "1"))
    (sessions.store.folder("talk") / "workspace.yaml").write_text(
        "id: talk\nname: '</title><script>x</script>'\n"
    )
    html = written(sessions, tmp_path / "talk.html")[1]
    assert "<script>" not in html
    assert "&lt;/title&gt;&lt;script&gt;" in html


# -- a notebook ---


def notebook(sessions, path, last=None):
    said, text = written(sessions, path, last)
    found = nbformat.reads(text, as_version=nbformat.NO_CONVERT)
    nbformat.validate(found)
    assert (found.nbformat, found.nbformat_minor) == (4, 5)
    assert json.loads(text)["cells"][0]["id"] == "title"
    return said, found


def test_the_notebook_asks_each_prompt_and_carries_each_answer(sessions, tmp_path):
    prompts = made(sessions, ("What is `x`?", "It is *5*."), ("two\n\n  lines", "second"))
    said, found = notebook(sessions, tmp_path / "talk.ipynb")
    assert "anew" not in said
    sources = [cell.source for cell in found.cells if cell.cell_type == "code"]
    assert sources == [
        "%load_ext copilot_jupyter",
        "%copilot_resume talk",
        "%%copilot\nWhat is `x`?",
        "%%copilot\ntwo\n\n  lines",
    ]
    turns = notebook_turns.read(tmp_path / "talk.ipynb")  # nothing is refused
    assert [t.event for t in turns] == prompts
    assert [t.answer for t in turns] == ["It is *5*.", "second"]
    assert [t.parent for t in turns] == ["", prompts[0]]
    assert [t.key for t in turns] == [Question("What is `x`?").key, Question("two\n\n  lines").key]
    output = found.cells[3].outputs[0]
    assert set(output.data) == {"text/plain", "text/html"}
    entry = output.metadata["copilot_jupyter"]
    assert (entry["path"], entry["notebook_id"], entry["session"]) == ("", "", "talk")


def test_flags_that_change_the_key_are_written_again(sessions, tmp_path):
    other = Question("How?", values=(("df", "digest"),))
    bare = Question("Plain", flags=(("no-tools", ""),))
    keys = [Question("Why?", model="gpt-5").key, other.key, bare.key]
    made(sessions, ("Why?", "1"), ("How?\nAnd why?", "2"), ("Plain", "3"), records=keys)
    _, found = notebook(sessions, tmp_path / "talk.ipynb")
    why, how, plain = (cell.source for cell in found.cells[3:])
    assert why == "%%copilot --model gpt-5\nWhy?"
    assert how.startswith("# Turn 2 was asked with values of its kernel")
    assert how.endswith("# How?\n# And why?")
    assert plain == "%%copilot --no-tools\nPlain"
    assert [t.key for t in notebook_turns.read(tmp_path / "talk.ipynb")] == keys


def test_the_values_of_a_question_are_carried_too(sessions, tmp_path):
    asked = Question("How is {df}?", values=(("df", "digest"),))
    made(sessions, ("How is {df}?", "Fine."), records=[asked.key], values=dict(asked.values))
    _, found = notebook(sessions, tmp_path / "talk.ipynb")
    [turn] = notebook_turns.read(tmp_path / "talk.ipynb")
    assert (turn.key, turn.values) == (asked.key, {"df": "digest"})
    assert "sent df" in found.cells[-1].outputs[0].data["text/html"]


def test_a_prompt_with_a_secret_has_the_key_of_what_is_written(sessions, tmp_path):
    made(sessions, (f"Use {TOKEN} please", "Done."))
    said, found = notebook(sessions, tmp_path / "talk.ipynb")
    assert "1 secret was left out. A prompt had one" in said
    [turn] = notebook_turns.read(tmp_path / "talk.ipynb")
    assert turn.key == Question(turn.prompt).key
    assert found.cells[-1].source == f"%%copilot\n{turn.prompt}"


def test_tools_are_named_and_their_secrets_left_out(sessions, tmp_path):
    asked, *answered = exchange("Look", "Done.")
    called = {"toolCallId": "1", "toolName": "run_python", "arguments": {"code": f"x = '{TOKEN}'"}}
    told = {"toolCallId": "1", "success": True, "result": {"content": TOKEN}}
    calls = [event("tool.execution_start", **called), event("tool.execution_complete", **told)]
    put(sessions.store, "talk", [asked, *calls, *answered])
    for ending in (".html", ".ipynb"):
        said, text = written(sessions, tmp_path / f"talk{ending}")
        assert "run_python" in text
        assert TOKEN not in text
        assert ("secret" in said) is (ending == ".ipynb")  # a web page has only the names
    notebook_turns.read(tmp_path / "talk.ipynb")


def test_odd_text_comes_back(sessions, tmp_path):
    odd = "\u2028 a line, \x85 another, \r\n and a tab\t, \x0c, half \ud83d a pair"
    put(sessions.store, "talk", exchange("odd", odd))
    path = tmp_path / "talk.ipynb"
    export.write(sessions, "talk", str(path))
    [turn] = notebook_turns.read(path)
    assert turn.answer == odd.replace("\ud83d", "\ufffd")


def test_thousands_of_turns_become_a_notebook(sessions, tmp_path):
    events = [e for n in range(2_000) for e in exchange(f"Question {n}", f"Answer {n}")]
    put(sessions.store, "talk", events)
    path = tmp_path / "talk.ipynb"
    export.write(sessions, "talk", str(path))
    cells = json.loads(path.read_bytes())["cells"]
    assert len(cells) == len({cell["id"] for cell in cells}) == 2_003
    assert "".join(cells[-1]["source"]) == "%%copilot\nQuestion 1999"
