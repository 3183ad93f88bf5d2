"""Which session is this notebook's: by its file, by the index, or by a line that was typed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from copilot_jupyter.conversation import binding, kept
from copilot_jupyter.conversation.branches import make_branch
from copilot_jupyter.conversation.stored.question import normal
from copilot_jupyter.errors import SessionNotFoundError
from copilot_jupyter.state.metadata import COPIED_FROM, NOTEBOOK_ID, NOTEBOOK_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from copilot_jupyter.conversation.binding import Binding, Saved
    from copilot_jupyter.conversation.sessions import Sessions
    from copilot_jupyter.notebook.notebook import Notebook


class Finder:
    """Finds the session that a notebook is to be bound to; a copy gets a branch of its own.

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

    def find(self, asked: Iterable[str]) -> tuple[str, str] | None:
        """Return the ids of the session and the notebook; None where it has no session yet.

        Parameters
        ----------
        asked : iterable of str
            What the running cell asks.

        Raises
        ------
        SessionNotFoundError
            If the file names a session that is gone.
        """
        saved = self._notebook.saved()
        if (found := saved.binding) is None:
            return self._in_index([*asked, *saved.prompts])
        if not (self._store.exists(found.session) or self._notebook.restored(found.session)):
            raise self._gone(found.session)
        return self._settle(found, saved)

    def typed(self, session: str) -> tuple[str, str]:
        """Return what a typed line binds to, and the notebook's id.

        It is the session, or the branch of it that a copied notebook has.
        """
        bound, notebook_id = self._notebook.held()
        if bound == session:
            return session, notebook_id
        kept.adopt(self._store, session)
        saved = self._notebook.saved()
        if other := self._notebook.carried.elsewhere(session, saved.notebook_ids):
            return other, saved_id(saved)
        for found in reversed(saved.bindings):
            metadata = self._store.client_metadata(found.session)
            if metadata.get(COPIED_FROM) == session and self._store.exists(found.session):
                self._say(
                    f"This notebook is a copy and goes on in its branch {found.session}. To share "
                    f"{session} instead: %copilot_resume {session} --share"
                )
                return found.session, found.notebook_id
            if found.session == session:
                return self._settle(found, saved)
        return session, saved_id(saved)

    def is_copy_of(self, session: str) -> bool:
        """Whether this is a copied notebook, and its file names this session last."""
        last = self._notebook.saved().bindings[-1:]
        return any(b.session == session and self._original(b) is not None for b in last)

    def _settle(self, found: Binding, saved: Saved) -> tuple[str, str]:
        """Return session and notebook id for a binding found in the file: a copy is branched."""
        here = self._notebook.identity.path
        if other := self._notebook.carried.elsewhere(found.session, saved.notebook_ids):
            return other, saved_id(saved)
        original = self._original(found)
        if original is None:  # its own file, or moved: its index follows at the next ask
            return found.session, found.notebook_id or saved_id(saved)
        branch = self._branch_of(found.session, here)
        if branch:
            return branch, self._store.client_metadata(branch).get(NOTEBOOK_ID, "")
        metadata = {COPIED_FROM: found.session, NOTEBOOK_PATH: str(here)}
        branch = make_branch(self._store, found.session, "copy", metadata)
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
        here = self._notebook.identity.path
        if here is None:
            return None
        metadata = self._store.client_metadata(found.session)
        homes = [parent / found.path for parent in here.parents if found.path]
        if metadata.get(NOTEBOOK_ID) == found.notebook_id:
            homes.insert(0, Path(metadata.get(NOTEBOOK_PATH, "")))
        for home in homes:
            if binding.is_copy(here, found.notebook_id, str(home), binding.read_notebook):
                return home
        return None

    def _branch_of(self, session: str, here: Path | None) -> str:
        """Return the branch that this copy of a notebook was given before, "" if none."""
        for candidate in self._store.ids():
            metadata = self._store.client_metadata(candidate)
            if metadata.get(COPIED_FROM) == session and metadata.get(NOTEBOOK_PATH) == str(here):
                return candidate
        return ""

    def _in_index(self, asked: list[str]) -> tuple[str, str] | None:
        """Look among the sessions for one that names this kernel or this path."""
        here = self._notebook.identity
        if not here.kernel and here.path is None:
            return None
        former = ""
        for candidate in self._store.ids():
            metadata = self._store.client_metadata(candidate)
            points = binding.find_by(metadata, kernel=here.kernel, path=here.path)
            if points == "path":
                turns = [turn.prompt for turn in self._sessions.turns(candidate)]
                if not binding.knows(turns, asked):
                    former = former or candidate
                    continue
            if points:
                return candidate, metadata.get(NOTEBOOK_ID, "")
        if former:
            self._say(
                f"An earlier notebook at this path used {former}; this one begins anew. "
                f"To go on with that one: %copilot_resume {former}"
            )
        return None

    def _gone(self, session: str) -> SessionNotFoundError:
        error = self._store.not_found(session)
        return SessionNotFoundError(
            f"This notebook is bound to {session}. {error.what}",
            f"Begin anew with %copilot_new, or bind another with %copilot_resume. {error.do}",
        )


class CellsAsking:
    """The ids of the notebook's cells that may ask a prompt, as last saved.

    Parameters
    ----------
    notebook : Notebook
        Whose file is read when an id is looked for.
    prompt : str
    """

    def __init__(self, notebook: Notebook, prompt: str) -> None:
        self._notebook = notebook
        self._prompt = normal(prompt)

    def __contains__(self, cell: object) -> bool:
        asked = self._notebook.saved().cells.get(str(cell))
        if asked is None:
            return False
        return not asked or self._prompt in map(normal, asked)  # of code nobody can tell


def saved_id(saved: Saved) -> str:
    """Return the notebook id that a file carries, "" if none."""
    return saved.bindings[-1].notebook_id if saved.bindings else ""
