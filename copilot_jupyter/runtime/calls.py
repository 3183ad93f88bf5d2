"""What the runtime asks this kernel while a turn runs: to run a tool, for leave, what may go.

The first two are handed to whoever drives the turn, as events with a future; the SDK's
handlers wait on the loop's thread and do nothing themselves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from copilot_jupyter.events import LOOKING, LeaveAsked, ToolAnswer, ToolAsked, used

if TYPE_CHECKING:
    from collections.abc import Callable

    from copilot.session_events import PermissionRequest
    from copilot.tools import Tool as SdkTool

    from copilot_jupyter.events import Offer, Tool, TurnEvent

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: Seconds that the runtime may take to write a call down (measured: 60 to 90 ms).
_WRITTEN = 0.5

_NOBODY = "No cell is running any more; nothing was done."
_WITHHELD = "The result was withheld: it could not be searched for secrets."


class Calls:
    """The handlers of one open session.

    Parameters
    ----------
    begun : callable
        Takes a size of the transcript, and returns the ids of the tool calls written after it.
    scrub : callable
        Takes a text, and returns it as it may leave this machine.

    Attributes
    ----------
    emit : callable or None
        Takes the events of the running turn; None while none runs.
    waiting : int
        How many answers are waited for: the model is not stalled meanwhile.
    """

    def __init__(self, begun: Callable[[int], list[str]], scrub: Callable[[str], str]) -> None:
        self._begun = begun
        self._scrub = scrub
        self._own: frozenset[str] = frozenset()
        self._calls: list[str] = []
        self._since = 0
        self.emit: Callable[[TurnEvent], None] | None = None
        self.waiting = 0
        self._asked: list[ToolAsked | LeaveAsked] = []

    def begin(self, emit: Callable[[TurnEvent], None], since: int) -> None:
        """Hand what is asked from now on to a turn.

        Parameters
        ----------
        emit : callable
        since : int
            The transcript's size before the turn, in bytes.
        """
        self.emit = emit
        self._calls, self._since = [], since
        self._asked.clear()

    @property
    def used(self) -> str:
        """The last tool of the last turn that may have changed something, "" if none did."""
        return used(self._asked)

    @property
    def outputs(self) -> tuple[dict[str, Any], ...]:
        """What the cell has shown of the calls of the last turn."""
        outputs: list[dict[str, Any]] = []
        for asked in self._asked:
            if isinstance(asked, ToolAsked) and asked.cleared:
                outputs.clear()
            outputs += asked.outputs
        return tuple(outputs)

    def options(self, offer: Offer) -> dict[str, Any]:
        """Return what a create or resume must pass for these tools."""
        self._own = frozenset(tool.name for tool in offer.tools)
        custom = [f"custom:{tool.name}" for tool in offer.tools]
        options: dict[str, Any] = {
            "tools": [self._sdk_tool(tool) for tool in offer.tools],
            "available_tools": custom + [f"builtin:{name}" for name in offer.builtin],
            "on_permission_request": self._leave,
            # Longer results would become files in the temp folder, and a pointer to them.
            "large_output": {"enabled": False},
        }
        if offer.builtin:  # a call costs 2 ms, and its result is on disk once more (measured)
            options["hooks"] = {"on_post_tool_use": self._scrubbed}
        return options

    def _sdk_tool(self, tool: Tool) -> SdkTool:
        from copilot.tools import Tool as SdkTool
        from copilot.tools import ToolResult

        async def handler(invocation: Any) -> ToolResult:
            future: Future[ToolAnswer] = Future()
            if tool.name not in LOOKING:
                await self._written(invocation.tool_call_id)
            asked = ToolAsked(tool.name, invocation.arguments, future)
            answer = await self._answer(asked, future, ToolAnswer(_NOBODY, "failure"))
            # "rejected" would end the turn (seen), and the model is to try again.
            status = "denied" if answer.status == "rejected" else answer.status
            return ToolResult(text_result_for_llm=answer.text, result_type=status)  # type: ignore[arg-type]

        return SdkTool(
            tool.name,
            tool.description,
            handler=handler,
            parameters=tool.parameters,
            overrides_built_in_tool=False,
            skip_permission=True,  # asked here, in the cell
        )

    async def _written(self, call: str) -> None:
        """Wait until a call is on disk: a runtime that is killed takes what it has not written.

        Code that ran would then be in no transcript, and its turn taken out.
        """
        self._calls.append(call)  # some models use an id twice
        wanted, deadline = self._calls.count(call), time.monotonic() + _WRITTEN
        while self._begun(self._since).count(call) < wanted:
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(0.005)

    async def _leave(self, request: PermissionRequest, _invocation: Any = None) -> Any:
        from copilot.rpc import PermissionDecisionApproveOnce, PermissionDecisionReject

        future: Future[str] = Future()
        refused = await self._answer(_asked(request, future), future, _NOBODY)
        if refused:
            return PermissionDecisionReject(feedback=refused)
        return PermissionDecisionApproveOnce()

    async def _scrubbed(self, use: Any, _invocation: Any = None) -> dict[str, Any] | None:
        """Return what the model gets in place of a result of the runtime's own tools."""
        if use["toolName"] in self._own:  # scrubbed where it was made
            return None
        try:
            text = use["toolResult"]["textResultForLlm"]
            # Not on the loop: of ten megabytes it takes seconds.
            kept = await asyncio.to_thread(self._scrub, text)
        except Exception as error:  # noqa: BLE001 -- the SDK would let the result go as it is
            logger.debug("a result of %s: %r", use["toolName"], error)
            return {"modifiedResult": {"textResultForLlm": _WITHHELD, "resultType": "failure"}}
        if kept == text:
            return None
        return {"modifiedResult": {**use["toolResult"], "textResultForLlm": kept}}

    async def _answer(self, asked: ToolAsked | LeaveAsked, future: Future[T], otherwise: T) -> T:
        if self.emit is None:
            return otherwise
        self.waiting += 1
        self._asked.append(asked)
        try:
            self.emit(asked)
            return await asyncio.wrap_future(future)
        finally:
            self.waiting -= 1


def _asked(request: PermissionRequest, future: Future[str]) -> LeaveAsked:
    """Return what a permission request of any kind asks for."""
    kind = str(getattr(request.kind, "value", request.kind))
    path = str(getattr(request, "file_name", None) or getattr(request, "path", None) or "")
    names = ("full_command_text", "url", "tool_name", "fact")
    found = (getattr(request, name, None) for name in names)
    detail = path or next((str(value) for value in found if value), kind)
    if diff := getattr(request, "diff", None):
        detail = f"{detail}\n{diff[max(diff.find('@@'), 0) :]}"  # without git's own header
    return LeaveAsked(kind, detail, path, str(getattr(request, "intention", "") or ""), future)
