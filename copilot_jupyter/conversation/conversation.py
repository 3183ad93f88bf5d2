"""One conversation: every turn is whole in its session, or not in it at all.

Everything ``async`` here runs on the kernel's private loop. Nothing here knows IPython,
a widget or the SDK.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from copilot_jupyter.errors import (
    BadInputError,
    ReadOnlyError,
    RuntimeDiedError,
    SessionInUseError,
    StateFolderError,
)
from copilot_jupyter.events import NO_TOOLS, Notice, Offer, Turn
from copilot_jupyter.runtime.session import to_the_end

from . import kept, transcript, unfinished
from .answer import Answer
from .connection import Connection
from .hold import Hold
from .portable import carry
from .stored import outputs
from .stored.question import Question, checked
from .stored.records import Record
from .stored.replay import Place, Replay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from copilot_jupyter.runtime.client import Runtime
    from copilot_jupyter.runtime.session import LiveSession, Outcome
    from copilot_jupyter.settings import Copilot
    from copilot_jupyter.state.store import Store

    from .connection import Emit
    from .portable.embedded import EmbeddedTurn
    from .terms import Terms

logger = logging.getLogger(__name__)

#: Seconds between two heartbeats of the lock: how soon a take-over is noticed.
HEARTBEAT = 1.0
#: Seconds of idleness after which a session is let go in a runtime that many kernels share: an
#: open one takes 2.4 MB of it, one that was let go 0.3; to open it again takes 30 ms (measured).
SHARED_IDLE = 5.0
#: Seconds that a finished turn may take to be whole on disk (measured: it is there at once).
STORED = 0.5


@dataclass(frozen=True)
class Instead:
    """A turn that gives way to the one that is asked.

    Parameters
    ----------
    event : str
        Its event id.
    whatever_follows : bool
        Whether turns that follow it go too; otherwise it has to be the last.
    """

    event: str
    whatever_follows: bool = False


class Conversation:
    """A session that this kernel talks to.

    Made by `Sessions`; `release` lets it go. Reading never needs a runtime or a lock.

    Parameters
    ----------
    session_id : str
    store : Store
    runtime : Runtime
    settings : Copilot
    terms : Terms
    replay : Replay, optional
        The claims of this kernel on the session's turns.
    """

    def __init__(
        self,
        session_id: str,
        store: Store,
        runtime: Runtime,
        settings: Copilot,
        terms: Terms,
        replay: Replay | None = None,
    ) -> None:
        self.id = session_id
        self.terms = terms
        self.replay = replay or Replay(store, session_id)
        self._store = store
        self._runtime = runtime
        self._settings = settings
        self._hold = Hold(session_id, store, runtime, terms)
        self._connection = Connection(session_id, store, runtime, settings, terms)
        self._turn = asyncio.Lock()
        self._beating: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[Answer] | None = None
        self._used = time.monotonic()

    # -- reading ---------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        """Whether the session is on disk."""
        return self._store.exists(self.id)

    @property
    def is_open(self) -> bool:
        """Whether this kernel holds the session open now."""
        return self._connection.live is not None

    def turns(self) -> list[Turn]:
        """Return all turns of the conversation, read from disk."""
        return transcript.turns(self._store.journal(self.id).events) if self.exists else []

    def stored(self, question: Question, place: Place) -> Answer | None:
        """Return the answer that the conversation has for a question already, None if none.

        Takes no lock, starts nothing, and asks nobody.

        Parameters
        ----------
        question : Question
        place : Place
            Where it is asked; each stored turn answers there only.
        """
        found = self.replay.find(question, place)
        return Answer.of(found, self.id, replayed=True) if found is not None else None

    # -- asking ----------------------------------------------------------------------------

    async def ask(
        self,
        question: Question | str,
        *,
        model: str = "",
        place: Place | None = None,
        instead: Instead | None = None,
        anew: bool = True,
        offer: Offer = NO_TOOLS,
        timeout: float | None = None,
        emit: Emit = lambda _: None,
    ) -> Answer:
        """Ask the model, and return the answer once it is stored.

        Parameters
        ----------
        question : Question or str
            A text is a prompt that is sent as it is.
        model : str, optional
            With a text: ask this model, for this turn only.
        place : Place, optional
            Where it is asked: the same question there is answered from the store next time.
        instead : Instead, optional
            An earlier turn: it and what follows are taken out, and kept aside.
        anew : bool
            Ask even if the conversation has the answer.
        offer : Offer, optional
            The tools that the model may use; whoever offers some answers their calls, which
            `emit` gets.
        timeout : float, optional
            Seconds for the whole turn.
        emit : callable, optional
            Called on the loop's thread with what the turn says while it runs.

        Returns
        -------
        Answer

        Raises
        ------
        CopilotError
            The session is then as if the prompt had not been asked. The same holds when
            the coroutine is cancelled.
        """
        if isinstance(question, str):
            question = Question(question, model=model)
        question = replace(question, prompt=checked(question.prompt))
        place = place or Place()
        self._check_writable("Ask in a copy of it")
        async with self._turn:
            self._asking = asyncio.current_task()
            try:
                return await self._whole_turn(question, place, instead, anew, offer, timeout, emit)
            except asyncio.CancelledError:
                if self._hold.lost:
                    raise self._hold.taken_error() from None
                raise
            finally:
                self._asking = None
                self._used = time.monotonic()
                if not self.is_open:  # the turn could not begin, or its repair has to wait
                    self._hold.release()

    async def _whole_turn(
        self,
        question: Question,
        place: Place,
        instead: Instead | None,
        anew: bool,  # noqa: FBT001 -- one caller, which names it
        offer: Offer,
        timeout: float | None,
        emit: Emit,
    ) -> Answer:
        live = await self._open(question.model, offer, emit)
        # Whoever wrote or was withdrawn while this turn waited has changed what is there.
        if not anew and (found := self.replay.find(question, place)) is not None:
            return Answer.of(found, self.id, replayed=True)
        if instead and not instead.whatever_follows and not self.replay.ends_with(instead.event):
            emit(Notice(f"{self.id} went on meanwhile; asked at the end."))
            instead = None
        copy = await self._take_out(live, instead.event, emit) if instead else ""
        asked_at = datetime.now(UTC)
        before = self._store.size(self.id)
        try:
            outcome = await live.ask(
                question.text,
                shown=question.prompt,
                attachments=question.attachments,
                emit=emit,
                stall_timeout=self._settings.stall_timeout,
                timeout=timeout,
            )
        except BaseException as error:
            whole = await to_the_end(
                unfinished.withdraw(self._connection, self._hold, live, before, emit)
            )
            if copy and not self._hold.is_taken():  # a new owner puts it back
                await to_the_end(self._put_back(copy))
            if isinstance(error, RuntimeDiedError) and self._hold.is_taken():
                self._hold.lost = True
                raise self._hold.taken_error() from error
            if isinstance(error, RuntimeDiedError):
                raise unfinished.died(restarted=whole, used=live.used) from error
            raise
        self.terms.create = False
        if copy:
            kept.explain(self._store, copy, kept.REPLACED)
        return await self._answer(question, place, outcome, asked_at, before)

    async def _answer(
        self, question: Question, place: Place, outcome: Outcome, asked_at: datetime, before: int
    ) -> Answer:
        """Return the answer as it is stored: what is shown now is what is shown ever after."""
        outputs.keep(self._store, self.id, outcome.event_id, outcome.outputs)
        record = Record.of(question, place, outcome)
        deadline = time.monotonic() + STORED
        while (stored := self.replay.added(record, before, place)) is None:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.005)
        self._connection.has_read()
        if stored is not None:
            return Answer.of(stored, self.id)
        logger.debug("turn %s of %s is not on disk", outcome.event_id, self.id)
        live = self._connection.live
        return Answer(
            text=outcome.answer,
            session=self.id,
            turn=self.replay.count(),
            event_id=outcome.event_id,
            prompt=question.prompt,
            model=outcome.model or (live.provider.model if live else ""),
            at=asked_at,
            usage=outcome.usage,
        )

    # -- taking turns out ------------------------------------------------------------------

    async def rewind(self, turn: int) -> str:
        """Take the conversation back to before a turn; all of it is kept as a copy.

        Parameters
        ----------
        turn : int
            Its number, from 1.

        Returns
        -------
        str
            The id of the copy.

        Raises
        ------
        BadInputError
            If there is no such turn.
        SessionInUseError
            If somebody else writes the session.
        """
        async with self._alone():
            entries = self.replay.entries()
            if not 1 <= turn <= len(entries):
                raise BadInputError(
                    f"{self.id} has no turn {turn}; it has {len(entries)}.",
                    "%copilot_history numbers them.",
                )
            copy = kept.keep(self._store, self.id, kept.REWOUND)
            self._store.cut(self.id, entries[turn - 1].start)
            return copy

    async def settle(self) -> str:
        """Finish what a killed kernel left half done; return a line about it, "" if nothing."""
        async with self._alone() as said:
            return said

    async def put_back(self, copy: str) -> str:
        """Make the conversation what it was when a copy was kept.

        Returns
        -------
        str
            Where the conversation as it was until now is kept, "" if nothing in it is new.
        """
        async with self._alone():
            old = {turn.event_id for turn in transcript.turns(self._store.journal(copy).events)}
            new = any(turn.event_id not in old for turn in self.turns())
            return kept.put_back(self._store, self.id, copy, keep_current=new)

    async def take_in(self, turns: Sequence[EmbeddedTurn]) -> None:
        """Append turns that went on from the end of the conversation elsewhere.

        Raises
        ------
        SessionInUseError
            If somebody else writes the session.
        """
        async with self._alone():
            carry.go_on(self._store, self.id, turns)

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[str]:
        """Hold the session with no runtime on it, and let it go afterwards.

        Yields a line about a half-done replacement that was finished first, or "".
        """
        self._check_writable("Change a copy of it")
        self._check_idle()
        async with self._turn:
            await self._take_hold(lambda _: None)
            try:
                await self._connection.close()
                if not self.exists:
                    raise self._store.not_found(self.id)
                said = kept.settle(self._store, self.id)
                unfinished.repair_closed(self._store, self.id, self.replay)
                yield said
            finally:
                await self._let_go()

    async def _take_out(self, live: LiveSession, event_id: str, emit: Emit) -> str:
        """Take a turn and what follows out, and return where all of it is kept."""
        copy = kept.keep(self._store, self.id, kept.PENDING)
        said = f"The conversation as it was is kept as {copy}; %copilot_undo puts it back."
        emit(Notice(said))
        try:
            await live.truncate(event_id)
        except BaseException:  # sent, it may have been done all the same
            await to_the_end(self._put_back(copy))
            raise
        return copy

    async def _put_back(self, copy: str) -> None:
        await self._connection.close()
        if self._store.exists(copy):
            kept.put_back(self._store, self.id, copy, keep_current=False)

    # -- one writer ------------------------------------------------------------------------

    def _check_writable(self, do: str) -> None:
        if self.terms.read_only:
            raise ReadOnlyError(
                f"This notebook only reads the session {self.id}.",
                f"{do}: %copilot_resume {self.id} --fork.",
            )

    async def _open(self, model: str, offer: Offer, emit: Emit) -> LiveSession:
        await self._take_hold(emit)
        was_open = self._connection.live
        live = await self._connection.open(model, offer, emit)
        if live is not was_open:
            self._hold.beat()
        if self._beating is None or self._beating.done():
            self._beating = asyncio.create_task(self._beat())
        return live

    async def _take_hold(self, emit: Emit) -> None:
        """Make sure that nobody else writes the session."""
        if self._hold.lost or (self.is_open and self._hold.is_taken()):
            await self._lose()
            raise self._hold.taken_error()
        try:
            said = await self._hold.take()
        except SessionInUseError:
            await self._let_go()
            raise
        if said:
            emit(Notice(said))

    async def _lose(self) -> None:
        self._hold.lost = True
        await self._connection.close()

    async def _beat(self) -> None:
        """Keep the lock warm, notice when it is lost, let go when idle."""
        while True:
            release = self._settings.idle_release
            if self._runtime.is_shared:
                release = min(release, SHARED_IDLE)
            await asyncio.sleep(min(HEARTBEAT, release / 2))
            if not self.is_open:  # let go meanwhile: the lock is nobody's or another's
                return
            with contextlib.suppress(StateFolderError):
                self._hold.beat()
            if self._hold.is_taken():
                self._hold.lost = True
                self.stop()
                async with self._turn:
                    await self._lose()
                return
            idle = time.monotonic() - self._used
            if self._asking is None and idle > release:
                async with self._turn:
                    await self._let_go()
                return

    # -- letting go ------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop the running turn, if there is one; it is taken out of the session."""
        if self._asking is not None:
            self._asking.cancel()

    def come_back(self) -> None:
        """Use a session again that another kernel took, if that one has let go since."""
        self._hold.come_back()

    async def release(self) -> None:
        """Let the session go, so that a terminal or another notebook may write it.

        Raises
        ------
        SessionInUseError
            If a question of this kernel is being answered.
        """
        self._check_idle()
        await self.close()

    async def close(self) -> None:
        """Let the session go once the running turn, if there is one, has ended."""
        async with self._turn:
            await self._let_go()

    def _check_idle(self) -> None:
        # Whoever waits here may be the thread that is to answer the turn's tool calls. One that
        # was stopped calls none any more, and is waited for.
        if self._asking is not None and not self._asking.cancelling():
            raise SessionInUseError(
                f"{self.id} is answering a question of this kernel.",
                "Wait for the answer, or cancel that question.",
            )

    async def _let_go(self) -> None:
        await self._connection.close()
        self._hold.release()
