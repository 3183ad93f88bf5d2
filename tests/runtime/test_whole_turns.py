"""A turn is whole in its session or not in it at all, whatever ends it.

Every test holds a conversation of two turns, breaks a third one in its own way and then
looks at all places where a trace of it could be: the transcript, what the model is sent
next by the running runtime, what it is sent after a resume, the lock, the processes.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from scripted_model import Reply, ScriptedModel

from copilot_jupyter.conversation import unfinished
from copilot_jupyter.conversation.answer import Answer
from copilot_jupyter.conversation.connection import Connection
from copilot_jupyter.conversation.sessions import Sessions
from copilot_jupyter.conversation.terms import Terms
from copilot_jupyter.errors import (
    CopilotError,
    ProviderError,
    RuntimeDiedError,
    TurnError,
    TurnStalledError,
)
from copilot_jupyter.events import Notice, TextDelta, TurnEvent, TurnRetry
from copilot_jupyter.runtime.client import Runtime
from copilot_jupyter.runtime.session import LiveSession
from copilot_jupyter.settings import Copilot
from copilot_jupyter.state.store import Store

ID = "whole-turns"
EARLIER = ["first", "second"]

#: A wait between two attempts, long enough to do something in it.
RETRY = Reply(status=429, headers={"retry-after": "20"})
SLOW = Reply("slow answer " * 15, chunk=6, pause=0.05)
HANG = Reply(hang=True)

#: Seconds within which a turn that was stopped must be out of the session.
STOPPED = 2.0
#: Seconds for anything else that should be quick.
SOON = 30.0


class Talk:
    """A conversation of two turns, to break a third one in."""

    def __init__(self, sessions: Sessions, model: ScriptedModel, **terms: Any) -> None:
        self.sessions = sessions
        self.model = model
        self.terms = Terms(folder="/tmp", create=True, **terms)
        self.conversation = sessions.conversation(ID, self.terms)
        self.events: list[TurnEvent] = []
        self.answers = [self.ask(prompt).text for prompt in EARLIER]
        self.turns = self.conversation.turns()
        model.forget()
        self.events.clear()

    def start(self, prompt: str, **options: Any) -> Any:
        work = self.conversation.ask(prompt, emit=self.events.append, **options)
        return self.sessions.loop.submit(work)

    def ask(self, prompt: str, **options: Any) -> Answer:
        return self.start(prompt, **options).result(SOON)

    def fails(self, prompt: str = "broken", **options: Any) -> CopilotError:
        with pytest.raises(CopilotError) as caught:
            self.ask(prompt, **options)
        return caught.value

    @property
    def runtime_pid(self) -> int:
        return self.sessions.runtime.pid

    def said(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def settled(self) -> None:
        """Wait until the running turn has ended, its repair included."""

        async def free() -> None:
            async with self.conversation._turn:
                pass

        self.sessions.loop.call(free(), SOON)

    def is_whole(self, *, alone: bool = True) -> None:
        """Check that nothing of the third turn is anywhere."""
        self.settled()
        self.model.forget()
        self.events.clear()
        assert self.conversation.turns() == self.turns
        after = self.ask("after")
        assert after.turn == 3
        self._sent(self.model.requests[-1].prompts, ["after"])
        assert self.model.requests[-1].answers == self.answers
        assert len(self.model.requests) == 1
        assert self.conversation.turns()[:2] == self.turns
        assert self._lock_is_ours()
        assert self.runtime_pid in runtimes()
        assert not alone or len(runtimes()) == 1
        # Let go: the lock is free. Resumed from the transcript, it is the same.
        self.sessions.loop.call(self.conversation.release())
        assert not self.conversation._hold._lock.path.exists()
        self.ask("at last")
        self._sent(self.model.requests[-1].prompts, ["after", "at last"])
        assert self.model.requests[-1].answers == [*self.answers, after.text]
        assert [turn.complete for turn in self.conversation.turns()] == [True] * 4
        assert [notice.text for notice in self.said(Notice)] == []

    def _sent(self, prompts: list[str], new: list[str]) -> None:
        assert prompts == [*EARLIER, *new]

    def _lock_is_ours(self) -> bool:
        owner = self.conversation._hold._lock.owner()
        return owner is not None and owner.pid == os.getpid()


def until(true: Callable[[], Any], seconds: float = SOON) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


def is_gone(process: psutil.Process) -> bool:
    """Whether a process has ended, even if nobody has asked for its status yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def runtimes() -> list[int]:
    """The runtimes that this process has started and that still run."""
    children = psutil.Process().children(recursive=True)
    with contextlib.suppress(psutil.Error):
        return sorted(
            c.pid for c in children if "runtime" in c.name() and c.status() != psutil.STATUS_ZOMBIE
        )
    return runtimes()


@pytest.fixture
def talk(sessions: Sessions, model: ScriptedModel) -> Talk:
    return Talk(sessions, model)


# --- Moments: a script for the model, and how to know that the moment has come ---------------


def never_sent(talk: Talk) -> None:
    pass


def waiting(talk: Talk) -> None:
    talk.model.wait_for(1)


def streaming(talk: Talk) -> None:
    until(lambda: len(talk.said(TextDelta)) > 2)


def retrying(talk: Talk) -> None:
    until(lambda: talk.said(TurnRetry))


MOMENTS = [
    pytest.param(SLOW, never_sent, id="before it is sent"),
    pytest.param(HANG, waiting, id="waiting for the model"),
    pytest.param(SLOW, streaming, id="in mid-stream"),
    pytest.param(RETRY, retrying, id="in a retry wait"),
]


@pytest.mark.parametrize(("reply", "moment"), MOMENTS)
def test_cancelled(talk: Talk, reply: Reply, moment: Callable[[Talk], None]) -> None:
    talk.model.will(reply)
    turn = talk.start("broken")
    moment(talk)
    began = time.monotonic()
    turn.cancel()
    talk.settled()
    assert time.monotonic() - began < STOPPED
    print(f"interrupt to settled: {time.monotonic() - began:.3f} s")
    talk.is_whole()


@pytest.mark.parametrize(("reply", "moment"), MOMENTS)
def test_cancelled_and_asked_at_once(
    talk: Talk, sessions: Sessions, reply: Reply, moment: Callable[[Talk], None]
) -> None:
    # The next cell is run while the turn is still being taken back.
    talk.model.will(reply)
    turn = talk.start("broken")
    moment(talk)
    turn.cancel()
    talk.model._script.clear()
    assert talk.ask("at once").turn == 3
    assert talk.model.requests[-1].prompts == [*EARLIER, "at once"]
    assert talk.model.requests[-1].answers == talk.answers
    assert [turn.prompt for turn in talk.conversation.turns()] == [*EARLIER, "at once"]
    sessions.loop.call(talk.conversation.release())
    talk.ask("next")
    assert talk.model.requests[-1].prompts == [*EARLIER, "at once", "next"]


def test_cancelled_at_random_moments(sessions: Sessions, model: ScriptedModel) -> None:
    seed = int(os.environ.get("TEST_SEED", time.time_ns() % 1_000_000))
    print(f"TEST_SEED={seed}")
    moments = random.Random(seed)
    talk = Talk(sessions, model)

    async def stopped() -> Answer | None:
        turn = asyncio.create_task(talk.conversation.ask("broken", emit=talk.events.append))
        await asyncio.sleep(moments.choice([0.003, 0.01, 0.06]) * moments.random())
        turn.cancel()
        await asyncio.wait([turn])
        return None if turn.cancelled() else turn.result()

    prompts, answers = [*EARLIER], [*talk.answers]
    for n in range(40):
        model.will(Reply("slow answer " * 5, chunk=6, pause=0.003))
        answer = sessions.loop.call(stopped(), SOON)
        model.forget()
        if answer is not None:  # it was quicker than the button
            prompts.append("broken")
            answers.append(answer.text)
        assert [turn.prompt for turn in talk.conversation.turns()] == prompts
        if moments.random() < 0.2:
            sessions.loop.call(talk.conversation.release(), SOON)
        if moments.random() < 0.5:
            kept = talk.ask(f"kept {n}")
            assert model.requests[-1].prompts == [*prompts, f"kept {n}"]
            assert model.requests[-1].answers == answers
            prompts.append(f"kept {n}")
            answers.append(kept.text)
    assert [turn.answer for turn in talk.conversation.turns()] == answers


def stop_during(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, moments: Callable[[], float]
) -> None:
    """Press the stop button some time after a call of the SDK or of ours has begun."""
    original = getattr(owner, name)

    async def stopped(self: Any, *args: Any, **options: Any) -> Any:
        for turn in asyncio.all_tasks():
            if turn.get_name() == "the turn":
                asyncio.get_running_loop().call_later(moments(), turn.cancel)
        return await original(self, *args, **options)

    monkeypatch.setattr(owner, name, stopped)


async def ask_and_be_stopped(talk: Talk) -> None:
    turn = asyncio.create_task(talk.conversation.ask("broken"), name="the turn")
    await asyncio.wait([turn])
    assert turn.cancelled()


def test_cancelled_while_the_prompt_is_handed_over(
    talk: Talk, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The runtime loses an abort that comes just then, and goes on to answer the prompt.
    from copilot.session import CopilotSession

    delays = iter([n * 0.0002 for n in range(24)])
    with monkeypatch.context() as patch:
        stop_during(patch, CopilotSession, "send", lambda: next(delays))
        for n in range(24):
            talk.model.will(SLOW)
            sessions.loop.call(ask_and_be_stopped(talk), SOON)
            assert talk.conversation.turns() == talk.turns
            if n % 2:  # the first prompt after a resume takes the runtime longest
                sessions.loop.call(talk.conversation.release())
                assert talk.conversation.turns() == talk.turns
    talk.is_whole()


def test_cancelled_while_the_runtime_starts(
    talk: Talk, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from copilot import CopilotClient

    delays = iter([0.0, 0.001, 0.003, 0.006])
    with monkeypatch.context() as patch:
        stop_during(patch, CopilotClient, "start", lambda: next(delays))
        for _ in range(4):
            sessions.loop.call(talk.conversation.release())
            sessions.loop.call(sessions.runtime.close())
            sessions.loop.call(ask_and_be_stopped(talk), SOON)
            assert runtimes() == []
    talk.is_whole()


def test_cancelled_again_while_the_turn_is_taken_back(
    talk: Talk, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk.model.will(SLOW)
    turn = sessions.loop.submit(ask_and_be_stopped(talk))
    talk.model.wait_for(1)
    original = LiveSession.abort

    async def slowly(live: LiveSession) -> None:
        await asyncio.sleep(0.3)
        await original(live)

    with monkeypatch.context() as patch:
        patch.setattr(LiveSession, "abort", slowly)
        stop = talk.conversation.stop
        for delay in (0.0, 0.1, 0.05):
            time.sleep(delay)
            sessions.loop.loop.call_soon_threadsafe(stop)
        turn.result(SOON)
        assert talk.conversation.turns() == talk.turns  # once the cell is done, so is this
    talk.model.forget()
    assert talk.ask("at once").turn == 3
    assert talk.model.requests[-1].prompts == [*EARLIER, "at once"]
    assert talk.model.requests[-1].answers == talk.answers


def test_cancelled_while_the_session_is_opened(sessions: Sessions, model: ScriptedModel) -> None:
    seed = int(os.environ.get("TEST_SEED", time.time_ns() % 1_000_000))
    print(f"TEST_SEED={seed}")
    moments = random.Random(seed)
    talk = Talk(sessions, model)
    for _ in range(8):
        sessions.loop.call(talk.conversation.release())
        sessions.loop.call(sessions.runtime.close())
        assert runtimes() == []
        model.will(SLOW)
        turn = talk.start("broken")
        time.sleep(moments.uniform(0, 0.15))
        turn.cancel()
    talk.is_whole()


# --- The runtime dies ---------------------------------------------------------------------


@pytest.mark.parametrize(("reply", "moment"), MOMENTS[1:])
def test_the_runtime_is_killed(talk: Talk, reply: Reply, moment: Callable[[Talk], None]) -> None:
    talk.model.will(reply)
    turn = talk.start("broken")
    moment(talk)
    killed, began = talk.runtime_pid, time.monotonic()
    os.kill(killed, signal.SIGKILL)
    with pytest.raises(RuntimeDiedError) as died:
        turn.result(SOON)
    print(f"kill to error, restarted: {time.monotonic() - began:.3f} s")
    assert "restarted, and nothing of the turn was kept" in died.value.what
    assert died.value.do == "Run the cell again."
    assert talk.runtime_pid not in (0, killed)
    talk.is_whole()


def test_the_runtime_is_killed_between_two_turns(talk: Talk) -> None:
    os.kill(talk.runtime_pid, signal.SIGKILL)
    until(lambda: not talk.sessions.runtime.alive)
    talk.is_whole()


def test_the_runtime_is_killed_as_the_prompt_is_sent(talk: Talk) -> None:
    # It is not known to be dead yet when the prompt is written into its pipe.
    os.kill(talk.runtime_pid, signal.SIGKILL)
    with contextlib.suppress(RuntimeDiedError):
        talk.ask("broken")
        pytest.skip("its end was noticed before the prompt was sent")
    talk.is_whole()


def test_the_runtime_is_killed_again_and_again(talk: Talk) -> None:
    for _ in range(3):
        talk.model.will(HANG)
        turn = talk.start("broken")
        talk.model.wait_for(1)
        os.kill(talk.runtime_pid, signal.SIGKILL)
        with pytest.raises(RuntimeDiedError):
            turn.result(SOON)
        talk.model.forget()
    talk.is_whole()


def test_the_runtime_is_asked_to_end(talk: Talk) -> None:
    talk.model.will(SLOW)
    turn = talk.start("broken")
    streaming(talk)
    os.kill(talk.runtime_pid, signal.SIGTERM)
    with pytest.raises(RuntimeDiedError):
        turn.result(SOON)
    talk.is_whole()


def test_the_other_conversation_of_a_runtime_that_died(talk: Talk, sessions: Sessions) -> None:
    other = sessions.conversation("the-other", Terms(folder="/tmp", create=True))
    sessions.loop.call(other.ask("hello"), SOON)
    talk.model.forget()
    talk.model.will(HANG)
    turn = talk.start("broken")
    talk.model.wait_for(1)
    os.kill(talk.runtime_pid, signal.SIGKILL)
    with pytest.raises(RuntimeDiedError):
        turn.result(SOON)
    # It was open in the process that died; a new one runs.
    sessions.loop.call(other.ask("again"), SOON)
    assert talk.model.requests[-1].prompts == ["hello", "again"]
    talk.is_whole()


def test_the_runtime_hangs(talk: Talk, sessions: Sessions) -> None:
    # Stopped, not dead: it answers neither the turn nor the abort.
    sessions.settings.stall_timeout = 1.0
    talk.model.will(HANG)
    turn = talk.start("broken")
    talk.model.wait_for(1)
    frozen = psutil.Process(talk.runtime_pid)
    frozen.suspend()
    try:
        with pytest.raises(TurnStalledError):
            turn.result(SOON)
        talk.is_whole()
    finally:
        with contextlib.suppress(psutil.Error):
            frozen.kill()


# --- The provider fails -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "what", "do"),
    [
        (400, "answered 400: 400 scripted 400", "%copilot_models"),
        (403, "refused the credentials (403)", "COPILOT_PROVIDER_API_KEY"),
        (404, "answered 404: ", "%copilot_models"),
    ],
)
def test_the_provider_refuses_at_once(talk: Talk, status: int, what: str, do: str) -> None:
    talk.model.will(Reply(status=status))
    error = talk.fails()
    assert isinstance(error, ProviderError)
    assert error.status == status
    assert talk.model.base_url in error.what
    assert what in error.what
    assert do in error.do
    assert len(talk.model.requests) == 1
    talk.is_whole()


@contextlib.contextmanager
def another(folder: Path) -> Iterator[Talk]:
    """A talk in a state folder of its own, with a model of its own."""
    with ScriptedModel() as model:
        sessions = Sessions(Copilot(provider=model.base_url, model="scripted"), Store(folder))
        try:
            yield Talk(sessions, model)
        finally:
            sessions.close()


#: What the runtime tries six times (401: three times) before it gives up.
RETRIED = {
    "401": (Reply(status=401), 3, "refused the credentials (401)", "COPILOT_PROVIDER_API_KEY"),
    "429": (
        Reply(status=429, headers={"retry-after": "1"}),
        6,
        "is limiting requests (429)",
        "Wait a while",
    ),
    "500": (Reply(status=500), 6, "answered 500", "Run the cell again"),
    "cut": (Reply("cut off", chunk=1, cut_after=3), 6, "did not answer properly", "URL"),
    "garbage": (Reply(raw=b"<html>portal</html>"), 6, "did not answer properly", "URL"),
}


@pytest.mark.campaign
def test_the_provider_fails_again_and_again(
    tmp_path: Path, runtime_program: str, monkeypatch: pytest.MonkeyPatch, subtests: Any
) -> None:
    # All at once, since the runtime waits up to twenty seconds between its attempts.
    monkeypatch.setenv("COPILOT_CLI_PATH", runtime_program)
    with contextlib.ExitStack() as stack:
        talks = {name: stack.enter_context(another(tmp_path / name)) for name in RETRIED}
        gone = stack.enter_context(another(tmp_path / "gone"))
        began = time.monotonic()
        turns = {}
        for name, (reply, attempts, _, _) in RETRIED.items():
            talks[name].model.will(*[reply] * attempts)
            turns[name] = talks[name].start("broken")
        gone.model.close()
        refused = gone.start("broken")
        for name, (_, attempts, what, do) in RETRIED.items():
            with subtests.test(name):
                talk = talks[name]
                with pytest.raises(ProviderError) as failed:
                    turns[name].result(60)
                print(f"{name}: within {time.monotonic() - began:.1f} s")
                assert what in failed.value.what
                assert do in failed.value.do
                assert len(talk.model.requests) == attempts
                assert talk.said(TurnRetry)
                talk.is_whole(alone=False)
        with subtests.test("connection refused"):
            with pytest.raises(ProviderError) as failed:
                refused.result(60)
            print(f"refused: within {time.monotonic() - began:.1f} s")
            assert "could not be reached" in failed.value.what
            assert gone.model.base_url in failed.value.what
            assert "Check that it runs" in failed.value.do
            # The provider is back, at another address.
            gone.sessions.loop.call(gone.conversation.release())
            gone.model = stack.enter_context(ScriptedModel())
            gone.sessions.settings.provider = gone.model.base_url
            gone.is_whole(alone=False)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(HANG, id="never answers"),
        pytest.param(Reply("one two three", chunk=3, stall_after=2), id="stalls in mid-stream"),
    ],
)
def test_the_provider_hangs(talk: Talk, sessions: Sessions, reply: Reply) -> None:
    sessions.settings.stall_timeout = 1.0
    talk.model.will(reply)
    began = time.monotonic()
    error = talk.fails()
    assert 1.0 <= time.monotonic() - began < 1 + STOPPED
    assert isinstance(error, TurnStalledError)
    assert error.what == "Nothing came from the model for 1 s; the turn was given up."
    assert "Copilot.stall_timeout" in error.do
    talk.is_whole()


def test_a_slow_answer_is_no_stall(talk: Talk, sessions: Sessions) -> None:
    sessions.settings.stall_timeout = 0.5
    talk.model.will(Reply("slowly", chunk=1, pause=0.2))
    assert talk.ask("slow").text == "slowly"


def test_the_whole_turn_has_a_timeout(talk: Talk) -> None:
    talk.model.will(SLOW)
    error = talk.fails(timeout=0.5)
    assert isinstance(error, TurnStalledError)
    assert error.what == "The answer was not complete after 0.5 s; the turn was given up."
    assert "--timeout" in error.do
    talk.is_whole()


def test_an_empty_answer_is_no_turn(talk: Talk) -> None:
    talk.model.will(*[Reply("")] * 6)
    error = talk.fails()
    assert isinstance(error, TurnError)
    talk.is_whole()


def test_a_failed_first_turn_leaves_an_empty_session(
    sessions: Sessions, model: ScriptedModel
) -> None:
    model.will(Reply(status=400))
    conversation = sessions.conversation(ID, Terms(folder="/tmp", create=True))
    with pytest.raises(ProviderError):
        sessions.loop.call(conversation.ask("broken"), SOON)
    assert conversation.turns() == []
    assert sessions.loop.call(conversation.ask("again"), SOON).turn == 1
    assert model.requests[-1].prompts == ["again"]
    sessions.loop.call(conversation.release())
    sessions.loop.call(conversation.ask("and again"), SOON)
    assert model.requests[-1].prompts == ["again", "and again"]


def test_a_cancelled_first_turn_leaves_an_empty_session(
    sessions: Sessions, model: ScriptedModel
) -> None:
    model.will(HANG)
    conversation = sessions.conversation(ID, Terms(folder="/tmp", create=True))
    turn = sessions.loop.submit(conversation.ask("broken"))
    model.wait_for(1)
    turn.cancel()
    sessions.loop.call(conversation.release(), STOPPED)
    assert conversation.turns() == []
    assert sessions.loop.call(conversation.ask("again"), SOON).turn == 1
    assert model.requests[-1].prompts == ["again"]


# --- What a turn says, and what it leaves -------------------------------------------------


def test_a_retry_is_shown_and_the_answer_is_not_doubled(talk: Talk) -> None:
    talk.model.will(Reply("half an", chunk=2, cut_after=2), Reply("half an answer, and the rest"))
    answer = talk.ask("retried")
    assert answer.text == "half an answer, and the rest"
    kinds = [type(event) for event in talk.events]
    assert TurnRetry in kinds
    last = len(kinds) - kinds[::-1].index(TurnRetry)
    after = [event.text for event in talk.events[last:] if isinstance(event, TextDelta)]
    assert "".join(after) == answer.text  # what came before the retry is void
    assert [turn.answer for turn in talk.conversation.turns()] == [*talk.answers, answer.text]
    talk.ask("next")
    assert talk.model.requests[-1].prompts == [*EARLIER, "retried", "next"]
    assert talk.model.requests[-1].answers == [*talk.answers, answer.text]


def test_a_retry_says_why(talk: Talk) -> None:
    talk.model.will(Reply(status=500), Reply("there"))
    assert talk.ask("retried").text == "there"
    reasons = [retry.reason for retry in talk.said(TurnRetry)]
    assert reasons
    assert all(reasons)


def test_a_model_for_one_turn_only(talk: Talk) -> None:
    answer = talk.ask("to the other", model="scripted-2")
    talk.ask("to the usual")
    assert [r.body["model"] for r in talk.model.requests] == ["scripted-2", "scripted"]
    assert talk.model.requests[-1].prompts == [*EARLIER, "to the other", "to the usual"]
    assert answer.text == talk.conversation.turns()[2].answer


def test_a_model_for_one_turn_that_fails(talk: Talk) -> None:
    talk.model.will(Reply(status=404))
    talk.fails(model="scripted-2")
    assert talk.model.requests[-1].body["model"] == "scripted-2"
    talk.is_whole()
    assert {r.body["model"] for r in talk.model.requests} == {"scripted"}


def test_a_model_for_one_turn_that_is_cancelled(talk: Talk) -> None:
    talk.model.will(HANG)
    turn = talk.start("broken", model="scripted-2")
    talk.model.wait_for(1)
    turn.cancel()
    talk.is_whole()
    assert {r.body["model"] for r in talk.model.requests} == {"scripted"}


def test_a_model_for_one_turn_and_a_runtime_that_dies(talk: Talk) -> None:
    talk.model.will(HANG)
    turn = talk.start("broken", model="scripted-2")
    talk.model.wait_for(1)
    os.kill(talk.runtime_pid, signal.SIGKILL)
    with pytest.raises(RuntimeDiedError):
        turn.result(SOON)
    talk.is_whole()
    assert {r.body["model"] for r in talk.model.requests} == {"scripted"}


# --- The process dies ---------------------------------------------------------------------

#: Asks one turn, then another one that nobody answers; says the runtime's pid first.
DIES = """
import sys
from copilot_jupyter.conversation.terms import Terms
from copilot_jupyter.conversation.sessions import Sessions
from copilot_jupyter.settings import Copilot
sessions = Sessions(Copilot())
conversation = sessions.conversation(sys.argv[1], Terms(folder="/tmp", create=True))
for prompt in sys.argv[2:]:
    sessions.loop.call(conversation.ask(prompt))
    print(sessions.runtime.pid, flush=True)
"""


@contextlib.contextmanager
def process(*prompts: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", DIES, ID, *prompts]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


@pytest.mark.parametrize("reply", [SLOW, HANG, RETRY], ids=["streaming", "waiting", "retrying"])
def test_the_whole_process_is_killed(model: ScriptedModel, home: Path, reply: Reply) -> None:
    model.will("one", "two", reply)
    with process(*EARLIER, "broken") as dying:
        lines = [dying.stdout.readline() for _ in EARLIER]
        runtime = psutil.Process(int(lines[-1]))
        model.wait_for(3)
        time.sleep(0.2)
        dying.kill()
        began = time.monotonic()
        until(lambda: is_gone(runtime), 3)  # no orphan
        print(f"kill to runtime gone: {time.monotonic() - began:.3f} s")
    model.forget()
    notices: list[str] = []

    def emit(event: TurnEvent) -> None:
        if isinstance(event, Notice):
            notices.append(event.text)

    sessions = Sessions(Copilot())
    try:
        conversation = sessions.conversation(ID, Terms(folder="/tmp"))
        sessions.loop.call(conversation.ask("after", emit=emit), SOON)
        assert model.requests[-1].prompts == [*EARLIER, "after"]
        assert model.requests[-1].answers == ["one", "two"]
        assert notices == ["A prompt that was cut off earlier was taken out: broken"]
        assert [turn.prompt for turn in conversation.turns()] == [*EARLIER, "after"]
        sessions.loop.call(conversation.ask("at last", emit=emit), SOON)
        assert len(notices) == 1
        assert model.requests[-1].prompts == [*EARLIER, "after", "at last"]
    finally:
        sessions.close()


def test_closing_in_the_middle_of_a_turn(talk: Talk, sessions: Sessions) -> None:
    talk.model.will(SLOW)
    turn = talk.start("broken")
    streaming(talk)
    began = time.monotonic()
    sessions.close()
    print(f"close in mid-turn: {time.monotonic() - began:.3f} s")
    assert time.monotonic() - began < 8
    assert runtimes() == []
    assert turn.done()
    later = Sessions(Copilot())
    try:
        conversation = later.conversation(ID, Terms(folder="/tmp"))
        talk.model.forget()
        later.loop.call(conversation.ask("after"), SOON)
        assert talk.model.requests[-1].prompts == [*EARLIER, "after"]
    finally:
        later.close()


# --- The lock after a turn that never began -----------------------------------------------


def test_an_ask_that_could_not_begin_leaves_no_lock(
    sessions: Sessions, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Talk(sessions, model)
    sessions.loop.call(talk.conversation.release())
    monkeypatch.setenv("COPILOT_PROVIDER_MAX_PROMPT_TOKENS", "many")
    talk.fails()
    assert not talk.conversation._hold._lock.path.exists()
    monkeypatch.delenv("COPILOT_PROVIDER_MAX_PROMPT_TOKENS")
    talk.is_whole()


def test_nothing_is_leaked(talk: Talk) -> None:
    process = psutil.Process()
    before = process.num_fds()
    for _ in range(5):
        talk.model.will(HANG)
        turn = talk.start("broken")
        talk.model.wait_for(1)
        os.kill(talk.runtime_pid, signal.SIGKILL)
        with pytest.raises(RuntimeDiedError):
            turn.result(SOON)
        talk.model.forget()
    talk.model.close()
    assert process.num_fds() <= before + 2
    assert runtimes() == [talk.runtime_pid]


# --- The repairs, taken out: each test that rests on one must fail ------------------------


async def _nothing(*_: Any) -> bool:
    return True


async def _as_it_is(_: Connection, live: LiveSession, *__: Any) -> LiveSession:
    return live


def test_withdraw_taken_out(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "withdraw", _nothing)
    with pytest.raises(AssertionError):
        test_the_provider_refuses_at_once(talk, 400, "", "")


def test_repair_taken_out(
    model: ScriptedModel, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr(unfinished, "repair", _nothing)
    with pytest.raises(AssertionError):
        test_the_whole_process_is_killed(model, home, HANG)


def test_restart_taken_out(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "_end_turn", _as_it_is)
    with pytest.raises(AssertionError):
        test_the_runtime_is_killed(talk, HANG, waiting)
    # The second line of defence: the transcript was cut back without a runtime.
    talk.is_whole()


def test_abort_taken_out(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    # Truncating under a running turn is accepted by the runtime, and desynchronises it.
    monkeypatch.setattr(unfinished, "_end_turn", _as_it_is)
    with pytest.raises(AssertionError):
        test_cancelled(talk, SLOW, streaming)


def test_watching_the_runtime_taken_out(
    talk: Talk, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions.settings.stall_timeout = 1.0
    monkeypatch.setattr(Runtime, "alive", property(lambda runtime: bool(runtime._client)))
    with pytest.raises(TurnStalledError):  # its end is found by the silence only
        test_the_runtime_is_killed(talk, HANG, waiting)
