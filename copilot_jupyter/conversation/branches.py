"""Branches of a session: one is made, and where one came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copilot_jupyter.state.metadata import BRANCH_OF

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copilot_jupyter.state.store import Store


def make_branch(
    store: Store, session: str, kind: str, metadata: dict[str, str] | None = None
) -> str:
    """Copy a session under a free id that says where it comes from; return the id.

    Parameters
    ----------
    store : Store
    session : str
    kind : str
        Stands in the id behind the session's own, such as "fork" or "copy".
    metadata : dict, optional
        Client metadata of the branch.

    Raises
    ------
    SessionNotFoundError, StateFolderError
    """
    branch = store.free_id(f"{session}-{kind}")
    store.fork(session, branch, metadata=metadata)
    return branch


def ancestors(store: Store, session: str) -> Iterator[str]:
    """Yield the sessions that a branch left, nearest first."""
    seen = {session}
    while parent := store.client_metadata(session).get(BRANCH_OF):
        if parent in seen:
            return
        seen.add(parent)
        yield parent
        session = parent
