"""The session picker in a real JupyterLab, driven by the keyboard alone."""

from __future__ import annotations

import json
import os
import re
import time
from typing import TYPE_CHECKING

import pytest
from browser.lab import Browser, Lab
from unit.transcripts import exchange, put, start

from copilot_jupyter.state.metadata import KEPT_FROM, NOTEBOOK_PATH
from copilot_jupyter.state.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from browser.lab import NotebookPage

PICK = """\
from copilot_jupyter.notebook.extension import current_desk
from copilot_jupyter.notebook.picker import cell
cell.READY = 20  # on a machine that does other things too
print("got", await cell.pick(current_desk(get_ipython())))"""

SELECTED = ".cjp-row[aria-selected=true]"


@pytest.fixture(scope="module")
def lab(tmp_path_factory, runtime_program):
    env = {"COPILOT_CLI_PATH": runtime_program, "COPILOT_OFFLINE": "true"}
    with Lab(tmp_path_factory.mktemp("picker") / "lab", env=env) as lab:
        yield lab


class Picking:
    """One notebook whose second cell picks, and the state folder it picks from."""

    def __init__(self, lab: Lab, browser: Browser, home: Path, name: str) -> None:
        self.store = Store(home)
        self.lab, self.browser, self.name = lab, browser, f"{name}.ipynb"
        self.path = lab.root / self.name
        self.page: NotebookPage

    def add(self, session: str, age: int = 0, *, name: str = "", **more: object) -> Path:
        """Put a session on disk that was used `age` minutes ago."""
        folder = put(self.store, session, **more)
        if name:
            text = json.dumps({"id": session, "name": name, "cwd": "/work"})
            (folder / "workspace.yaml").write_text(text)
        then = time.time() - 60 * age
        os.utime(folder / "events.jsonl", (then, then))
        return folder

    def show(self, *, width: int = 1200, reads: bool = True) -> NotebookPage:
        """Run the cell and wait until the picker has the keyboard and its rows."""
        load = f"import os\nos.environ['COPILOT_HOME'] = {str(self.store.home)!r}"
        self.lab.write(self.name, f"{load}\n%load_ext copilot_jupyter", PICK)
        self.page = page = self.browser.open(self.lab, self.name, width=width)
        page.run(0)
        page.run(1, wait=False)
        page.page.wait_for_selector(".cjp-input:focus")
        if reads:
            self.until("'.cjp-status'", "session")
            page.page.wait_for_function(
                "() => !document.querySelector('.cjp-status').textContent.includes('eading')"
            )
        return page

    def until(self, selector: str, text: str) -> None:
        """Wait until an element has a text."""
        self.page.page.wait_for_function(
            f"text => document.querySelector({selector})?.textContent.includes(text)", arg=text
        )

    def selected(self, session: str) -> None:
        """Wait until a session is the selected one, for a screen reader too."""
        self.page.page.wait_for_function(
            f"""id => {{ const row = document.querySelector('{SELECTED}');
                const field = document.querySelector('.cjp-input');
                return row?.dataset.id === id
                    && field.getAttribute('aria-activedescendant') === row.id; }}""",
            arg=session,
        )

    def told(self, text: str) -> None:
        self.until("'.cjp-said'", text)

    def ended(self) -> str:
        """Wait for the cell's end and return its text; nothing else of the picker is left."""
        self.page.wait_done(1, 40)
        assert self.page.page.locator(".cjp").count() == 0
        assert self.page.errors("cjp", "picker", "anywidget") == []
        return self.page.text(1)


@pytest.fixture
def picking(lab, browser, home, request) -> Iterator[Picking]:
    made = Picking(lab, browser, home, re.sub(r"\W+", "-", request.node.name))
    yield made
    made.page.close()


def test_choose_with_the_keyboard_and_leave_one_plain_line(picking):
    picking.add("churn-model", 5, name="A secret title")
    picking.add("churn-draft", 10, events=exchange("What is churn?", "It is **leaving**."))
    picking.add("revenue", 20)
    picking.add("mine", 300, metadata={NOTEBOOK_PATH: str(picking.path)})
    page = picking.show()
    picking.selected("mine")  # of this notebook, before newer ones
    page.press("ArrowDown")
    picking.selected("churn-model")
    page.press("End")
    picking.selected("revenue")
    page.press("Home")
    picking.selected("mine")
    page.type("churn")
    picking.selected("churn-model")
    picking.until("'.cjp-status'", "2 of 4 sessions")
    page.press("ArrowDown")
    picking.selected("churn-draft")
    picking.until("'.cjp-pane'", "It is **leaving**.")
    page.press("Enter")
    assert picking.ended() == "Chose churn-draft.\ngot churn-draft"
    text = page.save() and picking.path.read_text()
    assert "widget" not in text.replace("This front end", "")
    assert "secret" not in text
    assert page.prompt(1) == "[2]:"
    assert len(page.cells()) == 2


@pytest.mark.campaign
def test_notebook_7_shows_the_same_picker(tmp_path, browser, home, runtime_program):
    env = {"COPILOT_CLI_PATH": runtime_program, "COPILOT_OFFLINE": "true"}
    with Lab(tmp_path / "nb7", env=env, app="notebook") as lab:
        picking = Picking(lab, browser, home, "Seven")
        picking.add("churn-model", 5)
        picking.add("churn-draft", 10, events=exchange("What is churn?", "It is **leaving**."))
        page = picking.show()
        picking.selected("churn-model")
        page.type("draft")
        picking.selected("churn-draft")
        picking.until("'.cjp-pane'", "It is **leaving**.")
        page.press("Enter")
        assert picking.ended() == "Chose churn-draft.\ngot churn-draft"
        assert "widget" not in (page.save() and picking.path.read_text())
        page.close()


@pytest.mark.campaign
def test_a_new_id_is_typed_and_checked(picking):
    picking.add("taken")
    page = picking.show()
    page.press("Alt+KeyN")
    picking.until("'.cjp-label'", "Id of the new session")
    page.press("Control+a")
    page.type("taken")
    picking.told("exists already")
    page.press("Control+a")
    page.type("not an id")
    picking.told("letters, digits")
    page.press("Enter", "Control+a")
    page.type("ana-new")
    page.press("Enter")
    assert picking.ended() == "Chose ana-new.\ngot ana-new"


@pytest.mark.campaign
def test_what_was_searched_in_vain_becomes_the_new_id(picking):
    picking.add("other")
    page = picking.show()
    page.type("ana-churn")
    picking.until("'.cjp-note'", "begins a new session named ana-churn")
    page.press("Alt+KeyN", "Enter")
    assert picking.ended() == "Chose ana-churn.\ngot ana-churn"


@pytest.mark.campaign
def test_fork_the_selected_session(picking):
    picking.add("first", 1)
    picking.add("second", 2, events=exchange("Keep me", "Kept"))
    page = picking.show()
    page.press("ArrowDown", "Alt+KeyF")
    picking.until("'.cjp-label'", "Id of the fork of second")
    page.press("Enter")
    assert picking.ended() == "Chose second-fork.\ngot second-fork"
    assert picking.store.journal("second-fork").events[1]["data"]["content"] == "Keep me"


@pytest.mark.campaign
def test_rename_and_leave_without_a_choice(picking):
    picking.add("first", 1)
    page = picking.show()
    page.press("F2", "Control+a")
    page.type('Churn: "by region"')
    page.press("Enter")
    picking.told("is named")
    picking.until("'.cjp-name'", 'Churn: "by region"')
    page.press("Escape")
    assert picking.ended() == "No session was chosen.\ngot None"
    assert picking.store.workspace("first")["name"] == 'Churn: "by region"'


@pytest.mark.campaign
def test_delete_two_take_one_back_and_leave(picking):
    for age, name in enumerate(("a", "b", "c")):
        picking.add(name, age)
    page = picking.show()
    page.press("Alt+KeyD")
    picking.until("'.cjp-doomed'", "1 session will be deleted")
    page.press("Enter")
    picking.told("marked for deletion")
    page.press("ArrowDown", "Alt+KeyD")
    picking.until("'.cjp-doomed'", "2 sessions will be deleted")
    assert picking.store.exists("a")
    page.press("Home", "Alt+KeyU")
    picking.until("'.cjp-doomed'", "1 session will be deleted")
    page.press("Escape")
    assert picking.ended() == "No session was chosen. Deleted b.\ngot None"
    assert sorted(picking.store.ids()) == ["a", "c"]
    assert picking.store.buried("b") is not None


@pytest.mark.campaign
def test_a_session_in_use_says_by_whom_and_is_not_deleted(picking):
    folder = picking.add("held")
    (folder / f"inuse.{os.getpid()}.lock").write_text("{}")
    page = picking.show()
    picking.until("'.cjp-badge.cjp-live'", f"pid {os.getpid()}")
    page.press("Alt+KeyD")
    picking.told("was not deleted")
    page.press("Escape")
    picking.ended()
    assert picking.store.exists("held")


@pytest.mark.campaign
def test_kept_copies_are_folded_under_their_parent(picking):
    picking.add("parent", 5)
    picking.add("parent-kept", 1, metadata={KEPT_FROM: "parent"})
    page = picking.show()
    picking.until("'.cjp-status'", "1 session")
    picking.selected("parent")
    page.press("Alt+KeyK", "ArrowDown")
    picking.selected("parent-kept")
    page.press("Alt+KeyK")
    picking.selected("parent")
    page.press("Escape")
    picking.ended()


HOSTILE = [
    "<script>window.hit = 1</script>",
    "<img src=http://beacon.invalid/x onerror='window.hit = 2'>",
    "\"'><svg onload=window.hit=3>",
    "javascript:window.hit=4",
    "</style></script><iframe src=http://beacon.invalid/y>",
    "safe \u202egnp.exe\u202c \u2066x",
    "\x1b]0;hit\x07\x1b[31mred",
    "\u0645\u0631\u062d\u0628\u0627 \u200f right to left",
    "$x^2$ `code` **bold** [a](http://beacon.invalid/z)",
    "y" * 10_000,
    "&lt;b&gt; & &amp;",
    "{{constructor.constructor('window.hit=5')()}}",
]


@pytest.mark.campaign
def test_hostile_titles_are_text_and_nothing_is_fetched(picking):
    for number, title in enumerate(HOSTILE):
        said = exchange(f"{title} {number}", title * 3)
        picking.add(f"h-{number:02}", number, name=title, events=said)
    asked: list[str] = []
    page = picking.show()
    page.page.on("request", lambda request: asked.append(request.url))
    for _ in HOSTILE:
        page.press("ArrowDown")
        page.page.wait_for_timeout(120)
    picking.selected(f"h-{len(HOSTILE) - 1:02}")
    page.press("Home")
    picking.until("'.cjp-name'", "<script>window.hit = 1</script>")
    picking.until("'.cjp-pane'", "<script>window.hit = 1</script>")
    shown = page.evaluate("() => document.querySelector('.cjp').textContent")
    assert not any(mark in shown for mark in "\u202a\u202b\u202d\u202e\u2066\u2067\u2068\x1b\x07")
    assert page.evaluate("() => window.hit") is None
    tags = page.evaluate(
        "() => [...new Set([...document.querySelectorAll('.cjp *')].map(e => e.localName))]"
    )
    assert set(tags) <= {
        *("div", "span", "bdi", "label", "input", "section", "button", "kbd", "p"),
    }
    assert [url for url in asked if not url.startswith(picking.lab.url)] == []
    box = page.page.locator(".cjp").bounding_box()
    assert box is not None
    assert box["height"] < 700
    page.type("gnp")
    picking.selected("h-05")
    page.press("Enter")
    assert picking.ended().endswith("got h-05")


@pytest.mark.campaign
def test_labs_shortcuts_reach_neither_field_nor_buttons(picking):
    for age, name in enumerate(("x-a", "x-b")):
        picking.add(name, age)
    page = picking.show()
    page.press("Tab", "Tab", "Tab")
    assert page.evaluate("() => document.activeElement.className").startswith("cjp-button")
    page.press("b", "a", "d", "d", "ArrowDown", "x", "m")
    page.page.locator(".cjp-input").focus()
    page.press("b", "Backspace", "d", "d", "Backspace", "Backspace", "Shift+Enter")
    assert len(page.cells()) == 2
    page.press("Tab", "Tab", "Tab", "Enter")  # the button New, or Fork
    page.page.wait_for_selector(".cjp-naming .cjp-input:focus")
    page.press("Escape", "Escape")
    assert picking.ended() == "No session was chosen.\ngot None"


@pytest.mark.campaign
def test_the_stop_button_ends_it_and_deletes_nothing(picking):
    picking.add("a")
    page = picking.show()
    page.press("Alt+KeyD")
    picking.until("'.cjp-doomed'", "1 session")
    page.interrupt()
    assert "Interrupted; no session was chosen." in picking.ended()
    assert page.error_outputs() == ["TurnInterrupted: Interrupted; nothing was done."]
    assert picking.store.exists("a")
    added = page.insert_below(1, "1 + 1")
    page.run(added)
    page.wait_for_text(added, "2")


@pytest.mark.campaign
def test_no_session_yet_says_what_to_do(picking):
    page = picking.show()
    picking.until("'.cjp-note'", "There is no session yet")
    page.press("Escape")
    picking.ended()


@pytest.mark.campaign
def test_a_state_folder_that_cannot_be_used_is_named(picking):
    picking.store.home.mkdir()
    picking.store.sessions.write_text("in the way")
    picking.show(reads=False)
    picking.until("'.cjp-note'", "cannot be used")
    picking.until("'.cjp-note'", "COPILOT_HOME")
    picking.store.sessions.unlink()
    picking.add("back")
    picking.page.page.locator(".cjp-note button").click()
    picking.selected("back")
    picking.page.press("Enter")
    assert picking.ended().endswith("got back")


@pytest.mark.campaign
def test_ten_thousand_sessions_can_be_searched(picking):
    folder = picking.store.sessions
    first = put(picking.store, "s-0000")
    (first / "events.jsonl").write_bytes(
        b"".join(
            json.dumps(event, separators=(",", ":")).encode() + b"\n"
            for event in [start("s-0000"), *exchange("Which of many?", "This one.")]
        )
    )
    for number in range(1, 10_000):
        other = folder / f"s-{number:04}"
        other.mkdir()
        for name in ("events.jsonl", "workspace.yaml"):
            os.link(first / name, other / name)
    page = picking.show()
    picking.until("'.cjp-status'", "10,000 sessions")
    assert page.page.locator(".cjp-row").count() < 40
    page.type("s-0777")
    picking.selected("s-0777")
    page.press("Control+a", "Delete", "End", "PageUp", "Home", "PageDown", "Home")
    page.type("many s-4321")
    picking.selected("s-4321")
    page.press("Enter")
    assert picking.ended() == "Chose s-4321.\ngot s-4321"


@pytest.mark.parametrize(
    ("theme", "width"), [("Light", 1200), ("Dark", 1200), ("Light", 620), ("Dark", 620)]
)
@pytest.mark.campaign
def test_looks(picking, tmp_path, theme, width):
    """For eyes: what it looks like in both themes, wide and narrow."""
    said = exchange("How does churn depend on tenure?", "It **falls** with tenure:\n\n- 1\n- 2")
    picking.add("ana-churn-model", 3, name="Churn by region", events=said * 3)
    picking.add("mine", 200, events=said, metadata={NOTEBOOK_PATH: str(picking.path)})
    picking.add("mine-kept", 210, metadata={KEPT_FROM: "mine"})
    held = picking.add("revenue-forecast", 900, name="Revenue")
    (held / f"inuse.{os.getpid()}.lock").write_text("{}")
    for number in range(20):
        picking.add(f"ana-analysis-{number:02}", 2000 + 999 * number)
    page = picking.show(width=width)
    page.command("apputils:change-theme", {"theme": f"JupyterLab {theme}"})
    if width < 1000:
        page.command("application:toggle-left-area")
    page.press("Alt+KeyK", "ArrowDown", "ArrowDown", "Alt+KeyD")
    picking.until("'.cjp-doomed'", "1 session")
    page.press("ArrowDown")
    picking.selected("revenue-forecast")
    picking.until("'.cjp-badge.cjp-live'", "in use by")
    page.page.wait_for_timeout(400)
    assert page.screenshot(tmp_path / f"{theme}-{width}.png").stat().st_size > 10_000
    page.press("Alt+KeyU", "Escape")
    picking.ended()
