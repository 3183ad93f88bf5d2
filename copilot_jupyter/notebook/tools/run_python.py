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
from dataclasses import dataclass, field
from functools import partial
from traceback import format_exception_only
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, cast

from copilot_jupyter.conversation.stored.outputs import display_data, stream
from copilot_jupyter.interrupts import interruptible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from IPython.core.interactiveshell import InteractiveShell

    from copilot_jupyter.conversation.stored.outputs import Output

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: Characters that are kept of what is printed; the model is told fewer.
_KEPT = 200_000


@dataclass(frozen=True)
class Ran:
    """What came of code.

    Parameters
    ----------
    text : str
        What it printed and displayed, and the traceback if it failed; for the model.
    whole : bool
        Whether it ran to its end.
    outputs : list of dict
        What the cell has shown of it, as nbformat has it.
    cleared : bool
        Whether it has cleared the cell's output.
    """

    text: str
    whole: bool
    outputs: list[Output]
    cleared: bool


async def run_python(shell: InteractiveShell, code: str) -> Ran:
    """Run code in the shell's namespace.

    Parameters
    ----------
    shell : InteractiveShell
    code : str
        As in a cell: magics and a top-level ``await`` work.

    Returns
    -------
    Ran

    Raises
    ------
    KeyboardInterrupt, asyncio.CancelledError
        On the stop button.
    """
    heard, whole = _Heard(), True
    with heard.listening(shell), _staying(shell):
        try:
            await _run(shell, code)
            _show_figures()
        except (KeyboardInterrupt, asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException:  # noqa: BLE001 -- the model's code, which may raise anything
            # The frames of ours above the code say nothing to anybody.
            kind, error, trace = sys.exc_info()
            render = getattr(error, "_render_traceback_", None)
            while trace is not None and not _is_of_cell(shell, trace.tb_frame.f_code.co_filename):
                trace = trace.tb_next
            if render is not None:
                lines = render()
            elif kind is None or trace is None:  # it could not be compiled
                lines = format_exception_only(kind, error)
            else:
                lines = shell.InteractiveTB.structured_traceback(kind, error, trace, tb_offset=0)
            whole = False
            print("\n".join(lines), file=sys.stderr)  # noqa: T201 -- seen in the cell
    return Ran(heard.text(), whole, heard.outputs(), heard.cleared)


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


@contextmanager
def _staying(shell: Any) -> Iterator[None]:
    """Let ``exit()`` end the code, not the kernel with all that is in it."""

    def leave() -> NoReturn:
        raise SystemExit

    shell.ask_exit = leave
    try:
        yield
    finally:
        del shell.ask_exit


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
        #: Streams and displays; what is printed comes in pieces.
        self._heard: list[_Printed | Output] = []
        self._displays: dict[str, Output] = {}
        self._size = 0
        self._clears_next = False
        self.cleared = False

    def text(self) -> str:
        """Return it for the model."""
        parts = (each.text if isinstance(each, _Printed) else _told(each) for each in self._heard)
        return _COLOUR.sub("", "".join(parts)).strip("\n")

    def outputs(self) -> list[Output]:
        """Return it as the cell has shown it."""
        return [
            stream(each.name, each.text) if isinstance(each, _Printed) else each
            for each in self._heard
        ]

    def add(self, name: str, text: str) -> None:
        """Take in what is printed."""
        kept = text[: max(_KEPT - self._size, 0)]
        self._size += len(text)
        self._make_room()
        if not kept:
            return
        last = self._heard[-1] if self._heard else None
        if not (isinstance(last, _Printed) and last.name == name):
            self._heard.append(last := _Printed(name))
        last.pieces.append(kept)

    @contextmanager
    def listening(self, shell: InteractiveShell) -> Iterator[None]:
        """Copy what is printed and displayed."""
        from IPython.display import display

        def show(value: object) -> None:
            if value is not None:
                display(value)

        before = sys.stdout, sys.stderr, sys.displayhook
        sys.stdout = cast("TextIO", _Tee(before[0], partial(self.add, "stdout")))
        sys.stderr = cast("TextIO", _Tee(before[1], partial(self.add, "stderr")))
        sys.displayhook = show  # not IPython's: it counts, and fills Out
        publisher: Any = shell.display_pub
        hooked = hasattr(publisher, "register_hook")
        if hooked:
            publisher.register_hook(self._published)
        try:
            yield
        finally:
            if hooked:
                publisher.unregister_hook(self._published)
            self._make_room()  # else whatever comes next would clear the cell
            sys.stdout, sys.stderr, sys.displayhook = before

    def _published(self, message: dict[str, Any]) -> dict[str, Any]:
        content, kind = message.get("content", {}), message.get("header", {}).get("msg_type")
        if kind == "clear_output":
            self._clears_next = True
            if not content.get("wait"):
                self._make_room()
            return message
        data, metadata = content.get("data", {}), content.get("metadata", {})
        name = str(content.get("transient", {}).get("display_id") or "")
        if kind == "update_display_data":
            if name in self._displays:
                self._displays[name] |= {"data": data, "metadata": metadata}
            return message
        self._make_room()
        self._heard.append(shown := display_data(data, metadata))
        if name:
            self._displays[name] = shown
        return message

    def _make_room(self) -> None:
        """Clear what there is, if the code has asked for that."""
        if self._clears_next:
            self._heard.clear()
            self._clears_next, self.cleared = False, True


@dataclass
class _Printed:
    """What was printed to one stream without anything between."""

    name: str
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def _told(output: Output) -> str:
    """Return what the model is told of a display."""
    data = output["data"]
    said = f"{data['text/plain']}\n" if data.get("text/plain") else ""
    if pictures := [kind for kind in data if kind.startswith("image/")]:
        said += f"[shown in the cell as {', '.join(pictures)}]\n"
    return said


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
