"""The same notebook with the magics of others: each in an environment of its own.

All of them ask the same scripted model on this machine, in the same run. The peers talk
straight to it; ours go through the Copilot runtime, whose start their first answer pays for.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from drivers import NotebookKernel

from .bench import run_script
from .memory import with_children
from .table import Row, difference, mb, seconds, times
from .turns import age
from .venvs import NotHereError, Venv, Weight, ours

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers import Cell, Result
    from scripted_model import Request

    from .bench import Bench

TITLE = "Other magics"
#: Loads, cold starts, and runs of the same cell.
ROUNDS = 5
#: Cells of the notebook that ask.
CELLS = 20
#: Of these a later turn is timed, and the one after the first ones says what the model sees.
WARM = 5


class Subject(NamedTuple):
    """What is measured: ours, or a peer.

    Parameters
    ----------
    name : str
    version : str
    requires : tuple of str
        What pip installs.
    extension : str
        What ``%load_ext`` loads.
    magic : str
        The first line of a cell that asks.
    """

    name: str
    version: str
    requires: tuple[str, ...]
    extension: str
    magic: str

    @property
    def title(self) -> str:
        """Its name and version."""
        return f"{self.name} {self.version}"


OURS = Subject("copilot-jupyter", "", (), "copilot_jupyter", "%%copilot")
PEERS = (
    Subject(
        "jupyter-ai-magics",
        "2.31.7",
        ("jupyter-ai-magics==2.31.7", "langchain-openai==0.3.35"),
        "jupyter_ai_magics",
        "%%ai openai-chat-custom:scripted",
    ),
    Subject(
        "jupyter-ai-magic-commands",
        "0.0.4",
        ("jupyter-ai-magic-commands==0.0.4",),
        "jupyter_ai_magic_commands",
        "%%ai openai/gpt-4o",  # it asks no model that its list does not have
    ),
    Subject(
        "cellmage",
        "0.9.7",
        ("cellmage==0.9.7", "langchain-openai==1.7.3"),
        "cellmage",
        "%%llm --model scripted",
    ),
)

Found = dict[str, float]


def rows(bench: Bench) -> list[Row]:
    """Measure ours and the peers in turn; a peer that is not to be had here says why."""
    bare = Venv("bare").weight()
    runners = [_Runner(subject, bench) for subject in (OURS, *PEERS)]
    steps = [_Runner.install, *[_Runner.start] * (ROUNDS + 1), _Runner.notebook]
    for step in steps:  # what else the machine does then meets all of them
        for runner in runners:
            runner.go(step)
    first, *theirs = runners
    if first.why:
        raise RuntimeError(first.why)
    of_ours = first.found(bare)
    return [
        row
        for peer in theirs
        for row in compared(of_ours, peer.why or peer.found(bare), peer.subject.title)
    ]


# -- what is compared ---------------------------------------------------------------------------


class Measure(NamedTuple):
    """One line: what it is called, how a number is written, how ours compares, what we promise."""

    key: str
    name: str
    text: Callable[[float], str]
    figure: Callable[[float, float], str]
    target: str = ""
    met: Callable[[float], bool] = lambda _: True


def _ratio(ours: float, theirs: float) -> str:
    return times(theirs / ours) if ours else ""


def _none(ours: float, theirs: float) -> str:
    del ours, theirs
    return ""


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _if_any(size: float) -> str:
    return mb(size) if size else "none"


def _is(promised: float) -> Callable[[float], bool]:
    return lambda value: value == promised


_SEEN = f"turn {WARM + 1} sees, of the {WARM} before"
_KEPT = f"after a restart, the next turn sees, of the {CELLS} before"
_ALL = f"restart, Run All of {CELLS} answered cells"

MEASURES = (
    Measure(
        "load", "%load_ext over bare IPython", difference, _ratio, "+100 ms", lambda s: s <= 0.1
    ),
    Measure("cold", "a kernel's start to its first answer", seconds, _ratio),
    Measure("later", "a later turn over an empty cell", difference, _ratio),
    Measure("again requests", "the same cell again: requests", _whole, _none, "0", _is(0)),
    Measure("again", "the same cell again: time", seconds, _ratio),
    Measure("seen", _SEEN, _whole, _none, "all", _is(WARM)),
    Measure("kept", _KEPT, _whole, _none, "all", _is(CELLS)),
    Measure("all requests", f"{_ALL}: requests", _whole, _none, "0", _is(0)),
    Measure("all", f"{_ALL}: time", seconds, _ratio),
    Measure("memory", "memory after a turn, of the kernel and what it started", mb, _ratio),
    Measure("packages", "packages beside ipykernel's", _whole, _ratio),
    Measure("size", "their size", mb, _ratio),
    Measure("runtime", "the Copilot runtime, fetched once", _if_any, _none),
)


def compared(ours: Found, theirs: Found | str, name: str) -> list[Row]:
    """Return the lines of one peer.

    Parameters
    ----------
    ours : dict
        What was measured of ours.
    theirs : dict or str
        The same of the peer, or why it was not run.
    name : str
        Of the peer.
    """
    lines = []
    for measure in MEASURES:
        one = ours[measure.key]
        if isinstance(theirs, str):
            baseline, figure = theirs, ""
        else:
            other = theirs[measure.key]
            baseline, figure = measure.text(other), measure.figure(one, other)
        text, met = measure.text(one), measure.met(one)
        lines.append(Row(measure.name, text, baseline, name, figure, measure.target, met))
    return lines


# -- measuring ----------------------------------------------------------------------------------


def _runtime(bench: Bench) -> int:
    """Return the bytes of the Copilot runtime: its program, and what lies beside it."""
    folder = Path(bench.environment["COPILOT_CLI_PATH"]).resolve().parent
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


class _Runner:
    """Runs one subject in kernels of its environment.

    Parameters
    ----------
    subject : Subject
    bench : Bench

    Attributes
    ----------
    why : str
        Why it could not be measured; "" as long as it could.
    """

    def __init__(self, subject: Subject, bench: Bench) -> None:
        self.subject, self.why = subject, ""
        self._bench = bench
        self._folder = bench.folder / subject.name
        self._folder.mkdir()
        self._asked = self._started = 0
        self._found: Found = {}
        self._times: dict[str, list[float]] = {"bare": [], "load": [], "cold": [], "memory": []}
        self._env = {
            **bench.environment,
            "HOME": str(self._folder),
            **dict.fromkeys(("OPENAI_API_KEY", "CELLMAGE_API_KEY"), "none"),
            **dict.fromkeys(
                ("OPENAI_API_BASE", "OPENAI_BASE_URL", "CELLMAGE_API_BASE"), bench.model.base_url
            ),
            # Its list of prices is a file of its own, else fetched at every import.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }

    def go(self, step: Callable[[_Runner], None]) -> None:
        """Take a step, unless an earlier one failed."""
        if self.why:
            return
        try:
            step(self)
        except (NotHereError, AssertionError, RuntimeError, OSError) as error:
            print(f"{self.subject.title}: {error}", file=sys.stderr)
            first = next(iter(str(error).splitlines()), type(error).__name__)
            self.why = f"not run: {first[:80]}"

    def found(self, bare: Weight) -> Found:
        """Return everything, under the keys of `MEASURES`; the first start filled caches."""
        medians = {name: statistics.median(times[1:]) for name, times in self._times.items()}
        weight = self._venv.weight()
        return {
            **self._found,
            **medians,
            "load": medians["load"] - medians["bare"],
            "packages": weight.packages - bare.packages,
            "size": weight.size - bare.size,
            "runtime": _runtime(self._bench) if self.subject is OURS else 0,
        }

    # -- the steps -----------------------------------------------------------------------------

    def install(self) -> None:
        """Make the environment, unless it is there."""
        subject = self.subject
        self._venv = (
            ours()
            if subject is OURS
            else Venv(f"{subject.name}-{subject.version}", *subject.requires)
        )

    def start(self) -> None:
        """Time ``%load_ext`` in a fresh process, and a kernel from its start to an answer."""
        self._times["bare"].append(self._shell())
        self._times["load"].append(self._shell(self.subject.extension))
        self._started += 1
        with self._kernel(f"start-{self._started}.ipynb") as kernel:
            self._load(kernel)
            self._ask(kernel)
            self._times["cold"].append(age(kernel.pid))
            self._times["memory"].append(with_children(kernel))

    def _shell(self, *extension: str) -> float:
        python = self._venv.python
        said = run_script("shell.py", *extension, python=python, cwd=self._folder, env=self._env)
        return float(said["seconds"])

    def notebook(self) -> None:
        """Ask, ask the same again, restart, run all, restart, ask on; in one notebook."""
        found = self._found
        with self._kernel("notebook.ipynb") as kernel:
            self._load(kernel)
            results = [self._ask(kernel) for _ in range(CELLS)]
            found["seen"] = self._seen(self._bench.model.requests[WARM - CELLS])
            empty = statistics.median(kernel.run("None").ok().elapsed for _ in range(CELLS - WARM))
            del kernel.cells[WARM - CELLS :]
            found["later"] = statistics.median(r.elapsed for r in results[WARM:]) - empty
            last = results[-1].cell
            found["again requests"], runs = self._requests(
                lambda: [kernel.run_cell(last).ok() for _ in range(ROUNDS)]
            )
            found["again"] = statistics.median(run.elapsed for run in runs)
            kernel.save()
            kernel.restart()
            found["all requests"], runs = self._requests(
                lambda: [result.ok() for result in kernel.run_all()]
            )
            found["all"] = max(run._began + run.elapsed for run in runs) - runs[0]._began
            kernel.save()
            kernel.restart()
            self._load(kernel, kernel.cells[0])
            self._ask(kernel)
            found["kept"] = self._seen(self._bench.model.requests[-1])
        found["again requests"] /= ROUNDS

    def _kernel(self, name: str) -> NotebookKernel:
        path = self._folder / name
        return NotebookKernel(path, answers=[], env=self._env, python=self._venv.python)

    def _load(self, kernel: NotebookKernel, cell: Cell | None = None) -> None:
        kernel.run(f"%load_ext {self.subject.extension}", cell).ok()

    def _ask(self, kernel: NotebookKernel) -> Result:
        """Ask something new; a magic may print its error and end well, so look for the request."""
        self._asked += 1
        source = f"{self.subject.magic}\nQuestion {self._asked}, please."
        count, [result] = self._requests(lambda: [kernel.run(source).ok()])
        if count != 1:
            raise NotHereError(f"a prompt became {count} requests: {result.everything[-300:]}")
        return result

    def _requests(self, run: Callable[[], list[Result]]) -> tuple[int, list[Result]]:
        """Run cells; return how many requests the model got meanwhile."""
        before = len(self._bench.model.requests)
        results = run()
        return len(self._bench.model.requests) - before, results

    @staticmethod
    def _seen(request: Request) -> int:
        """Return how many exchanges of before a request holds, told by their answers."""
        return len(set(re.findall(r"Answer (\d+) to:", json.dumps(request.body))))
