"""The history reader in a real JupyterLab, driven by the keyboard alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from browser.lab import Lab
from unit.transcripts import exchange, put

from copilot_jupyter.state.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from browser.lab import Browser, NotebookPage

WIDGET = "application/vnd.jupyter.widget-view+json"
HOSTILE = (
    "<script>window.hit = 1</script>",
    "<img src=http://beacon.invalid/x onerror='window.hit = 2'>",
    "\"'><svg onload=window.hit=3>",
    "[a](javascript:window.hit=4)",
    "![b](http://beacon.invalid/y)",
    "</div></article><iframe src=http://beacon.invalid/z></iframe>",
    "safe \u202egnp.exe\u202c \u2066x",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory, runtime_program):
    env = {"COPILOT_CLI_PATH": runtime_program, "COPILOT_OFFLINE": "true"}
    with Lab(tmp_path_factory.mktemp("history") / "lab", env=env) as lab:
        yield lab


class Reading:
    """One notebook whose second cell opens a reader, and the state folder it reads."""

    def __init__(self, lab: Lab, browser: Browser, home: Path, name: str) -> None:
        self.store = Store(home)
        self.lab, self.browser, self.name = lab, browser, f"{name}.ipynb"
        self.page: NotebookPage

    def show(self, line: str = "%copilot_history long --browse") -> NotebookPage:
        """Run the cell and wait until the reader has the keyboard and its page."""
        load = f"import os\nos.environ['COPILOT_HOME'] = {str(self.store.home)!r}"
        self.lab.write(self.name, f"{load}\n%load_ext copilot_jupyter", line, "1 + 1")
        self.page = page = self.browser.open(self.lab, self.name)
        page.run(0)
        page.run(1)
        page.page.wait_for_selector(".cjh-search:focus")
        page.page.wait_for_selector(".cjh-turn")
        return page

    def status(self, text: str) -> None:
        """Wait until a screen reader is told this."""
        self.page.page.wait_for_function(
            "text => document.querySelector('.cjh-status')?.textContent === text", arg=text
        )

    def first_turn(self) -> str:
        return str(self.page.page.locator(".cjh-turn").first.inner_text())

    def output(self) -> list[dict]:
        """The outputs of the reader's cell in the saved file."""
        return [dict(output) for output in self.page.save().cells[1].outputs]


@pytest.fixture
def reading(lab, browser, home, request) -> Iterator[Reading]:
    made = Reading(lab, browser, home, re.sub(r"\W+", "-", request.node.name))
    yield made
    made.page.close()


@pytest.mark.campaign
def test_page_jump_search_and_leave_by_the_keyboard(reading):
    events = []
    for n in range(1, 10_001):
        events += exchange(f"Question {n}?", f"It is **{n}**.\n\n```python\nx = {n}\n```")
    put(reading.store, "long", events)
    page = reading.show()
    reading.status("Turns 9,981 to 10,000 of 10,000")
    assert page.page.locator(".cjh-turn").count() == 20
    # The last turn is in sight; its code has colours.
    assert page.evaluate(
        "() => { const p = document.querySelector('.cjh-pane');"
        " return p.scrollTop + p.clientHeight > p.scrollHeight - 2; }"
    )
    assert page.page.locator(".cjh-turn").last.locator(".highlight").count() == 1
    page.press("Control+Home")
    reading.status("Turns 1 to 20 of 10,000")
    assert "Question 1?" in reading.first_turn()
    for _ in range(30):  # to the end of the page, and over it
        page.press("PageDown")
        if "Question 21?" in reading.first_turn():
            break
        page.page.wait_for_timeout(50)
    reading.status("Turns 21 to 40 of 10,000")

    page.press("Tab")
    page.type("4242")
    page.press("Enter")
    reading.status("Turns 4,242 to 4,261 of 10,000")
    assert page.page.locator(".cjh-pane:focus").count() == 1
    page.press("Shift+Tab", "Control+a")
    page.type("10001")
    page.press("Enter")
    said = page.page.locator(".cjh-said")
    said.filter(has_text="There are the turns 1 to 10,000.").wait_for()

    page.press("Shift+Tab")
    page.type("question 77")
    reading.status("111 places")
    field = page.page.locator(".cjh-search")
    assert field.get_attribute("aria-expanded") == "true"
    page.press("ArrowDown")
    chosen = page.page.locator(".cjh-hit[aria-selected=true]")
    assert field.get_attribute("aria-activedescendant") == chosen.get_attribute("id")
    assert "Question 7798?" in chosen.inner_text()
    assert chosen.locator("mark").inner_text() == "Question 77"
    page.press("Enter")
    reading.status("Turns 7,798 to 7,817 of 10,000")

    page.press("Escape")  # the page that was read last stays, and no widget
    page.page.wait_for_selector(".cjh", state="detached")
    [output] = reading.output()
    assert set(output["data"]) == {"text/plain", "text/html"}
    assert "turns 7,798 to 7,817 of 10,000" in output["data"]["text/plain"]
    assert page.page.locator(".copilot-history").count() == 1
    assert len(page.cells()) == 3  # no key went to the notebook
    assert page.errors("cjh", "reader", "anywidget") == []


@pytest.mark.campaign
def test_hostile_text_is_text_and_nothing_is_fetched(reading):
    put(reading.store, "long", [e for text in HOSTILE for e in exchange(text, text)])
    asked: list[str] = []
    page = reading.show()
    page.page.on("request", lambda request: asked.append(request.url))
    reading.status("7 turns")
    shown = page.page.locator(".cjh").inner_text()
    assert shown.count(HOSTILE[0]) == 2
    for tag in ("script", "img", "iframe", "svg"):
        assert page.page.locator(f".cjh-turn {tag}").count() == 0
    page.type("<img")
    reading.status("2 places")
    assert HOSTILE[1] in page.page.locator(".cjh-hits").inner_text()
    page.press("Escape", "Escape")
    page.page.wait_for_selector(".cjh", state="detached")
    assert page.evaluate("() => window.hit") is None
    assert not any("beacon" in url for url in asked)


@pytest.mark.campaign
def test_the_next_cell_closes_the_reader(reading):
    put(reading.store, "long", exchange("One?", "1"))
    page = reading.show()
    assert WIDGET in reading.output()[0]["data"]
    page.run(2)
    page.page.wait_for_selector(".cjh", state="detached")
    assert set(reading.output()[0]["data"]) == {"text/plain", "text/html"}
    assert page.text(2) == "2"


@pytest.mark.campaign
def test_a_reader_whose_kernel_was_restarted_says_so(reading):
    put(reading.store, "long", [e for n in range(50) for e in exchange(f"{n}?", "a")])
    page = reading.show()
    page.restart()
    page.page.locator(".cjh-search").focus()
    page.press("Control+Home")
    page.page.wait_for_function(
        "() => document.querySelector('.cjh-said').textContent.includes('run the cell again')"
    )
