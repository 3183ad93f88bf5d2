"""The turns that notebook files carry: all of one file, and the file that has a session's."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from copilot_jupyter.conversation.binding import our_metadata
from copilot_jupyter.conversation.stored.outputs import display_data, is_output, stream
from copilot_jupyter.errors import BadInputError

from . import embedded, notebook_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from copilot_jupyter.conversation.stored.outputs import Output

    from .embedded import EmbeddedTurn

#: Bytes that a search through a folder reads in all; older notebooks are not searched. It
#: holds up a cell, and a folder may hold hundreds of notebooks full of images.
_SEARCHED = 500 * 1024 * 1024
#: What shows a value without running anything in the page.
_HARMLESS = ("text/plain", "image/png", "image/jpeg")


def read(path: Path) -> tuple[EmbeddedTurn, ...]:
    """Return all turns that a notebook file carries, in the order of its cells.

    Parameters
    ----------
    path : Path

    Returns
    -------
    tuple of EmbeddedTurn
        Of any session; outputs without an embedded turn are passed over.

    Raises
    ------
    BadInputError
        If the file cannot be read, or a turn in it was changed since it was written.
    """
    return tuple(_turns(notebook_file.content(path), path.name))


def of_session(turns: Iterable[EmbeddedTurn], session_id: str) -> list[EmbeddedTurn]:
    """Return the turns of one session, those that it shares with the session it left included.

    Parameters
    ----------
    turns : iterable of EmbeddedTurn
        All that a notebook carries: cells that were not run since a branch was made still
        name the session it left.
    session_id : str
    """
    turns = list(turns)
    by_event = {turn.event: turn for turn in turns}
    found = {turn.event: turn for turn in turns if turn.session == session_id}
    for turn in list(found.values()):
        while (before := by_event.get(turn.parent)) is not None and before.event not in found:
            turn = found[before.event] = replace(before, session=session_id)  # noqa: PLW2901
    return [found[turn.event] for turn in turns if turn.event in found]


def find(folder: Path, session_id: str) -> Path | None:
    """Return the notebook in a folder that carries the most turns of a session.

    Parameters
    ----------
    folder : Path
        Searched itself, not what lies in folders below it: its notebooks from the one saved
        last on, up to 500 MB of them in all. What is older is not looked at.
    session_id : str

    Returns
    -------
    Path or None
        Of several with as many turns the one saved last.

    Raises
    ------
    BadInputError
        If none carries it, but one that names it is damaged.
    """
    needle = json.dumps(session_id).encode()
    found: list[tuple[int, Path]] = []
    damaged: list[BadInputError] = []
    left = _SEARCHED
    for path, size in _newest_first(folder):
        if size > notebook_file.LARGEST:
            continue
        left -= size
        if left < 0:
            break
        try:
            data = notebook_file.content(path)
        except BadInputError:
            continue
        if needle not in data:
            continue
        try:
            turns = list(_turns(data, path.name))
        except BadInputError as error:
            damaged.append(error)
            continue
        if events := {turn.event for turn in turns if turn.session == session_id}:
            found.append((len(events), path))
    if not found and damaged:
        raise damaged[0]
    return max(found, key=lambda item: item[0])[1] if found else None


def _newest_first(folder: Path) -> list[tuple[Path, int]]:
    """Return the notebooks in a folder, each with its size."""
    found = []
    for path in folder.glob("*.ipynb"):
        try:
            if path.is_file():
                status = path.stat()
                found.append((status.st_mtime_ns, path, status.st_size))
        except OSError:  # gone meanwhile
            continue
    return [(path, size) for _, path, size in sorted(found, reverse=True)]


def _turns(data: bytes, name: str) -> Iterator[EmbeddedTurn]:
    for position, cell, outputs in notebook_file.code_cells(notebook_file.parsed(data, name)):
        source = notebook_file.text(cell.get("source")) or ""
        whole = source.lstrip().startswith("%%copilot")
        for output in outputs:
            turn = embedded.turn_of(output, position, name)
            if turn is not None:
                beside = tuple(_harmless(outputs)) if whole and turn.uses else ()
                yield replace(turn, cell_id=str(cell.get("id") or ""), whole=whole, outputs=beside)


def _harmless(outputs: Iterable[Any]) -> Iterator[Output]:
    """Yield what a cell shows beside its answer, without what could run in a page.

    The file may be anybody's, and what is shown of it again counts as this kernel's output.
    """
    for output in outputs:
        if not isinstance(output, dict) or our_metadata(output) is not None:
            continue
        if output.get("output_type") == "stream":
            text = notebook_file.text(output.get("text"))
            found = stream(str(output.get("name")), text) if text else {}
        else:
            data = output.get("data") if output.get("output_type") == "display_data" else None
            shown = {
                kind: value
                for kind in _HARMLESS
                if isinstance(data, dict) and (value := notebook_file.text(data.get(kind)))
            }
            found = display_data(shown) if shown else {}
        if is_output(found):
            yield found
