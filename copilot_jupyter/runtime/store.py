"""The sessions as they lie on disk: read without a runtime, branched and set aside as files.

The layout is the runtime's own, ``<home>/session-state/<id>/`` with ``events.jsonl``
(one event a line), ``workspace.yaml`` and ``client-metadata.json``. What is ours lies
beside it in ``<home>/copilot-jupyter/``: locks, the trash, tombstones, kept journals.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from copilot_jupyter.errors import (
    BadInputError,
    SessionExistsError,
    SessionNotFoundError,
    StateFolderError,
)
from copilot_jupyter.events import SessionInfo
from copilot_jupyter.settings import state_home

from .files import private_folder, write_whole
from .journal import Journal, is_prompt, journal_bytes, line_of, parse_journal, renamed, with_id
from .trash import Trash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Measured on runtime 1.0.102: one more character and its lock file's name is too long.
LONGEST_ID = 250
_ID = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_-]{{0,{LONGEST_ID - 1}}}")

_LOCK_FILE = re.compile(r"inuse\.([1-9][0-9]{0,8})\.lock")

#: The name under which our sessions are made; a terminal's sessions carry another.
CLIENT_NAME = "copilot-jupyter"

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

#: Bytes of a transcript that may be nothing but a runtime's last words (700 seen).
_LONGEST_LEFTOVER = 4096

_TAIL_BYTES = 256 * 1024

#: Bytes that must be free: with less, a runtime takes a prompt and never says a word (seen).
_ROOM = 64 * 1024


def check_id(session_id: str) -> str:
    """Return `session_id` if it can name a session.

    Parameters
    ----------
    session_id : str
        What a person typed.

    Returns
    -------
    str
        The same id.

    Raises
    ------
    BadInputError
        If the runtime would refuse it (letters, digits, ``_`` and ``-``, 1 to 250 of
        them), or if it could be taken for a flag.
    """
    if _ID.fullmatch(session_id):
        return session_id
    shown = session_id if len(session_id) <= 60 else session_id[:57] + "..."
    if not session_id:
        what = "The session id is empty."
    elif len(session_id) > LONGEST_ID:
        what = f"The session id {shown!r} has {len(session_id)} characters; {LONGEST_ID} fit."
    else:
        what = f"{shown!a} cannot be a session id."
    raise BadInputError(
        what, "Use letters, digits, - and _, not beginning with -, such as ana-churn-model."
    )


@dataclass(frozen=True)
class Holder:
    """A live process that has a session open.

    Parameters
    ----------
    pid : int
        Of the runtime or terminal.
    command : str
        The program's name.
    """

    pid: int
    command: str

    def __str__(self) -> str:
        return f"{self.command} (pid {self.pid})"


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
        try:
            size = path.stat().st_size
            return size > _LONGEST_LEFTOVER or (size > 0 and not _is_leftover(path.read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise self._unusable(error) from None

    def taken(self, session_id: str) -> bool:
        """Whether an id is in use: by a session, or by a kernel that is about to make one."""
        if not self.folder(session_id).exists():
            return False
        return self.exists(session_id) or bool(self.holders(session_id))

    def ids(self) -> list[str]:
        """Return the ids of all sessions with a transcript, last used first."""
        found: list[tuple[float, str]] = []
        try:
            with os.scandir(self.sessions) as entries:
                for entry in entries:
                    if not _ID.fullmatch(entry.name):
                        continue
                    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                        stat = (Path(entry.path) / "events.jsonl").stat()
                        if stat.st_size:
                            found.append((stat.st_mtime, entry.name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable(error) from None
        return [name for _, name in sorted(found, reverse=True)]

    def ids_beginning(self, start: str) -> list[str]:
        """Return the ids of the sessions that begin like this, in their order."""
        start = start[: LONGEST_ID - 5]
        try:
            with os.scandir(self.sessions) as entries:
                found = sorted(e.name for e in entries if e.name.startswith(start))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable(error) from None
        return [name for name in found if _ID.fullmatch(name) and self.exists(name)]

    def info(self, session_id: str) -> SessionInfo:
        """Return what a list shows of one session.

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
        metadata = self.client_metadata(session_id)
        return SessionInfo(
            id=session_id,
            name=str(workspace.get("name") or ""),
            modified=datetime.fromtimestamp(stat.st_mtime, UTC),
            created=_time(workspace.get("created_at")),
            folder=str(workspace.get("cwd") or ""),
            size=stat.st_size,
            notebook=metadata.get(NOTEBOOK_PATH, ""),
            kept_from=metadata.get(KEPT_FROM, ""),
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
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            text = (self.folder(session_id) / "workspace.yaml").read_text(encoding="utf-8")
            value = yaml.load(text, Loader=loader)  # noqa: S506 -- a safe loader, in C or Python
        except (OSError, ValueError, RecursionError, yaml.YAMLError):
            return {}
        return value if isinstance(value, dict) else {}

    def has_unreadable_workspace(self, session_id: str) -> bool:
        """Whether there is a ``workspace.yaml`` that the runtime would refuse."""
        there = (self.folder(session_id) / "workspace.yaml").exists()
        return there and not self.workspace(session_id).get("id")

    def client_metadata(self, session_id: str) -> dict[str, str]:
        """Return the session's client metadata; empty where there is none."""
        try:
            value = json.loads((self.folder(session_id) / "client-metadata.json").read_bytes())
            return {str(k): str(v) for k, v in value["metadata"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def journal(self, session_id: str) -> Journal:
        """Return the whole transcript of a session.

        Raises
        ------
        SessionNotFoundError
            If there is none with this id.
        """
        return parse_journal(self._data(session_id))

    def _data(self, session_id: str) -> bytes:
        try:
            return self.journal_path(session_id).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise self.not_found(session_id) from None
        except OSError as error:
            raise self._unusable(error) from None

    def tail(self, session_id: str) -> Journal:
        """Return the end of a transcript, from a person's last prompt on at least.

        Reads backwards, so that a transcript of any length costs the same.
        """
        path = self.journal_path(session_id)
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                step = _TAIL_BYTES
                while True:
                    start = max(0, size - step)
                    file.seek(start)
                    data = file.read(size - start)
                    if start:
                        data = data.partition(b"\n")[2]
                    journal = parse_journal(data)
                    if not start or any(map(is_prompt, journal.events)):
                        return journal
                    step *= 4
        except (FileNotFoundError, NotADirectoryError):
            raise self.not_found(session_id) from None
        except OSError as error:
            raise self._unusable(error) from None

    def added(self, session_id: str, since: int) -> list[dict[str, Any]]:
        """Return the events written after the transcript had `since` bytes."""
        try:
            with self.journal_path(session_id).open("rb") as file:
                file.seek(since)
                return list(parse_journal(file.read()).events)
        except OSError as error:
            raise self._unusable(error) from None

    def size(self, session_id: str) -> int:
        """Return the transcript's size in bytes, 0 where there is none."""
        try:
            return self.journal_path(session_id).stat().st_size
        except OSError:
            return 0

    def holders(self, session_id: str) -> list[Holder]:
        """Return the live processes that have the session open, by the runtime's lock files."""
        found: dict[int, Holder] = {}
        for path in self.folder(session_id).glob("inuse.*.lock"):
            match = _LOCK_FILE.fullmatch(path.name)
            if match is None:
                continue
            with contextlib.suppress(psutil.Error, OSError):
                process = psutil.Process(int(match[1]))
                # A pid that was given to another process since: the lock is older than it.
                if process.status() != psutil.STATUS_ZOMBIE and (
                    process.create_time() <= path.stat().st_mtime + 2
                ):
                    found[process.pid] = Holder(process.pid, _command(process))
        return [found[pid] for pid in sorted(found)]

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
            self._copy_workspace(staging, source, target)
            self._write_metadata(staging, metadata or {})

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
        import yaml

        now = datetime.now(UTC)
        stamp = f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03}Z"
        workspace = {
            "id": session_id,
            "cwd": folder,
            "client_name": CLIENT_NAME,
            "name": name or session_id,
            "user_named": False,
            "summary_count": 0,
            "fork_count": 0,
            "created_at": stamp,
            "updated_at": stamp,
        }
        with self._staged(session_id) as staging:
            if files:
                private_folder(staging / "files")
            for file, content in (files or {}).items():
                write_whole(staging / "files" / file, content)
            data = journal_bytes(with_id(tuple(events), session_id))
            write_whole(staging / "events.jsonl", data)
            text = yaml.safe_dump(workspace, allow_unicode=True, sort_keys=False)
            write_whole(staging / "workspace.yaml", text.encode())
            self._write_metadata(staging, metadata or {})

    @contextlib.contextmanager
    def _staged(self, session_id: str) -> Iterator[Path]:
        """Give a folder to fill; it becomes the session's own, whole, or nothing does."""
        if self.taken(session_id):
            raise self.exists_error(session_id)
        with self.writing():
            self.trash.set_aside(session_id)
            staging = self.folder(session_id).with_name(f".{session_id[:100]}.{uuid.uuid4().hex}")
            staging.mkdir(parents=True, mode=0o700)
            try:
                yield staging
                staging.replace(self.folder(session_id))
            finally:
                shutil.rmtree(staging, ignore_errors=True)

    def append(self, session_id: str, events: Iterable[dict[str, Any]]) -> None:
        """Add events to a transcript. Only for a session that no runtime has open."""
        with self.writing(), self.journal_path(session_id).open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            torn = b"" if file.read(1) in (b"\n", b"") else b"\n"
            try:
                file.write(torn + journal_bytes(events))
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise

    def set_aside(self, session_id: str, name: str) -> Path:
        """Move one damaged file of a session out of the runtime's way and return where to."""
        path = self.folder(session_id) / name
        target = path.with_name(f"{name}.set-aside-{time.time_ns()}")
        with self.writing():
            path.replace(target)
        return target

    def cut(self, session_id: str, since: int) -> None:
        """Cut a transcript off at the first prompt written after it had `since` bytes.

        Needs no room on a full disk. Only for a session that no runtime has open.
        """
        with self.writing(), self.journal_path(session_id).open("r+b") as file:
            position = file.seek(since)
            for line in file:
                if any(map(is_prompt, parse_journal(line).events)):
                    file.truncate(position)
                    return
                position += len(line)

    def write_journal(self, session_id: str, events: Iterable[dict[str, Any]]) -> None:
        """Replace a transcript, keeping the old file beside it.

        Only for a session that no runtime has open.
        """
        path = self.journal_path(session_id)
        with self.writing():
            if path.exists():
                shutil.copy2(path, path.with_name(f"events.jsonl.set-aside-{time.time_ns()}"))
            write_whole(path, journal_bytes(with_id(tuple(events), session_id)))

    def replace_journal(self, session_id: str, source: str) -> None:
        """Give a session another one's transcript. Only where no runtime has it open."""
        with self.writing():
            write_whole(self.journal_path(session_id), renamed(self._data(source), session_id))

    def write_metadata(self, session_id: str, metadata: dict[str, str]) -> None:
        """Write the client metadata of a session that no runtime has open."""
        with self.writing():
            self._write_metadata(self.folder(session_id), metadata)

    def discard(self, session_id: str) -> None:
        """Remove a session's folder for good; nothing happens where there is none."""
        gone = self.folder(session_id).with_name(f".{session_id[:100]}.{uuid.uuid4().hex}")
        with self.writing(), contextlib.suppress(FileNotFoundError):
            self.folder(session_id).replace(gone)  # at once: a kill leaves no half of it
            shutil.rmtree(gone)

    # -- tombstones ------------------------------------------------------------------------

    def bury(self, session_id: str) -> None:
        """Note that a session was deleted on purpose, so that nothing brings it back."""
        line = json.dumps({"id": session_id, "at": datetime.now(UTC).isoformat()})
        with self.writing():
            private_folder(self.ours)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            with os.fdopen(os.open(self.ours / "deleted.jsonl", flags, 0o600), "ab") as file:
                # On a line of its own, even after one that a crash cut off.
                file.write(f"\n{line}\n".encode())

    def buried(self, session_id: str) -> datetime | None:
        """Return when the session was deleted, or None."""
        found = None
        with contextlib.suppress(OSError):
            data = (self.ours / "deleted.jsonl").read_bytes()
            for line in data.splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    if entry["id"] == session_id:
                        found = _time(entry["at"])
        return found

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
        with self.writing():
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

    def _unusable(self, error: OSError) -> StateFolderError:
        reason = error.strerror or str(error)
        return StateFolderError(
            f"The state folder {self.home} cannot be used: {reason}.",
            "Free some space or fix its permissions, or point COPILOT_HOME at another folder.",
        )

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turn what the disk refuses into a `StateFolderError`."""
        try:
            yield
        except OSError as error:
            raise self._unusable(error) from error

    def _copy_workspace(self, staging: Path, source: str, target: str) -> None:
        """Copy ``workspace.yaml`` with another id; the runtime writes a new one where it lacks."""
        with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
            text = (self.folder(source) / "workspace.yaml").read_text(encoding="utf-8")
            # Quoted: an id such as 123 or null is text.
            text = re.sub(r"^id:.*$", f'id: "{target}"', text, count=1, flags=re.M)
            write_whole(staging / "workspace.yaml", text.encode())

    def _write_metadata(self, staging: Path, metadata: dict[str, str]) -> None:
        content = json.dumps({"version": 1, "metadata": metadata})
        write_whole(staging / "client-metadata.json", content.encode())


def nearest(wanted: str, ids: Iterable[str]) -> list[str]:
    """Return up to three of `ids` that look like `wanted`."""
    import difflib

    ids = list(ids)
    by_lower: dict[str, str] = {i.lower(): i for i in reversed(ids)}
    close = difflib.get_close_matches(wanted.lower(), by_lower, n=3, cutoff=0.6)
    starts = [lower for lower in by_lower if wanted and lower.startswith(wanted.lower())]
    return [by_lower[lower] for lower in dict.fromkeys([*close, *starts])][:3]


def _command(process: psutil.Process) -> str:
    # Its own name for itself is no help: the terminal calls itself "MainThread".
    command = process.cmdline()
    return Path(command[0]).name if command else process.name()


def _time(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        return None


def _is_leftover(data: bytes) -> bool:
    """Whether a transcript is only what a runtime wrote after its session's folder was gone."""
    journal = parse_journal(data)
    return not (journal.bad_lines or journal.has_start or any(map(is_prompt, journal.events)))
