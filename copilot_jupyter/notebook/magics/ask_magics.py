"""``%%copilot`` and ``%copilot``: a cell, or a line, that asks."""

from __future__ import annotations

from dataclasses import replace
from keyword import iskeyword
from typing import TYPE_CHECKING

from IPython.core.magic import line_cell_magic, magics_class, no_var_expand

from copilot_jupyter.conversation.stored.question import checked
from copilot_jupyter.errors import BadInputError
from copilot_jupyter.events import NO_TOOLS
from copilot_jupyter.notebook.magics.base import DeskMagics
from copilot_jupyter.notebook.magics.flags import FLAGS, parse

if TYPE_CHECKING:
    from copilot_jupyter.conversation.answer import Answer
    from copilot_jupyter.notebook.asking import Asking, Request
    from copilot_jupyter.notebook.magics.flags import Parsed

#: The flags that ask anew.
_ANEW = ("--again", "--rewind", "--branch")


@magics_class
class CopilotMagics(DeskMagics):
    """Conversations with GitHub Copilot that belong to the notebook."""

    @no_var_expand
    @line_cell_magic
    def copilot(self, line: str, cell: str | None = None) -> Answer | None:
        """Ask GitHub Copilot; the answer streams into the cell and belongs to the notebook.

        ::

            %%copilot [--model NAME] [--into NAME] [--timeout SECONDS]
                      [--context NAMES] [--attach FILE] [--no-tools] [--dry-run]
                      [--again | --rewind | --branch [ID]]
            the prompt, as many lines as it takes

            %copilot [FLAGS] the prompt in one line, question marks included?
            answer = %copilot the same, kept as an object

        The first prompt binds the notebook to a session of its own, or to the one that
        %copilot_resume names. The conversation is there after a kernel restart, and a cell
        that it has answered shows that answer again: no model is asked. An edited prompt
        takes the place of the cell's last turn; where others follow it, it is asked at the
        end.

        {name} in the prompt sends a view of that variable: {df}, {df:schema}, {df:head=20},
        {x!r}, {key!secret-ok}; braces that name nothing are left alone. The model may look
        at the kernel's variables, and asks before it runs code or inserts a cell.

        Flags end at the first word that is not one:

        --model NAME       ask this model, for this turn only
        --into NAME        also keep the Answer in a variable: .text, .code, .json()
        --timeout SECONDS  give the whole turn up after this long
        --context NAMES    send these variables too: --context df,model
        --attach FILE      send a text file or an image too; several: a.csv,b.png
        --no-tools         the model may use no tools in this turn
        --dry-run          show exactly what would be sent, and send nothing
        --again            ask anew, at the end; the flag then leaves the cell
        --rewind           take the turn this cell asked first and all after it out, then
                           ask; the flag leaves the cell, %copilot_undo puts all of it back
        --branch [ID]      the same in a branch of the conversation, which stays as it is;
                           the notebook goes on in the branch (in a line: --branch=ID)

        The stop button withdraws the prompt: the session is as if it had not been asked. A
        turn in which a tool has done something is kept, closed, so that the model knows.
        """
        from copilot_jupyter.notebook import turn

        asking, parsed = self._begun(line, cell)
        if asking is None:
            return None
        answer = asking.answer or turn.drive_sync(self.desk.turn_of(asking, self.desk.painter()))
        return self._kept(answer, parsed, line, cell)

    async def awaited_line(self, line: str) -> Answer | None:
        """Run ``%copilot`` on the kernel's own loop; the transformer calls this."""
        return await self._awaited(line, None)

    async def awaited_cell(self, line: str, cell: str) -> Answer | None:
        """Run ``%%copilot`` on the kernel's own loop; the transformer calls this."""
        return await self._awaited(line, cell)

    async def _awaited(self, line: str, cell: str | None) -> Answer | None:
        from copilot_jupyter.notebook import turn

        asking, parsed = self._begun(line, cell)
        if asking is None:
            return None
        answer = asking.answer or await turn.drive(self.desk.turn_of(asking, self.desk.painter()))
        return self._kept(answer, parsed, line, cell)

    def refuse(self, what: str, do: str) -> None:
        """Fail the cell with a sentence that only the transformer could write."""
        raise BadInputError(what, do)

    # -- from the typed line to the answer -------------------------------------------------

    def _begun(self, line: str, cell: str | None) -> tuple[Asking | None, Parsed]:
        """Return the asking, None where nothing is to be asked."""
        from copilot_jupyter.notebook.asking import Asking

        self.desk.check_may_ask()
        parsed = parse("%copilot" if cell is None else "%%copilot", line, FLAGS["copilot"])
        into = parsed.get("--into")
        if "--into" in parsed and (not into.isidentifier() or iskeyword(into)):
            raise BadInputError(
                f"--into {into!r} is no variable name.", "Write it like --into answer."
            )
        request = self._request(parsed, cell)
        if request is None:
            return None, parsed
        if request.how:
            self.desk.front_end.will_rewrite()
        asking = Asking(self.desk.notebook, self.desk.settings, request)
        if asking.answer is not None:
            self.desk.painter().finish(asking.answer)
        return asking, parsed

    def _request(self, parsed: Parsed, cell: str | None) -> Request | None:
        """Return what is asked; with --dry-run show it, and return None."""
        from copilot_jupyter.notebook import prompting
        from copilot_jupyter.notebook.asking import Request, with_restart
        from copilot_jupyter.notebook.tools.looking import own_variables

        hows = [flag for flag in _ANEW if flag in parsed]
        if len(hows) > 1:
            raise BadInputError(f"{' and '.join(hows)} exclude each other.", "Choose one of them.")
        branch, rest = parsed.get("--branch"), parsed.rest
        if cell is not None and hows == ["--branch"] and not branch and len(parsed.words) == 1:
            branch, rest = parsed.words[0], ""
        filled = prompting.fill(
            checked(_prompt(rest, cell)),
            own_variables(self.desk.shell),
            self.desk.settings,
            model=parsed.get("--model"),
            context=_names(parsed.get("--context")),
            files=_names(parsed.get("--attach")),
            tools="--no-tools" not in parsed,
            folder=self.desk.notebook.identity.folder,
        )
        if "--dry-run" in parsed:
            if filled.missing is not None:
                raise filled.missing
            if (conversation := self.desk.notebook.find()) is not None:
                question = with_restart(self.desk.notebook, conversation, filled.question)
                filled = replace(filled, question=question)
            self.desk.say(prompting.dry_run(filled))
            return None
        how = hows[0].removeprefix("--") if hows else ""
        timeout = parsed.number("--timeout", least=0.1)
        offer = NO_TOOLS if "--no-tools" in parsed else self.desk.tools.offer
        return Request(
            filled.question,
            how,
            branch,
            timeout,
            offer=offer,
            absent=filled.absent,
            missing=filled.missing,
        )

    def _kept(self, answer: Answer, parsed: Parsed, line: str, cell: str | None) -> Answer | None:
        if into := parsed.get("--into"):
            self.desk.shell.user_ns[into] = answer
        if any(flag in parsed for flag in _ANEW):
            self._take_flag_out(answer, parsed, line, cell)
        return answer if cell is None else None

    def _take_flag_out(self, answer: Answer, parsed: Parsed, line: str, cell: str | None) -> None:
        """Rewrite the line, so that the next run shows this answer; a branch stays named."""
        flags = [
            f"{name} {_quoted(value)}" if value else name
            for name, value in parsed.flags.items()
            if name not in _ANEW
        ]
        if "--branch" in parsed:
            flags.append(f"--branch={answer.session}")
        name, rest = ("%%copilot", "") if cell is not None else ("%copilot", parsed.rest)
        new = " ".join(part for part in (name, *flags, rest) if part)
        self.desk.front_end.replace_ask(name, line, new)


def _prompt(rest: str, cell: str | None) -> str:
    if cell is None:
        if not rest:
            raise BadInputError("The prompt is empty.", "Write it behind %copilot.")
        return rest
    if rest:
        raise BadInputError(
            f"{rest[:60]!r} stands on the %%copilot line, where only flags go.",
            "Write the prompt on the lines below it, or use %copilot for one line.",
        )
    if not cell.strip():
        raise BadInputError("The prompt is empty.", "Write it below the %%copilot line.")
    return cell.strip("\n")


def _names(value: str) -> list[str]:
    return [name.strip() for name in value.split(",") if name.strip()]


def _quoted(value: str) -> str:
    return f'"{value}"' if " " in value else value
