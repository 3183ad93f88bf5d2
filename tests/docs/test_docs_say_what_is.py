"""What the docs say of the code is what the code says."""

from __future__ import annotations

import ast
import re
import sys

import pytest
from pages import DOCS, PAGES, ROOT, headings

from copilot_jupyter.notebook.magics.flags import FLAGS
from copilot_jupyter.settings import Copilot

sys.path.insert(0, str(DOCS))

import from_code

NOT_OURS = "Messages that are not ours"


def sentences() -> list[str]:
    """Every text of the source, ``…`` in the place of what is put in."""
    found = []
    for path in (ROOT / "copilot_jupyter").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (
                    part.value if isinstance(part, ast.Constant) else "…" for part in node.values
                )
                found.append(re.sub("…+", "…", "".join(map(str, parts))))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_every_message_of_the_troubleshooting_page_is_one_of_ours():
    known = sentences()
    quoted = [
        title for above, title in headings(DOCS / "troubleshooting.md", 3) if above != NOT_OURS
    ]
    assert len(quoted) > 40
    gone = [title for title in quoted if not any(title in sentence for sentence in known)]
    assert not gone


def test_the_page_of_magics_has_the_help_of_each():
    text = from_code.magics()
    sections = dict(re.findall(r"^### `%+(\w+)`\n(.*?)(?=^##|\Z)", text, re.M | re.S))
    assert sections.keys() == FLAGS.keys()
    for name, flags in FLAGS.items():
        missing = [flag.name for flag in flags if flag.name not in sections[name]]
        assert not missing, f"the help of {name} says nothing of {missing}"


def test_a_list_of_flags_becomes_a_table():
    text = from_code.magics()
    assert "| `--last N` | the last N turns |" in text
    outside = re.sub(r"^```text\n.*?^```$", "", text, flags=re.M | re.S)
    assert not re.search(r"^ |  +\S", outside, re.M), "a part of a docstring was not understood"


def test_the_page_of_settings_has_each():
    text = from_code.settings()
    names = re.findall(r"^## `Copilot\.(\w+)`", text, re.M)
    assert names == list(Copilot.class_traits(config=True))
    assert "`'auto'` or `'only'` or `'never'`" in text
    assert "environment: `COPILOT_JUPYTER_REPLAY`" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_magic_flag_and_setting_that_a_page_names_exists(page):
    text = page.read_text()
    assert not {name for name in re.findall(r"%(copilot\w*)", text) if name not in FLAGS}
    assert not set(re.findall(r"\bCopilot\.([a-z]\w*)", text)) - set(Copilot.class_trait_names())
    flags = {flag.name for flags in FLAGS.values() for flag in flags}
    typed = re.findall(r"%copilot\w* [^`\n|]*?(--[a-z-]+)", text)
    assert not set(typed) - flags
