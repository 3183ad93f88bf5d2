"""Sign in to GitHub through the browser: the runtime's own flow.

GitHub's page sends the browser back to a port on this machine, so the browser has to run
where the kernel runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from copilot_jupyter.errors import CopilotError, SetupError
from copilot_jupyter.state.workspace import CLIENT_NAME

from .account import signed_in_at
from .credentials import GITHUB, check_host
from .refusals import ask, explain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from copilot import CopilotClient, CopilotSession
    from copilot.rpc import AuthLoginStep

    from .account import Account

logger = logging.getLogger(__name__)

#: Seconds that cancelling a sign-in at the runtime may take.
_CLEAN_UP = 3.0


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
            session = await ask(
                self._client.create_session(
                    session_id=self._session_id,
                    client_name=CLIENT_NAME,
                    available_tools=[],
                    skip_custom_instructions=True,
                ),
                self.host,
            )
            self._session = session
            begun = await ask(
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
                await asyncio.wait_for(ask(call, self.host), _CLEAN_UP)
            except (CopilotError, TimeoutError) as error:
                logger.debug("cleaning up after a sign-in: %s", error)

    async def _advance(self, answer: str | None = None) -> AuthLoginStep:
        from copilot.rpc import AuthLoginAdvanceRequest, AuthLoginStepKind

        if self._session is None:
            raise SetupError("This sign-in is over.", "Run %copilot_login again.")
        login = self._session.rpc.accounts.login
        request = AuthLoginAdvanceRequest(self._flow, input=answer)
        step = await ask(login.advance(request), self.host)
        while step.kind is AuthLoginStepKind.AWAITING:
            request = AuthLoginAdvanceRequest(self._flow)
            step = await ask(login.advance(request), self.host)
        return step

    async def _outcome(self, step: AuthLoginStep) -> Account | None:
        from copilot.rpc import AuthLoginResultStatus, AuthLoginStepKind

        if step.kind is AuthLoginStepKind.ERROR:
            raise explain(step.message or "", self.host)
        if step.kind is not AuthLoginStepKind.COMPLETED or step.result is None:
            raise _unforeseen(step)
        status = step.result.status
        if status is AuthLoginResultStatus.COMPLETED:
            self._flow = ""
            return await signed_in_at(self._client, step.result.host or self.host)
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


def _unforeseen(step: AuthLoginStep) -> CopilotError:
    return SetupError(
        f"The runtime's sign-in asks for something a notebook cannot do ({step.kind.value}).",
        "Use `%copilot_login --token`, or run `copilot login` in a terminal.",
    )


def _returns_to(url: str) -> str:
    back = parse_qs(urlsplit(url).query).get("redirect_uri", [""])[0]
    return urlsplit(back).netloc
