"""The SDK's events and errors in our own words: the one place that knows their spelling.

The SDK raises ``RuntimeError``, ``ValueError``, bare ``Exception`` and two private types,
and tells them apart by message only, so each message it was seen to raise is matched here
and has a test.
"""

from __future__ import annotations

import base64
import contextlib
import re
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import (
    BadInputError,
    CopilotError,
    NoProviderError,
    NotSavedError,
    ProviderError,
    RuntimeDiedError,
    SessionDamagedError,
    TurnError,
)
from copilot_jupyter.events import Provider, TextDelta, ToolStarted, TurnEvent, TurnRetry

from .provider import WAYS_ON

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from copilot_jupyter.events import Attachment

_NOT_FOUND = "Session not found"
_DEAD = ("process exited", "not connected", "Broken pipe", "connection closed", "Session closed")
_DAMAGED = (
    "corrupted or incompatible",
    "Session file is corrupted",
    "Failed to read JSONL",
    "First event must be",
    "client metadata file",
    "Failed to load workspace",
    "workspace metadata",
    "id: Required",
)
_FULL = ("No space left", "ENOSPC", "EROFS", "Read-only file system", "Failed to persist")
_TOO_LONG = ("prompt budget", "maximum context length", "context_length_exceeded")
_NO_SIGN_IN = ("No GitHub OAuth token", "Not authenticated", "No authentication")

#: Longest foreign text that goes into one of our sentences.
_SHOWN = 300


def one_line(text: str) -> str:
    """Return foreign text as one short line without control or direction characters."""
    plain = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", text)
    plain = "".join(c if c.isprintable() else " " for c in plain)
    plain = " ".join(plain.split())
    return plain if len(plain) <= _SHOWN else plain[: _SHOWN - 1] + "…"


def is_not_found(error: Exception) -> bool:
    """Whether the SDK says that there is no such session."""
    return _NOT_FOUND in str(error)


def from_sdk(error: BaseException, session_id: str = "") -> CopilotError:
    """Return one of our errors for whatever the SDK raised.

    Parameters
    ----------
    error : BaseException
        What the SDK raised.
    session_id : str, optional
        The session concerned, for the sentence.
    """
    if isinstance(error, CopilotError):
        return error
    text = one_line(str(error))
    named = f"The session {session_id}" if session_id else "The session"
    if type(error).__name__ == "ProcessExitedError" or any(sign in text for sign in _DEAD):
        return died()
    if "invalid sessionId" in text:
        return BadInputError(
            f"The runtime refuses the session id {session_id!a}.", "Choose another."
        )
    if any(sign in text for sign in _DAMAGED):
        return SessionDamagedError(
            f"{named} cannot be read: {text}.",
            "%copilot_doctor --fix repairs what can be repaired.",
        )
    if any(sign in str(error) for sign in _FULL):
        return not_saved(str(error))
    if any(sign in text for sign in _NO_SIGN_IN):
        return NoProviderError("There is no model to talk to: nobody is signed in.", WAYS_ON)
    if isinstance(error, TimeoutError):
        return RuntimeDiedError("The Copilot runtime does not answer.", "Run the cell again.")
    return TurnError(
        f"The Copilot runtime refused: {text}", "%copilot_doctor checks what is wrong."
    )


@contextlib.contextmanager
def sdk_errors(session_id: str = "") -> Iterator[None]:
    """Turn whatever the SDK raises inside into one of our errors: it raises bare ``Exception``.

    Parameters
    ----------
    session_id : str, optional
        The session concerned, for the sentence.
    """
    try:
        yield
    except Exception as error:
        raise from_sdk(error, session_id) from error


def died() -> RuntimeDiedError:
    """Return the error for a runtime that ended."""
    return RuntimeDiedError(
        "The Copilot runtime has ended.", "Run the cell again: it is restarted."
    )


def not_saved(text: str) -> NotSavedError:
    """Return the error for a turn that the disk refused."""
    # The reason stands behind paths that are too long to show.
    reasons = ("No space left on device", "Read-only file system", "Permission denied")
    reason = next((r for r in reasons if r in text), one_line(text))
    return NotSavedError(
        f"The turn could not be saved: {reason}.", "Free some disk space and run the cell again."
    )


def from_session_error(data: Any, provider: Provider) -> CopilotError:
    """Return our error for a ``session.error`` event.

    Parameters
    ----------
    data : SessionErrorData
        The SDK's event data.
    provider : Provider
        Whom the turn was sent to.
    """
    kind, status = str(data.error_type), data.status_code
    text = one_line(str(data.message))
    where = str(provider.config.get("base_url") or "GitHub Copilot")
    if kind == "persistence" or any(sign in text for sign in _FULL):
        return not_saved(str(data.message))
    if any(sign in text for sign in _NO_SIGN_IN):
        return NoProviderError("There is no model to talk to: nobody is signed in.", WAYS_ON)
    if kind == "authentication" or status in (401, 403):
        what = f"{where} refused the credentials ({status or 'no status'}): {text}"
        do = "Check COPILOT_PROVIDER_API_KEY, or sign in anew with %copilot_login."
    elif kind == "rate_limit" or status == 429:
        what = f"{where} is limiting requests ({status or 429}): {text}"
        do = "Wait a while and run the cell again."
    elif any(sign in text for sign in _TOO_LONG):
        what = f"The conversation is too long for the model: {text}"
        do = "Shorten the prompt, or begin a new session with %copilot_new."
    elif status:
        what = f"{where} answered {status}: {text}"
        do = "Run the cell again; if it stays, check the model's name (%copilot_models)."
        if "tool" in text.lower():  # a server or a model that knows none
            do = "Turn the tools off: %config Copilot.tools = []"
    else:
        what = f"{where} could not be reached or did not answer properly: {text}"
        do = "Check that it runs and that its URL is right; then run the cell again."
    return ProviderError(what, do, status=status)


def attachments(found: Sequence[Attachment]) -> list[Any]:
    """Return attachments in the SDK's words."""
    from copilot.session import BlobAttachment, FileAttachment

    made: list[Any] = []
    for each in found:
        if each.path:
            made.append(FileAttachment(type="file", path=each.path, displayName=each.name))
        else:
            data = base64.b64encode(each.data).decode()
            made.append(
                BlobAttachment(type="blob", data=data, mimeType=each.mime, displayName=each.name)
            )
    return made


def _is_final(status: int | None) -> bool:
    # Measured: 400, 403 and 404 are not tried again, 401 and 429 are.
    return status is not None and 400 <= status < 500 and status not in (401, 408, 409, 429)


def _why(data: Any) -> str:
    if data.status_code:
        return f"the provider answered {data.status_code}"
    return one_line(str(data.error_message or "the provider failed").strip('"'))


def from_event(event: Any) -> Iterator[TurnEvent]:
    """Yield what an SDK event says to a person; nothing for most of them."""
    kind, data = event.type.value, event.data
    if getattr(event, "agent_id", None):
        return
    if kind == "assistant.message_delta":
        yield TextDelta(data.delta_content)
    elif kind == "model.call_failure" and not _is_final(data.status_code):
        # Said before the wait; 1.0.85 has no assistant.turn_retry, 1.0.102 says it after.
        yield TurnRetry(_why(data))
    elif kind == "tool.execution_start":
        yield ToolStarted(data.tool_name, one_line(str(data.arguments or "")))
