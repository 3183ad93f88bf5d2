"""Turns in a notebook's outputs: whole and as written, or refused with the cell's number."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_jupyter.conversation import transcript, used
from copilot_jupyter.conversation.binding import METADATA_KEY, read_notebook
from copilot_jupyter.conversation.portable import notebook_file, notebook_turns
from copilot_jupyter.conversation.portable.embedded import EmbeddedTurn, entry
from copilot_jupyter.conversation.portable.lineage import News, chains, compare
from copilot_jupyter.conversation.portable.notebook_turns import find, of_session, read
from copilot_jupyter.conversation.portable.transcribe import events_of, turn_events
from copilot_jupyter.errors import BadInputError
from copilot_jupyter.events import ToolUse, Turn, Usage
from copilot_jupyter.state.ids import LONGEST_ID
from copilot_jupyter.state.journal import journal_bytes, parse_journal

if TYPE_CHECKING:
    from pathlib import Path

KEY = "0123456789abcdef" * 2
NOON = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)


USES = (ToolUse("view", {"path": "a"}, "text", "success"),)


def asked(number: int, name: str = "", **more: Any) -> Turn:
    """Return a turn as a session holds it; `name` sets its event apart from others'."""
    name = name or str(number)
    told = {
        "number": number,
        "event_id": f"e{name}",
        "prompt": f"Prompt {name}",
        "sent": f"Prompt {name}",
        "answer": f"Answer {name}",
        "model": "gpt-5",
        "at": NOON + timedelta(minutes=number),
        **more,
    }
    return Turn(**told)


def output(turn: Turn, parent: str = "", *, session: str = "s1", **more: Any) -> dict[str, Any]:
    """Return an answer's output as a cell carries it."""
    binding = {"v": 1, "session": session, "path": "a.ipynb", "notebook_id": "n1"}
    found = entry(turn, session=session, parent=parent, key=KEY)
    return {
        "output_type": "display_data",
        "data": {"text/plain": turn.answer, "text/html": "<div></div>"},
        "metadata": {METADATA_KEY: {**binding, **found, **more}},
    }


def code(*outputs: Any) -> dict[str, Any]:
    return {"cell_type": "code", "source": "", "outputs": list(outputs), "metadata": {}}


def save(path: Path, *cells: Any) -> Path:
    content = {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8", "surrogatepass")
    return path


def conversation(count: int, session: str = "s1") -> list[dict[str, Any]]:
    """Return the cells of a conversation without gaps."""
    return [
        code(output(asked(n), f"e{n - 1}" if n > 1 else "", session=session))
        for n in range(1, count + 1)
    ]


def node(name: str, parent: str = "", *, cell: int = 0, **more: Any) -> EmbeddedTurn:
    """Return a turn by its name such as "3b": its number, and the line it belongs to."""
    number = int("".join(c for c in name if c.isdigit()))
    told = {
        "session": "s1",
        "event": name,
        "parent": parent,
        "turn": number,
        "key": KEY,
        "prompt": f"Prompt {name}",
        "sent": "",
        "answer": f"Answer {name}",
        "at": (NOON + timedelta(minutes=number)).isoformat(),
        "cell": cell,
        "source": "a.ipynb",
        **more,
    }
    return EmbeddedTurn(**told)


def nodes(*links: str) -> list[EmbeddedTurn]:
    """Return turns out of links such as "2<1", in cells of this order."""
    pairs = [link.partition("<") for link in links]
    return [node(name, parent, cell=n) for n, (name, _, parent) in enumerate(pairs)]


def names(found: Any) -> list[str]:
    return [" ".join(turn.event for turn in chain) for chain in found]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.ipynb"


def refused(path: Path) -> BadInputError:
    with pytest.raises(BadInputError) as error:
        read(path)
    assert error.value.what.endswith(".")
    assert error.value.do.endswith(".")
    return error.value


# -- writing ----------------------------------------------------------------------------------


def test_an_entry_holds_the_turn_but_not_its_answer():
    made = entry(asked(2), session="s1", parent="e1", key=KEY)
    digest = made.pop("digest")
    assert len(digest) == 32
    assert int(digest, 16)
    assert made == {
        "turn": 2,
        "event": "e2",
        "parent": "e1",
        "key": KEY,
        "prompt": "Prompt 2",
        "model": "gpt-5",
        "at": "2026-11-22T12:02:00.123456+00:00",
        "ev": 1,
    }


def test_an_entry_holds_what_only_some_turns_have():
    turn = asked(1, sent="Context\n\nPrompt 1", uses=USES, usage=Usage(11, 7), at=None)
    made = entry(turn, session="s1", parent="", key=KEY)
    assert made["sent"] == "Context\n\nPrompt 1"
    assert made["uses"] == [["view", {"path": "a"}, "text", "success"]]
    assert made["usage"] == [11, 7]
    assert made["at"] == ""


def test_the_digest_does_not_change_between_versions():
    made = entry(asked(1, prompt="Größe\u2028?"), session="s1", parent="", key=KEY)
    assert made["digest"] == "1889b97087158a26fbc33014a000e469"


def test_an_entry_is_small_beside_the_prompt():
    uuid = "3f2c8f0e-0f0d-4c7a-9a55-0123456789ab"
    told = {"prompt": "", "sent": "", "usage": Usage(123_456, 123_456)}
    turn = asked(99_999, event_id=uuid, **told)
    made = entry(turn, session="s" * LONGEST_ID, parent=uuid, key=KEY)
    assert len(json.dumps(made)) < 1000
    turn = asked(99_999, event_id="e" * LONGEST_ID, **told)
    made = entry(turn, session="s" * LONGEST_ID, parent="p" * LONGEST_ID, key=KEY)
    assert len(json.dumps(made)) < 1000


def test_long_arguments_and_results_are_cut_and_many_calls_too():
    long = ToolUse("run_python", {"code": "x" * 9000, "n": 1}, "y" * 9000, "failure")
    made = entry(asked(1, uses=(long,) * 99), session="s1", parent="", key=KEY)["uses"]
    assert len(made) == used.CALLS
    name, arguments, result, status = made[0]
    assert (name, arguments["n"], status) == ("run_python", 1, "failure")
    assert len(arguments["code"]) == len(result) == used.LENGTH
    assert arguments["code"].endswith("… [cut]")
    wide = ToolUse("edit", {str(n): "x" * 1000 for n in range(99)}, "", "success")
    [[_, arguments, _, _]] = entry(asked(1, uses=(wide,)), session="s1", parent="", key=KEY)["uses"]
    assert [*arguments] == ["arguments"]
    # What is carried is what is shown, before and after a session was rebuilt from it.
    for use in (long, wide, ToolUse("list_variables"), ToolUse("odd", "no object")):
        assert used.carried(used.carried([use])) == used.carried([use])


@pytest.mark.parametrize("character", ["x", "ß", "€", "𝄞"])
@pytest.mark.parametrize("lead", range(4))
def test_a_long_text_as_sent_is_cut_between_characters(character, lead):
    text = "." * lead + character * 20_000
    sent = entry(asked(1, sent=text), session="s1", parent="", key=KEY)["sent"]
    kept, _, mark = sent.partition("…")
    assert text.startswith(kept)
    missing = len(text.encode()) - len(kept.encode())
    assert mark == f"[cut by copilot-jupyter: {missing} bytes more]"
    assert used.LARGEST_SENT - 4 < len(sent.encode()) <= used.LARGEST_SENT
    # A rebuilt session knows only the cut text: it is not cut again.
    assert entry(asked(1, sent=sent), session="s1", parent="", key=KEY)["sent"] == sent


def test_a_text_as_sent_that_just_fits_is_whole():
    text = "ß" * (used.LARGEST_SENT // 2)
    assert entry(asked(1, sent=text), session="s1", parent="", key=KEY)["sent"] == text


def test_a_long_prompt_is_never_cut(file):
    prompt = "ß" * 100_000
    (turn,) = read(save(file, code(output(asked(1, prompt=prompt, sent=prompt)))))
    assert (turn.prompt, turn.sent) == (prompt, "")


# -- reading ----------------------------------------------------------------------------------


def test_a_turn_is_read_as_it_was_written(file):
    turn = asked(2, sent="sent", uses=USES, usage=Usage(11, 7))
    markdown = {"cell_type": "markdown", "source": "# Title"}
    save(file, markdown, code({"output_type": "stream", "text": "x"}, output(turn, "e1")))
    assert read(file) == (
        EmbeddedTurn(
            session="s1",
            event="e2",
            parent="e1",
            turn=2,
            key=KEY,
            prompt="Prompt 2",
            sent="sent",
            answer="Answer 2",
            model="gpt-5",
            at="2026-11-22T12:02:00.123456+00:00",
            uses=USES,
            usage=Usage(11, 7),
            cell=1,
            source="a.ipynb",
        ),
    )


def test_the_binding_is_read_beside_it(file):
    assert read_notebook(save(file, *conversation(1))).binding.session == "s1"


def test_turns_come_in_the_order_of_their_cells_and_of_any_session(file):
    save(
        file,
        code(output(asked(2), session="s2"), output(asked(9), session="s3")),
        code(),
        code(output(asked(1)) | {"output_type": "execute_result", "execution_count": 1}),
    )
    assert [(t.session, t.turn, t.cell) for t in read(file)] == [
        ("s2", 2, 0),
        ("s3", 9, 0),
        ("s1", 1, 2),
    ]


def test_a_cell_is_read_with_its_id_and_whether_it_is_whole(file):
    sources = ["%%copilot\nhi", ["\n", " %%copilot -m x\n", "hi"], "x = 1\n%copilot hi", None]
    cells = [code(output(asked(n))) | {"source": s} for n, s in enumerate(sources, 1)]
    for name, cell in zip(["one", "two", "three"], cells, strict=False):
        cell["id"] = name
    found = read(save(file, *cells))
    assert [turn.cell_id for turn in found] == ["one", "two", "three", ""]
    assert [turn.whole for turn in found] == [True, True, False, False]


TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["a\r\nb\rc\n", "\u2028\u2029\x85\x0b\x0c\x1c", "\x00", "\ufeff", "Größe 𝄞", "]]>\\u0041"]
)


@given(TEXT, TEXT, TEXT, st.booleans(), st.booleans())
def test_any_text_survives_the_notebook(tmp_path_factory, prompt, sent, answer, lines, ascii_only):
    turn = asked(1, prompt=prompt, sent=sent, answer=answer)
    made = output(turn)
    if lines:  # as nbformat writes it
        made["data"]["text/plain"] = answer.splitlines(keepends=True)
    file = tmp_path_factory.getbasetemp() / "round.ipynb"
    content = json.dumps({"cells": [code(made)]}, ensure_ascii=ascii_only, indent=1)
    file.write_bytes(content.encode())
    (found,) = read(file)
    assert (found.prompt, found.answer) == (prompt, answer)
    assert found.sent == ("" if sent == prompt else sent)
    events = parse_journal(journal_bytes(events_of("s1", [found], "/work"))).events
    (again,) = transcript.turns(events)
    assert (again.prompt, again.answer) == (prompt, answer)


def test_half_a_surrogate_pair_does_no_harm(file):
    turn = asked(1, prompt="\ud800", sent="\udfff" * 9000, answer="x\ud800")
    file.write_text(json.dumps({"cells": [code(output(turn))]}))
    (found,) = read(file)
    assert (found.prompt, found.answer) == ("\ud800", "x\ud800")
    assert found.sent.startswith("\udfff")


@pytest.mark.parametrize(
    "made",
    [
        None,
        5,
        "x",
        {},
        {"output_type": "display_data"},
        {"output_type": "display_data", "metadata": None},
        {"output_type": "display_data", "metadata": []},
        {"output_type": "display_data", "metadata": {METADATA_KEY: 5}},
        {"output_type": "display_data", "metadata": {METADATA_KEY: [1]}},
        {"output_type": "display_data", "metadata": {METADATA_KEY: {"session": 5}}},
        {"output_type": "display_data", "metadata": {METADATA_KEY: {"session": "s", "turn": 1}}},
        {"output_type": "display_data", "metadata": {"other_tool": {"ev": "broken"}}},
        {"output_type": "stream", "metadata": {METADATA_KEY: {"ev": 1}}},
        {"output_type": ["display_data"], "metadata": {METADATA_KEY: {"ev": 1}}},
    ],
    ids=str,
)
def test_what_is_not_embedded_by_us_is_passed_over(file, made):
    assert read(save(file, code(made, output(asked(1)), made)))[0].event == "e1"


@pytest.mark.parametrize(
    "cell",
    [
        None,
        5,
        [],
        {},
        {"cell_type": "code"},
        {"cell_type": "code", "outputs": None},
        {"cell_type": "code", "outputs": {"a": 1}},
        {"cell_type": "markdown", "outputs": [output(asked(7))]},
    ],
    ids=str,
)
def test_cells_of_any_kind_are_passed_over(file, cell):
    assert [t.event for t in read(save(file, cell, *conversation(1)))] == ["e1"]


def test_a_notebook_of_an_old_format_carries_nothing(file):
    file.write_text('{"worksheets": [{"cells": []}], "nbformat": 3}')
    assert read(file) == ()


# -- what was changed or damaged ---------------------------------------------------------------

WHOLE = output(asked(3, sent="sent", uses=USES, usage=Usage(1, 2)), "e2")


def changed(file: Path, **fields: Any) -> Path:
    """Save a notebook whose turn 3, in cell 7, has other fields."""
    made = deepcopy(WHOLE)
    made["metadata"][METADATA_KEY] |= fields
    return save(file, *[code() for _ in range(6)], code(made))


def test_an_answer_that_was_changed_is_named(file):
    made = deepcopy(WHOLE)
    made["data"]["text/plain"] += " "
    error = refused(save(file, *[code() for _ in range(6)], code(made)))
    where = "The answer of turn 3 in cell 7 of a.ipynb"
    assert error.what == f"{where} was changed since it was written."
    assert "clear that cell's output" in error.do


@pytest.mark.parametrize(
    "name", ["session", "event", "parent", "key", "prompt", "sent", "model", "at"]
)
@given(text=st.text())
def test_a_text_that_was_changed_is_refused(tmp_path_factory, name, text):
    if text == WHOLE["metadata"][METADATA_KEY][name]:
        return
    file = tmp_path_factory.getbasetemp() / "a.ipynb"
    made = deepcopy(WHOLE)
    made["metadata"][METADATA_KEY][name] = text
    file.write_text(json.dumps({"cells": [code(made)]}))
    assert "in cell 1 of a.ipynb" in refused(file).what


@pytest.mark.parametrize(
    "fields",
    [
        {"turn": 4},
        {"uses": []},
        {"uses": [["view", {"path": "b"}, "text", "success"]]},
        {"sent": ""},
        {"key": "f" * 32},
        {"usage": [1, 3]},
        {"usage": [0, 0]},
        {"digest": "0" * 32},
        {"digest": ""},
    ],
    ids=str,
)
def test_another_value_is_refused(file, fields):
    assert refused(changed(file, **fields)).what.endswith("was changed since it was written.")


def test_tokens_that_were_added_are_refused(file):
    assert "was changed" in refused(save(file, code(output(asked(1), usage=[1, 2])))).what


def test_fields_of_later_versions_and_of_the_binding_are_free(file):
    assert read(changed(file, path="b.ipynb", notebook_id="n2", v=2, more=[1]))[0].turn == 3


FIELDS = ["session", "event", "parent", "turn", "key", "prompt", "model", "at", "digest", "ev"]
WRONG = [None, True, 1.5, {}, [], "text", 5, [5], ["x", None], [1, 2, 3], [1, -1], [True, 1]]


@pytest.mark.parametrize("name", [*FIELDS, "sent", "uses", "usage"])
@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_field_of_a_wrong_kind_is_named(file, name, wrong):
    right = WHOLE["metadata"][METADATA_KEY][name]
    if type(wrong) is type(right) and not isinstance(right, list):
        return
    if (name, wrong) == ("uses", []):
        return
    what = refused(changed(file, **{name: wrong})).what
    which = "a turn" if name == "turn" else "turn 3"
    if (name, wrong) != ("ev", 5):
        assert what == (
            f"The answer of {which} in cell 7 of a.ipynb is damaged: "
            f"its {name!r} is missing or of the wrong kind."
        )


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "ev"])
def test_a_field_that_is_missing_is_named(file, name):
    made = deepcopy(WHOLE)
    del made["metadata"][METADATA_KEY][name]
    which = "a turn" if name == "turn" else "turn 3"
    assert refused(save(file, code(made))).what == (
        f"The answer of {which} in cell 1 of a.ipynb is damaged: "
        f"its {name!r} is missing or of the wrong kind."
    )


@pytest.mark.parametrize("data", [None, 5, {}, {"text/html": "x"}, {"text/plain": [1]}], ids=str)
def test_an_answer_without_its_text_is_refused(file, data):
    what = refused(save(file, code({**WHOLE, "data": data}))).what
    assert what == "The answer of turn 3 in cell 1 of a.ipynb is damaged: its text is missing."


@pytest.mark.parametrize("number", [0, -1])
def test_turns_are_numbered_from_one(file, number):
    assert "its 'turn'" in refused(changed(file, turn=number)).what


def test_a_newer_embedding_asks_for_an_update(file):
    error = refused(changed(file, ev=2, digest=None, prompt={}))
    assert error.what.startswith(
        "Turn 3 in cell 7 of a.ipynb was written by a newer copilot-jupyter"
    )
    assert error.do.startswith("Update it")


@pytest.mark.parametrize("session", ["../../etc", "a/b", "", ".", "-rf", "a\n", "x" * 251, "ä"])
def test_a_session_that_is_a_path_is_refused(file, session):
    what = refused(save(file, code(output(asked(3), session=session)))).what
    assert what.startswith("The answer of turn 3 in cell 1 of a.ipynb names no session that can be")


@given(
    st.sampled_from(["metadata", "data", *WHOLE["metadata"][METADATA_KEY]]),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.lists(st.none() | st.integers() | st.text(max_size=2), max_size=3)
    | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)
def test_nothing_but_a_clear_refusal_is_raised(tmp_path_factory, name, wrong):
    made = deepcopy(WHOLE)
    (made if name in made else made["metadata"][METADATA_KEY])[name] = wrong
    file = tmp_path_factory.getbasetemp() / "a.ipynb"
    file.write_text(json.dumps({"cells": [code(made)]}))
    with contextlib.suppress(BadInputError):
        assert all(turn.answer == "Answer 3" for turn in read(file))


# -- files that cannot be read -----------------------------------------------------------------

CONFLICT = '{\n "cells": [\n<<<<<<< HEAD\n  1\n=======\n  2\n>>>>>>> other\n ]\n}\n'


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_merge_conflict_is_named_with_its_line(file, newline):
    file.write_bytes(CONFLICT.replace("\n", newline).encode())
    error = refused(file)
    assert error.what == "a.ipynb holds a merge conflict: the first marker is in line 3."
    assert "git" in error.do


def test_what_is_left_of_a_merge_conflict_is_named(file):
    file.write_text('{"cells": []\n>>>>>>> other\n}')
    assert refused(file).what.endswith("in line 2.")


def test_markers_inside_a_text_are_no_conflict(file):
    prompt = "<<<<<<< HEAD\n=======\n>>>>>>> other\n"
    assert read(save(file, code(output(asked(1, prompt=prompt)))))[0].prompt == prompt


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"cells": [', b"\x00\xff\xfe", b"[" * 100_000],
    ids=lambda c: str(c[:9]),
)
def test_a_file_that_is_cut_off_or_no_json_is_refused(file, content):
    file.write_bytes(content)
    assert refused(file).what.startswith("a.ipynb is cut off or damaged: it is no valid JSON")


@pytest.mark.parametrize("content", ["5", "null", "[]", "{}", '{"cells": null}', '{"cells": {}}'])
def test_json_that_is_no_notebook_is_refused(file, content):
    file.write_text(content)
    assert refused(file).what.startswith("a.ipynb is no notebook")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert refused(tmp_path / "gone.ipynb").what == f"There is no notebook {tmp_path}/gone.ipynb."
    assert refused(tmp_path).what == f"The notebook {tmp_path} cannot be read: Is a directory."


def test_a_file_too_large_is_refused_unread(file):
    with file.open("wb") as made:
        made.truncate(201 * 2**20)  # a hole: no bytes on the disk
    assert "has 201 MB" in refused(file).what


# -- finding ----------------------------------------------------------------------------------


def test_the_notebook_that_carries_a_session_is_found(tmp_path):
    save(tmp_path / "other.ipynb", *conversation(3, "s2"))
    save(tmp_path / "names.ipynb", {"cell_type": "code", "source": '"s1"'})
    (tmp_path / "folder.ipynb").mkdir()
    (tmp_path / "deeper").mkdir()
    save(tmp_path / "deeper" / "a.ipynb", *conversation(1))
    (tmp_path / "gone.ipynb").symlink_to(tmp_path / "nowhere")
    assert find(tmp_path, "s1") is None
    here = save(tmp_path / "here.ipynb", *conversation(1))
    assert find(tmp_path, "s1") == here
    assert find(tmp_path, "s") is None
    assert find(tmp_path / "missing", "s1") is None


def test_of_several_the_one_with_most_turns_is_found_then_the_newest(tmp_path):
    short = save(tmp_path / "short.ipynb", *conversation(2))
    twice = save(tmp_path / "twice.ipynb", *conversation(2), *conversation(2))
    longest = save(tmp_path / "long.ipynb", *conversation(3))
    copy = save(tmp_path / "long copy.ipynb", *conversation(3))
    for age, path in enumerate((short, twice, copy, longest)):
        os.utime(path, (1000 - age, 1000 - age))
    assert find(tmp_path, "s1") == copy
    os.utime(longest, (2000, 2000))
    assert find(tmp_path, "s1") == longest


def test_a_damaged_notebook_is_passed_over_where_another_carries_the_session(tmp_path):
    (tmp_path / "a.ipynb").write_text(CONFLICT + '"s1"')
    good = save(tmp_path / "good.ipynb", *conversation(1))
    assert find(tmp_path, "s1") == good


def test_a_damaged_notebook_that_alone_names_the_session_is_told_of(tmp_path):
    (tmp_path / "bad.ipynb").write_text(CONFLICT + '"s1"')
    save(tmp_path / "other.ipynb", *conversation(1, "s2"))
    with pytest.raises(BadInputError, match=r"bad.ipynb holds a merge conflict"):
        find(tmp_path, "s1")
    assert find(tmp_path, "s3") is None
    assert find(tmp_path, "s2").name == "other.ipynb"


def test_a_huge_notebook_is_not_searched(tmp_path, monkeypatch):
    save(tmp_path / "a.ipynb", *conversation(1))
    monkeypatch.setattr(notebook_file, "LARGEST", 10)
    assert find(tmp_path, "s1") is None


def test_a_search_reads_the_newest_notebooks_up_to_a_budget(tmp_path, monkeypatch):
    old = save(tmp_path / "old.ipynb", *conversation(2))
    new = save(tmp_path / "new.ipynb", *conversation(1))
    other = save(tmp_path / "other.ipynb", *conversation(1, "s2"))
    for age, path in enumerate((other, new, old)):
        os.utime(path, (1000 - age, 1000 - age))
    sizes = [path.stat().st_size for path in (other, new, old)]
    for budget, found in ((3, old), (2, new), (1, None), (0, None)):
        monkeypatch.setattr(notebook_turns, "_SEARCHED", sum(sizes[:budget]))
        assert find(tmp_path, "s1") == found
    read_files = []
    monkeypatch.setattr(notebook_file, "content", lambda path: read_files.append(path.name) or b"")
    monkeypatch.setattr(notebook_turns, "_SEARCHED", sum(sizes) - 1)
    assert find(tmp_path, "s1") is None
    assert read_files == ["other.ipynb", "new.ipynb"]


def test_a_huge_notebook_does_not_use_up_the_search(tmp_path, monkeypatch):
    good = save(tmp_path / "good.ipynb", *conversation(1))
    os.utime(good, (1000, 1000))
    save(tmp_path / "huge.ipynb", *conversation(9))
    monkeypatch.setattr(notebook_file, "LARGEST", good.stat().st_size)
    monkeypatch.setattr(notebook_turns, "_SEARCHED", good.stat().st_size)
    assert find(tmp_path, "s1") == good


# -- sessions ---------------------------------------------------------------------------------


def test_a_branch_has_the_turns_that_it_shares_with_the_session_it_left():
    turns = [
        node("1"),
        node("2", "1"),
        node("3", "2"),
        node("3b", "2", session="s1-b"),
        node("4b", "3b", session="s1-b"),
        node("5c", "4b", session="s1-c"),
        node("1x", session="other"),
    ]
    found = of_session(turns, "s1-c")
    assert [turn.event for turn in found] == ["1", "2", "3b", "4b", "5c"]
    assert {turn.session for turn in found} == {"s1-c"}
    assert names(chains(found)) == ["1 2 3b 4b 5c"]
    assert [turn.event for turn in of_session(turns, "s1-b")] == ["1", "2", "3b", "4b"]
    assert of_session(turns, "s1") == turns[:3]
    assert of_session(turns, "none") == []
    assert turns[0].session == "s1"


def test_a_branch_ends_where_a_shared_turn_is_missing_and_may_go_in_a_circle():
    turns = [node("1"), node("3", "2"), node("4b", "3", session="b")]
    assert [turn.event for turn in of_session(turns, "b")] == ["3", "4b"]
    turns = [node("1", "2"), node("2", "1"), node("3b", "2", session="b")]
    assert [turn.event for turn in of_session(turns, "b")] == ["1", "2", "3b"]


# -- conversations ----------------------------------------------------------------------------


def test_turns_in_any_order_are_one_conversation():
    assert names(chains(nodes("3<2", "1", "4<3", "2<1"))) == ["1 2 3 4"]
    assert chains([]) == []


def test_a_turn_that_is_there_twice_counts_once():
    again = node("2", "1", cell=9, source="b.ipynb", key="other", usage=Usage(1, 1))
    assert names(chains([*nodes("1", "2<1", "3<2"), again])) == ["1 2 3"]


@pytest.mark.parametrize("name", ["prompt", "sent", "answer", "session"])
def test_a_turn_that_is_there_twice_and_differs_is_refused(name):
    again = dataclasses.replace(node("2", "1", cell=9), **{name: "other"})
    with pytest.raises(BadInputError) as error:
        chains([*nodes("1", "2<1"), again])
    assert "cell 2 of a.ipynb and in cell 10 of a.ipynb" in error.value.what
    assert error.value.do


@pytest.mark.parametrize(
    ("links", "found"),
    [
        ("1 2<1 3a<2 4a<3a 3b<2", ["1 2 3a 4a", "1 2 3b"]),
        ("1a 2a<1a 1b", ["1a 2a", "1b"]),
        ("1 2a<1 3a<2a 3c<2a 2b<1 3b<2b 4b<3b", ["1 2b 3b 4b", "1 2a 3a", "1 2a 3c"]),
        # Cells were deleted.
        ("1 3<2 4<3", ["1 3 4"]),
        ("2<1 3<2", ["2 3"]),
        ("3<2 5<4 9<8", ["3 5 9"]),
        # Both sides of a merge lost the turn that they began with.
        ("1 3a<2a 3b<2b", ["1 3a", "1 3b"]),
        ("2a<1 2b<1", ["2a", "2b"]),
        ("1 3a<2 3b<2", ["1 3a", "1 3b"]),
        # Turn 2a is no ancestor of 3b, whose parent was another second turn.
        ("1 2a<1 3b<2b", ["1 3b", "1 2a"]),
        # Of two equally near, the one whose cell is above.
        ("1 2a<1 4a<3a 2b<1 4b<3b", ["1 2a 4a", "1 2b 4b"]),
        # Rebuilt without the turn 2, the session went on with another turn 3.
        ("1 3<2 3x<3 4x<3x", ["1 3 3x 4x"]),
        ("1 3<2 4x<3x", ["1 3 4x"]),
    ],
)
def test_conversations_that_diverged_are_told_apart(links, found):
    assert names(chains(nodes(*links.split()))) == found


def test_after_a_rewind_the_new_course_comes_before_the_longer_old_one():
    late = (NOON + timedelta(days=1)).isoformat()
    old = nodes("1", "2<1", "3<2", "4<3", "5<4")
    new = node("2x", "1", cell=1, at=late)
    assert names(chains([*old, new])) == ["1 2x", "1 2 3 4 5"]
    # The second cell was run again: its old turn is gone, those below are still there.
    kept = [turn for turn in old if turn.event != "2"]
    assert names(chains([*kept, new])) == ["1 2x", "1 3 4 5"]
    news = compare(["1"], (), [*old, new])
    assert names([news.added]) == ["2x"]
    assert names(news.branches) == ["1 2 3 4 5"]


def test_of_two_as_new_the_longer_comes_first():
    at = NOON.isoformat()
    turns = [dataclasses.replace(t, at=at) for t in nodes("1", "2a<1", "2b<1", "3b<2b")]
    assert names(chains(turns)) == ["1 2b 3b", "1 2a"]
    zone = dataclasses.replace(turns[1], at="2026-11-22T14:00:00.123457+02:00")
    assert names(chains([turns[0], zone, *turns[2:]])) == ["1 2a", "1 2b 3b"]


def test_of_two_as_long_the_newer_comes_first():
    late = (NOON + timedelta(days=1)).isoformat()
    unknown = node("2c", "1", at="")
    turns = [*nodes("1", "2a<1"), unknown, node("2b", "1", at=late)]
    assert names(chains(turns)) == ["1 2b", "1 2a", "1 2c"]


def test_turns_that_follow_each_other_in_a_circle_are_refused():
    for links in (["1", "2<3", "3<2"], ["2<2"], ["1<2", "2<1", "3<2"]):
        with pytest.raises(BadInputError, match="in a circle"):
            chains(nodes(*links))


def test_the_nearest_turn_is_of_the_highest_number_and_then_of_the_cell_above():
    def parent(cell: int, *others: EmbeddedTurn) -> str:
        (chain,) = [c for c in chains([*others, node("9", "8", cell=cell)]) if c[-1].event == "9"]
        return chain[-2].event

    others = [node("5a", cell=4), node("5b", cell=8), node("5c", cell=8), node("4", cell=10)]
    assert [parent(cell, *others) for cell in (0, 4, 5, 8, 9, 99)] == [
        *("5a", "5a", "5a", "5a", "5b", "5b")
    ]


def test_time_grows_with_the_gaps_and_not_with_their_square():
    turns = [node(str(n), str(n - 1), cell=n) for n in range(2, 20_000, 2)]
    began = time.process_time()
    (chain,) = chains(turns)
    assert len(chain) == len(turns)
    assert time.process_time() - began < 2


@given(st.sets(st.integers(1, 30), min_size=1), st.randoms(use_true_random=False))
def test_however_many_cells_were_deleted_it_is_one_conversation(kept, random):
    turns = [node(str(n), str(n - 1) if n > 1 else "", cell=n) for n in kept]
    random.shuffle(turns)
    assert names(chains(turns)) == [" ".join(map(str, sorted(kept)))]


@given(st.lists(st.integers(0, 10), max_size=25))
def test_every_turn_is_in_a_conversation_that_goes_by_parents(parents):
    links: list[tuple[str, str, int]] = []
    for n, choice in enumerate(parents):
        above, _, depth = links[choice % len(links)] if links and choice else ("", "", 0)
        links.append((f"{depth + 1}-{n}", above, depth + 1))
    turns = [
        dataclasses.replace(node("1", above, cell=n), event=name, turn=depth)
        for n, (name, above, depth) in enumerate(links)
    ]
    found = chains(turns)
    assert {turn.event for chain in found for turn in chain} == {name for name, _, _ in links}
    assert len({chain[-1].event for chain in found}) == len(found)
    for chain in found:
        assert [turn.turn for turn in chain] == list(range(1, len(chain) + 1))
        assert [turn.parent for turn in chain] == ["", *(turn.event for turn in chain[:-1])]


# -- news -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("local", "known", "links", "added", "branches"),
    [
        # Nothing new.
        ("1 2 3", "", "1 2<1 3<2", "", []),
        ("1 2 3", "", "1 2<1", "", []),
        ("1 2 3", "", "3<2", "", []),
        ("1 2 3", "", "", "", []),
        ("1", "2 3", "1 2<1 3<2", "", []),
        # The conversation went on.
        ("1 2", "", "1 2<1 3<2 4<3", "3 4", []),
        ("1 2", "", "3<2 4<3", "3 4", []),  # the cells of the shared turns were deleted
        ("1 2 3", "", "1 4<3", "4", []),
        ("1 2", "", "1 2<1 3<2 5<4", "3 5", []),
        ("1 2", "3x", "1 2<1 3x<2 3<2", "3", []),
        ("", "", "1 2<1", "1 2", []),
        ("", "", "2<1 3<2", "2 3", []),
        # It left the local one earlier.
        ("1 2 3", "", "1 2<1 3x<2 4x<3x", "", ["1 2 3x 4x"]),
        ("1 2 3", "", "1x 2x<1x", "", ["1x 2x"]),
        ("1 2 3", "", "1 3x<2", "", ["1 3x"]),
        # After turns that were rewound here.
        ("1 2", "3 4", "1 2<1 3<2 4<3 5<4", "", ["1 2 3 4 5"]),
        ("", "1 2", "1 2<1 3<2", "", ["1 2 3"]),
        ("", "1 2", "3<2", "", ["3"]),
        # Both.
        ("1 2", "", "1 2<1 3<2 2x<1", "3", ["1 2x"]),
        ("1 2", "", "1 2<1 3a<2 4a<3a 3b<2", "3a 4a", ["1 2 3b"]),
        ("1 2", "", "1 2<1 3<2 4a<3 4b<3", "3 4b", ["1 2 3 4a"]),
        # Whether the deleted turn was the one after the last here, nobody knows.
        ("1 2", "", "1 2<1 4<3", "", ["1 2 4"]),
        # What is known in the middle of what is new: no tail.
        ("1 2", "4", "1 2<1 3<2 4<3", "", ["1 2 3 4"]),
        # What came between two local turns is told by the session itself.
        ("1 2 3 4", "", "1 2x<1 4<3", "", ["1 2x"]),
    ],
)
def test_news(local, known, links, added, branches):
    turns = nodes(*links.split())
    late = {"4b": (NOON + timedelta(days=1)).isoformat()}
    turns = [dataclasses.replace(t, at=late.get(t.event, t.at)) for t in turns]
    news = compare(local.split(), set(known.split()), turns)
    assert names([news.added]) == [added]
    assert names(news.branches) == branches


@given(st.integers(0, 12), st.integers(0, 12), st.sets(st.integers(1, 12)))
def test_only_what_is_new_of_one_conversation_is_added(here, there, deleted):
    turns = [node(str(n), str(n - 1) if n > 1 else "") for n in range(1, there + 1)]
    kept = [turn for turn in turns if turn.turn not in deleted]
    local = [str(n) for n in range(1, here + 1)]
    news = compare(local, (), kept)
    new = tuple(turn for turn in kept if turn.turn > here)
    if new and here and new[0].turn != here + 1:
        assert news == News((), (tuple(kept),))
    else:
        assert news == News(new, ())
    assert compare([turn.event for turn in turns] or local, local, kept) == News()


# -- rebuilding -------------------------------------------------------------------------------


def test_the_events_of_a_turn():
    turn = node("3", "2", sent="Context\n\nPrompt 3", model="gpt-5")
    events = turn_events(turn, "before")
    assert [event["type"] for event in events] == [
        "user.message",
        "assistant.turn_start",
        "assistant.message",
        "assistant.turn_end",
    ]
    assert events[0]["data"] == {"content": "Prompt 3", "transformedContent": "Context\n\nPrompt 3"}
    message = dict(events[2]["data"])
    assert len(message.pop("messageId")) == 36
    assert message == {"content": "Answer 3", "toolRequests": [], "model": "gpt-5"}
    assert events[1]["data"] == events[3]["data"] == {"turnId": "0"}
    ids = [event["id"] for event in events]
    assert ids[0] == "3"
    assert len({*ids}) == 4
    assert [event["parentId"] for event in events] == ["before", *ids[:3]]
    assert {event["timestamp"] for event in events} == {"2026-11-22T12:03:00.123Z"}
    assert turn_events(turn, "before") == events


@pytest.mark.parametrize(
    ("at", "stamp"),
    [
        ("2026-11-22T12:00:00+02:00", "2026-11-22T10:00:00.000Z"),
        ("2026-11-22T10:00:00.9999", "2026-11-22T10:00:00.999Z"),
        ("", "2000-01-01T00:00:00.000Z"),
        ("yesterday", "2000-01-01T00:00:00.000Z"),
        ("0001-01-01T00:00:00+10:00", "2000-01-01T00:00:00.000Z"),
    ],
)
def test_times_are_written_as_the_runtime_does(at, stamp):
    turn = node("1", at=at)
    assert {event["timestamp"] for event in events_of("s1", [turn], "/")} == {stamp}


def test_a_rebuilt_transcript_holds_the_turns():
    turns = [node("1"), node("2", "1", sent="sent", model="gpt-5"), node("3", "2")]
    events = events_of("s1", turns, "/work")
    assert events[0]["type"] == "session.start"
    assert events[0]["data"]["sessionId"] == "s1"
    assert events[0]["data"]["context"] == {"cwd": "/work"}
    ids = [event["id"] for event in events]
    assert len({*ids}) == 13
    assert [event["parentId"] for event in events] == [None, *ids[:-1]]
    found = transcript.turns(parse_journal(journal_bytes(events)).events)
    assert [turn.event_id for turn in found] == ["1", "2", "3"]
    assert [turn.sent for turn in found] == ["Prompt 1", "sent", "Prompt 3"]
    assert [turn.answer for turn in found] == ["Answer 1", "Answer 2", "Answer 3"]
    assert all(turn.complete for turn in found)
    assert found[1].model == "gpt-5"
    assert transcript.dangling(events) is None


def test_a_transcript_without_turns_is_a_start():
    (start,) = events_of("s1", [], "/work")
    assert start["type"] == "session.start"


def test_a_notebook_of_a_thousand_turns(file):
    turns = read(save(file, *conversation(1000)))
    (chain,) = chains(turns)
    events = events_of("s1", chain, "/work")
    assert len(events) == 4001
    found = transcript.turns(events)
    assert [turn.event_id for turn in found] == [f"e{n}" for n in range(1, 1001)]
    local = [turn.event_id for turn in found[:990]]
    assert len(compare(local, (), turns).added) == 10
    assert find(file.parent, "s1") == file
