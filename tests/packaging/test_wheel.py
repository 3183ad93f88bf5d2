"""sdist and wheel: what is in them, and what a stranger has who installs the wheel alone."""

from __future__ import annotations

import json
import shutil
import tomllib
import zipfile
from pathlib import Path

import pytest
from environments import Environment, clone, uv

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(600)]

#: Where JupyterLab looks, below the prefix of an environment.
LABEXTENSION = "share/jupyter/labextensions/copilot-jupyter"

#: Imports every module of the package, with nothing but what the wheel asks for.
IMPORT_ALL = """
import pkgutil, copilot_jupyter
for found in pkgutil.walk_packages(copilot_jupyter.__path__, "copilot_jupyter."):
    __import__(found.name)
print(copilot_jupyter.__version__, copilot_jupyter.__file__)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return clone(tmp_path_factory.mktemp("tree") / "repository")


@pytest.fixture(scope="module")
def built(tree):
    """The folder with the sdist, and the wheel as built from the tree."""
    uv("build", "--quiet", "--sdist", "--wheel", "--out-dir", str(tree / "dist"), str(tree))
    return tree / "dist"


@pytest.fixture(scope="module")
def wheel(built):
    [path] = built.glob("*.whl")
    return path


@pytest.fixture
def stranger(tmp_path, wheel):
    """An environment with the wheel in it, installed with pip and without extras."""
    made = Environment(tmp_path / "stranger")
    made.run("pip", "install", "--quiet", str(wheel), cwd=tmp_path)
    return made


def contents(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def project(tree):
    return tomllib.loads((tree / "pyproject.toml").read_text())["project"]


def shown(path):
    """The cells of a notebook that ask, and their one output each."""
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    asked = [cell for cell in cells if "".join(cell["source"]).startswith("%%copilot")]
    assert all(len(cell["outputs"]) == 1 for cell in asked)
    return [cell["outputs"][0] for cell in asked]


# -- what is in them --------------------------------------------------------------------------


def test_the_wheel_holds_the_package_and_nothing_else(wheel, tree):
    found = contents(wheel)
    version = project(tree)["version"]
    data, info = (f"copilot_jupyter-{version}.{kind}/" for kind in ("data", "dist-info"))
    package = tree / "copilot_jupyter"
    ours = {str(path.relative_to(tree)) for path in package.rglob("*") if path.is_file()}
    inside = {name for name in ours if not name.startswith("copilot_jupyter/labextension/")}
    extension = {
        f"{data}data/{LABEXTENSION}/{name.partition('labextension/')[2]}" for name in ours - inside
    }
    notebook = {"copilot_jupyter/notebooks/01-quickstart.ipynb"}
    about = {name for name in found if name.startswith(info)}
    assert set(found) == inside | extension | notebook | about
    assert len(extension) == 2
    assert "copilot_jupyter/py.typed" in found  # what "Typing :: Typed" says
    assert f"{info}licenses/LICENSE" in found
    assert not any("test" in Path(name).name for name in found)


def test_the_wheel_is_small(wheel):
    # Nothing but source, a tenth of it the zip's own lists: 355 kB in November 2026, of 300 that
    # were aimed at before the tools.
    assert wheel.stat().st_size < 375_000


def test_what_an_index_shows(wheel, tree):
    text = next(v for k, v in contents(wheel).items() if k.endswith("/METADATA")).decode()
    head, _, body = text.partition("\n\n")
    assert f"Version: {project(tree)['version']}" in head.splitlines()
    assert "Classifier: Framework :: Jupyter :: JupyterLab :: Extensions :: Prebuilt" in head
    assert "License-Expression: MIT" in head
    assert body.strip() == (tree / "README.md").read_text().strip()


def test_the_sdist_builds_the_same_wheel(built, wheel, tmp_path):
    [sdist] = built.glob("*.tar.gz")
    uv("build", "--quiet", "--wheel", "--out-dir", str(tmp_path), str(sdist))
    [again] = tmp_path.glob("*.whl")
    assert again.name == wheel.name
    assert contents(again) == contents(wheel)


# -- what a stranger has ----------------------------------------------------------------------


def test_without_extras_it_imports_and_replays_the_quickstart(stranger, tmp_path):
    """From the wheel alone: no tree, no bundle, no account, no runtime."""
    stranger.run("pip", "check", cwd=tmp_path)
    said = stranger.run("python", "-W", "error", "-c", IMPORT_ALL, cwd=tmp_path)
    assert str(stranger.prefix) in said
    assert "usage" in stranger.run("copilot-jupyter", "--help", cwd=tmp_path)

    stranger.install("nbclient", "ipykernel")
    [quickstart] = stranger.prefix.glob("lib/*/site-packages/copilot_jupyter/notebooks/*.ipynb")
    saved, folder = shown(quickstart), tmp_path / "work"
    folder.mkdir()
    notebook = Path(shutil.copy(quickstart, folder))
    nothing = {"COPILOT_CLI_PATH": str(tmp_path / "no-runtime"), "COPILOT_OFFLINE": "true"}
    command = ["jupyter", "execute", "--inplace", str(notebook)]
    stranger.run(*command, cwd=folder, **nothing)
    done = shown(notebook)
    assert [output["data"] for output in done] == [output["data"] for output in saved]
    assert all(output["metadata"]["copilot_jupyter"]["replayed"] for output in done)

    # In the same surroundings a new prompt is asked, and nobody is there: it was a replay.
    asked = json.loads(notebook.read_text())
    asked["cells"][-1] |= {
        "cell_type": "code", "source": "%%copilot\nA prompt that nobody has asked yet",
        "outputs": [], "execution_count": None,
    }  # fmt: skip
    notebook.write_text(json.dumps(asked))
    said = stranger.run(*command, cwd=folder, fails=True, **nothing)
    assert "no-runtime" in said


def test_enable_uninstall_and_disable_leave_no_trace(stranger, tmp_path):
    stranger.install("ipykernel", "jupyter-client", "nbclient")
    kernel = {"cells": [], "metadata": {"kernelspec": {"name": "python3", "display_name": "P"}}}
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None}
    cell["source"] = "print(get_ipython().find_cell_magic('copilot') is not None)"
    notebook = tmp_path / "Started.ipynb"

    def started():
        """Whether a kernel that starts has the magic, and what it says beside that."""
        notebook.write_text(
            json.dumps({**kernel, "cells": [cell], "nbformat": 4, "nbformat_minor": 5})
        )
        said = stranger.run("jupyter", "execute", "--inplace", str(notebook), cwd=tmp_path)
        [output] = json.loads(notebook.read_text())["cells"][0]["outputs"]
        said = [line for line in said.splitlines() if "copilot" in line.lower()]
        return "".join(output["text"]).strip(), said

    assert started() == ("False", [])
    for place in ("--user", "--env"):
        stranger.run("copilot-jupyter", "enable", place, cwd=tmp_path)
        assert started() == ("True", [])
        stranger.run("copilot-jupyter", "disable", place, cwd=tmp_path)
        assert started() == ("False", [])
    assert list(stranger.home.rglob("*copilot[-_]jupyter*")) == []

    for place in ("--user", "--env"):
        stranger.run("copilot-jupyter", "enable", place, cwd=tmp_path)
    stranger.run("pip", "uninstall", "--yes", "--quiet", "copilot-jupyter", cwd=tmp_path)
    assert started() == ("False", [])  # uninstalled, and still enabled: nobody notices
    assert list(stranger.prefix.rglob("*copilot[-_]jupyter*")) == []
