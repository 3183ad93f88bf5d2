"""Load the extension at every start of IPython: ``copilot-jupyter enable`` and ``disable``.

Two places, each for whoever may write there:

- ``"user"``: a file of our own among the startup files of IPython's default profile. It
  counts for every kernel and terminal of this account whose Python has the package.
- ``"env"``: a marked block in ``etc/ipython/ipython_config.py`` of this Python environment.
  That file has one name for everybody, and no folder for parts, so the block is all of it
  that is ours.

What is written looks whether the package is still there: after ``pip uninstall`` a kernel
starts as if nothing had been written. The wheel ships none of it, since two packages that
brought an ``ipython_config.py`` would overwrite each other.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from copilot_jupyter.errors import BadInputError, SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator

Place = Literal["user", "env"]

_BEGIN = b"# >>> copilot-jupyter >>>"
_END = b"# <<< copilot-jupyter <<<"

# Runs in the person's own namespace, so it leaves no name behind.
_STARTUP = b"""%b
# Written by `copilot-jupyter enable --user`; `copilot-jupyter disable --user` removes it.
try:
    get_ipython().extension_manager.load_extension("copilot_jupyter")
except ModuleNotFoundError as error:
    if error.name != "copilot_jupyter":  # else: this Python does not have it
        raise
%b
""" % (_BEGIN, _END)

_CONFIG = b"""%b
# Written by `copilot-jupyter enable --env`; `copilot-jupyter disable --env` removes it.
if __import__("importlib.util").util.find_spec("copilot_jupyter"):
    get_config().InteractiveShellApp.extensions.append("copilot_jupyter")
%b
""" % (_BEGIN, _END)

_BLOCK = re.compile(rb"^%b\n.*?^%b\n" % (_BEGIN, _END), re.DOTALL | re.MULTILINE)


def enable(place: Place) -> str:
    """Have IPython load the extension whenever it starts.

    Parameters
    ----------
    place : {"user", "env"}
        For this account, or for this Python environment.

    Returns
    -------
    str
        What was done, in one line.

    Raises
    ------
    BadInputError
        Somebody else's text is where ours would be.
    SetupError
        The file cannot be read or written.
    """
    path, block = _target(place)
    before = _read(path)
    rest = _without_ours(path, before, place)
    if rest and not rest.endswith(b"\n"):
        rest += b"\n"  # it stays when we go, and means nothing
    if rest + block == before:
        return f"IPython loads copilot_jupyter at its start already, by {path}."
    _write(path, rest + block)
    return f"IPython loads copilot_jupyter at its start from now on: wrote {path}."


def disable(place: Place) -> str:
    """Take out what `enable` wrote, and nothing else.

    Parameters
    ----------
    place : {"user", "env"}
        For this account, or for this Python environment.

    Returns
    -------
    str
        What was done, in one line.

    Raises
    ------
    BadInputError
        Our lines were changed, or hold somebody else's text.
    SetupError
        The file cannot be read or written.
    """
    path, _ = _target(place)
    before = _read(path)
    rest = _without_ours(path, before, place)
    if rest == before:
        return f"Nothing to take out: copilot_jupyter is not in {path}."
    if rest:
        _write(path, rest)
        return f"IPython no longer loads copilot_jupyter: our lines are out of {path}."
    with _in_words(path, "removed"):
        path.unlink()
    return f"IPython no longer loads copilot_jupyter: removed {path}."


def _target(place: Place) -> tuple[Path, bytes]:
    """Return the file of a place, and what belongs into it."""
    if place == "user":
        return _ipython_folder() / "profile_default/startup/50-copilot_jupyter.py", _STARTUP
    # The folder that IPython.core.application.ENV_CONFIG_DIRS names.
    return Path(sys.prefix) / "etc/ipython/ipython_config.py", _CONFIG


def _ipython_folder() -> Path:
    from IPython.paths import get_ipython_dir

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # It would go on with a temporary folder, and what we write would be gone.
        warnings.filterwarnings("error", ".*not a writable location")
        try:
            return Path(get_ipython_dir())
        except (UserWarning, OSError) as error:
            raise SetupError(
                f"IPython's own folder cannot be used: {str(error).partition(',')[0]}.",
                "Set IPYTHONDIR to a folder that can be written, or use --env.",
            ) from None


def _without_ours(path: Path, text: bytes, place: Place) -> bytes:
    """Return what a file holds besides our lines."""
    rest = _BLOCK.sub(b"", text)
    if _BEGIN in rest or _END in rest or (place == "user" and rest):
        raise BadInputError(
            f"{path} is not as `copilot-jupyter enable` wrote it, so it was left as it is.",
            "Take the lines about copilot-jupyter out of it, or remove it, and try again.",
        )
    return rest


def _read(path: Path) -> bytes:
    with _in_words(path, "read"):
        return path.read_bytes() if path.exists() else b""


def _write(path: Path, text: bytes) -> None:
    """Write a file whole; whoever could read it before can still read it."""
    path = path.resolve()  # where settings are kept elsewhere and linked
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with _in_words(path, "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(text)
            if path.exists():
                shutil.copymode(path, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _in_words(path: Path, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SetupError(
            f"{path} cannot be {done}: {error.strerror or error}.",
            "Run this as somebody who may, or choose the other of --user and --env.",
        ) from None
