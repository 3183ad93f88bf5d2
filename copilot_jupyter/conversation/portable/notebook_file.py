"""A notebook's file as it was last saved: its bytes, its code cells, their texts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import BadInputError

from .conflict import conflict_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: A notebook file beyond this many bytes is not read.
LARGEST = 200 * 1024 * 1024


def content(path: Path) -> bytes:
    """Return a notebook file's bytes.

    Raises
    ------
    BadInputError
        If it cannot be read, or is too large to be.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise BadInputError(
                f"The notebook {path.name} has {size / 2**20:,.0f} MB and is not read; "
                f"{LARGEST // 2**20} MB are the most.",
                "Clear its large outputs (not the answers') and save it.",
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise BadInputError(f"There is no notebook {path}.", "Check its name.") from None
    except OSError as error:
        raise BadInputError(
            f"The notebook {path} cannot be read: {error.strerror or error}.",
            "Check that it is a file and that you may read it.",
        ) from None


def parsed(data: bytes, name: str) -> dict[str, Any]:
    """Return a notebook out of its file's bytes, with a list of cells.

    Parameters
    ----------
    data : bytes
    name : str
        Of the file, for messages.

    Raises
    ------
    BadInputError
        If the file is damaged, or holds something else.
    """
    try:
        notebook = json.loads(data)
    except (ValueError, RecursionError) as error:
        if line := conflict_line(data):
            raise BadInputError(
                f"{name} holds a merge conflict: the first marker is in line {line}.",
                "Resolve it (git mergetool, or git checkout --ours or --theirs), then try again.",
            ) from None
        at = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise BadInputError(
            f"{name} is cut off or damaged: it is no valid JSON{at}.",
            "Restore it from git, a checkpoint or a backup.",
        ) from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if isinstance(cells, list):
        return dict(notebook)
    if isinstance(notebook, dict) and cells is None and "worksheets" in notebook:
        return {**notebook, "cells": []}  # a notebook of format 3, older than this package
    raise BadInputError(
        f"{name} is no notebook: it holds no list of cells.",
        "Restore it from git, a checkpoint or a backup.",
    )


def code_cells(notebook: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any], list[Any]]]:
    """Yield the code cells of a notebook: position from 0, cell, outputs."""
    for position, cell in enumerate(notebook["cells"]):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            outputs = cell.get("outputs")
            yield position, cell, outputs if isinstance(outputs, list) else []


def text(value: Any) -> str | None:
    """Return a text that nbformat writes as one or as a list of lines; None if it is neither."""
    if isinstance(value, list) and all(type(line) is str for line in value):
        return "".join(value)
    return value if isinstance(value, str) else None
