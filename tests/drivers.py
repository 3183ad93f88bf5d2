"""A front end for tests: real Jupyter kernels, driven the way a notebook drives them.

Nothing here is a stand-in. `NotebookKernel` starts a real ipykernel through
jupyter_client and talks to it as JupyterLab does (cell ids, answers to
``input()``, payloads applied, updates by display id) or as nbclient does
(neither ids nor anybody to answer). A background thread plays the page: it
takes messages at any time, so a test may interrupt, kill or answer while a
cell runs.

Every wait is bounded, and a wait that runs out says what was waited for and
shows the end of what the kernel wrote to its terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import re
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import nbformat
import psutil
from jupyter_client.manager import AsyncKernelManager

if TYPE_CHECKING:
    from jupyter_client.asynchronous import AsyncKernelClient

T = TypeVar("T")
Status = Literal["running", "ok", "error", "aborted", "dead"]

#: Seconds a kernel may take to start, restart or end.
START_LIMIT = 60.0
#: Seconds between two looks for messages. jupyter_client sends behind asyncio's back, and a
#: send may swallow the sign that a message has come in.
LOOK = 0.2
#: Seconds children get to follow their kernel before the driver ends them.
GRACE = 2.0

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
#: Variables that no test takes over from the person who runs it: which notebook
#: this is, and who they are to GitHub.
NOT_INHERITED = (
    *("JPY_SESSION_NAME", "JPY_PARENT_PID", "JPY_API_TOKEN", "JUPYTER_TOKEN", "PYTHONWARNINGS"),
    *("COPILOT_GITHUB_TOKEN", "GH_TOKEN", "GITHUB_TOKEN"),
)
#: The variable that marks all processes of one kernel or server, orphans included.
MARK = "COPILOT_JUPYTER_TEST_MARK"


# --- processes -------------------------------------------------------------------------------


def descendants(pid: int) -> list[psutil.Process]:
    """Return every living process below `pid`.

    Ask *before* a kill: a child that runs in its own session is found through
    its parent only, and nobody finds it once that parent is gone.
    """
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def marked(mark: str) -> list[psutil.Process]:
    """Return the living processes whose environment carries `mark`, however they were started."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and _lives(process):
                found.append(process)
    return found


def end_all(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Give processes two seconds to end, then kill them; return those that were killed."""
    survivors = wait_gone(processes, GRACE)
    for process in survivors:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_gone(survivors, 5)
    return survivors


def wait_gone(
    processes: Iterable[psutil.Process | int], seconds: float = 10.0
) -> list[psutil.Process]:
    """Wait until the processes have ended and return those that have not.

    A process that ended and that nobody has reaped (a container without an
    init) counts as gone.
    """
    left = [found for p in processes if (found := _process(p)) is not None]
    deadline = time.monotonic() + seconds
    while (left := [p for p in left if _lives(p)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _process(process: psutil.Process | int) -> psutil.Process | None:
    if isinstance(process, psutil.Process):
        return process
    try:
        return psutil.Process(process)
    except psutil.NoSuchProcess:
        return None


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# --- what a notebook holds -------------------------------------------------------------------


@dataclass
class Cell:
    """One cell of the notebook in memory."""

    source: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    kind: Literal["code", "markdown", "raw"] = "code"
    outputs: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    execution_count: int | None = None


@dataclass
class Prompt:
    """One question the kernel asked through ``input()`` or ``getpass()``."""

    text: str
    password: bool
    answer: str | None = None
    """None while it waits for an answer."""


@dataclass
class Comm:
    """One comm as the front end knows it: a widget, or a link to a lab extension."""

    id: str
    target: str
    opened: dict[str, Any]
    """The data it was opened with."""
    received: list[dict[str, Any]] = field(default_factory=list)
    """The data of every message the kernel sent since."""
    closed: bool = False

    @property
    def state(self) -> dict[str, Any]:
        """A widget's state, all updates applied."""
        state = dict(self.opened.get("state", {}))
        for data in self.received:
            if data.get("method") in ("update", "echo_update"):
                state.update(data.get("state", {}))
        return state


@dataclass
class Result:
    """What came of running one cell; it grows while the cell runs."""

    cell: Cell
    outputs: list[dict[str, Any]] = field(default_factory=list)
    """As nbformat has them, updates applied; later updates still arrive here."""
    status: Status = "running"
    """`aborted`: never ran, a cell before it failed. `dead`: the kernel ended under it."""
    ename: str = ""
    evalue: str = ""
    traceback: str = ""
    """Colours removed."""
    execution_count: int | None = None
    payloads: list[dict[str, Any]] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    """Types of all messages of this cell on iopub, in order of arrival."""
    elapsed: float = 0.0
    """Seconds from sending the cell to its end."""
    msg_id: str = ""
    _replied: bool = False
    _idle: bool = False
    _clear_next: bool = False
    _began: float = 0.0

    @property
    def done(self) -> bool:
        return self.status != "running"

    @property
    def stdout(self) -> str:
        return self._stream("stdout")

    @property
    def stderr(self) -> str:
        return self._stream("stderr")

    @property
    def text(self) -> str:
        """Everything printed, standard output and error in order."""
        return self._stream("stdout", "stderr")

    @property
    def displays(self) -> list[dict[str, Any]]:
        """The displayed outputs: data, metadata and type of each."""
        return [o for o in self.outputs if o["output_type"] in ("display_data", "execute_result")]

    @property
    def shown(self) -> str:
        """The plain text of everything displayed, a line between two."""
        return "\n".join(str(o["data"].get("text/plain", "")) for o in self.displays)

    @property
    def html(self) -> str:
        """The HTML of everything displayed."""
        found = (o["data"].get("text/html") for o in self.displays)
        return "\n".join(str(html) for html in found if html is not None)

    @property
    def everything(self) -> str:
        """All a reader sees as plain text: printed, displayed, and the error."""
        return "\n".join(part for part in (self.text, self.shown, self.traceback) if part)

    @property
    def next_input(self) -> str | None:
        """The text of the payload that replaces or adds a cell, if there is one."""
        return next((p["text"] for p in self.payloads if p["source"] == "set_next_input"), None)

    def ok(self) -> Result:
        """Return this result, or fail with the traceback."""
        if self.status != "ok":
            raise AssertionError(f"{self._name()} ended as {self.status}\n{self.everything}")
        return self

    def failed(self, ename: str | None = None) -> Result:
        """Return this result, or fail because the cell did not end in that error."""
        if self.status != "error" or ename not in (None, self.ename):
            ended = f"{self._name()} ended as {self.status} {self.ename}".rstrip()
            raise AssertionError(f"{ended}, not in {ename or 'an error'}\n{self.everything}")
        return self

    def _stream(self, *names: str) -> str:
        found = (o for o in self.outputs if o["output_type"] == "stream")
        return "".join(str(o["text"]) for o in found if o["name"] in names)

    def _name(self) -> str:
        lines = self.cell.source.strip().splitlines() or ["(empty)"]
        return f"cell {self.cell.id} [{lines[0]}]"


CommHandler = Callable[[Comm, dict[str, Any]], Iterable[dict[str, Any]] | None]


# --- the kernel ------------------------------------------------------------------------------


class NotebookKernel:
    """A notebook with a real ipykernel behind it; use it as a context manager.

    Parameters
    ----------
    path
        Where the notebook lives. The kernel is told so as JupyterLab tells it
        (``JPY_SESSION_NAME``, working folder). A file that is there is opened.
        None: the kernel knows no notebook, as under nbclient.
    cell_ids
        Send each cell's id with it, as JupyterLab does; cells of *Run All* are
        then queued at once too, and comms nobody listens to are closed.
    answers
        Replies to ``input()``, in order; when they run out the question waits
        for `answer`. None: nobody can answer, as under nbclient.
    env
        Variables for the kernel, over those of this process; None removes one.
    python
        The kernel's interpreter, with an ipykernel of its own; this process's by default.
    """

    def __init__(
        self,
        path: Path | str | None = None,
        *,
        cell_ids: bool = True,
        answers: list[str] | None = None,
        env: Mapping[str, str | None] | None = None,
        python: str | None = None,
    ) -> None:
        self.path = Path(path).absolute() if path is not None else None
        self.cell_ids = cell_ids
        self.answers = answers
        self.env = dict(env or {})
        self.python = python
        self.cells: list[Cell] = []
        self.metadata: dict[str, Any] = {}
        self.prompts: list[Prompt] = []
        self.comms: dict[str, Comm] = {}
        self.comm_targets: dict[str, CommHandler] = {}
        """Set ``comm_targets[name]`` to play a lab extension; what it returns is sent back."""
        self.orphans: list[psutil.Process] = []
        """Processes that outlived the kernel and that the driver had to end."""
        self._results: dict[str, Result] = {}
        self._requests: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._displays: dict[str, list[dict[str, Any]]] = {}
        self._waiting: list[tuple[Prompt, dict[str, Any]]] = []
        self._family: set[psutil.Process] = set()
        self._mark = uuid.uuid4().hex
        self._changed = threading.Condition()
        self._last: Result | None = None
        self._running = False
        if self.path is not None and self.path.exists():
            self._open(self.path)

    # --- life ---

    def __enter__(self) -> NotebookKernel:
        self._folder = Path(tempfile.mkdtemp(prefix="notebook-kernel-"))
        self._terminal = (self._folder / "terminal.log").open("ab")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="front end", daemon=True
        )
        self._thread.start()
        self._running = True
        try:
            self._wait(self._first_start(), START_LIMIT, "the kernel to start")
        except BaseException:
            self.shutdown()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()

    @property
    def pid(self) -> int:
        return int(self._manager.provisioner.pid)

    @property
    def kernel_id(self) -> str:
        return str(self._manager.kernel_id)

    @property
    def connection_file(self) -> Path:
        return Path(self._manager.connection_file)

    @property
    def alive(self) -> bool:
        return self._running and bool(self._wait(self._manager.is_alive(), 5, "a sign of life"))

    @property
    def terminal(self) -> str:
        """What the kernel wrote to its terminal, in all its lives (file descriptors 1 and 2)."""
        log = self._folder / "terminal.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def restart(self, *, now: bool = False) -> None:
        """Restart as Jupyter does: same kernel id, same connection file, new process.

        With `now` it is killed, otherwise asked to end first.
        """
        self._remember()
        self._wait(self._restart(now), START_LIMIT, "the kernel to restart")

    def kill9(self) -> None:
        """Kill the kernel's process, and only that, as the out-of-memory killer does."""
        self._remember()
        os.kill(self.pid, signal.SIGKILL)
        self._wait(self._until_dead(), 10, "the kernel to die")

    def start_again(self) -> None:
        """Start the dead kernel as the auto-restart does: same id and connection file."""
        self._wait(self._restart(True), START_LIMIT, "the kernel to start again")

    def interrupt(self) -> None:
        """Press the stop button: SIGINT to the kernel's whole process group."""
        self._wait(self._manager.interrupt_kernel(), 5, "the interrupt to be sent")

    def shutdown(self, *, now: bool = False) -> None:
        """End the kernel, and whatever it left behind; calling it twice is fine.

        Processes that outlive the kernel by two seconds are ended and named in
        `orphans`, so that a test can insist on none.
        """
        if not self._running:
            return
        self._remember()
        try:
            self._wait(self._end(now), START_LIMIT, "the kernel to end")
        finally:
            self._running = False
            self.orphans = end_all({*self._family, *marked(self._mark)})
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            self._loop.close()
            self._terminal.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    # --- running cells ---

    def add(self, source: str, *, kind: Literal["code", "markdown", "raw"] = "code") -> Cell:
        """Add a cell at the end without running it."""
        cell = Cell(source, kind=kind)
        self.cells.append(cell)
        return cell

    def run(
        self,
        source: str,
        cell: Cell | int | None = None,
        timeout: float = 60.0,
        *,
        wait: bool = True,
    ) -> Result:
        """Type `source` into a cell (a new one unless told which), run it, wait for its end.

        Errors of the cell are not raised: read `Result.status`, or call
        `Result.ok`. Not waiting is `start`.
        """
        target = self.add("") if cell is None else self._cell(cell)
        target.source = source
        result = self._send(target)
        return self.finish(result, timeout) if wait else result

    def run_cell(self, index: Cell | int, timeout: float = 60.0, *, wait: bool = True) -> Result:
        """Run a cell as it stands."""
        cell = self._cell(index)
        return self.run(cell.source, cell, timeout, wait=wait)

    def run_all(self, timeout: float = 120.0, *, queued: bool | None = None) -> list[Result]:
        """Run every code cell, and stop at the first error as *Run All* does.

        `queued` sends all cells at once, as JupyterLab does (a failing cell
        makes the kernel abort the rest); otherwise one by one, as nbclient
        does (cells after a failing one are not sent). By default what fits
        `cell_ids`.
        """
        cells = [c for c in self.cells if c.kind == "code" and c.source.strip()]
        deadline = time.monotonic() + timeout
        if self.cell_ids if queued is None else queued:
            sent = [self._send(cell) for cell in cells]
            return [self.finish(result, deadline - time.monotonic()) for result in sent]
        results: list[Result] = []
        for cell in cells:
            results.append(self.run_cell(cell, deadline - time.monotonic()))
            if results[-1].status != "ok":
                break
        return results

    def start(self, source: str, cell: Cell | int | None = None) -> Result:
        """Begin to run a cell and return at once; `finish` waits for its end."""
        return self.run(source, cell, wait=False)

    def finish(self, result: Result | None = None, timeout: float = 60.0) -> Result:
        """Wait for the end of a started cell, the last one unless told which."""
        found = result or self._last
        if found is None:
            raise ValueError("no cell was started")
        self.wait_until(lambda: found.done, timeout, f"{found._name()} to end")
        return found

    def wait_until(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait until `condition` holds; it is looked at whenever a message arrives."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not condition():
                if (left := deadline - time.monotonic()) <= 0:
                    raise TimeoutError(self._complaint(what, timeout))
                self._changed.wait(min(left, 0.1))

    def wait_for_text(
        self, text: str, result: Result | None = None, timeout: float = 30.0
    ) -> Result:
        """Wait until a running cell shows `text`, printed or displayed."""
        found = result or self._last
        if found is None:
            raise ValueError("no cell was started")
        self.wait_until(
            lambda: text in found.everything or found.done, timeout, f"{text!r} in {found._name()}"
        )
        if text not in found.everything:
            ended = f"{found._name()} ended as {found.status} and never showed {text!r}"
            raise AssertionError(f"{ended}\n{found.everything}")
        return found

    def wait_for_prompt(self, timeout: float = 30.0) -> Prompt:
        """Wait until the kernel asks something that no prepared answer meets."""
        self.wait_until(lambda: bool(self._waiting), timeout, "a question from the kernel")
        return self._waiting[0][0]

    def answer(self, text: str) -> None:
        """Answer the question that waits longest."""
        self.wait_for_prompt()
        self._loop.call_soon_threadsafe(self._answer, text)

    def wait_idle(self, timeout: float = 30.0) -> None:
        """Wait until no cell runs and the kernel answers on its shell channel."""
        open_cells = self._results.values
        self.wait_until(lambda: all(r.done for r in open_cells()), timeout, "all cells to end")
        self._request("kernel_info_request", {}, timeout)

    # --- what an editor asks ---

    def complete(self, code: str, cursor: int | None = None, timeout: float = 15.0) -> list[str]:
        """Press Tab in `code`, at its end unless told where."""
        at = len(code) if cursor is None else cursor
        content = {"code": code, "cursor_pos": at}
        return list(self._request("complete_request", content, timeout)["matches"])

    def inspect(self, code: str, cursor: int | None = None, timeout: float = 15.0) -> str:
        """Press Shift-Tab in `code`: the plain text shown, empty if nothing was found."""
        at = len(code) if cursor is None else cursor
        content = {"code": code, "cursor_pos": at, "detail_level": 0}
        data = self._request("inspect_request", content, timeout).get("data", {})
        return _ANSI.sub("", str(data.get("text/plain", "")))

    def send_comm(self, comm: Comm | str, data: dict[str, Any]) -> None:
        """Send a message on a comm, as a click on a widget does (by way of the main shell)."""
        comm_id = comm if isinstance(comm, str) else comm.id
        content = {"comm_id": comm_id, "data": data}
        self._loop.call_soon_threadsafe(self._post, "comm_msg", content)

    # --- the file ---

    def save(self) -> Path:
        """Write the notebook to its path, outputs and their metadata included."""
        if self.path is None:
            raise ValueError("this notebook has no path to save to")
        kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernelspec, **self.metadata})
        for cell in self.cells:
            metadata = copy.deepcopy(cell.metadata)
            node = _NEW_CELL[cell.kind](cell.source, id=cell.id, metadata=metadata)
            if cell.kind == "code":
                node.execution_count = cell.execution_count
                node.outputs = [nbformat.from_dict(o) for o in copy.deepcopy(cell.outputs)]
            notebook.cells.append(node)
        nbformat.validate(notebook)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, self.path)
        return self.path

    def rename(self, new_path: Path | str) -> Path:
        """Rename or move the notebook in the file browser.

        The living kernel keeps its old ``JPY_SESSION_NAME``; after a restart it
        has the new one, and still the old working folder, as in JupyterLab.
        """
        if self.path is None:
            raise ValueError("this notebook has no path to rename")
        target = Path(new_path).absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(self.path, target)
        self.path = target
        if self._running:
            self._manager.update_env(env={"JPY_SESSION_NAME": str(target)})
        return target

    def copy(self, new_path: Path | str) -> NotebookKernel:
        """Duplicate the file and return a notebook on the copy, its kernel not yet started.

        The copy is what was saved, cell ids included, as the file browser makes it.
        """
        if self.path is None or not self.path.exists():
            raise ValueError("save the notebook before it is copied")
        target = Path(new_path).absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.path, target)
        answers = None if self.answers is None else list(self.answers)
        return NotebookKernel(
            target, cell_ids=self.cell_ids, answers=answers, env=self.env, python=self.python
        )

    # --- inside: the test's thread ---

    def _open(self, path: Path) -> None:
        notebook = nbformat.read(path, as_version=4)
        self.metadata = dict(notebook.metadata)
        for node in notebook.cells:
            cell = Cell(node.source, node.id, node.cell_type, metadata=dict(node.metadata))
            if cell.kind == "code":
                cell.outputs = [dict(output) for output in node.outputs]
                cell.execution_count = node.execution_count
            self.cells.append(cell)

    def _cell(self, cell: Cell | int) -> Cell:
        return self.cells[cell] if isinstance(cell, int) else cell

    def _remember(self) -> None:
        if self._manager_made():
            self._family.update(descendants(self.pid))

    def _manager_made(self) -> bool:
        manager = getattr(self, "_manager", None)
        return manager is not None and getattr(manager.provisioner, "pid", None) is not None

    def _wait(self, work: Coroutine[Any, Any, T], timeout: float, what: str) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except TimeoutError as error:
            if future.done() and not future.cancelled() and future.exception() is error:
                raise  # the work's own timeout, with its own words
            future.cancel()
            raise TimeoutError(self._complaint(what, timeout)) from None
        except RuntimeError as error:
            raise RuntimeError(f"waiting for {what}: {error}\n{self._tail()}") from error

    def _complaint(self, what: str, timeout: float) -> str:
        asked = "".join(f"\nunanswered question: {p.text!r}" for p, _ in self._waiting)
        return f"waited {timeout:.1f} s for {what}{asked}\n{self._tail()}"

    def _tail(self, lines: int = 25) -> str:
        end = "\n".join(self.terminal.splitlines()[-lines:])
        return f"--- the kernel's terminal, last lines ---\n{end or '(nothing)'}"

    def _request(self, kind: str, content: dict[str, Any], timeout: float) -> dict[str, Any]:
        async def ask() -> dict[str, Any]:
            msg_id = self._post(kind, content)
            self._requests[msg_id] = self._loop.create_future()
            try:
                return await self._requests[msg_id]
            finally:
                del self._requests[msg_id]

        return self._wait(ask(), timeout, f"the reply to {kind}")

    def _send(self, cell: Cell) -> Result:
        cell.outputs = []
        result = Result(cell, cell.outputs, _began=time.monotonic())
        self._last = result

        async def send() -> None:
            self._execute(cell, result)

        self._wait(send(), 10, f"{result._name()} to be sent")
        return result

    # --- inside: the front end's thread, where all sockets live ---

    async def _first_start(self) -> None:
        self._manager: Any = AsyncKernelManager(kernel_name="python3")
        if self.python is not None:
            self._manager.kernel_spec.argv[0] = self.python
        self._manager.connection_file = str(self._folder / f"kernel-{uuid.uuid4()}.json")
        await self._manager.start_kernel(
            env=self._environment(),
            cwd=str(self.path.parent if self.path is not None else self._folder),
            stdout=self._terminal,
            stderr=self._terminal,
        )
        await self._connect()

    def _environment(self) -> dict[str, str]:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        own: dict[str, str | None] = dict.fromkeys(NOT_INHERITED)
        own[MARK] = self._mark
        own["IPYTHONDIR"] = str(self._folder / "ipython")
        own["JUPYTER_RUNTIME_DIR"] = str(self._folder)
        own["JPY_SESSION_NAME"] = None if self.path is None else str(self.path)
        merged: dict[str, str | None] = {**os.environ, **own, **self.env}
        return {name: value for name, value in merged.items() if value is not None}

    async def _connect(self) -> None:
        self._client: AsyncKernelClient = self._manager.client()
        self._client.start_channels(hb=False)
        await self._client.wait_for_ready(timeout=START_LIMIT)
        channels = {
            self._client.shell_channel: self._on_shell,
            self._client.iopub_channel: self._on_iopub,
            self._client.stdin_channel: self._on_stdin,
        }
        self._pumps = [
            asyncio.create_task(self._pump(channel, handle)) for channel, handle in channels.items()
        ]
        self._pumps.append(asyncio.create_task(self._watch()))

    async def _disconnect(self) -> None:
        for pump in getattr(self, "_pumps", []):
            pump.cancel()
        await asyncio.gather(*getattr(self, "_pumps", []), return_exceptions=True)
        if hasattr(self, "_client"):
            self._client.stop_channels()
        self._bury()
        self._displays.clear()
        self._waiting.clear()
        self.comms.clear()

    async def _restart(self, now: bool) -> None:
        await self._manager.restart_kernel(now=now)
        await self._disconnect()
        await self._connect()

    async def _until_dead(self) -> None:
        await self._manager._async_wait(0.01)
        self._bury()

    async def _end(self, now: bool) -> None:
        if self._manager_made():
            await self._manager.shutdown_kernel(now=now or not await self._manager.is_alive())
        await self._disconnect()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _pump(self, channel: Any, handle: Callable[[dict[str, Any]], None]) -> None:
        while True:
            try:
                message = await channel.get_msg(timeout=LOOK)
            except Empty:
                continue
            with self._changed:
                handle(message)
                self._changed.notify_all()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            if not await self._manager.is_alive():
                self._bury()

    def _bury(self) -> None:
        """End the cells whose kernel is gone, and the requests that wait for it."""
        with self._changed:
            for result in self._results.values():
                if not result.done:
                    self._conclude(result, "dead")
            for future in self._requests.values():
                if not future.done():
                    future.set_exception(RuntimeError("the kernel died"))
            self._changed.notify_all()

    def _post(
        self, kind: str, content: dict[str, Any], metadata: dict[str, Any] | None = None
    ) -> str:
        message = self._client.session.msg(kind, content, metadata=metadata)
        self._client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def _execute(self, cell: Cell, result: Result) -> None:
        lab = {"trusted": True, "deletedCells": [], "recordTiming": False, "cellId": cell.id}
        content = {
            "code": cell.source,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": self.answers is not None,
            "stop_on_error": True,
        }
        result.msg_id = self._post("execute_request", content, lab if self.cell_ids else {})
        self._results[result.msg_id] = result

    def _on_shell(self, message: dict[str, Any]) -> None:
        parent = message["parent_header"].get("msg_id")
        if (future := self._requests.get(parent)) is not None and not future.done():
            future.set_result(message["content"])
        result = self._results.get(parent)
        if result is None or message["header"]["msg_type"] != "execute_reply" or result.done:
            return
        content = message["content"]
        result._replied = True
        result.execution_count = content.get("execution_count")
        if content["status"] == "ok":
            result.cell.execution_count = result.execution_count
            result.payloads = content.get("payload", [])
            self._apply_payloads(result)
        elif content["status"] == "error":
            result.cell.execution_count = result.execution_count
            result.ename, result.evalue = content["ename"], content["evalue"]
            result.traceback = _ANSI.sub("", "\n".join(content["traceback"]))
        else:
            self._conclude(result, "aborted")
            return
        self._maybe_conclude(result)

    def _maybe_conclude(self, result: Result) -> None:
        if result._replied and result._idle and not result.done:
            self._conclude(result, "error" if result.ename else "ok")

    def _conclude(self, result: Result, status: Status) -> None:
        result.elapsed = time.monotonic() - result._began
        result.status = status

    def _apply_payloads(self, result: Result) -> None:
        """Do what JupyterLab does with the payloads of a reply."""
        for payload in result.payloads:
            if payload["source"] == "page":
                shown = {"output_type": "display_data", "data": payload["data"], "metadata": {}}
                result.outputs.append(shown)
        for payload in result.payloads:
            if payload["source"] != "set_next_input":
                continue
            if payload.get("replace"):
                result.cell.source = payload["text"]
            else:
                self.cells.insert(self.cells.index(result.cell) + 1, Cell(payload["text"]))
            return  # the first one counts; IPython sends no more than one

    def _on_iopub(self, message: dict[str, Any]) -> None:
        kind, content = message["header"]["msg_type"], message["content"]
        if kind.startswith("comm_"):
            self._on_comm(kind, content)
        if kind == "update_display_data":
            self._update_display(content)
        result = self._results.get(message["parent_header"].get("msg_id"))
        if result is None:
            return
        result.messages.append(kind)
        if kind == "status" and content["execution_state"] == "idle":
            result._idle = True
            self._maybe_conclude(result)
        elif kind == "clear_output":
            if content.get("wait"):
                result._clear_next = True
            else:
                result.outputs.clear()
        elif kind in _OUTPUTS:
            self._add_output(result, kind, content)

    def _add_output(self, result: Result, kind: str, content: dict[str, Any]) -> None:
        if result._clear_next:
            result.outputs.clear()
            result._clear_next = False
        last = result.outputs[-1] if result.outputs else {}
        if kind == "stream" and last.get("name") == content["name"]:
            last["text"] += content["text"]
            return
        output = {"output_type": kind, **{name: content[name] for name in _OUTPUTS[kind]}}
        result.outputs.append(output)
        if display_id := content.get("transient", {}).get("display_id"):
            self._update_display(content)
            self._displays.setdefault(display_id, []).append(output)

    def _update_display(self, content: dict[str, Any]) -> None:
        display_id = content.get("transient", {}).get("display_id")
        for output in self._displays.get(display_id, []):
            output["data"], output["metadata"] = content["data"], content["metadata"]

    def _on_stdin(self, message: dict[str, Any]) -> None:
        if message["header"]["msg_type"] != "input_request":
            return
        content = message["content"]
        prompt = Prompt(content["prompt"], bool(content["password"]))
        self.prompts.append(prompt)
        if (result := self._results.get(message["parent_header"].get("msg_id"))) is not None:
            result.prompts.append(prompt)
        self._waiting.append((prompt, message))
        if self.answers:
            self._answer(self.answers.pop(0))

    def _answer(self, text: str) -> None:
        prompt, request = self._waiting.pop(0)
        prompt.answer = text
        session = self._client.session
        reply = session.msg("input_reply", {"value": text, "status": "ok"}, parent=request)
        self._client.stdin_channel.send(reply)

    def _on_comm(self, kind: str, content: dict[str, Any]) -> None:
        comm_id = content["comm_id"]
        if kind == "comm_open":
            comm = Comm(comm_id, content["target_name"], content["data"])
            self.comms[comm_id] = comm
            if comm.target in self.comm_targets:
                self._hear(comm, content["data"])
            elif self.cell_ids and comm.target != "jupyter.widget":
                comm.closed = True
                self._post("comm_close", {"comm_id": comm_id, "data": {}})
        elif (known := self.comms.get(comm_id)) is None:
            return
        elif kind == "comm_close":
            known.closed = True
        else:
            known.received.append(content["data"])
            self._hear(known, content["data"])

    def _hear(self, comm: Comm, data: dict[str, Any]) -> None:
        handler = self.comm_targets.get(comm.target)
        for reply in (handler(comm, data) if handler else None) or ():
            self._post("comm_msg", {"comm_id": comm.id, "data": reply})


_NEW_CELL = {
    "code": nbformat.v4.new_code_cell,
    "markdown": nbformat.v4.new_markdown_cell,
    "raw": nbformat.v4.new_raw_cell,
}
_OUTPUTS = {
    "stream": ("name", "text"),
    "display_data": ("data", "metadata"),
    "execute_result": ("data", "metadata", "execution_count"),
    "error": ("ename", "evalue", "traceback"),
}
