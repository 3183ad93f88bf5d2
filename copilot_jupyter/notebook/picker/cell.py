"""The session picker in a running cell: shown, waited for, and replaced by one plain line."""

from __future__ import annotations

import asyncio
import enum
import math
import time
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import TurnInterrupted
from copilot_jupyter.notebook.picker.widget import SessionPicker

if TYPE_CHECKING:
    from collections.abc import Callable

    from copilot_jupyter.notebook.desk import Desk
    from copilot_jupyter.notebook.display.render import Bundle
    from copilot_jupyter.notebook.frontend import Identity

    Finish = Callable[[str], tuple[Bundle, dict[str, Any]]]

#: Seconds between two looks at what the person has done; also how fast the stop button works.
BEAT = 0.05
#: Seconds that a front end gets to draw the picker before something else is shown instead.
READY = 2.0


class NoWidget(enum.Enum):
    """What `pick` returns where the front end does not draw widgets."""

    NO_WIDGET = "no widget"


NO_WIDGET = NoWidget.NO_WIDGET


async def pick(desk: Desk, finish: Finish | None = None) -> str | NoWidget | None:
    """Show the picker in the running cell and wait for the choice.

    Afterwards the output is one plain line: no widget, and no title, is left in the file.

    Parameters
    ----------
    desk : Desk
    finish : callable, optional
        Called with the chosen id; returns what is shown in the picker's place, and the
        output's metadata.

    Returns
    -------
    str, None or NO_WIDGET
        The chosen id, which may be a new one's that does not exist yet; None where the person
        chose none; NO_WIDGET where the front end shows no widgets: ask in another way.

    Raises
    ------
    TurnInterrupted
        On the stop button; nothing is deleted then.
    CopilotError
        Of `finish`.
    """
    from IPython.display import display

    from copilot_jupyter.notebook.display import render

    if not desk.front_end.streams:
        return NO_WIDGET
    unbound: dict[str, Any] = {}

    def delete(session: str, timeout: float) -> None:
        unbound.update(desk.delete(session, timeout))

    picker = SessionPicker(lambda: desk.sessions, delete=delete, takes_focus=True, looks=False)
    data, metadata = picker._repr_mimebundle_() or ({}, {})
    data["text/plain"] = "Choosing a session…"
    handle = display(data, metadata=metadata, raw=True, display_id=True)
    line = "No session was chosen."
    try:
        chosen = await _chosen(desk, picker)
        if chosen is NO_WIDGET:
            line = "This front end does not show the session picker."
            return chosen
        line = " ".join([f"Chose {chosen}." if chosen else line, *_deletions(picker)])
    except (KeyboardInterrupt, asyncio.CancelledError):
        line = "Interrupted; no session was chosen."
        raise TurnInterrupted("Interrupted; nothing was done.") from None
    finally:
        handle.update(render.plain_bundle(line), raw=True, metadata=unbound)
        picker.close()
    if chosen is not None and finish is not None:
        bundle, about = finish(chosen)
        if told := _deletions(picker):
            bundle = render.plain_bundle(" ".join([bundle["text/plain"], *told]))
        handle.update(bundle, raw=True, metadata=about)
    return chosen


async def _chosen(desk: Desk, picker: SessionPicker) -> str | NoWidget | None:
    # In a thread, while the page draws: the imports of a first use take a tenth of a second,
    # and the Jupyter server is asked. Awaited in beats, as everything here: a loop that
    # sleeps for long does not see the stop button.
    until = time.monotonic() + READY
    finding = asyncio.ensure_future(asyncio.to_thread(_where, desk))
    await _until(finding.done, beat=0.01)
    here = finding.result()
    picker.look(notebook=here.path, folder=here.folder)
    if not await _until(lambda: picker.is_ready, until - time.monotonic()):
        return NO_WIDGET
    await _until(lambda: picker.is_done)
    value: str | None = picker.value
    return value


def _where(desk: Desk) -> Identity:
    _ = desk.sessions
    return desk.notebook.identity


async def _until(done: Callable[[], bool], seconds: float = math.inf, beat: float = BEAT) -> bool:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(beat)
    return True


def _deletions(picker: SessionPicker) -> list[str]:
    """Return what stays to be said of deletions; ids only."""
    gone = [f"Deleted {', '.join(picker.deleted)}."] if picker.deleted else []
    return [*gone, *picker.problems]
