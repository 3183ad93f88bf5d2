"""Turns that were not finished: the session is left as if they had not been asked.

Except where a tool had effects: then the turn stays, so that the model knows what was done.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from copilot_jupyter.errors import CopilotError, RuntimeDiedError
from copilot_jupyter.events import Notice

from . import transcript
from .words import beginning

if TYPE_CHECKING:
    from copilot_jupyter.runtime.session import LiveSession
    from copilot_jupyter.state.store import Store

    from .connection import Connection, Emit
    from .hold import Hold
    from .stored.replay import Replay

logger = logging.getLogger(__name__)


async def withdraw(
    connection: Connection, hold: Hold, live: LiveSession, before: int, emit: Emit
) -> bool:
    """Take back a turn that failed or was stopped just now.

    Parameters
    ----------
    connection : Connection
    hold : Hold
    live : LiveSession
        The session in which it was asked.
    before : int
        The transcript's size before the prompt, in bytes.
    emit : callable

    Returns
    -------
    bool
        Whether the session is whole; otherwise the next live use tries again.
    """
    if hold.is_taken():  # the new owner takes the prompt out
        with contextlib.suppress(CopilotError):
            await live.step_aside()
        await connection.close()
        return False
    store, session_id = connection.store, connection.id
    touched = live.used  # the transcript alone can't tell what was begun
    try:
        live = await _end_turn(connection, live, emit)
        added = transcript.turns(store.added(session_id, before))
        cut_off = added[0] if added else transcript.dangling(store.tail(session_id).events)
        if cut_off is not None and not (cut_off.had_effects and touched):
            await live.truncate(cut_off.event_id)
        elif not added:
            # Aborted before the prompt was stored, the runtime forgets the last answer
            # until the session is resumed (measured on 1.0.85 and 1.0.102).
            return await _cut_back(connection, before)
    except CopilotError as error:
        logger.debug("withdrawing a turn of %s: %s", session_id, error)
        return await _cut_back(connection, before)
    else:
        return True
    finally:
        connection.has_read()


async def _end_turn(connection: Connection, live: LiveSession, emit: Emit) -> LiveSession:
    """End the running turn; instead of a runtime that died or hangs, start a new one."""
    if live.alive:
        try:
            await live.abort()
        except CopilotError as error:
            logger.debug("aborting a turn of %s: %s", connection.id, error)
            await connection.runtime.kill()
        else:
            return live
    return await connection.reopen(live.provider, emit)


async def _cut_back(connection: Connection, before: int) -> bool:
    """Cut the transcript itself back: works where the runtime can't, as on a full disk."""
    await connection.close()
    try:
        connection.store.cut(connection.id, before)
        return transcript.dangling(connection.store.tail(connection.id).events) is None
    except CopilotError as error:
        logger.debug("cutting %s back: %s", connection.id, error)
        return False


async def repair(store: Store, live: LiveSession, emit: Emit) -> None:
    """Take out a prompt that a kill left unanswered."""
    if not store.exists(live.id):  # made a moment ago: it is written with its first turn
        return
    cut_off = transcript.dangling(store.tail(live.id).events)
    if cut_off is None:
        return
    prompt = beginning(cut_off.prompt)
    if cut_off.had_effects:
        why = "a tool may have done something for it"
        emit(Notice(f"A prompt that was cut off earlier is kept, since {why}: {prompt}"))
        return
    await live.truncate(cut_off.event_id)
    emit(Notice(f"A prompt that was cut off earlier was taken out: {prompt}"))


def repair_closed(store: Store, session_id: str, replay: Replay) -> None:
    """Take out such a prompt, too, where no runtime has the session open."""
    cut_off = transcript.dangling(store.tail(session_id).events)
    entry = replay.entry(cut_off.event_id) if cut_off else None
    if cut_off and entry and not cut_off.had_effects:
        store.cut(session_id, entry.start)


def died(*, restarted: bool, used: str) -> RuntimeDiedError:
    """Return the error about a runtime that ended in the middle of a turn.

    Parameters
    ----------
    restarted : bool
        Whether the turn could be withdrawn all the same.
    used : str
        The tool that had effects, "" if none did.
    """
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
