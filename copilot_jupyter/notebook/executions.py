"""What IPython tells about each execution: watched from ``%load_ext`` on, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
        }
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

    def _before_cell(self, info: Any) -> None:
        self.recorded = bool(info.store_history)
        kernel = getattr(self._shell, "kernel", None)
        if kernel is not None:
            deleted = kernel.get_parent().get("metadata", {}).get("deletedCells")
            if isinstance(deleted, list):
                self.deleted_cells.update(map(str, deleted))
