"""What a cell asks, and the key under which its answer is found again."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property

from copilot_jupyter.errors import BadInputError

#: Addresses in a repr change with every process and say nothing.
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")


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
    """

    prompt: str
    sent: str = ""
    model: str = ""
    flags: tuple[tuple[str, str], ...] = ()
    values: tuple[tuple[str, str], ...] = ()

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
    # Half of a surrogate pair is no text, and the runtime would refuse the whole message.
    return prompt.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def key_of(prompt: str) -> str:
    """Return the key of a prompt without flags and values."""
    return _digest([normal(prompt), [], []])


def content_of(text: str) -> str:
    """Return a digest of a text as sent, addresses masked."""
    return _digest(_ADDRESS.sub("0x", normal(text)))


def normal(prompt: str) -> str:
    """Return a prompt without what an editor may change unasked: line ends, outer white space."""
    return prompt.replace("\r\n", "\n").strip()


def _digest(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
