"""A notebook answered live runs under every tool that runs notebooks, and asks nobody."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nbformat
import pytest
from drivers import NotebookKernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from scripted_model import Reply, ScriptedModel

from copilot_jupyter.conversation import transcript
from copilot_jupyter.state.store import Store

if TYPE_CHECKING:
    from pathlib import Path

NAME = "Live.ipynb"
BIND = "%load_ext copilot_jupyter\n%copilot_resume live --create"
ANSWERS = (
    "Types with holes.",
    "# Code\n\n```ts\nlet x = 1\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
)
CELLS = (
    BIND,
    "%%copilot\nLet's discuss TypeScript generics",
    "%%copilot --into shown\nShow some code",
    "shown.code[0]",
    "%%copilot\ncontinue",
    "%%copilot\ncontinue",
    "line = %copilot Is this a question?",
    "print(line.text)",
    "import copilot_jupyter\n[copilot_jupyter.ask('continue').text for _ in range(3)]",
)
#: How many turns these cells are.
TURNS = 8


@dataclass
class Machine:
    """A notebook beside a state folder, and the environment of whoever runs it."""

    folder: Path
    home: Path
    env: dict[str, str]

    @property
    def path(self) -> Path:
        return self.folder / NAME

    @property
    def prompts(self) -> list[str]:
        return [turn.prompt for turn in transcript.turns(Store(self.home).journal("live").events)]


def answered_live(folder, program, cells, replies):
    """Run cells as a person does in JupyterLab, and return where notebook and session lie."""
    machine = Machine(folder / "work", folder / "home", {})
    with ScriptedModel() as model:
        model.will(*replies)
        env = {
            **model.environment(),
            "COPILOT_HOME": str(machine.home),
            "COPILOT_CLI_PATH": program,
            "COPILOT_JUPYTER_ALLOW": "run_python",
        }
        with NotebookKernel(machine.path, answers=[], env=env) as notebook:
            for source in cells:
                notebook.run(source).ok()
            notebook.save()
            notebook.run("%copilot_export live.copilot.jsonl").ok()
    return machine


@pytest.fixture(scope="module")
def written(tmp_path_factory, runtime_program):
    """The notebook as JupyterLab leaves it after its first run, its session and its bundle."""
    folder = tmp_path_factory.mktemp("live")
    machine = answered_live(folder, runtime_program, CELLS, ANSWERS)
    assert len(machine.prompts) == TURNS
    return machine


@pytest.fixture
def machine(written, tmp_path):
    """The same in a place of this test's own."""
    return elsewhere(written, tmp_path)


def elsewhere(written, tmp_path):
    """Copy a machine's notebook and session to another place."""
    made = Machine(tmp_path / "work", tmp_path / "home", {})
    made.folder.mkdir(parents=True)
    shutil.copy(written.path, made.path)
    shutil.copytree(written.home, made.home)
    index = Store(made.home).folder("live") / "client-metadata.json"
    index.write_text(index.read_text().replace(str(written.folder), str(made.folder)))
    keep = {name: value for name, value in os.environ.items() if not name.startswith("COPILOT_")}
    made.env = {
        **keep,
        "COPILOT_HOME": str(made.home),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    return made


@pytest.fixture(params=["a model", "nothing"])
def provided(request, machine, tmp_path, runtime_program):
    """The machine with a model that would answer; or with no account, model or runtime at all."""
    if request.param == "a model":
        with ScriptedModel() as model:
            machine.env |= {**model.environment(), "COPILOT_CLI_PATH": runtime_program}
            yield machine
            assert model.requests == []
        return
    closed = ScriptedModel()
    machine.env |= closed.environment()
    with closed:
        pass
    nobody = tmp_path / "nobody"
    nobody.mkdir()
    machine.env |= {"HOME": str(nobody), "COPILOT_JUPYTER_CACHE": str(nobody)}
    machine.env["XDG_CACHE_HOME"] = str(nobody)
    yield machine
    assert not list(nobody.rglob("*copilot*"))  # nor was a runtime fetched


# -- the tools ---


def by_nbclient(machine):
    notebook = nbformat.read(machine.path, as_version=4)
    where = {"metadata": {"path": str(machine.folder)}}
    NotebookClient(notebook, kernel_name="python3", timeout=60, resources=where).execute(
        env=machine.env
    )
    return notebook


def by_papermill(machine):
    command("-m", "papermill", NAME, "out/Done.ipynb", "--no-progress-bar", machine=machine)
    return nbformat.read(machine.folder / "out" / "Done.ipynb", as_version=4)


def by_nbconvert(machine):
    line = "-m jupyter nbconvert --to notebook --execute --output-dir out --output Done"
    command(*line.split(), NAME, machine=machine)
    return nbformat.read(machine.folder / "out" / "Done.ipynb", as_version=4)


def command(*arguments, machine, fails=False):
    (machine.folder / "out").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=machine.folder,
        env=machine.env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    output = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, output
    return output


def nbval(machine, *, fails=False):
    """Run the notebook as a strict test: every output of every cell is compared."""
    line = "-m pytest --nbval -q -p no:cacheprovider -p no:xdist -c"
    return command(*line.split(), os.devnull, "--rootdir=.", NAME, machine=machine, fails=fails)


def outputs(notebook):
    """What each cell shows: the answers byte for byte, counts of executions aside."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[{"data": o.get("data"), "text": o.get("text")} for o in cell.outputs] for cell in code]


# -- what they show ---


@pytest.mark.parametrize(
    "execute",
    [
        by_nbclient,
        *(pytest.param(way, marks=pytest.mark.campaign) for way in [by_papermill, by_nbconvert]),
    ],
)
def test_run_all_asks_nobody_and_shows_the_same(provided, execute):
    saved = nbformat.read(provided.path, as_version=4)
    journal = Store(provided.home).journal_path("live").read_bytes()
    done = execute(provided)
    assert outputs(done) == outputs(saved)
    asked = [cell for cell in done.cells if cell.source.startswith("%%copilot")]
    assert [len(cell.outputs) for cell in asked] == [1, 1, 1, 1]
    assert all(set(cell.outputs[0].data) == {"text/plain", "text/html"} for cell in asked)
    assert [cell.outputs[0].data["text/plain"] for cell in asked[:2]] == list(ANSWERS)
    assert Store(provided.home).journal_path("live").read_bytes() == journal
    assert Store(provided.home).ids() == ["live"]


@pytest.mark.campaign
def test_a_notebook_saved_live_is_a_strict_test_of_itself(provided):
    tags = [cell.metadata for cell in nbformat.read(provided.path, as_version=4).cells]
    assert not any(tags)  # nothing is left out of the comparison
    output = nbval(provided)
    assert f"{len(CELLS)} passed" in output
    assert len(provided.prompts) == TURNS
    assert Store(provided.home).ids() == ["live"]


@pytest.mark.campaign
def test_that_strict_test_can_fail(machine):
    """An answer that is not the stored one is noticed."""
    notebook = nbformat.read(machine.path, as_version=4)
    notebook.cells[1].outputs[0].data["text/html"] += "!"
    nbformat.write(notebook, machine.path)
    output = nbval(machine, fails=True)
    assert f"1 failed, {len(CELLS) - 1} passed" in output


@pytest.mark.campaign
def test_a_cell_whose_turn_ran_code_is_a_strict_test_too(tmp_path, runtime_program):
    code = "import sys\nprint('begun')\nprint('careful', file=sys.stderr)\ndisplay([1])\n6 * 7"
    replies = [Reply(tool="run_python", arguments=json.dumps({"code": code})), "It is 42."]
    cells = [BIND, "%%copilot\nCompute it", "%%copilot\nAnd then?"]
    live = answered_live(tmp_path / "live", runtime_program, cells, replies)
    machine = elsewhere(live, tmp_path / "copy")
    assert "3 passed" in nbval(machine)
    shutil.rmtree(machine.home)  # then the notebook's own turns and outputs are enough
    done = by_nbclient(machine)
    assert outputs(done)[1:] == outputs(nbformat.read(machine.path, as_version=4))[1:]


def test_a_committed_bundle_is_enough_for_a_strict_test(provided, written):
    """As CI runs `notebooks/`: an empty state folder, and the bundle beside the notebook."""
    shutil.rmtree(provided.home)
    shutil.copy(written.folder / "live.copilot.jsonl", provided.folder)
    output = nbval(provided)
    assert f"{len(CELLS)} passed" in output
    assert len(provided.prompts) == TURNS
    assert nbval(provided).count("failed") == 0  # and again, with the session there


def test_the_notebook_alone_is_enough_to_run_all(provided):
    """An empty state folder, no bundle; calls of `ask()` show nothing that could carry a turn."""
    shutil.rmtree(provided.home)
    saved = nbformat.read(provided.path, as_version=4)
    saved.cells.pop()
    nbformat.write(saved, provided.path)
    done = by_nbclient(provided)
    bound, *others = outputs(done)
    assert [output["data"]["text/plain"] for output in bound] == [
        f"live was rebuilt from {NAME}: 5 of 5 turns.",
        "Bound to live.",
    ]
    assert others == outputs(saved)[1:]
    assert len(provided.prompts) == 5


def test_replay_only_fails_at_a_prompt_without_an_answer_and_names_its_cell(machine):
    with ScriptedModel() as model:
        machine.env |= {**model.environment(), "COPILOT_JUPYTER_REPLAY": "only"}
        notebook = nbformat.read(machine.path, as_version=4)
        notebook.cells.append(nbformat.v4.new_code_cell("%%copilot\nA prompt nobody has asked"))
        notebook.cells.append(nbformat.v4.new_code_cell("reached = True"))
        nbformat.write(notebook, machine.path)
        with pytest.raises(CellExecutionError) as failure:
            by_nbclient(machine)
        said = re.sub(r"\x1b\[[0-9;]*m", "", str(failure.value))
        assert failure.value.ename == "NotAnsweredError"
        assert f"In [{len(CELLS) + 1}] asks 'A prompt nobody has asked'" in said
        assert model.requests == []
        output = nbval(machine, fails=True)
        assert f"{len(CELLS) + 1} passed" in output
        assert "A prompt nobody has asked" in output
        assert model.requests == []
    assert len(machine.prompts) == TURNS
