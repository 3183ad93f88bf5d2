"""Code that the model writes, run in the person's namespace.

It runs like a cell of its own, outside In, Out and the execution count. What it prints and
displays is seen in the running cell as it happens, and the model is told the same as text.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
from contextlib import contextmanager
from traceback import format_exception_only
from typing import TYPE_CHECKING, Any, TextIO, cast

from copilot_jupyter.notebook.magics.desk import interruptible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from IPython.core.interactiveshell import InteractiveShell

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: Characters that are kept of what is printed; the model is told fewer.
_KEPT = 200_000


async def run_python(shell: InteractiveShell, code: str) -> tuple[str, bool]:
    """Run code in the shell's namespace.

    Parameters
    ----------
    shell : InteractiveShell
    code : str
        As in a cell: magics and a top-level ``await`` work.

    Returns
    -------
    str
        What it printed and displayed, and the traceback if it failed.
    bool
        Whether it ran to its end.

    Raises
    ------
    KeyboardInterrupt, asyncio.CancelledError
        On the stop button.
    """
    heard = _Heard()
    with heard.listening(shell):
        try:
            await _run(shell, code)
            _show_figures()
        except (KeyboardInterrupt, asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException:  # noqa: BLE001 -- the model's code, which may raise anything
            # The frames of ours above the code say nothing to anybody.
            kind, error, trace = sys.exc_info()
            while trace is not None and not _is_of_cell(shell, trace.tb_frame.f_code.co_filename):
                trace = trace.tb_next
            if kind is None or trace is None:  # it could not be compiled
                lines = format_exception_only(kind, error)
            else:
                lines = shell.InteractiveTB.structured_traceback(kind, error, trace, tb_offset=0)
            heard.failed = True
            print("\n".join(lines), file=sys.stderr)  # noqa: T201 -- seen in the cell
    return heard.text(), not heard.failed


async def _run(shell: InteractiveShell, code: str) -> None:
    source = shell.transform_cell(code)
    name = shell.compile.cache(source, raw_code=code)
    body = ast.parse(source, name).body
    _check(body)
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    for node in body:
        await _execute(shell, ast.Module([node], []), name, "exec")
    if last is not None and not code.rstrip().endswith(";"):
        await _execute(shell, ast.Interactive([last]), name, "single")
    elif last is not None:
        await _execute(shell, ast.Module([last], []), name, "exec")


def _check(body: list[ast.stmt]) -> None:
    """Refuse the magics and settings of Copilot: they would wait for the turn they run in."""
    for node in (node for statement in body for node in ast.walk(statement)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr not in ("run_line_magic", "run_cell_magic"):
            continue
        said = [arg.value for arg in node.args[:2] if isinstance(arg, ast.Constant)]
        if any(str(text).lower().lstrip().startswith("copilot") for text in said):
            told = "Code that the model runs cannot use the magics and settings of Copilot."
            raise RuntimeError(told)


async def _execute(shell: InteractiveShell, tree: ast.mod, name: str, mode: str) -> None:
    compiler: Any = shell.compile
    with compiler.extra_flags(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT):
        compiled = compiler(tree, name, mode)
    if compiled.co_flags & inspect.CO_COROUTINE:
        await eval(compiled, shell.user_global_ns, shell.user_ns)  # noqa: S307 -- what this is for
        return
    # An awaited cell leaves the stop button to the loop, which this code holds.
    with interruptible():
        exec(compiled, shell.user_global_ns, shell.user_ns)  # noqa: S102 -- what this is for


def _is_of_cell(shell: InteractiveShell, filename: str) -> bool:
    return shell.compile.format_code_name(filename) is not None


def _show_figures() -> None:
    """Show what the inline backend of Matplotlib shows at the end of a cell."""
    inline = sys.modules.get("matplotlib_inline.backend_inline")
    if inline is not None and "matplotlib.pyplot" in sys.modules:
        inline.flush_figures()


class _Heard:
    """What goes out while code runs, in order."""

    def __init__(self) -> None:
        self.failed = False
        self._parts: list[str] = []
        self._size = 0

    def text(self) -> str:
        return _COLOUR.sub("", "".join(self._parts)).strip("\n")

    def add(self, text: str) -> None:
        if self._size < _KEPT:
            self._parts.append(text[: _KEPT - self._size])
        self._size += len(text)

    @contextmanager
    def listening(self, shell: InteractiveShell) -> Iterator[None]:
        """Copy what is printed and displayed."""
        from IPython.display import display

        def show(value: object) -> None:
            if value is not None:
                display(value)

        before = sys.stdout, sys.stderr, sys.displayhook
        sys.stdout = cast("TextIO", _Tee(before[0], self.add))
        sys.stderr = cast("TextIO", _Tee(before[1], self.add))
        sys.displayhook = show  # not IPython's: it counts, and fills Out
        publisher: Any = shell.display_pub
        hooked = hasattr(publisher, "register_hook")
        if hooked:
            publisher.register_hook(self._displayed)
        try:
            yield
        finally:
            if hooked:
                publisher.unregister_hook(self._displayed)
            sys.stdout, sys.stderr, sys.displayhook = before

    def _displayed(self, message: dict[str, Any]) -> dict[str, Any]:
        data = message.get("content", {}).get("data", {})
        if text := data.get("text/plain"):
            self.add(f"{text}\n")
        if pictures := [kind for kind in data if kind.startswith("image/")]:
            self.add(f"[shown in the cell as {', '.join(pictures)}]\n")
        return message


class _Tee:
    """A stream that also tells what is written to it."""

    def __init__(self, stream: Any, tell: Callable[[str], None]) -> None:
        self._stream = stream
        self._tell = tell

    def write(self, text: str) -> int:
        self._tell(text)
        return int(self._stream.write(text) or len(text))

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
