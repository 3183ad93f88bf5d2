"""A page of the docs as blocks of code, and the notes that say how each is run.

A note is a comment of HTML, seen by nobody who reads the page:

- ``<!-- the model answers: TEXT -->``: what the scripted model says next;
- ``<!-- the model calls: TOOL {...} -->``: or does;
- ``<!-- restart the kernel -->``: before the next cell;
- ``<!-- in the same cell -->``: the next block is typed over the cell before;
- ``<!-- fails -->``: the next cell is meant to;
- ``<!-- not run: WHY -->``: the next block is only looked at;
- ``<!-- run in a shell -->``, ``<!-- run as a script -->``: where its notebook lies, saved.

A block of ``output`` is what the cell before it shows; ``…`` stands for anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md"]

#: What a block may be; ``{...}`` is a directive of the site.
LANGUAGES = ("ipython", "python", "output", "sh", "text", "yaml")

_NOTE = re.compile(r"<!--\s*(?P<kind>[a-z ]+?)(?::\s*(?P<text>.*?))?\s*-->", re.S)


@dataclass
class Block:
    """One fenced block.

    Parameters
    ----------
    language : str
    text : str
    line : int
        Where it begins in its page.
    notes : list of (str, str)
        Kind and text of each, in order.
    """

    language: str
    text: str
    line: int
    notes: list[tuple[str, str]] = field(default_factory=list)

    def note(self, kind: str) -> str | None:
        """The text of a note, None where there is none of its kind."""
        return next((text for name, text in self.notes if name == kind), None)

    @property
    def is_run(self) -> bool:
        return self.note("not run") is None


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, those of directives left out."""
    found: list[Block] = []
    notes: list[tuple[str, str]] = []
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        if token.type == "html_block":
            notes += [(m["kind"], m["text"] or "") for m in _NOTE.finditer(token.content)]
        elif token.type == "code_block":
            found.append(Block("", token.content, token.map[0] + 1))
        elif token.type == "fence" and not token.info.startswith("{"):
            found.append(Block(token.info, token.content, token.map[0] + 1, notes))
            notes = []
    return found


def headings(page: Path, level: int) -> list[tuple[str, str]]:
    """Return the headings of a level, each with the heading of level 2 above it."""
    above, found = "", []
    for line in page.read_text().splitlines():
        if line.startswith("## "):
            above = line[3:]
        if line.startswith("#" * level + " "):
            found.append((above, line[level + 1 :]))
    return found


def pattern(shown: str) -> re.Pattern[str]:
    """Return what finds an output in which ``…`` stands for anything."""
    parts = [re.escape(part.strip("\n")) for part in shown.strip("\n").split("…")]
    return re.compile(r"[ \t]*\n?.*?\n?".join(parts), re.S)
