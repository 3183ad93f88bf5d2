"""A desk for every test of a kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from desk import Desk
from scripted_model import ScriptedModel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def desk(tmp_path: Path, runtime_program: str) -> Iterator[Desk]:
    with ScriptedModel() as model:
        made = Desk(tmp_path, model, runtime_program)
        yield made
        made.close()


@pytest.fixture(scope="module")
def shared_desk(tmp_path_factory: pytest.TempPathFactory, runtime_program: str) -> Iterator[Desk]:
    """A desk for tests that need no fresh kernel."""
    with ScriptedModel() as model:
        made = Desk(tmp_path_factory.mktemp("desk"), model, runtime_program)
        yield made
        made.close()
