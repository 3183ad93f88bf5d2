"""Make the pictures of the docs: the real thing in JupyterLab.

Run with ``make screenshots``. The quickstart is answered by the embedded model; the pictures of
what an answer and the picker look like take a text of ours, through the scripted model of the
tests, so that one picture shows a table, code and a formula.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser.lab import Browser, Lab, NotebookPage  # noqa: E402 -- the path comes first
from scripted_model import Reply, ScriptedModel  # noqa: E402 -- the same

from copilot_jupyter.demo import copy_unanswered  # noqa: E402 -- the same

NOTEBOOK = "01-quickstart.ipynb"
IMAGES = ROOT / "docs" / "images"
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
SIZE = {"width": 1000, "height": 760}

ANSWER = r"""
**Overfitting** is when a model learns the noise of its training data: the training error goes on
falling, while the error on new data,

$$
\operatorname{E}\left[(y - \hat f(x))^2\right]
  = \operatorname{bias}^2 + \operatorname{variance} + \sigma^2,
$$

rises again because of its *variance*. Three depths of a tree on your `df`:

| `max_depth` | training | validation |
|---:|---:|---:|
| 2 | 0.81 | 0.80 |
| **5** | 0.89 | **0.86** |
| 20 | 1.00 | 0.78 |

Choose the depth by cross-validation:

```python
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier

search = GridSearchCV(DecisionTreeClassifier(), {"max_depth": [2, 5, 20]}, cv=5)
search.fit(df[features], df["churned"])  # 5 folds for each depth
print(search.best_params_)
```
"""

PENGUINS = "Biscoe: its Gentoo penguins weigh 5,076 g on average; those of Dream weigh 3,713 g."


PLOT = """\
df.plot.barh(x="species", y="mass", figsize=(5, 1.6), legend=False);
df.loc[df.mass.idxmax(), "species"]"""

FRAME = """\
%load_ext copilot_jupyter
import matplotlib.pyplot as plt
import pandas as pd
df = pd.DataFrame({"species": ["Adelie", "Gentoo", "Chinstrap"], "mass": [3701, 5076, 3733]})"""

HEAVIEST = "**Gentoo** is the heaviest, with 5,076 g: over a kilogram more than the others."


def main() -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as folder, Browser() as browser:
        quickstart(browser, Path(folder) / "quickstart")
        for theme, name in THEMES.items():
            answer_and_picker(browser, Path(folder) / theme, theme, name)
            tools(browser, Path(folder) / f"tools-{theme}", theme, name)


def quickstart(browser: Browser, folder: Path) -> None:
    """Run the quickstart with a restart in it, on the embedded model."""
    environment = {
        "COPILOT_HOME": f"{folder}/copilot-home",
        "COPILOT_OFFLINE": "true",
        "COPILOT_JUPYTER_PROVIDER": "local",
    }
    with Lab(folder, env=environment) as lab:
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


def answer_and_picker(browser: Browser, folder: Path, theme: str, name: str) -> None:
    """Take a picture of an answer and one of the picker, in one theme."""
    with ScriptedModel() as model:
        environment = {**model.environment(), "COPILOT_HOME": f"{folder}/copilot-home"}
        with Lab(folder, env=environment) as lab:
            sessions = (
                ("churn-model", "What is overfitting, and how deep should my tree be?", ANSWER),
                ("ana-revenue-forecast", "Which model fits monthly revenue?", "A seasonal one."),
                ("penguins", "Which island has the heaviest penguins?", PENGUINS),
            )
            for session, prompt, text in sessions:
                load = f"%load_ext copilot_jupyter\n%copilot_resume {session} --create"
                lab.write(f"{session}.ipynb", load, f"%%copilot\n{prompt}")
                model.will(text.strip())
                page = opened(browser, lab, f"{session}.ipynb", name)
                page.run(0)
                page.run(1)
                if text is ANSWER:
                    page.output(1).locator("mjx-container").first.wait_for()
                    picture(page, f"answer-{theme}")
                page.command("kernelmenu:shutdown")  # the picker would say who holds the session
                page.close()
            lab.write("Untitled.ipynb", "%load_ext copilot_jupyter", "%copilot_resume")
            page = opened(browser, lab, "Untitled.ipynb", name)
            page.run(0)
            page.run(1, wait=False)
            page.output(1).locator("input[type=search]").wait_for()
            page.output(1).get_by_text("penguins").first.wait_for()
            page.type("e")
            page.press("Backspace")
            page.page.wait_for_timeout(1500)  # the preview
            picture(page, f"picker-{theme}")
            page.press("Escape")
            page.wait_done(1)
            page.close()
    shutil.rmtree(folder, ignore_errors=True)


def tools(browser: Browser, folder: Path, theme: str, name: str) -> None:
    """Take a picture of the question before code runs, and one of the answer after it."""
    with ScriptedModel() as model:
        environment = {**model.environment(), "COPILOT_HOME": f"{folder}/copilot-home"}
        with Lab(folder, env=environment) as lab:
            lab.write("Penguins.ipynb", FRAME, "%%copilot\nWhich of {df} is the heaviest? Plot it.")
            call = Reply(tool="run_python", arguments=json.dumps({"code": PLOT}))
            model.will(Reply(tool="list_variables"), call, HEAVIEST)
            page = opened(browser, lab, "Penguins.ipynb", name)
            page.run(0)
            page.run(1, wait=False)
            allow = page.output(1).get_by_role("button", name="Allow once")
            allow.wait_for()
            page.page.wait_for_timeout(1000)  # until it can be clicked
            picture(page, f"allow-{theme}")
            allow.click()
            page.wait_done(1)
            picture(page, f"tools-{theme}")
            page.close()


def opened(browser: Browser, lab: Lab, notebook: str, theme: str) -> NotebookPage:
    """Open a notebook with nothing beside it, in a theme."""
    page = browser.open(lab, notebook, **SIZE)
    page.command("application:toggle-left-area")
    page.command("apputils:change-theme", {"theme": theme})
    return page


def picture(page: NotebookPage, name: str) -> None:
    """Take a picture once nothing moves any more."""
    page.page.wait_for_timeout(800)
    page.screenshot(IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
