"""The sessions as they lie on disk: read without a runtime, branched and set aside as files.

The layout is the runtime's own, ``<home>/session-state/<id>/`` with ``events.jsonl``
(one event a line), ``workspace.yaml`` and ``client-metadata.json``. What is ours lies
beside it in ``<home>/copilot-jupyter/``: locks, the trash, tombstones, kept journals.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import (
    BadInputError,
    SessionExistsError,
    SessionNotFoundError,
    StateFolderError,
)
from copilot_jupyter.events import SessionInfo
from copilot_jupyter.settings import state_home

from .files import private_folder, write_whole
from .holders import holders_of
from .ids import LONGEST_ID, check_id, is_id, nearest
from .journal import (
    Journal,
    append_events,
    cut_at_prompt,
    is_leftover,
    journal_bytes,
    line_of,
    parse_journal,
    read_tail,
    renamed,
    with_id,
)
from .metadata import read_metadata, write_metadata
from .tombstones import buried, bury
from .trash import Trash
from .workspace import CLIENT_NAME, copy_workspace, new_workspace, read_workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from .holders import Holder


#: Bytes of a transcript that may be nothing but a runtime's last words (700 seen).
_LONGEST_LEFTOVER = 4096

#: Names of folders that are being made or removed, and seconds after which nobody is at it.
_HALF = re.compile(r"\..{1,100}\.[0-9a-f]{32}")
_SWEPT_AFTER = 86_400

#: Bytes that must be free: with less, a runtime takes a prompt and never says a word (seen).
_ROOM = 64 * 1024


class Store:
    """The state folder, read and rearranged without a runtime.

    Parameters
    ----------
    home : Path, optional
        The state folder; by default the runtime's own (``COPILOT_HOME``, ``~/.copilot``).
    """

    def __init__(self, home: Path | None = None) -> None:
        self.home = home or state_home()
        self.sessions = self.home / "session-state"
        self.ours = self.home / "copilot-jupyter"
        self.trash = Trash(self)

    # -- reading ---------------------------------------------------------------------------

    def folder(self, session_id: str) -> Path:
        """Return the folder of one session, whether or not it exists."""
        return self.sessions / check_id(session_id)

    def journal_path(self, session_id: str) -> Path:
        """Return the transcript file of one session."""
        return self.folder(session_id) / "events.jsonl"

    def exists(self, session_id: str) -> bool:
        """Whether the session has a transcript to resume."""
        path = self.journal_path(session_id)
        with self.disk_errors(), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            size = path.stat().st_size
            return size > _LONGEST_LEFTOVER or (size > 0 and not is_leftover(path.read_bytes()))
        return False

    def taken(self, session_id: str) -> bool:
        """Whether an id is in use: by a session, or by a kernel that is about to make one."""
        if not self.folder(session_id).exists():
            return False
        return self.exists(session_id) or bool(self.holders(session_id))

    def ids(self) -> list[str]:
        """Return the ids of all sessions with a transcript, last used first."""
        return [name for _, _, name in self.scan()]

    def scan(self) -> list[tuple[int, int, str]]:
        """Return all sessions with a transcript, last used first.

        Returns
        -------
        list of tuple
            When the transcript was written, in nanoseconds since the epoch, its size in
            bytes, and the id.
        """
        found: list[tuple[int, int, str]] = []
        with self.disk_errors():
            for name in self._names():
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    # Ten thousand times: a Path for each would take as long again.
                    stat = os.stat(f"{self.sessions}/{name}/events.jsonl")  # noqa: PTH116
                    if stat.st_size:
                        found.append((stat.st_mtime_ns, stat.st_size, name))
        return sorted(found, reverse=True)

    def ids_beginning(self, start: str) -> list[str]:
        """Return the ids of the sessions that begin like this, in their order."""
        start = start[: LONGEST_ID - 5]
        found = sorted(name for name in self._names() if name.startswith(start))
        return [name for name in found if self.exists(name)]

    def _names(self) -> list[str]:
        """Return what lies among the sessions under a name that can be an id."""
        with self.disk_errors(), contextlib.suppress(FileNotFoundError):
            return list(filter(is_id, os.listdir(self.sessions)))  # noqa: PTH208 -- as in `scan`
        return []

    def info(self, session_id: str) -> SessionInfo:
        """Return what is said of one session before something is done to it.

        Raises
        ------
        SessionNotFoundError
            If there is none with this id.
        """
        path = self.journal_path(session_id)
        try:
            stat = path.stat()
        except OSError:
            raise self.not_found(session_id) from None
        if not self.exists(session_id):
            raise self.not_found(session_id)
        workspace = self.workspace(session_id)
        return SessionInfo(
            id=session_id,
            name=str(workspace.get("name") or ""),
            modified=datetime.fromtimestamp(stat.st_mtime, UTC),
            size=stat.st_size,
            ours=workspace.get("client_name") == CLIENT_NAME,
            in_use_by=", ".join(map(str, self.holders(session_id))),
        )

    def infos(self) -> Iterator[SessionInfo]:
        """Yield all sessions, last used first; one that vanishes meanwhile is passed over."""
        for session_id in self.ids():
            with contextlib.suppress(SessionNotFoundError, BadInputError):
                yield self.info(session_id)

    def workspace(self, session_id: str) -> dict[str, Any]:
        """Return the session's ``workspace.yaml``; empty where it is missing or unreadable."""
        return read_workspace(self.folder(session_id))

    def has_unreadable_workspace(self, session_id: str) -> bool:
        """Whether there is a ``workspace.yaml`` that the runtime would refuse."""
        there = (self.folder(session_id) / "workspace.yaml").exists()
        return there and not self.workspace(session_id).get("id")

    def client_metadata(self, session_id: str) -> dict[str, str]:
        """Return the session's client metadata; empty where there is none."""
        return read_metadata(self.folder(session_id))

    def journal(self, session_id: str) -> Journal:
        """Return the whole transcript of a session.

        Raises
        ------
        SessionNotFoundError
            If there is none with this id.
        """
        return parse_journal(self._data(session_id))

    def _data(self, session_id: str) -> bytes:
        with self._reading(session_id):
            return self.journal_path(session_id).read_bytes()

    @contextlib.contextmanager
    def _reading(self, session_id: str) -> Iterator[None]:
        """Turn what reading a session's file raises into errors that name the session."""
        with self.disk_errors():
            try:
                yield
            except (FileNotFoundError, NotADirectoryError):
                raise self.not_found(session_id) from None

    def tail(self, session_id: str) -> Journal:
        """Return the end of a transcript, from a person's last prompt on at least.

        Raises
        ------
        SessionNotFoundError
            If there is none with this id.
        """
        with self._reading(session_id):
            return read_tail(self.journal_path(session_id))

    def added(self, session_id: str, since: int) -> list[dict[str, Any]]:
        """Return the events written after the transcript had `since` bytes."""
        with self.disk_errors(), self.journal_path(session_id).open("rb") as file:
            file.seek(since)
            return list(parse_journal(file.read()).events)

    def size(self, session_id: str) -> int:
        """Return the transcript's size in bytes, 0 where there is none."""
        try:
            return self.journal_path(session_id).stat().st_size
        except OSError:
            return 0

    def holders(self, session_id: str) -> list[Holder]:
        """Return the live processes that have the session open, by the runtime's lock files."""
        return holders_of(self.folder(session_id))

    # -- arranging -------------------------------------------------------------------------

    def fork(
        self, source: str, target: str, *, until: str = "", metadata: dict[str, str] | None = None
    ) -> None:
        """Copy a session under an id of one's own.

        The runtime's own fork chooses the id; a copy with its first line rewritten
        resumes just as well (measured on 1.0.85 and 1.0.102).

        Parameters
        ----------
        source, target : str
            Ids of the session to copy and of the copy.
        until : str, optional
            Event id of the user message before which to stop; all by default.
        metadata : dict, optional
            Client metadata of the copy, such as where it comes from.

        Raises
        ------
        SessionNotFoundError, SessionExistsError, StateFolderError
        """
        data = self._data(source)
        if until:
            data = data[: line_of(data, until)]
        with self._staged(target) as staging:
            files = self.folder(source) / "files"
            if files.is_dir():
                shutil.copytree(files, staging / "files")
            write_whole(staging / "events.jsonl", renamed(data, target))
            copy_workspace(self.folder(source), staging, target)
            write_metadata(staging, metadata or {})

    def make(
        self,
        session_id: str,
        events: Iterable[dict[str, Any]],
        *,
        folder: str,
        name: str = "",
        metadata: dict[str, str] | None = None,
        files: dict[str, bytes] | None = None,
    ) -> None:
        """Write a session that no runtime made here: one rebuilt, or carried from elsewhere.

        Parameters
        ----------
        session_id : str
        events : iterable of dict
            Its transcript; the first event is a ``session.start``.
        folder : str
            Its working directory.
        name : str, optional
            Its title.
        metadata : dict, optional
            Client metadata.
        files : dict, optional
            Contents by name, for its ``files`` folder.

        Raises
        ------
        SessionExistsError, StateFolderError
        """
        with self._staged(session_id) as staging:
            if files:
                private_folder(staging / "files")
            for file, content in (files or {}).items():
                write_whole(staging / "files" / file, content)
            data = journal_bytes(with_id(tuple(events), session_id))
            write_whole(staging / "events.jsonl", data)
            workspace = new_workspace(session_id, folder=folder, name=name or session_id)
            write_whole(staging / "workspace.yaml", workspace)
            write_metadata(staging, metadata or {})

    @contextlib.contextmanager
    def _staged(self, session_id: str) -> Iterator[Path]:
        """Give a folder to fill; it becomes the session's own, whole, or nothing does."""
        self.trash.make_room(session_id)
        with self.disk_errors():
            staging = self._half(session_id)
            staging.mkdir(parents=True, mode=0o700)
            try:
                yield staging
                staging.replace(self.folder(session_id))
            finally:
                shutil.rmtree(staging, ignore_errors=True)

    def append(self, session_id: str, events: Iterable[dict[str, Any]]) -> None:
        """Add events to a transcript. Only for a session that no runtime has open."""
        with self.disk_errors():
            append_events(self.journal_path(session_id), events)

    def set_aside(self, session_id: str, name: str) -> Path:
        """Move one damaged file of a session out of the runtime's way and return where to."""
        path = self.folder(session_id) / name
        target = path.with_name(f"{name}.set-aside-{time.time_ns()}")
        with self.disk_errors():
            path.replace(target)
        return target

    def cut(self, session_id: str, since: int) -> None:
        """Cut a transcript off at the first prompt written after it had `since` bytes.

        Needs no room on a full disk. Only for a session that no runtime has open.
        """
        with self.disk_errors():
            cut_at_prompt(self.journal_path(session_id), since)

    def write_journal(self, session_id: str, events: Iterable[dict[str, Any]]) -> None:
        """Replace a transcript, keeping the old file beside it.

        Only for a session that no runtime has open.
        """
        path = self.journal_path(session_id)
        with self.disk_errors():
            if path.exists():
                shutil.copy2(path, path.with_name(f"events.jsonl.set-aside-{time.time_ns()}"))
            write_whole(path, journal_bytes(with_id(tuple(events), session_id)))

    def replace_journal(self, session_id: str, source: str) -> None:
        """Give a session another one's transcript. Only where no runtime has it open."""
        with self.disk_errors():
            write_whole(self.journal_path(session_id), renamed(self._data(source), session_id))

    def write_metadata(self, session_id: str, metadata: dict[str, str]) -> None:
        """Write the client metadata of a session that no runtime has open."""
        with self.disk_errors():
            write_metadata(self.folder(session_id), metadata)

    def discard(self, session_id: str) -> None:
        """Remove a session's folder for good; nothing happens where there is none."""
        gone = self._half(session_id)
        with self.disk_errors(), contextlib.suppress(FileNotFoundError):
            self.folder(session_id).replace(gone)  # at once: a kill leaves no half of it
            shutil.rmtree(gone)

    def _half(self, session_id: str) -> Path:
        """Return a folder that is no session, for one that is being made or removed."""
        return self.folder(session_id).with_name(f".{session_id[:100]}.{uuid.uuid4().hex}")

    def sweep(self) -> None:
        """Remove what a kill left of sessions that were being made or removed, after a day."""
        with self.disk_errors(), contextlib.suppress(FileNotFoundError):
            for folder in self.sessions.iterdir():
                if _HALF.fullmatch(folder.name) is None:
                    continue
                if time.time() - folder.stat().st_mtime > _SWEPT_AFTER:
                    shutil.rmtree(folder, ignore_errors=True)

    # -- tombstones ------------------------------------------------------------------------

    def bury(self, session_id: str) -> None:
        """Note that a session was deleted on purpose, so that nothing brings it back."""
        with self.disk_errors():
            bury(self.ours, session_id)

    def buried(self, session_id: str) -> datetime | None:
        """Return when the session was deleted, or None."""
        return buried(self.ours, session_id)

    # -- helpers ---------------------------------------------------------------------------

    def free_id(self, wanted: str) -> str:
        """Return `wanted`, or the first of ``wanted-2``, ``wanted-3``... that is free."""
        wanted = wanted[: LONGEST_ID - 5]
        for candidate in (wanted, *(f"{wanted}-{n}" for n in range(2, 10_000))):
            if not self.taken(candidate):
                return candidate
        return f"{wanted}-{uuid.uuid4().hex[:4]}"

    def exists_error(self, session_id: str) -> SessionExistsError:
        """Return the error for an id that is taken."""
        return SessionExistsError(
            f"A session named {session_id} exists already.",
            f"Go on with it by %copilot_resume {session_id}, or choose another id.",
        )

    def check_usable(self) -> None:
        """Make sure that the state folder can be written.

        Raises
        ------
        StateFolderError
            If not, with the reason.
        """
        probe = self.ours / f".probe-{uuid.uuid4().hex}"
        with self.disk_errors():
            private_folder(self.ours)
            probe.write_bytes(b"x" * _ROOM)
            probe.unlink()

    def not_found(self, session_id: str) -> SessionNotFoundError:
        """Return the error for an id that no session has; names what looks like it."""
        buried = self.buried(session_id)
        if buried is not None:
            return SessionNotFoundError(
                f"The session {session_id} was deleted on {buried:%Y-%m-%d at %H:%M} UTC.",
                f"Begin a new one with %copilot_new {session_id}.",
            )
        near = nearest(session_id, self.ids())
        known = f"Did you mean {' or '.join(near)}? " if near else ""
        return SessionNotFoundError(
            f"There is no session named {session_id}.",
            f"{known}%copilot_sessions lists them; %copilot_resume {session_id} --create makes it.",
        )

    @contextlib.contextmanager
    def disk_errors(self) -> Iterator[None]:
        """Turn what the disk refuses into a `StateFolderError`."""
        try:
            yield
        except OSError as error:
            raise StateFolderError(
                f"The state folder {self.home} cannot be used: {error.strerror or error}.",
                "Free some space or fix its permissions, or point COPILOT_HOME at another folder.",
            ) from error
