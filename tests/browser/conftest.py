"""One browser for each file of tests; a scripted model and a JupyterLab for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browser.lab import Browser, Lab
from scripted_model import ScriptedModel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    with ScriptedModel() as model:
        yield model


@pytest.fixture
def lab(tmp_path: Path, model: ScriptedModel) -> Iterator[Lab]:
    env = {**model.environment(), "COPILOT_HOME": str(tmp_path / "copilot")}
    with Lab(tmp_path / "lab", env=env) as lab:
        yield lab
