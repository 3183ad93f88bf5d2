"""Code of others, such as a ``__repr__``, run so that it can neither raise nor hang a turn.

It runs in a thread that is waited for a second, then told to stop and left behind. A signal
would do without the thread, but belongs to the person's own code, and exists neither on
Windows nor off the main thread.
"""

from __future__ import annotations

import contextvars
import threading
import time
from typing import TYPE_CHECKING, Any

from copilot_jupyter.conversation.stored.question import ADDRESS

if TYPE_CHECKING:
    from collections.abc import Callable

#: Characters of a text that are looked at; a view shows far fewer.
_LONGEST = 100_000


class TooSlowError(Exception):
    """The code took longer than it may."""


class FailedError(Exception):
    """The code raised; the message names what."""


class _Stop(SystemExit):
    """Raised in the thread left behind; `threading` says nothing about a SystemExit."""


class Clock:
    """The time that the code of others has in one view.

    Parameters
    ----------
    seconds : float
        For all calls together.
    """

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self._left = seconds

    @property
    def over(self) -> bool:
        """Whether no time is left."""
        return self._left <= 0

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function returns.

        Raises
        ------
        TooSlowError
            If the time is up. The thread ends at its next line of Python; one that waits in
            C code stays, as a daemon, until that returns.
        FailedError
            If the function raised anything at all.
        """
        if self.over:
            raise TooSlowError
        done = threading.Event()
        outcome: list[tuple[Any, BaseException | None]] = []

        def run() -> None:
            try:
                outcome.append((function(*arguments), None))
            except BaseException as error:  # noqa: BLE001 -- a repr may raise SystemExit
                outcome.append((None, error))
            finally:
                done.set()

        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(run,), name="view", daemon=True)
        began = time.monotonic()
        thread.start()
        try:
            done.wait(self._left)
        finally:
            self._left -= time.monotonic() - began
            # Once: it may end while it is being stopped.
            ended = outcome[:]
            if not ended:
                _stop(thread)
        if not ended:
            self._left = 0
            raise TooSlowError
        result, error = ended[0]
        if error is not None:
            raise FailedError(_named(error)) from None
        return result

    def text(self, function: Callable[[Any], str], value: object, what: str = "repr") -> str:
        """Return a text about a value, addresses masked, or why there is none.

        Parameters
        ----------
        function : callable
            Such as `repr`.
        value : object
        what : str
            What the function is called in the text.
        """
        try:
            # A subclass of str may lie about its length.
            text = str.__str__(self.call(function, value))
        except TooSlowError:
            return f"<its {what} took longer than {self.seconds:g} s>"
        except FailedError as error:
            text = f"<its {what} raised {error}>"
        except TypeError:
            return f"<its {what} is no text>"
        rest = len(text) - _LONGEST
        text = ADDRESS.sub("0x…", text[:_LONGEST])
        return f"{text}… ({rest:,} more characters)" if rest > 0 else text


def _stop(thread: threading.Thread) -> None:
    import ctypes  # here: most views need none

    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(_Stop)
        )


def _named(error: BaseException) -> str:
    """Return an error in one line; its own message is code of others as well."""
    name = type.__dict__["__name__"].__get__(type(error))
    if type(error).__str__ in (BaseException.__str__, Exception.__str__) and all(
        type(argument) in (str, int, float) for argument in error.args
    ):
        message = " ".join(str(error)[:500].split())[:100]
        return f"{name}: {message}" if message else name
    return str(name)
