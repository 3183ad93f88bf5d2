"""One conversation, one writer: two notebooks, each in a process of its own."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from driven import Driven, Refused
from scripted_model import Reply, ScriptedModel

from copilot_jupyter.conversation.hold import LET_GO
from copilot_jupyter.events import Provider
from copilot_jupyter.runtime.client import Runtime
from copilot_jupyter.state.store import Store

ID = "one-writer"
SLOW = Reply("slow answer " * 50, chunk=6, pause=0.05)

#: Seconds for an answer of a notebook: starting its runtime on a busy machine included.
ANSWER = 30.0
#: Seconds within which a notebook that lost its session has stopped its turn.
NOTICED = 4.0

#: A notebook without Jupyter: does what it is told, a line in, a line out.
NOTEBOOK = """
from pathlib import Path
from copilot_jupyter.conversation import hold
from copilot_jupyter.conversation.terms import Terms
from copilot_jupyter.conversation.sessions import Sessions
from copilot_jupyter.events import Notice
from copilot_jupyter.state.store import Store
from copilot_jupyter.settings import Copilot

class Notebook:
    def begin(self, home, id, who, settings, let_go):
        hold.LET_GO = let_go
        self.sessions = Sessions(Copilot(**settings), Store(Path(home)))
        self.who, self.id = who, id
        self.bind()

    def bind(self, **terms):
        self.terms = Terms(who=self.who, folder="/tmp", **terms)
        self.conversation = self.sessions.conversation(self.id, self.terms)

    def ask(self, prompt):
        notices = []
        emit = lambda event: notices.append(event.text) if isinstance(event, Notice) else None
        answer = self.sessions.loop.call(self.conversation.ask(prompt, emit=emit))
        return {"text": answer.text, "turn": answer.turn, "notices": notices}

    def turns(self):
        return [turn.prompt for turn in self.conversation.turns()]

    def is_open(self):
        return self.conversation.is_open

    def runtime(self):
        return self.sessions.runtime.pid

    def release(self):
        self.sessions.loop.call(self.conversation.release())

    def come_back(self):
        self.conversation.come_back()

    def fork(self, target):
        self.sessions.store.fork(self.id, target)
        self.id = target
        self.bind()

    def delete(self):
        self.sessions.loop.call(self.sessions.delete(self.id))

    def close(self):
        self.sessions.close()

served = Notebook()
"""


class Notebook(Driven):
    """A notebook in a process of its own."""

    def __init__(self) -> None:
        super().__init__(NOTEBOOK, answer=ANSWER)


@pytest.fixture(scope="module")
def spare() -> Iterator[list[Notebook]]:
    """Processes that have imported everything and wait for a test."""
    processes: list[Notebook] = []
    yield processes
    for process in processes:
        process.end()


Open = Callable[..., Notebook]


@pytest.fixture
def notebook(spare: list[Notebook], model: ScriptedModel, home: Path) -> Iterator[Open]:
    """Opens a notebook in a process of its own, on the session `ID`."""
    opened: list[Notebook] = []

    def open_(name: str, *, let_go: float = LET_GO, **settings: Any) -> Notebook:
        process = spare.pop() if spare else Notebook()
        opened.append(process)
        settings = {"provider": model.base_url, "model": "scripted", **settings}
        process("begin", home=str(home), id=ID, who=name, settings=settings, let_go=let_go)
        return process

    yield open_
    for process in opened:
        if process.process.poll() is None:
            process("close")
            spare.append(process)


@pytest.fixture
def two(notebook: Open) -> tuple[Notebook, Notebook]:
    """Two notebooks; the first one has made the session and asked once."""
    first, second = notebook("first.ipynb"), notebook("second.ipynb", let_go=1.0)
    first("bind", create=True)
    first.ask("from the first")
    return first, second


def until(true: Callable[[], Any], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


# --- Refused ------------------------------------------------------------------------------


def test_a_second_notebook_is_refused(two: tuple[Notebook, Notebook], model: ScriptedModel) -> None:
    first, second = two
    refused = second.refused("ask", prompt="from the second")
    assert refused.error == "SessionInUseError"
    assert refused.what == f"The session {ID} is in use by first.ipynb (pid {first.pid})."
    assert refused.do == (
        f"Close it there, or: %copilot_resume {ID} --fork | --take-over | --read-only."
    )
    assert len(model.requests) == 1
    assert second("runtime") == 0  # not even started
    assert first.ask("and again")["notices"] == []
    assert model.requests[-1].prompts == ["from the first", "and again"]


def test_two_ask_at_once_and_one_gets_it(notebook: Open, model: ScriptedModel) -> None:
    pair = [notebook("first.ipynb"), notebook("second.ipynb")]
    for one in pair:
        one("bind", create=True)
    for one in pair:
        one.tell("ask", prompt=f"from {one.pid}")
    outcomes = []
    for one in pair:
        with contextlib.suppress(Refused):
            outcomes.append(one.reply())
    assert len(outcomes) == 1
    assert len(model.requests) == 1
    assert len(pair[0]("turns")) == 1


def test_reading_needs_no_lock(two: tuple[Notebook, Notebook], model: ScriptedModel) -> None:
    _, second = two
    second("bind", read_only=True)
    assert second("turns") == ["from the first"]
    refused = second.refused("ask", prompt="from the second")
    assert refused.error == "ReadOnlyError"
    assert refused.what == f"This notebook only reads the session {ID}."
    assert "--fork" in refused.do
    assert second("runtime") == 0
    assert len(model.requests) == 1


def test_a_fork_goes_its_own_way(two: tuple[Notebook, Notebook], model: ScriptedModel) -> None:
    first, second = two
    second("fork", target="its-own-way")
    second.ask("from the second")
    assert model.requests[-1].prompts == ["from the first", "from the second"]
    first.ask("and again")
    assert model.requests[-1].prompts == ["from the first", "and again"]
    assert second("turns") == ["from the first", "from the second"]


# --- Taken over ---------------------------------------------------------------------------


def test_taken_over(two: tuple[Notebook, Notebook], model: ScriptedModel) -> None:
    first, second = two
    second("bind", take_over=True)
    said = second.ask("from the second")
    assert said["notices"] == [f"{ID} was taken over from first.ipynb (pid {first.pid})."]
    assert model.requests[-1].prompts == ["from the first", "from the second"]
    for _ in range(2):  # it is told each time, until it takes it back
        lost = first.refused("ask", prompt="and again")
        assert lost.error == "SessionTakenError"
        assert lost.what == (f"The session {ID} was taken over by second.ipynb (pid {second.pid}).")
        assert "--take-over" in lost.do
        assert "--fork" in lost.do
    assert len(model.requests) == 2
    second.ask("go on")
    # And back again, with what was asked meanwhile.
    first("bind", take_over=True)
    first.ask("taken back")
    prompts = ["from the first", "from the second", "go on", "taken back"]
    assert model.requests[-1].prompts == prompts
    assert first("turns") == prompts
    assert second.refused("ask", prompt="no").error == "SessionTakenError"


def test_taken_over_and_let_go(two: tuple[Notebook, Notebook], model: ScriptedModel) -> None:
    first, second = two
    second("bind", take_over=True)
    second.ask("from the second")
    first("come_back")  # as a resumed line does; the second has it still
    assert first.refused("ask", prompt="no").error == "SessionTakenError"
    second("release")
    assert first.refused("ask", prompt="no").error == "SessionTakenError"
    first("come_back")
    assert first.ask("back")["notices"] == []
    assert model.requests[-1].prompts == ["from the first", "from the second", "back"]


def test_a_running_turn_is_taken_over(two: tuple[Notebook, Notebook], model: ScriptedModel) -> None:
    first, second = two
    model.will(SLOW)
    first.tell("ask", prompt="never answered")
    model.wait_for(2)
    time.sleep(0.2)
    second("bind", take_over=True)
    began = time.monotonic()
    second.tell("ask", prompt="from the second")
    with pytest.raises(Refused) as lost:
        first.reply(NOTICED)
    print(f"take-over to the first one's error: {time.monotonic() - began:.2f} s")
    assert lost.value.error == "SessionTakenError"
    second.reply()
    print(f"take-over to the second one's answer: {time.monotonic() - began:.2f} s")
    assert model.requests[-1].prompts == ["from the first", "from the second"]
    assert second("turns") == ["from the first", "from the second"]
    assert first("turns") == ["from the first", "from the second"]


def test_taken_over_from_one_that_sleeps(
    two: tuple[Notebook, Notebook], model: ScriptedModel
) -> None:
    # A laptop that was closed in the middle of a turn, and opened again later.
    first, second = two
    model.will(SLOW)
    first.tell("ask", prompt="never answered")
    model.wait_for(2)
    runtime = psutil.Process(first.process.pid).children()[0]
    first.process.send_signal(signal.SIGSTOP)
    runtime.suspend()
    try:
        second("bind", take_over=True)
        second.ask("from the second")
        assert model.requests[-1].prompts == ["from the first", "from the second"]
    finally:
        runtime.resume()
        first.process.send_signal(signal.SIGCONT)
    with pytest.raises(Refused) as lost:
        first.reply()
    assert lost.value.error == "SessionTakenError"
    second.ask("go on")
    prompts = ["from the first", "from the second", "go on"]
    assert model.requests[-1].prompts == prompts
    assert second("turns") == prompts


def test_a_lock_file_that_is_gone_is_nobodys(
    two: tuple[Notebook, Notebook], model: ScriptedModel, home: Path
) -> None:
    first, second = two
    for lock in (home / "copilot-jupyter" / "locks").iterdir():
        lock.unlink()
    assert first.ask("and again")["notices"] == []
    assert model.requests[-1].prompts == ["from the first", "and again"]
    assert second.refused("ask", prompt="no").error == "SessionInUseError"


# --- Released -----------------------------------------------------------------------------


def test_released(two: tuple[Notebook, Notebook], model: ScriptedModel) -> None:
    first, second = two
    first("release")
    assert second.ask("from the second")["notices"] == []
    assert model.requests[-1].prompts == ["from the first", "from the second"]
    second("release")
    again = first.ask("and again")
    assert (again["turn"], again["notices"]) == (3, [])
    assert model.requests[-1].prompts == ["from the first", "from the second", "and again"]


def test_released_when_idle(notebook: Open, model: ScriptedModel, home: Path) -> None:
    first = notebook("first.ipynb", idle_release=0.5)
    second = notebook("second.ipynb", idle_release=0.5)
    lock = home / "copilot-jupyter" / "locks" / f"{ID}.json"
    first("bind", create=True)
    first.ask("from the first")
    began = time.monotonic()
    assert second.refused("ask", prompt="too soon").error == "SessionInUseError"
    until(lambda: not lock.exists(), 3)
    print(f"released after {time.monotonic() - began:.2f} s of 0.5")
    assert second.ask("from the second")["notices"] == []
    until(lambda: not lock.exists(), 3)
    assert first.ask("and again")["turn"] == 3
    assert model.requests[-1].prompts == ["from the first", "from the second", "and again"]


def test_a_long_turn_is_not_idle(notebook: Open, model: ScriptedModel) -> None:
    first, second = notebook("first.ipynb", idle_release=0.3), notebook("second.ipynb")
    first("bind", create=True)
    model.will(Reply("a slow answer", chunk=1, pause=0.12))
    first.tell("ask", prompt="slow")
    model.wait_for(1)
    time.sleep(0.9)
    assert second.refused("ask", prompt="too soon").error == "SessionInUseError"
    assert first.reply()["text"] == "a slow answer"


# --- Dead owners --------------------------------------------------------------------------


def test_a_dead_owner_is_passed_over_in_silence(
    two: tuple[Notebook, Notebook], model: ScriptedModel
) -> None:
    first, second = two
    first.kill()
    assert second.ask("from the second")["notices"] == []
    assert model.requests[-1].prompts == ["from the first", "from the second"]


def test_a_dead_owner_in_the_middle_of_a_turn(
    two: tuple[Notebook, Notebook], model: ScriptedModel
) -> None:
    first, second = two
    model.will(SLOW)
    first.tell("ask", prompt="never answered")
    model.wait_for(2)
    time.sleep(0.2)
    first.kill()
    said = second.ask("from the second")
    assert said["notices"] == ["A prompt that was cut off earlier was taken out: never answered"]
    assert model.requests[-1].prompts == ["from the first", "from the second"]


def test_a_dead_owner_whose_runtime_lives(
    two: tuple[Notebook, Notebook], model: ScriptedModel
) -> None:
    # The runtime of a killed kernel that hangs: it is ended, and the session goes on.
    first, second = two
    runtime = psutil.Process(first("runtime"))
    runtime.suspend()
    try:
        first.kill()
        second.ask("from the second")
        runtime.wait(1)
    finally:
        with contextlib.suppress(psutil.Error):
            runtime.kill()
    assert model.requests[-1].prompts == ["from the first", "from the second"]
    assert second("turns") == ["from the first", "from the second"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"token": 1}', b"\x00" * 100, b"\xff\xfe"]
)
def test_a_lock_that_cannot_be_read_is_none(
    notebook: Open, model: ScriptedModel, home: Path, content: bytes
) -> None:
    lock = home / "copilot-jupyter" / "locks" / f"{ID}.json"
    lock.parent.mkdir(parents=True)
    lock.write_bytes(content)
    first = notebook("first.ipynb")
    first("bind", create=True)
    first.ask("from the first")
    assert json.loads(lock.read_text())["pid"] == first.pid


def test_an_owner_on_another_host_lives_by_its_heartbeat(
    two: tuple[Notebook, Notebook], model: ScriptedModel, home: Path
) -> None:
    first, second = two
    lock = home / "copilot-jupyter" / "locks" / f"{ID}.json"
    owner = json.loads(lock.read_text())
    first("release")
    foreign = {**owner, "place": "another boot", "host": "pod-7", "token": "another"}
    lock.write_text(json.dumps(foreign))
    refused = second.refused("ask", prompt="from the second")
    assert refused.what == f"The session {ID} is in use by first.ipynb (pid {first.pid} on pod-7)."
    silent = time.time() - 31
    os.utime(lock, (silent, silent))
    assert second.ask("from the second")["notices"] == []


# --- Writers that know nothing of our lock ------------------------------------------------


class Terminal:
    """A writer that knows nothing of our lock, as `copilot --resume` does."""

    def __init__(self, home: Path, model: ScriptedModel) -> None:
        self.model = model
        self.runtime = Runtime(Store(home))
        self.live: Any = None

    async def open(self) -> None:
        config = {"type": "openai", "base_url": self.model.base_url}
        provider = Provider("byok", "scripted", config)
        self.live = await self.runtime.open(ID, provider, "/tmp")

    async def ask(self, prompt: str) -> None:
        await self.live.ask(prompt, shown=prompt, emit=lambda _: None, stall_timeout=20)

    async def close(self) -> None:
        if self.live is not None:
            await self.live.close()
        await self.runtime.close()


def test_a_terminal_went_on_and_left(
    two: tuple[Notebook, Notebook], model: ScriptedModel, home: Path
) -> None:
    first, _ = two  # and it holds the session open

    async def visit() -> None:
        terminal = Terminal(home, model)
        await terminal.open()
        try:
            await terminal.ask("from the terminal")
        finally:
            await terminal.close()

    asyncio.run(visit())
    said = first.ask("and again")
    assert said["notices"] == [f"{ID} went on elsewhere; this notebook has read on."]
    assert said["turn"] == 3
    prompts = ["from the first", "from the terminal", "and again"]
    assert model.requests[-1].prompts == prompts
    assert first("turns") == prompts
    assert first.ask("once more")["notices"] == []


def test_a_terminal_that_looked_and_left_is_not_noticed(
    two: tuple[Notebook, Notebook], model: ScriptedModel, home: Path
) -> None:
    first, _ = two

    async def look() -> None:
        terminal = Terminal(home, model)
        await terminal.open()
        await terminal.close()

    asyncio.run(look())
    assert first.ask("and again")["notices"] == []
    assert model.requests[-1].prompts == ["from the first", "and again"]


def test_a_terminal_that_is_there_refuses(
    two: tuple[Notebook, Notebook], model: ScriptedModel, home: Path
) -> None:
    first, second = two

    async def stay() -> None:
        terminal = Terminal(home, model)
        await terminal.open()
        try:
            await terminal.ask("from the terminal")
            for one, terms in ((first, {}), (second, {"take_over": True})):
                one("bind", **terms)
                refused = await asyncio.to_thread(one.refused, "ask", prompt="no")
                assert refused.error == "SessionInUseError"
                assert f"(pid {terminal.runtime.pid})" in refused.what
                assert f"The session {ID} is open in " in refused.what
                assert "--fork" in refused.do
                assert not (home / "copilot-jupyter" / "locks" / f"{ID}.json").exists()
        finally:
            await terminal.close()

    first("release")
    asyncio.run(stay())
    assert len(model.requests) == 2
    first.ask("and again")
    assert model.requests[-1].prompts == ["from the first", "from the terminal", "and again"]


@contextlib.contextmanager
def stranger() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_foreign_lock_of_a_live_process(
    two: tuple[Notebook, Notebook], model: ScriptedModel, home: Path
) -> None:
    first, _ = two
    with stranger() as process:
        lock = home / "session-state" / ID / f"inuse.{process.pid}.lock"
        lock.write_text("")
        for _ in range(2):
            refused = first.refused("ask", prompt="no")
        assert refused.error == "SessionInUseError"
        assert f"The session {ID} is open in " in refused.what
        assert f"(pid {process.pid})" in refused.what
        assert len(model.requests) == 1
        # A process that is younger than the lock was given a used pid.
        old = psutil.Process(process.pid).create_time() - 10
        os.utime(lock, (old, old))
        first.ask("and again")
    assert model.requests[-1].prompts == ["from the first", "and again"]


def test_a_foreign_lock_of_a_dead_process(
    two: tuple[Notebook, Notebook], model: ScriptedModel, home: Path
) -> None:
    first, _ = two
    with stranger() as process:
        pass
    folder = home / "session-state" / ID
    (folder / f"inuse.{process.pid}.lock").write_text("")
    (folder / "inuse.not-a-pid.lock").write_text("")
    assert first.ask("and again")["notices"] == []


# --- Deleting -----------------------------------------------------------------------------


def test_a_session_in_use_elsewhere_is_not_deleted(
    two: tuple[Notebook, Notebook], model: ScriptedModel, home: Path
) -> None:
    first, second = two
    refused = second.refused("delete")
    assert refused.error == "SessionInUseError"
    assert ID in refused.what
    assert f"pid {first.pid}" in refused.what or f"pid {first('runtime')}" in refused.what
    assert "was not deleted" in refused.what
    assert first.ask("and again")["turn"] == 2
    first("release")
    second("delete")
    assert first.refused("ask", prompt="no").what.startswith(f"The session {ID} was deleted on")


def test_ones_own_open_session_is_deleted(
    two: tuple[Notebook, Notebook], model: ScriptedModel, home: Path
) -> None:
    first, _ = two
    first("delete")
    assert not (home / "session-state" / ID).exists()
    assert first.refused("ask", prompt="no").error == "SessionNotFoundError"
    assert not (home / "copilot-jupyter" / "locks" / f"{ID}.json").exists()
