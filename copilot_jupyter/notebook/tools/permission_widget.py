"""The buttons that a permission is given with: an ipywidget in the running cell.

What is asked travels as a message, never as the widget's state, which notebooks may save.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget  # noqa: TID253 -- this module is the widget, and is imported to show it

if TYPE_CHECKING:
    from collections.abc import Container

_HERE = Path(__file__).parent


class PermissionButtons(anywidget.AnyWidget):
    """Buttons below what a tool wants to do.

    Messages of the page may come on another thread, a subshell's; they are only noted here.
    Whoever waits for the answer calls `greet` now and then, from the cell's own context.

    Parameters
    ----------
    question : dict
        What the page shows: "title", "summary", "size", "left_out" and "hint", all text, and
        "pieces", the detail as pairs of a kind, for its colour, and a text.
    answers : container of str
        The answers that count.

    Attributes
    ----------
    answer : str or None
        The first answer, None until there is one.
    """

    _esm = _HERE / "permissions.js"
    _css = _HERE / "permissions.css"

    def __init__(self, question: dict[str, Any], answers: Container[str]) -> None:
        super().__init__()
        self.answer: str | None = None
        self._question = question
        self._answers = answers
        self._views: deque[str] = deque()
        self._is_shown = False
        self.on_msg(self._received)
        # ipykernel's own way fires IPython's pre_execute and post_execute around each
        # message, in the middle of the cell and maybe on another thread (ipykernel #1564).
        self.comm.handle_msg = self._handle_msg
        if hasattr(self.comm, "_reply_subshell_for"):
            # ipykernel 7.4 sends replies to the shell that opened the comm, which a synchronous
            # cell blocks; this leaves them on the subshell that the front end chose.
            self.comm._reply_subshell_for = lambda _data, chosen: chosen  # noqa: SLF001

    @property
    def is_drawn(self) -> bool:
        """Whether a page has drawn it, and its messages reach us."""
        return self._is_shown or bool(self._views)

    def greet(self) -> None:
        """Tell the question to every view that says it is there; a reloaded page does again."""
        while self._views:
            self._is_shown = True
            self.send({"op": "question", "view": self._views.popleft(), **self._question})

    def _received(self, _widget: object, content: Any, _buffers: object) -> None:
        if not isinstance(content, dict):
            return
        answer = content.get("answer")
        if content.get("op") == "ready":
            self._views.append(str(content.get("view")))
        elif content.get("op") == "answer" and self._is_shown and self.answer is None:
            # Nobody can have judged what was not shown.
            self.answer = answer if isinstance(answer, str) and answer in self._answers else None
