"""Every block of code in the docs: run in a real kernel, or looked at where it can't be."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from drivers import NotebookKernel
from pages import LANGUAGES, PAGES, ROOT, blocks, pattern
from scripted_model import Reply

from copilot_jupyter.notebook.magics.flags import FLAGS, parse

#: Programs of others that a page shows; what is ours is checked word by word.
OTHERS = ("copilot", "git", "jupyter", "papermill", "pip", "pytest")
WITH_CELLS = [page for page in PAGES if any(b.language == "ipython" for b in blocks(page))]
#: The one page that every change is run against; the others are a campaign.
FIRST = "quickstart"


def ids(page: Path) -> str:
    return page.stem


# -- what can be told by looking ------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_block_says_what_it_is(page):
    before = None
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        assert block.language in LANGUAGES, f"{where} is {block.language or 'of no language'}"
        assert block.note("not run") != "", f"{where} is not run, and no reason is given"
        if block.language == "output":
            assert before is not None, f"{where} follows no cell"
            assert before.is_run, f"{where} shows what a cell would, that is not run"
            assert before.language in ("ipython", "python"), where
        before = block


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_what_is_not_run_could_be_typed(page):
    for block in blocks(page):
        if block.language == "yaml":
            assert yaml.safe_load(block.text), f"{page.name}:{block.line}"
        if block.is_run:
            continue
        if block.language == "python":
            compile(block.text, f"{page.name}:{block.line}", "exec")
        if block.language == "ipython":
            for line in block.text.splitlines():
                if line.startswith("%copilot"):
                    name, _, rest = line[1:].partition(" ")
                    parse(f"%{name}", rest, FLAGS[name], anywhere=True)


def commands(page: Path) -> list[list[str]]:
    lines = [
        line for block in blocks(page) if block.language == "sh" for line in block.text.splitlines()
    ]
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_command_exists(page):
    for block in (block for block in blocks(page) if block.language == "sh"):
        subprocess.run(["bash", "-n", "-c", block.text], check=True)
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    for words in commands(page):
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if not words or words[0] == "export":
            continue
        if words[0] == "make":
            assert words[1] in targets, words
        elif words[0] == "copilot-jupyter":
            _check_ours(words[1:])
        else:
            assert words[0] in OTHERS, words
        for extras in re.findall(r"copilot-jupyter\[([\w,]+)\]", " ".join(words)):
            project = (ROOT / "pyproject.toml").read_text()
            for extra in extras.split(","):
                assert re.search(rf"^{extra} = \[", project, re.M), extra


def _check_ours(words: list[str]) -> None:
    command = [sys.executable, "-m", "copilot_jupyter.cli", words[0], "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for flag in (word for word in words if word.startswith("--")):
        assert flag in done.stdout, f"copilot-jupyter {words[0]} has no {flag}"


# -- what is run ----------------------------------------------------------------------------------


@pytest.fixture
def kernel(model, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    with NotebookKernel(folder / "analysis.ipynb", answers=[]) as opened:
        yield opened


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[] if page.stem == FIRST else [pytest.mark.campaign])
        for page in WITH_CELLS
    ],
    ids=ids,
)
@pytest.mark.timeout(300)
def test_a_page_runs_from_top_to_bottom(page, kernel, model):
    shown = ""
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if block.language == "output":
            assert pattern(block.text).search(shown), f"{where}\n{block.text}\nis not in\n{shown}"
        elif not block.is_run:
            continue
        elif block.note("run in a shell") is not None:
            for line in block.text.splitlines():
                _in_a_shell(kernel, line, where)
        elif block.note("run as a script") is not None:
            shown = _in_a_shell(kernel, shlex.join([sys.executable, "-c", block.text]), where)
        elif block.language in ("ipython", "python"):
            shown = _run(kernel, model, block, where)


def _run(kernel, model, block, where):
    for kind, text in block.notes:
        if kind == "the model answers":
            model.will(text)
        elif kind == "the model calls":
            tool, _, arguments = text.partition(" ")
            model.will(Reply(tool=tool, arguments=json.dumps(json.loads(arguments))))
        elif kind == "restart the kernel":
            kernel.restart()
    again = kernel.cells[-1] if block.note("in the same cell") is not None else None
    result = kernel.run(block.text.rstrip("\n"), again)
    if block.note("fails") is not None:
        # The cell is not part of the notebook that is saved and run again.
        kernel.cells.pop()
        return result.failed().traceback
    assert result.status == "ok", f"{where}\n{block.text}\n{result.traceback}"
    return result.everything


def _in_a_shell(kernel, line, where):
    """Run a line where the notebook lies, just saved, as whoever has the environment would."""
    path = kernel.save()
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": programs, "IPYTHONDIR": str(path.parent / "ipython")}
    done = subprocess.run(
        ["bash", "-c", line], cwd=path.parent, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{where}\n{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout
