"""Checks of everything a conversation rests on, each with what to do about it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from copilot_jupyter.errors import CopilotError
from copilot_jupyter.runtime.locate import find_runtime
from copilot_jupyter.runtime.provider import WAYS_ON, resolve
from copilot_jupyter.runtime.shared import servers

from . import mend
from .lock import SessionLock, lock_file
from .transcript import dangling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .sessions import Sessions

#: Bytes of free disk below which a turn may not fit.
_LITTLE = 50 * 1024 * 1024


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Parameters
    ----------
    name : str
    ok : bool
    found : str
        What was found, in one line.
    do : str
        What to do, "" where nothing is wrong.
    """

    name: str
    ok: bool
    found: str
    do: str = ""


def checks(sessions: Sessions, session_id: str = "", *, fix: bool = False) -> Iterator[Check]:
    """Yield what was checked, one after the other.

    Parameters
    ----------
    sessions : Sessions
    session_id : str
        The session to look into, "" for none.
    fix : bool
        Repair what can be repaired.
    """
    yield _guarded("runtime", _runtime)
    if sessions.settings.runtime == "shared":
        yield _guarded("shared", lambda: _shared(sessions))
    yield _guarded("state folder", lambda: _state_folder(sessions))
    yield _guarded("disk", lambda: _disk(sessions))
    yield _guarded("provider", lambda: _provider(sessions))
    if session_id:
        yield _guarded("session", lambda: _session(sessions, session_id))
        yield _guarded("lock", lambda: _lock(sessions, session_id))
        if sessions.store.exists(session_id):
            yield _guarded("transcript", lambda: _transcript(sessions, session_id, fix=fix))


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except CopilotError as error:
        return Check(name, ok=False, found=error.what, do=error.do)


def _runtime() -> Check:
    program = find_runtime()
    if program is None:
        return Check(
            "runtime",
            ok=False,
            found="no Copilot runtime on this machine",
            do="Run `copilot-jupyter setup`, or set COPILOT_CLI_PATH.",
        )
    return Check("runtime", ok=True, found=str(program))


def _shared(sessions: Sessions) -> Check:
    running = [f"pid {server.pid}" for server in servers(sessions.store)]
    own = sessions.runtime.pid if sessions.runtime.is_shared else 0
    used = f"; this kernel uses pid {own}" if own else ""
    found = f"{', '.join(running)}{used}" if running else "none runs; the next prompt starts one"
    return Check("shared", ok=True, found=found)


def _state_folder(sessions: Sessions) -> Check:
    sessions.store.check_usable()
    count = len(sessions.store.ids())
    return Check("state folder", ok=True, found=f"{sessions.store.home} ({count} sessions)")


def _disk(sessions: Sessions) -> Check:
    folder = sessions.store.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e6:,.0f} MB free"
    if free < _LITTLE:
        return Check("disk", ok=False, found=found, do="Free some space: a turn may not fit.")
    return Check("disk", ok=True, found=found)


def _provider(sessions: Sessions) -> Check:
    settings = sessions.settings
    provider = resolve(settings.provider, settings.model, os.environ)
    if provider.kind == "local":
        return Check("provider", ok=True, found="the embedded model")
    if provider.kind == "github":
        who = sessions.loop.call(sessions.runtime.signed_in())
        if not who:
            return Check("provider", ok=False, found="GitHub: nobody is signed in", do=WAYS_ON)
        return Check("provider", ok=True, found=f"GitHub, signed in as {who}")
    names = sessions.loop.call(sessions.runtime.models(provider))
    url = provider.config["base_url"]
    if provider.model and names and provider.model not in names:
        return Check(
            "provider",
            ok=False,
            found=f"{url} has no model {provider.model}",
            do=f"It offers {', '.join(names[:8])}: set Copilot.model or COPILOT_MODEL.",
        )
    return Check("provider", ok=True, found=f"{url}, {len(names)} models")


def _session(sessions: Sessions, session_id: str) -> Check:
    info = sessions.store.info(session_id)
    turns = sessions.turns(session_id)
    return Check("session", ok=True, found=f"{info.id}, {len(turns)} turns, {info.size:,} bytes")


def _lock(sessions: Sessions, session_id: str) -> Check:
    lock = SessionLock(lock_file(sessions.store.ours, session_id))
    owner = lock.owner()
    if who := sessions.in_use_elsewhere(session_id):
        return Check(
            "lock",
            ok=False,
            found=f"in use by {who}",
            do=f"Close it there, or %copilot_resume {session_id} --fork | --take-over.",
        )
    if owner is not None and not lock.alive(owner):
        return Check("lock", ok=True, found=f"left behind by {owner}; taken at the next turn")
    return Check("lock", ok=True, found="free" if owner is None else "held by this kernel")


def _transcript(sessions: Sessions, session_id: str, *, fix: bool) -> Check:
    store = sessions.store
    journal = store.journal(session_id)
    wrong = []
    if journal.bad_lines:
        wrong.append(f"{len(journal.bad_lines)} lines cannot be read")
    if not journal.has_start:
        wrong.append("the first event is missing")
    if store.has_unreadable_workspace(session_id):
        wrong.append("workspace.yaml cannot be read")
    if wrong and fix:
        done = mend.journal(store, session_id)
        return Check("transcript", ok=True, found=f"repaired: {'; '.join(done)}")
    if wrong:
        return Check(
            "transcript", ok=False, found="; ".join(wrong), do="%copilot_doctor --fix repairs it."
        )
    if dangling(journal.events) is not None:
        return Check(
            "transcript", ok=True, found="an unanswered prompt is taken out at the next turn"
        )
    return Check("transcript", ok=True, found=f"{len(journal.events)} events, whole")
