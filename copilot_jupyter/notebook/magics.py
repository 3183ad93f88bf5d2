"""The magics: each parses its line, calls one thing, and shows what came of it."""

from __future__ import annotations

from functools import cached_property
from keyword import iskeyword
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from copilot_jupyter.errors import BadInputError, SessionInUseError, TurnInterrupted
from copilot_jupyter.notebook.flags import Flag, Parsed, parse
from copilot_jupyter.settings import Copilot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from IPython.core.interactiveshell import InteractiveShell

    from copilot_jupyter.conversation.answer import Answer
    from copilot_jupyter.conversation.conversation import Conversation
    from copilot_jupyter.conversation.sessions import Sessions
    from copilot_jupyter.notebook import render, turn
    from copilot_jupyter.notebook.frontend import FrontEnd
    from copilot_jupyter.notebook.notebook import Notebook

#: The flags of every magic: what is parsed, completed and named when one is mistyped.
FLAGS: dict[str, tuple[Flag, ...]] = {
    "copilot": (Flag("--model", "NAME"), Flag("--into", "NAME"), Flag("--timeout", "SECONDS")),
    "copilot_resume": (
        Flag("--create"),
        Flag("--fork"),
        Flag("--take-over"),
        Flag("--read-only"),
        Flag("--share"),
    ),
    "copilot_new": (),
    "copilot_sessions": (Flag("--all"),),
    "copilot_history": (Flag("--last", "N"), Flag("--export", "FILE.md|FILE.jsonl")),
    "copilot_delete": (Flag("--yes"),),
    "copilot_cleanup": (
        Flag("--older-than", "30d"),
        Flag("--dry-run"),
        Flag("--bound"),
        Flag("--yes"),
    ),
    "copilot_undo": (),
    "copilot_release": (),
    "copilot_models": (),
    "copilot_status": (),
    "copilot_doctor": (Flag("--fix"),),
    "copilot_login": (Flag("--token"), Flag("--host", "HOST")),
    "copilot_logout": (),
}

#: The magics whose words are session ids.
TAKES_IDS = ("copilot_resume", "copilot_history", "copilot_delete", "copilot_doctor")

#: How many sessions a list shows before it asks for --all.
_LISTED = 20


@magics_class
class CopilotMagics(Magics):
    """Conversations with GitHub Copilot that belong to the notebook."""

    def __init__(self, shell: InteractiveShell) -> None:
        settings = Copilot(parent=shell)  # first: it may refuse, and the base class registers us
        super().__init__(shell)
        self._shell = shell
        self.settings = settings

    # What the magics work with is made, and imported, at first use: %load_ext stays cheap.

    @cached_property
    def front_end(self) -> FrontEnd:
        """The front end behind the shell."""
        from copilot_jupyter.notebook.frontend import FrontEnd

        return FrontEnd(self._shell)

    @cached_property
    def sessions(self) -> Sessions:
        """The sessions of the state folder; owned, and closed by `close`."""
        from copilot_jupyter.conversation.sessions import Sessions

        return Sessions(self.settings, say=self._say)

    @cached_property
    def notebook(self) -> Notebook:
        """The notebook and its binding."""
        from copilot_jupyter.notebook.notebook import Notebook

        return Notebook(self.front_end, self.sessions, self._say)

    def close(self) -> None:
        """Let the sessions go and end the runtime; nothing if they were never used."""
        if "sessions" in self.__dict__:
            self.sessions.close()

    # -- asking ---------------------------------------------------------------------------

    @no_var_expand
    @line_cell_magic
    def copilot(self, line: str, cell: str | None = None) -> Answer | None:
        """Ask GitHub Copilot; the answer streams into the cell and belongs to the notebook.

        ::

            %%copilot [--model NAME] [--into NAME] [--timeout SECONDS]
            the prompt, as many lines as it takes

            %copilot [FLAGS] the prompt in one line, question marks included?
            answer = %copilot the same, kept as an object

        The first prompt binds the notebook to a session of its own, or to the one that
        %copilot_resume names. The conversation is there after a kernel restart.

        Flags end at the first word that is not one:

        --model NAME       ask this model, for this turn only
        --into NAME        also keep the Answer in a variable: .text, .code, .json()
        --timeout SECONDS  give the whole turn up after this long

        The stop button withdraws the prompt: the session is as if it had not been asked.
        """
        from copilot_jupyter.notebook import turn

        make, into = self._prepared(line, cell)
        return self._kept(turn.drive_sync(make), into, cell)

    async def awaited_line(self, line: str) -> Answer | None:
        """Run ``%copilot`` on the kernel's own loop; the transformer calls this."""
        return await self._awaited(line, None)

    async def awaited_cell(self, line: str, cell: str) -> Answer | None:
        """Run ``%%copilot`` on the kernel's own loop; the transformer calls this."""
        return await self._awaited(line, cell)

    async def _awaited(self, line: str, cell: str | None) -> Answer | None:
        from copilot_jupyter.notebook import turn

        make, into = self._prepared(line, cell)
        return self._kept(await turn.drive(make), into, cell)

    def _prepared(
        self, line: str, cell: str | None
    ) -> tuple[Callable[[turn.Waker], turn.Steps], str]:
        parsed = parse("%copilot" if cell is None else "%%copilot", line, FLAGS["copilot"])
        prompt = self._prompt(parsed, cell)
        into = parsed.get("--into")
        if "--into" in parsed and (not into.isidentifier() or iskeyword(into)):
            raise BadInputError(
                f"--into {into!r} is no variable name.", "Write it like --into answer."
            )
        timeout = parsed.number("--timeout", least=0.1)
        conversation = self.notebook.find_or_begin(prompt)
        return self._asking(conversation, prompt, parsed.get("--model"), timeout), into

    def _prompt(self, parsed: Parsed, cell: str | None) -> str:
        if cell is None:
            if not parsed.rest:
                raise BadInputError("The prompt is empty.", "Write it behind %copilot.")
            return parsed.rest
        if parsed.rest:
            raise BadInputError(
                f"{parsed.rest[:60]!r} stands on the %%copilot line, where only flags go.",
                "Write the prompt on the lines below it, or use %copilot for one line.",
            )
        if not cell.strip():
            raise BadInputError("The prompt is empty.", "Write it below the %%copilot line.")
        return cell.strip("\n")

    def _asking(
        self, conversation: Conversation, prompt: str, model: str, timeout: float | None
    ) -> Callable[[turn.Waker], turn.Steps]:
        from copilot_jupyter.notebook import turn

        def ask(emit: turn.Emit) -> Any:
            return self._ask_or_branch(conversation, prompt, model, timeout, emit)

        painter: turn.Painter
        if self.front_end.kernel is None:
            painter = turn.TerminalPainter()
        else:
            painter = turn.CellPainter(
                self.notebook.output_metadata, streams=self.front_end.streams
            )
        return lambda waker: turn.steps(self.sessions.loop, ask, painter, waker)

    async def _ask_or_branch(
        self,
        conversation: Conversation,
        prompt: str,
        model: str,
        timeout: float | None,
        emit: turn.Emit,
    ) -> Answer:
        try:
            return await conversation.ask(prompt, model=model, timeout=timeout, emit=emit)
        except SessionInUseError as error:
            branch, said = self.notebook.branch_for_headless(error)
            emit(said)
            return await branch.ask(prompt, model=model, timeout=timeout, emit=emit)

    def _kept(self, answer: Answer, into: str, cell: str | None) -> Answer | None:
        if into:
            self._shell.user_ns[into] = answer
        return answer if cell is None else None

    def refuse(self, what: str, do: str) -> None:
        """Fail the cell with a sentence that only the transformer could write."""
        raise BadInputError(what, do)

    # -- sessions -------------------------------------------------------------------------

    @no_var_expand
    @line_magic
    def copilot_resume(self, line: str) -> None:
        """Bind this notebook to a session by its id; without an id, choose from a list.

        ::

            %copilot_resume ID [--create] [--fork | --take-over | --read-only | --share]
            %copilot_resume

        --create     make the session if it does not exist: one line for every run
        --fork       go on in a copy of it, under an id of its own
        --take-over  take it from the kernel that holds it
        --read-only  read its history, never ask
        --share      join it though this notebook is a copy of the one it belongs to

        The session itself is opened at the first prompt.
        """
        parsed = self._parsed("copilot_resume", line)
        hows = [f for f in ("--fork", "--take-over", "--read-only", "--share") if f in parsed]
        if len(hows) > 1:
            raise BadInputError(f"{' and '.join(hows)} exclude each other.", "Choose one of them.")
        typed = self._one_id("copilot_resume", parsed)
        session = typed or self._choose()
        how = hows[0].removeprefix("--") if hows else ""
        bound, chosen = self.notebook.resume(session, create="--create" in parsed, how=how)
        if chosen != typed or how in ("fork", "take-over"):
            create = " --create" if "--create" in parsed else ""
            self._rewrite(f"%copilot_resume {chosen}{create}")
        self._show_bound(bound)

    @no_var_expand
    @line_magic
    def copilot_new(self, line: str) -> None:
        """Create a session with an id of your own and bind this notebook to it.

        ::

            %copilot_new [ID]

        Without an id it is named user-notebook-xxxx. An id that exists is refused, unless
        this notebook made it: then it is resumed. The line becomes %copilot_resume ID.
        """
        parsed = self._parsed("copilot_new", line)
        session = self._one_id("copilot_new", parsed)
        session = session or self.sessions.new_id(self.notebook.identity.path)
        bound, _ = self.notebook.create(session)
        self._rewrite(f"%copilot_resume {session}")
        self._show_bound(bound)

    @no_var_expand
    @line_magic
    def copilot_sessions(self, line: str) -> None:
        """List the sessions: this notebook's, then this folder's, then all others.

        ::

            %copilot_sessions [TEXT] [--all]

        TEXT shows only those whose id or name holds it; --all shows more than 20.
        """
        from copilot_jupyter.notebook import listing

        parsed = self._parsed("copilot_sessions", line)
        here = self.notebook.identity
        found = self.sessions.listed(parsed.rest, notebook=here.path, folder=here.folder)
        limit = None if "--all" in parsed else _LISTED
        self._show(listing.sessions(found, self.sessions, parsed.rest, limit))

    @no_var_expand
    @line_magic
    def copilot_history(self, line: str) -> None:
        """Show or export a conversation, this notebook's by default.

        ::

            %copilot_history [ID] [--last N] [--export FILE.md|FILE.jsonl]

        --last N       only the last N turns
        --export FILE  write it as Markdown, or as JSON Lines (one typed event a line)
        """
        from copilot_jupyter.notebook import listing

        parsed = self._parsed("copilot_history", line)
        session = self._one_id("copilot_history", parsed) or self._bound_id()
        turns = self.sessions.turns(session)
        last = parsed.number("--last", least=1)
        shown = turns[-int(last) :] if last is not None else turns
        if "--export" in parsed:
            self._say(listing.export(self.sessions, session, shown, parsed.get("--export")))
        else:
            self._show(listing.history(session, shown, len(turns)))

    @no_var_expand
    @line_magic
    def copilot_delete(self, line: str) -> None:
        """Delete sessions and all their data for good, after a yes.

        ::

            %copilot_delete ID... [--yes]

        A session that is in use elsewhere is not deleted.
        """
        parsed = self._parsed("copilot_delete", line)
        ids = list(dict.fromkeys(parsed.words))
        if not ids:
            raise BadInputError("No session is named.", "Write %copilot_delete ID.")
        infos = [self.sessions.store.info(session) for session in ids]
        what = ", ".join(f"{info.id} ({info.size:,} bytes)" for info in infos)
        if "--yes" not in parsed and not self._agreed(f"Delete {what} for good?", "--yes"):
            self._say("Nothing was deleted.")
            return
        for session in ids:
            self.sessions.loop.call(self.sessions.delete(session))
            self.notebook.forget(session)
            self._say(f"Deleted {session}.")

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
        from copilot_jupyter.conversation.sessions import parse_age
        from copilot_jupyter.notebook import listing

        parsed = self._parsed("copilot_cleanup", line)
        if "--older-than" not in parsed:
            raise BadInputError("No age is given.", "Write %copilot_cleanup --older-than 30d.")
        old = self.sessions.old(parse_age(parsed.get("--older-than")), bound="--bound" in parsed)
        mine = self.notebook.binding.session if self.notebook.binding is not None else ""
        old = [info for info in old if info.id != mine]  # this kernel asks in it again
        if not old:
            self._say("There is nothing to clean up.")
            return
        many = listing.counted(len(old))
        self._show(listing.plain_list(f"{many} to move to the trash", old))
        if "--dry-run" in parsed:
            return
        if "--yes" not in parsed and not self._agreed(f"Move {many}?", "--yes"):
            self._say("Nothing was moved.")
            return
        count = self.sessions.cleanup(old)
        self._say(
            f"Moved {listing.counted(count)} to the trash for 7 days; "
            "%copilot_undo brings them back."
        )

    @no_var_expand
    @line_magic
    def copilot_undo(self, line: str) -> None:
        """Bring back the sessions that the last %copilot_cleanup moved to the trash.

        ::

            %copilot_undo
        """
        self._no_words("copilot_undo", line)
        back = self.sessions.undo()
        self._say(f"Brought back {', '.join(back)}." if back else "There is nothing to undo.")

    @no_var_expand
    @line_magic
    def copilot_release(self, line: str) -> None:
        """Let go of the session, so that a terminal or another notebook may go on with it.

        ::

            %copilot_release
        """
        from copilot_jupyter.notebook import listing

        self._no_words("copilot_release", line)
        session = self._bound_id()
        conversation = self.notebook.conversation()
        if conversation is not None:
            self.sessions.loop.call(conversation.release())
        self._say(f"Released {session}. In a terminal: {listing.terminal_command(session)}")

    # -- this kernel ----------------------------------------------------------------------

    @no_var_expand
    @line_magic
    def copilot_status(self, line: str) -> None:
        """Show the binding, the provider, the runtime, and how to go on in a terminal.

        ::

            %copilot_status
        """
        from copilot_jupyter.notebook import listing

        self._no_words("copilot_status", line)
        self._show(listing.status(self.notebook, self.sessions))

    @no_var_expand
    @line_magic
    def copilot_models(self, line: str) -> None:
        """List the models that the provider offers.

        ::

            %copilot_models
        """
        from copilot_jupyter.notebook import listing

        self._no_words("copilot_models", line)
        provider, names = self.sessions.loop.call(self.sessions.models())
        self._show(listing.models(provider, names))

    @no_var_expand
    @line_magic
    def copilot_doctor(self, line: str) -> None:
        """Check the runtime, the sign-in, the state folder, the lock and the transcript.

        ::

            %copilot_doctor [ID] [--fix]

        --fix  repair a transcript that the runtime refuses; the damaged file is kept
        """
        from copilot_jupyter.conversation import doctor
        from copilot_jupyter.notebook import listing

        parsed = self._parsed("copilot_doctor", line)
        session = self._one_id("copilot_doctor", parsed)
        if not session:
            bound = self.notebook.find()
            session = bound.id if bound else ""
        found = list(doctor.checks(self.sessions, session, fix="--fix" in parsed))
        self._show(listing.checkup(found))

    @no_var_expand
    @line_magic
    def copilot_login(self, line: str) -> None:
        """Sign in to GitHub.

        ::

            %copilot_login [--token] [--host HOST]

        --token      type a token, hidden: the way that works on a remote hub
        --host HOST  a GitHub Enterprise host

        Nothing of it reaches an output, the history, or a file of this extension.
        """
        from copilot_jupyter.notebook import sign_in

        parsed = self._parsed("copilot_login", line)
        if parsed.rest:
            raise BadInputError(
                "%copilot_login takes no words.", "Type the token when asked, never in a cell."
            )
        lines = sign_in.login(
            self.sessions,
            parsed.get("--host"),
            token="--token" in parsed,
            can_ask=self.front_end.can_ask,
            show=self._show_for_now,
        )
        self._say("\n".join(lines))

    @no_var_expand
    @line_magic
    def copilot_logout(self, line: str) -> None:
        """Sign out of GitHub.

        ::

            %copilot_logout
        """
        from copilot_jupyter.notebook import sign_in

        self._no_words("copilot_logout", line)
        self._say("\n".join(sign_in.logout(self.sessions)))

    # -- helpers --------------------------------------------------------------------------

    def _parsed(self, magic: str, line: str) -> Parsed:
        return parse(f"%{magic}", line, FLAGS[magic], anywhere=True)

    def _no_words(self, magic: str, line: str) -> None:
        if words := self._parsed(magic, line).rest:
            raise BadInputError(f"%{magic} takes no words, and got {words!r}.", f"Write %{magic}.")

    def _one_id(self, magic: str, parsed: Parsed) -> str:
        words = parsed.words
        if len(words) > 1:
            raise BadInputError(
                f"%{magic} takes one session id, and got {' '.join(words)!r}.",
                "An id has no spaces; %copilot_sessions lists them.",
            )
        if words and not words[0]:
            raise BadInputError("The session id is empty.", "%copilot_sessions lists them.")
        return words[0] if words else ""

    def _bound_id(self) -> str:
        conversation = self.notebook.find()
        if conversation is None:
            raise BadInputError(
                "This notebook has no conversation yet.",
                "Ask with %%copilot, or bind one with %copilot_resume ID.",
            )
        return conversation.id

    def _choose(self) -> str:
        """Let the person choose a session from a numbered list."""
        from copilot_jupyter.notebook import listing

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
        shown = found[:_LISTED]
        self._show(listing.numbered(shown, self.sessions))
        typed = self._typed(f"Number 1 to {len(shown)}, or an id (empty: none): ")
        if not typed:
            raise BadInputError("No session was chosen.", "Write %copilot_resume ID.")
        if typed.isdecimal() and 1 <= int(typed) <= len(shown):
            return shown[int(typed) - 1].id
        if typed.isdecimal() and not self.sessions.store.exists(typed):
            raise BadInputError(
                f"The list ends at {len(shown)}; there is no {typed}.", "Run the cell again."
            )
        return typed

    def _agreed(self, question: str, flag: str) -> bool:
        if not self.front_end.can_ask:
            raise BadInputError(
                f"{question} Nobody is here to say yes.", f"Add {flag} to do it unasked."
            )
        return self._typed(f"{question} [y/N] ").lower() in ("y", "yes")

    def _typed(self, question: str) -> str:
        """Ask the person; the stop button ends that in one line, not in IPython's traceback."""
        try:
            return input(question).strip()
        except (KeyboardInterrupt, EOFError):
            raise TurnInterrupted("Interrupted; nothing was done.") from None

    def _rewrite(self, new: str) -> None:
        """Put `new` in the place of the line that runs now."""
        name = "|".join(("copilot_resume", "copilot_new"))
        self.front_end.replace_line(rf"^[ \t]*%(?:{name})\b.*$", new)

    def _show_bound(self, conversation: Conversation) -> None:
        from copilot_jupyter.notebook import listing, render

        turns = self.sessions.turns(conversation.id) if conversation.exists else []
        self._show(
            render.plain_bundle(listing.bound(conversation, turns)),
            metadata=self.notebook.output_metadata(None),
        )

    def _say(self, line: str) -> None:
        from copilot_jupyter.notebook import render

        self._show(render.plain_bundle(line))

    def _show_for_now(self, lines: Sequence[str]) -> Callable[[], None]:
        """Show lines, and return what takes them away again."""
        from copilot_jupyter.notebook import render

        text = "\n".join(lines)
        if self.front_end.kernel is None:
            self._say(text)
            return lambda: None
        from IPython.display import display

        handle = display(render.plain_bundle(text), raw=True, display_id=True)
        return lambda: handle.update(render.plain_bundle("…"), raw=True)

    def _show(self, bundle: render.Bundle, metadata: dict[str, Any] | None = None) -> None:
        if self.front_end.kernel is None:
            print(bundle["text/plain"])  # noqa: T201 -- a terminal
            return
        from IPython.display import display

        display(bundle, raw=True, metadata=metadata)
