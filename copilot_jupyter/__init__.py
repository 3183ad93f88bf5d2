"""A notebook that keeps its conversation.

``%load_ext copilot_jupyter``, then ``%%copilot`` cells: the conversation with GitHub
Copilot belongs to the notebook and is there after a kernel restart.

From Python the same: ``copilot_jupyter.ask("...")`` returns the `Answer`,
``await copilot_jupyter.ask_async("...")`` does so without blocking, and
``copilot_jupyter.current()`` is the `Conversation` that the notebook is bound to.
`SessionPicker` is the widget of ``%copilot_resume``, to use beside one's own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from copilot_jupyter.conversation.answer import Answer
    from copilot_jupyter.conversation.conversation import Conversation
    from copilot_jupyter.errors import CopilotError
    from copilot_jupyter.notebook.api import ask, ask_async, current
    from copilot_jupyter.notebook.picker.widget import SessionPicker

__all__ = [
    "Answer",
    "Conversation",
    "CopilotError",
    "SessionPicker",
    "ask",
    "ask_async",
    "current",
    "load_ipython_extension",
    "unload_ipython_extension",
]

_HOMES = {
    "Answer": "conversation.answer",
    "Conversation": "conversation.conversation",
    "CopilotError": "errors",
    "SessionPicker": "notebook.picker.widget",
    "ask": "notebook.api",
    "ask_async": "notebook.api",
    "current": "notebook.api",
}


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics; start nothing, print nothing, call nobody."""
    from copilot_jupyter.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the magics out again and end the runtime."""
    from copilot_jupyter.notebook.extension import unload

    unload(shell)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("copilot-jupyter")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
