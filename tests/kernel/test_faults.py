"""One fault at a time in a real notebook: what the person sees, and that nothing is lost.

The same faults without a kernel, and more of them, are in tests/runtime: test_whole_turns.py,
test_damage.py, test_one_writer.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from desk import Desk, ask, reloaded, runtime_of, session_of, two_lines
from drivers import wait_gone
from scripted_model import Reply, ScriptedModel

from copilot_jupyter.conversation.lock import lock_file
from copilot_jupyter.runtime import shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from drivers import NotebookKernel, Result

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(300)]

EARLIER = ["first", "second"]


class Talk:
    """A session of two turns, bound to a notebook whose kernel has asked before."""

    def __init__(self, desk: Desk, kernel: NotebookKernel, model: ScriptedModel, name: str) -> None:
        self.desk = desk
        self.kernel = kernel
        self.model = model
        self.session = name
        kernel.run(f"%copilot_new {name}").ok()
        self.answers = [ask(kernel, prompt).ok().shown for prompt in EARLIER]
        model.forget()

    @property
    def folder(self) -> Path:
        return self.desk.home / "session-state" / self.session

    @property
    def lock(self) -> Path:
        return lock_file(self.desk.store.ours, self.session)

    def goes_on(self, prompts: list[str] = EARLIER, *, silently: bool = True) -> Result:
        """Check that the next turn works, with these before it; then let the session go."""
        self.model.forget()
        after = ask(self.kernel, "after").ok()
        [request] = self.model.requests
        assert request.prompts == [*prompts, "after"]
        assert request.answers == self.answers[: len(prompts)]
        assert self.desk.prompts(self.session) == [*prompts, "after"]
        assert all(turn.complete for turn in self.desk.turns(self.session))
        assert not silently or len(after.displays) == 1
        self.lets_go()
        return after

    def lets_go(self) -> None:
        self.kernel.run("%copilot_release").ok()
        assert not self.lock.exists()
        assert self.desk.store.holders(self.session) == []


@pytest.fixture(scope="module")
def notebook(shared_desk: Desk) -> NotebookKernel:
    return shared_desk.notebook()


@pytest.fixture
def talk(shared_desk: Desk, notebook: NotebookKernel) -> Talk:
    shared_desk.model.forget()
    return Talk(shared_desk, notebook, shared_desk.model, f"talk-{time.time_ns()}")


# -- the provider fails ---

#: What the model does, how often the runtime tries it, and what the error says.
FAILURES = {
    "400": (Reply(status=400), 1, "answered 400"),
    "401": (Reply(status=401), 3, "refused the credentials (401)"),
    "403": (Reply(status=403), 1, "refused the credentials (403)"),
    "404": (Reply(status=404), 1, "answered 404"),
    "429": (Reply(status=429, headers={"retry-after": "1"}), 6, "is limiting requests (429)"),
    "bad body": (Reply(raw=b"<html>portal</html>"), 6, "did not answer properly"),
    "cut": (Reply("cut off", chunk=1, cut_after=3), 6, "did not answer properly"),
}


def fails(talk: Talk, result: Result, attempts: int, what: str) -> None:
    said = two_lines(result, "ProviderError")
    assert what in said
    assert len(talk.model.requests) == attempts
    assert talk.desk.prompts(talk.session) == EARLIER
    runtime = runtime_of(talk.kernel)
    talk.goes_on()
    assert runtime_of(talk.kernel) == runtime


@pytest.mark.parametrize("failure", FAILURES)
def test_the_provider_fails(talk: Talk, failure: str) -> None:
    reply, attempts, what = FAILURES[failure]
    talk.model.will(*[reply] * attempts)
    fails(talk, ask(talk.kernel, "broken", timeout=60), attempts, what)


def test_the_provider_is_down(desk: Desk, subtests: Any) -> None:
    """All three at once: the runtime takes up to 23 seconds before it gives up."""
    downs = {
        "500": (6, "answered 500"),
        "503": (6, "answered 503"),
        "refused": (0, "could not be reached"),
    }
    with ExitStack() as stack:
        running = {}
        for name in downs:
            model = stack.enter_context(ScriptedModel())
            kernel = desk.notebook(f"{name}.ipynb")
            kernel.run(f"%config Copilot.provider = '{model.base_url}'").ok()
            talk = Talk(desk, kernel, model, f"down-{name}")
            if name == "refused":
                model.close()
            else:
                model.will(*[Reply(status=int(name))] * 6)
            running[name] = (talk, kernel.start("%%copilot\nbroken"))
        for name, (talk, result) in running.items():
            with subtests.test(name):
                talk.kernel.finish(result, 60)
                if name == "refused":  # it is back, at another address
                    assert talk.model.requests == []
                    talk.model = stack.enter_context(ScriptedModel())
                    talk.kernel.run(f"%config Copilot.provider = '{talk.model.base_url}'").ok()
                    assert "could not be reached" in two_lines(result, "ProviderError")
                    talk.goes_on()
                else:
                    fails(talk, result, *downs[name])


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(hang=True), id="hang"),
        pytest.param(Reply("one two three", chunk=3, stall_after=2), id="stall"),
    ],
)
def test_the_provider_says_nothing(talk: Talk, reply: Reply) -> None:
    talk.kernel.run("%config Copilot.stall_timeout = 1").ok()
    talk.model.will(reply)
    said = two_lines(ask(talk.kernel, "broken"), "TurnStalledError")
    assert said.startswith("Nothing came from the model for 1 s")
    talk.kernel.run("%config Copilot.stall_timeout = 120").ok()
    talk.goes_on()


# -- the runtime is killed by what it runs ---


def test_the_first_line_of_a_tool_kills_the_runtime(desk: Desk) -> None:
    """What ran is never taken back, however soon the runtime ends after it.

    The runtime writes its transcript 60 to 90 ms behind (measured).
    """
    kernel = desk.notebook(env={"COPILOT_JUPYTER_ALLOW": "run_python"})
    talk = Talk(desk, kernel, desk.model, "killed-by-a-tool")
    code = f"import os\nos.kill({runtime_of(kernel).pid}, 9)\nran = 1"
    desk.model.will(Reply(tool="run_python", arguments=json.dumps({"code": code})))
    failed = ask(kernel, "broken")
    two_lines(failed, "RuntimeDiedError")
    assert "kept in the session, because run_python was used" in failed.everything
    assert kernel.run("ran").ok().shown == "1"
    desk.model.forget()
    ask(kernel, "after").ok()
    [request] = desk.model.requests
    assert request.prompts == [*EARLIER, "broken", "after"] == desk.prompts(talk.session)[:4]
    told = [m for m in request.messages if m.get("tool_calls") or m["role"] == "tool"]
    assert [m["role"] for m in told] == ["assistant", "tool"]
    assert "interrupted" in told[1]["content"]
    talk.lets_go()


# -- the transcript is damaged ---

Lines = list[bytes]

DAMAGES: dict[str, Callable[[Lines], Lines]] = {
    "torn tail": lambda lines: [*lines[:-1], lines[-1][: len(lines[-1]) // 2]],
    "garbage line": lambda lines: [*lines[:4], b"\xff\xfe garbage {\n", *lines[4:]],
    "NUL bytes": lambda lines: [*lines, b"\x00" * 4096],
    "merge markers": lambda lines: [
        *(*lines[:-1], b"<<<<<<< HEAD\n", lines[-1], b"=======\n", lines[-1]),
        b">>>>>>> theirs\n",
    ],
}


def damaged(talk: Talk, damage: Callable[[Lines], Lines]) -> bytes:
    """Damage the transcript of a session that nobody holds."""
    talk.lets_go()
    journal = talk.folder / "events.jsonl"
    content = b"".join(damage(journal.read_bytes().splitlines(keepends=True)))
    journal.write_bytes(content)
    return content


def is_kept_beside(talk: Talk, content: bytes) -> bool:
    return any(path.read_bytes() == content for path in talk.folder.glob("events.jsonl?*"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_transcript_is_mended_at_the_next_turn(talk: Talk, damage: str) -> None:
    content = damaged(talk, DAMAGES[damage])
    after = talk.goes_on(silently=False)
    [notice] = [o["data"]["text/plain"] for o in after.displays if "was damaged" in str(o["data"])]
    assert f"The transcript of {talk.session} was damaged (line " in notice
    assert is_kept_beside(talk, content)


def test_a_torn_answer_takes_its_prompt_along(talk: Talk) -> None:
    """The power failed while the answer was written."""

    def torn(lines: Lines) -> Lines:
        at = [n for n, line in enumerate(lines) if b'"assistant.message"' in line][-1]
        return [*lines[:at], lines[at][: len(lines[at]) // 2]]

    content = damaged(talk, torn)
    after = talk.goes_on(EARLIER[:1], silently=False)
    assert "A prompt that was cut off earlier was taken out: second" in after.everything
    assert is_kept_beside(talk, content)


def test_a_missing_first_line_is_left_to_the_doctor(talk: Talk) -> None:
    content = damaged(talk, lambda lines: lines[1:])
    said = two_lines(ask(talk.kernel, "broken"), "SessionDamagedError")
    assert "%copilot_doctor --fix" in said
    assert (talk.folder / "events.jsonl").read_bytes() == content  # not touched unasked
    assert talk.model.requests == []
    assert "second" in talk.kernel.run("%copilot_history").ok().shown  # it can be read
    talk.kernel.run("%copilot_doctor --fix").ok()
    assert is_kept_beside(talk, content)
    talk.goes_on()


# -- locks ---


@contextlib.contextmanager
def another_process() -> Iterator[psutil.Process]:
    """A live process that is neither a kernel nor a runtime."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.kill()


def released(talk: Talk, **changes: Any) -> None:
    """Leave a lock as another owner would have left it."""
    owner = json.loads(talk.lock.read_text())
    talk.lets_go()
    talk.lock.write_text(json.dumps({**owner, "token": "another", "what": "/x.ipynb", **changes}))


STALE = {
    "of a dead process": {"pid": 2**22 + 1},
    "of a pid given away since": {"started": 1.0},
    "of another boot": {"place": "another boot", "host": "this-machine-before"},
}


@pytest.mark.parametrize("stale", STALE)
def test_a_stale_lock_is_taken_over_silently(talk: Talk, stale: str) -> None:
    released(talk, **STALE[stale])
    silent = time.time() - 31  # seconds without a heartbeat
    os.utime(talk.lock, (silent, silent))
    talk.goes_on()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"\x00" * 100], ids=["empty", "torn", "null", "NUL"]
)
def test_a_lock_that_cannot_be_read_is_nobodys(talk: Talk, content: bytes) -> None:
    talk.lets_go()
    talk.lock.write_bytes(content)
    talk.goes_on()


def test_a_lock_of_another_host_holds_while_its_heart_beats(talk: Talk) -> None:
    released(talk, place="another boot", host="pod-7", pid=7)
    said = two_lines(ask(talk.kernel, "broken"), "SessionInUseError")
    assert "/x.ipynb (pid 7 on pod-7)" in said
    assert "--take-over" in said
    assert talk.model.requests == []
    talk.kernel.run(f"%copilot_resume {talk.session} --take-over").ok()
    talk.goes_on(silently=False)


def test_a_foreign_lock_of_the_runtime(talk: Talk) -> None:
    """A terminal, or a program of somebody else, has the session open."""
    with another_process() as process:
        foreign = talk.folder / f"inuse.{process.pid}.lock"
        foreign.write_text("")
        said = two_lines(ask(talk.kernel, "broken"), "SessionInUseError")
        assert f"(pid {process.pid})" in said
        assert talk.desk.prompts(talk.session) == EARLIER
    assert foreign.exists()  # of a dead process now
    talk.goes_on()


# -- the clock jumps ---

#: What a step of the system's clock changes in a process: the time, and the boot time that
#: Linux derives from it, on which psutil rests the start times of processes.
JUMP = """
import time, psutil
def _jumped(true, by):
    return lambda *a, **k: true(*a, **k) + by
time.time = _jumped(time.time, {by})
_system = psutil._psplatform
_system.boot_time = _jumped(_system.boot_time, {by})
"""


@pytest.mark.parametrize("by", [86_400, -86_400], ids=["forth", "back"])
def test_the_clock_jumps_under_the_holder(desk: Desk, by: int) -> None:
    kernel = desk.notebook()
    talk = Talk(desk, kernel, desk.model, "jumped")
    kernel.run(JUMP.format(by=by)).ok()
    time.sleep(2.5)  # heartbeats
    desk.model.will(Reply("one two three", chunk=3, pause=0.5))
    assert ask(kernel, "over the jump").ok().shown == "one two three"
    talk.answers.append("one two three")
    talk.goes_on([*EARLIER, "over the jump"])


@pytest.mark.parametrize("by", [3600, -3600], ids=["forth", "back"])
def test_the_clock_jumps_between_two_kernels(desk: Desk, by: int) -> None:
    """The holder lives, whatever the other kernel's clock says of its start time."""
    first, second = desk.notebook("First.ipynb"), desk.notebook("Second.ipynb")
    talk = Talk(desk, first, desk.model, "jumped")
    second.run(JUMP.format(by=by)).ok()
    second.run("%copilot_resume jumped").ok()
    said = two_lines(ask(second, "broken"), "SessionInUseError")
    assert str(first.path) in said
    talk.goes_on()


def test_a_lock_of_another_host_whose_clock_is_ahead(talk: Talk) -> None:
    """It counts as alive; the error offers the way out."""
    released(talk, place="another boot", host="pod-7", pid=7)
    ahead = time.time() + 3600
    os.utime(talk.lock, (ahead, ahead))
    assert "--take-over" in two_lines(ask(talk.kernel, "broken"), "SessionInUseError")
    talk.kernel.run(f"%copilot_resume {talk.session} --take-over").ok()
    talk.goes_on(silently=False)


# -- the disk ---

#: Set in the run of a test that has mounts of its own.
INSIDE = "TEST_WITH_MOUNTS_OF_ITS_OWN"


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


@pytest.fixture
def small_disk(request: pytest.FixtureRequest) -> bool:
    """Whether the test may mount what it likes; otherwise it was run so, and has passed."""
    if os.environ.get(INSIDE):
        return True
    if sys.platform != "linux":
        pytest.skip("needs a Linux mount namespace")
    root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    test = f"{request.path}::{request.node.name}"
    pytest_again = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        ["unshare", *root, "--mount", *pytest_again],
        env={**env, INSIDE: "yes"},
        cwd=request.config.rootpath,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    if done.returncode and "unshare:" in done.stderr and not os.environ.get("CI"):
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 1 passed" in f" {done.stdout.splitlines()[-1]}", done.stdout
    return False


def on_the_disk(desk: Desk) -> tuple[Talk, Path]:
    desk.home.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", "size=4m", "none", str(desk.home))
    return Talk(desk, desk.notebook(), desk.model, "small-disk"), desk.home


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def test_the_disk_is_full(small_disk: bool, desk: Desk) -> None:
    if not small_disk:
        return
    talk, home = on_the_disk(desk)
    fill(home / "filler")
    for _ in range(2):
        failed = ask(talk.kernel, "broken " + "x" * 9000)
        said = two_lines(failed)
        assert failed.ename in ("NotSavedError", "StateFolderError")
        assert "No space left" in said
        assert "Free some" in said
    assert talk.kernel.run("1 + 1").ok().shown == "2"
    assert "second" in talk.kernel.run("%copilot_history").ok().shown  # reading goes on
    (home / "filler").unlink()
    talk.goes_on(silently=False)  # half a line of the transcript may have to be mended
    reloaded(talk.kernel, talk.kernel.restart)
    talk.kernel.run("%copilot_resume small-disk").ok()
    ask(talk.kernel, "at last").ok()
    assert talk.model.requests[-1].prompts == [*EARLIER, "after", "at last"]


def test_the_disk_fills_in_mid_stream(small_disk: bool, desk: Desk) -> None:
    if not small_disk:
        return
    talk, home = on_the_disk(desk)
    talk.model.will(
        Reply("a slow answer " * 800, chunk=250, pause=0.01, first=lambda: fill(home / "filler"))
    )
    two_lines(ask(talk.kernel, "broken"), "NotSavedError")
    (home / "filler").unlink()
    talk.goes_on()


def test_the_state_folder_becomes_read_only(small_disk: bool, desk: Desk) -> None:
    if not small_disk:
        return
    talk, home = on_the_disk(desk)
    # Not `remount,ro`, which open files forbid: another view of the folder on top of it.
    mount("--bind", str(home), str(home))
    mount("-o", "remount,bind,ro", str(home))
    failed = ask(talk.kernel, "broken")
    assert "Read-only file system" in two_lines(failed)
    assert failed.ename in ("NotSavedError", "StateFolderError")
    assert "second" in talk.kernel.run("%copilot_history").ok().shown
    reloaded(talk.kernel, talk.kernel.restart)  # a new kernel reads, too, and cannot ask
    talk.kernel.run("%copilot_resume small-disk").ok()
    assert "second" in talk.kernel.run("%copilot_history").ok().shown
    said = two_lines(ask(talk.kernel, "broken"), "StateFolderError")
    assert "Read-only file system" in said
    subprocess.run(["umount", str(home)], check=True)
    talk.goes_on(silently=False)


# -- a runtime that is shared ---


def test_a_shared_runtime_is_killed_under_two_kernels(desk: Desk) -> None:
    talks = []
    for name in ("one", "two"):
        kernel = desk.notebook(f"{name}.ipynb", env={"COPILOT_JUPYTER_RUNTIME": "shared"})
        kernel.run("from copilot_jupyter.runtime import shared; shared.IDLE = 1").ok()
        talks.append(Talk(desk, kernel, desk.model, name))
    [server] = shared.servers(desk.store)
    desk.model.will(*[Reply("word " * 200, chunk=5, pause=0.05)] * 2)
    running = [talk.kernel.start("%%copilot\nbroken") for talk in talks]
    for talk, result in zip(talks, running, strict=True):
        talk.kernel.wait_for_text("word word", result)
    server.kill()
    for talk, result in zip(talks, running, strict=True):
        talk.kernel.finish(result, 20)
        two_lines(result, "RuntimeDiedError")
    assert wait_gone([server.pid], 3) == []
    for talk in talks:
        talk.goes_on()
    [another] = shared.servers(desk.store)  # one again, for both
    assert another.pid != server.pid
    for talk in talks:
        assert session_of(ask(talk.kernel, "at last")) == talk.session
        talk.kernel.kill9()
    assert wait_gone([another.pid], 15) == []  # nobody uses it
    assert list(shared.servers(desk.store)) == []
