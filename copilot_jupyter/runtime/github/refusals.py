"""Asking the runtime about accounts, and what its refusals mean to a person."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from typing import TYPE_CHECKING, TypeVar

from copilot_jupyter.errors import BadInputError, CopilotError, SetupError

from .credentials import WHAT_IS_TAKEN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from .credentials import Token

T = TypeVar("T")
logger = logging.getLogger(__name__)

_HIDDEN = "‹hidden›"
_TOKENS = re.compile(r"(?:gh[a-z]_|github_pat_)\w+")
_NO_KEYCHAIN = "No default store has been set"
_METHOD_NOT_FOUND = -32601


class KeychainError(SetupError):
    """The runtime could not use the keychain; `missing` if there is none."""

    missing = False


async def ask(call: Awaitable[T], host: str, token: Token | None = None) -> T:
    """Await an answer of the runtime; a failure becomes an error of ours.

    It is raised outside of the handlers: an error with the SDK's frames behind it would
    carry the request, and a debugger or a verbose traceback would show the token in it.

    Parameters
    ----------
    call : awaitable
    host : str
        Named in the error.
    token : Token, optional
        What was sent: taken out of the error.

    Raises
    ------
    BadInputError, SetupError
    """
    from copilot._jsonrpc import JsonRpcError, ProcessExitedError

    failure: BaseException
    try:
        return await call
    except asyncio.CancelledError:
        failure = asyncio.CancelledError()
    except JsonRpcError as error:
        failure = explain(error.message, host, token, code=error.code)
    except (ProcessExitedError, ExceptionGroup, OSError, RuntimeError) as error:
        logger.debug("the runtime did not answer: %s", type(error).__name__)
        failure = SetupError("The Copilot runtime ended before it answered.", "Try again.")
    except (ValueError, AssertionError, KeyError, TypeError) as error:  # the SDK's parsers
        logger.debug("the runtime's answer: %s", type(error).__name__)
        failure = SetupError(
            "The Copilot runtime answered with something this SDK does not know.",
            "Update copilot-jupyter's dependencies, or sign in with `copilot` in a terminal.",
        )
    raise failure


@contextlib.contextmanager
def unlogged() -> Iterator[None]:
    """Keep the SDK from logging a failed sign-in: a host may send the token back in it."""
    sdk = logging.getLogger("copilot._jsonrpc")

    def unless_login(record: logging.LogRecord) -> bool:
        return getattr(record, "method", "") != "account.login"

    sdk.addFilter(unless_login)
    try:
        yield
    finally:
        sdk.removeFilter(unless_login)


def explain(message: str, host: str, token: Token | None = None, *, code: int = 0) -> CopilotError:
    """Return our error for what the runtime said."""
    said = message.partition("failed with message: ")[2] or message
    if code == _METHOD_NOT_FOUND:
        return SetupError(
            "This Copilot runtime is too old to sign in through a browser.",
            "Use `%copilot_login --token`, or fetch a newer one with `copilot-jupyter setup`.",
        )
    if "Keychain error" in said:
        error = KeychainError("The keychain could not be used.", "Unlock it and try again.")
        error.missing = _NO_KEYCHAIN in said
        return error
    if status := re.search(r"Failed to fetch Copilot user info: (\d{3})", said):
        return _refused(host, int(status[1]))
    for part, kind, what, do in _SAID:
        if part in said:
            return kind(what.format(host=host), do)
    said = said.removeprefix("GenericFailure, ")
    if token is not None:
        said = said.replace(token.reveal(), _HIDDEN)
    said = " ".join(_TOKENS.sub(_HIDDEN, said).split())
    return SetupError(f"Signing in to {host} failed: {said[:200]}", "Run %copilot_doctor.")


_SAID: tuple[tuple[str, type[CopilotError], str, str], ...] = (
    (
        "error sending request",
        SetupError,
        "{host} cannot be reached from this machine.",
        "Check the network, HTTPS_PROXY and the name of the host, then sign in again.",
    ),
    (
        "Classic personal access tokens",
        BadInputError,
        "Classic personal access tokens (ghp_...) cannot be used for Copilot.",
        WHAT_IS_TAKEN,
    ),
    ("Unsupported token type", BadInputError, "This is no token Copilot takes.", WHAT_IS_TAKEN),
    (
        "Server-to-server tokens",
        BadInputError,
        "Server-to-server tokens (ghs_...) cannot be signed in with.",
        "Set COPILOT_GITHUB_TOKEN to it before the kernel starts.",
    ),
    (
        "Invalid URL",
        BadInputError,
        "{host} is not a host that can be signed in to.",
        "Write it like github.com or your-company.ghe.com.",
    ),
    (
        "insecure (non-HTTPS) host",
        BadInputError,
        "{host} is not encrypted; the browser sign-in needs https.",
        "Use https, or `%copilot_login --token`.",
    ),
    (
        "has denied",
        SetupError,
        "The sign-in to {host} was refused in the browser.",
        "Nothing was changed. Run %copilot_login again to retry.",
    ),
    (
        "was denied",
        SetupError,
        "The sign-in to {host} was refused in the browser.",
        "Nothing was changed. Run %copilot_login again to retry.",
    ),
    (
        "Timed out",
        SetupError,
        "Nobody answered in the browser in time.",
        "Run %copilot_login again; where the browser runs on another computer, "
        "use `%copilot_login --token`.",
    ),
    (
        "Login cancelled",
        SetupError,
        "The sign-in to {host} was cancelled.",
        "Run %copilot_login again to retry.",
    ),
)


def _refused(host: str, status: int) -> CopilotError:
    if status == 401:
        return SetupError(
            f"{host} did not accept the token: it is wrong, has expired or was revoked.",
            WHAT_IS_TAKEN,
        )
    if status in {403, 404}:
        return SetupError(
            f"{host} does not let this token use Copilot.",
            "Check that the account has Copilot and that the token has the "
            '"Copilot Requests" permission.',
        )
    return SetupError(
        f"{host} could not check the token: it answered with status {status}.", "Try again later."
    )
