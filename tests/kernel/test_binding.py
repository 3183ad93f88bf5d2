"""The conversation belongs to the notebook: renamed, moved, copied, shared, deleted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import nbformat
import pytest
from desk import ask, binding, reloaded, session_of, two_lines
from drivers import NotebookKernel

from copilot_jupyter.state.metadata import COPIED_FROM, NOTEBOOK_ID, NOTEBOOK_PATH

FIRST = "Let's discuss TypeScript generics"
SECOND = "What were we discussing?"


@pytest.fixture(scope="module")
def written(shared_desk):
    """A notebook with one turn, saved; its kernel has ended."""
    notebook = shared_desk.notebook("Original.ipynb")
    ask(notebook, FIRST).ok()
    notebook.save()
    notebook.shutdown()
    return shared_desk


@pytest.fixture
def original(desk, written):
    """That notebook in a folder of this test's own, no kernel started yet."""
    shutil.copytree(written.home, desk.home)
    shutil.copytree(written.folder, desk.folder, dirs_exist_ok=True)
    index = desk.store.folder(desk.only_session()) / "client-metadata.json"
    index.write_text(index.read_text().replace(str(written.folder), str(desk.folder)))
    return NotebookKernel(desk.folder / "Original.ipynb", answers=[], env=desk.env)


def copied(notebook, name):
    """Duplicate a saved notebook, and open the copy."""
    target = notebook.path.parent / name
    shutil.copy(notebook.path, target)
    return NotebookKernel(target, answers=[], env=notebook.env)


class SessionsApi:
    """The part of a Jupyter server that tells its kernels where their notebooks lie."""

    def __init__(self, root):
        self.root = root
        self.notebook = None
        self.folder = root.parent / "jupyter-runtime"

    def __enter__(self):
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                assert (self.path, self.headers["Authorization"]) == ("/api/sessions", "token t")
                open_ = api.notebook
                kernel = {"id": open_.connection_file.stem.removeprefix("kernel-")} if open_ else {}
                path = str(open_.path.relative_to(api.root)) if open_ else ""
                data = json.dumps([{"path": path, "kernel": kernel}]).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.folder.mkdir()
        url = f"http://127.0.0.1:{self._server.server_port}/"
        record = {"url": url, "token": "t", "root_dir": str(self.root), "pid": os.getpid()}
        (self.folder / f"jpserver-{os.getpid()}.json").write_text(json.dumps(record))
        return self

    def __exit__(self, *exc):
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()

    @property
    def environment(self):
        return {"JPY_PARENT_PID": str(os.getpid()), "JUPYTER_RUNTIME_DIR": str(self.folder)}


def home_of(desk, session):
    """The notebook that the index names for a session."""
    return desk.store.client_metadata(session)[NOTEBOOK_PATH]


# -- what the file carries ---


def test_the_saved_file_carries_the_binding_and_the_turn(desk, original):
    session = desk.only_session()
    saved = nbformat.read(original.path, as_version=4)
    [entry] = [
        output.metadata["copilot_jupyter"]
        for cell in saved.cells
        for output in cell.outputs
        if "copilot_jupyter" in output.get("metadata", {})
    ]
    [turn] = desk.turns(session)
    assert entry["v"] == 1
    assert entry["session"] == session
    assert entry["path"] == "Original.ipynb"
    assert entry["notebook_id"] == desk.store.client_metadata(session)[NOTEBOOK_ID]
    assert (entry["turn"], entry["event"], entry["model"]) == (1, turn.event_id, "scripted")
    assert entry["at"].startswith(f"{turn.at:%Y-%m-%dT%H:%M}")
    assert home_of(desk, session) == str(original.path)
    assert str(desk.folder) not in json.dumps(entry)  # a folder's name is nobody's business


def test_the_path_is_relative_to_the_repository(desk):
    subprocess.run(["git", "init", "-q", desk.folder], check=True)
    notebook = desk.notebook("analyses/2026/Churn.ipynb")
    assert binding(ask(notebook, FIRST))["path"] == "analyses/2026/Churn.ipynb"


# -- renamed, moved ---


def test_a_notebook_renamed_under_its_kernel_keeps_its_session(desk, original):
    session = desk.only_session()
    desk.opened(original)
    ask(original, SECOND).ok()
    moved = original.rename(desk.folder / "Renamed.ipynb")
    assert session_of(ask(original, "And in the living kernel?")) == session
    reloaded(original, original.restart)
    third = ask(original, "And after the restart?")
    assert session_of(third) == session
    assert len(third.displays) == 1  # followed silently
    assert desk.model.requests[-1].prompts[:2] == [FIRST, SECOND]
    assert home_of(desk, session) == str(moved)
    assert binding(third)["path"] == moved.name
    assert desk.store.ids() == [session]


def test_a_rename_is_followed_at_the_next_ask_where_the_server_tells(desk, original):
    """JupyterLab: the sessions API of the server that started the kernel knows the new name."""
    session = desk.only_session()
    with SessionsApi(desk.folder) as server:
        original.env |= server.environment
        server.notebook = desk.opened(original)
        ask(original, SECOND).ok()
        moved = original.rename(desk.folder / "sub" / "Renamed.ipynb")
        renamed = ask(original, "And in the living kernel?")
        assert session_of(renamed) == session
        assert len(renamed.displays) == 1
        assert binding(renamed)["path"] == "sub/Renamed.ipynb"
        assert home_of(desk, session) == str(moved)
        assert desk.model.requests[-1].prompts == [FIRST, SECOND, "And in the living kernel?"]

        # A copy of it is a copy then, though it was renamed after its last restart.
        original.save()
        copy = desk.opened(copied(original, "Copy.ipynb"))
        assert session_of(ask(copy, "From the copy")) != session


def test_a_notebook_moved_while_no_kernel_ran_keeps_its_session(desk, original):
    session = desk.only_session()
    moved = original.rename(desk.folder / "archive" / "Old.ipynb")
    asked = ask(desk.opened(original), SECOND)
    assert session_of(asked) == session
    assert len(asked.displays) == 1
    assert desk.model.requests[-1].prompts == [FIRST, SECOND]
    assert home_of(desk, session) == str(moved)


# -- copied ---


def test_a_copy_goes_on_in_a_branch_and_the_original_in_its_own_session(desk, original):
    session = desk.only_session()
    before = original.path.read_bytes()
    copy = desk.opened(copied(original, "Copy.ipynb"))
    asked = ask(copy, "Only the copy asks this")
    branch = session_of(asked)
    assert branch != session
    said, answer = (output["data"]["text/plain"] for output in asked.displays)
    assert "\n" not in said
    assert said.startswith("This notebook is a copy of Original.ipynb")
    assert branch in said
    assert f"%copilot_resume {session} --share" in said
    assert answer.startswith("Answer")
    assert desk.model.requests[-1].prompts == [FIRST, "Only the copy asks this"]

    ids = [desk.store.client_metadata(s)[NOTEBOOK_ID] for s in (session, branch)]
    assert ids[0] != ids[1] == binding(asked)["notebook_id"]
    assert desk.store.client_metadata(branch)[COPIED_FROM] == session
    assert (home_of(desk, session), home_of(desk, branch)) == (str(original.path), str(copy.path))

    assert original.path.read_bytes() == before
    assert desk.prompts(session) == [FIRST]
    there = ask(desk.opened(original), "Only the original asks this")
    assert session_of(there) == session
    assert len(there.displays) == 1
    assert desk.model.requests[-1].prompts == [FIRST, "Only the original asks this"]

    # The copy finds its branch again, and nothing is said a second time.
    copy.save()
    reloaded(copy, copy.restart)
    again = ask(copy, "And now?")
    assert session_of(again) == branch
    assert len(again.displays) == 1
    assert desk.prompts(branch) == [FIRST, "Only the copy asks this", "And now?"]
    assert sorted(desk.store.ids()) == sorted([session, branch])


@pytest.mark.campaign
def test_a_copy_whose_kernel_restarts_before_it_is_saved_gets_one_branch(desk, original):
    copy = desk.opened(copied(original, "Copy.ipynb"))
    branch = session_of(ask(copy, SECOND))
    reloaded(copy, copy.restart)
    assert session_of(ask(copy, "And now?")) == branch
    assert len(desk.store.ids()) == 2


@pytest.mark.campaign
def test_a_copied_line_is_rewritten_to_the_branch(desk, original):
    session = desk.only_session()
    original.add(f"# our talk\n%copilot_resume {session}  \nready = True  # not ours")
    original.save()
    copy = copied(original, "Copy.ipynb")
    line = copy.cells[-1]
    desk.opened(copy)
    bound = copy.run_cell(line).ok()
    branch = binding(bound)["session"]
    assert branch != session
    assert line.source == f"# our talk\n%copilot_resume {branch}\nready = True  # not ours"
    assert "This notebook is a copy of Original.ipynb" in bound.shown
    assert session_of(ask(copy, SECOND)) == branch
    assert desk.prompts(session) == [FIRST]
    assert desk.prompts(branch) == [FIRST, SECOND]

    # A line that was not rewritten, such as one in another cell, still means the branch.
    copy.save()
    reloaded(copy, copy.restart)
    bound = copy.run(f"%copilot_resume {session}").ok()
    assert binding(bound)["session"] == branch
    assert f"%copilot_resume {session} --share" in bound.shown


@pytest.mark.campaign
def test_share_joins_on_purpose_and_stays_shared(desk, original):
    session = desk.only_session()
    copy = desk.opened(copied(original, "Copy.ipynb"))
    bound = copy.run(f"%copilot_resume {session} --share").ok()
    assert bound.shown == f"Bound to {session}."
    assert session_of(ask(copy, SECOND)) == session
    copy.save()
    copy.run("%copilot_release").ok()

    desk.opened(original)  # is not taken for a copy of its copy
    assert session_of(ask(original, "What did my copy ask?")) == session
    assert desk.model.requests[-1].prompts == [FIRST, SECOND, "What did my copy ask?"]
    original.run("%copilot_release").ok()
    reloaded(copy, copy.restart)
    assert session_of(ask(copy, "Still shared?")) == session
    assert desk.only_session() == session


@pytest.mark.campaign
def test_a_copy_of_a_copy_gets_a_branch_of_the_branch(desk, original):
    copy = desk.opened(copied(original, "Copy.ipynb"))
    branch = session_of(ask(copy, SECOND))
    copy.save()
    second = desk.opened(copied(copy, "Copy of copy.ipynb"))
    asked = ask(second, "And me?")
    assert "This notebook is a copy of Copy.ipynb" in asked.shown
    assert desk.store.client_metadata(session_of(asked))[COPIED_FROM] == branch
    assert desk.model.requests[-1].prompts == [FIRST, SECOND, "And me?"]
    assert len(desk.store.ids()) == 3
    assert desk.prompts(branch) == [FIRST, SECOND]


def test_a_copy_whose_original_is_deleted_is_the_notebook_moved(desk, original):
    session = desk.only_session()
    copy = copied(original, "Copy.ipynb")
    original.path.unlink()
    asked = ask(desk.opened(copy), SECOND)
    assert session_of(asked) == session
    assert len(asked.displays) == 1
    assert home_of(desk, session) == str(copy.path)


# -- joined on purpose ---


@pytest.mark.campaign
def test_a_line_typed_in_another_notebook_joins(desk, original):
    session = desk.only_session()
    other = desk.notebook("Other.ipynb")
    bound = other.run(f"%copilot_resume {session}").ok()
    assert bound.shown == f"Bound to {session}."
    assert bound.next_input is None
    assert session_of(ask(other, SECOND)) == session
    assert desk.model.requests[-1].prompts == [FIRST, SECOND]
    other.save()
    other.run("%copilot_release").ok()

    desk.opened(original)
    assert session_of(ask(original, "And here?")) == session
    assert desk.model.requests[-1].prompts == [FIRST, SECOND, "And here?"]
    original.run("%copilot_release").ok()
    time.sleep(1.1)  # longer than a heartbeat: letting go is not losing
    assert session_of(ask(original, "And after it was let go?")) == session
    original.run("%copilot_release").ok()
    reloaded(other, other.restart)
    assert session_of(ask(other, "Restarted")) == session

    # The index names this other notebook now; a copy of the original is still a copy.
    other.run("%copilot_release").ok()
    copy = desk.opened(copied(original, "Copy.ipynb"))
    asked = ask(copy, "From the copy")
    assert session_of(asked) != session
    assert "This notebook is a copy of Original.ipynb" in asked.shown


def test_a_notebook_with_a_conversation_binds_another_by_its_line(desk, original):
    session = desk.only_session()
    other = desk.notebook("Other.ipynb")
    own = session_of(ask(other, "Something else"))
    other.run(f"%copilot_resume {session}").ok()
    assert session_of(ask(other, SECOND)) == session
    other.save()
    reloaded(other, other.restart)
    assert session_of(ask(other, "And now?")) == session
    assert desk.prompts(own) == ["Something else"]


# -- deleted ---


def test_a_binding_to_a_deleted_session_is_one_clear_sentence(desk, original):
    session = desk.only_session()
    other = desk.notebook("Other.ipynb")
    other.run(f"%copilot_delete {session} --yes").ok()
    desk.opened(original)
    said = two_lines(ask(original, SECOND), "SessionNotFoundError")
    what, do = said.splitlines()
    assert what.startswith(f"This notebook is bound to {session}. The session {session} was ")
    assert "deleted on " in what
    assert f"%copilot_new {session}" in do
    assert desk.model.requests == []
    assert desk.store.ids() == []

    status = original.run("%copilot_status").ok()  # never an error: it says what is wrong
    assert "was deleted" in status.shown
    original.run(f"%copilot_new {session}").ok()
    assert session_of(ask(original, SECOND)) == session
    assert desk.model.requests[-1].prompts == [SECOND]


def test_a_session_deleted_behind_a_living_kernel_is_not_made_anew_silently(desk, original):
    session = desk.only_session()
    desk.opened(original)
    ask(original, SECOND).ok()
    original.run("%copilot_release").ok()
    shutil.rmtree(desk.store.folder(session))  # as a clean-up in a terminal does
    said = two_lines(ask(original, "And now?"), "SessionNotFoundError")
    assert session in said
    assert desk.store.ids() == []
    assert len(desk.model.requests) == 1


@pytest.mark.campaign
def test_a_damaged_notebook_file_does_not_stop_the_conversation(desk, original):
    session = desk.only_session()
    desk.opened(original)
    ask(original, SECOND).ok()
    original.path.write_text('{"cells": [{"cell_type"', encoding="utf-8")
    reloaded(original, original.restart)  # the kernel id finds it
    assert session_of(ask(original, "And now?")) == session
