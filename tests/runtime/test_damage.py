"""Damaged files, full disks and read-only folders: what can be read is kept and gone on with."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_model import ScriptedModel

from copilot_jupyter.conversation import mend
from copilot_jupyter.conversation.sessions import Sessions
from copilot_jupyter.conversation.terms import Terms
from copilot_jupyter.errors import (
    CopilotError,
    SessionDamagedError,
    SessionError,
    SessionInUseError,
    SessionNotFoundError,
    StateFolderError,
)
from copilot_jupyter.events import Notice, TurnEvent
from copilot_jupyter.settings import Copilot
from copilot_jupyter.state.store import Store

ID = "damaged"
PROMPTS = ["first", "second", "third"]
ANSWERS = ["one", "two", "three"]
SOON = 30.0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, runtime_program: str) -> Path:
    """The folder of a session of three turns, as the runtime left it."""
    home = tmp_path_factory.mktemp("whole")
    with ScriptedModel() as model, pytest.MonkeyPatch.context() as patch:
        patch.setenv("COPILOT_CLI_PATH", runtime_program)
        sessions = Sessions(Copilot(provider=model.base_url, model="scripted"), Store(home))
        conversation = sessions.conversation(ID, Terms(folder="/tmp", create=True))
        model.will(*ANSWERS)
        for prompt in PROMPTS:
            sessions.loop.call(conversation.ask(prompt), SOON)
        sessions.close()
    return home / "session-state" / ID


class Damaged:
    """A copy of that session, to be damaged and then gone on with."""

    def __init__(self, folder: Path, sessions: Sessions, model: ScriptedModel) -> None:
        self.folder = folder
        self.journal = folder / "events.jsonl"
        self.lines = self.journal.read_bytes().splitlines(keepends=True)
        self.sessions = sessions
        self.model = model
        self.notices: list[str] = []

    def line(self, kind: str, turn: int) -> int:
        """The position of a turn's event of this kind, the turns counted from 0."""
        found = [n for n, line in enumerate(self.lines) if json.loads(line)["type"] == kind]
        return found[turn]

    def write(self, lines: list[bytes]) -> bytes:
        content = b"".join(lines)
        self.journal.write_bytes(content)
        return content

    def ask(self, prompt: str = "after", **terms: Any) -> None:
        def emit(event: TurnEvent) -> None:
            if isinstance(event, Notice):
                self.notices.append(event.text)

        conversation = self.sessions.conversation(ID, Terms(folder="/tmp", **terms))
        self.sessions.loop.call(conversation.ask(prompt, emit=emit), SOON)

    def goes_on(self, prompts: list[str], answers: list[str]) -> None:
        """Check that the model gets these turns, now and after another resume."""
        self.ask("after")
        request = self.model.requests[-1]
        assert request.prompts == [*prompts, "after"]
        assert request.answers == answers
        assert len(self.model.requests) == 1
        said = len(self.notices)
        self.sessions.loop.call(self.sessions.release())
        self.ask("at last")
        assert self.model.requests[-1].prompts == [*prompts, "after", "at last"]
        assert len(self.notices) == said  # it was repaired, once
        turns = self.sessions.turns(ID)
        assert [turn.prompt for turn in turns] == [*prompts, "after", "at last"]

    def kept_beside(self, content: bytes) -> bool:
        """Whether the damaged transcript is kept as it was."""
        return any(
            path.read_bytes() == content
            for path in self.folder.glob("events.jsonl*")
            if path != self.journal
        )


@pytest.fixture
def damaged(sessions: Sessions, model: ScriptedModel, home: Path, whole: Path) -> Damaged:
    folder = home / "session-state" / ID
    folder.parent.mkdir(parents=True)
    shutil.copytree(whole, folder)
    return Damaged(folder, sessions, model)


def test_undamaged(damaged: Damaged) -> None:
    damaged.goes_on(PROMPTS, ANSWERS)
    assert damaged.notices == []


# --- Lines that cannot be read ------------------------------------------------------------

Lines = list[bytes]


def torn_last_line(lines: Lines) -> Lines:
    return [*lines[:-1], lines[-1][: len(lines[-1]) // 2]]


def garbage_in_the_middle(lines: Lines) -> Lines:
    return [*lines[:4], b"\xff\xfe garbage {\n", *lines[4:]]


def two_lines_run_together(lines: Lines) -> Lines:
    return [*lines, lines[-1].rstrip(b"\n") + lines[-1]]


def nuls_at_the_end(lines: Lines) -> Lines:
    return [*lines, b"\x00" * 4096]


def nuls_in_the_middle(lines: Lines) -> Lines:
    return [*lines[:4], b"\x00" * 512 + b"\n", *lines[4:]]


def merge_conflict(lines: Lines) -> Lines:
    return [
        *lines[:-1],
        b"<<<<<<< HEAD\n",
        lines[-1],
        b"=======\n",
        b">>>>>>> a colleague's branch\n",
    ]


def json_that_is_no_event(lines: Lines) -> Lines:
    return [*lines[:4], b"[1, 2]\n", b"null\n", b'"text"\n', b"12\n", *lines[4:]]


@pytest.mark.parametrize(
    "damage",
    [
        torn_last_line,
        garbage_in_the_middle,
        two_lines_run_together,
        nuls_at_the_end,
        nuls_in_the_middle,
        merge_conflict,
        json_that_is_no_event,
    ],
    ids=lambda damage: damage.__name__,
)
def test_lines_that_cannot_be_read(damaged: Damaged, damage: Callable[[Lines], Lines]) -> None:
    content = damaged.write(damage(damaged.lines))
    damaged.goes_on(PROMPTS, ANSWERS)
    (notice,) = damaged.notices
    assert f"The transcript of {ID} was damaged (line " in notice
    assert "the damaged file is kept beside it" in notice
    assert damaged.kept_beside(content)


def blank_lines(lines: Lines) -> Lines:
    return [b"\n", *lines[:3], b"\n  \n\n", *lines[3:], b"\n\n"]


def no_newline_at_the_end(lines: Lines) -> Lines:
    return [*lines[:-1], lines[-1].rstrip(b"\n")]


def windows_line_ends(lines: Lines) -> Lines:
    return [line.rstrip(b"\n") + b"\r\n" for line in lines]


def an_event_of_the_future(lines: Lines) -> Lines:
    event = {**json.loads(lines[-1]), "type": "assistant.dreamt", "id": "0" * 8}
    return [*lines, json.dumps(event).encode() + b"\n"]


@pytest.mark.parametrize(
    "change",
    [blank_lines, no_newline_at_the_end, windows_line_ends, an_event_of_the_future],
    ids=lambda change: change.__name__,
)
def test_lines_that_do_no_harm(damaged: Damaged, change: Callable[[Lines], Lines]) -> None:
    damaged.write(change(damaged.lines))
    damaged.goes_on(PROMPTS, ANSWERS)
    assert damaged.notices == []


def test_a_torn_answer(damaged: Damaged) -> None:
    # The power failed while the last answer was written: its prompt is taken out again.
    position = damaged.line("assistant.message", 2)
    torn = damaged.lines[position]
    damaged.write([*damaged.lines[:position], torn[: len(torn) // 2]])
    damaged.goes_on(PROMPTS[:2], ANSWERS[:2])
    assert any("was damaged (line" in notice for notice in damaged.notices)
    assert any("was taken out: third" in notice for notice in damaged.notices)


def test_an_answer_lost_in_the_middle(damaged: Damaged) -> None:
    # What was asked later is whole and stays; nothing is cut for it.
    lines = list(damaged.lines)
    lines[damaged.line("assistant.message", 1)] = b"garbage\n"
    damaged.write(lines)
    damaged.goes_on(PROMPTS, [ANSWERS[0], ANSWERS[2]])


# --- The first line -----------------------------------------------------------------------


def gone(lines: Lines) -> Lines:
    return lines[1:]


def garbage(lines: Lines) -> Lines:
    return [b"garbage\n", *lines[1:]]


def torn(lines: Lines) -> Lines:
    return [lines[0][:40] + b"\n", *lines[1:]]


@pytest.mark.parametrize("damage", [gone, garbage, torn], ids=lambda damage: damage.__name__)
def test_the_first_line(damaged: Damaged, damage: Callable[[Lines], Lines]) -> None:
    content = damaged.write(damage(damaged.lines))
    with pytest.raises(SessionDamagedError) as error:
        damaged.ask()
    assert ID in error.value.what
    assert error.value.do == "%copilot_doctor --fix repairs what can be repaired."
    assert damaged.model.requests == []
    assert damaged.journal.read_bytes() == content  # not touched unasked
    assert [turn.prompt for turn in damaged.sessions.turns(ID)] == PROMPTS  # and readable

    done = mend.journal(damaged.sessions.store, ID)
    assert "the missing first event was written anew" in done
    assert damaged.kept_beside(content)
    damaged.goes_on(PROMPTS, ANSWERS)
    assert damaged.notices == []


def test_a_byte_order_mark(damaged: Damaged) -> None:
    # An editor on Windows puts one before the first line.
    damaged.write([b"\xef\xbb\xbf" + damaged.lines[0], *damaged.lines[1:]])
    try:
        damaged.ask("probe")
    except SessionDamagedError:
        mend.journal(damaged.sessions.store, ID)
        damaged.goes_on(PROMPTS, ANSWERS)
    else:
        assert damaged.model.requests[-1].prompts == [*PROMPTS, "probe"]


def test_the_id_of_another_session(damaged: Damaged) -> None:
    # The folder was copied by hand; its events still carry the id they were made with.
    first = json.loads(damaged.lines[0])
    first["data"]["sessionId"] = "the-original"
    content = damaged.write([json.dumps(first).encode() + b"\n", *damaged.lines[1:]])
    workspace = damaged.folder / "workspace.yaml"
    workspace.write_text(workspace.read_text().replace(f"id: {ID}", "id: the-original"))
    damaged.goes_on(PROMPTS, ANSWERS)
    assert damaged.notices == [f"The transcript of {ID} named another session; it was put right."]
    assert damaged.kept_beside(content)


def test_the_id_of_another_session_mended_by_the_doctor(damaged: Damaged) -> None:
    first = json.loads(damaged.lines[0])
    first["data"]["sessionId"] = "the-original"
    content = damaged.write([json.dumps(first).encode() + b"\n", *damaged.lines[1:]])
    assert mend.journal(damaged.sessions.store, ID) == ["its id was put right"]
    assert damaged.kept_beside(content)
    damaged.goes_on(PROMPTS, ANSWERS)
    assert damaged.notices == []


def test_nothing_is_mended_that_is_whole(damaged: Damaged) -> None:
    before = sorted(path.name for path in damaged.folder.iterdir())
    assert mend.journal(damaged.sessions.store, ID) == []
    assert sorted(path.name for path in damaged.folder.iterdir()) == before


def test_a_transcript_in_use_is_not_mended(damaged: Damaged) -> None:
    content = damaged.write(gone(damaged.lines))
    lock = damaged.folder / f"inuse.{os.getpid()}.lock"
    lock.write_text("")
    with pytest.raises(SessionInUseError) as error:
        mend.journal(damaged.sessions.store, ID)
    assert f"pid {os.getpid()}" in error.value.what
    assert damaged.journal.read_bytes() == content


def test_nothing_left_to_mend(damaged: Damaged) -> None:
    damaged.write([b"garbage\n" * 50])
    with pytest.raises(SessionError) as error:
        mend.journal(damaged.sessions.store, ID)
    assert f"%copilot_delete {ID}" in error.value.do
    with pytest.raises(CopilotError):
        damaged.ask()
    damaged.sessions.loop.call(damaged.sessions.delete(ID))
    assert not damaged.folder.exists()


@pytest.mark.parametrize("content", [b"", None], ids=["empty", "missing"])
def test_no_transcript_at_all(damaged: Damaged, content: bytes | None) -> None:
    if content is None:
        damaged.journal.unlink()
    else:
        damaged.journal.write_bytes(content)
    with pytest.raises(SessionNotFoundError) as error:
        damaged.ask()
    assert error.value.what == f"There is no session named {ID}."
    assert "--create" in error.value.do
    assert damaged.sessions.listed(notebook=None, folder="").others == ()
    # And --create makes it, over what is left of the folder.
    damaged.ask(create=True)
    assert damaged.model.requests[-1].prompts == ["after"]
    damaged.ask("again")
    assert damaged.model.requests[-1].prompts == ["after", "again"]


# --- The other files ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"- a\n- list\n", b"\x00" * 200, b"\xff\xfe\x00", b"id: [\n", b"cwd: /tmp\n"],
)
def test_a_workspace_file_that_cannot_be_read(damaged: Damaged, content: bytes) -> None:
    (damaged.folder / "workspace.yaml").write_bytes(content)
    damaged.goes_on(PROMPTS, ANSWERS)
    assert damaged.notices == [f"The workspace.yaml of {ID} could not be read; it was set aside."]
    kept = [path.read_bytes() for path in damaged.folder.glob("workspace.yaml.set-aside-*")]
    assert kept == [content]


def test_no_workspace_file(damaged: Damaged) -> None:
    (damaged.folder / "workspace.yaml").unlink()
    damaged.goes_on(PROMPTS, ANSWERS)
    assert damaged.notices == []


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"[]", b"\x00" * 50, b'{"version": 1, "metadata": []}', b'{"version": 99}'],
)
def test_client_metadata_that_cannot_be_read(damaged: Damaged, content: bytes) -> None:
    path = damaged.folder / "client-metadata.json"
    path.write_bytes(content)
    (info,) = damaged.sessions.listed(notebook=None, folder="")
    assert info.notebook == ""
    damaged.ask(metadata={"copilot-jupyter.notebook.path": "/a.ipynb"})
    assert damaged.model.requests[-1].prompts == [*PROMPTS, "after"]
    (info,) = damaged.sessions.listed(notebook=None, folder="")
    assert info.notebook == "/a.ipynb"
    kept = [path.read_bytes() for path in damaged.folder.glob("client-metadata.json.set-aside-*")]
    assert kept == [content]


def test_stray_files_among_the_sessions(damaged: Damaged) -> None:
    state = damaged.folder.parent
    (state / "a-file").write_text("no session")
    (state / "an-empty-folder").mkdir()
    (state / "with-a-folder").mkdir()
    (state / "with-a-folder" / "events.jsonl").mkdir()
    (state / "not an id!").mkdir()
    (state / "not an id!" / "events.jsonl").write_text("{}\n")
    (state / "dangling").symlink_to("nowhere")
    listed = [info.id for info in damaged.sessions.listed(notebook=None, folder="")]
    assert ID in listed
    assert "not an id!" not in listed
    damaged.goes_on(PROMPTS, ANSWERS)


# --- The state folder ---------------------------------------------------------------------


def test_a_state_folder_that_is_a_file(model: ScriptedModel, home: Path) -> None:
    home.write_text("no folder")
    sessions = Sessions(Copilot())
    try:
        conversation = sessions.conversation(ID, Terms(folder="/tmp", create=True))
        for act in (
            lambda: sessions.loop.call(conversation.ask("no"), SOON),
            lambda: sessions.loop.call(sessions.create(ID, "/tmp", {}), SOON),
        ):
            with pytest.raises(StateFolderError) as error:
                act()
            assert str(home) in error.value.what
            assert "COPILOT_HOME" in error.value.do
    finally:
        sessions.close()
    assert home.read_text() == "no folder"
    assert model.requests == []


def test_a_state_folder_that_does_not_exist_yet(
    model: ScriptedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "a" / "b c" / "ü" / "copilot"
    monkeypatch.setenv("COPILOT_HOME", str(deep))
    sessions = Sessions(Copilot())
    try:
        assert list(sessions.listed(notebook=None, folder="")) == []
        assert not deep.exists()  # looking makes nothing
        conversation = sessions.conversation(ID, Terms(folder="/tmp", create=True))
        sessions.loop.call(conversation.ask("first"), SOON)
        assert (deep / "session-state" / ID / "events.jsonl").exists()
        private = (deep / "session-state" / ID, deep / "copilot-jupyter")
        assert {oct(path.stat().st_mode & 0o077) for path in private} == {"0o0"}
    finally:
        sessions.close()


#: Runs in a mount namespace of its own: a small disk as state folder, nothing to clean up.
SMALL_DISK = """
import json, os, subprocess, sys
from pathlib import Path
from copilot_jupyter.conversation.terms import Terms
from copilot_jupyter.conversation.sessions import Sessions
from copilot_jupyter.errors import CopilotError
from copilot_jupyter.events import Notice
from copilot_jupyter.settings import Copilot

home = Path(os.environ["COPILOT_HOME"])
home.mkdir(parents=True)
mount = lambda *options: subprocess.run(["mount", *options, str(home)], check=True)
mount("-t", "tmpfs", "-o", "size=3m", "none")
sessions = Sessions(Copilot())
conversation = sessions.conversation("small-disk", Terms(folder="/tmp", create=True))
notices, errors = [], []
emit = lambda event: notices.append(event.text) if isinstance(event, Notice) else None

def read_only():
    # Not `remount,ro`, which open files forbid: another view of the folder on top of it.
    mount("--bind", str(home))
    mount("-o", "remount,bind,ro")

def ask(prompt):
    return sessions.loop.call(conversation.ask(prompt, emit=emit), 40).text

def fails(prompt):
    try:
        ask(prompt)
        errors.append(None)
    except CopilotError as error:
        errors.append([type(error).__name__, error.what, error.do])

def fill(free=0):
    with open(home / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
        file.truncate(file.tell() - free)

def turns():
    return [[turn.prompt, turn.complete] for turn in conversation.turns()]

out = {}
try:
    exec(sys.argv[1])
finally:
    sessions.close()
print(json.dumps({**out, "notices": notices, "errors": errors, "turns": turns()}))
"""


def on_a_small_disk(code: str) -> dict[str, Any]:
    if sys.platform != "linux":
        pytest.skip("needs a Linux mount namespace")
    root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *root, "--mount", sys.executable, "-c", SMALL_DISK, code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    if done.returncode and "unshare:" in done.stderr and not os.environ.get("CI"):
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    value: dict[str, Any] = json.loads(done.stdout)
    return value


@pytest.mark.parametrize("free", [0, 8192])
def test_a_full_disk(model: ScriptedModel, free: int) -> None:
    said = on_a_small_disk(
        f"""
ask("first")
fill({free})
for _ in range(3):
    fails("broken " + "x" * 9000)
out["while full"] = turns()
(home / "filler").unlink()
ask("after")
sessions.loop.call(conversation.release())
ask("at last")
"""
    )
    assert None not in said["errors"]
    for kind, what, do in said["errors"]:
        assert kind in ("NotSavedError", "StateFolderError")
        assert "No space left" in what
        assert do.startswith("Free some")
    assert said["while full"][0] == ["first", True]
    assert said["turns"] == [[prompt, True] for prompt in ["first", "after", "at last"]]
    assert model.requests[-1].prompts == ["first", "after", "at last"]
    assert len(model.requests[-1].answers) == 2


def test_a_full_disk_with_room_for_a_little(model: ScriptedModel) -> None:
    # In the last page of a file there may be room for a turn: it is whole then, or it fails.
    said = on_a_small_disk(
        """
import time
ask("first")
fill()
began = time.monotonic()
for _ in range(3):
    fails("little")
out["seconds"] = time.monotonic() - began
(home / "filler").unlink()
ask("after")
sessions.loop.call(conversation.release())
ask("at last")
"""
    )
    assert said["seconds"] < 30
    kept = ["first", *["little"] * said["errors"].count(None), "after", "at last"]
    assert said["turns"] == [[prompt, True] for prompt in kept]
    assert model.requests[-1].prompts == kept


def test_a_disk_that_fills_while_the_answer_comes(model: ScriptedModel) -> None:
    # The script's process fills its own disk: the model only gives it the time to.
    from scripted_model import Reply

    model.will("one", Reply("a slow answer " * 800, chunk=250, pause=0.02))
    said = on_a_small_disk(
        """
ask("first")
import threading
threading.Timer(0.3, fill).start()
fails("broken")
(home / "filler").unlink()
ask("after")
sessions.loop.call(conversation.release())
ask("at last")
"""
    )
    (error,) = said["errors"]
    assert error is not None
    assert error[0] == "NotSavedError"
    assert error[2] == "Free some disk space and run the cell again."
    assert said["turns"] == [[prompt, True] for prompt in ["first", "after", "at last"]]
    assert model.requests[-1].prompts == ["first", "after", "at last"]


def test_a_folder_that_becomes_read_only(model: ScriptedModel) -> None:
    said = on_a_small_disk(
        """
ask("first")
read_only()
fails("broken")
out["while"] = turns()
subprocess.run(["umount", str(home)], check=True)
ask("after")
sessions.loop.call(conversation.release())
ask("at last")
"""
    )
    (error,) = said["errors"]
    assert error is not None
    assert error[0] in ("NotSavedError", "StateFolderError")
    assert said["while"][0] == ["first", True]
    assert said["turns"] == [[prompt, True] for prompt in ["first", "after", "at last"]]
    assert model.requests[-1].prompts == ["first", "after", "at last"]


def test_a_folder_that_is_read_only(model: ScriptedModel) -> None:
    said = on_a_small_disk(
        """
ask("first")
sessions.close()
read_only()
sessions = Sessions(Copilot())
conversation = sessions.conversation("small-disk", Terms(folder="/tmp"))
out["read"] = turns()
out["listed"] = [info.id for info in sessions.listed(notebook=None, folder="")]
fails("no")
"""
    )
    assert said["read"] == [["first", True]]  # reading goes on
    assert said["listed"] == ["small-disk"]
    ((kind, what, do),) = said["errors"]
    assert kind == "StateFolderError"
    assert "Read-only file system" in what
    assert "COPILOT_HOME" in do
    assert len(model.requests) == 1
