"""What others write runs nothing and fetches nothing: live, and when the notebook is opened again.

The texts are in ``tests/hostile.py``. They come as a model's answers, as prompts, titles of
sessions, names of files and a provider's error messages, in a notebook that JupyterLab trusts.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import hostile
import pytest
from browser.lab import Lab
from scripted_model import Reply
from unit.transcripts import exchange, put

from copilot_jupyter.notebook.display.render import LONGEST
from copilot_jupyter.state.store import Store

if TYPE_CHECKING:
    from browser.lab import NotebookPage

LOAD = "%load_ext copilot_jupyter"
#: Texts in one answer.
TOGETHER = 10
#: A formula and no text of others: proves that this page typesets, and that alpha is alpha.
PLAIN = r"The letter $\alpha$ and the price $5 of $6."
CONTROL = f"""\
from IPython.display import HTML, display
display(HTML('<img src="http://{hostile.BEACON}.invalid/control" onerror="window.hit = 1">'))"""

NEVER = (
    "script, img, iframe, object, embed, link, meta, base, style, form, input, video, audio, svg"
)

LOOK = f"""() => {{
    const outputs = [...document.querySelectorAll('.jp-OutputArea-output')];
    const all = outputs.flatMap(output => [...output.querySelectorAll('*')]);
    return {{
        hit: window.hit ?? null,
        tags: all.filter(e => e.matches('{NEVER}') && !e.closest('.lm-Widget .jupyter-widgets'))
            .map(e => e.outerHTML.slice(0, 200)),
        handlers: all.flatMap(e => [...e.attributes].map(a => a.name)).filter(n => /^on/i.test(n)),
        schemes: [...new Set(all.filter(e => e.matches('a[href]')).map(e => e.protocol))],
        styles: all.map(e => e.getAttribute('style') || '').filter(s => /url|fixed|absolute/.test(s)
            && !s.includes('mjx')),
        title: document.title,
        shown: getComputedStyle(document.body).display,
        base: document.baseURI.split('?')[0],
    }};
}}"""


class Watch:
    """All that a page did beyond showing itself."""

    def __init__(self, page: NotebookPage) -> None:
        self.page = page
        self.events: list[str] = []
        own = page.lab.url

        def asked(url: str) -> None:
            local = url.startswith((own, own.replace("http", "ws", 1), "data:", "blob:"))
            if not local or hostile.BEACON in url:
                self.events.append(f"asked for {url}")

        def said(dialog) -> None:
            self.events.append(f"dialog {dialog.message}")
            dialog.dismiss()

        page.page.context.on("request", lambda request: asked(request.url))
        page.page.on("websocket", lambda socket: asked(socket.url))
        page.page.on("dialog", said)
        page.page.on("popup", lambda popup: self.events.append(f"popup {popup.url}"))
        page.page.on("download", lambda load: self.events.append(f"download {load.url}"))
        self.before = page.evaluate(LOOK)

    def nothing_happened(self) -> None:
        """Wait for what comes late, and compare."""
        self.page.page.wait_for_timeout(500)
        found = self.page.evaluate(LOOK)
        assert self.events == []
        assert found["hit"] is None
        assert found["tags"] == []
        assert found["handlers"] == []
        assert found["styles"] == []
        assert set(found["schemes"]) <= {"http:", "https:", "mailto:"}
        assert found["shown"] == self.before["shown"]
        assert unquote(self.page.name)[:5] in found["title"]
        assert found["base"].startswith(self.page.lab.url)


def batches() -> list[str]:
    texts = list(hostile.ALL.values())
    return ["\n\n".join(texts[at : at + TOGETHER]) for at in range(0, len(texts), TOGETHER)]


def test_answers_run_nothing_and_fetch_nothing(lab, browser, model):
    assert len(hostile.ALL) >= 100
    model.will(*batches(), PLAIN)
    asking = [f"%%copilot\nask {number}" for number in range(len(batches()) + 1)]
    lab.write("Hostile.ipynb", LOAD, *asking, "print('still', 'here')", CONTROL)
    page = browser.open(lab, "Hostile.ipynb")
    watch = Watch(page)
    last = len(asking)
    for cell in range(last + 1):
        page.run(cell)
    page.run(last + 1)
    assert page.error_outputs() == []
    page.wait_for_text(last + 1, "still here")
    for way in ("live", "opened again"):
        if way == "opened again":
            page.save()
            page.reload()
        letter = page.output(last).locator("mjx-container")
        letter.first.wait_for()
        assert letter.count() == 1, "a price is no formula"
        assert "1D6FC" in letter.first.inner_html(), "alpha is no longer alpha"
        assert "the price $5 of $6" in page.output(last).text_content()
        watch.nothing_happened()
    # The watch itself: HTML of the person's own is seen to run and to fetch.
    page.run(last + 2)
    page._wait("() => window.hit === 1", 10, "the control")
    assert any("control" in event for event in watch.events)
    page.close()


@pytest.mark.campaign
@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_titles_prompts_names_and_errors_do_nothing(tmp_path, browser, model, app):
    """In both applications; what is listed is also opened again."""
    home = tmp_path / "copilot"
    store = Store(home)
    texts = list(hostile.ALL.values())
    turns = [event for text in texts for event in exchange(text[:2000], text[:2000])]
    put(store, "talk", events=turns)
    for number, text in enumerate(texts[:90]):
        folder = put(store, f"titled-{number:02}", events=exchange("hello", "hello"))
        about = {"id": folder.name, "name": text, "cwd": f"/home/ana/{text[:60]}"}
        (folder / "workspace.yaml").write_text(json.dumps(about))
    name = '<img src=x onerror="window.hit=1"> $x$.ipynb'
    refused = [Reply(status=400, text=text) for text in texts]
    env = {**model.environment(), "COPILOT_HOME": str(home)}
    with Lab(tmp_path / "lab", env=env, app=app) as lab:
        lab.write("Lists.ipynb", LOAD, "%copilot_sessions --all", "%copilot_history talk", CONTROL)
        page = browser.open(lab, "Lists.ipynb")
        watch = Watch(page)
        for cell in (0, 1, 2):
            page.run(cell)
        assert page.error_outputs() == []
        assert "titled-" in page.output(1).text_content()
        watch.nothing_happened()
        page.save()
        page.reload()
        page.output(2).get_by_text("talk").first.wait_for(state="attached")
        watch.nothing_happened()
        page.run(3)
        page._wait("() => window.hit === 1", 10, "the control")
        page.close()

        asking = ["%%copilot --again\nask"] * 20
        lab.write(name, LOAD, *asking, "%copilot_status", "%copilot_sessions")
        page = browser.open(lab, quote(name))
        watch = Watch(page)
        page.run(0)
        step = len(refused) // len(asking)
        for cell in range(1, len(asking) + 1):
            model.forget()
            model.will(refused[(cell - 1) * step])
            page.run(cell)
        assert len(page.error_outputs()) == len(asking)
        for cell in (len(asking) + 1, len(asking) + 2):
            page.run(cell)
        assert "<img" in page.output(len(asking) + 2).text_content()
        watch.nothing_happened()
        page.command("docmanager:save")
        page.reload()
        page.output(1).get_by_text("400").first.wait_for(state="attached")
        watch.nothing_happened()
        page.close()


@pytest.mark.campaign
@pytest.mark.timeout(400)
def test_endless_answers_leave_the_page_usable(lab, browser, model):
    line, book = "word " * 200_000, "A paragraph of *text* and `code`.\n\n" * 300_000
    model.will(Reply(line, chunk=20_000), Reply(book, chunk=100_000))
    cells = ["%%copilot\na line", "%%copilot\na book", "print('still', 'here')"]
    lab.write("Long.ipynb", LOAD, *cells)
    page = browser.open(lab, "Long.ipynb")
    watch = Watch(page)
    page.run(0)
    for cell, text in ((1, line), (2, book)):
        page.run(cell, 120)
        page.wait_for_text(cell, f"the first {LONGEST:,} of {len(text):,} characters", 60)
        [output] = page.outputs(cell)
        assert output["data"]["text/plain"] == text
        assert len(output["data"]["text/html"]) < 1_000_000
    page.run(3)
    page.wait_for_text(3, "still here")
    watch.nothing_happened()
    page.save()
    page.close()
