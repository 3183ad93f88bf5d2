"""Every error a person can meet, as one tree.

::

    CopilotError                 what happened, and what to do about it
    ├── BadInputError            something typed cannot be used
    ├── SessionError
    │   ├── SessionNotFoundError
    │   ├── SessionExistsError
    │   ├── SessionInUseError    somebody else is writing it
    │   ├── SessionTakenError    it was ours and was taken over
    │   ├── ReadOnlyError        this notebook only reads it
    │   └── SessionDamagedError  its files cannot be read
    ├── TurnError
    │   ├── NotAnsweredError     no stored answer, and none may be asked for
    │   ├── ProviderError        the model's side refused or failed
    │   ├── TurnStalledError     nothing came for too long
    │   ├── RuntimeDiedError     the Copilot runtime ended under the turn
    │   └── NotSavedError        the disk refused the turn
    └── SetupError
        ├── RuntimeMissingError  no Copilot runtime on this machine
        ├── NoProviderError      no model to talk to
        └── StateFolderError     the state folder cannot be used

    TurnInterrupted              the stop button (a KeyboardInterrupt)
    TurnCancelled                the end of a task that asked (a CancelledError)

Each carries two sentences: `what` happened, with the object's name in it, and
what to `do`. In a notebook they are the whole of the error output; set
``Copilot.full_tracebacks`` to see more.
"""

from __future__ import annotations

import asyncio


class CopilotError(Exception):
    """Something went wrong that a person can act on.

    Parameters
    ----------
    what : str
        What happened, naming the object it happened to.
    do : str
        The next step to take; may be empty where none exists.
    """

    #: Show Python's own traceback too; follows ``Copilot.full_tracebacks``.
    full_tracebacks = False

    def __init__(self, what: str, do: str = "") -> None:
        super().__init__(what, do)
        self.what = what
        self.do = do

    def __str__(self) -> str:
        return f"{self.what} {self.do}".rstrip()

    def _render_traceback_(self) -> list[str]:
        """Return the two lines IPython shows for this error."""
        lines = [f"{self.what}", f"{self.do}"]
        if CopilotError.full_tracebacks:
            import traceback

            lines = [*traceback.format_exception(self), *lines]
        return [line for line in lines if line]


class BadInputError(CopilotError):
    """Something typed cannot be used; nothing was done."""


class SessionError(CopilotError):
    """A session cannot be used as asked."""


class SessionNotFoundError(SessionError):
    """No session has this id."""


class SessionExistsError(SessionError):
    """A session has this id already."""


class SessionInUseError(SessionError):
    """Another kernel or terminal is writing this session."""


class SessionTakenError(SessionError):
    """The session was ours and another kernel took it over."""


class ReadOnlyError(SessionError):
    """The notebook reads the session and may not write it."""


class SessionDamagedError(SessionError):
    """The files of this session cannot be read."""


class TurnError(CopilotError):
    """A turn failed; the session is as if it had not been asked, unless a tool had effects."""


class NotAnsweredError(TurnError):
    """The conversation has no answer, and ``Copilot.replay`` is "only"."""


class ProviderError(TurnError):
    """The model's provider refused, failed or cut the answer.

    Parameters
    ----------
    what, do : str
        As in `CopilotError`.
    status : int or None
        The provider's HTTP status, where there was one.
    """

    def __init__(self, what: str, do: str = "", *, status: int | None = None) -> None:
        super().__init__(what, do)
        self.status = status


class TurnStalledError(TurnError):
    """The turn sent nothing for longer than ``Copilot.stall_timeout``."""


class RuntimeDiedError(TurnError):
    """The Copilot runtime ended in the middle of a turn."""


class NotSavedError(TurnError):
    """The turn could not be written to disk."""


class SetupError(CopilotError):
    """Something this machine needs is missing."""


class RuntimeMissingError(SetupError):
    """No Copilot runtime was found and none could be fetched."""


class NoProviderError(SetupError):
    """There is no model to talk to: no sign-in, no provider."""


class StateFolderError(SetupError):
    """The folder that holds the sessions cannot be used."""


class TurnInterrupted(KeyboardInterrupt):
    """The person stopped the turn.

    The session is as if it had not been asked, unless a tool has done something already.
    """

    def _render_traceback_(self) -> list[str]:
        """Return the one line IPython shows."""
        return [str(self) or "Copilot turn interrupted; nothing of it was kept in the session."]


class TurnCancelled(asyncio.CancelledError):
    """The task that awaited a turn was cancelled; otherwise as `TurnInterrupted`.

    A task may end with this only: a ``KeyboardInterrupt`` of it would end the kernel.
    """

    def _render_traceback_(self) -> list[str]:
        """Return the one line IPython shows."""
        return TurnInterrupted(*self.args)._render_traceback_()
