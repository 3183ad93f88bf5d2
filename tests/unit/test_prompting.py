"""A typed prompt becomes a question: names that are unknown, files, and what is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from copilot_jupyter.conversation.shield import masks
from copilot_jupyter.notebook import prompting
from copilot_jupyter.settings import Copilot

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" * 2


def fill(prompt: str, folder: Path | str = ".", **more):
    return prompting.fill(prompt, {"n": 7}, Copilot(), folder=str(folder), **more)


@pytest.mark.parametrize(
    "prompt",
    ["type User = {id:header}", "{frame:shema}", "{frame:head=}", "{key!secret_ok}", "{frame}"],
)
def test_unknown_names_stay_as_written(prompt):
    assert fill(prompt).question.text == prompt


def test_unknown_names_are_told_with_their_formats():
    assert fill("{n} {frame:schema} {frame:shema} {{other}}").absent == ("frame:schema",)


def test_secrets_of_files_are_counted(tmp_path):
    (tmp_path / "notes.txt").write_text(f"the key is {TOKEN}\n")
    filled = fill("{n}", tmp_path, files=["notes.txt"])
    assert TOKEN not in filled.question.text
    assert filled.redacted == filled.question.text.count(masks.OPEN) == 1
    assert "secrets withheld in all: 1" in prompting.dry_run(filled)


def test_a_file_of_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "notes.txt").write_text("from home")
    assert "from home" in fill("Read it.", files=["~/notes.txt"]).question.text


@pytest.mark.parametrize("name", ["missing.txt", "", "a\0b", "~nobody-of-this-name/x"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    filled = fill("Read it.", tmp_path, files=[name])
    assert filled.missing is not None
    assert filled.missing.what.startswith(f"--attach {name!r} cannot be read: ")
    assert filled.absent == (f"file {name}",)


def test_a_file_without_an_end_is_too_large():
    filled = fill("Read it.", files=["/dev/zero"])
    assert filled.missing is not None
    assert "larger than 5 MB" in filled.missing.what
