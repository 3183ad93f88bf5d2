"""How a typed cell becomes a call: IPython's traps, and the cell that is awaited.

IPython reads a line that ends in ``?`` as a question about a name, which would swallow
``%copilot What were we discussing?``; and it can't await a magic. Two transformers mend
both: one on tokens, before IPython's own, and one on the finished lines.
"""

from __future__ import annotations

import ast
import re
import sys
from typing import TYPE_CHECKING, Any

from IPython.core.inputtransformer2 import TokenTransformBase

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_OURS = re.compile(r"%%?copilot(_\w+)?(\s|\Z)")
_HELP = re.compile(r"%copilot(_\w+)?\?{1,2}\Z")
_CALL = re.compile(
    r"(?P<before>.*?)get_ipython\(\)\.run_(?P<kind>line|cell)_magic\('copilot', (?P<rest>.*)\Z",
    re.DOTALL,
)

#: What a comment or code before ``%%copilot`` is told.
_NOT_FIRST = "'%%copilot has to be the first line of its cell.', 'Move what stands before it.'"


class AskLine(TokenTransformBase):
    """``%copilot ...`` and ``x = %copilot ...`` up to the end of the line, ``?`` included."""

    priority = 1  # before IPython's help (5) and magics (10)

    def __init__(self, start: tuple[int, int], column: int) -> None:
        # IPython runs the transformer that begins leftmost: with ``x = %copilot a?`` that
        # would be its help, which claims the whole line; so this one claims it too.
        super().__init__(start)
        self._column = column

    @classmethod
    def find(cls, tokens_by_line: list[list[Any]]) -> AskLine | None:
        """Return the first such line, if there is one."""
        for line in tokens_by_line:
            words = [token for token in line if token.string.strip()]
            at = 2 if len(words) > 2 and words[1].string == "=" else 0
            if len(words) < at + 2 or words[at].string != "%":
                continue
            text = words[at].line[words[at].start[1] :].strip()
            if _OURS.match(text) and not _HELP.match(text):
                return cls(words[0].start, words[at].start[1])
        return None

    def transform(self, lines: list[str]) -> list[str]:
        """Return the lines with the call in the line's place."""
        line = lines[self.start_line].rstrip("\n")
        before, text = line[: self._column], line[self._column :].rstrip()
        if text.startswith("%%"):
            return [
                f"get_ipython().magics_manager.registry['CopilotMagics'].refuse({_NOT_FIRST})\n"
            ]
        name, _, rest = text.removeprefix("%").partition(" ")
        if rest.strip() in ("?", "??"):
            call = f"get_ipython().run_line_magic('pinfo', {'%' + name!r})"
        else:
            call = f"get_ipython().run_line_magic({name!r}, {rest.strip()!r})"
        if not before.strip() and name == "copilot":
            call += " and None"  # the answer is shown already: the statement has no value
        return [*lines[: self.start_line], f"{before}{call}\n", *lines[self.start_line + 1 :]]


def to_await(lines: list[str]) -> list[str]:
    """Turn the ``%%copilot`` and ``%copilot`` calls of a cell into awaited ones.

    Only where the cell may await: not inside a function, and not inside another magic,
    whose body IPython runs synchronously.
    """
    if not any("_magic('copilot', " in line for line in lines) or _inside_a_magic():
        return lines
    awaited = [_awaited(line) for line in lines]
    try:
        compile("".join(awaited), "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:
        return lines
    return awaited


def _awaited(line: str) -> str:
    match = _CALL.match(line)
    if match is None:
        return line
    magics = "get_ipython().magics_manager.registry['CopilotMagics']"
    rest, end = match["rest"].rstrip("\n"), ""
    if rest.endswith(" and None"):
        rest, end = rest.removesuffix(" and None"), " and None"
    return f"{match['before']}(await {magics}.awaited_{match['kind']}({rest}){end}\n"


def _inside_a_magic() -> bool:
    frame: Any = sys._getframe(1)  # noqa: SLF001 -- the only way to see who transforms
    while frame is not None:
        if frame.f_code.co_name in ("run_cell_magic", "run_line_magic"):
            return True
        frame = frame.f_back
    return False


def install(shell: InteractiveShell) -> None:
    """Add the transformers to a shell, once."""
    tokens = shell.input_transformer_manager.token_transformers
    if AskLine not in tokens:
        tokens.append(AskLine)
    if getattr(shell, "kernel", None) is not None and to_await not in shell.input_transformers_post:
        shell.input_transformers_post.append(to_await)


def uninstall(shell: InteractiveShell) -> None:
    """Take the transformers out again."""
    tokens = shell.input_transformer_manager.token_transformers
    if AskLine in tokens:
        tokens.remove(AskLine)
    if to_await in shell.input_transformers_post:
        shell.input_transformers_post.remove(to_await)
