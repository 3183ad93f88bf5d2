"""The promise of the product in a real JupyterLab: a restart does not end the conversation."""

from __future__ import annotations

import pytest

FIRST = "Let's discuss TypeScript generics"
SECOND = "What were we discussing?"


def test_conversation_survives_a_kernel_restart(lab, browser, model, tmp_path):
    model.will("Generics let a type stay open.", "We were discussing TypeScript generics.")
    lab.write(
        "Untitled.ipynb",
        "%load_ext copilot_jupyter",
        f"%%copilot\n{FIRST}",
        f"%%copilot\n{SECOND}",
    )
    page = browser.open(lab, "Untitled.ipynb")
    page.run(0)
    page.run(1)
    assert page.error_outputs() == []
    page.wait_for_text(1, "Generics let a type stay open.")
    assert model.requests[-1].prompts == [FIRST]

    page.restart()
    page.run(0)
    page.run(2)
    assert page.error_outputs() == []
    page.wait_for_text(2, "We were discussing TypeScript generics.")

    assert len(model.requests) == 2
    assert model.requests[-1].prompts == [FIRST, SECOND]
    assert model.requests[-1].answers == ["Generics let a type stay open."]
    assert page.errors("copilot") == []
    assert page.screenshot(tmp_path / "restart.png").stat().st_size > 10_000

    saved = page.save()
    assert len(saved.cells[2].outputs) == 1
    page.close()
    lab.stop()
    assert lab.orphans == []


@pytest.mark.campaign
def test_page_driver_on_plain_python(lab, browser):
    """The driver itself: typing, payloads, questions, the stop button, a reopened file."""
    lab.write("Plain.ipynb", "")
    page = browser.open(lab, "Plain.ipynb")
    page.write(0, "def f(x):\n    return [x, {'a': (x)}]\nget_ipython().set_next_input('f(1)')")
    page.run(0)
    assert page.source(1) == "f(1)"
    page.run(1)
    page.wait_for_text(1, "[1, {'a': 1}]")

    asked = page.insert_below(1, "print('got', input('Name? '))")
    page.run(asked, wait=False)
    page.answer("Ada")
    page.wait_done(asked)
    page.wait_for_text(asked, "got Ada")

    slow = page.insert_below(asked, "import time\nprint('begun')\ntime.sleep(60)")
    page.run(slow, wait=False)
    page.wait_for_text(slow, "begun")
    assert "*" in page.prompt(slow)
    page.interrupt()
    page.wait_done(slow, 10)
    assert page.error_outputs() == ["KeyboardInterrupt: "]

    saved = page.save()
    assert [cell.source for cell in saved.cells][1] == "f(1)"
    page.reload()
    page.wait_for_text(1, "[1, {'a': 1}]")
    assert page.errors("copilot") == []
