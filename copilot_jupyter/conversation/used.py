"""What a turn used and sent, as far as a notebook carries and shows it.

What is shown of a turn is a function of the stored turn, and a turn that was rebuilt from
a notebook is to look the same; so both show no more of a tool call than is carried.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from copilot_jupyter.events import ToolUse, Turn

#: Tool calls of a turn that are carried, and characters of one argument or result.
CALLS, LENGTH = 50, 2_000
#: Characters of all arguments of a call, as JSON.
_ARGUMENTS = 3 * LENGTH
_MARK = "… [cut]"
_SECRET = re.compile(r"‹secret:[\w.-]{1,100}›")
_PICTURE = "(its picture is attached)"


def carried(uses: Sequence[ToolUse]) -> tuple[ToolUse, ...]:
    """Return tool calls as they are carried; of what is carried already, the same.

    Parameters
    ----------
    uses : sequence of ToolUse
    """
    return tuple(
        replace(use, arguments=_arguments(use.arguments), result=_cut(use.result))
        for use in uses[:CALLS]
    )


def _arguments(arguments: Any) -> dict[str, Any]:
    if not isinstance(arguments, dict):
        arguments = {} if arguments is None else {"arguments": str(arguments)}
    small = {
        str(name): _cut(value) if isinstance(value, str) else value
        for name, value in arguments.items()
    }
    text = json.dumps(small, ensure_ascii=False)
    return small if len(text) <= _ARGUMENTS else {"arguments": _cut(text)}


def _cut(text: str) -> str:
    return text if len(text) <= LENGTH else text[: LENGTH - len(_MARK)] + _MARK


@dataclass(frozen=True)
class Ledger:
    """What went out with a prompt.

    Parameters
    ----------
    names : tuple of str
        The values whose views were sent.
    images : int
    secrets : int
        How many were replaced.
    """

    names: tuple[str, ...] = ()
    images: int = 0
    secrets: int = 0


def ledger(turn: Turn, values: Iterable[str] = ()) -> Ledger:
    """Return what went out with a stored turn.

    It is read from the text as sent, as far as a notebook carries that.

    Parameters
    ----------
    turn : Turn
    values : iterable of str
        What is stored of it: the names of values and files, with their formats.
    """
    from .embedded import cut

    sent = cut(turn.sent or turn.prompt)
    names = dict.fromkeys(re.split("[:!]", label)[0].removeprefix("file ") for label in values)
    secrets = len(_SECRET.findall(sent)) - len(_SECRET.findall(cut(turn.prompt)))
    return Ledger(tuple(names), sent.count(_PICTURE), max(secrets, 0))
