"""A turn as a person sees it: one plain generator, two drivers.

In a kernel the cell is awaited on the kernel's own loop, so that widgets and the stop
button work while the answer streams; in a terminal, and where a magic runs inside another
one, the same generator is driven synchronously. The SDK's callbacks only fill buffers:
what is drawn is drawn here, in the cell's own context.
"""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Protocol

from copilot_jupyter.conversation.answer import Answer
from copilot_jupyter.errors import TurnInterrupted
from copilot_jupyter.events import Notice, Progress, TextDelta, TurnEvent, TurnRetry
from copilot_jupyter.notebook import render

if TYPE_CHECKING:
    from copilot_jupyter.runtime.loop import LoopThread

#: Longest time between two looks, in seconds; deltas and the end wake the driver sooner.
BEAT = 0.05
#: Seconds that the stop button waits for the prompt to be taken out again (measured: 0.06).
_WITHDRAWAL = 0.25
#: Seconds without an answer after which a placeholder is shown.
_PATIENCE = 0.3

#: What a terminal obeys instead of showing it.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

Steps = Generator[None, None, Answer]
Emit = Callable[[TurnEvent], None]
Ask = Callable[[Emit], Coroutine[Any, Any, Answer]]


class Waker(Protocol):
    """Lets the loop's thread cut a driver's pause short."""

    def wake(self) -> None:
        """End the pause; callable from any thread."""


class Painter(Protocol):
    """Draws one turn."""

    def show(self, text: str, remark: str, *, final: bool) -> None:
        """Draw what has come so far."""

    def note(self, line: str) -> None:
        """Show one line beside the answer."""

    def finish(self, answer: Answer) -> None:
        """Draw the stored answer."""


class RunningTurn:
    """A turn on the loop's thread, seen from the cell.

    Parameters
    ----------
    loop : LoopThread
    ask : callable
        Takes `emit` and returns the coroutine that asks.
    waker : Waker
    """

    def __init__(self, loop: LoopThread, ask: Ask, waker: Waker) -> None:
        self.events: deque[TurnEvent] = deque()
        self.done = threading.Event()
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self._waker = waker
        self._task: asyncio.Task[Any] | None = None
        self._stopped = False
        self._loop = loop
        loop.submit(self._run(ask))

    def interrupt(self) -> None:
        """Stop the turn and wait, but not for long, until its prompt is taken out."""
        self._stopped = True
        self._loop.loop.call_soon_threadsafe(self._cancel)
        self.done.wait(_WITHDRAWAL)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self, ask: Ask) -> None:
        self._task = asyncio.current_task()
        try:
            if not self._stopped:
                self.answer = await ask(self._emit)
        except BaseException as error:  # noqa: BLE001 -- handed to the cell, which raises it
            self.error = error
        finally:
            self.done.set()
            self._waker.wake()

    def _emit(self, event: TurnEvent) -> None:
        self.events.append(event)
        self._waker.wake()


def steps(loop: LoopThread, ask: Ask, painter: Painter, waker: Waker) -> Steps:
    """Run one turn; yields at every pause and returns the answer.

    Parameters
    ----------
    loop : LoopThread
    ask : callable
        Takes `emit` and returns the coroutine that asks.
    painter : Painter
    waker : Waker
        Of the driver.

    Raises
    ------
    CopilotError
        As the conversation raises them.
    TurnInterrupted
        On the stop button: the prompt has been taken out of the session again.
    """
    turn = RunningTurn(loop, ask, waker)
    pieces: list[str] = []
    remark = ""
    pace = _Pace()
    try:
        while not turn.done.is_set() or turn.events:
            while turn.events:
                event = turn.events.popleft()
                if isinstance(event, TextDelta):
                    pieces.append(event.text)
                    remark = ""
                elif isinstance(event, TurnRetry):
                    pieces.clear()  # the answer begins anew
                    remark = f"trying again: {event.reason}"
                elif isinstance(event, Progress):
                    remark = event.text
                elif isinstance(event, Notice):
                    painter.note(event.text)
            if not turn.done.is_set():
                if pace.due(sum(map(len, pieces)), remark):
                    painter.show("".join(pieces), remark, final=False)
                    pace.drawn()
                yield
    except (KeyboardInterrupt, asyncio.CancelledError):
        turn.interrupt()
        if turn.answer is not None:  # it was faster than the button
            painter.finish(turn.answer)
            raise TurnInterrupted("Stopped; the answer was complete already and is kept.") from None
        painter.show("".join(pieces), "interrupted; not kept in the session", final=True)
        raise TurnInterrupted from None
    except BaseException:  # the painter failed: nothing is stored behind a cell that failed
        turn.interrupt()
        raise
    if turn.answer is None:
        painter.show("".join(pieces), "failed; not kept in the session", final=True)
        if turn.error is None or isinstance(turn.error, asyncio.CancelledError):
            raise TurnInterrupted
        raise turn.error
    painter.finish(turn.answer)
    return turn.answer


class _Pace:
    """When to draw again: rarer the longer the answer and the slower the drawing."""

    def __init__(self) -> None:
        self._began = self._asked = time.monotonic()
        self._last = 0.0
        self._cost = 0.0
        self._state = self._shown = (0, "")

    def due(self, length: int, remark: str) -> bool:
        """Whether what there is now should be drawn."""
        self._asked, self._state = time.monotonic(), (length, remark)
        if self._state == self._shown:
            return not self._last and self._asked - self._began > _PATIENCE
        # At 200 updates a second a page lags a minute behind 50 kB; so 10 a second, 4 at 50 kB.
        pause = max(0.1, length / 200_000, 5 * self._cost)
        return self._asked - self._last >= pause

    def drawn(self) -> None:
        """Note that it was, and how long that took."""
        self._last = time.monotonic()
        self._cost = self._last - self._asked
        self._shown = self._state


async def drive(make: Callable[[Waker], Steps]) -> Answer:
    """Drive a turn on the kernel's own loop, which stays free for comms and the stop button."""
    waker = _LoopWaker(asyncio.get_running_loop())
    turn = make(waker)
    try:
        while True:
            next(turn)
            await waker.wait()
    except StopIteration as end:
        return _answer(end)
    except (asyncio.CancelledError, KeyboardInterrupt) as error:
        return _throw(turn, error)


def drive_sync(make: Callable[[Waker], Steps]) -> Answer:
    """Drive a turn from a thread that may block: terminal IPython, magics inside magics."""
    waker = _ThreadWaker()
    turn = make(waker)
    try:
        while True:
            next(turn)
            waker.wait()
    except StopIteration as end:
        return _answer(end)
    except KeyboardInterrupt as error:
        return _throw(turn, error)


def _throw(turn: Steps, error: BaseException) -> Answer:
    if isinstance(error, TurnInterrupted):
        raise error
    try:
        turn.throw(error)
    except StopIteration as end:
        return _answer(end)
    raise TurnInterrupted


def _answer(end: StopIteration) -> Answer:
    answer: Answer = end.value
    return answer


class _LoopWaker:
    """Wakes a coroutine; a call from a thread also wakes the loop's selector."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()

    def wake(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> None:
        try:
            async with asyncio.timeout(BEAT):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event.clear()


class _ThreadWaker:
    """Wakes a thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def wake(self) -> None:
        self._event.set()

    def wait(self) -> None:
        self._event.wait(BEAT)
        self._event.clear()


class CellPainter:
    """Draws in a notebook cell: one output that grows, or one at the end where nobody watches.

    Parameters
    ----------
    metadata : callable
        Returns the output's metadata, given the answer or None.
    streams : bool
        Whether to draw before the end.
    """

    def __init__(
        self, metadata: Callable[[Answer | None], dict[str, Any]], *, streams: bool
    ) -> None:
        self._metadata = metadata
        self._streams = streams
        self._handle: Any = None

    def show(self, text: str, remark: str, *, final: bool) -> None:
        """Draw what has come so far; without a watcher only what was cut off."""
        if final and not text and self._handle is None:
            return
        if final or self._streams:
            self._draw(render.partial_bundle(text, remark), None)

    def note(self, line: str) -> None:
        """Show one line beside the answer."""
        _display(render.plain_bundle(line))

    def finish(self, answer: Answer) -> None:
        """Draw the stored answer."""
        self._draw(render.answer_bundle(answer), answer)

    def _draw(self, bundle: render.Bundle, answer: Answer | None) -> None:
        metadata = self._metadata(answer)
        if self._handle is not None:
            self._handle.update(bundle, raw=True, metadata=metadata)
        elif self._streams and answer is None:
            self._handle = _display(bundle, metadata=metadata, display_id=True)
        else:
            _display(bundle, metadata=metadata)


class TerminalPainter:
    """Writes to a terminal as the text comes."""

    def __init__(self) -> None:
        self._written = ""
        self._remark = ""

    def show(self, text: str, remark: str, *, final: bool) -> None:
        """Write what is new."""
        if not text.startswith(self._written):
            self._write("\n")  # the answer began anew
            self._written = ""
        self._write(text[len(self._written) :])
        self._written = text
        if remark and remark != self._remark:
            self._write(f"{'' if not text else chr(10)}({remark})\n")
        self._remark = remark
        if final and text and not remark:
            self._write("\n")

    def note(self, line: str) -> None:
        """Write one line."""
        self._write(f"({line})\n")

    def finish(self, answer: Answer) -> None:
        """Write the rest of the stored answer."""
        self.show(answer.text, "", final=False)
        self._write("\n")

    def _write(self, text: str) -> None:
        # A terminal obeys control characters: titles, colours, what stands above.
        sys.stdout.write(_CONTROL.sub("\ufffd", text))
        sys.stdout.flush()


def _display(bundle: render.Bundle, **options: Any) -> Any:
    from IPython.display import display

    return display(bundle, raw=True, **options)
