"""The session picker: one searchable list of all conversations, as an ipywidget.

The list is drawn by ``picker.js``; what it needs is read on threads, and sent from the
kernel's own loop. Titles and prompts travel as messages, never as the widget's state, and
the page shows them as text and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget  # noqa: TID253 -- this module is the widget, and is imported to show it
import traitlets

from copilot_jupyter.errors import BadInputError, CopilotError
from copilot_jupyter.notebook.picker.wire import preview, shown, to_wire
from copilot_jupyter.notebook.worker import Worker
from copilot_jupyter.state.catalog import Catalog
from copilot_jupyter.state.ids import check_id
from copilot_jupyter.state.metadata import BRANCH_OF
from copilot_jupyter.state.workspace import rename

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from copilot_jupyter.conversation.sessions import Sessions
    from copilot_jupyter.notebook.desk import Desk
    from copilot_jupyter.state.catalog import CatalogRow

logger = logging.getLogger(__name__)

#: Sessions sent at once before all others, and rows in one message.
FIRST, BATCH = 60, 1000
#: Seconds in which nothing is read while those are sent: threads share one interpreter.
FIRST_ALONE = 0.1
#: Rows that are looked up for who uses them: more than a screen has.
VISIBLE = 80
#: Seconds that the runtime gets to delete one session.
DELETION = 30.0

_HERE = Path(__file__).parent
_THREAD = "copilot-jupyter-picker"


class SessionPicker(anywidget.AnyWidget):
    """A searchable list of sessions; a widget like any other, to use beside one's own.

    Choosing sets `value`, which can be observed. Sessions marked for deletion are deleted
    when a choice is made or the picker is left by Esc, and can be taken back until then.

    ::

        picker = SessionPicker()
        picker.observe(lambda change: print(change.new), "value")
        picker

    Parameters
    ----------
    sessions : Sessions or callable, optional
        Whose sessions it shows, or what returns them at first use; by default those of the
        loaded extension.
    delete : callable, optional
        Deletes the session of an id in so many seconds, as `Sessions.delete` does; by default
        the notebook of the loaded extension is unbound, if it was its own.

    Attributes
    ----------
    value : str or None
        The id that was chosen last. One that does not exist yet is a new session's.
    query : str
        What is searched for; may be set.
    busy : bool
        Whether sessions are still being read; those read already can be searched.
    count : int
        How many sessions there are, as far as they are read.
    takes_focus : bool
        Whether its search field takes the keyboard as soon as it is drawn.
    looks : bool
        Whether it shows the sessions as soon as it is drawn, those of the working directory
        first; otherwise `look` says when, and for which notebook.

    Raises
    ------
    BadInputError
        If there are no sessions to show: the extension is not loaded.
    """

    _esm = _HERE / "picker.js"
    _css = _HERE / "picker.css"

    value = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    query = traitlets.Unicode("").tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    count = traitlets.Int(0).tag(sync=True)
    takes_focus = traitlets.Bool(False).tag(sync=True)
    looks = traitlets.Bool(True)

    def __init__(
        self,
        sessions: Sessions | Callable[[], Sessions] | None = None,
        *,
        delete: Callable[[str, float], object] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if sessions is None:
            desk = _loaded_desk()
            sessions, delete = desk.sessions, delete or desk.delete
        self._sessions = sessions if callable(sessions) else lambda: sessions
        self._delete = delete or self._delete_only
        self.is_ready = False
        self.is_done = False
        self.deleted: list[str] = []
        """Ids of the sessions that were deleted."""
        self.problems: list[str] = []
        """What could not be deleted, and why."""
        self._rows: dict[str, CatalogRow] = {}
        self._here: dict[str, str] = {}
        self._marked: list[str] = []
        self._wanted: dict[str, Any] = {}
        self._greeted: set[str] = set()
        self._is_closing = self._has_all = False
        self._lock = threading.Lock()
        self._reader, self._looker, self._doer = (Worker(_THREAD) for _ in range(3))
        self._context = contextvars.copy_context()
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
        self._hooks: dict[str, Callable[[dict[str, Any]], None]] = {
            "ready": self._on_ready,
            "visible": lambda m: self._look("live", [str(i) for i in m["ids"]][:VISIBLE]),
            "preview": lambda m: self._look("preview", str(m["id"])),
            "choose": lambda m: self._do(self._choose, str(m["id"])),
            "new": lambda m: self._do(self._new, str(m["id"])),
            "fork": lambda m: self._do(self._fork, str(m["id"]), str(m["to"])),
            "rename": lambda m: self._do(self._rename, str(m["id"]), str(m["name"])),
            "delete": lambda m: self._do(self._mark, str(m["id"])),
            "undo": lambda m: self._do(self._unmark, str(m.get("id") or "")),
            "cancel": lambda _: self._do(self._finish, None),
            "reload": lambda _: self._read(),
        }
        self.on_msg(self._received)

    # -- for Python ------------------------------------------------------------------------

    @cached_property
    def sessions(self) -> Sessions:
        """The sessions it shows."""
        return self._sessions()

    @cached_property
    def _catalog(self) -> Catalog:
        return Catalog(self.sessions.store)

    def look(self, *, notebook: Path | None, folder: str) -> None:
        """Read the sessions and show them; this notebook's and this folder's come first.

        Parameters
        ----------
        notebook : Path or None
        folder : str
        """
        self._here = {"notebook": str(notebook or ""), "folder": folder}
        self._here["new"] = self.sessions.new_id(notebook)
        if self.is_ready:
            self._send_hello()
        self._read()

    def close(self) -> None:
        """Take the picker away; what is only marked for deletion stays."""
        self._is_closing = True
        for worker in (self._reader, self._looker, self._doer):
            worker.close()
        super().close()

    # -- messages --------------------------------------------------------------------------

    def _received(self, _widget: object, content: Any, _buffers: object) -> None:
        """Answer a message of the page; it comes on the kernel's thread, so nothing waits here."""
        hook = self._hooks.get(str(content.get("op"))) if isinstance(content, dict) else None
        if hook is None or self._is_closing:
            return
        try:
            hook(content)
        except (KeyError, TypeError, AttributeError):
            logger.debug("a message that the picker does not know: %s", content.get("op"))

    def _on_ready(self, message: dict[str, Any]) -> None:
        """Answer a view that may not have heard us yet: it says so until it has."""
        view = str(message["view"])
        self.is_ready = True
        if self.looks and not self._here:
            self.look(notebook=None, folder=str(Path.cwd()))
        if self._here and view not in self._greeted:
            self._send_hello()
        else:
            self._later({"op": "ack", **self._here})
        self._greeted.add(view)  # where nothing is known yet, `look` tells all views

    def _send_hello(self) -> None:
        """Say where we are, and everything that is known: a second view begins like the first."""
        self._later({"op": "ack", **self._here})
        with self._lock:
            rows = list(self._rows.values())
        self._send_rows(rows)
        if self._has_all:
            self._later({"op": "progress", "done": len(rows), "total": len(rows), "all": True})
        self._later({"op": "marked", "ids": list(self._marked)})

    def _later(self, message: dict[str, Any], **traits: Any) -> None:
        """Send from the kernel's own loop: ipywidgets holds no lock of its own."""

        def send() -> None:
            if self.comm is None:  # closed meanwhile
                return
            for name, value in traits.items():
                setattr(self, name, value)
            if message:
                self.send(message)

        if self._loop is None:
            send()
            return
        with contextlib.suppress(RuntimeError):  # the kernel ends
            self._loop.call_soon_threadsafe(send, context=self._context)

    def _say(self, text: str, *, good: bool = False) -> None:
        self._later({"op": "said", "text": shown(text), "good": good})

    # -- reading ---------------------------------------------------------------------------

    def _read(self) -> None:
        self._later({}, busy=True)
        self._reader.do(self._read_all)

    def _read_all(self) -> None:
        try:
            first = self._catalog.first(FIRST, notebook=self._here.get("notebook", ""))
            self._add(first)
            time.sleep(FIRST_ALONE)
            if not self._is_closing:
                rows = self._catalog.refresh(self._report, lambda: self._is_closing)
                self._keep_only(rows)
        except CopilotError as error:
            self._later({"op": "failed", "what": error.what, "do": error.do}, busy=False)

    def _report(self, done: int, total: int, rows: list[CatalogRow]) -> None:
        self._add(rows)
        self._later({"op": "progress", "done": done, "total": total}, count=total)

    def _keep_only(self, rows: list[CatalogRow]) -> None:
        """Note that all is read; what is gone since an earlier reading goes from the list."""
        if self._is_closing:
            return
        with self._lock:
            gone = list(self._rows.keys() - {row.id for row in rows})
            for session in gone:
                del self._rows[session]
            total = len(self._rows)
            self._has_all = True
        if gone:
            self._later({"op": "removed", "ids": gone})
        done = {"op": "progress", "done": total, "total": total, "all": True}
        self._later(done, busy=False, count=total)

    def _add(self, rows: list[CatalogRow]) -> None:
        with self._lock:
            new = [row for row in rows if self._rows.get(row.id) != row]
            self._rows.update((row.id, row) for row in new)
        self._send_rows(new)

    def _send_rows(self, rows: list[CatalogRow]) -> None:
        if not self.is_ready:  # all of them go out when it is
            return
        for start in range(0, len(rows), BATCH):
            self._later({"op": "rows", "rows": [to_wire(r) for r in rows[start : start + BATCH]]})

    def _look(self, kind: str, wanted: Any) -> None:
        """Look something up; of several questions that wait only the last is answered."""
        self._wanted[kind] = wanted
        self._looker.do(lambda: self._looked(kind))

    def _looked(self, kind: str) -> None:
        wanted = self._wanted.pop(kind, None)
        if wanted is None:
            return
        if kind == "preview":
            self._later({"op": "preview", "id": wanted, **preview(self.sessions, wanted)})
            return
        who: dict[str, str] = {}
        for session in wanted:
            if self._is_closing:
                return
            with contextlib.suppress(CopilotError, OSError):
                who[session] = shown(self.sessions.in_use_elsewhere(session), 120)
        self._later({"op": "live", "who": who})

    # -- doing -----------------------------------------------------------------------------

    def _do(self, work: Callable[..., None], *arguments: Any) -> None:
        self._doer.do(lambda: self._done(work, *arguments))

    def _done(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except CopilotError as error:
            self._say(str(error))
        except OSError as error:
            self._say(f"That could not be done: {error.strerror or error}.")

    def _choose(self, session: str) -> None:
        store = self.sessions.store
        self._refuse_marked(session)
        if not store.exists(check_id(session)):
            self._drop([session])
            raise store.not_found(session)
        self._finish(session)

    def _new(self, session: str) -> None:
        if self.sessions.store.taken(check_id(session)):
            raise self.sessions.store.exists_error(session)
        self._finish(session)

    def _fork(self, session: str, target: str) -> None:
        self._refuse_marked(session)
        check_id(target)
        self.sessions.store.fork(session, target, metadata={BRANCH_OF: session})
        self._finish(target)

    def _rename(self, session: str, name: str) -> None:
        self._refuse_used(session, "renamed")
        store = self.sessions.store
        if any(holder.pid == self.sessions.runtime.pid for holder in store.holders(session)):
            # Ours: let go, or the runtime writes the old name again. The next turn resumes it.
            self.sessions.loop.call(self.sessions.release(), timeout=10)
        title = rename(store, session, name)
        self._reader.do(lambda: self._read_one(session))
        self._say(f"{session} is named “{title}” now.", good=True)

    def _read_one(self, session: str) -> None:
        row = self._catalog.row(session)
        self._catalog.save()
        if row is not None:
            self._add([row])

    def _mark(self, session: str) -> None:
        if not self.sessions.store.exists(check_id(session)):
            self._drop([session])
            raise self.sessions.store.not_found(session)
        self._refuse_used(session, "deleted")
        if session not in self._marked:
            self._marked.append(session)
        self._later({"op": "marked", "ids": list(self._marked)})

    def _unmark(self, session: str) -> None:
        if session in self._marked:
            self._marked.remove(session)
        elif not session and self._marked:
            self._marked.pop()
        self._later({"op": "marked", "ids": list(self._marked)})

    def _refuse_marked(self, session: str) -> None:
        if session in self._marked:
            raise BadInputError(f"{session} is marked for deletion.", "Take that back first.")

    def _refuse_used(self, session: str, done: str) -> None:
        if who := self.sessions.in_use_elsewhere(session):
            raise BadInputError(
                f"{session} is in use by {who} and was not {done}.", "Close it there first."
            )

    def _drop(self, sessions: Iterable[str]) -> None:
        gone = list(sessions)
        with self._lock:
            for session in gone:
                self._rows.pop(session, None)
        self._later({"op": "removed", "ids": gone})

    def _delete_only(self, session: str, timeout: float) -> None:
        self.sessions.loop.call(self.sessions.delete(session), timeout)

    def _finish(self, chosen: str | None) -> None:
        """Delete what is marked, then let the choice be known."""
        marked, self._marked = self._marked, []
        if marked:
            self._later({"op": "deleting", "ids": marked})
        for session in marked:
            try:
                self._delete(session, DELETION)
            except CopilotError as error:
                self.problems.append(str(error))
            except TimeoutError:
                self.problems.append(f"{session} was not deleted: the runtime did not answer.")
            else:
                self.deleted.append(session)
        if marked:
            gone = list(self.deleted)
            self._reader.do(lambda: self._catalog.forget(gone))
            self._drop(gone)
            self._later({"op": "marked", "ids": []})
        self._later({"op": "chosen", "id": chosen or ""}, value=chosen)
        self._later({}, is_done=True)


def _loaded_desk() -> Desk:
    from IPython import get_ipython

    from copilot_jupyter.notebook.extension import current_desk

    desk = current_desk(get_ipython())
    if desk is None:
        raise BadInputError(
            "The picker has no sessions to show.", "Run %load_ext copilot_jupyter first."
        )
    return desk
