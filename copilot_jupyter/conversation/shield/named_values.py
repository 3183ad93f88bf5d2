"""Values beside a name that says they are secret: ``api_key = "…"``, ``DB_PASSWORD=…``.

The name alone takes too much of an ordinary prompt with it: a tokenizer has a
``pad_token="<pad>"``, a form a ``password: required``. So the value has to look like a
secret too, and all that code or prose puts there stays: words, numbers, paths, names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .secret_shapes import A_PATH, Kind, is_listed, is_mixed

if TYPE_CHECKING:
    from collections.abc import Callable

#: Characters of the longest: a session token of AWS has a thousand and more, a password few.
_LONGEST, _LONGEST_PASSWORD = 4_096, 128
_RANDOM = re.compile(r"[\w+/=.~%:|-]{16,}", re.ASCII)
#: What people put into a password, and code and prose do not put into a word.
_TYPED = re.compile(r"[A-Za-z0-9][!@#$^?~]+[A-Za-z0-9]|[A-Za-z0-9][!@#$^~]+\Z")
_STANDS_IN = re.compile(
    r"(?i:(?:your|my|some|example|test|dummy|fake|insert|enter|put)[_-]"
    r"|(?:argon2|bcrypt|scrypt|pbkdf2|sha|md5)\w*\Z)"
)

#: From a name to its value: ``"name": "…"``, ``['name'] = '…'``, ``name: str = "…"``,
#: ``NAME=…``, and the same with the quotes escaped. What is read is passed over whole, secret
#: or not: a pattern that failed behind it would read it once more from every name in it.
_VALUE = (
    r"(?:\\?[\"'])?\]?(?::[ ]str(?:,[^\n]{0,60})?\n"  # our own view of a variable
    r"|(?:: ?str)?[ \t]{0,8}(?:=>|:=|[=:](?!=))[ \t]{0,8}[bru]?)"
    r"(?P<quote>\\?[\"'])?"
    # A bare one ends where a word does; an & only where another name of a query follows.
    r"(?P<secret>(?(quote)[^\s\"'\\‹›]++"
    r"|(?:[^\s\"'`\\,;&<>(){}\[\]|‹›]|&(?!(?:amp;)?[\w.-]{1,40}=))++))"
)
#: What ends a bare value.
_ENDS = re.compile(r"[\s\"'`\\,;&<)}\]|]|\Z")
_OPTION = re.compile(r"--[\w-]*\Z")
#: Characters of a command before ``-u``.
_COMMAND = 200


def _stands_in(found: str) -> bool:
    """Whether this is what stands where a secret will, or where it can be found."""
    return bool(
        "://" in found or A_PATH.match(found) or _STANDS_IN.match(found) or not is_listed(found)
    )


def _is_drawn(found: str) -> bool:
    """Whether this looks drawn at random, as tokens and keys are."""
    return (
        len(found) <= _LONGEST
        and bool(_RANDOM.fullmatch(found))
        and is_mixed(found)
        and not _stands_in(found)
    )


def _is_typed(found: str) -> bool:
    """Whether this looks like a password that somebody thought up."""
    if not 6 <= len(found) <= _LONGEST_PASSWORD:
        return False
    return (is_mixed(found) or bool(_TYPED.search(found))) and not _stands_in(found)


def _is_whole(match: re.Match[str]) -> bool:
    """Whether it ends where values do, a quoted one with its quote."""
    text, end, quote = match.string, match.end("secret"), match["quote"]
    return text.startswith(quote, end) if quote else bool(_ENDS.match(text, end))


def _is_option(match: re.Match[str]) -> bool:
    """Whether the name is an option of a command: ``--api-key …``."""
    begin = match.start()
    return bool(_OPTION.search(match.string, max(0, begin - 32), begin))


def _is_of_curl(match: re.Match[str]) -> bool:
    begin = match.start()
    return "curl " in match.string[max(0, begin - _COMMAND) : begin].rpartition("\n")[2]


def _named(
    kind: str, hints: tuple[str, ...], name: str, is_secret: Callable[[str], bool] = _is_drawn
) -> Kind:
    return Kind(kind, hints, re.compile(name + _VALUE), is_secret, _is_whole)


_KEYS = (
    *("_key", "_Key", "_KEY", "-key", "-Key", "-KEY", "ikey", "iKey", "IKEY"),
    *("hkey", "hKey", "HKEY", "skey", "sKey", "SKEY", "tkey", "tKey", "TKEY"),
)
#: Names are told by how they end. Each begins with a few letters, which `re` finds fast.
NAMED = (
    _named("password", ("ass", "ASS"), "[Pp](?i:ass(?:word|wd|phrase))", _is_typed),
    _named("password", ("wd", "WD"), "[Pp](?i:wd)", _is_typed),
    _named("token", ("oken", "OKEN"), "[Tt](?i:oken)"),
    _named("secret", ("ecret", "ECRET"), "[Ss](?<!‹[Ss])(?i:ecret)"),  # and no mask
    _named("key", _KEYS, "[ASas](?i:pi|uth|ccess|ecret)[_-]?(?i:key)"),
    _named("key", ("_KEY",), "_KEY"),
    Kind(
        "password",
        ("token ", "password ", "secret ", "key "),
        re.compile(
            r"(?:token|password|secret|api-?key) (?P<quote>[\"'])?(?P<secret>[^\s\"'`\\‹›]++)"
        ),
        _is_typed,
        _is_option,
    ),
    Kind(
        "password",
        ("curl ",),
        re.compile(
            r"-(?:u|-user)[ =][\"']?[\w.@+-]{1,64}:(?P<secret>[^\s\"'`\\‹›]++)",
        ),
        lambda found: not _stands_in(found),
        _is_of_curl,
    ),
)
