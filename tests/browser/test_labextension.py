"""The lab extension in a real JupyterLab and a real Notebook 7: what it keeps, draws and runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from browser.lab import Lab

import copilot_jupyter
from copilot_jupyter.notebook.display import render

FOLDER = Path(copilot_jupyter.__file__).parent / "labextension"
CODE = "if a < b and \"x\" != 'y':\n\tprint(f'<b>{a & b}</b>')\n\n    # &lt; $x$ \\n \u202e…"
ANSWER = f"Try this:\n\n```python\n{CODE}\n```\n\nor\n\n```\nplain <i>\n```\n"
CONNECT = (
    "from copilot_jupyter.notebook.labcomm import LabExtension\n"
    "page = LabExtension(get_ipython())\n"
)
HOSTILE = "<img src=x onerror=\"window.hit='status'\">"

apps = pytest.mark.parametrize("app", ["lab", pytest.param("notebook", marks=pytest.mark.campaign)])


@pytest.fixture
def app():
    return "lab"


@pytest.fixture
def extensions(tmp_path):
    """A folder for JUPYTER_PATH where the extension is installed; nothing was built."""
    (tmp_path / "jupyter" / "labextensions").mkdir(parents=True)
    (tmp_path / "jupyter" / "labextensions" / "copilot-jupyter").symlink_to(FOLDER)
    return str(tmp_path / "jupyter")


@pytest.fixture
def lab(tmp_path, model, app, extensions):
    home = str(tmp_path / "copilot")
    env = {**model.environment(), "COPILOT_HOME": home, "JUPYTER_PATH": extensions}
    with Lab(tmp_path / "lab", env=env, app=app) as lab:
        yield lab


def errors(page):
    """Errors of ours."""
    return page.errors("copilot")


def bind(page, index, session):
    """Show what a binding shows; the page then keeps it in the notebook's metadata."""
    entry = {"v": 1, "session": session, "path": page.name, "notebook_id": "n", "at": "2026"}
    page.write(
        index,
        "from IPython.display import display\n"
        "display({'text/plain': 'Bound.'}, raw=True, "
        f"metadata={{'copilot_jupyter': {entry!r}}})",
    )
    page.run(index)
    page._wait(
        """session => { const nb = window.jupyterapp.shell.currentWidget;
            return (nb.content.model.getMetadata('copilot_jupyter')?.session ?? null)
                === session; }""",
        10,
        "the binding",
        session,
    )


def answered(lab, name):
    """Write a notebook with two stored answers, the second one replayed."""
    lab.write(name, "%%copilot\none", "%%copilot\ntwo")
    notebook = lab.read(name)
    for cell, replayed in zip(notebook.cells, (False, True), strict=True):
        ours = {"session": "s", "replayed": True} if replayed else {"session": "s"}
        data = {"text/plain": ANSWER, "text/html": render._answer_box(render.markdown(ANSWER))}
        output = nbformat.v4.new_output("display_data", data, metadata={"copilot_jupyter": ours})
        cell.outputs = [output]
        cell.execution_count = 1
    nbformat.write(notebook, lab.root / name)


def execute_requests(page):
    """Return a list that grows with each request to execute that this page sends."""
    sent = []

    def note(frame):
        data = frame if isinstance(frame, bytes) else frame.encode()
        if b'"execute_request"' in data:
            sent.append(data)

    page.page.on("websocket", lambda socket: socket.on("framesent", note))
    return sent


def test_jupyter_lists_it_as_ok(extensions, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", extensions)
    command = [sys.executable, "-m", "jupyter", "labextension", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    line = next(line for line in (done.stderr + done.stdout).splitlines() if "copilot" in line)
    assert "copilot-jupyter v0.1.0" in line
    assert "enabled" in line
    assert "OK" in line


@apps
def test_blocks_are_copied_and_inserted_exactly(lab, browser, tmp_path):
    answered(lab, "Answers.ipynb")
    before = lab.read("Answers.ipynb").cells
    page = browser.open(lab, "Answers.ipynb")
    page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.command("kernelmenu:shutdown")  # the buttons need none

    first = page.output(0)
    copy = first.get_by_role("button", name="Copy this code")
    insert = first.get_by_role("button", name="Insert this code as a new cell below")
    copy.nth(1).wait_for()
    assert (copy.count(), insert.count()) == (2, 2)
    page.screenshot(tmp_path / "buttons.png")

    copy.first.click()
    first.get_by_text("Copied").wait_for()
    assert page.evaluate("() => navigator.clipboard.readText()") == CODE

    # By keyboard: from one button to the next, and neither Enter nor Space is the notebook's.
    copy.nth(1).focus()
    page.press("Enter")
    first.get_by_text("Copied").nth(1).wait_for()
    assert page.evaluate("() => navigator.clipboard.readText()") == "plain <i>"
    page.press("Shift+Tab", "Space")
    page._wait("() => document.querySelectorAll('.jp-Notebook .jp-Cell').length === 3", 10, "cell")
    assert page.source(1) == CODE
    assert page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex") == 1

    page.output(2).get_by_role("button", name="Insert this code").nth(1).click()
    page._wait("() => document.querySelectorAll('.jp-Notebook .jp-Cell').length === 4", 10, "cell")
    assert [cell["source"] for cell in page.cells()] == [
        *("%%copilot\none", CODE, "%%copilot\ntwo", "plain <i>")
    ]

    # The mark is drawn beside the replayed answer alone; nothing drawn is saved.
    page.output(2).get_by_text("replayed", exact=True).wait_for()
    assert first.get_by_text("replayed", exact=True).count() == 0
    saved = page.save().cells
    assert [saved[0].outputs, saved[2].outputs] == [cell.outputs for cell in before]
    assert "copilot-tools" not in (lab.root / "Answers.ipynb").read_text()
    assert errors(page) == []
    page.close()


@pytest.mark.campaign
@apps
def test_bound_notebook_loads_the_extension_by_itself(lab, browser, model):
    model.will("First:\n\n```python\nx = 1\n```\n", "Second.", "Third.", "Fourth.")
    lab.write("Bound.ipynb", "%%copilot\none", "1")
    page = browser.open(lab, "Bound.ipynb")
    bind(page, 1, "lab-demo")
    if lab.app == "lab":
        page.page.locator(".copilot-status", has_text="Copilot: lab-demo").wait_for()
    page.restart()
    page.run(0)
    page.wait_for_text(0, "First:")
    assert page.error_outputs() == []
    page.output(0).get_by_role("button", name="Insert this code as a new cell below").wait_for()

    # The stored answer, out of a kernel that began with it: no %load_ext anywhere.
    for _ in range(3):
        page.restart(run_all=True)
        page.wait_done(1)
        assert page.error_outputs() == []
    page.output(0).get_by_text("replayed", exact=True).wait_for()
    assert len(model.requests) == 1

    # An explicit %load_ext has nothing to say.
    page.write(1, "%load_ext copilot_jupyter")
    page.run(1)
    assert page.outputs(1) == []

    # Saved, and opened in a kernel of its own.
    saved = page.save()
    kept = saved.metadata.copilot_jupyter
    assert set(kept) == {"v", "session", "path", "notebook_id"}
    assert kept.session == "lab-demo"
    page.command("kernelmenu:shutdown")
    page.reload()
    assert page.metadata()["copilot_jupyter"]["session"] == "lab-demo"
    page.write(1, "%%copilot\ntwo")
    page.run(1)
    page.wait_for_text(1, "Second.")
    assert page.error_outputs() == []
    assert errors(page) == []

    # And a kernel that dies comes back with it.
    page.write(1, "import os\nos.kill(os.getpid(), 9)")
    page.run(1, wait=False)
    page.page.locator(".jp-Dialog .jp-mod-accept").click(timeout=30_000)
    page.wait_for_kernel(60)
    page.write(1, "%%copilot\nthree")
    page.run(1)
    page.wait_for_text(1, "Third.")
    page.close()


@pytest.mark.campaign
@apps
def test_unbound_notebook_is_left_alone(lab, browser):
    lab.write("Plain.ipynb", "import sys\nprint('copilot_jupyter' in sys.modules)", "1")
    page = browser.open(lab, "Plain.ipynb")
    page.command("kernelmenu:shutdown")
    sent = execute_requests(page)
    page.reload()
    page.restart()
    page.run(0)
    page.wait_for_text(0, "False")
    assert len(sent) == 1  # the cell
    assert "copilot_jupyter" not in page.metadata()

    bind(page, 1, "lab-demo")  # the same, bound: one more for the cell, one after the restart
    page.restart()
    page.run(0)
    page.wait_for_text(0, "True")
    assert len(sent) == 4
    bind(page, 1, None)
    page.close()


INSERT = """async def insert(*args, **kwargs):
    import asyncio
    steps = page.insert_cell(*args, **kwargs)
    try:
        while True:
            next(steps)
            await asyncio.sleep(0.01)
    except StopIteration as end:
        return end.value
"""


@pytest.mark.campaign
@apps
def test_cells_are_inserted_where_the_running_one_is(lab, browser):
    awaited = "await insert('a\\t= \"<b>\"'), await insert('# b', kind='markdown')"
    blocking = (
        "def held():\n    import time\n    steps = page.insert_cell('c')\n    try:\n"
        "        while True:\n            next(steps)\n            time.sleep(0.01)\n"
        "    except StopIteration as end:\n        return end.value\nheld()"
    )
    lab.write("Cells.ipynb", CONNECT + INSERT, awaited, blocking)
    page = browser.open(lab, "Cells.ipynb")
    page.run(0)
    page.run(1)
    assert page.text(1) == "(True, True)"
    page._wait("() => document.querySelectorAll('.jp-Notebook .jp-Cell').length === 5", 10, "cells")
    inserted = [(cell["cell_type"], cell["source"]) for cell in page.cells()[2:4]]
    assert inserted == [("code", 'a\t= "<b>"'), ("markdown", "# b")]
    page.run(4)
    assert page.text(4) == "True"
    assert page.source(5) == "c"
    first = page.cells()[0]["id"]
    page.write(1, f"await insert('d', below={first!r}), await insert('e', below='gone')")
    page.run(1)
    page._wait("() => document.querySelectorAll('.jp-Notebook .jp-Cell').length === 7", 10, "cells")
    assert (page.source(1), page.text(2)) == ("d", "(True, False)")
    page.reload()  # the kernel lives on, and so does the page's side
    page.run(1)
    assert page.text(1) == "(True, True)"
    assert page.error_outputs() == []
    assert errors(page) == []
    page.close()


@pytest.mark.campaign
def test_without_the_extension_only_the_first_request_waits(tmp_path, browser):
    timed = "import time\nstart = time.monotonic()\nassert await insert('x') is False\n"
    off = tmp_path / "lab" / "config" / "labconfig" / "page_config.json"
    off.parent.mkdir(parents=True)  # it is installed here; turned off it is not there
    off.write_text('{"disabledExtensions": {"copilot-jupyter": true}}')
    with Lab(tmp_path / "lab", env={"JUPYTER_PATH": str(tmp_path)}) as lab:
        lab.write(
            "None.ipynb",
            CONNECT + INSERT + timed + "print(time.monotonic() - start)",
            timed + "print(time.monotonic() - start)",
        )
        page = browser.open(lab, "None.ipynb")
        page.run_all()
        assert page.error_outputs() == []
        assert float(page.text(0)) < 1.5
        assert float(page.text(1)) < 0.1
        assert len(page.cells()) == 2
        assert errors(page) == []
        page.close()


def ran(page, index):
    """Wait until a cell shows something, ended or asking; end it, and return its errors."""
    page._wait(
        """i => { const cell = window.jupyterapp.shell.currentWidget.content.widgets[i];
            return cell.model.sharedModel.getSource() === '%copilot_resume'
                && cell.outputArea.widgets.length > 0; }""",
        30,
        "the cell to show something",
        index,
    )
    if "*" in page.prompt(index):
        page.interrupt()
        page.wait_done(index)
    return " ".join(page.error_outputs())


@apps
@pytest.mark.campaign
def test_command_and_button_open_the_sessions(lab, browser, tmp_path):
    lab.write("Open.ipynb", "1", "2")
    page = browser.open(lab, "Open.ipynb")
    page.select(0)
    page.press("Control+Shift+C")
    page.page.locator(".lm-CommandPalette-input").wait_for()
    page.type("Copilot sessions")
    page.page.locator(".lm-CommandPalette-item.lm-mod-active", has_text="Copilot sess").wait_for()
    page.press("Enter")
    assert "not found" not in ran(page, 1)

    page.page.get_by_role("button", name="Copilot sessions").first.click()
    assert "not found" not in ran(page, 2)
    assert [page.source(i) for i in range(4)] == ["1", *["%copilot_resume"] * 2, "2"]
    page.screenshot(tmp_path / "sessions.png")
    assert errors(page) == []
    page.close()


@pytest.mark.campaign
def test_hostile_session_name_is_shown_as_text(lab, browser):
    lab.write("Hostile.ipynb", "1")
    page = browser.open(lab, "Hostile.ipynb")
    asked = []
    page.page.on("request", lambda request: asked.append(request.url))
    bind(page, 0, HOSTILE)
    item = page.page.locator(".copilot-status")
    item.wait_for()
    assert item.inner_text() == f"Copilot: {HOSTILE}"
    assert item.locator("img").count() == 0
    assert page.evaluate("() => window.hit") is None
    assert not [url for url in asked if url.endswith("/x")]
    page.close()
