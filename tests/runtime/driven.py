"""A process of its own that a test drives over its standard input: a line in, a line out."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from typing import Any

import pytest

#: The end of every script: what is told is done by the methods of `served`.
SERVE = """
import json, sys
from copilot_jupyter.errors import CopilotError

for line in sys.stdin:
    order, arguments = json.loads(line)
    try:
        said = {"value": getattr(served, order)(**arguments)}
    except CopilotError as error:
        said = {"error": type(error).__name__, "what": error.what, "do": error.do}
    except BaseException as error:
        said = {"error": repr(error), "what": "", "do": ""}
    print(json.dumps(said), flush=True)
"""


class Refused(Exception):
    """What the process raised."""

    def __init__(self, error: str, what: str, do: str) -> None:
        super().__init__(error, what, do)
        self.error, self.what, self.do = error, what, do


class Driven:
    """One process that runs a script and serves its object `served`.

    Parameters
    ----------
    script : str
    *arguments : str
        Of its command line.
    answer : float
        Seconds that an answer may take.
    """

    def __init__(self, script: str, *arguments: str, answer: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", script + SERVE, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._answer = answer
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line)

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, order: str, **arguments: Any) -> None:
        self.process.stdin.write(json.dumps([order, arguments]) + "\n")

    def reply(self, seconds: float | None = None) -> Any:
        said = json.loads(self._lines.get(timeout=self._answer if seconds is None else seconds))
        if "error" in said:
            raise Refused(**said)
        return said["value"]

    def __call__(self, order: str, **arguments: Any) -> Any:
        self.tell(order, **arguments)
        return self.reply()

    def ask(self, prompt: str) -> dict[str, Any]:
        said: dict[str, Any] = self("ask", prompt=prompt)
        return said

    def refused(self, order: str = "", **arguments: Any) -> Refused:
        """Return how an order is refused; without one, how the last that was told is."""
        if order:
            self.tell(order, **arguments)
        with pytest.raises(Refused) as caught:
            self.reply()
        return caught.value

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def end(self) -> None:
        if not self.process.stdin.closed:
            self.process.stdin.close()
        self.process.wait(10)
        self._reader.join(10)
        self.process.stdout.close()
