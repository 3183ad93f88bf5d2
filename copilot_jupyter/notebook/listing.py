"""Sessions, history and status as text and tables."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from copilot_jupyter.conversation import transcript
from copilot_jupyter.errors import BadInputError, CopilotError
from copilot_jupyter.notebook import render
from copilot_jupyter.runtime.locate import find_runtime
from copilot_jupyter.runtime.provider import resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from copilot_jupyter.conversation.conversation import Conversation
    from copilot_jupyter.conversation.doctor import Check
    from copilot_jupyter.conversation.sessions import Listed, Sessions
    from copilot_jupyter.events import Provider, SessionInfo, Turn
    from copilot_jupyter.notebook.notebook import Notebook

_QUIET = "opacity:.6;font-size:85%;margin-bottom:0"

_HEADERS = ("id", "name", "turns", "last used", "size", "notebook or folder", "in use by")


def sessions(found: Listed, store: Sessions, text: str, limit: int | None) -> render.Bundle:
    """Return the list of sessions, in its three groups.

    Parameters
    ----------
    found : Listed
    store : Sessions
        Reads how many turns each has.
    text : str
        What was searched for, for the empty list.
    limit : int or None
        How many to show.
    """
    groups = (
        ("this notebook", found.notebook),
        ("this folder", found.folder),
        ("elsewhere", found.others),
    )
    total = sum(len(infos) for _, infos in groups)
    if not total:
        return render.plain_bundle(
            f"No session holds {text!r} in its id or name."
            if text
            else "There are no sessions yet; %%copilot begins one."
        )
    rows: list[list[str]] = []
    for group, infos in groups:
        for info in infos:
            if limit is None or len(rows) < limit:
                rows.append([group, *_row(info, store)])
    hidden = total - len(rows)
    title = counted(total) + (f", {hidden} more with --all" if hidden else "")
    return render.table(("where", *_HEADERS), rows, title)


def numbered(infos: Sequence[SessionInfo], store: Sessions) -> render.Bundle:
    """Return a list to choose from by number."""
    rows = [[str(number), *_row(info, store)] for number, info in enumerate(infos, start=1)]
    return render.table(("", *_HEADERS), rows, "Which session?")


def plain_list(title: str, infos: Iterable[SessionInfo]) -> render.Bundle:
    """Return a short list of sessions under a title."""
    rows = [[info.id, info.name, _ago(info.modified), _size(info.size)] for info in infos]
    return render.table(("id", "name", "last used", "size"), rows, title)


def history(session: str, shown: Sequence[Turn], total: int) -> render.Bundle:
    """Return a conversation as a transcript."""
    if not total:
        return render.plain_bundle(f"The session {session} has no turns yet.")
    count = (
        transcript.counted(total)
        if len(shown) == total
        else f"the last {len(shown)} of {total} turns"
    )
    text = transcript.as_markdown(session, f"{session}: {count}", shown)
    turns = "".join(_turn(turn) for turn in shown)
    return {"text/plain": text, "text/html": f"<div><p>{escape(session)}: {count}</p>{turns}</div>"}


def _turn(turn: Turn) -> str:
    when = f" · {turn.at:%Y-%m-%d %H:%M} UTC" if turn.at else ""
    model = f" · {escape(turn.model)}" if turn.model else ""
    unanswered = "" if turn.complete else "<p><em>not answered</em></p>"
    return (
        f'<p style="{_QUIET}">{turn.number} · you{when}</p>'
        f'<p style="white-space:pre-wrap">{escape(turn.prompt)}</p>'
        f'<p style="{_QUIET}">{turn.number} · copilot{model}</p>'
        f"{render.markdown(turn.answer)}{unanswered}"
    )


def export(store: Sessions, session: str, shown: Sequence[Turn], file: str) -> str:
    """Write a conversation to a file and return the line that says so.

    Raises
    ------
    BadInputError
        If the ending is unknown or the file cannot be written.
    """
    path = Path(file).expanduser()
    if path.suffix == ".md":
        text = transcript.as_markdown(session, session, shown)
    elif path.suffix == ".jsonl":
        events = store.store.journal(session).events
        text = transcript.as_jsonl(events, shown)
    else:
        raise BadInputError(f"{file!r} ends in neither .md nor .jsonl.", "Choose one of the two.")
    try:
        with path.open("x", encoding="utf-8", errors="replace") as out:
            out.write(text)
    except FileExistsError:
        kind = "a directory" if path.is_dir() else "a file"
        raise BadInputError(
            f"{path} exists already, {kind}, and was left as it is.",
            "Choose another name, or remove it.",
        ) from None
    except OSError as error:
        raise BadInputError(
            f"{path} cannot be written: {error.strerror}.", "Choose another place."
        ) from None
    size = _size(path.stat().st_size)
    return f"Wrote {transcript.counted(len(shown))} of {session} to {path} ({size})."


def bound(conversation: Conversation) -> str:
    """Return the line that says which conversation the notebook has: the same at every run."""
    mode = ", to read only" if conversation.terms.read_only else ""
    return f"Bound to {conversation.id}{mode}."


def terminal_command(session: str) -> str:
    """Return the command that goes on with a session in a terminal."""
    home = os.environ.get("COPILOT_HOME")
    return f"{f'COPILOT_HOME={home} ' if home else ''}copilot --resume {session}"


def status(notebook: Notebook, store: Sessions) -> render.Bundle:
    """Return where this kernel stands, a line each."""
    rows = [["notebook", str(notebook.identity.path or "not known here")]]
    try:
        conversation = notebook.find()
    except CopilotError as error:
        conversation = None
        rows.append(["session", str(error)])
    if conversation is not None:
        rows += _of_session(conversation, store)
    elif len(rows) == 1:
        rows.append(["session", "none yet; %%copilot begins one"])
    rows += [
        ["provider", _provider(store)],
        ["runtime", _runtime(store)],
        ["state folder", str(store.store.home)],
    ]
    return render.table(("what", "is"), rows)


def models(provider: Provider, names: Sequence[str]) -> render.Bundle:
    """Return the models of a provider, the one in force marked."""
    where = str(provider.config.get("base_url") or "GitHub Copilot")
    rows = [["→" if name == provider.model else "", name] for name in names]
    return render.table(("", "model"), rows, f"{len(names)} models at {where}")


def checkup(found: Iterable[Check]) -> render.Bundle:
    """Return what the doctor found."""
    rows = [["ok" if c.ok else "to do", c.name, c.found, c.do] for c in found]
    wrong = sum(row[0] != "ok" for row in rows)
    title = "All is well." if not wrong else f"{wrong} of {len(rows)} need something."
    return render.table(("", "what", "found", "do"), rows, title)


def _of_session(conversation: Conversation, store: Sessions) -> list[list[str]]:
    turns = conversation.turns()
    held = "held by this kernel" if conversation.is_open else "not held"
    rows = [
        ["session", f"{conversation.id}, {transcript.counted(len(turns))}, {held}"],
        ["in a terminal", f"{terminal_command(conversation.id)} (after %copilot_release)"],
    ]
    if who := store.in_use_elsewhere(conversation.id):
        rows.append(["in use by", who])
    if conversation.terms.read_only:
        rows.append(["mode", "read only"])
    return rows


def _provider(store: Sessions) -> str:
    try:
        provider = resolve(store.settings.provider, store.settings.model, os.environ)
    except CopilotError as error:
        return str(error)
    if provider.kind == "local":
        served = Path(store.settings.local_model).stem
        return f"the embedded model, {served or 'SmolLM2-135M-Instruct: quick, small, not clever'}"
    where = str(provider.config.get("base_url") or "GitHub Copilot")
    return f"{where}, model {provider.model or 'of its choice'}"


def _runtime(store: Sessions) -> str:
    if store.runtime.pid:
        return f"running (pid {store.runtime.pid})"
    try:
        program = find_runtime()
    except CopilotError as error:
        return str(error)
    return f"not started; {program}" if program else "not found: run `copilot-jupyter setup`"


def _row(info: SessionInfo, store: Sessions) -> list[str]:
    try:
        turns = str(len(store.turns(info.id)))
    except CopilotError:
        turns = "?"
    return [
        info.id,
        _short(info.name, 40),
        turns,
        _ago(info.modified),
        _size(info.size),
        _short(info.notebook or info.folder, 40, end=True),
        store.in_use_elsewhere(info.id),
    ]


def counted(count: int) -> str:
    """Return a number of sessions in words."""
    return "1 session" if count == 1 else f"{count} sessions"


def _ago(when: datetime | None) -> str:
    if when is None:
        return ""
    seconds = max(0, (datetime.now(UTC) - when).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return "now"


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.0f} kB" if count < 1_000_000 else f"{count / 1e6:.1f} MB"


def _short(text: str, length: int, *, end: bool = False) -> str:
    if len(text) <= length:
        return text
    return "…" + text[-length + 1 :] if end else text[: length - 1] + "…"
