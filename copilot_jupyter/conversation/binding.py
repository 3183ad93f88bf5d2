"""Which session belongs to which notebook, through restarts, renames, moves and copies.

A binding lives in the metadata of every answer's output, in the visible line
``%copilot_resume ID``, and as client metadata on the session (the index from session to
notebook). Each is optional; together they find the session again:

- *restarted*: the same kernel id, or the same path and a prompt that the session knows.
- *moved* or renamed: the old path is gone; followed silently.
- *copied*: the old path still holds a notebook with the same notebook id; the copy gets a
  branch of its own.
- *deliberate*: a line typed in another notebook joins that session.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import BadInputError
from copilot_jupyter.state.metadata import NOTEBOOK_KERNEL, NOTEBOOK_PATH

from .portable import notebook_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: Where a binding lies in an output's metadata, and in the notebook's own.
METADATA_KEY = "copilot_jupyter"

_RESUME_LINE = re.compile(r"^\s*%copilot_resume\s+([A-Za-z0-9_][A-Za-z0-9_-]*)", re.M)
_ASK_CELL = re.compile(r"\A\s*%%copilot\b[^\n]*\n(?P<prompt>.*)\Z", re.S)
_ASK_LINE = re.compile(
    r"^\s*(?:[^\n#%]+=[ \t]*)?%copilot[ \t]+"
    r"(?:--[a-z-]+(?:=|[ \t]+)(?:\"[^\"\n]*\"|'[^'\n]*'|\S+)[ \t]+)*(?P<prompt>\S.*)$",
    re.M,
)


@dataclass(frozen=True)
class Binding:
    """The tie between a notebook and a session.

    Parameters
    ----------
    session : str
    path : str
        Of the notebook, relative to its repository or server root; "" if unknown.
    notebook_id : str
        Made when the notebook is first bound; a copy of the file carries the same one
        until it is bound anew.
    v : int
        Version of this record.
    """

    session: str
    path: str = ""
    notebook_id: str = ""
    v: int = 1

    def to_metadata(self) -> dict[str, Any]:
        """Return the binding as it is written into an output's metadata."""
        return asdict(self)


@dataclass(frozen=True)
class Saved:
    """What a notebook file says of its conversation.

    Parameters
    ----------
    bindings : tuple of Binding
        Out of the outputs, oldest answer first.
    line : str
        The id of the last visible ``%copilot_resume`` line, "" if there is none.
    prompts : tuple of str
        What its cells ask.
    cells : dict
        What each cell asks, by the cell's id.
    """

    bindings: tuple[Binding, ...] = ()
    line: str = ""
    prompts: tuple[str, ...] = ()
    cells: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def binding(self) -> Binding | None:
        """The binding of the newest answer; else of the visible line."""
        if self.bindings:
            return self.bindings[-1]
        return Binding(self.line) if self.line else None

    @property
    def notebook_ids(self) -> frozenset[str]:
        """The notebook ids that its outputs carry."""
        return frozenset(b.notebook_id for b in self.bindings if b.notebook_id)


def read_notebook(path: Path | None) -> Saved:
    """Read what a notebook file, as last saved, says of its conversation.

    Parameters
    ----------
    path : Path or None

    Returns
    -------
    Saved
        Empty where there is no readable notebook: a binding is then looked for elsewhere.
    """
    if path is None:
        return Saved()
    try:
        notebook = notebook_file.parsed(notebook_file.content(path), path.name)
    except BadInputError:
        return Saved()
    found: list[tuple[str, int, Binding]] = []
    sources: list[str] = []
    asked: dict[str, tuple[str, ...]] = {}
    for position, cell, outputs in notebook_file.code_cells(notebook):
        sources.append(notebook_file.text(cell.get("source")) or "")
        asked[str(cell.get("id") or "")] = tuple(prompts_of(sources[-1]))
        found += [
            (str(entry.get("at", "")), position, _binding(entry))
            for entry in map(_bound, outputs)
            if entry is not None
        ]
    found.sort(key=lambda item: item[:2])
    if (entry := _bound(notebook)) is not None:  # the lab extension's; an answer knows better
        found.insert(0, ("", -1, _binding(entry)))
    lines = [match for source in sources for match in _RESUME_LINE.findall(source)]
    return Saved(
        tuple(binding for _, _, binding in found),
        lines[-1] if lines else "",
        tuple(prompt for source in sources for prompt in prompts_of(source)),
        {cell: prompts for cell, prompts in asked.items() if cell},
    )


def our_metadata(output: Any) -> dict[str, Any] | None:
    """Return our entry in the metadata of an output or a notebook, None if it has none."""
    metadata = output.get("metadata") if isinstance(output, dict) else None
    entry = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
    return entry if isinstance(entry, dict) else None


def _bound(output: Any) -> dict[str, Any] | None:
    """Return our entry if it names a session."""
    entry = our_metadata(output)
    return entry if entry is not None and isinstance(entry.get("session"), str) else None


def _binding(entry: dict[str, Any]) -> Binding:
    return Binding(
        entry["session"], str(entry.get("path") or ""), str(entry.get("notebook_id") or "")
    )


def prompts_of(source: str) -> list[str]:
    """Return what a cell's source asks Copilot, stripped."""
    if match := _ASK_CELL.match(source):
        return [match["prompt"].strip()]
    asked = (match["prompt"].strip() for match in _ASK_LINE.finditer(source))
    return [prompt for prompt in asked if prompt]


def relative(path: Path | None, server_root: Path | None) -> str:
    """Return a notebook's path relative to its repository, else to the server's root.

    Parameters
    ----------
    path : Path or None
        Absolute.
    server_root : Path or None
        Root folder of the Jupyter server.
    """
    if path is None:
        return ""
    for folder in path.parents:
        if (folder / ".git").exists():
            return path.relative_to(folder).as_posix()
    if server_root is not None and path.is_relative_to(server_root):
        return path.relative_to(server_root).as_posix()
    return path.name


def is_copy(here: Path | None, notebook_id: str, home: str, read: Callable[[Path], Saved]) -> bool:
    """Whether the notebook `here` is a copy of the one its session belongs to.

    Parameters
    ----------
    here : Path or None
        Where the notebook is now.
    notebook_id : str
        The id its outputs carry.
    home : str
        Absolute path of the notebook that the session's index names.
    read : callable
        Reads a notebook file.

    Returns
    -------
    bool
        True if both files exist and carry the same id. A file that is gone was moved.
    """
    if here is None or not home or not notebook_id:
        return False
    there = Path(home)
    try:
        if there == here or not there.exists() or there.samefile(here):  # one file by two names
            return False
    except OSError:
        return False
    return notebook_id in read(there).notebook_ids


def knows(turns: Iterable[str], asked: Iterable[str]) -> bool:
    """Whether one of the prompts `asked` is among a session's own."""
    known = {prompt.strip() for prompt in turns}
    return any(prompt.strip() in known for prompt in asked)


def find_by(metadata: Mapping[str, str], *, kernel: str, path: Path | None) -> str:
    """Return how a session's client metadata points here: "kernel", "path" or ""."""
    if kernel and metadata.get(NOTEBOOK_KERNEL) == kernel:
        return "kernel"
    if path is not None and metadata.get(NOTEBOOK_PATH) == str(path):
        return "path"
    return ""
