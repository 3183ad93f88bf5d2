"""The hold of this kernel on a session: nobody else writes it meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING

import psutil

from copilot_jupyter.errors import SessionInUseError, SessionTakenError
from copilot_jupyter.runtime.shared import is_shared

from .lock import Owner, SessionLock, lock_file, this_place

if TYPE_CHECKING:
    from copilot_jupyter.runtime.client import Runtime
    from copilot_jupyter.state.holders import Holder
    from copilot_jupyter.state.store import Store

    from .terms import Terms

#: Seconds that a runtime of a former life, or of the kernel taken over, gets to let go.
LET_GO = 5.0


class Hold:
    """What makes this kernel the one writer of a session.

    Our own lock keeps other kernels away, the runtime's own tells of terminals.

    Parameters
    ----------
    session_id : str
    store : Store
    runtime : Runtime
        That of this kernel, which may have the session open.
    terms : Terms
        Whether to take the session from a live owner, which is done once.

    Attributes
    ----------
    lost : bool
        Whether another kernel took the session: it stays that kernel's until somebody here
        takes it back on purpose.
    """

    def __init__(self, session_id: str, store: Store, runtime: Runtime, terms: Terms) -> None:
        self.lost = False
        self._id = session_id
        self._store = store
        self._runtime = runtime
        self._terms = terms
        self._lock = SessionLock(lock_file(store.ours, session_id), terms.who)

    async def take(self) -> str:
        """Make sure that nobody else writes the session.

        Returns
        -------
        str
            A line about the living owner that it was taken from, "" if there was none.

        Raises
        ------
        SessionInUseError
            If somebody else has it.
        """
        owner = self._lock.owner()
        lived = owner is not None and self._lock.alive(owner)
        try:
            before = self._lock.acquire(take_over=self._terms.take_over)
        except SessionInUseError as error:
            raise self._in_use(error.what) from None
        self._terms.take_over = False
        ours = {self._runtime.pid, *([before.runtime_pid] if before else [])}
        if others := await self._wait_for_release(ours, before):
            raise self._in_use(f"The session {self._id} is open in {others[0]}.")
        if before is not None and lived and before.pid != os.getpid():
            return f"{self._id} was taken over from {before}."
        return ""

    def come_back(self) -> None:
        """Forget that another kernel took the session, unless it still has it."""
        owner = self._lock.owner()
        if owner is None or not self._lock.alive(owner):
            self.lost = False

    def is_taken(self) -> bool:
        """Whether another kernel has the lock; one whose file is gone is nobody's."""
        return self._lock.is_taken()

    def beat(self) -> None:
        """Show that this kernel lives, and which runtime has the session open.

        Raises
        ------
        StateFolderError
            If the lock cannot be written.
        """
        self._lock.beat(self._runtime.pid)

    def release(self) -> None:
        """Give the lock back, if it is ours."""
        self._lock.release()

    async def _wait_for_release(self, ours: set[int], before: Owner | None) -> list[Holder]:
        """Wait for a runtime of the former owner to let go; return who else holds the session."""
        deadline = time.monotonic() + LET_GO
        while True:
            holders = [h for h in self._store.holders(self._id) if h.pid != self._runtime.pid]
            strangers = [h for h in holders if h.pid not in ours]
            if strangers or not holders:
                return strangers
            if time.monotonic() > deadline:
                here = before is not None and before.place == this_place()
                if here and not is_shared(self._store, holders[0].pid):
                    _end(holders[0].pid)
                return []
            await asyncio.sleep(0.02)

    def taken_error(self) -> SessionTakenError:
        """Return the error about a session that another kernel took."""
        owner = self._lock.owner()
        by = f" by {owner}" if owner else ""
        return SessionTakenError(
            f"The session {self._id} was taken over{by}.",
            f"Take it back with %copilot_resume {self._id} --take-over, or ask in a copy: --fork.",
        )

    def _in_use(self, what: str) -> SessionInUseError:
        return SessionInUseError(
            what.replace("The session is", f"The session {self._id} is"),
            f"Close it there, or: %copilot_resume {self._id} --fork | --take-over | --read-only.",
        )


def _end(pid: int) -> None:
    """End the runtime of a former owner that does not let go of the session."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if "copilot" in process.name():
            process.kill()
