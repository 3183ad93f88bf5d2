"""All the sessions a kernel can reach: make, find, branch, delete and clean them up."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import math
import os
import re
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from copilot_jupyter.errors import CopilotError, SessionInUseError
from copilot_jupyter.events import Provider, SessionInfo, Turn
from copilot_jupyter.runtime.loop import LoopThread
from copilot_jupyter.state.catalog import Catalog
from copilot_jupyter.state.ids import check_id
from copilot_jupyter.state.metadata import BRANCH_OF, KEPT_FROM, NOTEBOOK_PATH
from copilot_jupyter.state.store import Store

from . import kept, transcript
from .grants import Grants
from .lock import SessionLock, lock_file
from .stored.replay import Replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from copilot_jupyter.runtime.client import Runtime
    from copilot_jupyter.settings import Copilot
    from copilot_jupyter.state.catalog import CatalogRow

    from .conversation import Conversation
    from .terms import Terms

#: An empty session is cleaned up after this many days.
EMPTY_DAYS = 1.0


@dataclass(frozen=True)
class Listed:
    """Sessions as a person looks for them, each list last used first.

    Parameters
    ----------
    notebook, folder, others : tuple of CatalogRow
        Bound to this notebook; made in this folder; all the rest.
    unread : int
        How many sessions there was no time to read.
    """

    notebook: tuple[CatalogRow, ...]
    folder: tuple[CatalogRow, ...]
    others: tuple[CatalogRow, ...]
    unread: int = 0

    def __iter__(self) -> Iterator[CatalogRow]:
        return iter((*self.notebook, *self.folder, *self.others))


class Sessions:
    """The sessions of one state folder, and the runtime that serves them.

    Owns the runtime and its loop: `close` ends both. Neither is started before it is used.

    Parameters
    ----------
    settings : Copilot
    store : Store, optional
        By default the runtime's own state folder.
    say : callable, optional
        Called with one line when something slow is fetched.
    """

    def __init__(
        self,
        settings: Copilot,
        store: Store | None = None,
        *,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.store = store or Store()
        self.loop = LoopThread()
        self._say = say
        self.grants = Grants(self.store.ours)
        self._open: dict[str, Conversation] = {}
        self._replays: dict[str, Replay] = {}

    @cached_property
    def runtime(self) -> Runtime:
        """The runtime; looking at sessions needs none, and does without its import."""
        from copilot_jupyter.runtime.client import Runtime

        is_shared = lambda: self.settings.runtime == "shared"  # noqa: E731
        return Runtime(self.store, say=self._say, sharing=is_shared, scrub=_scrubbed)

    # -- conversations ---------------------------------------------------------------------

    def conversation(self, session_id: str, terms: Terms) -> Conversation:
        """Return the conversation of a session; the same one for the same id."""
        from .conversation import Conversation

        check_id(session_id)
        known = self._open.get(session_id)
        if known is None or known.terms != terms:
            if known is not None and known.is_open:
                self.loop.call(known.release())
            # The claims of this kernel outlive a change of terms, such as a renamed notebook.
            replay = self.replay(session_id)
            known = Conversation(session_id, self.store, self.runtime, self.settings, terms, replay)
            self._open[session_id] = known
        return known

    def replay(self, session_id: str) -> Replay:
        """Return the claims of this kernel on a session's turns."""
        return self._replays.setdefault(session_id, Replay(self.store, session_id))

    async def create(self, session_id: str, folder: str, metadata: dict[str, str]) -> None:
        """Create an empty session that a later process can resume.

        Needs no model: the provider is chosen at the first turn.

        Parameters
        ----------
        session_id : str
        folder : str
            Its working directory.
        metadata : dict
            Client metadata, the tie to its notebook.

        Raises
        ------
        SessionExistsError
            If the id is taken.
        BadInputError
            If it cannot be an id.
        """
        if self.store.taken(check_id(session_id)):
            raise self.store.exists_error(session_id)
        live = await self.runtime.open(session_id, Provider("none"), folder, create=True)
        try:
            await live.annotate({**metadata, "copilot-jupyter.made": datetime.now(UTC).isoformat()})
        finally:
            await live.close()

    def turns(self, session_id: str) -> list[Turn]:
        """Return the turns of any session, read from disk."""
        return transcript.turns(self.store.journal(check_id(session_id)).events)

    def new_id(self, notebook: Path | None) -> str:
        """Return a free id that says whose and what it is: ``user-notebook-xxxx``."""
        with contextlib.suppress(Exception):  # no name for this user: containers, odd hubs
            user = getpass.getuser()
            return self._unused(f"{user}-{notebook.stem if notebook else 'session'}")
        return self._unused(notebook.stem if notebook else "session")

    def _unused(self, name: str) -> str:
        plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:80] or "session"
        while True:
            candidate = f"{plain}-{uuid.uuid4().hex[:4]}"
            if not self.store.taken(candidate):
                return candidate

    # -- finding ---------------------------------------------------------------------------

    def listed(
        self,
        text: str = "",
        *,
        notebook: Path | None,
        folder: str,
        kept_too: bool = False,
        seconds: float = math.inf,
    ) -> Listed:
        """Return the sessions, this notebook's first, then this folder's, then the rest.

        Parameters
        ----------
        text : str
            Show only sessions whose id, name or first prompt holds it (case does not matter).
        notebook : Path or None
        folder : str
        kept_too : bool
            Include the copies that are kept of what was taken out of a conversation.
        seconds : float
            How long to read what the catalog does not know yet; the next call goes on there.
        """
        until, there = time.monotonic() + seconds, 0

        def count(_done: int, total: int, _rows: list[CatalogRow]) -> None:
            nonlocal there
            there = total

        rows = Catalog(self.store).refresh(count, lambda: time.monotonic() > until)
        unread = there - len(rows) if time.monotonic() > until else 0
        here: list[CatalogRow] = []
        near: list[CatalogRow] = []
        rest: list[CatalogRow] = []
        for row in rows:
            if text.lower() not in f"{row.id}\n{row.name}\n{row.prompt}".lower():
                continue
            if row.kept_from and not kept_too:
                continue
            if notebook is not None and row.notebook == str(notebook):
                here.append(row)
            elif folder and row.folder == folder:
                near.append(row)
            else:
                rest.append(row)
        return Listed(tuple(here), tuple(near), tuple(rest), unread)

    # -- deleting and cleaning up ----------------------------------------------------------

    def in_use_elsewhere(self, session_id: str) -> str:
        """Return who else uses a session, "" if nobody does."""
        lock = SessionLock(lock_file(self.store.ours, session_id))
        owner = lock.owner()
        if owner is not None and owner.pid != os.getpid() and lock.alive(owner):
            return str(owner)  # a notebook says more than the pid of its runtime
        strangers = (h for h in self.store.holders(session_id) if h.pid != self.runtime.pid)
        return next(map(str, strangers), "")

    async def delete(self, session_id: str) -> None:
        """Delete a session for good, and note that it was meant.

        Raises
        ------
        SessionNotFoundError
        SessionInUseError
            If another kernel or a terminal uses it.
        """
        if not self.store.exists(check_id(session_id)):
            raise self.store.not_found(session_id)
        if who := self.in_use_elsewhere(session_id):
            raise SessionInUseError(
                f"The session {session_id} is in use by {who} and was not deleted.",
                "Close it there first.",
            )
        if known := self._open.pop(session_id, None):
            await known.release()
        for copy in kept.kept_copies(self.store, session_id):
            if not self.in_use_elsewhere(copy.id):
                self.store.discard(copy.id)
        self.store.bury(session_id)  # first: nothing brings back what a kill leaves half deleted
        await self.runtime.delete(session_id)
        Catalog(self.store).forget([session_id])  # its title and first prompt
        self.grants.forget_session(session_id)

    def old(self, older_than: timedelta, *, bound: bool = False) -> list[SessionInfo]:
        """Return the sessions that `cleanup` would move: ours, unused, not bound.

        Parameters
        ----------
        older_than : timedelta
            Since the last use. An empty session counts after a day already.
        bound : bool
            Include those whose notebook still exists.
        """
        now = datetime.now(UTC)
        found = []
        for info in self.store.infos():
            if not info.ours or info.modified is None or info.in_use_by:
                continue
            age = now - info.modified
            if age < older_than and not (
                age > timedelta(days=EMPTY_DAYS) and not self.turns(info.id)
            ):
                continue
            if not bound and any(Path(home).exists() for home in self._homes(info)):
                continue
            if not self.in_use_elsewhere(info.id):
                found.append(info)
        return found

    def _homes(self, info: SessionInfo) -> Iterator[str]:
        """Yield the notebooks of a session and of those that it is a branch or a copy of."""
        seen: set[str] = set()
        session = info.id
        while session and session not in seen:
            seen.add(session)
            metadata = self.store.client_metadata(session)
            if home := metadata.get(NOTEBOOK_PATH):
                yield home
            session = metadata.get(KEPT_FROM) or metadata.get(BRANCH_OF) or ""

    def cleanup(self, infos: Iterable[SessionInfo]) -> int:
        """Move sessions to the trash, where they stay for a week; return how many."""
        self.store.trash.empty()
        self.store.sweep()
        ids = [info.id for info in infos]
        ids += [copy.id for i in ids for copy in kept.kept_copies(self.store, i)]
        ids = list(dict.fromkeys(ids))
        for session_id in ids:
            self._open.pop(session_id, None)
        if ids:
            self.store.trash.put(ids)
        return len(ids)

    def undo(self, conversation: Conversation | None = None) -> str:
        """Undo the last thing that was taken out: of a conversation, or by a cleanup.

        Parameters
        ----------
        conversation : Conversation, optional
            Whose rewinds and replaced turns count.

        Returns
        -------
        str
            What was done, in one line.

        Raises
        ------
        SessionExistsError
            If a session that was cleaned up has a namesake by now.
        SessionInUseError
            If somebody else writes the conversation.
        """
        copies = kept.kept_copies(self.store, conversation.id) if conversation else []
        copies = [copy for copy in copies if copy.why in (kept.REPLACED, kept.REWOUND)]
        cleaned = self.store.trash.last()
        if conversation is not None and copies and copies[-1].at > cleaned:
            current = self.loop.call(conversation.put_back(copies[-1].id))
            since = f" What was there until now is kept as {current}." if current else ""
            return f"{conversation.id} is what it was before its turn was {copies[-1].why}.{since}"
        back = self.store.trash.restore()
        return f"Brought back {', '.join(back)}." if back else "There is nothing to undo."

    def settle(self, conversation: Conversation) -> str:
        """Finish what a killed kernel left half done; return a line about it, "" if nothing."""
        copies = kept.kept_copies(self.store, conversation.id)
        if not any(copy.why == kept.PENDING for copy in copies):
            return ""
        with contextlib.suppress(SessionInUseError):  # whoever holds it is at it
            return self.loop.call(conversation.settle())
        return ""

    # -- carrying --------------------------------------------------------------------------

    def export(self, session_id: str, path: Path) -> str:
        """Write a session as a bundle; see `carry.export`."""
        from .portable import carry
        from .shield.secrets import Shield

        return carry.export(self.store, check_id(session_id), path, Shield.of(os.environ))

    def import_bundle(self, path: Path, session_id: str, folder: str) -> tuple[str, str]:
        """Bring in a session from a bundle; see `carry.import_bundle`."""
        from .portable import carry

        return carry.import_bundle(self.store, path, session_id, folder)

    # -- models ----------------------------------------------------------------------------

    async def models(self) -> tuple[Provider, list[str]]:
        """Return the provider in force and the models it offers."""
        from copilot_jupyter.runtime.provider import resolve

        provider = resolve(self.settings.provider, self.settings.model, os.environ)
        if provider.kind == "local":
            provider = await self.runtime.prepare(provider, self.settings.local_model)
        return provider, await self.runtime.models(provider)

    # -- closing ---------------------------------------------------------------------------

    async def release(self) -> None:
        """Let every session go; each is resumed at its next turn."""
        for conversation in self._open.values():
            await conversation.release()

    def close(self) -> None:
        """Let every session go and end the runtime; safe to call twice."""
        try:
            if self.loop.running:
                with contextlib.suppress(CopilotError, TimeoutError):
                    self.loop.call(self._close(), timeout=6)
        finally:
            self.loop.close()

    async def _close(self) -> None:
        for conversation in self._open.values():
            conversation.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                for conversation in self._open.values():
                    await conversation.close()
        self._open.clear()
        if "runtime" in self.__dict__:  # none was needed otherwise
            await self.runtime.close()


def _scrubbed(text: str) -> str:
    """Return a text without the secrets that are known now."""
    from .shield.secrets import Shield

    return Shield.of(os.environ).scrub(text)
