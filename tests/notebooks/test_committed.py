"""The committed notebooks run with no account, no model and no runtime, from their bundles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from copilot_jupyter.conversation.portable import bundle_file, notebook_turns
from copilot_jupyter.state.journal import is_prompt

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(path):
    return [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]


def test_all_pass_nbval_on_a_machine_without_anything(tmp_path):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("COPILOT_")
    }
    nowhere = {"COPILOT_PROVIDER_BASE_URL": "http://127.0.0.1:9/v1", "COPILOT_MODEL": "none"}
    environment |= {**nowhere, "HOME": str(tmp_path), "COPILOT_OFFLINE": "true"}
    environment |= {"COPILOT_CLI_PATH": str(tmp_path / "no-runtime")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval"]
    for _ in range(2):  # the second time the sessions are there already
        done = subprocess.run(
            [*command, "notebooks"], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-3000:]
        assert f"{sum(len(cells(path)) for path in NOTEBOOKS)} passed" in done.stdout


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_cell_that_asks_is_excused(path):
    asking = [cell for cell in cells(path) if "copilot" in "".join(cell["source"])]
    excused = ("%copilot_status", "%%copilot --dry-run")  # they ask nothing, and tell of here
    asking = [cell for cell in asking if not "".join(cell["source"]).startswith(excused)]
    assert asking
    for cell in asking:
        assert not any(tag.startswith("nbval") for tag in cell["metadata"].get("tags", ()))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_and_its_bundle_tell_of_the_same_turns(path):
    turns = notebook_turns.read(path)
    [found] = {turn.session for turn in turns}
    held = bundle_file.load(path.with_name(f"{found}.copilot.jsonl"))
    prompts = [event["id"] for event in held.events if is_prompt(event)]
    assert {turn.event for turn in turns} <= set(prompts)
    assert held.secrets == 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_and_its_bundle_name_no_place_on_this_machine(path):
    for file in (path, *path.parent.glob("*.copilot.jsonl")):
        text = file.read_text()
        for place in (str(ROOT), str(Path.home()) + "/", tempfile.gettempdir() + "/"):
            assert place not in text, f"{place} in {file.name}"
