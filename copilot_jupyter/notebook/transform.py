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
    from collections.abc import Iterator

    from IPython.core.interactiveshell import InteractiveShell

_OURS = re.compile(r"%%?copilot(_\w+)?(\s|\Z)")
_HELP = re.compile(r"%copilot(_\w+)?\?{1,2}\Z")
#: ``%time %copilot Why?``: the question mark is our prompt's.
_OURS_IN_ANOTHER = re.compile(r"%(?!copilot)\w+\s.*(?<=\s)%copilot(_\w+)?\s.*\?\Z")
#: What Python may not await in, at the top of a cell.
_OWN_SCOPE = (
    ast.FunctionDef,
    ast.ClassDef,
    ast.Lambda,
    ast.GeneratorExp,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
)

#: What a cell may hold that is awaited.
_AWAITED = ("_magic('copilot', ", "_magic('copilot_resume', ", "_magic('copilot_fix', ")

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
            at = 0 if words and words[0].string == "%" else _behind_assignment(words)
            if len(words) < at + 2 or words[at].string != "%":
                continue
            if words[at].start[0] != words[0].start[0]:  # goes over several lines
                continue
            text = words[at].line[words[at].start[1] :].strip()
            ours = _OURS.match(text) and not _HELP.match(text)
            if ours or _OURS_IN_ANOTHER.match(text):
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
        name, *words = text.removeprefix("%").split(maxsplit=1)
        rest = words[0] if words else ""
        if rest.strip() in ("?", "??"):
            call = f"get_ipython().run_line_magic('pinfo', {'%' + name!r})"
        else:
            call = f"get_ipython().run_line_magic({name!r}, {rest.strip()!r})"
        if not before.strip() and name == "copilot":
            call += " and None"  # the answer is shown already: the statement has no value
        return [*lines[: self.start_line], f"{before}{call}\n", *lines[self.start_line + 1 :]]


def _behind_assignment(words: list[Any]) -> int:
    """Return the position behind the first ``=`` outside brackets, 0 where there is none."""
    depth = 0
    for position, token in enumerate(words):
        depth += (token.string in "([{") - (token.string in ")]}")
        if token.string == "=" and not depth:
            return position + 1
    return 0


def to_await(lines: list[str]) -> list[str]:
    """Turn our calls in a cell that the kernel was sent into awaited ones.

    Only there is it known that the cell is awaited: ipykernel transforms it, and asks IPython
    whether it is to be awaited (``%autoawait``, the loop it runs on). Where it is not, IPython
    transforms it once more, as it does the body of ``%%time`` and what ``run_cell`` is given:
    then nobody awaits it. (``do_execute`` of ipykernel 6.31 to 7.4.)
    """
    caller: Any = sys._getframe(1)  # noqa: SLF001 -- the only way to see who transforms
    while caller is not None and caller.f_code.co_name == "transform_cell":
        caller = caller.f_back
    is_sent = caller is not None and caller.f_code.co_name == "do_execute"
    return awaited(lines) if is_sent else lines


def awaited(lines: list[str]) -> list[str]:
    """Turn the ``%%copilot`` and ``%copilot`` calls of a cell into awaited ones.

    Only where Python may await: not inside a function.
    """
    code = "".join(lines)
    if not any(call in code for call in _AWAITED):
        return lines
    try:
        tree = compile(code, "<cell>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (SyntaxError, ValueError):
        return lines
    # As bytes: of those, `splitlines` knows only the line ends that Python counts.
    encoded = code.encode().splitlines(keepends=True)
    for call in sorted(_calls(tree), key=lambda c: (c.lineno, c.col_offset), reverse=True):
        _rewrite(encoded, call)
    return b"".join(encoded).decode().splitlines(keepends=True)


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls of ours below a node that are not inside a function or a class."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _OWN_SCOPE):
            continue
        if isinstance(child, ast.Call) and _is_ours(child):
            yield child
        else:
            yield from _calls(child)


def _is_ours(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    return (
        name in ("get_ipython().run_line_magic", "get_ipython().run_cell_magic")
        and len(call.args) == (2 if name.endswith("line_magic") else 3)
        and isinstance(call.args[0], ast.Constant)
        and (call.args[0].value in ("copilot", "copilot_fix") or _chooses(call))
        and call.lineno == call.args[1].lineno
        and not call.keywords
    )


def _chooses(call: ast.Call) -> bool:
    """Whether it is ``%copilot_resume`` without an id, which opens the picker."""
    name, line = call.args[0], call.args[1]
    return (
        isinstance(name, ast.Constant)
        and name.value == "copilot_resume"
        and isinstance(line, ast.Constant)
        and not str(line.value).strip()
    )


def _rewrite(lines: list[bytes], call: ast.Call) -> None:
    """Put the awaited call in a call's place; the offsets of ast count bytes."""
    last = lines[call.end_lineno - 1] if call.end_lineno else b""
    lines[(call.end_lineno or 1) - 1] = (
        last[: call.end_col_offset] + b")" + last[call.end_col_offset :]
    )
    kind = "line" if len(call.args) == 2 else "cell"
    target = f"['CopilotMagics'].awaited_{kind}("
    if isinstance(call.args[0], ast.Constant) and call.args[0].value == "copilot_fix":
        target = "['CopilotFixMagics'].awaited("
    elif _chooses(call):
        target = "['CopilotSessionMagics'].awaited_choice("
    awaited = f"(await get_ipython().magics_manager.registry{target}"
    line = lines[call.lineno - 1]
    lines[call.lineno - 1] = (
        line[: call.col_offset] + awaited.encode() + line[call.args[1].col_offset :]
    )


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
