"""Bundles as files: written so that nothing of another is lost, found in a folder, read."""

from __future__ import annotations

import contextlib
import stat
from typing import TYPE_CHECKING

from copilot_jupyter.errors import BadInputError
from copilot_jupyter.state.files import write_whole
from copilot_jupyter.state.journal import is_prompt

from . import bundle
from .bundle import AGAIN, SUFFIX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .bundle import Bundle

#: A bundle beyond this many bytes is not read.
LARGEST = 200 * 2**20

_PEEK = 64 * 1024


def save(path: Path, data: bytes, session_id: str, event_ids: Sequence[str]) -> None:
    """Write a bundle, so that nothing of another one is lost.

    Parameters
    ----------
    path : Path
        Where to; the name ends in ``.copilot.jsonl``.
    data : bytes
        What `bundle.dump` returned.
    session_id : str
        The session's id.
    event_ids : sequence of str
        Ids of the session's events. A file that is there already is replaced only if it
        is a bundle of this session and all its prompts are among them.

    Raises
    ------
    BadInputError
        If the file cannot be written, or holds what this session does not.
    """
    if not path.name.endswith(SUFFIX) or path.name == SUFFIX:
        plain = path.name.removesuffix(SUFFIX).removesuffix(".jsonl").removesuffix(".copilot")
        raise BadInputError(
            f"The name of a bundle ends in {SUFFIX}; {path.name or path} does not.",
            f"Call it {plain or session_id}{SUFFIX}.",
        )
    try:
        if not path.parent.is_dir():
            raise BadInputError(
                f"There is no folder {path.parent} to write {path.name} into.",
                "Make the folder first, or name another.",
            )
        mode = path.stat().st_mode if path.exists() else None
        if mode is not None:
            _check_replaceable(path, session_id, event_ids)
        write_whole(path, data)
        if mode is not None:
            # Its readers stay its readers: a file is written anew for this user alone.
            with contextlib.suppress(OSError):
                path.chmod(stat.S_IMODE(mode))
    except (OSError, ValueError) as error:
        raise BadInputError(
            f"{path} cannot be written: {_why(error)}.",
            "Check that you may write there, or name another place.",
        ) from None


def _check_replaceable(path: Path, session_id: str, event_ids: Sequence[str]) -> None:
    try:
        old = load(path)
    except BadInputError as error:
        raise BadInputError(
            error.what, "It was left as it is; move it away, or write to another name."
        ) from None
    if old.session != session_id:
        raise BadInputError(
            f"{path} holds another session, {old.session}.",
            "It was left as it is; write to another name.",
        )
    known = set(event_ids)
    prompts = [event.get("id") for event in old.events if is_prompt(event)]
    if lost := sum(1 for prompt in prompts if not isinstance(prompt, str) or prompt not in known):
        turns = "a turn" if lost == 1 else f"{lost} turns"
        raise BadInputError(
            f"{path} holds {turns} that session {session_id} does not have here.",
            "It was left as it is; write to another name.",
        )


def load(path: Path) -> Bundle:
    """Return what a bundle holds.

    Parameters
    ----------
    path : Path
        Of the file.

    Raises
    ------
    BadInputError
        If there is no such file, if it is no bundle, or not as it was written.
    """
    return bundle.parse(_text(path), path)


def peek(path: Path) -> str:
    """Return the id of the session a file is a bundle of, "" if it is none.

    Parameters
    ----------
    path : Path
        Of any file, readable or not; no more than its beginning is read.
    """
    try:
        if not path.is_file():  # to open a pipe would wait for its writer
            return ""
        with path.open("rb") as file:
            first, end, _ = file.read(_PEEK).removeprefix(b"\xef\xbb\xbf").partition(b"\n")
    except (OSError, ValueError):
        return ""
    return bundle.session_of(first) if end else ""


def find(folder: Path, session_id: str) -> Path | None:
    """Return the bundle directly in a folder that holds a session, None if there is none.

    Parameters
    ----------
    folder : Path
        Where to look, readable or not.
    session_id : str
        The session's id; the bundle that is called so comes before others.
    """
    try:
        names = sorted(each.name for each in folder.iterdir() if each.name.endswith(SUFFIX))
    except (OSError, ValueError):
        return None
    names.sort(key=lambda name: name != session_id + SUFFIX)
    return next((folder / name for name in names if peek(folder / name) == session_id), None)


def _text(path: Path) -> bytes:
    """Return a bundle's bytes with its line ends as they were written."""
    try:
        there = path.stat()
        if stat.S_ISDIR(there.st_mode):
            raise BadInputError(f"{path} is a folder.", f"Name the {SUFFIX} file in it.")
        if not stat.S_ISREG(there.st_mode):
            raise BadInputError(f"{path} is no plain file.", f"Name a {SUFFIX} file.")
        if there.st_size > LARGEST:
            raise BadInputError(
                f"{path} has {-(-there.st_size // 2**20)} MB and is not read; "
                f"{LARGEST // 2**20} MB are the most.",
                f"Check that it is a {SUFFIX} file; a session this long is branched at an "
                "earlier turn before it is written.",
            )
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise BadInputError(f"There is no file {path}.", "Check its name.") from None
    except (OSError, ValueError) as error:
        raise BadInputError(
            f"{path} cannot be read: {_why(error)}.",
            "Check that it is a file and that you may read it.",
        ) from None
    if not data.strip():
        raise BadInputError(f"{path} is empty.", AGAIN)
    _check_is_text(path, data)
    # Git may write CRLF into a working tree, an editor a mark before the first line.
    return data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")


def _check_is_text(path: Path, data: bytes) -> None:
    wrong, said = data.find(b"\0"), "a NUL byte"
    if wrong < 0:
        try:
            data.decode()
        except UnicodeDecodeError as error:
            wrong, said = error.start, "bytes that are no UTF-8"
    if wrong >= 0:
        number = data.count(b"\n", 0, wrong) + 1
        raise BadInputError(f"{path} is no bundle or damaged: line {number} has {said}.", AGAIN)


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
