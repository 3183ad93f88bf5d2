"""The tools of the kernel: what the model may look at and do while a turn runs.

A call comes from the loop's thread and is answered by the cell that asks, on its own
thread, between two beats of the turn: values are looked at where they live, and code runs
where the person's own code runs.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from traceback import format_exception_only
from typing import TYPE_CHECKING, Any, TypeVar

from copilot_jupyter.conversation.grants import Wish
from copilot_jupyter.conversation.stored.outputs import display_data
from copilot_jupyter.errors import CopilotError
from copilot_jupyter.events import NO_TOOLS, LeaveAsked, Offer, Tool, ToolAnswer, ToolAsked
from copilot_jupyter.notebook.display import render
from copilot_jupyter.settings import BUILTIN_TOOLS, KERNEL_TOOLS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from copilot_jupyter.notebook.desk import Desk
    from copilot_jupyter.notebook.tools.permissions import Permissions

    #: What a tool gives, or the steps to it: a tool that asks or runs takes time.
    Using = ToolAnswer | Generator[Awaitable[Any] | None, Any, ToolAnswer]
    Steps = Generator[Awaitable[Any] | None, Any, ToolAnswer]

T = TypeVar("T")

#: Whether code of the model's runs; a task that the person began meanwhile is no such code.
_running: ContextVar[bool] = ContextVar("copilot_jupyter_running", default=False)
#: Characters that the model is told of what one call gives back.
RESULT = 8_000


def _schema(required: tuple[str, ...] = (), **properties: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            name: {"type": "string", "description": text} for name, text in properties.items()
        },
        "required": list(required),
    }


#: Short: with all of them the first request stays within 4 kB.
TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            "list_variables",
            "List the variables of the live Python kernel: names, types, sizes.",
            _schema(match="Only names that contain this."),
        ),
        Tool(
            "inspect_variable",
            "Show one variable of the kernel: a table's columns and first rows, a function's "
            "source, any other value's text.",
            _schema(("name",), name="A variable's name.", format="'schema', 'head=N' or nothing."),
        ),
        Tool(
            "read_notebook",
            "Read the cells of this notebook as last saved, with their text outputs.",
            _schema(cells="Numbers such as '3' or '2-8'; all by default."),
        ),
        Tool(
            "run_python",
            "Run Python code in the user's kernel; they see its output. The user is asked first.",
            _schema(("code",), code="The code of one cell."),
        ),
        Tool(
            "insert_cell",
            "Insert a new cell below this one, not run. The user is asked first.",
            _schema(("source",), source="The cell's source.", kind="'code' or 'markdown'."),
        ),
    )
}


class Tools:
    """The tools that a notebook offers, and the answers to their calls.

    Parameters
    ----------
    desk : Desk
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._uses: dict[str, Callable[[dict[str, Any], ToolAsked], Using]] = {
            "list_variables": self._list_variables,
            "inspect_variable": self._inspect_variable,
            "read_notebook": self._read_notebook,
            "run_python": self._run_python,
            "insert_cell": self._insert_cell,
        }

    @property
    def running(self) -> bool:
        """Whether this is code of the model's, which may not ask in its turn."""
        return _running.get()

    @property
    def offer(self) -> Offer:
        """What the model may use, by ``Copilot.tools``."""
        settings = self._desk.settings
        names: Sequence[str] | None = settings.tools
        if names is None:  # the embedded model is too small to call any
            names = () if settings.provider == "local" else KERNEL_TOOLS
        own = tuple(TOOLS[name] for name in KERNEL_TOOLS if name in names)
        builtin = [tool for name, tools in BUILTIN_TOOLS.items() if name in names for tool in tools]
        return Offer(own, tuple(builtin)) if own or builtin else NO_TOOLS

    @cached_property
    def permissions(self) -> Permissions:
        """Who asks the person."""
        from copilot_jupyter.notebook.tools.permissions import Permissions

        desk = self._desk
        return Permissions(desk.front_end, desk.settings, desk.sessions.grants, desk.say)

    # -- what a turn calls -----------------------------------------------------------------

    def answer(self, asked: ToolAsked | LeaveAsked) -> Generator[Awaitable[Any] | None, Any, None]:
        """Do what was asked, and say so to whoever waits; yields while that takes time.

        An awaitable that is yielded is to be awaited, and its result sent back.

        Parameters
        ----------
        asked : ToolAsked or LeaveAsked
        """
        if isinstance(asked, LeaveAsked):
            _give(asked.answer, (yield from self._leave(asked)))
            return
        try:
            arguments = _checked(TOOLS[asked.name], asked.arguments)
            used = self._uses[asked.name](arguments, asked)
            given = used if isinstance(used, ToolAnswer) else (yield from used)
        except CopilotError as error:
            given = ToolAnswer(f"{error.what} {error.do}".strip(), "rejected")
        except Exception as error:  # noqa: BLE001 -- values of others, whose code may raise anything
            told = "".join(format_exception_only(type(error), error)).strip()
            given = ToolAnswer(f"It failed: {told}", "failure")
        except BaseException:  # the stop button: unless it has begun, nothing was done
            if not asked.began:
                _give(asked.answer, ToolAnswer("The user stopped it.", "denied"))
            raise
        _give(asked.answer, ToolAnswer(self._budgeted(given.text), given.status))

    def _budgeted(self, text: str) -> str:
        from copilot_jupyter.conversation.shield.secrets import Shield

        whole = len(text)
        if whole > 4 * RESULT:  # a secret is shorter than what is cut off once more below
            text = f"{text[: 2 * RESULT]}\n[...]\n{text[-2 * RESULT :]}"
        text = Shield.of(os.environ).scrub(text)
        if len(text) <= RESULT:
            return text
        head, tail = text[: RESULT * 3 // 4], text[-RESULT // 4 :]
        return f"{head}\n[... {whole - RESULT:,} characters cut ...]\n{tail}"

    # -- leave -----------------------------------------------------------------------------

    def _decide(self, wish: Wish, asked: ToolAsked | LeaveAsked) -> Generator[None, None, str]:
        """Return "" for yes, else what the model is told."""
        session, notebook_id = self._desk.notebook.held()
        decision = yield from self.permissions.decide(wish, session, notebook_id)
        if self.permissions.line:
            asked.outputs.append(display_data(render.plain_bundle(self.permissions.line)))
        if decision.allows:
            return ""
        return f"Not done: {decision.value}. Do not try it again unless the user says so."

    def _leave(self, asked: LeaveAsked) -> Generator[None, None, str]:
        """Return "" where one of the runtime's own tools may go on."""
        if asked.kind in ("read", "write"):
            if not asked.path.isprintable() or not self._is_inside(Path(asked.path)):
                return (
                    f"{asked.path!r} is outside the folders that may be used; "
                    "the user can add some to Copilot.folders."
                )
            standing = self.permissions.standing("read", *self._desk.notebook.held())
            if asked.kind == "read" and standing is not False:  # named in Copilot.tools
                return ""
        language = {"shell": "bash", "write": "diff"}.get(asked.kind, "")
        return (yield from self._decide(Wish(asked.kind, asked.detail, language=language), asked))

    def _is_inside(self, path: Path) -> bool:
        desk = self._desk
        here = desk.notebook.identity.folder
        real = (Path(here) / path).resolve()
        folders = [Path(here, Path(folder).expanduser()) for folder in desk.settings.folders]
        return any(real.is_relative_to(folder.resolve()) for folder in (Path(here), *folders))

    # -- the tools -------------------------------------------------------------------------

    def _list_variables(self, arguments: dict[str, Any], _asked: ToolAsked) -> ToolAnswer:
        from copilot_jupyter.notebook.tools import looking

        return ToolAnswer(looking.variables(self._desk.shell, arguments.get("match", "")))

    def _inspect_variable(self, arguments: dict[str, Any], _asked: ToolAsked) -> ToolAnswer:
        from copilot_jupyter.notebook.tools import looking

        name, wanted = arguments["name"], arguments.get("format", "")
        return ToolAnswer(looking.variable(self._desk.shell, name, wanted))

    def _read_notebook(self, arguments: dict[str, Any], _asked: ToolAsked) -> ToolAnswer:
        from copilot_jupyter.notebook.tools import looking

        path = self._desk.notebook.identity.path
        return ToolAnswer(looking.notebook(self._desk.shell, path, arguments.get("cells", "")))

    def _run_python(self, arguments: dict[str, Any], asked: ToolAsked) -> Steps:
        from copilot_jupyter.notebook.tools.run_python import run_python

        code = arguments["code"]
        if refusal := (yield from self._decide(Wish("run_python", code, language="python"), asked)):
            return ToolAnswer(refusal, "denied")
        asked.began = True
        token = _running.set(True)
        try:
            ran = yield run_python(self._desk.shell, code)
        finally:
            _running.reset(token)
        if ran.cleared:
            asked.cleared = True
            asked.outputs.clear()
        asked.outputs.extend(ran.outputs)
        status = "success" if ran.whole else "failure"
        return ToolAnswer(ran.text or "It ran, and printed nothing.", status)

    def _insert_cell(self, arguments: dict[str, Any], asked: ToolAsked) -> Steps:
        source, kind = arguments["source"], arguments.get("kind") or "code"
        if kind not in ("code", "markdown"):
            return ToolAnswer(f"A cell is 'code' or 'markdown', not {kind!r}.", "rejected")
        as_is = ("", "python") if kind == "code" else ("A Markdown cell", "markdown")
        if refusal := (yield from self._decide(Wish("insert_cell", source, *as_is), asked)):
            return ToolAnswer(refusal, "denied")
        asked.began = True
        if (yield from self._desk.lab.insert_cell(source, kind=kind)):
            return ToolAnswer("Inserted.")
        if kind == "code" and self._desk.front_end.offer_cell(source):
            return ToolAnswer("Inserted; this front end takes no second one in this turn.")
        return ToolAnswer("This front end cannot insert it; show it in your answer.", "rejected")


def _give(future: Future[T], value: T) -> None:
    """Answer whoever waits; nobody does once the turn is over, which another thread decides."""
    with suppress(InvalidStateError):
        future.set_result(value)


def _checked(tool: Tool, arguments: Any) -> dict[str, Any]:
    """Return the arguments of a call.

    Raises
    ------
    CopilotError
        If they do not fit; the model is told.
    """
    if not isinstance(arguments, dict):
        raise CopilotError(f"{tool.name} takes a JSON object.", "")
    known = tool.parameters["properties"]
    if strange := [name for name in arguments if name not in known]:
        raise CopilotError(f"{tool.name} has no argument {strange[0]!r}.", f"It has {[*known]}.")
    for name in known:
        value = arguments.get(name)
        if value in (None, "") and name in tool.parameters["required"]:
            raise CopilotError(f"{tool.name} needs the argument {name!r}.", "")
        if value is not None and not isinstance(value, str):
            raise CopilotError(f"The argument {name!r} of {tool.name} has to be a string.", "")
    return {name: value for name, value in arguments.items() if value is not None}
