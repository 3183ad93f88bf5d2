"""What the kernel knows of its front end, and what becomes of the running cell's text."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.payload import PayloadManager

from copilot_jupyter.notebook import frontend, labcomm
from copilot_jupyter.notebook.executions import Executions
from copilot_jupyter.notebook.frontend import FrontEnd, Identity
from copilot_jupyter.notebook.labcomm import LabExtension
from copilot_jupyter.notebook.notebook import Notebook


class Shell:
    """As much of ipykernel's shell as the front end is read from."""

    def __init__(self) -> None:
        self.kernel = SimpleNamespace(get_parent=lambda: self.parent)
        self.payload_manager = PayloadManager()
        self.history_manager = SimpleNamespace(input_hist_parsed=["", "x = 1"])
        self.user_ns: dict[str, Any] = {"In": 3}
        self.executions = Executions(self)  # type: ignore[arg-type]
        self.runs("", "first")

    def runs(self, source: str, request: str = "", window: str = "w") -> None:
        """Begin another cell."""
        self.payload_manager.clear_payload()
        self.goes_on(source, request or source, window)

    def goes_on(self, source: str, request: str, window: str = "w") -> None:
        self.parent: dict[str, Any] = {
            "header": {"msg_id": request, "session": window},
            "metadata": {"cellId": "c"},
            "content": {"code": source, "allow_stdin": True},
        }

    def set_next_input(self, text: str, replace: bool = False) -> None:
        payload = {"source": "set_next_input", "text": text, "replace": replace}
        self.payload_manager.write_payload(payload)

    @property
    def reply(self) -> tuple[str, str] | None:
        """What the page is told to do at the cell's end."""
        found = self.payload_manager.read_payload()
        if not found:
            return None
        [payload] = found
        return "becomes" if payload["replace"] else "below", payload["text"]


@pytest.fixture
def shell() -> Shell:
    return Shell()


@pytest.fixture
def front_end(shell: Shell) -> FrontEnd:
    return FrontEnd(shell, shell.executions)  # type: ignore[arg-type]


# -- the running cell's text ------------------------------------------------------------------


def test_the_line_that_ran_is_replaced_and_no_other(shell, front_end):
    shell.runs("%copilot_resume a\n%copilot_fork b")
    assert front_end.replace_line("copilot_fork", "b", "%copilot_resume b")
    assert shell.reply == ("becomes", "%copilot_resume a\n%copilot_resume b")


@pytest.mark.parametrize("typed", ["", "mine"])
def test_a_line_keeps_its_indentation_and_its_comment(shell, front_end, typed):
    line = f"%copilot_new {typed}".strip()
    shell.runs(f"if fresh:\n    {line}  # begin\n    x = 1")
    front_end.replace_line("copilot_new", f"{typed}  # begin".strip(), "%copilot_resume id\ny = 2")
    assert shell.reply == (
        "becomes",
        "if fresh:\n    %copilot_resume id\n    y = 2  # begin\n    x = 1",
    )


def test_a_longer_line_is_another(shell, front_end):
    shell.runs("%copilot_new\n%copilot_new mine\n%copilot_news")
    front_end.replace_line("copilot_new", "mine", "%copilot_resume mine")
    assert shell.reply == ("becomes", "%copilot_new\n%copilot_resume mine\n%copilot_news")
    shell.runs("%copilot_news\n%copilot_new mine")
    assert not front_end.replace_line("copilot_new", "", "%copilot_resume other")
    assert shell.reply is None


def test_flags_leave_every_line_that_asked(shell, front_end):
    shell.runs("# %copilot --again A\nx = %copilot --again A\n%copilot  --again  B\n%copilot C")
    front_end.replace_ask("%copilot", "--again A", "%copilot A")
    front_end.replace_ask("%copilot", "--again  B", "%copilot B")
    told = "# %copilot --again A\nx = %copilot A\n%copilot B\n%copilot C"
    assert shell.reply == ("becomes", told)
    shell.runs("next")  # begins from its own text
    assert not front_end.replace_ask("%copilot", "--again A", "%copilot A")


def test_a_cell_that_was_promised_stays(shell, front_end):
    shell.runs("%copilot_fix\n%copilot --again A")
    assert front_end.offer_cell("fixed")
    assert not front_end.offer_cell("another")
    assert not front_end.replace_ask("%copilot", "--again A", "%copilot A")
    assert shell.reply == ("below", "fixed")


def test_a_cell_whose_text_changes_promises_none(shell, front_end):
    shell.runs("%%copilot --again\nWhy?")
    front_end.will_rewrite()
    assert not front_end.offer_cell("new")
    front_end.replace_ask("%%copilot", "--again", "%%copilot")
    assert not front_end.offer_cell("new")
    assert shell.reply == ("becomes", "%%copilot\nWhy?")
    shell.runs("%%copilot\nWhy?")
    assert front_end.offer_cell("new")


# -- which cell it is -------------------------------------------------------------------------


def test_the_number_of_the_cell_is_known_whatever_in_is(front_end):
    assert front_end.execution_count == 1


def nth(front_end, key="k"):
    place, give_back = front_end.place(key, "", ())
    return place.nth, give_back


def test_a_question_that_failed_gives_its_place_back(front_end):
    first, give_back = nth(front_end)
    second, _ = nth(front_end)
    assert (first, second) == (0, 1)
    give_back()
    assert [nth(front_end)[0] for _ in range(2)] == [0, 2]
    assert nth(front_end, "other")[0] == 0


def test_a_task_that_goes_on_counts_for_itself(shell, front_end):
    shell.runs("await forever", "task")
    assert nth(front_end)[0] == 0
    shell.runs("another", "cell")
    assert nth(front_end)[0] == 0
    shell.goes_on("await forever", "task")
    assert nth(front_end)[0] == 1
    shell.goes_on("another", "cell")
    assert nth(front_end)[0] == 1
    for number in range(100):
        shell.runs("more", str(number))
        nth(front_end)
    assert len(front_end._asked) == frontend._COUNTED


# -- which notebook it is ---------------------------------------------------------------------


def test_a_notebook_that_is_nowhere_on_this_disk_is_asked_for_once_a_cell(shell, tmp_path):
    asked = []

    class Remote(FrontEnd):
        def identity(self) -> Identity:
            asked.append(1)
            return Identity(tmp_path / f"{len(asked)}.ipynb")

    notebook = Notebook(Remote(shell, shell.executions), SimpleNamespace(store=None), print)  # type: ignore[arg-type]
    assert [notebook.identity.path.stem for _ in range(3)] == ["1"] * 3
    shell.runs("another")
    assert [notebook.identity.path.stem for _ in range(3)] == ["2"] * 3
    (tmp_path / "2.ipynb").touch()
    shell.runs("a third")
    assert notebook.identity.path.stem == "2"


class Server:
    """A server on loopback that answers every request alike."""

    def __init__(self, answer: bytes) -> None:
        self.got: list[tuple[str, str | None]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.got.append((self.path, self.headers.get("Authorization")))
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None: ...

        self._http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/"

    def __enter__(self) -> Server:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


def http(body: object) -> bytes:
    text = json.dumps(body).encode()
    return b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)


def asked_of(server: Server) -> Path | None:
    told = {"url": server.url, "token": "t0ken"}
    return frontend._path_from_server(told, Path("/srv"), "k")


def test_the_servers_token_goes_to_no_proxy(monkeypatch):
    sessions = [{"kernel": {"id": "other"}}, {"kernel": {"id": "k"}, "path": "a/b.ipynb"}]
    with Server(http(sessions)) as server, Server(http([])) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert asked_of(server) == Path("/srv/a/b.ipynb")
        assert server.got == [("/api/sessions", "token t0ken")]
        assert proxy.got == []


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"nonsense\r\n\r\n", id="no HTTP"),
        pytest.param(http({"message": "Forbidden"}), id="no list"),
        pytest.param(http([])[:-1] + b"x", id="no JSON"),
    ],
)
def test_a_server_that_answers_strangely_tells_nothing(answer):
    with Server(answer) as server:
        assert asked_of(server) is None
        assert len(server.got) == 1


# -- the lab extension ------------------------------------------------------------------------


class Page:
    """The windows behind a kernel: each takes what is opened, and answers when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[dict[str, Any]] = []
        self.closed = 0
        monkeypatch.setattr("comm.create_comm", lambda **_: self)
        self.comm_id = "id"

    def open(self, data: dict[str, Any]) -> None:
        self.opened.append(data)

    def close(self) -> None:
        self.closed += 1

    def answers(self) -> None:
        self.handle_msg({"content": {"data": {"ok": True}}})

    def window_closes(self, window: str) -> None:
        self.handle_close({"header": {"session": window}})


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    monkeypatch.setattr(labcomm, "LIMIT", 0.05)
    monkeypatch.setattr(labcomm, "KNOWN_LIMIT", 0.1)
    return Page(monkeypatch)


def inserted(lab: LabExtension, *then: Any) -> bool:
    steps, acts = lab.insert_cell("x"), iter(then)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return bool(end.value)
        next(acts, lambda: None)()


def test_a_window_without_the_extension_says_nothing_for_another(shell, page):
    lab = LabExtension(shell)
    shell.runs("x", "1", window="with")
    assert inserted(lab, lambda: page.window_closes("without"), page.answers)
    shell.runs("x", "2", window="without")
    assert not inserted(lab, lambda: page.window_closes("without"))
    assert not inserted(lab)  # not asked again
    assert len(page.opened) == 2
    shell.runs("x", "3", window="with")
    assert inserted(lab, page.answers)


def test_a_page_that_has_inserted_before_and_is_slow_gets_the_cell_once(shell, page):
    lab = LabExtension(shell)
    assert not inserted(lab)  # nothing is known of it: offered in another way
    assert inserted(lab, page.answers)
    assert inserted(lab)
    assert inserted(lab, page.answers)
    assert [data["behind"] for data in page.opened] == [0, 0, 1, 2]
    assert page.closed == 4
