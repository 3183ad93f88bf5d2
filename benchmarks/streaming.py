"""A long answer that streams into a real JupyterLab: what is sent, and what the page feels.

Needs a Chromium, as the tests in a browser do.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

from browser.lab import Browser, Lab
from scripted_model import Reply

from .table import Row, times, within

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripted_model import ScriptedModel

    from .bench import Bench

TITLE = "A long answer in JupyterLab"
#: Answers that are watched; each takes five seconds.
ROUNDS = 5
#: Characters of the answer, and deltas a second.
LENGTH = 50_000
RATE = 200

PARAGRAPH = """\
## Part {n}

Generics let a type *stay open*; the **caller** closes it, see `first` and [a page](http://e.example).
With $x_{n}$ terms the cost is $O(n \\log n)$.

```python
def mean_{n}(frame: pd.DataFrame, column: str = "age") -> float:
    \"\"\"Return a mean.\"\"\"
    return frame[column].mean() if len(frame) > 0 else 0.5
```

| model | F1 |
|---|---:|
| forest {n} | 0.91 |

- one more thing
- and another, which is longer than the first by some words

"""

#: The page's longest task in milliseconds, for which it answers nobody (the Long Tasks API names
#: those over 50), and when the last words were there.
CLOCK = """cell => {
    const clock = window.clock = { longest: 0, ended: 0 };
    const output = document.querySelectorAll('.jp-Notebook .jp-Cell')[cell]
        .querySelector('.jp-Cell-outputWrapper');
    clock.tasks = new PerformanceObserver(list => {
        for (const task of list.getEntries())
            clock.longest = Math.max(clock.longest, task.duration);
    });
    clock.tasks.observe({ type: 'longtask' });
    const timer = setInterval(() => {
        if (!output.textContent.includes('THE END')) return;
        clock.ended = Date.now();
        clearInterval(timer);
    }, 10);
}"""

#: Seconds for what a front end does with an output afterwards: formulas, the table of contents.
AFTERWARDS = 2

#: The least that a notebook can do with an answer: print it as it comes.
PRINTED = """\
for part in parts:
    print(part, end="", flush=True)
    time.sleep(1 / RATE)
print("\\nended", time.time())"""


class Seen(NamedTuple):
    """One streamed answer as the page had it: seconds, and bytes of all messages to the page."""

    lag: float
    longest: float
    took: float
    sent: int
    frames: int


def text(length: int = LENGTH) -> str:
    """Return an answer as models write them: headings, code, tables, formulas."""
    parts: list[str] = []
    while sum(map(len, parts)) < length:
        parts.append(PARAGRAPH.replace("{n}", str(len(parts))))
    return "".join(parts)[: length - 20] + "\n\nTHE END"


class Streaming:
    """A notebook that is watched while its cells run."""

    def __init__(self, browser: Browser, lab: Lab, *sources: str) -> None:
        lab.write("Streaming.ipynb", "%load_ext copilot_jupyter", *sources)
        self.page = browser.open(lab, "Streaming.ipynb")
        self._sent: list[int] = []
        self.page.page.on("websocket", lambda socket: socket.on("framereceived", self._note))
        self.page.reload()  # its sockets are opened anew, and seen
        self.page.run(0)

    def _note(self, frame: str | bytes) -> None:
        self._sent.append(len(frame) if isinstance(frame, bytes) else len(frame.encode()))

    def watch(self, cell: int, ended: Callable[[], float]) -> Seen:
        """Run a cell; `ended` returns when its last delta came."""
        self.page.evaluate(CLOCK, cell)
        self._sent.clear()
        began = time.time()
        handle = self.page.run(cell, wait=False)
        self.page._wait("() => window.clock.ended", 150, "the last words")
        self.page.wait_done(cell, 120, handle)
        time.sleep(AFTERWARDS)
        self.page.evaluate("() => window.clock.tasks.disconnect()")
        clock = self.page.evaluate("() => window.clock")
        at = clock["ended"] / 1000
        sent = sum(self._sent)
        return Seen(at - ended(), clock["longest"] / 1000, at - began, sent, len(self._sent))


def printed(streaming: Streaming, cell: int) -> Seen:
    """Watch the same text come from ``print``, which says itself when it had ended."""
    ended: list[float] = []

    def when() -> float:
        ended.append(float(streaming.page.text(cell).rpartition("ended ")[2]))
        return ended[0]

    return streaming.watch(cell, when)


def answered(
    streaming: Streaming, model: ScriptedModel, cell: int, *, chunk: int, rate: int = RATE
) -> Seen:
    """Watch an answer of `LENGTH` characters come, `chunk` characters a delta."""
    ended: list[float] = []
    note = lambda: ended.append(time.time())  # noqa: E731 -- shorter than its name
    model.will(Reply(text(), chunk=chunk, pause=1 / rate, last=note))
    return streaming.watch(cell, ended.pop)


def rows(bench: Bench) -> list[Row]:
    """Return what a page feels of a long answer, over a cell that prints the same text."""
    chunk = LENGTH // 1000
    setup = f"import time\nparts = {[text()[at : at + chunk] for at in range(0, LENGTH, chunk)]!r}"
    prints = PRINTED.replace("RATE", str(RATE))
    asking = [f"%%copilot\nask {number}" for number in range(ROUNDS + 1)]
    with Browser() as browser, Lab(bench.folder / "lab", env=bench.environment) as lab:
        streaming = Streaming(browser, lab, setup, *asking, *[prints] * ROUNDS)
        streaming.page.run(1)
        answered(streaming, bench.model, 2, chunk=LENGTH)  # warm
        cells = range(3, ROUNDS + 3)
        ours = [answered(streaming, bench.model, cell, chunk=chunk) for cell in cells]
        bare = [printed(streaming, cell + ROUNDS) for cell in cells]
    sent = statistics.median(seen.sent for seen in ours)
    of = statistics.median(seen.sent for seen in bare)
    against = "print()"
    return [
        within(
            "50 kB: shown after the last words came",
            [seen.lag for seen in ours],
            [seen.lag for seen in bare],
            against,
            1.5,
        ),
        within(
            "50 kB: the page's longest task",
            [seen.longest for seen in ours],
            [seen.longest for seen in bare],
            against,
            0.2,
        ),
        Row(
            "50 kB: sent to the page",
            f"{sent / 1e6:.1f} MB",
            f"{of / 1e6:.1f} MB",
            against,
            times(sent / of),
            "4.0 MB",
            sent <= 4e6,
        ),
    ]
