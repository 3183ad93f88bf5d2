"""What magics, tools, pickers and the Python API work with behind one shell, made at first use."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import BadInputError
from copilot_jupyter.interrupts import told_in_one_line
from copilot_jupyter.notebook.executions import Executions
from copilot_jupyter.settings import Copilot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from IPython.core.interactiveshell import InteractiveShell

    from copilot_jupyter.conversation.conversation import Conversation
    from copilot_jupyter.conversation.sessions import Sessions
    from copilot_jupyter.notebook import turn
    from copilot_jupyter.notebook.asking import Asking
    from copilot_jupyter.notebook.display import render
    from copilot_jupyter.notebook.frontend import FrontEnd
    from copilot_jupyter.notebook.labcomm import LabExtension
    from copilot_jupyter.notebook.notebook import Notebook
    from copilot_jupyter.notebook.tools.kernel_tools import Tools

#: How many sessions a list shows before it asks for --all.
LISTED = 20


class Desk:
    """The notebook, the sessions and the front end behind one shell.

    Parameters
    ----------
    shell : InteractiveShell
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.settings = Copilot(parent=shell)
        self.executions = Executions(shell)

    # What the magics work with is made, and imported, at first use: %load_ext stays cheap.

    @cached_property
    def front_end(self) -> FrontEnd:
        """The front end behind the shell."""
        from copilot_jupyter.notebook.frontend import FrontEnd

        return FrontEnd(self.shell, self.executions)

    @cached_property
    def sessions(self) -> Sessions:
        """The sessions of the state folder; owned, and closed by `close`."""
        from copilot_jupyter.conversation.sessions import Sessions

        return Sessions(self.settings, say=self.say)

    @cached_property
    def notebook(self) -> Notebook:
        """The notebook and its binding."""
        from copilot_jupyter.notebook.notebook import Notebook

        return Notebook(self.front_end, self.sessions, self.say)

    @cached_property
    def lab(self) -> LabExtension:
        """The lab extension in the page, if it is there."""
        from copilot_jupyter.notebook.labcomm import LabExtension

        return LabExtension(self.shell)

    @cached_property
    def tools(self) -> Tools:
        """What the model may look at and do."""
        from copilot_jupyter.notebook.tools.kernel_tools import Tools

        return Tools(self)

    def close(self) -> None:
        """Let the sessions go and end the runtime; nothing if they were never used."""
        if "sessions" in self.__dict__:
            self.sessions.close()

    def delete(self, session: str, timeout: float | None = None) -> dict[str, Any]:
        """Delete a session for good, and unbind the notebook if it was its own.

        Returns
        -------
        dict
            Metadata for the output that says so.

        Raises
        ------
        CopilotError
            As `Sessions.delete`; TimeoutError where the runtime does not answer in time.
        """
        self.sessions.loop.call(self.sessions.delete(session), timeout)
        return self.notebook.forget(session)

    def check_may_ask(self) -> None:
        """Refuse a question from code that the model runs: it would wait for itself.

        Raises
        ------
        BadInputError
        """
        if "tools" in self.__dict__ and self.tools.running:
            raise BadInputError(
                "Code that the model runs cannot ask Copilot.", "Ask in a cell of your own."
            )

    def bound(self) -> Conversation:
        """Return this notebook's conversation.

        Raises
        ------
        BadInputError
            If it has none yet.
        """
        conversation = self.notebook.find()
        if conversation is None:
            raise BadInputError(
                "This notebook has no conversation yet.",
                "Ask with %%copilot, or bind one with %copilot_resume ID.",
            )
        return conversation

    # -- asking the person -----------------------------------------------------------------

    def choose(self) -> str:
        """Let the person choose a session from a numbered list."""
        from copilot_jupyter.notebook.display import listing

        here = self.notebook.identity
        found = list(self.sessions.listed(notebook=here.path, folder=here.folder))
        if not found:
            raise BadInputError("There is no session to resume.", "Begin one: %copilot_new ID.")
        if not self.front_end.can_ask:
            ids = ", ".join(info.id for info in found[:8])
            raise BadInputError(
                f"No session is named, and nobody is here to choose. There are: {ids}.",
                "Write %copilot_resume ID.",
            )
        shown = found[:LISTED]
        self.show(listing.numbered(shown, self.sessions))
        typed = self.typed(f"Number 1 to {len(shown)}, or an id (empty: none): ")
        if not typed:
            raise BadInputError("No session was chosen.", "Write %copilot_resume ID.")
        if typed.isdecimal() and 1 <= int(typed) <= len(shown):
            return shown[int(typed) - 1].id
        if typed.isdecimal() and not self.sessions.store.exists(typed):
            raise BadInputError(
                f"The list ends at {len(shown)}; there is no {typed}.", "Run the cell again."
            )
        return typed

    def agreed(self, question: str, flag: str) -> bool:
        """Ask for a yes; `flag` is what says yes where nobody is there."""
        if not self.front_end.can_ask:
            raise BadInputError(
                f"{question} Nobody is here to say yes.", f"Add {flag} to do it unasked."
            )
        return self.typed(f"{question} [y/N] ").lower() in ("y", "yes")

    def typed(self, question: str) -> str:
        """Ask the person."""
        with told_in_one_line():
            return input(question).strip()

    # -- showing ---------------------------------------------------------------------------

    def show_bound(self, conversation: Conversation) -> None:
        """Say which conversation the notebook has; the output carries the binding."""
        from copilot_jupyter.notebook.display import listing, render

        self.show(
            render.plain_bundle(listing.bound(conversation)),
            metadata=self.notebook.output_metadata(None),
        )

    def turn_of(self, asking: Asking, painter: turn.Painter) -> Callable[[turn.Waker], turn.Steps]:
        """Return what makes the steps of a question's turn, for one of the drivers."""
        from copilot_jupyter.notebook import turn

        loop, tools = self.sessions.loop, self.tools
        return lambda waker: turn.steps(loop, asking.ask, painter, waker, tools)

    def painter(self) -> turn.Painter:
        """Return what draws a turn here."""
        from copilot_jupyter.notebook.display import painters

        if self.front_end.kernel is None:
            return painters.TerminalPainter()
        return painters.CellPainter(self.notebook.output_metadata, streams=self.front_end.streams)

    def say(self, line: str, metadata: dict[str, Any] | None = None) -> None:
        """Show one line."""
        from copilot_jupyter.notebook.display import render

        self.show(render.plain_bundle(line), metadata)

    def show_for_now(self, lines: Sequence[str]) -> Callable[[], None]:
        """Show lines, and return what takes them away again."""
        from copilot_jupyter.notebook.display import render

        text = "\n".join(lines)
        if self.front_end.kernel is None:
            self.say(text)
            return lambda: None
        from IPython.display import display

        handle = display(render.plain_bundle(text), raw=True, display_id=True)
        return lambda: handle.update(render.plain_bundle("…"), raw=True)

    def show(self, bundle: render.Bundle, metadata: dict[str, Any] | None = None) -> None:
        """Show a bundle: as an output, or as text in a terminal."""
        if self.front_end.kernel is None:
            print(bundle["text/plain"])  # noqa: T201 -- a terminal
            return
        from IPython.display import display

        display(bundle, raw=True, metadata=metadata)
