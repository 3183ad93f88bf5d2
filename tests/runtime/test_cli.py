"""The ``copilot-jupyter`` command, run as a person runs it: in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest

from copilot_jupyter.conversation.terms import Terms

if TYPE_CHECKING:
    from pathlib import Path

    from scripted_model import ScriptedModel

    from copilot_jupyter.conversation.sessions import Sessions


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "copilot_jupyter.cli", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_setup_names_the_runtime_it_found(model: ScriptedModel, runtime_program: str) -> None:
    done = command("setup")
    assert done.returncode == 0, done.stderr
    assert runtime_program in done.stdout


def test_setup_fails_in_two_lines_where_the_named_runtime_is_missing() -> None:
    done = command("setup", COPILOT_CLI_PATH="/no/such/runtime")
    assert done.returncode == 1
    assert "/no/such/runtime" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_is_content_where_all_is_well(sessions: Sessions, tmp_path: Path) -> None:
    talk = sessions.conversation("checked", Terms(folder=str(tmp_path), create=True))
    sessions.loop.call(talk.ask("one"))
    sessions.loop.call(talk.release())
    done = command("doctor", "checked")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "to do" not in done.stdout
    assert "checked, 1 turns" in done.stdout


def test_doctor_finds_and_repairs_a_transcript(sessions: Sessions, tmp_path: Path) -> None:
    talk = sessions.conversation("broken", Terms(folder=str(tmp_path), create=True))
    sessions.loop.call(talk.ask("one"))
    sessions.loop.call(talk.release())
    path = sessions.store.journal_path("broken")
    path.write_bytes(path.read_bytes().partition(b"\n")[2])

    found = command("doctor", "broken")
    assert found.returncode == 1
    assert "the first event is missing" in found.stdout

    assert command("doctor", "broken", "--fix").returncode == 0
    assert str(sessions.loop.call(talk.ask("two"))) == "Answer 2 to: two"
    assert [turn.prompt for turn in talk.turns()] == ["one", "two"]


def test_doctor_says_what_to_do_without_a_provider(home: Path) -> None:
    done = command("doctor", COPILOT_PROVIDER_BASE_URL="http://127.0.0.1:9/v1", COPILOT_MODEL="m")
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stdout


def test_sessions_lists_and_searches(sessions: Sessions, tmp_path: Path) -> None:
    for name in ("ana-churn", "ben-sales"):
        talk = sessions.conversation(name, Terms(folder=str(tmp_path), create=True))
        sessions.loop.call(talk.ask(f"about {name}"))
        sessions.loop.call(talk.release())
    assert {"ana-churn", "ben-sales"} <= set(command("sessions").stdout.split())
    found = command("sessions", "CHURN").stdout
    assert "ana-churn" in found
    assert "ben-sales" not in found


def test_an_unknown_command_is_a_usage_error() -> None:
    done = command("frobnicate")
    assert done.returncode == 2
    assert "usage" in done.stderr


@pytest.mark.timeout(280)
@pytest.mark.campaign
def test_the_demo_check_runs_the_quickstart_across_a_restart(
    runtime_program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPILOT_CLI_PATH", runtime_program)
    done = subprocess.run(
        [sys.executable, "-m", "copilot_jupyter.cli", "demo", "--no-browser", "--check"],
        capture_output=True,
        text=True,
        timeout=270,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout
    after = done.stdout.partition("the kernel was restarted")[2]
    assert "user: Let's discuss TypeScript generics" in after


@pytest.mark.campaign
def test_the_demo_opens_jupyterlab_on_the_quickstart(tmp_path: Path, runtime_program: str) -> None:
    environment = {**os.environ, "COPILOT_CLI_PATH": runtime_program, "PYTHONUNBUFFERED": "1"}
    demo = subprocess.Popen(
        [sys.executable, "-m", "copilot_jupyter.cli", "demo", "--no-browser"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    said = []
    try:
        for line in demo.stdout:  # until it says where it is, or ends
            said.append(line)
            if found := re.search(r"(http://(?:127\.0\.0\.1|localhost):\d+/)\S*token=(\w+)", line):
                break
        else:
            pytest.fail("".join(said))
        assert "/lab/tree/01-quickstart.ipynb?" in found[0]
        address, deadline = f"{found[1]}api/status?token={found[2]}", time.monotonic() + 20
        status = 0
        while status != 200 and time.monotonic() < deadline:  # it says so before it listens
            with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=20) as got:
                status = got.status
            time.sleep(0.1)
        assert status == 200
        assert (tmp_path / "copilot-jupyter-demo" / "01-quickstart.ipynb").exists()
    finally:
        os.killpg(demo.pid, signal.SIGKILL)
        demo.wait(20)
        demo.stdout.close()
