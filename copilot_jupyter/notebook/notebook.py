"""The notebook behind a kernel: who it is, and the conversation it is bound to."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from copilot_jupyter.conversation import binding
from copilot_jupyter.conversation.binding import METADATA_KEY, Binding, Saved
from copilot_jupyter.conversation.branches import ancestors, make_branch
from copilot_jupyter.conversation.terms import Terms
from copilot_jupyter.errors import SessionInUseError
from copilot_jupyter.events import Notice
from copilot_jupyter.notebook.as_saved import AsSaved
from copilot_jupyter.notebook.finding import CellsAsking, Finder, saved_id
from copilot_jupyter.state.ids import check_id
from copilot_jupyter.state.metadata import BRANCH_OF, NOTEBOOK_ID, NOTEBOOK_KERNEL, NOTEBOOK_PATH

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from copilot_jupyter.conversation.answer import Answer
    from copilot_jupyter.conversation.conversation import Conversation
    from copilot_jupyter.conversation.sessions import Sessions
    from copilot_jupyter.notebook.carried import Carried
    from copilot_jupyter.notebook.frontend import FrontEnd, Identity

Say = Callable[[str], None]
Holding = tuple[Binding | None, Terms]


class Notebook:
    """The notebook behind this kernel and its binding.

    Parameters
    ----------
    front_end : FrontEnd
    sessions : Sessions
    say : callable
        Shows one line in the running cell.
    """

    def __init__(self, front_end: FrontEnd, sessions: Sessions, say: Say) -> None:
        self.front_end = front_end
        self.sessions = sessions
        self._say = say
        #: Sessions whose model knows which variables went with a restart.
        self.told_of_restart: set[str] = set()
        #: How many cells of this kernel were answered from the conversation.
        self.replayed = 0
        self._identity: Identity | None = None
        self._identified_in = ""
        self._binding: Binding | None = None
        self._terms = Terms()
        self._file = AsSaved(binding.read_notebook)
        self._finder = Finder(self, sessions, say)

    @cached_property
    def carried(self) -> Carried:
        """What the notebook's file and the bundles beside it know."""
        from copilot_jupyter.notebook.carried import Carried

        return Carried(self, self.sessions, self._say)

    # -- who ------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        """Which notebook this is; asked once, and again in a cell that misses its file."""
        known, now = self._identity, self.front_end.execution.id
        is_gone = known is not None and known.path is not None and not known.path.exists()
        # Once in a cell: with a remote contents manager no file is ever on this disk.
        if known is None or (is_gone and not (now and now == self._identified_in)):
            self._identity, self._identified_in = (known := self.front_end.identity()), now
        return known

    @property
    def binding(self) -> Binding | None:
        """The binding this kernel knows, None before the first use."""
        return self._binding

    def conversation(self) -> Conversation | None:
        """Return the conversation this kernel is bound to, None before the first use."""
        if self._binding is None:
            return None
        self._follow()
        return self.sessions.conversation(self._binding.session, self._terms)

    def _follow(self) -> None:
        """Follow a rename under the living kernel: the index and the next outputs name it."""
        here = self.identity
        known = self._terms.metadata.get(NOTEBOOK_PATH)
        if self._binding is None or here.path is None or known in (None, str(here.path)):
            return
        metadata = {**self._terms.metadata, NOTEBOOK_PATH: str(here.path)}
        self._terms = replace(self._terms, who=here.name, metadata=metadata)
        self._binding = replace(self._binding, path=here.relative_path)

    # -- finding --------------------------------------------------------------------------

    def find(self, asked: Iterable[str] = ()) -> Conversation | None:
        """Return this notebook's conversation: out of memory, the file, or the index.

        Parameters
        ----------
        asked : iterable of str
            What the running cell asks; a path alone is not trusted without a prompt in common.

        Returns
        -------
        Conversation or None
            None where the notebook has none yet.

        Raises
        ------
        SessionNotFoundError
            If it is bound to a session that is gone.
        """
        if (known := self.conversation()) is not None:
            return known
        found = self._finder.find(asked)
        return self._bind(*found) if found is not None else None

    def cells_asking(self, prompt: str) -> Container[str]:
        """Return the ids of the cells that may ask this, as last saved; read when looked at."""
        return CellsAsking(self, prompt)

    def saved(self) -> Saved:
        """Return what the notebook's file says of its sessions, as last saved."""
        path = self.identity.path
        return self._file.read(path) if path is not None else Saved()

    # -- binding --------------------------------------------------------------------------

    def _bind(self, session: str, notebook_id: str = "", **terms: Any) -> Conversation:
        here = self.identity
        notebook_id = notebook_id or uuid.uuid4().hex
        self._binding = Binding(session, here.relative_path, notebook_id)
        self._terms = Terms(
            who=here.name, folder=here.folder, metadata=self._metadata(notebook_id), **terms
        )
        conversation = self.sessions.conversation(session, self._terms)
        self.carried.read_on(conversation)
        return conversation

    def restored(self, session: str) -> bool:
        """Bring a missing session back, if the file or what lies beside it carries it."""
        notebook_id = saved_id(self.saved()) or uuid.uuid4().hex
        return self.carried.restored(session, self._metadata(notebook_id))

    def find_or_begin(self, prompt: str) -> Conversation:
        """Return the conversation that a prompt belongs to, a new one where there is none."""
        return self.find([prompt]) or self.begin()

    def begin(self) -> Conversation:
        """Bind the notebook to a new session of its own, made at the first turn."""
        session = self.sessions.new_id(self.identity.path)
        if self.identity.path is None and not self.front_end.can_ask:
            self._say(
                f"Nothing here tells which notebook this is: {session} will not be found again. "
                f"Write %copilot_resume {session} --create above to keep it."
            )
        return self._bind(session, saved_id(self.saved()), create=True)

    def create(self, session: str) -> tuple[Conversation, bool]:
        """Make a session with an id of one's own and bind to it.

        Returns
        -------
        Conversation
        bool
            Whether it was made now; False if this notebook had made it before.

        Raises
        ------
        SessionExistsError
            If the id is taken by somebody else's session.
        """
        check_id(session)
        store = self.sessions.store
        saved = self.saved()
        if store.exists(session) and self._is_ours(session, saved):
            return self._bind(session, saved_id(saved)), False
        notebook_id = saved_id(saved) or uuid.uuid4().hex
        metadata = self._metadata(notebook_id)
        self.sessions.loop.call(self.sessions.create(session, self.identity.folder, metadata))
        return self._bind(session, notebook_id), True

    def _metadata(self, notebook_id: str) -> dict[str, str]:
        """Return the client metadata that ties a session to this notebook."""
        here = self.identity
        metadata = {NOTEBOOK_ID: notebook_id}
        if here.path is not None:
            metadata[NOTEBOOK_PATH] = str(here.path)
        if here.kernel:
            metadata[NOTEBOOK_KERNEL] = here.kernel
        return metadata

    def _is_ours(self, session: str, saved: Saved) -> bool:
        metadata = self.sessions.store.client_metadata(session)
        known = {b.notebook_id for b in (self._binding,) if b is not None} | saved.notebook_ids
        here = self.identity
        return metadata.get(NOTEBOOK_ID, "-") in known or bool(
            binding.find_by(metadata, kernel=here.kernel, path=here.path)
        )

    def resume(
        self, session: str, *, create: bool = False, how: str = "", source: Path | None = None
    ) -> tuple[Conversation, str]:
        """Bind to a session by its id.

        Parameters
        ----------
        session : str
        create : bool
            Make it if it does not exist.
        how : str
            "" or one of "fork", "take-over", "read-only", "share".
        source : Path, optional
            The bundle or notebook that a missing session is restored from; by default this
            notebook, and the bundles and notebooks beside it.

        Returns
        -------
        Conversation
        str
            The id it is bound to now: another one where a copy or a fork was made.

        Raises
        ------
        SessionNotFoundError
        """
        store = self.sessions.store
        if source is not None:
            self.carried.restore_from(source, check_id(session))
        elif not (store.exists(check_id(session)) or self.restored(session)):
            if not create:
                raise store.not_found(session)
            return self.create(session)[0], session
        if how == "fork":
            branch = make_branch(store, session, "fork")
            return self._bind(branch), branch
        if how not in ("share", "take-over", "read-only"):
            session, notebook_id = self._finder.typed(session)
            conversation = self._bind(session, notebook_id)
            conversation.come_back()
            return conversation, session
        terms = {"take_over": how == "take-over", "read_only": how == "read-only"}
        saved = self.saved()
        # A copy that joins on purpose gets an id of its own: or the original would be the copy.
        copied = self._finder.is_copy_of(session)
        return self._bind(session, "" if copied else saved_id(saved), **terms), session

    # -- branches --------------------------------------------------------------------------

    def branch_named(self, target: str) -> str:
        """Return the branch of the conversation that was made under this id, "" if none was.

        Parameters
        ----------
        target : str
            "" for the default one, which is found again where nobody can rewrite the cell.

        Raises
        ------
        SessionExistsError
            If the id is taken by a session that is no branch of this one.
        """
        if self._binding is None or not (target or not self.front_end.streams):
            return ""
        store, session = self.sessions.store, self._binding.session
        target = check_id(target or f"{session}-branch")
        if target == session or not store.exists(target):
            return target if target == session else ""
        family = {session, *ancestors(store, session)}
        if family.isdisjoint({target, *ancestors(store, target)}):
            raise store.exists_error(target)
        return target

    def enter_branch(self, target: str, *, until: str = "") -> Conversation:
        """Bind to a branch of the conversation, made now if it was not made before.

        Parameters
        ----------
        target : str
            The branch's id, "" for one that says where it comes from.
        until : str, optional
            Event id of the turn before which a new branch ends; all by default.

        Raises
        ------
        SessionExistsError
            If the id is taken by a session that is no branch of this one.
        """
        if self._binding is None:
            raise RuntimeError("a branch of no conversation")
        store, (session, notebook_id) = self.sessions.store, self.held()
        branch = self.branch_named(target)
        if not branch:
            branch = target or store.free_id(f"{session}-branch")
            store.fork(session, branch, until=until, metadata={BRANCH_OF: session})
        return self._bind(branch, notebook_id)

    def holding(self) -> Holding:
        """Return how the notebook is bound now, for `leave_branch`."""
        return self._binding, self._terms

    async def leave_branch(self, branch: Conversation, before: Holding, turns: int) -> None:
        """Take back a branch that was made for one turn, which failed.

        Parameters
        ----------
        branch : Conversation
        before : tuple
            What `holding` returned before the branch was entered.
        turns : int
            How many it had when it was made: one that was asked in meanwhile stays.
        """
        now = self.holding()
        if self._binding is not None and self._binding.session == branch.id:
            self._binding, self._terms = before
        with contextlib.suppress(SessionInUseError):  # the next question is there already
            await branch.release()
            if branch.replay.count() == turns:
                self.sessions.store.discard(branch.id)
                return
        self._binding, self._terms = now

    def held(self) -> tuple[str, str]:
        """Return the ids of the session and of the notebook, each "" where there is none."""
        if self._binding is None:
            return "", ""
        return self._binding.session, self._binding.notebook_id

    def forget(self, session: str) -> dict[str, Any]:
        """Unbind, if the notebook is bound to this session.

        Returns
        -------
        dict
            Metadata for the output that says so: the lab extension then forgets it too.
        """
        if self._binding is None or self._binding.session != session:
            return {}
        self._binding = None
        return {METADATA_KEY: {"session": None}}

    def branch_for_headless(self, error: SessionInUseError) -> tuple[Conversation, Notice]:
        """Return a branch to ask in, where the session is in use and nobody can be asked.

        Raises
        ------
        SessionInUseError
            The same error, where somebody can.
        """
        if self._binding is None or self.front_end.can_ask:
            raise error
        branch = make_branch(self.sessions.store, self._binding.session, "fork")
        said = Notice(f"{error.what} This run goes on in a branch of it, {branch}.")
        self.carried.has_read(branch)  # nothing waits for the loop here: this runs on it
        return self._bind(branch), said

    # -- what the file carries ------------------------------------------------------------

    def output_metadata(self, answer: Answer | None) -> dict[str, Any]:
        """Return the metadata of an answer's output, which ties the file to the session."""
        if self._binding is None:
            return {}
        entry = self._binding.to_metadata()
        # The newest binding of a file wins: that of an answer, or of a line that was run.
        at = datetime.now(UTC)
        entry["at"] = at.isoformat(timespec="seconds")
        if answer is not None:
            entry |= {"turn": answer.turn, "event": answer.event_id, "model": answer.model}
            entry["at"] = (answer.at or at).isoformat()
            if self.sessions.settings.embed and (stored := answer.stored) is not None:
                from copilot_jupyter.conversation.portable import embedded

                entry |= embedded.entry(
                    stored.turn,
                    session=answer.session,
                    parent=stored.parent,
                    key=stored.key,
                    values=stored.values,
                )
            if answer.replayed:
                entry["replayed"] = True
        return {METADATA_KEY: entry}
