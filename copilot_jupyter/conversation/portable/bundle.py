"""One session as one text file, ``NAME.copilot.jsonl``, to carry, to keep in git and to read.

The first line is a manifest: whose session this is, how many lines follow and their
digest. Then come the runtime's events, one a line as in its own ``events.jsonl``, and
behind them our own records of the turns. The same session gives the same bytes, so that
a difference between two versions is what was said between them.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from copilot_jupyter.errors import BadInputError
from copilot_jupyter.state.ids import check_id
from copilot_jupyter.state.journal import is_event, is_prompt, with_id

from .conflict import conflict_line

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from copilot_jupyter.conversation.shield.secrets import Shield

SUFFIX = ".copilot.jsonl"
VERSION = 1

_OURS = "copilot-jupyter."
_MANIFEST = _OURS + "bundle"
_RECORD = _OURS + "record"

#: Events that tell of this machine's processes only, or once more what others tell.
_DROPPED = frozenset({"session.resume", "session.shutdown", "hook.start", "hook.end"})
#: Keys of a record that point at events and cells.
_POINTERS = ("key", "event", "cell")

_SURROGATE = re.compile("[\ud800-\udfff]")

#: What to do about a file that is not as it was written.
AGAIN = "Get the file again from where it was written."


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


def session_of(first: bytes) -> str:
    """Return the id of the session that a file's first line is the manifest of, "" if it is none.

    Parameters
    ----------
    first : bytes
    """
    found = _json(first)
    if not isinstance(found, dict) or found.get("type") != _MANIFEST:
        return ""
    session = found.get("session")
    try:
        return check_id(session) if isinstance(session, str) else ""
    except BadInputError:
        return ""


def parse(data: bytes, path: Path) -> Bundle:
    """Return what the bytes of a bundle hold.

    Parameters
    ----------
    data : bytes
        As `dump` returned them.
    path : Path
        Of the file that they are from, for messages.

    Raises
    ------
    BadInputError
        If they are no bundle, or not as they were written.
    """
    first, _, body = data.partition(b"\n")
    manifest = _manifest(path, first, conflict_line(data))
    session, digest, count = (manifest.get(key) for key in ("session", "digest", "lines"))
    name, secrets = manifest.get("name"), manifest.get("secrets")
    if (
        not isinstance(session, str)
        or not isinstance(digest, str)
        or not isinstance(name, str)
        or not _is_count(count)
        or not _is_count(secrets)
    ):
        raise BadInputError(f"The first line of {path} is damaged.", AGAIN)
    _check_session(path, session)
    _check_body(path, body, count, digest)
    events, records = _parsed(path, body)
    return Bundle(session, name, events, records, secrets)


def _manifest(path: Path, first: bytes, conflict: int) -> dict[str, Any]:
    """Return the manifest that a first line is; `conflict` is the line of a merge's marker."""
    manifest = _json(first)
    if conflict == 1:
        raise _conflict(path, conflict)
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
    if conflict:
        raise _conflict(path, conflict)
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
            AGAIN,
        )
    return manifest


def _check_session(path: Path, session_id: str) -> None:
    try:
        check_id(session_id)
    except BadInputError as error:
        raise BadInputError(
            f"The session in {path} has an id that none can have: {error.what}", AGAIN
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
            f"{path} is cut off: of {count} lines behind the first, {whole} are whole.", AGAIN
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
            raise BadInputError(f"Line {number} of {path} is no event.", AGAIN)
        if value["type"] == _RECORD:
            records.append(value["data"])
        elif value["type"].startswith(_OURS):
            raise BadInputError(f"Line {number} of {path} is of no kind that is known.", AGAIN)
        else:
            events.append(value)
    if not events or events[0]["type"] != "session.start":
        raise BadInputError(f"{path} does not begin with a session.start event.", AGAIN)
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
