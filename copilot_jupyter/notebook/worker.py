"""Threads for work that must not hold up a kernel's own."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

#: Seconds without work after which the thread ends.
IDLE = 10.0


class Worker:
    """One thread for one kind of work, there while there is any.

    Parameters
    ----------
    name : str
        Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def do(self, work: Callable[[], None]) -> None:
        """Do something after what is waiting already."""
        with self._lock:
            self._work.put(work)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End after what is waiting already; what comes later is not done."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception:
                logger.exception("on the thread %s", self._name)

    def _next(self) -> Callable[[], None] | None:
        """Return what is to be done next, None where the thread is to end."""
        try:
            return self._work.get(timeout=IDLE)
        except queue.Empty:
            pass
        with self._lock:  # what is asked for from now on finds no thread, and starts one
            if self._work.empty():
                self._thread = None
                return None
        return self._work.get()
