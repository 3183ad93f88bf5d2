"""A turn that is asked: a later one, the first one of a kernel, and the first after a restart."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from drivers import NotebookKernel

from .bench import ROUNDS, SCRIPTS, run_script
from .table import Row, difference, ratio, seconds
from .venvs import ours as our_environment

if TYPE_CHECKING:
    from .bench import Bench

TITLE = "Asking"
TURNS = 20


def rows(bench: Bench) -> list[Row]:
    """Time turns in kernels against the SDK's own, in a script and in a cell.

    In an environment of its own, as ``pip install`` makes it: imports count, and the extras
    that this one has for its tests are not what most people have.
    """
    python = our_environment().python
    return [later(bench), first(bench, python), *restart(bench, python)]


def later(bench: Bench) -> Row:
    """Time later turns against the SDK's own; an empty cell takes what a kernel takes."""
    bare = run_script("bare_sdk.py", "create", "bare-later", str(TURNS + 1))["turns"][1:]
    with NotebookKernel(bench.folder / "later.ipynb", answers=[], env=bench.environment) as kernel:
        kernel.run("%load_ext copilot_jupyter").ok()
        kernel.run("%%copilot\nwarm up").ok()
        empty = [kernel.run("None").ok().elapsed for _ in range(TURNS)]
        ours = [kernel.run(f"%%copilot\nturn {n}").ok().elapsed for n in range(TURNS)]
    one, other = statistics.median(ours) - statistics.median(empty), statistics.median(bare)
    name = "a later turn, less an empty cell"
    more, met = difference(one - other), one - other <= 0.025
    return Row(name, seconds(one), seconds(other), "bare SDK", more, "+25.0 ms", met)


def first(bench: Bench, python: str) -> Row:
    """Time the first turn of a kernel that runs, in a new session, imports included."""
    ours, bare = [], []
    for number in range(ROUNDS):
        path = bench.folder / f"first-{number}.ipynb"
        with NotebookKernel(path, answers=[], env=bench.environment, python=python) as kernel:
            kernel.run("%load_ext copilot_jupyter").ok()
            ours.append(kernel.run("%%copilot\nturn 0").ok().elapsed)
        with NotebookKernel(answers=[], env=bench.environment, python=python) as kernel:
            kernel.run("None").ok()
            began = time.monotonic()
            ask_with_bare_sdk(kernel, "create", f"bare-first-{number}")
            bare.append(time.monotonic() - began)
    return ratio("the first turn of a kernel", ours, bare, "bare SDK in a cell")


def restart(bench: Bench, python: str) -> list[Row]:
    """Time from the start of a process to the first answer of a resumed session.

    Against a script with the bare SDK, which needs no kernel to start, and against the bare
    SDK in a cell, which does.
    """
    run_script("bare_sdk.py", "create", "restart", "4")
    bare, in_cell, ours = [], [], []
    for _ in range(ROUNDS):
        bare.append(resumed_in_script("restart", python))
        in_cell.append(resumed_in_cell(bench, "restart", python))
        ours.append(resumed_by_us(bench, "restart", python))
    return [
        ratio("restart to first answer", ours, in_cell, "bare SDK in a cell", 1.3),
        ratio("restart to first answer", ours, bare, "bare SDK in a script"),
        # What a kernel alone adds: nothing in a notebook comes closer to a script than this.
        ratio("the same, bare SDK in a cell", in_cell, bare, "bare SDK in a script"),
    ]


def ask_with_bare_sdk(kernel: NotebookKernel, *arguments: str) -> None:
    """Ask with the bare SDK in a cell; wait for the answer, and not for the client's end."""
    source = (SCRIPTS / "bare_sdk.py").read_text().rpartition("\n\n")[0]
    told = kernel.start(f"{source}\n\nawait main(*{arguments!r})")
    kernel.wait_for_text("turns", told)


def resumed_in_script(session: str, python: str) -> float:
    """Return the seconds from the start of a process to the bare SDK's first answer."""
    command = [python, str(SCRIPTS / "bare_sdk.py"), "resume", session]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or not process.stdout.readline():
            raise RuntimeError("the bare SDK gave no answer")
        return age(process.pid)


def resumed_in_cell(bench: Bench, session: str, python: str = sys.executable) -> float:
    """Return the seconds from the start of a kernel to the bare SDK's first answer in a cell."""
    with NotebookKernel(answers=[], env=bench.environment, python=python) as kernel:
        ask_with_bare_sdk(kernel, "resume", session)
        return age(kernel.pid)


def resumed_by_us(bench: Bench, session: str, python: str = sys.executable) -> float:
    """Return the seconds from the start of a kernel to its first answer."""
    path = bench.folder / f"{time.time_ns()}.ipynb"
    with NotebookKernel(path, answers=[], env=bench.environment, python=python) as kernel:
        kernel.run(f"%load_ext copilot_jupyter\n%copilot_resume {session}").ok()
        kernel.run(f"%%copilot\nWhat were we discussing? ({time.time_ns()})").ok()
        return age(kernel.pid)


def age(pid: int) -> float:
    """Return how long a process has run, in seconds; by Linux's own clock, to 10 ms."""
    started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - started / os.sysconf("SC_CLK_TCK")
