"""Which live processes have a session open, by the lock files of their runtimes."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

import psutil

_LOCK_FILE = re.compile(r"inuse\.([1-9][0-9]{0,8})\.lock")


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


def holders_of(folder: Path) -> list[Holder]:
    """Return the live processes that have the session in this folder open, by their pids."""
    found: dict[int, Holder] = {}
    for path in folder.glob("inuse.*.lock"):
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


def _command(process: psutil.Process) -> str:
    # Its own name for itself is no help: the terminal calls itself "MainThread".
    command = process.cmdline()
    return Path(command[0]).name if command else process.name()
