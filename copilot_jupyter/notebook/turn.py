"""A turn as a person sees it: one plain generator, two drivers.

In a kernel the cell is awaited on the kernel's own loop, so that widgets and the stop
button work while the answer streams; in a terminal, and where a magic runs inside another
one, the same generator is driven synchronously. The SDK's callbacks only fill buffers:
what is drawn is drawn from here, in the cell's own context (``painters.py`` has how).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol

from copilot_jupyter.conversation.answer import Answer
from copilot_jupyter.errors import TurnInterrupted
from copilot_jupyter.events import (
    LeaveAsked,
    Notice,
    Progress,
    TextDelta,
    ToolAsked,
    ToolStarted,
    TurnEvent,
    TurnRetry,
    used,
)
from copilot_jupyter.interrupts import interruptible

if TYPE_CHECKING:
    from copilot_jupyter.runtime.loop import LoopThread

#: Longest time between two looks, in seconds; deltas and the end wake the driver sooner.
BEAT = 0.05
#: Seconds that the stop button waits for the prompt to be taken out again (measured: 0.06).
_WITHDRAWAL = 0.25
#: Seconds without an answer after which a placeholder is shown.
_PATIENCE = 0.3
#: The part of a text that has to be new before it is drawn again: a fortieth.
_GROWTH = 40
#: Seconds between two looks at the clock while nothing comes, and characters drawn for that.
_CLOCK, _SHORT = 1.0, 10_000

#: Yields None at a pause, or an awaitable whose result is to be sent back.
Steps = Generator[Awaitable[Any] | None, Any, Answer]
#: The same without an answer: what a turn waits for beside itself.
Looking = Generator[Awaitable[Any] | None, Any, None]
#: Goes on with one of them: sends it a result, or throws an error into it.
Step = Callable[[Any], Awaitable[Any] | None]
Emit = Callable[[TurnEvent], None]
Ask = Callable[[Emit], Coroutine[Any, Any, Answer]]


class Waker(Protocol):
    """Lets the loop's thread cut a driver's pause short."""

    def wake(self) -> None:
        """End the pause; callable from any thread."""


class Painter(Protocol):
    """Draws one turn."""

    def show(self, text: str, remark: str, elapsed: float | None = None) -> None:
        """Draw what has come so far, `elapsed` seconds after the prompt; None: no more comes."""

    def note(self, line: str) -> None:
        """Show one line beside the answer."""

    def begin_anew(self) -> None:
        """Draw in a new place: what was drawn is gone from the cell."""

    def finish(self, answer: Answer) -> None:
        """Draw the stored answer."""


class Helper(Protocol):
    """Answers what the model asks of the kernel while a turn runs."""

    def answer(self, asked: ToolAsked | LeaveAsked) -> Looking:
        """Do it; yields as a turn's steps do."""


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
        self._ask = ask

    def start(self) -> None:
        """Begin to ask."""
        self._loop.submit(self._run())

    def interrupt(self) -> None:
        """Stop the turn and wait, but not for long, until its prompt is taken out."""
        self._stopped = True
        self._loop.loop.call_soon_threadsafe(self._cancel)
        self.done.wait(_WITHDRAWAL)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        self._task = asyncio.current_task()
        if self._stopped:  # what was prepared for the turn is still to be put in order
            self._cancel()
        try:
            self.answer = await self._ask(self._emit)
        except BaseException as error:  # noqa: BLE001 -- handed to the cell, which raises it
            self.error = error
        finally:
            self.done.set()
            self._waker.wake()

    def _emit(self, event: TurnEvent) -> None:
        self.events.append(event)
        self._waker.wake()


def steps(loop: LoopThread, ask: Ask, painter: Painter, waker: Waker, helper: Helper) -> Steps:
    """Run one turn; yields at every pause and returns the answer.

    Parameters
    ----------
    loop : LoopThread
    ask : callable
        Takes `emit` and returns the coroutine that asks.
    painter : Painter
    waker : Waker
        Of the driver.
    helper : Helper

    Raises
    ------
    CopilotError
        As the conversation raises them.
    TurnInterrupted
        On the stop button: the prompt has been taken out of the session again, unless a
        tool may have changed something.
    """
    turn, seen, pace = RunningTurn(loop, ask, waker), _Seen(), _Pace()
    try:
        turn.start()
        while not turn.done.is_set() or turn.events:
            while turn.events:
                event = turn.events.popleft()
                if isinstance(event, Notice):
                    if seen.length:
                        painter.show(seen.text, seen.remark, pace.elapsed)
                    painter.note(event.text)
                elif isinstance(event, ToolAsked | LeaveAsked):
                    seen.take(event)
                    painter.show(seen.text, seen.remark, pace.elapsed)
                    yield from _answered(helper, event, turn)
                    if isinstance(event, ToolAsked) and event.cleared:
                        painter.begin_anew()
                else:
                    seen.take(event)
            if not turn.done.is_set():
                if pace.due(seen.length, seen.remark):
                    painter.show(seen.text, seen.remark, pace.elapsed)
                    pace.drawn()
                yield None
    except (KeyboardInterrupt, asyncio.CancelledError):
        turn.interrupt()
        if turn.answer is not None:  # it was faster than the button
            painter.finish(turn.answer)
            raise TurnInterrupted("Stopped; the answer was complete already and is kept.") from None
        painter.show(seen.text, f"interrupted; {seen.kept}")
        if used(seen.asked):
            raise TurnInterrupted(f"Interrupted; the turn is {seen.kept}.") from None
        raise TurnInterrupted from None
    except BaseException:  # the painter failed: nothing is stored behind a cell that failed
        turn.interrupt()
        raise
    if turn.answer is None:
        painter.show(seen.text, f"failed; {seen.kept}")
        if turn.error is None or isinstance(turn.error, asyncio.CancelledError):
            raise TurnInterrupted
        raise turn.error
    painter.finish(turn.answer)
    return turn.answer


def _answered(helper: Helper, asked: ToolAsked | LeaveAsked, turn: RunningTurn) -> Looking:
    """Have a call answered, as long as somebody waits for the answer.

    The model's runtime may die, or the time be up, while the person is still being asked.
    """
    steps = helper.answer(asked)
    step: Step = steps.send
    given: Any = None
    while not (turn.done.is_set() or asked.answer.cancelled()) or step == steps.throw:
        try:
            wanted = step(given)
        except StopIteration:
            return
        try:
            step, given = steps.send, (yield wanted)
        except BaseException as error:  # noqa: BLE001 -- the helper's own to handle
            step, given = steps.throw, error
    steps.close()


class _Seen:
    """What a turn has said so far."""

    def __init__(self) -> None:
        self.length = 0
        self.remark = ""
        self._pieces: list[str] = []
        self.asked: list[ToolAsked | LeaveAsked] = []

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def kept(self) -> str:
        """What becomes of a turn that ends here."""
        if tool := used(self.asked):
            return f"kept in the session, because {tool} was used"
        return "not kept in the session"

    def take(self, event: TurnEvent) -> None:
        """Take what the turn says in."""
        if isinstance(event, TextDelta):
            self._pieces.append(event.text)
            self.length += len(event.text)
            self.remark = ""
        elif isinstance(event, TurnRetry):
            self._pieces.clear()  # the answer begins anew
            self.length, self.remark = 0, f"trying again: {event.reason}"
        elif isinstance(event, Progress):
            self.remark = event.text
        elif isinstance(event, ToolStarted):
            self.remark = f"running {event.name}"
            # What is said before and after a call are two paragraphs.
            if self._pieces and self._pieces[-1] != "\n\n":
                self._pieces.append("\n\n")
        elif isinstance(event, ToolAsked | LeaveAsked):
            self.asked.append(event)


class _Pace:
    """When to draw again: rarer the longer the answer and the slower the drawing."""

    def __init__(self) -> None:
        self._began = self.asked = time.monotonic()
        self._last = 0.0
        self._cost = 0.0
        self._state = self._shown = (0, "")

    @property
    def elapsed(self) -> float:
        """Seconds since the turn began."""
        return time.monotonic() - self._began

    def due(self, length: int, remark: str) -> bool:
        """Whether what there is now should be drawn."""
        self.asked, self._state = time.monotonic(), (length, remark)
        if self._state == self._shown:
            # The clock goes on, where that is cheap.
            pause = max(_CLOCK, length / 2_000) if self._last else _PATIENCE
            return length < _SHORT and self.asked - (self._last or self._began) > pause
        # All of it is sent each time: the longer it is, the more is to be new.
        shown = self._shown[0]
        if remark == self._shown[1] and shown < length < shown + shown // _GROWTH:
            return False
        # At 200 updates a second a page lags a minute behind 50 kB; so 10 a second, 4 at 50 kB.
        pause = max(0.1, length / 200_000, 5 * self._cost)
        return self.asked - self._last >= pause

    def drawn(self) -> None:
        """Note that it was, and how long that took."""
        self._last = time.monotonic()
        self._cost = self._last - self.asked
        self._shown = self._state


async def drive(make: Callable[[Waker], Steps]) -> Answer:
    """Drive a turn on the kernel's own loop, which stays free for comms and the stop button."""
    waker = _LoopWaker(asyncio.get_running_loop())
    with closing(make(waker)) as turn:
        step: Step = turn.send
        given: Any = None
        while True:
            try:
                wanted = step(given)
            except StopIteration as end:
                return _answer(end)
            try:
                step, given = turn.send, await (waker.wait() if wanted is None else wanted)
            except BaseException as error:  # noqa: BLE001 -- the turn's own to handle
                step, given = turn.throw, error


def drive_sync(make: Callable[[Waker], Steps]) -> Answer:
    """Drive a turn from a thread that may block: terminal IPython, magics inside magics."""
    waker = _ThreadWaker()
    with interruptible(), closing(make(waker)) as turn:
        step: Step = turn.send
        given: Any = None
        while True:
            try:
                wanted = step(given)
            except StopIteration as end:
                return _answer(end)
            try:
                step, given = turn.send, None
                if wanted is None:
                    waker.wait()
                else:
                    given = _wait_for(wanted)
            except BaseException as error:  # noqa: BLE001 -- the turn's own to handle
                step, given = turn.throw, error


def _wait_for(wanted: Awaitable[Any]) -> Any:
    """Return what an awaitable gives, on a thread where nothing can be awaited for long."""
    steps = wanted.__await__()
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    told = "Nothing can be awaited here: the cell that asks is not a plain one."
    try:
        steps.throw(RuntimeError(told))
    except StopIteration as end:  # it has made the best of it
        return end.value
    steps.close()
    raise RuntimeError(told)


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
