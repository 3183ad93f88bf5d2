"""Views of what is seen: matplotlib, plotly, pictures.

The digest of a picture is of its pixels: how they are packed into a file changes with the
version of a library.
"""

from __future__ import annotations

import hashlib
import io
import sys
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from copilot_jupyter.conversation.words import counted

from .parts import Body, one_line, printable

if TYPE_CHECKING:
    from .parts import Wanted

#: Pixels of the longer side of a picture that is sent.
_LONGEST = 1024
_AXES, _TRACES = 12, 20


# -- matplotlib ---------------------------------------------------------------------------------


def figure(value: Any, wanted: Wanted) -> Body:
    """Return the view of a ``matplotlib.figure.Figure``."""
    axes = list(value.axes)
    lines = [line for number, one in enumerate(axes[:_AXES], 1) for line in _axes(one, number)]
    if len(axes) > _AXES:
        lines.append(f"… {len(axes) - _AXES:,} more axes")
    if title := value.get_suptitle():
        lines.insert(0, f"title: {one_line(title)}")
    width, height = value.get_size_inches()
    facts = f"{width:g} x {height:g} inches, {len(axes)} axes"
    try:
        png = _rendered(value, max(width, height))
        pixels = _pixels(png)
    except Exception as error:  # noqa: BLE001 -- a title that is no TeX, the code of an artist
        png, pixels = b"", ""
        lines.insert(0, f"<its picture cannot be drawn: {type(error).__name__}>")
    text = wanted.ends("\n".join(lines), wanted.limit - 300)
    return Body(facts, printable(text), png=png, pixels=pixels)


def axes(value: Any, wanted: Wanted) -> Body:
    """Return the view of axes of matplotlib, with the picture of their whole figure."""
    root = value.get_figure()
    while root is not None and getattr(root, "figure", root) is not root:  # a figure in a figure
        root = root.figure
    if root is None:
        return Body("in no figure", printable("\n".join(_axes(value, 1))))
    whole = figure(root, wanted)
    number = list(root.axes).index(value) + 1 if value in root.axes else 1
    facts = f"axes {number} of a figure of {whole.facts}"
    return replace(whole, facts=facts, text=printable("\n".join(_axes(value, number))))


def _rendered(value: Any, inches: float) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        # A glyph that a font lacks is shown as a box, as in the notebook.
        warnings.simplefilter("ignore")
        value.savefig(
            file, format="png", dpi=min(value.dpi, _LONGEST / inches), metadata={"Software": None}
        )
    return file.getvalue()


def _axes(value: Any, number: int) -> list[str]:
    held = [
        counted(len(things), name).replace("patchs", "patches")
        for name, things in (
            ("line", value.lines),
            ("collection", value.collections),
            ("patch", value.patches),
            ("image", value.images),
        )
        if len(things)
    ]
    texts = (("title", value.get_title()), ("x", value.get_xlabel()), ("y", value.get_ylabel()))
    said = [f"{name} {one_line(text)!r}" for name, text in texts if text]
    lines = [f"axes {number}: " + ", ".join([*said, *held] or ["empty"])]
    # Labels that begin with _ are matplotlib's own.
    names = [str(one.get_label()) for one in value.lines]
    if labels := [one_line(name)[:60] for name in names[:20] if not name.startswith("_")]:
        lines.append(f"  lines: {', '.join(labels)}")
    return lines


# -- plotly ---------------------------------------------------------------------------------------


def plotly(value: Any, wanted: Wanted) -> Body:
    """Return the view of a plotly figure: text, since a picture of it needs a browser."""
    layout, traces = value.layout, value.data
    lines = [f"title: {one_line(layout.title.text)}"] if layout.title.text else []
    titles = ((name, layout[name].title.text) for name in ("xaxis", "yaxis"))
    lines += [f"{name}: {one_line(text)}" for name, text in titles if text]
    for number, trace in enumerate(traces[:_TRACES], 1):
        points = next((len(trace[k]) for k in ("x", "y", "z", "values") if _has(trace, k)), None)
        name = f" {one_line(str(trace.name))!r}" if trace.name else ""
        lines.append(
            f"trace {number}: {trace.type}{name}"
            + (f", {counted(points, 'point')}" if points else "")
        )
    if len(traces) > _TRACES:
        lines.append(f"… {len(traces) - _TRACES:,} more traces")
    text = wanted.ends("\n".join(lines), wanted.limit - 300)
    return Body(counted(len(traces), "trace"), printable(text))


def _has(trace: Any, name: str) -> bool:
    return name in trace and trace[name] is not None


# -- PIL ----------------------------------------------------------------------------------------


def picture(value: Any, wanted: Wanted) -> Body:
    """Return the view of a ``PIL.Image``, no side longer than `_LONGEST`."""
    del wanted  # it has no length
    width, height = value.size
    small = value.copy()
    small.thumbnail((_LONGEST, _LONGEST))
    if small.mode not in ("1", "L", "RGB", "RGBA"):
        small = small.convert("RGBA" if small.has_transparency_data else "RGB")
    # What a camera wrote about the place and the time is no part of the picture.
    small.info = {}
    file = io.BytesIO()
    small.save(file, format="png")
    text = "" if small.size == value.size else f"sent as {small.size[0]} x {small.size[1]} pixels"
    png = file.getvalue()
    return Body(f"{width:,} x {height:,} pixels, {value.mode}", text, png=png, pixels=_pixels(png))


def _pixels(png: bytes) -> str:
    """Return a digest of the pixels of a picture; matplotlib brings PIL along."""
    from importlib import import_module

    image: Any = sys.modules.get("PIL.Image") or import_module("PIL.Image")
    with image.open(io.BytesIO(png)) as opened:
        raw = opened.convert("RGBA").tobytes()
        return hashlib.sha256(repr(opened.size).encode() + raw).hexdigest()[:32]
