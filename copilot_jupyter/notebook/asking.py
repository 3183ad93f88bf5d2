"""What a cell's question comes to: an answer the conversation has, or a turn to be asked.

Nothing is asked twice: the stored turn of the question is looked for first, in the
notebook's conversation and in what was merged into it, without a lock or a runtime.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from copilot_jupyter.conversation.answer import Answer
from copilot_jupyter.conversation.conversation import Instead
from copilot_jupyter.conversation.stored.question import checked, restarted
from copilot_jupyter.conversation.words import beginning
from copilot_jupyter.errors import CopilotError, NotAnsweredError, SessionInUseError
from copilot_jupyter.events import NO_TOOLS, Notice, Offer
from copilot_jupyter.runtime.session import to_the_end

if TYPE_CHECKING:
    from copilot_jupyter.conversation.connection import Emit
    from copilot_jupyter.conversation.conversation import Conversation
    from copilot_jupyter.conversation.stored.question import Question
    from copilot_jupyter.notebook.notebook import Notebook
    from copilot_jupyter.settings import Copilot


@dataclass(frozen=True)
class Request:
    """What a cell, a line or a call asks for.

    Parameters
    ----------
    question : Question
    how : str
        "" or one of "again", "rewind", "branch".
    branch : str
        With "branch": the id of the branch, "" for one that says where it comes from.
    timeout : float or None
        Seconds for the whole turn.
    stays : bool
        Whether the flag stays in the source: it then asks anew once, and replays after that.
    offer : Offer
        The tools that the model may use.
    absent : tuple of str
        Values and files that the cell names and that are not there.
    missing : CopilotError or None
        What to say of those that it cannot be asked without.
    """

    question: Question
    how: str = ""
    branch: str = ""
    timeout: float | None = None
    stays: bool = False
    offer: Offer = NO_TOOLS
    absent: tuple[str, ...] = ()
    missing: CopilotError | None = None


class Asking:
    """One request on its way.

    Parameters
    ----------
    notebook : Notebook
    settings : Copilot
    request : Request

    Attributes
    ----------
    answer : Answer or None
        Set from the start where the conversation has it already.
    conversation : Conversation
        Where it is asked; for "branch" the branch.

    Raises
    ------
    NotAnsweredError
        If it would have to be asked and ``Copilot.replay`` is "only".
    CopilotError
        As `Notebook.find_or_begin` raises them.
    """

    def __init__(self, notebook: Notebook, settings: Copilot, request: Request) -> None:
        checked(request.question.prompt)
        self._notebook = notebook
        self.conversation = notebook.find_or_begin(request.question.prompt)
        question = self.conversation.replay.asked_before(request.question, request.absent)
        request = self._request = replace(request, question=question)
        self._place, self._give_back = notebook.front_end.place(
            request.question.key,
            request.how.replace("branch", ""),
            notebook.cells_asking(request.question.prompt),
        )
        self._instead: Instead | None = None
        self._remarks: list[str] = []
        self._entered: tuple[Any, int] | None = None
        self.answer: Answer | None = None
        try:
            self._find_or_prepare(settings)
        except BaseException:
            self._give_back()
            raise

    def _find_or_prepare(self, settings: Copilot) -> None:
        """Find the answer that is there, else get ready to ask."""
        notebook, request = self._notebook, self._request
        branching = request.how == "branch"
        if branching and (made := notebook.branch_named(request.branch)):
            self.conversation, branching = notebook.enter_branch(made), False
        # Where the source can't be rewritten a flag stays, and asks anew once all the same.
        stays = request.stays or not notebook.front_end.streams
        anew = branching or (request.how in ("again", "rewind") and not stays)
        self._anew = anew or notebook.front_end.is_typed or settings.replay == "never"
        if not self._anew:
            self.answer = self._stored()
        if self.answer is not None:
            notebook.replayed += 1
        else:
            if request.missing is not None:
                raise request.missing
            if settings.replay == "only":
                raise self._not_answered()
            if branching and self.conversation.exists:
                self._enter_branch()
            self._prepare_turn()
            question = with_restart(notebook, self.conversation, self._request.question)
            self._request = replace(self._request, question=question)

    async def ask(self, emit: Emit) -> Answer:
        """Ask the model; runs on the loop's thread.

        Where the session is in use and nobody can be asked, a branch is asked instead.
        """
        try:
            return await self._ask_or_fork(emit)
        except BaseException:
            self._give_back()
            if self._entered:
                leaving = self._notebook.leave_branch(self.conversation, *self._entered)
                await to_the_end(leaving)
            raise

    async def _ask_or_fork(self, emit: Emit) -> Answer:
        try:
            return await self._ask(self.conversation, self._instead, emit)
        except SessionInUseError as error:
            fork, said = self._notebook.branch_for_headless(error)
            emit(said)
            return await self._ask(fork, None, emit)

    async def _ask(self, conversation: Conversation, instead: Instead | None, emit: Emit) -> Answer:
        answer = await conversation.ask(
            self._request.question,
            place=self._place,
            instead=instead,
            anew=self._anew,
            offer=self._request.offer,
            timeout=self._request.timeout,
            emit=emit,
        )
        self._notebook.told_of_restart.add(conversation.id)
        for line in self._remarks:
            emit(Notice(line.replace("{turn}", str(answer.turn))))
        return answer

    def _stored(self) -> Answer | None:
        question, session = self._request.question, self.conversation.id
        if answer := self.conversation.stored(question, self._place):
            return answer
        for replay in self._notebook.carried.merged(session):
            if found := replay.find(question, self._place):
                # The file says what it said before the merge.
                return Answer.of(found, session, replayed=True)
        return None

    def _not_answered(self) -> NotAnsweredError:
        shown = beginning(self._request.question.prompt)
        count = self._notebook.front_end.execution_count
        return NotAnsweredError(
            f"In [{count}] asks {shown!r}, which {self.conversation.id} has no answer to.",
            "Copilot.replay is 'only', so no model was asked; set it to 'auto' to ask.",
        )

    # -- turns that give way ---------------------------------------------------------------

    def _prepare_turn(self) -> None:
        """Find out what becomes of the turn that this cell asked before."""
        question, place, replay = self._request.question, self._place, self.conversation.replay
        if self._request.how == "rewind":
            # Its own turn, whether or not the prompt was edited since.
            plain = replace(place, asked="")
            old = replay.earlier(plain, first=True)
            found = replay.find(question, plain) if old is None else None
            event = old.event if old else found.turn.event_id if found else ""
            if event:
                self._instead = Instead(event, whatever_follows=True)
            else:
                self._remarks.append("No earlier turn of this cell is known; asked at the end.")
            return
        if self._request.how or (old := replay.earlier(place)) is None:
            return
        stored, count = replay.stored(old), replay.count()
        if old.record is None or stored is None or old.key == question.key:
            return
        changed = [
            name for name, digest in question.values if old.record.values.get(name) != digest
        ]
        if changed and stored.turn.prompt == question.prompt:
            have = "has" if len(changed) == 1 else "have"
            self._remarks.append(
                f"{', '.join(changed)} {have} changed since turn {old.number}; asked anew."
            )
        elif (
            not any(name in old.record.values for name in self._request.absent)
            and replay.ends_with(old.event)
            and not stored.turn.had_effects
        ):
            self._instead = Instead(old.event)
        else:
            follow = (
                f"turn {count} follows"
                if count == old.number + 1
                else f"turns {old.number + 1} to {count} follow"
            )
            self._remarks.append(
                f"Asked as turn {{turn}}. This cell's earlier prompt is turn {old.number}"
                + (f", and {follow} it. " if count > old.number else ". ")
                + "%%copilot --rewind asks in its place, %%copilot --branch in a branch there."
            )

    def _enter_branch(self) -> None:
        """Bind the notebook to a new branch, from before the turn that this cell asked first."""
        question, place = self._request.question, self._place
        old = self.conversation.replay.earlier(place, first=True)
        matching = self.conversation.replay.matching(question) if old is None else []
        event = old.event if old else matching[-1].event if matching else ""
        if not event:
            self._remarks.append("No earlier turn of this cell is known; the branch has all turns.")
        before = self._notebook.holding()
        self.conversation = self._notebook.enter_branch(self._request.branch, until=event)
        self._entered = (before, self.conversation.replay.count())


def with_restart(notebook: Notebook, conversation: Conversation, question: Question) -> Question:
    """Return a question that tells the model which variables it saw went with a restart.

    It is told once in a kernel's life, with the first turn that succeeds.

    Parameters
    ----------
    notebook : Notebook
    conversation : Conversation
    question : Question
    """
    if conversation.id in notebook.told_of_restart:
        return question
    gone = conversation.replay.shown_and_gone(notebook.front_end.defines)
    return replace(question, sent=restarted(question.text, gone)) if gone else question
