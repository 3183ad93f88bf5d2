"""Secrets taken out of text that leaves this machine.

Two sources: the values of environment variables that by their name hold a secret, and
the shapes that tokens, keys and passwords have. What is found becomes a mask that shows
the variable's name or the kind. Nothing is found in a mask, so that text which was
scrubbed once stays as it is.
"""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_OPEN = "‹secret:"
_MASK = re.compile(r"(‹secret:[\w.-]{1,100}›)")
_MASKS = re.compile(rf"(?:{_MASK.pattern})+")

#: ``TOKENIZERS_PARALLELISM`` and ``SECRETARY`` hold no secret, ``PGPASSWORD`` does.
_SECRET_NAME = re.compile(
    r"(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL|PRIVATE_?KEY)(?:S|KEY)?(?![A-Z])", re.I
)
_SHORTEST = 8
#: Values of such variables that say something else, or that any text may hold.
_WORDS = frozenset(
    (
        *("anonymous", "automatic", "changeme", "credential", "credentials", "disabled"),
        *("environment", "external", "keychain", "localhost", "optional", "password"),
        *("required", "undefined"),
    )
)

#: A password that is still to be put in, as in ``f"postgres://{user}:{password}@{host}"``.
_PLACEHOLDER = re.compile(
    r"\$?\{[^{}]*\}+|\{\{.*\}\}|\$[A-Z_][A-Z0-9_]*|%s|%\(\w+\)s|\*+|\.{3}|…|x{3,}"
)


def _edge(width: int) -> str:
    r"""Return what holds where a word of `width` characters that was just read began.

    Asked for behind the word, since `re` finds words that a pattern begins with fast.
    Escapes end in letters (a JSON text in a string, ``\x1b[31m``, ``%3D``) and are no
    part of the word.
    """
    word = f".{{{width}}}"
    before = (
        rf"(?<![A-Za-z0-9]{word})",
        rf"(?<=\\[abfnrtv]{word})",
        rf"(?<=[\[;0-9]m{word})",
        rf"(?<=%[0-9A-Fa-f][0-9A-Fa-f]{word})",
        rf"(?<=\\x[0-9A-Fa-f]{{2}}{word})",
        rf"(?<=\\u[0-9A-Fa-f]{{4}}{word})",
    )
    return f"(?:{'|'.join(before)})"


def _always(_found: str) -> bool:
    return True


def _is_key(found: str) -> bool:
    """Whether this is a random key, and no name such as ``sk-toggleable__label-arrow``."""
    return bool(re.search(r"[0-9A-Z]|[a-z]{20}", found))


def _is_password(found: str) -> bool:
    return not (_MASKS.fullmatch(found) or _PLACEHOLDER.fullmatch(found))


@dataclass(frozen=True)
class _Kind:
    """A shape that secrets have.

    Parameters
    ----------
    name : str
    hints : tuple of str
        Text without any of them holds none; to ask this costs next to nothing.
    pattern : re.Pattern
        Its group ``secret`` is what is replaced.
    is_secret : callable
        Whether what was found is one after all.
    """

    name: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    is_secret: Callable[[str], bool] = _always


# Each pattern reads a text once: it begins with fixed characters, and a run that turns out
# to be no secret is either passed over whole or ended by what the pattern begins with.

#: Kinds that no mask can be a part of.
_TOKENS = (
    # Before the tokens of GitHub, the newest of which end in one.
    _Kind(
        "jwt",
        ("eyJ",),
        re.compile(
            rf"(?P<secret>eyJ{_edge(3)}[A-Za-z0-9_-]*+"
            r"(?:\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]{8,}){0,2})?)"
        ),
        lambda found: "." in found,
    ),
    _Kind(
        "github-token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
        re.compile(r"(?P<secret>gh[pousr]_[A-Za-z0-9_]{20,})"),
    ),
    _Kind(
        "github-token",
        ("github_pat_",),
        re.compile(r"(?P<secret>github_pat_[A-Za-z0-9_]{20,})"),
    ),
    _Kind(
        "api-key",
        ("sk-",),
        re.compile(rf"(?P<secret>sk-{_edge(3)}[A-Za-z0-9_-]{{20,}})"),
        _is_key,
    ),
    _Kind("aws-key", ("AKIA", "ASIA"), re.compile(r"(?P<secret>A[KS]IA[A-Z0-9]{16})")),
    _Kind("slack-token", ("xox",), re.compile(r"(?P<secret>xox[abprs]-[A-Za-z0-9-]{10,})")),
    _Kind(
        "google-key",
        ("AIza",),
        re.compile(rf"(?P<secret>AIza{_edge(4)}[A-Za-z0-9_-]{{30,}})"),
    ),
    _Kind(
        "huggingface-token",
        ("hf_",),
        re.compile(rf"(?P<secret>hf_{_edge(3)}[A-Za-z0-9]{{20,}})"),
    ),
)

#: Kinds told by what stands around the secret, a part of which may be masked already.
_PLACES = (
    _Kind(
        "private-key",
        ("PRIVATE KEY",),
        re.compile(
            r"(?P<secret>-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:"
            r"[^-]*+(?:-(?!----)[^-]*+)*+-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            # The end is cut off.
            r"|(?:(?:\s|\\[nr])*+[A-Za-z0-9+/]{40,}+={0,2})++))"
        ),
    ),
    _Kind(
        "password",
        ("://",),
        re.compile(
            r"://(?<=[A-Za-z0-9+.-]://)"
            rf"[^\s/:@‹›]*+(?:{_MASK.pattern}[^\s/:@‹›]*+)*+"
            r":(?P<secret>[^\s/?#\"`<>]+)@"
        ),
        _is_password,
    ),
    _Kind(
        "authorization",
        ("uthorization", "UTHORIZATION"),
        re.compile(
            r"[Aa](?:uthorization|UTHORIZATION)[^A-Za-z0-9‹›]{1,16}"
            # Behind the other two words, what is short is prose.
            r"(?i:bearer\s{1,4}|(?:basic|token)\s{1,4}(?=\S{16}))"
            r"(?P<secret>[A-Za-z0-9._~+/=:‹›-]{6,})"
        ),
        _is_password,
    ),
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
            mask = _mask(name)
            if any(kind.pattern.search(mask) for kind in _TOKENS):
                mask = _mask("variable")
            for spelling in _spellings(value):
                named.setdefault(spelling, mask)
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
            if _SECRET_NAME.search(name) and _can_be_secret(value.strip())
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
        for value, mask in self._values:
            if value in text:
                text = _outside(text, partial(self._swap, value=value, mask=mask))
        return self._shapes(self._shapes(text, _TOKENS), _PLACES)

    def _shapes(self, text: str, kinds: tuple[_Kind, ...]) -> str:
        for kind in kinds:
            if any(hint in text for hint in kind.hints):
                text = self._of_kind(text, kind)
        return text

    def _swap(self, text: str, value: str, mask: str) -> str:
        self.count += text.count(value)
        return text.replace(value, mask)

    def _of_kind(self, text: str, kind: _Kind) -> str:
        mask = _mask(kind.name)

        def replaced(match: re.Match[str]) -> str:
            if not kind.is_secret(match["secret"]):
                return match[0]
            self.count += 1
            begin, end = (place - match.start() for place in match.span("secret"))
            return match[0][:begin] + mask + match[0][end:]

        return kind.pattern.sub(replaced, text)


def _outside(text: str, scrub: Callable[[str], str]) -> str:
    """Return a text with what is no mask replaced."""
    if _OPEN not in text:
        return scrub(text)
    parts = _MASK.split(text)
    parts[::2] = [scrub(part) for part in parts[::2]]
    return "".join(parts)


def _mask(name: str) -> str:
    name = re.sub(r"[^\w.-]", "_", name)[:100]
    return f"{_OPEN}{name or '_'}›"


def _can_be_secret(value: str) -> bool:
    if len(value) < _SHORTEST or value.lower() in _WORDS:
        return False
    if os.sep not in value:
        return True
    try:
        return not Path(value).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return True


def _spellings(value: str) -> set[str]:
    """Return a value as it is and as it stands in a JSON text or in an address."""
    return {
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        urllib.parse.quote(value, safe="", errors="replace"),
    }
