"""What the tests of this folder share: notebooks on the real runtime, and a scripted model."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psutil
from drivers import NotebookKernel, Result, descendants

from copilot_jupyter.conversation import transcript
from copilot_jupyter.state.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scripted_model import ScriptedModel

    from copilot_jupyter.events import Turn

LOAD = "%load_ext copilot_jupyter"


class Desk:
    """A folder of notebooks, a state folder, and the model that all their kernels ask."""

    def __init__(self, folder: Path, model: ScriptedModel, program: str) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        self.home = folder / "copilot-home"
        self.model = model
        self.store = Store(self.home)
        ours = {name: None for name in os.environ if name.startswith(("COPILOT_", "JPY_"))}
        own = {"COPILOT_HOME": str(self.home), "COPILOT_CLI_PATH": program}
        self.env: dict[str, str | None] = {**ours, **model.environment(), **own}
        self._open = ExitStack()

    def notebook(
        self,
        name: str | None = "Analysis.ipynb",
        *,
        cell_ids: bool = True,
        answers: list[str] | None = (),  # type: ignore[assignment]  # somebody, silent so far
        env: dict[str, str | None] | None = None,
    ) -> NotebookKernel:
        """Open a notebook as JupyterLab does, the extension loaded."""
        return self.opened(
            NotebookKernel(
                None if name is None else self.folder / name,
                cell_ids=cell_ids,
                answers=None if answers is None else list(answers),
                env={**self.env, **(env or {})},
            )
        )

    def headless(self, **options: Any) -> NotebookKernel:
        """Start a kernel as nbclient does: no notebook, no cell ids, nobody to ask."""
        return self.notebook(None, cell_ids=False, answers=None, **options)

    def opened(self, kernel: NotebookKernel) -> NotebookKernel:
        """Start the kernel of a notebook, such as a copy, and load the extension."""
        self._open.enter_context(kernel)
        kernel.run(LOAD).ok()
        return kernel

    def close(self) -> None:
        self._open.close()

    # -- what is on disk ---

    def turns(self, session: str) -> list[Turn]:
        return transcript.turns(self.store.journal(session).events)

    def prompts(self, session: str) -> list[str]:
        return [turn.prompt for turn in self.turns(session)]

    def only_session(self) -> str:
        [session] = self.store.ids()
        return session


def ask(kernel: NotebookKernel, prompt: str, **options: Any) -> Result:
    """Ask in a new `%%copilot` cell."""
    return kernel.run(f"%%copilot\n{prompt}", **options)


def binding(result: Result) -> dict[str, Any]:
    """What the output of a cell's answer says of its conversation; a line may stand beside it."""
    [entry] = [o["metadata"]["copilot_jupyter"] for o in result.displays if o["metadata"]]
    return dict(entry)


def session_of(result: Result) -> str:
    return str(binding(result.ok())["session"])


def reloaded(kernel: NotebookKernel, restart: Callable[[], object]) -> NotebookKernel:
    """Restart a kernel in some way and load the extension again."""
    restart()
    kernel.run(LOAD).ok()
    return kernel


def runtime_of(kernel: NotebookKernel) -> psutil.Process:
    """The runtime process of a kernel that has asked."""
    [process] = [p for p in descendants(kernel.pid) if p.status() != psutil.STATUS_ZOMBIE]
    return process


def two_lines(result: Result, ename: str | None = None) -> str:
    """The error of a cell, which is two lines at most and no traceback."""
    shown = result.failed(ename).traceback.strip()
    assert len(shown.splitlines()) <= 2, shown
    assert "Traceback" not in shown
    return shown


def pressed_stop(kernel: NotebookKernel, result: Result) -> float:
    """Press the stop button; return the seconds until the cell has ended."""
    began = time.monotonic()
    kernel.interrupt()
    kernel.finish(result, 10)
    return time.monotonic() - began
