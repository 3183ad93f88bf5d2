"""Numbers and prompts as a message says them."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return how many there are of something: ``1 row``, ``1,000 rows``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def beginning(prompt: str) -> str:
    """Return the first words of a prompt, in one line."""
    line = " ".join(prompt.split())
    return line if len(line) <= 60 else line[:59] + "…"
