"""A prompt filled in with the values that it names.

Short values stand in the sentence. Of all others the sentence keeps the name, and what is
told about them follows below it, each in a fence that its text cannot close.
"""

from __future__ import annotations

import copy
import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .placeholders import Placeholder, find
from .shield import masks
from .used import ATTACHED
from .views import View, view
from .views.parts import size, whole_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .shield.secrets import Shield

#: Tokens of all views of a prompt together.
BUDGET = 8_000
#: Bytes that surely make a token: English has four and a half, tables of numbers three.
_BYTES = 3
_NOT_SEEN = "(its picture was not sent: the model does not see images)"


@dataclass(frozen=True)
class Image:
    """A picture of a value, to be sent beside the prompt.

    Parameters
    ----------
    name : str
        Of the value.
    png : bytes
    """

    name: str
    png: bytes


@dataclass(frozen=True)
class Shown:
    """What was sent of one value.

    Parameters
    ----------
    name : str
        With its format, such as ``df:schema``.
    type : str
        Such as ``pandas.DataFrame``.
    size : int
        Bytes of its view as sent.
    cut : int
        Bytes of its view that the budget left no room for.
    redactions : int
        How many secrets were replaced in it.
    image : bool
        Whether its picture is sent too.
    """

    name: str
    type: str
    size: int
    cut: int = 0
    redactions: int = 0
    image: bool = False


@dataclass(frozen=True)
class Interpolated:
    """A prompt with its values.

    Parameters
    ----------
    sent : str
        The text for the model.
    values : tuple of (str, str)
        What the prompt names, with its format, and a digest of its view: the same for the
        same value, whatever the budget, and whether or not the model sees images.
    views : tuple of Shown
        What was sent of each, in the order of the prompt.
    images : tuple of Image
    redacted : int
        How many secrets were replaced, in the prompt and in all views.
    """

    sent: str
    values: tuple[tuple[str, str], ...] = ()
    views: tuple[Shown, ...] = ()
    images: tuple[Image, ...] = ()
    redacted: int = 0


@dataclass
class _Entry:
    """A value of the prompt on its way.

    Parameters
    ----------
    place : Placeholder
        The first that names it.
    view : View
    text : str
        Of the view, without secrets.
    note : str
        About its picture.
    secret_ok : bool
    cut, redactions : int
        As in `Shown`.
    """

    place: Placeholder
    view: View
    text: str
    note: str
    secret_ok: bool
    cut: int = 0
    redactions: int = 0

    @property
    def block(self) -> str:
        """What stands below the prompt."""
        lines = [self.view.heading + (f" {self.note}" if self.note else "")]
        if self.text:
            around = fence(self.text)
            lines += [around + self.view.language, self.text, around]
        if self.cut:
            whole = self.cut + size(self.text)
            lines.append(f"[{self.cut:,} of {whole:,} bytes of {self.view.name} were cut here]")
        return "\n".join(lines)


def interpolate(
    prompt: str,
    namespace: Mapping[str, object],
    *,
    extra: Sequence[str] = (),
    budget: int = BUDGET,
    sees_images: bool = False,
    shield: Shield | None = None,
) -> Interpolated:
    """Return a prompt filled in with the values it names.

    Parameters
    ----------
    prompt : str
        Never cut. Braces that name nothing stay as they are.
    namespace : mapping
        Values by name.
    extra : sequence of str
        Names of values that go below the prompt although it does not name them.
    budget : int
        Tokens that all views together may take, counted as three bytes each. Where they
        take more, the longest are cut first; their headings stay.
    sees_images : bool
        Whether the model does.
    shield : Shield or None
        Replaces secrets in the prompt and in each value that is not marked ``!secret-ok``.
        Its count grows by what was replaced.

    Raises
    ------
    BadInputError
        If a value is asked for in a format that it does not take.
    """
    # Texts are also scrubbed before they are cut, which the shield's own count would count too.
    mine = copy.copy(shield)
    places = find(prompt, namespace)
    trusted = {place.label for place in places if place.secret_ok}
    entries: dict[str, _Entry] = {}
    for place in places:
        if not place.literal and place.label not in entries:
            scrub = mine.scrub if mine is not None and place.label not in trusted else None
            entry = _entry(place, namespace[place.name], scrub, sees_images=sees_images)
            entries[place.label] = entry
    named = [*entries]
    for name in extra:
        place = Placeholder(len(prompt), len(prompt), name)
        if place.label not in entries:
            scrub = mine.scrub if mine is not None else None
            entry = _entry(place, namespace[name], scrub, sees_images=sees_images)
            entries[place.label] = entry
    told = list(entries.values())
    values = tuple((entry.place.label, _digest(entry)) for entry in told)
    # A short value stands in the sentence, if the prompt has a place for it.
    below = [e for e in told if not e.view.inline or e.place.label not in named]
    _fit(below, budget * _BYTES)
    before = mine.count if mine is not None else 0
    sentence = _sentence(prompt, places, entries, mine.scrub if mine is not None else None)
    redacted = (mine.count - before if mine is not None else 0) + sum(
        entry.redactions for entry in told
    )
    if shield is not None:
        shield.count += redacted
    return Interpolated(
        sent="\n\n".join([sentence, *(entry.block for entry in below)]),
        values=values,
        views=tuple(_shown(entry, sees_images=sees_images) for entry in told),
        images=tuple(
            Image(entry.place.name, entry.view.png)
            for entry in below
            if entry.view.png and sees_images
        ),
        redacted=redacted,
    )


def _entry(
    place: Placeholder,
    value: object,
    scrub: Callable[[str], str] | None,
    *,
    sees_images: bool,
) -> _Entry:
    shown = view(value, place.name, place.format, scrub=scrub)
    if scrub is not None:
        shown = replace(shown, facts=scrub(shown.facts), text=scrub(shown.text))
    note = (ATTACHED if sees_images else _NOT_SEEN) if shown.png else ""
    replaced = sum(part.count(masks.OPEN) for part in (shown.text, shown.facts)) if scrub else 0
    return _Entry(place, shown, shown.text, note, secret_ok=scrub is None, redactions=replaced)


def _digest(entry: _Entry) -> str:
    """Return a digest of a view before it is cut to the budget, which is a setting."""
    parts = (entry.view.heading, entry.view.text, entry.view.pixels)
    text = "\0".join(parts[1:] if entry.view.inline else parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _sentence(
    prompt: str,
    places: Sequence[Placeholder],
    entries: Mapping[str, _Entry],
    scrub: Callable[[str], str] | None,
) -> str:
    """Return the prompt with short values in it, and the names of the others.

    It is scrubbed as a whole, since a secret may be told by what stands around it. What is
    sent on purpose is put in afterwards; until then it looks like an empty place of a
    template, which the shield passes over.
    """
    stand_in = "value"
    while stand_in in prompt:
        stand_in += "_"
    parts, at = [], 0
    kept: dict[str, str] = {}
    for number, place in enumerate(places):
        parts.append(prompt[at : place.start])
        at = place.end
        entry = None if place.literal else entries[place.label]
        if entry is None:
            parts.append(place.literal)
        elif not entry.view.inline:
            parts.append(f"`{place.name}`")
        elif scrub is None or not entry.secret_ok:
            parts.append(entry.text)
        else:
            parts.append(f"{{{stand_in}{number}}}")
            kept[parts[-1]] = entry.text
    text = "".join([*parts, prompt[at:]])
    if scrub is not None:
        text = scrub(text)
    if not kept:
        return text
    return re.sub("|".join(map(re.escape, kept)), lambda found: kept[found[0]], text)


def _fit(entries: Sequence[_Entry], room: int) -> None:
    """Cut the longest views to one length, such that all of them take `room` bytes."""
    sizes = [size(entry.block) + 2 for entry in entries]
    if sum(sizes) <= room:
        return
    share = 0
    for number, taken in enumerate(sorted(sizes)):
        share = max(room, 0) // (len(sizes) - number)
        if taken > share:
            break
        room -= taken
    for entry, taken in zip(entries, sizes, strict=True):
        if taken > share and entry.text:
            around = taken - size(entry.text) + 60 + size(entry.view.name)
            kept = whole_lines(entry.text, max(share - around, 0))
            entry.cut = size(entry.text) - size(kept)
            entry.text = kept


def _shown(entry: _Entry, *, sees_images: bool) -> Shown:
    return Shown(
        name=entry.place.label,
        type=entry.view.type,
        size=size(entry.text if entry.view.inline else entry.block),
        cut=entry.cut,
        redactions=entry.redactions,
        image=bool(entry.view.png) and sees_images,
    )


def fence(text: str) -> str:
    """Return a fence that a text does not close: longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return "`" * max(3, longest + 1)
