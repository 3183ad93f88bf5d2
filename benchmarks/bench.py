"""Where a group measures: a state folder of its own, a scripted model, the real runtime."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from scripted_model import ScriptedModel

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(__file__).parent / "scripts"
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Variables that say who somebody is, and how they like their own sessions.
_PERSONAL = ("COPILOT_", "GH_", "GITHUB_", "JPY_")

#: How often something is timed, unless it takes too long.
ROUNDS = 7


class Line(NamedTuple):
    """One line of a plot.

    Parameters
    ----------
    label : str
    points : list of (float, float)
    is_ours : bool
    """

    label: str
    points: list[tuple[float, float]]
    is_ours: bool


@dataclass
class Bench:
    """What a group measures with.

    Parameters
    ----------
    folder : Path
        Empty at first.
    model : ScriptedModel
        Answers at once: what is timed is everything but the model.
    environment : dict
        Of kernels and scripts: the model, the state folder, the runtime's program.
    lines : list of Line
        What the group found out about cost and size, for the plot.
    """

    folder: Path
    model: ScriptedModel
    environment: dict[str, str]
    lines: list[Line] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """The state folder."""
        return Path(self.environment["COPILOT_HOME"])


@contextlib.contextmanager
def bench(program: str) -> Iterator[Bench]:
    """Set everything up for one group; this process has the same environment meanwhile.

    Parameters
    ----------
    program : str
        The runtime.
    """
    before = dict(os.environ)
    with ScriptedModel() as model, tempfile.TemporaryDirectory() as folder:
        environment = {
            **model.environment(),
            "COPILOT_HOME": f"{folder}/home",
            "COPILOT_CLI_PATH": program,
        }
        for name in [name for name in before if name.startswith(_PERSONAL)]:
            del os.environ[name]
        os.environ.update(environment)
        try:
            yield Bench(Path(folder), model, environment)
        finally:
            os.environ.clear()
            os.environ.update(before)


def run_script(
    name: str,
    *arguments: str,
    python: str = sys.executable,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run one of the scripts in a process of its own; return what it says.

    Parameters
    ----------
    name : str
    *arguments : str
    python : str, optional
        Another environment's.
    cwd : Path, optional
    env : mapping, optional
        Variables over those of this process.

    Returns
    -------
    dict
        The JSON of its last line.
    """
    done = subprocess.run(
        [python, str(SCRIPTS / name), *arguments],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise RuntimeError(f"{' '.join([name, *arguments])}: {last}\n{done.stderr}")
    value: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return value
