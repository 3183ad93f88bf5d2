"""A conversation as a file for readers: Markdown, a web page, a notebook, or its events.

Secrets are taken out on the way, as they are of a bundle, and counted. A file that is there
is never written over.
"""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import replace
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copilot_jupyter.conversation import transcript
from copilot_jupyter.conversation.answer import Answer
from copilot_jupyter.conversation.binding import METADATA_KEY, Binding
from copilot_jupyter.conversation.pages import Pages
from copilot_jupyter.conversation.portable import embedded
from copilot_jupyter.conversation.shield.secrets import Shield
from copilot_jupyter.conversation.stored.question import Question, paired
from copilot_jupyter.conversation.words import counted
from copilot_jupyter.errors import BadInputError
from copilot_jupyter.events import ToolUse
from copilot_jupyter.notebook.display import listing, render

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from copilot_jupyter.conversation.sessions import Sessions
    from copilot_jupyter.conversation.stored.turn_index import Stored
    from copilot_jupyter.events import Turn

_ENDINGS = (".md", ".html", ".ipynb", ".jsonl")

#: Nothing of a page that somebody opens from a mail may run, or call anybody.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

_STYLE = """\
:root { color-scheme: light dark; --quiet: #59636e; --line: #d1d9e0; --soft: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --quiet: #9198a1; --line: #3d444d; --soft: #151b23; }
  body { background: #0d1117; color: #f0f6fc; }
  a { color: #4493f8; }
}
body { font: 16px/1.55 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto;
  padding: 0 1rem; }
header p, .who, footer { color: var(--quiet); font-size: .85rem; }
.who { margin: 0 0 .3rem; font-weight: 600; }
.who a { color: inherit; text-decoration: none; }
section { border-top: 1px solid var(--line); padding-top: 1rem; margin-top: 1.5rem; }
.prompt { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext;
  background: var(--soft); border-radius: 6px; padding: .6rem .8rem; margin: 0 0 1rem; }
.answer { overflow-wrap: anywhere; unicode-bidi: plaintext; }
pre { background: var(--soft); border-radius: 6px; padding: .6rem .8rem; overflow-x: auto; }
code { font-family: ui-monospace, monospace; font-size: .9em; }
table { border-collapse: collapse; }
th, td { border: 1px solid var(--line); padding: .2rem .6rem; }
blockquote { margin-left: 0; padding-left: 1rem; border-left: 3px solid var(--line); }
"""


def write(sessions: Sessions, session: str, file: str, last: int | None = None) -> str:
    """Write a conversation to a file, and return the line that says so.

    Parameters
    ----------
    sessions : Sessions
    session : str
        Id of the session.
    file : str
        Its ending says what it becomes: ``.md``, ``.html``, ``.ipynb`` or ``.jsonl``.
    last : int, optional
        Only this many turns, the last ones.

    Raises
    ------
    BadInputError
        If the ending is unknown, or the file is there or cannot be written.
    SessionNotFoundError
    """
    path = Path(file).expanduser()
    if path.suffix not in _ENDINGS:
        raise BadInputError(
            f"{file!r} ends in none of {', '.join(_ENDINGS)}.",
            "Give the file the ending of what it is to be.",
        )
    _check_free(path)
    shield = Shield.of(os.environ)
    pages = Pages(sessions.store, session)
    count = pages.count()
    first = max(1, count - last + 1) if last is not None else 1
    remark = ""
    if path.suffix == ".ipynb":
        text, remark = as_notebook(sessions, session, first, shield)
    elif path.suffix == ".jsonl":
        events = sessions.store.journal(session).events
        shown = pages.read(first, count)
        carried = [{**event, "data": shield.scrub_all(event["data"])} for event in events]
        text = transcript.as_jsonl(carried, shown)
    else:
        turns = [scrubbed(_as_read(turn), shield) for turn in pages.read(first, count)]
        name = shield.scrub(str(sessions.store.workspace(session).get("name") or ""))
        text = (
            transcript.as_markdown(session, session, turns)
            if path.suffix == ".md"
            else as_html(session, name, turns)
        )
    _write_new(path, text)
    turns_of = counted(count - first + 1 if count else 0, "turn")
    said = f"Wrote {turns_of} of {session} to {path} ({listing.size(path.stat().st_size)})."
    secrets = "1 secret was" if shield.count == 1 else f"{shield.count} secrets were"
    if shield.count:
        said += f" {secrets} left out."
    return f"{said} {remark}".rstrip()


def scrubbed(turn: Turn, shield: Shield) -> Turn:
    """Return a turn without secrets, and without halves of characters, which no file can hold."""
    prompt, answer = (shield.scrub(paired(text)) for text in (turn.prompt, turn.answer))
    # What is there twice is counted once.
    sent = prompt if turn.sent == turn.prompt else shield.scrub(paired(turn.sent))
    uses = tuple(
        replace(use, arguments=shield.scrub_all(use.arguments), result=shield.scrub(use.result))
        for use in turn.uses
    )
    return replace(turn, prompt=prompt, sent=sent, answer=answer, uses=uses)


def _as_read(turn: Turn) -> Turn:
    """Return what a person reads of a turn: as written and not as sent, the tools' names."""
    return replace(turn, sent=turn.prompt, uses=tuple(ToolUse(use.name) for use in turn.uses))


# -- a web page --------------------------------------------------------------------------------


def as_html(session: str, name: str, turns: Sequence[Turn]) -> str:
    """Return a conversation as one web page that needs nothing else and runs nothing.

    Parameters
    ----------
    session : str
    name : str
        The session's title.
    turns : sequence of Turn
    """
    title = escape(" ".join(name.split()) or session)
    head = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{_STYLE}{_colours()}</style></head><body>\n"
    )
    about = f"Session {escape(session)}, {counted(len(turns), 'turn')}"
    header = f"<header><h1>{title}</h1><p>{about}</p></header>"
    body = "".join(map(_section, turns))
    return f"{head}{header}\n<main>\n{body}</main></body></html>\n"


def _section(turn: Turn) -> str:
    when = f" · {turn.at:%Y-%m-%d %H:%M} UTC" if turn.at else ""
    model = f" · {escape(turn.model)}" if turn.model else ""
    used = f" · used {escape(', '.join(turn.tools))}" if turn.tools else ""
    unanswered = "" if turn.complete else "<p><em>not answered</em></p>"
    name = f"turn-{turn.number}"
    link = f'<a href="#{name}">{turn.number}</a>'
    return (
        f'<section id="{name}"><p class="who">{link} · you{when}</p>\n'
        f'<div class="prompt">{escape(turn.prompt)}</div>\n'
        f'<p class="who">{turn.number} · copilot{model}{used}</p>\n'
        f'<div class="answer">{render.markdown(turn.answer)}{unanswered}</div></section>\n'
    )


@cache
def _colours() -> str:
    """Return Pygments' colours for light and dark."""
    from pygments.formatters import HtmlFormatter

    light, dark = (
        "\n".join(
            line
            for line in HtmlFormatter(style=style).get_style_defs(".highlight").splitlines()
            if line.startswith(".highlight .")  # colours only: no background, no line numbers
        )
        for style in ("default", "github-dark")
    )
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"


# -- a notebook --------------------------------------------------------------------------------


def as_notebook(sessions: Sessions, session: str, first: int, shield: Shield) -> tuple[str, str]:
    """Return a conversation as a notebook that carries its turns, and a remark about it.

    Run where the session is, or where nobody knows it, every cell shows its answer again
    and no model is asked.

    Parameters
    ----------
    sessions : Sessions
    session : str
    first : int
        Number of the first turn.
    shield : Shield
    """
    asked_anew = 0
    cells = [
        _markdown_cell(
            "title",
            f"# {session}\n\nA conversation with GitHub Copilot. Run it again: no model is asked.",
        ),
        _code_cell("load", "%load_ext copilot_jupyter"),
        _code_cell("resume", f"%copilot_resume {session}"),
    ]
    for stored in _stored(sessions, session, first):
        turn = scrubbed(stored.turn, shield)
        key, source = stored.key, _source(stored)
        if turn.prompt != stored.turn.prompt:
            asked_anew += 1
            key = Question(turn.prompt).key
            source = f"%%copilot\n{turn.prompt}"
        answer = Answer.of(replace(stored, turn=turn, key=key), session)
        cells.append(_code_cell(f"turn-{turn.number}", source, _output(answer)))
    notebook = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    text = json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"
    if not asked_anew:
        return text, ""
    prompts = "A prompt" if asked_anew == 1 else f"{asked_anew} prompts"
    return text, f"{prompts} had one; where {session} is known, such a cell asks anew."


def _stored(sessions: Sessions, session: str, first: int) -> Iterator[Stored]:
    """Yield the answered turns with what is stored about them."""
    replay = sessions.replay(session)
    for entry in replay.entries():
        if entry.complete and entry.number >= first and (stored := replay.stored(entry)):
            yield stored


def _source(stored: Stored) -> str:
    """Return the cell that asks a turn's question; one that no cell can ask is a comment."""
    turn = stored.turn
    for model, no_tools in itertools.product(("", turn.model), (False, True)):
        flags = (("no-tools", ""),) if no_tools else ()
        if Question(turn.prompt, model=model, flags=flags).key == stored.key:
            typed = f" --model {model}" if model else ""
            typed += " --no-tools" if no_tools else ""
            return f"%%copilot{typed}\n{turn.prompt}"
    lines = [
        f"Turn {turn.number} was asked with values of its kernel; its answer is kept below.",
        *turn.prompt.splitlines(),
    ]
    return "\n".join(f"# {line}".rstrip() for line in lines)


def _output(answer: Answer) -> dict[str, Any]:
    stored = answer.stored
    assert stored is not None  # noqa: S101 -- of `Answer.of`
    turn = stored.turn
    # Neither path nor notebook id: this is no copy of the notebook that asked.
    entry = Binding(answer.session).to_metadata() | {"at": turn.at.isoformat() if turn.at else ""}
    entry |= embedded.entry(
        turn,
        session=answer.session,
        parent=stored.parent,
        key=stored.key,
        values=stored.values,
    )
    return {
        "output_type": "display_data",
        "data": {
            name: text.splitlines(keepends=True)
            for name, text in render.answer_bundle(answer).items()
        },
        "metadata": {METADATA_KEY: entry},
    }


def _code_cell(name: str, source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "id": name,
        "metadata": {},
        "execution_count": None,
        "source": source.splitlines(keepends=True),
        "outputs": list(outputs),
    }


def _markdown_cell(name: str, source: str) -> dict[str, Any]:
    return {
        "cell_type": "markdown",
        "id": name,
        "metadata": {},
        "source": source.splitlines(keepends=True),
    }


# -- the file ----------------------------------------------------------------------------------


def _check_free(path: Path) -> None:
    if path.exists():
        kind = "a directory" if path.is_dir() else "a file"
        raise BadInputError(
            f"{path} exists already, {kind}, and was left as it is.",
            "Choose another name, or remove it.",
        )


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8", errors="replace", newline="\n") as out:
            out.write(text)
    except FileExistsError:
        _check_free(path)
        raise
    except OSError as error:
        raise BadInputError(
            f"{path} cannot be written: {error.strerror}.", "Choose another place."
        ) from None
