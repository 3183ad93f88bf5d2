"""The version is said in three files, and is one."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_is_the_same_everywhere():
    package = json.loads((ROOT / "copilot_jupyter/labextension/package.json").read_text())
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert package["version"] == PROJECT["version"]
    assert newest is not None
    assert newest[1] == PROJECT["version"]


def test_no_module_says_the_version_itself():
    number = PROJECT["version"]
    for path in (ROOT / "copilot_jupyter").rglob("*.py"):
        assert f'"{number}"' not in path.read_text(encoding="utf-8"), path


def test_every_dependency_has_a_lowest_version():
    extras = PROJECT["optional-dependencies"].values()
    for line in (*PROJECT["dependencies"], *(line for extra in extras for line in extra)):
        assert re.match(r"[\w-]+>=\d", line), line
