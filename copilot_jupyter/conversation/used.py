"""What a turn used and sent, as far as a notebook carries and shows it.

What is shown of a turn is a function of the stored turn, and a turn that was rebuilt from
a notebook is to look the same; so both show no more of a tool call than is carried.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .shield.masks import MASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from copilot_jupyter.events import ToolUse, Turn

#: Bytes of a text as sent that are carried, its mark included.
LARGEST_SENT = 8 * 1024
#: Tool calls of a turn that are carried, and characters of one argument or result.
CALLS, LENGTH = 50, 2_000
#: Characters of all arguments of a call, as JSON.
_ARGUMENTS = 3 * LENGTH
_MARK = "… [cut]"
#: Stands in the text as sent for each picture beside it.
ATTACHED = "(its picture is attached)"


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


def carried_text(text: str) -> str:
    """Return a text as sent as it is carried; of what is carried already, the same."""
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= LARGEST_SENT:
        return text
    keep = LARGEST_SENT - len(_mark(len(data)).encode())
    while data[keep] & 0xC0 == 0x80:  # inside a character
        keep -= 1
    return data[:keep].decode("utf-8", "surrogatepass") + _mark(len(data) - keep)


def _mark(missing: int) -> str:
    return f"…[cut by copilot-jupyter: {missing} bytes more]"


@dataclass(frozen=True)
class Ledger:
    """What went out with a prompt.

    Parameters
    ----------
    names : tuple of str
        The values whose views were sent.
    images : int
    secrets : int
        How many were replaced, in the text as sent and in what tools gave back.
    """

    names: tuple[str, ...] = ()
    images: int = 0
    secrets: int = 0


def ledger(turn: Turn, values: Iterable[str] = ()) -> Ledger:
    """Return what went out with a stored turn.

    It is read from the text as sent and the tools' results, as far as a notebook carries them.

    Parameters
    ----------
    turn : Turn
    values : iterable of str
        What is stored of it: the names of values and files, with their formats.
    """
    sent = carried_text(turn.sent or turn.prompt)
    names = dict.fromkeys(re.split("[:!]", label)[0].removeprefix("file ") for label in values)
    secrets = max(_masks(sent) - _masks(carried_text(turn.prompt)), 0)
    secrets += sum(_masks(use.result) for use in carried(turn.uses))
    return Ledger(tuple(names), sent.count(ATTACHED), secrets)


def _masks(text: str) -> int:
    return len(MASK.findall(text))
