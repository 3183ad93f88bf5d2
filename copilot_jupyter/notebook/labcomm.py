"""The kernel's side of the lab extension: it is loaded again, and it inserts cells.

The front end's side is ``copilot_jupyter/labextension``. The binding needs no word between
the two: the script reads it from the metadata of what the kernel displays.

A comm is opened for one cell to insert, by a turn that waits for the reply. None may be
left without a waiting cell: a reply that comes between two cells makes ipykernel 7.4 say
the next cell's "idle" in the name of the one before, and that cell then never ends (seen).
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from copilot_jupyter.notebook.executions import Execution

if TYPE_CHECKING:
    from collections.abc import Generator

    from IPython.core.interactiveshell import InteractiveShell

#: The comm's target, and the key of the notebook's metadata.
TARGET = "copilot_jupyter"
#: Seconds that the page gets to insert a cell (measured: 0.02 to 0.1).
LIMIT = 1.0
#: Seconds that a window gets which has inserted cells before: it is there, and slow.
KNOWN_LIMIT = 5.0


def autoload(shell: InteractiveShell) -> None:
    """Load the IPython extension; run, silently, by the lab extension in bound notebooks.

    Parameters
    ----------
    shell : InteractiveShell
    """
    from copilot_jupyter.notebook.extension import current_desk

    manager = shell.extension_manager
    if manager is not None and current_desk(shell) is None:
        manager.load_extension("copilot_jupyter")


class LabExtension:
    """The lab extension in the page behind this kernel, if there is one; raises nothing.

    Parameters
    ----------
    shell : InteractiveShell
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._missing: set[str] = set()
        self._known: set[str] = set()
        self._inserted = ("", 0)

    def insert_cell(
        self, source: str, *, kind: str = "code", below: str = ""
    ) -> Generator[None, None, bool]:
        """Insert a cell below the running one, behind those it inserted already.

        Yields while the page has not answered.

        Parameters
        ----------
        source : str
        kind : str
            "code" or "markdown".
        below : str, optional
            Id of another cell to insert it below.

        Returns
        -------
        bool
            Whether it is there, or will be as soon as a page is free that inserted others
            before; false where no page with the extension answers in time.
        """
        now = Execution(self._shell)
        if now.window in self._missing or not now.cell or not now.can_answer:
            return False
        behind = self._inserted[1] if self._inserted[0] == now.id and not below else 0
        place = {"cell": below or now.cell, "behind": behind}
        request = _Request(now.window, op="insert", **place, kind=kind, source=source)
        is_known = now.window in self._known
        try:
            deadline = time.monotonic() + (KNOWN_LIMIT if is_known else LIMIT)
            while not request.done.is_set() and time.monotonic() < deadline:
                yield
        finally:
            request.close()
        if request.refused:
            self._missing.add(now.window)
        if request.ok:
            self._known.add(now.window)
        inserts = request.ok or (is_known and not request.done.is_set())
        if inserts and not below:
            self._inserted = (now.id, behind + 1)
        return inserts


class _Request:
    """One thing asked of the page, and its answer.

    Parameters
    ----------
    window : str
        The one that runs the cell: only it answers.
    **asked
        What the page is sent.
    """

    def __init__(self, window: str, **asked: Any) -> None:
        from comm import create_comm

        self._window = window
        self.done = threading.Event()
        self.ok = False
        self.refused = False
        # Not opened before it has its handlers. They take the place of the methods, which
        # would fire IPython's pre_execute and post_execute in the middle of the cell.
        self._comm = cast("Any", create_comm(target_name=TARGET, primary=False))
        self._comm.handle_msg = self._on_message
        self._comm.handle_close = self._on_close
        if hasattr(self._comm, "_reply_subshell_for"):
            # ipykernel 7.4 sends replies to the shell that asked, which a synchronous cell
            # blocks; this leaves them on the subshell that the front end chose.
            self._comm._reply_subshell_for = lambda _data, chosen: chosen  # noqa: SLF001
        self._comm.open(data=asked)

    def close(self) -> None:
        """Close the comm, on both sides; nothing where the page closed it."""
        from comm import get_comm_manager

        with suppress(Exception):  # the sockets of a kernel that ends
            self._comm.close()
        get_comm_manager().comms.pop(self._comm.comm_id, None)

    def _on_message(self, message: dict[str, Any]) -> None:
        data = message.get("content", {}).get("data")
        self.ok = isinstance(data, dict) and data.get("ok") is True
        self.done.set()

    def _on_close(self, message: dict[str, Any]) -> None:
        from comm import get_comm_manager

        # Known still: another window closes it too, and ipykernel prints what it misses.
        get_comm_manager().register_comm(self._comm)
        # A window without the extension closes what it does not know: others may know it.
        if message.get("header", {}).get("session") == self._window and not self.done.is_set():
            self.refused = True
            self.done.set()
