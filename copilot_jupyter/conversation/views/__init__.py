"""Views: what a model is told about a live value, in about two thousand bytes.

A view is made from a value as it is: nothing is imported, copied, loaded, consumed or
evaluated for it, and whatever the value's own code does, a view comes back in time. The same
value has the same view in every process.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import BadInputError

from . import arrays, code, pictures, plain, tables
from .guard import Clock
from .parts import Body, Wanted, is_a, kinds, one_line, printable, type_name

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["View", "is_format", "near_format", "view"]

_HEAD = re.compile(r"head=(\d{1,9})")
_TABLE, _ROWS = ("schema", "head=N"), ("head=N",)

#: Families by package and class: no package is imported to recognise its values.
_FAMILIES: dict[str, tuple[Callable[[Any, Wanted], Body], tuple[str, ...]]] = {
    "pandas.DataFrame": (tables.pandas_frame, _TABLE),
    "pandas.Series": (tables.pandas_series, _ROWS),
    "pandas.Index": (tables.pandas_index, _ROWS),
    "polars.DataFrame": (tables.polars_frame, _TABLE),
    "polars.LazyFrame": (tables.polars_lazy, ()),
    "polars.Series": (tables.polars_series, _ROWS),
    "numpy.ndarray": (arrays.ndarray, _ROWS),
    "xarray.DataArray": (arrays.xarray, ()),
    "xarray.Dataset": (arrays.xarray, ()),
    "torch.Tensor": (arrays.tensor, _ROWS),
    "matplotlib.Figure": (pictures.figure, ()),
    "matplotlib.Axes": (pictures.axes, ()),
    "plotly.BaseFigure": (pictures.plotly, ()),
    "PIL.Image": (pictures.picture, ()),
}


@dataclass(frozen=True)
class View:
    """What is told about a value.

    Parameters
    ----------
    name : str
        As in the prompt, with its format.
    type : str
        Such as ``pandas.DataFrame``.
    facts : str
        A few words beside the type, such as ``1,000 rows x 12 columns``.
    text : str
        The rest; may be empty.
    language : str
        Of the text, as a fence names it.
    inline : bool
        Whether the text stands in the sentence, in place of the name.
    png : bytes
        A picture of the value; empty if it has none.
    pixels : str
        A digest of that picture.
    """

    name: str
    type: str
    facts: str
    text: str
    language: str = "text"
    inline: bool = False
    png: bytes = b""
    pixels: str = ""

    @property
    def heading(self) -> str:
        """The line above the text; it breaks out of nothing."""
        heading = f"{self.name}: {', '.join(filter(None, (self.type, self.facts)))}"
        return one_line(printable(heading.replace("`", "'")))[:300]


def view(
    value: object,
    name: str,
    format: str = "",
    *,
    scrub: Callable[[str], str] | None = None,
) -> View:
    """Return the view of a value.

    Parameters
    ----------
    value : object
    name : str
        Of the value, for the heading.
    format : str
        ``schema``, ``head=N``, ``r`` (its repr) or nothing.
    scrub : callable or None
        Takes secrets out of a text that is about to be cut. What is not cut is returned
        with all that it holds.

    Raises
    ------
    BadInputError
        If values of this type do not take the format.
    """
    family, formats = _family(value)
    wanted = Wanted(clock=Clock())
    if scrub is not None:
        wanted.scrub = scrub
    if format == "r":
        family = plain.written
    elif format:
        _check(value, name, format, formats)
        wanted.schema = format == "schema"
        found = _HEAD.fullmatch(format)
        wanted.head = int(found[1]) if found else None
    body = _body(family, value, wanted)
    label = f"{name} ({format})" if format and format != "r" else name
    return View(
        label,
        type_name(value),
        "" if body.facts == name else body.facts,
        body.text,
        body.language,
        body.inline,
        body.png,
        body.pixels,
    )


def is_format(text: str) -> bool:
    """Whether a format is one that some values take."""
    return text == "schema" or _HEAD.fullmatch(text) is not None


def near_format(text: str) -> bool:
    """Whether a format is none, and meant to be one: ``shema``, ``head=x``, ``head:5``."""
    word = re.match(r"[A-Za-z]{3,10}(?=\W|\d|$)", text)
    if word is None or is_format(text):
        return False
    return bool(difflib.get_close_matches(word[0].lower(), ("schema", "head"), cutoff=0.75))


def no_format(name: str, format: str, type_: str, formats: tuple[str, ...]) -> BadInputError:
    """Return the error about a format that a value does not take."""
    take = " or ".join(f"{{{name}:{known}}}" for known in formats)
    return BadInputError(
        f"{{{name}:{format}}} has no format that a {type_} takes.",
        f"Write {f'{{{name}}}, {take}' if take else f'{{{name}}}'}; "
        f"{{{{{name}:{format}}}}} stays as it is.",
    )


def _check(value: object, name: str, format: str, formats: tuple[str, ...]) -> None:
    if not is_format(format) or format.partition("=")[0] not in {
        known.partition("=")[0] for known in formats
    }:
        raise no_format(name, format, type_name(value), formats)


def _family(value: object) -> tuple[Callable[[Any, Wanted], Body], tuple[str, ...]]:
    if is_a(value, BaseException):
        return code.error, ()
    if code.is_code(value):
        return code.view, ()
    for kind in kinds(type(value)):
        if kind in _FAMILIES:
            return _FAMILIES[kind]
    return plain.view, plain.formats(value)


def _body(family: Callable[[Any, Wanted], Body], value: object, wanted: Wanted) -> Body:
    """Return what a family says; where that fails, what can be said of any value."""
    try:
        return family(value, wanted)
    except Exception as error:  # noqa: BLE001 -- the code of a value may raise anything
        failed = type(error).__name__
    if family is not plain.view:
        try:
            return plain.written(value, wanted)
        except Exception as error:  # noqa: BLE001 -- the same
            failed = type(error).__name__
    return Body("", f"<it cannot be shown: {failed}>")
