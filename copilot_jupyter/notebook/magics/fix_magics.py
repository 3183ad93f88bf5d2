"""``%copilot_fix``: an error of this kernel, and the cell that would not fail."""

from __future__ import annotations

import asyncio
import difflib
import os
from html import escape
from typing import TYPE_CHECKING

from IPython.core.magic import line_magic, magics_class, no_var_expand

from copilot_jupyter.errors import BadInputError, TurnInterrupted
from copilot_jupyter.events import NO_TOOLS
from copilot_jupyter.notebook.magics.base import DeskMagics
from copilot_jupyter.notebook.magics.flags import parsed_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from copilot_jupyter.conversation.answer import Answer
    from copilot_jupyter.notebook import turn
    from copilot_jupyter.notebook.asking import Asking
    from copilot_jupyter.notebook.failures import Failure

_ASKED = "Fix this cell"
_DO = (
    "Say in a sentence what is wrong. Then give the whole corrected cell in one fenced block "
    "of Python code."
)
#: What a block of Python code is called.
_PYTHON = frozenset({"", "python", "py", "python3", "ipython", "ipython3"})
#: JupyterLab's, and others where there are none, of a line that is new and of one that is gone.
_COLOURS = {"+": "var(--jp-success-color1, #388e3c)", "-": "var(--jp-error-color1, #d32f2f)"}


@magics_class
class CopilotFixMagics(DeskMagics):
    """What to do about an error."""

    @no_var_expand
    @line_magic
    def copilot_fix(self, line: str) -> None:
        """Have an error of this kernel explained, and get the corrected cell.

        ::

            %copilot_fix
            %copilot_fix 7

        Alone it takes the last error, with a number that of In [7]. The model gets the
        cell's source, the error with its frames, and the variables there. The cell that it
        proposes is inserted below it, not run, and what differs is shown.

        The same cell with the same error is the same question: run again, its answer is
        shown and no model is asked.
        """
        from copilot_jupyter.notebook import turn

        failure = self._failure(line)
        asking = self._asking(failure)
        answer = asking.answer or turn.drive_sync(self._turn(asking, failure))
        self._shown(asking, answer)

    async def awaited(self, line: str) -> None:
        """Run ``%copilot_fix`` on the kernel's own loop; the transformer calls this."""
        from copilot_jupyter.notebook import turn

        failure = self._failure(line)
        asking = self._asking(failure)
        answer = asking.answer or await turn.drive(self._turn(asking, failure))
        self._shown(asking, answer)

    def _failure(self, line: str) -> Failure:
        words = parsed_line("copilot_fix", line).words
        failures = self.desk.executions.failures
        if len(words) > 1 or (words and not words[0].isdecimal()):
            raise BadInputError(
                f"%copilot_fix takes the number of one cell, and got {' '.join(words)!r}.",
                "Write %copilot_fix 7 for In [7], or nothing for the last error.",
            )
        failure = failures.get(int(words[0]) if words else None)
        if failure is None and words:
            known = ", ".join(map(str, failures.cells)) or "none"
            raise BadInputError(
                f"In [{words[0]}] of this kernel has no error that is known.",
                f"Cells that failed since %load_ext: {known}.",
            )
        if failure is None:
            raise BadInputError(
                "No cell of this kernel has failed since %load_ext.",
                "Run the cell that fails, then %copilot_fix.",
            )
        return failure

    def _asking(self, failure: Failure) -> Asking:
        from copilot_jupyter.conversation.interpolate import fence
        from copilot_jupyter.conversation.shield.secrets import Shield
        from copilot_jupyter.conversation.stored.question import Question, checked
        from copilot_jupyter.notebook.asking import Asking, Request

        self.desk.check_may_ask()
        around = fence(failure.source)
        code = f"{around}python\n{failure.source.strip()}\n{around}"
        prompt = checked(f"{_ASKED}: {failure.headline}\n\n{code}")
        told = fence(failure.told)
        sent = f"{prompt}\n\n{told}text\n{failure.told}\n{told}\n\n{_DO}"
        question = Question(prompt, sent=Shield.of(os.environ).scrub(sent))
        return Asking(self.desk.notebook, self.desk.settings, Request(question, offer=NO_TOOLS))

    def _turn(self, asking: Asking, failure: Failure) -> Callable[[turn.Waker], turn.Steps]:
        asked = self.desk.turn_of(asking, self.desk.painter())

        def steps(waker: turn.Waker) -> turn.Steps:
            answer = yield from asked(waker)
            if proposed := _proposed(answer.text, failure.source):
                try:
                    yield from self._offer(failure, proposed)
                except (KeyboardInterrupt, asyncio.CancelledError):
                    told = "Stopped; the answer is kept, and no cell was inserted."
                    raise TurnInterrupted(told) from None
            return answer

        return steps

    def _offer(self, failure: Failure, new: str) -> turn.Looking:
        """Insert the proposed cell, and show what differs."""
        old = failure.source.strip().splitlines()
        names = (f"In [{failure.cell}]", "proposed")
        lines = [*difflib.unified_diff(old, new.splitlines(), *names, lineterm="")]
        desk = self.desk
        if not lines:
            desk.say(f"The proposed cell is In [{failure.cell}], which failed; none was inserted.")
            return
        inserted = False
        if failure.cell_id:
            inserted = yield from desk.lab.insert_cell(new, below=failure.cell_id)
        if not inserted:  # that cell is gone
            inserted = yield from desk.lab.insert_cell(new)
        if inserted or desk.front_end.offer_cell(new):
            html = "\n".join(map(_coloured, lines))
            desk.show(
                {"text/plain": "\n".join(lines), "text/html": f'<pre style="margin:0">{html}</pre>'}
            )

    def _shown(self, asking: Asking, answer: Answer) -> None:
        if asking.answer is not None:
            self.desk.painter().finish(answer)


def _proposed(answer: str, source: str) -> str:
    """Return the cell that an answer proposes, "" where it proposes none."""
    from markdown_it import MarkdownIt

    blocks = [block for block in MarkdownIt("commonmark").parse(answer) if block.type == "fence"]
    python = [block for block in blocks if block.info.strip().lower() in _PYTHON]
    if python:
        return str(python[-1].content).rstrip("\n")
    magic = source.lstrip().partition("\n")[0]
    if not blocks or not magic.startswith("%%"):
        return ""
    cell = str(blocks[-1].content).rstrip("\n")  # of another language, as %%bash
    return cell if cell.startswith("%%") else f"{magic}\n{cell}"


def _coloured(line: str) -> str:
    if line[:1] not in _COLOURS:
        return escape(line)
    # Legible on light and on dark ground.
    colour = f"color-mix(in srgb, {_COLOURS[line[0]]} 65%, var(--jp-content-font-color1, #000))"
    return f'<span style="color:{colour}">{escape(line)}</span>'
