"""The settings: what they take, what they say of anything else, and the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from traitlets import TraitError
from traitlets.config import Config

from copilot_jupyter.errors import BadInputError, CopilotError
from copilot_jupyter.settings import ENVIRONMENT, Copilot, cache_home, state_home


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CopilotError, "full_tracebacks", False)


def test_with_nothing_set_everything_has_a_default():
    settings = Copilot()
    assert settings.provider == "auto"
    assert settings.model == ""
    assert settings.local_model == ""
    assert settings.stall_timeout == 120
    assert settings.idle_release == 60
    assert settings.full_tracebacks is False


def test_every_setting_can_be_configured_and_says_what_it_is():
    traits = Copilot.class_traits(config=True)
    assert {"provider", "model", "stall_timeout", "full_tracebacks"} <= set(traits)
    for name, trait in traits.items():
        assert trait.help.endswith("."), name


# -- what is taken ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["auto", "github", "local", "http://127.0.0.1:8080/v1", "https://e.example/v1"]
)
def test_a_provider_is_a_word_or_an_address(value):
    settings = Copilot()
    settings.provider = value
    assert settings.provider == value


@pytest.mark.parametrize("value", ["", "Auto", "openai", "e.example/v1", "ftp://e.example", " "])
def test_another_provider_is_refused_in_a_sentence_and_the_old_one_stays(value):
    settings = Copilot()
    with pytest.raises(TraitError) as error:
        settings.provider = value
    assert str(error.value).startswith(f"Copilot.provider is {value!r}; use 'auto', 'github'")
    assert settings.provider == "auto"


def test_a_local_model_is_a_file(tmp_path):
    file = tmp_path / "small.gguf"
    file.write_bytes(b"GGUF")
    settings = Copilot(local_model=str(file))
    assert settings.local_model == str(file)
    with pytest.raises(TraitError, match=r"nowhere\.gguf', and there is no such file"):
        settings.local_model = str(tmp_path / "nowhere.gguf")
    with pytest.raises(TraitError, match="there is no such file"):
        settings.local_model = str(tmp_path)
    settings.local_model = ""
    assert settings.local_model == ""


@pytest.mark.parametrize("name", ["stall_timeout", "idle_release"])
@pytest.mark.parametrize("value", [0, -1, 0.05, float("nan"), "soon", None])
def test_a_time_is_a_number_of_seconds(name, value):
    settings = Copilot()
    before = getattr(settings, name)
    with pytest.raises(TraitError):
        setattr(settings, name, value)
    assert getattr(settings, name) == before


def test_full_tracebacks_reach_the_errors():
    settings = Copilot()
    settings.full_tracebacks = True
    assert CopilotError.full_tracebacks
    settings.full_tracebacks = False
    assert not CopilotError.full_tracebacks


def test_ipythons_configuration_is_read():
    settings = Copilot(config=Config({"Copilot": {"model": "gpt-5", "stall_timeout": 5}}))
    assert settings.model == "gpt-5"
    assert settings.stall_timeout == 5


# -- the environment --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("MODEL", "gpt-5", "gpt-5"),
        ("PROVIDER", "github", "github"),
        ("PROVIDER", "http://127.0.0.1/v1", "http://127.0.0.1/v1"),
        ("STALL_TIMEOUT", "7.5", 7.5),
        ("IDLE_RELEASE", "5", 5.0),
        ("FULL_TRACEBACKS", "true", True),
        ("FULL_TRACEBACKS", "0", False),
    ],
)
def test_a_setting_can_come_from_the_environment(monkeypatch, name, text, value):
    monkeypatch.setenv(f"COPILOT_JUPYTER_{name}", text)
    assert getattr(Copilot(), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PROVIDER", "openai"),
        ("STALL_TIMEOUT", "soon"),
        ("STALL_TIMEOUT", "0"),
        ("FULL_TRACEBACKS", "perhaps"),
        ("LOCAL_MODEL", "/nowhere.gguf"),
    ],
)
def test_a_bad_value_in_the_environment_names_the_variable(monkeypatch, name, text):
    monkeypatch.setenv(f"COPILOT_JUPYTER_{name}", text)
    with pytest.raises(BadInputError) as error:
        Copilot()
    assert f"COPILOT_JUPYTER_{name} is set to {text!r}" in error.value.what
    assert "unset it" in error.value.do


def test_what_a_program_passes_comes_before_the_environment(monkeypatch):
    monkeypatch.setenv("COPILOT_JUPYTER_MODEL", "from-the-environment")
    assert Copilot(model="passed").model == "passed"


def test_other_variables_set_nothing(monkeypatch):
    monkeypatch.setenv("COPILOT_MODEL", "x")
    monkeypatch.setenv("COPILOT_JUPYTER_NOTEBOOK", "a.ipynb")
    monkeypatch.setenv("COPILOT_JUPYTER_NONSENSE", "x")
    assert Copilot().model == ""
    assert ENVIRONMENT == "COPILOT_JUPYTER_"


# -- folders ----------------------------------------------------------------------------------


def test_the_state_folder_is_the_runtimes_own(monkeypatch, tmp_path):
    monkeypatch.setenv("COPILOT_HOME", str(tmp_path / "state"))
    assert state_home() == tmp_path / "state"
    monkeypatch.setenv("COPILOT_HOME", "")
    assert state_home() == Path.home() / ".copilot"
    monkeypatch.delenv("COPILOT_HOME")
    assert state_home() == Path.home() / ".copilot"


def test_a_relative_state_folder_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COPILOT_HOME", "state")
    assert state_home() == tmp_path / "state"


def test_the_cache_is_where_caches_are(monkeypatch, tmp_path):
    monkeypatch.setenv("COPILOT_JUPYTER_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_home() == tmp_path / "mine"
    monkeypatch.delenv("COPILOT_JUPYTER_CACHE")
    assert cache_home() == tmp_path / "xdg" / "copilot-jupyter"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_home() == Path.home() / ".cache" / "copilot-jupyter"
