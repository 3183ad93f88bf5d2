"""Ratios against the bare SDK and bare IPython, both in one run on this machine.

Run with ``make bench``. Each figure is a median of at least five; the model is scripted
and answers at once, so that what is timed is everything but the model.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from drivers import NotebookKernel
from scripted_model import ScriptedModel

from copilot_jupyter.runtime.locate import ensure_runtime

from . import memory, replay, streaming, views
from .table import Row, ms, row

HERE = Path(__file__).parent
ROUNDS = 7
TURNS = 20


def main() -> int:
    """Measure, print the table, and return 1 where a target is missed."""
    program = str(ensure_runtime(print))
    with ScriptedModel() as model, tempfile.TemporaryDirectory() as folder:
        environment = {
            **model.environment(),
            "COPILOT_HOME": f"{folder}/home",
            "COPILOT_CLI_PATH": program,
        }
        os.environ.update(environment)
        rows = [
            load(),
            *turns(environment, Path(folder)),
            *restart(environment, Path(folder)),
            *replay.cells(environment, Path(folder)),
            *replay.finding(Path(folder)),
            *replay.rebuilding(Path(folder)),
            *streaming.rows(environment, Path(folder)),
            *views.frames(),
            *memory.rows(),
        ]
    width = max(len(line.name) for line in rows)
    print(f"{'what':<{width}}  {'ours':>9}  {'baseline':>9}  {'figure':>9}  target")
    for name, ours, baseline, figure, target, met in rows:
        mark = "" if met else "  MISSED"
        print(f"{name:<{width}}  {ours:>9}  {baseline:>9}  {figure:>9}  {target}{mark}")
    return 0 if all(line.met for line in rows) else 1


def load() -> Row:
    """Time ``%load_ext`` against a shell that loads nothing."""
    bare = [run_script("shell.py")["seconds"] for _ in range(ROUNDS)]
    ours = [run_script("shell.py", "copilot_jupyter")["seconds"] for _ in range(ROUNDS)]
    added = statistics.median(ours) - statistics.median(bare)
    return row("%load_ext over bare IPython", ours, bare, f"+{ms(added)}", "+100 ms", added < 0.1)


def turns(environment: dict[str, str], folder: Path) -> list[Row]:
    """Time later turns in a kernel against the SDK's own, and against an empty cell."""
    bare = run_script("bare_sdk.py", "turns", f"bench-{time.time_ns()}", str(TURNS))["turns"]
    with NotebookKernel(path=folder / "bench.ipynb", answers=[], env=environment) as kernel:
        kernel.run("%load_ext copilot_jupyter").ok()
        kernel.run("%%copilot\nwarm up").ok()
        empty = [kernel.run("None").ok().elapsed for _ in range(TURNS)]
        ours = [kernel.run(f"%%copilot\nturn {n}").ok().elapsed for n in range(TURNS)]
    added = statistics.median(ours) - statistics.median(empty) - statistics.median(bare)
    return [row("a turn over the SDK's own", ours, bare, f"+{ms(added)}", "+25 ms", added < 0.025)]


def restart(environment: dict[str, str], folder: Path) -> list[Row]:
    """Time from the start of a process to the first answer of a resumed session.

    Against a script with the bare SDK, which needs no kernel to start, and against the bare
    SDK in a cell, which does.
    """
    session = f"bench-{time.time_ns()}"
    run_script("bare_sdk.py", "turns", session, "3")
    bare, in_cell, ours = [], [], []
    for _ in range(ROUNDS):
        bare.append(resumed(session))
        in_cell.append(resumed_in_cell(session, environment))
        ours.append(restarted(session, environment, folder))
    return [
        ratio("restart to first answer, over a script", ours, bare),
        ratio("restart to first answer, over a cell", ours, in_cell),
    ]


def ratio(name: str, ours: list[float], baseline: list[float]) -> Row:
    """Return a line that compares two medians."""
    times = statistics.median(ours) / statistics.median(baseline)
    return row(name, ours, baseline, f"x {times:.2f}", "x 1.30", times < 1.3)


def resumed(session: str) -> float:
    """Return the seconds from the start of a process to the bare SDK's first answer."""
    command = [sys.executable, str(HERE / "bare_sdk.py"), "resume", session]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or not process.stdout.readline():
            raise RuntimeError("the bare SDK gave no answer")
        return age(process.pid)


def resumed_in_cell(session: str, environment: dict[str, str]) -> float:
    """Return the seconds from the start of a kernel to the bare SDK's first answer in a cell."""
    source = (HERE / "bare_sdk.py").read_text().rpartition("\n\n")[0]
    with NotebookKernel(answers=[], env=environment) as kernel:
        kernel.run(source).ok()
        told = kernel.start(f"await main('resume', {session!r})")
        kernel.wait_for_text("turns", told)
        return age(kernel.pid)


def restarted(session: str, environment: dict[str, str], folder: Path) -> float:
    """Return the seconds from the start of a kernel's process to its first answer."""
    path = folder / f"{time.time_ns()}.ipynb"
    with NotebookKernel(path=path, answers=[], env=environment) as kernel:
        kernel.run(f"%load_ext copilot_jupyter\n%copilot_resume {session}").ok()
        kernel.run(f"%%copilot\nWhat were we discussing? ({time.time_ns()})").ok()
        return age(kernel.pid)


def age(pid: int) -> float:
    """Return how long a process has run, in seconds; by Linux's own clock, to 10 ms."""
    started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - started / os.sysconf("SC_CLK_TCK")


def run_script(name: str, *arguments: str) -> dict[str, list[float]]:
    """Run one of the scripts beside this file in a process of its own; return what it says."""
    done = subprocess.run(
        [sys.executable, str(HERE / name), *arguments], capture_output=True, check=True, text=True
    )
    value: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return value


if __name__ == "__main__":
    sys.exit(main())
