"""The parts of the docs that the code says itself: the magics' help and the settings.

The site puts them in the place of the comments of `PARTS`; each is Markdown.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: What the site calls each class of magics, in the order of the page.
_GROUPS = {
    "CopilotMagics": "Ask",
    "CopilotFixMagics": "Mend a cell",
    "CopilotSessionMagics": "Sessions",
    "CopilotReadingMagics": "Read",
    "CopilotPermissionMagics": "Permissions",
    "CopilotKernelMagics": "This kernel",
}
#: A line such as ``--model NAME   ask this model``: what is typed, two spaces, what it does.
_OPTION = re.compile(r"(\S.*?) {2,}(\S.*)")
#: What is typed, in a docstring's prose.
_TYPED = re.compile(
    r"%%?copilot\w*(?: [A-Z]{2,}(?!\w))?|%config|--[a-z][a-z-]+(?:[ =](?:[A-Z]+\b|\w+,\w+))?"
    r"|\{[^{}\s]+\}|\*\.[\w.]+|\bCopilot\.\w+|\.(?:text|code)\b|\.json\(\)|In \[7\]|\brun_python\b"
)


def magics() -> str:
    """Return the help of every magic, from its docstring."""
    from copilot_jupyter.notebook.extension import MAGICS

    parts = []
    order = list(_GROUPS)
    for group in sorted(MAGICS, key=lambda c: order.index(c.__name__)):
        parts.append(f"## {_GROUPS[group.__name__]}")
        for kind, name, method in _of(group):
            parts += [f"### `{kind}{name}`", *_docstring(inspect.getdoc(method) or "")]
    return "\n\n".join(parts)


def _of(group: Any) -> Iterator[tuple[str, str, object]]:
    """Yield the magics of a class, in the order in which they are written."""
    lines, cells = group.magics["line"], group.magics["cell"]
    for name in (name for name in vars(group) if name in {**lines, **cells}):
        yield ("%%" if name in cells else "%"), name, getattr(group, name)


def _docstring(text: str) -> Iterator[str]:
    """Yield the blocks of a docstring as Markdown."""
    for block in re.split(r"\n\s*\n", text):
        lines = block.splitlines()
        if block.strip() == "::":
            continue
        if all(line.startswith("    ") for line in lines):
            yield "\n".join(["```text", *(line[4:] for line in lines), "```"])
        elif _OPTION.fullmatch(lines[0]):
            yield "\n".join(_table(lines))
        else:
            yield _TYPED.sub(r"`\g<0>`", " ".join(lines))


def _table(lines: list[str]) -> Iterator[str]:
    rows: list[list[str]] = []
    for line in lines:
        if line.startswith(" "):
            rows[-1][1] += f" {line.strip()}"
        elif found := _OPTION.fullmatch(line):
            rows.append([found[1], found[2]])
        else:
            message = f"{line!r} stands in a list of flags and is none"
            raise ValueError(message)
    yield "| | |"
    yield "|---|---|"
    for typed, does in rows:
        said = _TYPED.sub(r"`\g<0>`", does)
        yield f"| `{_cell(typed)}` | {_cell(said)} |"


def settings() -> str:
    """Return every setting: what it does, its default, what it takes."""
    from copilot_jupyter.settings import ENVIRONMENT, Copilot

    parts = []
    for name, trait in Copilot.class_traits(config=True).items():
        facts = [
            f"Default: `{trait.default()!r}`",
            f"takes {_takes(trait)}",
            f"environment: `{ENVIRONMENT}{name.upper()}`",
        ]
        parts += [f"## `Copilot.{name}`", _help(trait.help), "; ".join(facts) + "."]
    return "\n\n".join(parts)


def _takes(trait: Any) -> str:
    if values := getattr(trait, "values", None):
        return " or ".join(f"`{value!r}`" for value in values)
    kind = type(trait).__mro__[0 if type(trait).__module__.startswith("traitlets") else 1].__name__
    words = {
        "Unicode": "a text",
        "Bool": "`True` or `False`",
        "Float": "a number",
        "Int": "a whole number",
        "List": "a list of names (in the environment with spaces or commas between them)",
    }
    least = getattr(trait, "min", None)
    more = f" from {least:,} on" if least is not None and kind in ("Float", "Int") else ""
    return words[kind] + more


def _help(text: str) -> str:
    """Return a trait's help with what is typed set as code."""
    text = re.sub(r"(?<!\w)'([^']+)'(?!\w)", r"`'\1'`", text)
    return re.sub(r"(?<![`'\w])((?:COPILOT|GH)_\w+|\w+_\w+|None)(?![`'\w])", r"`\1`", text)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


#: What makes each part, by the comment in whose place the site puts it.
PARTS: dict[str, Callable[[], str]] = {
    "<!-- the help of every magic -->": magics,
    "<!-- every setting -->": settings,
}
