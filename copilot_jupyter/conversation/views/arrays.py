"""Views of arrays: numpy, xarray, torch.

Nothing is copied but the few values that are shown or counted, and nothing lazy is loaded.
"""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any

from .parts import Body, printable
from .printer import Printer

if TYPE_CHECKING:
    from .parts import Wanted

#: Values that are read for the smallest, the largest and the mean.
_SAMPLE = 100_000
#: Values of a masked array that are all shown.
_SMALL = 60
#: What a person set by ``numpy.set_printoptions`` is for their own eyes, and no part of a value.
_OPTIONS = {
    "precision": 8,
    "threshold": 1000,
    "linewidth": 75,
    "floatmode": "maxprec",
    "suppress": False,
    "sign": "-",
    "nanstr": "nan",
    "infstr": "inf",
    "formatter": None,
    "legacy": False,
}
#: Bytes of a text in an array of texts that is written in full.
_LONG_TEXT = 400
#: Values at each edge, by the number of dimensions: 2 e to the power of n are shown.
_EDGES = {0: 1, 1: 10, 2: 4, 3: 2, 4: 1, 5: 1, 6: 1}


def ndarray(array: Any, wanted: Wanted) -> Body:
    """Return the view of a ``numpy.ndarray``, masked ones included."""
    numpy: Any = sys.modules["numpy"]
    masked = isinstance(array, numpy.ma.MaskedArray)
    # The methods of a subclass are not to be relied on.
    plain = numpy.ndarray.view(array, numpy.ma.MaskedArray if masked else numpy.ndarray)
    facts = f"shape {_tuple(plain.shape)}, {plain.dtype}"[:200]
    lines = [_numbers(plain, masked=masked)] if plain.size else []
    if wanted.head is not None and plain.ndim:
        plain = plain[: wanted.head]
        lines.append(f"first {min(wanted.head, plain.shape[0]):,}:")
    with numpy.printoptions(**_OPTIONS):
        lines.append(_corners(plain, wanted) if plain.size else "no values")
    return Body(facts, printable(wanted.ends("\n".join(filter(None, lines)), wanted.limit - 200)))


def _numbers(array: Any, *, masked: bool) -> str:
    """Return the line about the smallest, the largest and the mean of an array."""
    numpy: Any = sys.modules["numpy"]
    known = f" (of the first {_SAMPLE:,} values)" if array.size > _SAMPLE else ""
    kind = array.dtype.kind
    if not masked and kind not in "mMbiuf":
        return ""
    # Slices of .flat copy what they take, whatever the strides of the array.
    sample = array.flat[:_SAMPLE]
    parts = []
    if masked and kind != "V":
        parts.append(f"masked {int(numpy.ma.getmaskarray(sample).sum()):,}")
        sample = sample.compressed()
    if kind in "mM":
        sample = sample[~numpy.isnat(sample)]
        if sample.size:
            parts += [f"min {sample.min()}", f"max {sample.max()}"]
    elif kind == "b" and sample.size:
        parts.append(f"true {int(sample.sum()):,}")
    elif kind in "iuf" and sample.size:
        bad = int(numpy.isnan(sample).sum()) if kind == "f" else 0
        sample = sample[~numpy.isnan(sample)] if bad else sample
        if sample.size:
            with numpy.errstate(all="ignore"):
                mean = float(sample.mean(dtype="float64"))
            parts += [f"min {sample.min():.6g}", f"max {sample.max():.6g}", f"mean {mean:.6g}"]
        parts += [f"nan {bad:,}"] if bad else []
    return ", ".join(parts) + known if parts else ""


def _corners(array: Any, wanted: Wanted) -> str:
    numpy: Any = sys.modules["numpy"]
    edge = _EDGES.get(array.ndim)
    if isinstance(array, numpy.ma.MaskedArray) and array.size <= _SMALL:
        return str(array)  # array2string knows no masks
    kind, masked = array.dtype.kind, isinstance(array, numpy.ma.MaskedArray)
    long = kind in "SU" and array.itemsize > _LONG_TEXT
    if edge is None or masked or array.dtype.hasobject or long:
        # numpy would call the repr of each object, write each text in full, and show 2 to the
        # power of ndim corners. Of its variable-width texts it cannot slice .flat (2.4).
        count = 60 if wanted.head is None else _SAMPLE
        flat = array.flat
        first = list(itertools.islice(flat, count)) if kind == "T" else flat[:count].tolist()
        more = f"\n… {array.size - len(first):,} more" if array.size > len(first) else ""
        return Printer(wanted).show(first, wanted.limit - 400) + more
    whole = wanted.head is not None and array.size <= wanted.limit
    text: str = numpy.array2string(
        array,
        threshold=array.size if whole else 60,
        edgeitems=edge,
        max_line_width=100,
        precision=6,
        separator=", ",
    )
    return text


def xarray(data: Any, wanted: Wanted) -> Body:
    """Return the view of an xarray object; its own repr loads nothing."""
    sizes = ", ".join(f"{name}: {count:,}" for name, count in dict(data.sizes).items())
    lines = []
    variable = getattr(data, "variable", None)
    if variable is not None and isinstance(
        getattr(variable, "_data", None), sys.modules["numpy"].ndarray
    ):
        lines.append(_numbers(variable._data, masked=False))  # noqa: SLF001 -- .data would load
    lines.append(wanted.clock.text(repr, data))
    text = "\n".join(filter(None, lines))
    return Body(f"({sizes})"[:200], printable(wanted.ends(text, wanted.limit - 200)))


def tensor(value: Any, wanted: Wanted) -> Body:
    """Return the view of a ``torch.Tensor``; of one on a GPU only its corner leaves it."""
    shape, dtype = tuple(value.shape), str(value.dtype).removeprefix("torch.")
    facts = f"shape {_tuple(shape)}, {dtype}, on {value.device}"
    if value.requires_grad:
        facts += ", requires grad"
    count = 1
    for length in shape:
        count *= length
    if not count:
        return Body(facts, "no values")
    if str(value.device) == "meta" or str(value.layout) != "torch.strided":
        return Body(facts, f"layout {value.layout}")
    plain, lines = value.detach(), []
    if plain.is_contiguous() and not dtype.startswith(("complex", "bool", "q")):
        sample = plain.view(-1)[:_SAMPLE]
        known = f" (of the first {_SAMPLE:,} values)" if count > _SAMPLE else ""
        missing = sample.isnan()
        bad = int(missing.sum().item())
        sample = sample[~missing] if bad else sample
        parts = []
        if sample.numel():
            numbers = (sample.min().item(), sample.max().item(), sample.double().mean().item())
            parts.append("min {:.6g}, max {:.6g}, mean {:.6g}".format(*numbers))
        parts += [f"nan {bad:,}"] if bad else []
        lines.append(", ".join(parts) + known)
    edge = 2 * _EDGES.get(len(shape), 1) if wanted.head is None else wanted.head
    corner = plain
    for axis, length in enumerate(shape):
        shown = edge if axis == 0 or len(shape) <= max(_EDGES) else 1
        corner = corner.narrow(axis, 0, min(length, shown))
    if corner.shape != value.shape:
        lines.append(f"its first corner, {_tuple(tuple(corner.shape))}:")
    lines.append(Printer(wanted).show(corner.cpu().tolist(), wanted.limit - 400))
    return Body(facts, printable("\n".join(lines)))


def _tuple(shape: tuple[int, ...]) -> str:
    return f"({', '.join(f'{n:,}'.replace(',', '_') for n in shape)})"
