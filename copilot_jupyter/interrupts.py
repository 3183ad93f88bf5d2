"""The stop button while this thread is held: by ``input()``, by code, by a wait."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from copilot_jupyter.errors import TurnInterrupted

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let the stop button end an ``input()`` in an awaited cell too.

    There ipykernel hands the signal to the loop, which is blocked by the question.
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
