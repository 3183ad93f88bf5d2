"""Allow and deny in a real JupyterLab and Notebook 7, while the cell runs."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from browser.lab import Lab
from scripted_model import Reply, ScriptedModel
from wishes import DRIVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from browser.lab import NotebookPage

#: Code that a person has to see whole to judge it.
CODE = (
    "frame = read('churn.csv')  # <img src=x onerror='window.broken=1'>\n"
    + " " * 300
    + "os.remove('x')\n"
    + "# \u202eesrever\n" * 30
    + "last_line()"
)

SLOW = "permissions.READY = 30  # on a machine that does other things too\n"


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with ScriptedModel() as model:
        yield model


@pytest.fixture(
    scope="module", params=["lab", pytest.param("notebook", marks=pytest.mark.campaign)]
)
def lab(request, tmp_path_factory, runtime_program, model) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("permissions")
    own = {"COPILOT_HOME": str(home / "copilot"), "COPILOT_CLI_PATH": runtime_program}
    env = {**model.environment(), **own}
    with Lab(home / "server", env=env, app=request.param) as lab:
        yield lab


@pytest.fixture
def opened(lab, browser, request):
    pages: list[NotebookPage] = []

    def opened(*cells: str) -> NotebookPage:
        name = f"{request.node.originalname}.ipynb"
        lab.write(name, f"%load_ext copilot_jupyter\n{DRIVER}{SLOW}", *cells)
        pages.append(browser.open(lab, name))
        pages[0].run(0)
        pages[0].console.clear()  # Notebook 7 has errors of its own when it opens
        return pages[0]

    yield opened
    for page in pages:
        page.close()


def asked(page: NotebookPage, cell: int = 1) -> None:
    """Run a cell and wait until it asks."""
    page.run(cell, wait=False)
    page.page.wait_for_selector(".cjq-deny:visible")
    assert page.prompt(cell) == "[*]:"


def ended(page: NotebookPage, line: str, cell: int = 1) -> None:
    """Wait for the cell's end: one plain line stays, here, in the file, and when it is reopened."""
    page.wait_done(cell, 40)
    assert page.text(cell).startswith(line)
    assert page.page.locator(".cjq").count() == 0
    assert page.errors("cjq", "anywidget", "permissions") == []
    saved = page.save()
    assert saved.cells[cell].outputs[0].data == {"text/plain": line}
    assert "widgets" not in saved.metadata
    page.reload()
    page.wait_for_text(cell, line)
    assert "Error displaying widget" not in page.text(cell)


def focused(page: NotebookPage) -> str:
    return str(page.evaluate("() => document.activeElement.className"))


def test_a_tool_of_the_model_is_allowed_while_its_turn_runs(opened, model, tmp_path):
    code = json.dumps({"code": "answer = 6 * 7\nprint('it is', answer)"})
    model.will(Reply(tool="run_python", arguments=code), "Forty-two.")
    page = opened("%%copilot\nWhat is six times seven?", "print(answer)")
    asked(page)
    assert page.page.locator(".cjq-detail").text_content().startswith("answer = 6 * 7\n")
    inside = """() => document.querySelector('.cjq-deny').getBoundingClientRect().bottom
        < window.innerHeight"""
    assert page.evaluate(inside)  # the buttons are in view, not below the page
    assert page.page.locator(".cjq-string").all_inner_texts() == ["'", "it is", "'"]
    page.screenshot(tmp_path / "tool.png")
    page.page.locator(".cjq-once").click()
    page.wait_done(1, 40)
    assert "run_python: answer = 6 * 7 … (2 lines) → allowed once" in page.text(1)
    assert "it is 42" in page.text(1)
    assert "Forty-two." in page.text(1)
    page.run(2)
    assert page.text(2) == "42"


@pytest.mark.campaign
def test_allow_while_the_cell_runs(opened, tmp_path):
    page = opened(f"await wish('run_python', {CODE!r})")
    asked(page)
    assert "cjq" not in focused(page)  # nothing took the keyboard
    shown = page.page.locator(".cjq-detail").text_content()
    assert "<img src=x" in shown
    assert "⟨U+202E⟩esrever" in shown
    assert shown.endswith("last_line()")
    # All of it can be seen by scrolling down; nothing stands far to the right.
    fits = """() => { const box = document.querySelector('.cjq-detail');
        return box.scrollWidth <= box.clientWidth && box.scrollHeight > box.clientHeight; }"""
    assert page.evaluate(fits)
    assert "33 lines" in page.page.locator(".cjq").inner_text()
    assert "scroll to see all of it" in page.page.locator(".cjq").inner_text()
    assert page.evaluate("() => window.broken") is None
    page.screenshot(tmp_path / "permission.png")
    page.page.locator(".cjq-once").click()
    page.wait_for_text(1, "run_python ONCE")
    line = "run_python: frame = read('churn.csv') # <img src=x onerror='window.broken=1'>"
    ended(page, f"{line} … (33 lines) → allowed once")
    assert page.evaluate("() => window.broken") is None


@pytest.mark.campaign
def test_deny_with_the_keyboard_alone(opened):
    page = opened("await wish('shell', 'rm -r data')", "print('below')")
    asked(page)
    page.press("Enter", "Escape", "Space")  # what somebody types meanwhile allows nothing
    page.page.wait_for_timeout(1000)
    assert page.prompt(1) == "[*]:"
    page.select(1)
    for _ in range(12):
        page.press("Tab")
        if "cjq-deny" in focused(page):
            break
    assert "cjq-deny" in focused(page)
    before = len(page.cells())
    page.press("b", "d", "d", "ArrowDown")  # no shortcuts of the notebook
    assert len(page.cells()) == before
    assert "cjq-deny" in focused(page)
    page.press("Space")
    page.wait_for_text(1, "shell DENIED")
    page.wait_done(1)
    assert "jp-Cell" in focused(page)  # Lab's keys go on working
    page.press("b")
    assert len(page.cells()) == before + 1
    page.press("d", "d")
    ended(page, "shell: rm -r data → denied")


@pytest.mark.campaign
def test_allow_for_the_session_with_the_keyboard_and_escape_denies(opened):
    page = opened(
        "await wish('run_python', 'a')\nawait wish('run_python', 'b')", "await wish('shell', 'c')"
    )
    asked(page)
    page.page.wait_for_selector(".cjq-session:enabled")
    page.page.locator(".cjq-session").focus()
    page.press("Enter")
    page.wait_done(1, 40)
    assert "run_python SESSION\nrun_python SESSION" in page.text(1)
    asked(page, 2)
    page.page.locator(".cjq-detail").focus()
    page.press("Escape")
    page.wait_for_text(2, "shell DENIED")
    ended(page, "shell: c → denied", 2)


@pytest.mark.campaign
def test_a_key_or_a_click_that_was_meant_for_something_else_allows_nothing(opened):
    page = opened("await wish('shell', 'ls')")
    script = """() => new MutationObserver((_, seen) => {
        const allow = document.querySelector('.cjq:not([hidden]) .cjq-once');
        if (!allow) return;
        seen.disconnect();
        allow.focus(); allow.click();
        window.early = [allow.disabled, document.activeElement === allow];
    }).observe(document.body, {subtree: true, childList: true, attributes: true})"""
    page.evaluate(script)
    asked(page)
    assert page.evaluate("() => window.early") == [True, False]
    page.page.wait_for_selector(".cjq-once:enabled")
    page.page.locator(".cjq-once").focus()
    page.evaluate(
        """() => { const key = new KeyboardEvent('keydown',
            {key: 'Enter', repeat: true, bubbles: true, cancelable: true});
            window.held = document.activeElement.dispatchEvent(key); }"""
    )
    assert page.evaluate("() => window.held") is False
    assert page.prompt(1) == "[*]:"
    page.page.locator(".cjq-deny").click()
    ended(page, "shell: ls → denied")


@pytest.mark.campaign
def test_the_stop_button_while_it_waits(opened):
    page = opened("await wish('shell', 'ls')", "print('on')")
    asked(page)
    began = time.monotonic()
    page.interrupt()
    page.wait_done(1, 20)
    assert time.monotonic() - began < 5
    page.run(2)
    assert page.text(2) == "on"
    ended(page, "shell: ls → stopped")


@pytest.mark.campaign
def test_a_restart_of_the_kernel_while_it_waits(opened):
    page = opened("await wish('shell', 'ls')")
    asked(page)
    page.restart()
    page.page.get_by_role("status").get_by_text("The kernel was restarted").wait_for()
    assert page.page.locator(".cjq-button:visible").count() == 0  # there is nobody to answer to
    assert page.errors("cjq", "anywidget", "permissions") == []


@pytest.mark.campaign
def test_a_synchronous_cell_is_answered_by_buttons_too(opened):
    page = opened("wish_sync('shell', 'ls')")
    asked(page)
    page.page.locator(".cjq-once").click()
    page.wait_for_text(1, "shell ONCE")
    ended(page, "shell: ls → allowed once")


@pytest.mark.campaign
def test_a_screen_reader_is_told(opened):
    page = opened("await wish('shell', 'ls')")
    asked(page)
    dialog = page.page.get_by_role("alertdialog", name="Copilot asks to run this command (shell)")
    assert dialog.count() == 1
    assert page.page.get_by_role("alert").filter(has_text="Copilot asks to run").count() == 1
    for name in ("Allow once", "Allow for this session", "Deny"):
        assert dialog.get_by_role("button", name=name, exact=True).count() == 1
    described = page.evaluate(
        "() => document.getElementById(document.querySelector('.cjq').getAttribute("
        "'aria-describedby')).textContent"
    )
    assert described == "ls"
    page.page.locator(".cjq-deny").click()
    page.wait_done(1, 40)
