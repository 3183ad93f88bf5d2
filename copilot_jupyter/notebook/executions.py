"""What IPython tells about each execution, its error included: watched from ``%load_ext`` on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import CopilotError
from copilot_jupyter.notebook.failures import Failures

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import InteractiveShell


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
        error = result.error_before_exec or result.error_in_exec
        # Not the stop button, and not what we refused ourselves.
        if isinstance(error, Exception) and not isinstance(error, CopilotError):
            info = result.info
            if info is not None and not info.silent:  # nbval records no history
                cell = result.execution_count or self._shell.execution_count
                self.failures.add(cell, str(info.raw_cell), error)

    def _before_cell(self, info: Any) -> None:
        self.recorded = bool(info.store_history)
        kernel = getattr(self._shell, "kernel", None)
        if kernel is not None:
            deleted = kernel.get_parent().get("metadata", {}).get("deletedCells")
            if isinstance(deleted, list):
                self.deleted_cells.update(map(str, deleted))
