"""The HTML of a stored turn is the same bytes at the lowest and the highest Pygments."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fetched import CACHE

from copilot_jupyter.conversation.answer import Answer
from copilot_jupyter.notebook.display.render import answer_bundle

HERE = Path(__file__).parent
GOLDEN = HERE / "golden" / "answer.html"

TEXT = """\
Generics let a type *stay open*; see [the handbook](https://example.org/generics?a=1&b=2).

```typescript
function first<T>(items: T[]): T | undefined {
  return items[0]; // the first
}
```

```python
import pandas as pd

def mean(frame: pd.DataFrame, column: str = "age") -> float:
    \"\"\"Return a mean.\"\"\"
    return frame[column].mean() if len(frame) > 0 else 0.5
```

```sh
pip install "pandas>=2" && echo 'done'
```

```
no language <b>at all</b>
```

| model | F1 |
|---|---:|
| forest | 0.91 |

![a plot](https://example.org/plot.png) and $e^{i\\pi}$, <script>alert(1)</script>
"""


def answer() -> Answer:
    at = datetime(2026, 11, 22, 10, 30, 59, tzinfo=UTC)
    return Answer(TEXT, "user-123-conversation", 7, model="gpt-5", at=at, replayed=True)


def test_the_golden_html_at_the_installed_pygments():
    assert answer_bundle(answer())["text/html"] == GOLDEN.read_text()


def test_the_golden_html_at_the_lowest_pygments():
    project = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text())["project"]
    [lowest] = [d for d in project["dependencies"] if d.startswith("pygments")]
    version = re.sub(r".*>=", "", lowest)
    folder = CACHE / f"pygments-{version}"
    if not folder.exists():
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
        subprocess.run([*install, str(folder), f"pygments=={version}.0"], check=True, timeout=100)
    script = (
        "import pygments, sys; from runtime.test_golden import *; "
        f"assert pygments.__version__.startswith({version!r}); "
        "sys.stdout.write(answer_bundle(answer())['text/html'])"
    )
    path = os.pathsep.join([str(folder), str(HERE.parent)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == GOLDEN.read_text()


@pytest.mark.parametrize("replayed", [True, False])
def test_nothing_tells_live_from_replayed(replayed):
    told = Answer(**{**vars(answer()), "replayed": replayed})
    assert answer_bundle(told)["text/html"] == GOLDEN.read_text()
