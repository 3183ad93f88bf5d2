"""The sessions as files: ids, transcripts, branches, tombstones and the trash."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_jupyter.errors import (
    BadInputError,
    SessionExistsError,
    SessionNotFoundError,
    StateFolderError,
)
from copilot_jupyter.state import journal
from copilot_jupyter.state import store as module
from copilot_jupyter.state.ids import check_id, nearest
from copilot_jupyter.state.journal import Journal, journal_bytes, parse_journal
from copilot_jupyter.state.metadata import NOTEBOOK_PATH
from copilot_jupyter.state.store import Store
from copilot_jupyter.state.trash import TRASH_DAYS
from copilot_jupyter.state.workspace import CLIENT_NAME
from unit.transcripts import asks, event, exchange, put, says, start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(home: Path) -> Store:
    return Store()


# -- ids --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a", "0", "_", "_x", "ana-churn-model", "A-1_b", "user-123-conversation", "x" * 250]
)
def test_a_plain_id_is_taken_as_it_is(name):
    assert check_id(name) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "The session id is empty"),
        ("x" * 251, "has 251 characters; 250 fit"),
        ("-x", "'-x' cannot be a session id"),
        ("--force", "cannot be a session id"),
        ("a b", "cannot be a session id"),
        ("a/b", "cannot be a session id"),
        ("../b", "cannot be a session id"),
        (".", "cannot be a session id"),
        ("a.b", "cannot be a session id"),
        ("a\n", "cannot be a session id"),
        ("\na", "cannot be a session id"),
        ("café", r"'caf\xe9' cannot be a session id"),
        ("a\x00", "cannot be a session id"),
        ("٣", "cannot be a session id"),
    ],
)
def test_an_id_that_the_runtime_would_refuse_is_refused(name, said):
    with pytest.raises(BadInputError) as error:
        check_id(name)
    assert said in error.value.what
    assert "letters, digits, - and _" in error.value.do


def test_the_sentence_stays_short_for_a_very_long_id():
    with pytest.raises(BadInputError) as error:
        check_id("x" * 5000)
    assert len(str(error.value)) < 250


@given(
    st.one_of(
        st.text(max_size=20),
        st.text(alphabet="aZ09_-. ", max_size=20),
        st.integers(240, 260).map(lambda count: "a" * count),
    )
)
def test_exactly_these_ids_are_accepted(name):
    right = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,249}", name) is not None
    try:
        assert check_id(name) == name
    except BadInputError:
        assert not right
    else:
        assert right


@pytest.mark.parametrize("method", ["folder", "journal", "info", "exists", "tail", "holders"])
def test_no_path_outside_the_state_folder_can_be_named(store, method):
    with pytest.raises(BadInputError):
        getattr(store, method)("../../etc")


# -- transcripts ------------------------------------------------------------------------------


def test_a_transcript_comes_back_as_it_was_written():
    events = [start("s"), *exchange("a\nb\u2028c\x85", "é日🙂\ud800")]
    assert parse_journal(journal_bytes(events)) == Journal(tuple(events))


GARBAGE = {
    "no JSON": b"garbage",
    "NULs, as a power cut leaves them": b"\x00" * 50,
    "a merge marker": b"<<<<<<< HEAD",
    "another merge marker": b"=======",
    "half an event": b'{"type":"user.message","data":{"con',
    "a list": b"[1, 2]",
    "a number": b"5",
    "null": b"null",
    "no type": b'{"data": {}}',
    "no data": b'{"type": "x"}',
    "data that is none": b'{"type": "x", "data": []}',
    "a type that is none": b'{"type": ["x"], "data": {}}',
    "bad UTF-8": b'{"type":"x","data":{"a":"\xff"}}',
    "too deep": b"[" * 100_000,
    "a number too long": b"1" * 10_000,
}


@pytest.mark.parametrize("line", GARBAGE.values(), ids=GARBAGE)
def test_a_bad_line_is_named_and_the_rest_is_read(line):
    first, last = start("s"), asks("a")
    journal = parse_journal(journal_bytes([first]) + line + b"\n" + journal_bytes([last]))
    assert journal.events == (first, last)
    assert journal.bad_lines == (2,)
    assert journal.has_start


def test_a_torn_tail_is_a_bad_line():
    data = journal_bytes([start("s"), *exchange("a", "b")])
    journal = parse_journal(data[:-30])
    assert len(journal.events) == 4
    assert journal.bad_lines == (5,)


def test_a_missing_last_newline_blank_lines_and_windows_ends_lose_nothing():
    events = [start("s"), *exchange("a", "b")]
    data = b"\n\r\n" + journal_bytes(events).replace(b"\n", b"\r\n\r\n").rstrip()
    assert parse_journal(data) == Journal(tuple(events))


def test_unknown_events_are_kept():
    odd = {"type": "from.the.future", "data": {"x": [1]}, "more": True}
    assert parse_journal(journal_bytes([odd])).events == (odd,)


def test_only_a_session_start_starts_a_transcript():
    assert not Journal(()).has_start
    assert not Journal((asks("a"), start("s"))).has_start
    assert Journal((start("s"),)).has_start


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(data):
    journal = parse_journal(data)
    lines = [number for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]
    assert len(journal.events) + len(journal.bad_lines) == len(lines)


# -- reading ----------------------------------------------------------------------------------


def test_an_empty_state_folder_has_no_sessions(store):
    assert store.ids() == []
    assert list(store.infos()) == []
    assert not store.exists("x")
    assert store.size("x") == 0


def test_ids_come_last_used_first(store):
    for age, name in enumerate(["newest", "middle", "oldest"]):
        journal = put(store, name) / "events.jsonl"
        os.utime(journal, (10_000 - age, 10_000 - age))
    assert store.ids() == ["newest", "middle", "oldest"]


def test_a_folder_without_a_transcript_is_no_session(store):
    put(store, "real")
    (store.sessions / "empty-folder").mkdir()
    (put(store, "empty-file") / "events.jsonl").write_bytes(b"")
    (store.sessions / "a-file").write_text("x")
    assert store.ids() == ["real"]
    assert not store.exists("empty-folder")
    assert not store.exists("empty-file")
    assert store.exists("real")


@pytest.mark.parametrize("name", [".target.0123", "my-id.bak", "my-id copy", "-x", "é"])
def test_a_folder_whose_name_is_no_id_is_no_session(store, name):
    """A branch that is being written, or a person's own copy: listing it would fail every use."""
    put(store, "real")
    put(store, name)
    assert store.ids() == ["real"]
    assert [info.id for info in store.infos()] == ["real"]


def test_what_is_said_of_a_session(store):
    folder = put(store, "my-id")
    (folder / "workspace.yaml").write_text(
        f"id: my-id\nname: 'Churn: 1'\ncwd: /work\nclient_name: {CLIENT_NAME}\n"
    )
    os.utime(folder / "events.jsonl", (10_000, 10_000))
    info = store.info("my-id")
    assert info.name == "Churn: 1"
    assert info.ours
    assert info.in_use_by == ""
    assert info.size == (folder / "events.jsonl").stat().st_size
    assert info.modified == datetime.fromtimestamp(10_000, UTC)


def test_a_terminals_session_is_not_ours(store):
    put(store, "my-id")
    assert not store.info("my-id").ours


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x01",
        b"\xff\xfe",
        b"- a list",
        b"just text",
        b"a: [unclosed",
        b"a: !!python/object:os.system {}",
        b"created_at: 2026-13-45",
        b"name: !!int many",
    ],
)
def test_an_unreadable_workspace_file_is_empty_and_runs_nothing(store, content):
    folder = put(store, "my-id")
    (folder / "workspace.yaml").write_bytes(content)
    assert store.workspace("my-id") == {}
    assert store.info("my-id").name == ""


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[]", b"{}", b'{"metadata": null}', b'{"metadata": []}']
)
def test_unreadable_client_metadata_are_empty(store, content):
    folder = put(store, "my-id")
    (folder / "client-metadata.json").write_bytes(content)
    assert store.client_metadata("my-id") == {}


def test_the_events_added_since_a_size(store):
    folder = put(store, "my-id")
    before = store.size("my-id")
    more = exchange("c", "d")
    with (folder / "events.jsonl").open("ab") as file:
        file.write(journal_bytes(more))
    assert store.added("my-id", before) == more
    assert store.added("my-id", store.size("my-id")) == []
    assert store.size("my-id") > before


# -- the end of a long transcript -------------------------------------------------------------


def ends_like_the_journal(store: Store, name: str) -> Journal:
    tail, whole = store.tail(name), store.journal(name)
    assert tail.events == whole.events[len(whole.events) - len(tail.events) :]
    return tail


def test_a_short_transcripts_tail_is_all_of_it(store):
    put(store, "my-id")
    assert store.tail("my-id") == store.journal("my-id")


def test_the_tail_of_a_long_transcript_is_its_end_and_holds_the_last_prompt(store):
    events = [moment for number in range(1500) for moment in exchange(f"{number}", "é日" * 200)]
    put(store, "my-id", events)
    assert store.size("my-id") > 2 * journal.TAIL_BYTES
    tail = ends_like_the_journal(store, "my-id")
    assert len(tail.events) < len(events) / 2
    assert tail.bad_lines == ()
    assert any(moment["type"] == "user.message" for moment in tail.events)


def test_it_reaches_back_to_the_last_prompt_however_long_the_answer(store):
    asked = asks("the last one")
    long = [event("tool.execution_start", toolName="x" * 10_000) for _ in range(200)]
    put(store, "my-id", [*exchange("a", "b"), asked, *long])
    assert asked in ends_like_the_journal(store, "my-id").events


@pytest.mark.parametrize(
    "between",
    [
        asks("from the system", source="system"),
        event("user.message", agent="explore", content="a sub-agent's"),
        says('quotes "type":"user.message" in a text'),
    ],
    ids=["system", "sub-agent", "quoted"],
)
def test_it_reaches_back_to_the_persons_prompt_past_what_only_looks_like_one(store, between):
    """Else a prompt that a kill cut off is not found, and not taken out."""
    asked = asks("the last one")
    long = [event("tool.execution_start", toolName="x" * 10_000) for _ in range(40)]
    put(store, "my-id", [*exchange("a", "b"), asked, *long, between])
    assert asked in ends_like_the_journal(store, "my-id").events


def test_the_tail_begins_with_a_whole_line_wherever_it_is_cut(store, monkeypatch):
    put(store, "my-id", [*exchange("a", "b"), *exchange("c", "d")])
    for size in range(1, 400, 3):
        monkeypatch.setattr(journal, "TAIL_BYTES", size)
        tail = ends_like_the_journal(store, "my-id")
        assert tail.bad_lines == ()
        assert any(moment["type"] == "user.message" for moment in tail.events)


# -- branches ---------------------------------------------------------------------------------


def test_a_branch_is_the_session_under_another_id(store):
    put(store, "old")
    store.fork("old", "new", metadata={"why": "because"})
    old, new = store.journal("old").events, store.journal("new").events
    assert new[0]["data"] == {**old[0]["data"], "sessionId": "new"}
    assert old[0]["data"]["sessionId"] == "old"
    assert new[1:] == old[1:]
    assert store.workspace("new") == {**store.workspace("old"), "id": "new"}
    assert store.client_metadata("new") == {"why": "because"}


def test_a_branch_does_not_claim_its_parents_notebook(store):
    put(store, "old", metadata={NOTEBOOK_PATH: "/data/a.ipynb"})
    store.fork("old", "new")
    assert store.client_metadata("new") == {}


def test_a_branch_has_its_own_copy_of_the_sessions_files(store):
    files = put(store, "old") / "files" / "deep"
    files.mkdir(parents=True)
    (files / "turns.jsonl").write_text("kept")
    (put(store, "other") / "inuse.1.lock").write_text("")
    store.fork("old", "new")
    copy = store.folder("new") / "files" / "deep" / "turns.jsonl"
    assert copy.read_text() == "kept"
    copy.write_text("changed")
    assert (files / "turns.jsonl").read_text() == "kept"


def test_nobody_holds_a_branch_of_a_session_that_is_held(store):
    folder = put(store, "old")
    (folder / f"inuse.{os.getpid()}.lock").write_text("")
    store.fork("old", "new")
    assert store.holders("old")
    assert store.holders("new") == []


def test_a_branch_can_end_before_a_prompt(store):
    events = [*exchange("a", "b"), *exchange("c", "d")]
    put(store, "old", events)
    store.fork("old", "new", until=events[4]["id"])
    assert store.journal("new").events[1:] == tuple(events[:4])
    store.fork("old", "empty", until=events[0]["id"])
    assert store.journal("empty").has_start
    assert len(store.journal("empty").events) == 1


def test_a_branch_at_an_unknown_event_is_refused_and_leaves_nothing(store):
    put(store, "old")
    with pytest.raises(BadInputError, match="no event nowhere"):
        store.fork("old", "new", until="nowhere")
    assert [folder.name for folder in store.sessions.iterdir()] == ["old"]


def test_a_branch_never_writes_over_a_session(store):
    put(store, "old")
    put(store, "new", exchange("mine", "own"))
    before = store.journal_path("new").read_bytes()
    with pytest.raises(SessionExistsError, match="new exists already"):
        store.fork("old", "new")
    assert store.journal_path("new").read_bytes() == before


def test_a_runtimes_last_words_in_a_deleted_session_are_no_session(store):
    put(store, "one")
    put(store, "left")
    last = event("session.shutdown", shutdownType="routine")
    store.journal_path("left").write_bytes(journal_bytes([last]))
    assert not store.exists("left")
    assert not store.taken("left")
    assert [info.id for info in store.infos()] == ["one"]
    store.fork("one", "left")
    assert store.journal("left").events[0]["data"]["sessionId"] == "left"
    [aside] = store.trash.path.glob("*-aside/left.left/events.jsonl")
    assert b"session.shutdown" in aside.read_bytes()
    assert store.trash.restore() == []


@pytest.mark.parametrize("content", [b"\0" * 40, b"{torn", b"<<<<<<< HEAD\n"])
def test_a_damaged_transcript_is_a_session_still(store, content):
    put(store, "one")
    store.journal_path("one").write_bytes(content)
    assert store.exists("one")
    assert store.taken("one")


def test_a_folder_that_a_living_process_holds_is_taken(store):
    folder = store.folder("begun")
    folder.mkdir(parents=True)
    assert not store.taken("begun")
    (folder / f"inuse.{os.getpid()}.lock").touch()
    assert store.taken("begun")


def test_a_branch_of_nothing_is_refused(store):
    with pytest.raises(SessionNotFoundError):
        store.fork("gone", "new")


def test_a_transcript_that_lost_its_start_is_branched_as_it_is(store):
    events = exchange("a", "b")
    (put(store, "old") / "events.jsonl").write_bytes(journal_bytes(events))
    store.fork("old", "new")
    assert store.journal("new").events == tuple(events)


def test_a_branch_that_fails_midway_leaves_nothing(store, monkeypatch):
    put(store, "old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_whole", full)
    with pytest.raises(StateFolderError, match="No space left on device"):
        store.fork("old", "new")
    assert [folder.name for folder in store.sessions.iterdir()] == ["old"]


@pytest.mark.parametrize("content", [b"\xff\xfe", None], ids=["unreadable", "missing"])
def test_a_session_without_a_readable_workspace_file_can_be_branched(store, content):
    """The runtime writes a new one where it is missing."""
    file = put(store, "old") / "workspace.yaml"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    store.fork("old", "new")
    assert store.journal("new").has_start
    assert not (store.folder("new") / "workspace.yaml").exists()


@pytest.mark.parametrize("name", ["123", "true", "null", "1_000", "0x1F", "no", "2026-11-22"])
def test_an_id_that_looks_like_a_number_stays_text_in_the_workspace_file(store, name):
    put(store, "old")
    store.fork("old", name)
    assert store.workspace(name)["id"] == name


def test_a_replaced_transcript_keeps_the_old_one_beside_it(store):
    folder = put(store, "my-id")
    before = (folder / "events.jsonl").read_bytes()
    store.write_journal("my-id", [start("other"), *exchange("c", "d")])
    assert store.journal("my-id").events[0]["data"]["sessionId"] == "my-id"
    assert [file.read_bytes() for file in folder.glob("events.jsonl.set-aside-*")] == [before]


def test_cutting_and_setting_aside(store):
    folder = put(store, "my-id")
    before = store.size("my-id")
    with (folder / "events.jsonl").open("ab") as file:
        file.write(journal_bytes(exchange("unanswered", "")))
    store.cut("my-id", before)
    assert store.size("my-id") == before
    aside = store.set_aside("my-id", "workspace.yaml")
    assert aside.exists()
    assert not (folder / "workspace.yaml").exists()


def test_what_is_discarded_is_gone_and_twice_is_fine(store):
    put(store, "my-id")
    store.discard("my-id")
    store.discard("my-id")
    assert not store.folder("my-id").exists()


def test_what_a_kill_left_half_made_is_swept_after_a_day(store):
    put(store, "one")
    for name, age in (("half", 2), ("at-it", 0)):
        folder = store.sessions / f".{name}.{'0a' * 16}"
        folder.mkdir()
        (folder / "events.jsonl").touch()
        os.utime(folder, (0, time.time() - age * 86_400))
    (store.sessions / ".DS_Store").touch()
    os.utime(store.sessions / ".DS_Store", (0, 0))
    store.sweep()
    left = sorted(path.name for path in store.sessions.iterdir())
    assert left == [".DS_Store", f".at-it.{'0a' * 16}", "one"]
    shutil.rmtree(store.sessions)
    store.sweep()


def test_a_free_id_is_the_wanted_one_or_the_next(store):
    assert store.free_id("x") == "x"
    put(store, "x")
    put(store, "x-2")
    assert store.free_id("x") == "x-3"


def test_a_free_id_always_fits(store):
    put(store, "y" * 245)
    assert check_id(store.free_id("y" * 250)) == "y" * 245 + "-2"


# -- tombstones -------------------------------------------------------------------------------


def test_a_deleted_session_is_remembered_with_its_time(store):
    assert store.buried("x") is None
    store.bury("x")
    store.bury("y")
    when = store.buried("x")
    assert when is not None
    assert abs(when - datetime.now(UTC)) < timedelta(seconds=10)
    assert store.buried("z") is None


def test_a_missing_session_that_was_deleted_says_when(store):
    store.bury("x")
    with pytest.raises(SessionNotFoundError, match=r"x was deleted on \d{4}-\d\d-\d\d at .* UTC"):
        store.journal("x")


def test_of_several_deletions_the_last_counts(store):
    store.ours.mkdir(parents=True)
    lines = [{"id": "x", "at": f"2026-11-2{day}T10:00:00+00:00"} for day in (1, 2)]
    (store.ours / "deleted.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert store.buried("x") == datetime(2026, 11, 22, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    "line", [b"garbage", b"\xff\xfe", b"\x00", b"5", b"null", b"[]", b"{}", b'{"id": "x"}']
)
def test_a_damaged_tombstone_hides_no_other(store, line):
    store.bury("x")
    with (store.ours / "deleted.jsonl").open("ab") as file:
        file.write(line + b"\n")
    store.bury("y")
    assert store.buried("x") is not None
    assert store.buried("y") is not None


def test_a_torn_tombstone_does_not_take_the_next_one_with_it(store):
    store.bury("x")
    with (store.ours / "deleted.jsonl").open("ab") as file:
        file.write(b'{"id": "torn')
    store.bury("y")
    assert store.buried("y") is not None


# -- not found --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["journal", "info", "tail"])
def test_a_missing_session_names_the_nearest_and_how_to_make_it(store, method):
    for name in ("churn-model", "churn-modal", "penguins"):
        put(store, name)
    with pytest.raises(SessionNotFoundError) as error:
        getattr(store, method)("churn-modle")
    assert error.value.what == "There is no session named churn-modle."
    assert "Did you mean churn-mod" in error.value.do
    assert "penguins" not in error.value.do
    assert "%copilot_resume churn-modle --create" in error.value.do


@pytest.mark.parametrize(
    ("wanted", "near"),
    [
        ("churn", ["churn-model"]),
        ("CHURN-MODEL", ["churn-model"]),
        ("churn-mdel", ["churn-model"]),
        ("", []),
        ("quite-different", []),
    ],
)
def test_the_nearest_ids(wanted, near):
    assert nearest(wanted, iter(["churn-model", "ana-1", "zebra"])) == near


def test_at_most_three_ids_are_near():
    found = nearest("ana", ["ana-1", "ana-2", "ana-3", "ana-4", "zebra"])
    assert len(set(found)) == 3
    assert all(name.startswith("ana-") for name in found)


# -- who has it open --------------------------------------------------------------------------


def test_a_living_process_with_a_lock_file_has_it_open(store):
    (put(store, "my-id") / f"inuse.{os.getpid()}.lock").write_text("")
    assert [holder.pid for holder in store.holders("my-id")] == [os.getpid()]
    assert f"(pid {os.getpid()})" in store.info("my-id").in_use_by


def test_a_holder_is_named_by_its_command(store):
    """By what it was started as: the terminal's own name for itself is "MainThread"."""
    with subprocess.Popen(["/opt/bin/copilot", "60"], executable=shutil.which("sleep")) as terminal:
        # Popen returns while the kernel still lays out the new program: no command line yet.
        deadline = time.monotonic() + 10
        while not psutil.Process(terminal.pid).cmdline() and time.monotonic() < deadline:
            time.sleep(0.001)
        (put(store, "my-id") / f"inuse.{terminal.pid}.lock").write_text("")
        holders = store.holders("my-id")
        terminal.kill()
    assert list(map(str, holders)) == [f"copilot (pid {terminal.pid})"]


def test_a_dead_process_has_nothing_open(store):
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    (put(store, "my-id") / f"inuse.{dead.pid}.lock").write_text("")
    assert store.holders("my-id") == []


def test_a_process_younger_than_the_lock_file_got_its_pid_later(store):
    lock = put(store, "my-id") / f"inuse.{os.getpid()}.lock"
    lock.write_text("")
    os.utime(lock, (1000, 1000))
    assert store.holders("my-id") == []


@pytest.mark.parametrize("part", ["", "x", "-5", "²", "٣", "9" * 40, "0"])
def test_lock_files_with_odd_names_hold_nothing(store, part):
    (put(store, "my-id") / f"inuse.{part}.lock").write_text("")
    assert store.holders("my-id") == []


def test_a_lock_file_that_vanishes_meanwhile_holds_nothing(store):
    lock = put(store, "my-id") / f"inuse.{os.getpid()}.lock"
    lock.symlink_to("gone")  # listed, and gone when it is looked at
    assert store.holders("my-id") == []


def test_two_files_of_one_process_are_one_holder(store):
    folder = put(store, "my-id")
    for name in (f"inuse.{os.getpid()}.lock", f"inuse.{os.getpid()}.again.lock"):
        (folder / name).write_text("")
    assert len(store.holders("my-id")) == 1


def test_a_missing_session_has_no_holders(store):
    assert store.holders("gone") == []


# -- the trash --------------------------------------------------------------------------------


def test_what_is_moved_to_the_trash_comes_back_whole(store):
    put(store, "a")
    (put(store, "b") / "files").mkdir()
    before = store.journal("a")
    store.trash.put(["a", "b"])
    assert store.ids() == []
    assert store.trash.restore() == ["a", "b"]
    assert store.journal("a") == before
    assert (store.folder("b") / "files").is_dir()
    assert store.trash.restore() == []


def test_the_last_batch_comes_back_first(store):
    names = [f"session-{number}" for number in range(8)]
    for name in names:
        put(store, name)
        store.trash.put([name])
    assert [store.trash.restore() for _ in names] == [[name] for name in reversed(names)]


def test_nothing_is_brought_back_over_a_session_that_was_made_since(store):
    for name in ("a", "b"):
        put(store, name)
    store.trash.put(["a", "b"])
    put(store, "b", exchange("new", "one"))
    with pytest.raises(SessionExistsError, match="b exists already"):
        store.trash.restore()
    assert store.ids() == ["b"]
    store.discard("b")
    assert store.trash.restore() == ["a", "b"]


def test_a_session_that_vanished_meanwhile_does_not_stop_a_cleanup(store):
    put(store, "a")
    put(store, "b")
    store.trash.put(["a", "gone", "b"])
    assert store.ids() == []
    assert store.trash.restore() == ["a", "b"]


def test_an_empty_trash_gives_nothing_back(store):
    assert store.trash.restore() == []
    assert store.trash.empty() == []


def test_only_what_lay_long_enough_in_the_trash_is_deleted(store):
    put(store, "old")
    old = store.trash.put(["old"])
    put(store, "new")
    store.trash.put(["new"])
    then = datetime.now(UTC) - timedelta(days=TRASH_DAYS, seconds=60)
    trash = store.ours / "trash"
    (trash / old).rename(trash / f"{then:%Y%m%dT%H%M%S}{old[15:]}")
    assert store.trash.empty() == ["old"]
    assert store.trash.restore() == ["new"]


def test_what_lay_almost_long_enough_stays(store):
    put(store, "x")
    batch = store.trash.put(["x"])
    then = datetime.now(UTC) - timedelta(days=TRASH_DAYS, seconds=-60)
    trash = store.ours / "trash"
    (trash / batch).rename(trash / f"{then:%Y%m%dT%H%M%S}{batch[15:]}")
    assert store.trash.empty() == []


def test_a_stray_file_in_the_trash_is_passed_over(store):
    put(store, "x")
    store.trash.put(["x"])
    (store.ours / "trash" / "zzz").write_text("not ours")
    assert store.trash.empty(older_than_days=-1) == ["x"]
    assert store.trash.restore() == []


# -- a state folder that cannot be used -------------------------------------------------------

ACTIONS = {
    "ids": lambda store: store.ids(),
    "infos": lambda store: list(store.infos()),
    "check_usable": lambda store: store.check_usable(),
    "bury": lambda store: store.bury("x"),
    "trash": lambda store: store.trash.put(["x"]),
    "journal": lambda store: store.journal("x"),
    "tail": lambda store: store.tail("x"),
}


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_a_file_in_the_place_of_the_state_folder_is_named(home, action):
    home.write_text("a file in the way")
    with pytest.raises(StateFolderError) as error:
        action(Store())
    assert str(home) in error.value.what
    assert "COPILOT_HOME" in error.value.do


@pytest.mark.parametrize("part", ["session-state", "copilot-jupyter"])
def test_a_file_in_the_place_of_a_folder_below_it_is_named_too(home, part):
    home.mkdir()
    (home / part).write_text("a file in the way")
    store = Store()
    with pytest.raises(StateFolderError, match=re.escape(str(home))):
        store.ids() if part == "session-state" else store.check_usable()


def test_a_usable_state_folder_is_left_as_it_was(store):
    store.check_usable()
    store.check_usable()
    assert list(store.ours.iterdir()) == []


# -- nobody else may read it ------------------------------------------------------------------


@pytest.fixture
def open_umask() -> Iterator[None]:
    """The umask of most machines, which lets others read."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def readable_by_others(folder: Path) -> list[str]:
    return sorted(
        f"{stat.filemode(path.stat().st_mode)} {path.relative_to(folder.parent)}"
        for path in [folder, *folder.rglob("*")]
        if path.stat().st_mode & 0o077
    )


@pytest.mark.usefixtures("open_umask")
def test_a_branch_can_be_read_by_nobody_else(store):
    put(store, "old")
    store.fork("old", "new")
    store.write_journal("new", store.journal("new").events)
    assert (
        readable_by_others(store.folder("new"))
        == [
            # a copy of the old transcript keeps that one's own mode: ours was private already
        ]
    )


@pytest.mark.usefixtures("open_umask")
@pytest.mark.parametrize("action", ["bury", "check_usable", "trash"])
def test_what_is_ours_can_be_read_by_nobody_else(store, action):
    folder = put(store, "x")
    for path in [folder, *folder.iterdir()]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    ACTIONS[action](store)
    assert readable_by_others(store.ours) == []


def test_a_file_is_written_whole_or_not_at_all(store, monkeypatch):
    folder = put(store, "my-id")
    before = (folder / "events.jsonl").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(StateFolderError):
        store.write_journal("my-id", [start("my-id")])
    assert (folder / "events.jsonl").read_bytes() == before
    assert not list(folder.glob(".events.jsonl.*"))


def test_listing_many_sessions_stays_quick(store):
    """300 sessions: a second is a hundred times what it takes."""
    for number in range(300):
        put(store, f"s{number}")
    began = time.monotonic()
    assert len(store.ids()) == 300
    assert time.monotonic() - began < 1
