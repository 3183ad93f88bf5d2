"""The errors of this kernel's cells, for whoever wants one explained."""

from __future__ import annotations

import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from traceback import TracebackException
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
    cell_id : str
        Id of the cell, "" where the front end tells none.
    """

    cell: int
    source: str
    error: BaseException | None
    cell_id: str = ""
    _headline: str = ""
    _told: str = ""

    @property
    def headline(self) -> str:
        """The error in one line."""
        self._tell()
        return self._headline

    @property
    def told(self) -> str:
        """The error with its frames, and the variables where the person's own code failed."""
        self._tell()
        return self._told

    def settle(self) -> None:
        """Keep the traceback's text alone: the objects in the frames may be large.

        No variable is looked at for it: another cell has failed meanwhile.
        """
        if self.error is None or self._told:
            self.error = None
            return
        from copilot_jupyter.conversation.shield.secrets import Shield

        lines = TracebackException.from_exception(self.error, limit=-_FRAMES).format()
        scrub = Shield.of(os.environ).scrub
        self._told = scrub("".join(lines).strip())[-_SETTLED:]
        self._headline = scrub(_headline(self.error))[:300]
        self.error = None

    def _tell(self) -> None:
        from copilot_jupyter.conversation.shield.secrets import Shield
        from copilot_jupyter.conversation.views import view

        if self._told or self.error is None:
            return
        scrub = Shield.of(os.environ).scrub
        self._headline = scrub(_headline(self.error))[:300]
        told = []
        if isinstance(self.error, SyntaxError):
            told.append(scrub(_where(self.error)))
        # Of a cell that is no Python there are only IPython's own frames.
        if not told or _own_frame(self.error) is not None:
            told.append(scrub(view(self.error, "error", scrub=scrub).text))
        self._told = "\n".join([*told, *_locals(self.error, scrub)])


class Failures:
    """The last errors, newest first.

    The newest keeps its exception, as IPython does; of those before only a text is kept.
    """

    def __init__(self) -> None:
        self._found: dict[int, Failure] = {}

    def add(self, cell: int, source: str, error: BaseException, cell_id: str = "") -> None:
        """Remember that a cell failed."""
        for failure in self._found.values():
            failure.settle()
        self._found.pop(cell, None)
        self._found[cell] = Failure(cell, source, error, cell_id)
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


def _headline(error: BaseException) -> str:
    """Return what an error says, in one line."""
    lines = "".join(TracebackException.from_exception(error).format_exception_only()).splitlines()
    # Of a SyntaxError the place comes first, with the line and a mark below it.
    kind = type(error).__name__
    found = (line for line in lines if not isinstance(error, SyntaxError) or line.startswith(kind))
    return next(found, kind)


def _where(error: SyntaxError) -> str:
    """Return the line that is no Python, with a mark below it."""
    lines = "".join(TracebackException.from_exception(error).format_exception_only())
    in_cell = _own_frame(error) is None
    return lines.replace(f'File "{error.filename}"', "The cell", 1) if in_cell else lines


def _locals(error: BaseException, scrub: Callable[[str], str]) -> Iterator[str]:
    from copilot_jupyter.conversation.views import view

    frame = _own_frame(error)
    if frame is None:
        return
    title = "Variables there:"
    if frame.f_locals is frame.f_globals:  # of a notebook these may be hundreds
        found, names = frame.f_globals, frame.f_code.co_names
        if _is_cell(frame):
            title = "Variables of the notebook, as they are now:"
    else:
        found = dict(frame.f_locals)
        names = tuple(name for name in found if name[0].isalpha())  # not a comprehension's ".0"
    shown = [name for name in names if name in found and name != "get_ipython"][:LOCALS]
    if shown:
        yield title
    for name in shown:
        seen = view(found[name], name, scrub=scrub)
        facts = f", {scrub(seen.facts)}" if seen.facts else ""
        yield f"{name}: {seen.type}{facts}\n{scrub(seen.text)[:_LOCAL]}".rstrip()


def _own_frame(error: BaseException) -> FrameType | None:
    """Return the innermost frame of the person's own code: a cell's, or their module's."""
    trace, own = error.__traceback__, None
    while trace is not None:
        frame = trace.tb_frame
        # Before the cell are IPython's own frames.
        if _is_cell(frame) or (own is not None and _is_of_a_person(frame.f_code.co_filename)):
            own = frame
        trace = trace.tb_next
    return own


def _is_cell(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__") == "__main__"


def _is_of_a_person(filename: str) -> bool:
    """Whether a file is neither of the standard library nor of an installed package."""
    path = Path(filename)
    installed = not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
    library = path.is_relative_to(sysconfig.get_path("stdlib"))
    return path.is_absolute() and not installed and not library
