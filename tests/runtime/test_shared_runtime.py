"""Many kernels on one runtime: whose session it is, whose tools, and what a death leaves.

Every kernel is a process of its own; the runtime is the real one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from driven import Driven, Refused
from scripted_model import Reply, ScriptedModel

from copilot_jupyter.runtime import shared
from copilot_jupyter.state.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SOON = 40.0
ID = "shared-session"
SLOW = Reply("slow answer " * 60, chunk=6, pause=0.05)
CALL = Reply(tool="run_python")

#: A kernel without Jupyter, whose tool says which kernel ran it; a line in, a line out.
KERNEL = """
import json, sys
from copilot_jupyter.conversation.terms import Terms
from copilot_jupyter.conversation.sessions import Sessions
from copilot_jupyter.events import Notice, Offer, Tool, ToolAnswer, ToolAsked
from copilot_jupyter.runtime import shared
from copilot_jupyter.settings import Copilot

shared.IDLE = float(sys.argv[2])
name, sessions = sys.argv[1], Sessions(Copilot(runtime="shared"))
tool = Tool("run_python", "Run code.", {"type": "object", "properties": {}})

class Kernel:
    def bind(self, session, **terms):
        self.conversation = sessions.conversation(
            session, Terms(who=name, folder="/tmp", **terms))

    def ask(self, prompt, hold=False):
        notices = []
        def emit(event):
            if isinstance(event, Notice):
                notices.append(event.text)
            if isinstance(event, ToolAsked):
                if hold:
                    print(json.dumps({"value": "pending"}), flush=True)
                else:
                    event.answer.set_result(ToolAnswer(f"run by {name}"))
        work = self.conversation.ask(prompt, emit=emit, offer=Offer((tool,)))
        answer = sessions.loop.call(work)
        return {"text": answer.text, "turn": answer.turn, "notices": notices}

    def runtime(self):
        return sessions.runtime.pid

    def release(self):
        sessions.loop.call(self.conversation.release())

    def close(self):
        sessions.close()

served = Kernel()
"""


class Kernel(Driven):
    """A kernel in a process of its own."""

    def __init__(self, name: str, idle: float) -> None:
        super().__init__(KERNEL, name, str(idle), answer=SOON)


@pytest.fixture
def kernel(model: ScriptedModel, home: Path) -> Iterator[Callable[..., Kernel]]:
    """Opens kernels on one shared runtime; in the end no process is left."""
    opened: list[Kernel] = []

    def open_(name: str, session: str = "", *, idle: float = 2.0, **terms: Any) -> Kernel:
        made = Kernel(name, idle)
        opened.append(made)
        made("bind", session=session or f"session-of-{name}", create=True, **terms)
        return made

    yield open_
    for each in opened:
        if each.process.poll() is None:
            each.process.send_signal(signal.SIGCONT)
            with contextlib.suppress(Refused):
                each("close")
            each.end()
    until(lambda: not list(shared.servers(Store(home))))


def until(true: Callable[[], Any], seconds: float = SOON) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def two(kernel: Callable[..., Kernel]) -> tuple[Kernel, Kernel]:
    """Two kernels; the first one has made the session and asked once."""
    first, second = kernel("first", ID), kernel("second", ID)
    first.ask("from the first")
    return first, second


def tool_answers(model: ScriptedModel) -> list[str]:
    return model.requests[-1].texts("tool")


def test_two_kernels_one_runtime_and_each_its_own_tools(
    kernel: Callable[..., Kernel], model: ScriptedModel, home: Path
) -> None:
    first, second = kernel("first"), kernel("second")
    for asker, name in ((first, "first"), (second, "second"), (first, "first")):
        model.will(CALL)
        asker.ask(f"Run it in {name} ({len(model.requests)})")
        assert tool_answers(model)[-1] == f"run by {name}"
        assert model.requests[-1].tools == ["run_python"]
    [server] = shared.servers(Store(home))
    assert first("runtime") == second("runtime") == server.pid
    # Its group is no kernel's: the stop button signals the whole group.
    assert os.getpgid(server.pid) not in (os.getpgid(first.process.pid), os.getpgid(0))


def test_the_second_is_refused_in_the_same_words(
    two: tuple[Kernel, Kernel], model: ScriptedModel
) -> None:
    first, second = two
    second.tell("ask", prompt="no")
    refused = second.refused()
    assert refused.error == "SessionInUseError"
    pid = first.process.pid
    assert refused.what == f"The session {ID} is in use by first (pid {pid})."
    assert len(model.requests) == 1


@pytest.mark.campaign
def test_released_and_resumed_elsewhere(two: tuple[Kernel, Kernel], model: ScriptedModel) -> None:
    first, second = two
    for asker, name in ((second, "second"), (first, "first"), (second, "second")):
        first("release")
        second("release")
        model.will(CALL)
        assert asker.ask(f"in {name} {len(model.requests)}")["notices"] == []
        assert tool_answers(model)[-1] == f"run by {name}"
    assert len(model.requests[-1].prompts) == 4


def test_taken_over_from_a_live_kernel(two: tuple[Kernel, Kernel], model: ScriptedModel) -> None:
    first, second = two
    second("bind", session=ID, take_over=True)
    model.will(CALL)
    said = second.ask("from the second")
    assert "was taken over from first" in said["notices"][0]
    assert tool_answers(model) == ["run by second"]
    first.tell("ask", prompt="mine?")
    assert first.refused().error == "SessionTakenError"
    # What the first still does about its loss does not touch the turn of the second.
    assert second.ask("go on")["turn"] == 3


@pytest.mark.campaign
def test_taken_over_in_the_middle_of_a_turn(
    two: tuple[Kernel, Kernel], model: ScriptedModel
) -> None:
    first, second = two
    model.will(SLOW)
    first.tell("ask", prompt="never answered")
    model.wait_for(2)
    second("bind", session=ID, take_over=True)
    second.ask("from the second")
    assert model.requests[-1].prompts == ["from the first", "from the second"]
    assert first.refused().error == "SessionTakenError"


@pytest.mark.campaign
def test_taken_over_from_a_kernel_that_sleeps(
    two: tuple[Kernel, Kernel], model: ScriptedModel
) -> None:
    first, second = two
    served = first("runtime")
    model.will(Reply(hang=True))
    first.tell("ask", prompt="never answered")
    model.wait_for(2)
    sleeper = psutil.Process(first.process.pid)
    sleeper.suspend()
    second("bind", session=ID, take_over=True)
    second.ask("from the second")
    assert model.requests[-1].prompts == ["from the first", "from the second"]
    assert second("runtime") == served  # waited for in vain, and yet not ended: it is many's
    model.will(SLOW)
    second.tell("ask", prompt="a long one")
    model.wait_for(len(model.requests) + 1)
    sleeper.resume()  # it finds out, and must not end the turn that runs
    assert first.refused().error == "SessionTakenError"
    assert second.reply()["text"].startswith("slow answer")


def test_taken_over_from_a_kernel_that_was_killed_with_its_tool_pending(
    two: tuple[Kernel, Kernel], model: ScriptedModel
) -> None:
    first, second = two
    model.will(CALL)
    first.tell("ask", prompt="run it", hold=True)
    assert first.reply() == "pending"
    first.kill()
    model.will(CALL)
    assert second.ask("from the second")["turn"] >= 2  # no flag needed: the owner is dead
    assert tool_answers(model)[-1] == "run by second"
    assert model.requests[-1].prompts[-1] == "from the second"


@pytest.mark.campaign
def test_taken_over_from_a_live_kernel_with_its_tool_pending(
    two: tuple[Kernel, Kernel], model: ScriptedModel
) -> None:
    first, second = two
    model.will(CALL)
    first.tell("ask", prompt="run it", hold=True)
    assert first.reply() == "pending"
    second("bind", session=ID, take_over=True)
    model.will(CALL)
    second.ask("from the second")
    assert tool_answers(model)[-1] == "run by second"
    assert first.refused().error == "SessionTakenError"


@pytest.mark.campaign
def test_a_killed_kernel_does_not_end_the_others_turn(
    kernel: Callable[..., Kernel], model: ScriptedModel
) -> None:
    first, second = kernel("first"), kernel("second")
    first.ask("hello")  # it has started the runtime
    model.will(SLOW)
    second.tell("ask", prompt="a long one")
    model.wait_for(2)
    first.kill()
    assert second.reply()["text"].startswith("slow answer")


def test_the_runtime_is_killed_under_two_kernels(
    kernel: Callable[..., Kernel], model: ScriptedModel, home: Path
) -> None:
    first, second = kernel("first"), kernel("second")
    for each in (first, second):
        each.ask("hello")
    killed = first("runtime")
    model.forget()
    model.will(SLOW, SLOW)
    for each in (first, second):
        each.tell("ask", prompt="never answered")
    model.wait_for(2)
    began = time.monotonic()
    os.kill(killed, signal.SIGKILL)
    for each in (first, second):
        refused = each.refused()
        assert refused.error == "RuntimeDiedError"
        assert "in the middle of the turn" in refused.what
        assert "nothing of the turn was kept" in refused.what
    assert time.monotonic() - began < 10
    for each in (first, second):
        assert each.ask("again")["turn"] == 2
        assert model.requests[-1].prompts == ["hello", "again"]
    [server] = shared.servers(Store(home))
    assert first("runtime") == second("runtime") == server.pid != killed


@pytest.mark.campaign
def test_a_runtime_with_another_token_is_replaced(
    kernel: Callable[..., Kernel], home: Path
) -> None:
    first, second = kernel("first"), kernel("second")
    first.ask("hello")
    [path] = (home / "copilot-jupyter" / "shared").glob("*/server.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "token": "another"}))
    second.ask("hello")
    assert second("runtime") != first("runtime")
    assert first.ask("still here")["turn"] == 2


@pytest.mark.campaign
def test_a_runtime_that_hangs_is_replaced(
    kernel: Callable[..., Kernel], model: ScriptedModel
) -> None:
    first, second = kernel("first"), kernel("second")
    first.ask("hello")
    frozen = psutil.Process(first("runtime"))
    frozen.suspend()
    try:
        second.ask("hello")  # it lets nobody in
        assert second("runtime") != frozen.pid
    finally:
        frozen.resume()
    assert first.ask("again")["turn"] == 2


@pytest.mark.campaign
def test_it_ends_when_nobody_is_left(kernel: Callable[..., Kernel]) -> None:
    first, second = kernel("first", idle=1.0), kernel("second", idle=1.0)
    for each in (first, second):
        each.ask("hello")
    process = psutil.Process(first("runtime"))
    keeper = process.parent()
    first.kill()
    second.kill()
    until(lambda: not process.is_running() and not keeper.is_running())
