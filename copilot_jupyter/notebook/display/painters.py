"""How a turn is drawn: in a cell, at a terminal, or not at all."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from copilot_jupyter.notebook.display import render
from copilot_jupyter.notebook.display.terminal import harmless

if TYPE_CHECKING:
    from collections.abc import Callable

    from copilot_jupyter.conversation.answer import Answer


class CellPainter:
    """Draws in a notebook cell: one output that grows, or one at the end where nobody watches.

    Parameters
    ----------
    metadata : callable
        Returns the output's metadata, given the answer or None.
    streams : bool
        Whether to draw before the end.
    """

    def __init__(
        self, metadata: Callable[[Answer | None], dict[str, Any]], *, streams: bool
    ) -> None:
        self._metadata = metadata
        self._streams = streams
        self._handle: Any = None

    def show(self, text: str, remark: str, elapsed: float | None = None) -> None:
        """Draw what has come so far; without a watcher only what was cut off."""
        if elapsed is None and not text and self._handle is None:
            return
        if elapsed is None or self._streams:
            self._draw(render.partial_bundle(text, remark, elapsed=elapsed), None)

    def note(self, line: str) -> None:
        """Show one line beside the answer."""
        _display(render.plain_bundle(line))

    def begin_anew(self) -> None:
        """Draw below what is there: the output that grew is gone from the cell."""
        self._handle = None

    def finish(self, answer: Answer) -> None:
        """Draw the stored answer."""
        self._draw(render.answer_bundle(answer), answer)
        show_again(answer)

    def _draw(self, bundle: render.Bundle, answer: Answer | None) -> None:
        metadata = self._metadata(answer)
        if self._handle is not None:
            self._handle.update(bundle, raw=True, metadata=metadata)
        elif self._streams and answer is None:
            self._handle = _display(bundle, metadata=metadata, display_id=True)
        else:
            _display(bundle, metadata=metadata)


class TerminalPainter:
    """Writes to a terminal as the text comes."""

    def __init__(self) -> None:
        self._written = ""
        self._remark = ""
        self._line_is_begun = False

    def show(self, text: str, remark: str, elapsed: float | None = None) -> None:
        """Write what is new."""
        if not text.startswith(self._written):
            self._write("\n")  # the answer began anew
            self._written = ""
        self._write(text[len(self._written) :])
        self._written = text
        if remark and remark != self._remark:
            self.note(remark)
        self._remark = remark
        if elapsed is None and text and not remark:
            self._write("\n")

    def note(self, line: str) -> None:
        """Write one line, below what stands there."""
        self._write(f"{chr(10) if self._line_is_begun else ''}({line})\n")

    def begin_anew(self) -> None:
        """Go on: a terminal keeps what was written."""

    def finish(self, answer: Answer) -> None:
        """Write the rest of the stored answer."""
        self.show(answer.text, "", 0)
        self._write("\n")
        show_again(answer)

    def _write(self, text: str) -> None:
        # A terminal obeys control characters: titles, colours, what stands above.
        if text:
            self._line_is_begun = not text.endswith("\n")
        sys.stdout.write(harmless(text))
        sys.stdout.flush()


class NoPainter:
    """Draws nothing, for a question from Python; the lines beside the answer are shown.

    Parameters
    ----------
    say : callable
        Shows one line in the running cell.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def show(self, text: str, remark: str, elapsed: float | None = None) -> None:
        """Draw nothing."""

    def note(self, line: str) -> None:
        """Show the line."""
        self._say(line)

    def begin_anew(self) -> None:
        """Draw nothing."""

    def finish(self, answer: Answer) -> None:
        """Draw nothing but what the code of a replayed turn has shown."""
        show_again(answer)


def show_again(answer: Answer) -> None:
    """Show what the code of a replayed turn has shown: it is not run again."""
    if not answer.replayed or answer.stored is None:
        return
    for output in answer.stored.outputs:
        if output["output_type"] == "stream":
            print(output["text"], end="", file=getattr(sys, output["name"]))
        else:
            _display(output["data"], metadata=output["metadata"])


def _display(bundle: render.Bundle, **options: Any) -> Any:
    from IPython.display import display

    return display(bundle, raw=True, **options)
