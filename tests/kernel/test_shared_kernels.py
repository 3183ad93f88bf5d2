"""Real kernels on one shared runtime: the stop button, a restart, a kill, the doctor."""

from __future__ import annotations

import time

import psutil
import pytest
from desk import ask, pressed_stop, reloaded
from drivers import descendants
from scripted_model import Reply

from copilot_jupyter.runtime import shared

SLOW = Reply("slow answer " * 60, chunk=6, pause=0.05)
SHARED = {"COPILOT_JUPYTER_RUNTIME": "shared"}


def server_of(desk) -> psutil.Process:
    [server] = shared.servers(desk.store)
    return psutil.Process(server.pid)


@pytest.fixture
def pair(desk):
    """Two notebooks that have asked, on one runtime that neither of them is the parent of."""
    kernels = [desk.notebook(f"{name}.ipynb", env=SHARED) for name in ("First", "Second")]
    for kernel in kernels:
        ask(kernel, "hello").ok()
        assert not [p for p in descendants(kernel.pid) if "copilot-runtime" in p.name()]
    yield kernels
    server_of(desk).kill()  # not another minute of it


@pytest.mark.campaign
def test_the_stop_button_and_what_it_must_not_reach(desk, pair):
    first, second = pair
    server = server_of(desk)
    count = len(desk.model.requests)
    desk.model.will(SLOW, SLOW)
    stopped = first.start("%%copilot\nnever answered")
    going_on = second.start("%%copilot\na long one")
    desk.model.wait_for(count + 2)
    assert pressed_stop(first, stopped) < 5
    second.finish(going_on, 30)
    going_on.ok()
    assert server_of(desk) == server
    assert server.is_running()
    ask(first, "after").ok()
    assert desk.model.requests[-1].prompts == ["hello", "after"]


@pytest.mark.campaign
def test_a_restart_and_a_kill_go_on_where_they_were(desk, pair):
    first, second = pair
    server = server_of(desk)
    reloaded(first, first.restart)
    ask(first, "after a restart").ok()
    assert desk.model.requests[-1].prompts == ["hello", "after a restart"]
    second.kill9()
    time.sleep(0.5)
    ask(first, "after the other's death").ok()
    assert server_of(desk) == server
    shown = first.run("%copilot_doctor").shown
    assert f"pid {server.pid}" in shown
