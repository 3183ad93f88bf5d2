"""What many kernels take: a Copilot runtime each, and one that they share.

Memory is PSS: what processes share is divided by its sharers.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from drivers import NotebookKernel, descendants

from copilot_jupyter.conversation import conversation

from .bench import SCRIPTS, Line
from .table import Row, mb, times
from .turns import ask_with_bare_sdk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .bench import Bench

TITLE = "Many kernels"
#: How many at once.
KERNELS = (1, 5, 10, 20)
#: Of the memory of private runtimes, that a shared one may take.
TARGET = 0.12
#: Seconds after the last turn when it is looked: what was let go by then counts for neither.
IDLE = conversation.SHARED_IDLE + 2 * conversation.HEARTBEAT
ROUNDS = 5


def rows(bench: Bench) -> list[Row]:
    """Compare one kernel's memory with that of others, and the runtimes of many."""
    private, shared = (dict(of_runtimes(mode)) for mode in ("private", "shared"))
    for label, found, is_ours in (("shared", shared, True), ("private", private, False)):
        points = [(count, size / 1e6) for count, size in found.items()]
        bench.lines.append(Line(label, points, is_ours))
    return [*of_one_kernel(bench), *(_compared(n, shared[n], private[n]) for n in KERNELS)]


def _compared(count: int, shared: int, private: int) -> Row:
    promised = count == KERNELS[-1]
    part = shared / private
    name = f"runtimes of {count} kernels, shared" if count > 1 else "runtime of 1 kernel, shared"
    target = times(TARGET) if promised else ""
    met = part <= TARGET or not promised
    return Row(name, mb(shared), mb(private), "private", times(part), target, met)


# -- one kernel ---------------------------------------------------------------------------------


def of_one_kernel(bench: Bench) -> list[Row]:
    """Compare a kernel that has loaded us with a bare one, and one that asked with the SDK."""
    found: dict[str, list[int]] = {"bare": [], "loaded": [], "ours": [], "sdk": []}
    for number in range(ROUNDS):
        path = bench.folder / f"memory-{number}.ipynb"
        with NotebookKernel(path, answers=[], env=bench.environment) as kernel:
            kernel.run("None").ok()
            found["bare"].append(pss(kernel.pid))
            kernel.run("%load_ext copilot_jupyter").ok()
            found["loaded"].append(pss(kernel.pid))
            kernel.run("%%copilot\nturn 0").ok()
            found["ours"].append(with_children(kernel))
        with NotebookKernel(answers=[], env=bench.environment) as kernel:
            ask_with_bare_sdk(kernel, "create", f"memory-{number}", "1", "3")
            found["sdk"].append(with_children(kernel))
    bare, loaded, ours, sdk = (statistics.median(sizes) for sizes in found.values())
    return [
        Row("a kernel, loaded", mb(loaded), mb(bare), "bare IPython", f"+{mb(loaded - bare)}"),
        Row("a kernel and its runtime, one turn", mb(ours), mb(sdk), "bare SDK", times(ours / sdk)),
    ]


def with_children(kernel: NotebookKernel) -> int:
    """Return the memory in bytes of a kernel and of all processes below it."""
    return sum(map(pss, [kernel.pid, *(process.pid for process in descendants(kernel.pid))]))


# -- many kernels -------------------------------------------------------------------------------


def of_runtimes(mode: str) -> Iterator[tuple[int, int]]:
    """Yield how many kernels there are, and the memory in bytes of the runtimes they use."""
    with contextlib.ExitStack() as stack:
        told: list[dict[str, str]] = []
        for count in KERNELS:
            more = range(len(told), count)
            told += [stack.enter_context(_kernel(mode, number)) for number in more]
            yield count, _of_their_runtimes(mode, told)


def _of_their_runtimes(mode: str, told: Sequence[dict[str, str]]) -> int:
    for number, said in enumerate(told):
        if not said["answer"].endswith(f"to: I am kernel {number}"):
            raise RuntimeError(f"kernel {number} got {said['answer']!r}")
    processes = {int(said["runtime"]) for said in told}
    if len(processes) != (len(told) if mode == "private" else 1):
        raise RuntimeError(f"{len(processes)} runtimes, {mode}")
    if mode == "shared":  # its keeper counts too
        processes |= {psutil.Process(pid).ppid() for pid in processes}
    time.sleep(IDLE)
    return sum(map(pss, processes))


@contextlib.contextmanager
def _kernel(mode: str, number: int) -> Iterator[dict[str, str]]:
    """Run one kernel's part in a process of its own, one turn, until the end of the block."""
    command = [sys.executable, str(SCRIPTS / "one_kernel.py"), mode, str(number)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"kernel {number} ended without an answer")
        yield json.loads(line)
        process.stdin.close()


def pss(pid: int) -> int:
    """Return the memory of a process in bytes, what it shares divided by its sharers."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no figures of process {pid}")
