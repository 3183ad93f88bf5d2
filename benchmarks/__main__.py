"""Measure and print: ``python -m benchmarks [NAME...] [--write]``.

Every time is a median, of five at least. The exit status is 1 where a target is missed, or
where something could not be measured.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from typing import TYPE_CHECKING

from copilot_jupyter.runtime.fetch import ensure_runtime

from . import load, long, memory, page, peers, replay, sessions, streaming, turns, views
from .bench import bench
from .table import as_text, listed, side_by_side

if TYPE_CHECKING:
    from types import ModuleType

    from .table import Cells, Row

#: In the order of the page; each has a `TITLE`, and `rows` that measures.
GROUPS = {
    module.__name__.rpartition(".")[2]: module
    for module in (load, turns, replay, long, sessions, streaming, views, memory, peers)
}


def main(arguments: list[str] | None = None) -> int:
    """Measure the groups that were named, all by default; print each as it is done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(GROUPS))
    parser.add_argument("--write", action="store_true", help=f"write {page.PAGE.name} too")
    chosen = parser.parse_args(arguments)
    if unknown := [name for name in chosen.names if name not in GROUPS]:
        parser.error(f"there is no group {unknown[0]}; there are {', '.join(GROUPS)}")
    program = str(ensure_runtime(print))
    is_good = True
    for name in chosen.names or GROUPS:
        is_good &= run(GROUPS[name], program, writes=chosen.write)
    return 0 if is_good else 1


def run(group: ModuleType, program: str, *, writes: bool) -> bool:
    """Measure and print one group; return whether it was measured and met its targets."""
    name = group.__name__.rpartition(".")[2]
    began = time.monotonic()
    try:
        with bench(program) as where:
            rows = group.rows(where)
    except Exception:  # noqa: BLE001 -- the other groups are measured all the same
        print(f"\n{group.TITLE} ({name}): not measured", flush=True)
        traceback.print_exc()
        return False
    took = time.monotonic() - began
    print(f"\n{group.TITLE} ({name}, {took:.0f} s)\n{as_text(cells(group, rows))}", flush=True)
    if writes:
        page.write(name, cells(group, rows), where.lines, took)
    return all(row.met for row in rows)


def cells(group: ModuleType, rows: list[Row]) -> Cells:
    """Return the table of a group; peers stand side by side."""
    return side_by_side(rows) if group is peers else listed(rows)


if __name__ == "__main__":
    sys.exit(main())
