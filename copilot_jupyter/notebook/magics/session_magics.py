"""The magics for sessions: each parses its line, calls one thing, and shows what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.magic import line_magic, magics_class, no_var_expand

from copilot_jupyter.errors import BadInputError
from copilot_jupyter.notebook.magics.base import DeskMagics
from copilot_jupyter.notebook.magics.flags import no_words, one_id, parsed_line

if TYPE_CHECKING:
    from copilot_jupyter.notebook.display import render


@magics_class
class CopilotSessionMagics(DeskMagics):
    """The conversations of this notebook, and all others."""

    def _becomes(self, magic: str, typed: str, resumed: str) -> None:
        """Have the line of a magic resume what it has bound, in every run from now on."""
        self.desk.front_end.replace_line(magic, typed, f"%copilot_resume {resumed}")

    @no_var_expand
    @line_magic
    def copilot_resume(self, line: str) -> None:
        """Bind this notebook to a session by its id; without an id, choose from a list.

        ::

            %copilot_resume ID [--create] [--from FILE]
                               [--fork | --take-over | --read-only | --share]
            %copilot_resume

        A session that is missing here is rebuilt from what this notebook carries, or from a
        bundle (*.copilot.jsonl) or notebook beside it.

        --create     make the session if it does not exist: one line for every run
        --from FILE  restore it from this bundle or notebook, even one that was deleted
        --fork       go on in a copy of it, under an id of its own
        --take-over  take it from the kernel that holds it
        --read-only  read its history, never ask
        --share      join it though this notebook is a copy of the one it belongs to

        The session itself is opened at the first prompt.
        """
        parsed = parsed_line("copilot_resume", line)
        hows = [f for f in ("--fork", "--take-over", "--read-only", "--share") if f in parsed]
        if len(hows) > 1:
            raise BadInputError(f"{' and '.join(hows)} exclude each other.", "Choose one of them.")
        typed = one_id("copilot_resume", parsed)
        session = typed or self.desk.choose()
        how = hows[0].removeprefix("--") if hows else ""
        source = Path(parsed.get("--from")).expanduser() if "--from" in parsed else None
        bound, chosen = self.desk.notebook.resume(
            session, create="--create" in parsed, how=how, source=source
        )
        if chosen != typed or how in ("fork", "take-over"):
            create = " --create" if "--create" in parsed else ""
            self._becomes("copilot_resume", line, f"{chosen}{create}")
        self.desk.show_bound(bound)

    async def awaited_choice(self, line: str) -> None:
        """Open the picker in the running cell; the transformer calls this for a bare line."""
        from copilot_jupyter.notebook.picker.cell import NO_WIDGET, pick

        chosen: object = NO_WIDGET
        if self.desk.front_end.streams:
            chosen = await pick(self.desk, self._bound_by_choice)
        if chosen is NO_WIDGET:  # a numbered list
            self.desk.shell.run_line_magic("copilot_resume", line)
        elif chosen is None:
            raise BadInputError("No session was chosen.", "Write %copilot_resume ID.")

    def _bound_by_choice(self, session: str) -> tuple[render.Bundle, dict[str, Any]]:
        """Bind to what was chosen, and return what remains of the picker: one plain line."""
        from copilot_jupyter.notebook.display import listing, render

        notebook = self.desk.notebook
        if self.desk.sessions.store.exists(session):
            bound, session = notebook.resume(session)
        else:
            bound, _ = notebook.create(session)
        self._becomes("copilot_resume", "", session)
        return render.plain_bundle(listing.bound(bound)), notebook.output_metadata(None)

    @no_var_expand
    @line_magic
    def copilot_new(self, line: str) -> None:
        """Create a session with an id of your own and bind this notebook to it.

        ::

            %copilot_new [ID]

        Without an id it is named user-notebook-xxxx. An id that exists is refused, unless
        this notebook made it: then it is resumed. The line becomes %copilot_resume ID.
        """
        parsed = parsed_line("copilot_new", line)
        session = one_id("copilot_new", parsed)
        session = session or self.desk.sessions.new_id(self.desk.notebook.identity.path)
        bound, _ = self.desk.notebook.create(session)
        self._becomes("copilot_new", line, session)
        self.desk.show_bound(bound)

    @no_var_expand
    @line_magic
    def copilot_delete(self, line: str) -> None:
        """Delete sessions and all their data for good, after a yes.

        ::

            %copilot_delete ID... [--yes]

        A session that is in use elsewhere is not deleted.
        """
        parsed = parsed_line("copilot_delete", line)
        ids = list(dict.fromkeys(parsed.words))
        if not ids:
            raise BadInputError("No session is named.", "Write %copilot_delete ID.")
        infos = [self.desk.sessions.store.info(session) for session in ids]
        what = ", ".join(f"{info.id} ({info.size:,} bytes)" for info in infos)
        if "--yes" not in parsed and not self.desk.agreed(f"Delete {what} for good?", "--yes"):
            self.desk.say("Nothing was deleted.")
            return
        for session in ids:
            unbound = self.desk.delete(session)
            self.desk.say(f"Deleted {session}.", unbound)

    @no_var_expand
    @line_magic
    def copilot_cleanup(self, line: str) -> None:
        """Move old and empty sessions to a trash that is kept for 7 days.

        ::

            %copilot_cleanup --older-than 30d [--dry-run] [--bound] [--yes]

        --older-than 30d  unused for this long (m, h, d, w); an empty one after a day
        --dry-run         only list what would be moved
        --bound           also sessions of notebooks that still exist
        --yes             do not ask

        Only sessions that were made here are moved, never a terminal's. %copilot_undo
        brings them back.
        """
        from copilot_jupyter.conversation.words import counted
        from copilot_jupyter.notebook.display import listing

        parsed = parsed_line("copilot_cleanup", line)
        if "--older-than" not in parsed:
            raise BadInputError("No age is given.", "Write %copilot_cleanup --older-than 30d.")
        old = self.desk.sessions.old(parsed.age("--older-than"), bound="--bound" in parsed)
        mine = self.desk.notebook.binding.session if self.desk.notebook.binding is not None else ""
        old = [info for info in old if info.id != mine]  # this kernel asks in it again
        if not old:
            self.desk.say("There is nothing to clean up.")
            return
        many = counted(len(old), "session")
        self.desk.show(listing.plain_list(f"{many} to move to the trash", old))
        if "--dry-run" in parsed:
            return
        if "--yes" not in parsed and not self.desk.agreed(f"Move {many}?", "--yes"):
            self.desk.say("Nothing was moved.")
            return
        count = self.desk.sessions.cleanup(old)
        self.desk.say(
            f"Moved {counted(count, 'session')} to the trash for 7 days; "
            "%copilot_undo brings them back."
        )

    @no_var_expand
    @line_magic
    def copilot_fork(self, line: str) -> None:
        """Branch the conversation into a new session and bind this notebook to it.

        ::

            %copilot_fork [ID] [--at TURN]

        ID         the branch's id; by default it says where it comes from
        --at TURN  branch off after this turn: the branch has the turns 1 to TURN

        The conversation stays as it is. The line becomes %copilot_resume ID; where nobody
        is there to see that, give an ID, and every run goes on in the same branch.
        """
        parsed = parsed_line("copilot_fork", line)
        target = one_id("copilot_fork", parsed)
        session, at = self.desk.bound().id, parsed.number("--at", least=1)
        if not target and not self.desk.front_end.streams:
            raise BadInputError(
                "The branch has no id, and each run of this line would make another.",
                f"Write %copilot_fork ID, such as {session}-branch.",
            )
        until = ""
        if at is not None:
            turns = self.desk.sessions.turns(session)
            if at > len(turns) or at != int(at):
                raise BadInputError(
                    f"{session} has no turn {at:g}; it has {len(turns)}.",
                    "%copilot_history numbers them.",
                )
            until = turns[int(at)].event_id if at < len(turns) else ""
        bound = self.desk.notebook.enter_branch(target, until=until)
        self._becomes("copilot_fork", line, bound.id)
        self.desk.show_bound(bound)

    @no_var_expand
    @line_magic
    def copilot_rewind(self, line: str) -> None:
        """Take the conversation back to before a turn; what is dropped is kept.

        ::

            %copilot_rewind TURN

        TURN is its number, as %copilot_history shows it. The conversation as it was is kept
        as a copy, which the message names; %copilot_undo puts it back.
        """
        parsed = parsed_line("copilot_rewind", line)
        if not parsed.rest.isdecimal():
            raise BadInputError(
                f"%copilot_rewind takes the number of a turn, and got {parsed.rest!r}."
                if parsed.rest
                else "No turn is named.",
                "Write it like %copilot_rewind 3; %copilot_history numbers the turns.",
            )
        conversation = self.desk.bound()
        turn, last = int(parsed.rest), len(conversation.replay.entries())
        copy = self.desk.sessions.loop.call(conversation.rewind(turn))
        session = conversation.id
        dropped = f"turn {turn}" if turn == last else f"turns {turn} to {last}"
        self.desk.say(
            f"Took {dropped} out of {session}. The conversation as it was is kept as {copy}; "
            "%copilot_undo puts it back."
        )

    @no_var_expand
    @line_magic
    def copilot_undo(self, line: str) -> None:
        """Undo the last rewind or replaced turn of this notebook, or the last cleanup.

        ::

            %copilot_undo

        Whichever of them was last. What was asked since is kept, under the id it names.
        """
        no_words("copilot_undo", line)
        bound = self.desk.notebook.find()
        self.desk.say(self.desk.sessions.undo(bound))

    @no_var_expand
    @line_magic
    def copilot_export(self, line: str) -> None:
        """Write the whole session, tools and all, as one text file to carry elsewhere.

        ::

            %copilot_export FILE.copilot.jsonl

        One event a line, so that a diff can be read. Secrets are taken out and counted. A
        notebook beside the file finds it: %copilot_resume ID restores the session from it.
        """
        parsed = parsed_line("copilot_export", line)
        path = _file("copilot_export", parsed.words)
        self.desk.say(self.desk.sessions.export(self.desk.bound().id, path))

    @no_var_expand
    @line_magic
    def copilot_import(self, line: str) -> None:
        """Bring in a session that %copilot_export wrote; nothing is overwritten.

        ::

            %copilot_import FILE.copilot.jsonl [ID]

        Under an ID of your own, or the one it had. %copilot_resume ID goes on with it.
        """
        parsed = parsed_line("copilot_import", line)
        path = _file("copilot_import", parsed.words[:1])
        if len(parsed.words) > 2:
            raise BadInputError(
                f"%copilot_import takes a file and an id, and got {parsed.rest!r}.",
                "Put a name with spaces in quotes.",
            )
        session = parsed.words[1] if len(parsed.words) == 2 else ""
        folder = self.desk.notebook.identity.folder
        session, said = self.desk.sessions.import_bundle(path, session, folder)
        self.desk.say(f"{said} Go on with it by %copilot_resume {session}.")

    @no_var_expand
    @line_magic
    def copilot_release(self, line: str) -> None:
        """Let go of the session, so that a terminal or another notebook may go on with it.

        ::

            %copilot_release
        """
        from copilot_jupyter.notebook.display import listing

        no_words("copilot_release", line)
        conversation = self.desk.bound()
        self.desk.sessions.loop.call(conversation.release())
        command = listing.terminal_command(conversation.id)
        self.desk.say(f"Released {conversation.id}. In a terminal: {command}")


def _file(magic: str, words: list[str]) -> Path:
    """Return the one file that was typed.

    Raises
    ------
    BadInputError
        If none was, or several.
    """
    if len(words) != 1 or not words[0]:
        raise BadInputError(
            f"%{magic} takes one file, and got {' '.join(words)!r}."
            if words
            else "No file is named.",
            f"Write %{magic} NAME.copilot.jsonl, a name with spaces in quotes.",
        )
    return Path(words[0]).expanduser()
