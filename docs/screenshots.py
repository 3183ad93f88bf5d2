"""Make the pictures of the docs: the real thing in JupyterLab, on the embedded model.

Run with ``make screenshots``.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser.lab import Browser, Lab  # noqa: E402 -- the path comes first

NOTEBOOK = "01-quickstart.ipynb"


def main() -> None:
    """Run the quickstart with a restart in it, and take its picture."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "COPILOT_HOME": f"{folder}/copilot-home",
            "COPILOT_OFFLINE": "true",
            "COPILOT_JUPYTER_PROVIDER": "local",
        }
        with Lab(Path(folder), env=environment) as lab, Browser() as browser:
            shutil.copy(ROOT / "notebooks" / NOTEBOOK, lab.root / NOTEBOOK)
            page = browser.open(lab, NOTEBOOK)
            page.command("application:toggle-left-area")
            for before in (1, 3):
                page.run(before)
            page.restart()
            for after in (5, 6):
                page.run(after)
            page.select(3)
            page.command("notebook:enter-command-mode")
            page.screenshot(ROOT / "docs" / "images" / "quickstart.png")


if __name__ == "__main__":
    main()
