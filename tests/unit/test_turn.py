"""A turn as a person sees it, on a real loop thread with a painter that only takes notes."""

from __future__ import annotations

import _thread
import asyncio
import signal
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from copilot_jupyter.conversation.answer import Answer
from copilot_jupyter.errors import ProviderError, TurnInterrupted
from copilot_jupyter.events import (
    Notice,
    Progress,
    TextDelta,
    ToolAnswer,
    ToolAsked,
    ToolStarted,
    TurnRetry,
)
from copilot_jupyter.garbage import uncollected
from copilot_jupyter.notebook import turn as module
from copilot_jupyter.notebook.display import painters
from copilot_jupyter.notebook.display.painters import CellPainter, TerminalPainter
from copilot_jupyter.notebook.turn import drive, drive_sync, steps
from copilot_jupyter.runtime.loop import LoopThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ANSWER = Answer("Hello there", "my-id", 1)

HELPER = SimpleNamespace(answer=None)  # no tools are called here

INTERRUPTED = "interrupted; not kept in the session"


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    made = LoopThread()
    yield made
    made.close()


class Notes:
    """A painter that writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.at: dict[str, Callable[[], None]] = {}

    def show(self, text: str, remark: str, elapsed: float | None = None) -> None:
        self.calls.append(("show", text, remark, elapsed is None))
        self._then(text)

    def note(self, line: str) -> None:
        self.calls.append(("note", line))

    def finish(self, answer: Answer) -> None:
        self.calls.append(("finish", answer))

    def once(self, text: str, then: Callable[[], None]) -> None:
        """Call `then` when this text is shown for the first time."""
        self.at[text] = then

    def _then(self, text: str) -> None:
        if text in self.at:
            self.at.pop(text)()

    @property
    def shown(self) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == "show"]


class Script:
    """A turn that says what it is told to, and notes whether it was cancelled."""

    def __init__(self, *parts: Any, forever: bool = False) -> None:
        self.parts = parts
        self.forever = forever
        self.began = self.ended = self.cancelled = False

    async def __call__(self, emit: module.Emit) -> Answer:
        self.began = True
        try:
            for part in self.parts:
                if isinstance(part, Exception):
                    raise part
                if isinstance(part, float):
                    await asyncio.sleep(part)
                elif isinstance(part, asyncio.Event):
                    await part.wait()
                else:
                    emit(part)
            if self.forever:
                await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        self.ended = True
        return ANSWER


def run_sync(loop: LoopThread, ask: Any, painter: Any, helper: Any = HELPER) -> Answer:
    return drive_sync(lambda waker: steps(loop, ask, painter, waker, helper))


def run_awaited(loop: LoopThread, ask: Any, painter: Any, helper: Any = HELPER) -> Answer:
    async def cell() -> Any:
        try:
            return await drive(lambda waker: steps(loop, ask, painter, waker, helper))
        except TurnInterrupted as error:  # asyncio would not let a KeyboardInterrupt through
            return error

    result = asyncio.run(cell())
    if isinstance(result, BaseException):
        raise result
    return result


both_drivers = pytest.mark.parametrize("run", [run_sync, run_awaited])


# -- what is drawn ----------------------------------------------------------------------------


@both_drivers
def test_the_answer_grows_and_ends_as_the_stored_one(loop, run):
    painter = Notes()
    ask = Script(TextDelta("Hello"), 0.11, TextDelta(" there"), 0.11)
    assert run(loop, ask, painter) is ANSWER
    assert painter.shown == [("Hello", "", False), ("Hello there", "", False)]
    assert painter.calls[-1] == ("finish", ANSWER)


@both_drivers
def test_a_turn_that_says_nothing_is_only_finished(loop, run):
    painter = Notes()
    assert run(loop, Script(), painter) is ANSWER
    assert painter.calls == [("finish", ANSWER)]


@both_drivers
def test_what_comes_together_with_the_end_is_not_drawn_twice(loop, run):
    painter = Notes()
    run(loop, Script(*(TextDelta("x") for _ in range(50))), painter)
    assert painter.calls[-1] == ("finish", ANSWER)
    assert len(painter.calls) <= 2


def test_many_pieces_are_drawn_together(loop):
    painter = Notes()
    parts = [part for _ in range(100) for part in (TextDelta("x"), 0.001)]
    began = time.monotonic()
    run_sync(loop, Script(*parts), painter)
    assert len(painter.shown) <= (time.monotonic() - began) / 0.1 + 1
    lengths = [len(text) for text, _, _ in painter.shown]
    assert lengths == sorted(lengths)


def test_where_nothing_comes_a_sign_of_waiting_is_drawn_once(loop, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    painter = Notes()
    run_sync(loop, Script(0.3), painter)
    assert painter.calls == [("show", "", "", False), ("finish", ANSWER)]


def test_a_retry_says_so_and_the_answer_begins_anew(loop):
    painter = Notes()
    ask = Script(TextDelta("old"), 0.11, TurnRetry("503"), 0.11, TextDelta("new"), 0.11)
    run_sync(loop, ask, painter)
    assert painter.shown == [
        ("old", "", False),
        ("", "trying again: 503", False),
        ("new", "", False),
    ]


def test_progress_is_shown_until_the_answer_begins(loop):
    painter = Notes()
    run_sync(loop, Script(Progress("Fetching"), 0.11, TextDelta("x"), 0.11), painter)
    assert painter.shown == [("", "Fetching", False), ("x", "", False)]


@both_drivers
def test_a_notice_stands_beside_the_answer_at_once(loop, run):
    painter = Notes()
    run(loop, Script(Notice("read on"), TextDelta("x"), 0.11, Notice("done")), painter)
    assert painter.calls[0] == ("note", "read on")
    assert ("note", "done") in painter.calls
    assert ("show", "x", "", False) in painter.calls


def test_a_tool_draws_nothing(loop):
    painter = Notes()
    run_sync(loop, Script(ToolStarted("view", "{}")), painter)
    assert painter.calls == [("finish", ANSWER)]


def test_everything_is_drawn_in_the_cells_own_thread(loop):
    threads = set()

    class Watching(Notes):
        def show(self, text: str, remark: str, elapsed: float | None = None) -> None:
            threads.add(threading.current_thread())

        note = finish = lambda self, _: threads.add(threading.current_thread())

    run_sync(loop, Script(TextDelta("x"), 0.11, Notice("y")), Watching())
    assert threads == {threading.current_thread()}


# -- how often --------------------------------------------------------------------------------


class Clock:
    """A clock that moves when it is told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def draw(pace: Any, clock: Clock, *, cost: float = 0.0) -> None:
    clock.now += cost
    pace.drawn()


def test_the_first_piece_is_drawn_at_once(clock):
    assert module._Pace().due(5, "")


def test_short_answers_are_drawn_ten_times_a_second(clock):
    pace = module._Pace()
    assert pace.due(5, "")
    draw(pace, clock)
    clock.now += 0.09
    assert not pace.due(6, "")
    clock.now += 0.02
    assert pace.due(7, "")


def test_long_answers_are_drawn_less_often(clock):
    pace = module._Pace()
    assert pace.due(50_000, "")
    draw(pace, clock)
    clock.now += 0.24
    assert not pace.due(50_001, "")
    clock.now += 0.02
    assert not pace.due(50_002, "")  # all of it would be sent for two characters
    assert pace.due(50_002, "running run_python")
    assert pace.due(51_250, "")


def test_drawing_takes_a_sixth_of_the_time_at_most(clock):
    pace = module._Pace()
    assert pace.due(5, "")
    draw(pace, clock, cost=0.2)
    clock.now += 0.9
    assert not pace.due(6, "")
    clock.now += 0.2
    assert pace.due(7, "")


def test_what_did_not_change_is_drawn_again_for_the_clock_alone(clock):
    pace = module._Pace()
    pace.due(5, "")
    draw(pace, clock)
    clock.now += module._CLOCK - 0.01
    assert not pace.due(5, "")
    clock.now += 0.02
    assert pace.due(5, "")
    pace.due(module._SHORT, "")
    draw(pace, clock)
    clock.now += 100
    assert not pace.due(module._SHORT, "")  # not the whole of a long answer once more
    assert pace.due(5, "trying again")


def test_nothing_is_drawn_before_something_came_or_patience_ended(clock):
    pace = module._Pace()
    assert not pace.due(0, "")
    clock.now += module._PATIENCE + 0.01
    assert pace.due(0, "")
    draw(pace, clock)
    assert not pace.due(0, "")


# -- beats ------------------------------------------------------------------------------------


@both_drivers
@pytest.mark.timeout(20)
def test_pieces_and_the_end_wake_the_driver_before_its_beat(loop, run, monkeypatch):
    """With an hour between beats a turn ends at once: nothing is waited for by the clock."""
    monkeypatch.setattr(module, "BEAT", 3600)
    painter = Notes()
    assert run(loop, Script(TextDelta("Hello"), 0.02, TextDelta(" there"), 0.02), painter) is ANSWER
    assert painter.shown[0] == ("Hello", "", False)
    assert painter.calls[-1] == ("finish", ANSWER)


@pytest.mark.timeout(20)
def test_a_pause_ends_once_for_each_thing_that_came(loop, monkeypatch):
    monkeypatch.setattr(module, "BEAT", 3600)
    pauses = []
    wait = module._ThreadWaker.wait

    def counted(self: Any) -> None:
        pauses.append(1)
        wait(self)

    monkeypatch.setattr(module._ThreadWaker, "wait", counted)
    run_sync(
        loop, Script(TextDelta("a"), 0.02, TextDelta("b"), 0.02, TextDelta("c"), 0.02), Notes()
    )
    assert len(pauses) <= 6


def test_without_anything_to_wake_it_the_driver_looks_at_every_beat(loop, monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.01)
    monkeypatch.setattr(module._ThreadWaker, "wake", lambda _: None)
    assert run_sync(loop, Script(0.05), Notes()) is ANSWER


def test_the_kernels_own_loop_stays_free_while_a_turn_runs(loop):
    ticks = []

    async def cell() -> None:
        async def tick() -> None:
            while True:
                ticks.append(1)
                await asyncio.sleep(0.005)

        ticking = asyncio.create_task(tick())
        await drive(lambda waker: steps(loop, Script(0.2), Notes(), waker, HELPER))
        ticking.cancel()

    asyncio.run(cell())
    assert len(ticks) > 10


def test_a_wake_after_the_kernels_loop_was_closed_does_nothing():
    closed = asyncio.new_event_loop()
    closed.close()
    module._LoopWaker(closed).wake()


# -- errors -----------------------------------------------------------------------------------


@both_drivers
def test_an_error_is_raised_after_what_came_was_marked(loop, run):
    error = ProviderError("It answered 500.", "Run the cell again.", status=500)
    painter = Notes()
    with pytest.raises(ProviderError) as raised:
        run(loop, Script(TextDelta("so far"), error), painter)
    assert raised.value is error
    assert painter.calls[-1] == ("show", "so far", "failed; not kept in the session", True)


@both_drivers
def test_any_other_error_comes_through_too(loop, run):
    with pytest.raises(ZeroDivisionError):
        run(loop, Script(ZeroDivisionError()), Notes())


def test_a_turn_cancelled_from_elsewhere_counts_as_interrupted(loop):
    async def cancels(_emit: Any) -> Answer:
        raise asyncio.CancelledError

    painter = Notes()
    with pytest.raises(TurnInterrupted):
        run_sync(loop, cancels, painter)
    assert painter.calls[-1][-1] is True


def test_a_painter_that_fails_stops_the_turn(loop):
    """Else the answer would be stored behind the back of a cell that failed."""
    ask = Script(TextDelta("x"), forever=True)
    painter = Notes()

    def fails() -> None:
        raise BrokenPipeError

    painter.once("x", fails)
    with pytest.raises(BrokenPipeError):
        run_sync(loop, ask, painter)
    assert eventually(lambda: ask.cancelled)


@both_drivers
def test_a_tool_may_wait_once_more_while_an_error_passes_through_it(loop, run):
    """Such as code with a task group, whose end waits for its tasks."""

    class Passing:
        def answer(self, asked: ToolAsked) -> Any:
            try:
                yield failing()
            except RuntimeError:
                with suppress(RuntimeError):
                    yield failing()
            asked.answer.set_result(ToolAnswer("done"))

    async def failing() -> None:
        raise RuntimeError

    async def asks(emit: Any) -> Answer:
        asked = ToolAsked("run_python", {}, Future())
        emit(asked)
        assert (await asyncio.wrap_future(asked.answer)).text == "done"
        return ANSWER

    assert run(loop, asks, Notes(), Passing()) is ANSWER


# -- the stop button --------------------------------------------------------------------------


def eventually(condition: Callable[[], bool], seconds: float = 1) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def test_ctrl_c_in_a_terminal_stops_the_turn(loop):
    ask = Script(TextDelta("so far"), forever=True)
    painter = Notes()
    threading.Timer(0.11, _thread.interrupt_main).start()
    # An interrupt that comes in a callback of the garbage collector, hypothesis has one, is lost.
    with uncollected(), pytest.raises(TurnInterrupted):
        run_sync(loop, ask, painter)
    assert painter.calls[-1] == ("show", "so far", INTERRUPTED, True)
    assert ask.cancelled


def test_ctrl_c_while_the_driver_pauses_stops_the_turn(loop, monkeypatch):
    ask = Script(TextDelta("so far"), forever=True)
    painter = Notes()

    def pressed(_: Any) -> None:
        if painter.shown:
            raise KeyboardInterrupt

    monkeypatch.setattr(module._ThreadWaker, "wait", pressed)
    with pytest.raises(TurnInterrupted):
        run_sync(loop, ask, painter)
    assert painter.calls[-1] == ("show", "so far", INTERRUPTED, True)
    assert ask.cancelled


@both_drivers
def test_ctrl_c_while_something_is_drawn_stops_the_turn(loop, run):
    ask = Script(TextDelta("so far"), forever=True)
    painter = Notes()

    def pressed() -> None:
        raise KeyboardInterrupt

    painter.once("so far", pressed)
    with pytest.raises(TurnInterrupted):
        run(loop, ask, painter)
    assert painter.calls[-1] == ("show", "so far", INTERRUPTED, True)
    assert ask.cancelled


def test_the_stop_button_of_a_notebook_stops_the_turn(loop):
    ask = Script(TextDelta("so far"), forever=True)
    painter = Notes()
    outcome = []

    async def cell() -> None:
        try:
            await drive(lambda waker: steps(loop, ask, painter, waker, HELPER))
        except BaseException as error:  # noqa: BLE001 -- as a cell's runner does
            outcome.append(error)

    async def kernel() -> None:
        shown = asyncio.Event()
        painter.once("so far", shown.set)
        running = asyncio.create_task(cell())
        await shown.wait()
        running.cancel()
        await running

    asyncio.run(kernel())
    assert [type(error) for error in outcome] == [TurnInterrupted]
    assert painter.calls[-1] == ("show", "so far", INTERRUPTED, True)
    assert ask.cancelled


@pytest.mark.skipif(sys.platform == "win32", reason="no signal to one thread")
def test_the_stop_button_ends_a_wait_in_a_cell_that_awaits(loop):
    """There ipykernel's handler only tells the loop, which the wait holds up."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    here = threading.get_ident()
    threading.Timer(0.1, signal.pthread_kill, (here, signal.SIGINT)).start()
    began = time.monotonic()
    try:
        with uncollected(), pytest.raises(TurnInterrupted, match="before it was done"):
            loop.call(asyncio.sleep(20))
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 5


def test_the_stop_button_waits_only_a_moment_for_a_turn_that_will_not_end(loop, monkeypatch):
    monkeypatch.setattr(module, "_WITHDRAWAL", 0.05)
    released = asyncio.Event()

    async def stubborn(emit: Any) -> Answer:
        emit(TextDelta("x"))
        try:
            await asyncio.sleep(60)
        finally:
            await released.wait()
        return ANSWER

    painter = Notes()

    def pressed() -> None:
        raise KeyboardInterrupt

    painter.once("x", pressed)
    began = time.monotonic()
    with pytest.raises(TurnInterrupted):
        run_sync(loop, stubborn, painter)
    assert time.monotonic() - began < 1
    loop.loop.call_soon_threadsafe(released.set)


def test_the_stop_button_waits_until_the_prompt_is_taken_out(loop):
    withdrawn = []

    async def withdraws(emit: Any) -> Answer:
        emit(TextDelta("x"))
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            withdrawn.append(1)
        return ANSWER

    class Late(Notes):
        def show(self, text: str, remark: str, elapsed: float | None = None) -> None:
            if elapsed is None:
                assert withdrawn
            super().show(text, remark, elapsed)

    painter = Late()

    def pressed() -> None:
        raise KeyboardInterrupt

    painter.once("x", pressed)
    with pytest.raises(TurnInterrupted):
        run_sync(loop, withdraws, painter)
    assert painter.shown[-1][-1] is True


def test_a_turn_stopped_before_it_began_is_never_asked(loop):
    """The loop is busy, as while the SDK is imported: the turn and its end queue up behind."""
    blocked, free = threading.Event(), threading.Event()

    def busy() -> None:
        blocked.set()
        free.wait(10)

    loop.loop.call_soon_threadsafe(busy)
    blocked.wait(10)
    ask = Script(0.05)
    painter = Notes()
    running = steps(loop, ask, painter, SimpleNamespace(wake=lambda: None), HELPER)
    next(running)
    threading.Timer(0.05, free.set).start()
    with pytest.raises(TurnInterrupted):
        running.throw(KeyboardInterrupt)
    assert painter.calls[-1] == ("show", "", INTERRUPTED, True)
    time.sleep(0.11)
    assert not ask.ended


def test_a_turn_that_was_whole_when_the_button_was_pressed_is_not_said_to_be_lost(loop):
    """It is in the session: what is shown has to say so."""
    ended = threading.Event()
    painter = Notes()
    running = steps(loop, Script(), painter, SimpleNamespace(wake=ended.set), HELPER)
    try:
        next(running)
        assert ended.wait(5)
        running.throw(KeyboardInterrupt)
    except (StopIteration, TurnInterrupted):
        pass
    assert ("finish", ANSWER) in painter.calls
    assert INTERRUPTED not in [remark for _, remark, _ in painter.shown]


def test_after_an_interrupt_the_next_turn_works(loop):
    painter = Notes()

    def pressed() -> None:
        raise KeyboardInterrupt

    painter.once("x", pressed)
    with pytest.raises(TurnInterrupted):
        run_sync(loop, Script(TextDelta("x"), forever=True), painter)
    assert run_sync(loop, Script(TextDelta("y")), Notes()) is ANSWER


# -- the painters -----------------------------------------------------------------------------


class Displays:
    """Stands in for IPython's display."""

    def __init__(self) -> None:
        self.outputs: list[list[dict[str, str]]] = []
        self.metadata: list[Any] = []

    def __call__(self, bundle: dict[str, str], **options: Any) -> Any:
        versions = [bundle]
        self.outputs.append(versions)
        self.metadata.append(options.get("metadata"))

        def update(new: dict[str, str], *, raw: bool, metadata: Any) -> None:
            assert raw
            versions.append(new)
            self.metadata.append(metadata)

        return SimpleNamespace(update=update) if options.get("display_id") else None


@pytest.fixture
def displays(monkeypatch: pytest.MonkeyPatch) -> Displays:
    made = Displays()
    monkeypatch.setattr(painters, "_display", made)
    return made


def whose(answer: Answer | None) -> dict[str, Any]:
    return {"turn": answer.turn if answer else None}


def test_in_a_notebook_one_output_grows(displays):
    painter = CellPainter(whose, streams=True)
    painter.show("Hello", "", 0.0)
    painter.show("Hello there", "", 0.0)
    painter.finish(ANSWER)
    assert len(displays.outputs) == 1
    assert [version["text/plain"] for version in displays.outputs[0]] == [
        "Hello\n\n… 0 s",
        "Hello there\n\n… 0 s",
        "Hello there",
    ]
    assert displays.metadata == [{"turn": None}, {"turn": None}, {"turn": 1}]


def test_where_nobody_watches_there_is_one_final_output(displays):
    painter = CellPainter(whose, streams=False)
    painter.show("Hello", "", 0.0)
    painter.show("", "trying again", 0.0)
    painter.finish(ANSWER)
    assert [[version["text/plain"] for version in output] for output in displays.outputs] == [
        ["Hello there"]
    ]


@pytest.mark.parametrize("streams", [True, False])
def test_what_was_cut_off_stays_marked(displays, streams):
    painter = CellPainter(whose, streams=streams)
    painter.show("so far", INTERRUPTED)
    assert displays.outputs[-1][-1]["text/plain"] == f"so far\n\n({INTERRUPTED})"
    assert displays.metadata == [{"turn": None}]


def test_where_nothing_was_shown_nothing_is_cut_off(displays):
    CellPainter(whose, streams=True).show("", INTERRUPTED)
    assert displays.outputs == []


def test_a_sign_of_waiting_becomes_the_reason_that_nothing_came(displays):
    painter = CellPainter(whose, streams=True)
    painter.show("", "", 0.0)
    painter.show("", INTERRUPTED)
    assert len(displays.outputs) == 1
    assert displays.outputs[0][-1]["text/plain"] == f"({INTERRUPTED})"


def test_a_notice_is_an_output_of_its_own(displays):
    painter = CellPainter(whose, streams=True)
    painter.note("<b>")
    assert displays.outputs == [[{"text/plain": "<b>"}]]


def test_a_terminal_gets_only_what_is_new(capsys):
    painter = TerminalPainter()
    painter.show("Hel", "", 0.0)
    painter.show("Hello", "", 0.0)
    painter.note("read on")
    painter.finish(ANSWER)
    assert capsys.readouterr().out == "Hello\n(read on)\n there\n"


def test_a_terminal_shows_a_retry_once_and_the_answer_anew(capsys):
    painter = TerminalPainter()
    painter.show("old", "", 0.0)
    painter.show("", "trying again: 503", 0.0)
    painter.show("", "trying again: 503", 0.0)
    painter.show("new", "", 0.0)
    out = capsys.readouterr().out
    assert out.startswith("old\n")
    assert out.count("(trying again: 503)\n") == 1
    assert out.endswith("new")


def test_a_terminal_marks_what_was_cut_off(capsys):
    painter = TerminalPainter()
    painter.show("so far", "", 0.0)
    painter.show("so far", INTERRUPTED)
    assert capsys.readouterr().out == f"so far\n({INTERRUPTED})\n"


@pytest.mark.parametrize("odd", ["\x1b]0;title\x07", "\x1b[2J", "\x1b[31m", "\x07", "\x9b2J", "\r"])
def test_an_answer_cannot_drive_the_terminal(capsys, odd):
    """A terminal obeys escape sequences: titles, the clipboard, what stands above."""
    TerminalPainter().finish(Answer(f"a\n\tb{odd}c", "my-id", 1))
    out = capsys.readouterr().out
    assert odd not in out
    assert "\x1b" not in out
    assert out.startswith("a\n\tb")


def test_a_terminal_shows_every_script_as_it_is(capsys):
    french, japanese = "10\u00a0%, vrai\u202f!", "\u65e5\u672c\u3000\u8a9e"
    family, persian = "\U0001f468\u200d\U0001f469", "\u0645\u06cc\u200c\u062e"
    text = f"{french} {japanese} {family} {persian}"
    TerminalPainter().finish(Answer(text, "my-id", 1))
    assert capsys.readouterr().out == f"{text}\n"
