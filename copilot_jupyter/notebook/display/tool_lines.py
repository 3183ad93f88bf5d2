"""The tool calls of an answer: one line each, which opens to show arguments and result."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from copilot_jupyter.conversation.interpolate import fence
from copilot_jupyter.conversation.used import carried, ledger
from copilot_jupyter.conversation.words import counted
from copilot_jupyter.notebook.display import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copilot_jupyter.conversation.stored.turn_index import Stored
    from copilot_jupyter.events import ToolUse

_STATUS = {"success": "", "denied": " · denied", "": " · stopped"}
#: Arguments that say what a call is about, those that tell more first.
_TELLING = ("path", "command", "code", "source", "name", "url", "pattern")
#: Said where code ran.
RAN = "ran code, which a replay does not"


def html(uses: Sequence[ToolUse]) -> str:
    """Return the calls as HTML that opens without a script.

    Parameters
    ----------
    uses : sequence of ToolUse
    """
    return "".join(map(_line, carried(uses)))


def _line(use: ToolUse) -> str:
    status = _STATUS.get(use.status, " · failed")
    summary = f"<summary>{render.quoted(use.name)}{_about(use)}{status}</summary>"
    parts = [_block(text, language) for text, language in _shown(use.arguments)]
    if use.result:
        parts.append(_block(use.result, ""))
    return f'<details class="copilot-tool">{summary}{"".join(parts)}</details>'


def _about(use: ToolUse) -> str:
    """Return a few words about the call, such as the variable's name."""
    values = {n: value for n, value in use.arguments.items() if isinstance(value, str) and value}
    telling = next(filter(values.__contains__, _TELLING), next(iter(values), ""))
    if not telling or (telling not in _TELLING and len(values) > 1):
        return ""
    lines = values[telling].strip().splitlines() or [""]
    first = lines[0] if len(lines[0]) <= 60 else f"{lines[0][:59]}…"
    more = f" (+{len(lines) - 1} lines)" if len(lines) > 1 else ""
    return f" · <code>{render.quoted(first)}</code>{more}"


def _shown(arguments: dict[str, Any]) -> list[tuple[str, str]]:
    code = arguments.get("code", arguments.get("source"))
    if isinstance(code, str):
        rest = {name: value for name, value in arguments.items() if value is not code}
        shown = [(code, "python")]
    else:
        rest, shown = arguments, []
    if rest:
        shown.append((json.dumps(rest, ensure_ascii=False, indent=1), "json"))
    return shown


def _block(text: str, language: str) -> str:
    around = fence(text)
    return render.markdown(f"{around}{language}\n{text}\n{around}")


def facts(stored: Stored) -> list[str]:
    """Return what the footer says of what a turn sent and ran.

    Parameters
    ----------
    stored : Stored
    """
    turn = stored.turn
    sent = ledger(turn, stored.values)
    said = []
    if sent.names:
        said.append(f"sent {', '.join(sent.names)}")
    if sent.images:
        said.append(counted(sent.images, "image"))
    if sent.secrets:
        said.append(f"{counted(sent.secrets, 'secret')} withheld")
    if any(use.name == "run_python" and use.had_effects for use in turn.uses):
        said.append(RAN)
    return said
