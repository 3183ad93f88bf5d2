"""Every test that the table of docs/reliability.md names is there.

The files are parsed, not collected: that takes milliseconds, and imports nothing.
"""

from __future__ import annotations

import ast
import itertools
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"

#: A test as pytest names it: file, function, and which of its cases.
TEST = re.compile(r"(tests/[\w/]+\.py)::(\w+)(?:\[([^\]]+)\])?")


def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def rows() -> list[str]:
    """The rows of the table of faults."""
    lines = itertools.dropwhile(lambda line: not line.startswith("| fault |"), text().splitlines())
    return list(itertools.takewhile(lambda line: line.startswith("|"), lines))[2:]


def named() -> list[tuple[str, str, str]]:
    return sorted(set(TEST.findall(text())))


@cache
def parsed(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def cases(module: ast.Module) -> set[str]:
    """What cases of a parametrized test can be called: texts, numbers, names of functions."""
    found = {
        str(node.value).replace("\\", "\\\\")
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str | int | bytes)
    }
    return found | {node.name for node in ast.walk(module) if isinstance(node, ast.FunctionDef)}


def is_parametrized(test: ast.FunctionDef) -> bool:
    return any("parametrize" in ast.unparse(decorator) for decorator in test.decorator_list)


def test_the_page_has_a_table():
    assert len(rows()) >= 30
    assert len(named()) >= 30


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.split("|")[1].strip())
def test_every_row_names_a_test(row):
    assert row.count("|") == 5, "four columns"
    assert TEST.search(row.split("|")[4]), "the last column names the test"


@pytest.mark.parametrize(("file", "name", "case"), named(), ids=lambda part: part or "all")
def test_every_test_that_is_named_exists(file, name, case):
    tests = [
        node
        for node in parsed(file).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    assert len(tests) == 1
    if case:
        assert is_parametrized(tests[0])
        assert case in cases(parsed(file))
