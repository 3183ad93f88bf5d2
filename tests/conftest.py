"""What every test gets: a state folder of its own, no sign-in, one native runtime."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from fetched import CACHE
from scripted_model import ScriptedModel

from copilot_jupyter.conversation.sessions import Sessions
from copilot_jupyter.runtime.fetch import ensure_runtime
from copilot_jupyter.settings import Copilot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What a shell runs in the background ignores Ctrl-C, and so would all that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_OURS = ("COPILOT_", "GH_TOKEN", "GITHUB_TOKEN", "JPY_")


@pytest.fixture(scope="session")
def runtime_program() -> str:
    """The native runtime that the tests run on: COPILOT_CLI_PATH, else what `setup` fetches."""
    if chosen := os.environ.get("COPILOT_CLI_PATH"):
        return chosen
    os.environ["COPILOT_JUPYTER_CACHE"] = str(CACHE)
    os.environ["COPILOT_OFFLINE"] = "true"
    return str(ensure_runtime(print))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of this test's own; nothing of the developer's environment leaks in."""
    for name in list(os.environ):
        if name.startswith(_OURS) and name not in (
            "COPILOT_CLI_PATH",
            "COPILOT_JUPYTER_TEST_CACHE",
        ):
            monkeypatch.delenv(name)
    folder = tmp_path / "copilot-home"
    monkeypatch.setenv("COPILOT_HOME", str(folder))
    monkeypatch.setenv("COPILOT_OFFLINE", "true")
    monkeypatch.setenv("COPILOT_JUPYTER_CACHE", str(CACHE))
    return folder


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, runtime_program: str) -> Iterator[ScriptedModel]:
    """A scripted model that the environment names as the provider."""
    with ScriptedModel() as scripted:
        for name, value in scripted.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("COPILOT_CLI_PATH", runtime_program)
        yield scripted


@pytest.fixture
def sessions(model: ScriptedModel, home: Path) -> Iterator[Sessions]:
    """The sessions of one process, on the real runtime; closed at the end."""
    opened = Sessions(Copilot())
    yield opened
    opened.close()
