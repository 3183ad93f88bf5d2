"""Fetch the Copilot runtime where this machine has none: from GitHub by the SDK, else with npm."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from copilot_jupyter.errors import RuntimeMissingError

from .locate import (
    NPM_INTEGRITY,
    NPM_VERSION,
    NotHereError,
    checked,
    our_folder,
    program_in,
    runtime_platform,
    sdk_runtime_version,
    search,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Seconds to wait for GitHub's first answer; the SDK itself would wait for minutes.
GITHUB_PATIENCE = 5.0

#: Seconds after which npm is given up.
NPM_PATIENCE = 600.0

#: Age in seconds at which the leftovers of a killed download are removed.
STALE = 24 * 3600.0


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
    found = search(failures)
    if found is not None:
        return found
    for place, fetch in (("download from GitHub", _fetch_with_sdk), ("npm", _fetch_with_npm)):
        try:
            return fetch(progress)
        except NotHereError as reason:
            failures.append(f"{place}: {reason}")
    tried = "\n".join(f"  - {failure}" for failure in failures)
    raise RuntimeMissingError(
        f"There is no Copilot runtime for {runtime_platform()} on this machine, "
        f"and none could be fetched. Tried:\n{tried}",
        "Set COPILOT_CLI_PATH to a Copilot runtime, "
        "or run `copilot-jupyter setup` where there is a network.",
    )


def _fetch_with_sdk(progress: Callable[[str], None]) -> Path:
    """Let the SDK download the runtime it was made for."""
    for name in ("COPILOT_SKIP_CLI_DOWNLOAD", "COPILOT_OFFLINE"):
        if os.environ.get(name, "").lower() in {"1", "true", "yes"}:
            raise NotHereError(f"not tried, since {name} is set")
    version = sdk_runtime_version()
    progress(f"Downloading the Copilot runtime {version} from GitHub ...")
    try:
        from copilot._cli_download import ensure_runtime_wrapper
        from copilot._cli_version import get_checksums_url
    except ImportError as error:
        raise NotHereError(f"this SDK downloads no runtime ({error})") from None
    _reach(get_checksums_url(version))
    try:
        return checked(Path(ensure_runtime_wrapper(version)))
    except (RuntimeError, OSError, tarfile.TarError, zlib.error, EOFError) as error:
        raise NotHereError(_short(str(error))) from None


def _reach(url: str) -> None:
    """Fail at once where there is no way to `url`; the SDK would try three times."""
    from http.client import HTTPException
    from urllib.request import build_opener

    try:
        build_opener().open(url, timeout=GITHUB_PATIENCE).close()
    except (OSError, HTTPException, ValueError) as error:
        raise NotHereError(f"{url} cannot be reached ({_short(str(error))})") from None


def _fetch_with_npm(progress: Callable[[str], None]) -> Path:
    """Take the runtime out of GitHub's npm package for this platform."""
    name = runtime_platform()
    integrity = NPM_INTEGRITY.get(name)
    if integrity is None:
        raise NotHereError(f"there is no package for {name}")
    npm = shutil.which("npm")
    if npm is None:
        raise NotHereError("npm is not on the PATH")
    target = our_folder()
    try:
        with fetching(target.parent) as folder:
            progress(f"Fetching the Copilot runtime with npm (about 50 MB, into {target}) ...")
            archive = _pack(npm, f"@github/copilot-sdk-{name}@{NPM_VERSION}", folder)
            _compare(archive, integrity)
            progress("Unpacking the Copilot runtime ...")
            _unpack(archive, folder / "unpacked")
            _put(folder / "unpacked", target)
        return checked(program_in(target))
    except OSError as error:
        raise NotHereError(f"{target.parent} cannot be written ({error})") from None


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
        raise NotHereError(f"npm failed ({error})") from None
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        raise NotHereError(f"npm could not fetch {package} ({_short(done.stderr)})")
    return archives[0]


def _compare(archive: Path, integrity: str) -> None:
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != integrity:
        raise NotHereError(f"{archive.name} is not the package it should be (wrong sha512)")


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
                    raise NotHereError(f"{archive.name} holds the entry {member.name!r}")
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
        raise NotHereError(f"{archive.name} is damaged ({error})") from None


def _put(folder: Path, target: Path) -> None:
    """Move `folder` to `target` in one step; another process may do the same."""
    checked(program_in(folder))
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
        checked(program_in(target))
    except NotHereError:
        return False
    return True


def _short(text: str) -> str:
    """Return the first two telling lines of what a program said."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith("npm error")] or lines
    return " ".join(line.removeprefix("npm error").strip() for line in telling[:2])[:300]
