"""The session picker without a browser: what it is told, what it does, how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from copilot_jupyter.conversation.sessions import Sessions
from copilot_jupyter.errors import BadInputError, SessionInUseError, TurnInterrupted
from copilot_jupyter.notebook import worker
from copilot_jupyter.notebook.picker import cell as picker_cell
from copilot_jupyter.notebook.picker import widget as module
from copilot_jupyter.notebook.picker.cell import NO_WIDGET, pick
from copilot_jupyter.notebook.picker.widget import SessionPicker
from copilot_jupyter.notebook.picker.wire import PREVIEW_LENGTH, preview, shown, to_wire
from copilot_jupyter.settings import Copilot
from copilot_jupyter.state.catalog import CatalogRow
from copilot_jupyter.state.metadata import BRANCH_OF, KEPT_FROM, NOTEBOOK_PATH
from unit.transcripts import exchange, put

if TYPE_CHECKING:
    from collections.abc import Iterator

JS = Path(module.__file__).with_name("picker.js").read_text()


@pytest.fixture
def sessions(home: Path) -> Iterator[Sessions]:
    """Sessions without a runtime: deleting only takes the files away."""
    made = Sessions(Copilot())

    async def delete(session: str) -> None:
        if made.in_use_elsewhere(session):
            raise SessionInUseError(f"{session} is in use.", "Close it there first.")
        made.store.discard(session)

    made.delete = delete  # type: ignore[method-assign]
    yield made
    made.close()


class Page:
    """The page's side of a picker: what it was sent, and what it says."""

    def __init__(self, picker: SessionPicker) -> None:
        self.picker = picker
        self.got: list[dict[str, Any]] = []
        picker.send = self.got.append

    def says(self, op: str, **more: Any) -> None:
        self.picker._received(self.picker, {"op": op, **more}, [])

    def of(self, op: str) -> list[dict[str, Any]]:
        return [message for message in self.got if message["op"] == op]

    def wait(self, op: str, test: Any = lambda _: True, count: int = 1) -> dict[str, Any]:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            found = [message for message in self.of(op) if test(message)]
            if len(found) >= count:
                return found[-1]
            time.sleep(0.005)
        raise AssertionError(f"no {op} among {[m['op'] for m in self.got]}")

    def rows(self) -> dict[str, list[Any]]:
        return {row[0]: row for message in self.of("rows") for row in message["rows"]}


@pytest.fixture
def page(sessions: Sessions) -> Iterator[Page]:
    picker = SessionPicker(sessions, looks=False)
    yield Page(picker)
    picker.close()


def begin(page: Page, **where: Any) -> None:
    page.says("ready", view="v")
    page.picker.look(notebook=where.get("notebook"), folder=where.get("folder", "/work"))
    page.wait("progress", lambda m: m.get("all"))


def test_a_picker_of_ones_own_shows_the_sessions_of_the_working_directory(
    sessions, tmp_path, monkeypatch
):
    put(sessions.store, "one", exchange("Why?", "So."))
    monkeypatch.chdir(tmp_path)
    with closing(SessionPicker(sessions)) as picker:
        page = Page(picker)
        page.says("ready", view="v")
        page.wait("progress", lambda m: m.get("all"))
        assert [*page.rows()] == ["one"]
        assert page.of("ack")[-1]["folder"] == str(tmp_path)


# -- text -------------------------------------------------------------------------------------


def test_what_a_page_could_obey_is_replaced():
    assert shown("plain") == "plain"
    assert shown("a\n\tb  c") == "a b c"
    assert shown("a\nb", lines=True) == "a\nb"
    assert shown("\u202eexe.\u2066x") == "\ufffdexe.\ufffdx"
    assert shown("\x1b[31m\x00\x9f\x7f") == "\ufffd[31m\ufffd\ufffd\ufffd"
    assert shown("a\ud800b").encode() == "a\ufffdb".encode()
    assert shown("<b>&amp;</b>") == "<b>&amp;</b>"
    assert shown("x" * 50, 10) == "x" * 9 + "…"
    assert shown("שלום 🙂 é") == "שלום 🙂 é"


def test_a_row_crosses_as_the_page_reads_it():
    row = CatalogRow("s", "s", 1.23456, 5, "/f", "/n.ipynb", "p", None, ours=True, kept_from="k")
    assert to_wire(row) == ["s", "", 1.235, 5, "/f", "/n.ipynb", "p", -1, "k", True]
    names = JS.split("const toRow = ([")[1].split("])")[0].split(", ")
    assert len(names) == len(to_wire(row))


def test_the_page_knows_no_html():
    code = "\n".join(line for line in JS.splitlines() if not line.startswith("//"))
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "DOMParser",
        "eval(",
    ):
        assert word not in code
    assert "http" not in code
    assert "url(" not in Path(module.__file__).with_name("picker.css").read_text()


def test_titles_are_never_the_widgets_state(sessions, page):
    put(sessions.store, "s", exchange("secret prompt", "secret answer"))
    begin(page)
    page.says("preview", id="s")
    page.wait("preview")
    state = json.dumps(page.picker.get_state(), default=str)
    assert "secret" not in state
    assert "About s" not in state


# -- the list ---------------------------------------------------------------------------------


def test_all_sessions_arrive_in_batches(sessions, page, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 7)
    for number in range(100):
        put(sessions.store, f"s{number:03}", metadata={NOTEBOOK_PATH: "/n.ipynb"})
    begin(page, notebook=Path("/n.ipynb"))
    assert sorted(page.rows()) == [f"s{n:03}" for n in range(100)]
    assert max(len(message["rows"]) for message in page.of("rows")) <= 7
    assert (page.picker.count, page.picker.busy) == (100, False)
    ack = page.of("ack")[-1]
    assert (ack["notebook"], ack["folder"]) == ("/n.ipynb", "/work")
    assert not sessions.store.exists(ack["new"])


def test_a_second_view_gets_everything_and_the_first_nothing_twice(sessions, page):
    put(sessions.store, "a")
    begin(page)
    page.got.clear()
    page.says("ready", view="v")
    assert page.of("ack")
    assert page.rows() == {}
    page.says("ready", view="other")
    assert list(page.rows()) == ["a"]
    assert page.of("progress")[-1]["all"]


def test_reading_again_finds_what_came_and_went(sessions, page):
    put(sessions.store, "a")
    put(sessions.store, "b")
    begin(page)
    sessions.store.discard("a")
    put(sessions.store, "c")
    page.got.clear()
    page.says("reload")
    page.wait("progress", lambda m: m.get("all"))
    assert page.of("removed")[-1]["ids"] == ["a"]
    assert list(page.rows()) == ["c"]


def test_a_state_folder_that_cannot_be_used_says_what_to_do(sessions, page):
    sessions.store.home.mkdir()
    sessions.store.sessions.write_text("in the way")
    page.says("ready", view="v")
    page.picker.look(notebook=None, folder="")
    failed = page.wait("failed")
    assert str(sessions.store.home) in failed["what"]
    assert "COPILOT_HOME" in failed["do"]
    assert page.picker.busy is False


def test_who_uses_a_session_is_told_for_visible_rows(sessions, page):
    folder = put(sessions.store, "held")
    put(sessions.store, "free")
    (folder / f"inuse.{os.getppid()}.lock").write_text("{}")
    begin(page)
    page.says("visible", ids=["held", "free", "no such id", "../x"])
    who = page.wait("live")["who"]
    assert f"pid {os.getppid()}" in who["held"]
    assert who["free"] == ""
    assert "../x" not in who


def test_the_preview_is_the_end_of_the_conversation(sessions):
    turns = [e for n in range(9) for e in exchange(f"prompt {n}", f"answer {n}\n" + "x" * 9999)]
    put(sessions.store, "s", turns)
    told = preview(sessions, "s")
    assert [turn["prompt"] for turn in told["turns"]] == ["prompt 6", "prompt 7", "prompt 8"]
    assert len(told["turns"][0]["answer"]) == PREVIEW_LENGTH
    assert told["turns"][0]["answer"].startswith("answer 6\nxxx")
    assert told["turns"][0]["complete"]


def test_a_preview_of_nothing_says_so(sessions):
    assert "There is no session named none" in preview(sessions, "none")["problem"]
    assert "cannot be a session id" in preview(sessions, "../x")["problem"]


@pytest.mark.parametrize(
    "content",
    [None, [], "x", {}, {"op": None}, {"op": []}, {"op": "choose"}, {"op": "visible", "ids": 5}],
)
def test_messages_that_mean_nothing_do_nothing(page, content):
    page.picker._received(page.picker, content, [])
    assert page.got == []


# -- doing ------------------------------------------------------------------------------------


def test_choosing_sets_the_value(sessions, page):
    put(sessions.store, "a")
    begin(page)
    seen: list[str] = []
    page.picker.observe(lambda change: seen.append(change.new), "value")
    page.says("choose", id="a")
    page.wait("chosen")
    assert (seen, page.picker.value) == (["a"], "a")


def test_what_vanished_meanwhile_is_not_chosen(sessions, page):
    put(sessions.store, "a")
    begin(page)
    sessions.store.discard("a")
    page.says("choose", id="a")
    assert "no session named a" in page.wait("said")["text"]
    assert page.of("removed")[-1]["ids"] == ["a"]
    assert page.picker.value is None


@pytest.mark.parametrize("wanted", ["", "-x", "a b", "../a", "x" * 251])
def test_a_new_id_that_cannot_be_is_refused(page, wanted):
    page.says("new", id=wanted)
    page.wait("said")
    assert page.picker.is_done is False


def test_a_new_id_is_only_returned(sessions, page):
    put(sessions.store, "taken")
    page.says("new", id="taken")
    assert "exists already" in page.wait("said")["text"]
    page.says("new", id="fresh")
    page.wait("chosen")
    assert page.picker.value == "fresh"
    assert not sessions.store.exists("fresh")


def test_a_fork_is_made_and_chosen(sessions, page):
    put(sessions.store, "a", exchange("One", "1"))
    page.says("fork", id="a", to="a")
    assert "exists already" in page.wait("said")["text"]
    page.says("fork", id="a", to="b")
    page.wait("chosen")
    assert page.picker.value == "b"
    assert sessions.store.client_metadata("b") == {BRANCH_OF: "a"}


def test_a_rename_shows_at_once(sessions, page):
    put(sessions.store, "a")
    begin(page)
    page.says("rename", id="a", name="  Churn <b>model</b> ")
    assert page.wait("said")["good"]
    page.wait("rows", lambda m: m["rows"][0][1] == "Churn <b>model</b>")
    assert sessions.store.workspace("a")["name"] == "Churn <b>model</b>"


@pytest.mark.parametrize("op", ["rename", "delete"])
def test_what_is_in_use_elsewhere_stays_as_it_is(sessions, page, op):
    folder = put(sessions.store, "a")
    (folder / f"inuse.{os.getppid()}.lock").write_text("{}")
    page.says(op, id="a", name="New")
    assert "is in use by" in page.wait("said")["text"]
    page.says("cancel")
    page.wait("chosen")
    assert sessions.store.info("a").name == "About a"


def test_deletion_waits_for_the_end_and_can_be_taken_back(sessions, page):
    for name in ("a", "b", "c"):
        put(sessions.store, name)
    begin(page)
    for name in ("a", "b", "b", "c"):
        page.says("delete", id=name)
    page.wait("marked", lambda m: m["ids"] == ["a", "b", "c"])
    page.says("undo")
    page.wait("marked", lambda m: m["ids"] == ["a", "b"])
    page.says("undo", id="a")
    page.wait("marked", lambda m: m["ids"] == ["b"])
    page.says("choose", id="b")
    assert "marked for deletion" in page.wait("said")["text"]
    assert sorted(sessions.store.ids()) == ["a", "b", "c"]
    page.says("choose", id="a")
    page.wait("chosen")
    assert sorted(sessions.store.ids()) == ["a", "c"]
    assert page.picker.deleted == ["b"]


def test_a_deletion_that_fails_is_told_and_stops_nothing(sessions, page):
    folder = put(sessions.store, "a")
    put(sessions.store, "b")
    page.says("delete", id="a")
    page.says("delete", id="b")
    page.wait("marked", count=2)
    (folder / f"inuse.{os.getppid()}.lock").write_text("{}")
    page.says("cancel")
    page.wait("chosen")
    assert sessions.store.ids() == ["a"]
    assert (page.picker.deleted, page.picker.problems) == (
        ["b"],
        ["a is in use. Close it there first."],
    )


def test_closed_without_an_end_nothing_is_deleted(sessions, page):
    put(sessions.store, "a")
    page.says("delete", id="a")
    page.wait("marked")
    page.picker.close()
    page.says("cancel")
    assert sessions.store.ids() == ["a"]


def test_without_the_extension_it_says_what_to_run():
    with pytest.raises(BadInputError, match="load_ext copilot_jupyter"):
        SessionPicker()


def test_a_picker_of_the_loaded_extension_unbinds_what_it_deletes(sessions, monkeypatch):
    put(sessions.store, "b")
    desk = FakeDesk(sessions)
    monkeypatch.setattr("copilot_jupyter.notebook.extension.current_desk", lambda _: desk)
    with closing(SessionPicker(looks=False)) as picker:
        page = Page(picker)
        begin(page)
        page.says("delete", id="b")
        page.says("cancel")
        page.wait("chosen")
    assert desk.forgotten == ["b"]


def test_threads_without_work_end_and_begin_again(sessions, monkeypatch):
    monkeypatch.setattr(worker, "IDLE", 0.05)
    put(sessions.store, "b")
    with closing(SessionPicker(sessions, looks=False)) as picker:
        page = Page(picker)
        begin(page)
        for count in (1, 2):
            wait_for(lambda: not any(t.name == module._THREAD for t in threading.enumerate()))
            page.says("preview", id="b")
            page.wait("preview", count=count)


def wait_for(condition) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_sessions_are_asked_for_at_first_use(sessions):
    asked: list[int] = []

    def make() -> Sessions:
        asked.append(1)
        return sessions

    picker = SessionPicker(make)
    assert asked == []
    assert picker.sessions is picker.sessions is sessions
    assert asked == [1]
    picker.close()


# -- in a cell --------------------------------------------------------------------------------


class FakeDesk:
    """As much of a desk as the picker sees."""

    def __init__(self, sessions: Sessions, *, streams: bool = True) -> None:
        self.sessions = sessions
        self.front_end = SimpleNamespace(streams=streams)
        self.forgotten: list[str] = []
        identity = SimpleNamespace(path=Path("/w/n.ipynb"), folder="/w")
        self.notebook = SimpleNamespace(identity=identity)

    def delete(self, session: str, timeout: float) -> dict[str, Any]:
        self.sessions.loop.call(self.sessions.delete(session), timeout)
        self.forgotten.append(session)
        return {"forgotten": session}


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict, Any]]:
    """What the cell's one output was, in order."""
    seen: list[tuple[dict, Any]] = []

    def display(data: dict, *, metadata: Any = None, **_: Any) -> Any:
        seen.append((data, metadata))
        return SimpleNamespace(
            update=lambda data, raw, metadata=None: seen.append((data, metadata))
        )

    monkeypatch.setattr("IPython.display.display", display)
    return seen


def played(monkeypatch: pytest.MonkeyPatch, *said: dict[str, Any]) -> list[SessionPicker]:
    """Play a page that is ready at once and then says this."""
    made: list[SessionPicker] = []

    class Played(SessionPicker):
        def look(self, **where: Any) -> None:
            made.append(self)
            super().look(**where)
            for message in ({"op": "ready", "view": "v"}, *said):
                self._received(self, message, [])

    monkeypatch.setattr(picker_cell, "SessionPicker", Played)
    return made


def last(outputs: list[tuple[dict, Any]]) -> str:
    data = outputs[-1][0]
    assert set(data) <= {"text/plain", "text/html"}
    return data["text/plain"]


def test_a_choice_leaves_one_line_and_no_widget(sessions, outputs, monkeypatch):
    put(sessions.store, "a")
    made = played(monkeypatch, {"op": "choose", "id": "a"})
    assert asyncio.run(pick(FakeDesk(sessions))) == "a"
    assert last(outputs) == "Chose a."
    assert made[0].comm is None
    assert made[0].takes_focus


def test_the_caller_says_what_the_line_is(sessions, outputs, monkeypatch):
    put(sessions.store, "a")
    put(sessions.store, "b")
    played(monkeypatch, {"op": "delete", "id": "b"}, {"op": "choose", "id": "a"})
    desk = FakeDesk(sessions)
    chosen = asyncio.run(pick(desk, lambda i: ({"text/plain": f"Bound to {i}."}, {"x": 1})))
    assert chosen == "a"
    assert last(outputs) == "Bound to a. Deleted b."
    assert outputs[-1][1] == {"x": 1}
    assert desk.forgotten == ["b"]


def test_nobody_chose(sessions, outputs, monkeypatch):
    put(sessions.store, "b")
    played(monkeypatch, {"op": "delete", "id": "b"}, {"op": "cancel"})
    assert asyncio.run(pick(FakeDesk(sessions), lambda _: pytest.fail("nothing chosen"))) is None
    assert last(outputs) == "No session was chosen. Deleted b."
    assert outputs[-1][1] == {"forgotten": "b"}  # the notebook's file forgets it too


def test_a_front_end_without_widgets_is_noticed(sessions, outputs, monkeypatch):
    monkeypatch.setattr(picker_cell, "READY", 0.2)
    assert asyncio.run(pick(FakeDesk(sessions))) is NO_WIDGET
    assert "does not show" in last(outputs)


def test_where_nobody_watches_nothing_is_shown(sessions, outputs):
    assert asyncio.run(pick(FakeDesk(sessions, streams=False))) is NO_WIDGET
    assert outputs == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError])
def test_the_stop_button_leaves_all_as_it_was(sessions, outputs, monkeypatch, error):
    put(sessions.store, "a")
    made = played(monkeypatch, {"op": "delete", "id": "a"})
    real = picker_cell._until

    async def until(done: Any, *arguments: Any, **options: Any) -> bool:
        if made and made[0].is_ready and not arguments and not options:
            raise error
        return await real(done, *arguments, **options)

    monkeypatch.setattr(picker_cell, "_until", until)
    with pytest.raises(TurnInterrupted, match="nothing was done"):
        asyncio.run(pick(FakeDesk(sessions)))
    assert last(outputs) == "Interrupted; no session was chosen."
    assert sessions.store.ids() == ["a"]
    assert made[0].comm is None


def test_kept_copies_say_whose_they_are(sessions, page):
    put(sessions.store, "p-kept", metadata={KEPT_FROM: "p"})
    begin(page)
    assert page.rows()["p-kept"][8] == "p"
