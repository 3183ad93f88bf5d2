"""One writer for a session: a lock file that knows whether its owner still lives.

The runtime lets two processes write one session and loses replies (measured), so the
lock is ours. Its owner is alive if its process is: same boot, same process namespace,
same pid, same start time. Of an owner on another host or in another container only the
heartbeat tells (pods reuse host names and pids).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import time
import uuid
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from filelock import FileLock

from copilot_jupyter.errors import SessionInUseError, StateFolderError
from copilot_jupyter.runtime.process import started
from copilot_jupyter.state.files import private_folder, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds without a heartbeat after which an owner that cannot be looked up is dead.
SILENCE = 30.0


@dataclass(frozen=True)
class Owner:
    """Who holds a lock.

    Parameters
    ----------
    token : str
        Unique to one holding of the lock.
    pid : int
    started : float
        The process's start time, as `process.started` has it.
    place : str
        The boot and process namespace in which `pid` means something.
    host : str
    what : str
        The notebook, for people.
    runtime_pid : int
        The Copilot runtime that the owner started, 0 if none yet.
    """

    token: str
    pid: int
    started: float
    place: str
    host: str
    what: str = ""
    runtime_pid: int = 0

    def __str__(self) -> str:
        where = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"{self.what or 'another kernel'} (pid {self.pid}{where})"


@cache
def this_place() -> str:
    """Return what tells this boot and process namespace from every other."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux: the boot time, to the minute
        return f"{socket.gethostname()} {int(psutil.boot_time() // 60)}"


def lock_file(folder: Path, session_id: str) -> Path:
    """Return the lock file of a session; the longest ids are shortened, to leave room for more.

    Parameters
    ----------
    folder : Path
        Where our own files are kept.
    session_id : str
    """
    if len(session_id) > 200:
        session_id = f"{session_id[:160]}-{hashlib.sha256(session_id.encode()).hexdigest()[:32]}"
    return folder / "locks" / f"{session_id}.json"


class SessionLock:
    """The lock of one session.

    Parameters
    ----------
    path : Path
        The lock file; its folder is made when needed.
    what : str, optional
        Who we are, for people: the notebook's path.
    """

    def __init__(self, path: Path, what: str = "") -> None:
        self.path = path
        me = psutil.Process()
        self._me = Owner(
            uuid.uuid4().hex, me.pid, started(me), this_place(), socket.gethostname(), what
        )

    def acquire(self, *, take_over: bool = False) -> Owner | None:
        """Take the lock; the lock of a dead owner, or our own, is taken silently.

        Parameters
        ----------
        take_over : bool
            Take it from a live owner too.

        Returns
        -------
        Owner or None
            The owner it was taken from, if there was one.

        Raises
        ------
        SessionInUseError
            If a live owner holds it.
        """
        with self._alone():
            before = self.owner()
            if before is not None and before.token == self._me.token:
                return None
            if before is not None and self.alive(before) and not take_over:
                raise SessionInUseError(f"The session is in use by {before}.", "")
            self._write()
            return before

    def holds(self) -> bool:
        """Whether the lock is still ours."""
        owner = self.owner()
        return owner is not None and owner.token == self._me.token

    def is_taken(self) -> bool:
        """Whether another owner has the lock; one whose file is gone is nobody's."""
        owner = self.owner()
        return owner is not None and owner.token != self._me.token

    def beat(self, runtime_pid: int = 0) -> bool:
        """Show that we live; return whether the lock is still ours."""
        if not self.holds():
            return False
        if runtime_pid == self._me.runtime_pid:
            with contextlib.suppress(OSError):
                os.utime(self.path)
            return True
        with self._alone():
            if not self.holds():
                return False
            self._me = replace(self._me, runtime_pid=runtime_pid)
            self._write()
            return True

    def release(self) -> None:
        """Give the lock back, if it is ours."""
        with contextlib.suppress(StateFolderError), self._alone():
            if self.holds():
                self.path.unlink(missing_ok=True)

    def owner(self) -> Owner | None:
        """Return who the lock file names; None where it is missing or unreadable."""
        try:
            return _owner(json.loads(self.path.read_bytes()))
        except (OSError, ValueError, RecursionError):
            return None

    def alive(self, owner: Owner) -> bool:
        """Whether an owner still lives."""
        if owner.place == this_place():
            return process_lives(owner.pid, owner.started)
        try:
            return time.time() - self.path.stat().st_mtime < SILENCE
        except OSError:
            return False

    def _write(self) -> None:
        write_whole(self.path, json.dumps(asdict(self._me)).encode())

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep every other kernel from reading and writing the lock meanwhile."""
        try:
            private_folder(self.path.parent)
            with FileLock(f"{self.path}.mutex", timeout=10, mode=0o600):
                yield
        except OSError as error:
            raise StateFolderError(
                f"The lock {self.path} cannot be written: {error.strerror or error}.",
                "Free some space or fix its permissions, or point COPILOT_HOME at another folder.",
            ) from error


def _owner(value: Any) -> Owner | None:
    """Return the owner that a lock file's content names, whatever else it holds; else None."""
    if not isinstance(value, dict):
        return None
    known = {field.name: value[field.name] for field in fields(Owner) if field.name in value}
    texts = all(isinstance(known.get(n, ""), str) for n in ("token", "place", "host", "what"))
    whole = all(type(known.get(n, 0)) is int for n in ("pid", "runtime_pid"))
    started = known.get("started")
    if not (texts and whole and isinstance(started, int | float) and known.get("pid", 0) > 0):
        return None
    try:
        return Owner(**known)
    except TypeError:  # a field is missing
        return None


def process_lives(pid: int, since: float) -> bool:
    """Whether the process `pid` that started at `since` still runs."""
    try:
        process = psutil.Process(pid)
        same = abs(started(process) - since) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
