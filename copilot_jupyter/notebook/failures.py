"""The errors of this kernel's cells, for whoever wants one explained."""

from __future__ import annotations

import os
from dataclasses import dataclass
from traceback import TracebackException
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

#: Cells whose error is remembered, and locals that are told of a frame.
CELLS, LOCALS = 50, 8
#: Characters of one local.
_LOCAL = 400
#: Frames and characters of an error that another one followed.
_FRAMES, _SETTLED = 8, 4_000


@dataclass
class Failure:
    """A cell that failed.

    Parameters
    ----------
    cell : int
        Its execution count.
    source : str
    error : BaseException or None
        None once `told` was made: it keeps all locals of its frames alive.
    """

    cell: int
    source: str
    error: BaseException | None
    _headline: str = ""
    _told: str = ""

    @property
    def headline(self) -> str:
        """The error in one line."""
        self._tell()
        return self._headline

    @property
    def told(self) -> str:
        """The error with its frames, and the locals of the last frame of the person's own."""
        self._tell()
        return self._told

    def settle(self) -> None:
        """Keep the traceback's text alone: the objects in the frames may be large.

        Nothing of the person's own is called for it: another cell has failed meanwhile.
        """
        if self.error is None or self._told:
            self.error = None
            return
        from copilot_jupyter.conversation.shield.secrets import Shield

        lines = list(TracebackException.from_exception(self.error, limit=-_FRAMES).format())
        scrub = Shield.of(os.environ).scrub
        self._told = scrub("".join(lines).strip())[-_SETTLED:]
        self._headline = scrub(lines[-1].strip())[:300]
        self.error = None

    def _tell(self) -> None:
        from copilot_jupyter.conversation.shield.secrets import Shield
        from copilot_jupyter.conversation.views import view

        if self._told or self.error is None:
            return
        scrub = Shield.of(os.environ).scrub
        text = scrub(view(self.error, "error", scrub=scrub).text)
        self._headline = text.partition("\n")[0][:300]
        self._told = "\n".join([text, *_locals(self.error, scrub)])


class Failures:
    """The last errors, newest first.

    The newest keeps its exception, as IPython does; of those before only a text is kept.
    """

    def __init__(self) -> None:
        self._found: dict[int, Failure] = {}

    def add(self, cell: int, source: str, error: BaseException) -> None:
        """Remember that a cell failed."""
        for failure in self._found.values():
            failure.settle()
        self._found.pop(cell, None)
        self._found[cell] = Failure(cell, source, error)
        while len(self._found) > CELLS:
            del self._found[next(iter(self._found))]

    def get(self, cell: int | None = None) -> Failure | None:
        """Return the error of a cell, by default the last one; None if there is none."""
        if cell is not None:
            return self._found.get(cell)
        return next(reversed(self._found.values()), None)

    @property
    def cells(self) -> list[int]:
        """The execution counts of the cells."""
        return sorted(self._found)


def _locals(error: BaseException, scrub: Any) -> Iterator[str]:
    from copilot_jupyter.conversation.views import view

    frame = _own_frame(error)
    own_scope = frame is not None and frame.f_locals is not frame.f_globals
    if frame is None or frame.f_locals is frame.f_globals:
        names, found = _named(frame), frame.f_globals if frame else {}
    else:
        found = dict(frame.f_locals)
        names = [name for name in found if not name.startswith("_")]
    shown = [name for name in names if name in found][:LOCALS]
    if shown:
        now = own_scope and "Variables there:"
        yield now or "Variables of the notebook, as they are now:"
    for name in shown:
        seen = view(found[name], name, scrub=scrub)
        facts = f", {scrub(seen.facts)}" if seen.facts else ""
        yield f"{name}: {seen.type}{facts}\n{scrub(seen.text)[:_LOCAL]}".rstrip()


def _own_frame(error: BaseException) -> FrameType | None:
    """Return the innermost frame of code that was typed in a cell."""
    trace, own = error.__traceback__, None
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_globals.get("__name__") == "__main__":
            own = frame
        trace = trace.tb_next
    return own


def _named(frame: FrameType | None) -> list[str]:
    """Return the names that the code of a cell uses."""
    if frame is None:
        return []
    return [name for name in frame.f_code.co_names if name in frame.f_globals]
