"""Which sessions were deleted on purpose: a line for each in ``deleted.jsonl``."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .files import private_folder

if TYPE_CHECKING:
    from pathlib import Path


def bury(folder: Path, session_id: str) -> None:
    """Note that a session was deleted on purpose, so that nothing brings it back.

    Parameters
    ----------
    folder : Path
        Ours, in the state folder.
    session_id : str
    """
    line = json.dumps({"id": session_id, "at": datetime.now(UTC).isoformat()})
    private_folder(folder)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    with os.fdopen(os.open(folder / "deleted.jsonl", flags, 0o600), "ab") as file:
        # On a line of its own, even after one that a crash cut off.
        file.write(f"\n{line}\n".encode())


def buried(folder: Path, session_id: str) -> datetime | None:
    """Return when the session was deleted last, None if it never was."""
    found = None
    with contextlib.suppress(OSError):
        for line in (folder / "deleted.jsonl").read_bytes().splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                if entry["id"] == session_id:
                    found = datetime.fromisoformat(entry["at"])
    return found
