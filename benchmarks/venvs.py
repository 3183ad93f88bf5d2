"""Environments of their own, for peers and for ours: made once, kept in the cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from fetched import CACHE

from .bench import ROOT, run_script

if TYPE_CHECKING:
    from pathlib import Path

#: What every environment has, and nothing else has to have: the bare one.
BASE = ("ipykernel==7.4.0", "ipython==9.18.1")
#: Seconds that an installation may take: a hundred packages come from the registry.
PATIENCE = 600


class NotHereError(Exception):
    """Something cannot be installed or run on this machine; says why."""


class Weight(NamedTuple):
    """What is installed in an environment, without pip and without compiled files.

    Parameters
    ----------
    packages : int
    size : int
        In bytes.
    """

    packages: int
    size: int


class Venv:
    """A virtual environment with `BASE` and more.

    Parameters
    ----------
    name : str
        Says what is in it, versions included.
    *requires : str
        What pip is to install.

    Raises
    ------
    NotHereError
        If pip refuses.
    """

    def __init__(self, name: str, *requires: str) -> None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        self.folder: Path = CACHE / "peers" / f"{name}-python-{version}"
        self.python = str(self.folder / "bin" / "python")
        wanted = "\n".join([*BASE, *requires])
        made = self.folder / "made-with.txt"
        if made.exists() and made.read_text() == wanted:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(self.folder))
        self.install(*BASE, *requires)
        made.write_text(wanted)

    def install(self, *requires: str) -> None:
        """Install more."""
        _run(self.python, "-m", "pip", "install", "--quiet", *requires)

    def weight(self) -> Weight:
        """Return what is in it."""
        found = run_script("weigh.py", python=self.python)
        return Weight(found["packages"], found["size"])


def ours() -> Venv:
    """Return an environment with this checkout in it, as ``pip install`` puts it there."""
    project = (ROOT / "pyproject.toml").read_bytes()
    made = Venv(f"copilot-jupyter-{hashlib.sha256(project).hexdigest()[:8]}")
    made.install(str(ROOT))
    return made


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotHereError(f"pip took longer than {PATIENCE} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise NotHereError((lines or ["ERROR: pip failed"])[-1].removeprefix("ERROR: "))
