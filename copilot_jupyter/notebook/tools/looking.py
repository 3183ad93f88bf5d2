"""What the model sees of the kernel and the notebook: variables, a value, cells."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from IPython.core.interactiveshell import InteractiveShell

#: Variables that are listed before the model has to ask for less.
LISTED = 200
#: Characters of an output of a cell, and of a cell's source.
_OUTPUT, _SOURCE = 500, 3_000
#: Characters that are searched for secrets behind a cut: half a one is not told from a word.
_BEHIND = 2_000
_HAVE_SHAPES = ("numpy", "pandas", "polars", "torch", "xarray")
#: Bytes of a notebook file that is read.
_LARGEST = 50_000_000


def own_variables(shell: InteractiveShell) -> dict[str, Any]:
    """Return the variables of the person's own, without IPython's.

    Parameters
    ----------
    shell : InteractiveShell
    """
    hidden = shell.user_ns_hidden
    return {
        name: value
        for name, value in list(shell.user_ns.items())
        if not name.startswith("_") and hidden.get(name, hidden) is not value
    }


def variables(shell: InteractiveShell, match: str = "") -> str:
    """Return the person's variables, a line each.

    Parameters
    ----------
    shell : InteractiveShell
    match : str, optional
        Only names that contain this, in whatever case.
    """
    from copilot_jupyter.conversation.shield.secrets import Shield

    own = own_variables(shell)
    names = sorted(name for name in own if match.lower() in name.lower())
    if not names:
        return "There is no variable." if not match else f"No variable's name contains {match!r}."
    scrub = Shield.of(os.environ).scrub
    lines = [f"{name}: {_glance(own[name], scrub)}" for name in names[:LISTED]]
    if len(names) > LISTED:
        lines.append(f"and {len(names) - LISTED:,} more; `match` narrows the list")
    return "\n".join(lines)


def _glance(value: object, scrub: Callable[[str], str]) -> str:
    """Return a value's type, and what can be said of it without running code of its own."""
    from copilot_jupyter.conversation.views.parts import Wanted, kinds, type_name
    from copilot_jupyter.conversation.views.printer import Printer

    said = type_name(value)
    if any(type(value) is kind for kind in (bool, int, float, complex, str, bytes)):
        return f"{said} = {scrub(Printer(Wanted(scrub=scrub)).line(value, 60))}"
    if any(type(value) is kind for kind in (list, tuple, dict, set, frozenset)):
        return f"{said} of {len(value):,}"  # type: ignore[arg-type]
    if kinds(type(value))[0].partition(".")[0] in _HAVE_SHAPES:
        try:
            shape = tuple(map(int, getattr(value, "shape", ())))
        except Exception:  # noqa: BLE001 -- a column called shape, a lazy expression
            return said
        return f"{said} {shape}" if shape else said
    return said


def variable(shell: InteractiveShell, name: str, wanted: str = "") -> str:
    """Return the view of one variable.

    Parameters
    ----------
    shell : InteractiveShell
    name : str
    wanted : str, optional
        A format: ``schema``, ``head=N``.

    Raises
    ------
    BadInputError
        If there is none, or it does not take the format.
    """
    from copilot_jupyter.conversation.shield.secrets import Shield
    from copilot_jupyter.conversation.views import view

    own = own_variables(shell)
    if name not in own:
        raise BadInputError(f"The kernel has no variable {name!r}.", "list_variables names them.")
    seen = view(own[name], name, wanted, scrub=Shield.of(os.environ).scrub)
    head = f"{name}: {seen.type}" + (f", {seen.facts}" if seen.facts else "")
    return f"{head}\n{seen.text}".strip()


def notebook(shell: InteractiveShell, path: Path | None, cells: str = "") -> str:
    """Return cells of the notebook as last saved; without a file, what was run.

    Parameters
    ----------
    shell : InteractiveShell
    path : Path or None
    cells : str, optional
        Numbers from 1, such as ``3`` or ``2-8``.

    Raises
    ------
    BadInputError
        If the numbers are none, or the file cannot be read.
    """
    from copilot_jupyter.conversation.shield.secrets import Shield

    scrub = Shield.of(os.environ).scrub
    found = _saved(path, scrub) if path is not None and path.exists() else _run(shell, scrub)
    first, last = _range(cells, len(found))
    kept = found[first - 1 : last]
    return "\n\n".join(kept) or "The notebook is empty."


def _saved(path: Path, scrub: Callable[[str], str]) -> list[str]:
    try:
        if path.stat().st_size > _LARGEST:
            raise BadInputError(f"{path.name} is larger than 50 MB.", "Clear some outputs.")
        file = json.loads(path.read_bytes())
        cells = [cell for cell in file["cells"] if isinstance(cell, dict)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"{path.name} cannot be read: {error}.", "Save it once more.") from None
    return [_told(number, cell, scrub) for number, cell in enumerate(cells, 1)]


def _told(number: int, cell: dict[str, Any], scrub: Callable[[str], str]) -> str:
    parts = [f"[{number}] {cell.get('cell_type')}", _cut(_text(cell.get("source")), _SOURCE, scrub)]
    outputs = cell.get("outputs")
    for output in outputs if isinstance(outputs, list) else []:
        data = output.get("data") if isinstance(output, dict) else None
        data = data if isinstance(data, dict) else {}
        if not isinstance(output, dict):
            continue
        text = _text(output.get("text") or data.get("text/plain") or output.get("traceback"))
        if text:
            parts.append(f"-> {_cut(_COLOUR.sub('', text).strip(), _OUTPUT, scrub)}")
    return "\n".join(parts)


def _run(shell: InteractiveShell, scrub: Callable[[str], str]) -> list[str]:
    ran = enumerate(shell.user_ns.get("In") or [], 0)
    return [
        f"[{number}] code, as it was run\n{_cut(source, _SOURCE, scrub)}" for number, source in ran
    ][1:]


_COLOUR = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")


def _text(value: Any) -> str:
    parts = value if isinstance(value, list) else [value]
    return "".join(part for part in parts if isinstance(part, str))


def _cut(text: str, length: int, scrub: Callable[[str], str]) -> str:
    if len(text) <= length:
        return text
    kept = scrub(text[: length + _BEHIND])[:length]
    return f"{kept} [... {len(text) - length:,} characters cut]"


def _range(cells: str, count: int) -> tuple[int, int]:
    if not cells.strip():
        return 1, count
    match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", cells)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= min(last, count):
        known = f"There are 1 to {count}." if count else "The notebook is empty."
        raise BadInputError(f"There are no cells {cells!r}.", known)
    return first, last
