"""What a cell asks, and the key under which its answer is found again."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from copilot_jupyter.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copilot_jupyter.events import Attachment

#: Addresses in a repr change with every process and say nothing.
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
#: What is said before a prompt about variables that went with a former life of the kernel.
_RESTARTED = re.compile(r"\A<kernel_restarted>[^<]*</kernel_restarted>\n\n")


@dataclass(frozen=True)
class Question:
    """One prompt with all that its answer depends on.

    Parameters
    ----------
    prompt : str
        As written.
    sent : str
        As sent to the model; "" where that is the prompt itself.
    model : str
        The model that the cell names, "" if it names none.
    flags : tuple of (str, str)
        Other flags of the cell that change the answer, in any order.
    values : tuple of (str, str)
        Names of the values that the prompt interpolates, each with a digest of what is sent.
    attachments : tuple of Attachment
        What goes along: images of values, files. In the key by `values` and `flags`.
    """

    prompt: str
    sent: str = ""
    model: str = ""
    flags: tuple[tuple[str, str], ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attachment, ...] = ()

    @property
    def text(self) -> str:
        """What the model gets."""
        return self.sent or self.prompt

    @cached_property
    def key(self) -> str:
        """The key: prompt, flags and values; settings outside the cell are no part of it."""
        flags = [*self.flags, *([("model", self.model)] if self.model else [])]
        return _digest([normal(self.prompt), sorted(flags), sorted(self.values)])

    @cached_property
    def prompt_key(self) -> str:
        """The key of the prompt alone."""
        return key_of(self.prompt)

    @cached_property
    def content(self) -> str:
        """A digest of the text as sent, addresses masked."""
        return content_of(self.text)


def checked(prompt: str) -> str:
    """Return a prompt that can be sent: not empty, and valid Unicode.

    Raises
    ------
    BadInputError
        If there is nothing in it.
    """
    if not prompt.strip():
        raise BadInputError("The prompt is empty.", "Write it below the %%copilot line.")
    return paired(prompt)


def paired(text: str) -> str:
    """Return a text without halves of surrogate pairs, which no message can carry."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def key_of(prompt: str) -> str:
    """Return the key of a prompt without flags and values."""
    return _digest([normal(prompt), [], []])


def content_of(text: str) -> str:
    """Return a digest of a text as sent, addresses masked, without the note on a restart."""
    return _digest(ADDRESS.sub("0x", normal(_RESTARTED.sub("", text))))


def restarted(text: str, gone: Sequence[str]) -> str:
    """Return a text for the model with a note on the variables that it saw and that are gone."""
    note = f"The kernel was restarted. Variables that are gone: {', '.join(gone)}."
    return f"<kernel_restarted>{note}</kernel_restarted>\n\n{text}"


def tells_of_restart(text: str) -> bool:
    """Whether a text as sent begins with such a note."""
    return _RESTARTED.match(text) is not None


def normal(prompt: str) -> str:
    """Return a prompt without what an editor may change unasked: line ends, outer white space."""
    return prompt.replace("\r\n", "\n").strip()


def _digest(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
