"""Sessions and status as text and tables."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from copilot_jupyter.conversation import used
from copilot_jupyter.conversation.words import counted
from copilot_jupyter.errors import CopilotError
from copilot_jupyter.notebook.display import render
from copilot_jupyter.runtime.locate import find_runtime
from copilot_jupyter.runtime.provider import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from copilot_jupyter.conversation.conversation import Conversation
    from copilot_jupyter.conversation.doctor import Check
    from copilot_jupyter.conversation.sessions import Listed, Sessions
    from copilot_jupyter.events import Provider, SessionInfo
    from copilot_jupyter.notebook.notebook import Notebook
    from copilot_jupyter.state.catalog import CatalogRow

    Table = Callable[[Sequence[str], Sequence[Sequence[str]], str], render.Bundle]

_HEADERS = ("id", "name", "turns", "last used", "size", "notebook or folder", "in use by")


def sessions(
    found: Listed, store: Sessions, text: str, limit: int | None, table: Table = render.table
) -> render.Bundle:
    """Return the list of sessions, in its three groups.

    Parameters
    ----------
    found : Listed
    store : Sessions
        Knows who uses each.
    text : str
        What was searched for, for the empty list.
    limit : int or None
        How many to show.
    table : callable, optional
        What makes the table: `render.table`, or `terminal.table`.
    """
    groups = (
        ("this notebook", found.notebook),
        ("this folder", found.folder),
        ("elsewhere", found.others),
    )
    total = sum(len(rows) for _, rows in groups)
    if not total and not found.unread:
        return render.plain_bundle(
            f"No session holds {text!r} in its id, name or first prompt."
            if text
            else "There are no sessions yet; %%copilot begins one."
        )
    grouped = [(group, row) for group, rows in groups for row in rows]
    cells = [[group, *_row(row, store)] for group, row in grouped[:limit]]
    hidden = total - len(cells)
    title = counted(total, "session") + (f", {hidden:,} more with --all" if hidden else "")
    if found.unread:
        title += f"; {found.unread:,} more are not read yet: run it again"
    return table(("where", *_HEADERS), cells, title)


def numbered(found: Sequence[CatalogRow], store: Sessions) -> render.Bundle:
    """Return a list to choose from by number."""
    rows = [[str(number), *_row(row, store)] for number, row in enumerate(found, start=1)]
    return render.table(("", *_HEADERS), rows, "Which session?")


def plain_list(title: str, infos: Iterable[SessionInfo]) -> render.Bundle:
    """Return a short list of sessions under a title."""
    rows = [
        [i.id, i.name, _ago(i.modified.timestamp() if i.modified else 0), size(i.size)]
        for i in infos
    ]
    return render.table(("id", "name", "last used", "size"), rows, title)


def bound(conversation: Conversation) -> str:
    """Return the line that says which conversation the notebook has: the same at every run."""
    mode = ", to read only" if conversation.terms.read_only else ""
    return f"Bound to {conversation.id}{mode}."


def terminal_command(session: str) -> str:
    """Return the command that goes on with a session in a terminal."""
    home = os.environ.get("COPILOT_HOME")
    return f"{f'COPILOT_HOME={home} ' if home else ''}copilot --resume {session}"


def status(
    notebook: Notebook, store: Sessions, tools: Sequence[str], answers: Mapping[str, bool]
) -> render.Bundle:
    """Return where this kernel stands, a line each.

    Parameters
    ----------
    notebook : Notebook
    store : Sessions
    tools : sequence of str
        Those that the model may use.
    answers : mapping
        Of those that ask: whether they are allowed, or denied, without a question.
    """
    rows = [["notebook", str(notebook.identity.path or "not known here")]]
    try:
        conversation = notebook.find()
    except CopilotError as error:
        conversation = None
        rows.append(["session", str(error)])
    if conversation is not None:
        rows += _of_session(conversation, store)
        rows += _ledger(conversation, notebook.replayed)
    elif len(rows) == 1:
        rows.append(["session", "none yet; %%copilot begins one"])
    rows += [
        ["provider", _provider(store)],
        ["may use", ", ".join(tools) or "no tools"],
        *([key, ", ".join(names)] for key, names in _unasked(answers).items() if names),
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
        ["session", f"{conversation.id}, {counted(len(turns), 'turn')}, {held}"],
        ["in a terminal", f"{terminal_command(conversation.id)} (after %copilot_release)"],
    ]
    if who := store.in_use_elsewhere(conversation.id):
        rows.append(["in use by", who])
    if conversation.terms.read_only:
        rows.append(["mode", "read only"])
    return rows


def _unasked(answers: Mapping[str, bool]) -> dict[str, list[str]]:
    allowed = [name for name, answer in answers.items() if answer]
    denied = [name for name, answer in answers.items() if not answer]
    return {"allowed unasked": allowed, "denied unasked": denied}


def _ledger(conversation: Conversation, replayed: int) -> list[list[str]]:
    """Return what the conversation cost and what went out with it, added up."""
    turns = conversation.turns()
    records = [entry.record for entry in conversation.replay.entries()]
    tokens_in = sum(record.usage[0] for record in records if record)
    tokens_out = sum(record.usage[1] for record in records if record)
    cost = sum(record.cost for record in records if record)
    values = {record.event: record.values for record in records if record}
    sent = [used.ledger(turn, values.get(turn.event_id, ())) for turn in turns]
    names = sorted({name for ledger in sent for name in ledger.names})
    images = sum(ledger.images for ledger in sent)
    secrets = sum(ledger.secrets for ledger in sent)
    calls = Counter(use.name for turn in turns for use in turn.uses)
    spent = f"{tokens_in:,} tokens in, {tokens_out:,} out"
    rows = [["used", spent + (f", cost {cost:g}" if cost else "")]]
    rows.append(["replayed", f"{counted(replayed, 'answer')} in this kernel"])
    if names or images:
        rows.append(["sent", ", ".join([*names, *([counted(images, "image")] if images else [])])])
    if secrets:
        rows.append(["withheld", counted(secrets, "secret")])
    if calls:
        rows.append(["tools", ", ".join(f"{name} ×{n}" for name, n in calls.most_common())])
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


def _row(row: CatalogRow, store: Sessions) -> list[str]:
    return [
        row.id,
        _short(row.name, 40),
        "?" if row.turns is None else f"{row.turns:,}",
        _ago(row.modified),
        size(row.size),
        _short(row.notebook or row.folder, 40, end=True),
        store.in_use_elsewhere(row.id),
    ]


def _ago(when: float) -> str:
    if not when:
        return ""
    seconds = max(0.0, time.time() - when)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return "now"


def size(count: int) -> str:
    """Return a number of bytes as a person reads it."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.0f} kB" if count < 1_000_000 else f"{count / 1e6:.1f} MB"


def _short(text: str, length: int, *, end: bool = False) -> str:
    if len(text) <= length:
        return text
    return "…" + text[-length + 1 :] if end else text[: length - 1] + "…"
