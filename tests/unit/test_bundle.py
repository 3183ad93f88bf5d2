"""One session as one text file: what is written, what is read, and what is refused."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_jupyter.conversation.portable import bundle_file
from copilot_jupyter.conversation.portable.bundle import SUFFIX, Bundle, dump
from copilot_jupyter.conversation.portable.bundle_file import LARGEST, find, load, peek, save
from copilot_jupyter.conversation.shield.secrets import Shield
from copilot_jupyter.errors import BadInputError
from copilot_jupyter.state.journal import journal_bytes, parse_journal
from copilot_jupyter.state.store import Store
from unit.transcripts import asks, event, exchange, says, start

GITHUB = "ghp_" + "a1B2c3D4" * 5
MASK = "‹secret:github-token›"


def written(
    events: list[dict[str, Any]] | None = None,
    records: tuple[dict[str, Any], ...] = (),
    *,
    session: str = "talk",
    name: str = "A talk",
) -> bytes:
    events = [start(session), *exchange("Hello", "Hi")] if events is None else events
    return dump(session, name, events, records, Shield())


def sealed(body: bytes, **changed: Any) -> bytes:
    """Return a bundle with any body and a manifest that fits, but for what is changed."""
    manifest = {
        "type": "copilot-jupyter.bundle",
        "v": 1,
        "session": "talk",
        "name": "A talk",
        "turns": 1,
        "lines": body.count(b"\n"),
        "secrets": 0,
        "digest": hashlib.sha256(body).hexdigest(),
    }
    return json.dumps(manifest | changed).encode() + b"\n" + body


def body_of(data: bytes) -> bytes:
    return data.partition(b"\n")[2]


def put(folder: Path, data: bytes, name: str = "talk" + SUFFIX) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def refused(path: Path) -> BadInputError:
    """Return the error of loading a file: two sentences, the first naming the file."""
    with pytest.raises(BadInputError) as error:
        load(path)
    what, do = error.value.what, error.value.do
    assert str(path) in what
    assert what.endswith(".")
    assert do.endswith(".")
    assert "\n" not in str(error.value)
    return error.value


# -- written ----------------------------------------------------------------------------------


def test_a_bundle_is_a_manifest_then_the_events_then_the_records():
    events = [start("talk"), *exchange("Hällo", "Hi"), *exchange("And?", "No")]
    data = dump("talk", "Ä talk", events, [{"key": "k", "span": [1, 2], "cell": "c"}], Shield())
    manifest, *lines = data.decode().split("\n")
    assert lines.pop() == ""
    assert json.loads(manifest) == {
        "type": "copilot-jupyter.bundle",
        "v": 1,
        "session": "talk",
        "name": "Ä talk",
        "turns": 2,
        "lines": 10,
        "secrets": 0,
        "digest": hashlib.sha256(body_of(data)).hexdigest(),
    }
    assert manifest.startswith('{"type":"copilot-jupyter.bundle","v":1,"session":"talk","name":"Ä')
    events[0]["data"]["context"] = {"cwd": ""}
    assert "\n".join(lines[:-1]) + "\n" == journal_bytes(events).decode()
    assert lines[-1] == '{"type":"copilot-jupyter.record","data":{"key":"k","cell":"c"}}'


def test_the_same_session_gives_the_same_bytes():
    events = [start("talk"), *exchange(f"Hello {GITHUB}", "Hi")]
    records = [{"key": "k", "code": GITHUB}]
    first = dump("talk", "t", events, records, Shield())
    assert dump("talk", "t", events, records, Shield()) == first
    again = parse_journal(journal_bytes(events)).events
    assert dump("talk", "t", iter(again), iter(records), Shield()) == first


def test_one_more_turn_changes_the_first_line_and_adds_lines():
    events = [start("talk"), *exchange("Hello", "Hi")]
    more = [*events, *exchange("And?", "No")]
    assert body_of(written(more)).startswith(body_of(written(events)))


def test_what_was_given_is_left_as_it_is():
    events = [start("talk"), event("session.shutdown"), *exchange(GITHUB, "Hi")]
    records = [{"key": "k", "span": [1, 2], "code": GITHUB}]
    before = json.dumps([events, records])
    dump("talk", "t", events, records, Shield())
    assert json.dumps([events, records]) == before


def test_secrets_are_taken_out_of_data_records_and_the_title(tmp_path):
    call = {"name": "bash", "arguments": {"command": f"curl {GITHUB}"}}
    answer = event("assistant.message", content=GITHUB, toolRequests=[call])
    events = [start("talk"), asks(f"use {GITHUB}"), answer]
    record = {"key": "k", "code": [f"a = '{GITHUB}'", {"b": GITHUB}]}
    shield = Shield()
    shield.scrub(GITHUB)  # what it counted before is not this bundle's
    data = dump("talk", f"About {GITHUB}", events, [record], shield)
    assert GITHUB.encode() not in data
    found = load(put(tmp_path, data))
    assert found.secrets == 6
    assert found.name == f"About {MASK}"
    assert found.events[1]["data"]["content"] == f"use {MASK}"
    assert found.events[2]["data"]["toolRequests"][0]["arguments"] == {"command": f"curl {MASK}"}
    assert found.records == ({"key": "k", "code": [f"a = '{MASK}'", {"b": MASK}]},)


def test_ids_types_times_and_pointers_are_never_scrubbed(tmp_path):
    secret = "talk-of-the-town"
    shield = Shield.of({"MY_TOKEN": secret, "A_TOKEN": "user.message", "B_TOKEN": "2026-11-22"})
    asked = {**asks(secret), "id": secret, "parentId": secret, "timestamp": "2026-11-22"}
    record = {"key": secret, "event": secret, "cell": secret, "code": secret}
    data = dump(secret, "t", [start(secret), asked], [record], shield)
    found = load(put(tmp_path, data))
    assert found.session == found.events[0]["data"]["sessionId"] == secret
    masked = {**asked["data"], "content": "‹secret:MY_TOKEN›"}
    assert found.events[1] == {**asked, "data": masked}
    assert found.records == ({**record, "code": "‹secret:MY_TOKEN›"},)


def test_no_folder_of_this_machine_is_written_and_the_version_is():
    begun = start("talk")
    begun["data"] |= {"copilotVersion": "1.0.102", "context": {"cwd": "/home/ana", "gitRoot": "/h"}}
    line = body_of(written([begun])).decode()
    assert json.loads(line)["data"]["context"] == {"cwd": ""}
    assert json.loads(line)["data"]["copilotVersion"] == "1.0.102"
    assert "/h" not in line


def test_the_first_event_carries_the_id_of_the_bundle():
    data = dump("talk", "t", [start("another")], [], Shield())
    assert json.loads(body_of(data))["data"]["sessionId"] == "talk"


def test_events_of_this_machines_processes_are_left_out_and_the_chain_is_closed(tmp_path):
    events = [
        start("talk"),
        asks("Hello"),
        event("session.shutdown"),
        event("session.resume"),
        event("session.shutdown"),
        asks("And?"),
        says("No"),
    ]
    for before, after in itertools.pairwise(events):
        after["parentId"] = before["id"]
    first, hello, *_, more, no = events
    found = load(put(tmp_path, written(events))).events
    assert [e["id"] for e in found] == [first["id"], hello["id"], more["id"], no["id"]]
    assert [e["parentId"] for e in found] == [None, first["id"], hello["id"], more["id"]]


@pytest.mark.parametrize("parent", [None, "round", "elsewhere", 7])
def test_a_damaged_chain_of_parents_has_an_end(parent, tmp_path):
    ended = {**event("session.shutdown"), "id": "round", "parentId": parent}
    data = written([start("talk"), ended, {**asks("Hello"), "parentId": "round"}])
    found = load(put(tmp_path, data)).events[1]["parentId"]
    assert found == (None if parent == "round" else parent)


def test_a_line_break_of_any_kind_and_half_a_pair_come_back(tmp_path):
    text = "a\nb\rc\r\nd\u2028e\x85f\x0bg\x00h\ud800i\ufeff"
    data = written([start("talk"), asks(text)], ({"key": "k", "code": text},), name=text)
    found = load(put(tmp_path, data))
    assert (found.events[1]["data"]["content"], found.records[0]["code"]) == (text, text)
    assert found.name == text
    assert data.decode().count("\n") == 4


def test_an_id_that_is_none_is_not_written():
    with pytest.raises(BadInputError, match="cannot be a session id"):
        dump("../x", "t", [start("x")], [], Shield())


@pytest.mark.parametrize("events", [[], [event("session.shutdown")], exchange("Hello", "Hi")])
def test_a_transcript_without_a_beginning_is_not_written(events):
    with pytest.raises(BadInputError, match="session talk does not begin") as error:
        dump("talk", "t", events, [], Shield())
    assert "%copilot_doctor" in error.value.do


# -- read -------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=8).filter(lambda key: key != "span"), JSON, max_size=4)
EVENTS = st.builds(
    lambda kind, data: event(kind, **data),
    st.sampled_from(["user.message", "assistant.message", "tool.execution_start", "x"]),
    OBJECTS.map(lambda data: {k: v for k, v in data.items() if k not in ("kind", "agent")}),
)


#: The same in every example: the ids of events go up.
WHOLE = written(records=({"key": "k"},))


@given(st.text(), st.lists(EVENTS, max_size=4), st.lists(OBJECTS, max_size=3), st.booleans())
def test_what_was_written_comes_back(tmp_path_factory, name, events, records, crlf):
    begun = event("session.start", sessionId="talk", context={"cwd": ""})
    data = dump("talk", name, [begun, *events], records, Shield())
    path = tmp_path_factory.getbasetemp() / f"round{SUFFIX}"
    path.write_bytes(data.replace(b"\n", b"\r\n") if crlf else data)
    found = load(path)
    shield = Shield()
    again = dump(found.session, found.name, found.events, found.records, shield)
    assert again == data
    assert found == Bundle("talk", name, (begun, *events), tuple(records), shield.count)
    assert peek(path) == "talk"


@given(st.binary(max_size=4), st.data())
def test_a_change_of_any_byte_is_noticed(tmp_path_factory, change, data):
    whole = WHOLE
    begin = data.draw(st.integers(whole.index(b"\n") + 1, len(whole) - 1))
    changed = whole[:begin] + change + whole[begin + len(change) :]
    path = tmp_path_factory.getbasetemp() / f"changed{SUFFIX}"
    path.write_bytes(changed)
    if changed.replace(b"\r\n", b"\n").removesuffix(b"\n") == whole.removesuffix(b"\n"):
        assert load(path).session == "talk"
    else:
        with pytest.raises(BadInputError):
            load(path)


@given(st.data())
def test_a_file_cut_anywhere_is_refused_in_two_sentences(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / f"cut{SUFFIX}"
    path.write_bytes(WHOLE[: data.draw(st.integers(0, len(WHOLE) - 2))])
    refused(path)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")))
def test_any_other_file_is_refused_in_two_sentences(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / f"any{SUFFIX}"
    path.write_bytes(content)
    refused(path)
    assert peek(path) == ""


@pytest.mark.parametrize(
    "changed",
    [
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.removesuffix(b"\n"),
        lambda data: data.replace(b"\n", b"\r\n").removesuffix(b"\r\n"),
    ],
    ids=["CRLF", "mark", "no-last-end", "CRLF-no-last-end"],
)
def test_what_git_and_editors_do_to_line_ends_is_no_change(changed, tmp_path):
    data = written(records=({"key": "k"},))
    path = put(tmp_path, changed(data))
    assert load(path) == load(put(tmp_path, data, "plain" + SUFFIX))
    assert peek(path) == "talk"


def test_what_was_read_can_be_made_a_session_again(tmp_path, home):
    found = load(put(tmp_path, written()))
    Store().make("copy", found.events, folder=str(tmp_path), name=found.name)
    assert [e["type"] for e in Store().journal("copy").events] == [e["type"] for e in found.events]
    assert Store().info("copy").name == "A talk"


# -- refused ----------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_said(tmp_path):
    assert "There is no file" in refused(tmp_path / f"gone{SUFFIX}").what
    file = put(tmp_path, b"x")
    assert "There is no file" in refused(file / f"below{SUFFIX}").what


def test_a_folder_a_pipe_and_an_empty_file_are_no_bundle(tmp_path):
    assert "is a folder" in refused(tmp_path).what
    os.mkfifo(tmp_path / f"pipe{SUFFIX}")
    assert "no plain file" in refused(tmp_path / f"pipe{SUFFIX}").what
    assert "is empty" in refused(put(tmp_path, b"")).what
    assert "is empty" in refused(put(tmp_path, b"\r\n \n")).what


def test_a_file_that_cannot_be_read_is_said_with_the_reason(tmp_path, monkeypatch):
    loop = tmp_path / f"loop{SUFFIX}"
    loop.symlink_to(loop)
    assert "cannot be read" in refused(loop).what
    path = put(tmp_path, written())

    def deny(_self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", deny)
    assert "cannot be read: Permission denied." in refused(path).what


def test_a_file_too_large_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    path = tmp_path / f"large{SUFFIX}"
    with path.open("wb") as file:
        file.write(written())
        file.truncate(500 * 2**20)
    opened = []
    monkeypatch.setattr(Path, "open", lambda self, *_, **__: opened.append(self))
    monkeypatch.setattr(Path, "read_bytes", lambda self: opened.append(self))
    error = refused(path)
    assert "has 500 MB" in error.what
    assert "200 MB are the most" in error.what
    assert opened == []


def test_a_file_is_read_up_to_the_largest_size_and_no_further(tmp_path, monkeypatch):
    data = written()
    monkeypatch.setattr(bundle_file, "LARGEST", len(data))
    assert load(put(tmp_path, data)).session == "talk"
    assert "MB are the most" in refused(put(tmp_path, data + b"\n")).what
    assert LARGEST == 200 * 1024 * 1024


@pytest.mark.parametrize(
    "content",
    [
        b"hello\n",
        b"{}\n",
        b"[1, 2]\n",
        b'"copilot-jupyter.bundle"\n',
        b'{"type": "copilot-jupyter.record", "session": "talk"}\n',
        b'{"cells": [], "nbformat": 4}\n',
        pytest.param(b"[" * 100_000 + b"\n", id="deep"),
        pytest.param(b"1" * 10_000 + b"\n", id="long"),
        b"A title\n=======\n",
    ],
)
def test_any_other_text_is_no_bundle(content, tmp_path):
    path = put(tmp_path, content)
    assert "is no bundle: its first line is not that of" in refused(path).what
    assert peek(path) == ""


def test_a_plain_transcript_is_called_what_it_is(tmp_path):
    path = put(tmp_path, journal_bytes([start("talk"), *exchange("a", "b")]), "events.jsonl")
    error = refused(path)
    assert "a transcript of the Copilot runtime (events.jsonl)" in error.what
    assert SUFFIX in error.do
    assert peek(path) == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (written() + b"\0", "line 7 has a NUL byte"),
        ("{}\n".encode("utf-16"), "line 1 has a NUL byte"),
        (written().replace(b"Hello", b"H\xe4llo"), "line 3 has bytes that are no UTF-8"),
        (b"\x89PNG\r\n", "line 1 has bytes that are no UTF-8"),
    ],
    ids=["NUL", "UTF-16", "Latin-1", "PNG"],
)
def test_what_is_no_text_is_said_with_its_line(content, said, tmp_path):
    assert said in refused(put(tmp_path, content)).what


@pytest.mark.parametrize("version", [2, 17])
def test_a_newer_version_asks_for_an_update(version, tmp_path):
    error = refused(put(tmp_path, sealed(body_of(written()), v=version, lines="new")))
    assert f"newer copilot-jupyter (bundle {version}; this one reads 1)" in error.what
    assert "copilot-jupyter has to be updated" in error.do


@pytest.mark.parametrize("version", [0, -1, 1.5, "1", None, True, [1], {"a": 1}])
def test_a_version_that_never_was_is_refused(version, tmp_path):
    error = refused(put(tmp_path, sealed(body_of(written()), v=version)))
    assert "which never was" in error.what


@pytest.mark.parametrize("marker", ["<<<<<<< HEAD", "=======", ">>>>>>> other", "||||||| base"])
@pytest.mark.parametrize("number", [1, 2, 4, 7])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_merge_conflict_is_told_with_its_line(marker, number, end, tmp_path):
    lines = written().decode().splitlines()
    lines.insert(number - 1, marker)
    error = refused(put(tmp_path, (end.join(lines) + end).encode()))
    assert f"merge conflict: the first marker is in line {number}." in error.what
    assert "one side" in error.do


def test_a_conflict_is_seen_behind_the_mark_of_an_editor(tmp_path):
    path = put(tmp_path, b"\xef\xbb\xbf<<<<<<< HEAD\n" + written())
    assert "in line 1." in refused(path).what


def test_a_marker_in_what_was_said_is_no_conflict(tmp_path):
    text = "<<<<<<< HEAD\n=======\n>>>>>>> other"
    found = load(put(tmp_path, written([start("talk"), asks(text)])))
    assert found.events[1]["data"]["content"] == text


def test_a_file_cut_off_is_told_from_one_that_was_changed(tmp_path):
    data = written()
    cut = b"".join(data.splitlines(keepends=True)[:-1])
    error = refused(put(tmp_path, cut))
    assert "is cut off: of 5 lines behind the first, 4 are whole" in error.what
    assert "is cut off: of 5" in refused(put(tmp_path, data[:-10])).what
    assert "is cut off: of 6" in refused(put(tmp_path, sealed(body_of(data), lines=6))).what
    for changed in (
        data.replace(b"Hello", b"Hullo"),
        data + data.splitlines(keepends=True)[-1],
        sealed(body_of(data), lines=4),
        sealed(body_of(data), digest="0" * 64),
    ):
        assert "was changed since it was written" in refused(put(tmp_path, changed)).what


@pytest.mark.parametrize(
    "changed",
    [
        *({"session": None}, {"session": 7}, {"name": None}, {"digest": None}, {"secrets": "1"}),
        *({"lines": None}, {"lines": -1}, {"lines": True}, {"lines": 5.0}),
    ],
)
def test_a_manifest_of_other_values_is_damaged(changed, tmp_path):
    path = put(tmp_path, sealed(body_of(written()), **changed))
    assert "first line" in refused(path).what


@pytest.mark.parametrize("session", ["../x", "/etc/passwd", "", "a b", "-x", "x" * 251, "a\nb"])
def test_an_id_that_is_no_sessions_is_refused(session, tmp_path):
    path = put(tmp_path, sealed(body_of(written()), session=session))
    error = refused(path)
    assert "has an id that none can have" in error.what
    assert len(error.what) < len(str(path)) + 250
    assert peek(path) == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "Line 3 of"),
        (b"hello", "Line 3 of"),
        (b"[]", "Line 3 of"),
        (b"{}", "Line 3 of"),
        (b'{"type": 7, "data": {}}', "Line 3 of"),
        (b'{"type": "user.message"}', "Line 3 of"),
        (b'{"type": "user.message", "data": []}', "Line 3 of"),
        (b'{"type": "copilot-jupyter.record", "data": "x"}', "Line 3 of"),
        (b'{"type": "copilot-jupyter.other", "data": {}}', "of no kind that is known"),
        pytest.param(b"[" * 100_000, "Line 3 of", id="deep"),
    ],
)
def test_a_line_that_is_no_event_is_told(line, said, tmp_path):
    body = body_of(written([start("talk")])) + line + b"\n"
    assert said in refused(put(tmp_path, sealed(body))).what


@pytest.mark.parametrize(
    "body",
    [b"", journal_bytes(exchange("a", "b")), journal_bytes([asks("a"), start("talk")])],
    ids=["no-event", "no-start", "start-second"],
)
def test_a_session_without_a_beginning_is_refused(body, tmp_path):
    error = refused(put(tmp_path, sealed(body)))
    assert "does not begin with a session.start event" in error.what


# -- peek and find ----------------------------------------------------------------------------


def test_peek_reads_the_first_line_only(tmp_path):
    path = put(tmp_path, written().partition(b"\n")[0] + b"\n" + b"\xff\0" * 10)
    assert peek(path) == "talk"
    path = put(tmp_path, written(name="x" * 70_000))
    assert load(path).session == "talk"
    assert peek(path) == ""


def test_peek_tells_the_session_of_a_newer_bundle(tmp_path):
    assert peek(put(tmp_path, sealed(b"", v=2))) == "talk"


def test_peek_never_raises_and_never_waits(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (
        tmp_path,
        tmp_path / "gone",
        tmp_path / "pipe",
        loop,
        loop / "x",
        Path("a\0b"),
        Path("x" * 5000),
        put(tmp_path, written().partition(b"\n")[0], "half"),
        put(tmp_path, sealed(b"", session=["talk"])),
    ):
        assert peek(path) == ""


def test_peek_of_a_file_that_may_not_be_read_is_empty(tmp_path, monkeypatch):
    path = put(tmp_path, written())

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    assert peek(path) == ""


def test_find_takes_the_first_by_name_and_the_one_called_so_before_all(tmp_path):
    (tmp_path / "below").mkdir()
    put(tmp_path / "below", written())
    put(tmp_path, written(), "talk.txt")
    put(tmp_path, written(session="other"), "a" + SUFFIX)
    put(tmp_path, b"damaged", "aa" + SUFFIX)
    (tmp_path / f"ab{SUFFIX}").mkdir()
    assert find(tmp_path, "talk") is None
    later = put(tmp_path, written(), "c" + SUFFIX)
    assert find(tmp_path, "talk") == later
    earlier = put(tmp_path, written(), "b" + SUFFIX)
    assert find(tmp_path, "talk") == earlier
    called = put(tmp_path, written())
    assert find(tmp_path, "talk") == called
    called.write_bytes(written(session="other"))
    assert find(tmp_path, "talk") == earlier


def test_find_takes_the_first_by_name_in_any_order_of_the_folder(tmp_path):
    for number in reversed(range(20)):
        put(tmp_path, written(), f"{number:02}{SUFFIX}")
    for number in range(20):
        first = tmp_path / f"{number:02}{SUFFIX}"
        assert find(tmp_path, "talk") == first
        first.unlink()


def test_find_never_raises(tmp_path, monkeypatch):
    for folder in (tmp_path / "gone", put(tmp_path, written()), Path("a\0b"), Path("x" * 5000)):
        assert find(folder, "talk") is None

    def deny(_self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", deny)
    assert find(tmp_path, "talk") is None


# -- save -------------------------------------------------------------------------------------


def ids(events: list[dict[str, Any]]) -> list[str]:
    return [each["id"] for each in events]


def not_saved(path: Path, events: list[dict[str, Any]], session: str = "talk") -> BadInputError:
    """Return the error of saving, after which the file is as it was."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(BadInputError) as error:
        save(path, written(events, session=session), session, ids(events))
    assert (path.read_bytes() if path.is_file() else None) == before
    assert error.value.what.endswith(".")
    assert error.value.do.endswith(".")
    return error.value


def test_a_bundle_is_saved_and_updated_and_nothing_else_is_left(tmp_path):
    events = [start("talk"), *exchange("Hello", "Hi")]
    path = tmp_path / f"talk{SUFFIX}"
    save(path, written(events), "talk", ids(events))
    assert path.read_bytes() == written(events)
    path.chmod(0o664)
    more = [*events, *exchange("And?", "No")]
    save(path, written(more), "talk", ids(more))
    assert len(load(path).events) == 9
    assert path.stat().st_mode & 0o777 == 0o664
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_bundle_is_saved_again_and_a_rewound_one_is_not(tmp_path):
    events = [start("talk"), *exchange("Hello", "Hi"), *exchange("And?", "No")]
    path = put(tmp_path, written(events))
    save(path, written(events), "talk", ids(events))
    error = not_saved(path, events[:5])
    assert "holds a turn that session talk does not have here" in error.what
    assert "2 turns" in not_saved(path, [events[0]]).what
    assert "another name" in error.do


def test_only_prompts_of_the_person_count_as_held(tmp_path):
    events = [start("talk"), *exchange("Hello", "Hi")]
    more = [asks("sub", agent="a"), asks("system", source="system"), says("more")]
    path = put(tmp_path, written([*events, *more]))
    save(path, written(events), "talk", ids(events))
    assert load(path).events[-1]["id"] == events[-1]["id"]


@pytest.mark.parametrize("strange", [None, 7, ["x"]])
def test_a_prompt_without_an_id_is_never_lost(strange, tmp_path):
    nameless = {**asks("Hello"), "id": strange}
    path = put(tmp_path, written([start("talk"), nameless]))
    assert "holds a turn" in not_saved(path, [start("talk")]).what


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"my notes\n", "is no bundle"),
        (written()[:-10], "is cut off"),
        (written().replace(b"Hello", b"Hullo"), "was changed"),
        (b"<<<<<<< HEAD\n" + written(), "merge conflict"),
        (sealed(b"", v=2), "newer"),
        (written(session="other"), "holds another session, other."),
    ],
    ids=["empty", "notes", "cut", "changed", "conflict", "newer", "other"],
)
def test_what_is_there_and_is_not_this_session_is_kept(content, said, tmp_path):
    path = put(tmp_path, content)
    error = not_saved(path, [start("talk")])
    assert said in error.what
    assert str(path) in error.what
    assert "It was left as it is" in error.do


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a", "a"),
        ("a.b", "a.b"),
        ("a.jsonl", "a"),
        ("a.copilot", "a"),
        ("acopilot.jsonl", "acopilot"),
        (SUFFIX, "talk"),
    ],
)
def test_the_name_has_to_say_what_the_file_is(name, told, tmp_path):
    error = not_saved(tmp_path / name, [start("talk")])
    assert name in error.what
    assert error.do == f"Call it {told}{SUFFIX}."
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    events = [start("talk")]
    file = put(tmp_path, b"x", "file")
    name = "talk" + SUFFIX
    assert f"no folder {tmp_path / 'gone'}" in not_saved(tmp_path / "gone" / name, events).what
    assert f"no folder {file}" in not_saved(file / name, events).what
    (tmp_path / name).mkdir()
    assert "is a folder" in not_saved(tmp_path / name, events).what
    long = tmp_path / ("x" * 235 + SUFFIX)
    assert "cannot be written: File name too long." in not_saved(long, events).what
    assert "cannot be written" in not_saved(tmp_path / ("a\0b" + SUFFIX), events).what

    def deny(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(bundle_file, "write_whole", deny)
    assert (
        "cannot be written: Permission denied." in not_saved(tmp_path / f"a{SUFFIX}", events).what
    )


def test_every_sentence_is_one_sentence(tmp_path):
    for content in (b"x", written()[:-10], sealed(b"", v=3), sealed(b"", session="../x")):
        what = refused(put(tmp_path, content)).what.replace(str(tmp_path), "")
        assert not re.search(r"\. [A-Z]", what)
