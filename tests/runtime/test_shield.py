"""What the runtime's own tools read goes to the model without its secrets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from scripted_model import Reply, ScriptedModel

from copilot_jupyter.conversation import transcript
from copilot_jupyter.conversation.terms import Terms
from copilot_jupyter.conversation.used import ledger
from copilot_jupyter.events import LeaveAsked, Offer, Tool, ToolAnswer, ToolAsked, TurnEvent

if TYPE_CHECKING:
    from pathlib import Path

    from copilot_jupyter.conversation.conversation import Conversation
    from copilot_jupyter.conversation.sessions import Sessions

SOON = 40.0
SECRET = "ghp_" + "a1B2c3D4e5" * 4
PASSWORD = "zq83-zq83-zq83"
SHOWN = "TOKEN=‹secret:github-token›"
FILES = Offer(builtin=("view", "grep", "bash"))
OWN = Tool("own", "Tells.", {"type": "object", "properties": {}})

Ask = Callable[..., list[str]]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def ask(
    sessions: Sessions, model: ScriptedModel, work: Path, monkeypatch: pytest.MonkeyPatch
) -> Ask:
    """Let the model call tools of the runtime; returns what it was told by each."""
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    (work / "a.env").write_text(f"TOKEN={SECRET}\nPASS={PASSWORD}\n")

    def answered(event: TurnEvent) -> None:
        if isinstance(event, LeaveAsked):
            event.answer.set_result("")
        elif isinstance(event, ToolAsked):
            event.answer.set_result(ToolAnswer("of its own"))

    def asked(*calls: tuple[str, dict[str, str]], offer: Offer = FILES) -> list[str]:
        model.will(*(Reply(tool=name, arguments=json.dumps(said)) for name, said in calls), "Read.")
        asking = opened(sessions, work).ask("Read", offer=offer, emit=answered)
        sessions.loop.call(asking, SOON)
        told = [m["content"] for m in model.requests[-1].messages if m["role"] == "tool"]
        return told[-len(calls) :]

    return asked


def opened(sessions: Sessions, folder: Path) -> Conversation:
    return sessions.conversation("read", Terms(folder=str(folder), create=True))


def view(folder: Path) -> tuple[str, dict[str, str]]:
    return "view", {"path": str(folder / "a.env")}


def shell(command: str) -> tuple[str, dict[str, str]]:
    return "bash", {"command": command, "description": "d"}


def test_results_of_the_runtimes_tools_go_without_secrets(
    ask: Ask, model: ScriptedModel, sessions: Sessions, work: Path
) -> None:
    calls = (
        view(work),
        ("grep", {"pattern": "TOKEN", "path": str(work), "output_mode": "content"}),
        shell("cat a.env; exit 3"),
        shell(f"cat a.env; {'echo ' + 'x' * 60 + ';'} seq 20000"),
    )
    seen, found, failed, long = ask(*calls)
    assert seen.splitlines() == [SHOWN, "PASS=‹secret:DB_PASSWORD›"]
    assert found.endswith(f"a.env:{SHOWN}")
    assert failed.startswith(f"{SHOWN}\nPASS=‹secret:DB_PASSWORD›")
    assert "exit code 3" in failed
    assert long.startswith(SHOWN)
    assert "\n20000\n" in long
    for request in model.requests:
        assert SECRET not in json.dumps(request.body)
        assert PASSWORD not in json.dumps(request.body)

    [turn] = transcript.turns(sessions.store.journal("read").events)
    assert [use.result for use in turn.uses[:2]] == [seen, found]
    assert turn.complete
    assert ledger(turn).secrets == 7


def test_they_go_without_secrets_when_the_session_is_opened_anew(
    ask: Ask, model: ScriptedModel, sessions: Sessions, work: Path
) -> None:
    ask(view(work))
    sessions.loop.call(opened(sessions, work).release())
    assert ask(shell("cat a.env"))[0].startswith(SHOWN)
    assert json.dumps(model.requests[-1].body, ensure_ascii=False).count(SHOWN) == 2
    assert SECRET not in json.dumps(model.requests[-1].body)


def test_what_holds_no_secret_stays_and_is_written_once(
    ask: Ask, sessions: Sessions, work: Path
) -> None:
    (work / "a.env").write_text("A=1\n")
    assert ask(view(work), ("own", {}), offer=Offer((OWN,), ("view",))) == [
        "A=1\n",
        "of its own",
    ]
    ended = [e for e in sessions.store.journal("read").events if e["type"] == "hook.end"]
    assert ended
    assert "A=1" not in json.dumps(ended)


def test_without_the_runtimes_tools_nothing_is_asked_of_us(ask: Ask, sessions: Sessions) -> None:
    assert ask(("own", {}), offer=Offer((OWN,))) == ["of its own"]
    kinds = {event["type"] for event in sessions.store.journal("read").events}
    assert not kinds & {"hook.start", "hook.end"}


def test_a_result_that_cannot_be_searched_does_not_go(
    ask: Ask, model: ScriptedModel, sessions: Sessions, work: Path
) -> None:
    def fails(text: str) -> str:
        raise RuntimeError(text)

    sessions.runtime._scrub = fails
    [told] = ask(view(work))
    assert told == "The result was withheld: it could not be searched for secrets."
    assert SECRET not in json.dumps(model.requests[-1].body)


def test_a_bundle_holds_no_more_of_a_result_and_without_secrets(
    ask: Ask, sessions: Sessions, work: Path
) -> None:
    ask(view(work))
    path = work / "read.copilot.jsonl"
    sessions.export("read", path)
    text = path.read_text()
    assert SHOWN in text
    assert "hook." not in text
    assert SECRET not in text
    session, _ = sessions.import_bundle(path, "again", str(work))
    assert session == "again"
    conversation = sessions.conversation("again", Terms(folder=str(work)))
    assert sessions.loop.call(conversation.ask("And?"), SOON).text.endswith("And?")
