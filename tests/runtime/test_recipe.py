"""The session persistence recipe, to the letter: every step in a process of its own."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from scripted_model import ScriptedModel

from copilot_jupyter.conversation.answer import Answer
from copilot_jupyter.conversation.sessions import Sessions
from copilot_jupyter.conversation.terms import Terms
from copilot_jupyter.errors import SessionExistsError, SessionNotFoundError
from copilot_jupyter.settings import Copilot

ID = "user-123-conversation"
FIRST = "Let's discuss TypeScript generics"
SECOND = "What were we discussing?"

#: Seconds for one step: importing the SDK alone takes one on a busy machine.
STEP = 60

#: What every process begins with; a step says the rest and fills `out`.
HEAD = """
import json, sys
from copilot_jupyter.conversation.terms import Terms
from copilot_jupyter.conversation.sessions import Sessions
from copilot_jupyter.errors import CopilotError
from copilot_jupyter.settings import Copilot

out, notices = {}, []
sessions = Sessions(Copilot())

def ask(session_id, prompt, **terms):
    conversation = sessions.conversation(session_id, Terms(folder=sys.argv[1], **terms))
    return sessions.loop.call(conversation.ask(prompt, emit=notices.append), timeout=30)

try:
"""
TAIL = """
except CopilotError as error:
    out["error"] = [type(error).__name__, error.what, error.do]
finally:
    sessions.close()
out["notices"] = [n.text for n in notices if type(n).__name__ == "Notice"]
out["sdk"] = "copilot" in sys.modules
print(json.dumps(out))
"""


@dataclass
class Step:
    """What one process had to say."""

    value: Any = None
    error: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    sdk: bool = False


def process(code: str, folder: Path) -> Step:
    """Run some lines in a new process; what they put in ``out["value"]`` comes back."""
    lines = "".join(f"    {line}\n" for line in code.strip().splitlines())
    done = subprocess.run(
        [sys.executable, "-c", HEAD + lines + TAIL, str(folder)],
        capture_output=True,
        text=True,
        timeout=STEP,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return Step(**json.loads(done.stdout))


def ask(prompt: str, folder: Path, before: str = "") -> Step:
    return process(f'{before}\nout["value"] = ask({ID!r}, {prompt!r}).text', folder)


def left(home: Path) -> list[Path]:
    """What lies below session-state, but for the empty lock files that the runtime keeps."""
    state = home / "session-state"
    own = state / ".session-operation-locks"  # 1.0.102: <id>.lock stays after a delete
    assert all(lock.stat().st_size == 0 for lock in own.glob("*"))
    return [path for path in state.rglob("*") if path != own and path.parent != own]


def test_the_recipe(model: ScriptedModel, home: Path, tmp_path: Path) -> None:
    # Create a session with an id of one's own, ask, leave.
    model.will("Generics let a type take a type as a parameter.")
    create = f"sessions.loop.call(sessions.create({ID!r}, sys.argv[1], {{}}))"
    first = ask(FIRST, tmp_path, before=create)
    assert (first.value, first.error) == ("Generics let a type take a type as a parameter.", [])
    assert [r.prompts for r in model.requests] == [[FIRST]]

    # Resume it in another process: the model gets the first exchange, exactly and once.
    model.will("TypeScript generics.")
    second = ask(SECOND, tmp_path)
    assert (second.value, second.error, second.notices) == ("TypeScript generics.", [], [])
    assert len(model.requests) == 2
    assert model.requests[1].prompts == [FIRST, SECOND]
    assert model.requests[1].answers == ["Generics let a type take a type as a parameter."]
    roles = [m["role"] for m in model.requests[1].messages]
    assert roles == ["system", "user", "assistant", "user"]

    # List the sessions: no runtime, no SDK.
    listed = process(
        'out["value"] = [s.id for s in sessions.listed(notebook=None, folder="")]', home
    )
    assert (listed.value, listed.sdk) == ([ID], False)

    # Read its history as typed turns: the same.
    history = process(
        f"""
turns = sessions.turns({ID!r})
assert all(type(t).__name__ == "Turn" for t in turns)
out["value"] = [[t.number, t.prompt, t.answer, t.complete, t.model] for t in turns]
""",
        home,
    )
    assert history.value == [
        [1, FIRST, "Generics let a type take a type as a parameter.", True, "scripted"],
        [2, SECOND, "TypeScript generics.", True, "scripted"],
    ]
    assert not history.sdk

    # Delete it for good: nothing of it is left below session-state.
    deleted = process(f"sessions.loop.call(sessions.delete({ID!r}))", home)
    assert deleted.error == []
    assert left(home) == []
    gone = process('out["value"] = [s.id for s in sessions.listed(notebook=None, folder="")]', home)
    assert gone.value == []

    # Resume it again: two clear sentences, nobody is asked, nothing is made.
    again = ask(SECOND, tmp_path)
    kind, what, do = again.error
    assert kind == "SessionNotFoundError"
    assert what.startswith(f"The session {ID} was deleted on 20")
    assert f"%copilot_new {ID}" in do
    assert len(model.requests) == 2
    assert left(home) == []
    assert list((home / "copilot-jupyter" / "locks").glob("*.json")) == []


def test_the_history_is_there_as_the_runtime_wrote_it(sessions: Sessions, tmp_path: Path) -> None:
    asked(sessions, FIRST, ID, create=True)
    kinds = [event["type"] for event in sessions.store.journal(ID).events]
    assert kinds[0] == "session.start"
    in_order = ["user.message", "assistant.turn_start", "assistant.message", "assistant.turn_end"]
    assert [kind for kind in kinds if kind in in_order] == in_order


def test_nothing_of_a_deleted_session_is_left_anywhere(sessions: Sessions, home: Path) -> None:
    asked(sessions, "my unmistakable prompt", ID, create=True)
    sessions.loop.call(sessions.delete(ID))
    files = [path for path in home.rglob("*") if path.is_file()]
    assert [path for path in files if b"unmistakable" in path.read_bytes()] == []
    assert left(home) == []


def test_a_session_that_was_only_created_is_listed_and_resumed(
    model: ScriptedModel, sessions: Sessions, tmp_path: Path
) -> None:
    metadata = {"copilot-jupyter.notebook.path": "/a.ipynb"}
    sessions.loop.call(sessions.create(ID, str(tmp_path), metadata))
    sessions.close()
    later = Sessions(Copilot())
    try:
        (info,) = later.listed(notebook=None, folder="")
        assert (info.id, info.folder, info.notebook) == (ID, str(tmp_path), "/a.ipynb")
        assert info.ours
        assert later.turns(ID) == []
        asked(later, FIRST, ID)
        assert model.requests[-1].prompts == [FIRST]
    finally:
        later.close()


def test_creating_over_a_session_is_refused(model: ScriptedModel, sessions: Sessions) -> None:
    asked(sessions, FIRST, ID, create=True)
    with pytest.raises(SessionExistsError) as refused:
        sessions.loop.call(sessions.create(ID, "/tmp", {}))
    assert ID in refused.value.what
    assert f"%copilot_resume {ID}" in refused.value.do
    asked(sessions, SECOND, ID)
    assert model.requests[-1].prompts == [FIRST, SECOND]


def test_create_goes_on_with_what_exists(model: ScriptedModel, sessions: Sessions) -> None:
    # `%copilot_resume ID --create` serves the first run and every later one.
    assert asked(sessions, FIRST, ID, create=True).turn == 1
    sessions.close()
    later = Sessions(Copilot())
    try:
        assert asked(later, SECOND, ID, create=True).turn == 2
    finally:
        later.close()
    assert model.requests[-1].prompts == [FIRST, SECOND]


def test_a_missing_session_names_the_nearest(
    model: ScriptedModel, sessions: Sessions, home: Path
) -> None:
    asked(sessions, FIRST, ID, create=True)
    asked(sessions, FIRST, "something-else", create=True)
    with pytest.raises(SessionNotFoundError) as missing:
        asked(sessions, SECOND, "user-124-conversation")
    assert missing.value.what == "There is no session named user-124-conversation."
    assert f"Did you mean {ID}?" in missing.value.do
    assert "something-else" not in missing.value.do
    assert "--create" in missing.value.do
    assert not (home / "session-state" / "user-124-conversation").exists()
    assert len(model.requests) == 2


def test_two_sessions_do_not_mix(model: ScriptedModel, sessions: Sessions) -> None:
    for n in range(3):
        asked(sessions, f"cats {n}", "cats", create=not n)
        asked(sessions, f"dogs {n}", "dogs", create=not n)
    for name, request in (("cats", model.requests[-2]), ("dogs", model.requests[-1])):
        wanted = [f"{name} {n}" for n in range(3)]
        assert [turn.prompt for turn in sessions.turns(name)] == wanted
        assert request.prompts == wanted
        assert request.answers == [turn.answer for turn in sessions.turns(name)[:-1]]


def test_the_first_request_is_small(
    model: ScriptedModel, sessions: Sessions, tmp_path: Path
) -> None:
    (tmp_path / "AGENTS.md").write_text("Instructions that nobody asked for.\n" * 100)
    (tmp_path / ".github").mkdir()
    (tmp_path / ".github" / "copilot-instructions.md").write_text("Nor for these.\n" * 100)
    asked(sessions, FIRST, ID, folder=str(tmp_path), create=True)
    assert model.requests[0].tools == []
    assert model.requests[0].size <= 1000
    sessions.loop.call(sessions.release())
    asked(sessions, SECOND, ID, folder=str(tmp_path))
    assert model.requests[1].tools == []  # what a resume must pass again
    assert model.requests[1].size <= 1500


def asked(sessions: Sessions, prompt: str, session_id: str, **terms: Any) -> Answer:
    """Ask in this process."""
    conversation = sessions.conversation(session_id, Terms(**{"folder": "/tmp", **terms}))
    return sessions.loop.call(conversation.ask(prompt), timeout=STEP)
