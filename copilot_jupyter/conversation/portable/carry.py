"""Sessions that come from elsewhere: rebuilt from a notebook, restored from a bundle.

Nothing here overwrites: a session is made where its id is free, continued where the turns
go on from its end, and branched where they do not.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from copilot_jupyter.conversation import transcript
from copilot_jupyter.conversation.stored import outputs
from copilot_jupyter.conversation.stored.records import (
    FILE,
    Record,
    file_of,
    lines,
    read_records,
    to_record,
)
from copilot_jupyter.conversation.stored.replay import Replay
from copilot_jupyter.conversation.stored.spans import with_spans
from copilot_jupyter.conversation.words import counted
from copilot_jupyter.errors import BadInputError
from copilot_jupyter.state.files import write_whole
from copilot_jupyter.state.ids import check_id
from copilot_jupyter.state.journal import is_prompt, journal_bytes, with_id
from copilot_jupyter.state.metadata import BRANCH_OF

from . import bundle, bundle_file, lineage, transcribe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from copilot_jupyter.conversation.shield.secrets import Shield
    from copilot_jupyter.state.store import Store

    from .bundle import Bundle
    from .embedded import EmbeddedTurn

#: What the id of a conversation that was merged into a notebook ends with.
MERGED = "-merged"


def rebuild(
    store: Store,
    session_id: str,
    turns: Sequence[EmbeddedTurn],
    folder: str,
    metadata: dict[str, str] | None = None,
) -> list[str]:
    """Make a session out of the turns that a notebook carries.

    Parameters
    ----------
    store : Store
    session_id : str
        Its id; free here.
    turns : sequence of EmbeddedTurn
        All that the notebook has of it; those that diverge become sessions of their own.
    folder : str
        Its working directory here.
    metadata : dict, optional
        Client metadata, the tie to its notebook.

    Returns
    -------
    list of str
        What was done, a line each.
    """
    main, *others = lineage.chains(turns)
    _make(store, session_id, main, folder, metadata)
    total = main[-1].turn
    source = main[0].source
    said = [f"{session_id} was rebuilt from {source}: {len(main)} of {total} turns."]
    return said + branch_off(store, session_id, others, folder)


def branch_off(
    store: Store, session_id: str, chains: Iterable[Sequence[EmbeddedTurn]], folder: str
) -> list[str]:
    """Keep each conversation that diverged from a session as a branch of it; say which.

    One that goes on from a branch that is here already is added to that.
    """
    said = []
    for chain in chains:
        branch, new = _branch_for(store, session_id, chain)
        if branch and new:
            go_on(store, branch, new)
        elif not branch:
            branch = store.free_id(f"{session_id}{MERGED}")
            parent, new = _shared(store, session_id, chain)
            if parent:
                after = _event_after(store, session_id, parent)
                store.fork(session_id, branch, until=after, metadata={BRANCH_OF: session_id})
                go_on(store, branch, new)
            else:
                _make(store, branch, chain, folder, {BRANCH_OF: session_id})
        said.append(
            f"{chain[-1].source} also carries another course of {session_id}; "
            f"it is kept as {branch}, {counted(len(Replay(store, branch).events()), 'turn')}."
        )
    return said


def _branch_for(
    store: Store, session_id: str, chain: Sequence[EmbeddedTurn]
) -> tuple[str, Sequence[EmbeddedTurn]]:
    """Return the branch whose end a chain goes on from, and what it adds; "" if there is none."""
    for branch in merged(store, session_id):
        events = Replay(store, branch).events()
        for position, turn in enumerate(chain):
            if events and turn.parent == events[-1]:
                return branch, chain[position:]
    return "", ()


def _shared(
    store: Store, session_id: str, chain: Sequence[EmbeddedTurn]
) -> tuple[str, Sequence[EmbeddedTurn]]:
    """Return the last turn that a chain shares with the session, and what follows it."""
    here = set(Replay(store, session_id).events()) if store.exists(session_id) else set()
    for position, turn in enumerate(chain):
        if turn.event not in here:
            return (turn.parent if turn.parent in here else ""), chain[position:]
    return "", ()


def _event_after(store: Store, session_id: str, event_id: str) -> str:
    """Return the event id of the prompt that follows a turn, "" if it is the last."""
    events = [entry.event for entry in Replay(store, session_id).entries()]
    return (*events, "")[events.index(event_id) + 1]


def merged(store: Store, session_id: str) -> list[str]:
    """Return the branches that notebooks brought to a session, oldest first."""
    return [
        branch
        for branch in store.ids_beginning(f"{session_id}{MERGED}")
        if store.client_metadata(branch).get(BRANCH_OF) == session_id
    ]


def go_on(store: Store, session_id: str, turns: Sequence[EmbeddedTurn]) -> None:
    """Append turns to a session. Only with its lock held and no runtime on it."""
    parent = str(store.tail(session_id).events[-1].get("id") or "")
    events = []
    for turn in turns:
        events += transcribe.turn_events(turn, parent)
        parent = events[-1]["id"]
    store.append(session_id, events)
    path = file_of(store, session_id)
    records = [*read_records(path), *_records(turns)]
    for turn in turns:
        outputs.keep(store, session_id, turn.event, turn.outputs)
    with store.disk_errors():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        data = store.journal_path(session_id).read_bytes()
        write_whole(path, lines(with_spans(data, records)))


def restore(
    store: Store,
    found: Bundle,
    session_id: str,
    folder: str,
    metadata: dict[str, str] | None = None,
) -> None:
    """Make a session out of a bundle.

    Raises
    ------
    SessionExistsError
        If the id is taken.
    """
    start, *rest = with_id(found.events, check_id(session_id))
    start = {**start, "data": {**start["data"], "context": {"cwd": folder}}}
    events = [start, *rest]
    records = filter(None, map(to_record, found.records))
    stored = lines(with_spans(journal_bytes(events), list(records)))
    name = found.name[:100]
    store.make(
        session_id, events, folder=folder, name=name, metadata=metadata, files={FILE: stored}
    )


def import_bundle(
    store: Store,
    path: Path,
    session_id: str,
    folder: str,
    metadata: dict[str, str] | None = None,
) -> tuple[str, str]:
    """Bring a bundle's session in; one that is here already must be the same.

    Parameters
    ----------
    store : Store
    path : Path
    session_id : str
        The id to give it, "" for its own.
    folder : str
    metadata : dict, optional
        Client metadata, the tie to a notebook.

    Returns
    -------
    tuple of str
        Its id, and what was done in one line.

    Raises
    ------
    BadInputError
        If the bundle cannot be used, or differs from the session that has its id here.
    """
    found = bundle_file.load(path)
    target = check_id(session_id or found.session)
    count = len(transcript.turns(found.events))
    if store.taken(target):
        here = [turn.event_id for turn in transcript.turns(store.journal(target).events)]
        there = [str(event.get("id")) for event in found.events if is_prompt(event)]
        if here != there:
            raise BadInputError(
                f"{target} is here already and differs from {path.name}: {_differ(here, there)}.",
                f"Give it another id: %copilot_import {path.name} {store.free_id(target)}.",
            )
        return target, f"{target} is here already, with the same {counted(count, 'turn')}."
    restore(store, found, target, folder, metadata)
    scrubbed = f" {found.secrets} secrets were left out of it." if found.secrets else ""
    return target, f"{target} was restored from {path.name}: {counted(count, 'turn')}.{scrubbed}"


def export(store: Store, session_id: str, path: Path, shield: Shield) -> str:
    """Write a session as a bundle, and return one line about it.

    Raises
    ------
    BadInputError
        If the file can't be written, or holds something else.
    """
    journal = store.journal(session_id)
    prompts = [str(event.get("id")) for event in journal.events if is_prompt(event)]
    records = read_records(file_of(store, session_id))
    there = set(prompts)
    kept = [record.value() for record in records if record.event in there]
    name = str(store.workspace(session_id).get("name") or "")
    data = bundle.dump(session_id, name, journal.events, kept, shield)
    bundle_file.save(path, data, session_id, prompts)
    secrets = f" {shield.count} secrets were left out." if shield.count else ""
    return f"Wrote {path}: {counted(len(prompts), 'turn')}, {len(data):,} bytes.{secrets}"


def _make(
    store: Store,
    session_id: str,
    turns: Sequence[EmbeddedTurn],
    folder: str,
    metadata: dict[str, str] | None = None,
) -> None:
    events = transcribe.events_of(session_id, turns, folder)
    stored = lines(with_spans(journal_bytes(events), _records(turns)))
    name = " ".join(turns[0].prompt.split())[:100]
    store.make(
        session_id, events, folder=folder, name=name, metadata=metadata, files={FILE: stored}
    )
    for turn in turns:
        outputs.keep(store, session_id, turn.event, turn.outputs)


def _records(turns: Iterable[EmbeddedTurn]) -> Iterator[Record]:
    asked: Counter[tuple[str, str]] = Counter()
    for turn in turns:
        nth = asked[turn.cell_id, turn.key]
        asked[turn.cell_id, turn.key] += 1
        usage = (turn.usage.input_tokens, turn.usage.output_tokens)
        yield Record(
            turn.event,
            turn.key,
            turn.cell_id,
            nth,
            turn.whole,
            values=turn.values,
            usage=usage,
        )


def _differ(here: Sequence[str], there: Sequence[str]) -> str:
    """Return how two courses of a conversation differ."""
    same = 0
    while same < min(len(here), len(there)) and here[same] == there[same]:
        same += 1
    more_here, more_there = len(here) - same, len(there) - same
    start = (
        f"both begin with the same {counted(same, 'turn')}, then" if same else "they share no turn:"
    )
    return f"{start} it has {more_here} here and {more_there} in the file"
