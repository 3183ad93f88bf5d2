"""What ends a thread that is held by ``input()``, by code, by a wait: the stop button, a limit."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from copilot_jupyter.errors import TurnInterrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let the stop button end what holds this thread, in an awaited cell too.

    There ipykernel hands the signal to its loop, which does not run meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def told_in_one_line() -> Iterator[None]:
    """Have the stop button, at a question to the person, say one line: no traceback.

    Raises
    ------
    TurnInterrupted
        Where it was pressed, or the terminal was left.
    """
    try:
        with interruptible():
            yield
    except (KeyboardInterrupt, EOFError):
        raise TurnInterrupted("Interrupted; nothing was done.") from None


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[Callable[[], bool]]:
    """Interrupt the block after a while; gives a function that says whether that happened.

    ``input()`` takes no timeout. Where there are no interval timers (Windows), and off the
    main thread, there is no limit.
    """
    over = threading.Event()
    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(signal, "setitimer"):
        yield over.is_set
        return

    def ring(_number: int, _frame: object) -> None:
        over.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ring)
    theirs = signal.setitimer(signal.ITIMER_REAL, min(seconds, 1e7))
    try:
        yield over.is_set
    finally:
        signal.setitimer(signal.ITIMER_REAL, *theirs)
        signal.signal(signal.SIGALRM, before)
