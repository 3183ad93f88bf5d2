"""Which session a notebook file names; moved, copied, or the same file by another name."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_jupyter.conversation.binding import (
    METADATA_KEY,
    Binding,
    Saved,
    find_by,
    is_copy,
    knows,
    prompts_of,
    read_notebook,
    relative,
)
from copilot_jupyter.conversation.portable import notebook_file
from copilot_jupyter.state.metadata import NOTEBOOK_KERNEL, NOTEBOOK_PATH

if TYPE_CHECKING:
    from pathlib import Path


def answer(session: str, at: str = "", **more: Any) -> dict[str, Any]:
    """Return an output that carries a binding."""
    entry = {"session": session, "path": "a.ipynb", "notebook_id": f"id-of-{session}", **more}
    return {"output_type": "display_data", "metadata": {METADATA_KEY: entry | {"at": at}}}


def code(source: str | list[str], *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": "code", "source": source, "outputs": list(outputs), "metadata": {}}


def save(path: Path, *cells: Any) -> Path:
    content = {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.ipynb"


# -- reading ----------------------------------------------------------------------------------


def test_a_notebook_with_an_answer_is_bound_by_it(file):
    saved = read_notebook(save(file, code("%%copilot\nHello?", answer("s1"))))
    assert saved.binding == Binding("s1", "a.ipynb", "id-of-s1")
    assert saved.notebook_ids == {"id-of-s1"}
    assert saved.prompts == ("Hello?",)
    assert saved.line == ""


def test_the_binding_is_written_as_it_is_read(file):
    made = Binding("s1", "folder/a.ipynb", "n1")
    output = {"metadata": {METADATA_KEY: made.to_metadata()}}
    assert read_notebook(save(file, code("", output))).binding == made
    assert made.to_metadata()["v"] == 1


def test_a_notebook_with_only_a_line_is_bound_by_it(file):
    saved = read_notebook(save(file, code("%load_ext x\n%copilot_resume my-id --create\n")))
    assert saved.binding == Binding("my-id")
    assert saved.notebook_ids == frozenset()


def test_an_answer_binds_before_a_line(file):
    saved = read_notebook(save(file, code("%copilot_resume old"), code("", answer("new"))))
    assert saved.binding == Binding("new", "a.ipynb", "id-of-new")
    assert saved.line == "old"


def test_of_several_lines_the_last_counts(file):
    cells = [code("%copilot_resume one\n  %copilot_resume two"), code("%copilot_resume three")]
    assert read_notebook(save(file, *cells)).line == "three"


@pytest.mark.parametrize(
    "source", ["# %copilot_resume x", "%copilot_resume", "%copilot_resume --create", "copilot"]
)
def test_what_is_no_resume_line_binds_nothing(file, source):
    assert read_notebook(save(file, code(source))) == Saved()


def test_the_newest_answer_binds_wherever_it_stands(file):
    newest = answer("newest", at="2026-11-22T12:00:00+00:00")
    older = answer("older", at="2026-11-22T09:00:00+00:00")
    untimed = answer("untimed")
    saved = read_notebook(save(file, code("", newest), code("", older), code("", untimed)))
    assert [found.session for found in saved.bindings] == ["untimed", "older", "newest"]
    assert saved.binding.session == "newest"


def test_of_answers_without_times_the_last_cell_binds(file):
    saved = read_notebook(save(file, code("", answer("first")), code("", answer("second"))))
    assert saved.binding.session == "second"


def test_a_source_in_lines_is_read_as_one_text(file):
    saved = read_notebook(save(file, code(["%%copilot\n", "Hello\n", "there?"])))
    assert saved.prompts == ("Hello\nthere?",)


def test_only_code_cells_count(file):
    markdown = {"cell_type": "markdown", "source": "%copilot_resume x", "outputs": [answer("s")]}
    assert read_notebook(save(file, markdown)) == Saved()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\x00\xff\xfe",
        b"[]",
        b"5",
        b"null",
        b'"cells"',
        b"{}",
        b'{"cells": null}',
        b'{"cells": 5}',
        b'{"cells": {"a": 1}}',
        b'{"cells": [5]}',
        b'{"cells": [null]}',
        b"<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> other\n",
        b"[" * 100_000,
    ],
    ids=lambda content: repr(content[:20]),
)
def test_a_file_that_is_no_notebook_is_empty(file, content):
    file.write_bytes(content)
    assert read_notebook(file) == Saved()


def test_a_missing_file_is_empty(tmp_path):
    assert read_notebook(None) == Saved()
    assert read_notebook(tmp_path / "gone.ipynb") == Saved()
    assert read_notebook(tmp_path) == Saved()


def test_a_file_too_large_to_search_is_empty(file, monkeypatch):
    save(file, code("%copilot_resume x"))
    monkeypatch.setattr(notebook_file, "LARGEST", 10)
    assert read_notebook(file) == Saved()


WHOLE = {
    "cells": [
        code(["%%copilot --model x\n", "Hello?"], answer("s1", at="2026-11-22"), {"metadata": {}}),
        code("%copilot_resume s2\n%copilot why?", {"output_type": "stream", "text": "x"}),
        {"cell_type": "markdown", "source": "# Title"},
    ],
    "metadata": {},
}

WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=3)), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def places(value: Any, here: tuple = ()) -> list[tuple]:
    """Return the path to every value inside a JSON value."""
    found = [here] if here else []
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    else:
        pairs = []
    for key, inner in pairs:
        found += places(inner, (*here, key))
    return found


@given(st.sampled_from(places(WHOLE)), WRONG, st.booleans())
def test_wrong_types_anywhere_never_raise(tmp_path_factory, place, wrong, delete):
    notebook = deepcopy(WHOLE)
    *above, last = place
    inner: Any = notebook
    for key in above:
        inner = inner[key]
    if delete:
        del inner[last]
    else:
        inner[last] = wrong
    file = tmp_path_factory.getbasetemp() / "mutated.ipynb"
    file.write_text(json.dumps(notebook), encoding="utf-8")
    saved = read_notebook(file)
    for found in saved.bindings:
        assert isinstance(found.session, str)


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (("cells", 0, "source"), None),
        (("cells", 0, "source"), [None]),
        (("cells", 0, "outputs"), None),
        (("cells", 0, "outputs"), [None]),
        (("cells", 0, "outputs", 0, "metadata"), None),
        (("cells", 0, "outputs", 0, "metadata"), "text"),
    ],
)
def test_one_broken_cell_does_not_hide_the_binding_of_another(file, place, wrong):
    notebook = deepcopy(WHOLE)
    notebook["cells"].append(code("", answer("kept", at="2026-11-23")))
    *above, last = place
    inner: Any = notebook
    for key in above:
        inner = inner[key]
    inner[last] = wrong
    file.write_text(json.dumps(notebook), encoding="utf-8")
    assert read_notebook(file).binding.session == "kept"


# -- prompts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "prompts"),
    [
        ("%%copilot\nHello?\n", ["Hello?"]),
        ("%%copilot --model x --into y\nHello\n  there?\n", ["Hello\n  there?"]),
        ("\n\n%%copilot\nHello?", ["Hello?"]),
        ("%%copilot\r\nHello?\r\n", ["Hello?"]),
        ("%%copilot", []),
        ("%copilot What were we discussing?", ["What were we discussing?"]),
        ("x = %copilot why?\n    y = %copilot how?", ["why?", "how?"]),
        ("x.y = %copilot why?\nd['k'] = %copilot how?", ["why?", "how?"]),
        ("a, b = %copilot why?\nx: str = %copilot how?", ["why?", "how?"]),
        ("d[f(k=1)] = %copilot why?", ["why?"]),
        ("%copilot --model x why?", ["why?"]),
        ("%copilot --model=x why?", ["why?"]),
        ("%copilot --model   x   why?", ["why?"]),
        ('%copilot --model "my model" why?', ["why?"]),
        ("x = %copilot --model x --into y why --model?", ["why --model?"]),
        ("%copilot\twhy?", ["why?"]),
        ("%copilot", []),
        ("%copilot_sessions why?", []),
        ("%%copilot_x\nwhy?", []),
        ("print('%copilot why?')", []),
        ("# %copilot why?", []),
        ("", []),
    ],
)
def test_what_a_cell_asks(source, prompts):
    assert prompts_of(source) == prompts


def test_a_session_is_known_by_one_prompt_in_common():
    assert knows(["Hello\n", "why?"], ["never asked", "  Hello"])
    assert not knows(["Hello"], ["hello", "Hell"])
    assert not knows([], ["Hello"])
    assert not knows(["Hello"], [])


# -- paths ------------------------------------------------------------------------------------


def test_a_path_is_relative_to_its_repository(tmp_path):
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    file = tmp_path / "repository" / "churn" / "a.ipynb"
    assert relative(file, tmp_path) == "churn/a.ipynb"


def test_a_worktrees_git_file_marks_a_repository_too(tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / ".git").write_text("gitdir: elsewhere")
    assert relative(tmp_path / "tree" / "a.ipynb", None) == "a.ipynb"


def test_the_nearest_repository_counts(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "sub" / ".git").mkdir(parents=True)
    assert relative(tmp_path / "sub" / "x" / "a.ipynb", None) == "x/a.ipynb"


def test_without_a_repository_it_is_relative_to_the_servers_root(tmp_path):
    assert relative(tmp_path / "x" / "a.ipynb", tmp_path) == "x/a.ipynb"


def test_outside_of_both_only_the_name_is_left(tmp_path):
    assert relative(tmp_path / "x" / "a.ipynb", None) == "a.ipynb"
    assert relative(tmp_path / "x" / "a.ipynb", tmp_path / "y") == "a.ipynb"


def test_an_unknown_path_stays_unknown(tmp_path):
    assert relative(None, tmp_path) == ""


# -- copies -----------------------------------------------------------------------------------


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return save(tmp_path / "original.ipynb", code("", answer("s1")))


def copied(here: Path | None, notebook_id: str, home: Path | str) -> bool:
    return is_copy(here, notebook_id, str(home), read_notebook)


def test_two_files_with_one_notebook_id_are_copies(original, tmp_path):
    copy = tmp_path / "copy.ipynb"
    copy.write_bytes(original.read_bytes())
    assert copied(copy, "id-of-s1", original)


def test_a_file_whose_old_place_is_empty_was_moved(original, tmp_path):
    moved = original.rename(tmp_path / "moved.ipynb")
    assert not copied(moved, "id-of-s1", original)


def test_a_file_is_no_copy_of_itself(original):
    assert not copied(original, "id-of-s1", original)


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symlink", "hard link"])
def test_one_file_by_two_names_is_no_copy(original, tmp_path, link):
    other = tmp_path / "other.ipynb"
    link(original, other)
    assert not copied(other, "id-of-s1", original)


def test_another_notebook_at_the_old_place_is_no_original(original, tmp_path):
    here = save(tmp_path / "here.ipynb", code("", answer("s1", notebook_id="another")))
    assert not copied(here, "another", original)


def test_an_original_whose_outputs_were_cleared_is_none(original, tmp_path):
    copy = tmp_path / "copy.ipynb"
    copy.write_bytes(original.read_bytes())
    save(original, code(""))
    assert not copied(copy, "id-of-s1", original)


def test_what_is_unknown_makes_no_copy(original, tmp_path):
    here = save(tmp_path / "here.ipynb", code("", answer("s1")))
    assert not copied(None, "id-of-s1", original)
    assert not copied(here, "", original)
    assert not copied(here, "id-of-s1", "")


def test_a_file_not_saved_yet_is_no_copy(original, tmp_path):
    assert not copied(tmp_path / "unsaved.ipynb", "id-of-s1", original)


@pytest.mark.parametrize("home", ["/" + "x" * 5000, "/no\x00where.ipynb"])
def test_a_home_that_cannot_be_looked_at_makes_no_copy(tmp_path, home):
    here = save(tmp_path / "here.ipynb", code("", answer("s1")))
    assert not copied(here, "id-of-s1", home)


# -- the index --------------------------------------------------------------------------------


def test_the_kernel_points_before_the_path(tmp_path):
    metadata = {NOTEBOOK_KERNEL: "k1", NOTEBOOK_PATH: str(tmp_path / "a.ipynb")}
    here = tmp_path / "a.ipynb"
    assert find_by(metadata, kernel="k1", path=here) == "kernel"
    assert find_by(metadata, kernel="k2", path=here) == "path"
    assert find_by(metadata, kernel="", path=here) == "path"
    assert find_by(metadata, kernel="k2", path=tmp_path / "b.ipynb") == ""
    assert find_by(metadata, kernel="k2", path=None) == ""


def test_a_session_without_a_notebook_points_nowhere(tmp_path):
    assert find_by({}, kernel="", path=None) == ""
    assert find_by({NOTEBOOK_KERNEL: ""}, kernel="", path=tmp_path) == ""
