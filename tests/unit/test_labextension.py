"""The lab extension as files: small, whole, and with no way to turn text into markup."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

import copilot_jupyter

FOLDER = Path(copilot_jupyter.__file__).parent / "labextension"
PACKAGE = json.loads((FOLDER / "package.json").read_text())
SCRIPT = FOLDER / PACKAGE["jupyterlab"]["_build"]["load"]


def test_package_is_what_jupyterlab_reads():
    assert PACKAGE["name"] == "copilot-jupyter"
    assert PACKAGE["version"] == copilot_jupyter.__version__
    assert PACKAGE["jupyterlab"]["extension"] is True
    assert PACKAGE["jupyterlab"]["_build"]["extension"] == "./extension"
    assert "dependencies" not in PACKAGE
    text = SCRIPT.read_text()
    assert f"NAME = '{PACKAGE['name']}'" in text
    assert "_JUPYTERLAB" in text
    assert "'./extension'" in text


def test_nothing_but_the_two_files_and_small():
    files = sorted(path for path in FOLDER.rglob("*") if path.is_file())
    assert files == sorted([FOLDER / "package.json", SCRIPT])
    assert SCRIPT.stat().st_size < 15_000
    assert max(map(len, SCRIPT.read_text().splitlines())) <= 100


def test_the_name_changes_with_the_content():
    """A browser keeps static files: a changed script under an old name would never arrive."""
    digest = hashlib.sha256(SCRIPT.read_bytes()).hexdigest()[:12]
    named = f"remoteEntry.{digest}.js"
    assert SCRIPT.name == named, f"rename the script to {named}, here and in package.json"


@pytest.mark.parametrize(
    "word",
    [
        *("innerHTML", "outerHTML", "insertAdjacentHTML", "createContextualFragment"),
        *("document.write", "DOMParser", "srcdoc", "javascript:", "Function("),
        *("fetch", "XMLHttpRequest", "sendBeacon", "WebSocket", "import(", "http", "//cdn"),
    ],
)
def test_text_stays_text_and_nothing_is_fetched(word):
    assert word.lower() not in SCRIPT.read_text().lower()


def test_no_eval_and_no_timer_that_runs_a_text():
    assert not re.search(r"\beval\b|set(Timeout|Interval)\(\s*['\"`]", SCRIPT.read_text())
