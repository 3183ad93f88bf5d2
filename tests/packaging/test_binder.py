"""Binder without Docker: repo2docker's base, our requirements, postBuild and start.

Only the image is missing: the versions of repo2docker's lock go into a virtual environment
of the Python that ``binder/runtime.txt`` names, and the rest is what repo2docker would run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote

import psutil
import pytest
from drivers import descendants, end_all
from environments import Environment, clone, interpreter
from fetched import CACHE

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(600)]

BASE = Path(__file__).with_name("repo2docker-base.txt")
REPO2DOCKER = "jupyter-repo2docker==2026.4.0"
TOKEN = "of-this-test-only"


class Binder:
    """The folder that a Binder shows, and the environment that it runs in."""

    def __init__(self, folder: Path) -> None:
        self.tree = clone(folder / "repository")
        wanted = (self.tree / "binder/runtime.txt").read_text().strip().removeprefix("python-")
        python = interpreter(wanted) or sys.executable
        print(f"Binder's Python is {wanted}; this check runs on {python}")
        self.environment = Environment(folder, python)
        self.environment.install("--requirement", str(BASE))
        self.said = [
            self.run("pip", "install", "--no-cache-dir", "-r", "binder/requirements.txt"),
            self.run("./binder/postBuild"),
        ]

    def run(self, *command: str, **more: str) -> str:
        """Run something as the build does; the runtime and the model are fetched once."""
        more = {"COPILOT_JUPYTER_CACHE": str(CACHE), **more}
        return self.environment.run(*command, cwd=self.tree, **more)

    def execute(self, notebook: Path, *options: str, **more: str) -> list[dict]:
        """Run a notebook as its kernel runs behind `start`; return its code cells."""
        command = ("jupyter", "execute", "--inplace", *options, str(notebook))
        self.run("./binder/start", *command, **more)
        return code(notebook)


@pytest.fixture(scope="module")
def binder(tmp_path_factory):
    return Binder(tmp_path_factory.mktemp("binder"))


def code(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def answers(cells):
    """What the cells that ask show, and what is known about it."""
    asked = [cell for cell in cells if "".join(cell["source"]).startswith("%%copilot")]
    return [cell["outputs"][-1] for cell in asked]


def with_cells(notebook, target, *sources):
    """Copy a notebook and put cells at its end."""
    content = json.loads(notebook.read_text())
    for number, source in enumerate(sources):
        cell = {"cell_type": "code", "id": f"new-{number}", "metadata": {}, "source": source}
        content["cells"].append({**cell, "outputs": [], "execution_count": None})
    target.write_text(json.dumps(content))
    return target


def test_nothing_that_repo2docker_installed_is_broken(binder):
    assert "No broken requirements" in binder.run("pip", "check")
    said = binder.run("jupyter", "labextension", "list")
    assert re.search(r"copilot-jupyter v\S+.*enabled.*OK", said), said


def test_the_build_has_the_runtime_and_the_model(binder):
    assert re.search(r"^runtime: \S+", binder.said[1], re.MULTILINE)
    assert re.search(r"^model: +\S+\.gguf", binder.said[1], re.MULTILINE)


@pytest.mark.parametrize("name", ["01-quickstart.ipynb", "02-run-all-is-free.ipynb"])
def test_a_notebook_replays_and_nobody_is_asked(binder, name):
    """There is not even a runtime that could ask."""
    notebook = binder.tree / "notebooks" / name
    before = answers(code(notebook))
    cells = binder.execute(notebook, COPILOT_CLI_PATH=str(binder.tree / "no-runtime"))
    after = answers(cells)
    assert after
    assert [output["data"] for output in after] == [output["data"] for output in before]
    assert all(output["metadata"]["copilot_jupyter"]["replayed"] for output in after)


def test_a_new_prompt_is_answered_by_the_embedded_model_and_the_way_to_sign_in_leads_on(binder):
    quickstart = binder.tree / "notebooks/01-quickstart.ipynb"
    first = "".join(json.loads(quickstart.read_text())["cells"][0]["source"])
    [switch, login] = re.findall(r"`(%c\S+ .*?)`", first.partition("In a Binder, to ask")[2])
    notebook = with_cells(
        *(quickstart, quickstart.with_name("New.ipynb")),
        *(switch, "%%copilot\nName one tree.", login),
        *("%config Copilot.provider = 'local'", "%%copilot\nName one fruit."),
    )
    cells = binder.execute(notebook, "--allow-errors")
    switched, refused, asked, back, new = cells[-5:]
    assert switched["outputs"] == back["outputs"] == []
    assert "nobody is signed in" in refused["outputs"][-1]["evalue"]
    assert "%copilot_login" in refused["outputs"][-1]["evalue"]
    assert "type a token" in asked["outputs"][-1]["evalue"]  # it asked, and nobody is here
    [answer] = answers([new])
    about = answer["metadata"]["copilot_jupyter"]
    assert about["model"] == "SmolLM2-135M-Instruct"
    assert about["turn"] == 3  # behind the two that were replayed
    assert "replayed" not in about
    assert "".join(answer["data"]["text/plain"]).strip()


def test_an_account_that_is_there_is_left_in_force(binder):
    show = ("python", "-c", "import os; print(os.environ.get('COPILOT_JUPYTER_PROVIDER'))")
    assert binder.run("./binder/start", *show).strip() == "local"
    for name in ("GH_TOKEN", "COPILOT_GITHUB_TOKEN", "COPILOT_PROVIDER_BASE_URL"):
        assert binder.run("./binder/start", *show, **{name: "x"}).strip() == "None"
    assert binder.run("./binder/start", "false", fails=True) == ""


def test_jupyterlab_comes_up_behind_start_on_the_quickstart(binder, tmp_path):
    runtime_folder = tmp_path / "runtime"
    # Told which port: jupyter_server 2.17, of repo2docker's lock, names port 0 as its address.
    command = ["./binder/start", "jupyter", "lab", "--no-browser", "--ip=127.0.0.1"]
    command += [f"--port={_free_port()}", f"--IdentityProvider.token={TOKEN}", "--allow-root"]
    more = {"JUPYTER_RUNTIME_DIR": str(runtime_folder), "COPILOT_JUPYTER_CACHE": str(CACHE)}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command,
            cwd=binder.tree,
            env=binder.environment.variables(**more),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        url = _address(server, runtime_folder, tmp_path / "log")
        assert _get(f"{url}api/status")["kernels"] == 0
        with pytest.raises(urllib.error.HTTPError, match="403"):
            _get(f"{url}api/status", token="another")
        text = (binder.tree / "docs/binder.md").read_text()
        [path] = set(re.findall(r"\?urlpath=([\w%.-]+)", text))
        kind, _, notebook = unquote(path).partition("/tree/")
        assert kind == "lab"
        assert _get(f"{url}api/contents/{notebook}")["type"] == "notebook"
        kernel = _get(f"{url}api/kernels", b'{"name": "python3"}')
        assert kernel["name"] == "python3"
        [process] = [p for p in descendants(server.pid) if "ipykernel_launcher" in p.cmdline()]
        assert process.environ()["COPILOT_JUPYTER_PROVIDER"] == "local"
        assert "COPILOT_OFFLINE" not in process.environ()
    finally:
        family = {psutil.Process(server.pid), *descendants(server.pid)}
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(20)
        finally:
            end_all(family)


def test_repo2docker_accepts_the_configuration(tmp_path):
    """It writes the Dockerfile that it would build, and needs no Docker for that."""
    tree = clone(tmp_path / "repository")
    repo2docker = [sys.executable, "-m", "uv", "tool", "run", "--from", REPO2DOCKER]
    done = subprocess.run(
        [*repo2docker, "jupyter-repo2docker", "--no-build", "--debug", "."],
        cwd=tree,
        env={**os.environ, "UV_PYTHON_DOWNLOADS": "never"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout + done.stderr
    assert 'install --no-cache-dir -r "binder/requirements.txt"' in said
    assert "RUN ./binder/postBuild" in said
    assert 'R2D_ENTRYPOINT="${REPO_DIR}/binder/start"' in said
    assert re.search(r"environment\.py-3\.12\S*\.lock|python.?3\.12", said), said[-3000:]


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _address(server, runtime_folder, log):
    """Return the address of the server as soon as it answers there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        for info in runtime_folder.glob("jpserver-*.json"):
            with contextlib.suppress(OSError, ValueError):  # not listening yet, half written
                url = str(json.loads(info.read_text())["url"])
                _get(f"{url}api")
                return url
        time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not come up:\n{log.read_text()[-2000:]}")


def _get(url, body=None, token=TOKEN):
    request = urllib.request.Request(url, body, {"Authorization": f"token {token}"})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=30) as response:
        return json.loads(response.read())
