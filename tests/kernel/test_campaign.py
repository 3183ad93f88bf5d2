"""Long campaigns: a turn broken at random moments of each of its parts; two kernels in turns.

The moments come from a printed seed; ``SEED=n`` repeats a run.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from desk import LOAD, Desk, ask, runtime_of, session_of, two_lines
from drivers import descendants, wait_gone
from scripted_model import Reply

from copilot_jupyter.conversation.lock import lock_file

if TYPE_CHECKING:
    from pathlib import Path

    import psutil
    from drivers import NotebookKernel, Result

#: A turn of about half a second, so that a moment of it is easy to hit.
SLOW = {"text": "word " * 20, "chunk": 5, "pause": 0.02}

#: The parts of a turn, and for how long a random moment of each is looked for (seconds).
PARTS = {
    "before it is sent": 0.15,
    "at the first delta": 0.05,
    "in mid-stream": 0.4,
    "during a tool": 0.6,
    "as it is stored": 0.08,
}
MOMENTS = 4  # of each part: 20 in all

#: What the model runs: it leaves a mark at once, and is at it for a while.
TOOL = "open({mark!r}, 'x').close()\nimport time\ntime.sleep(0.3)\n'the tool ended'"

#: Turns of each of two kernels.
TURNS = 50


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("SEED") or time.time_ns() % 1_000_000)
    print(f"\nSEED={seed}")
    return random.Random(seed)


@dataclass
class Broken:
    """A turn that is going to be broken."""

    prompt: str
    part: str
    running: Result
    mark: Path

    @property
    def had_effects(self) -> bool:
        """Whether the code of the model began to run."""
        return self.mark.exists()

    @property
    def said_kept(self) -> bool:
        """Whether the cell answered, or failed and says that the turn is kept."""
        said = self.running.everything
        return self.running.status == "ok" or "kept in the session, because" in said


@dataclass
class Talk:
    """A conversation of a notebook, and what has to be in it."""

    desk: Desk
    chance: random.Random
    kept: list[str] = field(default_factory=lambda: ["begin"])
    used_tools: dict[str, bool] = field(default_factory=dict)
    """Kept turns that were cut off and may hold a call; whether the code had begun."""

    def __post_init__(self) -> None:
        self.kernel = self.desk.notebook(env={"COPILOT_JUPYTER_ALLOW": "run_python"})
        self.session = session_of(ask(self.kernel, "begin"))

    def moments(self) -> list[str]:
        """Every part of a turn, some times, in random order."""
        parts = list(PARTS) * MOMENTS
        self.chance.shuffle(parts)
        return parts

    def reach(self, part: str, number: int, *, soonest: float = 0.0) -> Broken:
        """Start a turn and return at a random moment of a part of it."""
        came = threading.Event()
        mark = self.desk.folder / f"ran-{number}"
        first = came.set if part in ("at the first delta", "in mid-stream") else None
        last = came.set if part == "as it is stored" else None
        if part == "during a tool":
            code = json.dumps({"code": TOOL.format(mark=str(mark))})
            self.desk.model.will(Reply(tool="run_python", arguments=code, last=came.set))
        self.desk.model.will(Reply(**SLOW, first=first, last=last))
        prompt = f"broken {number}, {part}"
        running = self.kernel.start(f"%%copilot\n{prompt}")
        if part == "before it is sent":
            # Before ipykernel awaits the cell a SIGINT ends ipykernel's own loop
            # ("KeyboardInterrupt caught in kernel"), whatever the cell holds.
            self.kernel.wait_until(lambda: "execute_input" in running.messages, 10, "the cell")
            time.sleep(soonest)
        else:
            assert came.wait(20), "the model was not asked"
        time.sleep(self.chance.uniform(0, PARTS[part]))
        return Broken(prompt, part, running, mark)

    def goes_on(self, broken: Broken, number: int, *, is_kept: bool) -> None:
        """Check that the next turn works and that the broken one is whole, or nowhere."""
        assert is_kept or not broken.had_effects, "what a tool did is never taken back"
        if is_kept:
            self.kept.append(broken.prompt)
            if broken.part == "during a tool":
                self.used_tools[broken.prompt] = broken.had_effects
        self.desk.model.forget()
        ask(self.kernel, f"after {number}").ok()
        self.kept.append(f"after {number}")
        [request] = self.desk.model.requests
        assert request.prompts == self.kept
        assert self.desk.prompts(self.session) == self.kept
        for prompt, ran in self.used_tools.items():
            calls, results = self._exchange(request, prompt)
            assert len(calls) == len(results) <= 1, (prompt, calls, results)
            assert calls or not ran, "the model is not told of code that ran"
            assert all(
                "the tool ended" in result or "interrupted" in result for result in results
            ), results

    def _exchange(self, request: Any, prompt: str) -> tuple[list[Any], list[str]]:
        """The calls of one turn as the model is told of them, and their results."""
        at = [n for n, message in enumerate(request.messages) if message["role"] == "user"]
        begin = at[request.prompts.index(prompt)]
        end = next((n for n in at if n > begin), len(request.messages))
        turn = request.messages[begin:end]
        calls = [call for message in turn for call in message.get("tool_calls") or []]
        return calls, [str(m["content"]) for m in turn if m["role"] == "tool"]

    def leaves_nothing(self) -> None:
        """Let the session go: no lock is left; end the kernel: no process is left."""
        self.kernel.run("%copilot_release").ok()
        assert not lock_file(self.desk.store.ours, self.session).exists()
        assert self.desk.store.holders(self.session) == []
        turns = self.desk.turns(self.session)
        assert [turn.prompt for turn in turns] == self.kept
        assert all(turn.complete for turn in turns if turn.prompt not in self.used_tools)
        family = descendants(self.kernel.pid)
        self.kernel.shutdown()
        assert wait_gone(family, 3) == []
        assert self.kernel.orphans == []


@pytest.fixture
def talk(desk: Desk, chance: random.Random) -> Talk:
    return Talk(desk, chance)


def break_by_kill_9_of_the_kernel(talk: Talk, part: str, number: int) -> None:
    if part == "before it is sent":  # of a new kernel, which has to begin with everything
        talk.kernel.restart(now=True)
        talk.kernel.run(LOAD).ok()
        broken = talk.reach(part, number, soonest=talk.chance.uniform(0, 1.0))
    else:
        broken = talk.reach(part, number)
    family = descendants(talk.kernel.pid)
    talk.kernel.kill9()
    assert wait_gone(family, 3) == [], "a runtime outlived its kernel"
    stored = [turn for turn in talk.desk.turns(talk.session) if turn.prompt == broken.prompt]
    assert len(stored) <= 1
    talk.kernel.start_again()
    talk.kernel.run(LOAD).ok()
    is_kept = any(turn.complete or turn.had_effects for turn in stored)
    talk.goes_on(broken, number, is_kept=is_kept)


def break_by_kill_9_of_the_runtime(talk: Talk, part: str, number: int) -> None:
    runtime = runtime_of(talk.kernel)
    broken = talk.reach(part, number)
    with contextlib.suppress(ProcessLookupError):
        os.kill(runtime.pid, 9)
    talk.kernel.finish(broken.running, 20)
    if broken.running.status != "ok":  # else it was answered already
        two_lines(broken.running, "RuntimeDiedError")
    assert wait_gone([runtime], 3) == []
    talk.goes_on(broken, number, is_kept=broken.said_kept)
    assert runtime_of(talk.kernel) != runtime


def break_by_the_stop_button(talk: Talk, part: str, number: int) -> None:
    runtime: psutil.Process = runtime_of(talk.kernel)
    broken = talk.reach(part, number, soonest=0.05)
    if not broken.running.done:
        talk.kernel.interrupt()
    talk.kernel.finish(broken.running, 10)
    said = broken.running
    if said.status != "ok":
        two_lines(said, "TurnInterrupted")
    is_kept = broken.said_kept or "complete already and is kept" in said.traceback
    talk.goes_on(broken, number, is_kept=is_kept)
    assert runtime_of(talk.kernel) == runtime, "the stop button hit the runtime"


WAYS = {
    "kernel killed": break_by_kill_9_of_the_kernel,
    "runtime killed": break_by_kill_9_of_the_runtime,
    "stop button": break_by_the_stop_button,
}


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_turn_broken_at_random_moments(talk: Talk, way: Any) -> None:
    for number, part in enumerate(talk.moments()):
        print(f"{number}: {part}")
        way(talk, part, number)
    talk.leaves_nothing()


def test_a_kernel_killed_during_a_tool(talk: Talk) -> None:
    """The short form of the campaign, run every time."""
    break_by_kill_9_of_the_kernel(talk, "during a tool", 0)
    talk.leaves_nothing()


# -- two kernels on one session ---


@pytest.fixture
def pair(desk: Desk) -> tuple[NotebookKernel, NotebookKernel]:
    return desk.notebook("First.ipynb"), desk.notebook("Second.ipynb")


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_two_kernels_take_one_session_from_each_other(
    desk: Desk, pair: tuple[NotebookKernel, NotebookKernel]
) -> None:
    for kernel in pair:  # how soon a take-over is noticed, which is waited for a hundred times
        kernel.run("from copilot_jupyter.conversation import conversation as module").ok()
        kernel.run("module.HEARTBEAT = 0.2").ok()
    session, asked = "to-and-fro", []
    pair[0].run(f"%copilot_new {session}").ok()
    for number, (name, kernel) in itertools.product(range(TURNS), enumerate(pair)):
        if asked:
            kernel.run(f"%copilot_resume {session} --take-over").ok()
        answered = ask(kernel, f"turn {number} of {name}")
        asked.append(f"turn {number} of {name}")
        assert session_of(answered) == session
        assert desk.model.requests[-1].prompts == asked
        assert len(desk.model.requests) == len(asked)
    said = two_lines(ask(pair[0], "Mine?"), "SessionTakenError")
    assert str(pair[1].path) in said
    turns = desk.turns(session)
    assert [turn.prompt for turn in turns] == asked
    last = f"Answer {2 * TURNS} to: {asked[-1]}"
    assert [turn.answer for turn in turns] == [*desk.model.requests[-1].answers, last]
    pair[1].run("%copilot_release").ok()
    assert not lock_file(desk.store.ours, session).exists()
    assert desk.store.holders(session) == []
    pair[0].run(f"%copilot_resume {session} --take-over").ok()
    ask(pair[0], "Back again").ok()
    assert desk.model.requests[-1].prompts == [*asked, "Back again"]


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_two_kernels_go_on_in_forks_of_each_other(
    desk: Desk, pair: tuple[NotebookKernel, NotebookKernel]
) -> None:
    sessions, asked = ["original"], []
    pair[0].run("%copilot_new original").ok()
    for number, (name, kernel) in itertools.product(range(TURNS), enumerate(pair)):
        if asked:  # the other still holds the one that is forked
            kernel.run(f"%copilot_resume {sessions[-1]} --fork").ok()
        asked.append(f"turn {number} of {name}")
        answered = session_of(ask(kernel, asked[-1]))
        if answered not in sessions:
            sessions.append(answered)
        assert answered == sessions[-1]
        assert desk.model.requests[-1].prompts == asked
    assert len(sessions) == len(asked) == len(desk.model.requests) == 2 * TURNS
    for count, session in enumerate(sessions, start=1):
        assert desk.prompts(session) == asked[:count]
    for kernel in pair:
        kernel.shutdown()
        assert kernel.orphans == []
    assert not list(lock_file(desk.store.ours, "any").parent.glob("*.json"))
