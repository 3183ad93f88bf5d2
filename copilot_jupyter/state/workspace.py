"""A session's ``workspace.yaml``: its title, its folder, and who made it."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import BadInputError

from .files import write_whole
from .ids import check_id

if TYPE_CHECKING:
    from pathlib import Path

    from .store import Store

#: The name under which our sessions are made; a terminal's sessions carry another.
CLIENT_NAME = "copilot-jupyter"

#: The longest title that is written or listed, in characters.
LONGEST_TITLE = 200

#: One line of a ``workspace.yaml`` that means what it says, without YAML's subtleties.
_PLAIN_LINE = re.compile(r"(\w+):(?: ([\w/.~][^:#'\"\\\t\x00-\x1f\x7f-\x9f]*)?)?")

#: The lines of the title in a ``workspace.yaml``, its continuations included.
_NAME_LINES = re.compile(r"^name:.*\n?(?:[ \t]+.*\n?|[ \t]*\n(?=[ \t]))*", re.MULTILINE)


def read_workspace(folder: Path) -> dict[str, Any]:
    """Return the ``workspace.yaml`` in a session's folder; empty where none can be read."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = (folder / "workspace.yaml").read_text(encoding="utf-8")
        value = yaml.load(text, Loader=loader)  # noqa: S506 -- a safe loader, in C or Python
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return value if isinstance(value, dict) else {}


def read_plainly(folder: str) -> dict[str, str] | None:
    """Return a ``workspace.yaml`` without YAML: a twentieth of the time; None where that errs."""
    try:
        with open(f"{folder}/workspace.yaml", encoding="utf-8") as file:  # noqa: PTH123 -- in less time
            text = file.read()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError):
        return None
    found: dict[str, str] = {}
    for line in text.split("\n"):
        if not line:
            continue
        match = _PLAIN_LINE.fullmatch(line)
        if match is None:
            # Times have colons, and nothing that a row shows.
            if line.startswith(("created_at: 2", "updated_at: 2")):
                continue
            return None
        value = match[2] or ""
        found[match[1]] = "" if value in ("~", "null") else value.rstrip()
    return found


def new_workspace(session_id: str, *, folder: str, name: str) -> bytes:
    """Return the ``workspace.yaml`` of a session that no runtime made.

    Parameters
    ----------
    session_id : str
    folder : str
        Its working directory.
    name : str
        Its title.
    """
    import yaml

    now = datetime.now(UTC)
    stamp = f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03}Z"
    workspace = {
        "id": session_id,
        "cwd": folder,
        "client_name": CLIENT_NAME,
        "name": name,
        "user_named": False,
        "summary_count": 0,
        "fork_count": 0,
        "created_at": stamp,
        "updated_at": stamp,
    }
    return yaml.safe_dump(workspace, allow_unicode=True, sort_keys=False).encode()


def copy_workspace(source: Path, target: Path, session_id: str) -> None:
    """Copy ``workspace.yaml`` under another id; the runtime writes a new one where it lacks.

    Parameters
    ----------
    source, target : Path
        Folders of the session and of its copy.
    session_id : str
        Of the copy.
    """
    with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
        text = (source / "workspace.yaml").read_text(encoding="utf-8")
        # Quoted: an id such as 123 or null is text.
        text = re.sub(r"^id:.*$", f'id: "{session_id}"', text, count=1, flags=re.M)
        write_whole(target / "workspace.yaml", text.encode())


def rename(store: Store, session_id: str, name: str) -> str:
    """Give a session another title. Only for a session that no runtime has open.

    Parameters
    ----------
    store : Store
    session_id : str
    name : str
        What a person typed; becomes one line of at most 200 characters.

    Returns
    -------
    str
        The title as it was written.

    Raises
    ------
    BadInputError
        If the title is empty, or the session has no ``workspace.yaml`` to write it into.
    SessionNotFoundError, StateFolderError
    """
    import yaml

    if not store.exists(check_id(session_id)):
        raise store.not_found(session_id)
    title = " ".join("".join(c if c.isprintable() else " " for c in name).split())[:LONGEST_TITLE]
    if not title:
        raise BadInputError("The name is empty.", "Type a few words.")
    before = store.workspace(session_id)
    if not before:
        raise BadInputError(
            f"{session_id} has no workspace.yaml that a name could be written into.",
            f"Ask in it once, or rename it in a terminal: copilot --resume {session_id}.",
        )
    path = store.folder(session_id) / "workspace.yaml"
    line = yaml.safe_dump({"name": title}, allow_unicode=True, width=10**6)
    with store.disk_errors():
        text = path.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            text += "\n"
        new, count = _NAME_LINES.subn(lambda _: line, text, count=1)
        if not count:
            new = text + line
        new = re.sub(r"^user_named:.*$", "user_named: true", new, count=1, flags=re.MULTILINE)
        # Everything else has to mean what it meant.
        wanted = {**before, "name": title}
        if "user_named" in wanted:
            wanted["user_named"] = True
        try:
            same = yaml.safe_load(new) == wanted
        except yaml.YAMLError:
            same = False
        if not same:
            new = yaml.safe_dump(wanted, allow_unicode=True, sort_keys=False)
        write_whole(path, new.encode())
    return title
