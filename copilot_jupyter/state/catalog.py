"""What a list shows of every session, kept in one small file beside them.

Ten thousand sessions list from this one file and a look at their files' dates, without ten
thousand transcripts and YAML files being read. What it holds can be found out again at any
time: it may be deleted, and a damaged one is passed over.
"""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import CopilotError
from copilot_jupyter.garbage import uncollected

from .files import private_folder, write_whole
from .journal import PROMPT_LINE, USER_MESSAGE, is_prompt, parse_journal
from .metadata import KEPT_FROM, NOTEBOOK_PATH
from .workspace import CLIENT_NAME, LONGEST_TITLE, read_plainly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .store import Store

logger = logging.getLogger(__name__)

#: Raised when the meaning of the file changes; files of other versions are passed over.
VERSION = 1

#: How much is kept of a first prompt, in characters.
PROMPT_LENGTH = 200

#: Seconds between two savings, and between two reports, while all rows are brought up to date.
_SAVE_EVERY = 2.0
_REPORT_EVERY = 0.2


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """What a list shows of one session.

    Parameters
    ----------
    id : str
    name : str
        Its title, "" where it has none.
    modified : float
        When its transcript was last written, in seconds since the epoch.
    size : int
        Of its transcript, in bytes.
    folder : str
        Its working directory.
    notebook : str
        Path of the notebook that asked last, "" where none did.
    prompt : str
        The beginning of its first prompt, "" where nothing was asked.
    turns : int or None
        How many prompts were asked; None where the transcript cannot be read.
    ours : bool
        Whether it was made by this package, and not by a terminal.
    kept_from : str
        Of a kept copy: the session it was.
    """

    id: str
    name: str
    modified: float
    size: int
    folder: str = ""
    notebook: str = ""
    prompt: str = ""
    turns: int | None = None
    ours: bool = False
    kept_from: str = ""


#: Its fields as they stand in the file; `dataclasses.astuple` copies each, in ten times the time.
_FIELDS = attrgetter(*(field.name for field in fields(CatalogRow)))

#: When a row was right: transcript's time and size, times of ``workspace.yaml`` and metadata.
_Stamp = tuple[int, int, int, int]


class Catalog:
    """The rows of all sessions; for one thread at a time.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.path = store.ours / "catalog.json"
        self._rows: dict[str, tuple[_Stamp, CatalogRow]] = {}
        self._loaded = False
        self._changed = False

    # -- reading ---------------------------------------------------------------------------

    def first(self, limit: int, *, notebook: str = "") -> list[CatalogRow]:
        """Return the sessions used last, newest first; what is stale among them is read anew.

        Parameters
        ----------
        limit : int
        notebook : str, optional
            Path of a notebook whose sessions are returned too, as far as they are known.

        Raises
        ------
        StateFolderError
        """
        self._load()
        found = self._store.scan()
        page = found[:limit]
        if notebook:
            page += [f for f in found[limit:] if self._was_of(f[2], notebook)]
        rows = [self._row(name, self._stamp(name, at, size)) for at, size, name in page]
        return [row for row in rows if row is not None]

    def refresh(
        self,
        progress: Callable[[int, int, list[CatalogRow]], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> list[CatalogRow]:
        """Bring the rows of all sessions up to date and save them; meant for a worker's thread.

        Parameters
        ----------
        progress : callable, optional
            Called with how many rows are up to date, how many there are, and those rows that
            it was not given yet: at first all that had not changed.
        stop : callable, optional
            Asked between two sessions; when it says so, the rest is left as it is.

        Returns
        -------
        list of CatalogRow
            All rows that are up to date, newest first.

        Raises
        ------
        StateFolderError
        """
        self._load()
        with uncollected():
            found = self._store.scan()
            gone = self._rows.keys() - {name for _, _, name in found}
            for name in gone:
                del self._rows[name]
            self._changed |= bool(gone)
            stamped = [(name, self._stamp(name, at, size)) for at, size, name in found]
            fresh = [row for row in (self._known(*s) for s in stamped) if row is not None]
            stale = [s for s in stamped if self._known(*s) is None]
        report = _Reports(progress, len(stamped))
        report.add(fresh, now=True)
        saved = time.monotonic()
        for name, stamp in stale:
            if stop():
                break
            row = self._row(name, stamp)
            report.add([row] if row is not None else [])
            if time.monotonic() - saved > _SAVE_EVERY:
                self.save()
                saved = time.monotonic()
        report.add([], now=True)
        self.save()
        known = (self._known(*s) for s in stamped)
        return [row for row in known if row is not None]

    def row(self, session_id: str) -> CatalogRow | None:
        """Return the row of one session as it is now, None where there is no such session."""
        self._load()
        try:
            stat = self._store.journal_path(session_id).stat()
        except OSError:
            self.forget([session_id])
            return None
        return self._row(session_id, self._stamp(session_id, stat.st_mtime_ns, stat.st_size))

    def forget(self, session_ids: Iterable[str]) -> None:
        """Take sessions out, such as deleted ones, and save the rest."""
        self._load()
        for session_id in session_ids:
            self._changed |= self._rows.pop(session_id, None) is not None
        self.save()

    # -- the file --------------------------------------------------------------------------

    def save(self) -> None:
        """Write the file, if there is anything new; a disk that refuses is no error here."""
        if not self._changed:
            return
        rows = [[*stamp, *_FIELDS(row)] for stamp, row in self._rows.values()]
        text = json.dumps({"v": VERSION, "rows": rows}, separators=(",", ":"))
        try:
            private_folder(self.path.parent)
            write_whole(self.path, text.encode())
        except OSError as error:
            logger.debug("the catalog was not saved: %s", error)
            return
        self._changed = False

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        try:
            value = json.loads(self.path.read_bytes())
            rows = value["rows"] if value["v"] == VERSION else []
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return
        with uncollected():
            for entry in rows if isinstance(rows, list) else []:
                if _is_entry(entry):
                    row = CatalogRow(*entry[4:])
                    self._rows[row.id] = ((entry[0], entry[1], entry[2], entry[3]), row)

    # -- the sessions ----------------------------------------------------------------------

    def _stamp(self, name: str, at: int, size: int) -> _Stamp:
        folder = f"{self._store.sessions}/{name}"
        return (
            at,
            size,
            _mtime(f"{folder}/workspace.yaml"),
            _mtime(f"{folder}/client-metadata.json"),
        )

    def _known(self, name: str, stamp: _Stamp) -> CatalogRow | None:
        known = self._rows.get(name)
        return known[1] if known is not None and known[0] == stamp else None

    def _was_of(self, name: str, notebook: str) -> bool:
        known = self._rows.get(name)
        return known is not None and known[1].notebook == notebook

    def _row(self, name: str, stamp: _Stamp) -> CatalogRow | None:
        """Return a session's row, read anew if its files have changed."""
        if (row := self._known(name, stamp)) is not None:
            return row
        try:
            row = self._read(name, stamp)
        except (OSError, CopilotError) as error:  # it vanished, or is not ours to read
            logger.debug("no row for %s: %s", name, error)
            return None
        self._rows[name] = (stamp, row)
        self._changed = True
        return row

    def _read(self, name: str, stamp: _Stamp) -> CatalogRow:
        folder = f"{self._store.sessions}/{name}"
        workspace = read_plainly(folder)
        if workspace is None:
            workspace = self._store.workspace(name)
        metadata = self._store.client_metadata(name)
        prompt, turns = _prompts(f"{folder}/events.jsonl")
        return CatalogRow(
            id=name,
            name=str(workspace.get("name") or "")[:LONGEST_TITLE],
            modified=stamp[0] / 1e9,
            size=stamp[1],
            folder=str(workspace.get("cwd") or ""),
            notebook=metadata.get(NOTEBOOK_PATH, ""),
            prompt=prompt,
            turns=turns,
            ours=workspace.get("client_name") == CLIENT_NAME,
            kept_from=metadata.get(KEPT_FROM, ""),
        )


class _Reports:
    """Hands rows on in batches, not one at a time."""

    def __init__(
        self, progress: Callable[[int, int, list[CatalogRow]], None] | None, total: int
    ) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self._waiting: list[CatalogRow] = []
        self._last = 0.0

    def add(self, rows: list[CatalogRow], *, now: bool = False) -> None:
        """Add rows that are up to date; `now` hands on what there is."""
        self._done += len(rows)
        self._waiting += rows
        if self._progress is None:
            return
        if now or time.monotonic() - self._last > _REPORT_EVERY:
            self._progress(self._done, self._total, self._waiting)
            self._waiting = []
            self._last = time.monotonic()


def _is_entry(entry: Any) -> bool:
    """Whether a JSON value has the shape of a stamp and a row, to the last field."""
    if not (isinstance(entry, list) and len(entry) == 14):
        return False
    *stamp, name, title, modified, size, folder, notebook, prompt, turns, ours, kept = entry
    return (
        all(type(part) is int for part in (*stamp, size))
        and all(type(part) is str for part in (name, title, folder, notebook, prompt, kept))
        and type(modified) in (float, int)
        and (turns is None or type(turns) is int)
        and type(ours) is bool
    )


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116 -- as in `Store.scan`
    except OSError:
        return 0


def _prompts(path: str) -> tuple[str, int]:
    """Return the beginning of the first prompt and the number of prompts, without parsing all."""
    first, count = "", 0
    with open(path, "rb") as file:  # noqa: PTH123 -- as in `Store.scan`
        for line in file:
            if USER_MESSAGE not in line or not _asks(line):
                continue
            count += 1
            if count == 1:
                first = _content(line)
    return first, count


def _asks(line: bytes) -> bool:
    """Whether a line that names user messages is a prompt of the person."""
    plain = line.startswith(PROMPT_LINE) and line.endswith(b"\n")
    # In a text these quotes would be escaped: where they stand they are keys.
    if plain and b'"source":' not in line and b'"agentId":' not in line:
        return True
    return any(map(is_prompt, parse_journal(line).events))


def _content(line: bytes) -> str:
    events = parse_journal(line).events
    text = str(events[0]["data"].get("content") or "") if events else ""
    return " ".join(text[: 4 * PROMPT_LENGTH].split())[:PROMPT_LENGTH]
