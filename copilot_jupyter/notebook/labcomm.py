"""The kernel's side of the lab extension: the notebook's metadata, and new cells.

The front end's side is ``copilot_jupyter/labextension``. One comm is one question, opened
when it is asked: a page that was reloaded answers too. Nothing is opened at ``%load_ext``.
Where the extension is missing, JupyterLab closes the comm (measured: 0.04 s in an awaited
cell) and others stay silent; either is remembered, so that only the first question waits.

Replies reach an awaited cell on the kernel's own loop. A synchronous cell holds that loop;
it gets them on the subshell of the front end, where there is one (JupyterLab 4.4 and
Notebook 7.4 with ipykernel 7.2, and later).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import InteractiveShell

#: The comm's target, and the key of the notebook's metadata.
TARGET = "copilot_jupyter"
#: Seconds that a question may wait for its answer (measured: 0.02 to 0.1).
LIMIT = 1.0
#: Seconds between two looks for it in an awaited cell.
_BEAT = 0.02
#: Questions whose comm is kept: a second window that answers late finds it.
_KEPT = 8

#: Set when a page with the extension has shown itself, see `autoload`.
_seen = threading.Event()


def autoload(shell: InteractiveShell) -> None:
    """Load the IPython extension; run, silently, by the lab extension in bound notebooks.

    IPython is left to believe that nobody loaded it: a ``%load_ext`` that is run later
    prints no "already loaded" into the notebook.

    Parameters
    ----------
    shell : InteractiveShell
    """
    from copilot_jupyter.notebook.extension import current_desk

    _seen.set()
    manager = shell.extension_manager
    if manager is not None and current_desk(shell) is None:
        manager.load_extension("copilot_jupyter")
        manager.loaded.discard("copilot_jupyter")


class LabExtension:
    """The lab extension in the page behind this kernel, if there is one; raises nothing.

    Parameters
    ----------
    shell : InteractiveShell

    Attributes
    ----------
    available : bool or None
        Whether it is there; None until the first question is answered.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self.available: bool | None = None
        self._shell = shell
        self._questions: deque[_Question] = deque()
        self._inserted = ("", 0)
        self._heard_while_blocked = True  # until a wait in vain

    def state(self, limit: float = LIMIT) -> dict[str, Any] | None:
        """Return the notebook's path and binding as the page holds them.

        For code that cannot await; it waits in vain once at most. In an awaited cell use
        `state_async`, which is answered in every front end.

        Parameters
        ----------
        limit : float
            Seconds to wait at most.

        Returns
        -------
        dict or None
            ``{"path": str, "binding": dict or None}``; None where nothing answers.
        """
        question = self._ask(op="state") if self._heard_while_blocked else None
        if question is None:
            return None
        self._heard_while_blocked = question.done.wait(limit)
        return self._state(question)

    async def state_async(self, limit: float = LIMIT) -> dict[str, Any] | None:
        """Return the same as `state`, for an awaited cell."""
        question = self._ask(op="state")
        if question is None:
            return None
        deadline = time.monotonic() + limit
        # Not one long wait: the stop button is heard between two beats.
        while not question.done.is_set() and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_BEAT)
        return self._state(question)

    def bind(self, binding: dict[str, Any] | None) -> bool:
        """Write the notebook's metadata ``copilot_jupyter``, or take it out; does not wait.

        Parameters
        ----------
        binding : dict or None

        Returns
        -------
        bool
            Whether it was sent to a page that may have the extension.
        """
        return self._ask(op="bind", value=binding) is not None

    def insert_cell(self, source: str, *, kind: str = "code") -> bool:
        """Insert a cell below the running one, behind those it inserted; does not wait.

        Parameters
        ----------
        source : str
        kind : str
            "code" or "markdown".

        Returns
        -------
        bool
            Whether it was sent to a page that has the extension: `available` is True.
        """
        parent = self._parent()
        cell = str(parent.get("metadata", {}).get("cellId") or "")
        if not cell or not self.available:
            return False
        execution = str(parent.get("header", {}).get("msg_id", ""))
        behind = self._inserted[1] if self._inserted[0] == execution else 0
        sent = self._ask(op="insert", cell=cell, behind=behind, kind=kind, source=source)
        if sent is not None:
            self._inserted = (execution, behind + 1)
        return sent is not None

    def close(self) -> None:
        """Close what is open."""
        while self._questions:
            self._questions.popleft().close()

    # -- asking ----------------------------------------------------------------------------

    def _parent(self) -> dict[str, Any]:
        kernel = getattr(self._shell, "kernel", None)
        return dict(kernel.get_parent()) if kernel is not None else {}

    def _ask(self, **asked: Any) -> _Question | None:
        """Send a question; None where nobody is there to answer it."""
        if not self._parent().get("content", {}).get("allow_stdin"):
            return None  # a terminal, nbclient, papermill, nbval
        if self.available is False and not _seen.is_set():
            return None
        try:
            question = _Question(self._answered)
            self._questions.append(question)
            question.send(asked)
        except Exception:  # noqa: BLE001 -- sockets of a kernel that ends; the notebook goes on
            return None
        while len(self._questions) > _KEPT:
            self._questions.popleft().close()
        return question

    def _answered(self, *, there: bool) -> None:
        self.available = there
        if there:
            _seen.set()
        else:
            _seen.clear()

    def _state(self, question: _Question) -> dict[str, Any] | None:
        if not question.done.is_set():
            self._answered(there=False)  # an answer that is merely late says otherwise
        if question.reply is None:
            return None
        path, bound = question.reply.get("path"), question.reply.get("binding")
        return {"path": str(path or ""), "binding": bound if isinstance(bound, dict) else None}


class _Question:
    """One question to the page, and its first answer.

    Parameters
    ----------
    answered : callable
        Told whether the extension is there; maybe on a thread of the kernel's.
    """

    def __init__(self, answered: Callable[..., None]) -> None:
        from comm import create_comm

        self.done = threading.Event()
        self.reply: dict[str, Any] | None = None
        self._answered = answered
        # Not opened before it has its handlers. They take the place of the methods, which
        # would fire IPython's pre_execute and post_execute in the middle of the cell.
        self._comm = cast("Any", create_comm(target_name=TARGET, primary=False))
        self._comm.handle_msg = self._on_message
        self._comm.handle_close = self._on_close
        if hasattr(self._comm, "_reply_subshell_for"):
            # ipykernel 7.4 sends replies to the shell that asked, which a synchronous cell
            # blocks; this leaves them on the subshell that the front end chose.
            self._comm._reply_subshell_for = lambda _data, chosen: chosen  # noqa: SLF001

    def send(self, asked: dict[str, Any]) -> None:
        """Open the comm with what is asked."""
        self._comm.open(data=asked)

    def close(self) -> None:
        """Close the comm, on both sides."""
        from comm import get_comm_manager

        with suppress(Exception):  # the sockets of a kernel that ends
            self._comm.close()  # nothing where the front end closed it
        get_comm_manager().comms.pop(self._comm.comm_id, None)

    def _on_message(self, message: dict[str, Any]) -> None:
        data = message.get("content", {}).get("data")
        if not self.done.is_set():
            self.reply = data if isinstance(data, dict) else {}
            self._answered(there=True)
            self.done.set()

    def _on_close(self, _message: dict[str, Any]) -> None:
        from comm import get_comm_manager

        # Known still: another window closes it too, and ipykernel prints what it misses.
        get_comm_manager().register_comm(self._comm)
        if not self.done.is_set():
            self._answered(there=False)
            self.done.set()
