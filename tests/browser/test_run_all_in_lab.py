"""Run All in a real JupyterLab: nothing is asked, and edited cells give way as they say."""

from __future__ import annotations

import pytest
from browser.lab import Lab


def htmls(page, *cells):
    return [page.outputs(cell)[-1]["data"]["text/html"] for cell in cells]


def test_run_all_edits_and_flags_as_a_person_uses_them(lab, browser, model, tmp_path):
    model.will("First.", "Second.", "Third.", "Other third.", "Second again.", "New.")
    load = "%load_ext copilot_jupyter\n%copilot_resume lab-demo --create"
    asked = ("%%copilot\none", "%%copilot\ncontinue", "%%copilot\ncontinue")
    lab.write("Run.ipynb", load, *asked)
    page = browser.open(lab, "Run.ipynb")
    page.run_all()
    assert page.error_outputs() == []
    assert len(model.requests) == 3
    before = htmls(page, 1, 2, 3)
    page.save()

    page.restart(run_all=True)
    page.wait_done(3)
    assert page.error_outputs() == []
    assert len(model.requests) == 3
    assert htmls(page, 1, 2, 3) == before
    page.screenshot(tmp_path / "run-all.png")

    # The last prompt edited in place: its turn is replaced.
    page.write(3, "%%copilot\ncontinue otherwise")
    page.run(3)
    page.wait_for_text(3, "Other third.")
    page.wait_for_text(3, "is kept as lab-demo-kept")
    assert model.requests[-1].prompts == ["one", "continue", "continue otherwise"]

    # A flag asks anew, once, and leaves the cell.
    page.write(2, "%%copilot --again\ncontinue")
    page.run(2)
    page.wait_for_text(2, "Second again.")
    assert page.source(2) == "%%copilot\ncontinue"
    page.run(2)
    page.wait_for_text(2, "Second again.")
    assert len(model.requests) == 5

    # The file alone, on a machine that has never seen the session.
    page.save()
    page.close()
    assert lab.read("Run.ipynb").cells[3].outputs[0].metadata.copilot_jupyter.turn == 3
    lab.stop()
    assert lab.orphans == []


@pytest.mark.campaign
def test_the_file_alone_brings_the_conversation_along(lab, browser, model, tmp_path):
    model.will("First.", "Second.")
    load = "%load_ext copilot_jupyter"
    lab.write("Carried.ipynb", load, "%%copilot\none", "%%copilot\ntwo")
    page = browser.open(lab, "Carried.ipynb")
    page.run_all()
    page.save()
    page.close()
    lab.stop()
    notebook = lab.root / "Carried.ipynb"
    env = {**model.environment(), "COPILOT_HOME": str(tmp_path / "elsewhere")}
    with Lab(tmp_path / "other", env=env) as other:
        (other.root / "Carried.ipynb").write_bytes(notebook.read_bytes())
        page = browser.open(other, "Carried.ipynb")
        page.run(0)
        page.run(1)
        page.wait_for_text(1, "2 of 2 turns")
        page.wait_for_text(1, "First.")
        added = page.insert_below(2, "%%copilot\nthree")
        page.run(added)
        assert page.error_outputs() == []
        assert len(model.requests) == 3
        assert model.requests[-1].prompts == ["one", "two", "three"]
        page.screenshot(tmp_path / "carried.png")
        page.close()


@pytest.mark.campaign
def test_the_picker_opens_and_leaves_one_line(lab, browser, model):
    load = "%load_ext copilot_jupyter\n%copilot_new one-of-two"
    lab.write("Pick.ipynb", load, "%copilot_new two-of-two", "%copilot_resume")
    page = browser.open(lab, "Pick.ipynb")
    for cell in (0, 1):
        page.run(cell)
    page.run(2, wait=False)
    page.wait_for_text(2, "one-of-two")
    page.output(2).locator("input[type=search]").wait_for()
    page.type("one-of")
    page.press("Enter")
    page.wait_done(2)
    assert page.error_outputs() == []
    page.wait_for_text(2, "Bound to one-of-two.")
    assert page.source(2) == "%copilot_resume one-of-two"
    [output] = page.save().cells[2].outputs
    assert dict(output.data) == {"text/plain": "Bound to one-of-two."}
