"""Who starts the runtime that kernels share, who may use it, and what ends it.

The runtime here is a stand-in that says a port and stays; the keeper is the real one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from copilot_jupyter.errors import RuntimeDiedError
from copilot_jupyter.runtime import keeper, process, shared
from copilot_jupyter.runtime.shared import Seat, Server, passed_on
from copilot_jupyter.settings import Copilot
from copilot_jupyter.state.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no flock on Windows")

SOON = 20.0
STAND_IN = f"""#!{sys.executable} -IS
import sys, time
print("CLI server listening on port 4242", flush=True)
time.sleep(600)
"""
#: Takes a seat, says so, and waits to be killed.
HOLDER = """
import os, sys
from pathlib import Path
from copilot_jupyter.runtime import shared
from copilot_jupyter.state.store import Store
seat = shared.join(Store(Path(sys.argv[1])), Path(sys.argv[2]), signs_in=False, environment={})
print(seat.server.pid, flush=True)
sys.stdin.read()
"""


def until(true: Callable[[], Any], seconds: float = SOON) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return written(tmp_path / "stand-in", STAND_IN)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o700)
    return path


@pytest.fixture
def join(
    store: Store, program: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Seat]]:
    """Takes seats at the stand-in; in the end nothing of it is left."""
    monkeypatch.setattr(shared, "IDLE", 0.4)
    seats: list[Seat] = []

    def take(runtime: Path = program, *, signs_in: bool = False, **environment: str) -> Seat:
        seat = shared.join(store, runtime, signs_in=signs_in, environment=environment)
        seats.append(seat)
        return seat

    yield take
    for seat in seats:
        seat.leave()
        seat.server.kill()
    until(lambda: all(gone(seat.server.pid) for seat in seats))
    until(lambda: not list(store.ours.glob("shared/*/server.json")))


def folder_of(store: Store) -> Path:
    [folder] = (store.ours / "shared").iterdir()
    return folder


def test_it_is_not_the_default() -> None:
    assert Copilot().runtime == "private"
    assert Copilot(runtime="shared").runtime == "shared"


def test_the_second_joins_the_first(join: Callable[..., Seat], store: Store) -> None:
    first, second = join(), join()
    assert first.server == second.server
    assert first.server.port == 4242
    assert first.server.alive
    assert shared.is_shared(store, first.server.pid)
    assert not shared.is_shared(store, os.getpid())


def test_ten_at_once_make_one(join: Callable[..., Seat]) -> None:
    with ThreadPoolExecutor(10) as pool:
        seats = list(pool.map(lambda _: join(), range(10)))
    assert len({seat.server for seat in seats}) == 1


def test_only_this_user_reads_the_token(join: Callable[..., Seat], store: Store) -> None:
    server = join().server
    folder = folder_of(store)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert len(server.token) >= 64
    assert server.token not in repr(server)
    keepers = psutil.Process(server.pid).parents()[0]
    assert server.token not in " ".join(keepers.cmdline() + psutil.Process(server.pid).cmdline())
    environment = psutil.Process(server.pid).environ()
    assert environment["COPILOT_CONNECTION_TOKEN"] == server.token


def test_it_has_a_session_of_its_own(join: Callable[..., Seat]) -> None:
    # Jupyter's stop button sends SIGINT to the kernel's process group.
    pid = join().server.pid
    assert os.getsid(pid) != os.getsid(0)
    assert os.getpgid(pid) != os.getpgid(0)
    assert os.getpid() not in [parent.pid for parent in psutil.Process(pid).parents()[:2]]


def test_it_ends_when_idle_and_leaves_nothing(join: Callable[..., Seat], store: Store) -> None:
    first, second = join(), join()
    keeper_pid = psutil.Process(first.server.pid).ppid()
    first.leave()
    time.sleep(1.5)
    assert second.server.alive  # somebody is there
    second.leave()
    until(lambda: gone(second.server.pid) and gone(keeper_pid))
    assert [path.name for path in folder_of(store).iterdir()] == ["mutex"]
    assert join().server.pid != first.server.pid


def test_a_kernel_that_is_killed_gives_its_seat_back(
    join: Callable[..., Seat], home: Path, program: Path
) -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLDER, str(home), str(program)]
    mine = join()
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert int(other.stdout.readline()) == mine.server.pid
        mine.leave()
        time.sleep(1.5)
        assert mine.server.alive  # the other one is there
        other.kill()
        until(lambda: gone(mine.server.pid))


def test_the_kernel_that_started_it_is_killed(
    join: Callable[..., Seat], home: Path, program: Path
) -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLDER, str(home), str(program)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as first:
        pid = int(first.stdout.readline())
        second = join()
        assert second.server.pid == pid
        first.kill()
    time.sleep(1)
    assert second.server.alive


def test_a_keeper_that_is_killed_takes_the_runtime_along(join: Callable[..., Seat]) -> None:
    if sys.platform != "linux":
        pytest.skip("a parent's death is told on Linux only")
    first = join().server
    os.kill(psutil.Process(first.pid).ppid(), signal.SIGKILL)
    until(lambda: gone(first.pid))
    assert join().server.pid != first.pid


def test_a_runtime_that_is_killed_is_replaced(join: Callable[..., Seat], store: Store) -> None:
    first = join().server
    keeper_pid = psutil.Process(first.pid).ppid()
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: gone(first.pid))
    second = join().server
    assert second.pid != first.pid
    assert second.alive
    until(lambda: gone(keeper_pid))
    assert json.loads((folder_of(store) / "server.json").read_text())["pid"] == second.pid


STALE = {
    "empty": lambda known: b"",
    "torn": lambda known: json.dumps(known).encode()[:40],
    "a list": lambda known: b"[]",
    "a field is missing": lambda known: json.dumps({"port": 1}).encode(),
    "a field is of another type": lambda known: json.dumps({**known, "pid": "1"}).encode(),
    "a lease elsewhere": lambda known: json.dumps({**known, "lease": "../x"}).encode(),
    "no lease": lambda known: json.dumps({**known, "lease": ""}).encode(),
    "no process": lambda known: json.dumps({**known, "pid": 2**22 + 1}).encode(),
    "its pid is another's": lambda known: json.dumps({**known, "pid": os.getpid()}).encode(),
}


@pytest.mark.parametrize("damage", STALE.values(), ids=STALE)
def test_a_stale_file_is_replaced(
    join: Callable[..., Seat], store: Store, damage: Callable[[dict[str, Any]], bytes]
) -> None:
    first = join()
    first.server.kill()
    until(lambda: gone(first.server.pid))
    folder = folder_of(store)
    until(lambda: not (folder / "server.json").exists())
    known = {**vars(first.server)}
    (folder / first.server.lease).touch()
    (folder / "server.json").write_bytes(damage(known))
    second = join()
    assert second.server.alive
    assert second.server.pid not in (first.server.pid, os.getpid())


def test_a_server_that_lets_nobody_in_is_replaced_under_nobody(join: Callable[..., Seat]) -> None:
    inside, outside = join(), join()
    outside.disown()
    another = join()
    assert another.server != inside.server
    assert inside.server.alive  # whoever is in stays in
    outside.disown()  # another one's file is not removed
    assert join().server == another.server
    inside.leave()
    until(lambda: gone(inside.server.pid))
    assert another.server.alive


@pytest.mark.parametrize(
    "text", ["exit 3", "echo nothing to say", "kill -9 $$"], ids=["fails", "no port", "killed"]
)
def test_a_runtime_that_does_not_start(
    join: Callable[..., Seat], store: Store, tmp_path: Path, text: str
) -> None:
    broken = written(tmp_path / "broken", f"#!/bin/sh\n{text}\n")
    with pytest.raises(RuntimeDiedError) as caught:
        join(broken)
    assert "private" in caught.value.do
    until(lambda: [path.name for path in folder_of(store).iterdir()] == ["mutex"])


def test_who_differs_does_not_share(join: Callable[..., Seat], tmp_path: Path) -> None:
    newer = written(tmp_path / "newer", STAND_IN)
    seats = [join(), join(signs_in=True), join(PATH="/opt/bin"), join(newer)]
    assert len({seat.server.pid for seat in seats}) == 4
    assert join(SOME_SECRET="x", COPILOT_MODEL="m").server == seats[0].server


def test_what_the_server_gets_of_the_environment() -> None:
    environment = {
        "PATH": "/bin",
        "https_proxy": "http://proxy",
        "LC_ALL": "C",
        "COPILOT_OFFLINE": "true",
        "COPILOT_HOME": "/elsewhere",
        "COPILOT_MODEL": "m",
        "COPILOT_PROVIDER_API_KEY": "secret",
        "COPILOT_JUPYTER_RUNTIME": "shared",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "JPY_API_TOKEN": "secret",
        "GH_HOST": "ghe.example.com",
        "GH_TOKEN": "secret",
    }
    plain = {
        "PATH": "/bin",
        "https_proxy": "http://proxy",
        "LC_ALL": "C",
        "COPILOT_OFFLINE": "true",
        "GH_HOST": "ghe.example.com",
    }
    assert passed_on(environment, signs_in=False) == plain
    assert passed_on(environment, signs_in=True) == {**plain, "GH_TOKEN": "secret"}


def test_the_keeper_is_small(join: Callable[..., Seat]) -> None:
    """It lives as long as the runtime: what it imports is paid for all the time."""
    if sys.platform != "linux":
        pytest.skip("its size is read from /proc")
    process = psutil.Process(join().server.pid).parents()[0]
    assert str(Path(keeper.__file__)) in process.cmdline()
    assert process.memory_full_info().uss < 6e6


def test_a_seat_is_left_once(join: Callable[..., Seat]) -> None:
    seat = join()
    seat.leave()
    with contextlib.ExitStack() as stack:
        stack.callback(seat.leave)
        descriptor = os.open(os.devnull, os.O_RDONLY)  # likely the same number
        stack.callback(os.close, descriptor)
        seat.leave()
        os.fstat(descriptor)


def test_a_process_is_known_by_its_start() -> None:
    me = psutil.Process()
    began = process.started(me)
    assert Server(1, "t", me.pid, began, "lease", "program").alive
    assert not Server(1, "t", me.pid, began - 60, "lease", "program").alive
    # The wall clock may be set at any time; the time since boot may not.
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert sys.platform != "linux" or 0 < since_boot - began < 3600
