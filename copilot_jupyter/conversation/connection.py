"""A session as this kernel has it open in the runtime: opened, opened anew, closed."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from copilot_jupyter.errors import SessionDamagedError
from copilot_jupyter.events import NO_TOOLS, Notice, Offer, Progress, Provider
from copilot_jupyter.runtime.provider import resolve
from copilot_jupyter.runtime.session import to_the_end

from . import kept, mend, unfinished

if TYPE_CHECKING:
    from collections.abc import Callable

    from copilot_jupyter.events import TurnEvent
    from copilot_jupyter.runtime.client import Runtime
    from copilot_jupyter.runtime.session import LiveSession
    from copilot_jupyter.settings import Copilot
    from copilot_jupyter.state.store import Store

    from .terms import Terms

    #: Takes what a turn says while it runs, on the loop's thread.
    Emit = Callable[[TurnEvent], None]


class Connection:
    """The session of one conversation in the runtime.

    Only while the kernel holds the session: what is opened is repaired, too.

    Parameters
    ----------
    session_id : str
    store : Store
    runtime : Runtime
    settings : Copilot
    terms : Terms

    Attributes
    ----------
    live : LiveSession or None
        None while it is closed.
    """

    def __init__(
        self, session_id: str, store: Store, runtime: Runtime, settings: Copilot, terms: Terms
    ) -> None:
        self.id = session_id
        self.store = store
        self.runtime = runtime
        self.live: LiveSession | None = None
        self._settings = settings
        self._terms = terms
        self._offer = NO_TOOLS
        self._opened_for: tuple[object, ...] = ()
        self._size = 0

    async def open(self, model: str, offer: Offer, emit: Emit) -> LiveSession:
        """Return the session, open for a turn on these terms, whole and as it is on disk.

        Parameters
        ----------
        model : str
            The model that the turn asks for, "" for the one of the settings.
        offer : Offer
            The tools that the model may use.
        emit : callable
            Gets a line about all that was repaired or that went on elsewhere.

        Raises
        ------
        CopilotError
            If it cannot be opened.
        """
        if self.live is not None:
            reached = self.live.alive and self.runtime.reaches(self.live.provider)
            grown = self._grown()
            if reached and not grown and self._opened_for == self._terms_of(model, offer):
                return self.live
            if reached and grown:
                emit(Notice(f"{self.id} went on elsewhere; this notebook has read on."))
            await self.close()
        # Another model is another resume: a switch would put a notice into the prompt (measured).
        self._offer, self._opened_for = offer, self._terms_of(model, offer)
        # Said by the turn, in its own cell: the runtime works on a thread that may not draw.
        with self.runtime.saying_to(lambda line: emit(Progress(line))):
            live = await self._opened(model, emit)
        self.live = live
        self.has_read()
        return live

    async def _opened(self, model: str, emit: Emit) -> LiveSession:
        provider = resolve(self._settings.provider, model or self._settings.model, os.environ)
        provider = await self.runtime.prepare(provider, self._settings.local_model)
        if self._settings.system_message:
            provider = replace(provider, system_message=self._settings.system_message)
        if self.store.exists(self.id) and (said := kept.settle(self.store, self.id)):
            emit(Notice(said))
        live = await self._resume(provider, emit)
        try:
            await unfinished.repair(self.store, live, emit)
            await self._annotate(live)
        except BaseException:
            await to_the_end(live.close())
            raise
        return live

    async def reopen(self, provider: Provider, emit: Emit) -> LiveSession:
        """Open the session once more, in a new runtime where the old one died."""
        await self.close()
        self.live = await self._resume(provider, emit)
        return self.live

    async def close(self) -> None:
        """Let the session go; safe to call twice."""
        live, self.live = self.live, None
        if live is not None:
            await live.close()

    def has_read(self) -> None:
        """Note that the runtime knows the transcript as it is on disk now."""
        self._size = self.store.size(self.id)

    def _terms_of(self, model: str, offer: Offer) -> tuple[object, ...]:
        """Return all that an open session is bound to: of anything else it is opened anew."""
        settings = self._settings
        own = (settings.provider, settings.model, settings.local_model, settings.system_message)
        return (model, offer, *own)

    async def _resume(self, provider: Provider, emit: Emit) -> LiveSession:
        exists = self.store.exists(self.id)
        if not (self._terms.create or exists):
            raise self.store.not_found(self.id)
        self.store.check_usable()
        if exists and (said := mend.before_opening(self.store, self.id)):
            emit(Notice(said))
        try:
            live = await self.runtime.open(
                self.id,
                provider,
                self._terms.folder,
                offer=self._offer,
                create=self._terms.create,
            )
        except SessionDamagedError:
            if not mend.workspace(self.store, self.id):
                raise
            emit(Notice(f"The workspace.yaml of {self.id} could not be read; it was set aside."))
            live = await self.runtime.open(self.id, provider, self._terms.folder, offer=self._offer)
        if live.recovered:
            emit(Notice(mend.said(self.id, live.recovered)))
        return live

    async def _annotate(self, live: LiveSession) -> None:
        known = self.store.client_metadata(self.id)
        wanted = {k: v for k, v in self._terms.metadata.items() if known.get(k) != v}
        if not wanted:
            return
        try:
            await live.annotate(wanted)
        except SessionDamagedError:  # an index only: no turn fails for it
            self.store.set_aside(self.id, "client-metadata.json")
            await live.annotate(wanted)

    def _grown(self) -> bool:
        """Whether somebody else wrote the transcript since our last turn."""
        size = self.store.size(self.id)
        if size == self._size:
            return False
        if size < self._size:
            return True
        added = self.store.added(self.id, self._size)
        return any(event["type"] in ("user.message", "assistant.message") for event in added)
