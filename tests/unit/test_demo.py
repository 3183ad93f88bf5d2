"""The demo, without a model: what it needs first, what it takes over, and whom it speaks to."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from copilot_jupyter import demo
from copilot_jupyter.errors import SetupError


def test_nothing_is_fetched_for_a_model_that_cannot_run(monkeypatch):
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    for fetches in ("ensure_runtime", "fetch_model"):
        monkeypatch.setattr(demo, fetches, lambda _: pytest.fail("fetched"))
    with pytest.raises(SetupError, match="xllamacpp"):
        demo._provision()


def test_the_check_runs_with_no_settings_of_the_persons_own(monkeypatch, tmp_path):
    for name in ("COPILOT_JUPYTER_REPLAY", "COPILOT_PROVIDER_TYPE", "COPILOT_MODEL", "KEPT"):
        monkeypatch.setenv(name, "theirs")
    seen: list[dict[str, str]] = []

    class Client:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def setup_kernel(self, *, env: dict[str, str], **_: Any) -> Any:
            seen.append(env)
            raise InterruptedError

    monkeypatch.setattr("nbclient.NotebookClient", Client)
    demo.copy_unanswered(tmp_path / demo.NOTEBOOK)
    with pytest.raises(InterruptedError):
        demo._execute(tmp_path / demo.NOTEBOOK, {"COPILOT_MODEL": "ours"})
    [env] = seen
    assert {k: v for k, v in env.items() if k.startswith("COPILOT_")} == {"COPILOT_MODEL": "ours"}
    assert env["KEPT"] == "theirs"
    assert os.environ["COPILOT_MODEL"] == "theirs"


def test_without_a_browser_the_address_opens_the_quickstart(monkeypatch, tmp_path):
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        ran.append(command)
        return SimpleNamespace(returncode=0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "_provision", lambda: None)
    monkeypatch.setattr("subprocess.run", run)
    demo.run(browser=False)
    demo.run(browser=True)
    opens = f"--LabApp.default_url=/lab/tree/{demo.NOTEBOOK}"
    assert [opens in command for command in ran] == [True, False]


def test_the_key_of_the_embedded_model_goes_to_no_proxy(monkeypatch):
    got: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"answer")

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    asked: Any = SimpleNamespace(
        headers={}, send_response=print, send_header=print, end_headers=print
    )
    try:
        url = f"http://127.0.0.1:{server.server_port}/v1/x"
        assert b"".join(demo._forward(url, b"{}", asked)) == b"answer"
        assert got == ["/v1/x"]
    finally:
        server.shutdown()
        server.server_close()
