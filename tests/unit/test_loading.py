"""Loading, loading again and unloading, in a real shell: what IPython says, and what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, magics_class
from traitlets.config import Config

from copilot_jupyter.conversation.sessions import Sessions
from copilot_jupyter.errors import CopilotError, SetupError
from copilot_jupyter.notebook import labcomm
from copilot_jupyter.notebook.desk import Desk
from copilot_jupyter.notebook.extension import MAGICS, current_desk
from copilot_jupyter.settings import Copilot

if TYPE_CHECKING:
    from collections.abc import Iterator

LOAD, RELOAD, UNLOAD = (f"%{how}load_ext copilot_jupyter" for how in ("", "re", "un"))


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    made = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    yield made
    made.run_cell(UNLOAD)
    made.restore_sys_module_state()


def is_loaded(shell: InteractiveShell) -> bool:
    """Whether it is, and IPython knows."""
    known = "copilot_jupyter" in shell.extension_manager.loaded
    assert known is (current_desk(shell) is not None)
    return known


def run(shell: InteractiveShell, capsys: pytest.CaptureFixture[str], *lines: str) -> str:
    """Run a cell and return what it has printed."""
    capsys.readouterr()
    result = shell.run_cell("\n".join(lines))
    assert result.success, result.error_in_exec
    return capsys.readouterr().out


def test_what_the_page_has_loaded_is_loaded_quietly_and_unloaded(shell, capsys):
    labcomm.autoload(shell)
    assert is_loaded(shell)
    desk = current_desk(shell)
    for _ in range(2):
        assert run(shell, capsys, LOAD) == ""
        assert is_loaded(shell)
        assert current_desk(shell) is desk
    assert run(shell, capsys, UNLOAD) == ""
    assert not is_loaded(shell)
    assert "not loaded" in run(shell, capsys, UNLOAD)


@pytest.mark.parametrize(
    "cell",
    [
        [RELOAD],
        [UNLOAD, LOAD],
        [LOAD, RELOAD],
        [LOAD, UNLOAD, LOAD],
        ["if True:", f"    {RELOAD}"],
    ],
    ids="; ".join,
)
def test_it_is_loaded_anew(shell, capsys, cell):
    labcomm.autoload(shell)
    desk = current_desk(shell)
    assert run(shell, capsys, *cell) == ""
    assert is_loaded(shell)
    assert current_desk(shell) is not desk


@pytest.mark.parametrize(
    "cell", [["if False:", f"    {LOAD}"], [f"x = '''\n{LOAD}\n'''"], [f"# {LOAD}"]], ids=repr
)
def test_a_line_that_is_not_run_changes_nothing(shell, capsys, cell):
    labcomm.autoload(shell)
    assert run(shell, capsys, *cell) == ""
    assert is_loaded(shell)
    assert run(shell, capsys, LOAD, UNLOAD) == ""
    assert not is_loaded(shell)


def test_a_cell_without_a_result_is_no_error(shell, capsys):
    """ipykernel says so where the cell's task was cancelled."""
    labcomm.autoload(shell)
    shell.events.trigger("post_run_cell", None)
    said = capsys.readouterr()
    assert said.out + said.err == ""


def test_magics_of_others_stay_theirs(shell):
    """ipykernel has KernelMagics of its own, for one."""

    @magics_class
    class KernelMagics(Magics):
        pass

    theirs = KernelMagics(shell)
    shell.register_magics(theirs)
    labcomm.autoload(shell)
    shell.register_magic_function(print, magic_name="copilot_status")
    assert shell.magics_manager.registry["KernelMagics"] is theirs
    shell.run_cell(UNLOAD)
    assert shell.magics_manager.registry["KernelMagics"] is theirs
    assert theirs in shell.configurables
    assert shell.find_line_magic("copilot_status") is print
    assert not {magics.__name__ for magics in MAGICS} & set(shell.magics_manager.registry)


def test_full_tracebacks_end_with_the_settings_they_belong_to(shell):
    labcomm.autoload(shell)
    for line in (RELOAD, UNLOAD):
        current_desk(shell).settings.full_tracebacks = True
        assert CopilotError.full_tracebacks
        shell.run_cell(line)
        assert not CopilotError.full_tracebacks
    shell.run_cell(LOAD)
    shell.run_cell("%config Copilot.full_tracebacks = True")
    shell.run_cell(RELOAD)  # IPython keeps what %config has set
    assert current_desk(shell).settings.full_tracebacks
    assert CopilotError.full_tracebacks


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_close_that_fails_leaves_nothing_registered(shell, monkeypatch, error):
    labcomm.autoload(shell)

    def close(_desk: Desk) -> None:
        assert current_desk(shell) is None
        raise error

    monkeypatch.setattr(Desk, "close", close)
    shell.run_cell(UNLOAD)
    assert current_desk(shell) is None
    assert shell.find_line_magic("copilot") is None
    monkeypatch.undo()
    assert shell.run_cell(LOAD).success


def test_what_was_kept_from_before_starts_nothing_and_says_why():
    for used in (True, False):
        sessions = Sessions(Copilot())
        if used:
            sessions.loop.call(sessions.release())
        sessions.close()
        sessions.close()
        with pytest.raises(SetupError, match=r"unloaded.*%load_ext copilot_jupyter"):
            sessions.loop.call(sessions.release())
        assert not sessions.loop.running
