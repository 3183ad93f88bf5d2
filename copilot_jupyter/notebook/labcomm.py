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

if TYPE_CHECKING:
    from collections.abc import Generator

    from IPython.core.interactiveshell import InteractiveShell

#: The comm's target, and the key of the notebook's metadata.
TARGET = "copilot_jupyter"
#: Seconds that the page gets to insert a cell (measured: 0.02 to 0.1).
LIMIT = 1.0


def autoload(shell: InteractiveShell) -> None:
    """Load the IPython extension; run, silently, by the lab extension in bound notebooks.

    IPython is left to believe that nobody loaded it: a ``%load_ext`` that is run later
    prints no "already loaded" into the notebook.

    Parameters
    ----------
    shell : InteractiveShell
    """
    from copilot_jupyter.notebook.extension import current_desk

    manager = shell.extension_manager
    if manager is not None and current_desk(shell) is None:
        manager.load_extension("copilot_jupyter")
        manager.loaded.discard("copilot_jupyter")


class LabExtension:
    """The lab extension in the page behind this kernel, if there is one; raises nothing.

    Parameters
    ----------
    shell : InteractiveShell
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._missing = False
        self._inserted = ("", 0)

    def insert_cell(self, source: str, *, kind: str = "code") -> Generator[None, None, bool]:
        """Insert a cell below the running one, behind those it inserted already.

        Yields while the page has not answered.

        Parameters
        ----------
        source : str
        kind : str
            "code" or "markdown".

        Returns
        -------
        bool
            Whether it is there; false where no page with the extension answers in time.
        """
        parent = self._parent()
        cell = str(parent.get("metadata", {}).get("cellId") or "")
        answers = parent.get("content", {}).get("allow_stdin")  # not nbclient, papermill, nbval
        if self._missing or not cell or not answers:
            return False
        execution = str(parent.get("header", {}).get("msg_id", ""))
        behind = self._inserted[1] if self._inserted[0] == execution else 0
        request = _Request(op="insert", cell=cell, behind=behind, kind=kind, source=source)
        try:
            deadline = time.monotonic() + LIMIT
            while not request.done.is_set() and time.monotonic() < deadline:
                yield
        finally:
            request.close()
        self._missing = request.refused
        if request.ok:
            self._inserted = (execution, behind + 1)
        return request.ok

    def _parent(self) -> dict[str, Any]:
        kernel = getattr(self._shell, "kernel", None)
        return dict(kernel.get_parent()) if kernel is not None else {}


class _Request:
    """One thing asked of the page, and its answer.

    Parameters
    ----------
    **asked
        What the page is sent.
    """

    def __init__(self, **asked: Any) -> None:
        from comm import create_comm

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

    def _on_close(self, _message: dict[str, Any]) -> None:
        from comm import get_comm_manager

        # Known still: another window closes it too, and ipykernel prints what it misses.
        get_comm_manager().register_comm(self._comm)
        if not self.done.is_set():
            self.refused = True
            self.done.set()
