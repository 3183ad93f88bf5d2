"""A typed prompt becomes a question: values of the kernel, files, and what may not leave."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copilot_jupyter.conversation import interpolate as filling
from copilot_jupyter.conversation import placeholders
from copilot_jupyter.conversation.placeholders import EVERYTHING
from copilot_jupyter.conversation.shield.secrets import Shield
from copilot_jupyter.conversation.stored.question import Question
from copilot_jupyter.errors import BadInputError
from copilot_jupyter.events import Attachment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from copilot_jupyter.conversation.interpolate import Shown
    from copilot_jupyter.settings import Copilot

#: Files that go as images, by their first bytes.
_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
}
#: Bytes of an image, and of a text file, that may be attached.
_LARGEST_IMAGE, _LARGEST_TEXT = 5_000_000, 200_000


@dataclass(frozen=True)
class Filled:
    """A question, and what is known of how it came to be.

    Parameters
    ----------
    question : Question
    views : tuple of Shown
        What is sent of each value.
    redacted : int
        How many secrets were replaced, in files too.
    absent : tuple of str
        Values and files that the cell names and that are not there.
    missing : BadInputError or None
        What to say of those that the prompt cannot be asked without.
    """

    question: Question
    views: tuple[Shown, ...] = ()
    redacted: int = 0
    absent: tuple[str, ...] = ()
    missing: BadInputError | None = None


def fill(
    prompt: str,
    namespace: Mapping[str, Any],
    settings: Copilot,
    *,
    model: str = "",
    context: Sequence[str] = (),
    files: Sequence[str] = (),
    tools: bool = True,
    folder: str = ".",
) -> Filled:
    """Return the question that a prompt asks in this kernel.

    Parameters
    ----------
    prompt : str
        As written.
    namespace : mapping
        The person's variables.
    settings : Copilot
    model : str, optional
        The model that the cell names.
    context : sequence of str, optional
        Names of values that go along although the prompt does not name them.
    files : sequence of str, optional
        Paths of files that go along, from `folder`.
    tools : bool, optional
        Whether the model may use tools.
    folder : str, optional

    Raises
    ------
    BadInputError
        For a format that a value does not take. A name or a file that is not there is left
        to whoever asks: the conversation may have the answer.
    """
    absent = [name for name in context if name not in namespace]
    missing = None
    if absent:
        hidden = absent[0].startswith("_")
        missing = BadInputError(
            f"--context names {absent[0]!r}, and names that begin with _ are not sent."
            if hidden
            else f"--context names {absent[0]!r}, and the kernel has no such variable.",
            "Give it another name." if hidden else "Run the cell that makes it first.",
        )
    shield = Shield.of(os.environ)
    filled = filling.interpolate(
        prompt,
        namespace,
        extra=[name for name in context if name in namespace],
        budget=_budget(settings),
        sees_images=_sees_images(settings),
        shield=shield,
    )
    attached: dict[str, tuple[Attachment | None, str, str]] = {}
    for name in files:
        try:
            attached[f"file {name}"] = _file(name, folder)
        except BadInputError as error:
            absent.append(f"file {name}")
            missing = missing or error
    texts = [text for _, text, _ in attached.values() if text]
    sent = "\n\n".join([filled.sent, *map(shield.scrub, texts)])
    flags = [("context", ",".join(context))] if context else []
    flags += [("attach", ",".join(files))] if files else []
    flags += [] if tools else [("no-tools", "")]
    images = [
        Attachment(f"{image.name}.png", data=image.png, mime="image/png") for image in filled.images
    ]
    question = Question(
        prompt,
        sent="" if sent == prompt else sent,
        model=model,
        flags=tuple(flags),
        values=(*filled.values, *((name, file[2]) for name, file in attached.items())),
        attachments=(*images, *(made for made, _, _ in attached.values() if made)),
    )
    places = placeholders.find(prompt, EVERYTHING, strict=False)
    named = {place.label: place.name for place in places if not place.literal}
    absent += [label for label, name in named.items() if name not in namespace]
    return Filled(question, filled.views, shield.count, tuple(absent), missing)


def dry_run(filled: Filled) -> str:
    """Return what would be sent, with what there is to know about it.

    Parameters
    ----------
    filled : Filled
    """
    text = filled.question.text
    lines = [
        f"This would be sent, {len(text.encode()):,} bytes; the runtime puts the date before it."
    ]
    for view in filled.views:
        notes = [f"{view.size:,} bytes"]
        notes += [f"{view.cut:,} bytes cut"] if view.cut else []
        notes += [f"{view.redactions} secrets withheld"] if view.redactions else []
        notes += ["with its picture"] if view.image else []
        lines.append(f"  {view.name}: {view.type}, {', '.join(notes)}")
    if filled.redacted:
        lines.append(f"  secrets withheld in all: {filled.redacted}")
    for file in filled.question.attachments:
        size = len(file.data) if file.data else Path(file.path).stat().st_size
        lines.append(f"  attached: {file.name}, {size:,} bytes")
    return "\n".join([*lines, "", text])


def _budget(settings: Copilot) -> int:
    """Return the tokens that values may take: half of the model's window, where it is known."""
    from copilot_jupyter.runtime.local_model import CONTEXT_TOKENS

    if settings.provider == "local":
        return min(settings.context_budget, CONTEXT_TOKENS // 2)
    return settings.context_budget


def _sees_images(settings: Copilot) -> bool:
    if settings.images != "auto":
        return settings.images == "always"
    # Of a provider of one's own nobody can say; one that does not would refuse the request.
    own = bool(os.environ.get("COPILOT_PROVIDER_BASE_URL"))
    return settings.provider == "github" or (settings.provider == "auto" and not own)


def _file(name: str, folder: str) -> tuple[Attachment | None, str, str]:
    """Return a file as an attachment or as text, and a digest of it."""
    try:
        path = Path(folder, Path(name).expanduser())
        with path.open("rb") as file:
            data = file.read(_LARGEST_IMAGE + 1)
    except (OSError, ValueError, RuntimeError) as error:  # "a\0b", "~nobody/x"
        why = getattr(error, "strerror", None) or error
        raise BadInputError(
            f"--attach {name!r} cannot be read: {why}.", "Check the path."
        ) from None
    if len(data) > _LARGEST_IMAGE:
        raise BadInputError(f"--attach {name!r} is larger than 5 MB.", "Attach a part of it.")
    digest = hashlib.sha256(data).hexdigest()[:16]
    for magic, mime in _IMAGES.items():
        if data.startswith(magic):
            return Attachment(path.name, data=data, mime=mime), "", digest
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise BadInputError(
            f"--attach {name!r} is neither text nor a PNG, JPEG or GIF image.",
            "Attach a text of what it holds.",
        )
    if len(data) > _LARGEST_TEXT:
        raise BadInputError(
            f"--attach {name!r} is a text of {len(data):,} bytes; {_LARGEST_TEXT:,} can be sent.",
            "Attach a part of it.",
        )
    around = filling.fence(text)
    return None, f"{path.name}:\n{around}\n{text.rstrip()}\n{around}", digest
