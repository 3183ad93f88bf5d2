"""The built site in a real browser: whole, from this machine alone, in light and dark."""

from __future__ import annotations

import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from browser import chromium
from pages import DOCS, PAGES
from playwright.sync_api import sync_playwright

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(300)]

#: Pixels of a telephone's width.
NARROW = 390


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site, as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    done = subprocess.run(
        [*command, "--doctree-dir", folder / "trees", DOCS, folder / "html"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def address(built):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=built))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def chrome():
    with sync_playwright() as playwright:
        program = chromium.require(playwright.chromium.executable_path)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_whole_and_asks_nobody_else(chrome, address, scheme):
    context = chrome.new_context(color_scheme=scheme)
    page = context.new_page()
    asked, wrong = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on("response", lambda r: wrong.append(r.url) if r.status >= 400 else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    for source in (page for page in PAGES if page.parent == DOCS):
        page.goto(f"{address}{source.stem}.html", wait_until="networkidle")
        for picture in page.locator("article img:visible").all():
            assert picture.evaluate("image => image.complete && image.naturalWidth > 0"), source
        hidden = "only-dark" if scheme == "light" else "only-light"
        assert not page.locator(f"img.{hidden}:visible").count(), source.name
    context.close()
    assert len(asked) > len(PAGES)
    assert not [url for url in asked if not url.startswith((address, "data:"))]
    assert not wrong


def test_the_search_finds_a_setting(chrome, address):
    page = chrome.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}search.html?q=stall_timeout")
    page.locator("#search-results a", has_text="Settings").first.wait_for()
    page.close()
    assert all(url.startswith((address, "data:")) for url in asked)


def test_a_narrow_page_does_not_scroll_sideways(chrome, address):
    page = chrome.new_page(viewport={"width": NARROW, "height": 800})
    for source in (page for page in PAGES if page.parent == DOCS):
        page.goto(f"{address}{source.stem}.html")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= NARROW, f"{source.name} is {width} pixels wide"
    page.close()
