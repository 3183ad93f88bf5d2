"""What ``%load_ext`` adds to a shell that loads nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .bench import ROUNDS, run_script
from .table import Row, added

if TYPE_CHECKING:
    from .bench import Bench

TITLE = "Loading"


def rows(bench: Bench) -> list[Row]:
    """Time ``%load_ext`` in fresh processes, in turn with shells that load nothing."""
    del bench
    ours, bare = [], []
    for _ in range(ROUNDS):
        bare.append(run_script("shell.py")["seconds"])
        ours.append(run_script("shell.py", "copilot_jupyter")["seconds"])
    return [added("%load_ext", ours, bare, "bare IPython", 0.1)]
