"""What the package shows, what loading it does (nothing), and which room may know which."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import copilot_jupyter
from copilot_jupyter.errors import BadInputError
from copilot_jupyter.notebook.magics.ask_magics import FLAGS

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(copilot_jupyter.__file__).parent

#: What must stay out until it is used: slow, or needless for reading.
HEAVY = ("copilot", "ipywidgets", "anywidget", "pygments", "markdown_it", "yaml")

# -- names ------------------------------------------------------------------------------------


def test_every_public_name_is_there_and_in_order():
    assert copilot_jupyter.__all__ == sorted(copilot_jupyter.__all__)
    for name in copilot_jupyter.__all__:
        assert callable(getattr(copilot_jupyter, name))


def test_nothing_public_is_missing_from_the_list():
    lazy = {*copilot_jupyter._HOMES, "load_ipython_extension", "unload_ipython_extension"}
    assert lazy == set(copilot_jupyter.__all__)


def test_the_few_names_are_these():
    """A new public name is a decision: it changes this line."""
    assert copilot_jupyter.__all__ == [
        "Answer",
        "Conversation",
        "CopilotError",
        "SessionPicker",
        "ask",
        "ask_async",
        "current",
        "load_ipython_extension",
        "unload_ipython_extension",
    ]


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'copilot_jupyter' has no attribute 'nonsense'"):
        _ = copilot_jupyter.nonsense


# -- loading starts nothing -------------------------------------------------------------------

_WATCH = """
import json, os, sys, threading
home = os.environ["COPILOT_HOME"]
touched, started = [], []
def watch(event, args):
    if event in ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec", "socket.connect"):
        started.append(event)
    elif args and isinstance(args[0], (str, bytes)) and os.fsdecode(args[0]).startswith(home):
        touched.append(f"{event} {os.fsdecode(args[0])}")
"""

_LOAD = """
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
threads, modules = set(threading.enumerate()), set(sys.modules)
sys.addaudithook(watch)
shell.extension_manager.load_extension("copilot_jupyter")
assert shell.find_line_magic("copilot") and shell.find_cell_magic("copilot")
"""

_IMPORT = """
threads, modules = set(threading.enumerate()), set(sys.modules)
sys.addaudithook(watch)
import copilot_jupyter
"""

_REPORT = """
import psutil
new = sorted({name.partition(".")[0] for name in set(sys.modules) - modules})
left = [str(thread) for thread in set(threading.enumerate()) - threads]
children = [str(child) for child in psutil.Process().children()]
with open(sys.argv[1], "w") as file:
    json.dump({"modules": new, "touched": touched, "started": started,
               "threads": left, "children": children}, file)
"""


@pytest.fixture(scope="module", params=["import", "load"])
def quiet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Any], subprocess.CompletedProcess[str], Path]:
    """What a fresh process saw while it imported the package, or loaded the extension."""
    folder = tmp_path_factory.mktemp(request.param)
    home = folder / "home"
    code = _WATCH + (_LOAD if request.param == "load" else _IMPORT) + _REPORT
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "report.json")],
        env={"COPILOT_HOME": str(home), "IPYTHONDIR": str(folder / "ipython"), "PATH": "/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return request.param, json.loads((folder / "report.json").read_text()), done, home


def test_loading_imports_nothing_heavy(quiet):
    _, seen, _, _ = quiet
    assert "copilot_jupyter" in seen["modules"]
    assert set(seen["modules"]) & set(HEAVY) == set()


def test_importing_does_not_even_import_ipython(quiet):
    way, seen, _, _ = quiet
    if way == "import":
        assert "IPython" not in seen["modules"]


def test_loading_prints_nothing(quiet):
    _, _, done, _ = quiet
    assert (done.stdout, done.stderr) == ("", "")


def test_loading_starts_no_thread_no_process_no_connection(quiet):
    _, seen, _, _ = quiet
    assert (seen["threads"], seen["children"], seen["started"]) == ([], [], [])


def test_loading_touches_nothing_in_the_state_folder(quiet):
    _, seen, _, home = quiet
    assert seen["touched"] == []
    assert not home.exists()


# -- unloading --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shell() -> Iterator[InteractiveShell]:
    """A bare shell, neither terminal nor kernel."""
    made = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    yield made
    made.restore_sys_module_state()


def hooks(shell: InteractiveShell) -> dict[str, Any]:
    """Return everything in a shell that an extension can hang itself into."""
    completers = shell.strdispatchers.get("complete_command")
    return {
        "line magics": sorted(shell.magics_manager.magics["line"]),
        "cell magics": sorted(shell.magics_manager.magics["cell"]),
        "classes of magics": sorted(shell.magics_manager.registry),
        "token transformers": list(shell.input_transformer_manager.token_transformers),
        "line transformers": list(shell.input_transformers_post),
        "cleanups": list(shell.input_transformers_cleanup),
        "syntax trees": list(shell.ast_transformers),
        "configurables": list(map(id, shell.configurables)),
        "events": {name: list(calls) for name, calls in shell.events.callbacks.items()},
        "variables": sorted(shell.user_ns),
        "matchers": list(shell.Completer.custom_matchers),
        "completers": {
            getattr(key, "pattern", key): [function for _, function in chain.chain]
            for key, chain in [
                *(completers.strs.items() if completers else ()),
                *(completers.regexs.items() if completers else ()),
            ]
            if chain.chain
        },
    }


def test_loading_brings_every_magic(shell):
    copilot_jupyter.load_ipython_extension(shell)
    try:
        for name in FLAGS:
            assert shell.find_line_magic(name) is not None, name
        assert shell.find_cell_magic("copilot") is not None
        assert type(shell.configurables[-1]).__name__ == "Copilot"
    finally:
        copilot_jupyter.unload_ipython_extension(shell)


def test_every_magic_has_its_flags_declared(shell):
    before = hooks(shell)["line magics"]
    copilot_jupyter.load_ipython_extension(shell)
    try:
        assert set(hooks(shell)["line magics"]) - set(before) == set(FLAGS)
    finally:
        copilot_jupyter.unload_ipython_extension(shell)


def test_unloading_takes_everything_out_again(shell):
    before = hooks(shell)
    copilot_jupyter.load_ipython_extension(shell)
    assert hooks(shell) != before
    copilot_jupyter.unload_ipython_extension(shell)
    assert hooks(shell) == before


def test_load_unload_load_leaves_it_loaded_once(shell):
    before = hooks(shell)
    copilot_jupyter.load_ipython_extension(shell)
    once = hooks(shell)
    copilot_jupyter.unload_ipython_extension(shell)
    copilot_jupyter.load_ipython_extension(shell)
    again = hooks(shell)
    copilot_jupyter.unload_ipython_extension(shell)
    assert len(again.pop("configurables")) == len(once.pop("configurables"))
    callbacks = [[*map(len, found.pop("events").values())] for found in (once, again)]
    assert callbacks[0] == callbacks[1]
    assert again == once
    assert hooks(shell) == before


def test_unloading_what_is_not_loaded_does_nothing(shell):
    before = hooks(shell)
    copilot_jupyter.unload_ipython_extension(shell)
    assert hooks(shell) == before


def test_a_load_that_fails_leaves_nothing_behind(shell, monkeypatch):
    before = hooks(shell)
    monkeypatch.setenv("COPILOT_JUPYTER_PROVIDER", "nonsense")
    with pytest.raises(BadInputError):
        copilot_jupyter.load_ipython_extension(shell)
    assert hooks(shell) == before


def test_asking_from_python_without_the_extension_says_what_to_run():
    with pytest.raises(copilot_jupyter.CopilotError, match="%load_ext copilot_jupyter"):
        copilot_jupyter.ask("Hello")


# -- the rooms --------------------------------------------------------------------------------

#: What each room may import of the package, besides itself.
HALL = {"errors", "events", "garbage", "interrupts", "settings"}
MAY = {
    "errors": set(),
    "events": set(),
    "garbage": set(),
    "interrupts": {"errors"},
    "settings": {"errors"},
    "state": HALL,
    "runtime": HALL | {"state"},
    "conversation": HALL | {"state", "runtime"},
    "notebook": HALL | {"state", "runtime", "conversation"},
}

#: Foreign packages that only one room may know.
ONLY = {
    "copilot": {"runtime"},
    "IPython": {"notebook", "__init__", "cli", "demo", "startup"},
    "ipywidgets": {"notebook"},
    "anywidget": {"notebook"},
    "ipykernel": {"notebook"},
}

FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


#: All but the front door (``__init__``, ``cli``, ``demo``, ``startup``), which may know every room.
IN_ROOMS = [path for path in FILES if room(path) in MAY]


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports anywhere in it, in full."""
    found = set()
    package = ["copilot_jupyter", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", IN_ROOMS, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_between_rooms_go_one_way(path):
    here = room(path)
    rooms = {
        name.split(".")[1]
        for name in imports(path)
        if name.startswith("copilot_jupyter.") and name.split(".")[1] in MAY
    }
    assert rooms - {here} <= MAY[here]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_foreign_packages_stay_in_their_room(path):
    used = {name.partition(".")[0] for name in imports(path)}
    for package, rooms in ONLY.items():
        assert package not in used or room(path) in rooms, f"{package} in {path}"


def test_every_file_is_in_a_room_or_at_the_front_door():
    front_door = {"__init__", "__main__", "cli", "demo", "startup"}
    assert {room(path) for path in FILES} - set(MAY) <= front_door


def test_the_check_of_the_rooms_sees_relative_and_nested_imports(tmp_path, monkeypatch):
    """The reader of imports is itself seen to find them."""
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    folder = tmp_path / "conversation"
    folder.mkdir()
    file = folder / "a.py"
    file.write_text("def f():\n    from ..notebook import magics\n    import copilot.rpc\n")
    assert imports(file) == {"copilot_jupyter.notebook.magics", "copilot.rpc"}
