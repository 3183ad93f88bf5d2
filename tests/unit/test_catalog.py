"""The catalog: what a list shows of every session, from one small file."""

from __future__ import annotations

import json
import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from copilot_jupyter.errors import BadInputError, SessionNotFoundError, StateFolderError
from copilot_jupyter.state import catalog as module
from copilot_jupyter.state.catalog import VERSION, Catalog, CatalogRow
from copilot_jupyter.state.journal import journal_bytes
from copilot_jupyter.state.metadata import KEPT_FROM, NOTEBOOK_PATH
from copilot_jupyter.state.store import Store
from copilot_jupyter.state.workspace import CLIENT_NAME, rename
from unit.transcripts import asks, event, exchange, put, says, start

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(home: Path) -> Store:
    return Store()


def used(store: Store, session: str, at: float) -> None:
    os.utime(store.journal_path(session), (at, at))


def ids(rows: list[CatalogRow]) -> list[str]:
    return [row.id for row in rows]


def written(store: Store, session: str, *events: dict) -> CatalogRow:
    """The row of a session with these events, the start left out."""
    folder = put(store, session)
    (folder / "events.jsonl").write_bytes(journal_bytes(events))
    row = Catalog(store).row(session)
    assert row is not None
    return row


# -- rows -------------------------------------------------------------------------------------


def test_a_row_says_what_a_list_shows(store):
    metadata = {NOTEBOOK_PATH: "/home/ana/A.ipynb", KEPT_FROM: "parent"}
    folder = put(store, "s", exchange("How does\n churn depend?", "A"), metadata)
    (folder / "workspace.yaml").write_text(
        f"id: s\nname: 'A: b'\ncwd: /w\nclient_name: {CLIENT_NAME}"
    )
    used(store, "s", 1000.5)
    size = (folder / "events.jsonl").stat().st_size
    [row] = Catalog(store).refresh()
    assert row == CatalogRow(
        id="s",
        name="A: b",
        modified=1000.5,
        size=size,
        folder="/w",
        notebook="/home/ana/A.ipynb",
        prompt="How does churn depend?",
        turns=1,
        ours=True,
        kept_from="parent",
    )


def test_the_catalog_and_the_store_agree(store):
    names = [
        "plain words",
        "'quoted: it''s'",
        '"a\\u00e9\\n b"',
        "|\n  two\n  lines",
        "null",
        "~",
        "123",
    ]
    for number, name in enumerate(names):
        folder = put(store, f"s{number}")
        (folder / "workspace.yaml").write_text(f"id: s{number}\nname: {name}\ncwd: /work # not\n")
    for row in Catalog(store).refresh():
        by_yaml = store.workspace(row.id)
        assert (row.name, row.folder) == (str(by_yaml["name"] or ""), by_yaml["cwd"])


@pytest.mark.parametrize(
    "text", [b"", b"\xff\xfe", b"name: [", b"- a\n- b", b"name: &a *b", b"name", b"\x00" * 30]
)
def test_a_workspace_that_cannot_be_read_leaves_the_rest(store, text):
    folder = put(store, "s")
    (folder / "workspace.yaml").write_bytes(text)
    [row] = Catalog(store).refresh()
    assert (row.id, row.turns, row.name if text != b"name: &a *b" else "") == ("s", 1, "")


def test_only_the_persons_prompts_are_counted(store):
    row = written(
        store,
        "s",
        start("s"),
        asks("from the system", source="system"),
        asks("to a sub-agent") | {"agentId": "a"},
        asks("one"),
        says('{"type":"user.message","data":{"content":"not one"}}'),
        asks('two "source":"system" and "agentId":'),
        asks("three", source="user"),
    )
    assert (row.prompt, row.turns) == ("one", 3)


def test_prompts_written_in_another_way_and_cut_off_lines(store):
    folder = put(store, "s")
    spaced = json.dumps(asks("spaced out")).encode()
    torn = journal_bytes([asks("torn")])[:40]
    (folder / "events.jsonl").write_bytes(journal_bytes([start("s")]) + spaced + b"\n" + torn)
    [row] = Catalog(store).refresh()
    assert (row.prompt, row.turns) == ("spaced out", 1)


def test_an_empty_and_a_huge_prompt(store):
    assert written(store, "empty", start("empty")).turns == 0
    row = written(store, "huge", start("huge"), asks("word " * 1_000_000))
    assert (len(row.prompt), row.turns) == (200, 1)
    assert written(store, "odd", start("odd"), asks(None), asks(["x"])).turns == 2


def test_a_long_name_is_cut(store):
    folder = put(store, "s")
    (folder / "workspace.yaml").write_text(f"id: s\nname: {'x' * 10_000}\n")
    [row] = Catalog(store).refresh()
    assert len(row.name) == 200


# -- order, first page ------------------------------------------------------------------------


def test_newest_first(store):
    for number, name in enumerate(("old", "older", "oldest")):
        put(store, name)
        used(store, name, 1000 - number)
    assert ids(Catalog(store).refresh()) == ["old", "older", "oldest"]
    assert ids(Catalog(store).first(2)) == ["old", "older"]


def test_the_first_page_holds_the_notebooks_own_as_far_as_known(store):
    put(store, "mine", metadata={NOTEBOOK_PATH: "/n.ipynb"})
    used(store, "mine", 1)
    put(store, "new")
    catalog = Catalog(store)
    assert ids(catalog.first(1, notebook="/n.ipynb")) == ["new"]
    catalog.refresh()
    assert ids(Catalog(store).first(1, notebook="/n.ipynb")) == ["new", "mine"]


def test_what_is_no_session_is_passed_over(store):
    put(store, "good")
    (store.sessions / "no id.x").mkdir()
    (store.sessions / ".good.abc").mkdir()
    (store.sessions / "file").write_text("x")
    (store.sessions / "empty").mkdir()
    (store.sessions / "hollow").mkdir()
    (store.sessions / "hollow" / "events.jsonl").write_bytes(b"")
    assert ids(Catalog(store).refresh()) == ["good"]


def test_no_state_folder_is_an_empty_list_and_a_bad_one_an_error(store):
    assert Catalog(store).refresh() == []
    assert Catalog(store).first(5) == []
    store.home.mkdir(exist_ok=True)
    store.sessions.write_text("in the way")
    with pytest.raises(StateFolderError):
        Catalog(store).first(5)
    with pytest.raises(StateFolderError):
        Catalog(store).refresh()


# -- kept up to date --------------------------------------------------------------------------


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read of transcripts from now on."""
    seen: list[str] = []
    real = module._prompts

    def noted(path: str) -> tuple[str, int]:
        seen.append(path.split("/")[-2])
        return real(path)

    monkeypatch.setattr(module, "_prompts", noted)
    return seen


def test_only_what_changed_is_read_again(store, monkeypatch):
    for name in ("a", "b", "c", "d"):
        put(store, name, metadata={})
    seen = reads(monkeypatch)
    Catalog(store).refresh()
    assert sorted(seen) == ["a", "b", "c", "d"]
    seen.clear()
    store.append("b", exchange("More", "Yes"))
    rename(store, "c", "Other")
    store.write_metadata("d", {NOTEBOOK_PATH: "/d.ipynb"})
    rows = {row.id: row for row in Catalog(store).refresh()}
    assert sorted(seen) == ["b", "c", "d"]
    assert (rows["b"].turns, rows["c"].name, rows["d"].notebook) == (2, "Other", "/d.ipynb")
    seen.clear()
    Catalog(store).refresh()
    assert seen == []


def test_what_is_gone_is_forgotten(store):
    for name in ("a", "b"):
        put(store, name, exchange(f"secret of {name}", "x"))
    catalog = Catalog(store)
    catalog.refresh()
    assert "secret of a" in catalog.path.read_text()
    store.discard("a")
    catalog.forget(["a", "never"])
    assert "secret of a" not in catalog.path.read_text()
    store.discard("b")
    assert Catalog(store).refresh() == []
    assert "secret" not in catalog.path.read_text()


def test_one_row_is_read_at_once(store):
    put(store, "a")
    catalog = Catalog(store)
    catalog.refresh()
    rename(store, "a", "New name")
    row = catalog.row("a")
    assert row is not None
    assert row.name == "New name"
    store.discard("a")
    assert catalog.row("a") is None


def test_progress_gets_every_row_once(store):
    for number in range(30):
        put(store, f"s{number}")
    Catalog(store).refresh()
    put(store, "later")
    told: list[tuple[int, int, list[str]]] = []
    Catalog(store).refresh(lambda done, total, rows: told.append((done, total, ids(rows))))
    assert told[0][:2] == (30, 31)
    assert told[-1][:2] == (31, 31)
    everything = [name for _, _, names in told for name in names]
    assert len(everything) == len(set(everything)) == 31


def test_stopped_in_the_middle_it_keeps_what_it_has(store):
    for number in range(10):
        put(store, f"s{number}")
    asked = iter([False, False, False, True])
    assert len(Catalog(store).refresh(stop=lambda: next(asked))) == 3
    value = json.loads(Catalog(store).path.read_text())
    assert len(value["rows"]) == 3


def test_a_session_that_vanishes_meanwhile_is_passed_over(store, monkeypatch):
    put(store, "a")
    put(store, "b")
    real = module._prompts

    def gone(path: str) -> tuple[str, int]:
        if "/b/" in path:
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr(module, "_prompts", gone)
    assert ids(Catalog(store).refresh()) == ["a"]


# -- the file ---------------------------------------------------------------------------------


def test_the_file_is_for_this_user_alone(store):
    put(store, "a")
    catalog = Catalog(store)
    catalog.refresh()
    assert stat.S_IMODE(catalog.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(catalog.path.parent.stat().st_mode) == 0o700


DAMAGED = [
    b"",
    b"garbage",
    b"\x00" * 100,
    b"[]",
    b"{}",
    b"null",
    b'{"v":99,"rows":[]}',
    b'{"v":1}',
    b'{"v":1,"rows":5}',
    b'{"v":1,"rows":{"a":1}}',
    b'{"v":1,"rows":[1,null,[],{}]}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("data", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_is_ignored_and_replaced(store, data):
    put(store, "a")
    path = Catalog(store).path
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    assert ids(Catalog(store).refresh()) == ["a"]
    assert json.loads(path.read_bytes())["v"] == VERSION


@pytest.mark.parametrize("field", range(14))
@pytest.mark.parametrize("wrong", [{}, True, 1.5, "x", None])
def test_a_row_of_the_wrong_shape_is_read_anew(store, field, wrong):
    put(store, "a")
    catalog = Catalog(store)
    [right] = catalog.refresh()
    value = json.loads(catalog.path.read_bytes())
    value["rows"][0][field] = wrong
    catalog.path.write_text(json.dumps(value))
    for row in Catalog(store).refresh():
        assert [type(part) for part in module._FIELDS(row)] == [
            type(part) if part is not None else type(None) for part in module._FIELDS(row)
        ]
        assert row.id == "a"
        assert row.size == right.size or field == 7


def test_a_disk_that_refuses_is_no_error(store, monkeypatch):
    put(store, "a")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_whole", full)
    assert ids(Catalog(store).refresh()) == ["a"]


def test_two_kernels_write_it_at_once(store):
    for number in range(50):
        put(store, f"s{number}")
    threads = [threading.Thread(target=Catalog(store).refresh) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads(Catalog(store).path.read_bytes())["rows"]) == 50


# -- renaming ---------------------------------------------------------------------------------

WORKSPACE = """\
id: s
cwd: /work
name: {}
user_named: false
created_at: 2026-11-22T19:55:50.867Z
"""


@pytest.mark.parametrize("old", ["Old", "'Old: x'", '"a\\n b"', "|\n  two\n\n  lines", "", "null"])
@pytest.mark.parametrize("new", ["New", "a: b # c", "'\"", "yes", "12", "- x", "日本 🙂", "{{x}}"])
def test_a_session_is_renamed_and_nothing_else_changes(store, old, new):
    folder = put(store, "s")
    (folder / "workspace.yaml").write_text(WORKSPACE.format(old))
    before = store.workspace("s")
    assert rename(store, "s", new) == new
    assert store.workspace("s") == {**before, "name": new, "user_named": True}
    assert "created_at: 2026-11-22T19:55:50.867Z" in (folder / "workspace.yaml").read_text()


def test_a_name_where_there_was_none(store):
    folder = put(store, "s")
    (folder / "workspace.yaml").write_text("id: s\ncwd: /work")
    rename(store, "s", "  A\tname\n\x1b[31m ")
    assert store.workspace("s") == {"id": "s", "cwd": "/work", "name": "A name [31m"}


def test_a_name_in_another_style_of_yaml(store):
    folder = put(store, "s")
    (folder / "workspace.yaml").write_text('{"id": "s", "name": "Old"}')
    rename(store, "s", "New")
    assert store.workspace("s") == {"id": "s", "name": "New"}


def test_what_cannot_be_renamed_says_so(store):
    folder = put(store, "s")
    with pytest.raises(BadInputError, match="empty"):
        rename(store, "s", " \n\x00")
    with pytest.raises(SessionNotFoundError):
        rename(store, "none", "x")
    (folder / "workspace.yaml").unlink()
    with pytest.raises(BadInputError, match=r"no workspace\.yaml"):
        rename(store, "s", "x")


def test_a_tool_event_is_no_turn(store):
    row = written(store, "s", start("s"), asks("a"), event("tool.execution_start", toolName="x"))
    assert row.turns == 1
