"""One session as one text file, ``NAME.copilot.jsonl``, to carry, to keep in git and to read.

The first line is a manifest: whose session this is, how many lines follow and their
digest. Then come the runtime's events, one a line as in its own ``events.jsonl``, and
behind them our own records of the turns. The same session gives the same bytes, so that
a difference between two versions is what was said between them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from copilot_jupyter.errors import BadInputError
from copilot_jupyter.runtime.files import write_whole
from copilot_jupyter.runtime.journal import is_event, is_prompt, with_id
from copilot_jupyter.runtime.store import check_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from .secrets import Shield

SUFFIX = ".copilot.jsonl"
VERSION = 1
#: A bundle beyond this many bytes is not read.
LARGEST = 200 * 2**20

_OURS = "copilot-jupyter."
_MANIFEST = _OURS + "bundle"
_RECORD = _OURS + "record"

#: Events that tell of this machine's processes only.
_DROPPED = frozenset({"session.resume", "session.shutdown"})
#: Keys of a record that point at events and cells.
_POINTERS = ("key", "event", "cell")

_PEEK = 64 * 1024
_MARKER = re.compile(rb"^(?:<{7}|={7}|>{7}|\|{7})", re.M)
_SURROGATE = re.compile("[\ud800-\udfff]")

_AGAIN = "Get the file again from where it was written."


@dataclass(frozen=True)
class Bundle:
    """What one bundle holds.

    Parameters
    ----------
    session : str
        Id of the session it was written from.
    name : str
        The session's title.
    events : tuple of dict
        The runtime's events, a ``session.start`` first.
    records : tuple of dict
        Our own records of the turns.
    secrets : int
        How many secrets were replaced when it was written.
    """

    session: str
    name: str
    events: tuple[dict[str, Any], ...]
    records: tuple[dict[str, Any], ...]
    secrets: int = 0


# -- writing -----------------------------------------------------------------------------------


def dump(
    session_id: str,
    name: str,
    events: Iterable[dict[str, Any]],
    records: Iterable[dict[str, Any]],
    shield: Shield,
) -> bytes:
    """Return a session as the bytes of a bundle.

    Parameters
    ----------
    session_id, name : str
        Its id and its title.
    events : iterable of dict
        Its transcript.
    records : iterable of dict
        Our own records of its turns; their ``span`` is left out.
    shield : Shield
        Takes the secrets out, and counts them.

    Raises
    ------
    BadInputError
        If the id cannot be one, or the transcript has lost its first event.
    """
    check_id(session_id)
    before = shield.count
    name = shield.scrub(name)
    kept = _without_dropped(events)
    if not kept or kept[0]["type"] != "session.start":
        raise BadInputError(
            f"The transcript of session {session_id} does not begin with a session.start.",
            "%copilot_doctor --fix repairs it.",
        )
    carried = with_id(tuple(_carried(event, shield) for event in kept), session_id)
    lines = [_line(event) for event in carried]
    lines += [_line({"type": _RECORD, "data": _recorded(each, shield)}) for each in records]
    body = b"".join(lines)
    manifest = {
        "type": _MANIFEST,
        "v": VERSION,
        "session": session_id,
        "name": name,
        "turns": sum(map(is_prompt, carried)),
        "lines": len(lines),
        "secrets": shield.count - before,
        "digest": hashlib.sha256(body).hexdigest(),
    }
    return _line(manifest) + body


def save(path: Path, data: bytes, session_id: str, event_ids: Sequence[str]) -> None:
    """Write a bundle, so that nothing of another one is lost.

    Parameters
    ----------
    path : Path
        Where to; the name ends in ``.copilot.jsonl``.
    data : bytes
        What `dump` returned.
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


def _without_dropped(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events that are carried, their chain of parents closed over the others."""
    kept: list[dict[str, Any]] = []
    parents: dict[str, Any] = {}
    for event in events:
        if event["type"] in _DROPPED:
            parents[str(event.get("id"))] = event.get("parentId")
        else:
            kept.append(event)
    return [_adopted(event, parents) for event in kept]


def _adopted(event: dict[str, Any], parents: dict[str, Any]) -> dict[str, Any]:
    parent = event.get("parentId")
    if not isinstance(parent, str) or parent not in parents:
        return event
    passed: set[str] = set()
    while isinstance(parent, str) and parent in parents:
        if parent in passed:
            parent = None  # a damaged chain goes round
        else:
            passed.add(parent)
            parent = parents[parent]
    return {**event, "parentId": parent}


def _carried(event: dict[str, Any], shield: Shield) -> dict[str, Any]:
    data = shield.scrub_all(event["data"])
    if event["type"] == "session.start":
        # A path of this machine says nothing elsewhere.
        data["context"] = {"cwd": ""}
    return {**event, "data": data}


def _recorded(record: dict[str, Any], shield: Shield) -> dict[str, Any]:
    return {
        key: value if key in _POINTERS else shield.scrub_all(value)
        for key, value in record.items()
        if key != "span"
    }


def _line(value: dict[str, Any]) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # Half a pair is no UTF-8; escaped it is still JSON.
    return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text).encode() + b"\n"


# -- reading -----------------------------------------------------------------------------------


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
    first, _, body = _text(path).partition(b"\n")
    manifest = _manifest(path, first, body)
    session, digest, count = (manifest.get(key) for key in ("session", "digest", "lines"))
    name, secrets = manifest.get("name"), manifest.get("secrets")
    if (
        not isinstance(session, str)
        or not isinstance(digest, str)
        or not isinstance(name, str)
        or not _is_count(count)
        or not _is_count(secrets)
    ):
        raise BadInputError(f"The first line of {path} is damaged.", _AGAIN)
    _check_session(path, session)
    _check_body(path, body, count, digest)
    events, records = _parsed(path, body)
    return Bundle(session, name, events, records, secrets)


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
        found = _json(first) if end else None
        if not isinstance(found, dict) or found.get("type") != _MANIFEST:
            return ""
        session = found.get("session")
        return check_id(session) if isinstance(session, str) else ""
    except (OSError, ValueError, BadInputError):
        return ""


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
        raise BadInputError(f"{path} is empty.", _AGAIN)
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
        raise BadInputError(f"{path} is no bundle or damaged: line {number} has {said}.", _AGAIN)


def _manifest(path: Path, first: bytes, body: bytes) -> dict[str, Any]:
    """Return the manifest that a first line is; `body` is searched for git's conflicts."""
    manifest = _json(first)
    if _MARKER.match(first):
        raise _conflict(path, 1)
    if is_event(manifest):
        raise BadInputError(
            f"{path} is a transcript of the Copilot runtime (events.jsonl) and no bundle.",
            f"Export its session where it lies, and use the {SUFFIX} file.",
        )
    if not isinstance(manifest, dict) or manifest.get("type") != _MANIFEST:
        raise BadInputError(
            f"{path} is no bundle: its first line is not that of a {SUFFIX} file.",
            f"Name a {SUFFIX} file that a session was exported to.",
        )
    if marker := _MARKER.search(body):
        raise _conflict(path, body.count(b"\n", 0, marker.start()) + 2)
    version = manifest.get("v")
    if _is_count(version) and version > VERSION:
        raise BadInputError(
            f"{path} was written by a newer copilot-jupyter "
            f"(bundle {version}; this one reads {VERSION}).",
            "copilot-jupyter has to be updated: pip install -U copilot-jupyter.",
        )
    if not _is_count(version) or not version:
        raise BadInputError(
            f"{path} says that it is of version {json.dumps(version)[:40]}, which never was.",
            _AGAIN,
        )
    return manifest


def _check_session(path: Path, session_id: str) -> None:
    try:
        check_id(session_id)
    except BadInputError as error:
        raise BadInputError(
            f"The session in {path} has an id that none can have: {error.what}", _AGAIN
        ) from None


def _check_body(path: Path, body: bytes, count: int, digest: str) -> None:
    summed = hashlib.sha256(body)
    ended = not body or body.endswith(b"\n")
    if not ended:  # an editor may take the last line's end away, which loses nothing
        summed.update(b"\n")
    same = summed.hexdigest() == digest
    whole = body.count(b"\n")
    lines = whole if ended else whole + 1
    if lines < count or not (ended or same):
        raise BadInputError(
            f"{path} is cut off: of {count} lines behind the first, {whole} are whole.", _AGAIN
        )
    if not same or lines > count:
        raise BadInputError(
            f"{path} was changed since it was written: its digest differs.",
            "Get the file again from where it was written, or take it back out of git.",
        )


def _parsed(
    path: Path, body: bytes
) -> tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...]]:
    events: list[dict[str, Any]] = []
    records: list[dict[str, Any]] = []
    for number, line in enumerate(body.splitlines(), start=2):
        value = _json(line)
        if not is_event(value):
            raise BadInputError(f"Line {number} of {path} is no event.", _AGAIN)
        if value["type"] == _RECORD:
            records.append(value["data"])
        elif value["type"].startswith(_OURS):
            raise BadInputError(f"Line {number} of {path} is of no kind that is known.", _AGAIN)
        else:
            events.append(value)
    if not events or events[0]["type"] != "session.start":
        raise BadInputError(f"{path} does not begin with a session.start event.", _AGAIN)
    return tuple(events), tuple(records)


def _conflict(path: Path, number: int) -> BadInputError:
    return BadInputError(
        f"{path} holds a merge conflict: the first marker is in line {number}.",
        "Take one side whole (git checkout --ours or --theirs), then try again.",
    )


def _json(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
