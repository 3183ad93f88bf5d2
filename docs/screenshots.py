"""Make the pictures of the docs: the real thing in JupyterLab, on the embedded model.

Run with ``make screenshots``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser.lab import Browser, Lab  # noqa: E402 -- the path comes first

from copilot_jupyter.demo import copy_unanswered  # noqa: E402 -- the same

NOTEBOOK = "01-quickstart.ipynb"
IMAGES = ROOT / "docs" / "images"


def main() -> None:
    """Run the quickstart with a restart in it, and take its picture."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "COPILOT_HOME": f"{folder}/copilot-home",
            "COPILOT_OFFLINE": "true",
            "COPILOT_JUPYTER_PROVIDER": "local",
        }
        with Lab(Path(folder), env=environment) as lab, Browser() as browser:
            copy_unanswered(lab.root / NOTEBOOK)
            page = browser.open(lab, NOTEBOOK)
            page.command("application:toggle-left-area")
            for before in (1, 3):
                page.run(before)
            page.restart()
            for after in (5, 6):
                page.run(after)
            page.select(3)
            page.command("notebook:enter-command-mode")
            page.screenshot(IMAGES / "quickstart.png")
            page.close()
            picker(lab, browser)


def picker(lab: Lab, browser: Browser) -> None:
    """Take a picture of the picker over a few sessions."""
    for name in ("churn-model", "ana-revenue-forecast", "penguins"):
        lab.write(f"{name}.ipynb", f"%load_ext copilot_jupyter\n%copilot_new {name}")
        page = browser.open(lab, f"{name}.ipynb")
        page.run(0)
        page.run(page.insert_below(0, "%%copilot\nWhat is overfitting?"))
        page.close()
    lab.write("Picker.ipynb", "%load_ext copilot_jupyter", "%copilot_resume")
    page = browser.open(lab, "Picker.ipynb")
    page.command("application:toggle-left-area")
    page.run(0)
    page.run(1, wait=False)
    page.wait_for_text(1, "penguins")
    page.output(1).locator("input[type=search]").wait_for()
    page.screenshot(IMAGES / "picker.png")
    page.press("Escape")
    page.wait_done(1)


if __name__ == "__main__":
    main()
