"""A session that the notebook made goes on in a terminal: ``copilot --resume ID``.

The terminal is the real Copilot CLI in a pseudo terminal, the notebook's side
the real runtime; only the model is a script.
"""

from __future__ import annotations

import fcntl
import json
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if (sys.platform, platform.machine()) != ("linux", "x86_64"):
    pytest.skip("the pinned Copilot CLI is the one for linux-x64", allow_module_level=True)

from terminal import Terminal, copilot_cli

from copilot_jupyter.conversation.terms import Terms
from copilot_jupyter.errors import SessionInUseError

if TYPE_CHECKING:
    from copilot_jupyter.conversation.conversation import Conversation
    from copilot_jupyter.conversation.sessions import Sessions

pytestmark = pytest.mark.timeout(400)  # the first run fetches 129 MB

SESSION = "user-123-conversation"
FIRST = "Let's discuss TypeScript generics"
FIRST_ANSWER = f"Answer 1 to: {FIRST}"
SECOND = "What were we discussing?"
SECOND_ANSWER = "We were discussing TypeScript generics, and how they keep types apart."


@pytest.fixture
def notebook(sessions: Sessions, tmp_path: Path) -> Conversation:
    """The notebook's side: one turn asked, and the session released."""
    conversation = sessions.conversation(SESSION, Terms(folder=str(tmp_path), create=True))
    sessions.loop.call(conversation.ask(FIRST))
    sessions.loop.call(conversation.release())
    return conversation


def turns(home: Path, session_id: str) -> list[tuple[str, str]]:
    """Return what was said, as it stands in the transcript file."""
    path = home / "session-state" / session_id / "events.jsonl"
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    said = ("user.message", "assistant.message")
    return [(e["type"].split(".")[0], e["data"]["content"]) for e in events if e["type"] in said]


def holds(home: Path, session_id: str) -> list[str]:
    """Return the names of the files with which a process says that it has the session."""
    return sorted(p.name for p in (home / "session-state" / session_id).glob("inuse.*"))


def is_locked(path: Path) -> bool:
    """Whether another process has a lock on the file."""
    with path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@pytest.fixture(scope="module", autouse=True)
def program() -> Path:
    """The CLI, fetched before any clock of a test runs."""
    return copilot_cli()


@pytest.fixture
def terminal(home, model):
    with Terminal(home, model.environment()) as terminal:
        yield terminal


def test_a_session_goes_from_the_notebook_to_the_terminal_and_back(
    model, home, tmp_path, terminal, notebook, sessions
):
    assert turns(home, SESSION) == [("user", FIRST), ("assistant", FIRST_ANSWER)]
    assert holds(home, SESSION) == []

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    terminal.start(SESSION, cwd=elsewhere)
    terminal.wait_for(FIRST)
    terminal.wait_for(FIRST_ANSWER)
    assert len(model.requests) == 1, "showing the earlier turn asks the model nothing"
    # The CLI says that it has the session only from its first prompt on.
    assert holds(home, SESSION) == []
    assert SESSION in json.loads((home / "open-sessions-state.json").read_text())

    model.will(SECOND_ANSWER)
    terminal.ask(SECOND, SECOND_ANSWER)
    assert model.requests[-1].prompts == [FIRST, SECOND]
    assert model.requests[-1].answers == [FIRST_ANSWER]

    pid = terminal.pid
    folder = home / "session-state" / SESSION
    assert holds(home, SESSION) == [f"inuse.{pid}.hold", f"inuse.{pid}.lock"]
    assert (folder / f"inuse.{pid}.lock").read_text() == f"{pid}\n"
    assert is_locked(folder / f"inuse.{pid}.hold")
    assert Path(psutil.Process(pid).cmdline()[0]).name == "copilot"
    with pytest.raises(SessionInUseError, match=rf"copilot \(pid {pid}\)"):
        sessions.loop.call(notebook.ask("Is it my turn?"))
    assert len(model.requests) == 2, "the notebook asks nothing while the terminal writes"

    assert terminal.quit() == 0
    assert terminal.shows(f"copilot --resume={SESSION}")
    assert holds(home, SESSION) == []
    assert SESSION not in json.loads((home / "open-sessions-state.json").read_text())
    assert turns(home, SESSION) == [
        ("user", FIRST),
        ("assistant", FIRST_ANSWER),
        ("user", SECOND),
        ("assistant", SECOND_ANSWER),
    ]

    sessions.loop.call(notebook.ask("And now?"))
    assert model.requests[-1].prompts == [FIRST, SECOND, "And now?"]
    assert model.requests[-1].answers == [FIRST_ANSWER, SECOND_ANSWER]


def test_looking_at_a_session_in_the_terminal_leaves_it_as_it_was(
    model, home, tmp_path, terminal, notebook
):
    transcript = home / "session-state" / SESSION / "events.jsonl"
    before = transcript.read_bytes()

    terminal.start(SESSION, cwd=tmp_path)
    terminal.wait_for(FIRST_ANSWER)
    assert terminal.quit() == 0

    assert transcript.read_bytes() == before
    assert holds(home, SESSION) == []
    assert len(model.requests) == 1


def test_a_script_goes_on_with_a_session_of_the_notebook(model, home, tmp_path, terminal, notebook):
    model.will(SECOND_ANSWER)

    assert terminal.one_shot(SESSION, SECOND, cwd=tmp_path) == SECOND_ANSWER

    assert model.requests[-1].prompts == [FIRST, SECOND]
    assert holds(home, SESSION) == []
    assert [text for _, text in turns(home, SESSION)] == [
        FIRST,
        FIRST_ANSWER,
        SECOND,
        SECOND_ANSWER,
    ]
