"""The trash: sessions that were cleaned up stay here for a week."""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .files import private_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from .store import Store

#: Days that a cleaned-up session stays in the trash.
TRASH_DAYS = 7

#: Ends the name of a batch that no undo brings back.
_ASIDE = "aside"


class Trash:
    """The sessions moved away together, a folder for each time.

    Parameters
    ----------
    store : Store
        Whose sessions they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.path = store.ours / "trash"

    def put(self, session_ids: Iterable[str], *, undoable: bool = True) -> str:
        """Move sessions to the trash together.

        Returns
        -------
        str
            The name of the batch, for `restore`.
        """
        kind = uuid.uuid4().hex[:6] if undoable else _ASIDE
        batch = f"{_now()}-{kind}"
        with self._store.disk_errors():
            target = private_folder(self.path / batch)
            for session_id in session_ids:
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    self._store.folder(session_id).replace(target / session_id)
        return batch

    def make_room(self, session_id: str) -> None:
        """Make sure that an id is free; what is left of a session without a transcript moves here.

        A runtime that outlives its session's folder writes its last event into a new one. No
        undo brings that back.

        Raises
        ------
        SessionExistsError
            If the id is in use.
        """
        if self._store.taken(session_id):
            raise self._store.exists_error(session_id)
        with self._store.disk_errors(), contextlib.suppress(FileNotFoundError):
            left = self._store.folder(session_id)
            if left.exists():
                batch = private_folder(self.path / f"{_now()}-{_ASIDE}")
                left.replace(batch / f"{session_id}.left")

    def restore(self) -> list[str]:
        """Bring back the newest batch of the trash.

        Returns
        -------
        list of str
            The ids that are back; empty where the trash is.

        Raises
        ------
        SessionExistsError
            If one of the ids is in use again; nothing is moved then.
        """
        batches = self._undoable()
        if not batches:
            return []
        entries = sorted(batches[-1].iterdir())
        for entry in entries:
            if self._store.taken(entry.name):
                raise self._store.exists_error(entry.name)
        with self._store.disk_errors():
            for entry in entries:
                self.make_room(entry.name)
                entry.replace(self._store.folder(entry.name))
            batches[-1].rmdir()
        return [entry.name for entry in entries]

    def last(self) -> str:
        """Return when sessions were last moved here, as an ISO time; "" if none are here."""
        for batch in reversed(self._undoable()):
            with contextlib.suppress(ValueError):
                made = datetime.strptime(batch.name.split("-")[0], "%Y%m%dT%H%M%S.%f")
                return made.replace(tzinfo=UTC).isoformat()
        return ""

    def empty(self, *, older_than_days: float = TRASH_DAYS) -> list[str]:
        """Delete what has lain in the trash for longer than `older_than_days`."""
        gone: list[str] = []
        limit = time.time() - older_than_days * 86400
        for batch in self._batches():
            with contextlib.suppress(ValueError):
                made = datetime.strptime(batch.name[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
                if made.timestamp() < limit:
                    gone += [entry.name for entry in batch.iterdir()]
                    shutil.rmtree(batch)
        return gone

    def bring_back(self, session_id: str) -> bool:
        """Take one session out of the trash; return whether it was there.

        Raises
        ------
        SessionExistsError
            If its id is in use again.
        """
        for batch in reversed(self._batches()):
            entry = batch / session_id
            if entry.is_dir():
                self.make_room(session_id)
                with self._store.disk_errors():
                    entry.replace(self._store.folder(session_id))
                    with contextlib.suppress(OSError):  # others are still in it
                        batch.rmdir()
                return True
        return False

    def _undoable(self) -> list[Path]:
        return [batch for batch in self._batches() if not batch.name.endswith(f"-{_ASIDE}")]

    def _batches(self) -> list[Path]:
        return sorted(b for b in self.path.iterdir() if b.is_dir()) if self.path.is_dir() else []


def _now() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
