"""Long campaigns: the stop button and kill -9 at random moments of a turn, from a printed seed."""

from __future__ import annotations

import os
import random
import time

import pytest
from desk import LOAD, Desk, ask, session_of
from drivers import descendants, wait_gone
from scripted_model import Reply

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(900)]

MOMENTS = 20

#: A turn of about half a second, so that a moment of it is easy to hit.
SLOW = Reply("word " * 20, chunk=5, pause=0.02)


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("SEED") or time.time_ns() % 1_000_000)
    print(f"\nSEED={seed}")
    return random.Random(seed)


def test_the_stop_button_at_random_moments_leaves_whole_turns(
    desk: Desk, chance: random.Random
) -> None:
    kernel = desk.notebook()
    session = session_of(ask(kernel, "begin"))
    kept = ["begin"]
    for number in range(MOMENTS):
        desk.model.will(SLOW)
        running = kernel.start(f"%%copilot\nstopped {number}")
        # Not in its first moments: until ipykernel awaits the cell a SIGINT ends ipykernel's
        # own loop ("KeyboardInterrupt caught in kernel"), whatever the cell holds.
        time.sleep(chance.uniform(0.05, 0.8))
        if not running.done:
            kernel.interrupt()
        kernel.finish(running, 10)
        if running.status == "ok" or "is kept" in running.traceback:  # faster than the button
            kept.append(f"stopped {number}")
        desk.model.forget()
        ask(kernel, f"after {number}").ok()
        kept.append(f"after {number}")
        assert desk.model.requests[-1].prompts == kept
    assert desk.prompts(session) == kept


def test_kill_9_of_the_kernel_at_random_moments_leaves_whole_turns(
    desk: Desk, chance: random.Random
) -> None:
    kernel = desk.notebook()
    session = session_of(ask(kernel, "begin"))
    kept = ["begin"]
    for number in range(MOMENTS):
        desk.model.will(SLOW)
        running = kernel.start(f"%%copilot\nkilled {number}")
        time.sleep(chance.uniform(0, 0.8))
        family = descendants(kernel.pid)
        kernel.kill9()
        assert wait_gone(family, 3) == []
        if running.status == "ok" or kept_whole(desk, session, f"killed {number}"):
            kept.append(f"killed {number}")
        kernel.start_again()
        desk.model.forget()
        kernel.run(LOAD).ok()
        ask(kernel, f"after {number}").ok()
        kept.append(f"after {number}")
        assert desk.model.requests[-1].prompts == kept
    assert desk.prompts(session) == kept


def kept_whole(desk: Desk, session: str, prompt: str) -> bool:
    """Whether the turn was stored whole before the kill."""
    return any(turn.prompt == prompt and turn.complete for turn in desk.turns(session))
