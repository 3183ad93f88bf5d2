"""The flags of the magics: declared once, parsed, completed and refused from there.

Flags end at the first word that is not one, so that a prompt needs no quotes and may hold
anything: ``%copilot --model gpt-5 What's a "--model" flag?``.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from copilot_jupyter.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

_FLAG = re.compile(r"\s*(--[A-Za-z][A-Za-z0-9-]*)(?:=(?P<value>\"[^\"]*\"|'[^']*'|\S*))?(?=\s|$)")
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_VALUE = re.compile(r"\s+(?P<value>\"[^\"]*\"|'[^']*'|\S+)(?=\s|$)")
_WORD = re.compile(r"\"[^\"]*\"|'[^']*'|\S+")


@dataclass(frozen=True)
class Flag:
    """One flag of a magic.

    Parameters
    ----------
    name : str
        With its dashes.
    value : str
        What it takes, as the manual calls it; "" for a switch.
    optional : bool
        Whether it may stand without a value; the value then follows an ``=``.
    """

    name: str
    value: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Parsed:
    """What was typed behind a magic.

    Parameters
    ----------
    flags : dict
        Values by flag; a switch that was given is "".
    rest : str
        What follows the flags, as typed.
    """

    flags: dict[str, str] = field(default_factory=dict)
    rest: str = ""

    def __contains__(self, name: str) -> bool:
        return name in self.flags

    def get(self, name: str, default: str = "") -> str:
        """Return a flag's value."""
        return self.flags.get(name, default)

    @property
    def words(self) -> list[str]:
        """What follows the flags, word by word, quotes removed."""
        return [_unquoted(word) for word in _WORD.findall(self.rest)]

    def number(self, name: str, *, least: float) -> float | None:
        """Return a flag's value as a number, None if it was not given.

        Raises
        ------
        BadInputError
            If it is no number or less than `least`.
        """
        if name not in self.flags:
            return None
        try:
            value = float(self.flags[name])
        except ValueError:
            value = float("nan")
        if not value >= least or value == float("inf"):
            raise BadInputError(
                f"{name} is {self.flags[name]!r}.", f"Give it a number of at least {least:g}."
            )
        return value

    def age(self, name: str) -> timedelta:
        """Return a flag's value as a length of time: ``30d``, ``12h``, ``2w``, ``90m``.

        Raises
        ------
        BadInputError
            If it is none.
        """
        text = self.get(name)
        match = _AGE.fullmatch(text.strip())
        if match is None:
            raise BadInputError(
                f"{text!r} is no length of time.", "Write it like 30d, 12h, 2w or 90m (minutes)."
            )
        try:
            return timedelta(**{_UNITS[match[2]]: float(match[1])})
        except OverflowError:
            told = f"{text!r} is longer than time goes."
            raise BadInputError(told, "Write it like 30d.") from None


#: The flags of every magic: what is parsed, completed and named when one is mistyped.
FLAGS: dict[str, tuple[Flag, ...]] = {
    "copilot": (
        Flag("--model", "NAME"),
        Flag("--into", "NAME"),
        Flag("--timeout", "SECONDS"),
        Flag("--context", "NAMES"),
        Flag("--attach", "FILE"),
        Flag("--no-tools"),
        Flag("--dry-run"),
        Flag("--again"),
        Flag("--rewind"),
        Flag("--branch", "ID", optional=True),
    ),
    "copilot_fix": (),
    "copilot_resume": (
        Flag("--create"),
        Flag("--from", "FILE"),
        Flag("--fork"),
        Flag("--take-over"),
        Flag("--read-only"),
        Flag("--share"),
    ),
    "copilot_new": (),
    "copilot_sessions": (Flag("--all"),),
    "copilot_history": (
        Flag("--last", "N"),
        Flag("--turn", "N"),
        Flag("--search", "TEXT"),
        Flag("--browse"),
        Flag("--export", "FILE.md|.html|.ipynb|.jsonl"),
    ),
    "copilot_insert": (Flag("--turn", "TURN"),),
    "copilot_fork": (Flag("--at", "TURN"),),
    "copilot_rewind": (),
    "copilot_undo": (),
    "copilot_export": (),
    "copilot_import": (),
    "copilot_delete": (Flag("--yes"),),
    "copilot_cleanup": (
        Flag("--older-than", "30d"),
        Flag("--dry-run"),
        Flag("--bound"),
        Flag("--yes"),
    ),
    "copilot_release": (),
    "copilot_models": (),
    "copilot_status": (),
    "copilot_doctor": (Flag("--fix"),),
    "copilot_allow": (Flag("--forget"),),
    "copilot_deny": (),
    "copilot_login": (Flag("--token"), Flag("--host", "HOST")),
    "copilot_logout": (),
}

#: The magics whose words are names of tools.
TAKES_TOOLS = ("copilot_allow", "copilot_deny")

#: The magics whose words are session ids.
TAKES_IDS = ("copilot_resume", "copilot_history", "copilot_delete", "copilot_doctor")


def parsed_line(magic: str, line: str) -> Parsed:
    """Return what was typed behind a magic whose words are no prompt."""
    return parse(f"%{magic}", line, FLAGS[magic], anywhere=True)


def no_words(magic: str, line: str) -> None:
    """Refuse words behind a magic that takes none.

    Raises
    ------
    BadInputError
    """
    if words := parsed_line(magic, line).rest:
        raise BadInputError(f"%{magic} takes no words, and got {words!r}.", f"Write %{magic}.")


def one_id(magic: str, parsed: Parsed) -> str:
    """Return the one session id that was typed, "" if none was.

    Raises
    ------
    BadInputError
        If there are more, or it is empty.
    """
    words = parsed.words
    if len(words) > 1:
        raise BadInputError(
            f"%{magic} takes one session id, and got {' '.join(words)!r}.",
            "An id has no spaces; %copilot_sessions lists them.",
        )
    if words and not words[0]:
        raise BadInputError("The session id is empty.", "%copilot_sessions lists them.")
    return words[0] if words else ""


def parse(magic: str, line: str, flags: Sequence[Flag], *, anywhere: bool = False) -> Parsed:
    """Read the flags of a magic's line.

    Parameters
    ----------
    magic : str
        Its name, for messages.
    line : str
    flags : sequence of Flag
        Those it takes.
    anywhere : bool
        Whether flags may follow words too; not for prompts.

    Raises
    ------
    BadInputError
        For an unknown flag, a missing value, or a value where none belongs.
    """
    known = {flag.name: flag for flag in flags}
    found: dict[str, str] = {}
    words: list[str] = []
    position = 0
    while True:
        if match := _FLAG.match(line, position):
            name, value = match[1], match["value"]
            flag = known.get(name)
            if flag is None:
                raise _unknown(magic, name, known)
            position = match.end()
            if flag.value and value is None and not flag.optional:
                following = _VALUE.match(line, position)
                if following is None or following["value"].startswith("--"):
                    raise BadInputError(
                        f"{magic} {name} takes a value.", f"Write {name} {flag.value}."
                    )
                value, position = following["value"], following.end()
            elif flag.value and value == "":
                raise BadInputError(f"{magic} {name} takes a value.", f"Write {name} {flag.value}.")
            elif not flag.value and value is not None:
                raise BadInputError(f"{magic} {name} takes no value.", f"Write just {name}.")
            found[name] = _unquoted(value or "")
        elif (
            anywhere
            and (word := re.compile(r"\s*(\"[^\"]*\"|'[^']*'|\S+)").match(line, position))
            and not word[1].startswith("#")
        ):  # a comment; no id begins so
            words.append(word[1])
            position = word.end()
        else:
            break
    rest = " ".join(words) if anywhere else line[position:].strip()
    return Parsed(found, rest)


def _unknown(magic: str, name: str, known: dict[str, Flag]) -> BadInputError:
    if name == "--help":
        return BadInputError(f"{magic} has no flag --help.", f"{magic}? shows its manual.")
    near = difflib.get_close_matches(name, known, n=1)
    guess = f"Did you mean {near[0]}? " if near else ""
    takes = ", ".join(known) or "no flags"
    return BadInputError(f"{magic} has no flag {name}.", f"{guess}It takes {takes}.")


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value
