"""The stop button, restarts and kills: the cell ends at once, the session holds whole turns."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from desk import ask, pressed_stop, reloaded, runtime_of, session_of, two_lines
from drivers import descendants, wait_gone
from scripted_model import Reply

#: Seconds within which the stop button ends a cell; longer where the kernel asks a question.
AT_ONCE = 0.3
IN_INPUT = 0.5
#: Seconds within which no runtime is left of a kernel that ended.
NO_ORPHAN = 3.0

LONG = Reply("one two three four five six seven eight nine ten " * 40, chunk=8, pause=0.05)
SECRET = "the prompt that is stopped"


@pytest.fixture(scope="module")
def notebook(shared_desk):
    """A notebook that has asked; its kernel outlives every stop."""
    kernel = shared_desk.notebook()
    ask(kernel, "Warm up").ok()
    return kernel


@pytest.fixture
def desk_of(shared_desk):
    shared_desk.model.forget()
    return shared_desk


def begun(kernel, source):
    """Start a cell and wait until the kernel runs it.

    A SIGINT in the 10 ms before that hits ipykernel itself, which then never replies: measured
    on 7.4.0 for ``time.sleep(3)`` in 2 of 60 tries, for ``await asyncio.sleep(3)`` in 7.
    """
    asked = kernel.start(source)
    kernel.wait_until(lambda: "execute_input" in asked.messages, 10, "the cell to begin")
    time.sleep(0.05)
    return asked


def stopped(kernel, result, within=AT_ONCE):
    """Press stop, and insist on a quick end in one line."""
    took = pressed_stop(kernel, result)
    print(f"stopped after {took:.3f} s: {result.cell.source[-40:]!r}")
    assert took < within
    line = two_lines(result, "TurnInterrupted")
    assert len(line.splitlines()) == 1
    return result


def leaves_no_trace(desk, kernel, prompt="Next question"):
    """The next cell is answered, and neither the model nor the transcript knows of the stop."""
    asked = ask(kernel, prompt)
    session = session_of(asked)
    assert not any(SECRET in text for text in desk.model.requests[-1].prompts)
    assert desk.model.requests[-1].prompts[-1] == prompt
    assert SECRET not in "\n".join(desk.prompts(session))
    assert all(turn.complete for turn in desk.turns(session))
    return asked


# -- the stop button ---


def test_stop_while_the_first_ask_imports_the_sdk(desk):
    kernel = desk.notebook()
    asked = begun(kernel, f"%%copilot\n{SECRET}")
    time.sleep(0.25)
    stopped(kernel, asked)
    assert desk.model.requests == []
    leaves_no_trace(desk, kernel)
    assert desk.model.requests[-1].prompts == ["Next question"]


def test_stop_before_the_first_delta(desk_of, notebook):
    runtime = runtime_of(notebook)
    desk_of.model.will(Reply(hang=True))
    asked = notebook.start(f"%%copilot\n{SECRET}")
    desk_of.model.wait_for(1)
    stopped(notebook, asked)
    leaves_no_trace(desk_of, notebook)
    assert runtime_of(notebook) == runtime  # the same process: it was not hit


def test_stop_in_mid_stream_leaves_the_partial_answer_marked(desk_of, notebook):
    runtime = runtime_of(notebook)
    desk_of.model.will(LONG)
    asked = notebook.start(f"%%copilot\n{SECRET}")
    notebook.wait_for_text("one two three", asked)
    stopped(notebook, asked)
    [output] = asked.displays
    assert output["data"]["text/plain"].startswith("one two three")
    assert output["data"]["text/plain"].endswith("\n\n(interrupted; not kept in the session)")
    assert "interrupted; not kept in the session" in output["data"]["text/html"]
    leaves_no_trace(desk_of, notebook)
    assert runtime_of(notebook) == runtime


@pytest.mark.campaign
def test_stop_of_a_synchronous_question_in_an_awaited_cell(desk_of, notebook):
    """There the kernel hands the signal to its loop, which the question holds up."""
    desk_of.model.will(Reply(hang=True))
    asked = notebook.start(
        f"import asyncio, copilot_jupyter\nawait asyncio.sleep(0)\ncopilot_jupyter.ask({SECRET!r})"
    )
    desk_of.model.wait_for(1)
    stopped(notebook, asked)
    leaves_no_trace(desk_of, notebook)


def test_a_task_that_is_cancelled_withdraws_its_prompt_and_leaves_the_kernel_alone(
    desk_of, notebook
):
    pid = notebook.pid
    desk_of.model.will(Reply(hang=True))
    ask_async = f"task = asyncio.create_task(copilot_jupyter.ask_async({SECRET!r}))"
    notebook.run(f"import asyncio, copilot_jupyter\n{ask_async}\nawait asyncio.sleep(0.1)").ok()
    desk_of.model.wait_for(1)
    said = two_lines(notebook.run("%copilot_release"), "SessionInUseError")
    assert "is answering a question of this kernel" in said
    notebook.run("task.cancel()\nawait asyncio.wait([task])").ok()
    assert notebook.run("task.cancelled()").ok().shown == "True"
    leaves_no_trace(desk_of, notebook)
    desk_of.model.will(Reply(hang=True), Reply(hang=True))
    both = ", ".join(f"copilot_jupyter.ask_async({SECRET + n!r})" for n in "12")
    asked = begun(notebook, f"await asyncio.gather({both})")
    desk_of.model.wait_for(3)
    pressed_stop(notebook, asked)
    asked.failed()
    leaves_no_trace(desk_of, notebook)
    assert notebook.pid == pid


def test_stop_while_the_provider_is_tried_again(desk_of, notebook):
    runtime = runtime_of(notebook)
    desk_of.model.will(*[Reply(status=503)] * 6)
    asked = notebook.start(f"%%copilot\n{SECRET}")
    desk_of.model.wait_for(3)  # the runtime waits 0.5 s, 1 s, 2 s... between its attempts
    stopped(notebook, asked)
    desk_of.model.forget()
    leaves_no_trace(desk_of, notebook)
    assert runtime_of(notebook) == runtime


def test_a_provider_that_is_tried_again_is_shown(desk_of, notebook):
    desk_of.model.will(Reply(status=503), Reply("At last"))
    asked = notebook.start("%%copilot\nAre you there?")
    notebook.wait_for_text("trying again", asked)
    assert notebook.finish(asked).ok().shown == "At last"


@pytest.mark.parametrize(
    "source",
    [f"%copilot {SECRET}", f"x = %copilot {SECRET}", f"%%time\n%copilot {SECRET}",
     f"def f():\n    %copilot {SECRET}\nf()"],
    ids=["line", "assignment", "inside %%time", "inside a function"],
)  # fmt: skip
def test_stop_in_every_form_of_asking(desk_of, notebook, source):
    desk_of.model.will(LONG)
    asked = notebook.start(source)
    notebook.wait_for_text("one two three", asked)
    stopped(notebook, asked)
    leaves_no_trace(desk_of, notebook)


def test_stop_at_any_moment(desk_of, notebook):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    for number in range(8):
        desk_of.model.will(Reply("word " * 60, chunk=10, pause=0.02))
        asked = begun(notebook, f"%%copilot\n{SECRET}")
        time.sleep(moments.uniform(0, 0.5) * moments.randint(0, 3) / 3)  # often at the beginning
        stopped(notebook, asked)
        desk_of.model.forget()
        leaves_no_trace(desk_of, notebook, f"Question {number} after the stop")


def test_stop_in_a_question(desk_of, notebook):
    notebook.run("%copilot_new to-be-asked-about").ok()
    notebook.run("%copilot_new another").ok()
    for source in ("%copilot_resume", "%copilot_cleanup --older-than 0m --bound"):
        asked = notebook.start(source)
        notebook.wait_until(lambda: bool(asked.prompts), 10, "the question")  # noqa: B023
        stopped(notebook, asked, IN_INPUT)
        assert "to-be-asked-about" in desk_of.store.ids()
    ask(notebook, "Still there?").ok()


def test_stop_ends_run_all(desk_of, notebook):
    desk_of.model.will(LONG)
    first, second, third = (
        notebook.start(source)
        for source in (f"%%copilot\n{SECRET}", "%%copilot\nNever asked", "reached = True")
    )
    notebook.wait_for_text("one two three", first)
    stopped(notebook, first)
    assert [notebook.finish(r).status for r in (first, second, third)] == [
        "error",
        "aborted",
        "aborted",
    ]
    assert len(desk_of.model.requests) == 1
    leaves_no_trace(desk_of, notebook)


def test_python_after_a_stop_and_a_second_stop(desk_of, notebook):
    """Two presses, as people do: the second hits an idle kernel and harms nothing."""
    desk_of.model.will(LONG)
    asked = notebook.start(f"%%copilot\n{SECRET}")
    notebook.wait_for_text("one two three", asked)
    stopped(notebook, asked)
    notebook.interrupt()
    assert notebook.run("1 + 1").ok().shown == "2"
    leaves_no_trace(desk_of, notebook)


# -- the kernel ends ---

ENDS = {
    "restart": lambda kernel: kernel.restart(),
    "restart now": lambda kernel: kernel.restart(now=True),
    "kill -9": lambda kernel: kernel.kill9(),
    "shut down": lambda kernel: kernel.shutdown(),
}


@pytest.mark.parametrize(
    "way",
    [
        "kill -9",
        *(pytest.param(way, marks=pytest.mark.campaign) for way in ["restart", "shut down"]),
    ],
)
def test_no_runtime_outlives_its_idle_kernel(desk, way):
    kernel = desk.notebook()
    ask(kernel, "Hello").ok()
    children = descendants(kernel.pid)
    assert children
    ENDS[way](kernel)
    assert wait_gone(children, NO_ORPHAN) == []
    assert kernel.orphans == []


@pytest.mark.parametrize(
    "way",
    [
        "restart",
        "kill -9",
        *(pytest.param(way, marks=pytest.mark.campaign) for way in ["restart now", "shut down"]),
    ],
)
def test_a_kernel_that_ends_in_mid_turn_leaves_no_runtime_and_no_prompt(desk, way):
    kernel = desk.notebook()
    session = session_of(ask(kernel, "Hello"))
    desk.model.will(LONG)
    asked = kernel.start(f"%%copilot\n{SECRET}")
    kernel.wait_for_text("one two three", asked)
    children = descendants(kernel.pid)
    assert children
    ENDS[way](kernel)
    assert wait_gone(children, NO_ORPHAN) == []
    assert kernel.orphans == []
    assert asked.done

    # The next life of the notebook: the turn is not in the session, and if that took a
    # repair, one line says so. (Jupyter presses stop before it restarts or shuts down.)
    if way == "kill -9":
        kernel.start_again()
    kernel = reloaded(kernel, int) if kernel.alive else desk.notebook()
    kernel.run(f"%copilot_resume {session}").ok()
    again = leaves_no_trace(desk, kernel)
    assert session_of(again) == session
    assert desk.prompts(session) == ["Hello", "Next question"]
    notes = [line for line in again.shown.splitlines() if "cut off" in line]
    if notes or way == "kill -9":
        assert notes == [f"A prompt that was cut off earlier was taken out: {SECRET}"]


# -- the runtime ends ---


def test_a_runtime_killed_in_mid_turn_is_noticed_at_once(desk):
    kernel = desk.notebook()
    ask(kernel, "Hello").ok()
    desk.model.will(LONG)
    asked = kernel.start(f"%%copilot\n{SECRET}")
    kernel.wait_for_text("one two three", asked)
    runtime = runtime_of(kernel)
    began = time.monotonic()
    os.kill(runtime.pid, signal.SIGKILL)
    kernel.finish(asked, 10)
    took = time.monotonic() - began
    print(f"the runtime's death was an error after {took:.3f} s")
    said = two_lines(asked, "RuntimeDiedError")
    assert "nothing of the turn was kept" in said
    assert took < 2  # restart and repair included
    assert asked.displays[-1]["data"]["text/plain"].endswith("(failed; not kept in the session)")
    assert wait_gone([runtime], 2) == []
    leaves_no_trace(desk, kernel)
    assert runtime_of(kernel) != runtime


def test_a_runtime_killed_between_turns_is_not_even_noticed(desk):
    kernel = desk.notebook()
    ask(kernel, "Hello").ok()
    runtime = runtime_of(kernel)
    runtime.kill()
    assert wait_gone([runtime], 2) == []
    assert ask(kernel, "Still there?").ok().shown == "Answer 2 to: Still there?"
    assert desk.model.requests[-1].prompts == ["Hello", "Still there?"]
