"""Where prompts go, decided from the setting and the environment; keys stay with their URL."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from copilot_jupyter.errors import NoProviderError, ProviderError
from copilot_jupyter.events import Provider
from copilot_jupyter.runtime.provider import _authorization, list_models, resolve

URL = "http://127.0.0.1:8080/v1"
OTHER = "https://other.example/v1"


def environment(**variables: str) -> dict[str, str]:
    return {f"COPILOT_PROVIDER_{name}": value for name, value in variables.items()}


NAMED = environment(BASE_URL=URL, API_KEY="secret", BEARER_TOKEN="token", HEADERS="X-A: secret")


# -- which ------------------------------------------------------------------------------------


def test_auto_is_github_where_no_provider_is_named():
    assert resolve("auto", "", {}) == Provider("github", "")
    assert resolve("auto", "", environment(BASE_URL="  ")) == Provider("github", "")


def test_auto_is_the_provider_that_the_environment_names():
    provider = resolve("auto", "", environment(BASE_URL=f" {URL} "))
    assert provider == Provider("byok", "", {"type": "openai", "base_url": URL})


def test_github_is_github_even_where_a_provider_is_named():
    provider = resolve("github", "", NAMED)
    assert (provider.kind, provider.config) == ("github", {})


def test_local_is_the_embedded_model_whatever_is_named():
    provider = resolve("local", "", NAMED | {"COPILOT_MODEL": "gpt-5"})
    assert provider == Provider("local", "")


def test_an_address_is_a_provider_of_ones_own():
    provider = resolve(OTHER, "", {})
    assert provider == Provider("byok", "", {"type": "openai", "base_url": OTHER})


# -- which model ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "variables", "model"),
    [
        ("mine", {"COPILOT_MODEL": "theirs", **environment(MODEL_ID="id")}, "mine"),
        ("", {"COPILOT_MODEL": "theirs", **environment(MODEL_ID="id")}, "theirs"),
        ("", environment(MODEL_ID="id"), "id"),
        ("", {}, ""),
    ],
)
def test_the_models_name(setting, variables, model):
    named = environment(BASE_URL=URL) | variables
    assert resolve("auto", setting, named).model == model


def test_githubs_model_is_the_settings_else_the_environments():
    assert resolve("github", "mine", {"COPILOT_MODEL": "theirs"}).model == "mine"
    assert resolve("auto", "", {"COPILOT_MODEL": "theirs"}).model == "theirs"


# -- keys -------------------------------------------------------------------------------------


def test_a_key_goes_with_its_own_address():
    for setting in ("auto", URL, f"{URL}/"):
        config = resolve(setting, "", NAMED).config
        assert config["api_key"] == "secret"
        assert config["bearer_token"] == "token"
        assert config["headers"] == {"X-A": "secret"}


@pytest.mark.parametrize("setting", [OTHER, "http://127.0.0.1:8081/v1", f"{URL}/more", URL[:-3]])
def test_a_key_is_never_sent_to_another_address(setting):
    provider = resolve(setting, "", NAMED)
    assert provider.config == {"type": "openai", "base_url": setting}


def test_a_key_is_in_no_repr():
    assert "secret" not in repr(resolve("auto", "", NAMED))


# -- the rest of the configuration ------------------------------------------------------------


def test_every_variable_of_the_runtime_is_handed_on():
    variables = environment(
        BASE_URL=URL,
        TYPE="anthropic",
        API_KEY="k",
        API_KEY_COMMAND="pass show k",
        BEARER_TOKEN="b",
        WIRE_API="responses",
        TRANSPORT="http",
        MODEL_ID="m",
        WIRE_MODEL="w",
        MAX_PROMPT_TOKENS="16000",
        MAX_OUTPUT_TOKENS="4000",
    )
    assert resolve("auto", "", variables).config == {
        "type": "anthropic",
        "base_url": URL,
        "api_key": "k",
        "api_key_command": "pass show k",
        "bearer_token": "b",
        "wire_api": "responses",
        "transport": "http",
        "model_id": "m",
        "wire_model": "w",
        "max_prompt_tokens": 16000,
        "max_output_tokens": 4000,
    }


def test_an_azure_provider_has_its_version():
    config = resolve(
        "auto", "", environment(BASE_URL=URL, TYPE="azure", AZURE_API_VERSION="2026-01-01")
    ).config
    assert config["type"] == "azure"
    assert config["azure"] == {"api_version": "2026-01-01"}


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("X-A: 1", {"X-A": "1"}),
        ("X-A: 1\nX-B:2", {"X-A": "1", "X-B": "2"}),
        ("X-A: 1\\nX-B: 2", {"X-A": "1", "X-B": "2"}),
        ("X-A: a:b\r\n", {"X-A": "a:b"}),
        ("X-A: 1\nno header\n\n", {"X-A": "1"}),
    ],
)
def test_headers_come_one_a_line_a_typed_backslash_n_included(text, headers):
    assert resolve("auto", "", environment(BASE_URL=URL, HEADERS=text)).config["headers"] == headers


@pytest.mark.parametrize("name", ["MAX_PROMPT_TOKENS", "MAX_OUTPUT_TOKENS"])
@pytest.mark.parametrize("text", ["many", "1.5", "16k"])
def test_a_limit_that_is_no_number_names_its_variable(name, text):
    with pytest.raises(NoProviderError) as error:
        resolve("auto", "", environment(BASE_URL=URL) | environment(**{name: text}))
    assert f"COPILOT_PROVIDER_{name} is {text!r}" in error.value.what


def test_empty_variables_are_as_if_unset():
    variables = environment(
        BASE_URL=URL, API_KEY="", MAX_PROMPT_TOKENS="", HEADERS="", AZURE_API_VERSION="", TYPE=""
    )
    assert resolve("auto", "", variables).config == {"type": "openai", "base_url": URL}


# -- asking for the list of models ------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "headers"),
    [
        ({}, {}),
        ({"api_key": "k"}, {"Authorization": "Bearer k"}),
        ({"bearer_token": "b", "api_key": "k"}, {"Authorization": "Bearer b"}),
        ({"type": "azure", "api_key": "k"}, {"api-key": "k"}),
        ({"type": "anthropic", "api_key": "k"}, {"x-api-key": "k"}),
        ({"headers": {"X-A": "1"}, "api_key": "k"}, {"X-A": "1", "Authorization": "Bearer k"}),
    ],
)
def test_the_key_is_sent_the_way_the_provider_wants_it(config, headers):
    assert _authorization(config) == headers


def test_the_configured_headers_are_not_changed():
    config = {"headers": {"X-A": "1"}, "api_key": "k"}
    _authorization(config)
    assert config["headers"] == {"X-A": "1"}


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch):
    """Let a provider answer without a network; return what it was asked."""
    asked: list[httpx.Request] = []

    def set_up(reply: httpx.Response | Exception) -> list[httpx.Request]:
        def handle(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            if isinstance(reply, Exception):
                raise reply
            return reply

        class Client(httpx.AsyncClient):
            def __init__(self, **options) -> None:
                super().__init__(transport=httpx.MockTransport(handle), **options)

        monkeypatch.setattr(httpx, "AsyncClient", Client)
        return asked

    return set_up


def models(url: str = URL) -> list[str]:
    return asyncio.run(list_models(Provider("byok", "", {"base_url": url, "api_key": "k"})))


@pytest.mark.parametrize("url", [URL, f"{URL}/"])
def test_a_provider_lists_its_models(answered, url):
    asked = answered(httpx.Response(200, json={"data": [{"id": "a"}, {"id": "b"}]}))
    assert models(url) == ["a", "b"]
    assert str(asked[0].url) == f"{URL}/models"
    assert asked[0].headers["Authorization"] == "Bearer k"


@pytest.mark.parametrize("kind", ["local", "byok"])
def test_the_key_of_the_embedded_model_goes_to_no_proxy(monkeypatch, kind):
    told: list[bool] = []

    class Client(httpx.AsyncClient):
        def __init__(self, *, trust_env: bool, **options) -> None:
            told.append(trust_env)
            answer = httpx.Response(200, json={"data": []})
            super().__init__(transport=httpx.MockTransport(lambda _: answer), **options)

    monkeypatch.setattr(httpx, "AsyncClient", Client)
    assert asyncio.run(list_models(Provider(kind, "", {"base_url": URL}))) == []
    assert told == [kind != "local"]


def test_a_provider_that_refuses_says_its_status(answered):
    answered(httpx.Response(401, json={"data": []}))
    with pytest.raises(ProviderError, match=f"{URL}/models answered 401") as error:
        models()
    assert error.value.status == 401


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"data": None}),
        httpx.Response(200, json={"data": [{}]}),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
    ],
    ids=repr,
)
def test_a_provider_that_does_not_list_its_models_is_named(answered, reply):
    answered(reply)
    with pytest.raises(ProviderError, match="did not list its models") as error:
        models()
    assert URL in error.value.what
    assert "COPILOT_PROVIDER_BASE_URL" in error.value.do
