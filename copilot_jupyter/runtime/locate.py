"""Find the Copilot runtime on this machine.

The native runtime is wanted: the small program ``copilot-runtime`` with its library
``runtime.node`` beside it. It starts in 20 ms; the ``copilot`` of the terminal, which
is used where there is nothing else, takes 400 ms and twice the memory.

`find_runtime` looks, in this order, and downloads nothing:

1. ``COPILOT_CLI_PATH``, a file or a name on the ``PATH``; it alone counts when set;
2. the folder in which the SDK keeps the runtime it downloaded;
3. the terminal's ``copilot``, best the native runtime that it unpacked for itself;
4. our own cache.

`fetch.ensure_runtime` goes on to the SDK's own download from GitHub, then to npm.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from copilot_jupyter.errors import RuntimeMissingError
from copilot_jupyter.settings import cache_home

#: The release of ``@github/copilot-sdk-PLATFORM`` that npm fetches into our own cache.
NPM_VERSION = "1.0.14"

#: What npm's registry recorded for that release; platforms without a package are absent.
NPM_INTEGRITY = {
    "linux-x64": (
        "sha512-1wlAVTK1z7ovAez0tixr+f77TnjB3fqKobamu1pG7FYyCTwQuyU4p1aWNXF9j/u1d7rxSY1n9cAxrtEAUkizbg=="
    ),
    "linuxmusl-x64": (
        "sha512-tNNeJl53hXEkqeGudNAsHQk9OrSUbt2EdPhtugcQxscabaEFutd7KwQH6jmvvYW7Sifgl59ySWTd4ok/9I94kg=="
    ),
}

#: Older runtimes start, but a turn sent by our SDK never ends on them.
OLDEST = (1, 0, 84)

#: Seconds for ``copilot --version``; the first one unpacks 235 MB.
VERSION_PATIENCE = 30.0

_WRAPPER = "copilot-runtime.exe" if sys.platform == "win32" else "copilot-runtime"


class NotHereError(Exception):
    """One of the places that were tried gave no runtime; the message says why."""


def find_runtime() -> Path | None:
    """Find a Copilot runtime that is on this machine already.

    Returns
    -------
    Path or None
        The program to start, checked; None where there is none.

    Raises
    ------
    RuntimeMissingError
        ``COPILOT_CLI_PATH`` is set to something that cannot be used.
    """
    return search([])


def runtime_platform() -> str:
    """Return the name that GitHub's packages use for this machine.

    Returns
    -------
    str
        Such as ``linux-x64``, ``linuxmusl-arm64`` or ``darwin-arm64``; a name that no
        package has where the runtime does not exist.
    """
    machine = platform.machine().lower()
    names = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
    system = "linuxmusl" if sys.platform == "linux" and _is_musl() else sys.platform
    return f"{system}-{names.get(machine, machine)}"


def _is_musl() -> bool:
    try:
        return not os.confstr("CS_GNU_LIBC_VERSION")
    except ValueError:  # the C library does not know the question, so it is not glibc
        return True


# --- Looking -----------------------------------------------------------------


def search(failures: list[str]) -> Path | None:
    """Look everywhere on this machine; add to `failures` why each place has none.

    Raises
    ------
    RuntimeMissingError
        As `find_runtime` does.
    """
    chosen = os.environ.get("COPILOT_CLI_PATH")
    if chosen:
        return _chosen(chosen)
    failures.append("COPILOT_CLI_PATH: not set")
    for place, look in (
        ("the SDK's folder", _in_sdk_folder),
        ("`copilot` of the terminal", _from_terminal),
        ("our cache", _in_our_cache),
    ):
        try:
            return look()
        except NotHereError as reason:
            failures.append(f"{place}: {reason}")
    return None


def _chosen(value: str) -> Path:
    path = Path(value) if Path(value).exists() else Path(shutil.which(value) or value)
    try:
        return checked(path.absolute())
    except NotHereError as reason:
        raise RuntimeMissingError(
            f"COPILOT_CLI_PATH is set to {value!r}, which cannot be used: {reason}.",
            "Correct it, or unset it to have the runtime found.",
        ) from None


def _in_sdk_folder() -> Path:
    return checked(program_in(_sdk_folder()))


def _sdk_folder() -> Path:
    """Return the folder of the SDK's runtime, by the SDK's own rules."""
    override = os.environ.get("COPILOT_CLI_EXTRACT_DIR")
    if override:
        return Path(override).absolute()
    version = re.sub(r"[^a-zA-Z0-9._\-]", "_", sdk_runtime_version())
    return _user_cache("github-copilot-sdk") / "cli" / version


def sdk_runtime_version() -> str:
    """Return the runtime version that the installed SDK asks for.

    Read from the SDK's source: importing the SDK takes a second.

    Raises
    ------
    NotHereError
        If there is no SDK, or it does not say.
    """
    spec = importlib.util.find_spec("copilot")
    if spec is None or spec.origin is None:
        raise NotHereError("github-copilot-sdk is not installed")
    source = Path(spec.origin).with_name("_cli_version.py")
    try:
        text = source.read_text("utf-8")
    except OSError as error:
        raise NotHereError(f"the SDK does not say which runtime it wants ({error})") from None
    match = re.search(r'^CLI_VERSION\b.*=\s*"([^"]+)"', text, re.MULTILINE)
    if match is None:
        raise NotHereError(f"the SDK names no runtime version in {source}")
    return match[1]


def _user_cache(name: str) -> Path:
    """Return the folder in which GitHub's programs cache, by their own rules."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / name
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / name
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / name


def _from_terminal() -> Path:
    unpacked = _newest_unpacked()
    if unpacked is not None:
        return unpacked
    program = shutil.which("copilot")
    if program is None:
        raise NotHereError("not on the PATH")
    version = _terminal_version(program)
    if _numbers(version) < OLDEST:
        raise NotHereError(f"{program} is version {version}, too old; run `copilot update`")
    # The first run of this program, which was just now, unpacks the native runtime.
    return _newest_unpacked() or Path(program).absolute()


def _newest_unpacked() -> Path | None:
    """Return the newest native runtime that the terminal's copilot unpacked."""
    name = runtime_platform()
    found = [
        folder
        for root in _unpacked_roots()
        for folder in (*root.glob(f"{name}/*"), *root.glob("universal/*"))
        if _numbers(folder.name) >= OLDEST
    ]
    for folder in sorted(found, key=lambda f: (_numbers(f.name), f.name), reverse=True):
        try:
            return checked(program_in(folder))
        except NotHereError:
            continue  # a version without it, or one that is being unpacked
    return None


def _unpacked_roots() -> list[Path]:
    chosen = (os.environ.get(name) for name in ("COPILOT_PKG_CACHE_HOME", "COPILOT_CACHE_HOME"))
    return [*(Path(root) / "pkg" for root in chosen if root), _user_cache("copilot") / "pkg"]


def _terminal_version(program: str) -> str:
    """Ask a ``copilot`` on the PATH who it is; other tools have that name too."""
    try:
        answer = subprocess.run(
            [program, "--no-auto-update", "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotHereError(f"{program} did not say its version ({error})") from None
    match = re.search(r"GitHub Copilot CLI (\d+\.\d+\.\d+\S*?)\.?\s", answer.stdout + "\n")
    if match is None:
        raise NotHereError(f"{program} is not GitHub's Copilot CLI")
    return match[1]


def _numbers(version: str) -> tuple[int, int, int]:
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else (0, 0, 0)


def _in_our_cache() -> Path:
    return checked(program_in(our_folder()))


def our_folder() -> Path:
    """Return the folder of our own cache in which the runtime is."""
    # The platform is part of the name because a home folder may be shared by machines.
    return cache_home() / "runtime" / f"{NPM_VERSION}-{runtime_platform()}"


def program_in(folder: Path) -> Path:
    """Return where the native runtime's program is in an unpacked release."""
    return folder / "prebuilds" / runtime_platform() / _WRAPPER


def checked(program: Path) -> Path:
    """Return `program` if it is there and can be started.

    Raises
    ------
    NotHereError
        If not; the message says why.
    """
    if not program.is_file():
        raise NotHereError(f"there is no file {program}")
    if not os.access(program, os.X_OK):
        raise NotHereError(f"{program} may not be executed")
    library = program.with_name("runtime.node")
    if program.name == _WRAPPER and not (library.is_file() and library.stat().st_size):
        raise NotHereError(f"{program} has no runtime.node beside it")
    return program
