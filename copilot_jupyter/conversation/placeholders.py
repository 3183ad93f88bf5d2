r"""Where a prompt names values: ``{df}``, ``{df:head=20}``, ``{df!secret-ok}``.

A prompt is full of braces that mean something else: JSON, TypeScript, LaTeX, pasted code.
A brace is ours only if it holds the name of a value and nothing that makes it another's:

- in a fenced block, between backticks, in ``$ math $``, in an f-string: pasted;
- behind a LaTeX command, ``_``, ``^``, ``$``, or a group of another's: ``\frac{a}{b}``,
  ``x_{i}``, ``${HOME}``;
- with a conversion or a format of another's: ``{x:.2f}``, ``{x!s}``, ``{x: string}``;
- in the pattern of a JavaScript declaration: ``const {df} = props``.

``{{df}}`` is how to write ``{df}``.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from copilot_jupyter.errors import BadInputError

from .views import is_format, near_format

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

_BRACES = re.compile(
    r"(?<!\{)(?P<open>\{++)(?P<name>[^\W\d]\w*+)(?P<flags>(?:![a-z_-]{1,20}){0,2})"
    r"(?::(?P<format>[^{}\n`]{0,40}))?(?P<close>\}++)"
)
_FENCE = re.compile(r"^ {0,3}(?:> ?)*+(?P<fence>`{3,}(?=[^`\n]*$)|~{3,})", re.M)
_TICKS = re.compile(r"`+")
_BLANK = re.compile(r"\n[ \t]*\n")
#: As Pandoc has it: no space inside the dollars, and no digit behind, or it is money.
_MATH = re.compile(
    r"(?<![\\$])\$\$(?=[^$])[^$]{1,2000}\$\$"
    r"|(?<![\\$\w])\$(?=[^\s$])[^$\n]{1,400}(?<=[^\s\\])\$(?![\d$])"
    r"|\\\([^\n]{1,200}?\\\)|\\\[(?:[^\\]|\\(?![\[\]])){1,2000}\\\]"
)
#: The derivatives ``f'(x)`` and ``f'(y)`` are none, and neither is ``f'(x), it's``.
_F_STRING = re.compile(
    r"(?<!\w)(?:[fF][rR]?|[rR][fF])(?:\"\"\".{0,2000}?\"\"\"|'''.{0,2000}?'''"
    r"|\"[^\"\n]{0,400}\"|'[^'\n]{0,400}'(?![\w(]))",
    re.S,
)
#: Behind these a brace is another's.
_BEHIND = re.compile(r"(?:\\[A-Za-z]+\*?(?:\[[^\]\n]{0,80}\])?|[_^$\\])\Z")
_DECLARED = re.compile(r"(?<!\w)(?:const|let|var)\s+\Z")
_IMPORTED = re.compile(r"(?<!\w)(?:import|export)\s+(?:type\s+)?\Z")
_SECRET_OK = "secret-ok"  # noqa: S105 -- a mark, no password


class _Everything:
    """Holds every name."""

    def __contains__(self, name: object) -> bool:
        return True


#: To find all that a prompt could name.
EVERYTHING = _Everything()


@dataclass(frozen=True)
class Placeholder:
    """One place of a prompt that is ours.

    Parameters
    ----------
    start, end : int
        Where it stands.
    name : str
        Of the value.
    format : str
        ``schema``, ``head=N``, ``r`` or nothing.
    secret_ok : bool
        The value is sent on purpose, past the secret shield.
    literal : str
        What is sent for ``{{df}}``; "" for a value.
    """

    start: int
    end: int
    name: str
    format: str = ""
    secret_ok: bool = False
    literal: str = ""

    @property
    def label(self) -> str:
        """The name with its format, under which its digest is stored."""
        if self.format == "r":
            return f"{self.name}!r"
        return f"{self.name}:{self.format}" if self.format else self.name


def find(prompt: str, names: Container[str], *, strict: bool = True) -> list[Placeholder]:
    """Return the places of a prompt that name values, in order.

    Parameters
    ----------
    prompt : str
    names : container of str
        Names that have a value.
    strict : bool
        Whether to raise; else what is wrong is left alone.

    Raises
    ------
    BadInputError
        If a known name has a format or a mark that is none, and is meant to be one.
    """
    found: list[Placeholder] = []
    if "{" not in prompt:
        return found
    pasted = sorted(_pasted(prompt))
    starts = [start for start, _ in pasted]
    for match in _BRACES.finditer(prompt):
        at = bisect.bisect(starts, match.start()) - 1
        if match["name"] not in names or (at >= 0 and match.end() <= pasted[at][1]):
            continue
        before = prompt[max(0, match.start() - 120) : match.start()]
        group = before[-1:] == "}" and not (found and found[-1].end == match.start())
        if group or _BEHIND.search(before) or _declares(prompt, before, match.end()):
            continue
        try:
            one = _read(match)
        except BadInputError:
            if strict:
                raise
            continue
        if one is not None:
            found.append(one)
    return found


def _read(match: re.Match[str]) -> Placeholder | None:
    opened, closed = len(match["open"]), len(match["close"])
    name, flags = match["name"], match["flags"].split("!")[1:]
    form = (match["format"] or "").strip()
    if opened == closed == 2:
        start, end = match.span()
        # Only what would be ours with one brace needs a second one.
        if not set(flags) - {_SECRET_OK, "r"} and (
            not form or is_format(form) or near_format(form)
        ):
            return Placeholder(start, end, name, literal=match[0][1:-1])
        return None
    if opened != 1:
        return None
    if set(flags) - {_SECRET_OK, "r"}:
        if any(flag.startswith("secret") for flag in flags):
            raise BadInputError(
                f"{match[0]} has a mark that is none of ours.",
                f"Write {{{name}!{_SECRET_OK}}}; {{{match[0]}}} stays as it is.",
            )
        return None
    if match["format"] is not None and not is_format(form):
        if not near_format(match["format"]):
            return None
        raise BadInputError(
            f"{{{name}:{form}}} has a format that is none of ours.",
            f"Write {{{name}:schema}} or {{{name}:head=20}}; {{{{{name}:{form}}}}} stays as it is.",
        )
    if "r" in flags and match["format"] is not None:
        return None
    end = match.end() - closed + 1
    form = "r" if "r" in flags else form
    return Placeholder(match.start(), end, name, form, _SECRET_OK in flags)


def _declares(prompt: str, before: str, end: int) -> bool:
    after = prompt[end : end + 40].lstrip()
    return bool(
        (_DECLARED.search(before) and after[:1] == "=")
        or (_IMPORTED.search(before) and re.match(r"from\s*[\"']", after))
    )


# -- what is pasted -------------------------------------------------------------------------------


def _pasted(prompt: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of a prompt that are code or math."""
    fenced = list(_fenced(prompt))
    yield from fenced
    at = 0
    for start, end in [*fenced, (len(prompt), len(prompt))]:
        # What stands between two fences is read by itself.
        for span in _in_text(prompt[at:start]):
            yield span[0] + at, span[1] + at
        at = end


def _fenced(prompt: str) -> Iterator[tuple[int, int]]:
    at = 0
    while opened := _FENCE.search(prompt, at):
        fence = opened["fence"]
        closing = re.compile(rf"^[ >]{{0,8}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$", re.M)
        closed = closing.search(prompt, opened.end())
        at = closed.end() if closed else len(prompt)
        yield opened.start(), at


def _in_text(text: str) -> Iterator[tuple[int, int]]:
    coded = list(_between_backticks(text))
    at, spans = 0, []
    for start, end in [*coded, (len(text), len(text))]:
        spans += [
            (match.start() + at, match.end() + at)
            for pattern in (_MATH, _F_STRING)
            for match in pattern.finditer(text[at:start])
        ]
        at = end
    yield from _joined([*coded, *spans])


def _between_backticks(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of inline code: between two runs of as many backticks, in one paragraph."""
    begin = 0
    for end in [*(match.start() for match in _BLANK.finditer(text)), len(text)]:
        runs = [(m.start(), m.end()) for m in _TICKS.finditer(text, begin, end)]
        last: dict[int, int] = {}
        for number, (start, stop) in enumerate(runs):
            last[stop - start] = number
        number = 0
        while number < len(runs):
            start, stop = runs[number]
            number += 1
            if last[stop - start] < number:
                continue
            while runs[number][1] - runs[number][0] != stop - start:
                number += 1
            yield start, runs[number][1]
            number += 1
        begin = end


def _joined(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield spans without overlaps, in order."""
    current: tuple[int, int] | None = None
    for start, end in sorted(spans):
        if current is not None and start < current[1]:
            current = current[0], max(end, current[1])
            continue
        if current is not None:
            yield current
        current = start, end
    if current is not None:
        yield current
