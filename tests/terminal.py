"""A person at a terminal: the real Copilot CLI in a pseudo terminal, driven by its screen.

Nothing here is a stand-in. The program is the ``copilot`` that people install
(npm's ``@github/copilot-linux-x64``, one pinned release, checked against the
hash that npm's registry recorded), fetched once into the test cache. `Terminal`
starts it on a session, answers its questions, types, and reads what a person
would see.

The CLI repaints only the cells that changed ("Answe", then "r 2" somewhere
else), so what it wrote cannot be searched for a sentence. `Screen` keeps the
picture instead.

Every wait is bounded, and one that runs out shows the screen.
"""

from __future__ import annotations

import base64
import codecs
import contextlib
import fcntl
import hashlib
import os
import re
import subprocess
import tarfile
import tempfile
import threading
import time
import unicodedata
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import psutil
from fetched import CACHE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: The release of the CLI that is fetched, and what npm's registry recorded for it
#: (``npm view @github/copilot-linux-x64@1.0.102 dist.integrity``).
VERSION = "1.0.102"
PACKAGE = f"@github/copilot-linux-x64@{VERSION}"
INTEGRITY = (
    "sha512-"
    "eGHPbsP0p2QgfVZCjtbGBFZPBOJQ0DN7xIbBRAo7oG8b1zfLirQIdfI4h8Iy68Dv2cKJGJZg2/EO7W7KpIMJOw=="
)

#: Seconds for npm to bring 129 MB, and for the program to unpack itself.
FETCH_LIMIT = 240.0
UNPACK_LIMIT = 60.0
#: Seconds until the CLI shows what is waited for. It starts in about 4 s on two idle cores.
LIMIT = 30.0
#: Rows and columns: enough for a test's whole conversation.
WINDOW = (80, 200)

TRUST = "Do you trust the files in this folder?"
READY = "/ commands"
IN_USE = "Session in use"
LEAVING = "again to exit"


# --- the program -----------------------------------------------------------------------------


def copilot_cli() -> Path:
    """Return the terminal's ``copilot``, fetched and unpacked the first time."""
    cache = CACHE.resolve()
    folder = cache / f"copilot-cli-{VERSION}"
    program = folder / "copilot"
    if program.exists():
        return program
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{folder.name}.fetching").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not program.exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix=f"{folder.name}-") as temporary:
                _fetch(Path(temporary)).rename(folder)
    return program


def native_runtime() -> Path:
    """Return the headless runtime of the same release, which the CLI carries inside."""
    platform = "linux-x64"
    pkg = _package_cache(copilot_cli()) / "pkg" / platform / VERSION
    return pkg / "prebuilds" / platform / "copilot-runtime"


def _package_cache(program: Path) -> Path:
    """Return where the CLI keeps its 235 MB of unpacked files, the same for every test."""
    return program.parent / "cache"


def _fetch(temporary: Path) -> Path:
    """Fetch, check and unpack the CLI; return the folder to be moved into place."""
    command = ["npm", "pack", PACKAGE, "--silent", "--pack-destination", str(temporary)]
    _run(command, FETCH_LIMIT)
    (archive,) = temporary.glob("*.tgz")
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    found = f"sha512-{base64.b64encode(digest).decode()}"
    if found != INTEGRITY:
        msg = f"npm gave another {PACKAGE} than the one that is pinned: {found}"
        raise RuntimeError(msg)
    folder = temporary / "ready"
    folder.mkdir()
    with tarfile.open(archive) as tar:
        tar.extract("package/copilot", temporary, filter="data")
    program = (temporary / "package" / "copilot").rename(folder / "copilot")
    unpack = {
        "PATH": os.environ["PATH"],
        "HOME": str(temporary),
        "COPILOT_SEA_EXTRACT_ONLY": "1",
        "COPILOT_PKG_CACHE_HOME": str(_package_cache(program)),
    }
    _run([str(program), "--binary-version"], UNPACK_LIMIT, unpack)
    return folder


def _run(command: list[str], limit: float, env: Mapping[str, str] | None = None) -> None:
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=limit)
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"The Copilot CLI could not be fetched: {error}"
        raise RuntimeError(msg) from None
    if done.returncode:
        msg = f"The Copilot CLI could not be fetched: {' '.join(command)}: {done.stderr}"
        raise RuntimeError(msg)


# --- the screen ------------------------------------------------------------------------------

_CONTROL = re.compile(
    r"\x1b\[(?P<private>[<=>?]?)(?P<numbers>[0-9;:]*)[ -/]*(?P<final>[@-~])"  # CSI
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\)"  # titles, colours, links, pictures
    r"|\x1b[ -/]+[0-~]|\x1b[0-OQ-WYZ\\`-~]"  # character sets, keypad
    r"|[\x00-\x1a\x1c-\x1f\x7f]",
    re.DOTALL,
)


class Screen:
    """The picture on a terminal: text and positions, no colours.

    It knows the control sequences that the Copilot CLI writes, and lets every
    other one pass without a trace.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = rows
        self.columns = columns
        self._cells: list[list[str]] = []
        self._row = self._column = 0
        self._top, self._bottom = 0, rows - 1
        self._wraps = True
        self._rest = ""
        self._clear()

    def __str__(self) -> str:
        """Return what a person sees, a line a row, without the blank rows at the end."""
        return "\n".join("".join(row).rstrip() for row in self._cells).rstrip("\n")

    def feed(self, text: str) -> None:
        """Show what the program wrote; a sequence may come in pieces."""
        text, self._rest = self._rest + text, ""
        position = 0
        while position < len(text):
            match = _CONTROL.match(text, position)
            if match:
                self._control(match)
                position = match.end()
            elif text[position] == "\x1b":
                self._rest = text[position:]
                return
            else:
                self._put(text[position])
                position += 1

    def _clear(self) -> None:
        self._cells = [[" "] * self.columns for _ in range(self.rows)]

    def _put(self, character: str) -> None:
        width = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if self._column + width > self.columns:
            if self._wraps:
                self._column = 0
                self._line_feed()
            else:
                self._column = self.columns - width
        self._cells[self._row][self._column] = character
        if width == 2:
            self._cells[self._row][self._column + 1] = ""
        self._column += width

    def _line_feed(self) -> None:
        if self._row == self._bottom:
            self._scroll(self._top, 1)
        else:
            self._row = min(self._row + 1, self.rows - 1)

    def _scroll(self, top: int, count: int) -> None:
        """Move the rows from `top` to the bottom margin up, or down if `count` is negative."""
        height = self._bottom + 1 - top
        blank = [[" "] * self.columns for _ in range(min(abs(count), height))]
        rows = self._cells[top : self._bottom + 1]
        moved = [*rows, *blank][-height:] if count > 0 else [*blank, *rows][:height]
        self._cells[top : self._bottom + 1] = moved

    def _control(self, match: re.Match[str]) -> None:
        final = match["final"]
        if final is None:
            self._character(match[0])
            return
        if match["private"]:
            match match["numbers"], final:
                case "1049", "h" | "l":
                    self._clear()
                case "7", "h" | "l":
                    self._wraps = final == "h"
            return
        numbers = [int(n) if n.isdigit() else 0 for n in match["numbers"].split(";")]
        count = max(numbers[0], 1)
        match final:
            case "J" | "K" | "X":
                self._erase(final, numbers[0])
            case "S" | "T":
                self._scroll(self._top, count if final == "S" else -count)
            case "M" | "L" if self._top <= self._row <= self._bottom:
                self._scroll(self._row, count if final == "M" else -count)
            case "r":
                self._top = count - 1
                self._bottom = min([*numbers, 0][1] or self.rows, self.rows) - 1
                self._row = self._column = 0
            case _:
                self._move(final, numbers)

    def _character(self, control: str) -> None:
        match control:
            case "\r":
                self._column = 0
            case "\n":
                self._line_feed()
            case "\b":
                self._column = max(self._column - 1, 0)
            case "\x1bM" if self._row == self._top:
                self._scroll(self._top, -1)
            case "\x1bM":
                self._row = max(self._row - 1, 0)

    def _move(self, final: str, numbers: list[int]) -> None:
        count = max(numbers[0], 1)
        row, column = self._row, min(self._column, self.columns - 1)
        match final:
            case "H" | "f":
                row, column = count - 1, max([*numbers, 1][1], 1) - 1
            case "A":
                row -= count
            case "B":
                row += count
            case "C":
                column += count
            case "D":
                column -= count
            case "G":
                column = count - 1
            case "d":
                row = count - 1
            case _:
                return
        self._row = min(max(row, 0), self.rows - 1)
        self._column = min(max(column, 0), self.columns - 1)

    def _erase(self, final: str, what: int) -> None:
        row, column = self._row, min(self._column, self.columns - 1)
        if final == "X":
            start, end = column, min(column + max(what, 1), self.columns)
        else:
            start, end = (0 if what else column), (column + 1 if what == 1 else self.columns)
        self._cells[row][start:end] = [" "] * (end - start)
        if final != "J":
            return
        blank = range(row) if what == 1 else range(row + 1 if what == 0 else 0, self.rows)
        for other in blank:
            self._cells[other] = [" "] * self.columns


# --- the person ------------------------------------------------------------------------------


class Terminal:
    """A terminal window; use it as a context manager.

    Parameters
    ----------
    copilot_home : Path
        The folder of sessions, which the notebook uses too.
    environment : Mapping
        Variables that name the model (``ScriptedModel.environment()``). Nothing else is
        inherited but the ``PATH``: no sign-in, no settings of whoever runs the tests.
    """

    def __init__(self, copilot_home: Path, environment: Mapping[str, str]) -> None:
        self.program = copilot_cli()
        self._home = tempfile.TemporaryDirectory(
            prefix="copilot-terminal-", ignore_cleanup_errors=True
        )
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": self._home.name,
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "COPILOT_HOME": str(copilot_home),
            "COPILOT_AUTO_UPDATE": "false",
            "COPILOT_PKG_CACHE_HOME": str(_package_cache(self.program)),
            **environment,
        }
        self._child: pexpect.spawn[bytes] | None = None
        self._process: psutil.Process | None = None
        self._reader: threading.Thread | None = None
        self._screen = Screen(*WINDOW)
        self._changed = threading.Condition()
        self._ended = False

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
        self._home.cleanup()

    @property
    def pid(self) -> int:
        """The process id of the running CLI."""
        return int(self._started.pid)

    @property
    def screen(self) -> str:
        """What a person sees now."""
        with self._changed:
            return str(self._screen)

    def start(self, session_id: str, cwd: Path, *, trust: bool = True) -> None:
        """Type ``copilot --resume ID`` in a folder, and trust the session's folder when asked.

        The CLI goes to the folder in which the session was made, wherever it is started.

        Parameters
        ----------
        session_id : str
            Id or name of the session.
        cwd : Path
            The folder in which the command is typed.
        trust : bool, optional
            Whether to answer the question about the folder, and wait for the composer or
            for the question whether to resume a session that is in use.
        """
        if self._child is not None:
            msg = "this terminal is running copilot already"
            raise RuntimeError(msg)
        self._screen, self._ended = Screen(*WINDOW), False
        with warnings.catch_warnings():
            # A process with threads (the scripted model) is told off for forking from
            # Python 3.12 on; the child here does nothing but exec.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._child = pexpect.spawn(
                str(self.program),
                ["--resume", session_id],
                cwd=str(cwd),
                env=self.environment,
                dimensions=WINDOW,
            )
        self._process = psutil.Process(self._child.pid)
        # Always reading: a program whose terminal is full stands still.
        self._reader = threading.Thread(target=self._read, args=(self._child,), daemon=True)
        self._reader.start()
        if trust:
            self.trust_folder()
            self._wait(lambda: self.shows(READY) or self.shows(IN_USE), LIMIT, "the composer")

    def trust_folder(self) -> None:
        """Answer "Yes" to the question whether the files in this folder are trusted."""
        self.wait_for(TRUST)
        self.press("\r", until=lambda: not self.shows(TRUST))

    def shows(self, text: str) -> bool:
        """Whether the text is on the screen, however its lines are broken."""
        return _words(text) in _words(self.screen)

    def wait_for(self, text: str, timeout: float = LIMIT) -> str:
        """Wait until the text is on the screen, and return the screen."""
        self._wait(lambda: self.shows(text), timeout, f"{text!r} on the screen")
        return self.screen

    def write(self, text: str) -> None:
        """Type, without the Enter key, and wait until the text stands in the composer."""
        self._started.send(text)
        self.wait_for(text)

    def press(self, key: str, until: Callable[[], bool], timeout: float = LIMIT) -> None:
        """Press a key, once more every 2 s, until a condition holds.

        The CLI drops keys that arrive while it swaps one dialog for another.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._started.send(key)
            with contextlib.suppress(TimeoutError):
                self._wait(until, 2.0, "")
                return
            if self._ended or time.monotonic() > deadline:
                raise TimeoutError(self._report(f"pressing {key!r} had no effect", timeout))

    def ask(self, prompt: str, answer: str, timeout: float = LIMIT) -> str:
        """Type a prompt, press Enter, wait for the answer to be complete, return the screen."""
        self.write(prompt)
        self._started.send("\r")
        # While it works, the CLI shows "Working" in the place of the key hints.
        self._wait(
            lambda: self.shows(answer) and self.shows(READY), timeout, f"the answer {answer!r}"
        )
        return self.screen

    def quit(self, timeout: float = LIMIT) -> int:
        """Press Ctrl-C twice, as the CLI asks for, and return its exit code."""
        child = self._started
        self.press("\x03", until=lambda: self.shows(LEAVING), timeout=timeout)
        child.send("\x03")
        self._wait(lambda: self._ended, timeout, "the end of copilot")
        self.close()
        code: int | None = child.exitstatus
        return -1 if code is None else code

    def close(self) -> None:
        """End the CLI if it still runs; only ever the one that was started here."""
        child, self._child = self._child, None
        if child is None:
            return
        if self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._process.kill()  # psutil spares another process that was given the pid
        if self._reader is not None:
            self._reader.join(5.0)
        child.close(force=True)

    def one_shot(self, session_id: str, prompt: str, cwd: Path, timeout: float = 60.0) -> str:
        """Run ``copilot -p PROMPT --resume ID`` and return the answer that it prints."""
        command = [str(self.program), "-p", prompt, "--resume", session_id]
        done = subprocess.run(
            [*command, "--allow-all-tools", "-s"],
            cwd=cwd,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if done.returncode:
            msg = f"copilot -p ended with {done.returncode}: {done.stderr}"
            raise RuntimeError(msg)
        return done.stdout.strip()

    @property
    def _started(self) -> pexpect.spawn[bytes]:
        if self._child is None:
            msg = "copilot is not running in this terminal"
            raise RuntimeError(msg)
        return self._child

    def _read(self, child: pexpect.spawn[bytes]) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            try:
                text = decoder.decode(child.read_nonblocking(65536, timeout=0.2))
            except pexpect.TIMEOUT:
                continue
            except (pexpect.EOF, OSError, ValueError):
                break
            with self._changed:
                self._screen.feed(text)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _wait(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    raise TimeoutError(self._report(f"waited for {what}", timeout))
                self._changed.wait(min(left, 0.5))

    def _report(self, what: str, timeout: float) -> str:
        state = "has ended" if self._ended else "runs"
        return f"{what}, up to {timeout} s; copilot {state}; the screen:\n{self.screen}"


def _words(text: str) -> str:
    return " ".join(text.split())
