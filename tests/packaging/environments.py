"""Python environments for the tests of this folder: each fresh, in a folder of its own.

uv makes them, since it knows the lowest versions that are allowed. Where a test is about what
a person types, their own pip does the work.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Seconds a command may take: a hundred packages come from the registry.
PATIENCE = 300

#: What a clone of the repository does not have, besides what a person made in it.
_LEFT_OUT = shutil.ignore_patterns(
    *(".git", ".venv", ".cache", "dist", ".*_cache", ".hypothesis", "__pycache__"),
    *(".ipynb_checkpoints", "copilot-jupyter-demo", "*.egg-info"),
)

#: Variables that say who somebody is, or where their own Python, Jupyter or IPython is.
_PERSONAL = ("COPILOT_", "GH_", "GITHUB_", "JPY_", "JUPYTER", "IPYTHON", "PYTHON", "PYTEST_")
_PERSONAL += ("VIRTUAL_ENV", "XDG_", "UV_PYTHON")


def clone(folder: Path) -> Path:
    """Copy the repository as it stands: nothing is written into the tree that others read."""
    return Path(shutil.copytree(ROOT, folder, ignore=_LEFT_OUT))


def interpreter(version: str) -> str | None:
    """Return a Python of a version such as ``"3.12"``, None where there is none."""
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    # pyenv's own commands refuse to run where their version is not chosen.
    folders = [*os.environ["PATH"].split(os.pathsep), *map(str, pyenv.glob(f"{version}.*/bin"))]
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    for folder in folders:
        found = shutil.which(name, path=folder)
        if found is None:
            continue
        done = subprocess.run([found, "-c", ask], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return found
    return None


class Environment:
    """A virtual environment, and a home folder for whoever runs something in it."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.prefix = folder / "env"
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        uv("venv", "--quiet", "--seed", "--python", python, str(self.prefix))
        self.python = str(self.prefix / "bin" / "python")

    def install(self, *arguments: str) -> None:
        """Install with uv: ``*arguments`` of ``uv pip install``."""
        uv("pip", "install", "--quiet", "--python", self.python, *arguments)

    def variables(self, **more: str) -> dict[str, str]:
        """The environment of a person who has nothing but this Python."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_PERSONAL)}
        path = f"{self.prefix / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {**kept, "HOME": str(self.home), "PATH": path, **more}

    def run(
        self, *command: str, cwd: Path, timeout: float = PATIENCE, fails: bool = False, **more: str
    ) -> str:
        """Run a command in `cwd` to its end; return what it printed."""
        done = subprocess.run(
            command,
            cwd=cwd,
            env=self.variables(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
        assert (done.returncode != 0) is fails, f"{command}: {done.returncode}\n{done.stdout}"
        return done.stdout


def uv(*arguments: str) -> None:
    """Run uv to its end; it takes Pythons that are here and downloads none."""
    done = subprocess.run(
        [sys.executable, "-m", "uv", *arguments],
        env={**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_CONFIG": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, f"uv {' '.join(arguments)}\n{done.stdout}{done.stderr}"
