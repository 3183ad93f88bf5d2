"""One writer: who may take the lock of a session, and from whom."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from copilot_jupyter.conversation import lock as module
from copilot_jupyter.conversation.conversation import Conversation
from copilot_jupyter.conversation.lock import (
    SILENCE,
    Owner,
    SessionLock,
    process_lives,
    this_place,
)
from copilot_jupyter.conversation.terms import Terms
from copilot_jupyter.errors import NoProviderError, SessionInUseError, StateFolderError
from copilot_jupyter.runtime.process import started
from copilot_jupyter.settings import Copilot
from copilot_jupyter.state.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "locks" / "my-id.json"


@pytest.fixture
def dead_pid() -> int:
    """The pid of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write(path: Path, owner: Owner, *, age: float = 0) -> Owner:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(owner)))
    then = time.time() - age
    os.utime(path, (then, then))
    return owner


def living() -> Owner:
    """Return an owner that lives: this process, holding by another token."""
    me = psutil.Process()
    return Owner("theirs", me.pid, started(me), this_place(), socket.gethostname(), "b.ipynb")


def taken_from(path: Path, **options: Any) -> Owner | None:
    return SessionLock(path, "a.ipynb").acquire(**options)


# -- taking and giving back -------------------------------------------------------------------


def test_a_free_lock_is_taken(path):
    lock = SessionLock(path, "a.ipynb")
    assert not lock.holds()
    assert lock.acquire() is None
    assert lock.holds()
    owner = lock.owner()
    assert owner is not None
    assert (owner.pid, owner.what, owner.place) == (os.getpid(), "a.ipynb", this_place())
    assert process_lives(owner.pid, owner.started)


def test_ones_own_lock_is_taken_again_silently(path):
    lock = SessionLock(path)
    lock.acquire()
    before = path.read_bytes()
    assert lock.acquire() is None
    assert path.read_bytes() == before


def test_a_second_owner_is_refused_and_told_who_has_it(path):
    SessionLock(path, "first.ipynb").acquire()
    second = SessionLock(path, "second.ipynb")
    with pytest.raises(SessionInUseError, match=rf"in use by first.ipynb \(pid {os.getpid()}\)"):
        second.acquire()
    assert not second.holds()


def test_what_is_released_is_free(path):
    lock = SessionLock(path)
    lock.acquire()
    lock.release()
    assert not lock.holds()
    assert not path.exists()
    assert taken_from(path) is None


def test_releasing_what_is_somebody_elses_does_nothing(path):
    theirs = SessionLock(path)
    theirs.acquire()
    SessionLock(path).release()
    assert theirs.holds()


def test_releasing_what_was_never_taken_does_nothing(path):
    SessionLock(path).release()
    assert not path.exists()


def test_a_take_over_names_who_had_it_and_they_lose_it(path):
    theirs = SessionLock(path, "theirs.ipynb")
    theirs.acquire()
    mine = SessionLock(path, "mine.ipynb")
    before = mine.acquire(take_over=True)
    assert before is not None
    assert before.what == "theirs.ipynb"
    assert mine.holds()
    assert not theirs.holds()
    assert not theirs.beat()
    assert not theirs.beat(runtime_pid=5)
    assert mine.holds()
    theirs.release()
    assert mine.holds()


def test_a_lock_whose_file_vanished_is_lost(path):
    lock = SessionLock(path)
    lock.acquire()
    path.unlink()
    assert not lock.holds()
    assert not lock.beat()
    assert not path.exists()


def test_the_lock_is_nobody_elses_to_read(path):
    before = os.umask(0o022)
    try:
        SessionLock(path).acquire()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_every_missing_folder_above_it_is_private_too(tmp_path):
    before = os.umask(0o022)
    try:
        SessionLock(tmp_path / "copilot-jupyter" / "locks" / "my-id.json").acquire()
    finally:
        os.umask(before)
    assert (tmp_path / "copilot-jupyter").stat().st_mode & 0o077 == 0


def test_nothing_half_written_stays_beside_the_lock(path):
    lock = SessionLock(path)
    lock.acquire()
    lock.beat(runtime_pid=7)
    lock.release()
    assert {file.name for file in path.parent.iterdir()} <= {f"{path.name}.mutex"}


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "copilot-jupyter").write_text("a file in the way")
    lock = SessionLock(tmp_path / "copilot-jupyter" / "locks" / "my-id.json")
    with pytest.raises(StateFolderError, match="copilot-jupyter"):
        lock.acquire()


# -- the heartbeat ----------------------------------------------------------------------------


def test_a_beat_shows_that_we_live(path):
    lock = SessionLock(path)
    lock.acquire()
    os.utime(path, (1000, 1000))
    assert lock.beat()
    assert time.time() - path.stat().st_mtime < 10


def test_a_beat_says_which_runtime_is_ours(path):
    lock = SessionLock(path)
    lock.acquire()
    assert lock.beat(runtime_pid=77)
    assert lock.owner().runtime_pid == 77
    assert lock.holds()
    assert lock.beat(runtime_pid=77)


def test_a_beat_does_not_write_over_a_take_over_that_comes_in_between(path, monkeypatch):
    """It looks and writes under the same mutex as `acquire`."""
    lock = SessionLock(path)
    lock.acquire()
    look, seen = SessionLock.holds, []

    def look_while_somebody_tries(self):
        held = look(self)
        mutex = FileLock(f"{path}.mutex", thread_local=False)
        try:
            with mutex.acquire(timeout=0):
                seen.append("free")
        except TimeoutError:
            seen.append("taken")
        return held

    monkeypatch.setattr(SessionLock, "holds", look_while_somebody_tries)
    lock.beat(runtime_pid=9)
    assert seen[-1] == "taken"


# -- is the owner alive -----------------------------------------------------------------------


def test_a_living_owners_lock_is_not_taken(path):
    write(path, living(), age=10 * SILENCE)  # of a process that can be looked up, age says nothing
    with pytest.raises(SessionInUseError, match=r"b\.ipynb"):
        taken_from(path)


def test_a_dead_owners_lock_is_taken_silently(path, dead_pid):
    dead = write(path, replace(living(), pid=dead_pid))
    assert taken_from(path) == dead


def test_a_pid_that_another_process_has_by_now_is_dead(path):
    reused = write(path, replace(living(), started=living().started - 100))
    assert taken_from(path) == reused


def test_a_zombie_is_dead():
    process = subprocess.Popen([sys.executable, "-c", ""])
    since = started(psutil.Process(process.pid))
    deadline = time.monotonic() + 10
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not process_lives(process.pid, since)
    process.wait()


@pytest.mark.parametrize("place", ["another boot", ""])
def test_in_another_place_the_heartbeat_decides(path, dead_pid, place):
    """Pods reuse host names and pids, so a pid of another boot or namespace says nothing."""
    elsewhere = replace(living(), place=place, pid=dead_pid)
    write(path, elsewhere, age=SILENCE - 10)
    with pytest.raises(SessionInUseError):
        taken_from(path)
    write(path, replace(elsewhere, pid=os.getpid()), age=SILENCE + 10)
    assert taken_from(path) is not None


def test_this_place_tells_boot_and_namespace():
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert this_place() == f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def test_without_proc_the_boot_time_tells(monkeypatch):
    def no_proc(*_: Any, **__: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", no_proc)
    this_place.cache_clear()
    try:
        assert this_place().startswith(socket.gethostname())
    finally:
        this_place.cache_clear()


def test_an_owner_is_named_with_its_host_only_when_it_is_another():
    assert str(replace(living(), pid=5)) == "b.ipynb (pid 5)"
    assert str(replace(living(), pid=5, host="pod-7")) == "b.ipynb (pid 5 on pod-7)"
    assert str(replace(living(), pid=5, what="")) == "another kernel (pid 5)"


# -- a file that is not as we wrote it --------------------------------------------------------

CORRUPT = {
    "empty": b"",
    "torn": b'{"token": "x", "pi',
    "no JSON": b"\x00\xff",
    "a list": b"[]",
    "null": b"null",
    "nothing in it": b"{}",
    "deep": b"[" * 100_000,
    "a pid that is text": json.dumps(asdict(replace(living(), pid="many"))).encode(),
    "a pid that is null": json.dumps(asdict(replace(living(), pid=None))).encode(),
    "a negative pid": json.dumps(asdict(replace(living(), pid=-5))).encode(),
    "a start that is text": json.dumps(asdict(replace(living(), started="now"))).encode(),
    "a start that is null": json.dumps(asdict(replace(living(), started=None))).encode(),
}


@pytest.mark.parametrize("content", CORRUPT.values(), ids=CORRUPT)
def test_a_corrupt_lock_is_nobodys(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    lock = SessionLock(path)
    lock.acquire()
    assert lock.holds()


@given(
    st.dictionaries(
        st.sampled_from(list(asdict(living()))),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just([])),
    )
)
def test_no_content_of_a_lock_file_breaks_the_lock(tmp_path_factory, wrong):
    path = tmp_path_factory.getbasetemp() / "wrong.json"
    path.write_text(json.dumps({**asdict(living()), **wrong}))
    try:
        taken_from(path)
    except SessionInUseError as error:
        assert "in use by" in str(error)  # noqa: PT017 -- either outcome is right


def test_a_lock_of_a_newer_version_still_holds(path):
    """A field we don't know must not make a living owner look like a corrupt file."""
    path.parent.mkdir()
    path.write_text(json.dumps(asdict(living()) | {"since": "2027"}))
    with pytest.raises(SessionInUseError):
        taken_from(path)


# -- two processes ----------------------------------------------------------------------------

_RACE = """
import sys, time
from pathlib import Path
from copilot_jupyter.conversation.lock import SessionLock
from copilot_jupyter.errors import SessionInUseError
print("ready", flush=True)
start, held, won = float(sys.stdin.readline()), [], []
for number in range(40):
    lock = SessionLock(Path(sys.argv[1]) / f"{number}.json", sys.argv[2])
    while time.time() < start + number * 0.004:
        pass
    try:
        lock.acquire()
    except SessionInUseError:
        continue
    won.append(number)
print(*won, flush=True)
sys.stdin.readline()
"""


@contextmanager
def process(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def test_of_two_processes_that_reach_for_one_lock_exactly_one_gets_it(tmp_path):
    with process(_RACE, str(tmp_path), "a") as one, process(_RACE, str(tmp_path), "b") as two:
        both = (one, two)
        assert [runner.stdout.readline() for runner in both] == ["ready\n"] * 2
        begin = f"{time.time() + 0.05}\n"
        for runner in both:
            runner.stdin.write(begin)
            runner.stdin.flush()
        won = [[int(number) for number in runner.stdout.readline().split()] for runner in both]
    assert sorted(won[0] + won[1]) == list(range(40))


_HOLD = """
import sys
from pathlib import Path
from copilot_jupyter.conversation.lock import SessionLock
SessionLock(Path(sys.argv[1]), "theirs.ipynb").acquire()
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_lock_outlives_its_process_only_until_somebody_wants_it(path):
    with process(_HOLD, str(path)) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SessionInUseError, match=rf"theirs\.ipynb \(pid {holder.pid}\)"):
            taken_from(path)
        holder.kill()
        holder.wait()
        before = taken_from(path)
    assert before is not None
    assert before.pid == holder.pid


# -- a turn that could not begin --------------------------------------------------------------


class NoModel:
    """A runtime that finds nothing to talk to."""

    pid = 0
    alive = False

    @contextlib.contextmanager
    def saying_to(self, _: Any) -> Any:
        yield

    async def prepare(self, *_: Any) -> None:
        raise NoProviderError("There is no model to talk to.")


def test_a_turn_that_cannot_begin_gives_the_lock_back(home):
    """Else this kernel, and every other, would wait for a holder that holds nothing."""
    store = Store(home)
    conversation = Conversation("my-id", store, NoModel(), Copilot(), Terms(create=True))
    with pytest.raises(NoProviderError):
        asyncio.run(conversation.ask("Hello"))
    assert SessionLock(store.ours / "locks" / "my-id.json").acquire() is None


def test_the_silence_is_longer_than_several_beats():
    from copilot_jupyter.conversation.conversation import HEARTBEAT

    assert module.SILENCE > 5 * HEARTBEAT
