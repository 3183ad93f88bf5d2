"""A process: which one it is, whether it runs, and how that of a private runtime is started."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from copilot_jupyter.garbage import uncollected

if TYPE_CHECKING:
    from copilot import CopilotClient


def started(process: psutil.Process) -> float:
    """Return what tells a process from a later one of its pid, within one boot.

    On Linux seconds since the boot: a start in seconds since the epoch moves with every step
    of the clock, and a living process would pass for another one.

    Raises
    ------
    psutil.Error
        If there is no such process.
    """
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace")
        ticks = int(stat.rpartition(")")[2].split()[19])  # field 22 of proc(5)
        return ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):  # not Linux, or gone
        return process.create_time()


def process_of(client: CopilotClient | None) -> Any:
    """Return the `subprocess.Popen` that a client has started, None where it has none."""
    # The SDK has no public way to learn that its child has ended: a send just never returns.
    return getattr(client, "_cli_process", None)


def runs(process: Any) -> bool:
    """Whether a process that was started here has not ended."""
    if process is None or process.poll() is not None:
        return False
    # Killed, its threads may outlive its first one, and no wait returns before they end.
    with contextlib.suppress(psutil.Error):
        return bool(psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE)
    return False


def import_sdk() -> None:
    """Import the SDK, which takes a second, and keep its log out of the notebook."""
    with uncollected():  # a tenth less time
        import copilot
        import copilot.rpc
    # Its fallback from session.sendAndWait is logged as a traceback; a kernel's stderr is
    # the person's notebook.
    sdk_logger = logging.getLogger(copilot.__name__)
    sdk_logger.addHandler(logging.NullHandler())
    sdk_logger.propagate = False


def make_client(program: Path, home: Path, *, signs_in: bool) -> CopilotClient:
    """Return the SDK's client of a runtime that is not started yet.

    Parameters
    ----------
    program : Path
        As `fetch.ensure_runtime` returned it.
    home : Path
        The state folder.
    signs_in : bool
        Whether GitHub's stored sign-in is to be used.
    """
    from copilot import CopilotClient, RuntimeConnection

    path, args = _detached(program)
    return CopilotClient(
        connection=RuntimeConnection.for_stdio(path=path, args=args),
        base_directory=str(home),
        # Ours, without what belongs to the kernel alone.
        env={k: v for k, v in os.environ.items() if not k.startswith("JPY_")},
        use_logged_in_user=signs_in,
        log_level="error",
    )


def _detached(program: Path) -> tuple[str, tuple[str, ...]]:
    """Return how to start the runtime outside the kernel's process group.

    Jupyter's stop button sends SIGINT to the whole group, and the runtime dies of it. It
    still ends with the kernel: its standard input closes.
    """
    if sys.platform == "win32":
        return str(program), ()
    if setsid := shutil.which("setsid"):
        return setsid, (str(program),)
    code = "import os,sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"
    return sys.executable, ("-c", code, str(program))
