"""A real JupyterLab or Notebook 7, and a page of it in a real Chromium.

`Lab` is the server, in a folder of its own that no configuration of this
machine reaches. `Browser` is one headless Chromium. `NotebookPage` is one
notebook open in it, driven as a person drives it: keys, commands, dialogs.

Two facts that cost others a day (jupyter-facts.md, section 6): a cell has
ended when its prompt shows no star, while a kernel that says "idle" may still
be in the middle of one; and the box of ``input()`` loses what is typed in its
first half second.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import nbformat
from browser import chromium
from drivers import MARK, NOT_INHERITED, descendants, end_all, marked
from playwright.sync_api import Browser as PlaywrightBrowser
from playwright.sync_api import ConsoleMessage, Locator, Playwright, sync_playwright
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page as PlaywrightPage
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import psutil

App = Literal["lab", "notebook"]

#: Seconds a server may take to come up.
SERVER_LIMIT = 60.0
#: Seconds a page may take to show its notebook, on a busy machine.
PAGE_LIMIT = 60.0
#: What is typed into the box of input() before this many seconds is lost (measured).
STDIN_SETTLES = 0.5

_ARGUMENTS = [
    "--no-sandbox",
    "--no-proxy-server",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {
        "checkForUpdates": False,
        "fetchNews": "false",
    },
}


# --- the server ------------------------------------------------------------------------------


class Lab:
    """One Jupyter server on loopback; use it as a context manager.

    Parameters
    ----------
    folder
        An empty folder for everything: notebooks in ``root``, and beside it
        the configuration, data and logs of this server alone.
    env
        Variables for the server and so for its kernels, over those of this
        process; None removes one.
    app
        ``lab`` or ``notebook``.
    """

    def __init__(
        self, folder: Path, *, env: Mapping[str, str | None] | None = None, app: App = "lab"
    ) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.env = dict(env or {})
        self.app: App = app
        self.token = uuid.uuid4().hex
        self.url = ""
        self._mark = uuid.uuid4().hex
        self._family: set[psutil.Process] = set()
        self.orphans: list[psutil.Process] = []
        """Processes that outlived the server by two seconds and had to be ended."""

    def __enter__(self) -> Lab:
        self.root.mkdir(parents=True, exist_ok=True)
        for name, value in _SETTINGS.items():
            file = self.folder / "settings" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(value))
        command = [
            *(sys.executable, "-m", "jupyter", self.app),
            "--no-browser",
            "--expose-app-in-browser",
            "--ServerApp.ip=127.0.0.1",
            "--ServerApp.port=0",  # the server picks a free one and says which
            f"--ServerApp.root_dir={self.root}",
            f"--IdentityProvider.token={self.token}",
        ]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--allow-root")
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.root,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What the server and its kernels wrote to their terminal."""
        return (self.folder / "server.log").read_text(errors="replace")

    def write(self, name: str, *sources: str) -> Path:
        """Write a notebook of code cells, not yet run, into the root."""
        kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec})
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)
        return path

    def read(self, name: str) -> nbformat.NotebookNode:
        """Read a notebook as it is on disk."""
        return nbformat.read(self.root / name, as_version=4)

    def ask(self, path: str) -> Any:
        """Return what the server's own interface says, for example ``api/sessions``."""
        request = urllib.request.Request(
            f"{self.url}{path}", headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)

    def address(self, name: str) -> str:
        """Return the address that opens one notebook."""
        if self.app == "notebook":
            return f"{self.url}notebooks/{name}?token={self.token}"
        workspace = uuid.uuid4().hex[:8]
        return f"{self.url}lab/workspaces/{workspace}/tree/{name}?token={self.token}&reset"

    def stop(self) -> None:
        """End the server, its kernels and what these left behind."""
        self.remember()
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self.orphans = end_all({*self._family, *marked(self._mark)})

    def remember(self) -> None:
        """Note the processes below the server, to find them again should they outlive it."""
        self._family.update(descendants(self._process.pid))

    def _environment(self) -> dict[str, str]:
        own: dict[str, str | None] = {
            **dict.fromkeys(NOT_INHERITED),
            MARK: self._mark,
            "JUPYTER_CONFIG_DIR": str(self.folder / "config"),
            "JUPYTER_DATA_DIR": str(self.folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.folder / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(self.folder / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self.folder / "workspaces"),
            "IPYTHONDIR": str(self.folder / "ipython"),
            "JUPYTER_PLATFORM_DIRS": "1",
        }
        merged: dict[str, str | None] = {**os.environ, **own, **self.env}
        return {name: value for name, value in merged.items() if value is not None}

    def _wait_until_up(self) -> None:
        info = self.folder / "runtime" / f"jpserver-{self._process.pid}.json"
        deadline = time.monotonic() + SERVER_LIMIT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the {self.app} server ended at once\n{self.log[-3000:]}")
            with contextlib.suppress(OSError, ValueError):
                self.url = json.loads(info.read_text())["url"]
                self.ask("api/status")
                return
            time.sleep(0.05)
        raise TimeoutError(f"the {self.app} server did not come up\n{self.log[-3000:]}")


# --- the browser -----------------------------------------------------------------------------


class Browser:
    """One headless Chromium; use it as a context manager.

    Each page it opens has a profile of its own, as another person would have.
    """

    def __enter__(self) -> Browser:
        self._manager = sync_playwright()
        self._playwright: Playwright = self._manager.start()
        try:
            program = chromium.require(self._playwright.chromium.executable_path)
            self._browser: PlaywrightBrowser = self._playwright.chromium.launch(
                executable_path=program, args=_ARGUMENTS
            )
        except BaseException:
            self._playwright.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._browser.close()
        self._playwright.stop()

    def open(self, lab: Lab, name: str, *, width: int = 1200, height: int = 900) -> NotebookPage:
        """Open a notebook of a server, and wait until its kernel is ready."""
        context = self._browser.new_context(viewport={"width": width, "height": height})
        page = NotebookPage(context.new_page(), lab, name)
        page.reload()
        return page


#: Uncaught exceptions of Notebook 7.2 and 7.6, with or without us.
NOTEBOOK_7 = ("(reading 'schema')", "(reading 'last_modified')", "debug_request")


@dataclass(frozen=True)
class ConsoleLine:
    """One line of the page's console."""

    kind: str
    """`error`, `warning`, `log`...; `pageerror` is an exception that nobody caught."""
    text: str
    source: str = ""


# --- a notebook in it ------------------------------------------------------------------------

_WIDGET = "const nb = window.jupyterapp.shell.currentWidget;"
_PROMPT = "const prompt = nb.content.widgets[i].node.querySelector('.jp-InputPrompt');"


class NotebookPage:
    """One notebook open in the browser; cells are counted from 0."""

    def __init__(self, page: PlaywrightPage, lab: Lab, name: str) -> None:
        self.page = page
        self.lab = lab
        self.name = name
        self.console: list[ConsoleLine] = []
        self.page.set_default_timeout(15_000)
        self.page.on("console", self._note)
        self.page.on(
            "pageerror", lambda error: self.console.append(ConsoleLine("pageerror", str(error)))
        )

    # --- the page ---

    def reload(self) -> None:
        """Open the notebook anew, as after a closed tab; the kernel lives on."""
        self.page.goto(self.lab.address(self.name))
        self._wait("() => !!window.jupyterapp", PAGE_LIMIT, "the application")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=PAGE_LIMIT * 1000)
        self.wait_for_kernel(PAGE_LIMIT)

    def close(self) -> None:
        """Close the tab; the kernel lives on."""
        self.page.context.close()

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """Run JavaScript in the page and return its value."""
        return self.page.evaluate(script, argument)

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is: ``"Control+Enter"``, ``"ArrowDown"``."""
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        """Type text, key by key, wherever the focus is."""
        self.page.keyboard.type(text)

    def screenshot(self, path: Path) -> Path:
        """Take a picture of the page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)
        return path

    def errors(self, *about: str) -> list[ConsoleLine]:
        """Return the console's errors, only those that name one of `about` if given.

        JupyterLab has errors of its own (a workspace that is not there yet is
        a 404); those of uncaught exceptions count whatever they name, but for
        those of Notebook 7's own.
        """
        found = [
            line
            for line in self.console
            if line.kind in ("error", "pageerror")
            and not any(own in line.text for own in NOTEBOOK_7)
        ]
        if not about:
            return found
        return [
            line
            for line in found
            if line.kind == "pageerror"
            or any(word.lower() in (line.text + line.source).lower() for word in about)
        ]

    # --- commands, kernel ---

    def command(self, name: str, arguments: Any = None, *, timeout: float = 30.0) -> None:
        """Run a command of the application and wait for its end."""
        self.finish(self.start_command(name, arguments), timeout)

    def start_command(self, name: str, arguments: Any = None) -> str:
        """Begin a command and return a handle for `finish`."""
        handle = uuid.uuid4().hex
        self.evaluate(
            """([handle, name, args]) => {
                const runs = window.__runs = window.__runs || {};
                runs[handle] = 'running';
                window.jupyterapp.commands.execute(name, args || {}).then(
                    () => { runs[handle] = 'done'; },
                    error => { runs[handle] = 'failed: ' + error; });
            }""",
            [handle, name, arguments],
        )
        return handle

    def finish(self, handle: str, timeout: float = 30.0) -> None:
        """Wait for the end of a started command."""
        ended = "handle => window.__runs[handle] !== 'running'"
        self._wait(ended, timeout, "a command to end", handle)
        state = self.evaluate("handle => window.__runs[handle]", handle)
        if state != "done":
            raise RuntimeError(f"the command {state}")

    def wait_for_kernel(self, timeout: float = 30.0) -> None:
        """Wait until the notebook has a kernel that is idle."""
        self._wait(
            """() => {
                const nb = window.jupyterapp.shell.currentWidget;
                const kernel = nb?.sessionContext?.session?.kernel;
                return kernel?.status === 'idle' && kernel.connectionStatus === 'connected';
            }""",
            timeout,
            "an idle kernel",
        )

    def restart(self, *, run_all: bool = False, timeout: float = 60.0) -> None:
        """Choose *Restart Kernel* (or *Restart Kernel and Run All*) and confirm the dialog."""
        name = "runmenu:restart-and-run-all" if run_all else "kernelmenu:restart"
        self.lab.remember()
        handle = self.start_command(name)
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        self.finish(handle, timeout)
        if not run_all:
            self.wait_for_kernel()

    def interrupt(self) -> None:
        """Press the stop button."""
        self.command("kernelmenu:interrupt")

    def save(self) -> nbformat.NotebookNode:
        """Save the notebook and return what is on disk."""
        self.command("docmanager:save")
        return self.lab.read(self.name)

    # --- cells ---

    def select(self, index: int) -> None:
        """Make a cell the active one, in command mode."""
        self.evaluate(
            f"""i => {{ {_WIDGET}
                nb.content.deselectAll();
                nb.content.activeCellIndex = i;
                nb.content.mode = 'command';
                nb.content.activate();
            }}""",
            index,
        )

    def write(self, index: int, source: str) -> None:
        """Click into a cell and replace what it holds, through the keyboard."""
        self.select(index)
        self.cell(index).locator(".cm-content").first.click()
        self.press("Control+a", "Delete")
        self.page.keyboard.insert_text(source)
        self._wait(
            f"([i, text]) => {{ {_WIDGET} return "
            "nb.content.widgets[i].model.sharedModel.getSource() === text; }",
            10,
            f"cell {index} to hold what was typed",
            [index, source],
        )

    def insert_below(self, index: int, source: str = "") -> int:
        """Insert a cell below another, write into it, return its index."""
        self.select(index)
        self.command("notebook:insert-cell-below")
        if source:
            self.write(index + 1, source)
        return index + 1

    def run(self, index: int, timeout: float = 60.0, *, wait: bool = True) -> str:
        """Run a cell with Control+Enter's command; return a handle for `wait_done`."""
        self.select(index)
        handle = self.start_command("notebook:run-cell")
        if wait:
            self.wait_done(index, timeout, handle)
        return handle

    def run_all(self, timeout: float = 120.0) -> None:
        """Choose *Run All Cells* and wait until no cell has a star."""
        self.command("runmenu:run-all", timeout=timeout)
        self._wait(
            "() => [...document.querySelectorAll('.jp-InputPrompt')]"
            ".every(prompt => !prompt.innerText.includes('*'))",
            timeout,
            "all cells to end",
        )

    def wait_done(self, index: int, timeout: float = 60.0, handle: str | None = None) -> None:
        """Wait until a cell has ended: its prompt shows no star."""
        self._wait(
            f"""([i, handle]) => {{ {_WIDGET} {_PROMPT}
                return !!prompt && !prompt.innerText.includes('*')
                    && (!handle || window.__runs[handle] !== 'running');
            }}""",
            timeout,
            f"cell {index} to end",
            [index, handle],
        )

    def prompt(self, index: int) -> str:
        """What stands to the left of a cell: ``[1]:``, ``[*]:``, ``[ ]:``."""
        script = f"i => {{ {_WIDGET} {_PROMPT} return prompt ? prompt.innerText : ''; }}"
        return str(self.evaluate(script, index))

    def cells(self) -> list[dict[str, Any]]:
        """All cells as the page holds them, saved or not, as in the file."""
        return list(self.evaluate(f"() => {{ {_WIDGET} return nb.content.model.toJSON().cells; }}"))

    def metadata(self) -> dict[str, Any]:
        """The notebook's metadata as the page holds them."""
        script = f"() => {{ {_WIDGET} return nb.content.model.toJSON().metadata; }}"
        return dict(self.evaluate(script))

    def source(self, index: int) -> str:
        """The source of a cell as the page holds it."""
        script = f"i => {{ {_WIDGET} return nb.content.widgets[i].model.sharedModel.getSource(); }}"
        return str(self.evaluate(script, index))

    def outputs(self, index: int) -> list[dict[str, Any]]:
        """The outputs of a cell as the page holds them."""
        return list(self.cells()[index].get("outputs", []))

    def error_outputs(self) -> list[str]:
        """The name and message of every error output in the notebook."""
        return [
            f"{output['ename']}: {output['evalue']}"
            for cell in self.cells()
            for output in cell.get("outputs", [])
            if output["output_type"] == "error"
        ]

    def cell(self, index: int) -> Locator:
        """A cell, to look into it with Playwright's own means."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def output(self, index: int) -> Locator:
        """The output area of a cell."""
        return self.cell(index).locator(".jp-Cell-outputWrapper")

    def text(self, index: int) -> str:
        """The text a reader sees below a cell now, without the prompts beside it."""
        shown = self.output(index).locator(".jp-OutputArea-output")
        return "\n".join(shown.all_inner_texts()).strip()

    def wait_for_text(self, index: int, text: str, timeout: float = 30.0) -> None:
        """Wait until a reader sees `text` below a cell, ended or not."""
        self._wait(
            f"""([i, text]) => {{ {_WIDGET}
                const area = nb.content.widgets[i].node.querySelector('.jp-Cell-outputWrapper');
                return !!area && area.innerText.includes(text);
            }}""",
            timeout,
            f"{text!r} below cell {index}",
            [index, text],
        )

    def answer(self, text: str, timeout: float = 30.0) -> None:
        """Type an answer into the box of ``input()`` and press Enter."""
        box = self.page.locator(".jp-Stdin-input").last
        box.wait_for(timeout=timeout * 1000)
        self.page.wait_for_timeout(STDIN_SETTLES * 1000)
        box.fill(text)
        box.press("Enter")

    # --- inside ---

    def _note(self, message: ConsoleMessage) -> None:
        source = str(message.location.get("url", ""))
        self.console.append(ConsoleLine(message.type, message.text, source))

    def _wait(self, script: str, timeout: float, what: str, argument: Any = None) -> None:
        try:
            self.page.wait_for_function(script, arg=argument, timeout=timeout * 1000)
        except PlaywrightTimeoutError:
            raise TimeoutError(self._complaint(what, timeout)) from None

    def _complaint(self, what: str, timeout: float) -> str:
        console = "\n".join(f"{line.kind}: {line.text}" for line in self.errors()[-10:])
        with contextlib.suppress(PlaywrightError):
            prompts = [self.prompt(i) for i in range(len(self.cells()))]
            what = f"{what}; prompts {' '.join(prompts)}"
        return (
            f"waited {timeout:.0f} s for {what}\n--- console ---\n{console}\n"
            f"--- server ---\n{self.lab.log[-2000:]}"
        )
