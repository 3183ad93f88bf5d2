"""The lowest versions that pyproject.toml allows, and the Pythons: the tests pass on each."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from itertools import chain

import pytest
from environments import Environment, clone, interpreter
from fetched import CACHE

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(900)]

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
THIS = f"{sys.version_info.major}.{sys.version_info.minor}"

#: The rules, and one test each of the real runtime, a real kernel and headless tools.
TESTS = (
    *("tests/unit", "tests/runtime/test_recipe.py", "tests/kernel/test_restart.py"),
    "tests/notebooks/test_headless.py",
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return clone(tmp_path_factory.mktemp("tree") / "repository")


def run_tests(environment, tree):
    said = environment.run(
        *("python", "-m", "pytest", "-q", "-n", "2", "-m", "not campaign", *TESTS),
        cwd=tree,
        timeout=800,
        COPILOT_JUPYTER_TEST_CACHE=str(CACHE),
    )
    assert re.search(r"^\d{3,} passed", said, re.MULTILINE), said[-2000:]


def named(tree):
    """Every dependency of a person, and the version that pyproject.toml names as its lowest."""
    project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return dict(re.match(r"([\w-]+)>=([\d.]+)", line).groups() for line in chain(*lists))


def test_the_lowest_versions_that_are_allowed(tree, tmp_path):
    environment = Environment(tmp_path, interpreter(PYTHONS[0]) or sys.executable)
    environment.install("--resolution", "lowest-direct", "--editable", f"{tree}[lab,local,secrets]")
    # The tools of the tests may be as new as these versions let them be.
    lowest = tmp_path / "lowest.txt"
    lowest.write_text("".join(f"{name}=={version}.*\n" for name, version in named(tree).items()))
    environment.install("--group", f"{tree}/pyproject.toml:test", "--constraint", str(lowest))
    said = environment.run("pip", "list", "--format=json", cwd=tmp_path)
    installed = {entry["name"].lower(): entry["version"] for entry in json.loads(said)}
    assert len(named(tree)) > 10
    for name, version in named(tree).items():
        # "9.0" and "9.0.0" are one version; "2026.10" has a build number behind it.
        assert f"{installed[name]}.".startswith(f"{version}."), f"{name} {installed[name]}"
    run_tests(environment, tree)


@pytest.mark.parametrize("version", [version for version in PYTHONS if version != THIS])
def test_the_highest_versions_on_the_other_pythons(tree, tmp_path, version):
    """`make test` runs them on this one."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} on this machine")
    environment = Environment(tmp_path, python)
    environment.install("--editable", f"{tree}[lab,local,secrets]")
    environment.install("--group", f"{tree}/pyproject.toml:test")
    run_tests(environment, tree)
