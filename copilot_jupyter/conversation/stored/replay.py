"""Which stored turn answers a cell: nothing is asked twice.

A claim belongs to a cell and the n-th ask of the same key in one execution of it. It is
answered by this cell's own newest turn, else by the next turn of that key after the last
one that was replayed, else by the first; a turn answers one claim only. So two cells that
say "continue" keep their own answers, a loop of equal questions gets its answers back in
order, and without any cell ids the order of the cells tells them apart.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .question import tells_of_restart
from .turn_index import Entry, Stored, TurnIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from copilot_jupyter.state.store import Store

    from .question import Question
    from .records import Record


#: The last turns in which variables are looked for that the model was shown.
_LOOKED_AT = 50


@dataclass(frozen=True)
class Place:
    """Where in a notebook a question is asked.

    Parameters
    ----------
    cell : str
        The cell's id as the notebook file has it, "" where the front end tells none.
    handle : str
        What tells the cell from the others in this kernel; its id by default.
    nth : int
        Which ask of this question it is in this execution of the cell, from 0.
    whole : bool
        Whether the cell is one ``%%copilot``.
    asked : str
        The flag it is asked with: "again", "rewind", "branch" or "".
    others : container of str
        Ids of the cells of the notebook, as far as they are known: what those asked stays
        theirs.
    """

    cell: str = ""
    handle: str = ""
    nth: int = 0
    whole: bool = False
    asked: str = ""
    others: Container[str] = ()

    def claim(self, key: str) -> tuple[str, str, int]:
        """Return what claims a turn of this key here."""
        return (self.handle or self.cell, key, self.nth)


class Replay:
    """The claims of one kernel on the turns of one session.

    Parameters
    ----------
    store : Store
    session_id : str
    """

    def __init__(self, store: Store, session_id: str) -> None:
        self.index = TurnIndex(store, session_id)
        self._claims: dict[str, tuple[str, str, int]] = {}
        self._last = 0
        self._mutex = threading.RLock()

    def find(self, question: Question, place: Place) -> Stored | None:
        """Return the turn that answers a question asked here, and claim it; None if none does.

        Parameters
        ----------
        question : Question
        place : Place
        """
        with self._mutex:
            self.index.refresh()
            entry = self._choose(question, place)
            if entry is None:
                return None
            stored = self.index.stored(entry)
            if stored is not None:
                self._claim(entry, question.key, place)
            return stored

    def earlier(self, place: Place, *, first: bool = False) -> Entry | None:
        """Return the turn that this ``%%copilot`` cell asked last, None if it never did.

        Parameters
        ----------
        place : Place
        first : bool
            Return the one it asked first.
        """
        if not (place.cell and place.whole):
            return None
        with self._mutex:
            self.index.refresh()
            find = self.index.first_of_cell if first else self.index.of_cell
            return find(place.cell)

    def added(self, record: Record, since: int, place: Place) -> Stored | None:
        """Store and claim the turn that was just answered; see `TurnIndex.add`."""
        with self._mutex:
            stored = self.index.add(record, since)
            entry = self.index.entry(record.event)
            if entry is not None:
                self._claim(entry, record.key, place)
            return stored

    def entries(self) -> list[Entry]:
        """Return the turns of the session, those that were never answered included."""
        with self._mutex:
            self.index.refresh()
            return list(self.index.entries)

    def entry(self, event_id: str) -> Entry | None:
        """Return one turn by its event id, None if the session has none."""
        with self._mutex:
            self.index.refresh()
            return self.index.entry(event_id)

    def matching(self, question: Question) -> list[Entry]:
        """Return the turns of a question, oldest first, whoever claims them."""
        with self._mutex:
            self.index.refresh()
            return self.index.matching(question)

    def asked_before(self, question: Question, absent: Sequence[str]) -> Question:
        """Return the question as it was asked when the values were there that are not now.

        A prompt that names a value which the kernel does not have is the same question:
        its answer is shown, and nothing is sent that holds a name instead of a value.

        Parameters
        ----------
        question : Question
        absent : sequence of str
            The values that the prompt names and that are missing.

        Returns
        -------
        Question
            The same one where it was never asked so.
        """
        for entry in reversed(self.entries()) if absent else ():
            record = entry.record
            then = (
                {name: record.values[name] for name in absent if name in record.values}
                if record
                else {}
            )
            if then:
                candidate = replace(question, values=(*question.values, *then.items()))
                if candidate.key == entry.key:
                    return candidate
        return question

    def shown_and_gone(self, is_defined: Callable[[str], bool]) -> list[str]:
        """Return the variables that the model was shown since it was last told of a restart.

        Parameters
        ----------
        is_defined : callable
            Whether the kernel has a variable of this name.
        """
        gone: set[str] = set()
        for entry in reversed(self.entries()[-_LOOKED_AT:]):
            record = entry.record
            labels = record.values if record else {}
            gone.update(re.split(r"[:!]", label)[0] for label in labels if " " not in label)
            turn = self.index.turn(entry)
            for use in turn.uses if turn is not None else ():
                if use.name == "inspect_variable" and isinstance(use.arguments, dict):
                    gone.add(str(use.arguments.get("name", "")))
            if turn is not None and tells_of_restart(turn.sent):
                break
        gone.discard("")
        return sorted(name for name in gone if not is_defined(name))

    def stored(self, entry: Entry) -> Stored | None:
        """Read one turn back; None where the transcript has changed since."""
        with self._mutex:
            return self.index.stored(entry)

    def events(self) -> list[str]:
        """Return the event ids of the answered turns, in order."""
        return [entry.event for entry in self.entries() if entry.complete]

    def known(self) -> set[str]:
        """Return the event ids that were ever seen here: also of turns that were taken out."""
        with self._mutex:
            self.index.refresh()
            return self.index.known.union(entry.event for entry in self.index.entries)

    def ends_with(self, event_id: str) -> bool:
        """Whether this is the last turn, but for a prompt that was cut off without a trace."""
        for entry in reversed(self.entries()):
            if entry.event == event_id:
                return True
            if entry.complete:
                return False
            cut_off = self.index.turn(entry)
            if cut_off is None or cut_off.had_effects:
                return False
        return False

    def count(self) -> int:
        """Return how many answered turns the session has."""
        return len(self.events())

    def _choose(self, question: Question, place: Place) -> Entry | None:
        found = self.index.matching(question)
        if place.asked:
            found = [e for e in found if e.record is not None and e.record.asked == place.asked]
        mine = place.claim(question.key)
        if mine[0]:
            for entry in reversed(found):
                if self._claims.get(entry.event, _owner(entry, question)) == mine:
                    return entry
        free = [
            entry
            for entry in _newest(found)
            if entry.event not in self._claims and not self._reserved(entry, place)
        ]
        return next((e for e in free if e.number > self._last), free[0] if free else None)

    def _reserved(self, entry: Entry, place: Place) -> bool:
        """Whether the turn is that of another cell, which is still there to claim it."""
        record = entry.record
        if record is None or not place.cell:  # without ids the order of the cells decides
            return False
        return record.cell != place.cell and record.cell in place.others

    def _claim(self, entry: Entry, key: str, place: Place) -> None:
        self._claims[entry.event] = place.claim(key)
        self._last = entry.number


def _owner(entry: Entry, question: Question) -> tuple[str, str, int]:
    """Return the claim with which a turn was asked."""
    if entry.record is None:
        return ("", "", -1)
    return (entry.record.cell, question.key, entry.record.nth)


def _newest(found: list[Entry]) -> list[Entry]:
    """Leave out what its cell has asked anew since."""
    last = {(e.record.cell, e.record.nth): e for e in found if e.record and e.record.cell}
    return [
        e
        for e in found
        if not (e.record and e.record.cell) or last[e.record.cell, e.record.nth] is e
    ]
