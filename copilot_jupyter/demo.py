"""The demo: the quickstart notebook on the embedded model, with no account.

`run` opens it in JupyterLab. `check` does what a person would: runs the notebook to its
restart, restarts the kernel, runs the rest, and reads what the model was sent.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import SetupError
from copilot_jupyter.runtime.fetch import ensure_runtime
from copilot_jupyter.runtime.local_model import LocalModel
from copilot_jupyter.runtime.model_file import fetch_model

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTEBOOK = "01-quickstart.ipynb"

#: The tag of the cell before which `check` restarts the kernel.
AFTER_RESTART = "after-restart"

#: Where `run` puts the person's own copy of the notebook.
FOLDER = "copilot-jupyter-demo"

_CELL_SECONDS = 300


def run(*, browser: bool) -> int:
    """Open the quickstart in JupyterLab, and return its exit status.

    Parameters
    ----------
    browser : bool
        Whether to open a browser; otherwise the address is printed.

    Raises
    ------
    SetupError
        If JupyterLab, the runtime or the model cannot be had.
    """
    _need("jupyterlab", "JupyterLab")
    _provision()
    folder = Path.cwd() / FOLDER
    folder.mkdir(exist_ok=True)
    notebook = folder / NOTEBOOK
    if not notebook.exists():
        copy_unanswered(notebook)
    print(f"Opening {notebook}. Ask, restart the kernel, ask again. Ctrl-C ends it.")
    command = [sys.executable, "-m", "jupyterlab", str(notebook)]
    if not browser:  # the addresses that it prints then open the notebook itself
        command += ["--no-browser", f"--LabApp.default_url=/lab/tree/{NOTEBOOK}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in a container; it listens on loopback, with a token
    environment = {**os.environ, "COPILOT_JUPYTER_PROVIDER": "local", "COPILOT_OFFLINE": "true"}
    return subprocess.run(command, env=environment, check=False).returncode


def check() -> int:
    """Run the quickstart with a restart in it, and say what was seen.

    Returns
    -------
    int
        0 if the model's request after the restart held the exchange before it, else 1.

    Raises
    ------
    SetupError
        If nbclient, the runtime or the model cannot be had.
    """
    _need("nbclient", "nbclient")
    runtime = _provision()
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalModel() as model,
        _Witness(model.base_url) as witness,
    ):
        notebook = Path(folder) / NOTEBOOK
        copy_unanswered(notebook)
        environment = {
            "COPILOT_HOME": str(Path(folder) / "copilot-home"),
            "COPILOT_OFFLINE": "true",
            "COPILOT_CLI_PATH": str(runtime),
            "COPILOT_PROVIDER_BASE_URL": witness.base_url,
            "COPILOT_PROVIDER_API_KEY": model.api_key,
            "COPILOT_MODEL": model.name,
            "COPILOT_JUPYTER_SYSTEM_MESSAGE": model.system_prompt,
        }
        answers = _execute(notebook, environment)
        return _verdict(witness.requests, answers)


def _verdict(requests: list[list[dict[str, Any]]], answers: list[str]) -> int:
    """Print what was seen; compare the last request with the exchange before the restart."""
    if len(requests) != 2 or len(answers) != 2:
        print(f"FAILED: the model got {len(requests)} requests and gave {len(answers)} answers.")
        return 1
    first, second = ([f"{m['role']}: {_plain(m)}" for m in request] for request in requests)
    print("The model's first request held:", *first, sep="\n  ")
    print("It answered:", answers[0], sep="\n  ")
    print("-- the kernel was restarted --")
    print("The model's second request held:", *second, sep="\n  ")
    print("It answered:", answers[1], sep="\n  ")
    expected = [first[-1], f"assistant: {answers[0].strip()}"]
    if [line.strip() for line in second[-3:-1]] != expected:
        print("FAILED: the second request did not hold the first exchange.")
        return 1
    print("PASSED: the conversation was there after the restart.")
    return 0


def _execute(path: Path, environment: dict[str, str]) -> list[str]:
    """Run a notebook, restarting its kernel at the tagged cell; return the answers shown."""
    import nbformat
    from jupyter_client.manager import KernelManager
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    manager = KernelManager(kernel_name="python3")
    client = NotebookClient(notebook, km=manager, timeout=_CELL_SECONDS)
    # Nothing of the person's own settings or provider decides what is seen.
    theirs = {k: v for k, v in os.environ.items() if not k.startswith("COPILOT_")}
    started = {**theirs, **environment, "JPY_SESSION_NAME": str(path)}
    answers = []
    quiet = subprocess.DEVNULL
    with client.setup_kernel(cwd=str(path.parent), env=started, stderr=quiet):
        for index, cell in enumerate(notebook.cells):
            if AFTER_RESTART in cell.metadata.get("tags", ()):
                print("Restarting the kernel ...")
                _restart(client)
            if cell.cell_type != "code":
                continue
            client.execute_cell(cell, index)
            if cell.source.startswith("%%copilot"):
                answers += [o["data"]["text/plain"] for o in cell.outputs if "data" in o]
    return answers


def _restart(client: Any) -> None:
    client.km.restart_kernel(now=False)
    client.kc.wait_for_ready(timeout=60)


def _plain(message: dict[str, Any]) -> str:
    """Return a message's text on one line, without the date line of the runtime."""
    content = message.get("content") or ""
    if not isinstance(content, str):
        content = "".join(part.get("text", "") for part in content)
    return content.partition("</current_datetime>")[2].strip() or content.strip()


class _Witness:
    """Passes requests on to the model server and keeps what they held."""

    def __init__(self, target: str) -> None:
        self.requests: list[list[dict[str, Any]]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(target))
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> _Witness:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self, target: str) -> type[BaseHTTPRequestHandler]:
        witness = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Keep quiet."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                witness.requests.append(json.loads(body)["messages"])
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    for part in _forward(f"{target}{self.path.removeprefix('/v1')}", body, self):
                        self.wfile.write(part)

        return Handler


def _forward(url: str, body: bytes, handler: BaseHTTPRequestHandler) -> Iterator[bytes]:
    import httpx

    headers = {
        name: handler.headers[name]
        for name in ("Content-Type", "Authorization")
        if name in handler.headers
    }
    # No timeout: the turn's own stall_timeout watches. No proxy: it is on this machine.
    options: dict[str, Any] = {"timeout": None, "trust_env": False}
    with httpx.stream("POST", url, content=body, headers=headers, **options) as response:
        handler.send_response(response.status_code)
        handler.send_header("Content-Type", response.headers.get("Content-Type", ""))
        handler.end_headers()
        yield from response.iter_bytes()


def _provision() -> Path:
    _need("xllamacpp", "The embedded model")
    runtime = ensure_runtime(print)
    fetch_model(print)
    return runtime


def _need(module: str, what: str) -> None:
    if find_spec(module) is None:
        raise SetupError(
            f"{what} is not installed (no module {module}).",
            "Run: pip install 'copilot-jupyter[lab,local]'",
        )


def copy_unanswered(target: Path) -> None:
    """Copy the quickstart without its outputs: the notebook would carry the answers along."""
    import nbformat

    notebook = nbformat.read(_quickstart(), as_version=4)
    clear(notebook)
    nbformat.write(notebook, target)


def clear(notebook: Any) -> None:
    """Take all outputs, and the answers that they carry, out of a notebook."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None


def _quickstart() -> Path:
    """Return the notebook: inside an installed package, or in the repository beside it."""
    here = Path(__file__).parent
    for candidate in (here / "notebooks" / NOTEBOOK, here.parent / "notebooks" / NOTEBOOK):
        if candidate.exists():
            return candidate
    raise SetupError(f"The notebook {NOTEBOOK} is missing.", "Install copilot-jupyter again.")
