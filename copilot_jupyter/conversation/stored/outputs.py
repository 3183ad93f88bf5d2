"""What a turn put into its cell beside the answer: what code that the model ran has shown.

A replay runs nothing, and shows it again. It is kept as a notebook file has it, one file
for each such turn in the session's ``files`` folder.
"""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import StateFolderError
from copilot_jupyter.state.files import private_folder, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from copilot_jupyter.state.store import Store

    #: An output of a code cell, as nbformat 4 has it: a stream or display data.
    Output = dict[str, Any]

logger = logging.getLogger(__name__)

#: Bytes that are kept of one turn.
LARGEST = 4 * 1024 * 1024

#: Ids of events that can be part of a file's name; the runtime's are UUIDs.
_EVENT = re.compile(r"[A-Za-z0-9-]{1,64}")
_WIDGET = "application/vnd.jupyter.widget-view+json"


def _name(event_id: str) -> str:
    """Return the name of the file with a turn's outputs, "" for an id that cannot have one."""
    return f"copilot-jupyter-outputs-{event_id}.json" if _EVENT.fullmatch(event_id) else ""


def keep(store: Store, session_id: str, event_id: str, outputs: Sequence[Output]) -> None:
    """Keep the outputs of a turn; without them it is as whole, and its code is not shown again.

    Parameters
    ----------
    store : Store
    session_id : str
    event_id : str
        Of the turn's prompt.
    outputs : sequence of dict
    """
    name = _name(event_id)
    if not (name and outputs):
        return
    try:
        with store.disk_errors():
            folder = private_folder(store.folder(session_id) / "files")
            write_whole(folder / name, _to_bytes(outputs))
    except StateFolderError as error:
        logger.warning("The outputs of turn %s are not kept: %s", event_id, error.what)


def read(store: Store, session_id: str, event_id: str) -> tuple[Output, ...]:
    """Return what is kept of a turn's outputs; nothing where that is none, or damaged."""
    name = _name(event_id)
    return _read(store.folder(session_id) / "files" / name) if name else ()


def _read(path: Path) -> tuple[Output, ...]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, RecursionError) as error:
        logger.warning("%s cannot be read: %s", path, error)
        return ()
    return tuple(filter(is_output, found)) if isinstance(found, list) else ()


def _to_bytes(outputs: Iterable[Output]) -> bytes:
    """Return outputs as their file holds them; a line says what was too large to be kept."""
    room, written = LARGEST, []
    for output in outputs:
        text = json.dumps(_lasting(output))
        room -= len(text)
        if room < 0:
            told = f"(an output of {len(text):,} bytes was shown here, and is not kept)"
            text = json.dumps(display_data({"text/plain": told}))
        written.append(text)
    return f"[{', '.join(written)}]".encode("ascii")


def _lasting(output: Output) -> Output:
    """Return an output without what draws only as long as the kernel lives."""
    data = output.get("data", {})
    if _WIDGET not in data:
        return output
    return {**output, "data": {kind: value for kind, value in data.items() if kind != _WIDGET}}


def is_output(value: Any) -> bool:
    """Whether a JSON value is an output that can be shown."""
    if not isinstance(value, dict):
        return False
    if value.get("output_type") == "stream":
        return value.get("name") in ("stdout", "stderr") and type(value.get("text")) is str
    data, metadata = value.get("data"), value.get("metadata")
    kind = value.get("output_type") == "display_data"
    return kind and isinstance(data, dict) and isinstance(metadata, dict)


def stream(name: str, text: str) -> Output:
    """Return what was printed as an output.

    Parameters
    ----------
    name : str
        "stdout" or "stderr".
    text : str
    """
    return {"output_type": "stream", "name": name, "text": text}


def display_data(data: dict[str, Any], metadata: dict[str, Any] | None = None) -> Output:
    """Return what was displayed as an output.

    Parameters
    ----------
    data : dict
        By MIME type.
    metadata : dict, optional
    """
    return {"output_type": "display_data", "data": data, "metadata": metadata or {}}
