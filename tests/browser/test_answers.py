"""Answers in a real JupyterLab: formulas, the fold, the wait, one output a turn, few bytes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from browser.lab import Lab
from scripted_model import Reply

import copilot_jupyter
from copilot_jupyter.notebook.display import render

FOLDER = Path(copilot_jupyter.__file__).parent / "labextension"
LOAD = "%load_ext copilot_jupyter"

#: What Markdown would destroy in a formula, in all its forms, and what is none.
FORMULAS = r"""
Inline $x_1 + y_2*z*$ and \(a_{b}\_c\), for $5 and $6.

$$
\begin{pmatrix} 1 & 2 \\
- 3 & 4 \end{pmatrix}
= A
$$

\[
\sum_{i=1}^n i^2
\]

- in a list $\alpha < \beta$

| in a table |
|---|
| $\gamma^2$ |

\begin{align}
a &= b_1 \\
&= c
\end{align}

`$no$`
"""
LONG = "\n\n".join(f"Paragraph {number} of *many*." for number in range(60)) + "\n\nTHE END"


@pytest.fixture
def lab(tmp_path, model):
    """A server that has the extension, installed or not."""
    (tmp_path / "jupyter" / "labextensions").mkdir(parents=True)
    (tmp_path / "jupyter" / "labextensions" / "copilot-jupyter").symlink_to(FOLDER)
    home = {"COPILOT_HOME": str(tmp_path / "home"), "JUPYTER_PATH": str(tmp_path / "jupyter")}
    with Lab(tmp_path / "lab", env={**model.environment(), **home}) as lab:
        yield lab


def answered(lab, name, *texts):
    """Write a notebook of stored answers."""
    lab.write(name, *[f"%%copilot\nask {number}" for number in range(len(texts))])
    notebook = lab.read(name)
    for cell, text in zip(notebook.cells, texts, strict=True):
        html = render._answer_box(render.markdown(text))
        data = {"text/plain": text, "text/html": html}
        cell.outputs = [nbformat.v4.new_output("display_data", data)]
        cell.execution_count = 1
    nbformat.write(notebook, lab.root / name)


@pytest.mark.campaign
def test_formulas_are_typeset_and_prices_are_not(lab, browser):
    answered(lab, "Formulas.ipynb", FORMULAS)
    page = browser.open(lab, "Formulas.ipynb")
    shown = page.output(0)
    shown.locator("mjx-container").nth(6).wait_for()
    assert shown.locator("mjx-container").count() == 7
    assert shown.locator("mjx-merror").count() == 0
    assert "for $5 and $6." in shown.text_content()
    assert "$no$" in shown.locator("code").all_text_contents()
    sources = page.evaluate(
        "() => [...document.querySelectorAll('mjx-assistive-mml math')].map(m => m.textContent)"
    )
    assert sources[0] == "x1+y2∗z∗"
    assert sources[2] == "(12−34)=A"
    page.close()


def test_the_formulas_of_a_long_answer_are_typeset_while_the_page_answers(lab, browser):
    answered(
        lab, "Long formulas.ipynb", "\n\n".join(f"With $x_{{{n}}}$ terms." for n in range(400))
    )
    page = browser.open(lab, "Long formulas.ipynb")
    shown = page.output(0)
    shown.locator("mjx-container").first.wait_for()
    # Typeset at once, all of them were there when the first one is.
    assert shown.locator("mjx-container").count() < 400
    shown.locator("mjx-container").nth(399).wait_for(timeout=60_000)
    assert "$" not in shown.locator(".copilot-answer").text_content()
    page.close()


@pytest.mark.campaign
def test_a_long_answer_is_folded_and_opens_by_keyboard(lab, browser):
    answered(lab, "Long.ipynb", LONG, "short")
    page = browser.open(lab, "Long.ipynb")
    more = page.output(0).get_by_role("button", name="Show more or less")
    more.wait_for()
    assert page.page.get_by_role("button", name="Show more or less").count() == 1

    def height():
        return page.output(0).locator(".copilot-answer").bounding_box()["height"]

    assert (height(), more.text_content()) == (480, "Show more")
    more.focus()
    page.press("Enter")
    assert height() > 1000
    assert more.text_content() == "Show less"
    assert more.get_attribute("aria-expanded") == "true"
    page.press("Space")
    assert height() == 480
    saved = page.save().cells[0].outputs[0].data["text/html"]
    assert "folded" not in saved
    assert "THE END" in saved
    page.close()


@pytest.mark.campaign
def test_what_is_waited_for_turns_and_counts(lab, browser, model):
    model.will(Reply(LONG, chunk=50, pause=0.25))
    lab.write("Wait.ipynb", LOAD, "%%copilot\nask")
    page = browser.open(lab, "Wait.ipynb")
    page.run(0)
    page.run(1, wait=False)
    sign = page.output(1).locator(".copilot-waiting")
    sign.wait_for()
    turning = "e => getComputedStyle(e).animationName"
    assert sign.evaluate(turning) == "copilot-turn"
    page.output(1).get_by_text(re.compile(r"\b[1-9]\d* s\b")).wait_for()
    page.wait_done(1)
    page.wait_for_text(1, "THE END")
    assert sign.count() == 0
    # Somebody has just read it coming: it stays open.
    less = page.output(1).get_by_role("button", name="Show more or less")
    less.wait_for()
    assert less.text_content() == "Show less"
    page.close()


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_a_long_answer_streams_in_few_bytes_into_one_output(lab, browser, model):
    text = "".join(
        f"## Part {n}\n\nSome *text* with $x_{n}$.\n\n```python\ndef f_{n}(x: int) -> str:\n"
        f'    return str(x) + "{n}"\n```\n\n'
        for n in range(500)
    )[:50_000]
    model.will(Reply(text, chunk=50, pause=0.005))
    lab.write("Stream.ipynb", LOAD, "%%copilot\nask")
    page = browser.open(lab, "Stream.ipynb")
    sent: list[int] = []
    note = lambda frame: sent.append(len(frame))  # noqa: E731 -- bytes, or text that is ASCII
    page.page.on("websocket", lambda socket: socket.on("framereceived", note))
    page.reload()
    page.run(0)
    sent.clear()
    page.run(1, 150)
    assert len(sent) > 5
    assert sum(sent) <= 4_000_000
    outputs = page.save().cells[1].outputs
    assert len(outputs) == 1, outputs
    [output] = outputs
    assert output.data["text/plain"] == text
    assert "Part 400" in output.data["text/html"]
    page.close()


def test_the_whole_answer_is_there_without_javascript(tmp_path, browser):
    """As nbconvert writes it, in a browser that runs no script."""
    cell = nbformat.v4.new_code_cell("%%copilot\nask")
    data = {"text/plain": LONG, "text/html": render._answer_box(render.markdown(LONG + FORMULAS))}
    cell.outputs = [nbformat.v4.new_output("display_data", data)]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "a.ipynb")
    command = [sys.executable, "-m", "nbconvert", "--to", "html", str(tmp_path / "a.ipynb")]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    context = browser._browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto((tmp_path / "a.html").as_uri())
    box = page.locator(".copilot-answer").bounding_box()
    assert box is not None
    assert box["height"] > 1000
    shown = page.locator(".copilot-answer").inner_text()
    assert "THE END" in shown
    assert r"$x_1 + y_2*z*$ and \(a_{b}\_c\)" in shown
    assert page.get_by_role("button").count() == 0
    page.screenshot(path=tmp_path / "no-script.png")
    context.close()
