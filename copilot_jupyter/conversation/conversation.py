"""One conversation: every turn is whole in its session, or not in it at all.

Everything ``async`` here runs on the kernel's private loop. Nothing here knows IPython,
a widget or the SDK.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psutil

from copilot_jupyter.errors import (
    BadInputError,
    CopilotError,
    ReadOnlyError,
    RuntimeDiedError,
    SessionDamagedError,
    SessionInUseError,
    SessionTakenError,
    StateFolderError,
)
from copilot_jupyter.events import NO_TOOLS, Notice, Offer, Progress, Provider, Turn, TurnEvent
from copilot_jupyter.runtime.provider import resolve
from copilot_jupyter.runtime.session import to_the_end
from copilot_jupyter.runtime.shared import is_shared

from . import carry, kept, mend, transcript
from .answer import Answer
from .lock import Owner, SessionLock, lock_file, this_place
from .question import Question, checked
from .records import Record
from .replay import Place, Replay

if TYPE_CHECKING:
    from copilot_jupyter.runtime.client import Runtime
    from copilot_jupyter.runtime.session import LiveSession, Outcome
    from copilot_jupyter.runtime.store import Holder, Store
    from copilot_jupyter.settings import Copilot

    from .embedded import EmbeddedTurn

logger = logging.getLogger(__name__)

#: Seconds between two heartbeats of the lock: how soon a take-over is noticed.
HEARTBEAT = 1.0
#: Seconds that a runtime of a former life, or of the kernel taken over, gets to let go.
LET_GO = 5.0
#: Seconds of idleness after which a session is let go in a runtime that many kernels share: an
#: open one takes 2.4 MB of it, one that was let go 0.3; to open it again takes 30 ms (measured).
SHARED_IDLE = 5.0
#: Seconds that a finished turn may take to be whole on disk (measured: it is there at once).
STORED = 0.5

Emit = Callable[[TurnEvent], None]


@dataclass
class Terms:
    """How a notebook holds a conversation.

    Parameters
    ----------
    who : str
        The notebook's name, for the person who meets our lock.
    folder : str
        Working directory of the session.
    metadata : dict
        Client metadata that ties the session to the notebook.
    create : bool
        Make the session at the first turn if it does not exist.
    take_over : bool
        Take the session from a live owner, once.
    read_only : bool
        Never ask.
    """

    who: str = ""
    folder: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    create: bool = False
    take_over: bool = False
    read_only: bool = False


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
        self._lock = SessionLock(lock_file(store.ours, session_id), terms.who)
        self._turn = asyncio.Lock()
        self._live: LiveSession | None = None
        self._offer = NO_TOOLS
        self._opened_for: tuple[object, ...] = ()
        self._size = 0
        self._beating: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[Answer] | None = None
        self._taken = False
        self._used = time.monotonic()

    # -- reading ---------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        """Whether the session is on disk."""
        return self._store.exists(self.id)

    @property
    def is_open(self) -> bool:
        """Whether this kernel holds the session open now."""
        return self._live is not None

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
        if self.terms.read_only:
            raise ReadOnlyError(
                f"This notebook only reads the session {self.id}.",
                f"Ask in a copy of it: %copilot_resume {self.id} --fork.",
            )
        async with self._turn:
            self._asking = asyncio.current_task()
            try:
                return await self._whole_turn(question, place, instead, anew, offer, timeout, emit)
            except asyncio.CancelledError:
                if self._taken:
                    raise self._taken_error() from None
                raise
            finally:
                self._asking = None
                self._used = time.monotonic()
                if self._live is None:  # the turn could not begin, or its repair has to wait
                    self._lock.release()

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
            whole = await to_the_end(self._withdraw(live, before, emit))
            if copy and not self._is_taken():  # a new owner puts it back
                await to_the_end(self._put_back(copy))
            if isinstance(error, RuntimeDiedError) and self._is_taken():
                self._taken = True
                raise self._taken_error() from error
            if isinstance(error, RuntimeDiedError):
                raise _died_in_turn(restarted=whole, used=live.used) from error
            raise
        self.terms.create = False
        if copy:
            kept.explain(self._store, copy, kept.REPLACED)
        return await self._answer(question, place, outcome, asked_at, before)

    async def _answer(
        self, question: Question, place: Place, outcome: Outcome, asked_at: datetime, before: int
    ) -> Answer:
        """Return the answer as it is stored: what is shown now is what is shown ever after."""
        record = Record(
            event=outcome.event_id,
            key=question.key,
            cell=place.cell,
            nth=place.nth,
            whole=place.whole,
            asked=place.asked,
            values=dict(question.values),
            usage=(outcome.usage.input_tokens, outcome.usage.output_tokens),
            cost=outcome.usage.cost,
        )
        deadline = time.monotonic() + STORED
        while (stored := self.replay.added(record, before, place)) is None:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.005)
        self._size = self._store.size(self.id)
        if stored is not None:
            return Answer.of(stored, self.id)
        logger.debug("turn %s of %s is not on disk", outcome.event_id, self.id)
        return Answer(
            text=outcome.answer,
            session=self.id,
            turn=self.replay.count(),
            event_id=outcome.event_id,
            prompt=question.prompt,
            model=outcome.model or (self._live.provider.model if self._live else ""),
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
        if self.terms.read_only:
            raise ReadOnlyError(
                f"This notebook only reads the session {self.id}.",
                f"Change a copy of it: %copilot_resume {self.id} --fork.",
            )
        async with self._turn:
            await self._hold(lambda _: None)
            try:
                await self._close()
                if not self.exists:
                    raise self._store.not_found(self.id)
                said = kept.settle(self._store, self.id)
                cut_off = transcript.dangling(self._store.tail(self.id).events)
                entry = self.replay.entry(cut_off.event_id) if cut_off else None
                if cut_off and entry and not cut_off.had_effects:
                    self._store.cut(self.id, entry.start)
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
        await self._close()
        if self._store.exists(copy):
            kept.put_back(self._store, self.id, copy, keep_current=False)

    # -- opening ---------------------------------------------------------------------------

    async def _open(self, model: str, offer: Offer, emit: Emit) -> LiveSession:
        await self._hold(emit)
        if self._live is not None:
            reached = self._live.alive and self._runtime.reaches(self._live.provider)
            grown = self._grown()
            if reached and not grown and self._opened_for == self._terms_of(model, offer):
                return self._live
            if reached and grown:
                emit(Notice(f"{self.id} went on elsewhere; this notebook has read on."))
            await self._close()
        # Said by the turn, in its own cell: the runtime works on a thread that may not draw.
        self._runtime.say = lambda line: emit(Progress(line))
        # Another model is another resume: a switch would put a notice into the prompt (measured).
        self._offer, self._opened_for = offer, self._terms_of(model, offer)
        provider = resolve(self._settings.provider, model or self._settings.model, os.environ)
        provider = await self._runtime.prepare(provider, self._settings.local_model)
        if self._settings.system_message:
            provider = replace(provider, system_message=self._settings.system_message)
        if self.exists and (said := kept.settle(self._store, self.id)):
            emit(Notice(said))
        live = await self._resume(provider, emit)
        try:
            await self._repair(live, emit)
            await self._annotate(live)
        except BaseException:
            await to_the_end(live.close())
            raise
        self._live = live
        self._lock.beat(self._runtime.pid)
        if self._beating is None or self._beating.done():
            self._beating = asyncio.create_task(self._beat())
        self._size = self._store.size(self.id)
        return self._live

    def _terms_of(self, model: str, offer: Offer) -> tuple[object, ...]:
        """Return all that an open session is bound to: of anything else it is opened anew."""
        settings = self._settings
        own = (settings.provider, settings.model, settings.local_model, settings.system_message)
        return (model, offer, *own)

    async def _resume(self, provider: Provider, emit: Emit) -> LiveSession:
        if not (self.terms.create or self.exists):
            raise self._store.not_found(self.id)
        self._store.check_usable()
        self._mend(emit)
        try:
            live = await self._runtime.open(
                self.id,
                provider,
                self.terms.folder,
                offer=self._offer,
                create=self.terms.create,
            )
        except SessionDamagedError:
            if not mend.workspace(self._store, self.id):
                raise
            emit(Notice(f"The workspace.yaml of {self.id} could not be read; it was set aside."))
            live = await self._runtime.open(self.id, provider, self.terms.folder, offer=self._offer)
        if live.recovered:
            emit(Notice(mend.said(self.id, live.recovered)))
        return live

    def _mend(self, emit: Emit) -> None:
        """Take out lines that cannot be read: one runtime refuses them, another drops them."""
        if not self.exists:
            return
        journal = self._store.journal(self.id)
        if not journal.has_start:  # the runtime refuses it, and the doctor mends it
            return
        if journal.bad_lines:
            self._store.write_journal(self.id, journal.events)
            emit(Notice(mend.said(self.id, journal.bad_lines)))
        elif journal.events[0]["data"].get("sessionId") != self.id:
            self._store.write_journal(self.id, journal.events)
            emit(Notice(f"The transcript of {self.id} named another session; it was put right."))

    async def _repair(self, live: LiveSession, emit: Emit) -> None:
        """Take out a prompt that a kill left unanswered."""
        if not self.exists:  # made a moment ago: it is written with its first turn
            return
        cut_off = transcript.dangling(self._store.tail(self.id).events)
        if cut_off is None:
            return
        prompt = transcript.one_line(cut_off.prompt)
        if cut_off.had_effects:
            emit(Notice(f"A prompt that was cut off earlier is kept, for what was done: {prompt}"))
            return
        await live.truncate(cut_off.event_id)
        emit(Notice(f"A prompt that was cut off earlier was taken out: {prompt}"))

    async def _annotate(self, live: LiveSession) -> None:
        known = self._store.client_metadata(self.id)
        wanted = {k: v for k, v in self.terms.metadata.items() if known.get(k) != v}
        if not wanted:
            return
        try:
            await live.annotate(wanted)
        except SessionDamagedError:  # an index only: no turn fails for it
            self._store.set_aside(self.id, "client-metadata.json")
            await live.annotate(wanted)

    def _grown(self) -> bool:
        """Whether somebody else wrote the transcript since our last turn."""
        size = self._store.size(self.id)
        if size == self._size:
            return False
        if size < self._size:
            return True
        added = self._store.added(self.id, self._size)
        return any(event["type"] in ("user.message", "assistant.message") for event in added)

    # -- one writer ------------------------------------------------------------------------

    async def _hold(self, emit: Emit) -> None:
        """Make sure that nobody else writes the session."""
        if self._taken or (self._live is not None and self._is_taken()):
            await self._lost()
            raise self._taken_error()
        owner = self._lock.owner()
        lived = owner is not None and self._lock.alive(owner)
        try:
            before = self._lock.acquire(take_over=self.terms.take_over)
        except SessionInUseError as error:
            raise self._in_use(error.what) from None
        self.terms.take_over = False
        ours = {self._runtime.pid, *([before.runtime_pid] if before else [])}
        others = await self._wait_for_release(ours, before)
        if others:
            await self._let_go()
            raise self._in_use(f"The session {self.id} is open in {others[0]}.")
        if before is not None and lived and before.pid != os.getpid():
            emit(Notice(f"{self.id} was taken over from {before}."))

    async def _wait_for_release(self, ours: set[int], before: Owner | None) -> list[Holder]:
        """Wait for a runtime of the former owner to let go; return who else holds the session."""
        deadline = time.monotonic() + LET_GO
        while True:
            holders = [h for h in self._store.holders(self.id) if h.pid != self._runtime.pid]
            strangers = [h for h in holders if h.pid not in ours]
            if strangers or not holders:
                return strangers
            if time.monotonic() > deadline:
                here = before is not None and before.place == this_place()
                if here and not is_shared(self._store, holders[0].pid):
                    _end(holders[0].pid)
                return []
            await asyncio.sleep(0.02)

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
                self._lock.beat(self._runtime.pid)
            if self._is_taken():
                self._taken = True
                self.stop()
                async with self._turn:
                    await self._lost()
                return
            idle = time.monotonic() - self._used
            if self._asking is None and idle > release:
                async with self._turn:
                    await self._let_go()
                return

    def _is_taken(self) -> bool:
        """Whether another kernel has the lock; one whose file is gone is nobody's."""
        return self._lock.is_taken()

    async def _lost(self) -> None:
        self._taken = True
        await self._close()

    def _taken_error(self) -> SessionTakenError:
        owner = self._lock.owner()
        by = f" by {owner}" if owner else ""
        return SessionTakenError(
            f"The session {self.id} was taken over{by}.",
            f"Take it back with %copilot_resume {self.id} --take-over, or ask in a copy: --fork.",
        )

    def _in_use(self, what: str) -> SessionInUseError:
        return SessionInUseError(
            what.replace("The session is", f"The session {self.id} is"),
            f"Close it there, or: %copilot_resume {self.id} --fork | --take-over | --read-only.",
        )

    # -- letting go ------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop the running turn, if there is one; it is taken out of the session."""
        if self._asking is not None:
            self._asking.cancel()

    async def release(self) -> None:
        """Let the session go, so that a terminal or another notebook may write it."""
        async with self._turn:
            await self._let_go()

    async def _let_go(self) -> None:
        await self._close()
        self._lock.release()

    async def _close(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            await live.close()

    # -- taking a turn back ----------------------------------------------------------------

    async def _withdraw(self, live: LiveSession, before: int, emit: Emit) -> bool:
        """Leave the session as if the prompt had not been asked.

        Parameters
        ----------
        live : LiveSession
        before : int
            The transcript's size before the prompt, in bytes.
        emit : callable

        Returns
        -------
        bool
            Whether the session is whole; otherwise the next live use tries again.
        """
        if self._is_taken():  # the new owner takes the prompt out
            with contextlib.suppress(CopilotError):
                await live.step_aside()
            await self._close()
            return False
        touched = live.used  # the transcript alone can't tell what was begun
        try:
            live = await self._settle(live, emit)
            added = transcript.turns(self._store.added(self.id, before))
            cut_off = added[0] if added else transcript.dangling(self._store.tail(self.id).events)
            if cut_off is not None and not (cut_off.had_effects and touched):
                await live.truncate(cut_off.event_id)
            elif not added:
                # Aborted before the prompt was stored, the runtime forgets the last answer
                # until the session is resumed (measured on 1.0.85 and 1.0.102).
                return await self._cut_back(before)
        except CopilotError as error:
            logger.debug("withdrawing a turn of %s: %s", self.id, error)
            return await self._cut_back(before)
        else:
            return True
        finally:
            self._size = self._store.size(self.id)

    async def _settle(self, live: LiveSession, emit: Emit) -> LiveSession:
        """End the running turn; instead of a runtime that died or hangs, start a new one."""
        if live.alive:
            try:
                await live.abort()
            except CopilotError as error:
                logger.debug("aborting a turn of %s: %s", self.id, error)
                await self._runtime.kill()
            else:
                return live
        await self._close()
        self._live = await self._resume(live.provider, emit)
        return self._live

    async def _cut_back(self, before: int) -> bool:
        """Cut the transcript itself back: works where the runtime can't, as on a full disk."""
        await self._close()
        try:
            self._store.cut(self.id, before)
            return transcript.dangling(self._store.tail(self.id).events) is None
        except CopilotError as error:
            logger.debug("cutting %s back: %s", self.id, error)
            return False


def _died_in_turn(*, restarted: bool, used: str) -> RuntimeDiedError:
    became = (
        f"the turn is kept in the session, because {used} was used"
        if used
        else "it was restarted, and nothing of the turn was kept"
        if restarted
        else "the turn is taken out at the next use"
    )
    return RuntimeDiedError(
        f"The Copilot runtime ended in the middle of the turn; {became}.", "Run the cell again."
    )


def _end(pid: int) -> None:
    """End the runtime of a former owner that does not let go of the session."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if "copilot" in process.name():
            process.kill()
