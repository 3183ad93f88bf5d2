"""What the Copilot runtimes of many kernels take: one each, and one that they share."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from copilot_jupyter.conversation import conversation

from .table import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
KERNELS = 20
TARGET = 0.12
#: Seconds after the last turn when it is looked: what was let go by then counts for neither.
IDLE = conversation.SHARED_IDLE + 2 * conversation.HEARTBEAT


def rows() -> list[Row]:
    """Compare the memory of the runtimes of 20 kernels, each with a session and a turn."""
    private = of_kernels("private")
    shared = of_kernels("shared")
    part = shared / private
    name = f"memory of {KERNELS} kernels' runtimes, shared"
    figure = f"{part:.1%}"
    return [Row(name, mb(shared), mb(private), figure, f"{TARGET:.0%}", part <= TARGET)]


def of_kernels(mode: str) -> int:
    """Return the memory in bytes of the runtimes that `KERNELS` kernels use at once."""
    with contextlib.ExitStack() as stack:
        told = [stack.enter_context(kernel(mode, number)) for number in range(KERNELS)]
        for number, said in enumerate(told):
            if not said["answer"].endswith(f"to: I am kernel {number}"):
                raise RuntimeError(f"kernel {number} got {said['answer']!r}")
        processes = {int(said["runtime"]) for said in told}
        if len(processes) != (KERNELS if mode == "private" else 1):
            raise RuntimeError(f"{len(processes)} runtimes, {mode}")
        if mode == "shared":  # its keeper counts too
            processes |= {psutil.Process(pid).ppid() for pid in processes}
        time.sleep(IDLE)
        return sum(map(pss, processes))


@contextlib.contextmanager
def kernel(mode: str, number: int) -> Iterator[dict[str, str]]:
    """Run one kernel in a process of its own, one turn, until the end of the block."""
    command = [sys.executable, str(HERE / "one_kernel.py"), mode, str(number)]
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


def mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
