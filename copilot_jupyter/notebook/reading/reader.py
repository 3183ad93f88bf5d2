"""The history reader: a conversation of any length, a page at a time, in the cell's output.

It is open for as long as it is read: when it is left, or the next cell runs, the page that
was read last stands in its place as plain HTML. So no widget stays behind in a saved
notebook, and no cell waits for a reader.
"""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget  # noqa: TID253 -- this module is the widget, and is imported to show it
import traitlets

from copilot_jupyter.conversation.pages import PAGE
from copilot_jupyter.conversation.stored.question import paired
from copilot_jupyter.errors import CopilotError
from copilot_jupyter.notebook.display import render
from copilot_jupyter.notebook.reading import history

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import InteractiveShell

    from copilot_jupyter.conversation.pages import Hit, Pages
    from copilot_jupyter.events import Turn

logger = logging.getLogger(__name__)

#: Places that one search shows; the newest of more.
FOUND = 200

_HERE = Path(__file__).parent


class HistoryReader(anywidget.AnyWidget):
    """A conversation to page through and to search.

    Turns travel as messages when they are looked at, never as the widget's state.

    Parameters
    ----------
    session : str
    pages : Pages
    first : int, optional
        Number of the turn to begin with; by default the last page.
    leave : callable, optional
        Called when the person closes it.

    Attributes
    ----------
    session : str
        Id of the session.
    turns : list of Turn
        Those of the page that is shown.
    count : int
        How many the conversation has, as far as the page was told.
    """

    _esm = _HERE / "reader.js"
    _css = _HERE / "reader.css"

    session = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        session: str,
        pages: Pages,
        first: int | None = None,
        leave: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(session=session)
        self._pages = pages
        self._leave = leave or self.close
        self.count = pages.count()
        self.turns: list[Turn] = pages.page(first)
        self._hooks: dict[str, Callable[[dict[str, Any]], None]] = {
            "ready": lambda _: self._send_page(end=first is None),
            "page": lambda m: self._turn_to(_number(m["first"])),
            "search": lambda m: self._search(str(m["text"])),
            "close": lambda _: self._leave(),
        }
        self.on_msg(self._received)

    def _received(self, _widget: object, content: Any, _buffers: object) -> None:
        """Answer a message of the page."""
        hook = self._hooks.get(str(content.get("op"))) if isinstance(content, dict) else None
        if hook is None or self.comm is None:
            return
        try:
            hook(content)
        except (KeyError, TypeError, ValueError):
            logger.debug("a message that the reader does not know: %s", content.get("op"))
        except CopilotError as error:
            self.send({"op": "failed", "what": error.what, "do": error.do})

    def _turn_to(self, first: int) -> None:
        """Show the page that begins with a number: the last one for any beyond the end."""
        self.count = self._pages.count()
        self.turns = self._pages.page(max(1, first) if first <= self.count else None)
        self._send_page()

    def _send_page(self, **more: Any) -> None:
        page = {
            "op": "page",
            "count": self.count,
            "length": PAGE,
            "place": history.place(self.turns, self.count),
            "turns": [_to_wire(turn) for turn in self.turns],
        }
        self.send(page | more)

    def _search(self, text: str) -> None:
        newest: deque[Hit] = deque(maxlen=FOUND)
        total = 0
        for hit in self._pages.search(text):
            newest.appendleft(hit)
            total += 1
        hits = [[hit.number, hit.who, hit.before, hit.found, hit.after] for hit in newest]
        self.send({"op": "found", "text": text, "total": total, "hits": hits})


def browse(
    shell: InteractiveShell, session: str, pages: Pages, first: int | None = None
) -> HistoryReader:
    """Show a reader in the running cell, until it is left or the next cell runs.

    Front ends that draw no widgets show the page as HTML from the start.

    Parameters
    ----------
    shell : InteractiveShell
    session : str
    pages : Pages
    first : int, optional
        Number of the turn to begin with; by default the last page.

    Raises
    ------
    SessionNotFoundError, StateFolderError
    """
    from IPython.display import display

    def leave(*_event: object) -> None:
        if reader.comm is None:
            return
        shell.events.unregister("pre_run_cell", leave)
        handle.update(history.page(session, reader.turns, reader.count), raw=True)
        reader.close()

    reader = HistoryReader(session, pages, first, leave)
    shown, metadata = reader._repr_mimebundle_() or ({}, {})
    page = history.page(session, reader.turns, reader.count)
    handle = display({**shown, **page}, metadata=metadata, raw=True, display_id=True)
    shell.events.register("pre_run_cell", leave)
    return reader


def _to_wire(turn: Turn) -> dict[str, Any]:
    return {
        "number": turn.number,
        "prompt": paired(turn.prompt),
        "html": paired(render.markdown(turn.answer)),
        "model": paired(turn.model),
        "used": paired(", ".join(turn.tools)),
        "at": f"{turn.at:%Y-%m-%d %H:%M} UTC" if turn.at else "",
        "complete": turn.complete,
    }


def _number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value
