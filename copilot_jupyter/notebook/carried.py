"""What a notebook's file and the bundles beside it know of a session that this machine does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from copilot_jupyter.conversation.portable import bundle_file, carry, lineage, notebook_turns
from copilot_jupyter.conversation.terms import Terms
from copilot_jupyter.conversation.words import counted
from copilot_jupyter.errors import BadInputError, CopilotError
from copilot_jupyter.notebook.as_saved import AsSaved
from copilot_jupyter.state.journal import is_prompt
from copilot_jupyter.state.metadata import NOTEBOOK_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from copilot_jupyter.conversation.conversation import Conversation
    from copilot_jupyter.conversation.portable.embedded import EmbeddedTurn
    from copilot_jupyter.conversation.sessions import Sessions
    from copilot_jupyter.conversation.stored.replay import Replay
    from copilot_jupyter.notebook.notebook import Notebook


class Carried:
    """Brings sessions here that the notebook, or a file beside it, carries.

    Parameters
    ----------
    notebook : Notebook
    sessions : Sessions
    say : callable
        Shows one line in the running cell.
    """

    def __init__(self, notebook: Notebook, sessions: Sessions, say: Callable[[str], None]) -> None:
        self._notebook = notebook
        self._sessions = sessions
        self._store = sessions.store
        self._say = say
        self._file = AsSaved(notebook_turns.read)
        self._read: set[str] = set()
        self._merged: dict[str, list[str]] = {}

    def restored(self, session: str, metadata: dict[str, str]) -> bool:
        """Bring a missing session back: from the trash, this notebook, or what lies beside it.

        Parameters
        ----------
        session : str
        metadata : dict
            Client metadata, the tie to the notebook.

        Raises
        ------
        BadInputError
            If the file that carries it is damaged: nothing is guessed.
        """
        here = self._notebook.identity
        if self._store.buried(session):  # deleted on purpose: only --from brings it back
            return False
        if self._store.trash.bring_back(session):
            self._say(f"{session} was brought back from the trash.")
            return True
        folder = Path(here.folder)
        found = bundle_file.find(folder, session)
        source = here.path if here.path is not None and here.path.exists() else None
        turns = self._turns(session, source)
        if not turns and (source := notebook_turns.find(folder, session)):
            turns = self._turns(session, source)
        if found is not None:
            _, said = carry.import_bundle(self._store, found, session, here.folder, metadata)
            quiet = not self._notebook.front_end.can_ask
            if not quiet:  # a committed bundle is no news to a headless run
                self._say(said)
            self._take_in(self._sessions.conversation(session, Terms()), turns, quiet=quiet)
            return True
        if turns:
            for line in carry.rebuild(self._store, session, turns, here.folder, metadata):
                self._say(line)
        return bool(turns)

    def restore_from(self, source: Path, session: str) -> None:
        """Restore a session from one file, or make sure that it is the one that is here.

        Raises
        ------
        BadInputError
            If the file holds another session, or one that differs from what is here.
        """
        folder = self._notebook.identity.folder
        if source.suffix != ".ipynb":
            found = bundle_file.load(source)
            if found.session != session:
                raise BadInputError(
                    f"{source.name} holds the session {found.session}, not {session}.",
                    f"Write %copilot_import {source.name} {session} to give it another id.",
                )
            if self._store.exists(session):
                known = self._sessions.replay(session).known()
                if all(str(e.get("id")) in known for e in found.events if is_prompt(e)):
                    return  # all of it is here, or was here and was taken out
            self._say(carry.import_bundle(self._store, source, session, folder)[1])
            return
        turns = self._turns(session, source)
        if not turns:
            raise BadInputError(
                f"{source.name} carries no turns of {session}.", "Name another file."
            )
        if self._store.exists(session):
            self._take_in(self._sessions.conversation(session, Terms()), turns)
            return
        for line in carry.rebuild(self._store, session, turns, folder):
            self._say(line)

    def elsewhere(self, session: str, notebook_ids: Collection[str]) -> str:
        """Return where this file's own conversation is, if the session here is another one.

        Two people may give the same id to two conversations. A file whose turns are none of
        the session's, and which never was its notebook, goes on in a session of its own.

        Returns
        -------
        str
            Its id; "" where the session is the file's own.
        """
        path = self._notebook.identity.path
        if path is None or not path.exists() or session in self._read:
            return ""
        owner = self._store.client_metadata(session).get(NOTEBOOK_ID, "")
        try:
            turns = self._turns(session, path)
        except BadInputError:
            return ""
        replay = self._sessions.replay(session)
        if not turns or not owner or owner in notebook_ids or not replay.events():
            return ""
        known = replay.known()
        if any(turn.event in known for turn in turns):
            return ""
        for other in carry.merged(self._store, session):
            if turns[0].event in self._sessions.replay(other).known():
                return other
        folder = self._notebook.identity.folder
        carry.branch_off(self._store, session, lineage.chains(turns)[:1], folder)
        other = carry.merged(self._store, session)[-1]
        self._say(
            f"The session {session} here is another conversation than that of {path.name}, "
            f"which goes on as {other}."
        )
        return other

    def has_read(self, session: str) -> None:
        """Note that the file knows nothing of a session that was made just now."""
        self._read.add(session)

    def read_on(self, conversation: Conversation) -> None:
        """Take in what the file knows of a session and this machine does not; once."""
        path = self._notebook.identity.path
        if conversation.id in self._read or not conversation.exists:
            return
        self._read.add(conversation.id)
        if conversation.terms.read_only:
            return
        try:
            if said := self._sessions.settle(conversation):
                self._say(said)
            if path is not None and path.exists():
                self._take_in(conversation, self._turns(conversation.id, path))
        except CopilotError as error:  # the session is here: nothing depends on the file
            self._say(f"What the file carries was not read. {error}")

    def merged(self, session: str) -> list[Replay]:
        """Return the turns of the other courses that notebooks brought to a conversation."""
        if session not in self._merged:
            self._merged[session] = carry.merged(self._store, session)
        return [self._sessions.replay(branch) for branch in self._merged[session]]

    def _take_in(
        self, conversation: Conversation, turns: Sequence[EmbeddedTurn], *, quiet: bool = False
    ) -> None:
        session = conversation.id
        if deleted := self._store.buried(session):  # an older session of this id
            turns = [turn for turn in turns if turn.at > deleted.isoformat()]
        known = conversation.replay.known()
        if all(turn.event in known for turn in turns):
            return
        for other in (
            *carry.merged(self._store, session),
            *self._store.ids_beginning(f"{session}-kept"),
        ):
            known |= self._sessions.replay(other).known()
        news = lineage.compare(conversation.replay.events(), known, turns)
        if news.added:
            count = counted(len(news.added), "turn")
            source = news.added[0].source
            try:
                self._sessions.loop.call(conversation.take_in(news.added))
            except CopilotError as error:
                self._read.discard(session)
                self._say(f"{count} of {source} could not be added to {session} yet. {error.what}")
            else:
                was = "was" if len(news.added) == 1 else "were"
                if not quiet:
                    self._say(f"{count} of {source} went on from {session} and {was} added to it.")
        folder = self._notebook.identity.folder
        for line in carry.branch_off(self._store, session, news.branches, folder):
            self._say(line)
        self._merged.pop(session, None)

    def _turns(self, session: str, path: Path | None) -> list[EmbeddedTurn]:
        """Return the turns of a session that a notebook file carries."""
        return notebook_turns.of_session(self._file.read(path), session) if path is not None else []
