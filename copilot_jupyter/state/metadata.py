"""A session's ``client-metadata.json``: what we note about it beside its transcript."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .files import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Keys of the client metadata that tie a session to its notebook.
NOTEBOOK_PATH = "copilot-jupyter.notebook.path"
NOTEBOOK_ID = "copilot-jupyter.notebook.id"
NOTEBOOK_KERNEL = "copilot-jupyter.notebook.kernel"
COPIED_FROM = "copilot-jupyter.copied-from"
#: Of a branch that a person made: the session it left.
BRANCH_OF = "copilot-jupyter.branch-of"
#: Of a kept copy: the session it was, since when, and why.
KEPT_FROM = "copilot-jupyter.kept.from"
KEPT_AT = "copilot-jupyter.kept.at"
KEPT_WHY = "copilot-jupyter.kept.why"


def read_metadata(folder: Path) -> dict[str, str]:
    """Return the client metadata in a session's folder; empty where there is none."""
    try:
        value = json.loads((folder / "client-metadata.json").read_bytes())
        return {str(k): str(v) for k, v in value["metadata"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_metadata(folder: Path, metadata: Mapping[str, str]) -> None:
    """Write the client metadata into a session's folder."""
    content = json.dumps({"version": 1, "metadata": dict(metadata)})
    write_whole(folder / "client-metadata.json", content.encode())
