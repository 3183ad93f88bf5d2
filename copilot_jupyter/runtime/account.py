"""Sign in to GitHub and out again, through the runtime.

Two ways in. `BrowserSignIn` is the runtime's own flow: GitHub's page sends the browser
back to a port on this machine, so the browser has to run where the kernel runs.
`login_with_token` takes a token and works anywhere. The runtime has no flow with a code
to type on another device (none over JSON-RPC in 1.0.102).

The runtime keeps the credential: in the system's keychain, else in its own
``config.json`` where the person allowed that, else in its memory until it ends. Here a
token exists as a `Token`, whose value no repr, pickle, error or log shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import parse_qs, urlsplit

from copilot_jupyter.errors import BadInputError, CopilotError, SetupError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator

    from copilot import CopilotClient, CopilotSession
    from copilot.rpc import AuthLoginStep

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: The host that is meant when none is named.
GITHUB = "https://github.com"

#: Which tokens the runtime takes, in words for a person.
WHAT_IS_TAKEN = (
    'Use a fine-grained personal access token (github_pat_...) with the "Copilot Requests" '
    "permission, or an OAuth token of Copilot or of the GitHub CLI (gho_..., ghu_...)."
)

#: What `Account.how` says of an account that was signed in through the runtime.
SIGNED_IN = "sign-in"

_HIDDEN = "‹hidden›"
_TOKENS = re.compile(r"(?:gh[a-z]_|github_pat_)\w+")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|::1")
_NO_KEYCHAIN = "No default store has been set"
_METHOD_NOT_FOUND = -32601

#: Seconds that cancelling a sign-in at the runtime may take.
_CLEAN_UP = 3.0


class Token:
    """A secret that shows itself to nobody who does not ask for it.

    Parameters
    ----------
    value : str
        The secret.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "Token(hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A token is never written anywhere.")


@dataclass(frozen=True)
class Account:
    """Somebody the runtime can ask GitHub as.

    Attributes
    ----------
    login : str
        The name at GitHub; empty where the runtime does not say.
    host : str
        Such as ``https://github.com``.
    how : str
        ``"sign-in"`` if signed in through the runtime, ``"GitHub CLI"``,
        ``"environment variable GH_TOKEN"``, or the runtime's own word.
    active : bool
        Whether it is the one in use.
    kept : bool
        Whether the runtime finds it again after a restart.
    """

    login: str
    host: str
    how: str
    active: bool
    kept: bool


@dataclass(frozen=True)
class SignInStep:
    """What the person does next: open an address.

    Attributes
    ----------
    url : str
        GitHub's page.
    host : str
        The host that is signed in to.
    returns_to : str
        Where that page sends the browser back to, such as ``127.0.0.1:36085``: a port of
        the computer that runs the kernel. Empty if the address does not say.
    """

    url: str
    host: str
    returns_to: str


@dataclass(frozen=True)
class SignedOut:
    """What signing out did.

    Attributes
    ----------
    account : Account
        Who was signed out.
    others : tuple of Account
        Who is left.
    restart : bool
        The runtime still holds the credential in its memory; it has to be ended.
    """

    account: Account
    others: tuple[Account, ...]
    restart: bool


def check_host(text: str) -> str:
    """Return a host as the runtime wants it.

    Parameters
    ----------
    text : str
        ``github.com``, ``https://tenant.ghe.com``, or empty for github.com.

    Returns
    -------
    str
        With its scheme and no slash at the end.

    Raises
    ------
    BadInputError
        It is no host, or a token would travel to it unencrypted.
    """
    text = text.strip()
    if not text:
        return GITHUB
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        name, port = parts.hostname or "", parts.port
    except ValueError:
        raise _bad_host() from None
    rest = (parts.path.rstrip("/"), parts.query, parts.fragment, parts.username, parts.password)
    if any(rest) or not _HOST_NAME.fullmatch(name) or parts.scheme not in {"https", "http"}:
        raise _bad_host()
    if parts.scheme == "http" and name not in _LOOPBACK:
        raise BadInputError(
            f"http://{name} is not encrypted, and the sign-in would travel in the clear.",
            "Use https.",
        )
    shown = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{shown}" + (f":{port}" if port else "")


async def accounts(client: CopilotClient) -> tuple[Account, ...]:
    """Return everybody the runtime can ask GitHub as, the one in use first.

    Parameters
    ----------
    client : CopilotClient
        Connected.

    Returns
    -------
    tuple of Account
        Empty when nobody is signed in.

    Raises
    ------
    SetupError
        The runtime did not answer.
    """
    return tuple(account for account, _ in await _known(client))


async def login_with_token(client: CopilotClient, token: Token, host: str = "") -> Account:
    """Sign in with a token; GitHub is asked whether it is good.

    A session that was open already stays signed out: resume it.

    Parameters
    ----------
    client : CopilotClient
        Connected.
    token : Token
    host : str
        As `check_host` takes it.

    Returns
    -------
    Account
        Not `Account.kept` if this machine has no keychain: then the runtime holds the
        token in its memory only. Not `Account.active` if something that comes first,
        such as ``GH_TOKEN``, is set.

    Raises
    ------
    BadInputError
        The host is none, or tokens of this kind are not taken.
    SetupError
        The host cannot be reached, refused the token, or the runtime failed.
    """
    from copilot.rpc import AccountLoginRequest

    host = check_host(host)
    with _unlogged():
        await _ask(
            client.rpc.account.login(AccountLoginRequest(host=host, token=token.reveal())),
            host,
            token,
        )
    return await _signed_in(client, host)


class BrowserSignIn:
    """One sign-in through the browser: `begin`, `finish`, perhaps `allow_file`; then `close`.

    In four calls, so that a cell can show the address and ask its questions in between
    from its own thread. The runtime does this inside a session; one that is never
    listed is made for it and deleted by `close`. Whichever call fails or is cancelled
    cancels the flow at the runtime, which otherwise would wait on.

    Parameters
    ----------
    client : CopilotClient
        Connected.
    host : str
        As `check_host` takes it.

    Raises
    ------
    BadInputError
        The host is none.
    """

    def __init__(self, client: CopilotClient, host: str = "") -> None:
        self.host = check_host(host)
        self._client = client
        self._session_id = f"copilot-jupyter-sign-in-{uuid.uuid4().hex[:12]}"
        self._session: CopilotSession | None = None
        self._flow = ""

    async def begin(self) -> SignInStep:
        """Start the flow; the runtime opens a port here and GitHub is not asked yet.

        Returns
        -------
        SignInStep
            To be shown.

        Raises
        ------
        BadInputError
            The runtime does not take the host.
        SetupError
            This runtime has no such flow, or failed.
        """
        from copilot.rpc import AuthLoginBeginRequest, AuthLoginStepKind, LoginProviderKind

        kind = LoginProviderKind.GITHUB_DOT_COM
        if self.host != GITHUB:
            kind = LoginProviderKind.PROXIMA
        async with self._closed_on_failure():
            session = await _ask(
                self._client.create_session(
                    session_id=self._session_id,
                    client_name="copilot-jupyter",
                    available_tools=[],
                    skip_custom_instructions=True,
                ),
                self.host,
            )
            self._session = session
            begun = await _ask(
                session.rpc.accounts.login.begin(AuthLoginBeginRequest(kind)), self.host
            )
            self._flow, step = begun.flow_id, begun.step
            if step.kind is AuthLoginStepKind.INPUT_REQUIRED:
                step = await self._advance(self.host)
            if step.kind is not AuthLoginStepKind.OPEN_URL or not step.url:
                raise _unforeseen(step)
        return SignInStep(step.url, self.host, _returns_to(step.url))

    async def finish(self) -> Account | None:
        """Wait until the person has answered in the browser.

        Returns
        -------
        Account or None
            None: GitHub agreed, but this machine has no keychain, and only `allow_file`
            goes on from here.

        Raises
        ------
        SetupError
            The person or GitHub refused, the host cannot be reached, the runtime gave up.
        """
        async with self._closed_on_failure():
            return await self._outcome(await self._advance())

    async def allow_file(self, *, yes: bool) -> Account | None:
        """Answer whether the token may be kept readable in the runtime's ``config.json``.

        Parameters
        ----------
        yes : bool
            Without it the runtime forgets the sign-in.

        Returns
        -------
        Account or None
            None after a no.

        Raises
        ------
        SetupError
            The runtime failed.
        """
        async with self._closed_on_failure():
            return await self._outcome(await self._advance("allow" if yes else "deny"))

    async def close(self) -> None:
        """Cancel the flow if it is not over and delete its session; safe to call twice."""
        session, self._session = self._session, None
        if session is None:
            return
        from copilot.rpc import AuthLoginCancelRequest

        flow, self._flow = self._flow, ""
        calls: list[Awaitable[Any]] = []
        if flow:
            calls.append(session.rpc.accounts.login.cancel(AuthLoginCancelRequest(flow)))
        # Deleting it alive makes the SDK trip over its own shutdown event.
        calls += [session.disconnect(), self._client.delete_session(self._session_id)]
        for call in calls:
            try:
                await asyncio.wait_for(_ask(call, self.host), _CLEAN_UP)
            except (CopilotError, TimeoutError) as error:
                logger.debug("cleaning up after a sign-in: %s", error)

    async def _advance(self, answer: str | None = None) -> AuthLoginStep:
        from copilot.rpc import AuthLoginAdvanceRequest, AuthLoginStepKind

        if self._session is None:
            raise SetupError("This sign-in is over.", "Run %copilot_login again.")
        login = self._session.rpc.accounts.login
        request = AuthLoginAdvanceRequest(self._flow, input=answer)
        step = await _ask(login.advance(request), self.host)
        while step.kind is AuthLoginStepKind.AWAITING:
            request = AuthLoginAdvanceRequest(self._flow)
            step = await _ask(login.advance(request), self.host)
        return step

    async def _outcome(self, step: AuthLoginStep) -> Account | None:
        from copilot.rpc import AuthLoginResultStatus, AuthLoginStepKind

        if step.kind is AuthLoginStepKind.ERROR:
            raise _explain(step.message or "", self.host)
        if step.kind is not AuthLoginStepKind.COMPLETED or step.result is None:
            raise _unforeseen(step)
        status = step.result.status
        if status is AuthLoginResultStatus.COMPLETED:
            self._flow = ""
            return await _signed_in(self._client, step.result.host or self.host)
        if status is AuthLoginResultStatus.DECLINED:
            self._flow = ""
            return None
        if status is AuthLoginResultStatus.NEEDS_PLAINTEXT_CONSENT:
            return None
        raise _unforeseen(step)

    @contextlib.asynccontextmanager
    async def _closed_on_failure(self) -> AsyncIterator[None]:
        whole = False
        try:
            yield
            whole = True
        finally:
            if not whole:  # an error, or a cancelled wait: the runtime must not wait on
                await self.close()


async def logout(
    client: CopilotClient, home: Path, *, login: str = "", host: str = ""
) -> SignedOut | None:
    """Sign out; the token stays valid at GitHub until it is revoked there.

    Parameters
    ----------
    client : CopilotClient
        Connected.
    home : Path
        The runtime's state folder, which holds its ``config.json``.
    login : str
        Whom; the one in use by default.
    host : str
        Where, as `check_host` takes it; needed if the login exists at several.

    Returns
    -------
    SignedOut or None
        None when nobody was signed in.

    Raises
    ------
    BadInputError
        Nobody of that name is signed in, or that account was not signed in here (an
        environment variable, the GitHub CLI).
    SetupError
        The keychain or ``config.json`` did not let go of the token.
    """
    from copilot.rpc import AccountLogoutRequest, UserAuthInfo

    known = await _known(client)
    if not known and not login:
        return None
    account, selection = _whom(known, login, check_host(host) if host else "")
    request = AccountLogoutRequest(selection_id=selection)
    if selection is None:
        request = AccountLogoutRequest(UserAuthInfo(host=account.host, login=account.login))
    try:
        await _ask(client.rpc.account.logout(request), account.host)
    except _KeychainError as error:
        if not error.missing:
            raise SetupError(
                f"{account.login} is still signed in: the keychain did not let go of the token.",
                "Unlock it and run %copilot_logout again.",
            ) from None
        # Runtime 1.0.102 gives up here and leaves the token in its file (1.0.85 does not).
        await asyncio.to_thread(_forget, home / "config.json", account)
    left = await accounts(client)
    still = any((a.login, a.host, a.how) == (account.login, account.host, SIGNED_IN) for a in left)
    others = tuple(a for a in left if (a.login, a.host) != (account.login, account.host))
    return SignedOut(account, others, restart=still)


# --- Who is there --------------------------------------------------------------------------


async def _known(client: CopilotClient) -> list[tuple[Account, str | None]]:
    """Return the accounts, each with the id under which the runtime takes a choice."""
    # Not getCurrentAuth: the SDK cannot parse its answer where GH_TOKEN is set.
    status = await _ask(client.get_auth_status(), "")
    # Each entry carries its token, so that nothing but what is named here leaves this function.
    entries = await _ask(client.rpc.account.get_all_users(), "")
    found: list[tuple[Account, str | None]] = []
    for entry in entries:
        info = entry.get("authInfo") or {}
        host, login, kind = info.get("host", ""), info.get("login") or "", info.get("type", "")
        active = status.isAuthenticated and (kind, host, login) == (
            status.authType,
            status.host,
            status.login or "",
        )
        how = _how(kind, info.get("envVar", ""))
        found.append((Account(login, host, how, active, kept=True), entry.get("selectionId")))
    if status.isAuthenticated and not any(account.active for account, _ in found):
        how = _how(status.authType or "", "")
        kept = how != SIGNED_IN  # a variable is there next time too; a memory is not
        found.append((Account(status.login or "", status.host or GITHUB, how, True, kept), None))
    return sorted(found, key=lambda pair: not pair[0].active)


def _how(kind: str, variable: str) -> str:
    if kind in {"user", "account"}:
        return SIGNED_IN
    if kind == "env":
        return f"environment variable {variable}".rstrip()
    return {"gh-cli": "GitHub CLI"}.get(kind, kind or "unknown")


async def _signed_in(client: CopilotClient, host: str) -> Account:
    known = await accounts(client)
    here = [a for a in known if a.how == SIGNED_IN and a.host == host]
    if here:
        return here[0]
    raise SetupError(
        f"The runtime took the sign-in to {host}, but does not show it.", "Run %copilot_doctor."
    )


def _whom(
    known: list[tuple[Account, str | None]], login: str, host: str
) -> tuple[Account, str | None]:
    fits = [
        pair
        for pair in known
        if (not login or pair[0].login.lower() == login.lower())
        and (not host or pair[0].host == host)
    ]
    if not fits:
        names = ", ".join(f"{a.login} at {a.host} ({a.how})" for a, _ in known)
        raise BadInputError(
            f"{login or 'Nobody'}{f' at {host}' if host else ''} is "
            f"{'not ' if login else ''}signed in.",
            f"Signed in: {names or 'nobody'}.",
        )
    ours = [pair for pair in fits if pair[0].how == SIGNED_IN]
    if ours:
        return ours[0]
    account = fits[0][0]
    if account.how == "GitHub CLI":
        raise BadInputError(f"{account.login} comes from the GitHub CLI.", "Run `gh auth logout`.")
    raise BadInputError(
        f"{account.login or 'The account'} was not signed in here: it comes from the "
        f"{account.how}.",
        "Unset it and restart the kernel.",
    )


# --- The runtime's file ---------------------------------------------------------------------


def _forget(path: Path, account: Account) -> None:
    """Take an account and its token out of the runtime's ``config.json``."""
    by_hand = SetupError(
        f"The token of {account.login} may still be in {path}: the file could not be changed.",
        f"Delete its entries under authTokens, or revoke the token at {account.host}.",
    )
    path = path.resolve()
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError):
        raise by_hand from None
    comments = "".join(line for line in lines if line.lstrip().startswith("//"))
    try:
        data = json.loads("".join(line for line in lines if not line.lstrip().startswith("//")))
        _drop(data, account)
    except (ValueError, TypeError, AttributeError):
        raise by_hand from None
    text = f"{comments}{json.dumps(data, indent=2, ensure_ascii=False)}\n"
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".config.")  # readable by us only
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError:
        raise by_hand from None


def _drop(data: dict[str, Any], account: Account) -> None:
    who = {"host": account.host, "login": account.login}
    key = f"{account.host}:{account.login}"
    tokens = data.get("authTokens", {})
    for name in [n for n in tokens if n == key or n.startswith(f"{key}:")]:
        del tokens[name]
    users = data.get("loggedInUsers", [])
    users[:] = [u for u in users if {"host": u.get("host"), "login": u.get("login")} != who]
    last = data.get("lastLoggedInUser", {})
    if {"host": last.get("host"), "login": last.get("login")} == who:
        del data["lastLoggedInUser"]


# --- Asking the runtime ---------------------------------------------------------------------


class _KeychainError(SetupError):
    """The runtime could not use the keychain; `missing` if there is none."""

    missing = False


async def _ask(call: Awaitable[T], host: str, token: Token | None = None) -> T:
    """Await an answer of the runtime; a failure becomes an error of ours.

    It is raised outside of the handlers: an error with the SDK's frames behind it would
    carry the request, and a debugger or a verbose traceback would show the token in it.
    """
    from copilot._jsonrpc import JsonRpcError, ProcessExitedError

    failure: BaseException
    try:
        return await call
    except asyncio.CancelledError:
        failure = asyncio.CancelledError()
    except JsonRpcError as error:
        failure = _explain(error.message, host, token, code=error.code)
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
def _unlogged() -> Iterator[None]:
    """Keep the SDK from logging a failed sign-in: a host may send the token back in it."""
    sdk = logging.getLogger("copilot._jsonrpc")

    def unless_login(record: logging.LogRecord) -> bool:
        return getattr(record, "method", "") != "account.login"

    sdk.addFilter(unless_login)
    try:
        yield
    finally:
        sdk.removeFilter(unless_login)


def _explain(message: str, host: str, token: Token | None = None, *, code: int = 0) -> CopilotError:
    """Return our error for what the runtime said."""
    said = message.partition("failed with message: ")[2] or message
    if code == _METHOD_NOT_FOUND:
        return SetupError(
            "This Copilot runtime is too old to sign in through a browser.",
            "Use `%copilot_login --token`, or fetch a newer one with `copilot-jupyter setup`.",
        )
    if "Keychain error" in said:
        error = _KeychainError("The keychain could not be used.", "Unlock it and try again.")
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


def _bad_host() -> BadInputError:
    # Without what was typed: a token typed after --host must not come back in an output.
    return BadInputError(
        "That is not a host that can be signed in to.",
        "Write it like github.com or your-company.ghe.com.",
    )


def _unforeseen(step: AuthLoginStep) -> CopilotError:
    return SetupError(
        f"The runtime's sign-in asks for something a notebook cannot do ({step.kind.value}).",
        "Use `%copilot_login --token`, or run `copilot login` in a terminal.",
    )


def _returns_to(url: str) -> str:
    back = parse_qs(urlsplit(url).query).get("redirect_uri", [""])[0]
    return urlsplit(back).netloc
