"""Find the Copilot runtime on this machine, or fetch it.

The native runtime is wanted: the small program ``copilot-runtime`` with its library
``runtime.node`` beside it. It starts in 20 ms; the ``copilot`` of the terminal, which
is used where there is nothing else, takes 400 ms and twice the memory.

`find_runtime` looks, in this order, and downloads nothing:

1. ``COPILOT_CLI_PATH``, a file or a name on the ``PATH``; it alone counts when set;
2. the folder in which the SDK keeps the runtime it downloaded;
3. the terminal's ``copilot``, best the native runtime that it unpacked for itself;
4. our own cache.

`ensure_runtime` goes on to the SDK's own download from GitHub, then to npm.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from copilot_jupyter.errors import RuntimeMissingError
from copilot_jupyter.settings import cache_home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The release of ``@github/copilot-sdk-PLATFORM`` that is fetched from npm.
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

#: Seconds to wait for GitHub's first answer; the SDK itself would wait for minutes.
GITHUB_PATIENCE = 5.0

#: Seconds after which npm is given up.
NPM_PATIENCE = 600.0

#: Seconds for ``copilot --version``; the first one unpacks 235 MB.
VERSION_PATIENCE = 30.0

#: Age in seconds at which the leftovers of a killed download are removed.
STALE = 24 * 3600.0

_WRAPPER = "copilot-runtime.exe" if sys.platform == "win32" else "copilot-runtime"
_WHAT_TO_DO = (
    "Set COPILOT_CLI_PATH to a Copilot runtime, "
    "or run `copilot-jupyter setup` where there is a network."
)


class _NotHereError(Exception):
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
    return _find([])


def ensure_runtime(progress: Callable[[str], None]) -> Path:
    """Find a Copilot runtime, or fetch one.

    Parameters
    ----------
    progress : callable
        Told in one sentence what happens, each time before it takes a while.

    Returns
    -------
    Path
        The program to start, checked.

    Raises
    ------
    RuntimeMissingError
        Nothing was found and nothing could be fetched; lists what was tried.
    """
    failures: list[str] = []
    found = _find(failures)
    if found is not None:
        return found
    for place, fetch in (("download from GitHub", _fetch_with_sdk), ("npm", _fetch_with_npm)):
        try:
            return fetch(progress)
        except _NotHereError as reason:
            failures.append(f"{place}: {reason}")
    tried = "\n".join(f"  - {failure}" for failure in failures)
    raise RuntimeMissingError(
        f"There is no Copilot runtime for {runtime_platform()} on this machine, "
        f"and none could be fetched. Tried:\n{tried}",
        _WHAT_TO_DO,
    )


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


def _find(failures: list[str]) -> Path | None:
    """Look everywhere on this machine; say in `failures` why each place has none."""
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
        except _NotHereError as reason:
            failures.append(f"{place}: {reason}")
    return None


def _chosen(value: str) -> Path:
    path = Path(value) if Path(value).exists() else Path(shutil.which(value) or value)
    try:
        return _checked(path.absolute())
    except _NotHereError as reason:
        raise RuntimeMissingError(
            f"COPILOT_CLI_PATH is set to {value!r}, which cannot be used: {reason}.",
            "Correct it, or unset it to have the runtime found.",
        ) from None


def _in_sdk_folder() -> Path:
    return _checked(_sdk_folder() / "prebuilds" / runtime_platform() / _WRAPPER)


def _sdk_folder() -> Path:
    """Return the folder of the SDK's runtime, by the SDK's own rules."""
    override = os.environ.get("COPILOT_CLI_EXTRACT_DIR")
    if override:
        return Path(override).absolute()
    version = re.sub(r"[^a-zA-Z0-9._\-]", "_", _sdk_runtime_version())
    return _user_cache("github-copilot-sdk") / "cli" / version


def _sdk_runtime_version() -> str:
    """Return the runtime version that the installed SDK asks for.

    Read from the SDK's source: importing the SDK takes a second.
    """
    spec = importlib.util.find_spec("copilot")
    if spec is None or spec.origin is None:
        raise _NotHereError("github-copilot-sdk is not installed")
    source = Path(spec.origin).with_name("_cli_version.py")
    try:
        text = source.read_text("utf-8")
    except OSError as error:
        raise _NotHereError(f"the SDK does not say which runtime it wants ({error})") from None
    match = re.search(r'^CLI_VERSION\b.*=\s*"([^"]+)"', text, re.MULTILINE)
    if match is None:
        raise _NotHereError(f"the SDK names no runtime version in {source}")
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
        raise _NotHereError("not on the PATH")
    version = _terminal_version(program)
    if _numbers(version) < OLDEST:
        raise _NotHereError(f"{program} is version {version}, too old; run `copilot update`")
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
            return _checked(folder / "prebuilds" / name / _WRAPPER)
        except _NotHereError:
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
        raise _NotHereError(f"{program} did not say its version ({error})") from None
    match = re.search(r"GitHub Copilot CLI (\d+\.\d+\.\d+\S*?)\.?\s", answer.stdout + "\n")
    if match is None:
        raise _NotHereError(f"{program} is not GitHub's Copilot CLI")
    return match[1]


def _numbers(version: str) -> tuple[int, int, int]:
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else (0, 0, 0)


def _in_our_cache() -> Path:
    return _checked(_our_folder() / "prebuilds" / runtime_platform() / _WRAPPER)


def _our_folder() -> Path:
    # The platform is part of the name because a home folder may be shared by machines.
    return cache_home() / "runtime" / f"{NPM_VERSION}-{runtime_platform()}"


def _checked(program: Path) -> Path:
    """Return `program` if it is there and can be started."""
    if not program.is_file():
        raise _NotHereError(f"there is no file {program}")
    if not os.access(program, os.X_OK):
        raise _NotHereError(f"{program} may not be executed")
    library = program.with_name("runtime.node")
    if program.name == _WRAPPER and not (library.is_file() and library.stat().st_size):
        raise _NotHereError(f"{program} has no runtime.node beside it")
    return program


# --- Fetching ----------------------------------------------------------------


def _fetch_with_sdk(progress: Callable[[str], None]) -> Path:
    """Let the SDK download the runtime it was made for."""
    for name in ("COPILOT_SKIP_CLI_DOWNLOAD", "COPILOT_OFFLINE"):
        if os.environ.get(name, "").lower() in {"1", "true", "yes"}:
            raise _NotHereError(f"not tried, since {name} is set")
    version = _sdk_runtime_version()
    progress(f"Downloading the Copilot runtime {version} from GitHub ...")
    try:
        from copilot._cli_download import ensure_runtime_wrapper
        from copilot._cli_version import get_checksums_url
    except ImportError as error:
        raise _NotHereError(f"this SDK downloads no runtime ({error})") from None
    _reach(get_checksums_url(version))
    try:
        return _checked(Path(ensure_runtime_wrapper(version)))
    except (RuntimeError, OSError, tarfile.TarError, zlib.error, EOFError) as error:
        raise _NotHereError(_short(str(error))) from None


def _reach(url: str) -> None:
    """Fail at once where there is no way to `url`; the SDK would try three times."""
    from http.client import HTTPException
    from urllib.request import build_opener

    try:
        build_opener().open(url, timeout=GITHUB_PATIENCE).close()
    except (OSError, HTTPException, ValueError) as error:
        raise _NotHereError(f"{url} cannot be reached ({_short(str(error))})") from None


def _fetch_with_npm(progress: Callable[[str], None]) -> Path:
    """Take the runtime out of GitHub's npm package for this platform."""
    name = runtime_platform()
    integrity = NPM_INTEGRITY.get(name)
    if integrity is None:
        raise _NotHereError(f"there is no package for {name}")
    npm = shutil.which("npm")
    if npm is None:
        raise _NotHereError("npm is not on the PATH")
    target = _our_folder()
    try:
        with fetching(target.parent) as folder:
            progress(f"Fetching the Copilot runtime with npm (about 50 MB, into {target}) ...")
            archive = _pack(npm, f"@github/copilot-sdk-{name}@{NPM_VERSION}", folder)
            _compare(archive, integrity)
            progress("Unpacking the Copilot runtime ...")
            _unpack(archive, folder / "unpacked")
            _put(folder / "unpacked", target)
        return _in_our_cache()
    except OSError as error:
        raise _NotHereError(f"{target.parent} cannot be written ({error})") from None


@contextlib.contextmanager
def fetching(parent: Path) -> Iterator[Path]:
    """Lend a folder inside `parent` for a download; it goes away with its contents.

    Parameters
    ----------
    parent : Path
        Where the download will end up: what is whole is moved there in one step.
        Made if need be; what a killed download left in it long ago is removed.

    Yields
    ------
    Path
        The folder.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(".fetch-*"):
        with contextlib.suppress(FileNotFoundError):  # another process is done with it
            if time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        dir=parent, prefix=".fetch-", ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def _pack(npm: str, package: str, folder: Path) -> Path:
    """Have npm, as its user configured it, put the package's archive into `folder`."""
    command = [npm, "pack", package, "--ignore-scripts", "--loglevel=error"]
    # npm's defaults take 70 seconds to find out that there is no network.
    command += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=NPM_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _NotHereError(f"npm failed ({error})") from None
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        raise _NotHereError(f"npm could not fetch {package} ({_short(done.stderr)})")
    return archives[0]


def _compare(archive: Path, integrity: str) -> None:
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != integrity:
        raise _NotHereError(f"{archive.name} is not the package it should be (wrong sha512)")


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack plain files and folders under ``package/``; refuse everything else.

    Done by hand because the Python 3.11.2 of Debian 12 has no extraction filters,
    and a package with links or with paths that lead out is no package of ours.
    """
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                path = PurePosixPath(member.name)
                inside = path.parts[:1] == ("package",) and ".." not in path.parts
                if (
                    not inside
                    or set("\\:") & set(member.name)
                    or not (member.isfile() or member.isdir())
                ):
                    raise _NotHereError(f"{archive.name} holds the entry {member.name!r}")
                target = folder.joinpath(*path.parts[1:])
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                source = members.extractfile(member)
                if source is not None:
                    with source, target.open("wb") as file:
                        shutil.copyfileobj(source, file, 1 << 20)
                target.chmod(0o755 if member.mode & 0o100 else 0o644)
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise _NotHereError(f"{archive.name} is damaged ({error})") from None


def _put(folder: Path, target: Path) -> None:
    """Move `folder` to `target` in one step; another process may do the same."""
    _checked(folder / "prebuilds" / runtime_platform() / _WRAPPER)
    for _ in range(2):
        try:
            folder.replace(target)
        except OSError:
            if _is_whole(target):
                return  # another process was first, with the same bytes
            with contextlib.suppress(FileNotFoundError):
                target.replace(folder.with_name("broken"))  # goes with the temporary folder
        else:
            return


def _is_whole(target: Path) -> bool:
    try:
        _checked(target / "prebuilds" / runtime_platform() / _WRAPPER)
    except _NotHereError:
        return False
    return True


def _short(text: str) -> str:
    """Return the first two telling lines of what a program said."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith("npm error")] or lines
    return " ".join(line.removeprefix("npm error").strip() for line in telling[:2])[:300]
