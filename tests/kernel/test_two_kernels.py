"""One conversation, one writer: two notebooks that reach for one session."""

from __future__ import annotations

import time

import pytest
from desk import ask, binding, runtime_of, session_of, two_lines

FIRST = "Let's discuss TypeScript generics"
SECOND = "What were we discussing?"


@pytest.fixture(scope="module")
def pair(shared_desk):
    """Two notebooks and a run without one, whose kernels all tests of this file share."""
    kernels = shared_desk.notebook("First.ipynb"), shared_desk.notebook("Second.ipynb")
    return (*kernels, shared_desk.headless())


@pytest.fixture
def held(shared_desk, pair, request):
    """A session that the first notebook holds, after one turn."""
    shared_desk.model.forget()
    first = pair[0]
    session = f"held-{abs(hash(request.node.name)) % 10**8}"
    first.run(f"%copilot_new {session}").ok()
    ask(first, FIRST).ok()
    yield session
    for kernel in pair[:2]:
        kernel.run("%copilot_release")


@pytest.fixture
def first(pair):
    return pair[0]


@pytest.fixture
def second(pair):
    return pair[1]


@pytest.fixture
def headless(pair):
    return pair[2]


def test_the_second_is_refused_and_told_who_holds_it(shared_desk, held, first, second):
    second.run(f"%copilot_resume {held}").ok()  # binding and reading take nothing
    assert FIRST in second.run("%copilot_history").ok().shown
    said = two_lines(ask(second, SECOND), "SessionInUseError")
    assert str(first.path) in said
    assert f"pid {first.pid}" in said
    for flag in ("--fork", "--take-over", "--read-only"):
        assert flag in said
    assert f"%copilot_resume {held}" in said
    assert len(shared_desk.model.requests) == 1
    assert shared_desk.prompts(held) == [FIRST]
    status = second.run("%copilot_status").ok().shown
    assert str(first.path) in status
    assert f"pid {first.pid}" in status
    assert "First.ipynb" in second.run(f"%copilot_sessions {held}").ok().shown

    assert session_of(ask(first, "The first goes on")) == held
    assert shared_desk.model.requests[-1].prompts == [FIRST, "The first goes on"]


def test_fork_goes_on_in_a_copy(shared_desk, held, first, second):
    bound = second.run(f"%copilot_resume {held} --fork").ok()
    branch = binding(bound)["session"]
    assert branch != held
    assert bound.cell.source == f"%copilot_resume {branch}"
    assert session_of(ask(second, SECOND)) == branch
    assert shared_desk.model.requests[-1].prompts == [FIRST, SECOND]
    ask(first, "In the original").ok()
    assert shared_desk.model.requests[-1].prompts == [FIRST, "In the original"]
    assert shared_desk.prompts(branch) == [FIRST, SECOND]


def test_take_over_and_the_way_back(shared_desk, held, first, second):
    bound = second.run(f"%copilot_resume {held} --take-over").ok()
    assert bound.cell.source == f"%copilot_resume {held}"  # the flag is for once
    taken = ask(second, SECOND)
    assert session_of(taken) == held
    assert shared_desk.model.requests[-1].prompts == [FIRST, SECOND]
    assert any(str(first.path) in line for line in taken.shown.splitlines())

    said = two_lines(ask(first, "Mine?"), "SessionTakenError")
    assert str(second.path) in said
    assert f"%copilot_resume {held} --take-over" in said
    assert "--fork" in said
    assert len(shared_desk.model.requests) == 2

    first.run(f"%copilot_resume {held} --take-over").ok()
    assert session_of(ask(first, "Mine again")) == held
    assert shared_desk.model.requests[-1].prompts == [FIRST, SECOND, "Mine again"]
    two_lines(ask(second, "Yours?"), "SessionTakenError")
    assert shared_desk.prompts(held) == [FIRST, SECOND, "Mine again"]


def test_read_only_reads_and_never_asks(shared_desk, held, first, second):
    bound = second.run(f"%copilot_resume {held} --read-only").ok()
    assert bound.shown == f"Bound to {held}, to read only."
    assert FIRST in second.run("%copilot_history").ok().shown
    ask(first, "More to read").ok()
    assert "More to read" in second.run("%copilot_history").ok().shown
    said = two_lines(ask(second, SECOND), "ReadOnlyError")
    assert f"%copilot_resume {held} --fork" in said
    assert shared_desk.prompts(held) == [FIRST, "More to read"]


def test_headless_goes_on_in_a_fork_that_it_names(shared_desk, held, first, headless):
    headless.run(f"%copilot_resume {held}").ok()
    asked = headless.run(f"%%copilot\n{SECOND}").ok()
    branch = session_of(asked)
    assert branch != held
    said = asked.displays[0]["data"]["text/plain"]
    assert "\n" not in said
    assert branch in said
    assert str(first.path) in said
    assert shared_desk.model.requests[-1].prompts == [FIRST, SECOND]
    assert shared_desk.prompts(held) == [FIRST]
    again = headless.run("%%copilot\nAnd now?").ok()
    assert session_of(again) == branch
    assert len(again.displays) == 1
    assert shared_desk.model.requests[-1].prompts == [FIRST, SECOND, "And now?"]


def test_after_a_release_the_other_goes_on_and_the_first_reads_on(shared_desk, held, first, second):
    first.run("%copilot_release").ok()
    second.run(f"%copilot_resume {held}").ok()
    assert session_of(ask(second, SECOND)) == held
    assert shared_desk.model.requests[-1].prompts == [FIRST, SECOND]
    two_lines(ask(first, "Too early"), "SessionInUseError")
    second.run("%copilot_release").ok()
    back = ask(first, "What did the other ask?")
    assert session_of(back) == held
    assert shared_desk.model.requests[-1].prompts == [FIRST, SECOND, "What did the other ask?"]
    assert len(shared_desk.model.requests[-1].answers) == 2
    assert binding(back)["turn"] == 3


def test_an_idle_notebook_lets_go_by_itself(shared_desk, held, first, second):
    first.run("%config Copilot.idle_release = 0.5").ok()
    ask(first, "The last for now").ok()
    second.run(f"%copilot_resume {held}").ok()
    two_lines(ask(second, "Too early"), "SessionInUseError")
    deadline = time.monotonic() + 5
    while shared_desk.store.holders(held) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert shared_desk.store.holders(held) == []
    assert session_of(ask(second, SECOND)) == held
    second.run("%copilot_release").ok()
    first.run("%config Copilot.idle_release = 60").ok()
    assert session_of(ask(first, "And back")) == held
    assert shared_desk.model.requests[-1].prompts == [
        FIRST,
        "The last for now",
        SECOND,
        "And back",
    ]
    assert runtime_of(first)  # letting go of a session is not ending the runtime


def test_the_session_of_a_killed_notebook_is_free_at_once(shared_desk, held, second):
    third = shared_desk.notebook("Third.ipynb")
    second.run(f"%copilot_resume {held} --fork").ok()
    branch = session_of(ask(second, "A session of its own"))
    second.run("%copilot_release").ok()
    third.run(f"%copilot_resume {branch}").ok()
    ask(third, "Holding it").ok()
    third.kill9()
    freed = ask(second, SECOND)
    assert session_of(freed) == branch
    assert len(freed.displays) <= 2
    assert shared_desk.model.requests[-1].prompts[-2:] == ["Holding it", SECOND]
    third.shutdown()
