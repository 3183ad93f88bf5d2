"""What can be known of the front end: which notebook this is, who is there to answer.

Sources in the order of ``identity``: the VS Code cell id, ``__vsc_ipynb_file__``, the
sessions API of the one server that started this kernel, ``JPY_SESSION_NAME``, and
``COPILOT_JUPYTER_NOTEBOOK``. Each was seen to be right where it is tried first.
"""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from copilot_jupyter.conversation import binding
from copilot_jupyter.conversation.stored.replay import Place

if TYPE_CHECKING:
    from collections.abc import Container

    from IPython.core.interactiveshell import InteractiveShell

    from copilot_jupyter.notebook.executions import Executions

#: Seconds that the Jupyter server gets to say where the notebook is (measured: 0.01 to 0.05).
_SERVER = 1.0

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
        self._execution = ""
        self._asked: Counter[str] = Counter()

    @property
    def kernel(self) -> Any:
        """The ipykernel, None in terminal IPython."""
        return getattr(self._shell, "kernel", None)

    @property
    def can_ask(self) -> bool:
        """Whether somebody is there to answer: not under nbclient, papermill or nbval."""
        if self.kernel is None:
            return True
        return bool(self._parent().get("content", {}).get("allow_stdin"))

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
        return self.can_ask and not self._cell()

    def place(self, key: str, asked: str, cells: Container[str]) -> Place:
        """Return where a question is asked now; the next call is the next ask.

        Parameters
        ----------
        key : str
            Of the question.
        asked : str
            The flag it is asked with.
        cells : container of str
            Ids of the notebook's cells.
        """
        parent, cell = self._parent(), self._cell()
        execution = str(parent.get("header", {}).get("msg_id", ""))
        if execution != self._execution:
            self._execution, self._asked = execution, Counter()
        nth = self._asked[key]
        self._asked[key] += 1
        whole = self.source().lstrip().startswith("%%copilot")
        stable = "" if ":" in cell else cell  # VS Code's are addresses, new at every opening
        return Place(
            stable, cell, nth, whole, asked, _Present(cells, self._executions.deleted_cells)
        )

    @property
    def execution_count(self) -> int:
        """The number of the running cell, as its prompt shows it."""
        # The shell's own counter has been raised by now in some versions and not in others.
        return len(self._shell.user_ns.get("In", ())) - 1

    def _cell(self) -> str:
        return str(self._parent().get("metadata", {}).get("cellId") or "")

    def replace_line(self, old: str, new: str) -> None:
        """Replace one line of the running cell's source, and nothing around it.

        Parameters
        ----------
        old : str
            A regular expression for the line, from its first to its last character.
        new : str
        """
        if not self.streams:  # nobody would see it
            return
        source = self.source()
        replaced, count = re.subn(old, lambda _: new, source, count=1, flags=re.M)
        if count and replaced != source:
            self._shell.set_next_input(replaced, replace=True)

    def replace_text(self, before: str, text: str, new: str) -> None:
        """Replace the text behind a regular expression, and what that matches, once."""
        self.replace_line(before + re.escape(text.strip()) + r"(?=[ \t]*$)", new)

    def defines(self, name: str) -> bool:
        """Whether the kernel has a variable of this name."""
        return name in self._shell.user_ns

    def offer_cell(self, source: str) -> bool:
        """Put a code cell below the running one, or into the next prompt of a console.

        Of several in one cell the last one wins.

        Returns
        -------
        bool
            Whether somebody is there to see it.
        """
        if self.can_ask:
            self._shell.set_next_input(source, replace=False)
        return self.can_ask

    def source(self) -> str:
        """Return the source of the cell that runs now, "" where it is not known."""
        return str(self._parent().get("content", {}).get("code", ""))

    def _parent(self) -> dict[str, Any]:
        return dict(self.kernel.get_parent()) if self.kernel is not None else {}

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
        match = _VSCODE_CELL.match(self._cell())
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
    try:
        with urllib.request.urlopen(request, timeout=_SERVER) as response:  # noqa: S310
            sessions = json.loads(response.read())
    except (OSError, ValueError):
        return None
    for session in sessions:
        if session.get("kernel", {}).get("id") == kernel and session.get("path"):
            return root / str(session["path"])
    return None


def _path_from_env() -> Path | None:
    told = os.environ.get("JPY_SESSION_NAME") or os.environ.get("COPILOT_JUPYTER_NOTEBOOK")
    if not told or not told.endswith(".ipynb"):
        return None
    return Path(told).absolute()
