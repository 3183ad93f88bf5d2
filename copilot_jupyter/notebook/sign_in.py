"""Signing in and out from a notebook: what is said, what is asked, in which order.

Plain lines of text, no IPython. The token is asked for with the hidden prompt of
`getpass`, which ipykernel sends to the page, and is a `Token` from there on.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import warnings
from typing import TYPE_CHECKING

from copilot_jupyter.errors import BadInputError
from copilot_jupyter.interrupts import told_in_one_line
from copilot_jupyter.runtime.github.account import SIGNED_IN, login_with_token
from copilot_jupyter.runtime.github.account import logout as sign_out
from copilot_jupyter.runtime.github.browser_sign_in import BrowserSignIn
from copilot_jupyter.runtime.github.credentials import GITHUB, WHAT_IS_TAKEN, Token, check_host

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from copilot_jupyter.conversation.sessions import Sessions
    from copilot_jupyter.runtime.github.account import Account, SignedOut
    from copilot_jupyter.runtime.github.browser_sign_in import SignInStep

#: Shorter ones are typing errors: GitHub's own have 40 characters and more.
SHORTEST_TOKEN = 20

#: What says that the kernel runs on another computer than the browser.
REMOTE_SIGNS = (
    "JUPYTERHUB_API_URL",
    "BINDER_SERVICE_HOST",
    "COLAB_RELEASE_TAG",
    "CODESPACES",
    "KUBERNETES_SERVICE_HOST",
    "SSH_CONNECTION",
)

_NOBODY = (
    "Nobody can type a token here: this front end takes no input.",
    "Set COPILOT_GITHUB_TOKEN before the kernel starts, or sign in from a notebook "
    "that is open in a browser.",
)


def login(
    sessions: Sessions,
    host: str,
    *,
    token: bool,
    can_ask: bool,
    show: Callable[[Sequence[str]], Callable[[], None]],
) -> list[str]:
    """Sign in to GitHub, through the browser or with a token typed hidden.

    Parameters
    ----------
    sessions : Sessions
    host : str
        As `check_host` takes it; empty for github.com.
    token : bool
        Ask for a token.
    can_ask : bool
        Whether somebody is there to answer.
    show : callable
        Shows lines at once and returns what takes them away again: the address of a
        sign-in is not for the saved notebook.

    Returns
    -------
    list of str
        What to show at the end.

    Raises
    ------
    BadInputError, SetupError
    """
    where = check_host(host)
    if not can_ask:
        raise BadInputError(*_NOBODY)
    call = sessions.loop.call
    if token:
        # Looked up now: ipykernel puts its own getpass in this place while a cell runs.
        with told_in_one_line():
            typed = ask_token(getpass.getpass, where)
        client = call(sessions.runtime.client(signs_in=True))
        account: Account | None = call(login_with_token(client, typed, where))
    else:
        account = _through_browser(sessions, where, show)
    call(sessions.release())
    return signed_in_lines(account)


def logout(sessions: Sessions) -> list[str]:
    """Sign out of GitHub and return what to show.

    Parameters
    ----------
    sessions : Sessions

    Raises
    ------
    SetupError
    """
    call = sessions.loop.call
    client = call(sessions.runtime.client(signs_in=True))
    result = call(sign_out(client, sessions.store.home))
    if result is not None:
        call(sessions.release())
        if result.restart:
            call(sessions.runtime.close())
    return signed_out_lines(result)


def _through_browser(
    sessions: Sessions, host: str, show: Callable[[Sequence[str]], Callable[[], None]]
) -> Account | None:
    call = sessions.loop.call
    flow = BrowserSignIn(call(sessions.runtime.client(signs_in=True)), host)
    try:
        take_away = show(login_lines(call(flow.begin()), remote=is_remote(os.environ)))
        try:
            with told_in_one_line():
                account = call(flow.finish())
        finally:
            take_away()
        if account is None:
            *lines, question = file_question(sessions.store.home / "config.json")
            show(lines)
            with told_in_one_line():
                agreed = input(question).strip().lower() in ("y", "yes")
            account = call(flow.allow_file(yes=agreed))
        return account
    finally:
        call(flow.close())


def is_remote(environment: Mapping[str, str]) -> bool:
    """Whether the kernel looks as if it ran on another computer than the browser.

    Parameters
    ----------
    environment : mapping
        Such as ``os.environ``.

    Returns
    -------
    bool
    """
    return any(environment.get(name) for name in REMOTE_SIGNS)


def login_lines(step: SignInStep, *, remote: bool = False) -> list[str]:
    """Return what is shown while the browser is waited for.

    Parameters
    ----------
    step : SignInStep
    remote : bool
        As `is_remote` says.

    Returns
    -------
    list of str
        With the address on a line of its own.
    """
    elsewhere = (
        "This kernel seems to run on another computer than your browser: then the last step "
        "cannot come back here."
        if remote
        else "Does the kernel run on another computer than your browser?"
    )
    back = f" GitHub sends it back to {step.returns_to} there." if step.returns_to else ""
    return [
        f"To sign in to {step.host}, open this address in a browser on the computer that "
        f"runs this kernel.{back}",
        step.url,
        f"{elsewhere} Stop this cell and run `%copilot_login --token`.",
        "Waiting for the browser; the stop button gives up.",
    ]


def ask_token(ask: Callable[[str], str] = getpass.getpass, host: str = GITHUB) -> Token:
    """Ask for a token with a hidden prompt.

    Parameters
    ----------
    ask : callable
        Shows a prompt and returns what was typed; never echoes.
    host : str
        Named in the prompt.

    Returns
    -------
    Token

    Raises
    ------
    BadInputError
        Nobody can answer, nothing was typed, or it is no token Copilot takes. What was
        typed is not in the message.
    """
    typed: str | None = None
    with warnings.catch_warnings():
        # Without a terminal getpass would warn and then read with echo.
        warnings.simplefilter("error", getpass.GetPassWarning)
        # ipykernel's StdinNotImplementedError is a NotImplementedError.
        with contextlib.suppress(NotImplementedError, EOFError, getpass.GetPassWarning):
            typed = ask(f"Token for {host} (hidden): ")
    if typed is None:
        raise BadInputError(*_NOBODY)
    token = Token(typed.strip())
    problem = _wrong_with(token.reveal())
    del typed  # no frame of the error below shows it
    if problem:
        raise BadInputError(problem, WHAT_IS_TAKEN)
    return token


def _wrong_with(text: str) -> str:
    if not text:
        return "No token was typed; nothing was changed."
    if any(c.isspace() or not c.isprintable() for c in text) or not text.isascii():
        return "What was typed is no token: it has spaces or other signs in it."
    if text.startswith("ghp_"):
        return "Classic personal access tokens (ghp_...) cannot be used for Copilot."
    if len(text) < SHORTEST_TOKEN:
        return "What was typed is too short for a token."
    return ""


def file_question(config: Path) -> list[str]:
    """Return the question that is asked where the machine has no keychain.

    Parameters
    ----------
    config : Path
        The runtime's ``config.json``.

    Returns
    -------
    list of str
        The last line asks for yes or no.
    """
    return [
        "GitHub agreed, but this machine has no keychain to keep the sign-in in.",
        f"It can be kept as plain text in {config}, a file that only your account here can read.",
        "Keep it there? [y/N] ",
    ]


def signed_in_lines(account: Account | None) -> list[str]:
    """Return what is shown after signing in.

    Parameters
    ----------
    account : Account or None
        As the sign-in returned it; None: the file was refused, and nothing was kept.

    Returns
    -------
    list of str
    """
    if account is None:
        return [
            "Not signed in: nothing was kept.",
            "`%copilot_login --token` signs in until the kernel restarts and writes no token.",
        ]
    lines = [f"Signed in to {account.host} as {account.login}."]
    if not account.kept:
        lines.append(
            "This machine has no keychain, so it lasts until the Copilot runtime ends, with this "
            "kernel at the latest. docs/sign-in.md says how to keep it."
        )
    if not account.active:
        lines.append(
            "Another account comes first, from the environment or the GitHub CLI; "
            "%copilot_status names it."
        )
    return lines


def signed_out_lines(result: SignedOut | None) -> list[str]:
    """Return what is shown after signing out.

    Parameters
    ----------
    result : SignedOut or None
        As `logout` returned it.

    Returns
    -------
    list of str
    """
    if result is None:
        return ["Nobody is signed in."]
    account = result.account
    lines = [
        f"Signed {account.login} out of {account.host}. "
        "The token stays valid at GitHub until you revoke it there."
    ]
    lines += [
        f"Still there: {other.login} at {other.host}"
        + ("." if other.how == SIGNED_IN else f", from the {other.how}.")
        for other in result.others
    ]
    return lines
