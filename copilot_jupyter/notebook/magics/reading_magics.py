"""The magics that read: which sessions there are, what was said, the code of an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.core.magic import line_magic, magics_class, no_var_expand

from copilot_jupyter.errors import BadInputError
from copilot_jupyter.notebook.desk import LISTED
from copilot_jupyter.notebook.magics.base import DeskMagics
from copilot_jupyter.notebook.magics.flags import one_id, parsed_line

if TYPE_CHECKING:
    from copilot_jupyter.conversation.answer import Answer
    from copilot_jupyter.conversation.pages import Pages
    from copilot_jupyter.notebook.display.listing import Table
    from copilot_jupyter.notebook.magics.flags import Parsed
    from copilot_jupyter.notebook.reading.history import Transcript

#: Seconds in which a list reads what it does not know yet of thousands of sessions.
_READING = 2.0


@magics_class
class CopilotReadingMagics(DeskMagics):
    """What there is to read; none of it starts a runtime or takes a lock."""

    @no_var_expand
    @line_magic
    def copilot_sessions(self, line: str) -> None:
        """List the sessions: this notebook's, then this folder's, then all others.

        ::

            %copilot_sessions [TEXT] [--all]

        TEXT shows only those whose id, name or first prompt holds it; --all shows more
        than 20.
        """
        from copilot_jupyter.notebook.display import listing

        parsed = parsed_line("copilot_sessions", line)
        here, everything = self.desk.notebook.identity, "--all" in parsed
        found = self.desk.sessions.listed(
            parsed.rest,
            notebook=here.path,
            folder=here.folder,
            kept_too=everything,
            **({} if everything or parsed.rest else {"seconds": _READING}),
        )
        limit = None if everything else LISTED
        shown = listing.sessions(found, self.desk.sessions, parsed.rest, limit, self._table)
        self.desk.show(shown)

    @no_var_expand
    @line_magic
    def copilot_history(self, line: str) -> None:
        """Show, search or export a conversation, this notebook's by default.

        ::

            %copilot_history [ID] [--last N | --turn N] [--browse]
            %copilot_history [ID] --search TEXT [--last N]
            %copilot_history [ID] --export FILE.md|.html|.ipynb|.jsonl [--last N]

        Shows the last 20 turns, and how to get to the others.

        --last N       the last N turns
        --turn N       20 turns, from turn N on
        --search TEXT  where TEXT stands in prompts and answers; with spaces in quotes
        --browse       a reader: pages, a search field, by keyboard; the page that was
                       read last stays in the notebook
        --export FILE  write it as Markdown, as a web page, as a notebook that runs again
                       without asking, or as JSON Lines (one event a line); secrets are
                       taken out, and no file is written over
        """
        parsed = parsed_line("copilot_history", line)
        session = one_id("copilot_history", parsed) or self.desk.bound().id
        _refuse_together(parsed, ("--search", "--turn"), ("--search", "--browse"))
        _refuse_together(parsed, ("--last", "--turn"), ("--last", "--browse"))
        _refuse_together(
            parsed, *(("--export", other) for other in ("--search", "--turn", "--browse"))
        )
        last = _whole(parsed, "--last")
        if "--export" in parsed:
            from copilot_jupyter.notebook.reading import export

            self.desk.say(export.write(self.desk.sessions, session, parsed.get("--export"), last))
            return
        from copilot_jupyter.conversation.pages import PAGE, Pages
        from copilot_jupyter.notebook.reading import history

        pages = Pages(self.desk.sessions.store, session)
        if "--search" in parsed:
            text = parsed.get("--search")
            self.desk.show(history.found(session, pages, text, last or PAGE, self._table))
            return
        first = _turn_of(session, pages, _whole(parsed, "--turn"))
        if "--browse" in parsed and pages.count() and self.desk.front_end.streams:
            from copilot_jupyter.notebook.reading import reader

            reader.browse(self.desk.shell, session, pages, first)
            return
        turns = pages.page(first, last or PAGE)
        self.desk.show(history.page(session, turns, pages.count(), transcribed=self._transcribed))

    @no_var_expand
    @line_magic
    def copilot_insert(self, line: str) -> None:
        """Put a block of code of an answer in the place of this line, to be run as a cell.

        ::

            %copilot_insert [N] [--turn TURN]

        N            which block of the answer, from 1; by default its last
        --turn TURN  of this turn's answer, as %copilot_history numbers them; by default
                     of the last one
        """
        parsed = parsed_line("copilot_insert", line)
        if len(parsed.words) > 1 or not all(word.isdecimal() for word in parsed.words):
            raise BadInputError(
                f"%copilot_insert takes the number of a block, and got {parsed.rest!r}.",
                "Write it like %copilot_insert 2; --turn TURN takes it from an earlier answer.",
            )
        answer = self._answer(_whole(parsed, "--turn"))
        blocks, where = answer.code, f"The answer of turn {answer.turn} of {answer.session}"
        if not blocks:
            raise BadInputError(f"{where} holds no block of code.", "Name another: --turn TURN.")
        number = int(parsed.words[0]) if parsed.words else len(blocks)
        if not 1 <= number <= len(blocks):
            many = "one block" if len(blocks) == 1 else f"{len(blocks)} blocks"
            raise BadInputError(
                f"{where} has {many} of code, and no block {number}.",
                f"Name one from 1 to {len(blocks)}.",
            )
        which = f"Block {number} of {len(blocks)} of turn {answer.turn}"
        self._put(line, blocks[number - 1], which)

    def _answer(self, number: int | None) -> Answer:
        """Return the answer of a turn, the last one by default."""
        from copilot_jupyter.conversation.answer import Answer

        conversation = self.desk.bound()
        entries = conversation.replay.entries()
        for entry in reversed(entries):
            if number in (None, entry.number) and entry.complete:
                if stored := conversation.replay.stored(entry):
                    return Answer.of(stored, conversation.id)
                break
        raise BadInputError(
            f"{conversation.id} has no answered turn{f' {number}' if number else ''}.",
            "%copilot_history numbers its turns.",
        )

    def _put(self, typed: str, code: str, which: str) -> None:
        """Replace the running line; where no cell can change, show the code instead."""
        front_end = self.desk.front_end
        if front_end.replace_line("copilot_insert", typed, code):
            self.desk.say(f"{which} is in the cell above; run it again to run the code.")
        elif front_end.kernel is None and not getattr(self.desk.shell, "simple_prompt", True):
            self.desk.shell.set_next_input(code)
        else:
            self.desk.say(code)

    # -- a terminal is as wide as it is ----------------------------------------------------

    @property
    def _table(self) -> Table:
        from copilot_jupyter.notebook.display import render, terminal

        return terminal.table if self.desk.front_end.kernel is None else render.table

    @property
    def _transcribed(self) -> Transcript | None:
        if self.desk.front_end.kernel is not None:
            return None
        from copilot_jupyter.notebook.display import terminal

        return terminal.transcribed


def _turn_of(session: str, pages: Pages, number: int | None) -> int | None:
    """Return the number of a turn that was typed, if the session has it."""
    if number is not None and number > (count := pages.count()):
        raise BadInputError(
            f"{session} has no turn {number:,}; it has {count:,}.", "Name one of these."
        )
    return number


def _whole(parsed: Parsed, name: str) -> int | None:
    """Return a flag's value as a whole number, None if it was not given."""
    value = parsed.number(name, least=1)
    if value is not None and value != int(value):
        raise BadInputError(f"{name} is {parsed.get(name)!r}.", "Give it a whole number.")
    return None if value is None else int(value)


def _refuse_together(parsed: Parsed, *pairs: tuple[str, str]) -> None:
    for one, other in pairs:
        if one in parsed and other in parsed:
            raise BadInputError(f"{one} and {other} exclude each other.", "Choose one of them.")
