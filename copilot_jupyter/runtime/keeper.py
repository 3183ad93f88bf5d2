"""Keeps a shared runtime: starts it, and ends it once no kernel has used it for a while.

Run as a script of its own, ``python -I -S keeper.py LEASE STATE SECONDS PROGRAM ARGUMENT...``:
it lives as long as the runtime does, so it imports next to nothing (3 to 5 MB). Every kernel
holds a shared lock on the lease file. The system lets go of it when a kernel ends, however
it ends; the keeper has found the runtime idle when it gets the lock alone.
"""

import contextlib
import fcntl
import os
import select
import signal
import sys
import time

#: Seconds that the runtime may take to say its port.
_START = 15.0
#: Seconds between two looks at the lease; fewer where the idle time is short.
_LOOK = 5.0
#: Seconds that the runtime may take to end by itself.
_STOP = 3.0
#: Linux: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1


def main(lease: str, state: str, seconds: float, command: list[str]) -> None:
    """Start the runtime, print its port and process id, and stay until it is to end."""
    if os.fork():  # nobody's child: no kernel has to wait for the keeper's end
        os._exit(0)
    descriptor = os.open(lease, os.O_RDWR)
    runtime, output = start(command)
    try:
        port = read_port(output)
        if not port:
            sys.exit(f"{command[0]} said no port in {_START:g} s")
        print(port, runtime, flush=True)  # noqa: T201 -- what the kernel waits for
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        watch(descriptor, output, runtime, seconds)
    finally:  # the lease is still locked, if it was idle: nobody takes a seat meanwhile
        forget(state, os.path.basename(lease))  # noqa: PTH119 -- pathlib takes 2 MB
        end(runtime)
        with contextlib.suppress(OSError):
            os.unlink(lease)  # noqa: PTH108


def start(command: list[str]) -> tuple[int, int]:
    """Start the runtime; return its process id and what it prints."""
    output, its_end = os.pipe()
    keeper = os.getpid()
    if pid := os.fork():
        os.close(its_end)
        return pid, output
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(its_end, 1)
        os.dup2(its_end, 2)
        if sys.platform == "linux":  # a keeper that is killed leaves no runtime behind
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == keeper:
            os.execv(command[0], command)  # noqa: S606 -- the runtime that was found
    finally:
        os._exit(1)


def read_port(output: int) -> str:
    """Return the port that the runtime listens on, "" if it says none in time."""
    said, deadline = b"", time.monotonic() + _START
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([output], [], [], left)[0]:
            break
        chunk = os.read(output, 4096)
        if not chunk:
            break
        said += chunk
        for line in said.split(b"\n")[:-1]:
            words = line.split()
            if b"port" in words and words[-1].isdigit():
                return words[-1].decode()
    return ""


def watch(lease: int, output: int, runtime: int, seconds: float) -> None:
    """Return when the runtime has ended, or when nobody has held the lease for `seconds`."""
    idle_since = None
    while True:
        ready, _, _ = select.select([output], [], [], min(_LOOK, seconds / 4))
        if ready and not os.read(output, 65536):  # read, so that it never waits to print
            return
        if os.waitpid(runtime, os.WNOHANG)[0]:
            return
        try:
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            idle_since = None
            continue
        idle_since = idle_since or time.monotonic()
        if time.monotonic() - idle_since >= seconds:
            return
        fcntl.flock(lease, fcntl.LOCK_UN)


def forget(state: str, lease: str) -> None:
    """Remove the file that names the runtime, if it still names this one."""
    with contextlib.suppress(OSError):
        with open(state, encoding="utf-8") as file:  # noqa: PTH123
            ours = lease in file.read()
        if ours:
            os.unlink(state)  # noqa: PTH108


def end(runtime: int) -> None:
    """End the runtime, if need be the hard way."""
    with contextlib.suppress(OSError):  # it has ended, and was waited for
        os.kill(runtime, signal.SIGTERM)
        deadline = time.monotonic() + _STOP
        while not os.waitpid(runtime, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.kill(runtime, signal.SIGKILL)
            time.sleep(0.02)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:])
