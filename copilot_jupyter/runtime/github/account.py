"""Who the runtime asks GitHub as: reading it, signing in with a token, signing out.

There are two ways in. `login_with_token` takes a token and works anywhere;
`browser_sign_in` needs a browser where the kernel runs. The runtime has no flow with a
code to type on another device (none over JSON-RPC in 1.0.102).

The runtime keeps the credential: in the system's keychain, else in its own
``config.json`` where the person allowed that, else in its memory until it ends. Here a
token exists as a `Token`, whose value no repr, pickle, error or log shows.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from copilot_jupyter.errors import BadInputError, SetupError

from .config_file import forget
from .credentials import GITHUB, check_host
from .refusals import KeychainError, ask, unlogged

if TYPE_CHECKING:
    from pathlib import Path

    from copilot import CopilotClient

    from .credentials import Token

#: What `Account.how` says of an account that was signed in through the runtime.
SIGNED_IN = "sign-in"


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
    with unlogged():
        await ask(
            client.rpc.account.login(AccountLoginRequest(host=host, token=token.reveal())),
            host,
            token,
        )
    return await signed_in_at(client, host)


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
        await ask(client.rpc.account.logout(request), account.host)
    except KeychainError as error:
        if not error.missing:
            raise SetupError(
                f"{account.login} is still signed in: the keychain did not let go of the token.",
                "Unlock it and run %copilot_logout again.",
            ) from None
        # Runtime 1.0.102 gives up here and leaves the token in its file (1.0.85 does not).
        await asyncio.to_thread(forget, home / "config.json", account)
    left = await accounts(client)
    still = any((a.login, a.host, a.how) == (account.login, account.host, SIGNED_IN) for a in left)
    others = tuple(a for a in left if (a.login, a.host) != (account.login, account.host))
    return SignedOut(account, others, restart=still)


async def _known(client: CopilotClient) -> list[tuple[Account, str | None]]:
    """Return the accounts, each with the id under which the runtime takes a choice."""
    # Not getCurrentAuth: the SDK cannot parse its answer where GH_TOKEN is set.
    status = await ask(client.get_auth_status(), "")
    # Each entry carries its token, so that nothing but what is named here leaves this function.
    entries = await ask(client.rpc.account.get_all_users(), "")
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


async def signed_in_at(client: CopilotClient, host: str) -> Account:
    """Return who has just been signed in at a host.

    Raises
    ------
    SetupError
        If the runtime shows nobody there.
    """
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
