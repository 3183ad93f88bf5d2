"""How a notebook holds a conversation."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Terms:
    """How a notebook holds a conversation.

    Parameters
    ----------
    who : str
        The notebook's name, for the person who meets our lock.
    folder : str
        Working directory of the session.
    metadata : dict
        Client metadata that ties the session to the notebook.
    create : bool
        Make the session at the first turn if it does not exist.
    take_over : bool
        Take the session from a live owner, once.
    read_only : bool
        Never ask.
    """

    who: str = ""
    folder: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    create: bool = False
    take_over: bool = False
    read_only: bool = False
