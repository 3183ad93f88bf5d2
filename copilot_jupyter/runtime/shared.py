"""One runtime for many kernels of one user on one host: ``Copilot.runtime = "shared"``.

The first kernel that needs a runtime starts a server on loopback, behind a random token.
Its port and token lie in a file that only this user can read; the next kernels join it.
A kernel's seat is a shared lock on a lease file: the system takes it back when the kernel
ends, even by kill -9. `keeper` ends the server when nobody has had a seat for `IDLE` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from filelock import FileLock

from copilot_jupyter.errors import RuntimeDiedError, SetupError
from copilot_jupyter.state.files import private_folder, write_whole

from .process import started

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from copilot import CopilotClient

    from copilot_jupyter.state.store import Store

logger = logging.getLogger(__name__)

#: Seconds without any kernel after which the runtime is ended.
IDLE = 60.0
#: Seconds that a runtime may take to start, on a busy machine.
_START = 30.0
#: Seconds that a runtime may take to let a kernel in.
_CONNECT = 10.0
#: Seconds that the keeper of a runtime may take to end it; nobody gets a seat meanwhile.
_END = 10.0

_KEEPER = Path(__file__).with_name("keeper.py")
_ARGUMENTS = ("--headless", "--no-auto-update", "--log-level", "error", "--port", "0")

#: All that the server gets of a kernel's environment, and what has to be the same in all
#: kernels that share it: where programs and settings are, the language, the network.
_PASSED: tuple[str, ...] = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ")
_PASSED += ("TMPDIR", "VIRTUAL_ENV", "CONDA_PREFIX", "DBUS_SESSION_BUS_ADDRESS")
_PASSED += ("NODE_EXTRA_CA_CERTS", "NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_PASSED_PREFIXES = ("LC_", "XDG_", "SSL_CERT_", "COPILOT_", "GH_", "GITHUB_")
#: What goes with every session instead, or is ours alone.
_WITHHELD_PREFIXES = ("COPILOT_PROVIDER_", "COPILOT_JUPYTER_")
_WITHHELD = ("COPILOT_MODEL", "COPILOT_CLI_PATH", "COPILOT_HOME")
_TOKENS = ("COPILOT_GITHUB_TOKEN", "GH_TOKEN", "GITHUB_TOKEN")


@dataclass(frozen=True)
class Server:
    """A running shared runtime, as its file describes it.

    Parameters
    ----------
    port : int
        On 127.0.0.1.
    token : str
        Without it the server refuses a connection.
    pid : int
    started : float
        When the process started, as `process.started` has it.
    lease : str
        Name of the lease file, unique to this server.
    program : str
        The runtime's path; its version is part of it.
    """

    port: int
    token: str
    pid: int
    started: float
    lease: str
    program: str

    def __repr__(self) -> str:
        return f"Server(port={self.port}, pid={self.pid})"  # the token stays out of logs

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process() is not None

    def kill(self) -> None:
        """End the process at once, under all kernels that use it."""
        if process := self._process():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def _process(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            same = abs(started(process) - self.started) < 1  # else its pid was given away
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


class Seat:
    """A kernel's place at a shared runtime; whoever takes it leaves it.

    Parameters
    ----------
    server : Server
    folder : Path
        Where the server's file is.
    descriptor : int
        The open lease, locked.
    """

    def __init__(self, server: Server, folder: Path, descriptor: int) -> None:
        self.server = server
        self._folder = folder
        self._descriptor = descriptor

    def leave(self) -> None:
        """Give the place back; safe to call twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def disown(self) -> None:
        """Leave a server that does not let us in: the next kernel starts another."""
        with FileLock(self._folder / "mutex", timeout=_START, mode=0o600):
            if _read(self._folder) == self.server:
                (self._folder / "server.json").unlink(missing_ok=True)
        self.leave()


async def connect(store: Store, program: Path, *, signs_in: bool) -> tuple[CopilotClient, Seat]:
    """Connect to the shared runtime, and to another one if that does not let us in.

    Parameters
    ----------
    store : Store
    program : Path
        The native runtime.
    signs_in : bool
        Whether GitHub's stored sign-in is to be used.

    Returns
    -------
    client : CopilotClient
    seat : Seat

    Raises
    ------
    SetupError, RuntimeDiedError, StateFolderError
        As `join` does.
    Exception
        What the SDK raises, if a runtime that was just started does not let us in.
    """
    from copilot import CopilotClient, RuntimeConnection

    for last in (False, True):
        seat = await _joined(store, program, signs_in=signs_in)
        url, token = f"127.0.0.1:{seat.server.port}", seat.server.token
        client = CopilotClient(connection=RuntimeConnection.for_uri(url, connection_token=token))
        try:
            async with asyncio.timeout(_CONNECT):
                await client.start()
        except BaseException as error:
            with contextlib.suppress(Exception):
                await client.force_stop()
            if last or not isinstance(error, Exception):
                seat.leave()
                raise
            # Refused, another token, no answer.
            logger.debug("the shared runtime %r does not let us in: %s", seat.server, error)
            await asyncio.to_thread(seat.disown)
        else:
            break
    # Nagle's algorithm holds a message back that is written in parts, as the SDK does.
    if connection := getattr(getattr(client, "_process", None), "_socket", None):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client, seat


async def _joined(store: Store, program: Path, *, signs_in: bool) -> Seat:
    """Take a place, off the loop's thread; cancelled, the place is given back."""
    work = asyncio.to_thread(join, store, program, signs_in=signs_in, environment=os.environ)
    joining = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(joining)
    except asyncio.CancelledError:
        joining.add_done_callback(_leave)
        raise


def _leave(joining: asyncio.Future[Seat]) -> None:
    if not joining.cancelled() and joining.exception() is None:
        joining.result().leave()


def join(store: Store, program: Path, *, signs_in: bool, environment: Mapping[str, str]) -> Seat:
    """Take a place at the shared runtime, starting it if there is none.

    Parameters
    ----------
    store : Store
        The state folder; every folder has a server of its own.
    program : Path
        The native runtime.
    signs_in : bool
        Whether GitHub's stored sign-in is to be used.
    environment : mapping
        The kernel's.

    Returns
    -------
    Seat

    Raises
    ------
    SetupError
        If this system cannot share a runtime.
    RuntimeDiedError
        If the server does not start.
    StateFolderError
    """
    if sys.platform == "win32":
        raise SetupError(
            "A shared runtime needs Linux or macOS.", "%config Copilot.runtime = 'private'"
        )
    passed = passed_on(environment, signs_in=signs_in)
    with store.disk_errors():
        folder = private_folder(store.ours / "shared" / _key(program, passed, signs_in=signs_in))
        with FileLock(folder / "mutex", timeout=_START + _END, mode=0o600):
            if (seat := _seat(folder)) is not None:
                return seat
            return _start(store, folder, program, passed, signs_in=signs_in)


def passed_on(environment: Mapping[str, str], *, signs_in: bool) -> dict[str, str]:
    """Return what the server gets of a kernel's environment.

    The server is many kernels': what one of them has in its environment is not for the
    others, above all no secrets.
    """
    return {
        name: value
        for name, value in environment.items()
        if (name.upper() in _PASSED or name.startswith(_PASSED_PREFIXES))
        and not (name.startswith(_WITHHELD_PREFIXES) or name in _WITHHELD)
        and (signs_in or name not in _TOKENS)
    }


def is_shared(store: Store, pid: int) -> bool:
    """Whether a process is a runtime that many kernels use."""
    return any(server.pid == pid and server.alive for server in servers(store))


def servers(store: Store) -> Iterator[Server]:
    """Yield the shared runtimes of a state folder that run on this host."""
    for path in (store.ours / "shared").glob("*/server.json"):
        server = _read(path.parent)
        if server is not None and server.alive:
            yield server


def _key(program: Path, passed: Mapping[str, str], *, signs_in: bool) -> str:
    """Return the name of the one server that kernels with the same of all this share."""
    version = program.stat().st_mtime_ns if program.exists() else 0
    parts = [_place(), str(program), version, signs_in, sorted(passed.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


@cache
def _place() -> str:
    """Return what tells this boot and these processes and this loopback from every other."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        spaces = [str(Path(f"/proc/self/ns/{name}").readlink()) for name in ("pid", "net")]
        return " ".join([boot, *spaces])
    except OSError:  # not Linux: the boot time, to the minute
        return f"{socket.gethostname()} {int(psutil.boot_time() // 60)}"


def _seat(folder: Path) -> Seat | None:
    """Take a place at the server that the folder names; None if it is no more."""
    import fcntl

    server = _read(folder)
    if server is None:
        return None
    try:
        descriptor = os.open(folder / server.lease, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    deadline = time.monotonic() + _END
    while time.monotonic() < deadline:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:  # the keeper has it alone: it looks at it, or ends the server
            time.sleep(0.01)
            continue
        if _read(folder) == server and server.alive:
            return Seat(server, folder, descriptor)
        break
    os.close(descriptor)
    return None


def _start(
    store: Store, folder: Path, program: Path, passed: Mapping[str, str], *, signs_in: bool
) -> Seat:
    import fcntl

    _clear(folder)
    token, lease = secrets.token_hex(32), f"lease-{secrets.token_hex(8)}"
    environment = {
        # A large process that many use for days gives back what it has freed (measured:
        # 95 MB became 65 MB when its sessions were let go; without it nothing was).
        "MALLOC_TRIM_THRESHOLD_": "65536",
        **passed,
        "COPILOT_HOME": str(store.home),
        "COPILOT_CONNECTION_TOKEN": token,
    }
    state, path = folder / "server.json", folder / lease
    command = [str(program), *_ARGUMENTS, *([] if signs_in else ["--no-auto-login"])]
    keeper = [sys.executable, "-I", "-S", str(_KEEPER), str(path), str(state), f"{IDLE:g}"]
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)  # before there is a keeper that finds it idle
    try:
        done = subprocess.run(
            [*keeper, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            cwd=store.home,
            env=environment,
            start_new_session=True,  # Jupyter's stop button signals the kernel's whole group
            text=True,
            timeout=_START,
        )
        logger.debug("the keeper said %r %r", done.stdout, done.stderr)
        port, pid = map(int, done.stdout.split())
        server = Server(port, token, pid, started(psutil.Process(pid)), lease, str(program))
        write_whole(state, json.dumps(asdict(server)).encode())
    except BaseException as error:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        if not isinstance(error, ValueError | psutil.Error | subprocess.TimeoutExpired):
            raise
        raise RuntimeDiedError(
            "The shared Copilot runtime did not start.",
            "Run the cell again; %config Copilot.runtime = 'private' does without it.",
        ) from error
    return Seat(server, folder, descriptor)


def _clear(folder: Path) -> None:
    """Remove what a server that is no more has left behind."""
    old = _read(folder)
    (folder / "server.json").unlink(missing_ok=True)
    if old is not None and not old.alive:
        (folder / old.lease).unlink(missing_ok=True)


def _read(folder: Path) -> Server | None:
    """Return the server that a folder's file describes; None where it is missing or damaged."""
    try:
        server = Server(**json.loads((folder / "server.json").read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    types = {"port": int, "pid": int, "started": float, "token": str, "lease": str, "program": str}
    right = all(type(getattr(server, name)) is kind for name, kind in types.items())
    plain = re.fullmatch("lease-[0-9a-f]+", str(server.lease)) is not None
    return server if right and plain and server.pid > 0 else None
