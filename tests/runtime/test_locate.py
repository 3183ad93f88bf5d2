"""The runtime is found where it is, fetched where it is not, and never half there."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.server
import io
import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from typing import TYPE_CHECKING

import pytest
from fetched import CACHE

from copilot_jupyter.errors import RuntimeMissingError
from copilot_jupyter.runtime import fetch, locate
from copilot_jupyter.runtime.client import Runtime
from copilot_jupyter.runtime.fetch import ensure_runtime
from copilot_jupyter.runtime.locate import find_runtime, runtime_platform
from copilot_jupyter.state.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLATFORM = runtime_platform()

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the little programs are scripts")


@pytest.fixture(autouse=True)
def bare(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no runtime: empty caches, and a PATH with nothing but `bin` and sh."""
    for name in ("COPILOT_CLI_PATH", "COPILOT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COPILOT_JUPYTER_CACHE", str(tmp_path / "ours"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COPILOT_CLI_DOWNLOAD_BASE_URL", "http://127.0.0.1:9")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


#: The programs that the real npm needs, looked up before a test empties the PATH.
NPM = [shutil.which(name) for name in ("npm", "node", "env", "sh")]


@pytest.fixture
def with_npm(bare: Path) -> None:
    """The real npm, and still no `copilot` that the developer may have."""
    for path in NPM:
        assert path, "this test needs npm"
        (bare / "bin" / path.rpartition("/")[2]).symlink_to(path)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GitHub's real npm package, fetched once and kept between test runs."""
    kept = CACHE / f"copilot-sdk-{PLATFORM}-{locate.NPM_VERSION}.tgz"
    if not kept.exists():
        folder = tmp_path_factory.mktemp("npm")
        npm = shutil.which("npm")
        assert npm, "these tests need npm"
        name = f"@github/copilot-sdk-{PLATFORM}@{locate.NPM_VERSION}"
        CACHE.mkdir(parents=True, exist_ok=True)
        shutil.copy(fetch._pack(npm, name, folder), kept.with_suffix(".part"))
        kept.with_suffix(".part").replace(kept)
    return kept


def program(path: Path, script: str = "exit 0", *, library: bool = True) -> Path:
    """A little executable; one called copilot-runtime gets its library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    if library and path.name == "copilot-runtime":
        path.with_name("runtime.node").write_text("library")
    return path


def in_sdk_folder(bare: Path) -> Path:
    version = locate.sdk_runtime_version()
    folder = bare / "cache" / "github-copilot-sdk" / "cli" / version
    return folder / "prebuilds" / PLATFORM / "copilot-runtime"


def unpacked(bare: Path, version: str) -> Path:
    folder = bare / "cache" / "copilot" / "pkg" / PLATFORM / version
    return folder / "prebuilds" / PLATFORM / "copilot-runtime"


def in_our_cache(bare: Path) -> Path:
    folder = bare / "ours" / "runtime" / f"{locate.NPM_VERSION}-{PLATFORM}"
    return folder / "prebuilds" / PLATFORM / "copilot-runtime"


def archive(path: Path, *entries: tarfile.TarInfo | str) -> Path:
    """A package of the right shape, with `entries` in addition."""
    names = [f"package/prebuilds/{PLATFORM}/{n}" for n in ("copilot-runtime", "runtime.node")]
    with tarfile.open(path, "w:gz") as file:
        for entry in (*names, *entries):
            info = tarfile.TarInfo(entry) if isinstance(entry, str) else entry
            info.mode = 0o755
            info.size = 4 if info.isfile() else 0
            file.addfile(info, io.BytesIO(b"text"))
    return path


def npm_that_gives(bare: Path, package: Path, script: str = "") -> None:
    """An npm that puts `package` into its folder, whatever it is asked for."""
    program(bare / "bin" / "npm", f"{script}\n/bin/cp '{package}' ./package.tgz")


def trust(monkeypatch: pytest.MonkeyPatch, package: Path) -> None:
    """Pin this archive instead of GitHub's."""
    digest = hashlib.sha512(package.read_bytes()).digest()
    integrity = f"sha512-{base64.b64encode(digest).decode()}"
    monkeypatch.setitem(locate.NPM_INTEGRITY, PLATFORM, integrity)


def why_not(bare: Path) -> str:
    """Why `ensure_runtime` fails here, having left nothing behind."""
    with pytest.raises(RuntimeMissingError) as raised:
        ensure_runtime(lambda _: None)
    assert not [*(bare / "ours").glob("runtime/*")], "something was left behind"
    return str(raised.value)


def only_the_runtime_is_kept(bare: Path) -> bool:
    kept = [path.name for path in (bare / "ours" / "runtime").iterdir()]
    return kept == [f"{locate.NPM_VERSION}-{PLATFORM}"]


# --- Looking -----------------------------------------------------------------


def test_an_empty_machine_has_none():
    assert find_runtime() is None


def test_looking_imports_no_sdk_and_makes_no_folder(bare: Path):
    code = """
        import sys
        from copilot_jupyter.runtime.locate import find_runtime
        print(find_runtime(), "copilot" in sys.modules)
    """
    out = subprocess.check_output([sys.executable, "-c", textwrap.dedent(code)], text=True)
    assert out == "None False\n"
    assert not (bare / "ours").exists()


def test_places_are_tried_in_the_documented_order(bare: Path, monkeypatch: pytest.MonkeyPatch):
    chosen = program(bare / "mine" / "copilot-runtime")
    in_order = [
        chosen,
        program(in_sdk_folder(bare)),
        program(unpacked(bare, "1.0.102")),
        program(bare / "bin" / "copilot", "echo 'GitHub Copilot CLI 1.0.102.'"),
        program(in_our_cache(bare)),
    ]
    monkeypatch.setenv("COPILOT_CLI_PATH", str(chosen))
    for expected in in_order:
        assert find_runtime() == expected
        assert ensure_runtime(pytest.fail) == expected, "and nothing is fetched"
        monkeypatch.delenv("COPILOT_CLI_PATH", raising=False)
        expected.unlink()
    assert find_runtime() is None


def test_the_chosen_one_may_be_a_name_on_the_path(bare: Path, monkeypatch: pytest.MonkeyPatch):
    mine = program(bare / "bin" / "my-copilot")
    monkeypatch.setenv("COPILOT_CLI_PATH", "my-copilot")
    assert find_runtime() == mine


@pytest.mark.parametrize(
    ("name", "mode", "why"),
    [
        ("nowhere/copilot-runtime", None, "there is no file"),
        ("plain", 0o644, "may not be executed"),
        ("copilot-runtime", 0o755, "has no runtime.node beside it"),
    ],
)
def test_a_chosen_one_that_cannot_be_used_is_named(
    bare: Path, monkeypatch: pytest.MonkeyPatch, name: str, mode: int | None, why: str
):
    program(in_our_cache(bare))
    if mode is not None:
        program(bare / name, library=False).chmod(mode)
    monkeypatch.setenv("COPILOT_CLI_PATH", str(bare / name))
    for find in (find_runtime, lambda: ensure_runtime(pytest.fail)):
        with pytest.raises(RuntimeMissingError, match=why) as raised:
            find()
        assert f"COPILOT_CLI_PATH is set to '{bare / name}'" in raised.value.what


def test_the_sdk_agrees_where_its_folder_is(bare: Path, monkeypatch: pytest.MonkeyPatch):
    from copilot._cli_download import get_cache_dir
    from copilot._cli_version import CLI_VERSION, get_runtime_platform

    assert runtime_platform() == get_runtime_platform()
    assert locate._sdk_folder() == get_cache_dir(CLI_VERSION)
    monkeypatch.setenv("COPILOT_CLI_EXTRACT_DIR", str(bare / "elsewhere"))
    assert locate._sdk_folder() == get_cache_dir(CLI_VERSION)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("COPILOT_CLI_EXTRACT_DIR")
    assert locate._sdk_folder() == get_cache_dir(CLI_VERSION)


def test_the_newest_whole_unpacked_runtime_is_taken(bare: Path):
    program(unpacked(bare, "1.0.99"))
    newest = program(unpacked(bare, "1.0.102"))
    program(unpacked(bare, "1.0.103"), library=False)
    (bare / "cache/copilot/pkg/tmp").mkdir()
    assert find_runtime() == newest


def test_a_runtime_on_which_turns_never_end_is_not_taken(bare: Path):
    program(unpacked(bare, "1.0.64-0"))
    program(bare / "bin" / "copilot", "echo 'GitHub Copilot CLI 1.0.64-0.'")
    assert find_runtime() is None
    assert "version 1.0.64-0, too old" in why_not(bare)


def test_the_terminal_copilot_is_asked_and_unpacks_its_native_runtime(bare: Path):
    native = unpacked(bare, "1.0.102")
    program(bare / "ready" / "copilot-runtime")
    program(
        bare / "bin" / "copilot",
        f"/bin/mkdir -p {native.parent} && /bin/cp {bare}/ready/* {native.parent}/\n"
        "echo 'GitHub Copilot CLI 1.0.102.'\necho \"Run 'copilot update' to check for updates.\"",
    )
    assert find_runtime() == native


@pytest.mark.parametrize("script", ["echo 'copilot version: v1.34.1'", "exit 3", "kill -9 $$"])
def test_another_tool_of_that_name_is_not_taken(bare: Path, script: str):
    program(bare / "bin" / "copilot", script)
    assert find_runtime() is None
    assert "is not GitHub's Copilot CLI" in why_not(bare)


def test_a_copilot_that_waits_for_a_person_is_given_up(bare: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(locate, "VERSION_PATIENCE", 0.2)
    program(bare / "bin" / "copilot", "exec /bin/sleep 20")
    assert find_runtime() is None


# --- Fetching ----------------------------------------------------------------


def test_the_error_lists_all_that_was_tried_and_what_to_do(bare: Path):
    text = why_not(bare)
    for line in (
        "COPILOT_CLI_PATH: not set",
        f"the SDK's folder: there is no file {in_sdk_folder(bare)}",
        "`copilot` of the terminal: not on the PATH",
        f"our cache: there is no file {in_our_cache(bare)}",
        "download from GitHub: http://127.0.0.1:9/v",
        "npm: npm is not on the PATH",
    ):
        assert f"\n  - {line}" in text
    assert "Set COPILOT_CLI_PATH" in text
    assert "copilot-jupyter setup" in text


@pytest.mark.parametrize("name", ["COPILOT_SKIP_CLI_DOWNLOAD", "COPILOT_OFFLINE"])
def test_github_is_not_even_tried_when_told_so(
    bare: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.setenv(name, "true")
    monkeypatch.setattr(fetch, "_reach", pytest.fail)
    assert f"download from GitHub: not tried, since {name} is set" in why_not(bare)


class Releases(http.server.BaseHTTPRequestHandler):
    """GitHub's releases, on loopback."""

    package = b""
    digest = ""
    hangs = False

    def do_GET(self) -> None:
        if self.hangs:
            time.sleep(1.0)
            return
        name = f"github-copilot-{locate.sdk_runtime_version()}-{PLATFORM}.tgz"
        sums = f"{self.digest}  {name}\n".encode()
        body = sums if self.path.endswith("SHA256SUMS.txt") else self.package
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def releases(bare: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Releases]]:
    class Handler(Releases):
        package = archive(bare / "release.tgz").read_bytes()
        digest = hashlib.sha256(package).hexdigest()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setenv(
            "COPILOT_CLI_DOWNLOAD_BASE_URL", f"http://127.0.0.1:{server.server_port}"
        )
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield Handler
        server.shutdown()
        thread.join()


def test_the_sdk_downloads_its_own_runtime(bare: Path, releases: type[Releases]):
    told: list[str] = []
    assert ensure_runtime(told.append) == in_sdk_folder(bare)
    assert told == [
        f"Downloading the Copilot runtime {locate.sdk_runtime_version()} from GitHub ..."
    ]
    assert find_runtime() == in_sdk_folder(bare)


def test_a_release_with_a_wrong_sum_is_refused(bare: Path, releases: type[Releases]):
    releases.digest = "0" * 64
    assert "Checksum mismatch" in why_not(bare)
    assert find_runtime() is None


def test_github_that_does_not_answer_costs_little(
    bare: Path, releases: type[Releases], monkeypatch: pytest.MonkeyPatch
):
    releases.hangs = True
    monkeypatch.setattr(fetch, "GITHUB_PATIENCE", 0.2)
    started = time.monotonic()
    assert "cannot be reached (timed out)" in why_not(bare)
    assert time.monotonic() - started < 3


@pytest.mark.usefixtures("with_npm")
def test_the_real_package_is_fetched_and_starts(bare: Path):
    told: list[str] = []
    found = ensure_runtime(told.append)
    assert found == in_our_cache(bare)
    assert [line.split()[0] for line in told] == ["Downloading", "Fetching", "Unpacking"]
    assert find_runtime() == found
    assert only_the_runtime_is_kept(bare)
    with subprocess.Popen(
        [found, "--headless", "--no-auto-update", "--no-auto-login", "--port", "0"],
        env={**os.environ, "COPILOT_OFFLINE": "true", "COPILOT_CONNECTION_TOKEN": "test"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert "listening on port" in process.stdout.readline()
        process.kill()


@pytest.mark.usefixtures("with_npm")
def test_npm_without_a_registry_says_why(bare: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_cache", str(bare / "npm"))
    started = time.monotonic()
    assert "npm could not fetch @github/copilot-sdk-" in (text := why_not(bare))
    assert "ECONNREFUSED" in text
    assert time.monotonic() - started < 15


def test_a_platform_without_a_package_says_so(bare: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(locate.platform, "machine", lambda: "riscv64")
    assert "npm: there is no package for linux" in why_not(bare)


def test_npm_that_fails_is_quoted(bare: Path):
    program(bare / "bin" / "npm", "echo 'npm warn x' >&2; echo 'npm error 404 gone' >&2; exit 1")
    assert "(404 gone)" in why_not(bare)


def test_another_package_than_the_pinned_one_is_refused(bare: Path):
    npm_that_gives(bare, archive(bare / "other.tgz"))
    assert "(wrong sha512)" in why_not(bare)


@pytest.mark.parametrize("cut", [40, 0.2, 0.6])
def test_a_truncated_archive_is_refused(bare: Path, monkeypatch: pytest.MonkeyPatch, cut: float):
    whole = archive(bare / "whole.tgz", *(f"package/more/{n}" for n in range(50)))
    data = whole.read_bytes()
    whole.write_bytes(data[: int(cut) if cut > 1 else int(len(data) * cut)])
    npm_that_gives(bare, whole)
    assert "(wrong sha512)" in why_not(bare)
    trust(monkeypatch, whole)
    assert "is damaged" in why_not(bare)


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "entry",
    [
        "../outside",
        "package/../../outside",
        "package/../../../../outside",
        "/tmp/outside",
        "elsewhere/outside",
        "package/..\\outside",
        "package/C:/outside",
        link("package/outside", "/etc/passwd", tarfile.SYMTYPE),
        link("package/outside", "../../outside", tarfile.LNKTYPE),
        link("package/outside", "", tarfile.FIFOTYPE),
    ],
    ids=lambda e: e if isinstance(e, str) else f"type {e.type.decode()}",
)
def test_an_archive_that_leads_out_is_refused(
    bare: Path, monkeypatch: pytest.MonkeyPatch, entry: tarfile.TarInfo | str
):
    evil = archive(bare / "evil.tgz", entry)
    npm_that_gives(bare, evil)
    trust(monkeypatch, evil)
    assert "holds the entry" in why_not(bare)
    assert not list(bare.rglob("outside"))


def test_an_archive_without_a_runtime_is_refused(bare: Path, monkeypatch: pytest.MonkeyPatch):
    with tarfile.open(bare / "empty.tgz", "w:gz") as file:
        file.addfile(tarfile.TarInfo("package/package.json"))
    npm_that_gives(bare, bare / "empty.tgz")
    trust(monkeypatch, bare / "empty.tgz")
    assert "there is no file" in why_not(bare)


def test_two_processes_fetch_at_once(bare: Path, package: Path):
    """Both unpack the real package; both end with the one whole runtime."""
    # Each npm waits until the other has been called too, so that neither finds the other's.
    npm_that_gives(
        bare,
        package,
        f": > {bare}/called.$$\nn=0\n"
        f"until [ $(/bin/ls {bare}/called.* | /usr/bin/wc -l) -ge 2 ] || [ $n -ge 200 ]; "
        "do /bin/sleep 0.05; n=$((n+1)); done",
    )
    code = """
        from copilot_jupyter.runtime.fetch import ensure_runtime
        print(ensure_runtime(lambda line: None))
    """
    both = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, "COPILOT_OFFLINE": "true"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert [process.communicate()[0] for process in both] == [f"{in_our_cache(bare)}\n"] * 2
    assert len(list(bare.glob("called.*"))) == 2
    assert only_the_runtime_is_kept(bare)


def test_a_runtime_that_another_process_put_there_first_stays(
    bare: Path, monkeypatch: pytest.MonkeyPatch
):
    good = archive(bare / "good.tgz")
    first = program(bare / "first" / "prebuilds" / PLATFORM / "copilot-runtime", "echo first")
    target = in_our_cache(bare).parents[2]
    npm_that_gives(bare, good, f"/bin/cp -r {bare}/first {target}")
    trust(monkeypatch, good)
    assert ensure_runtime(lambda _: None).read_text() == first.read_text()
    assert only_the_runtime_is_kept(bare)


def test_a_damaged_runtime_in_our_cache_is_replaced(bare: Path, monkeypatch: pytest.MonkeyPatch):
    good = archive(bare / "good.tgz")
    npm_that_gives(bare, good)
    trust(monkeypatch, good)
    program(in_our_cache(bare), library=False)
    assert find_runtime() is None
    assert ensure_runtime(lambda _: None) == in_our_cache(bare)
    assert in_our_cache(bare).with_name("runtime.node").read_bytes() == b"text"
    assert only_the_runtime_is_kept(bare)


def test_a_cache_that_cannot_be_written_is_named(bare: Path):
    npm_that_gives(bare, archive(bare / "good.tgz"))
    (bare / "ours").write_text("a file")
    with pytest.raises(RuntimeMissingError, match="cannot be written"):
        ensure_runtime(lambda _: None)


def test_leftovers_of_killed_downloads_go_after_a_day(bare: Path):
    for name, age in ((".fetch-old", 25 * 3600), (".fetch-young", 3600)):
        (bare / "to" / name).mkdir(parents=True)
        os.utime(bare / "to" / name, (time.time() - age,) * 2)
    with fetch.fetching(bare / "to") as folder:
        assert {path.name for path in (bare / "to").iterdir()} == {".fetch-young", folder.name}
    assert [path.name for path in (bare / "to").iterdir()] == [".fetch-young"]


def test_what_is_fetched_is_said_by_the_turn_that_waits_for_it(tmp_path):
    lines: list[tuple[str, str]] = []
    runtime = Runtime(Store(tmp_path), say=lambda line: lines.append(("the kernel", line)))

    async def turn(name: str) -> None:
        with runtime.saying_to(lambda line: lines.append((name, line))):
            await asyncio.sleep(0)
            await asyncio.to_thread(runtime.say, "Fetching")

    async def both() -> None:
        await asyncio.gather(turn("one"), turn("two"))
        runtime.say("Fetching")

    asyncio.run(both())
    assert sorted(lines[:2]) == [("one", "Fetching"), ("two", "Fetching")]
    assert lines[2:] == [("the kernel", "Fetching")]
