"""Which embedded turn follows which: the courses that a conversation took, and what they add here.

Two people who go on from one turn, each in a copy of a notebook, make two courses of it. A
notebook that both were merged into carries them all.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import BadInputError

from .embedded import damaged

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from .embedded import EmbeddedTurn


@dataclass(frozen=True)
class News:
    """What a notebook knows of a session that this machine does not.

    Parameters
    ----------
    added : tuple of EmbeddedTurn
        Turns that go on where the local conversation ends.
    branches : tuple of tuples of EmbeddedTurn
        Whole conversations that left it earlier, with the turns they share.
    """

    added: tuple[EmbeddedTurn, ...] = ()
    branches: tuple[tuple[EmbeddedTurn, ...], ...] = ()


def chains(turns: Iterable[EmbeddedTurn]) -> list[list[EmbeddedTurn]]:
    """Return the conversations that the turns of one session form.

    One, unless they diverged, as after a merge of two people's notebooks: then each from
    the first turn on, through the turns they share. A turn whose parent is not there (its
    cell was deleted) follows the nearest turn that could come before it.

    Parameters
    ----------
    turns : iterable of EmbeddedTurn

    Returns
    -------
    list of lists of EmbeddedTurn
        First the one whose last turn is newest, which is the current course: after a rewind
        the outputs of the cells below still hold the old one, and that may be longer. Of
        several as new the longest.

    Raises
    ------
    BadInputError
        If one turn is there twice, with different content.
    """
    return _chains(turns, ())


def compare(local: Sequence[str], known: Collection[str], turns: Iterable[EmbeddedTurn]) -> News:
    """Return what the turns of one session, out of a notebook, add to what is here.

    Of two conversations that go on where the local one ends, the one whose last turn is
    newest is added (of two as new the longer); the other is a branch.

    Parameters
    ----------
    local : sequence of str
        Event ids of the local session's turns, in order.
    known : collection of str
        Event ids that are known otherwise: of turns that were rewound, or are in a branch.
    turns : iterable of EmbeddedTurn

    Raises
    ------
    BadInputError
        If one turn is there twice, with different content.
    """
    ours = {*local, *known}
    added: tuple[EmbeddedTurn, ...] = ()
    branches: list[tuple[EmbeddedTurn, ...]] = []
    for chain in _chains(turns, local):
        first = next((n for n, turn in enumerate(chain) if turn.event not in ours), None)
        if first is None:
            continue
        tail = chain[first:]
        before = tail[0].parent
        goes_on = before == local[-1] if local else not first and before not in ours
        if goes_on and not added and not any(turn.event in ours for turn in tail):
            added = tuple(tail)
        else:
            branches.append(tuple(chain))
    return News(added, tuple(branches))


def _chains(turns: Iterable[EmbeddedTurn], local: Sequence[str]) -> list[list[EmbeddedTurn]]:
    nodes = _unique(turns)
    above = _above(nodes, local)
    _check_ends(nodes, above)
    inner = set(above.values())
    found = []
    for last in nodes:
        if last not in inner:
            chain, event = [], last
            while event:
                chain.append(nodes[event])
                event = above[event]
            found.append(chain[::-1])
    return sorted(found, key=lambda chain: (chain[-1].moment, len(chain)), reverse=True)


def _check_ends(nodes: dict[str, EmbeddedTurn], above: dict[str, str]) -> None:
    """Make sure that every conversation has a first turn: none goes in a circle."""
    below: dict[str, list[str]] = {}
    for event, parent in above.items():
        below.setdefault(parent, []).append(event)
    reached = [""]
    for event in reached:  # grows as it goes
        reached += below.get(event, [])
    if len(reached) <= len(nodes):
        ends = set(reached)
        turn = next(turn for event, turn in nodes.items() if event not in ends)
        raise damaged(
            f"Turn {turn.turn} in cell {turn.cell + 1} of {turn.source} and the turns before it "
            "follow each other in a circle."
        )


def _unique(turns: Iterable[EmbeddedTurn]) -> dict[str, EmbeddedTurn]:
    """Return the turns by event, in the order of their numbers."""
    found: dict[str, EmbeddedTurn] = {}
    for turn in sorted(turns, key=lambda turn: (turn.turn, turn.cell)):
        same = found.setdefault(turn.event, turn)
        if _content(same) != _content(turn):
            raise BadInputError(
                f"Turn {turn.turn} of {turn.session} is there twice and differs: in cell "
                f"{same.cell + 1} of {same.source} and in cell {turn.cell + 1} of {turn.source}.",
                "Clear the output of the cell that is wrong.",
            )
    return found


def _content(turn: EmbeddedTurn) -> tuple[Any, ...]:
    """Return what was said; a session rebuilt without a deleted turn numbers the rest anew."""
    return turn.session, turn.prompt, turn.sent, turn.answer


def _above(nodes: dict[str, EmbeddedTurn], local: Sequence[str]) -> dict[str, str]:
    """Return for each turn the one it follows, "" for the first of a conversation.

    What the local session says of its own turns goes before what their numbers suggest.
    """
    upto: dict[str, str] = {}  # per local turn: the last one up to it that is in the notebook
    over: dict[str, str] = {}  # the same without the turn itself
    last = ""
    for event in local:
        over[event] = last
        last = event if event in nodes else last
        upto[event] = last
    above: dict[str, str] = {}
    missing: dict[str, str] = {"": ""}  # turns with one missing parent stay together
    gaps: set[str] = set()
    levels: dict[int, list[EmbeddedTurn]] = {}  # by number, each in the order of the cells
    for turn in nodes.values():
        levels.setdefault(turn.turn, []).append(turn)
    everything = list(levels.values())
    moved: dict[int, list[EmbeddedTurn]] = {}  # the same of the turns in `gaps`
    for event, turn in nodes.items():
        parent = turn.parent
        if event in over:
            above[event] = over[event]
        elif parent in nodes:
            above[event] = parent
        elif parent in upto:
            above[event] = upto[parent]
        else:
            if parent not in missing:
                missing[parent] = _nearest(turn, everything, moved.get(turn.turn - 1))
            above[event] = missing[parent]
        if above[event] != parent or parent in gaps:
            gaps.add(event)
            moved.setdefault(turn.turn, []).append(turn)
    return above


def _nearest(
    turn: EmbeddedTurn,
    levels: Sequence[Sequence[EmbeddedTurn]],
    moved: Sequence[EmbeddedTurn] | None,
) -> str:
    """Return the turn that one without its parent most likely descends from, "" if none can be.

    The missing parent had the number before its own, so that another turn of that number
    was none of its ancestors, unless a rebuilding without deleted turns moved the numbers.

    Parameters
    ----------
    turn : EmbeddedTurn
    levels : sequence of sequences of EmbeddedTurn
        All turns of each number, by number and then by cell.
    moved : sequence of EmbeddedTurn, optional
        Those of the number before that follow a gap, by cell.
    """
    level = moved
    if level is None:
        below = bisect_left(levels, turn.turn - 1, key=lambda level: level[0].turn)
        if not below:
            return ""
        level = levels[below - 1]
    # Of one number the nearest above, or else the nearest below.
    above = bisect_left(level, turn.cell, key=lambda other: other.cell)
    if above:
        above = bisect_left(level, level[above - 1].cell, key=lambda other: other.cell)
    return level[above].event
