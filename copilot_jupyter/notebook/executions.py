"""What IPython tells about each execution, its error included: watched from ``%load_ext`` on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import CopilotError
from copilot_jupyter.notebook.failures import Failures

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import InteractiveShell


#: The first line of a cell that says whether the extension is loaded.
_LOADING = re.compile(r"^[ \t]*%(?P<how>re|un|)load_ext[ \t]+copilot_jupyter\b", re.MULTILINE)


class Execution:
    """The execution that runs now, as the front end asked for it; empty outside a kernel.

    It is read at once and does not change: a task that goes on behind its cell has this one.

    Parameters
    ----------
    shell : InteractiveShell
    """

    def __init__(self, shell: InteractiveShell) -> None:
        kernel = getattr(shell, "kernel", None)
        parent: dict[str, Any] = (kernel.get_parent() or {}) if kernel is not None else {}
        header, metadata, content = (
            parent.get(part) or {} for part in ("header", "metadata", "content")
        )
        #: The request's own id, "" outside a kernel.
        self.id = str(header.get("msg_id") or "")
        #: The window that asked: no two have the same.
        self.window = str(header.get("session") or "")
        #: The cell's id, "" where the front end tells none.
        self.cell = str(metadata.get("cellId") or "")
        #: What was typed.
        self.source = str(content.get("code") or "")
        #: Whether somebody is there to answer: not under nbclient, papermill or nbval.
        self.can_answer = bool(content.get("allow_stdin"))
        deleted = metadata.get("deletedCells")
        #: Ids of the cells that were deleted since the last one.
        self.deleted_cells = [str(cell) for cell in deleted] if isinstance(deleted, list) else []


class Executions:
    """The execution that runs, and the cells that were deleted.

    Parameters
    ----------
    shell : InteractiveShell
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._events: dict[str, Callable[..., Any]] = {
            "pre_execute": self._before_any,
            "pre_run_cell": self._before_cell,
            "post_run_cell": self._after_cell,
        }
        self.failures = Failures()
        self.recorded = False
        self.deleted_cells: set[str] = set()
        self._loads_quietly = False

    @property
    def kernel(self) -> Any:
        """The ipykernel, None in terminal IPython."""
        return getattr(self._shell, "kernel", None)

    @property
    def now(self) -> Execution:
        """The execution that runs, in a task the one that began it."""
        return Execution(self._shell)

    @property
    def count(self) -> int:
        """The number of the running cell, as its prompt shows it."""
        # Not the shell's own counter, which has been raised by now in some versions and not in
        # others; nor the variable `In`, which is the person's to rebind.
        history: Any = self._shell.history_manager
        return len(history.input_hist_parsed) - 1

    def _load_quietly(self, *, quietly: bool) -> None:
        """Let IPython not know of the extension while a cell that loads it runs."""
        manager = self._shell.extension_manager
        if manager is None or quietly == self._loads_quietly:
            return
        self._loads_quietly = quietly
        (manager.loaded.discard if quietly else manager.loaded.add)("copilot_jupyter")

    def watch(self) -> None:
        """Begin; a second time changes nothing."""
        self.ignore()
        for name, callback in self._events.items():
            self._shell.events.register(name, callback)

    def ignore(self) -> None:
        """End."""
        for name, callback in self._events.items():
            if callback in self._shell.events.callbacks[name]:
                self._shell.events.unregister(name, callback)

    def _before_any(self) -> None:
        self.recorded = False  # a script runs; a cell says otherwise next

    def _after_cell(self, result: Any) -> None:
        self._load_quietly(quietly=False)
        if result is None:  # ipykernel's, where the task of the cell was cancelled
            return
        error = result.error_before_exec or result.error_in_exec
        # Not the stop button, and not what we refused ourselves.
        if isinstance(error, Exception | SystemExit) and not isinstance(error, CopilotError):
            info = result.info
            if info is not None and not info.silent:  # nbval records no history
                cell = result.execution_count or self._shell.execution_count
                self.failures.add(cell, str(info.raw_cell), error, self.now.cell)

    def _before_cell(self, info: Any) -> None:
        self.recorded = bool(info.store_history)
        self.deleted_cells.update(self.now.deleted_cells)
        # A `%load_ext` of what is loaded already, by the lab extension, `copilot-jupyter enable`
        # or the cell's last run, would print that into the notebook.
        line = _LOADING.search(str(info.raw_cell or ""))
        self._load_quietly(quietly=line is not None and not line["how"])
