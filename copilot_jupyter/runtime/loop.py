"""One private event loop on one thread, for everything that talks to the SDK.

A cell blocks the kernel's own loop while it runs, and the SDK's events would wait
behind it; on a loop of its own they flow (measured: 2 of 65 events arrived otherwise).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from copilot_jupyter.errors import SetupError, TurnInterrupted
from copilot_jupyter.interrupts import interruptible

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Coroutine

T = TypeVar("T")
logger = logging.getLogger(__name__)


class LoopThread:
    """An event loop on a daemon thread, started at first use.

    Whoever makes it closes it.
    """

    def __init__(self, name: str = "copilot-jupyter") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; the first use starts its thread.

        Raises
        ------
        SetupError
            If it was closed: what is kept from before starts nothing anew.
        """
        with self._lock:
            if self._closed:
                raise SetupError(
                    "This belongs to a copilot_jupyter that was unloaded.",
                    "Load it with %load_ext copilot_jupyter, and get it anew.",
                )
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_exception_handler(_log_only)
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            return self._loop

    @property
    def running(self) -> bool:
        """Whether the thread has been started."""
        return self._thread is not None

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine on the loop; the result is a future of any thread."""
        try:
            loop = self.loop
        except SetupError:
            work.close()
            raise
        return asyncio.run_coroutine_threadsafe(work, loop)

    def call(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine and wait for it; on the stop button it is cancelled.

        Parameters
        ----------
        work : coroutine
        timeout : float, optional
            Seconds; no limit by default.

        Raises
        ------
        TimeoutError
            If it took longer; it is cancelled then.
        TurnInterrupted
            On the stop button.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("waiting for the loop on its own thread would never end")
        future = self.submit(work)
        try:
            with interruptible():
                return future.result(timeout)
        except BaseException as error:
            future.cancel()
            if isinstance(error, KeyboardInterrupt):
                raise TurnInterrupted("Interrupted before it was done.") from None
            raise

    def close(self) -> None:
        """Stop the loop and its thread for good; safe to call twice."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5)
        if not loop.is_running():
            loop.close()

    def _run(self) -> None:
        loop = self._loop
        if loop is None:
            return
        asyncio.set_event_loop(loop)
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


def _log_only(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # Events of a runtime newer or older than the SDK can fail to parse (seen: shutdownType
    # 'destroy'). They are none of ours, and a kernel's stderr is the person's notebook.
    logger.debug("on the SDK's loop: %s", context.get("message"), exc_info=context.get("exception"))
