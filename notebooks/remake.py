"""Make the notebooks of this folder anew: asked for real, then saved as a replay shows them.

Run with ``make notebooks``. Each notebook is run once on the embedded model with an empty
state folder, its session is exported as a bundle beside it, and it is run once more from
that bundle alone, with no model and no runtime: those outputs are what is saved, and what
``pytest --nbval notebooks/`` compares.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from copilot_jupyter.demo import clear
from copilot_jupyter.runtime.fetch import ensure_runtime
from copilot_jupyter.runtime.local_model import LocalModel
from copilot_jupyter.runtime.model_file import fetch_model

HERE = Path(__file__).parent


def main() -> int:
    """Make all notebooks, or those named on the command line."""
    names = sys.argv[1:] or sorted(path.name for path in HERE.glob("*.ipynb"))
    runtime = ensure_runtime(print)
    fetch_model(print)
    for name in names:
        remake(HERE / name, runtime)
    return 0


def remake(path: Path, runtime: Path) -> None:
    """Make one notebook and its bundle anew."""
    notebook = nbformat.read(path, as_version=4)
    [session] = set(re.findall(r"^%copilot_resume (\S+)", sources(notebook), re.M))
    bundle = HERE / f"{session}.copilot.jsonl"
    bundle.unlink(missing_ok=True)
    clear(notebook)  # what it carries would be answer enough
    nbformat.write(notebook, path)
    with tempfile.TemporaryDirectory() as folder, LocalModel() as model:
        live = {
            "COPILOT_HOME": f"{folder}/live",
            "COPILOT_CLI_PATH": str(runtime),
            "COPILOT_PROVIDER_BASE_URL": model.base_url,
            "COPILOT_PROVIDER_API_KEY": model.api_key,
            "COPILOT_MODEL": model.name,
            "COPILOT_JUPYTER_SYSTEM_MESSAGE": model.system_prompt,
            "COPILOT_JUPYTER_TOOLS": "",  # it is too small to call any
        }
        asked = nbformat.from_dict(notebook)
        asked.cells.append(nbformat.v4.new_code_cell(f"%copilot_export {bundle.name}"))
        run(asked, live)
        print(asked.cells[-1].outputs[0]["data"]["text/plain"])
        run(notebook, {"COPILOT_HOME": f"{folder}/replay", "COPILOT_JUPYTER_REPLAY": "only"})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{path.stem}-{number:02}"
        cell.metadata.pop("execution", None)
        if "nbval-ignore-output" in cell.metadata.get("tags", ()):
            cell.outputs = []  # what differs from machine to machine
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    nbformat.write(notebook, path)
    print(f"Wrote {path.name}.")


def sources(notebook: nbformat.NotebookNode) -> str:
    """Return all code of a notebook."""
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def run(notebook: nbformat.NotebookNode, environment: dict[str, str]) -> None:
    """Run a notebook in this folder with nobody to ask."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("COPILOT_")}
    cache = {k: v for k, v in os.environ.items() if k == "COPILOT_JUPYTER_CACHE"}
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(HERE)}}).execute(
        env={**inherited, **cache, "COPILOT_OFFLINE": "true", **environment}
    )


if __name__ == "__main__":
    sys.exit(main())
