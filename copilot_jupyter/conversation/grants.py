"""What the agent may do unasked: standing answers, by session and notebook.

They lie in one file of ours for this user alone, never in a session, a bundle or a
notebook: what carries a conversation to another place, or into a branch, carries no
permission with it.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from copilot_jupyter.errors import StateFolderError
from copilot_jupyter.state.files import private_folder, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

#: Tools whose permission ends with the kernel: after a restart the variables are others.
UNTIL_RESTART = frozenset({"run_python"})

_Key = tuple[str, str]
_Answers = dict[_Key, dict[str, bool]]

#: What holds until this kernel ends, by file: the magics and the turns look at the same.
_IN_THIS_KERNEL: defaultdict[Path, _Answers] = defaultdict(dict)


@dataclass(frozen=True)
class Wish:
    """What a tool wants to do.

    Parameters
    ----------
    tool : str
        Its name: "run_python", "shell".
    detail : str
        What a person judges: the code, the command, the path. May be long, and hostile.
    summary : str
        One line about it in our words, never the model's; "" for the first line of `detail`.
    language : str
        Of `detail`, as Pygments names it; "" for none.
    """

    tool: str
    detail: str
    summary: str = ""
    language: str = ""


class Decision(enum.Enum):
    """What became of a wish."""

    ONCE = "allowed once"
    #: By the person just now, by a standing answer, or by ``Copilot.allow``.
    SESSION = "allowed for this session"
    DENIED = "denied"
    UNANSWERED = "denied: nobody answered"
    NOBODY = "denied: nobody is here to answer"

    @property
    def allows(self) -> bool:
        """Whether it may be done."""
        return self in (Decision.ONCE, Decision.SESSION)


class Grants:
    """The standing answers of one state folder.

    Parameters
    ----------
    folder : Path
        Where our own files are kept: `Store.ours`.

    Notes
    -----
    Some are kept in the memory of this process alone: that `UNTIL_RESTART` tools are
    allowed; answers in a notebook without an identity, which could not be told from
    another; and those given before there is a session, which hold for any that follows.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "grants.json"
        self._memory = _IN_THIS_KERNEL[self.path]

    def allowed(self, session: str, notebook_id: str, tool: str) -> bool | None:
        """Return the standing answer for a tool, None where there is none."""
        return self.of(session, notebook_id).get(tool)

    def of(self, session: str, notebook_id: str) -> dict[str, bool]:
        """Return all standing answers of a session in a notebook, by tool."""
        key = (session, notebook_id)
        stored = self._read().get(key, {}) if all(key) else {}
        return {**self._memory.get(("", ""), {}), **stored, **self._memory.get(key, {})}

    def adopt(self, session: str, notebook_id: str) -> None:
        """Give the answers that came before there was a session to the first one, alone."""
        if session and (early := self._memory.pop(("", ""), None)):
            self._memory[session, notebook_id] = early | self._memory.get(
                (session, notebook_id), {}
            )

    def allow(self, session: str, notebook_id: str, *tools: str) -> None:
        """Let tools be used unasked.

        Raises
        ------
        StateFolderError
            If that cannot be written; it holds until the kernel ends all the same.
        """
        self._answer((session, notebook_id), dict.fromkeys(tools, True))

    def deny(self, session: str, notebook_id: str, *tools: str) -> None:
        """Refuse tools unasked; this is kept over a restart for every tool.

        Raises
        ------
        StateFolderError
            As `allow` does.
        """
        self._answer((session, notebook_id), dict.fromkeys(tools, False))

    def forget(self, session: str, notebook_id: str, *tools: str) -> None:
        """Ask for tools again, for all of them if none is named.

        Raises
        ------
        StateFolderError
            If the file cannot be written; what it holds is still in force then.
        """
        key = (session, notebook_id)
        for known in (key, ("", "")):
            _drop(self._memory, known, tools or tuple(self._memory.get(known, ())))
        if all(key) and self._read().get(key):
            self._change(lambda answers: _drop(answers, key, tools or tuple(answers.get(key, ()))))

    def forget_session(self, session: str) -> None:
        """Forget all answers of a session that is deleted: its id may be used again.

        Raises
        ------
        StateFolderError
            As `forget` does.
        """

        def forget(answers: _Answers) -> None:
            for key in [key for key in answers if key[0] == session]:
                del answers[key]

        forget(self._memory)
        if any(key[0] == session for key in self._read()):
            self._change(forget)

    # -- memory and file -------------------------------------------------------------------

    def _answer(self, key: _Key, given: dict[str, bool]) -> None:
        memory = self._memory.setdefault(key, {})
        memory.update(given)
        if not all(key):
            return
        brief = {tool for tool, allowed in given.items() if allowed and tool in UNTIL_RESTART}
        lasting = {tool: allowed for tool, allowed in given.items() if tool not in brief}
        # An earlier no to what is allowed until the restart goes: it would be back after it.
        outdated = brief & self._read().get(key, {}).keys()

        def change(answers: _Answers) -> None:
            _drop(answers, key, outdated)
            answers.setdefault(key, {}).update(lasting)

        if lasting or outdated:
            self._change(change)
        for tool in lasting:  # from now on the file tells, for all kernels alike
            del memory[tool]

    def _read(self) -> _Answers:
        """Return what the file says; nothing where it is damaged or may be another's work."""
        found: defaultdict[_Key, dict[str, bool]] = defaultdict(dict)
        try:
            with self.path.open("rb") as file:
                entries = json.load(file)["grants"] if _is_private(file.fileno()) else []
            for entry in entries:
                session, notebook, tool, allowed = (
                    entry[name] for name in ("session", "notebook", "tool", "allowed")
                )
                if type(allowed) is bool and all(
                    type(text) is str and text for text in (session, notebook, tool)
                ):
                    found[session, notebook][tool] = allowed
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return {}
        return dict(found)

    def _change(self, change: Callable[[_Answers], object]) -> None:
        """Change the file; two kernels do so one after the other."""
        try:
            private_folder(self.path.parent)
            with FileLock(f"{self.path}.mutex", timeout=10, mode=0o600):
                answers = self._read()
                change(answers)
                write_whole(self.path, json.dumps(_entries(answers), indent=1).encode())
        except OSError as error:  # filelock's own timeout is one too
            raise StateFolderError(
                f"The permissions in {self.path} cannot be changed: {error.strerror or error}.",
                "What was allowed or denied just now holds until this kernel ends.",
            ) from error


def _drop(answers: _Answers, key: _Key, tools: Iterable[str]) -> None:
    for tool in tools:
        answers.get(key, {}).pop(tool, None)


def _entries(answers: _Answers) -> dict[str, Any]:
    return {
        "grants": [
            {"session": session, "notebook": notebook, "tool": tool, "allowed": allowed}
            for (session, notebook), tools in answers.items()
            for tool, allowed in tools.items()
        ]
    }


def _is_private(descriptor: int) -> bool:
    """Whether nobody else may have written an open file; not told on Windows."""
    with contextlib.suppress(AttributeError):
        about = os.fstat(descriptor)
        return about.st_uid == os.geteuid() and not about.st_mode & 0o022
    return True
