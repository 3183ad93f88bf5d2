"""A conversation read a page at a time: only the turns that are shown are made of its events.

A transcript of ten thousand turns has some ten megabytes. To find where its turns begin
takes a look at the beginning of each line; what they say is read when their page is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from copilot_jupyter.garbage import uncollected
from copilot_jupyter.state.journal import PROMPT_LINE, USER_MESSAGE, is_prompt, parse_journal

from . import transcript

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copilot_jupyter.events import Turn
    from copilot_jupyter.state.store import Store

#: Turns on one page.
PAGE = 20

#: Turns that a search reads at a time.
_BATCH = 200
#: Characters of a turn shown on each side of what was found.
_AROUND = 60


@dataclass(frozen=True)
class Hit:
    """Where a text was found.

    Parameters
    ----------
    number : int
        Of the turn, from 1.
    who : str
        Whose words they are: "you" or "copilot".
    before, found, after : str
        The text with what stands around it, in one line; cut ends are marked.
    """

    number: int
    who: str
    before: str
    found: str
    after: str

    def __str__(self) -> str:
        return f"{self.before}{self.found}{self.after}"


class Pages:
    """The turns of one session by their numbers.

    Needs no runtime and no lock. What is written meanwhile is there at the next look.

    Parameters
    ----------
    store : Store
    session_id : str
    """

    def __init__(self, store: Store, session_id: str) -> None:
        self._store = store
        self._id = session_id
        self._seen: tuple[int, int, int] = (-1, 0, 0)
        self._places: list[int] = []

    def count(self) -> int:
        """Return how many turns there are, answered or not.

        Raises
        ------
        SessionNotFoundError, StateFolderError
        """
        self._look()
        return len(self._places)

    def read(self, first: int, last: int) -> list[Turn]:
        """Return the turns of these numbers; fewer where there are not as many.

        Parameters
        ----------
        first, last : int
            Numbers, from 1; both are included.

        Raises
        ------
        SessionNotFoundError, StateFolderError
        """
        self._look()
        first, last = max(first, 1), min(last, len(self._places))
        if first > last:
            return []
        end = self._places[last] if last < len(self._places) else None
        start = self._places[first - 1]
        try:
            with self._store.journal_path(self._id).open("rb") as file:
                file.seek(start)
                data = file.read() if end is None else file.read(end - start)
        except OSError:
            raise self._store.not_found(self._id) from None
        found = transcript.turns(parse_journal(data).events)[: last - first + 1]
        return [replace(turn, number=first + turn.number - 1) for turn in found]

    def page(self, first: int | None = None, length: int = PAGE) -> list[Turn]:
        """Return a page of turns that begins with a number; the last page by default."""
        if first is None:
            first = max(1, self.count() - length + 1)
        return self.read(first, first + length - 1)

    def search(self, text: str) -> Iterator[Hit]:
        """Yield where a text stands in prompts and answers, in order; one hit a turn and side.

        Parameters
        ----------
        text : str
            Case does not matter, nor which white space stands between the words.
        """
        words = text.split()
        if not words:
            return
        pattern = re.compile(r"\s+".join(map(re.escape, words)), re.IGNORECASE)
        for first in range(1, self.count() + 1, _BATCH):
            for turn in self.read(first, first + _BATCH - 1):
                for who, said in (("you", turn.prompt), ("copilot", turn.answer)):
                    if match := pattern.search(said):
                        yield _hit(turn.number, who, said, match)

    def _look(self) -> None:
        """Find out where the turns begin, if the transcript has changed."""
        path = self._store.journal_path(self._id)
        try:
            stat = path.stat()
            seen = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
            if seen == self._seen:
                return
            places, at = [], 0
            with uncollected(), path.open("rb") as file:
                for line in file:
                    if USER_MESSAGE in line and _asks(line):
                        places.append(at)
                    at += len(line)
        except (FileNotFoundError, NotADirectoryError):
            raise self._store.not_found(self._id) from None
        except OSError:
            self._store.journal(self._id)  # says what is wrong
            raise
        self._places, self._seen = places, seen


def _asks(line: bytes) -> bool:
    """Whether a line that names user messages is a prompt of the person."""
    # In a text these quotes would be escaped: where they stand they are keys. Not to read
    # the prompts saves a quarter of a second on ten thousand.
    plain = line.startswith(PROMPT_LINE) and line.endswith(b"}\n")
    if plain and b'"source":' not in line and b'"agentId":' not in line:
        return True
    return any(map(is_prompt, parse_journal(line).events))


def _hit(number: int, who: str, said: str, match: re.Match[str]) -> Hit:
    start, end = match.span()
    # Twice as much, since white space is folded.
    before = re.sub(r"\s+", " ", said[max(0, start - 2 * _AROUND) : start])
    after = re.sub(r"\s+", " ", said[end : end + 2 * _AROUND])
    cut_before = start > 2 * _AROUND or len(before) > _AROUND
    cut_after = len(said) - end > 2 * _AROUND or len(after) > _AROUND
    return Hit(
        number,
        who,
        ("…" if cut_before else "") + before[-_AROUND:],
        " ".join(match[0].split()),
        after[:_AROUND] + ("…" if cut_after else ""),
    )
