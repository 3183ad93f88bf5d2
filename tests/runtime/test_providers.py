"""The runtime's own COPILOT_PROVIDER_* variables reach the wire, and nothing else does."""

import json
from pathlib import Path
from typing import Any

import pytest
from scripted_model import Request, ScriptedModel

from copilot_jupyter.conversation.sessions import Sessions
from copilot_jupyter.conversation.terms import Terms
from copilot_jupyter.errors import NoProviderError
from copilot_jupyter.settings import Copilot

SECRET = "sk-unmistakable-0123456789"
SOON = 30.0


@pytest.fixture
def asked(sessions: Sessions, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch) -> "Asked":
    return Asked(sessions, model, monkeypatch)


class Asked:
    """What reaches the model when these variables are set."""

    def __init__(
        self, sessions: Sessions, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.sessions = sessions
        self.model = model
        self.monkeypatch = monkeypatch

    def __call__(self, *, session_id: str = "providers", **variables: str) -> Request:
        for name, value in variables.items():
            self.monkeypatch.setenv(f"COPILOT_PROVIDER_{name}", value)
        conversation = self.sessions.conversation(session_id, Terms(folder="/tmp", create=True))
        self.sessions.loop.call(conversation.ask("hello"), SOON)
        return self.model.requests[-1]


def test_nothing_set(asked: Asked) -> None:
    request = asked()
    assert request.headers.get("authorization", "Bearer").strip() == "Bearer"
    assert request.body["model"] == "scripted"


def test_an_api_key(asked: Asked, home: Path) -> None:
    request = asked(API_KEY=SECRET)
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    # It is passed anew with every resume, and never lies on disk.
    asked.sessions.loop.call(asked.sessions.release())
    again = asked()
    assert again.headers["authorization"] == f"Bearer {SECRET}"
    assert again.prompts == ["hello", "hello"]
    asked.sessions.close()
    files = [path for path in home.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_a_bearer_token(asked: Asked) -> None:
    assert asked(BEARER_TOKEN=SECRET).headers["authorization"] == f"Bearer {SECRET}"


def test_a_bearer_token_before_an_api_key(asked: Asked) -> None:
    request = asked(BEARER_TOKEN=SECRET, API_KEY="another")
    assert request.headers["authorization"] == f"Bearer {SECRET}"


def test_headers(asked: Asked) -> None:
    request = asked(HEADERS="X-Team: churn\\nX-Note: a: b")
    assert request.headers["x-team"] == "churn"
    assert request.headers["x-note"] == "a: b"


def test_headers_on_lines_of_their_own(asked: Asked) -> None:
    request = asked(HEADERS="X-Team: churn\nX-Other: 1\n")
    assert (request.headers["x-team"], request.headers["x-other"]) == ("churn", "1")


def test_another_name_on_the_wire(asked: Asked) -> None:
    assert asked(WIRE_MODEL="what-the-provider-calls-it").body["model"] == (
        "what-the-provider-calls-it"
    )


def test_the_model_of_the_environment(asked: Asked) -> None:
    asked.monkeypatch.setenv("COPILOT_MODEL", "scripted-2")
    assert asked().body["model"] == "scripted-2"


def test_the_setting_before_the_environment(asked: Asked) -> None:
    asked.sessions.settings.model = "scripted-2"
    assert asked().body["model"] == "scripted-2"


def test_a_model_id_where_no_model_is_named(asked: Asked) -> None:
    asked.monkeypatch.delenv("COPILOT_MODEL")
    assert asked(MODEL_ID="gpt-5").body["model"] == "gpt-5"


def test_a_limit_of_output_tokens(asked: Asked) -> None:
    body = asked(MAX_OUTPUT_TOKENS="123").body
    (start, *_) = asked.sessions.store.journal("providers").events
    if start["data"]["copilotVersion"] == "0.0.0":
        pytest.skip("runtime 1.0.85 knows no such limit")
    assert body["max_tokens"] == 123


def test_a_limit_that_is_no_number(asked: Asked) -> None:
    with pytest.raises(NoProviderError) as error:
        asked(MAX_PROMPT_TOKENS="many")
    assert "COPILOT_PROVIDER_MAX_PROMPT_TOKENS is 'many'" in error.value.what
    assert asked.model.requests == []


def test_the_key_belongs_to_its_endpoint(asked: Asked) -> None:
    # Another provider named in the settings gets nothing of what was set for the first.
    with ScriptedModel() as other:
        asked.sessions.settings.provider = other.base_url
        asked.sessions.settings.model = "scripted"
        asked.monkeypatch.setenv("COPILOT_PROVIDER_API_KEY", SECRET)
        asked.monkeypatch.setenv("COPILOT_PROVIDER_HEADERS", f"X-Secret: {SECRET}")
        conversation = asked.sessions.conversation("other", Terms(folder="/tmp", create=True))
        asked.sessions.loop.call(conversation.ask("hello"), SOON)
        request = other.requests[-1]
        assert SECRET not in json.dumps(request.headers)
        assert asked.model.requests == []
        asked.sessions.close()


def test_changed_between_two_turns(asked: Asked) -> None:
    assert asked(API_KEY="first").headers["authorization"] == "Bearer first"
    asked.sessions.loop.call(asked.sessions.release())
    assert asked(API_KEY="second").headers["authorization"] == "Bearer second"


def test_the_models_of_a_provider(asked: Asked) -> None:
    provider, names = asked.sessions.loop.call(asked.sessions.models(), SOON)
    assert (provider.kind, names) == ("byok", ["scripted", "scripted-2"])
    assert asked.sessions.runtime.pid == 0  # asking a provider needs no runtime


def test_the_kernels_own_secrets_stay_out(asked: Asked) -> None:
    asked.monkeypatch.setenv("JPY_API_TOKEN", SECRET)
    asked()
    environment = Path(f"/proc/{asked.sessions.runtime.pid}/environ")
    if not environment.exists():
        pytest.skip("needs /proc")
    assert SECRET.encode() not in environment.read_bytes()


def test_a_provider_is_not_shown_with_its_key(asked: Asked) -> None:
    asked.monkeypatch.setenv("COPILOT_PROVIDER_API_KEY", SECRET)
    provider, _ = asked.sessions.loop.call(asked.sessions.models(), SOON)
    assert SECRET not in repr(provider)


def test_the_state_folder_of_the_environment(
    model: ScriptedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPILOT_HOME", str(tmp_path / "elsewhere"))
    sessions = Sessions(Copilot())
    try:
        conversation = sessions.conversation("providers", Terms(folder="/tmp", create=True))
        sessions.loop.call(conversation.ask("hello"), SOON)
    finally:
        sessions.close()
    found: list[Any] = list(tmp_path.rglob("events.jsonl"))
    assert found == [tmp_path / "elsewhere" / "session-state" / "providers" / "events.jsonl"]
