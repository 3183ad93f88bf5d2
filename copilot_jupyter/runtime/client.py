"""The Copilot runtime of this kernel: a child process, or one that many kernels share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import NoProviderError, SessionNotFoundError
from copilot_jupyter.events import NO_TOOLS, Offer
from copilot_jupyter.state.workspace import CLIENT_NAME

from . import shared, translate
from .calls import Calls
from .fetch import ensure_runtime
from .process import import_sdk, make_client, process_of, runs
from .provider import WAYS_ON, list_models
from .session import LiveSession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from copilot import CopilotClient

    from copilot_jupyter.events import Provider
    from copilot_jupyter.state.store import Store

    from .local_model import LocalModel

logger = logging.getLogger(__name__)

#: Whom the task that runs now says it to.
_listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)

#: What the model is told about where it is. Short: the first request stays within 1 kB.
SYSTEM_MESSAGE = (
    "You are GitHub Copilot, answering in a Jupyter notebook. "
    "Answer in Markdown, briefly; put code in fenced blocks."
)

#: Seconds that a graceful end may take before the process is killed.
_STOP = 3.0
#: Seconds that a shared runtime may take to say that it lives.
_ANSWER = 2.0


class Runtime:
    """The runtime process and the SDK client that talks to it.

    Every coroutine runs on one loop; whoever makes it closes it.

    Parameters
    ----------
    store : Store
        The state folder.
    say : callable, optional
        Called with one line when something slow is fetched.
    sharing : callable, optional
        Whether the next process is to be one that kernels share; never by default.
    scrub : callable, optional
        Takes a text that a tool of the runtime gave back, and returns it as the model may
        see it; as it is by default.
    """

    def __init__(
        self,
        store: Store,
        *,
        say: Callable[[str], None] | None = None,
        sharing: Callable[[], bool] = lambda: False,
        scrub: Callable[[str], str] = str,
    ) -> None:
        self.store = store
        self._say = say or (lambda line: logger.info("%s", line))
        self._sharing = sharing
        self._scrub = scrub
        self._client: CopilotClient | None = None
        self._seat: shared.Seat | None = None
        self._signs_in = False
        self._starting = asyncio.Lock()
        self._model_server: LocalModel | None = None

    @property
    def say(self) -> Callable[[str], None]:
        """What gets a line when something slow is fetched."""
        return _listener.get() or self._say

    @contextlib.contextmanager
    def saying_to(self, listener: Callable[[str], None]) -> Iterator[None]:
        """Say it to a turn, as long as the block runs, and to nobody beside it."""
        token = _listener.set(listener)
        try:
            yield
        finally:
            _listener.reset(token)

    # -- the process -----------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether the process runs, and is connected to this kernel."""
        if self._seat is not None:
            # The SDK has no public way to learn that its connection has ended.
            return self._seat.server.alive and getattr(self._client, "_state", "") == "connected"
        return runs(process_of(self._client))

    @property
    def pid(self) -> int:
        """The process's id, 0 if it is not running."""
        if self._seat is not None:
            return self._seat.server.pid if self.alive else 0
        process = process_of(self._client)
        return int(process.pid) if process is not None and self.alive else 0

    @property
    def is_shared(self) -> bool:
        """Whether other kernels may use the process too."""
        return self._seat is not None

    async def client(self, *, signs_in: bool = False) -> CopilotClient:
        """Return the connected SDK client, starting or restarting the process if need be.

        Parameters
        ----------
        signs_in : bool
            Whether GitHub's stored sign-in is to be used; off for a provider of one's own.

        Raises
        ------
        RuntimeMissingError
            If there is no runtime and none can be fetched.
        CopilotError
            If it does not start.
        """
        async with self._starting:
            fits = self._signs_in >= signs_in and self.is_shared == self._sharing()
            if self._client is not None and self.alive and fits:
                return self._client
            await self._end()
            self.store.check_usable()
            program, _ = await asyncio.gather(
                asyncio.to_thread(ensure_runtime, self.say), asyncio.to_thread(import_sdk)
            )
            self._signs_in = signs_in
            try:
                if self._sharing():
                    joined = await shared.connect(self.store, program, signs_in=signs_in)
                    self._client, self._seat = joined
                else:
                    self._client = make_client(program, self.store.home, signs_in=signs_in)
                    await self._client.start()
            except BaseException as error:  # cancelled too: no process may be left behind
                await asyncio.shield(self._end())
                if isinstance(error, Exception):
                    raise translate.from_sdk(error) from error
                raise
            return self._client

    async def close(self) -> None:
        """End the process and the model server."""
        async with self._starting:
            await self._end()
            if self._model_server is not None:
                await asyncio.to_thread(self._model_server.close)
                self._model_server = None

    async def kill(self) -> None:
        """End a process that does not answer; the next use starts another."""
        async with self._starting:
            if self._seat is not None and not await self._answers():
                self._seat.server.kill()  # it hangs for the other kernels too
            elif process := process_of(self._client):
                process.kill()
            await self._end()

    async def _answers(self) -> bool:
        """Whether the runtime still answers anything."""
        try:
            async with asyncio.timeout(_ANSWER):
                return self._client is not None and bool(await self._client.ping())
        except Exception:  # noqa: BLE001 -- whatever the SDK raises, it is no answer
            return False

    async def _end(self) -> None:
        client, self._client = self._client, None
        seat, self._seat = self._seat, None
        if client is None:
            return
        process = process_of(client)
        try:
            # Only we leave the shared one, which closes what we have open there; the SDK's stop
            # would wait a second for its own reader (measured).
            ending = client.stop() if seat is None else client.force_stop()
            await asyncio.wait_for(ending, _STOP)
        except Exception as error:  # noqa: BLE001 -- an ExceptionGroup, a timeout, anything
            logger.debug("stopping the runtime: %s", error)
            with contextlib.suppress(Exception):
                await client.force_stop()
        finally:
            if process is not None:  # the SDK leaves its pipes open
                for pipe in (process.stdin, process.stdout, process.stderr):
                    pipe.close()
            if seat is not None:
                seat.leave()

    # -- providers -------------------------------------------------------------------------

    async def prepare(self, provider: Provider, local_model: str = "") -> Provider:
        """Complete a provider: start the embedded model, choose the only model there is.

        Parameters
        ----------
        provider : Provider
            As `provider.resolve` returned it.
        local_model : str
            A GGUF file to serve; the small default one if empty.

        Raises
        ------
        SetupError, ProviderError
        """
        if provider.kind == "local":
            server = await asyncio.to_thread(self._serve, local_model)
            config = {"type": "openai", "base_url": server.base_url, "api_key": server.api_key}
            return replace(
                provider,
                model=provider.model or server.name,
                config=config,
                system_message=server.system_prompt,
            )
        if provider.kind == "byok" and not provider.model:
            names = await list_models(provider)
            if len(names) != 1:
                known = ", ".join(names[:8]) or "none"
                raise NoProviderError(
                    f"The provider at {provider.config['base_url']} has these models: {known}.",
                    "Choose one: %config Copilot.model = '...', or set COPILOT_MODEL.",
                )
            return replace(provider, model=names[0])
        return provider

    async def models(self, provider: Provider) -> list[str]:
        """Return the names of the models a provider offers.

        Raises
        ------
        ProviderError, NoProviderError
        """
        if provider.kind != "github":
            return await list_models(provider)
        client = await self.client(signs_in=True)
        with translate.sdk_errors():
            return [model.id for model in await client.list_models()]

    async def signed_in(self) -> str:
        """Return who is signed in to GitHub, "" if nobody is."""
        client = await self.client(signs_in=True)
        with translate.sdk_errors():
            status = await client.get_auth_status()
        return (status.login or "somebody") if status.isAuthenticated else ""

    def reaches(self, provider: Provider) -> bool:
        """Whether a session that was opened with this provider can still be asked."""
        if provider.kind != "local":
            return self.alive
        return self.alive and self._model_server is not None and self._model_server.running

    def _serve(self, path: str) -> LocalModel:
        from copilot_jupyter.runtime.local_model import LocalModel

        if self._model_server is None:
            self._model_server = LocalModel(Path(path) if path else None)
        self._model_server.start(self.say)
        return self._model_server

    # -- sessions --------------------------------------------------------------------------

    async def open(
        self,
        session_id: str,
        provider: Provider,
        folder: str,
        *,
        offer: Offer = NO_TOOLS,
        create: bool = False,
    ) -> LiveSession:
        """Resume a session, or create it.

        Parameters
        ----------
        session_id : str
        provider : Provider
            As `prepare` returned it.
        folder : str
            The working directory.
        offer : Offer, optional
            The tools that the model may use; none by default.
        create : bool
            Make it if it does not exist. It is always resumed first: creating over an
            existing id would append a second conversation to the first.

        Raises
        ------
        SessionNotFoundError
            If it does not exist and `create` is false.
        CopilotError
        """
        github = provider.kind == "github"
        if github and not await self.signed_in():
            raise NoProviderError("There is no model to talk to: nobody is signed in.", WAYS_ON)
        client = await self.client(signs_in=github)
        if create and not self.store.taken(session_id):
            self.store.trash.make_room(session_id)
        if self.is_shared:
            await self._free(client, session_id)
        calls = Calls(partial(self._begun_calls, session_id), self._scrub)
        options = _options(provider, folder) | calls.options(offer)
        try:
            raw = await self._resume(client, session_id, options)
        except SessionNotFoundError:
            if not create:
                raise
            with translate.sdk_errors(session_id):
                raw = await client.create_session(
                    session_id=session_id, name=_title(session_id), **options
                )
        return LiveSession(self, raw, provider, calls)

    def _begun_calls(self, session_id: str, since: int) -> list[str]:
        """Return the ids of the tool calls in the transcript after it had `since` bytes."""
        if not self.store.exists(session_id):  # written with its first turn
            return []
        return [
            str(event["data"].get("toolCallId"))
            for event in self.store.added(session_id, since)
            if event["type"] == "tool.execution_start"
        ]

    async def _free(self, client: CopilotClient, session_id: str) -> None:
        """Close a session that another kernel still has open in the shared runtime.

        Our own lock says whose it is; the runtime would refuse our tools, because their names
        are taken, or call those of a kernel that is gone, and wait for ever (measured).
        """
        from copilot.rpc import SessionsCloseRequest

        with translate.sdk_errors(session_id):
            await client.rpc.sessions.close(SessionsCloseRequest(session_id=session_id))

    async def _resume(self, client: CopilotClient, session_id: str, options: dict[str, Any]) -> Any:
        try:
            return await client.resume_session(session_id, **options)
        except Exception as error:
            if translate.is_not_found(error):
                raise self.store.not_found(session_id) from None
            raise translate.from_sdk(error, session_id) from error

    async def delete(self, session_id: str) -> None:
        """Delete a session and all its data for good.

        Raises
        ------
        SessionNotFoundError, CopilotError
        """
        if not self.store.exists(session_id):
            raise self.store.not_found(session_id)
        client = await self.client()
        with translate.sdk_errors(session_id):
            await client.delete_session(session_id)
        self.store.discard(session_id)


def _options(provider: Provider, folder: str) -> dict[str, Any]:
    """Return what every create and resume must pass: none of it is persisted."""
    options: dict[str, Any] = {
        "client_name": CLIENT_NAME,
        "working_directory": folder,
        "streaming": True,
        "system_message": {"mode": "replace", "content": provider.system_message or SYSTEM_MESSAGE},
        "skip_custom_instructions": True,
    }
    if provider.config:
        options["provider"] = provider.config
    if provider.model:
        options["model"] = provider.model
    return options


def _title(session_id: str) -> str:
    """Return a name for a new session: named ones persist before their first turn."""
    return session_id[:100]
