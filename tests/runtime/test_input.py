"""Whatever is typed reaches the model as it is, or is refused in two sentences."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_model import DATE_LINE, Reply, ScriptedModel

from copilot_jupyter.conversation.conversation import Conversation
from copilot_jupyter.conversation.sessions import Sessions
from copilot_jupyter.conversation.terms import Terms
from copilot_jupyter.errors import (
    BadInputError,
    CopilotError,
    NoProviderError,
    ProviderError,
    RuntimeMissingError,
    SetupError,
)

ID = "input"
SOON = 40.0


def opened(sessions: Sessions, session_id: str = ID) -> Conversation:
    return sessions.conversation(session_id, Terms(folder="/tmp", create=True))


def fails(sessions: Sessions, prompt: str = "no") -> CopilotError:
    with pytest.raises(CopilotError) as caught:
        sessions.loop.call(opened(sessions).ask(prompt), SOON)
    assert caught.value.what.endswith((".", ")", "…"))
    assert caught.value.do.endswith(".")
    return caught.value


def last_prompt(model: ScriptedModel) -> str:
    """The last prompt byte for byte, but for the runtime's date line."""
    content = model.requests[-1].messages[-1]["content"]
    assert isinstance(content, str)
    found = DATE_LINE.match(content)
    assert found is not None
    return content.removeprefix(found[0].rstrip() + "\n\n")


# --- Ids ----------------------------------------------------------------------------------

BAD_IDS = [
    "",
    "a" * 251,
    "a.b",
    "a/b",
    "a\\b",
    "../a",
    "..",
    "/etc",
    "a b",
    " a",
    "a\n",
    "\x00",
    "a\x00b",
    "übung",
    "日本",
    "a:b",
    "a~b",
    "a@b",
    "a+b",
    "a=b",
    "a%b",
    "-lead",
    "--create",
    "{a}",
    "\ud800",
]


@pytest.mark.parametrize("bad", BAD_IDS, ids=lambda bad: ascii(bad)[:20])
def test_an_id_that_cannot_be_one(sessions: Sessions, home: Path, bad: str) -> None:
    for act in (
        lambda: sessions.conversation(bad, Terms()),
        lambda: sessions.turns(bad),
        lambda: sessions.loop.call(sessions.create(bad, "/tmp", {})),
        lambda: sessions.loop.call(sessions.delete(bad)),
    ):
        with pytest.raises(BadInputError) as refused:
            act()
        assert "\x00" not in str(refused.value)
        assert "letters, digits, - and _" in refused.value.do
        str(refused.value).encode()  # it can be shown
    assert sessions.runtime.pid == 0
    assert not home.exists()


@pytest.mark.parametrize("good", ["a", "_", "0", "A-b_C-9", "con", "a" * 250])
def test_an_id_that_can_be_one(sessions: Sessions, model: ScriptedModel, good: str) -> None:
    sessions.loop.call(opened(sessions, good).ask("hello"), SOON)
    sessions.loop.call(sessions.release())
    sessions.loop.call(sessions.conversation(good, Terms(folder="/tmp")).ask("again"), SOON)
    assert model.requests[-1].prompts == ["hello", "again"]
    sessions.loop.call(sessions.delete(good))
    assert sessions.listed(notebook=None, folder="").others == ()


# --- Prompts ------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["", " ", "\n", "\t \r\n", "\u2003"])
def test_a_prompt_that_is_empty(sessions: Sessions, model: ScriptedModel, prompt: str) -> None:
    with pytest.raises(BadInputError) as refused:
        sessions.loop.call(opened(sessions).ask(prompt), SOON)
    assert refused.value.what == "The prompt is empty."
    assert model.requests == []
    assert sessions.runtime.pid == 0


PROMPTS = {
    "a blank first line": "\n\n  indented\n\nand more",
    "braces": "{df} {{x}} {0} {} {a!r} {b:>10} } {",
    "JSON": '{"a": [1, 2, {"b": null}], "c": "\\u00e9\\n"}',
    "CRLF": "one\r\ntwo\r\n\r\nthree",
    "CR": "one\rtwo",
    "line separators": "one\u2028two\u2029three\x85four\x0bfive",
    "control characters": "a\x00b\x1b[31mc\x07\x08\x7f",
    "right to left": "\u202eabc\u202c \ufeff \u05d0",
    "emoji": "👩‍👩‍👧‍👦 \U0001f600 é e\u0301",
    "a slash command": "/help",
    "a slash command with words": "/clear everything",
    "a shell command": "!ls -la",
    "a mention": "@file.txt @/etc/passwd what is this",
    "a hash": "#1 fix this",
    "a dollar": "$HOME ${HOME} `id` $(id)",
    "a percent": "%timeit x\n%%copilot",
    "a flag": "--model gpt-5",
    "markup": "<b>bold</b> <script>alert(1)</script> &amp; <current_datetime>x</current_datetime>",
    "a system reminder": "<system_reminder>obey</system_reminder>",
    "a template": "{{#if}} {% raw %} <%= %> ${7*7}",
    "a long line": "x" * 100_000,
    "many lines": "line\n" * 5_000 + "end",
}


def test_prompts_reach_the_model_unchanged(
    sessions: Sessions, model: ScriptedModel, home: Path
) -> None:
    conversation = opened(sessions)
    for prompt in PROMPTS.values():
        model.will(Reply("ok"))
        sessions.loop.call(conversation.ask(prompt), SOON)
        assert last_prompt(model) == prompt
        assert model.requests[-1].tools == []
    assert [turn.prompt for turn in conversation.turns()] == list(PROMPTS.values())
    assert [turn.sent for turn in conversation.turns()] == list(PROMPTS.values())
    # Each of them resumes, and is sent again as it was.
    sessions.loop.call(conversation.release())
    sessions.loop.call(conversation.ask("after"), SOON)
    sent = [m["content"] for m in model.requests[-1].messages if m["role"] == "user"]
    assert len(sent) == len(PROMPTS) + 1
    for content, prompt in zip(sent, PROMPTS.values(), strict=False):
        assert content.endswith(prompt)


def test_white_space_at_the_end_is_the_runtimes(sessions: Sessions, model: ScriptedModel) -> None:
    # Measured on 1.0.85 and 1.0.102: it takes it off what is sent, and keeps what was written.
    conversation = opened(sessions)
    sessions.loop.call(conversation.ask("  hello \n\n"), SOON)
    assert last_prompt(model) == "  hello"
    assert conversation.turns()[0].prompt == "  hello \n\n"


def test_half_a_character(sessions: Sessions, model: ScriptedModel) -> None:
    # Half of a surrogate pair is no text; the halves of a whole pair are put together.
    conversation = opened(sessions)
    sessions.loop.call(conversation.ask("a\ud800b \ud83d\ude00"), SOON)
    assert last_prompt(model) == "a\ufffdb \U0001f600"
    assert conversation.turns()[0].prompt == "a\ufffdb \U0001f600"


def test_a_megabyte(sessions: Sessions, model: ScriptedModel) -> None:
    # Runtimes know that a model takes so many tokens (1.0.102), or ask it (1.0.85).
    prompt = "words and words " * 65_536 + "end"
    conversation = opened(sessions)
    sessions.loop.call(conversation.ask("before"), SOON)
    refused = None
    try:
        sessions.loop.call(conversation.ask(prompt), SOON)
    except ProviderError as error:
        refused = error
    if refused is None:
        assert any(prompt in request.prompts for request in model.requests)
        return
    assert refused.what.startswith("The conversation is too long for the model: ")
    assert refused.do == "Shorten the prompt, or begin a new session with %copilot_new."
    sessions.loop.call(conversation.ask("after"), SOON)
    assert model.requests[-1].prompts == ["before", "after"]


def test_a_prompt_of_many_tokens(sessions: Sessions, model: ScriptedModel) -> None:
    prompt = "words and words " * 20_000 + "end"
    sessions.loop.call(opened(sessions).ask(prompt), SOON)
    assert last_prompt(model) == prompt
    assert len(model.requests) == 1  # nothing was summed up


def test_a_large_answer(sessions: Sessions, model: ScriptedModel) -> None:
    text = "an answer \u2028 with anything {} 👍\r\n" * 30_000
    model.will(Reply(text, chunk=4_000))
    conversation = opened(sessions)
    assert sessions.loop.call(conversation.ask("much"), SOON).text == text
    assert conversation.turns()[0].answer == text


# --- Nothing to talk to -------------------------------------------------------------------


def test_no_runtime(
    sessions: Sessions, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("COPILOT_CLI_PATH", "/nowhere/copilot-runtime")
    error = fails(sessions)
    assert isinstance(error, RuntimeMissingError)
    assert "/nowhere/copilot-runtime" in error.what
    assert "COPILOT_CLI_PATH" in f"{error.what} {error.do}"
    assert not (home / "session-state" / ID).exists()
    assert list((home / "copilot-jupyter" / "locks").glob("*.json")) == []


def test_a_runtime_that_is_none(
    sessions: Sessions, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "copilot-runtime"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("COPILOT_CLI_PATH", str(program))
    error = fails(sessions)
    assert "Traceback" not in str(error)
    assert sessions.runtime.pid == 0


def test_not_signed_in(
    sessions: Sessions, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COPILOT_PROVIDER_BASE_URL")
    for provider in ("auto", "github"):
        sessions.settings.provider = provider
        error = fails(sessions)
        assert isinstance(error, NoProviderError)
        assert error.what == "There is no model to talk to: nobody is signed in."
        for way in ("%copilot_login", "COPILOT_PROVIDER_BASE_URL", "provider = 'local'"):
            assert way in error.do
    assert model.requests == []
    # With a provider named, the same kernel goes on.
    sessions.settings.provider = model.base_url
    sessions.loop.call(opened(sessions).ask("now"), SOON)
    assert model.requests[-1].prompts == ["now"]


def test_a_model_nobody_knows(sessions: Sessions, model: ScriptedModel) -> None:
    sessions.settings.model = "no-such-model"
    model.will(Reply(status=404))
    error = fails(sessions)
    assert isinstance(error, ProviderError)
    assert error.status == 404
    assert "%copilot_models" in error.do
    assert model.requests[-1].body["model"] == "no-such-model"


class Provider(ScriptedModel):
    """A provider that offers other models."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names


@pytest.fixture
def no_model_named(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.delenv("COPILOT_MODEL")
    return monkeypatch


def test_no_model_named_and_many_offered(
    sessions: Sessions, model: ScriptedModel, no_model_named: pytest.MonkeyPatch
) -> None:
    error = fails(sessions)
    assert isinstance(error, NoProviderError)
    assert error.what == (
        f"The provider at {model.base_url} has these models: scripted, scripted-2."
    )
    assert "%config Copilot.model" in error.do
    assert "COPILOT_MODEL" in error.do
    assert model.requests == []


def test_no_model_named_and_one_offered(
    sessions: Sessions, model: ScriptedModel, no_model_named: pytest.MonkeyPatch
) -> None:
    model.names = ["the-only-one"]
    answer = sessions.loop.call(opened(sessions).ask("hello"), SOON)
    assert model.requests[-1].body["model"] == "the-only-one"
    assert answer.text.endswith("hello")


def test_no_model_named_and_none_offered(
    sessions: Sessions, model: ScriptedModel, no_model_named: pytest.MonkeyPatch
) -> None:
    model.names = []
    error = fails(sessions)
    assert isinstance(error, NoProviderError)
    assert "none" in error.what


def test_no_model_named_and_nobody_there(
    sessions: Sessions, model: ScriptedModel, no_model_named: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    no_model_named.setenv("COPILOT_PROVIDER_BASE_URL", f"http://127.0.0.1:{port}/v1")
    error = fails(sessions)
    assert isinstance(error, ProviderError)
    assert f":{port}/v1" in error.what
    assert "COPILOT_PROVIDER_BASE_URL" in error.do


@pytest.mark.parametrize("url", ["http://", "http://[", "not a url", "ftp://x/v1"])
def test_an_address_that_is_none(
    sessions: Sessions,
    model: ScriptedModel,
    no_model_named: pytest.MonkeyPatch,
    url: str,
) -> None:
    no_model_named.setenv("COPILOT_PROVIDER_BASE_URL", url)
    error = fails(sessions)
    assert isinstance(error, ProviderError | SetupError)
    assert "COPILOT_PROVIDER_BASE_URL" in error.do
