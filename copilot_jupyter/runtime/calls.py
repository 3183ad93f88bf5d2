"""What the runtime asks this kernel while a turn runs: to run a tool, or for leave.

Both are handed to whoever drives the turn, as events with a future; the SDK's handlers
wait on the loop's thread and do nothing themselves.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from copilot_jupyter.events import LeaveAsked, ToolAnswer, ToolAsked

if TYPE_CHECKING:
    from collections.abc import Callable

    from copilot.session_events import PermissionRequest
    from copilot.tools import Tool as SdkTool

    from copilot_jupyter.events import Offer, Tool, TurnEvent

T = TypeVar("T")

_NOBODY = "No cell is running any more; nothing was done."


class Calls:
    """The handlers of one open session.

    Attributes
    ----------
    emit : callable or None
        Takes the events of the running turn; None while none runs.
    waiting : int
        How many answers are waited for: the model is not stalled meanwhile.
    """

    def __init__(self) -> None:
        self.emit: Callable[[TurnEvent], None] | None = None
        self.waiting = 0

    def options(self, offer: Offer) -> dict[str, Any]:
        """Return what a create or resume must pass for these tools."""
        custom = [f"custom:{tool.name}" for tool in offer.tools]
        return {
            "tools": [self._sdk_tool(tool) for tool in offer.tools],
            "available_tools": custom + [f"builtin:{name}" for name in offer.builtin],
            "on_permission_request": self._leave,
            # Longer results would become files in the temp folder, and a pointer to them.
            "large_output": {"enabled": False},
        }

    def _sdk_tool(self, tool: Tool) -> SdkTool:
        from copilot.tools import Tool as SdkTool
        from copilot.tools import ToolResult

        async def handler(invocation: Any) -> ToolResult:
            future: Future[ToolAnswer] = Future()
            asked = ToolAsked(tool.name, invocation.arguments, future)
            answer = await self._answer(asked, future, ToolAnswer(_NOBODY, "failure"))
            # Of a failure the model is told the result; `error` is for the log.
            return ToolResult(text_result_for_llm=answer.text, result_type=answer.status)  # type: ignore[arg-type]

        return SdkTool(
            tool.name,
            tool.description,
            handler=handler,
            parameters=tool.parameters,
            overrides_built_in_tool=False,
            skip_permission=True,  # asked here, in the cell
        )

    async def _leave(self, request: PermissionRequest, _invocation: Any = None) -> Any:
        from copilot.rpc import PermissionDecisionApproveOnce, PermissionDecisionReject

        kind, detail, reason = _told(request)
        future: Future[str] = Future()
        refused = await self._answer(LeaveAsked(kind, detail, reason, future), future, _NOBODY)
        if refused:
            return PermissionDecisionReject(feedback=refused)
        return PermissionDecisionApproveOnce()

    async def _answer(self, asked: ToolAsked | LeaveAsked, future: Future[T], otherwise: T) -> T:
        if self.emit is None:
            return otherwise
        self.waiting += 1
        try:
            self.emit(asked)
            return await asyncio.wrap_future(future)
        finally:
            self.waiting -= 1


def _told(request: PermissionRequest) -> tuple[str, str, str]:
    """Return kind, detail and reason of a permission request of any kind."""
    kind = str(getattr(request.kind, "value", request.kind))
    names = ("full_command_text", "file_name", "path", "url", "tool_name", "fact")
    found = (getattr(request, name, None) for name in names)
    detail = next((str(value) for value in found if value), kind)
    if diff := getattr(request, "diff", None):
        detail = f"{detail}\n{diff}"
    return kind, detail, str(getattr(request, "intention", "") or "")
