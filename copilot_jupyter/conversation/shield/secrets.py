"""Secrets taken out of text that leaves this machine.

Two sources: the values of environment variables that by their name hold a secret, and
the shapes that tokens, keys and passwords have; with the extra ``secrets`` also those that
detect-secrets knows. What is found becomes a mask that shows the variable's name or the
kind. Nothing is found in a mask, so that text which was scrubbed once stays as it is.
"""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import secret_rules
from .masks import MASK, OPEN, mask
from .named_values import NAMED
from .secret_shapes import A_PATH, PLACES, TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .secret_shapes import Kind

#: ``TOKENIZERS_PARALLELISM`` and ``SECRETARY`` hold no secret, ``PGPASSWORD`` does.
_SECRET_NAME = re.compile(
    r"(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL|PRIVATE_?KEY)(?:S|KEY)?(?![A-Z])", re.I
)
#: Words that tell of a secret only where they stand alone: not in ``MONKEY``, ``COMPASS``,
#: ``PATH`` or ``XAUTHORITY``; and ``SSH_AUTH_SOCK`` is the path of a socket.
_MAYBE_SECRET_NAME = re.compile(
    r"(?<![A-Z0-9])(?:(?<!PUBLIC_)KEY|PAT|PASS|CONNECTION_?STRING|CONN_STR|DSN|AUTH(?!_SOCK))"
    r"S?(?![A-Z])",
    re.I,
)
_SHORTEST = 8
#: A value that is cut off is told by this many characters, and by more than an eighth of it.
_BEGINNING, _SHARE = 12, 8
_CUT = re.compile(r"\.{3}|…|\s?\[(?:\.{3}|…)|[\"']?\Z")
#: Any text may hold it: ``postgres`` is a password of many databases, and their name.
_WORD = re.compile(r"[A-Za-z][a-z]{0,11}|[A-Z]{1,12}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{40,}={1,2}")
#: A word, several of them, a number, or an address that names nobody.
_PLAIN = re.compile(
    r"(?:[A-Z]?[a-z]+|[A-Z]+)(?:[-_ .,:/](?:[A-Z]?[a-z]+|[A-Z]+))*|[\d.,:+-]+"
    r"|[A-Za-z][A-Za-z0-9+.-]*://[^@?]*"
)


class Shield:
    """Finds secrets in text, replaces and counts them.

    Parameters
    ----------
    values : iterable of (str, str)
        Secrets that are known, as names and values.

    Attributes
    ----------
    count : int
        How many were replaced so far.
    """

    def __init__(self, values: Iterable[tuple[str, str]] = ()) -> None:
        named: dict[str, str] = {}
        for name, value in sorted(values):
            shown = mask(name)
            if any(kind.pattern.search(shown) for kind in TOKENS):
                shown = mask("variable")
            for spelling in _spellings(value):
                named.setdefault(spelling, shown)
        self.count = 0
        self._values = sorted(named.items(), key=lambda item: (-len(item[0]), item))

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Shield:
        """Return a shield that knows the secrets of an environment.

        Parameters
        ----------
        environ : mapping
            Such as ``os.environ``.
        """
        return cls(
            (name, value.strip())
            for name, value in environ.items()
            if (_SECRET_NAME.search(name) and _can_be_secret(value.strip()))
            or (_MAYBE_SECRET_NAME.search(name) and _must_be_secret(value.strip()))
        )

    def scrub(self, text: str) -> str:
        """Return a text with its secrets replaced."""
        while True:
            before = self.count
            text = self._scrubbed(text)
            # A mask may show a second secret beside it as a word of its own.
            if self.count == before:
                return text

    def scrub_all(self, value: Any) -> Any:
        """Return a copy of a JSON value with the secrets in its texts replaced.

        The keys of its objects stay as they are.
        """
        top: list[Any] = [None]
        # No recursion: JSON can be nested more deeply than Python calls.
        todo: list[tuple[Any, Any, Any]] = [(top, 0, value)]
        while todo:
            where, key, found = todo.pop()
            if isinstance(found, str):
                where[key] = self.scrub(found)
            elif isinstance(found, dict):
                where[key] = copy = dict.fromkeys(found)
                todo.extend((copy, inner, item) for inner, item in found.items())
            elif isinstance(found, list | tuple):
                where[key] = [None] * len(found)
                todo.extend((where[key], number, item) for number, item in enumerate(found))
            else:
                where[key] = found
        return top[0]

    def _scrubbed(self, text: str) -> str:
        for value, shown in self._values:
            if value in text:
                text = _outside(text, partial(self._swap, value=value, shown=shown))
        for value, shown in self._values:
            if value[:_BEGINNING] in text:
                text = _outside(text, partial(self._cut_off, value=value, shown=shown))
        text = self._shapes(text, (*TOKENS, *PLACES, *NAMED))
        for value, kind in list(secret_rules.found(text)):
            if OPEN not in value and len(value) >= _SHORTEST:
                text = _outside(text, partial(self._swap, value=value, shown=mask(kind)))
        return text

    def _shapes(self, text: str, kinds: tuple[Kind, ...]) -> str:
        for kind in kinds:
            if any(hint in text for hint in kind.hints):
                text = self._of_kind(text, kind)
        return text

    def _swap(self, text: str, value: str, shown: str) -> str:
        self.count += text.count(value)
        return text.replace(value, shown)

    def _cut_off(self, text: str, value: str, shown: str) -> str:
        """Return a text without the beginnings of a value, where what it was in was cut."""
        parts = []
        at = 0
        while (begin := text.find(value[:_BEGINNING], at)) >= 0:
            pairs = zip(value, text[begin : begin + len(value)], strict=False)
            end = begin + sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            if end - begin > len(value) // _SHARE and _CUT.match(text, end):
                self.count += 1
                parts += [text[at:begin], shown]
            else:
                parts.append(text[at:end])
            at = end
        return "".join([*parts, text[at:]])

    def _of_kind(self, text: str, kind: Kind) -> str:
        shown = mask(kind.name)

        def replaced(match: re.Match[str]) -> str:
            if not (kind.is_secret(match["secret"]) and kind.fits(match)):
                return match[0]
            self.count += 1
            begin, end = (place - match.start() for place in match.span("secret"))
            return match[0][:begin] + shown + match[0][end:]

        return kind.pattern.sub(replaced, text)


def _outside(text: str, scrub: Callable[[str], str]) -> str:
    """Return a text with what is no mask replaced."""
    if OPEN not in text:
        return scrub(text)
    parts = MASK.split(text)
    parts[::2] = [scrub(part) for part in parts[::2]]
    return "".join(parts)


def _can_be_secret(value: str) -> bool:
    if len(value) < _SHORTEST or _WORD.fullmatch(value):
        return False
    if os.sep not in value:
        return True
    try:
        return not Path(value).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return True


def _must_be_secret(value: str) -> bool:
    """Whether a value is a secret though its name says little."""
    if _PLAIN.fullmatch(value) or (A_PATH.match(value) and not _BASE64.fullmatch(value)):
        return False
    return _can_be_secret(value)


def _spellings(value: str) -> set[str]:
    """Return a value as it is and as it stands in a JSON text or in an address."""
    return {
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        urllib.parse.quote(value, safe="", errors="replace"),
        urllib.parse.quote(value, errors="replace"),
        urllib.parse.quote_plus(value, errors="replace"),
    }
