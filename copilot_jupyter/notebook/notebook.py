"""The notebook behind a kernel: who it is, and the conversation it is bound to."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copilot_jupyter.conversation import binding, embedded, kept
from copilot_jupyter.conversation.binding import METADATA_KEY, Binding, Saved
from copilot_jupyter.conversation.conversation import Conversation, Terms
from copilot_jupyter.conversation.question import normal
from copilot_jupyter.errors import SessionInUseError, SessionNotFoundError
from copilot_jupyter.events import Notice
from copilot_jupyter.notebook.as_saved import AsSaved
from copilot_jupyter.notebook.carried import Carried
from copilot_jupyter.runtime.store import (
    BRANCH_OF,
    COPIED_FROM,
    NOTEBOOK_ID,
    NOTEBOOK_KERNEL,
    NOTEBOOK_PATH,
    check_id,
)

if TYPE_CHECKING:
    from collections.abc import Container

    from copilot_jupyter.conversation.answer import Answer
    from copilot_jupyter.conversation.sessions import Sessions
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
        self._binding: Binding | None = None
        self._terms = Terms()
        self._file = AsSaved(binding.read_notebook)
        self.carried = Carried(self, sessions, say)

    # -- who ------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        """Which notebook this is; asked once, and again when its file is no longer there."""
        known = self._identity
        if known is None or (known.path is not None and not known.path.exists()):
            self._identity = known = self.front_end.identity()
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
        saved = self._saved()
        if (found := saved.binding) is not None:
            if not (self.sessions.store.exists(found.session) or self._restored(found.session)):
                raise self._gone(found.session)
            return self._bind(*self._settle(found, saved))
        return self._from_index([*asked, *saved.prompts])

    def cells_asking(self, prompt: str) -> Container[str]:
        """Return the ids of the cells that may ask this, as last saved; read when looked at."""
        return _Cells(self, prompt)

    def _saved(self) -> Saved:
        path = self.identity.path
        return self._file.read(path) if path is not None else Saved()

    def _settle(self, found: Binding, saved: Saved) -> tuple[str, str]:
        """Return session and notebook id for a binding found in the file: a copy is branched."""
        store = self.sessions.store
        here = self.identity.path
        if other := self.carried.elsewhere(found.session, saved.notebook_ids):
            return other, saved_id(saved)
        original = self._original(found)
        if original is None:  # its own file, or moved: its index follows at the next ask
            return found.session, found.notebook_id or saved_id(saved)
        branch = self._branch_of(found.session, here)
        if branch:
            return branch, store.client_metadata(branch).get(NOTEBOOK_ID, "")
        metadata = {COPIED_FROM: found.session, NOTEBOOK_PATH: str(here)}
        branch = self._branch(found.session, "copy", metadata)
        self._say(
            f"This notebook is a copy of {original.name}: it goes on in a branch, {branch}. "
            f"To share the conversation instead: %copilot_resume {found.session} --share"
        )
        return branch, ""

    def _original(self, found: Binding) -> Path | None:
        """Return the notebook of which this one is a copy, by a binding in its file.

        The index names the notebook that asked last. Where that one joined on purpose it
        carries another id, and the path in the binding itself tells.
        """
        here = self.identity.path
        if here is None:
            return None
        metadata = self.sessions.store.client_metadata(found.session)
        homes = [parent / found.path for parent in here.parents if found.path]
        if metadata.get(NOTEBOOK_ID) == found.notebook_id:
            homes.insert(0, Path(metadata.get(NOTEBOOK_PATH, "")))
        for home in homes:
            if binding.is_copy(here, found.notebook_id, str(home), binding.read_notebook):
                return home
        return None

    def _branch(self, session: str, kind: str, metadata: dict[str, str] | None = None) -> str:
        """Copy a session under a free id that says where it comes from; return the id."""
        store = self.sessions.store
        branch = store.free_id(f"{session}-{kind}")
        store.fork(session, branch, metadata=metadata)
        return branch

    def _branch_of(self, session: str, here: Path | None) -> str:
        """Return the branch that this copy of a notebook was given before, "" if none."""
        store = self.sessions.store
        for candidate in store.ids():
            metadata = store.client_metadata(candidate)
            if metadata.get(COPIED_FROM) == session and metadata.get(NOTEBOOK_PATH) == str(here):
                return candidate
        return ""

    def _from_index(self, asked: list[str]) -> Conversation | None:
        """Look among the sessions for one that names this kernel or this path."""
        here = self.identity
        store = self.sessions.store
        if not here.kernel and here.path is None:
            return None
        former = ""
        for candidate in store.ids():
            metadata = store.client_metadata(candidate)
            points = binding.find_by(metadata, kernel=here.kernel, path=here.path)
            if points == "path":
                turns = [turn.prompt for turn in self.sessions.turns(candidate)]
                if not binding.knows(turns, asked):
                    former = former or candidate
                    continue
            if points:
                return self._bind(candidate, metadata.get(NOTEBOOK_ID, ""))
        if former:
            self._say(
                f"An earlier notebook at this path used {former}; this one begins anew. "
                f"To go on with that one: %copilot_resume {former}"
            )
        return None

    def _gone(self, session: str) -> SessionNotFoundError:
        error = self.sessions.store.not_found(session)
        return SessionNotFoundError(
            f"This notebook is bound to {session}. {error.what}",
            f"Begin anew with %copilot_new, or bind another with %copilot_resume. {error.do}",
        )

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

    def _restored(self, session: str) -> bool:
        notebook_id = saved_id(self._saved()) or uuid.uuid4().hex
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
        return self._bind(session, saved_id(self._saved()), create=True)

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
        saved = self._saved()
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
        elif not (store.exists(check_id(session)) or self._restored(session)):
            if not create:
                raise store.not_found(session)
            return self.create(session)[0], session
        if how == "fork":
            branch = self._branch(session, "fork")
            return self._bind(branch), branch
        if how not in ("share", "take-over", "read-only"):
            session, notebook_id = self._resumed(session)
            return self._bind(session, notebook_id), session
        terms = {"take_over": how == "take-over", "read_only": how == "read-only"}
        saved = self._saved()
        # A copy that joins on purpose gets an id of its own: or the original would be the copy.
        copied = any(b.session == session and self._original(b) for b in saved.bindings[-1:])
        return self._bind(session, "" if copied else saved_id(saved), **terms), session

    def _resumed(self, session: str) -> tuple[str, str]:
        """Return what a typed line binds to: the session, or a copied notebook's branch of it."""
        if self._binding is not None and self._binding.session == session:
            return session, self._binding.notebook_id
        kept.adopt(self.sessions.store, session)
        saved = self._saved()
        if other := self.carried.elsewhere(session, saved.notebook_ids):
            return other, saved_id(saved)
        for found in reversed(saved.bindings):
            metadata = self.sessions.store.client_metadata(found.session)
            if metadata.get(COPIED_FROM) == session and self.sessions.store.exists(found.session):
                self._say(
                    f"This notebook is a copy and goes on in its branch {found.session}. To share "
                    f"{session} instead: %copilot_resume {session} --share"
                )
                return found.session, found.notebook_id
            if found.session == session:
                return self._settle(found, saved)
        return session, saved_id(saved)

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
        family = {session, *self._ancestors(session)}
        if family.isdisjoint({target, *self._ancestors(target)}):
            raise store.exists_error(target)
        return target

    def _ancestors(self, session: str) -> Iterator[str]:
        """Yield the sessions that a branch left, nearest first."""
        seen = {session}
        while parent := self.sessions.store.client_metadata(session).get(BRANCH_OF):
            if parent in seen:
                return
            seen.add(parent)
            yield parent
            session = parent

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
        if branch.replay.count() != turns:
            return
        if self._binding is not None and self._binding.session == branch.id:
            self._binding, self._terms = before
        await branch.release()
        self.sessions.store.discard(branch.id)

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
        branch = self._branch(self._binding.session, "fork")
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


class _Cells:
    """The ids of the notebook's cells that may ask a prompt."""

    def __init__(self, notebook: Notebook, prompt: str) -> None:
        self._notebook = notebook
        self._prompt = normal(prompt)

    def __contains__(self, cell: object) -> bool:
        asked = self._notebook._saved().cells.get(str(cell))  # noqa: SLF001
        if asked is None:
            return False
        return not asked or self._prompt in map(normal, asked)  # of code nobody can tell


def saved_id(saved: Saved) -> str:
    """Return the notebook id that a file carries, "" if none."""
    return saved.bindings[-1].notebook_id if saved.bindings else ""
