"""A session that is open in the runtime: one turn at a time, each whole or not there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from copilot_jupyter.errors import TurnError, TurnStalledError
from copilot_jupyter.events import Provider, TurnEvent, Usage

from . import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from copilot.session import CopilotSession

    from copilot_jupyter.events import Attachment

    from .calls import Calls
    from .client import Runtime

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: Seconds between two looks at the clock and at the runtime process while a turn runs.
_LOOK = 0.05
#: Seconds that an aborted turn may take to become idle (measured: 0.007).
_ABORT = 2.0


@dataclass(frozen=True)
class Outcome:
    """What a turn ended with.

    Parameters
    ----------
    event_id : str
        Of the user message in the transcript.
    answer : str
    model : str
    usage : Usage
    outputs : tuple of dict
        What the cell has shown of its tool calls, as nbformat has it.
    """

    event_id: str
    answer: str
    model: str
    usage: Usage
    outputs: tuple[dict[str, Any], ...] = ()


@dataclass
class _Listener:
    """Collects the events of one turn."""

    emit: Callable[[TurnEvent], None]
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    last: float = field(default_factory=time.monotonic)
    event_id: str = ""
    texts: list[str] = field(default_factory=list)
    answered: bool = False
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    error: Any = None

    def take(self, event: Any) -> None:
        self.last = time.monotonic()
        kind, data = event.type.value, event.data
        if not getattr(event, "agent_id", None):
            self._remember(kind, data, str(event.id))
        for said in translate.from_event(event):
            self.emit(said)

    def _remember(self, kind: str, data: Any, event_id: str) -> None:
        if kind == "user.message" and not self.event_id:
            self.event_id = event_id
        elif kind == "assistant.turn_start":
            self.begun.set()
        elif kind == "assistant.message":
            if data.content:
                self.texts.append(data.content)
            self.answered = not data.tool_requests
        elif kind == "assistant.usage":
            self.model = data.model or self.model
            self.usage = Usage(
                self.usage.input_tokens + int(data.input_tokens or 0),
                self.usage.output_tokens + int(data.output_tokens or 0),
                self.usage.cost + float(data.cost or 0.0),
            )
        elif kind == "session.error":
            self.error = data
            if data.error_type == "persistence":  # no idle follows it, the runtime tries on
                self.answered = False
                self.begun.set()
                self.idle.set()
        elif kind == "session.idle":
            self.begun.set()
            self.idle.set()


class LiveSession:
    """One open session; made by `Runtime.open`, closed by whoever opened it."""

    def __init__(
        self, runtime: Runtime, raw: CopilotSession, provider: Provider, calls: Calls
    ) -> None:
        self.runtime = runtime
        self.id = raw.session_id
        self.provider = provider
        self.recovered: tuple[int, ...] = tuple(
            getattr(raw.transcript_recovery, "invalid_line_numbers", None) or ()
        )
        self._raw = raw
        self._calls = calls
        self._pid = runtime.pid
        self._ended = False
        if runtime.is_shared:  # there another kernel can close it
            raw.on(self._watch)

    @property
    def alive(self) -> bool:
        """Whether the runtime process that has it open still runs, and still has it open."""
        return not self._ended and self._pid == self.runtime.pid != 0

    def _watch(self, event: Any) -> None:
        self._ended = self._ended or event.type.value == "session.shutdown"

    @property
    def used(self) -> str:
        """The last tool of the last turn that may have changed something, "" if none did."""
        return self._calls.used

    async def ask(
        self,
        text: str,
        *,
        shown: str,
        attachments: Sequence[Attachment] = (),
        emit: Callable[[TurnEvent], None],
        stall_timeout: float,
        timeout: float | None = None,
    ) -> Outcome:
        """Send one prompt and wait for its answer.

        Parameters
        ----------
        text : str
            What the model gets.
        shown : str
            The prompt as written, kept in the transcript.
        attachments : sequence of Attachment, optional
        emit : callable
            Called on the loop's thread with what the turn says while it runs.
        stall_timeout : float
            Seconds without any event after which the turn is given up.
        timeout : float, optional
            Seconds for the whole turn; no limit by default.

        Returns
        -------
        Outcome

        Raises
        ------
        TurnError, NoProviderError
            The prompt may then be in the transcript unanswered: `withdraw` takes it out.
        """
        listener = _Listener(emit)
        unsubscribe = self._raw.on(listener.take)
        self._calls.begin(emit, self.runtime.store.size(self.id))
        try:
            sending = asyncio.ensure_future(
                self._raw.send(
                    text,
                    display_prompt=None if shown == text else shown,
                    attachments=translate.attachments(attachments) or None,
                )
            )
            with translate.sdk_errors(self.id):
                async with asyncio.timeout(stall_timeout):
                    await asyncio.shield(sending)
            await self._finish(listener, stall_timeout, timeout)
        except (asyncio.CancelledError, TurnStalledError):
            await to_the_end(_has_begun(sending, listener))
            raise
        finally:
            unsubscribe()
            self._calls.emit = None
        if listener.error is not None and not listener.answered:
            raise translate.from_session_error(listener.error, self.provider)
        if listener.error is not None and not listener.texts:
            raise TurnError("The model answered nothing.", "Run the cell again, or reword it.")
        if not listener.answered:
            raise TurnError("The model ended its turn without an answer.", "Run the cell again.")
        answer = "\n\n".join(listener.texts)
        outputs = self._calls.outputs
        return Outcome(listener.event_id, answer, listener.model, listener.usage, outputs)

    async def _finish(
        self, listener: _Listener, stall_timeout: float, timeout: float | None
    ) -> None:
        began = time.monotonic()
        while not listener.idle.is_set():
            # Not wait_for: on Python 3.11 it can swallow the stop button.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await listener.idle.wait()
            if not self.alive:
                raise translate.died()
            now = time.monotonic()
            if self._calls.waiting:  # it is we who keep the model waiting
                listener.last = now
            if now - listener.last > stall_timeout:
                raise TurnStalledError(
                    f"Nothing came from the model for {stall_timeout:g} s; the turn was given up.",
                    "Run the cell again, or raise Copilot.stall_timeout.",
                )
            if timeout is not None and now - began > timeout:
                raise TurnStalledError(
                    f"The answer was not complete after {timeout:g} s; the turn was given up.",
                    "Run the cell again with a longer --timeout.",
                )

    async def abort(self) -> None:
        """End a running turn and wait until the runtime is idle; nothing if none runs.

        Raises
        ------
        CopilotError
            If the runtime died or does not answer.
        """
        listener = _Listener(lambda _: None)
        unsubscribe = self._raw.on(listener.take)
        try:
            with translate.sdk_errors(self.id):
                await asyncio.wait_for(self._raw.abort(), _ABORT)
                # Its answer comes after the turn's end (measured), the idle event with it.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(listener.idle.wait(), 0.05)
        finally:
            unsubscribe()

    async def step_aside(self) -> None:
        """End the running turn of a session that another kernel has now."""
        if self.runtime.is_shared:
            # That kernel has closed it here; an abort would end its own turn (measured).
            return
        await self.abort()

    async def truncate(self, event_id: str) -> None:
        """Take the event and all after it out of the transcript and out of the context.

        Raises
        ------
        CopilotError
            If the runtime refuses.
        """
        from copilot.rpc import HistoryTruncateRequest

        with translate.sdk_errors(self.id):
            await self._raw.rpc.history.truncate(HistoryTruncateRequest(event_id=event_id))

    async def annotate(self, metadata: Mapping[str, str]) -> None:
        """Write client metadata of the session: the index from session to notebook."""
        from copilot.rpc import MetadataUpdateClientMetadataRequest

        request = MetadataUpdateClientMetadataRequest(set=dict(metadata))
        with translate.sdk_errors(self.id):
            await self._raw.rpc.metadata.update_client_metadata(request)

    async def close(self) -> None:
        """Let the session go; its data stay. Safe when the runtime is gone."""
        try:
            await asyncio.wait_for(self._raw.disconnect(), _ABORT)
        except Exception as error:  # noqa: BLE001 -- the SDK raises bare Exception
            logger.debug("closing %s: %s", self.id, error)


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Wait for `work` to its end, whatever cancels the wait: a second press of the stop button."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    return task.result()


async def _has_begun(sending: asyncio.Future[Any], listener: _Listener) -> None:
    """Wait until the runtime works on the prompt: an abort before that is lost (measured)."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_ABORT):
            await sending
            await listener.begun.wait()
