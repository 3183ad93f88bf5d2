"""The embedded model: a small one that needs no account and no network.

`LocalModel` serves it, or any other GGUF file, on loopback with llama.cpp, in a process
of its own (`model_server`), for as long as its parent lives.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import secrets
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from copilot_jupyter.errors import SetupError

from .model_file import MODEL_FILE, MODEL_NAME, fetch_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

#: The system message under which so small a model gives short answers that end. With
#: none, or with a longer one, it repeats itself until it is cut off.
SYSTEM_PROMPT = (
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face. "
    "Answer in one short sentence."
)

#: Tokens an answer may have (unless the request says so itself), and a conversation.
ANSWER_TOKENS = 400
CONTEXT_TOKENS = 8192

#: Seconds a server may take to come up; a big file on a slow disk needs them.
START_PATIENCE = 120.0

#: The model's own template, with our system message, and without the line that the
#: runtime puts before every prompt: with a date before it, the model answers nothing else.
_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\n' + SYSTEM_PROMPT + '<|im_end|>\n' }}"
    "{% endif %}"
    "{% set text = message['content'] %}"
    "{% if message['role'] == 'user' and text.startswith('<current_datetime>') %}"
    "{% set text = text.split('</current_datetime>')[-1] | trim %}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + text + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
).replace("SYSTEM_PROMPT", repr(SYSTEM_PROMPT))


class LocalModel:
    """A model served on loopback, in a process that ends with this one.

    Parameters
    ----------
    path : Path or None
        A GGUF file; None for the small model, fetched at the start if need be.

    Attributes
    ----------
    name : str
        What a request calls the model.
    system_prompt : str
        What this model should be told first; "" for any other than the small one.
    api_key : str
        The token without which the server answers nobody.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._is_small = path is None or path.name == MODEL_FILE
        self.name = path.stem if path and not self._is_small else MODEL_NAME
        self.system_prompt = SYSTEM_PROMPT if self._is_small else ""
        self.api_key = secrets.token_urlsafe(24)
        self._path = path
        self._address = ""
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """The address for an OpenAI client, ``http://127.0.0.1:PORT/v1``; "" before the start."""
        return f"{self._address}/v1" if self._address else ""

    @property
    def pid(self) -> int | None:
        """The server's process, None where there is none."""
        return self._server.process.pid if self._server is not None else None

    @property
    def running(self) -> bool:
        """Whether the server is up."""
        return self._server is not None and self._server.process.poll() is None

    def start(self, progress: Callable[[str], None] | None = None) -> None:
        """Start the server and wait until it answers; nothing happens if it runs.

        Parameters
        ----------
        progress : callable or None
            Told in one sentence what happens, each time before it takes a while.

        Raises
        ------
        SetupError
            llama.cpp is not installed, the model cannot be fetched, or the server
            does not come up; the last lines of its log are in the message.
        """
        if self.running:
            return
        self.close()
        tell = progress or (lambda _sentence: None)
        if importlib.util.find_spec("xllamacpp") is None:
            raise SetupError(
                "The local model needs the package xllamacpp, which is not installed.",
                "Run pip install 'copilot-jupyter[local]' and try again.",
            )
        path = fetch_model(tell) if self._path is None else self._path
        tell(f"Starting the local model {self.name} ...")
        order: dict[str, Any] = {
            "model": str(path.absolute()),
            "name": self.name,
            "key": self.api_key,
            "answer_tokens": ANSWER_TOKENS,
            "context_tokens": CONTEXT_TOKENS,
        }
        if self._is_small:
            order["template"] = _TEMPLATE
        self._server = _Server(order)
        try:
            self._address = self._server.address(START_PATIENCE)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the server; nothing happens if there is none."""
        self._address = ""
        if self._server is not None:
            self._server.stop()
            self._server = None


class _Server:
    """One server process, as its parent holds it."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._model = order["model"]
        self.process = subprocess.Popen(
            # -P: files of the notebook's folder must not stand in for modules.
            [sys.executable, "-P", "-m", f"{__package__}.model_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A Jupyter interrupt goes to the whole process group of the kernel.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        # The end of the log; read all the time, or a full pipe would stop the server.
        self._log: deque[bytes] = deque(maxlen=6)
        self._reader = threading.Thread(
            target=self._log.extend, args=(_pipe(self.process.stderr),), daemon=True
        )
        self._reader.start()
        self.stop = weakref.finalize(self, _stop, self.process, self._reader, os.getpid())
        # Not on the command line: there, everybody on the machine could read the key.
        line = json.dumps({**order, "parent": os.getpid()}).encode() + b"\n"
        with contextlib.suppress(OSError):  # it died at once; address() says so
            _pipe(self.process.stdin).write(line)
            _pipe(self.process.stdin).flush()

    def address(self, patience: float) -> str:
        """Wait until the server has said its address and answers there."""
        said: list[bytes] = []
        output = _pipe(self.process.stdout)
        listener = threading.Thread(target=lambda: said.append(output.readline()), daemon=True)
        listener.start()
        deadline = time.monotonic() + patience
        while listener.is_alive() and time.monotonic() < deadline:
            listener.join(0.05)  # in short steps, so that a person can interrupt
        address = said[0].decode().strip() if said else ""
        if not address or not _is_healthy(address):
            late = f"was not ready after {patience:.0f} s" if not said else "did not start"
            raise SetupError(
                f"The server of the local model {late} ({self._model}). "
                f"Its log ends with:\n{self._end_of_log()}",
                "Check that Copilot.local_model is a GGUF file that llama.cpp can serve.",
            )
        return address

    def _end_of_log(self) -> str:
        if self.process.poll() is not None:
            self._reader.join(1.0)  # all that it said is in the pipe
        lines = [line.decode(errors="replace").rstrip() for line in tuple(self._log)]
        return "\n".join(f"  {line}" for line in lines if line)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the process was started without this pipe")
    return pipe


def _is_healthy(address: str) -> bool:
    # http.client, since urllib would send a loopback address to a proxy.
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes], reader: threading.Thread, owner: int) -> None:
    """End the server, unless this process is a fork of the one that started it."""
    if os.getpid() != owner:
        return
    with contextlib.suppress(OSError):  # it is dead already
        _pipe(process.stdin).close()
    try:
        process.wait(2.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    reader.join(1.0)
    _pipe(process.stdout).close()
    _pipe(process.stderr).close()
