"""Allow or deny, while the cell runs.

A person is asked with buttons in the cell; where the page shows none, by ``input()``; and
where nobody can answer the tool is denied at once. What was decided stays as one plain
line. `Permissions.decide` is a generator like a turn's own: it yields at every pause.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from copilot_jupyter.conversation.grants import Decision
from copilot_jupyter.errors import CopilotError
from copilot_jupyter.interrupts import interruptible, time_limit
from copilot_jupyter.notebook.display import render
from copilot_jupyter.notebook.tools.question import as_text, on_one_line, one_line, question

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from copilot_jupyter.conversation.grants import Grants, Wish
    from copilot_jupyter.settings import Copilot

    Deciding = Generator[None, None, Decision]

#: Seconds that a front end gets to draw the buttons before `input()` asks instead.
READY = 2.0
#: How often somebody may mistype the answer.
_TRIES = 3

_BUTTONS = {"once": Decision.ONCE, "session": Decision.SESSION, "deny": Decision.DENIED}
_TYPED = {
    **dict.fromkeys(("y", "yes", "o", "once"), Decision.ONCE),
    **dict.fromkeys(("s", "session"), Decision.SESSION),
    **dict.fromkeys(("", "n", "no", "d", "deny"), Decision.DENIED),
}


class FrontEnd(Protocol):
    """What is asked of the front end; `frontend.FrontEnd` is one."""

    @property
    def kernel(self) -> Any:
        """The ipykernel, None in a terminal."""

    @property
    def can_ask(self) -> bool:
        """Whether somebody is there to answer."""

    @property
    def execution_count(self) -> int:
        """The number of the running cell."""


class Permissions:
    """Decides what the agent's tools may do.

    Parameters
    ----------
    front_end : FrontEnd
    settings : Copilot
        Its `allow` and `ask_timeout`.
    grants : Grants
        The standing answers; "Allow for this session" adds to them.
    say : callable
        Shows one line in the running cell.

    Attributes
    ----------
    line : str
        What the last decision left in the cell, "" where that is nothing.
    """

    def __init__(
        self, front_end: FrontEnd, settings: Copilot, grants: Grants, say: Callable[[str], None]
    ) -> None:
        self._front_end = front_end
        self._settings = settings
        self._grants = grants
        self._say = say
        self.line = ""
        self._execution = -1
        self._said: set[tuple[str, Decision]] = set()
        self._gave_up = self._draws_nothing = False

    def standing(self, tool: str, session: str, notebook_id: str) -> bool | None:
        """Return whether a tool is allowed unasked; None: it asks.

        What was denied for this session stays so, whatever ``Copilot.allow`` names.
        """
        answer = self._grants.allowed(session, notebook_id, tool)
        return True if answer is None and tool in self._settings.allow else answer

    def decide(self, wish: Wish, session: str, notebook_id: str) -> Deciding:
        """Find out whether a tool may do something; yields while the person thinks.

        Parameters
        ----------
        wish : Wish
        session : str
            The conversation's id; a branch has its own, and no grant of its parent.
        notebook_id : str
            "" where the notebook has no identity: answers then end with the kernel.

        Returns
        -------
        Decision

        Raises
        ------
        KeyboardInterrupt, asyncio.CancelledError
            On the stop button; the question is taken away first.
        """
        self._begin_execution()
        self.line = ""
        self._grants.adopt(session, notebook_id)
        standing = self.standing(wish.tool, session, notebook_id)
        if standing:
            return Decision.SESSION
        if standing is False:
            return self._refused(wish, Decision.DENIED, f"%copilot_allow {wish.tool} takes it back")
        if not self._front_end.can_ask:
            return self._refused(wish, Decision.NOBODY, _beforehand(wish.tool))
        if self._gave_up:  # a cell that nobody watches waits once, not for every tool
            return self._refused(wish, Decision.UNANSWERED, _beforehand(wish.tool))
        decision = yield from self._asked(wish)
        if decision is Decision.SESSION:
            try:
                self._grants.allow(session, notebook_id, wish.tool)
            except CopilotError as error:
                self._say(str(error))
        self._gave_up = decision is Decision.UNANSWERED
        return decision

    def _begin_execution(self) -> None:
        now = self._front_end.execution_count
        if now != self._execution:
            self._execution = now
            self._said.clear()
            self._gave_up = self._draws_nothing = False

    # -- denied without a question ---------------------------------------------------------

    def _refused(self, wish: Wish, decision: Decision, why: str) -> Decision:
        """Say it once for each tool: a model may try it fifty times."""
        if (wish.tool, decision) not in self._said:
            self._said.add((wish.tool, decision))
            self._leave(f"{one_line(wish)} → {decision.value}. {why}.")
        return decision

    # -- asking ----------------------------------------------------------------------------

    def _asked(self, wish: Wish) -> Deciding:
        if self._front_end.kernel is None:
            print(as_text(wish))  # noqa: T201 -- a terminal
            decision = self._typed(wish)
            self._leave(self._outcome(wish, decision))
            return decision
        return (yield from self._in_the_cell(wish))

    def _in_the_cell(self, wish: Wish) -> Deciding:
        """Ask in an output of the running cell, of which one plain line stays."""
        from IPython.display import display

        from copilot_jupyter.notebook.tools.permission_widget import PermissionButtons

        buttons = PermissionButtons(question(wish), _BUTTONS)
        data, metadata = buttons._repr_mimebundle_() or ({}, {})
        data["text/plain"] = as_text(wish)  # shown by consoles, which draw no widgets
        handle = display(data, metadata=metadata, raw=True, display_id=True)
        line = f"{one_line(wish)} → stopped"
        try:
            decision = yield from self._clicked(buttons)
            if decision is None:
                self._draws_nothing = True
                handle.update(render.plain_bundle(as_text(wish)), raw=True)
                decision = self._typed(wish)
            line = self._outcome(wish, decision)
            return decision
        finally:
            self.line = line
            handle.update(render.plain_bundle(line), raw=True)
            buttons.close()

    def _leave(self, line: str) -> None:
        self.line = line
        self._say(line)

    def _clicked(self, buttons: Any) -> Generator[None, None, Decision | None]:
        """Return what was clicked; None where the page draws no buttons."""
        until = time.monotonic() + (0 if self._draws_nothing else READY)
        while not buttons.is_drawn:
            if time.monotonic() >= until:
                return None
            yield
        until = time.monotonic() + self._settings.ask_timeout
        while buttons.answer is None:
            if time.monotonic() >= until:
                return Decision.UNANSWERED
            buttons.greet()
            yield
        return _BUTTONS[buttons.answer]

    def _typed(self, wish: Wish) -> Decision:
        """Ask by ``input()``; the stop button and the time limit end it."""
        prompt = f"Allow {on_one_line(wish.tool)}? [y] once, [s] for this session, [N] no: "
        with time_limit(self._settings.ask_timeout) as is_over:
            try:
                for _ in range(_TRIES):
                    with interruptible():
                        typed = input(prompt).strip().lower()
                    if typed in _TYPED:
                        return _TYPED[typed]
            except (EOFError, NotImplementedError):  # closed, or nobody there after all
                return Decision.NOBODY
            except KeyboardInterrupt:
                if not is_over():
                    raise
                return Decision.UNANSWERED
        return Decision.DENIED

    def _outcome(self, wish: Wish, decision: Decision) -> str:
        """Return the line that stays."""
        line = f"{one_line(wish)} → {decision.value}"
        if decision is Decision.UNANSWERED:
            line += f" in {self._settings.ask_timeout:g} s. {_beforehand(wish.tool)}."
        elif decision is Decision.NOBODY:
            line += f". {_beforehand(wish.tool)}."
        return line


def _beforehand(tool: str) -> str:
    name = on_one_line(tool)
    return f"To allow it beforehand: %copilot_allow {name}, or Copilot.allow = ['{name}']"
