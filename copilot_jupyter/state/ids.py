"""What can name a session, and which name was meant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from copilot_jupyter.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Measured on runtime 1.0.102: one more character and its lock file's name is too long.
LONGEST_ID = 250
_ID = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_-]{{0,{LONGEST_ID - 1}}}")


def is_id(name: str) -> bool:
    """Whether the runtime takes this as the id of a session."""
    return _ID.fullmatch(name) is not None


def check_id(session_id: str) -> str:
    """Return `session_id` if it can name a session.

    Parameters
    ----------
    session_id : str
        What a person typed.

    Returns
    -------
    str
        The same id.

    Raises
    ------
    BadInputError
        If the runtime would refuse it (letters, digits, ``_`` and ``-``, 1 to 250 of
        them), or if it could be taken for a flag.
    """
    if is_id(session_id):
        return session_id
    shown = session_id if len(session_id) <= 60 else session_id[:57] + "..."
    if not session_id:
        what = "The session id is empty."
    elif len(session_id) > LONGEST_ID:
        what = f"The session id {shown!r} has {len(session_id)} characters; {LONGEST_ID} fit."
    else:
        what = f"{shown!a} cannot be a session id."
    raise BadInputError(
        what, "Use letters, digits, - and _, not beginning with -, such as ana-churn-model."
    )


def nearest(wanted: str, ids: Iterable[str]) -> list[str]:
    """Return up to three of `ids` that look like `wanted`."""
    import difflib

    ids = list(ids)
    by_lower: dict[str, str] = {i.lower(): i for i in reversed(ids)}
    close = difflib.get_close_matches(wanted.lower(), by_lower, n=3, cutoff=0.6)
    starts = [lower for lower in by_lower if wanted and lower.startswith(wanted.lower())]
    return [by_lower[lower] for lower in dict.fromkeys([*close, *starts])][:3]
