"""What can be known of the front end: which notebook this is, who is there to answer.

Sources in the order of ``identity``: the VS Code cell id, ``__vsc_ipynb_file__``, the
sessions API of the one server that started this kernel, ``JPY_SESSION_NAME``, and
``COPILOT_JUPYTER_NOTEBOOK``. Each was seen to be right where it is tried first.
"""

from __future__ import annotations

import json
import os
import re
import textwrap
import urllib.request
from collections import OrderedDict
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from copilot_jupyter.conversation import binding
from copilot_jupyter.conversation.stored.replay import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from IPython.core.interactiveshell import InteractiveShell

    from copilot_jupyter.notebook.executions import Execution, Executions

#: Seconds that the Jupyter server gets to say where the notebook is (measured: 0.01 to 0.05).
_SERVER = 1.0

#: Executions whose questions are counted at a time: tasks of cells that ended may go on asking.
_COUNTED = 16

_VSCODE_CELL = re.compile(r"vscode-notebook-cell:(?://[^/]*)?(?P<path>/[^#?]+)")


@dataclass(frozen=True)
class Identity:
    """Which notebook this is.

    Parameters
    ----------
    path : Path or None
        Absolute path of the file; None where no front end tells.
    kernel : str
        The kernel's id, which survives its restarts; "" outside a kernel.
    server_root : Path or None
        Root folder of the Jupyter server, where known.
    """

    path: Path | None
    kernel: str = ""
    server_root: Path | None = None

    @property
    def folder(self) -> str:
        """The folder that sessions of this notebook work in."""
        return str(self.path.parent if self.path is not None else Path.cwd())

    @property
    def name(self) -> str:
        """What other people are told when they meet our lock."""
        return str(self.path) if self.path is not None else "a kernel without a notebook"

    @property
    def relative_path(self) -> str:
        """The path as a binding records it."""
        return binding.relative(self.path, self.server_root)


class FrontEnd:
    """The front end behind one shell.

    Parameters
    ----------
    shell : InteractiveShell
    executions : Executions
    """

    def __init__(self, shell: InteractiveShell, executions: Executions) -> None:
        self._shell = shell
        self._executions = executions
        self._asked: OrderedDict[str, dict[str, set[int]]] = OrderedDict()
        self._rewriting = ""

    @property
    def kernel(self) -> Any:
        """The ipykernel, None in terminal IPython."""
        return self._executions.kernel

    @property
    def execution(self) -> Execution:
        """The execution that runs now."""
        return self._executions.now

    @property
    def can_ask(self) -> bool:
        """Whether somebody is there to answer: not under nbclient, papermill or nbval."""
        if self.kernel is None:
            return True
        return self.execution.can_answer

    @property
    def streams(self) -> bool:
        """Whether outputs may be updated in place: a kernel with a person before it."""
        return self.kernel is not None and self.can_ask

    def identity(self) -> Identity:
        """Return which notebook this is, asking the Jupyter server where there is one."""
        server = _server()
        root = Path(server["root_dir"]) if server.get("root_dir") else None
        kernel = self._kernel_id()
        path = self._vscode_path() or _path_from_server(server, root, kernel) or _path_from_env()
        return Identity(path, kernel, root)

    # -- which cell runs -------------------------------------------------------------------

    @property
    def is_typed(self) -> bool:
        """Whether the running code was typed at a prompt, where nothing is ever run again."""
        if self.kernel is None:
            return self._executions.recorded
        return self.can_ask and not self.execution.cell

    def place(
        self, key: str, asked: str, cells: Container[str]
    ) -> tuple[Place, Callable[[], None]]:
        """Return where a question is asked now; the next call is the next ask.

        Parameters
        ----------
        key : str
            Of the question.
        asked : str
            The flag it is asked with.
        cells : container of str
            Ids of the notebook's cells.

        Returns
        -------
        Place
        callable
            Gives the place back, to whoever asks the same next: for a question that failed.
        """
        now = self.execution
        taken = self._asked.setdefault(now.id, {}).setdefault(key, set())
        self._asked.move_to_end(now.id)
        if len(self._asked) > _COUNTED:
            self._asked.popitem(last=False)
        nth = next(n for n in range(len(taken) + 1) if n not in taken)
        taken.add(nth)
        whole = now.source.lstrip().startswith("%%copilot")
        stable = "" if ":" in now.cell else now.cell  # VS Code's: new at every opening
        present = _Present(cells, self._executions.deleted_cells)
        return Place(stable, now.cell, nth, whole, asked, present), lambda: taken.discard(nth)

    @property
    def execution_count(self) -> int:
        """The number of the running cell, as its prompt shows it."""
        return self._executions.count

    # -- what becomes of the running cell --------------------------------------------------
    #
    # A reply carries one text: that of the running cell, or of one below it. JupyterLab takes
    # no second one, so whatever would push another out is refused.

    def replace_line(self, magic: str, typed: str, new: str) -> bool:
        """Put lines in the place of a magic's own in the running cell, indented as that was.

        Parameters
        ----------
        magic : str
            Its name.
        typed : str
            What was typed behind it; a comment at its end stays.
        new : str

        Returns
        -------
        bool
            Whether it was done: not where nobody would see it.
        """
        words = re.split(r"(?:^|\s)#", typed)[0].strip()
        behind = rf"[ \t]+{re.escape(words)}" if words else ""
        line = rf"^(?P<before>[ \t]*)%{magic}{behind}(?:[ \t]*$|(?=[ \t]+#))"
        return self._rewrite(line, lambda found: textwrap.indent(new, found["before"]))

    def replace_ask(self, magic: str, typed: str, new: str) -> bool:
        """Replace a magic and its flags wherever they end a line that is no comment, once.

        Parameters
        ----------
        magic : str
            ``%copilot`` or ``%%copilot``.
        typed : str
            What was typed behind it.
        new : str
        """
        line = rf"^(?P<before>[^#\n]*?)(?<!%){magic}[ \t]+{re.escape(typed.strip())}(?=[ \t]*$)"
        return self._rewrite(line, lambda found: found["before"] + new)

    def will_rewrite(self) -> None:
        """Keep the reply of the running cell free: its own text is to change at its end."""
        if self.streams:
            self._rewriting = self.execution.id

    def _rewrite(self, old: str, new: Callable[[re.Match[str]], str]) -> bool:
        """Replace the first match in the running cell, as other lines of it have left it."""
        if not self.streams:
            return False
        waiting = self._next_input()
        if waiting is not None and not waiting.get("replace"):  # a cell that was promised
            return False
        source = str(waiting["text"]) if waiting is not None else self.source()
        replaced, count = re.subn(old, new, source, count=1, flags=re.M)
        if count and replaced != source:
            self._shell.set_next_input(replaced, replace=True)
        return bool(count)

    def _next_input(self) -> dict[str, Any] | None:
        """Return the text that this cell's reply carries already."""
        manager: Any = self._shell.payload_manager
        payloads: list[dict[str, Any]] = manager.read_payload()
        return next((p for p in payloads if p.get("source") == "set_next_input"), None)

    def defines(self, name: str) -> bool:
        """Whether the kernel has a variable of this name."""
        return name in self._shell.user_ns

    def offer_cell(self, source: str) -> bool:
        """Put a code cell below the running one, or into the next prompt of a console.

        Returns
        -------
        bool
            Whether it will be there: somebody has to see it, and each cell has room for one,
            unless its own text changes.
        """
        if not self.can_ask:
            return False
        if self.kernel is not None:
            now = self.execution.id
            if self._next_input() is not None or (now and now == self._rewriting):
                return False
        self._shell.set_next_input(source, replace=False)
        return True

    def source(self) -> str:
        """Return the source of the cell that runs now, "" where it is not known."""
        return self.execution.source

    def _kernel_id(self) -> str:
        if self.kernel is None:
            return ""
        from ipykernel.connect import get_connection_file

        try:
            name = Path(get_connection_file()).stem
        except RuntimeError:  # a kernel embedded in a program
            return ""
        return name.removeprefix("kernel-")

    def _vscode_path(self) -> Path | None:
        match = _VSCODE_CELL.match(self.execution.cell)
        told = unquote(match["path"]) if match else self._shell.user_ns.get("__vsc_ipynb_file__")
        return Path(told) if isinstance(told, str) and told else None


class _Present:
    """The cells of the notebook's file without those that were deleted since."""

    def __init__(self, cells: Container[str], deleted: Container[str]) -> None:
        self._cells, self._deleted = cells, deleted

    def __contains__(self, cell: object) -> bool:
        return cell in self._cells and cell not in self._deleted


def _server() -> dict[str, Any]:
    """Return the running record of the server that started this kernel; {} if there is none."""
    pid = os.environ.get("JPY_PARENT_PID", "")
    if not pid.isdigit():
        return {}
    from jupyter_core.paths import jupyter_runtime_dir

    try:
        record = json.loads((Path(jupyter_runtime_dir()) / f"jpserver-{pid}.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _path_from_server(server: dict[str, Any], root: Path | None, kernel: str) -> Path | None:
    """Ask the server where the notebook of this kernel lies now: right after a rename too."""
    url, token = server.get("url"), server.get("token") or os.environ.get("JUPYTERHUB_API_TOKEN")
    if not (url and token and root and kernel):
        return None
    request = urllib.request.Request(  # noqa: S310 -- the address is our own server's
        f"{url}api/sessions", headers={"Authorization": f"token {token}"}
    )
    # Straight to it: urllib would send a loopback address, and the token, to HTTP_PROXY.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_SERVER) as response:
            sessions = json.loads(response.read())
    except (OSError, ValueError, HTTPException):
        return None
    for session in sessions if isinstance(sessions, list) else ():
        if session.get("kernel", {}).get("id") == kernel and session.get("path"):
            return root / str(session["path"])
    return None


def _path_from_env() -> Path | None:
    told = os.environ.get("JPY_SESSION_NAME") or os.environ.get("COPILOT_JUPYTER_NOTEBOOK")
    if not told or not told.endswith(".ipynb"):
        return None
    return Path(told).absolute()
